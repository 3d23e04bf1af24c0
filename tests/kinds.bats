#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Listeners and servers of odd kinds: what is in use is answered, what is idle is closed, and the
# drain ends with it.
# mutant: shim/base/sock.c: s/unread == 1\) &&/unread == 2) \&\&/
# needs: nftables rsyslog nginx-light php8.2-fpm php8.4-fpm
# seconds: 40
# shellcheck shell=bash disable=SC2030,SC2031,SC2154

load helpers
load configs
unset WEIR_MODE # the default, protocol

setup() {
    port=$((23000 + 10 * BATS_TEST_NUMBER))
}

# start KIND [ADDRESS...] [-- VARIABLE...]
start() {
    local words=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    serve server WEIR_FIRST_BYTE=300ms WEIR_TIMEOUT=6s WEIR_NOTICE=0 "${@:2}" -- \
        /usr/bin/python3 "$ROOT/tests/programs/kinds.py" "${words[@]}"
    [ "${words[0]}" = autobind ] || wait_port "$port"
}

# they_are_served ADDRESS HOW CLIENTS: in a drain that ends within four seconds, and cuts nobody.
they_are_served() {
    local server=$SERVER_PID
    serve_bare clients -- /usr/bin/python3 "$ROOT/tests/programs/kinds_client.py" "$1" "$2"
    wait_until 10 log_has clients '^ready$'
    kill -USR2 "$server"
    wait_drained server 4
    wait "$SERVER_PID"
    not log_has clients 'LOST|Error'
    [ "$(grep -c ': good$' "$BATS_TEST_TMPDIR/clients.log")" = "$3" ]
    log_has server ': drained in .* 0 forced'
    is_quiet "$server"
}

@test "TPROXY: a connection that came to another port than its listener's is not lost sight of" {
    ip rule add fwmark 1 lookup 100 && ip route add local 0.0.0.0/0 dev lo table 100 ||
        skip "no policy routing"
    nft -f - <<END2 || skip "the kernel has no TPROXY"
table ip weir {
    chain pre {
        type filter hook prerouting priority mangle;
        tcp dport $((port + 1)) tproxy to 127.0.0.1:$port meta mark set 1 accept
    }
}
END2
    start tproxy "$port"
    they_are_served $((port + 1)) all 3
}

@test "AF_UNIX: a connection to a name that the kernel chose is not lost sight of" {
    local name
    start autobind
    wait_until 5 log_has server '^listens at '
    name=$(sed -n 's/^listens at //p' "$BATS_TEST_TMPDIR/server.log")
    they_are_served "@$name" all 3
}

@test "MPTCP: a queue that is empty but for the end is no request" {
    python3 -c 'import socket; socket.socket(2, 1, 262)' || skip "the kernel has no MPTCP"
    start mptcp "$port"
    they_are_served "mptcp:$port" all 3
}

@test "a listener's mode is its address's, also where it was bound before an exec" {
    local client answer
    start bound "$port" $((port + 1)) -- "WEIR_MODE=reply,:$((port + 1))=off"
    wait_port $((port + 1))
    they_are_served "$port" all 3
    conn_open client $((port + 1))
    conn_send "$client" 'still there\n'
    read_line answer "$client" 5
    [ "$answer" = "ok still there" ]
}

@test "a server that peeks before it reads: clients that never rest are told, and none loses an answer" {
    start peek "$port"
    they_are_served "$port" busy 10
}

@test "a server that speaks first: who speaks right behind it is answered, in mode reply as well" {
    start greet "$port" -- WEIR_MODE=reply WEIR_TIMEOUT=3s
    they_are_served "$port" whole 10
}

@test "a server that speaks first: half a command behind the greeting is waited for, in mode reply" {
    start greet "$port" -- WEIR_MODE=reply WEIR_TIMEOUT=5s
    they_are_served "$port" half 10
}

@test "a server that speaks first, and late: who waited long to be accepted is greeted all the same" {
    start late "$port" -- WEIR_MODE=reply WEIR_FIRST_BYTE=1s
    they_are_served "$port" late 2
}

@test "a UNIX listener that is looked at by a timer, as proftpd's: the drain does not wait for it" {
    start polls "$port" "$BATS_TEST_TMPDIR/polled"
    wait_unix "$BATS_TEST_TMPDIR/polled"
    kill -USR2 "$SERVER_PID"
    wait_drained server 3
    log_has server ': drained in .* 0 forced'
    alive "$SERVER_PID"
}

