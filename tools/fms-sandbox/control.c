/* control.c - 'fms-sandbox ctl', both ends.
 *
 * A connection carries one request, 'BROKER OPERATION', and one reply: '+' or '-' and a text. The reply comes when the
 * thing is done, so a script needs no waiting of its own. Requests are served one after another. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { REQUEST_LIMIT = 64, REPLY_LIMIT = 8192, REQUEST_TIMEOUT_S = 2, DOUBT_LIMIT_MS = 30000, DOUBT_TICK_MS = 10 };

static int op_stop(struct broker *broker)
{
    return broker_stop(broker, SIGTERM);
}

static int op_kill(struct broker *broker)
{
    return broker_stop(broker, SIGKILL);
}

static int op_restart(struct broker *broker)
{
    int rc = broker_stop(broker, SIGTERM);

    return rc != 0 ? rc : broker_start(broker);
}

static int op_pid(struct broker *broker)
{
    return broker->pid > 0 ? 0 : fail(-ESRCH, "%s does not run", broker->kind->title);
}

static int op_cut(struct broker *broker)
{
    link_set(broker->link, LINK_CUT);
    return 0;
}

static int op_stall(struct broker *broker)
{
    link_set(broker->link, LINK_STALL);
    return 0;
}

static int op_slow(struct broker *broker)
{
    link_set(broker->link, LINK_SLOW);
    return 0;
}

/* Until the next end of a transaction has turned the link from the one into the other. */
static int link_await(struct broker *broker, enum link_mode from, enum link_mode to)
{
    int64_t limit = now_ms() + DOUBT_LIMIT_MS;

    link_set(broker->link, from);
    while (link_is(broker->link, from) && now_ms() < limit)
        sandbox_pump(broker->sandbox, DOUBT_TICK_MS);
    if (link_is(broker->link, to))
        return 0;
    link_set(broker->link, LINK_OPEN);
    return fail(-ETIMEDOUT, "no client has ended a transaction in %d s", DOUBT_LIMIT_MS / 1000);
}

static int op_doubt(struct broker *broker)
{
    return link_await(broker, LINK_DOUBT, LINK_MUTE);
}

static int op_hold(struct broker *broker)
{
    return link_await(broker, LINK_HOLD, LINK_STALL);
}

static int op_heal(struct broker *broker)
{
    link_set(broker->link, LINK_OPEN);
    return 0;
}

enum operation_needs { NEEDS_NOTHING, NEEDS_PROCESS, NEEDS_LINK };

static const struct operation {
    const char *name;
    enum operation_needs needs;
    int (*run)(struct broker *broker);
} operations[] = {
    {"stop", NEEDS_NOTHING, op_stop},       {"kill", NEEDS_PROCESS, op_kill},
    {"start", NEEDS_NOTHING, broker_start}, {"freeze", NEEDS_PROCESS, broker_freeze},
    {"thaw", NEEDS_PROCESS, broker_thaw},   {"restart", NEEDS_NOTHING, op_restart},
    {"pid", NEEDS_PROCESS, op_pid},         {"cut", NEEDS_LINK, op_cut},
    {"stall", NEEDS_LINK, op_stall},        {"slow", NEEDS_LINK, op_slow},
    {"doubt", NEEDS_LINK, op_doubt},        {"hold", NEEDS_LINK, op_hold},
    {"heal", NEEDS_LINK, op_heal},
};

static const struct operation *operation_find(const char *name)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (strcmp(name, operations[i].name) == 0)
            return &operations[i];
    return NULL;
}

static int address_make(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path))
        return fail(-ENAMETOOLONG, "%s: too long for a socket's name: set TMPDIR to a shorter path", path);
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

int control_listen(const char *path)
{
    struct sockaddr_un address;
    int rc = address_make(path, &address);
    int fd;

    if (rc != 0)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(-errno, "socket: %s", strerror(errno));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, SOMAXCONN) != 0) {
        rc = fail(-errno, "%s: cannot listen: %s", path, strerror(errno));
        close(fd);
        return rc;
    }
    return fd;
}

