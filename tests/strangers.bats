#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What other users, and processes of a tree that were broken into, can do to a daemon under the shim
# and to the command: nothing.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((14000 + 20 * BATS_TEST_NUMBER))
    [ "$(id -u)" = 0 ] || skip "not root"
    setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "no other user"
    as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    run=$BATS_TEST_TMPDIR/run
    outside=()
}

teardown() {
    end_started
    [ ${#outside[@]} = 0 ] || rm -rf "${outside[@]}"
}

# ask FD TEXT: `answer` is the answer.
ask() {
    conn_send "$1" "$2\n"
    read_line answer "$1" "${3:-5}"
}

# ---- processes that /proc does not show

# hidden_tree COMMAND...: root's master and workers of nobody's, where /proc hides what is others'.
hidden_tree() {
    serve_bare server -- unshare --mount sh -c 'mount -t proc -o hidepid=2 none /proc || exit 77
        exec "$@"' - "$@" env "LD_PRELOAD=$WEIR_LIB" "WEIR_RUN_DIR=$run" WEIR_STOP_SIGNALS=TERM \
        WEIR_TIMEOUT=20s WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms \
        /usr/bin/python3 "$ROOT/tests/programs/tree_users.py" "$port" 3
    server=$SERVER_PID
    wait_port "$port"
    wait_until 10 has_workers 3
    # shellcheck disable=SC2046  # words
    also_end $(log server | sed -n 's/^worker //p')
}

has_workers() {
    [ "$(log server | grep -c '^worker ')" = "$1" ]
}

# drains_all_of_it: each client of a tree that is stopped gets the answer that it waits for.
drains_all_of_it() {
    local client clients=() answer
    for _ in {1..12}; do
        conn_open client "$port"
        ask "$client" hello
        conn_send "$client" 'slow 1.5\n'
        clients+=("$client")
    done
    kill -TERM "$server"
    for client in "${clients[@]}"; do
        read_line answer "$client" 8
        [ -n "$answer" ]
        at_eof "$client" 5
    done
    wait_gone "$server" 10
    wait "$server"
    log_has server "^weir\[$server\] .*: drained in .* 12 closed clean, 0 forced"
    [ "$(grep -c ': drained in ' "$BATS_TEST_TMPDIR/server.log")" = 1 ]
}

@test "workers that can't see their master in /proc (hidepid) lose no client when it is stopped" {
    hidden_tree
    drains_all_of_it
}

@test "nor where the master can't see its workers either (hidepid, no CAP_SYS_PTRACE)" {
    hidden_tree setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace
    drains_all_of_it
}
