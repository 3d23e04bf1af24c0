#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The log never holds its program up and never raises a signal, whatever stderr or WEIR_LOG=FILE is;
# lines that could not be written are counted.
# mutant: shim/base/log.c: s/MSG_DONTWAIT \| MSG_NOSIGNAL/MSG_NOSIGNAL/
# seconds: 48
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((12000 + 20 * BATS_TEST_NUMBER))
    out=$BATS_TEST_TMPDIR/read
}

# start KIND [VAR=value...]: log_server with such a stderr (log_stderr.py); `server` is its pid.
start() {
    local kind=$1
    shift
    port=$((port + 1))
    rm -f "$out"*
    serve_bare server -- /usr/bin/python3 "$ROOT/tests/programs/log_stderr.py" "$kind" "$out" \
        env "LD_PRELOAD=$WEIR_LIB" "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run" WEIR_TIMEOUT=2s \
        WEIR_FIRST_BYTE=50ms WEIR_SETTLE=50ms "$@" "$PROGRAMS/log_server" "$port"
    holder=$SERVER_PID
    wait_until 10 log_has server '^pid '
    server=$(log server | sed -n 's/^pid //p')
    also_end "$server"
    wait_port "$port"
}

# ask FD TEXT: `answer` is the answer.
ask() {
    conn_send "$1" "$2\n"
    read_line answer "$1" 5
}

echoes() {
    local answer
    ask "$1" hello && [ "$answer" = hello ]
}

# ends_by SIGNAL: within WEIR_TIMEOUT and the time that the rest takes.
ends_by() {
    kill -s "$1" "$server"
    wait_gone "$server" 8
    wait_until 5 log_has server '^status '
    log_has server '^flags 0$'
}

out_has() {
    grep -aEq -- "$1" "$out"
}

kinds=(pipe fifo socket terminal background)

@test "a stderr that nobody reads holds up neither start, service, drain nor end" {
    local kind client
    for kind in "${kinds[@]}" gone; do
        echo "$kind"
        start "$kind" WEIR_STOP_SIGNALS=TERM WEIR_MODE=automatic
        conn_open client "$port"
        echoes "$client" # in use: named at half of the timeout, and force-closed
        ends_by TERM
        at_eof "$client" 1 || true
        conn_close "$client"
    done
}

@test "a stderr whose reader has gone, and one that stops who writes, raise no signal" {
    local kind client answer
    for kind in gone background; do
        echo "$kind"
        start "$kind" WEIR_ACTION=close-idle
        for _ in 1 2 3; do
            kill -USR2 "$server"
            pause 0.1
        done
        conn_open client "$port"
        ask "$client" signals
        [ "$answer" = 0 ]
        alive "$server"
        not grep -q '^State:.T' "/proc/$server/status"
        conn_close "$client"
        ends_by TERM
    done
}

@test "lines that could not be written are counted, and the next one that can be says how many" {
    local kind
    for kind in pipe fifo socket terminal; do
        echo "$kind"
        start "$kind" WEIR_ACTION=close-idle
        kill -USR1 "$holder"
        # What filled it comes out; a terminal held nothing.
        [ "$kind" = terminal ] || wait_until 5 test -s "$out"
        wait_until 5 test -e "$out"
        pause 0.2
        kill -USR2 "$server"
        wait_until 5 out_has ': closing idle connections: '
        out_has "^#*weir\[$server\] log_server: 1 line before this one is lost: "
        not out_has ': ready: '
        kill -USR2 "$server"
        wait_until 5 twice ': closing idle connections: '
        [ "$(grep -ac 'before this one' "$out")" = 1 ]
        ends_by TERM
    done
}

twice() {
    [ "$(grep -ac "$1" "$out")" = 2 ]
}

@test "all that a terminal, a pipe, a FIFO and a socket can take is written, whole and in order" {
    local kind i
    for kind in pipe fifo socket terminal; do
        echo "$kind"
        start "$kind" WEIR_ACTION=close-idle
        kill -USR1 "$holder"
        pause 0.3
        for i in {1..30}; do
            kill -USR2 "$server"
            wait_until 5 has_lines "$i"
        done
        [ "$(grep -ac "^weir\[$server\] log_server: closing idle connections: .* 0 in use"$'\r*$' \
            "$out")" -ge 29 ] # the first line ends the filling
        ends_by TERM
    done
}

