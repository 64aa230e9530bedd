/* snapshot.h - what a pipeline is doing, for any thread: the lane shows it when somebody asks, and nobody else looks into it. */
#ifndef FMS_SNAPSHOT_H
#define FMS_SNAPSHOT_H

#include "pipeline.h"

/* Once all stages are there: makes the view that is shown. 0 or -ENOMEM. Without it no stages are shown. [control] */
int snapshot_init(struct pipeline *pipeline);

/* The same once there are others; what was shown of those that stay is shown on. [lane] */
void snapshot_renew(struct pipeline *pipeline);
/* What has come out of a transform: all of it has come into the next one, or into the sinks' queues. [lane] */
struct volume snapshot_out(const struct stage *transform);

/* The lane runs from now on, or has ended. [lane] */
void snapshot_begin(struct pipeline *pipeline);
void snapshot_end(struct pipeline *pipeline);

/* Shows the state as it is: for when it was asked for, or whenever it has changed for good. [lane], or [control] where no lane
 * runs */
void snapshot_take(struct pipeline *pipeline);

static inline bool snapshot_is_wanted(const struct pipeline *pipeline)
{
    return atomic_load_explicit(&pipeline->shown.is_wanted, memory_order_relaxed);
}

/* The state of a running pipeline as it is now; of one that does not run, or whose lane does not answer within `patience`
 * (nanoseconds), as it was when it was shown last, which is then `false`. `to` is as view_copy has it. Any thread but the
 * lane. */
bool snapshot_read(struct pipeline *pipeline, struct pipeline_view *to, int64_t patience);

#endif
