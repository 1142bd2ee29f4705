"""Healthy apps for bench/calm: app.py KIND [WORD ...]

It prepares itself and says `ready`. Each line `go SECONDS` of standard input is a slice of work, answered with
`did WORK SECONDS`; at the end of standard input it ends well. GROUP is the folder of its memory group, LIMIT the group's
limit in bytes, PLACE a folder on disk of its own.

    read             reads a file of three times the limit, then one that fits into the cache, again and again
    sqlite FILE      point queries in a database file that is mapped, one in a hundred is an update
    postgres         pgbench on a server of its own (DATA in PLACE), nine reads to a write
    compile JOBS     as many compilers at once, until all sources in PLACE are compiled
    flat LEVEL FROM  flat out to FROM percent, at walking pace to LEVEL percent; there it works on what it holds
    warm LEVEL       each slice is a warm-up, slower and slower, to LEVEL percent, and work there
    batch LEVEL      each slice is a batch that goes up to LEVEL percent in steps of 1%, and back
    serve LEVEL [N]  holds LEVEL percent, and answers requests in JSON; forks for every N of them
    step FROM LEVEL  each slice is one step, flat out, from FROM to LEVEL percent, and work there
"""

import concurrent.futures
import mmap
import os
import pathlib
import pwd
import random
import re
import signal
import subprocess
import sys
import time
import zlib

MIB = 1 << 20
BLOCK = 64 * 1024
GROUP = pathlib.Path(os.environ["GROUP"])
LIMIT = int(os.environ["LIMIT"])
PLACE = pathlib.Path(os.environ["PLACE"])


# ---- memory -----------------------------------------------------------------------------------------------------

def used():
    """The bytes of the group that reclaim could not free."""
    stat = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
    if "total_cache" in stat:
        usage = int((GROUP / "memory.usage_in_bytes").read_text())
        files = int(stat["total_inactive_file"]) + int(stat["total_active_file"])
    else:
        usage = int((GROUP / "memory.current").read_text())
        files = int(stat["inactive_file"]) + int(stat["active_file"])
    return usage - files


