#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A connection and its descriptors: copies, moves, stdio, other processes, exec. It is drained under
# whatever number it has, it is gone when its last descriptor is, and who gets its number afterwards
# has nothing to fear.
# mutant: shim/interpose/descriptor.c: s/(command == F_DUPFD) \|\| command == F_DUPFD_CLOEXEC/\1/
# seconds: 86
# shellcheck disable=SC2030,SC2031,SC2154

load helpers
load lines
load processes

setup() {
    port=$((22000 + 20 * BATS_TEST_NUMBER))
    quick=(WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms WEIR_ACTION=close-idle)
}

# tracks FD NUMBER: so many connections are tracked in the process that serves FD.
tracks() {
    ask "$1" counts
    [ "${answer%% *}" = "$2" ]
}

# ---- copies and moves ----

start_moves() {
    serve server "${quick[@]}" -- "$PROGRAMS/fd_moves" "$1" "$port"
    wait_port "$port"
}

# What any server would do, on connections that it has moved: the idle one is closed, the one in use
# is not, and when they have gone nothing is left of them.
moved_is_drained() {
    local idle busy later
    start_moves "$1"
    conn_open idle "$port"
    conn_open busy "$port"
    echoes "$idle"
    echoes "$busy"
    [ "$1" = scm ] || tracks "$busy" 2 # what came by a message may be looked at later
    pause 0.4
    conn_send "$busy" 'slow\n'
    pause 0.2
    kill -USR2 "$SERVER_PID"
    at_eof "$idle" 2
    read_line answer "$busy" 3
    [ "$answer" = slow ]
    echoes "$busy"
    tracks "$busy" 1
    conn_close "$busy"
    conn_open later "$port"
    [ "$1" = scm ] || wait_until 2 tracks "$later" 1
}

@test "a connection on the number that accept gave is drained" {
    moved_is_drained stay
}

@test "a connection on a dup is drained" {
    moved_is_drained dup
}

@test "a connection moved with dup2 is drained" {
    moved_is_drained dup2
}

@test "a connection moved with dup3 is drained" {
    moved_is_drained dup3
}

@test "a connection moved with F_DUPFD is drained" {
    moved_is_drained dupfd
}

@test "a connection moved with F_DUPFD_CLOEXEC is drained" {
    moved_is_drained dupfd_cloexec
}

@test "a connection moved with syscall(SYS_fcntl) and closed with syscall(SYS_close) is drained" {
    moved_is_drained syscall
}

@test "a connection under a FILE, read and answered by stdio alone, is drained" {
    moved_is_drained stdio
}

@test "a connection under two FILEs, one for each way, is drained" {
    moved_is_drained stdio2
}

@test "a connection that went through the kernel and came back as another number is drained" {
    moved_is_drained scm
}

@test "a connection is gone when its last descriptor is, and not before" {
    local client other
    start_moves both
    conn_open client "$port"
    conn_open other "$port"
    echoes "$client"
    tracks "$other" 2
    ask "$client" bye
    pause 0.3
    is_open "$client"
    tracks "$other" 2
    at_eof "$client" 3
    wait_until 2 tracks "$other" 1
}

@test "a connection with a copy that nobody reads from is drained once the program closes both" {
    local client
    serve server "${quick[@]}" WEIR_ACTION=drain -- "$PROGRAMS/fd_moves" both "$port"
    wait_port "$port"
    conn_open client "$port"
    echoes "$client"
    pause 0.4
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 2
    wait_drained server 3
    log_has server ': 1 closed clean, 0 forced'
}

# is_closed NUMBER: of the server's descriptors.
is_closed() {
    [ ! -e "/proc/$SERVER_PID/fd/$1" ]
}

@test "dup2 over a tracked connection ends that one, and the number is the other's" {
    local parked served again
    start_moves swap
    conn_open parked "$port"
    conn_open served "$port"
    at_eof "$parked" 1
    tracks "$served" 1
    pause 0.4
    kill -USR2 "$SERVER_PID"
    at_eof "$served" 2
    wait_until 2 is_closed 200 # by its thread, which has met the end just now
    conn_open again "$port"
    conn_open served "$port"
    at_eof "$again" 1
    tracks "$served" 1
}

@test "a connection whose FILE is opened anew is gone, and its number is left alone" {
    local client other
    start_moves freopen
    conn_open client "$port"
    conn_open other "$port"
    echoes "$client"
    echoes "$other"
    ask "$client" bye
    at_eof "$client" 2
    tracks "$other" 1
    pause 0.4
    kill -USR2 "$SERVER_PID"
    at_eof "$other" 2
    alive "$SERVER_PID"
}

