#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Processes that come of others: fork and all its relations. A child is a process of its own, which
# drains what is its own, and nothing that it does to a descriptor shows in its parent.
# mutant: shim/conn/conn.c: s/(!record \|\| \(record & CONN_GENERATION\)) == mine/\1 != mine/
# seconds: 28
# shellcheck disable=SC2030,SC2031,SC2154

load helpers
load lines
load processes

setup() {
    port=$((20000 + 20 * BATS_TEST_NUMBER))
}

# start_each HOW [VAR=value...]: fork_each as the second process of its tree, so that a signal to it
# is for it alone; its pid goes to `parent`.
start_each() {
    local how=$1
    shift
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms "$@" -- \
        sh -c '"$@"; exit $?' - "$PROGRAMS/fork_each" "$how" "$port"
    wait_port "$port"
    wait_until 2 log_has server '^server '
    parent=$(log server | sed -n 's/^server //p')
    also_end "$parent"
}

# The child has its connection; a signal to the parent leaves it alone, one to the child drains it.
each_drains_its_own() {
    local client
    start_each "$1"
    conn_open client "$port"
    echoes "$client"
    child_of 1
    ask "$client" parent
    [ "$answer" = "0 0 0 1" ]
    ask "$client" counts
    [[ $answer == "1 0 1 "* ]]
    pause 0.4
    kill -USR2 "$parent"
    wait_until 3 log_has server "^weir\[$parent\] .*: drained in "
    pause 0.3
    is_open "$client"
    echoes "$client"
    pause 0.4
    kill -USR2 "$child"
    at_eof "$client" 2
    wait_gone "$child" 2
    alive "$parent"
}

@test "a child by fork drains its connection when it is told to, and not when its parent is" {
    each_drains_its_own fork
}

@test "a child by _Fork drains its connection when it is told to, and not when its parent is" {
    each_drains_its_own _Fork
}

@test "a child by a raw clone drains its connection when it is told to, and not when its parent is" {
    each_drains_its_own clone
}

@test "a child by syscall(SYS_fork) drains its connection, and not when its parent is told to" {
    [ "$(uname -m)" = x86_64 ] || skip "there is no such system call"
    each_drains_its_own sysfork
}

@test "a child forked in a signal handler drains its connection, and not when its parent is told to" {
    each_drains_its_own handler
}

@test "a child that was handed a connection which has not spoken yet closes it when it is told to" {
    local client
    start_each fork
    conn_open client "$port"
    child_of 1
    pause 0.5
    kill -USR2 "$child"
    at_eof "$client" 2
    wait_gone "$child" 2
}

@test "a child that has only waited yet for a connection that it was handed closes it in a drain" {
    local client
    serve server WEIR_FIRST_BYTE=200ms -- /usr/bin/python3 -c '
import os, select, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
if os.fork() == 0:
    listener.close()
    select.select([connection], [], [])
    os._exit(len(connection.recv(1)))
connection.close()
print("closed", flush=True)
print("ended with", os.wait()[1], flush=True)
time.sleep(60)' "$port"
    wait_port "$port"
    conn_open client "$port"
    wait_until 5 log_has server '^closed$'
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 5
    wait_until 5 log_has server '^ended with 0$'
    wait_drained server
    log_has server ': drained in .*: 1 closed clean, 0 forced'
}

@test "a child's connection in use is left to finish its answer" {
    local client
    start_each fork WEIR_MODE=automatic
    conn_open client "$port"
    echoes "$client" # in mode automatic a read makes it in use for good
    child_of 1
    kill -USR2 "$child"
    pause 0.4
    echoes "$client"
    conn_close "$client"
    wait_gone "$child" 2
}

@test "a child that accepts itself drains like its parent would" {
    local client
    start_each prefork
    conn_open client "$port"
    echoes "$client"
    child_of 1
    pause 0.4
    kill -USR2 "$child"
    at_eof "$client" 2
    wait_until 3 log_has server "^weir\[$child\] .*: drained in .* 1 closed clean, 0 forced"
    alive "$child"
    alive "$parent"
}

