# SPDX-License-Identifier: MIT
"""An ASGI program: /slowN is answered after N seconds, all else at once."""
import asyncio


async def serve(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"].startswith("/slow"):
        await asyncio.sleep(float(scope["path"][5:]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"It works\n"})
