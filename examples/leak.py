#!/usr/bin/env python3
"""A report service that leaks, to try memini on. It knows nothing of memini.

The leak is an everyday one: `CACHE` is keyed by customer *and moment*, so no report is ever asked
for twice, and none is ever dropped. Beside it stand two that hold memory and do not leak: a table
of exchange rates that is loaded once, and thumbnails that are kept in a bounded cache.

SIGTERM makes it leave. Without anybody to stop it, it leaves by itself at --at-most.
"""

import argparse
import collections
import os
import signal
import sys
import time

MIB = 1 << 20
REPORT = 64 << 10  # bytes
TICK = 0.05  # seconds

CACHE = {}
THUMBNAILS = collections.OrderedDict()


def load_exchange_rates():
    """Is as large as it will ever be."""
    return [b"EUR 1.0000 " * (MIB // 11) for _ in range(12)]


def thumbnail(name):
    """Is bounded: the oldest one goes when a new one comes."""
    THUMBNAILS[name] = b"\x89PNG" * (REPORT // 4)
    if len(THUMBNAILS) > 256:
        THUMBNAILS.popitem(last=False)


def render(customer):
    """Is garbage as soon as it is sent."""
    return (b"<td>%08d</td>" % customer) * (REPORT // 17)


def report(customer):
    key = (customer, time.monotonic_ns())
    if key not in CACHE:
        CACHE[key] = render(customer) + b"</table>"  # the leak
    return CACHE[key]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20, metavar="MB", help="how fast it grows, MB a second [20]")
    parser.add_argument("--at-most", type=int, default=1024, metavar="MIB", help="leaves at this size [1024]")
    options = parser.parse_args()
    leaving = []
    signal.signal(signal.SIGTERM, lambda *_: leaving.append("SIGTERM"))

    rates = load_exchange_rates()
    print(f"leak.py: process {os.getpid()} serves reports, {len(rates)} exchange rates loaded", flush=True)
    began, served = time.monotonic(), 0
    while not leaving:
        while served * REPORT < (time.monotonic() - began) * options.rate * 1e6:
            report(served)
            thumbnail(f"{served}.png")
            served += 1
        if served * REPORT >= options.at_most * MIB:
            leaving.append("--at-most")
        time.sleep(TICK)
    print(f"leak.py: {leaving[0]}: {served} reports served, leaving cleanly", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
