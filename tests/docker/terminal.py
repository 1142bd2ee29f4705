"""A real terminal with `docker run -it` on it."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

from engine import PATIENCE, Wrong, wait_until

INTERRUPT = "\x03"
SUSPEND = "\x1a"
ROWS, COLUMNS = 33, 111


class Terminal:
    """The client is the leader of a session of its own, with this terminal as its controlling one."""

    def __init__(self, engine, *words):
        self.engine = engine
        self.name = f"terminal-{os.getpid()}"
        self.screen = ""
        words = ["run", "--interactive", "--tty", "--network=none", f"--name={self.name}", *words]
        # Size first: the client reads it once at its start.
        self.keyboard, slave = pty.openpty()
        self.resize(ROWS, COLUMNS)
        self.client = subprocess.Popen([engine.client, *words], stdin=slave, stdout=slave, stderr=slave,
                                       env={**engine.environment(), "TERM": "dumb"}, start_new_session=True,
                                       preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.run("rm", "--force", self.name, check=False)
        self.client.kill()
        self.client.wait()
        os.close(self.keyboard)

    def resize(self, rows, columns):
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def types(self, keys):
        os.write(self.keyboard, keys.encode())

    def read(self, seconds):
        """What is shown within this time, up to the end of the session."""
        if select.select([self.keyboard], [], [], seconds)[0]:
            try:
                self.screen += os.read(self.keyboard, 65536).decode(errors="replace")
                return True
            except OSError:
                # Everybody has let go of the other side.
                return False
        return True

    def sees(self, text, patience=PATIENCE):
        """Waits until this is shown; what was shown before it is forgotten."""
        end = time.monotonic() + patience
        while text not in self.screen:
            if time.monotonic() > end or not self.read(0.1):
                raise Wrong(f"the terminal does not show {text!r}: {self.screen[-1000:]!r}")
        self.screen = self.screen.partition(text)[2]

    def asks(self, keys, text):
        """Types this again and again until that is shown: what it asks about may take a moment."""
        end = time.monotonic() + PATIENCE
        while True:
            self.types(keys)
            try:
                return self.sees(text, patience=1)
            except Wrong:
                if time.monotonic() > end:
                    raise

    def runs(self, program):
        """Waits until a process of the container that has the terminal's foreground runs this program."""
        def look():
            self.read(0)
            return any(in_foreground(pid, program) for pid in self.processes())
        wait_until(f"{program} in the foreground", look)

    def processes(self):
        return self.engine.run("top", self.name, "-eo", "pid").split()[1:]

    def end(self):
        end = time.monotonic() + PATIENCE
        while self.read(0.1):
            if time.monotonic() > end:
                raise Wrong("the session does not end")
        return self.client.wait(PATIENCE)


def in_foreground(pid, program):
    """By proc(5): the process group and that of the terminal's foreground."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    state, _, group, _, _, foreground = rest.split()[:6]
    return name == program and group == foreground and state != "T"

