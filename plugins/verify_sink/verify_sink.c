/* verify_sink - counts what was lost, repeated, reordered or broken on the way from a numbering sender (fms_sim with
 * sequence = yes, or whoever numbers 1, 2, 3, ... for each vehicle), and how long it took.
 *
 * It holds no message: what it keeps of the stream is in verify_ledger.c. The verdict is given when the pipeline ends;
 * a broken promise fails the pipeline, so that the process exits with 1. */
#include <fms_plugin.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <jansson.h>

#include "../latency_common/latency.h"
#include "verify_ledger.h"

#define EXPECT_TICK    (200 * FMS_MS) /* looks for the file of counts so often */
#define COMPLETE_PAUSE FMS_SECOND     /* all is there: so long for repetitions to come */
#define EXAMPLES       10             /* ranges of missing numbers that are named */

enum format { FORMAT_TEXT, FORMAT_JSON };

struct verify_sink {
    const struct fms_template *vehicle, *sequence, *sent, *speed, *rpm, *fuel_level;
    const char *expect, *report;
    struct fms_list allow;
    int format; /* enum format */
    int64_t idle_timeout, report_interval;

    const struct fms_host *host;
    struct ledger *ledger;
    struct latency latency;
    uint64_t messages, corrupted, early; /* early: received before it was sent, by the clocks */
    bool is_expect_known, is_finished, has_failed;
    int64_t last_at, report_at, expect_at;
};

enum { COUNTER_CORRUPTED };

static const char *const verify_allowed[] = {"loss", "duplicates", "disorder", "corruption"};
enum { ALLOW_LOSS, ALLOW_DUPLICATES, ALLOW_DISORDER, ALLOW_CORRUPTION, ALLOW_COUNT };

static const struct fms_option verify_sink_options[] = {
    FMS_OPT_TEMPLATE(struct verify_sink, vehicle, "${json:vehicle_id}", "who sent a message"),
    FMS_OPT_TEMPLATE(struct verify_sink, sequence, "${json:seq}", "its number: 1, 2, 3, ... for each vehicle"),
    FMS_OPT_TEMPLATE(struct verify_sink, sent, "${json:sent_ns}", "when it was sent: Unix time in nanoseconds"),
    FMS_OPT_TEMPLATE(struct verify_sink, speed, "${json:speed}", "corrupted unless a number from 0 to 120 (km/h)"),
    FMS_OPT_TEMPLATE(struct verify_sink, rpm, "${json:rpm}", "corrupted unless a number from 0 to 3000 (1/min)"),
    FMS_OPT_TEMPLATE(struct verify_sink, fuel_level, "${json:fuel_level}",
                     "corrupted unless a number from 0 to 100 (percent)"),
    FMS_OPT_STRING(struct verify_sink, expect, NULL,
                   "file with the last number of each vehicle, as fms_sim's option counts writes it; may come later"),
    FMS_OPT_LIST(struct verify_sink, allow, "duplicates",
                 "what does not break the promise, of loss, duplicates, disorder, corruption"),
    FMS_OPT_DURATION(struct verify_sink, idle_timeout, "0", 0, 86400 * FMS_SECOND,
                     "ends when nothing has come for so long: what is missing then is lost; 0: never"),
    FMS_OPT_STRING(struct verify_sink, report, NULL, "file for the report; absent: standard output"),
    FMS_OPT_CHOICE(struct verify_sink, format, "text", "text|json", "of the report"),
    FMS_OPT_DURATION(struct verify_sink, report_interval, "0", 0, 86400 * FMS_SECOND,
                     "also reports so often on the way; 0: only at the end"),
    FMS_OPT_END,
};

static const struct fms_metric verify_sink_counters[] = {
    [COUNTER_CORRUPTED] = {"corrupted", "messages that lacked something or were out of range"},
    {NULL, NULL},
};

enum { GAUGE_VEHICLES, GAUGE_MISSING, GAUGE_DUPLICATES, GAUGE_LATE };

static const struct fms_metric verify_sink_gauges[] = {
    [GAUGE_VEHICLES] = {"vehicles", "vehicles of which something has come"},
    [GAUGE_MISSING] = {"missing_messages", "messages that have not come, up to now, though later ones have or they are"
                                           " expected"},
    [GAUGE_DUPLICATES] = {"duplicated_messages", "messages that came more than once"},
    [GAUGE_LATE] = {"disordered_messages", "messages that came behind later ones of their vehicle"},
    {NULL, NULL},
};

/* ----------------------------------------------------------------------------------------------------------- verdict */

static bool verify_allows(const struct verify_sink *self, size_t what)
{
    for (size_t i = 0; i < self->allow.count; i++) {
        if (strcmp(self->allow.items[i], verify_allowed[what]) == 0)
            return true;
    }
    return false;
}

