# SPDX-License-Identifier: MIT
# Many clients in the background (tests/programs/load, answer_busy), and what became of their requests:
# `load load` after helpers.
# shellcheck shell=bash disable=SC2154

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

# under_load PROTOCOL COMMAND...: COMMAND, under 50 clients that stay and 10 that come again and again.
under_load() {
    local protocol=$1 kept new
    shift
    load_begins kept 10 "$PROGRAMS/load" --protocol "$protocol" --careful --connections 50 \
        --pause 0-40 --seconds 60 "$port"
    kept=$CLIENTS
    load_begins new 10 "$PROGRAMS/load" --protocol "$protocol" --one-shot --connections 10 \
        --pause 10-90 --seconds 60 "$port"
    new=$CLIENTS
    "$@"
    pause 0.5
    kill -INT "$kept" "$new" 2>/dev/null || true
    CLIENTS=$kept load_ends kept
    none_is unanswered reset truncated refused
    CLIENTS=$new load_ends new
    none_is unanswered reset truncated refused connect_reset
}
