"""A thread of a pool keeps, in its thread-local data, something of each job that it did."""
import concurrent.futures
import threading

import zoo

local = threading.local()


def job(number):
    if not hasattr(local, "parsers"):
        local.parsers = []
    local.parsers.append({"number": number, "text": f"job {number} " * 30})  # leaks


with concurrent.futures.ThreadPoolExecutor(1) as pool:
    for number in range(1_000):
        pool.submit(job, number).result()
    zoo.steady()
    for number in range(30):
        pool.submit(lambda: [job(number) for number in range(5_000)]).result()
    zoo.done()
