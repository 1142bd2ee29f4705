"""Side by side: what else is used against running out of memory, and memini, on the same fills."""
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import arena
from arena import MIB, Arena

RUNS = 5
# Runs at a time, where they hardly use a core or all but wait; memini's fast ones run alone.
AT_A_TIME = 5
# What the app may use, of what the limit leaves beside the peer itself: as a careful user would set it.
SHARE = 0.8
PATIENCE = 90
RATES = {"2 MB/s": 2_000_000, "20 MB/s": 20_000_000, "200 MB/s": 200_000_000, "flat out": None}
CELLS = [(limit, fill) for limit in (64, 256) for fill in RATES] + [(1024, "200 MB/s"), (1024, "flat out")]
# How long a fill with a rate goes on until the limit. Seconds.
CLIMB = 8
# Where it begins at the highest: every guard must see it below its threshold.
HIGHEST_START = 0.7

GUARD = """\
#!/bin/sh
# Starts the app, looks at memory once a second and asks the app to leave when it is above a threshold.
"$@" &
app=$!
while kill -0 "$app" 2>/dev/null; do
    used=$(cat "$USAGE")
    if [ "$used" -gt "$MOST" ]; then
        echo "memory is at $used bytes, above $MOST: sending SIGTERM"
        kill -TERM "$app"
    fi
    sleep 1
done
wait "$app"
"""

MONIT = """\
set daemon 1
set log {folder}/messages
set pidfile {folder}/monit.pid
set idfile {folder}/monit.id
set statefile {folder}/monit.state
check process app with pidfile {folder}/app.pid
    start program = "/bin/sh -c '{app} & echo $! >{folder}/app.pid'"
    stop program = "/bin/sh -c 'kill -TERM $(cat {folder}/app.pid)'"
    if totalmem > {most} MB then restart
"""

SUPERVISOR = """\
[supervisord]
nodaemon=true
user=root
logfile={folder}/messages
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/socket
[program:app]
command={app}
[eventlistener:memmon]
command={memmon} -p app={most}MB
events=TICK_5
stderr_logfile={folder}/memmon.log
"""


@dataclass
class Peer:
    """One way to guard. `interval`: how often it looks, in seconds; `words` of its log that tell of memory."""
    name: str
    interval: float
    words: str
    configured: str
    tools: dict = field(default_factory=dict)


PEERS = [
    Peer("shell loop under tini", 1, "memory is at", "reads the group's usage once a second, SIGTERM above 80% of the limit"),
    Peer("monit", 1, "matches resource limit", "cycle of 1 s (its shortest), `if totalmem > …  then restart`"),
    Peer("supervisord, memmon", 5, "Restarting", "memmon on TICK_5 (the shortest tick), `-p app=…`"),
    Peer("pm2", 30, "max-memory-restart", "`max_memory_restart`, its check every 30 s as by default"),
    Peer("memini", 0, "", "defaults, `--dir` on disk"),
]


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- installing -------------------------------------------------------------------------------------------------

def cache():
    folder = os.environ.get("MEMINI_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(folder) if folder else pathlib.Path(base) / "memini-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(name, make):
    """A folder of the cache; what is half-made has another name. A virtual environment knows its own path, so what is made is
    told where it will stand."""
    place = cache() / name
    mark = place / "complete"
    if not mark.exists():
        shutil.rmtree(place, ignore_errors=True)
        say(f"installing {name}")
        make(place)
        mark.touch()
    return place


def make_supervisor(place):
    subprocess.run([os.path.realpath(sys.executable), "-m", "venv", place], check=True)
    # supervisor still imports pkg_resources.
    subprocess.run([place / "bin" / "pip", "--quiet", "install", "supervisor", "superlance", "setuptools<81"], check=True)


def make_pm2(place):
    place.mkdir()
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, "pm2"], check=True)


def installed():
    """Peer → its tools; a peer that cannot be had is left out with a line."""
    found = {"memini": {}}
    missing = [package for package, program in (("tini", "tini"), ("monit", "monit"), ("procps", "ps")) if not shutil.which(program)]
    if missing:
        arena.install(*missing)
    if shutil.which("tini"):
        found["shell loop under tini"] = {"version": version("tini", "--version")}
    if shutil.which("monit"):
        found["monit"] = {"version": version("monit", "-V")}
    for name, folder, make, tool in (("supervisord, memmon", "supervisor", make_supervisor, "bin/supervisord"), ("pm2", "pm2", make_pm2, "node_modules/.bin/pm2-runtime")):
        try:
            place = cached(folder, make)
            if not (place / tool).exists():
                # The cache is not what its mark says.
                (place / "complete").unlink()
                place = cached(folder, make)
            number = version(place / tool, "--version").splitlines()[-1]
            found[name] = {"place": place, "version": f"supervisor {number}, superlance {superlance(place)}" if folder == "supervisor" else f"pm2 {number}"}
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"{name} is left out: {error}")
    return found


