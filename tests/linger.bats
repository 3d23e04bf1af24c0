# SPDX-License-Identifier: MIT
# What the program closes with input unread or output unacknowledged, while it drains, arrives whole
# all the same: the answer is 1 MiB, its reader slow, and 100 kB of his are never read.
# mutant: shim/conn/lingering_close.c: s/(if \(now) < (atomic_load\(&at->until)/\1 > \2/
# seconds: 54
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() {
    port=$((17000 + 10 * BATS_TEST_NUMBER))
    at=$port
    verb=serve
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
}

# start OPTION...: linger_server, which listens when this returns.
start() {
    "$verb" server "${variables[@]}" -- "$PROGRAMS/linger_server" "$@" "$at"
    case $at in
    unix:*) wait_unix "${at#unix:}" ;;
    *) wait_port "$at" ;;
    esac
}

# asks NAME [ASKED [UNTIL [PAUSE]]]: a client (linger_client.py), which has asked when this returns.
asks() {
    local name=$1 server=$SERVER_PID
    shift
    serve_bare "$name" -- /usr/bin/python3 "$ROOT/tests/programs/linger_client.py" "$at" "$@"
    client=$SERVER_PID
    SERVER_PID=$server
    wait_until 5 log_has "$name" '^asked$'
}

# got NAME WHAT [WITHIN]: what the client has got at its end, which comes in so many seconds (6).
got() {
    wait_until "${3:-6}" log_has "$1" '^got '
    tail -n 1 "$BATS_TEST_TMPDIR/$1.log"
    log_has "$1" "^got $2\$"
}

drain() {
    kill -USR2 "$SERVER_PID"
}

# arrives OPTION...: the drain comes between a request and its answer, the program closes with input
# unread, and the answer arrives whole. Nothing of it shows in the program.
arrives() {
    start "$@"
    asks client
    drain
    got client '1048576 end'
    wait_drained server 3
    wait_until 1 log_has server '^closed ([0-9]+) \1$'
    not log_has server 'ghost|bad dup2'
    log_has server ' 1 closed clean, 0 forced; the program runs on$'
    not log_has server 'gave up on|unsent'
    alive "$SERVER_PID"
    is_quiet "$SERVER_PID"
    no_copies
}

# no_copies: the program has no socket left but its listener.
no_copies() {
    local sockets
    sockets=$(find "/proc/$SERVER_PID/fd" -lname 'socket:*' | wc -l)
    [ "$sockets" = 1 ] || { ls -l "/proc/$SERVER_PID/fd" >&2; return 1; }
}

@test "a thread a connection: a close with input unread does not destroy the answer" {
    arrives
}

@test "poll: a close with input unread does not destroy the answer" {
    arrives --wait poll
}

# The drain looks between the moment when the connection leaves the table and the one when its copy
# is kept: strace draws that out to many looks.
@test "a drain that looks in the middle of the last close: the answer arrives" {
    local strace
    start --wait poll
    asks client
    strace -qq -p "$SERVER_PID" -o /dev/null -e trace=getpeername \
        -e inject=getpeername:delay_enter=40000 &
    strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    drain
    got client '1048576 end'
    kill "$strace"
    wait_drained server 3
    log_has server ' 1 closed clean, 0 forced; the program runs on$'
}

@test "epoll, level-triggered: the answer arrives, and no event of what was closed" {
    arrives --wait level
}

@test "epoll, edge-triggered: the answer arrives, and no event of what was closed" {
    arrives --wait edge
}

@test "a process a connection: the answer of each arrives" {
    start --wait fork
    asks client
    drain
    got client '1048576 end'
    wait_drained server 4
    log_has server '^closed ([0-9]+) \1$'
    not log_has server 'gave up on'
}

@test "closed by fclose: the answer arrives" {
    arrives --close fclose
}

@test "closed by a dup2 over it: the answer arrives" {
    arrives --close dup2
}

@test "closed by a dup3 over it: the answer arrives" {
    arrives --close dup3
}

@test "closed by close_range: the answer arrives" {
    arrives --close range
}

@test "closed by closefrom: the answer arrives" {
    arrives --close from
}

@test "a dup2 that fails closes nothing: the answer arrives" {
    arrives --close failed-dup2
}

@test "AF_UNIX: a close with input unread does not destroy the answer" {
    at=unix:$BATS_TEST_TMPDIR/sock
    arrives
}

@test "AF_UNIX and epoll: the answer arrives, and no event of what was closed" {
    at=unix:$BATS_TEST_TMPDIR/sock
    arrives --wait level
}

