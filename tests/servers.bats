# SPDX-License-Identifier: MIT
# Real servers under the shim, in mode reply: what is idle is closed at once, what is in the middle
# of an answer is left to finish it, nobody new is served, and the program itself lives on.
# mutant: shim/drain/drain.c: s/if \(timed_out && !drain.forcing\)/if (timed_out \&\& drain.forcing)/
# seconds: 90
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load configs
load clients

setup() {
    port=$((5000 + BATS_TEST_NUMBER))
    trigger=USR2
}

# --- the servers, for clients.bash

start_redis() {
    program=redis-server
    trigger=RTMIN+3 # Redis 7.2 has a use for SIGUSR2
    serve server WEIR_SIGNAL=$trigger "$@" -- redis-server --bind 127.0.0.1 --port "$port" --save '' \
        --dir "$BATS_TEST_TMPDIR" "${arguments[@]}"
    wait_port "$port"
}

redis_hello='PING\r\n'

redis_ask() {
    conn_send "$1" "$redis_hello"
    read_line answer "$1" 2
    [ "$answer" = +PONG ]
}

redis_ask_slow() {
    conn_send "$1" 'BLPOP nothing 1.5\r\n'
}

redis_slow_answer() {
    read_line answer "$1" 4
    [ "$answer" = '*-1' ]
}

start_memcached() {
    program=memcached
    serve server "$@" -- memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(somebody)" "${arguments[@]}"
    wait_port "$port"
}

memcached_hello='version\r\n'

memcached_ask() {
    conn_send "$1" "$memcached_hello"
    read_line answer "$1" 2
    [[ $answer == VERSION* ]]
}

# It has no slow command: here the client is slow, with the value that it announced.
memcached_ask_slow() {
    conn_send "$1" 'set key 0 0 5\r\n'
    { sleep 1.5 && conn_send "$1" 'hello\r\n'; } 3>&- &
    also_end $!
}

memcached_slow_answer() {
    read_line answer "$1" 4
    [ "$answer" = STORED ]
}

start_python() {
    program=python3
    serve server "$@" -- /usr/bin/python3 "$ROOT/tests/programs/slow_server.py" "$port"
    wait_port "$port"
}

speaks_http python

start_node() {
    program='[^ ]+' # node gives its main thread a name
    # Node itself closes what is idle for five seconds, which a busy machine needs for a test.
    serve server "$@" -- node -e '
        const server = require("http").createServer((request, response) => {
            if (request.url == "/slow")
                setTimeout(() => response.end("at last\n"), 1500);
            else
                response.end("It works\n");
        });
        server.keepAliveTimeout = 60000;
        server.listen({ port: Number(process.argv[1]), host: "127.0.0.1" })' "$port"
    wait_port "$port"
}

speaks_http node

# One process. It has a handler of its own for SIGUSR2, so its trigger is another signal.
start_nginx() {
    program=nginx
    local temporary=$BATS_TEST_TMPDIR
    cat >"$temporary/nginx.conf" <<END
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
${nginx_main:-daemon off;}
master_process off;
$(nginx_user)
pid $temporary/nginx.pid;
error_log ${nginx_error_log:-stderr} notice;
events { worker_connections 256; }
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "It works\n"; }
        location /slow { echo_sleep 1.5; echo "at last"; }
    }
}
END
    serve server "$@" -- nginx -e "${nginx_error_log:-stderr}" -c "$temporary/nginx.conf"
    wait_port "$port"
}

speaks_http nginx

start_oldhttpd() {
    program=oldhttpd
    serve server "$@" -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
}

oldhttpd_hello=$http_hello
oldhttpd_ask() {
    conn_send "$1" "$http_hello"
    http_answer "$1" 2
    [[ $answer == *"It works!"* ]]
}
oldhttpd_ask_slow() { conn_send "$1" 'GET /slow?ms=1500 HTTP/1.1\r\n\r\n'; }
oldhttpd_slow_answer() {
    http_answer "$1" 4
    [[ $answer == "<html>"*"</html>"* ]]
}

# --- what every server has to do

# clients SERVER: those that were answered are idle once they have been quiet for WEIR_SETTLE.
clients() {
    open_clients "$1"
    pause 0.2
}

# hello SERVER: what `served` says to it.
hello() {
    local name=$1_hello
    echo "${!name}"
}

