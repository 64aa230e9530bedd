/* change.h - other stages in a pipeline that runs: between two records, without a connection touched that is to stay.
 *
 * Whoever changes it is no lane, and the only one who does: the lane goes on meanwhile, and what must not meet it is done while it
 * sleeps (lane_take). A change that fails leaves the pipeline as it was. All functions: [control]. */
#ifndef FMS_CHANGE_H
#define FMS_CHANGE_H

#include "pipeline.h"

/* Records in flight keep their form, which the lane knows of two kinds: waits for those from before the last change to be gone.
 * Then new paths count (json_paths_stage), and new records have room for the sinks that there are. 0, or -ETIMEDOUT at `until`. */
int change_layout(struct pipeline *pipeline, int64_t until);

/* These are its transforms from now on: some are those it had, the others are open. What goes has passed on what it kept, and is the
 * caller's to close. A new one of the same name and plugin as one that goes counts on from there. 0; or -ETIMEDOUT: at `until`
 * records still waited in one that goes for room, or the pipeline was told to stop. */
int change_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count, int64_t until);

/* A sink, or the sink of dead letters, goes, and `sink`, which is open, takes its place; NULL: none does. The old one is offered
 * nothing more and settles what it took, until `until` at the latest; then it is closed. What it has not settled then is offered to
 * the new one, in order; without one nobody asks for it any more. How many records these were. */
size_t change_sink(struct pipeline *pipeline, struct stage *old, struct stage *sink, int64_t until);

/* The source ends, as at a stop, and what is in flight is settled, or left after drain_timeout; then it is closed, so that there are
 * never two of them, and `source` is opened. Where that fails `again` is, which is made as the old one was. What was left is
 * delivered all the same; a source with a durable input gets it again. 0; -EIO: `again` is the source, or neither could be opened,
 * and the pipeline fails; -ECANCELED: the pipeline ends, with the source that it had. */
int change_source(struct pipeline *pipeline, struct stage *source, struct stage *again);

#endif