class Heap:
    """What the app holds. The kernel touches it, as fast as it can."""

    def __init__(self):
        self.parts, self.random = [], random.Random(1)

    def hold(self, size):
        if size >= BLOCK:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
            self.parts.append(mmap.mmap(-1, size // BLOCK * BLOCK, flags=flags))

    def to(self, percent):
        """Grows at once until the group uses so much, or lets go of what is above it, the last part first."""
        wanted = int(LIMIT * percent / 100)
        while self.parts and used() > wanted:
            self.parts.pop().close()
        self.hold(wanted - used())

    def free(self):
        for part in self.parts:
            part.close()
        self.parts.clear()

    def work(self, blocks):
        """Reads and writes here and there in all that is held."""
        for _ in range(blocks):
            part = self.random.choice(self.parts)
            start = self.random.randrange(len(part) // BLOCK) * BLOCK
            part[start] = zlib.crc32(memoryview(part)[start:start + BLOCK]) & 255


def for_seconds(seconds, act):
    """Acts until the time is over. How often, and how long it took."""
    begun, count = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        act()
        count += 1
    return count, passed


def timed(act):
    begun = time.monotonic()
    act()
    return 1, time.monotonic() - begun


# ---- the kinds: each gives a function of seconds that works, and tells how much in how many seconds ----------------

def read():
    # Files of holes fill the cache like any other ones, whatever the disk is doing.
    large, hot, buffer = PLACE / "large", PLACE / "hot", memoryview(bytearray(MIB))
    for path, size in ((large, 3 * LIMIT), (hot, LIMIT * 6 // 10)):
        with open(path, "wb") as file:
            file.truncate(size)

    def all_of(path):
        size = 0
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
        return size

    def slice_of(seconds):
        sizes = []
        _, passed = for_seconds(seconds, lambda: sizes.extend([all_of(large), all_of(hot), all_of(hot)]))
        return sum(sizes) / MIB, passed

    all_of(large)
    return slice_of


def sqlite(name):
    import sqlite3
    database = sqlite3.connect(PLACE / name, isolation_level=None)
    for pragma in ("mmap_size=1073741824", "cache_size=-2000", "journal_mode=wal", "synchronous=off", "wal_autocheckpoint=200"):
        database.execute(f"pragma {pragma}").fetchall()
    rows, = database.execute("select max(id) from item").fetchone()
    die, count = random.Random(2), 0

    def some():
        nonlocal count
        for _ in range(50):
            # Nine of ten in the fifth that is hot.
            row = die.randint(1, rows // 5 if die.random() < 0.9 else rows)
            database.execute("select length(body), hits from item where id = ?", (row,)).fetchone()
        count += 1
        if count % 2 == 0:
            database.execute("update item set hits = hits + 1 where id = ?", (row,))

    for_seconds(1, some)
    return lambda seconds: for_seconds(seconds, some)


def postgres(programs):
    account = pwd.getpwnam("postgres")
    as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "stdin": subprocess.DEVNULL, "cwd": PLACE}
    programs = pathlib.Path(programs)
    server = subprocess.Popen([programs / "postgres", "-D", PLACE / "data", "-k", PLACE], stdout=subprocess.DEVNULL, **as_account)
    ready = [programs / "pg_isready", "-q", "-h", PLACE]
    while subprocess.run(ready, **as_account).returncode != 0:
        if server.poll() is not None:
            sys.exit(f"app.py: postgres has ended: {server.returncode}")
        time.sleep(0.1)
    warm = "select pg_prewarm('pgbench_accounts'), pg_prewarm('pgbench_accounts_pkey')"
    subprocess.run([programs / "psql", "-q", "-h", PLACE, "-c", warm, "bench"], check=True, stdout=subprocess.DEVNULL, **as_account)

    def slice_of(seconds):
        whole = max(1, round(seconds))
        command = [programs / "pgbench", "-h", PLACE, "-n", "-c", "4", "-T", str(whole), "-b", "select-only@9", "-b", "simple-update@1", "bench"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **as_account).stdout
        return float(re.search(r"^tps = ([\d.]+)", output, re.M)[1]) * whole, whole

    def end():
        server.send_signal(signal.SIGINT)
        server.wait()

    slice_of(1)
    return slice_of, end


def compile_all(jobs):
    sources = sorted(PLACE.glob("*.c"))

    def one(source):
        subprocess.run(["gcc", "-O2", "-c", "-o", source.with_suffix(".o"), source], check=True)

    def burst():
        with concurrent.futures.ThreadPoolExecutor(int(jobs)) as pool:
            list(pool.map(one, sources))

    return lambda _: timed(burst)


def flat(level, start):
    heap, level, percent = Heap(), float(level), float(start)
    heap.to(percent)
    # Up there at a pace that reaches the limit in 20 s at the earliest: who goes faster looks like one who never ends.
    while percent < level:
        time.sleep(0.1)
        percent = min(percent + 0.025, level)
        heap.hold(int(LIMIT * percent / 100) - used())
    return lambda seconds: for_seconds(seconds, lambda: heap.work(50))


def warm(level):
    heap, level = Heap(), float(level)

    def burst():
        heap.free()
        percent = 20.0
        while percent < level - 0.5:
            percent += (level - percent) / 20
            heap.to(percent)
            heap.work(60)
        heap.work(2000)

    return lambda _: timed(burst)


def batch(level):
    heap, level = Heap(), int(level)

    def burst():
        for percent in [*range(30, level + 1), *range(level, 29, -4)]:
            heap.to(percent)
            heap.work(60)

    return lambda _: timed(burst)


def step(start, level):
    heap = Heap()

    def burst():
        heap.to(float(start))
        heap.work(1000)
        heap.to(float(level))
        heap.work(4000)

    return lambda _: timed(burst)


def serve(level, requests_a_fork="0"):
    import json

    heap, count, every = Heap(), 0, int(requests_a_fork)
    heap.to(float(level))
    body = json.dumps({"user": {"name": "somebody", "id": 7}, "items": [{"id": number, "price": number / 7} for number in range(40)]})

    def request():
        nonlocal count
        asked = json.loads(body)
        asked["items"].sort(key=lambda item: -item["price"])
        json.dumps(asked)
        count += 1
        if every and count % every == 0:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    return lambda seconds: for_seconds(seconds, request)


KINDS = {"read": read, "sqlite": sqlite, "postgres": postgres, "compile": compile_all, "flat": flat, "warm": warm, "batch": batch,
         "serve": serve, "step": step}


def main(kind, *words):
    works = KINDS[kind](*words)
    works, end = works if isinstance(works, tuple) else (works, lambda: None)
    print("ready", flush=True)
    for line in sys.stdin:
        done, seconds = works(float(line.split()[1]))
        print("did", done, seconds, flush=True)
    end()


if __name__ == "__main__":
    main(*sys.argv[1:])
