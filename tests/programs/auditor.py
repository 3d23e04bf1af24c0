#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""auditor.py SEED PORT PROTOCOL CLIENTS SECONDS mode=MODE [WORD=REQUEST...]

Random clients that keep the truth of each connection, beside what a drain says of it. PROTOCOL is
http, line, redis or memcached; WORD is fast, slow or large, and REQUEST the path or the command of
such a request. They begin within SECONDS ("ready" when all may have) and end by themselves, or soon
after TERM. Standard output gets one JSON line a connection, and a summary.

A client looks before it sends. A request is answered, or of the others the first is

  lost      an answer came in part; or the request, or a part of it, was sent on a connection that was
            still established after the send
  crossed   its send met the server's FIN or RST: nobody has lost it, the client knows
  told      it followed a request whose answer said "Connection: close": the same

  left      the client closed it before its answer: none but it knows that it waits for none

Who has reset a connection, or had its answers whole, has lost nothing. Whose handshake the server's
kernel has forgotten (TCP_DEFER_ACCEPT, tcp(7)), and has sent nothing, has not either."""
import json
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

seed, port, protocol, clients, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
words = dict(word.split("=", 1) for word in sys.argv[6:])
ESTABLISHED = 1
stop = threading.Event()
output = threading.Lock()
connections = []


class Over(Exception):
    """The connection has ended, or the run."""


def request(word):
    what = words.get(word, words["fast"])
    if protocol == "http":
        return f"GET {what} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return f"{what}\r\n".encode()


class Answers:
    """Finds the ends of answers in the bytes that come."""

    def __init__(self):
        self.bytes = b""
        self.rest = 0  # of a body
        self.notice = False
        self.failed = 0

    def whole(self, data):
        """Returns how many answers these bytes have completed."""
        self.bytes += data
        count = 0
        while self.one():
            count += 1
        return count

    def one(self):
        if not self.rest and not (self.bytes and self.begin()):
            return False
        taken = min(self.rest, len(self.bytes))
        self.bytes = self.bytes[taken:]
        self.rest -= taken
        return self.rest == 0

    def begin(self):
        """Sets how long the answer at the beginning is, if its head is whole."""
        end = b"\r\n\r\n" if protocol == "http" else b"\r\n"
        head, found, _ = self.bytes.partition(end)
        if not found:
            return False
        self.rest = len(head) + len(end)
        if protocol == "http":
            fields = head.lower().split(b"\r\n")
            self.failed += b" 200" not in fields[0]
            for field in fields[1:]:
                name, _, value = field.partition(b":")
                if name == b"content-length":
                    self.rest += int(value)
                elif name == b"connection" and b"close" in value:
                    self.notice = True
        elif protocol == "redis" and head[:1] == b"$" and head != b"$-1":
            self.rest += int(head[1:]) + 2
        elif protocol == "memcached" and head[:6] == b"VALUE ":
            self.rest += int(head.split()[3]) + len(b"\r\nEND\r\n")
        return True

    def in_part(self):
        return bool(self.rest or self.bytes)


class Connection:
    def __init__(self, number, kind, rng, small):
        self.number, self.kind, self.rng = number, kind, rng
        self.sent = self.asked = self.answered = self.received = 0
        self.half = False
        self.crossed_at = self.told_at = None  # the first request of that kind
        self.end = "open"
        self.heard_at = self.quiet = 0
        self.left_at = 0
        self.local = 0
        self.answers = Answers()
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connections.append(self)

    def connect(self):
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        while not self.ready(0.05, select.POLLOUT):
            if stop.is_set():
                self.end = "unconnected"
                raise Over
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.end = "refused"
            raise Over
        self.local = self.socket.getsockname()[1]

    def ready(self, seconds, events):
        poll = select.poll()
        poll.register(self.socket, events)
        return bool(poll.poll(seconds * 1000))

    def receive(self, most=65536):
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.ended("reset")
        if not data:
            self.ended("eof")
        self.received += len(data)
        self.heard_at = time.monotonic()
        self.answered += self.answers.whole(data)
        if self.answers.notice and self.told_at is None:
            self.told_at = self.answered + self.answers.in_part()

    def wait(self, seconds, answered=False):
        """Reads what comes for so long, or until all is answered."""
        until = time.monotonic() + seconds
        while not (answered and self.answered == self.asked):
            left = until - time.monotonic()
            if left <= 0:
                return
            if stop.is_set():
                raise Over
            if self.ready(min(left, 0.05), select.POLLIN):
                self.receive()

    def sleep(self, seconds):
        """Reads nothing."""
        if stop.wait(seconds):
            raise Over

    def is_established(self):
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return struct.unpack("B", info)[0] == ESTABLISHED

    def send(self, data, whole):
        """Sends what ends so many requests; none: a part of one."""
        while self.ready(0, select.POLLIN):
            self.receive()
        if self.told_at is not None and self.told_at <= self.asked and not self.half:
            self.wait(60)  # an HTTP client sends no more
            raise Over
        try:
            count = self.socket.send(data)
        except OSError:
            self.wait(60)
            raise Over from None
        assert count == len(data)
        if self.crossed_at is None and not self.is_established():
            self.crossed_at = self.asked
        self.sent += count
        self.asked += whole
        self.half = whole == 0

    def ask(self, word):
        self.send(request(word), 1)

    def careful(self):
        while True:
            self.ask("fast")
            self.wait(60, answered=True)
            self.wait(self.rng.uniform(0, 0.03))

    def resting(self):
        while True:
            self.ask("fast")
            self.wait(60, answered=True)
            self.wait(self.rng.uniform(0.1, 1.5))

    def pipelined(self):
        while True:
            count = self.rng.randint(2, 5)
            self.send(request("fast") * count, count)
            # By any other protocol or mode an answer tells nothing of the requests behind it.
            if self.rng.random() < 0.3 and protocol == "http" and words["mode"] == "protocol":
                self.ask("slow")
            self.wait(60, answered=True)
            self.wait(0.005)
            self.wait(self.rng.uniform(0, 0.2))

    def torn(self):
        while True:
            data = request("fast")
            at = self.rng.randint(1, len(data) - 1)
            self.send(data[:at], 0)
            self.wait(self.rng.uniform(0, 0.4))
            self.send(data[at:], 1)
            self.wait(60, answered=True)
            self.wait(self.rng.uniform(0, 0.1))

    def slow(self):
        while True:
            self.ask("slow")
            self.wait(60, answered=True)
            self.wait(0.005)

    def half_sent(self):
        if self.rng.random() < 0.5:
            self.ask("fast")
            self.wait(60, answered=True)
        self.send(request("fast")[:-1], 0)
        self.wait(60)

    def silent(self):
        self.wait(60)

    def slow_reader(self):
        self.ask("large")
        pause = self.rng.uniform(0.001, 0.1)
        while True:
            self.sleep(pause)
            self.receive(self.rng.randint(1000, 60000))

    def deaf(self):
        self.ask("large")
        self.sleep(60)

    def leaver(self):
        self.ask(self.rng.choice(["slow", "large"]))
        self.sleep(self.rng.uniform(0, 1))
        self.end = "left"
        if self.rng.random() < 0.5:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if self.is_established():  # else the server was first
                self.end = "has reset"
        self.left_at = time.time()
        self.socket.close()
        raise Over

    def finish(self):
        """What is on its way is taken. It stays open, if it is, until all is noted."""
        until = time.monotonic() + 5
        try:
            while self.end == "open" and time.monotonic() < until:
                if self.ready(0.05, select.POLLIN):
                    self.receive()
        except Over:
            pass
        if self.end == "open" and not self.sent and not self.is_known_to_server():
            self.end = "forgotten"

    def is_known_to_server(self):
        for path in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(path) as file:
                for line in file:
                    _, local, remote, state = line.split()[:4]
                    if (local[-4:], remote[-4:]) == (f"{port:04X}", f"{self.local:04X}") and state != "03":
                        return True
        return False

    def ended(self, how):
        self.end = how
        self.quiet = time.monotonic() - self.heard_at
        raise Over from None

    def verdict(self):
        """Returns "lost", "crossed", "told", "left" or "", and why."""
        if self.end in ("refused", "unconnected", "has reset", "forgotten"):
            return "", ""
        if self.end == "left":
            return "left", ""
        if self.answers.in_part():
            return "lost", "an answer in part"
        if self.answered == self.asked and not self.half:
            return "", ""
        if self.crossed_at is not None and self.crossed_at <= self.answered:
            return "crossed", ""
        if self.told_at is not None and self.told_at <= self.answered:
            return "told", ""
        if self.answered < self.asked:
            return "lost", "a request without an answer"
        return "lost", "a request in part"

    def truth(self):
        verdict, why = self.verdict()
        return {"connection": self.number, "kind": self.kind, "port": self.local, "sent": self.sent,
                "asked": self.asked, "answered": self.answered, "failed": self.answers.failed,
                "received": self.received, "quiet_s": round(self.quiet, 3), "half": self.half, "notice": self.answers.notice,
                "end": self.end, "left_at": self.left_at, "verdict": verdict, "why": why}


KINDS = ["careful", "resting", "pipelined", "torn", "slow", "half_sent", "silent", "slow_reader",
         "deaf", "leaver"]


def client(number):
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(KINDS, [6, 4, 4, 4, 3, 1, 2, 2, 1, 1])[0]
    if stop.wait(rng.choice([0, 0, rng.uniform(0, seconds)])):
        return
    for _ in range(4):
        connection = Connection(number, kind, rng, kind in ("slow_reader", "deaf"))
        try:
            connection.connect()
            getattr(connection, kind)()
        except Over:
            connection.finish()
        if stop.wait(rng.uniform(0, 0.1)):
            return
        kind = "careful"  # and comes again


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    print("ready", file=sys.stderr, flush=True)
    for thread in threads:
        thread.join()
    truths = [connection.truth() for connection in connections]
    for truth in truths:
        print(json.dumps(truth))
    print(json.dumps({"protocol": protocol, "connections": len(truths), "asked": sum(t["asked"] for t in truths),
                      "answered": sum(t["answered"] for t in truths),
                      **{verdict: sum(t["verdict"] == verdict for t in truths)
                         for verdict in ("lost", "crossed", "told", "left")}}))
