/* broker.c - the life of a broker: launched, answering, stopped, frozen.
 *
 * A process's state is what waitpid says of it, never what we have asked of it: 'frozen' and 'stopped' are reported
 * only once the kernel has confirmed them. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POLL_MS = 20, FREEZE_LIMIT_MS = 5000, KILL_LIMIT_MS = 10000 };

int broker_prepare(struct broker *broker, const char *parent_directory)
{
    int length = snprintf(broker->directory, sizeof(broker->directory), "%s/%s", parent_directory, broker->name);
    int rc;

    if (length < 0 || (size_t)length + sizeof("/log") > sizeof(broker->log))
        return fail(-ENAMETOOLONG, "%s: the path is too long: set TMPDIR to a shorter one", parent_directory);
    snprintf(broker->log, sizeof(broker->log), "%.*s/log", length, broker->directory);
    rc = directory_make(broker->directory);
    return rc != 0 ? rc : broker->kind->prepare(broker);
}

static void broker_ended(struct broker *broker, int status)
{
    char text[48];

    if (!broker->end_expected)
        say("%s (pid %d) ended by itself: %s", broker->kind->title, (int)broker->pid, process_end_text(status, text));
    broker->end_status = status;
    broker->pid = 0;
    broker->state = BROKER_STOPPED;
}

void broker_reap(struct broker *broker)
{
    int status;

    while (broker->pid > 0 && waitpid(broker->pid, &status, WNOHANG | WUNTRACED | WCONTINUED) > 0) {
        if (WIFSTOPPED(status))
            broker->state = BROKER_FROZEN;
        else if (WIFCONTINUED(status))
            broker->state = BROKER_RUNNING;
        else
            broker_ended(broker, status);
    }
}

/* Returns 0, or -ETIMEDOUT when the state is still another after LIMIT_MS. */
static int broker_wait_state(struct broker *broker, enum broker_state state, int limit_ms)
{
    int64_t deadline = now_ms() + limit_ms;

    while (broker->state != state) {
        if (now_ms() >= deadline)
            return -ETIMEDOUT;
        sandbox_pump(broker->sandbox, POLL_MS);
    }
    return 0;
}

int broker_launch(struct broker *broker)
{
    int rc;

    broker->end_expected = true; /* whoever waits for the answer reports an early end, with the log */
    rc = broker->kind->start(broker);
    if (rc == 0)
        broker->state = BROKER_RUNNING;
    return rc;
}

static int broker_start_failed(struct broker *broker, int error, const char *what)
{
    fail(error, "%s at %s %s", broker->kind->title, broker->address, what);
    fail_add_log(broker->log);
    return error;
}

int broker_wait_answer(struct broker *broker)
{
    int64_t start = now_ms();
    char end[48];
    char what[128];

    while (!broker->kind->answers(broker)) {
        sandbox_pump(broker->sandbox, POLL_MS);
        if (sandbox_is_over(broker->sandbox))
            return fail(-EINTR, "told to end while waiting for %s", broker->kind->title);
        if (broker->state == BROKER_STOPPED) {
            snprintf(what, sizeof(what), "ended before it answered: %s", process_end_text(broker->end_status, end));
            return broker_start_failed(broker, -ECHILD, what);
        }
        if (now_ms() - start >= broker->kind->start_limit_ms) {
            snprintf(what, sizeof(what), "does not answer after %d s", broker->kind->start_limit_ms / 1000);
            return broker_start_failed(broker, -ETIMEDOUT, what);
        }
    }
    broker->end_expected = false;
    sandbox_note(broker->sandbox, "%s answers at %s after %d ms", broker->kind->title, broker->address,
                 (int)(now_ms() - start));
    return 0;
}

int broker_start(struct broker *broker)
{
    int rc = 0;

    if (broker->state == BROKER_FROZEN)
        return fail(-EBUSY, "%s is frozen: thaw it first", broker->kind->title);
    if (broker->state == BROKER_STOPPED)
        rc = broker_launch(broker);
    return rc != 0 ? rc : broker_wait_answer(broker);
}

int broker_stop(struct broker *broker, int signal)
{
    int limit_ms = signal == SIGKILL ? KILL_LIMIT_MS : broker->kind->stop_limit_ms;

    if (broker->state == BROKER_STOPPED)
        return 0;
    if (!broker->kind->process)
        return broker->kind->stop(broker);
    broker->end_expected = true;
    kill(broker->pid, signal);
    kill(broker->pid, SIGCONT); /* a frozen process takes no SIGTERM */
    if (broker_wait_state(broker, BROKER_STOPPED, limit_ms) != 0) {
        broker->end_expected = false;
        return fail(-ETIMEDOUT, "%s (pid %d) still runs %d s after signal %d", broker->kind->title, (int)broker->pid,
                    limit_ms / 1000, signal);
    }
    return 0;
}

/* Sends SIGNAL to a process that runs or is frozen and waits until it is as wanted. */
static int broker_turn(struct broker *broker, int signal, enum broker_state wanted)
{
    if (broker->state == BROKER_STOPPED)
        return fail(-ESRCH, "%s does not run: start it first", broker->kind->title);
    if (broker->state == wanted)
        return 0;
    kill(broker->pid, signal);
    if (broker_wait_state(broker, wanted, FREEZE_LIMIT_MS) != 0)
        return fail(-ETIMEDOUT, "%s (pid %d) does not obey signal %d", broker->kind->title, (int)broker->pid, signal);
    return 0;
}

int broker_freeze(struct broker *broker)
{
    return broker_turn(broker, SIGSTOP, BROKER_FROZEN);
}

int broker_thaw(struct broker *broker)
{
    int rc = broker_turn(broker, SIGCONT, BROKER_RUNNING);

    return rc != 0 ? rc : broker_wait_answer(broker);
}

int broker_client_port(struct broker *broker)
{
    int rc = 0;

    if (!broker->has_link)
        return broker->port;
    if (broker->link == NULL) {
        broker->link_port = port_reserve(0, &broker->link_fd);
        rc = broker->link_port < 0 ? broker->link_port : link_start(&broker->link, broker->link_fd, broker->port);
    }
    return rc < 0 ? rc : broker->link_port;
}

void broker_release_ports(struct broker *broker)
{
    if (broker->link != NULL)
        link_end(broker->link);
    if (broker->link_fd >= 0)
        close(broker->link_fd);
    if (broker->port_fd >= 0)
        close(broker->port_fd);
    if (broker->controller_fd >= 0)
        close(broker->controller_fd);
    if (broker->secure_fd >= 0)
        close(broker->secure_fd);
}
