"""Holds about so many MB in objects of many kinds, says so, and then looks at the clock: what is the longest time in which it
did not run? A line on standard input: what it was, in milliseconds, since the last one."""
import sys
import threading
import time


class Session:
    def __init__(self, number):
        self.number = number
        self.words = ["word %d" % (number + step) for step in range(6)]
        self.fields = {"user": "user %d" % number, "path": "/items/%d" % number, "size": number * 3}


longest = 0.0


def watch():
    global longest
    last = time.monotonic()
    while True:
        time.sleep(0)
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now


# An object with what it holds takes about 1.3 kB.
sessions = {number: Session(number) for number in range(int(sys.argv[1]) * 1000 * 1000 // 1300)}
threading.Thread(target=watch, daemon=True).start()
print("ready", flush=True)
for _ in sys.stdin:
    print(f"{longest * 1000:.1f}", flush=True)
    longest = 0.0
