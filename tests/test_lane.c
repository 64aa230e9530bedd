/* test_lane.c - a lane with stages from the test itself: what it promises to sources, transforms and sinks, and whom it
 * names when one of them breaks a rule.
 *
 * lane_run runs on the test's thread until the source has ended; nothing sleeps for a time. What a test holds against
 * the lane are the numbers of records, which the source puts into their tags. */
#include "host.h"
#include "lane.h"
#include "settle.h"
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fleet.h"
#include "log.h"
#include "template.h"

#define PATIENCE 120 /* seconds until a test that hangs is killed */

/* ---------------------------------------------------------------------------------------------------------- the rig */

static struct {
    struct pipeline pipeline;
    struct stage stages[8];
    struct plugin plugins[8];
    size_t most_in_flight, most_bytes; /* seen after each emission */
    char log[1 << 16];
    size_t logged;
} rig;

static void rig_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    int n = snprintf(rig.log + rig.logged, sizeof rig.log - rig.logged, "%d %s: %s\n", (int)level,
                     stage != NULL ? stage : pipeline, text);

    (void)user;
    if (n > 0 && rig.logged + (size_t)n < sizeof rig.log)
        rig.logged += (size_t)n;
}

static int rig_setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.pipeline.options = (struct pipeline_options){.name = "rig",
                                                     .max_in_flight = 1000,
                                                     .max_in_flight_bytes = 1 << 20,
                                                     .on_reject = ON_REJECT_STOP,
                                                     .drain_timeout = 60 * FMS_SECOND,
                                                     .retry_min = FMS_MS,
                                                     .retry_max = 4 * FMS_MS,
                                                     .stall_after = 60 * FMS_SECOND};
    rig.pipeline.paths = json_paths_new();
    log_redirect(rig_log, NULL);
    alarm(PATIENCE);
    return pipeline_init(&rig.pipeline);
}

/* Every record is accounted for to the end. */
static int rig_teardown(void **state)
{
    (void)state;
    settle_abandon(&rig.pipeline);
    assert_int_equal(rig.pipeline.in_flight, 0);
    assert_int_equal(rig.pipeline.records.bytes, 0);
    pipeline_destroy(&rig.pipeline);
    json_paths_free(rig.pipeline.paths);
    log_redirect(NULL, NULL);
    return 0;
}

/* Each instance begins with the host's address. Stages stand in the order in which they are added. */
static struct stage *rig_add(enum fms_role role, const char *name, struct fms_plugin table, void *instance)
{
    struct pipeline *pipeline = &rig.pipeline;
    struct stage *stage = &rig.stages[pipeline->stage_count];
    struct plugin *plugin = &rig.plugins[pipeline->stage_count];

    table.name = name;
    plugin->table = table;
    *stage = (struct stage){
        .pipeline = pipeline, .plugin = plugin, .name = (char *)(uintptr_t)name, .instance = instance};
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    stage->is_open = true;
    pipeline_add(pipeline, stage, role);
    host_fill(stage, role);
    *(const struct fms_host **)instance = &stage->host;
    pipeline_layout(pipeline);
    return stage;
}

static void assert_said(const char *text)
{
    if (strstr(rig.log, text) == NULL)
        print_error("expected \"%s\" in:\n%s", text, rig.log);
    assert_non_null(strstr(rig.log, text));
}

static void assert_not_said(const char *text)
{
    if (strstr(rig.log, text) != NULL)
        print_error("did not expect \"%s\" in:\n%s", text, rig.log);
    assert_null(strstr(rig.log, text));
}

static uint64_t rig_random(void)
{
    static uint64_t x = 88172645463325252;

    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
}

/* ------------------------------------------------------------------------------------------------------- the source */

#define MOST 100000

struct source {
    const struct fms_host *host;
    size_t total, next;
    size_t size;            /* of a payload; 0: the number alone */
    size_t large_at, large; /* one record of another size, if large > 0 */
    size_t odd;             /* each of that number is rejected by the source itself; 0: none */
    size_t credit, polls;   /* of the last poll; how many there were */
    bool has_stopped;
    uint8_t told[MOST]; /* fate */
    size_t told_count, told_again;
    size_t last_told;
    size_t inversions;              /* told before one that was emitted earlier */
    int (*at_end)(struct source *); /* what to return once all is emitted; NULL: FMS_END */
};

static struct source source;
static char source_text[1 << 20];

static void draft_fill(struct fms_record *draft, size_t number, size_t size)
{
    static const struct fms_header header = {"original", {"header", 6}};
    static char key[16];
    int n = snprintf(source_text, sizeof source_text, "%zu", number);

    if (size > (size_t)n)
        memset(source_text + n, '.', size - (size_t)n);
    snprintf(key, sizeof key, "k%zu", number % 7);
    *draft = (struct fms_record){.topic = fms_text("a/topic"), .key = fms_text(key), .headers = &header};
    draft->payload = fms_bytes_of(source_text, size > (size_t)n ? size : (size_t)n);
    draft->header_count = 1;
    draft->timestamp = (int64_t)number + 1;
    draft->tag[0] = number;
}

static void rig_watch(void)
{
    if (rig.pipeline.in_flight > rig.most_in_flight)
        rig.most_in_flight = rig.pipeline.in_flight;
    if (rig.pipeline.records.bytes > rig.most_bytes)
        rig.most_bytes = rig.pipeline.records.bytes;
}

/* Emits the next record. */
static int source_emit(struct source *self)
{
    struct fms_record draft;
    int error;

    draft_fill(&draft, self->next, self->large > 0 && self->next == self->large_at ? self->large : self->size);
    if (self->odd > 0 && self->next % self->odd == self->odd - 1)
        error = fms_emit_rejected(self->host, &draft, "number %zu is odd", self->next);
    else
        error = fms_emit(self->host, &draft);
    rig_watch();
    if (error == 0)
        self->next++;
    return error;
}

/* Asks for nothing while there is more to come: with its credit used up or refused it knows that it is called again. */
static int source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    (void)wait;
    self->credit = credit;
    self->polls++;
    while (credit-- > 0 && self->next < self->total) {
        if (source_emit(self) != 0)
            return 0;
    }
    if (self->next < self->total && !self->has_stopped)
        return 0;
    return self->at_end != NULL ? self->at_end(self) : FMS_END;
}

static void source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct source *self = instance;
    size_t number = (size_t)record->tag[0];

    assert_true(number < self->next);
    self->told_again += self->told[number] != 0;
    self->told[number] = (uint8_t)fate;
    self->inversions += self->told_count > 0 && number < self->last_told;
    self->last_told = number;
    self->told_count++;
}

static void source_stop(void *instance)
{
    ((struct source *)instance)->has_stopped = true;
}

static const struct fms_plugin source_table = {
    .source_poll = source_poll, .source_settled = source_settled, .source_stop = source_stop};

static struct stage *add_source(size_t total)
{
    memset(&source, 0, sizeof source);
    source.total = total;
    return rig_add(FMS_SOURCE, "source", source_table, &source);
}

static size_t count_told(enum fms_fate fate)
{
    size_t n = 0;

    for (size_t i = 0; i < source.next; i++)
        n += source.told[i] == (uint8_t)fate;
    return n;
}

/* All emitted, each told once. */
static void assert_all_delivered(size_t total)
{
    assert_int_equal(source.next, total);
    assert_int_equal(source.told_again, 0);
    assert_int_equal(count_told(FMS_DELIVERED), total);
    assert_int_equal(rig.pipeline.left, 0);
    assert_false(rig.pipeline.has_failed);
}

/* -------------------------------------------------------------------------------------------------------- the sinks */

struct sink {
    const struct fms_host *host;
    const struct fms_record *held[MOST]; /* taken and not settled, in the order of emission */
    size_t held_count, most_held;
    size_t delivered[MOST]; /* numbers, in the order in which they were delivered */
    size_t count;
    size_t parameter;
    size_t polls, writes, retries;
    int64_t not_before; /* the earliest time for the next write */
    bool is_retrying;
    size_t broken; /* things that the lane must not do */
};

static struct sink sinks[4];

static void sink_deliver(struct sink *self, const struct fms_record *record)
{
    self->delivered[self->count++] = (size_t)record->tag[0];
    fms_delivered(self->host, record);
}

static int sink_write_at_once(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    self->writes++;
    for (size_t i = 0; i < count; i++)
        sink_deliver(self, records[i]);
    return (int)count;
}

static int sink_write_hold(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    self->writes++;
    for (size_t i = 0; i < count; i++)
        self->held[self->held_count++] = records[i];
    if (self->held_count > self->most_held)
        self->most_held = self->held_count;
    return (int)count;
}

static bool source_is_idle(void)
{
    return rig.pipeline.is_blocked || rig.pipeline.source->has_ended;
}

/* Settles all that it holds, the newest first, when nothing more can come. */
static int sink_poll_when_idle(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    self->polls++;
    if (source_is_idle()) {
        while (self->held_count > 0)
            sink_deliver(self, self->held[--self->held_count]);
    }
    if (self->held_count > 0)
        wait->deadline = 0;
    return 0;
}

/* Settles one a poll. */
static int sink_poll_slowly(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->held_count > 0) {
        sink_deliver(self, self->held[0]);
        memmove(self->held, self->held + 1, --self->held_count * sizeof *self->held);
    }
    if (self->held_count > 0)
        wait->deadline = 0;
    return 0;
}

static const struct fms_plugin at_once_table = {.sink_write = sink_write_at_once};
static const struct fms_plugin when_idle_table = {.sink_write = sink_write_hold, .sink_poll = sink_poll_when_idle};
static const struct fms_plugin slow_table = {.sink_write = sink_write_hold, .sink_poll = sink_poll_slowly};

static struct sink *add_sink(size_t i, const char *name, struct fms_plugin table)
{
    memset(&sinks[i], 0, sizeof sinks[i]);
    rig_add(strcmp(name, "dead_letter") == 0 ? FMS_DEAD_LETTER : FMS_SINK, name, table, &sinks[i]);
    return &sinks[i];
}

static void assert_in_order(const struct sink *sink, size_t total)
{
    assert_int_equal(sink->count, total);
    for (size_t i = 0; i < total; i++)
        assert_int_equal(sink->delivered[i], i);
}

/* ---------------------------------------------------------------------------------------------- delivery and bounds */

static void all_are_delivered_in_order(void **state)
{
    struct sink *sink;

    (void)state;
    add_source(5000);
    sink = add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_in_order(sink, 5000);
    assert_all_delivered(5000);
    assert_int_equal(source.inversions, 0);
    assert_int_equal(rig.pipeline.counts.emitted, 5000);
    assert_int_equal(rig.pipeline.counts.delivered, 5000);
}

static void nothing_emitted_ends(void **state)
{
    (void)state;
    add_source(0);
    add_sink(0, "sink", when_idle_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(0);
}

static void max_in_flight_is_reached_and_not_passed(void **state)
{
    struct sink *sink;

    (void)state;
    rig.pipeline.options.max_in_flight = 20;
    add_source(500);
    sink = add_sink(0, "sink", when_idle_table);
    lane_run(&rig.pipeline);
    assert_int_equal(sink->most_held, 20);
    assert_int_equal(rig.most_in_flight, 20);
    assert_all_delivered(500);
}

static void max_in_flight_of_one(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight = 1;
    add_source(50);
    add_sink(0, "sink", when_idle_table);
    lane_run(&rig.pipeline);
    assert_int_equal(rig.most_in_flight, 1);
    assert_all_delivered(50);
}

/* The charge of a record counts slots and JSON cache too. */
static void max_in_flight_bytes_is_reached_and_not_passed(void **state)
{
    struct fms_record draft;
    size_t charge, most = 10000;

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = (int64_t)most;
    json_paths_add(rig.pipeline.paths, "a.b");
    json_paths_add(rig.pipeline.paths, "c");
    add_source(500);
    source.size = 300;
    add_sink(0, "sink 0", when_idle_table);
    add_sink(1, "sink 1", when_idle_table);
    add_sink(2, "sink 2", at_once_table);
    draft_fill(&draft, 0, 300);
    charge = record_charge(&rig.pipeline.records, &draft, NULL);
    assert_true(charge > 300 + sizeof(struct record) + 3 * sizeof(struct slot) + json_cache_size(rig.pipeline.paths));
    lane_run(&rig.pipeline);
    assert_int_equal(rig.most_bytes, most / charge * charge);
    assert_all_delivered(500);
}

/* A refused record that needs more than the low watermark leaves still gets its room. */
static void a_large_record_waits_for_its_room(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 64 * 1024;
    add_source(300);
    source.large_at = 200;
    source.large = 50 * 1000;
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_true(rig.most_bytes <= 64 * 1024);
    assert_all_delivered(300);
    assert_int_equal(rig.pipeline.counts.rejected, 0);
}

/* ----------------------------------------------------------------------------------------------------- dead letters */

struct letter {
    char reason[256], stage[64], time[32], topic[32], payload[64], key[16];
    uint64_t number;
    size_t payload_size;
    bool has_payload;
};

static struct letter letters[500];
static size_t letter_count;

static void header_text(const struct fms_record *record, const char *name, char *text, size_t size)
{
    for (size_t i = 0; i < record->header_count; i++) {
        if (strcmp(record->headers[i].name, name) == 0)
            snprintf(text, size, "%s", (const char *)record->headers[i].value.data);
    }
}

static int letter_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    for (size_t i = 0; i < count; i++) {
        struct letter *letter = &letters[letter_count++];
        const struct fms_record *record = records[i];

        *letter = (struct letter){.number = record->tag[0], .payload_size = record->payload.size};
        letter->has_payload = record->payload.data != NULL;
        header_text(record, "fms.reason", letter->reason, sizeof letter->reason);
        header_text(record, "fms.stage", letter->stage, sizeof letter->stage);
        header_text(record, "fms.time", letter->time, sizeof letter->time);
        header_text(record, "fms.topic", letter->topic, sizeof letter->topic);
        snprintf(letter->payload, sizeof letter->payload, "%s",
                 letter->has_payload ? (const char *)record->payload.data : "");
        snprintf(letter->key, sizeof letter->key, "%s", (const char *)record->key.data);
        assert_string_equal(record->headers[0].name, "original");
        assert_string_equal(record->headers[0].value.data, "header");
        assert_int_equal(record->header_count, 6);
        assert_string_equal(record->headers[2].name, "fms.pipeline");
        assert_string_equal(record->headers[2].value.data, "rig");
        sink_deliver(self, record);
    }
    return (int)count;
}

static const struct fms_plugin letter_table = {.sink_write = letter_write};

static struct sink *add_dead_letter(void)
{
    letter_count = 0;
    return add_sink(3, "dead_letter", letter_table);
}