@test "a drain ends although a connection went by freopen" {
    local client
    serve server "${quick[@]}" WEIR_ACTION=drain -- "$PROGRAMS/fd_moves" freopen "$port"
    wait_port "$port"
    conn_open client "$port"
    ask "$client" bye
    at_eof "$client" 2
    kill -USR2 "$SERVER_PID"
    wait_drained server 2
    log_has server ', 0 forced'
}

# ---- to another process ----

# start_passing [keep]: who accepts and who serves; `sender` and `receiver` are their pids.
start_passing() {
    local path=$BATS_TEST_TMPDIR/pass
    serve receiver "${quick[@]}" -- "$PROGRAMS/fd_pass" serve "$path"
    receiver=$SERVER_PID
    wait_unix "$path"
    serve sender "${quick[@]}" -- "$PROGRAMS/fd_pass" accept "$port" "$path" "$@"
    sender=$SERVER_PID
    wait_port "$port"
}

@test "a process that is sent a connection serves it, drains it, and counts what is left" {
    local idle busy
    start_passing
    conn_open idle "$port"
    conn_open busy "$port"
    echoes "$idle"
    echoes "$busy"
    pause 0.4
    conn_send "$busy" 'slow\n'
    pause 0.2
    kill -USR2 "$receiver"
    at_eof "$idle" 2
    read_line answer "$busy" 3
    [ "$answer" = slow ]
    tracks "$busy" 2 # it, and the one that it came by
}

@test "who has sent a connection away and closed it has nothing of it left" {
    local client
    start_passing
    conn_open client "$port"
    echoes "$client"
    log_has sender '^0 0 0 1$'
    pause 0.4
    kill -USR2 "$sender"
    pause 0.3
    is_open "$client"
    echoes "$client"
}

@test "a connection that was sent away closes for its client although the sender keeps a copy" {
    local client
    start_passing keep
    conn_open client "$port"
    echoes "$client"
    pause 0.4
    kill -USR2 "$receiver"
    at_eof "$client" 2
}

@test "an outgoing connection that another process sent is not touched" {
    local path=$BATS_TEST_TMPDIR/pass
    serve_bare peer -- "$PROGRAMS/fd_moves" stay "$port"
    wait_port "$port"
    serve receiver "${quick[@]}" -- "$PROGRAMS/fd_pass" serve "$path"
    wait_unix "$path"
    "$PROGRAMS/fd_pass" dial "$port" "$path"
    pause 0.5
    kill -USR2 "$SERVER_PID"
    pause 0.5
    # Both ends are still ESTABLISHED (proc(5): state 01).
    port_hex=$(printf ':%04X' "$port")
    run awk -v port="$port_hex" '$4 == "01" && ($2 ~ port || $3 ~ port)' /proc/net/tcp
    [ "${#lines[@]}" = 2 ]
}

# Those of one AF_UNIX listener can't be told apart by an address.
@test "two connections of one AF_UNIX listener that are sent to a child are two" {
    local path=$BATS_TEST_TMPDIR/socket
    serve server "${quick[@]:0:2}" WEIR_TIMEOUT=10s -- \
        /usr/bin/python3 "$ROOT/tests/programs/unix_pass.py" serve "$path"
    wait_unix "$path"
    timeout 60 python3 "$ROOT/tests/programs/unix_pass.py" ask "$path" "$SERVER_PID" \
        >"$BATS_TEST_TMPDIR/got"
    cat "$BATS_TEST_TMPDIR/got"
    [ "$(<"$BATS_TEST_TMPDIR/got")" = "$(printf 'resting \nbusy slow')" ]
    wait_drained server
    log_has server 'drained in .*: 2 closed clean, 0 forced'
}

# ---- exec ----

start_inetd() {
    serve server "${quick[@]}" -- "$PROGRAMS/fd_inetd" "$port" "$@"
    wait_port "$port"
}

# It met the end of file and ended by itself: no signal did it.
ended_well() {
    wait_until 2 log_has server "^ended $1 "
    log_has server "^ended $1 0$"
}

@test "a program that is given its connection as descriptor 0 drains it" {
    local client
    start_inetd io cat
    conn_open client "$port"
    echoes "$client"
    child_of 1
    pause 0.4
    kill -USR2 "$child"
    at_eof "$client" 2
    ended_well "$child"
}

