# SPDX-License-Identifier: MIT
"""tree_users.py PORT WORKERS: root's master, whose workers run as nobody. Each worker has a thread
for each connection, which answers a line "slow SECONDS" late and any other at once, with its pid.
On TERM the master stops its workers and ends with 0. Prints "worker PID" for each."""
import os
import signal
import socket
import sys
import threading
import time


def serve(connection):
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            if line.startswith("slow "):
                time.sleep(float(line[5:]))
            lines.write(f"{os.getpid()}\n")
            lines.flush()


def work(listener):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    while True:
        connection = listener.accept()[0]
        threading.Thread(target=serve, args=[connection], daemon=True).start()


def stop(*_):
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    sys.exit(0)


workers = []
master = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        work(master)
    workers.append(pid)
    print("worker", pid, flush=True)
signal.signal(signal.SIGTERM, stop)
while True:
    signal.pause()
