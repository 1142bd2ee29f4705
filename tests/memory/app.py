"""An app that does what it is told: one instruction an argument, then one a line of standard input.

Each line of standard input is answered with `done` and the instruction, so that a test goes on only when the app has.
At the end of standard input it ends well.
"""

import mmap
import os
import signal
import sys
import time

MIB = 1 << 20
CHUNK = 64 * 1024
TICK = 0.01

GROUP = os.environ.get("GROUP", "")
held = []


def read(name):
    with open(os.path.join(GROUP, name)) as file:
        return file.read()


def used():
    """The bytes of the group that reclaim could not free."""
    stat = dict(line.split() for line in read("memory.stat").splitlines())
    files = sum(int(stat[f"total_{key}"]) for key in ("inactive_file", "active_file"))
    files = max(files, int(stat["total_cache"]) - int(stat["total_shmem"]) - int(stat["total_unevictable"]))
    return int(read("memory.usage_in_bytes")) - files


def hold(size):
    """Touches memory: the kernel does it, as fast as it can."""
    if size > 0:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        held.append(mmap.mmap(-1, size, flags=flags))


def to(mib):
    """Grows or shrinks at once until the group uses so much. It looks again and again: others may grow as well."""
    while (surplus := used() - int(mib * MIB)) > 0 and held:
        while surplus > 0 and held:
            surplus -= len(held[-1])
            held.pop().close()
    while (missing := int(mib * MIB) - used()) >= CHUNK:
        for _ in range(0, min(missing, MIB), CHUNK):
            hold(CHUNK)


def grow(rate, until=float("inf")):
    """Grows by so many MiB a second, in even steps, until the app itself holds so many MiB."""
    began, grown = time.monotonic(), 0
    while grown < until * MIB:
        time.sleep(TICK)
        missing = min((time.monotonic() - began) * rate, until) * MIB - grown
        # After a pause (SIGSTOP, a busy machine) it does not catch up: it would be another rate.
        if missing > 10 * rate * MIB * TICK:
            began = time.monotonic() - grown / (rate * MIB)
        elif missing >= CHUNK:
            hold(int(missing) // CHUNK * CHUNK)
            grown += int(missing) // CHUNK * CHUNK


def write(path, mib):
    with open(path, "wb") as file:
        for _ in range(int(mib)):
            file.write(bytes(MIB))
        file.flush()
        os.fsync(file.fileno())


def read_file(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def fork(rest):
    """A child does the rest, and then nothing, until it is ended."""
    child = os.fork()
    if child == 0:
        obey(rest)
        while True:
            signal.pause()
    return child


def daemon(rest):
    """An orphan of a session of its own does the rest and exits. It is somebody else's child when this returns."""
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            obey(rest)
        os._exit(0)
    os.waitpid(middle, 0)


def recorded():
    """Returns when memini's recorder has seen a look: its worker has ended, and takes no memory any more."""
    path = os.path.expandvars("$PLACE/memini/recorder")
    while True:
        try:
            with open(path, "rb") as file:
                file.seek(4096)
                if any(file.read(4)):
                    return
        except FileNotFoundError:
            pass
        time.sleep(TICK)


def breed(rate):
    """Children without end, each of which holds half a MiB and starts the next one."""
    while True:
        hold(MIB // 2)
        time.sleep(0.5 / rate)
        if os.fork():
            while True:
                signal.pause()


def obey(instruction):
    instruction = os.path.expandvars(instruction)
    verb, _, rest = instruction.partition(" ")
    words = rest.split()
    numbers = [float(word) for word in words if word.replace(".", "", 1).isdigit()]
    if verb == "hold":
        hold(int(numbers[0] * MIB))
    elif verb == "to":
        to(numbers[0])
    elif verb == "grow":
        grow(*numbers)
    elif verb == "ignore":
        signal.signal(getattr(signal, words[0]), signal.SIG_IGN)
    elif verb == "on":
        signal.signal(getattr(signal, words[0]), lambda *_: obey(rest.partition(" ")[2]))
    elif verb == "write":
        write(words[0], numbers[-1])
    elif verb == "read":
        read_file(words[0])
    elif verb == "remove":
        os.remove(words[0])
    elif verb == "fork":
        fork(rest)
    elif verb == "daemon":
        daemon(rest)
    elif verb == "breed":
        breed(*numbers)
    elif verb == "victim":
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    elif verb == "recorded":
        recorded()
    elif verb == "reap":
        os.wait()
    elif verb == "pause":
        while True:
            signal.pause()
    elif verb == "exit":
        os._exit(int(words[0]))
    elif verb == "say":
        print(rest, flush=True)
    else:
        sys.exit(f"unknown instruction: {instruction}")


for argument in sys.argv[1:]:
    obey(argument)
for line in sys.stdin:
    obey(line.strip())
    print("done", line.strip(), flush=True)
