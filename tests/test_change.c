/* test_change.c - stages change while the lane runs, as fast as it goes: nothing is lost, repeated or overtaken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "assemble.h"
#include "call.h"
#include "change.h"
#include "clock.h"
#include "host.h"
#include "lane.h"
#include "log.h"
#include "settle.h"
#include "snapshot.h"

#define PATIENCE 60 /* seconds until a test that hangs is killed */
#define MOST     4000000u
#define KEPT     5u
#define LATER    64u

static struct {
    struct pipeline pipeline;
    pthread_t lane;
    struct stage *stages[1000];
    size_t count;
    uint64_t next;                 /* number that the source emits */
    _Atomic uint64_t told;         /* how many the source was told of, in order */
    _Atomic size_t out_of_order;   /* told, or delivered */
    _Atomic uint64_t delivered[2]; /* by sink: how many, each behind the last */
    _Atomic size_t repeated;       /* delivered again */
    _Atomic size_t wrong_fields;
    _Atomic size_t told_late; /* when the source was closed */
    bool is_divided;          /* some records have more sinks than others, which are told sooner */
    size_t seen;
} rig;

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {ms / 1000, (long)(ms % 1000 * 1000000)};

    nanosleep(&pause, NULL);
}

/* -------------------------------------------------------------------------------------------------------- its stages */

/* Begins every instance. */
struct instance {
    const struct fms_host *host;
    struct stage *stage;
    size_t number; /* sinks: which of rig.delivered is its */
    const struct fms_record *kept[LATER];
    size_t kept_count;
    pthread_mutex_t lock; /* guards what is kept, where there is a thread */
    pthread_t thread;
    _Atomic bool must_end;
    int path;
};

static int emit_all(void *user, size_t credit, struct fms_wait *wait)
{
    struct instance *self = user;
    char payload[64];

    (void)wait;
    for (; credit > 0; credit--, rig.next++) {
        int n = snprintf(payload, sizeof payload, "{\"number\":%llu}", (unsigned long long)rig.next);
        struct fms_record draft = {.payload = fms_bytes_of(payload, (size_t)n), .tag = {rig.next}};

        if (fms_emit(self->host, &draft) != 0)
            break;
    }
    return 0;
}

static void count_told(void *user, const struct fms_record *record, enum fms_fate fate)
{
    struct instance *self = user;

    rig.told_late += self->must_end;
    rig.out_of_order += (record->tag[0] != rig.told && !rig.is_divided) || fate != FMS_DELIVERED;
    rig.told++;
}

static enum fms_verdict pass(void *user, const struct fms_record *record)
{
    (void)user;
    (void)record;
    return FMS_PASS;
}

static enum fms_verdict keep(void *user, const struct fms_record *record)
{
    struct instance *self = user;

    if (self->kept_count == KEPT) {
        fms_pass(self->host, self->kept[0]);
        memmove(self->kept, self->kept + 1, --self->kept_count * sizeof *self->kept);
    }
    self->kept[self->kept_count++] = record;
    return FMS_KEPT;
}

static void pass_kept(void *user)
{
    struct instance *self = user;

    for (size_t i = 0; i < self->kept_count; i++)
        fms_pass(self->host, self->kept[i]);
    self->kept_count = 0;
}

/* A child of each, as large as half of what there may be: so it waits for room while a sink holds one. */
static enum fms_verdict enlarge(void *user, const struct fms_record *record)
{
    static char large[1 << 19];
    struct instance *self = user;
    struct fms_record draft = *record;

    draft.payload = fms_bytes_of(large, sizeof large);
    return fms_emit_child(self->host, record, &draft) == -EAGAIN ? FMS_AGAIN : FMS_DROP;
}

static void deliver(struct instance *self, const struct fms_record *record)
{
    uint64_t next = rig.delivered[self->number];
    struct fms_json value;

    if (self->path >= 0) {
        rig.wrong_fields += fms_json_get(self->host, record, self->path, &value) != 0 ||
                            strtoull(value.text.data, NULL, 10) != record->tag[0];
    }
    rig.repeated += record->tag[0] < next;
    rig.out_of_order += record->tag[0] > next;
    rig.delivered[self->number] = record->tag[0] < next ? next : next + 1;
    fms_delivered(self->host, record);
}

static int deliver_all(void *user, const struct fms_record *const *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        deliver(user, records[i]);
    return (int)count;
}

