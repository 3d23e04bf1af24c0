#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""answer_client.py KIND PORT [ARGUMENT...]: a client of one long exchange. It prints "begun" when the
exchange is in the middle, and at the end "whole", or says what is missing and ends with 1.

  download PATH BYTES SECONDS   GET PATH, whose body of so many zeros it reads slowly, in SECONDS
  upload PATH BYTES SECONDS     PUT PATH with so many zeros, sent slowly, in SECONDS
  ask PATH BODY                 GET PATH, and BODY is the answer's
  pipeline PATH COUNT           COUNT requests at once, whose answers it reads slowly, over 2 s
  flood SECONDS                 /websocket: sends and reads without a pause, in both directions
  lockstep SECONDS ROUNDS [together]
                                /websocket: waits for what comes back, but in one of so many ROUNDS
  pingpong SECONDS              /websocket: sends a message, waits for it to come back, 20 ms later
                                the next
  tls PATH BYTES SECONDS        download over TLS, whoever the server is
  handshake PATH                a TLS handshake with 50 ms of pause before each of its flights, then
                                GET PATH

After the exchange the server has to close: the end must come within three seconds, and cleanly."""
import os
import select
import socket
import ssl
import sys
import threading
import time

BLOCK = 65536


def fail(what):
    print(what, flush=True)
    sys.exit(1)


def begun():
    print("begun", flush=True)


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Answers:
    """The answers on a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""

    def more(self, what):
        got = self.connection.recv(BLOCK)
        if not got:
            fail(f"the end came in the middle of {what}")
        return got

    def head(self, status=200):
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.more("a head, or before it")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 %d " % status) and not head.startswith(
            b"HTTP/1.0 %d " % status
        ):
            fail(f"another answer: {head}")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return int(line[15:])
        return 0

    def body(self, length, seconds=0):
        """seconds: how long it takes over it. The bytes, if they are few."""
        kept, got, start, told = self.buffer[:length], len(self.buffer), time.monotonic(), False
        self.buffer = self.buffer[length:]
        while got < length:
            if not told and seconds and got > length / 4:
                begun()
                told = True
            ahead = got / length * seconds - (time.monotonic() - start)
            if ahead > 0:
                time.sleep(ahead)
            piece = self.more(f"a body, {got} of {length} bytes")
            got += len(piece)
            if length < BLOCK:
                kept += piece
            elif piece.strip(b"\0"):
                fail("other bytes than were sent")
        self.buffer += kept[length:]
        return kept[:length]


def ends(connection):
    connection.settimeout(3 * int(os.environ.get("PATIENCE", 1)))  # helpers.bash
    try:
        if connection.recv(1):
            fail("more than the answer")
    except TimeoutError:
        fail("whole, but the connection stays open")
    except ssl.SSLEOFError:
        pass  # our FIN has no close_notify


def download(connection, path, size, seconds):
    connection.sendall(get(path))
    answers = Answers(connection)
    length = answers.head()
    if length != int(size):
        fail(f"announced: {length} bytes")
    answers.body(length, float(seconds))


