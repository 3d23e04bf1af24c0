#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What the shim keeps in memory never hurts its program: what it knows of descriptors, its entry in
# the environment, its tables where memory is scarce or descriptors are many, its copies in a child.
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((23000 + 20 * BATS_TEST_NUMBER))
}

# shimmed COMMAND...: runs it under the shim, to its end.
shimmed() {
    env LD_PRELOAD="$WEIR_LIB" WEIR_LOG=stderr WEIR_LOG_LEVEL=error "$@"
}

# ---- what is known of descriptors ----

@test "a duplicate of a closed connection can be sent while its number is another's" {
    run shimmed "$PROGRAMS/fd_sent_duplicate" 20
    [ "$status" = 0 ]
    [ "$(grep -c '^5 hello$' <<<"$output")" = 20 ]
}

# many_answered COUNT: so many clients at once, each of which is to get its own words back.
many_answered() {
    local i pids=()
    for ((i = 0; i < $1; i++)); do
        # shellcheck disable=SC2016  # expanded by the inner shell
        timeout "$(patient 10)" bash -c 'exec 9<>"/dev/tcp/127.0.0.1/$1" && echo "$2" >&9 &&
            read -r line <&9 && [ "$line" = "worker: $2" ]' - "$port" "client $i" 3>&- &
        pids+=($!)
    done
    for i in "${pids[@]}"; do
        wait "$i" || return 1
    done
}

hands_out() {
    serve server -- /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/handout.py" "$port" "$1"
    wait_port "$port"
    for _ in 1 2 3 4 5; do
        many_answered 12
        alive "$SERVER_PID"
    done
}

@test "a server that hands its connections to processes that it spawned answers many at once" {
    hands_out spawn
}

@test "a server that hands its connections to processes that it forked answers many at once" {
    hands_out fork
}
