#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The commands of README and weir-services(7), as they stand there. Where one would change this machine, or wants what is
# no Debian package (docker, kubectl), a stand-in of the same name takes it, named in its test.
# mutant: README.md: s/^weir run --stop-signals TERM your/weir run --stop-signal TERM your/
# needs: python3-yaml nginx-light
# seconds: 55
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
unset WEIR_MODE # the default, protocol

setup() {
    port=$((28000 + 10 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    root=$temporary/root
    bin=$temporary/bin
    mkdir "$root" "$bin"
    cd "$ROOT" || exit 1
    PATH=$bin:$PATH
}

# blocks: each line of the blocks of commands in README, weir-services(7) and scripts/RESULTS.md,
# "NUMBER LINE", without comments; a line that goes on is one line.
blocks() {
    {
        cat "$ROOT/README.md" "$ROOT/scripts/RESULTS.md"
        sed 's/^\.Bd -literal.*/```sh/; s/^\.Ed$/```/; s/\\e$/\\/; s#@PREFIX@#/usr/local#' \
            "$ROOT/build/share/weir-services.7"
    } | awk '/^```sh$/ { inside = 1; number++; next } /^```$/ { inside = 0 } inside { print number, $0 }' |
        sed -E ':more; /\\$/ { N; s/ *\\\n[0-9]+ +/ /; b more }; s/ *# .*//'
}

# number_of REGEX: of each block in which a line matches.
number_of() {
    blocks | awk -v regex="$1" '{ line = $0; sub(/^[0-9]+ /, "", line) }
                                line ~ regex && !seen[$1]++ { print $1 }'
}

# block REGEX: the block in which a line matches is in $temporary/block. One that stands in two places
# is the same in both.
block() {
    local numbers number
    mapfile -t numbers < <(number_of "$1")
    [ "${#numbers[@]}" -gt 0 ] || { echo "no block has $1" >&2; return 1; }
    blocks | sed -n "s/^${numbers[0]} //p" >"$temporary/block"
    for number in "${numbers[@]:1}"; do
        blocks | sed -n "s/^$number //p" | diff "$temporary/block" - || return 1
    done
}

# run_block REGEX [SED-SCRIPT]: runs it, with the paths of this machine changed to ours.
run_block() {
    block "$1"
    sed -Ei "s#/usr/local/lib/libweir.so#$WEIR_LIB#g; s#/usr/local/bin/weir#$ROOT/build/weir#g; ${2:-}" \
        "$temporary/block"
    cat "$temporary/block"
    bash -eu "$temporary/block"
}

# stands_in NAME <<SCRIPT
stands_in() {
    { echo '#!/bin/bash'; echo 'set -eu'; cat; } >"$bin/$1"
    chmod +x "$bin/$1"
}

# your-daemon: the legacy daemon of the tests. weir: the one that was built.
your_daemon() {
    stands_in your-daemon <<END
exec $PROGRAMS/oldhttpd $port
END
    ln -sf "$ROOT/build/weir" "$bin/weir"
}

# finishes PID: it is stopped in the middle of a request, and answers that before it ends.
finishes() {
    local client answer
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'GET /slow?ms=500 HTTP/1.1\r\nHost: a\r\n\r\n'
    wait_until 5 log_has server 'ready'
    sleep 0.2
    "${@:2}"
    read_line answer "$client" 5
    [[ $answer == 'HTTP/1.'?' 200'* ]]
    wait_gone "$1" 10
}

@test "the first line: the two variables, and TERM drains" {
    your_daemon
    block '^LD_PRELOAD=/usr/local/lib/libweir.so WEIR_STOP_SIGNALS=TERM  your-daemon$'
    sed -i "s#/usr/local/lib/libweir.so#$WEIR_LIB#" "$temporary/block"
    serve_bare server -- bash -c "exec env $(<"$temporary/block")"
    finishes "$SERVER_PID" kill "$SERVER_PID"
}

@test "by the command: weir run, weir status, weir drain --wait" {
    local commands
    your_daemon
    block '^weir run --stop-signals TERM your-daemon'
    mapfile -t commands <"$temporary/block"
    [ "${#commands[@]}" = 3 ]
    serve_bare server -- bash -c "exec ${commands[0]}"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    read_line answer "$client" 5
    bash -c "${commands[2]/PID/$SERVER_PID}" | grep -q '^oldhttpd'
    bash -c "${commands[1]/PID/$SERVER_PID}"
    log_has server 'drained in .* 0 forced'
    kill "$SERVER_PID"
    wait_gone "$SERVER_PID" 5
}

@test "by the command: weir restart" {
    local command new
    your_daemon
    block '^weir restart PID'
    command=$(<"$temporary/block")
    serve_bare server -- bash -c "exec weir run --stop-signals TERM your-daemon"
    wait_port "$port"
    new=$(bash -c "${command/PID/$SERVER_PID}")
    also_end "$new"
    [ "$new" != "$SERVER_PID" ]
    wait_gone "$SERVER_PID" 5
    conn_open client "$port"
    conn_send "$client" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    read_line answer "$client" 5
    [[ $answer == *" 200 "* ]]
}

@test "make demo: nothing is lost under Weir, and nobody refused" {
    block '^make demo'
    grep -q '^make test$' "$temporary/block"
    make -n test | grep -q '^tests/run$' # which is what runs here
    unset DEMO_ISOLATED
    make demo | tee "$temporary/demo"
    grep -Eq '^stop: kill -TERM, under Weir +[0-9]+ +0 +0 ' "$temporary/demo"
    grep -Eq '^restart: weir restart +[0-9]+ +0 +0 ' "$temporary/demo"
}

@test "install: the package can be installed, and make install puts weir where it is said to be" {
    stands_in apt-get <<END
# It says what it would do.
exec /usr/bin/apt-get --simulate "\$@"
END
    run_block '^scripts/package$' >"$temporary/said"
    grep -q '^Inst weir ' "$temporary/said"
    export DESTDIR=$root
    run_block '^make install$'
    [ -x "$root/usr/local/bin/weir" ]
    [ -e "$root/usr/local/lib/libweir.so" ]
    your_daemon
    ln -sf "$PROGRAMS/oldhttpd" "$bin/your-daemon"
    weir check your-daemon
}

# installed: what make install puts there is in $root, and a stand-in looks at what is told of it.
installed() {
    mkdir -p "$root/etc/systemd/system" "$root/etc/tmpfiles.d"
    cp /etc/passwd /etc/group "$root/etc/"
    DESTDIR=$root make -s install
    [ -e "$root$(sed -n 's/^Environment=LD_PRELOAD=//p' "$root/usr/local/share/doc/weir/examples/weir.conf")" ]
    cp "/lib/systemd/system/$1.service" "$root/etc/systemd/system/"
    stands_in systemctl <<END
case "\$*" in
daemon-reload) systemd-analyze verify --man=no $root/etc/systemd/system/$1.service ;;
'restart $1') cat $root/etc/systemd/system/$1.service.d/*.conf >$temporary/drop-ins ;;
*) exit 2 ;;
esac
END
}

@test "systemd: the drop-in is put in its place, and systemd finds nothing wrong with it" {
    installed memcached
    run_block '^systemctl restart memcached$' "s# /(etc|usr/local/share)/# $root/\\1/#g"
    grep -q '^Environment=WEIR_STOP_SIGNALS=TERM$' "$temporary/drop-ins"
}

@test "systemd: nginx has the second file beside it" {
    installed nginx
    run_block '^systemctl restart nginx$' "s# /(etc|usr/local/share)/# $root/\\1/#g"
    grep -q '^Environment=WEIR_STOP_SIGNALS=TERM$' "$temporary/drop-ins"
    grep -q '^ExecStop=$' "$temporary/drop-ins"
}

@test "systemd: the directory of the state pages" {
    installed memcached
    # A root of its own: it is told to make directories.
    stands_in systemd-tmpfiles <<END
exec /usr/bin/systemd-tmpfiles --root=$root "\$@"
END
    run_block '^systemd-tmpfiles' "s# /(etc|usr/local/share)/# $root/\\1/#g"
    [ "$(stat -c %a "$root/run/weir")" = 1777 ]
}

@test "docker: the options are of the command that they are given to, and the image's file is there" {
    stands_in docker <<'END'
[ "$1" = build ] || [ "$1" = run ] || [ "$1" = stop ]
if [ "$1" = build ]; then
    [ "$2 $3 $4 $6" = '-t weir-nginx -f .' ]
    [ -e "$5" ]
    while read -r copy from _; do
        [ "$copy" != COPY ] || [ -e "$from" ]
    done <"$5"
fi
if [ "$1" = run ]; then
    stop=$(sed 's/.*--stop-timeout \([0-9]*\) .*/\1/' <<<"$*")
    timeout=$(sed -n 's/^ENV .*WEIR_TIMEOUT=\([0-9]*\)s.*/\1/p' scripts/container/Containerfile)
    [ "$stop" -gt "$timeout" ]
fi
END
    run_block '^docker run '
    # The file says the same.
    while read -r line; do
        grep -qF "#     $line" scripts/container/Containerfile
    done <"$temporary/block"
}

