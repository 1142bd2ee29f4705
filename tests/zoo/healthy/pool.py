"""A pool of threads that has grown with the load and is steady."""
import concurrent.futures
import threading

import zoo

pool = concurrent.futures.ThreadPoolExecutor(64)
arrived = threading.Barrier(64)


def job(number, wait=False):
    if wait:
        arrived.wait()
    return sum(len(f"item {item} of {number}") for item in range(500))


for future in [pool.submit(job, number, True) for number in range(64)]:
    future.result()
zoo.steady()
for number in range(30):
    list(pool.map(job, range(200)))
zoo.done()
