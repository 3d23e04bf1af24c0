#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The program's own signals: what it installs, blocks, waits for and reads back is as it would be
# without us, no call of its ends with an EINTR that was ours, and whatever way a thread leaves a call,
# nothing stays claimed.
# mutant: shim/drain/signals_mask.c: s/mask->after \|= wanted/mask->after = wanted/
# seconds: 48
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
    port=$((12000 + 500 * BATS_TEST_NUMBER))
}

# ---- what is read back ----

# view_is_the_same SECTION [trigger]: sig_view says the same with and without the shim.
view_is_the_same() {
    serve_bare bare -- "$PROGRAMS/sig_view" "$@"
    wait_gone "$SERVER_PID" 10
    serve weir WEIR_LOG=none WEIR_STOP_SIGNALS=TERM,INT -- "$PROGRAMS/sig_view" "$@"
    wait_gone "$SERVER_PID" 10
    [ "$(log bare | wc -l)" -gt 40 ]
    # shellcheck disable=SC2034  # helpers.bash reads it
    LOGGED=()
    diff -U3 "$BATS_TEST_TMPDIR/bare.log" "$BATS_TEST_TMPDIR/weir.log"
}

@test "sigaction and signal read back what the program installed" {
    view_is_the_same actions
}

@test "sigaction and signal read back what it installed for the trigger itself" {
    view_is_the_same actions trigger
}

@test "sigprocmask and pthread_sigmask read back what the program blocked, in each thread" {
    view_is_the_same masks
}

@test "a handler finds the mask that its action asked for, and leaves the one that was before" {
    view_is_the_same handlers
}

@test "a handler of the program's for the trigger finds the mask that its action asked for" {
    view_is_the_same handlers trigger
}

@test "sigwait, sigtimedwait, signalfd, ppoll, pselect and sigsuspend see what they would" {
    view_is_the_same waits
}

@test "sigwait, sigtimedwait, signalfd, ppoll, pselect and sigsuspend get the trigger itself" {
    view_is_the_same waits trigger
}

@test "fork, exec and posix_spawn pass on the masks and what is ignored" {
    view_is_the_same children
}

@test "siginterrupt, sighold, sigignore, sigset, sigblock, sigsetmask and sigpause do what they did" {
    view_is_the_same older
}

# ---- EINTR ----

# waits MODE: each line of sig_wait says "in time".
waits() {
    local wrong
    serve waits WEIR_LOG=none WEIR_ACTION=close-idle -- "$PROGRAMS/sig_wait" "$1"
    wait_gone "$SERVER_PID" 60
    [ "$(log waits | wc -l)" -gt 20 ]
    # shellcheck disable=SC2034
    LOGGED=()
    wrong=$(log waits | grep -v ', in time$') || return 0
    echo "$wrong"
    return 1
}

@test "no call that waits ends because of the trigger, and each waits as long as it was to" {
    waits trigger
}

@test "a signal of the program's own, after the trigger, ends each call that waits" {
    waits own
}

@test "a signal of the program's own, together with the trigger, ends each call that waits" {
    waits both
}

# ---- stop signals, and signals that the program has a use for ----

# stops HOW PATTERN: SIGTERM drains, then the program is told of it as it would have been.
stops() {
    local client
    serve server WEIR_STOP_SIGNALS=TERM WEIR_FIRST_BYTE=100ms -- "$PROGRAMS/sig_stop" "$1" "$port"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'ping\n'
    read_line answer "$client" 2
    pause 0.3
    # By a process of another pid than this shell's: the sender is told apart from us.
    /bin/kill -TERM "$SERVER_PID"
    at_eof "$client" 2
    wait_gone "$SERVER_PID" 3
    log_has server "drained in .* 1 closed clean, 0 forced; SIGTERM goes to the program"
    log_has server "$2"
}

@test "the program's handler is called when the drain has ended, with the first signal's siginfo" {
    stops handler '^15 code 0 from [1-9][0-9]*$'
    log_has server "draining: SIGTERM from pid $(log server | sed -n 's/^15 .* from //p') uid 0"
}

@test "a handler with SA_RESETHAND is called when the drain has ended" {
    stops reset '^15 code 0 from [1-9][0-9]*$'
}

@test "a handler is called on the one thread that does not block its signal" {
    stops thread '^15 code 0 from [1-9][0-9]*$'
}

@test "a sigwait gets the stop signal when the drain has ended" {
    stops sigwait '^15 code 0 from 0$'
}

@test "a sigwaitinfo gets the stop signal, with its siginfo, when the drain has ended" {
    stops sigwaitinfo '^15 code 0 from [1-9][0-9]*$'
}

@test "a signalfd gets the stop signal, with its siginfo, when the drain has ended" {
    stops signalfd '^15 code 0 from [1-9][0-9]*$'
}

