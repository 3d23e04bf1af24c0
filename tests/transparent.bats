#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Nobody can tell that the shim is there: from the first accept until a drain each thread makes the
# same system calls and allocations as without it, and there are the same threads and descriptors.
# mutant: shim/interpose/descriptor.c: s/!handed_on && conn_may_linger\(\) &&/!handed_on \&\&/
# seconds: 86
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
unset WEIR_MODE # the default, protocol
load configs
load lines

setup() {
    port=$((7000 + 20 * BATS_TEST_NUMBER))
    export WEIR_SIGNAL=RTMIN+3 # Redis 7.2 has a use for SIGUSR2
}

# --- the servers, as command lines in `command`, for $port

of_redis() {
    command=(redis-server --bind 127.0.0.1 --port "$port" --save '' --dir "$BATS_TEST_TMPDIR"
        --hz 1 --dynamic-hz no)
}

of_memcached() {
    command=(memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(somebody)" -t 2)
}

of_nginx() {
    local temporary=$BATS_TEST_TMPDIR
    head -c 30000 /dev/zero >"$temporary/page"
    chmod o+rx "$temporary"
    cat >"$temporary/nginx.conf" <<END
daemon off;
master_process off;
$(nginx_user)
pid $temporary/nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
    access_log $temporary/access.log;
    sendfile on;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port;
        location = / { return 200 "It works\n"; }
        location / { root $temporary; }
    }
}
END
    command=(nginx -e stderr -c "$temporary/nginx.conf")
}

of_python() {
    mkdir -p "$BATS_TEST_TMPDIR/www"
    echo "It works" >"$BATS_TEST_TMPDIR/www/index.html"
    head -c 30000 /dev/zero >"$BATS_TEST_TMPDIR/www/page"
    command=(/usr/bin/python3 -m http.server "$port" --bind 127.0.0.1 --protocol HTTP/1.1
        --directory "$BATS_TEST_TMPDIR/www")
}