# last_line_says REGEX: the last that the shim said, for SERVER_PID.
last_line_says() {
    local line
    line=$(last_weir_line server)
    if ! grep -Eq "^weir\[$SERVER_PID\] $program: $1\$" <<<"$line"; then
        echo "the last line is \"$line\"" >&2
        return 1
    fi
}

# drains SERVER [VAR=value...]: the whole promise of `drain`.
drains() {
    local server=$1
    shift
    "start_$server" "$@"
    drains_started "$server"
}

drains_started() {
    local server=$1 fd
    clients "$server"
    ask_slow "$server"
    pause 0.2
    all_are_open

    kill -s "$trigger" "$SERVER_PID"
    all_at_eof 1 "${idle[@]}"
    before_slow is_open "$slow"
    not_served "$port" "$(hello "$server")"
    all_at_eof 1 "${silent[@]}"
    "${server}_slow_answer" "$slow"
    at_eof "$slow" 1.5

    wait_drained server 3
    last_line_says 'drained in [0-9.]+m?s: 6 closed clean, 0 forced; the program runs on'
    alive "$SERVER_PID"
    is_quiet "$SERVER_PID"
    not_served "$port" "$(hello "$server")"
    alive "$SERVER_PID"
}

# closes_idle SERVER [VAR=value...]: what is idle is closed, and the server goes on as before.
closes_idle() {
    local server=$1 fd young
    shift
    "start_$server" WEIR_ACTION=close-idle "$@"
    clients "$server"
    pause 1 # WEIR_FIRST_BYTE: now the silent ones are idle too
    ask_slow "$server"
    conn_open young "$port"
    pause 0.2

    kill -s "$trigger" "$SERVER_PID"
    all_at_eof 1 "${idle[@]}" "${silent[@]}"
    is_open "$young"
    before_slow is_open "$slow"
    "${server}_slow_answer" "$slow"
    "${server}_ask" "$slow"
    "${server}_ask" "$young"
    served "$port" "$(hello "$server")"
    conn_open fd "$port"
    "${server}_ask" "$fd"
    alive "$SERVER_PID"
    is_quiet "$SERVER_PID"
}

# ends_on_term SERVER STATUS: TERM drains, then does what it always did.
ends_on_term() {
    local server=$1 expected=$2 status=0
    "start_$server" WEIR_STOP_SIGNALS=TERM
    clients "$server"
    ask_slow "$server"
    pause 0.2

    kill -TERM "$SERVER_PID"
    all_at_eof 1 "${idle[@]}"
    before_slow is_open "$slow"
    before_slow alive "$SERVER_PID"
    not_served "$port" "$(hello "$server")"
    "${server}_slow_answer" "$slow"
    at_eof "$slow" 1.5
    wait_gone "$SERVER_PID" 5
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$expected" ]
    log_has server "^weir\[$SERVER_PID\] $program: draining: SIGTERM from pid [0-9]+ uid 0; "
    log_has server "^weir\[$SERVER_PID\] $program: drained in [0-9.]+m?s: 6 closed clean, 0 forced"
}

@test "redis drains: idle clients are closed, a blocked command is answered, the program lives on" {
    drains redis
}

@test "memcached drains: idle clients are closed, a half-sent value is stored, the program lives on" {
    drains memcached
}

@test "Python's http.server drains: idle clients are closed, a slow page comes whole" {
    drains python
}

@test "Node drains: idle clients are closed, a slow page comes whole" {
    drains node
}

@test "nginx as one process drains: idle clients are closed, a slow page comes whole" {
    trigger=RTMIN+3
    drains nginx WEIR_SIGNAL=RTMIN+3
}

@test "a server with a thread for each connection drains" {
    drains oldhttpd
}

@test "redis: close-idle closes idle clients and goes on serving" {
    closes_idle redis
}

@test "memcached: close-idle closes idle clients and goes on serving" {
    closes_idle memcached
}

@test "Python's http.server: close-idle closes idle clients and goes on serving" {
    closes_idle python
}

@test "Node: close-idle closes idle clients and goes on serving" {
    closes_idle node
}

@test "nginx as one process: close-idle closes idle clients and goes on serving" {
    trigger=RTMIN+3
    closes_idle nginx WEIR_SIGNAL=RTMIN+3
}

