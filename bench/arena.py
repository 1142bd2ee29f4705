"""Where a race is run: a memory cgroup with a limit, a CPU cgroup, a PID namespace; and what the kernel says of it."""
import contextlib
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
HOUSE = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HOUSE / "target"))
TRIPLE = f"{platform.machine()}-unknown-linux-musl"
MIB = 1 << 20
NOBODY = 65534
# The period of the CPU quota, in microseconds: the kernel's default, and what engines use.
PERIOD = 100_000
# What all runs together may run with SCHED_FIFO of each second where the kernel counts that by group
# (CONFIG_RT_GROUP_SCHED); a new group starts with nothing, and then SCHED_FIFO is refused. Microseconds; the kernel keeps
# back 50,000 for others.
REAL_TIME = 900_000


class Unable(Exception):
    """No race can be run here; the text says why."""


# ---- groups -----------------------------------------------------------------------------------------------------

def own_group(controller):
    """The folder of the own group in the hierarchy that has this controller, and whether that is v2."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controller in controllers.split(",") or controllers == "":
            for mount in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
                place, _, kind = mount.partition(" - ")
                root, point = place.split()[3:5]
                kind, options = kind.split()[0], kind.split()[2].split(",")
                unified = kind == "cgroup2" and controllers == ""
                if not unified and not (kind == "cgroup" and controller in options):
                    continue
                # A container may see only a part of the hierarchy.
                folder = pathlib.Path(point) / (own if root == "/" else own.removeprefix(root)).lstrip("/")
                if not unified:
                    return folder, False
                if controller in (pathlib.Path(point) / "cgroup.controllers").read_text().split():
                    return handing_down(folder, pathlib.Path(point), controller), True
    raise Unable(f"there is no cgroup with the {controller} controller")


def handing_down(own, root, controller):
    """The nearest group of v2 whose children can have the controller: one with processes of its own cannot hand it down,
    unless it is the root."""
    for folder in (own, root):
        control = folder / "cgroup.subtree_control"
        if controller not in control.read_text().split():
            with contextlib.suppress(OSError):
                control.write_text(f"+{controller}")
        if controller in control.read_text().split():
            return folder
    raise Unable(f"no group may hand down the {controller} controller")


class Groups:
    """Makes groups, each with a name of its own."""

    def __init__(self):
        self.memory, self.unified = own_group("memory")
        try:
            self.cpu, cpu_unified = own_group("cpu")
        except Unable:
            self.cpu = None
        if self.unified and self.cpu and (not cpu_unified or self.cpu != self.memory):
            self.cpu = None
        self.swaps = len(pathlib.Path("/proc/swaps").read_text().splitlines()) > 1
        self.count, self.lock = 0, threading.Lock()
        self.tidy()

    def tidy(self):
        """Removes what a run has left that was killed. Its share of real time would be missing: memini, scheduled as FIFO, would
        stand still for most of each second."""
        for parent in filter(None, [self.memory, self.cpu]):
            for folder in parent.glob("memini-race-*"):
                if not pathlib.Path("/proc", folder.name.split("-")[2]).exists():
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def make(self, limit, quota=None, at_a_time=1):
        """A group for one of so many runs at the same time."""
        with self.lock:
            self.count += 1
            name = f"memini-race-{os.getpid()}-{self.count}"
        return Group(self, name, limit, quota, REAL_TIME // at_a_time)


class Group:
    """A memory cgroup with a limit, and a CPU cgroup: every container has one. `quota`: the share of a core it gets."""

    def __init__(self, groups, name, limit, quota, real_time):
        self.unified, self.limit = groups.unified, limit
        self.memory = groups.memory / name
        self.memory.mkdir(parents=True)
        self.cpu = None
        if groups.unified:
            self.set("memory.max", limit)
            if groups.swaps:
                self.set("memory.swap.max", 0)
        else:
            self.set("memory.limit_in_bytes", limit)
            if groups.swaps:
                self.set("memory.memsw.limit_in_bytes", limit)
        if groups.cpu:
            self.cpu = groups.cpu / name
            if not groups.unified:
                self.cpu.mkdir()
                self.allow_real_time(real_time)
        if quota:
            if not self.cpu:
                raise Unable("there is no CPU controller for a quota")
            microseconds = int(quota * PERIOD)
            if groups.unified:
                self.set("cpu.max", f"{microseconds} {PERIOD}")
            else:
                (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD))
                (self.cpu / "cpu.cfs_quota_us").write_text(str(microseconds))
        self.folders = list(dict.fromkeys(filter(None, [self.memory, self.cpu])))

    def allow_real_time(self, microseconds):
        """As much of it as others have left."""
        while microseconds > 1000:
            try:
                return (self.cpu / "cpu.rt_runtime_us").write_text(str(microseconds))
            except FileNotFoundError:
                return None
            except OSError:
                microseconds //= 2
        return None

    def set(self, name, value):
        (self.memory / name).write_text(str(value))

    def get(self, name):
        return (self.memory / name).read_text()

    def oom_kills(self):
        """How many processes of the group the kernel's OOM killer has killed: the judge."""
        return int(re.search(r"^oom_kill (\d+)$", self.get("memory.events" if self.unified else "memory.oom_control"), re.M)[1])

    def victims(self):
        """The names of the processes that the kernel says it has killed here. It does not log all of them."""
        log = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", check=False).stdout
        return re.findall(rf"oom-kill:.*/{self.memory.name},.*\btask=([^,]*),", log)

    def usage(self):
        return int(self.get("memory.current" if self.unified else "memory.usage_in_bytes"))

    def peak(self):
        with contextlib.suppress(OSError):
            return int(self.get("memory.peak" if self.unified else "memory.max_usage_in_bytes"))
        return None

    def remove(self):
        """Removes the groups. What is still in them is ended: nobody else is ever put there."""
        # The kernel lets go of a group later than rmdir returns; its share must be free for the next one.
        with contextlib.suppress(OSError, TypeError):
            (self.cpu / "cpu.rt_runtime_us").write_text("0")
        end = time.monotonic() + 30
        for folder in self.folders:
            while True:
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    for line in (folder / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(line), signal.SIGKILL)
                    time.sleep(0.002)