/* Takes what it has room for and delivers it on a thread of its own, one by one; at its end the rest stays undelivered. */
static int take(void *user, const struct fms_record *const *records, size_t count)
{
    struct instance *self = user;
    size_t n = 0;

    pthread_mutex_lock(&self->lock);
    while (n < count && self->kept_count < LATER)
        self->kept[self->kept_count++] = records[n++];
    pthread_mutex_unlock(&self->lock);
    return (int)n;
}

static void *deliver_later(void *user)
{
    struct instance *self = user;

    while (!self->must_end) {
        pthread_mutex_lock(&self->lock);
        for (size_t i = 0; i < self->kept_count && i < LATER / 4; i++)
            deliver(self, self->kept[i]);
        self->kept_count -= self->kept_count < LATER / 4 ? self->kept_count : LATER / 4;
        memmove(self->kept, self->kept + LATER / 4, self->kept_count * sizeof *self->kept);
        pthread_mutex_unlock(&self->lock);
        fms_wake(self->host);
        usleep(50);
    }
    return NULL;
}

static int begin(void *user, const struct fms_host *host)
{
    struct instance *self = user;

    (void)host;
    return -pthread_create(&self->thread, NULL, deliver_later, self);
}

static void end(void *user)
{
    struct instance *self = user;

    self->must_end = true;
    pthread_join(self->thread, NULL);
}

/* As a file that is locked. */
static _Atomic int singles;

static int begin_single(void *user, const struct fms_host *host)
{
    (void)user;
    return singles++ == 0 ? 0 : fms_fail(host, -EBUSY, "another is open");
}

static void end_single(void *user)
{
    (void)user;
    singles--;
}

/* From some record on the place is another process's. */
static int lose_place(void *user, const struct fms_record *const *records, size_t count)
{
    struct instance *self = user;

    return rig.delivered[self->number] < 500 ? deliver_all(user, records, count) : -ENOTUNIQ;
}

static void close_source(void *user)
{
    struct instance *self = user;

    self->must_end = true;
}

static int ask_number(void *user, const struct fms_host *host)
{
    struct instance *self = user;

    self->path = fms_json_path(host, "number");
    return self->path < 0 ? self->path : 0;
}

/* What it was not told of comes again. */
static int begin_again(void *user, const struct fms_host *host)
{
    (void)user;
    (void)host;
    rig.next = rig.told;
    return 0;
}

static int fail_to_open(void *user, const struct fms_host *host)
{
    (void)user;
    return fms_fail(host, -EIO, "it does not open");
}

#define TABLE .instance_size = sizeof(struct instance)
static const struct plugin source = {.table = {TABLE, .name = "s", .open = begin_again, .close = close_source,
                                               .source_poll = emit_all, .source_settled = count_told}},
                           unwilling = {.table = {TABLE, .name = "u", .open = fail_to_open, .source_poll = emit_all}},
                           passing = {.table = {TABLE, .name = "p", .transform = pass}},
                           keeping = {.table = {TABLE, .name = "k", .transform = keep, .transform_flush = pass_kept}},
                           enlarging = {.table = {TABLE, .name = "e", .transform = enlarge}},
                           at_once = {.table = {TABLE, .name = "n", .sink_write = deliver_all}},
                           later = {.table = {TABLE, .name = "l", .open = begin, .close = end, .sink_write = take}},
                           stalled = {.table = {TABLE, .name = "d", .sink_write = take}},
                           single = {.table = {TABLE, .name = "1", .open = begin_single, .close = end_single,
                                               .sink_write = deliver_all, .traits = FMS_TRAIT_SINGLE}},
                           superseded = {.table = {TABLE, .name = "x", .sink_write = lose_place}},
                           closed = {.table = {TABLE, .name = "c", .open = fail_to_open, .sink_write = deliver_all}},
                           reading = {.table = {TABLE, .name = "r", .open = ask_number, .sink_write = deliver_all}};

static struct config_section section;
static struct config config = {.path = (char *)(uintptr_t) "rig.ini"};

/* In no place yet; sources are not open either. */
static struct stage *make(enum fms_role role, const char *name, const struct plugin *plugin)
{
    struct stage *stage = calloc(1, sizeof *stage);
    struct instance *instance = calloc(1, sizeof *instance);

