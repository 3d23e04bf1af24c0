# SPDX-License-Identifier: MIT
# Listeners that others have, too: a successor, a child, whoever was sent one. What drains stops
# accepting, and leaves the socket as it is to who goes on; nobody in an accept queue is reset; and
# a program that polls meets no error that it does not meet on a quiet day.
# mutant: shim/drain/listener_stop.c: s/held \? THEN_LEAVE/held ? THEN_SHUT/
# seconds: 37
# needs: gunicorn unicorn gpsd distcc haproxy nginx-light
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load processes

setup() {
    port=$((16000 + 10 * BATS_TEST_NUMBER))
    at=127.0.0.1:$port
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/* "$BATS_TEST_TMPDIR" # nobody runs servers too
    mkdir -m 1777 "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    path=$BATS_TEST_TMPDIR/path
}

shared() {
    echo /usr/bin/python3 "$ROOT/tests/programs/shared.py" "$@"
}

# start HOW [VAR=value...]: shared.py under the shim, which is up.
start() {
    local how=$1
    shift
    # shellcheck disable=SC2046  # words
    serve server WEIR_TIMEOUT=8s WEIR_STOP_SIGNALS=TERM "$@" -- $(shared "$how" "$port" "$path")
    wait_until 10 is_up server 1
}

# is_up NAME N: so many have said so.
is_up() {
    [ "$(grep -c '^up ' "$BATS_TEST_TMPDIR/$1.log")" -ge "$2" ]
}

# answers_as REGEX: who answers a client says that.
answers_as() {
    local line fd
    exec {fd}<>"/dev/tcp/127.0.0.1/$port" || return 1
    echo ping >&"$fd"
    line=
    read_line line "$fd" 3
    exec {fd}>&-
    [[ $line =~ ^$1$ ]] || { echo "answered: \"$line\", not \"$1\"" >&2; return 1; }
}

# all_from PID: ten clients are answered by it, one after the other, now and a little later.
all_from() {
    local i
    for i in 1 2 3 4 5 6 7 8 9 10; do
        answers_as "pong $1"
        [ "$i" != 5 ] || sleep 0.5
    done
}

second_up() {
    wait_until 10 is_up server 2
    second=$(grep '^up ' "$BATS_TEST_TMPDIR/server.log" | sed -n '2s/up //p')
    also_end "$second"
}

# ---- a successor

# succeeds HOW [VAR=value...]: the old one is stopped; its successor serves on.
succeeds() {
    local old
    start "$@"
    old=$SERVER_PID
    all_from "$old"
    kill -HUP "$old"
    second_up
    kill -TERM "$old"
    wait_gone "$old" 10
    log_has server "^weir\[$old\] .*: drained in "
    all_from "$second"
}

@test "a successor that was forked and execed serves on when the old one is stopped" {
    succeeds succeed
    # It is a tree of its own, and drains by itself.
    not grep -q "$second" <("$ROOT/build/weir" status "$SERVER_PID" 2>/dev/null)
    kill -TERM "$second"
    wait_gone "$second" 10
    log_has server "^weir\[$second\] .*: drained in "
    not listening "$port"
}

@test "a successor that has lost the shim serves on when the old one is stopped" {
    succeeds succeed-bare
    not grep -q libweir "/proc/$second/maps"
}

@test "a successor of a server that a script has started serves on when that is stopped" {
    cat >"$BATS_TEST_TMPDIR/entry" <<'END'
#!/bin/sh
"$@" &
server=$!
trap 'kill -TERM $server' TERM
while kill -0 $server 2>/dev/null; do wait $server; done
END
    chmod +x "$BATS_TEST_TMPDIR/entry"
    # shellcheck disable=SC2046  # words
    serve server WEIR_TIMEOUT=8s WEIR_STOP_SIGNALS=TERM -- \
        "$BATS_TEST_TMPDIR/entry" $(shared succeed "$port")
    local entry=$SERVER_PID old
    wait_until 10 is_up server 1
    old=$(sed -n 's/^up //p' "$BATS_TEST_TMPDIR/server.log")
    also_end "$old"
    kill -HUP "$old"
    second_up
    kill -TERM "$entry"
    wait_gone "$old" 10
    all_from "$second"
}

@test "a successor to which the listener was sent serves on when the old one is stopped" {
    start send
    local old=$SERVER_PID
    all_from "$old"
    # shellcheck disable=SC2046  # words
    serve_bare new -- $(shared receive "$port" "$path")
    wait_until 10 is_up new 1
    kill -TERM "$old"
    wait_gone "$old" 10
    log_has server 'drained in '
    all_from "$SERVER_PID"
}

@test "as nobody: a successor to which the listener was sent serves on" {
    needs_users
    # shellcheck disable=SC2046  # words
    serve_bare server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=8s -- \
        setpriv --reuid=nobody --regid=nogroup --clear-groups env "LD_PRELOAD=$WEIR_LIB" \
        $(shared send "$port" "$WEIR_RUN_DIR/path")
    local old=$SERVER_PID
    wait_until 10 is_up server 1
    # shellcheck disable=SC2046  # words
    serve_bare new -- $(shared receive "$port" "$WEIR_RUN_DIR/path") # root's: nobody can't look
    wait_until 10 is_up new 1
    kill -TERM "$old"
    wait_gone "$old" 10
    log_has server 'drained in '
    all_from "$SERVER_PID"
}

@test "a successor that comes in the middle of the drain finds the listener as it was" {
    start queue-offer "WEIR_MODE=reply,unix:$path=off"
    local old=$SERVER_PID
    serve_bare clients -- "$PROGRAMS/queue_clients" "$at"
    wait_until 5 log_has clients '^connected 1$'
    kill -USR2 "$old"
    wait_until 5 log_has server ': draining: '
    wait_until 10 comes_to 124 # kept waiting: it accepts no more, and waits for its queue
    # shellcheck disable=SC2046  # words
    serve_bare new -- $(shared receive "$port" "$path")
    wait_until 10 is_up new 1
    wait_until 20 log_has clients '^answered=1 '
    wait_until 20 comes_to 0
    all_from "$SERVER_PID"
    kill -HUP "$old"
    wait_drained server
}

# comes_to STATUS: what a new client's first try to connect ends with; 0: he is in, 1: he is
# refused, 124: nobody answers.
comes_to() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    run timeout 0.5 bash -c '{ exec 9<>"/dev/tcp/127.0.0.1/$0"; } 2>/dev/null' "$port"
    [ "$status" = "$1" ]
}

# ---- an epoll

# child_up: of the two that are up, child is the one that is not the first.
child_up() {
    second_up
    child=$(sed -n 's/^up //p' "$BATS_TEST_TMPDIR/server.log" | grep -v "^$SERVER_PID\$")
    also_end "$child"
}

@test "a child that is drained leaves the epoll to the parent that shares it" {
    start epoll
    local child
    child_up
    kill -USR2 "$child"
    wait_until 10 log_has server "^weir\[$child\] .*: drained in "
    all_from "$SERVER_PID"
    kill -0 "$child"
}

@test "a child that shares an epoll, whose accept would wait, is not kept from its connections" {
    start epoll-block
    local child
    child_up
    kill -USR2 "$child"
    wait_until 10 log_has server "^weir\[$child\] .*: drained in "
    all_from "$SERVER_PID"
    # It does not stand in accept: what it waits with is the epoll.
    not grep -q '^43 \|^288 ' "/proc/$child/syscall"
}

# ---- the queue

# queued HOW [VAR=value...]: clients wait in the accept queue of a server that has a child.
queued() {
    start "$@"
    also_end "$(sed -n 's/^child //p' "$BATS_TEST_TMPDIR/server.log")"
    server=$SERVER_PID
    serve_bare clients -- "$PROGRAMS/queue_clients" --clients 20 "$at"
    clients=$SERVER_PID
    wait_until 5 log_has clients '^connected 20$'
}

all_answered() {
    wait_until 5 log_has server ': draining: '
    pause 0.3
    kill -HUP "$server" # it accepts
    wait "$clients" || true
    log clients
    log_has clients '^answered=20 unanswered=0 reset=0 refused=0 unconnected=0 open=0$'
    wait_drained server
    log_has server ' 0 forced; '
}

@test "weir_drain() in a process with an unrelated child serves the accept queue" {
    queued queue-drain
    kill -USR1 "$server"
    all_answered
    not listening "$port"
}

@test "a drain of another process than the first, with an unrelated child, serves the queue" {
    # shellcheck disable=SC2016,SC2046  # expanded by the inner shell; words
    serve server WEIR_TIMEOUT=8s -- sh -c '"$@" & wait' - $(shared queue-child "$port")
    wait_until 10 is_up server 1
    server=$(sed -n 's/^up //p' "$BATS_TEST_TMPDIR/server.log")
    also_end "$server" "$(sed -n 's/^child //p' "$BATS_TEST_TMPDIR/server.log")"
    serve_bare clients -- "$PROGRAMS/queue_clients" --clients 20 "$at"
    clients=$SERVER_PID
    wait_until 5 log_has clients '^connected 20$'
    kill -USR2 "$server"
    all_answered
}

@test "a child that holds the listener and never accepts: a drain serves the queue first" {
    queued queue-leak
    kill -USR2 "$server"
    all_answered
    listening "$port" # the child's
}

@test "a child to which the listener was sent and who never accepts: the queue is served first" {
    queued queue-send
    kill -USR2 "$server"
    all_answered
}

# Who answers can't tell by himself that his helper, another user's, holds no listener; the parent can,
# and never accepts. Handshakes that are half done come to the queue when the drain has long begun.
@test "a server that may not look into its helper serves half-done handshakes as its parent does" {
    needs_users
    start worker
    also_end "$(sed -n 's/^up //p' "$BATS_TEST_TMPDIR/server.log")"
    server=$SERVER_PID
    serve_bare clients -- "$PROGRAMS/queue_clients" --clients 50 --deaf 700 "$at"
    clients=$SERVER_PID
    wait_until 5 log_has clients '^connecting$'
    kill -TERM "$server"
    wait "$clients" || true
    log clients
    log_has clients '^answered=50 unanswered=0 reset=0 refused=0 unconnected=0 open=0$'
    wait_gone "$server"
    log_has server ': drained in [0-4]\..* 0 forced; '
}

# ---- real servers

# load_on: clients ask one after the other, until load_off.
load_on() {
    cat >"$BATS_TEST_TMPDIR/load.sh" <<'END'
asked=
until [ -e "$1/enough" ]; do
    curl -s -o /dev/null -m 20 "http://127.0.0.1:$2/" || echo "failed $?"
    [ "$asked" ] || echo asked
    asked=1
    sleep 0.01
done
END
    rm -f "$BATS_TEST_TMPDIR/enough"
    serve_bare load1 -- sh "$BATS_TEST_TMPDIR/load.sh" "$BATS_TEST_TMPDIR" "$port"
    loads=("$SERVER_PID")
    serve_bare load2 -- sh "$BATS_TEST_TMPDIR/load.sh" "$BATS_TEST_TMPDIR" "$port"
    loads+=("$SERVER_PID")
    wait_until 10 log_has load2 asked
}

load_off() {
    : >"$BATS_TEST_TMPDIR/enough"
    wait "${loads[@]}"
    not log_has load1 failed
    not log_has load2 failed
}

# replaces OLD STOP PIDFILE: USR2 has it start its successor; STOP ends it; that serves on.
replaces() {
    local old=$1 stop=$2 new
    load_on
    kill -USR2 "$old"
    wait_until 20 is_replaced "$3" "$old"
    new=$(cat "$3.2" 2>/dev/null || cat "$3")
    wait_until 20 has_forked "$new"
    kill -s "$stop" "$old"
    wait_gone "$old" 15
    wait_until 20 has_its_place "$3" "$old"
    new=$(<"$3")
    also_end "$new"
    load_off
    curl -s -f -m 10 "http://$at/"
    log_has server "^weir\[$old\] .*: drained in "
    # And ends as well, when it is told to.
    kill -s "$stop" "$new"
    wait_gone "$new" 15
    not listening "$port"
}

# is_replaced PIDFILE OLD: by another, which has written that file (gunicorn: PIDFILE.2 at first).
is_replaced() {
    has_its_place "$1.2" "$2" || has_its_place "$1" "$2"
}

# has_its_place PIDFILE OLD: gunicorn's successor moves its file there once the old one has ended.
has_its_place() {
    local new
    new=$(cat "$1" 2>/dev/null) && [ -n "$new" ] && [ "$new" != "$2" ] && alive "$new"
}

@test "gunicorn: USR2, TERM to the old master, and its successor serves on" {
    cat >"$BATS_TEST_TMPDIR/app.py" <<'END'
def app(environ, start):
    start("200 OK", [("Content-Length", "6")])
    return [b"hello\n"]
END
    gunicorn_is_replaced gunicorn
}

@test "python3 -m gunicorn: USR2, TERM to the old master, and its successor serves on" {
    cat >"$BATS_TEST_TMPDIR/app.py" <<'END'
def app(environ, start):
    start("200 OK", [("Content-Length", "6")])
    return [b"hello\n"]
END
    gunicorn_is_replaced /usr/bin/python3 -m gunicorn
}

gunicorn_is_replaced() {
    serve server WEIR_STOP_SIGNALS=TERM WEIR_SIGNAL=RTMIN+5 -- "$@" -w 2 -b "$at" -t 90 \
        --chdir "$BATS_TEST_TMPDIR" -p "$BATS_TEST_TMPDIR/pid" app:app
    wait_port "$port"
    wait_until 10 test -s "$BATS_TEST_TMPDIR/pid"
    replaces "$SERVER_PID" TERM "$BATS_TEST_TMPDIR/pid"
}

@test "unicorn: USR2, QUIT to the old master, and its successor serves on" {
    cd "$BATS_TEST_TMPDIR"
    cat >config.ru <<'END'
run lambda { |env| [200, {"content-type" => "text/plain"}, ["hello\n"]] }
END
    printf '%s\n' 'worker_processes 2' "listen '$at'" "pid '$BATS_TEST_TMPDIR/pid'" \
        'timeout 90' >unicorn.conf
    serve server WEIR_STOP_SIGNALS=QUIT WEIR_SIGNAL=RTMIN+5 -- \
        unicorn -c "$BATS_TEST_TMPDIR/unicorn.conf" "$BATS_TEST_TMPDIR/config.ru"
    wait_port "$port"
    wait_until 10 test -s pid
    replaces "$SERVER_PID" QUIT "$BATS_TEST_TMPDIR/pid"
}

# nginx_is_replaced [LINE...]: of its configuration.
nginx_is_replaced() {
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END
pid $BATS_TEST_TMPDIR/pid;
error_log stderr;
worker_processes 2;
$(nginx_user)
$@
events {}
http {
    $(nginx_paths)
    access_log off;
    server { listen $at; location / { return 200 "hello\n"; } }
}
END
    # nginx has no use for USR2 while its own parent is there: it becomes a daemon.
    serve server WEIR_STOP_SIGNALS=QUIT WEIR_SIGNAL=RTMIN+5 WEIR_LOG="$BATS_TEST_TMPDIR/server.log" \
        -- /usr/sbin/nginx -p "$BATS_TEST_TMPDIR" -c "$BATS_TEST_TMPDIR/nginx.conf"
    wait_until 10 test -s "$BATS_TEST_TMPDIR/pid"
    wait_port "$port"
    wait_gone "$SERVER_PID" 10
    also_end "$(<"$BATS_TEST_TMPDIR/pid")"
    wait_until 10 has_forked "$(<"$BATS_TEST_TMPDIR/pid")"
    replaces "$(<"$BATS_TEST_TMPDIR/pid")" QUIT "$BATS_TEST_TMPDIR/pid"
}

@test "nginx: USR2, QUIT to the old master, and its successor, without the shim, serves on" {
    nginx_is_replaced ''
}

@test "nginx: USR2, QUIT to the old master, and its successor, with the shim, serves on" {
    nginx_is_replaced 'env LD_PRELOAD; env WEIR_TREE; env WEIR_RUN_DIR; env WEIR_STOP_SIGNALS;
        env WEIR_SIGNAL; env WEIR_LOG;'
}

haproxy_config() {
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END
global
    stats socket $BATS_TEST_TMPDIR/admin.sock mode 600 level admin expose-fd listeners
    $1
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 5s
frontend all
    bind $at
    http-request return status 200 content-type text/plain string "hello"
END
}

# haproxy_is_replaced HOW...: a new one gets the old one's listeners (-x), which is then stopped.
haproxy_is_replaced() {
    haproxy_config "$1"
    serve server WEIR_STOP_SIGNALS=TERM WEIR_SIGNAL=RTMIN+5 -- \
        haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    local old=$SERVER_PID
    wait_port "$port"
    wait_until 10 test -S "$BATS_TEST_TMPDIR/admin.sock"
    load_on
    serve_bare new -- haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg" -x "$BATS_TEST_TMPDIR/admin.sock"
    wait_until 10 holds_listener "$SERVER_PID"
    pause 0.5 # until it accepts
    kill -TERM "$old"
    wait_gone "$old" 15
    log_has server 'drained in '
    pause 1
    load_off
    curl -s -f -m 10 "http://$at/"
}

# holds_listener PID: of the test's port.
holds_listener() {
    local inode
    inode=$(awk -v port=":$(printf '%04X' "$port")\$" '$4 == "0A" && $2 ~ port { print $10 }' \
        /proc/net/tcp)
    [ -n "$inode" ] && find "/proc/$1/fd" -lname "socket:\[$inode\]" | grep -q .
}

@test "HAProxy: a new one is sent the old one's listeners, and serves on when that gets TERM" {
    haproxy_is_replaced ''
}

@test "HAProxy as nobody: a new one is sent the old one's listeners, and serves on" {
    needs_users
    haproxy_is_replaced $'user nobody\n    group nogroup'
}

# ---- what a program that polls meets

# is_quiet_with HOW: of its drain it learns nothing.
is_quiet_with() {
    start "$1" WEIR_FIRST_BYTE=3s # before its end the busy one's client speaks, on a busy machine as well
    answers_as 'pong [0-9]+'
    if [ "$1" != quiet-children ]; then
        wait_unix "$path"
        "$PROGRAMS/queue_clients" "unix:$path" | grep '^answered=1 '
    fi
    local fd line
    if [ "$1" = quiet-children ]; then # one is busy until the others' listeners are swapped
        conn_open fd "$port"
        pause 0.3
        kill -USR2 "$SERVER_PID"
        pause 0.5
        conn_send "$fd" 'ping\n'
        read_line line "$fd" 5
    else
        kill -USR2 "$SERVER_PID"
    fi
    wait_drained server
    pause 0.5
    not log_has server '^accept:'
    is_quiet "$SERVER_PID"
    wait_until 5 comes_to 1
}

@test "select and an accept that would wait: the drain of a server at rest shows in no error" {
    is_quiet_with quiet-select
}

@test "poll and an accept that would wait: the drain of a server at rest shows in no error" {
    is_quiet_with quiet-poll
}

@test "epoll and an accept that would wait: the drain of a server at rest shows in no error" {
    is_quiet_with quiet-epoll
}

@test "children that accept and select for what a client sends see no error" {
    is_quiet_with quiet-children
}

# Its postmaster waits for an AF_UNIX and a TCP listener with select, and logs what accept says.
@test "PostgreSQL logs no failed accept when it drains" {
    needs_users
    local bin data=$BATS_TEST_TMPDIR/run/data
    bin=$(echo /usr/lib/postgresql/*/bin)
    setpriv --reuid=nobody --regid=nogroup --clear-groups \
        "$bin/initdb" -D "$data" -U admin -A trust >/dev/null
    serve_bare server WEIR_SIGNAL=RTMIN+5 -- \
        setpriv --reuid=nobody --regid=nogroup --clear-groups env "LD_PRELOAD=$WEIR_LIB" \
        "$bin/postgres" -D "$data" -p "$port" -k "$WEIR_RUN_DIR" -c listen_addresses=127.0.0.1
    wait_until 20 log_has server 'ready to accept connections'
    "$bin/psql" -h 127.0.0.1 -p "$port" -U admin -c 'select 1' postgres
    "$bin/psql" -h "$WEIR_RUN_DIR" -p "$port" -U admin -c 'select 1' postgres
    kill -s RTMIN+5 "$SERVER_PID"
    wait_drained server
    pause 0.5
    not log_has server 'could not accept'
    alive "$SERVER_PID"
}

@test "gpsd logs no failed accept when it drains" {
    local fd line
    serve server -- gpsd -N -D 3 -S "$port" -F "$BATS_TEST_TMPDIR/gpsd.sock"
    wait_port "$port"
    wait_unix "$BATS_TEST_TMPDIR/gpsd.sock"
    conn_open fd "$port"
    read_line line "$fd" 5
    conn_close "$fd"
    pause 0.3
    kill -USR2 "$SERVER_PID"
    wait_drained server
    pause 0.5
    not log_has server 'accept:'
    alive "$SERVER_PID"
}

@test "distccd logs no failed accept when it drains" {
    needs_users
    local fd
    serve server -- distccd --daemon --no-detach --log-stderr --allow 127.0.0.1 \
        --listen 127.0.0.1 --port "$port" --enable-tcp-insecure
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'nonsense\n'
    conn_close "$fd"
    wait_until 10 log_has server job_summary
    kill -USR2 "$SERVER_PID"
    wait_drained server
    pause 0.5
    not log_has server 'accept failed'
    alive "$SERVER_PID"
}
