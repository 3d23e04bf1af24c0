#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Under a service manager: what it is told of a drain (sd_notify), the drop-in for systemd's units,
# sockets that systemd has made, and Debian's start-stop-daemon. Nothing here needs a systemd that runs.
# shellcheck shell=bash disable=SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((13000 + 10 * BATS_TEST_NUMBER))
    told=$BATS_TEST_TMPDIR/told
    manager=$BATS_TEST_TMPDIR/notify
    served=
}

# ---- sd_notify: what the manager is told ----

# manage [--full] [ADDRESS]: a receiver there, whose messages `told` has.
manage() {
    local options=()
    [ "${1:-}" != --full ] || { options=(--full); shift; }
    manager=${1:-$manager}
    served=$SERVER_PID
    serve_bare manager -- /usr/bin/python3 "$ROOT/tests/programs/notify_receiver.py" \
        "${options[@]}" "$manager" "$told"
    MANAGER_PID=$SERVER_PID
    SERVER_PID=$served
    wait_until 10 grep -qs listening "$told"
    : >"$told"
}

tells() {
    grep -Eq -- "$1" "$told"
}

# wait_told REGEX [SECONDS]: until a line of it matches.
wait_told() {
    wait_until "${2:-10}" tells "$1" || { cat "$told"; return 1; }
}

# old_server [VAR=value...]: oldhttpd, with its manager's address.
old_server() {
    serve server NOTIFY_SOCKET="$manager" "$@" -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
}

# asks_slowly MS: a request on $fd that is answered after that time.
asks_slowly() {
    conn_open fd "$port"
    conn_send "$fd" "GET /slow?ms=$1 HTTP/1.1\r\nHost: a\r\n\r\n"
    wait_until 5 in_use
}

in_use() {
    "$ROOT/build/weir" status --json "$SERVER_PID" | grep -q '"in_use": 1'
}

answered() {
    local line
    read_line line "$fd" 10
    [ "$line" = 'HTTP/1.1 200 OK' ]
}

# ends_as STATUS
ends_as() {
    local status=0
    wait_gone "$SERVER_PID"
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$1" ] || { echo "exit status $status" >&2; return 1; }
}

@test "a stop is told to the manager: its beginning, how far it is, its end, and the time it takes" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 6500 # progress is told every 5 s
    kill "$SERVER_PID"
    answered
    ends_as 143
    wait_told 'drained in'
    cat "$told"
    [ "$(wc -l <"$told")" = 3 ]
    [ "$(cut -d ' ' -f 1 "$told" | sort -u)" = "$SERVER_PID" ]
    # WEIR_TIMEOUT is 25 s, and 10 s are for the program's end; in microseconds.
    local begin='STATUS=Weir: draining, 1 in use, 25s left\|EXTEND_TIMEOUT_USEC=3[45][0-9]{6}'
    local on='STATUS=Weir: draining, 1 in use, (20|1[0-9])s left\|EXTEND_TIMEOUT_USEC=(30|2[0-9])[0-9]{6}'
    local end='STATUS=Weir: drained in [0-9.]+s: 1 closed clean, 0 forced; SIGTERM goes to the program'
    sed -n 1p "$told" | grep -Eq "^[0-9]+ $begin\$"
    sed -n 2p "$told" | grep -Eq "^[0-9]+ $on\$"
    sed -n 3p "$told" | grep -Eq "^[0-9]+ $end\|EXTEND_TIMEOUT_USEC=10000000\$"
}

@test "a delay is told, and that it is over" {
    manage
    old_server WEIR_DELAY=1s
    kill -USR2 "$SERVER_PID"
    wait_told 'STATUS=Weir: accepts for 1s more, then drains, 0 in use, 25s left'
    wait_told 'STATUS=Weir: drained in .*; the program runs on'
    alive "$SERVER_PID"
}

@test "a manager at an abstract address is told as well" {
    manage "@weir-test-$BATS_TEST_NUMBER"
    old_server
    kill -USR2 "$SERVER_PID"
    wait_told '^[0-9]+ STATUS=Weir: drained in '
}

@test "a stop signal in the middle of a drain is told at once, for the manager's time begins anew" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 1500
    kill -USR2 "$SERVER_PID"
    wait_told 'draining'
    [ "$(wc -l <"$told")" = 1 ]
    kill "$SERVER_PID"
    wait_told 'drained'
    [ "$(grep -c 'draining, 1 in use.*EXTEND_TIMEOUT_USEC=' "$told")" = 2 ]
}

@test "WEIR_TIMEOUT=0: no end can be promised, and no time is asked for" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=0
    kill "$SERVER_PID"
    wait_told 'STATUS=Weir: drained in .*; SIGTERM goes to the program$'
    tells 'STATUS=Weir: draining, 0 in use$'
    ! tells EXTEND || false
}

