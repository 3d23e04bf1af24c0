#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The C test programs under valgrind, with the shim and through a drain: no error that is not there
# without it (DESIGN.md, "fork": the worker thread is a raw clone, with a stack and a TLS of its
# own, and valgrind must be able to follow it).
#
# helgrind knows no C11 atomics (valgrind's manual, 7.5: "Helgrind only partially correctly handles
# them"): on x86-64 an atomic load or store is a plain move, and each that another thread can see is
# a "possible data race" to it. What the shim shares between threads is all atomics; so a race is
# left out where both accesses are at lines of the source that say so (or a GLANCE, common.h). All
# others count: two threads at a plain variable of the shim's, or the shim's thread in the program's memory. (ThreadSanitizer,
# which does know atomics, has the tables: tests/unit.bats.)
# mutant: shim/conn/pacing.c: s/__atomic_store_n\(&(spread.length), (length), \w+\)/\1 = \2/
# seconds: 10

load helpers
load marked

setup_file() {
    command -v valgrind >/dev/null
}

# under TOOL DIRECTORY PROGRAM: DIRECTORY/PROGRAM runs PROGRAM under valgrind's TOOL, and $XML is
# the report.
under() {
    XML=$BATS_TEST_TMPDIR/$1.xml
    mkdir -p "$2"
    # --fair-sched: without it a thread that waits for another in a loop may be the only one to run.
    cat >"$2/$3" <<END
#!/bin/sh
exec valgrind --tool=$1 --fair-sched=yes --xml=yes --xml-file="$XML" "$PROGRAMS/$3" "\$@"
END
    chmod +x "$2/$3"
}

# errors: a line for each that valgrind found: its kind, and where each of its stacks begins, as
# object function file:line.
errors() {
    awk '
        function value(line) { sub(/^[^>]*>/, "", line); sub(/<.*/, "", line); return line }
        /<error>/    { kind = ""; places = ""; inside = 1 }
        /<kind>/     { kind = value($0) }
        /<stack>/    { first = 1 }
        /<frame>/    { object = fn = file = "?"; line = 0 }
        /<obj>/      { object = value($0); sub(/.*\//, "", object) }
        /<fn>/       { fn = value($0) }
        /<file>/     { file = value($0) }
        /<line>/     { line = value($0) }
        /<\/frame>/  { if (first) places = places " " object " " fn " " file ":" line; first = 0 }
        /<\/error>/  { if (inside) print kind places; inside = 0 }' "$XML"
}

# says_atomic FILE:LINE: the statement of the shim's that this line is a part of is an atomic one.
says_atomic() {
    local file line=${1##*:}
    file=$(compgen -G "$ROOT/shim/*/${1%:*}" | grep -v /command/)
    [ -e "$file" ] && awk -v line="$line" '
        { statement = statement $0 }
        /[;{}]$|\*\/$/ { if (NR >= line) exit; statement = "" }
        END { exit !(statement ~ /atomic_|GLANCE|__asm__/) }' "$file"
}

# is_of_atomics KIND [OBJECT FUNCTION PLACE]...: a race between two atomic accesses of the shim's, or
# between two that serve one after the other: the framing of a connection is touched by the thread
# that serves it, and its number changes hands by close and accept, an order that helgrind can't see
# (tests/unit/tracker.c has its threads, under ThreadSanitizer).
is_of_atomics() {
    [ "$1" = Race ] && [ $# -ge 4 ] || return 1
    shift
    while [ $# -gt 0 ]; do
        [ "$1" = libweir.so ] || return 1
        case $2 in
        table_knows | table_is_fast | table_is_of_no_interest) ;;
        *) says_atomic "$3" || is_of_tracker "$3" || return 1 ;;
        esac
        shift 3
    done
}

is_of_tracker() {
    [[ $1 == tracker.[ch]:* || $1 == parser.[ch]:* || $1 == parser_head.c:* || $1 == head_cache.[ch]:* || $1 == close_header.c:* ]]
}

# is_of_program KIND [OBJECT FUNCTION PLACE]...: what the program alone has part in, so that it is
# there without the shim too: a race between two places of its own (marked's table of connections),
# and the threads that still run when a signal ends it, which memcheck takes for a leak.
is_of_program() {
    [[ $1 != Leak_* ]] || return 0
    [ "$1" = Race ] && [ $# -ge 4 ] || return 1
    shift
    while [ $# -gt 0 ]; do
        [ "$1" = marked ] || [ "$1" = oldhttpd ] || return 1
        shift 3
    done
}

# no_error: none in the report, those of the two kinds above left out.
no_error() {
    local error bad=0
    grep -q '<state>FINISHED</state>' "$XML"
    while read -r error; do
        # shellcheck disable=SC2086  # words
        if ! is_of_atomics $error && ! is_of_program $error; then
            echo "valgrind: $error" >&2
            bad=1
        fi
    done < <(errors)
    [ "$bad" = 0 ] || { grep -A 40 '<error>' "$XML" | head -n 200; return 1; }
}

# drain_oldhttpd_under TOOL: with a few clients that come and go on.
drain_oldhttpd_under() {
    under "$1" "$BATS_TEST_TMPDIR/programs" oldhttpd
    serve oldhttpd WEIR_TIMEOUT=20s -- "$BATS_TEST_TMPDIR/programs/oldhttpd" "$PORT"
    local server=$SERVER_PID line
    wait_until 20 listening "$PORT"
    serve_bare load -- "$PROGRAMS/load" --careful --connections 12 --pause 0-400 --seconds 15 \
        "$PORT"
    local load=$SERVER_PID
    wait_until 20 log_has load '^load: ready'
    pause 1
    kill -USR2 "$server"
    wait "$load"
    wait_drained oldhttpd 25
    log_has oldhttpd ', 0 forced;'
    # (At this speed a request may cross the end of its connection: unanswered is not looked at.)
    line=$(tail -n 1 "$BATS_TEST_TMPDIR/load.log")
    [[ $line =~ ^answered=([0-9]+)\ .*\ reset=0\ truncated=0 ]]
    [ "${BASH_REMATCH[1]}" -gt 12 ]
    kill -TERM "$server"
    wait_gone "$server" 20
}

# drain_marked_under TOOL: what the C interface and duplicates do, by hand.
drain_marked_under() {
    local directory=$BATS_TEST_TMPDIR/programs a b
    under "$1" "$directory" marked
    PROGRAMS=$directory start_marked WEIR_MODE=automatic
    connect a
    connect b
    request "$a" 1
    response "$a" 1
    expect 0 idle 1
    request "$b" 2
    expect 0 rcvtimeo 1
    expect '2 1 1 2' counts
    ask dup 1
    expect 0 close_dup 1
    kill -USR2 "$SERVER_PID"
    at_eof "$a" 5
    is_open "$b"
    response "$b" 2
    expect 0 idle 2
    at_eof "$b" 5
    wait_drained marked 20
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 20
}

@test "memcheck finds nothing in a threaded HTTP server that is drained under load" {
    drain_oldhttpd_under memcheck
    no_error
}

@test "helgrind finds nothing in a threaded HTTP server that is drained under load" {
    drain_oldhttpd_under helgrind
    no_error
}

@test "memcheck finds nothing in a drain with marks, options and duplicates" {
    drain_marked_under memcheck
    no_error
}

@test "helgrind finds nothing in a drain with marks, options and duplicates" {
    drain_marked_under helgrind
    no_error
}
