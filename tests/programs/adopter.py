#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# adopter.py [options] [unlink] [twice] [never] [apart] [tries] [again] [asks] ADDRESS...: a server that binds and
# listens, and answers each client with the number of its listener's inode. options: says what its sockets are
# like; unlink: takes a path away before; twice: binds and closes, and binds again; never: binds and
# does not listen; apart: a child of its own binds each; tries: listens on a port of the kernel's before, and
# closes all that it has not opened; again: at SIGTERM closes all, binds again, and ends; asks:
# connects to each address before, and ends where somebody is there, and leaves a path as it is;
# late=FILE: binds when there is no such file.
# ADDRESS: HOST/PORT, 6only/HOST/PORT, group/HOST/PORT (SO_REUSEPORT), a path, or @NAME.
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time

MODES = {"options", "unlink", "twice", "never", "apart", "tries", "again", "asks"}


def address_of(word):
    if word.startswith("@"):
        return "\0" + word[1:]
    if word.startswith("/"):
        return word
    host, port = word.split("/")[-2:]
    return host, int(port)


def open_socket(word):
    host = address_of(word)[0]
    family = socket.AF_UNIX if word[0] in "/@" else socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, word.startswith("6only/"))
    if word.startswith("group/"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return listener


# What is set, and what is not but may have been by the predecessor.
INTS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.SOL_SOCKET, socket.SO_RCVBUF, 40000),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, 50000), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3), (socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 17),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 9000),
        (socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1), (socket.IPPROTO_IP, socket.IP_TOS, 16),
        (socket.IPPROTO_IP, 21, None), (socket.SOL_SOCKET, socket.SO_REUSEPORT, None),
        (socket.SOL_SOCKET, 72, None), (socket.IPPROTO_TCP, socket.TCP_SYNCNT, None)]


def set_options(listener):
    for level, name, value in INTS:
        if value is not None:
            listener.setsockopt(level, name, value)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 4))
    listener.setblocking(False)


def say_options(listener):
    fd = listener.fileno()
    print("descriptor", fd, "flags", fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD))
    for level, name, _ in INTS:
        print("option", level, name, listener.getsockopt(level, name))
    print("timeout", struct.unpack("ll", listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)))
    print("linger", struct.unpack("ii", listener.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)))
    with open(f"/proc/{os.getpid()}/net/tcp", encoding="ascii") as sockets:
        inode = str(os.fstat(fd).st_ino)
        for line in map(str.split, sockets):
            if line[9] == inode:
                print("state", line[3])


def serve(listeners, parent):
    print("serving", "WEIR_HANDED" in os.environ, flush=True)
    while parent in (None, os.getppid()):
        for listener in select.select(listeners, [], [], 1)[0]:
            try:
                client = listener.accept()[0]
            except OSError:
                continue
            client.sendall(str(os.fstat(listener.fileno()).st_ino).encode())
            client.close()


def somebody_is_at(word):
    with open_socket(word) as probe:
        try:
            probe.connect(address_of(word))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def bind_again(listeners, words):
    for listener in listeners:
        listener.close()
    for word in words:
        listener = open_socket(word)
        listener.bind(address_of(word))
        listener.listen(100)
    print("bound again", flush=True)
    os._exit(0)


def main():
    modes = [word for word in sys.argv[1:] if word in MODES]
    late = [word[5:] for word in sys.argv[1:] if word.startswith("late=")]
    words = [word for word in sys.argv[1:] if word not in MODES and not word.startswith("late=")]
    if "tries" in modes:
        with socket.create_server(("127.0.0.1", 0)):
            pass
        os.closerange(3, 65536)
    print("begins", flush=True)
    while any(map(os.path.exists, late)):
        time.sleep(0.05)
    if "apart" in modes:
        while len(words) > 1 and os.fork() == 0:
            words = words[1:]
        words = words[:1]
    listeners = []
    for word in words:
        if "asks" in modes and somebody_is_at(word):
            sys.exit("somebody is at " + word)
        if "unlink" in modes and word.startswith("/") and os.path.exists(word):
            os.unlink(word)
        if "twice" in modes:
            with open_socket(word) as probe:
                probe.bind(address_of(word))
        listener = open_socket(word)
        if "options" in modes:
            set_options(listener)
        listener.bind(address_of(word))
        if "options" in modes:
            print("listens by itself", listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if "never" not in modes:
            listener.listen(100)
        if "options" in modes:
            say_options(listener)
        listeners.append(listener)
    if "never" in modes:
        print("bound", flush=True)
        return
    if "again" in modes:
        signal.signal(signal.SIGTERM, lambda *_: bind_again(listeners, words))
    serve(listeners, os.getppid() if "apart" in modes else None)


if __name__ == "__main__":
    main()
