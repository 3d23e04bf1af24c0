#!/bin/bash
# SPDX-License-Identifier: MIT
# HAProxy in master-worker mode (-W) opens its port, and answers, before its master hears the signal to
# reload: a USR2 that comes then is lost, neither queued nor logged, and the old configuration goes on.
# Whoever takes the port that answers for a start that is over (a deploy that starts and reloads, a test)
# wants -Ws and READY=1, or asks again until "Reloading HAProxy" is said.
#
# Seen: haproxy 2.6.12-1+deb12u4, Debian 12, USR2 as soon as the port takes a connection, and 1 s later:
#   at once: 5 or more of 10 lost (8 to 10), masters still there: 10
#   a second later: none of 10 lost, masters still there: 10
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
    version=$(apt-cache madison haproxy | awk '$3 ~ /^2\.6\./ { print $3; exit }')
    apt-get -qq download "haproxy=$version" liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 \
        libssl3 libpcre2-8-0 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
cat >haproxy.cfg <<END
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend web
    bind 127.0.0.1:8080
    http-request return status 200
END

seen() {
    local lost=0 alive=0 pid
    for _ in $(seq 10); do
        LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu usr/sbin/haproxy -W -f haproxy.cfg 2>said &
        pid=$!
        for _ in $(seq 2000); do
            (: </dev/tcp/127.0.0.1/8080) 2>/dev/null && break
            sleep 0.005
        done
        sleep "$2"
        kill -USR2 "$pid"
        sleep 2
        grep -q "Reloading HAProxy" said || lost=$((lost + 1))
        [ ! -d "/proc/$pid" ] || alive=$((alive + 1))
        kill -TERM "$pid"
        wait "$pid" || true
    done
    case $lost in
        0) lost=none ;;
        [5-9] | 10) lost='5 or more' ;;
    esac
    echo "$1: $lost of 10 lost, masters still there: $alive"
}

{
    seen 'at once' 0
    seen 'a second later' 1
} | tee all
diff all - <<'END'
at once: 5 or more of 10 lost, masters still there: 10
a second later: none of 10 lost, masters still there: 10
END
