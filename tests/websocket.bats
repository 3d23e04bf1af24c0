#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# WebSocket in mode protocol: in a drain a client is told by a Close, 1001, between two messages; what
# it has asked is answered before, and its own Close goes to the program.
# mutant: shim/http/parser_websocket.c: s/mark->count = scan->other.count/(void)mark/
# needs: nodejs node-ws python3-websockets python3-tornado python3-aiohttp nginx-light haproxy
# seconds: 27
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load goodbye
unset WEIR_MODE # the default, protocol

CLIENT=ws_client.py

setup() {
    port=$((25000 + 10 * BATS_TEST_NUMBER))
}

# start LIBRARY [VAR=value...]: its server.
start() {
    local library=$1 command=(/usr/bin/python3 "$ROOT/tests/programs/ws_server.py" "$1" "$port")
    shift
    [ "$library" != ws ] || command=(node "$ROOT/tests/programs/ws_server.js" "$port")
    NODE_PATH=/usr/share/nodejs serve server WEIR_TIMEOUT=60s "$@" -- "${command[@]}"
    server=$SERVER_PID
    wait_port "$port"
}

# each_is_told LIBRARY: clients that have asked in different ways, and are answered before half of the
# timeout.
each_is_told() {
    start "$1"
    client idle idle
    client pong pong
    client slow slow 2
    client halves halves
    client loop loop
    drains
    [ "$took" -lt 30000 ]
    says idle 'answered 1 of 1, closed 1001, pong 0: end'
    says pong 'answered 1 of 1, closed 1001, pong 1: end'
    says slow 'answered 2 of 2, closed 1001, pong 0: end'
    says halves 'answered 2 of 2, closed 1001, pong 0: end'
    wait_until 5 told_program 5
    looped_once
}

# told_program COUNT: so many clients' Close has come to it, and none has gone without.
told_program() {
    [ "$(grep -c '^closed 1001$' "$BATS_TEST_TMPDIR/server.log")" = "$1" ] &&
        not log_has server '^gone$'
}

# looped_once: the client that never rests has had answers to all but one message, which has crossed the
# Close.
looped_once() {
    local answered asked
    says loop 'answered [0-9]+ of [0-9]+, closed 1001, pong 0: end'
    read -r answered asked < <(sed -nE 's/^answered ([0-9]+) of ([0-9]+),.*/\1 \2/p' "$BATS_TEST_TMPDIR/loop.log")
    [ "$answered" -gt 2 ]
    [ $((asked - answered)) -le 1 ]
}

@test "Node's ws: what was asked is answered, and each client is told by a Close" {
    each_is_told ws
}

@test "Python's websockets: what was asked is answered, and each client is told by a Close" {
    each_is_told websockets
}

@test "tornado: what was asked is answered, and each client is told by a Close" {
    each_is_told tornado
}

@test "aiohttp: what was asked is answered, and each client is told by a Close" {
    each_is_told aiohttp
}

# start_proxy COMMAND...: in front of Node's server, which is not drained.
start_proxy() {
    NODE_PATH=/usr/share/nodejs serve_bare behind -- node "$ROOT/tests/programs/ws_server.js" $((port + 1))
    wait_port $((port + 1))
    serve server WEIR_TIMEOUT=60s -- "$@"
    server=$SERVER_PID
    wait_port "$port"
}

# each_is_told_by_proxy: and the server behind it has their Close.
each_is_told_by_proxy() {
    client idle idle
    client slow slow 2
    client loop loop
    drains
    says idle 'answered 1 of 1, closed 1001, pong 0: end'
    says slow 'answered 2 of 2, closed 1001, pong 0: end'
    says loop 'answered [0-9]+ of [0-9]+, closed 1001, pong 0: end'
    wait_until 5 log_has behind '^closed 1001$'
    not log_has behind '^gone$'
}

@test "nginx between: what was asked is answered, and each client is told by a Close" {
    local at=$BATS_TEST_TMPDIR
    cat >"$at/nginx.conf" <<END
daemon off;
pid $at/nginx.pid;
$(nginx_user)
events {}
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port;
        location / {
            proxy_pass http://127.0.0.1:$((port + 1));
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
}
END
    start_proxy nginx -c "$at/nginx.conf" -e "$at/nginx.err"
    each_is_told_by_proxy
}

@test "HAProxy between: what was asked is answered, and each client is told by a Close" {
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
listen web
    bind 127.0.0.1:$port
    server behind 127.0.0.1:$((port + 1))
END
    start_proxy haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    each_is_told_by_proxy
}

@test "Chromium: an idle page is told by a Close, and takes it for a clean one" {
    command -v chromium >/dev/null || skip "there is no chromium (300 MB)"
    cat >"$BATS_TEST_TMPDIR/page.html" <<END
<script>
const socket = new WebSocket("ws://127.0.0.1:$port/");
socket.onmessage = message => console.log("answered " + message.data);
socket.onopen = () => socket.send("hello");
socket.onclose = event => console.log("closed " + event.code + " " + event.wasClean);
</script>
END
    start ws
    serve_bare page HOME="$BATS_TEST_TMPDIR" -- chromium --headless --no-sandbox --disable-gpu \
        --disable-background-networking --user-data-dir="$BATS_TEST_TMPDIR/chromium" \
        --enable-logging=stderr --remote-debugging-port=$((port + 1)) "file://$BATS_TEST_TMPDIR/page.html"
    wait_until 60 log_has page '"answered hello"'
    drains
    wait_until 10 log_has page '"closed 1001 true"'
    log_has server '^closed 1001$'
}

@test "who is idle is closed at once, whatever frame came last" {
    start ws
    client idle idle
    client pong pong
    drains
    within "$took" 2000
    says idle 'answered 1 of 1, closed 1001, pong 0: end'
    says pong 'answered 1 of 1, closed 1001, pong 1: end'
}

@test "a close-idle tells who is idle, and leaves alone who waits for an answer" {
    start ws
    client idle idle
    client slow slow 2
    "$ROOT/build/weir" close-idle "$server"
    says idle 'answered 1 of 1, closed 1001, pong 0: end'
    wait_until 5 told_program 1
    not log_has server "^gone$"
    drains
    says slow 'answered 2 of 2, closed 1001, pong 0: end'
}

@test "a message that nobody answers is waited for WEIR_NOTICE; it is between two messages all the same" {
    start ws WEIR_NOTICE=2s
    client none none
    "$ROOT/build/weir" status "$server" --json | grep -q '"in_use": 0'
    drains
    [ "$took" -ge 1500 ]
    [ "$took" -lt 30000 ]
    says none 'answered 1 of 2, closed 1001, pong 0: end'
}

@test "who says more and more that nobody answers is closed at half of the timeout" {
    start ws WEIR_TIMEOUT=6s
    client nones nones
    drains
    [ "$took" -ge 2900 ]
    says nones 'answered 1 of [0-9]+, closed 1001, pong 0: (end|reset)'
}

@test "a client that answers no Close is waited for WEIR_LINGER, and the program is told of the end" {
    start websockets WEIR_LINGER=1s
    client silent silent
    drains
    says silent 'answered 1 of 1, closed 1001, pong 0: end'
    log_has server '^gone$'
}
