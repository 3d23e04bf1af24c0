#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Signals and threads: no signal is lost, each comes to whom it would without us, and our thread has
# what the program's threads have.
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((10000 + 100 * BATS_TEST_NUMBER))
}

# same_as_bare NAME [VAR=value...] -- COMMAND...: it says and returns the same under the shim.
same_as_bare() {
    local name=$1 variables=()
    shift
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    serve_bare "$name.bare" -- "$@"
    wait_gone "$SERVER_PID" 20
    wait "$SERVER_PID" && echo 0 >>"$BATS_TEST_TMPDIR/$name.bare.log" ||
        echo $? >>"$BATS_TEST_TMPDIR/$name.bare.log"
    serve "$name" WEIR_LOG=none "${variables[@]}" -- "$@"
    wait_gone "$SERVER_PID" 20
    wait "$SERVER_PID" && echo 0 >>"$BATS_TEST_TMPDIR/$name.log" ||
        echo $? >>"$BATS_TEST_TMPDIR/$name.log"
    [ "$(log "$name.bare" | wc -l)" -gt 1 ]
    diff -U3 "$BATS_TEST_TMPDIR/$name.bare.log" "$BATS_TEST_TMPDIR/$name.log"
}

# ---- vfork ----

@test "a stop signal that comes while the program is in vfork reaches it" {
    same_as_bare parent WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=1s -- "$PROGRAMS/vfork_signals" parent "$port"
}

@test "a stop signal to a vfork child ends that child" {
    same_as_bare child WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" child "$port"
}

@test "a stop signal to a vfork child calls the program's handler in it" {
    same_as_bare handled WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" handled "$port"
}

@test "a stop signal to a vfork child that blocks it waits for the program that it execs" {
    same_as_bare blocked WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" blocked "$port"
}

@test "a shell that starts one command after the other ends by each of 40 stop signals" {
    local i
    for i in {1..40}; do
        serve shell WEIR_LOG=none WEIR_STOP_SIGNALS=TERM -- \
            dash -c 'echo begun; while :; do /bin/true; done'
        wait_until 10 log_has shell begun
        sleep "0.0$((i % 10))$((i / 10))"
        kill -TERM "$SERVER_PID"
        wait_gone "$SERVER_PID" 10
    done
}

# ---- masks that change between two waits ----

# ends_by_handler HOW
ends_by_handler() {
    local client
    serve server WEIR_STOP_SIGNALS=TERM WEIR_FIRST_BYTE=100ms -- "$PROGRAMS/thread_masks" "$1" "$port"
    wait_port "$port"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 10
    log_has server '^ended by 1; SIGTERM is open$'
}

@test "a stop signal reaches a program that blocks it while it waits, by sigprocmask" {
    ends_by_handler setmask
}

@test "a stop signal reaches a program that blocks it while it waits, by pthread_sigmask" {
    ends_by_handler unblock
}

@test "a stop signal reaches a program whose ppoll blocks it while it waits" {
    ends_by_handler ppoll
}

@test "a stop signal reaches a program whose pselect blocks it while it waits" {
    ends_by_handler pselect
}

@test "a stop signal reaches a program whose epoll_pwait blocks it while it waits" {
    ends_by_handler epoll_pwait
}

@test "a stop signal reaches a program whose sigsuspend blocks it while it waits" {
    ends_by_handler sigsuspend
}

# ---- signals that are the program's ----

@test "the trigger, once the program's, comes to the thread that it was sent to" {
    same_as_bare trigger -- "$PROGRAMS/thread_signals" 12 before
}

@test "the trigger, given back when several threads run, comes to the thread that it was sent to" {
    same_as_bare trigger -- "$PROGRAMS/thread_signals" 12 after
}

@test "the control signal, once the program's, comes to the thread that it was sent to" {
    same_as_bare control -- "$PROGRAMS/thread_signals" "$(kill -l RTMAX-3)" before
    same_as_bare control -- "$PROGRAMS/thread_signals" "$(kill -l RTMAX-3)" after
}

@test "another WEIR_SIGNAL, once the program's, comes to the thread that it was sent to" {
    same_as_bare other WEIR_SIGNAL=RTMIN+3 -- "$PROGRAMS/thread_signals" "$(kill -l RTMIN+3)" before
    same_as_bare other WEIR_SIGNAL=RTMIN+3 WEIR_CONTROL_SIGNAL=none -- \
        "$PROGRAMS/thread_signals" "$(kill -l RTMIN+3)" after
}
