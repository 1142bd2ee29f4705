/*
 * Starts a command as PID 1 of a new PID namespace, in the given cgroups and with the given rights, as a container engine
 * would; ends with its exit code, or by the signal that ended it.
 *
 * launch [-j CGROUP_PROCS]... [-t FOLDER] [-p FOLDER] [-r RIGHTS] -- COMMAND [ARGUMENTS]...
 *   -j  joins this cgroup; the launcher itself stays outside
 *   -t  mounts a tmpfs there
 *   -p  is /tmp for the command: containers have one of their own, and JVMs of the same number would meet in the same
 *   -r  nobody: uid 65534 without capabilities; root: root with the capabilities that Docker gives; nice: these and
 *       CAP_SYS_NICE
 *
 * When the launcher is killed, the namespace ends.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILURE 124
#define NOBODY 65534

/* What `docker run` leaves of root. */
static const int usual[] = {
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID, CAP_SETUID,
    CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE,
};

static void join(const char *file)
{
    int group = open(file, O_WRONLY | O_CLOEXEC);
    if (group < 0 || write(group, "0", 1) != 1)
        err(FAILURE, "cannot join %s", file);
    close(group);
}

static int is_usual(int capability)
{
    for (size_t index = 0; index < sizeof usual / sizeof *usual; index++)
        if (usual[index] == capability)
            return 1;
    return 0;
}

/* The bounding set decides what root still has after the next exec. */
static void limit_capabilities(int nice)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (!is_usual(capability) && !(nice && capability == CAP_SYS_NICE))
            if (prctl(PR_CAPBSET_DROP, capability))
                err(FAILURE, "cannot drop capability %d", capability);
}

static void become(const char *rights)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_RTPRIO, &none))
        err(FAILURE, "cannot lower RLIMIT_RTPRIO");
    if (!strcmp(rights, "nobody")) {
        if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
            err(FAILURE, "cannot become nobody");
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            err(FAILURE, "cannot renounce privileges");
    } else if (!strcmp(rights, "root") || !strcmp(rights, "nice")) {
        limit_capabilities(!strcmp(rights, "nice"));
    } else {
        errx(FAILURE, "no rights are called %s", rights);
    }
}

int main(int count, char **arguments)
{
    const char *groups[8], *scratch = NULL, *private = NULL, *rights = "root";
    int joined = 0, option;
    while ((option = getopt(count, arguments, "+j:t:p:r:")) >= 0) {
        if (option == 'j' && joined < 8)
            groups[joined++] = optarg;
        else if (option == 't')
            scratch = optarg;
        else if (option == 'p')
            private = optarg;
        else if (option == 'r')
            rights = optarg;
        else
            return FAILURE;
    }
    if (optind == count)
        errx(FAILURE, "no command");
    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        err(FAILURE, "cannot ask for a parent-death signal");
    if (unshare(CLONE_NEWPID | CLONE_NEWNS))
        err(FAILURE, "cannot make namespaces");
    int gate[2];
    if (pipe2(gate, O_CLOEXEC))
        err(FAILURE, "cannot make a pipe");
    pid_t child = fork();
    if (child < 0)
        err(FAILURE, "cannot fork");
    if (child == 0) {
        close(gate[1]);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
            err(FAILURE, "cannot mount /proc");
        if (scratch && mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"))
            err(FAILURE, "cannot mount a tmpfs at %s", scratch);
        if (private && mount(private, "/tmp", NULL, MS_BIND, NULL))
            err(FAILURE, "cannot mount %s at /tmp", private);
        for (int index = 0; index < joined; index++)
            join(groups[index]);
        become(rights);
        /* A change of rights takes it away, hence here; and the launcher may be gone already. */
        char byte;
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || fcntl(gate[0], F_SETFL, O_NONBLOCK) || read(gate[0], &byte, 1) == 0)
            _exit(FAILURE);
        execvp(arguments[optind], arguments + optind);
        err(FAILURE, "cannot run %s", arguments[optind]);
    }
    close(gate[0]);
    int status;
    while (waitpid(child, &status, 0) < 0)
        continue;
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAILURE;
}
