#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# HTTP/2 in the clear, in mode protocol: what is open is answered whole, however long it pauses and
# whatever else was answered meanwhile; what is idle is closed, whatever frame came last.
# Its clients are told so in its own words, and none is reset.
# mutant: shim/http/streams.c: s/rest != BOTH_OPEN \&\& rest != ended/rest != ended/
# needs: nginx-light nghttp2-client nghttp2-server apache2 haproxy nodejs curl
# seconds: 52
# shellcheck shell=bash disable=SC2030,SC2031,SC2154

load helpers
load configs
load http2
unset WEIR_MODE # the default, protocol

setup() {
    port=$((24000 + 10 * BATS_TEST_NUMBER))
}

# client NAME HOW [COUNT]: in the background, when it is ready.
client() {
    serve_bare "$1" -- /usr/bin/python3 "$ROOT/tests/programs/h2_client.py" "$port" "${@:2}"
    wait_until 20 log_has "$1" '^ready$'
}

# drains: 0, that is all were answered, and nothing was lost.
drains() {
    timeout 30 "$ROOT/build/weir" drain --wait "$1" >"$BATS_TEST_TMPDIR/drained" 2>&1 || {
        cat "$BATS_TEST_TMPDIR/drained"
        return 1
    }
    grep -q ': drained in .* 0 forced' "$BATS_TEST_TMPDIR/drained"
}

# says NAME REGEX: a client that has ended. It was told to open no more streams, and which one was its
# last, while none was open; and then came the end.
told='.*, goaways \[.most., [0-9]+\] beside \[0, 0\]: end'

says() {
    wait_until 10 log_has "$1" '^answered '
    log_has "$1" "$2"
}

# slow_is_whole: a stream that is open when the drain begins, and others that are answered.
slow_is_whole() {
    local server=$SERVER_PID
    client slow slow 3
    drains "$server"
    says slow "^answered 21, failed 0, open 0, $told$"
}

# idle_is_closed: connections whose last frame nobody answers. They are closed at once, not at the
# timeout.
idle_is_closed() {
    local server=$SERVER_PID began last
    for last in none priority window rst; do
        client "$last" idle "$last"
    done
    began=$(now_ms)
    drains "$server"
    within $(($(now_ms) - began)) 3000
    for last in none priority window rst; do
        says "$last" "^answered 1, failed 0, open 0, $told$"
    done
}

@test "Node: a stream that is answered after 3 s beside short ones is whole, and its connection is waited for" {
    start_node
    slow_is_whole
}

@test "nginx: a stream that is answered after 3 s beside short ones is whole" {
    start_nginx
    slow_is_whole
}

@test "HAProxy: a stream that is answered after 3 s beside short ones is whole" {
    start_haproxy
    slow_is_whole
}

@test "Apache: a stream that is answered after 3 s beside short ones is whole" {
    start_apache
    slow_is_whole
}

@test "Node: an answer in pieces, with pauses longer than WEIR_SETTLE, is whole" {
    start_node
    client stream stream 6
    drains "${STARTED[0]}"
    says stream "^answered 2, failed 0, open 0, last .'whole'., goaways \[.most., 3\] beside \[0, 0\]: end$"
}

@test "Node: a request whose body comes in pieces, with pauses longer than WEIR_SETTLE, is answered" {
    start_node
    client upload upload 4
    drains "${STARTED[0]}"
    says upload "^answered 2, failed 0, open 0, $told$"
}

@test "Node: a client that asks again and again is told behind an answer, and loses nothing" {
    start_node
    for i in 1 2 3 4 5 6 7 8; do
        client "loop$i" loop
    done
    drains "${STARTED[0]}"
    for i in 1 2 3 4 5 6 7 8; do
        says "loop$i" "^answered [0-9]+, failed 0, open 0, ${told/0,/[01],}$" # one may have crossed it
    done
}

# late_is_served: a client that had no time to read what it was told for a while, and has asked again
# meanwhile.
late_is_served() {
    local server=$SERVER_PID
    client late late
    drains "$server"
    says late '^answered 2, failed 0, open 0, .*, goaways \[.most., 3\] beside \[1, 0\]: end$'
}

@test "Node: a request of a client that has not read for longer than WEIR_SETTLE that it is to send no more" {
    start_node WEIR_LINGER=10s
    late_is_served
}

@test "Apache: a request of a client that has not read for longer than WEIR_SETTLE that it is to send no more" {
    WEIR_LINGER=10s start_apache
    late_is_served
}

@test "Node: a client that does not answer our PING is waited for WEIR_LINGER long" {
    start_node WEIR_LINGER=1s
    client mute mute
    drains "${STARTED[0]}"
    says mute "^answered 1, failed 0, open 0, $told$"
}

@test "Node: a UNIX socket, of which the kernel knows no times" {
    port=$BATS_TEST_TMPDIR/h2.sock
    start_node
    idle_is_closed
}

@test "Node: where a stream is open all the time, the client is told at half of WEIR_TIMEOUT, beside it" {
    start_node WEIR_TIMEOUT=16s
    client slow slow 12
    drains "${STARTED[0]}"
    says slow '^answered 21, failed 0, open 0, .*, goaways \[.most., 41\] beside \[1, 0\]: end$'
}

@test "Node: who goes on sending behind the end is not reset, and not waited for after WEIR_LINGER" {
    start_node
    client stay stay
    drains "${STARTED[0]}"
    says stay "^answered 1, failed 0, open 0, $told, and end$"
}

@test "Node: connections are idle whatever frame came last, and one whose client has answered our PING is closed" {
    start_node WEIR_LINGER=10s
    idle_is_closed
}

@test "nginx: connections are idle whatever frame came last" {
    start_nginx
    idle_is_closed
}

@test "nghttpd: connections are idle whatever frame came last" {
    start_nghttpd
    idle_is_closed
}

@test "HAProxy: connections are idle whatever frame came last" {
    start_haproxy
    idle_is_closed
}

@test "Apache: connections are idle whatever frame came last" {
    start_apache
    idle_is_closed
}

@test "Apache: an upgrade from HTTP/1.1 is HTTP/2 from there on" {
    local server
    start_apache
    server=$SERVER_PID
    client upgraded upgrade 3
    log_has upgraded '^HTTP/1.1 101 '
    drains "$server"
    says upgraded '^answered 2, failed 0, open 0, ' # Apache says a goodbye of its own there
}

@test "curl, nghttp and h2load are answered by nginx as they are without Weir" {
    start_nginx
    [ "$(curl -s --http2-prior-knowledge "http://127.0.0.1:$port/")" = 'It works' ]
    [ "$(nghttp "http://127.0.0.1:$port/")" = 'It works' ]
    h2load -n 2000 -c 10 -m 10 "http://127.0.0.1:$port/" >"$BATS_TEST_TMPDIR/h2load"
    grep -q '2000 succeeded, 0 failed' "$BATS_TEST_TMPDIR/h2load"
    "$ROOT/build/weir" status "$SERVER_PID" --json >"$BATS_TEST_TMPDIR/status"
    grep -q '"in_use": 0' "$BATS_TEST_TMPDIR/status"
    drains "$SERVER_PID"
}
