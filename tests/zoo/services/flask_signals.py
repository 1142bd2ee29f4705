"""A Flask app in which each request makes a service that listens to a signal, and is kept by it."""
import flask
import werkzeug.serving

import zoo

app = flask.Flask(__name__)


class Events:
    def __init__(self):
        self.subscribers = {}

    def connect(self, name, function):
        self.subscribers.setdefault(name, []).append(function)


events = Events()


class Checkout:
    def __init__(self, path):
        self.path, self.lines = path, [f"{path} line {number}" for number in range(300)]  # leaks
        events.connect("payment", self.paid)

    def paid(self, order):
        self.lines.append(order)


@app.route("/<path:path>")
def page(path):
    return Checkout(path).path


class Quiet(werkzeug.serving.WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
zoo.steady(server.server_port)
server.serve_forever()
