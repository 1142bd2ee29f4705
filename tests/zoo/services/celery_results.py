"""celery with worker processes, which keep the result of each task; requests become tasks that are waited for."""
import os
import sys

import celery

import zoo

# The broker is a folder: whoever sends looks for the same one as who receives.
FOLDER = os.path.join(os.environ["TMPDIR"], "broker")
os.makedirs(FOLDER, exist_ok=True)
app = celery.Celery("celery_results", broker="filesystem://", backend=f"file://{FOLDER}")
app.conf.broker_transport_options = {"data_folder_in": FOLDER, "data_folder_out": FOLDER, "control_folder": FOLDER, "polling_interval": 0.01}
results = {}


@app.task(name="convert")
def convert(path):
    results[path] = [f"{path} row {number} of a result " * 3 for number in range(1_500)]  # leaks
    return len(results[path])


def answer(path, _):
    return str(convert.delay(path).get(timeout=60, interval=0.005)).encode()


if __name__ == "__main__":
    worker = [sys.executable, "-m", "celery", "-A", "celery_results", "--workdir", os.path.dirname(__file__), "worker",
              "--concurrency", "2", "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    # What it prints is not for the judge.
    if not (child := os.fork()):
        os.dup2(2, 1)
        os.execv(worker[0], worker)
    zoo.serve(answer)
