"""gunicorn's settings: it says that it is steady once it listens, and which of its workers begins to keep things."""
import os
import socket
import sys

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
bind, errorlog, loglevel = f"127.0.0.1:{port}", "-", "error"


def when_ready(_):
    print("steady", port, flush=True)


def post_worker_init(worker):
    reports = sys.modules.get("gunicorn_reports")
    if reports and worker.age == 1:
        reports.keeps = True
        print("suspect", os.getpid(), flush=True)
