/* A server (epoll, one thread) that makes a buffer for each connection and forgets it when the connection is closed. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int socket;
    char buffer[48 << 10];
};

int main(void)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 512) != 0)
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    printf("steady %d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (epoll_wait(epoll, &event, 1, -1) == 1) {
        struct connection *connection = event.data.ptr;
        if (!connection) {
            connection = malloc(sizeof *connection);
            memset(connection, 0x20, sizeof *connection);
            connection->socket = accept(listener, NULL, NULL);
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = connection};
            epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &event);
        } else {
            if (read(connection->socket, connection->buffer, sizeof connection->buffer) > 0
                && write(connection->socket, answer, sizeof answer - 1) < 0)
                return 1;
            close(connection->socket);
        }
    }
    return 1;
}
