#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""slow_server.py PORT | inherited FD: HTTP/1.1 with a thread for each connection. /slow is answered
with "at last": 1.5 seconds later, or as many as it says ("/slow10"); all else with "It works"."""
import http.server
import socket
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    at_once = b"It works\n"

    def do_GET(self):
        body = self.at_once
        if self.path.startswith("/slow"):
            time.sleep(float(self.path[5:] or 1.5))
            body = b"at last\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *message):
        pass


class Server(http.server.ThreadingHTTPServer):
    """On its address, or on a listener that there is already."""

    request_queue_size = 100

    def __init__(self, address, handler=Handler, listener=None):
        super().__init__(address, handler, bind_and_activate=not listener)
        if listener:
            self.socket.close()
            self.socket = listener


if __name__ == "__main__":
    if sys.argv[1] == "inherited":
        Server(("127.0.0.1", 0), listener=socket.socket(fileno=int(sys.argv[2]))).serve_forever()
    Server(("127.0.0.1", int(sys.argv[1]))).serve_forever()
