"""asyncio tasks that wait for an answer that never comes."""
import asyncio

import zoo

pending = set()


async def ask(number, answer):
    question = f"question {number} " * 40  # leaks
    await answer
    print(question)


async def main():
    loop = asyncio.get_running_loop()

    async def start(count):
        for number in range(count):
            pending.add(asyncio.create_task(ask(number, loop.create_future())))  # leaks
        await asyncio.sleep(0)

    await start(500)
    zoo.steady()
    await start(40_000)
    zoo.done()


asyncio.run(main())
