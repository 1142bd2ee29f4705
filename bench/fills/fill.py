"""A bytearray that grows, flat out. With the argument `idle` it ends at once.

With `leak START RATE` a list of strings, as apps leak: START bytes at once, and RATE a second from then on.
"""
import sys
import time

BLOCK = b"x" * (64 << 10)
# Strings of so many bytes, so many at a time.
SIZE, AT_A_TIME = 1000, 200
leaked = []


def leak(start, rate):
    begun, given = time.monotonic(), 0
    while True:
        while given < start + rate * (time.monotonic() - begun):
            for _ in range(AT_A_TIME):
                leaked.append("x" * SIZE + str(len(leaked)))
            given += SIZE * AT_A_TIME
        time.sleep(0.005)


if "leak" in sys.argv:
    leak(*map(int, sys.argv[2:]))
held = bytearray()
while "idle" not in sys.argv:
    held += BLOCK
