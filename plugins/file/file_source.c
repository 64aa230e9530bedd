/* file_source.c - the source: lines become records, at once or in the time in which they once came.
 *
 * A position file names one file and one place in it. So the source goes over to another file, after a rotation, or back
 * to the beginning, after a truncation, only when all that it emitted before is settled. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../json_common/instant.h"
#include "../lines_common/lines.h"
#include "file_position.h"
#include "file_record.h"

#define TURN_BYTES    ((size_t)4 * 1024 * 1024) /* that are read before others have their turn */
#define WATCH_TICK    FMS_SECOND                /* a network file system gives no notice */
#define ROTATED_QUIET FMS_SECOND                /* who had the file open may still have written to it */
#define ROTATED_MAX   1000                      /* path.1 to path.1000 are looked for */

/* What is to come from the file that is open. */
enum outlook {
    MORE,      /* perhaps something */
    OVER,      /* nothing, from anywhere */
    ROTATED,   /* nothing; the file that followed it is next */
    TRUNCATED, /* it begins anew */
};

/* A line that was emitted. */
struct place {
    int64_t offset;
    uint64_t number;
    bool is_settled;
};

struct source {
    const struct file *file;
    const struct fms_host *host;
    double speed;
    int time; /* the path of the field that has it */

    struct lines lines;
    enum outlook outlook;
    bool is_behind; /* the file is an older one that was rotated away */
    off_t seen;     /* its size, -1: not yet, ... */
    int64_t since;  /* ... and since when it is that */
    bool is_stopped;

    bool is_ready; /* `draft` is the line in hand */
    bool is_too_long;
    struct fms_record draft;
    const char *wrong; /* why it is to be rejected, or NULL */
    char where[64];
    struct file_record_reader reader;

    bool has_begun; /* to keep time */
    int64_t newest; /* timestamp so far, */
    int64_t due;    /* and when it was to be emitted */

    struct place *places; /* a ring, at number & (size - 1); numbers count up for ever */
    size_t size;
    uint64_t head, tail; /* the first that is not settled, and the next to be emitted */
    uint64_t most;       /* of them: one late record must not make the ring grow without bound */
    bool is_full;

    bool is_unsaved;
    int64_t save_at; /* FMS_NEVER: nothing is to be saved */

    uint64_t origin;      /* see struct file_position */
    char origin_text[64]; /* with device and inode */
    int64_t covered;      /* so many of the first bytes the saved position vouches for */
    int64_t numbered;     /* below it each number is some line's, or nothing's */
    struct fms_identity identity;

    int inotify;
    int watch; /* of the file */
};

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---------------------------------------------------------------------------------------------------- which file it is */

static bool source_is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The name of the file after `count` rotations, for free(); NULL: no memory. */
static char *source_rotated_name(const struct source *self, int count)
{
    char *name;

    if (count == 0)
        return strdup(self->file->path);
    return asprintf(&name, "%s.%d", self->file->path, count) < 0 ? NULL : name;
}

static int source_open_rotated(const struct source *self, int count)
{
    char *name = source_rotated_name(self, count);
    int fd = name != NULL ? open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) : -1;
    int error = name != NULL ? -errno : -ENOMEM;

    free(name);
    return fd >= 0 ? fd : error;
}

/* After how many rotations the file of this device and inode is found; -1: not at all. */
static int source_rotations(const struct source *self, const struct stat *wanted)
{
    for (int count = 0; count <= ROTATED_MAX; count++) {
        char *name = source_rotated_name(self, count);
        struct stat found;
        bool is_it = name != NULL && stat(name, &found) == 0 && source_is_same(&found, wanted);

        free(name);
        if (is_it)
            return count;
    }
    return -1;
}

/* The file is watched for what is written to it, its directory for who takes its name. */
static void source_watch(struct source *self)
{
    char name[64];

    if (self->inotify < 0)
        return;
    if (self->watch >= 0)
        inotify_rm_watch(self->inotify, self->watch);
    snprintf(name, sizeof name, "/proc/self/fd/%d", self->lines.fd);
    self->watch = inotify_add_watch(self->inotify, name, IN_MODIFY | IN_MOVE_SELF);
}

