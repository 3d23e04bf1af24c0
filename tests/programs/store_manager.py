#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""store_manager.py [--most N] [--own N] [--mute] COMMAND...: what systemd does with a service's
descriptor store (sd_notify(3), sd_listen_fds(3)).

USR1 stops COMMAND by TERM, HUP starts it again with what is in the store. --most: so many have room
(64); --own: sockets of a socket unit, named own0 and so on, before and behind those of the store;
--mute: it does not know barriers."""
import argparse
import array
import os
import select
import signal
import socket

options = argparse.ArgumentParser()
options.add_argument("--most", type=int, default=64)
options.add_argument("--own", type=int, default=0)
options.add_argument("--mute", action="store_true")
options.add_argument("command", nargs=argparse.REMAINDER)
options = options.parse_args()

store = []  # (name, descriptor)
address = f"\0weir-store-{os.getpid()}"
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(address)
own = [(f"own{i}", socket.create_server(("127.0.0.1", 0)).detach()) for i in range(options.own)]


def say(*words):
    print(*words, flush=True)


def start():
    passed = own[:1] + store + own[1:]
    pid = os.fork()
    if pid:
        return pid
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.set_wakeup_fd(-1)
    os.environ["NOTIFY_SOCKET"] = "@" + address[1:]
    high = [os.dup2(fd, 200 + i) for i, (_, fd) in enumerate(passed)]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i)
    os.closerange(3 + len(passed), 300)
    if passed:
        os.environ["LISTEN_FDS"] = str(len(passed))
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
    os.execvp(options.command[0], options.command)


def add(name, fd):
    if any(os.path.sameopenfile(fd, other) for _, other in store):
        os.close(fd)
    elif len(store) >= options.most:
        os.close(fd)
        say("full")
    else:
        store.append((name, fd))


def receive():
    fds = array.array("i")
    text, ancillary, _, _ = receiver.recvmsg(4096, socket.CMSG_SPACE(64))
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data)
    said = dict(line.split("=", 1) for line in text.decode().split("\n"))
    say("told", *sorted(f"{name}={value}" for name, value in said.items() if name != "STATUS"))
    if "FDSTORE" in said:
        for fd in fds:
            add(said["FDNAME"], fd)
        fds = []
    if "FDSTOREREMOVE" in said:
        for item in [item for item in store if item[0] == said["FDNAME"]]:
            os.close(item[1])
            store.remove(item)
    for fd in [] if options.mute else fds:
        os.close(fd)
    say("store", len(store))


def drop_hung_up():
    poll = select.poll()
    for _, fd in store:
        poll.register(fd, 0)
    for fd, _ in poll.poll(0):
        store[:] = [item for item in store if item[1] != fd]
        os.close(fd)


wakes, woken = os.pipe()
os.set_blocking(woken, False)
signal.set_wakeup_fd(woken)
for sig in signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD:
    signal.signal(sig, lambda *_: None)
program = start()
signal.signal(signal.SIGTERM, lambda *_: (os.kill(program, signal.SIGKILL) if program else 0, os._exit(0)))
while True:
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    for _, fd in store:
        poll.register(fd, 0)
    ready = [fd for fd, _ in poll.poll()]
    if receiver.fileno() in ready:
        receive()
    drop_hung_up()
    for sig in os.read(wakes, 100) if wakes in ready else b"":
        if sig == signal.SIGUSR1:
            os.kill(program, signal.SIGTERM)
        elif sig == signal.SIGHUP:
            program = start()
        elif sig == signal.SIGCHLD and program:
            while select.select([receiver], [], [], 0)[0]:
                receive()
            drop_hung_up()
            say("ended", os.waitpid(program, 0)[1], "store", len(store))
            program = 0
