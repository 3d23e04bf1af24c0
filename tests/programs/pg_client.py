# SPDX-License-Identifier: MIT
"""pg_client.py PORT HOW: a PostgreSQL client that keeps the truth (protocol 3). It logs in, has one
statement answered, prints "ready" when it has asked what HOW wants, and at the end
"answered N of M, told CODE: end|reset|open".

HOW:
  idle          says nothing more
  fresh         has asked nothing yet, and does half a second into the drain
  slow          a statement that lasts two seconds
  rows          one that gives three rows, a second apart
  batch         Parse and Bind, and in the drain Execute and Sync
  transaction   BEGIN, and in the drain COMMIT
  forgotten     BEGIN, and nothing more
  loop          asks again as soon as it has been answered
"""
import os
import socket
import struct
import sys
import time

port, how = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)))
connection.settimeout(40)
asked = answered = 0
told = "nothing"
unread = b""


def message(kind, payload=b""):
    return kind + struct.pack(">I", 4 + len(payload)) + payload


def ask(statement):
    global asked
    connection.sendall(message(b"Q", statement.encode() + b"\0"))
    asked += 1


def await_drain():
    """Until it has begun (goodbye.bash), and what is quiet would have been closed in it."""
    end = time.monotonic() + 30
    while not os.path.exists(os.environ["DRAINS"]) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.7)


def take(n):
    global unread
    while len(unread) < n:
        piece = connection.recv(65536)
        if not piece:
            raise EOFError
        unread += piece
    taken, unread = unread[:n], unread[n:]
    return taken


def hear():
    """The next message: its type."""
    global told
    kind, length = struct.unpack(">cI", take(5))
    payload = take(length - 4)
    if kind == b"E":
        fields = dict((field[:1], field[1:].decode()) for field in payload.split(b"\0") if field)
        told = fields[b"C"]
    return kind


def answer():
    global answered
    while hear() != b"Z":
        pass
    answered += 1


startup = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"
connection.sendall(struct.pack(">I", 4 + len(startup)) + startup)
answer()
answered = 0
if how != "fresh":
    ask("SELECT 1")
    answer()
if how == "slow":
    ask("SELECT 7 FROM pg_sleep(2)")
elif how == "rows":
    ask("SELECT n, repeat('x', 20000), pg_sleep(1) FROM generate_series(1, 3) n")
elif how == "batch":
    connection.sendall(message(b"P", b"\0SELECT 1\0\0\0") + message(b"B", b"\0" * 8))
elif how in ("transaction", "forgotten"):
    ask("BEGIN")
    answer()
time.sleep(0.2)  # it has been read
print("ready", flush=True)
end = "open"
try:
    if how == "fresh":
        await_drain()
        ask("SELECT 1")
    elif how == "batch":
        await_drain()
        connection.sendall(message(b"E", b"\0" * 5) + message(b"S"))
        asked += 1
    elif how == "transaction":
        await_drain()
        ask("COMMIT")
    while True:
        if how == "loop":
            ask("SELECT 1")
        answer()
except EOFError:
    end = "end"
except ConnectionError:
    end = "reset"
except socket.timeout:
    pass
print(f"answered {answered} of {asked}, told {told}: {end}", flush=True)
