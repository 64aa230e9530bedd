/* support.c - failures, time and files.
 *
 * A failure is kept as text rather than printed where it happens, because it belongs to whoever asked: to stderr when
 * the sandbox starts, to the client when a control request fails. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOG_TAIL_BYTES = 4000, LOG_TAIL_LINES = 15 };

static char failure_text[2 * LOG_TAIL_BYTES];

int fail(int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure_text, sizeof(failure_text), format, arguments);
    va_end(arguments);
    return error;
}

const char *failure(void)
{
    return failure_text;
}

void say(const char *format, ...)
{
    va_list arguments;

    fputs("fms-sandbox: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads the end of a file into TEXT, as a string. Returns its length. */
static size_t file_read_end(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    ssize_t length = 0;

    if (fd >= 0 && fstat(fd, &status) == 0) {
        off_t start = status.st_size > (off_t)size - 1 ? status.st_size - ((off_t)size - 1) : 0;

        length = pread(fd, text, size - 1, start);
    }
    if (fd >= 0)
        close(fd);
    length = length > 0 ? length : 0;
    text[length] = '\0';
    return (size_t)length;
}

void fail_add_log(const char *path)
{
    char text[LOG_TAIL_BYTES];
    size_t at = file_read_end(path, text, sizeof(text));
    size_t used = strlen(failure_text);

    while (at > 0 && text[at - 1] == '\n')
        text[--at] = '\0';
    if (at == 0)
        return;
    for (int lines = 0; at > 0; at--)
        if (text[at - 1] == '\n' && ++lines == LOG_TAIL_LINES)
            break;
    snprintf(failure_text + used, sizeof(failure_text) - used, "\nthe end of its log:\n%s", text + at);
}

int file_write(const char *path, const char *format, ...)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* some hold passwords */
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    va_list arguments;
    bool ok;

    if (file == NULL)
        return fail(-errno, "%s: %s", path, strerror(errno));
    va_start(arguments, format);
    ok = vfprintf(file, format, arguments) >= 0;
    va_end(arguments);
    if (fclose(file) != 0 || !ok)
        return fail(-EIO, "%s: cannot write: %s", path, strerror(errno));
    return 0;
}

int directory_make(const char *path)
{
    if (mkdir(path, 0700) != 0)
        return fail(-errno, "%s: cannot make the folder: %s", path, strerror(errno));
    return 0;
}

static int entry_remove(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    if (remove(path) != 0)
        say("%s: cannot remove: %s", path, strerror(errno));
    return 0;
}

void tree_remove(const char *path)
{
    nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

int program_find(const char *program, char path[static PATH_MAX])
{
    const char *variable = getenv("PATH");
    char folders[8192];
    char *rest = NULL;

    snprintf(folders, sizeof(folders), "%s:/usr/local/sbin:/usr/sbin:/sbin",
             variable != NULL ? variable : "/bin:/usr/bin");
    for (char *folder = strtok_r(folders, ":", &rest); folder != NULL; folder = strtok_r(NULL, ":", &rest)) {
        int length = snprintf(path, PATH_MAX, "%s/%s", folder, program);

        if (length < PATH_MAX && access(path, X_OK) == 0)
            return 0;
    }
    return -ENOENT;
}
