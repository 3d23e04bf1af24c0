#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The state page that a tree of processes shares: its file, who has a line in it, what is counted
# there while connections go from hand to hand, and who acts for the tree.
# mutant: shim/tree/pagefile.c: s/(openat, dir, name, flags), 0600/\1, 0644/
# seconds: 49
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers
load lines
load processes

setup() {
    port=$((9000 + 10 * BATS_TEST_NUMBER))
    run=$BATS_TEST_TMPDIR/run
    gate=$BATS_TEST_TMPDIR/gate
    as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
}

# start_tree HOW [VAR=value...] [-- GATE]: pg_tree; `head` is the pid with which it began, `server`
# that of the one that listens.
start_tree() {
    local how=$1 variables=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    [ $# = 0 ] || shift
    serve server WEIR_RUN_DIR="$run" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms "${variables[@]}" -- \
        "$PROGRAMS/pg_tree" "$how" "$port" "$@"
    head=$SERVER_PID
    is_up
}

is_up() {
    wait_port "$port"
    wait_until 3 log_has server '^server '
    server=$(log server | sed -n 's/^server //p')
    also_end "$server"
}

# ---- what stands in the page

read_page() {
    "$PROGRAMS/pg_read" "${1:-$run}"
}

# says FACT VALUE: the page does.
says() {
    local value
    value=$(read_page | sed -n "s/^$1 //p")
    [ "$value" = "$2" ]
}

# counts TRACKED IN_USE ACCEPTED CLOSED GAPS: of the whole tree.
counts() {
    local found
    found=$(read_page | sed -nE 's/^(tracked|in_use|accepted|closed|gaps) //p' | tr '\n' ' ')
    # in the order of pg_read: gaps first
    [ "$found" = "$5 $1 $2 $3 $4 " ]
}

# adds_up: each connection that was ever accepted is somewhere, once.
adds_up() {
    read_page | awk '
        $1 == "accepted" { accepted = $2 }
        $1 ~ /^(tracked|closed|closed_idle|forced|disowned)$/ { sum += $2 }
        END { exit !(accepted == sum) }'
}

# line PID: what the page says of that process.
line() {
    read_page | grep "^process $1 "
}

line_has() {
    line "$1" | grep -q -- "$2"
}

pages() {
    find "$run" -mindepth 1 | wc -l
}

has_pages() {
    [ "$(pages)" = "$1" ]
}

# never REGEX: no line of the server's log matches.
never() {
    if log_has server "$1"; then
        return 1
    fi
}

lines_of_weir() {
    grep -c '^weir' "$BATS_TEST_TMPDIR/$1.log" || true
}

# drains_one FD: the connection of FD, idle by now, is the only one, and the tree drains.
drains_one() {
    at_eof "$1" 2
    wait_until 3 log_has server "^weir\[$head\] .*: drained in .* 1 closed clean, 0 forced"
}

# ---- the file

@test "the page is named by its first process, is for its user alone, and has all of its room" {
    local file
    start_tree one
    file=$run/$("$PROGRAMS/pg_read" --name "$head")
    has_pages 1
    [ "$(stat -c '%a %u %F' "$file")" = "600 0 regular file" ]
    [ "$(stat -c %a "$run")" = 755 ]
    [ $(($(stat -c '%b * %B' "$file"))) -ge "$(stat -c %s "$file")" ]
    says pid "$head"
    says program pg_tree
    says head "$head"
    says phase serving
    says tree "$(basename "$file" | cut -d . -f 1,2 | tr . ' ')"
    read_page | grep -q "^listener 127.0.0.1:$port pid $head state 0$"
    line_has "$head" "lives 1 tracked 0"
}

@test "nobody in the tree keeps a descriptor of the page" {
    local client
    start_tree fork
    conn_open client "$port"
    echoes "$client"
    child_of 1
    [ "$(readlink "/proc/$head/fd"/* "/proc/$child/fd"/* | grep -c "^$run")" = 0 ]
    grep -q "$run/" "/proc/$head/maps"
    grep -q "$run/" "/proc/$child/maps"
}

# for_all MODE: the run directory, which any user can reach.
for_all() {
    mkdir -p "$run"
    chmod "$1" "$run"
    chmod o+x "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/.." "$BATS_TEST_TMPDIR/../.."
}

# planted WHAT...: starts pg_tree where something of the page's name is already: WHAT is run with
# `file`, its path. It runs as the user of `as`, if there is one, in a directory that all may write.
planted() {
    for_all 1777
    serve_bare server WEIR_RUN_DIR="$run" WHAT="$1" AS="${as:-}" LIB="$WEIR_LIB" RUN="$run" -- \
        sh -c 'read=$1; shift
            file=$RUN/$("$read" --name $$)
            eval "$WHAT"
            [ -z "$AS" ] || exec setpriv --reuid "$AS" --regid "$AS" --clear-groups \
                env LD_PRELOAD="$LIB" "$@"
            exec env LD_PRELOAD="$LIB" "$@"' - "$PROGRAMS/pg_read" "$PROGRAMS/pg_tree" one "$port"
    head=$SERVER_PID
    is_up
    planted_file=$run/$("$PROGRAMS/pg_read" --name "$head")
}

serves() {
    local client
    conn_open client "$port"
    echoes "$client"
    conn_close "$client"
}

@test "a symlink planted under the page's name is not followed: the page takes its place" {
    echo precious >"$BATS_TEST_TMPDIR/victim"
    planted "ln -s '$BATS_TEST_TMPDIR/victim' \"\$file\""
    [ "$(<"$BATS_TEST_TMPDIR/victim")" = precious ]
    [ -f "$planted_file" ]
    [ ! -L "$planted_file" ]
    serves
    wait_until 2 says accepted 1
}

# A page that could be this process's own: made by another tree, forged. Its path goes to `forged`.
forge() {
    serve other WEIR_RUN_DIR="$BATS_TEST_TMPDIR/other" -- "$PROGRAMS/pg_tree" one $((port + 1))
    wait_port $((port + 1))
    forged="'$PROGRAMS/pg_read' --forge '$BATS_TEST_TMPDIR/other'/* \$\$"
}

@test "a symlink to a sound page of the same process is not followed either" {
    local forged victim=$BATS_TEST_TMPDIR/victim
    forge
    planted "$forged >'$victim'; ln -s '$victim' \"\$file\""
    [ -f "$planted_file" ]
    [ ! -L "$planted_file" ]
    serves
    wait_until 2 says accepted 1
    read_page "$victim" | grep -qx 'accepted 0'
}

@test "a sound page of the same process that another user has planted is not used" {
    needs_users
    local forged
    forge
    planted "$forged >\"\$file\"; chmod 666 \"\$file\"; chown 65534 \"\$file\""
    [ "$(stat -c '%a %u' "$planted_file")" = "600 0" ]
    serves
    wait_until 2 says accepted 1
}

@test "where a stranger's file can't be taken away the tree does without one, and says so once" {
    needs_users
    local as=65534
    planted "$forged"'umask 0; echo mine >"$file"'
    [ "$(<"$planted_file")" = mine ]
    serves
    log_has server "^weir\[$head\] .*: no state page can be made in WEIR_RUN_DIR=$run \(error 17\)"
    [ "$(lines_of_weir server)" = 2 ]
}

@test "a FIFO planted under the page's name holds nobody up" {
    planted 'mkfifo "$file"'
    [ -f "$planted_file" ]
    serves
    wait_until 2 says accepted 1
}

@test "a hard link planted under the page's name leaves the file that it is of alone" {
    head -c 200000 /dev/zero | tr '\0' x >"$BATS_TEST_TMPDIR/victim"
    cp "$BATS_TEST_TMPDIR/victim" "$BATS_TEST_TMPDIR/before"
    planted "ln '$BATS_TEST_TMPDIR/victim' \"\$file\""
    cmp "$BATS_TEST_TMPDIR/victim" "$BATS_TEST_TMPDIR/before"
    [ "$(stat -c %h "$BATS_TEST_TMPDIR/victim")" = 1 ]
    serves
    wait_until 2 says accepted 1
}

@test "a run directory that is missing is made" {
    run=$run/a
    mkdir "$BATS_TEST_TMPDIR/run"
    start_tree one
    has_pages 1
    [ "$(stat -c %a "$run")" = 755 ]
}

@test "a directory into which others may put files of ours is not used" {
    for_all 777
    start_tree one
    has_pages 0
    log_has server "no state page is made in WEIR_RUN_DIR=$run: .* others may write to it \(mode 0777\)"
}

# without_file: a tree that has no file counts all the same, as its log tells, and drains as one.
without_file() {
    local client
    conn_open client "$port"
    echoes "$client"
    child_of 1
    pause 0.4
    kill -USR2 "$head"
    wait_until 3 log_has server "^weir\[$head\] .*: draining: .*; 1 idle, 0 in use"
    drains_one "$client"
    [ "$(grep -c 'no state page' "$BATS_TEST_TMPDIR/server.log")" = 1 ]
}

@test "where no file can be made a tree is one all the same, and one line says so" {
    needs_users
    mkdir "$run"
    serve_bare server WEIR_RUN_DIR="$run" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- \
        "${as_nobody[@]}" env LD_PRELOAD="$WEIR_LIB" "$PROGRAMS/pg_tree" fork "$port"
    head=$SERVER_PID
    is_up
    has_pages 0
    without_file
}

# in_mounts HOW SCRIPT [COMMAND...]: pg_tree, through COMMAND, in a mount namespace of its own,
# where SCRIPT has been run.
in_mounts() {
    serve_bare server RUN="$run" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- \
        unshare --mount sh -c 'eval "$1"; shift; exec "$@"' - "$2" "${@:3}" \
        env LD_PRELOAD="$WEIR_LIB" "$PROGRAMS/pg_tree" "$1" "$port"
    head=$SERVER_PID
    is_up
}

@test "on a full file system nothing is left half made, nobody dies of it, and one line says so" {
    in_mounts fork 'mkdir "$RUN"; mount -t tmpfs -o size=64k none "$RUN"
        export WEIR_RUN_DIR="$RUN"'
    without_file
    log_has server "no state page can be made in WEIR_RUN_DIR=$run \(error 28\)"
    made=$(ls "/proc/$head/root$run")
    [ -z "$made" ]
}

@test "root's pages are in /run/weir" {
    in_mounts one 'mount -t tmpfs -o mode=755 none /run'
    read_page "/proc/$head/root/run/weir" | grep -qx "pid $head"
    [ "$(stat -c '%a %u' "/proc/$head/root/run/weir")" = "755 0" ]
}

@test "who may not write /run/weir has pages in XDG_RUNTIME_DIR/weir" {
    needs_users
    in_mounts one 'mount -t tmpfs -o mode=755 none /run
        mkdir -m 755 /run/weir; mkdir -m 700 /run/me; chown 65534:65534 /run/me
        export XDG_RUNTIME_DIR=/run/me' "${as_nobody[@]}"
    read_page "/proc/$head/root/run/me/weir" | grep -qx "pid $head"
    [ "$(stat -c '%a %u' "/proc/$head/root/run/me/weir")" = "700 65534" ]
}

@test "who has neither has pages in /dev/shm/weir-UID" {
    needs_users
    in_mounts one 'mount -t tmpfs -o mode=755 none /run
        mount -t tmpfs -o mode=1777 none /dev/shm' "${as_nobody[@]}"
    read_page "/proc/$head/root/dev/shm/weir-65534" | grep -qx "pid $head"
    [ "$(stat -c '%a %u' "/proc/$head/root/dev/shm/weir-65534")" = "700 65534" ]
}

@test "a directory of that name that somebody else has made is not used" {
    needs_users
    in_mounts one 'mount -t tmpfs -o mode=755 none /run; mount -t tmpfs -o mode=1777 none /dev/shm
        mkdir -m 777 /dev/shm/weir-65534; chown 1 /dev/shm/weir-65534' "${as_nobody[@]}"
    made=$(ls "/proc/$head/root/dev/shm/weir-65534")
    [ -z "$made" ]
    log_has server '/dev/shm: its owner is another user, '
}

@test "a relative WEIR_RUN_DIR, and one that is too long, are refused" {
    local dir
    for dir in run/weir "/$(printf '%0250d' 0)"; do
        serve server WEIR_RUN_DIR="$dir" -- "$PROGRAMS/pg_tree" one "$port"
        wait_port "$port"
        log_has server '^weir.*WEIR_RUN_DIR.*: running without weir$'
        [ "$(lines_of_weir server)" = 1 ]
        kill -KILL "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
}

# ---- pages that go

@test "a program that comes and goes leaves no page" {
    serve server WEIR_RUN_DIR="$run" -- true
    wait_gone "$SERVER_PID"
    [ -d "$run" ]
    has_pages 0
}

@test "a tree that has drained and ends leaves no page" {
    local client
    start_tree fork PG_CATCH=exit
    conn_open client "$port"
    echoes "$client"
    child_of 1
    kill -USR2 "$head"
    at_eof "$client" 2
    wait_drained server
    has_pages 1
    kill "$head"
    wait_gone "$head" 3
    has_pages 0
}

@test "a tree that has not drained leaves its page, for who is left of it" {
    local client
    start_tree fork PG_CATCH=exit
    conn_open client "$port"
    echoes "$client"
    child_of 1
    kill "$head"
    wait_gone "$head" 3
    counts 1 0 1 0 0
    echoes "$client"
}

@test "a tree that drains on TERM and dies of it leaves no page" {
    start_tree one WEIR_STOP_SIGNALS=TERM
    has_pages 1
    kill "$head"
    wait_gone "$head" 3
    has_pages 0
}

# Who begins to serve cleans up: so does a program that listens, and ends.
somebody_serves() {
    LD_PRELOAD="$WEIR_LIB" WEIR_RUN_DIR="$run" "$PROGRAMS/pg_tree" brief $((port + 1)) >/dev/null 2>&1
    [ "$(pages)" -ge 1 ]
}

@test "the page of a tree that was killed is removed by who serves next" {
    start_tree one
    stale=$run/$("$PROGRAMS/pg_read" --name "$head")
    kill -KILL "$head"
    wait_gone "$head"
    [ -e "$stale" ]
    somebody_serves
    [ ! -e "$stale" ]
}

@test "a page is left alone, while somebody of its tree lives" {
    local client
    start_tree fork
    page=$run/$("$PROGRAMS/pg_read" --name "$head")
    somebody_serves
    [ -e "$page" ]
    conn_open client "$port"
    echoes "$client"
    child_of 1
    kill -KILL "$head"
    wait_gone "$head"
    somebody_serves
    [ -e "$page" ]
    kill -KILL "$child"
    wait_gone "$child"
    somebody_serves
    [ ! -e "$page" ]
}

@test "a page of another pid namespace is left alone, whoever has those pids here" {
    serve_bare other WEIR_RUN_DIR="$run" -- unshare --pid --fork --mount-proc --kill-child sh -c '
        echo 30000 >/proc/sys/kernel/ns_last_pid
        env LD_PRELOAD="$0" "$@" & wait' "$WEIR_LIB" "$PROGRAMS/pg_tree" one "$port"
    wait_port "$port"
    page=$(echo "$run"/30001.*)
    [ -e "$page" ]
    somebody_serves
    [ -e "$page" ]
}

# ---- whose pid it is

# take_pid PID COMMAND...: COMMAND gets that pid, which is free.
take_pid() {
    for _ in 1 2 3 4 5; do
        echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid || skip "ns_last_pid can't be written"
        "${@:2}" &
        [ "$!" != "$1" ] || break
        kill "$!"
    done
    [ "$!" = "$1" ]
    also_end "$!"
}

@test "a process that died is dead also when another one has its pid" {
    local client
    start_tree prefork WEIR_MODE=automatic
    child_of 2
    conn_open client "$port"
    ask "$client" pid
    child=$answer
    counts 1 1 1 0 0
    line_has "$child" "lives 1 tracked 1 in_use 1"
    kill -KILL "$child"
    wait_gone "$child"
    pause 0.1
    take_pid "$child" sleep 100
    line_has "$child" "lives 0"
    counts 0 0 1 1 0
    kill -USR2 "$head"
    wait_until 3 log_has server "draining: .*; 0 idle, 0 in use"
    wait_drained server 2
    alive "$child"
    conn_close "$client"
}

# ---- counts

@test "threads of many processes that accept, read and close at once are counted exactly" {
    local pid model tracked=0 in_use=0
    serve hammer WEIR_RUN_DIR="$run" WEIR_MODE=automatic -- "$PROGRAMS/pg_hammer" 5 4 1500 "$port"
    wait_until 30 log_has hammer '^sums '
    [ "$(log hammer | grep -c '^process ')" = 5 ]
    log hammer | grep '^process ' | while read -r _ pid model; do
        line_has "$pid" "lives 1 $model "
    done
    # shellcheck disable=SC2046  # words
    set -- $(log hammer | sed -n 's/^sums //p')
    counts "$2" "$4" "$6" "$8" 0
    [ "$6" = 30000 ]

    # Of those that are killed the live counts are void, the others count.
    # shellcheck disable=SC2013  # words
    for pid in $(log hammer | sed -nE 's/^process ([0-9]+) .*/\1/p' | head -n 2); do
        kill -KILL "$pid"
        wait_gone "$pid"
    done
    read -r tracked in_use < <(log hammer | grep '^process ' | tail -n 3 |
        awk '{ t += $4; u += $6 } END { print t, u }')
    counts "$tracked" "$in_use" "$6" $(($8 + $2 - tracked)) 0
}

# in_the_gap HOW: a child that has been handed a connection has not read from it yet. It counts
# once, and a drain waits for it.
in_the_gap() {
    local client found
    mkdir "$BATS_TEST_TMPDIR/empty"
    mkfifo "$gate"
    start_tree "$1" WEIR_STOP_SIGNALS=TERM PG_ROOT="$BATS_TEST_TMPDIR/empty" -- "$gate"
    conn_open client "$port"
    conn_send "$client" "ping\n"
    child_of 1
    wait_until 5 says accepted 1
    pause 0.2
    read_page
    found=$(read_page | awk '/^(tracked|gaps) / { sum += $2 } END { print sum }')
    [ "$found" = 1 ]
    says accepted 1
    kill "${2:--USR2}" "$head"
    wait_until 5 says phase draining
    says accepted 1
    echo >"$gate"
    read_line answer "$client" 4
    [ "$answer" = ping ]
    says gaps 0
    # On a busy machine the test may come when the drain has closed it.
    says tracked 1 || wait_until 5 says phase drained
    says accepted 1
    adds_up
    drains_one "$client"
    says tracked 0
    says accepted 1
    says forced 0
    adds_up
}

@test "a connection that a forked child has not read yet counts once, and a drain waits for it" {
    in_the_gap fork
}

@test "the same by _Fork" {
    in_the_gap _Fork
}

@test "the same by a raw clone, whose child no libc knows" {
    in_the_gap clone
}

@test "the same of a child forked in a signal's handler" {
    in_the_gap handler
}

@test "the same of a child forked beside another thread" {
    in_the_gap thread
}

@test "the same of a child that gives up its rights" {
    needs_users
    in_the_gap nobody
}

@test "the same of a child that has no /proc in its root directory" {
    in_the_gap chroot
}

@test "the same of a child that execs another program, as inetd's do" {
    in_the_gap exec
}

@test "the same of a child by vfork that execs" {
    in_the_gap vfork
}

@test "the same of a connection that is sent over a socket" {
    in_the_gap pass
}

@test "TERM to the head waits for a connection that a child has not read yet" {
    local client
    mkfifo "$gate"
    start_tree fork WEIR_STOP_SIGNALS=TERM -- "$gate"
    conn_open client "$port"
    conn_send "$client" "ping\n"
    child_of 1
    kill "$head"
    wait_until 5 says phase draining
    pause 0.3
    alive "$head"
    echo >"$gate"
    read_line answer "$client" 2
    [ "$answer" = ping ]
    at_eof "$client" 2
    wait_gone "$head" 2
}

@test "a connection that its parent closes only after its child has read from it counts once" {
    local client
    start_tree one
    conn_open client "$port"
    echoes "$client"
    counts 1 0 1 0 0
    ask "$client" "fork 3"
    counts 1 0 1 0 0
    ask "$client" end
    counts 1 0 1 0 0
    conn_close "$client"
    wait_until 2 counts 0 0 1 1 0
}

@test "copies of a connection that children inherit and never close hold no drain up" {
    local client
    start_tree one
    conn_open client "$port"
    ask "$client" "fork 3"
    echoes "$client"
    wait_until 2 counts 1 0 1 0 0
    pause 0.4
    kill -USR2 "$head"
    at_eof "$client" 2
    conn_close "$client" # the children's copies are not told of anything
    wait_until 3 log_has server "^weir\[$head\] .*: drained in .* 1 closed clean, 0 forced"
}

@test "a copy of a connection that its client and its server have left holds no drain up" {
    local client
    start_tree one
    conn_open client "$port"
    ask "$client" "fork 3"
    conn_close "$client"
    conn_open client "$port"
    echoes "$client"
    pause 0.4
    kill -USR2 "$head"
    wait_until 3 log_has server "draining: .*; 1 idle, 0 in use"
    at_eof "$client" 2
    wait_until 3 says phase drained
}

@test "pre-forked children count each for itself, and drain as one" {
    local clients=() client pids=()
    start_tree prefork
    child_of 2
    for _ in 1 2; do
        conn_open client "$port"
        clients+=("$client")
        ask "$client" pid
        pids+=("$answer")
    done
    [ "${pids[0]}" != "${pids[1]}" ]
    counts 2 0 2 0 0
    line_has "${pids[0]}" "tracked 1 .* accepted 1"
    line_has "${pids[1]}" "tracked 1 .* accepted 1"
    pause 0.4
    kill -USR2 "$head"
    all_at_eof 2 "${clients[@]}"
    wait_until 3 log_has server "^weir\[$head\] .*: drained in .* 2 closed clean, 0 forced"
    says phase drained
    alive "${pids[0]}"
}

@test "a process of another user, which can't open the page, has its own, with the tree's name" {
    needs_users
    local client first
    for_all 1777
    serve server WEIR_RUN_DIR="$run" -- sh -c '"$@"; exit $?' - \
        "${as_nobody[@]}" "$PROGRAMS/pg_tree" one "$port"
    head=$SERVER_PID
    is_up
    [ "$head" != "$server" ]
    has_pages 2
    first=$("$PROGRAMS/pg_read" --name "$head")
    run=$run/$("$PROGRAMS/pg_read" --name "$server")
    says pid "$server"
    says tree "$(cut -d . -f 1,2 <<<"$first" | tr . " ")"
    conn_open client "$port"
    echoes "$client"
    counts 1 0 1 0 0
    line_has "$server" "tracked 1"
}

@test "a daemon that forks itself away when it listens has the tree's page, and acts for the tree" {
    local client
    start_tree daemon
    wait_gone "$head"
    [ "$head" != "$server" ]
    conn_open client "$port"
    echoes "$client"
    counts 1 0 1 0 0
    line_has "$server" "lives 1 tracked 1"
    pause 0.4
    kill -USR2 "$server"
    at_eof "$client" 2
    wait_until 3 log_has server "^weir\[$server\] .*: drained in .* 1 closed clean, 0 forced"
    says head "$server"
    says phase drained
}

@test "a daemon that forks itself away before it listens has its own line, and acts for the tree" {
    local client
    start_tree early
    wait_gone "$head"
    conn_open client "$port"
    echoes "$client"
    counts 1 0 1 0 0
    line_has "$server" "lives 1 tracked 1"
    read_page | grep -q "^listener 127.0.0.1:$port pid $server state 0$"
    pause 0.4
    kill -USR2 "$server"
    at_eof "$client" 2
    wait_until 3 log_has server "^weir\[$server\] .*: drained in .* 1 closed clean, 0 forced"
    says head "$server"
    says phase drained
}

# ---- lines

# fork_many FD COUNT: children that do nothing.
fork_many() {
    ask "$1" "fork $2"
    [ "$answer" = "$2" ]
    # shellcheck disable=SC2046  # words
    also_end $(pgrep -P "$head")
}

@test "of 600 children 512 processes are listed, the others counted, and the tree drains" {
    local client
    start_tree one
    conn_open client "$port"
    fork_many "$client" 600
    wait_until 10 says unlisted 89
    says lines 512
    counts 1 0 1 0 0
    pause 0.4
    kill -USR2 "$head"
    at_eof "$client" 8
    conn_close "$client"
    wait_until 10 says phase drained
    wait_drained server
    log_has server 'drained in .* 1 closed clean, 0 forced'
    alive "$head"
}

@test "the lines of processes that have died are used again when none is free" {
    local client
    start_tree one
    conn_open client "$port"
    fork_many "$client" 510
    wait_until 10 says lines 511
    ask "$client" end
    says lines 511
    fork_many "$client" 510
    wait_until 5 says lines 512
    wait_until 5 all_live
    says unlisted 0
    counts 1 0 1 0 0
    ask "$client" end
}

all_live() {
    [ "$(read_page | grep -c '^process .* lives 1 ')" = 511 ]
}

@test "a process that ends gives its line back, and its totals stay" {
    local client
    start_tree fork
    for _ in 1 2 3; do
        conn_open client "$port"
        echoes "$client"
        conn_close "$client"
    done
    wait_until 2 says lines 1
    counts 0 0 3 3 0
}

@test "a process that becomes another program is not counted as what it was" {
    local client
    start_tree fork
    conn_open client "$port"
    echoes "$client"
    child_of 1
    counts 1 0 1 0 0
    conn_send "$client" "become sleep\n" # no answer comes
    wait_until 2 line_has "$child" "lives 0"
    counts 0 0 1 1 0
    alive "$child"
}

@test "a first process that execs itself again keeps its page and its tree" {
    local client
    serve server WEIR_RUN_DIR="$run" -- sh -c 'sh -c "exec \"\$@\"" - "$@" & exec sleep 100' - \
        "$PROGRAMS/pg_tree" one "$port"
    head=$SERVER_PID
    is_up
    has_pages 1
    says pid "$head"
    says program pg_tree # it is called after what listens
    wait_until 10 has_become "$head" sleep
    conn_open client "$port"
    echoes "$client"
    line_has "$server" "tracked 1"
    counts 1 0 1 0 0
}

has_become() {
    [ "$(cat "/proc/$1/comm")" = "$2" ]
}

@test "a tree is called after what listens also when its first process execs itself later" {
    serve server WEIR_RUN_DIR="$run" -- sh -c '"$@" & until [ -e "$0" ]; do sleep 0.05; done
        exec sleep 100' "$gate" "$PROGRAMS/pg_tree" one "$port"
    head=$SERVER_PID
    is_up
    says program pg_tree
    touch "$gate"
    wait_until 10 has_become "$head" sleep
    pause 0.3 # until the shim in it has begun
    has_pages 1
    says pid "$head"
    says program pg_tree
}

@test "the listener of a program that becomes another one is listed once" {
    start_tree one
    local client
    conn_open client "$port"
    conn_send "$client" "again\n" # no answer comes
    wait_until 3 listed
    [ "$(grep -c '^server ' "$BATS_TEST_TMPDIR/server.log")" = 2 ]
    [ "$(read_page | grep -c '^listener ')" = 1 ]
}

listed() {
    [ "$(grep -c '^server ' "$BATS_TEST_TMPDIR/server.log")" = 2 ] && listening "$port"
}

@test "70 servers of a tree, one after the other, are listed as long as they live" {
    mkdir -p "$run"
    serve server WEIR_RUN_DIR="$run" -- sh -c 'i=0
        while [ $((i += 1)) -le 70 ]; do "$1" brief "$2" >/dev/null; done
        "$1" one "$2"; exit $?' - "$PROGRAMS/pg_tree" "$port"
    head=$SERVER_PID
    is_up
    read_page | grep -q "^listener 127.0.0.1:$port pid $server state 0$"
}

# ---- nobody notices

# A client that does one thing at a time, and gives the server time to come to rest after each.
talk() {
    local client
    pause 0.1
    for _ in 1 2 3; do
        conn_open client "$port"
        pause 0.03
        ask "$client" one
        pause 0.03
        ask "$client" two
        [ "$answer" = two ]
        pause 0.03
        conn_close "$client"
        pause 0.03
    done
}

# trace NAME HOW PRELOAD: what strace saw of the tree during `talk`, in NAME.PID, a file a thread.
trace() {
    local first
    port=$((port + 1))
    rm -f "$BATS_TEST_TMPDIR/$1".[0-9]*
    serve_bare "$1" -- strace -ff -qq -ttt -s 32 -o "$BATS_TEST_TMPDIR/$1" -E LD_PRELOAD="$3" \
        -E WEIR_RUN_DIR="$run" "$PROGRAMS/pg_tree" "$2" "$port"
    wait_port "$port"
    wait_until 3 log_has "$1" '^server '
    first=$(log "$1" | sed -n 's/^server //p')
    also_end "$first"
    talk
    wait_until 3 log_has "$1" '^child '
    kill -KILL "$first"
    wait "$SERVER_PID" || true
}

# same_calls HOW [COMPARISON_OPTION...]
same_calls() {
    trace bare "$1" ''
    trace shim "$1" "$WEIR_LIB"
    log_has shim '^weir.*: ready: '
    run "$ROOT/tests/compare-trace" "${@:2}" "$BATS_TEST_TMPDIR/bare" "$BATS_TEST_TMPDIR/shim"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output =~ ^([0-9]+)\ calls\ on\ ([0-9]+) ]]
    [ "${BASH_REMATCH[1]}" -ge 30 ]
    [ "${BASH_REMATCH[2]}" -ge 4 ]
}

