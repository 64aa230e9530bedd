/* change.c - see change.h. */
#include "change.h"

#include <errno.h>
#include <string.h>

#include "assemble.h"
#include "call.h"
#include "clock.h"
#include "fleet.h"
#include "lane.h"
#include "log.h"
#include "settle.h"
#include "snapshot.h"
#include "tap.h"

#define LOOK (2 * FMS_MS) /* how often it is seen whether what is waited for has come */

static bool is_ending(const struct pipeline *pipeline)
{
    return pipeline->must_stop || pipeline->must_fail || pipeline->must_finish || pipeline->state == PIPELINE_ENDED;
}

bool change_is_late(struct pipeline *pipeline)
{
    bool is_late;

    lane_take(pipeline);
    is_late = is_ending(pipeline);
    lane_give(pipeline);
    return is_late;
}

bool change_is_over(struct pipeline *pipeline)
{
    bool is_over;

    lane_take(pipeline);
    is_over = pipeline->state == PIPELINE_ENDED;
    lane_give(pipeline);
    return is_over;
}

/* Lets the lane work for a moment; false: there is no time left, or the pipeline is to end. As the lane. */
static bool wait_a_moment(struct pipeline *pipeline, int64_t until)
{
    struct timespec pause = {0, LOOK};

    if (clock_now() >= until || is_ending(pipeline))
        return false;
    lane_give(pipeline);
    nanosleep(&pause, NULL);
    lane_take(pipeline);
    return true;
}

/* ------------------------------------------------------------------------------------------------------- counting on */

static bool is_successor(const struct stage *stage, const struct stage *old)
{
    return stage->plugin == old->plugin && strcmp(stage->name, old->name) == 0;
}

static void count_on(struct stage *stage, const struct stage *old)
{
    stage->tally = old->tally;
    measures_add(&stage->measures, &old->measures);
}

/* The source may emit again. As the lane. */
static void go_on(struct pipeline *pipeline)
{
    pipeline->is_held = false;
    pipeline->source->is_woken = true;
}

/* -------------------------------------------------------------------------------------------------------- transforms */

/* Whether those that stay stand in the same order. */
static bool is_in_order(const struct pipeline *pipeline, struct stage *const *transforms, size_t count)
{
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        size_t place = at;

        if (!stage_is_among(transforms[i], pipeline->transforms, pipeline->transform_count))
            continue;
        while (place < pipeline->transform_count && pipeline->transforms[place] != transforms[i])
            place++;
        if (place == pipeline->transform_count)
            return false;
        at = place + 1;
    }
    return true;
}

static void flush(struct stage *transform)
{
    const struct call *outer;

    if (transform->queue.taken == 0 || transform->plugin->table.transform_flush == NULL)
        return;
    outer = call_begin(transform, CALL_STOP);
    transform->plugin->table.transform_flush(transform->instance);
    call_end(transform->pipeline, outer);
    if (transform->queue.taken > 0)
        rule_broken(transform, "still keeps %zu records after transform_flush", transform->queue.taken);
}

/* Whether those that are to be empty are, along the way, for what one passes on the next may keep. */
static bool flush_all(struct pipeline *pipeline, struct stage *const *staying, size_t count)
{
    bool is_empty = true;

    for (size_t i = 0; i < pipeline->transform_count && is_empty; i++) {
        struct stage *transform = pipeline->transforms[i];

        if (stage_is_among(transform, staying, count))
            continue;
        if (transform->family.waiting.head == NULL)
            flush(transform);
        is_empty = transform->family.waiting.head == NULL && transform->queue.taken == 0;
    }
    return is_empty;
}

/* From what goes to what comes under its name. */
static void move_taps(const struct pipeline *pipeline, struct stage *const *transforms, size_t count)
{
    for (size_t i = 0; i < pipeline->transform_count; i++) {
        const struct stage *old = pipeline->transforms[i], *next = NULL;

        for (size_t k = 0; k < count; k++)
            next = strcmp(transforms[k]->name, old->name) == 0 ? transforms[k] : next;
        if (next != old)
            tap_follow(old, next);
    }
}

