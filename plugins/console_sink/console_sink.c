/* console_sink - prints one line a record on standard output.
 *
 * Delivered means written to the kernel: a record is settled when the last byte of its line is. Standard output may be
 * a slow pipe or a stopped terminal, and the lane must not wait for it; but the file description is shared with whoever
 * else has it, so it is never made non-blocking. Instead a write is at most PIPE_BUF bytes after poll() has said that
 * these fit, and to a terminal it goes through a description of our own. */
#include <fms_plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console_sample.h"
#include "console_summary.h"
#include "console_text.h"

#define CONSOLE_QUEUE      1024  /* records taken and not settled */
#define CONSOLE_BUFFER     65536 /* bytes rendered and not written */
#define CONSOLE_HEAD_EVERY 30    /* lines */

enum format { FORMAT_AUTO, FORMAT_JSON, FORMAT_PRETTY };

/* A record that was taken. */
struct line {
    const struct fms_record *record;
    uint64_t end; /* the position in the output behind its newline */
    int64_t born; /* its sent_ns or timestamp; 0: unknown */
    bool by_sent_ns;
};

struct console_sink {
    int format;
    int64_t count;
    bool summary;

    const struct fms_host *host;
    int fd;
    bool is_file, is_pipe; /* file: writing does not wait for a reader; /dev/null too */
    bool is_closed;        /* nothing more is taken: the reader has gone, or `count` is reached */
    bool pretty;
    struct sample_style style;
    struct summary *ages; /* NULL: no summary */

    struct line queue[CONSOLE_QUEUE]; /* a ring; places count up for ever */
    uint64_t settled, rendered, taken;
    bool is_clean;  /* the record at `rendered`: needs no escapes */
    bool is_begun;  /* it is partly in the buffer, */
    size_t offset;  /* up to this byte of its payload */
    uint64_t shown; /* lines of the table */

    uint64_t position; /* in the output, of the buffer's end */
    size_t start, end; /* of what is to be written */
    char buffer[CONSOLE_BUFFER];
};

static const struct fms_option console_sink_options[] = {
    FMS_OPT_CHOICE(struct console_sink, format, "auto", "auto|json|pretty",
                   "json: the bare payload; pretty: a table; auto: pretty on a terminal, else json"),
    FMS_OPT_INTEGER(struct console_sink, count, "0", 0, INT64_MAX, "ends the pipeline after so many records; 0: never"),
    FMS_OPT_BOOLEAN(struct console_sink, summary, "no",
                    "logs at the end how many records came from how many vehicles, and their latency: the median and "
                    "p99 of the time since the payload's \"sent_ns\", or else since the record's timestamp"),
    FMS_OPT_END,
};

/* -------------------------------------------------------------------------------------------------------- rendering */

static size_t console_sink_room(const struct console_sink *self)
{
    return sizeof self->buffer - self->end;
}

static void console_sink_advance(struct console_sink *self, size_t size)
{
    self->end += size;
    self->position += size;
}

/* What the summary wants to know of a record. */
static void console_sink_note(struct console_sink *self, struct line *line, const struct sample *sample)
{
    struct fms_bytes vehicle = fms_bytes_of(sample->vehicle, sample->vehicle_size);

    line->by_sent_ns = sample->sent_ns > 0;
    line->born = line->by_sent_ns ? sample->sent_ns : line->record->timestamp;
    if (vehicle.size == 0)
        vehicle = line->record->key;
    if (vehicle.size > 0)
        summary_vehicle(self->ages, vehicle);
}

/* The record as a line of the table. False: it has none. */
static bool console_sink_show(struct console_sink *self, const struct fms_record *record, const struct sample *sample)
{
    int64_t time = record->timestamp != 0 ? record->timestamp / FMS_SECOND : SAMPLE_NO_TIME;

    if (!self->pretty || (!sample->is_telemetry && record->payload.data != NULL))
        return false;
    if (self->shown++ % CONSOLE_HEAD_EVERY == 0)
        console_sink_advance(self, sample_head(&self->style, self->buffer + self->end));
    if (sample->is_telemetry)
        console_sink_advance(self, sample_line(sample, &self->style, self->buffer + self->end));
    else
        console_sink_advance(self, sample_tombstone(record->key, time, &self->style, self->buffer + self->end));
    return true;
}

/* What stands for the payload where there is no table. */
static struct fms_bytes console_sink_text(const struct fms_record *record)
{
    return record->payload.data != NULL ? record->payload : fms_text("null");
}