@test "a server that forks for each connection makes the same system calls as without the shim" {
    same_calls fork
}

@test "a child by a raw clone asks the kernel who it is, once, and makes no other call more" {
    local file
    same_calls clone --ignore getpid
    for file in "$BATS_TEST_TMPDIR"/shim.[0-9]*; do
        [ "$file" = "$BATS_TEST_TMPDIR/shim.$(log shim | sed -n 's/^server //p')" ] ||
            [ "$(grep -c getpid "$file")" = 1 ]
    done
}

@test "so does a server that forks in a signal's handler" {
    same_calls handler
}

@test "so does a server that forks beside another thread" {
    same_calls thread
}

# ---- stop signals

# after FILE PID: how many ms after `sent` that process's handler got TERM.
ms_after() {
    wait_until 3 log_has server "^got 15 $1 "
    ms=$(($(log server | sed -n "s/^got 15 $1 //p" | head -n 1) - sent))
}

@test "a stop signal to one process passes on after 100 ms, and drains nobody" {
    local client ms
    start_tree fork WEIR_STOP_SIGNALS=TERM PG_CATCH=1
    conn_open client "$port"
    echoes "$client"
    child_of 1
    sent=$(now_ms)
    kill "$child"
    ms_after "$child"
    echo "$ms ms"
    [ "$ms" -ge 90 ]
    within "$ms" 600
    echoes "$client"
    says phase serving
}

