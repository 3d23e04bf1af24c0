# SPDX-License-Identifier: MIT
# A server that leaves something undone, for what a drain counts as lost.
#
#   ledger_server.py ADDRESS listens       PORT on 127.0.0.1, or unix:PATH. Neither it nor a child of
#                                          its that has the listener too ever accepts
#   ledger_server.py ADDRESS reads BYTES   reads so many bytes of each connection, and keeps it
#   ledger_server.py ADDRESS hesitates     answers, and reads no more before the end is there and
#                                          something has come all the same: then to the end, and closes
#   ledger_server.py ADDRESS answers MS    answers with 300 kB, and closes after so long; 0: never
import fcntl
import os
import select
import socket
import sys
import termios
import threading
import time

address, does = sys.argv[1:3]
if address.startswith("unix:"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address[5:])
    listener.listen()
else:
    listener = socket.create_server(("127.0.0.1", int(address)))


def hesitate(connection):
    connection.send(connection.recv(100))
    print("served", flush=True)
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll()
    print("ended", flush=True)
    while not fcntl.ioctl(connection, termios.FIONREAD, bytes(4)).strip(b"\0"):
        time.sleep(0.01)
    while connection.recv(100):
        pass
    kept.remove(connection)
    connection.close()


def serve(connection):
    if does == "reads":
        connection.recv(int(sys.argv[3]))
    elif does == "hesitates":
        hesitate(connection)
    else:
        connection.recv(100)
        connection.setblocking(False)
        connection.send(bytes(300000))
    print("served", flush=True)
    if does == "answers" and sys.argv[3] != "0":
        time.sleep(int(sys.argv[3]) / 1000)
        connection.close()


kept = []
if does == "listens":
    os.fork()
    print("ready", flush=True)
while does == "listens":
    time.sleep(60)
while True:
    kept.append(listener.accept()[0])
    threading.Thread(target=serve, args=(kept[-1],), daemon=True).start()