    assert_true(stage != NULL && instance != NULL && rig.count < sizeof rig.stages / sizeof *rig.stages);
    *stage = (struct stage){.pipeline = &rig.pipeline,
                            .plugin = plugin,
                            .config = &config,
                            .section = &section,
                            .name = (char *)(uintptr_t)name,
                            .instance = instance,
                            .wait = {-1, 0, FMS_NEVER}};
    stage->index = rig.count % 62;
    stage->is_new = true;
    measures_init(&stage->measures, &plugin->table);
    host_fill(stage, role);
    *instance = (struct instance){.host = &stage->host, .stage = stage, .path = -1};
    pthread_mutex_init(&instance->lock, NULL);
    if (role != FMS_SOURCE && plugin != &single && plugin != &closed)
        assert_int_equal(stage_open(stage), 0);
    return rig.stages[rig.count++] = stage;
}

static void no_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user;
    (void)level;
    (void)pipeline;
    (void)stage;
    (void)text;
}

static void quiet(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user;
    (void)pipeline;
    if (level == FMS_LOG_ERROR)
        print_error("%s: %s\n", stage, text);
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.pipeline.options = (struct pipeline_options){.name = "rig",
                                                     .max_in_flight = 1000,
                                                     .max_in_flight_bytes = 1 << 20,
                                                     .drain_timeout = 10 * FMS_SECOND,
                                                     .retry_min = FMS_MS,
                                                     .retry_max = FMS_MS,
                                                     .stall_after = 60 * FMS_SECOND};
    rig.pipeline.paths = json_paths_new();
    rig.pipeline.config = &config;
    log_redirect(quiet, NULL);
    alarm(PATIENCE);
    return pipeline_init(&rig.pipeline);
}

static void *no_lane(void *user)
{
    return user;
}

static void *run(void *user)
{
    lane_run(user);
    return NULL;
}

/* Source, one transform and up to two sinks. */
static void start(const struct plugin *transform, const struct plugin *first, const struct plugin *second)
{
    pipeline_add(&rig.pipeline, make(FMS_SOURCE, "source", &source), FMS_SOURCE);
    pipeline_add(&rig.pipeline, make(FMS_TRANSFORM, "transform a", transform), FMS_TRANSFORM);
    pipeline_add(&rig.pipeline, make(FMS_SINK, "sink a", first), FMS_SINK);
    if (second != NULL) {
        pipeline_add(&rig.pipeline, make(FMS_SINK, "sink b", second), FMS_SINK);
        ((struct instance *)rig.pipeline.sinks[1]->instance)->number = 1;
    }
    assert_int_equal(stage_open(rig.pipeline.source), 0);
    pipeline_layout(&rig.pipeline);
    assert_int_equal(snapshot_init(&rig.pipeline), 0);
    assert_int_equal(pthread_create(&rig.lane, NULL, run, &rig.pipeline), 0);
}

static void await(const _Atomic uint64_t *count, uint64_t more)
{
    uint64_t from = *count;

    while (*count < from + more)
        sleep_ms(1);
}

/* All that was emitted was delivered, in order and once. */
static void finish(void)
{
    pipeline_stop(&rig.pipeline);
    pthread_join(rig.lane, NULL);
    pipeline_close(&rig.pipeline);
    assert_false(rig.pipeline.must_fail);
    assert_int_equal(rig.pipeline.left, 0);
    assert_int_equal(rig.out_of_order, 0);
    assert_int_equal(rig.repeated, 0);
    assert_int_equal(rig.told_late, 0);
    assert_int_equal(rig.told, rig.next);
    assert_int_equal(rig.delivered[0], rig.next);
}

static int teardown(void **state)
{
    (void)state;
    settle_abandon(&rig.pipeline);
    assert_int_equal(rig.pipeline.records.bytes, 0);
    pipeline_destroy(&rig.pipeline);
    json_paths_free(rig.pipeline.paths);
    for (size_t i = 0; i < rig.count; i++) {
        measures_free(&rig.stages[i]->measures);
        free(rig.stages[i]->instance);
        free(rig.stages[i]);
    }
    log_redirect(NULL, NULL);
    return 0;
}

/* What the lane alone may look at. */
#define SEEN(what) (lane_take(&rig.pipeline), rig.seen = (size_t)(what), lane_give(&rig.pipeline), rig.seen)

static void await_blocked(void)
{
    while (!SEEN(rig.pipeline.is_blocked))
        sleep_ms(1);
}