# ---- what runs in them ------------------------------------------------------------------------------------------

@dataclass
class Ended:
    """How a run ended. `code` is what the shell would say, or the negative number of the signal that ended PID 1."""
    code: int
    log: str
    seconds: float
    hung: bool = False


class Arena:
    """A folder on disk with the programs, where everybody may read."""

    def __init__(self, binary=None):
        if os.geteuid() != 0:
            raise Unable("PID namespaces and cgroups need root")
        self.groups = Groups()
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="memini-race-", dir=folder_on_disk()))
        self.place.chmod(0o755)
        self.memini = self.place / "memini"
        shutil.copy(binary or build(), self.memini)
        self.launch = compiled(HERE / "launch.c", self.place / "launch")
        self.fill = compiled(HERE / "fills" / "fill.c", self.place / "fill", "-pthread")
        self.count, self.lock = 0, threading.Lock()
        self.variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/"}

    def close(self):
        shutil.rmtree(self.place, ignore_errors=True)

    @contextlib.contextmanager
    def folder(self, owner=0):
        """A new folder for one run."""
        with self.lock:
            self.count += 1
            folder = self.place / f"run-{self.count}"
        folder.mkdir()
        os.chown(folder, owner, owner)
        (folder / "scratch").mkdir()
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, group, rights, command, folder, variables=None, **more):
        """Starts a command as PID 1 of a namespace of its own, in the group. A tmpfs is mounted at `scratch`, and
        `tmp` at /tmp, if that does not hide the programs."""
        joins = [word for place in group.folders for word in ("-j", place / "cgroup.procs")]
        private = [] if self.place.is_relative_to("/tmp") else ["-p", folder / "tmp"]
        words = [self.launch, *joins, "-t", folder / "scratch", *private, "-r", rights, "--", *command]
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | more
        return subprocess.Popen([str(word) for word in words], cwd=folder, env=self.variables | (variables or {}), **more)

    def run(self, group, rights, command, folder, patience, variables=None):
        """Runs a command so to its end."""
        begun = time.monotonic()
        process = self.start(group, rights, command, folder, variables, stderr=subprocess.PIPE, text=True, errors="replace")
        hung = False
        try:
            _, log = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            _, log = process.communicate()
        return Ended(process.returncode, log, time.monotonic() - begun, hung)


def folder_on_disk():
    """Where temporary files are not memory: on a tmpfs they would be charged to the group that writes them."""
    for folder in ("/var/tmp", tempfile.gettempdir()):
        kind = subprocess.run(["stat", "--file-system", "--format=%T", folder], capture_output=True, text=True).stdout.strip()
        if kind not in ("tmpfs", "ramfs", ""):
            return folder
    raise Unable("neither /var/tmp nor the folder for temporary files is on a disk")


def build():
    """memini as it is shipped; MEMINI names one that is there already."""
    if "MEMINI" in os.environ:
        return os.environ["MEMINI"]
    subprocess.run(["cargo", "build", "--quiet", "--release", "--target", TRIPLE], cwd=HOUSE, check=True)
    return TARGET / TRIPLE / "release" / "memini"


def compiled(source, program, *flags):
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-static", *flags, "-o", program, source], check=True)
    return program


@contextlib.contextmanager
def busy_cores(arena):
    """Keeps every usable core busy by a process of its own, at the usual priority and outside the group."""
    spinning = [subprocess.Popen([arena.fill, "spin", "1", str(core)]) for core in sorted(os.sched_getaffinity(0))]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def install(*packages):
    """Installs Debian packages where that may be done."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        words = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(words, env=environment, **quiet).returncode != 0:
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(words, env=environment, **quiet)
