#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Mode http and what goes over the wire: outside of a drain each answer has the bytes that it has
# without the shim; in a drain one header line more says "Connection: close", or a keep-alive in it
# does so in its place, and nothing else differs.
# mutant: shim/http/close_header.c: s/\? REPLACES : 0/? INSERTS : 0/
# seconds: 19
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load web

setup() {
    port=$((31000 + 100 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    # One request after the other: the last one is to be told as well, however long that takes.
    mode=(WEIR_MODE=protocol WEIR_NOTICE=30s WEIR_TIMEOUT=60s WEIR_LINGER=20s)
}

# same_bytes [NAME=VALUE...] START...: of what `requests` has, a line each:
# METHOD PATH HTTP-VERSION HEADER;HEADER... BODY
same_bytes() {
    how=serve_bare asks bare "$@"
    how=serve asks shim "$@"
    how=serve asks drained "$@"
    talks "$temporary" <<'END'
import pathlib, sys
at = pathlib.Path(sys.argv[1])

def undated(raw): # nor is the order in which Apache lists methods the same each time
    return re.sub(rb"(?i)(?<=\r\n)(Date|Allow): [^\r]*", rb"\1:", raw)

told = 0
for file in sorted((at / "bare").iterdir()):
    bare, shim, drained = (undated((at / how / file.name).read_bytes())
                           for how in ("bare", "shim", "drained"))
    assert shim == bare, (file.name, bare[:600], shim[:600])
    if drained == bare: # the server has closed it, and said so itself as a rule
        assert (at / "drained" / (file.name + ".ended")).exists(), (file.name, bare[:600])
        continue
    assert without_notice(drained, bare) == bare, (file.name, bare[:600], drained[:600])
    told += 1
print(told, "answers with a notice")
assert told >= 5
END
}

# asks DIRECTORY START...: each request on a connection of its own, which has been answered once.
asks() {
    local at=$temporary/$1
    shift
    port=$((port + 1))
    mkdir "$at"
    "$@"
    talks "$at" 3<<<"$requests" <<'END'
import sys
at, drains = sys.argv[1], sys.argv[1].endswith("drained")
requests = [line.split(" ", 4) for line in open(3).read().splitlines() if line]
some = connections(len(requests))
if drains:
    trigger()
def ask(connection, method, path, version, headers="", body=""):
    more = "".join(header.replace("_", " ") + "\r\n" for header in headers.split(";") if header)
    connection.request(path, method, more, body.encode(), version)
    answer = connection.answer(method)
    raw = answer.raw
    while answer.status == 100:
        answer = connection.answer(method)
        raw += answer.raw
    return raw

for number, (connection, request) in enumerate(zip(some, requests)):
    raw = ask(connection, *request)
    ended = drains and connection.ends()
    if drains and not ended: # this process had not come to its drain when it answered
        raw = ask(connection, *request)
        assert connection.ends(), request
    method, path, version, headers = (request + [""])[:4]
    name = f"{at}/{number:02} {method} {path[1:] or 'root'} {version} {headers.split(':')[0]}"
    open(name, "wb").write(raw)
    if drains:
        open(name + ".ended", "w")
END
    [ "$how" = serve_bare ] || [ "${at##*/}" = drained ] || log_has server 'ready: mode protocol'
    stops
}

common='GET / 1.1
HEAD / 1.1
GET /missing 1.1
HEAD /missing 1.1
GET / 1.0 Connection:_keep-alive
GET / 1.1 Connection:_keep-alive
GET / 1.1 Connection:_Keep-Alive,_TE;TE:_trailers
GET / 1.0
GET / 1.1 Connection:_close
DELETE / 1.1'

static="$common"'
GET /large 1.1
HEAD /large 1.1
GET /empty 1.1
GET /large 1.1 Range:_bytes=5-20000
GET /large 1.1 Range:_bytes=-1
GET /large 1.1 Range:_bytes=99999999-
GET / 1.1 If-Modified-Since:_Mon,_01_Jan_2024_00:00:00_GMT
GET / 1.1 If-Match:_"none"
GET /large 1.1 Accept-Encoding:_gzip
GET /large 1.0 Connection:_keep-alive
POST / 1.1 A:_b body=of&the=request
POST / 1.1 Expect:_100-continue body=of&the=request'

dynamic="$common"'
GET /chunked 1.1
HEAD /chunked 1.1
GET /old 1.1
POST / 1.1 A:_b body
POST / 1.0 Connection:_keep-alive body
POST / 1.1 Expect:_100-continue body'

@test "nginx: no byte differs outside of a drain, and in it one line" {
    requests=$static
    locations='gzip on; gzip_types *;'
    same_bytes start_nginx
}

@test "nginx, sending from memory: no byte differs outside of a drain, and in it one line" {
    requests=$static
    locations='sendfile off; output_buffers 2 3000; tcp_nopush off;'
    same_bytes start_nginx
}

@test "Apache, event: no byte differs outside of a drain, and in it one line" {
    requests=$static
    apache_also='AddOutputFilterByType DEFLATE text/html
        <Location /large>
            SetOutputFilter DEFLATE
        </Location>'
    same_bytes start_apache event
}

@test "Apache, prefork: no byte differs outside of a drain, and in it one line" {
    requests=$static
    same_bytes start_apache prefork
}

@test "lighttpd: no byte differs outside of a drain, and in it one line" {
    requests=$static
    same_bytes start_lighttpd
}

@test "Node: no byte differs outside of a drain, and in it one line" {
    requests=$dynamic
    same_bytes start_node
}

@test "Python's http.server: no byte differs outside of a drain, and in it one line" {
    requests=$dynamic
    same_bytes start_python
}

@test "nginx before Node: no byte differs outside of a drain, and in it one line" {
    local origin=$((port + 90))
    port=$origin how=serve_bare name=origin start_node
    requests=$dynamic
    locations="location / { proxy_pass http://127.0.0.1:$origin; }"
    same_bytes start_nginx
}

@test "HAProxy before Node: no byte differs outside of a drain, and in it one line" {
    local origin=$((port + 90))
    port=$origin how=serve_bare name=origin start_node
    requests=$dynamic
    same_bytes start_haproxy 'default_backend back' "backend back
    server one 127.0.0.1:$origin"
}
