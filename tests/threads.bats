#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Signals and threads: no signal is lost, each comes to whom it would without us, and our thread has
# what the program's threads have.
# mutant: shim/drain/trigger.c: s/return !pid \|\| pid ==/return pid !=/
# needs: sbcl
# seconds: 46
# shellcheck disable=SC2030,SC2031,SC2154

load helpers
load lines

setup() {
    port=$((10000 + 100 * BATS_TEST_NUMBER))
}

# same_as_bare NAME [VAR=value...] -- COMMAND...: it says and returns the same under the shim.
same_as_bare() {
    local name=$1 variables=()
    shift
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    serve_bare "$name.bare" -- "$@"
    wait_gone "$SERVER_PID" 20
    wait "$SERVER_PID" && echo 0 >>"$BATS_TEST_TMPDIR/$name.bare.log" ||
        echo $? >>"$BATS_TEST_TMPDIR/$name.bare.log"
    serve "$name" WEIR_LOG=none "${variables[@]}" -- "$@"
    wait_gone "$SERVER_PID" 20
    wait "$SERVER_PID" && echo 0 >>"$BATS_TEST_TMPDIR/$name.log" ||
        echo $? >>"$BATS_TEST_TMPDIR/$name.log"
    [ "$(log "$name.bare" | wc -l)" -gt 1 ]
    diff -U3 "$BATS_TEST_TMPDIR/$name.bare.log" "$BATS_TEST_TMPDIR/$name.log"
}

# ---- vfork ----

@test "a stop signal that comes while the program is in vfork reaches it" {
    same_as_bare parent WEIR_STOP_SIGNALS=TERM WEIR_TIMEOUT=1s -- "$PROGRAMS/vfork_signals" parent "$port"
}

@test "a stop signal to a vfork child ends that child" {
    same_as_bare child WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" child "$port"
}

@test "a stop signal to a vfork child calls the program's handler in it" {
    same_as_bare handled WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" handled "$port"
}

@test "a stop signal to a vfork child that blocks it waits for the program that it execs" {
    same_as_bare blocked WEIR_STOP_SIGNALS=TERM -- "$PROGRAMS/vfork_signals" blocked "$port"
}

@test "a shell that starts one command after the other ends by each of 40 stop signals" {
    local i
    for i in {1..40}; do
        serve shell WEIR_LOG=none WEIR_STOP_SIGNALS=TERM -- \
            dash -c 'echo begun; while :; do /bin/true; done'
        wait_until 10 log_has shell begun
        sleep "0.0$((i % 10))$((i / 10))"
        kill -TERM "$SERVER_PID"
        wait_gone "$SERVER_PID" 10
    done
}

# ---- masks that change between two waits ----

# ends_by_handler HOW
ends_by_handler() {
    serve server WEIR_STOP_SIGNALS=TERM WEIR_FIRST_BYTE=100ms -- "$PROGRAMS/thread_masks" "$1" "$port"
    wait_port "$port"
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 10
    log_has server '^ended by 1; SIGTERM is open$'
}

@test "a stop signal reaches a program that blocks it while it waits, by sigprocmask" {
    ends_by_handler setmask
}

@test "a stop signal reaches a program that blocks it while it waits, by pthread_sigmask" {
    ends_by_handler unblock
}

@test "a stop signal reaches a program whose ppoll blocks it while it waits" {
    ends_by_handler ppoll
}

@test "a stop signal reaches a program whose pselect blocks it while it waits" {
    ends_by_handler pselect
}

@test "a stop signal reaches a program whose epoll_pwait blocks it while it waits" {
    ends_by_handler epoll_pwait
}

@test "a stop signal reaches a program whose sigsuspend blocks it while it waits" {
    ends_by_handler sigsuspend
}

@test "a stop signal reaches a program whose waits block it and have their result at once" {
    local i
    for i in 1 2 3; do
        ends_by_handler ready
    done
}

# ---- what a handler finds of a stop signal, and leaves ----