static int request_run(struct broker *brokers[static 2], char *request, char reply[static REPLY_LIMIT])
{
    char *rest = NULL;
    const char *name = strtok_r(request, " \n", &rest);
    const char *verb = strtok_r(NULL, " \n", &rest);
    const struct operation *operation = verb != NULL ? operation_find(verb) : NULL;
    struct broker *broker = NULL;
    int rc;

    for (int i = 0; i < 2 && name != NULL; i++)
        if (strcmp(name, brokers[i]->name) == 0)
            broker = brokers[i];
    if (broker == NULL || operation == NULL)
        return fail(-EINVAL, "not understood: the client and the sandbox may be of different versions");
    if (broker->kind == NULL)
        return fail(-ENOTSUP, "%s: the sandbox runs no such broker: it was started without, or %s is one of your own",
                    name, broker->variable);
    if (operation->needs == NEEDS_LINK && broker->link == NULL)
        return fail(-ENOTSUP, "%s is reached without a link: start the sandbox with --links", broker->kind->title);
    if (operation->needs == NEEDS_PROCESS && !broker->kind->process)
        return fail(-ENOTSUP,
                    "%s lives in the sandbox's own process and cannot do '%s', only stop, start and restart: "
                    "use --kafka=real",
                    broker->kind->title, verb);
    sandbox_note(broker->sandbox, "control: %s %s", name, verb);
    rc = operation->run(broker);
    if (rc == 0 && operation->run == op_pid)
        snprintf(reply, REPLY_LIMIT, "%d\n", (int)broker->pid);
    return rc;
}

static void request_serve(int fd, struct broker *brokers[static 2])
{
    struct timeval timeout = {.tv_sec = REQUEST_TIMEOUT_S};
    char request[REQUEST_LIMIT];
    char reply[REPLY_LIMIT] = "";
    ssize_t length;
    int rc;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    length = recv(fd, request, sizeof(request) - 1, MSG_WAITALL); /* until the client shuts its end */
    if (length <= 0)
        return;
    request[length] = '\0';
    rc = request_run(brokers, request, reply);
    send(fd, rc == 0 ? "+" : "-", 1, MSG_NOSIGNAL);
    if (rc != 0)
        snprintf(reply, sizeof(reply), "%s\n", failure());
    send(fd, reply, strlen(reply), MSG_NOSIGNAL);
}

void control_serve(int listen_fd, struct broker *brokers[static 2])
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    request_serve(fd, brokers);
    close(fd);
}

static int control_usage(void)
{
    fputs("usage: fms-sandbox ctl mqtt|kafka stop|kill|start|restart|freeze|thaw|pid|cut|stall|slow|doubt|hold|heal\n",
          stderr);
    return 2;
}

/* Fills TEXT with the reply. */
static int control_ask(const char *path, const char *request, char text[static REPLY_LIMIT])
{
    struct sockaddr_un address;
    int rc = address_make(path, &address);
    ssize_t length = -1;
    int fd;

    if (rc != 0)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, "socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, request, strlen(request), MSG_NOSIGNAL) > 0 && shutdown(fd, SHUT_WR) == 0)
        length = recv(fd, text, REPLY_LIMIT - 1, MSG_WAITALL);
    if (length < 0)
        rc = fail(-errno, "%s: no sandbox answers there: %s", path, strerror(errno));
    else if (length == 0)
        rc = fail(-EPIPE, "%s: the sandbox ended without an answer", path);
    close(fd);
    if (rc == 0)
        text[length] = '\0';
    return rc;
}

int control_client(int argc, char **argv)
{
    const char *path = getenv("FMS_SANDBOX");
    char request[REQUEST_LIMIT];
    char reply[REPLY_LIMIT] = "";

    if (argc != 2 || operation_find(argv[1]) == NULL || (strcmp(argv[0], "mqtt") != 0 && strcmp(argv[0], "kafka") != 0))
        return control_usage();
    if (path == NULL || *path == '\0') {
        say("FMS_SANDBOX is not set: ctl works only in a command that fms-sandbox runs");
        return 1;
    }
    snprintf(request, sizeof(request), "%s %s\n", argv[0], argv[1]);
    if (control_ask(path, request, reply) != 0) {
        say("%s", failure());
        return 1;
    }
    if (reply[0] == '+') {
        fputs(reply + 1, stdout);
        return 0;
    }
    fprintf(stderr, "fms-sandbox: ctl %s %s: %s", argv[0], argv[1], reply + 1);
    return 1;
}
