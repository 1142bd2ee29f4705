"""A Django app that writes down each query, to find slow ones later, and never forgets any."""
import time

import django.conf
import django.core.handlers.wsgi
import django.core.servers.basehttp
import django.db
import django.http
import django.urls

import zoo

django.conf.settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="zoo", MIDDLEWARE=[f"{__name__}.profiled"],
                               DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})


class Profiler:
    def __init__(self):
        self.queries = []

    def __call__(self, execute, sql, parameters, many, context):
        begun = time.monotonic()
        try:
            return execute(sql, parameters, many, context)
        finally:
            self.queries.append({"sql": sql, "parameters": parameters, "time": time.monotonic() - begun})  # leaks


profiler = Profiler()


def profiled(answer):
    def middleware(request):
        with django.db.connection.execute_wrapper(profiler):
            return answer(request)

    return middleware


def page(request, path):
    with django.db.connection.cursor() as cursor:
        for number in range(30):
            words = ", ".join(f"'{path} {number} {column}'" for column in range(60))  # leaks
            cursor.execute(f"SELECT {words}, %s", [number])
    return django.http.HttpResponse(path)


class Quiet(django.core.servers.basehttp.WSGIRequestHandler):
    def log_message(self, *_):
        pass


urlpatterns = [django.urls.path("<path:path>", page)]
django.setup()
with django.core.servers.basehttp.WSGIServer(("127.0.0.1", 0), Quiet) as server:
    server.set_app(django.core.handlers.wsgi.WSGIHandler())
    zoo.steady(server.server_port)
    server.serve_forever()
