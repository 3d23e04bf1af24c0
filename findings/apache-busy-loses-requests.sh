#!/bin/bash
# SPDX-License-Identifier: MIT
# Apache's event MPM closes all kept connections of a child when that has no idle worker, long before
# KeepAliveTimeout: it does not look whether a request has come by then. It shuts down its end and reads
# what comes away (a lingering close), so that the client is told no error: its request was
# acknowledged, and an end-of-file comes instead of an answer. A client can't tell that from a request
# that was executed. With nobody stopping or restarting anything, under load alone.
#
# Seen: apache2-bin 2.4.71-1~deb12u1, Debian 12, one child of four workers, 40 clients for five seconds:
#   688 answered; 309 connections closed between two requests, 158 behind a request, 0 reset
# Its log says "All workers are busy or dying, will shutdown 3 keep-alive connections" at level trace1.
#
# What follows installs it in a temporary folder, runs it on 127.0.0.1 in a network of its own, and exits
# with 1 if that has changed (the counts differ from run to run).
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
    version=$(apt-cache madison apache2-bin | awk '$3 ~ /^2\.4\./ { print $3; exit }')
    apt-get -qq download "apache2-bin=$version" libapr1 libaprutil1 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
modules=$at/usr/lib/apache2/modules
cat >httpd.conf <<END
ServerRoot $at
ServerName localhost
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
PidFile $at/pid
ErrorLog $at/error.log
LogLevel warn mpm_event:trace1
Listen 127.0.0.1:8080
DocumentRoot $at/htdocs
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
ServerLimit 1
StartServers 1
ThreadsPerChild 4
MaxRequestWorkers 4
MinSpareThreads 1
MaxSpareThreads 4
AsyncRequestWorkerFactor 20
END
mkdir htdocs
head -c 100000 /dev/zero >htdocs/index.html
usr/sbin/apache2 -d "$at" -f httpd.conf -k start

/usr/bin/python3 - <<'END'
import random
import select
import socket
import sys
import threading
import time

until = time.monotonic() + 5
answered = between = behind = reset = 0
lock = threading.Lock()


def ask(connection):
    """Returns whether there is an answer; None: the connection had ended before."""
    if select.select([connection], [], [], 0)[0]:
        return None
    connection.sendall(b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
    got = 0
    while got < 100000:
        piece = connection.recv(65536)
        if not piece:
            return got > 0
        got += len(piece)
    return True


def client():
    global answered, between, behind, reset
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", 8080), 10) as connection:
            result = True
            while result and time.monotonic() < until:
                try:
                    result = ask(connection)
                except TimeoutError:  # on a machine that has no time for it
                    break
                except ConnectionError:
                    result = "reset"
                with lock:
                    answered += result is True
                    between += result is None
                    behind += result is False
                    reset += result == "reset"
                if result == "reset":
                    break
                time.sleep(random.uniform(0, 0.02))


clients = [threading.Thread(target=client) for _ in range(40)]
for one in clients:
    one.start()
for one in clients:
    one.join()
print(f"{answered:,} answered; {between:,} connections closed between two requests, "
      f"{behind:,} behind a request, {reset:,} reset")
sys.exit(not behind)
END
grep -m 1 -o 'All workers are busy.*' error.log