static int64_t in_ms(int64_t ms)
{
    return clock_now() + ms * FMS_MS;
}

static void change_first_sink(const struct plugin *plugin, int64_t patience_ms)
{
    struct stage *old = rig.pipeline.sinks[0];

    change_sink(&rig.pipeline, old, make(FMS_SINK, old->name, plugin), NULL, in_ms(patience_ms));
}

/* -------------------------------------------------------------------------------------------------------- transforms */

static void change_to(size_t count, ...)
{
    struct stage *transforms[4];
    va_list args;

    va_start(args, count);
    for (size_t i = 0; i < count; i++)
        transforms[i] = va_arg(args, struct stage *);
    va_end(args);
    assert_int_equal(change_transforms(&rig.pipeline, transforms, count, in_ms(10000)), 0);
    await(&rig.told, 20);
}

static void transforms_come_and_go(void **state)
{
    struct stage *kept;

    (void)state;
    start(&keeping, &later, NULL);
    for (int i = 0; i < 30; i++) {
        kept = make(FMS_TRANSFORM, "transform a", &keeping);
        change_to(2, kept, make(FMS_TRANSFORM, "transform b", &keeping));
        change_to(1, kept);
        change_to(3, make(FMS_TRANSFORM, "transform c", &passing), kept, make(FMS_TRANSFORM, "transform d", &keeping));
        change_to(2, rig.stages[rig.count - 1], kept); /* those that stay change places */
        change_to(0);
        change_to(1, make(FMS_TRANSFORM, "transform a", &keeping));
    }
    finish();
}

/* Even where the source always has more, and the sink is never full. */
static void a_lane_without_a_pause_is_changed(void **state)
{
    (void)state;
    start(&passing, &at_once, NULL);
    for (int i = 0; i < 100; i++)
        change_to(1, make(FMS_TRANSFORM, "transform a", i % 2 == 0 ? &keeping : &passing));
    finish();
}

/* Where the old one cannot be emptied, nothing changes and all flows on. */
static void what_waits_for_room_is_not_lost(void **state)
{
    struct stage *next;

    (void)state;
    start(&enlarging, &stalled, NULL);
    next = make(FMS_TRANSFORM, "transform a", &passing);
    while (SEEN(rig.pipeline.transforms[0]->family.waiting_count) == 0)
        sleep_ms(1);
    assert_int_equal(change_transforms(&rig.pipeline, &next, 1, in_ms(30)), -ETIMEDOUT);
    assert_ptr_not_equal(rig.pipeline.transforms[0], next);
    change_first_sink(&later, 1);
    await(&rig.told, 20);
    change_to(1, next);
    finish();
}

/* ------------------------------------------------------------------------------------------------------------- sinks */

static void sinks_take_each_others_place(void **state)
{
    (void)state;
    start(&keeping, &later, NULL);
    for (int i = 0; i < 60; i++) {
        change_first_sink(i % 7 == 3 ? &at_once : &later, i % 2 * 100);
        await(&rig.told, 200);
    }
    finish();
}

/* What it took and never settles is offered to the next one, in order, and nothing passes it meanwhile. */
static void a_dead_sink_is_replaced(void **state)
{
    (void)state;
    start(&passing, &stalled, NULL);
    for (int i = 0; i < 10; i++) {
        await_blocked();
        assert_int_equal(rig.told, rig.delivered[0]);
        change_first_sink(&later, 5);
        await(&rig.told, 3000);
        change_first_sink(&stalled, 1000);
    }
    change_first_sink(&later, 0);
    finish();
}

/* The other sink has all, and the source is told. */
static void a_dead_sink_goes(void **state)
{
    (void)state;
    start(&passing, &later, &stalled);
    await_blocked();
    assert_int_equal(rig.told, 0);
    assert_int_equal(change_remove_sink(&rig.pipeline, rig.pipeline.sinks[1], in_ms(1)), 1000);
    await(&rig.told, 3000);
    assert_int_equal(rig.pipeline.sink_count, 1);
    finish();
}

static void a_sink_that_is_one_is_opened_when_the_other_is_closed(void **state)
{
    struct stage *old, *next;

    (void)state;
    singles = 0;
    start(&passing, &later, NULL);
    for (int i = 0; i < 20; i++) {
        old = rig.pipeline.sinks[0];
        next = make(FMS_SINK, "sink a", &single);
        assert_int_equal(change_sink(&rig.pipeline, old, next, make(FMS_SINK, "sink a", &single), in_ms(1000)), 0);
        assert_ptr_equal(rig.pipeline.sinks[0], next);
        await(&rig.told, 100);
    }
    finish();
}