static void a_record_larger_than_the_bound_is_rejected(void **state)
{
    struct sink *sink;

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(100);
    source.large_at = 33;
    source.large = 20000;
    sink = add_sink(0, "sink", at_once_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(letter_count, 1);
    assert_int_equal(letters[0].number, 33);
    assert_false(letters[0].has_payload);
    assert_string_equal(letters[0].stage, "source");
    assert_non_null(strstr(letters[0].reason, "max_in_flight_bytes = 16384"));
    assert_int_equal(sink->count, 99);
    assert_all_delivered(100);
}

/* Neither the bound on records nor that on bytes, reached at that moment, makes it wait for an empty pipeline. */
static size_t in_flight_at_large;

static int source_poll_noting_large(void *instance, size_t credit, struct fms_wait *wait)
{
    size_t before = source.next;
    int result = source_poll(instance, credit, wait);

    if (before <= source.large_at && source.next > source.large_at)
        in_flight_at_large = rig.pipeline.in_flight;
    return result;
}

static void a_too_large_record_at_the_bound_waits_no_longer_than_others(void **state)
{
    struct fms_plugin table = source_table;

    (void)state;
    rig.pipeline.options.max_in_flight = 64;
    rig.pipeline.options.max_in_flight_bytes = 32 * 1024;
    table.source_poll = source_poll_noting_large;
    memset(&source, 0, sizeof source);
    source.total = 100;
    source.large_at = 64; /* the first that the bound refuses, by a source that tries */
    source.large = 40000;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_all_delivered(100);
    assert_int_equal(letter_count, 1);
    assert_in_range(in_flight_at_large, 40, 64);
}

static int rejecting_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    for (size_t i = 0; i < count; i++) {
        if (records[i]->tag[0] % 7 == self->parameter)
            fms_reject(self->host, records[i], "number %d is bad", (int)records[i]->tag[0]);
        else
            sink_deliver(self, records[i]);
    }
    return (int)count;
}

static const struct fms_plugin rejecting_table = {.sink_write = rejecting_write};

static struct sink *add_rejecting_sink(size_t i, const char *name, size_t remainder)
{
    struct sink *sink = add_sink(i, name, rejecting_table);

    sink->parameter = remainder;
    return sink;
}

static void assert_time(const char *text)
{
    struct tm tm;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    assert_non_null(end);
    assert_string_equal(end, "");
}

/* ---------------------------------------------------------------------------------------------------------- retries */

static int retrying_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    self->broken += self->is_retrying && self->held_count > 0; /* offered before all that it took was settled */
    self->broken += self->is_retrying && fms_now(self->host) < self->not_before;
    self->is_retrying = false;
    return sink_write_hold(instance, records, count);
}

/* Now and then retries a record and all that it holds after it, then delivers what it holds before it; else settles a
 * few. */
static int retrying_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;
    size_t n = self->held_count > 0 ? (size_t)rig_random() % self->held_count : 0;

    if (self->held_count > 0 && rig_random() % 4 == 0) {
        self->is_retrying = true;
        while (self->held_count > n) {
            fms_retry(self->host, self->held[--self->held_count], "the weather");
            self->retries++;
        }
    } else {
        for (size_t i = 0; i < n; i++)
            sink_deliver(self, self->held[i]);
        memmove(self->held, self->held + n, (self->held_count - n) * sizeof *self->held);
        self->held_count -= n;
        if (self->held_count == 1)
            sink_deliver(self, self->held[--self->held_count]);
    }
    if (self->is_retrying && self->held_count == 0)
        self->not_before = fms_now(self->host) + rig.pipeline.options.retry_min / 2;
    if (self->held_count > 0)
        wait->deadline = 0;
    return 0;
}

static const struct fms_plugin retrying_table = {.sink_write = retrying_write, .sink_poll = retrying_poll};

static void retries_keep_order(void **state)
{
    struct sink *sink;

    (void)state;
    rig.pipeline.options.max_in_flight = 100;
    add_source(3000);
    sink = add_sink(0, "sink", retrying_table);
    lane_run(&rig.pipeline);
    assert_true(sink->retries > 100);
    assert_int_equal(sink->broken, 0);
    assert_in_order(sink, 3000);
    assert_all_delivered(3000);
    assert_int_equal(rig.pipeline.counts.retried, sink->retries);
    assert_said("1 sink: not delivered, will be offered again: the weather");
    assert_said("2 sink: delivers again");
}

/* A sink that retries all it is offered until its patience is used up: the pause grows. */
static int64_t retry_times[16];

static int failing_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    if (self->writes == 8)
        return sink_write_at_once(instance, records, count);
    retry_times[self->writes++] = fms_now(self->host);
    for (size_t i = 0; i < count; i++)
        fms_retry(self->host, records[i], "attempt %zu", self->writes);
    return (int)count;
}

static void back_off_grows_to_retry_max(void **state)
{
    struct fms_plugin table = {.sink_write = failing_write};

    (void)state;
    add_source(10);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_all_delivered(10);
    assert_in_order(&sinks[0], 10);
    assert_true(retry_times[1] - retry_times[0] >= FMS_MS / 2);
    for (size_t i = 3; i < 8; i++)
        assert_true(retry_times[i] - retry_times[i - 1] >= 4 * FMS_MS / 2);
}

/* Takes nothing until all is there; then retries the first that it is offered, and would deliver what comes behind it. */
static int retrying_once_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    if (!rig.pipeline.source->has_ended)
        return 0;
    if (self->writes++ > 0)
        return sink_write_at_once(instance, records, count);
    for (size_t i = 0; i < count; i++)
        fms_retry(self->host, records[i], "not yet");
    return (int)count;
}

static int poll_until_all_is_there(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->writes == 0 && rig.pipeline.source->has_ended)
        fms_wake(self->host);
    if (self->writes == 0)
        wait->deadline = 0;
    return 0;
}

static void nothing_is_offered_behind_a_retry(void **state)
{
    struct fms_plugin table = {.sink_write = retrying_once_write, .sink_poll = poll_until_all_is_there};

    (void)state;
    add_source(1000); /* several offers at once */
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_all_delivered(1000);
    assert_in_order(&sinks[0], 1000);
    assert_int_equal(rig.pipeline.counts.retried, PIPELINE_BATCH);
}

static void *retry_on_a_thread(void *user)
{
    struct sink *self = user;

    fms_retry(self->host, self->held[0], "not here");
    return NULL;
}

/* Retries its first record from a thread, the first time. */
static int write_and_retry_elsewhere(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    pthread_t thread;

    if (self->writes++ > 0)
        return sink_write_at_once(instance, records, count);
    self->held[0] = records[0];
    assert_int_equal(pthread_create(&thread, NULL, retry_on_a_thread, instance), 0);
    pthread_join(thread, NULL);
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- fan-out */

static void each_sink_has_a_cursor_of_its_own(void **state)
{
    struct sink *slow, *retrying, *rejecting, *dead;
    size_t expected = 0;

    (void)state;
    rig.pipeline.options.max_in_flight = 60;
    add_source(700);
    slow = add_sink(0, "sink slow", slow_table);
    retrying = add_sink(1, "sink retrying", retrying_table);
    rejecting = add_rejecting_sink(2, "sink rejecting", 3);
    dead = add_dead_letter();
    lane_run(&rig.pipeline);
    assert_in_order(slow, 700);
    assert_in_order(retrying, 700);
    assert_true(retrying->retries > 0);
    assert_int_equal(retrying->broken, 0);
    assert_int_equal(rejecting->count, 600);
    assert_int_equal(dead->count, 100);
    assert_int_equal(letter_count, 100);
    for (size_t i = 0; i < 100; i++, expected += 7) {
        char text[64];

        snprintf(text, sizeof text, "%zu", expected + 3);
        assert_int_equal(letters[i].number, expected + 3);
        assert_string_equal(letters[i].payload, text);
        assert_int_equal(letters[i].payload_size, strlen(text));
        assert_string_equal(letters[i].key, "k3");
        assert_string_equal(letters[i].topic, "a/topic");
        assert_string_equal(letters[i].stage, "sink rejecting");
        snprintf(text, sizeof text, "number %zu is bad", expected + 3);
        assert_string_equal(letters[i].reason, text);
        assert_time(letters[i].time);
    }
    assert_all_delivered(700);
    assert_int_equal(rig.pipeline.counts.dead_letters, 100);
}

static void two_sinks_that_reject_make_two_letters(void **state)
{
    (void)state;
    add_source(7);
    add_rejecting_sink(0, "sink a", 2);
    add_rejecting_sink(1, "sink b", 2);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(letter_count, 2);
    assert_string_equal(letters[0].stage, "sink a");
    assert_string_equal(letters[1].stage, "sink b");
    assert_all_delivered(7);
}

/* A thousand headers are the most that a record may have, and that its letter has, five of which are not its own. */
static struct fms_header many_headers[1000];

static int source_poll_many_headers(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    struct fms_record draft;

    (void)credit;
    (void)wait;
    draft_fill(&draft, 0, 0);
    for (size_t i = 0; i < 1000; i++)
        many_headers[i] = (struct fms_header){i == 0 ? "original" : "h", fms_text("v")};
    draft.headers = many_headers;
    draft.header_count = 1000;
    self->next = 1;
    assert_int_equal(fms_emit(self->host, &draft), 0);
    return FMS_END;
}

static int count_headers(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    self->parameter = records[0]->header_count;
    header_text(records[0], "fms.reason", letters[0].reason, sizeof letters[0].reason);
    return sink_write_at_once(instance, records, count);
}

static void a_record_with_all_headers_becomes_a_letter(void **state)
{
    struct fms_plugin table = source_table, dead = {.sink_write = count_headers};

    (void)state;
    table.source_poll = source_poll_many_headers;
    memset(&source, 0, sizeof source);
    rig_add(FMS_SOURCE, "source", table, &source);
    add_rejecting_sink(0, "sink", 0);
    add_sink(1, "dead_letter", dead);
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_int_equal(sinks[1].parameter, 1000);
    assert_non_null(strstr(letters[0].reason, "; its last 5 headers are left out, for a record has 1000 at most"));
}

static void on_reject_stop_leaves_that_record_alone(void **state)
{
    (void)state;
    add_source(10);
    add_rejecting_sink(0, "sink", 5);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(source.told_count, 9);
    assert_int_equal(source.told[5], 0);
    assert_int_equal(rig.pipeline.left, 1);
    assert_said("0 sink: record rejected: number 5 is bad");
}

/* Several records, each rejected by both sinks. */
static void on_reject_stop_with_several_sinks_loses_nothing(void **state)
{
    (void)state;
    add_source(50);
    add_rejecting_sink(0, "sink a", 5);
    add_rejecting_sink(1, "sink b", 5);
    add_rejecting_sink(2, "sink c", 6);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(rig.pipeline.left, 14);
    assert_int_equal(source.told_count, 36);
}

static void on_reject_drop_tells_the_source(void **state)
{
    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    add_source(10);
    add_rejecting_sink(0, "sink a", 5);
    add_sink(1, "sink b", slow_table);
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(count_told(FMS_DELIVERED), 9);
    assert_int_equal(source.told[5], FMS_REJECTED);
    assert_int_equal(rig.pipeline.counts.dropped, 1);
    assert_int_equal(sinks[1].count, 10);
}

static void a_rejected_letter_stops(void **state)
{
    (void)state;
    add_source(10);
    add_rejecting_sink(0, "sink", 5);
    add_rejecting_sink(1, "dead_letter", 5);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(rig.pipeline.left, 1);
    assert_int_equal(source.told[5], 0);
    assert_int_equal(source.told_count, 9);
    assert_said("0 dead_letter: dead letter rejected: ");
    assert_said("(on_reject = stop): let [dead_letter] take every record, or set on_reject = drop");
    assert_not_said("add a [dead_letter] section");
}

static void a_rejected_letter_is_dropped(void **state)
{
    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    add_source(10);
    add_rejecting_sink(0, "sink", 5);
    add_rejecting_sink(1, "dead_letter", 5);
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(source.told[5], FMS_REJECTED);
    assert_int_equal(count_told(FMS_DELIVERED), 9);
}

/* ------------------------------------------------------------------------------------- what a source rejects itself */

static void a_source_s_odd_messages_become_letters(void **state)
{
    struct sink *sink;

    (void)state;
    rig.pipeline.options.max_in_flight = 20;
    add_source(1000);
    source.odd = 10;
    sink = add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(letter_count, 100);
    assert_int_equal(letters[7].number, 79);
    assert_string_equal(letters[7].payload, "79");
    assert_string_equal(letters[7].topic, "a/topic");
    assert_string_equal(letters[7].stage, "source");
    assert_string_equal(letters[7].reason, "number 79 is odd");
    assert_int_equal(sink->count, 900);
    assert_true(rig.most_in_flight <= 20);
    assert_int_equal(rig.pipeline.counts.emitted, 1000);
    assert_int_equal(rig.pipeline.counts.rejected, 100);
    assert_all_delivered(1000);
}

/* A source that rejects all that its credit allows has used it: it is called again without waiting. */
static void odd_messages_use_credit_and_room(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight = 20;
    add_source(5000);
    source.odd = 1;
    add_sink(0, "sink", at_once_table);
    add_sink(1, "dead_letter", when_idle_table);
    lane_run(&rig.pipeline);
    assert_int_equal(rig.most_in_flight, 20);
    assert_int_equal(sinks[1].most_held, 20);
    assert_all_delivered(5000);
}

static void odd_messages_are_dropped_where_on_reject_says(void **state)
{
    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    add_source(100);
    source.odd = 10;
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(count_told(FMS_REJECTED), 10);
    assert_int_equal(source.told[29], FMS_REJECTED);
    assert_int_equal(count_told(FMS_DELIVERED), 90);
    assert_int_equal(rig.pipeline.counts.dropped, 10);
}

static void an_odd_message_stops_where_on_reject_says(void **state)
{
    (void)state;
    add_source(100);
    source.odd = 10;
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(source.told[8], FMS_DELIVERED);
    assert_int_equal(source.told[9], 0);
    assert_said("0 source: record rejected: number 9 is odd");
}

/* One message that a source cannot use, and what came to the dead letters of it. */
static struct {
    struct fms_record draft;
    bool is_rejected; /* by the source */
    const char *why;
    size_t refused; /* letters larger than `most` */
    size_t most;
    bool refuses_first;
    size_t size, refused_size;     /* of the last letter, and of the last that was refused */
    char reason[1024], text[1024]; /* fms.reason; names of headers */
    size_t topic_size, key_size, payload_size, header_count;
    bool has_payload;
} odd;

static int odd_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    (void)credit;
    (void)wait;
    self->next = 1;
    if (odd.is_rejected)
        assert_int_equal(fms_emit_rejected(self->host, &odd.draft, "%s", odd.why), 0);
    else
        assert_int_equal(fms_emit(self->host, &odd.draft), 0);
    rig_watch();
    return FMS_END;
}

