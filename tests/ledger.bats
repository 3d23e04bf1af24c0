# SPDX-License-Identifier: MIT
# What a drain says of its clients is true: who lost something is counted once, named in the log, and
# the command's exit code is 3; status, the command and the log say the same.
# mutant: shim/drain/drain.c: s/process_slot_count_loss\(in_use, cost.queues.unread,/process_slot_count_loss(in_use, false,/
# needs: ngircd libsocket-wrapper torsocks
# seconds: 44
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load processes

setup() {
    port=$((31000 + 10 * BATS_TEST_NUMBER))
    at=$port
    weir=$ROOT/build/weir
    chmod 755 "$BATS_TEST_TMPDIR"
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
}

teardown() {
    local pid
    for pid in "${STARTED[@]}"; do
        # shellcheck disable=SC2046  # numbers
        also_end $(descendants "$pid")
    done
    end_started
}

# start HOW [ARGUMENT...]: ledger_server.py, which listens when this returns.
start() {
    serve server "${variables[@]}" -- /usr/bin/python3 "$ROOT/tests/programs/ledger_server.py" "$at" "$@"
    case $at in
    unix:*) wait_unix "${at#unix:}" ;;
    *) wait_port "$at" ;;
    esac
    [ "$1" != listens ] || wait_until 5 has_lines ready 2
}

# has_lines WORD COUNT: so many lines of the server's log begin with it.
has_lines() {
    [ "$(log server | grep -c "^$1")" -ge "$2" ]
}

# weir_exits STATUS ARGUMENT...: what it said is in $said.
weir_exits() {
    local status=0
    said=$("$weir" "${@:2}" 2>&1) || status=$?
    echo "$said"
    [ "$status" = "$1" ]
}

# figures FORCED FORCED_IN_USE UNREAD UNSENT: as `weir status --json` has them; nothing is tracked any more.
figures() {
    local json
    json=$("$weir" status "$SERVER_PID" --json)
    has "$json" "\"tracked\": 0, \"idle\": 0, \"in_use\": 0}"
    has "$json" "\"forced\": $1,"
    has "$json" "\"losses\": {\"forced_in_use\": $2, \"unread\": $3, \"unsent\": $4}"
}

# ends CLEAN FORCED IN_USE: the log's last line and the command's say the same.
ends() {
    has "$said" ": $1 closed clean, $2 forced, $3 of them in use"
    log_has server "^weir\[[0-9]+\] .*: drained in [0-9.]+s: $1 closed clean, $2 forced; "
}

# a_slow_reader: it has asked, and reads nothing.
a_slow_reader() {
    local server=$SERVER_PID
    serve_bare client -- /usr/bin/python3 -c '
import socket, sys, time
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
client.connect(("127.0.0.1", int(sys.argv[1])))
client.send(b"ask")
time.sleep(60)' "$port"
    SERVER_PID=$server
}

# ---- the accept queue

# Two processes share each queue: who is in it is lost once.
@test "the timeout meets clients in the queue: who has sent is lost, and named" {
    local sent silent
    start listens
    conn_open sent "$port"
    conn_send "$sent" 'hello'
    conn_open silent "$port"
    weir_exits 3 drain --wait --timeout 1s "$SERVER_PID"
    log_has server ': forced 127\.0\.0\.1:[0-9]+: in the accept queue, 5 unread$'
    [ "$(log server | grep -c ': forced ')" = 1 ]
    ends 0 1 0
    figures 1 0 1 0
    at_eof "$silent" 2
}

@test "drain-all meets clients in the queue: who has sent is lost" {
    local sent
    start listens
    conn_open sent "$port"
    conn_send "$sent" 'hello'
    weir_exits 3 drain-all --wait "$SERVER_PID"
    ends 0 1 0
    figures 1 0 1 0
}

@test "a queue in which nobody has sent is no loss: exit 0" {
    local silent
    start listens
    conn_open silent "$port"
    weir_exits 0 drain-all --wait "$SERVER_PID"
    ends 0 0 0
    figures 0 0 0 0
    at_eof "$silent" 2
}

