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

# ---- other libraries that stand in front of libc ----

# library_behind HOW: builds one, `behind` is its path.
library_behind() {
    behind=$BATS_TEST_TMPDIR/behind.so
    cc -shared -fPIC -O1 "-D$1" -o "$behind" "$BATS_TEST_DIRNAME/programs/syscall_behind.c"
}

works_in_front_of() {
    library_behind "$1"
    run env LD_PRELOAD="$behind" "$PROGRAMS/syscall_behind"
    [ "$status" = 0 ]
    run shimmed LD_PRELOAD="$WEIR_LIB $behind" "$PROGRAMS/syscall_behind"
    echo "$output"
    [ "$status" = 0 ]
    [ "$output" = "accepted 10 tracked 2 in use 0" ]
}

@test "a library behind the shim may make a call by syscall(), and each counts once" {
    works_in_front_of BY_SYSCALL
}

@test "a library behind the shim may make a call by another of libc's names for it" {
    works_in_front_of BY_OTHER_NAMES
}

@test "a server over a library that calls syscall() is drained" {
    local idle answer
    library_behind BY_SYSCALL
    serve server "LD_PRELOAD=$WEIR_LIB $behind" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- \
        /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/web_server.py" "$port" \
        "$BATS_TEST_TMPDIR/bodies"
    wait_port "$port"
    conn_open idle "$port"
    conn_send "$idle" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    read_line answer "$idle" 5
    [[ $answer == *200* ]]
    kill -USR2 "$SERVER_PID"
    wait_drained server
    log_has server 'drained in .*: 1 closed clean, 0 forced'
}
