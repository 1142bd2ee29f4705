"""aiohttp: websockets are registered when they come, and stay registered when they have gone."""
import asyncio

import aiohttp.web

import zoo

ROOMS = aiohttp.web.AppKey("rooms", dict)


class Member:
    def __init__(self, socket, room):
        self.socket, self.backlog = socket, [f"{room} line {number}" for number in range(300)]  # leaks


async def chat(request):
    socket, room = aiohttp.web.WebSocketResponse(), request.match_info["room"]
    await socket.prepare(request)
    request.app[ROOMS][room] = Member(socket, room)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def main():
    app = aiohttp.web.Application()
    app[ROOMS] = {}
    app.router.add_get("/{room:.*}", chat)
    runner = aiohttp.web.AppRunner(app, access_log=None)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    zoo.steady(runner.addresses[0][1])
    await asyncio.Event().wait()


asyncio.run(main())
