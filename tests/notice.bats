#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The close notice of mode protocol: who gets it and when, and what is left alone.
# mutant: shim/http/close_header.c: s/(requests.count - scan->mark.count\)) == 1/\1 >= 1/
# seconds: 61
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load load
load web

setup() {
    port=$((25000 + 100 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
}

# --- WEIR_NOTICE

@test "a silent connection stays open for WEIR_NOTICE: its next request is answered with the notice" {
    for start in start_nginx start_node start_python; do
        port=$((port + 1))
        "$start" WEIR_NOTICE=2s
        talks <<'END'
asks, silent = connections(2)
began = trigger()
time.sleep(0.8)
assert asks.is_open() and silent.is_open()
answer = asks.ask()
assert answer.body == b"It works\n" and answer.is_noticed, answer
assert asks.ends(0.5), "told, and not closed"
assert silent.ends(4)
took = time.monotonic() - began
assert 1.9 <= took <= 3 * PATIENCE, took
END
        stops
    done
}

@test "WEIR_NOTICE=0 closes a silent connection at once" {
    start_nginx WEIR_NOTICE=0
    talks <<'END'
some = connections(5)
trigger()
assert all(connection.ends(0.5) for connection in some)
END
}

@test "by default the notice lasts for half of WEIR_TIMEOUT, and not longer than 5 s" {
    for timeout in 3 25; do
        port=$((port + 1))
        start_nginx "WEIR_TIMEOUT=${timeout}s"
        talks "$timeout" <<'END'
import sys
silent, = connections(1)
began = trigger()
assert silent.ends(8)
took, due = time.monotonic() - began, min(5, int(sys.argv[1]) / 2)
assert due - 0.05 <= took <= due + 0.8 * PATIENCE, took
END
        stops
    done
}

@test "weir drain --timeout: the notice is over well before that" {
    start_nginx
    talks <<'END'
silent, = connections(1)
began = time.monotonic()
weir = os.path.dirname(os.environ["PYTHONPATH"]) + "/../build/weir"
subprocess.run([weir, "drain", "--wait", "--timeout", "2s", os.environ["SERVER_PID"]], check=True)
took = time.monotonic() - began
assert 1.4 <= took <= 1.9 * PATIENCE, took
assert silent.ends(1)
END
}

@test "a connection that has sent nothing is left alone for WEIR_FIRST_BYTE, not for WEIR_NOTICE" {
    start_nginx WEIR_FIRST_BYTE=700ms WEIR_NOTICE=4s
    talks <<'END'
mute, late, asked = Connection(), Connection(), connections(1)[0]
began = trigger()
time.sleep(0.2)
assert late.ask().is_noticed
assert mute.ends(3)
took = time.monotonic() - began
assert 0.6 <= took <= 1.5 * PATIENCE, took
assert asked.is_open()
END
}

# --- what is on its way when the drain comes

@test "a long poll on its way is answered with the notice, and closed" {
    for start in start_node start_python; do
        port=$((port + 1))
        "$start" WEIR_NOTICE=500ms
        talks <<'END'
some = [Connection() for _ in range(10)]
for connection in some:
    connection.request("/slow?2")
time.sleep(0.3)
trigger()
for connection in some:
    answer = connection.answer()
    assert answer.body == b"It works\n" and answer.is_noticed, answer
    assert connection.ends()
END
        drains
        has_drained 2000
        stops
    done
}

# uploads START: one that is under way, one that waits to be told to go on.
uploads() {
    "$1" WEIR_NOTICE=500ms
    talks <<'END'
size = 300000
plain, waits = connections(2)
for connection, more in (plain, ""), (waits, "Expect: 100-continue\r\n"):
    head = f"PUT /up HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {size}\r\n\r\n"
    connection.send(head.encode())
plain.send(b"x" * 1000)
time.sleep(0.2)
trigger()
interim = waits.answer()
assert interim.status == 100 and not interim.is_noticed, interim
for sent in range(1000, size, 29900):
    plain.send(b"x" * 29900)
    waits.send(b"x" * 29900)
    time.sleep(0.15)
waits.send(b"x" * 1000)
for connection in plain, waits:
    answer = connection.answer()
    assert answer.status in (200, 201, 204) and answer.is_noticed, answer
    assert connection.ends()
END
    stops
}

@test "uploads under way end well, after a 100 Continue too: nginx" {
    locations='dav_methods PUT; client_max_body_size 10m;'
    chmod 777 "$temporary"
    uploads start_nginx
}

@test "uploads under way end well, after a 100 Continue too: Node, Python" {
    uploads start_node
    port=$((port + 1))
    uploads start_python
    [ "$(awk 'length == 300000' "$temporary/executed" | wc -l)" = 4 ]
}

# pipelines START: all that has arrived is answered, and the last answer has the notice.
pipelines() {
    "$1"
    talks <<'END'
some = connections(5)
for connection in some:
    connection.request("/slow?0.7")
time.sleep(0.2) # what comes behind it, a server with a thread a connection has not read yet
for connection in some:
    for path in "/", "/slow?0.1", "/":
        connection.request(path)
trigger()
for connection in some:
    answers = [connection.answer() for _ in range(4)]
    assert [answer.is_noticed for answer in answers] == [False] * 3 + [True], answers
    assert [answer.body for answer in answers] == [b"It works\n"] * 4
    assert connection.ends()
END
    drains
    has_drained 2000
    stops
}

@test "requests in a pipeline are all answered, the last one with the notice: Node, Python" {
    pipelines start_node
    port=$((port + 1))
    pipelines start_python
}

@test "requests in a pipeline are all answered, the last one with the notice: nginx before Node" {
    local origin=$((port + 90))
    port=$origin how=serve_bare name=origin start_node
    locations="location / { proxy_pass http://127.0.0.1:$origin; }"
    pipelines start_nginx
}

# In one segment: who is told while it is still sending has to send the rest again (RFC 9112, 9.6).
@test "clients that always send 16 requests at a time lose none" {
    start_nginx
    talks <<'END'
import threading

lost = []

def pipeline(connection):
    for _ in range(10000):
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 16)
        for _ in range(16):
            last = connection.answer()
        if last.is_noticed:
            assert connection.ends()
            return
    lost.append("never told")

def run(connection):
    try:
        pipeline(connection)
    except Exception as error:
        lost.append(repr(error))

threads = [threading.Thread(target=run, args=[connection]) for connection in connections(10)]
for thread in threads:
    thread.start()
time.sleep(0.5)
trigger()
for thread in threads:
    thread.join()
assert not lost, lost
END
}

@test "the number of a connection that ended in the middle of a request tells nothing of the next one" {
    for start in start_nginx start_python start_cluster; do
        port=$((port + 1))
        "$start"
        talks <<'END'
for rest in b"GET / HT", b"hello\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx":
    broken = Connection()
    broken.send(rest)
    time.sleep(0.2)
    broken.close()
    time.sleep(0.2)
after = connections(3)
trigger()
answers = [connection.ask() for connection in after]
assert all(answer.is_noticed for answer in answers), answers
END
        stops
    done
}

start_cluster() {
    workers=1 start_node "$@"
}

# --- actions

@test "close-idle closes idle connections at once, and the program serves on" {
    start_python WEIR_NOTICE=4s
    talks <<'END'
idle, asks = connections(2)
asks.request("/slow?1")
time.sleep(0.2)
trigger(1)
assert idle.ends(0.5)
answer = asks.answer()
assert answer.body == b"It works\n" and not answer.is_noticed, answer
assert asks.is_open(0.5) and not asks.ask().is_noticed
assert not Connection().ask().is_noticed
trigger()
assert asks.ask().is_noticed and asks.ends()
END
}

@test "drain-all closes all at once" {
    start_node WEIR_NOTICE=10s WEIR_TIMEOUT=25s
    talks <<'END'
some = connections(5)
trigger(3)
assert all(connection.ends(0.5) for connection in some)
END
    drains
    has_drained 3000
}

@test "during WEIR_DELAY no notice is given" {
    start_nginx WEIR_DELAY=1500ms WEIR_NOTICE=1s
    talks <<'END'
some = connections(2)
trigger()
for _ in range(4):
    assert not some[0].ask().is_noticed
    time.sleep(0.2)
new = Connection()
assert not new.ask().is_noticed
time.sleep(1)
assert some[0].ask().is_noticed and some[0].ends()
assert new.ask().is_noticed and new.ends()
assert some[1].ends(3)
END
}

@test "a listener has its own mode: reply,:PORT=http" {
    local other=$((port + 1))
    files
    locations="listen 127.0.0.1:$other;"
    start_nginx "WEIR_MODE=reply,:$port=http" WEIR_NOTICE=3s
    talks <<'END'
some = connections(3)
plain, = connections(1, port=PORT + 1)
assert plain.ask().status == 200
trigger()
assert plain.ends(1), "reply: quiet"
assert some[0].is_open(0.3)
assert some[0].ask().is_noticed and some[0].ends()
END
}

# --- what is no HTTP/1.x is served as in mode reply

@test "Upgrade and CONNECT are tunnels, which nobody changes: closed when they are quiet" {
    start_node WEIR_NOTICE=10s WEIR_SETTLE=1s
    talks <<'END'
heads = ["GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
         "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"]
before = connections(2)
after = connections(2)
fake = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"

def echoes(connection):
    connection.send(fake)
    assert connection.take(len(fake)) == fake

for connection, head in zip(before, heads):
    connection.send(head.encode())
    assert not Answer(connection.until(b"\r\n\r\n"), b"").is_noticed
    echoes(connection)
trigger()
for connection, head in zip(after, heads):
    connection.send(head.encode())
    assert not Answer(connection.until(b"\r\n\r\n"), b"").is_noticed
for connection in before + after: # and closed after an answer, or when it is quiet
    while connection.is_open():
        echoes(connection)
    assert connection.ends()
END
    drains
    has_drained 3000
}

@test "TLS is closed when it is quiet, and not a byte is changed" {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -keyout "$temporary/key" -out "$temporary/certificate" 2>"$temporary/openssl.log"
    locations="ssl_certificate $temporary/certificate; ssl_certificate_key $temporary/key;"
    listen=ssl start_nginx WEIR_NOTICE=10s WEIR_TIMEOUT=100s
    talks <<'END'
some = connections(4, tls=True)
asked, = connections(1, tls=True)
asked.request("/large")
trigger()
body = asked.answer()
assert len(body.body) == 10888896 and not body.is_noticed
try:
    assert all(connection.ends(3) for connection in some + [asked])
except ssl.SSLEOFError:
    pass # no close_notify
END
    drains
    wait_drained server 2
    log_has server ' 0 forced; the program runs on$'
}

@test "HTTP/2 without TLS is served to its end, and closed when it is quiet" {
    listen=http2 start_nginx WEIR_NOTICE=10s
    curl -s --http2-prior-knowledge --limit-rate 5M -o "$temporary/got" \
        -w '%{http_version} %{response_code}' "http://127.0.0.1:$port/large" >"$temporary/curl" &
    local client=$!
    wait_until 5 test -s "$temporary/got"
    drains
    wait "$client"
    [ "$(<"$temporary/curl")" = '2 200' ]
    cmp "$temporary/got" "$temporary/files/large"
    has_drained 5000
}

@test "redis under mode protocol: clients that look lose nothing, the quiet are closed" {
    trigger=RTMIN+3
    begin server WEIR_SIGNAL=$trigger WEIR_NOTICE=10s -- redis-server --bind 127.0.0.1 --port "$port" --save '' \
        --dir "$temporary"
    load_begins load 5 "$PROGRAMS/load" --protocol redis --careful --connections 50 --pause 0-3 \
        --seconds 10 "$port"
    drains
    load_ends load
    none_is unanswered reset truncated refused connect_reset open
    has_drained 3000
}

@test "who writes heads that are in doubt gets answers without a notice, and is closed when quiet" {
    start_nginx WEIR_NOTICE=10s
    talks <<'END'
some = connections(6)
trigger()
requests = ["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            "0\r\n\r\n"]
for connection, request in zip(some, requests):
    connection.send(request.encode())
answers = [connection.answer() for connection in some]
print([answer.status for answer in answers])
for connection, answer in zip(some, answers):
    assert b"close     " not in answer.raw and connection.ends(3)
END
    drains
    wait_drained server 2
    log_has server ' 0 forced; the program runs on$'
}

@test "a server whose answers go through stdio, its requests too or not, is drained" {
    local how_much
    trigger=USR2
    for how_much in both write; do
        port=$((port + 1))
        begin server WEIR_NOTICE=1s -- "$PROGRAMS/http_stdio" "$how_much" "$port"
        talks <<'END'
idle, slow, asks, mute = connections(4)[:3] + [Connection()]
slow.request("/slow?ms=3000")
time.sleep(0.1)
trigger()
assert asks.ask().body == b"It works\n"
assert idle.ends(3) and asks.ends(3) and mute.ends(3)
assert slow.answer().body == b"It works\n", "an answer that took longer than WEIR_NOTICE"
assert slow.ends()
END
        drains
        has_drained 3000
        stops
    done
}

@test "a process that enters a seccomp sandbox in a drain answers by its own calls, without a notice" {
    trigger=USR2
    gcc -x c -o "$temporary/sandboxed" - <<'END'
#include <arpa/inet.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works\n";

int main(int argc, char **argv)
{
    struct sockaddr_in address = {AF_INET, htons(atoi(argv[1])), {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
    char request[4096];
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 9))
        return 1;
    fd = accept(listener, 0, 0);
    for (int i = 0; i < 3 && read(fd, request, sizeof request) > 0; i++) {
        if (i == 1 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
            return 1;
        write(fd, answer, sizeof answer - 1);
    }
    syscall(SYS_exit, 0);
}
END
    begin server -- "$temporary/sandboxed" "$port"
    talks <<'END'
asks, = connections(1)
trigger()
for _ in range(2):
    answer = asks.ask()
    assert answer.body == b"It works\n" and not answer.is_noticed, answer
END
}

# --- WEIR_SPREAD

@test "WEIR_SPREAD: silent connections are closed evenly over it once WEIR_NOTICE has passed" {
    start_nginx WEIR_NOTICE=1s WEIR_SPREAD=2s
    talks <<'END'
some = connections(60)
began = trigger()
left, ended = set(some), []
while left and time.monotonic() < began + 5:
    for connection in [c for c in left if not c.is_open(0.001)]:
        assert connection.ends()
        left.remove(connection)
        ended.append(time.monotonic() - began)
assert not left, len(left)
assert min(ended) >= 0.95 and 2.5 <= max(ended) <= 3.5 * PATIENCE, (min(ended), max(ended))
early = sum(at < 2 for at in ended)
assert 20 <= early <= 40, ended
END
    wait_drained server 2
    log_has server ' 0 forced; the program runs on$'
}

@test "WEIR_SPREAD: clients that never rest are told evenly over it, and lose nothing" {
    start_nginx WEIR_SPREAD=2s
    talks <<'END'
some = connections(40)
began = trigger()
told = []
while some and time.monotonic() < began + 5:
    for connection in list(some):
        answer = connection.ask()
        assert answer.body == b"It works\n", answer
        if answer.is_noticed:
            told.append(time.monotonic() - began)
            assert connection.ends(0.5), "told, and not closed"
            some.remove(connection)
assert not some, len(some)
assert max(told) <= 2.5 * PATIENCE, told
early = sum(at < 1 for at in told)
assert 10 <= early <= 30, told
END
    wait_drained server 2
    log_has server ' 0 forced; the program runs on$'
}
