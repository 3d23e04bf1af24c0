# SPDX-License-Identifier: MIT
"""tree_prefork.py PORT WORKERS: a pre-fork HTTP server. The master listens, forks the workers,
makes a new one for each that dies, and on TERM stops them and ends with 0. A worker has a thread
for each connection. / is answered with the worker's pid, /slow with "at last": 1.5 seconds later,
or as many as it says. Prints "worker PID" for each, and "hup PID" where there is a HUP."""
import http.server
import os
import signal
import socket
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"%d\n" % os.getpid()
        if self.path.startswith("/slow"):
            time.sleep(float(self.path[5:] or 1.5))
            body = b"at last\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *message):
        pass


class Worker(http.server.ThreadingHTTPServer):
    def __init__(self, listener):
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, *_):
        pass  # a client that is gone


def fork_worker(listener):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        Worker(listener).serve_forever()
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
