/* What leaks in C: leak KIND. It warms up, says "steady", goes on at a line of standard input, says "done".
 *
 *     small      blocks of 200 bytes, by malloc
 *     large      buffers of a megabyte, which malloc takes from the kernel one by one
 *     mapped     anonymous mappings
 *     threads    threads that wait for ever, with a stack that they have used
 *     pairs      socket pairs with something in them that nobody reads
 *     memfd      memory files, mapped
 *     systemv    System V segments that are detached and never removed
 *     events     eventfds
 *     file ROOM  files in the folder ROOM, deleted and not closed
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

static char block[1 << 20];
static const char *room;

static void *forever(void *nothing)
{
    char stack[100 << 10];
    memset(stack, 1, sizeof stack);
    __asm__ volatile("" : : "r"(stack) : "memory");
    pause();
    return nothing;
}

/* A compiler may leave out what nobody can see. */
static char *volatile last;

static void small(void)
{
    last = malloc(200);
    memset(last, 1, 200);
}

static void large(void)
{
    last = malloc(1 << 20);
    memset(last, 1, 1 << 20);
}

static void mapped(void)
{
    memset(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 1 << 20);
}

static void thread(void)
{
    pthread_t one;
    if (pthread_create(&one, NULL, forever, NULL) != 0)
        exit(1);
}

static void pair(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || write(ends[0], block, 32 << 10) < 0)
        exit(1);
}

static void memory_file(void)
{
    int file = memfd_create("ring", 0);
    if (ftruncate(file, 1 << 20) != 0)
        exit(1);
    memset(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), 1, 1 << 20);
    close(file);
}

static void segment(void)
{
    int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
    char *at = shmat(id, NULL, 0);
    if (at == (void *)-1)
        exit(1);
    memset(at, 1, 1 << 20);
    shmdt(at);
}

static void event(void)
{
    if (eventfd(0, 0) < 0)
        exit(1);
}

static void file(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/upload-XXXXXX", room);
    int file = mkstemp(path);
    if (file < 0 || write(file, block, 256 << 10) < 0)
        exit(1);
    unlink(path);
}

static const struct kind {
    const char *name;
    void (*leak)(void);
    int warm, then;
} KINDS[] = {
    {"small", small, 10000, 350000}, {"large", large, 3, 80},  {"mapped", mapped, 3, 80},
    {"threads", thread, 5, 500},     {"pairs", pair, 20, 2000}, {"memfd", memory_file, 3, 80},
    {"systemv", segment, 3, 80},     {"events", event, 10, 5000}, {"file", file, 5, 300},
};

int main(int count, char **words)
{
    char line[64];
    room = count > 2 ? words[2] : "/tmp";
    for (size_t at = 0; count > 1 && at < sizeof KINDS / sizeof *KINDS; at++) {
        if (strcmp(KINDS[at].name, words[1]) != 0)
            continue;
        for (int times = 0; times < KINDS[at].warm; times++)
            KINDS[at].leak();
        puts("steady");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin))
            return 0;
        for (int times = 0; times < KINDS[at].then; times++)
            KINDS[at].leak();
        puts("done");
        fflush(stdout);
        return !fgets(line, sizeof line, stdin);
    }
    return 2;
}
