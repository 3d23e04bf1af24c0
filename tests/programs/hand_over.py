#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# hand_over.py [deaf] ADDRESS... -- COMMAND...: listens at each address (adopter.py), puts a client into
# each queue, and starts COMMAND with the sockets. Says of each client who has answered it.
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys

from adopter import address_of, open_socket


def make_deaf(listener):
    """As a drain does it, by either way (shim/base/sock_syns.c)."""
    drops_syns = b"".join(struct.pack("HBBI", *step) for step in (
        (0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 2), (6, 0, 0, 0), (6, 0, 0, 0xFFFFFFFF)))
    steps = ctypes.create_string_buffer(drops_syns, len(drops_syns))
    listener.setsockopt(socket.SOL_SOCKET, 26,  # SO_ATTACH_FILTER
                        struct.pack("HP", len(drops_syns) // 8, ctypes.addressof(steps)))
    listener.setsockopt(socket.IPPROTO_IP, 21, 255)  # IP_MINTTL


words, command = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
deaf = words[0] == "deaf"
listeners, clients = [], []
for word in words[deaf:]:
    listener = open_socket(word)
    listener.bind(address_of(word))
    listener.listen(8)
    client = socket.socket(listener.family)
    client.connect(listener.getsockname()[:2] if listener.family != socket.AF_UNIX else address_of(word))
    clients.append((word, client))
    if deaf:
        make_deaf(listener)
    listeners.append(listener)

fds = [listener.fileno() for listener in listeners]
inodes = {os.fstat(fd).st_ino for fd in fds}
os.environ["WEIR_HANDED"] = ",".join(map(str, fds))
program = subprocess.Popen(command, pass_fds=fds)
signal.signal(signal.SIGTERM, lambda *_: program.terminate())
for listener in listeners:
    listener.close()
for word, client in clients:
    try:
        client.settimeout(20)
        answer = client.recv(100)
        said = "answered" if answer and int(answer) in inodes else "answered by another socket"
    except OSError as error:
        said = f"lost: {error}"
    print(word, said, flush=True)
print("all told", flush=True)
program.wait()
