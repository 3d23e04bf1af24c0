#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# weir(1): drain, close-idle, drain-all, status and list, on trees of real servers, and on state
# pages that somebody has tampered with. INTERFACE.md, section 4.
# mutant: shim/command/reader.c: s/return sig >= SIGRTMIN \|\|/return sig > 0 ||/
# seconds: 82
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers
load configs
load command

setup_file() {
    built sanitized
}

setup() {
    port=$((25000 + 20 * BATS_TEST_NUMBER))
    run_dir=$BATS_TEST_TMPDIR/run
    mkdir "$run_dir"
}

teardown() {
    end_started
    [ ${#outside[@]} = 0 ] || rm -rf "${outside[@]}"
}

outside=() # files that other users can reach, for teardown to remove

# is PID PYTHON: what is said of it as JSON, `d`, makes the expression true.
is() {
    exits 0 status "$1" --json
    /usr/bin/python3 -I -S -c '
import json, sys
d = json.loads(sys.argv[1])
if not eval("(" + sys.argv[2] + ")"):
    sys.exit("not so: " + sys.argv[2] + "\n" + json.dumps(d, indent=1))' "$said" "$2"
}

# The first process's only line of --json, field by field.
value() {
    exits 0 status "$1" --json
    /usr/bin/python3 -I -S -c 'import json, sys; d = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' \
        "$said" "$2"
}

as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR "$@"
}

start_redis() {
    serve server "WEIR_RUN_DIR=$run_dir" "$@" -- redis-server --bind 127.0.0.1 ::1 --port "$port" \
        --save '' --dir "$BATS_TEST_TMPDIR" --unixsocket "$BATS_TEST_TMPDIR/socket"
    wait_port "$port"
}

# ask_and_rest VAR: a client that has been answered. ask_and_wait VAR: one that waits for its answer.
ask_and_rest() {
    conn_open "$1" "$port"
    conn_send "${!1}" 'PING\r\n'
    read_line answer "${!1}" 2
}

ask_and_wait() {
    conn_open "$1" "$port"
    conn_send "${!1}" 'BLPOP nothing 0\r\n'
    wait_until 2 is_in_use_at_least 1
}

is_in_use_at_least() {
    [ "$(value "$SERVER_PID" "d['connections']['in_use']")" -ge "$1" ]
}

start_nginx() {
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END
${nginx_main:-daemon off;}
worker_processes 2;
pid $BATS_TEST_TMPDIR/nginx.pid;
error_log stderr notice;
user $(id -un) $(id -gn);
events { worker_connections 256; }
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "It works\n"; }
    }
}
END
    serve server "WEIR_RUN_DIR=$run_dir" -- \
        "${starter[@]}" nginx -e stderr -c "$BATS_TEST_TMPDIR/nginx.conf"
    FIRST_PID=$SERVER_PID
    wait_port "$port"
    if [ -n "${nginx_main:-}" ]; then
        wait_until 5 test -s "$BATS_TEST_TMPDIR/nginx.pid"
        SERVER_PID=$(<"$BATS_TEST_TMPDIR/nginx.pid")
        also_end "$SERVER_PID"
    fi
    wait_until 5 has_workers 2
    # shellcheck disable=SC2207  # numbers
    workers=($(<"/proc/$SERVER_PID/task/$SERVER_PID/children"))
    also_end "${workers[@]}"
}

has_workers() {
    [ "$(wc -w <"/proc/$SERVER_PID/task/$SERVER_PID/children")" = "$1" ]
}

# make_page KIND [ARG...]: a page without the shim (page_make.c); SERVER_PID is its process.
make_page() {
    local name=page$((++pages))
    serve_bare "$name" -- "$PROGRAMS/page_make" "$run_dir" "$@"
    wait_until 5 log_has "$name" '^ready$'
}

# ---- the command line ----

@test "weir --version, and the help of each command, are on stdout" {
    exits 0 --version
    [ "$said" = "weir 0.1.0" ]
    exits 0 --help
    has "$said" 'weir drain PID'
    for command in drain close-idle drain-all restart status list; do
        exits 0 "$command" --help
        has "$said" "Usage: weir $command"
        [ -z "$complained" ]
    done
}

@test "a wrong command line is exit 2, on stderr, and says what is wrong" {
    while read -r arguments; do
        # shellcheck disable=SC2086  # a word each
        exits 2 $arguments
        [ -n "$complained" ]
        [ -z "$said" ]
    done <<'END'

flush 1
drain
drain 1 2
drain 0
drain -5
drain 12x
drain 99999999999999
drain --timeout 3x 1
drain --timeout
drain --timeout= 1
drain --forever 1
close-idle --timeout 3s 1
drain-all
restart
restart me
restart 1 --ready 3x
status 1 2
status me
status --xml
status --json --prometheus
list --wait
END
    exits 2 drain --timeout 3x 1
    has "$complained" 'weir drain: --timeout: "3x" is not a duration (250ms'
    exits 2 status $'\033[2J'
    has "$complained" '\x1b[2J'
}

@test "what can't be written is no answer" {
    start_redis
    code=0
    "$ROOT/build/weir" status "$SERVER_PID" --json >/dev/full 2>"$BATS_TEST_TMPDIR/said" || code=$?
    [ "$code" = 1 ]
    grep -q "can't write" "$BATS_TEST_TMPDIR/said"
}

# ---- status ----