static void odd_note(const struct fms_record *record)
{
    odd.topic_size = record->topic.size;
    odd.key_size = record->key.size;
    odd.payload_size = record->payload.size;
    odd.has_payload = record->payload.data != NULL;
    odd.header_count = record->header_count;
    for (size_t i = 0; i < record->header_count && record->header_count < 20; i++) {
        strcat(odd.text, record->headers[i].name);
        strcat(odd.text, " ");
    }
    header_text(record, "fms.reason", odd.reason, sizeof odd.reason);
}

static int odd_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    size_t size = records[0]->payload.size;

    for (size_t i = 0; i < records[0]->header_count; i++)
        size += records[0]->headers[i].value.size;
    rig_watch();
    odd.size = size;
    if (size > odd.most || (odd.refuses_first && odd.refused == 0)) {
        odd.refused++;
        odd.refused_size = size;
        fms_reject(self->host, records[0], "of %zu bytes", size);
        return 1;
    }
    odd_note(records[0]);
    return sink_write_at_once(instance, records, count);
}

static void odd_begin(void)
{
    struct fms_plugin table = source_table, dead = {.sink_write = odd_write};

    memset(&odd, 0, sizeof odd);
    draft_fill(&odd.draft, 0, 100);
    odd.most = SIZE_MAX;
    odd.why = "odd";
    table.source_poll = odd_poll;
    memset(&source, 0, sizeof source);
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", at_once_table);
    add_sink(1, "dead_letter", dead);
}

static char odd_bytes[1 << 20];

/* Just below the bound the letter must not cost as much again; above it, the headers go and the rest stays. */
static void headers_near_the_bound_cost_only_themselves(void **state)
{
    struct fms_header header = {"large", {odd_bytes, 0}};

    (void)state;
    odd_begin();
    odd.is_rejected = true;
    rig.pipeline.options.max_in_flight_bytes = 100 * 1024;
    odd.draft.headers = &header;
    odd.draft.header_count = 1;
    header.value.size = 100 * 1024 - record_charge(&rig.pipeline.records, &odd.draft, NULL) - 1024;
    assert_true(record_charge(&rig.pipeline.records, &odd.draft, NULL) <= 100 * 1024);
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_string_equal(odd.text, "large fms.reason fms.pipeline fms.stage fms.topic fms.time ");
    assert_string_equal(odd.reason, "odd");
    assert_int_equal(odd.payload_size, 100);
    assert_true(rig.most_bytes < 101 * 1024);
}

static void headers_above_the_bound_are_left_out(void **state)
{
    struct fms_header header = {"large", {odd_bytes, 100 * 1024}};

    (void)state;
    odd_begin();
    rig.pipeline.options.max_in_flight_bytes = 100 * 1024;
    odd.draft.headers = &header;
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_string_equal(odd.text, "fms.reason fms.pipeline fms.stage fms.topic fms.time ");
    assert_non_null(strstr(odd.reason, "more than max_in_flight_bytes = 102400; left out for its size: its headers"));
    assert_int_equal(odd.topic_size, strlen("a/topic"));
    assert_int_equal(odd.key_size, 2);
    assert_int_equal(odd.payload_size, 100);
}

static void a_topic_above_the_bound_is_cut(void **state)
{
    (void)state;
    odd_begin();
    odd.is_rejected = true;
    rig.pipeline.options.max_in_flight_bytes = 8 * 1024;
    odd.draft.topic = fms_bytes_of(odd_bytes, 65535);
    odd.draft.payload = fms_bytes_of(odd_bytes, 65535);
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_in_range(odd.topic_size, 1000, 8 * 1024);
    assert_false(odd.has_payload);
    assert_string_equal(odd.reason, "odd; left out for its size: the end of its topic, its payload");
    assert_true(rig.most_bytes < 10 * 1024);
}

/* More than a record may have: they cost themselves, and the source breaks no rule with them. */
static struct fms_header too_many_headers[1001];

static void odd_begin_too_many_headers(void)
{
    for (size_t i = 0; i < 1001; i++)
        too_many_headers[i] = (struct fms_header){"h", fms_text("v")};
    odd_begin();
    odd.draft.headers = too_many_headers;
    odd.draft.header_count = 1001;
}

static void too_many_headers_are_left_out(void **state)
{
    (void)state;
    odd_begin_too_many_headers();
    odd.is_rejected = true;
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_int_equal(odd.header_count, 1000);
    assert_int_equal(odd.payload_size, 100);
    assert_string_equal(odd.reason, "odd; left out for its size: its headers behind the 995th");
}

static void too_many_headers_cost_their_record(void **state)
{
    (void)state;
    odd_begin_too_many_headers();
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_all_delivered(1);
    assert_int_equal(odd.header_count, 1000);
    assert_int_equal(odd.payload_size, 100);
    assert_non_null(strstr(odd.reason, "with 1001 headers it has more than the 1000 that a record may have"));
}

/* What came out of dead letters and goes there again says why it is there this time. */
static void a_letter_s_headers_are_replaced(void **state)
{
    static const struct fms_header headers[] = {{"fms.reason", {"yesterday's", 11}}, {"fms.mine", {"1", 1}},
                                                {"fms.time", {"then", 4}},           {"own", {"2", 1}},
                                                {"fms.stage", {"elsewhere", 9}},     {"fms.reason", {"again", 5}}};

    (void)state;
    odd_begin();
    odd.is_rejected = true;
    odd.draft.headers = headers;
    odd.draft.header_count = 6;
    lane_run(&rig.pipeline);
    assert_all_delivered(1);
    assert_string_equal(odd.text, "fms.mine own fms.reason fms.pipeline fms.stage fms.topic fms.time ");
    assert_string_equal(odd.reason, "odd");
}

/* A far end that refuses a letter for its size gets what it is about: the pipeline does not stop for one message. */
static void a_refused_letter_goes_again_bare(void **state)
{
    (void)state;
    odd_begin();
    odd.is_rejected = true;
    odd.draft.payload = fms_bytes_of(odd_bytes, 50000);
    odd.most = 10000;
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_all_delivered(1);
    assert_int_equal(odd.refused, 1);
    assert_false(odd.has_payload);
    assert_int_equal(odd.topic_size, strlen("a/topic"));
    assert_string_equal(odd.text, "fms.reason fms.pipeline fms.stage fms.topic fms.time ");
    assert_string_equal(odd.reason, "odd; without payload and headers");
    assert_int_equal(rig.pipeline.counts.rejected, 1);
    assert_int_equal(rig.pipeline.counts.dead_letters, 1);
    assert_said("1 dead_letter: dead letter refused, it goes again without payload and headers: of ");
}

/* Whoever refused a letter for its size is not given a larger one; what is left of the reason is whole characters. */
static void a_bare_letter_is_no_larger(void **state)
{
    static const char *const reasons[] = {
        "odd",
        "seventy bytes, just as many as a bare letter keeps of a longer reason.",
        ("more than seventy bytes, and the seventieth is within a character: "
         "..\xe2\x82\xac, which is left out, too, as it would be none"),
    };
    static const char *const kept[] = {"odd", "seventy bytes, just as many as a bare letter keeps of a longer reason.",
                                       "more than seventy bytes, and the seventieth is within a character: .."};
    static const size_t sizes[] = {0, 1, 28, 29, 1000};

    for (size_t i = 0; i < 3 * 5; i++) {
        char expected[128];
        bool has_room = sizes[i % 5] >= 29 || i / 5 == 2;

        rig_teardown(state);
        rig_setup(state);
        odd_begin();
        odd.is_rejected = odd.refuses_first = true;
        odd.why = reasons[i / 5];
        odd.draft.payload = fms_bytes_of(odd_bytes, sizes[i % 5]);
        odd.draft.header_count = 0;
        lane_run(&rig.pipeline);
        assert_all_delivered(1);
        assert_int_equal(odd.refused, 1);
        assert_true(odd.size <= odd.refused_size);
        snprintf(expected, sizeof expected, "%s%s", kept[i / 5], has_room ? "; without payload and headers" : "");
        assert_string_equal(odd.reason, expected);
    }
}

static void a_bare_letter_that_is_refused_goes_nowhere(void **state)
{
    (void)state;
    odd_begin();
    odd.is_rejected = true;
    odd.most = 0;
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(odd.refused, 2);
    assert_int_equal(source.told_count, 0);
    assert_int_equal(rig.pipeline.left, 1);
}

/* ------------------------------------------------------------------------------------------------------- transforms */

struct transform {
    const struct fms_host *host;
    const struct fms_record *kept[MOST];
    size_t kept_count;
    size_t parameter, size;
    size_t emitted;      /* children of the record in hand */
    size_t again, polls; /* how often it had to wait */
    size_t flushes;
    int64_t deadline;
};

static struct transform transforms[3];

static struct transform *add_transform(size_t i, const char *name, struct fms_plugin table)
{
    memset(&transforms[i], 0, sizeof transforms[i]);
    transforms[i].deadline = FMS_NEVER;
    rig_add(FMS_TRANSFORM, name, table, &transforms[i]);
    return &transforms[i];
}

/* By number: drops the odd, rejects 4 of 10, passes the rest. */
static enum fms_verdict sorting_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;

    if (record->tag[0] % 2 == 1)
        return FMS_DROP;
    if (record->tag[0] % 10 == 4)
        return fms_reject(self->host, record, "a four");
    return FMS_PASS;
}

static void a_transform_passes_drops_and_rejects(void **state)
{
    struct fms_plugin table = {.transform = sorting_transform};

    (void)state;
    add_source(100);
    add_transform(0, "transform", table);
    add_sink(0, "sink", at_once_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(sinks[0].count, 40);
    for (size_t i = 1; i < 40; i++)
        assert_true(sinks[0].delivered[i] > sinks[0].delivered[i - 1]);
    assert_int_equal(letter_count, 10);
    assert_string_equal(letters[0].stage, "transform");
    assert_string_equal(letters[0].reason, "a four");
    assert_all_delivered(100);
}

static enum fms_verdict keeping_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;

    self->kept[self->kept_count++] = record;
    if (self->kept_count == 1)
        fms_wake(self->host); /* to be asked for a deadline */
    return FMS_KEPT;
}

static void pass_kept(struct transform *self)
{
    size_t count = self->kept_count;

    self->kept_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (self->kept[i]->tag[0] % 10 == 9)
            fms_reject(self->host, self->kept[i], "a nine");
        else if (self->kept[i]->tag[0] % 10 == 8)
            fms_delivered(self->host, self->kept[i]);
        else
            assert_int_equal(fms_pass(self->host, self->kept[i]), 0);
    }
}

/* Passes what it keeps when its deadline, a millisecond after the first, has come. */
static int keeping_poll(void *instance, struct fms_wait *wait)
{
    struct transform *self = instance;
    int64_t now = fms_now(self->host);

    self->polls++;
    if (self->kept_count > 0 && self->deadline == FMS_NEVER)
        self->deadline = now + FMS_MS;
    if (self->kept_count > 0 && now >= self->deadline) {
        pass_kept(self);
        self->deadline = FMS_NEVER;
    }
    wait->deadline = self->deadline;
    return 0;
}

static void keeping_flush(void *instance)
{
    struct transform *self = instance;

    self->flushes++;
    pass_kept(self);
}

static void assert_kept_and_passed(void)
{
    assert_int_equal(sinks[0].count, 80);
    for (size_t i = 1; i < 80; i++)
        assert_true(sinks[0].delivered[i] > sinks[0].delivered[i - 1]);
    assert_int_equal(letter_count, 10);
    assert_all_delivered(100);
}

static void a_transform_passes_later(void **state)
{
    struct fms_plugin table = {
        .transform = keeping_transform, .transform_poll = keeping_poll, .transform_flush = keeping_flush};

    (void)state;
    rig.pipeline.options.max_in_flight = 20;
    add_source(100);
    source.size = 0;
    add_transform(0, "transform", table);
    add_sink(0, "sink", at_once_table);
    add_dead_letter();
    rig.pipeline.options.max_in_flight = 200;
    lane_run(&rig.pipeline);
    assert_kept_and_passed();
}

static void a_transform_passes_in_its_flush(void **state)
{
    struct fms_plugin table = {.transform = keeping_transform, .transform_flush = keeping_flush};

    (void)state;
    add_source(100);
    add_transform(0, "transform first", table);
    add_transform(1, "transform second", table);
    add_sink(0, "sink", at_once_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(transforms[0].flushes, 1);
    assert_int_equal(transforms[1].flushes, 1);
    assert_kept_and_passed();
}

static void a_transform_that_keeps_after_its_flush_is_named(void **state)
{
    struct fms_plugin table = {.transform = keeping_transform};

    (void)state;
    add_source(10);
    add_transform(0, "transform", table);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_said("plugin transform breaks a rule: it still keeps 10 records after transform_flush");
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(rig.pipeline.left, 10);
}

static void keeping_more_than_half_is_named(void **state)
{
    struct fms_plugin table = {.transform = keeping_transform, .transform_flush = keeping_flush};

    (void)state;
    rig.pipeline.options.max_in_flight = 20;
    add_source(100);
    add_transform(0, "transform", table);
    add_sink(0, "sink", at_once_table);
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_said("plugin transform breaks a rule: it keeps 11 records, more than half of max_in_flight = 20");
}

/* Makes number % parameter children of each record and drops it. */
static enum fms_verdict splitting_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    size_t children = (size_t)record->tag[0] % self->parameter;
    struct fms_record draft = *record;

    draft.payload = fms_bytes_of(source_text, self->size);
    draft.tag[0] = 99999; /* not what the children get */
    for (; self->emitted < children; self->emitted++) {
        int error = fms_emit_child(self->host, record, &draft);

        rig_watch();
        if (error == -EAGAIN || error == -EMSGSIZE) { /* the host rejects it */
            self->again++;
            return FMS_AGAIN;
        }
        assert_int_equal(error, 0);
    }
    self->emitted = 0;
    return FMS_DROP;
}

static const struct fms_plugin splitting_table = {.transform = splitting_transform};

static struct transform *add_splitter(size_t i, const char *name, size_t children, size_t size)
{
    struct transform *self = add_transform(i, name, splitting_table);

    self->parameter = children;
    self->size = size;
    return self;
}

