#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What the library shows to the world, and that it builds without a warning.
# mutant: shim/exports.map: s/ recvmmsg;//
# needs: clang
# seconds: 4

load helpers

REQUIRED=(
    accept accept4
    read __read_chk readv recv __recv_chk recvfrom __recvfrom_chk recvmsg recvmmsg
    write writev send sendto sendmsg sendmmsg sendfile sendfile64 splice
    getsockopt setsockopt close fclose shutdown
    unlink unlinkat remove
    dup dup2 dup3 fcntl fcntl64 close_range closefrom syscall
    __read __write __close __send __dup2 __fcntl
    bind connect listen epoll_ctl
    sigaction __sigaction signal sigblock sigsetmask siggetmask
    weir_mark_idle weir_mark_in_use weir_disown weir_close_idle weir_drain weir_drain_all
    weir_counts
)

# exported LIBRARY: the names that it defines, without their versions.
exported() {
    nm -D --defined-only "$1" | awk '$2 ~ /[A-Za-z]/ { sub(/@.*/, "", $3); print $3 }' | sort -u
}

libc() {
    ldd "$(command -v env)" | awk '$1 ~ /^libc\./ { print $3 }'
}

@test "the library exports every call that it must see, and weir_*" {
    local missing
    missing=$(comm -23 <(printf '%s\n' "${REQUIRED[@]}" | sort) <(exported "$WEIR_LIB"))
    [ -z "$missing" ] || { echo "missing: $missing" >&2; return 1; }
}

@test "the library exports nothing but names of libc and weir_*" {
    local others
    [ "$(exported "$(libc)" | wc -l)" -gt 2000 ]
    others=$(comm -23 <(exported "$WEIR_LIB" | grep -v '^weir_') <(exported "$(libc)"))
    [ -z "$others" ] || { echo "neither libc's nor weir_: $others" >&2; return 1; }
}

# address NAME: of the last symbol of that name (another file may have a static one of it).
address() {
    nm "$WEIR_LIB" | awk -v name="$1" '$3 == name { print "0x" $1 }' | sort | tail -n 1
}

@test "what each call looks at first lies on one cache line, and the fork's page has one of its own" {
    local table page
    table=$(address table) page=$(address fork_page)
    echo "table $table, page $page"
    [ $((table % 64)) -eq 0 ]
    [ $((page % 4096)) -eq 0 ]
}

@test "of weir_* the library exports what weir.h declares, and nothing else" {
    local declared
    declared=$(gcc -E "$ROOT/shim/weir.h" | grep -o 'weir_[a-z_]* *(' | tr -d ' (' | sort -u)
    [ -n "$declared" ]
    diff <(echo "$declared") <(exported "$WEIR_LIB" | grep '^weir_')
}

@test "no call is exported that libc itself exports as data" {
    local data
    data=$(nm -D --defined-only "$WEIR_LIB" | awk '$2 !~ /^[TtWwi]$/')
    [ -z "$data" ] || { echo "$data" >&2; return 1; }
}

@test "the library needs libc and nothing else, and no executable stack" {
    local needed
    needed=$(readelf -d "$WEIR_LIB" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -Ev '^(libc\.so\.6|ld-linux-.*|libdl\.so\.2|libpthread\.so\.0)$' || true)
    [ -z "$needed" ] || { echo "it needs $needed" >&2; return 1; }
    readelf -lW "$WEIR_LIB" | grep -q 'GNU_STACK.* RW '
}

# Each warning ends a build: so what has been built has none.
@test "gcc builds it without a warning" {
    if [ "$(readlink -f "$(command -v gcc)")" = "$(readlink -f "$(command -v cc)")" ]; then
        built all tests
        asks_for_warnings cc all tests
    else
        make -j2 -C "$ROOT" --no-print-directory --silent "BUILD=$BATS_TEST_TMPDIR/build" CC=gcc all tests
    fi
}

# The library and the command are clang's where its sanitizers are wanted as well. Of the programs here
# clang reads what it would compile.
@test "clang builds it without a warning" {
    built sanitized
    asks_for_warnings clang sanitized
    make -j2 -C "$ROOT" --no-print-directory --silent "BUILD=$BATS_TEST_TMPDIR/build" CC=clang \
        CFLAGS=-fsyntax-only tests
    make -C "$ROOT" --no-print-directory --silent "BUILD=$BATS_TEST_TMPDIR/build" CC=clang \
        "$BATS_TEST_TMPDIR/build/tests/marked"
    [ -x "$BATS_TEST_TMPDIR/build/tests/marked" ]
}

# asks_for_warnings COMPILER TARGET...: each source of these is compiled so.
asks_for_warnings() {
    local commands=$BATS_TEST_TMPDIR/commands
    make -C "$ROOT" --no-print-directory --dry-run --always-make "${@:2}" >"$commands"
    grep -q -- "^$1 .* -c .* shim/conn/fdtable.c$" "$commands"
    not grep -v -- ' -Wall -Wextra -Werror ' < <(grep "^$1 .*\.c$" "$commands")
}

@test "weir.h is accepted as C and as C++" {
    echo '#include "weir.h"' >"$BATS_TEST_TMPDIR/user.c"
    echo 'int main(void) { struct weir_counts c; return weir_counts ? weir_counts(&c) : 0; }' \
        >>"$BATS_TEST_TMPDIR/user.c"
    gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$ROOT/shim" -o "$BATS_TEST_TMPDIR/user" \
        "$BATS_TEST_TMPDIR/user.c"
    "$BATS_TEST_TMPDIR/user"
    LD_PRELOAD=$WEIR_LIB "$BATS_TEST_TMPDIR/user"
    g++ -x c++ -Wall -Wextra -Werror -I"$ROOT/shim" -fsyntax-only "$BATS_TEST_TMPDIR/user.c"
}
