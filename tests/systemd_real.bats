#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# A real systemd as pid 1 (scripts/systemd-machine), Debian's own units and the drop-ins: a restart under
# clients that stay and clients that come all the time, 200 a second, refuses nobody.
# mutant: shim/tree/sd_notify.c: s/"FDSTORE=1" NAMED;/"FDSTORE=0" NAMED;/
# needs: systemd systemd-container nginx-light memcached redis-server lighttpd apache2 apache2-bin haproxy
# seconds: 80
# shellcheck shell=bash disable=SC2154

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
    since=$(date +%s)
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
    none_is unanswered reset truncated refused connect_reset
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
    under_load memcached 11211 thrice
}

@test "redis-server.service: three restarts" {
    drops_in redis-server.service weir.conf weir_redis.conf
    starts
    sockets=2 under_load redis 6379 thrice
}