# It compiles nothing in the background and collects no garbage: two runs do the same.
of_node() {
    command=(node --jitless --single-threaded-gc --min-semi-space-size=64 -e '
        require("http").createServer((request, response) =>
            response.end(request.url == "/page" ? Buffer.alloc(30000) : "It works\n")
        ).listen({ port: Number(process.argv[1]), host: "127.0.0.1" })' "$port")
}

of_oldhttpd() {
    command=("$PROGRAMS/oldhttpd" "$port")
}

of_quiet_server() {
    command=("$PROGRAMS/quiet_server" "$port")
}

# talk SERVER: a client that does one thing at a time and gives the server time to come to rest
# after each, so that what it does is the same each time.
talk() {
    /usr/bin/python3 - "$port" "$1" <<'END'
import socket, struct, sys, time
port, server = int(sys.argv[1]), sys.argv[2]

def http(path):
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path

quick, large, ends = {
    "redis": (b"PING\r\n", b"SET key " + b"x" * 9000 + b"\r\n", b"\r\n"),
    "memcached": (b"version\r\n", b"set key 0 0 9000\r\n" + b"x" * 9000 + b"\r\n", b"\r\n"),
    "quiet_server": (b"hello\n", b"x" * 900 + b"\n", b"\n"),
}.get(server, (http(b"/"), http(b"/page"), None))

def rest():
    time.sleep(0.015)

def connect():
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    rest()
    return client

def answer(client):
    got = b""
    while True:
        if ends and got.endswith(ends):
            break
        head, split, body = got.partition(b"\r\n\r\n")
        if not ends and split:
            lengths = [line for line in head.lower().split(b"\r\n")
                       if line.startswith(b"content-length:")]
            if len(body) >= int(lengths[0].split(b":")[1]) if lengths else \
                    body.endswith(b"0\r\n\r\n"):
                break
        more = client.recv(65536)
        if not more:
            sys.exit(f"the server closed after {got!r}")
        got += more
    rest()

def ask(client, what=quick):
    client.sendall(what)
    answer(client)

first = connect()
for _ in range(50 if server == "quiet_server" else 5):
    ask(first)
ask(first, large)
second, third = connect(), connect()
ask(third)
second.sendall(quick[:3])
rest()
second.sendall(quick[3:])
answer(second)
ask(first)
second.close()  # its number is free
rest()
fourth = connect()
ask(fourth)
fourth.shutdown(socket.SHUT_WR)
rest()
fourth.close()
rest()
if server != "python":  # it would look for its source, to print it
    third.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
third.close()  # a reset
rest()
for _ in range(6):
    client = connect()
    ask(client)
    client.close()
    rest()
silent = connect()
ask(first)
first.close()
rest()
silent.close()
rest()
END
}

# trace NAME SERVER PRELOAD: what strace saw of the server during `talk`, in NAME.PID, a file for
# each thread.
trace() {
    local name=$1 server=$2 prefix=$BATS_TEST_TMPDIR/$1 file first=
    port=$((port + 1))
    "of_$server"
    serve_bare "$name" -- strace -ff -qq -ttt -s 32 -o "$prefix" -E LD_PRELOAD="$3" "${command[@]}"
    wait_port "$port"
    for file in "$prefix".[0-9]*; do
        [ -n "$first" ] && [ "$first" -lt "${file##*.}" ] || first=${file##*.}
    done
    also_end "$first"
    pause 0.4
    talk "$server"
    pause 0.1
    kill -KILL "$first"
    wait "$SERVER_PID" || true
}

# same_calls SERVER [COMPARISON_OPTION...]: what happens at random in the program itself is given
# another chance; what the shim adds comes each time.
same_calls() {
    local server=$1 try status
    shift
    for try in 1 2 3; do
        rm -f "$BATS_TEST_TMPDIR"/bare.[0-9]* "$BATS_TEST_TMPDIR"/shim.[0-9]*
        trace bare "$server" ''
        trace shim "$server" "$WEIR_LIB"
        log_has shim "^weir\[[0-9]+\] .*: ready: "
        status=0
        "$ROOT/tests/compare-trace" "$@" "$BATS_TEST_TMPDIR/bare" "$BATS_TEST_TMPDIR/shim" \
            >"$BATS_TEST_TMPDIR/compared" || status=$?
        cat "$BATS_TEST_TMPDIR/compared"
        [ "$status" != 0 ] || break
        echo "--- not the same in try $try"
    done
    [ "$status" = 0 ]
    [[ $(tail -n 1 "$BATS_TEST_TMPDIR/compared") =~ ^([0-9]+)\ calls ]]
    [ "${BASH_REMATCH[1]}" -ge 100 ]
}

@test "redis makes the same system calls with the shim as without it" {
    same_calls redis
}

@test "nginx makes the same system calls with the shim as without it" {
    same_calls nginx
}

@test "a server that uses each wrapped call makes the same system calls as without the shim" {
    same_calls quiet_server
}

# With several threads, who wakes whom is the scheduler's: not so what else they do.
@test "memcached makes the same system calls with the shim as without it, on each thread" {
    same_calls memcached --ignore futex,clock_nanosleep,sched_yield
}

@test "Python's http.server makes the same system calls with the shim as without, on each thread" {
    same_calls python --ignore futex
}

@test "Node makes the same system calls with the shim as without it, on each thread" {
    same_calls node --ignore futex,sched_yield,madvise,mprotect,mmap,munmap,brk
}

@test "a server with a thread for each connection makes the same system calls as without the shim" {
    same_calls oldhttpd --ignore futex
}

# with_more CALL WHAT: a library, in $MORE, that does WHAT in each read (or close), then goes on.
with_more() {
    local result parameters arguments
    MORE=$BATS_TEST_TMPDIR/more_$1.so
    case $1 in
    read) result=ssize_t parameters='int fd, void *buf, size_t n' arguments='fd, buf, n' ;;
    close) result=int parameters='int fd' arguments='fd' ;;
    esac
    gcc -shared -fPIC -O2 -fno-builtin -x c -o "$MORE" - <<END
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
$result $1($parameters)
{
    __typeof__(&$1) next = dlsym(RTLD_NEXT, "$1");
    $2;
    return next($arguments);
}
END
}

