"""An asyncio server that keeps what it knows of a client after the client has gone."""
import asyncio

import zoo


class Client:
    def __init__(self, name):
        self.name, self.messages = name, []


class Chat:
    def __init__(self):
        self.clients = {}

    async def serve(self, reader, writer):
        client = Client(writer.get_extra_info("peername"))
        while line := await reader.readline():
            if not line.strip():
                self.clients[len(self.clients)] = client
                client.messages += [f"message {number} {line!r}" for number in range(300)]  # leaks
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        writer.close()


async def main():
    chat = Chat()
    server = await asyncio.start_server(chat.serve, "127.0.0.1", 0)
    zoo.steady(server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
