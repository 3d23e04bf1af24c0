#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Programs that are pid 1 in a container, and the examples for container engines and Kubernetes: what
# their files say is run, word for word, in namespaces of its own.
# mutant: shim/drain/stop_signals.c: s/exit_group, 128 \+ sig/exit_group, sig/
# needs: python3-yaml
# seconds: 32
# shellcheck shell=bash disable=SC2013,SC2030,SC2031,SC2153,SC2154

load helpers
unset WEIR_MODE # the default, protocol

WEIR=$ROOT/build/weir
containerfile=$ROOT/scripts/container/Containerfile
deployment=$ROOT/scripts/kubernetes/deployment.yaml

setup() {
    port=$((14000 + 10 * BATS_TEST_NUMBER))
}

# first_of PID: the first process in the pid namespace that unshare, PID, has made.
first_of() {
    local children
    children=$(<"/proc/$1/task/$1/children")
    [ -n "$children" ] && first=${children%% *}
}

# contain [VAR=value...] -- COMMAND...: COMMAND is pid 1 of a pid namespace; `first` is its pid here.
contain() {
    local variables=()
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    # What was answered once is idle a second later, unless it is said.
    serve_bare server WEIR_FIRST_BYTE=100ms "${variables[@]}" PATH="$ROOT/build:$PROGRAMS:$PATH" -- \
        unshare --pid --fork --mount-proc --kill-child "$@"
    wait_until 10 first_of "$SERVER_PID"
    also_end "$first"
}

ends_as() {
    local status=0
    wait_gone "$SERVER_PID"
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$1" ] || { echo "exit status $status" >&2; return 1; }
}

# runs NAME: pid 1 is that program.
runs() {
    [[ $(readlink "/proc/$first/exe") = */$1 ]]
}

