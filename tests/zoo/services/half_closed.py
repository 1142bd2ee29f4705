"""A server that answers, and does not close the connection after its client has."""
import socket

import zoo

served = []
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
zoo.steady(listener.getsockname()[1])
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    served.append(connection)