@test "kubectl: the file is a deployment and its service" {
    stands_in kubectl <<'END'
[ "$1 $2" = 'apply -f' ]
/usr/bin/python3 -c 'import sys, yaml
kinds = [part["kind"] for part in yaml.safe_load_all(open(sys.argv[1]))]
assert kinds == ["Deployment", "Service"], kinds' "$3"
END
    run_block '^kubectl apply '
}

@test "an init script: start-stop-daemon starts it, and stops it with a drain" {
    export PIDFILE=$temporary/pid DAEMON=$PROGRAMS/oldhttpd
    block '^start-stop-daemon --start'
    sed -i "s#/usr/local/bin/weir#$ROOT/build/weir#; s#TERM \"\$DAEMON\"\$#& $port#" "$temporary/block"
    split=$(grep -n '^start-stop-daemon --stop' "$temporary/block" | cut -d : -f 1)
    head -n $((split - 1)) "$temporary/block" >"$temporary/start"
    tail -n "+$split" "$temporary/block" >"$temporary/stop"
    WEIR_LOG=$temporary/server.log bash -eu "$temporary/start"
    wait_until 5 test -s "$PIDFILE"
    pid=$(<"$PIDFILE")
    STARTED+=("$pid")
    # Once more: it runs already, and stays the one that is stopped.
    wait_port "$port"
    bash -u "$temporary/start" | tee "$temporary/again" || true
    grep -q 'already running' "$temporary/again"
    [ "$(<"$PIDFILE")" = "$pid" ]
    finishes "$pid" bash -eu "$temporary/stop"
}