has_lines() {
    [ "$(grep -ac ': closing idle connections: ' "$out")" -ge "$1" ]
}

@test "WEIR_LOG is a FIFO without a reader: it serves, drains, and tells a reader what he has missed" {
    local fifo=$BATS_TEST_TMPDIR/fifo client
    mkfifo "$fifo"
    serve server "WEIR_LOG=$fifo" WEIR_ACTION=close-idle WEIR_TIMEOUT=2s WEIR_STOP_SIGNALS=TERM \
        "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run" -- "$PROGRAMS/log_server" "$port"
    server=$SERVER_PID
    wait_port "$port"
    conn_open client "$port"
    echoes "$client"
    # shellcheck disable=SC2016  # expanded by that shell
    serve_bare reader -- sh -c 'exec cat <>"$0"' "$fifo"
    wait_until 5 reads_fifo
    kill -USR2 "$server"
    wait_until 5 log_has reader "^weir\[$server\] log_server: 1 line before this one is lost: "
    wait_until 5 log_has reader ': closing idle connections: '
    kill -KILL "$SERVER_PID"
    wait_gone "$SERVER_PID"
    kill -TERM "$server"
    wait_gone "$server" 8
    [ -z "$(log server)" ]
}

reads_fifo() {
    [ "$(readlink "/proc/$SERVER_PID/fd/0")" = "$fifo" ]
}

@test "several processes that write to one pipe at once, which is full after a line, go on" {
    local i client
    port=$((port + 1))
    serve_bare server -- /usr/bin/python3 "$ROOT/tests/programs/log_stderr.py" pipe "$out" \
        sh -c 'dd bs=4096 count=1 <&2 >/dev/null 2>/dev/null
            export LD_PRELOAD="$1" WEIR_RUN_DIR="$2" WEIR_ACTION=close-idle
            for i in 1 2 3 4 5 6; do "$3" $(($4 + i)) & echo "$!"; done; wait' - \
        "$WEIR_LIB" "$BATS_TEST_TMPDIR/run" "$PROGRAMS/log_server" "$port"
    for i in {1..6}; do
        wait_port $((port + i))
    done
    mapfile -t servers < <(log server | grep -E '^[0-9]+$')
    also_end "${servers[@]}"
    for i in {1..100}; do
        kill -USR2 "${servers[@]}"
    done
    for i in {1..6}; do
        conn_open client $((port + i))
        echoes "$client"
    done
}

# held THREAD: it stands still in a call that strace delays.
held() {
    local i
    for i in {1..10}; do
        grep -q '^State:.t' "/proc/$1/status" || return 1
        pause 0.05
    done
}

drainer_is_held() {
    local task
    for task in "/proc/$server/task"/*; do
        [ "$(<"$task/comm")" != weir ] || not held "${task##*/}" || return 0
    done
    return 1
}

# waits FD: its answer is there.
waits() {
    read -r -t 0 -u "$1"
}

@test "a slow log file holds up the drain, but no close of the program" {
    local first second
    : >"$out"
    serve_bare server -- strace -D -f -qq -o /dev/null -P "$out" \
        -e inject=write:delay_enter=20000000:when=2 -E "LD_PRELOAD=$WEIR_LIB" \
        -E "WEIR_LOG=$out" -E "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run" -E WEIR_MODE=automatic \
        -E WEIR_TIMEOUT=4s "$PROGRAMS/log_server" "$port"
    server=$SERVER_PID
    wait_port "$port"
    conn_open first "$port"
    conn_open second "$port"
    echoes "$first"
    echoes "$second"
    kill -USR2 "$server"
    # strace counts for each thread: after "draining" it names the connections that it has claimed.
    wait_until 10 drainer_is_held
    conn_close "$first"
    conn_send "$second" 'hello\n'
    wait_until 30 waits "$second"
    not grep -q 'still waits' "$out" # the first of these lines is not there yet
}

# ---- WEIR_LOG=FILE

as_root() {
    [ "$(id -u)" = 0 ] || skip "not root"
    setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "no other user"
}

