#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Where the shim may do little: in seccomp sandboxes, in a chroot, as nobody, where there is no room
# for a table or a thread. And who else is in the process: helpers, other preloads, other libraries.
# mutant: shim/drain/trigger.c: s/(atomic_store\(&sys_sandboxed), true/\1, false/
# seconds: 34
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load lines
load processes

setup() {
    port=$((8000 + 20 * BATS_TEST_NUMBER))
}

# two_idle TEXT ANSWER: `first` and `second`, each answered twice and then quiet for WEIR_SETTLE.
two_idle() {
    local fd
    for fd in first second; do
        conn_open "$fd" "$port"
        replies "${!fd}" "$@"
        replies "${!fd}" "$@"
    done
    pause 0.2
}

drains_two() {
    two_idle "$@"
    kill -USR2 "$SERVER_PID"
    all_at_eof 1 "$first" "$second"
    wait_drained server
    log_has server 'drained in [0-9.]+m?s: 2 closed clean, 0 forced; the program runs on'
    alive "$SERVER_PID"
    not listening "$port"
}

# --- seccomp

# status_field PID NAME: of /proc/PID/status.
status_field() {
    awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status"
}

in_sandbox() {
    [ "$(status_field "$SERVER_PID" Seccomp)" = "$1" ]
}

@test "a server in a seccomp filter serves as it does without the shim" {
    serve server -- "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    for _ in 1 2 3; do
        conn_open fd "$port"
        replies "$fd" hi hi
        replies "$fd" ho ho
        in_sandbox 2
        conn_close "$fd"
    done
    alive "$SERVER_PID"
}

@test "a server in strict seccomp serves as it does without the shim, and ends as it does" {
    serve server -- "$PROGRAMS/sandbox_seccomp" strict "$port"
    wait_port "$port"
    conn_open fd "$port"
    replies "$fd" hi hi
    in_sandbox 1
    replies "$fd" ho ho
    conn_close "$fd"
    wait_gone "$SERVER_PID" 2
    wait "$SERVER_PID"
}

survives_a_trigger() {
    serve server -- "$PROGRAMS/sandbox_seccomp" "$1" "$port"
    wait_port "$port"
    conn_open fd "$port"
    replies "$fd" hi hi
    in_sandbox "$2"
    for _ in 1 2 3; do
        kill -USR2 "$SERVER_PID"
        pause 0.2
        alive "$SERVER_PID"
        replies "$fd" ho ho
    done
    log server
    log_has server '^weir\[[0-9]+\] sandbox_seccomp: .*seccomp'
}

@test "a server in a seccomp filter survives a trigger, goes on serving, and the log says why" {
    survives_a_trigger filter 2
}

@test "a server in strict seccomp survives a trigger, goes on serving, and the log says why" {
    survives_a_trigger strict 1
}

@test "a server that enters a seccomp filter through syscall() survives a trigger" {
    survives_a_trigger syscall 2
}

@test "a server whose second seccomp filter is refused survives a trigger in the first" {
    survives_a_trigger again 2
}

# As in a container: a filter that was there before, and that allows what servers do.
@test "a server that was started inside a seccomp filter is drained" {
    cat >"$BATS_TEST_TMPDIR/filtered.py" <<'END'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HL", 1, ctypes.addressof(allow)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
os.environ["LD_PRELOAD"] = sys.argv[1]
os.execvp(sys.argv[2], sys.argv[2:])
END
    serve_bare server -- /usr/bin/python3 "$BATS_TEST_TMPDIR/filtered.py" "$WEIR_LIB" \
        "$PROGRAMS/quiet_numbers" closefrom 3 "$port"
    wait_port "$port"
    in_sandbox 2
    conn_open fd "$port"
    replies "$fd" hi 4
    replies "$fd" ho 4
    pause 0.2
    kill -USR2 "$SERVER_PID"
    at_eof "$fd" 1
    wait_drained server
    alive "$SERVER_PID"
}

ends_on_term_in() {
    serve server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=1s -- "$PROGRAMS/sandbox_seccomp" "$1" "$port"
    wait_port "$port"
    conn_open fd "$port"
    replies "$fd" hi hi
    in_sandbox "$2"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 3
    status=0
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ] # by SIGTERM, and not by the sandbox
}

