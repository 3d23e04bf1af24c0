#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A real systemd as pid 1 (scripts/systemd-machine), Debian's own units and the drop-ins: a restart under
# clients that stay and clients that come all the time, 200 a second, refuses nobody.
# mutant: shim/tree/sd_notify.c: s/"FDSTORE=1" NAMED;/"FDSTORE=0" NAMED;/
# needs: systemd systemd-container nginx-light memcached redis-server lighttpd apache2 apache2-bin haproxy
# needs: varnish pgbouncer php8.2-fpm php8.4-fpm
# seconds: 44
# shellcheck shell=bash disable=SC2028,SC2154

load helpers
load load

setup_file() {
    local status=0
    machine=$BATS_FILE_TMPDIR/machine
    WHY=$("$ROOT/scripts/systemd-machine" up "$machine" 2>&1) || status=$?
    [ $status = 0 ] || [ $status = 77 ]
    [ $status = 77 ] || WHY=
    export WHY machine
}

teardown_file() {
    [ -n "$WHY" ] || "$ROOT/scripts/systemd-machine" down "$machine"
}

setup() {
    [ -z "$WHY" ] || skip "$WHY"
    ROOT_OF=$machine/root
    never=(reset connect_reset)
}

teardown() {
    [ -n "$WHY" ] || [ -z "${unit:-}" ] || {
        [ -n "${BATS_TEST_COMPLETED:-}" ] || journal
        systemctl stop "$unit"
    }
    end_started
}

in_machine() {
    "$ROOT/scripts/systemd-machine" run "$machine" "$@"
}

systemctl() {
    in_machine systemctl "$@"
}

journal() {
    in_machine journalctl --no-pager -o cat -u "$unit"
}

# drops_in UNIT FILE...: files of scripts/systemd, as they are installed.
drops_in() {
    local place=$ROOT_OF/etc/systemd/system/$1.d file
    unit=$1
    shift
    mkdir -p "$place"
    for file; do
        cp "$machine/weir/usr/local/share/doc/weir/examples/$file" "$place"
    done
    systemctl daemon-reload
}

# stored [N]: so many the manager holds.
stored() {
    [ "$(systemctl show -P NFileDescriptorStore "$unit")" = "$1" ]
}

is_ready() {
    in_machine journalctl --no-pager -o cat -u "$unit" --since "@$1" | grep -q 'weir.*: ready: '
}

# starts: and listens.
starts() {
    local since
    since=$(date +%s.%6N)
    systemctl "${1:-start}" "$unit"
    wait_until 10 is_ready "$since"
}

# under_load PROTOCOL PORT COMMAND...: 50 clients stay, and 10 come again and again.
under_load() {
    local protocol=$1 kept new connects
    connects=("$ROOT/scripts/systemd-machine" net "$machine" "$PROGRAMS/load")
    port=$2
    shift 2
    load_begins kept 10 "${connects[@]}" --protocol "$protocol" --careful --connections 50 \
        --pause 0-40 --seconds 60 "$port"
    kept=$CLIENTS
    load_begins new 10 "${connects[@]}" --protocol "$protocol" --one-shot --connections 10 \
        --pause 10-90 --seconds 60 "$port"
    new=$CLIENTS
    "$@"
    pause 0.5
    kill -INT "$kept" "$new" 2>/dev/null || true
    CLIENTS=$kept load_ends kept
    none_is unanswered reset truncated refused
    CLIENTS=$new load_ends new
    none_is unanswered truncated refused "${never[@]}"
}

thrice() {
    for _ in 1 2 3; do
        starts restart
        stored "${sockets:-1}"
        pause 0.2
    done
}

@test "nginx.service: three restarts" {
    rm -f "$ROOT_OF"/etc/nginx/sites-enabled/*
    echo 'server { listen 127.0.0.1:80; listen 127.0.0.1:81 reuseport; listen [::1]:80;
        location / { return 200 "good\n"; } }' >"$ROOT_OF/etc/nginx/conf.d/site.conf"
    drops_in nginx.service weir.conf weir_nginx.conf
    starts
    sockets=$((2 + $(nproc))) under_load http 80 thrice
}

@test "memcached.service, whose start is a wrapper: three restarts" {
    drops_in memcached.service weir.conf
    starts
    sockets=$(grep -c "^-l" "$ROOT_OF/etc/memcached.conf") under_load memcached 11211 thrice
}

@test "redis-server.service: three restarts" {
    drops_in redis-server.service weir.conf weir_redis.conf
    starts
    sockets=2 under_load redis 6379 thrice
}

@test "lighttpd.service: three restarts" {
    drops_in lighttpd.service weir.conf
    starts
    sockets=2 under_load http 80 thrice
}

@test "apache2.service: three restarts" {
    # Where it has no worker for all who are there it closes kept connections by itself.
    printf '%s\n' 'StartServers 6' 'MinSpareThreads 100' 'MaxSpareThreads 150' 'MaxKeepAliveRequests 0' \
        >"$ROOT_OF/etc/apache2/conf-enabled/test.conf"
    drops_in apache2.service weir.conf weir_apache2.conf
    starts
    under_load http 80 thrice
}

@test "haproxy.service, whose first process has no listener: three restarts refuse nobody" {
    cat >>"$ROOT_OF/etc/haproxy/haproxy.cfg" <<END
frontend web
    bind 127.0.0.1:80
    http-request return status 200 content-type text/plain string good
END
    drops_in haproxy.service weir.conf
    starts
    under_load http 80 thrice
}

# Its manager tries first whether it can listen, closes all that it has not opened, and binds again when its
# worker has ended. Its threads share one signal stack.
@test "varnish.service: three restarts" {
    drops_in varnish.service weir.conf
    starts
    "$ROOT/scripts/systemd-machine" net "$machine" bash -c \
        'until exec 3<>/dev/tcp/127.0.0.1/6081; do sleep 0.1; done' 2>/dev/null # its configuration is compiled
    sockets=3 under_load http 6081 thrice
    [ "$(systemctl show -P Result varnish)" = success ]
    not grep -q 'died signal' <(journal)
}

@test "php-fpm and pgbouncer, which ask their UNIX sockets whether they run already: three restarts" {
    local path
    for path in /usr/lib/systemd/system/php*-fpm.service; do
        drops_in "${path##*/}" weir.conf
        starts
        sockets=1 thrice
        systemctl stop "$unit"
    done
    drops_in pgbouncer.service weir.conf
    sed -i 's/^Environment=WEIR_STOP_SIGNALS=.*/Environment=WEIR_STOP_SIGNALS=INT/' \
        "$ROOT_OF/etc/systemd/system/$unit.d/weir.conf"
    systemctl daemon-reload
    starts
    sockets=2 thrice
}

