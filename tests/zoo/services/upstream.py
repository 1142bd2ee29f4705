"""A service that opens a connection to another one in each request, and forgets to close it."""
import socket
import threading

import zoo

upstream = socket.create_server(("127.0.0.1", 0), backlog=512)
accepted, opened = [], []


def accept():
    while True:
        accepted.append(upstream.accept()[0])


def answer(*_):
    opened.append(socket.create_connection(upstream.getsockname()))
    return b"ok"


threading.Thread(target=accept, daemon=True).start()
zoo.serve(answer)
