# SPDX-License-Identifier: MIT
# Web servers that we did not write, for the tests of mode protocol: load it after helpers.
# start_X [VAR=value...] serves on $port, under the shim unless `how` is serve_bare. SERVER_PID,
# and in `trigger` the signal that drains it.
# shellcheck shell=bash disable=SC2034,SC2154

load configs

how=serve
mode=(WEIR_MODE=protocol)
modules=/usr/lib/apache2/modules

# begin NAME VAR=value... -- COMMAND...: and waits until it listens.
begin() {
    local name=$1
    shift
    "$how" "$name" "${mode[@]}" WEIR_RUN_DIR="$BATS_TEST_TMPDIR" "$@"
    case $port in
    /*) wait_unix "$port" ;;
    *) wait_port "$port" ;;
    esac
}

# Files to serve, the same in each test; small is not empty, large is sent by sendfile in pieces.
files() {
    local at=$BATS_TEST_TMPDIR/files
    [ -d "$at" ] && return
    mkdir "$at"
    # Servers that become another user look into it.
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$BATS_TEST_TMPDIR" "$at"
    echo 'It works' >"$at/index.html"
    : >"$at/empty"
    seq 1500000 >"$at/large" # 10 MB
    touch -d '2024-01-01 00:00 UTC' "$at"/*
}

# `locations`: more of nginx's server block. `workers`: without, one process.
start_nginx() {
    local master='master_process off;'
    [ -z "${workers:-}" ] || master="worker_processes $workers;"
    files
    trigger=RTMIN+3
    cat >"$BATS_TEST_TMPDIR/nginx.conf" <<END2
user root;
daemon off;
$master
pid $BATS_TEST_TMPDIR/nginx.pid;
error_log stderr warn;
events { worker_connections 1000; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    $(nginx_paths)
    ${upstream:-}
    server {
        listen 127.0.0.1:$port backlog=1000 ${listen:-};
        root $BATS_TEST_TMPDIR/files;
        ${locations:-}
    }
}
END2
    begin "${name:-server}" WEIR_SIGNAL=RTMIN+3 "$@" -- \
        nginx -e stderr -c "$BATS_TEST_TMPDIR/nginx.conf"
}

# start_apache event|prefork [VAR=value...]
start_apache() {
    local mpm=$1
    shift
    needs_users
    files
    trigger=RTMIN+3 # USR2 it blocks
    cat >"$BATS_TEST_TMPDIR/apache.conf" <<END2
ServerRoot $BATS_TEST_TMPDIR
ServerName localhost
PidFile $BATS_TEST_TMPDIR/apache.pid
Listen 127.0.0.1:$port
LoadModule mpm_${mpm}_module $modules/mod_mpm_$mpm.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule dir_module $modules/mod_dir.so
LoadModule deflate_module $modules/mod_deflate.so
LoadModule filter_module $modules/mod_filter.so
ErrorLog /dev/stderr
LogLevel error
User www-data
Group www-data
DocumentRoot $BATS_TEST_TMPDIR/files
DirectoryIndex index.html
MaxKeepAliveRequests 0
KeepAliveTimeout 60
${apache_also:-}
# A child whose threads are all busy closes connections on its own, without any stop.
<IfModule mpm_prefork_module>
    StartServers 60
    MinSpareServers 1
    MaxSpareServers 120
    ServerLimit 120
    MaxRequestWorkers 120
</IfModule>
<IfModule mpm_event_module>
    StartServers 2
    ThreadLimit 128
    ThreadsPerChild 128
    MaxSpareThreads 256
    MaxRequestWorkers 256
</IfModule>
END2
    begin server WEIR_SIGNAL=RTMIN+3 "$@" -- \
        setsid apache2 -f "$BATS_TEST_TMPDIR/apache.conf" -DFOREGROUND # at TERM it tells its group
}

start_lighttpd() {
    files
    trigger=USR2
    cat >"$BATS_TEST_TMPDIR/lighttpd.conf" <<END2
server.document-root = "$BATS_TEST_TMPDIR/files"
server.bind = "127.0.0.1"
server.port = $port
server.max-connections = 500
server.max-fds = 2048
server.max-keep-alive-requests = 65000
server.max-keep-alive-idle = 60
index-file.names = ("index.html")
END2
    begin server "$@" -- lighttpd -D -f "$BATS_TEST_TMPDIR/lighttpd.conf"
}

# port may be a path: a UNIX socket there. What they execute is written to $BATS_TEST_TMPDIR/executed, a line each: web_server.*.
start_node() {
    trigger=USR2
    begin "${name:-server}" "$@" -- node "$ROOT/tests/programs/web_server.js" "$port" \
        "$BATS_TEST_TMPDIR/executed" ${workers:+"$workers"}
}

start_python() {
    trigger=USR2
    begin "${name:-server}" "$@" -- /usr/bin/python3 "$ROOT/tests/programs/web_server.py" "$port" \
        "$BATS_TEST_TMPDIR/executed" ${workers:+"$workers"}
}

# start_haproxy FRONTEND BACKENDS [VAR=value...]; haproxy_user: lines of its section global.
start_haproxy() {
    trigger=USR2
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END2
global
    maxconn 1000
    ${haproxy_user:-}
defaults
    mode http
    option http-keep-alive
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend web
    bind 127.0.0.1:$port
    $1
$2
END2
    begin "${name:-server}" "${@:3}" -- haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
}

# Compiled once for all tests of a file.
start_java() {
    trigger=RTMIN+3 # USR2 is its own
    local at=$BATS_FILE_TMPDIR/java
    [ -d "$at" ] || javac -d "$at" "$ROOT/tests/programs/WebServer.java"
    # More than 200 idle connections it would close, and without nodelay an answer takes 40 ms.
    begin server WEIR_SIGNAL=RTMIN+3 "$@" -- java -XX:TieredStopAtLevel=1 \
        -Dsun.net.httpserver.maxIdleConnections=1000 -Dsun.net.httpserver.nodelay=true \
        -cp "$at" WebServer "$port"
}

# drains: the server has been told.
drains() {
    began=$(now_ms)
    kill -s "$trigger" "$SERVER_PID"
}

# stops: the server ends, and its children.
stops() {
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 5
}

# has_drained [MS]: within so many since `drains`, nothing was forced, and the program runs on.
has_drained() {
    wait_drained server 12
    local took=$(($(now_ms) - began))
    echo "drained after $took ms"
    log_has server "^weir\[[0-9]+\] .*: drained in [0-9.]+m?s: .* 0 forced; the program runs on"
    alive "$SERVER_PID"
    within "$took" "${1:-12000}"
}

# talks: what is on stdin goes to python, with tests/programs/web.py.
talks() {
    PORT=$port PATIENCE=$(patience) SERVER_PID=$SERVER_PID TRIGGER=$trigger PYTHONPATH=$ROOT/tests/programs \
        PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -S -c "from web import *
$(cat)" "$@"
}