static bool verify_is_kept(const struct verify_sink *self, const struct ledger_totals *totals)
{
    return (totals->missing == 0 || verify_allows(self, ALLOW_LOSS)) &&
           (totals->duplicates == 0 || verify_allows(self, ALLOW_DUPLICATES)) &&
           (totals->late == 0 || verify_allows(self, ALLOW_DISORDER)) &&
           (self->corrupted == 0 || verify_allows(self, ALLOW_CORRUPTION)) &&
           (self->expect == NULL || self->is_expect_known);
}

/* ------------------------------------------------------------------------------------------------------------ report */

static double verify_milliseconds(const struct verify_sink *self, unsigned permille)
{
    return permille == 1000 ? (double)self->latency.max / (double)FMS_MS
                            : latency_percentile(&self->latency, permille) / (double)FMS_MS;
}

static void verify_name_text(void *user, const char *vehicle, uint64_t from, uint64_t to)
{
    fprintf(user, "  missing: %s %llu to %llu\n", vehicle, (unsigned long long)from, (unsigned long long)to);
}

static void verify_print_text(const struct verify_sink *self, const struct ledger_totals *totals, FILE *out)
{
    fprintf(
        out,
        "%llu messages of %llu vehicles: lost %llu, duplicated %llu, out of order %llu, corrupted %llu; promise %s\n",
        (unsigned long long)self->messages, (unsigned long long)totals->vehicles, (unsigned long long)totals->missing,
        (unsigned long long)totals->duplicates, (unsigned long long)totals->late, (unsigned long long)self->corrupted,
        verify_is_kept(self, totals) ? "kept" : "BROKEN");
    if (self->latency.count > 0)
        fprintf(out, "  latency: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n",
                verify_milliseconds(self, 500), verify_milliseconds(self, 900), verify_milliseconds(self, 990),
                verify_milliseconds(self, 999), verify_milliseconds(self, 1000));
    if (self->early > 0)
        fprintf(out, "  received before they were sent, by the clocks: %llu\n", (unsigned long long)self->early);
    if (totals->unexpected > 0)
        fprintf(out, "  not of those who are expected: %llu\n", (unsigned long long)totals->unexpected);
    if (totals->forgotten > 0)
        fprintf(out, "  too many gaps: %llu of the lost may have come late, and then count as duplicated\n",
                (unsigned long long)totals->forgotten);
    if (self->expect != NULL && !self->is_expect_known)
        fprintf(out, "  the file of counts never came: %s\n", self->expect);
    ledger_each_missing(self->ledger, EXAMPLES, verify_name_text, out);
}

static void verify_name_json(void *user, const char *vehicle, uint64_t from, uint64_t to)
{
    json_array_append_new(
        user, json_pack("{s:s, s:I, s:I}", "vehicle", vehicle, "from", (json_int_t)from, "to", (json_int_t)to));
}

static void verify_print_json(const struct verify_sink *self, const struct ledger_totals *totals, FILE *out)
{
    json_t *missing = json_array();
    json_t *report;

    ledger_each_missing(self->ledger, EXAMPLES, verify_name_json, missing);
    report = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f, s:f}, s:o, s:b}", /* in order */
        "messages", (json_int_t)self->messages, "vehicles", (json_int_t)totals->vehicles, "expected",
        (json_int_t)totals->expected, "distinct", (json_int_t)totals->distinct, "lost", (json_int_t)totals->missing,
        "duplicated", (json_int_t)totals->duplicates, "out_of_order", (json_int_t)totals->late, "corrupted",
        (json_int_t)self->corrupted, "unexpected", (json_int_t)totals->unexpected, "forgotten",
        (json_int_t)totals->forgotten, "early", (json_int_t)self->early, "latency_ms", "p50",
        verify_milliseconds(self, 500), "p90", verify_milliseconds(self, 900), "p99", verify_milliseconds(self, 990),
        "p99.9", verify_milliseconds(self, 999), "max", verify_milliseconds(self, 1000), "missing", missing, "kept",
        (int)verify_is_kept(self, totals));
    json_dumpf(report, out, JSON_COMPACT | JSON_REAL_PRECISION(6));
    fputc('\n', out);
    json_decref(report);
}

static void verify_print(const struct verify_sink *self, const struct ledger_totals *totals, FILE *out)
{
    if (self->format == FORMAT_JSON)
        verify_print_json(self, totals, out);
    else
        verify_print_text(self, totals, out);
}