def upload(connection, path, size, seconds):
    size, sent, told = int(size), 0, False
    connection.sendall(
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    start = time.monotonic()
    while sent < size:
        if not told and sent > size / 4:
            begun()
            told = True
        ahead = sent / size * float(seconds) - (time.monotonic() - start)
        if ahead > 0:
            time.sleep(ahead)
        piece = min(BLOCK, size - sent)
        connection.sendall(bytes(piece))
        sent += piece
    answers = Answers(connection)
    answers.body(answers.head(201))


def ask(connection, path, body):
    connection.sendall(get(path))
    begun()
    answers = Answers(connection)
    got = answers.body(answers.head()).decode()
    if got.strip() != body:
        fail(f"the answer is {got}")


def pipeline(connection, path, count):
    count = int(count)
    connection.sendall(get(path) * count)
    answers = Answers(connection)
    for number in range(count):
        answers.body(answers.head())
        if number == count // 10:
            begun()
        time.sleep(2 / count)


def upgrade(connection, path="/websocket"):
    connection.sendall(get(path))
    answers = Answers(connection)
    answers.head(101)
    return answers


def flood(connection, seconds):
    upgrade(connection)
    size, sent, digest = 0, 0, 0
    stop = time.monotonic() + float(seconds)
    numbers = bytes(range(256)) * 64

    def send():
        nonlocal sent
        while time.monotonic() < stop:
            connection.sendall(numbers)
            sent += len(numbers)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    begun()
    while got := connection.recv(BLOCK):
        first = size % 256
        if got != (numbers[first:] + numbers * (len(got) // len(numbers) + 1))[: len(got)]:
            fail("other bytes than were sent")
        size += len(got)
    sender.join()
    if size != sent:
        fail(f"{sent} bytes sent, {size} came back")


def lockstep(connection, seconds, rounds, ahead="apart"):
    """A stream that seems to wait for what comes back, but in one of so many rounds it sends a second
    block: a moment later ("apart"), or "together" with the first, as a late server finds the two. One
    that was kept from it until the first came back has not sent ahead, and does so in the next round."""
    upgrade(connection, "/websocket?0.001")
    begun()
    block, number, owed, next_ahead = bytes(range(200)), 0, 0, int(rounds)
    stop = time.monotonic() + float(seconds)
    while time.monotonic() < stop or owed:
        while owed < len(block) and time.monotonic() < stop:
            number += 1
            is_ahead = number >= next_ahead
            connection.sendall(2 * block if is_ahead and ahead == "together" else block)
            if is_ahead and ahead == "apart":
                time.sleep(0.0003)
                connection.sendall(block)
            owed += len(block) * (1 + is_ahead)
            if is_ahead and (ahead == "together" or not select.select([connection], [], [], 0)[0]):
                next_ahead = number + int(rounds)
        got = connection.recv(BLOCK)
        if not got:
            fail(f"{owed} bytes of block {number} did not come back")
        owed -= len(got)
    connection.shutdown(socket.SHUT_WR)


def pingpong(connection, seconds):
    upgrade(connection)
    begun()
    stop, number = time.monotonic() + float(seconds), 0
    while time.monotonic() < stop:
        number += 1
        time.sleep(0.02)
        if select.select([connection], [], [], 0)[0]:
            if connection.recv(1, socket.MSG_PEEK):
                fail("bytes that nobody asked for")
            print(f"closed after {number} messages, between two")
            return
        message, got = b"%d:" % number + os.urandom(number % 900 + 1), b""
        connection.sendall(message)
        while len(got) < len(message):
            piece = connection.recv(BLOCK)
            if not piece:
                fail(f"message {number} did not come back: {len(got)} bytes of {len(message)}")
            got += piece
        if got != message:
            fail("other bytes than were sent")
    connection.shutdown(socket.SHUT_WR)


def context():
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    return anybody


def tls(connection, path, size, seconds):
    connection = context().wrap_socket(connection)
    download(connection, path, size, seconds)
    return connection


class Slow:
    """A TLS connection whose client pauses before it sends."""

    def __init__(self, connection):
        self.connection = connection
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context().wrap_bio(self.received, self.to_send)

    def step(self, call, *arguments):
        while True:
            try:
                done = call(*arguments)
            except ssl.SSLWantReadError:
                done = None
            if self.to_send.pending:
                time.sleep(0.05)
                self.connection.sendall(self.to_send.read())
            if done is not None:
                return done
            got = self.connection.recv(BLOCK)
            if not got:
                fail(f"the end came in the middle of {call.__name__}")
            self.received.write(got)

    def recv(self, count):
        return self.step(self.tls.read, count)

    def sendall(self, data):
        self.step(self.tls.write, data)


def handshake(connection, path):
    slow = Slow(connection)
    begun()
    slow.step(lambda: self_done(slow.tls.do_handshake()))
    slow.sendall(get(path))
    answers = Answers(slow)
    answers.body(answers.head())


def self_done(nothing):
    return nothing is None


kind, port, *arguments = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
if kind in ("download", "tls"):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
try:
    connection = globals()[kind](connection, *arguments) or connection
    ends(connection)
except ConnectionError as error:
    fail(f"{error}")
print("whole", flush=True)
