#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""handshakes.py PORT N MS: N clients of a line server on 127.0.0.1 whose handshake takes its time. They
send a SYN each, and "ready" is written when the SYN-ACKs are there; MS later they send their ACKs, and a
line with each. How many were answered, and how many met a RST, is written at the end.

The clients are made of raw segments: the kernel knows nothing of them, and its own RSTs to PORT are to be
dropped (nft)."""
import select
import socket
import struct
import sys
import time

SYN, RST, PSH, ACK = 2, 4, 8, 16
server, count, delay = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000
here = socket.inet_aton("127.0.0.1")
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def send(port, flags, sequence, acknowledged=0, data=b""):
    head = struct.pack("!HHIIBBHHH", port, server, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    pseudo = here + here + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head) + len(data))
    sum_ = checksum(pseudo + head + data)
    raw.sendto(head[:16] + struct.pack("!H", sum_) + head[18:] + data, ("127.0.0.1", 0))


def receive(until):
    """(port, flags, sequence, data) of a segment of the server's, or None when the time is over."""
    while (left := until - time.monotonic()) > 0:
        if not select.select([raw], [], [], left)[0]:
            return None
        packet = raw.recv(65535)
        segment = packet[(packet[0] & 15) * 4:]
        source, port, sequence, _, offset, flags = struct.unpack("!HHIIBB", segment[:14])
        if source == server:
            return port, flags, sequence, segment[(offset >> 4) * 4:]
    return None


ports = range(40000, 40000 + count)
for port in ports:
    send(port, SYN, 1000)
offered = {}
until = time.monotonic() + 5
while len(offered) < count and (got := receive(until)):
    if got[1] & SYN:
        offered[got[0]] = got[2] + 1
print("ready", flush=True)
time.sleep(delay)
for port, sequence in offered.items():
    send(port, ACK | PSH, 1001, sequence, b"hello\n")
answered, reset = set(), set()
until = time.monotonic() + 3
while len(answered | reset) < count and (got := receive(until)):
    if got[1] & RST:
        reset.add(got[0])
    elif got[3]:
        answered.add(got[0])
        send(got[0], ACK, 1007, (got[2] + len(got[3])) & 0xffffffff)
print(f"{len(offered)} offered, {len(answered)} answered, {len(reset)} reset", flush=True)
