"""podman with a store of its own; nothing of the machine's own podman is used or touched."""
import itertools
import json
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine import PATIENCE, Wrong, mounts_below
from images import TINY


class Podman:
    """Containers run in the foreground, below the engine's own group."""

    def __init__(self, engine, runtime):
        self.engine = engine
        self.place = Path(tempfile.mkdtemp(prefix="memini-podman."))
        self.words = ["podman", "--root", self.place / "root", "--runroot", self.place / "run", "--tmpdir", self.place / "tmp",
                      "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime]
        self.names = (f"container-{number}" for number in itertools.count())

    def __enter__(self):
        image = self.place / "image.tar"
        self.engine.run("save", "--output", image, TINY)
        self.run("load", "--input", image)
        return self

    def __exit__(self, *_):
        subprocess.run([*self.words, "rm", "--all", "--force"], capture_output=True, timeout=PATIENCE, check=False)
        for mount in mounts_below(self.place):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.place, ignore_errors=True)

    def run(self, *words):
        # conmon leaves an empty file "oom" in its working folder when the kernel has killed.
        done = subprocess.run([*self.words, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=PATIENCE, cwd=self.place)
        return done.returncode, done.stdout

    def container(self, *words):
        """A container from its start to its end. The exit code that podman remembers, and what was printed."""
        name = next(self.names)
        code, log = self.run("run", f"--name={name}", "--network=none", "--cgroups=no-conmon",
                             f"--cgroup-parent={self.engine.parent}/podman", *limits(), *words)
        state = json.loads(self.run("inspect", name)[1])[0]["State"]
        if state["ExitCode"] != code:
            raise Wrong(f"podman run ends with {code}, podman inspect says {state['ExitCode']}: {log}")
        return code, log


def limits():
    """podman wants more of both than a machine may be allowed to give."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=1024:1024"]
