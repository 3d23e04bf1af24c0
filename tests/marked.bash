# SPDX-License-Identifier: MIT
# Driving tests/programs/marked from a test: load it after helpers.
# shellcheck shell=bash


# Each test listens on numbers of its own, since a port may linger in TIME_WAIT.
setup() {
    PORT=$((10000 + 50 * BATS_TEST_NUMBER))
    ADDRESSES=("127.0.0.1:$PORT")
    ACCEPTED=0
}

# another: ends the test's server; the next one that it starts gets the next number, and its pipes.
another() {
    end_started
    exec {TO}>&- {FROM}>&-
    HAS_PIPES=1
    PORT=$((PORT + 1))
    ADDRESSES=("127.0.0.1:$PORT")
    ACCEPTED=0
}

# with_marked VERB [VAR=value...]: starts marked on ADDRESSES with `serve` or `serve_bare`.
with_marked() {
    local verb=$1 commands=$BATS_TEST_TMPDIR/commands replies=$BATS_TEST_TMPDIR/replies
    shift
    if [ -z "${HAS_PIPES:-}" ]; then
        rm -f "$commands" "$replies"
        mkfifo "$commands" "$replies"
    fi
    HAS_PIPES=
    exec {TO}<>"$commands" {FROM}<>"$replies"
    "$verb" marked "$@" -- "$PROGRAMS/marked" "$commands" "$replies" "${ADDRESSES[@]}"
    expect pending drained 0 # it answers, so it listens
}

start_marked() {
    with_marked serve "$@"
}

# ask COMMAND...: sends a line to marked; ANSWER is its answer.
ask() {
    echo "$*" >&"$TO"
    IFS= read -r -t 80 -u "$FROM" ANSWER || { echo "$*: no answer" >&2; return 1; }
}

# answers PATTERN COMMAND...: whether that is the answer, as a shell pattern.
answers() {
    local wanted=$1
    shift
    # shellcheck disable=SC2053  # a pattern
    ask "$@" && [[ $ANSWER == $wanted ]]
}

expect() {
    answers "$@" || { echo "${*:2}: \"$ANSWER\" where \"$1\" was expected" >&2; return 1; }
}

soon() {
    wait_until 3 answers "$@" || { echo "${*:2}: \"$ANSWER\", never \"$1\"" >&2; return 1; }
}

# connect VAR [PORT [HOST]]: a client's connection that marked has accepted; NUMBER is marked's.
connect() {
    local number
    exec {number}<>"/dev/tcp/${3:-127.0.0.1}/${2:-$PORT}"
    printf -v "$1" %s "$number"
    ACCEPTED=$((ACCEPTED + 1))
    NUMBER=$ACCEPTED
    soon 'open *' state "$NUMBER"
}

# request FD NUMBER: the client sends five bytes more, and marked reads them.
request() {
    local bytes
    expect 'open *' state "$2"
    bytes=${ANSWER#open }
    conn_send "$1" 'ping\n'
    soon "open $((bytes + 5))" state "$2"
}

# response FD NUMBER: marked sends a line, and the client has it.
response() {
    local line
    expect 5 write "$2" pong
    read_line line "$1" 2
    [ "$line" = pong ]
}

# stays_open FD NUMBER: after time enough to close it, both ends still have it, and it works.
stays_open() {
    pause 0.3
    is_open "$1" || { echo "connection $2: it has an end" >&2; return 1; }
    request "$1" "$2"
    response "$1" "$2"
}

# is_closed FD NUMBER: marked was told of an end and closed its descriptor, and the client sees it.
is_closed() {
    at_eof "$1" 1
    soon 'closed *' state "$2"
}

# queue_value SIGNAL VALUE: to marked, with sigqueue(3).
queue_value() {
    command -p env kill -s "$1" -q "$2" "$SERVER_PID"
}

# not_served [PORT]: who comes now is refused, or let go at once; nobody speaks to him.
not_served() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    not timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && echo ping >&3 && read -r <&3' \
        "${1:-$PORT}" 2>/dev/null
    expect '@(none|closed*)' state $((ACCEPTED + 1))
}

# relay VAR_TO VAR_FROM PATH: a client of an AF_UNIX listener that marked has accepted.
relay() {
    local number=$((ACCEPTED + 1)) server=$SERVER_PID fd
    local pipe=$BATS_TEST_TMPDIR/relay.$number
    mkfifo "$pipe.to" "$pipe.from"
    SERVER_PID=$server
    exec {fd}<>"$pipe.to"
    printf -v "$1" %s "$fd"
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve_bare "relay.$number" -- \
        sh -c 'exec "$0" "$1" <"$2" >"$3"' "$PROGRAMS/unix_client" "$3" "$pipe.to" "$pipe.from"
    SERVER_PID=$server
    exec {fd}<"$pipe.from"
    printf -v "$2" %s "$fd"
    ACCEPTED=$number
    NUMBER=$number
    soon 'open *' state "$NUMBER"
}