def version(*command):
    output = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PM2_HOME": "/tmp/memini-race-pm2"})
    shutil.rmtree("/tmp/memini-race-pm2", ignore_errors=True)
    return ((output.stdout or output.stderr).strip() or "unknown").splitlines()[-1 if "pm2" in str(command[0]) else 0]


def superlance(place):
    names = [path.name for path in place.glob("lib/python*/site-packages/superlance-*.dist-info")]
    return names[0].split("-")[1].removesuffix(".dist") if names else "?"


# ---- one run ----------------------------------------------------------------------------------------------------

def command_of(peer, track, group, folder, app, most):
    """What runs as PID 1, and its variables. `most` is what the app may use, in bytes."""
    app = [str(word) for word in app]
    if peer.name == "memini":
        return [track.memini, "--dir", folder / "memini", "--", *app], {}
    if peer.name == "shell loop under tini":
        script = folder / "guard"
        script.write_text(GUARD)
        usage = group.memory / ("memory.current" if group.unified else "memory.usage_in_bytes")
        return [shutil.which("tini"), "--", "sh", script, *app], {"USAGE": str(usage), "MOST": str(int(group.limit * SHARE))}
    if peer.name == "monit":
        config = folder / "monitrc"
        config.write_text(MONIT.format(folder=folder, app=" ".join(app), most=most // MIB))
        config.chmod(0o600)
        return [shutil.which("monit"), "-I", "-c", config], {}
    place = peer.tools["place"]
    if peer.name == "pm2":
        config = folder / "app.config.js"
        one = {"name": "app", "script": app[0], "interpreter": "none", "args": app[1:], "max_memory_restart": f"{most // MIB}M"}
        config.write_text(f"module.exports = {json.dumps({'apps': [one]})};\n")
        return [place / "node_modules" / ".bin" / "pm2-runtime", "start", config], {"PM2_HOME": str(folder / "pm2")}
    config = folder / "supervisord.conf"
    config.write_text(SUPERVISOR.format(folder=folder, app=" ".join(app), most=most // MIB, memmon=place / "bin" / "memmon"))
    return [place / "bin" / "supervisord", "-c", config], {}


def has_begun(group):
    """Whether the app runs."""
    for line in group.get("cgroup.procs").split():
        try:
            if os.readlink(f"/proc/{line}/exe").endswith("/fill"):
                return True
        except OSError:
            continue
    return False


def anonymous(group):
    name = "anon" if group.unified else "total_rss"
    return int(re.search(rf"^{name} (\d+)$", group.get("memory.stat"), re.M)[1])


class Watching:
    """A peer at work: its log is read as it comes."""

    def __init__(self, peer, track, group, folder, app, most):
        command, variables = command_of(peer, track, group, folder, app, most)
        self.begun, self.folder = time.monotonic(), folder
        self.process = track.start(group, "root", command, folder, variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = bytearray()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while block := self.process.stdout.read1(65536):
            self.output += block

    def wait(self, done, patience):
        """Until something has happened, or PID 1 has ended; whether it has happened."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if done():
                return True
            if self.process.poll() is not None:
                return done()
            time.sleep(0.01)
        return False

    def log(self):
        files = [path.read_text(errors="replace") for path in (self.folder / "messages", self.folder / "memmon.log") if path.exists()]
        return self.output.decode(errors="replace") + "".join(files)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()


def own_use(peer, track, limit):
    """What a peer uses itself, in bytes, beside an app that does nothing; None if it does not even start in that limit."""
    group = track.groups.make(limit * MIB)
    try:
        with track.folder() as folder:
            watching = Watching(peer, track, group, folder, [track.fill, "idle", limit * MIB], limit * MIB)
            try:
                if not watching.wait(lambda: has_begun(group) or group.oom_kills(), 30) or group.oom_kills():
                    return None
                # It settles; and a tool that cannot be held is killed now.
                watching.wait(lambda: group.oom_kills(), 3)
                alive = watching.process.poll() is None and not group.oom_kills()
                return anonymous(group) if alive else None
            finally:
                watching.end()
    finally:
        group.remove()


def run(peer, track, limit, fill, own):
    """One run: what the kernel did, whether the app's handler ran, what is left behind, how long it took."""
    group = track.groups.make(limit * MIB)
    pause = random.uniform(0, peer.interval)
    room = limit * MIB - own
    try:
        with track.folder() as folder:
            left = folder / "left"
            app = [track.fill, "-l", left, "-p", int(pause * 1000)]
            rate = RATES[fill]
            if rate and room / rate > 2:
                app += ["-s", int(min(max(room * 0.5, room * 0.95 - CLIMB * rate), room * HIGHEST_START))]
            app += ["rate", limit * MIB, rate] if rate else ["one", limit * MIB]
            watching = Watching(peer, track, group, folder, app, int(room * SHARE))
            try:
                happened = watching.wait(lambda: group.oom_kills() or left.exists(), PATIENCE + peer.interval)
                seconds = time.monotonic() - watching.begun - pause
                # The last words, and memini's record.
                watching.wait(lambda: False, 3 if peer.name == "memini" else 0.3)
                code = watching.process.poll()
            finally:
                watching.end()
            log = watching.log()
            complete = peer.name == "memini" and code == 75 and incident_of(folder)
            evidence = "incident" if complete else "log line" if peer.words and peer.words in log else "none"
            return {"oom": group.oom_kills() > 0, "left": left.exists(), "evidence": evidence, "seconds": seconds,
                    "odd": "" if happened or code is not None else f"nothing happened: {log[-200:]!r}"}
    finally:
        group.remove()


def incident_of(folder):
    found = list((folder / "memini").glob("incidents/*/incident.json"))
    try:
        return len(found) == 1 and json.loads(found[0].read_text())["outcome"] in ("stopped", "killed")
    except (OSError, ValueError, KeyError):
        return False


# ---- all of them ------------------------------------------------------------------------------------------------

def side_by_side(options):
    track = Arena(options.binary)
    try:
        tools = installed()
        peers = [peer for peer in PEERS if peer.name in tools]
        for peer in peers:
            peer.tools = tools[peer.name]
        begun = time.monotonic()
        rows, uses = measure(peers, track, options.runs or RUNS)
        return report(peers, rows, uses, time.monotonic() - begun)
    finally:
        track.close()


def measure(peers, track, runs):
    uses = {(peer.name, limit): own_use(peer, track, limit) for peer in peers for limit in sorted({limit for limit, _ in CELLS})}
    rows = {}
    for limit, fill in CELLS:
        slow = RATES[fill] and RATES[fill] < 100_000_000
        fitting = [peer for peer in peers if uses[peer.name, limit] is not None]
        # All peers together where nobody needs a core; else one peer after the other.
        for together in [fitting] if slow else [[peer] for peer in fitting]:
            alone = not slow and together[0].name == "memini"
            with concurrent.futures.ThreadPoolExecutor(1 if alone else AT_A_TIME * len(together)) as pool:
                futures = [(peer, pool.submit(run, peer, track, limit, fill, uses[peer.name, limit])) for _ in range(runs) for peer in together]
                for peer, future in futures:
                    rows.setdefault((limit, fill, peer.name), []).append(future.result())
        for peer in peers:
            print("  " + " | ".join(map(str, row_of(limit, fill, peer, rows, uses))), flush=True)
    return rows, uses


def row_of(limit, fill, peer, rows, uses):
    start = [f"{limit} MiB", fill, peer.name]
    if uses[peer.name, limit] is None:
        return [*start, "does not fit", "", "", ""]
    results = rows[limit, fill, peer.name]
    many = len(results)
    kinds = {result["evidence"] for result in results} - {"none"}
    evidence = ", ".join(f"{kind} {sum(result['evidence'] == kind for result in results)}/{many}" for kind in sorted(kinds)) or "none"
    odd = [result["odd"] for result in results if result["odd"]]
    for text in odd:
        say(f"    {limit} MiB, {fill}, {peer.name}: {text}")
    return [*start, f"{sum(result['oom'] for result in results)}/{many}", f"{sum(result['left'] for result in results)}/{many}", evidence,
            f"{statistics.median(result['seconds'] for result in results):.1f}"]


def report(peers, rows, uses, seconds):
    head = ["limit", "fill", "guard", "OOM kills by the kernel", "the app's handler ran", "evidence left behind", "time, s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * 3 + "|---:" * 2 + "|---|---:|"]
    lines += ["| " + " | ".join(map(str, row_of(limit, fill, peer, rows, uses))) + " |" for limit, fill in CELLS for peer in peers]
    guards = ["| guard | version | configured | looks every | own memory at 256 MiB |", "|---|---|---|---:|---:|"]
    for peer in peers:
        own = uses[peer.name, 256]
        guards.append(f"| {peer.name} | {peer.tools.get('version', '')} | {peer.configured} | {f'{peer.interval} s' if peer.interval else 'as needed'} "
                      f"| {'does not fit' if own is None else f'{own / MIB:.1f} MiB'} |")
    return "\n\n".join([
        "# Side by side with other guards", f"Made by `bench/race --peers` in {seconds / 60:.0f} minutes; not edited by hand.", "\n".join(guards),
        f"Each is PID 1 (tini for the shell loop) of a namespace in a memory cgroup with the limit, as root with the capabilities that Docker gives. "
        f"Where it takes a size for the app, that is {SHARE:.0%} of what the limit leaves beside the guard's own memory. The app begins at a random "
        f"moment of the guard's interval; a fill with a rate begins at 50% of the room, or where {CLIMB} s of it are left, but at {HIGHEST_START:.0%} at the most. The app leaves at once on "
        "SIGTERM or SIGINT and makes a file; a run ends when that file is there or the kernel has killed. Evidence: a complete incident, or a line of the "
        "log that says that memory was the reason. Time: until then, from the guard's start, the random wait not counted.",
        "\n".join(lines)])
