#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Each case of the tests of goji's graceful/listener, by its name there, over real connections; then
# the modes, the actions and the C interface where goji has nothing to compare with.
# "Closed" means: the program read end-of-file and closed, and its client saw the end.
# mutant: shim/conn/conn.c: /MODE_DEADLINE\]/s/IDLE/KEEP/
# seconds: 77

# shellcheck disable=SC2153  # ANSWER is set by marked.bash

load helpers
load marked

# goji MODE: marked in that mode, with one connection: number 1, the client's descriptor in CLIENT.
goji() {
    start_marked "WEIR_MODE=$1"
    connect CLIENT
}

# ---- goji's cases ----

@test "ManualRead: a read does not make a connection in use" {
    goji manual
    request "$CLIENT" 1
    expect 0 close_idle
    is_closed "$CLIENT" 1
}

@test "AutomaticRead: a read makes a connection in use" {
    goji automatic
    request "$CLIENT" 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
}

@test "DeadlineRead: a read makes a connection in use" {
    goji deadline
    request "$CLIENT" 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
}

@test "DisownedRead: a disowned connection outlives a drain and is read from" {
    goji deadline
    expect 0 disown 1
    expect 0 close_listener
    expect started drain
    expect '0 *' drained 2000
    stays_open "$CLIENT" 1
}

@test "CloseConn: a drain does not wait for a connection in use that the program closed" {
    goji deadline
    expect 0 in_use 1
    expect 0 close 1
    at_eof "$CLIENT" 1
    expect started drain
    expect '0 *' drained 1000
}

@test "DisownedClose: a disowned connection that the program closes is closed" {
    goji deadline
    expect 0 disown 1
    expect 0 close 1
    is_closed "$CLIENT" 1
}

@test "ManualReadDeadline: a read timeout does not make a manual connection idle" {
    goji manual
    expect 0 in_use 1
    expect 0 rcvtimeo 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
}

@test "AutomaticReadDeadline: a read timeout does not make an automatic connection idle" {
    goji automatic
    expect 0 in_use 1
    expect 0 rcvtimeo 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
}

@test "DeadlineReadDeadline: a read timeout makes a deadline connection idle" {
    goji deadline
    expect 0 in_use 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
    expect 0 rcvtimeo 1
    expect 0 close_idle
    is_closed "$CLIENT" 1
}

@test "BasicCloseIdle: a connection is idle from accept, and closed" {
    goji manual
    expect 0 close_idle
    is_closed "$CLIENT" 1
}

@test "Mark: in use it is left open, idle again it is closed" {
    goji manual
    expect 0 in_use 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
    expect 0 idle 1
    expect 0 close_idle
    is_closed "$CLIENT" 1
}

@test "Disown: a disowned connection is not closed" {
    goji manual
    expect 0 disown 1
    expect 0 close_idle
    stays_open "$CLIENT" 1
}

@test "Drain: it waits for as long as a connection is in use" {
    goji manual
    expect 0 in_use 1
    expect started drain
    expect pending drained 300
    is_open "$CLIENT"
    expect 0 idle 1
    expect '0 *' drained 2000
    [ "${ANSWER#0 }" -ge 300 ]
    is_closed "$CLIENT" 1
}

@test "DrainAll: idle or in use, all are closed, except who was disowned" {
    local in_use disowned
    goji manual
    connect in_use
    expect 0 in_use 2
    connect disowned
    expect 0 disown 3
    expect started drain_all
    expect '0 *' drained 2000
    is_closed "$CLIENT" 1
    is_closed "$in_use" 2
    stays_open "$disowned" 3
    not_served
}

@test "Errors: a descriptor that is not tracked, and one that was disowned" {
    goji manual
    for fd in fd:99999 fd:-1 fd:0 fd:2; do
        expect '-1 ENOENT' in_use "$fd"
        expect '-1 ENOENT' idle "$fd"
        expect '-1 ENOENT' disown "$fd"
    done
    expect 0 disown 1
    expect '-1 EALREADY' disown 1
    expect '-1 ENOENT' in_use 1
    expect '-1 ENOENT' idle 1
    stays_open "$CLIENT" 1
}

@test "Close: a closed listener leaves its connections open" {
    goji manual
    expect 0 close_listener
    not_served
    stays_open "$CLIENT" 1
    expect '1 1 0 1' counts
}