@test "AF_UNIX: the timeout meets clients in the queue: who has sent is lost" {
    at=unix:$BATS_TEST_TMPDIR/socket
    start listens
    local server=$SERVER_PID
    serve_bare client -- /usr/bin/python3 -c '
import socket, sys, time
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.send(b"hello")
print("sent", flush=True)
time.sleep(60)' "${at#unix:}"
    SERVER_PID=$server
    wait_until 5 log_has client '^sent$'
    weir_exits 3 drain --wait --timeout 1s "$SERVER_PID"
    ends 0 1 0
    figures 1 0 1 0
}

# ---- what the timeout cuts

@test "AF_UNIX: a client that has gone with a part of its answer unread is no loss of a cut: exit 0" {
    serve server -- /usr/bin/python3 -c '
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
client = listener.accept()[0]
client.send(b"hello")
print("greeted", flush=True)
time.sleep(60)' "$BATS_TEST_TMPDIR/s"
    wait_unix "$BATS_TEST_TMPDIR/s"
    /usr/bin/python3 -c '
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.recv(1)' "$BATS_TEST_TMPDIR/s"
    wait_until 5 log_has server '^greeted$'
    weir_exits 0 drain-all --wait "$SERVER_PID"
    ends 1 0 0
    figures 0 0 0 0
}

@test "the second of two pipelined requests, which the program has not read, is lost: exit 3" {
    local fd mode
    for mode in reply automatic manual; do
        variables=("WEIR_MODE=$mode")
        start reads 4
        conn_open fd "$port"
        conn_send "$fd" 'one\ntwo\n'
        wait_until 5 log_has server '^served$'
        weir_exits 3 drain --wait --timeout 1s "$SERVER_PID"
        has "$said" '0 closed clean, 1 forced'
        has "$said" '; 1 with bytes unread, 0 unsent'
        log_has server ': forced 127\.0\.0\.1:[0-9]+: .*, 4 unread$'
        conn_close "$fd"
        end_started
        port=$((port + 1)) at=$port
    done
}

@test "an answer that is not sent whole at the timeout is lost: exit 3" {
    local mode
    for mode in reply manual; do
        variables=("WEIR_MODE=$mode")
        start answers 0
        a_slow_reader
        wait_until 5 log_has server '^served$'
        weir_exits 3 drain --wait --timeout 1s "$SERVER_PID"
        has "$said" '0 closed clean, 1 forced'
        has "$said" '; 0 with bytes unread, 1 unsent'
        log_has server ': forced 127\.0\.0\.1:[0-9]+: .*, [1-9][0-9]{4,} bytes unsent$'
        end_started
        port=$((port + 1)) at=$port
    done
}

@test "an answer that the program has closed, and the peer has not taken at the timeout, is lost: exit 3" {
    variables=(WEIR_LINGER=30s)
    start answers 1500
    a_slow_reader
    wait_until 5 log_has server '^served$'
    weir_exits 3 drain --wait --timeout 4s "$SERVER_PID"
    log_has server ': gave up on 127\.0\.0\.1:[0-9]+: .* bytes unsent, 0 unread at the timeout$'
    ends 0 1 0
    figures 1 0 0 1
}

# is_held: or has been.
is_held() {
    [ "$(awk '{ print $3 }' "/proc/$SERVER_PID/stat")" = t ] || log_has strace DELAYED
}

# is_traced [PID]
is_traced() {
    [ "$(sed -n 's/^TracerPid:\t//p' "/proc/${1:-$SERVER_PID}/status")" != 0 ]
}

# Its thread is held in the middle of the close, as the shim logs what is lost by it.
@test "an answer that the program is closing as a drain-all comes is lost once: exit 3" {
    local server
    serve server WEIR_LINGER=0 -- /usr/bin/python3 -c '
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
signal.signal(signal.SIGHUP, lambda *_: connection.close())
connection.recv(100)
connection.setblocking(False)
connection.send(bytes(300000))
print("served", flush=True)
while True:
    signal.pause()' "$port"
    wait_port "$port"
    a_slow_reader
    wait_until 5 log_has server '^served$'
    server=$SERVER_PID
    serve_bare strace -- strace -qq -e trace=write,writev -e inject=write,writev:delay_enter=1000000 -p "$server"
    SERVER_PID=$server
    wait_until 5 is_traced
    "$weir" drain "$SERVER_PID"
    wait_until 5 not listening "$port"
    kill -HUP "$SERVER_PID"
    wait_until 5 is_held
    weir_exits 3 drain-all --wait "$SERVER_PID"
    ends 0 1 0
    "$weir" status "$SERVER_PID" --json | grep -q '"losses": {"forced_in_use": 0, "unread": 0, "unsent": 1}'
}

