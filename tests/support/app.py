"""What the Python apps of the tests share: the kernel's own signal calls.

The C library hides signals 32 and 33 from its callers, so the calls are made without it. A blocked signal waits in the
kernel until it is taken, so that none is lost or counted twice, whatever it would do by default.
"""
import ctypes, errno, os, select, signal, sys, time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
SIGACTION, SIGPROCMASK, SIGPENDING, SIGTIMEDWAIT, SIGQUEUEINFO, TGKILL, CLONE = {
    "x86_64": (13, 14, 127, 128, 129, 234, 56),
    "aarch64": (134, 135, 136, 137, 138, 131, 220),
}[os.uname().machine]
ALL = 2**64 - 1
# What no process can block.
UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}
PATIENCE = 90


def system_call(number, *arguments):
    """The result, or -errno."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *words)
    return -ctypes.get_errno() if result == -1 else result


def set_of(*signals):
    return sum(1 << (number - 1) for number in signals)


def block(signals=ALL):
    wanted = ctypes.c_uint64(signals)
    assert system_call(SIGPROCMASK, signal.SIG_SETMASK, ctypes.byref(wanted), None, 8) == 0


def default(number):
    """Gives the signal its default disposition."""
    nothing = (ctypes.c_ulong * 4)()
    assert system_call(SIGACTION, number, nothing, None, 8) == 0


def pending():
    """The numbers of the signals that wait."""
    found = ctypes.c_uint64()
    assert system_call(SIGPENDING, ctypes.byref(found), 8) == 0
    return [number for number in range(1, 65) if found.value >> (number - 1) & 1]


def take(signals=ALL, seconds=PATIENCE):
    """The next of these signals and its si_code; None after so many seconds."""
    wanted = ctypes.c_uint64(signals)
    info = (ctypes.c_int * 32)()
    time_left = (ctypes.c_long * 2)(int(seconds), 0)
    while True:
        result = system_call(SIGTIMEDWAIT, ctypes.byref(wanted), info, time_left, 8)
        if result > 0:
            return result, info[2]
        if result == -errno.EAGAIN:
            return None
        assert result == -errno.EINTR, result


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def doze():
    """Some sleep, after which Python runs its handlers; a signal just before a call that waits for ever would wait too."""
    time.sleep(0.01)


def read_line():
    """The next line of standard input; handlers run meanwhile."""
    while not select.select([0], [], [], 0.01)[0]:
        pass
    return sys.stdin.readline().strip()


def orphan(what):
    """A process whose parent is the app's parent: an orphan without the detour."""
    clone_parent = 0x8000
    pid = system_call(CLONE, clone_parent | signal.SIGCHLD, 0, 0, 0, 0)
    assert pid >= 0, pid
    if pid == 0:
        what()
        os._exit(0)
    return pid


def wait_until(look):
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def state_of(pid):
    """R, S, T, Z, ... and None for nobody."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None
