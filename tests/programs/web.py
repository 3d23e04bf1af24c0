# SPDX-License-Identifier: MIT
"""A client that looks at each byte of its answers, for the tests of mode protocol: imported by what
they give to python. PORT, SERVER_PID and TRIGGER come from the test."""
import os
import re
import signal
import socket
import ssl
import subprocess
import time

PORT = int(os.environ["PORT"])
PATIENCE = int(os.environ.get("PATIENCE", 1))  # helpers.bash
INSERTED = b"Connection: close\r\n"


class Answer:
    """raw: head and body as they came."""

    def __init__(self, head, body):
        self.head, self.body, self.raw = head, body, head + body
        self.status = int(head[9:12])
        self.fields = {}
        for line in head.split(b"\r\n")[1:-2]:
            name, value = line.split(b":", 1)
            self.fields.setdefault(name.decode().lower(), []).append(value.strip().decode())

    def __repr__(self):
        return repr(self.raw[:400])

    @property
    def is_noticed(self):
        values = ",".join(self.fields.get("connection", [])).lower().split(",")
        return "close" in [value.strip() for value in values]


class Connection:
    def __init__(self, port=PORT, tls=False, receive=None):
        self.socket = socket.socket()
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(15)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.have = bytearray()  # of megabytes bytes would be copied for each piece
        self.most = 65536  # at a time

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        got = self.socket.recv(self.most)
        self.have += got
        return got

    def take(self, n):
        while len(self.have) < n:
            assert self.more(), f"the end after {self.have!r}, {n} bytes were to come"
        taken = bytes(self.have[:n])
        del self.have[:n]
        return taken

    def until(self, mark):
        while mark not in self.have:
            assert self.more(), f"the end after {self.have!r}"
        return self.take(self.have.index(mark) + len(mark))

    def chunks(self):
        body = bytearray()
        while True:
            line = self.until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            body += line + (self.take(size + 2) if size else self.until(b"\r\n"))
            if not size:
                return bytes(body)

    def answer(self, method="GET"):
        head = self.until(b"\r\n\r\n")
        answer = Answer(head, b"")
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if "transfer-encoding" in answer.fields:
            return Answer(head, self.chunks())
        if "content-length" in answer.fields:
            return Answer(head, self.take(int(answer.fields["content-length"][0])))
        while self.more():
            pass
        return Answer(head, self.take(len(self.have)))

    def request(self, path="/", method="GET", more="", body=b"", version="1.1"):
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{more}{length}\r\n"
        self.send(head.encode() + body)

    def ask(self, path="/", method="GET", **rest):
        self.request(path, method, **rest)
        return self.answer(method)

    def is_open(self, seconds=0.05):
        """Neither an end nor a byte within so many seconds."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except TimeoutError:
            return not self.have
        finally:
            self.socket.settimeout(15)

    def ends(self, within=2.0):
        """A clean end, nothing before it, within so many seconds. A reset raises."""
        if self.have:
            return False
        self.socket.settimeout(within * PATIENCE)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(15)

    def close(self):
        self.socket.close()


def connections(n, **rest):
    """So many, each of which was answered once."""
    all_of_them = [Connection(**rest) for _ in range(n)]
    for connection in all_of_them:
        assert connection.ask().status == 200
    return all_of_them


def trigger(value=None, name=None):
    """Tells the server to drain; by a value 1 close-idle, 2 drain, 3 drain-all."""
    command = ["/bin/kill", "-s", name or os.environ["TRIGGER"]]
    command += ["-q", str(value)] if value else []
    began = time.monotonic()
    subprocess.run(command + [os.environ["SERVER_PID"]], check=True)
    time.sleep(0.1)
    return began


def without_notice(raw, bare):
    """raw, less what a notice has made of bare: a line before the head's end, or each keep-alive of
    a Connection line that a "close     " stands for. None where there is neither."""
    interim, head, rest = re.fullmatch(rb"(HTTP/1.1 100 .*?\r\n\r\n)?(.*?\r\n)(\r\n.*)", raw,
                                       re.DOTALL).groups(b"")
    if head.endswith(b"\r\n" + INSERTED):
        return interim + head[:-len(INSERTED)] + rest
    before = len(interim)
    original = bare[before:before + len(head)]
    for line in re.finditer(rb"(?i)^Connection:.*$", head, re.MULTILINE):
        for text in re.finditer(rb"(?<![^ \t,:])close     (?=[ \t]*[,\r])", line[0]):
            at = line.start() + text.start()
            if original[at:at + 10].lower() == b"keep-alive":
                head = head[:at] + original[at:at + 10] + head[at + 10:]
    return interim + head + rest if head == original else None