@test "a stop signal ends a server in a seccomp filter, as it does without the shim" {
    ends_on_term_in filter 2
}

@test "a stop signal ends a server in strict seccomp, as it does without the shim" {
    ends_on_term_in strict 1
}

# start_vsftpd YES|NO: with its seccomp sandbox, or without it, as Debian has it: what its filters
# allow is no longer all that glibc uses, and they kill it when it looks at a file.
start_vsftpd() {
    needs_users
    sandbox=$1 vsftpd_lines "$BATS_TEST_TMPDIR/files" >"$BATS_TEST_TMPDIR/vsftpd.conf"
    mkdir "$BATS_TEST_TMPDIR/files"
    echo "It works" >"$BATS_TEST_TMPDIR/files/page"
    chmod -R a+rX "$BATS_TEST_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "${BATS_TEST_TMPDIR%/*/*}"
    chmod a-w "$BATS_TEST_TMPDIR/files"
    serve server -- vsftpd "$BATS_TEST_TMPDIR/vsftpd.conf"
    wait_port "$port"
}

# ftp FD COMMAND CODE: the answer's code.
ftp() {
    local answer
    [ -z "$2" ] || conn_send "$1" "$2\r\n"
    read_line answer "$1" 5
    [[ $answer == "$3"* ]] || { echo "\"$answer\" where $3 was expected" >&2; return 1; }
}

ftp_login() {
    conn_open "$1" "$port"
    ftp "${!1}" '' 220
    ftp "${!1}" 'USER anonymous' 331
    ftp "${!1}" 'PASS nobody@localhost' 230
}

ftp_visit() {
    local visit
    ftp_login visit
    ftp "$visit" SYST 215
    ftp "$visit" PWD 257
    ftp "$visit" NOOP 200
    ftp "$visit" QUIT 221
    at_eof "$visit" 2
}

@test "a child in a seccomp filter that outlives the timeout is named as that, and so is its listener" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server -- sh -c '"$0" "$@"; exit' "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    conn_open fd "$port"
    conn_send "$fd" 'a\n'
    read_line line "$fd" 5
    run "$ROOT/build/weir" drain --wait --timeout 500ms "$SERVER_PID"
    also_end "$(pgrep -P "$SERVER_PID")"
    echo "$output"
    [ "$status" = 3 ]
    has "$output" 'still accepts on 127.0.0.1:'"$port"', in a seccomp sandbox'
    log_has server 'has not begun its drain \(it is in a seccomp sandbox\): its 1 connections count'
}

@test "a tree whose child accepts in a seccomp filter is not wholly drained, in the log, too" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server -- sh -c '"$0" "$@"; exit' "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    conn_open fd "$port"
    replies "$fd" hi hi
    conn_close "$fd"
    local child
    child=$(pgrep -P "$SERVER_PID")
    run "$ROOT/build/weir" drain --wait --timeout 5s "$SERVER_PID"
    also_end "$child"
    echo "$output"
    [ "$status" = 1 ]
    has "$output" "pid $child still accepts on 127.0.0.1:$port, in a seccomp sandbox"
    log_has server "not drained: pid $child is in a seccomp sandbox, and still accepts"
    log_has server 'not wholly drained in'
}

@test "vsftpd in its own sandbox serves under the shim" {
    start_vsftpd YES
    ftp_login fd
    sandboxed=0
    for pid in $(descendants "$SERVER_PID"); do
        [ "$(status_field "$pid" Seccomp)" != 2 ] || sandboxed=$((sandboxed + 1))
    done
    [ "$sandboxed" -ge 1 ]
    ftp "$fd" PWD 257
    ftp_visit
    ftp "$fd" QUIT 221
    ftp_visit
}

@test "vsftpd serves files under the shim" {
    start_vsftpd NO
    [ "$(curl -sS --max-time 5 "ftp://127.0.0.1:$port/page")" = "It works" ]
    [ "$(curl -sS --max-time 5 --list-only "ftp://127.0.0.1:$port/")" = page ]
}

@test "a trigger to vsftpd's sandboxed children does not cut a connection" {
    start_vsftpd YES
    ftp_login fd
    signalled=0
    for pid in $(descendants "$SERVER_PID"); do
        kill -USR2 "$pid"
        signalled=$((signalled + 1))
    done
    [ "$signalled" -ge 1 ]
    pause 0.05 # before it has been quiet for long enough to be idle
    ftp "$fd" NOOP 200
    ftp "$fd" QUIT 221
    ftp_visit
}

@test "a trigger to vsftpd itself: it accepts no more, and waits for its sandboxed child" {
    start_vsftpd YES
    ftp_login fd
    kill -USR2 "$SERVER_PID"
    wait_until 5 log_has server 'draining: '
    ftp "$fd" NOOP 200
    not_served "$port" ''
    not log_has server 'drained in '
    ftp "$fd" QUIT 221
    wait_drained server
    alive "$SERVER_PID"
}

@test "a drain that begins while vsftpd's sandboxed child returns from its first write waits for it" {
    start_vsftpd YES
    strace -f -qq -o /dev/null -p "$SERVER_PID" -e trace=write -e inject=write:delay_exit=200000 &
    STARTED+=("$!")
    wait_until 5 grep -q '^TracerPid:.*[1-9]' "/proc/$SERVER_PID/status"
    ftp_login fd
    kill -USR2 "$SERVER_PID"
    wait_until 5 log_has server 'draining: '
    ftp "$fd" NOOP 200
    ftp "$fd" QUIT 221
    wait_drained server
}

# --- privileges and limits

# A line server that drops what its arguments say, once it listens; after "first", before that.
start_lines() {
    cat >"$BATS_TEST_TMPDIR/lines.py" <<'END'
import os, resource, select, socket, sys
port, *drops = sys.argv[1:]

def drop(what):
    name, value = what.split("=")
    if name == "chroot":
        os.chroot(value)
        os.chdir("/")
    elif name == "uid":
        os.setgroups([])
        os.setgid(int(value))
        os.setuid(int(value))
    elif name == "nproc":
        resource.setrlimit(resource.RLIMIT_NPROC, (int(value),) * 2)
    elif name == "memory":  # in pages, beyond what it has
        with open("/proc/self/statm") as file:
            most = (int(file.read().split()[0]) + int(value)) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

def listen():
    global listener
    listener = socket.create_server(("127.0.0.1", int(port)))

first = drops[:1] == ["first"]
if not first:
    listen()
for what in drops[first:]:
    drop(what)
if first:
    listen()
clients = []
while True:
    for ready in select.select([listener] + clients, [], [])[0]:
        if ready is listener:
            clients.append(listener.accept()[0])
            continue
        line = ready.recv(100)
        if line:
            ready.sendall(line)
        else:
            clients.remove(ready)
            ready.close()
END
    [[ " $*" != *" uid="* ]] || needs_users
    serve server "${variables[@]}" -- "${launcher[@]}" \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/lines.py" "$port" "$@"
    wait_port "$port"
    pause 0.2 # it drops what it drops
}

@test "a server that chroots is drained" {
    mkdir "$BATS_TEST_TMPDIR/empty"
    start_lines "chroot=$BATS_TEST_TMPDIR/empty"
    drains_two hi hi
}

@test "a server that drops to nobody is drained" {
    start_lines uid=65534
    drains_two hi hi
    [ "$(status_field "$SERVER_PID" Uid)" = 65534 ]
}

@test "a server that chroots and drops to nobody is drained, and says that it lost its log file" {
    mkdir "$BATS_TEST_TMPDIR/empty"
    variables=(WEIR_LOG="$BATS_TEST_TMPDIR/weir.log")
    start_lines "chroot=$BATS_TEST_TMPDIR/empty" uid=65534
    grep -q ': ready: ' "$BATS_TEST_TMPDIR/weir.log"
    drains_two hi hi
    log_has server "python3: WEIR_LOG: \".*weir\.log\" can't be opened .*: as WEIR_LOG=auto"
}

# start_drops effective|all: a line server's worker runs as another user than its master, which was root.
start_drops() {
    cat >"$BATS_TEST_TMPDIR/drops.py" <<'END'
import os, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    os.setresgid(1001, 1001, 1001)
    os.setresuid(1001, 1001, 1001)
    print("worker up", flush=True)
    while True:
        with listener.accept()[0] as client:
            while line := client.recv(100):
                if line.startswith(b"slow"):
                    print("works", flush=True)
                    time.sleep(1)
                client.sendall(line)
os.seteuid(1000) if sys.argv[2] == "effective" else os.setresuid(1000, 1000, 1000)
print("master up", flush=True)
while True:
    signal.pause()
END
    needs_users
    serve server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=4s -- \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/drops.py" "$port" "$1"
    wait_until 5 log_has server 'worker up'
    wait_until 5 log_has server 'master up'
}

# worker_is_known: it has come to its accept, which makes it one of the tree.
worker_is_known() {
    "$ROOT/build/weir" status "$SERVER_PID" --json | grep -Eq '"processes": \[\{.*\}, \{'
}

@test "a master with another effective user than root tells its worker of a third user" {
    local client
    start_drops effective
    conn_open client "$port"
    replies "$client" one one
    conn_send "$client" 'slow\n'
    wait_until 5 log_has server '^works$'
    kill -TERM "$SERVER_PID"
    read_line answer "$client" 5
    [ "$answer" = slow ]
    wait_gone "$SERVER_PID"
    log_has server 'drained in .* 1 closed clean, 0 forced; SIGTERM goes to the program'
}

@test "a master that is no longer root says at once which worker it can't tell" {
    start_drops all
    wait_until 5 worker_is_known
    kill -TERM "$SERVER_PID"
    wait_until 2 log_has server 'this process may not signal it, for it runs as another user'
    not log_has server 'drained in '
    wait_gone "$SERVER_PID" 10
}

@test "a server with no memory left (RLIMIT_AS) after it listens is drained" {
    start_lines memory=8
    drains_two hi hi
}

# The table for 20,000 descriptors takes 260 KB, and there are 160.
@test "a server with room for a small table only (RLIMIT_AS) serves and is drained" {
    launcher=(prlimit --nofile=1024:20000)
    start_lines first memory=40
    not log_has server 'no room'
    drains_two hi hi
}

@test "a server with no room for the smallest table (RLIMIT_AS) serves, and the log says so" {
    start_lines first memory=0
    log_has server 'python3: no room for the table of descriptors: running without weir'
    for _ in 1 2; do
        conn_open fd "$port"
        replies "$fd" hi hi
        replies "$fd" ho ho
    done
}

# A user that nobody else is: RLIMIT_NPROC counts the processes of one.
no_thread() {
    start_lines uid=64731 nproc=1
    [ "$(status_field "$SERVER_PID" Uid)" = 64731 ]
}

@test "where no thread can be made (RLIMIT_NPROC) a drain is one all the same" {
    local late
    no_thread
    two_idle hi hi
    conn_open late "$port"
    kill -STOP "$SERVER_PID"
    printf 'asked\n' >&"$late"
    kill -USR2 "$SERVER_PID"
    kill -CONT "$SERVER_PID"
    all_at_eof 1 "$first" "$second"
    [ "$(timeout 5 cat <&"$late")" = asked ]
    wait_drained server
    log_has server ': 3 closed clean, 0 forced; the program runs on$'
    alive "$SERVER_PID"
    [ "$(ls "/proc/$SERVER_PID/task")" = "$SERVER_PID" ]
}

@test "where neither a thread nor a timer can be made a drain closes what is idle, and says so" {
    variables=(WEIR_CONTROL_SIGNAL=none)
    no_thread
    two_idle hi hi
    conn_open young "$port"
    replies "$young" hi hi
    kill -USR2 "$SERVER_PID"
    all_at_eof 1 "$first" "$second"
    alive "$SERVER_PID"
    replies "$young" ho ho
    conn_open fd "$port"
    replies "$fd" hi hi
    log_has server '^weir\[[0-9]+\] python3: neither a thread nor a timer can be made'
    pause 1.2
    kill -USR2 "$SERVER_PID"
    all_at_eof 1 "$young" "$fd"
    alive "$SERVER_PID"
}

# ends_by_term [VAR=value...]
ends_by_term() {
    variables=(WEIR_STOP_SIGNALS=TERM "$@")
    no_thread
    two_idle hi hi
    kill -TERM "$SERVER_PID"
    all_at_eof 1 "$first" "$second"
    wait_gone "$SERVER_PID" 3
    status=0
    wait "$SERVER_PID" || status=$?
    [ "$status" = 143 ]
}

@test "where no thread can be made (RLIMIT_NPROC) a stop signal still ends the program" {
    ends_by_term
}

@test "where neither a thread nor a timer can be made a stop signal still ends the program" {
    ends_by_term WEIR_CONTROL_SIGNAL=none
}

# --- helpers that a server starts

# start_with_helper VERB [VAR=value...] -- [PREFIX...]: an HTTP server that answers with what
# a shell pipeline, and a program of its own, see of themselves.
start_with_helper() {
    local verb=$1
    shift
    cat >"$BATS_TEST_TMPDIR/cgi.py" <<'END'
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = subprocess.run(["sh", "-c", sys.argv[2]], capture_output=True).stdout
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *message):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
END
    "$verb" server WEIR_LOG="$BATS_TEST_TMPDIR/weir.log" WEIR_LOG_LEVEL=debug "$@" \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/cgi.py" "$port" "$helper"
    wait_port "$port"
}

helper='grep -E "^(Sig[^Q]|Shd|Threads|Seccomp)" /proc/self/status | cat
    grep -E "^(SigCgt|SigIgn|Threads)" /proc/$$/status; ls -l /proc/self/fd | grep -c /dev/
    exec cat /proc/self/status | grep ^Sig[^Q]'

same_helper() {
    for verb in serve_bare serve; do
        port=$((port + 1))
        : >"$BATS_TEST_TMPDIR/weir.log"
        start_with_helper "$verb" "$@"
        curl -sS --max-time 5 "http://127.0.0.1:$port/" >"$BATS_TEST_TMPDIR/$verb.seen"
        grep -q SigCgt "$BATS_TEST_TMPDIR/$verb.seen"
        # shellcheck disable=SC2031
        pid=$SERVER_PID
        [ "$verb" = serve ] || end_started
    done
    cat "$BATS_TEST_TMPDIR/serve.seen"
    diff "$BATS_TEST_TMPDIR/serve_bare.seen" "$BATS_TEST_TMPDIR/serve.seen"
    cat "$BATS_TEST_TMPDIR/weir.log"
    grep -q "^weir\[$pid\] " "$BATS_TEST_TMPDIR/weir.log"
    not grep -v "^weir\[$pid\] " "$BATS_TEST_TMPDIR/weir.log"
}

@test "a helper that a server starts is not touched: no line in the log, no signal, no task" {
    same_helper --
}

@test "a helper of a server that was started with the trigger ignored has it ignored as well" {
    same_helper -- env --ignore-signal=USR2
}

@test "a helper of a server that was started with the trigger blocked has it blocked as well" {
    same_helper -- env --block-signal=USR2
}

@test "a helper of a server with stop signals is not touched either" {
    same_helper WEIR_STOP_SIGNALS=TERM,INT --
}

@test "WEIR_CHILDREN=leave: what a server starts runs without the shim, and the server is drained" {
    helper='env; cat /proc/self/maps'
    start_with_helper serve WEIR_CHILDREN=leave --
    grep -q libweir "/proc/$SERVER_PID/maps"
    run curl -sS --max-time 5 "http://127.0.0.1:$port/"
    [[ $output == *PATH=* ]]
    not grep -qa "^WEIR_" <<<"$output" # bats says the test's name there, too
    [[ $output != *libweir* ]]
    [[ $output != *LD_PRELOAD* ]]
    kill -USR2 "$SERVER_PID"
    wait_until 3 grep -q ': drained in ' "$BATS_TEST_TMPDIR/weir.log"
}

@test "WEIR_CHILDREN=leave: another preload stays in the children's environment" {
    # shellcheck disable=SC2016
    helper='echo "[$LD_PRELOAD]"'
    start_with_helper serve_bare WEIR_CHILDREN=leave LD_PRELOAD="$JEMALLOC:$WEIR_LIB" --
    run curl -sS --max-time 5 "http://127.0.0.1:$port/"
    [ "$output" = "[$JEMALLOC]" ]
}

# --- other preloads

JEMALLOC=$(library libjemalloc.so.2)
# faketime(1) keeps it outside of ld.so's directories.
FAKETIME=$(dirname "$(library libc.so.6)")
FAKETIME=/usr${FAKETIME#/usr}/faketime/libfaketime.so.1

# drains_with PRELOAD COMMAND...: a server of lines that also tells its year.
drains_with() {
    local preload=$1
    cat >"$BATS_TEST_TMPDIR/year.py" <<'END'
import select, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
poller = select.epoll()
poller.register(listener, select.EPOLLIN)
clients = {}
while True:
    for number, _ in poller.poll(5):
        if number == listener.fileno():
            client, _ = listener.accept()
            clients[client.fileno()] = client
            poller.register(client, select.EPOLLIN)
        elif clients[number].recv(100):
            clients[number].sendall(b"%d\n" % time.localtime().tm_year)
        else:
            clients.pop(number).close()
END
    shift
    serve_bare server LD_PRELOAD="$preload" "$@" -- \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/year.py" "$port"
    wait_port "$port"
    for lib in ${preload//:/ }; do
        grep -q "$(basename "$lib")" "/proc/$SERVER_PID/maps"
    done
}

@test "a server under libfaketime in front of the shim is drained, and has its time" {
    drains_with "$FAKETIME:$WEIR_LIB" FAKETIME='@2001-06-01 00:00:00'
    drains_two hi 2001
}

@test "a server under libfaketime behind the shim is drained, and has its time" {
    drains_with "$WEIR_LIB:$FAKETIME" FAKETIME='@2001-06-01 00:00:00'
    drains_two hi 2001
}

@test "a server under libfaketime whose time runs a thousand times faster is drained in real time" {
    drains_with "$WEIR_LIB:$FAKETIME" FAKETIME='+0 x1000'
    conn_open fd "$port"
    conn_send "$fd" 'hi\n'
    read_line year "$fd" 2
    before=$(now_ms)
    kill -USR2 "$SERVER_PID" # answered once: idle after WEIR_FIRST_BYTE
    at_eof "$fd" 2
    took=$(($(now_ms) - before))
    [ "$took" -ge 700 ]
    wait_drained server
}

@test "a server under jemalloc in front of the shim is drained" {
    drains_with "$JEMALLOC:$WEIR_LIB"
    drains_two hi "$(date +%Y)"
}

@test "a server under jemalloc behind the shim is drained" {
    drains_with "$WEIR_LIB:$JEMALLOC"
    drains_two hi "$(date +%Y)"
}

# (libfaketime and jemalloc don't go together: each calls the other before it is ready.)
@test "memcached, which has threads, is drained under jemalloc and the shim" {
    serve_bare server LD_PRELOAD="$JEMALLOC:$WEIR_LIB" -- \
        memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(somebody)"
    wait_port "$port"
    drains_two 'get x\r' END
}

# --- other libraries in the process

# A library whose constructor, which runs before ours, listens, accepts, reads and closes.
@test "wrappers that are called before our constructor work, and what they made is drained" {
    cat >"$BATS_TEST_TMPDIR/early.c" <<'END'
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int early_listener = -1, early_works;
__attribute__((constructor)) static void load(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT"))),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char got[3] = "";
    int ends[2], client = socket(AF_INET, SOCK_STREAM, 0);
    early_listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(early_listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    bind(early_listener, (struct sockaddr *)&address, sizeof address);
    listen(early_listener, 64);
    connect(client, (struct sockaddr *)&address, sizeof address);
    int server = accept(early_listener, NULL, NULL);
    write(client, "a", 1);
    read(server, got, 1);
    close(server);
    close(client);
    if (pipe(ends) == 0) {
        write(ends[1], "b", 1);
        read(ends[0], got + 1, 1);
        close(ends[0]);
        close(ends[1]);
    }
    early_works = strcmp(got, "ab") == 0;
}
END
    cat >"$BATS_TEST_TMPDIR/main.c" <<'END'
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
extern int early_listener, early_works;
int main(void)
{
    struct pollfd fds[10] = {{early_listener, POLLIN, 0}};
    int count = 1;
    while (early_works && poll(fds, count, -1)) {
        char line[100];
        if (fds[0].revents && count < 10)
            fds[count++] = (struct pollfd){accept(early_listener, 0, 0), POLLIN, 0};
        for (int i = 1; i < count; i++) {
            if (!fds[i].revents)
                continue;
            int got = read(fds[i].fd, line, sizeof line);
            if (got > 0) {
                write(fds[i].fd, line, got);
            } else {
                close(fds[i].fd);
                fds[i--] = fds[--count];
            }
        }
    }
    return 1;
}
END
    cd "$BATS_TEST_TMPDIR"
    gcc -w -shared -fPIC -o libearly.so early.c
    gcc -w -o main main.c -L. -learly -Wl,-rpath,"$BATS_TEST_TMPDIR"
    serve server PORT="$port" -- ./main
    wait_port "$port"
    pause 0.2
    alive "$SERVER_PID"
    drains_two hi hi
}

# plugin: a library that reads, writes and closes; opened with RTLD_DEEPBIND its calls go to libc.
plugin() {
    gcc -w -shared -fPIC -x c -o "$BATS_TEST_TMPDIR/plugin.so" - <<'END'
#include <stddef.h>
#include <sys/types.h>
extern ssize_t read(int, void *, size_t), write(int, const void *, size_t);
extern int close(int);
ssize_t plugin_read(int fd, void *buf, size_t n) { return read(fd, buf, n); }
ssize_t plugin_write(int fd, const void *buf, size_t n) { return write(fd, buf, n); }
int plugin_close(int fd) { return close(fd); }
END
}

@test "a server that reads and closes in a library opened with RTLD_DEEPBIND is drained" {
    plugin
    serve server -- "$PROGRAMS/quiet_dlsym" "$BATS_TEST_TMPDIR/plugin.so" "$port"
    wait_port "$port"
    for _ in 1 2; do # the numbers 4 and 5 come back
        conn_open first "$port"
        replies "$first" hi 4
        conn_open second "$port"
        replies "$second" hi 5
        conn_close "$first"
        conn_close "$second"
        pause 0.1
    done
    conn_open first "$port"
    replies "$first" hi 4
    conn_open second "$port"
    replies "$second" hi 5
    pause 1.2 # what went past the wrappers is idle after WEIR_FIRST_BYTE
    kill -USR2 "$SERVER_PID"
    all_at_eof 2 "$first" "$second"
    wait_drained server
    alive "$SERVER_PID"
}

# In reply mode the numbers are those of an idle connection: only its fingerprint tells.
@test "a number that was closed past us and is a file's now is nobody's in a drain" {
    plugin
    serve server -- "$PROGRAMS/quiet_dlsym" "$BATS_TEST_TMPDIR/plugin.so" "$port"
    wait_port "$port"
    conn_open first "$port"
    replies "$first" hi 4
    conn_send "$first" 'close\n' # and /dev/zero has number 4
    at_eof "$first" 1
    conn_open second "$port"
    replies "$second" hi 5
    pause 1.2
    kill -USR2 "$SERVER_PID"
    at_eof "$second" 2
    wait_drained server 2
    log_has server 'drained in .* 0 forced'
    [ "$(readlink "/proc/$SERVER_PID/fd/4")" = /dev/zero ]
}

looked_up() {
    serve server -- "$PROGRAMS/quiet_dlsym" "$1" "$port"
    wait_port "$port"
    conn_open first "$port"
    replies "$first" hi 4
    replies "$first" hi 4
    conn_open second "$port"
    replies "$second" hi 5
    replies "$second" hi 5
    pause 0.2
    kill -USR2 "$SERVER_PID"
    all_at_eof 1 "$first" "$second"
    wait_drained server
    log_has server 'drained in [0-9.]+m?s: 2 closed clean, 0 forced'
    alive "$SERVER_PID"
}

@test "a server that finds its calls with dlsym(RTLD_NEXT) is drained" {
    looked_up next
}

@test "a server that finds its calls with dlsym(RTLD_DEFAULT) is drained" {
    looked_up default
}
