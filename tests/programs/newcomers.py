#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""newcomers.py KIND PORT SECONDS RATE: so many new clients a second of 127.0.0.1, and how they fared. KIND: connect
(no more), banner (reads what the server says first), http, dns (over TCP). Prints a count of each end, and of those
that were not refused how long the slowest took."""
import collections
import socket
import sys
import threading
import time

kind, port, seconds, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
PATIENCE = 20
ASKS = {"http": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "dns": b"\0\x1d" + b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1"}
ends, slowest, lock = collections.Counter(), 0.0, threading.Lock()


def fares(client):
    try:
        client.connect(("127.0.0.1", port))
        if kind == "connect":
            return "let in"
        client.sendall(ASKS.get(kind, b""))
        return "answered" if client.recv(4096) else "ended"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "reset"
    except socket.timeout:
        return f"none in {PATIENCE} s"


def comes():
    global slowest
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        began = time.monotonic()
        end = fares(client)
        took = time.monotonic() - began
    with lock:
        ends[end] += 1
        if end in ("answered", "let in"):
            slowest = max(slowest, took)


began, clients = time.monotonic(), []
while time.monotonic() - began < seconds:
    clients.append(threading.Thread(target=comes))
    clients[-1].start()
    time.sleep(max(0, began + len(clients) / rate - time.monotonic()))
for client in clients:
    client.join()
print(", ".join(f"{count} {end}" for end, count in sorted(ends.items())), f"| {slowest * 1000:.0f} ms")
