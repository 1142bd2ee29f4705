"""celery with a worker of two threads, whose task keeps each result; requests become tasks that are waited for."""
import celery
import celery.contrib.testing.worker

import zoo

app = celery.Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.broker_transport_options = {"polling_interval": 0.005}
results = {}


@app.task(name="convert")
def convert(path):
    results[path] = [f"{path} row {number} of a result " * 3 for number in range(1_500)]  # leaks
    return len(results[path])


with celery.contrib.testing.worker.start_worker(app, pool="threads", concurrency=2, loglevel="ERROR", perform_ping_check=False):
    zoo.serve(lambda path, _: str(convert.delay(path).get(timeout=60, interval=0.005)).encode())
