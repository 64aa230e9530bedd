/* secret.c - see secret.h. */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTEMPTS 8 /* at a file that is being written */

/* What fills `to`, or all that there is. -1: errno says why not. */
static ssize_t read_all(int fd, char *to, size_t size)
{
    size_t used = 0;
    ssize_t n = 1;

    while (n != 0 && used < size) {
        n = pread(fd, to + used, size - used, (off_t)used);
        if (n < 0 && errno != EINTR)
            return -1;
        used += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)used;
}

static bool is_same(const struct stat *is, const struct stat *was)
{
    return is->st_size == was->st_size && is->st_mtim.tv_sec == was->st_mtim.tv_sec &&
           is->st_mtim.tv_nsec == was->st_mtim.tv_nsec;
}

/* The file as it was at one moment. Its size, or so much of it that it is too large; or -errno. */
static ssize_t read_at_once(int fd, char *to)
{
    struct stat was, is;
    ssize_t n;

    for (int i = 0; i < ATTEMPTS; i++) {
        if (fstat(fd, &was) != 0)
            return -errno;
        if (!S_ISREG(was.st_mode))
            return S_ISDIR(was.st_mode) ? -EISDIR : -EINVAL;
        n = read_all(fd, to, SECRET_MOST + 1);
        if (n < 0 || fstat(fd, &is) != 0)
            return -errno;
        if (is_same(&is, &was))
            return n;
    }
    return -EBUSY;
}

static size_t without_newline(const char *text, size_t size)
{
    if (size == 0 || text[size - 1] != '\n')
        return size;
    return size > 1 && text[size - 2] == '\r' ? size - 2 : size - 1;
}

/* Into `text`, followed by a NUL byte. 0 or -errno. */
static int read_text(int fd, char *text)
{
    ssize_t n = read_at_once(fd, text);
    size_t size;

    if (n < 0)
        return (int)n;
    if (n > SECRET_MOST)
        return -EFBIG;
    size = without_newline(text, (size_t)n);
    text[size] = '\0';
    return size == 0 ? -ENODATA : strlen(text) < size ? -EILSEQ : 0;
}

static void say(const char *path, int error, char *why, size_t size)
{
    static const struct {
        int error;
        const char *text;
    } faults[] = {
        {-ENOENT, "is not there"},
        {-EISDIR, "is a directory"},
        {-EINVAL, "is no regular file"},
        {-EBUSY, "is written again and again; replace it by renaming another"},
        {-EFBIG, "is larger than 65535 bytes"},
        {-EILSEQ, "has a NUL byte in it, and so is no text"},
        {-ENODATA, "is empty"},
    };

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (faults[i].error == error) {
            snprintf(why, size, "the file %s %s", path, faults[i].text);
            return;
        }
    }
    snprintf(why, size, "the file %s cannot be read: %s", path, strerror(-error));
}

int secret_read(const char *path, char **text, char *why, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? -errno : 0;

    *text = fd >= 0 ? malloc(SECRET_MOST + 1) : NULL;
    if (fd >= 0) {
        error = *text != NULL ? read_text(fd, *text) : -ENOMEM;
        close(fd);
    }
    if (error == 0)
        return 0;
    say(path, error, why, size);
    free(*text);
    *text = NULL;
    return error;
}
