#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Each call that reads or writes, by itself: what it makes of its connection is counted, whether the
# connection's thread is alone or one of many.
# mutant: shim/interpose/write.c: s/LIKELY\(!\(flags & MSG_MORE\)\)/!(flags \& 0)/
# seconds: 6

load helpers

# right HOW: before and after each call weir_counts is as it should be, in each mode.
right() {
    local mode
    for mode in reply automatic deadline manual; do
        run env "LD_PRELOAD=$WEIR_LIB" "WEIR_MODE=$mode" timeout "$(patient 60)" "$PROGRAMS/call_steps" "$1" 3>&-
        echo "$mode: $output"
        [ "$status" -eq 0 ]
        [ "${lines[-1]}" = "109 calls, 0 wrong" ]
    done
}

@test "in use after a read, idle after an answer or a mark, by each call: a thread alone" {
    right alone
}

@test "in use after a read, idle after an answer or a mark, by each call: one thread of two" {
    right among
}
