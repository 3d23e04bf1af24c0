#!/bin/bash
# SPDX-License-Identifier: MIT
# curl reuses a connection of HTTP/2 in the clear for the next URL, and then fails at once: exit code 16
# ("Error in the HTTP2 framing layer"), for each URL but the first, without having sent a byte of the
# request. The server has said nothing but what the first request asked for. By HTTP/1.1 the same server's
# connection is reused as it should be. (curl/curl#10634, mended behind 7.88.1; not in Debian 12.)
#
# Seen: curl 7.88.1-10+deb12u15 (--http2-prior-knowledge), Debian 12, three URLs of one command:
#   exit codes 0 16 16, the server has read 1 request on 1 connection
#
# What follows installs it in a temporary folder, runs it on 127.0.0.1 in a network of its own, and exits
# with 1 if that has changed.
set -eu
export LC_ALL=C
script=$(realpath "$0")

if [ -z "${ISOLATED:-}" ]; then
    export ISOLATED=1
    at=$(mktemp -d)
    export at
    trap 'rm -rf "$at"' EXIT
    cd "$at"
    chmod 755 .
    apt-get -qq update
    version=$(apt-cache madison curl | awk '$3 ~ /^7\.88\./ { print $3; exit }')
    apt-get -qq download "curl=$version" "libcurl4=$version" libnghttp2-14 librtmp1 libssh2-1 libpsl5 \
        libldap-2.5-0 libsasl2-2 libbrotli1 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
/usr/bin/python3 - >said <<'END'
import socket
import subprocess
import threading

DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUS_200 = b"\x88"  # RFC 7541, appendix A
read = []


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def serve(connection, number):
    """Answers each request with 200 and three bytes (RFC 9113)."""
    stream = connection.makefile("rb")
    assert stream.read(len(PREFACE)) == PREFACE
    connection.sendall(frame(SETTINGS, 0, 0))
    while head := stream.read(9):
        payload, kind, flags = stream.read(int.from_bytes(head[:3], "big")), head[3], head[4]
        of = int.from_bytes(head[5:], "big")
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            assert flags & END_STREAM and flags & END_HEADERS
            read.append(number)
            connection.sendall(frame(HEADERS, END_HEADERS, of, STATUS_200) + frame(DATA, END_STREAM, of, b"ok\n"))


def accept(listener):
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        threading.Thread(target=serve, args=(connection, number), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 8080))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
codes = subprocess.run(["usr/bin/curl", "-s", "--http2-prior-knowledge", "-m", "10", "-o", "body#1",
                        "-w", "%{exitcode} ", "http://127.0.0.1:8080/[1-3]"],
                       stdout=subprocess.PIPE, text=True, check=False).stdout
print(f"exit codes {codes.strip()}, the server has read {len(read)} request on {len(set(read))} connection")
END
cat said
diff - said <<'END' >/dev/null
exit codes 0 16 16, the server has read 1 request on 1 connection
END
