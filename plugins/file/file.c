/* file - a file of lines: as a sink it records a stream, as a source it reads or follows one, and replays it in its own
 * time.
 *
 * The sink's record is delivered when its line is written; what was not written whole is taken back. The source's
 * position is the beginning of the first line that is not settled, so a crash repeats lines and loses none.
 *
 * The trait FMS_TRAIT_DURABLE_WRITE is not claimed. It stands in the static table, thus for every configuration, and of
 * a pipe or a terminal it would be untrue: these settle a record when they have room for it. */
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../lines_common/lines.h"

/* clang-format off */
#define OPTION(field, T, type, fallback, min, max, choices, help, role) \
    {#field, type, FMS_FIELD(struct file, field, T), fallback, min, max, choices, help, NULL, role}

static const struct fms_option file_options[] = {
    FMS_OPT_STRING(struct file, path, FMS_REQUIRED, "file of lines; -: standard input or output"),
    FMS_OPT_CHOICE(struct file, format, "auto", "auto|payload|record",
                   "payload: each line is a payload as it is; record: a JSON object with topic, key, time and headers, too; "
                   "auto: record for dead letters, else payload"),
    OPTION(follow, bool, FMS_BOOLEAN, "no", 0, 0, NULL,
           "at the end of the file wait for more, through rotation and truncation", FMS_SOURCE),
    OPTION(start, int, FMS_CHOICE, "beginning", 0, 0, "beginning|end",
           "where to begin when there is no position yet", FMS_SOURCE),
    {"position", FMS_STRING, FMS_FIELD(struct file, position, const char *), NULL, 0, 0, NULL,
     "file that remembers how far all is settled, to go on from there; absent: nothing is remembered",
     "position file", FMS_SOURCE},
    OPTION(position_interval, int64_t, FMS_DURATION, "1s", FMS_MS, 3600 * FMS_SECOND, NULL,
           "how often it is written; so much is read again after a crash", FMS_SOURCE),
    {"speed", FMS_STRING, FMS_FIELD(struct file, speed_text, const char *), "0", 0, 0, NULL,
     "1: records follow each other as they once did, by their timestamps; 10, 0.5: so many times as fast; "
     "0: as fast as the pipeline takes them", NULL, FMS_SOURCE},
    OPTION(max_gap, int64_t, FMS_DURATION, "0", 0, 365 * 86400 * FMS_SECOND, NULL,
           "with speed: longest pause between two records; 0: any", FMS_SOURCE),
    OPTION(max_line, int64_t, FMS_SIZE, "1MiB", 1, INT64_C(1) << 30, NULL, "a longer line is a bad one", FMS_SOURCE),
    OPTION(crlf, bool, FMS_BOOLEAN, "no", 0, 0, NULL,
           "a carriage return at the end of a line is not part of it", FMS_SOURCE),
    OPTION(on_bad_line, int, FMS_CHOICE, "reject", 0, 0, "reject|stop|skip",
           "what to do with a line that is no record; reject: it goes to dead letters, or where on_reject says; skip: count "
           "it, log it, go on", FMS_SOURCE),
    OPTION(topic, const char *, FMS_STRING, NULL, 0, 0, NULL,
           "with format = payload: topic of the records; absent: empty", FMS_SOURCE),
    OPTION(key, const char *, FMS_STRING, NULL, 0, 0, NULL,
           "with format = payload: key of the records; absent: none", FMS_SOURCE),
    OPTION(time, const char *, FMS_STRING, NULL, 0, 0, NULL,
           "with format = payload: field that has the records' time (timestamp, position.time) as Unix seconds, ms, us "
           "or ns, which its size tells, or as ISO 8601; absent: they have the time at which they are read", FMS_SOURCE),
    OPTION(append, bool, FMS_BOOLEAN, "yes", 0, 0, NULL, "no: what is there at the start is deleted", FMS_SINK),
    OPTION(sync, int, FMS_CHOICE, "close", 0, 0, "close|always",
           "when the disk has to have it: when the file is closed, or before a record counts as delivered", FMS_SINK),
    OPTION(rotate_size, int64_t, FMS_SIZE, "0", 0, INT64_C(1) << 46, NULL,
           "a file that would become larger becomes path.1, path.1 becomes path.2, and so on; 0: never", FMS_SINK),
    OPTION(rotate_keep, int64_t, FMS_INTEGER, "5", 1, 1000, NULL,
           "with rotate_size: how many of these are kept; older ones are deleted", FMS_SINK),
    FMS_OPT_END,
};
/* clang-format on */

static const struct fms_metric file_counters[] = {
    [FILE_COUNTER_BAD_LINES] = {"bad_lines", "lines that were no record, or too long"},
    [FILE_COUNTER_ROTATIONS] = {"rotations", "times that the file was renamed and begun anew"},
    [FILE_COUNTER_WRITE_ERRORS] = {"write_errors", "batches that could not be written and were offered again"},
    {NULL, NULL},
};

static const struct fms_metric file_gauges[] = {
    [FILE_GAUGE_POSITION] = {"position_bytes", "source: where in the file the first line is that is not settled"},
    [FILE_GAUGE_UNREAD] = {"unread_bytes", "source: bytes of the file behind the last line that it has emitted"},
    [FILE_GAUGE_SIZE] = {"size_bytes", "sink: size of the file that it writes"},
    {NULL, NULL},
};

/* ------------------------------------------------------------------------------------------------------------------ check */

/* Standard input has no name under which it could be found again. */
static int file_check_stdin(const struct file *self, const struct fms_host *host)
{
    const char *option = self->follow ? "follow" : self->position != NULL ? "position" : NULL;

    if (strcmp(self->path, "-") != 0 || option == NULL)
        return 0;
    return fms_fail_option(host, option, -EINVAL, "does not go with path = -: standard input is read once, to its end");
}

static int file_check_speed(const struct file *self, const struct fms_host *host)
{
    double speed = lines_speed(self->speed_text);

    if (speed < 0)
        return fms_fail_option(host, "speed", -EINVAL,
                               "\"%s\" is no speed; accepted are numbers from 0 to 1000000, as in "
                               "1, 10 or 0.5",
                               self->speed_text);
    if (speed > 0 && self->format == FILE_FORMAT_PAYLOAD && self->time == NULL)
        return fms_fail_option(
            host, "speed", -EINVAL,
            "needs the records' times: format = record, or `time`, the field of a payload that has it");
    if (speed == 0 && self->max_gap > 0)
        fms_advise(host, "max_gap", "does nothing at speed = 0, where there are no pauses");
    return 0;
}

static int file_check_time(const struct file *self, const struct fms_host *host)
{
    if (self->time == NULL || fms_json_path(host, self->time) != -EINVAL)
        return 0;
    return fms_fail_option(host, "time", -EINVAL, "\"%s\" is no path; expected one such as position.time", self->time);
}

static int file_check_record(const struct file *self, const struct fms_host *host)
{
    const char *option = self->topic != NULL ? "topic" : self->key != NULL ? "key" : self->time != NULL ? "time" : NULL;

    if (self->format != FILE_FORMAT_RECORD || option == NULL)
        return 0;
    return fms_fail_option(host, option, -EINVAL, "is for format = payload; a record has its own");
}

static int file_check_source(const struct file *self, const struct fms_host *host)
{
    int error = file_check_stdin(self, host), other = file_check_speed(self, host);

    error = error != 0 ? error : other;
    other = file_check_record(self, host);
    error = error != 0 ? error : other;
    other = file_check_time(self, host);
    error = error != 0 ? error : other;
    if (self->start == FILE_START_END && !self->follow)
        error = fms_fail_option(host, "start", -EINVAL,
                                "end needs follow = yes: behind the end there is nothing to read");
    if (self->position != NULL && strcmp(self->position, self->path) == 0)
        error = fms_fail_option(host, "position", -EINVAL, "is the file that is read; it needs a file of its own");
    if (self->follow && self->position == NULL)
        fms_advise(host, "follow",
                   "without `position` nothing is remembered: after a restart it begins where `start` says");
    return error;
}

static int file_check_sink(const struct file *self, const struct fms_host *host)
{
    bool is_stdout = strcmp(self->path, "-") == 0;

    if (host->role == FMS_DEAD_LETTER && self->format == FILE_FORMAT_PAYLOAD)
        return fms_fail_option(host, "format", -EINVAL,
                               "payload is not for dead letters: it keeps neither the reason nor a payload that is no "
                               "line, whose letter would be refused; leave `format` out");
    if (is_stdout && self->rotate_size > 0)
        return fms_fail_option(host, "rotate_size", -EINVAL, "does not go with path = -: standard output has no name");
    if (is_stdout && self->sync == FILE_SYNC_ALWAYS)
        return fms_fail_option(host, "sync", -EINVAL, "always does not go with path = -");
    if (is_stdout && !self->append)
        return fms_fail_option(host, "append", -EINVAL, "no does not go with path = -");
    return 0;
}

static void file_promise_source(const struct file *self, const struct fms_host *host)
{
    if (strcmp(self->path, "-") == 0)
        fms_promise(host, "path", FMS_AT_MOST_ONCE,
                    "standard input comes once: what is in flight when the process ends is lost");
    else if (self->position != NULL)
        fms_promise(host, "position", FMS_EXACTLY_ONCE,
                    "what was delivered since it was written is read again, and has its number");
    else if (self->start == FILE_START_END)
        fms_promise(host, "start", FMS_AT_MOST_ONCE,
                    "end without a position skips at each start what was not read yet: set position");
    else
        fms_promise(host, NULL, FMS_AT_LEAST_ONCE,
                    "without a position all of it is read again at each start: set position");
}

static void file_promise_sink(const struct file *self, const struct fms_host *host)
{
    if (strcmp(self->path, "-") == 0)
        fms_promise(host, "path", FMS_AT_MOST_ONCE, "what standard output has taken nobody may have read");
    else if (self->sync != FILE_SYNC_ALWAYS)
        fms_promise(host, "sync", FMS_AT_MOST_ONCE,
                    "a power cut takes lines that the disk has not got yet: set sync = always");
    else
        fms_promise(host, "sync", FMS_EXACTLY_ONCE, "what was not written whole is taken back");
}

static int file_check(void *instance, const struct fms_host *host)
{
    struct file *self = instance;

    if (self->format == FILE_FORMAT_AUTO)
        self->format = host->role == FMS_DEAD_LETTER ? FILE_FORMAT_RECORD : FILE_FORMAT_PAYLOAD;
    if (host->role == FMS_SOURCE)
        file_promise_source(self, host);
    else
        file_promise_sink(self, host);
    return host->role == FMS_SOURCE ? file_check_source(self, host) : file_check_sink(self, host);
}

/* -------------------------------------------------------------------------------------------------- probe, open and close */

static int file_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    const struct file *self = instance;
    struct stat stat_of;

    (void)deadline;
    if (strcmp(self->path, "-") == 0)
        return 0;
    if (stat(self->path, &stat_of) == 0)
        fms_report(host, "%s has %lld bytes", self->path, (long long)stat_of.st_size);
    else if (errno == ENOENT && (host->role != FMS_SOURCE || self->follow))
        fms_report(host, "%s is not there yet", self->path);
    else
        return fms_fail_option(host, "path", -errno, "%s: %s", self->path, strerror(errno));
    return 0;
}

static int file_open(void *instance, const struct fms_host *host)
{
    struct file *self = instance;

    self->host = host;
    return host->role == FMS_SOURCE ? file_source_open(self) : file_sink_open(self);
}

static void file_close(void *instance)
{
    const struct file *self = instance;

    if (self->host->role == FMS_SOURCE)
        file_source_close(instance);
    else
        file_sink_close(instance);
}

static void file_measure(void *instance)
{
    const struct file *self = instance;

    if (self->host->role == FMS_SOURCE)
        file_source_measure(instance);
    else
        file_sink_measure(instance);
}

FMS_PLUGIN(.name = "file", .version = FMS_VERSION, .summary = "Records a stream in a file of lines, and replays it",
           .options = file_options, .counters = file_counters, .instance_size = sizeof(struct file),
           .traits = FMS_TRAIT_SINGLE, .check = file_check, .probe = file_probe, .open = file_open, .close = file_close,
           .source_poll = file_source_poll, .source_settled = file_source_settled, .source_stop = file_source_stop,
           .sink_write = file_sink_write, .sink_poll = file_sink_poll, .gauges = file_gauges, .measure = file_measure);
