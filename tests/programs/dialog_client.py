#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""dialog_client.py PROTOCOL PORT COUNT STAGGER: COUNT dialogs of smtp, imap or ftp, one begun each
STAGGER ms, so that at any moment there is one at each of its commands. A client pauses for 50 ms
before each command, and looks then whether the server has closed.

A line for each dialog: "finished"; "closed before COMMAND", after a whole answer; "refused"; or
"LOST" and what: a command that was sent, or a client that had connected, got no whole answer.
"under way" is said when the first dialog is nearly over."""
import re
import socket
import sys
import threading
import time

PAUSE = 0.05


class Closed(Exception):
    """The server has closed between two commands."""


class Lost(Exception):
    """In the middle of one."""


class Dialog:
    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=40)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.doing = "the greeting"

    def line(self):
        try:
            while b"\n" not in self.buffer:
                got = self.connection.recv(65536)
                if not got:
                    raise Lost(f"the end in the middle of {self.doing}, after {self.buffer}")
                self.buffer += got
        except OSError as error:
            raise Lost(f"{error} in the middle of {self.doing}") from error
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode().rstrip("\r")

    def send(self, data):
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise Lost(f"{error} while {self.doing} was sent") from error

    def command(self, text):
        time.sleep(PAUSE)
        self.connection.setblocking(False)
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise Closed(text.split("\r")[0])
            unasked = self.connection.recv(512, socket.MSG_PEEK)
            if not self.says_goodbye(unasked):
                raise Lost(f"{unasked} that nobody asked for before {text}")
            raise Closed(text)
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise Lost(f"{error} after {self.doing}") from error
        self.connection.settimeout(40)
        self.doing = text
        self.send(text.encode() + b"\r\n")

    def says_goodbye(self, text):
        """A daemon that tells why it closes, unasked."""
        return text.startswith((b"421 ", b"* BYE"))

    def code(self, wanted):
        """An answer of SMTP's or FTP's, of one line or more."""
        while True:
            line = self.line()
            if not line.startswith(wanted):
                raise Lost(f"{self.doing} was answered with {line}")
            if line[3:4] != "-":
                return line

    def tagged(self, tag):
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line.startswith(tag + " "):
                if not line.startswith(tag + " OK"):
                    raise Lost(f"{self.doing} was answered with {line}")
                return lines
            if not line.startswith(("*", "+", ")")) and "FETCH" not in self.doing:
                raise Lost(f"{self.doing} was answered with {line}")


class Smtp(Dialog):
    def run(self):
        self.code("220")
        self.command("EHLO client.example")
        self.code("250")
        for number in range(2):
            self.command("MAIL FROM:<one@client.example>")
            self.code("250")
            self.command("RCPT TO:<two@localhost>")
            self.code("250")
            self.command("DATA")
            self.code("354")
            for part in (f"Subject: {number}\r\n\r\n", "A line.\r\n" * 300, "The end.\r\n.\r\n"):
                time.sleep(PAUSE)
                self.doing = "the message"
                self.send(part.encode())
            self.code("250")
        self.command("QUIT")
        self.code("221")


class Imap(Dialog):
    def run(self):
        if not self.line().startswith("* OK"):
            raise Lost("no greeting")
        for tag, command in (
            ("a", "LOGIN user secret"),
            ("b", "SELECT INBOX"),
            ("c", "NOOP"),
            ("d", "APPEND INBOX {2000}"),
            ("e", "STATUS INBOX (MESSAGES)"),
            ("f", "FETCH 1 (BODY.PEEK[HEADER])"),
            ("g", "LOGOUT"),
        ):
            self.command(f"{tag} {command}")
            if "APPEND" in command:
                if not self.line().startswith("+"):
                    raise Lost("no continuation")
                time.sleep(PAUSE)
                self.send(b"Subject: hello\r\n\r\n" + b"x" * (2000 - 18) + b"\r\n")
            self.tagged(tag)


class Ftp(Dialog):
    def run(self):
        self.code("220")
        self.command("USER anonymous")
        self.code("331")
        self.command("PASS nobody")
        self.code("230")
        self.command("TYPE I")
        self.code("200")
        for name, size in (("slow", 1500000), ("small", 10)):
            self.command("PASV")
            *_, high, low = re.findall(r"\d+", self.code("227"))
            try:
                data = socket.create_connection(
                    ("127.0.0.1", int(high) * 256 + int(low)), timeout=40
                )
            except ConnectionRefusedError as error:
                raise Closed(f"RETR {name}, without a transfer's connection") from error
            self.command(f"RETR {name}")
            self.code("150")
            got = 0
            while piece := data.recv(65536):
                got += len(piece)
            data.close()
            if got != size:
                raise Lost(f"{got} of {size} bytes of {name}")
            self.code("226")
        self.command("QUIT")
        self.code("221")


def run(kind, port):
    try:
        dialog = kind(port)
    except OSError:
        return "refused"
    try:
        dialog.run()
        dialog.connection.settimeout(3)
        if dialog.connection.recv(1):
            return "LOST: more than an answer"
        return "finished"
    except Closed as closed:
        return f"closed before {closed}"
    except Lost as lost:
        return f"LOST: {lost}"
    except OSError as error:
        return f"LOST: {error} at the end"


def say(text):
    with one_at_a_time:
        print(text, flush=True)


one_at_a_time = threading.Lock()
kind, port, count, stagger = sys.argv[1:]
threads = []
for number in range(int(count)):
    threads.append(
        threading.Thread(target=lambda: say(run(globals()[kind.capitalize()], int(port))))
    )
    threads[-1].start()
    time.sleep(int(stagger) / 1000)
    if number == int(count) // 2:
        say("under way")
for thread in threads:
    thread.join()