@test "every other stop signal that comes to one process passes on as well" {
    local client
    start_tree fork WEIR_STOP_SIGNALS=TERM,INT PG_CATCH=1
    conn_open client "$port"
    echoes "$client"
    child_of 1
    kill -INT "$child"
    wait_until 2 log_has server "^got 2 $child "
    kill -TERM "$child"
    wait_until 2 log_has server "^got 15 $child "
    kill -INT "$child"
    wait_until 2 got_two
    echoes "$client"
}

got_two() {
    [ "$(grep -c "^got 2 $child " "$BATS_TEST_TMPDIR/server.log")" = 2 ]
}

@test "two stop signals at once to one process both pass on" {
    local client
    start_tree fork WEIR_STOP_SIGNALS=TERM,INT PG_CATCH=1
    conn_open client "$port"
    echoes "$client"
    child_of 1
    kill -INT "$child"
    kill -TERM "$child"
    wait_until 2 log_has server "^got 2 $child "
    wait_until 2 log_has server "^got 15 $child "
}

@test "stop signals to all at once: who is in use is held until the tree has drained" {
    local client ms
    start_tree fork WEIR_STOP_SIGNALS=TERM PG_CATCH=1 WEIR_MODE=automatic
    conn_open client "$port"
    echoes "$client" # in use from here on
    child_of 1
    sent=$(now_ms)
    kill "$child"
    pause 0.05
    kill "$head"
    pause 0.7
    never '^got '
    echoes "$client"
    conn_close "$client"
    ms_after "$head"
    echo "$ms ms"
    [ "$ms" -ge 700 ]
    wait_gone "$child" 2
}

