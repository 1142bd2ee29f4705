/*
 * The apps that bench/run runs under each init. Free-standing (no C library), so that what is measured is the init and
 * not the start of an app: cc -O2 -static -nostdlib -ffreestanding -fno-stack-protector.
 *
 * Each tells what it sees on descriptor 3, in messages of two 64-bit numbers: the monotonic time, and a value.
 */
#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/signal.h>
#include <linux/time.h>
#include <linux/wait.h>

#define NANOS 1000000000ull
#define MOST_ORPHANS 20000

static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = -1;
    register long sixth __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}

static unsigned long long now(void)
{
    struct timespec time;
    call(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&time, 0, 0);
    return time.tv_sec * NANOS + time.tv_nsec;
}

static void tell(unsigned long long time, unsigned long long value)
{
    unsigned long long message[2] = {time, value};
    call(__NR_write, 3, (long)message, sizeof message, 0);
}

static void leave(int code)
{
    call(__NR_exit_group, code, 0, 0, 0);
}

static unsigned long long number(const char *text)
{
    unsigned long long value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}

/* Waits for SIGUSR1 again and again and tells when it came. */
static void hear(void)
{
    unsigned long set = 1ul << (SIGUSR1 - 1);
    call(__NR_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof set);
    tell(now(), 0);
    for (;;) {
        long signal = call(__NR_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);
        tell(now(), signal);
    }
}

/* Holds this many bytes of anonymous memory, flat. */
static void hold(unsigned long long bytes)
{
    char *memory = (char *)call(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    for (unsigned long long place = 0; place < bytes; place += 4096)
        memory[place] = 1;
    tell(now(), 0);
    for (;;)
        call(__NR_pause, 0, 0, 0, 0);
}

/* Does nothing but to wake up at these intervals: what a wake-up costs on this machine at the least. */
static void wake(unsigned long long nanos)
{
    tell(now(), 0);
    for (;;) {
        struct timespec pause = {nanos / NANOS, nanos % NANOS};
        call(__NR_ppoll, 0, 0, (long)&pause, 0);
    }
}

static int orphans[MOST_ORPHANS];

/* Makes orphans that all end when the pipe is closed. Either waits until none is left, not even as a zombie, and tells
 * how long that took and how many are left after ten seconds; or ends at once itself and tells when. */
static void make_orphans(unsigned long long count, int wait)
{
    int gate[2], ids[2];
    call(__NR_pipe, (long)gate, 0, 0, 0);
    call(__NR_pipe, (long)ids, 0, 0, 0);
    long parent = call(__NR_fork, 0, 0, 0, 0);
    if (parent == 0) {
        for (unsigned long long index = 0; index < count; index++) {
            int id = call(__NR_fork, 0, 0, 0, 0);
            if (id == 0) {
                char byte;
                call(__NR_close, gate[1], 0, 0, 0);
                call(__NR_close, ids[1], 0, 0, 0);
                call(__NR_read, gate[0], (long)&byte, 1, 0);
                leave(0);
            }
            call(__NR_write, ids[1], (long)&id, sizeof id, 0);
        }
        leave(0);
    }
    call(__NR_close, ids[1], 0, 0, 0);
    unsigned long long made = 0;
    while (made < count && call(__NR_read, ids[0], (long)&orphans[made], sizeof(int), 0) == sizeof(int))
        made++;
    call(__NR_wait4, parent, 0, 0, 0);
    unsigned long long start = now();
    call(__NR_close, gate[1], 0, 0, 0);
    if (!wait) {
        tell(now(), 0);
        leave(0);
    }
    unsigned long long left = made;
    while (left > 0 && now() - start < 10 * NANOS) {
        struct timespec pause = {0, 1000000};
        while (left > 0 && call(__NR_kill, orphans[left - 1], 0, 0, 0) < 0)
            left--;
        call(__NR_nanosleep, (long)&pause, 0, 0, 0);
    }
    for (unsigned long long index = left = 0; index < made; index++)
        left += call(__NR_kill, orphans[index], 0, 0, 0) == 0;
    tell(now() - start, left + (count - made));
    leave(0);
}

__attribute__((used)) void begin(long *stack)
{
    unsigned long long start = now();
    const char **arguments = (const char **)(stack + 1);
    if (stack[0] < 2)
        leave(2);
    unsigned long long value = stack[0] > 2 ? number(arguments[2]) : 0;
    switch (arguments[1][0]) {
    case 's': /* start */
        tell(start, 0);
        leave(0);
        break;
    case 'h': /* hear */
        hear();
        break;
    case 'm': /* memory BYTES */
        hold(value);
        break;
    case 'w': /* wake NANOSECONDS */
        wake(value);
        break;
    case 'o': /* orphans COUNT */
        make_orphans(value, 1);
        break;
    case 'e': /* end beside orphans COUNT */
        make_orphans(value, 0);
        break;
    }
    leave(2);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
