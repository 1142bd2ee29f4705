"""A Docker Engine of the tests' own: its daemon, its containers, and the kernel's word on them."""
import ctypes
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

# Longer than anything takes here, on a busy machine and in an emulated one as well. Seconds.
PATIENCE = 400
PR_SET_PDEATHSIG = 1
CGROUPS = Path("/sys/fs/cgroup")
LIBC = ctypes.CDLL(None, use_errno=True)


class Wrong(Exception):
    """Something is not as it should be; the text says what."""


def expect(what, found, wanted):
    if found != wanted:
        raise Wrong(f"{what}: {found!r}, not {wanted!r}")


def wait_until(what, look, patience=PATIENCE):
    """Looks again and again until there is something to see, and returns it."""
    end = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > end:
            raise Wrong(f"waited in vain for {what}")
        time.sleep(0.02)
    return found


def end_with_parent():
    """In the daemon, before its start: it ends, and its containers with it, even if this script is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def is_unified():
    return (CGROUPS / "cgroup.controllers").exists()


def place_for_groups():
    """On v1 the own memory group: where this is a container, nothing else may be written. A group of v2 that holds
    processes cannot hand anything down, but the root can."""
    if is_unified():
        return ""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return path.rstrip("/")
    raise Wrong("this process is in no memory group")


def hierarchies():
    return [CGROUPS] if is_unified() else sorted(folder for folder in CGROUPS.iterdir() if folder.is_dir())


class Engine:
    """dockerd below a folder of its own; nothing of the machine's own Docker is used or touched."""

    def __init__(self, place, options=()):
        self.place = Path(place)
        self.socket = self.place / "docker.sock"
        # Debian's client fits its daemon; another one on PATH may be of another time.
        self.client = shutil.which("docker", path=f"/usr/bin:{os.environ['PATH']}")
        self.parent = f"{place_for_groups()}/memini-docker-{os.getpid()}"
        self.options = list(options)
        self.daemon = None
        self.numbers = itertools.count(1)
        self.groups = []

    # ---- life ---------------------------------------------------------------------------------------------------

    def start(self):
        for folder in ("data", "exec", "config"):
            (self.place / folder).mkdir(parents=True, exist_ok=True)
        # Not the machine's own.
        settings = self.place / "daemon.json"
        settings.write_text("{}\n")
        words = ["dockerd", "--data-root", self.place / "data", "--exec-root", self.place / "exec",
                 "--host", f"unix://{self.socket}", "--pidfile", self.place / "pid", "--config-file", settings,
                 "--iptables=false", "--ip6tables=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs",
                 "--cgroup-parent", self.parent, *self.options]
        self.groups = self.missing_groups()
        with open(self.place / "log", "ab") as log:
            self.daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                           start_new_session=True, preexec_fn=end_with_parent)
        wait_until("the daemon's socket", self.answers)

    def answers(self):
        if self.daemon.poll() is not None:
            raise Wrong("the daemon ended: " + self.log_end())
        try:
            return self.ask("GET", "/_ping") == b"OK"
        except OSError:
            return False

    def ask(self, method, path):
        """A question to the daemon itself: a client's start takes seconds in an emulated machine."""
        connection = Connection(self.socket)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Wrong(f"{method} {path}: {body.decode(errors='replace')}")
        return body

    def log_end(self):
        lines = (self.place / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-10:])

    def end(self):
        """Ends the daemon and takes away what it has left: processes, mounts, groups, files."""
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        for pid in self.leftovers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for mount in mounts_below(self.place):
            subprocess.run(["umount", "--lazy", mount], check=False)
        self.remove_groups()
        shutil.rmtree(self.place, ignore_errors=True)

    def leftovers(self):
        """containerd and its shims know the daemon's folder, containers are in its groups."""
        mark = str(self.place).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            try:
                if pid != os.getpid() and (mark in (folder / "cmdline").read_bytes()
                                           or f"{self.parent}/" in (folder / "cgroup").read_text()):
                    yield pid
            except OSError:
                pass

    def missing_groups(self):
        """In every hierarchy, what the daemon will make on the way to the containers' groups; the upper ones first."""
        names = self.parent.lstrip("/").split("/")
        ways = [root.joinpath(*names[:count]) for root in hierarchies() for count in range(1, len(names) + 1)]
        return [way for way in ways if not way.exists()]

    def remove_groups(self):
        for group in reversed(self.groups):
            for folder, _, _ in os.walk(group, topdown=False):
                remove_group(folder)

    # ---- commands -----------------------------------------------------------------------------------------------

    def environment(self):
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.place / "config"),
                "DOCKER_BUILDKIT": "0"}

    def run(self, *words, check=True, stdin=None, patience=PATIENCE):
        """Runs the client to its end: its standard output, and what it says on standard error if it fails."""
        command = [self.client, *map(str, words)]
        try:
            done = subprocess.run(command, env=self.environment(), input=stdin, capture_output=True, timeout=patience)
        except subprocess.TimeoutExpired:
            raise Wrong(f"docker {' '.join(command[1:])} takes longer than {patience} s") from None
        if check and done.returncode != 0:
            raise Wrong(f"docker {' '.join(command[1:])}: {done.stderr.decode(errors='replace').strip()[-2000:]}")
        return done.stdout.decode(errors="replace")

    def start_container(self, *words, limit_above=None):
        """`docker run --detach` with these words, below a group that it has for itself; `limit_above` limits that (v1)."""
        parent = f"{self.parent}/{next(self.numbers)}"
        if limit_above:
            group = Path(f"{CGROUPS}/memory{parent}")
            group.mkdir(parents=True)
            (group / "memory.limit_in_bytes").write_text(str(limit_above))
        name = self.run("run", "--detach", "--network=none", f"--cgroup-parent={parent}", *words).strip()
        return Container(self, name, parent)