@test "the first process of a tree tells it, nobody else" {
    manage
    serve server NOTIFY_SOCKET="$manager" WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 \
        "$ROOT/tests/programs/web_server.py" "$port" /dev/null 3
    wait_port "$port"
    wait_until 10 log_has server 'ready: '
    curl -s "http://127.0.0.1:$port/slow?0.5" >"$BATS_TEST_TMPDIR/answer" &
    local client=$!
    sleep 0.2
    kill "$SERVER_PID"
    wait "$client"
    [ "$(cat "$BATS_TEST_TMPDIR/answer")" = 'It works' ]
    ends_as 143
    wait_told 'drained in'
    [ "$(cut -d ' ' -f 1 "$told" | sort -u)" = "$SERVER_PID" ]
}

# life_of_redis serve|serve_bare NAME: redis, which tells its manager itself what it does.
life_of_redis() {
    "$1" "$2" NOTIFY_SOCKET="$manager" WEIR_STOP_SIGNALS=TERM -- redis-server --port "$port" \
        --save '' --supervised systemd
    wait_told READY=1
    kill "$SERVER_PID"
    ends_as 0
    wait_told STOPPING=1
    sed -i 's/^[0-9]* //' "$told"
}

@test "what the program tells its manager itself is as it was, and READY and STOPPING are its own" {
    manage
    life_of_redis serve_bare bare
    mv "$told" "$told.bare"
    kill "$MANAGER_PID"
    wait_gone "$MANAGER_PID"
    manage "$manager.2"
    life_of_redis serve server
    cat "$told.bare" "$told"
    [ "$(grep -c 'STATUS=Weir: dr' "$told")" = 2 ]
    ! grep 'Weir: ' "$told" | grep -Eq 'READY=|STOPPING=' || false
    grep -v 'Weir: ' "$told" | diff - "$told.bare"
    # Its STOPPING=1 comes once it is drained.
    [ "$(grep -n STOPPING=1 "$told" | cut -d: -f 1)" -gt "$(grep -n 'Weir: drained' "$told" | cut -d: -f 1)" ]
}

@test "a process in a seccomp sandbox tells nothing" {
    manage
    serve server NOTIFY_SOCKET="$manager" WEIR_DELAY=2s -- "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    kill -USR2 "$SERVER_PID"
    wait_told 'accepts for'
    conn_open fd "$port" # upon which it enters the sandbox
    conn_send "$fd" 'hi\n'
    local line
    read_line line "$fd" 5
    [ "$line" = hi ]
    sleep 3
    alive "$SERVER_PID"
    cat "$told"
    [ "$(wc -l <"$told")" = 1 ]
}

unix_sockets() {
    grep -c 'socket(AF_UNIX' "$BATS_TEST_TMPDIR/trace" || true
}

@test "no descriptor is left, and without NOTIFY_SOCKET no socket is made" {
    local before variable
    manage
    for variable in NOTIFY_SOCKET="$manager" NOTHING=; do
        serve_bare server -- strace -f -qq -e trace=socket -o "$BATS_TEST_TMPDIR/trace" \
            -E LD_PRELOAD="$WEIR_LIB" -E "$variable" "$PROGRAMS/oldhttpd" "$port"
        wait_port "$port"
        local traced
        traced=$(cat "/proc/$SERVER_PID/task/$SERVER_PID/children")
        traced=${traced%% *}
        also_end "$traced"
        before=$(ls "/proc/$traced/fd")
        kill -USR2 "$traced"
        wait_drained server
        [ "$(ls "/proc/$traced/fd")" = "$before" ]
        [ "$variable" != NOTHING= ] || break
        [ "$(unix_sockets)" -ge 2 ]
        kill -KILL "$traced"
        wait_gone "$SERVER_PID"
        port=$((port + 1))
    done
    [ "$(unix_sockets)" = 0 ]
}

@test "a manager that is not there, or is dead, keeps no drain waiting" {
    for manager in "$BATS_TEST_TMPDIR/nobody" "@weir-nobody-$BATS_TEST_NUMBER" "$BATS_TEST_TMPDIR/dead" \
        vsock:2:1 / "$(printf '/%0200d' 1)"; do
        [ "${manager##*/}" != dead ] || {
            manage "$manager"
            kill -KILL "$MANAGER_PID"
            wait_gone "$MANAGER_PID"
            [ -S "$manager" ]
        }
        old_server WEIR_STOP_SIGNALS=TERM
        kill "$SERVER_PID"
        ends_as 143
        log_has server 'drained in .*; SIGTERM goes to the program'
        port=$((port + 1))
    done
}

@test "a manager that does not read keeps no drain waiting, and is told once it reads" {
    manage --full
    old_server WEIR_STOP_SIGNALS=TERM
    kill "$SERVER_PID"
    ends_as 143
    log_has server 'drained in '
    port=$((port + 1))
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 3000
    kill "$SERVER_PID"
    wait_until 5 log_has server 'draining: '
    kill -HUP "$MANAGER_PID"
    wait_told "^$SERVER_PID STATUS=Weir: draining, 1 in use.*\|EXTEND_TIMEOUT_USEC="
    answered
    ends_as 143
    wait_told "^$SERVER_PID STATUS=Weir: drained in "
}
