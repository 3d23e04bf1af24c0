#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The benchmarks' programs work, and their figures respond to what they measure. No time is asserted
# (`make bench` measures those), but what is counted is: it repeats exactly.
# mutant: shim/http/head_cache.h: s/== \(version & ~1u\)/== (version | 1u)/
# seconds: 6

load helpers

setup_file() {
    built bench-programs
}

BENCH=$ROOT/build/bench

# calls LIBRARIES ARGUMENT...: over the stub, with these preloaded before it.
calls() {
    local preload=$1
    shift
    timeout "$(patient 20)" env WEIR_LOG=none WEIR_RUN_DIR="$BATS_TEST_TMPDIR" BENCH_STUB=libstub.so \
        LD_PRELOAD="$preload:$BENCH/libstub.so" "${THROUGH[@]}" "$BENCH/calls" "$@"
}

# more LIBRARIES STEP: how many instructions the shim adds to 1,000 of them.
more() {
    local out
    out=$(mktemp -d -p "$BATS_TEST_TMPDIR")
    # Not by its script: the stub is preloaded for whatever reads that, too.
    THROUGH=("$(command -v valgrind.bin || command -v valgrind)" -q --tool=callgrind --callgrind-out-file="$out/dump")
    calls "$1" instructions "$2"
    echo $(($(counted "$out" "$2 shim") - $(counted "$out" "$2 bare")))
}

# counted DIRECTORY NAME: the sum in callgrind's dump of that name.
counted() {
    awk '$1 == "totals:" { print $2 }' "$(grep -l "Client Request: $2\$" "$1"/dump.*)"
}

# figure KEY: of a line NAME KEY=NUMBER...
figure() {
    grep -o " $1=[0-9.]*" | cut -d = -f 2
}

walk() {
    timeout "$(patient 20)" env WEIR_LOG=none WEIR_RUN_DIR="$BATS_TEST_TMPDIR" "$BENCH/walk" "$@"
}

@test "numbers that follow each other have their records on different cache lines" {
    local lines
    lines=$(walk lines)
    echo "$lines"
    [ "$(figure numbers <<<"$lines")" -gt 1000000 ]
    [ "$(figure shared <<<"$lines")" = 0 ]
}

@test "accept, read, write and close allocate nothing" {
    local made
    made=$(calls "$WEIR_LIB" allocations)
    echo "$made"
    [ "$(figure made <<<"$made")" = 0 ]
    [ "$(figure sees <<<"$made")" = 1 ] # one that is made is seen
}

@test "a read on a descriptor that is not tracked costs at most 8 instructions more" {
    local with without
    with=$(more "$WEIR_LIB" read)
    without=$(more "" read)
    echo "1,000 reads: $with more with the shim, $without without it"
    [ "$without" = 0 ]
    [ "$with" -gt 0 ]
    [ "$with" -le 8000 ]
}

@test "a connection's read costs instructions, and so does its accept" {
    [ "$(more "$WEIR_LIB" tracked_read)" -gt "$(more "$WEIR_LIB" read)" ]
    [ "$(more "$WEIR_LIB" accept)" -gt 0 ]
    [ "$(more "" accept)" = 0 ]
}

# followed CASE: the instructions that 1,000 requests and their answers cost the HTTP tracker.
followed() {
    local out
    out=$(mktemp -d -p "$BATS_TEST_TMPDIR")
    timeout "$(patient 20)" valgrind -q --tool=callgrind --callgrind-out-file="$out/dump" "$BENCH/tracker" "$1"
    echo $(($(counted "$out" "$1 shim") - $(counted "$out" "$1 bare")))
}

@test "to follow a request of 90 bytes and its answer of 160 costs at most 220 instructions if they came before" {
    local same new
    same=$(followed same)
    new=$(followed new)
    echo "1,000 of them: $same; where each is new: $new"
    [ "$same" -gt 100000 ]
    [ "$same" -le 220000 ]
    [ "$new" -le 1450000 ]
}

@test "to follow a stream of HTTP/2 costs at most 1,100 instructions, and two messages of WebSocket 600" {
    local stream message
    stream=$(followed stream)
    message=$(followed message)
    echo "1,000 of them: $stream, $message"
    [ "$stream" -gt 100000 ]
    [ "$stream" -le 1100000 ]
    [ "$message" -gt 100000 ]
    [ "$message" -le 600000 ]
}

@test "the walk without a kernel closes each connection, in both modes" {
    local mode
    for mode in reply automatic; do
        WEIR_MODE=$mode walk close-idle 2000 | grep -q '^walk_close_idle count=2000 ms='
    done
    walk counts 2000 | grep -q '^walk_counts count=2000 ns='
    WEIR_MODE=off run walk close-idle 2000
    [ "$status" = 1 ]
    [[ $output == *"nothing is tracked"* ]]
}

@test "many closes the same connections under the shim and by a loop" {
    LD_PRELOAD=$WEIR_LIB WEIR_LOG=none WEIR_RUN_DIR=$BATS_TEST_TMPDIR WEIR_MODE=automatic \
        timeout "$(patient 20)" "$BENCH/many" close 50 | grep -q '^many ns='
    timeout "$(patient 20)" "$BENCH/many" close 50 getpeername fcntl shutdown close | grep -q '^many ns='
    run timeout "$(patient 20)" "$BENCH/many" close 50 getpeername
    [ "$status" = 1 ] # they are still open
}

@test "scripts/bench knows its rows by name" {
    "$ROOT/scripts/bench" --list | grep -qx close-idle
    run "$ROOT/scripts/bench" nonsense
    [ "$status" = 2 ]
    [[ $output == *"no such row"* ]]
}
