#!/bin/bash
# SPDX-License-Identifier: MIT
# mini_httpd sends a file by sendfile, a megabyte at a time, from a process of its own for each client, and takes
# less than it has asked for to be the end. A call that blocks sends less where a signal with a handler comes in the
# middle of it (signal(7): SA_RESTART does not help there). So the HUP by which its log is opened anew, where it is
# sent to all of its processes (killall, pkill: a logrotate script), ends each download that is under way; the client
# has had a Content-Length, and knows.
#
# Seen: mini-httpd 1.30-3, Debian 12, a client that rests for a second in the middle of 60,000,000 bytes:
#   no signal: 60000000 bytes of the file
#   HUP to the process that serves it: less (about 4,000,000)
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
    apt-get -qq update
    version=$(apt-cache madison mini-httpd | awk '$3 ~ /^1\.30-/ { print $3; exit }')
    apt-get -qq download "mini-httpd=$version" >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    chmod 755 "$at"
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
mkdir -m 755 www
head -c 60000000 /dev/zero >www/file
usr/sbin/mini_httpd -D -h 127.0.0.1 -p 8080 -d www 2>/dev/null &
server=$!
for _ in $(seq 100); do
    (: </dev/tcp/127.0.0.1/8080) 2>/dev/null && break
    sleep 0.05
done

# download SIGNAL: prints how many bytes of the body have come.
download() {
    local line child bytes
    exec 5<>/dev/tcp/127.0.0.1/8080
    printf 'GET /file HTTP/1.0\r\n\r\n' >&5
    while IFS= read -r line <&5; do
        [ "$line" != $'\r' ] || break
    done
    sleep 1
    child=$(pgrep -P "$server") # the one that serves it
    [ "$1" = none ] || kill -s "$1" "$child"
    sleep 0.2
    bytes=$(wc -c <&5)
    exec 5>&-
    echo "$bytes"
}

sleep 0.5 # whoever has looked whether it listens is done with
whole=$(download none)
cut=$(download HUP)
kill "$server"
echo "no signal: $whole bytes of the file"
echo "HUP to the process that serves it: $cut"
[ "$whole" = 60000000 ] && [ "$cut" -lt 30000000 ]
