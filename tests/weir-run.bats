#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# weir run: what it starts, with which environment, and what it refuses to start.
# mutant: shim/command/run.c: s/unsetenv\("WEIR_TREE"\);/(void)0;/
# seconds: 3
# shellcheck disable=SC2154  # output, status: bats' run

load helpers

WEIR=$ROOT/build/weir

setup() {
    port=$((12000 + 10 * BATS_TEST_NUMBER))
    BEGUN=$BATS_TEST_TMPDIR/begun
}

says() {
    grep -Eq -- "$1" <<<"$output" || { echo "\"$output\" does not say: $1" >&2; return 1; }
}

# refused STATUS ARGUMENT...: weir run exits with STATUS, says one line, and has started nothing.
refused() {
    local wanted=$1
    shift
    run "$WEIR" run "$@"
    echo "weir run $*: $status: $output"
    [ "$status" = "$wanted" ]
    [ "$(wc -l <<<"$output")" = 1 ]
    says '^weir: '
    [ ! -e "$BEGUN" ]
}

# environment ARGUMENT...: what a program that is run with these has in its own, ours only.
environment() {
    "$WEIR" run "$@" env | grep -E '^(WEIR_|LD_PRELOAD=)' | sort
}

# variable NAME ARGUMENT...: the value that it gets.
variable() {
    local name=$1
    shift
    "$WEIR" run "$@" env | sed -n "s/^$name=//p"
}

# ---- what it starts ----

@test "the command takes weir's place: its pid, its arguments, its exit status" {
    serve_bare server -- "$WEIR" run --mode automatic -- \
        "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    [ "$(readlink "/proc/$SERVER_PID/exe")" = "$(readlink -f "$PROGRAMS/oldhttpd")" ]
    [ "$(tr '\0' ' ' <"/proc/$SERVER_PID/cmdline")" = "$PROGRAMS/oldhttpd $port " ]
    grep -q "$WEIR_LIB" "/proc/$SERVER_PID/maps"
    log_has server ': ready: mode automatic, drain on USR2, timeout 25s'
    run "$WEIR" run sh -c 'exit 42'
    [ "$status" = 42 ]
}

@test "a real server is drained by its stop signal, and ends by it" {
    serve_bare server -- "$WEIR" run --stop-signals=TERM --timeout 5s \
        redis-server --port "$port" --save ''
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'PING\r\n'
    read_line answer "$client" 2
    [ "$answer" = +PONG ]
    pause 0.2
    kill "$SERVER_PID"
    at_eof "$client" 3
    wait_gone "$SERVER_PID" 5
    log_has server 'drained in .*: 1 closed clean, 0 forced'
}

@test "a script is run as execvp runs it, also one without #!" {
    local script=$BATS_TEST_TMPDIR/script
    # shellcheck disable=SC2016  # the script's
    echo 'echo "$0 $1 $LD_PRELOAD"' >"$script"
    chmod 755 "$script"
    [ "$("$WEIR" run "$script" one)" = "$script one $WEIR_LIB" ]
    sed -i '1i #!/bin/sh' "$script"
    [ "$("$WEIR" run "$script" one)" = "$script one $WEIR_LIB" ]
    [ "$(PATH=$BATS_TEST_TMPDIR:$PATH "$WEIR" run script one)" = "$script one $WEIR_LIB" ]
}

@test "what comes after the command is the command's" {
    [ "$("$WEIR" run echo --mode off --help)" = '--mode off --help' ]
    [ "$("$WEIR" run --mode off echo --mode reply)" = '--mode reply' ]
    [ "$("$WEIR" run --mode=off -- echo -- --mode reply)" = '-- --mode reply' ]
}

@test "a program that may be executed and not read is run, and that it is not known is said" {
    local public
    setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "not root"
    public=$(mktemp -d /tmp/weir-run.XXXXXX)
    chmod 755 "$public"
    cp "$WEIR" "$WEIR_LIB" "$public"
    cp /bin/echo "$public/closed"
    chmod 711 "$public/closed"
    run setpriv --reuid=65534 --regid=65534 --clear-groups \
        "$public/weir" run "$public/closed" it runs
    rm -rf "$public"
    [ "$status" = 0 ]
    says 'closed may not be read by you'
    says '^it runs$'
}

# ---- the environment ----

# Each variable of the contract, and a value that is not its default.
# shellcheck disable=SC2054  # commas that are meant
VALUES=(
    WEIR_MODE=automatic,:9090=off WEIR_SIGNAL=RTMIN+3 WEIR_ACTION=close-idle
    WEIR_DOUBLE_SIGNAL=2s WEIR_STOP_SIGNALS=TERM,INT WEIR_TIMEOUT=7s WEIR_SETTLE=250ms
    WEIR_FIRST_BYTE=3s WEIR_LISTENERS=keep WEIR_ON_DRAINED=QUIT WEIR_CONTROL_SIGNAL=RTMAX-4
    WEIR_LOG=none WEIR_LOG_LEVEL=error WEIR_RUN_DIR=/tmp
)