/* What was told to have come out of each that stays is no less afterwards, whatever counts there now. */
static void put_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count)
{
    struct volume told[PIPELINE_MAX_STAGES];

    for (size_t i = 0; i < count; i++) {
        const struct stage *old = transforms[i];

        for (size_t k = 0; k < pipeline->transform_count && old == transforms[i]; k++) {
            if (transforms[i] != pipeline->transforms[k] && is_successor(transforms[i], pipeline->transforms[k]))
                old = pipeline->transforms[k];
        }
        told[i] = stage_is_among(old, pipeline->transforms, pipeline->transform_count) ? snapshot_out(old)
                                                                                       : (struct volume){0, 0};
        if (old != transforms[i])
            count_on(transforms[i], old);
    }
    move_taps(pipeline, transforms, count);
    pipeline_put_transforms(pipeline, transforms, count);
    for (size_t i = 0; i < count; i++) {
        struct volume *before = &transforms[i]->tally.before, counted;

        *before = (struct volume){0, 0};
        counted = snapshot_out(transforms[i]);
        *before = (struct volume){told[i].records - counted.records, told[i].bytes - counted.bytes};
    }
}

int change_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count, int64_t until)
{
    size_t staying;
    bool is_empty;

    lane_take(pipeline);
    staying = is_in_order(pipeline, transforms, count) ? count : 0;
    while (!(is_empty = flush_all(pipeline, transforms, staying)) && !pipeline->must_fail) {
        pipeline->is_held = true; /* so that what waits there finds room */
        if (!wait_a_moment(pipeline, until))
            break;
    }
    if (is_empty) {
        put_transforms(pipeline, transforms, count);
        snapshot_renew(pipeline);
    }
    go_on(pipeline);
    lane_give(pipeline);
    return is_empty ? 0 : -ETIMEDOUT;
}

/* What comes to a new sink is what the old one leaves, and what comes from now on. */
static void begin_count(struct stage *sink, struct volume left)
{
    const struct pipeline *pipeline = sink->pipeline;

    if (sink->host.role == FMS_DEAD_LETTER)
        sink->tally.in = left;
    else
        sink->tally.before = (struct volume){left.records - pipeline->passed.records,
                                             left.bytes - pipeline->passed.bytes};
}

int change_layout(struct pipeline *pipeline, struct stage *const *sinks, size_t count, int64_t until)
{
    bool is_other = count > 0 || json_paths_has_more(pipeline->paths), is_good;

    lane_take(pipeline);
    while (!(is_good = (!is_other || records_may_change(&pipeline->records)) &&
                       (count == 0 || flush_all(pipeline, NULL, 0))) &&
           !pipeline->must_fail) {
        pipeline->is_held = count > 0;
        if (!wait_a_moment(pipeline, until))
            break;
    }
    if (is_good) {
        for (size_t i = 0; i < count; i++) {
            pipeline_join(pipeline, sinks[i]);
            begin_count(sinks[i], (struct volume){0, 0});
        }
        json_paths_commit(pipeline->paths);
        if (is_other)
            pipeline_layout(pipeline);
        snapshot_renew(pipeline);
    }
    go_on(pipeline);
    lane_give(pipeline);
    return is_good ? 0 : -ETIMEDOUT;
}

static void change_fleet(struct pipeline *pipeline, struct pipeline *next)
{
    struct fleet *old = pipeline->fleet;

    if (next->fleet == NULL && pipeline->options.vehicle != NULL) {
        fleet_keep(old, pipeline->options.vehicle, pipeline->options.silent_after);
        return;
    }
    if (next->fleet != NULL && old != NULL)
        fleet_follow(next->fleet, old);
    pthread_mutex_lock(&pipeline->shown.lock);
    pipeline->fleet = next->fleet;
    pthread_mutex_unlock(&pipeline->shown.lock);
    next->fleet = old;
}