/* Where a position is saved, lines are numbered by their places in the file, as its own: for good, until its content is replaced. */
static void source_number(struct source *self, const struct file_position *position)
{
    struct stat is = {.st_ino = 0};

    self->origin = position != NULL ? position->origin : 0;
    self->covered = position != NULL ? position->file.head_size : 0;
    self->numbered = position != NULL ? position->offset : 0;
    if (self->origin == 0 && self->host->identities && self->file->position != NULL) {
        self->covered = self->numbered = 0;
        if (getrandom(&self->origin, sizeof self->origin, 0) != sizeof self->origin)
            self->origin = 0;
    }
    fstat(self->lines.fd, &is);
    snprintf(self->origin_text, sizeof self->origin_text, "file:%" PRIu64 ":%" PRIu64 ":%016" PRIx64,
             (uint64_t)is.st_dev, (uint64_t)is.st_ino, self->origin);
}

/* `position`: where it was saved that this is to be read from; NULL: it is begun anew. */
static void source_begin(struct source *self, int fd, int64_t offset, uint64_t number, bool is_behind,
                         const struct file_position *position)
{
    if (self->lines.fd >= 0 && self->lines.fd != fd)
        close(self->lines.fd);
    lines_begin(&self->lines, fd, offset, number);
    source_number(self, position);
    self->seen = -1;
    self->outlook = MORE;
    self->is_behind = is_behind;
    source_watch(self);
}

/* ---------------------------------------------------------------------------------------------------------- position */

static void source_save_soon(struct source *self)
{
    self->is_unsaved = self->file->position != NULL;
    if (self->is_unsaved && self->save_at == FMS_NEVER)
        self->save_at = fms_now(self->host) + self->file->position_interval;
}

/* What cannot be saved is saved later, and at worst repeated. */
static void source_save(struct source *self)
{
    const struct place *first = self->head != self->tail ? &self->places[self->head & (self->size - 1)] : NULL;
    struct file_position position = {.offset = first != NULL ? first->offset : self->lines.offset,
                                     .line = first != NULL ? first->number : self->lines.number,
                                     .origin = self->origin};
    int error;

    self->save_at = FMS_NEVER;
    if (!self->is_unsaved || self->lines.fd < 0)
        return;
    error = file_position_identify(self->lines.fd, self->origin != 0 ? FILE_HEAD : position.offset, &position.file);
    if (error == 0)
        error = file_position_write(self->file->position, &position);
    self->is_unsaved = false;
    if (error == 0)
        self->covered = position.file.head_size;
    if (error == 0)
        return;
    fms_warn(self->host, "%s: cannot be written: %s; until it is, lines are repeated after a restart",
             self->file->position, strerror(-error));
    source_save_soon(self);
}

/* ------------------------------------------------------------------------------------------------- what is in flight */

/* Room in the ring for one more. */
static bool source_reserve(struct source *self)
{
    size_t size = self->size == 0 ? 1024 : 2 * self->size;
    struct place *grown;

    if (self->tail - self->head < self->size)
        return true;
    grown = malloc(size * sizeof *grown);
    if (grown == NULL)
        return false;
    for (uint64_t i = self->head; i != self->tail; i++)
        grown[i & (size - 1)] = self->places[i & (self->size - 1)];
    free(self->places);
    self->places = grown;
    self->size = size;
    return true;
}

void file_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct source *self = ((struct file *)instance)->source;
    bool was_saved = self->save_at == FMS_NEVER;

    (void)fate;
    self->places[record->tag[0] & (self->size - 1)].is_settled = true;
    if (record->tag[0] != self->head)
        return;
    while (self->head != self->tail && self->places[self->head & (self->size - 1)].is_settled)
        self->head++;
    source_save_soon(self);
    if ((was_saved && self->save_at != FMS_NEVER) || self->is_full ||
        (self->head == self->tail && self->outlook >= ROTATED))
        fms_wake(self->host);
}

/* ------------------------------------------------------------------------------------------------------------ timing */

/* When a record is to be emitted: as long after the newest before it as it came, divided by the speed. One that is older
 * than that goes at once, and so does one without a time. */
