"""An app that leaks when it is told to, behind each of the servers of tests/helpers/run.

usage: app.py (pool METHOD | flask PORT | django PORT | lines)     or as a module: `application` (WSGI), `asgi`, `celery`
"""
import multiprocessing
import os
import sys

# How much a request adds: about 5 MB.
COUNT = 5000
held = []


def leak(count):
    for number in range(count):
        held.append("x" * 1000 + str(number))  # the leak
    return str(os.getpid())


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [leak(COUNT).encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body = leak(COUNT).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


if "MEMINI_TEST_QUEUE" in os.environ:
    from celery import Celery

    folder = os.environ["MEMINI_TEST_QUEUE"]
    app = celery = Celery("app", broker="filesystem://")
    celery.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}
    celery.conf.task_ignore_result = True

    @celery.task
    def work():
        leak(COUNT)


def flask(port):
    import flask

    app = flask.Flask(__name__)
    app.route("/")(lambda: leak(COUNT))
    app.run(port=int(port))


def django(port):
    from django.conf import settings
    from django.core.management import execute_from_command_line
    from django.http import HttpResponse
    from django.urls import path

    sys.modules.setdefault("app", sys.modules["__main__"])
    settings.configure(DEBUG=True, ROOT_URLCONF="app", SECRET_KEY="none", ALLOWED_HOSTS=["*"])
    globals()["urlpatterns"] = [path("", lambda request: HttpResponse(leak(COUNT)))]
    # With its reloader: a parent that starts the server as another process.
    execute_from_command_line(["app", "runserver", "--skip-checks", port])


def lines(give):
    print("up", flush=True)
    for line in sys.stdin:
        print(give(int(line)), flush=True)


def pool(method):
    with multiprocessing.get_context(method).Pool(2) as workers:
        lines(lambda count: workers.apply(leak, [count]))


if __name__ == "__main__":
    {"flask": flask, "django": django, "pool": pool, "lines": lambda: lines(leak)}[sys.argv[1]](*sys.argv[2:])
