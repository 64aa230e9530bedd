/* test_view.c - what a pipeline shows of itself, number by number: a lane with stages from the test itself, on a clock that stands
 * until somebody moves it, so that each time is known. The lane moves it by itself to the next deadline. */
#include "host.h"
#include "lane.h"
#include "settle.h"
#include "snapshot.h"
#include "template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"
#include "log.h"

#define BEGIN    (100 * FMS_SECOND)
#define REALTIME INT64_C(1700000000000000000)

/* ---------------------------------------------------------------------------------------------------------- the rig */

static struct {
    struct pipeline pipeline;
    struct stage stages[5];
    struct plugin plugins[5];
    struct pipeline_view view;
} rig;

static void ignore_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user, (void)level, (void)pipeline, (void)stage, (void)text;
}

static int rig_setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    clock_set(BEGIN, REALTIME);
    rig.pipeline.options = (struct pipeline_options){.name = "rig",
                                                     .max_in_flight = 1000,
                                                     .max_in_flight_bytes = 1 << 20,
                                                     .drain_timeout = 60 * FMS_SECOND,
                                                     .retry_min = 10 * FMS_MS,
                                                     .retry_max = 10 * FMS_MS};
    rig.pipeline.paths = json_paths_new();
    log_redirect(ignore_log, NULL);
    return pipeline_init(&rig.pipeline);
}

static int rig_teardown(void **state)
{
    (void)state;
    settle_abandon(&rig.pipeline);
    view_forget(&rig.view);
    for (size_t i = 0; i < rig.pipeline.stage_count; i++)
        measures_free(&rig.stages[i].measures);
    pipeline_destroy(&rig.pipeline);
    json_paths_free(rig.pipeline.paths);
    log_redirect(NULL, NULL);
    return 0;
}

/* Each instance begins with the host's address. */
static void rig_add(enum fms_role role, const char *name, struct fms_plugin table, void *instance)
{
    struct pipeline *pipeline = &rig.pipeline;
    struct stage *stage = &rig.stages[pipeline->stage_count];
    struct plugin *plugin = &rig.plugins[pipeline->stage_count];

    table.name = name;
    plugin->table = table;
    *stage = (struct stage){
        .pipeline = pipeline, .plugin = plugin, .name = (char *)(uintptr_t)name, .instance = instance, .is_open = true};
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    assert_int_equal(measures_init(&stage->measures, &plugin->table), 0);
    pipeline_add(pipeline, stage, role);
    host_fill(stage, role);
    *(const struct fms_host **)instance = &stage->host;
}

/* As it is now; on the lane, too. */
static const struct pipeline_view *look(void)
{
    snapshot_take(&rig.pipeline);
    snapshot_read(&rig.pipeline, &rig.view, 0);
    return &rig.view;
}

/* Runs to the end, watched. */
static const struct pipeline_view *run(void)
{
    pipeline_measure(&rig.pipeline);
    assert_int_equal(snapshot_init(&rig.pipeline), 0);
    lane_run(&rig.pipeline);
    assert_false(snapshot_read(&rig.pipeline, &rig.view, 0)); /* for it runs no more */
    assert_int_equal(rig.view.state, PIPELINE_ENDED);
    return &rig.view;
}

/* By name: a view has the order of a record's way. */
static const struct stage_view *stage_of(const struct pipeline_view *view, const char *name)
{
    for (size_t i = 0; i < view->stage_count; i++) {
        if (strcmp(view->stages[i].name, name) == 0)
            return &view->stages[i];
    }
    fail_msg("no stage \"%s\"", name);
    return NULL;
}

/* `n` observations, all of that duration. */
static void assert_all(const struct histogram_view *histogram, uint64_t n, int64_t duration)
{
    struct histogram_view expected = {.sum = 0};

    histogram_view_add(&expected, duration, n);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        assert_int_equal(histogram->counts[i], expected.counts[i]);
    assert_true(histogram->sum == (double)n * (double)duration);
}

/* ------------------------------------------------------------------------------------------------------- the stages */

/* Emits `total` records of `size` bytes at once, the numbers of which are their tags; the odd ones it rejects itself. */
static struct source {
    const struct fms_host *host;
    size_t total, next, size;
    int64_t timestamp;
    bool rejects_odd;
} source;

static int source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    static char payload[64];
    struct source *self = instance;
    struct fms_record draft = {
        .topic = fms_text("a"), .payload = fms_bytes_of(payload, self->size), .timestamp = self->timestamp};

    (void)wait;
    for (; credit > 0 && self->next < self->total; credit--) {
        bool is_odd = self->rejects_odd && self->next % 2 == 1;

        draft.tag[0] = self->next;
        if ((is_odd ? fms_emit_rejected(self->host, &draft, "odd") : fms_emit(self->host, &draft)) != 0)
            return 0;
        self->next++;
    }
    return self->next < self->total ? 0 : FMS_END;
}

