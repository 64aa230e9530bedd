/* lane.h - a pipeline's thread of control: the loop. */
#ifndef FMS_LANE_H
#define FMS_LANE_H

#include "pipeline.h"

/* Runs until the pipeline has ended; on a thread of its own. Stages are open. */
void lane_run(struct pipeline *pipeline);

/* Another thread becomes the lane; it offers what was emitted to the sinks, and tells the source, before it leaves. Any thread
 * but the lane. */
void lane_enter(struct pipeline *pipeline);
void lane_leave(struct pipeline *pipeline);

/* The same for the runner, which changes a pipeline: between two turns, even of a lane that has no pause, or while it sleeps in
 * fms_drain. Any thread but the lane; the stages are open, whether the lane runs yet or not. */
void lane_take(struct pipeline *pipeline);
void lane_give(struct pipeline *pipeline);
/* A lane that has paused goes on, with the source that there is now. As the lane. */
void lane_resume(struct pipeline *pipeline);

/* See fms_drain. [lane], in source_poll */
size_t lane_drain(struct pipeline *pipeline, int64_t deadline);

#endif
