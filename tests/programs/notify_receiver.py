#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""notify_receiver.py [--full] PATH|@NAME FILE: a service manager's end of sd_notify(3).

Each message becomes a line of FILE: the sender's pid, a space, and the message with its lines
separated by "|". --full: nothing is read, and its queue is full, until it gets HUP."""
import signal
import socket
import struct
import sys

full = sys.argv[1] == "--full"
name, file = sys.argv[-2:]
address = "\0" + name[1:] if name.startswith("@") else name
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(address)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
if full:
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    try:
        while True:
            filler.sendto(b"FILLER=1", address)
    except BlockingIOError:
        pass
with open(file, "a", buffering=1) as out:
    print(0, "listening", file=out)
    if full:
        signal.sigwait([signal.SIGHUP])
    while True:
        text, ancillary, _, _ = receiver.recvmsg(4096, socket.CMSG_SPACE(12))
        pid = [struct.unpack("iii", data)[0] for _, kind, data in ancillary
               if kind == socket.SCM_CREDENTIALS][0]
        print(pid, text.decode().rstrip("\n").replace("\n", "|"), file=out)
