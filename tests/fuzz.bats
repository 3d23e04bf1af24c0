#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Every parser that reads what an outsider wrote: all of tests/fuzz/corpus, then a few seconds of
# libFuzzer from there. scripts/fuzz has the long runs.
# mutant: shim/base/text.c: s/c >= ' ' && c < 127/c >= ' ' \&\& c <= 127/
# needs: clang libclang-rt-dev
# seconds: 40

load helpers

setup_file() {
    built fuzzers
}

# finds_nothing TARGET RUNS: so many take four seconds alone, and fifteen of `http`. Not a time: a busy
# machine would look at less in it.
finds_nothing() {
    local target=$1 corpus=$ROOT/tests/fuzz/corpus/$1 new=$BATS_TEST_TMPDIR/new
    local log=$BATS_TEST_TMPDIR/log files
    files=("$corpus"/*)
    [ "${#files[@]}" -ge 4 ]
    mkdir -p "$new"
    timeout "$(patient 60)" "$ROOT/build/fuzz/$target" -max_len=600 -runs="$2" -print_final_stats=1 \
        -dict="$ROOT/tests/fuzz/words.dict" -artifact_prefix="$BATS_TEST_TMPDIR/" \
        "$new" "$corpus" >"$log" 2>&1 || {
        tail -n 30 "$log"
        grep -aE 'is not so|runtime error|ERROR|^Base64' "$log"
        echo "to have it again, give the input above (Base64) to build/fuzz/$target"
        return 1
    }
    # It has run, and on more than the corpus.
    [ "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" -gt $((10 * ${#files[@]})) ]
}

@test "the environment: nothing in a WEIR_ variable confuses its parser" {
    finds_nothing settings 60000
}

@test "WEIR_MODE's addresses: no list and no socket address confuses their match" {
    finds_nothing mode 65000
}

@test "addresses: whatever the kernel hands over is one printable, bounded line" {
    finds_nothing address 180000
}

@test "escapes: no string gets past them, or past the buffer" {
    finds_nothing escaped 300000
}

@test "HTTP: no bytes, however cut, are told otherwise than a plain parser has them" {
    finds_nothing http 12000
}

@test "HTTP/2: no frames, however cut, are told otherwise than a plain parser has them" {
    finds_nothing frames 3000
}

@test "WebSocket: no frames, however cut, are told otherwise than a plain parser has them" {
    finds_nothing websocket 3000
}

@test "a fuzz target finds what is wrong: a parser with a byte too many is caught" {
    # A copy of text.c whose put() forgets to leave room for the NUL.
    local copy=$BATS_TEST_TMPDIR/broken.c
    sed 's/text->used + 1 < text->size/text->used < text->size/' "$ROOT/shim/base/text.c" >"$copy"
    not cmp -s "$copy" "$ROOT/shim/base/text.c"
    clang -std=gnu11 -O1 -g -I"$ROOT/shim" -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=all -o "$BATS_TEST_TMPDIR/broken" \
        "$ROOT/tests/fuzz/escaped.c" "$copy"
    not "$BATS_TEST_TMPDIR/broken" -max_total_time=10 -artifact_prefix="$BATS_TEST_TMPDIR/" \
        "$ROOT/tests/fuzz/corpus/escaped" >"$BATS_TEST_TMPDIR/log" 2>&1
    grep -q 'AddressSanitizer: heap-buffer-overflow\|is not so' "$BATS_TEST_TMPDIR/log"
}
