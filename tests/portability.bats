#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Other C libraries and machines: Weir built for musl, and for aarch64 (under qemu-user), does there
# what it is for; and what is built here starts with an older glibc.
#
# qemu-user knows no IP_MINTTL, no sock_diag and no MADV_WIPEONFORK (and agrees to it), and fills in
# four bytes of TCP_INFO: so on aarch64 it is also shown that the shim does without.
# mutant: shim/conn/fork_detect.c: s/sys3\(SYS_madvise, &fork_page, sizeof fork_page, -1\) >= 0/false/
# needs: libc6-arm64-cross libc6-dev-arm64-cross
# seconds: 60
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load helpers
bats_require_minimum_version 1.5.0

SERVERS=(oldhttpd fork_each sig_stop sig_wait queue_server)
MUSL=/lib/ld-musl-x86_64.so.1

# build NAME COMPILER: all of it, and the test servers; what the compiler says is an error.
build() {
    local programs=("${SERVERS[@]/#/build/$1/tests/}")
    built "CC=$2" "BUILD=build/$1" CFLAGS=-O2 all "${programs[@]}" 2>"$BATS_FILE_TMPDIR/$1" ||
        { cat "$BATS_FILE_TMPDIR/$1"; false; }
}

setup_file() {
    build musl musl-gcc >&2
    build aarch64 aarch64-linux-gnu-gcc >&2
}

setup() {
    port=8081
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR
    export WEIR_FIRST_BYTE=200ms
}

# on NAME: from here on its library, its command and its servers are used.
on() {
    BUILT=$ROOT/build/$1
    WEIR_LIB=$BUILT/libweir.so
    EMULATOR=()
    UNDER=("LD_PRELOAD=$WEIR_LIB")
    if [ "$1" = aarch64 ]; then
        # The emulator itself is a program of this machine.
        EMULATOR=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
        # qemu 10 gives real-time signals other numbers than the program asks for, but for these.
        export QEMU_RTSIG_MAP='36 36 27'
        UNDER=()
    fi
}

weir() {
    timeout "$(patient 30)" "${EMULATOR[@]}" "$BUILT/weir" "$@"
}