static int64_t source_due(struct source *self, int64_t timestamp)
{
    int64_t now = fms_now(self->host);
    double gap;

    if (self->speed == 0 || timestamp == 0)
        return 0;
    if (!self->has_begun) {
        self->has_begun = true;
        self->newest = timestamp;
        self->due = now;
    }
    if (timestamp <= self->newest)
        return 0;
    gap = (double)((uint64_t)timestamp - (uint64_t)self->newest) / self->speed;
    if (self->file->max_gap > 0 && gap > (double)self->file->max_gap)
        gap = (double)self->file->max_gap;
    return gap < (double)(FMS_NEVER - self->due) ? self->due + (int64_t)gap : FMS_NEVER;
}

static void source_keep_time(struct source *self, int64_t due)
{
    if (self->speed == 0 || self->draft.timestamp <= self->newest)
        return;
    self->newest = self->draft.timestamp;
    self->due = due;
}

/* ------------------------------------------------------------------------------------------------- a line's meaning */

static const char *source_bad_time(struct source *self, const char *what, const char *why)
{
    snprintf(self->reader.wrong, sizeof self->reader.wrong, "its field \"%s\" is %s%s", self->file->time, what, why);
    return self->reader.wrong;
}

/* Gives the draft the time that its payload has. NULL, or what is wrong with that. */
static const char *source_read_time(struct source *self)
{
    char why[INSTANT_WHY];
    struct instant instant;
    struct fms_json value;
    int error = fms_json_get(self->host, &self->draft, self->time, &value);

    if (error != 0) {
        snprintf(self->reader.wrong, sizeof self->reader.wrong, "no JSON object: %s",
                 error == -EBADMSG ? (const char *)value.text.data : strerror(-error));
        return self->reader.wrong;
    }
    if (value.type == FMS_JSON_MISSING)
        return source_bad_time(self, "missing", "");
    if ((value.type != FMS_JSON_NUMBER && value.type != FMS_JSON_STRING) || value.escaped)
        return source_bad_time(self, "no time", "");
    if (!instant_of_value(&instant, value.text, why))
        return source_bad_time(self, "no time: ", why);
    if (instant.seconds < 0 || !instant_nanoseconds(instant, &self->draft.timestamp))
        return source_bad_time(self, "no time from 1970 to 2262", "");
    return NULL;
}

/* NULL, or what is wrong with the line. */
static const char *source_read_payload(struct source *self, struct fms_bytes line)
{
    const struct file *file = self->file;

    self->draft = (struct fms_record){.topic = fms_text(file->topic != NULL ? file->topic : ""),
                                      .key = fms_text(file->key),
                                      .payload = line,
                                      .timestamp = fms_realtime(self->host)};
    return file->time == NULL ? NULL : source_read_time(self);
}

/* Where the line stands, for messages; valid until the next call. */
static const char *source_place(struct source *self)
{
    const struct lines *lines = &self->lines;

    snprintf(self->where, sizeof self->where, lines->number > 0 ? "%s line %" PRIu64 : "%s the line at byte %" PRIu64,
             self->is_behind ? " (rotated):" : ":", lines->number > 0 ? lines->number : (uint64_t)lines->offset);
    return self->where;
}

/* A bad line that is rejected: as it stands, but for one that was not read whole. */
static void source_reject_line(struct source *self, struct fms_bytes line, const char *wrong)
{
    const struct file *file = self->file;

    self->draft = (struct fms_record){
        .topic = fms_text(file->topic != NULL ? file->topic : ""), .key = fms_text(file->key), .payload = line};
    self->wrong = wrong;
    self->is_ready = true;
}

/* 0: it is in hand, to be rejected, or left out; -EBADMSG: it stops the pipeline. */
static int source_bad_line(struct source *self, struct fms_bytes line, const char *wrong)
{
    const char *path = self->file->path;

    fms_count(self->host, FILE_COUNTER_BAD_LINES, 1);
    if (self->file->on_bad_line == FILE_BAD_LINE_STOP)
        return fms_fail(self->host, -EBADMSG, "%s%s is bad: %s (on_bad_line = stop)", path, source_place(self), wrong);
    if (self->file->on_bad_line == FILE_BAD_LINE_REJECT) {
        source_reject_line(self, line, wrong);
        return 0;
    }
    fms_warn(self->host, "%s%s is bad, and left out: %s", path, source_place(self), wrong);
    lines_pass(&self->lines);
    source_save_soon(self);
    return 0;
}

