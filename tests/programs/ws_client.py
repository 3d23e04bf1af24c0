# SPDX-License-Identifier: MIT
"""ws_client.py PORT HOW: a WebSocket client that keeps the truth (RFC 6455). It has its first message
answered, prints "ready" when it has said the last of what HOW wants, and at the end
"answered N of M, closed CODE, pong N: end|reset|open".

HOW:
  idle      says nothing more
  pong      sends a PONG, which nobody answers
  slow N    sends a message that is answered after N seconds
  none      sends a message that is never answered
  nones     one each 0.3 s, until it is closed
  loop      asks again as soon as it has been answered
  halves    sends a message in two parts, cut in the midst of a frame, the second in the drain
  silent    idle, and it answers no Close
"""
import os
import select
import socket
import struct
import sys
import time

port, how, *rest = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)))
connection.settimeout(30)
asked = answered = pongs = 0
closed = "no"
unread = b""


def frame(opcode, payload, fin=True):
    mask = os.urandom(4)
    length = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode, 0x80 | (length if length < 126 else 126)])
    head += struct.pack(">H", length) if length > 125 else b""
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def ask(text):
    global asked
    connection.sendall(frame(1, text))
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
    """The next frame: whether it was a Close."""
    global answered, closed, pongs
    opcode, length = take(2)
    if length == 126:
        length, = struct.unpack(">H", take(2))
    payload = take(length)
    if opcode & 15 == 8:
        closed = struct.unpack(">H", payload[:2])[0] if payload else "without"
        if how != "silent":
            connection.sendall(frame(8, payload[:2]))
    elif opcode & 15 == 10:
        pongs += 1
    elif opcode & 0x88 == 0x80:  # a server pings after a while, too
        answered += 1


connection.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
                   b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
while b"\r\n\r\n" not in unread:
    unread += connection.recv(65536)
head, unread = unread.split(b"\r\n\r\n", 1)
assert head.startswith(b"HTTP/1.1 101 "), head
ask(b"hello")
while answered < 1:
    hear()
if how == "pong":
    connection.sendall(frame(9, b"?"))
    while pongs < 1:
        hear()
    connection.sendall(frame(10, b"!"))
elif how == "slow":
    ask(b"slow " + rest[0].encode())
elif how in ("none", "nones"):
    ask(b"none")
elif how == "halves":
    whole = frame(1, b"12345", fin=False) + frame(0, b"67890" * 30)
    connection.sendall(whole[:30])
time.sleep(0.2)  # it has been read
print("ready", flush=True)
end = "open"
try:
    if how == "halves":
        await_drain()
        connection.sendall(whole[30:])
        asked += 1
    while True:
        while how == "nones" and closed == "no" and not select.select([connection], [], [], 0.3)[0]:
            ask(b"none")
        if how == "loop" and closed == "no":
            ask(b"again")
        hear()
except EOFError:
    end = "end"
except ConnectionError:
    end = "reset"
except socket.timeout:
    pass
print(f"answered {answered} of {asked}, closed {closed}, pong {pongs}: {end}", flush=True)
