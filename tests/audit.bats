#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What is told of a drain beside what its clients know: random clients and drains of real servers, with
# fixed seeds. What they lost is told by the exit code, the totals and the log, and nothing else is.
# mutant: shim/drain/drain.c: s/process_slot_count_loss\(in_use, cost.queues.unread, cost.queues.unsent\);//
# seconds: 27
# shellcheck shell=bash

load helpers

# audits SERVER SEED...: and prints what it has to say, if the test fails.
audits() {
    local server=$1 seed
    shift
    for seed; do
        "$ROOT/scripts/audit" --drains 1 --seed "$seed" "$server" 3>&-
    done
}

@test "nginx with two workers: the audit finds that the ledger is true" {
    audits nginx 107 108
}

@test "a pre-fork server of which a worker is killed in the middle: the audit finds that the ledger is true" {
    audits prefork 118
}

@test "redis: the audit finds that the ledger is true" {
    audits redis 107 108
}

@test "HAProxy before a server: the audit finds that the ledger is true" {
    audits haproxy 107 108
}

@test "a server that never answers: the audit finds that the ledger is true" {
    audits silent 103 106
}

# A truth and what is told of it that are made up: the comparison can say no.
@test "the audit finds what is lost and told as clean, and what is told lost and is whole" {
    local at=$BATS_TEST_TMPDIR
    local end=eof protocol=http quiet=9 half_a_line='' undone=''
    told() { # EXIT-CODE VERDICT LOSSES
        echo '{"port": 5, "verdict": "'"$2"'", "end": "'"$end"'", "left_at": 7, "received": 9, "quiet_s": '$quiet'}' \
            >"$at/truth"
        echo '{"connections": 1, "protocol": "'$protocol'"}' >>"$at/truth"
        : >"$at/log"
        [ -z "$undone" ] || echo "weir[1] a: not drained: pid 2 has not ended its drain: its $undone connections count" \
            "as forced, and its listeners may still accept" >>"$at/log"
        [ -z "${dead:-}" ] || echo "weir[1] a: pid 2 has died in the middle of the drain: 0 connections were in use" >>"$at/log"
        [ "$3" = 0 ] || [ "$undone" ] || [ "${unnamed:-}" ] || echo "${half_a_line}weir[1] a: forced 127.0.0.1:5: in use 1s, 0 bytes unsent" >>"$at/log"
        echo "weir[1] a: drained in 1.0s: $((1 - $3)) closed clean, $3 forced; the program runs on" >>"$at/log"
        echo "a, pid 1: drained in 1.0s: $((1 - $3)) closed clean, $3 forced, $3 of them in use" >"$at/said"
        echo '{"losses": {"forced_in_use": '"$3"', "unread": 0, "unsent": 0}}' >"$at/status"
        /usr/bin/python3 "$ROOT/tests/programs/audit_compare.py" "$at/truth" "$at/log" "$at/said" \
            "$at/status" "$1" none "${began:-0}"
    }
    told 0 '' 0
    told 3 lost 1
    not told 0 lost 0
    not told 3 '' 1
    not told 0 lost 1
    not told 3 lost 0
    told 0 crossed 0
    told 3 crossed 1
    # The server's own line had no end yet.
    half_a_line='Exception in '
    told 3 lost 1
    # One that the drain ended without, and how many it had.
    not told 1 '' 0
    undone=0 told 1 '' 0
    undone=1 told 3 '' 1
    undone=0 not told 3 '' 1
    # A process that died before it had named what it had cut: the totals tell it.
    undone='' unnamed=1 not told 3 lost 1
    undone='' unnamed=1 dead=1 told 3 lost 1
    undone='' unnamed=1 dead=1 not told 3 lost 0
    # Who has reset it before the drain began was not cut, and later was second without a sign of it.
    end='has reset'
    began=8 not told 3 '' 1
    began=6 told 3 '' 1
    # What is no HTTP is in use until it has been quiet.
    end=eof quiet=0.05
    not told 3 '' 1
    protocol=redis
    told 3 '' 1
}
