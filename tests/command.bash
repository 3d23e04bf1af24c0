# SPDX-License-Identifier: MIT
# weir(1) as a user has it, in a pipe and on a terminal: `load command`, behind helpers.
# shellcheck shell=bash

# weir ARGUMENT...: what it says stands in $said and $complained, its exit code in $code.
weir() {
    local PATIENT
    code=0
    take_patient 30
    timeout "$PATIENT" "$ROOT/build/weir" "$@" >"$BATS_TEST_TMPDIR/said" 2>"$BATS_TEST_TMPDIR/complained" \
        </dev/null 3>&- || code=$?
    said=$(<"$BATS_TEST_TMPDIR/said")
    complained=$(<"$BATS_TEST_TMPDIR/complained")
}

# weir_begins ARGUMENT...: the same in the background, as WEIR_PID. What it says goes to $saying.
# typed_begins ARGUMENT...: on a terminal of its own.
weir_begins() {
    saying=$BATS_TEST_TMPDIR/saying
    become "$ROOT/build/weir" "$@" </dev/null >"$saying" 2>&1 &
    WEIR_PID=$!
    also_end "$WEIR_PID"
}

typed_begins() {
    saying=$BATS_TEST_TMPDIR/saying
    rm -f "$saying" "$saying.pid"
    become script -qfec "echo \$\$ >$saying.pid; exec $ROOT/build/weir $*" "$saying" \
        </dev/null >/dev/null 2>&1 &
    SCRIPT_PID=$!
    also_end "$SCRIPT_PID"
    wait_until 5 test -s "$saying.pid"
    WEIR_PID=$(<"$saying.pid")
    also_end "$WEIR_PID"
}

says() {
    local lines line count=0
    mapfile -t lines <"$saying"
    for line in "${lines[@]}"; do
        [[ ! $line =~ $1 ]] || count=$((count + 1))
    done
    [ "$count" -ge "${2:-1}" ]
}

# weir_ends CODE: the one in the background does.
weir_ends() {
    code=0
    wait_gone "$WEIR_PID" 10
    wait "$WEIR_PID" || code=$?
    cat "$saying"
    [ "$code" = "$1" ]
}

# exits CODE ARGUMENT...
exits() {
    local wanted=$1
    shift
    weir "$@"
    [ "$code" = "$wanted" ] || {
        printf 'weir %s: exit %s, not %s\n%s\n%s\n' "$*" "$code" "$wanted" "$said" "$complained"
        return 1
    }
}

as_root() {
    [ "$(id -u)" = 0 ] || skip "not root"
    setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "no other user"
}