# handlers ROW...: sig_context says the same bare and where SIGTERM is held.
handlers() {
    local row
    for row; do
        same_as_bare "$row" WEIR_STOP_SIGNALS=TERM,INT -- "$PROGRAMS/sig_context" "$row"
        log_has "$row" ', code 0, from the child 1$'
    done
}

@test "a handler's context shows a stop signal as the program has it blocked" {
    handlers sees waits_open waits_blocked
}

@test "a handler with one argument is read back as it was installed, by whatever name" {
    handlers one_argument
}

@test "a handler that edits its context blocks and unblocks a stop signal" {
    handlers edits_in edits_out edits_nested waits_edited
}

@test "a stop signal that a handler blocks or unblocks is as it was when the handler returns" {
    handlers blocks_and_returns unblocks_and_returns action_blocks
}

@test "in a thread as well a handler leaves a stop signal as it found it" {
    handlers in_thread
}

@test "siglongjmp restores whether a stop signal is blocked, out of a handler or not" {
    handlers jumps_out jumps_back jumps_from_wait
}

@test "longjmp out of a handler leaves a stop signal blocked where it does without us" {
    handlers jumps_without_mask longjumps_out
}

@test "a handler that waits under another mask leaves the wait that it has interrupted its own" {
    handlers waits_nested
}

@test "the handler of a stop signal runs on the stack that it was installed for" {
    handlers other_stack own_stack
}

# Varnish: what crashes there tells by a handler, and no two threads crash at once.
@test "threads that share a signal stack for crashes take no signal of ours on it" {
    local round client
    for round in 1 2 3; do
        serve "server$round" -- "$PROGRAMS/shared_stack" "$port" faults
        wait_port "$port"
        log_has "server$round" '^on a signal stack: no$'
        conn_open client "$port"
        echoes "$client"
        kill -USR2 "$SERVER_PID"
        wait_drained "server$round" 10
        kill -0 "$SERVER_PID"
        kill "$SERVER_PID"
        wait_gone "$SERVER_PID"
    done
}

@test "a program that takes other signals on signal stacks has ours there, too" {
    serve server -- "$PROGRAMS/shared_stack" "$port" all
    wait_port "$port"
    log_has server '^on a signal stack: yes$'
}

@test "a handler for SIGSEGV, with SA_RESETHAND and a stack of its own, repairs and returns" {
    handlers faults
}

@test "a handler works in a child of fork and of vfork, which installs its own" {
    handlers in_fork in_vfork
}

@test "a handler that was installed before the program listens is told of the stop signals as well" {
    handlers before_it_listens
    # Not the first of its tree: its stop signals are taken when it listens.
    # shellcheck disable=SC2016  # expanded by the inner shell
    same_as_bare second WEIR_STOP_SIGNALS=TERM,INT -- \
        sh -c '"$0" edits_out; echo $?' "$PROGRAMS/sig_context"
}

# ---- signals that are the program's ----

@test "the trigger, once the program's, comes to the thread that it was sent to" {
    same_as_bare trigger -- "$PROGRAMS/thread_signals" 12 before
}

@test "the trigger, given back when several threads run, comes to the thread that it was sent to" {
    same_as_bare trigger -- "$PROGRAMS/thread_signals" 12 after
}

@test "the control signal, once the program's, comes to the thread that it was sent to" {
    same_as_bare control -- "$PROGRAMS/thread_signals" "$(kill -l RTMAX-3)" before
    same_as_bare control -- "$PROGRAMS/thread_signals" "$(kill -l RTMAX-3)" after
}

@test "another WEIR_SIGNAL, once the program's, comes to the thread that it was sent to" {
    same_as_bare other WEIR_SIGNAL=RTMIN+3 -- "$PROGRAMS/thread_signals" "$(kill -l RTMIN+3)" before
    same_as_bare other WEIR_SIGNAL=RTMIN+3 WEIR_CONTROL_SIGNAL=none -- \
        "$PROGRAMS/thread_signals" "$(kill -l RTMIN+3)" after
}

# ---- what a handler does ----

