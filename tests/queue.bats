# SPDX-License-Identifier: MIT
# The accept queue in mode reply: who has connected before the drain is answered, however slowly the
# program accepts and whatever it waits with; who comes later does not get in, and what becomes of
# the listener is as WEIR_LISTENERS says.
# mutant: shim/drain/listener_stop.c: s/return atomic_load\(&listener->is_dry\)/return true/
# seconds: 145
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers

setup() {
    port=$((15000 + 10 * BATS_TEST_NUMBER))
    at=127.0.0.1:$port
    verb=serve
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/* "$BATS_TEST_TMPDIR" # nobody runs servers too
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
}

# start ADDRESS... -- OPTION...: queue_server, which listens when this returns.
start() {
    local addresses=() address
    while [ "$1" != -- ]; do
        addresses+=("$1")
        shift
    done
    shift
    "$verb" server "${variables[@]}" -- "${as[@]}" "$PROGRAMS/queue_server" "$@" "${addresses[@]}"
    for address in "${addresses[@]}"; do
        case $address in
        unix:*) wait_unix "${address#unix:}" ;;
        *) wait_port "${address##*:}" ;;
        esac
    done
}

# they_connect NAME OPTION... ADDRESS: clients, who have all connected when this returns.
they_connect() {
    they_come "$@"
    wait_until 5 log_has "$1" "^connected $(clients_of "${@:2}")\$"
}

# they_come NAME OPTION... ADDRESS: they have begun to.
they_come() {
    come "$@"
    wait_until 5 log_has "$1" '^connecting$'
}

# come NAME OPTION... ADDRESS: they will.
come() {
    local name=$1 server=$SERVER_PID
    shift
    serve_bare "$name" -- "$PROGRAMS/queue_clients" "$@"
    CLIENTS_PID[$name]=$SERVER_PID
    SERVER_PID=$server
}

declare -gA CLIENTS_PID # bats reads this file in a function

clients_of() {
    while [ $# -gt 1 ]; do
        [ "$1" != --clients ] || { echo "$2"; return; }
        shift
    done
    echo 1
}

# all_answered NAME N: and nothing else has become of any.
all_answered() {
    local line
    wait "${CLIENTS_PID[$1]}"
    line=$(tail -n 1 "$BATS_TEST_TMPDIR/$1.log")
    echo "$1: $line"
    [ "$line" = "answered=$2 unanswered=0 reset=0 refused=0 unconnected=0 open=0" ]
}

drain() {
    kill -USR2 "$SERVER_PID"
}

# ended_well SECONDS: the drain is over, nothing was cut, and the server is there.
ended_well() {
    wait_drained server "$1"
    log_has server ' 0 forced; the program runs on$'
    alive "$SERVER_PID"
}

# storm N OPTION...: N clients connect to a server that accepts one slowly, and it is drained.
storm() {
    local clients=$1
    shift
    start "$at" -- --pace "${pace:-2000}" "$@"
    they_connect storm --clients "$clients" "$at"
    drain
    ended_well 20
    all_answered storm "$clients"
    is_refused
}

# waits_with OPTION...: such a server answers everyone, and is as quiet afterwards as before.
waits_with() {
    storm 300 "$@"
    is_quiet "$SERVER_PID"
}

# comes SECONDS [HOST:PORT]: a new client's connection is made within that time. Otherwise 124: its handshake is
# not done, and nothing refuses it; 1: it was refused.
comes() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout "$1" bash -c '{ exec 9<>"/dev/tcp/${0%:*}/${0##*:}"; } 2>/dev/null' "${2:-$at}" 3>&-
}

does_not_get_in() {
    run comes 0.4 "$@"
    [ "$status" = 124 ]
}

is_refused() {
    run comes "$(patient 2)" "$@"
    [ "$status" = 1 ]
}

busy() {
    kill -USR1 "$SERVER_PID"
    pause 0.1
}

# ---- storms

@test "2,000 clients of a slow server who have connected before the drain are answered" {
    pace=1000 storm 2000
}

# as_nobody: the server is that user. A user who is not root has no other.
as_nobody() {
    setpriv --reuid=nobody --regid=nogroup --clear-groups true 2>/dev/null || skip "no other user"
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "LD_PRELOAD=$WEIR_LIB")
}

@test "2,000 clients of a slow server are answered, drained as nobody" {
    as_nobody
    verb=serve_bare
    pace=1000 storm 2000
    [ "$(stat -c %U "/proc/$SERVER_PID")" = nobody ]
}

@test "2,000 clients behind TCP_DEFER_ACCEPT who have sent their line are answered" {
    pace=1000 storm 2000 --defer 30
}

@test "TCP_DEFER_ACCEPT: who has connected and speaks only while it drains is answered" {
    start "$at" -- --defer 30
    they_connect early --clients 200 --send-after 500 "$at"
    they_connect late --clients 200 --send-after 1700 "$at"
    drain
    ended_well 8
    all_answered early 200
    all_answered late 200
}

@test "TCP_DEFER_ACCEPT: who has connected and never speaks is told that it is over" {
    start "$at" -- --defer 30
    conn_open fd "$port"
    drain
    at_eof "$fd" 8
    ended_well 3
    log_has server ' 1 closed clean, 0 forced'
}

@test "TCP_DEFER_ACCEPT as nobody: who has connected and speaks while it drains is answered" {
    as_nobody
    verb=serve_bare
    start "$at" -- --defer 30
    they_connect late --clients 200 --send-after 1700 "$at"
    drain
    ended_well 8
    all_answered late 200
}

@test "IPv6: 1,000 clients in the queue are answered" {
    at="[::1]:$port"
    start "$at" -- --pace 2000
    they_connect storm --clients 1000 "$at"
    drain
    ended_well 20
    all_answered storm 1000
}

@test "a dual-stack listener: clients of both kinds are answered, and neither gets in later" {
    start "[::]:$port" -- --pace 2000
    they_connect four --clients 300 "127.0.0.1:$port"
    they_connect six --clients 300 "[::1]:$port"
    drain
    pause 0.2
    does_not_get_in "127.0.0.1:$port"
    does_not_get_in "::1:$port"
    ended_well 20
    all_answered four 300
    all_answered six 300
    is_refused "127.0.0.1:$port"
    is_refused "::1:$port"
}

@test "AF_UNIX: 2,000 clients in the queue are answered, and later ones refused" {
    at=unix:$BATS_TEST_TMPDIR/sock
    start "$at" -- --pace 1000
    they_connect storm --clients 2000 "$at"
    drain
    ended_well 20
    all_answered storm 2000
    they_come later --patience 5 "$at"
    wait "${CLIENTS_PID[later]}"
    log_has later ' refused=1 '
}

# streams ADDRESS: clients come all the time, before the drain and after it. It ends, those who have
# connected are answered, and the others are refused.
streams() {
    local name line
    for name in a b c d; do
        come "$name" --clients 300 --every 2000 --endless --patience 60 "$1"
    done
    pause 1
    drain
    wait_drained server 20
    for name in a b c d; do
        wait "${CLIENTS_PID[$name]}"
        line=$(tail -n 1 "$BATS_TEST_TMPDIR/$name.log")
        echo "$line"
        [[ $line == "answered="[1-9]*" unanswered=0 reset=0 refused="[1-9]*" unconnected=0 open=0" ]]
    done
}

@test "a drain ends although new clients never cease to come, and none who got in is reset" {
    start "$at" -- --wait level --pace 1500
    streams "$at"
}

@test "AF_UNIX: a drain ends although new clients never cease to come, and none is reset" {
    at=unix:$BATS_TEST_TMPDIR/sock
    start "$at" -- --wait level --pace 1500
    streams "$at"
}

@test "several listeners of one server: everyone in each queue is answered" {
    local path=unix:$BATS_TEST_TMPDIR/sock
    start "$at" "127.0.0.1:$((port + 1))" "[::1]:$((port + 2))" "$path" -- --wait poll --pace 2000
    they_connect a --clients 200 "$at"
    they_connect b --clients 200 "127.0.0.1:$((port + 1))"
    they_connect c --clients 200 "[::1]:$((port + 2))"
    they_connect d --clients 200 "$path"
    drain
    ended_well 20
    for name in a b c d; do
        all_answered "$name" 200
    done
}

@test "SO_REUSEPORT: two listeners of one process, and nobody in either queue is lost" {
    start "$at" "$at" -- --wait level --reuseport --pace 2000
    they_connect storm --clients 800 "$at"
    drain
    ended_well 20
    all_answered storm 800
    is_refused
}

@test "SO_REUSEPORT: a listener in each of three workers, and nobody in any queue is lost" {
    start "$at" -- --wait level --reuseport --own --workers 3 --pace 4000
    they_connect storm --clients 900 "$at"
    drain
    ended_well 20
    all_answered storm 900
    is_refused
}

# ---- every way of waiting

@test "a thread in accept: 300 clients in the queue are answered" {
    waits_with --wait accept
}

@test "four threads in accept: 300 clients in the queue are answered" {
    waits_with --wait threads --pace 8000
}

@test "poll: 300 clients in the queue are answered" {
    waits_with --wait poll
}

@test "select and a blocking accept: 300 clients in the queue are answered" {
    waits_with --wait select
}

@test "epoll, level-triggered: 300 clients in the queue are answered" {
    waits_with --wait level
}

@test "epoll, edge-triggered: 300 clients in the queue are answered" {
    waits_with --wait edge
}

@test "epoll, one event at a time: 300 clients in the queue are answered" {
    waits_with --wait oneshot
}

@test "EPOLLEXCLUSIVE in four workers: 300 clients in the queue are answered" {
    waits_with --wait exclusive --workers 4 --pace 8000
}

@test "an epoll in an epoll: 300 clients in the queue are answered" {
    waits_with --wait nested
}

@test "signal-driven: 300 clients in the queue are answered" {
    waits_with --wait sigio
}

# ---- a tree

@test "a listener that workers share in accept is drained once for all, and nobody is reset" {
    storm 600 --workers 4 --pace 8000
}

@test "a listener that workers share by epoll is drained once for all, and nobody is reset" {
    storm 600 --wait level --workers 4 --pace 8000
}

@test "a listener that workers share by select is drained once for all, and nobody is reset" {
    storm 600 --wait select --workers 4 --pace 8000
}

@test "one worker of a tree, drained alone, leaves the queue to the others" {
    start "$at" -- --wait level --workers 2 --pace 2000
    local worker
    worker=$(cut -d ' ' -f 1 "/proc/$SERVER_PID/task/$SERVER_PID/children")
    they_connect storm --clients 500 "$at"
    kill -USR2 "$worker"
    wait_drained server
    log_has server "^weir\[$worker\] .*: drained in .* 0 forced"
    all_answered storm 500
    they_connect later --clients 100 "$at"
    all_answered later 100
}

# ---- time

@test "a program that is too busy to accept for three seconds is given the time" {
    local since
    start "$at" --
    since=$(now_ms)
    busy
    they_connect storm --clients 500 "$at"
    drain
    pause 0.5
    does_not_get_in
    ended_well 6
    [ $(($(now_ms) - since)) -ge 2900 ]
    all_answered storm 500
    is_refused
}

# a_child HOW WEIR_...: 20 clients who have sent wait in the queue of a server that has a child of no
# interest, and drains: each is answered.
a_child() {
    local i fds=() byte
    mkfifo "$BATS_TEST_TMPDIR/go"
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server -- sh -c 'exec "$0" "$1" "$2" <"$3"' "$PROGRAMS/queue_with_child" "$port" "$1" \
        "$BATS_TEST_TMPDIR/go"
    exec {go}>"$BATS_TEST_TMPDIR/go"
    wait_port "$port"
    for i in {1..20}; do
        conn_open "fds[$i]" "$port"
        conn_send "${fds[$i]}" x
    done
    echo >&"$go"
    for i in {1..20}; do
        IFS= read -r -N 1 -t 10 -u "${fds[$i]}" byte || { echo "client $i got nothing"; return 1; }
        [ "$byte" = x ]
    done
    wait_until 10 log_has server '^drained 0$'
}

@test "a server that has a child of no interest serves its queue before it has drained itself" {
    a_child close
}

@test "nor does a child that holds the listener and never accepts cost anybody in its queue" {
    a_child hold
}

@test "a program that never accepts is given WEIR_TIMEOUT, not more" {
    variables=(WEIR_TIMEOUT=1500ms)
    start "$at" --
    busy
    they_connect storm --clients 10 "$at"
    local since
    since=$(now_ms)
    drain
    wait_drained server 3
    [ $(($(now_ms) - since)) -ge 1400 ]
}

# ---- handshakes half done

@test "a handshake that is half done when the drain begins is served" {
    start "$at" --
    they_come half --clients 50 --deaf 700 "$at"
    drain
    pause 0.2
    not_drained
    ended_well 6
    all_answered half 50
    is_refused
}

@test "a handshake over IPv6 that is half done when the drain begins is served" {
    at="[::1]:$port"
    start "$at" --
    they_come half --clients 50 --deaf 700 "$at"
    drain
    ended_well 6
    all_answered half 50
}

@test "a handshake that was half done is served also where the program accepts it late" {
    start "$at" --
    busy
    they_come half --clients 50 --deaf 700 "$at"
    drain
    ended_well 12
    all_answered half 50
}

@test "what came with a handshake that was half done is waited for, however late the accept is" {
    start "$at" -- --busy 6
    busy
    they_come half --clients 50 --deaf 700 "$at"
    drain
    ended_well 22
    all_answered half 50
}

# The look for handshakes half done is made slow, so that they are done while it goes on.
@test "a handshake that is done between the looks at the queue and at the handshakes is served" {
    start "$at" --
    busy
    they_come half --clients 50 --deaf 700 "$at"
    strace -qq -f -p "$SERVER_PID" -o /dev/null -e trace=socket \
        -e inject=socket:delay_enter=400000 &
    local strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    drain
    ended_well 12
    kill "$strace"
    all_answered half 50
}

# The accepting thread's calls for what it accepts take long: the drainer looks in between. It finds
# what has waited for seconds, and has not been heard.
@test "what came with a handshake that was half done is waited for while the accept is not over" {
    start "$at" -- --busy 6
    busy
    they_come half --clients 10 --deaf 700 "$at"
    strace -qq -p "$SERVER_PID" -o /dev/null -e trace=getsockopt,setsockopt \
        -e inject=getsockopt,setsockopt:delay_exit=30000 &
    local strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    drain
    ended_well 22
    kill "$strace"
    all_answered half 10
}

# The worker makes the thread that drains it late, and its calls for what it accepts take long.
@test "what came with a handshake that was half done is waited for by a worker that drains later" {
    local worker
    start "$at" -- --wait threads --workers 1
    worker=$(cut -d ' ' -f 1 "/proc/$SERVER_PID/task/$SERVER_PID/children")
    they_come half --clients 10 --deaf 700 "$at"
    strace -qq -f -p "$worker" -o /dev/null -e trace=getsockopt,clone \
        -e inject=getsockopt:delay_exit=30000 -e inject=clone:delay_enter=2400000 &
    local strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$worker/status"
    drain
    ended_well 22
    kill "$strace"
    all_answered half 10
}

# The calls that have the listener drop SYNs take long, and handshakes are done in between.
@test "a handshake that is done while a worker alone stops its listener is served" {
    local worker
    start "$at" -- --reuseport --own --workers 1
    worker=$(cut -d ' ' -f 1 "/proc/$SERVER_PID/task/$SERVER_PID/children")
    they_come half --clients 2 --deaf 700 "$at"
    strace -qq -f -p "$worker" -o /dev/null -e trace=setsockopt \
        -e inject=setsockopt:delay_exit=1000000 &
    local strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$worker/status"
    kill -USR2 "$worker"
    wait_drained server 22
    kill "$strace"
    log_has server "^weir\[$worker\] .*: drained in .* 0 forced"
    all_answered half 2
}

# Eight listen on the port. Were SYNs dropped for as long as it takes to be sure of the queue, one in eight
# of the clients that come all the time would wait a second for its next try.
@test "one of several servers on a port (SO_REUSEPORT) drops no SYN that another would have served" {
    local others
    start "$at" -- --reuseport
    others=()
    for _ in 1 2 3 4 5 6 7; do
        serve_bare "other${#others[@]}" -- "$PROGRAMS/queue_server" --reuseport "$at"
        others+=("$SERVER_PID")
    done
    SERVER_PID=${STARTED[0]}
    strace -qq -f -tt -p "$SERVER_PID" -o "$BATS_TEST_TMPDIR/trace" -e trace=setsockopt,shutdown &
    local strace=$!
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    drain
    wait_drained server 3
    kill "$strace"
    wait "$strace" || true
    # What is between the filter and the end of the listener is a look, and no wait for quiet.
    run grep -A 1 SO_ATTACH_FILTER "$BATS_TEST_TMPDIR/trace"
    echo "$output"
    [[ ${lines[1]} == *'shutdown('* ]]
}

not_drained() {
    not log_has server 'drained in'
}

# ---- who comes later

@test "who comes during the drain waits, and finds the successor or a refusal" {
    start "$at" --
    busy
    they_connect storm --clients 20 "$at"
    drain
    pause 2.2 # whose first try is in vain tries again after a second
    they_come later --clients 20 --patience 6 --expect successor "$at"
    wait_drained server 3
    serve_bare successor -- "$PROGRAMS/queue_server" --answer successor "$at"
    all_answered storm 20
    wait "${CLIENTS_PID[later]}"
    tail -n 1 "$BATS_TEST_TMPDIR/later.log"
    # Which of the two is a matter of when the old one ends and they try again.
    tail -n 1 "$BATS_TEST_TMPDIR/later.log" |
        grep -Eq '^answered=(20 .* refused=0|0 .* refused=20) unconnected=0 open=0$'
    log_has later ' unanswered=0 reset=0 '
}

@test "a listener that the program opens while it drains is not accepted from" {
    start "$at" -- --wait poll
    conn_open held "$port"
    conn_send "$held" half
    pause 0.2
    drain
    pause 0.3
    kill -HUP "$SERVER_PID"
    pause 0.3
    run comes 0.4 "127.0.0.1:$((port + 1))"
    [ "$status" != 0 ]
    conn_send "$held" ' a line\n'
    read_line line "$held" 2
    [ "$line" = pong ]
    ended_well 3
    is_refused "127.0.0.1:$((port + 1))"
}

# ---- WEIR_LISTENERS

# start_shared WAIT [VAR=value...]: a parent that listens and shares it with the server (descriptor 3), and with a
# successor once it gets HUP.
start_shared() {
    local wait=$1
    shift
    cat >"$BATS_TEST_TMPDIR/share.py" <<'END'
import os, signal, socket, subprocess, sys
port, library, program, file, wait = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", int(port)), backlog=4096)
os.dup2(listener.fileno(), 3)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
def start(answer, **more):
    return subprocess.Popen([program, "--wait", wait, "--busy", "3", "--pace", "2000", "--answer", answer, "fd:3"],
                            pass_fds=[3], env={**os.environ, **more})
old = start("old", LD_PRELOAD=library)
with open(file, "w") as out:
    out.write(str(old.pid))
signal.sigwait([signal.SIGHUP])
with open(file + ".successor", "w") as out:
    out.write(str(start("successor").pid))
signal.pause()
END
    serve_bare server "$@" -- /usr/bin/python3 "$BATS_TEST_TMPDIR/share.py" "$port" "$WEIR_LIB" \
        "$PROGRAMS/queue_server" "$BATS_TEST_TMPDIR/old" "$wait"
    parent=$SERVER_PID
    wait_until 5 test -s "$BATS_TEST_TMPDIR/old"
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/old")
    also_end "$SERVER_PID"
    wait_port "$port"
    wait_until 3 grep -q libweir "/proc/$SERVER_PID/maps"
    pause 0.2
}

# The old one is drained while clients wait, who are left for the successor, and others come.
hands_over() {
    busy
    they_connect waiting --clients 200 --expect successor "$at"
    drain
    wait_drained server 5
    they_connect later --clients 200 --expect successor "$at"
    pause 3 # until it is no longer busy
    is_quiet "$SERVER_PID"
    kill -HUP "$parent"
    wait_until 3 test -s "$BATS_TEST_TMPDIR/old.successor"
    also_end "$(<"$BATS_TEST_TMPDIR/old.successor")"
    all_answered waiting 200
    all_answered later 200
    alive "$SERVER_PID"
}

@test "a listener inherited across exec: who waits is left to the successor that shares it" {
    start_shared accept
    hands_over
}

@test "a listener inherited across exec, in an epoll: the loop does not see who is left to others" {
    start_shared level
    hands_over
}

@test "WEIR_LISTENERS=keep: who waits is left to the successor that shares it" {
    start_shared level WEIR_LISTENERS=keep
    hands_over
}

@test "a listener from systemd-socket-activate stays open, and nobody is accepted any more" {
    serve_bare server -- systemd-socket-activate -l "$at" -E "LD_PRELOAD=$WEIR_LIB" \
        "$PROGRAMS/queue_server" fd:3
    wait_port "$port"
    they_connect first --clients 20 "$at"
    all_answered first 20
    drain
    ended_well 3
    listening "$port"
    conn_open later "$port"
    conn_send "$later" 'ping\n'
    pause 0.5
    is_open "$later"
}

# A master that makes the listener itself and hands it to a program that it starts (as dovecot's
# does): nobody outside of the tree shares it.
@test "a listener that a process of the tree has handed on across exec: its queue is served" {
    cat >"$BATS_TEST_TMPDIR/master.py" <<'END'
import os, socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
os.dup2(listener.fileno(), 3)
subprocess.call([sys.argv[2], "--pace", "2000", "fd:3"], pass_fds=[3])
END
    serve server -- /usr/bin/python3 "$BATS_TEST_TMPDIR/master.py" "$port" "$PROGRAMS/queue_server"
    wait_port "$port"
    they_connect first --clients 1 "$at" # whom the program answers that has it now
    all_answered first 1
    they_connect waiting --clients 300 "$at"
    drain
    ended_well 20
    all_answered waiting 300
}

has_waiting() {
    [ "$(ss -Hltn "sport = :$port" | awk '{ print $2 }')" = "$1" ]
}

@test "WEIR_LISTENERS=keep: a loop whose listener no epoll_ctl has told of is not woken by who waits" {
    serve server WEIR_LISTENERS=keep -- "$PROGRAMS/epoll_behind" "$port"
    wait_port "$port"
    they_connect first --clients 1 "$at"
    wait_until 5 log_has server '^accepted$'
    drain
    ended_well 3
    they_connect later --clients 2 --patience 6 "$at"
    wait_until 5 has_waiting 2
    pause 0.5
    not log_has server 'woken for nobody'
    kill "$SERVER_PID"
}
