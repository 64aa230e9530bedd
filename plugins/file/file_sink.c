/* file_sink.c - the sink: a batch becomes lines, which are written at once and settled when the kernel, or with
 * sync = always the disk, has them.
 *
 * What was not written whole was not written: a regular file is cut back to where the batch began, and the batch is
 * offered again. A pipe or a terminal takes nothing back; it is written to as far as it has room, a line is settled when
 * it is out, and an error ends the pipeline. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file_record.h"

#define BATCH       256                   /* records, */
#define BATCH_BYTES ((size_t)1024 * 1024) /* and bytes of them, unless a single record has more */

struct sink {
    const struct file *file;
    const struct fms_host *host;
    int fd;             /* -1: to be opened */
    bool is_own;        /* a regular file that we opened ourselves */
    bool is_stream;     /* a pipe, a terminal: it may have no room */
    bool is_closed;     /* its reader has gone */
    int64_t size;       /* of the file, before the batch */
    bool is_torn;       /* behind that stands what was not written whole */
    char trouble[1024]; /* why nothing can be written */

    const struct fms_record *records[BATCH]; /* of the batch, and where their lines end */
    size_t ends[BATCH];
    size_t taken, settled;
    struct file_text text; /* of the batch */
    size_t written;
};

/* --------------------------------------------------------------------------------------------------------------- lines */

/* Why the record cannot be a line; NULL: it can. */
static const char *sink_objection(const struct sink *self, const struct fms_record *record)
{
    if (self->file->format == FILE_FORMAT_RECORD)
        return NULL;
    if (record->payload.data == NULL)
        return "it has no payload, and an empty line would be an empty one; format = record keeps the difference";
    if (memchr(record->payload.data, '\n', record->payload.size) != NULL)
        return "its payload has a line feed in it; format = record can hold that";
    return NULL;
}

/* 0 or -ENOMEM. */
static int sink_add_line(struct sink *self, const struct fms_record *record)
{
    struct file_text *text = &self->text;

    if (self->file->format == FILE_FORMAT_RECORD) {
        if (file_record_write(record, text) != 0 || !file_text_reserve(text, 1))
            return -ENOMEM;
    } else {
        if (!file_text_reserve(text, record->payload.size + 1))
            return -ENOMEM;
        memcpy(text->data + text->size, record->payload.data, record->payload.size);
        text->size += record->payload.size;
    }
    text->data[text->size++] = '\n';
    return 0;
}

/* How much a batch may hold, so that no file is larger than rotate_size by more than a single line. */
static size_t sink_batch_bytes(const struct sink *self)
{
    int64_t rotate = self->file->rotate_size;

    return rotate > 0 && rotate < (int64_t)BATCH_BYTES ? (size_t)rotate : BATCH_BYTES;
}

/* Makes lines of as many of the records as go into a batch; what cannot be a line is rejected. How many that were, or a
 * negative errno. */
static int sink_render(struct sink *self, const struct fms_record *const *records, size_t count)
{
    size_t n = 0, most = sink_batch_bytes(self);

    self->taken = self->settled = 0;
    self->text.size = self->written = 0;
    for (; n < count && self->taken < BATCH; n++) {
        size_t before = self->text.size;
        const char *wrong = sink_objection(self, records[n]);

        if (wrong != NULL) {
            fms_reject(self->host, records[n], "%s", wrong);
            continue;
        }
        if (sink_add_line(self, records[n]) != 0)
            return fms_fail(self->host, -ENOMEM, "no memory for a line of %zu bytes", records[n]->payload.size);
        if (self->text.size > most && before > 0) {
            self->text.size = before;
            break;
        }
        self->records[self->taken] = records[n];
        self->ends[self->taken++] = self->text.size;
    }
    return (int)n;
}

/* Settles the lines that are written. */
static void sink_settle(struct sink *self)
{
    while (self->settled < self->taken && self->ends[self->settled] <= self->written)
        fms_delivered(self->host, self->records[self->settled++]);
}

/* -------------------------------------------------------------------------------------------------------- a regular file */