# start_syslog: it takes lines by TCP, and never says anything.
start_syslog() {
    cat >"$BATS_TEST_TMPDIR/rsyslog.conf" <<END2
global(workDirectory="$BATS_TEST_TMPDIR")
module(load="imtcp")
input(type="imtcp" port="$port" address="127.0.0.1")
action(type="omfile" file="$BATS_TEST_TMPDIR/lines")
END2
    serve server WEIR_FIRST_BYTE=300ms WEIR_NOTICE=3s WEIR_TIMEOUT=20s -- \
        rsyslogd -n -f "$BATS_TEST_TMPDIR/rsyslog.conf" -i "$BATS_TEST_TMPDIR/pid"
    wait_port "$port"
}

# has_logged N: so many lines have come to it.
has_logged() {
    [ "$(wc -l <"$BATS_TEST_TMPDIR/lines")" = "$1" ]
}

@test "rsyslog: a client that logs, and is never answered, is closed when it is quiet, and has lost nothing" {
    local client
    start_syslog
    conn_open client "$port"
    for n in 1 2 3 4; do
        conn_send "$client" '<13>some line\n'
        wait_until 5 has_logged "$n"
    done
    kill -USR2 "$SERVER_PID"
    wait_until 5 draining
    conn_send "$client" '<13>some line\n'
    wait_until 5 has_logged 5
    at_eof "$client" 9
    wait_drained server 2
    log_has server ': drained in .*: 1 closed clean, 0 forced'
}

@test "a request in pieces, that nobody has answered yet, is not taken for such a client's" {
    local client answer
    # It gives up at its client's end of file.
    serve server WEIR_FIRST_BYTE=300ms WEIR_NOTICE=6s WEIR_TIMEOUT=20s -- /usr/bin/python3 -c '
import select, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
client, have = listener.accept()[0], b""
while not have.endswith(b"\n"):
    have += client.recv(4096)
    print("heard", have, flush=True)
if not select.select([client], [], [], 1.5)[0]:
    client.sendall(have)
    client.recv(4096)
client.close()
select.select([], [], [])' "$port"
    wait_port "$port"
    conn_open client "$port"
    for n in 1 2 3 4 5; do
        conn_send "$client" 'piece '
        wait_until 5 has_heard "$n"
    done
    conn_send "$client" '\n'
    kill -USR2 "$SERVER_PID"
    read_line answer "$client" 10
    [ "$answer" = "piece piece piece piece piece " ]
    at_eof "$client" 5
    wait_drained server 5
    log_has server ': drained in .*: 1 closed clean, 0 forced'
}

draining() {
    log_has server ': draining: '
}

# has_heard N: the server has read so many pieces.
has_heard() {
    [ "$(log server | grep -c '^heard ')" -ge "$1" ]
}

# start_php: php-fpm, and nginx before it, which keeps its connections (FastCGI).
start_php() {
    local fpm at=$BATS_TEST_TMPDIR
    fpm=$(compgen -G '/usr/sbin/php-fpm*') || skip "php-fpm is not installed"
    mkdir "$at/www"
    # shellcheck disable=SC2016  # PHP's
    echo '<?php usleep((int)($_GET["s"] * 1e6)); echo "ok\n";' >"$at/www/wait.php"
    cat >"$at/fpm.conf" <<END2
[global]
daemonize = no
error_log = $at/fpm.log
[www]
user = $(id -un)
listen = 127.0.0.1:$port
pm = static
pm.max_children = 5
END2
    cat >"$at/nginx.conf" <<END2
daemon off;
master_process off;
$(nginx_user)
pid $at/nginx.pid;
events {}
http {
    access_log off;
    $(nginx_paths)
    upstream php { server 127.0.0.1:$port; keepalive 8; }
    server {
        listen 127.0.0.1:$((port + 1));
        location / {
            fastcgi_pass php;
            fastcgi_keep_conn on;
            fastcgi_param SCRIPT_FILENAME $at/www/wait.php;
            fastcgi_param QUERY_STRING \$query_string;
            fastcgi_param REQUEST_METHOD GET;
        }
    }
}
END2
    serve_bare web -- nginx -c "$at/nginx.conf" -e "$at/nginx.err"
    serve server WEIR_TIMEOUT=15s -- "$fpm" -R -y "$at/fpm.conf"
    wait_port "$port"
    wait_port $((port + 1))
}

