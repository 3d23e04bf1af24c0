# SPDX-License-Identifier: MIT
"""ws_server.py websockets|tornado|aiohttp PORT: a WebSocket server by one of Python's libraries. It
answers each message with itself; "slow N" after N seconds, and "none" not at all. Prints "closed CODE"
for each connection that a client has closed, and "gone" for each that ended without a Close."""
import asyncio
import sys

library, port = sys.argv[1], int(sys.argv[2])


async def answers(message, send):
    word, _, seconds = message.partition(" ")
    if word == "slow":
        await asyncio.sleep(float(seconds))
    if word != "none":
        await send(message)


def ended(code):
    print("gone" if code in (None, 1006) else f"closed {code}", flush=True)


async def with_websockets():
    import websockets

    async def handle(connection):
        try:
            async for message in connection:
                await answers(message, connection.send)
        finally:
            ended(connection.close_code)

    async with websockets.serve(handle, "127.0.0.1", port):
        await asyncio.Future()


async def with_tornado():
    import tornado.web
    import tornado.websocket

    class Handler(tornado.websocket.WebSocketHandler):
        async def on_message(self, message):
            await answers(message, self.write_message)

        def on_close(self):
            ended(self.close_code)

    tornado.web.Application([("/ws", Handler)]).listen(port, "127.0.0.1")
    await asyncio.Future()


async def with_aiohttp():
    from aiohttp import web

    async def handle(request):
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            await answers(message.data, connection.send_str)
        ended(connection.close_code)
        return connection

    application = web.Application()
    application.add_routes([web.get("/ws", handle)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Future()


asyncio.run({"websockets": with_websockets, "tornado": with_tornado, "aiohttp": with_aiohttp}[library]())