/* Number n came n % a times, or n % a * (n % b) times, in the order of the parents. */
static void assert_children(size_t total, size_t a, size_t b)
{
    size_t k = 0;

    for (size_t n = 0; n < total; n++) {
        for (size_t i = 0; i < n % a * (b > 0 ? n % b : 1); i++)
            assert_int_equal(sinks[0].delivered[k++], n);
    }
    assert_int_equal(sinks[0].count, k);
}

static void children_come_in_the_order_of_their_parents(void **state)
{
    (void)state;
    add_source(300);
    add_splitter(0, "transform", 5, 10);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_children(300, 5, 0);
    assert_all_delivered(300);
}

static void children_of_children(void **state)
{
    (void)state;
    add_source(300);
    add_splitter(0, "transform first", 4, 10);
    add_splitter(1, "transform second", 3, 20);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_children(300, 4, 3);
    assert_all_delivered(300);
}

/* A sink that notes whether a parent was told before its last child was delivered. */
static int family_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (source_is_idle() && self->held_count > 0) {
        size_t number = (size_t)self->held[self->held_count - 1]->tag[0];

        self->broken += source.told[number] != 0;
        sink_deliver(self, self->held[--self->held_count]);
    }
    if (self->held_count > 0)
        wait->deadline = 0;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ its vehicles */

static struct fms_template *fleet_name;

static void add_fleet(const char *name)
{
    char error[128] = "";

    fleet_name = template_compile(name, NULL, rig.pipeline.paths, error, sizeof error);
    assert_non_null(fleet_name);
    rig.pipeline.fleet = fleet_new(
        &(struct fleet_options){
            .vehicle = fleet_name, .paths = rig.pipeline.paths, .silent_after = 3600 * FMS_SECOND, .most = 100},
        error, sizeof error);
    assert_non_null(rig.pipeline.fleet);
}

/* So many vehicles with so many records each, and so many records of nobody. */
static void assert_fleet(size_t vehicles, uint64_t each, uint64_t unnamed)
{
    struct fleet_view view;

    assert_true(fleet_look(rig.pipeline.fleet, clock_now(), "", 100, &view));
    assert_int_equal(view.count, vehicles);
    assert_int_equal(view.counts.new, vehicles);
    assert_int_equal(view.counts.unnamed, unnamed);
    for (size_t i = 0; i < view.count; i++)
        assert_int_equal(view.vehicles[i].records, each);
    free(view.vehicles);
    fleet_free(rig.pipeline.fleet);
    rig.pipeline.fleet = NULL;
    template_free(fleet_name);
}

static void a_watched_pipeline_knows_whom_its_records_are_from(void **state)
{
    (void)state;
    rig.pipeline.is_measured = true;
    add_fleet("${key}");
    add_source(700);
    add_splitter(0, "transform", 5, 10); /* whose children are their parents' */
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_children(700, 5, 0);
    assert_fleet(7, 100, 0);
}

static void without_a_watch_nobody_is_noted(void **state)
{
    (void)state;
    add_fleet("${key}");
    add_source(700);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(700);
    assert_fleet(0, 0, 0);
}

static enum fms_verdict naming_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    struct fms_record draft = *record;

    draft.payload = fms_text("{\"id\":\"a\"}");
    return fms_emit_child(self->host, record, &draft) == 0 ? FMS_DROP : FMS_AGAIN;
}

static void a_record_that_names_nobody_may_have_children_that_do(void **state)
{
    (void)state;
    rig.pipeline.is_measured = true;
    add_fleet("${json:id}");
    add_source(50);
    add_transform(0, "transform", (struct fms_plugin){.transform = naming_transform});
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(50);
    assert_fleet(1, 50, 50);
}

static void a_parent_is_settled_with_its_last_child(void **state)
{
    struct fms_plugin table = {.sink_write = sink_write_hold, .sink_poll = family_poll};

    (void)state;
    add_source(40);
    add_splitter(0, "transform", 5, 10);
    add_sink(0, "sink a", table);
    add_sink(1, "sink b", at_once_table);
    lane_run(&rig.pipeline);
    assert_int_equal(sinks[0].broken, 0);
    assert_int_equal(sinks[0].count, 80);
    assert_int_equal(sinks[1].count, 80);
    assert_all_delivered(40);
}

static void rejected_children_make_one_letter(void **state)
{
    (void)state;
    add_source(7);
    add_splitter(0, "transform", 7, 10);
    add_rejecting_sink(0, "sink", 4);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(letter_count, 1);
    assert_string_equal(letters[0].payload, "4"); /* the record as the source emitted it */
    assert_int_equal(sinks[0].count, 0 + 1 + 2 + 3 + 5 + 6);
    assert_all_delivered(7);
}

/* A few kilobytes for families that need most of them. */
static void a_transform_waits_for_room_and_order_is_kept(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(200);
    add_splitter(0, "transform", 10, 300);
    add_sink(0, "sink", when_idle_table);
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again > 10);
    assert_true(rig.most_bytes <= 16 * 1024);
    assert_int_equal(rig.pipeline.counts.rejected, 0);
    assert_int_equal(sinks[0].count, 200 / 10 * 45);
    assert_all_delivered(200);
}

/* The same through two transforms, into a sink that delivers in order, so that the order of all can be seen. */
static void families_of_families_wait_for_room(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(100);
    add_splitter(0, "transform first", 4, 300);
    add_splitter(1, "transform second", 3, 1500);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again + transforms[1].again > 0);
    assert_true(rig.most_bytes <= 16 * 1024);
    assert_int_equal(rig.pipeline.counts.rejected, 0);
    assert_children(100, 4, 3);
    assert_all_delivered(100);
}

/* A child that needs most of the room: the source must not take it away from under the one that waits. */
static enum fms_verdict big_child_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    struct fms_record draft = *record;

    if (record->tag[0] % 50 != 49)
        return FMS_PASS;
    draft.payload = fms_bytes_of(source_text, self->size);
    if (fms_emit_child(self->host, record, &draft) == 0)
        return FMS_DROP;
    self->again++;
    return FMS_AGAIN;
}

static void the_source_leaves_room_to_one_that_waits(void **state)
{
    struct fms_plugin table = {.transform = big_child_transform};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 24 * 1024;
    add_source(500);
    add_transform(0, "transform", table)->size = 12 * 1024; /* its charge is 16 KiB */
    add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again > 0);
    assert_int_equal(letter_count, 0);
    assert_in_order(&sinks[0], 500);
    assert_all_delivered(500);
}

static void a_family_that_can_never_fit_is_rejected(void **state)
{
    struct fms_plugin table = {.transform = big_child_transform};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(500);
    add_transform(0, "transform", table)->size = 20000;
    add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_int_equal(letter_count, 10);
    assert_int_equal(letters[0].number, 49);
    assert_string_equal(letters[0].stage, "transform");
    assert_non_null(strstr(letters[0].reason, "does not fit max_in_flight_bytes = 16384"));
    assert_int_equal(sinks[0].count, 490);
    assert_all_delivered(500);
}

/* One header more than a record may have, of every 50th; what it says of those comes from `parameter`. */
static enum fms_verdict big_headed_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    struct fms_record draft = *record;

    if (record->tag[0] % 50 != 49)
        return FMS_PASS;
    draft.headers = too_many_headers;
    draft.header_count = 1001;
    assert_int_equal(fms_emit_child(self->host, record, &draft), -EMSGSIZE);
    return self->size == 0 ? FMS_AGAIN : fms_reject(self->host, record, "has more than 1000 headers");
}

static void a_child_with_too_many_headers_costs_its_record(void **state)
{
    struct fms_plugin table = {.transform = big_headed_transform};

    for (size_t i = 0; i < 1001; i++)
        too_many_headers[i] = (struct fms_header){"h", fms_text("v")};
    for (size_t rejects = 0; rejects < 2; rejects++) {
        add_source(500);
        add_transform(0, "transform", table)->size = rejects;
        add_sink(0, "sink", slow_table);
        add_dead_letter();
        lane_run(&rig.pipeline);
        assert_false(rig.pipeline.has_failed);
        assert_int_equal(letter_count, 10);
        assert_string_equal(letters[0].stage, "transform");
        assert_non_null(strstr(letters[0].reason, "has more than "));
        assert_int_equal(sinks[0].count, 490);
        assert_all_delivered(500);
        rig_teardown(state);
        rig_setup(state);
    }
}

/* Three children of every 50th record, none of which the next transform can make its own of: each is that one's to lose. */
static enum fms_verdict three_children_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    int error = 0;

    if (record->tag[0] % 50 != 49)
        return FMS_PASS;
    for (; self->emitted < 3 && error == 0; self->emitted += error == 0)
        error = fms_emit_child(self->host, record, record);
    if (error == 0) {
        self->emitted = 0;
        return FMS_DROP;
    }
    assert_int_equal(error, -EAGAIN);
    self->again++;
    return FMS_AGAIN;
}

static void what_waits_further_along_is_no_reason_to_give_up(void **state)
{
    struct fms_plugin three = {.transform = three_children_transform}, big = {.transform = big_child_transform};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(200);
    add_transform(0, "transform first", three);
    add_transform(1, "transform second", big)->size = 20000;
    add_sink(0, "sink", slow_table);
    rig.pipeline.options.on_reject = ON_REJECT_DROP; /* a dead letter would be something to wait for */
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again > 0);
    assert_int_equal(rig.pipeline.counts.rejected, 3 * 4);
    assert_int_equal(rig.pipeline.counts.dropped, 4);
    assert_int_equal(sinks[0].count, 196);
}

/* Three children, of which the second of every 50th record can never fit: it alone is left out, and that rejects the record,
 * but not before the others that are in flight could have made room. */
static enum fms_verdict outsize_child_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    bool is_outsize = record->tag[0] % 50 == 49;

    for (; self->emitted < 3; self->emitted++) {
        struct fms_record draft = *record;
        int error;

        if (is_outsize && self->emitted == 1)
            draft.payload = fms_bytes_of(source_text, 20000);
        error = fms_emit_child(self->host, record, &draft);
        if (error == -EAGAIN) {
            self->again++;
            return FMS_AGAIN;
        }
        assert_int_equal(error, is_outsize && self->emitted == 1 ? -EMSGSIZE : 0);
    }
    self->emitted = 0;
    return is_outsize ? fms_reject(self->host, record, "the second does not fit") : FMS_DROP;
}

static void a_child_that_can_never_fit_is_told_and_costs_only_itself(void **state)
{
    struct fms_plugin table = {.transform = outsize_child_transform};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(500);
    add_transform(0, "transform", table);
    add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again >= 10);
    assert_int_equal(letter_count, 10);
    assert_string_equal(letters[9].reason, "the second does not fit");
    assert_int_equal(sinks[0].count, 3 * 500 - 10);
    assert_all_delivered(500);
}

/* Two transforms of which the second can never go on: what the first has waiting must not wait for ever. */
static void the_second_can_never_fit(void **state)
{
    struct fms_plugin table = {.transform = big_child_transform};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 16 * 1024;
    add_source(100);
    add_splitter(0, "transform first", 60, 600);
    add_transform(1, "transform second", table)->size = 20000;
    add_sink(0, "sink", at_once_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_true(letter_count > 0);
    assert_all_delivered(100);
}

/* What waits when the source ends must be through before the next transform is flushed. */
static enum fms_verdict waiting_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    struct fms_record draft = *record;

    if (record->tag[0] == 0)
        return FMS_PASS; /* and lies in the sink until the source has ended */
    draft.payload = fms_bytes_of(source_text, 40000);
    if (fms_emit_child(self->host, record, &draft) == 0)
        return FMS_DROP;
    self->again++;
    return FMS_AGAIN;
}

static enum fms_verdict keep_children(void *instance, const struct fms_record *record)
{
    return record->payload.size != 40000 ? FMS_PASS : keeping_transform(instance, record);
}

static void flush_comes_after_what_waits(void **state)
{
    struct fms_plugin waiting = {.transform = waiting_transform};
    struct fms_plugin keeping = {.transform = keep_children, .transform_flush = keeping_flush};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 96 * 1024;
    add_source(2);
    source.large_at = 0;
    source.large = 60000;
    add_transform(0, "transform first", waiting);
    add_transform(1, "transform second", keeping);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_true(transforms[0].again > 0);
    assert_int_equal(transforms[1].flushes, 1);
    assert_not_said("breaks a rule");
    assert_in_order(&sinks[0], 2);
    assert_all_delivered(2);
}

static void keeping_more_than_half_of_the_bytes_is_named(void **state)
{
    struct fms_plugin keeping = {.transform = keeping_transform, .transform_flush = keeping_flush};

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 64 * 1024;
    add_source(1);
    source.large_at = 0;
    source.large = 40000;
    add_transform(0, "transform keeps", keeping);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_said("more than half of max_in_flight_bytes = 65536");
    assert_true(rig.pipeline.has_failed);
}

/* -------------------------------------------------------------------------------- transforms that reject, every way */

enum reject_when { REJECT_AT_ONCE, REJECT_KEPT, REJECT_IN_FLUSH, REJECT_WAYS };

/* Each third record, at the time that `parameter` says; others pass. */
static enum fms_verdict rejecting_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;

    if (record->tag[0] % 3 != 1)
        return FMS_PASS;
    if (self->parameter == REJECT_AT_ONCE)
        return fms_reject(self->host, record, "number %d is a third", (int)record->tag[0]);
    self->kept[self->kept_count++] = record;
    fms_wake(self->host);
    return FMS_KEPT;
}

static void reject_kept(void *instance)
{
    struct transform *self = instance;

    while (self->kept_count > 0)
        fms_reject(self->host, self->kept[--self->kept_count], "kept, and a third");
}

static int rejecting_transform_poll(void *instance, struct fms_wait *wait)
{
    struct transform *self = instance;

    (void)wait;
    if (self->parameter == REJECT_KEPT)
        reject_kept(self);
    return 0;
}

