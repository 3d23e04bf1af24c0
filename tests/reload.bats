#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A server puts a new one in its place by itself, with its listening sockets, and the old one is drained
# when it is told to end: under clients that stay and clients that come all the time, none of them is
# refused, reset, or loses a request. (Of HAProxy's master: those that come; or all, by an option of its own.)
# mutant: shim/drain/environment.c: s/return MARK_SUCCESSOR;/return MARK_NONE;/
# needs: nginx-light haproxy gunicorn unicorn python3
# seconds: 16
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load load
load processes

setup() {
    port=$((28000 + 10 * BATS_TEST_NUMBER))
    file=$BATS_TEST_TMPDIR/pid
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run WEIR_MODE=protocol WEIR_SIGNAL=RTMIN+5
    log=$BATS_TEST_TMPDIR/weir.log
    : >"$log"
    LOGGED=(weir)
}

# is_another FILE OLD: the process whose pid is in there.
is_another() {
    local new
    new=$(cat "$1" 2>/dev/null) && [ -n "$new" ] && [ "$new" != "$2" ] && alive "$new"
}

# succeeds_twice STOP: USR2 makes the successor, STOP ends the old one. gunicorn's has FILE.2 until then.
succeeds_twice() {
    local old new
    for _ in 1 2; do
        old=$(<"$file")
        kill -USR2 "$old"
        wait_until 20 test -s "$file.oldbin" -o -s "$file.2"
        new=$file
        [ ! -s "$file.2" ] || new=$file.2
        wait_until 20 is_another "$new" "$old"
        new=$(<"$new")
        also_end "$new"
        wait_until 20 has_forked "$new"
        pause 0.3 # until they accept
        kill -s "$1" "$old"
        wait_gone "$old" 20
        wait_until 20 is_another "$file" "$old"
        log_has weir "^weir\\[$old\\] .*: drained in .* 0 forced"
    done
}

@test "nginx: two binary upgrades by USR2, and QUIT to the old one" {
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END
pid $file; error_log stderr; worker_processes 2;
$(nginx_user)
env LD_PRELOAD; env WEIR_TREE; env WEIR_RUN_DIR; env WEIR_STOP_SIGNALS; env WEIR_MODE; env WEIR_LOG;
env WEIR_SIGNAL;
events {}
http {
    $(nginx_paths)
    access_log off; keepalive_requests 1000000;
    server { listen 127.0.0.1:$port; location / { return 200 "good\n"; } }
}
END
    # While its own parent is there it has no use for USR2.
    serve server WEIR_STOP_SIGNALS=QUIT WEIR_LOG="$log" -- \
        /usr/sbin/nginx -c "$BATS_TEST_TMPDIR/nginx.conf" -e stderr
    wait_until 10 test -s "$file"
    wait_port "$port"
    wait_gone "$SERVER_PID" 10
    also_end "$(<"$file")"
    wait_until 10 has_forked "$(<"$file")"
    under_load http succeeds_twice QUIT
}

@test "gunicorn: two successors by USR2, and TERM to the old one" {
    cat >"$BATS_TEST_TMPDIR/app.py" <<END
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"good\n"]
END
    serve server WEIR_STOP_SIGNALS=TERM WEIR_LOG="$log" -- /usr/bin/python3 -m gunicorn --pid "$file" \
        --chdir "$BATS_TEST_TMPDIR" --threads 80 --keep-alive 60 --bind "127.0.0.1:$port" app:app
    wait_port "$port"
    wait_until 10 test -s "$file"
    under_load http succeeds_twice TERM
}

@test "unicorn: two successors by USR2, and QUIT to the old one" {
    cat >"$BATS_TEST_TMPDIR/config.ru" <<'END'
run lambda { |env| [200, {"content-type" => "text/plain", "content-length" => "5"}, ["good\n"]] }
END
    printf '%s\n' 'worker_processes 2' "listen '127.0.0.1:$port'" "pid '$file'" \
        >"$BATS_TEST_TMPDIR/unicorn.conf"
    cd "$BATS_TEST_TMPDIR"
    serve server WEIR_STOP_SIGNALS=QUIT WEIR_LOG="$log" -- unicorn -E none -c unicorn.conf config.ru
    wait_port "$port"
    wait_until 10 test -s "$file"
    under_load http succeeds_twice QUIT
}

# haproxy_config LINE...: of its global section.
haproxy_config() {
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END
global
    stats socket $BATS_TEST_TMPDIR/admin.sock mode 600 level admin expose-fd listeners
    $1
defaults
    mode http
    timeout client 60s
    timeout http-keep-alive 60s
    ${2:-}
frontend web
    bind 127.0.0.1:$port
    http-request return status 200 content-type text/plain string good
END
}

haproxies_replace() {
    local old
    for _ in 1 2; do
        old=$SERVER_PID
        serve next WEIR_STOP_SIGNALS=USR1 WEIR_LOG="$log" -- /usr/sbin/haproxy -db \
            -f "$BATS_TEST_TMPDIR/haproxy.cfg" -x "$BATS_TEST_TMPDIR/admin.sock" -sf "$old"
        wait_gone "$old" 20
        log_has weir "^weir\\[$old\\] .*: drained in .* 0 forced"
    done
}

@test "HAProxy, -x and -sf: two new ones, each of which tells the old one to end" {
    haproxy_config ''
    serve server WEIR_STOP_SIGNALS=USR1 WEIR_LOG="$log" -- \
        /usr/sbin/haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    wait_until 10 test -S "$BATS_TEST_TMPDIR/admin.sock"
    under_load http haproxies_replace
}

has_reloaded() {
    [ "$(grep -c "Reloading HAProxy" "$BATS_TEST_TMPDIR/server.log")" = "$1" ]
}

has_loaded() {
    [ "$(grep -c "Loading success" "$BATS_TEST_TMPDIR/server.log")" = "$1" ]
}

# reload N: HAProxy's master, for the Nth time. A USR2 that comes before its loop is lost
# (findings/haproxy-early-reload-lost.sh): right before that it says that it has loaded.
reload() {
    kill -USR2 "$SERVER_PID"
    poll_until 1 has_reloaded "$1"
}

workers_replace() {
    local old n
    for n in 1 2; do
        old=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
        wait_until 20 has_loaded "$n"
        wait_until 20 reload "$n"
        wait_gone "${old%% *}" 20
        wait_until 20 has_forked "$SERVER_PID"
    done
}

# The old worker ends by a soft stop of its own (USR1 to it alone), by which it can lose what clients
# that stay have just asked.
@test "HAProxy's master: two reloads by USR2, and no new client is refused or loses a request" {
    haproxy_config ''
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/sbin/haproxy -W -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    load_begins new 10 "$PROGRAMS/load" --protocol http --one-shot --connections 10 \
        --pause 10-90 --seconds 60 "$port"
    workers_replace
    pause 0.5
    kill -INT "$CLIENTS"
    load_ends new
    none_is unanswered reset truncated refused connect_reset
}

@test "HAProxy's master with idle-close-on-response: two reloads, and clients that do not look lose nothing" {
    haproxy_config '' 'option idle-close-on-response'
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/sbin/haproxy -W -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
    load_begins kept 10 "$PROGRAMS/load" --protocol http --connections 50 --pause 0-40 --seconds 120 "$port"
    workers_replace
    kill -INT "$CLIENTS" 2>/dev/null || true # its last connection may have gone with the first worker
    load_ends kept
    none_is unanswered reset truncated refused
}
