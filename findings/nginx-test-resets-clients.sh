#!/bin/bash
# SPDX-License-Identifier: MIT
# "nginx -t" does not only read its configuration: it binds each address and listens on it, for the
# moment that the test takes. Where nobody else listens there, who connects in that moment is let in by
# the kernel, and reset when the test ends. Debian's nginx.service runs it before each start
# (ExecStartPre=), which in a restart is when the old process has just gone.
#
# Seen: nginx 1.22.1-9+deb12u11, Debian 12, a client that connects again and again beside 50 tests:
#   50 tests passed; 44 connections were let in, 0 answered, 44 reset
#
# What follows installs it in a temporary folder, runs it on 127.0.0.1 in a network of its own, and exits
# with 1 if that has changed (how many get in differs from run to run).
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
    version=$(apt-cache madison nginx | awk '$3 ~ /^1\.22\./ { print $3; exit }')
    apt-get -qq download "nginx=$version" libpcre2-8-0 libssl3 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
cat >nginx.conf <<END
pid $at/pid; error_log stderr;
events {}
http { access_log off; server { listen 127.0.0.1:8080; return 200; } }
END

/usr/bin/python3 - <<'END'
import socket
import subprocess
import sys
import threading

is_over = threading.Event()
let_in = answered = reset = 0


def client():
    global let_in, answered, reset
    while not is_over.is_set():
        with socket.socket() as connection:
            try:
                connection.connect(("127.0.0.1", 8080))
            except ConnectionRefusedError:
                continue
            let_in += 1
            try:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answered += bool(connection.recv(1))
            except ConnectionError:
                reset += 1


thread = threading.Thread(target=client)
thread.start()
passed = 0
for _ in range(50):
    test = subprocess.run(["usr/sbin/nginx", "-t", "-q", "-p", ".", "-e", "stderr", "-c", "nginx.conf"])
    passed += test.returncode == 0
is_over.set()
thread.join()
print(f"{passed} tests passed; {let_in} connections were let in, {answered} answered, {reset} reset")
sys.exit(not (passed == 50 and let_in > 0 and answered == 0 and reset == let_in))
END
