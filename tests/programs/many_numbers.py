# SPDX-License-Identifier: MIT
"""An echo server whose connections have high numbers: many_numbers.py PORT NUMBER [LISTENERS]

Once it listens it raises its limit on descriptors; each connection is moved to a number from NUMBER
on. With LISTENERS it listens on so many ports, from PORT on. USR1: calls weir_drain() and prints what
it returned.
"""
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import threading

port, number = int(sys.argv[1]), int(sys.argv[2])
loop = select.epoll()
listeners, connections = {}, set()
for i in range(int(sys.argv[3]) if len(sys.argv) > 3 else 1):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port + i))
    listener.listen(10)
    listener.setblocking(False)
    listeners[listener.fileno()] = listener
    loop.register(listener.fileno(), select.EPOLLIN)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
soft = max(soft, number + 100)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(soft, hard)))


def drain():
    """It waits for the connections: not for the thread that has to close them."""
    result = ctypes.CDLL(None, use_errno=True).weir_drain()
    print("weir_drain", result, errno.errorcode.get(ctypes.get_errno(), "-"), flush=True)


signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=drain, daemon=True).start())
print("ready", flush=True)
while True:
    for fd, _ in loop.poll():
        if fd in listeners:
            try:
                connection, _ = listeners[fd].accept()
            except BlockingIOError:
                continue
            moved = fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD, number)
            connection.close()
            connections.add(moved)
            loop.register(moved, select.EPOLLIN)
        else:
            data = os.read(fd, 1000)
            if data:
                os.write(fd, data)
            else:
                os.close(fd)
                connections.remove(fd)
