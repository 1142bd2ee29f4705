/*
 * Measures inits as PID 1 of a PID namespace of their own, in interleaved rounds. For bench/run, which reads its output.
 *
 *   probe MODE COUNT [: NAME COMMAND…]…
 *
 * start    NAME  ns until the app's first instruction  ns until everything has ended  page faults of all  CPU ns of all
 * early    NAME  when the signal was sent  whether it was lost
 * forward  NAME  ns from kill(2) until the app's handling
 * orphans  NAME  ns, the app's message  and its value  and ns from that message until the init's end
 * hold     prints the one command's process id, keeps it until standard input ends; COUNT is a cgroup.procs file or -
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NANOS 1000000000ull
#define MOST 16

struct contender {
    const char *name;
    char **command;
    pid_t id;
    int messages; /* what the app writes to its descriptor 3 */
    int exec;     /* at its end once exec has happened */
};

struct message {
    uint64_t time, value;
};

/* What the child tells just before its exec. */
struct shared {
    volatile uint64_t begun;
};

static struct shared *shared;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NANOS + time.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void become(struct contender *it, int messages, const char *group)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (group) {
        int file = open(group, O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, "0", 1) != 1)
            _exit(126);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL) || null < 0)
        _exit(126);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    dup2(messages, 3);
    shared->begun = now();
    execv(it->command[0], it->command);
    _exit(126);
}

static void launch(struct contender *it, const char *group)
{
    int messages[2], exec[2];
    if (pipe2(messages, O_CLOEXEC) || pipe2(exec, O_CLOEXEC))
        fail("pipe");
    shared->begun = 0;
    it->id = syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (it->id < 0)
        fail("clone (root is needed)");
    if (it->id == 0)
        become(it, messages[1], group);
    close(messages[1]);
    close(exec[1]);
    it->messages = messages[0];
    it->exec = exec[0];
}

/* Waits until it has ended. */
static struct rusage finish(struct contender *it)
{
    struct rusage usage;
    if (wait4(it->id, NULL, 0, &usage) != it->id)
        fail("wait4");
    close(it->messages);
    close(it->exec);
    return usage;
}

static int readable(int descriptor, int milliseconds)
{
    struct pollfd poll_for = {.fd = descriptor, .events = POLLIN};
    return poll(&poll_for, 1, milliseconds) > 0;
}

/* The app's next message. A time of 0: there was none. */
static struct message message(struct contender *it, int seconds)
{
    struct message result = {0, 0};
    if (!readable(it->messages, seconds * 1000) || read(it->messages, &result, sizeof result) != sizeof result)
        result.time = 0;
    return result;
}

static void pause_for(uint64_t nanos)
{
    struct timespec time = {nanos / NANOS, nanos % NANOS};
    nanosleep(&time, NULL);
}

static uint64_t nanos_of(struct timeval time)
{
    return time.tv_sec * NANOS + time.tv_usec * 1000ull;
}

static void start(struct contender *it)
{
    launch(it, NULL);
    struct message told = message(it, 10);
    struct rusage usage = finish(it);
    uint64_t end = now();
    if (told.time == 0)
        fail(it->name);
    printf("%s %llu %llu %ld %llu\n", it->name, (unsigned long long)(told.time - shared->begun),
           (unsigned long long)(end - shared->begun), usage.ru_minflt,
           (unsigned long long)(nanos_of(usage.ru_utime) + nanos_of(usage.ru_stime)));
}

/* A field of /proc/ID/status: a set of signals, or the letter of the state. */
static uint64_t status(pid_t id, const char *field)
{
    char path[64], line[256];
    uint64_t value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", id);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        size_t length = strlen(field);
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            value = field[1] == 't' ? (uint64_t)line[length + 2] : strtoull(line + length + 1, NULL, 16);
    }
    if (file)
        fclose(file);
    return value;
}

/* It sleeps, and no SIGTERM waits for it: nothing more will come of one that was sent. */
static int rests(pid_t id)
{
    uint64_t term = 1ull << (SIGTERM - 1);
    return status(id, "State") == 'S' && !((status(id, "SigPnd") | status(id, "ShdPnd")) & term);
}

