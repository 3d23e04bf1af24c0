#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Under a service manager: what it is told of a drain (sd_notify), the drop-in for systemd's units,
# sockets that systemd has made, Debian's start-stop-daemon, and Debian's own units, which are started and
# stopped as systemd does it. Nothing here needs a systemd that runs.
# mutant: shim/tree/sd_notify.c: s/\(uint64_t\)ms \* 1000/(uint64_t)ms/
# seconds: 103
# shellcheck shell=bash disable=SC2013,SC2030,SC2031,SC2153,SC2154

load helpers
unset WEIR_MODE # the default, protocol

setup() {
    port=$((13000 + 10 * BATS_TEST_NUMBER))
    told=$BATS_TEST_TMPDIR/told
    manager=$BATS_TEST_TMPDIR/notify
    served=
    root=$BATS_TEST_TMPDIR/root
    first=
}

# Of a unit's processes the next test's may not meet any: they have the same ports.
teardown() {
    end_started
    [ -z "$first" ] || wait_gone "$first"
}

# ---- sd_notify: what the manager is told ----

# manage [--full] [ADDRESS]: a receiver there, whose messages `told` has.
manage() {
    local options=()
    [ "${1:-}" != --full ] || { options=(--full); shift; }
    manager=${1:-$manager}
    served=$SERVER_PID
    serve_bare manager -- /usr/bin/python3 "$ROOT/tests/programs/notify_receiver.py" \
        "${options[@]}" "$manager" "$told"
    MANAGER_PID=$SERVER_PID
    SERVER_PID=$served
    wait_until 10 grep -qs listening "$told"
    : >"$told"
}

tells() {
    grep -Eq -- "$1" "$told"
}

# wait_told REGEX [SECONDS]: until a line of it matches.
wait_told() {
    wait_until "${2:-10}" tells "$1" || { cat "$told"; return 1; }
}

# old_server [VAR=value...]: oldhttpd, with its manager's address.
old_server() {
    serve server NOTIFY_SOCKET="$manager" WEIR_FIRST_BYTE=100ms "$@" -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
}

# asks_slowly MS SPARE: a request on $fd that is answered after that time and SPARE more, or as much as a
# busy machine needs to come to what is to be done before.
asks_slowly() {
    local PATIENCE
    take_patience
    conn_open fd "$port"
    conn_send "$fd" "GET /slow?ms=$(($1 + $2 * (PATIENCE < 5 ? PATIENCE : 5))) HTTP/1.1\r\nHost: a\r\n\r\n"
    wait_until 5 in_use
}

in_use() {
    "$ROOT/build/weir" status --json "$SERVER_PID" | grep -q '"in_use": 1'
}

answered() {
    local line
    read_line line "$fd" 10
    [ "$line" = 'HTTP/1.1 200 OK' ]
}

# ends_as STATUS
ends_as() {
    local status=0
    wait_gone "$SERVER_PID"
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$1" ] || { echo "exit status $status" >&2; return 1; }
}

@test "a stop is told to the manager: its beginning, how far it is, its end, and the time it takes" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 5000 800 # progress is told every 5 s
    kill "$SERVER_PID"
    answered
    ends_as 143
    wait_told 'drained in'
    cat "$told"
    [ "$(wc -l <"$told")" = 3 ]
    [ "$(cut -d ' ' -f 1 "$told" | sort -u)" = "$SERVER_PID" ]
    # WEIR_TIMEOUT is 25 s, and 10 s are for the program's end; in microseconds.
    local begin='STATUS=Weir: draining, 1 in use, 25s left\|EXTEND_TIMEOUT_USEC=3[45][0-9]{6}'
    local on='STATUS=Weir: draining, 1 in use, (20|1[0-9])s left\|EXTEND_TIMEOUT_USEC=(30|2[0-9])[0-9]{6}'
    local end='STATUS=Weir: drained in [0-9.]+s: 1 closed clean, 0 forced; SIGTERM goes to the program'
    sed -n 1p "$told" | grep -Eq "^[0-9]+ $begin\$"
    sed -n 2p "$told" | grep -Eq "^[0-9]+ $on\$"
    sed -n 3p "$told" | grep -Eq "^[0-9]+ $end\|EXTEND_TIMEOUT_USEC=10000000\$"
}

