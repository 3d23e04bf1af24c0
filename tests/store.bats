#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# WEIR_LISTENERS=store: at a drain the listeners go to the service manager's descriptor store, and bind()
# takes them out of LISTEN_FDS at the next start. store_manager.py is the manager; systemd_real.bats
# has systemd itself.
# mutant: shim/drain/listen_fds.c: s/bool ours = is_ours/bool ours = !is_ours/
# needs: python3-minimal
# seconds: 40
# shellcheck shell=bash disable=SC2016,SC2154

load helpers

setup() {
    port=$((27000 + 10 * BATS_TEST_NUMBER))
    PYTHON=/usr/bin/python3
    log=$BATS_TEST_TMPDIR/shim.log
    setting=$BATS_TEST_TMPDIR/setting # WEIR_LISTENERS at the next start
    echo store >"$setting"
}

# manage [OPTION...] COMMAND...: under store_manager.py, with the shim.
manage() {
    local options=()
    while [[ $1 = --* ]]; do
        options+=("$1")
        case $1 in --most | --own) options+=("$2") && shift ;; esac
        shift
    done
    serve_bare manager WEIR_LIB="$WEIR_LIB" WEIR_STOP_SIGNALS=TERM WEIR_LOG="$log" -- \
        "$PYTHON" "$ROOT/tests/programs/store_manager.py" "${options[@]}" \
        /bin/sh -c 'export WEIR_LISTENERS=$(cat "$0") LD_PRELOAD=$WEIR_LIB && exec "$@"' "$setting" \
        "$@"
    wait_until 10 serves "${first:-1}"
}

serves() {
    [ "$(grep -c '^serving False$' "$BATS_TEST_TMPDIR/manager.log")" = "$1" ]
}

# is_told REGEX
is_told() {
    grep -Eq -- "$1" "$BATS_TEST_TMPDIR/manager.log"
}

adopter() {
    echo "$PYTHON" "$ROOT/tests/programs/adopter.py" "$@"
}

ends() {
    grep -c '^ended' "$BATS_TEST_TMPDIR/manager.log"
}

has_ended() {
    [ "$(ends)" -gt "$1" ]
}

stops() {
    local before
    before=$(ends) || true
    kill -USR1 "$SERVER_PID"
    wait_until 10 has_ended "$before"
}

starts_again() {
    kill -HUP "$SERVER_PID"
    wait_until 10 serves "${1:-2}"
}

# is_answered FD: by the socket in whose queue it was.
is_answered() {
    local line
    line=$(timeout 10 cat <&"$1")
    [ -n "$line" ]
}

@test "who connects while nobody runs waits for the next start, again and again" {
    local words=("127.0.0.1/$port" "6only/::1/$port" "group/127.0.0.1/$((port + 1))" \
        "group/127.0.0.1/$((port + 1))" "$BATS_TEST_TMPDIR/s" "@weir-store-$port") between round
    # shellcheck disable=SC2046
    manage $(adopter "${words[@]}")
    for round in 1 2 3; do
        stops
        [ "$(grep -c '^told FDNAME=weir FDSTORE=1$' "$BATS_TEST_TMPDIR/manager.log")" -ge 6 ]
        conn_open between "$port"
        starts_again $((round + 1))
        is_answered "$between"
        [ -S "$BATS_TEST_TMPDIR/s" ]
    done
    not grep 'not bound in' "$log"
    [ "$(grep -c '^ended 15 store 6$' "$BATS_TEST_TMPDIR/manager.log")" = 3 ]
}

@test "a port that the kernel has picked is not stored: the next start has another" {
    # shellcheck disable=SC2046
    manage $(adopter "127.0.0.1/$port" "127.0.0.1/0")
    stops
    grep '^ended 15 store 1$' "$BATS_TEST_TMPDIR/manager.log"
    starts_again
}

