# SPDX-License-Identifier: MIT
# Real trees of processes, each drained as one: by a stop signal to its first process, and by the
# command. Idle and silent connections are closed, what is in use is answered, nobody is lost, and
# the tree ends, or stays, as it should.
# mutant: shim/tree/wake.c: s/sys2\(SYS_kill, pid, sig\) == -EPERM/sig < 0/
# seconds: 117
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load load
load configs
load clients
load processes

setup() {
    port=$((23000 + 10 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/* "$temporary" # servers have users of their own
    mkdir -m 1777 "$temporary/run"
    export WEIR_RUN_DIR=$temporary/run
    weir=$ROOT/build/weir
    : >"$temporary/weir.log"
    chmod 666 "$temporary/weir.log"
    LOGGED+=(weir)
    extra=0 load=
    declare -g -a session=()
}

teardown() {
    local pid
    for pid in "${STARTED[@]}"; do
        # shellcheck disable=SC2046  # numbers
        also_end $(descendants "$pid")
    done
    end_started
}

# ---- processes

status() {
    "$weir" status "$SERVER_PID" --json
}

# figure NAME: a number of `weir status --json`, the first of that name.
figure() {
    status | grep -oE "\"$1\": ?[0-9]+" | head -n 1 | grep -oE '[0-9]+$'
}

# weir_says REGEX: a line of the shim's about the tree.
weir_says() {
    if ! grep -Eq "^weir\[[0-9]+\] $1" "$temporary/weir.log" "$temporary/server.log"; then
        echo "the log does not say: $1" >&2
        grep -h '^weir' "$temporary/weir.log" "$temporary/server.log" >&2
        return 1
    fi
}

# ---- the servers, on $port, for clients.bash

# Its answers have the worker's pid.
start_nginx() {
    cat >"$temporary/nginx.conf" <<END
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon ${daemon:-off};
master_process on;
worker_processes 2;
$(nginx_user)
worker_shutdown_timeout 5s;
pid $temporary/nginx.pid;
error_log ${error_log:-stderr} notice;
events { worker_connections 256; }
http {
    access_log off;
    $(nginx_paths)
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:$port reuseport;
        location / { return 200 "It works: \$pid\n"; }
        location /slow { echo_sleep ${slow_seconds:-1.5}; echo "at last"; }
    }
}
END
    program=nginx
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- \
        nginx -e "${error_log:-stderr}" -c "$temporary/nginx.conf"
    wait_port "$port"
}

speaks_http nginx

# The first process ends at once: the master, whose parent it was, acts for the tree from then on.
start_nginx_daemon() {
    daemon=on error_log=$temporary/error.log start_nginx "$@"
    wait_until 5 test -s "$temporary/nginx.pid"
    wait_gone "$SERVER_PID" 5
    wait "$SERVER_PID"
    SERVER_PID=$(<"$temporary/nginx.pid")
    also_end "$SERVER_PID"
}

speaks_http nginx_daemon

# Its answers have the worker's pid too. Listens before it forks; its master awaits signals alone.
start_prefork() {
    program=python3
    # shellcheck disable=SC2086  # a word, or none
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- \
        /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2 ${binds:-}
    wait_port "$port"
    wait_until 5 has_workers 2
}

has_workers() {
    [ "$(log server | grep -c '^worker ')" -ge "$1" ]
}

speaks_http prefork

# Its master binds, and each of its workers listens, as Hypercorn's.
start_bound() {
    binds=bind start_prefork "$@"
}

speaks_http bound

# It signals its whole process group, which has to be its own.
# start_apache MPM [VAR=value...]
start_apache() {
    local modules=/usr/lib/apache2/modules mpm=$1
    shift
    needs_users
    mkdir "$temporary/pages"
    echo "It works" >"$temporary/pages/index.html"
    printf '#!/bin/sh\nsleep 1.5\nprintf "Content-Type: text/plain\\n\\nat last\\n"\n' \
        >"$temporary/pages/slow"
    chmod 755 "$temporary/pages/slow"
    cat >"$temporary/apache.conf" <<END
LoadModule mpm_${mpm}_module $modules/mod_mpm_$mpm.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule dir_module $modules/mod_dir.so
LoadModule alias_module $modules/mod_alias.so
LoadModule cgi_module $modules/mod_cgi.so
ServerRoot $temporary
ServerName localhost
DefaultRuntimeDir $temporary
PidFile $temporary/apache.pid
Listen 127.0.0.1:$port
User www-data
Group www-data
ErrorLog $temporary/apache.log
DocumentRoot $temporary/pages
DirectoryIndex index.html
ScriptAlias /slow $temporary/pages/slow
<IfModule mpm_prefork_module>
    StartServers 30
    MaxSpareServers 60
    ServerLimit 60
    MaxRequestWorkers 60
</IfModule>
<IfModule mpm_event_module>
    StartServers 2
    ThreadsPerChild 64
    MinSpareThreads 16
    ThreadLimit 64
    MaxRequestWorkers 128
</IfModule>
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
AcceptFilter http none
END
    program=apache2
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- \
        setsid apache2 -f "$temporary/apache.conf" -DFOREGROUND
    wait_port "$port"
}

start_apache_prefork() { start_apache prefork "$@"; }
start_apache_event() { start_apache event "$@"; }
speaks_http apache_prefork apache_event

start_socat() {
    program=socat
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- \
        socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,reuseaddr" "EXEC:$PROGRAMS/tree_lines"
    wait_port "$port"
}

socat_hello='hello\n'
socat_ask() {
    conn_send "$1" 'hello\n'
    read_line answer "$1" 2
    [ "$answer" = hello ]
}
socat_ask_slow() { conn_send "$1" 'slow\n'; }
socat_slow_answer() {
    read_line answer "$1" 3
    [ "$answer" = slow ]
}

# It takes LD_PRELOAD out of its environment: the shim is given back in its configuration.
start_inetd() {
    program=inetd
    echo "127.0.0.1:$port stream tcp nowait.1000 root /usr/bin/env env LD_PRELOAD=$WEIR_LIB" \
        "$PROGRAMS/tree_lines" >"$temporary/inetd.conf"
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- inetd -i "$temporary/inetd.conf"
    wait_port "$port"
}

inetd_hello=$socat_hello
inetd_ask() { socat_ask "$1"; }
inetd_ask_slow() { socat_ask_slow "$1"; }
inetd_slow_answer() { socat_slow_answer "$1"; }

# HAProxy's workers pass each connection on to a server of their own tree, without the shim.
start_haproxy() {
    program=haproxy
    serve_bare backend -- /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" $((port + 1)) 2
    wait_port $((port + 1))
    cat >"$temporary/haproxy.cfg" <<END
global
    nbthread 2
    stats socket unix@$temporary/stats.sock
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:$port
    default_backend back
backend back
    server one 127.0.0.1:$((port + 1))
END
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- haproxy -W -db -f "$temporary/haproxy.cfg"
    wait_port "$port"
}

speaks_http haproxy

start_postgres() {
    local sockets=$temporary/sockets
    needs_users
    program=postgres
    install -d -o postgres "$sockets"
    postgres "WEIR_LOG=$temporary/weir.log" "$@"
}

# The start-up packet's answer.
postgres_hello='\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0'

# sql FD QUERY
sql() {
    local length
    printf -v length '\\x%02x' $((${#2} + 5))
    conn_send "$1" "Q\\0\\0\\0$length$2\\0"
}

# read_ready FD SECONDS: a session's messages (a type, a length, a body) up to ReadyForQuery. Bash
# drops NUL bytes, so a program reads them; `answer` is the rows' text.
read_ready() {
    answer=$(timeout "$(patient "$2")" "$ROOT/tests/programs/tree_sql.py" <&"$1")
}

postgres_ask() {
    if [ -z "${session[$1]:-}" ]; then
        conn_send "$1" "$postgres_hello"
        read_ready "$1" 3
        session[$1]=1
    fi
    sql "$1" 'SELECT 40 + 2'
    read_ready "$1" 3
    [ "$answer" = 42 ]
}
postgres_ask_slow() { sql "$1" "SELECT 7 FROM pg_sleep(1.5)"; }
postgres_slow_answer() {
    read_ready "$1" 3
    [ "$answer" = 7 ]
}

# Two processes for each session.
start_vsftpd() {
    program=vsftpd
    needs_users
    mkdir "$temporary/files"
    head -c 16000000 /dev/zero >"$temporary/files/large"
    vsftpd_lines "$temporary/files" >"$temporary/vsftpd.conf"
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- vsftpd "$temporary/vsftpd.conf"
    wait_port "$port"
    extra=1 # the transfer's own connection
}

# ftp FD COMMAND CODE: its answer's line goes to `answer`.
ftp() {
    [ -z "$2" ] || conn_send "$1" "$2\\r\\n"
    read_line answer "$1" 3
    [[ $answer == "$3"* ]]
}

vsftpd_hello=''
vsftpd_ask() {
    if [ -z "${session[$1]:-}" ]; then
        ftp "$1" '' 220
        ftp "$1" 'USER anonymous' 331
        ftp "$1" 'PASS nobody' 230
        session[$1]=1
    fi
    ftp "$1" PWD 257
}

# A file in passive mode, which the client begins to take only when it is asked for the answer.
vsftpd_ask_slow() {
    local numbers
    ftp "$1" 'TYPE I' 200
    ftp "$1" PASV 227
    numbers=${answer##*(}
    IFS=, read -r _ _ _ _ high low <<<"${numbers%%)*}"
    conn_open data $((high * 256 + low))
    ftp "$1" 'RETR large' 150
}
vsftpd_slow_answer() {
    pause 0.5
    [ "$(timeout "$(patient 3)" cat <&"$data" | wc -c)" = 16000000 ]
    ftp "$1" '' 226
}

# ---- what each tree has to do

# clients X: the slow one waits for its answer. With `load` there are so many busy ones besides, which
# tell what became of each request.
clients() {
    local fd
    open_clients "$1"
    if [ "$1" = vsftpd ]; then
        for fd in "${silent[@]}"; do
            ftp "$fd" '' 220
        done
    fi
    if [ -n "$load" ]; then
        load_begins load 5 "$PROGRAMS/load" --connections "$load" --careful --pause 20-200 \
            --seconds 15 "$port"
    fi
    wait_until 5 is_figure tracked $((6 + ${load:-0})) # the silent ones are accepted at some time
    ask_slow "$1"
    pause 0.15
    all_are_open
}

# accepts_no_more: the tree says so of each of its listeners. Each process begins when it is woken, and on
# a busy machine one may have closed its connections before another one stops accepting.
accepts_no_more() {
    local said
    said=$(status)
    has "$said" '"listeners": [{'
    lacks "$said" '"state": "accepting"'
}

# watch_clients X: the drain is on. What is idle ends, the slow answer comes, nobody new is served.
watch_clients() {
    local hello=$1_hello
    all_at_eof 1 "${idle[@]}"
    before_slow is_open "$slow"
    wait_until 5 accepts_no_more
    not_served "$port" "${!hello}"
    "$1_slow_answer" "$slow"
    at_eof "$slow" 2
    all_at_eof 2 "${silent[@]}"
    [ -z "$load" ] || none_lost
}

# none_lost: each request of the load was answered.
none_lost() {
    wait_gone "$CLIENTS" 3
    load_ends load
    [ "${totals[answered]}" -ge 10 ]
    none_is unanswered reset truncated open
}

# drained_as COUNT: the tree's first process told the end, and the sums are right.
drained_as() {
    wait_until 5 weir_says ".*: drained in " 2>/dev/null
    weir_says "$program: drained in [0-9.]+m?s: $1 closed clean, 0 forced; "
    [ "$(grep -hEc ' drained in ' "$temporary/weir.log")" = 1 ]
}

# sums_are_right COUNT: in what status said, each connection that was accepted has ended somehow.
sums_are_right() {
    local accepted closed idle forced disowned
    IFS=, read -r accepted closed idle forced disowned <<<"$(
        grep -oE '"totals": \{[^}]*' "$temporary/status" | tr -dc '0-9,')"
    if [ "$accepted" -lt "$1" ] || [ "$accepted" != $((closed + idle + forced + disowned)) ]; then
        echo "$accepted accepted: $closed + $idle closed, $forced forced, $disowned disowned" >&2
        return 1
    fi
}

# ends_by_signal X STATUS [VAR=value...]: TERM to the first process drains the tree, then ends it,
# with the status that it has on TERM without the shim.
ends_by_signal() {
    local server=$1 expected=$2 status=0 tree pid
    shift 2
    "start_$server" WEIR_STOP_SIGNALS=TERM "$@"
    clients "$server"
    mapfile -t tree < <(descendants "$SERVER_PID")
    [ ${#tree[@]} -ge 1 ]
    kill -TERM "$SERVER_PID"
    watch_clients "$server"
    wait_gone "$SERVER_PID" 5
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$expected" ]
    for pid in "${tree[@]}"; do
        wait_gone "$pid" 2
    done
    drained_as $((6 + ${load:-0} + extra))
}

# stays X STATUS ASK [VAR=value...]: ASK ("command", or "signal") drains the tree, which runs on;
# then TERM ends it as it always does.
stays() {
    local server=$1 expected=$2 ask=$3 status=0 waits
    shift 3
    "start_$server" WEIR_STOP_SIGNALS=TERM "$@"
    clients "$server"
    if [ "$ask" = command ]; then
        become "$weir" drain --wait "$SERVER_PID" >"$temporary/drain.log" 2>&1 &
        waits=$!
        also_end "$waits"
    else
        kill -s RTMIN+3 "$SERVER_PID"
    fi
    watch_clients "$server"
    if [ "$ask" = command ]; then
        wait_gone "$waits" 3
        wait "$waits" || status=$?
        cat "$temporary/drain.log"
        [ "$status" = 0 ]
    fi
    drained_as $((6 + ${load:-0} + extra))
    weir_says "$program: drained in .* the program runs on"
    alive "$SERVER_PID"
    status | tee "$temporary/status" | grep -q '"phase": "drained"'
    grep -q '"losses": {"forced_in_use": 0, "unread": 0, "unsent": 0}' "$temporary/status"
    grep -q '"connections": {"tracked": 0, "idle": 0, "in_use": 0}' "$temporary/status"
    sums_are_right $((6 + ${load:-0} + extra))
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 3
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$expected" ]
}

@test "nginx with a master and two workers drains on TERM, then ends as it does on TERM" {
    load=40
    ends_by_signal nginx 0
}

@test "nginx with a master and two workers drains by the command, and stays" {
    load=40
    stays nginx 0 command
}

@test "a pre-fork server in Python drains on TERM, then ends as it does on TERM" {
    load=40
    ends_by_signal prefork 0
}

@test "a pre-fork server in Python drains by the command, and stays" {
    load=40
    stays prefork 0 command
}

@test "workers that listen on what their master has bound are drained by the command: no accept fails" {
    load=40
    stays bound 0 command
    lacks "$(log server)" 'accept:'
}

@test "workers that listen on what their master has bound are drained on TERM: no accept fails" {
    load=40
    ends_by_signal bound 0
    lacks "$(log server)" 'accept:'
}

@test "what a master has bound is closed also where the master is not the tree's first process" {
    local fd
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server "WEIR_LOG=$temporary/weir.log" -- sh -c '"$@"; exit' sh \
        /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 2 bind
    wait_port "$port"
    wait_until 5 has_workers 2
    conn_open fd "$port"
    worker_of "$fd"
    "$weir" drain --wait "$SERVER_PID"
    lacks "$(log server)" 'accept:'
    not conn_open fd "$port"
}

start_again() {
    binds=again start_prefork "$@"
}

speaks_http again

@test "a master that listens again on what it had before an exec takes it from no worker: no accept fails" {
    load=40
    stays again 0 command
    lacks "$(log server)" 'accept:'
}

@test "a worker that is drained alone leaves what their master has bound to the other" {
    local fd first
    start_bound
    conn_open fd "$port"
    worker_of "$fd"
    first=$worker
    kill -USR2 "$first"
    wait_until 5 weir_says ".*: drained in " 2>/dev/null
    for _ in 1 2 3 4; do
        conn_open fd "$port"
        worker_of "$fd"
        [ "$worker" != "$first" ]
    done
    lacks "$(log server)" 'accept:'
}

@test "Apache with a process for each connection drains on TERM, then ends as it does on TERM" {
    load=20
    ends_by_signal apache_prefork 0
}

@test "Apache with a process for each connection drains by the command, and stays" {
    load=20
    stays apache_prefork 0 command
}

@test "Apache with threads drains on TERM, then ends as it does on TERM" {
    load=40
    ends_by_signal apache_event 0
}

@test "Apache with threads drains by the command, and stays" {
    load=40
    stays apache_event 0 command
}

@test "HAProxy with a master drains on TERM, then ends as it does on TERM" {
    load=40
    ends_by_signal haproxy 0
}

@test "HAProxy with a master drains by the command, and stays" {
    load=40
    stays haproxy 0 command
}

@test "socat with a child for each connection drains on TERM, then ends as it does on TERM" {
    ends_by_signal socat 143
}

@test "socat with a child for each connection drains by the command, and stays" {
    stays socat 143 command
}

@test "inetd, with a program for each connection, drains on TERM, then ends as it does on TERM" {
    ends_by_signal inetd 0
}

@test "inetd, with a program for each connection, drains by the command, and stays" {
    stays inetd 0 command
}

@test "PostgreSQL drains on TERM, then ends as it does on TERM" {
    ends_by_signal postgres 0
}

@test "PostgreSQL drains by the command, and stays" {
    stays postgres 0 command
}

# ---- sessions: in mode automatic a connection is in use from its first byte to its end

# A key for the client and one for the server; and root's home, /run and ~/.ssh of a mount namespace
# of the server's own.
ssh_keys() {
    mkdir -p "$temporary/home/.ssh" "$temporary/run-sshd"
    ssh-keygen -q -t ed25519 -N '' -f "$temporary/key"
    ssh-keygen -q -t ed25519 -N '' -f "$temporary/host"
    cp "$temporary/key.pub" "$temporary/home/.ssh/authorized_keys"
    chmod -R go= "$temporary/home"
}

start_sshd() {
    program=sshd
    needs_root # /etc/shadow
    ssh_keys
    cat >"$temporary/sshd.conf" <<END
ListenAddress 127.0.0.1:$port
HostKey $temporary/host
AuthorizedKeysFile $temporary/home/.ssh/authorized_keys
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
END
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve_bare server -- unshare --mount sh -c \
        'mount --bind "$0" /run && mkdir -p /run/sshd && exec env "$@"' "$temporary/run-sshd" \
        "LD_PRELOAD=$WEIR_LIB" "WEIR_LOG=$temporary/weir.log" "$@" \
        /usr/sbin/sshd -D -e -f "$temporary/sshd.conf"
    wait_port "$port"
}

start_dropbear() {
    program=dropbear
    needs_users
    ssh_keys
    dropbearkey -t ed25519 -f "$temporary/dropbear" >/dev/null 2>&1
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve_bare server -- unshare --mount sh -c \
        'mount --bind "$0" /root && exec env "$@"' "$temporary/home" \
        "LD_PRELOAD=$WEIR_LIB" "WEIR_LOG=$temporary/weir.log" "$@" \
        dropbear -F -E -m -r "$temporary/dropbear" -P "$temporary/dropbear.pid" -p "127.0.0.1:$port"
    wait_port "$port"
}

# log_in COMMAND: a session in the background, its output and status in files.
log_in() {
    {
        status=0
        timeout "$(patient 10)" ssh -F none -i "$temporary/key" -p "$port" -o StrictHostKeyChecking=no \
            -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes root@127.0.0.1 "$1" \
            >"$temporary/session" 2>&1 </dev/null || status=$?
        echo "$status" >"$temporary/session.status"
    } 3>&- &
    also_end $!
}

# ends FD SECONDS: what the server says first (its banner), then a clean end.
ends() {
    timeout "$(patient "$2")" cat <&"$1" >/dev/null
}

# sessions_end X STATUS HOW: silent connections are closed, a session in a command has its output.
sessions_end() {
    local server=$1 expected=$2 how=$3 status=0 fd silent=() waits count=3
    # OpenSSH 10 has a process of its own for who logs in, which has the connection for that time.
    [ "$server" != sshd ] || [ ! -e /usr/lib/openssh/sshd-auth ] || count=4
    "start_$server" WEIR_MODE=automatic WEIR_STOP_SIGNALS=TERM
    for _ in 1 2; do
        conn_open fd "$port"
        silent+=("$fd")
    done
    log_in 'echo begun; sleep 1; echo done'
    wait_until 5 grep -q begun "$temporary/session"
    if [ "$how" = signal ]; then
        kill -TERM "$SERVER_PID"
    else
        become "$weir" drain --wait "$SERVER_PID" >"$temporary/drain.log" 2>&1 &
        waits=$!
        also_end "$waits"
    fi
    for fd in "${silent[@]}"; do
        ends "$fd" 0.8
    done
    wait_until 3 test -s "$temporary/session.status"
    cat "$temporary/session"
    [ "$(<"$temporary/session")" = $'begun\ndone' ]
    [ "$(<"$temporary/session.status")" = 0 ]
    if [ "$how" = command ]; then
        wait "$waits" || status=$?
        cat "$temporary/drain.log"
        [ "$status" = 0 ]
        alive "$SERVER_PID"
        not listening "$port"
        status | tee "$temporary/status" | grep -q '"phase": "drained"'
        kill -TERM "$SERVER_PID"
    fi
    wait_gone "$SERVER_PID" 3
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$expected" ]
    drained_as "$count"
}

# dropbear_status: by TERM, which it calls an error before version 2024.
dropbear_status() {
    [[ $(dropbear -V 2>&1) == *v202[0-3].* ]] && echo 1 || echo 0
}

@test "sshd drains on TERM: a session's command ends with its output" {
    sessions_end sshd 0 signal
}

@test "sshd drains by the command: a session's command ends with its output" {
    sessions_end sshd 0 command
}

@test "dropbear drains on TERM: a session's command ends with its output" {
    sessions_end dropbear "$(dropbear_status)" signal
}

@test "dropbear drains by the command: a session's command ends with its output" {
    sessions_end dropbear "$(dropbear_status)" command
}

@test "vsftpd drains on TERM: a transfer ends with its file" {
    ends_by_signal vsftpd 143
}

@test "vsftpd drains by the command: a transfer ends with its file" {
    stays vsftpd 143 command
}

not_a_child=127 # bash knows no status of it

# The daemon's workers share its listeners with it, though who made them has ended: nothing is shut.
workers_saw_nothing() {
    not grep 'accept4() failed' "$temporary/error.log"
}

@test "nginx that became a daemon drains on TERM to its master, then ends" {
    load=40
    ends_by_signal nginx_daemon "$not_a_child"
    workers_saw_nothing
}

@test "nginx that became a daemon drains by the command, and stays" {
    load=40
    stays nginx_daemon "$not_a_child" command
    workers_saw_nothing
}

@test "nginx, which has a use for SIGUSR2, drains on another signal to its master, and stays" {
    load=40
    stays nginx 0 signal WEIR_SIGNAL=RTMIN+3
}

@test "HAProxy, which has a use for SIGUSR2, drains on another signal to its master, and stays" {
    load=40
    stays haproxy 0 signal WEIR_SIGNAL=RTMIN+3
}

@test "PostgreSQL, which has a use for SIGUSR2, drains on another signal, and stays" {
    stays postgres 0 signal WEIR_SIGNAL=RTMIN+3
}

# ---- one process, all of them, new ones

# worker_of FD: the pid that answers there.
worker_of() {
    http_ask "$1"
    worker=${answer##*: }
    worker=${worker%$'\n'}
}

# told_to_all X STATUS: TERM reaches every process, as from systemd: the workers first. (They hold it for
# 100 ms: the first process is to have it within that, on a busy machine as well.)
told_to_all() {
    local server=$1 status=0
    load=40
    "start_$server" WEIR_STOP_SIGNALS=TERM
    clients "$server"
    # shellcheck disable=SC2046  # numbers
    kill -TERM $(descendants "$SERVER_PID") "$SERVER_PID"
    watch_clients "$server"
    wait_gone "$SERVER_PID" 5
    wait "$SERVER_PID" || status=$?
    [ "$status" = "$2" ]
    drained_as 46
}

@test "TERM to all processes of nginx at once drains first" {
    told_to_all nginx 0
}

@test "TERM to all processes of a pre-fork server at once drains first" {
    told_to_all prefork 0
}

@test "TERM to all processes of PostgreSQL at once drains first" {
    start_postgres WEIR_STOP_SIGNALS=TERM
    clients postgres
    # shellcheck disable=SC2046  # numbers
    kill -TERM $(descendants "$SERVER_PID") "$SERVER_PID"
    watch_clients postgres
    wait_gone "$SERVER_PID" 5
    wait "$SERVER_PID"
    drained_as 6
}

# Half of the pre-fork server's connections, in the order in which they came, are of either worker.
@test "a worker killed in the middle of a drain does not hold it up, and the sums are right" {
    local first second other fd
    start_prefork WEIR_STOP_SIGNALS=TERM
    conn_open first "$port"
    worker_of "$first"
    killed=$worker
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
        conn_open second "$port"
        worker_of "$second"
        opened=$((${opened:-1} + 1))
        [ "$worker" = "$killed" ] || break
    done
    other=$worker
    [ "$other" != "$killed" ]
    http_get "$first" /slow5
    http_get "$second" /slow1.5
    pause 0.2
    kill -TERM "$SERVER_PID"
    pause 0.4
    kill -KILL "$killed"
    http_answer "$second" 3
    [[ $answer == *"at last"* ]]
    at_eof "$second" 2
    wait_gone "$SERVER_PID" 3
    wait "$SERVER_PID"
    weir_says "$program: drained in [0-9.]+m?s: $((opened - 1)) closed clean, 1 forced; "
    weir_says "$program: pid $killed has died in the middle of the drain: 1 connections were in use"
}

@test "workers that are made in the middle of a drain serve nobody, and the drain ends" {
    local fd slow_seconds=4 # for the new workers to come in the middle of it
    start_nginx WEIR_STOP_SIGNALS=TERM
    clients nginx
    kill -TERM "$SERVER_PID"
    all_at_eof 1 "${idle[@]}"
    before=$(descendants "$SERVER_PID" | sort)
    kill -HUP "$SERVER_PID" # a new configuration, for new workers
    wait_until 3 new_workers
    not_served "$port" "$http_hello"
    http_slow_answer "$slow"
    at_eof "$slow" 2
    all_at_eof 2 "${silent[@]}"
    wait_gone "$SERVER_PID" 3
    wait "$SERVER_PID"
    drained_as 6
}

new_workers() {
    [ "$(descendants "$SERVER_PID" | sort | comm -13 <(echo "$before") - | wc -l)" -ge 2 ]
}

@test "children that are made for the last in the queue answer them, and are drained" {
    local fds=() fd
    start_socat WEIR_STOP_SIGNALS=TERM
    kill -STOP "$SERVER_PID"
    for _ in 1 2 3; do
        conn_open fd "$port"
        conn_send "$fd" 'hello\n'
        fds+=("$fd")
    done
    kill -TERM "$SERVER_PID"
    kill -CONT "$SERVER_PID"
    for fd in "${fds[@]}"; do
        read_line answer "$fd" 2
        [ "$answer" = hello ]
    done
    all_at_eof 3 "${fds[@]}"
    wait_gone "$SERVER_PID" 3
    status=0
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
    drained_as 3
}

@test "a second TERM to the first process, a second later, closes what the workers have in use" {
    local fd
    start_prefork WEIR_STOP_SIGNALS=TERM
    conn_open fd "$port"
    http_get "$fd" /slow10
    pause 0.2
    kill -TERM "$SERVER_PID"
    wait_until 5 weir_says 'python3: draining: SIGTERM' 2>/dev/null
    pause 1.1
    is_open "$fd"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 3
    wait "$SERVER_PID"
    not is_open "$fd" 2>/dev/null
    weir_says 'python3: drained in [0-9.]+m?s: 0 closed clean, 1 forced; SIGTERM goes to the '
}

# drains_without WORKER STATUS CONNECTIONS: the tree's drain ends without a worker, who is stopped and has so
# many connections; the command ends with that status.
drains_without() {
    local status=0 output
    kill -STOP "$1"
    output=$("$weir" drain --wait --timeout 1s "$SERVER_PID" 2>&1) || status=$?
    echo "$output"
    kill -CONT "$1"
    [ "$status" = "$2" ]
    has "$output" "pid $1 has not drained: it has $3 connections"
    has "$output" ': not wholly drained in '
    weir_says "nginx: not drained: pid $1 has not begun its drain .*: its $3 connections count as forced"
    weir_says "nginx: not wholly drained in [0-9.]+s: 0 closed clean, $3 forced; "
}

@test "a worker that never begins its drain is named, and the tree not called drained" {
    local workers
    start_nginx
    read -r -a workers <<<"$(tr '\n' ' ' < <(descendants "$SERVER_PID"))"
    drains_without "${workers[1]}" 1 0
}

@test "the connections of a worker that never begins its drain count as forced" {
    local fd
    start_nginx
    conn_open fd "$port"
    http_get "$fd" /
    http_answer "$fd" 3
    drains_without "$(grep -oE '[0-9]+' <<<"$answer")" 3 1
}

@test "the command says 3 when the timeout has forced what a worker had in use" {
    local fd status=0
    start_prefork
    conn_open fd "$port"
    http_ask "$fd"
    http_get "$fd" /slow5
    pause 0.2
    "$weir" drain --wait --timeout 1s "$SERVER_PID" || status=$?
    [ "$status" = 3 ]
    not is_open "$fd" 2>/dev/null
    alive "$SERVER_PID"
    [ "$(figure forced_in_use)" = 1 ]
    weir_says 'python3: drained in [0-9.]+m?s: 0 closed clean, 1 forced; the program runs on'
}

@test "a worker that was drained alone has no second line when the tree is drained" {
    local worker
    start_prefork
    worker=$(sed -n 's/^worker //p' "$BATS_TEST_TMPDIR/server.log" | head -n 1)
    kill -USR2 "$worker"
    wait_until 5 grep -q "^weir\\[$worker\\] .*: drained in " "$temporary/weir.log"
    kill -USR2 "$SERVER_PID"
    wait_until 5 grep -q "^weir\\[$SERVER_PID\\] .*: drained in " "$temporary/weir.log"
    pause 0.5
    cat "$temporary/weir.log"
    [ "$(grep -c ': drained in ' "$temporary/weir.log")" = 2 ]
}

@test "WEIR_ON_DRAINED goes to the first process alone" {
    local fd
    start_prefork WEIR_ON_DRAINED=HUP
    conn_open fd "$port"
    http_ask "$fd"
    kill -USR2 "$SERVER_PID"
    at_eof "$fd" 2
    wait_until 3 log_has server "^hup $SERVER_PID\$"
    pause 0.3
    [ "$(log server | grep -c '^hup')" = 1 ]
    alive "$SERVER_PID"
}

# no_drain: only the line that says it is ready speaks of one.
no_drain() {
    sed '/ready/d' "$temporary/weir.log" >"$temporary/said"
    not grep -E 'drain(ing|ed)' "$temporary/said"
}

@test "TERM for a worker alone reaches it a tenth of a second later, and is no drain" {
    local before fd
    start_prefork WEIR_STOP_SIGNALS=TERM
    conn_open fd "$port"
    worker_of "$fd"
    before=$(now_ms)
    kill -TERM "$worker"
    wait_gone "$worker" 2
    [ $(($(now_ms) - before)) -ge 90 ]
    wait_until 2 has_workers 3
    served "$port" "$http_hello"
    not log_has server 'drain(ing|ed)'
    no_drain
}

@test "TERM for one of PostgreSQL's backends ends that session alone, and is no drain" {
    local one two
    start_postgres WEIR_STOP_SIGNALS=TERM
    conn_open one "$port"
    postgres_ask "$one"
    conn_open two "$port"
    postgres_ask "$two"
    sql "$one" 'SELECT pg_backend_pid()'
    read_ready "$one" 2
    become "$postgres_bin/psql" -h 127.0.0.1 -p "$port" -U postgres -At \
        -c 'SELECT 7 FROM pg_sleep(1)' >"$temporary/psql" 2>&1 &
    asked=$!
    pause 0.3
    kill -TERM "$answer"
    wait_gone "$answer" 2
    timeout "$(patient 2)" cat <&"$one" >"$temporary/one"
    grep -aq 'terminating connection due to administrator command' "$temporary/one"
    postgres_ask "$two"
    wait "$asked"
    [ "$(<"$temporary/psql")" = 7 ]
    served "$port" "$postgres_hello"
    no_drain
}

@test "two servers on AF_UNIX in one tree do not keep each other open while both are in use" {
    local name
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server -- sh -c 'for name in a b; do
        redis-server --port 0 --unixsocket "$0/$name" --save "" --dir "$0" &
    done
    wait' "$temporary"
    local server=$SERVER_PID
    for name in a b; do
        wait_unix "$temporary/$name"
        serve_bare "client_$name" -- redis-cli -s "$temporary/$name" BLPOP nothing 0
    done
    SERVER_PID=$server
    wait_until 10 is_figure in_use 2
    "$weir" drain "$SERVER_PID"
    wait_until 5 no_longer_unix "$temporary/a"
    wait_until 5 no_longer_unix "$temporary/b"
    is_figure in_use 2
}

is_figure() {
    [ "$(figure "$1")" = "$2" ]
}

no_longer_unix() {
    not listening_unix "$1"
}
