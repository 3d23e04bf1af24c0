#!/bin/bash
# SPDX-License-Identifier: MIT
# A SIGCHLD that nobody handles is dropped when it is sent, and disturbs no call. But not where the
# process's first thread has it blocked at that moment, as glibc's fork() has all signals from
# version 2.38 on: then it is kept, any other thread takes it, and only there is it found to be
# ignored. A recv() of that thread is restarted without a trace; one with a timeout (SO_RCVTIMEO) ends
# with EINTR, in a program that has no signal handler at all.
#
# Seen: Linux 6.18 on x86-64, Python 3.11.2 of Debian 12, 20 children that end:
#   not blocked: 0 calls interrupted; blocked: 20; blocked, without a timeout: 0
#
# Exits with 1 if that has changed. (/usr/bin/python3 is Debian's own, its recv is called directly,
# since its own would be made again.)
set -eu
exec /usr/bin/python3 - <<'END'
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import threading
import time

CHILDREN = 20
recv = ctypes.CDLL(None, use_errno=True).recv


def interrupted(blocked, timeout):
    ours, theirs = socket.socketpair()
    if timeout:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    count = 0

    def wait():
        nonlocal count
        byte = ctypes.create_string_buffer(1)
        while recv(ours.fileno(), byte, 1, 0) < 0 and ctypes.get_errno() == errno.EINTR:
            count += 1

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    if blocked:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for _ in range(CHILDREN):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED)
        time.sleep(0.02)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    theirs.send(b"x")
    thread.join()
    return count


figures = interrupted(False, True), interrupted(True, True), interrupted(True, False)
print("not blocked: {} calls interrupted; blocked: {}; blocked, without a timeout: {}".format(*figures))
sys.exit(not (figures[0] == 0 and figures[1] >= CHILDREN // 2 and figures[2] == 0))
END