static void add_source(size_t total)
{
    static const struct fms_plugin table = {.source_poll = source_poll};

    source = (struct source){.total = total, .size = 10};
    rig_add(FMS_SOURCE, "source", table, &source);
}

/* Confirms what it takes after `delay`, and not before: the first ones it does not deliver, but asks to offer them again. */
struct sink {
    const struct fms_host *host;
    const struct fms_record *held[1000];
    size_t count, most; /* that it takes at once */
    int64_t delay, due;
    size_t failures, rejects_each;
    void (*while_held)(void);
};

static struct sink sinks[3];

static int sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct sink *self = instance;
    size_t n = 0;

    if (self->count == 0)
        self->due = fms_now(self->host) + self->delay;
    while (n < count && self->count < self->most)
        self->held[self->count++] = records[n++];
    return (int)n;
}

static void sink_settle(struct sink *self)
{
    bool fails = self->failures > 0;

    self->failures -= fails;
    for (size_t i = 0; i < self->count; i++) {
        if (fails)
            fms_retry(self->host, self->held[i], "not now");
        else if (self->rejects_each > 0 && self->held[i]->tag[0] % self->rejects_each == 0)
            fms_reject(self->host, self->held[i], "no good");
        else
            fms_delivered(self->host, self->held[i]);
    }
    self->count = 0;
}

static int sink_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->count > 0 && self->while_held != NULL)
        self->while_held();
    if (self->count > 0 && fms_now(self->host) >= self->due)
        sink_settle(self);
    if (self->count > 0)
        wait->deadline = self->due;
    return 0;
}

static struct sink *add_sink(size_t i, const char *name, int64_t delay)
{
    static const struct fms_plugin table = {.sink_write = sink_write, .sink_poll = sink_poll};

    sinks[i] = (struct sink){.delay = delay, .most = 1000};
    rig_add(strcmp(name, "dead_letter") == 0 ? FMS_DEAD_LETTER : FMS_SINK, name, table, &sinks[i]);
    return &sinks[i];
}

/* Does with record number n as `verdict` says. */
struct transform {
    const struct fms_host *host;
    enum fms_verdict (*verdict)(struct transform *, const struct fms_record *);
    const struct fms_record *kept[100];
    size_t count;
    int64_t due;
    void (*let_go)(const struct fms_host *, const struct fms_record *);
};

static struct transform transform, second;

static enum fms_verdict transform_record(void *instance, const struct fms_record *record)
{
    struct transform *self = instance;

    return self->verdict(self, record);
}

static int transform_poll(void *instance, struct fms_wait *wait)
{
    struct transform *self = instance;

    if (self->count > 0 && fms_now(self->host) >= self->due) {
        for (size_t i = 0; i < self->count; i++)
            self->let_go(self->host, self->kept[i]);
        self->count = 0;
    }
    if (self->count > 0)
        wait->deadline = self->due;
    return 0;
}

static void transform_flush(void *instance)
{
    (void)instance;
}

static void add_transform(struct transform *self, const char *name,
                          enum fms_verdict (*verdict)(struct transform *, const struct fms_record *))
{
    static const struct fms_plugin table = {
        .transform = transform_record, .transform_poll = transform_poll, .transform_flush = transform_flush};

    *self = (struct transform){.verdict = verdict};
    rig_add(FMS_TRANSFORM, name, table, self);
}

static enum fms_verdict pass(struct transform *self, const struct fms_record *record)
{
    (void)self, (void)record;
    return FMS_PASS;
}

/* -------------------------------------------------------------------------------------------------------- durations */

static void what_a_sink_confirms_late_is_seen_as_its_far_end_s(void **state)
{
    const struct pipeline_view *view;
    const struct stage_view *sink;

    (void)state;
    add_source(10);
    add_sink(0, "sink", 40 * FMS_MS);
    view = run();
    sink = stage_of(view, "sink");
    assert_all(&sink->queue, 10, 0);
    assert_all(&sink->far_end, 10, 40 * FMS_MS);
    assert_int_equal(sink->far_end.counts[8], 10); /* up to 50 ms */
    assert_all(&view->total, 10, 40 * FMS_MS);
    assert_all(&view->transform, 0, 0);
    assert_int_equal(stage_of(view, "source")->last_at, BEGIN);
    assert_int_equal(sink->last_at, BEGIN + 40 * FMS_MS);
    assert_int_equal(sink->oldest_at, 0);
    assert_int_equal(view->oldest_at, 0);
    assert_int_equal(view->started_at, BEGIN);
    assert_int_equal(view->shown_at, BEGIN + 40 * FMS_MS);
}