@test "a program that is given its connection as descriptor 0 is not cut while it answers" {
    local client
    # shellcheck disable=SC2016  # expanded by the inner shell
    start_inetd io sh -c 'while read -r line; do sleep 2; echo "$line"; done'
    conn_open client "$port"
    conn_send "$client" 'hello\n'
    child_of 1
    pause 0.4
    kill -USR2 "$child"
    read_line answer "$client" 4
    [ "$answer" = hello ]
    pause 0.4
    kill -USR2 "$child"
    at_eof "$client" 2
    ended_well "$child"
}

@test "no line of the log reaches a client that is descriptor 2" {
    local client
    start_inetd all cat
    conn_open client "$port"
    echoes "$client"
    child_of 1
    pause 0.4
    kill -USR2 "$child"
    at_eof "$client" 2 # and nothing before it
    ended_well "$child"
}

@test "the super server that starts a program for each connection counts each once, in its program" {
    local client
    start_inetd io cat
    conn_open client "$port"
    echoes "$client"
    pause 0.4
    kill -USR2 "$SERVER_PID"
    wait_until 2 log_has server 'closing idle connections: .* 1 idle, 0 in use'
    at_eof "$client" 2
}

@test "a service of openbsd-inetd drains the connection that it was given" {
    local client
    [ -x /usr/sbin/inetd ] || skip "openbsd-inetd is not installed"
    echo "$port stream tcp nowait root /bin/cat cat" >"$BATS_TEST_TMPDIR/inetd.conf"
    serve server "${quick[@]}" -- /usr/sbin/inetd -d "$BATS_TEST_TMPDIR/inetd.conf"
    wait_port "$port"
    conn_open client "$port"
    echoes "$client"
    child=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
    also_end "$child"
    pause 0.4
    kill -USR2 "${child% }"
    at_eof "$client" 2
    alive "$SERVER_PID"
}

