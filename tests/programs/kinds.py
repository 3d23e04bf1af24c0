#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""kinds.py KIND ADDRESS [ADDRESS]: a server of lines with a thread for each connection, on an odd
kind of listener. "slow N" is answered after N seconds, everything with "ok " before it.

tproxy, mptcp PORT        the listener has IP_TRANSPARENT, or speaks MPTCP
plain PORT                none of that
autobind                  AF_UNIX, with a name that the kernel chooses; it is written
bound PORT PORT           both were bound by another program, which has become this one since
peek, greet PORT          it looks at each line before it reads it, or speaks first
late PORT                 it speaks first, to who is still there then; one accept in two seconds
polls PORT PATH           it looks once in a while whether somebody waits at PATH"""
import os
import select
import socket
import sys
import threading
import time

IP_TRANSPARENT = 19


def listener(port, protocol=0):
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == "tproxy":
        made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    made.bind(("127.0.0.1", int(port)))
    return made


def bound(ports):
    """What was bound before the exec, or makes it so."""
    if ports[0].startswith("fd"):
        return [socket.socket(fileno=int(port[2:])) for port in ports]
    made = [listener(port) for port in ports]
    for each in made:
        each.set_inheritable(True)
    names = [f"fd{each.fileno()}" for each in made]
    os.execv(sys.executable, [sys.executable, sys.argv[0], kind, *names])


def serve(client):
    if kind == "late" and select.select([client], [], [], 0.1)[0]:
        return
    if kind in ("greet", "late"):
        client.sendall(b"hello\n")
    have = b""
    while True:
        while b"\n" not in have:
            if kind == "peek" and not client.recv(1, socket.MSG_PEEK):
                return
            got = client.recv(4096)
            if not got:
                return
            have += got
        line, have = have.split(b"\n", 1)
        if line.startswith(b"slow"):
            time.sleep(float(line[4:]))
        client.sendall(b"ok " + line + b"\n")


def serve_and_close(client):
    with client:
        serve(client)


def accept_from(sock):
    while True:
        client = sock.accept()[0]
        threading.Thread(target=serve_and_close, args=(client,), daemon=True).start()
        if kind == "late":
            time.sleep(2)


kind, at = sys.argv[1], sys.argv[2:]
if kind == "autobind":
    listeners = [socket.socket(socket.AF_UNIX)]
    listeners[0].bind("")
elif kind == "bound":
    listeners = bound(at)
else:
    listeners = [listener(at[0], socket.IPPROTO_MPTCP if kind == "mptcp" else 0)]
for sock in listeners:
    sock.listen(100)
if kind == "autobind":
    print("listens at", listeners[0].getsockname()[1:].decode(), flush=True)
for sock in listeners:
    threading.Thread(target=accept_from, args=(sock,), daemon=True).start()
if kind == "polls":
    polled = socket.socket(socket.AF_UNIX)
    polled.bind(at[1])
    polled.listen(5)
    polled.setblocking(False)
while True:
    time.sleep(0.2)
    if kind == "polls" and select.select([polled], [], [], 0)[0]:
        polled.accept()[0].close()