@test "mode reply: an answer after which it was not quiet may be a half: who is cut then is lost: exit 3" {
    local fd
    variables=(WEIR_MODE=reply WEIR_FIRST_BYTE=20s)
    start halves
    conn_open fd "$port"
    conn_send "$fd" 'one\n'
    wait_until 5 log_has server '^served$'
    weir_exits 3 drain-all --wait "$SERVER_PID"
    log_has server ': forced 127\.0\.0\.1:[0-9]+: in use '
    ends 0 1 1
    figures 1 1 0 0
}

@test "mode protocol: half an answer, whose connection the program shuts down behind the cut, is lost: exit 3" {
    local fd
    variables=(WEIR_MODE=protocol)
    start halves
    conn_open fd "$port"
    conn_send "$fd" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 5 log_has server '^served$'
    weir_exits 3 drain-all --wait "$SERVER_PID"
    ends 0 1 1
    figures 1 1 0 0
}

# ---- what arrives as a connection is closed

@test "a request that arrives between the half-close and the end, and is not answered, is lost: exit 3" {
    local fd
    variables=(WEIR_MODE=reply)
    start hesitates
    conn_open fd "$port"
    conn_send "$fd" 'one\n'
    wait_until 5 log_has server '^served$'
    "$weir" drain "$SERVER_PID"
    wait_until 5 log_has server '^ended$'
    conn_send "$fd" 'tw'
    weir_exits 3 drain --wait "$SERVER_PID"
    log_has server ': closed 127\.0\.0\.1:[0-9]+: in use, for it was sent something as it was closed$'
    ends 0 1 1
    figures 1 1 0 0
}

@test "mode reply: the second of two requests behind the half-close, which is not answered, is lost: exit 3" {
    local fd request='GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    variables=(WEIR_MODE=reply)
    start first
    conn_open fd "$port"
    conn_send "$fd" "$request"
    wait_until 5 log_has server '^served$'
    "$weir" drain "$SERVER_PID"
    wait_until 5 log_has server '^ended$'
    conn_send "$fd" "$request$request"
    weir_exits 3 drain --wait "$SERVER_PID"
    log_has server ': closed 127\.0\.0\.1:[0-9]+: in use, for it was sent something as it was closed$'
    ends 0 1 1
    figures 1 1 0 0
}

# ---- processes that die

@test "a worker that is killed with a request in progress has lost it: exit 3, and the log names it" {
    local fd idle pid
    serve server -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2
    wait_port "$port"
    wait_until 5 has_lines worker 2
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow20 HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 5 a_worker_is_busy
    pid=$busy
    "$weir" drain "$SERVER_PID"
    wait_until 5 log_has server ': draining: .*; 0 idle, 1 in use$'
    kill -KILL "$pid"
    weir_exits 3 drain --wait "$SERVER_PID"
    log_has server ": pid $pid has died in the middle of the drain: 1 connections were in use\$"
    ends 0 1 1
    figures 1 1 0 0
}

