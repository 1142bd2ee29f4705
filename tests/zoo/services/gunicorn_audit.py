"""Run by gunicorn with threads: a middleware keeps the environment of each request."""


class Audit:
    def __init__(self, inner):
        self.inner, self.trail = inner, []

    def __call__(self, environ, start_response):
        self.trail.append({**environ, "note": f"request {environ['PATH_INFO']} " * 1_500})  # leaks
        return self.inner(environ, start_response)


def hello(_, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


app = Audit(hello)