/* The file is whole or not there at all. */
static int verify_report_to(const struct verify_sink *self, const struct ledger_totals *totals)
{
    char path[4096];
    FILE *out;
    bool is_good;

    if (snprintf(path, sizeof path, "%s.new", self->report) >= (int)sizeof path)
        return fms_fail_option(self->host, "report", -ENAMETOOLONG, "is too long");
    unlink(path); /* of a crash; nothing is written through what somebody else has put there */
    out = fopen(path, "wxe");
    if (out == NULL)
        return fms_fail_option(self->host, "report", -errno, "%s: %s", path, strerror(errno));
    verify_print(self, totals, out);
    is_good = ferror(out) == 0;
    is_good = fclose(out) == 0 && is_good;
    if (is_good && rename(path, self->report) == 0)
        return 0;
    return fms_fail_option(self->host, "report", -EIO, "%s: cannot be written: %s", self->report, strerror(errno));
}

static int verify_report(const struct verify_sink *self, struct ledger_totals *totals)
{
    ledger_total(self->ledger, totals);
    if (self->report != NULL)
        return verify_report_to(self, totals);
    verify_print(self, totals, stdout);
    fflush(stdout);
    return 0;
}

/* ------------------------------------------------------------------------------------------------ what is to be there */

static int verify_bad_counts(const struct verify_sink *self, size_t line, const char *what)
{
    return fms_fail_option(self->host, "expect", -EINVAL, "%s:%zu: %s; a line is a number, a blank and a vehicle",
                           self->expect, line, what);
}

/* "17 raspi-001" */
static int verify_expect_line(struct verify_sink *self, char *text, size_t line)
{
    char *end;
    unsigned long long last;
    int error;

    text[strcspn(text, "\n")] = '\0';
    errno = 0;
    last = strtoull(text, &end, 10);
    if (end == text || *end != ' ' || end[1] == '\0' || last == 0 || errno != 0 || *text == '-')
        return verify_bad_counts(self, line, "is not understood");
    error = ledger_expect(self->ledger, fms_text(end + 1), last);
    if (error == -EEXIST)
        return verify_bad_counts(self, line, "names a vehicle again");
    return error != 0 ? fms_fail(self->host, error, "no memory for the counts") : 0;
}

/* Reads the counts if they are there. */
static int verify_expect(struct verify_sink *self)
{
    FILE *file = fopen(self->expect, "re");
    char *text = NULL;
    size_t size = 0, line = 0;
    int error = 0;

    if (file == NULL && errno == ENOENT)
        return 0;
    if (file == NULL)
        return fms_fail_option(self->host, "expect", -errno, "%s: %s", self->expect, strerror(errno));
    while (error == 0 && getline(&text, &size, file) > 0)
        error = verify_expect_line(self, text, ++line);
    if (error == 0 && line == 0)
        error = verify_bad_counts(self, 1, "there is none");
    free(text);
    fclose(file);
    if (error != 0)
        return error;
    ledger_expect_end(self->ledger);
    self->is_expect_known = true;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- messages */

/* A whole number from 1 on; 0: none. */
static uint64_t verify_number(const struct verify_sink *self, const struct fms_template *text,
                              const struct fms_record *record)
{
    struct fms_bytes value;
    uint64_t number = 0;

    if (fms_expand(self->host, text, record, &value) != 0 || value.size == 0 || value.size > 19)
        return 0;
    for (size_t i = 0; i < value.size; i++) {
        char c = ((const char *)value.data)[i];

        if (c < '0' || c > '9')
            return 0;
        number = number * 10 + (uint64_t)(c - '0');
    }
    return number;
}

static bool verify_is_within(const struct verify_sink *self, const struct fms_template *text,
                             const struct fms_record *record, double most)
{
    struct fms_bytes value;
    double number;
    char *end;

    if (fms_expand(self->host, text, record, &value) != 0 || value.size == 0 ||
        strspn(value.data, "0123456789+-.eE") != value.size)
        return false;
    number = strtod(value.data, &end);
    return end == (const char *)value.data + value.size && number >= 0 && number <= most;
}

/* False: no memory. */
static bool verify_take(struct verify_sink *self, const struct fms_record *record, int64_t now)
{
    struct fms_bytes vehicle;
    uint64_t number = verify_number(self, self->sequence, record);
    uint64_t sent = verify_number(self, self->sent, record);
    bool is_good = number > 0 && sent > 0 && sent <= INT64_MAX && verify_is_within(self, self->speed, record, 120) &&
                   verify_is_within(self, self->rpm, record, 3000) &&
                   verify_is_within(self, self->fuel_level, record, 100) &&
                   fms_expand(self->host, self->vehicle, record, &vehicle) == 0 && vehicle.size > 0 &&
                   memchr(vehicle.data, '\0', vehicle.size) == NULL;

    self->messages++;
    if (!is_good) {
        self->corrupted++;
        fms_count(self->host, COUNTER_CORRUPTED, 1);
        return true;
    }
    self->early += (int64_t)sent > now;
    latency_add(&self->latency, now - (int64_t)sent);
    return ledger_come(self->ledger, vehicle, number) == 0;
}

static int verify_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct verify_sink *self = instance;
    int64_t now = fms_realtime(self->host);

    for (size_t i = 0; i < count; i++) {
        if (!verify_take(self, records[i], now))
            return fms_fail(self->host, -ENOMEM, "no memory for another vehicle or gap");
        fms_delivered(self->host, records[i]);
    }
    self->last_at = fms_now(self->host);
    return (int)count;
}