/* Begins the record at `rendered`, or renders it whole as a line of the table: then this is true. */
static bool console_sink_begin(struct console_sink *self, struct line *line)
{
    bool ascii = self->pretty && !self->style.utf8;
    struct sample sample;

    if (self->pretty || self->ages != NULL) {
        sample_read(line->record->payload, &sample);
        if (self->ages != NULL)
            console_sink_note(self, line, &sample);
        if (console_sink_show(self, line->record, &sample))
            return true;
    }
    self->is_begun = true;
    self->offset = 0;
    self->is_clean = text_is_clean(console_sink_text(line->record), ascii);
    return false;
}

/* As much of the payload as fits. Whether that was all, with its newline. */
static bool console_sink_continue(struct console_sink *self, const struct fms_record *record)
{
    struct fms_bytes text = console_sink_text(record);
    size_t left = text.size - self->offset;
    size_t room = console_sink_room(self);

    if (self->is_clean && left > 0) {
        left = left < room ? left : room;
        memcpy(self->buffer + self->end, (const char *)text.data + self->offset, left);
        self->offset += left;
        console_sink_advance(self, left);
    } else if (left > 0) {
        console_sink_advance(
            self, text_escape(text, &self->offset, self->pretty && !self->style.utf8, self->buffer + self->end, room));
    }
    if (self->offset < text.size || console_sink_room(self) == 0)
        return false;
    self->buffer[self->end] = '\n';
    console_sink_advance(self, 1);
    return true;
}

/* Whether the next record is rendered whole now. */
static bool console_sink_render_one(struct console_sink *self)
{
    struct line *line = &self->queue[self->rendered % CONSOLE_QUEUE];

    if (console_sink_room(self) < 2 * SAMPLE_LINE_MAX)
        return false;
    if (!(!self->is_begun && console_sink_begin(self, line)) && !console_sink_continue(self, line->record))
        return false;
    self->is_begun = false;
    line->end = self->position;
    self->rendered++;
    return true;
}

/* As many records as fit behind what is still to be written. */
static void console_sink_render(struct console_sink *self)
{
    if (self->start == self->end)
        self->start = self->end = 0;
    while (self->rendered < self->taken && console_sink_render_one(self))
        ;
}

/* ---------------------------------------------------------------------------------------------------------- writing */

/* The pipeline ends without an error. */
static void console_sink_finish(struct console_sink *self)
{
    self->is_closed = true;
    fms_finish(self->host);
}

/* Settles the records whose lines are written. */
static void console_sink_settle(struct console_sink *self)
{
    uint64_t written = self->position - (self->end - self->start);
    int64_t now = self->ages != NULL ? fms_realtime(self->host) : 0;

    while (self->settled < self->rendered && self->queue[self->settled % CONSOLE_QUEUE].end <= written) {
        const struct line *line = &self->queue[self->settled++ % CONSOLE_QUEUE];

        if (self->ages != NULL)
            summary_record(self->ages, line->born > 0 ? now - line->born : FMS_NEVER, line->by_sent_ns);
        fms_delivered(self->host, line->record);
    }
    if (self->count > 0 && self->settled == (uint64_t)self->count && !self->is_closed)
        console_sink_finish(self);
}

/* Whether so much of poll's events is there. */
static bool console_sink_is(const struct console_sink *self, short events)
{
    struct pollfd output = {self->fd, (short)(events & POLLOUT), 0};

    return poll(&output, 1, 0) == 1 && (output.revents & events) != 0;
}

/* Whole lines where that is possible: what others write to the same pipe then stands between lines, not within one. */
static size_t console_sink_portion(const struct console_sink *self)
{
    const char *text = self->buffer + self->start, *newline;
    size_t size = self->end - self->start;

    if (self->is_file || size <= PIPE_BUF)
        return size;
    newline = memrchr(text, '\n', PIPE_BUF);
    return newline != NULL ? (size_t)(newline + 1 - text) : PIPE_BUF;
}

/* 1: something was written; 0: there is no room now, or nobody who reads; or a negative errno. */
static int console_sink_write_portion(struct console_sink *self)
{
    ssize_t n;

    if (!self->is_file && !console_sink_is(self, POLLOUT | POLLERR | POLLHUP))
        return 0;
    n = write(self->fd, self->buffer + self->start, console_sink_portion(self));
    if (n >= 0) {
        self->start += (size_t)n;
        console_sink_settle(self);
        return 1;
    }
    if (errno == EINTR || errno == EAGAIN)
        return 0;
    if (errno != EPIPE)
        return fms_fail(self->host, -errno, "cannot write to standard output: %s", strerror(errno));
    console_sink_finish(self);
    return 0;
}