static enum fms_verdict passing_transform(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

/* A child that is like its parent. */
static enum fms_verdict copying_transform(void *instance, const struct fms_record *record)
{
    return fms_emit_child(((struct transform *)instance)->host, record, record) == 0 ? FMS_DROP : FMS_AGAIN;
}

static const struct fms_plugin rejecting_transform_table = {
    .transform = rejecting_transform, .transform_poll = rejecting_transform_poll, .transform_flush = reject_kept};

/* What comes of 30 records, of which ten are rejected, behind and before other transforms. */
static void run_rejecting(enum fms_verdict (*first)(void *, const struct fms_record *), size_t when, size_t size,
                          bool has_letters)
{
    struct fms_plugin before = {.transform = first}, after = {.transform = passing_transform};

    rig.pipeline.options.max_in_flight_bytes = 64 << 20;
    add_source(30);
    source.size = size;
    add_transform(0, "transform before", before);
    add_transform(1, "transform", rejecting_transform_table)->parameter = when;
    add_transform(2, "transform after", after);
    add_sink(0, "sink", at_once_table);
    if (has_letters)
        add_dead_letter();
    lane_run(&rig.pipeline);
    assert_not_said("breaks a rule");
    assert_int_equal(sinks[0].count, 20);
    assert_int_equal(source.told_again, 0);
}

/* Sizes that come out of the pool, and those that go back to malloc at once. */
static const size_t rejected_sizes[] = {10, 60000};

static void run_each_way(void **state,
                         void (*run)(enum fms_verdict (*)(void *, const struct fms_record *), size_t, size_t))
{
    for (size_t i = 0; i < 2 * 2 * REJECT_WAYS; i++) {
        run(i % 2 == 0 ? passing_transform : copying_transform, i / 4, rejected_sizes[i / 2 % 2]);
        rig_teardown(state);
        rig_setup(state);
    }
}

static void reject_and_stop(enum fms_verdict (*first)(void *, const struct fms_record *), size_t when, size_t size)
{
    run_rejecting(first, when, size, false);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(rig.pipeline.left, 10);
    assert_int_equal(count_told(FMS_DELIVERED), 20);
    assert_int_equal(source.told[1], 0);
}

static void a_transform_rejects_and_the_pipeline_stops(void **state)
{
    run_each_way(state, reject_and_stop);
}

static void reject_and_drop(enum fms_verdict (*first)(void *, const struct fms_record *), size_t when, size_t size)
{
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    run_rejecting(first, when, size, false);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(rig.pipeline.left, 0);
    assert_int_equal(count_told(FMS_DELIVERED), 20);
    assert_int_equal(count_told(FMS_REJECTED), 10);
    assert_int_equal(source.told[1], FMS_REJECTED);
}

static void a_transform_rejects_and_records_are_dropped(void **state)
{
    run_each_way(state, reject_and_drop);
}

static void reject_to_letters(enum fms_verdict (*first)(void *, const struct fms_record *), size_t when, size_t size)
{
    run_rejecting(first, when, size, true);
    assert_all_delivered(30);
    assert_int_equal(letter_count, 10);
}

static void a_transform_rejects_and_letters_go_out(void **state)
{
    run_each_way(state, reject_to_letters);
}

/* ----------------------------------------------------------------------------------------------------------- misuse */

static void assert_named(const char *name, const char *text)
{
    char whole[256];

    snprintf(whole, sizeof whole, "plugin %s breaks a rule: it %s", name, text);
    assert_said(whole);
    assert_true(rig.pipeline.has_failed);
}

static int settle_twice_at_once(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    sink_write_at_once(instance, records, count);
    fms_delivered(self->host, records[0]);
    return (int)count;
}

static void settling_twice_at_once_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = settle_twice_at_once};

    (void)state;
    add_source(1);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "settled a record twice");
    assert_int_equal(source.told_again, 0);
}

/* Settles the first record again when `parameter` records have been delivered after it. */
static int settle_again_later(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    (void)count;
    if (self->count == 0)
        self->held[0] = records[0];
    else if (self->count > self->parameter && self->retries++ == 0)
        fms_delivered(self->host, self->held[0]);
    sink_deliver(self, records[0]);
    return 1;
}

static void settle_again(size_t later, size_t size)
{
    struct fms_plugin table = {.sink_write = settle_again_later};

    rig.pipeline.options.max_in_flight = 5;
    add_source(200);
    source.size = size;
    add_sink(0, "sink", table)->parameter = later;
    lane_run(&rig.pipeline);
    assert_named("sink", "called a function that settles with a record that was settled before");
    assert_int_equal(source.told_again, 0);
}

static void settling_again_later_is_named(void **state)
{
    (void)state;
    settle_again(1, 0);
}

static void settling_again_much_later_is_named(void **state)
{
    (void)state;
    settle_again(50, 2000);
}

/* A whole pool of records freed at once: the last to be freed has its quarantine too. */
static int settle_last_again(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    (void)wait;
    if (self->held_count > 0 && source_is_idle()) {
        while (self->count < self->held_count)
            sink_deliver(self, self->held[self->count]);
        self->parameter = self->held_count;
        self->held_count = 0;
        wait->deadline = 0;
    } else if (self->parameter > 0) {
        fms_delivered(self->host, self->held[self->parameter - 1]);
        self->parameter = 0;
    } else if (self->count == 0) {
        wait->deadline = 0;
    }
    return 0;
}

static int settle_first_again(struct source *self)
{
    (void)self;
    return sinks[0].count > 0 && sinks[0].parameter == 0 ? FMS_END : 0;
}

static void settling_again_after_many_were_freed_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = sink_write_hold, .sink_poll = settle_last_again};

    (void)state;
    rig.pipeline.options.max_in_flight = 3000;
    rig.pipeline.options.max_in_flight_bytes = 16 << 20;
    add_source(3000);
    source.at_end = settle_first_again;
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "called a function that settles with a record that was settled before");
}

static int take_none(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    (void)count;
    self->held[0] = records[0];
    fms_wake(self->host);
    return 0;
}

static int settle_held(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    (void)wait;
    if (self->held[0] != NULL)
        fms_delivered(self->host, self->held[0]);
    return 0;
}

static void settling_what_was_not_taken_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = take_none, .sink_poll = settle_held};

    (void)state;
    rig.pipeline.options.drain_timeout = 10 * FMS_MS;
    add_source(1);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "settled a record that it has not");
    assert_int_equal(rig.pipeline.left, 1);
}

static int settle_and_not_take(void *instance, const struct fms_record *const *records, size_t count)
{
    sink_write_at_once(instance, records, count);
    return (int)count - 1;
}

static void settling_and_not_taking_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = settle_and_not_take};

    (void)state;
    add_source(10);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "settled a record in sink_write and then said that it had not taken it");
    assert_int_equal(source.told_again, 0);
}

static int take_too_many(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    return (int)count + 1;
}

static void taking_more_than_was_offered_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = take_too_many};

    (void)state;
    add_source(10);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "took 11 of 10 records in sink_write");
    assert_int_equal(rig.pipeline.left, 10);
}

static int write_and_misuse(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    struct fms_record draft = *records[0];
    struct fms_json value;

    if (self->parameter == 0)
        assert_int_not_equal(fms_emit(self->host, &draft), 0);
    else if (self->parameter == 1)
        assert_int_not_equal(fms_pass(self->host, records[0]), 0);
    else if (self->parameter == 2)
        assert_int_not_equal(fms_emit_child(self->host, records[0], &draft), 0);
    else if (self->parameter == 3)
        fms_drain(self->host, 0);
    else if (self->parameter == 4)
        fms_count(self->host, 0, 1);
    else if (self->parameter == 7)
        assert_int_not_equal(fms_emit_rejected(self->host, &draft, "odd"), 0);
    else if (self->parameter == 5)
        assert_int_not_equal(fms_json_path(self->host, "late"), 0);
    else
        assert_int_not_equal(fms_json_get(self->host, records[0], 0, &value), 0);
    return sink_write_at_once(instance, records, count);
}

static void run_sink_misuse(size_t which, const char *text)
{
    struct fms_plugin table = {.sink_write = write_and_misuse};

    add_source(1);
    add_sink(0, "sink", table)->parameter = which;
    lane_run(&rig.pipeline);
    assert_named("sink", text);
}

static void a_sink_that_emits_is_named(void **state)
{
    (void)state;
    run_sink_misuse(0, "called fms_emit, which is not for this role");
}

static void a_sink_that_emits_rejected_is_named(void **state)
{
    (void)state;
    run_sink_misuse(7, "called fms_emit_rejected, which is not for this role");
}

static void a_sink_that_passes_is_named(void **state)
{
    (void)state;
    run_sink_misuse(1, "called fms_pass, which is not for this role");
}

static void a_sink_that_makes_children_is_named(void **state)
{
    (void)state;
    run_sink_misuse(2, "called fms_emit_child, which is not for this role");
}

static void a_sink_that_drains_is_named(void **state)
{
    (void)state;
    run_sink_misuse(3, "called fms_drain, which is not for this role");
}

static void a_counter_that_is_not_in_the_table_is_named(void **state)
{
    (void)state;
    run_sink_misuse(4, "counted counter 0, which is not in its table");
}

static void a_path_that_comes_late_is_named(void **state)
{
    (void)state;
    run_sink_misuse(5, "called fms_json_path after open");
}

static void a_path_that_was_not_given_is_named(void **state)
{
    (void)state;
    run_sink_misuse(6, "called fms_json_get with 0, which fms_json_path has not given");
}

static void *emit_on_a_thread(void *user)
{
    struct source *self = user;
    struct fms_record draft;

    draft_fill(&draft, 0, 0);
    return (void *)(intptr_t)fms_emit(self->host, &draft);
}

static int poll_with_a_thread(void *instance, size_t credit, struct fms_wait *wait)
{
    pthread_t thread;
    void *result;

    (void)credit;
    (void)wait;
    assert_int_equal(pthread_create(&thread, NULL, emit_on_a_thread, instance), 0);
    pthread_join(thread, &result);
    assert_true((intptr_t)result < 0);
    return FMS_END;
}

static void emitting_from_a_foreign_thread_is_named(void **state)
{
    struct fms_plugin table = {.source_poll = poll_with_a_thread};

    (void)state;
    memset(&source, 0, sizeof source);
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_named("source", "called fms_emit from a thread that is not the lane");
    assert_int_equal(rig.pipeline.counts.emitted, 0);
}

static int poll_draining(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)wait;
    (void)credit;
    source_emit(instance);
    return FMS_END;
}

static void settled_and_emit(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    source_settled(instance, record, fate);
    assert_int_equal(source_emit(instance), -ESHUTDOWN);
}

static void emitting_after_the_end_is_named(void **state)
{
    struct fms_plugin table = {.source_poll = poll_draining, .source_settled = settled_and_emit};

    (void)state;
    memset(&source, 0, sizeof source);
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_named("source", "emitted a record after source_poll had returned FMS_END");
    assert_int_equal(rig.pipeline.counts.emitted, 1);
}

static void settled_and_drain(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct source *self = instance;

    source_settled(instance, record, fate);
    fms_drain(self->host, FMS_NEVER);
}

static void draining_outside_source_poll_is_named(void **state)
{
    struct fms_plugin table = source_table;

    (void)state;
    table.source_settled = settled_and_drain;
    memset(&source, 0, sizeof source);
    source.total = 1;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_named("source", "called fms_drain outside of source_poll");
}

enum transform_misuse { WRONG_VERDICT, PASS_AFTER_PASS, PASS_AFTER_REJECT, PASS_TWICE, RETRY, STRANGER };

static enum fms_verdict misusing_transform(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;

    if (record->tag[0] > 0)
        return FMS_PASS;
    switch ((enum transform_misuse)self->parameter) {
    case WRONG_VERDICT:
        return (enum fms_verdict)17;
    case PASS_AFTER_PASS:
        fms_pass(self->host, record);
        return FMS_PASS;
    case PASS_AFTER_REJECT:
        fms_reject(self->host, record, "no");
        return FMS_PASS;
    case PASS_TWICE:
        fms_pass(self->host, record);
        assert_int_not_equal(fms_pass(self->host, record), 0);
        return FMS_KEPT;
    case RETRY:
        return fms_retry(self->host, record, "no");
    default:
        fms_delivered(self->host, record);
        fms_delivered(self->host, record);
        return FMS_KEPT;
    }
}

static void run_transform_misuse(enum transform_misuse which, const char *text)
{
    struct fms_plugin table = {.transform = misusing_transform};

    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    rig.pipeline.options.drain_timeout = 10 * FMS_MS;
    add_source(10);
    add_transform(0, "transform", table)->parameter = which;
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_named("transform", text);
    assert_int_equal(source.told_again, 0);
    assert_true(source.told_count >= 9);
}

static void a_wrong_verdict_is_named(void **state)
{
    (void)state;
    run_transform_misuse(WRONG_VERDICT, "returned 17 from transform, which is no verdict");
    assert_int_equal(rig.pipeline.left, 1);
}

static void passing_after_fms_pass_is_named(void **state)
{
    (void)state;
    run_transform_misuse(PASS_AFTER_PASS, "settled a record and returned 0 for it: return FMS_KEPT");
}

static void passing_after_fms_reject_is_named(void **state)
{
    (void)state;
    run_transform_misuse(PASS_AFTER_REJECT, "settled a record and returned 0 for it: return FMS_KEPT");
}

static void passing_twice_is_named(void **state)
{
    (void)state;
    run_transform_misuse(PASS_TWICE, "called fms_pass with a record that it does not keep, or twice");
}

static void a_transform_that_retries_is_named(void **state)
{
    (void)state;
    run_transform_misuse(RETRY, "asked to retry a record, which is for sinks");
    assert_int_equal(rig.pipeline.left, 1);
}

static void a_transform_that_settles_twice_is_named(void **state)
{
    (void)state;
    run_transform_misuse(STRANGER, "called fms_delivered or fms_reject with a record that it does not keep, or twice");
}

static int poll_malformed(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    struct fms_header header = {NULL, {NULL, 0}};
    struct fms_record draft;

    (void)credit;
    (void)wait;
    draft_fill(&draft, 0, 0);
    if (self->large_at == 0) {
        draft.headers = &header;
    } else if (self->large_at == 1) {
        draft.headers = NULL;
    } else {
        draft.payload = fms_bytes_of(NULL, 5);
    }
    assert_int_equal(fms_emit(self->host, &draft), -EINVAL);
    return FMS_END;
}

static void a_malformed_draft_is_named(void **state)
{
    struct fms_plugin table = {.source_poll = poll_malformed};

    for (size_t i = 0; i < 3; i++) {
        if (i > 0)
            rig_setup(state);
        memset(&source, 0, sizeof source);
        source.large_at = i;
        rig_add(FMS_SOURCE, "source", table, &source);
        add_sink(0, "sink", at_once_table);
        lane_run(&rig.pipeline);
        assert_named("source", "emitted a malformed record");
        assert_int_equal(rig.pipeline.counts.emitted, 0);
        if (i < 2)
            rig_teardown(state);
    }
}

static void *expand_on_a_thread(void *user)
{
    struct sink *self = user;
    struct fms_bytes value;

    return (void *)(intptr_t)fms_expand(self->host, NULL, self->held[0], &value);
}

static int write_and_expand(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    pthread_t thread;
    void *result;

    self->held[0] = records[0];
    assert_int_equal(pthread_create(&thread, NULL, expand_on_a_thread, instance), 0);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, -EPERM);
    return sink_write_at_once(instance, records, count);
}