# own NAME LINE... -- COMMAND...: a unit of that name, under the general drop-in.
own() {
    local name=$1 lines=()
    shift
    while [ "$1" != -- ]; do
        lines+=("$1")
        shift
    done
    shift
    cp "$ROOT/tests/programs/adopter.py" "$ROOT_OF/srv"
    printf '%s\n' '[Service]' "ExecStart=$*" "${lines[@]}" >"$ROOT_OF/etc/systemd/system/$name.service"
    drops_in "$name.service" weir.conf
}

# answers PORT: a client in the machine is answered.
answers() {
    [ "$(timeout 10 "$ROOT/scripts/systemd-machine" net "$machine" bash -c "cat </dev/tcp/127.0.0.1/$1")" -gt 0 ]
}

# waits_for PORT: a client connects now, and WAITS is its pid.
waits_for() {
    "$ROOT/scripts/systemd-machine" net "$machine" bash -c \
        "exec 5<>/dev/tcp/127.0.0.1/$1; echo connected; cat <&5" >"$BATS_TEST_TMPDIR/waits.log" &
    WAITS=$!
    also_end $WAITS
    wait_until 10 log_has waits '^connected$'
}

@test "a stop empties the store, and a start listens anew" {
    own stopped -- /usr/bin/python3 /srv/adopter.py 127.0.0.1/7001
    starts
    answers 7001
    starts restart
    stored 1
    systemctl stop stopped
    stored 0
    starts
    answers 7001
}

@test "a crash: who connects before the next start waits for it" {
    own crashed Restart=on-failure RestartSec=2s -- /usr/bin/python3 /srv/adopter.py 127.0.0.1/7002
    starts
    starts restart
    systemctl kill -s KILL crashed
    wait_until 10 is_restarting
    stored 1
    waits_for 7002
    wait "$WAITS"
    log_has waits '^connected$'
    log_has waits '^[0-9]+$'
}

is_restarting() {
    [ "$(systemctl show -P SubState "$unit")" = auto-restart ]
}

@test "daemon-reexec: systemd takes the store along" {
    own kept -- /usr/bin/python3 /srv/adopter.py 127.0.0.1/7003 127.0.0.1/7004 ::1/7003
    starts
    starts restart
    systemctl daemon-reexec
    stored 3
    starts restart
    stored 3
    answers 7003
    answers 7004
    not grep -q 'not bound in' <(journal)
}

@test "a service that has few rights, and none to its files" {
    own shut_in DynamicUser=yes ProtectSystem=strict ProtectProc=invisible ProtectHome=yes PrivateTmp=yes \
        PrivateUsers=yes NoNewPrivileges=yes SystemCallFilter=@system-service CapabilityBoundingSet= \
        -- /usr/bin/python3 /srv/adopter.py 127.0.0.1/7005
    starts
    starts restart
    stored 1
    starts restart
    answers 7005
    stored 1
}

@test "a socket unit's socket is the program's, what it binds itself is stored" {
    printf '%s\n' '[Socket]' ListenStream=127.0.0.1:7006 FileDescriptorName=web \
        >"$ROOT_OF/etc/systemd/system/activated.socket"
    cat >"$ROOT_OF/srv/activated.py" <<'END'
import os, select, socket
print("given", os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], flush=True)
own = socket.create_server(("127.0.0.1", 7007))
while True:
    for listener in select.select([own, socket.socket(fileno=os.dup(3))], [], [])[0]:
        with listener.accept()[0] as client:
            client.sendall(b"1\n")
END
    own activated -- /usr/bin/python3 /srv/activated.py
    systemctl start activated.socket
    starts # it is ready by the socket unit's
    wait_until 10 answers 7007
    starts restart
    stored 1
    wait_until 10 answers 7007
    starts restart
    stored 1
    answers 7006
    wait_until 10 answers 7007
    [ "$(journal | grep -c '^given')" = 3 ]
    not grep -Ev ' 1 web$' <(journal | grep '^given')
    systemctl stop activated.socket
}

@test "a store that is switched off: the restart is as without, and the log says what is missing" {
    own off FileDescriptorStoreMax=0 -- /usr/bin/python3 /srv/adopter.py 127.0.0.1/7008
    sed -i 's/^FileDescriptorStoreMax=.*/FileDescriptorStoreMax=0/' "$ROOT_OF/etc/systemd/system/off.service.d/weir.conf"
    systemctl daemon-reload
    starts
    starts restart
    stored 0
    answers 7008
    grep -q 'not stored for the next start: .*FileDescriptorStoreMax=' <(journal)
}