@test "ten connections at once, and none of their answers is cut" {
    local name PATIENCE
    take_patience # all are to have asked before the first is answered
    start --after $((2500 * PATIENCE))
    for name in {1..10}; do
        asks "client$name" 100000 "$((25 * PATIENCE + 3))e-1" 0.0005
    done
    drain
    for name in {1..10}; do
        got "client$name" '1048576 end' $((3 * PATIENCE + 3))
    done
    wait_drained server 5
    log_has server ' 10 closed clean, 0 forced; the program runs on$'
}

@test "without the shim the close destroys the answer" {
    verb=serve_bare
    start
    asks client
    got client '[0-9]+ reset'
    wait_until 1 log_has server '^closed ([0-9]+) \1$'
}

@test "WEIR_LINGER=0: the close destroys the answer, and the loss is counted and named" {
    variables=(WEIR_LINGER=0)
    start
    asks client
    drain
    got client '[0-9]+ reset'
    wait_drained server 3
    log_has server "closed 127\.0\.0\.1:[0-9]+: the program has closed it, [1-9][0-9]* bytes unsent, 99999 unread"
    losses '{"forced_in_use": 0, "unread": 1, "unsent": 1}'
}

# losses JSON: what `weir status --json` says of them.
losses() {
    local said
    said=$("$ROOT/build/weir" status "$SERVER_PID" --json)
    echo "$said"
    [[ $said == *"\"losses\": $1"* ]]
}

@test "a peer that never reads is given WEIR_LINGER, and the loss is counted and named" {
    local since
    variables=(WEIR_LINGER=1s)
    start --after 200 --answer 300000
    asks client 100000 8
    wait_until 1 log_has server '^closed '
    losses '{"forced_in_use": 0, "unread": 0, "unsent": 0}'
    end_started
    rm -f "$BATS_TEST_TMPDIR"/*.log
    port=$((port + 1)) at=$port

    start --answer 300000
    asks client 100000 8
    since=$(now_ms)
    drain
    wait_until 2 log_has server '^closed '
    pause 0.6
    not log_has server 'drained in'
    wait_drained server 2
    [ $(($(now_ms) - since)) -ge 1300 ]
    within $(($(now_ms) - since)) 2400
    log_has server "gave up on 127\.0\.0\.1:[0-9]+: the program has closed it, [1-9][0-9]* bytes unsent, 0 unread after WEIR_LINGER"
    losses '{"forced_in_use": 0, "unread": 0, "unsent": 1}'
    no_copies
}

@test "a peer that has everything and may still send is given WEIR_LINGER, and is no loss" {
    local since
    variables=(WEIR_LINGER=1s)
    start --answer 1000 --after 400
    conn_open fd "$port"
    conn_send "$fd" '0123456789'
    pause 0.2
    drain
    wait_until 2 log_has server '^closed '
    since=$(now_ms)
    conn_send "$fd" 'more'
    wait_drained server 2
    [ $(($(now_ms) - since)) -ge 800 ]
    log_has server ' 1 closed clean, 0 forced'
    losses '{"forced_in_use": 0, "unread": 0, "unsent": 0}'
    [ "$(timeout "$(patient 2)" wc -c <&"$fd")" = 1000 ]
}

@test "a peer that has taken everything, and had sent no more than was read, is not waited for" {
    variables=(WEIR_LINGER=10s)
    start --after 400
    conn_open fd "$port"
    conn_send "$fd" '0'
    pause 0.2
    drain
    wait_until 2 log_has server '^closed '
    pause 0.3
    not log_has server 'drained in'
    [ "$(timeout "$(patient 2)" head -c 1048576 <&"$fd" | wc -c)" = 1048576 ]
    wait_drained server 1
}

@test "a stop signal waits until the peer has everything" {
    local status=0
    variables=(WEIR_STOP_SIGNALS=TERM)
    start
    asks client
    kill -TERM "$SERVER_PID"
    wait_until 2 log_has server '^closed '
    alive "$SERVER_PID"
    pause 0.3
    alive "$SERVER_PID"
    got client '1048576 end'
    wait_gone "$SERVER_PID" 2
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
}

@test "WEIR_ON_DRAINED waits until the peer has everything" {
    local status=0
    variables=(WEIR_ON_DRAINED=TERM)
    start --wait level
    asks client
    drain
    wait_until 2 log_has server '^closed '
    pause 0.3
    alive "$SERVER_PID"
    got client '1048576 end'
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
}

@test "in a seccomp sandbox, entered while it drains, nothing is tried that would kill the program" {
    start --sandbox --answer 1000
    asks client 100 0.8
    drain
    wait_until 3 log_has server '^closed '
    pause 0.5
    alive "$SERVER_PID"
}

@test "before a drain a close is the program's own, and nothing is kept" {
    start --after 100
    asks client 100000 1
    wait_until 2 log_has server '^closed ([0-9]+) \1$'
    no_copies
    got client '[0-9]+ reset'
}
