# SPDX-License-Identifier: MIT
# Many clients in the background (tests/programs/load, answer_busy), and what became of their requests:
# `load load` after helpers.
# shellcheck shell=bash

# load_begins NAME SECONDS COMMAND...: CLIENTS is its pid; it says that it is ready within SECONDS.
load_begins() {
    local name=$1 seconds=$2
    shift 2
    new_log "$name"
    become "$@" >"$BATS_TEST_TMPDIR/$name.out" 2>"$BATS_TEST_TMPDIR/$name.log" &
    CLIENTS=$!
    LOGGED+=("$name")
    STARTED+=("$CLIENTS")
    wait_until "$seconds" log_has "$name" ready
}

# load_ends NAME: by itself. Its line is in `totals`, word by word.
load_ends() {
    local word words
    wait "$CLIENTS"
    cat "$BATS_TEST_TMPDIR/$1.out"
    declare -gA totals=()
    read -ra words <"$BATS_TEST_TMPDIR/$1.out"
    for word in "${words[@]}"; do
        totals[${word%%=*}]=${word#*=}
    done
    [ -n "${totals[answered]}" ]
}

# none_is WORD...: of these there was not one.
none_is() {
    local word
    for word in "$@"; do
        [ "${totals[$word]}" = 0 ] || { echo "$word: ${totals[$word]}" >&2; return 1; }
    done
}
