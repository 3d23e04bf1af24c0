# SPDX-License-Identifier: MIT
# The same clients for servers of any kind: `load clients` after helpers. A file that has a server X
# defines start_X [VAR=value...], X_ask FD (an answer at once), X_ask_slow FD and X_slow_answer FD (an
# answer 1.5 s later, which must come whole), and X_hello (for `served`).
# shellcheck shell=bash disable=SC2034,SC2154

http_hello='GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'

# speaks_http X...: what they are asked, and how.
speaks_http() {
    local server
    for server; do
        eval "${server}_hello=\$http_hello
            ${server}_ask() { http_ask \"\$1\"; }
            ${server}_ask_slow() { http_ask_slow \"\$1\"; }
            ${server}_slow_answer() { http_slow_answer \"\$1\"; }"
    done
}

http_get() {
    conn_send "$1" "GET $2 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
}

# http_answer FD SECONDS: reads one whole answer; its body goes to `answer`.
http_answer() {
    local line length='' piece
    read_line line "$1" "$2"
    [[ $line == "HTTP/1.1 200 "* ]]
    while read_line line "$1" 2 && [ -n "$line" ]; do
        [[ ${line,,} != content-length:* ]] || length=${line##*: }
    done
    answer=
    if [ -n "$length" ]; then
        IFS= read -r -N "$length" -t 16 -u "$1" answer
        return
    fi
    while read_line line "$1" 2 && [ "$line" != 0 ]; do # chunked
        IFS= read -r -N $((16#$line)) -t 16 -u "$1" piece
        answer+=$piece
        read_line line "$1" 2
    done
    read_line line "$1" 2
    [ -z "$line" ]
}

http_ask() {
    http_get "$1" /
    http_answer "$1" 2
    [[ $answer == *"It works"* ]]
}

http_ask_slow() {
    http_get "$1" /slow
}

http_slow_answer() {
    http_answer "$1" $((${slow_seconds:-1} + 2))
    [[ $answer == *"at last"* ]]
}

# open_clients X: three connections that were answered twice, two that never sent a byte, and one that
# will ask for what is slow: `idle`, `silent` and `slow`.
open_clients() {
    local fd
    idle=() silent=()
    for _ in 1 2 3; do
        conn_open fd "$port"
        idle+=("$fd")
        "$1_ask" "$fd"
        "$1_ask" "$fd"
    done
    for _ in 1 2; do
        conn_open fd "$port"
        silent+=("$fd")
    done
    conn_open slow "$port"
    "$1_ask" "$slow"
}

# ask_slow X: the one for that asks for what is slow.
ask_slow() {
    asked_at=$(now_ms)
    "$1_ask_slow" "$slow"
}

# before_slow COMMAND...: it says yes, unless the slow answer is due by now: on a busy machine the test
# may come too late to see what was before that.
before_slow() {
    "$@" || [ $(($(now_ms) - asked_at)) -ge 1400 ]
}

all_are_open() {
    local fd
    for fd in "${idle[@]}" "${silent[@]}"; do
        is_open "$fd"
    done
    before_slow is_open "$slow"
}
