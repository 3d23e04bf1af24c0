#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tree_sql.py: reads one answer of PostgreSQL's from a connection as standard input, up to "ready
for query", and no byte further; prints its rows, or its error, and then ends with 1."""
import os
import sys


def take(count):
    got = b""
    while len(got) < count:
        piece = os.read(0, count - len(got))
        if not piece:
            sys.exit("end of file in the middle of an answer")
        got += piece
    return got


status = 0
while True:
    kind = take(1)
    body = take(int.from_bytes(take(4), "big") - 4)
    if kind == b"D":  # a row of one column: how many, its length, its text
        print(body[6:].decode())
    elif kind == b"E":
        print(body.replace(b"\0", b" ").decode())
        status = 1
    elif kind == b"Z":
        sys.exit(status)
