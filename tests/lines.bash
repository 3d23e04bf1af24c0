# SPDX-License-Identifier: MIT
# Servers that answer each line with one: `load lines` after helpers.
# shellcheck shell=bash disable=SC2154

# ask FD TEXT [SECONDS]: a line, and `answer` is its answer.
ask() {
    conn_send "$1" "$2\n"
    read_line answer "$1" "${3:-3}"
}

# replies FD TEXT ANSWER: a line, and what its answer has to be.
replies() {
    ask "$1" "$2" 2
    [ "$answer" = "$3" ] || { echo "\"$answer\" where \"$3\" was expected" >&2; return 1; }
}

echoes() {
    ask "$1" ping
    [ "$answer" = ping ]
}
