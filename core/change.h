/* change.h - other stages in a pipeline that runs: between two records, without a connection touched that is to stay.
 *
 * Whoever changes it is no lane, and the only one who does: the lane goes on meanwhile, and what must not meet it is done while it
 * sleeps (lane_take). A change that fails leaves the pipeline as it was. All functions: [control]. */
#ifndef FMS_CHANGE_H
#define FMS_CHANGE_H

#include "pipeline.h"

/* Whether it ends, or has ended, and is to be left as it is; and whether it has ended. */
bool change_is_late(struct pipeline *pipeline);
bool change_is_over(struct pipeline *pipeline);

/* New paths count from now on (json_paths_stage), and new sinks, which are open, get what comes from now on; one may be that of dead
 * letters, where there is none. Records in flight keep their form, of which the lane knows two: where one of both
 * comes, waits for those from before the last such change to be gone, and, where sinks come, for transforms to pass on what they keep. 0, or as change_transforms. */
int change_layout(struct pipeline *pipeline, struct stage *const *sinks, size_t count, int64_t until);

/* What [pipeline] says is what it says in `next`, whose paths count already (change_layout), and which has what it was: its name, by
 * which it is known from now on, bounds and times. Vehicles stay known as long as they are named the same: see fleet_follow. */
void change_options(struct pipeline *pipeline, struct pipeline *next);

/* These are its transforms from now on: some are those it had, the others are open. What goes has passed on what it kept, and is the
 * caller's to close. A new one of the same name and plugin as one that goes counts on from there. 0; or -ETIMEDOUT: at `until`
 * records still waited in one that goes for room, or the pipeline was told to stop. */
int change_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count, int64_t until);

/* A sink, or the sink of dead letters, goes, and `sink` takes its place. The old one is offered nothing more and settles what it took,
 * until `until` at the latest; then it is closed, and what it has not settled is offered to the new one, in order. One that is not
 * open yet is opened then; where that fails `again` is, and takes the place, as in change_source. 0, or the error of `sink`. */
int change_sink(struct pipeline *pipeline, struct stage *old, struct stage *sink, struct stage *again, int64_t until);
/* It goes, and none takes its place. Nothing more comes to it; what waits for it is offered and settled, until `until` at the latest,
 * and then asked for no more. How many records these were. */
size_t change_remove_sink(struct pipeline *pipeline, struct stage *old, int64_t until);

/* The source ends, as at a stop, and what is in flight is settled, or left after drain_timeout; then the lane pauses. False: the pipeline
 * ends, with the source that it had. */
bool change_pause(struct pipeline *pipeline);
/* Of a lane that has paused: the source is closed, so that there are never two of them, and `source` is opened. Where that fails
 * `again` is, which is made as the old one was; should that fail, too, the pipeline does. What was left in flight is delivered all the
 * same; a source with a durable input gets it again. Then the lane goes on. 0, or the error of `source`. */
int change_source(struct pipeline *pipeline, struct stage *source, struct stage *again);

#endif
