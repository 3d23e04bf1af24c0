#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Where a file lies says what it may use: each folder of shim/ is a floor, and a floor uses those below
# it (README, "How it works").
# mutant: shim/base/sys.c: s/"base.sys.h"/&\n#include "drain\/drain.h"/
# seconds: 5

load helpers

# Each on top of those before it.
FLOORS="base http conn tree drain interpose"

# arrows DIRECTORY...: "FILE FLOOR" for each #include of another of the library's files.
arrows() {
    awk 'match($0, /^#include "[a-z_]+\//) { print FILENAME, substr($0, 11, RLENGTH - 11) }' "$@"
}

@test "a floor of the library includes nothing from above" {
    local climbs
    cd "$ROOT/shim"
    arrows ./*/*.[ch] >"$BATS_TEST_TMPDIR/arrows"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/arrows")" -gt 200 ]
    climbs=$(awk -v floors="$FLOORS" '
        BEGIN { for (n = split(floors, name, " "); n; n--) height[name[n]] = n }
        { split($1, at, "/") }
        at[2] in height && !($2 in height && height[$2] <= height[at[2]])' "$BATS_TEST_TMPDIR/arrows")
    [ -z "$climbs" ] || { echo "$climbs"; return 1; }
}

# steps: "FLOOR/MODULE FLOOR/MODULE" for each #include of another module of the same floor. A module is
# NAME.c, NAME.h and NAME.S.
steps() {
    local floor
    for floor in $FLOORS; do
        awk -v floor="$floor" '
            { if (!match($0, /^#include "[^"]+\.h"/)) next }
            {
                to = substr($0, 11, RLENGTH - 13)
                if (to !~ /\//) to = floor "/" to
                from = FILENAME; sub(/\.[chS]$/, "", from)
                if (to ~ "^" floor "/" && to != from) print from, to
            }' "$floor"/*.[chS]
    done | sort -u
}

@test "no two modules of a floor lead to each other" {
    local circles
    cd "$ROOT/shim"
    steps >"$BATS_TEST_TMPDIR/steps"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/steps")" -gt 90 ]
    # tsort(1) names the modules of each circle that it has to break.
    circles=$(tsort "$BATS_TEST_TMPDIR/steps" 2>&1 >/dev/null) || true
    [ -z "$circles" ] || { echo "$circles"; return 1; }
}

@test "each of the library's files lies on a floor, and names by its floor what it includes" {
    local floor odd
    cd "$ROOT/shim"
    for floor in $FLOORS; do
        [ -d "$floor" ]
    done
    [ "$(find . -maxdepth 1 -type f | sort | tr '\n' ' ')" = "./exports.map ./weir.h " ]
    # shellcheck disable=SC2046,SC2086  # words
    odd=$(grep -n '^#include "[^/]*"' $(printf '%s/*.[ch] ' $FLOORS) | grep -v '"\(weir\|wait\).h"' || true)
    [ -z "$odd" ] || { echo "$odd"; return 1; }
}

@test "weir(1) shares the lowest floor with the library, the page's files and the table's layout" {
    cd "$ROOT/shim"
    [ "$(grep -rh --include='*.[ch]' '^#include "' command | grep -v '"\(base\|command\)/' | sort -u)" = \
        '#include "conn/fdtable.h"
#include "tree/pagefile.h"' ]
}

# changes FILE EXPRESSION: sed's does.
changes() {
    sed -E "$2" "$1" >"$BATS_TEST_TMPDIR/changed" && not cmp -s "$1" "$BATS_TEST_TMPDIR/changed"
}

@test "each test file names one mutant of the library, which changes it (scripts/mutants)" {
    local file mutant
    cd "$ROOT"
    for file in tests/*.bats; do
        mutant=$(sed -n 's/^# mutant: //p; /^$/q' "$file")
        changes "${mutant%%: *}" "${mutant#*: }" || { echo "$file: \"$mutant\""; return 1; }
    done
}

# circle DIRECTORY: a circle of includes among the files below it; a .c and its .h are one. Nothing
# where there is none.
circle() {
    (cd "$1/.." && grep -r --include='*.[ch]' '^#include "command/' command) |
        sed -E 's/\.[ch]:#include "/ /; s/\.h".*//' | awk '$1 != $2' >"$BATS_TEST_TMPDIR/pairs"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/pairs")" -gt 30 ]
    { tsort "$BATS_TEST_TMPDIR/pairs" >/dev/null; } 2>&1 || true
}

@test "no files of weir(1) include each other in a circle" {
    local found
    found=$(circle "$ROOT/shim/command")
    [ -z "$found" ] || { echo "$found"; return 1; }
    # The same, with one include too many: it is found.
    cp -r "$ROOT/shim/command" "$BATS_TEST_TMPDIR/command"
    echo '#include "command/check/program.h"' >>"$BATS_TEST_TMPDIR/command/check/libraries.c"
    found=$(circle "$BATS_TEST_TMPDIR/command")
    grep -q 'command/check/libraries' <<<"$found"
}

@test "each file of weir(1) names by its folder what it includes" {
    local odd
    cd "$ROOT/shim"
    odd=$(grep -rn --include='*.[ch]' '^#include "[^/]*"' command || true)
    [ -z "$odd" ] || { echo "$odd"; return 1; }
}
