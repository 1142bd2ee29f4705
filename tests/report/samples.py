"""Incidents as memini writes them, for the tests of the report: one of each kind, and hostile ones."""
import json
import math
from datetime import datetime, timedelta, timezone

MIB = 1 << 20
START = datetime(2026, 11, 22, 5, 40, 0, tzinfo=timezone.utc)
HOSTILE = '"><script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'"> \'`[x](javascript:alert(1))` \u202e\u001b[31m\n</title></style></svg>'


def at(seconds):
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def composition(anon, cache=3 * MIB, shmem=0, sock=0):
    return {"anon": anon, "file": cache + shmem, "shmem": shmem, "inactive_file": cache // 2, "active_file": cache - cache // 2,
            "unevictable": 0, "file_dirty": 0, "file_writeback": 0, "slab_reclaimable": 2 * MIB, "slab_unreclaimable": 3 * MIB,
            "kernel_stack": MIB // 2, "pagetables": anon // 400, "sock": sock, "workingset_refault_file": 0}


def sample(gauged, limit, rate, cache=3 * MIB, shmem=0, sock=0):
    room = max(0, limit - gauged) if limit else None
    return {"usage": gauged + cache, "gauged": gauged, "limit": limit, "room": room, "rate": rate,
            "time_to_limit": round(room / rate, 3) if limit and rate > 0 else None,
            "composition": composition(gauged - shmem - sock - 6 * MIB, cache, shmem, sock)}


def entry(seconds, event, **fields):
    return {"at": at(seconds), "seconds": seconds, "event": event, **fields}


def settings(**others):
    return {"trace_at": "60%", "capture_at": "80%", "stop_at": "92%", "kill_at": "97%", "stop_when": "urgent", "gauge": "unreclaimable",
            "soft_limit": None, "grace_seconds": 10.0, "cooldown_seconds": 300.0, "max_captures": 3, "capture": True, "heavy": "auto",
            "max_pause_seconds": 5.0, "helpers": False, "keep_incidents": 20, "keep_dumps": 3, "max_artifact": 1 << 30,
            "max_total": 4 << 30, "keep_free": 256 * MIB, "baseline_after_seconds": 300.0, "hook_timeout_seconds": 30.0,
            "exit_code": 75, "brake": True, "dry_run": False, **others}


def suspect(what, place, process, sizes, counts=(), rung=1, seconds=214.0):
    known = [size for size in sizes if size is not None]
    growth = known[-1] - known[0]
    return {"what": what, "place": place, "process": process, "bytes": known[-1], "growth": growth, "up_to": None,
            "count": counts[-1] if counts else None, "count_growth": counts[-1] - counts[0] if counts else None,
            "rate": round(growth / seconds), "consistency": 1.0, "rung": rung, "artifact": None, "sizes": list(sizes),
            "counts": list(counts)}


def incident(summary, outcome, timeline, **others):
    return {"schema": "memini.incident/1", "id": "2026-11-22T05-45-01Z-web-7d9f-1", "summary": summary, "outcome": outcome,
            "exit_code": None, "began": timeline[0]["at"], "last": timeline[-1]["at"], "memini": "0.1.0", "hostname": "web-7d9f",
            "app": {"command": ["python3", "app.py", "--port", "8080"], "pid": 2}, "source": "cgroup v2 /sys/fs/cgroup, limit 512 MiB",
            "settings": settings(), "configured_hooks": [], "evidence": None, "hooks": [], "artifacts": [], "not_done": [],
            "brakes": {"times": 0, "stopped": 0.0}, "processes": [], "timeline": timeline, "timeline_entries_lost": 0, **others}


def leak(name="app.cache", comm="gunicorn", hook="curl -s -X POST localhost:8080/drain"):
    """A service in Python that leaks, with a baseline: stopped in time."""
    limit = 512 * MIB
    sizes = [118 * MIB, 246 * MIB, 349 * MIB, 411 * MIB]
    timeline = [
        entry(421.2, "stage-began", stage="trace", **{"from": "normal"}, sample=sample(308 * MIB, limit, 1.4 * MIB)),
        entry(421.3, "evidence-started", run=2, stage="trace"),
        entry(421.9, "evidence", run=2, file="artifacts/evidence-trace-2.json", bytes=8388),
        entry(421.9, "evidence-ended", run=2, end={"code": 0}, after=0.612),
        entry(489.0, "late-wake", late=0.42, times=1),
        entry(495.4, "stage-began", stage="capture", **{"from": "trace"}, sample=sample(410 * MIB, limit, 1.5 * MIB)),
        entry(495.5, "evidence-started", run=3, stage="capture"),
        entry(496.2, "evidence", run=3, file="artifacts/evidence-capture-3.json", bytes=9102),
        entry(496.2, "evidence-ended", run=3, end={"code": 0}, after=0.688),
        entry(536.8, "stage-began", stage="stop", **{"from": "capture"}, sample=sample(471 * MIB, limit, 1.5 * MIB)),
        entry(536.8, "stop-not-needed", sample=sample(471 * MIB, limit, 1.5 * MIB)),
        entry(545.1, "stopping", reason="urgent", sample=sample(489 * MIB, limit, 1.6 * MIB)),
        entry(545.2, "evidence-started", run=4, stage="stop"),
        entry(545.7, "evidence", run=4, file="artifacts/evidence-stop-4.json", bytes=9044),
        entry(545.7, "evidence-ended", run=4, end={"code": 0}, after=0.499),
        entry(545.8, "hook-started", run=5, hook=0, stage="stop"),
        entry(546.1, "hook-output", run=5, file="artifacts/stop-5.log", bytes=112),
        entry(546.1, "hook-ended", run=5, hook=0, end={"code": 0}, after=0.3),
        entry(546.1, "terminating"),
        entry(548.9, "app-exited", exit={"code": 0}, oom_killed=False, stopped=True),
        entry(548.9, "exit", code=75),
    ]
    who = {"pid": 9, "comm": comm}
    others = [(2, 1, [21 * MIB] * 4), (10, 2, [39 * MIB, 44 * MIB, 44 * MIB, 45 * MIB]), (11, 2, [38 * MIB, 43 * MIB, 44 * MIB, 44 * MIB])]
    processes = [{"pid": 9, "parent": 2, "comm": comm, "sizes": [142 * MIB, 272 * MIB, 376 * MIB, 439 * MIB]}]
    processes += [{"pid": pid, "parent": parent, "comm": comm, "sizes": grown} for pid, parent, grown in others]
    evidence = {
        "place": f"97% private memory of {comm} (pid 9)", "growth": 302 * MIB, "span": {"secs": 245, "nanos": 700000000},
        "suspects": [
            suspect(f"{name}: dict", "heap of CPython 3.11.7", who, sizes, [102000, 214000, 301500, 355000]),
            suspect("str", "heap of CPython 3.11.7", who, [90 * MIB, 180 * MIB, 262 * MIB, 311 * MIB], [180000, 402000, 601000, 715000]),
            suspect("app.Session", "heap of CPython 3.11.7", who, [None, 41 * MIB, 58 * MIB, 66 * MIB], [None, 214000, 301500, 355000][1:]),
            suspect("malloc's heap", "private memory", who, [135 * MIB, 262 * MIB, 366 * MIB, 428 * MIB], rung=0),
        ],
        "is_conclusive": True,
        "looks": [{"stage": "normal", "at": at(300.0)}, {"stage": "trace", "at": at(421.6)}, {"stage": "capture", "at": at(495.9)},
                  {"stage": "stop", "at": at(545.4)}],
        "processes": processes, "file": "artifacts/evidence-stop-4.json",
    }
    evidence["suspects"][2]["counts"] = [None, 214000, 301500, 355000]
    listed = [{"pid": pid, "parent": parent, "comm": comm, "state": "S", "threads": 1, "rss_anon": held, "rss_file": 9 * MIB,
               "rss_shmem": 0, "swap": 0} for pid, parent, held in [(9, 2, 439 * MIB), (10, 2, 45 * MIB), (11, 2, 44 * MIB), (2, 1, 21 * MIB)]]
    artifacts = [{"file": f"artifacts/{file}", "bytes": size, "sha256": digest} for file, size, digest in [
        ("evidence-capture-3.json", 9102, "3f" * 32), ("evidence-stop-4.json", 9044, "a1" * 32),
        ("evidence-trace-2.json", 8388, "07" * 32), ("stop-5.log", 112, "c4" * 32)]]
    return incident(
        "memini stopped gunicorn because it would have reached the limit before it could leave: 489 MiB of 512 MiB (96%), +1.6 MiB/s, "
        "limit in 14.4 s", "stopped", timeline, exit_code=75, evidence=evidence, artifacts=artifacts,
        app={"command": ["gunicorn", "--workers", "3", "app:app"], "pid": 2}, configured_hooks=[{"stage": "stop", "command": hook}],
        hooks=[{"run": 5, "stage": "stop", "command": hook, "started": at(545.8), "seconds": 0.3, "end": {"code": 0},
                "output": "artifacts/stop-5.log", "output_bytes": 112}],
        not_done=[{"at": at(536.8), "text": "above the stop threshold the app was not stopped: it was not urgent"},
                  {"at": at(545.3), "text": "a census may need 16 MiB, and 23 MiB are left: the kernel's numbers must do for gunicorn (pid 10)"}],
        processes=[{"at": at(545.9), "seconds": 545.9, "stage": "stop", "count": 4, "list": listed}])


def recorded():
    """The same, with what a recorder has kept of the hours before."""
    story = leak()

    shift = 6 * 3600.0
    end = shift + 545

    def points(first, step):
        result = []
        for index in range(int((end - first) / step) + 1):
            seconds = first + index * step
            gauged = int((150 + 339 * (seconds / end) ** 6) * MIB + 5 * MIB * math.sin(seconds / 300))
            usage = gauged + 23 * MIB
            result.append({"seconds": round(seconds, 1), "usage": [usage - 6 * MIB, min(usage + 6 * MIB, 512 * MIB), min(usage, 511 * MIB)],
                           "gauged": [gauged - 5 * MIB, gauged + 5 * MIB, gauged], "limit": 512 * MIB,
                           "composition": composition(gauged - 16 * MIB, cache=23 * MIB, shmem=8 * MIB, sock=2 * MIB)})
        return result

    for moment in story["timeline"] + story["processes"]:
        moment["seconds"] = round(moment["seconds"] + shift, 3)
        if "sample" in moment:
            gauged = int((150 + 339 * (moment["seconds"] / end) ** 6) * MIB + 5 * MIB * math.sin(moment["seconds"] / 300))
            moment["sample"] = sample(gauged, 512 * MIB, 0.5 * MIB, cache=23 * MIB, shmem=8 * MIB, sock=2 * MIB)
    story["history"] = [{"interval": 60, "points": points(600.0, 60)}, {"interval": 1, "points": points(end - 600, 5)}]
    return story


def calm():
    """40 hours of calm, then a climb of four minutes: what was seen in a second, in four, in 80, in half an hour."""
    story = leak()
    limit, shift = 512 * MIB, 40 * 3600.0
    end = shift + 549

    def level(seconds):
        climb = max(0.0, seconds - (end - 245)) / 245
        return int((118 + 12 * math.sin(seconds / 9000)) * MIB + climb * 371 * MIB)

    def points(first, last, step):
        result = []
        for index in range(int((last - first) / step)):
            seconds = first + (index + 1) * step
            gauged = level(seconds)
            result.append({"seconds": round(seconds, 1), "usage": [gauged + 38 * MIB, gauged + 46 * MIB, gauged + 40 * MIB],
                           "gauged": [gauged - 4 * MIB, gauged + 5 * MIB, gauged], "limit": limit,
                           "composition": composition(gauged - 10 * MIB, cache=40 * MIB)})
        return result

    for moment in story["timeline"] + story["processes"]:
        moment["seconds"] = round(moment["seconds"] + shift, 3)
        if "sample" in moment:
            moment["sample"] = sample(level(moment["seconds"]), limit, 1.5 * MIB, cache=40 * MIB)
    story["history"] = [{"interval": 1, "points": points(end - 120, end, 1)}, {"interval": 4, "points": points(end - 600, end - 120, 4)},
                        {"interval": 80, "points": points(end - 3 * 3600, end - 600, 80)},
                        {"interval": 1800, "points": points(0, end - 3 * 3600, 1800)}]
    return story


def verdict():
    """A leak of days that is told of early, and ends in a calm moment."""
    limit, end = 1024 * MIB, 3 * 86400.0

    def level(seconds):
        return int((310 + 640 * seconds / end + 15 * math.sin(seconds / 7000)) * MIB)

    def seen(seconds):
        return sample(level(seconds), limit, 2600, cache=60 * MIB)

    history = [{"seconds": float(second), "usage": [level(second) + 60 * MIB] * 3, "gauged": [level(second) - 9 * MIB, level(second) + 9 * MIB, level(second)],
                "limit": limit, "composition": composition(level(second) - 10 * MIB, cache=60 * MIB)} for second in range(86400 + 1800, 3 * 86400, 1800)]
    trace, capture, stop = 140400.0, 205200.0, 259000.0
    timeline = [
        entry(90000.0, "verdict", verdict="growing", **{"from": "steady"}, horizon=14400.0, sample=seen(90000.0)),
        entry(100000.0, "verdict", verdict="leak", **{"from": "growing"}, horizon=86400.0, sample=seen(100000.0)),
        entry(trace, "stage-began", stage="trace", **{"from": "normal"}, sample=seen(trace)),
        entry(capture, "stage-began", stage="capture", **{"from": "trace"}, sample=seen(capture)),
        entry(stop, "stage-began", stage="stop", **{"from": "capture"}, sample=seen(stop)),
        entry(stop + 0.1, "stopping", reason="leak", sample=seen(stop)),
        entry(stop + 0.2, "terminating"),
        entry(stop + 3.0, "app-exited", exit={"code": 0}, oom_killed=False, stopped=True),
        entry(stop + 3.0, "exit", code=75),
    ]
    return incident("memini stopped api because it leaked: 948 MiB of 1 GiB (93%), +2.5 KiB/s, limit in 8 h 30 min", "stopped", timeline,
                    exit_code=75, history=[{"interval": 1800, "points": history}], app={"command": ["./api"], "pid": 2},
                    settings=settings(on_leak="capture"))


def found():
    """A run that was killed with its memini, as the next start has found it."""
    story = calm()
    story["timeline"] = [moment for moment in story["timeline"] if moment["seconds"] < 40 * 3600 + 540]
    last = 40 * 3600 + 549.0
    text = ("the last run of gunicorn, last seen at 2026-11-23T21:49:09Z after 40 h 9 min, was killed by the kernel's OOM killer, "
            "12 s after 92%; it grew 1.5 MiB/s for 4 min 5 s")
    story["timeline"] += [
        entry(last, "found-by-next-run", text=text, certain=True, sample=sample(508 * MIB, 512 * MIB, 1.5 * MIB, cache=MIB)),
        entry(last, "app-exited", exit={"signal": "SIGKILL"}, oom_killed=True, stopped=False)]
    for moment in story["timeline"]:
        moment["at"] = at(moment["seconds"])
    return {**story, "summary": "the kernel's OOM killer killed gunicorn: 508 MiB of 512 MiB (99%), +1.5 MiB/s, limit in 2.7 s",
            "outcome": "oom-killed", "exit_code": None,
            "artifacts": [*story["artifacts"], {"file": "artifacts/recorder", "bytes": 512 << 10, "sha256": "5e" * 32}]}


def going_on():
    """It goes on, and an older memini has written it: without digests, looks, sizes, what was not done."""
    story = leak()
    story["timeline"] = story["timeline"][:7]
    for key in ("not_done", "brakes", "exit_code"):
        del story[key]
    for file in story["artifacts"]:
        del file["sha256"]
    for key in ("looks", "processes"):
        del story["evidence"][key]
    for one in story["evidence"]["suspects"]:
        del one["sizes"], one["counts"]
    return {**story, "outcome": "open", "summary": "the memory of gunicorn is high: 410 MiB of 512 MiB (80%), +1.5 MiB/s, limit in 1 min 8 s"}


def unclear():
    """Nothing is conclusive."""
    story = leak()
    evidence = story["evidence"]
    evidence["is_conclusive"] = False
    for one, part in zip(evidence["suspects"], (0.09, 0.06, 0.05, 0.04)):
        one["sizes"] = [size and int(size * part) for size in one["sizes"]]
        one["growth"], one["consistency"], one["rate"] = int(302 * MIB * part), 0.5, int(302 * MIB * part / 245)
    return story


def jvm():
    """A JVM that grew faster than could be followed: killed, with a heap dump and one that was refused."""
    limit = 1024 * MIB
    who = {"pid": 2, "comm": "java"}
    timeline = [
        entry(31.0, "stage-began", stage="trace", **{"from": "normal"}, sample=sample(630 * MIB, limit, 80 * MIB)),
        entry(31.1, "evidence-started", run=1, stage="trace"),
        entry(31.3, "evidence-ended", run=1, end={"code": 0}, after=0.2),
        entry(33.0, "stage-began", stage="capture", **{"from": "trace"}, sample=sample(821 * MIB, limit, 90 * MIB)),
        entry(33.1, "evidence-started", run=2, stage="capture"),
        entry(34.6, "braked", times=14, stopped=0.031),
        entry(34.7, "stage-began", stage="stop", **{"from": "capture"}, sample=sample(944 * MIB, limit, 400 * MIB)),
        entry(34.7, "stopping", reason="floor", sample=sample(950 * MIB, limit, 400 * MIB)),
        entry(34.7, "evidence-cut", run=2, after=1.61),
        entry(34.8, "terminating"),
        entry(34.9, "stage-began", stage="kill", **{"from": "stop"}, sample=sample(996 * MIB, limit, 430 * MIB)),
        entry(34.9, "killing", sample=sample(1001 * MIB, limit, 430 * MIB)),
        entry(35.0, "app-exited", exit={"signal": "SIGKILL"}, oom_killed=False, stopped=True),
        entry(35.0, "exit", code=75),
    ]
    evidence = {
        "place": "81% private memory of java (pid 2), 14% files in memory (/dev/shm)", "growth": 190 * MIB,
        "span": {"secs": 2, "nanos": 0},
        "suspects": [
            suspect("com.example.shop.internal.orders.OrderHistoryCacheEntry$Snapshot", "heap of OpenJDK 17.0.15", who,
                    [41 * MIB, 174 * MIB], [1200000, 4100000], seconds=2),
            suspect("byte[]", "heap of OpenJDK 17.0.15", who, [120 * MIB, 220 * MIB], [410000, 830000], seconds=2),
            suspect("/dev/shm/segment-0001", "/dev/shm", None, [10 * MIB, 37 * MIB], [3, 4], rung=0, seconds=2)],
        "is_conclusive": True, "looks": [{"stage": "trace", "at": at(31.2)}, {"stage": "capture", "at": at(33.3)}],
        "processes": [{"pid": 2, "parent": 1, "comm": "java", "sizes": [630 * MIB, 820 * MIB]}], "file": "artifacts/evidence-capture-2.json"}
    return incident(
        "memini killed java before the limit was reached: 1001 MiB of 1 GiB (98%), +430 MiB/s, limit in 53 ms", "killed", timeline,
        exit_code=75, evidence=evidence, brakes={"times": 14, "stopped": 0.031},
        app={"command": ["java", "-XX:MaxRAMPercentage=90", "-jar", "/app/shop-service-with-a-long-name-1.42.0-SNAPSHOT.jar"], "pid": 2},
        artifacts=[{"file": "artifacts/heap-2-1.hprof.gz", "bytes": 58 * MIB, "sha256": "9b" * 32},
                   {"file": "artifacts/heap-2-2.hprof.gz.partial", "bytes": 12 * MIB, "sha256": None},
                   {"file": "artifacts/evidence-capture-2.json", "bytes": 24012, "sha256": "55" * 32}],
        not_done=[{"at": at(33.4), "text": "no heap dump of java (pid 2): a heap of 700 MiB would stand still for 7.0 s, and --max-pause is 5.0 s"},
                  {"at": at(34.7), "text": "a look at the processes was cut after 1.6 s: there was no more time"}],
        settings=settings(stop_at="-96MiB", kill_at="-32MiB"))


def taken_by_the_kernel():
    """Hardly anything is known."""
    timeline = [entry(3.0, "oom-kill", times=1), entry(3.0, "app-exited", exit={"signal": "SIGKILL"}, oom_killed=True, stopped=False),
                entry(3.0, "exit", code=137)]
    return incident("the kernel's OOM killer killed app: no stage had begun before", "oom-killed", timeline, exit_code=137)


def recovered():
    """Up and down, without a limit of the kernel's, and many entries."""
    timeline = []
    for index in range(60):
        seconds = 100.0 + 4 * index
        high = 250 + 40 * math.sin(index / 3)
        timeline.append(entry(seconds, "stage-began" if index % 2 == 0 else "stage-ended", stage="trace" if index % 2 == 0 else "normal",
                              **{"from": "normal" if index % 2 == 0 else "trace"},
                              sample=sample(int(high * MIB), None, MIB, cache=90 * MIB, shmem=30 * MIB, sock=12 * MIB)))
    timeline.append(entry(341.0, "recovered"))
    return incident("the memory of server was high and went down again: 290 MiB, +1 MiB/s", "recovered", timeline, timeline_entries_lost=12,
                    settings=settings(trace_at="240MiB", capture_at="off", capture=False, brake=False),
                    not_done=[{"at": None, "text": "the processes were not looked at: --capture off"},
                              {"at": None, "text": "fast growth was not braked: --no-brake"}])


def resized():
    """The limit was raised on the way, and memory went on."""
    low, high = 256 * MIB, 1024 * MIB

    def held(seconds):
        return int((60 + 3 * seconds) * MIB)

    def seen(seconds):
        return sample(held(seconds), low if seconds < 60 else high, 3 * MIB)

    timeline = [
        entry(33.0, "stage-began", stage="trace", **{"from": "normal"}, sample=seen(33.0)),
        entry(49.0, "stage-began", stage="capture", **{"from": "trace"}, sample=seen(49.0)),
        entry(60.0, "limit-changed", **{"from": low, "to": high}, sample=seen(60.0)),
        entry(61.0, "stage-ended", stage="normal", **{"from": "trace"}, sample=seen(61.0)),
        entry(200.0, "stage-began", stage="trace", **{"from": "normal"}, sample=seen(200.0)),
        entry(255.0, "stage-began", stage="capture", **{"from": "trace"}, sample=seen(255.0)),
        entry(300.0, "stage-began", stage="stop", **{"from": "capture"}, sample=seen(300.0)),
        entry(301.0, "recovered")]
    points = [{"seconds": float(second), "usage": [held(second) + 9 * MIB] * 3, "gauged": [held(second)] * 3,
               "limit": low if second < 60 else high, "composition": composition(held(second) - 10 * MIB)} for second in range(1, 301)]
    return incident("the memory of server was high and went down again: 960 MiB of 1 GiB (94%), +3 MiB/s", "recovered", timeline,
                    history=[{"interval": 1, "points": points}])


def hostile():
    """Every text is what an attacker would choose."""
    def poison(value, key=None):
        if isinstance(value, dict):
            return {name: poison(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [poison(item, key) for item in value]
        kept = {"schema", "at", "began", "last", "stage", "sha256", "outcome", "from", "trace_at", "capture_at", "stop_at", "kill_at"}
        known = key == "event" and not value.startswith("of a newer")
        if isinstance(value, str) and key not in kept and not known:
            return ("artifacts/" if key == "file" else "") + HOSTILE
        return value
    story, last = leak(), 548.9
    story["timeline"] += [
        entry(last, "verdict", verdict="leak", **{"from": "steady"}, horizon=14400.0, sample=sample(300 * MIB, 512 * MIB, 20000)),
        entry(last, "signal", signal="SIGTERM", sender=7, times=2),
        entry(last, "found-by-next-run", text="it was killed", certain=False, sample=sample(508 * MIB, 512 * MIB, MIB)),
        entry(last, "of a newer memini", sample=sample(508 * MIB, 512 * MIB, MIB))]
    return poison(story)


def minimal():
    """All that a reader may rely on."""
    return {"schema": "memini.incident/1"}


ALL = {"leak": leak, "recorded": recorded, "calm": calm, "verdict": verdict, "found": found, "open": going_on, "unclear": unclear, "jvm": jvm, "kernel": taken_by_the_kernel, "recovered": recovered, "resized": resized, "hostile": hostile,
       "minimal": minimal}

if __name__ == "__main__":
    import sys
    from pathlib import Path
    for name, make in ALL.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "incident.json").write_text(json.dumps(make()))
