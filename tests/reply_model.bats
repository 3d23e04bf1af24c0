#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Clients that never rest: the next request follows each answer after 0 to 3 ms, for ever. A drain
# in mode reply ends within two seconds all the same, and nobody has lost an answer; an answer that
# only comes slowly is not taken for finished.
# mutant: shim/conn/reply_model.c: s/(#define WAITS_MANY) 32/\1 32000/
# seconds: 119
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load load
load configs

setup() {
    port=$((15000 + 10 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    trigger=USR2
}

# --- clients and what became of them

# busy NAME [OPTION...] PORT: clients that never rest.
busy() {
    load_begins "$1" 10 "$PROGRAMS/answer_busy" --seconds 60 "${@:2}"
}

# nothing_lost: of what the careful clients asked for.
nothing_lost() {
    none_is unanswered truncated reset stalled open || return 1
    [ "${totals[crossed]}" -le "${crossed_most:-10}" ]
}

# rests_never [OPTION...]: against the server on $port, that drains in the middle of it.
rests_never() {
    busy clients "$@" "$port"
    pause 0.7
    before=$(now_ms)
    kill -s "$trigger" "$SERVER_PID"
    load_ends clients
    nothing_lost
    took=$((totals[ended_ms] - before))
    echo "the last client was told after $took ms"
    within "$took" "${most:-2000}"
    wait_drained server 2
    log_has server "^weir\[$SERVER_PID\] .*: drained in [0-9.]+m?s: .* 0 forced; the program runs on"
    alive "$SERVER_PID"
}

# --- servers

start_nginx() {
    cat >"$temporary/nginx.conf" <<END2
daemon off;
master_process off;
$(nginx_user)
pid $temporary/nginx.pid;
error_log stderr notice;
events { worker_connections 1000; }
http {
    access_log off;
    $(nginx_paths)
    keepalive_requests 1000000;
    upstream origin { server 127.0.0.1:$((port + 1)); keepalive 100; }
    server {
        listen 127.0.0.1:$port backlog=1000;
        root $temporary/files;
        $1
    }
}
END2
    shift
    trigger=RTMIN+3
    serve server WEIR_SIGNAL=RTMIN+3 "$@" -- nginx -e stderr -c "$temporary/nginx.conf"
    wait_port "$port"
}

start_asyncio() {
    origin_log=server
    serve server "$@" -- /usr/bin/python3 "$ROOT/tests/programs/answer_server.py" "$port"
    wait_port "$port"
}

# The same without the shim, for a proxy to stand before it.
start_upstream() {
    origin_log=upstream
    serve_bare upstream "$@" -- /usr/bin/python3 "$ROOT/tests/programs/answer_server.py" $((port + 1))
    wait_port $((port + 1))
}

# start_python [SECONDS [VARIABLE...]]: between head and body.
start_python() {
    local between=${1:-0}
    shift $(($# > 0))
    cat >"$temporary/server.py" <<'END2'
import http.server, random, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0  # the head is one write, the body another

    def do_GET(self):
        body = bytes(random.randint(1, 5000))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(float(sys.argv[2]))
        self.wfile.write(body)

    def log_message(self, *message):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1000

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
END2
    serve server "$@" -- /usr/bin/python3 "$temporary/server.py" "$port" "$between"
    wait_port "$port"
}

@test "nginx: clients that never rest are told within two seconds, and none has lost an answer" {
    mkdir "$temporary/files"
    echo 'It works' >"$temporary/files/index.html"
    start_nginx ''
    rests_never --connections 200
}

# nginx watches for the end, so that a half-close alone would not do; and no two answers are alike.
@test "nginx, files of many lengths: told within two seconds, and none has lost an answer" {
    local n
    mkdir "$temporary/files"
    for n in $(seq -w 0 99); do
        head -c $((10#$n * 97 + 1)) /dev/zero >"$temporary/files/$n"
    done
    # The last two digits of the time in ms.
    start_nginx 'location / { rewrite ^ /$msec; }
                 location ~ "(?<last>..)$" { rewrite ^ /$last break; }'
    curl -sf "http://127.0.0.1:$port/" -o "$temporary/one"
    rests_never --connections 100
}

@test "redis: clients that never rest are told within two seconds, and none has lost an answer" {
    trigger=RTMIN+3 # Redis 7.2 has a use for SIGUSR2
    serve server WEIR_SIGNAL=$trigger -- redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$temporary"
    wait_port "$port"
    rests_never --connections 200 --protocol redis
}

# Others keep it from its processor for milliseconds at a time, between any two of its steps.
@test "redis with a quarter of a processor: clients that never rest are told, and none has lost an answer" {
    local i most=8000
    trigger=RTMIN+3
    serve server WEIR_SIGNAL=$trigger -- taskset -c 0 redis-server --bind 127.0.0.1 --port "$port" --save '' \
        --dir "$temporary"
    wait_port "$port"
    for i in 1 2 3; do
        taskset -c 0 sh -c 'ulimit -t 50; while :; do :; done' 3>&- &
        STARTED+=("$!")
    done
    rests_never --connections 50 --protocol redis
}

@test "memcached: clients that never rest are told within two seconds, and none has lost an answer" {
    serve server -- memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(somebody)"
    wait_port "$port"
    rests_never --connections 200 --protocol memcached
}

@test "memcached, a value kept and asked for in turn: told within two seconds, and none has lost an answer" {
    serve server -- memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(somebody)"
    wait_port "$port"
    rests_never --connections 50 --protocol cache
}

@test "Python's http.server: clients that never rest are told within two seconds, and none has lost an answer" {
    start_python
    rests_never --connections 20
}

# A server's thread that was kept from the body for longer than WEIR_SETTLE has found the connection
# half-closed behind it, and reads the end just when the client asks again. strace keeps each FIN
# back, so that the request comes in between the last look for it and the FIN.
@test "Python's http.server, late with its bodies: the request that follows one at once is answered" {
    local strace
    start_python 0.2
    busy clients --connections 20 --pause 1-3 "$port"
    pause 0.7
    strace -qq -f -p "$SERVER_PID" -o /dev/null -e trace=shutdown \
        -e inject=shutdown:delay_enter=5000 &
    strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    pause 0.3
    kill -s "$trigger" "$SERVER_PID"
    load_ends clients
    kill "$strace"
    nothing_lost
    wait_drained server 2
}

@test "Node: clients that never rest are told within two seconds, and none has lost an answer" {
    serve server -- node -e '
        require("http").createServer((request, response) => {
            response.end("It works\n".repeat(1 + Math.random() * 500));
        }).listen({ port: Number(process.argv[1]), host: "127.0.0.1", backlog: 1000 })' "$port"
    wait_port "$port"
    rests_never --connections 200
}

@test "asyncio: clients that never rest are told within two seconds, and none has lost an answer" {
    start_asyncio
    rests_never --path /short
}

@test "answers of many lengths, in one write each: told within two seconds, nothing lost" {
    start_asyncio
    rests_never --path /varied
}

@test "answers in two to five writes at once: told within two seconds, nothing lost" {
    start_asyncio
    rests_never --path /parts
}

@test "clients that do not pause at all are told within two seconds, nothing lost" {
    start_asyncio
    crossed_most=50
    rests_never --path /short --pause 0-0
}

# --- answers that are slow, not finished

# Pieces that come up to nearly WEIR_SETTLE apart, with room for the pauses of a busy machine.
paced=(ANSWER_GAP=400-700)
settle=(WEIR_SETTLE=800ms)

# streams [OPTION...] -- START...: the drain comes in the middle of what `server` and `upstream` stream.
# Where the machine was so busy that a piece came too late, it says nothing: once more.
streams() {
    local options=() try
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    for try in 1 2 3 4; do
        "$@"
        busy "clients$try" "${options[@]}" "$port"
        pause 0.6
        [[ ${options[*]} != *sometimes* ]] || kill -USR1 "$origin"
        kill -s "$trigger" "$SERVER_PID"
        load_ends "clients$try"
        if nothing_lost; then break; fi
        log_has "$origin_log" '^late '
        [ "$try" != 4 ]
        port=$((port + 2))
    done
    wait_drained server 2
    log_has server "^weir\[$SERVER_PID\] .*: drained in [0-9.]+m?s: .* 0 forced; the program runs on"
}

start_slow_asyncio() {
    start_asyncio "${paced[@]}" "${settle[@]}"
    origin=$SERVER_PID
}

start_slow_nginx() {
    start_upstream "${paced[@]}" "${@:2}"
    origin=$SERVER_PID
    start_nginx "location / { proxy_pass http://origin; $1
                              proxy_http_version 1.1; proxy_set_header Connection ''; }" \
        "${settle[@]}"
}

start_slow_haproxy() {
    start_upstream "${paced[@]}"
    origin=$SERVER_PID
    cat >"$temporary/haproxy.cfg" <<END2
defaults
    mode http
    option http-keep-alive
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:$port
    default_backend back
backend back
    server one 127.0.0.1:$((port + 1))
END2
    serve server "${settle[@]}" -- haproxy -db -f "$temporary/haproxy.cfg"
    wait_port "$port"
}

@test "pieces 50 to 95 ms apart are one answer, with WEIR_SETTLE at 100 ms" {
    streams --path /stream --requests 4 --connections 10 -- start_asyncio
}

@test "an answer in pieces is not taken for finished, the first of its connection nor the next" {
    streams --path /stream --requests 3 -- start_slow_asyncio
}

@test "an answer in pieces, after many short ones on its connection, is not taken for finished" {
    streams --path /sometimes --requests 300 -- start_slow_asyncio
}

# answers_in_pieces REQUEST LINES DRAIN_AT: asks on $client for so many lines; the drain begins when so
# many have come.
answers_in_pieces() {
    local line i
    conn_send "$client" "$1"
    for ((i = 0; i < $2; i++)); do
        [ "$i" != "$3" ] || kill -s "$trigger" "$SERVER_PID"
        read_line line "$client" 5
        [ "$line" = "piece $i" ]
    done
}

# It stops at its client's end of file, and nothing but its pauses says that an answer goes on.
start_pausing() {
    serve server WEIR_FIRST_BYTE=4s -- /usr/bin/python3 -c '
import select, socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def answer(connection):
    while asked := connection.recv(100):
        for piece in range(int(asked)):
            connection.send(b"piece %d\n" % piece)
            if select.select([connection], [], [], 0.4)[0]:
                break
    connection.close()
while True:
    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()' "$port"
    wait_port "$port"
}

@test "an answer with pauses longer than WEIR_SETTLE, of a server that stops at the end, is not cut" {
    local client
    start_pausing
    conn_open client "$port"
    answers_in_pieces 1 1 -
    pause 0.5
    answers_in_pieces 1 1 -
    pause 0.5
    answers_in_pieces 9 9 3
    at_eof "$client" 10
    wait_drained server 5
    log_has server ": 1 closed clean, 0 forced; the program runs on$"
}

@test "such an answer that has only begun is not cut either: another one tells of the pauses" {
    local client other line
    start_pausing
    conn_open client "$port"
    conn_open other "$port"
    answers_in_pieces 1 1 -
    pause 0.5
    answers_in_pieces 1 1 -
    conn_send "$other" 5
    for _ in 1 2 3 4 5; do
        read_line line "$other" 5
    done
    pause 0.5
    answers_in_pieces 9 9 1
    all_at_eof 10 "$client" "$other"
    wait_drained server 5
    log_has server ": 2 closed clean, 0 forced; the program runs on$"
}

@test "nginx: an answer whose rate is limited is not cut, in mode reply as well" {
    local client
    mkdir "$temporary/files"
    for i in {0..39}; do
        printf 'piece %d %0500d\n' "$i" 0
    done >"$temporary/files/large"
    echo small >"$temporary/files/small"
    start_nginx "location /large { limit_rate 10k; output_buffers 1 2k; sendfile off; }" \
        WEIR_FIRST_BYTE=3s
    curl -s -S -m 60 "http://127.0.0.1:$port/"{small,small,large} >"$temporary/got" &
    client=$!
    wait_until 20 grep -q '^piece 8 ' "$temporary/got"
    kill -s "$trigger" "$SERVER_PID"
    wait "$client"
    cmp "$temporary/got" <(cat "$temporary/files/"{small,small,large})
    wait_drained server 5
    log_has server ": 1 closed clean, 0 forced; the program runs on$"
}

@test "nginx as a proxy passes on an answer in pieces: it is not aborted" {
    streams --path /stream --requests 3 -- start_slow_nginx 'proxy_buffering off;'
}

# Pieces that fill nginx's buffers, or it would keep them back for longer than WEIR_SETTLE.
@test "nginx as a proxy with buffers passes on an answer in pieces: it is not aborted" {
    streams --path /stream --requests 3 -- start_slow_nginx '' ANSWER_PIECE=9000
}

@test "nginx as a proxy passes on an answer in pieces after many short ones" {
    streams --path /sometimes --requests 300 -- start_slow_nginx 'proxy_buffering off;'
}

@test "HAProxy passes on an answer in pieces: it is not aborted" {
    streams --path /stream --requests 3 -- start_slow_haproxy
}

@test "HAProxy passes on an answer in pieces after many short ones" {
    streams --path /sometimes --requests 300 -- start_slow_haproxy
}

# --- pipelines, uploads, PostgreSQL

@test "redis: clients with 16 requests at a time, for ever, lose no answer" {
    trigger=RTMIN+3 # Redis 7.2 has a use for SIGUSR2
    serve server WEIR_SIGNAL=$trigger -- redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$temporary"
    wait_port "$port"
    rests_never --protocol redis --pipeline 16
}

@test "nginx: clients with 16 requests at a time, for ever, lose no answer" {
    mkdir "$temporary/files"
    echo 'It works' >"$temporary/files/index.html"
    start_nginx ''
    rests_never --pipeline 16
}

# From a dialog within each exchange nothing is learned: the clients are told once they rest. A busy
# machine may keep one that has its "100 Continue" from its body for longer than WEIR_SETTLE; and they
# are to come to their rest before half of the timeout is over, when all are closed.
unhurried=(WEIR_SETTLE=3s WEIR_FIRST_BYTE=3s WEIR_TIMEOUT=120s)

@test "nginx: uploads that wait for 100 Continue, one after the other, are not cut" {
    mkdir "$temporary/files"
    start_nginx "location / { dav_methods PUT; client_max_body_size 10m; }" "${unhurried[@]}"
    most=8000
    rests_never --protocol upload --connections 20 --requests $((250 / $(patience)))
}

@test "asyncio: uploads that wait for 100 Continue, one after the other, are not cut" {
    start_asyncio "${unhurried[@]}"
    most=8000
    rests_never --protocol upload --connections 20 --requests $((400 / $(patience)))
}

# --- PostgreSQL

@test "PostgreSQL under 50 clients that never rest: no statement that it received goes unanswered" {
    trigger=RTMIN+3
    postgres WEIR_SIGNAL=RTMIN+3
    rests_never --protocol postgres
}

fifty_are_in() {
    "$ROOT/build/weir" status "$SERVER_PID" --json | grep -q '"connections": {"tracked": 50,'
}

@test "PostgreSQL under pgbench -S with 50 clients: the drain ends, none is reset" {
    trigger=RTMIN+3
    postgres WEIR_SIGNAL=RTMIN+3
    "$postgres_bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -i -q postgres 3>&- \
        >"$temporary/init.out" 2>&1
    "$postgres_bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -S -c 50 -j 2 -T 60 \
        postgres 3>&- >"$temporary/pgbench.out" 2>"$temporary/pgbench.log" &
    CLIENTS=$!
    LOGGED+=(pgbench)
    STARTED+=("$CLIENTS")
    wait_until 10 fifty_are_in
    pause 1
    kill -s "$trigger" "$SERVER_PID"
    wait_drained server 4
    log_has server "^weir\[$SERVER_PID\] .*: drained in [0-9.]+m?s: .* 0 forced; the program runs on"
    wait "$CLIENTS" || true
    cat "$temporary/pgbench.out"
    grep -q 'number of failed transactions: 0 ' "$temporary/pgbench.out"
    not log_has pgbench 'reset by peer'
}
