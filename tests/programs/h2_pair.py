# SPDX-License-Identifier: MIT
"""h2_pair.py httpx|requests|grpc URL DIRECTORY: Python's httpx, or grpcio's channels, as clients of HTTP/2, or
requests as one of HTTP/1.1, for scripts/h2-pairs. Ten connections, on each of which something is asked first:

  slow   one stream that is answered after 3 s
  loop   four connections, one request after the other, until the next server is there
  ten    one connection, ten such loops
  idle   four connections that rest until DIRECTORY/next is there, and then ask once
  stream (gRPC) four streams of the server's on one connection, of PAIR_STREAM messages (30), a tenth of a second
         apart: those that are not whole; and of these, "untold", those that have ended as if they were

Who finds its connection closed opens another, and one that is refused asks no more. "ready"; and when
all is over for each row "ROW LOST/ASKED"."""
import asyncio
import os
import sys

kind, url, directory = sys.argv[1:]
rows = {row: [0, 0] for row in ("slow", "loop", "ten", "idle") + ("stream",) * (kind == "grpc")}
untold = []

if kind == "httpx":
    import httpx

    class Channel:
        def __init__(self):
            self.client = httpx.AsyncClient(http1=False, http2=True, verify=False, timeout=20)

        async def get(self, path):
            answer = await self.client.get(url + path)
            assert answer.status_code == 200, answer.status_code

    def is_refused(error):
        return isinstance(error, httpx.ConnectError)
elif kind == "requests":
    import requests
    import urllib3

    urllib3.disable_warnings()

    class Channel:
        def __init__(self):
            self.session = requests.Session()

        async def get(self, path):
            await asyncio.to_thread(lambda: self.session.get(url + path, verify=False, timeout=20).raise_for_status())

    def is_refused(error):
        return "onnection refused" in str(error)
else:
    import grpc

    class Channel:
        def __init__(self):
            apart = [("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(url.split("/")[-1], apart)
            self.call, self.stream = channel.unary_unary("/pair/get"), channel.unary_stream("/pair/stream")

        async def get(self, path):
            await self.call(path.encode(), timeout=20)

    def is_refused(error):
        return "failed to connect" in str(error) or "onnection refused" in str(error)


async def ask(row, channel, path):
    try:
        await channel.get(path)
    except Exception as error:
        if is_refused(error):
            return False
        if os.environ.get("PAIR_SAYS"):
            print(row, repr(error), file=sys.stderr)
        rows[row][0] += 1
        rows[row][1] += 1
        return False
    rows[row][1] += 1
    return True


async def loop(row, channel):
    while not os.path.exists(directory + "/next") and await ask(row, channel, "/"):
        await asyncio.sleep(0.001)


async def stream(channel):
    rows["stream"][1] += 1
    count = int(os.environ.get("PAIR_STREAM", "30"))
    try:
        async for _ in channel.stream(str(count).encode(), timeout=35):
            count -= 1
        untold.extend(["stream"] if count else [])
    except Exception as error:
        if os.environ.get("PAIR_SAYS"):
            print("stream", repr(error), file=sys.stderr)
    rows["stream"][0] += count > 0


async def idle(channel):
    while not os.path.exists(directory + "/next"):
        await asyncio.sleep(0.02)
    await ask("idle", channel, "/")


async def main():
    channels = [Channel() for _ in range(10 + (kind == "grpc"))]
    await asyncio.gather(*(channel.get("/") for channel in channels))
    all_of_it = [ask("slow", channels[0], "/slow3")] + [loop("loop", one) for one in channels[1:5]] + \
        [loop("ten", channels[5]) for _ in range(10)] + [idle(one) for one in channels[6:10]] + \
        [stream(one) for one in channels[10:] for _ in range(4)]
    tasks = [asyncio.ensure_future(one) for one in all_of_it]
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await asyncio.wait(tasks, timeout=40)
    print(" ".join(f"{row} {lost}/{asked}" for row, (lost, asked) in rows.items()) +
          f" ({len(untold)} untold)" * (len(untold) > 0), flush=True)
    os._exit(0)


asyncio.run(main())
