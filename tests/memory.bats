#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What the shim keeps in memory never hurts its program: what it knows of descriptors, its entry in
# the environment, its tables where memory is scarce or descriptors are many, its copies in a child.
# mutant: shim/drain/environment.c: s/with_name\[count - 1\] = entry/with_name[count] = entry/
# needs: dictd zabbix-agent
# seconds: 26
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((23000 + 20 * BATS_TEST_NUMBER))
}

teardown() {
    end_started
    [ -z "${words:-}" ] || rm -rf "$words"
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

# ---- the entry in the environment ----

# room_of VAR HABIT [LD_PRELOAD=...]: what own_title takes for its title in a small environment.
room_of() {
    local said # as many bytes stand in the environment with the shim as without
    said=$(env -i "${@:3}" A=1 B=2 "$PROGRAMS/own_title" "$2") || return 1
    printf -v "$1" %s "${said#room }"
}

@test "a program that writes its title over argv and environ finds their block as it was" {
    local bare shimmed habit
    for habit in last first highest; do
        room_of bare "$habit" "LD_PRELOAD=" "X=$WEIR_LIB"
        room_of shimmed "$habit" "LD_PRELOAD=$WEIR_LIB" "X="
        echo "$habit: $bare bare, $shimmed under the shim"
        [ "$shimmed" = "$bare" ]
    done
}

@test "a program whose environment is the shim's name alone finds the block as it was" {
    local habit
    for habit in last first highest row release move; do
        echo "$habit"
        env -i "LD_PRELOAD=$WEIR_LIB" "$PROGRAMS/own_title" "$habit"
    done
}

@test "an environment's entries may be copied, overwritten, freed and made anew" {
    local bare shimmed habit
    for habit in row release move; do
        echo "$habit"
        room_of bare "$habit" "LD_PRELOAD=" "X=$WEIR_LIB"
        room_of shimmed "$habit" "LD_PRELOAD=$WEIR_LIB" "X="
        [ "$shimmed" -le "$bare" ]
    done
}

@test "a program that has written over its environment before it listens is a part of its tree" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server WEIR_RUN_DIR="$BATS_TEST_TMPDIR" -- \
        sh -c '"$0" "$1" & "$0" "$2" & wait' "$PROGRAMS/env_overwritten" "$port" $((port + 1))
    wait_port "$port"
    wait_port $((port + 1))
    wait_until 5 log_has server 'ready.*'
    run env WEIR_RUN_DIR="$BATS_TEST_TMPDIR" "$ROOT/build/weir" status "$SERVER_PID" --json
    echo "$output"
    [[ $output == *"127.0.0.1:$port\""*"127.0.0.1:$((port + 1))\""* ]] ||
        [[ $output == *"127.0.0.1:$((port + 1))\""*"127.0.0.1:$port\""* ]]
}

@test "what a program starts finds the tree's name once, also after it has executed itself" {
    run env -i "LD_PRELOAD=$WEIR_LIB" A=1 /bin/sh -c \
        'exec /bin/sh -c "exec /usr/bin/env"' </dev/null
    echo "$output"
    [ "$(grep -c '^WEIR_TREE=' <<<"$output")" = 1 ]
}

@test "dictd writes its title over its environment, and serves" {
    local client banner dictionary
    words=$(mktemp -d) # for its user dictd, which bats' own folder is closed to
    chmod 755 "$words"
    dictionary=$words/words
    printf 'weir\na low dam\n' >"$dictionary.dict"
    printf 'weir\tA\tP\n' >"$dictionary.index"
    printf 'global { port %s }\naccess { allow * }\ndatabase words { data "%s" index "%s" }\n' \
        "$port" "$dictionary.dict" "$dictionary.index" >"$dictionary.conf"
    serve server -- dictd -d nodetach -c "$dictionary.conf" --pid-file "$dictionary.pid"
    wait_port "$port"
    conn_open client "$port"
    read_line banner "$client" 5
    [[ $banner == "220 "* ]]
    conn_send "$client" 'QUIT\r\n'
    conn_close "$client"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID"
}

