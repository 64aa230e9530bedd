/* process.c - starts processes and reserves ports.
 *
 * A port is reserved by a socket that is bound and never listens: nobody else is given the port, not even while a
 * broker is stopped, and the broker may listen on it because both sides set SO_REUSEADDR. So no start ever has to be
 * tried again with another port, and a restarted broker is found where it was. */
#include "sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_FD = STDERR_FILENO + 1, INHERITED_LIMIT = 64 };

static sigset_t inherited_mask;
static void (*inherited_pipe_handler)(int);
static uint64_t inherited_fds; /* a bit for each descriptor below INHERITED_LIMIT that was open at the start */

int process_init(void)
{
    static const int served[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD};
    sigset_t mask;
    int fd;

    for (int i = FIRST_FD; i < INHERITED_LIMIT; i++)
        if (fcntl(i, F_GETFD) >= 0)
            inherited_fds |= UINT64_C(1) << i;
    signal(SIGCHLD, SIG_DFL);                          /* if it was ignored, nobody would tell us how a child ended */
    inherited_pipe_handler = signal(SIGPIPE, SIG_IGN); /* whoever reads our stderr may leave: we still tidy up */
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
        sigaddset(&mask, served[i]);
    sigprocmask(SIG_BLOCK, &mask, &inherited_mask);
    fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return fail(-errno, "signalfd: %s", strerror(errno));
    return fd;
}

/* In the child: leaves no descriptor of the sandbox or of librdkafka open after exec. A connection of the mock cluster
 * that lived on in another process would not be cut when the mock is stopped. */
static int descriptors_limit(bool broker)
{
    for (int i = FIRST_FD; i < INHERITED_LIMIT; i++) {
        int flags = fcntl(i, F_GETFD);

        if (flags >= 0 && (broker || (inherited_fds & (UINT64_C(1) << i)) == 0))
            fcntl(i, F_SETFD, flags | FD_CLOEXEC);
    }
    return close_range(INHERITED_LIMIT, ~0U, CLOSE_RANGE_CLOEXEC);
}

static int standard_files_set(const char *log)
{
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (in < 0 || out < 0)
        return -1;
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        return -1;
    return 0;
}

/* Only what is safe between fork and exec in a process with threads (librdkafka's). */
static void child_run(const struct process *process, pid_t parent, int report_fd)
{
    int error;

    if (process->broker)
        setsid(); /* so a Ctrl-C at the terminal does not reach it */
    if (prctl(PR_SET_PDEATHSIG, process->death_signal) == 0 && getppid() == parent && /* it may have died before */
        (process->directory == NULL || chdir(process->directory) == 0) &&
        (process->log == NULL || standard_files_set(process->log) == 0) && descriptors_limit(process->broker) == 0) {
        signal(SIGPIPE, inherited_pipe_handler);
        sigprocmask(SIG_SETMASK, &inherited_mask, NULL);
        execvp(process->argv[0], process->argv);
    }
    error = errno;
    if (write(report_fd, &error, sizeof(error)) < 0)
        _exit(126);
    _exit(127);
}

pid_t process_start(const struct process *process)
{
    pid_t parent = getpid();
    int report[2];
    int error;
    ssize_t length;
    pid_t pid;

    if (pipe2(report, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        child_run(process, parent, report[1]);
    error = errno;
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -error;
    }
    /* Ends at exec, which closes the child's end of the pipe. */
    do
        length = read(report[0], &error, sizeof(error));
    while (length < 0 && errno == EINTR);
    close(report[0]);
    if (length == 0)
        return pid;
    waitpid(pid, NULL, 0);
    return length == sizeof(error) && error > 0 ? -error : -EIO;
}

const char *process_end_text(int status, char text[static 48])
{
    if (WIFSIGNALED(status))
        snprintf(text, 48, "killed by signal %d", WTERMSIG(status));
    else
        snprintf(text, 48, "exit status %d", WEXITSTATUS(status));
    return text;
}

const char *listen_address = "127.0.0.1";

static struct sockaddr_in here(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    inet_pton(AF_INET, listen_address, &address.sin_addr);
    return address;
}

int port_reserve(int port, int *fd)
{
    struct sockaddr_in address = here(port);
    socklen_t length = sizeof(address);
    int on = 1;
    int error;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (s < 0)
        return fail(-errno, "socket: %s", strerror(errno));
    /* A port that is named may linger in TIME_WAIT, so it is shared before bind. A port of the kernel's choice must be
     * nobody else's, so it is shared only after. */
    if (port != 0)
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(s, (struct sockaddr *)&address, length) != 0 ||
        getsockname(s, (struct sockaddr *)&address, &length) != 0) {
        error = errno;
        close(s);
        return fail(-error, "%s:%d cannot be used: %s", listen_address, port, strerror(error));
    }
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    *fd = s;
    return ntohs(address.sin_port);
}

int port_connect(int port, int timeout_ms)
{
    struct sockaddr_in address = here(port);
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    int error;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (s < 0)
        return -errno;
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (connect(s, (struct sockaddr *)&address, sizeof(address)) != 0) {
        error = errno;
        close(s);
        return -error;
    }
    return s;
}