# race_clients: what is to be 200 connections, some of which come only while the drain is on.
race_clients() {
    local figures status=0
    figures=$("$PROGRAMS/race" clients 200 "$PORT" "$BATS_TEST_TMPDIR/tally") || status=$?
    echo "$figures"
    read -r ANSWERED _ CUT _ <<<"$figures"
    [ "$ANSWERED" -ge 500 ] || { echo "that was no race" >&2; return 1; }
    return "$status"
}

# race_server MODE [DRAIN_AFTER_MS] [VAR=value...]
race_server() {
    serve race "WEIR_MODE=$1" "${@:3}" -- \
        "$PROGRAMS/race" server "$1" "$PORT" "$BATS_TEST_TMPDIR/tally" ${2:+"$2"}
    wait_port "$PORT"
}

@test "Race: weir_drain in automatic mode cuts nobody and ends quickly" {
    race_server automatic 900
    race_clients
    [ "$CUT" = 0 ]
    wait "$SERVER_PID"
    log race
    [[ $(log race) =~ 'drained 0 in '([0-9]+)' ms' ]]
    within "${BASH_REMATCH[1]}" 1000
}

@test "Race: weir_drain in manual mode cuts nobody and ends quickly" {
    race_server manual 900
    race_clients
    [ "$CUT" = 0 ]
    wait "$SERVER_PID"
    [[ $(log race) =~ 'drained 0 in '([0-9]+)' ms' ]]
    within "${BASH_REMATCH[1]}" 1000
}

@test "Race: the signal, in automatic mode, cuts nobody and ends quickly" {
    race_server automatic
    { sleep 0.9; kill -USR2 "$SERVER_PID"; } &
    race_clients
    [ "$CUT" = 0 ]
    wait_drained race 2
}

@test "Race: drain-all does cut, so that what counts the others is known to count" {
    race_server automatic '' WEIR_ACTION=drain-all
    { sleep 0.9; kill -USR2 "$SERVER_PID"; } &
    not race_clients
    [ "$CUT" -gt 0 ]
    alive "$SERVER_PID"
}

# ---- modes by actions ----

# Three connections: SILENT never sent a byte, BUSY is in use, RESTED was in use and is idle again.
three_connections() {
    start_marked "WEIR_MODE=$1" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms "${@:2}"
    connect SILENT
    connect BUSY
    connect RESTED
    make_busy "$1" "$BUSY" 2
    make_busy "$1" "$RESTED" 3
    make_idle "$1" "$RESTED" 3
    pause 0.5 # reply: past WEIR_FIRST_BYTE
}

make_busy() {
    request "$2" "$3"
    case $1 in manual) expect 0 in_use "$3" ;; esac
}

make_idle() {
    case $1 in
        manual | automatic) expect 0 idle "$3" ;;
        deadline) expect 0 rcvtimeo "$3" ;;
        *) response "$2" "$3" ;;
    esac
}

trigger() {
    kill -USR2 "$SERVER_PID"
}

# What each action does, however it was asked for.
saw_close_idle() {
    local later
    is_closed "$SILENT" 1
    is_closed "$RESTED" 3
    stays_open "$BUSY" 2
    connect later
    stays_open "$later" 4
    stays_open "$BUSY" 2
}

# saw_drain MODE
saw_drain() {
    is_closed "$SILENT" 1
    is_closed "$RESTED" 3
    pause 0.3
    is_open "$BUSY"
    not_served
    not log_has marked 'drained in'
    make_idle "$1" "$BUSY" 2
    is_closed "$BUSY" 2
    wait_drained marked 1
    alive "$SERVER_PID"
}

saw_drain_all() {
    is_closed "$SILENT" 1
    is_closed "$RESTED" 3
    is_closed "$BUSY" 2
    not_served
    wait_drained marked 1
    alive "$SERVER_PID"
}

# A listener that is off takes no part in whatever is asked for, and nobody waits.
saw_nothing() {
    local later
    stays_open "$SILENT" 1
    stays_open "$BUSY" 2
    stays_open "$RESTED" 3
    connect later
    stays_open "$later" 4
}

@test "manual, close-idle: idle ones are closed, the others and new ones served" {
    three_connections manual WEIR_ACTION=close-idle
    trigger
    saw_close_idle
}

@test "automatic, close-idle: idle ones are closed, the others and new ones served" {
    three_connections automatic WEIR_ACTION=close-idle
    trigger
    saw_close_idle
}