@test "a stop signal that comes to a process while its tree drains is held until that is over" {
    local client
    start_tree prefork WEIR_STOP_SIGNALS=TERM PG_CATCH=1 WEIR_MODE=automatic
    child_of 2
    conn_open client "$port"
    echoes "$client"
    ask "$client" pid
    child=$answer
    kill -USR2 "$head"
    wait_until 2 says phase draining
    kill "$child"
    pause 0.4
    never '^got '
    echoes "$client"
    conn_close "$client"
    wait_until 2 log_has server "^got 15 $child "
    says phase drained
}

@test "a process that sends itself a stop signal has it before kill returns, but for the head" {
    local client
    start_tree fork WEIR_STOP_SIGNALS=TERM PG_CATCH=1
    conn_open client "$port"
    ask "$client" raise
    [ "$answer" = 1 ]
    says phase serving
    conn_close "$client"
}

@test "the head that sends itself a stop signal drains first" {
    local client
    start_tree one WEIR_STOP_SIGNALS=TERM PG_CATCH=1
    conn_open client "$port"
    ask "$client" raise
    [ "$answer" = 0 ]
    at_eof "$client" 2
    wait_until 2 log_has server "^got 15 $head "
}

@test "a child that serves nobody has its stop signals at once" {
    local ms
    serve server WEIR_RUN_DIR="$run" WEIR_STOP_SIGNALS=TERM PG_CATCH=1 -- \
        "$PROGRAMS/pg_tree" dormant "$port"
    head=$SERVER_PID
    child_of 1
    sent=$(now_ms)
    kill "$child"
    ms_after "$child"
    echo "$ms ms"
    within "$ms" 79
    alive "$head"
}