static void expanding_on_a_foreign_thread_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = write_and_expand};

    (void)state;
    add_source(1);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "called fms_expand from a thread that is not the lane");
}

static void retrying_on_a_foreign_thread_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = write_and_retry_elsewhere};

    (void)state;
    add_source(10);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "called fms_retry from a thread that is not the lane (leave it to a poll, with fms_wake)");
    assert_int_equal(count_told(FMS_DELIVERED), 10); /* it was offered again all the same */
}

static int write_and_look(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    struct fms_json value;

    assert_int_equal(fms_json_get(self->host, records[0], 1, &value), -EBADMSG); /* the payload is "0" */
    assert_int_equal(value.type, FMS_JSON_MISSING);
    assert_memory_equal(value.text.data, "{ or [ expected at byte 0", value.text.size);
    return sink_write_at_once(instance, records, count);
}

static void fields_of_a_payload(void **state)
{
    struct fms_plugin table = {.sink_write = write_and_look};
    const struct fms_host *host = &add_source(1)->host;

    (void)state;
    add_sink(0, "sink", table);
    rig.pipeline.source->is_open = false; /* as in its open */
    assert_int_equal(fms_json_path(host, "speed"), 0);
    assert_int_equal(fms_json_path(host, ""), 1);
    assert_int_equal(fms_json_path(host, "a..b"), -EINVAL);
    rig.pipeline.source->is_open = true;
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(count_told(FMS_DELIVERED), 1);
}

static struct fms_template *speed_text;

/* A source that looks into what it is about to emit, in memory of just that size. */
static int poll_and_look(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    struct fms_record *draft = malloc(sizeof *draft);
    struct fms_bytes text;
    struct fms_json value;

    (void)credit;
    (void)wait;
    draft_fill(draft, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        draft->payload = fms_text(i == 1 ? "{}" : "{\"speed\":96.60}");
        assert_int_equal(fms_expand(self->host, speed_text, draft, &text), i == 1 ? -ENOENT : 0);
        assert_string_equal(text.data, i == 1 ? "no field \"speed\" in the payload" : "96.60");
        assert_int_equal(fms_json_get(self->host, draft, 0, &value), 0);
        assert_int_equal(value.type, i == 1 ? FMS_JSON_MISSING : FMS_JSON_NUMBER);
    }
    assert_int_equal(fms_emit(self->host, draft), 0);
    self->next = 1;
    free(draft);
    return FMS_END;
}

/* A transform that looks into what it is about to make of a record, and at the record behind that. */
static enum fms_verdict look_and_change(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;
    struct fms_record draft = *record;
    struct fms_bytes text;

    draft.payload = fms_text("{\"speed\":1}");
    assert_int_equal(fms_expand(self->host, speed_text, &draft, &text), 0);
    assert_string_equal(text.data, "1");
    assert_int_equal(fms_expand(self->host, speed_text, record, &text), 0);
    assert_string_equal(text.data, "96.60");
    return fms_emit_child(self->host, record, &draft) == 0 ? FMS_DROP : FMS_AGAIN;
}

static int write_and_expand_speed(void *instance, const struct fms_record *const *records, size_t count)
{
    struct fms_bytes text;

    assert_int_equal(fms_expand(((struct sink *)instance)->host, speed_text, records[0], &text), 0);
    assert_string_equal(text.data, "1");
    return sink_write_at_once(instance, records, count);
}

static void fields_of_drafts(void **state)
{
    struct fms_plugin table = source_table, transform = {.transform = look_and_change},
                      sink = {.sink_write = write_and_expand_speed};
    char error[100];

    (void)state;
    speed_text = template_compile("${json:speed}", NULL, rig.pipeline.paths, error, sizeof error);
    table.source_poll = poll_and_look;
    memset(&source, 0, sizeof source);
    rig_add(FMS_SOURCE, "source", table, &source);
    add_transform(0, "transform", transform);
    add_sink(0, "sink", sink);
    lane_run(&rig.pipeline);
    template_free(speed_text);
    assert_all_delivered(1);
}

static int settle_a_draft(void *instance, const struct fms_record *const *records, size_t count)
{
    struct fms_record *draft = malloc(sizeof *draft);

    *draft = *records[0];
    fms_delivered(((struct sink *)instance)->host, draft);
    free(draft);
    return sink_write_at_once(instance, records, count);
}

static void settling_a_draft_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = settle_a_draft};

    (void)state;
    add_source(1);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_named("sink", "called a function that settles with a record that the host did not make");
}

/* What is found out in the very last turn counts too: see settling_twice_at_once_is_named. A sink that settles nothing
 * is named when the time is over. */
static int stop_at_end(struct source *self)
{
    if (self->has_stopped)
        return FMS_END;
    pipeline_stop(&rig.pipeline);
    return 0;
}

static void what_is_never_settled_is_named(void **state)
{
    struct fms_plugin table = {.sink_write = sink_write_hold};

    (void)state;
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    add_source(7);
    source.at_end = stop_at_end;
    add_sink(0, "sink good", at_once_table);
    add_sink(1, "sink bad", table);
    lane_run(&rig.pipeline);
    assert_int_equal(rig.pipeline.left, 7);
    assert_int_equal(source.told_count, 0);
    assert_false(rig.pipeline.has_failed);
    assert_said("1 sink bad: ");
    assert_said("drain_timeout = 0.0 s");
    assert_not_said("1 sink good: ");
}

/* ---------------------------------------------------------------------------------------------------------- threads */

struct threaded {
    const struct fms_host *host;
    pthread_t threads[2];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const struct fms_record *held[MOST];
    size_t count, settled;
    uint64_t random;
    bool is_waiting, is_ending; /* is_waiting: until threaded_begin */
};

static struct threaded threaded;

/* Settles what it finds, in random order. */
static void *settling_thread(void *user)
{
    struct threaded *self = user;

    pthread_mutex_lock(&self->lock);
    for (;;) {
        const struct fms_record *record;
        size_t i;

        while ((self->count == 0 || self->is_waiting) && !self->is_ending)
            pthread_cond_wait(&self->changed, &self->lock);
        if (self->count == 0)
            break;
        self->random = self->random * 6364136223846793005u + 1442695040888963407u;
        i = (size_t)(self->random >> 33) % self->count;
        record = self->held[i];
        self->held[i] = self->held[--self->count];
        self->settled++;
        pthread_mutex_unlock(&self->lock);
        fms_delivered(self->host, record);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static int threaded_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct threaded *self = instance;

    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < count; i++)
        self->held[self->count++] = records[i];
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return (int)count;
}

static void threaded_start(struct threaded *self, void *(*run)(void *))
{
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&self->threads[i], NULL, run, self), 0);
}

static void threaded_begin(struct threaded *self)
{
    pthread_mutex_lock(&self->lock);
    self->is_waiting = false;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void threaded_join(struct threaded *self)
{
    pthread_mutex_lock(&self->lock);
    self->is_ending = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    for (size_t i = 0; i < 2; i++)
        pthread_join(self->threads[i], NULL);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
}

static void a_sink_settles_from_threads_of_its_own(void **state)
{
    struct fms_plugin table = {.sink_write = threaded_write};

    (void)state;
    memset(&threaded, 0, sizeof threaded);
    rig.pipeline.options.max_in_flight = 500;
    add_source(MOST);
    rig_add(FMS_SINK, "sink", table, &threaded);
    threaded_start(&threaded, settling_thread);
    lane_run(&rig.pipeline);
    threaded_join(&threaded);
    assert_int_equal(threaded.settled, MOST);
    assert_all_delivered(MOST);
}

/* A source whose library has a thread: it enters the lane with each record, and waits when there was no room. */
struct callback {
    struct source source; /* first */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool may_emit, is_done;
    size_t refused;
};

static struct callback callback;

static void callback_wait(struct callback *self)
{
    pthread_mutex_lock(&self->lock);
    while (!self->may_emit)
        pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
}

static void *callback_thread(void *user)
{
    struct callback *self = user;

    while (self->source.next < self->source.total) {
        callback_wait(self);
        fms_enter(self->source.host);
        if (source_emit(&self->source) == -EAGAIN) {
            self->refused++;
            pthread_mutex_lock(&self->lock);
            self->may_emit = false; /* still within the lane, so before the poll that comes for it */
            pthread_mutex_unlock(&self->lock);
        }
        if (threaded.is_waiting && (self->refused > 0 || self->source.next == self->source.total))
            threaded_begin(&threaded);
        fms_leave(self->source.host);
    }
    pthread_mutex_lock(&self->lock);
    self->is_done = true;
    pthread_mutex_unlock(&self->lock);
    fms_wake(self->source.host);
    return NULL;
}

static int callback_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct callback *self = instance;
    bool is_done;

    (void)wait;
    self->source.polls++;
    pthread_mutex_lock(&self->lock);
    self->may_emit = self->may_emit || credit > 0;
    is_done = self->is_done;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return is_done ? FMS_END : 0;
}

static void run_callback_source(size_t total, struct fms_plugin sink_table, void *sink)
{
    struct fms_plugin table = {.source_poll = callback_poll, .source_settled = source_settled};

    memset(&callback, 0, sizeof callback);
    callback.source.total = total;
    rig.pipeline.options.max_in_flight = 16;
    rig_add(FMS_SOURCE, "source", table, &callback);
    rig_add(FMS_SINK, "sink", sink_table, sink);
    pthread_mutex_init(&callback.lock, NULL);
    pthread_cond_init(&callback.changed, NULL);
    assert_int_equal(pthread_create(&callback.thread, NULL, callback_thread, &callback), 0);
    lane_run(&rig.pipeline);
    pthread_join(callback.thread, NULL);
    pthread_mutex_destroy(&callback.lock);
    pthread_cond_destroy(&callback.changed);
    assert_int_equal(callback.source.told_count, total);
    assert_int_equal(callback.source.told_again, 0);
    assert_int_equal(rig.pipeline.left, 0);
    assert_false(rig.pipeline.has_failed);
    assert_in_range(rig.most_in_flight, 1, 16);
}

static void a_source_emits_from_a_library_s_thread(void **state)
{
    struct fms_plugin table = {.sink_write = threaded_write};

    (void)state;
    memset(&threaded, 0, sizeof threaded);
    threaded.is_waiting = true; /* so that there is a refusal, however the threads are scheduled */
    threaded_start(&threaded, settling_thread);
    run_callback_source(20000, table, &threaded);
    threaded_join(&threaded);
    assert_true(callback.refused > 0);
}

/* What the sink settles in its write is told before fms_leave returns; and the sink's deadline, set in a library's
 * thread, wakes the lane. */
static void the_lane_wakes_for_a_deadline_set_in_a_library_s_thread(void **state)
{
    (void)state;
    memset(&sinks[0], 0, sizeof sinks[0]);
    run_callback_source(2000, slow_table, &sinks[0]);
    assert_int_equal(sinks[0].count, 2000);
}

/* The lane has ended: a late callback finds it closed, and runs nothing. */
static void a_late_callback_finds_the_lane_closed(void **state)
{
    struct sink *sink;
    struct fms_record draft;

    (void)state;
    add_source(10);
    source.at_end = stop_at_end;
    rig.pipeline.options.drain_timeout = 10 * FMS_MS;
    sink = add_sink(0, "sink", when_idle_table);
    sink->host = NULL;
    rig.plugins[1].table.sink_poll = NULL; /* so nothing is settled */
    lane_run(&rig.pipeline);
    assert_int_equal(rig.pipeline.left, 10);
    rig.plugins[1].table.sink_poll = sink_poll_when_idle;
    sink->host = &rig.stages[1].host;
    fms_enter(source.host);
    draft_fill(&draft, 10, 0);
    assert_int_equal(fms_emit(source.host, &draft), -ESHUTDOWN);
    fms_delivered(sink->host, sink->held[0]);
    fms_leave(source.host);
    assert_int_equal(source.told_count, 0);
}

/* ----------------------------------------------------------------------------------------------- draining in a poll */

/* Emits `credit` and drains each time. */
static int draining_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    int result = source_poll(instance, credit > 10 ? 10 : credit, wait);

    assert_int_equal(fms_drain(self->host, fms_now(self->host) + 60 * FMS_SECOND), 0);
    assert_int_equal(self->told_count, self->next);
    if (result == 0)
        wait->deadline = 0;
    return result;
}

static void add_draining_source(size_t total)
{
    struct fms_plugin table = source_table;

    memset(&source, 0, sizeof source);
    source.total = total;
    table.source_poll = draining_poll;
    rig_add(FMS_SOURCE, "source", table, &source);
}

static void a_source_drains_in_its_poll(void **state)
{
    (void)state;
    add_draining_source(200);
    add_sink(0, "sink a", slow_table);
    add_sink(1, "sink b", retrying_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(200);
    assert_in_order(&sinks[1], 200);
}

static void draining_waits_for_a_transform_that_keeps(void **state)
{
    struct fms_plugin table = {
        .transform = keeping_transform, .transform_poll = keeping_poll, .transform_flush = keeping_flush};

    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    add_draining_source(8);
    add_transform(0, "transform", table);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(8);
}

static int drain_poll_hopeless(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    source_poll(instance, credit, wait);
    assert_int_equal(fms_drain(self->host, fms_now(self->host) + 5 * FMS_MS), 3);
    return stop_at_end(self);
}

static void draining_ends_with_its_deadline(void **state)
{
    struct fms_plugin table = source_table, sink = {.sink_write = sink_write_hold};

    (void)state;
    table.source_poll = drain_poll_hopeless;
    rig.pipeline.options.drain_timeout = 10 * FMS_MS;
    memset(&source, 0, sizeof source);
    source.total = 3;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", sink);
    lane_run(&rig.pipeline);
    assert_int_equal(rig.pipeline.left, 3);
}

/* A request to stop that comes while the source drains is not forgotten. */
static int stopping_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->held_count > 0 && ++self->polls == 1)
        pipeline_stop(&rig.pipeline);
    else if (self->polls > 3)
        return sink_poll_slowly(instance, wait);
    if (self->held_count > 0)
        wait->deadline = 0;
    return 0;
}

static int drain_once_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    source_poll(instance, credit, wait);
    fms_drain(self->host, fms_now(self->host) + 60 * FMS_SECOND);
    return self->has_stopped ? FMS_END : 0;
}

static void a_stop_during_a_drain_is_seen(void **state)
{
    struct fms_plugin table = source_table, sink = {.sink_write = sink_write_hold, .sink_poll = stopping_poll};

    (void)state;
    table.source_poll = drain_once_poll;
    memset(&source, 0, sizeof source);
    source.total = 5;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", sink);
    lane_run(&rig.pipeline);
    assert_true(source.has_stopped);
    assert_all_delivered(5);
}

