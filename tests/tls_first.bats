#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# TLS, in mode protocol: what a server says of itself before its first answer (tickets, the SETTINGS of
# HTTP/2) is not taken for that answer, although it takes long.
# mutant: shim/http/parser_tls.c: s/mark->flags \|= doubted \? DOUBTED : ANSWERED/mark->flags |= ANSWERED/
# needs: h2o nginx-light apache2 haproxy nodejs openssl python3
# seconds: 20
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load http2
unset WEIR_MODE # the default, protocol

setup_file() {
    cd "$BATS_FILE_TMPDIR" || return
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -keyout key.pem -out certificate.pem 2>openssl.log
    cat certificate.pem key.pem >both.pem
}

setup() {
    port=$((27400 + 10 * BATS_TEST_NUMBER))
    tls=$BATS_FILE_TMPDIR
}

# begins SETTING... -- COMMAND...: the time for an answer in doubt is such as no busy machine takes.
begins() {
    serve server WEIR_TIMEOUT=80s WEIR_NOTICE="${notice:-40s}" "$@"
    server=$SERVER_PID
}

start_tls_node() {
    begins -- node "$ROOT/tests/programs/tls_server.js" "$port" "$tls/key.pem" "$tls/certificate.pem"
    wait_port "$port"
}

# asks PROTOCOL PATH: a client that has said what it has to.
asks() {
    serve_bare client -- /usr/bin/python3 "$ROOT/tests/programs/tls_first.py" "$port" "$@"
    wait_until 20 log_has client '^asked$'
}

# answers PROTOCOL: what is asked first has its answer in a drain, although that takes three seconds.
answers() {
    asks "$1" /slow3
    timeout 90 "$ROOT/build/weir" drain --wait "$server" >"$BATS_TEST_TMPDIR/drained" 2>&1
    wait_until 10 log_has client '^(whole|lost)$'
    log_has client '^whole$'
    grep -q ': drained in .* 0 forced' "$BATS_TEST_TMPDIR/drained"
}

@test "Node: a first answer that is slow is whole, in HTTP/2" {
    start_tls_node
    answers h2
}

@test "Node: the same in HTTP/1.1, where the server's tickets come behind the request" {
    start_tls_node
    answers http1
}

@test "nginx: a first answer that is slow is whole" {
    start_nginx
    answers h2
}

@test "HAProxy: a first answer that is slow is whole" {
    start_haproxy
    answers h2
}

@test "Apache: a first answer that is slow is whole" {
    start_apache
    answers h2
}

@test "nginx: what is beyond doubt a request is in use for as long as it takes" {
    notice=100ms
    start_nginx
    answers h2-apart
}

@test "Node: an idle connection whose SETTINGS were acknowledged behind its answer is closed soon" {
    start_tls_node
    asks h2-stays /
    wait_until 20 log_has client '^acknowledged$'
    timeout 90 "$ROOT/build/weir" drain --wait "$server" >"$BATS_TEST_TMPDIR/drained" 2>&1
    wait_until 10 log_has client '^ended$'
    grep -q ': drained in .* 0 forced' "$BATS_TEST_TMPDIR/drained"
}
