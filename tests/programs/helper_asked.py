#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""helper_asked.py PORT SOCKET FILE: a server whose answer takes a helper of its own, a child on the UNIX
socket SOCKET, which is asked the same again and again, without a pause, until there is FILE. Then the client
is told "asked N", or "lost" where the helper has closed."""
import os
import socket
import sys

port, path, until = int(sys.argv[1]), sys.argv[2], sys.argv[3]
helper = socket.socket(socket.AF_UNIX)
helper.bind(path)
helper.listen()
if os.fork() == 0:
    asked, _ = helper.accept()
    while asked.recv(100):
        asked.send(b"0 0\n")
    os._exit(0)

helper.close()
asks = socket.socket(socket.AF_UNIX)
asks.connect(path)
server = socket.create_server(("127.0.0.1", port))
client, _ = server.accept()
client.recv(100)
count, answer = 0, b"0 0\n"
try:
    while answer and not os.path.exists(until):
        asks.send(b"PENALTY-GET\n")
        answer = asks.recv(100)
        count += 1
except OSError:
    answer = b""
client.send(b"asked %d\n" % count if answer else b"lost\n")
while client.recv(100):
    pass
client.close()
server.accept()