@test "status --json has every key of the contract" {
    local idle busy
    start_redis
    ask_and_rest idle
    ask_and_wait busy
    is "$SERVER_PID" 'set(d) >= {"version", "pid", "program", "mode", "phase", "connections",
        "totals", "losses", "drain", "oldest", "listeners", "processes"}'
    is "$SERVER_PID" "d['version'] == '0.1.0' and d['pid'] == $SERVER_PID"
    is "$SERVER_PID" 'd["program"] == "redis-server" and d["mode"] == "reply"'
    is "$SERVER_PID" 'd["phase"] == "serving" and d["drain"] is None'
    is "$SERVER_PID" 'd["connections"] == {"tracked": 2, "idle": 1, "in_use": 1}'
    is "$SERVER_PID" 'd["totals"] == {"accepted": 2, "closed_by_program": 0, "closed_idle": 0,
        "forced": 0, "disowned": 0}'
    is "$SERVER_PID" 'd["losses"] == {"forced_in_use": 0, "unread": 0, "unsent": 0}'
    is "$SERVER_PID" "{'address': '127.0.0.1:$port', 'mode': 'reply', 'state': 'accepting'} \
        in d['listeners']"
    is "$SERVER_PID" "d['processes'] == [{'pid': $SERVER_PID, 'tracked': 2, 'idle': 1, 'in_use': 1}]"
}