/* Remembers why; always `error`. */
static int sink_trouble(struct sink *self, int error, const char *what)
{
    snprintf(self->trouble, sizeof self->trouble, "%s: %s: %s%s", self->file->path, what, strerror(-error),
             error == -ENOSPC || error == -EDQUOT ? "; make room"
             : error == -EFBIG                    ? "; rotate_size, or a higher limit of the file's size, helps"
                                                  : "");
    return error;
}

/* What a file that others left does not end with. */
static int sink_finish_last_line(struct sink *self)
{
    char last = '\n';

    if (self->size == 0 || pread(self->fd, &last, 1, self->size - 1) < 0 || last == '\n')
        return 0;
    if (write(self->fd, "\n", 1) != 1)
        return sink_trouble(self, -errno, "cannot be written to");
    self->size++;
    fms_warn(self->host, "%s: its last line had no line feed, and has one now; it may have been cut off",
             self->file->path);
    return 0;
}

/* Two that write, and cut back, the same file would spoil each other's lines. */
static int sink_own(struct sink *self, bool is_first)
{
    struct stat stat;

    if (flock(self->fd, LOCK_EX | LOCK_NB) != 0)
        return sink_trouble(self, -errno, errno == EWOULDBLOCK ? "another sink writes this file" : "cannot be locked");
    if (is_first && !self->file->append && ftruncate(self->fd, 0) != 0)
        return sink_trouble(self, -errno, "cannot be emptied");
    if (fstat(self->fd, &stat) != 0)
        return sink_trouble(self, -errno, "cannot be looked at");
    self->size = stat.st_size;
    self->is_torn = false;
    return sink_finish_last_line(self);
}

static int sink_open_flags(const struct sink *self)
{
    struct stat stat_of;
    bool is_pipe = stat(self->file->path, &stat_of) == 0 && S_ISFIFO(stat_of.st_mode);

    return O_NONBLOCK | O_CLOEXEC | O_NOCTTY |
           (is_pipe ? O_WRONLY : O_RDWR | O_CREAT | O_APPEND); /* of a pipe we would be the reader ourselves */
}

/* `is_first`: what is there may be emptied, and may be another thing than a regular file. */
static int sink_open_path(struct sink *self, bool is_first)
{
    int fd = open(self->file->path, sink_open_flags(self), 0666), error = 0;
    struct stat stat;

    if (fd < 0)
        return sink_trouble(self, -errno,
                            errno == ENXIO ? "nobody reads this pipe; start its reader first" : "cannot be opened");
    self->fd = fd;
    if (fstat(fd, &stat) != 0)
        error = sink_trouble(self, -errno, "cannot be looked at");
    else if (S_ISREG(stat.st_mode))
        error = sink_own(self, is_first);
    else if (!is_first)
        error = sink_trouble(self, -EINVAL, "is no regular file any more");
    if (error == 0) {
        self->is_own = S_ISREG(stat.st_mode);
        return 0;
    }
    close(fd);
    self->fd = -1;
    return error;
}

/* The file is not written any more: now the disk has to have it. */
static void sink_close_path(struct sink *self)
{
    if (self->fd >= 0 && fsync(self->fd) != 0)
        fms_fail(self->host, -errno, "%s: could not be written to the disk: %s; some of what was delivered may be lost",
                 self->file->path, strerror(errno));
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
}

/* Takes away what was not written whole. */
static int sink_mend(struct sink *self)
{
    if (self->is_torn && ftruncate(self->fd, self->size) != 0)
        return sink_trouble(self, -errno, "cannot be cut back to its last whole line");
    self->is_torn = false;
    return 0;
}

/* The file may have been rotated or deleted by others. Its size is what it is now. */
static int sink_make_ready(struct sink *self)
{
    struct stat is, named;

    if (self->fd >= 0 && sink_mend(self) != 0)
        return -EIO;
    if (self->fd >= 0 && (fstat(self->fd, &is) != 0 || stat(self->file->path, &named) != 0 ||
                          is.st_dev != named.st_dev || is.st_ino != named.st_ino)) {
        fms_info(self->host, "%s: was moved or deleted; begins it anew", self->file->path);
        sink_close_path(self);
    }
    if (self->fd < 0)
        return sink_open_path(self, false);
    self->size = is.st_size;
    return 0;
}