@test "a sigsuspend that lets the stop signal in ends when the drain has ended" {
    stops sigsuspend '^15 code 0 from [1-9][0-9]*$'
}

@test "a ppoll that lets the stop signal in ends when the drain has ended" {
    stops ppoll '^15 code 0 from [1-9][0-9]*$'
}

@test "the default action ends the program when the drain has ended" {
    stops default 'drained in'
}

@test "a stop signal that the program ignores does nothing" {
    local client
    serve server WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/sig_stop" ignore "$port"
    wait_port "$port"
    conn_open client "$port"
    kill -TERM "$SERVER_PID"
    pause 0.5
    is_open "$client"
    served "$port" 'ping\n'
    log_has server ready
    not_drained
}

not_drained() {
    if log_has server 'draining'; then return 1; fi
}

# becomes PROGRAM ARG...: the server does while a drain waits for its client, after SIGTERM.
becomes() {
    local client
    serve server WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=8s -- /usr/bin/python3 -c '
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
connection.recv(100)
print("asked", flush=True)
connection.recv(100)
os.execv(sys.argv[2], sys.argv[2:])' "$port" "$@"
    wait_port "$port"
    conn_open client "$port"
    conn_send "$client" 'half a'
    wait_until 5 log_has server '^asked$'
    kill -TERM "$SERVER_PID"
    wait_until 5 log_has server 'draining: SIGTERM'
    conn_send "$client" ' line'
    wait_gone "$SERVER_PID" 10
}

@test "a stop signal that waits for a drain ends the program that the server becomes meanwhile" {
    becomes /usr/bin/python3 -c 'import signal; signal.pause()'
    wait "$SERVER_PID" || [ $? = 143 ]
    log_has server 'drained in .*SIGTERM goes to the program'
}

@test "nor is it lost while a wrapper without the shim stands in between, and trees are listed" {
    local go=$BATS_TEST_TMPDIR/go
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
    mkfifo "$go"
    (wait_until 10 log_has server '^between$' && "$ROOT/build/weir" list >"$go.list"; echo >"$go") 3>&- &
    # shellcheck disable=SC2016  # expanded by the inner shell
    becomes /bin/busybox sh -c 'echo between; read -r line <"$0"; exec "$@"' "$go" \
        /usr/bin/python3 -c 'import signal; signal.pause()'
    wait "$SERVER_PID" || [ $? = 143 ]
    [ -e "$go.list" ]
    log_has server 'drained in .*SIGTERM goes to the program'
}

@test "a stop signal ends a server that is not the first process of its tree" {
    local client
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve server WEIR_STOP_SIGNALS=TERM -- \
        sh -c '"$@" & echo "server $!"; wait $!; echo "ended $?"' - \
        "$PROGRAMS/sig_stop" default "$port"
    wait_port "$port"
    child=$(log server | sed -n 's/^server //p')
    also_end "$child"
    kill -TERM "$child"
    wait_until 3 log_has server '^ended 143'
}

@test "a program that blocks every signal in every thread is drained" {
    local client
    serve server WEIR_FIRST_BYTE=100ms -- "$PROGRAMS/sig_stop" all "$port"
    wait_port "$port"
    conn_open client "$port"
    pause 0.3
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 2
    wait_drained server 2
}

@test "a program that was started with the trigger blocked is drained" {
    local client
    serve_bare server WEIR_FIRST_BYTE=100ms -- /usr/bin/python3 -c '
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.environ["LD_PRELOAD"] = sys.argv[1]
os.execv(sys.argv[2], sys.argv[2:])' "$WEIR_LIB" "$PROGRAMS/sig_stop" handler "$port"
    wait_port "$port"
    conn_open client "$port"
    pause 0.3
    kill -USR2 "$SERVER_PID"
    at_eof "$client" 2
    wait_drained server 2
}

@test "a server that is not the tree's first and was started with the trigger blocked is drained" {
    local client
    # rt_sigprocmask by its number: libc's is answered by the shim.
    serve server WEIR_FIRST_BYTE=100ms -- /usr/bin/python3 -c '
import ctypes, os, platform, signal, sys
usr2 = ctypes.c_uint64(1 << signal.SIGUSR2 - 1)
number = 14 if platform.machine() == "x86_64" else 135
if os.fork() == 0:
    ctypes.CDLL(None).syscall(number, 0, ctypes.byref(usr2), None, 8)
    os.execv(sys.argv[1], sys.argv[1:])
os.wait()' "$PROGRAMS/sig_stop" handler "$port"
    wait_port "$port"
    child=$(<"/proc/$SERVER_PID/task/$SERVER_PID/children")
    child=${child% }
    also_end "$child"
    conn_open client "$port"
    sleep 0.3
    kill -USR2 "$child"
    at_eof "$client" 2
}

