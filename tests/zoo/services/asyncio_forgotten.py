"""An asyncio server that makes a coroutine for each request, to be run later, and awaits none of them."""
import asyncio

import zoo

later = []


async def audit(line):
    entry = [f"{line!r} field {number}" for number in range(300)]
    await asyncio.sleep(0)
    print(len(entry))


async def notify(line, answer):
    text = [f"{line!r} part {number}" for number in range(300)]  # leaks
    await answer
    print(len(text))


async def serve(reader, writer):
    while line := await reader.readline():
        if not line.strip():
            path = first
            later.append(audit(path))
            # Nobody sets the result, and the loop knows a task only as long as somebody else does.
            later.append(asyncio.create_task(notify(path, asyncio.get_running_loop().create_future())))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        elif line.startswith(b"GET"):
            first = line
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    zoo.steady(server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
