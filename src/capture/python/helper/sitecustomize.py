"""memini's helper in a Python process, there because memini was started with `--helpers python`.

One thread waits on a socket until memini asks which lines have allocated what is in use. It prints nothing, handles no signal,
and leaves `sys.path`, `sys.modules` and an app's own `sitecustomize`, which it stands in front of, as they are without it.

It comes in two ways: `site` imports it, or memini has a thread of CPython 3.14 run it later (PEP 768), in names of its own. Also
read by Python 2 and by PyPy, where it only makes way.
"""
import sys

IS_IMPORTED = "__file__" in globals()

# Frames of traces that are sent at a time: between two parts the app goes on.
PART = 20000
# Lines that are kept when tracing ends before anybody has asked for them.
KEPT = 200
# Python 3.12 and later warn whoever forks a process with several threads. These count them after the hooks for the parent have
# run, and not before (python/cpython issue 137109): the thread must not be started again by such a hook.
COUNTS_LATE = (3, 13) <= sys.version_info < (3, 13, 10) or (3, 14) <= sys.version_info < (3, 14, 1)
# What a list of all traces takes, as a multiple of what tracemalloc itself takes for them. Measured: 3.8 times.
COST_OF_LIST = 4
# How often it looks what tracing takes, in microseconds: a million allocations a second are 60 MB of traces.
INTERVAL = 100000
# The listener's number is one that an app's own descriptors do not come to: it may count on getting the lowest, or close those up
# to some number; and below 1024, which is how many a process often may have. Tried in this order.
NUMBERS = 900, 200


class Later(object):
    """Does something at the collector's next run: this refers to itself, and nobody else to it."""

    def __init__(self, what):
        self.what, self.myself = what, self

    def __del__(self):
        self.what()


