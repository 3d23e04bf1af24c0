#!/bin/bash
# SPDX-License-Identifier: MIT
# HAProxy with "log stdout" and more than one thread loses log lines, though its standard output is a
# regular file, which never makes a writer wait: a thread that finds another one writing does not wait
# for it, and drops its line. Only the counter DroppedLogs (stats socket, "show info") tells. With
# "nbthread 1" no line is lost.
#
# Seen: haproxy 2.6.12-1+deb12u4, Debian 12, two processors; wrk 4.1.0, 2 threads, 16 connections, 4 s:
#   two threads: 160959 requests, 160952 lines, DroppedLogs: 7
#   one thread: 94083 requests, 94083 lines, DroppedLogs: 0
#
# What follows installs both in a temporary folder, runs them on 127.0.0.1 in a network of its own,
# and exits with 1 if that has changed.
set -eu
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
script=$(realpath "$0")

if [ -z "${ISOLATED:-}" ]; then
    export ISOLATED=1
    at=$(mktemp -d)
    export at
    trap 'rm -rf "$at"' EXIT
    cd "$at"
    chmod 755 .
    apt-get -qq update
    version=$(apt-cache madison haproxy | awk '$3 ~ /^2\.6\.12-1\+deb12u/ { print $3; exit }')
    apt-get -qq download "haproxy=$version" wrk=4.1.0-3+b2 liblua5.3-0 libopentracing-c-wrapper0 \
        libopentracing1 libluajit-5.1-2 >/dev/null
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu

# dropped THREADS: prints how many requests were answered, lines written, and lines dropped.
dropped() {
    cat >haproxy.cfg <<END
global
    nbthread $1
    log stdout format raw local0
    stats socket $at/socket level admin
defaults
    mode http
    log global
    log-format "request %ST"
    timeout client 10s
frontend web
    bind 127.0.0.1:8080
    http-request return status 200
END
    usr/sbin/haproxy -db -f haproxy.cfg >log 2>errors </dev/null &
    local pid=$! i requests
    for ((i = 0; i < 50; i++)); do
        [ -S socket ] && break
        sleep 0.1
    done
    usr/bin/wrk -t 2 -c 16 -d 4 http://127.0.0.1:8080/ >load
    sleep 0.5
    requests=$(printf 'show info\n' | ask | awk '$1 == "CumReq:" { print $2 - 1 }') # less this one
    echo "$requests $(grep -c '^request' log) $(printf 'show info\n' | ask |
        awk '$1 == "DroppedLogs:" { print $2 }')"
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    rm -f socket
}

# ask: what the stats socket answers to standard input.
ask() {
    /usr/bin/python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("socket")
s.sendall(sys.stdin.buffer.read())
while data := s.recv(65536):
    sys.stdout.buffer.write(data)'
}

read -r requests lines lost < <(dropped 2)
echo "two threads: $requests requests, $lines lines, DroppedLogs: $lost"
[ "$lost" -gt 0 ] && [ "$lines" = $((requests - lost)) ]
read -r requests lines lost < <(dropped 1)
echo "one thread: $requests requests, $lines lines, DroppedLogs: $lost"
[ "$lost" = 0 ] && [ "$lines" = "$requests" ]
