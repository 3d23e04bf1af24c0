#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Listening sockets that a program is given by its starter: bind() takes them, with whoever waits in
# their queues, and the program finds its own socket as it has made it.
# mutant: shim/base/sock_carry.c: s/sock_admit_syns\(to\);//
# needs:
# seconds: 14
# shellcheck shell=bash disable=SC2154

load helpers

setup() {
    port=$((24000 + 10 * BATS_TEST_NUMBER))
    PYTHON=/usr/bin/python3
}

# hand_over WORD... -- [WRAPPER...] adopter WORD...
hand_over() {
    local words=()
    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    serve_bare starter -- "$PYTHON" "$ROOT/tests/programs/hand_over.py" "${words[@]}" -- \
        env LD_PRELOAD="$WEIR_LIB" WEIR_LOG="$BATS_TEST_TMPDIR/shim.log" "$@"
}

is_free() {
    not listening "$1"
}

adopter() {
    echo "$PYTHON" "$ROOT/tests/programs/adopter.py" "$@"
}

# all_answered COUNT: the starter's clients, by the sockets in whose queues they were.
all_answered() {
    wait_until 20 log_has starter '^all told$'
    [ "$(grep -c ' answered$' "$BATS_TEST_TMPDIR/starter.log")" = "$1" ]
}

@test "who waits in the queue of an address is served by whoever binds it: IPv4, IPv6, a path, a name" {
    local path=$BATS_TEST_TMPDIR/s addresses
    addresses=("127.0.0.1/$port" "0.0.0.0/$((port + 1))" "::/$((port + 2))" "6only/::1/$((port + 3))"
        "::1/$((port + 4))"
        "$path" "@weir-handed-$port")
    # shellcheck disable=SC2046
    hand_over "${addresses[@]}" -- $(adopter "${addresses[@]}")
    all_answered 7
    log_has starter '^serving False$'
}

@test "another address, and another V6ONLY, is bound as ever" {
    # shellcheck disable=SC2046
    hand_over "127.0.0.1/$port" "6only/::/$((port + 1))" -- \
        $(adopter "127.0.0.2/$port" "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
    wait_until 10 log_has starter '^127.0.0.1/.* answered$'
    not log_has starter '6only.*answered'
}

@test "the program's descriptor, its flags and its options are those that it has set" {
    # shellcheck disable=SC2046
    serve_bare bare -- $(adopter options "127.0.0.1/$((port + 1))")
    wait_until 10 log_has bare '^serving'
    kill "$SERVER_PID"
    # shellcheck disable=SC2046
    hand_over deaf "127.0.0.1/$((port + 1))" -- $(adopter options "127.0.0.1/$((port + 1))")
    wait_until 10 log_has starter '^serving'
    [ "$(grep -c ^option "$BATS_TEST_TMPDIR/bare.log")" = 14 ]
    diff <(grep -v ' told$\|answered$' "$BATS_TEST_TMPDIR/bare.log") \
        <(grep -v ' told$\|answered$' "$BATS_TEST_TMPDIR/starter.log")
    # TCP_DEFER_ACCEPT holds for those who come from now on; this one was in the queue.
    all_answered 1
}

@test "a socket that has been made deaf hears again, and so do those who came in meanwhile" {
    # shellcheck disable=SC2046
    hand_over deaf "127.0.0.1/$port" -- $(adopter "127.0.0.1/$port")
    all_answered 1
    [ "$(timeout 10 bash -c "cat </dev/tcp/127.0.0.1/$port")" -gt 0 ]
}

@test "of a group that shares a port, each socket is taken, also by processes that bind one each" {
    local group=("group/127.0.0.1/$port" "group/127.0.0.1/$port" "group/127.0.0.1/$port") mode
    for mode in "" apart; do
        # shellcheck disable=SC2046,SC2086
        hand_over "${group[@]}" -- $(adopter $mode "${group[@]}")
        all_answered 3
        kill "$SERVER_PID"
        wait "$SERVER_PID" || true
        wait_until 10 is_free "$port"
    done
}

@test "a path is taken over although the program removes it first, and one that is bound only gives back" {
    local path=$BATS_TEST_TMPDIR/s
    # shellcheck disable=SC2046
    hand_over "$path" "127.0.0.1/$port" -- $(adopter unlink twice "$path" "127.0.0.1/$port")
    all_answered 2
    [ -S "$path" ]
}

@test "wrappers that become the program, start it, or close all descriptors hand the sockets on" {
    # shellcheck disable=SC2046
    hand_over "127.0.0.1/$port" "127.0.0.1/$((port + 1))" -- \
        /bin/sh -c "env | grep HANDED; $PYTHON -c 'import os, sys
os.closerange(3, 70000)
for fd in range(3, 3000):
    try:
        os.close(fd)
    except OSError:
        pass
os.execv(sys.argv[1], sys.argv[1:])' \"\$@\"; :" sh \
        $(adopter "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
    all_answered 2
    not log_has starter WEIR_HANDED
}

@test "a program that is started by system or popen is given none" {
    # shellcheck disable=SC2016,SC2046
    hand_over "127.0.0.1/$port" -- "$PYTHON" -c 'import ctypes, os, sys
look = b"""
    for fd in /proc/self/fd/*; do
        case $(readlink "$fd") in
        socket:*) echo "given $fd" ;;
        esac
    done
    echo looked
"""
libc = ctypes.CDLL(None)
libc.system(look)
libc.popen.restype = ctypes.c_void_p
libc.pclose(ctypes.c_void_p(libc.popen(look, b"w")))
os.execv(sys.argv[1], sys.argv[1:])' $(adopter "127.0.0.1/$port")
    all_answered 1
    [ "$(grep -c "^looked$" "$BATS_TEST_TMPDIR/starter.log")" = 2 ]
    not log_has starter "^given"
}

@test "what nobody has bound when the program has served for 10 s is closed, and the log names it" {
    local before=$SECONDS
    # shellcheck disable=SC2046
    hand_over "127.0.0.1/$port" "127.0.0.1/$((port + 1))" -- $(adopter "127.0.0.1/$port")
    wait_until 30 log_has starter '^all told$'
    log_has starter "^127.0.0.1/$port answered$"
    log_has starter "^127.0.0.1/$((port + 1)) lost"
    [ $((SECONDS - before)) -ge 9 ]
    grep "closed 127.0.0.1:$((port + 1)), .*: not bound in 10s" "$BATS_TEST_TMPDIR/shim.log"
}

@test "a program that binds and does not listen leaves the socket to who comes behind it" {
    # shellcheck disable=SC2046
    hand_over "127.0.0.1/$port" -- /bin/sh -c "\"\$@\" never 127.0.0.1/$port; \"\$@\" 127.0.0.1/$port; :" \
        sh $(adopter)
    all_answered 1
    log_has starter '^bound$'
}