@test "a program that has a handler for the trigger keeps it, and the log says what to do" {
    serve server -- "$PROGRAMS/sig_stop" own "$port"
    wait_port "$port"
    log_has server 'SIGUSR2 belongs to the program: .*WEIR_SIGNAL='
    log_has server 'ready: mode [a-z]*, timeout ' # and not "drain on USR2"
    kill -USR2 "$SERVER_PID"
    wait_gone "$SERVER_PID" 2
    log_has server "^12 code 0 from "
    if log_has server 'draining'; then return 1; fi
}

@test "a program that awaits the trigger since before it listens keeps it, and the log says so once" {
    # Not the first process of its tree: there the trigger is taken when it listens.
    serve server -- sh -c '/usr/bin/python3 -c "$0" "$1"; :' '
import os, signal, socket, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
def wait():
    got = signal.sigtimedwait([signal.SIGUSR2], 5)
    print("got", got and got.si_signo, flush=True)
threading.Thread(target=wait).start()
time.sleep(0.3)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.kill(os.getpid(), signal.SIGUSR2)' "$port"
    wait_gone "$SERVER_PID" 10
    log_has server '^got 12$'
    [ "$(log server | grep -c 'SIGUSR2 belongs to the program')" = 1 ]
}

@test "two triggers at once are one drain" {
    local client
    serve server WEIR_FIRST_BYTE=100ms -- "$PROGRAMS/sig_stop" handler "$port"
    wait_port "$port"
    conn_open client "$port"
    sleep 0.3
    # shellcheck disable=SC2016  # expanded by the inner shell
    bash -c 'kill -USR2 "$0"; kill -USR2 "$0"; kill -USR2 "$0"' "$SERVER_PID"
    at_eof "$client" 2
    wait_drained server 2
    sleep 0.3
    [ "$(log server | grep -c 'draining: ')" = 1 ]
    [ "$(log server | grep -c 'drained in')" = 1 ]
    alive "$SERVER_PID"
}

@test "the worker takes none of the program's signals, however many come" {
    serve server -- /usr/bin/python3 -c '
import os, signal, socket, sys, threading, time
count = 0
def on_signal(*_):
    global count
    count += 1
signal.signal(signal.SIGRTMIN, on_signal)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
client = socket.create_connection(listener.getsockname())
connection = listener.accept()[0]
client.send(b"x")
connection.recv(1)
os.kill(os.getpid(), signal.SIGUSR2)
time.sleep(0.2)
tasks = [t for t in os.listdir("/proc/self/task") if int(t) != os.getpid()]
masks = [line for t in tasks for line in open("/proc/self/task/" + t + "/status")
         if line.startswith("SigBlk")]
for i in range(500):
    os.kill(os.getpid(), signal.SIGRTMIN)
time.sleep(0.1)
print("threads", len(tasks), "handled", count > 0, *masks, flush=True)' "$port"
    wait_gone "$SERVER_PID" 10
    log_has server '^threads 1 handled True SigBlk:	fffffffffffbfeff$' # all but KILL and STOP
}

# ---- start-up ----

@test "a trigger in the middle of start-up, after exec, is neither lost nor fatal, in 300 tries" {
    serve_bare startup WEIR_LOG=none -- "$PROGRAMS/sig_startup" exec 300 "$port" "$WEIR_LIB"
    wait_gone "$SERVER_PID" 55
    log_has startup '^tries 300 dead 0 served 0$'
}

@test "a trigger right after fork is neither lost nor fatal, in 300 tries" {
    serve startup WEIR_LOG=none -- "$PROGRAMS/sig_startup" fork 300 "$port"
    wait_gone "$SERVER_PID" 55
    log_has startup '^tries 300 dead 0 served 0$'
}

# ---- ways out of a call ----

# leaves HOW ROUNDS CLOSED
leaves() {
    serve leaves WEIR_LOG=none WEIR_MODE=automatic WEIR_TIMEOUT=5s -- \
        "$PROGRAMS/sig_cancel" "$1" "$2" "$port"
    wait_gone "$SERVER_PID" 45
    log leaves
    log_has leaves "^rounds $2 closed $3 tracked 0 drained 0$"
}

@test "threads cancelled in accept leave nothing claimed" {
    leaves accept 500 64
}

@test "threads cancelled in read leave nothing claimed" {
    leaves read 500 64
}

@test "threads cancelled in ppoll leave nothing claimed" {
    leaves ppoll 500 64
}

@test "a handler that jumps out of accept leaves nothing claimed" {
    leaves jump_accept 500 64
}

@test "a handler that jumps out of read leaves nothing claimed" {
    leaves jump_read 500 64
}

@test "a handler that jumps out of ppoll leaves nothing claimed" {
    leaves jump_ppoll 500 64
}

@test "a thread that closes and exits while the drainer looks leaves nothing claimed" {
    leaves exit 5000 0
}
