"""The apps of the zoo, and what is wrong with each.

What is expected is a regular expression over a suspect as `memini capture` prints it: `WHAT [PLACE, PROCESS]`. A name that leads
to the line of code (a container, or a class of the app's own) is an answer; that some process has grown is one only where
nothing else can be known of it. With helpers a line of the app is one, too, if it says `# leaks`.
"""
import dataclasses
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Load:
    """Requests to a service, each with a path of its own: before the first look, and between the two."""
    warm: int
    then: int
    clients: int = 2
    # What each request brings along.
    body: int = 0
    # With a new connection for each request.
    alone: bool = False
    # Each is the beginning of a websocket.
    websocket: bool = False
    # It ends earlier when the app has grown by so much; MiB.
    until: int = 0


@dataclasses.dataclass
class App:
    name: str
    text: str
    command: list
    # None: healthy.
    expected: str = None
    load: Load = None
    # What must be there: `packages` (of PyPI), `cc`, `jdk`.
    needs: str = ""
    # The suspect must be the process whose number the app tells in a line `suspect PID`.
    told: bool = False
    # Why it is known not to be the first suspect, or not among the first three.
    not_first: str = ""
    missed: str = ""

    @property
    def kind(self):
        if self.expected is None:
            return "healthy"
        return {"services": "Python service", "python": "Python"}.get(self.folder, {"jdk": "Java service"}.get(self.needs, "C and shell"))

    @property
    def folder(self):
        return self.name.partition("/")[0]

    @property
    def is_service(self):
        return self.load is not None

    def knows(self, suspect, pid):
        process = suspect["process"] or {}
        text = f"{suspect['what']} [{', '.join(filter(None, (suspect['place'], process.get('comm'))))}]"
        is_it = bool(re.search(self.expected, text)) or suspect["place"].startswith("allocations of ") and suspect["what"] in self.lines()
        return is_it and (not self.told or process.get("pid") == pid)

    def lines(self):
        """The lines of its code that allocate what it keeps: FILE:LINE."""
        files = {HERE / word for word in self.command if word.endswith(".py")} | {HERE / f"{self.name}.py"}
        for file in filter(Path.exists, files):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if line.endswith("# leaks"):
                    yield f"{file}:{number}"


def python(name, text, expected, packages=False, **more):
    return App(f"python/{name}", text, ["PYTHON", f"python/{name}.py"], expected, needs="packages" if packages else "", **more)


def service(name, text, expected, load, packages=False, command=None, needs="", **more):
    command = command or ["PYTHON", f"services/{name}.py"]
    return App(f"services/{name}", text, command, expected, load, needs="packages" if packages else needs, **more)


def gunicorn(name, *words):
    return ["PYTHON", "-m", "gunicorn", "-c", "services/gunicorn_conf.py", "--chdir", "services", *words, f"{name}:app"]


def mixed(who, kind):
    """A service in Python before one in Java."""
    return ["PYTHON", "services/mixed.py", who, *jvm("Shop", kind)]


def native(name, text, expected, *command, **more):
    return App(f"native/{name}", text, list(command), expected, **more)


def jvm(*words):
    return ["java", "-XX:+UseSerialGC", "-Xms32m", "-Xmx400m", "-Dsun.net.httpserver.nodelay=true", "-cp", "BUILT/java", *words]


def java(kind, text, expected, load, **more):
    return App(f"java/{kind}", text, jvm("Shop", kind), expected, load, "jdk", **more)


# Where a library's memory shows in a Python: that is all that can be known of it from outside.
OUTSIDE = r"^memory outside the (objects|heap) of CPython"

