#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A fleet: three servers that we did not write behind HAProxy, each in a network of its own, under a
# load of POSTs that must each be answered, and executed once (scripts/fleet-demo).
# mutant: shim/drain/drain.c: s/(drain\.notice_until = now) \+ notice/\1/
# seconds: 291
# shellcheck shell=bash disable=SC2034,SC2154

load helpers
unset WEIR_MODE # the default, protocol

# Twenty rolling restarts take a minute, and on a busy machine several.
BATS_TEST_TIMEOUT=600

# Apache.
setup() {
    needs_users
}

# fleet ARGUMENT...: a row of fleet-demo's table, its figures in variables.
fleet() {
    local code=0 output=$BATS_TEST_TMPDIR/output
    LOGGED+=(fleet weir/node weir/python weir/apache weir/haproxy plain/haproxy)
    timeout 580 "$ROOT/scripts/fleet-demo" "$@" --logs "$BATS_TEST_TMPDIR" \
        >"$output" 2>"$BATS_TEST_TMPDIR/fleet.log" 3>&- || code=$?
    cat "$output"
    read -r restarts sent answered failed twice unexecuted again _ < <(
        sed -nE 's/^kill -TERM(, Weir)? +//p' "$output")
    [ "$sent" -gt 100 ]
    return "$code"
}

# often: how often HAProxy looks, in ms.
often() {
    local interval=$((100 * $(patience)))
    echo $((interval < 200 ? interval : 200))
}

all_answered() {
    [ "$answered" = "$sent" ]
    [ "$failed" = 0 ]
    [ "$twice" = 0 ]
    [ "$unexecuted" = 0 ]
}

# words WORD: for so many servers that was HAProxy's last word while they drained; with an agent,
# while they still served in their delay.
words() {
    grep -c " $1\$" "$BATS_TEST_TMPDIR/weir/words"
}

# only_those_in_it WHEN: of the server that was killed
only_those_in_it() {
    [ "$failed" -ge 3 ]
    grep -qx " *$failed were in node when it was killed, $1" "$BATS_TEST_TMPDIR/output"
    [ "$answered" = $((sent - failed)) ]
    [ "$twice" = 0 ]
    [ "$unexecuted" = 0 ]
}

# In half of the delays at least, since a busy machine's HAProxy may hear of some too late: and what it
# sends then has the notice's time alone, four intervals.
@test "20 rolling restarts, which an agent announces: each POST is answered and executed once" {
    fleet --only weir --restarts 20 --interval "$(often)"
    [ "$restarts" = 20 ]
    [ "$sent" -gt 1000 ]
    all_answered
    [ $(($(words DRAIN) * $(patience))) -ge 30 ]
}

@test "a server is drained while HAProxy believes in it: each POST is answered and executed once" {
    fleet --only weir --restarts 5 --health none --interval "$(often)"
    [ "$restarts" = 5 ]
    all_answered
    [ "$again" -gt 0 ]
}

# Here and below under the full load first, and then with POSTs that last: so does each drain, and
# HAProxy's checks come to a word in it.
@test "HAProxy checks a port that a drain leaves open: each POST is answered and executed once" {
    fleet --only weir --restarts 2 --health off
    [ "$restarts" = 2 ]
    all_answered
    [ "$again" -gt 0 ]
    fleet --only weir --restarts 2 --health off --each 2 --interval 100
    all_answered
    [ "$(words UP)" = 6 ]
}

@test "HAProxy checks the port that a drain closes: each POST is answered and executed once" {
    fleet --only weir --restarts 2 --health traffic
    [ "$restarts" = 2 ]
    all_answered
    fleet --only weir --restarts 2 --health traffic --each 2 --interval 100
    all_answered
    [ "$(words DOWN)" = 6 ]
}

@test "a server is killed: as many fail as were in it, none is executed twice, the others go on" {
    fleet --only weir --kill serving --restarts 1 --interval 100
    [ "$restarts" = 1 ]
    only_those_in_it serving
}

@test "a server is killed in its drain: as many fail as were in it, and the restarts go on" {
    # A POST lasts until the drain has been seen on a busy machine as well.
    local each=$((2 * $(patience)))
    fleet --only weir --kill draining --restarts 1 --health none --each $((each < 9 ? each : 9))
    [ "$restarts" = 1 ]
    only_those_in_it draining
}

@test "the same rolling restarts without Weir lose POSTs, and it is seen" {
    fleet --only plain --restarts 3
    [ "$failed" -gt 0 ]
    [ "$answered" = $((sent - failed)) ]
}