void change_options(struct pipeline *pipeline, struct pipeline *next)
{
    struct pipeline_options options;
    struct options_memory *memory;

    lane_take(pipeline);
    options = pipeline->options;
    memory = pipeline->memory;
    pipeline->options = next->options;
    pipeline->memory = next->memory;
    pipeline->asks_as = next->asks_as;
    next->options = options;
    next->memory = memory;
    pipeline->name = pipeline->options.name;
    pipeline->records.most = (size_t)pipeline->options.max_in_flight_bytes;
    pipeline->ends_within = pipeline->options.drain_timeout;
    change_fleet(pipeline, next);
    go_on(pipeline);
    snapshot_take(pipeline);
    lane_give(pipeline);
}

/* ------------------------------------------------------------------------------------------------------------- sinks */

static struct volume left_in(const struct stage *sink)
{
    struct volume left = {0, 0};

    for (struct record *record = sink->queue.head; record != NULL; record = slot_of(record, sink)->next) {
        if (record_is_end(record))
            continue;
        left.records++;
        left.bytes += record->public.payload.size;
    }
    return left;
}

/* It is closed, which may take its time, and still settle some; then the lane is taken. */
static void close_sink(struct pipeline *pipeline, struct stage *sink)
{
    sink->is_closing = true;
    lane_give(pipeline);
    stage_close(sink);
    lane_take(pipeline);
    settle_run(pipeline);
}

/* `stage`, or where it does not open `again`; where that does not either, dead, and the pipeline fails. */
static struct stage *open_one(struct stage *stage, struct stage *again, int *error)
{
    *error = stage->is_open ? 0 : stage_open(stage);
    if (*error == 0)
        return stage;
    if (stage_open(again) != 0) {
        again->is_dead = true;
        pipeline_fail(again->pipeline);
    }
    return again;
}

int change_sink(struct pipeline *pipeline, struct stage *old, struct stage *sink, struct stage *again, int64_t until)
{
    struct volume left;
    int error;

    lane_take(pipeline);
    old->is_held = true;
    while (old->queue.taken > 0 && !old->is_dead && wait_a_moment(pipeline, until))
        continue;
    close_sink(pipeline, old);
    lane_give(pipeline);
    sink = open_one(sink, again, &error);
    lane_take(pipeline);
    left = left_in(old);
    pipeline_put_sink(pipeline, old, sink);
    tap_follow(old, sink);
    settle_hand_over(old, sink);
    if (is_successor(sink, old))
        count_on(sink, old);
    else
        begin_count(sink, left);
    snapshot_renew(pipeline);
    lane_give(pipeline);
    return error;
}

size_t change_remove_sink(struct pipeline *pipeline, struct stage *old, int64_t until)
{
    struct volume left;

    lane_take(pipeline);
    pipeline_leave(pipeline, old);
    snapshot_renew(pipeline);
    while (old->queue.head != NULL && !old->is_dead && wait_a_moment(pipeline, until))
        continue;
    close_sink(pipeline, old);
    left = left_in(old);
    settle_give_up(old);
    pipeline_left(pipeline);
    tap_follow(old, NULL);
    snapshot_renew(pipeline);
    lane_give(pipeline);
    return (size_t)left.records;
}

/* ------------------------------------------------------------------------------------------------------------ source */

bool change_pause(struct pipeline *pipeline)
{
    struct timespec pause = {0, LOOK};

    lane_take(pipeline);
    pipeline->is_pausing = true;
    while (!pipeline->is_paused && !is_ending(pipeline)) {
        lane_give(pipeline);
        nanosleep(&pause, NULL);
        lane_take(pipeline);
    }
    pipeline->is_pausing = pipeline->is_paused;
    pipeline->source->is_closing = pipeline->is_paused;
    lane_give(pipeline);
    return pipeline->source->is_closing;
}

int change_source(struct pipeline *pipeline, struct stage *source, struct stage *again)
{
    struct stage *old = pipeline->source;
    int error;

    stage_close(old);
    source = open_one(source, again, &error);
    lane_take(pipeline);
    if (is_successor(source, old))
        count_on(source, old);
    pipeline_put_source(pipeline, source);
    tap_follow(old, source);
    lane_resume(pipeline);
    snapshot_renew(pipeline);
    lane_give(pipeline);
    return error;
}
