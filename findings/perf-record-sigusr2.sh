#!/bin/bash
# SPDX-License-Identifier: MIT
# "perf record COMMAND" starts its command with SIGUSR2 ignored, since it ignores it itself: a program
# that leaves that signal alone is not ended by it, nor is what it starts, as it would be without
# perf. "perf stat COMMAND" leaves it as it is. Both also add PREFIX=/usr to the command's
# environment, which is the name of many a Makefile's variable.
#
# Seen: linux-perf 6.1.187-1, Debian 12:
#   without: SIGUSR2 ends it; PREFIX is unset
#   record: SIGUSR2 is ignored; PREFIX=/usr
#   stat: SIGUSR2 ends it; PREFIX=/usr
#
# What follows installs it in a temporary folder, and exits with 1 if that has changed.
# shellcheck disable=SC2016  # expanded by the inner shells
set -eu
export LC_ALL=C
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
cd "$at"
chmod 755 .
apt-get -qq update
version=$(apt-cache madison linux-perf | awk '$3 ~ /^6\.1\./ { print $3; exit }')
apt-get -qq download "linux-perf=$version" libbabeltrace1 libdw1 libelf1 libnuma1 libopencsd1 \
    libperl5.36 libpython3.11 libslang2 libunwind8 libcap2 libglib2.0-0 >/dev/null
for package in *.deb; do
    dpkg-deb -x "$package" .
done
unset PREFIX

# told COMMAND...: what becomes of a shell that COMMAND starts and that sends itself SIGUSR2.
told() {
    "$@" sh -c '
        echo "${PREFIX-}" >prefix
        sh -c "kill -USR2 \$\$; echo ignored >usr2" || true' >output 2>&1
    echo "SIGUSR2 $([ -e usr2 ] && echo is ignored || echo ends it);" \
        "PREFIX$(sed 's/^$/ is unset/; s/^\//=&/' prefix)"
    rm -f usr2
}

perf() {
    LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu "$at/usr/bin/perf" "$@"
}

without=$(told env) record=$(told perf record -q -e cpu-clock -o data) stat=$(told perf stat -e cpu-clock)
printf '%s\n' "without: $without" "record: $record" "stat: $stat"
[ "$without" = 'SIGUSR2 ends it; PREFIX is unset' ]
[ "$record" = 'SIGUSR2 is ignored; PREFIX=/usr' ]
[ "$stat" = 'SIGUSR2 ends it; PREFIX=/usr' ]
