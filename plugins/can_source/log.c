/* log.c - lines of candump: each is a frame, at once or in the time in which it once came.
 *
 * A log's own times are the decoder's clock, so that a log gives the same samples however fast it is read; those that begin at 0 are taken to
 * have begun when it was opened. */
#include "can_source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lines_common/lines.h"

#define LINE_MAX   1024
#define TURN_BYTES ((size_t)1024 * 1024) /* that are read before others have their turn */
#define UNIX_TIME                                                                                                      \
    (INT64_C(100000000) *                                                                                              \
     FMS_SECOND) /* times from there on, in 1973, are since 1970, those before since the log began */

struct log {
    struct lines lines;
    double speed;
    bool is_held; /* `frame`, at `time`, is to be taken */
    bool is_bad;  /* the draft is a line that is rejected, for `why` */
    struct frame frame;
    char why[FRAME_WHY];
    bool has_begun;
    int64_t base;         /* is added to the log's times */
    int64_t time, newest; /* of the frame in hand; of those so far */
    int64_t due;          /* when the newest was to be taken, on the clock */
    int64_t next;         /* sample; 0: none is due yet */
    bool is_over;
};

int log_check(const struct can_source *self, const struct fms_host *host)
{
    if (lines_speed(self->speed_text) >= 0)
        return 0;
    return fms_fail_option(host, "speed", -EINVAL,
                           "\"%s\" is no speed; accepted are numbers from 0 to 1000000, as in 1, 10 or 0.5",
                           self->speed_text);
}

/* --------------------------------------------------------------------------------------------------------------- times */

/* A time that goes back, or a year ahead, is a log that begins anew: it is kept, and only the pace begins anew, too. */
static void log_set_time(struct can_source *self, struct log *log)
{
    int64_t time = log->frame.time;

    if (time == FRAME_NO_TIME) {
        log->time = fms_realtime(self->host);
        return;
    }
    if (!log->has_begun && time < UNIX_TIME)
        log->base = fms_realtime(self->host) - time;
    log->has_begun = true;
    log->time = time < UNIX_TIME ? time + log->base : time;
}

/* When the frame in hand is to be taken; not after now is at once. */
static int64_t log_due(struct can_source *self, struct log *log)
{
    int64_t now = fms_now(self->host);
    double gap;

    if (log->speed == 0)
        return now;
    if (log->newest == 0) {
        log->newest = log->time;
        log->due = now;
    }
    if (log->time <= log->newest)
        return now;
    gap = (double)(log->time - log->newest) / log->speed;
    return gap < (double)(FMS_NEVER - log->due) ? log->due + (int64_t)gap : FMS_NEVER;
}

static void log_keep_pace(struct log *log, int64_t due)
{
    if (log->speed == 0 || log->time == log->newest)
        return;
    log->newest = log->time;
    log->due = due;
}

/* --------------------------------------------------------------------------------------------------------------- lines */

static const char *log_name(const struct can_source *self)
{
    return strcmp(self->path, "-") == 0 ? "standard input" : self->path;
}

/* 0: it is a draft to be rejected, or left out; -EBADMSG: it stops the pipeline. */
static int log_bad_line(struct can_source *self, struct log *log, struct fms_bytes line, const char *why)
{
    unsigned long long number = log->lines.number;

    fms_count(self->host, COUNT_BAD_LINES, 1);
    if (self->on_bad_line == BAD_LINE_STOP)
        return fms_fail(self->host, -EBADMSG, "%s line %llu is bad: %s (on_bad_line = stop)", log_name(self), number,
                        why);
    if (self->on_bad_line == BAD_LINE_SKIP) {
        fms_warn(self->host, "%s line %llu is bad, and left out: %s", log_name(self), number, why);
        return 0;
    }
    if (log->why != why)
        snprintf(log->why, sizeof log->why, "%s", why);
    log->is_bad = true;
    self->is_ready = true;
    self->draft = (struct fms_record){.key = fms_text(self->path), .payload = line};
    return source_address(self);
}

/* Reads on until a frame is in hand or a draft is ready. LINES_LINE: so it is; another of its kind; or a negative errno. */
static int log_read(struct can_source *self, struct log *log)
{
    struct fms_bytes line;
    int kind, found, error = 0;

    while (!log->is_held && !self->is_ready && error == 0) {
        kind = lines_next(&log->lines, &line);
        if (kind < 0)
            return fms_fail(self->host, kind, "%s: cannot be read: %s", log_name(self), strerror(-kind));
        if (kind == LINES_AT_END && !log->lines.is_complete) {
            log->lines.is_complete = true;
            continue;
        }
        if (kind != LINES_LINE && kind != LINES_TOO_LONG)
            return kind;
        if (kind == LINES_TOO_LONG) {
            error = log_bad_line(self, log, fms_bytes_of("", 0), "it is longer than 1024 bytes");
        } else {
            found = frame_read(&log->frame, line, log->why);
            log->is_held = found == FRAME_LINE_FRAME;
            if (found == FRAME_LINE_BAD)
                error = log_bad_line(self, log, line, log->why);
        }
        if (log->is_held)
            log_set_time(self, log);
        if (!log->is_bad)
            lines_pass(&log->lines);
    }
    return error != 0 ? error : LINES_LINE;
}

/* -------------------------------------------------------------------------------------------------------------- frames */

