/* snapshot.c - see snapshot.h. Who reads waits for the lane's next turn, and the lane for nobody. */
#include "snapshot.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"

/* In the order of a view: along the way of a record, whatever the order in the file. */
static struct stage *stage_at(const struct pipeline *pipeline, size_t i)
{
    if (i == 0)
        return pipeline->source;
    if (i <= pipeline->transform_count)
        return pipeline->transforms[i - 1];
    return pipeline->sinks[i - 1 - pipeline->transform_count];
}

/* Under shown.lock, where somebody may look. */
static int make_view(struct pipeline *pipeline)
{
    struct stage_view *stages = calloc(pipeline->stage_count + 1, sizeof *stages);
    int error = -ENOMEM;

    for (size_t i = 0; i < pipeline->stage_count && stages != NULL; i++) {
        const struct stage *stage = stage_at(pipeline, i);

        stages[i] = (struct stage_view){.name = stage->name, .role = stage->host.role, .table = &stage->plugin->table};
    }
    if (stages != NULL)
        error = view_reserve(&pipeline->shown.latest, stages, pipeline->stage_count);
    free(stages);
    return error;
}

int snapshot_init(struct pipeline *pipeline)
{
    int error = make_view(pipeline);

    snapshot_take(pipeline);
    return error;
}

void snapshot_renew(struct pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->shown.lock);
    (void)make_view(pipeline);
    pthread_mutex_unlock(&pipeline->shown.lock);
    snapshot_take(pipeline);
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

static struct volume sum_of(struct volume a, struct volume b)
{
    return (struct volume){a.records + b.records, a.bytes + b.bytes};
}

struct volume snapshot_out(const struct stage *transform)
{
    const struct pipeline *pipeline = transform->pipeline;
    size_t next = 0;

    while (pipeline->transforms[next++] != transform)
        continue;
    return sum_of(next < pipeline->transform_count ? pipeline->transforms[next]->tally.in : pipeline->passed,
                  transform->tally.before);
}

/* What has come in and gone on, of records and of bytes. */
static void show_volumes(const struct stage *stage, struct stage_view *to)
{
    const struct pipeline *pipeline = stage->pipeline;
    struct volume in = stage->tally.in, out = stage->tally.delivered;

    if (to->role == FMS_SOURCE)
        out = (struct volume){pipeline->counts.emitted, pipeline->meter.bytes};
    else if (to->role == FMS_TRANSFORM)
        out = snapshot_out(stage);
    else if (to->role == FMS_SINK)
        in = sum_of(pipeline->passed, stage->tally.before);
    to->records_in = in.records;
    to->bytes_in = in.bytes;
    to->records_out = out.records;
    to->bytes_out = out.bytes;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* When the first of a list was emitted; 0 where there is none. */
static int64_t head_at(const struct record *head)
{
    return head != NULL ? head->emitted_at : 0;
}

/* What a transform keeps is as old as its root. A sink is not to blame for the time before it was given a record. */
static int64_t stage_head_at(const struct stage *stage)
{
    const struct record *head = stage->queue.head;

    if (stage->host.role == FMS_TRANSFORM)
        return earlier(head_at(head), head_at(stage->family.waiting.head));
    return head != NULL ? head->queued_at : 0;
}

static void show_stage(struct stage *stage, struct stage_view *to)
{
    const struct tally *tally = &stage->tally;

    to->is_dead = stage->is_dead;
    to->taken = stage->queue.taken;
    to->is_full = stage->queue.is_full;
    to->is_retrying = stage->retry.is_due;
    to->rejected = tally->rejected;
    to->letters = tally->letters;
    to->discarded = tally->discarded;
    to->retried = tally->retried;
    to->dropped = tally->dropped;
    show_volumes(stage, to);
    to->held = to->role == FMS_SOURCE      ? 0
               : to->role == FMS_TRANSFORM ? stage->queue.taken + stage->family.waiting_count
                                           : (size_t)(to->records_in - to->records_out - tally->rejected);
    to->oldest_at = stage_head_at(stage);
    to->oldest_number = stage->queue.passed;
    to->last_at = tally->last_at;
    to->busy = tally->busy - tally->lent > to->busy ? tally->busy - tally->lent : to->busy; /* never less than before */
    to->queue = tally->queue;
    to->far_end = tally->far_end;
    show_measures(stage, to);
}

/* What still goes on is told up to now. */
static void show_times(const struct pipeline *pipeline, struct pipeline_view *to)
{
    const struct meter *meter = &pipeline->meter;

    to->busy = meter->busy + (meter->awake_at != 0 ? to->shown_at - meter->awake_at : 0);
    to->blocked = meter->blocked + (pipeline->is_blocked ? to->shown_at - meter->blocked_at : 0);
}

static void show_pipeline(const struct pipeline *pipeline, struct pipeline_view *to)
{
    to->name = pipeline->options.name;
    to->file = pipeline->file;
    to->shown_at = clock_now();
    to->state = pipeline->state;
    to->has_failed = pipeline->has_failed;
    to->is_finished = pipeline->is_finished;
    to->is_blocked = pipeline->is_blocked;
    to->is_going = pipeline->is_going;
    to->stands_still = pipeline->stands_still;
    to->counts = pipeline->counts;
    to->in_flight = pipeline->in_flight;
    to->in_flight_bytes = pipeline->records.bytes;
    to->max_in_flight = (size_t)pipeline->options.max_in_flight;
    to->max_in_flight_bytes = (size_t)pipeline->options.max_in_flight_bytes;
    to->left = pipeline->left;
    to->stall_after = pipeline->options.stall_after;
    to->started_at = pipeline->started_at;
    to->transform = pipeline->meter.transform;
    to->total = pipeline->meter.total;
    to->age = pipeline->meter.age;
    if (pipeline->is_measured)
        show_times(pipeline, to);
}

static void show_oldest(const struct pipeline *pipeline, struct pipeline_view *to)
{
    to->oldest_at = head_at(pipeline->stuck.head);
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        const struct stage *stage = pipeline->stages[i];

        to->oldest_at = earlier(to->oldest_at,
                                earlier(head_at(stage->queue.head), head_at(stage->family.waiting.head)));
    }
}

void snapshot_take(struct pipeline *pipeline)
{
    struct shown *shown = &pipeline->shown;

    pthread_mutex_lock(&shown->lock);
    shown->is_wanted = false;
    show_pipeline(pipeline, &shown->latest);
    for (size_t i = 0; i < shown->latest.stage_count; i++)
        show_stage(stage_at(pipeline, i), &shown->latest.stages[i]);
    show_oldest(pipeline, &shown->latest);
    pipeline->meter.realtime = clock_realtime() - shown->latest.shown_at;
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