@test "deadline, close-idle: idle ones are closed, the others and new ones served" {
    three_connections deadline WEIR_ACTION=close-idle
    trigger
    saw_close_idle
}

@test "reply, close-idle: idle ones are closed, the others and new ones served" {
    three_connections reply WEIR_ACTION=close-idle
    trigger
    saw_close_idle
}

@test "off, close-idle: nothing is closed" {
    three_connections off WEIR_ACTION=close-idle
    trigger
    saw_nothing
}

@test "manual, drain: idle ones are closed, the one in use when it becomes idle" {
    three_connections manual
    trigger
    saw_drain manual
}

@test "automatic, drain: idle ones are closed, the one in use when it becomes idle" {
    three_connections automatic
    trigger
    saw_drain automatic
}

@test "deadline, drain: idle ones are closed, the one in use when it becomes idle" {
    three_connections deadline
    trigger
    saw_drain deadline
}

@test "reply, drain: idle ones are closed, the one in use when it becomes idle" {
    three_connections reply
    trigger
    saw_drain reply
}

@test "off, drain: nothing is closed, and nobody waits" {
    three_connections off
    trigger
    wait_drained marked 1
    saw_nothing
}

@test "manual, drain-all: all are closed" {
    three_connections manual WEIR_ACTION=drain-all
    trigger
    saw_drain_all
}

@test "automatic, drain-all: all are closed" {
    three_connections automatic WEIR_ACTION=drain-all
    trigger
    saw_drain_all
}

@test "deadline, drain-all: all are closed" {
    three_connections deadline WEIR_ACTION=drain-all
    trigger
    saw_drain_all
}

@test "reply, drain-all: all are closed" {
    three_connections reply WEIR_ACTION=drain-all
    trigger
    saw_drain_all
}

@test "off, drain-all: nothing is closed, and nobody waits" {
    three_connections off WEIR_ACTION=drain-all
    trigger
    wait_drained marked 1
    saw_nothing
}

@test "each listener has its own mode: IPv4, IPv6, AF_UNIX, and the default for the rest" {
    local off deadline manual rest path=$BATS_TEST_TMPDIR/manual.sock unix_to unix_from
    ADDRESSES=("$PORT" "127.0.0.1:$((PORT + 1))" "[::1]:$((PORT + 2))" "unix:$path"
        "127.0.0.1:$((PORT + 3))")
    local mode=reply,:$PORT=off,${ADDRESSES[1]}=deadline,${ADDRESSES[2]}=manual,unix:$path=manual
    start_marked WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms "WEIR_MODE=$mode"
    connect off "$PORT"
    connect deadline $((PORT + 1))
    connect manual $((PORT + 2)) ::1
    relay unix_to unix_from "$path"
    connect rest $((PORT + 3))

    # A read: in use by deadline and reply, not by manual.
    for pair in "$deadline 2" "$manual 3" "$unix_to 4" "$rest 5"; do
        # shellcheck disable=SC2086  # two words
        request $pair
    done
    pause 0.3
    expect 0 close_idle
    at_eof "$manual" 1
    at_eof "$unix_from" 1
    stays_open "$off" 1
    is_open "$deadline"
    is_open "$rest"

    # Each becomes idle in its own way, and the drain takes it.
    trigger
    pause 0.3
    not log_has marked 'drained in'
    response "$deadline" 2
    expect 0 rcvtimeo 2
    is_closed "$deadline" 2
    not log_has marked 'drained in'
    response "$rest" 5
    is_closed "$rest" 5
    wait_drained marked 1

    stays_open "$off" 1
    connect off "$PORT"
    stays_open "$off" 6
    not_served $((PORT + 1))
    not_served $((PORT + 3))
}

@test "reply over AF_UNIX: in use until it was answered, then closed" {
    local path=$BATS_TEST_TMPDIR/reply.sock to from idle_from line
    ADDRESSES=("unix:$path")
    start_marked WEIR_MODE=reply WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms
    relay to from "$path"
    relay _ idle_from "$path"
    request "$to" 1
    pause 0.3
    trigger
    at_eof "$idle_from" 1
    soon 'closed *' state 2
    is_open "$from"
    not log_has marked 'drained in'
    expect 5 write 1 pong
    read_line line "$from" 1
    [ "$line" = pong ]
    at_eof "$from" 1
    soon 'closed *' state 1
    wait_drained marked 1
}

