/*
 * Fills memory in one of many ways, until somebody ends it.
 *
 * fill [-i] [-l FILE] [-p MILLISECONDS] [-s BYTES] KIND LIMIT [VALUE]
 *   -i  ignores SIGTERM; else it leaves at once when SIGTERM or SIGINT comes
 *   -l  makes this file when it leaves
 *   -p  pauses before it begins
 *   -s  so many bytes at once at first, whatever the kind
 *
 *   rate LIMIT BYTES    so many bytes a second, in even steps
 *   one LIMIT           one thread, flat out, a page at a time
 *   two LIMIT           two threads
 *   huge LIMIT          two threads with huge pages
 *   populate LIMIT [B]  MAP_POPULATE, B bytes (4 MiB) a call
 *   fork LIMIT BYTES    children that fill so many bytes each and hold them, four at a time
 *   tmpfs LIMIT FILE    writes to a file
 *   spin LIMIT CORE     no memory at all: keeps a core busy
 *   idle LIMIT          nothing at all
 *   run LIMIT COMMAND…  another program, which inherits an ignored SIGTERM
 *
 * Ends with 9 when it has filled four times the limit: nothing has ended it.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ul << 20)
#define PAGE 4096ul
#define NANOS 1000000000ul
#define TICK (NANOS / 100)
#define NOBODY_CARED 9
#define AT_A_TIME 4

static const char *farewell;
static size_t most;

static void leave(int signal)
{
    (void)signal;
    if (farewell)
        close(open(farewell, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    _exit(0);
}

static char *map(size_t bytes, int flags)
{
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "cannot map %zu bytes", bytes);
    return memory;
}

static void touch(char *memory, size_t bytes)
{
    for (size_t place = 0; place < bytes; place += PAGE)
        ((volatile char *)memory)[place] = 1;
}

static void *touch_a_share(void *huge)
{
    size_t bytes = most / 2;
    char *memory = map(bytes + 2 * MIB, 0);
    if (huge) {
        memory = (char *)(((uintptr_t)memory + 2 * MIB - 1) & ~(2 * MIB - 1));
        if (madvise(memory, bytes, MADV_HUGEPAGE))
            err(1, "no huge pages");
    }
    touch(memory, bytes);
    return NULL;
}

static void two(int huge)
{
    static int yes;
    pthread_t other;
    void *argument = huge ? &yes : NULL;
    if (pthread_create(&other, NULL, touch_a_share, argument))
        errx(1, "no second thread");
    touch_a_share(argument);
    pthread_join(other, NULL);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NANOS + time.tv_nsec;
}

static void rate(double bytes_a_second)
{
    char *memory = map(most, 0);
    size_t grown = 0;
    uint64_t began = now();
    while (grown < most) {
        struct timespec tick = {0, TICK};
        nanosleep(&tick, NULL);
        double due = (now() - began) * bytes_a_second / NANOS;
        /* After a pause (SIGSTOP, a busy machine) it does not catch up: that would be another rate. */
        if (due - grown > 10 * bytes_a_second * TICK / NANOS) {
            began = now() - (uint64_t)(grown / bytes_a_second * NANOS);
            continue;
        }
        size_t pages = due > grown ? (size_t)(due - grown) / PAGE : 0;
        touch(memory + grown, pages * PAGE);
        grown += pages * PAGE;
    }
}

static void populate(size_t bytes)
{
    for (size_t filled = 0; filled < most; filled += bytes)
        map(bytes, MAP_POPULATE);
}

static void breed(size_t share)
{
    int done[2], running = 0;
    char byte = 0;
    if (pipe(done))
        err(1, "no pipe");
    for (size_t filled = 0; filled < most; filled += share) {
        pid_t child = fork();
        if (child < 0)
            err(1, "cannot fork");
        if (child == 0) {
            touch(map(share, 0), share);
            if (write(done[1], &byte, 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        if (++running == AT_A_TIME) {
            while (read(done[0], &byte, 1) < 0 && errno == EINTR)
                continue;
            running--;
        }
    }
}

static void write_to(const char *path)
{
    static char block[MIB];
    memset(block, 'x', sizeof block);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0)
        err(1, "cannot open %s", path);
    for (size_t filled = 0; filled < most; filled += MIB)
        if (write(file, block, sizeof block) < 0 && errno != EINTR)
            err(1, "cannot write %s", path);
}

static void spin(int core)
{
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(core, &only);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || sched_setaffinity(0, sizeof only, &only))
        err(1, "cannot stay on core %d", core);
    for (;;)
        __asm__ volatile("");
}

int main(int count, char **arguments)
{
    int ignores = 0, option;
    unsigned long milliseconds = 0;
    size_t first = 0;
    while ((option = getopt(count, arguments, "+il:p:s:")) >= 0) {
        if (option == 'i')
            ignores = 1;
        else if (option == 'l')
            farewell = optarg;
        else if (option == 'p')
            milliseconds = strtoul(optarg, NULL, 10);
        else if (option == 's')
            first = strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (count - optind < 2)
        errx(2, "what?");
    const char *kind = arguments[optind], *value = optind + 2 < count ? arguments[optind + 2] : NULL;
    most = 4 * strtoul(arguments[optind + 1], NULL, 10);
    if (ignores) {
        signal(SIGTERM, SIG_IGN);
    } else if (strcmp(kind, "run")) {
        signal(SIGTERM, leave);
        signal(SIGINT, leave);
    }
    struct timespec begin = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&begin, &begin) && errno == EINTR)
        continue;
    if (first)
        touch(map(first, 0), first);
    if (!strcmp(kind, "rate") && value) {
        rate(strtod(value, NULL));
    } else if (!strcmp(kind, "one")) {
        touch(map(most, 0), most);
    } else if (!strcmp(kind, "two") || !strcmp(kind, "huge")) {
        two(*kind == 'h');
    } else if (!strcmp(kind, "populate")) {
        populate(value ? strtoul(value, NULL, 10) : 4 * MIB);
    } else if (!strcmp(kind, "fork") && value) {
        breed(strtoul(value, NULL, 10));
    } else if (!strcmp(kind, "tmpfs") && value) {
        write_to(value);
    } else if (!strcmp(kind, "spin") && value) {
        spin(atoi(value));
    } else if (!strcmp(kind, "idle")) {
        for (;;)
            pause();
    } else if (!strcmp(kind, "run") && value) {
        execvp(value, arguments + optind + 2);
        err(127, "cannot run %s", value);
    } else {
        errx(2, "no kind is called %s", kind);
    }
    return NOBODY_CARED;
}
