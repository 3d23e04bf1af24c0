#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The screens in weir(1) are what the command says: in shape, since the figures are others each time.
# mutant: shim/command/text_output.c: s/IN USE\|>AGE/IN USE|>SINCE/
# needs: redis-server memcached
# seconds: 4

load helpers

# shape: numbers, columns' widths and how far a bar has come don't count.
shape() {
    sed -E 's/\[#+-+\]/[#-]/; s/[0-9]+m [0-9]+s|[0-9]+\.[0-9]s/Ns/g; s/[0-9]+/N/g; s/ +/ /g; s/ $//'
}

@test "the manual page and the README show what the command says of two real servers" {
    "$ROOT/scripts/screens" >"$BATS_TEST_TMPDIR/screens"
    sed -n '/^\.\\" screens$/,/^\.\\" end$/ { /^\.\\"/ d; s/\\-/-/g; p }' "$ROOT/shim/share/weir.1.in" \
        >"$BATS_TEST_TMPDIR/manual"
    [ "$(grep -c '^\$ weir ' "$BATS_TEST_TMPDIR/manual")" = 4 ]
    diff <(shape <"$BATS_TEST_TMPDIR/manual") <(shape <"$BATS_TEST_TMPDIR/screens") ||
        { echo "scripts/screens --write puts what it says now into the manual page"; return 1; }
    # README has all but the first.
    diff <(sed '1,/^$/ d' "$BATS_TEST_TMPDIR/manual" | shape) \
        <(awk '/^```/ { inside = !inside && ++number; next } inside' "$ROOT/README.md" |
            sed -n '/^\$ weir status$/,/: drained in/ p' | shape)
    # As it is read.
    LC_ALL=C MANWIDTH=100 man -l "$ROOT/build/share/weir.1" 2>/dev/null | col -bx >"$BATS_TEST_TMPDIR/read"
    while read -r line; do
        grep -qF -- "$line" "$BATS_TEST_TMPDIR/read" || { echo "not shown: $line"; return 1; }
    done <"$BATS_TEST_TMPDIR/manual"
}