static void what_waits_to_be_taken_is_seen_as_the_queue_s(void **state)
{
    struct histogram_view expected = {.sum = 0};
    const struct stage_view *sink;

    (void)state;
    add_source(3);
    add_sink(0, "sink", 30 * FMS_MS)->most = 1;
    sink = stage_of(run(), "sink");
    for (int i = 0; i < 3; i++)
        histogram_view_add(&expected, i * 30 * FMS_MS, 1);
    assert_memory_equal(&sink->queue, &expected, sizeof expected);
    assert_all(&sink->far_end, 3, 30 * FMS_MS);
}

static void a_retry_is_the_far_end_s_and_counted_once(void **state)
{
    const struct pipeline_view *view;
    const struct stage_view *sink;
    int64_t all;

    (void)state;
    add_source(4);
    add_sink(0, "sink", 40 * FMS_MS)->failures = 2;
    view = run();
    sink = stage_of(view, "sink");
    all = sink->last_at - BEGIN;
    assert_true(all >= 3 * 40 * FMS_MS + 2 * 5 * FMS_MS && all <= 3 * 40 * FMS_MS + 2 * 10 * FMS_MS);
    assert_all(&sink->queue, 4, 0);
    assert_all(&sink->far_end, 4, all);
    assert_all(&view->total, 4, all);
    assert_int_equal(sink->retried, 8);
    assert_int_equal(sink->records_in, 4);
    assert_int_equal(sink->records_out, 4);
    assert_int_equal(sink->held, 0);
}

static void look_at_a_retry(void)
{
    const struct stage_view *sink = stage_of(look(), "sink");

    assert_int_equal(sink->held, 4);
    assert_int_equal(sink->taken, 4);
    assert_int_equal(sink->retried, sinks[0].failures == 1 ? 0 : 4);
    assert_false(sink->is_retrying); /* it was offered again */
    assert_int_equal(sink->oldest_at, BEGIN);
}

static void look_at_others_while_one_retries(void)
{
    const struct stage_view *sink = stage_of(look(), "sink");

    if (!sink->is_retrying)
        return;
    assert_int_equal(sink->held, 4);
    assert_int_equal(sink->taken, 0);
    sinks[1].while_held = NULL;
}

static void what_is_to_be_offered_again_is_held(void **state)
{
    (void)state;
    add_source(4);
    add_sink(0, "sink", 40 * FMS_MS)->failures = 1;
    sinks[0].while_held = look_at_a_retry;
    add_sink(1, "sink other", 41 * FMS_MS)->while_held = look_at_others_while_one_retries;
    run();
    assert_null(sinks[1].while_held);
}

/* --------------------------------------------------------------------------------------------------------- the oldest */

static void look_at_fan_out(void)
{
    const struct pipeline_view *view = look();

    if (view->shown_at == BEGIN)
        return;
    assert_int_equal(stage_of(view, "sink quick")->oldest_at, 0);
    assert_int_equal(stage_of(view, "sink quick")->held, 0);
    assert_int_equal(stage_of(view, "sink slow")->oldest_at, BEGIN);
    assert_int_equal(stage_of(view, "sink slow")->held, 5);
    assert_int_equal(view->oldest_at, BEGIN);
    assert_int_equal(view->in_flight, 5);
    assert_int_equal(view->counts.delivered, 0);
    sinks[1].while_held = NULL;
}

static void each_sink_has_an_oldest_of_its_own(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(5);
    add_sink(0, "sink quick", 0);
    add_sink(1, "sink slow", 600 * FMS_MS)->while_held = look_at_fan_out;
    view = run();
    assert_null(sinks[1].while_held);
    assert_all(&stage_of(view, "sink quick")->far_end, 5, 0);
    assert_all(&stage_of(view, "sink slow")->far_end, 5, 600 * FMS_MS);
    assert_all(&view->total, 5, 600 * FMS_MS);
}

static enum fms_verdict keep_for_a_while(struct transform *self, const struct fms_record *record)
{
    self->kept[self->count++] = record;
    self->due = BEGIN + 250 * FMS_MS;
    fms_wake(self->host); /* to be polled */
    return FMS_KEPT;
}

static int poll_and_look(void *instance, struct fms_wait *wait)
{
    if (fms_now(transform.host) == BEGIN + 250 * FMS_MS && transform.count > 0) {
        const struct pipeline_view *view = look();
        const struct stage_view *stage = stage_of(view, "transform keep");

        assert_int_equal(stage->held, METER_EACH);
        assert_int_equal(stage->taken, METER_EACH);
        assert_int_equal(stage->oldest_at, BEGIN);
        assert_int_equal(view->oldest_at, BEGIN);
        assert_int_equal(stage_of(view, "sink")->records_in, 0);
    }
    return transform_poll(instance, wait);
}

