# SPDX-License-Identifier: MIT
# The time that a drain takes, and what it writes down: WEIR_DELAY, WEIR_SPREAD, and the ledger of
# what became of each connection.
# mutant: shim/drain/drain.c: s/(begins_at = terms->since) \+ settings_now\(\)->delay/\1/
# seconds: 65
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load marked

setup() {
    port=$((18000 + 10 * BATS_TEST_NUMBER))
    mkdir "$BATS_TEST_TMPDIR/run"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    export WEIR_SIGNAL=RTMIN+3 # Redis 7.2 has a use for SIGUSR2
    weir=$ROOT/build/weir
    PORT=$port
    ADDRESSES=("127.0.0.1:$PORT")
    ACCEPTED=0
}

start_redis() {
    serve server "$@" -- redis-server --bind 127.0.0.1 --port "$port" --save '' \
        --dir "$BATS_TEST_TMPDIR"
    wait_port "$port"
}

# pings FD: redis answers.
pings() {
    conn_send "$1" 'PING\r\n'
    read_line line "$1" 2
    [ "$line" = +PONG ]
}

# rested VAR: an idle connection to redis.
rested() {
    conn_open "$1" "$port"
    pings "${!1}"
    pings "${!1}"
}

drain() {
    since=$(now_ms)
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
}

# took LEAST MOST: ms since the drain was asked for.
took() {
    local ms=$(($(now_ms) - since))
    echo "took $ms ms"
    [ "$ms" -ge "$1" ] && within "$ms" "$2"
}

# takes_long MS: LONG is so many, or as much longer as a busy machine needs to look at what is meanwhile.
takes_long() {
    local PATIENCE
    take_patience
    LONG=$(($1 * (PATIENCE < 4 ? PATIENCE : 4)))
}

pause_ms() {
    pause "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
}