@test "zabbix_agentd frees its copy of the environment, and ends as bare" {
    local status=0 conf=$BATS_TEST_TMPDIR/agent.conf
    printf 'LogType=console\nServer=127.0.0.1\nServerActive=\nListenIP=127.0.0.1\n' >"$conf"
    printf 'ListenPort=%s\nPidFile=%s\nAllowRoot=1\n' "$port" "$conf.pid" >>"$conf"
    serve server -- zabbix_agentd -f -c "$conf"
    wait_port "$port"
    kill -TERM "$SERVER_PID"
    wait "$SERVER_PID" || status=$?
    echo "status $status"
    [ "$status" = 0 ]
    log_has server 'Zabbix Agent stopped'
}

# ---- where memory is scarce, and where descriptors are many ----

# answer_arrives COMMAND...: linger_server under the shim, started by COMMAND, closes with input
# unread while it drains, and its answer arrives whole.
answer_arrives() {
    local client
    serve server -- "$@" "$PROGRAMS/linger_server" --wait poll "$port"
    local server=$SERVER_PID
    wait_port "$port"
    serve_bare client -- /usr/bin/python3 "$BATS_TEST_DIRNAME/programs/linger_client.py" "$port"
    wait_until 5 log_has client '^asked$'
    kill -USR2 "$server"
    wait_until 6 log_has client '^got '
    log_has client '^got 1048576 end$'
    wait_drained server
    log_has server 'drained in .*: 1 closed clean, 0 forced'
}

@test "with little address space a drain lingers, as it does with much" {
    answer_arrives prlimit --nofile=1024:20000 --as=8000000
}

@test "where each byte that is asked for is counted a drain lingers as well" {
    answer_arrives prlimit --nofile=1024:20000 --data=4000000
}

@test "what is mapped follows what is used, where each byte that is asked for is counted" {
    local before
    serve server -- prlimit --nofile=1024:20000 --data=100000000 /usr/bin/python3 \
        "$BATS_TEST_DIRNAME/programs/many_numbers.py" "$port" 100
    wait_until 10 log_has server '^ready$'
    serve_bare bare -- prlimit --nofile=1024:20000 --data=100000000 /usr/bin/python3 \
        "$BATS_TEST_DIRNAME/programs/many_numbers.py" "$((port + 1))" 100
    wait_until 10 log_has bare '^ready$'
    data_of() { awk '/^VmData:/ { print $2 }' "/proc/$1/status"; }
    before=$(data_of "${STARTED[0]}")
    echo "$before kB, bare $(data_of "$SERVER_PID") kB"
    [ $((before - $(data_of "$SERVER_PID"))) -lt 3000 ]
}

@test "what a program locks in memory is not made larger by tables that it does not use" {
    run shimmed "$PROGRAMS/mem_locked"
    echo "$output"
    [ "$status" != 3 ] || skip "memory can't be locked here"
    read -r _ locked _ resident <<<"$output"
    [ "$locked" -lt 4000 ]
    [ "$resident" -lt 4000 ]
}

# As vsftpd does, which maps a buffer for each answer.
@test "a drain takes little address space, for a child may limit its own to what it had before" {
    local before
    peak() { awk '/^VmPeak:/ { print $2 }' "/proc/$SERVER_PID/status"; }
    serve server -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    before=$(peak)
    kill -USR2 "$SERVER_PID"
    wait_drained server
    echo "$(peak) kB, before $before kB"
    [ $(($(peak) - before)) -le 65536 ]
}

@test "a program that limits its address space once it listens has it for itself in a drain" {
    local client answer
    cat >"$BATS_TEST_TMPDIR/limits.py" <<'END'
import mmap, resource, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (128 << 20),) * 2)
client, _ = listener.accept()
with client.makefile("rw") as lines:
    for line in lines:
        lines.write(f"{len(mmap.mmap(-1, 64 << 20))}\n")
        lines.flush()
client.close()
signal.pause()
END
    serve server WEIR_TIMEOUT=5s -- /usr/bin/python3 "$BATS_TEST_TMPDIR/limits.py" "$port"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" half
    pause 0.2
    kill -USR2 "$SERVER_PID"
    wait_until 5 log_has server ': draining: '
    pause 0.2
    conn_send "$client" ' a line\n'
    read_line answer "$client" 3
    [ "$answer" = 67108864 ]
    at_eof "$client" 3
    wait_drained server
}

