#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A fleet: three servers that we did not write behind HAProxy, each in a network of its own, under a
# load of POSTs that must each be answered, and executed once (scripts/fleet-demo).
# shellcheck shell=bash disable=SC2034,SC2154

load helpers

# fleet ARGUMENT...: a row of fleet-demo's table, its figures in variables.
fleet() {
    local code=0 output=$BATS_TEST_TMPDIR/output
    LOGGED+=(fleet weir/node weir/python weir/apache weir/haproxy plain/haproxy)
    timeout 55 "$ROOT/scripts/fleet-demo" "$@" --logs "$BATS_TEST_TMPDIR" \
        >"$output" 2>"$BATS_TEST_TMPDIR/fleet.log" 3>&- || code=$?
    cat "$output"
    read -r restarts sent answered failed twice unexecuted again _ < <(
        sed -nE 's/^kill -(TERM|KILL)(, Weir)? +//p' "$output")
    [ "$sent" -gt 100 ]
    return "$code"
}

all_answered() {
    [ "$answered" = "$sent" ]
    [ "$failed" = 0 ]
    [ "$twice" = 0 ]
    [ "$unexecuted" = 0 ]
}

@test "rolling restarts, of which an agent tells HAProxy: each POST is answered and executed once" {
    fleet --only weir --restarts 2
    [ "$restarts" = 2 ]
    all_answered
    grep -q 'enters drain state' "$BATS_TEST_TMPDIR/weir/haproxy.log"
}

@test "a server is drained while HAProxy believes in it: each POST is answered and executed once" {
    fleet --only weir --restarts 1 --health none
    all_answered
    [ "$again" -gt 0 ]
}

@test "a server is killed: as many fail as were in it, none is executed twice, the others go on" {
    fleet --only weir --kill
    [ "$failed" -ge 3 ]
    grep -qx " *$failed were in node when it was killed" "$BATS_TEST_TMPDIR/output"
    [ "$answered" = $((sent - failed)) ]
    [ "$twice" = 0 ]
    [ "$unexecuted" = 0 ]
}

@test "the same rolling restarts without Weir lose POSTs, and it is seen" {
    fleet --only plain --restarts 3
    [ "$failed" -gt 0 ]
    [ "$answered" = $((sent - failed)) ]
}
