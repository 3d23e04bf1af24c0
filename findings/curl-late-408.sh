#!/bin/bash
# SPDX-License-Identifier: MIT
# A server may say 408 (Request Timeout) on a kept connection that was idle for too long, and close it
# (RFC 9110, 15.5.9). curl looks before it takes a kept connection again: one that was closed it
# replaces by a new one. But bytes that nobody has asked for pass for a sign of life there: it sends the
# next request on the closed connection, and gives the 408, said before that request was made, as its
# answer, with exit code 0. Without the 408, the end alone, the same request is answered.
#
# Seen: curl 7.88.1-10+deb12u15, Debian 12, three requests a second apart, a server that waits 0.3 s:
#   the end alone: 200 200 200, the server has read /1 /2 /3
#   408 and the end: 200 408 200, the server has read /1 /3
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

TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def serve(connection, goodbye, read):
    """Answers, and closes after 0.3 s without a request; what comes behind that is thrown away."""
    connection.settimeout(0.3)
    try:
        while request := connection.recv(4096):
            read.append(request.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    except TimeoutError:
        connection.sendall(goodbye)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        while connection.recv(4096):
            pass
    connection.close()


def accept(listener, goodbye, read):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, goodbye, read), daemon=True).start()


for port, goodbye, name in (8081, b"", "the end alone"), (8082, TIMEOUT, "408 and the end"):
    read = []
    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=accept, args=(listener, goodbye, read), daemon=True).start()
    codes = subprocess.run(["usr/bin/curl", "-sS", "--rate", "60/m", "-w", "%{http_code} "] +
                           [f"http://127.0.0.1:{port}/{n}" for n in (1, 2, 3)],
                           stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"{name}: {codes.strip()}, the server has read {' '.join(read)}")
END
cat said
diff - said <<'END' >/dev/null
the end alone: 200 200 200, the server has read /1 /2 /3
408 and the end: 200 408 200, the server has read /1 /3
END
