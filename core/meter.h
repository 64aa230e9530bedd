/* meter.h - where the time goes: what the lane measures while it works, in pipelines that somebody watches (pipeline_measure).
 *
 * The clock is read a few times a turn and not for each record: when the lane wakes, after each call that a plugin has had the
 * lane for, and before the source is told. What comes between has the time read last. So records that travel together have the
 * same times, and a run of them is added to a histogram as one. */
#ifndef FMS_METER_H
#define FMS_METER_H

#include "pipeline.h"

/* The lane goes on, or pauses. Nothing where it is not measured. [lane] */
void meter_wake(struct pipeline *pipeline);
void meter_sleep(struct pipeline *pipeline, int64_t now);
/* What has passed since the last lap was this stage's; NULL: the core's own. Likewise. [lane] */
void meter_lap(struct pipeline *pipeline, struct stage *stage);

/* For what is measured alone. */

/* A root that is to be timed was emitted; one whose age is looked at: of records that come at once the first. [lane] */
void meter_time(struct pipeline *pipeline, struct record *root);
void meter_age(struct pipeline *pipeline, struct record *root);
/* A timed record has come through the transforms. [lane] */
void meter_transformed(struct pipeline *pipeline, struct record *record);
/* A timed call of a transform has ended, which was made in `outer` (NULL: in none). [lane] */
void meter_call(struct stage *transform, int64_t since, const struct call *outer);
/* Of `batch`, offered when the time was `at`, the sink has taken `n`. [lane] */
void meter_taken(struct stage *sink, struct record *const *batch, size_t n, int64_t at);

/* Durations up to `at`, of records that one pass goes over: a run of those that began together is added as one. */
struct meter_run {
    struct histogram_view *to;
    int64_t at, since;
    uint64_t count;
};

static inline void meter_run_end(struct meter_run *run)
{
    if (run->count > 0)
        histogram_view_add(run->to, run->at - run->since, run->count);
}

static inline void meter_run_add(struct meter_run *run, int64_t since)
{
    if (since != run->since) {
        meter_run_end(run);
        run->since = since;
        run->count = 0;
    }
    run->count++;
}

/* A root was emitted; a record has come to where `volume` is counted, and into sinks' queues. [lane] */
static inline void meter_emitted(struct pipeline *pipeline, struct record *root)
{
    struct meter *meter = &pipeline->meter;

    root->emitted_at = meter->at;
    meter->bytes += root->public.payload.size;
    if (--meter->until_timed == 0)
        meter_time(pipeline, root);
    if (meter->aged_at != meter->at)
        meter_age(pipeline, root);
}

static inline void meter_queued(struct pipeline *pipeline, struct volume *volume, struct record *record)
{
    volume->bytes += record->public.payload.size;
    record->queued_at = pipeline->meter.at;
    if (record->is_timed)
        meter_transformed(pipeline, record);
}

#endif