@test "a child that closes its copies of its parent's connections disturbs none, nor their count" {
    local clients=() client i
    start_each fork
    for i in 1 2 3 4 5 6 7 8; do
        conn_open client "$port"
        clients+=("$client")
        echoes "$client"
    done
    child_of 8
    kill "$child"
    ask "${clients[0]}" parent
    [ "$answer" = "0 0 0 8" ]
    for client in "${clients[@]:0:7}"; do
        echoes "$client"
    done
}

# ---- many ----

storm() {
    serve storm WEIR_LOG=none -- "$PROGRAMS/fork_storm" "$@"
    wait_gone "$SERVER_PID" 40
    log storm
}

@test "500 forks beside threads that accept and close leave each connection and the counts right" {
    storm fork 500 "$port"
    log_has storm '^forks 500 late 0 killed 0 served [0-9]{3,} wrong 0 tracked 0$'
}

@test "500 children by _Fork beside threads that accept and close leave all right" {
    storm _Fork 500 "$port"
    log_has storm '^forks 500 late 0 killed 0 served [0-9]{3,} wrong 0 tracked 0$'
}

@test "500 children forked in the middle of a drain inherit no claim: their closes end" {
    storm fork 500 "$port" drain
    log_has storm '^forks 500 late 0 killed 0 served 400 wrong 0 tracked 0$'
}

@test "500 children by _Fork in the middle of a drain inherit no claim: their closes end" {
    storm _Fork 500 "$port" drain
    log_has storm '^forks 500 late 0 killed 0 served 400 wrong 0 tracked 0$'
}

@test "children forked in the middle of a drain that serve nobody say nothing in the log" {
    serve storm -- "$PROGRAMS/fork_storm" fork 40 "$port" drain
    wait_gone "$SERVER_PID" 20
    log_has storm '^forks 40 late 0 '
    [ "$(grep -c "^weir\[$SERVER_PID\]" "$BATS_TEST_TMPDIR/storm.log")" -ge 2 ]
    [ "$(grep -c '^weir' "$BATS_TEST_TMPDIR/storm.log")" = "$(grep -c "^weir\[$SERVER_PID\]" "$BATS_TEST_TMPDIR/storm.log")" ]
}

@test "WEIR_ON_DRAINED is for who was drained: a child forked meanwhile to do some work goes on" {
    serve storm WEIR_LOG=none WEIR_ON_DRAINED=KILL -- "$PROGRAMS/fork_storm" work 40 "$port" drain
    wait_gone "$SERVER_PID" 20
    log_has storm '^forks 40 late 0 killed 0 '
}

# ---- in a signal's handler ----

@test "1,000 forks in the handler of a signal that falls into malloc and stdio all go well" {
    serve server -- "$PROGRAMS/fork_in_handler" 1000 "$port"
    wait_gone "$SERVER_PID" 30
    log_has server '^forks 1000 failed 0 threads 1$'
}

@test "1,000 forks in a signal handler go well also in the middle of a drain" {
    serve server WEIR_LOG=none -- "$PROGRAMS/fork_in_handler" 1000 "$port" trigger
    wait_gone "$SERVER_PID" 30
    log_has server '^forks 1000 failed 0 threads [12]$'
}

# ---- on the parent's memory ----

# Children that close and replace their parent's numbers, ten of them; the parent's connection is
# tracked as before, and is closed when it is idle.
table_survives() {
    local client i
    serve server WEIR_FIRST_BYTE=1s WEIR_SETTLE=50ms WEIR_ACTION=close-idle -- \
        "$PROGRAMS/fork_vfork" "$1" "$port"
    wait_port "$port"
    conn_open client "$port"
    for i in 1 2 3 4 5 6 7 8 9 10; do
        ask "$client" go
        echo "$i: $answer"
        [ "$answer" = "1 0 1 1" ]
    done
    pause 0.4
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 2
    conn_close "$client"
    conn_open client "$port"
    ask "$client" go
    [ "$answer" = "1 0 1 2" ]
    kill -USR2 "$SERVER_PID" # its first answer is younger than WEIR_FIRST_BYTE
    pause 0.3
    ask "$client" go
    [ "$answer" = "1 0 1 2" ]
}