@test "reply: an answer that stdio wrote, past every call that the shim sees, is an answer" {
    local line
    start_marked WEIR_MODE=reply WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms
    connect CLIENT
    request "$CLIENT" 1
    trigger
    pause 0.3
    is_open "$CLIENT"
    expect 5 print 1 pong
    read_line line "$CLIENT" 1
    [ "$line" = pong ]
    is_closed "$CLIENT" 1
    wait_drained marked 1
}

# first_byte TO FROM SILENT: a client that has just come is not closed before WEIR_FIRST_BYTE (1.5 s,
# or 12 on a busy machine) is over, and one that has sent nothing by then is.
first_byte() {
    local since line
    since=$(now_ms)
    trigger
    pause 0.7
    is_open "$2"
    is_open "$3"
    not log_has marked 'drained in'
    request "$1" 1
    expect 5 write 1 pong
    read_line line "$2" 1
    [ "$line" = pong ]
    at_eof "$3" 15
    [ $(($(now_ms) - since)) -ge 1000 ]
    at_eof "$2" 3
    wait_drained marked 1
}

@test "reply: who has not sent a byte is left alone for WEIR_FIRST_BYTE" {
    local talker silent
    start_marked WEIR_MODE=reply "WEIR_FIRST_BYTE=$((1500 * $(patience)))ms" WEIR_SETTLE=50ms
    connect talker
    connect silent
    first_byte "$talker" "$talker" "$silent"
}

@test "reply over AF_UNIX: who has not sent a byte is left alone for WEIR_FIRST_BYTE" {
    local path=$BATS_TEST_TMPDIR/reply.sock talker_to talker_from silent_from
    ADDRESSES=("unix:$path")
    start_marked WEIR_MODE=reply "WEIR_FIRST_BYTE=$((1500 * $(patience)))ms" WEIR_SETTLE=50ms
    relay talker_to talker_from "$path"
    relay _ silent_from "$path"
    first_byte "$talker_to" "$talker_from" "$silent_from"
}

@test "protocol over AF_UNIX: who has not sent a byte is left alone for WEIR_FIRST_BYTE, and not WEIR_NOTICE" {
    local path=$BATS_TEST_TMPDIR/protocol.sock talker_to talker_from silent_from notice
    ADDRESSES=("unix:$path")
    for notice in 0 30s; do
        start_marked WEIR_MODE=protocol "WEIR_FIRST_BYTE=$((1500 * $(patience)))ms" WEIR_SETTLE=50ms \
            "WEIR_NOTICE=$notice" WEIR_TIMEOUT=80s
        relay talker_to talker_from "$path"
        relay _ silent_from "$path"
        first_byte "$talker_to" "$talker_from" "$silent_from"
        another
        rm "$path"* "$BATS_TEST_TMPDIR/relay."*
        ADDRESSES=("unix:$path")
    done
}

# ---- those who come during a drain ----

# came_late MODE [VAR=value...]: one is in use, a drain is on, and one who waits in the accept queue
# since before is accepted only now.
came_late() {
    local mode=$1
    shift
    start_marked "WEIR_MODE=$mode" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms "$@"
    connect BUSY
    make_busy "$mode" "$BUSY" 1
    expect 0 pause
    conn_open LATE "$PORT"
    expect started drain
    expect pending drained 100
    expect 0 resume
}

@test "manual: who is accepted during a drain is closed at once" {
    came_late manual
    at_eof "$LATE" 1
    is_open "$BUSY"
}

@test "automatic: who is accepted during a drain is closed at once" {
    came_late automatic
    at_eof "$LATE" 1
    is_open "$BUSY"
}

@test "deadline: who is accepted during a drain is closed at once" {
    came_late deadline
    at_eof "$LATE" 1
    is_open "$BUSY"
}

@test "WEIR_LISTENERS=keep: who waits in the accept queue is left there, for a successor" {
    came_late manual WEIR_LISTENERS=keep
    pause 0.5
    is_open "$LATE"
    expect none state 2
    expect 0 idle 1
    expect '0 *' drained 1000
    is_closed "$BUSY" 1
    is_open "$LATE"
    expect none state 2
}

