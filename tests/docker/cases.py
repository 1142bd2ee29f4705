"""What is tested in containers. Each case is judged by what the engine and the kernel say, and by the containers' logs."""
import json
import os
import re
import signal
import tempfile
import time
from pathlib import Path

from engine import Wrong, expect, is_unified, wait_until
from images import EXAMPLE, HEALTHY, TINY, need
from podman import Podman
from terminal import INTERRUPT, SUSPEND, Terminal

MIB = 1 << 20
CASES = []
# The app grows by so many MiB a second: time enough for any machine to see it come.
GROWS = ["/app", "leave-on-term:0", "grow:20"]
# The kernel gets its way.
NEVER_STOPS = ["--env=MEMINI_STOP_AT=off", "--env=MEMINI_KILL_AT=off"]
# `docker stop` waits so long before it kills. Seconds.
STOP_TIMEOUT = 10
UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}
# The engine refuses them: the C library keeps them to itself.
NAMELESS = {32, 33}


class Case:
    def __init__(self, name, function, places):
        self.name, self.function, self.places = name, function, places


def case(name, *places):
    """A test; `places` are `here` (this machine) and `vm` (cgroup v2 in a virtual machine)."""
    def add(function):
        CASES.append(Case(name, function, places or ("here",)))
        return function
    return add


# ---- the limit, and what a hardened container takes away ---------------------------------------------------------

def leaves(bench, *options, image=TINY, app=GROWS):
    """Runs a growing app with these options: memini stops it, and the kernel has nothing to do."""
    container = bench.container("--memory=64m", *options, image, *app)
    container.ends_with(75)
    container.says("limit 64 MiB", "stopping the app", "leaving", "sending SIGTERM to the app")
    return container


@case("--memory: memini stops the app, exit code 75, State.OOMKilled is false", "here", "vm")
def memory(bench):
    leaves(bench).says("exit code 75; the evidence is in /tmp/memini/incidents/")


@case("--memory: what the kernel kills has 137, State.OOMKilled is true, and memini says so", "here", "vm")
def killed_by_the_kernel(bench):
    container = bench.container("--memory=64m", *NEVER_STOPS, TINY, "/app", "grow:40")
    container.ends_with(137, oom_killed=True)
    container.says("the app was killed by the kernel's OOM killer (ended by SIGKILL)")


@case("--memory: without memini's watch the kernel kills the same app")
def not_watched(bench):
    container = bench.container("--memory=64m", "--env=MEMINI_NO_WATCH=true", TINY, *GROWS)
    container.ends_with(137, oom_killed=True)


@case("--memory-swap: equal to --memory, and unlimited")
def memory_swap(bench):
    for value in ("64m", "-1"):
        leaves(bench, f"--memory-swap={value}")


@case("--memory: no limit at all, and the app is left alone")
def no_limit(bench):
    container = bench.container(TINY, "/app", "leave-on-term:3", "hold:80", "say:here")
    container.sees("here")
    bench.engine.run("stop", "--time=100000", container.name)
    container.ends_with(3)
    container.says("no limit, the machine has ")
    container.never_says("trace:")


@case("--read-only --tmpfs /tmp: the evidence is kept there")
def read_only(bench):
    container = leaves(bench, "--read-only", "--tmpfs=/tmp")
    container.says("exit code 75; the evidence is in /tmp/memini/incidents/")
    container.never_says("cannot")


@case("--read-only and no other place: memini says that there is no evidence, and does the rest")
def read_only_without_place(bench):
    leaves(bench, "--read-only").says("cannot be made in /tmp: Read-only file system")


@case("--user 65534", "here", "vm")
def unprivileged(bench):
    leaves(bench, "--user=65534", app=["/app", "who", *GROWS[1:]]).says("user 65534,", "the evidence is in /tmp/memini/")


@case("--cap-drop ALL")
def without_capabilities(bench):
    leaves(bench, "--cap-drop=ALL").says("the evidence is in /tmp/memini/")


@case("--security-opt no-new-privileges")
def no_new_privileges(bench):
    leaves(bench, "--security-opt=no-new-privileges").says("the evidence is in /tmp/memini/")


