#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Each call that reads or writes, by itself: what it makes of its connection is counted, whether the
# connection's thread is alone (then it is hinted at) or one of many.

load helpers

# Each call, before which weir_counts is as it should be, and after which it is.
steps() {
    LD_PRELOAD=$WEIR_LIB WEIR_MODE=reply timeout 60 "$PROGRAMS/call_steps" "$1" 3>&-
}

@test "in use after a read, idle after an answer, by each call: a thread alone" {
    run steps alone
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "108 calls, 0 wrong" ]
}

@test "in use after a read, idle after an answer, by each call: one thread of two" {
    run steps among
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "108 calls, 0 wrong" ]
}
