/* pipeline.c - what any thread may ask of a pipeline. */
#include "pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "fleet.h"
#include "log.h"

#define PATIENCE (3 * FMS_SECOND)

_Thread_local struct pipeline *pipeline_current;

int pipeline_init(struct pipeline *pipeline)
{
    pthread_mutex_init(&pipeline->lock, NULL);
    pthread_mutex_init(&pipeline->next, NULL);
    pthread_mutex_init(&pipeline->stages_lock, NULL);
    pthread_mutex_init(&pipeline->inbox_lock, NULL);
    pthread_mutex_init(&pipeline->shown.lock, NULL);
    clock_cond_init(&pipeline->shown.changed);
    pipeline->drain_until = FMS_NEVER;
    pipeline->patience = PATIENCE;
    pipeline->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return pipeline->wake_fd < 0 ? -errno : 0;
}

void pipeline_destroy(struct pipeline *pipeline)
{
    records_free(&pipeline->records);
    view_forget(&pipeline->shown.latest);
    free(pipeline->draft_json);
    close(pipeline->wake_fd);
    pthread_mutex_destroy(&pipeline->lock);
    pthread_mutex_destroy(&pipeline->next);
    pthread_mutex_destroy(&pipeline->stages_lock);
    pthread_mutex_destroy(&pipeline->inbox_lock);
    pthread_mutex_destroy(&pipeline->shown.lock);
    pthread_cond_destroy(&pipeline->shown.changed);
}

static void set_slot(struct stage *stage, size_t slot)
{
    stage->slot = slot;
    stage->slot_at = offsetof(struct record, slots) + slot * sizeof(struct slot);
}

/* The first that no sink has. */
static size_t free_slot(const struct pipeline *pipeline)
{
    uint64_t taken = 0;

    for (size_t i = 0; i < pipeline_slots(pipeline); i++)
        taken |= UINT64_C(1) << pipeline->sinks[i]->slot;
    return (size_t)__builtin_ctzll(~taken);
}

/* So many that each has its own. */
static size_t slots_needed(const struct pipeline *pipeline)
{
    size_t needed = 0;

    for (size_t i = 0; i < pipeline_slots(pipeline); i++)
        needed = pipeline->sinks[i]->slot >= needed ? pipeline->sinks[i]->slot + 1 : needed;
    return needed;
}

void pipeline_list(struct pipeline *pipeline, struct stage *stage, enum fms_role role)
{
    pipeline->stages[pipeline->stage_count++] = stage;
    if (role == FMS_SOURCE)
        pipeline->source = stage;
    else if (role == FMS_TRANSFORM)
        pipeline->transforms[pipeline->transform_count++] = stage;
    else if (role == FMS_SINK)
        pipeline->sinks[pipeline->sink_count++] = stage;
    else
        pipeline->dead_letter = stage;
    if (pipeline->dead_letter != NULL)
        pipeline->sinks[pipeline->sink_count] = pipeline->dead_letter; /* behind the last */
}

void pipeline_add(struct pipeline *pipeline, struct stage *stage, enum fms_role role)
{
    bool has_slot = role == FMS_SINK || role == FMS_DEAD_LETTER;

    stage->index = pipeline->stage_count;
    set_slot(stage, has_slot ? free_slot(pipeline) : 0);
    pipeline_list(pipeline, stage, role);
}

bool pipeline_asks_who(const struct pipeline *pipeline)
{
    bool asks = pipeline->dead_letter != NULL && pipeline->dead_letter->asks_who;

    for (size_t i = 0; i < pipeline->sink_count; i++)
        asks = asks || pipeline->sinks[i]->asks_who;
    return asks;
}

/* What sinks ask for is done from now on, and only that. */
static void answer_sinks(struct pipeline *pipeline)
{
    pipeline->records.are_known = pipeline_asks_who(pipeline);
    pipeline->tells_ends = pipeline->dead_letter != NULL && pipeline->dead_letter->asks_ends;
    for (size_t i = 0; i < pipeline->sink_count; i++)
        pipeline->tells_ends = pipeline->tells_ends || pipeline->sinks[i]->asks_ends;
}

/* All stages, once more: along the way of a record. */
static void gather_stages(struct pipeline *pipeline)
{
    size_t n = 0;

    pthread_mutex_lock(&pipeline->shown.lock);
    pipeline->stages[n++] = pipeline->source;
    for (size_t i = 0; i < pipeline->transform_count; i++)
        pipeline->stages[n++] = pipeline->transforms[i];
    for (size_t i = 0; i < pipeline_slots(pipeline); i++)
        pipeline->stages[n++] = pipeline->sinks[i];
    pipeline->stage_count = n;
    pthread_mutex_unlock(&pipeline->shown.lock);
    answer_sinks(pipeline);
    for (size_t i = 0; i < n; i++)
        pipeline->stages[i]->is_new = false;
    pipeline->changes++;
}