# Varnish does, to find out what it can have.
@test "a program that first listens elsewhere, and closes all that it has not opened, finds them" {
    local between
    # shellcheck disable=SC2046
    manage $(adopter tries "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
    stops
    conn_open between "$port"
    starts_again
    is_answered "$between"
}

has_begun() {
    [ "$(grep -c '^begins$' "$BATS_TEST_TMPDIR/manager.log")" = "$1" ]
}

@test "who waits still does so where the next start is stopped before it has bound" {
    local between
    # shellcheck disable=SC2046
    manage $(adopter tries "late=$BATS_TEST_TMPDIR/late" "127.0.0.1/$port")
    stops
    conn_open between "$port"
    : >"$BATS_TEST_TMPDIR/late"
    kill -HUP "$SERVER_PID"
    wait_until 10 has_begun 2
    stops
    rm "$BATS_TEST_TMPDIR/late"
    starts_again
    is_answered "$between"
    [ "$(grep -c '^ended 15 store 1$' "$BATS_TEST_TMPDIR/manager.log")" = 2 ]
}

# PgBouncer, of its UNIX socket. Others are none of its own.
@test "a program that asks by a connection whether its like runs already finds nobody there" {
    local path=$BATS_TEST_TMPDIR/s between
    # shellcheck disable=SC2046
    manage $(adopter asks unlink "127.0.0.1/$port" "6only/::/$((port + 1))" "$path" "@weir-store-$port")
    stops
    conn_open between "$port"
    starts_again
    is_answered "$between"
    is_told '^ended 15 store 4$'
    not is_told 'somebody is at'
}

# So does Varnish, when its worker has ended.
@test "a program that binds again as it ends finds its addresses free, and they stay in the store" {
    local between
    # shellcheck disable=SC2046
    manage $(adopter again "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
    stops
    is_told '^bound again$'
    is_told '^ended 0 store 2$'
    conn_open between "$port"
    starts_again
    is_answered "$between"
}

@test "a manager that does not know barriers has taken what it has not closed" {
    # shellcheck disable=SC2046
    manage --mute $(adopter "127.0.0.1/$port")
    stops
    is_told '^ended 15 store 1$'
}

looks='import os
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))
print("own", {name: value for name, value in os.environ.items() if name.startswith("LISTEN_") and
              name != "LISTEN_PID"}, [fd for fd in fds if 2 < fd < 100],
      os.environ.get("LISTEN_PID") in (None, str(os.getpid())), flush=True)
import sys
os.execv(sys.argv[1], sys.argv[1:])'

