#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""answer_server.py PORT: HTTP/1.1 with asyncio, one thread, keep-alive. Pieces are written one by
one, each on its way before the next.

  /short       a few bytes
  /varied      1 to 20,000 bytes, in one write
  /parts       1 to 12,000 bytes in one to five writes, one right after the other
  /stream      six pieces of PIECE bytes or a tenth more, GAP apart
  /sometimes   as /varied; but after a SIGUSR1 each connection has one answer as /stream, 1 to 12
               answers later
  /long?S      a few bytes, S seconds later
  PUT          201, when the body is there and has the length that was announced
  /websocket   101, then all bytes come back as they are; /websocket?S: S seconds after each came

GAP is 50 to 95 ms, or as ANSWER_GAP says ("150-280"); PIECE is 1000, or ANSWER_PIECE. A piece that
was late (a busy machine) is told on standard output: "late 112"."""
import asyncio
import os
import random
import signal
import socket
import sys
import time

GAP = [int(ms) / 1000 for ms in os.environ.get("ANSWER_GAP", "50-95").split("-")]
PIECE = int(os.environ.get("ANSWER_PIECE", "1000"))
told = asyncio.Event()  # by SIGUSR1


def head(length, status="200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), length)


async def stream(writer):
    pieces = [os.urandom(random.randint(PIECE, PIECE * 11 // 10)) for _ in range(6)]
    pieces[0] = head(sum(map(len, pieces))) + pieces[0]
    last = None
    for piece in pieces:
        if last:
            await asyncio.sleep(random.uniform(*GAP))
            if time.monotonic() - last > GAP[1] + 0.004:
                print("late", int((time.monotonic() - last) * 1000), flush=True)
        last = time.monotonic()
        writer.write(piece)
        await writer.drain()


async def answer(reader, writer, path, before_stream):
    if path == "/stream" or path == "/sometimes" and before_stream == 0:
        await stream(writer)
    elif path == "/varied" or path == "/sometimes":
        size = random.randint(1, 20000)
        writer.write(head(size) + bytes(size))
    elif path == "/parts":
        sizes = [random.randint(1, 3000) for _ in range(random.randint(1, 4))]
        writer.write(head(sum(sizes)))
        for size in sizes:
            writer.write(bytes(size))
    elif path.startswith("/long?"):
        await asyncio.sleep(float(path[6:]))
        writer.write(head(8) + b"at last\n")
    elif path.startswith("/websocket"):
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        late = float(path[11:] or 0)
        while got := await reader.read(65536):
            if late:
                await asyncio.sleep(late)
            writer.write(got)
            await writer.drain()
        return False
    else:
        writer.write(head(3) + b"ok\n")
    await writer.drain()
    return True


async def take_body(reader, writer, headers):
    left = int(headers["content-length"])
    if "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while left:
        got = await reader.read(min(left, 65536))
        if not got:
            return
        left -= len(got)
    writer.write(head(0, "201 Created"))


async def serve(reader, writer):
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    before_stream = random.randint(1, 12)
    try:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            headers = {}
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, value = line.decode().lower().split(":", 1)
                headers[name] = value.strip()
            before_stream -= told.is_set()
            if method == "PUT":
                await take_body(reader, writer, headers)
            elif not await answer(reader, writer, path, before_stream):
                break
    except ConnectionError:
        pass
    writer.close()


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=1000)
    async with server:
        await server.serve_forever()


asyncio.run(main())