/* It does not end before all was told. */
static int end_when_all_is_told(void *instance, size_t credit, struct fms_wait *wait)
{
    return source_poll(instance, credit, wait) == FMS_END && rig.pipeline.in_flight == 0 ? FMS_END : 0;
}

static void wake_source(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)record, (void)fate;
    fms_wake(((struct source *)instance)->host);
}

static void pass_on(const struct fms_host *host, const struct fms_record *record)
{
    assert_int_equal(fms_pass(host, record), 0);
}

/* A sink holds what it has been given for as long as it has had that; the pipeline since it was emitted. */
static void look_behind_a_transform(void)
{
    const struct pipeline_view *view = look();

    assert_int_equal(stage_of(view, "sink")->oldest_at, BEGIN + 250 * FMS_MS);
    assert_int_equal(view->oldest_at, BEGIN);
    sinks[0].while_held = NULL;
}

static void what_a_transform_keeps_is_the_transforms_time(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(METER_EACH);
    rig.plugins[0].table.source_poll = end_when_all_is_told;
    rig.plugins[0].table.source_settled = wake_source;
    add_transform(&transform, "transform keep", keep_for_a_while);
    transform.let_go = pass_on;
    rig.plugins[1].table.transform_poll = poll_and_look;
    add_sink(0, "sink", 10 * FMS_MS)->while_held = look_behind_a_transform;
    view = run();
    assert_null(sinks[0].while_held);
    assert_int_equal(stage_of(view, "sink")->oldest_number, METER_EACH);
    assert_all(&view->transform, 1, 250 * FMS_MS);
    assert_all(&view->total, METER_EACH, 260 * FMS_MS);
    assert_all(&stage_of(view, "sink")->queue, METER_EACH, 0);
    assert_all(&stage_of(view, "sink")->far_end, METER_EACH, 10 * FMS_MS);
    assert_int_equal(stage_of(view, "transform keep")->records_out, METER_EACH);
    assert_int_equal(stage_of(view, "transform keep")->dropped, 0);
    assert_int_equal(stage_of(view, "transform keep")->held, 0);
}

static void what_stays_in_flight_for_good_is_the_oldest(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(3);
    add_sink(0, "sink", 20 * FMS_MS)->rejects_each = 2; /* numbers 0 and 2 */
    view = run();
    assert_true(view->has_failed);
    assert_int_equal(view->left, 2);
    assert_int_equal(view->oldest_at, BEGIN);
    assert_int_equal(stage_of(view, "sink")->oldest_at, 0);
    assert_int_equal(stage_of(view, "sink")->rejected, 2);
    assert_int_equal(stage_of(view, "sink")->letters + stage_of(view, "sink")->discarded, 0);
    assert_all(&view->total, 1, 20 * FMS_MS);
}

/* ------------------------------------------------------------------------------------------------------------- counts */

static void set_down(const struct fms_host *host, const struct fms_record *record)
{
    fms_delivered(host, record);
}

/* By number: passed, dropped, kept and dropped later, dropped with a child, rejected. */
static enum fms_verdict one_of_each(struct transform *self, const struct fms_record *record)
{
    struct fms_record child = *record;

    switch (record->tag[0] % 5) {
    case 0:
        return FMS_PASS;
    case 1:
        return FMS_DROP;
    case 2:
        return keep_for_a_while(self, record);
    case 3:
        child.payload.size = 7;
        assert_int_equal(fms_emit_child(self->host, record, &child), 0);
        assert_int_equal(fms_emit_child(self->host, record, &child), 0);
        return FMS_DROP;
    default:
        return fms_reject(self->host, record, "no good");
    }
}

static void assert_stage(const struct stage_view *stage, size_t records_in, size_t bytes_in, size_t records_out,
                         size_t bytes_out)
{
    assert_int_equal(stage->records_in, records_in);
    assert_int_equal(stage->bytes_in, bytes_in);
    assert_int_equal(stage->records_out, records_out);
    assert_int_equal(stage->bytes_out, bytes_out);
    assert_int_equal(stage->held, 0);
}

static void run_one_of_each(void)
{
    add_source(5);
    rig.plugins[0].table.source_poll = end_when_all_is_told;
    rig.plugins[0].table.source_settled = wake_source;
    add_sink(0, "sink", 0); /* in the file before the transforms */
    add_transform(&transform, "transform each", one_of_each);
    transform.let_go = set_down;
    add_transform(&second, "transform pass", pass);
}

static void assert_one_of_each(const struct pipeline_view *view)
{
    const struct stage_view *each = stage_of(view, "transform each");

    assert_stage(stage_of(view, "source"), 0, 0, 5, 50);
    assert_stage(each, 5, 50, 3, 24); /* one, and two children of another */
    assert_stage(stage_of(view, "transform pass"), 3, 24, 3, 24);
    assert_stage(stage_of(view, "sink"), 3, 24, 3, 24);
    assert_int_equal(each->dropped, 2);
    assert_int_equal(each->rejected, 1);
    assert_int_equal(view->counts.rejected, 1);
}