/* And drain_timeout then bounds it. */
static int stop_only_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->held_count == 0)
        wait->deadline = fms_now(self->host) + FMS_MS;
    else if (self->polls++ == 0)
        pipeline_stop(&rig.pipeline);
    return 0;
}

static void drain_timeout_bounds_a_drain(void **state)
{
    struct fms_plugin table = source_table, sink = {.sink_write = sink_write_hold, .sink_poll = stop_only_poll};

    (void)state;
    table.source_poll = drain_once_poll;
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    memset(&source, 0, sizeof source);
    source.total = 5;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", sink);
    lane_run(&rig.pipeline);
    assert_int_equal(rig.pipeline.left, 5);
}

/* ---------------------------------------------------------------------------------------------------------- endings */

/* After source_stop it still emits what was on its way, without a credit. */
static int straggling_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    self->credit = credit;
    self->polls++;
    if (self->next < self->total && !self->has_stopped) {
        if (self->next == 50)
            pipeline_stop(&rig.pipeline);
        for (; credit > 0 && self->next < 50; credit--)
            source_emit(self);
        wait->deadline = 0;
        return 0;
    }
    while (self->next < self->total) {
        if (source_emit(self) != 0) {
            self->large_at++; /* refused */
            return 0;
        }
    }
    return FMS_END;
}

static void run_stragglers(void)
{
    struct fms_plugin table = source_table;

    table.source_poll = straggling_poll;
    memset(&source, 0, sizeof source);
    source.total = 80;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(80);
    assert_in_order(&sinks[0], 80);
}

static void stragglers_are_still_taken(void **state)
{
    (void)state;
    run_stragglers();
}

static void stragglers_that_wait_for_room_are_still_taken(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight = 10;
    run_stragglers();
    assert_true(source.large_at > 0);
}

/* Ends when it knows the fates of all its records, as what acknowledges them does; a straggler comes after the stop. */
static int waiting_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    (void)wait;
    if (!self->has_stopped) {
        for (; credit > 0 && self->next < 50; credit--)
            source_emit(self);
        pipeline_stop(&rig.pipeline);
    } else if (self->next < self->total && self->told_count == self->next) {
        source_emit(self);
    }
    return self->told_count == self->total ? FMS_END : 0;
}

static void waiting_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    source_settled(instance, record, fate);
    fms_wake(((struct source *)instance)->host);
}

/* What a transform keeps for long holds up no source that waits for it before it ends. */
static void what_is_kept_is_flushed_for_a_source_that_waits(void **state)
{
    struct fms_plugin waiting = {
        .source_poll = waiting_poll, .source_settled = waiting_settled, .source_stop = source_stop};
    struct fms_plugin keeping = {.transform = keeping_transform, .transform_flush = keeping_flush};

    (void)state;
    memset(&source, 0, sizeof source);
    source.total = 53;
    rig.pipeline.options.drain_timeout = 86400 * FMS_SECOND;
    rig_add(FMS_SOURCE, "source", waiting, &source);
    add_transform(0, "transform first", keeping);
    add_transform(1, "transform second", keeping);
    add_sink(0, "sink", slow_table);
    add_dead_letter();
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_all_delivered(53);
    assert_int_equal(transforms[0].flushes, 5); /* of fifty, of each straggler, and at the end */
    assert_not_said("drain_timeout");
}

/* A source that acknowledges over a pipe what is settled, and has ended when all is: so it waits for a stuck record. */
static struct {
    struct source source; /* first: its functions serve */
    int pipe[2];
    size_t unsent;
    sem_t is_blocked;
} acking;

static int acking_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    if (!self->has_stopped)
        source_poll(instance, credit, wait);
    while (acking.unsent > 0 && write(acking.pipe[1], "a", 1) == 1)
        acking.unsent--;
    if (acking.unsent > 0) {
        *wait = (struct fms_wait){acking.pipe[1], POLLOUT, FMS_NEVER};
        sem_post(&acking.is_blocked);
        return 0;
    }
    return self->has_stopped && self->told_count == self->next ? FMS_END : 0;
}

static void acking_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    source_settled(instance, record, fate);
    acking.unsent++;
    fms_wake(acking.source.host);
}

/* Begins to read when the source cannot write any more. */
static void *acking_reader(void *user)
{
    char bytes[4096];

    (void)user;
    sem_wait(&acking.is_blocked);
    while (read(acking.pipe[0], bytes, sizeof bytes) > 0)
        continue;
    return NULL;
}

static void run_acking(struct fms_plugin sink_table)
{
    struct fms_plugin table = {
        .source_poll = acking_poll, .source_settled = acking_settled, .source_stop = source_stop};
    pthread_t reader;

    memset(&acking, 0, sizeof acking);
    sem_init(&acking.is_blocked, 0, 0);
    assert_int_equal(pipe2(acking.pipe, O_NONBLOCK), 0);
    while (write(acking.pipe[1], "full", 1) == 1)
        continue;
    assert_int_equal(fcntl(acking.pipe[0], F_SETFL, 0), 0);
    assert_int_equal(pthread_create(&reader, NULL, acking_reader, NULL), 0);
    rig.pipeline.options.drain_timeout = 86400 * FMS_SECOND;
    acking.source.total = 50;
    rig_add(FMS_SOURCE, "source", table, &acking.source);
    add_sink(0, "sink", sink_table)->parameter = 5;
    add_sink(1, "sink slow", slow_table);
    lane_run(&rig.pipeline);
    close(acking.pipe[1]);
    pthread_join(reader, NULL);
    close(acking.pipe[0]);
    sem_destroy(&acking.is_blocked);
    assert_int_equal(acking.unsent, 0);
    assert_int_equal(sinks[1].count, 50);
    assert_not_said("drain_timeout");
}

static void a_source_that_waits_for_a_stuck_record_is_released(void **state)
{
    (void)state;
    run_acking(rejecting_table);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(acking.source.told_count, 43);
    assert_int_equal(rig.pipeline.left, 7);
}

/* Takes 20 records and wants no more. */
static int take_twenty(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    size_t n = count < 20 - self->count ? count : 20 - self->count;

    for (size_t i = 0; i < n; i++)
        sink_deliver(self, records[i]);
    if (self->count == 20)
        fms_finish(self->host);
    return (int)n;
}

static void a_source_that_waits_for_a_finished_sink_is_released(void **state)
{
    struct fms_plugin table = {.sink_write = take_twenty};

    (void)state;
    run_acking(table);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(acking.source.told_count, 20);
}

static int poll_forever(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    if (self->next == self->total)
        pipeline_stop(&rig.pipeline);
    else
        wait->deadline = 0;
    source_poll(instance, credit, wait);
    return 0;
}

static void a_source_that_does_not_end_is_bounded(void **state)
{
    struct fms_plugin table = source_table;

    (void)state;
    table.source_poll = poll_forever;
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    memset(&source, 0, sizeof source);
    source.total = 30;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", at_once_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(30);
    assert_said("1 source: ");
}

static void a_source_without_source_stop_ends_at_once(void **state)
{
    struct fms_plugin table = {.source_poll = source_poll, .source_settled = source_settled};

    (void)state;
    memset(&source, 0, sizeof source);
    source.total = 30;
    source.at_end = stop_at_end;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_all_delivered(30);
    fms_enter(source.host); /* a library's thread of such a source may come late; that is no broken rule */
    assert_int_equal(source_emit(&source), -ESHUTDOWN);
    fms_leave(source.host);
    assert_not_said("breaks a rule");
}

static int finishing_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    for (size_t i = 0; i < count; i++) {
        if (self->count == self->parameter) {
            fms_finish(self->host);
            return (int)i;
        }
        sink_deliver(self, records[i]);
    }
    return (int)count;
}

static struct sink *add_finishing_sink(size_t i, const char *name, size_t after)
{
    struct fms_plugin table = {.sink_write = finishing_write};
    struct sink *sink = add_sink(i, name, table);

    sink->parameter = after;
    return sink;
}

static void a_sink_finishes_the_pipeline(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight = 10;
    add_source(1000);
    add_finishing_sink(0, "sink finishing", 25);
    add_sink(1, "sink slow", slow_table);
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_true(rig.pipeline.is_finished);
    assert_int_equal(sinks[0].count, 25);
    assert_int_equal(source.told_count, 25);
    assert_int_equal(sinks[1].count, source.next);
    assert_int_equal(rig.pipeline.left, source.next - 25);
    assert_true(rig.pipeline.left <= 10);
}

static int finish_when_stopping(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (rig.pipeline.is_finished)
        fms_finish(self->host);
    else
        wait->deadline = 0;
    return 0;
}

static void a_second_sink_may_finish_later(void **state)
{
    struct fms_plugin table = {.sink_write = sink_write_hold, .sink_poll = finish_when_stopping};

    (void)state;
    rig.pipeline.options.drain_timeout = 3600 * FMS_SECOND;
    rig.pipeline.options.max_in_flight = 10;
    add_source(1000);
    add_finishing_sink(0, "sink first", 5);
    add_sink(1, "sink second", table);
    lane_run(&rig.pipeline);
    assert_false(rig.pipeline.has_failed);
    assert_int_equal(source.told_count, 0);
    assert_int_equal(rig.pipeline.left, source.next);
}

/* A sink that has finished while its back-off ran makes nobody spin. */
static int retry_then_finish(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_retry(self->host, records[i], "gone");
    fms_finish(self->host);
    return (int)count;
}

static int settle_after_50ms(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->not_before == 0)
        self->not_before = fms_now(self->host) + 50 * FMS_MS;
    if (fms_now(self->host) >= self->not_before)
        return sink_poll_slowly(instance, wait);
    wait->deadline = self->not_before;
    return 0;
}

static size_t sleeps;

#ifdef __USE_TIME_BITS64 /* 32 bits, and times of 64 */
#define __real_ppoll __real___ppoll64
#define __wrap_ppoll __wrap___ppoll64
#endif

int __real_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);

int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    sleeps++;
    return __real_ppoll(fds, n, timeout, mask);
}

/* What it becomes by _FORTIFY_SOURCE. */
int __wrap___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size);
int __wrap___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size)
{
    assert_true(n * sizeof *fds <= size);
    return __wrap_ppoll(fds, n, timeout, mask);
}

static void a_finished_sink_makes_nobody_spin(void **state)
{
    struct fms_plugin finishing = {.sink_write = retry_then_finish};
    struct fms_plugin late = {.sink_write = sink_write_hold, .sink_poll = settle_after_50ms};

    (void)state;
    sleeps = 0;
    add_source(5);
    add_sink(0, "sink finishing", finishing);
    add_sink(1, "sink late", late);
    lane_run(&rig.pipeline);
    assert_int_equal(sinks[1].count, 5);
    assert_in_range(sleeps, 1, 50); /* for 50 ms; it would be thousands */
}

/* --------------------------------------------------------------------------------------- room in sinks, descriptors */

static int take_one_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    (void)count;
    self->broken += self->held_count > 0;
    sink_write_hold(instance, records, 1);
    return 1;
}

static void a_sink_takes_one_at_a_time(void **state)
{
    struct fms_plugin one = {.sink_write = take_one_write, .sink_poll = sink_poll_slowly};

    (void)state;
    add_source(500);
    add_sink(0, "sink", one);
    lane_run(&rig.pipeline);
    assert_in_order(&sinks[0], 500);
    assert_all_delivered(500);
}

/* Takes nothing until another thread has called fms_wake; then one, which it settles. */
static int take_when_woken(void *instance, const struct fms_record *const *records, size_t count)
{
    struct threaded *self = instance;
    bool may;

    (void)count;
    pthread_mutex_lock(&self->lock);
    may = self->count > 0;
    self->count = 0;
    self->settled += may;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    if (may)
        fms_delivered(self->host, records[0]);
    return may;
}

static void *waking_thread(void *user)
{
    struct threaded *self = user;

    pthread_mutex_lock(&self->lock);
    while (!self->is_ending) {
        if (self->count == 0) {
            self->count = 1;
            pthread_mutex_unlock(&self->lock);
            fms_wake(self->host);
            pthread_mutex_lock(&self->lock);
        } else {
            pthread_cond_wait(&self->changed, &self->lock);
        }
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static void a_sink_takes_when_woken(void **state)
{
    struct fms_plugin table = {.sink_write = take_when_woken};

    (void)state;
    memset(&threaded, 0, sizeof threaded);
    add_source(20000);
    rig_add(FMS_SINK, "sink", table, &threaded);
    threaded_start(&threaded, waking_thread);
    lane_run(&rig.pipeline);
    threaded_join(&threaded);
    assert_all_delivered(20000);
}

static int event_fd, timer_fd;

static int event_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    uint64_t value;

    self->polls++;
    *wait = (struct fms_wait){event_fd, POLLIN, FMS_NEVER};
    if (read(event_fd, &value, sizeof value) != sizeof value)
        return 0;
    assert_true(credit > 0);
    source_emit(self);
    return self->next == self->total ? FMS_END : 0;
}

/* Settles what it holds when its timer has run off, and lets the source go on. */
static int timer_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;
    struct itimerspec soon = {{0, 0}, {0, 200000}};
    uint64_t one = 1, value;

    self->polls++;
    *wait = (struct fms_wait){timer_fd, POLLIN, FMS_NEVER};
    if (read(timer_fd, &value, sizeof value) == sizeof value) {
        sink_poll_slowly(instance, wait);
        assert_int_equal(write(event_fd, &one, sizeof one), sizeof one);
    }
    if (self->held_count > 0)
        timerfd_settime(timer_fd, 0, &soon, NULL);
    return 0;
}

static void descriptors_are_honoured(void **state)
{
    struct fms_plugin source_with_fd = source_table, sink = {.sink_write = sink_write_hold, .sink_poll = timer_poll};
    uint64_t one = 1;

    (void)state;
    event_fd = eventfd(0, EFD_NONBLOCK);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    source_with_fd.source_poll = event_poll;
    memset(&source, 0, sizeof source);
    source.total = 50;
    rig_add(FMS_SOURCE, "source", source_with_fd, &source);
    add_sink(0, "sink", sink);
    assert_int_equal(write(event_fd, &one, sizeof one), sizeof one);
    lane_run(&rig.pipeline);
    close(event_fd);
    close(timer_fd);
    assert_all_delivered(50);
    assert_in_order(&sinks[0], 50);
    assert_in_range(source.polls, 50, 52);
    assert_in_range(sinks[0].polls, 100, 152);
}

