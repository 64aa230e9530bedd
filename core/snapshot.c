/* snapshot.c - see snapshot.h. Who reads waits for the lane's next turn, and the lane for nobody. */
#include "snapshot.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"

int snapshot_init(struct pipeline *pipeline)
{
    struct stage_view *stages = calloc(pipeline->stage_count + 1, sizeof *stages);
    int error = -ENOMEM;

    for (size_t i = 0; i < pipeline->stage_count && stages != NULL; i++) {
        const struct stage *stage = pipeline->stages[i];

        stages[i] = (struct stage_view){.name = stage->name, .role = stage->host.role, .table = &stage->plugin->table};
    }
    if (stages != NULL)
        error = view_reserve(&pipeline->shown.latest, stages, pipeline->stage_count);
    free(stages);
    snapshot_take(pipeline);
    return error;
}

/* What the plugin counts and measures itself, and its link. */
static void show_measures(struct stage *stage, struct stage_view *to)
{
    struct measures *measures = &stage->measures;

    to->has_link = (stage->plugin->table.traits & FMS_TRAIT_LINK) != 0;
    if (to->has_link)
        to->link = measures_link_state(measures);
    for (size_t i = 0; i < measures->counter_count; i++)
        to->counters[i] = atomic_load_explicit(&measures->counters[i], memory_order_relaxed);
    for (size_t i = 0; i < measures->gauge_count; i++)
        to->gauges[i] = atomic_load_explicit(&measures->gauges[i], memory_order_relaxed);
    for (size_t i = 0; i < measures->duration_count; i++)
        to->durations[i] = histogram_read(&measures->durations[i]);
}

static void show_stage(struct stage *stage, struct stage_view *to)
{
    to->is_dead = stage->is_dead;
    to->taken = stage->queue.taken;
    to->is_full = stage->queue.is_full;
    to->is_retrying = stage->retry.is_due;
    show_measures(stage, to);
}

static void show_pipeline(const struct pipeline *pipeline, struct pipeline_view *to)
{
    to->name = pipeline->options.name;
    to->file = pipeline->config != NULL ? pipeline->config->path : NULL;
    to->shown_at = clock_now();
    to->state = pipeline->state;
    to->has_failed = pipeline->has_failed;
    to->is_finished = pipeline->is_finished;
    to->is_blocked = pipeline->is_blocked;
    to->counts = pipeline->counts;
    to->in_flight = pipeline->in_flight;
    to->in_flight_bytes = pipeline->records.bytes;
    to->max_in_flight = (size_t)pipeline->options.max_in_flight;
    to->max_in_flight_bytes = (size_t)pipeline->options.max_in_flight_bytes;
    to->left = pipeline->left;
    to->stall_after = pipeline->stall_after;
    to->started_at = pipeline->started_at;
}

void snapshot_take(struct pipeline *pipeline)
{
    struct shown *shown = &pipeline->shown;

    pthread_mutex_lock(&shown->lock);
    shown->is_wanted = false;
    show_pipeline(pipeline, &shown->latest);
    for (size_t i = 0; i < shown->latest.stage_count; i++)
        show_stage(pipeline->stages[i], &shown->latest.stages[i]);
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
    pipeline->started_at = clock_now();
    show(pipeline, true);
}

void snapshot_end(struct pipeline *pipeline)
{
    show(pipeline, false);
}

bool snapshot_read(struct pipeline *pipeline, struct pipeline_view *to, int64_t patience)
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
    view_copy(to, &shown->latest);
    pthread_mutex_unlock(&shown->lock);
    return is_running && is_new;
}
