#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Clients that other people wrote and that keep connections in a pool, while the server is replaced
# again and again: drained, and the next one started on its port. They send POSTs, which no client
# repeats by itself where an answer may be on its way: each is executed once, and answered.
# mutant: shim/http/close_header.c: s/"close     "/"keep-alive"/
# needs: python3-requests
# seconds: 82
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2119,SC2120,SC2154

load helpers
unset WEIR_MODE # the default, protocol
load web

setup() {
    port=$((26000 + 100 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    executed=$temporary/executed
    seconds=7 clients=20 ports=()
    # A pool makes connections in reserve, and a busy machine keeps their first requests back.
    mode+=(WEIR_FIRST_BYTE=5s)
}

not_listening() {
    case $port in
    /*) not listening_unix "$port" ;;
    *) not listening "$port" ;;
    esac
}

# replaces START: drains the server, and starts the next one as soon as the port is free.
replaces() {
    local old=$SERVER_PID old_name=${name:-server}
    drains
    wait_until 10 not_listening
    name=server$((++generation))
    "$1"
    wait_drained "$old_name" 12
    log_has "$old_name" 'drained in [0-9.]+m?s: .* 0 forced; the program runs on'
    kill -TERM "$old"
    wait_gone "$old" 5
}

# client COMMAND...: in the background, CLIENT; what it says is in clients.log.
client() {
    "$@" >"$temporary/clients.log" 2>"$temporary/stderr.log" 3>&- &
    LOGGED+=(stderr)
    CLIENT=$!
    STARTED+=("$CLIENT")
}

# loses_nothing START COMMAND...: the client COMMAND has PORT, SECONDS and CLIENTS behind it; one that
# has $until_told ends at a TERM.
until_told=60

loses_nothing() {
    local start=$1 generation=0
    "$start"
    client "${@:2}" "$port" "$seconds" "$clients"
    for _ in 1 2 3; do
        pause 0.8
        replaces "$start"
    done
    pause 0.8
    [ "$seconds" != "$until_told" ] || kill -TERM "$CLIENT"
    wait "$CLIENT"
    each_once
}

# each_once: what was executed is what was answered, and nothing was lost.
each_once() {
    echo "$(grep -c '^answered' "$temporary/clients.log") answered, $(wc -l <"$executed") executed"
    grep -v '^answered' "$temporary/clients.log" | head -n 5 | cut -c 1-300
    not grep -qv '^answered' "$temporary/clients.log"
    [ $(($(wc -l <"$executed") * $(patience))) -ge 300 ]
    sed -n 's/^answered //p' "$temporary/clients.log" | sort >"$temporary/answered"
    sort "$executed" | cmp - "$temporary/answered"
    [ -z "$(uniq -d "$temporary/answered")" ]
}

@test "Python's requests: each POST is executed once and answered, over three replacements" {
    seconds=$until_told
    loses_nothing start_python /usr/bin/python3 "$ROOT/tests/programs/pool_client.py"
}

@test "Node's http.Agent: each POST is executed once and answered, over three replacements" {
    seconds=$until_told
    loses_nothing start_node node "$ROOT/tests/programs/pool_client.js"
}

@test "Go's net/http: each POST is executed once and answered, over three replacements" {
    seconds=$until_told
    GO111MODULE=off GOCACHE=$temporary/go GOPATH=$temporary/go \
        go build -o "$temporary/client" "$ROOT/tests/programs/pool_client.go"
    loses_nothing start_node "$temporary/client"
}

@test "Java's HttpClient: each POST is executed once and answered, over three replacements" {
    javac -d "$temporary" "$ROOT/tests/programs/PoolClient.java"
    seconds=$until_told
    loses_nothing start_python java -XX:TieredStopAtLevel=1 -cp "$temporary" PoolClient
}

# curl_parallel PORT SECONDS CLIENTS
curl_parallel() {
    curl --no-progress-meter --parallel --parallel-max "$3" --config "$temporary/curl" |
        sed 's/ 200 $//'
}

@test "curl --parallel: each POST is executed once and answered, over three replacements" {
    clients=15
    # To be tried again there is only a connection that was refused.
    seq 4000 | awk -v url="http://127.0.0.1:$port/slow?0.02" 'NR > 1 { print "next" } {
        print "url = " url "\ndata = " $1 "\noutput = /dev/null\nretry-connrefused\nretry = 20"
        print "write-out = \"answered " $1 " %{http_code} %{errormsg}\\n\"\nretry-delay = 1" }' \
        >"$temporary/curl"
    loses_nothing start_node curl_parallel
}

@test "wrk: no POST is lost or executed twice, over three replacements" {
    local generation=0 threads
    cat >"$temporary/wrk.lua" <<'END'
local threads, sent = 0, 0
function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end
function request()
    sent = sent + 1
    return wrk.format("POST", "/slow?0.005", nil, number .. "-" .. sent)
end
function done(summary)
    local e = summary.errors
    io.write(string.format("read=%d write=%d status=%d timeout=%d\n", e.read, e.write, e.status,
                           e.timeout))
end
END
    start_node
    client wrk --threads 2 --connections "$clients" --duration 6s --timeout 8s \
        --script "$temporary/wrk.lua" "http://127.0.0.1:$port/"
    for _ in 1 2 3; do
        pause 0.8
        replaces start_node
    done
    wait "$CLIENT"
    tail -n 3 "$temporary/clients.log"
    # write: a connection that was refused between one server and the next; nothing was sent on it.
    grep -Eq '^read=0 write=[0-9]+ status=0 timeout=0$' "$temporary/clients.log"
    [ "$(wc -l <"$executed")" -ge 300 ]
    [ -z "$(sort "$executed" | uniq -d)" ]
}

# --- a proxy in front, which keeps connections to two servers; one after the other is replaced

# behind NUMBER START: a server on a port of its own.
behind() {
    port=${ports[$1]} name=server$((++generation)) "$2"
    pids[$1]=$SERVER_PID names[$1]=server$generation
}

# The front asks for nothing but connections that are refused to be tried elsewhere.
# ports: the two servers', or the paths of their sockets.
no_client_notices() {
    local front=$port generation=0 pids=() names=() turn
    [ ${#ports[@]} -gt 0 ] || local ports=($((port + 1)) $((port + 2)))
    local starts=(start_node start_python)
    behind 0 start_node
    behind 1 start_python
    how=serve_bare name=front "$@"
    port=$front client /usr/bin/python3 "$ROOT/tests/programs/pool_client.py" "$front" "$until_told" "$clients"
    for turn in 0 1 0 1; do
        pause 0.8
        SERVER_PID=${pids[turn]} trigger=USR2 drains
        port=${ports[turn]} wait_until 10 not_listening
        wait_drained "${names[turn]}" 12
        log_has "${names[turn]}" 'drained in [0-9.]+m?s: .* 0 forced; the program runs on'
        kill -TERM "${pids[turn]}"
        wait_gone "${pids[turn]}" 5
        behind "$turn" "${starts[turn]}"
    done
    pause 0.8
    kill -TERM "$CLIENT"
    wait "$CLIENT"
    each_once
}

# address N PREFIX: of a server, as a proxy's configuration has it; PREFIX: of a UNIX socket's path.
address() {
    case ${ports[$1]} in
    /*) echo "$2${ports[$1]}" ;;
    *) echo "127.0.0.1:${ports[$1]}" ;;
    esac
}

front_nginx() {
    upstream="upstream both { server $(address 0 unix:) max_fails=0;
                              server $(address 1 unix:) max_fails=0; keepalive 50; }"
    locations='location / { proxy_pass http://both; proxy_http_version 1.1;
                            proxy_set_header Connection ""; }'
    start_nginx
}

front_haproxy() {
    start_haproxy 'default_backend both' "backend both
    balance roundrobin
    option redispatch 1
    http-reuse always
    server a $(address 0 unix@)
    server b $(address 1 unix@)"
}

@test "nginx in front, with connections kept to two servers that are replaced: each POST is executed once and answered" {
    no_client_notices front_nginx
}

@test "HAProxy in front, with connections kept to two servers that are replaced: each POST is executed once and answered" {
    no_client_notices front_haproxy
}

# UNIX sockets, as an application server behind a proxy on the same machine has them.
@test "nginx in front of two servers on UNIX sockets that are replaced: each POST is executed once and answered" {
    ports=("$temporary/a" "$temporary/b")
    no_client_notices front_nginx
}

@test "HAProxy in front of two servers on UNIX sockets that are replaced: each POST is executed once and answered" {
    ports=("$temporary/a" "$temporary/b")
    no_client_notices front_haproxy
}
