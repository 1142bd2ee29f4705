"""What the apps share: they say when they are steady, and go on when they are told to; a server for those that are services."""
import http.server
import os
import sys


def steady(*words):
    """With words, for a service: its port. Who gives none waits for a line, and says `done` later."""
    print("steady", *words, flush=True)
    if not words:
        wait()


def suspect(pid=None):
    """Of several processes this one leaks."""
    print("suspect", pid or os.getpid(), flush=True)


def done():
    print("done", flush=True)
    wait()


def wait():
    if not sys.stdin.readline():
        sys.exit()


def serve(answer):
    """Serves HTTP with a thread for each connection; `answer` makes bytes of a path and what was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            body = answer(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    steady(server.server_port)
    server.serve_forever()