/* Blocked for room the source is polled on, with credit 0, as it asks for. */
static int counting_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;

    self->large_at += credit == 0;
    wait->deadline = fms_now(self->host) + FMS_MS / 10;
    return source_poll(instance, credit, wait);
}

static int settle_when_polled_ten_times(void *instance, struct fms_wait *wait)
{
    if (source.large_at < 10 && !rig.pipeline.source->has_ended)
        wait->deadline = fms_now(((struct sink *)instance)->host) + FMS_MS / 10;
    else
        return sink_poll_slowly(instance, wait);
    return 0;
}

static void a_blocked_source_is_polled_without_credit(void **state)
{
    struct fms_plugin table = source_table;
    struct fms_plugin sink = {.sink_write = sink_write_hold, .sink_poll = settle_when_polled_ten_times};

    (void)state;
    rig.pipeline.options.max_in_flight = 4;
    table.source_poll = counting_poll;
    memset(&source, 0, sizeof source);
    source.total = 20;
    rig_add(FMS_SOURCE, "source", table, &source);
    add_sink(0, "sink", sink);
    lane_run(&rig.pipeline);
    assert_true(source.large_at >= 10);
    assert_all_delivered(20);
}

/* --------------------------------------------------------------------------------------------------------- failures */

static int fail_at_end(struct source *self)
{
    (void)self;
    return -EIO;
}

static void a_source_fails_after_others_have_drained(void **state)
{
    (void)state;
    add_source(20);
    source.at_end = fail_at_end;
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_int_equal(sinks[0].count, 20);
    assert_int_equal(source.told_count, 20);
    assert_int_equal(rig.pipeline.left, 0);
}

/* Delivers five and then fails, in one write. */
static int deliver_and_fail(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    for (size_t i = 0; i < count && self->count < 5; i++)
        sink_deliver(self, records[i]);
    return -EIO;
}

static void a_sink_s_write_fails(void **state)
{
    struct fms_plugin table = {.sink_write = deliver_and_fail};

    (void)state;
    add_source(20);
    add_sink(0, "sink failing", table);
    add_sink(1, "sink slow", slow_table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_in_order(&sinks[1], 20);
    assert_int_equal(source.told_count, 5);
    assert_int_equal(rig.pipeline.left, 15);
    assert_not_said("breaks a rule");
    assert_said("failed: Input/output error; the pipeline stops");
}

static int tell_and_fail(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;

    (void)records, (void)count;
    return fms_fail(self->host, -ENOENT, "there is no offset");
}

/* The errno's words would only mislead. */
static void a_sink_s_write_fails_and_says_why(void **state)
{
    struct fms_plugin table = {.sink_write = tell_and_fail};

    (void)state;
    add_source(20);
    add_sink(0, "sink failing", table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_said("there is no offset");
    assert_said("failed; the pipeline stops");
    assert_not_said("No such file");
}

static int fail_with_two_held(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    (void)wait;
    return self->held_count > 2 ? -EIO : 0;
}

static void a_sink_s_poll_fails(void **state)
{
    struct fms_plugin table = {.sink_write = sink_write_hold, .sink_poll = fail_with_two_held};

    (void)state;
    add_source(20);
    add_sink(0, "sink failing", table);
    add_sink(1, "sink slow", slow_table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_in_order(&sinks[1], 20);
    assert_int_equal(rig.pipeline.left, 20);
}

static int end_when_stopped(struct source *self)
{
    return self->has_stopped ? FMS_END : 0;
}

static int failing_transform_poll(void *instance, struct fms_wait *wait)
{
    struct transform *self = instance;

    (void)wait;
    return self->kept_count > 0 ? -EIO : 0;
}

static void a_transform_s_poll_fails(void **state)
{
    struct fms_plugin table = {
        .transform = keeping_transform, .transform_poll = failing_transform_poll, .transform_flush = keeping_flush};

    (void)state;
    add_source(8);
    source.at_end = end_when_stopped;
    add_transform(0, "transform", table);
    add_sink(0, "sink", slow_table);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_in_order(&sinks[0], 8);
    assert_int_equal(rig.pipeline.left, 0);
}

/* ----------------------------------------------------------------------------------------------------------- others */

/* What another thread sees of the lane while it runs, until it has ended. */
static struct onlooker {
    _Atomic bool has_ended;
    _Atomic size_t fresh, most_in_flight, broken;
} onlooker;

static void *look_on(void *unused)
{
    struct pipeline_view now = {0};
    uint64_t emitted = 0;

    while (!onlooker.has_ended) {
        bool is_fresh = snapshot_read(&rig.pipeline, &now, 60 * FMS_SECOND);

        if (!is_fresh)
            continue; /* it has not begun, or has just ended */
        onlooker.broken += now.counts.emitted < emitted || now.counts.emitted < now.counts.delivered ||
                           now.in_flight != now.counts.emitted - now.counts.delivered;
        emitted = now.counts.emitted;
        if (now.in_flight > onlooker.most_in_flight)
            onlooker.most_in_flight = now.in_flight;
        onlooker.fresh++;
    }
    view_forget(&now);
    return unused;
}

/* Emits the last record when somebody has looked often enough. */
static int source_poll_looked_at(void *instance, size_t credit, struct fms_wait *wait)
{
    struct source *self = instance;
    size_t left = self->total - self->next;

    wait->deadline = 0;
    if (left == 1 && onlooker.fresh < 10)
        return 0;
    return source_poll(instance, credit > 1 && left > 1 ? 1 : credit, wait);
}

static size_t measured;

static void count_measured(void *instance)
{
    (void)instance;
    measured++;
}

static void anybody_sees_what_is_now(void **state)
{
    struct fms_plugin table = slow_table;
    struct pipeline_view end = {0};
    pthread_t threads[4];

    (void)state;
    memset(&onlooker, 0, sizeof onlooker);
    measured = 0;
    add_source(500);
    rig.plugins[0].table.source_poll = source_poll_looked_at;
    table.measure = count_measured;
    add_sink(0, "sink", table);
    pipeline_measure(&rig.pipeline);
    assert_int_equal(snapshot_init(&rig.pipeline), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_on, NULL), 0);
    lane_run(&rig.pipeline);
    onlooker.has_ended = true;
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(onlooker.broken, 0);
    assert_true(onlooker.fresh >= 10);
    assert_true(onlooker.most_in_flight <= 500);
    assert_true((measured + 1) * 4 >=
                onlooker.fresh); /* before each look but the lane's first; one may serve all four */
    assert_false(snapshot_read(&rig.pipeline, &end, FMS_NEVER));
    assert_int_equal(end.state, PIPELINE_ENDED);
    assert_int_equal(end.counts.delivered, 500);
    assert_int_equal(end.stage_count, 2);
    assert_string_equal(end.stages[1].name, "sink");
    view_forget(&end);
    assert_all_delivered(500);
}

static void *look_once(void *to)
{
    return snapshot_read(&rig.pipeline, to, 10 * FMS_MS) ? to : NULL;
}

static void where_nobody_looks_nothing_is_measured(void **state)
{
    struct fms_plugin table = slow_table;

    (void)state;
    measured = 0;
    table.measure = count_measured;
    add_source(500);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_int_equal(measured, 0);
    assert_all_delivered(500);
}

/* Its lane answers nobody while a plugin holds it: what was seen last is all there is, and is said to be old. */
static int sink_write_looked_at(void *instance, const struct fms_record *const *records, size_t count)
{
    static struct pipeline_view now;

    if (((struct sink *)instance)->count == 0) {
        pthread_t thread;
        void *result;

        assert_int_equal(pthread_create(&thread, NULL, look_once, &now), 0);
        pthread_join(thread, &result);
        assert_null(result);
        assert_int_equal(now.state, PIPELINE_RUNNING);
        assert_int_equal(now.counts.emitted, 0);
        view_forget(&now);
    }
    return sink_write_at_once(instance, records, count);
}

static void a_lane_that_is_held_is_seen_as_it_was(void **state)
{
    static const struct fms_plugin table = {.sink_write = sink_write_looked_at};

    (void)state;
    add_source(10);
    add_sink(0, "sink", table);
    lane_run(&rig.pipeline);
    assert_all_delivered(10);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        CASE(all_are_delivered_in_order),
        CASE(nothing_emitted_ends),
        CASE(max_in_flight_is_reached_and_not_passed),
        CASE(max_in_flight_of_one),
        CASE(max_in_flight_bytes_is_reached_and_not_passed),
        CASE(a_large_record_waits_for_its_room),
        CASE(a_record_larger_than_the_bound_is_rejected),
        CASE(a_too_large_record_at_the_bound_waits_no_longer_than_others),
        CASE(retries_keep_order),
        CASE(back_off_grows_to_retry_max),
        CASE(nothing_is_offered_behind_a_retry),
        CASE(retrying_on_a_foreign_thread_is_named),
        CASE(each_sink_has_a_cursor_of_its_own),
        CASE(two_sinks_that_reject_make_two_letters),
        CASE(a_record_with_all_headers_becomes_a_letter),
        CASE(on_reject_stop_leaves_that_record_alone),
        CASE(on_reject_stop_with_several_sinks_loses_nothing),
        CASE(on_reject_drop_tells_the_source),
        CASE(a_rejected_letter_stops),
        CASE(a_rejected_letter_is_dropped),
        CASE(a_source_s_odd_messages_become_letters),
        CASE(odd_messages_use_credit_and_room),
        CASE(odd_messages_are_dropped_where_on_reject_says),
        CASE(an_odd_message_stops_where_on_reject_says),
        CASE(headers_near_the_bound_cost_only_themselves),
        CASE(headers_above_the_bound_are_left_out),
        CASE(a_topic_above_the_bound_is_cut),
        CASE(too_many_headers_are_left_out),
        CASE(too_many_headers_cost_their_record),
        CASE(a_letter_s_headers_are_replaced),
        CASE(a_refused_letter_goes_again_bare),
        CASE(a_bare_letter_is_no_larger),
        CASE(a_bare_letter_that_is_refused_goes_nowhere),
        CASE(a_transform_passes_drops_and_rejects),
        CASE(a_transform_passes_later),
        CASE(a_transform_passes_in_its_flush),
        CASE(a_transform_that_keeps_after_its_flush_is_named),
        CASE(keeping_more_than_half_is_named),
        CASE(children_come_in_the_order_of_their_parents),
        CASE(children_of_children),
        CASE(a_watched_pipeline_knows_whom_its_records_are_from),
        CASE(without_a_watch_nobody_is_noted),
        CASE(a_record_that_names_nobody_may_have_children_that_do),
        CASE(a_parent_is_settled_with_its_last_child),
        CASE(rejected_children_make_one_letter),
        CASE(a_transform_waits_for_room_and_order_is_kept),
        CASE(families_of_families_wait_for_room),
        CASE(the_source_leaves_room_to_one_that_waits),
        CASE(a_family_that_can_never_fit_is_rejected),
        CASE(a_child_with_too_many_headers_costs_its_record),
        CASE(a_child_that_can_never_fit_is_told_and_costs_only_itself),
        CASE(what_waits_further_along_is_no_reason_to_give_up),
        CASE(the_second_can_never_fit),
        CASE(flush_comes_after_what_waits),
        CASE(keeping_more_than_half_of_the_bytes_is_named),
        CASE(a_transform_rejects_and_the_pipeline_stops),
        CASE(a_transform_rejects_and_records_are_dropped),
        CASE(a_transform_rejects_and_letters_go_out),
        CASE(settling_twice_at_once_is_named),
        CASE(settling_again_later_is_named),
        CASE(settling_again_much_later_is_named),
        CASE(settling_again_after_many_were_freed_is_named),
        CASE(settling_what_was_not_taken_is_named),
        CASE(settling_and_not_taking_is_named),
        CASE(taking_more_than_was_offered_is_named),
        CASE(a_sink_that_emits_is_named),
        CASE(a_sink_that_emits_rejected_is_named),
        CASE(a_sink_that_passes_is_named),
        CASE(a_sink_that_makes_children_is_named),
        CASE(a_sink_that_drains_is_named),
        CASE(a_counter_that_is_not_in_the_table_is_named),
        CASE(emitting_from_a_foreign_thread_is_named),
        CASE(emitting_after_the_end_is_named),
        CASE(draining_outside_source_poll_is_named),
        CASE(a_wrong_verdict_is_named),
        CASE(passing_after_fms_pass_is_named),
        CASE(passing_after_fms_reject_is_named),
        CASE(passing_twice_is_named),
        CASE(a_transform_that_retries_is_named),
        CASE(a_transform_that_settles_twice_is_named),
        CASE(a_malformed_draft_is_named),
        CASE(expanding_on_a_foreign_thread_is_named),
        CASE(fields_of_a_payload),
        CASE(fields_of_drafts),
        CASE(settling_a_draft_is_named),
        CASE(a_path_that_comes_late_is_named),
        CASE(a_path_that_was_not_given_is_named),
        CASE(what_is_never_settled_is_named),
        CASE(anybody_sees_what_is_now),
        CASE(where_nobody_looks_nothing_is_measured),
        CASE(a_lane_that_is_held_is_seen_as_it_was),
        CASE(a_sink_settles_from_threads_of_its_own),
        CASE(a_source_emits_from_a_library_s_thread),
        CASE(the_lane_wakes_for_a_deadline_set_in_a_library_s_thread),
        CASE(a_late_callback_finds_the_lane_closed),
        CASE(a_source_drains_in_its_poll),
        CASE(draining_waits_for_a_transform_that_keeps),
        CASE(draining_ends_with_its_deadline),
        CASE(a_stop_during_a_drain_is_seen),
        CASE(drain_timeout_bounds_a_drain),
        CASE(what_is_kept_is_flushed_for_a_source_that_waits),
        CASE(stragglers_are_still_taken),
        CASE(stragglers_that_wait_for_room_are_still_taken),
        CASE(a_source_that_waits_for_a_stuck_record_is_released),
        CASE(a_source_that_waits_for_a_finished_sink_is_released),
        CASE(a_source_that_does_not_end_is_bounded),
        CASE(a_source_without_source_stop_ends_at_once),
        CASE(a_sink_finishes_the_pipeline),
        CASE(a_second_sink_may_finish_later),
        CASE(a_finished_sink_makes_nobody_spin),
        CASE(a_sink_takes_one_at_a_time),
        CASE(a_sink_takes_when_woken),
        CASE(descriptors_are_honoured),
        CASE(a_blocked_source_is_polled_without_credit),
        CASE(a_source_fails_after_others_have_drained),
        CASE(a_sink_s_write_fails),
        CASE(a_sink_s_write_fails_and_says_why),
        CASE(a_sink_s_poll_fails),
        CASE(a_transform_s_poll_fails),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