# is KEY VALUE...: what `weir status --json` says, the first of that name.
is() {
    local said
    said=$("$weir" status "$SERVER_PID" --json)
    while [ $# -gt 0 ]; do
        [[ $said =~ "\"$1\": $2"[^0-9.] ]] || { echo "not $1 $2: $said" >&2; return 1; }
        shift 2
    done
}

# ---- WEIR_DELAY

@test "during WEIR_DELAY new connections are accepted and all are served, and then no more" {
    local idle new
    takes_long 3000
    start_redis WEIR_DELAY=${LONG}ms WEIR_TIMEOUT=100s
    rested idle
    pause 0.3
    is phase '"serving"'
    drain
    pause 0.2
    is phase '"delaying"'
    served "$port" 'PING\r\n'
    pause 0.8
    is phase '"delaying"'
    is_open "$idle"
    pings "$idle"
    rested new
    listening "$port"
    took 900 $((LONG - 100))
    at_eof "$idle" $((LONG / 1000 + 1))
    at_eof "$new" 2
    took "$LONG" $((LONG + 2500))
    wait_drained server 1
    is phase '"drained"'
    run conn_open late "$port"
    [ "$status" -ne 0 ]
    log_has server 'drained in [0-9]+\.[0-9]s: 3 closed clean, 0 forced'
}

@test "during WEIR_DELAY a close-idle closes what is idle, and the program goes on serving" {
    local idle busy fd
    start_redis WEIR_DELAY=60s WEIR_TIMEOUT=100s WEIR_FIRST_BYTE=100ms
    conn_open busy "$port"
    conn_send "$busy" 'BLPOP nothing 100\r\n'
    drain
    wait_until 5 is phase '"delaying"'
    rested idle
    pause 0.3
    "$weir" close-idle "$SERVER_PID" --wait
    at_eof "$idle" 2
    rested idle
    pause 0.3
    command -p env kill -s "$WEIR_SIGNAL" -q 1 "$SERVER_PID"
    at_eof "$idle" 2
    log_has server 'closing idle connections: SIG.* from pid [0-9]+ uid [0-9]+; 1 idle, 1 in use'
    served "$port" 'PING\r\n'
    is_open "$busy"
    is phase '"delaying"'
    # The drain goes on as if nothing had been.
    "$weir" drain-all "$SERVER_PID" --wait || [ $? = 3 ]
    at_eof "$busy" 1
    run conn_open fd "$port"
    [ "$status" -ne 0 ]
}

@test "WEIR_DELAY is waited for also where there is no connection" {
    start_redis WEIR_DELAY=800ms
    drain
    wait_drained server 2
    took 800 1500
}

@test "the delay is part of the timeout" {
    start_redis WEIR_DELAY=1s WEIR_TIMEOUT=2s
    conn_open fd "$port"
    conn_send "$fd" 'BLPOP nothing 30\r\n'
    pause 0.2
    drain
    wait_drained server 3
    took 1900 2700
    log_has server 'drained in [0-9]+\.[0-9]s: 0 closed clean, 1 forced'
}

@test "a delay that is not shorter than the timeout is refused" {
    local said
    for values in '25s 25s' '30s 25s' '2s 1s'; do
        # shellcheck disable=SC2086  # two words
        set -- $values
        run "$weir" run --delay "$1" --timeout "$2" -- /bin/true
        [ "$status" = 2 ]
        [[ $output == *WEIR_DELAY* ]]
    done
    run "$weir" run --delay 30s --timeout 0 -- /bin/true # for ever
    [ "$status" = 0 ]

    start_redis WEIR_DELAY=25s
    conn_open fd "$port"
    pings "$fd"
    log_has server '^weir.*WEIR_DELAY'
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
    wait_gone "$SERVER_PID" 2 # redis without the shim
}

@test "weir drain --timeout that is not longer than the delay is refused, and nothing drained" {
    start_redis WEIR_DELAY=3s
    rested idle
    run timeout "$(patient 10)" "$weir" drain "$SERVER_PID" --timeout 1s --wait
    [ "$status" = 2 ]
    [[ $output == *WEIR_DELAY* ]]
    is phase '"serving"'
    pings "$idle"
}

@test "weir drain --timeout is shorter than the delay where there is none: drain-all, and a drain that is on" {
    local delay
    for delay in 1s 20s; do
        port=$((port + 1))
        start_redis "WEIR_DELAY=$delay" "WEIR_TIMEOUT=$([ "$delay" = 1s ] && echo 4s || echo 25s)"
        conn_open busy "$port"
        conn_send "$busy" 'BLPOP nothing 30\r\n'
        pause 0.2
        if [ "$delay" = 1s ]; then
            "$weir" drain "$SERVER_PID"
            wait_until 5 is phase '"draining"'
            run timeout "$(patient 10)" "$weir" drain "$SERVER_PID" --timeout 500ms --wait
        else
            run timeout "$(patient 10)" "$weir" drain-all "$SERVER_PID" --timeout 5s --wait
        fi
        echo "$output"
        [ "$status" = 3 ]
        end_started
    done
}

@test "drain-all during the delay closes everything at once" {
    start_redis WEIR_DELAY=10s
    rested idle
    conn_open busy "$port"
    conn_send "$busy" 'BLPOP nothing 30\r\n'
    pause 0.2
    drain
    pause 0.3
    is phase '"delaying"'
    since=$(now_ms)
    "$weir" drain-all "$SERVER_PID"
    at_eof "$idle" 1
    wait_until 1 read -r -t 0 -u "$busy"
    wait_drained server 2
    took 0 1500
    is phase '"drained"'
    alive "$SERVER_PID"
}

@test "a stop signal waits for the delay, and then ends the program" {
    local code=0
    takes_long 1000
    start_redis WEIR_DELAY=${LONG}ms WEIR_STOP_SIGNALS=TERM
    rested idle
    pause 0.2
    since=$(now_ms)
    kill -TERM "$SERVER_PID"
    pause_ms $((LONG * 6 / 10))
    alive "$SERVER_PID"
    pings "$idle"
    served "$port" 'PING\r\n'
    at_eof "$idle" $((LONG / 1000 + 1))
    wait_gone "$SERVER_PID" 3
    took "$LONG" $((LONG + 2000))
    wait "$SERVER_PID" || code=$?
    [ "$code" = 0 ]
}

@test "a second stop signal during the delay ends the drain and the program" {
    start_redis WEIR_DELAY=20s WEIR_STOP_SIGNALS=TERM
    rested idle
    since=$(now_ms)
    kill -TERM "$SERVER_PID"
    wait_until 5 log_has server 'SIGTERM from '
    pause 1.2
    alive "$SERVER_PID"
    is_open "$idle"
    kill -TERM "$SERVER_PID"
    at_eof "$idle" 1
    wait_gone "$SERVER_PID" 2
    took 1200 3500
    log_has server 'draining all: SIGTERM'
}

@test "a tree of processes delays as one" {
    takes_long 1000
    serve server WEIR_DELAY=${LONG}ms -- \
        /usr/bin/python3 "$ROOT/tests/programs/tree_prefork.py" "$port" 3
    wait_port "$port"
    local hello='GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
    conn_open idle "$port"
    served "$port" "$hello"
    pause 0.2
    drain
    pause 0.3
    is phase '"delaying"'
    served "$port" "$hello"
    served "$port" "$hello"
    is_open "$idle"
    at_eof "$idle" $((LONG / 1000 + 2))
    wait_drained server 3
    took "$LONG" $((LONG + 2500))
    is phase '"drained"'
    run conn_open late "$port"
    [ "$status" -ne 0 ]
}

# ---- WEIR_SPREAD

# spread SECONDS CLIENTS: SPREAD is what queue_spread.py says.
spread() {
    SPREAD=$(/usr/bin/python3 "$ROOT/tests/programs/queue_spread.py" "$port" "$SERVER_PID" \
        "$2" "$1" 3>&-)
    echo "$SPREAD"
}

# pacing_figure NAME
pacing_figure() {
    grep -oE "$1=[0-9,]+" <<<"$SPREAD" | cut -d = -f 2
}

@test "WEIR_SPREAD closes 100 idle connections evenly over two seconds, oldest idle first" {
    local quarter quarters beside PATIENCE
    start_redis WEIR_SPREAD=2s
    spread 2 100
    [ "$(pacing_figure closed)" = 100 ]
    IFS=, read -ra quarters <<<"$(pacing_figure quarters)"
    [ ${#quarters[@]} = 4 ]
    take_patience # whose turn it is on a busy machine is not for Weir to say
    beside=$((6 * PATIENCE))
    for quarter in "${quarters[@]}"; do
        [ "$quarter" -ge $((25 - beside)) ]
        [ "$quarter" -le $((25 + beside)) ]
    done
    [ "$(pacing_figure order)" -ge 90 ]
    [ "$(pacing_figure last_ms)" -ge 1700 ]
    wait_drained server 1
    log_has server 'drained in [12]\.[0-9]s: 100 closed clean, 0 forced'
}

@test "without WEIR_SPREAD they are closed at once" {
    start_redis
    spread 2 100
    [ "$(pacing_figure closed)" = 100 ]
    within "$(pacing_figure last_ms)" 400
}

@test "WEIR_SPREAD longer than the timeout is over well before it" {
    takes_long 3000
    start_redis WEIR_SPREAD=100s WEIR_TIMEOUT=${LONG}ms
    spread $((LONG / 1000)) 60
    [ "$(pacing_figure closed)" = 60 ]
    [ "$(pacing_figure last_ms)" -ge $((LONG * 17 / 30)) ]
    [ "$(pacing_figure last_ms)" -le $((LONG - 100)) ]
    wait_drained server 1
    log_has server ' 60 closed clean, 0 forced'
}

@test "WEIR_SPREAD: nobody new gets in meanwhile, and what rests goes on being served" {
    local fds=() fd open=0
    takes_long 2000
    start_redis WEIR_SPREAD=${LONG}ms WEIR_TIMEOUT=100s
    for _ in {1..20}; do
        rested fd
        fds+=("$fd")
    done
    pause 0.3
    drain
    pause_ms $((LONG * 3 / 10))
    run conn_open late "$port"
    [ "$status" -ne 0 ]
    for fd in "${fds[@]}"; do
        read -r -t 0 -u "$fd" || open=$((open + 1))
    done
    echo "$open are open"
    [ "$open" -ge 8 ]
    [ "$open" -le 18 ]
    read -r -t 0 -u "$fd" || pings "$fd"
    all_at_eof $((LONG / 1000 + 1)) "${fds[@]}"
    wait_drained server 1
}

@test "WEIR_SPREAD: connections that never rest are spread too, and nothing is lost" {
    local server
    takes_long 2000
    start_redis WEIR_SPREAD=${LONG}ms WEIR_TIMEOUT=100s
    server=$SERVER_PID
    serve_bare load -- "$PROGRAMS/load" --protocol redis --careful --connections 60 \
        --pause 0-40 --seconds 60 "$port"
    wait_until 5 log_has load '^load: ready'
    pause 0.5
    since=$(now_ms)
    kill -s "$WEIR_SIGNAL" "$server"
    pause_ms $((LONG / 2))
    SERVER_PID=$server
    local tracked
    tracked=$("$weir" status "$server" --json | grep -oE '"tracked": [0-9]+' | head -n 1)
    echo "in the middle: $tracked"
    [ "${tracked##* }" -ge 15 ]
    [ "${tracked##* }" -le 50 ]
    wait_drained server $((LONG / 500))
    took $((LONG * 7 / 10)) $((LONG + 2000))
    wait_until 3 log_has load '^answered='
    log_has load ' unanswered=0 reset=0 truncated=0 refused=0 connect_reset=0 open=0 '
}

@test "weir drain --wait waits for the spread, and nothing was forced" {
    local code=0
    start_redis WEIR_SPREAD=1500ms
    for _ in {1..10}; do
        rested fd
    done
    pause 0.3
    since=$(now_ms)
    timeout "$(patient 10)" "$weir" drain "$SERVER_PID" --wait || code=$?
    took 1200 2600
    [ "$code" = 0 ]
}

# ---- the ledger

# balanced: accepted = tracked + closed_by_program + closed_idle + forced + disowned.
balanced() {
    "$weir" status "$SERVER_PID" --json | /usr/bin/python3 -I -S -c '
import json, sys
page = json.load(sys.stdin)
totals = page["totals"]
accounted = page["connections"]["tracked"] + sum(
    totals[name] for name in ("closed_by_program", "closed_idle", "forced", "disowned"))
if accounted != totals["accepted"]:
    sys.exit("accepted %d, accounted for %d: %s" % (totals["accepted"], accounted, page))'
}

@test "every end of a connection is accounted for, and the last line sums it up" {
    local idle busy program disowned
    start_marked WEIR_MODE=manual WEIR_TIMEOUT=1500ms
    for name in idle busy program disowned; do
        connect "$name"
    done
    expect 0 in_use 2
    expect 0 in_use 3
    expect 0 disown 4
    balanced
    is accepted 4 tracked 3 disowned 1
    drain
    at_eof "$idle" 1
    expect 0 close 3
    balanced
    is closed_idle 1 closed_by_program 1 forced 0
    wait_drained marked 3
    balanced
    is accepted 4 tracked 0 closed_idle 1 closed_by_program 1 forced 1 disowned 1
    is forced_in_use 1 unread 0 unsent 0
    log_has marked "^weir\[$SERVER_PID\] marked: forced 127\.0\.0\.1:[0-9]+: in use [1-9]s, 0 bytes unsent$"
    last_weir_line marked | grep -E 'drained in [1-9]\.[0-9]s: 2 closed clean, 1 forced; the program runs on$'
}

@test "the ledger balances at every moment of a drain under load" {
    local server rounds
    start_redis WEIR_SPREAD=1s
    server=$SERVER_PID
    serve_bare load -- "$PROGRAMS/load" --protocol redis --one-shot --connections 40 --pause 0-5 \
        --seconds 3 "$port"
    SERVER_PID=$server
    serve_bare more -- "$PROGRAMS/load" --protocol redis --careful --connections 40 --pause 0-5 \
        --seconds 8 "$port"
    SERVER_PID=$server
    wait_until 5 log_has more '^load: ready'
    for rounds in {1..20}; do
        balanced
    done
    drain
    for rounds in {1..20}; do
        balanced
    done
    wait_drained server 8
    balanced
}

@test "what was forced is named with its peer and what was lost of it" {
    start_marked WEIR_MODE=manual WEIR_TIMEOUT=1s
    connect client
    expect 0 in_use 1
    expect '*' hold 1
    peer=$(peer_of 1)
    drain
    wait_drained marked 3
    log_has marked "^weir\[$SERVER_PID\] marked: forced $peer: in use [01]s, 0 bytes unsent"
}

# peer_of N: the client's address of the only connection to the port.
peer_of() {
    local hex
    hex=$(printf '%04X' "$PORT")
    awk -v port=":$hex" '$4 == "01" && $3 ~ port "$" { split($2, at, ":"); print at[2] }' \
        /proc/net/tcp | { read -r hex && echo "127\\.0\\.0\\.1:$((16#$hex))"; }
}

@test "an answer that nobody takes is forced with its bytes unsent, and counted" {
    serve server WEIR_TIMEOUT=1s -- "$PROGRAMS/linger_server" --answer 30000000 --after 100 "$port"
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'x'
    pause 0.4
    drain
    wait_drained server 3
    log_has server ': forced 127\.0\.0\.1:[0-9]+: in use [0-9]+s, [1-9][0-9]+ bytes unsent$'
    is forced_in_use 1 unread 0 unsent 1
}

@test "a request that nobody reads is forced with its bytes unread, and counted" {
    serve server WEIR_TIMEOUT=1s -- "$PROGRAMS/linger_server" --after 9000 "$port"
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" '0123456789'
    pause 0.3
    drain
    wait_drained server 3
    log_has server ': forced 127\.0\.0\.1:[0-9]+: in use [0-9]+s, 0 bytes unsent, 9 unread$'
    is forced_in_use 1 unread 1 unsent 0
}

@test "weir drain --wait exits 3 when anything in use was forced, and 0 otherwise" {
    local code=0
    start_redis WEIR_TIMEOUT=1s
    rested idle
    pause 0.2
    timeout "$(patient 10)" "$weir" drain "$SERVER_PID" --wait || code=$?
    [ "$code" = 0 ]
    end_started
    rm -f "$BATS_TEST_TMPDIR"/*.log

    port=$((port + 1))
    start_redis WEIR_TIMEOUT=1s
    conn_open fd "$port"
    conn_send "$fd" 'BLPOP nothing 30\r\n'
    pause 0.2
    timeout "$(patient 10)" "$weir" drain "$SERVER_PID" --wait || code=$?
    [ "$code" = 3 ]
}
