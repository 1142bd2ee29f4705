"""A service that starts a thread in each request, which waits for ever."""
import threading

import zoo


def answer(*_):
    threading.Thread(target=threading.Event().wait, daemon=True).start()  # leaks
    return b"ok"


zoo.serve(answer)
