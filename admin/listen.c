/* listen.c - see listen.h.
 *
 * A process that was killed leaves its socket's file. Whether anybody is behind it is known by connecting; and between that and
 * taking its place another that starts could do the same, so the folder is locked meanwhile. */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG    64
#define LOCK_TRIES 100u
#define LOCK_PAUSE (10 * FMS_MS)
#define SEND_BUFFER                                                                                                    \
    (64 << 10) /* of a connection, which has its listener's: what a slow reader may keep in the kernel */

static const char *path_of(const struct address *address)
{
    return ((const struct sockaddr_un *)&address->socket)->sun_path;
}

/* Whoever may read the folder can hold its lock for as long as he likes, which keeps nobody from starting: one of us has it for a
 * moment only. -1: there is no such folder, which bind will say, or it cannot be opened. */
static int lock_folder(const char *path)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE};
    char buffer[sizeof((struct sockaddr_un *)NULL)->sun_path];
    int fd;

    memcpy(buffer, path, strlen(path) + 1);
    fd = open(dirname(buffer), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; fd >= 0 && i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) != 0; i++)
        nanosleep(&pause, NULL);
    return fd;
}

/* Removes the file of a socket that nobody listens on; NULL, or what keeps us from it. */
static const char *remove_stale(const struct address *address)
{
    const char *path = path_of(address);
    const char *fault = NULL;
    struct stat file;
    int fd;

    if (lstat(path, &file) != 0)
        return NULL;
    if (!S_ISSOCK(file.st_mode))
        return "a file of that name is there, which is no socket";
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return strerror(errno);
    if (connect(fd, (const struct sockaddr *)&address->socket, address->size) == 0 || errno == EAGAIN)
        fault = "another process listens there";
    else if (errno != ECONNREFUSED || (unlink(path) != 0 && errno != ENOENT))
        fault = strerror(errno);
    close(fd);
    return fault;
}

static bool bind_and_listen(int fd, const struct address *address)
{
    return bind(fd, (const struct sockaddr *)&address->socket, address->size) == 0 && listen(fd, BACKLOG) == 0;
}

/* The mode is the socket's before it has a name, so that nobody else can connect at any moment. */
static const char *listen_unix(struct listening *listening)
{
    int folder = lock_folder(path_of(&listening->address));
    const char *fault = remove_stale(&listening->address);
    struct stat file = {.st_ino = 0};

    if (fault == NULL && (fchmod(listening->fd, 0600) != 0 || !bind_and_listen(listening->fd, &listening->address) ||
                          lstat(path_of(&listening->address), &file) != 0))
        fault = strerror(errno);
    if (folder >= 0)
        close(folder);
    if (fault != NULL)
        return fault;
    listening->device = file.st_dev;
    listening->inode = file.st_ino;
    return NULL;
}

static const char *listen_tcp(struct listening *listening)
{
    struct address *address = &listening->address;
    int one = 1;

    setsockopt(listening->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!bind_and_listen(listening->fd, address) ||
        getsockname(listening->fd, (struct sockaddr *)&address->socket, &address->size) != 0)
        return errno == EADDRINUSE ? "another process listens there" : strerror(errno);
    return NULL;
}

int listen_open(const struct admin_host *host, const char *text, const struct address *address,
                struct listening *listening)
{
    const char *fault;
    int size = SEND_BUFFER;

    *listening = (struct listening){.address = *address};
    listening->fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listening->fd < 0) {
        fault = strerror(errno);
    } else {
        setsockopt(listening->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        fault = address->is_unix ? listen_unix(listening) : listen_tcp(listening);
    }
    if (fault == NULL)
        return 0;
    host->log(FMS_LOG_ERROR, NULL, NULL, "cannot listen at %s for --admin: %s", text, fault);
    if (listening->fd >= 0)
        close(listening->fd);
    listening->fd = -1;
    return -EADDRNOTAVAIL;
}

void listen_close(struct listening *listening)
{
    struct stat file;

    if (listening->fd < 0)
        return;
    if (listening->address.is_unix && lstat(path_of(&listening->address), &file) == 0 &&
        file.st_dev == listening->device && file.st_ino == listening->inode)
        unlink(path_of(&listening->address));
    close(listening->fd);
    listening->fd = -1;
}