@test "USR2 to a child of a program that does not serve does not drain its parent's tree" {
    serve server WEIR_RUN_DIR="$run" -- "$PROGRAMS/pg_tree" dormant "$port"
    head=$SERVER_PID
    child_of 1
    kill -USR2 "$child"
    pause 0.3
    alive "$child"
    says phase serving
}

# ---- the environment

@test "WEIR_TREE names the page to the programs that a tree starts, the first among them" {
    local client
    start_tree exec
    conn_open client "$port"
    ask "$client" "env WEIR_TREE"
    [ "$answer" = "$run/$("$PROGRAMS/pg_read" --name "$head")" ]
    has_pages 1
}

@test "where the page has no file WEIR_TREE is its name alone" {
    local client
    mkdir "$run"
    for_all 777
    start_tree exec
    conn_open client "$port"
    ask "$client" "env WEIR_TREE"
    [ "$answer" = "$("$PROGRAMS/pg_read" --name "$head")" ]
}

@test "a WEIR_TREE that names no page is no reason not to serve" {
    local client value
    for value in '' x /nowhere/1.2 "/$(printf '%0300d' 1).2" 99999999999999999999.1 "$run"; do
        serve server WEIR_RUN_DIR="$BATS_TEST_TMPDIR/other" WEIR_TREE="$value" \
            WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms -- "$PROGRAMS/pg_tree" one "$port"
        wait_port "$port"
        conn_open client "$port"
        echoes "$client"
        pause 0.3
        kill -USR2 "$SERVER_PID"
        at_eof "$client" 2
        wait_drained server 2
        kill -KILL "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
}