@test "a delay is told, and that it is over" {
    manage
    old_server WEIR_DELAY=1s
    asks_slowly 1000 1000
    kill -USR2 "$SERVER_PID"
    wait_told 'STATUS=Weir: accepts for 1s more, then drains, 1 in use, 25s left'
    wait_told 'STATUS=Weir: draining, 1 in use, 2[0-4]s left' 3
    wait_told 'STATUS=Weir: drained in .*; the program runs on'
    alive "$SERVER_PID"
}

@test "a manager at an abstract address is told as well" {
    manage "@weir-test-$BATS_TEST_NUMBER"
    old_server
    kill -USR2 "$SERVER_PID"
    wait_told '^[0-9]+ STATUS=Weir: drained in '
}

@test "a stop signal in the middle of a drain is told at once, for the manager's time begins anew" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 1000 700 # and no progress is told yet
    kill -USR2 "$SERVER_PID"
    wait_told 'draining'
    [ "$(wc -l <"$told")" = 1 ]
    kill "$SERVER_PID"
    wait_told 'drained'
    [ "$(grep -c 'draining, 1 in use.*EXTEND_TIMEOUT_USEC=' "$told")" = 2 ]
}

@test "WEIR_TIMEOUT=0: no end can be promised, and no time is asked for" {
    manage
    old_server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=0
    kill "$SERVER_PID"
    wait_told 'STATUS=Weir: drained in .*; SIGTERM goes to the program$'
    tells 'STATUS=Weir: draining, 0 in use$'
    not tells EXTEND
}

is_asked() {
    "$ROOT/build/weir" status --json "$SERVER_PID" | grep -q '"in_use": 1'
}

@test "the first process of a tree tells it, nobody else" {
    manage
    serve server NOTIFY_SOCKET="$manager" WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 \
        "$ROOT/tests/programs/web_server.py" "$port" /dev/null 3
    wait_port "$port"
    wait_until 10 log_has server 'ready: '
    curl -s "http://127.0.0.1:$port/slow?1.5" >"$BATS_TEST_TMPDIR/answer" &
    local client=$!
    wait_until 10 is_asked
    kill "$SERVER_PID"
    wait "$client"
    [ "$(<"$BATS_TEST_TMPDIR/answer")" = 'It works' ]
    ends_as 143
    wait_told 'drained in'
    [ "$(cut -d ' ' -f 1 "$told" | sort -u)" = "$SERVER_PID" ]
}

# life_of_redis serve|serve_bare NAME: redis, which tells its manager itself what it does.
life_of_redis() {
    "$1" "$2" NOTIFY_SOCKET="$manager" WEIR_STOP_SIGNALS=TERM -- redis-server --port "$port" \
        --save '' --supervised systemd
    wait_told READY=1
    kill "$SERVER_PID"
    ends_as 0
    wait_told STOPPING=1
    sed -i 's/^[0-9]* //' "$told"
}

@test "what the program tells its manager itself is as it was, and READY and STOPPING are its own" {
    manage
    life_of_redis serve_bare bare
    mv "$told" "$told.bare"
    kill "$MANAGER_PID"
    wait_gone "$MANAGER_PID"
    manage "$manager.2"
    life_of_redis serve server
    cat "$told.bare" "$told"
    [ "$(grep -c 'STATUS=Weir: dr' "$told")" = 2 ]
    not grep -Eq 'Weir: .*(READY=|STOPPING=)|(READY=|STOPPING=).*Weir: ' "$told"
    grep -v 'Weir: ' "$told" | diff - "$told.bare"
    # Its STOPPING=1 comes once it is drained.
    [ "$(grep -n STOPPING=1 "$told" | cut -d: -f 1)" -gt "$(grep -n 'Weir: drained' "$told" | cut -d: -f 1)" ]
}

