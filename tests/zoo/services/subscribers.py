"""Server-sent events (Flask): each client has a queue, which is filled on after the client has gone."""
import queue

import flask
import werkzeug.serving

import zoo

app = flask.Flask(__name__)


class Feed:
    def __init__(self):
        self.subscribers = []

    def subscribe(self):
        subscriber = queue.Queue()
        self.subscribers.append(subscriber)
        return subscriber

    def publish(self, event):
        for number, subscriber in enumerate(self.subscribers):
            subscriber.put(f"{number}: {event}")  # leaks


feed = Feed()


@app.route("/<path:path>")
def stream(path):
    def events():
        subscriber = feed.subscribe()
        feed.publish(f"{path} has come")
        yield f"data: {subscriber.get()}\n\n"

    return flask.Response(events(), mimetype="text/event-stream")


class Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_):
        pass


server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
zoo.steady(server.server_port)
server.serve_forever()