@test "nginx keeps its own SIGUSR2, and the log says what to use instead" {
    start_nginx
    conn_open fd "$port"
    nginx_ask "$fd"
    nginx_ask "$fd"
    pause 0.3
    kill -USR2 "$SERVER_PID"
    wait_until 2 log_has server 'signal 12 \(SIGUSR2\) received'
    pause 1.2
    is_open "$fd"
    nginx_ask "$fd"
    served "$port" "$http_hello"
    log_has server "^weir\[$SERVER_PID\] nginx: SIGUSR2 belongs to the program: use .*WEIR_SIGNAL=RTMIN\+3"
    not log_has server '^weir.*: drain(ing|ed)'
}

@test "redis: TERM as a stop signal drains first, then redis ends as it does on TERM" {
    ends_on_term redis 0
    log_has server 'ready to exit, bye bye'
}

@test "Python: TERM as a stop signal drains first, then kills" {
    ends_on_term python 143
}

@test "Node: TERM as a stop signal drains first, then kills" {
    ends_on_term node 143
}

@test "nginx as one process: TERM as a stop signal drains first, then nginx ends as it does on TERM" {
    ends_on_term nginx 0
}

@test "a program without any shutdown code drains on TERM, then ends by it" {
    ends_on_term oldhttpd 143
}

@test "a second stop signal, a second later, closes what is still in use" {
    start_python WEIR_STOP_SIGNALS=TERM
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow10 HTTP/1.1\r\n\r\n'
    pause 0.2
    kill -TERM "$SERVER_PID"
    wait_until 5 log_has server 'draining: SIGTERM'
    pause 1.2
    is_open "$fd"
    alive "$SERVER_PID"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 2
    status=0
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
}

@test "a stop signal that comes after a drain passes straight through" {
    start_redis WEIR_STOP_SIGNALS=TERM
    conn_open fd "$port"
    redis_ask "$fd"
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server
    pause 0.3
    alive "$SERVER_PID"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 2
    wait "$SERVER_PID"
    log_has server 'ready to exit, bye bye'
}

@test "at pid 1, where the kernel drops a default action, a stop signal still ends the program" {
    serve_bare server -- unshare --pid --fork --mount-proc env LD_PRELOAD="$WEIR_LIB" \
        WEIR_STOP_SIGNALS=TERM "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    first=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
    first=${first%% *}
    also_end "$first"
    conn_open fd "$port"
    oldhttpd_ask "$fd"
    oldhttpd_ask_slow "$fd"
    pause 0.2
    kill -TERM "$first"
    oldhttpd_slow_answer "$fd"
    at_eof "$fd" 1.5
    wait_gone "$SERVER_PID" 3
    status=0
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
    log_has server '^weir\[1\] oldhttpd: drained in '
}

@test "at pid 1 a signal whose default action ends nobody ends nobody" {
    local variable first
    for variable in WEIR_STOP_SIGNALS WEIR_ON_DRAINED; do
        port=$((port + 1))
        serve_bare "server.$variable" -- unshare --pid --fork --mount-proc env \
            LD_PRELOAD="$WEIR_LIB" "$variable=WINCH" "$PROGRAMS/oldhttpd" "$port"
        wait_port "$port"
        first=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
        first=${first%% *}
        also_end "$first"
        if [ "$variable" = WEIR_STOP_SIGNALS ]; then
            kill -WINCH "$first"
        else
            kill -USR2 "$first"
        fi
        wait_until 5 log_has "server.$variable" 'drained in .*; SIGWINCH goes to the program'
        pause 0.3
        alive "$first"
    done
}

# daemon SERVER: it is its daemon that drains, and the log is a file.
daemon() {
    local server=$1
    shift
    : >"$BATS_TEST_TMPDIR/weir.log"
    "start_$server" "WEIR_LOG=$BATS_TEST_TMPDIR/weir.log" "$@"
    wait_until 5 test -s "$BATS_TEST_TMPDIR/pid"
    wait_gone "$SERVER_PID" 5
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$SERVER_PID"
    alive "$SERVER_PID"
    # The common part looks for the shim's words in the server's log.
    ln -sf weir.log "$BATS_TEST_TMPDIR/server.log"
    drains_started "$server"
}

@test "a daemonised redis drains" {
    arguments=(--daemonize yes --pidfile "$BATS_TEST_TMPDIR/pid")
    daemon redis
}

@test "a daemonised memcached drains" {
    arguments=(-u root -d -P "$BATS_TEST_TMPDIR/pid") # nobody may not write there
    daemon memcached
}

@test "a daemonised nginx drains" {
    trigger=RTMIN+3
    ln -s nginx.pid "$BATS_TEST_TMPDIR/pid"
    nginx_main='daemon on;'
    nginx_error_log=$BATS_TEST_TMPDIR/error.log
    daemon nginx WEIR_SIGNAL=RTMIN+3
}

