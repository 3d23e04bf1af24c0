# SPDX-License-Identifier: MIT
# Suites that other people wrote give the same, case by case, bare and under the shim: the short
# form of scripts/transparency.
# mutant: shim/interpose/wait.c: s/(libc_epoll_wait\(epoll, events), most, ms/\1, 1, ms/
# seconds: 63
# shellcheck shell=bash disable=SC2030,SC2031,SC2154

load helpers
unset WEIR_MODE # the default, protocol

# compare SUITE...: with BUILD, the library that is built there.
compare() {
    run "$ROOT/scripts/transparency" --short "$@"
    echo "$output"
}

# none_differs SUITE LEAST: that is its row, and at least so many of its cases passed.
none_differs() {
    compare "$1"
    [ "$status" = 0 ]
    [[ ${lines[1]} =~ ^$1\ +([0-9]+)\ +([0-9]+)\ +none ]]
    [ "${BASH_REMATCH[1]}" -ge "$2" ]
}

# broken SOURCE: a library in our place that does to one call what no program expects.
broken() {
    printf '%s\n' "$1" >"$BATS_TEST_TMPDIR/broken.c"
    "${CC:-cc}" -shared -fPIC -o "$BATS_TEST_TMPDIR/libweir.so" "$BATS_TEST_TMPDIR/broken.c"
}

@test "CPython's test_selectors passes as it does without the shim" {
    none_differs test_selectors 60
}

@test "CPython's test_epoll passes as it does without the shim" {
    none_differs test_epoll 8
}

@test "CPython's test_poll passes as it does without the shim" {
    none_differs test_poll 6
}

@test "CPython's test_select passes as it does without the shim" {
    none_differs test_select 4
}

@test "CPython's test_fork1 passes as it does without the shim" {
    none_differs test_fork1 4
}

@test "CPython's test_subprocess passes as it does without the shim" {
    none_differs test_subprocess 150
}

@test "CPython's test_signal passes as it does without the shim" {
    none_differs test_signal 35
}

@test "CPython's test_socket passes as it does without the shim" {
    none_differs test_socket 450
}

# What a run under a library that is meant to fail has left for people to read.
forget_logs() {
    local logs=${output##*what the runs said: }
    [[ $logs != /var/tmp/weir.*/* ]] || rm -rf "${logs%/*}"
}

@test "a library that breaks a call is found out, and the cases are named" {
    broken '#include <errno.h>
        int epoll_wait(int fd, void *events, int most, int ms)
        { (void)fd, (void)events, (void)most, (void)ms; errno = EINVAL; return -1; }'
    BUILD=$BATS_TEST_TMPDIR compare test_epoll
    forget_logs
    [ "$status" = 1 ]
    [[ $output == *"test_epoll: differs (bare | under Weir):"* ]]
    [[ $output == *"test.test_epoll.TestEPoll.test_fromfd: passed | error"* ]]
}

@test "a library that ends the program is found out" {
    broken '#include <unistd.h>
        int epoll_ctl(int fd, int what, int with, void *event)
        { (void)fd, (void)what, (void)with, (void)event; _exit(0); }'
    BUILD=$BATS_TEST_TMPDIR compare test_epoll
    forget_logs
    [ "$status" = 1 ]
    [[ $output == *"    (the whole run): SUCCESS | exit status 0"* ]]
}

@test "a library that can't be loaded is no proof" {
    echo 'not a library' >"$BATS_TEST_TMPDIR/libweir.so"
    BUILD=$BATS_TEST_TMPDIR compare test_epoll
    [ "$status" = 1 ]
    [[ $output == *"can't be preloaded"* ]]
}
