# SPDX-License-Identifier: MIT
# What every test file has in common: `load helpers`. Servers are started under the shim (or bare),
# waited for by their socket, ended by pid, and what they said is printed when a test fails.
# shellcheck shell=bash

# Every test loads this anew, and many of these functions are called dozens of times in it: so they
# make no process where they can do without.

ROOT=${BASH_SOURCE[0]%/tests/*}

# The environment of whoever runs the tests must not reach the shim.
# shellcheck disable=SC2086  # names, a word each
[ -z "${!WEIR_@}" ] || unset ${!WEIR_@}
unset LD_PRELOAD PREFIX LIBDIR DESTDIR
# What threads of a Python client print at once is whole, wherever the tests are run.
export PYTHONUNBUFFERED=1

WEIR_LIB=$ROOT/build/libweir.so
# shellcheck disable=SC2034  # for the test files
PROGRAMS=$ROOT/build/tests
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PROCESSORS=${PROCESSORS:-$(nproc)} # tests/run has asked
# What most tests are of. Those of protocol, the default, say so (servers, http, notice, bytes ...).
export WEIR_MODE=reply

# bats notes each command's place by a DEBUG trap, which takes longer than most commands do. So
# functions go without, and the place is noted where one fails.
set +o functrace
bats_error_trap() {
    bats_check_status_from_trap
    bats_capture_stack_trace
    # shellcheck disable=SC2034  # read by bats
    BATS_DEBUG_LAST_STACK_TRACE_IS_VALID=1
}

# Three more of bats' own: its clock, which would make two processes a test (from 1.11 on bats says in which
# variable it wants the time), and what ends a test that takes too long. That is killed, for before it has run at
# all it would take no other signal, and it holds none of what bats reads to the end: it would keep a file open
# until its time was over.
get_mills_since_epoch() {
    if [ $# = 0 ]; then now_ms; else printf -v "$1" %d "$(now_ms)"; fi
}

bats_start_timeout_countdown() {
    trap bats_timeout_trap ABRT
    (
        pause "$1"
        kill -ABRT "$$" && pkill -P "$$"
    ) &>/dev/null 3>&- 4>&- &
    disown # and bash's "Killed"
}

bats_abort_timeout_countdown() {
    kill -KILL "$1" 2>/dev/null || true
}

STARTED=() # pids that teardown ends
LOGGED=()  # names whose log teardown prints when the test failed

# built ARGUMENT...: made, one caller after the other: other files' tests may want the same.
built() {
    mkdir -p "$ROOT/build"
    flock "$ROOT/build/lock" \
        make -C "$ROOT" --no-print-directory --silent -j"$PROCESSORS" "$@" >&2 3>&-
}

# library NAME: where ld.so finds it.
library() {
    ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }'
}

# serve NAME [VAR=value...] -- COMMAND...
# Starts COMMAND in the background under the shim, with these variables; SERVER_PID is its pid.
serve() {
    local name=$1
    shift
    [ -e "$WEIR_LIB" ] || { echo "there is no $WEIR_LIB: run make" >&2; return 1; }
    serve_bare "$name" "LD_PRELOAD=$WEIR_LIB" "$@"
}

# The same without the shim.
serve_bare() {
    local name=$1 variables=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    [ $# -gt 1 ] || { echo "serve $name: no -- COMMAND" >&2; return 1; }
    shift
    new_log "$name"
    {
        [ ${#variables[@]} = 0 ] || export "${variables[@]}"
        become "$@"
    } </dev/null >>"$BATS_TEST_TMPDIR/$name.log" 2>&1 & # which others open for themselves (WEIR_LOG)
    SERVER_PID=$!
    LOGGED+=("$name")
    STARTED+=("$SERVER_PID")
}

# new_log NAME: for a process that is about to be started in the background, which opens its log some
# time later: what an earlier one of that name has said must not be taken for its.
new_log() {
    : >"$BATS_TEST_TMPDIR/$1.log"
}

# become COMMAND...: execs it with three descriptors. Descriptor 3 is bats' own, and a copy of a
# client's connection would keep that open.
become() {
    local fd
    for fd in "/proc/$BASHPID/fd"/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    exec "$@"
}

# has_users: there is another user to become. Who is not root runs the tests in a user namespace that has
# one (tests/run).
has_users() {
    setpriv --reuid=nobody --regid=nogroup --clear-groups true 2>/dev/null
}

# needs_users: of a server that becomes another user, and can't be told not to.
needs_users() {
    has_users || skip "it becomes another user: run as root"
}

# needs_root: of what only the machine's root may, and not that of a user namespace.
needs_root() {
    local inside outside
    read -r inside outside _ </proc/self/uid_map
    [ "$(id -u) $inside $outside" = '0 0 0' ] || skip "it needs what only root may"
}

# somebody: whom a server of root's can become: nobody, or root where there is no other.
somebody() {
    if has_users; then echo nobody; else echo root; fi
}

# also_end PID...: teardown ends these too (a daemon that forked itself away).
also_end() {
    STARTED+=("$@")
}

log() {
    local text
    mapfile -d '' text <"$BATS_TEST_TMPDIR/$1.log" || return
    printf %s "${text[@]}"
}

# not COMMAND...: it says no. bash lets a plain "! COMMAND" pass under set -e. One that could not ask
# has said nothing: there was no such command, or no such file (2, from grep, cmp, diff and test).
not() {
    local status=0
    "$@" || status=$?
    case $status in
    2 | 126 | 127)
        echo "status $status: $*" >&2
        return 1
        ;;
    esac
    [ "$status" != 0 ]
}

# has TEXT PART, lacks TEXT PART: a text, and a part that is or is not in it as it stands.
has() {
    [[ $1 == *"$2"* ]] || { printf 'no "%s" in:\n%s\n' "$2" "$1"; return 1; }
}

lacks() {
    [[ $1 != *"$2"* ]] || { printf '"%s" in:\n%s\n' "$2" "$1"; return 1; }
}

# pause SECONDS: sleep(1) without a process: nothing ever comes from this pipe.
PIPE=$ROOT/build/silence
[ -p "$PIPE" ] || { mkdir -p "$ROOT/build" && { mkfifo "$PIPE" 2>/dev/null || [ -p "$PIPE" ]; }; }
exec {PAUSES}<>"$PIPE"

pause() {
    read -r -t "$1" -u "$PAUSES" || true
}

# take_patience: PATIENCE is how many times as long as on an idle machine things may take here and now:
# as many as there are processes for each processor that want to run, now or in the last minute.
take_patience() {
    local load tasks
    read -r load _ _ tasks _ </proc/loadavg # proc(5): "0.20 0.18 0.12 1/80 11206"
    load=$((10#${load/./}))
    tasks=$((100 * ${tasks%%/*}))
    PATIENCE=$((((load > tasks ? load : tasks) + 100 * PROCESSORS - 1) / (100 * PROCESSORS)))
    PATIENCE=$((PATIENCE < 1 ? 1 : PATIENCE > 8 ? 8 : PATIENCE))
}

patience() {
    local PATIENCE
    take_patience
    echo "$PATIENCE"
}

# patient SECONDS: so many, or what the machine needs for it; take_patient: in PATIENT.
patient() {
    local PATIENT
    take_patient "$1"
    echo "$PATIENT"
}

take_patient() {
    local PATIENCE MS
    take_patience
    take_ms "$1"
    MS=$((MS * PATIENCE))
    printf -v PATIENT %d.%03d $((MS / 1000)) $((MS % 1000))
}

# within MS MOST: a time is not longer than that, nor than the machine needs for it.
within() {
    local PATIENCE
    [ "$1" -gt "$2" ] || return 0
    take_patience
    [ "$1" -le $(($2 * PATIENCE)) ]
}

# wait_until SECONDS COMMAND...: polls until COMMAND succeeds; fails when the time is over. The longer
# it has waited the less often: what it waited for is seen a twentieth later at the most.
wait_until() {
    # No variable of ours here: one that COMMAND sets (bats' run: status) would be that instead.
    poll_until "$@" || { echo "not within ${1}s: ${*:2}" >&2; return 1; }
}

poll_until() {
    local most elapsed step MS began=${EPOCHREALTIME//[!0-9]/}
    take_ms "$1"
    most=$MS
    shift
    until "$@"; do
        elapsed=$(((${EPOCHREALTIME//[!0-9]/} - began) / 1000))
        within "$elapsed" "$most" || return 1
        step=$((elapsed / 20))
        printf -v step 0.%03d $((step < 20 ? 20 : step > 200 ? 200 : step))
        pause "$step"
    done
}

# take_ms SECONDS: MS is so many, 1500 for 1.5
take_ms() {
    local part=000
    [ "${1%%.*}" = "$1" ] || part=${1#*.}000
    MS=$((10#0${1%%.*} * 1000 + 10#${part:0:3}))
}

now_ms() {
    local now=${EPOCHREALTIME//[!0-9]/}
    echo "${now%???}"
}

# log_has NAME REGEX: a line of NAME's log matches, as for grep -E, which reads the long ones.
log_has() {
    local log=$BATS_TEST_TMPDIR/$1.log text line status
    mapfile -t -n 100 text <"$log" || return 2
    for line in "${text[@]}"; do
        status=0
        # shellcheck disable=SC2319  # 2 where $2 is no regular expression
        [[ $line =~ $2 ]] || status=$?
        [ "$status" = 1 ] || return "$status"
    done
    [ ${#text[@]} = 100 ] || return 1
    grep -Eq -- "$2" "$log"
}

# last_weir_line NAME: the last thing that the shim said in NAME's log.
last_weir_line() {
    grep -E '^weir(\[[0-9]+\])?' "$BATS_TEST_TMPDIR/$1.log" | tail -n 1
}

# wait_drained NAME [SECONDS]: until the log of NAME says that the drain ended.
wait_drained() {
    wait_until "${2:-10}" log_has "$1" '^weir\[[0-9]+\] .*: drained in '
}

alive() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    stat=${stat##*) }
    [ "${stat:0:1}" != Z ] && [ "${stat:0:1}" != X ]
}

gone() {
    not alive "$1"
}

# wait_gone PID [SECONDS]
wait_gone() {
    wait_until "${2:-10}" gone "$1"
}

listening() {
    # /proc/net/tcp: the local address is hexadecimal, state 0A is LISTEN.
    local port lines more
    printf -v port %04X "$1"
    mapfile -t lines </proc/net/tcp
    mapfile -t more </proc/net/tcp6
    has_line " *: *:$port *:???? 0A *" "${lines[@]}" "${more[@]}"
}

listening_unix() {
    # __SO_ACCEPTCON is 00010000 in the flags.
    local lines
    mapfile -t lines </proc/net/unix
    has_line "* 00010000 * $1" "${lines[@]}"
}

# has_line PATTERN LINE...: one of the lines is like that, as a shell pattern.
has_line() {
    local line pattern=$1
    shift
    for line; do
        # shellcheck disable=SC2053  # a pattern
        [[ $line != $pattern ]] || return 0
    done
    return 1
}

# The sockets' state is looked up: a trial connection would show in what the tests count.
wait_port() {
    wait_until 10 listening "$1"
}

wait_unix() {
    wait_until 10 listening_unix "$1"
}

# conn_open VAR PORT: connects to 127.0.0.1; the descriptor's number goes to VAR.
conn_open() {
    local number
    exec {number}<>"/dev/tcp/127.0.0.1/$2" || return 1
    printf -v "$1" %s "$number"
}

conn_close() {
    eval "exec $1>&-"
}

# conn_send FD TEXT: TEXT with printf's escapes.
conn_send() {
    printf '%b' "$2" >&"$1"
}

# is_open FD: neither end-of-file nor data is waiting.
is_open() {
    if read -r -t 0 -u "$1"; then
        echo "descriptor $1: its end or data is waiting" >&2
        return 1
    fi
}

# at_eof FD SECONDS: a clean end, and nothing before it, within SECONDS. A reset is no clean end.
at_eof() {
    local byte PATIENT status=0 error=$BATS_TEST_TMPDIR/.at_eof
    take_patient "$2"
    LC_ALL=C IFS= read -r -N 1 -t "$PATIENT" -u "$1" byte 2>"$error" || status=$?
    if [ "$status" -gt 128 ]; then
        echo "descriptor $1: still open after $2s" >&2
    elif [ "$status" = 0 ] || [ -n "$byte" ]; then
        echo "descriptor $1: data where the end was expected" >&2
    elif [ -s "$error" ]; then
        echo "descriptor $1: $(<"$error")" >&2
    else
        return 0
    fi
    return 1
}

# all_at_eof SECONDS FD...: each of them, within SECONDS altogether.
all_at_eof() {
    local fd end left MS
    take_ms "$1"
    end=$((${EPOCHREALTIME//[!0-9]/} / 1000 + MS))
    shift
    for fd in "$@"; do
        left=$((end - ${EPOCHREALTIME//[!0-9]/} / 1000))
        [ "$left" -gt 10 ] || left=10
        printf -v left %d.%03d $((left / 1000)) $((left % 1000))
        at_eof "$fd" "$left" || return 1
    done
}

# read_line VAR FD SECONDS: one line, its CR LF taken off.
read_line() {
    local line_read PATIENT
    take_patient "$3"
    IFS= read -r -t "$PATIENT" -u "$2" line_read || return 1
    printf -v "$1" %s "${line_read%$'\r'}"
}

# served PORT TEXT: a new connection that sends TEXT gets a byte of an answer within half a second.
served() {
    local PATIENT most
    take_patient 1
    most=$PATIENT
    take_patient 0.5
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout "$most" bash -c '{ exec 9<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || exit 1
        printf %b "$2" >&9
        IFS= read -r -N 1 -t "$3" -u 9 byte && [ -n "$byte" ]' - "$1" "$2" "$PATIENT" 3>&-
}

not_served() {
    if served "$@"; then
        echo "port $1: a new connection was served" >&2
        return 1
    fi
}

# cpu_ticks PID: user and system time of the whole process, in hundredths of a second.
cpu_ticks() {
    local stat
    read -r stat <"/proc/$1/stat"
    # proc(5): after the name in parentheses, utime and stime are the 12th and 13th field.
    read -r -a stat <<<"${stat##*) }"
    echo $((stat[11] + stat[12]))
}

# is_quiet PID: it hardly runs for half a second (an event loop that spins would take all of it).
is_quiet() {
    local before after
    before=$(cpu_ticks "$1")
    pause 0.5
    after=$(cpu_ticks "$1")
    if [ $((after - before)) -gt 5 ]; then
        echo "pid $1: $((after - before))0 ms of processor time in 500 ms" >&2
        return 1
    fi
}

# end_started: ends what the test started, by pid, and says what it said if the test failed.
end_started() {
    local pid name
    {
        for pid in "${STARTED[@]}"; do
            kill -KILL "$pid" || true
        done
        for pid in "${STARTED[@]}"; do
            wait "$pid" || true
        done
    } 2>/dev/null # and bash's "Killed"
    if [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ]; then
        for name in "${LOGGED[@]}"; do
            echo "--- $name:"
            tail -n 100 "$BATS_TEST_TMPDIR/$name.log" 2>/dev/null || true
        done
    fi
    STARTED=()
    LOGGED=()
}

teardown() {
    end_started
}
