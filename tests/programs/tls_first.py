# SPDX-License-Identifier: MIT
"""tls_first.py PORT HOW PATH: asks over TLS for one thing, which is its connection's first, and says "whole" or
"lost"; "asked" when the server has said what it says of itself before. HOW: by HTTP/2 (h2), in a record behind
that of its preface, when the server has acknowledged that one's SETTINGS (h2-apart), or by HTTP/1.1 (http1); else
the end of its handshake goes out with it. And in HTTP/2 what acknowledges the server's SETTINGS behind the answer (h2-stays): it says "ended" at its end."""
import socket
import ssl
import sys

port, how, path = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
DATA, HEADERS, SETTINGS = 0, 1, 4
ACK, END_STREAM, END_HEADERS = 1, 1, 4
is_http1 = how == "http1"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# RFC 7541: GET, https, and by literals the path and the authority.
BLOCK = b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01\x09localhost"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
REQUEST = frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK)
ASKS = {"http1": [b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], "h2-apart": [REQUEST]}

plain = socket.create_connection(("127.0.0.1", port))
plain.settimeout(120)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["http/1.1"] if is_http1 else ["h2"])
came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(came, goes)


def receives():
    got = plain.recv(65536)
    came.write(got) if got else came.write_eof()
    return got


while True:
    try:
        tls.do_handshake()
        break
    except ssl.SSLWantReadError:
        plain.sendall(goes.read())
        receives()


def frames(got):
    """Of those that have come in: type, flags and stream."""
    while len(got) >= 9:
        yield got[3], got[4], int.from_bytes(got[5:9], "big")
        got = got[9 + int.from_bytes(got[:3], "big"):]


def is_whole(got):
    if is_http1:
        return b" 200 OK\r\n" in got and got.endswith(b"\n") and not got.endswith(b"\r\n")
    return any(kind in (DATA, HEADERS) and flags & END_STREAM and stream == 1 for kind, flags, stream in frames(got))


def reads():
    """What has come in more; nothing at the end."""
    while True:
        try:
            return tls.read(65536)
        except ssl.SSLWantReadError:
            receives()
        except ssl.SSLError:
            return b""


def until(is_there, got):
    while not is_there(got):
        more = reads()
        if not more:
            sys.exit("lost")
        got += more
    return got


def is_settled(got):
    return is_http1 or (SETTINGS, 0, 0) in frames(got)


def is_acknowledged(got):
    return (SETTINGS, ACK, 0) in frames(got)


# nginx says its SETTINGS of itself, or with what acknowledges ours where those came first. OpenSSL 3.5 reads
# the preface and what is behind it at once: then so short a request might be a WINDOW_UPDATE.
got = b""
if how == "h2-apart":
    plain.sendall(goes.read())
    got = until(is_settled, got)
    tls.write(PREFACE)
    plain.sendall(goes.read())
    got = until(is_acknowledged, got)
for ask in ASKS.get(how, [PREFACE + REQUEST]):
    tls.write(ask)
plain.sendall(goes.read())
got = until(is_settled, got)
print("asked", flush=True)
until(is_whole, got)
print("whole", flush=True)
if how == "h2-stays":
    tls.write(frame(SETTINGS, ACK, 0))
    plain.sendall(goes.read())
    print("acknowledged", flush=True)
    while reads():
        pass
    print("ended", flush=True)
