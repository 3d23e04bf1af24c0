#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Clients with keep-alive that do not look for a close before they send, in mode protocol: the answer to
# the last request says that it is the last, and no request is lost. At any close without a notice
# they lose some.
#
# DRAINS=20 tests/run http: each server is drained so many times.
# mutant: shim/http/close_header.c: s/mark\.what >= 200/mark.what > 200/
# seconds: 61
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load load
load web

setup() {
    port=$((21000 + 100 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    connections=50
}

# is_answered PAUSE: careless clients ask the server, which drains in the middle. Nothing is lost,
# and all have been told.
is_answered() {
    [ "$(curl -s "http://127.0.0.1:$port/")" = 'It works' ]
    load_begins load 15 "$PROGRAMS/load" --connections "$connections" --pause "$1" --seconds 20 "$port"
    sleep "0.$((RANDOM % 4 + 2))"
    drains
    load_ends load
    [ "${totals[answered]}" -ge "$connections" ]
    none_is unanswered reset truncated refused connect_reset open crossed idle_reset
    has_drained "${most:-2500}"
}

# loses_nothing START...: the server that START starts.
loses_nothing() {
    local drain pause
    for ((drain = 0; drain < ${DRAINS:-2}; drain++)); do
        for pause in 0-0.1 0-3; do
            port=$((port + 1))
            "$@"
            is_answered "$pause"
            stops
        done
    done
}

@test "nginx: clients that do not look lose nothing" {
    loses_nothing start_nginx
}

@test "nginx with two workers: clients that do not look lose nothing" {
    workers=2
    loses_nothing start_nginx
}

@test "Apache, event: clients that do not look lose nothing" {
    loses_nothing start_apache event
}

@test "Apache, prefork: clients that do not look lose nothing" {
    loses_nothing start_apache prefork
}

# A CGI request needs a new connection to the helper that forks (mod_cgid), by AF_UNIX.
@test "Apache, event: the socket of its CGI helper stays open until the last request is answered" {
    printf '#!/bin/sh\nprintf "Content-Length: 5\\r\\n\\r\\ndone\\n"\n' >"$temporary/cgi"
    chmod 755 "$temporary/cgi"
    apache_also="LoadModule alias_module $modules/mod_alias.so
LoadModule cgid_module $modules/mod_cgid.so
ScriptSock $temporary/cgid
ScriptAlias /cgi $temporary/cgi"
    start_apache event
    wait_until 10 is_helped
    began=$(now_ms)
    talks "$ROOT/build/weir" <<'END'
import json, sys

def has_stopped():
    said = subprocess.check_output([sys.argv[1], "status", os.environ["SERVER_PID"], "--json"])
    return [each["state"] for each in json.loads(said)["listeners"]
            if each["address"] == f"127.0.0.1:{PORT}"] == ["stopped"]

connection = Connection()
assert b"done\n" in connection.ask("/cgi").body
end = trigger() + 10
while not has_stopped():
    assert time.monotonic() < end
    time.sleep(0.02)
answer = connection.ask("/cgi")
assert answer.status == 200 and b"done\n" in answer.body and answer.is_noticed, answer
END
    has_drained
    not is_helped
    stops
}

# is_helped: something listens on the socket of the helper, whose pid is behind its name.
is_helped() {
    listening_unix "$(echo "$temporary/cgid".*)"
}

@test "lighttpd: clients that do not look lose nothing" {
    loses_nothing start_lighttpd
}

@test "Node: clients that do not look lose nothing" {
    loses_nothing start_node
}

@test "Python's http.server: clients that do not look lose nothing" {
    connections=30
    loses_nothing start_python
}

@test "Node, three workers that get their connections over a socket: clients that do not look lose nothing" {
    workers=3
    loses_nothing start_node
}

@test "Python, three processes that accept: clients that do not look lose nothing" {
    connections=30 workers=3
    loses_nothing start_python
}

@test "HAProxy: clients that do not look lose nothing" {
    loses_nothing start_haproxy \
        'http-request return status 200 content-type text/plain string "It works"' ''
}

# As Debian configures it. As such a user it forbids itself all threads (setrlimit(2), RLIMIT_NPROC).
@test "HAProxy as nobody, where no thread can be made: clients that do not look lose nothing" {
    needs_users
    haproxy_user='user nobody
    group nogroup'
    loses_nothing start_haproxy \
        'http-request return status 200 content-type text/plain string "It works"' ''
}

@test "HAProxy before a server: clients that do not look lose nothing" {
    local origin=$((port + 90))
    port=$origin how=serve_bare name=origin start_node
    loses_nothing start_haproxy 'default_backend back' "backend back
    server one 127.0.0.1:$origin"
}

@test "Java's httpserver: clients that do not look lose nothing" {
    loses_nothing start_java
}