@case("all of that at once", "here", "vm")
def hardened(bench):
    options = ["--read-only", "--tmpfs=/tmp", "--user=65534", "--cap-drop=ALL", "--security-opt=no-new-privileges",
               "--pids-limit=16"]
    leaves(bench, *options).never_says("cannot")


@case("--oom-kill-disable: memini stops the app before it would hang")
def oom_kill_disabled(bench):
    leaves(bench, "--oom-kill-disable")


@case("--shm-size: what is written to /dev/shm counts")
def shared_memory(bench):
    app = ["/app", "leave-on-term:0", "grow-file:/dev/shm/file"]
    container = leaves(bench, "--shm-size=128m", app=app)
    container.never_says("cannot write")


@case("--cgroupns: the one that is not the default", "here", "vm")
def cgroup_namespace(bench):
    leaves(bench, "--cgroupns=host" if is_unified() else "--cgroupns=private")


@case("--cgroup-parent: a lower limit of the group above counts")
def limit_above(bench):
    container = bench.container("--memory=1g", TINY, *GROWS, limit_above=64 * MIB)
    container.ends_with(75)
    container.says("limit 64 MiB", "stopping the app", "leaving")


# ---- process ids -------------------------------------------------------------------------------------------------

@case("--pid=host: not process 1, and nobody outside is touched")
def host_processes(bench):
    container = bench.container("--memory=64m", "--pid=host", TINY, "/app", "orphan", *GROWS[1:])
    container.ends_with(75)
    container.says("orphan", "leaving")
    container.never_says("process 1,")


@case("--pid=container:NAME: beside another container's processes, which go on")
def shared_processes(bench):
    other = bench.container("--memory=64m", TINY, "/app", "say:here", "leave-on-term:4")
    other.sees("here")
    leaves(bench, f"--pid=container:{other.name}").never_says("process 1,")
    expect("whether the other container runs", other.state()["Running"], True)
    bench.engine.run("stop", other.name)
    other.ends_with(4)


@case("docker exec: memini reaps what it leaves behind")
def exec_orphans(bench):
    container = bench.container("--memory=64m", TINY, "/app", "say:here", "leave-on-term:0")
    container.sees("here")
    init = container.pid()
    before = children(init)
    for _ in range(3):
        # Detached: the engine waits some seconds for an output that the orphan holds open.
        bench.engine.run("exec", "--detach", container.name, "/app", "orphan", "exit:0")
    orphans = wait_until("the orphans to be memini's", lambda: three(children(init) - before))
    for orphan in orphans:
        os.kill(orphan, signal.SIGKILL)
    # A zombie that nobody reaps would stay.
    wait_until("their zombies to be reaped", lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans))
    bench.engine.run("stop", container.name)
    container.ends_with(0)


def three(found):
    return found if len(found) == 3 else None


def children(pid):
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@case("docker exec memini status: it finds the recorder, on a read-only root file system in memory", "here")
def status(bench):
    for options, is_in_memory in (((), False), (("--read-only",), True)):
        container = bench.container("--memory=64m", *options, TINY, "/app", "hold:20", "say:here", "leave-on-term:0")
        container.sees("here")

        def told():
            answer = bench.engine.run("exec", container.name, "/memini", "status", "--json", check=False)
            status = json.loads(answer) if answer.startswith("{") else {}
            return status if status.get("seen") else None

        found = wait_until("memini status to have an answer", told)
        expect("the schema and the state", (found["schema"], found["state"]), ("memini.status/1", "running"))
        expect("the limit", found["limit"], 64 * MIB)
        expect("whether the recorder is in memory", found["recorder"] is None, is_in_memory)
        bench.engine.run("stop", container.name)
        container.ends_with(0)


# ---- signals -----------------------------------------------------------------------------------------------------

@case("docker stop: the app's handler runs, its exit code arrives, long before the engine would kill", "here", "vm")
def stop(bench):
    for code in (0, 143):
        container = bench.container("--memory=64m", TINY, "/app", f"leave-on-term:{code}", "say:here")
        container.sees("here")
        begun = time.monotonic()
        # The engine waits without end, so that only the app's own end can end this.
        bench.engine.run("stop", "--time=100000", container.name)
        took = time.monotonic() - begun
        container.ends_with(code)
        container.says("leaving")
        if bench.place == "here" and took >= STOP_TIMEOUT:
            raise Wrong(f"docker stop took {took:.1f} s")


