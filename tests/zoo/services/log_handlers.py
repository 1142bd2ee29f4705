"""Each request adds a handler to a logger, and none takes it away."""
import io
import logging

import zoo

log = logging.getLogger("requests")
log.propagate = False


def answer(path, _):
    stream = io.StringIO()
    log.addHandler(logging.StreamHandler(stream))  # leaks
    stream.write(f"started {path}\n" * 1_000)  # leaks
    return b"ok"


zoo.serve(answer)
