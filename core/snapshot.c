/* snapshot.c - see snapshot.h. Who reads waits for the lane's next turn, and the lane for nobody. */
#include "snapshot.h"

#include <errno.h>

#include "clock.h"

void snapshot_take(struct pipeline *pipeline)
{
    struct shown *shown = &pipeline->shown;
    struct snapshot now = {
        .state = pipeline->state,
        .counts = pipeline->counts,
        .in_flight = pipeline->in_flight,
        .in_flight_bytes = pipeline->records.bytes,
        .left = pipeline->left,
        .has_failed = pipeline->has_failed,
        .is_finished = pipeline->is_finished,
    };

    pthread_mutex_lock(&shown->lock);
    shown->is_wanted = false;
    shown->latest = now;
    shown->number++;
    pthread_cond_broadcast(&shown->changed);
    pthread_mutex_unlock(&shown->lock);
}

static void show(struct pipeline *pipeline, bool is_running)
{
    pthread_mutex_lock(&pipeline->shown.lock);
    pipeline->shown.is_running = is_running;
    pthread_mutex_unlock(&pipeline->shown.lock);
    snapshot_take(pipeline);
}

void snapshot_begin(struct pipeline *pipeline)
{
    show(pipeline, true);
}

void snapshot_end(struct pipeline *pipeline)
{
    show(pipeline, false);
}

bool snapshot_read(struct pipeline *pipeline, struct snapshot *to, int64_t patience)
{
    struct shown *shown = &pipeline->shown;
    struct timespec until = clock_timespec(clock_monotonic_in(patience));
    uint64_t before;
    bool is_running, is_new;

    pthread_mutex_lock(&shown->lock);
    before = shown->number;
    if (shown->is_running) {
        shown->is_wanted = true;
        pipeline_wake(pipeline);
    }
    while (shown->is_running && shown->number == before &&
           pthread_cond_timedwait(&shown->changed, &shown->lock, &until) != ETIMEDOUT)
        continue;
    is_running = shown->is_running;
    is_new = shown->number != before;
    *to = shown->latest;
    pthread_mutex_unlock(&shown->lock);
    return is_running && is_new;
}