@test "a worker that crashes by a request which it has just read, in a drain, has lost it alone: exit 3" {
    local other fd
    serve server WEIR_MODE=protocol -- /usr/bin/python3 -c '
import os, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    os.wait()
    time.sleep(60)
clients = [listener.accept()[0] for _ in range(2)]
def read_request(client):
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += client.recv(100)
for client in clients:
    read_request(client)
    client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
read_request(clients[1])
os.kill(os.getpid(), signal.SIGSEGV)' "$port"
    wait_port "$port"
    conn_open other "$port"
    conn_open fd "$port"
    conn_send "$other" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    conn_send "$fd" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    grep -q -m 1 ok <&"$other"
    grep -q -m 1 ok <&"$fd"
    "$weir" drain "$SERVER_PID"
    wait_until 5 log_has server ': draining: .*; 2 idle, 0 in use$'
    wait_until 5 grep -q '^weir$' "/proc/$(pgrep -P "$SERVER_PID")"/task/*/comm
    pause 0.2 # the worker's own drain has begun as well
    conn_send "$fd" 'GET /crash HTTP/1.1\r\nHost: x\r\n\r\n'
    weir_exits 3 drain --wait "$SERVER_PID"
    log_has server ": pid .* has died in the middle of the drain: 1 connections were in use\$"
    ends 1 1 1
}

@test "a worker that ends as its connection is cut, before that was counted, has lost it: exit 3" {
    local fd server
    serve server -- /usr/bin/python3 -c '
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    os.wait()
    time.sleep(60)
connection = listener.accept()[0]
connection.recv(100)
print("served", os.getpid(), flush=True)
connection.recv(100)
os._exit(0)' "$port"
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'ask\n'
    wait_until 5 log_has server '^served '
    server=$SERVER_PID
    serve_bare strace -- strace -f -qq -e trace=shutdown -e inject=shutdown:delay_exit=200000 \
        -p "$(descendants "$server")"
    SERVER_PID=$server
    wait_until 5 is_traced "$(descendants "$server")"
    weir_exits 3 drain-all --wait "$SERVER_PID"
    log_has server ': forced 127\.0\.0\.1:[0-9]+: in use '
    ends 0 1 1
}

@test "a child of a drain that accepts under a number that it has inherited, and crashes, has lost its client: exit 3" {
    local first second
    serve server WEIR_MODE=protocol -- /usr/bin/python3 -c '
import os, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
first = listener.accept()[0]
first.recv(100)
first.recv(100)
if not os.fork():
    first.close()
    second = listener.accept()[0]
    second.recv(100)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGSEGV)
os.wait()
first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
first.close()
time.sleep(60)' "$port"
    wait_port "$port"
    conn_open first "$port"
    conn_send "$first" 'GET / HTTP/1.1\r\n'
    pause 0.3
    conn_open second "$port"
    conn_send "$second" 'GET /crash HTTP/1.1\r\nHost: x\r\n\r\n'
    "$weir" drain "$SERVER_PID"
    wait_until 5 log_has server ': draining: '
    pause 0.3
    conn_send "$first" 'Host: x\r\n\r\n'
    weir_exits 3 drain --wait "$SERVER_PID"
    log_has server ": pid .* has died in the middle of the drain: 1 connections were in use\$"
    ends 1 1 1
}

# a_worker_is_busy: its pid goes to $busy.
a_worker_is_busy() {
    local json worker
    json=$("$weir" status "$SERVER_PID" --json)
    for worker in $(descendants "$SERVER_PID"); do
        busy=$worker
        [[ $json != *"{\"pid\": $worker, \"tracked\": 1, \"idle\": 0, \"in_use\": 1}"* ]] || return 0
    done
    return 1
}

@test "a worker that was killed before the drain has lost nothing of it: exit 0" {
    local fd
    serve server -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2
    wait_port "$port"
    wait_until 5 has_lines worker 2
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow20 HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 5 a_worker_is_busy
    kill -KILL "$busy"
    wait_until 5 has_lines worker 3
    weir_exits 0 drain --wait "$SERVER_PID"
    ends 0 0 0
    figures 0 0 0 0
}

@test "a worker that was given up and goes on is counted once" {
    local fd pid
    serve server -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2
    wait_port "$port"
    wait_until 5 has_lines worker 2
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow20 HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 5 a_worker_is_busy
    pid=$busy
    kill -STOP "$pid"
    weir_exits 3 drain --wait --timeout 1s "$SERVER_PID"
    has "$said" "pid $pid has not drained: it has 1 connections"
    has "$said" ': not wholly drained in '
    figures 1 1 0 0
    kill -CONT "$pid"
    wait_until 5 log_has server ': forced 127\.0\.0\.1:[0-9]+: in use '
    figures 1 1 0 0
}

# has_an_idle_worker: its pid goes to $idle.
has_an_idle_worker() {
    local json worker
    json=$("$weir" status "$SERVER_PID" --json)
    for worker in $(descendants "$SERVER_PID"); do
        idle=$worker
        [[ $json != *"{\"pid\": $worker, \"tracked\": 1, \"idle\": 1, \"in_use\": 0}"* ]] || return 0
    done
    return 1
}

# idle_has_ended: its connection is gone.
idle_has_ended() {
    [[ $("$weir" status "$SERVER_PID" --json) == *"{\"pid\": $idle, \"tracked\": 0,"* ]]
}

@test "the command says what the log says, of a worker too that goes on when it was given up" {
    local fd command status=0
    serve server -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2
    wait_port "$port"
    wait_until 5 has_lines worker 2
    conn_open fd "$port"
    conn_send "$fd" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 5 has_an_idle_worker
    kill -STOP "$idle"
    "$weir" drain --wait --timeout 1s "$SERVER_PID" >"$BATS_TEST_TMPDIR/said" 2>&1 &
    command=$!
    wait_until 5 log_has server ': draining: '
    kill -STOP "$command"
    wait_until 20 log_has server ': not wholly drained in .*: 0 closed clean, 1 forced; '
    kill -CONT "$idle"
    wait_until 5 idle_has_ended
    kill -CONT "$command"
    wait "$command" || status=$?
    cat "$BATS_TEST_TMPDIR/said"
    [ "$status" = 3 ]
    grep -q "^weir: pid $idle had not drained when the drain ended$" "$BATS_TEST_TMPDIR/said"
    grep -q ': not wholly drained in .*: 0 closed clean, 1 forced, 1 of them in use$' "$BATS_TEST_TMPDIR/said"
    figures 1 1 0 0
}

# ---- what the shim does not see: the command looks from outside

@test "a child that runs without the shim still accepts: exit 1, and it is named" {
    local child
    serve server -- /usr/bin/python3 -c '
import os, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
del os.environ["LD_PRELOAD"]
code = "import socket, sys, time; socket.create_server((\"127.0.0.1\", int(sys.argv[1]))); time.sleep(60)"
code = code.replace("socket.create", "kept = socket.create")
print("child", subprocess.Popen([sys.executable, "-c", code, sys.argv[2]]).pid, flush=True)
time.sleep(60)' "$port" $((port + 1))
    wait_port "$port"
    wait_port $((port + 1))
    child=$(log server | sed -n 's/^child //p')
    weir_exits 1 drain --wait "$SERVER_PID"
    has "$said" "weir: pid $child still accepts on 127.0.0.1:$((port + 1)), without the shim"
    has "$said" 'not wholly drained in '
    log_has server ": not drained: pid $child runs without the shim, and still accepts$"
    log_has server ': not wholly drained in '
    kill -KILL "$child"
    wait_until 5 not listening $((port + 1))
    weir_exits 0 drain --wait "$SERVER_PID"
}

@test "a listener that was made past libc still accepts: exit 1, and it is named" {
    serve server -- "$PROGRAMS/ledger_behind" "$port" listens
    wait_until 5 log_has server '^ready$'
    weir_exits 1 drain --wait "$SERVER_PID"
    has "$said" "weir: pid $SERVER_PID still accepts on 127.0.0.1:$((port + 1)), by a socket that the shim does not see"
    lacks "$said" "127.0.0.1:$port"
    log_has server ': not drained: a listener was made past libc \(descriptor [0-9]+\): it still accepts$'
    log_has server ': not wholly drained in '
}

# wrapped PRELOAD: a server, whose sockets socket_wrapper makes AF_UNIX's, and its client $fd.
wrapped() {
    local preload=$1 sockets=$BATS_TEST_TMPDIR/sockets
    mkdir -p "$sockets"
    serve server "LD_PRELOAD=$preload" "SOCKET_WRAPPER_DIR=$sockets" SOCKET_WRAPPER_DEFAULT_IFACE=2 -- \
        /usr/bin/python3 "$ROOT/tests/programs/kinds.py" plain "$port"
    wait_until 10 compgen -G "$sockets/T*"
    wait_until 10 wrapped_answers
}

# wrapped_answers: the first client is answered, and says "end" when the server closes.
wrapped_answers() {
    local server=$SERVER_PID
    serve_bare client "LD_PRELOAD=$SOCKET_WRAPPER" "SOCKET_WRAPPER_DIR=$BATS_TEST_TMPDIR/sockets" \
        SOCKET_WRAPPER_DEFAULT_IFACE=3 -- /usr/bin/python3 -c '
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.send(b"ask\n")
print(client.recv(100).decode(), end="", flush=True)
client.recv(100)
print("end", flush=True)' "$port"
    SERVER_PID=$server
    wait_until 5 log_has client '^ok ask$|Refused'
    log_has client '^ok ask$'
}

SOCKET_WRAPPER=$(library libsocket_wrapper.so)

@test "in front of socket_wrapper: nothing accepts any more, and no connection is left: exit 0" {
    wrapped "$WEIR_LIB:$SOCKET_WRAPPER"
    weir_exits 0 drain --wait "$SERVER_PID"
    wait_until 5 log_has client '^end$'
    not wrapped_answers
    log_has client Refused
    is_quiet "$SERVER_PID"
    ends 1 0 0
    has "$("$weir" status "$SERVER_PID" --json)" '"accepted": 1,'
}

@test "behind socket_wrapper, which hides its listeners: exit 1, and it is named" {
    wrapped "$SOCKET_WRAPPER:$WEIR_LIB"
    weir_exits 1 drain --wait "$SERVER_PID"
    has "$said" "pid $SERVER_PID still accepts on unix:"
    log_has server ': not wholly drained in '
    wrapped_answers
}

@test "behind torsocks, which accepts by a system call of its own: the connection is drained, exit 0" {
    local fd answer torsocks
    torsocks=$(dpkg -L libtorsocks torsocks 2>/dev/null | grep '/libtorsocks\.so$')
    serve server "LD_PRELOAD=$torsocks:$WEIR_LIB" TORSOCKS_ALLOW_INBOUND=1 -- \
        /usr/bin/python3 "$ROOT/tests/programs/kinds.py" plain "$port"
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'ask\n'
    read_line answer "$fd" 5
    [ "$answer" = "ok ask" ]
    weir_exits 0 drain --wait "$SERVER_PID"
    at_eof "$fd" 2
    not listening "$port"
    log_has server ': connections were accepted past libc '
    ends 1 0 0
}

@test "what a tree keeps, leaves alone, or has begun as another tree does not count: exit 0" {
    serve server "WEIR_MODE=reply,:$((port + 1))=off" WEIR_LISTENERS=keep -- /usr/bin/python3 -c '
import os, socket, subprocess, sys, time
kept = socket.create_server(("127.0.0.1", int(sys.argv[1])))
off = socket.create_server(("127.0.0.1", int(sys.argv[1]) + 1))
code = "import socket, sys, time; other = socket.create_server((\"127.0.0.1\", int(sys.argv[1]))); time.sleep(60)"
del os.environ["WEIR_TREE"]
subprocess.Popen([sys.executable, "-c", code, str(int(sys.argv[1]) + 2)])
time.sleep(60)' "$port"
    wait_port $((port + 1))
    wait_port $((port + 2))
    weir_exits 0 drain --wait "$SERVER_PID"
    has "$said" ': drained in '
    listening "$port"
    listening $((port + 1))
    listening $((port + 2))
}

@test "a listener of a kind that can't be stopped: not wholly drained, exit 1, and the log names it" {
    serve server -- /usr/bin/python3 -c '
import socket, time
listener = socket.socket(socket.AF_VSOCK)
listener.bind((socket.VMADDR_CID_ANY, 9000))
listener.listen()
print("ready", flush=True)
time.sleep(60)'
    wait_until 5 log_has server '^ready$|OSError'
    not log_has server OSError || skip "no AF_VSOCK here"
    weir_exits 1 drain --wait "$SERVER_PID"
    has "$said" "pid $SERVER_PID: something of it could not be drained"
    log_has server "can't stop accepting on descriptor [0-9]+, of address family 40: "
    log_has server ': not wholly drained in '
}

@test "of two copies of the library the second stands aside, and says so once" {
    local fd
    cp "$WEIR_LIB" "$BATS_TEST_TMPDIR/libweir.so"
    serve_bare server "LD_PRELOAD=$WEIR_LIB $BATS_TEST_TMPDIR/libweir.so" -- \
        sh -c '"$@"' - /usr/bin/python3 "$ROOT/tests/programs/ledger_server.py" "$at" reads 4
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'one\n'
    wait_until 5 log_has server '^served$'
    weir_exits 3 drain-all --wait "$SERVER_PID"
    ends 0 1 1
    [ "$(log server | grep -c 'two copies of libweir.so: the second one stands aside')" = 1 ]
}

@test "connections that were accepted past libc are found when a drain begins, and drained" {
    local fd
    serve server -- "$PROGRAMS/ledger_behind" "$port" accepts
    wait_until 5 log_has server '^ready$'
    conn_open fd "$port"
    conn_send "$fd" 'x'
    IFS= read -r -N 1 -t "$(patient 3)" -u "$fd" answer
    [ "$answer" = x ]
    weir_exits 0 drain --wait "$SERVER_PID"
    at_eof "$fd" 2
    log_has server ': connections were accepted past libc \(the first is descriptor [0-9]+\)'
    ends 1 0 0
}

@test "one that was accepted past libc, by a number that another had, is found too" {
    local fd other
    serve server -- "$PROGRAMS/ledger_behind" "$port" accepts
    wait_until 5 log_has server '^ready$'
    conn_open fd "$port"
    conn_send "$fd" 'x'
    IFS= read -r -N 1 -t "$(patient 3)" -u "$fd" answer
    conn_open other "$port" # it is accepted when the first has ended
    conn_send "$other" 'hello'
    weir_exits 0 drain --wait "$SERVER_PID"
    IFS= read -r -N 5 -t "$(patient 3)" -u "$other" answer
    [ "$answer" = hello ]
    all_at_eof 2 "$fd" "$other"
    ends 2 0 0
    figures 0 0 0 0
}

@test "one that was accepted past libc and is in use at the timeout is forced: exit 3" {
    local fd
    serve server -- "$PROGRAMS/ledger_behind" "$port" accepts
    wait_until 5 log_has server '^ready$'
    conn_open fd "$port"
    conn_send "$fd" 'x'
    IFS= read -r -N 1 -t "$(patient 3)" -u "$fd" answer
    pause 0.05 # the kernel's times are of ticks: within one it does not tell which came first
    conn_send "$fd" 'q'
    weir_exits 3 drain --wait --timeout 2s "$SERVER_PID"
    ends 0 1 1
    figures 1 1 0 0
}

@test "a helper that inherits a listener is not said to be ready" {
    serve server -- /usr/bin/python3 -c '
import socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.set_inheritable(True)
subprocess.run(["sh", "-c", "echo helped; exit"], close_fds=False)
time.sleep(60)' "$port"
    wait_until 5 log_has server '^helped$'
    [ "$(log server | grep -c ': ready: ')" = 1 ]
}

@test "children that end amid the drain, in which they have a part, are not told as dead" {
    # ngircd's look up each client's name and identity, with a socket that they bind.
    local round clients
    printf '[Global]\nName=irc.example\nInfo=x\nListen=127.0.0.1\nPorts=%s\n' "$port" >"$BATS_TEST_TMPDIR/conf"
    chmod 644 "$BATS_TEST_TMPDIR/conf"
    for round in 1 2 3; do
        serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- ngircd -n -f "$BATS_TEST_TMPDIR/conf"
        wait_port "$port"
        timeout 60 /usr/bin/python3 -c "import socket, time
while True:
    time.sleep(0.01)
    try:
        socket.create_connection(('127.0.0.1', $port), 3).close()
    except OSError:
        pass" &
        clients=$!
        also_end "$clients"
        wait_until 20 has_lines '.*Client unregistered' 30
        weir_exits 0 drain --wait "$SERVER_PID"
        has "$said" ' 0 forced, 0 of them in use'
        kill "$clients" "$SERVER_PID"
        wait_gone "$SERVER_PID" 10
    done
}