/* Makes a draft of the line. 0, also for a bad one, or -EBADMSG. */
static int source_take_line(struct source *self, int kind, struct fms_bytes line)
{
    const char *wrong = "it is longer than max_line";

    if (kind == LINES_LINE)
        wrong = self->file->format == FILE_FORMAT_RECORD
                    ? file_record_read(&self->reader, line, fms_realtime(self->host), &self->draft)
                    : source_read_payload(self, line);
    self->wrong = NULL;
    self->is_too_long = kind == LINES_TOO_LONG;
    self->is_ready = wrong == NULL;
    return self->is_ready ? 0 : source_bad_line(self, kind == LINES_LINE ? line : fms_bytes_of(NULL, 0), wrong);
}

/* ------------------------------------------------------------------------------------------------- the end of a file */

/* Whether whoever wrote the file has left it: a younger one was rotated since, or nothing came for a while, which its own time, by a clock that
 * may be set meanwhile, does not tell. */
static bool source_is_left(struct source *self, const struct stat *is)
{
    int64_t now = fms_now(self->host);

    if (is->st_size != self->seen) {
        self->seen = is->st_size;
        self->since = now;
    }
    return !self->file->follow || now - self->since >= ROTATED_QUIET || source_rotations(self, is) > 1;
}

/* What is to come after the end of what was read. */
static enum outlook source_look_on(struct source *self)
{
    struct stat is, named;
    bool is_named = stat(self->file->path, &named) == 0;

    if (self->lines.may_block || (!self->file->follow && (!self->is_behind || !is_named)))
        return OVER;
    if (fstat(self->lines.fd, &is) != 0)
        return MORE;
    if (is.st_size < lines_read_up_to(&self->lines))
        return TRUNCATED;
    return is_named && !source_is_same(&is, &named) && source_is_left(self, &is) ? ROTATED : MORE;
}

/* The file that was begun when this one was rotated away. The names may change under our eyes: only a file that is still
 * one rotation younger when it is open is the right one. */
static int source_open_successor(struct source *self, int *rotations)
{
    struct stat is;
    int count = fstat(self->lines.fd, &is) == 0 ? source_rotations(self, &is) : -1;
    int fd;

    *rotations = count > 0 ? count - 1 : 0;
    fd = source_open_rotated(self, *rotations);
    if (fd >= 0 && count > 0 && source_rotations(self, &is) != count) {
        close(fd);
        return -EAGAIN;
    }
    return fd;
}

/* Goes over to what is next. False: not yet. */
static bool source_go_over(struct source *self)
{
    int rotations, fd;

    if (self->outlook < ROTATED || self->is_ready || lines_has_rest(&self->lines) || self->head != self->tail)
        return false;
    if (self->outlook == TRUNCATED) {
        fms_info(self->host, "%s: was truncated; it is read from its beginning", self->file->path);
        if (lseek(self->lines.fd, 0, SEEK_SET) != 0)
            return false;
        source_begin(self, self->lines.fd, 0, 1, self->is_behind, NULL);
    } else {
        fd = source_open_successor(self, &rotations);
        if (fd < 0)
            return false;
        fms_info(self->host, "%s: was rotated; the file after it is read from its beginning", self->file->path);
        source_begin(self, fd, 0, 1, rotations > 0, NULL);
    }
    source_save_soon(self);
    return true;
}

/* 0: look again; LINES_NOTHING: something has to happen first. */
static int source_at_end(struct source *self)
{
    if (self->outlook == MORE) {
        self->outlook = source_look_on(self);
        if (self->outlook == MORE)
            return LINES_NOTHING;
        self->lines.is_complete = true;
        if (self->outlook == TRUNCATED)
            lines_begin(&self->lines, self->lines.fd, self->lines.offset, self->lines.number); /* the rest is gone */
        return self->outlook == TRUNCATED ? LINES_NOTHING : 0;
    }
    return source_go_over(self) ? 0 : LINES_NOTHING;
}

