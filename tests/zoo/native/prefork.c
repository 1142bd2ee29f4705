/* A server of several processes that share a listening socket: prefork fd|shm WORKERS ROOM.
 *
 *     fd   the first worker opens its log in the folder ROOM anew at each request, and does not close it
 *     shm  each request's answer is put into a file of its own in /dev/shm, by shm_open, and never removed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char answer[32 << 10];

static void serve(int listener, int worker, int is_shm, const char *room)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char request[4096], name[4096];
    for (unsigned number = 0;; number++) {
        int client = accept(listener, NULL, NULL), file = -1;
        if (client < 0 || read(client, request, sizeof request) < 0)
            _exit(1);
        if (is_shm) {
            snprintf(name, sizeof name, "/answer-%d-%u", worker, number);
            file = shm_open(name, O_CREAT | O_RDWR, 0600);
            if (file < 0 || write(file, answer, sizeof answer) < 0)
                _exit(1);
            close(file);
        } else if (worker == 0) {
            snprintf(name, sizeof name, "%s/access.log", room);
            file = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
            if (file < 0 || write(file, request, 16) < 0)
                _exit(1);
        }
        if (write(client, head, sizeof head - 1) < 0)
            _exit(1);
        close(client);
    }
}

int main(int count, char **words)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (count < 4 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 512) != 0)
        return 1;
    memset(answer, 'a', sizeof answer);
    for (int worker = 0; worker < atoi(words[2]); worker++) {
        pid_t pid = fork();
        if (pid == 0)
            serve(listener, worker, strcmp(words[1], "shm") == 0, words[3]);
        if (worker == 0 && strcmp(words[1], "fd") == 0)
            printf("suspect %d\n", pid);
    }
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("steady %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return wait(NULL) > 0;
}