void pipeline_put_sink(struct pipeline *pipeline, const struct stage *old, struct stage *stage)
{
    size_t slots = pipeline_slots(pipeline);

    set_slot(stage, old->slot);
    for (size_t i = 0; i < slots; i++) {
        if (pipeline->sinks[i] == old)
            pipeline->sinks[i] = stage;
    }
    if (pipeline->dead_letter == old)
        pipeline->dead_letter = stage;
    gather_stages(pipeline);
}

/* Behind the last sink stand those that are none of them. */
static void gather_sinks(struct pipeline *pipeline)
{
    size_t n = pipeline->sink_count;

    if (pipeline->dead_letter != NULL)
        pipeline->sinks[n++] = pipeline->dead_letter;
    if (pipeline->leaving != NULL)
        pipeline->sinks[n++] = pipeline->leaving;
    gather_stages(pipeline);
}

void pipeline_leave(struct pipeline *pipeline, struct stage *sink)
{
    size_t n = 0;

    for (size_t i = 0; i < pipeline->sink_count; i++) {
        if (pipeline->sinks[i] != sink)
            pipeline->sinks[n++] = pipeline->sinks[i];
    }
    pipeline->sink_count = n;
    if (pipeline->dead_letter == sink)
        pipeline->dead_letter = NULL;
    pipeline->leaving = sink;
    gather_sinks(pipeline);
}

void pipeline_left(struct pipeline *pipeline)
{
    pipeline->leaving = NULL;
    gather_sinks(pipeline);
}

void pipeline_join(struct pipeline *pipeline, struct stage *sink)
{
    set_slot(sink, free_slot(pipeline));
    if (sink->host.role == FMS_DEAD_LETTER)
        pipeline->dead_letter = sink;
    else
        pipeline->sinks[pipeline->sink_count++] = sink;
    gather_sinks(pipeline);
}

void pipeline_put_source(struct pipeline *pipeline, struct stage *source)
{
    set_slot(source, 0);
    pipeline->source = source;
    pipeline->source_number++;
    gather_stages(pipeline);
}

void pipeline_put_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pipeline->transforms[i] = transforms[i];
        set_slot(transforms[i], 0);
    }
    pipeline->transform_count = count;
    gather_stages(pipeline);
}

void pipeline_layout(struct pipeline *pipeline)
{
    answer_sinks(pipeline);
    records_layout(&pipeline->records, slots_needed(pipeline), json_cache_size(pipeline->paths),
                   (size_t)pipeline->options.max_in_flight_bytes);
}

bool pipeline_is_durable(const struct pipeline *pipeline)
{
    bool durable = true;

    for (size_t i = 0; i < pipeline->sink_count; i++)
        durable = durable && (pipeline->sinks[i]->plugin->table.traits & FMS_TRAIT_DURABLE_WRITE) != 0;
    return durable;
}

void pipeline_measure(struct pipeline *pipeline)
{
    pipeline->is_measured = true;
    pipeline->meter.until_timed = METER_EACH;
}

void pipeline_block(struct pipeline *pipeline, bool is_blocked)
{
    struct meter *meter = &pipeline->meter;

    if (pipeline->is_blocked == is_blocked || (is_blocked && pipeline->state >= PIPELINE_DRAINING))
        return; /* the source is over */
    pipeline->is_blocked = is_blocked;
    if (!pipeline->is_measured)
        return;
    if (is_blocked)
        meter->blocked_at = clock_now();
    else
        meter->blocked += clock_now() - meter->blocked_at;
}

/* ---------------------------------------------------------------------------------------------------- other threads */

struct fleet *pipeline_fleet(struct pipeline *pipeline)
{
    struct fleet *fleet;

    pthread_mutex_lock(&pipeline->shown.lock);
    fleet = fleet_hold(pipeline->fleet);
    pthread_mutex_unlock(&pipeline->shown.lock);
    return fleet;
}

void pipeline_wake(struct pipeline *pipeline)
{
    uint64_t one = 1;

    if (!atomic_exchange(&pipeline->is_signalled, true) && write(pipeline->wake_fd, &one, sizeof one) < 0)
        log_line(FMS_LOG_ERROR, pipeline->name, NULL, "cannot wake the lane: %s", strerror(errno));
}

void pipeline_stop(struct pipeline *pipeline)
{
    pipeline->must_stop = true;
    pipeline_wake(pipeline);
}

void pipeline_fail(struct pipeline *pipeline)
{
    pipeline->must_fail = true;
    pipeline_wake(pipeline);
}

bool pipeline_has_superseded(const struct pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i]->is_superseded)
            return true;
    }
    return false;
}
