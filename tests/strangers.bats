#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What other users, and processes of a tree that were broken into, can do to a daemon under the shim
# and to the command: nothing.
# mutant: shim/base/proc.c: s/pid, 0\) != -ESRCH/pid, 0) == 0/
# needs: apache2-bin clang
# seconds: 60
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154

load helpers
unset WEIR_MODE # the default, protocol

setup_file() {
    built sanitized
}

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

# ---- a worker that was broken into

# traitor WHAT: a tree one of whose processes writes that to the page all the time.
traitor() {
    local answer
    port=$((port + 1))
    serve server "WEIR_RUN_DIR=$run" WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT="${timeout:-20s}" \
        WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- "$PROGRAMS/tree_traitor" "$port"
    server=$SERVER_PID
    wait_port "$port"
    conn_open traitor "$port"
    ask "$traitor" "writes $1"
    [ "$answer" = "done" ]
    # shellcheck disable=SC2046  # words
    also_end $(pgrep -P "$server")
}

@test "a worker can't take the timeout away from its master's stop" {
    local traitor client timeout=2s answer
    traitor timeout
    conn_open client "$port"
    ask "$client" hello
    conn_send "$client" 'slow 100\n'
    pause 0.3
    kill -TERM "$server"
    wait_gone "$server" 12
}

@test "a worker can't end its master's drain, nor have it forgotten, nor put itself in its place" {
    local traitor client what answer
    for what in drained orders head tables; do
        echo "$what"
        traitor "$what"
        conn_open client "$port"
        ask "$client" hello
        conn_send "$client" 'slow 4\n'
        pause 0.3
        kill -TERM "$server"
        pause 1.5
        alive "$server" # the request is in progress for two seconds more
        read_line answer "$client" 8
        [ "$answer" = "done" ]
        conn_close "$traitor"
        wait_gone "$server" 30
        # Who was kept from its own order is waited for, to the timeout, and named then.
        log_has server "^weir\[$server\] .*: drained in " ||
            { [ "$what" = orders ] && log_has server "^weir\[$server\] .*: not wholly drained in "; }
    done
}

@test "what a worker writes for its master's log is lines, with nothing that a terminal obeys" {
    local traitor client answer log=$BATS_TEST_TMPDIR/weir.log
    export WEIR_LOG=$log
    traitor log
    unset WEIR_LOG
    conn_open client "$port"
    ask "$client" hello
    conn_send "$client" 'slow 3\n'
    pause 0.3
    kill -TERM "$server"
    read_line answer "$client" 8
    [ "$answer" = "done" ]
    conn_close "$traitor"
    wait_gone "$server" 15
    [ -z "$(LC_ALL=C tr -d '\n -~' <"$log")" ]
    not grep -Ev '^weir(\[[0-9]+\] tree_traitor)?: ' "$log"
    grep -q '^weir: .x1b' "$log"
    [ "$(grep -c '' "$log")" -lt 20100 ]
    grep -q ': drained in ' "$log"
}