@case("docker stop: an app that ignores SIGTERM is killed by the engine, and that is no OOM")
def stop_deaf(bench):
    container = bench.container("--memory=64m", TINY, "/app", "ignore-term", "say:here")
    container.sees("here")
    bench.engine.run("stop", "--time=1", container.name)
    container.ends_with(137)


@case("--stop-signal, rewritten by memini")
def stop_signal(bench):
    container = bench.container("--memory=64m", "--stop-signal=SIGQUIT", "--env=MEMINI_REWRITE=QUIT:TERM", TINY,
                                "/app", "leave-on-term:6", "say:here")
    container.sees("here")
    bench.engine.run("stop", "--time=100000", container.name)
    container.ends_with(6)


@case("docker kill -s: every signal from 1 to 64 arrives")
def every_signal(bench):
    container = bench.container("--memory=64m", TINY, "/app", "record")
    container.sees("recording")
    wanted = [number for number in range(1, 65) if number not in UNBLOCKABLE]
    init = container.pid()
    for number in wanted:
        if number in NAMELESS:
            os.kill(init, number)
        else:
            bench.engine.run("kill", f"--signal={number}", container.name)
        # One after the other: signals that wait together arrive in the kernel's order.
        container.sees(f"signal {number}\n")
    expect("what arrived", [int(number) for number in re.findall(r"^signal (\d+)$", container.log(), re.MULTILINE)], wanted)
    bench.engine.run("kill", container.name)
    container.ends_with(137)


@case("docker pause and unpause: memini goes on where it was")
def pause(bench):
    container = bench.container("--memory=64m", TINY, "/app", "leave-on-term:5", "say:here")
    container.sees("here")
    bench.engine.run("pause", container.name)
    bench.engine.run("unpause", container.name)
    bench.engine.run("stop", "--time=100000", container.name)
    container.ends_with(5)


# ---- limits that change, restarts, health -------------------------------------------------------------------------

@case("docker update --memory: thresholds follow, up and down", "here", "vm")
def update(bench):
    container = bench.container("--memory=128m", "--memory-swap=128m", TINY, "/app", "leave-on-term:0", "hold:70", "say:here")
    container.sees("here")
    for before, after in ((128, 96), (96, 256), (256, 76)):
        set_memory(bench, container, after)
        expect("the kernel's limit", container.kernel.limit(), after * MIB)
        container.sees(f"the limit changed from {before} MiB to {after} MiB")
        if after == 96:
            container.sees(" of 96 MiB (7")
        elif after == 256:
            container.sees("normal again")
    container.ends_with(75)
    container.says(" of 76 MiB (9", "leaving")


def set_memory(bench, container, mib):
    bench.engine.run("update", f"--memory={mib}m", f"--memory-swap={mib}m", container.name)


@case("--restart on-failure: 75 is a failure, and the second run is fine")
def restart(bench):
    folder = bench.folder()
    container = bench.container("--memory=64m", "--restart=on-failure:5", f"--volume={folder}:/state", TINY, "/app",
                                "first-run-only:/state/file", *GROWS[1:])
    container.sees("second run")
    wait_until("the end of the second run", lambda: container.state()["Status"] == "exited")
    expect("RestartCount", container.inspect()["RestartCount"], 1)
    expect("the last exit code", container.state()["ExitCode"], 0)
    expect("State.OOMKilled", container.state()["OOMKilled"], False)
    container.says("first run", "leaving", "exit code 75; the evidence is in")


@case("HEALTHCHECK by memini check: healthy, also near the limit", "here", "vm")
def healthy(bench):
    container = bench.container("--memory=64m", HEALTHY, "/app", "leave-on-term:0", "hold:48", "say:here")
    container.sees("here")
    wait_until("its health", lambda: container.state()["Health"]["Status"] != "starting")
    health = container.state()["Health"]
    expect("the health", health["Status"], "healthy")
    if "memini can guard here" not in health["Log"][-1]["Output"]:
        raise Wrong(f"the health check said {health['Log'][-1]['Output']!r}")
    bench.engine.run("stop", container.name)
    container.ends_with(0)


