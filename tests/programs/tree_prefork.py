# SPDX-License-Identifier: MIT
"""tree_prefork.py PORT WORKERS: a pre-fork HTTP server. The master listens, forks the workers,
makes a new one for each that dies, and on TERM stops them and ends with 0. A worker is
slow_server.py, but that it answers with its pid: "It works: PID". Prints "worker PID" for each, and
"hup PID" where there is a HUP."""
import os
import signal
import socket
import sys

sys.dont_write_bytecode = True
import slow_server


class Worker(slow_server.Server):
    def handle_error(self, *_):
        pass  # a client that is gone


def fork_worker(listener):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        slow_server.Handler.at_once = b"It works: %d\n" % os.getpid()
        Worker(listener.getsockname(), listener=listener).serve_forever()
    print("worker", pid, flush=True)
    return pid


def stop(*_):
    for pid in workers:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has ended, and was reaped a moment ago
    sys.exit(0)


def say_hup(*_):
    print("hup", os.getpid(), flush=True)


workers = set()
master = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
signal.signal(signal.SIGHUP, say_hup)
for _ in range(int(sys.argv[2])):
    workers.add(fork_worker(master))
signal.signal(signal.SIGTERM, stop)
while True:
    workers.discard(os.wait()[0])
    workers.add(fork_worker(master))