@test "WEIR_LOG=FILE of root's: lines of workers that have dropped privileges are written there" {
    local client clients=() worker answer i
    as_root
    serve server "WEIR_LOG=$out" "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run" WEIR_MODE=automatic \
        WEIR_TIMEOUT=3s -- /usr/bin/python3 "$ROOT/tests/programs/tree_users.py" "$port" 2
    server=$SERVER_PID
    wait_port "$port"
    wait_until 10 grep -q '^worker ' "$BATS_TEST_TMPDIR/server.log"
    # shellcheck disable=SC2046  # words
    also_end $(log server | sed -n 's/^worker //p')
    for i in {1..20}; do
        conn_open client "$port"
        ask "$client" hello
        clients+=("$client")
    done
    worker=$answer
    [ "$worker" != "$server" ]
    kill -USR2 "$server"
    wait_until 15 grep -q ': drained in ' "$out"
    cat "$out"
    grep -Eq "^weir\[$worker\] python3: still waits for 127\.0\.0\.1:[0-9]+: in use " "$out"
    [ "$(grep -Ec '^weir\[[0-9]+\] python3: forced 127\.0\.0\.1:[0-9]+: in use ' "$out")" = 20 ]
    [ "$(tail -n 1 "$out" | grep -c ': drained in ')" = 1 ]
    [ "$(stat -c %a "$out")" = 640 ]
    not log_has server '^weir'
}

@test "WEIR_LOG=FILE: where nobody has the right any more the lines go to stderr, and one says so" {
    as_root
    # shellcheck disable=SC2016  # expanded by that shell
    serve server "WEIR_LOG=$out" "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run" WEIR_ACTION=close-idle -- \
        /usr/bin/python3 -c '
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print("dropped", flush=True)
while True:
    time.sleep(1)' "$port"
    server=$SERVER_PID
    wait_until 10 log_has server '^dropped'
    kill -USR2 "$server"
    wait_until 5 log_has server ': closing idle connections: '
    kill -USR2 "$server"
    wait_until 5 twice_in_log ': closing idle connections: '
    [ "$(grep -c 'WEIR_LOG: ' "$BATS_TEST_TMPDIR/server.log")" = 1 ]
    grep -q ': ready: ' "$out"
}

twice_in_log() {
    [ "$(grep -c "$1" "$BATS_TEST_TMPDIR/server.log")" = 2 ]
}

@test "a stopped terminal that may not be opened again holds nobody up" {
    local client answer
    as_root
    rm -rf "/tmp/weir-log.$$"
    mkdir -m 755 "/tmp/weir-log.$$"
    cp "$WEIR_LIB" "$PROGRAMS/log_server" "/tmp/weir-log.$$"
    serve_bare server -- /usr/bin/python3 "$ROOT/tests/programs/log_stderr.py" terminal "$out" \
        setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR \
        "LD_PRELOAD=/tmp/weir-log.$$/libweir.so" WEIR_ACTION=close-idle "/tmp/weir-log.$$/log_server" \
        "$port"
    holder=$SERVER_PID
    wait_until 10 log_has server '^pid '
    server=$(log server | sed -n 's/^pid //p')
    also_end "$server"
    wait_port "$port"
    rm -r "/tmp/weir-log.$$"
    [ ! -r "/proc/$server/fd/2" ] || [ "$(stat -L -c %u "/proc/$server/fd/2")" = 0 ]
    kill -USR2 "$server"
    pause 0.2
    conn_open client "$port"
    echoes "$client"
    conn_close "$client"
    kill -USR1 "$holder"
    pause 0.3
    kill -USR2 "$server"
    wait_until 5 out_has ': closing idle connections: '
    out_has 'lines before this one are lost'
    kill -TERM "$server"
    wait_gone "$server"
}

@test "a limit on the size of files (RLIMIT_FSIZE) ends no program by its log or its state page" {
    local client answer where
    for where in auto "$out"; do
        port=$((port + 1))
        rm -f "$out"
        serve_bare server -- prlimit --fsize=0 env "LD_PRELOAD=$WEIR_LIB" "WEIR_LOG=$where" \
            "WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run$port" WEIR_ACTION=close-idle WEIR_TIMEOUT=2s \
            "$PROGRAMS/log_server" "$port"
        server=$SERVER_PID
        wait_port "$port"
        kill -USR2 "$server"
        pause 0.2
        conn_open client "$port"
        echoes "$client"
        alive "$server"
        conn_close "$client"
    done
}