@test "the program finds its own alone, numbered without a hole, or no LISTEN_ variable at all" {
    local own
    for own in 0 2; do
        # shellcheck disable=SC2046
        manage --own $own "$PYTHON" -c "$looks" $(adopter "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
        stops
        is_told '^ended 15 store 2$'
        starts_again
        [ "$(grep -c '^own' "$BATS_TEST_TMPDIR/manager.log")" = 2 ]
        if [ $own = 0 ]; then
            log_has manager '^own \{\} \[\] True$'
        else
            log_has manager "^own \{'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'own0:own1'\} \[3, 4\] True$"
        fi
        [ "$(grep '^own' "$BATS_TEST_TMPDIR/manager.log" | sort -u | wc -l)" = 1 ]
        kill "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
}

@test "a worker's own sockets are stored by its master, and a socket unit's are not" {
    manage --own 2 "$PYTHON" -c '
import os, select, socket, sys
reader, writer = os.pipe()
if os.fork():
    os.close(3)
    os.close(4)
    print("serving False", flush=True)
    os.wait()
os.close(writer)
own = socket.create_server(("127.0.0.1", int(sys.argv[1])))
given = [socket.socket(fileno=fd) for fd in (3, 4)]
while not select.select([reader], [], [], 0.1)[0]:
    pass' "$port"
    wait_port "$port"
    stops
    is_told '^ended 15 store 1$'
}

@test "under a filter of system calls the first process waits until its child has stored its own" {
    # 0x06, 0x7fff0000: a filter that allows everything (seccomp(2)); PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
    manage "$PYTHON" -c '
import ctypes, os, struct, sys
rule = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = struct.pack("HxxxxxxP", 1, ctypes.addressof(rule))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv("/bin/sh", ["sh", "-c", "\"$@\"; exit 0", "sh"] + sys.argv[1:])' \
        $(adopter "127.0.0.1/$port")
    stops
    is_told '^ended .* store 1$'
    not grep 'closed, and not stored' "$log"
}

@test "wrappers that become the program, or start it, hand on what was stored" {
    # shellcheck disable=SC2046
    manage /bin/sh -c 'exec /bin/sh -c "exec \"\$@\"" sh "$@"' sh $(adopter "127.0.0.1/$port")
    stops
    local between
    conn_open between "$port"
    starts_again
    is_answered "$between"
}

@test "what a shell and its helpers hold is no listener that accepts; of two servers neither closes the other's" {
    local other=$((port + 1))
    first=2 manage /bin/sh -c '/bin/sh -c "sleep 100; :" & helper=$!
        "$@" 127.0.0.1/'"$port"' & "$@" 127.0.0.1/'"$other"' & wait %2 %3; kill $helper; exit 0' sh $(adopter)
    stops
    is_told '^ended 15 store 2$'
    starts_again 4
    pause 10.5 # HANDED_MS
    wait_until 5 stores 2
    not grep 'which its predecessor has handed over' "$log"
    "$ROOT/build/weir" drain --wait "$(pgrep -P "$SERVER_PID")"
}

@test "what is closed since it was not bound is closed for the shell as well, and can be bound later" {
    manage /bin/sh -c '"$@"; exit 0' sh "$PYTHON" -c '
import os, signal, socket, sys, time
port, mark = int(sys.argv[1]), sys.argv[2]
first = socket.create_server(("127.0.0.1", port))
if os.path.exists(mark):
    print("waits", flush=True)
    while os.path.exists(mark):
        time.sleep(0.05)
second = socket.create_server(("127.0.0.1", port + 1))
print("serving False", flush=True)
signal.pause()' "$port" "$BATS_TEST_TMPDIR/mark"
    stops
    touch "$BATS_TEST_TMPDIR/mark"
    kill -HUP "$SERVER_PID"
    wait_until 10 is_told '^waits$'
    wait_until 20 grep -q "closed 127.0.0.1:$((port + 1)), .* not bound in 10s" "$log"
    not listening $((port + 1))
    rm "$BATS_TEST_TMPDIR/mark"
    wait_until 10 serves 2
    listening $((port + 1))
    stops
    is_told '^ended .* store 2$'
}

@test "a store that is full, switched off or not there: the listeners are closed, and the log says why" {
    local most
    for most in 0 1 2; do
        # shellcheck disable=SC2046
        manage --most $most $(adopter "127.0.0.1/$port" "127.0.0.1/$((port + 1))")
        stops
        is_told '^ended 15 store 0$'
        grep -q 'python3: the listeners are closed, and not stored .*: .*FileDescriptorStoreMax=' "$log"
        not listening "$port"
        kill "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
    : >"$log"
    # shellcheck disable=SC2046
    manage env -u NOTIFY_SOCKET $(adopter "127.0.0.1/$port")
    stops
    grep -q 'not stored for the next start: .*NOTIFY_SOCKET' "$log"
}

@test "what the new configuration no longer has is removed, and the rest stays in the store" {
    local file=$BATS_TEST_TMPDIR/words between
    echo "127.0.0.1/$port 127.0.0.1/$((port + 1)) 127.0.0.1/$((port + 2))" >"$file"
    # shellcheck disable=SC2046
    manage /bin/sh -c 'exec "$@" $(cat '"$file"')' sh $(adopter)
    stops
    is_told '^ended 15 store 3$'
    echo "127.0.0.1/$port 127.0.0.1/$((port + 3))" >"$file"
    starts_again
    listening $((port + 1))
    wait_until 20 grep -q "closed 127.0.0.1:$((port + 2)), .* not bound in 10s" "$log"
    wait_until 5 is_told '^told FDNAME=weir FDSTOREREMOVE=1$'
    not listening $((port + 1))
    not listening $((port + 2))
    wait_until 5 stores 2
    kill -KILL "$(pgrep -P "$SERVER_PID")" # it has no time to send them
    wait_until 10 is_told '^ended 9 store 2$'
    conn_open between "$port"
    starts_again 3
    is_answered "$between"
}

# stores N: that was told last.
stores() {
    [ "$(grep '^store ' "$BATS_TEST_TMPDIR/manager.log" | tail -n 1)" = "store $1" ]
}

@test "an address in whose way the stored one lies can be bound: it takes its place" {
    local file=$BATS_TEST_TMPDIR/words round=1 pair between
    echo "127.0.0.1/$port" >"$file"
    # shellcheck disable=SC2046
    manage /bin/sh -c '"$@" $(cat '"$file"'); exit 0' sh $(adopter)
    for pair in "127.0.0.1 0.0.0.0" "0.0.0.0 ::" ":: 0.0.0.0" "0.0.0.0 127.0.0.1" "127.0.0.1 ::"; do
        stops
        round=$((round + 1))
        : >"$log"
        echo "${pair#* }/$port" >"$file"
        starts_again $round
        grep -Fq "closed ${pair% *}" "$log" || grep -Fq "closed [${pair% *}]" "$log"
        conn_open between "$port"
        is_answered "$between"
    done
    stops
    is_told '^ended .* store 1$'
}

@test "without the setting, or with one that is wrong, what was stored is taken for the last time" {
    local between value
    for value in close nonsense; do
        echo store >"$setting"
        # shellcheck disable=SC2046
        manage $(adopter "127.0.0.1/$port")
        stops
        is_told '^ended 15 store 1$'
        conn_open between "$port"
        echo $value >"$setting"
        starts_again
        is_answered "$between"
        wait_until 5 stores 0
        kill "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
}