/* The old one's like is in its place, and has what was left. */
static void a_sink_that_does_not_open_changes_nothing(void **state)
{
    struct stage *again;

    (void)state;
    start(&passing, &stalled, NULL);
    await_blocked();
    again = make(FMS_SINK, "sink a", &single);
    log_redirect(no_log, NULL);
    singles = 0;
    assert_int_equal(
        change_sink(&rig.pipeline, rig.pipeline.sinks[0], make(FMS_SINK, "sink a", &closed), again, in_ms(1)), -EIO);
    log_redirect(quiet, NULL);
    assert_ptr_equal(rig.pipeline.sinks[0], again);
    await(&rig.told, 3000);
    finish();
}

/* It has all that the source emits from then on, in order; what transforms kept goes to the others. */
static void sinks_come_and_go(void **state)
{
    struct stage *sink;

    (void)state;
    rig.is_divided = true;
    start(&keeping, &later, NULL);
    for (int i = 0; i < 20; i++) {
        sink = make(FMS_SINK, "sink b", &later);
        ((struct instance *)sink->instance)->number = 1;
        lane_take(&rig.pipeline);
        rig.delivered[1] = rig.next;
        rig.pipeline.is_held = true; /* so that this is so until it has come */
        lane_give(&rig.pipeline);
        assert_int_equal(change_layout(&rig.pipeline, &sink, 1, in_ms(10000)), 0);
        await(&rig.told, 300);
        assert_int_equal(rig.pipeline.sink_count, 2);
        assert_int_equal(change_remove_sink(&rig.pipeline, sink, in_ms(10000)), 0);
        await(&rig.told, 300);
    }
    finish();
}

static void bounds_change(void **state)
{
    struct pipeline next = {.options = rig.pipeline.options};

    (void)state;
    start(&passing, &stalled, NULL);
    await_blocked();
    for (int64_t most = 2000; most > 1; most /= 10) {
        next.options.max_in_flight = most;
        change_options(&rig.pipeline, &next);
        while (SEEN(rig.pipeline.in_flight) < 2000)
            sleep_ms(1);
        sleep_ms(5);
        assert_int_equal(SEEN(rig.pipeline.in_flight), 2000);
    }
    change_first_sink(&later, 0);
    await(&rig.told, 3000);
    assert_true(SEEN(rig.pipeline.in_flight) <= 2);
    finish();
}

/* ------------------------------------------------------------------------------------------------------------ source */

static struct stage *a_source(const struct plugin *plugin)
{
    return make(FMS_SOURCE, "source", plugin);
}

static int replace_source(struct stage *next, struct stage *again)
{
    assert_true(change_pause(&rig.pipeline));
    return change_source(&rig.pipeline, next, again);
}

static void sources_follow_each_other(void **state)
{
    (void)state;
    start(&keeping, &later, NULL);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(replace_source(a_source(&source), a_source(&source)), 0);
        await(&rig.told, 100);
    }
    finish();
}

static void a_source_that_does_not_open_changes_nothing(void **state)
{
    (void)state;
    start(&passing, &later, NULL);
    await(&rig.told, 100);
    log_redirect(no_log, NULL);
    assert_int_equal(replace_source(a_source(&unwilling), a_source(&source)), -EIO);
    log_redirect(quiet, NULL);
    await(&rig.told, 100);
    finish();
}

/* It ends as if nothing had been about to change, and does not run on. */
static void a_stop_comes_while_the_lane_has_paused(void **state)
{
    (void)state;
    start(&passing, &later, NULL);
    await(&rig.told, 100);
    assert_true(change_pause(&rig.pipeline));
    pipeline_stop(&rig.pipeline);
    pthread_join(rig.lane, NULL);
    assert_int_equal(change_source(&rig.pipeline, a_source(&source), a_source(&source)), 0);
    assert_int_equal(rig.pipeline.state, PIPELINE_ENDED);
    assert_int_equal(pthread_create(&rig.lane, NULL, no_lane, NULL), 0); /* for what joins it */
    finish();
}

