"""A queue without a bound whose consumer is slower than its producer."""
import queue
import threading

import zoo

jobs = queue.Queue()
working = threading.Event()


def work():
    while True:
        working.wait()
        jobs.get()


threading.Thread(target=work, daemon=True).start()
for number in range(1_000):
    jobs.put({"number": number, "body": f"job {number} " * 20})  # leaks
zoo.steady()
for number in range(150_000):
    jobs.put({"number": number, "body": f"job {number} " * 20})  # leaks
zoo.done()
