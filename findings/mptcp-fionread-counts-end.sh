#!/bin/bash
# SPDX-License-Identifier: MIT
# FIONREAD of an MPTCP connection whose peer has shut down its sending side says 1 although there is no
# byte to read: the peer's end (DATA_FIN) is counted as one, which it is in the sequence space. A look
# (MSG_PEEK) finds the end of file. On plain TCP FIONREAD says 0 there. So a program that waits until the
# queue is empty before it closes waits for ever. And a socket filter, which plain TCP takes on a
# listener, MPTCP refuses (EOPNOTSUPP), as it does IP_MINTTL.
#
# Seen: Linux 6 on x86-64, Python 3.11.2 of Debian 12:
#   TCP: FIONREAD 0, a look finds b'', a filter: taken
#   MPTCP: FIONREAD 1, a look finds b'', a filter: EOPNOTSUPP
#
# In a network of its own; exits with 1 if that has changed. (/usr/bin/python3 is Debian's own.)
set -eu
exec unshare --net --map-root-user sh -c 'ip link set lo up && exec /usr/bin/python3 -' <<'END'
import ctypes
import errno
import fcntl
import socket
import struct
import sys
import termios
import time

SO_ATTACH_FILTER = 26
take_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xffffffff))  # BPF_RET
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(take_all))


def look(name, protocol):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    client.connect(listener.getsockname())
    server = listener.accept()[0]
    client.sendall(b"x")
    server.recv(1)
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    queued, = struct.unpack("i", fcntl.ioctl(server, termios.FIONREAD, b"\0\0\0\0"))
    seen = server.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        taken = "taken"
    except OSError as error:
        taken = "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else str(error)
    print(f"{name}: FIONREAD {queued}, a look finds {seen}, a filter: {taken}", flush=True)
    return queued, seen, taken


plain = look("TCP", socket.IPPROTO_TCP)
multi = look("MPTCP", socket.IPPROTO_MPTCP)
sys.exit(plain != (0, b"", "taken") or multi != (1, b"", "EOPNOTSUPP"))
END