# A server that has handed 100 connections to children which end without a word, and triggers itself.
hands_out() {
    serve_bare server WEIR_RUN_DIR="$BATS_TEST_TMPDIR" -- \
        strace -f -o "$BATS_TEST_TMPDIR/trace" -e trace=openat,kill -E LD_PRELOAD="$WEIR_LIB" \
        /usr/bin/python3 -c '
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(100):
    client = socket.create_connection(listener.getsockname())
    client.send(b"x")
    connection = listener.accept()[0]
    child = os.fork()
    if child == 0:
        signal.pause() if _ == 99 else os._exit(0)
    connection.close()
    client.close() if _ < 99 else None
    if _ < 99:
        os.waitpid(child, 0)
print("triggers", os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGUSR2)
print("triggered", flush=True)
signal.sigtimedwait([signal.SIGUSR1], 30)
os.kill(child, signal.SIGKILL)
signal.pause()' "$port"
}

@test "the handler of the trigger reads no table of sockets, and one look answers for all" {
    local pid from looks began
    began=$(now_ms)
    hands_out
    wait_until 20 log_has server '^triggered$'
    wait_until 10 log_has server 'draining: SIGUSR2 .*; (0 idle, 1|1 idle, 0) in use$'
    pid=$(log server | sed -n 's/^triggers //p')
    pause 1
    kill -USR1 "$pid"
    wait_drained server 10
    also_end "$pid"
    from=$(grep -n "kill($pid, SIGUSR2)" "$BATS_TEST_TMPDIR/trace" | cut -d: -f1)
    [ "$(tail -n "+$from" "$BATS_TEST_TMPDIR/trace" | grep -c "^$pid .*/net/tcp")" = 0 ]
    looks=$(grep -c '/net/tcp"' "$BATS_TEST_TMPDIR/trace")
    echo "$looks looks"
    [ "$looks" -ge 2 ]
    [ "$looks" -le $((10 + ($(now_ms) - began) / 40)) ] # and not 100 each time
}

# ---- what our thread has ----

# no_thread_keeps HOW...: what the program gives up in a drain, which goes on afterwards.
no_thread_keeps() {
    local how
    for how; do
        serve "$how" WEIR_FIRST_BYTE=50ms -- "$PROGRAMS/thread_creds" "$how" "$port"
        wait_gone "$SERVER_PID" 20
        log_has "$how" '^before: 1, in the drain: 2; result 0, threads 2, others 0$'
        log_has "$how" 'drained in .*: 2 closed clean, 0 forced'
    done
}

@test "setuid and its relations in a drain leave no thread with the old user" {
    needs_users
    [ "$(id -u)" = 0 ] || skip "needs root"
    no_thread_keeps setuid seteuid setreuid setresuid syscall
}

@test "setgid and its relations in a drain leave no thread with the old groups" {
    needs_users
    [ "$(id -u)" = 0 ] || skip "needs root"
    no_thread_keeps setgid setegid setregid setresgid setgroups initgroups
}

@test "capset and prctl in a drain leave no thread with what was given up" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    no_thread_keeps capset bounding privileges
}

@test "what needs a process with one thread works in a drain" {
    no_thread_keeps unshare
}

@test "a seccomp filter for all threads, in a drain, kills nobody" {
    serve server WEIR_FIRST_BYTE=50ms -- "$PROGRAMS/thread_creds" seccomp "$port"
    wait_gone "$SERVER_PID" 20
    log_has server '^given up$'
}

@test "a stop signal that waits for a drain reaches a program that enters a sandbox meanwhile" {
    serve server WEIR_STOP_SIGNALS=TERM -- /usr/bin/python3 -c '
import ctypes, os, signal, socket, struct, sys, time
def stop(*_):
    print("stopped", flush=True)
    os._exit(3)
signal.signal(signal.SIGTERM, stop)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
client = socket.create_connection(listener.getsockname())
client.send(b"x")
connection = listener.accept()[0]
connection.recv(1)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.3)
print("held", flush=True)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(allow)))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
libc.prctl(22, 2, program)
time.sleep(20)' "$port"
    wait_gone "$SERVER_PID" 10
    log_has server '^held$'
    log_has server '^stopped$'
}

