# SPDX-License-Identifier: MIT
# A server that leaves something undone, for what a drain counts as lost.
#
#   ledger_server.py ADDRESS listens       PORT on 127.0.0.1, or unix:PATH. Neither it nor a child of
#                                          its that has the listener too ever accepts
#   ledger_server.py ADDRESS reads BYTES   reads so many bytes of each connection, and keeps it
#   ledger_server.py ADDRESS hesitates     answers, and reads no more before the end is there and
#                                          something has come all the same: then to the end, and closes
#   ledger_server.py ADDRESS answers MS    answers with 300 kB, and closes after so long; 0: never
#   ledger_server.py ADDRESS halves        answers HTTP with a half, and shuts the connection down when
#                                          it has ended
#   ledger_server.py ADDRESS first         answers HTTP; and of what comes behind the end the first
#                                          request alone, and closes
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


def wait_for_end(connection):
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll()


def wait_for_more_behind_end(connection, least):
    wait_for_end(connection)
    print("ended", flush=True)
    while int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder) < least:
        time.sleep(0.01)


def hesitate(connection):
    connection.send(connection.recv(100))
    print("served", flush=True)
    wait_for_more_behind_end(connection, 1)
    while connection.recv(100):
        pass
    kept.remove(connection)
    connection.close()


def answer_in_half(connection):
    connection.recv(100)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
    print("served", flush=True)
    wait_for_end(connection)
    connection.shutdown(socket.SHUT_WR)
    kept.remove(connection)
    connection.close()


def answer_first(connection):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        asked += connection.recv(100)
    connection.send(answer)
    print("served", flush=True)
    wait_for_more_behind_end(connection, 2 * len(asked))
    connection.recv(100)
    connection.send(answer)
    kept.remove(connection)
    connection.close()


def serve(connection):
    if does in ("halves", "first"):
        return answer_in_half(connection) if does == "halves" else answer_first(connection)
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
    os.write(1, b"ready\n")  # print may write the end of the line apart
while does == "listens":
    time.sleep(60)
while True:
    kept.append(listener.accept()[0])
    threading.Thread(target=serve, args=(kept[-1],), daemon=True).start()
