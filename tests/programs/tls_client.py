# SPDX-License-Identifier: MIT
"""Clients over TLS that look before they send, and keep the truth about how they ended.

  tls_client.py PORT KIND CONNECTIONS SECONDS

KIND: http; redis; postgres, which asks for TLS first. Each connection asks about every SECONDS, in
turn and never two at a time; 0: it asks once, and waits for its end. When all have ended:

  answered N, lost N, ended by {'close_notify': N, ...}

lost: asked, and neither answered nor ended when it asked, though the server's kernel has acknowledged the
request: what it never took in, since it came behind the server's FIN, has crossed that. An end is by `close_notify`, by a `FIN` alone,
by `reset`, or by an alert's name.
"""
import random
import select
import socket
import ssl
import struct
import sys
import time

port, kind, count, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
ASKS = {"http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "redis": b"PING\r\n",
        "postgres": b"Q" + struct.pack("!I", 13) + b"SELECT 1\0"}
SSL_REQUEST = struct.pack("!II", 8, 80877103)
STARTUP = struct.pack("!II", 23, 3 << 16) + b"user\0postgres\0\0"
ends = {}
answered = lost = 0


class Client:
    def __init__(self):
        plain = socket.create_connection(("127.0.0.1", port))
        plain.settimeout(20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "postgres":
            plain.sendall(SSL_REQUEST)  # and then its first record
            assert plain.recv(1) == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self.tls = context.wrap_socket(plain, suppress_ragged_eofs=False)
        if kind == "postgres":
            self.tls.sendall(STARTUP)
            self.receive()

    def is_whole(self, got):
        if kind == "redis":
            return got.endswith(b"\r\n")
        if kind == "postgres":
            return got[-6:-1] == b"Z\0\0\0\5"
        head, empty, body = got.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        return bool(empty) and len(body) == int(length)

    def receive(self):
        got = b""
        while not self.is_whole(got):
            more = self.tls.recv(65536)
            if not more:
                raise ssl.SSLZeroReturnError(0, "close_notify")
            got += more

    def acknowledged(self):
        """How many bytes of ours (linux/tcp.h: tcpi_bytes_acked)."""
        info = self.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        return struct.unpack_from("Q", info, 120)[0]

    def ask(self):
        """Is answered, or raises an error; then `took_in` says whether the request was acknowledged."""
        before = self.acknowledged()
        try:
            self.tls.sendall(ASKS[kind])
            self.receive()
        except OSError:
            self.took_in = True
            time.sleep(0.05)
            self.took_in = self.acknowledged() > before
            raise

    def end(self):
        """How it has ended, by now; None: it has not. (A ticket for the next session is none.)"""
        self.tls.settimeout(0)
        try:
            while select.select([self.tls], [], [], 0)[0]:
                if not self.tls.recv(65536):
                    return "close_notify"
            return None
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        except OSError as error:
            return why(error)
        finally:
            self.tls.settimeout(20)


def why(error):
    if isinstance(error, ssl.SSLZeroReturnError):
        return "close_notify"
    if isinstance(error, ssl.SSLEOFError) or "UNEXPECTED_EOF" in str(error):
        return "FIN"
    if isinstance(error, ssl.SSLError):
        return error.reason
    return "reset" if isinstance(error, ConnectionError) else repr(error)


clients = [Client() for _ in range(count)]
for client in clients:
    client.ask()
    answered += 1
if not seconds:
    time.sleep(1)  # more than four times WEIR_SETTLE: they rest
print("ready", flush=True)
due = [(time.monotonic() + seconds * random.random(), client) for client in clients]
until = time.monotonic() + 60
while due and time.monotonic() < until:
    due.sort(key=lambda one: one[0])
    at, client = due.pop(0)
    time.sleep(max(0, at - time.monotonic()))
    how = client.end()
    if not how and seconds:
        try:
            client.ask()
            answered += 1
        except OSError as error:
            lost += client.took_in
            how = why(error)
    if how:
        ends[how] = ends.get(how, 0) + 1
    else:
        due.append((time.monotonic() + (seconds * (0.5 + random.random()) or 0.01), client))
print(f"answered {answered}, lost {lost}, ended by {ends}", flush=True)