class Connection(http.client.HTTPConnection):
    """HTTP on the daemon's socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def mounts_below(place):
    """The mount points below this folder, the last one first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if point.startswith(f"{place}/")]


def remove_group(folder):
    # The kernel needs a moment until the last process is gone.
    end = time.monotonic() + 10
    while True:
        try:
            return os.rmdir(folder)
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > end:
                return None
            time.sleep(0.01)


class Container:
    """One container, from its start to its removal."""

    def __init__(self, engine, name, parent):
        self.engine = engine
        self.name = name
        self.log_file = engine.place / "data" / "containers" / name / f"{name}-json.log"
        self.kernel = UnifiedKernel(parent, name) if is_unified() else LegacyKernel(parent, name)

    def inspect(self):
        """What `docker inspect` shows."""
        return json.loads(self.engine.ask("GET", f"/containers/{self.name}/json"))

    def state(self):
        return self.inspect()["State"]

    def pid(self):
        """PID 1's process id, seen from outside."""
        return self.state()["Pid"]

    def log(self):
        """What the container has printed, on both streams."""
        try:
            lines = self.log_file.read_text().splitlines()
        except OSError:
            return ""
        return "".join(entry["log"] for entry in map(parsed, lines) if entry)

    def sees(self, text):
        """Waits until this is in the log."""
        looks = 0

        def look():
            nonlocal looks
            looks += 1
            if text in self.log():
                return True
            # Whoever has ended says no more.
            if looks % 50 == 0 and not self.state()["Running"] and text not in self.log():
                raise Wrong(f"the container has ended without a word of {text!r}")
            return False

        wait_until(f"{text!r} in the log", look)

    def says(self, *texts):
        for text in texts:
            if text not in self.log():
                raise Wrong(f"the log has no {text!r}")

    def never_says(self, *texts):
        for text in texts:
            if text in self.log():
                raise Wrong(f"the log has {text!r}")

    def execute(self, *words, stdin=None):
        """Runs a command beside PID 1: its standard output."""
        return self.engine.run("exec", *([] if stdin is None else ["--interactive"]), self.name, *words, stdin=stdin)

    def end(self):
        """Waits for its end. The exit code, as the engine reports it."""
        code = json.loads(self.engine.ask("POST", f"/containers/{self.name}/wait"))["StatusCode"]
        expect("the exit code of docker inspect", self.state()["ExitCode"], code)
        return code

    def ends_with(self, code, oom_killed=False):
        """Waits for its end, and compares with what the engine and the kernel say."""
        expect("the exit code", self.end(), code)
        expect("State.OOMKilled", self.state()["OOMKilled"], oom_killed)
        expect("whether the kernel has killed", self.kernel.kills() > 0, oom_killed)

    def remove(self):
        self.engine.run("rm", "--force", "--volumes", self.name, check=False)


def parsed(line):
    """An entry of the log; the last one may not be whole yet."""
    try:
        return json.loads(line)
    except ValueError:
        return None


# ---- the kernel's word ------------------------------------------------------------------------------------------

class LegacyKernel:
    """cgroup v1 has no counter that outlives the group, but it announces each OOM to an eventfd, and the group's end."""

    def __init__(self, parent, name):
        self.group = Path(f"{CGROUPS}/memory{parent}/{name}")
        self.events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.announced = False
        try:
            with open(self.group / "memory.oom_control") as control:
                (self.group / "cgroup.event_control").write_text(f"{self.events} {control.fileno()}")
            self.announced = True
        except OSError:
            # It was over before anybody could look.
            pass

    def kills(self):
        if not self.announced:
            raise Wrong("the container ended too early to be watched")
        wait_until("the end of the memory group", lambda: not self.group.exists())
        return wait_until("the announcement of that end", self.read) - 1

    def read(self):
        try:
            return os.eventfd_read(self.events)
        except BlockingIOError:
            return 0

    def limit(self):
        return int((self.group / "memory.limit_in_bytes").read_text())

    def usage(self):
        return int((self.group / "memory.usage_in_bytes").read_text())


class UnifiedKernel:
    """cgroup v2 counts in the group above as well, which outlives the container's own."""

    def __init__(self, parent, name):
        self.parent = Path(f"{CGROUPS}{parent}")
        self.group = self.parent / name

    def kills(self):
        events = dict(line.split() for line in (self.parent / "memory.events").read_text().splitlines())
        return int(events["oom_kill"])

    def limit(self):
        return int((self.group / "memory.max").read_text())

    def usage(self):
        return int((self.group / "memory.current").read_text())
