#!/bin/bash
# SPDX-License-Identifier: MIT
# SO_ATTACH_FILTER (a classic BPF filter, socket(7)) has always been for everybody. On newer kernels a TCP
# socket takes one only from a process with CAP_NET_ADMIN: EPERM otherwise, for a filter that takes all
# as well; a UDP socket takes it from anybody, as before. What attaches filters to listeners as root in a
# trial and drops privileges in production finds out there.
#
# Seen: Linux 6.18 on x86-64, Python 3.11.2 of Debian 12:
#   root: TCP taken, UDP taken
#   nobody: TCP EPERM, UDP taken
#
# Exits with 1 if it is otherwise, as on an older kernel. (/usr/bin/python3 is Debian's own.)
set -eu
exec unshare --net /usr/bin/python3 - <<'END'
import ctypes
import os
import socket
import struct
import sys

SO_ATTACH_FILTER = 26
take_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xffffffff))  # BPF_RET
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(take_all))


def attach(kind):
    with socket.socket(socket.AF_INET, kind) as made:
        try:
            made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except PermissionError:
            return "EPERM"
    return "taken"


seen = []
for user in "root", "nobody":
    if user == "nobody":
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    seen.append((attach(socket.SOCK_STREAM), attach(socket.SOCK_DGRAM)))
    print(f"{user}: TCP {seen[-1][0]}, UDP {seen[-1][1]}", flush=True)
sys.exit(seen != [("taken", "taken"), ("EPERM", "taken")])
END
