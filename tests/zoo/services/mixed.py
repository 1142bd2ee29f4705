"""A service that asks another one, in Java, for each request: mixed.py python|java COMMAND, which of the two leaks."""
import http.client
import subprocess
import sys
import threading

import zoo

pages = {}
local = threading.local()
backend = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
port = int(backend.stdout.readline().split()[1])
if sys.argv[1] == "java":
    zoo.suspect(backend.pid)
else:
    zoo.suspect()


def answer(path, _):
    if not hasattr(local, "backend"):
        local.backend = http.client.HTTPConnection("127.0.0.1", port)
    local.backend.request("GET", path)
    body = local.backend.getresponse().read()
    if sys.argv[1] == "python":
        pages[path] = [f"{path} {number} {body!r} " * 3 for number in range(300)]  # leaks
    return body


zoo.serve(answer)
