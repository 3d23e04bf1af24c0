#!/bin/bash
# SPDX-License-Identifier: MIT
# A wait under a mask (pselect, ppoll, epoll_pwait) in which something is ready does not deliver a
# signal that is pending and that its mask lets in: it returns how many are ready, with the thread's
# own mask in force again, and the signal stays pending. select(2) has such a call for the same as
# sigprocmask, select and sigprocmask in one, of which the first would deliver it. So a server that
# lets SIGTERM in nowhere but in its wait, as the manual page advises, does not end as long as each
# wait finds a client's descriptor ready.
#
# Seen: Linux 6.18 on x86-64, Python 3.11.2 of Debian 12, glibc 2.36:
#   ppoll, ready: 100000 of 100000 returned 1, SIGTERM pending: True
#   pselect, ready: 100000 of 100000 returned 1, SIGTERM pending: True
#   epoll_pwait, ready: 100000 of 100000 returned 1, SIGTERM pending: True
#   ppoll, nothing ready: returned -1 (EINTR), SIGTERM pending: False
#
# Exits with 1 if that has changed. (/usr/bin/python3 is Debian's own.)
set -eu
exec /usr/bin/python3 - <<'END'
import ctypes
import errno
import os
import select
import signal
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
CALLS = 100000
reader, writer = os.pipe()
os.write(writer, b"x")
epoll = select.epoll()
epoll.register(reader, select.EPOLLIN)

signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
nothing_blocked = bytes(128)  # a sigset_t


def is_pending():
    return signal.SIGTERM in signal.sigpending()


def ppoll():
    entry = ctypes.create_string_buffer(struct.pack("ihh", reader, select.POLLIN, 0))
    return libc.ppoll(entry, 1, None, nothing_blocked)


def pselect():
    words = [0] * 16
    words[reader // 64] = 1 << reader % 64
    inputs = ctypes.create_string_buffer(struct.pack("16Q", *words))
    return libc.pselect(reader + 1, inputs, None, None, None, nothing_blocked)


def epoll_pwait():
    return libc.epoll_pwait(epoll.fileno(), ctypes.create_string_buffer(12), 1, -1, nothing_blocked)


as_seen = True
for call in ppoll, pselect, epoll_pwait:
    returned = sum(call() == 1 for _ in range(CALLS))
    print(f"{call.__name__}, ready: {returned} of {CALLS} returned 1, SIGTERM pending: {is_pending()}")
    as_seen = as_seen and returned == CALLS and is_pending()
os.read(reader, 1)
result = ppoll()
error = errno.errorcode.get(ctypes.get_errno())
print(f"ppoll, nothing ready: returned {result} ({error}), SIGTERM pending: {is_pending()}")
sys.exit(not (as_seen and result == -1 and error == "EINTR" and not is_pending()))
END