/* The sample that was due before the frame in hand came. A log that jumps begins anew. */
static int log_sample(struct can_source *self, struct log *log)
{
    int64_t interval = self->interval, time = log->time, due = log->next;

    if (due == 0 || time < due - interval)
        log->next = time - time % interval + interval;
    if (due == 0 || time < due)
        return 0;
    log->next = time - time % interval + interval;
    return decoder_sample(self, due, due);
}

/* Takes the frame in hand; a sample that was due before it may be ready, and then it stays. */
static int log_take(struct can_source *self, struct log *log)
{
    int error = 0;

    if (self->decoder != NULL) {
        error = log_sample(self, log);
        if (error != 0 || self->is_ready)
            return error;
    }
    log->is_held = false;
    if ((log->frame.flags & FRAME_ERROR) != 0)
        fms_count(self->host, COUNT_ERROR_FRAMES, 1);
    if (self->decoder != NULL) {
        decoder_take(self, &log->frame, log->time);
        return 0;
    }
    fms_count(self->host, COUNT_FRAMES, 1);
    log->frame.time = log->time;
    return source_make_raw(self, &log->frame, log->time);
}

/* Emits the draft. */
static int log_emit(struct can_source *self, struct log *log)
{
    int error;

    if (!log->is_bad)
        return source_emit(self);
    error = fms_emit_rejected(self->host, &self->draft, "%s line %llu is bad: %s", log_name(self),
                              (unsigned long long)log->lines.number, log->why);
    self->is_ready = log->is_bad = error == -EAGAIN;
    if (!self->is_ready)
        lines_pass(&log->lines);
    return error;
}

/* What was read since the last sample is not lost with the end: it is the sample of an interval that was cut short. */
static int log_end(struct can_source *self, struct log *log)
{
    log->is_over = true;
    return self->decoder != NULL && log->next != 0 ? decoder_sample(self, log->time, log->next) : 0;
}

/* One step: a record, a frame, or a line. 0; a kind of lines.h; or a negative errno. */
static int log_step(struct can_source *self, struct log *log, size_t *credit, struct fms_wait *wait)
{
    int64_t due;
    int result;

    if (self->is_ready && *credit == 0)
        return LINES_PAUSE;
    if (self->is_ready) {
        result = log_emit(self, log);
        *credit -= result == 0;
        return result;
    }
    if (log->is_over)
        return LINES_AT_END;
    result = log_read(self, log);
    if (result == LINES_AT_END)
        return log_end(self, log);
    if (result != LINES_LINE || !log->is_held)
        return result == LINES_LINE ? 0 : result;
    due = log_due(self, log);
    if (due > fms_now(self->host)) {
        wait->deadline = due;
        return LINES_NOTHING;
    }
    log_keep_pace(log, due);
    return log_take(self, log);
}

/* Nothing is there. Where frames have come out of a pipe more will, and those that are decoded are left to gather. */
static void log_await(const struct can_source *self, const struct log *log, bool has_come, struct fms_wait *wait)
{
    if (has_come && self->decoder != NULL) {
        wait->deadline = fms_now(self->host) + REST;
        return;
    }
    wait->fd = log->lines.fd;
    wait->events = POLLIN;
}

int log_poll(struct can_source *self, size_t credit, struct fms_wait *wait)
{
    struct log *log = self->log;
    uint64_t before = log->lines.number;
    int result = 0;

    log->lines.budget = TURN_BYTES;
    if (credit == 0)
        return 0;
    while (result == 0 && credit > 0)
        result = log_step(self, log, &credit, wait);
    if (result == LINES_AT_END)
        return FMS_END;
    if (result < 0)
        return result;
    if (result != LINES_NOTHING) {
        wait->deadline = 0;
    } else if (wait->deadline == FMS_NEVER) {
        log_await(self, log, log->lines.number > before, wait);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- opening */

static int log_no_file(const struct can_source *self, int fd, int error)
{
    if (fd >= 0)
        close(fd);
    return fms_fail_option(self->host, self->path_option, error, "%s: cannot be read: %s", self->path,
                           strerror(-error));
}

static int log_open_file(struct can_source *self, struct log *log)
{
    bool is_stdin = strcmp(self->path, "-") == 0;
    int fd = is_stdin ? dup(STDIN_FILENO) : open(self->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    struct stat stat;

    if (fd < 0 || fstat(fd, &stat) != 0)
        return log_no_file(self, fd, -errno);
    if (S_ISDIR(stat.st_mode))
        return log_no_file(self, fd, -EISDIR);
    lines_begin(&log->lines, fd, 0, 1);
    log->lines.may_block = !S_ISREG(stat.st_mode);
    fms_link_up(self->host);
    return 0;
}

int log_open(struct can_source *self)
{
    struct log *log = calloc(1, sizeof *log);
    int error = log != NULL ? lines_init(&log->lines, LINE_MAX) : -ENOMEM;

    if (error != 0)
        fms_fail(self->host, error, "no memory for a log");
    else
        error = log_open_file(self, log);
    if (error != 0) {
        if (log != NULL)
            lines_free(&log->lines);
        free(log);
        return error;
    }
    log->speed = lines_speed(self->speed_text);
    self->log = log;
    return 0;
}

void log_close(struct can_source *self)
{
    lines_free(&self->log->lines);
    free(self->log);
    self->log = NULL;
}