/* What it has emitted and nobody has settled is delivered, and comes again: the next source was not told of it. */
static void what_a_source_leaves_is_delivered(void **state)
{
    (void)state;
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    start(&passing, &stalled, NULL);
    await_blocked();
    assert_int_equal(replace_source(a_source(&source), a_source(&source)), 0);
    assert_int_equal(rig.told, 0);
    lane_take(&rig.pipeline);
    rig.pipeline.options.drain_timeout = 10 * FMS_SECOND;
    lane_give(&rig.pipeline);
    change_first_sink(&later, 0);
    await(&rig.told, 3000);
    assert_int_equal(rig.repeated, 1000);
    rig.repeated = 0;
    finish();
}

/* Of a source that emits nothing more. */
static void await_all_in_flight(void)
{
    while (rig.delivered[0] < SEEN(rig.next))
        sleep_ms(1);
}

/* While the next one takes its time to open. */
static void a_source_that_is_closed_is_told_nothing(void **state)
{
    (void)state;
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    start(&passing, &stalled, NULL);
    await_blocked();
    assert_true(change_pause(&rig.pipeline));
    stage_close(rig.pipeline.source);
    change_first_sink(&later, 0);
    await_all_in_flight();
    assert_int_equal(SEEN(rig.told), 0);
    assert_int_equal(change_source(&rig.pipeline, a_source(&source), a_source(&source)), 0);
    lane_take(&rig.pipeline);
    rig.pipeline.options.drain_timeout = 10 * FMS_SECOND;
    lane_give(&rig.pipeline);
    await(&rig.told, 3000);
    rig.repeated = 0;
    finish();
}

/* ----------------------------------------------------------------------------------------------------- standing still */

static bool is_let_go(void)
{
    struct instance *instance = rig.pipeline.source->instance;

    return SEEN(rig.pipeline.is_paused) && instance->must_end;
}

static void stand_still(void)
{
    log_redirect(no_log, NULL);
    rig.pipeline.options.drain_timeout = 20 * FMS_MS;
    start(&passing, &superseded, &stalled);
    while (!is_let_go())
        sleep_ms(1);
}

/* The source is closed, the others go on, and what they settle is told to nobody; another sink in its place has it all go on. */
static void who_is_superseded_stands_still(void **state)
{
    struct stage *second, *next;
    uint64_t told;

    (void)state;
    stand_still();
    told = rig.told;
    assert_false(rig.pipeline.must_fail);
    second = rig.pipeline.sinks[1];
    next = make(FMS_SINK, second->name, &later);
    ((struct instance *)next->instance)->number = 1;
    change_sink(&rig.pipeline, second, next, NULL, in_ms(0));
    lane_take(&rig.pipeline);
    rig.pipeline.options.drain_timeout = 10 * FMS_SECOND;
    lane_give(&rig.pipeline);
    change_first_sink(&later, 0);
    await_all_in_flight();
    assert_int_equal(rig.told, told);
    assert_int_equal(SEEN(rig.pipeline.is_paused), true); /* a reload opens the source again */
    assert_int_equal(replace_source(a_source(&source), a_source(&source)), 0);
    await(&rig.told, 3000);
    rig.repeated = 0;
    finish();
}

/* The same sink: what is reloaded beside it does not bring the source back. */
static void who_is_superseded_stays_so(void **state)
{
    (void)state;
    stand_still();
    assert_int_equal(replace_source(a_source(&source), a_source(&source)), 0);
    while (!is_let_go())
        sleep_ms(1);
    pipeline_stop(&rig.pipeline);
    pthread_join(rig.lane, NULL);
    pipeline_close(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_false(rig.pipeline.must_fail);
    assert_int_equal(rig.told_late, 0);
}

/* ------------------------------------------------------------------------------------------------- records and counts */

/* Records from before a path was asked for are read by who asks for it, too. */
static void fields_of_earlier_records_are_found(void **state)
{
    struct stage *sink;

    (void)state;
    start(&passing, &stalled, NULL);
    await_blocked();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(json_paths_stage(rig.pipeline.paths, UINT64_C(1) << rig.pipeline.sinks[0]->index), 0);
        json_paths_user(rig.pipeline.paths, UINT64_C(1) << 63);
        json_paths_add(rig.pipeline.paths, i % 2 == 0 ? "other" : "another");
        sink = make(FMS_SINK, "sink a", &reading);
        assert_int_equal(change_layout(&rig.pipeline, NULL, 0, in_ms(10000)), 0);
        change_sink(&rig.pipeline, rig.pipeline.sinks[0], sink, NULL, in_ms(1));
        await(&rig.told, 5000);
    }
    assert_int_equal(rig.wrong_fields, 0);
    finish();
}

