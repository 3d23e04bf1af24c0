#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The unit tests of the shim's modules (tests/unit), under AddressSanitizer with UBSan and under
# ThreadSanitizer. A failing one says which of its sentences is not true.
# mutant: shim/conn/conn.c: /MODE_MANUAL\]/s/\{KEEP,/{READ,/
# needs: clang libclang-rt-dev
# seconds: 59

load helpers

setup_file() {
    built unit
}

# passes PROGRAM [ARGUMENT...]: in both builds, and each has said that it tested something.
passes() {
    local build output
    for build in asan tsan; do
        echo "# $build/$*"
        output=$BATS_TEST_TMPDIR/$build
        TSAN_OPTIONS=halt_on_error=1 timeout 280 "$ROOT/build/unit/$build/$1" "${@:2}" \
            >"$output" 2>&1 || { cat "$output"; return 1; }
        grep -q '^ok - ' "$output"
    done
}

@test "the table makes each step of the descriptor's diagram, and no other" {
    passes fdtable
}

@test "a connection makes each step of its diagram, mode by mode, and the drainer decides by it" {
    passes conn
}

@test "a crowd of threads leaves table and connections as a simple model has them" {
    passes crowd
}

@test "the same again with a seed that is always the same" {
    passes crowd 20240229 15000 3
}

@test "each setting's good values are read, and its bad ones are refused" {
    passes settings
}

@test "a line is put together, escaped and cut as text.h says" {
    passes text
}

@test "an answer is taken for whole by the answers before it, a client to wait by what it has waited for" {
    passes reply_model
}

@test "HTTP/1.x is told as it is, or given up, wherever the bytes are cut" {
    passes tracker
}

@test "HTTP/2's frames are followed, and its streams counted, wherever the bytes are cut" {
    passes frames
}

@test "WebSocket's messages are followed, wherever the bytes are cut" {
    passes websocket
}

@test "PostgreSQL's messages are followed, wherever the bytes are cut" {
    passes postgres
}

@test "TLS is followed by its records until its first answer, wherever the bytes are cut" {
    passes tls
}

@test "HTTP/1.x looked at many bytes at once is what it is byte by byte" {
    passes tracker_pieces
}

@test "a close notice gets into each head that is due one, wherever the bytes are cut" {
    passes close_header
}

@test "where there is no dlsym, the functions that it would find are found" {
    passes libc_next
}

@test "who is preempted between the last look and our FIN looks again" {
    passes sock
}

@test "each unit test is run here, and nothing else" {
    diff <(cd "$ROOT/tests/unit" && grep -l '^int main(' -- *.c | sed 's/\.c$//') \
        <(sed -nE 's/^    passes ([a-z_]+).*/\1/p' "$BATS_TEST_FILENAME" | sort -u)
}