@test "a program that only asks for seccomp is drained by its stop signal all the same" {
    local how client
    for how in "prctl(22, 2, None)" "syscall({x86_64: 317, aarch64: 277}[os.uname().machine], 1, 0, None)" \
        "prctl(22, 2, ctypes.create_string_buffer(16))"; do
        how=${how/x86_64/\'x86_64\'} how=${how/aarch64/\'aarch64\'}
        serve server WEIR_STOP_SIGNALS=TERM WEIR_FIRST_BYTE=100ms -- /usr/bin/python3 -c "
import ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None)
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
assert libc.$how < 0
connection = listener.accept()[0]
connection.recv(1)
connection.close()
signal.pause()" "$port"
        wait_port "$port"
        conn_open client "$port"
        kill -TERM "$SERVER_PID"
        at_eof "$client" 5
        wait_gone "$SERVER_PID" 10
        log_has server 'drained in .*: 1 closed clean, 0 forced; SIGTERM goes to the program$'
        conn_close "$client"
    done
}

@test "the control signal, where the program waits for it by name, is the program's" {
    local sig
    sig=$(kill -l RTMAX-3)
    serve server -- /usr/bin/python3 -c '
import os, signal, socket, sys
sig = int(sys.argv[2])
def waits(when):
    os.kill(os.getpid(), sig)
    got = signal.sigtimedwait([sig], 5)
    print(when, got and (got.si_signo, got.si_code, got.si_pid == os.getpid()), flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [sig])
waits("before")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
waits("after")' "$port" "$sig"
    wait_gone "$SERVER_PID" 20
    log_has server "^before \\($sig, 0, True\\)$"
    log_has server "^after \\($sig, 0, True\\)$"
    [ "$(log server | grep -c 'belongs to the program')" = 1 ]
}