@case("HEALTHCHECK by memini check: unhealthy where nothing tells the memory")
def unhealthy(bench):
    folder = bench.folder()
    (folder / "empty").touch()
    container = bench.container(f"--volume={folder}/empty:/proc/meminfo:ro", f"--volume={folder}:/sys/fs/cgroup:ro", HEALTHY,
                                "/app", "leave-on-term:0", "say:here")
    container.sees("here")
    wait_until("its health", lambda: container.state()["Health"]["Status"] != "starting")
    health = container.state()["Health"]
    expect("the health", health["Status"], "unhealthy")
    expect("the exit code of memini check", health["Log"][-1]["ExitCode"], 1)
    bench.engine.run("stop", container.name)
    expect("the exit code", container.end(), 0)


# ---- memini as the engine's own init ------------------------------------------------------------------------------

@case("--init-path: memini stands where docker-init stood", "here", "vm")
def init_path(bench):
    container = bench.container("--memory=64m", "--init", "--entrypoint=/app", TINY, "who", *GROWS[1:])
    container.sees("parent 1")
    expect("the command of process 1", command_of(container)[:3], ["/sbin/docker-init", "--", "/app"])
    container.ends_with(75)
    container.says("memini: ", "stopping the app", "leaving")


@case("--init-path: docker info knows it")
def init_version(bench):
    told = bench.engine.run("info", "--format={{.InitBinary}} {{.InitCommit.ID}} {{.Warnings}} {{.ServerErrors}}").split(" ", 3)
    expect("the init binary", told[0], bench.memini)
    if not re.fullmatch("[0-9a-f]{7}|unknown", told[1]):
        raise Wrong(f"docker info has the commit {told[1]!r} of the init")
    log = (bench.engine.place / "log").read_text()
    if found := re.search(r".*(parse|retrieve).*init.*version.*", log):
        raise Wrong(f"the daemon says {found[0]}")


@case("--init-path: the app's exit code, and docker stop")
def init_path_plain(bench):
    container = bench.container("--init", "--entrypoint=/app", TINY, "exit:7")
    expect("the exit code", container.end(), 7)
    container = bench.container("--init", "--entrypoint=/app", TINY, "leave-on-term:8", "say:here")
    container.sees("here")
    bench.engine.run("stop", "--time=100000", container.name)
    expect("the exit code", container.end(), 8)