static void each_stage_counts_what_passes_it(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    run_one_of_each();
    add_sink(1, "dead_letter", 0);
    view = run();
    assert_one_of_each(view);
    assert_int_equal(stage_of(view, "transform each")->letters, 1);
    assert_int_equal(stage_of(view, "transform each")->discarded, 0);
    assert_stage(stage_of(view, "dead_letter"), 1, 10, 1, 10);
    assert_all(&stage_of(view, "dead_letter")->far_end, 1, 0);
    assert_int_equal(view->counts.dropped, 0);
    for (size_t i = 1; i < view->stage_count; i++) /* along the way */
        assert_true(view->stages[i - 1].role <= view->stages[i].role);
}

static void what_is_dropped_unintentionally_is_told_apart(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    run_one_of_each();
    view = run();
    assert_one_of_each(view);
    assert_int_equal(stage_of(view, "transform each")->letters, 0);
    assert_int_equal(stage_of(view, "transform each")->discarded, 1);
    assert_int_equal(view->counts.dropped, 1);
    assert_int_equal(view->counts.delivered, 4);
    assert_int_equal(view->total.counts[0], 3); /* one was kept, and the dropped one was not delivered */
    assert_int_equal(view->total.counts[10], 1);
}

static void what_a_source_rejects_is_its_own(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(4);
    source.rejects_odd = true;
    add_sink(0, "sink", 0);
    add_sink(1, "dead_letter", 0)->rejects_each = 3; /* number 3, and its bare letter; so that is dropped */
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    view = run();
    assert_stage(stage_of(view, "source"), 0, 0, 4, 40);
    assert_stage(stage_of(view, "sink"), 2, 20, 2, 20);
    assert_int_equal(stage_of(view, "source")->rejected, 2);
    assert_int_equal(stage_of(view, "source")->letters, 2);
    assert_stage(stage_of(view, "dead_letter"), 3, 20, 1, 10);
    assert_int_equal(stage_of(view, "dead_letter")->rejected, 2);
    assert_int_equal(stage_of(view, "dead_letter")->discarded, 1);
    assert_int_equal(view->counts.dropped, 1);
}

/* The second waits for the room that the first's children take. */
static enum fms_verdict make_a_child(struct transform *self, const struct fms_record *record)
{
    return fms_emit_child(self->host, record, record) == 0 ? FMS_DROP : FMS_AGAIN;
}

static void look_at_what_waits(void)
{
    const struct stage_view *stage = stage_of(look(), "transform child");

    assert_int_equal(stage->held, rig.pipeline.in_flight - sinks[0].count);
    assert_int_equal(stage->taken, 0);
    assert_int_equal(stage->records_in, source.next);
    if (stage->held > 0) {
        assert_int_equal(stage->oldest_at, rig.pipeline.transforms[0]->family.waiting.head->emitted_at);
        transform.count = 1; /* seen */
    }
}

static void what_waits_for_room_is_held_and_counted_once(void **state)
{
    const struct stage_view *stage;

    (void)state;
    rig.pipeline.options.max_in_flight_bytes = 17 * 256; /* a record takes 256: room for an odd number */
    add_source(50);
    add_transform(&transform, "transform child", make_a_child);
    rig.plugins[1].table.transform_poll = NULL;
    add_sink(0, "sink", 10 * FMS_MS)->while_held = look_at_what_waits;
    stage = stage_of(run(), "transform child");
    assert_int_equal(transform.count, 1);
    assert_stage(stage, 50, 500, 50, 500);
    assert_int_equal(stage->dropped, 0);
    assert_true(rig.view.counts.delivered == 50);
}

static enum fms_verdict drop(struct transform *self, const struct fms_record *record)
{
    (void)self, (void)record;
    return FMS_DROP;
}

/* What it emits is dropped at once, and told in the same turn. */
static void emit_another(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct source *self = instance;
    struct fms_record draft = {.payload = record->payload};

    assert_int_equal(fate, FMS_DELIVERED);
    if (self->next++ < 20)
        assert_int_equal(fms_emit(self->host, &draft), 0);
}

static int emit_one(void *instance, size_t credit, struct fms_wait *wait)
{
    wait->deadline = 0;
    return credit > 0 && ((struct source *)instance)->next == 0 ? source_poll(instance, 1, wait) : FMS_END;
}

static void what_a_source_emits_when_it_is_told_counts(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(1000);
    rig.plugins[0].table.source_poll = emit_one;
    rig.plugins[0].table.source_settled = emit_another;
    add_transform(&transform, "transform drop", drop);
    add_sink(0, "sink", 0);
    view = run();
    assert_stage(stage_of(view, "transform drop"), 20, 200, 0, 0);
    assert_int_equal(stage_of(view, "transform drop")->dropped, 20);
    assert_all(&view->total, 20, 0);
}

