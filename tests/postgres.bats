#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# PostgreSQL in mode protocol: in a drain a session's client is told by FATAL, 57P01, between two
# statements; what it has asked is answered before, and a transaction has time to end.
# mutant: shim/http/parser_postgres.c: s/scan->mark.flags \|= CONTINUES/(void)scan/
# seconds: 7
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load goodbye
unset WEIR_MODE # the default, protocol

CLIENT=pg_client.py

setup() {
    port=$((26000 + 10 * BATS_TEST_NUMBER))
    needs_users
}

# start [VAR=value...]: a transaction has more time to end than a busy machine takes for its COMMIT.
start() {
    postgres WEIR_SIGNAL=RTMIN+3 WEIR_TIMEOUT=60s WEIR_NOTICE=20s "$@"
    server=$SERVER_PID
}

@test "what was asked is answered, a transaction ends, and each client is told by FATAL, 57P01" {
    local how
    start WEIR_FIRST_BYTE=20s # for who has asked nothing yet
    for how in idle slow rows batch transaction fresh loop; do
        client "$how" "$how"
    done
    drains
    [ "$took" -lt 29000 ] # half of the timeout
    says idle 'answered 1 of 1, told 57P01: end'
    says slow 'answered 2 of 2, told 57P01: end'
    says rows 'answered 2 of 2, told 57P01: end'
    says batch 'answered 2 of 2, told 57P01: end'
    says transaction 'answered 3 of 3, told 57P01: end'
    says fresh 'answered 1 of 1, told 57P01: end'
    says loop 'answered [0-9]+ of [0-9]+, told 57P01: (end|reset)'
}

@test "a close-idle tells who is idle, and leaves a transaction alone" {
    start
    client idle idle
    client transaction transaction
    "$ROOT/build/weir" close-idle "$server"
    says idle 'answered 1 of 1, told 57P01: end'
    drains
    says transaction 'answered 3 of 3, told 57P01: end'
}

@test "a transaction that is forgotten is closed after WEIR_NOTICE, and its client is told nothing" {
    start WEIR_NOTICE=1s
    client forgotten forgotten
    drains
    [ "$took" -ge 700 ]
    [ "$took" -lt 29000 ]
    says forgotten 'answered 2 of 2, told nothing: end'
}

# is_told: psql looks when it is to send something, and ends then.
is_told() {
    log_has psql '^FATAL:  terminating connection due to administrator command$' ||
        { echo 'SELECT 2;' >&"$input"; return 1; }
}

@test "psql says why its connection has ended" {
    local at=$BATS_TEST_TMPDIR input
    sockets=$at/sockets
    install -d -o postgres "$sockets"
    chmod 755 "$at"
    start
    mkfifo "$at/input"
    "$postgres_bin/psql" -h "$sockets" -p "$port" -U postgres <"$at/input" >"$at/psql.log" 2>&1 3>&- &
    STARTED+=("$!")
    LOGGED+=(psql)
    exec {input}>"$at/input"
    trap '' PIPE
    echo "SELECT 'rea' || 'dy';" >&"$input"
    wait_until 20 log_has psql '^ ready$'
    kill -s RTMIN+3 "$server"
    wait_until 20 log_has server ': draining: '
    wait_until 20 is_told
    wait_drained server
    log_has server ' 1 closed clean, 0 forced'
}
