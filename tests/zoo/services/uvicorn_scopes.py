"""An ASGI app under uvicorn with a middleware that keeps each request, to be able to replay it."""
import asyncio
import socket

import uvicorn

import zoo


class Replay:
    def __init__(self, inner):
        self.inner, self.requests = inner, []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.requests.append((scope, [f"{scope['path']} event {number}" for number in range(300)]))  # leaks
        await self.inner(scope, receive, send)


async def hello(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


listener = socket.create_server(("127.0.0.1", 0), backlog=512)
server = uvicorn.Server(uvicorn.Config(Replay(hello), lifespan="off", log_level="error", access_log=False))


async def main():
    serving = asyncio.create_task(server.serve([listener]))
    zoo.steady(listener.getsockname()[1])
    await serving


asyncio.run(main())
