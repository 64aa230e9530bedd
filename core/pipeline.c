/* pipeline.c - what any thread may ask of a pipeline. */
#include "pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define PATIENCE (3 * FMS_SECOND)

_Thread_local struct pipeline *pipeline_current;

int pipeline_init(struct pipeline *pipeline)
{
    pthread_mutex_init(&pipeline->lock, NULL);
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
    pthread_mutex_destroy(&pipeline->inbox_lock);
    pthread_mutex_destroy(&pipeline->shown.lock);
    pthread_cond_destroy(&pipeline->shown.changed);
}

static void set_slot(struct stage *stage, size_t slot)
{
    stage->slot = slot;
    stage->slot_at = offsetof(struct record, slots) + slot * sizeof(struct slot);
}

void pipeline_add(struct pipeline *pipeline, struct stage *stage, enum fms_role role)
{
    stage->index = pipeline->stage_count;
    set_slot(stage, 0);
    pipeline->stages[pipeline->stage_count++] = stage;
    if (role == FMS_SOURCE) {
        pipeline->source = stage;
    } else if (role == FMS_TRANSFORM) {
        pipeline->transforms[pipeline->transform_count++] = stage;
    } else if (role == FMS_SINK) {
        set_slot(stage, pipeline->sink_count);
        pipeline->sinks[pipeline->sink_count++] = stage;
    } else {
        pipeline->dead_letter = stage;
    }
    if (pipeline->dead_letter != NULL) { /* behind the last sink */
        set_slot(pipeline->dead_letter, pipeline->sink_count);
        pipeline->sinks[pipeline->sink_count] = pipeline->dead_letter;
    }
}

void pipeline_layout(struct pipeline *pipeline)
{
    records_layout(&pipeline->records, pipeline_slots(pipeline), json_cache_size(pipeline->paths),
                   (size_t)pipeline->options.max_in_flight_bytes);
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

void pipeline_wake(struct pipeline *pipeline)
{
    uint64_t one = 1;

    if (!atomic_exchange(&pipeline->is_signalled, true) && write(pipeline->wake_fd, &one, sizeof one) < 0)
        log_line(FMS_LOG_ERROR, pipeline->options.name, NULL, "cannot wake the lane: %s", strerror(errno));
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