# bears_anything SEED: a tree serves while one of its processes writes anything to the page; its stop
# ends in time, and no process of it by another signal. The library is one that traps what C leaves
# undefined.
bears_anything() {
    local traitor client clients=() answer status=0 timeout=2s began
    local WEIR_LIB=$ROOT/build/ubsan/libweir.so
    echo "seed $1"
    traitor "anything $1"
    began=$(now_ms)
    while [ ${#clients[@]} -lt 15 ] || [ $(($(now_ms) - began)) -lt 1500 ]; do
        conn_open client "$port"
        ask "$client" hello
        [ "$answer" = "done" ]
        clients+=("$client")
        pause 0.05
    done
    conn_send "$client" 'slow 1\n'
    kill -TERM "$server"
    wait_gone "$server" 7 # the timeout, and 2 s for who does not answer
    wait "$server" || status=$?
    [ "$status" = 143 ]
    log_has server "^weir\[$server\] .*: (not wholly )?drained in "
    not log_has server '^killed '
}

@test "a worker that writes anything to the page, all the time, stops nobody, nor its master's stop" {
    bears_anything $((RANDOM * 2))
}

@test "nor where all that it writes to is what stands there about the drain" {
    bears_anything $((RANDOM * 2 + 1))
}

# ---- files of strangers

# in_mounts COMMAND...: with a /run and a /dev/shm of its own; `inside COMMAND...`: in that of $server.
in_mounts() {
    serve_bare server -- unshare --mount sh -c 'mount -t tmpfs -o mode=755 none /run &&
        mount -t tmpfs -o mode=1777 none /dev/shm && exec "$@"' - "$@"
    server=$SERVER_PID
    wait_port "$port"
}

inside=(nsenter --mount --target)

# claims TREE_PID [ACT]: a page of nobody's that says that it is of that tree (strange_page.py).
claims() {
    outside+=("/tmp/weir-strange.$$.py" "/tmp/weir-sound.$$")
    cp "$ROOT/tests/programs/strange_page.py" "/tmp/weir-strange.$$.py"
    "$PROGRAMS/pg_read" --forge "/proc/$server/root/run/weir"/* 1 >"/tmp/weir-sound.$$"
    chmod 644 "/tmp/weir-sound.$$"
    "${inside[@]}" "$server" install -d -m 700 -o 65534 -g 65534 /dev/shm/weir-65534
    serve_bare stranger -- "${inside[@]}" "$server" "${as_nobody[@]}" \
        /usr/bin/python3 "/tmp/weir-strange.$$.py" /dev/shm/weir-65534 "/tmp/weir-sound.$$" "$@"
    stranger=$SERVER_PID
    wait_until 10 log_has stranger '^ready '
}

start_log_server() {
    in_mounts env "LD_PRELOAD=$WEIR_LIB" WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=30s \
        "$PROGRAMS/log_server" "$port"
}

@test "a stranger's page that names a tree is not even opened by it, and holds nobody up" {
    start_log_server
    claims "$server"
    kill -TERM "$server"
    wait_gone "$server" 6
    log_has server ': drained in 0\.'
    not log_has stranger opened
}

@test "a directory that is a link to terminals gives the daemon none" {
    in_mounts env "LD_PRELOAD=$WEIR_LIB" WEIR_ACTION=close-idle setsid "$PROGRAMS/log_server" "$port"
    serve_bare terminal -- /usr/bin/python3 -c 'import pty, time
ends = pty.openpty()
print("ready", flush=True)
time.sleep(100)'
    wait_until 5 log_has terminal ready
    "${inside[@]}" "$server" ln -s /dev/pts /dev/shm/weir-stranger
    kill -USR2 "$server"
    wait_until 5 log_has server ': closing idle connections: '
    pause 0.3
    [ "$(cut -d ')' -f 2 "/proc/$server/stat" | cut -d ' ' -f 6)" = 0 ] # proc(5): tty_nr
}

@test "a process that descends from the tree and runs as another user is waited for" {
    local client answer
    outside+=("/tmp/weir-users.$$.py" /tmp/weir-lib.$$.so)
    cat >"/tmp/weir-users.$$.py" <<'END'
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
while data := connection.recv(100):
    time.sleep(3 if data.startswith(b"slow") else 0)
    connection.send(b"done\n")
connection.close()
listener.accept()
END
    cp "$WEIR_LIB" "/tmp/weir-lib.$$.so"
    in_mounts env "LD_PRELOAD=/tmp/weir-lib.$$.so" WEIR_TIMEOUT=20s \
        WEIR_STOP_SIGNALS=TERM WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms sh -c '
        setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 "$0" "$1" & wait' \
        "/tmp/weir-users.$$.py" "$port"
    # shellcheck disable=SC2046  # words
    also_end $(pgrep -P "$server")
    conn_open client "$port"
    ask "$client" hello
    conn_send "$client" 'slow\n'
    pause 0.3
    kill -USR2 "$server"
    pause 1
    not log_has server "^weir\[$server\] sh: drained in "
    read_line answer "$client" 8
    [ "$answer" = "done" ]
    at_eof "$client" 5
    wait_until 10 log_has server "^weir\[$server\] sh: drained in "
}

@test "a link in /dev/shm under the name of root's directory is not followed" {
    mkdir "$BATS_TEST_TMPDIR/roots"
    serve_bare server -- unshare --mount sh -c 'mount -t tmpfs -o ro none /run &&
        mount -t tmpfs -o mode=1777 none /dev/shm && ln -s "$0" /dev/shm/weir-0 && exec "$@"' \
        "$BATS_TEST_TMPDIR/roots" env -u XDG_RUNTIME_DIR "LD_PRELOAD=$WEIR_LIB" \
        "$PROGRAMS/log_server" "$port"
    wait_port "$port"
    [ -z "$(ls "$BATS_TEST_TMPDIR/roots")" ]
    log_has server 'no state page can be made in '
}

# ---- the command, by root

# weir COMMAND...: in the server's mounts; `said` is what it said. Its exit code is its own.
weir() {
    local status=0
    said=$("${inside[@]}" "$server" timeout 60 "$ROOT/build/weir" "$@" 2>&1) || status=$?
    echo "weir $*: exit $status: $said"
    return "$status"
}

@test "a lease on a page holds the command up no more than it takes to say so" {
    local began
    start_log_server
    claims "$server" keep
    began=$(now_ms)
    not weir drain "$stranger"
    weir status "$stranger"
    weir list
    within $(($(now_ms) - began)) 4000 # of 45 s (lease-break-time)
    [[ $said == *log_server* ]]
}

@test "a page that names a process of 60,000 mappings in each line costs root's command little" {
    local began command
    start_log_server
    "${inside[@]}" "$server" install -d -m 700 -o 65534 -g 65534 /dev/shm/weir-65534
    outside+=("/tmp/weir-lines.$$")
    cp "$PROGRAMS/strange_lines" "/tmp/weir-lines.$$"
    serve_bare stranger -- "${inside[@]}" "$server" "${as_nobody[@]}" "/tmp/weir-lines.$$" \
        /dev/shm/weir-65534
    stranger=$SERVER_PID
    wait_until 10 log_has stranger ready
    for command in list status "status $stranger" "drain $stranger"; do
        began=$(now_ms)
        # shellcheck disable=SC2086  # words
        weir $command
        within $(($(now_ms) - began)) 3000
    done
    weir list
    [[ $said == *log_server* ]]
}

@test "a page of the same number and name on another file system is another page" {
    start_log_server
    "${inside[@]}" "$server" sh -c 'mkdir /dev/shm/one /dev/shm/other
        mount -t tmpfs none /dev/shm/one && mount -t tmpfs none /dev/shm/other && chmod 777 /dev/shm/*'
    outside+=("/tmp/weir-make.$$")
    cp "$PROGRAMS/page_make" "/tmp/weir-make.$$"
    # A process of root's maps a file of that name and number, and catches the signal.
    serve_bare innocent -- "${inside[@]}" "$server" /usr/bin/python3 -c '
import mmap, os, signal, sys, time
signal.signal(signal.SIGRTMAX - 3, lambda *_: print("signalled", flush=True))
print("ready", flush=True)
while not os.listdir("/dev/shm/other"):
    time.sleep(0.1)
name = os.listdir("/dev/shm/other")[0]
with open("/dev/shm/one/" + name, "wb+") as file:
    file.write(bytes(100000))
    file.flush()
    mapped = mmap.mmap(file.fileno(), 0)
assert os.stat("/dev/shm/one/" + name).st_ino == os.stat("/dev/shm/other/" + name).st_ino
print("mapped", flush=True)
while True:
    time.sleep(1)'
    innocent=$SERVER_PID
    wait_until 5 log_has innocent ready
    serve_bare stranger -- "${inside[@]}" "$server" "${as_nobody[@]}" \
        "/tmp/weir-make.$$" /dev/shm/other lists "$innocent"
    stranger=$SERVER_PID
    wait_until 5 log_has stranger ready
    wait_until 5 log_has innocent mapped
    weir drain "$stranger"
    wait_until 5 log_has stranger woken
    pause 0.3
    not log_has innocent signalled
    weir list
    not grep -q " $innocent" <<<"$(weir status "$stranger" --json)"
}

@test "a false page does not take the place of root's tree" {
    local victim
    start_log_server
    "${inside[@]}" "$server" sh -c 'mkdir /dev/shm/other &&
        mount -t tmpfs none /dev/shm/other && chmod 777 /dev/shm/other'
    outside+=("/tmp/weir-sound.$$")
    "$PROGRAMS/pg_read" --forge "/proc/$server/root/run/weir"/* 1 >"/tmp/weir-sound.$$"
    chmod 644 "/tmp/weir-sound.$$"
    # It is met before the tree whose page's name and number its own has.
    serve_bare stranger -- "${inside[@]}" "$server" "${as_nobody[@]}" /usr/bin/python3 -c '
import mmap, os, struct, sys, time
known = os.listdir("/run/weir")
print("ready", flush=True)
while not (new := [name for name in os.listdir("/run/weir") if name not in known]):
    time.sleep(0.05)
os.umask(0o077)
page = bytearray(open(sys.argv[1], "rb").read())
pid, start, namespace = map(int, new[0].split("."))
page[32:38] = b"false\0"
struct.pack_into("=iIQiIQ", page, 72, pid, namespace, start, pid, 0, start)
number, tries = os.stat("/run/weir/" + new[0]).st_ino, 0
while True:
    path = f"/dev/shm/other/{tries}"
    with open(path, "wb") as file:
        file.write(page)
    if os.stat(path).st_ino >= number:
        break
    tries += 1
assert os.stat(path).st_ino == number
os.rename(path, "/dev/shm/other/" + new[0])
with open("/dev/shm/other/" + new[0], "rb+") as file:
    mapped = mmap.mmap(file.fileno(), 0)
print("mapped", flush=True)
time.sleep(100)' "/tmp/weir-sound.$$"
    wait_until 5 log_has stranger ready
    serve_bare victim -- "${inside[@]}" "$server" env "LD_PRELOAD=$WEIR_LIB" \
        "$PROGRAMS/log_server" $((port + 1))
    victim=$SERVER_PID
    wait_port $((port + 1))
    wait_until 5 log_has stranger mapped
    weir list
    grep -q "^$victim  *log_server" <<<"$said"
    not grep -q false <<<"$said"
    weir status "$victim" --json
    [[ $said == *log_server* ]]
}