# The comparison is no better than what it can see.
@test "one system call too many in read, or in close, would be seen" {
    trace bare redis ''
    for call in read close; do
        rm -f "$BATS_TEST_TMPDIR"/shim.[0-9]*
        with_more "$call" 'syscall(SYS_getpid)'
        trace shim redis "$MORE:$WEIR_LIB"
        run "$ROOT/tests/compare-trace" "$BATS_TEST_TMPDIR/bare" "$BATS_TEST_TMPDIR/shim"
        echo "$output"
        [ "$status" = 1 ]
        [[ $output == *"+getpid() = PID"* ]]
    done
}

# --- allocations

# A library that counts malloc and its kin, in a file that can be read while the server runs.
count_allocations() {
    cat >"$BATS_TEST_TMPDIR/count.c" <<'END'
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
static uint64_t before, *count = &before;
static void one(void) { __atomic_fetch_add(count, 1, __ATOMIC_RELAXED); }
void *malloc(size_t n) { one(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { one(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { one(); return __libc_realloc(p, n); }
void free(void *p) { if (p) one(); __libc_free(p); }
void *memalign(size_t a, size_t n) { one(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { one(); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{
    one();
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}
__attribute__((constructor)) static void load(void)
{
    int fd = open(getenv("COUNT"), O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, 8))
        abort();
    count = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}
END
    gcc -shared -fPIC -O2 -fno-builtin -o "$BATS_TEST_TMPDIR/count.so" "$BATS_TEST_TMPDIR/count.c"
}

# allocations SERVER PRELOAD: how many there were during `talk`, in ALLOCATIONS. A first client has
# been served before, for what a server makes once.
allocations() {
    local before after
    port=$((port + 1))
    "of_$1"
    rm -f "$BATS_TEST_TMPDIR/count"
    serve_bare counted LD_PRELOAD="$2" COUNT="$BATS_TEST_TMPDIR/count" \
        -- "${command[@]}"
    wait_port "$port"
    talk "$1"
    pause 0.2
    before=$(od -An -t u8 "$BATS_TEST_TMPDIR/count")
    [ "$before" -gt 0 ]
    talk "$1"
    pause 0.2
    after=$(od -An -t u8 "$BATS_TEST_TMPDIR/count")
    end_started
    ALLOCATIONS=$((after - before))
}

same_allocations() {
    local bare try
    count_allocations
    for try in 1 2 3; do
        allocations "$1" "$BATS_TEST_TMPDIR/count.so"
        bare=$ALLOCATIONS
        allocations "$1" "$WEIR_LIB:$BATS_TEST_TMPDIR/count.so"
        echo "$1: $bare calls of malloc and its kin without the shim, $ALLOCATIONS with it"
        [ "$bare" != "$ALLOCATIONS" ] || return 0
    done
    return 1
}

@test "a server that uses each wrapped call allocates as often with the shim as without it" {
    same_allocations quiet_server
}

@test "nginx allocates as often with the shim as without it" {
    same_allocations nginx
}

@test "memcached allocates as often with the shim as without it" {
    same_allocations memcached
}

@test "a server with a thread for each connection allocates as often with the shim as without it" {
    same_allocations oldhttpd
}

@test "a drain allocates nothing" {
    count_allocations
    for preload in '' "$WEIR_LIB:"; do
        port=$((port + 1))
        of_quiet_server
        rm -f "$BATS_TEST_TMPDIR/count"
        serve_bare server LD_PRELOAD="$preload$BATS_TEST_TMPDIR/count.so" \
            COUNT="$BATS_TEST_TMPDIR/count" -- "${command[@]}"
        wait_port "$port"
        conn_open fd "$port"
        replies "$fd" hello 6
        replies "$fd" hello 6
        pause 0.2
        before=$(od -An -t u8 "$BATS_TEST_TMPDIR/count")
        if [ -n "$preload" ]; then
            kill -s "$WEIR_SIGNAL" "$SERVER_PID"
            at_eof "$fd" 1
            wait_drained server
            with=$(($(od -An -t u8 "$BATS_TEST_TMPDIR/count") - before))
        else
            conn_close "$fd"
            pause 0.2
            without=$(($(od -An -t u8 "$BATS_TEST_TMPDIR/count") - before))
            end_started
        fi
    done
    echo "$without when the client leaves, $with in the drain"
    [ "$without" = "$with" ]
}

@test "one allocation too many in close would be seen" {
    count_allocations
    with_more close 'free(malloc(10))'
    allocations nginx "$BATS_TEST_TMPDIR/count.so"
    bare=$ALLOCATIONS
    allocations nginx "$MORE:$WEIR_LIB:$BATS_TEST_TMPDIR/count.so"
    echo "$bare, $ALLOCATIONS"
    [ "$bare" -lt "$ALLOCATIONS" ]
}

# --- threads

has_tasks() {
    local tasks=("/proc/$1/task"/*)
    [ "${#tasks[@]}" = "$2" ]
}

@test "a single-threaded server has one task before a drain, two during it, and one after it" {
    of_quiet_server
    serve server -- "${command[@]}"
    wait_port "$port"
    has_tasks "$SERVER_PID" 1
    for _ in 1 2 3; do
        conn_open fd "$port"
        conn_send "$fd" 'hello\n'
        read_line answer "$fd" 2
        has_tasks "$SERVER_PID" 1
    done
    kill -s "$WEIR_SIGNAL" "$SERVER_PID" # the last client has not been quiet for long: the drain waits
    wait_until 1 has_tasks "$SERVER_PID" 2
    [ "$(cat "/proc/$SERVER_PID/task"/*/comm | sort -u | xargs)" = "quiet_server weir" ]
    wait_drained server
    wait_until 1 has_tasks "$SERVER_PID" 1
}

@test "a close-idle leaves no task behind, and works again and again" {
    of_quiet_server
    serve server WEIR_ACTION=close-idle -- "${command[@]}"
    wait_port "$port"
    for _ in 1 2 3; do
        conn_open fd "$port"
        conn_send "$fd" 'hello\n'
        read_line answer "$fd" 2
        pause 1.1 # WEIR_FIRST_BYTE after the first answer
        kill -s "$WEIR_SIGNAL" "$SERVER_PID"
        at_eof "$fd" 1
        wait_until 2 has_tasks "$SERVER_PID" 1
    done
}

@test "unshare -U works under the shim" {
    unshare -U true
    LD_PRELOAD=$WEIR_LIB unshare -U true
}

in_another_namespace() {
    [ "$(readlink "/proc/$1/ns/user")" != "$(readlink /proc/self/ns/user)" ]
}

@test "nsenter into a user namespace works under the shim" {
    serve_bare other -- unshare -U sleep 60
    wait_until 2 in_another_namespace "$SERVER_PID"
    nsenter -U --preserve-credentials -t "$SERVER_PID" true
    LD_PRELOAD=$WEIR_LIB nsenter -U --preserve-credentials -t "$SERVER_PID" true
}

# unshare(2): CLONE_THREAD asks for nothing, and is refused where there is another task.
@test "a server that asks the kernel is alone in its process, before and after a close-idle" {
    cat >"$BATS_TEST_TMPDIR/server.py" <<'END'
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = listener.accept()
    while client.recv(100):
        result = libc.unshare(0x10000)  # CLONE_THREAD
        client.sendall(b"%d %s\n" % (result, os.strerror(ctypes.get_errno()).encode()))
    client.close()
END
    serve server WEIR_ACTION=close-idle -- /usr/bin/python3 "$BATS_TEST_TMPDIR/server.py" "$port"
    wait_port "$port"
    for _ in 1 2; do
        conn_open fd "$port"
        replies "$fd" now '0 Success'
        pause 1.1
        kill -s "$WEIR_SIGNAL" "$SERVER_PID"
        at_eof "$fd" 1
        wait_until 2 has_tasks "$SERVER_PID" 1
    done
}

@test "2,000 forks inside a signal handler end as well under the shim as without it" {
    [ "$(timeout "$(patient 20)" "$PROGRAMS/quiet_forks" 2000)" = 2000 ]
    serve forks -- timeout "$(patient 20)" "$PROGRAMS/quiet_forks" 2000
    wait "$SERVER_PID"
    [ "$(log forks | grep -v '^weir')" = 2000 ]
    log_has forks '^weir\[[0-9]+\] quiet_forks: ready'
}

# --- descriptors

# descriptors PID: each number with what it is; sockets and pipes without their inodes.
descriptors() {
    local fd
    for fd in "/proc/$1/fd"/*; do
        echo "${fd##*/} $(readlink "$fd" | sed 's/:\[[0-9]*\]$//; s/.* (deleted)$/a file/')"
    done | sort -n
}

same_descriptors() {
    local server=$1 how which
    for which in bare shim; do
        port=$((port + 1))
        "of_$server"
        how=serve
        [ "$which" = shim ] || how=serve_bare
        "$how" server WEIR_SIGNAL=RTMIN+3 -- "${command[@]}"
        wait_port "$port"
        talk "$server"
        conn_open one "$port"
        conn_open two "$port"
        pause 0.4
        descriptors "$SERVER_PID" | sed "s/$which//" >"$BATS_TEST_TMPDIR/$which"
        if [ "$which" = shim ]; then
            pause 0.7
            kill -s RTMIN+3 "$SERVER_PID"
            wait_drained server
        fi
        conn_close "$one"
        conn_close "$two"
        pause 0.4
        descriptors "$SERVER_PID" | sed "s/$which//" >"$BATS_TEST_TMPDIR/$which.after"
        [ "$which" = shim ] || end_started
    done
    cat "$BATS_TEST_TMPDIR/shim"
    diff "$BATS_TEST_TMPDIR/bare" "$BATS_TEST_TMPDIR/shim"
    diff "$BATS_TEST_TMPDIR/bare.after" "$BATS_TEST_TMPDIR/shim.after"
}

@test "redis has the same descriptors with the shim as without it, and after a drain" {
    same_descriptors redis
}

@test "memcached has the same descriptors with the shim as without it, and after a drain" {
    same_descriptors memcached
}

@test "nginx has the same descriptors with the shim as without it, and after a drain" {
    same_descriptors nginx
}

@test "Python's http.server has the same descriptors with the shim as without, and after a drain" {
    same_descriptors python
}

@test "Node has the same descriptors with the shim as without it, and after a drain" {
    same_descriptors node
}

@test "a server that uses each wrapped call has the same descriptors, and after a drain" {
    same_descriptors quiet_server
}

# A descriptor more in between would show in the clients' numbers.
closes_everything() {
    local how=$1 verb fd clients
    for verb in serve_bare serve; do
        port=$((port + 1))
        "$verb" server WEIR_LOG="$BATS_TEST_TMPDIR/weir.log" -- \
            "$PROGRAMS/quiet_numbers" "$how" 3 "$port"
        wait_port "$port"
        clients=()
        for number in 4 5 6; do
            conn_open fd "$port"
            replies "$fd" hi "$number"
            clients+=("$fd")
        done
        conn_close "${clients[1]}"
        pause 0.1
        conn_open fd "$port"
        replies "$fd" hi 5
        conn_send "$fd" 'again\n'
        all_at_eof 1 "$fd" "${clients[0]}" "${clients[2]}"
        wait_port "$port"
        conn_open fd "$port"
        replies "$fd" hi 4
        conn_open other "$port"
        replies "$other" hi 5
        [ "$verb" = serve ] || end_started
    done
    replies "$fd" hi 4
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
    all_at_eof 2 "$fd" "$other"
    wait_until 3 grep -q 'drained in .*: 2 closed clean, 0 forced' "$BATS_TEST_TMPDIR/weir.log"
    alive "$SERVER_PID"
}

@test "a server that closes everything with close_range, before and after it listens, is drained" {
    closes_everything close_range
}

@test "a server that closes everything with closefrom, before and after it listens, is drained" {
    closes_everything closefrom
}

@test "a server that closes everything in a loop, before and after it listens, is drained" {
    ulimit -n 2000 # the loop's end
    closes_everything loop
}

has_only_a_socket() {
    [ "$(descriptors "$SERVER_PID" | xargs)" = "0 socket" ]
}

# speaks_to_nobody COMMAND...: the second client has descriptor 2 of the server, and gets not a byte
# that was not for it, neither before a drain, nor in it, nor after it.
speaks_to_nobody() {
    local one two verb
    for verb in serve_bare serve; do
        port=$((port + 1))
        if [ "$verb" = serve ]; then
            serve server "${variables[@]}" -- "$@" "$port"
        else
            serve_bare server -- "$@" "$port"
        fi
        wait_port "$port"
        conn_open one "$port"
        replies "$one" hi 1
        conn_open two "$port"
        replies "$two" hi 2
        [ "$verb" = serve ] || end_started
    done
    for _ in 1 2 3; do
        replies "$one" hi 1
        replies "$two" hi 2
    done
    conn_open three "$port"
    replies "$three" hi 3
    replies "$three" hi 3
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
    all_at_eof 2 "$one" "$two" "$three"
    alive "$SERVER_PID"
    wait_until 2 has_only_a_socket # what the drain looked with is closed soon behind the last client
    [ ! -s "$BATS_TEST_TMPDIR/server.log" ]
}

@test "a client with descriptor 2 of a server that closed 0, 1 and 2 never gets a line of the log" {
    variables=(WEIR_LOG_LEVEL=debug)
    speaks_to_nobody "$PROGRAMS/quiet_numbers" close_range 0
}

@test "a client with descriptor 2 gets no line of the log with WEIR_LOG=stderr either" {
    variables=(WEIR_LOG_LEVEL=debug WEIR_LOG=stderr)
    speaks_to_nobody "$PROGRAMS/quiet_numbers" loop 0
}

@test "a client with descriptor 2 of a server started without 0, 1 and 2 gets no line either" {
    variables=(WEIR_LOG_LEVEL=debug)
    # shellcheck disable=SC2016  # expanded by the inner shell
    speaks_to_nobody sh -c 'exec "$0" closefrom 0 "$1" <&- >&- 2>&-' "$PROGRAMS/quiet_numbers"
}

@test "a program that was given its connection as 0, 1 and 2 writes no line of the log to it" {
    cat >"$BATS_TEST_TMPDIR/super.py" <<'END'
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
for number in 0, 1, 2:
    os.dup2(connection.fileno(), number)
os.environ["LD_PRELOAD"] = sys.argv[2]
os.execvp("cat", ["cat"])
END
    serve_bare super WEIR_LOG_LEVEL=debug -- \
        /usr/bin/python3 "$BATS_TEST_TMPDIR/super.py" "$port" "$WEIR_LIB"
    wait_port "$port"
    conn_open fd "$port"
    replies "$fd" hi hi
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
    pause 0.3
    if read -r -t 0 -u "$fd"; then at_eof "$fd" 1; fi
}

@test "a server that has used up its descriptors is drained" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server -- sh -c 'ulimit -n 10; exec "$0" closefrom 3 "$1"' \
        "$PROGRAMS/quiet_numbers" "$port" # 0 to 3, and six clients
    wait_port "$port"
    clients=()
    for number in 4 5 6 7 8 9; do
        conn_open fd "$port"
        replies "$fd" hi "$number"
        replies "$fd" hi "$number"
        clients+=("$fd")
    done
    pause 0.2
    kill -s "$WEIR_SIGNAL" "$SERVER_PID"
    all_at_eof 2 "${clients[@]}"
    wait_drained server 3
    log_has server 'drained in .*: 6 closed clean, 0 forced'
    not_served "$port" 'hi\n'
}
