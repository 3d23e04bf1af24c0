#!/bin/bash
# SPDX-License-Identifier: MIT
# squid, started by root, loses what LD_PRELOAD has brought in: its first process becomes its worker by
# an exec for which the effective user is root's and the real one already cache_effective_user's. The
# two differ, so that the kernel sets AT_SECURE, and the loader leaves out LD_PRELOAD, LD_LIBRARY_PATH
# and GLIBC_TUNABLES (ld.so(8), "Secure-execution mode"), although the worker's environment has them
# still. So another malloc (jemalloc), faketime or any shim is in the process that serves nobody, and
# not in the one that does; nothing is logged. With -N there is one process, and it keeps it.
#
# Seen: squid 5.7-2+deb12u6, Debian 12, glibc 2.36; preloaded: libBrokenLocale.so.1, which libc6 has
#   first process: preloaded yes, AT_UID 0, AT_EUID 0, AT_SECURE 0
#   worker: preloaded no, AT_UID 13, AT_EUID 0, AT_SECURE 1, LD_PRELOAD in its environment
#   with -N: preloaded yes, AT_UID 0, AT_EUID 0, AT_SECURE 0
#
# What follows, run by root, puts squid in a temporary folder, lays that over /usr in a mount namespace
# of its own (LD_LIBRARY_PATH would not reach the worker), and exits with 1 if that has changed.
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
    version=$(apt-cache madison squid | awk '$3 ~ /^5\.7-2\+deb12u/ { print $3; exit }')
    apt-get -qq download "squid=$version" squid-common libecap3 libltdl7 libnetfilter-conntrack3 \
        libnfnetlink0 libmnl0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 \
        libgnutls30 libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 libgmp10 \
        libffi8 libxml2 libicu72 libexpat1 libtdb1 libcap2 libdb5.3 libldap-2.5-0 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --mount --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
mount -t overlay overlay -o "lowerdir=$at/usr:/usr" /usr
mkdir run
chown proxy run
cat >squid.conf <<END
http_port 127.0.0.1:3128
cache_effective_user proxy
pid_filename $at/run/pid
access_log none
cache_log $at/run/log
coredump_dir $at/run
pinger_enable off
END

# about PID: whether it has the library, and what the kernel has told its loader.
about() {
    /usr/bin/python3 - "$1" <<'END'
import struct
import sys

proc = f"/proc/{sys.argv[1]}/"
has = "yes" if "libBrokenLocale" in open(proc + "maps").read() else "no"
values = dict(struct.iter_unpack("QQ", open(proc + "auxv", "rb").read()))  # getauxval(3)
print(f"preloaded {has}, AT_UID {values[11]}, AT_EUID {values[12]}, AT_SECURE {values[23]}")
END
}

# begins OPTION...: squid, until its port is open.
begins() {
    LD_PRELOAD=libBrokenLocale.so.1 squid -f "$at/squid.conf" "$@" >out 2>&1 </dev/null &
    first=$!
    for ((i = 0; i < 200; i++)); do
        ! (: </dev/tcp/127.0.0.1/3128) 2>/dev/null || return 0
        sleep 0.1
    done
    cat out run/log
    return 1
}

begins --foreground
worker=$(pgrep -P "$first" -f '^\(squid-1\)')
first_said=$(about "$first") worker_said=$(about "$worker")
named=$(tr '\0' '\n' <"/proc/$worker/environ" | grep -c '^LD_PRELOAD=' || true)
echo "first process: $first_said"
echo "worker: $worker_said$([ "$named" = 0 ] || echo ", LD_PRELOAD in its environment")"
kill -KILL "$first" "$worker"
wait "$first" 2>/dev/null || true
rm -f run/pid
begins -N
alone_said=$(about "$first")
echo "with -N: $alone_said"
kill -KILL "$first"
[[ $first_said == 'preloaded yes'* && $worker_said == 'preloaded no'*'AT_SECURE 1' &&
    $alone_said == 'preloaded yes'* ]]