/* A child of this process, or 0. */
static pid_t child_of(pid_t parent)
{
    char path[64], line[512];
    for (pid_t id = parent + 1; id < parent + 64; id++) {
        snprintf(path, sizeof path, "/proc/%d/stat", id);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        fclose(file);
        if (end && atoi(end + 4) == parent)
            return id;
    }
    return 0;
}

static int has_ended(pid_t id)
{
    siginfo_t info = {0};
    return waitid(P_PID, id, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == id;
}

static void early(struct contender *it)
{
    launch(it, NULL);
    while (shared->begun == 0)
        ;
    uint64_t due = shared->begun + random() % 2500000;
    while (now() < due)
        ;
    uint64_t term = 1ull << (SIGTERM - 1);
    /* In this order: what is found was so when the signal went off. */
    int own = ((status(it->id, "SigBlk") | status(it->id, "SigCgt")) & term) != 0;
    /* In sigtimedwait(2) what is waited for does not show as blocked, but nothing sleeps like that before. */
    own = own || status(it->id, "State") == 'S';
    const char *when = !readable(it->exec, 0) ? "launcher" : own ? "own" : "exec";
    if (kill(it->id, SIGTERM))
        fail("kill");
    uint64_t sent = now();
    const char *what = "arrived";
    while (!has_ended(it->id)) {
        pause_for(2000000);
        /* The app has told that it runs, and both rest, twice: the signal is gone. Or it takes far too long. */
        pid_t app = now() - sent > 20000000 && readable(it->messages, 0) ? child_of(it->id) : 0;
        int lost = app && rests(it->id) && rests(app);
        if (lost) {
            pause_for(5000000);
            lost = rests(it->id) && rests(app);
        }
        if ((lost && !has_ended(it->id)) || now() - sent > 3 * NANOS) {
            what = "lost";
            break;
        }
    }
    kill(it->id, SIGKILL);
    finish(it);
    printf("%s %s %s\n", it->name, when, what);
}

static void forward(struct contender *it)
{
    pause_for(300000 + random() % 700000);
    uint64_t sent = now();
    if (kill(it->id, SIGUSR1))
        fail("kill");
    struct message told = message(it, 3);
    if (told.time == 0)
        fail("a signal was not forwarded");
    printf("%s %llu\n", it->name, (unsigned long long)(told.time - sent));
}

static void orphans(struct contender *it)
{
    launch(it, NULL);
    struct message told = message(it, 60);
    finish(it);
    printf("%s %llu %llu %lld\n", it->name, (unsigned long long)told.time, (unsigned long long)told.value,
           (long long)(now() - told.time));
}

static void hold(struct contender *it, const char *group)
{
    char byte;
    launch(it, strcmp(group, "-") == 0 ? NULL : group);
    if (message(it, 30).time == 0)
        fail(it->name);
    printf("%d\n", it->id);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    kill(it->id, SIGKILL);
    finish(it);
}

int main(int count, char **words)
{
    struct contender all[MOST] = {0};
    int contenders = 0;
    if (count < 3)
        return 2;
    for (int index = 3; index < count; index++) {
        if (strcmp(words[index], ":") == 0 && contenders < MOST && index + 2 < count) {
            words[index] = NULL;
            all[contenders].name = words[index + 1];
            all[contenders++].command = words + index + 2;
        }
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (contenders == 0 || shared == MAP_FAILED)
        return 2;
    srandom(now());
    const char *mode = words[1];
    if (strcmp(mode, "hold") == 0) {
        hold(&all[0], words[2]);
        return 0;
    }
    void (*one)(struct contender *) = strcmp(mode, "start") == 0   ? start
                                      : strcmp(mode, "early") == 0 ? early
                                      : strcmp(mode, "forward") == 0 ? forward
                                                                     : orphans;
    if (one == forward) {
        for (int index = 0; index < contenders; index++) {
            launch(&all[index], NULL);
            if (message(&all[index], 10).time == 0)
                fail(all[index].name);
        }
        pause_for(NANOS / 2);
    }
    /* Each round begins with another one, so that nobody always follows the same neighbour's work. */
    for (int round = 0; round < atoi(words[2]); round++)
        for (int index = 0; index < contenders; index++)
            one(&all[(round + index) % contenders]);
    if (one == forward) {
        for (int index = 0; index < contenders; index++) {
            kill(all[index].id, SIGKILL);
            finish(&all[index]);
        }
    }
    return 0;
}
