#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""handed_round.py PORT DIRECTORY FILE: two processes that hand a client to each other, over a UNIX connection
that has its end with that, 40 times each once there is FILE; and a third, which is asked before and after.
The client is told "asked", or "lost" where the third has closed meanwhile."""
import os
import socket
import sys
import time

ROUNDS = 40
port, directory, until = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def listens(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{directory}/{name}")
    listener.listen(ROUNDS)
    return listener


def connects(name, count):
    connections = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for connection in connections:
        connection.connect(f"{directory}/{name}")
    return connections


def accepts(listener, count):
    with listener:
        return [listener.accept()[0] for _ in range(count)]


def hands(client, connection):
    time.sleep(0.01)
    socket.send_fds(connection, [b"c"], [client.fileno()])
    client.close()
    connection.recv(1)


def takes(connection):
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 1, 1)
        client = socket.socket(fileno=fds[0])
        client.recv(1)
    return client


first, second, asked = (listens(name) for name in ("first", "second", "asked"))
if os.fork() == 0:
    first.close()
    second.close()
    (asks,) = accepts(asked, 1)
    while asks.recv(100):
        asks.send(b"yes\n")
    os._exit(0)
asked.close()
if os.fork() == 0:
    first.close()
    gives, gets = connects("first", ROUNDS), accepts(second, ROUNDS)
    for there, back in zip(gets, gives):
        hands(takes(there), back)
    os._exit(0)
second.close()
gives, gets = connects("second", ROUNDS), accepts(first, ROUNDS)
(helper,) = connects("asked", 1)
for _ in range(3):  # behind its first answer a connection is not idle so soon
    helper.send(b"there?\n")
    helper.recv(100)
server = socket.create_server(("127.0.0.1", port))
client, _ = server.accept()
client.recv(1)
while not os.path.exists(until):
    time.sleep(0.01)
for there, back in zip(gives, gets):
    hands(client, there)
    client = takes(back)
try:
    helper.send(b"there?\n")
    answer = helper.recv(100)
except OSError:
    answer = b""
client.send(b"asked\n" if answer else b"lost\n")
client.recv(100)
client.close()
helper.close()
server.accept()
