"""A WSGI app (wsgiref) that counts each request by labels, of which one is different each time."""
import collections
import wsgiref.simple_server

import zoo


class Metrics:
    def __init__(self):
        self.timings = collections.defaultdict(list)

    def observe(self, labels, seconds):
        self.timings[labels].append(seconds)  # leaks


metrics = Metrics()


def app(environ, start_response):
    for number in range(100):
        metrics.observe(("GET", environ["PATH_INFO"], f"part {number}"), number * 0.1)  # leaks
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


with wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
    zoo.steady(server.server_port)
    server.serve_forever()
