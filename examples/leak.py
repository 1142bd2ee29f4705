#!/usr/bin/env python3
"""A report service that leaks, to try memini on.

The leak is an everyday one: `CACHE` is keyed by customer *and moment*, so no report is ever asked
for twice, and none is ever dropped. Beside it stand two that hold memory and do not leak: a table
of exchange rates that is loaded once, and thumbnails that are kept in a bounded cache.

SIGUSR2 makes it write its allocation sites (tracemalloc) to the file that is named in the request
file: --request, or LEAK_REQUEST in the environment, or /tmp/leak-PID.request. SIGTERM makes it
leave. Without anybody to stop it, it leaves by itself at --at-most.
"""

import argparse
import collections
import os
import signal
import sys
import time
import tracemalloc

MIB = 1 << 20
REPORT = 64 << 10  # bytes; blocks of this size keep the number of traces, and so tracemalloc's own memory, small
TICK = 0.05  # seconds
SITES = 10

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


def write_sites(path):
    """Writes under another name first, so that whoever waits for the file finds it whole."""
    with open(path + ".partial", "w", encoding="utf-8") as file:
        for site in tracemalloc.take_snapshot().statistics("lineno")[:SITES]:
            frame = site.traceback[0]
            place = f"{os.path.relpath(frame.filename)}:{frame.lineno}"
            print(f"{site.size / MIB:8.1f} MiB {site.count:6} blocks  {place}", file=file)
    os.rename(path + ".partial", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20, metavar="MB", help="how fast it grows, MB a second [20]")
    parser.add_argument("--at-most", type=int, default=1024, metavar="MIB", help="leaves at this size [1024]")
    parser.add_argument("--request", metavar="PATH", help="where SIGUSR2 finds the name of the file to write")
    options = parser.parse_args()
    request = options.request or os.environ.get("LEAK_REQUEST") or f"/tmp/leak-{os.getpid()}.request"
    leaving = []

    def answer(*_):
        try:
            with open(request, encoding="utf-8") as file:
                path = file.readline().rstrip("\n")
            write_sites(path)
        except OSError as error:
            print(f"leak.py: cannot write allocation sites: {error}", flush=True)

    # Before anything else: SIGUSR2 ends a process that has no handler for it.
    signal.signal(signal.SIGUSR2, answer)
    signal.signal(signal.SIGTERM, lambda *_: leaving.append("SIGTERM"))
    tracemalloc.start(1)

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
