#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""h2_client.py PORT|PATH HOW [COUNT]: HTTP/2 in the clear, by hand: says what becomes of its streams, which
of the server's frames have come, and how the connection ends ("end", "reset").

    slow N      asks for /slowN, and short ones beside it
    stream N    asks for /streamN
    upload N    sends the body of a POST in N pieces, with pauses
    idle LAST   asks, and then lets a frame be the last that nobody answers: priority, window, rst
                (of a stream that has been answered), or none
    upgrade N   asks for /slowN by HTTP/1.1 with Upgrade: h2c, and for / behind that
    stay        asks, and goes on sending when the server has ended the connection
    mute        asks, and answers no PING from then on
    late        asks, and again a second after the server has told it not to, before it has read that
    loop        one request after the other, each when the last is answered, until told to stop

"ready" is said when the connection is as it is to be when the drain begins."""
import select
import socket
import struct
import sys
import time

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + \
        struct.pack(">I", stream) + payload


def literal(name, value):
    """RFC 7541, 6.2.2: never Huffman, never in a table."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Client:
    def __init__(self, port):
        if port.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(port)
        else:
            self.sock = socket.create_connection(("127.0.0.1", int(port)))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got, self.next, self.open = b"", 1, {}
        self.answered, self.failed, self.goaways, self.beside = 0, 0, [], []
        self.last, self.pings, self.mute = b"", 0, False

    def begin(self):
        self.sock.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 0)))

    def ask(self, path, method=b"GET", ends=True):
        stream, self.next = self.next, self.next + 2
        block = b"".join((literal(b":method", method), literal(b":scheme", b"http"),
                          literal(b":path", path.encode()), literal(b":authority", b"localhost")))
        self.open[stream] = b""
        self.sock.sendall(frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block))
        return stream

    def on_frame(self, kind, flags, stream, payload):
        if kind == DATA and stream in self.open:
            self.open[stream] += payload
            if payload:
                update = struct.pack(">I", len(payload))
                self.sock.sendall(frame(WINDOW, 0, 0, update) + frame(WINDOW, 0, stream, update))
        elif kind == SETTINGS and not flags & ACK:
            self.sock.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            if not self.mute:
                self.sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == PING:
            self.pings += 1
        elif kind == GOAWAY:
            last, error = struct.unpack(">II", payload[:8])
            self.goaways.append("most" if last == 0x7fffffff else last)
            self.beside.append(len(self.open))
            self.failed += error != 0
        elif kind == RST_STREAM and stream in self.open:
            del self.open[stream]
            self.failed += 1
        if kind in (DATA, HEADERS) and flags & END_STREAM and stream in self.open:
            self.last = self.open.pop(stream)
            self.answered += 1

    def run(self, seconds, until=lambda: False):
        """Reads frames for so long, or until that is so. False: the connection has ended."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return True
            more = self.sock.recv(65536)
            if not more:
                return False
            self.got += more
            while len(self.got) >= 9:
                length = int.from_bytes(self.got[:3], "big")
                if len(self.got) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.got[3:9])
                self.on_frame(kind, flags, stream, self.got[9:9 + length])
                self.got = self.got[9 + length:]
        return True

    def all_answered(self):
        return not self.open

    def ping(self):
        """A round trip, behind which all that the server had to say has come."""
        had = self.pings
        self.sock.sendall(frame(PING, 0, 0, b"12345678"))
        self.run(10, lambda: self.pings > had)


def say(what):
    print(what, flush=True)


def upgrade(client, path):
    client.sock.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.sock.recv(1)
    say(head.split(b"\r\n")[0].decode())
    client.open[1] = b""
    client.next = 3
    client.begin()


def main():
    port, how = sys.argv[1:3]
    count = sys.argv[3] if len(sys.argv) > 3 else ""
    client = Client(port)
    upgrade(client, "/slow" + count) if how == "upgrade" else client.begin()
    if how == "upgrade":
        client.ask("/")
        client.run(10, lambda: len(client.open) == 1)
    elif how != "slow":
        client.ask("/")
        client.run(10, client.all_answered)
    if how != "slow":
        client.ping()
    if how == "slow":
        client.ask("/slow" + count)
        for _ in range(20):
            client.ask("/")
            client.run(10, lambda: len(client.open) == 1)
        client.ping()
    elif how == "stream":
        client.ask("/stream" + count)
        client.run(10, lambda: any(client.open.values()))
    elif how == "upload":
        stream = client.ask("/", b"POST", ends=False)
        client.ping()
    elif how == "idle" and count == "priority":
        client.sock.sendall(frame(PRIORITY, 0, 1, b"\0\0\0\0\1"))
    elif how == "idle" and count == "window":
        client.sock.sendall(frame(WINDOW, 0, 0, b"\0\0\0\1"))
    elif how == "idle" and count == "rst":
        client.sock.sendall(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
    say("ready")
    began = time.monotonic()
    client.mute = how == "mute"
    if how == "upload":
        for _ in range(int(count)):
            time.sleep(0.4)
            client.sock.sendall(frame(DATA, 0, stream, b"piece"))
        client.sock.sendall(frame(DATA, END_STREAM, stream, b""))
    if how == "late":
        select.select([client.sock], [], [], 20)
        time.sleep(1)
        client.ask("/")
    alive, ending = True, "open"
    try:
        while alive and time.monotonic() - began < 20:
            if how == "loop" and not client.goaways and not client.open:
                client.ask("/")
            asks = how == "loop" and not client.goaways
            alive = client.run(20, client.all_answered if asks else lambda: False)
        ending = "open" if alive else "end"
        if how == "stay":
            client.sock.sendall(frame(PING, 0, 0, b"12345678") * 2)
            time.sleep(1)
            client.sock.sendall(frame(PING, 0, 0, b"12345678"))
            ending += ", and " + ("more" if client.sock.recv(1) else "end")
    except OSError as error:
        ending = type(error).__name__
    say(f"answered {client.answered}, failed {client.failed}, open {len(client.open)}, "
        f"last {client.last.decode().split()[-1:]}, goaways {client.goaways} "
        f"beside {client.beside}: {ending}")


main()