# start_sed USER [SERVICE]: a service of openbsd-inetd's. sed reads and writes within libc (stdio): of its
# descriptors nothing is seen until a drain.
start_sed() {
    needs_users
    [ -x /usr/sbin/inetd ] || skip "openbsd-inetd is not installed"
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/* "$BATS_TEST_TMPDIR"
    : >"$BATS_TEST_TMPDIR/weir.log"
    chmod 666 "$BATS_TEST_TMPDIR/weir.log"
    LOGGED+=(weir)
    echo "$port stream tcp nowait $1 ${2-/bin/sed sed -u s/^/got:/}" >"$BATS_TEST_TMPDIR/inetd.conf"
    serve server WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms WEIR_STOP_SIGNALS=TERM \
        "WEIR_LOG=$BATS_TEST_TMPDIR/weir.log" -- inetd -i "$BATS_TEST_TMPDIR/inetd.conf"
    wait_port "$port"
}

@test "a service of openbsd-inetd that runs as another user, and reads by stdio, is drained as well" {
    local client
    start_sed nobody
    conn_open client "$port"
    replies "$client" ping got:ping
    also_end "$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")"
    pause 0.4
    kill -TERM "$SERVER_PID"
    at_eof "$client" 5
    wait_drained weir
    wait_gone "$SERVER_PID"
}

# keeps_half USER: a client's first request, of which half has come in its first instant.
keeps_half() {
    local client
    start_sed "$1"
    conn_open client "$port"
    conn_send "$client" pi
    pause 0.6
    also_end "$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")"
    kill -TERM "$SERVER_PID"
    pause 0.8
    replies "$client" ng got:ping
    at_eof "$client" 5
    wait_gone "$SERVER_PID"
}

@test "a request that a service has begun to read by stdio is in use until it is answered" {
    keeps_half root
}

@test "a request that a service of another user has begun to read by stdio is in use, too" {
    keeps_half nobody
}

# is_waited_for MODE: the command waits for a service of nobody's, where the run directory that is named
# has this mode, and returns when it has ended.
is_waited_for() {
    local client
    mkdir -m "$1" "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    start_sed nobody
    conn_open client "$port"
    conn_send "$client" pi
    wait_until 5 process_is_made
    also_end "$(cat "/proc/$SERVER_PID/task/$SERVER_PID/children")"
    become "$ROOT/build/weir" drain --wait "$SERVER_PID" >"$BATS_TEST_TMPDIR/waited" 2>&1 &
    wait_until 5 log_has weir 'inetd: draining: '
    sleep 0.8
    not grep -q drained "$BATS_TEST_TMPDIR/waited"
    replies "$client" ng got:ping
    at_eof "$client" 5
    timeout 10 tail --pid="$!" -f /dev/null
    wait "$!"
    grep -q 'drained in .* 0 forced' "$BATS_TEST_TMPDIR/waited"
}

process_is_made() {
    [ -n "$(cat "/proc/$SERVER_PID/task/$SERVER_PID/children")" ]
}

@test "the command waits for a service of another user, whose state page is beside its own" {
    is_waited_for 1777
}

@test "the command waits for a service of another user, which may not write the run directory" {
    is_waited_for 755
}

@test "a service that becomes another user's program when the drain is on is drained as well" {
    local client service=$BATS_TEST_TMPDIR/service
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    printf '%s\n' 'import os, time' 'time.sleep(1)' 'os.setgroups([])' 'os.setgid(65534)' 'os.setuid(65534)' \
        'os.execv("/bin/sed", ["sed", "-u", "s/^/got:/"])' >"$service"
    start_sed root "/usr/bin/python3 python3 $service"
    conn_open client "$port"
    conn_send "$client" pi
    wait_until 5 process_is_made
    also_end "$(cat "/proc/$SERVER_PID/task/$SERVER_PID/children")"
    kill -TERM "$SERVER_PID"
    wait_until 5 log_has weir 'inetd: draining: '
    replies "$client" ng got:ping
    at_eof "$client" 5
    wait_drained weir
    wait_gone "$SERVER_PID"
    log_has weir 'inetd: drained in .* 0 forced'
}

@test "a service of another user that is between its fork and its exec as a drain begins is drained as well" {
    local client inetd
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    start_sed nobody
    inetd=$SERVER_PID
    serve_bare strace -- strace -f -qq -o /dev/null -e trace=execve \
        -e inject=execve:delay_enter=1000000 -p "$inetd"
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$inetd/status"
    SERVER_PID=$inetd
    conn_open client "$port"
    conn_send "$client" pi
    wait_until 5 process_is_made
    also_end "$(cat "/proc/$inetd/task/$inetd/children")"
    kill -TERM "$inetd"
    wait_until 5 log_has weir 'inetd: draining: '
    replies "$client" ng got:ping
    at_eof "$client" 5
    wait_drained weir
    wait_gone "$inetd"
    log_has weir 'inetd: drained in .* 0 forced'
}

# ---- the lowest free number ----

# POSIX has open, dup, socket return it, and a server with one thread counts on that.
@test "what the worker opens in a drain is out of the way at once of who gets the lowest free number" {
    serve_bare server -- strace -ff -qq -o "$BATS_TEST_TMPDIR/trace" \
        -e trace=openat,socket,pidfd_open,pidfd_getfd,accept4,fcntl,close,prctl \
        -E LD_PRELOAD="$WEIR_LIB" -E WEIR_LOG="$BATS_TEST_TMPDIR/log" -E WEIR_STOP_SIGNALS=TERM \
        "$PROGRAMS/fork_each" fork "$port"
    wait_port "$port"
    conn_open client "$port"
    echoes "$client"
    kill "$(pgrep -P "$SERVER_PID")"
    wait_gone "$SERVER_PID" 30
    local workers
    mapfile -t workers < <(grep -l 'PR_SET_NAME, "weir"' "$BATS_TEST_TMPDIR"/trace.*)
    # The end of its process may come between.
    awk 'function ends() { cut += !due ? 0 : due ~ /^fcntl/ ? 2 : 1; due = "" }
         FNR == 1 { ends() }
         /^(\+\+\+|---)/ { next }
         due { moved += index($0, due) > 0; late += !index($0, due)
               due = due ~ /^fcntl/ ? "close(" low ")" : ""; next }
         !/^(fcntl|close|prctl)/ && / = [0-9]+$/ { opened++ }
         (!/^(fcntl|close|prctl)/ || /F_DUPFD/) && / = [0-9][0-9]?$/ {
             low = $NF; due = "fcntl(" low ", F_DUPFD_CLOEXEC, 100)" }
         END { ends(); print opened, moved, cut, late
               exit !(opened > 10 && moved + cut == 2 * opened && cut <= 2 * (ARGC - 1) && !late) }' \
        "${workers[@]}"
}

# ---- a number that changes hands ----

# reuse LIBRARY HOW ROUNDS [sleep]: `result` is its last line.
reuse() {
    WEIR_LIB=$1
    serve reuse WEIR_LOG=none "WEIR_MODE=automatic,127.0.0.1:$((port + 1))=off" -- \
        "$PROGRAMS/reuse" "$2" "$3" "$port" ${4:+"$4"}
    wait_gone "$SERVER_PID" 55
    result=$(log reuse | tail -n 1)
    echo "$2: $result"
}

# hits_nobody HOW ROUNDS: no innocent is hit, and it was tried: some of the connections were shut in
# time. ROUNDS in the environment: as many as that.
hits_nobody() {
    local rounds=${ROUNDS:-$2}
    reuse "$WEIR_LIB" "$1" "$rounds"
    [[ $result == "rounds $rounds reused $rounds passes "*" shut "[1-9]*" hit 0 lost 0" ]]
}

# Without the fingerprint one round in fifteen to forty hits somebody.
@test "a number closed on a path that we don't see and reused at once: nobody is hit" {
    hits_nobody unseen 20000
}

# Here he has the claim as well.
@test "a number closed with close and reused at once: nobody is hit" {
    hits_nobody seen 20000
}

# mutant NAME FILE SED...: a library whose FILE was changed, in `mutant`. Again: another of its files.
mutant() {
    local name=$1 file=$2 dir=$BATS_TEST_TMPDIR/mutant.$1
    shift 2
    if [ ! -e "$dir" ]; then
        mkdir -p "$dir/build"
        cp -a "$ROOT/shim" "$ROOT/Makefile" "$dir"
        cp -a "$ROOT/build/shim" "$ROOT/build/compiler" "$ROOT/build/exports.map" "$dir/build" # it alone is compiled
    fi
    sed -i "$@" "$dir/$file"
    not cmp -s "$dir/$file" "$ROOT/$file" || { echo "$name: nothing was changed"; return 1; }
    make -s -C "$dir" build/libweir.so
    mutant=$dir/build/libweir.so
}

# without_fingerprint NAME, without_claim NAME: the same, without what protects.
without_fingerprint() {
    mutant "$1" shim/base/sock.c '/^bool sock_is(/,/^}/ s/^    return \(.*\);/    return (\1) || fd >= 0;/'
}

without_claim() {
    mutant "$1" shim/conn/fdtable.c '/^void table_await_claim(/,/^}/ s/UNLIKELY(table_is_claimed(fd))/fd < 0/'
}

# hits_somebody: the last reuse has hit innocents.
hits_somebody() {
    [[ $result =~ hit\ ([0-9]+) ]]
    [ "${BASH_REMATCH[1]}" -gt 0 ]
}

@test "without the fingerprint the same test hits innocents: it can see them" {
    without_fingerprint bare
    reuse "$mutant" unseen 20000
    hits_somebody
}

# pausing NAME: between its look at a connection and its shutdown the worker waits, for a moment, for the
# number to be somebody else's.
pausing() {
    mutant "$1" shim/base/sock.c '/^bool sock_shut_read_of(/,/^}/ s/^    int pin = /    struct stat was, is;\
    sys2(SYS_fstat, fd, \&was);\
    for (int i = 0; i < 100 \&\& (sys2(SYS_fstat, fd, \&is) < 0 || is.st_ino == was.st_ino); i++)\
        sys2(SYS_nanosleep, (\&(struct timespec){0, 20000}), NULL);\
&/'
}

@test "a number closed and reused behind the worker's look: claim and fingerprint each protect" {
    pausing neither
    without_claim neither
    without_fingerprint neither
    reuse "$mutant" seen 200 sleep
    hits_somebody # what follows was tried

    pausing claim
    without_fingerprint claim
    reuse "$mutant" seen 200 sleep
    [[ $result == "rounds 200 "*" hit 0 lost 0" ]]

    pausing fingerprint
    without_claim fingerprint
    reuse "$mutant" seen 200 sleep
    [[ $result == "rounds 200 "*" hit 0 lost 0" ]]
}

# ---- the last moment ----

# sleeps: a thread of the server is in nanosleep(2), which is the mutant's.
sleeps() {
    grep -q "^$(printf '#include <sys/syscall.h>\nSYS_nanosleep\n' | gcc -E - | tail -n 1) " \
        "/proc/$SERVER_PID"/task/*/syscall
}

@test "a request that comes between the last look at its connection and our FIN is told as lost" {
    local client
    mutant late shim/conn/last_answer.c -e '1i #include <time.h>' \
        -e 's/^\( *\)sock_shut_write(fd);/\1sys2(SYS_nanosleep, (\&(struct timespec){2, 0}), NULL), sock_shut_write(fd);/'
    WEIR_LIB=$mutant
    serve server "${quick[@]:0:2}" -- "$PROGRAMS/fd_moves" stay "$port"
    wait_port "$port"
    conn_open client "$port"
    echoes "$client"
    kill -USR2 "$SERVER_PID"
    wait_until 10 sleeps
    conn_send "$client" 'late\n'
    at_eof "$client" 10
    wait_drained server
    log_has server 'closed .*: in use, for it was sent something as it was closed$'
    log_has server 'drained in .*: 0 closed clean, 1 forced'
}
