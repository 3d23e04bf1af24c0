# SPDX-License-Identifier: MIT
"""strange_page.py FILE SOUND TREE_PID [ACT]: makes a state page that says that it is of a tree, out
of a sound one, and tells who opens it: "opened", by a lease (fcntl(2), F_SETLEASE).

With ACT "keep" the process maps the page as well, and never gives its lease up."""

import fcntl
import mmap
import os
import signal
import struct
import sys
import time

path, sound, tree = sys.argv[1], sys.argv[2], int(sys.argv[3])


def start_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


page = bytearray(open(sound, "rb").read())
me = os.getpid()
# struct page (state_page.h): pid, its namespace, start; the tree's pid and start.
struct.pack_into("=iIQiIQ", page, 72, me, os.stat("/proc/self/ns/pid").st_ino, start_of(me), tree, 0,
                 start_of(tree))
name = f"{path}/{me}.{start_of(me)}.{os.stat('/proc/self/ns/pid').st_ino}"
with open(name, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
    file.write(page)
fd = os.open(name, os.O_RDONLY)


def opened(*_):
    print("opened", flush=True)
    if sys.argv[4:] != ["keep"]:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


signal.signal(signal.SIGIO, opened)
lease = fcntl.F_WRLCK
if sys.argv[4:] == ["keep"]:
    mapped = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    lease = fcntl.F_RDLCK
fcntl.fcntl(fd, fcntl.F_SETLEASE, lease)
print("ready", name, flush=True)
while True:
    time.sleep(1)
