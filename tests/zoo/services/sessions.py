"""A session is made for each visitor, and none expires."""
import zoo

SESSIONS = {}


def answer(path, _):
    session = SESSIONS.setdefault(path, {"path": path, "history": []})
    session["history"] += [f"visit {number} of {path} " * 4 for number in range(200)]  # leaks
    return b"ok"


zoo.serve(answer)
