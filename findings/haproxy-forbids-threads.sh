#!/bin/bash
# SPDX-License-Identifier: MIT
# HAProxy forbids itself to start other programs, once it serves: it sets its limit on processes to 0
# (insecure-fork-wanted in its manual). Linux counts threads as processes (setrlimit(2), RLIMIT_NPROC).
# So what is loaded into it, an OpenSSL provider or a preloaded library, can make no thread any more:
# pthread_create gives EAGAIN. Not so for root, whom that limit does not bind, and as whom it is often
# tried out; Debian's configuration has "user haproxy".
#
# Seen: haproxy 2.6.12-1+deb12u4, Debian 12, a preloaded library that makes a thread on SIGPWR:
#   root: Max processes 0, pthread_create returns 0
#   nobody: Max processes 0, pthread_create returns 11
#
# What follows installs it in a temporary folder, runs it on 127.0.0.1 in a network of its own, as root,
# with the machine's own C compiler, and exits with 1 if that has changed.
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
cat >makes_thread.c <<'END'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static void *nothing(void *x) { return x; }

static void make(int sig)
{
    pthread_t thread;
    (void)sig;
    fprintf(stderr, "pthread_create returns %d\n", pthread_create(&thread, NULL, nothing, NULL));
}

__attribute__((constructor)) static void begin(void) { signal(SIGPWR, make); }
END
cc -shared -fPIC -o makes_thread.so makes_thread.c -pthread

seen() {
    local who=$1 pid
    cat >haproxy.cfg <<END
global
    $2
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend web
    bind 127.0.0.1:8080
    http-request return status 200
END
    LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu LD_PRELOAD=$at/makes_thread.so \
        usr/sbin/haproxy -db -f haproxy.cfg 2>said &
    pid=$!
    for _ in $(seq 100); do
        awk '/^Max processes/ { exit !($3 == 0) }' "/proc/$pid/limits" && break
        sleep 0.1
    done
    kill -PWR "$pid"
    for _ in $(seq 100); do
        grep -q returns said && break
        sleep 0.1
    done
    echo "$who: $(awk '/^Max processes/ { print $1, $2, $3 }' "/proc/$pid/limits"), $(grep returns said)"
    kill "$pid"
    wait "$pid" || true
}

{
    seen root ''
    seen nobody 'user nobody'
} | tee all
diff all - <<'END'
root: Max processes 0, pthread_create returns 0
nobody: Max processes 0, pthread_create returns 11
END