@test "WEIR_LISTENERS=auto closes a listener that the program made: connections are refused" {
    start_redis
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server
    not listening "$port"
    run conn_open fd "$port"
    [ "$status" -ne 0 ]
}

@test "WEIR_LISTENERS=keep leaves the listener open and unaccepted" {
    start_redis WEIR_LISTENERS=keep
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server
    listening "$port"
    conn_open fd "$port"
    conn_send "$fd" "$redis_hello"
    pause 0.5
    is_open "$fd"
    is_quiet "$SERVER_PID"
}

# A listener that comes with the program and is shared with another process, as in a handover from
# one version to the next: the successor (without the shim) accepts once it gets SIGUSR1.
start_inherited() {
    cat >"$BATS_TEST_TMPDIR/launch.py" <<'END'
import os, signal, socket, sys
port, library, server, successor_pid = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", int(port)), backlog=100)
signal.signal(signal.SIGUSR1, lambda *_: None)
successor = os.fork()
if successor == 0:
    signal.pause()
    connection, _ = listener.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsuccessor")
    signal.pause()
with open(successor_pid, "w") as file:
    file.write(str(successor))
os.dup2(listener.fileno(), 20)
listener.close()
os.environ["LD_PRELOAD"] = library
os.execv("/usr/bin/python3", ["python3", server, "inherited", "20"])
END
    program=python3
    serve_bare server "$@" -- /usr/bin/python3 "$BATS_TEST_TMPDIR/launch.py" "$port" "$WEIR_LIB" \
        "$ROOT/tests/programs/slow_server.py" "$BATS_TEST_TMPDIR/successor"
    wait_port "$port"
    wait_until 5 test -s "$BATS_TEST_TMPDIR/successor"
    successor=$(<"$BATS_TEST_TMPDIR/successor")
    also_end "$successor"
}

@test "WEIR_LISTENERS=auto leaves a listener that was inherited across exec to who shares it" {
    start_inherited
    conn_open fd "$port"
    python_ask "$fd"
    python_ask "$fd"
    pause 0.2
    kill -s "$trigger" "$SERVER_PID"
    at_eof "$fd" 1
    wait_drained server
    listening "$port"
    conn_open fd "$port"
    conn_send "$fd" "$http_hello"
    pause 0.7
    is_open "$fd"
    is_quiet "$SERVER_PID"
    kill -USR1 "$successor"
    http_answer "$fd" 2
    [ "$answer" = successor ]
}

@test "WEIR_LISTENERS=close: nobody is served any more from a listener inherited across exec" {
    start_inherited WEIR_LISTENERS=close
    conn_open fd "$port"
    python_ask "$fd"
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server
    not_served "$port" "$http_hello"
    is_quiet "$SERVER_PID"
}

@test "a thread that is blocked in accept stays blocked after a drain" {
    start_oldhttpd
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server
    is_quiet "$SERVER_PID"
    # accept is 43, accept4 is 288 on x86-64; "running" would be a spinning one.
    grep -Eq '^(43|288) ' "/proc/$SERVER_PID/task/$SERVER_PID/syscall"
    not_served "$port" "$http_hello"
    grep -Eq '^(43|288) ' "/proc/$SERVER_PID/task/$SERVER_PID/syscall"
}

@test "a connection that waits to be accepted when the drain begins is served first" {
    # One thread at a time: the second client waits in the queue while the first is served.
    serve server -- /usr/bin/python3 -c '
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.7)
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"at last\n")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()' "$port"
    wait_port "$port"
    conn_open first "$port"
    conn_send "$first" "$http_hello"
    pause 0.2
    conn_open second "$port"
    conn_send "$second" "$http_hello"
    kill -s "$trigger" "$SERVER_PID"
    for fd in "$first" "$second"; do
        wait_until 3 read -r -t 0 -u "$fd"
        read_line line "$fd" 1
        [[ $line == "HTTP/1.0 200 "* ]]
        timeout "$(patient 3)" grep -q 'at last' <&"$fd"
    done
    wait_drained server 5
    log_has server "^weir\[$SERVER_PID\] .*: drained in .* 0 forced; the program runs on"
}

