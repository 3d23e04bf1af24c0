#!/bin/bash
# SPDX-License-Identifier: MIT
# Varnish gives all the threads of its worker one and the same alternate signal stack (sigaltstack(2)): one
# for a handler of SIGSEGV, of which no two run at once. So a library in it (a profiler, a tracer, a
# preload) that installs a handler of an ordinary signal with SA_ONSTACK, as Go's programs want it, has the
# frames of two threads destroy each other: the worker dies of it, somewhere else.
#
# Seen: varnish 7.1.1-2+deb12u1, Debian 12:
#   200 or more threads ask for a signal stack, of 1 address
#
# What follows installs it in a temporary folder, runs it on 127.0.0.1 in a network of its own, and exits
# with 1 if that has changed. The machine's own cc compiles its configuration.
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
    version=$(apt-cache madison varnish | awk '$3 ~ /^7\.1\.1/ { print $3; exit }')
    strace=$(apt-cache madison strace | awk '$3 ~ /^6\.1/ { print $3; exit }')
    apt-get -qq download "varnish=$version" "strace=$strace" libjemalloc2 libpcre2-8-0 libunwind8 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
usr/bin/strace -f --seccomp-bpf -o trace -e trace=sigaltstack usr/sbin/varnishd -F -n "$at/varnish" \
    -a 127.0.0.1:6081 -b 127.0.0.1:9 -s malloc,64m >said 2>&1 &
for _ in $(seq 600); do
    (: </dev/tcp/127.0.0.1/6081) 2>/dev/null && break
    sleep 0.1
done
for _ in $(seq 100); do
    [ "$(grep -c ss_sp= trace)" -lt 200 ] || break
    sleep 0.1
done
asked=$(grep -c ss_sp= trace)
addresses=$(grep -o 'ss_sp=0x[0-9a-f]*' trace | sort -u | wc -l)
[ "$asked" -lt 200 ] || asked='200 or more'
echo "$asked threads ask for a signal stack, of $addresses address" | tee seen
grep -qx '200 or more threads ask for a signal stack, of 1 address' seen