APPS = [
    python("strings", "a list of strings", r"^__main__\.events: list"),
    python("registry", "instances in a class attribute", r"^__main__\.Session\b"),
    python("listeners", "closures in a list of listeners", r"^__main__\.bus\.listeners: list"),
    python("lru_cache", "lru_cache(None)", r"^cache of __main__\.render"),
    python("interned", "interned names", r"^__main__\.names: set"),
    python("arrays", "NumPy arrays in a list", r"^__main__\.history: list", packages=True),
    python("views", "a row of each NumPy array, which keeps all of it", r"^__main__\.(windows: dict|Window )", packages=True),
    python("frames", "pandas frames in a dict", r"^__main__\.reports: dict", packages=True,
           not_first="pandas' own class of the frames' blocks may be told with more bytes than the dict, of which it is a part"),
    python("native", "malloc through ctypes", OUTSIDE),
    python("database", "SQLite in memory", OUTSIDE),
    python("tasks", "asyncio tasks that wait for ever", r"^__main__\.pending: set|^coroutine |^(_asyncio|asyncio\.tasks)\.Task "),
    python("threads", "threads that never end", r"^threads \["),
    python("errors", "exceptions with their frames", r"^__main__\.errors: list"),
    python("jobs", "a queue without a bound", r"^__main__\.jobs\.queue: deque"),
    python("garbage", "rings, and the collector off", r"^__main__\.(Node|Child) "),
    python("at_exit", "callbacks in atexit's array", r"^__main__\.Upload "),
    python("log_buffer", "a MemoryHandler that is never flushed", r"\bbuffer\b.*: list|^logging\.LogRecord "),
    python("local", "thread-local data of a pool's thread", r"\bparsers\b.*: list"),
    python("children", "one process of a pool", r"^__main__\.done: dict"),
    python("nested", "lists in a tree of dicts", r"^__main__\.index\b"),
    python("buffers", "few byte strings of a megabyte", r"^__main__\.recorder\.chunks: deque"),
    service("sessions", "a session for each visitor", r"^__main__\.SESSIONS: dict", Load(200, 2500)),
    service("bodies", "what clients have sent (socketserver)", r"\breceived\b.*: list", Load(100, 3000, body=30_000)),
    service("metrics", "a label with ever new values (wsgiref)", r"^__main__\.metrics\.timings: dict", Load(200, 4000, alone=True)),
    service("flask_cache", "a cache of responses (Flask)", r"^__main__\.responses: dict", Load(100, 2500), packages=True),
    service("flask_signals", "listeners to a signal (Flask)", r"^__main__\.(events\.subscribers|Checkout )", Load(100, 3500), packages=True),
    service("gunicorn_reports", "one of four workers (gunicorn)", r"^gunicorn_reports\.reports: dict", Load(200, 20_000, alone=True, until=70),
            packages=True, command=gunicorn("gunicorn_reports", "-w", "4"), told=True),
    service("gunicorn_audit", "a middleware keeps requests (gunicorn, threads)", r"\btrail: list", Load(200, 2500, alone=True),
            packages=True, command=gunicorn("gunicorn_audit", "-w", "1", "--threads", "4")),
    service("asyncio_server", "clients that have gone (asyncio)", r"\bclients\b.*: dict|^__main__\.Client ", Load(100, 2500, alone=True)),
    service("half_closed", "connections that clients have closed", r"^tcp close-wait \[", Load(50, 900, alone=True)),
    service("upstream", "connections to another service", r"^tcp established \[", Load(20, 900)),
    service("workers", "a thread for each request", r"^threads \[", Load(5, 700)),
    service("uploads", "deleted files in memory, open", r"^(deleted file in memory \[)", Load(20, 600, body=150_000)),
    service("predictions", "NumPy features of each request", r"^(__main__\.model\.seen: list|seen of __main__\.Model: list)", Load(20, 700), packages=True),
    service("methods", "lru_cache on a method", r"^cache of __main__\.Order\.total|^__main__\.Order ", Load(100, 3000)),
    service("log_handlers", "handlers added in each request", r"\bhandlers\b.*: list|^logging\.StreamHandler ", Load(50, 1500)),
    service("django_queries", "a list of all queries (Django)", r"\bqueries\b.*: list", Load(50, 600, alone=True), packages=True),
    service("celery_results", "results of tasks in the worker (celery)", r"^__main__\.results: dict", Load(10, 500), packages=True),
    service("chat_rooms", "websockets that have gone (aiohttp)", r"^(.*app\b.*: dict|__main__\.Member |aiohttp\..*WebSocketResponse )", Load(50, 2500, websocket=True),
            packages=True),
    service("uvicorn_scopes", "a middleware keeps requests (uvicorn)", r"\brequests: list", Load(100, 2500, alone=True), packages=True),
    service("asyncio_forgotten", "coroutines that nobody awaits", r"^__main__\.later: list", Load(100, 2500),
            not_first="asyncio's class of the tasks is told with more bytes than the list that holds them"),
    service("gunicorn_flask", "what is cached for a request only (Flask, gunicorn)", r"\brequest_cache\b.*: dict", Load(100, 1500),
            packages=True, command=gunicorn("gunicorn_flask", "-w", "1", "--threads", "4")),
    service("subscribers", "queues of clients that have gone (Flask)", r"\bsubscribers: list", Load(30, 1000, alone=True), packages=True),
    service("mixed-python", "a Python before a JVM that is healthy", r"^__main__\.pages: dict", Load(1000, 2500), command=mixed("python", "garbage"),
            needs="jdk", told=True),
    service("mixed-java", "a JVM behind a Python that is healthy", r"Shop\$Session|ConcurrentHashMap", Load(100, 2500), command=mixed("java", "map"),
            needs="jdk", told=True),
    native("small", "malloc, small blocks", r"^malloc's heap \[.*leak\]", "BUILT/leak", "small", needs="cc"),
    native("large", "malloc, large blocks", r"^anonymous memory \[.*leak\]", "BUILT/leak", "large", needs="cc"),
    native("mapped", "anonymous mappings", r"^anonymous memory \[.*leak\]", "BUILT/leak", "mapped", needs="cc"),
    native("threads", "threads", r"^threads \[.*leak\]", "BUILT/leak", "threads", needs="cc"),
    native("pairs", "socket pairs", r"^unix socket \[.*leak\]", "BUILT/leak", "pairs", needs="cc"),
    native("memfd", "memory files", r"^/memfd:ring \(deleted\) \[shared memory", "BUILT/leak", "memfd", needs="cc"),
    native("systemv", "System V segments, detached", r"System V", "BUILT/leak", "systemv", needs="cc"),
    native("events", "eventfds", r"^eventfd \[.*leak\]", "BUILT/leak", "events", needs="cc"),
    native("deleted", "deleted files on disk, open", r"^deleted file \[.*leak\]", "BUILT/leak", "file", "PLACE", needs="cc"),
    native("server", "a buffer for each connection", r"^(malloc's heap|anonymous memory) \[.*server\]", "BUILT/server", needs="cc",
           load=Load(100, 2000, alone=True)),
    native("prefork", "descriptors of one of four processes", r"^file \[", "BUILT/prefork", "fd", "4", "PLACE", needs="cc",
           load=Load(100, 6000, alone=True), told=True),
    native("prefork_shm", "files in /dev/shm, by shm_open, of four processes", r"^files in /dev/shm \[", "BUILT/prefork", "shm", "4", "PLACE", needs="cc",
           load=Load(100, 2500, alone=True)),
    native("shm", "one file in /dev/shm", r"^/dev/shm/queue \[", "sh", "native/shm.sh", "one"),
    native("shm_many", "many files in /dev/shm", r"^files in /dev/shm \[", "sh", "native/shm.sh", "many"),
    native("children", "processes that never end", r"^processes of sleep \[", "sh", "native/children.sh"),
    native("log", "an array of a shell", r"^malloc's heap \[.*bash\]", "bash", "native/log.sh"),
    java("map", "a static map", r"Shop\$Session|ConcurrentHashMap", Load(100, 2500)),
    java("thread-local", "ThreadLocals of a pool", r"Shop\$Parser|char\[\]", Load(100, 3500)),
    java("listeners", "a list of listeners", r"Shop\$View", Load(100, 2500)),
    java("bytes", "byte[] in a map", r"^byte\[\]", Load(100, 2500)),
    java("intern", "interned strings", r"java\.lang\.String|byte\[\]", Load(100, 3500),
         missed="the table of strings is outside the heap, and native memory that grew as much comes first"),
    java("streams", "streams that are not closed", r"^file \[", Load(100, 2500),
         not_first="as much again is garbage in the heap"),
    java("direct", "direct buffers", r"^direct buffers|DirectByteBuffer", Load(100, 2500)),
    java("classes", "class loaders", r"^metaspace \[|Shop\$Loader", Load(100, 6000)),
    java("threads", "threads", r"^threads \[", Load(10, 700)),
    java("timeouts", "what is scheduled for later, and never cancelled", r"Shop\$Order|ScheduledThreadPoolExecutor", Load(100, 2500)),
    java("weak", "a WeakHashMap whose values refer to the keys", r"Shop\$Visit|WeakHashMap", Load(100, 2500)),
    App("java/selector", "a direct buffer for each connection (NIO)", jvm("Gate"), r"^direct buffers|DirectByteBuffer", Load(100, 2000, alone=True), "jdk"),
    App("healthy/bounded", "a cache, filled to its bound", ["PYTHON", "healthy/bounded.py"]),
    App("healthy/lru", "lru_cache with a bound, under requests", ["PYTHON", "healthy/lru.py"], load=Load(300, 3000)),
    App("healthy/garbage", "requests that make garbage", ["PYTHON", "healthy/garbage.py"], load=Load(500, 4000)),
    App("healthy/arrays", "NumPy arrays that come and go", ["PYTHON", "healthy/arrays.py"], needs="packages"),
    App("healthy/pool", "a pool of threads that has grown", ["PYTHON", "healthy/pool.py"]),
    App("healthy/window", "the last measurements", ["PYTHON", "healthy/window.py"]),
    App("healthy/files", "large files written and read", ["PYTHON", "healthy/files.py"]),
    App("healthy/children", "short processes", ["sh", "healthy/children.sh"]),
    App("healthy/java", "requests that make garbage (JVM)", jvm("Shop", "garbage"), load=Load(8000, 4000), needs="jdk"),
]
