#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# weir restart: a new process in the place of the old one, under clients that stay and clients that
# come all the time; none of them is refused, reset, or loses a request.
# mutant: shim/drain/drain.c: s/\? LISTENERS_KEEP$/? LISTENERS_CLOSE/
# needs: nginx-light haproxy gunicorn redis-server memcached python3 busybox-static
# seconds: 92
# shellcheck shell=bash disable=SC2030,SC2031,SC2154

load helpers
load configs
load load
load processes

setup() {
    port=$((25000 + 10 * BATS_TEST_NUMBER))
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    WEIR=$ROOT/build/weir
}

# restart CODE ARGUMENT...: SERVER_PID is the new one's. The command is begun by what is in `as`.
restart() {
    local code=$1 status=0 new
    shift
    new=$("${as[@]}" "$WEIR" restart "$@" 2>"$BATS_TEST_TMPDIR/said.log") || status=$?
    cat "$BATS_TEST_TMPDIR/said.log"
    echo "code $status, new $new"
    [ "$status" = "$code" ]
    [ -z "$new" ] || { SERVER_PID=$new && also_end "$new"; }
}

thrice() {
    local old
    for _ in 1 2 3; do
        old=$SERVER_PID
        restart 0 "$@" "$old"
        [ "$SERVER_PID" != "$old" ]
        not readlink "/proc/$old/exe" # it may wait for its parent
        pause 0.2
    done
}