@test "reply: who waits in the accept queue when the drain begins is served first" {
    local line
    start_marked WEIR_MODE=reply WEIR_FIRST_BYTE=500ms WEIR_SETTLE=50ms
    expect 0 pause
    conn_open LATE "$PORT"
    conn_send "$LATE" 'ping\n'
    expect started drain
    expect pending drained 100
    expect 0 resume
    soon 'open 5' state 1
    expect 5 write 1 pong
    read_line line "$LATE" 1
    [ "$line" = pong ]
    is_closed "$LATE" 1
    expect '0 *' drained 2000
}

# ---- signals and what they ask for ----

@test "WEIR_ON_DRAINED=TERM ends the program when it is drained, not before" {
    local status=0
    start_marked WEIR_MODE=manual WEIR_ON_DRAINED=TERM
    connect CLIENT
    expect 0 in_use 1
    trigger
    pause 0.3
    alive "$SERVER_PID"
    expect 0 idle 1
    at_eof "$CLIENT" 1
    wait "$SERVER_PID" || status=$?
    [ "$status" = $((128 + 15)) ]
}

@test "WEIR_DOUBLE_SIGNAL: a second signal within this time asks for drain-all" {
    three_connections manual WEIR_DOUBLE_SIGNAL=2s WEIR_SIGNAL=RTMIN+4
    kill -RTMIN+4 "$SERVER_PID"
    is_closed "$SILENT" 1
    is_open "$BUSY"
    kill -RTMIN+4 "$SERVER_PID"
    saw_drain_all
}

@test "WEIR_DOUBLE_SIGNAL: two at once, which a realtime signal does not make one" {
    three_connections manual WEIR_DOUBLE_SIGNAL=2s WEIR_SIGNAL=RTMIN+4
    kill -RTMIN+4 "$SERVER_PID"
    kill -RTMIN+4 "$SERVER_PID"
    saw_drain_all
}

@test "WEIR_DOUBLE_SIGNAL: a second signal after this time asks for nothing more" {
    three_connections manual WEIR_DOUBLE_SIGNAL=300ms WEIR_SIGNAL=RTMIN+4
    kill -RTMIN+4 "$SERVER_PID"
    pause 0.6
    kill -RTMIN+4 "$SERVER_PID"
    saw_drain manual
}

@test "without WEIR_DOUBLE_SIGNAL a second signal asks for nothing more" {
    three_connections manual WEIR_SIGNAL=RTMIN+4
    kill -RTMIN+4 "$SERVER_PID"
    kill -RTMIN+4 "$SERVER_PID"
    saw_drain manual
}

@test "a signal with the value 1 asks for close-idle" {
    three_connections automatic WEIR_ACTION=drain-all
    queue_value USR2 1
    saw_close_idle
}

@test "a signal with the value 2 asks for drain" {
    three_connections automatic WEIR_ACTION=close-idle
    queue_value USR2 2
    saw_drain automatic
}

@test "a signal with the value 3 asks for drain-all" {
    three_connections automatic WEIR_ACTION=close-idle
    queue_value USR2 3
    saw_drain_all
}

@test "a signal with any other value does what WEIR_ACTION says" {
    three_connections automatic WEIR_ACTION=close-idle WEIR_SIGNAL=RTMIN+5
    queue_value RTMIN+5 0
    queue_value RTMIN+5 4
    queue_value RTMIN+5 1000003
    saw_close_idle
}

@test "close-idle may be followed by drain, and drain by drain-all" {
    three_connections automatic WEIR_SIGNAL=RTMIN+5
    queue_value RTMIN+5 1
    is_closed "$SILENT" 1
    is_closed "$RESTED" 3
    queue_value RTMIN+5 2
    pause 0.3
    is_open "$BUSY"
    not_served
    queue_value RTMIN+5 3
    is_closed "$BUSY" 2
    wait_drained marked 1
}

# ---- the C interface ----

@test "weir_counts tells what is tracked, idle, in use, and was accepted" {
    local other third
    start_marked WEIR_MODE=automatic
    expect '0 0 0 0' counts
    connect CLIENT
    connect other
    connect third
    expect '3 3 0 3' counts
    request "$CLIENT" 1
    expect '3 2 1 3' counts
    expect 0 in_use 2
    expect 0 in_use 2
    expect '3 1 2 3' counts
    expect 0 idle 1
    expect 0 idle 1
    expect '3 2 1 3' counts
    expect 0 disown 2
    expect '2 2 0 3' counts
    expect 0 close 1
    expect '1 1 0 3' counts
    conn_close "$third"
    soon 'closed *' state 3
    expect '0 0 0 3' counts
    stays_open "$other" 2
    expect 0 close 2
    expect '0 0 0 3' counts
    connect CLIENT
    expect '1 1 0 4' counts
}

