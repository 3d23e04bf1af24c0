# SPDX-License-Identifier: MIT
"""tree_prefork.py PORT WORKERS [bind|again]: a pre-fork HTTP server. The master listens (bind: it
binds alone, and each worker listens; again: it listens, becomes itself anew as unicorn's successor
does, and listens again), forks the workers, makes a new one for each that dies, and on TERM
stops them and ends with 0. A worker is slow_server.py, but that it answers with its pid: "It works:
PID". Prints "worker PID" for each, "hup PID" where there is a HUP, and the first accept that fails."""
import os
import signal
import socket
import sys

sys.dont_write_bytecode = True
import slow_server


class Worker(slow_server.Server):
    def handle_error(self, *_):
        pass  # a client that is gone

    has_failed = False

    def get_request(self):
        try:
            return super().get_request()
        except OSError as error:
            if not self.has_failed:
                print("accept:", error, flush=True)
            self.has_failed = True
            raise


def fork_worker(listener):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if binds:
            listener.listen(200)
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
address, binds = ("127.0.0.1", int(sys.argv[1])), sys.argv[3:] == ["bind"]
if sys.argv[3:] == ["again"]:
    master = socket.create_server(address, backlog=200)
    master.set_inheritable(True)
    os.execv(sys.executable, [sys.executable] + sys.argv + [str(master.fileno())])
elif sys.argv[3:4] == ["again"]:
    master = socket.socket(fileno=int(sys.argv[4]))
    master.listen(200)
elif binds:
    master = socket.socket()
    master.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    master.bind(address)
else:
    master = socket.create_server(address, backlog=200)
signal.signal(signal.SIGHUP, say_hup)
for _ in range(int(sys.argv[2])):
    workers.add(fork_worker(master))
signal.signal(signal.SIGTERM, stop)
while True:
    workers.discard(os.wait()[0])
    workers.add(fork_worker(master))