static void ask_for(const char *path)
{
    assert_int_equal(json_paths_stage(rig.pipeline.paths, 0), 0);
    json_paths_user(rig.pipeline.paths, UINT64_C(1) << 63);
    assert_true(json_paths_add(rig.pipeline.paths, path) >= 0);
}

/* However often: a sink that is stuck can always be replaced. */
static void what_asks_for_nothing_new_waits_for_nobody(void **state)
{
    (void)state;
    start(&passing, &stalled, NULL);
    await_blocked();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(change_layout(&rig.pipeline, NULL, 0, in_ms(0)), 0);
        change_first_sink(i < 2 ? &stalled : &later, 0);
    }
    await(&rig.told, 3000);
    finish();
}

/* Records of two kinds may be in flight, not three. */
static void a_third_form_of_records_is_waited_for(void **state)
{
    (void)state;
    start(&passing, &stalled, NULL);
    await_blocked();
    ask_for("a");
    assert_int_equal(change_layout(&rig.pipeline, NULL, 0, in_ms(0)), 0);
    lane_take(&rig.pipeline);
    rig.pipeline.options.max_in_flight = 2000;
    lane_give(&rig.pipeline);
    while (SEEN(rig.pipeline.records.alive[1]) == 0)
        sleep_ms(1);
    ask_for("b");
    assert_int_equal(change_layout(&rig.pipeline, NULL, 0, in_ms(10)), -ETIMEDOUT);
    change_first_sink(&later, 1);
    assert_int_equal(change_layout(&rig.pipeline, NULL, 0, in_ms(10000)), 0);
    await(&rig.told, 3000);
    finish();
}

struct counts {
    uint64_t out, in;
};

/* What is shown never goes back. */
static void assert_counts_on(struct counts last[2])
{
    struct pipeline_view view = {0};

    assert_true(snapshot_read(&rig.pipeline, &view, 10 * FMS_SECOND));
    for (size_t i = 0; i < 2; i++) {
        const struct stage_view *stage = &view.stages[i == 0 ? 1 : view.stage_count - 1];

        assert_true(stage->records_in >= last[i].in && stage->records_out >= last[i].out);
        assert_true(stage->records_out <= stage->records_in && stage->held <= 1000);
        last[i] = (struct counts){stage->records_out, stage->records_in};
    }
    view_forget(&view);
}

static void counts_go_on(void **state)
{
    struct counts last[2] = {{0, 0}, {0, 0}};
    struct stage *first;

    (void)state;
    start(&keeping, &later, NULL);
    first = rig.pipeline.transforms[0];
    for (int i = 0; i < 20; i++) {
        change_to(2, first, make(FMS_TRANSFORM, "transform b", &keeping));
        assert_counts_on(last);
        change_to(1, first);
        assert_counts_on(last);
        change_first_sink(&later, 100);
        assert_counts_on(last);
        first = make(FMS_TRANSFORM, "transform a", &keeping);
        change_to(1, first);
        assert_counts_on(last);
    }
    assert_true(last[1].out > 20 * 60);
    finish();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(transforms_come_and_go),
        CASE(a_lane_without_a_pause_is_changed),
        CASE(what_waits_for_room_is_not_lost),
        CASE(sinks_take_each_others_place),
        CASE(a_dead_sink_is_replaced),
        CASE(a_dead_sink_goes),
        CASE(a_sink_that_is_one_is_opened_when_the_other_is_closed),
        CASE(a_sink_that_does_not_open_changes_nothing),
        CASE(sinks_come_and_go),
        CASE(bounds_change),
        CASE(sources_follow_each_other),
        CASE(a_source_that_does_not_open_changes_nothing),
        CASE(a_stop_comes_while_the_lane_has_paused),
        CASE(what_a_source_leaves_is_delivered),
        CASE(a_source_that_is_closed_is_told_nothing),
        CASE(who_is_superseded_stands_still),
        CASE(who_is_superseded_stays_so),
        CASE(fields_of_earlier_records_are_found),
        CASE(what_asks_for_nothing_new_waits_for_nobody),
        CASE(a_third_form_of_records_is_waited_for),
        CASE(counts_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