@test "weir_drain returns at once when there is nothing to wait for" {
    start_marked WEIR_MODE=manual
    expect started drain
    expect '0 *' drained 1000
}

@test "weir_drain a second time waits for what is left too" {
    goji manual
    expect 0 in_use 1
    trigger
    expect started drain
    expect pending drained 300
    expect 0 idle 1
    expect '0 *' drained 1000
    expect started drain
    expect '0 *' drained 1000
}

@test "weir status: a program that has called weir_drain is draining, and then drained" {
    goji manual
    phase_is serving
    expect 0 in_use 1
    expect started drain
    wait_until 3 phase_is draining
    expect 0 idle 1
    expect '0 *' drained 1000
    wait_until 3 phase_is drained
}

# phase_is PHASE: as weir status tells it of marked.
phase_is() {
    "$ROOT/build/weir" status "$SERVER_PID" --json | grep -F "\"phase\": \"$1\""
}

@test "weir_drain gives ETIMEDOUT when WEIR_TIMEOUT forced a connection, which is cut" {
    start_marked WEIR_MODE=manual WEIR_TIMEOUT=1s
    connect CLIENT
    expect 0 in_use 1
    expect started drain
    expect pending drained 800
    is_open "$CLIENT"
    expect '-1 ETIMEDOUT *' drained 2000
    [ "${ANSWER##* }" -ge 1000 ]
    within "${ANSWER##* }" 2000
    soon 'closed *' state 1
    log_has marked "^weir\[$SERVER_PID\] marked: forced 127\.0\.0\.1:[0-9]+: in use "
    log_has marked "^weir\[$SERVER_PID\] marked: drained in .*1 forced"
}

@test "from half of WEIR_TIMEOUT on a connection in use is named in the log" {
    start_marked WEIR_MODE=manual WEIR_TIMEOUT=2s
    connect CLIENT
    expect 0 in_use 1
    trigger
    pause 0.5
    not log_has marked '127\.0\.0\.1'
    wait_until 1.3 log_has marked '127\.0\.0\.1:[0-9]+(: in use 1s| for 1s)'
    is_open "$CLIENT"
}

@test "WEIR_TIMEOUT=0 waits for ever" {
    start_marked WEIR_MODE=manual WEIR_TIMEOUT=0
    connect CLIENT
    expect 0 in_use 1
    expect started drain
    expect pending drained 3000
    stays_open "$CLIENT" 1
    expect 0 idle 1
    expect '0 *' drained 1000
}

@test "two descriptors of a connection are one connection, gone with the last of them" {
    goji manual
    expect '[0-9]*' dup 1
    local copy=fd:$ANSWER
    expect '1 1 0 1' counts
    expect 0 in_use "$copy"
    expect '1 0 1 1' counts
    expect 0 idle 1
    expect '1 1 0 1' counts
    expect 0 in_use 1
    expect 0 close 1
    expect '1 0 1 1' counts
    is_open "$CLIENT"
    expect started drain
    expect pending drained 300
    expect 0 close_dup 1
    expect '0 *' drained 1000
    at_eof "$CLIENT" 1
    expect '0 0 0 1' counts
}

@test "a connection disowned by one descriptor is disowned by the other" {
    goji manual
    expect '[0-9]*' dup 1
    expect 0 disown "fd:$ANSWER"
    expect '-1 EALREADY' disown 1
    expect started drain
    expect '0 *' drained 1000
    stays_open "$CLIENT" 1
}

@test "a connection that the program holds after its end is waited for" {
    goji manual
    expect 0 hold 1
    expect started drain
    soon 'ended *' state 1
    expect pending drained 300
    expect 0 close 1
    expect '0 *' drained 1000
    at_eof "$CLIENT" 1
}

@test "the program runs the same without the shim" {
    local status=0
    with_marked serve_bare WEIR_MODE=manual
    connect CLIENT
    stays_open "$CLIENT" 1
    for command in 'in_use 1' 'idle 1' 'disown 1' close_idle drain drain_all counts; do
        expect 'no shim' "$command"
    done
    stays_open "$CLIENT" 1
    expect 0 close 1
    at_eof "$CLIENT" 1
    trigger
    wait "$SERVER_PID" || status=$?
    [ "$status" = $((128 + 12)) ]
}