# drains_number NUMBER COMMAND...: a drain is begun (by the signal SIGNAL, or else USR2) of a server with
# a connection of that number.
drains_number() {
    local number=$1 answer
    shift
    serve server WEIR_TIMEOUT=5s WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- "$@" /usr/bin/python3 \
        "$BATS_TEST_DIRNAME/programs/many_numbers.py" "$port" "$number"
    wait_until 10 log_has server '^ready$'
    conn_open client "$port"
    conn_send "$client" 'ping\n'
    read_line answer "$client" 5
    [ -e "/proc/$SERVER_PID/fd/$number" ]
    kill -"${signal:-USR2}" "$SERVER_PID"
}

@test "a descriptor above the limit of the start is drained, once the program has raised it" {
    prlimit --nofile=600:600 prlimit --nofile=600:700 true 2>"$BATS_TEST_TMPDIR/denied" ||
        skip "the limit can't be raised here"
    drains_number 5000 prlimit --nofile=600:600
    at_eof "$client" 5
    wait_drained server
    log_has server 'drained in .*: 1 closed clean'
}

@test "the table grows where memory was asked for fewer" {
    drains_number 5000 prlimit --nofile=600:20000 --data=100000000
    at_eof "$client" 5
    wait_drained server
    log_has server 'drained in .*: 1 closed clean'
}

@test "a connection that there is no room to know is named, and the drain not called complete" {
    drains_number 17000 prlimit --nofile=600:20000 --as=200000000
    wait_until 10 log_has server 'wholly drained in'
    log_has server 'not drained: 1 connections and 0 listeners'
    is_open "$client"
}

@test "weir_drain() fails where a connection goes on that there is no room to know" {
    local signal=USR1
    drains_number 17000 prlimit --nofile=600:20000 --as=200000000
    wait_until 10 log_has server '^weir_drain -1 ENOBUFS$'
    log_has server 'not drained: 1 connections and 0 listeners'
    is_open "$client"
}

@test "weir_drain() succeeds where there is room to know the connection" {
    local signal=USR1
    drains_number 5000 prlimit --nofile=600:20000
    wait_until 10 log_has server '^weir_drain 0 -$'
    at_eof "$client" 5
}

@test "each of 600 listeners is stopped" {
    local i
    serve server -- prlimit --nofile=2048:2048 /usr/bin/python3 \
        "$BATS_TEST_DIRNAME/programs/many_numbers.py" "$port" 1000 600
    wait_until 10 log_has server '^ready$'
    kill -USR2 "$SERVER_PID"
    wait_drained server 20
    for i in 0 200 255 256 257 400 599; do
        not_served $((port + i)) 'ping\n'
    done
    is_quiet "$SERVER_PID"
}

# ---- in a child, and in several threads ----

@test "a child that is forked while its parent's first listen() is under way can listen" {
    run timeout "$(patient 30)" strace -f -qq -o /dev/null -e trace=prlimit64 \
        -e inject=prlimit64:delay_enter=400000 -E "LD_PRELOAD=$WEIR_LIB" "$PROGRAMS/fork_starting"
    echo "$output"
    [ "$status" = 0 ]
    grep -q '^the child ended with 0$' <<<"$output"
}

@test "each thread begins with its own maker's mask, also where two make some at once" {
    run shimmed "$PROGRAMS/sig_makers" 3000
    echo "$output"
    [ "$output" = "wrong 0 of 6000" ]
}

@test "the child of a process that has drained itself serves, and drains once it is told to" {
    local client answer child
    serve server WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- "$PROGRAMS/fork_drained" "$port"
    wait_until 10 log_has server '^child [0-9]+$'
    child=$(sed -n 's/^child //p' "$BATS_TEST_TMPDIR/server.log")
    also_end "$child"
    conn_open client "$port"
    for _ in 1 2 3; do
        conn_send "$client" 'ping\n'
        read_line answer "$client" 5
        [ "$answer" = ping ]
    done
    kill -USR2 "$child"
    at_eof "$client" 5
    wait_until 10 log_has server "^weir\\[$child\\] .*: drained in .*: 1 closed clean"
}