/* ----------------------------------------------------------------------------------------------------------- emission */

/* The next line as a draft, or nothing. Negative: the pipeline fails. */
static int source_prepare(struct source *self)
{
    struct fms_bytes line = {NULL, 0};
    int kind = 0;

    while (!self->is_ready && kind >= 0) {
        kind = self->outlook == TRUNCATED ? LINES_AT_END : lines_next(&self->lines, &line);
        if (kind == LINES_AT_END)
            kind = source_at_end(self);
        if (kind == LINES_NOTHING || kind == LINES_PAUSE)
            return kind;
        if (kind == LINES_LINE || kind == LINES_TOO_LONG)
            kind = source_take_line(self, kind, line);
        else if (kind < 0)
            return fms_fail(self->host, kind, "%s: cannot be read: %s", self->file->path, strerror(-kind));
    }
    return kind < 0 ? kind : LINES_LINE;
}

/* The number of the line in hand: that of its last byte; of its first, where it is too long to know its end. The origin is saved before its
 * numbers are given, with enough of the file's beginning to tell whether it is still the same. */
static void source_identify(struct source *self)
{
    const struct lines *lines = &self->lines;
    int64_t end = lines->offset + (self->is_too_long ? 1 : (int64_t)lines->span);

    if (self->origin == 0 || !self->host->identities)
        return;
    if (self->covered < FILE_HEAD && self->covered < end) {
        self->is_unsaved = true;
        source_save(self);
    }
    self->identity = (struct fms_identity){.kind = FMS_NUMBERED,
                                           .origin = fms_text(self->origin_text),
                                           .sequence = (uint64_t)end - 1,
                                           .skipped = (uint64_t)(end - 1 - self->numbered)};
    self->draft.identity = &self->identity;
}

/* 0: emitted; -EAGAIN: no room. */
static int source_emit(struct source *self)
{
    int error;

    self->is_full = self->tail - self->head >= self->most;
    if (self->is_full)
        return -EAGAIN;
    if (!source_reserve(self))
        return fms_fail(self->host, -ENOMEM, "no memory for %zu lines in flight", 2 * self->size);
    self->draft.tag[0] = self->tail;
    source_identify(self);
    error = self->wrong == NULL ? fms_emit(self->host, &self->draft)
                                : fms_emit_rejected(self->host, &self->draft, "%s%s is bad: %s", self->file->path,
                                                    source_place(self), self->wrong);
    if (error != 0)
        return error;
    self->places[self->tail++ & (self->size - 1)] = (struct place){self->lines.offset, self->lines.number, false};
    if (self->draft.identity != NULL)
        self->numbered = (int64_t)self->identity.sequence + 1;
    lines_pass(&self->lines);
    self->is_ready = false;
    return 0;
}

/* Emits what is due, as far as the credit goes. 0, LINES_NOTHING, LINES_PAUSE, or a negative errno. */
static int source_take_in(struct source *self, size_t credit, struct fms_wait *wait)
{
    int64_t due;
    int result = 0;

    self->lines.budget = TURN_BYTES;
    for (; credit > 0 && result == 0; credit--) {
        result = source_prepare(self);
        if (result != LINES_LINE)
            return result;
        due = source_due(self, self->draft.timestamp);
        if (due > fms_now(self->host)) {
            wait->deadline = due;
            return 0;
        }
        result = source_emit(self);
        if (result == 0)
            source_keep_time(self, due);
    }
    if (result == 0)
        wait->deadline = 0; /* the credit is used up: there may be more */
    return result == -EAGAIN || result == -ESHUTDOWN ? 0 : result;
}

/* A file that is followed may be made later. */
static void source_try_open(struct source *self)
{
    int fd = self->lines.fd < 0 ? source_open_rotated(self, 0) : -1;

    if (fd < 0)
        return;
    fms_info(self->host, "%s: is there now", self->file->path);
    source_begin(self, fd, 0, 1, false, NULL);
    source_save_soon(self);
}

static void source_drain_notices(const struct source *self)
{
    char notices[4096];

    while (self->inotify >= 0 && read(self->inotify, notices, sizeof notices) > 0)
        continue;
}

