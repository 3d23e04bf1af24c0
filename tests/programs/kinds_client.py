#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""kinds_client.py ADDRESS [HOW]: clients of kinds.py, at a port, an abstract name ("@...") or by
MPTCP ("mptcp:PORT"). When they write "ready" the server is to be drained; then they write what
became of each. The server closes what is idle, at once, and the rest once it is answered.

all     one that was answered, one that has sent nothing, one whose answer takes 2 s
whole   ten that speak as soon as they are greeted, whose answer takes 2 s
half    the same with half a line, whose rest comes a second later
late    two that come at once, and wait to be greeted
busy    ten that never rest, and look before they send"""
import socket
import sys
import threading
import time

address, how = (sys.argv[1:] + ["all"])[:2]


def connect():
    if address.startswith("@"):
        made = socket.socket(socket.AF_UNIX)
        made.connect("\0" + address[1:])
    else:
        protocol = socket.IPPROTO_MPTCP if address.startswith("mptcp:") else 0
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        made.connect(("127.0.0.1", int(address.split(":")[-1])))
    made.settimeout(20)
    return made


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def receive(connection):
    try:
        return connection.recv(100)
    except OSError as error:
        return repr(error).encode()


def says(name, connection, wanted=b""):
    """An answer, if one is wanted, and then the end."""
    got = receive(connection) if wanted else b""
    after = receive(connection) if got == wanted else b"-"
    good = got == wanted and after == b""
    say(f"{name}: {'good' if good else ('LOST', got, after)}")


def all_kinds():
    answered, silent, slow = connect(), connect(), connect()
    for line in b"a\n", b"b\n":
        answered.sendall(line)
        receive(answered)
        time.sleep(0.05)
    slow.sendall(b"slow 2\n")
    time.sleep(0.5)
    say("ready")
    says("idle", answered)
    says("silent", silent)
    says("slow", slow, b"ok slow 2\n")


def greeted(whole):
    connections = []
    for _ in range(10):
        made = connect()
        receive(made)
        made.sendall(b"slow 2\n" if whole else b"slo")
        connections.append(made)
    time.sleep(0.2)
    say("ready")
    if not whole:
        time.sleep(1)
        for each in connections:
            try:
                each.sendall(b"w 0\n")
            except OSError:
                pass
    for each in connections:
        says("greeted", each, b"ok slow 2\n" if whole else b"ok slow 0\n")


def never_rests():
    connection = connect()
    while True:
        connection.setblocking(False)
        try:
            if connection.recv(1, socket.MSG_PEEK) == b"":
                say("busy: good")
                return
        except BlockingIOError:
            pass
        connection.settimeout(20)
        try:
            connection.sendall(b"hello\n")
            got = connection.recv(100)
        except OSError as error:
            got = repr(error).encode()
        if got != b"ok hello\n":
            say(f"busy: LOST {got}")
            return
        time.sleep(0.002)


def waits_for_greeting():
    connections = [connect(), connect()]
    say("ready")
    for each in connections:
        says("greeted", each, b"hello\n")


if how == "all":
    all_kinds()
elif how == "late":
    waits_for_greeting()
elif how == "busy":
    threads = [threading.Thread(target=never_rests) for _ in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    say("ready")
    for thread in threads:
        thread.join()
else:
    greeted(how == "whole")