@test "a process in a seccomp sandbox tells nothing" {
    local seconds=$((2 * $(patience)))
    manage
    serve server NOTIFY_SOCKET="$manager" WEIR_DELAY=${seconds}s -- \
        "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    kill -USR2 "$SERVER_PID"
    wait_told 'accepts for'
    conn_open fd "$port" # upon which it enters the sandbox
    conn_send "$fd" 'hi\n'
    local line
    read_line line "$fd" 5
    [ "$line" = hi ]
    pause $((seconds + 1))
    alive "$SERVER_PID"
    cat "$told"
    [ "$(wc -l <"$told")" = 1 ]
}

unix_sockets() {
    grep -c 'socket(AF_UNIX' "$BATS_TEST_TMPDIR/trace" || true
}

@test "no descriptor is left, and without NOTIFY_SOCKET no socket is made" {
    local before variable
    manage
    for variable in NOTIFY_SOCKET="$manager" NOTHING=; do
        serve_bare server -- strace -f -qq -e trace=socket -o "$BATS_TEST_TMPDIR/trace" \
            -E LD_PRELOAD="$WEIR_LIB" -E "$variable" "$PROGRAMS/oldhttpd" "$port"
        wait_port "$port"
        local traced
        traced=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
        traced=${traced%% *}
        also_end "$traced"
        before=$(ls "/proc/$traced/fd")
        kill -USR2 "$traced"
        wait_drained server
        [ "$(ls "/proc/$traced/fd")" = "$before" ]
        [ "$variable" != NOTHING= ] || break
        [ "$(unix_sockets)" -ge 2 ]
        kill -KILL "$traced"
        wait_gone "$SERVER_PID"
        port=$((port + 1))
    done
    [ "$(unix_sockets)" = 0 ]
}

@test "a manager that is not there, or is dead, keeps no drain waiting" {
    for manager in "$BATS_TEST_TMPDIR/nobody" "@weir-nobody-$BATS_TEST_NUMBER" "$BATS_TEST_TMPDIR/dead" \
        vsock:2:1 / "$(printf '/%0200d' 1)"; do
        [ "${manager##*/}" != dead ] || {
            manage "$manager"
            kill -KILL "$MANAGER_PID"
            wait_gone "$MANAGER_PID"
            [ -S "$manager" ]
        }
        old_server WEIR_STOP_SIGNALS=TERM
        kill "$SERVER_PID"
        ends_as 143
        log_has server 'drained in .*; SIGTERM goes to the program'
        port=$((port + 1))
    done
}

@test "a manager that does not read keeps no drain waiting, and is told once it reads" {
    manage --full
    old_server WEIR_STOP_SIGNALS=TERM
    kill "$SERVER_PID"
    ends_as 143
    log_has server 'drained in '
    port=$((port + 1))
    old_server WEIR_STOP_SIGNALS=TERM
    asks_slowly 0 2000
    kill "$SERVER_PID"
    wait_until 5 log_has server 'draining: '
    kill -HUP "$MANAGER_PID"
    wait_told "^$SERVER_PID STATUS=Weir: draining, 1 in use.*\|EXTEND_TIMEOUT_USEC="
    answered
    ends_as 143
    wait_told "^$SERVER_PID STATUS=Weir: drained in "
}

# ---- the drop-in, and the directory of the state pages ----

# drop_ins UNIT: what its reader would copy for it, by what the files say themselves.
drop_ins() {
    echo "$ROOT/scripts/systemd/weir.conf"
    grep -lF "/etc/systemd/system/$1.d," "$ROOT"/scripts/systemd/weir_*.conf || true
}

# Its version is a part of its unit's name.
PG=$(echo /usr/lib/postgresql/*)
PG=${PG##*/}
UNITS=(nginx.service memcached.service redis-server.service postgresql@$PG-main.service apache2.service
    haproxy.service lighttpd.service dovecot.service)

# analyse [LINE...]: what systemd says of Debian's units with the drop-in, and these lines in it.
analyse() {
    local unit template dir=$BATS_TEST_TMPDIR/units
    rm -rf "${dir:?}"
    for unit in "${UNITS[@]}"; do
        template=$unit
        [ "${unit#*@}" = "$unit" ] || template=${unit%%@*}@.service
        mkdir -p "$dir/$template.d"
        cp "/lib/systemd/system/$template" "$dir"
        drop_ins "$template" | xargs cp -t "$dir/$template.d"
        printf '%s\n' "$@" >>"$dir/$template.d/weir.conf"
    done
    # Of other packages' units, which these need, it may say something as well.
    SYSTEMD_UNIT_PATH=$dir: systemd-analyze verify --man=no "${UNITS[@]/#/$dir/}" 2>&1 |
        grep -F -e "$dir/" "${UNITS[@]/#/-e}" || true
}