# starts NAME [VAR=value...] -- PROGRAM ARGUMENT...
starts() {
    local name=$1 variables=() program
    shift
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    program=$BUILT/tests/$2
    shift 2
    if [ ${#EMULATOR[@]} -gt 0 ]; then
        serve_bare "$name" "${variables[@]}" -- \
            "${EMULATOR[@]}" -E "LD_PRELOAD=$WEIR_LIB" "$program" "$@"
    else
        serve_bare "$name" "${UNDER[@]}" "${variables[@]}" -- "$program" "$@"
    fi
}

# ask FD PATH: an HTTP request.
ask() {
    conn_send "$1" "GET $2 HTTP/1.1\r\nHost: a\r\n\r\n"
}

# answered FD: the whole answer is there, to the page's end.
answered() {
    local line
    while read_line line "$1" 15; do
        [ "$line" != '<html><body><h1>It works!</h1></body></html>' ] || return 0
    done
    echo "descriptor $1: no answer" >&2
    return 1
}

status_has() {
    weir status --json "$SERVER_PID" | grep -q "$1"
}

tasks_and_descriptors() {
    echo "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l) tasks," \
        "$(find "/proc/$1/fd" -mindepth 1 | wc -l) descriptors"
}

loads_and_is_quiet() {
    local bare_pid client line bare_client
    on "$1"
    # A library that the loader could not load would be said on the same stderr.
    starts server -- sig_stop handler "$port"
    wait_until 20 listening "$port"
    wait_until 10 log_has server ready
    serve_bare bare -- "${EMULATOR[@]}" "$BUILT/tests/sig_stop" handler $((port + 1))
    bare_pid=$SERVER_PID
    wait_until 20 listening $((port + 1))
    conn_open client "$port"
    conn_open bare_client $((port + 1))
    for line in one two three; do
        conn_send "$client" "$line\n"
        read_line answer "$client" 10
        [ "$answer" = "$line" ]
        conn_send "$bare_client" "$line\n"
        read_line answer "$bare_client" 10
    done
    [ "$(tasks_and_descriptors "${STARTED[0]}")" = "$(tasks_and_descriptors "$bare_pid")" ]
    [ "$(log server)" = "weir[${STARTED[0]}] sig_stop: ready: mode reply, drain on USR2, timeout 25s" ]
}

# Two threads serve: one a request when the drain begins, the other an idle connection.
answers_and_closes() {
    local slow idle
    on "$1"
    starts server -- oldhttpd "$port"
    wait_until 20 listening "$port"
    conn_open idle "$port"
    ask "$idle" /
    answered "$idle"
    conn_open slow "$port"
    ask "$slow" '/slow?ms=1500'
    wait_until 10 status_has '"in_use": 1}, *"totals": {"accepted": 2'
    weir drain --wait "$SERVER_PID" 3>&- >"$BATS_TEST_TMPDIR/waited"
    at_eof "$idle" 5
    local line whole=
    while read_line line "$slow" 5; do
        whole+=$line
    done
    [[ $whole == *It\ works!* ]]
    grep -q 'drained in .*: 2 closed clean, 0 forced' "$BATS_TEST_TMPDIR/waited"
    status_has '"phase": "drained"'
    log_has server 'drained in .*: 2 closed clean, 0 forced; the program runs on'
    alive "$SERVER_PID"
}

stops_when_drained() {
    local client
    on "$1"
    starts server WEIR_STOP_SIGNALS=TERM -- sig_stop "$2" "$port"
    wait_until 20 listening "$port"
    conn_open client "$port"
    conn_send "$client" 'hello\n'
    read_line answer "$client" 10
    pause 0.3
    kill -TERM "$SERVER_PID"
    at_eof "$client" 10
    wait_gone "$SERVER_PID" 10
    log_has server 'drained in .* 1 closed clean, 0 forced; SIGTERM goes to the program'
    log_has server "$3"
}

closes_idle_by_value() {
    local client
    on "$1"
    starts server -- oldhttpd "$port"
    wait_until 20 listening "$port"
    conn_open client "$port"
    ask "$client" /
    answered "$client"
    pause 0.3
    /bin/kill -q 1 -s USR2 "$SERVER_PID"
    at_eof "$client" 10
    conn_open client "$port"
    ask "$client" /
    answered "$client"
    status_has '"phase": "serving"'
    wait_until 5 status_has '"closed_idle": 1' # counted behind the FIN
}

refuses_in_one_line() {
    local client
    on "$1"
    starts server WEIR_TIMEOUT=3x -- oldhttpd "$port"
    wait_until 20 listening "$port"
    conn_open client "$port"
    ask "$client" /
    answered "$client"
    [ "$(log server | wc -l)" = 1 ]
    log_has server '^weir.*WEIR_TIMEOUT: "3x" is not a duration'
    run -2 weir run --timeout 3x -- "$BUILT/tests/oldhttpd" 8099
    [ "$(wc -l <<<"$output")" = 1 ]
    [[ $output == *'"3x" is not a duration'* ]]
}

# drains_forked NAME HOW: a child serves; what it accepted is its own, and the tree drains.
drains_forked() {
    local client
    on "$1"
    starts server -- fork_each "$2" "$port"
    wait_until 20 listening "$port"
    conn_open client "$port"
    conn_send "$client" 'counts\n'
    read_line answer "$client" 10
    [[ $answer == '1 '* ]]
    conn_send "$client" 'parent\n'
    read_line answer "$client" 10
    [[ $answer == '0 '* ]]
    also_end "$(log server | sed -n 's/^child //p')"
    pause 0.3
    weir drain --wait --timeout 15s "$SERVER_PID"
    at_eof "$client" 10
    status_has '"losses": {"forced_in_use": 0, "unread": 0, "unsent": 0}'
    not_served "$port" 'hello\n'
}

# ---- musl ----

@test "musl: the library and the command need no name that musl lacks" {
    local undefined
    on musl
    for file in "$WEIR_LIB" "$BUILT/weir"; do
        undefined=$("$MUSL" --list "$file" 2>&1) || { echo "$undefined"; return 1; }
        not grep -E 'not found|Error' <<<"$undefined"
        [ "$(readelf -d "$file" | grep -c NEEDED)" = 1 ]
    done
}

@test "musl: the library exports no name that musl lacks, but weir_*" {
    local others
    on musl
    exported() { nm -D --defined-only "$1" | awk '{ print $3 }' | sort -u; }
    [ "$(exported "$WEIR_LIB" | wc -l)" -gt 70 ]
    others=$(comm -23 <(exported "$WEIR_LIB" | grep -v '^weir_') <(exported "$MUSL"))
    [ -z "$others" ] || { echo "musl has no $others" >&2; return 1; }
}

@test "musl: the library loads, and is quiet" {
    loads_and_is_quiet musl
}

@test "musl: a request in progress is answered, the idle connection is closed, and the drain ends" {
    answers_and_closes musl
}

@test "musl: a stop signal drains first and then calls the program's handler" {
    stops_when_drained musl handler '^15 code 0 from [1-9][0-9]*$'
}

@test "musl: a stop signal drains first and then ends the program" {
    stops_when_drained musl default 'drained in'
}

@test "musl: a sigwait, which begins again after EINTR there, gets the stop signal in the end" {
    stops_when_drained musl sigwait '^15 code 0 from 0$'
}

@test "musl: no call that waits ends because of the trigger, and each waits as long as it was to" {
    on musl
    starts waits WEIR_LOG=none WEIR_ACTION=close-idle WEIR_FIRST_BYTE=1s -- sig_wait trigger
    wait_gone "$SERVER_PID" 30
    [ "$(log waits | wc -l)" -gt 20 ]
    not grep -v ', in time$' "$BATS_TEST_TMPDIR/waits.log"
}

@test "musl: a trigger with the value 1 closes what is idle, and the program goes on serving" {
    closes_idle_by_value musl
}

@test "musl: a bad setting is refused in one line, and the program runs without" {
    refuses_in_one_line musl
}

@test "musl: a server that forks is drained with its children" {
    drains_forked musl fork
}

@test "each weir check says which libc the other's program is for, and that its own works" {
    run -1 "$ROOT/build/weir" check "$ROOT/build/musl/tests/oldhttpd"
    [[ $output == *"is for musl (its loader is $MUSL), and the shim for glibc"* ]]
    on musl
    run -1 weir check "$ROOT/build/tests/oldhttpd"
    [[ $output == *'is for glibc '*', and the shim for musl'* ]]
    run -0 weir check "$BUILT/tests/oldhttpd"
    [[ $output == *'is dynamic, for x86-64 and musl, as the shim is.'* ]]
    [[ $output == *'Libraries that it needs and that were looked at: 1.'* ]]
    [[ $output != *'not found'* ]]
    run -1 weir check "$ROOT/build/aarch64/tests/oldhttpd"
    [[ $output == *'is for aarch64 (64-bit), and the shim for x86-64 (64-bit)'* ]]
    run -1 weir run -- "$ROOT/build/tests/oldhttpd" 8099
    [[ $output == *'and the shim for musl'* ]]
}

# ---- aarch64 ----

@test "aarch64: the library loads, and is quiet" {
    loads_and_is_quiet aarch64
}

@test "aarch64: a request in progress is answered, the idle connection is closed, and the drain ends" {
    answers_and_closes aarch64
}

@test "aarch64: a stop signal drains first and then calls the program's handler" {
    stops_when_drained aarch64 handler '^15 code 0 from [1-9][0-9]*$'
}

@test "aarch64: a stop signal drains first and then ends the program" {
    stops_when_drained aarch64 default 'drained in'
}

@test "aarch64: a trigger with the value 1 closes what is idle, and the program goes on serving" {
    closes_idle_by_value aarch64
}

@test "aarch64: a bad setting is refused in one line, and the program runs without" {
    refuses_in_one_line aarch64
}

@test "aarch64: a server that forks is drained with its children, where no page is wiped on fork" {
    drains_forked aarch64 fork
}

@test "aarch64: clients that wait to be accepted are served, where a listener has no IP_MINTTL" {
    local client clients=()
    on aarch64
    starts server -- queue_server --pace 100000 "127.0.0.1:$port"
    wait_until 20 listening "$port"
    for _ in {1..20}; do
        conn_open client "$port"
        conn_send "$client" 'ping\n'
        clients+=("$client")
    done
    kill -USR2 "$SERVER_PID"
    wait_drained server 20
    for client in "${clients[@]}"; do
        read_line answer "$client" 5
        [ "$answer" = pong ]
    done
    log_has server 'drained in .*: 20 closed clean, 0 forced'
}

# ---- glibc, older ----

# newer FILE: the versions of glibc that it needs and that 2.28 has not; fails where it needs none.
newer() {
    local versions
    versions=$(readelf --dyn-syms -W "$1" | awk '$7 == "UND"' | grep -o '[^ ]*@GLIBC_[0-9.]*')
    [ -n "$versions" ] || { echo "$1 needs no glibc" >&2; return 1; }
    awk -F '@GLIBC_' '{ split($2, v, "."); if (v[1] > 2 || v[2] > 28) print }' <<<"$versions"
}

@test "neither product needs a glibc newer than 2.28" {
    local file found
    for file in build/libweir.so build/weir build/aarch64/libweir.so build/aarch64/weir; do
        found=$(newer "$ROOT/$file")
        [ -z "$found" ] || { echo "$file needs $found" >&2; return 1; }
    done
    # The test servers are linked as any program is.
    [[ $(newer "$PROGRAMS/oldhttpd") == *__libc_start_main@GLIBC_2.34* ]]
}

# glibc 2.38 and newer: what a file includes gives strtoul and the like names that this glibc has not,
# so that a build that takes them does not link.
@test "neither needs the names that newer glibcs have for C23" {
    local newer=$BATS_TEST_TMPDIR/newer
    mkdir "$newer"
    cat >"$newer/features.h" <<'END'
#ifndef NEWER_FEATURES
#define NEWER_FEATURES
#include_next <features.h>
#undef __GLIBC_USE_C2X_STRTOL
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C2X_STRTOL 1
#define __GLIBC_USE_C23_STRTOL 1
#endif
END
    for name in stdlib stdio inttypes; do
        cat >"$newer/$name.h" <<END
#include_next <$name.h>
#if __GLIBC_USE(C2X_STRTOL) || __GLIBC_USE(C23_STRTOL)
#pragma redefine_extname strtol __isoc23_strtol
#pragma redefine_extname strtoul __isoc23_strtoul
#pragma redefine_extname strtoull __isoc23_strtoull
#endif
END
    done
    # Who has none of these names has none of the newer ones either.
    local build=$BATS_TEST_TMPDIR/build objects
    mkdir "$build"
    cp -a "$ROOT"/build/{shim,share,compiler,exports.map} "$build"
    mapfile -t objects < <(find "$build/shim" -name '*.o' -exec nm -A -u {} + |
        sed -En 's/^(.*\.o): *U .*(strto|wcsto|ato[il]|scanf).*/\1/p' | sort -u)
    [ ${#objects[@]} -gt 0 ]
    rm "${objects[@]}"
    make -C "$ROOT" --no-print-directory -s BUILD="$build" CPPFLAGS="-I$newer" CFLAGS=-O0 \
        "$build/weir" "$build/libweir.so"
}

@test "the library needs libc alone, and where that has no dlsym it finds libc's calls itself" {
    local build=$BATS_TEST_TMPDIR/build client
    readelf -d "$WEIR_LIB" | awk '/NEEDED/ { print $NF }' >"$BATS_TEST_TMPDIR/needed"
    [ "$(<"$BATS_TEST_TMPDIR/needed")" = '[libc.so.6]' ]
    cp -a "$ROOT/build" "$build"
    rm "$build/shim/base/libc.o" "$build/libweir.so"
    make -C "$ROOT" --no-print-directory BUILD="$build" CPPFLAGS=-DWITHOUT_DLSYM "$build/libweir.so"
    readelf --dyn-syms -W "$build/libweir.so" >"$BATS_TEST_TMPDIR/symbols"
    not grep -q ' dlsym' "$BATS_TEST_TMPDIR/symbols"
    WEIR_LIB=$build/libweir.so serve server WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'GET /slow?ms=500 HTTP/1.1\r\nHost: a\r\n\r\n'
    wait_until 5 log_has server ready
    kill "$SERVER_PID"
    read_line answer "$client" 5
    [[ $answer == 'HTTP/1.'?' 200'* ]]
    wait_gone "$SERVER_PID" 5
    log_has server 'drained in .* 0 forced'
}
