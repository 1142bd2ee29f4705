"""socketserver: what each client sends is kept, to be looked at later."""
import socketserver

import zoo


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline().strip()):
                if header.lower().startswith(b"content-length:"):
                    length = int(header[15:])
            self.server.received.append((line, self.rfile.read(length)))  # leaks
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    disable_nagle_algorithm = True

    def __init__(self, address):
        super().__init__(address, Handler)
        self.received = []


with Server(("127.0.0.1", 0)) as server:
    zoo.steady(server.server_address[1])
    server.serve_forever()