def command_of(container):
    return Path(f"/proc/{container.pid()}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


# ---- another runtime ----------------------------------------------------------------------------------------------

@case("--runtime crun: stopped for memory, killed by the kernel, docker stop, --init", "here", "vm")
def crun(bench):
    need("crun", "crun")
    leaves(bench, "--runtime=crun", "--read-only", "--tmpfs=/tmp", "--user=65534", "--cap-drop=ALL")
    bench.container("--runtime=crun", "--memory=64m", *NEVER_STOPS, TINY, "/app", "grow:40").ends_with(137, oom_killed=True)
    container = bench.container("--runtime=crun", "--memory=64m", "--init", "--entrypoint=/app", TINY, "leave-on-term:9",
                                "say:here")
    container.sees("here")
    bench.engine.run("stop", "--time=100000", container.name)
    container.ends_with(9)


@case("podman --runtime crun: stopped for memory, killed by the kernel, hardened, --init")
def podman(bench):
    need("podman", "podman")
    need("crun", "crun")
    with Podman(bench.engine, bench.engine.place / "crun") as there:
        hardened = ["--read-only", "--tmpfs=/tmp", "--user=65534", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        init = ["--init", f"--init-path={bench.memini}", "--entrypoint=/app"]
        for options, app in (([], GROWS), (hardened, GROWS), (init, GROWS[1:])):
            code, log = there.container("--memory=64m", *options, TINY, *app)
            expect(f"the exit code with {options}: {log}", code, 75)
            if "stopping the app" not in log or "leaving" not in log:
                raise Wrong(f"the log with {options}: {log}")
        code, log = there.container("--memory=64m", *NEVER_STOPS, TINY, "/app", "grow:40")
        expect("the exit code", code, 137)
        if "the app was killed by the kernel's OOM killer" not in log:
            raise Wrong(f"the log: {log}")


# ---- Dockerfile.example -------------------------------------------------------------------------------------------

@case("Dockerfile.example: builds as it is, and the leak ends with 75 and with evidence in the volume")
def dockerfile_example(bench):
    bench.needs("example")
    folder = bench.folder()
    container = bench.container("--memory=256m", f"--volume={folder}:/tmp/memini", EXAMPLE)
    container.ends_with(75)
    container.says("__main__.CACHE: dict", "leak.py: SIGTERM: ", "leaving cleanly")
    incidents = list(folder.glob("incidents/*/incident.json"))
    expect("the number of incidents", len(incidents), 1)
    evidence = json.loads(incidents[0].read_text())["evidence"]
    expect("the first suspect", evidence["suspects"][0]["what"], "__main__.CACHE: dict")
    expect("the file it stands in", (incidents[0].parent / evidence["file"]).exists(), True)


@case("memini capture: beside a running memini by docker exec, compared with what it saw before")
def capture_beside(bench):
    bench.needs("example")
    container = bench.container("--memory=256m", EXAMPLE, "python", "leak.py", "--rate", "3")
    container.sees("exchange rates loaded")
    before = container.execute("/memini", "capture", "--json")
    expect("the first process", json.loads(before)["processes"][0]["comm"], "python")
    usage = container.kernel.usage()
    wait_until("growth by 30 MiB", lambda: container.kernel.usage() > usage + 30 * MIB)
    told = container.execute("/memini", "capture", "--since", "/dev/stdin", stdin=before.encode())
    if "__main__.CACHE: dict" not in told:
        raise Wrong(f"what memini capture says: {told}")
    container.never_says("trace: ")


@case("-it: job control, Ctrl-C, the window's size")
def terminal(bench):
    bench.needs("example")
    shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
    words = ["--memory=64m", "--env=PS1=PROMPT>", "--entrypoint=/memini", EXAMPLE, "-q", "--", *shell]
    with Terminal(bench.engine, *words) as there:
        there.sees("PROMPT>")
        there.asks("echo size $(stty size)\n", "size 33 111")
        there.resize(44, 122)
        there.asks("echo size $(stty size)\n", "size 44 122")
        # The line as it is typed shall not look like what it prints.
        there.types("sleep 100000; echo code '=' $?\n")
        there.runs("sleep")
        there.types(INTERRUPT)
        there.asks("echo after $((6 * 7))\n", "after 42")
        there.types("sleep 100000\n")
        there.runs("sleep")
        there.types(SUSPEND)
        there.sees("Stopped")
        there.asks("jobs | sed s/^/jobs:/\n", "jobs:[1]+")
        there.types("fg\n")
        there.runs("sleep")
        there.types(INTERRUPT)
        there.asks("kill -0 %1 || echo gone $((7 * 7))\n", "gone 49")
        there.types("exit 12\n")
        expect("the exit code of docker run", there.end(), 12)


# ---- where they run -----------------------------------------------------------------------------------------------

class Bench:
    """What a case works with; it takes away what the case has made."""

    def __init__(self, engine, memini, place, offers):
        """`offers`: what takes time to make; to call it is to wait for it."""
        self.engine, self.memini, self.place, self.offers = engine, memini, place, offers
        self.containers, self.folders = [], []

    def container(self, *words, **more):
        container = self.engine.start_container(*words, **more)
        self.containers.append(container)
        return container

    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="memini-docker-volume.")
        self.folders.append(folder)
        return Path(folder.name)

    def needs(self, what):
        """Waits for it; that it cannot be had is a reason to skip."""
        self.offers[what]()

    def log(self):
        return "".join(f"-- {container.name[:12]}\n{container.log()}" for container in self.containers)

    def clear(self):
        for container in self.containers:
            container.remove()
        for folder in self.folders:
            folder.cleanup()
