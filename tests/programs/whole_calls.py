# SPDX-License-Identifier: MIT
"""whole_calls.py PORT: a server of twenty years ago. It forks for each client, which sends a line with the name of a
call, writes 20 MB by that call, once, and ends: a call that blocks takes all (write(2)), unless a signal cuts it
short. "waitall": it reads 20 MB by one recv (MSG_WAITALL), and answers with how many came. It prints what each call
has returned."""
import os
import signal
import socket
import sys

SIZE = 20000000


def work(connection):
    call = connection.recv(8, socket.MSG_WAITALL).decode().strip()
    print("asked", call, flush=True)
    if call == "waitall":
        done = len(connection.recv(SIZE, socket.MSG_WAITALL))
        connection.send(b"%d\n" % done)
    elif call == "sendfile":
        done = os.sendfile(connection.fileno(), file, 0, SIZE)
    else:
        data = bytes(SIZE)
        done = {
            "write": lambda: os.write(connection.fileno(), data),
            "writev": lambda: os.writev(connection.fileno(), [data[:5], data[5:]]),
            "send": lambda: connection.send(data),
            "sendmsg": lambda: connection.sendmsg([data[:5], data[5:]]),
        }[call]()
    print("done", call, done, flush=True)


file = os.memfd_create("file")
os.truncate(file, SIZE)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    accepted = listener.accept()[0]
    if os.fork() == 0:
        work(accepted)
        os._exit(0)
    accepted.close()