/* path.1 becomes path.2, and so on, but only up to the first name that is free: so it can be tried again. */
static int sink_shift(struct sink *self)
{
    const char *path = self->file->path;
    char from[PATH_MAX], to[PATH_MAX];
    int64_t free_number = 1;

    for (; free_number < self->file->rotate_keep; free_number++) {
        snprintf(to, sizeof to, "%s.%lld", path, (long long)free_number);
        if (access(to, F_OK) != 0)
            break;
    }
    for (int64_t i = free_number; i > 0; i--) {
        snprintf(to, sizeof to, "%s.%lld", path, (long long)i);
        snprintf(from, sizeof from, i > 1 ? "%s.%lld" : "%s", path, (long long)(i - 1));
        if (rename(from, to) != 0)
            return sink_trouble(self, -errno, "cannot be rotated");
    }
    return 0;
}

/* Before the batch that would make the file too large. */
static int sink_rotate(struct sink *self)
{
    int64_t most = self->file->rotate_size;
    int error;

    if (most == 0 || self->size == 0 || self->size + (int64_t)self->text.size <= most)
        return 0;
    error = sink_shift(self);
    if (error != 0)
        return error;
    fms_count(self->host, FILE_COUNTER_ROTATIONS, 1);
    sink_close_path(self);
    return sink_open_path(self, false);
}

/* Writes the batch: all of it, or nothing. */
static int sink_store(struct sink *self)
{
    int error = 0;

    while (self->written < self->text.size && error == 0) {
        ssize_t n = write(self->fd, self->text.data + self->written, self->text.size - self->written);

        if (n > 0)
            self->written += (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 ? -ENOSPC : -errno;
    }
    if (error == 0 && self->file->sync == FILE_SYNC_ALWAYS && fdatasync(self->fd) != 0)
        error = -errno;
    if (error == 0) {
        self->size += (int64_t)self->text.size;
        return 0;
    }
    self->is_torn = self->written > 0;
    sink_trouble(self, error, "cannot be written to");
    if (self->is_torn && ftruncate(self->fd, self->size) == 0)
        self->is_torn = false;
    return error;
}

static void sink_retry(struct sink *self, const struct fms_record *const *records, size_t count)
{
    fms_count(self->host, FILE_COUNTER_WRITE_ERRORS, 1);
    for (size_t i = 0; i < count; i++)
        fms_retry(self->host, records[i], "%s", self->trouble);
}

static int sink_write_own(struct sink *self, const struct fms_record *const *records, size_t count)
{
    int n;

    if (sink_make_ready(self) != 0) {
        sink_retry(self, records, count);
        return (int)count;
    }
    n = sink_render(self, records, count);
    if (n < 0 || self->taken == 0)
        return n;
    if (sink_rotate(self) != 0 || sink_store(self) != 0)
        sink_retry(self, self->records, self->taken);
    else
        sink_settle(self);
    self->taken = self->settled = 0;
    return n;
}

/* ------------------------------------------------------------------------------------------------------------- a stream */

/* Whether so much of poll's events is there. */
static bool sink_is(const struct sink *self, short events)
{
    struct pollfd output = {self->fd, (short)(events & POLLOUT), 0};

    return poll(&output, 1, 0) == 1 && (output.revents & events) != 0;
}

/* The pipeline ends without an error: nobody reads any more. */
static void sink_finish(struct sink *self)
{
    self->is_closed = true;
    fms_finish(self->host);
}

/* Writes as much as there is room for. Standard output is shared with others and so may block: at most PIPE_BUF bytes are
 * written at once, for which poll() has said that there is room. */
static int sink_pump(struct sink *self)
{
    size_t portion = self->is_stream ? PIPE_BUF : SIZE_MAX;

    while (self->settled < self->taken && (!self->is_stream || sink_is(self, POLLOUT | POLLERR | POLLHUP))) {
        size_t left = self->text.size - self->written;
        ssize_t n = write(self->fd, self->text.data + self->written, left < portion ? left : portion);

        if (n >= 0) {
            self->written += (size_t)n;
            sink_settle(self);
        } else if (errno == EPIPE) {
            sink_finish(self);
            return 0;
        } else if (errno == EAGAIN) {
            return 0;
        } else if (errno != EINTR) {
            return fms_fail(self->host, -errno, "%s: cannot be written to: %s", self->file->path, strerror(errno));
        }
    }
    return 0;
}

static int sink_write_stream(struct sink *self, const struct fms_record *const *records, size_t count)
{
    int n, error;

    if (self->is_closed || self->settled < self->taken)
        return 0;
    n = sink_render(self, records, count);
    error = n >= 0 ? sink_pump(self) : n;
    return error < 0 ? error : n;
}

int file_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = ((struct file *)instance)->sink;

    return self->is_own ? sink_write_own(self, records, count) : sink_write_stream(self, records, count);
}