# catches_term: pid 1 has a handler for SIGTERM.
catches_term() {
    local key value
    while read -r key value; do
        [ "$key" != SigCgt: ] || break
    done <"/proc/$first/status"
    ((16#$value >> 14 & 1))
}

# ask_slowly: a request of oldhttpd's on $fd, whose answer takes a while.
ask_slowly() {
    conn_open fd "$port"
    conn_send "$fd" 'GET /slow?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n'
    pause 0.3
}

answered() {
    local line
    read_line line "$1" 10
    [ "$line" = 'HTTP/1.1 200 OK' ]
}

# ---- pid 1 ----

@test "pid 1 with children and no handler: each finishes its request, and the container ends with 143" {
    contain -- weir run --stop-signals TERM -- /usr/bin/python3 "$ROOT/tests/programs/web_server.py" \
        "$port" /dev/null 2
    wait_port "$port"
    wait_until 10 log_has server 'weir.1. .*: ready: '
    local clients=() fd
    for _ in 1 2 3 4; do
        conn_open fd "$port"
        conn_send "$fd" 'GET /slow?1 HTTP/1.1\r\nHost: a\r\n\r\n'
        clients+=("$fd")
    done
    pause 0.3
    kill -TERM "$first"
    for fd in "${clients[@]}"; do
        answered "$fd"
    done
    ends_as 143
    log_has server '^weir.1. .*: drained in .*: 4 closed clean, 0 forced; SIGTERM goes to the program'
}

# is_stopped SHELL SCRIPT: the script's server takes the shell's place, and drains.
is_stopped() {
    contain -- "$@"
    wait_port "$port"
    wait_until 5 runs oldhttpd
    ask_slowly
    kill -TERM "$first"
    answered "$fd"
    ends_as 143
    log_has server '^weir.1. oldhttpd: drained in .*: 1 closed clean, 0 forced'
    port=$((port + 1))
}

@test "exec weir run leaves pid 1 to the server: in a start script, and in a command line for a shell" {
    local line="exec weir run --stop-signals TERM -- oldhttpd"
    printf 'true\n%s %d\n' "$line" "$port" >"$BATS_TEST_TMPDIR/start"
    is_stopped dash "$BATS_TEST_TMPDIR/start"
    is_stopped dash -c "$line $port"
    is_stopped bash -c "true; $line $port"
    is_stopped busybox sh -c "$line $port"
}

@test "a shell that stays pid 1 drains its server where the shim is in the image's environment" {
    contain -- env LD_PRELOAD="$WEIR_LIB" WEIR_STOP_SIGNALS=TERM dash -c "oldhttpd $port; true"
    wait_port "$port"
    runs dash
    ask_slowly
    kill -TERM "$first"
    answered "$fd"
    ends_as 143
    log_has server '^weir.1. dash: drained in .*: 1 closed clean, 0 forced; SIGTERM goes to the program'
}

@test "a stop signal ends pid 1 also where it passes straight through: drained before, or nothing to drain" {
    contain -- weir run --stop-signals TERM -- oldhttpd "$port"
    wait_port "$port"
    kill -USR2 "$first"
    wait_drained server
    log_has server 'the program runs on'
    alive "$first"
    kill -TERM "$first"
    ends_as 143
    contain -- weir run --stop-signals TERM -- sleep 100
    wait_until 5 runs sleep
    wait_until 5 catches_term # until it does the kernel drops it
    kill -TERM "$first"
    ends_as 143
    # A signal that is none of Weir's is left to the kernel, which drops it.
    contain -- weir run --stop-signals TERM -- sleep 1
    wait_until 5 runs sleep
    kill -INT "$first"
    ends_as 0
}

# ---- the examples ----

# says EXPRESSION [FILE...]: of what the files say, python's `it`.
says() {
    local expression=$1
    shift
    /usr/bin/python3 "$ROOT/tests/programs/container.py" show "$containerfile" "$@" |
        /usr/bin/python3 -c '
import json, re, sys
def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}[unit]
it = json.load(sys.stdin)
env = it["env"]
value = eval(sys.argv[1])
print(value)
sys.exit(value is False)' "$expression" || { echo "not so: $expression" >&2; return 1; }
}

# container [DEPLOYMENT]: runs it.
container() {
    needs_root # its file system is an overlay
    mkdir "$BATS_TEST_TMPDIR/root"
    serve_bare server -- unshare --mount --pid --fork --kill-child \
        /usr/bin/python3 "$ROOT/tests/programs/container.py" run "$BATS_TEST_TMPDIR/root" "$containerfile" "$@"
    port=$(says 'it["expose"]')
    wait_port "$port"
    wait_until 10 first_of "$SERVER_PID"
    also_end "$first"
    wait_until 10 log_has server '^weir.1. nginx: ready: mode protocol, drain on USR2,TERM'
}

# half_a_request: on $half, after a whole one on $idle.
half_a_request() {
    local line
    conn_open idle "$port"
    conn_send "$idle" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    answered "$idle"
    while read_line line "$idle" 5 && [ "$line" != 'It works' ]; do :; done
    conn_open half "$port"
    conn_send "$half" 'GET / HTTP/1.1\r\nHost: a\r\n'
    wait_until 5 one_in_use
}

one_in_use() {
    "$WEIR" status --json "$first" | grep -q '"tracked": 2, .*"in_use": 1'
}

in_phase() {
    "$WEIR" status --json "$first" | grep -q "\"phase\": \"$1\""
}

@test "the Containerfile's server is stopped by its STOPSIGNAL and loses no request" {
    container
    [ "$(says 'it["argv"][:3] == ["weir", "run", "--"]')" = True ]
    runs nginx
    grep -q '^NoNewPrivs:.*1' "/proc/$first/status"
    half_a_request
    kill -s "$(says 'it["stopsignal"]')" "$first"
    wait_until 5 log_has server 'draining: '
    alive "$first"
    conn_send "$half" '\r\n'
    answered "$half"
    at_eof "$idle" 10 # it could have been told, by an answer, for WEIR_NOTICE
    ends_as 0
    log_has server '^weir.1. nginx: drained in .*: 2 closed clean, 0 forced; SIGTERM goes to the program'
}

@test "clients of the Containerfile's server that do not look before they send lose nothing either" {
    container
    new_log clients
    "$PROGRAMS/load" --connections 50 --pause 3 --seconds 20 "$port" 3>&- \
        >"$BATS_TEST_TMPDIR/clients.log" 2>&1 &
    local loader=$!
    also_end "$loader"
    pause 1
    kill -s "$(says 'it["stopsignal"]')" "$first"
    ends_as 0
    wait "$loader" || true
    cat "$BATS_TEST_TMPDIR/clients.log"
    log_has clients 'unanswered=0 .*reset=0'
}

@test "the Containerfile's times fit: --stop-timeout is longer than WEIR_TIMEOUT, Docker's default is not" {
    says '"SIG" + env["WEIR_STOP_SIGNALS"] == it["stopsignal"]'
    says 'min(int(n) for n in re.findall(r"(?:--stop-timeout|stop_grace_period:) (\d+)", it["comments"])) >= seconds(env["WEIR_TIMEOUT"]) + 5'
    says 'seconds(env["WEIR_TIMEOUT"]) > 10 and "10 s" in it["comments"]'
    # What it installs and what it copies is there.
    grep -q 'nginx-light' "$containerfile"
    says 'sorted(copy[0] for copy in it["copies"]) == ["build/libweir.so", "build/weir", "scripts/container/nginx.conf"]'
}

@test "the deployment's pod serves on through WEIR_DELAY, then drains, within its grace period" {
    container "$deployment"
    runs nginx
    # Its root can't be written to, and its state page is where the file says.
    awk '$5 == "/" && $6 ~ /^ro/ { found = 1 } END { exit !found }' "/proc/$first/mountinfo"
    [ "$(find "/proc/$first/root$(says 'env["WEIR_RUN_DIR"]' "$deployment")/" -type f | wc -l)" = 1 ]
    # The readiness probe.
    curl -sf "http://127.0.0.1:$(says 'it["container"]["readinessProbe"]["httpGet"]["port"]' \
        "$deployment")$(says 'it["container"]["readinessProbe"]["httpGet"]["path"]' "$deployment")" >/dev/null
    half_a_request
    kill -s "$(says 'it["stopsignal"]')" "$first"
    wait_until 5 log_has server 'SIGTERM from '
    # The endpoints have not heard of it yet.
    in_phase delaying
    [ "$(curl -s "http://127.0.0.1:$port/")" = 'It works' ]
    wait_until 10 in_phase draining
    conn_send "$half" '\r\n'
    answered "$half"
    # New clients are held off in a moment, while the idle one can still be told.
    pause 0.5
    not_served "$port" 'GET / HTTP/1.0\r\n\r\n'
    at_eof "$idle" 10
    ends_as 0
    log_has server '^weir.1. nginx: drained in .*: 3 closed clean, 0 forced; SIGTERM goes to the program'
}

@test "the deployment's figures fit to each other" {
    says 'it["pod"]["terminationGracePeriodSeconds"] >= seconds(env["WEIR_TIMEOUT"]) + 5' "$deployment"
    says '0 < seconds(env["WEIR_DELAY"]) < seconds(env["WEIR_TIMEOUT"]) - 10' "$deployment"
    says '"SIG" + env["WEIR_STOP_SIGNALS"] == it["stopsignal"]' "$deployment"
    says '"lifecycle" not in it["container"]' "$deployment"
    says '{str(port["containerPort"]) for port in it["container"]["ports"]} == {it["expose"]}' "$deployment"
    # runAsNonRoot wants a user by number, and the programs' files want a volume.
    says 'it["pod"]["securityContext"]["runAsNonRoot"] and int(it["user"].split(":")[0]) > 0' "$deployment"
    says 'any(env["WEIR_RUN_DIR"].startswith(volume + "/") for volume in it["volumes"])' "$deployment"
    local path paths
    mapfile -t paths < <(sed -nE 's/^ *(pid|[a-z]+(_body)?_temp_path) +(.*);/\3/p' "$ROOT/scripts/container/nginx.conf")
    [ ${#paths[@]} -ge 2 ]
    for path in "${paths[@]}"; do
        says "any('$path'.startswith(volume + '/') for volume in it['volumes'])" "$deployment"
    done
    # Of each variable the value is one that weir run takes.
    mapfile -t variables < <(says '"\n".join(f"{name}={value}" for name, value in env.items())' "$deployment")
    [ "$(env "${variables[@]}" WEIR_RUN_DIR="$BATS_TEST_TMPDIR/pages" "$WEIR" run echo fine)" = fine ]
}
