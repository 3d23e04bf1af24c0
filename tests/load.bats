# SPDX-License-Identifier: MIT
# The load client's classes, against a server that misbehaves on order: what the other tests count
# with it is what it says.
# mutant: tests/programs/load.c: s/unacknowledged > 0;/unacknowledged >= 0;/
# seconds: 16
# shellcheck shell=bash disable=SC2030,SC2031

load helpers
unset WEIR_MODE # the default, protocol

setup() {
    port=$((5600 + BATS_TEST_NUMBER))
}

# rogue [AT-CONNECT]
rogue() {
    serve_bare rogue -- "$PROGRAMS/load_rogue" "$port" "$@"
    [ "${1:-}" = refuse ] || wait_port "$port"
}

# classed "NAME=NUMBER..." OPTION...: that is what `load` says of five connections, and every class
# that is not named is 0. With `answered` at least one, unless its number is given.
classed() {
    local expected=$1 line word name
    shift
    line=$(timeout "$(patient 20)" "${under[@]}" "$PROGRAMS/load" --protocol line --connections 5 --seconds 3 \
        --pause 20-30 "$@" "$port")
    echo "$line"
    for word in $line; do
        name=${word%%=*}
        [ "$name" != last_end_ms ] || continue
        if [[ " $expected " == *" $name="* ]]; then
            [[ " $expected " == *" $word "* ]]
        else
            [ "${word#*=}" = 0 ]
        fi || { echo "$word, not among $expected" >&2; return 1; }
    done
}

@test "an answer is an answer, and a connection that goes on is open" {
    rogue
    classed 'answered=10 open=5' --path 'answer answer silence' --careful
    classed 'answered=10 open=5' --path '/answer/answer/silence' --protocol http
}

@test "a clean end instead of an answer is unanswered" {
    rogue
    classed 'answered=10 unanswered=5' --path 'answer answer end' --careful
    classed 'unanswered=5' --path end
    classed 'answered=5 unanswered=5' --path /answer/end --protocol http --careful
}

@test "a reset instead of an answer is a reset" {
    rogue
    classed 'answered=10 reset=5' --path 'answer answer reset' --careful
    classed 'reset=5' --path /reset --protocol http
}

@test "an end in the middle of an answer truncates it, and so does a reset" {
    rogue
    classed 'answered=5 truncated=5' --path 'answer truncate' --careful
    classed 'truncated=5' --path truncate-reset
    classed 'answered=5 truncated=5' --path /answer/truncate --protocol http
    classed 'answered=5 truncated=5' --path /answer/truncate-reset --protocol http --careful
}

@test "nobody listens: refused" {
    rogue refuse
    classed 'refused=5' --careful
}

@test "a reset before the first request is a reset at connect" {
    rogue reset
    classed 'connect_reset=5' --pause 300-320 --careful
    classed 'connect_reset=5' --pause 300-320
}

@test "a clean end before the first request is nobody's loss; in one-shot it counts" {
    rogue end
    classed '' --pause 300-320 --careful
    line=$(timeout "$(patient 20)" "$PROGRAMS/load" --protocol line --connections 1 --seconds 0.5 --careful \
        --one-shot "$port")
    echo "$line"
    [[ $line == "answered=0 "* ]]
    [[ $line != *" unanswered=0 reset=0 truncated=0 refused=0 connect_reset=0 "* ]]
}

@test "a careful client sees the close in its pause, and loses nothing by it" {
    rogue
    classed 'answered=10' --path 'answer then-end' --pause 250-300 --careful
    classed 'answered=10 idle_reset=5' --path 'answer then-reset' --pause 250-300 --careful
    classed 'answered=10' --path 'answer then-half' --pause 250-300 --careful
}

@test "a careless client sends after the close, and that is no crossing" {
    rogue
    classed 'answered=10 unanswered=5' --path 'answer then-end' --pause 250-300
    classed 'answered=10 unanswered=5' --path 'answer then-half' --pause 250-300
}

# strace holds each request up on its way, after the look.
@test "a request that the close passes on the way has crossed it" {
    rogue
    under=(strace -o /dev/null -e trace=sendto -e inject=sendto:delay_enter=300000:when=2)
    classed 'answered=1 crossed=1' --connections 1 --path then-end --careful
    classed 'answered=1 crossed=1' --connections 1 --path then-half --careful
    classed 'answered=1 unanswered=1' --connections 1 --path then-end
}

# Here it is the look behind the request that is held up: the request had arrived.
@test "a close that comes before send has returned is no crossing if the request had arrived" {
    rogue
    under=(strace -o /dev/null -e trace=sendto -e inject=sendto:delay_exit=300000:when=2)
    classed 'answered=1 unanswered=1' --connections 1 --path 'answer end' --careful
}