# option VARIABLE: "--stop-signals" of WEIR_STOP_SIGNALS.
option() {
    local name=${1#WEIR_}
    name=${name,,}
    echo "--${name//_/-}"
}

@test "each variable has an option, whose value reaches the program in both spellings" {
    local value name together=()
    for value in "${VALUES[@]}"; do
        name=${value%%=*}
        [ "$(variable "$name" "$(option "$name")" "${value#*=}")" = "${value#*=}" ]
        [ "$(variable "$name" "$(option "$name")=${value#*=}")" = "${value#*=}" ]
        together+=("$(option "$name")" "${value#*=}")
    done
    diff <(printf '%s\n' "${VALUES[@]}" | sort) \
        <(environment "${together[@]}" | grep -Ev '^(LD_PRELOAD|WEIR_TREE)=')
    # What a program that leaves its children alone has taken out of its environment again.
    [ "$(environment --children leave)" = '' ]
}

@test "the help has each variable with its option and its default, and begins nothing" {
    local value name
    run "$WEIR" run --help
    [ "$status" = 0 ]
    for value in "${VALUES[@]}" WEIR_CHILDREN= WEIR_DELAY= WEIR_SPREAD= WEIR_LINGER= WEIR_NOTICE=; do
        name=${value%%=*}
        says "^  $(option "$name")=VALUE "
        says "\\($name|^ +$name"
    done
    says 'default 25s'
    says 'Exit: '
    [ "$(wc -L <<<"$output")" -le 80 ]
    # Every setting that the library knows: those and no more.
    [ "$(grep -c '^  --' <<<"$output")" = "$(grep -c '^    {"WEIR_' "$ROOT/shim/base/settings.c")" ]
}

@test "an option overrides the variable, what has no option is left as it is" {
    export WEIR_TIMEOUT=1s WEIR_SETTLE=200ms
    [ "$(variable WEIR_TIMEOUT --timeout 9s)" = 9s ]
    [ "$(variable WEIR_SETTLE --timeout 9s)" = 200ms ]
    [ "$(variable WEIR_TIMEOUT)" = 1s ]
    # The last of several.
    [ "$(variable WEIR_TIMEOUT --timeout 9s --timeout 8s)" = 8s ]
    # Also where the variable could not be parsed.
    [ "$(WEIR_TIMEOUT=3x variable WEIR_TIMEOUT --timeout 9s)" = 9s ]
    # An empty value is one.
    [ "$(WEIR_STOP_SIGNALS=TERM environment --stop-signals= | grep STOP)" = WEIR_STOP_SIGNALS= ]
}

@test "the rest of the environment is as it was" {
    diff <(env -u _ | sort) <("$WEIR" run env -u LD_PRELOAD -u WEIR_TREE -u _ env | sort)
}

@test "what is preloaded already stays, behind the shim, and another copy of the shim goes" {
    local other=$BATS_TEST_TMPDIR/libother.so ours=$BATS_TEST_TMPDIR/copy/libweir.so
    echo 'int other;' | gcc -shared -fPIC -x c -o "$other" -
    mkdir "${ours%/*}"
    cp "$WEIR_LIB" "$ours"
    preloaded() {
        LD_PRELOAD=$1 variable LD_PRELOAD
    }
    [ "$(variable LD_PRELOAD)" = "$WEIR_LIB" ]
    [ "$(preloaded "$other")" = "$WEIR_LIB:$other" ]
    [ "$(preloaded "$other $WEIR_LIB")" = "$WEIR_LIB:$other" ]
    [ "$(preloaded "$ours:$other:libm.so.6")" = "$WEIR_LIB:$other:libm.so.6" ]
    [ "$(preloaded '')" = "$WEIR_LIB" ]
    # A library whose name only ends like ours is somebody else's.
    cp "$other" "$BATS_TEST_TMPDIR/mylibweir.so"
    [ "$(preloaded "$BATS_TEST_TMPDIR/mylibweir.so")" = "$WEIR_LIB:$BATS_TEST_TMPDIR/mylibweir.so" ]
}

@test "it begins a tree of its own, also where it is started by a program under the shim" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    WEIR_TREE=/run/weir/1.1 "$WEIR" run sh -c 'case $WEIR_TREE in */$$.*) ;; *) exit 1 ;; esac'
    serve server -- sh -c "\"$WEIR\" run --stop-signals=TERM \"$PROGRAMS/oldhttpd\" $port & wait"
    wait_port "$port"
    log_has server '] oldhttpd: ready: mode reply, drain on USR2,TERM'
    also_end "$(pgrep -P "$SERVER_PID")"
}

@test "a WEIR_ name that nobody knows is a warning" {
    export WEIR_TIMEOT=3s
    run "$WEIR" run --log none echo it runs
    [ "$status" = 0 ]
    [ "$output" = $'weir: WEIR_TIMEOT: no setting has this name; it is ignored\nit runs' ]
}

# ---- what it refuses ----

@test "a value that the shim refuses is refused in the same words, before anything is started" {
    local value name ours shims
    for value in WEIR_MODE=bogus WEIR_SIGNAL=KILL WEIR_ACTION=stop WEIR_DOUBLE_SIGNAL=1d \
        WEIR_TIMEOUT=3x WEIR_STOP_SIGNALS=TERM,FOO WEIR_LOG=sterr WEIR_RUN_DIR=here \
        WEIR_CHILDREN=yes WEIR_CONTROL_SIGNAL=USR2 $'WEIR_SETTLE=\e[1m' WEIR_LOG_LEVEL=; do
        name=${value%%=*}
        refused 2 "$(option "$name")" "${value#*=}" touch "$BEGUN"
        ours=${output#weir: }
        shims=$(env "$value" "LD_PRELOAD=$WEIR_LIB" true 2>&1 | sed 's/^weir\[[0-9]*\] true: //')
        [ "$ours: running without weir" = "$shims" ] || { echo "the shim: $shims"; return 1; }
        # The same in the environment.
        export "${value?}"
        refused 2 touch "$BEGUN"
        [ "$ours" = "${output#weir: }" ]
        unset "$name"
    done
}

@test "an option that is none, or has no value, and no command at all, are refused" {
    run "$WEIR" run --no-such-option 1 touch "$BEGUN"
    [ "$status" = 2 ]
    says "^weir: unrecognized option '--no-such-option'"
    run "$WEIR" run --timeout
    [ "$status" = 2 ]
    refused 2
    refused 2 --timeout 3s
    refused 2 --timeout 3s --
    [ ! -e "$BEGUN" ]
}

@test "a command that is not there, or can't be executed, is refused" {
    refused 1 nosuchcommand
    says 'nosuchcommand: no such command in PATH'
    refused 1 /no/such/file
    refused 1 /etc/passwd
    says '/etc/passwd: is no file that you may execute'
    refused 1 ''
}

@test "a program in which the shim would not work is refused, with weir check's reason" {
    local program reason
    for program in /bin/busybox fzf gosu; do
        refused 1 "$program" touch "$BEGUN"
        reason=$("$WEIR" check "$program" | tail -n 1) || true
        [ "$output" = "weir: ${reason#will not work: }" ]
    done
    # shellcheck disable=SC2016  # the script's
    printf '#!/bin/busybox sh\ntouch "$1"\n' >"$BATS_TEST_TMPDIR/script"
    chmod 755 "$BATS_TEST_TMPDIR/script"
    refused 1 "$BATS_TEST_TMPDIR/script" "$BEGUN"
    says 'busybox is statically linked'
}

# ---- where the library is ----

@test "the library is found beside an installed command, however that was called" {
    local prefix=$BATS_TEST_TMPDIR/prefix directory
    mkdir -p "$prefix/bin" "$BATS_TEST_TMPDIR/links"
    cp "$WEIR" "$prefix/bin"
    ln -s ../prefix/bin/weir "$BATS_TEST_TMPDIR/links/weir"
    for directory in lib lib/x86_64-linux-gnu lib64; do
        mkdir -p "$prefix/$directory"
        cp "$WEIR_LIB" "$prefix/$directory"
        [ "$("$prefix/bin/weir" run printenv LD_PRELOAD)" = "$prefix/$directory/libweir.so" ]
        [ "$(cd "$prefix" && bin/weir run printenv LD_PRELOAD)" = "$prefix/$directory/libweir.so" ]
        [ "$("$BATS_TEST_TMPDIR/links/weir" run printenv LD_PRELOAD)" = "$prefix/$directory/libweir.so" ]
        rm "$prefix/$directory/libweir.so"
    done
    run "$prefix/bin/weir" run touch "$BEGUN"
    [ "$status" = 1 ]
    says "^weir: no libweir\.so in $prefix/bin, nor in its \.\./lib, "
    [ ! -e "$BEGUN" ]
}

@test "a library whose path LD_PRELOAD can't name is refused" {
    local name
    for name in 'a space' 'a:colon'; do
        mkdir "$BATS_TEST_TMPDIR/$name"
        cp "$WEIR" "$WEIR_LIB" "$BATS_TEST_TMPDIR/$name"
        run "$BATS_TEST_TMPDIR/$name/weir" run touch "$BEGUN"
        [ "$status" = 1 ]
        says "^weir: .*/$name/libweir\.so: LD_PRELOAD can.t name a path with a space or a colon"
        [ ! -e "$BEGUN" ]
    done
}