/* ------------------------------------------------------------------------------------------------------ in due course */

/* When the pipeline is to be ended for want of messages; FMS_NEVER: not so far. */
static int64_t verify_end_at(const struct verify_sink *self)
{
    int64_t patience = ledger_is_complete(self->ledger) ? COMPLETE_PAUSE : self->idle_timeout;

    return patience > 0 ? self->last_at + patience : FMS_NEVER;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int verify_sink_poll(void *instance, struct fms_wait *wait)
{
    struct verify_sink *self = instance;
    int64_t now = fms_now(self->host);
    struct ledger_totals totals;
    int error = 0;

    if (self->is_finished)
        return 0;
    if (self->last_at == 0)
        self->last_at = now; /* it has only begun to run */
    if (self->expect != NULL && !self->is_expect_known && now >= self->expect_at) {
        error = verify_expect(self);
        self->expect_at = now + EXPECT_TICK;
    }
    if (error == 0 && self->report_interval > 0 && now >= self->report_at) {
        error = self->report_at > 0 ? verify_report(self, &totals) : 0;
        self->report_at = now + self->report_interval;
    }
    if (error != 0) {
        self->has_failed = true;
        return error;
    }
    wait->deadline = verify_end_at(self);
    if (wait->deadline <= now) {
        self->is_finished = true;
        fms_finish(self->host);
        return 0;
    }
    if (self->expect != NULL && !self->is_expect_known)
        wait->deadline = earlier(wait->deadline, self->expect_at);
    if (self->report_interval > 0)
        wait->deadline = earlier(wait->deadline, self->report_at);
    return 0;
}

/* -------------------------------------------------------------------------------------------------- check, open, close */

static int verify_sink_check(void *instance, const struct fms_host *host)
{
    struct verify_sink *self = instance;

    for (size_t i = 0; i < self->allow.count; i++) {
        size_t known = 0;

        while (known < ALLOW_COUNT && strcmp(verify_allowed[known], self->allow.items[i]) != 0)
            known++;
        if (known == ALLOW_COUNT)
            return fms_fail_option(host, "allow", -EINVAL, "\"%s\" is none of loss, duplicates, disorder, corruption",
                                   self->allow.items[i]);
    }
    if (self->expect == NULL)
        fms_advise(host, "expect", "is absent: a vehicle's first and last messages can be lost unseen");
    fms_promise(host, NULL, FMS_AT_MOST_ONCE, "it counts and keeps nothing of what it takes: another sink keeps it");
    return 0;
}

static int verify_sink_open(void *instance, const struct fms_host *host)
{
    struct verify_sink *self = instance;

    self->host = host;
    self->ledger = ledger_new();
    return self->ledger != NULL ? 0 : fms_fail(host, -ENOMEM, "no memory");
}

static void verify_sink_close(void *instance)
{
    struct verify_sink *self = instance;
    struct ledger_totals totals;

    if (self->expect != NULL && !self->is_expect_known && !self->has_failed)
        self->has_failed = verify_expect(self) != 0;
    if (!self->has_failed && verify_report(self, &totals) == 0 && !verify_is_kept(self, &totals))
        fms_fail(self->host, -EPROTO,
                 "the promise was broken: lost %llu, duplicated %llu, out of order %llu, corrupted %llu",
                 (unsigned long long)totals.missing, (unsigned long long)totals.duplicates,
                 (unsigned long long)totals.late, (unsigned long long)self->corrupted);
    ledger_free(self->ledger);
}

static void verify_measure(void *instance)
{
    struct verify_sink *self = instance;
    struct ledger_totals totals;

    ledger_total(self->ledger, &totals);
    fms_gauge(self->host, GAUGE_VEHICLES, (double)totals.vehicles);
    fms_gauge(self->host, GAUGE_MISSING, (double)totals.missing);
    fms_gauge(self->host, GAUGE_DUPLICATES, (double)totals.duplicates);
    fms_gauge(self->host, GAUGE_LATE, (double)totals.late);
}

FMS_PLUGIN(.name = "verify_sink", .version = FMS_VERSION,
           .summary = "Counts what was lost, repeated, reordered or corrupted, and how long it took",
           .options = verify_sink_options, .counters = verify_sink_counters, .gauges = verify_sink_gauges,
           .measure = verify_measure, .instance_size = sizeof(struct verify_sink), .check = verify_sink_check,
           .open = verify_sink_open, .close = verify_sink_close, .sink_write = verify_sink_write,
           .sink_poll = verify_sink_poll);