@test "systemd finds nothing wrong with the drop-in, on the units of Debian's servers" {
    local unit file choices complaints
    [ -z "$(analyse)" ]
    # What the comments offer as well.
    mapfile -t choices < <(sed -n 's/^#     \([A-Z][A-Za-z]*=\)/\1/p' "$ROOT/scripts/systemd/weir.conf")
    [ ${#choices[@]} -ge 5 ]
    [ -z "$(analyse "${choices[@]}")" ]
    # Each is read, and a mistake is seen.
    complaints=$(analyse KilMode=mixed TimeoutStopSec=soon)
    for unit in "${UNITS[@]}"; do
        unit=${unit/$PG-main/}
        grep -q "/$unit.d/weir.conf:.* Unknown key .KilMode." <<<"$complaints"
        grep -q "/$unit.d/weir.conf:.* Failed to parse \(time value\|TimeoutStopSec=\)" <<<"$complaints"
    done
    # Each file is for a unit that was looked at, and is read behind weir.conf.
    for file in "$ROOT"/scripts/systemd/weir_*.conf; do
        unit=$(sed -n 's#^.* /etc/systemd/system/\(.*\)\.d,.*#\1#p' "$file")
        [[ " ${UNITS[*]/$PG-main/} " = *" $unit "* ]]
        [[ $(LC_ALL=C ls "$BATS_TEST_TMPDIR/units/$unit.d") = weir.conf$'\n'* ]]
    done
}

@test "weir.tmpfiles makes a directory that every user's service can use, and Weir uses it" {
    local root=$BATS_TEST_TMPDIR/root user=()
    mkdir -p "$root/usr/lib/tmpfiles.d"
    cp "$ROOT/scripts/systemd/weir.tmpfiles" "$root/usr/lib/tmpfiles.d/weir.conf"
    systemd-tmpfiles --root="${root:?}" --create weir.conf
    [ "$(stat -c '%a %u %g' "$root/run/weir")" = '1777 0 0' ]
    if setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
        user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    fi
    mkdir "$root/programs"
    cp "$PROGRAMS/oldhttpd" "$WEIR_LIB" "$root/programs"
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/test "$BATS_TEST_TMPDIR" "$root" "$root/programs" "$root/run"
    serve_bare server -- "${user[@]}" env LD_PRELOAD="$root/programs/libweir.so" \
        WEIR_RUN_DIR="$root/run/weir" "$root/programs/oldhttpd" "$port"
    wait_port "$port"
    [ "$(find "$root/run/weir" -type f -perm 600 | wc -l)" -ge 1 ]
    [ "$("$ROOT/build/weir" status --json "$SERVER_PID" | grep -c '"phase": "serving"')" = 1 ]
}

# ---- sockets that systemd has made ----

@test "Accept=no: the socket stays open while a server drains, and who comes finds its successor" {
    cat >"$BATS_TEST_TMPDIR/lighttpd.conf" <<END
server.systemd-socket-activation = "enable"
server.bind = "127.0.0.1"
server.port = $port
server.tag = env.TAG
server.document-root = "$BATS_TEST_TMPDIR/www"
index-file.names = ("index.html")
END
    mkdir "$BATS_TEST_TMPDIR/www"
    echo 'It works' >"$BATS_TEST_TMPDIR/www/index.html"
    # The manager: it keeps the socket, and gives it to each server that it starts (sd_listen_fds(3)).
    cat >"$BATS_TEST_TMPDIR/manager.py" <<'END'
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
os.dup2(listener.fileno(), 3)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
def start(tag, **more):
    pid = os.fork()
    if not pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        os.set_inheritable(3, True)
        os.execvpe(sys.argv[3], sys.argv[3:], {**os.environ, **more, "TAG": tag, "LISTEN_FDS": "1",
                                               "LISTEN_PID": str(os.getpid())})
    with open(f"{sys.argv[2]}/{tag}.pid", "w") as out:
        out.write(str(pid))
    return pid
old = start("old", LD_PRELOAD=os.environ["WEIR_LIB"], WEIR_STOP_SIGNALS="TERM")
print("old: status", os.waitpid(old, 0)[1], flush=True)
signal.sigwait([signal.SIGHUP])
start("successor")
signal.pause()
END
    serve_bare server WEIR_LIB="$WEIR_LIB" -- /usr/bin/python3 "$BATS_TEST_TMPDIR/manager.py" "$port" \
        "$BATS_TEST_TMPDIR" lighttpd -D -f "$BATS_TEST_TMPDIR/lighttpd.conf"
    local old idle half later tag
    wait_until 10 log_has server 'lighttpd: ready: '
    wait_until 10 log_has server 'server started'
    old=$(<"$BATS_TEST_TMPDIR/old.pid")
    also_end "$old"
    conn_open idle "$port"
    conn_send "$idle" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    answered_by "$idle" old
    conn_open half "$port"
    conn_send "$half" 'GET / HTTP/1.1\r\nHost: a\r\n'
    wait_until 5 read_by "$old" 2
    kill -TERM "$old"
    wait_until 5 log_has server 'draining: '
    at_eof "$idle" 5
    listening "$port"
    conn_open later "$port"
    conn_send "$later" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    pause 0.5
    alive "$old"
    is_open "$later" # it waits
    conn_send "$half" '\r\n'
    answered_by "$half" old
    wait_until 10 log_has server '^old: status 0$'
    log_has server 'drained in .*: 2 closed clean, 0 forced'
    listening "$port"
    is_open "$later"
    kill -HUP "$SERVER_PID"
    wait_until 10 test -s "$BATS_TEST_TMPDIR/successor.pid"
    also_end "$(<"$BATS_TEST_TMPDIR/successor.pid")"
    answered_by "$later" successor
}

# read_by PID N: it has accepted so many connections, and one of them is in use.
read_by() {
    "$ROOT/build/weir" status --json "$1" | grep -q "\"tracked\": $2, .*\"in_use\": 1"
}

# answered_by FD TAG: HTTP's head and body, from that server.
answered_by() {
    local line tag=
    read_line line "$1" 5
    [ "$line" = 'HTTP/1.1 200 OK' ]
    while read_line line "$1" 5 && [ -n "$line" ]; do
        [ "${line%%: *}" != Server ] || tag=${line#*: }
    done
    read_line line "$1" 5
    [ "$line $tag" = "It works $2" ]
}

# activates OPTION... COMMAND...: systemd starts COMMAND for each connection, under the shim.
activates() {
    serve_bare server -- systemd-socket-activate -a -l "$port" -E "LD_PRELOAD=$WEIR_LIB" \
        -E WEIR_STOP_SIGNALS=TERM "$@"
    wait_port "$port"
}

# instance VAR FD: connects, and says which process serves it.
instance() {
    local line known=" ${instances[*]} " pid
    conn_open "$2" "$port"
    conn_send "${!2}" 'hello\n'
    read_line line "${!2}" 10
    [ "$line" = hello ]
    for pid in $(<"/proc/$SERVER_PID/task/$SERVER_PID/children"); do
        [ "${known/ $pid /}" != "$known" ] || printf -v "$1" %s "$pid"
    done
    instances+=("${!1}")
    also_end "${!1}"
}

# Of two instances one is busy and one is idle when they get their TERM; a third gets none.
instances_are_drained() {
    local busy busy_fd idle idle_fd other other_fd line instances=()
    instance busy busy_fd
    instance idle idle_fd
    instance other other_fd
    [ "$(printf '%s\n' "$busy" "$idle" "$other" | sort -u | wc -l)" = 3 ]
    conn_send "$busy_fd" 'slow\n'
    wait_until 5 read_by "$busy" 1
    kill -TERM "$busy" "$idle"
    at_eof "$idle_fd" 5
    read_line line "$busy_fd" 10
    [ "$line" = slow ]
    at_eof "$busy_fd" 5
    # At the end of its one client, or a moment later by the TERM.
    wait_until 5 log_has server "Child $busy died with code (0|15)\$"
    wait_until 5 log_has server "Child $idle died with code (0|15)\$"
    log_has server "weir.$busy. .*: draining: SIGTERM .*; 0 idle, 1 in use"
    log_has server "weir.$idle. .*: draining: SIGTERM .*; 1 idle, 0 in use"
    conn_send "$other_fd" 'hello\n'
    read_line line "$other_fd" 5
    [ "$line" = hello ]
    alive "$other"
}

@test "Accept=yes: an instance finishes its request, on the descriptor 3 that it was given" {
    activates /usr/bin/python3 -c '
import socket, time
client = socket.socket(fileno=3)
while line := client.recv(100):
    time.sleep(1.5 if line == b"slow\n" else 0)
    client.sendall(line)'
    instances_are_drained
}

@test "Accept=yes, StandardInput=socket: an instance finishes its request, on descriptors 0 and 1" {
    activates --inetd "$PROGRAMS/tree_lines"
    instances_are_drained
}

# ---- an init script ----

@test "start-stop-daemon: its TERM drains, and its patience is longer than WEIR_TIMEOUT" {
    cat >"$BATS_TEST_TMPDIR/init" <<END
#!/bin/sh
export LD_PRELOAD=$WEIR_LIB WEIR_STOP_SIGNALS=TERM WEIR_LOG=$BATS_TEST_TMPDIR/server.log
DAEMON=$PROGRAMS/oldhttpd PIDFILE=$BATS_TEST_TMPDIR/pid
case \$1 in
start) start-stop-daemon --start --background --make-pidfile --pidfile \$PIDFILE --exec \$DAEMON -- $port ;;
stop) start-stop-daemon --stop --pidfile \$PIDFILE --exec \$DAEMON --retry TERM/30/KILL/5 ;;
esac
END
    LOGGED+=(server)
    sh "$BATS_TEST_TMPDIR/init" start
    wait_port "$port"
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$SERVER_PID"
    asks_slowly 0 1500
    sh "$BATS_TEST_TMPDIR/init" stop
    wait_gone "$SERVER_PID" 1 # it may be in the middle of its end
    answered
    log_has server "^weir.$SERVER_PID. oldhttpd: drained in .*: 1 closed clean, 0 forced; SIGTERM goes"
}

# ---- Debian's units ----
#
# Each as the package has it, with the drop-ins where their reader puts them. unit_manager.py does
# with it what systemd does. What it writes to is a copy, and so is what a test changes of Debian's
# configuration, whose ports these are.

# machine DIRECTORY...: $root has copies of these (where it has not yet any), the library where
# `make install` puts it, and /run as it is after the start of a machine.
machine() {
    local directory
    needs_root # some of them are for root's eyes
    mkdir -p "$root/etc/systemd/system" "$root/usr/local/lib" "$root/usr/lib/tmpfiles.d"
    for directory; do
        mkdir -p "$root${directory%/*}"
        [ -e "$root$directory" ] || cp -a "$directory" "$root$directory"
    done
    cp "$WEIR_LIB" "$root/usr/local/lib"
    cp /etc/passwd /etc/group "$root/etc"
    cp /usr/lib/tmpfiles.d/{haproxy,legacy,lighttpd*,memcached,postgresql-common}.conf \
        "$root/usr/lib/tmpfiles.d"
    cp "$ROOT/scripts/systemd/weir.tmpfiles" "$root/usr/lib/tmpfiles.d/weir.conf"
    systemd-tmpfiles --root="${root:?}" --create
    : >"$root/run/weir/log"
    chmod 666 "$root/run/weir/log"
    ln -s "$root/run/weir/log" "$BATS_TEST_TMPDIR/weir.log"
    LOGGED+=(weir)
    {
        for directory in "$@" /run /usr/local/lib /etc/systemd/system; do
            echo "mount --bind '$root$directory' '$directory'"
        done
        echo 'exec "$@"'
    } >"$BATS_TEST_TMPDIR/mounted"
}

# drops_in UNIT FILE...: files of scripts/systemd.
drops_in() {
    local place=$root/etc/systemd/system/$1.d file
    shift
    mkdir "$place"
    for file; do
        cp "$ROOT/scripts/systemd/$file" "$place"
    done
}

# manages UNIT PORT: starts it; `first` is its manager.
manages() {
    port=$2
    serve_bare manager -- unshare --mount --pid --fork --kill-child --mount-proc \
        bash -e "$BATS_TEST_TMPDIR/mounted" \
        /usr/bin/python3 "$ROOT/tests/programs/unit_manager.py" "$1" WEIR_LOG=/run/weir/log
    wait_until 20 has_started 1
    first=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
    first=${first%% *}
    wait_port "$port"
}

has_started() {
    [ "$(grep -c '^started: ' "$BATS_TEST_TMPDIR/manager.log")" = "$1" ]
}

# asks_and_restarts QUESTION: on a connection of its own, or on `slow` where there is one; `later` is
# sent 1.5 s later. The answer goes to a file, up to the connection's end, which has to be a clean one.
asks_and_restarts() {
    [ -n "${slow:-}" ] || conn_open slow "$port"
    conn_send "$slow" "$1"
    [ -z "${later:-}" ] || {
        { sleep 1.5 && conn_send "$slow" "$later"; } 3>&- &
        also_end $!
    }
    kill -HUP "$first"
    timeout "$(patient 30)" cat <&"$slow" >"$BATS_TEST_TMPDIR/answer"
}

# loses_nothing QUESTION ANSWER CLIENT...: the unit is restarted under these clients, who are told by a
# clean end that they have to connect anew, while QUESTION, which takes its time, is answered.
loses_nothing() {
    local line question=$1 answer=$2
    shift 2
    serve_bare load -- "$@" --connections 50 --pause 20-200 --seconds 30 "$port"
    wait_until 10 log_has load 'ready: each connection was answered once'
    asks_and_restarts "$question"
    grep -aqF -- "$answer" "$BATS_TEST_TMPDIR/answer"
    wait_gone "$SERVER_PID" 5
    line=$(tail -n 1 "$BATS_TEST_TMPDIR/load.log")
    echo "$line"
    [[ $line =~ ^answered=[0-9]{2,}' ' ]]
    [[ ! $line =~ \ (unanswered|reset|truncated|stalled|refused|connect_reset|open)=[1-9] ]]
    # The successor.
    wait_until 20 has_started 2
    log_has weir 'drained in .*: 5[0-9] closed clean, 0 forced; SIG(TERM|INT) goes to the program$'
    wait_port "$port"
    "$@" --connections 5 --pause 20-200 --seconds 0.2 "$port" | grep -q '^answered=[1-9]'
    not grep -E '^(failed|timed out|killed)' "$BATS_TEST_TMPDIR/manager.log"
    # It stopped accepting without a word to the program.
    not grep -rs 'Invalid argument' "$root/var/log"
}

load=("$PROGRAMS/load" --careful)

@test "memcached.service, the drop-in alone: a restart under load loses nothing" {
    machine
    drops_in memcached.service weir.conf
    manages memcached.service 11211
    later='hello\r\n' # its client is the one that is slow
    loses_nothing 'set key 0 0 5\r\n' STORED "${load[@]}" --protocol memcached
}

cgi_hello='GET /cgi-bin/slow HTTP/1.1\r\nHost: a\r\n\r\n'

# A page that takes 1.5 s.
slow_cgi() {
    printf '#!/bin/sh\nsleep 1.5\nprintf "Content-Type: text/plain\\n\\nat last\\n"\n' \
        >"$root/usr/lib/cgi-bin/slow"
    chmod 755 "$root/usr/lib/cgi-bin/slow"
}

@test "lighttpd.service, the drop-in alone: a restart under load loses nothing" {
    machine /etc/lighttpd /var/cache/lighttpd /var/log/lighttpd /usr/lib/cgi-bin
    slow_cgi
    ln -s ../conf-available/10-cgi.conf "$root/etc/lighttpd/conf-enabled"
    drops_in lighttpd.service weir.conf
    manages lighttpd.service 80
    loses_nothing "$cgi_hello" 'at last' "${load[@]}"
}

@test "haproxy.service, the drop-in alone: a restart under load loses nothing" {
    machine /etc/haproxy /var/lib/haproxy
    serve_bare backend -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2
    wait_port "$port"
    cat >>"$root/etc/haproxy/haproxy.cfg" <<END
listen web
    bind 127.0.0.1:80
    server one 127.0.0.1:$port
END
    drops_in haproxy.service weir.conf
    manages haproxy.service 80
    loses_nothing 'GET /slow HTTP/1.1\r\nHost: a\r\n\r\n' 'at last' "${load[@]}"
}

@test "apache2.service, weir_apache2.conf beside the drop-in: a restart under load loses nothing" {
    machine /etc/apache2 /var/log/apache2 /usr/lib/cgi-bin
    slow_cgi
    ln -s ../mods-available/cgid.{load,conf} "$root/etc/apache2/mods-enabled"
    drops_in apache2.service weir.conf weir_apache2.conf
    manages apache2.service 80
    loses_nothing "$cgi_hello" 'at last' "${load[@]}"
}

redis() {
    machine /etc/redis /var/lib/redis /var/log/redis
    drops_in redis-server.service "$@"
    manages redis-server.service 6379
}

@test "redis-server.service, weir_redis.conf beside the drop-in: a restart under load loses nothing" {
    redis weir.conf weir_redis.conf
    loses_nothing 'BLPOP nothing 1.5\r\n' '*-1' "${load[@]}" --protocol redis
}

@test "redis-server.service, the drop-in alone: the library may not be executed, and redis runs without" {
    redis weir.conf
    log_has manager "^ERROR: ld.so: object '/usr/local/lib/libweir.so' .* cannot be preloaded"
    [ "$(log weir)" = '' ]
}

# A drop-in would not reach it: pg_ctlcluster gives it the variables of that file, and no others.
@test "PostgreSQL's service, the variables in its cluster's file: a restart under load loses nothing" {
    install -d -o postgres "$root"/{etc,var/lib,var/log}/postgresql # of no other cluster
    machine /etc/postgresql /var/lib/postgresql /var/log/postgresql
    unshare --mount bash -e "$BATS_TEST_TMPDIR/mounted" pg_createcluster $PG main -- --no-sync -A trust
    { cat "$ROOT/scripts/systemd/weir_postgresql.environment"; echo "WEIR_LOG = '/run/weir/log'"; } \
        >>"$root/etc/postgresql/$PG/main/environment"
    manages postgresql@$PG-main.service 5432
    conn_open slow "$port"
    # The start-up packet; the dialog ends with "ready for query".
    conn_send "$slow" '\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0'
    "$ROOT/tests/programs/tree_sql.py" <&"$slow"
    loses_nothing 'Q\0\0\0\x20SELECT 7 FROM pg_sleep(1.5)\0' 'SELECT 1' \
        "$PROGRAMS/answer_busy" --protocol postgres
}

# start_nginx FILE...: one page takes as many seconds as it says.
start_nginx() {
    machine /etc/nginx /var/lib/nginx /var/log/nginx
    rm -f "$root"/etc/nginx/sites-enabled/*
    cat >"$root/etc/nginx/conf.d/site.conf" <<'END'
server {
    listen 127.0.0.1:80;
    location / { return 200 "It works\n"; }
    location /slow { echo_sleep $arg_seconds; echo "at last"; }
}
END
    drops_in nginx.service "$@"
    manages nginx.service 80
}

@test "nginx.service, weir_nginx.conf beside the drop-in: a restart under load loses nothing" {
    start_nginx weir.conf weir_nginx.conf
    # Longer than the unit's own patience.
    loses_nothing 'GET /slow?seconds=11 HTTP/1.1\r\nHost: a\r\n\r\n' 'at last' "${load[@]}"
}

@test "nginx.service, the drop-in alone: QUIT for 5 s, TERM for 5 s, and the slow answer is killed" {
    start_nginx weir.conf
    asks_and_restarts 'GET /slow?seconds=20 HTTP/1.1\r\nHost: a\r\n\r\n'
    [ ! -s "$BATS_TEST_TMPDIR/answer" ]
    wait_until 20 has_started 2
    log_has manager '^timed out: SIGTERM$'
    log_has manager '^killed: [0-9]+ nginx$'
    log_has weir 'draining: SIGTERM .*; 0 idle, 1 in use'
}
