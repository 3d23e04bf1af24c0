# SPDX-License-Identifier: MIT
"""shared.py HOW PORT [PATH]: a server whose listener others have, too. A client's line is answered
with "pong PID" and the end. Says "up PID" when it listens. HUP: it begins to accept (HOW queue-*).
HOW:
  succeed      HUP: it starts its successor, which inherits the listener: the same command line
  succeed-bare the same, in an environment without LD_PRELOAD
  send         sends its listener to whoever connects to PATH (SCM_RIGHTS)
  receive      gets it there, and serves
  epoll        a child and its parent wait with one epoll and accept from one listener
  epoll-block  the same, and accept would wait
  queue-child  does not accept yet; it has a child that holds nothing of it
  queue-leak   the same, and the child holds the listener and never accepts
  queue-drain  as queue-child, and USR1 is weir_drain()
  queue-offer  does not accept yet, and sends its listener as "send" does
  queue-send   does not accept yet; the listener was sent to a child that never accepts
  worker       a child of another user serves, and has a helper that it may not look into
  quiet-select, quiet-poll, quiet-epoll
               waits with that for PORT and PATH (AF_UNIX), and accepts as who would wait
  quiet-children
               three children accept as who would wait, and select for what a client sends
An accept that fails is told: "accept: " and why."""
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

how, port, path = (sys.argv + [None])[1:4]


def listener(backlog=4096):
    if "LISTENER" in os.environ:
        return socket.socket(fileno=int(os.environ["LISTENER"]))
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", int(port)))
    made.listen(backlog)
    return made


def received():
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(path)
        return socket.socket(fileno=socket.recv_fds(to, 1, 1)[1][0])


def send_from(at, sock):
    while True:
        to, _ = at.accept()
        socket.send_fds(to, [b"x"], [sock.fileno()])
        to.close()


def successor(sock):
    if os.fork() == 0:
        environment = {**os.environ, "LISTENER": str(sock.fileno())}
        if how == "succeed-bare":
            del environment["LD_PRELOAD"]
        os.set_inheritable(sock.fileno(), True)
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def answer(client):
    with client:
        client.settimeout(5)
        try:
            if client.recv(100):
                client.sendall(b"pong %d\n" % os.getpid())
        except OSError:
            pass


def serve(sock, waiter):
    while True:
        waiter.poll()
        try:
            client, _ = sock.accept()
        except BlockingIOError:
            continue  # as who shares a listener must expect
        threading.Thread(target=answer, args=(client,)).start()


def say(*words):
    # In one write: print makes several, between which another process may make its own.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def serve_in_worker(sock, waiter):
    if os.fork() == 0:
        subprocess.Popen(["sleep", "60"])
        os.setgid(65534)
        os.setuid(65534)
        say("up", os.getpid())
        serve(sock, waiter)
    os.wait()


def accept_from(sock):
    try:
        answer(sock.accept()[0])
    except OSError as error:
        say("accept:", error)


def serve_quietly(*socks):
    by_number = {sock.fileno(): sock for sock in socks}
    waiter = select.epoll() if how == "quiet-epoll" else select.poll()
    for number in by_number:
        waiter.register(number, select.POLLIN)
    while True:
        if how == "quiet-select":
            for sock in select.select(socks, [], [])[0]:
                accept_from(sock)
        else:
            for number, _ in waiter.poll():
                accept_from(by_number[number])


def serve_in_children(sock):
    for _ in range(3):
        if os.fork() == 0:
            while True:
                try:
                    client, _ = sock.accept()
                    select.select([client], [], [], 5)
                    answer(client)
                except OSError as error:
                    say("accept:", error)
    os.wait()


sock = received() if how == "receive" else listener()
sock.setblocking(how.startswith("quiet") or how == "epoll-block")
waiter = select.poll()
go = threading.Event()
if how.startswith("epoll"):
    waiter = select.epoll()
waiter.register(sock.fileno(), select.POLLIN)
if how.startswith("epoll"):
    os.fork()
if how in ("send", "queue-offer"):
    at = socket.socket(socket.AF_UNIX)
    at.bind(path)
    at.listen()
    threading.Thread(target=send_from, args=(at, sock), daemon=True).start()
if how.startswith("succeed"):
    signal.signal(signal.SIGHUP, lambda *_: successor(sock))
if how.startswith("queue"):
    signal.signal(signal.SIGHUP, lambda *_: go.set())
if how.startswith("queue") and how != "queue-offer":
    kept = [sock.fileno()] if how == "queue-leak" else []
    environment = {**os.environ, "LD_PRELOAD": ""}
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(["sleep", "60"] if how != "queue-send" else
                             [sys.executable, "-c", "import socket, sys, time\n"
                              "s = socket.socket(fileno=0)\n"
                              "fds = socket.recv_fds(s, 1, 1); time.sleep(60)"],
                             stdin=theirs, pass_fds=kept, env=environment)
    say("child", child.pid)
    if how == "queue-send":
        socket.send_fds(ours, [b"x"], [sock.fileno()])
    if how == "queue-drain":
        drain = ctypes.CDLL(None).weir_drain
        signal.signal(signal.SIGUSR1,
                      lambda *_: threading.Thread(target=drain, daemon=True).start())
if how == "worker":
    serve_in_worker(sock, waiter)
say("up", os.getpid())
if how == "quiet-children":
    serve_in_children(sock)
elif how.startswith("quiet"):
    local = socket.socket(socket.AF_UNIX)
    local.bind(path)
    local.listen()
    serve_quietly(sock, local)
while how.startswith("queue") and not go.is_set():
    time.sleep(0.05)
serve(sock, waiter)