@test "a vfork child that closes and replaces its parent's numbers leaves its parent's table alone" {
    table_survives vfork
}

@test "a clone child on its parent's memory leaves its parent's table alone" {
    table_survives clone
}

@test "posix_spawn with close, dup2 and closefrom leaves the table alone" {
    table_survives spawn
}

@test "CPython's subprocess, with close_fds and a connection as its input, leaves the table alone" {
    local client i
    cat >"$BATS_TEST_TMPDIR/server.py" <<'END'
import ctypes, socket, subprocess, sys

counts = (ctypes.c_uint64 * 4)()
weir_counts = ctypes.CDLL(None).weir_counts
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection = listener.accept()[0]
    while connection.recv(100):
        child = subprocess.run(["/bin/sh", "-c", "exec </dev/null; exit 7"], close_fds=True,
                               stdin=connection)
        weir_counts(counts)
        connection.sendall(b"%d %d %d\n" % (child.returncode, counts[0], counts[2]))
    connection.close()
END
    serve server WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms WEIR_ACTION=close-idle -- \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/server.py" "$port"
    wait_port "$port"
    conn_open client "$port"
    for i in 1 2 3 4 5 6 7 8 9 10; do
        ask "$client" go
        echo "$i: $answer"
        [ "$answer" = "7 1 1" ]
    done
    pause 0.4
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 2
    alive "$SERVER_PID"
}

# A child that inherits a listener and does nothing but this is one of the tree's processes, and
# stops when the tree does.
lives_as_one_of_the_tree() {
    local child
    serve server WEIR_RUN_DIR="$BATS_TEST_TMPDIR" -- "$PROGRAMS/fork_lives" "$1" "$port"
    wait_until 2 log_has server '^child '
    child=$(log server | sed -n 's/^child //p')
    also_end "$child"
    wait_until 2 lists "$child"
    WEIR_RUN_DIR=$BATS_TEST_TMPDIR "$ROOT/build/weir" drain --wait "$SERVER_PID"
    # No copy of the listener is left.
    wait_until 2 not connects
    alive "$child"
}

connects() {
    (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

lists() {
    WEIR_RUN_DIR=$BATS_TEST_TMPDIR "$ROOT/build/weir" status --json "$SERVER_PID" |
        grep -q "\"processes\": .*\"pid\": $1,"
}

@test "a child that inherits a listener is one of the tree's when it pauses" {
    lives_as_one_of_the_tree pause
}

@test "a child that inherits a listener is one of the tree's when it sleeps" {
    lives_as_one_of_the_tree sleep
}

@test "a child that inherits a listener is one of the tree's when it polls" {
    lives_as_one_of_the_tree poll
}

@test "a child that inherits a listener is one of the tree's when it reads from a pipe" {
    lives_as_one_of_the_tree read
}

@test "a child that inherits a listener is one of the tree's when it waits for a lock" {
    lives_as_one_of_the_tree lock
}

@test "a child that inherits a listener is one of the tree's when it has a thread" {
    lives_as_one_of_the_tree thread
}

@test "a child that inherits a listener is one of the tree's when it has a child" {
    lives_as_one_of_the_tree child
}

@test "a child that ends at once touches no memory of ours, nor does its parent" {
    local bare shim
    bare=$("$PROGRAMS/fork_lives" end "$port")
    shim=$(LD_PRELOAD=$WEIR_LIB WEIR_LOG=none WEIR_RUN_DIR=$BATS_TEST_TMPDIR \
        "$PROGRAMS/fork_lives" end "$((port + 1))")
    echo "bare: $bare, under the shim: $shim"
    # Where the stack begins, and which of a library's pages come together, makes one or two.
    awk '{ exit !($5 <= $2 + 3 && $6 <= $3 + 1) }' <<<"$bare $shim"
}