@test "php-fpm: kept FastCGI connections are idle once they are answered, and one in use is answered" {
    local pids=() slow
    start_php
    for _ in 1 2 3 4; do
        curl -s -m 10 "http://127.0.0.1:$((port + 1))/?s=0.5" >>"$BATS_TEST_TMPDIR/quick" &
        pids+=("$!")
    done
    wait "${pids[@]}"
    [ "$(grep -c '^ok$' "$BATS_TEST_TMPDIR/quick")" = 4 ]
    curl -s -m 10 "http://127.0.0.1:$((port + 1))/?s=2" >"$BATS_TEST_TMPDIR/slow" &
    slow=$!
    wait_until 5 one_in_use
    timeout 20 "$ROOT/build/weir" drain --wait "$SERVER_PID" >"$BATS_TEST_TMPDIR/drained" # 0: no loss
    wait "$slow"
    [ "$(cat "$BATS_TEST_TMPDIR/slow")" = ok ]
    grep -q 'php-fpm.*: drained in .*: 4 closed clean, 0 forced' "$BATS_TEST_TMPDIR/drained"
}

one_in_use() {
    "$ROOT/build/weir" status "$SERVER_PID" --json | grep -q '"idle": 3, "in_use": 1'
}

# Ten clients whose handshake ends while the drain is on. Of one with a SYN cookie the kernel has kept
# nothing. (Last: who has seen cookies once waits a little longer from then on.)
@test "a handshake by a SYN cookie that is under way when the drain begins is served" {
    local server
    nft -f - <<END2 || skip "the kernel has no nftables"
table ip weir {
    chain out {
        type filter hook output priority 0
        tcp dport $port tcp flags & rst == rst drop
    }
}
END2
    start plain "$port"
    server=$SERVER_PID
    sysctl -qw net.ipv4.tcp_syncookies=2 || skip "tcp_syncookies can't be set"
    serve_bare clients -- /usr/bin/python3 "$ROOT/tests/programs/handshakes.py" "$port" 10 130
    wait_until 10 log_has clients '^ready$'
    sysctl -qw net.ipv4.tcp_syncookies=1
    kill -USR2 "$server"
    wait "$SERVER_PID"
    log_has clients '^10 offered, 10 answered, 0 reset$'
    wait_drained server 8
    log_has server ': drained in .* 0 forced'
}

# closes_the_silent MODE GREETING ASKED: a close-idle between a client's connect (and greeting) and what it asks
# over AF_UNIX, of which the kernel has no times: it is answered. One that goes on in silence is closed.
closes_the_silent() {
    local path=$BATS_TEST_TMPDIR/socket.$1
    cat >"$BATS_TEST_TMPDIR/greets.py" <<'END'
import socket, sys, threading
def serve(client):
    client.sendall(sys.argv[2].encode())
    while client.recv(1000):
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    client.close()
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],)).start()
END
    cat >"$BATS_TEST_TMPDIR/asks.py" <<'END'
import socket, subprocess, sys, time
path, greeting, asked, pid = sys.argv[1:]
clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for client in clients:
    client.settimeout(5)
    client.connect(path)
    assert client.recv(1000) == greeting.encode() if greeting else not time.sleep(0.1)
subprocess.run(["/bin/kill", "-q", "1", "-s", "USR2", pid], check=True)
time.sleep(0.2)
clients[0].sendall(asked.encode() + b"\r\n\r\n")
print("answer:", clients[0].recv(1000)[-2:].decode())
print("end:", clients[1].recv(1000))
END
    serve server WEIR_MODE="$1" -- /usr/bin/python3 "$BATS_TEST_TMPDIR/greets.py" "$path" "$2"
    wait_unix "$path"
    timeout 20 /usr/bin/python3 "$BATS_TEST_TMPDIR/asks.py" "$path" "$2" "$3" "$SERVER_PID" \
        >"$BATS_TEST_TMPDIR/asked"
    diff "$BATS_TEST_TMPDIR/asked" <(printf "answer: ok\nend: b''\n")
}

@test "AF_UNIX: who has just been greeted when idle connections are closed is answered" {
    closes_the_silent reply 'hello' 'who'
}

@test "AF_UNIX: who has just connected when idle connections are closed is answered" {
    closes_the_silent reply '' 'who'
    closes_the_silent protocol '' 'GET / HTTP/1.1
Host: a'
}