static void source_wait(const struct source *self, struct fms_wait *wait)
{
    if (self->lines.may_block) {
        wait->fd = self->lines.fd;
    } else {
        wait->fd = self->inotify;
        wait->deadline = earlier(wait->deadline, fms_now(self->host) + WATCH_TICK);
    }
    wait->events = POLLIN;
}

int file_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = ((struct file *)instance)->source;
    int result = 0;

    if (self->is_stopped)
        return FMS_END;
    if (self->most == 0) {
        size_t records, bytes;

        fms_room(self->host, &records, &bytes);
        self->most = records < SIZE_MAX / 4 ? 4 * records + 1 : SIZE_MAX;
    }
    source_drain_notices(self);
    source_try_open(self);
    if (credit > 0)
        result = self->lines.fd >= 0 ? source_take_in(self, credit, wait) : LINES_NOTHING;
    if (result < 0)
        return result;
    if (fms_now(self->host) >= self->save_at)
        source_save(self);
    if (result == LINES_NOTHING && self->outlook == OVER)
        return FMS_END;
    if (result == LINES_NOTHING)
        source_wait(self, wait);
    if (result == LINES_PAUSE)
        wait->deadline = 0;
    wait->deadline = earlier(wait->deadline, self->save_at);
    return 0;
}

/* Of a pipe there is neither. */
void file_source_measure(void *instance)
{
    const struct source *self = ((struct file *)instance)->source;
    const struct place *first = self->head != self->tail ? &self->places[self->head & (self->size - 1)] : NULL;
    int64_t size = 0, position = first != NULL ? first->offset : self->lines.offset;
    struct stat is;

    if (self->lines.fd >= 0 && !self->lines.may_block && fstat(self->lines.fd, &is) == 0)
        size = is.st_size;
    fms_gauge(self->host, FILE_GAUGE_POSITION, (double)position);
    fms_gauge(self->host, FILE_GAUGE_UNREAD, size > self->lines.offset ? (double)(size - self->lines.offset) : 0);
}

void file_source_stop(void *instance)
{
    ((struct file *)instance)->source->is_stopped = true;
}

/* ----------------------------------------------------------------------------------------------------- opening, closing */

static int source_no_file(const struct source *self, int error)
{
    return fms_fail_option(self->host, "path", error, "%s: cannot be read: %s%s", self->file->path, strerror(-error),
                           error == -ENOENT ? "; follow = yes waits until it is there" : "");
}

/* A file that can be read, and of a kind that the options fit. */
static int source_check_kind(struct source *self, int fd)
{
    const struct file *file = self->file;
    struct stat stat;

    if (fstat(fd, &stat) != 0)
        return source_no_file(self, -errno);
    if (S_ISDIR(stat.st_mode))
        return source_no_file(self, -EISDIR);
    self->lines.may_block = !S_ISREG(stat.st_mode);
    if (self->lines.may_block && (file->follow || file->position != NULL))
        return fms_fail_option(self->host, file->follow ? "follow" : "position", -EINVAL,
                               "%s is no regular file: it can be read only once, from where it is", file->path);
    return 0;
}

/* A new reader's place. */
static int source_begin_new(struct source *self, int fd)
{
    int64_t offset = 0;
    struct stat stat;

    if (self->file->start == FILE_START_END && fstat(fd, &stat) == 0)
        offset = lines_last_end(fd, stat.st_size);
    if (offset < 0 || (offset > 0 && lseek(fd, offset, SEEK_SET) < 0))
        return source_no_file(self, offset < 0 ? (int)offset : -errno);
    source_begin(self, fd, offset, offset == 0 ? 1 : 0, false, NULL);
    source_save_soon(self);
    return 0;
}

