# SPDX-License-Identifier: MIT
"""An echo server whose parent accepts, and sends each connection to its child over a socketpair.

  unix_pass.py serve PATH     a thread for each; "slow" is answered after 1.5 s
  unix_pass.py ask PATH PID   two clients: one is at rest, the other waits for "slow" as PID gets
                              SIGUSR2. Prints what each has got from then on, until its end.
"""
import array
import os
import signal
import socket
import sys
import threading
import time


def echo(client):
    for line in client.makefile("rb"):
        if line == b"slow\n":
            time.sleep(1.5)
        client.sendall(line)
    client.shutdown(socket.SHUT_RDWR)
    client.close()


def serve(path):
    to_child, from_parent = socket.socketpair()
    if os.fork() == 0:
        to_child.close()
        while True:
            _, control, _, _ = from_parent.recvmsg(1, socket.CMSG_SPACE(4))
            if not control:
                return
            client = socket.socket(fileno=array.array("i", control[0][2])[0])
            threading.Thread(target=echo, args=(client,), daemon=True).start()
    from_parent.close()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        client, _ = listener.accept()
        rights = array.array("i", [client.fileno()])
        to_child.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        client.close()


def ask(path, pid):
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for client in clients:
        client.settimeout(20)
        client.connect(path)
        client.sendall(b"ping\n")
        assert client.recv(99) == b"ping\n"
    time.sleep(0.4)
    resting, busy = clients
    busy.sendall(b"slow\n")
    time.sleep(0.2)
    resting.sendall(b"ping\n")
    assert resting.recv(99) == b"ping\n"
    os.kill(pid, signal.SIGUSR2)
    for name, client in ("resting", resting), ("busy", busy):
        print(name, b"".join(iter(lambda: client.recv(99), b"")).decode().strip())


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask(sys.argv[2], int(sys.argv[3]))