@test "with WEIR_CHILDREN=leave the programs that a tree starts find nothing of the shim" {
    local client name
    start_tree exec WEIR_CHILDREN=leave
    conn_open client "$port"
    for name in WEIR_TREE WEIR_CHILDREN WEIR_RUN_DIR LD_PRELOAD; do
        ask "$client" "env $name"
        [ "$answer" = unset ] || [ -z "$answer" ]
    done
    child_of 1
    [ "$(grep -c libweir "/proc/$child/maps")" = 0 ]
}

# ---- containers

# container NAME PORT: pg_tree as process 1 of a pid namespace; CONTAINER is its pid in ours.
container() {
    serve_bare "$1" -- unshare --pid --fork --kill-child --mount-proc \
        env "LD_PRELOAD=$WEIR_LIB" WEIR_RUN_DIR="$run" WEIR_FIRST_BYTE=200ms WEIR_SETTLE=50ms \
        "$PROGRAMS/pg_tree" one "$2"
}

inside() {
    CONTAINER=$(pgrep -P "$1") && grep -q libweir "/proc/$CONTAINER/maps"
}

# page_of PID: its path, by the namespace that its name tells.
page_of() {
    page=$(echo "$run"/1.*."$(stat -L -c %i "/proc/$1/ns/pid")")
    [ -e "$page" ]
}