@test "status names the peer of each connection in use, and for how long, the oldest first" {
    local idle first second peer
    start_redis
    ask_and_rest idle
    ask_and_wait first
    pause 1
    ask_and_wait second
    wait_until 2 is_in_use_at_least 2
    is "$SERVER_PID" "[one['pid'] for one in d['oldest']] == [$SERVER_PID, $SERVER_PID]"
    is "$SERVER_PID" '20 > d["oldest"][0]["in_use_s"] >= d["oldest"][1]["in_use_s"] + 0.9'
    is "$SERVER_PID" 'all(one["peer"].startswith("127.0.0.1:") for one in d["oldest"])'
    # The client's own port.
    peer=$(value "$SERVER_PID" 'd["oldest"][0]["peer"]')
    grep -q "^ *[0-9]*: 0100007F:$(printf %04X "${peer#*:}") " /proc/net/tcp
    exits 0 status "$SERVER_PID"
    has "$said" "$peer"
    has "$said" 'IN USE FOR'
}

@test "status names IPv6 peers, and of AF_UNIX the listener's path" {
    local client
    start_redis
    /usr/bin/python3 -c '
import socket, sys, time
six = socket.create_connection(("::1", int(sys.argv[1])))
six.send(b"BLPOP nothing 0\r\n")
unix = socket.socket(socket.AF_UNIX)
unix.connect(sys.argv[2])
unix.send(b"BLPOP nothing 0\r\n")
time.sleep(30)' "$port" "$BATS_TEST_TMPDIR/socket" 3>&- &
    client=$!
    also_end "$client"
    wait_until 5 is_in_use_at_least 2
    is "$SERVER_PID" 'any(one["peer"].startswith("[::1]:") for one in d["oldest"])'
    is "$SERVER_PID" "any(one['peer'] == 'unix:$BATS_TEST_TMPDIR/socket' and \
        one['in_use_s'] is None for one in d['oldest'])"
}

@test "status reaches into another network namespace for the peers" {
    as_root
    serve server "WEIR_RUN_DIR=$run_dir" -- unshare -n sh -c '
        ip link set lo up
        redis-server --bind 127.0.0.1 --port "$0" --save "" &
        python3 -c "
import socket, sys, time
for i in range(50):
    try:
        client = socket.create_connection((\"127.0.0.1\", int(sys.argv[1])))
        break
    except OSError:
        time.sleep(0.1)
client.send(b\"BLPOP nothing 0\\r\\n\")
time.sleep(30)" "$0" & wait' "$port"
    wait_until 5 is_in_use_at_least 1
    is "$SERVER_PID" 'd["oldest"][0]["peer"].startswith("127.0.0.1:")'
}

# without_memory: from here on weir may not read a process's memory.
without_memory() {
    weir() {
        code=0
        said=$("$PROGRAMS/without_memory" "$ROOT/build/weir" "$@") || code=$?
    }
}

@test "a close-idle counts once what is in use, for its log and for who is told by the page" {
    local idle others busy new
    start_redis WEIR_FIRST_BYTE=100ms
    ask_and_rest idle
    ask_and_rest others
    ask_and_wait busy
    pause 0.3
    exits 0 close-idle "$SERVER_PID"
    at_eof "$idle" 2
    at_eof "$others" 2
    wait_until 3 log_has server 'closing idle connections: .*; 2 idle, 1 in use$'
    ask_and_rest new
    is_open "$new"
    without_memory
    is "$SERVER_PID" 'd["connections"] == {"tracked": 2, "idle": 1, "in_use": 1}'
}

@test "status who may not read a process's memory has that tell what is in use" {
    start_redis
    ask_and_rest idle
    ask_and_wait busy
    without_memory
    is "$SERVER_PID" 'd["connections"] == {"tracked": 2, "idle": 1, "in_use": 1} and d["oldest"] == []'
    exits 0 status "$SERVER_PID"
    has "$said" 'in use can'"'"'t be seen in every process: look as root.'
}

@test "a tree is one object, by whichever of its processes it is asked for" {
    local client
    start_nginx
    conn_open client "$port"
    is "$SERVER_PID" "d['pid'] == $SERVER_PID and d['program'] == 'nginx'"
    is "$SERVER_PID" "{one['pid'] for one in d['processes']} >= {${workers[0]}, ${workers[1]}}"
    is "${workers[1]}" "d['pid'] == $SERVER_PID and d['connections']['tracked'] == 1"
    is "${workers[1]}" "[one['tracked'] for one in d['processes'] if one['tracked']] == [1]"
}

@test "a process that does not serve tells its tree by WEIR_TREE" {
    serve server "WEIR_RUN_DIR=$run_dir" -- sh -c '
        redis-server --bind 127.0.0.1 --port "$0" --save "" & sleep 60 & echo "sleep $!"; wait' \
        "$port"
    wait_port "$port"
    sleeper=$(log server | sed -n 's/^sleep //p')
    # It has come as far as its exec.
    wait_until 5 grep -q libweir "/proc/$sleeper/maps"
    wait_until 5 grep -q '^sleep$' "/proc/$sleeper/comm"
    is "$sleeper" "d['pid'] == $SERVER_PID and d['program'] == 'redis-server'" # what listens
}

# has_helper: the server's shell has begun it.
has_helper() {
    helper=$(pgrep -x sleep -P "$SERVER_PID")
}

@test "a process that does not serve tells its tree by WEIR_TREE, also where the page lies in its own root" {
    as_root
    serve_bare server -- unshare --mount sh -c 'mount -t tmpfs none "$0" && export WEIR_RUN_DIR="$0" &&
        LD_PRELOAD=$1 exec sh -c "sleep 60 & exec redis-server --bind 127.0.0.1 --port $2 --save \"\""' \
        "$run_dir" "$WEIR_LIB" "$port"
    wait_port "$port"
    wait_until 5 has_helper
    [ -z "$(ls "$run_dir")" ]
    is "$helper" "d['pid'] == $SERVER_PID and d['program'] == 'redis-server'"
}

@test "a process that tells another's tree by WEIR_TREE is not believed" {
    as_root
    start_redis
    chmod 755 "$BATS_TEST_TMPDIR" "$run_dir"
    tree=("$run_dir/$SERVER_PID".*)
    serve stranger "WEIR_TREE=${tree[0]}" -- setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60
    stranger=$SERVER_PID
    wait_until 5 grep -qx sleep "/proc/$stranger/comm"
    exits 1 drain "$stranger"
    has "$complained" "pid $stranger: it says that it belongs to the tree of pid ${tree[0]##*/}, and does not"
    served "$port" 'PING\r\n'
}

@test "who may look at a process, and not at its tree's page, is told so: exit 5" {
    as_root
    outside+=("/tmp/weir.$$")
    cp "$ROOT/build/weir" "/tmp/weir.$$"
    serve server "WEIR_RUN_DIR=$run_dir" -- sh -c '
        setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60 &
        exec redis-server --bind 127.0.0.1 --port "$0" --save ""' "$port"
    wait_port "$port"
    wait_until 5 has_helper
    chmod 755 "$BATS_TEST_TMPDIR" "$run_dir"
    code=0
    complained=$(as_nobody "/tmp/weir.$$" status "$helper" 2>&1) || code=$?
    [ "$code" = 5 ]
    has "$complained" "pid $helper: not permitted to open its state page $run_dir/$SERVER_PID."
    is "$helper" "d['pid'] == $SERVER_PID"
}

@test "a killed worker's connections count as closed, and the sums come out" {
    # shellcheck disable=SC2034  # conn_open sets them
    local client other
    start_nginx
    conn_open client "$port"
    conn_open other "$port"
    wait_until 2 holds 'd["connections"]["tracked"] == 2'
    kill -KILL "${workers[@]}"
    wait_until 5 holds 'd["connections"]["tracked"] == 0'
    is "$SERVER_PID" 'd["totals"]["accepted"] == 2 and d["totals"]["closed_by_program"] == 2'
}

# holds PYTHON: quietly.
holds() {
    is "$SERVER_PID" "$1" >/dev/null 2>&1
}

@test "a page whose file is gone is found all the same, by root" {
    as_root
    needs_root # /proc/PID/map_files
    make_page sound
    rm "$run_dir/$SERVER_PID".*
    is "$SERVER_PID" 'd["program"] == "page_make"'
    exits 0 drain "$SERVER_PID"
    wait_until 2 log_has page1 woken
    exits 0 list
    has "$said" page_make
}

@test "status and list without a PID show every tree, a line each, wherever its page lies" {
    local first second
    start_redis
    first=$SERVER_PID
    port=$((port + 1))
    run_dir=$BATS_TEST_TMPDIR/other
    start_nginx
    second=$SERVER_PID
    exits 0 status --json
    [ "$(grep -c "\"pid\": $first, \"program\": \"redis-server\"" <<<"$said")" = 1 ]
    [ "$(grep -c "\"pid\": $second, \"program\": \"nginx\"" <<<"$said")" = 1 ]
    while read -r line; do
        /usr/bin/python3 -m json.tool <<<"$line" >/dev/null
    done <<<"$said"
    exits 0 list
    [ "$(grep -Ec "^$first +redis-server +serving +0 +0 +0 +[0-9.]+s +[^ ]+ +127.0.0.1:" <<<"$said")" = 1 ]
    [ "$(grep -Ec "^$second +nginx +serving +0 +0 +0 +[0-9.]+s +[^ ]+ +127.0.0.1:$port$" <<<"$said")" = 1 ]
    exits 0 status
    [ "$(grep -Ec "^$first +[^ ]+ +127.0.0.1:.* +reply +serving +0 +0 +- +-$" <<<"$said")" = 1 ]
    [ "$(grep -Ec "^$second +[^ ]+ +127.0.0.1:$port +reply +serving +0 +0 +- +-$" <<<"$said")" = 1 ]
}

@test "where nothing runs under the shim, nothing is shown, and nothing undefined happens" {
    local shows alone=(unshare --pid --fork --kill-child --mount-proc)
    for shows in list status 'status --json' 'status --prometheus'; do
        # shellcheck disable=SC2086  # two words
        "${alone[@]}" "$ROOT/build/asan/weir" $shows >"$BATS_TEST_TMPDIR/shown"
        not grep -q '"pid"' "$BATS_TEST_TMPDIR/shown"
    done
}

@test "status --watch, which has no last figures at first, does nothing undefined" {
    make_page sound
    code=0
    timeout --signal INT 2 "$ROOT/build/asan/weir" status --watch >"$BATS_TEST_TMPDIR/shown" || code=$?
    [ "$code" = 124 ]
    grep -q page_make "$BATS_TEST_TMPDIR/shown"
}

@test "status --prometheus is what promtool accepts, for one tree and for all" {
    local idle busy
    command -v promtool >/dev/null || skip "there is no promtool"
    start_redis
    ask_and_rest idle
    ask_and_wait busy
    make_page texts
    exits 0 status --prometheus
    promtool check metrics <<<"$said"
    make_page sound
    exits 0 status "$SERVER_PID" --prometheus
    promtool check metrics <<<"$said"
    labels="pid=\"$SERVER_PID\",program=\"page_make\""
    has "$said" "weir_connections{$labels,state=\"idle\"} 3"
    has "$said" "weir_connections{$labels,state=\"in_use\"} 2"
    has "$said" "weir_connections_accepted_total{$labels} 7"
    has "$said" "weir_connections_closed_by_program_total{$labels} 2"
    has "$said" "weir_losses_total{$labels,kind=\"forced_in_use\"} 0"
    has "$said" "weir_phase{$labels,phase=\"serving\"} 1"
    has "$said" "weir_processes{$labels} 1"
}

@test "status --watch shows it again each second, and ends with the program" {
    make_page sound
    before=$(now_ms)
    weir_begins status "$SERVER_PID" --watch --json
    wait_until 20 says '"program": "page_make"' 3
    [ $(($(now_ms) - before)) -ge 1900 ]
    kill -KILL "$SERVER_PID"
    weir_ends 0
    not says $'\033'
}

@test "status --watch draws over itself on a terminal only" {
    make_page sound
    typed_begins status "$SERVER_PID" --watch
    wait_until 20 says $'\033\\[H\033\\[Jpage_make' 2
    kill -INT "$WEIR_PID"
    wait_gone "$WEIR_PID" 5
}

@test "a connection that is handed to a child which has not touched it yet is in use" {
    local client
    serve server "WEIR_RUN_DIR=$run_dir" -- /usr/bin/python3 -c '
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
if os.fork() == 0:
    time.sleep(4)
    connection.send(connection.recv(100))
    time.sleep(60)
connection.close()
print("closed", flush=True)
time.sleep(60)' "$port"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'ping\n'
    wait_until 3 log_has server closed
    is "$SERVER_PID" 'd["connections"] == {"tracked": 1, "idle": 0, "in_use": 1}'
    is "$SERVER_PID" "sum(one['tracked'] for one in d['processes']) == 0"
    is "$SERVER_PID" 'd["totals"]["accepted"] == 1 and d["totals"]["closed_by_program"] == 0'
    read_line answer "$client" 10
    is "$SERVER_PID" 'd["connections"] == {"tracked": 1, "idle": 1, "in_use": 0}'
    is "$SERVER_PID" 'd["totals"]["accepted"] == 1 and d["totals"]["closed_by_program"] == 0'
}

@test "the figures add up in the middle of a busy day" {
    serve server "WEIR_RUN_DIR=$run_dir" -- "$PROGRAMS/fork_each" fork "$port"
    wait_port "$port"
    /usr/bin/python3 -c '
import socket, sys, time
end = time.time() + 2
while time.time() < end:
    clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for i in range(8)]
    for client in clients:
        client.send(b"ping\n")
        client.close()' "$port" 3>&- &
    for _ in {1..8}; do
        exits 0 status "$SERVER_PID" --json
        pause 0.1
    done
    wait $!
    wait_until 5 holds 'd["connections"]["tracked"] == 0'
    is "$SERVER_PID" 'd["totals"]["accepted"] > 0 and d["totals"]["accepted"] ==
        d["connections"]["tracked"] + sum(d["totals"][name] for name in d["totals"]
                                          if name != "accepted")'
}

# ---- drain, close-idle, drain-all ----

@test "drain --wait: exit 0 when nothing in use was forced; again: at once" {
    local idle
    start_redis
    ask_and_rest idle
    exits 0 drain "$SERVER_PID" --wait
    has "$said" 'drained in'
    at_eof "$idle" 1
    alive "$SERVER_PID"
    not_served "$port" 'PING\r\n'
    log_has server 'draining: .*weir.* from pid [1-9][0-9]* uid 0; 1 idle, 0 in use'
    is "$SERVER_PID" 'd["phase"] == "drained" and d["totals"]["closed_idle"] == 1'
    is "$SERVER_PID" '__import__("re").fullmatch("weir drain from pid [1-9][0-9]* uid 0",
        d["drain"]["by"]) and d["drain"]["elapsed_s"] < 5'
    exits 0 drain "$SERVER_PID" --wait
    exits 0 drain "$SERVER_PID"
    has "$complained" 'drained already'
}

@test "drain returns at once, and status then tells how far it is" {
    local busy
    start_redis WEIR_TIMEOUT=20s
    ask_and_wait busy
    before=$(now_ms)
    exits 0 drain "$SERVER_PID" --timeout 10s
    within $(($(now_ms) - before)) 2000
    pause 0.5
    is "$SERVER_PID" 'd["phase"] == "draining" and 10 > d["drain"]["left_s"] > 2'
    is "$SERVER_PID" 'abs(d["drain"]["elapsed_s"] + d["drain"]["left_s"] - 10) < 0.1'
    exits 0 status "$SERVER_PID"
    has "$said" 'draining for'
    has "$said" 's left (weir drain from pid'
    exits 0 drain "$SERVER_PID" --timeout 20s
    has "$complained" 'on already, and keeps its timeout'
    exits 3 drain-all "$SERVER_PID" --wait
    at_eof "$busy" 1
}

@test "drain --timeout 0 waits for ever: there is no time left to tell" {
    local busy
    start_redis WEIR_TIMEOUT=1s
    ask_and_wait busy
    exits 0 drain "$SERVER_PID" --timeout 0
    pause 1.5
    is "$SERVER_PID" 'd["phase"] == "draining" and d["drain"]["left_s"] is None'
    is_open "$busy"
}

@test "drain --wait --timeout: exit 3 when it forced what was in use, with a line a second" {
    local busy
    start_redis
    ask_and_wait busy
    before=$(now_ms)
    exits 3 drain "$SERVER_PID" --wait --timeout 2500ms
    [ $(($(now_ms) - before)) -ge 2400 ]
    within $(($(now_ms) - before)) 5000
    at_eof "$busy" 1
    [ "$(grep -c ': draining: 1 in use' <<<"$said")" -ge 2 ]
    [ "$(grep -c ': draining: 1 in use' <<<"$said")" -le 4 ]
    has "$said" 'drained in 2.'
    lacks "$said" $'\r'
    is "$SERVER_PID" 'd["losses"]["forced_in_use"] == 1 and d["totals"]["forced"] == 1'
    exits 3 drain "$SERVER_PID" --wait
}

@test "drain --wait has one line that moves on a terminal, and leaves it clean" {
    local busy
    start_redis
    ask_and_wait busy
    typed_begins drain "$SERVER_PID" --wait
    wait_until 10 says $'\r\033\\[K.*: .*draining.* \\[-+\\] 0 of 1 closed, .*left\r\033\\[K'
    # Interrupted: the line is gone, and the drain is not.
    kill -INT "$WEIR_PID"
    wait_gone "$WEIR_PID" 5
    wait_until 5 says $'\r\033\\[Kweir: no longer waiting: the drain goes on'
    is "$SERVER_PID" 'd["phase"] == "draining"'
}

@test "drain --wait that is interrupted leaves the drain alone" {
    local busy
    start_redis
    ask_and_wait busy
    weir_begins drain "$SERVER_PID" --wait
    wait_until 10 says ': draining: 1 in use'
    kill -TERM "$WEIR_PID"
    weir_ends 143
    says 'no longer waiting: the drain goes on'
    is "$SERVER_PID" 'd["phase"] == "draining"'
    is_open "$busy"
}

@test "drain acts on the whole tree, whichever of its processes it is told" {
    local clients=() client
    start_nginx
    for _ in 1 2 3 4 5 6; do
        conn_open client "$port"
        conn_send "$client" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
        clients+=("$client")
    done
    wait_until 3 holds 'd["connections"]["tracked"] == 6'
    for client in "${clients[@]}"; do
        while read_line line "$client" 1 && [ "$line" != 'It works' ]; do :; done
    done
    exits 0 drain "${workers[1]}" --wait
    all_at_eof 2 "${clients[@]}"
    not_served "$port" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    alive "$SERVER_PID"
    alive "${workers[0]}"
    is "$SERVER_PID" 'd["totals"]["closed_idle"] == 6 and d["losses"]["forced_in_use"] == 0'
}

@test "a daemon that has forked itself away is drained by its own pid" {
    local client
    nginx_main='daemon on;' start_nginx
    conn_open client "$port"
    conn_send "$client" 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    wait_until 3 holds 'd["connections"]["tracked"] == 1 and d["connections"]["idle"] == 1'
    while read_line line "$client" 1 && [ "$line" != 'It works' ]; do :; done
    exits 0 drain "$SERVER_PID" --wait
    at_eof "$client" 1
    is "$SERVER_PID" 'd["phase"] == "drained"'
}

@test "a daemon that has forked itself away is known by its first pid, also where nobody waits for that one" {
    export WEIR_RUN_DIR=$run_dir
    # Who lets go of a Popen whose process has ended by then has waited for that.
    serve_bare parent -- /usr/bin/python3 -c 'import subprocess, sys, time
first = subprocess.Popen(sys.argv[1:])
print(first.pid, flush=True)
time.sleep(60)' env "LD_PRELOAD=$WEIR_LIB" redis-server --bind 127.0.0.1 --port "$port" --save '' \
        --daemonize yes --pidfile "$BATS_TEST_TMPDIR/pid" --logfile /dev/null
    wait_port "$port"
    wait_until 5 test -s "$BATS_TEST_TMPDIR/pid"
    daemon=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$daemon"
    first=$(<"$BATS_TEST_TMPDIR/parent.log")
    wait_until 5 grep -q '^State:.Z' "/proc/$first/status"
    is "$first" "d['pid'] == $daemon"
}

@test "a daemon that a script has started is listed by its own name and pid, and known by the first" {
    starter=(sh -c '"$@"; exit' -)
    nginx_main='daemon on;' start_nginx
    wait_gone "$FIRST_PID"
    wait "$FIRST_PID"
    WEIR_RUN_DIR=$run_dir exits 0 list
    grep -Eq "^$SERVER_PID +nginx +serving " <<<"$said"
    is "$FIRST_PID" 'd["pid"] == '"$SERVER_PID"' and d["program"] == "nginx"'
    exits 0 drain "$FIRST_PID" --wait
    has "$said" "nginx, pid $SERVER_PID: drained in "
}

@test "a --timeout that is not longer than the program's WEIR_DELAY is refused" {
    make_page delay 3000
    exits 2 drain "$SERVER_PID" --timeout 3s
    has "$complained" 'not longer than WEIR_DELAY'
    not log_has page1 woken
    exits 0 drain "$SERVER_PID" --timeout 4s
}

@test "close-idle --wait closes what is idle, and no more" {
    local idle busy
    start_redis WEIR_FIRST_BYTE=100ms
    ask_and_rest idle
    ask_and_wait busy
    pause 0.3
    exits 0 close-idle "$SERVER_PID" --wait
    at_eof "$idle" 1
    is_open "$busy"
    served "$port" 'PING\r\n'
    is "$SERVER_PID" 'd["phase"] == "serving" and d["connections"]["in_use"] == 1'
}

@test "close-idle --wait gives up on what stays idle after a second without a change" {
    make_page sound
    before=$(now_ms)
    exits 0 close-idle "$SERVER_PID" --wait
    has "$said" '3 idle, 2 in use'
    [ $(($(now_ms) - before)) -ge 950 ]
    within $(($(now_ms) - before)) 3000
}

@test "drain-all closes what is in use, too" {
    local busy
    start_redis
    ask_and_wait busy
    exits 0 drain-all "$SERVER_PID"
    at_eof "$busy" 2
    wait_drained server 3
}

@test "a program that ends once it is drained was drained: exit 0, or 3 if it forced" {
    make_page drains 300 0
    exits 0 drain "$SERVER_PID" --wait
    make_page drains 300 2
    exits 3 drain "$SERVER_PID" --wait
    has "$said" '2 forced, 2 of them in use'
}

@test "a program that dies in the middle: exit 1, and it is said" {
    make_page ends
    exits 1 drain "$SERVER_PID" --wait
    has "$complained" 'died in the middle of the drain'
}

@test "a server that is killed in the middle of its drain: exit 1" {
    local busy
    start_redis
    ask_and_wait busy
    weir_begins drain "$SERVER_PID" --wait
    wait_until 10 says ': draining: 1 in use'
    kill -KILL "$SERVER_PID"
    weir_ends 1
    says 'died in the middle of the drain'
}

# begin_parts COMMAND...: a shell, started like that, with a redis and a server of another user's.
begin_parts() {
    chmod 755 "$BATS_TEST_TMPDIR"
    cat >"$BATS_TEST_TMPDIR/serve.py" <<'END'
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection = listener.accept()[0]
    while connection.recv(100):
        connection.send(b"pong\n")
    connection.close()
END
    outside+=("/tmp/weir-serve.$$.py")
    cp "$BATS_TEST_TMPDIR/serve.py" "/tmp/weir-serve.$$.py"
    serve_bare server -- "$@" sh -c '
        redis-server --bind 127.0.0.1 --port "$0" --save "" &
        setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 "$1" $(($0 + 1)) &
        wait' "$port" "/tmp/weir-serve.$$.py"
    wait_port "$port"
    wait_port $((port + 1))
}

@test "processes that could not open the tree's page are a part of it all the same" {
    as_root
    begin_parts env "LD_PRELOAD=$WEIR_LIB"
    wait_until 5 holds '"python3" in [open("/proc/%d/comm" % one["pid"]).read().strip()
        for one in d["processes"]]'
    conn_open client $((port + 1))
    conn_send "$client" 'ping\n'
    read_line answer "$client" 2
    is "$SERVER_PID" 'd["connections"]["tracked"] == 1'
    # shellcheck disable=SC2046  # numbers
    also_end $(pgrep -P "$SERVER_PID")
    # Asked for by one of them it is the same tree; who may not open that one's page may not drain it.
    part=$(pgrep -P "$SERVER_PID" -x python3)
    is "$part" "d['pid'] == $SERVER_PID and len(d['processes']) == 3"
    outside+=("/tmp/weir.$$")
    cp "$ROOT/build/weir" "/tmp/weir.$$"
    code=0
    complained=$(as_nobody "/tmp/weir.$$" drain "$part" 2>&1) || code=$?
    [ "$code" = 5 ]
    has "$complained" "pid $part: it belongs to the tree of pid $SERVER_PID, whose state page this user may not open"
    exits 0 drain "$SERVER_PID" --wait
    at_eof "$client" 1
}

@test "so are those of a tree whose first process is pid 1, as in a container" {
    as_root
    begin_parts unshare --pid --fork --kill-child --mount-proc env "LD_PRELOAD=$WEIR_LIB"
    inside() {
        code=0
        said=$(nsenter -t "$(pgrep -P "$SERVER_PID")" --pid --mount "$ROOT/build/weir" "$@") || code=$?
    }
    conn_open client $((port + 1))
    conn_send "$client" 'ping\n'
    read_line answer "$client" 2
    inside list
    [ "$(grep -cE '^[0-9]' <<<"$said")" = 1 ]
    grep -qE "^1 .* 1 .* 127.0.0.1:$port,127.0.0.1:$((port + 1))$" <<<"$said"
    inside drain 1 --wait
    [ "$code" = 0 ]
    has "$said" ' 1 closed clean, 0 forced'
    at_eof "$client" 1
}

# ---- who may not, and what can't ----

@test "exit 4: no such process, and one without the shim" {
    sleep 60 3>&- &
    also_end $!
    for command in drain close-idle drain-all status list; do
        exits 4 "$command" 4194304
        has "$complained" 'pid 4194304: no such process'
        exits 4 "$command" $!
        has "$complained" "pid $!: it does not run under the shim"
        [ -z "$said" ]
    done
}

@test "exit 4: a process that has ended, and that nobody has waited for" {
    serve server "WEIR_RUN_DIR=$run_dir" -- /usr/bin/python3 -c 'import os, time
print(os.fork() or os._exit(0), flush=True)
time.sleep(60)'
    wait_until 5 log_has server '^[0-9]+$'
    zombie=$(grep -E '^[0-9]+$' "$BATS_TEST_TMPDIR/server.log")
    wait_until 5 grep -q '^State:.Z' "/proc/$zombie/status"
    exits 4 status "$zombie"
    has "$complained" "pid $zombie: no such process"
    exits 1 check "$zombie"
    has "$said" "will not work: pid $zombie has no program: it is the kernel's, or ending"
}

@test "exit 5: another user's process" {
    as_root
    start_redis
    outside+=("/tmp/weir.$$")
    cp "$ROOT/build/weir" "/tmp/weir.$$"
    for command in drain close-idle drain-all status; do
        code=0
        as_nobody "/tmp/weir.$$" "$command" "$SERVER_PID" >"$BATS_TEST_TMPDIR/said" 2>&1 || code=$?
        cat "$BATS_TEST_TMPDIR/said"
        [ "$code" = 5 ]
        grep -q 'not permitted' "$BATS_TEST_TMPDIR/said"
    done
    lacks "$(as_nobody "/tmp/weir.$$" status --json)" redis-server
    is "$SERVER_PID" 'd["phase"] == "serving"'
}

@test "a user sees and drains trees of his own" {
    as_root
    outside+=("/tmp/weir.$$" "/tmp/libweir.$$.so")
    cp "$ROOT/build/weir" "/tmp/weir.$$"
    cp "$ROOT/build/libweir.so" "/tmp/libweir.$$.so"
    serve_bare server -- setpriv --reuid=65534 --regid=65534 --clear-groups \
        env -u XDG_RUNTIME_DIR "LD_PRELOAD=/tmp/libweir.$$.so" \
        redis-server --bind 127.0.0.1 --port "$port" --save '' --dir /tmp
    wait_port "$port"
    ask_and_rest idle
    has "$(as_nobody "/tmp/weir.$$" list)" redis-server
    as_nobody "/tmp/weir.$$" drain "$SERVER_PID" --wait
    at_eof "$idle" 1
}

@test "exit 1: a page of another layout, naming both versions and what still works" {
    local layout
    layout=$(sed -n 's/^#define PAGE_LAYOUT //p' "$ROOT/shim/base/state_page.h")
    make_page layout 999
    for command in status drain; do
        exits 1 "$command" "$SERVER_PID"
        has "$complained" "weir 0.1.0 (layout 999), and this is weir 0.1.0 (layout $layout)"
        has "$complained" "send pid $SERVER_PID its WEIR_SIGNAL (USR2, unless"
        has "$complained" 'use the `weir` that came with its libweir.so'
    done
    make_page size 123
    exits 1 status "$SERVER_PID"
}

# names_other TEXT: once, the tree of another version.
names_other() {
    [ "$(grep -c "pid $other: its state page is of weir 0.1.0 (layout 999)" <<<"$1")" = 1 ]
}

@test "status without a PID names a tree of another version once, and shows the others" {
    local other
    make_page layout 999
    other=$SERVER_PID
    exits 0 status
    names_other "$complained"
    make_page sound
    exits 0 list
    names_other "$complained"
    grep -q "^$SERVER_PID  *page_make" <<<"$said"
    not grep -q "^$other " <<<"$said"
    weir_begins list --watch
    wait_until 10 says "^$SERVER_PID +page_make" 3
    names_other "$(<"$saying")"
}

@test "status without a PID says so where there is no other tree than one of another version" {
    as_root
    unshare --pid --fork --kill-child --mount-proc sh -c '"$0" "$1" layout 999 >"$1/says" &
        until grep -qs ready "$1/says"; do sleep 0.1; done
        "$2" status' "$PROGRAMS/page_make" "$run_dir" "$ROOT/build/weir" >"$BATS_TEST_TMPDIR/said" 2>&1
    has "$(<"$BATS_TEST_TMPDIR/said")" 'its state page is of weir 0.1.0 (layout 999)'
    has "$(<"$BATS_TEST_TMPDIR/said")" 'no other process that this user may see runs under the shim'
    [ "$(wc -l <"$BATS_TEST_TMPDIR/said")" = 2 ]
}

@test "exit 1: a page that has no file, and what to do" {
    run_dir=/proc/nowhere
    start_redis
    pause 0.2
    exits 1 status "$SERVER_PID"
    has "$complained" 'WEIR_RUN_DIR set to a directory that can'
    exits 1 drain "$SERVER_PID"
    has "$complained" 'send it WEIR_SIGNAL'
    served "$port" 'PING\r\n'
}

@test "exit 1: a program without a control signal, and what to do" {
    start_redis WEIR_CONTROL_SIGNAL=none
    exits 1 drain "$SERVER_PID"
    has "$complained" 'WEIR_CONTROL_SIGNAL=none'
    is "$SERVER_PID" 'd["phase"] == "serving"'
    served "$port" 'PING\r\n'
}

@test "another pid namespace: status works, a drain is refused, and what to do" {
    as_root
    serve server "WEIR_RUN_DIR=$run_dir" -- unshare -p -f --kill-child --mount-proc \
        redis-server --bind 127.0.0.1 --port "$port" --save ''
    wait_port "$port"
    inner=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
    inner=${inner% }
    also_end "$inner"
    conn_open client "$port"
    conn_send "$client" 'BLPOP nothing 0\r\n'
    SERVER_PID=$inner
    wait_until 3 is_in_use_at_least 1
    is "$inner" 'd["oldest"][0]["peer"].startswith("127.0.0.1:")'
    exits 1 drain "$inner"
    has "$complained" 'run `weir` inside its container'
    is "$inner" 'd["phase"] == "serving"'
}

# ---- pages that somebody has tampered with ----

@test "texts of a page can't reach the terminal, or another field" {
    make_page texts
    is "$SERVER_PID" 'd["program"].startswith("\\x1b]0;owned\\x07\\x1b[2J\"},{\"a\\\n\r") is False'
    is "$SERVER_PID" "d['program'].startswith('\\\\x1b]0;owned\\\\x07\\\\x1b[2J\"},{\"a') and d['pid'] == $SERVER_PID"
    for format in '' --json --prometheus; do
        # shellcheck disable=SC2086  # none, or a word
        exits 0 status "$SERVER_PID" $format
        [ -z "$(LC_ALL=C tr -d '\n -~' <"$BATS_TEST_TMPDIR/said")" ]
    done
    exits 0 list
    [ -z "$(LC_ALL=C tr -d '\n -~' <"$BATS_TEST_TMPDIR/said")" ]
}

@test "nobody is signalled because a page names him" {
    # One that would die of the signal, and one that would notice.
    sleep 60 3>&- &
    sleeper=$!
    serve_bare innocent -- /usr/bin/python3 -c '
import signal, time
signal.signal(signal.SIGRTMAX - 3, lambda *_: print("signalled", flush=True))
print("ready", flush=True)
time.sleep(60)'
    innocent=$SERVER_PID
    also_end "$sleeper"
    wait_until 5 log_has innocent ready
    make_page lists "$sleeper" "$innocent" 1
    is "$SERVER_PID" "[one['pid'] for one in d['processes']] == [$SERVER_PID]"
    exits 0 drain "$SERVER_PID"
    wait_until 2 log_has page1 woken
    pause 0.2
    alive "$sleeper"
    alive "$innocent"
    not log_has innocent signalled
}

@test "a process whose program uses the control signal itself is not sent it" {
    make_page deaf
    exits 1 drain "$SERVER_PID"
    has "$complained" 'no process of it listens to the control signal (RTMIN+27)'
    pause 0.1
    not log_has page1 woken
}

@test "a control signal that kills is not sent" {
    for signal in 9 15 19 0 -1 64 65 1000000; do
        make_page signal "$signal"
        exits 1 drain "$SERVER_PID"
        pause 0.1
        alive "$SERVER_PID"
        not log_has "page$pages" woken
    done
}

@test "a file that is no page, but has the name of one, is none" {
    make_page other
    exits 4 status "$SERVER_PID"
    exits 4 drain "$SERVER_PID"
}

@test "a page that is cut off, or no page at all, is refused" {
    make_page cut
    exits 1 status "$SERVER_PID"
    exits 1 drain "$SERVER_PID"
    make_page sound
    chmod 666 "$run_dir/$SERVER_PID".*
    exits 1 status "$SERVER_PID"
    has "$complained" 'not a sound state page'
    make_page sound
    : >"$run_dir/1.1"
    head -c 100000 /dev/urandom >"$run_dir/2.2"
    ln -s /etc/passwd "$run_dir/3.3"
    mkfifo "$run_dir/4.4"
    mkdir "$run_dir/5.5"
    is "$SERVER_PID" 'd["program"] == "page_make"'
    WEIR_RUN_DIR=$run_dir exits 0 status --json
    [ "$(grep -c page_make <<<"$said")" = 1 ]
}

@test "a page that is cut off while a drain is waited for: exit 1, and it is said" {
    make_page drains 60000 0
    weir_begins drain "$SERVER_PID" --wait
    wait_until 5 says 'draining: 2 in use'
    truncate -s 100 "$run_dir/$SERVER_PID".*
    weir_ends 1
    says "pid $SERVER_PID: its state page was cut off: somebody has tampered with it"
}

@test "a stranger's page can't say that it belongs to another tree" {
    as_root
    make_page sound
    victim=$SERVER_PID
    name=$(basename "$run_dir/$victim".*)
    outside+=("/dev/shm/weir-stranger$$" "/tmp/page_make.$$")
    mkdir -m 777 "/dev/shm/weir-stranger$$"
    cp "$PROGRAMS/page_make" "/tmp/page_make.$$"
    serve_bare stranger -- setpriv --reuid=65534 --regid=65534 --clear-groups \
        "/tmp/page_make.$$" "/dev/shm/weir-stranger$$" named "${name%%.*}" "$(cut -d. -f2 <<<"$name")"
    wait_until 5 log_has stranger ready
    is "$victim" 'len(d["processes"]) == 1'
    exits 0 drain "$SERVER_PID"
    wait_until 2 log_has stranger woken
    not log_has page1 woken
    is "$victim" 'd["phase"] == "serving"'
}

@test "a page that a thread writes over with anything, all the time, confuses nobody" {
    serve_bare fuzz ASAN_OPTIONS=exitcode=99 -- \
        "$PROGRAMS/page_make" "$run_dir" fuzz 8 "$BATS_TEST_TMPDIR/out" \
        "$ROOT/build/asan/weir" "$ROOT/build/ubsan/weir"
    wait_gone "$SERVER_PID" 45
    log fuzz
    tail -n 40 "$BATS_TEST_TMPDIR/out.err"
    log_has fuzz '^seed [0-9]+ runs [0-9]{2,} bad 0$'
    /usr/bin/python3 -c '
import json, sys
texts = open(sys.argv[1]).read().splitlines()
assert texts
for text in texts:
    json.loads(text)' "$BATS_TEST_TMPDIR/out--json"
    cat "$BATS_TEST_TMPDIR/out"* >"$BATS_TEST_TMPDIR/all"
    [ -z "$(LC_ALL=C tr -d '\n -~' <"$BATS_TEST_TMPDIR/all")" ]
}

@test "a page whose first process has ended is its children's" {
    make_page leaves
    child=$(log page1 | sed -n 's/^child //p')
    also_end "$child"
    wait_gone "$SERVER_PID"
    is "$child" "d['pid'] == $child and [one['pid'] for one in d['processes']] == [$child]"
    is "$SERVER_PID" "d['pid'] == $child" # that ever was its first
    WEIR_RUN_DIR=$run_dir "$ROOT/build/weir" list
    [ -e "$(echo "$run_dir/$SERVER_PID".*)" ]
    exits 0 drain "$child"
    wait_until 2 log_has page1 woken
}

@test "a page whose name does not tell the namespace yet is read" {
    make_page sound
    file=$(echo "$run_dir/$SERVER_PID".*)
    mv "$file" "${file%.*}"
    is "$SERVER_PID" 'd["program"] == "page_make"'
    mv "${file%.*}" "${file%.*}0"
    exits 1 status "$SERVER_PID"
    has "$complained" 'not a sound state page'
}

@test "a page that nobody has mapped is not shown, and is removed" {
    make_page sound
    stale=("$run_dir/$SERVER_PID".*)
    dead=$SERVER_PID
    kill -KILL "$dead"
    wait_gone "$dead"
    make_page sound
    live=("$run_dir/$SERVER_PID".*)
    export WEIR_RUN_DIR=$run_dir
    exits 0 status --json
    lacks "$said" "\"pid\": $dead,"
    has "$said" "\"pid\": $SERVER_PID,"
    [ ! -e "${stale[0]}" ]
    [ -e "${live[0]}" ]
}