@test "nginx, with two workers: three restarts, and nobody is refused" {
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END
worker_processes 2; daemon off; pid $BATS_TEST_TMPDIR/pid; error_log stderr;
$(nginx_user)
events {}
http {
    $(nginx_paths)
    access_log off; keepalive_requests 1000000;
    server {
        listen 127.0.0.1:$port; listen 127.0.0.1:$((port + 1)) reuseport;
        listen unix:$BATS_TEST_TMPDIR/socket;
        location / { return 200 "good\n"; }
    }
}
END
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- \
        /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/nginx.conf" -e stderr
    wait_port "$port"
    under_load http thrice
    [ "$(curl -s --unix-socket "$BATS_TEST_TMPDIR/socket" http://localhost/)" = good ]
    [ "$(curl -s "http://127.0.0.1:$((port + 1))/")" = good ]
    under_load http thrice --overlap
}

haproxy_config() {
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END
global
    stats socket $BATS_TEST_TMPDIR/admin.sock
defaults
    mode http
    timeout client 60s
    timeout http-keep-alive 60s
frontend web
    bind 127.0.0.1:$port
    http-request return status 200 content-type text/plain string good
END
}

@test "HAProxy, which does not listen on a socket that says that it does: three restarts" {
    haproxy_config
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- \
        /usr/sbin/haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    under_load http thrice
}

# has_variable PID NAME: it was started with that.
has_variable() {
    tr '\0' '\n' >"$BATS_TEST_TMPDIR/environ" <"/proc/$1/environ"
    grep -q "^$2=" "$BATS_TEST_TMPDIR/environ"
}

# has_loaded N: so many times, in all its processes.
has_loaded() {
    [ "$(grep -c 'Loading success' "$BATS_TEST_TMPDIR/server.log")" = "$1" ]
}

# reload: a USR2 that comes before its loop is lost (findings/haproxy-early-reload-lost.sh).
reload() {
    kill -USR2 "$SERVER_PID"
    poll_until 1 log_has server 'Reloading HAProxy'
}

@test "HAProxy's master, which has executed itself again: by what it was started first" {
    local worker
    haproxy_config
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- \
        /usr/sbin/haproxy -W -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    under_load http thrice
    wait_until 20 has_loaded 4
    worker=$(pgrep -P "$SERVER_PID")
    wait_until 20 reload
    wait_until 20 has_loaded 5
    wait_gone "$worker" 20 # which closes what it still has by itself
    under_load http thrice
    wait_until 20 has_variable "$SERVER_PID" HAPROXY_MWORKER_WAIT_ONLY # when its worker has been started
}

# is_head PID: the command tells the tree by this process.
is_head() {
    "$WEIR" list | grep -q "^$1 "
}

@test "HAProxy's master, as a daemon: it leads its tree also after it has executed itself again" {
    haproxy_config
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol WEIR_LOG="$BATS_TEST_TMPDIR/weir.log" -- \
        /usr/sbin/haproxy -W -D -p "$BATS_TEST_TMPDIR/pid" -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    wait_gone "$SERVER_PID"
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$SERVER_PID"
    wait_until 10 is_head "$SERVER_PID"
    under_load http thrice
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$SERVER_PID"
    wait_until 10 is_head "$SERVER_PID"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 20
    grep 'drained in .*: 0 closed clean, 0 forced; SIGTERM goes to the program$' "$BATS_TEST_TMPDIR/weir.log"
}

has_started() {
    [ "$(sed -n 's/^started //p' "$BATS_TEST_TMPDIR/server.log" | xargs)" = "$1" ]
}

@test "a program that becomes itself again with another variable does not see what is handed on for it" {
    cat >"$BATS_TEST_TMPDIR/again.py" <<'END'
import os, socket, sys, time
print("started", os.environ.get("AGAIN"), [name for name in os.environ if "STARTED" in name], flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if "AGAIN" not in os.environ:
    os.environ["AGAIN"] = "yes"
    time.sleep(1) # it listens, and weir restart has let go by then of what it closes as it execs
    os.execv(sys.executable, [sys.executable] + sys.argv + ["-sf"])
while True:
    listener.accept()[0].close()
END
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 "$BATS_TEST_TMPDIR/again.py" "$port"
    wait_until 10 log_has server '^started yes'
    wait_port "$port"
    restart 0 "$SERVER_PID"
    wait_until 10 has_started "None [] yes [] None [] yes []"
}

# is_succeeded NAME: by a process that its own SIGUSR2 makes, whose variables have NAME.
is_succeeded() {
    local old=$SERVER_PID
    kill -USR2 "$old"
    wait_until 20 of_program "$1" "$old"
    also_end "$SERVER_PID"
    kill -QUIT "$old"
    wait_gone "$old" 20
    has_variable "$SERVER_PID" "$1"
}

# of_program NAME OLD: SERVER_PID is a master of another tree than OLD.
of_program() {
    local pid
    for pid in $("$WEIR" list --json | sed -n 's/.*"pid": \([0-9]*\), "program".*/\1/p'); do
        [ "$pid" = "$2" ] || SERVER_PID=$pid
    done
    [ "$SERVER_PID" != "$2" ] && has_variable "$SERVER_PID" "$1"
}

@test "what has succeeded nginx by SIGUSR2: by what its predecessor was started by" {
    # It has no use for USR2 while its parent is there, and leaves out what it is not told to keep.
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END
pid $BATS_TEST_TMPDIR/pid; error_log stderr;
$(nginx_user)
env LD_PRELOAD; env WEIR_TREE; env WEIR_RUN_DIR; env WEIR_STOP_SIGNALS; env WEIR_MODE; env WEIR_LOG;
events {}
http {
    $(nginx_paths)
    access_log off; keepalive_requests 1000000;
    server { listen 127.0.0.1:$port; location / { return 200 "good\n"; } }
}
END
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol WEIR_LOG="$BATS_TEST_TMPDIR/server.log" \
        -- /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/nginx.conf" -e stderr
    wait_until 10 test -s "$BATS_TEST_TMPDIR/pid"
    wait_port "$port"
    wait_gone "$SERVER_PID" 10
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/pid")
    also_end "$SERVER_PID"
    wait_until 10 has_forked "$SERVER_PID"
    is_succeeded NGINX
    under_load http thrice
    not has_variable "$(<"$BATS_TEST_TMPDIR/pid")" NGINX # it has become a daemon
}

@test "what has succeeded gunicorn by SIGUSR2: by what its predecessor was started by" {
    cat >"$BATS_TEST_TMPDIR/app.py" <<END
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"good\n"]
END
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- /usr/bin/python3 -m gunicorn \
        --chdir "$BATS_TEST_TMPDIR" --threads 80 --keep-alive 60 --bind "127.0.0.1:$port" app:app
    wait_port "$port"
    is_succeeded GUNICORN_FD
    under_load http thrice
    not has_variable "$SERVER_PID" GUNICORN_FD
}

@test "redis: three restarts by its own command line, which its title has written over" {
    serve server WEIR_STOP_SIGNALS=TERM -- redis-server --port "$port" --save '' \
        --dir "$BATS_TEST_TMPDIR"
    wait_port "$port"
    under_load redis thrice
}

@test "memcached: three restarts" {
    unset WEIR_RUN_DIR # it drops its privileges, and so does the new one
    serve server WEIR_STOP_SIGNALS=TERM -- memcached -u "$(somebody)" -l 127.0.0.1 -p "$port"
    wait_port "$port"
    under_load memcached thrice
}

# restarts_from WAY...: a server that is started in this way, whose first process ends then.
restarts_from() {
    port=$((port + 1))
    serve starter WEIR_STOP_SIGNALS=TERM WEIR_LOG=none -- "$@"
    wait_port "$port"
    wait_gone "$SERVER_PID" 10
    SERVER_PID=$(ss -Hltnp "sport = :$port" | sed -n 's/.*pid=\([0-9]*\).*/\1/p')
    also_end "$SERVER_PID"
    of "$SERVER_PID" >"$BATS_TEST_TMPDIR/before"
    restart 0 "$SERVER_PID"
    diff "$BATS_TEST_TMPDIR/before" <(of "$SERVER_PID" | grep -v ^WEIR_HANDED=)
    [ "$(timeout 10 bash -c "cat </dev/tcp/127.0.0.1/$port")" -gt 0 ]
}

@test "a server that a shell, setsid or start-stop-daemon leaves behind: by its own command line" {
    local server="/usr/bin/python3 $ROOT/tests/programs/adopter.py 127.0.0.1"
    cd /usr/lib
    restarts_from /bin/sh -c "$server/$((port + 1)) &"
    restarts_from /bin/bash -c "(cd /usr && GREETING=hello nohup $server/$((port + 1))) &"
    # shellcheck disable=SC2086
    restarts_from /usr/bin/setsid --fork $server/$((port + 1))
    restarts_from /sbin/start-stop-daemon --start --background --chdir /usr --make-pidfile \
        --pidfile "$BATS_TEST_TMPDIR/pid" --startas /usr/bin/python3 -- \
        "$ROOT/tests/programs/adopter.py" "127.0.0.1/$((port + 1))"
}

@test "a shell that waits for its server: both end, and come again" {
    serve server WEIR_STOP_SIGNALS=TERM -- /bin/sh -c \
        "/usr/bin/python3 $ROOT/tests/programs/adopter.py 127.0.0.1/$port & wait"
    wait_port "$port"
    local old=$SERVER_PID child
    child=$(<"/proc/$old/task/$old/children")
    restart 0 "$old"
    not readlink "/proc/${child% }/exe"
    [ "$SERVER_PID" != "$old" ]
    [ "$(timeout 10 bash -c "cat </dev/tcp/127.0.0.1/$port")" -gt 0 ]
}

# of PID: what it has from who started it.
of() {
    readlink "/proc/$1/cwd" "/proc/$1/fd/0"
    grep -E '^(Uid|Gid|Groups|Umask|CapBnd|NoNewPrivs)' "/proc/$1/status"
    tr '\0' '\n' <"/proc/$1/environ" | grep -v ^WEIR_TREE= | sort
}

@test "the new one has the user, rights, directory, descriptors and environment of the old one" {
    needs_users
    local before
    unset WEIR_RUN_DIR # there each user has one
    serve server WEIR_STOP_SIGNALS=TERM GREETING='a b=c' -- /usr/bin/setpriv --reuid nobody \
        --regid nogroup --groups 4,24 --no-new-privs --bounding-set -sys_admin,-net_raw \
        /bin/sh -c "cd /usr/lib && umask 027 && exec /usr/bin/python3 \
            $ROOT/tests/programs/adopter.py 127.0.0.1/$port"
    wait_port "$port"
    before=$(of "$SERVER_PID")
    restart 0 "$SERVER_PID"
    diff <(echo "$before") <(of "$SERVER_PID" | grep -v ^WEIR_HANDED=)
}

@test "root without the right to change groups restarts what has the same as it, and nothing else" {
    local as=(setpriv --bounding-set -setgid --inh-caps -setgid)
    needs_users
    serve server WEIR_STOP_SIGNALS=TERM -- "${as[@]}" /usr/bin/python3 \
        "$ROOT/tests/programs/adopter.py" "127.0.0.1/$port"
    wait_port "$port"
    restart 0 "$SERVER_PID"
    end_started
    serve other WEIR_STOP_SIGNALS=TERM -- setpriv --groups 4,24 /usr/bin/python3 \
        "$ROOT/tests/programs/adopter.py" "127.0.0.1/$port"
    wait_port "$port"
    restart 1 "$SERVER_PID"
    log_has said 'its groups: Operation not permitted'
}

@test "another COMMAND may take the place" {
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    restart 0 "$SERVER_PID" --timeout 5s -- /usr/bin/python3 "$ROOT/tests/programs/adopter.py" \
        "127.0.0.1/$port"
    [ "$(timeout 10 bash -c "cat </dev/tcp/127.0.0.1/$port")" -gt 0 ]
}

waits_at_port() {
    [ "$(ss -Hltn "sport = :$port" | awk '{ print $2 }')" = "$1" ]
}

@test "more wait in between than the old one had room for in its queue" {
    # python's has room for five
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    local old=$SERVER_PID go=$BATS_TEST_TMPDIR/go client clients=() restarting
    "$WEIR" restart "$old" -- /bin/sh -c "until [ -e '$go' ]; do sleep 0.1; done
        exec /usr/bin/python3 '$ROOT/tests/programs/adopter.py' 127.0.0.1/$port" \
        >"$BATS_TEST_TMPDIR/new" 2>"$BATS_TEST_TMPDIR/said.log" &
    restarting=$!
    also_end "$restarting"
    wait_gone "$old" 10
    for _ in {1..30}; do
        timeout 60 bash -c "cat </dev/tcp/127.0.0.1/$port" >>"$BATS_TEST_TMPDIR/answers" &
        clients+=($!)
    done
    wait_until 30 waits_at_port 30
    touch "$go"
    wait "$restarting"
    SERVER_PID=$(<"$BATS_TEST_TMPDIR/new")
    also_end "$SERVER_PID"
    for client in "${clients[@]}"; do
        wait "$client"
    done
}

@test "what can't be done is said in a line, and the old one serves on" {
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    local old=$SERVER_PID
    restart 4 $$
    log_has said 'does not run under the shim'
    restart 1 "$old" -- /no/such/program
    log_has said '/no/such/program'
    restart 1 --overlap "$old" -- /bin/false
    log_has said "127.0.0.1:$port: the new one does not listen there, and the old one serves on"
    restart 2 "$old" --ready 3x
    log_has said '"3x" is not a duration'
    restart 2
    SERVER_PID=$old
    curl -sf -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

@test "one that listens nowhere, whose directory is gone, or that drains already is left alone" {
    serve server -- /usr/bin/python3 -c 'import socket, time
socket.create_server(("127.0.0.1", 0)).close()
print("closed", flush=True)
time.sleep(60)'
    wait_until 5 log_has server '^closed$'
    local nowhere=$SERVER_PID
    restart 1 "$nowhere"
    log_has said "pid $nowhere: it listens nowhere that the new one would ask for: there is nothing to hand over"
    kill -0 "$nowhere"

    mkdir "$BATS_TEST_TMPDIR/directory"
    serve server -- env -C "$BATS_TEST_TMPDIR/directory" /usr/bin/python3 -m http.server "$port" \
        --bind 127.0.0.1
    wait_port "$port"
    rmdir "$BATS_TEST_TMPDIR/directory"
    local old=$SERVER_PID
    restart 1 "$old"
    log_has said "its directory $BATS_TEST_TMPDIR/directory.*: No such file or directory"
    curl -s -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"

    "$WEIR" drain "$old"
    restart 1 "$old"
    log_has said "pid $old: a drain of it is on already, or over"
    kill -0 "$old"
}

# has_in_use N: so many connections.
has_in_use() {
    "$WEIR" status "$SERVER_PID" --json | grep -q "\"in_use\": $1}"
}

# is_kept: its listener is open, and nobody accepts from it.
is_kept() {
    "$WEIR" status "$SERVER_PID" --json | grep -q '"state": "kept"'
}

@test "a restart that is interrupted starts nothing: the drain goes on, and another restart goes on with it" {
    local client late answer status=0
    serve server -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'GET /slow?ms=3000 HTTP/1.1\r\nHost: a\r\n\r\n'
    wait_until 5 has_in_use 1
    "$WEIR" restart "$SERVER_PID" >"$BATS_TEST_TMPDIR/new" 2>"$BATS_TEST_TMPDIR/said.log" &
    wait_until 5 log_has said ': draining: 1 in use'
    wait_until 5 is_kept
    kill -INT $!
    wait $! || status=$?
    [ "$status" = 130 ]
    log_has said "no longer waiting: the drain goes on \(weir status $SERVER_PID\)"
    [ ! -s "$BATS_TEST_TMPDIR/new" ]
    read_line answer "$client" 10
    has "$answer" '200 OK'
    wait_until 10 log_has server 'drained in .*1 closed clean, 0 forced; the program runs on'
    kill -0 "$SERVER_PID"
    log_has said "who connects waits until .weir restart $SERVER_PID. goes on with it"
    conn_open late "$port"
    conn_send "$late" 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    restart 0 "$SERVER_PID"
    read_line answer "$late" 10
    has "$answer" '200 OK'
}

# is_left_alone WRAPPER...: a program that this one becomes.
is_left_alone() {
    port=$((port + 1))
    serve server WEIR_STOP_SIGNALS=TERM -- "$@" /usr/bin/python3 -m http.server "$port" \
        --bind 127.0.0.1
    wait_port "$port"
    local old=$SERVER_PID
    restart 1 "$old"
    log_has said "pid $old: it has namespaces, .* of its own"
    curl -sf -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

@test "a program in a namespace or a seccomp filter of its own is left alone: its like would get out" {
    is_left_alone /usr/bin/unshare --mount
    is_left_alone /usr/bin/python3 -c 'import ctypes, os, struct, sys
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
if libc.prctl(22, 2, struct.pack("HP", 1, ctypes.addressof(allow))):  # PR_SET_SECCOMP
    sys.exit("no filter")
os.execv(sys.argv[1], sys.argv[1:])'
}

@test "pid 1 is left alone: its end would be that of all in its namespace" {
    serve_bare server -- unshare --pid --fork --kill-child --mount-proc env "LD_PRELOAD=$WEIR_LIB" \
        /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    run nsenter --target "$(pgrep -P "$SERVER_PID")" --pid --mount "$WEIR" restart 1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"pid 1: with its end"* ]]
    curl -sf -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

@test "an old one that takes long to end is waited for, and not killed" {
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -c 'import signal, sys, time
from http.server import HTTPServer, SimpleHTTPRequestHandler
def write_all(*_):
    time.sleep(11)
    print("all written", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, write_all)
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()' "$port"
    wait_port "$port"
    restart 0 "$SERVER_PID"
    log_has server '^all written$'
    log_has said 'has not ended yet: waiting'
}

# comes_back ARGUMENT...: the restart fails, and another process serves as the old one did.
comes_back() {
    local old=$SERVER_PID
    restart 1 "$old" "$@"
    [ "$SERVER_PID" != "$old" ]
    log_has said "^weir: what was there before is started again"
    log_has said "^weir: pid $SERVER_PID: it serves as before"
}

nginx_config() {
    echo "daemon off; pid $BATS_TEST_TMPDIR/pid; error_log stderr; $(nginx_user) $1 events {}
        http { $(nginx_paths) access_log off; keepalive_requests 1000000; server { listen 127.0.0.1:$port;
            location / { return 200 \"good\n\"; } } }"
}

nginx_comes_back() {
    comes_back -- /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/broken.conf" -e stderr
    log_has server 'unknown directive "no_such_thing"'
    comes_back --ready 1s -- /bin/sleep 1000
    log_has said ': it is ended again'
    comes_back -- /usr/bin/env --unset LD_PRELOAD /bin/false
    comes_back --ready 1s -- /usr/bin/env --unset LD_PRELOAD /bin/sleep 1000
    log_has said 'it does not run under the shim, and is ended again'
}

@test "a COMMAND that fails, of nginx: the old one's is started again, and no client notices" {
    nginx_config '' >"$BATS_TEST_TMPDIR/nginx.conf"
    nginx_config 'no_such_thing;' >"$BATS_TEST_TMPDIR/broken.conf"
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- \
        /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/nginx.conf" -e stderr
    wait_port "$port"
    under_load http nginx_comes_back
}

@test "a COMMAND that listens, and fails then: an address that somebody else has" {
    nginx_config '' >"$BATS_TEST_TMPDIR/nginx.conf"
    nginx_config '' | sed "s/listen [^;]*;/& listen 127.0.0.1:$((port + 1));/" >"$BATS_TEST_TMPDIR/taken.conf"
    serve_bare other -- /usr/bin/python3 -m http.server "$((port + 1))" --bind 127.0.0.1
    wait_port "$((port + 1))"
    serve server WEIR_STOP_SIGNALS=TERM WEIR_MODE=protocol -- \
        /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/nginx.conf" -e stderr
    wait_port "$port"
    local old=$SERVER_PID command=(/usr/sbin/nginx -c "$BATS_TEST_TMPDIR/taken.conf" -e stderr)
    restart 1 --overlap "$old" -- "${command[@]}"
    log_has server "to 127.0.0.1:$((port + 1)) failed .*Address already in use"
    log_has said "127.0.0.1:$port: the new one does not listen there, and the old one serves on"
    SERVER_PID=$old
    under_load http comes_back -- "${command[@]}"
}

@test "a COMMAND that fails, of redis: the old one's is started again, and no client notices" {
    local options=(--port "$port" --save '' --dir "$BATS_TEST_TMPDIR")
    serve server WEIR_STOP_SIGNALS=TERM -- redis-server "${options[@]}"
    wait_port "$port"
    under_load redis comes_back -- redis-server "${options[@]}" --no-such-thing 1
}

@test "a COMMAND that fails, of Python: the old one's is started again" {
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    comes_back -- /usr/bin/python3 -m no_such_module
    comes_back -- /usr/bin/python3 -c 'raise SystemExit(1)'
    curl -sf -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

@test "its own command line, which fails now: exit 1, and what nobody serves any more is named" {
    cp "$ROOT/tests/programs/adopter.py" "$BATS_TEST_TMPDIR/server.py"
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 "$BATS_TEST_TMPDIR/server.py" "127.0.0.1/$port"
    wait_port "$port"
    rm "$BATS_TEST_TMPDIR/server.py"
    restart 1 "$SERVER_PID"
    log_has said "127.0.0.1:$port: the new one does not listen there: it is closed"
    not listening "$port"
}

@test "a COMMAND that its user may not execute, in a directory that he may not enter: nothing is done" {
    needs_users
    local old
    unset WEIR_RUN_DIR # there each user has one
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/setpriv --reuid nobody --regid nogroup \
        --clear-groups /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    install -m 700 /bin/true "$BATS_TEST_TMPDIR/mine"
    old=$SERVER_PID
    restart 1 "$old" -- "$BATS_TEST_TMPDIR/mine"
    log_has said 'mine: Permission denied'
    SERVER_PID=$old
    curl -s -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

@test "another user's program is exit 5, and is left alone" {
    needs_users
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1
    wait_port "$port"
    chmod 755 "$BATS_TEST_TMPDIR"
    local status=0
    setpriv --reuid nobody --regid nogroup --clear-groups "$WEIR" restart "$SERVER_PID" || status=$?
    [ "$status" = 5 ]
    curl -sf -o "$BATS_TEST_TMPDIR/page" "http://127.0.0.1:$port/"
}

# As HAProxy's master does, for a moment.
@test "a master that becomes itself anew beside its worker: it is the new pid" {
    cat >"$BATS_TEST_TMPDIR/master.py" <<'END'
import os, socket, sys, time
if len(sys.argv) > 2:
    time.sleep(60)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(0.2)
if os.fork() == 0:
    time.sleep(1)
    while True:
        client, _ = listener.accept()
        client.sendall(b"%d\n" % os.getppid())
        client.close()
os.execv("/bin/busybox", ["busybox", "sh", "-c", 'sleep 2; exec "$@"', "-", sys.executable] + sys.argv + ["again"])
END
    local client answer
    serve server -- /usr/bin/python3 "$BATS_TEST_TMPDIR/master.py" "$port"
    wait_port "$port"
    wait_until 10 log_has server 'ready: '
    pause 3
    restart 0 "$SERVER_PID" -- /usr/bin/python3 "$BATS_TEST_TMPDIR/master.py" "$port"
    conn_open client "$port"
    read_line answer "$client" 5
    [ "$answer" = "$SERVER_PID" ]
}

# Erlang's nodes, and Java's for JMX, listen on one beside the one that clients know.
@test "a port that the kernel has picked is not handed over: the new one has another" {
    cat >"$BATS_TEST_TMPDIR/two.py" <<'END'
import os, select, socket, sys
listeners = [socket.create_server(("127.0.0.1", port)) for port in (int(sys.argv[1]), 0)]
os.write(1, b"picked %d\n" % listeners[1].getsockname()[1])
while True:
    for listener in select.select(listeners, [], [])[0]:
        client, _ = listener.accept()
        client.sendall(b"%d\n" % os.getpid())
        client.close()
END
    local picked
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 "$BATS_TEST_TMPDIR/two.py" "$port"
    wait_until 10 log_has server '^picked '
    picked=$(sed -n 's/^picked //p' "$BATS_TEST_TMPDIR/server.log")
    restart 0 "$SERVER_PID"
    not served "$picked" ''
    served "$port" ''
    picked=$(sed -n 's/^picked //p' "$BATS_TEST_TMPDIR/server.log" | tail -n 1)
    served "$picked" ''
    not log_has server 'has handed over'
}