# Those that begin in the same tick of the kernel's clock differ in nothing else.
@test "containers that share a run directory have a page each, which the pid namespace tells apart" {
    local client one other
    container one "$port"
    one=$SERVER_PID
    container other $((port + 1))
    other=$SERVER_PID
    wait_port "$port"
    wait_port $((port + 1))
    wait_until 3 inside "$one"
    one=$CONTAINER
    wait_until 3 inside "$other"
    other=$CONTAINER
    has_pages 2
    page_of "$one"
    read_page "$page" | grep -q "^listener 127.0.0.1:$port pid 1 state 0$"
    page_of "$other"
    read_page "$page" | grep -q "^listener 127.0.0.1:$((port + 1)) pid 1 state 0$"
    conn_open client "$port"
    echoes "$client"
    kill -USR2 "$one"
    at_eof "$client" 2
    conn_close "$client"
    wait_drained one 2
    conn_open client $((port + 1))
    echoes "$client"
    kill -USR2 "$other"
    at_eof "$client" 2
    wait_drained other 2
}

# ---- the control signal

@test "a program that uses the control signal itself keeps it, and dies of no drain" {
    local client
    start_tree prefork WEIR_CONTROL_SIGNAL=RTMIN+5 PG_KEEPS="$(kill -l RTMIN+5)"
    child_of 2
    conn_open client "$port"
    ask "$client" pid
    child=$answer
    log_has server "^weir\[$head\] .*: .* belongs to the program: .* another WEIR_CONTROL_SIGNAL"
    line_has "$child" 'flags 2$'
    pause 0.4
    kill -USR2 "$head"
    pause 0.5
    alive "$child"
    never '^got '
    echoes "$client"
    conn_close "$client"
    wait_until 3 says phase drained
}