# sbcl_collects NAME [VAR=value...]: four threads that allocate, while the first collects and listens,
# until SIGTERM.
sbcl_collects() {
    local name=$1
    shift
    serve "$name" "$@" -- sbcl --noinform --no-userinit --non-interactive --eval '(require :sb-bsd-sockets)' --eval "
        (let ((s (make-instance 'sb-bsd-sockets:inet-socket :type :stream :protocol :tcp)))
          (setf (sb-bsd-sockets:sockopt-reuse-address s) t)
          (sb-bsd-sockets:socket-bind s #(127 0 0 1) $port)
          (sb-bsd-sockets:socket-listen s 5)
          (dotimes (i 4)
            (sb-thread:make-thread
              (lambda () (loop (loop for i below 20000 collect (make-array 10)) (sleep 0.01)))))
          (dotimes (i 30) (sb-ext:gc) (sleep 0.01))
          (format t \"collected~%\")
          (finish-output)
          (loop (sb-ext:gc) (sleep 0.05)))"
    wait_until 30 log_has "$name" '^collected$'
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID" 20
    if log_has "$name" 'fatal error'; then return 1; fi
}

@test "SBCL's collector stops the world under the shim, and its server ends by SIGTERM" {
    sbcl_collects plain
    sbcl_collects stops WEIR_STOP_SIGNALS=TERM,INT
    log_has stops 'SIGTERM goes to the program$'
}

# answers_one: a client, in $client, has its answer from the server on $port.
answers_one() {
    conn_open client "$port"
    conn_send "$client" 'x\n'
    read_line answer "$client" 5
    [ "$answer" = ok ]
}

@test "SBCL's server, whose collector stops its threads all the time, ends by SIGTERM as without us" {
    local i ended=0
    for i in {1..5}; do
        serve server WEIR_STOP_SIGNALS=TERM,INT WEIR_FIRST_BYTE=100ms -- \
            sbcl --noinform --no-userinit --disable-debugger \
            --eval '(require :sb-bsd-sockets)' --eval "
            (let ((s (make-instance 'sb-bsd-sockets:inet-socket :type :stream :protocol :tcp)))
              (setf (sb-bsd-sockets:sockopt-reuse-address s) t)
              (sb-bsd-sockets:socket-bind s #(127 0 0 1) $port)
              (sb-bsd-sockets:socket-listen s 5)
              (sb-thread:make-thread (lambda () (loop (gc :full t) (sleep 0.02))))
              (loop
                (let ((c (sb-bsd-sockets:socket-accept s)))
                  (sb-thread:make-thread
                    (lambda ()
                      (let ((stream (sb-bsd-sockets:socket-make-stream c :input t :output t)))
                        (loop while (read-line stream nil)
                          do (format stream \"ok~%\") (finish-output stream))
                        (close stream)))))))"
        wait_port "$port"
        answers_one
        kill -TERM "$SERVER_PID"
        at_eof "$client" 5
        wait_until 10 log_has server 'drained in .* 0 forced; SIGTERM goes to the program$'
        if ends_by_term; then
            wait "$SERVER_PID"
            ended=$((ended + 1))
        else
            kill -KILL "$SERVER_PID"
        fi
    done
    [ "$ended" -ge 3 ]
}

# ends_by_term: without the shim too SBCL loses one TERM of some thirty while it collects, and one server
# of some fifty hangs for good.
ends_by_term() {
    for _ in 1 2 3; do
        if wait_gone "$SERVER_PID" 5; then return; fi
        kill -TERM "$SERVER_PID"
    done
    wait_gone "$SERVER_PID" 5
}

@test "SBCL's handlers find the mask that it checks, and set the one that they leave" {
    same_as_bare collects WEIR_STOP_SIGNALS=TERM,INT -- \
        sbcl --noinform --no-userinit --non-interactive --eval "
            (let ((threads (loop repeat 2 collect
                    (sb-thread:make-thread (lambda ()
                      (loop repeat 300 do
                        (loop for i below 20000 collect (make-array 10))
                        (sleep 0.001)))))))
              (dotimes (i 30) (gc :full t) (sleep 0.01))
              (mapc #'sb-thread:join-thread threads)
              (format t \"collected~%\"))"
    log_has collects '^collected$'
}

# held FIRST EACH [VAR=value...]: a thread is held at every EACHth instruction of the shim's between
# two answers while a close-idle goes by; before a read, in it, behind it, and the same of a write.
held() {
    local first=$1 each=$2
    shift 2
    env "$@" WEIR_SETTLE=10ms WEIR_FIRST_BYTE=20ms HELD_PRELOAD="$WEIR_LIB" \
        HELD_LOG="$BATS_TEST_TMPDIR/weir.log" "$PROGRAMS/held_step" "$first" "$each" \
        </dev/null >"$BATS_TEST_TMPDIR/held" 2>&1 3>&- || true
    cat "$BATS_TEST_TMPDIR/held"
    grep -Eq '^held [0-9]{2,} times, [0-9]+ closed when idle, 0 wrong$' "$BATS_TEST_TMPDIR/held"
}

@test "a thread is held at each instruction of the fast path: no request in progress is told as idle" {
    held 1 1 WEIR_MODE=reply
}

@test "a thread is held in the middle of the slow path: no request in progress is told as idle" {
    held 1 11 WEIR_MODE=automatic
}

@test "the kernel is told of a drain's barrier before there are threads: later that takes seconds" {
    serve_bare server -- strace -f -o "$BATS_TEST_TMPDIR/trace" -e trace=membarrier,clone,clone3 \
        -E LD_PRELOAD="$WEIR_LIB" "$PROGRAMS/race" server automatic "$port" \
        "$BATS_TEST_TMPDIR/tally" 300
    wait_gone "$SERVER_PID" 20
    log_has server '^drained 0 in '
    awk '/REGISTER_PRIVATE_EXPEDITED/ { told++; late += threads }
         /CLONE_THREAD/ { threads++ }
         /CMD_PRIVATE_EXPEDITED/ { barriers++ }
         /membarrier.* = -1 / { failed++ }
         END { print told, late, threads, barriers, failed
               exit !(told == 1 && !late && threads > 0 && barriers > 0 && !failed) }' "$BATS_TEST_TMPDIR/trace"
}
