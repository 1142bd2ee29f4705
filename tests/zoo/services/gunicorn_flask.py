"""Flask under gunicorn with threads: what is cached for the time of a request is kept by the request's number, for ever."""
import itertools

import flask

app = flask.Flask(__name__)
numbers = itertools.count()
app.extensions["request_cache"] = {}


@app.before_request
def begin():
    flask.g.cache = app.extensions["request_cache"].setdefault(next(numbers), {})


@app.route("/<path:path>")
def page(path):
    for number in range(300):
        flask.g.cache[f"user {number}"] = f"{path} permission {number} " * 3  # leaks
    return path
