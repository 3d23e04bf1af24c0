#!/bin/bash
# SPDX-License-Identifier: MIT
# membarrier(2)'s MEMBARRIER_CMD_PRIVATE_EXPEDITED takes microseconds, but a process has to register
# first, and that (MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) waits for an RCU grace period where it
# has more than one thread: 10 ms on an idle machine, and seconds beside busy loops. In a process of
# one thread it waits for nothing, and its threads, and the children that it forks, are registered
# with it. The manual page says nothing of either.
#
# Where /sys/kernel/rcu_expedited is 1 grace periods are hurried, and two threads wait no longer than one.
#
# Seen: Linux 6.18 on x86-64, two processors, Python 3.11.2 of Debian 12; medians of nine processes:
#   one thread: 0.043 ms; two threads: 12.099 ms; a forked child's barrier: 0
#
# Exits with 1 if that has changed. (/usr/bin/python3 is Debian's own.)
set -eu
exec /usr/bin/python3 - <<'END'
import ctypes
import os
import statistics
import struct
import sys
import threading
import time

MEMBARRIER, PRIVATE_EXPEDITED, REGISTER = 324, 8, 16  # asm/unistd_64.h, linux/membarrier.h
syscall = ctypes.CDLL(None).syscall


def register():
    begun = time.perf_counter()
    if syscall(MEMBARRIER, REGISTER, 0, 0):
        sys.exit("the kernel has no such call")
    return time.perf_counter() - begun


def in_child(run):
    """What run() says in a process of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, struct.pack("d", run()))
        os._exit(0)
    os.close(writer)
    (value,) = struct.unpack("d", os.read(reader, 8))
    os.close(reader)
    os.wait()
    return value


def alone():
    return register()


def beside_another():
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return register()


def inherited():
    register()
    return in_child(lambda: syscall(MEMBARRIER, PRIVATE_EXPEDITED, 0, 0))


one = statistics.median(in_child(alone) for _ in range(9))
two = statistics.median(in_child(beside_another) for _ in range(9))
child = in_child(inherited)
print(f"one thread: {1000 * one:.3f} ms; two threads: {1000 * two:.3f} ms; "
      f"a forked child's barrier: {child:.0f}")
with open("/sys/kernel/rcu_expedited", encoding="ascii") as hurried:
    waits = hurried.read().strip() == "0"
sys.exit(not ((two > 20 * one) == waits and child == 0))
END