/* ----------------------------------------------------------------------------------------------- who has the lane */

static void the_time_that_a_bound_holds_the_source_back_is_exact(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    rig.pipeline.options.max_in_flight = 1;
    add_source(3);
    add_sink(0, "sink", 40 * FMS_MS);
    view = run();
    assert_int_equal(view->shown_at, BEGIN + 3 * 40 * FMS_MS);
    assert_int_equal(view->blocked, 2 * 40 * FMS_MS); /* after the third there is nothing to hold back */
    assert_false(view->is_blocked);
    assert_int_equal(view->busy, 0);
}

static void look_when_blocked(void)
{
    const struct pipeline_view *view = look();

    if (view->shown_at != BEGIN + 40 * FMS_MS)
        return;
    assert_true(view->is_blocked);
    assert_int_equal(view->blocked, 40 * FMS_MS); /* until now */
    sinks[0].while_held = NULL;
}

static void a_bound_that_still_holds_the_source_back_counts(void **state)
{
    (void)state;
    rig.pipeline.options.max_in_flight = 1;
    add_source(3);
    add_sink(0, "sink", 40 * FMS_MS)->while_held = look_when_blocked;
    run();
    assert_null(sinks[0].while_held);
}

static void take(int64_t time)
{
    clock_move(clock_now() + time);
}

static int sink_write_for_5_ms(void *instance, const struct fms_record *const *records, size_t count)
{
    take(5 * FMS_MS);
    return sink_write(instance, records, count);
}

static int source_poll_for_3_ms(void *instance, size_t credit, struct fms_wait *wait)
{
    take(3 * FMS_MS);
    return source_poll(instance, credit, wait);
}

static void settled_for_1_ms(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)instance, (void)record, (void)fate;
    take(FMS_MS);
}

static void who_holds_the_lane_is_known(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(300); /* two batches, and two polls */
    rig.plugins[0].table.source_poll = source_poll_for_3_ms;
    rig.plugins[0].table.source_settled = settled_for_1_ms;
    add_sink(0, "sink", 0);
    rig.plugins[1].table.sink_write = sink_write_for_5_ms;
    view = run();
    assert_int_equal(stage_of(view, "sink")->busy, 2 * 5 * FMS_MS);
    assert_int_equal(stage_of(view, "source")->busy, 2 * 3 * FMS_MS + 300 * FMS_MS);
    assert_int_equal(view->busy, 316 * FMS_MS);
    assert_all(&stage_of(view, "sink")->far_end, 300, 5 * FMS_MS); /* it took them when it was offered them */
}

static enum fms_verdict pass_in_1_ms(struct transform *self, const struct fms_record *record)
{
    (void)self, (void)record;
    take(FMS_MS);
    return FMS_PASS;
}

static enum fms_verdict make_two_in_2_ms(struct transform *self, const struct fms_record *record)
{
    take(2 * FMS_MS);
    assert_int_equal(fms_emit_child(self->host, record, record), 0);
    assert_int_equal(fms_emit_child(self->host, record, record), 0);
    return FMS_DROP;
}

static void transforms_are_busy_and_their_source_is_not(void **state)
{
    const struct pipeline_view *view;
    struct histogram_view expected = {.sum = 0};

    (void)state;
    add_source(2 * METER_EACH);
    add_transform(&transform, "transform two", make_two_in_2_ms);
    add_transform(&second, "transform pass", pass_in_1_ms);
    add_sink(0, "sink", 0);
    view = run();
    assert_int_equal(stage_of(view, "transform two")->busy, 2 * METER_EACH * 2 * FMS_MS);
    assert_int_equal(stage_of(view, "transform pass")->busy, 2 * METER_EACH * 2 * FMS_MS);
    assert_int_equal(stage_of(view, "source")->busy, 0);
    assert_int_equal(view->busy, 2 * METER_EACH * 4 * FMS_MS);
    histogram_view_add(&expected, 3 * FMS_MS, 2); /* one's children: the first, and the second */
    histogram_view_add(&expected, 4 * FMS_MS, 2);
    assert_memory_equal(&view->transform, &expected, sizeof expected);
}

/* A library's thread emits, while the lane sleeps for ever. */
static void *enter_for_10_ms(void *host)
{
    struct fms_wait wait;

    fms_enter(host);
    take(10 * FMS_MS);
    source_poll(&source, 5, &wait);
    fms_leave(host);
    fms_wake(host);
    return NULL;
}

