#!/bin/bash
# SPDX-License-Identifier: MIT
# php-fpm answers a FastCGI request before it has read it to its end: the empty STDIN record that closes
# a request without a body, which every client sends along with the rest, is read behind the answer's
# last record (END_REQUEST). On a kept connection (FCGI_KEEP_CONN; nginx' fastcgi_keep_conn) the last
# thing that happens is so a read that nobody answers. Who tells an idle connection by who spoke last
# takes it for one with a request in progress, for ever.
#
# Seen: php8.2-fpm 8.2.36-1~deb12u1, strace 6.1, Debian 12:
#   write of END_REQUEST, then read of a STDIN record of 0 bytes
#
# What follows installs both in a temporary folder, runs them on 127.0.0.1 in a network of its own,
# and exits with 1 if that has changed.
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
    version=$(apt-cache madison php8.2-fpm | awk '$3 ~ /^8\.2\./ { print $3; exit }')
    apt-get -qq download "php8.2-fpm=$version" strace=6.1-0.1 libargon2-1 libsodium23 libxml2 libicu72 \
        libapparmor1 libunwind8 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
printf '<?php echo "ok\\n";\n' >page.php
cat >fpm.conf <<END
[global]
daemonize = no
error_log = $at/log
[www]
user = $(id -un)
listen = 127.0.0.1:9000
pm = static
pm.max_children = 1
END
usr/bin/strace -f -e trace=read,write -x -s 16 -o trace usr/sbin/php-fpm8.2 -n -R -y fpm.conf \
    >/dev/null 2>&1 </dev/null &

# A request as nginx sends it: BEGIN_REQUEST with FCGI_KEEP_CONN, PARAMS, no more of them, no input.
/usr/bin/python3 - "$at/page.php" <<'END'
import socket
import struct
import sys
import time


def record(kind, content=b""):
    return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def pair(name, value):
    return bytes([len(name), len(value)]) + name.encode() + value.encode()


params = pair("SCRIPT_FILENAME", sys.argv[1]) + pair("REQUEST_METHOD", "GET")
request = record(1, struct.pack("!HB5x", 1, 1)) + record(4, params) + record(4) + record(5)
for _ in range(100):
    try:
        connection = socket.create_connection(("127.0.0.1", 9000))
        break
    except OSError:
        time.sleep(0.1)
connection.settimeout(10)
connection.sendall(request)
answer = b""
while record(3)[:2] not in answer:  # END_REQUEST
    answer += connection.recv(65536)
assert b"ok\n" in answer
time.sleep(0.5)
END

# The calls behind the write that has the END_REQUEST in it: strace shows the bytes in hex.
behind=$(grep -A 9 -E 'write\([0-9]+, "\\x01\\x0[36]' trace | grep 'read(')
if [[ $behind =~ read\([0-9]+,\ \"\\x01\\x05\\x00\\x01\\x00\\x00\\x00\\x00\",\ 8\) ]]; then
    echo "write of END_REQUEST, then read of a STDIN record of 0 bytes"
else
    echo "behind END_REQUEST: $behind"
    exit 1
fi