/* Renders and writes until all is done or the output takes no more. */
static int console_sink_pump(struct console_sink *self)
{
    int result = 1;

    while (result > 0 && !self->is_closed) {
        console_sink_render(self);
        if (self->start == self->end)
            return 0;
        result = console_sink_write_portion(self);
    }
    return result < 0 ? result : 0;
}

static int console_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct console_sink *self = instance;
    size_t n = 0;
    int error;

    if (self->is_closed)
        return 0;
    while (n < count && self->taken - self->settled < CONSOLE_QUEUE &&
           (self->count == 0 || self->taken < (uint64_t)self->count))
        self->queue[self->taken++ % CONSOLE_QUEUE] = (struct line){.record = records[n++]};
    error = console_sink_pump(self);
    return error != 0 ? error : (int)n;
}

static int console_sink_poll(void *instance, struct fms_wait *wait)
{
    struct console_sink *self = instance;
    int error = self->is_closed ? 0 : console_sink_pump(self);

    if (error != 0)
        return error;
    if (!self->is_closed && self->is_pipe && console_sink_is(self, POLLERR))
        console_sink_finish(self);
    if (self->is_closed || (self->start == self->end && !self->is_pipe))
        return 0;
    wait->fd = self->fd; /* of a pipe with no events: until its reader closes it */
    wait->events = self->start < self->end ? POLLOUT : 0;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- opening */

/* A terminal's description that nobody shares, or standard output itself. */
static int console_sink_own_terminal(void)
{
    int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    return fd >= 0 ? fd : STDOUT_FILENO;
}

static bool console_sink_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *value = NULL;

    for (size_t i = 0; i < sizeof names / sizeof *names && (value == NULL || *value == '\0'); i++)
        value = getenv(names[i]);
    return value != NULL && (strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL);
}

static int console_sink_check(void *instance, const struct fms_host *host)
{
    (void)instance;
    fms_promise(
        host, NULL, FMS_AT_LEAST_ONCE,
        "what was printed when the process crashed may be printed again: a terminal or a pipe takes nothing back");
    return 0;
}

static int console_sink_open(void *instance, const struct fms_host *host)
{
    struct console_sink *self = instance;
    bool is_terminal = isatty(STDOUT_FILENO) == 1;
    const char *no_colour = getenv("NO_COLOR");
    struct stat stat;

    self->host = host;
    if (fstat(STDOUT_FILENO, &stat) != 0)
        return fms_fail(host, -errno, "standard output is not there: %s", strerror(errno));
    if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) ==
        O_RDONLY) /* so is what the host puts in the place of a closed one */
        return fms_fail(host, -EBADF, "standard output is closed, or open for reading only");
    self->is_file = S_ISREG(stat.st_mode) || (S_ISCHR(stat.st_mode) && !is_terminal);
    self->is_pipe = S_ISFIFO(stat.st_mode);
    self->pretty = self->format == FORMAT_PRETTY || (self->format == FORMAT_AUTO && is_terminal);
    self->style.colour = is_terminal && (no_colour == NULL || *no_colour == '\0');
    self->style.utf8 = console_sink_is_utf8();
    if (self->summary && (self->ages = summary_new()) == NULL)
        return fms_fail(host, -ENOMEM, "no memory for the summary");
    self->fd = is_terminal ? console_sink_own_terminal() : STDOUT_FILENO;
    return 0;
}

static void console_sink_close(void *instance)
{
    struct console_sink *self = instance;
    char text[256];

    if (self->fd != STDOUT_FILENO)
        close(self->fd);
    if (self->ages == NULL)
        return;
    summary_print(self->ages, text, sizeof text);
    fms_info(self->host, "%s", text);
    summary_free(self->ages);
}

FMS_PLUGIN(.name = "console_sink", .version = FMS_VERSION, .summary = "Prints records on standard output",
           .options = console_sink_options, .instance_size = sizeof(struct console_sink), .check = console_sink_check,
           .open = console_sink_open, .close = console_sink_close, .sink_write = console_sink_write,
           .sink_poll = console_sink_poll);