int file_sink_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = ((struct file *)instance)->sink;
    int error = self->is_stream && !self->is_closed ? sink_pump(self) : 0;

    if (error != 0 || !self->is_stream || self->is_closed)
        return error;
    if (sink_is(self, POLLERR)) {
        sink_finish(self);
        return 0;
    }
    wait->fd = self->fd; /* without events: until its reader closes it */
    wait->events = self->settled < self->taken ? POLLOUT : 0;
    return 0;
}

void file_sink_measure(void *instance)
{
    const struct sink *self = ((struct file *)instance)->sink;

    fms_gauge(self->host, FILE_GAUGE_SIZE, (double)self->size);
}

/* ----------------------------------------------------------------------------------------------------- opening, closing */

/* A terminal's description that nobody shares, or standard output itself. */
static int sink_open_stdout(struct sink *self)
{
    if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) ==
        O_RDONLY) /* so is what the host puts in the place of a closed one */
        return sink_trouble(self, -EBADF, "standard output is closed, or open for reading only");
    self->fd = isatty(STDOUT_FILENO) == 1 ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
                                          : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    return self->fd >= 0 ? 0 : sink_trouble(self, -errno, "standard output cannot be used");
}

static int sink_start(struct sink *self)
{
    bool is_stdout = strcmp(self->file->path, "-") == 0;
    int error = is_stdout ? sink_open_stdout(self) : sink_open_path(self, true);
    struct stat stat;

    if (error == 0 && fstat(self->fd, &stat) != 0)
        error = sink_trouble(self, -errno, "cannot be looked at");
    if (error != 0)
        return fms_fail_option(self->host, "path", error, "%s", self->trouble);
    self->is_stream = !S_ISREG(stat.st_mode);
    if (self->is_stream && (self->file->sync == FILE_SYNC_ALWAYS || self->file->rotate_size > 0))
        return fms_fail_option(self->host, self->file->rotate_size > 0 ? "rotate_size" : "sync", -EINVAL,
                               "%s is no regular file: it can be neither synced nor rotated", self->file->path);
    return 0;
}

static void sink_free(struct sink *self)
{
    if (self->fd >= 0)
        close(self->fd);
    free(self->text.data);
    free(self);
}

int file_sink_open(struct file *file)
{
    struct sink *self = calloc(1, sizeof *self);
    int error;

    if (self == NULL)
        return fms_fail(file->host, -ENOMEM, "no memory for the sink");
    self->file = file;
    self->host = file->host;
    self->fd = -1;
    error = sink_start(self);
    if (error != 0)
        sink_free(self);
    else
        file->sink = self;
    return error;
}

void file_sink_close(void *instance)
{
    struct sink *self = ((struct file *)instance)->sink;

    if (self->is_own && self->fd >= 0 && sink_mend(self) != 0)
        fms_fail(self->host, -EIO, "%s", self->trouble);
    if (self->is_own)
        sink_close_path(self);
    sink_free(self);
}
