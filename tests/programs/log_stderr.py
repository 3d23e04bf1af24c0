# SPDX-License-Identifier: MIT
"""log_stderr.py KIND OUT COMMAND...: runs COMMAND with a stderr to which nothing can be written.

KIND: pipe, fifo, socket (full), terminal (stopped), background (a terminal that stops background
processes which write), gone (a pipe without a reader). At SIGUSR1 its reader comes to life: what is
written is copied to OUT from then on. Says "flags 0" on stdout when COMMAND has ended and nobody
has made its stderr non-blocking.
"""

import fcntl
import os
import pty
import signal
import socket
import sys
import termios
import threading

kind, out, command = sys.argv[1], sys.argv[2], sys.argv[3:]


def fill(fd):
    """By an open file of our own: the command's is blocking, and stays so."""
    own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    for size in 4096, 1:
        try:
            while True:
                os.write(own, b"#" * size)
        except BlockingIOError:
            pass
    os.close(own)


def make():
    """The reader's end, and the command's."""
    if kind in ("terminal", "background"):
        return pty.openpty()
    if kind == "socket":
        ends = socket.socketpair()
        try:
            while True:
                ends[1].send(b"#" * 512, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        return [end.detach() for end in ends]
    if kind == "fifo":
        os.mkfifo(out + ".fifo")
        reader = os.open(out + ".fifo", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(out + ".fifo", os.O_WRONLY)
        os.set_blocking(reader, True)
    else:
        reader, writer = os.pipe()
    if kind == "gone":
        os.close(reader)
        return None, writer
    fill(writer)
    return reader, writer


def become(writer):
    os.setsid()
    if kind == "background":
        fcntl.ioctl(writer, termios.TIOCSCTTY, 0)
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
        os.setpgid(0, 0)
    print("pid", os.getpid(), flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.dup2(writer, 2)
    os.closerange(3, 100)
    os.execvp(command[0], command)


def copy(reader):
    with open(out, "wb", buffering=0) as into:
        try:
            while data := os.read(reader, 65536):
                into.write(data)
        except OSError:
            pass


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    reader, writer = make()
    if kind == "terminal":
        termios.tcflow(writer, termios.TCOOFF)
    if kind == "background":
        modes = termios.tcgetattr(writer)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(writer, termios.TCSANOW, modes)
    child = os.fork()
    if not child:
        become(writer)

    def read():
        signal.sigwait({signal.SIGUSR1})
        if kind == "terminal":
            termios.tcflow(writer, termios.TCOON)
        copy(reader)

    threading.Thread(target=read, daemon=True).start()
    status = os.waitpid(child, 0)[1]
    print("flags", fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK, flush=True)
    print("status", os.waitstatus_to_exitcode(status), flush=True)


main()
