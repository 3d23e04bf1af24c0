#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The close notice and writes that are cut: by the program, in odd pieces and by each call there is,
# and by the kernel, at any byte. What arrives is what the program wrote, and the notice, whole.
# mutant: shim/http/close_header.c: s/own \+= inserts\(&scan\) \? 0 : n/own += n/
# needs: mini-httpd curl
# seconds: 39
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
load web

setup() {
    port=$((27000 + 100 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    trigger=USR2
}

# arrives_whole CALL... : what http_odd writes by these calls to clients that are slow to read.
arrives_whole() {
    begin server WEIR_NOTICE=20s WEIR_TIMEOUT=50s -- "$PROGRAMS/http_odd" "$port"
    talks "$@" <<'END'
import random, sys
paths = [f"/{call}/{n}" for call in sys.argv[1:]
         for n in random.sample(range(700), 90 // len(sys.argv[1:]))]
some = [Connection(receive=1) for _ in paths]
bare = [connection.ask(path).raw for connection, path in zip(some, paths)]
trigger()
for connection, path in zip(some, paths):
    connection.most = random.randint(50, 2000)
    connection.request(path)
time.sleep(0.3)
for connection, path, before in zip(some, paths, bare):
    answer = connection.answer()
    assert answer.is_noticed, (path, answer)
    assert without_notice(answer.raw, before) == before, (path, before[:600], answer)
    assert connection.ends(), path
END
    drains
    has_drained 3000
}

@test "write, writev, send: odd pieces, tiny buffers, slow readers: all arrives, and the notice" {
    arrives_whole write writev send
}

@test "sendto, sendmsg, sendmmsg: odd pieces, tiny buffers, slow readers: all arrives, and the notice" {
    arrives_whole sendto sendmsg sendmmsg
}

@test "MSG_MORE, TCP_CORK, sendfile: odd pieces, tiny buffers, slow readers: all arrives, and the notice" {
    arrives_whole more cork file
}

# A kernel that takes a few bytes at a time, wherever they end: in the middle of our texts too.
make_cutter() { # MOST
    gcc -shared -fPIC -O2 -fno-builtin -Wl,-Bsymbolic -DMOST="$1" \
        -x c -o "$temporary/cutter.so" - <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/uio.h>

static _Thread_local unsigned dice = 1;

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static int is_client(int fd)
{
    struct sockaddr_storage peer;
    return !getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){sizeof peer}) &&
           peer.ss_family == AF_INET;
}

static size_t cut(int fd, size_t n)
{
    size_t most = 1 + ((dice = dice * 1103515245 + 12345) >> 16) % MOST;
    return n < most || !is_client(fd) ? n : most;
}

ssize_t write(int fd, const void *buf, size_t n)
{
    return REAL(write)(fd, buf, cut(fd, n));
}

ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
               socklen_t len)
{
    return REAL(sendto)(fd, buf, cut(fd, n), flags, to, len);
}

ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    return REAL(send)(fd, buf, cut(fd, n), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct iovec iov[64];
    struct msghdr some = *msg;
    size_t left = cut(fd, 65536), i = 0;
    for (; i < msg->msg_iovlen && i < 64 && left; i++) {
        iov[i] = msg->msg_iov[i];
        iov[i].iov_len = iov[i].iov_len < left ? iov[i].iov_len : left;
        left -= iov[i].iov_len;
    }
    some.msg_iov = iov;
    some.msg_iovlen = i;
    return REAL(sendmsg)(fd, is_client(fd) ? &some : msg, flags);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
    return is_client(fd) ? sendmsg(fd, &msg, 0) : REAL(writev)(fd, iov, count);
}
END
}

# is_cut MOST START...: each write of the server takes up to MOST bytes.
is_cut() {
    make_cutter "$1"
    "${@:2}" LD_PRELOAD="$WEIR_LIB $temporary/cutter.so" WEIR_NOTICE=20s WEIR_TIMEOUT=50s
    talks <<'END'
paths = ["/", "/chunked", "/slow?0.1"] * 15
some = connections(len(paths))
bare = [connection.ask(path).raw for connection, path in zip(some, paths)]
trigger()
for connection, path, before in zip(some, paths, bare):
    answer = connection.ask(path)
    assert answer.is_noticed, (path, answer)
    after, before = (re.sub(rb"(?i)(?<=\r\nDate: )[^\r]*", b"", raw)
                     for raw in (answer.raw, before))
    assert without_notice(after, before) == before, (before, after)
    assert connection.ends(), path
END
    drains
    has_drained 3000
    stops
}

@test "Node, whose writes are cut anywhere: all arrives, and the notice" {
    is_cut 25 start_node
    port=$((port + 1))
    is_cut 3 start_node
}

@test "Python, whose writes are cut anywhere: all arrives, and the notice" {
    is_cut 25 start_python
    port=$((port + 1))
    is_cut 3 start_python
}

@test "HAProxy, whose writes are cut anywhere: all arrives, and the notice" {
    local origin=$((port + 90))
    port=$origin how=serve_bare name=origin start_node
    is_cut 15 start_haproxy 'default_backend back' "backend back
    server one 127.0.0.1:$origin"
}

# takes_whole MODE: each call, of which a drain begins in the middle.
takes_whole() {
    local call fds=() fd bytes
    serve server WEIR_MODE="$1" -- /usr/bin/python3 "$ROOT/tests/programs/whole_calls.py" "$port"
    wait_port "$port"
    for call in write writev send sendmsg sendfile; do
        conn_open fd "$port"
        conn_send "$fd" "$(printf %-8s "$call")"
        fds+=("$fd")
        wait_until 5 log_has server "^asked $call"
    done
    conn_open fd "$port"
    conn_send "$fd" 'waitall '
    head -c 5000000 /dev/zero >&"$fd"
    pause 0.3
    "$ROOT/build/weir" drain "$SERVER_PID"
    wait_until 5 log_has server ': draining: .* 6 in use'
    pause 0.5
    head -c 15000000 /dev/zero >&"$fd"
    [ "$(timeout 20 cat <&"$fd")" = 20000000 ]
    for fd in "${fds[@]}"; do
        bytes=$(timeout 20 cat <&"$fd" | wc -c)
        [ "$bytes" = 20000000 ]
    done
    wait_until 10 log_has server ': drained in [0-9.]*s: 6 closed clean, 0 forced'
}

@test "a call that waits for all takes all, though the drain's signal comes in the middle of it" {
    takes_whole protocol
}

@test "mode reply: a call that waits for all takes all, though the drain's signal comes in the middle" {
    takes_whole reply
}

@test "mini_httpd, which ends where sendfile has sent less: a download under way is whole" {
    local download
    mkdir -m 755 "$temporary/www"
    truncate -s 40M "$temporary/www/large"
    chmod 755 "$temporary"
    serve server WEIR_MODE=protocol -- mini_httpd -D -h 127.0.0.1 -p "$port" -d "$temporary/www"
    wait_port "$port"
    curl -s --limit-rate 12M -o "$temporary/got" -w '%{http_code} %{size_download}' "http://127.0.0.1:$port/large" \
        >"$temporary/said" &
    download=$!
    wait_until 5 test -s "$temporary/got"
    pause 0.3
    "$ROOT/build/weir" drain --wait "$SERVER_PID"
    wait "$download"
    [ "$(cat "$temporary/said")" = '200 41943040' ]
}
