#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""web_server.py [ADDRESS:]PORT|PATH[,...] FILE [WORKERS]: HTTP/1.1 with Python's http.server, a
thread a connection; by so many processes that accept from one socket. PATH: on a UNIX socket there.

  GET, HEAD /     a few bytes
  GET /chunked    in three chunks
  GET /old        without a length, until the connection's end
  GET /slow?S     a few bytes, S seconds later
  POST, PUT /     the body is a line that is written to FILE, and the answer; /slow?S as well"""
import http.server
import os
import socket
import socketserver
import sys
import threading
import time

executed = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = not sys.argv[1].startswith("/")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command == "HEAD":
                return
            for piece in (b"one", b"two\n" * 1000, b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/old":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"to the end\n")
            self.close_connection = True
        elif self.path == "/" or self.path.startswith("/slow?"):
            time.sleep(float(self.path[6:] or 0))
            self.answer(b"It works\n")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        os.write(executed, body + b"\n")
        time.sleep(float(self.path[6:] or 0) if self.path.startswith("/slow?") else 0)
        self.answer(body)

    do_PUT = do_POST

    def log_message(self, *message):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


class UnixServer(Server):
    address_family = socket.AF_UNIX
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's wants a host and a port


servers = []
for address in sys.argv[1].split(","):
    host, _, port = address.rpartition(":")
    if address.startswith("/"):
        if os.path.exists(address):
            os.unlink(address)
        servers.append(UnixServer(address, Handler))
    else:
        servers.append(Server((host or "127.0.0.1", int(port)), Handler))
for _ in range(int((sys.argv[3:] or [0])[0])):
    if not os.fork():
        break
else:
    if sys.argv[3:]:
        os.wait()
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
