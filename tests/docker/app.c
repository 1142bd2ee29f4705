/*
 * The app of the container tests: one static file, so that it runs in an image with nothing else. Each argument is an
 * instruction, VERB or VERB:VALUE, and they are obeyed in turn. After the last one it waits for ever.
 *
 * Signals are handled by the kernel's own calls: the C library hides signals 32 and 33.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MIB (1l << 20)
#define SET_SIZE 8

static int code_on_term;

/* One line, written at once. */
static void say(const char *format, ...)
{
    char line[256];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    line[length] = '\n';
    if (write(1, line, length + 1) < 0)
        _exit(99);
}

static void hold(long bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    if (mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        say("cannot hold %ld bytes", bytes);
}

/* So many MiB a second without end, in even steps: after a pause it does not catch up. */
static void grow(long rate)
{
    struct timespec tick = {0, 10000000};
    for (;;) {
        nanosleep(&tick, NULL);
        hold(rate * MIB / 100);
    }
}

/* The same as a file. */
static void grow_file(const char *path)
{
    static char tenth[2 * MIB];
    struct timespec tick = {0, 100000000};
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    for (;;) {
        nanosleep(&tick, NULL);
        if (write(file, tenth, sizeof tenth) < 0) {
            say("cannot write %s", path);
            pause();
        }
    }
}

static void leave(int signal)
{
    (void)signal;
    say("leaving");
    _exit(code_on_term);
}

/* Tells each signal that arrives. A blocked one waits in the kernel until it is taken, whatever it would do by default. */
static void record(void)
{
    unsigned long all = ~0ul;
    siginfo_t info;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, SET_SIZE);
    say("recording");
    for (;;) {
        long number = syscall(SYS_rt_sigtimedwait, &all, &info, NULL, SET_SIZE);
        if (number > 0)
            say("signal %ld", number);
    }
}

/* A process that outlives its parent. */
static void orphan(void)
{
    if (fork() == 0) {
        setsid();
        say("orphan");
        for (;;)
            pause();
    }
}

/* The first run creates the file and goes on, the second one ends well. */
static void first_run_only(const char *path)
{
    if (access(path, F_OK) == 0) {
        say("second run");
        _exit(0);
    }
    close(open(path, O_CREAT | O_WRONLY, 0600));
    say("first run");
}

static void obey(char *instruction)
{
    char *value = strchr(instruction, ':');
    if (value)
        *value++ = 0;
    if (!strcmp(instruction, "hold"))
        hold(atol(value) * MIB);
    else if (!strcmp(instruction, "grow"))
        grow(atol(value));
    else if (!strcmp(instruction, "grow-file"))
        grow_file(value);
    else if (!strcmp(instruction, "say"))
        say("%s", value);
    else if (!strcmp(instruction, "who"))
        say("process %d, user %d, parent %d", getpid(), getuid(), getppid());
    else if (!strcmp(instruction, "leave-on-term")) {
        code_on_term = atoi(value);
        signal(SIGTERM, leave);
    } else if (!strcmp(instruction, "ignore-term"))
        signal(SIGTERM, SIG_IGN);
    else if (!strcmp(instruction, "record"))
        record();
    else if (!strcmp(instruction, "orphan"))
        orphan();
    else if (!strcmp(instruction, "first-run-only"))
        first_run_only(value);
    else if (!strcmp(instruction, "exit"))
        _exit(atoi(value));
    else {
        say("unknown instruction %s", instruction);
        _exit(98);
    }
}

int main(int count, char **words)
{
    for (int word = 1; word < count; word++)
        obey(words[word]);
    for (;;)
        pause();
}
