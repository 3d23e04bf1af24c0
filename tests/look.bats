#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# How weir(1) looks to people: its tables, what a tree is named by, colour, rates, the bar of a drain,
# and what it says of a word that was mistyped.
# mutant: shim/command/table.c: s/isatty\(STDOUT_FILENO\) && //
# seconds: 15
# shellcheck disable=SC2001,SC2013,SC2030,SC2031,SC2034,SC2154

load helpers
load command

setup() {
    port=$((26000 + 10 * BATS_TEST_NUMBER))
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    mkdir "$WEIR_RUN_DIR"
    unset NO_COLOR
    export TERM=xterm
}

mounted=()

teardown() {
    [ ${#mounted[@]} = 0 ] || umount "${mounted[@]}"
    end_started
}

# start PORT: a server, as SERVER_PID, that is no service of any systemd.
start() {
    serve server -- "$PROGRAMS/oldhttpd" "$1"
    wait_port "$1"
    is_of "$SERVER_PID" /
}

# is_of PID CONTROL-GROUP: as systemd would have put it there (cgroups(7)).
is_of() {
    as_root
    printf '1:name=systemd:%s\n0::%s\n' "$2" "$2" >"$BATS_TEST_TMPDIR/cgroup.$1"
    mount --bind "$BATS_TEST_TMPDIR/cgroup.$1" "/proc/$1/cgroup"
    mounted+=("/proc/$1/cgroup")
}

# asks VAR MS: a client whose request takes so long.
asks() {
    conn_open "$1" "$port"
    conn_send "${!1}" "GET /slow?ms=$2 HTTP/1.1\r\nHost: a\r\n\r\n"
}

# rests VAR: one that has been answered.
rests() {
    local answer
    asks "$1" 0
    read_line answer "${!1}" 5
}

counts_in_use() {
    weir status "$SERVER_PID" --json
    has "$said" "\"in_use\": $1}"
}

# line REGEX: a line of what was said is that, spaces taken together.
line() {
    grep -qxE -- "$1" <<<"$(tr -s ' ' <<<"$said" | sed 's/^ //')"
}

# ---- tables ----

@test "status without a PID is a table of trees, list says since when they run and where they listen" {
    local busy
    start "$port"
    asks busy 60000
    wait_until 5 counts_in_use 1
    exits 0 status
    line 'PID NAME LISTENERS MODE PHASE IDLE IN USE OLDEST LEFT'
    line "$SERVER_PID oldhttpd 127.0.0.1:$port reply serving 0 1 [0-9.]+s -"
    exits 0 list
    line 'PID PROGRAM PHASE TRACKED IDLE IN USE AGE UNIT LISTENERS'
    line "$SERVER_PID oldhttpd serving 1 0 1 [0-9.]+s - 127.0.0.1:$port"
    exits 0 drain "$SERVER_PID" --timeout 30s
    exits 0 status
    line "$SERVER_PID oldhttpd 127.0.0.1:$port reply draining 0 1 [0-9.]+s [12][0-9.]+s"
}

@test "the age of a tree is that of its first process" {
    start "$port"
    pause 1.2
    exits 0 list
    age=$(sed -n "s/^$SERVER_PID .* \([0-9.]*\)s .*/\1/p" <<<"$said")
    ticks=$(cut -d ' ' -f 22 "/proc/$SERVER_PID/stat")
    /usr/bin/python3 -c 'import sys, time
age, began = float(sys.argv[1]), int(sys.argv[2]) / 100
assert 1.1 <= age <= time.clock_gettime(time.CLOCK_BOOTTIME) - began' "$age" "$ticks"
}

@test "more addresses than a line has room for are counted" {
    serve server -- /usr/bin/python3 -c 'import socket, sys, time
kept = [socket.create_server(("127.0.0.1", int(sys.argv[1]) + i)) for i in range(6)]
kept[0].accept()' "$port"
    wait_port $((port + 5))
    exits 0 list
    grep -Eq " 127.0.0.1:$port,127.0.0.1:$((port + 1)),\+4$" <<<"$said"
}

@test "with a PID there are the details, and what is 0 is left out" {
    local busy other
    start "$port"
    exits 0 status "$SERVER_PID"
    has "$said" "oldhttpd, pid $SERVER_PID: serving"
    line 'connections 0'
    lacks "$said" 'so far'
    lacks "$said" losses
    lacks "$said" ' unit '
    asks busy 60000
    rests other
    wait_until 5 counts_in_use 1
    exits 0 status "$SERVER_PID"
    line 'connections 2: 1 idle, 1 in use'
    line 'so far 2 accepted'
    line "127.0.0.1:$port reply accepting"
    line "$SERVER_PID 2 1 1"
    lacks "$said" losses
    exits 3 drain-all "$SERVER_PID" --wait
    exits 0 status "$SERVER_PID"
    # One that has just been answered may have to be cut as well.
    line 'so far 2 accepted,( 1 closed idle,)? [12] forced'
    line 'losses [12] forced in use'
    line "127.0.0.1:$port reply stopped"
}

@test "of more than ten connections in use the oldest ten are shown, and the others counted" {
    local -a clients
    local client
    start "$port"
    for client in 0 1 2 3 4 5 6 7 8 9 10 11; do
        asks "clients[$client]" 60000
    done
    wait_until 5 counts_in_use 12
    exits 0 status "$SERVER_PID"
    [ "$(grep -cE " $SERVER_PID +127\.0\.0\.1:[0-9]+$" <<<"$said")" = 10 ]
    line 'and 2 more'
}

@test "a time is told in seconds, from two minutes on in minutes, from two hours on in hours" {
    local busy timeout pattern
    for pair in '119s 11[89]\.[0-9]s' '3m 2m 5[0-9]s' '3h 2h 59m'; do
        timeout=${pair%% *} pattern=${pair#* }
        start "$port"
        asks busy 60000
        wait_until 5 counts_in_use 1
        exits 0 drain "$SERVER_PID" --timeout "$timeout"
        exits 0 status
        line "$SERVER_PID oldhttpd 127.0.0.1:$port reply draining 0 1 [0-9.]+s $pattern"
        port=$((port + 1))
    done
}

# ---- names ----

@test "a tree is named by its program, where that is one alone" {
    start "$port"
    exits 0 status oldhttpd --json
    has "$said" "\"pid\": $SERVER_PID,"
    exits 0 list oldhttpd
    exits 0 close-idle oldhttpd
    first=$SERVER_PID
    start $((port + 1))
    for command in status drain close-idle drain-all restart; do
        exits 2 "$command" oldhttpd
        has "$complained" "2 trees are \"oldhttpd\""
        has "$complained" "$first"
        has "$complained" "$SERVER_PID"
        [ -z "$said" ]
    done
    exits 0 drain "$first" --wait
    exits 0 status "$SERVER_PID"
    has "$said" serving
    kill -KILL "$first"
    wait_gone "$first"
    exits 0 drain oldhttpd --wait
    has "$said" "pid $SERVER_PID: drained"
}

@test "a tree is named by its systemd unit, also where its program has several" {
    start "$port"
    first=$SERVER_PID
    start $((port + 1))
    second=$SERVER_PID
    umount "${mounted[@]}"
    mounted=()
    is_of "$first" /system.slice/first.service/payload
    is_of "$second" /user.slice/user-1.slice/user@1.service/app.slice/second.service
    exits 0 status
    line "$first first.service 127.0.0.1:$port reply serving 0 0 - -"
    exits 0 list
    line "$second oldhttpd serving 0 0 0 [0-9.]+s second.service 127.0.0.1:$((port + 1))"
    exits 0 status first.service
    has "$said" "oldhttpd, pid $first: serving"
    has "$said" 'unit first.service'
    exits 0 drain second --wait
    has "$said" "pid $second: drained"
    exits 2 drain oldhttpd
    has "$complained" "$first first.service, $second second.service"
    exits 0 drain first.service
    wait_until 5 log_has server 'drained in'
}

@test "what is in a scope is of no service: a session is not its user's manager" {
    start "$port"
    umount "${mounted[@]}"
    mounted=()
    is_of "$SERVER_PID" /user.slice/user-1.slice/user@1.service/session.scope
    exits 0 list
    line "$SERVER_PID oldhttpd serving 0 0 0 [0-9.]+s - 127.0.0.1:$port"
    exits 4 status user@1.service
}

@test "a name that no tree has is refused, and says where the names are" {
    start "$port"
    for command in status list drain close-idle drain-all restart; do
        exits 2 "$command" oldhttp
        has "$complained" '"oldhttp" is not a process'"'"'s number, nor the unit or the program of a tree'
        has "$complained" 'weir list'
        exits 4 "$command" oldhttpd.service
        has "$complained" 'oldhttpd.service: no tree of this unit runs under the shim'
        exits 2 "$command" ''
        has "$complained" '"" is not a process'
    done
}

# ---- colour ----

# typed ARGUMENT...: to its end, on a terminal; what it printed is in $said.
typed() {
    typed_begins "$@"
    wait_gone "$SCRIPT_PID" 20
    said=$(grep -v '^Script ' "$saying" | tr -d '\r')
}

@test "colour: on a terminal only, and never with NO_COLOR" {
    local busy
    start "$port"
    asks busy 60000
    wait_until 5 counts_in_use 1
    typed status
    has "$said" $'\033[32mserving\033[0m'
    typed status "$SERVER_PID"
    has "$said" $': \033[32mserving\033[0m'
    has "$said" $'\033[32maccepting\033[0m'
    exits 0 drain "$SERVER_PID"
    typed list
    has "$said" $'\033[33mdraining\033[0m'
    NO_COLOR=1 typed list
    has "$said" draining
    lacks "$said" $'\033'
    TERM=dumb typed list
    has "$said" draining
    lacks "$said" $'\033'
    NO_COLOR='' typed list # no-color.org: when it is not empty
    has "$said" $'\033[33mdraining\033[0m'
    for command in status list "status $SERVER_PID"; do
        # shellcheck disable=SC2086  # words
        exits 0 $command
        lacks "$said" $'\033'
    done
    exits 3 drain-all "$SERVER_PID" --wait
    lacks "$said" $'\033'
    typed drain "$SERVER_PID" --wait
    has "$said" $'\033[31m1 forced, 1 of them in use\033[0m'
    typed status "$SERVER_PID"
    has "$said" $'\033[31m1 forced\033[0m'
    has "$said" $'\033[31m1 forced in use\033[0m'
}

@test "a column is as wide in colour as it is without" {
    start "$port"
    typed status
    has "$said" $'\033'
    plain=$(sed $'s/\033\\[[0-9]*m//g' <<<"$said")
    exits 0 status
    [ "$plain" = "$said" ]
}

# ---- rates, and the bar ----

@test "status --watch tells what was accepted and closed in a second" {
    start "$port"
    weir_begins status oldhttpd --watch
    wait_until 10 says '^  a second +0\.0 accepted, 0\.0 closed$'
    come_and_go() {
        local client
        rests client
        conn_close "$client"
        says '^  a second +([1-9]|0\.[1-9]).* accepted, ([1-9]|0\.[1-9]).* closed$'
    }
    wait_until 20 come_and_go
    kill -INT "$WEIR_PID"
    wait_gone "$WEIR_PID" 5
    weir_begins status --watch
    wait_until 10 says 'LEFT  ACCEPTED/s  CLOSED/s$' 2
    wait_until 5 says "^$SERVER_PID .* [0-9]+\.[0-9] +[0-9]+\.[0-9]$"
}

@test "drain --wait draws a bar of what is closed, as wide as the terminal has room for" {
    local busy other third drawn closed open
    start "$port"
    asks busy 60000
    rests other
    rests third
    wait_until 5 counts_in_use 1
    typed_begins drain "$SERVER_PID" --wait
    wait_until 10 says $'draining\033\\[0m \\[#+-+\\] 2 of 3 closed, [0-9.]+s left'
    kill -INT "$WEIR_PID"
    wait_gone "$SCRIPT_PID" 5
    drawn=$(tr '\r' '\n' <"$saying" | grep ' 2 of 3 closed' | tail -n 1 | sed $'s/\033\\[[0-9]*[mK]//g')
    echo "$drawn"
    [ "${#drawn}" = 79 ]
    closed=${drawn//[^#]/} open=${drawn//[^-]/}
    [ ${#closed} = $(((${#closed} + ${#open}) * 2 / 3)) ]
}

@test "drain --wait draws no bar where the terminal has no room for one" {
    local busy
    start "$port"
    asks busy 60000
    wait_until 5 counts_in_use 1
    saying=$BATS_TEST_TMPDIR/saying
    become script -qfec "stty cols 50; exec $ROOT/build/weir drain $SERVER_PID --wait" "$saying" \
        </dev/null >/dev/null 2>&1 &
    also_end $!
    wait_until 10 says $'draining\033\\[0m 0 of 1 closed, [0-9.]+s left'
    not says '\[[#-]'
}

# ---- mistakes ----

@test "did you mean: a command, an option" {
    for pair in stauts:status drian:drain lst:list restrat:restart chekc:check close-idel:close-idle; do
        exits 2 "${pair%:*}"
        has "$complained" "\"${pair%:*}\" is not a command, did you mean ${pair#*:}?"
    done
    exits 2 drain --wiat 1
    has "$complained" "unrecognized option '--wiat', did you mean --wait? (see: weir drain --help)"
    exits 2 drain --tiemout=3s 1
    has "$complained" "did you mean --timeout?"
    exits 2 run --stop-signal=TERM --tineout 5s true
    has "$complained" "did you mean --timeout?"
    # What is near nothing.
    exits 2 flush
    lacks "$complained" 'did you mean'
    exits 2 status --xml
    lacks "$complained" 'did you mean'
    exits 2 "$(printf '%0500d' 0)"
    lacks "$complained" 'did you mean'
}

@test "each help begins with its usage, and ends with two examples, of options that it has" {
    local command option
    for command in '' run drain close-idle drain-all restart status list check; do
        # shellcheck disable=SC2086  # none, or a word
        exits 0 $command --help
        [[ $said == "Usage: weir ${command:-COMMAND}"* ]]
        lacks "$said" 'usage:'
        tail -n 3 <<<"$said" | sed 's/ -- .*//' >"$BATS_TEST_TMPDIR/examples"
        [ "$(head -n 1 "$BATS_TEST_TMPDIR/examples")" = Examples: ]
        [ "$(grep -c "^  weir ${command:-[a-z]}" "$BATS_TEST_TMPDIR/examples")" = 2 ]
        for option in $(grep -oE -- '--[a-z][a-z-]*' "$BATS_TEST_TMPDIR/examples"); do
            [ -z "$command" ] || has "${said%Examples:*}" "$option"
        done
    done
}