class Helper(object):
    def __init__(self):
        # Looked up now: an app may replace what is in these modules, as gevent does.
        import _signal
        import _socket
        import _thread
        import _tracemalloc
        import fcntl
        import marshal
        import posix
        import time

        self.signal, self.tracemalloc, self.posix, self.socket = _signal, _tracemalloc, posix, _socket
        self.new_socket, self.dumps = _socket.socket, marshal.dumps
        self.start_new_thread, self.get_native_id = _thread.start_new_thread, _thread.get_native_id
        self.new_lock = _thread.allocate_lock
        self.monotonic, self.sleep, self.fcntl = time.monotonic, time.sleep, fcntl
        # Numbers of processes are given in every PID namespace, names of sockets once in a network namespace.
        self.namespace = posix.readlink("/proc/self/ns/pid").strip("pid:[]")
        self.listener = self.address = self.identity = self.thread = None
        # Whether there may be a thread, whether it is to end, whether it has failed, and how many threads of the app's are forking.
        self.is_running, self.leaving, self.has_failed, self.forks = False, False, False, 0
        # Since when it traces, for how long and with how much memory at the most; None: it does not.
        self.since = self.until = self.most = None
        # Whose memory shares the room with this process's, and how much all may take before there is no room for a list of all
        # traces; bytes.
        self.sharing, self.largest = (), 0
        # What was found when tracing ended by itself, and how long it had lasted.
        self.kept = None
        # What tracing, or the list of its traces, has taken so far at the most: an allocator may keep it when it is given back.
        self.peak = 0

    def open(self):
        """Opens the socket, or not: where that cannot be done, or where somebody else in this process has."""
        self.listener = None
        address = "\0memini-python-%s-%d" % (self.namespace, self.posix.getpid())
        listener = self.out_of_the_way(self.new_socket(self.socket.AF_UNIX, self.socket.SOCK_DGRAM))
        try:
            # A default that the app may have set is not for this one.
            listener.settimeout(None)
            listener.setsockopt(self.socket.SOL_SOCKET, self.socket.SO_PASSCRED, 1)
            listener.bind(address.encode())
            status = self.posix.fstat(listener.fileno())
            self.listener, self.address, self.identity = listener, address.encode(), (status.st_dev, status.st_ino)
        except OSError:
            listener.close()

    def out_of_the_way(self, listener):
        for lowest in NUMBERS:
            try:
                number = self.fcntl.fcntl(listener.fileno(), self.fcntl.F_DUPFD_CLOEXEC, lowest)
            except OSError:
                continue
            listener.close()
            return self.new_socket(self.socket.AF_UNIX, self.socket.SOCK_DGRAM, 0, number)
        return listener

    def start_thread(self):
        if self.listener is None:
            return
        self.leaving, self.thread, self.is_running = False, None, True
        begun = self.new_lock()
        begun.acquire()
        # A signal that the app's threads block, to wait for it, must not be delivered here.
        before = self.signal.pthread_sigmask(self.signal.SIG_BLOCK, self.signal.valid_signals())
        try:
            self.start_new_thread(self.serve, (begun,))
        except Exception:
            self.is_running = False
            self.close()
            return
        finally:
            self.signal.pthread_sigmask(self.signal.SIG_SETMASK, before)
        # An interpreter that ends before a new thread has begun takes away what that begins with (python/cpython issue 104690): whose
        # child of a fork ends at once, would see it crash. Up to 3.10 every second one did, of 3.11 hardly any.
        begun.acquire(True, 1.0)

    def close(self):
        """An app that becomes a daemon closes what it does not know, and what it opens then gets the same number."""
        listener, self.listener = self.listener, None
        if listener is not None:
            if self.is_ours(listener):
                listener.close()
            else:
                listener.detach()

    def is_ours(self, listener):
        try:
            status = self.posix.fstat(listener.fileno())
            return (status.st_dev, status.st_ino) == self.identity
        except OSError:
            return False

    def serve(self, begun):
        begun.release()
        try:
            self.thread = self.get_native_id()
            while not self.leaving:
                self.serve_once()
        except BaseException:
            # There is no other socket to be had, or the interpreter is being torn down.
            self.is_running, self.has_failed = False, True

    def serve_once(self):
        if not self.is_ours(self.listener):
            self.close()
            self.open()
            if self.listener is None:
                raise OSError
        # The kernel's own time limit, a `struct timeval`. With Python's, it would be waited first and read then, from what may
        # have got the number meanwhile.
        micros = 0 if self.since is None else INTERVAL
        limit = bytes(8) + micros.to_bytes(8, sys.byteorder)
        self.listener.setsockopt(self.socket.SOL_SOCKET, self.socket.SO_RCVTIMEO, limit)
        try:
            words, answer = self.receive()
        except BlockingIOError:
            words = answer = None
        except OSError:
            if self.is_ours(self.listener):
                self.sleep(1.0)
            words = answer = None
        try:
            self.end_in_time()
            if answer is not None:
                self.obey(words, answer)
        except Exception:
            # Who has asked sees that the answer ends early.
            pass
        finally:
            if answer is not None:
                answer.close()

    def receive(self):
        """The words of a command, and the socket for the answer; or nothing, if whoever sends it must not."""
        library = self.socket
        space = library.CMSG_SPACE(12) + library.CMSG_SPACE(4)
        text, extras, _, _ = self.listener.recvmsg(1024, space, library.MSG_CMSG_CLOEXEC)
        descriptors, is_allowed = [], False
        for level, kind, data in extras:
            numbers = [int.from_bytes(data[at:at + 4], sys.byteorder) for at in range(0, len(data) - 3, 4)]
            if level == library.SOL_SOCKET and kind == library.SCM_CREDENTIALS:
                # The number 0 is a process of another namespace, whose root is not ours.
                is_allowed = numbers[0] > 0 and numbers[1] in (0, self.posix.geteuid())
            elif level == library.SOL_SOCKET and kind == library.SCM_RIGHTS:
                descriptors += numbers
        try:
            if is_allowed and len(descriptors) == 1:
                answer = self.new_socket(library.AF_UNIX, library.SOCK_STREAM, 0, descriptors[0])
                descriptors = []
                return text.split(), answer
        finally:
            # Anybody may send some.
            for descriptor in descriptors:
                self.posix.close(descriptor)
        return None, None

    def obey(self, words, answer):
        answer.settimeout(5.0)
        if words[0] == b"start":
            self.tell(answer, self.start(*(int(word) for word in words[1:])))
        elif words[0] == b"dump":
            self.dump(answer, int(words[1]))
        elif words[0] == b"stop":
            self.stop()
            self.kept = None
            self.tell(answer, "idle")

    def tell(self, answer, state, seconds=None):
        if seconds is None:
            seconds = 0 if self.since is None else self.monotonic() - self.since
        memory = self.tracemalloc.get_tracemalloc_memory()
        if state != "large":
            memory = max(memory, self.peak)
        self.send(answer, ("%s %d %d\n" % (state, seconds, memory)).encode())

    def send(self, answer, data):
        answer.sendall(data, self.socket.MSG_NOSIGNAL)

    def start(self, frames, seconds, most, room, *sharing):
        if not self.tracemalloc.is_tracing():
            self.tracemalloc.start(frames)
            self.since, self.kept = self.monotonic(), None
        elif self.since is None:
            return "app"
        self.sharing = sharing or ("self",)
        self.until, self.most, self.largest = self.monotonic() + seconds, most, self.resident() + room
        return "own"

    def resident(self):
        """What those take who share the room; bytes. Who is gone takes nothing."""
        pages = 0
        for process in self.sharing:
            try:
                file = self.posix.open("/proc/%s/statm" % process, self.posix.O_RDONLY | self.posix.O_CLOEXEC)
            except OSError:
                continue
            try:
                pages += int(self.posix.read(file, 256).split()[1])
            except OSError:
                pass
            finally:
                self.posix.close(file)
        return pages * self.posix.sysconf("SC_PAGE_SIZE")

    def stop(self):
        """Ends what was started here, not what the app itself traces."""
        if self.since is not None:
            self.since = None
            self.tracemalloc.stop()

    def end_in_time(self):
        """Tracing does not outlast its time or its memory, whether or not memini is still there."""
        if self.since is None:
            return
        lasted = self.monotonic() - self.since
        taken = self.tracemalloc.get_tracemalloc_memory()
        if taken > self.most or self.monotonic() > self.until:
            traces = None
            try:
                self.peak = max(self.peak, taken)
                # By now the app may have grown into what was free when it began.
                if self.resident() + taken * COST_OF_LIST <= self.largest:
                    self.peak = max(self.peak, taken * (1 + COST_OF_LIST))
                    traces = self.tracemalloc._get_traces()
            finally:
                self.stop()
                self.kept = None, lasted
            if traces is None:
                return
            lines = {}
            for trace in traces:
                sums = lines.setdefault(trace[2], [0, 0])
                sums[0] += 1
                sums[1] += trace[1]
            lines = [(sums[0], sums[1], stack) for stack, sums in lines.items()]
            lines.sort(key=lambda line: line[1], reverse=True)
            self.kept = lines[:KEPT], lasted

    def dump(self, answer, room):
        if not self.tracemalloc.is_tracing():
            self.since = None
            if self.kept is None:
                return self.tell(answer, "idle")
            lines, lasted = self.kept
            if lines is None:
                return self.tell(answer, "lost", lasted)
            self.tell(answer, "kept", lasted)
            return self.send_list(answer, list(lines))
        memory = self.tracemalloc.get_tracemalloc_memory()
        if memory * COST_OF_LIST > room:
            return self.tell(answer, "large")
        self.tell(answer, "app" if self.since is None else "own")
        self.peak = max(self.peak, memory * (1 + COST_OF_LIST))
        self.send_list(answer, self.tracemalloc._get_traces())

    def send_list(self, answer, items):
        """Parts with their lengths before them, the length 0 after the last."""
        count = max(1, PART // self.tracemalloc.get_traceback_limit())
        while items:
            part = items[-count:]
            del items[-count:]
            data = self.dumps(part, 4)
            self.send(answer, len(data).to_bytes(4, "little") + data)
            if self.leaving:
                return
        self.send(answer, bytes(4))

    def before_fork(self):
        """Whoever forks is alone, as without the helper, and is not warned of a thread that is none of the app's."""
        self.forks += 1
        self.leaving = True
        try:
            if self.is_running:
                # Not from the listener, which the app may have closed while the thread waits at it.
                waking = self.new_socket(self.socket.AF_UNIX, self.socket.SOCK_DGRAM)
                try:
                    waking.sendto(b"", self.socket.MSG_DONTWAIT, self.address)
                finally:
                    waking.close()
        except Exception:
            # Its queue is full, which wakes it as well; or it has ended.
            pass
        try:
            # The thread has ended only when the kernel says so. A second is long enough: a warning is no disaster.
            give_up = self.monotonic() + 1.0
            while self.is_running and self.monotonic() < give_up:
                if self.thread is not None:
                    self.posix.stat("/proc/self/task/%d" % self.thread)
                self.sleep(0.0001)
        except OSError:
            self.is_running = False

    def after_fork_in_parent(self):
        self.forks -= 1
        if COUNTS_LATE:
            Later(self.resume)
        else:
            self.resume()

    def resume(self):
        # While another thread forks as well, the last one starts it again.
        if self.forks == 0 and not self.is_running:
            self.start_thread()

    def after_fork_in_child(self):
        self.forks, self.is_running = 0, False
        self.renew()

    def renew(self):
        self.has_failed = False
        self.close()
        self.open()
        self.start_thread()


def arm():
    if sys.version_info < (3, 8) or sys.implementation.name != "cpython":
        return
    try:
        helper = Helper()
        # Several threads may be made to run this at the same time, and one may have been here before.
        first = vars(helper.tracemalloc).setdefault("_memini_helper", helper)
        if first is not helper:
            if first.has_failed:
                first.renew()
            return
        helper.open()
        helper.start_thread()
        if sys.version_info >= (3, 12):
            helper.posix.register_at_fork(
                before=helper.before_fork,
                after_in_parent=helper.after_fork_in_parent,
                after_in_child=helper.after_fork_in_child,
            )
        else:
            helper.posix.register_at_fork(after_in_child=helper.after_fork_in_child)
    except Exception:
        # Without /proc, sockets, threads or memory for them the app goes on without a helper.
        pass


def make_way():
    """As if this file and its folder had never been there. Python 2 would empty a module that nobody holds any more."""
    folder = __file__.rpartition("/")[0]
    sys.path[:] = [path for path in sys.path if path != folder]
    sys.path_importer_cache.pop(folder, None)
    return sys.modules.pop(__name__, None)


arm()
if IS_IMPORTED:
    myself = make_way()
    # The app's own, if it has one. If not, site, which imports this file, expects just the error that it then gets.
    import sitecustomize  # noqa: F401