@test "WEIR_TIMEOUT forces a request that outlives it" {
    start_python WEIR_TIMEOUT=1s
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow10 HTTP/1.1\r\n\r\n'
    pause 0.2
    before=$(now_ms)
    kill -s "$trigger" "$SERVER_PID"
    wait_until 3 read -r -t 0 -u "$fd" # its end, clean or by reset
    took=$(($(now_ms) - before))
    [ "$took" -ge 900 ]
    within "$took" 1600
    run read_line line "$fd" 1
    [ "$status" -ne 0 ]
    wait_drained server 2
    log_has server "^weir\[$SERVER_PID\] python3: forced 127\.0\.0\.1:[0-9]+: in use [0-9.]+m?s"
    # The program has a moment to close what was forced; here its thread sleeps on.
    last_line_says 'drained in [12]\.[0-9]s: 0 closed clean, 1 forced; the program runs on'
    alive "$SERVER_PID"
}

@test "the value 3 sent with the signal closes everything, also what is in use" {
    start_redis
    clients redis
    redis_ask_slow "$slow"
    pause 0.2
    before=$(now_ms)
    /bin/kill -q 3 -s "$trigger" "$SERVER_PID"
    all_at_eof 1 "${idle[@]}" "${silent[@]}"
    wait_until 1 read -r -t 0 -u "$slow"
    took=$(($(now_ms) - before))
    within "$took" 900
    run read_line answer "$slow" 0.5
    [ "$status" -ne 0 ]
    wait_drained server 3
    not_served "$port" "$redis_hello"
    alive "$SERVER_PID"
    is_quiet "$SERVER_PID"
}

@test "the value 1 sent with the signal is close-idle, whatever WEIR_ACTION says" {
    start_redis WEIR_ACTION=drain-all
    clients redis
    redis_ask_slow "$slow"
    pause 0.2
    /bin/kill -q 1 -s "$trigger" "$SERVER_PID"
    all_at_eof 1 "${idle[@]}"
    redis_slow_answer "$slow"
    redis_ask "$slow"
    served "$port" "$redis_hello"
}

@test "the value 2 sent with the signal is drain, whatever WEIR_ACTION says" {
    start_redis WEIR_ACTION=close-idle
    clients redis
    redis_ask_slow "$slow"
    pause 0.2
    /bin/kill -q 2 -s "$trigger" "$SERVER_PID"
    all_at_eof 1 "${idle[@]}"
    not_served "$port" "$redis_hello"
    redis_slow_answer "$slow"
    at_eof "$slow" 1.5
    wait_drained server
}

@test "a plain kill does what WEIR_ACTION=drain-all says" {
    start_redis WEIR_ACTION=drain-all
    clients redis
    redis_ask_slow "$slow"
    pause 0.2
    kill -s "$trigger" "$SERVER_PID"
    wait_until 1 read -r -t 0 -u "$slow"
    run read_line answer "$slow" 0.5
    [ "$status" -ne 0 ]
    wait_drained server 3
    alive "$SERVER_PID"
}

# --- under load: careful clients, which look before they send, lose nothing

loses_nothing() {
    local server=$1 line pid
    shift
    "start_$server" "WEIR_SIGNAL=RTMIN+3"
    pid=$SERVER_PID
    serve_bare load -- "$PROGRAMS/load" --careful --connections 100 --pause 0-400 --seconds 15 \
        "$@" "$port"
    wait_until 5 log_has load '^load: ready'
    pause 0.5
    kill -RTMIN+3 "$pid"
    wait_drained server 12
    wait "$SERVER_PID" # the load ends when its last connection does
    SERVER_PID=$pid
    last_line_says 'drained in [0-9.]+m?s: 100 closed clean, 0 forced; the program runs on'
    line=$(tail -n 1 "$BATS_TEST_TMPDIR/load.log")
    echo "$line"
    [[ $line == "answered="*" unanswered=0 reset=0 truncated=0 refused=0 connect_reset=0 open=0 "* ]]
    alive "$SERVER_PID"
}

@test "redis under load loses no request in a drain" {
    loses_nothing redis --protocol redis --path key
}

@test "memcached under load loses no request in a drain" {
    loses_nothing memcached --protocol memcached
}

@test "Python's http.server under load loses no request in a drain" {
    loses_nothing python
}

@test "Node under load loses no request in a drain" {
    loses_nothing node
}

@test "nginx under load loses no request in a drain" {
    loses_nothing nginx
}

@test "a server with a thread for each connection loses no request under load in a drain" {
    loses_nothing oldhttpd --path '/slow?ms=20'
}
