#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The environment: what each variable accepts, what is said once and done (nothing) when it doesn't,
# where the log goes, and what a child sees.
# mutant: shim/base/settings.c: s/ \|\| \(value\[n\] == ',' && !value\[n \+ 1\]\)//
# seconds: 63
# shellcheck disable=SC2153  # ANSWER is set by marked.bash

load helpers
load marked

# shim_lines [LOG]: what the shim said.
shim_lines() {
    log "${1:-marked}" | grep -a '^weir' || true
}

# killed_by PID SIGNAL: it ends by that signal, soon.
killed_by() {
    local status=0
    wait_gone "$1" 3
    wait "$1" || status=$?
    [ "$status" = $((128 + $2)) ]
}

# stands_aside: the program serves, and the trigger has the effect that it has without the shim.
stands_aside() {
    connect CLIENT
    stays_open "$CLIENT" 1
    kill -USR2 "$SERVER_PID"
    killed_by "$SERVER_PID" 12
}

# refuses VARIABLE WHAT VALUE...: each is refused in one line that names the variable and the value,
# and what is accepted (as a regular expression); and the shim stands aside.
refuses() {
    local variable=$1 accepted=$2 value lines
    shift 2
    for value in "$@"; do
        start_marked "$variable=$value"
        stands_aside
        lines=$(<"$BATS_TEST_TMPDIR/marked.log")
        if [[ $lines == *$'\n'* ]] || [[ $lines != "weir["*"] marked: $variable: \"$value\" "* ]] ||
            ! [[ ${lines#*"\"$value\""} =~ $accepted ]]; then
            echo "$variable=$value was answered with: $lines" >&2
            return 1
        fi
        another
    done
}

# accepts VARIABLE VALUE...: the shim is ready, and drains on its signal.
accepts() {
    local variable=$1 value
    shift
    for value in "$@"; do
        start_marked "$variable=$value"
        kill -USR2 "$SERVER_PID"
        wait_drained marked 3 || { echo "$variable=$value" >&2; return 1; }
        only_events || { echo "$variable=$value" >&2; return 1; }
        another
    done
}

# Nothing but the lines of a start and a drain.
only_events() {
    local lines line
    mapfile -t lines <"$BATS_TEST_TMPDIR/marked.log"
    for line in "${lines[@]}"; do
        [[ $line =~ ^weir\[[0-9]+\]\ marked:\ (ready|draining|drained) ]] || { echo "$line" >&2; return 1; }
    done
}

# shellcheck disable=SC2054  # a comma that is meant
NO_DURATIONS=(3x -1 s ms '5 s' ' 5' 1d 10sec 0x10 5mm 5s5 +5 99999999999999999999
    9999999999999999h 1,5)
DURATIONS=(250ms 30s 5m 1h 7 0)

# ---- what can't be parsed ----

@test "WEIR_MODE: what is no mode, and no list of them, is refused" {
    refuses WEIR_MODE 'manual.*automatic.*deadline.*reply.*off' \
        bogus Reply repl replyx reply, reply,:9090 reply,:9090=bogus reply,:9090= :99999=off \
        reply,:x=off reply,127.0.0.300:80=off reply,host.invalid:80=off 'reply,[::1:80=off' \
        'reply,[::g]:80=off' reply,unix=off reply:80
}

@test "WEIR_SIGNAL: what is no signal, or can't be caught, is refused" {
    refuses WEIR_SIGNAL 'USR2' FOO SIGFOO SIG 0 -1 65 1000 12x RTMIN+99 RTMAX+1 RTMIN-1 RTMIN+ \
        KILL 9 STOP SIGSTOP 32 USR2,TERM
}

@test "WEIR_ACTION: what is no action is refused" {
    refuses WEIR_ACTION 'close-idle.*drain.*drain-all' stop DRAIN drain_all drain- drain,close-idle
}

@test "WEIR_DOUBLE_SIGNAL: what is no duration is refused" {
    refuses WEIR_DOUBLE_SIGNAL '250ms|30s' "${NO_DURATIONS[@]}"
}

@test "WEIR_TIMEOUT: what is no duration is refused" {
    refuses WEIR_TIMEOUT '250ms|30s' "${NO_DURATIONS[@]}"
}

@test "WEIR_SETTLE: what is no duration is refused" {
    refuses WEIR_SETTLE '250ms|30s' "${NO_DURATIONS[@]}"
}

@test "WEIR_FIRST_BYTE: what is no duration is refused" {
    refuses WEIR_FIRST_BYTE '250ms|30s' "${NO_DURATIONS[@]}"
}

@test "WEIR_STOP_SIGNALS: a list with something that is no signal is refused" {
    refuses WEIR_STOP_SIGNALS 'TERM' FOO TERM,FOO 'TERM;INT' TERM,,INT TERM, KILL TERM,STOP TERM,99
}

@test "WEIR_STOP_SIGNALS: the signal that triggers can't be among them" {
    refuses WEIR_STOP_SIGNALS WEIR_SIGNAL USR2
    start_marked WEIR_STOP_SIGNALS=USR2 WEIR_SIGNAL=none
    log_has marked ': ready: '
}

@test "WEIR_LISTENERS: what is not close, keep or auto is refused" {
    refuses WEIR_LISTENERS 'close.*keep.*auto|auto.*close.*keep' open Keep keep,close closed
}

@test "WEIR_ON_DRAINED: what is not none or a signal is refused" {
    refuses WEIR_ON_DRAINED 'none' exit FOO 65 TERM,INT nonee
}

@test "WEIR_CHILDREN: what is not follow or leave is refused" {
    refuses WEIR_CHILDREN 'follow.*leave' yes Follow 1 leaves
}

@test "WEIR_LOG_LEVEL: what is not error, info or debug is refused" {
    refuses WEIR_LOG_LEVEL 'error.*info.*debug' verbose INFO warning 3
}

@test "WEIR_LOG: a bare word that is none of its own, and a path without end, are refused" {
    refuses WEIR_LOG 'auto.*stderr.*syslog.*none.*file' sterr None log
    local path
    printf -v path '/%0300d' 0
    start_marked "WEIR_LOG=$path"
    stands_aside
    [ "$(log marked | wc -l)" = 1 ]
    log_has marked '] marked: WEIR_LOG: "/0000'
}

@test "WEIR_NOTICE: what is no duration is refused" {
    refuses WEIR_NOTICE '250ms, 30s, 5m, 0' 5x -1 none 1.5s
}

@test "a refused value costs one line in a whole tree of processes" {
    # shellcheck disable=SC2016  # expanded by that shell
    serve tree WEIR_TIMEOUT=3x -- sh -c '"$0"; "$0" & "$0" & wait; (sh -c "\"\$0\"; true" "$0")
        ls / >/dev/null; echo that was all' "$PROGRAMS/marked"
    wait_until 10 log_has tree '^that was all$'
    [ "$(log tree | grep -c '^usage: marked')" = 4 ]
    [ "$(shim_lines tree | wc -l)" = 1 ]
    [[ $(shim_lines tree) == "weir[$SERVER_PID] sh: WEIR_TIMEOUT: \"3x\" "* ]]
}

@test "a refused value costs one line although the server is a daemon's grandchild" {
    # shellcheck disable=SC2016  # expanded by that shell
    serve tree WEIR_MODE=bogus -- sh -c '(setsid "$0" 2>&1 &) ; sleep 0.3; echo that was all' \
        "$PROGRAMS/marked"
    wait_until 10 log_has tree '^that was all$'
    log_has tree '^usage: marked'
    [ "$(shim_lines tree | wc -l)" = 1 ]
}

@test "each tree of processes says it for itself" {
    serve first WEIR_TIMEOUT=3x -- true
    serve second WEIR_TIMEOUT=3x -- true
    wait_until 3 log_has first 'WEIR_TIMEOUT: "3x"'
    wait_until 3 log_has second 'WEIR_TIMEOUT: "3x"'
}

@test "two refused values: the shim stands aside and names the first at least" {
    start_marked WEIR_TIMEOUT=3x WEIR_ACTION=stop
    stands_aside
    log_has marked '"(3x|stop)"'
}

@test "a value with control characters, quotes or UTF-8 is one line that they can't shape" {
    local value lines
    for value in $'3\nweir[1] sh: forged' $'3\e[31mred\e[0m' $'3\r\t\b\x7f' $'3\xff\xfe' \
        $'3\xc2\x9b31m' $'3"x"\\'; do
        start_marked "WEIR_TIMEOUT=$value"
        stands_aside
        lines=$(log marked)
        [ "$(wc -l <<<"$lines")" = 1 ]
        [[ $lines == *"] marked: WEIR_TIMEOUT: \"3"*"30s"* ]]
        not grep -aq '[^ -~]' <<<"$lines"
        another
    done
}

@test "a value of ten thousand characters is cut to a line that still says what is accepted" {
    local value lines
    printf -v value '%010000d' 0
    for variable in WEIR_TIMEOUT WEIR_MODE WEIR_STOP_SIGNALS WEIR_ACTION; do
        start_marked "$variable=x${value//0/y}"
        stands_aside
        lines=$(log marked)
        [ "$(wc -l <<<"$lines")" = 1 ]
        [[ $lines == *"] marked: $variable: \"xyyyy"*[a-z]* ]]
        [ ${#lines} -lt 1000 ]
        grep -Eq '30s|manual|TERM|close-idle' <<<"$lines"
        another
    done
}

# start_marked_by COMMAND [VAR=value...]: started by a line of shell, where "$marked" "$@" is it.
start_marked_by() {
    mkdir -p "$BATS_TEST_TMPDIR/programs"
    printf '#!/bin/sh\nmarked="%s"\n%s\n' "$PROGRAMS/marked" "$1" \
        >"$BATS_TEST_TMPDIR/programs/marked"
    chmod +x "$BATS_TEST_TMPDIR/programs/marked"
    PROGRAMS=$BATS_TEST_TMPDIR/programs start_marked "${@:2}"
}

@test "an unknown WEIR_ name is one warning in the whole tree, and the shim works" {
    # shellcheck disable=SC2016  # expanded by that shell
    start_marked_by 'true; ls / >/dev/null; env true & wait
        "$marked" "$@" & echo "marked is $!"; wait' WEIR_FOO=bar WEIR_TIME_OUT=3s
    also_end "$(marked_pid)"
    connect CLIENT
    kill -USR2 "$(marked_pid)"
    at_eof "$CLIENT" 3
    alive "$(marked_pid)"
    [ "$(shim_lines | grep -c WEIR_FOO)" = 1 ]
    [ "$(shim_lines | grep -c WEIR_TIME_OUT)" = 1 ]
}

marked_pid() {
    log marked | sed -n 's/^marked is //p'
}

# ---- what is accepted ----

@test "without any variable: mode protocol, drain on USR2, 25 seconds" {
    unset WEIR_MODE
    start_marked
    wait_until 3 log_has marked \
        "^weir\[$SERVER_PID\] marked: ready: mode protocol, drain on USR2, timeout 25s"
    [ "$(log marked | wc -l)" = 1 ]
    kill -USR2 "$SERVER_PID"
    wait_drained marked 3
    log_has marked ": draining: SIGUSR2 from pid $BASHPID uid $(id -u); 0 idle, 0 in use"
}

@test "WEIR_MODE accepts the modes and lists of them" {
    accepts WEIR_MODE manual automatic deadline reply protocol http off reply,:9090=off :9090=off \
        manual,127.0.0.1:8080=deadline,:9090=off 'reply,[::1]:80=automatic' 'off,[::]:80=reply' \
        reply,unix:/run/x.sock=manual \
        'reply,:9090=off,127.0.0.1:8080=deadline,[::1]:80=reply,unix:/run/x.sock=manual' \
        'protocol,:9090=http,[::1]:80=protocol'
}

@test "http is the older name of mode protocol" {
    start_marked WEIR_MODE=http
    wait_until 3 log_has marked "ready: mode protocol,"
}

@test "durations are accepted in every form" {
    for variable in WEIR_DOUBLE_SIGNAL WEIR_TIMEOUT WEIR_SETTLE WEIR_FIRST_BYTE; do
        accepts "$variable" "${DURATIONS[@]}"
    done
}

@test "WEIR_TIMEOUT is told in the unit that it was given in, or one that says the same" {
    start_marked WEIR_TIMEOUT=1500ms
    wait_until 3 log_has marked 'ready: .*timeout 1(500ms|\.5s)'
}

@test "each action, listener policy, end, child policy and log level is accepted" {
    accepts WEIR_ACTION drain drain-all
    accepts WEIR_LISTENERS close keep auto
    start_marked WEIR_LISTENERS=store # which has a word about who is not there to keep them
    kill -USR2 "$SERVER_PID"
    wait_drained marked 3
    log_has marked 'not stored for the next start: no service manager has said where it listens'
    another
    accepts WEIR_ON_DRAINED none WINCH SIGWINCH 28
    accepts WEIR_CHILDREN follow leave
    accepts WEIR_LOG_LEVEL info
    accepts WEIR_STOP_SIGNALS '' TERM TERM,INT SIGTERM,2
}

@test "WEIR_SIGNAL: by name, by number, counted from RTMIN and RTMAX" {
    local signal
    for signal in USR2 SIGUSR2 12 RTMIN+3 SIGRTMIN+3 RTMAX-1 RTMIN RTMAX USR1 HUP; do
        start_marked "WEIR_SIGNAL=$signal"
        kill -"$signal" "$SERVER_PID"
        wait_drained marked 3 || { echo "$signal" >&2; return 1; }
        only_events
        another
    done
}

@test "WEIR_SIGNAL: when it is another, SIGUSR2 is the program's" {
    start_marked WEIR_SIGNAL=RTMIN+3
    log_has marked ': ready: .*drain on RTMIN\+3'
    stands_aside
}

@test "WEIR_SIGNAL=none: no signal triggers" {
    start_marked WEIR_SIGNAL=none
    log_has marked ': ready: '
    stands_aside
    only_events
}

# ---- the log ----

@test "WEIR_LOG=FILE: the log is added to that file, stderr stays clean" {
    local file=$BATS_TEST_TMPDIR/weir.log
    echo "what was there before" >"$file"
    start_marked "WEIR_LOG=$file"
    kill -USR2 "$SERVER_PID"
    wait_until 3 grep -q "^weir\[$SERVER_PID\] marked: drained" "$file"
    [ "$(head -n 1 "$file")" = "what was there before" ]
    grep -q "^weir\[$SERVER_PID\] marked: ready" "$file"
    [ -z "$(log marked)" ]
}

@test "WEIR_LOG=FILE: a file that can't be opened costs one line, and the program serves" {
    start_marked "WEIR_LOG=$BATS_TEST_TMPDIR/not/there"
    connect CLIENT
    stays_open "$CLIENT" 1
    [ "$(shim_lines | grep -c 'WEIR_LOG: ')" = 1 ]
}

@test "WEIR_LOG=none: not a word, and it drains" {
    start_marked WEIR_LOG=none
    connect CLIENT
    expect 0 close_idle
    expect started drain
    expect '0 *' drained 5000
    at_eof "$CLIENT" 1
    kill -USR2 "$SERVER_PID"
    pause 0.3
    alive "$SERVER_PID"
    [ -z "$(log marked)" ]
}

@test "WEIR_LOG=none: not a word about a refused value either, and the shim stands aside" {
    start_marked WEIR_LOG=none WEIR_TIMEOUT=3x
    stands_aside
    [ "$(log marked | wc -l)" -le 1 ]
}

@test "WEIR_LOG=stderr and auto: to stderr, where that is a file" {
    for where in stderr auto; do
        start_marked "WEIR_LOG=$where"
        kill -USR2 "$SERVER_PID"
        wait_drained marked 3
        log_has marked "^weir\[$SERVER_PID\] marked: ready"
        only_events
        another
    done
}

# drains_in_silence: the client gets what the program sends him and then the end, nothing else.
drains_in_silence() {
    kill -USR2 "$SERVER_PID"
    at_eof "$CLIENT" 3
    soon 'closed *' state 1
    expect started drain
    expect '0 *' drained 3000
}

# traced REDIRECTION: what marked under strace (its child, so that the pid is marked's) writes.
traced() {
    # shellcheck disable=SC2016  # expanded by that shell
    echo 'exec strace -D -f -qq -s 200 -e trace=write,sendto -o' \
        "$BATS_TEST_TMPDIR/trace" '"$marked" "$@"' "$1"
}

@test "WEIR_LOG=auto: what would go to /dev/null goes to the system log" {
    start_marked_by "$(traced '2>/dev/null')" WEIR_MODE=manual
    connect CLIENT
    drains_in_silence
    grep -q 'sendto(.*<[0-9]*>weir\[.* marked: ready: .*/dev/log' "$BATS_TEST_TMPDIR/trace"
    wait_until 5 grep -q 'sendto(.*<[0-9]*>weir\[.* marked: drained in .*/dev/log' "$BATS_TEST_TMPDIR/trace"
    not grep -q 'write(.*weir\[' "$BATS_TEST_TMPDIR/trace"
}

@test "WEIR_LOG=syslog: to the system log although stderr is a file" {
    start_marked_by "$(traced '')" WEIR_MODE=manual WEIR_LOG=syslog
    connect CLIENT
    drains_in_silence
    wait_until 5 grep -q 'sendto(.*<[0-9]*>weir\[.* marked: drained in .*/dev/log' "$BATS_TEST_TMPDIR/trace"
    [ -z "$(log marked)" ]
}

@test "WEIR_LOG=auto: a stderr that is closed at the start may be anyone's later" {
    for where in auto stderr; do
        ADDRESSES=("127.0.0.1:$((PORT + 20))" "${ADDRESSES[@]}")
        # shellcheck disable=SC2016  # expanded by that shell
        start_marked_by 'exec "$marked" "$@" 2>&-' WEIR_MODE=manual WEIR_LOG_LEVEL=debug \
            "WEIR_LOG=$where"
        expect 0 close fd:2 # the first listener
        connect CLIENT
        [[ $(readlink "/proc/$SERVER_PID/fd/2") == socket:* ]]
        drains_in_silence
        another
    done
}

@test "a stderr that the program closed is a client's: no line of the log reaches him" {
    for where in auto stderr; do
        start_marked WEIR_MODE=manual WEIR_LOG_LEVEL=debug "WEIR_LOG=$where"
        expect 0 close fd:2
        connect CLIENT
        [[ $(readlink "/proc/$SERVER_PID/fd/2") == socket:* ]]
        drains_in_silence
        another
    done
}

@test "WEIR_LOG_LEVEL=error: a drain that loses nothing says nothing" {
    start_marked WEIR_MODE=manual WEIR_LOG_LEVEL=error
    kill -USR2 "$SERVER_PID"
    expect started drain
    expect '0 *' drained 3000
    [ -z "$(log marked)" ]
}

@test "WEIR_LOG_LEVEL=debug says what info says, and may say more" {
    start_marked WEIR_MODE=manual WEIR_LOG_LEVEL=debug
    kill -USR2 "$SERVER_PID"
    wait_drained marked 3
    log_has marked ': ready: mode manual'
    log_has marked ': draining: '
}

# ---- children ----

@test "WEIR_CHILDREN=leave: a child has neither our LD_PRELOAD item nor a WEIR_ name" {
    local other preload
    other=$(gcc -print-file-name=libm.so.6) # another library, to see that it stays
    [ -e "$other" ]
    for preload in "$WEIR_LIB:$other" "$other:$WEIR_LIB" "$other $WEIR_LIB" "$WEIR_LIB $other" \
        "$WEIR_LIB::$other" "$WEIR_LIB:$other:$WEIR_LIB"; do
        serve child "LD_PRELOAD=$preload" WEIR_CHILDREN=leave WEIR_MODE=manual WEIR_FOO=bar \
            PATH="$PATH" WEIRD=yes -- sh -c 'env; echo that was all'
        wait_until 5 log_has child '^that was all$'
        log_has child '^WEIRD=yes$'
        log_has child "^LD_PRELOAD=[: ]*${other}[: ]*\$"
        not log_has child '^WEIR_'
        not log_has child '^LD_PRELOAD=.*libweir'
    done
}

@test "WEIR_CHILDREN=leave: where there was only ours, LD_PRELOAD is empty or gone" {
    serve child WEIR_CHILDREN=leave -- sh -c 'env; echo that was all'
    wait_until 5 log_has child '^that was all$'
    not log_has child '^LD_PRELOAD=.'
    not log_has child '^WEIR_'
}

@test "WEIR_CHILDREN=leave: the program itself still drains" {
    start_marked WEIR_CHILDREN=leave WEIR_MODE=manual
    connect CLIENT
    kill -USR2 "$SERVER_PID"
    at_eof "$CLIENT" 3
    wait_drained marked 3
}

@test "WEIR_CHILDREN=follow, the default: a child has both" {
    serve child WEIR_MODE=manual -- sh -c 'env; echo that was all'
    wait_until 5 log_has child '^that was all$'
    log_has child "^LD_PRELOAD=$WEIR_LIB\$"
    log_has child '^WEIR_MODE=manual$'
}

@test "processes that never listen say nothing" {
    serve quiet -- sh -c 'ls / >/dev/null; env true & wait; echo that was all'
    wait_until 5 log_has quiet '^that was all$'
    [ -z "$(shim_lines quiet)" ]
}
