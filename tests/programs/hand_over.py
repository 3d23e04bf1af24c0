#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# hand_over.py [deaf] ADDRESS... -- COMMAND...: listens at each address (adopter.py), puts a client into
# each queue, and starts COMMAND with the sockets. Says of each client who has answered it.
import os
import signal
import socket
import subprocess
import sys

from adopter import address_of, open_socket

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
        listener.setsockopt(socket.IPPROTO_IP, 21, 255)  # IP_MINTTL
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