/* The file that the position means, under whatever name it has now; -1: it is not there. */
static int source_find(const struct source *self, const struct file_position *position, int *rotations)
{
    for (*rotations = 0; *rotations <= ROTATED_MAX; ++*rotations) {
        int fd = source_open_rotated(self, *rotations);

        if (fd >= 0 && file_position_fits(position, fd) && lseek(fd, position->offset, SEEK_SET) >= 0)
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* Where the position says, if the file is still there; else at the beginning of the one that has its name. */
static int source_begin_again(struct source *self, int fd, const struct file_position *position)
{
    int rotations, found = source_find(self, position, &rotations);

    if (found >= 0) {
        if (fd >= 0)
            close(fd);
        source_begin(self, found, position->offset, position->line, rotations > 0, position);
        fms_info(self->host, "%s%s: goes on at byte %" PRId64, self->file->path,
                 rotations > 0 ? " (rotated since)" : "", position->offset);
        return 0;
    }
    fms_warn(self->host,
             "%s: the file that %s belongs to is neither there nor among those rotated away (%s.1, ...), or was "
             "truncated; begins with the file as it is now, and what had come since may be left out",
             self->file->path, self->file->position, self->file->path);
    if (fd >= 0)
        source_begin(self, fd, 0, 1, false, NULL);
    source_save_soon(self);
    return 0;
}

static int source_begin_somewhere(struct source *self, int fd)
{
    struct file_position position;
    const char *wrong = NULL;
    int error = self->file->position != NULL ? file_position_read(self->file->position, &position, &wrong) : -ENOENT;

    if (error == 0)
        return source_begin_again(self, fd, &position);
    if (error != -ENOENT)
        return fms_fail_option(self->host, "position", error,
                               "%s: is no position: %s; delete it to begin where `start` says", self->file->position,
                               wrong);
    return fd >= 0 ? source_begin_new(self, fd) : 0;
}

/* Notices of the directory, in which others may take the name. Without them there is the tick. */
static void source_watch_directory(struct source *self)
{
    const char *path = self->file->path, *slash = strrchr(path, '/');
    char *directory = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);

    self->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (directory != NULL && self->inotify >= 0)
        inotify_add_watch(self->inotify, directory, IN_CREATE | IN_MOVED_TO);
    free(directory);
}

static int source_start(struct source *self)
{
    bool is_stdin = strcmp(self->file->path, "-") == 0;
    int fd = is_stdin ? dup(STDIN_FILENO) : source_open_rotated(self, 0);
    int error = fd >= 0 ? source_check_kind(self, fd) : 0;

    if (is_stdin && fd < 0)
        error = -errno;
    if (fd < 0 && (error != 0 || fd != -ENOENT || (!self->file->follow && self->file->position == NULL)))
        return source_no_file(self, error != 0 ? error : fd);
    if (error == 0 && self->file->follow)
        source_watch_directory(self);
    if (error == 0)
        error = source_begin_somewhere(self, fd);
    if (error != 0 && fd >= 0 && fd != self->lines.fd)
        close(fd);
    if (error == 0 && self->lines.fd < 0 && !self->file->follow)
        return source_no_file(self, -ENOENT);
    if (error == 0 && self->lines.fd < 0)
        fms_info(self->host, "%s: is not there yet; waits for it", self->file->path);
    return error;
}

static void source_free(struct source *self)
{
    if (self->inotify >= 0)
        close(self->inotify);
    lines_free(&self->lines);
    file_record_reader_free(&self->reader);
    free(self->places);
    free(self);
}

int file_source_open(struct file *file)
{
    struct source *self = calloc(1, sizeof *self);
    int error;

    if (self == NULL)
        return fms_fail(file->host, -ENOMEM, "no memory for the source");
    self->file = file;
    self->host = file->host;
    self->speed = lines_speed(file->speed_text);
    self->save_at = FMS_NEVER;
    self->inotify = self->watch = -1;
    self->time = file->time != NULL ? fms_json_path(file->host, file->time) : 0;
    error = self->time < 0 ? self->time : lines_init(&self->lines, (size_t)file->max_line);
    self->lines.crlf = file->crlf;
    if (error != 0)
        fms_fail(file->host, error, "no memory for a line of max_line = %lld", (long long)file->max_line);
    else
        error = source_start(self);
    if (error != 0)
        source_free(self);
    else
        file->source = self;
    return error;
}

void file_source_close(void *instance)
{
    struct source *self = ((struct file *)instance)->source;

    source_save(self);
    source_free(self);
}