@test "a fleet: the command is the one that fleet.bats tries" {
    block '^scripts/fleet-demo'
    read -r script options <"$temporary/block"
    [ -x "$script" ]
    grep -qF -- "${options%% *}" "$script"
    grep -qF 'scripts/fleet-demo' tests/fleet.bats
}

@test "how to work on it: each target, file and row is there" {
    local command rest name rows
    block '^make unit'
    while read -r command rest; do
        echo "$command $rest"
        case $command in
        make) make -n $(sed 's/ROWS=.*//' <<<"$rest") >"$temporary/made" ;;
        tests/run) for name in $rest; do [ -e "tests/$name.bats" ]; done ;;
        scripts/mutants) [ -e "tests/$rest.bats" ] ;;
        scripts/fuzz) [ -e "tests/fuzz/${rest##* }.c" ] ;;
        scripts/transparency) grep -q "${rest%% *}" scripts/transparency ;;
        scripts/audit)
            read -r _ _ name _ <<<"$rest"
            grep -q "^audit_$name()" scripts/audit
            ;;
        scripts/screens) grep -q -- "^$rest)" scripts/screens ;;
        scripts/sweep) scripts/sweep --list | grep -qx "${rest%% *}" ;;
        *) return 1 ;;
        esac
    done <"$temporary/block"
    rows=$(sed -n 's/.*ROWS="\(.*\)".*/\1/p' "$temporary/block")
    [ -n "$rows" ]
    for name in $rows; do
        scripts/bench --list | grep -qx "$name"
    done
}

@test "what stands in the text: scripts, files and subcommands are there, with these options" {
    local span word
    cat README.md scripts/RESULTS.md | grep -v '^ *#' | grep -oE '`[^`]+`' | tr -d '`' | sort -u >"$temporary/spans"
    while read -r span; do
        word=${span%% *}
        case $word in
        scripts/* | tests/* | shim/*)
            compgen -G "$word" >"$temporary/found" || { echo "not there: $word"; return 1; }
            [[ $span != *' --'* ]] || grep -qF -- "$(grep -oE -- '--[a-z-]+' <<<"$span" | head -n 1)" "$word"
            ;;
        weir)
            read -ra words <<<"$span"
            [ ${#words[@]} -gt 1 ] || continue
            "$ROOT/build/weir" --help 2>&1 | grep -q "weir ${words[1]}" || { echo "no command: $span"; return 1; }
            ;;
        WEIR_[A-Z]*)
            word=${word%%=*}
            grep -q "\"$word\"" shim/*/*.c || { echo "no variable: $word"; return 1; }
            ;;
        esac
    done <"$temporary/spans"
    [ "$(wc -l <"$temporary/spans")" -gt 50 ]
}

@test "weir(1): each of its examples does what it is for" {
    local commands
    your_daemon
    ln -s your-daemon "$bin/nginx"
    stands_in jq <<'END'
/usr/bin/python3 -c 'import json, sys
print(json.load(sys.stdin)[sys.argv[1][1:]])' "$@"
END
    mapfile -t commands < <(sed -n 's/^\.Dl \$ //p' build/share/weir.1)
    [ "${#commands[@]}" = 3 ]
    serve_bare server -- bash -c "exec ${commands[0]}"
    wait_port "$port"
    [[ $(bash -c "${commands[2]/status/status $SERVER_PID}") == *"'in_use': 0"* ]]
    bash -c "${commands[1]/4711/$SERVER_PID}"
    log_has server 'ready: .* drain on USR2,TERM, timeout 20s'
    log_has server 'drained in .* 0 forced'
    kill "$SERVER_PID"
    wait_gone "$SERVER_PID" 5
}

@test "no block of commands in the README is left out here" {
    local regex
    sed -nE "s/^    (run_)?block '([^']*)'.*/\\2/p" "$BATS_TEST_FILENAME" | while read -r regex; do
        number_of "$regex"
    done | sort -u >"$temporary/taken"
    diff <(blocks | cut -d ' ' -f 1 | sort -u) "$temporary/taken"
}
