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

static _Thread_local struct secret_note **noted; /* NULL: nothing is */
static _Thread_local bool is_as_noted;           /* what is there is not read anew */

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
    if ((size_t)n > SECRET_MOST)
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

static int read_now(const char *path, char **text, char *why, size_t size)
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

/* ------------------------------------------------------------------------------------------------------------ notes */

void secret_note(struct secret_note **notes, bool is_then)
{
    noted = notes;
    is_as_noted = is_then;
}

void secret_notes_free(struct secret_note *notes)
{
    while (notes != NULL) {
        struct secret_note *next = notes->next;

        free(notes->path);
        free(notes->text);
        free(notes);
        notes = next;
    }
}

/* 0 or -ENOMEM. */
static int add(struct secret_note **notes, const char *path, const char *text)
{
    struct secret_note *note = calloc(1, sizeof *note);

    if (note == NULL)
        return -ENOMEM;
    *note = (struct secret_note){NULL, strdup(path), text != NULL ? strdup(text) : NULL};
    if (note->path == NULL || (text != NULL && note->text == NULL)) {
        secret_notes_free(note);
        return -ENOMEM;
    }
    note->next = *notes;
    *notes = note;
    return 0;
}

static const struct secret_note *find(const char *path)
{
    const struct secret_note *note = noted != NULL ? *noted : NULL;

    while (note != NULL && strcmp(note->path, path) != 0)
        note = note->next;
    return note;
}

struct secret_note *secret_notes_copy(const struct secret_note *notes)
{
    struct secret_note *copy = NULL;
    int error = 0;

    for (; notes != NULL && error == 0; notes = notes->next)
        error = add(&copy, notes->path, notes->text);
    if (error == 0)
        return copy;
    secret_notes_free(copy);
    return NULL;
}

bool secret_has_changed(const struct secret_note *note)
{
    char *text, why[512];
    bool has_changed;

    (void)read_now(note->path, &text, why, sizeof why);
    has_changed = text == NULL || note->text == NULL ? text != note->text : strcmp(text, note->text) != 0;
    free(text);
    return has_changed;
}

int secret_read(const char *path, char **text, char *why, size_t size)
{
    const struct secret_note *note = find(path);
    int error;

    if (note != NULL && is_as_noted) {
        *text = note->text != NULL ? strdup(note->text) : NULL;
        error = *text != NULL ? 0 : note->text != NULL ? -ENOMEM : -ENOENT;
        say(path, error, why, size);
        return error;
    }
    error = read_now(path, text, why, size);
    if (noted == NULL || note != NULL || error == -ENOMEM)
        return error;
    if (add(noted, path, *text) == 0)
        return error;
    free(*text);
    *text = NULL;
    return -ENOMEM;
}
