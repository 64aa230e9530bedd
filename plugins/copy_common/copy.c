/* copy.c - see copy.h. */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTEMPTS 8 /* at a file that is being written */

/* 0 or -errno. */
static int copy_all(int to, int from)
{
    char buffer[16384];
    off_t at = 0;
    ssize_t n;

    while ((n = pread(from, buffer, sizeof buffer, at)) > 0) {
        if (at + n > COPY_MOST)
            return -EFBIG;
        if (pwrite(to, buffer, (size_t)n, at) != n)
            return -ENOSPC;
        at += n;
    }
    return n < 0 ? -errno : 0;
}

/* 0, -EAGAIN where it has changed meanwhile, or another negative errno. */
static int copy_once(int to, int from)
{
    struct stat was, is;
    int error;

    if (ftruncate(to, 0) != 0 || fstat(from, &was) != 0)
        return -errno;
    if (!S_ISREG(was.st_mode))
        return S_ISDIR(was.st_mode) ? -EISDIR : -EINVAL;
    error = copy_all(to, from);
    if (error == 0 && fstat(from, &is) != 0)
        error = -errno;
    if (error != 0)
        return error;
    return is.st_size == was.st_size && is.st_mtim.tv_sec == was.st_mtim.tv_sec &&
                   is.st_mtim.tv_nsec == was.st_mtim.tv_nsec
               ? 0
               : -EAGAIN;
}

int copy_make(struct copy *copy, const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = -EAGAIN;

    copy->path[0] = '\0';
    if (from < 0)
        return -errno;
    copy->fd = memfd_create("fmspipe", MFD_CLOEXEC);
    if (copy->fd < 0)
        error = -errno;
    for (int i = 0; i < ATTEMPTS && error == -EAGAIN; i++)
        error = copy_once(copy->fd, from);
    close(from);
    if (error == 0)
        snprintf(copy->path, sizeof copy->path, "/proc/self/fd/%d", copy->fd);
    else if (copy->fd >= 0)
        close(copy->fd);
    return error;
}

void copy_free(struct copy *copy)
{
    if (copy->path[0] != '\0')
        close(copy->fd);
    copy->path[0] = '\0';
}

const char *copy_error(int error)
{
    switch (error) {
    case -EINVAL:
        return "it is no regular file";
    case -EFBIG:
        return "it is larger than 4 MiB";
    case -EAGAIN:
        return "it is written again and again; replace it by renaming another";
    default:
        return strerror(-error);
    }
}