static int poll_beside_a_thread(void *instance, size_t credit, struct fms_wait *wait)
{
    static pthread_t thread;
    struct source *self = instance;

    (void)credit, (void)wait;
    if (self->timestamp == 0) {
        self->timestamp = REALTIME;
        assert_int_equal(pthread_create(&thread, NULL, enter_for_10_ms, (void *)(uintptr_t)self->host), 0);
    }
    if (self->next < 5)
        return 0;
    pthread_join(thread, NULL);
    return FMS_END;
}

static void a_library_s_thread_is_the_source_s(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(5);
    rig.plugins[0].table.source_poll = poll_beside_a_thread;
    add_sink(0, "sink", 0);
    rig.plugins[1].table.sink_write = sink_write_for_5_ms;
    view = run();
    assert_int_equal(stage_of(view, "source")->busy, 10 * FMS_MS);
    assert_int_equal(stage_of(view, "sink")->busy, 5 * FMS_MS);
    assert_int_equal(view->busy, 15 * FMS_MS);
    assert_int_equal(view->total.counts[0] + view->total.counts[5] + view->total.counts[7], 5);
}

/* --------------------------------------------------------------------------------------------------------- the rest */

/* Of twenty that come at once the first is looked at. */
static void the_age_of_data_is_told_where_it_is_known(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(20);
    source.timestamp = REALTIME - 3 * FMS_SECOND;
    add_sink(0, "sink", 0);
    view = run();
    assert_all(&view->age, 1, 3 * FMS_SECOND);
}

static void what_comes_from_the_future_is_new(void **state)
{
    (void)state;
    add_source(20);
    source.timestamp = REALTIME + 3 * FMS_SECOND;
    add_sink(0, "sink", 0);
    assert_all(&run()->age, 1, 0);
}

static void data_without_a_time_has_no_age(void **state)
{
    (void)state;
    add_source(20);
    add_sink(0, "sink", 0);
    assert_all(&run()->age, 0, 0);
}

/* Of twenty that come at once the first is asked, whatever time the records have of their own. */
static void the_age_of_data_is_by_the_time_that_it_names(void **state)
{
    static const struct {
        const char *time;
        uint64_t n;
        int64_t age;
    } cases[] = {
        {"1699999997", 1, 3 * FMS_SECOND},
        {"1699999997.25", 1, 2750 * FMS_MS},
        {"1699999997.2500000009999", 1, 2750 * FMS_MS},
        {"1699999997000", 1, 3 * FMS_SECOND},
        {"1699999996999999", 1, 3 * FMS_SECOND + FMS_US},
        {"1699999997000000001", 1, 3 * FMS_SECOND - 1},
        {"0", 1, REALTIME},
        {"1700000003", 1, 0},
        {"99999999999999999999", 0, 0},
        {"9999999999999999999.9", 0, 0},
        {"2025-11-16T19:13:39Z", 0, 0},
        {"-1", 0, 0},
        {"1.", 1, REALTIME - FMS_SECOND},
        {".5", 0, 0},
        {"1e9", 0, 0},
        {"${key}", 0, 0},
    };
    char error[64];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fms_template *time = template_compile(cases[i].time, NULL, rig.pipeline.paths, error, sizeof error);

        assert_non_null(time);
        rig.pipeline.options.time = time;
        add_source(20);
        source.timestamp = REALTIME - 60 * FMS_SECOND;
        add_sink(0, "sink", 0);
        assert_all(&run()->age, cases[i].n, cases[i].age);
        template_free(time);
        assert_int_equal(rig_teardown(state), 0);
        assert_int_equal(rig_setup(state), 0);
    }
}

static void where_nobody_watches_there_are_counts_alone(void **state)
{
    const struct pipeline_view *view;

    (void)state;
    add_source(50);
    source.timestamp = REALTIME - FMS_SECOND;
    add_transform(&transform, "transform pass", pass_in_1_ms);
    add_sink(0, "sink", 40 * FMS_MS);
    assert_int_equal(snapshot_init(&rig.pipeline), 0);
    lane_run(&rig.pipeline);
    view = look();
    assert_stage(stage_of(view, "transform pass"), 50, 0, 50, 0);
    assert_stage(stage_of(view, "sink"), 50, 0, 50, 0);
    assert_int_equal(stage_of(view, "transform pass")->busy, 0);
    assert_int_equal(view->busy, 0);
    assert_int_equal(view->blocked, 0);
    assert_all(&view->total, 0, 0);
    assert_all(&view->age, 0, 0);
    assert_all(&stage_of(view, "sink")->far_end, 0, 0);
}

static const struct fms_metric two[] = {{"a", "one"}, {"b", "two"}, {NULL, NULL}}, one[] = {{"c", "one"}, {NULL, NULL}};

static int measuring_poll(void *instance, struct fms_wait *wait)
{
    struct sink *self = instance;

    if (self->count > 0 && fms_now(self->host) >= self->due) {
        fms_count(self->host, 1, 7);
        fms_gauge(self->host, 0, 2.5);
        fms_observe(self->host, 0, 20 * FMS_MS);
        fms_link_up(self->host);
        fms_link_down(self->host, "%s hung up", "it");
    }
    return sink_poll(instance, wait);
}

