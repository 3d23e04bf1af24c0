#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Long exchanges, in mode reply: when a drain comes in the middle not a byte is lost, and the drain
# ends when they end.
# mutant: shim/conn/last_answer.c: s/return waits && !sock_unread\(fd\)/return waits || !sock_unread(fd)/
# seconds: 61
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load configs

setup() {
    port=$((17000 + 10 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    trigger=USR2
    large=$((256 * 1024 * 1024))
}

# client NAME KIND ARGUMENT...: in the background; waits until it is in the middle.
client() {
    new_log "$1"
    client_at=$(now_ms)
    PATIENCE=$(patience) /usr/bin/python3 "$ROOT/tests/programs/answer_client.py" "$2" "$port" \
        "${@:3}" 3>&- \
        >"$temporary/$1.log" 2>&1 &
    CLIENT=$!
    LOGGED+=("$1")
    STARTED+=("$CLIENT")
    wait_until 10 log_has "$1" begun
}

# drains: the server in the middle of what the clients do.
drains() {
    began=$(now_ms)
    kill -s "$trigger" "$SERVER_PID"
    wait_until 5 log_has server ': draining: '
    seen_at=$(now_ms)
}

# is_whole NAME PID: and that it had it took longer than until the drain.
is_whole() {
    wait "$2" || { log "$1"; return 1; }
    log_has "$1" '^whole$'
}

# ends_after MS MOST: the drain ended at least so long after the client began, which its exchange takes; it
# took no more than MOST, and forced nothing.
ends_after() {
    local tenths
    wait_drained server 3
    took=$(($(now_ms) - began))
    tenths=$(log server | sed -nE 's/.*: drained in ([0-9]+)\.([0-9])s: .*/\1\2/p')
    echo "drained after $took ms, it says $tenths tenths"
    [ $((seen_at + (10#$tenths + 1) * 100 - client_at)) -ge "$1" ]
    within "$took" "$2"
    log_has server "^weir\[$SERVER_PID\] .*: drained in [0-9.]+m?s: .* 0 forced; the program runs on"
    alive "$SERVER_PID"
}

# start_nginx LOCATIONS [listen options]
start_nginx() {
    mkdir -p "$temporary/files"
    truncate -s "$large" "$temporary/files/large"
    printf 'It works\n' >"$temporary/files/small"
    cat >"$temporary/nginx.conf" <<END2
user root;
daemon off;
master_process off;
pid $temporary/nginx.pid;
error_log stderr notice;
events { worker_connections 1000; }
http {
    access_log off;
    sendfile on;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port $2;
        ssl_certificate $temporary/certificate;
        ssl_certificate_key $temporary/key;
        root $temporary/files;
        $1
    }
}
END2
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -keyout "$temporary/key" -out "$temporary/certificate" 2>"$temporary/openssl.log"
    trigger=RTMIN+3
    serve server WEIR_SIGNAL=RTMIN+3 -- nginx -e stderr -c "$temporary/nginx.conf"
    wait_port "$port"
}

start_python() {
    serve server -- /usr/bin/python3 -c '
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for _ in range(size >> 20):
            self.wfile.write(bytes(1 << 20))
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        while left:
            got = len(self.rfile.read(min(left, 1 << 16)))
            if not got:
                return
            left -= got
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()' "$port"
    wait_port "$port"
}

start_asyncio() {
    serve server "$@" -- /usr/bin/python3 "$ROOT/tests/programs/answer_server.py" "$port"
    wait_port "$port"
}

@test "nginx: 256 MiB by sendfile to a slow reader arrive whole" {
    start_nginx
    client reader download /large "$large" 4
    drains
    is_whole reader "$CLIENT"
    ends_after 3900 5500
}

@test "Python: 256 MiB to a slow reader arrive whole" {
    start_python
    client reader download "/$large" "$large" 4
    drains
    is_whole reader "$CLIENT"
    ends_after 3900 5500
}

@test "nginx: 256 MiB that are being received are received" {
    start_nginx 'dav_methods PUT; client_max_body_size 1g;'
    client writer upload /received "$large" 4
    drains
    is_whole writer "$CLIENT"
    [ "$(stat -c %s "$temporary/files/received")" = "$large" ]
    ends_after 3900 5500
}

@test "Python: 256 MiB that are being received are received" {
    start_python
    client writer upload / "$large" 4
    drains
    is_whole writer "$CLIENT"
    ends_after 3900 5500
}

@test "a long poll that is answered after five seconds is answered" {
    start_asyncio
    client poll ask '/long?5' 'at last'
    sleep 0.3
    drains
    is_whole poll "$CLIENT"
    ends_after 4900 6500
}

@test "nginx: a pipeline of a hundred requests is answered, to the last" {
    start_nginx
    client pipeline pipeline /small 100
    drains
    is_whole pipeline "$CLIENT"
    ends_after 0 3000
}

@test "asyncio: a pipeline of a hundred requests is answered, to the last" {
    start_asyncio
    client pipeline pipeline /parts 100
    drains
    is_whole pipeline "$CLIENT"
    ends_after 0 3000
}

@test "asyncio: a pipeline of a hundred slow answers is answered, to the last" {
    start_asyncio
    client pipeline pipeline '/long?0.02' 100
    drains
    is_whole pipeline "$CLIENT"
    ends_after 0 4000
}

@test "nginx with TLS: 256 MiB to a slow reader arrive whole" {
    start_nginx '' ssl
    client reader tls /large "$large" 5
    drains
    is_whole reader "$CLIENT"
    ends_after 4900 9000
}

@test "nginx: a TLS handshake whose client pauses is finished, and its request is answered" {
    local moment number=0 pids=()
    start_nginx '' ssl
    # A client each 20 ms: the drain meets each step of the handshake.
    for moment in 1 2 3 4 5 6 7 8 9 10; do
        client "client$moment" handshake /small
        pids+=("$CLIENT")
    done
    drains
    for moment in 1 2 3 4 5 6 7 8 9 10; do
        is_whole "client$moment" "${pids[number++]}"
    done
    ends_after 0 3000
}

# The client ends these itself, and a busy machine may keep it from that for longer than WEIR_SETTLE.
unhurried=(WEIR_SETTLE=5s WEIR_FIRST_BYTE=5s)

@test "streams in both directions at once lose not a byte, and the drain ends with them" {
    start_asyncio "${unhurried[@]}"
    client both flood 3
    sleep 0.3
    drains
    is_whole both "$CLIENT"
    ends_after 2900 5000
}

@test "a stream whose sender seems to wait for what comes back is not cut" {
    start_asyncio "${unhurried[@]}"
    client one lockstep 3 20
    sleep 0.3
    drains
    is_whole one "$CLIENT"
    ends_after 2900 5000
}

@test "a stream whose sender seems to wait, and whose blocks a late server reads together, is not cut" {
    start_asyncio "${unhurried[@]}"
    client one lockstep 3 20 together
    sleep 0.3
    drains
    is_whole one "$CLIENT"
    ends_after 2900 5000
}

@test "messages to and fro: none is lost, and the drain ends between two or with the last" {
    local number pids=()
    start_asyncio "${unhurried[@]}"
    for number in 1 2 3 4 5 6 7 8; do
        client "client$number" pingpong 2
        pids+=("$CLIENT")
    done
    sleep 0.3
    drains
    for number in 1 2 3 4 5 6 7 8; do
        is_whole "client$number" "${pids[number - 1]}"
    done
    ends_after 0 4000
}
