"""A Flask app with a cache of its own, keyed by the whole address of a request."""
import flask
import werkzeug.serving

import zoo

app = flask.Flask(__name__)
responses = {}


@app.route("/<path:path>")
def page(path):
    if path not in responses:
        responses[path] = f"<p>{path}</p>" * 1_500  # leaks
    return responses[path][:100]


class Quiet(werkzeug.serving.WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
zoo.steady(server.server_port)
server.serve_forever()