static void a_plugin_s_own_measures_are_shown(void **state)
{
    struct pipeline_view copy = {0};
    const struct stage_view *sink;

    (void)state;
    add_source(2);
    sinks[0] = (struct sink){.most = 1000, .delay = FMS_MS};
    rig_add(FMS_SINK, "sink",
            (struct fms_plugin){.sink_write = sink_write,
                                .sink_poll = measuring_poll,
                                .counters = two,
                                .gauges = one,
                                .durations = one,
                                .traits = FMS_TRAIT_LINK},
            &sinks[0]);
    sink = stage_of(run(), "sink");
    assert_int_equal(sink->counters[0], 0);
    assert_int_equal(sink->counters[1], 7);
    assert_true(sink->gauges[0] == 2.5);
    assert_all(&sink->durations[0], 1, 20 * FMS_MS);
    assert_true(sink->has_link);
    assert_false(sink->link.is_up);
    assert_int_equal(sink->link.since, BEGIN + FMS_MS);
    assert_string_equal(sink->link.why, "it hung up");
    assert_int_equal(sink->link.downs, 1);
    assert_false(stage_of(&rig.view, "source")->has_link);
    view_copy(&copy, &rig.view);
    assert_int_equal(copy.stages[1].counters[1], 7);
    assert_ptr_not_equal(copy.stages[1].counters, sink->counters);
    view_forget(&copy);
    assert_int_equal(copy.stage_count, 0);
}

/* ------------------------------------------------------------------------------------------------- other stages, later */

static void a_copy_follows_stages_that_come_and_go(void **state)
{
    static const struct fms_metric counters[] = {{"one", "x"}, {NULL, NULL}};
    static const struct fms_plugin plain = {.name = "plain"}, counting = {.name = "counting", .counters = counters};
    static const struct stage_view shapes[][3] = {
        {{.name = "a", .table = &plain}, {.name = "b", .table = &counting}},
        {{.name = "c", .table = &plain}, {.name = "d", .table = &counting}},
        {{.name = "b", .table = &counting}},
        {{.name = "b", .table = &counting}, {.name = "a", .table = &plain}, {.name = "e", .table = &counting}},
    };
    struct pipeline_view copy = {.stages = NULL};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct pipeline_view from = {.stages = NULL};
        size_t count = 0;

        while (count < 3 && shapes[i][count].name != NULL)
            count++;
        assert_int_equal(view_reserve(&from, shapes[i], count), 0);
        for (size_t k = 0; k < count; k++) {
            if (from.stages[k].table == &counting)
                from.stages[k].counters[0] = 10 * i + k;
        }
        view_copy(&copy, &from);
        view_forget(&from);
        assert_int_equal(copy.stage_count, count);
        for (size_t k = 0; k < count; k++) {
            assert_string_equal(copy.stages[k].name, shapes[i][k].name);
            if (copy.stages[k].table == &counting)
                assert_int_equal(copy.stages[k].counters[0], 10 * i + k);
        }
    }
    view_forget(&copy);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    static const struct CMUnitTest tests[] = {
        CASE(what_a_sink_confirms_late_is_seen_as_its_far_end_s),
        CASE(what_waits_to_be_taken_is_seen_as_the_queue_s),
        CASE(a_retry_is_the_far_end_s_and_counted_once),
        CASE(what_is_to_be_offered_again_is_held),
        CASE(each_sink_has_an_oldest_of_its_own),
        CASE(what_a_transform_keeps_is_the_transforms_time),
        CASE(what_stays_in_flight_for_good_is_the_oldest),
        CASE(each_stage_counts_what_passes_it),
        CASE(what_is_dropped_unintentionally_is_told_apart),
        CASE(what_a_source_rejects_is_its_own),
        CASE(what_waits_for_room_is_held_and_counted_once),
        CASE(what_a_source_emits_when_it_is_told_counts),
        CASE(the_time_that_a_bound_holds_the_source_back_is_exact),
        CASE(a_bound_that_still_holds_the_source_back_counts),
        CASE(who_holds_the_lane_is_known),
        CASE(transforms_are_busy_and_their_source_is_not),
        CASE(a_library_s_thread_is_the_source_s),
        CASE(the_age_of_data_is_told_where_it_is_known),
        CASE(what_comes_from_the_future_is_new),
        CASE(the_age_of_data_is_by_the_time_that_it_names),
        CASE(data_without_a_time_has_no_age),
        CASE(where_nobody_watches_there_are_counts_alone),
        CASE(a_plugin_s_own_measures_are_shown),
        cmocka_unit_test(a_copy_follows_stages_that_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
