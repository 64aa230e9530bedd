/* settle.h - sinks' queues, and what becomes of records. All functions: [lane], unless said otherwise. */
#ifndef FMS_SETTLE_H
#define FMS_SETTLE_H

#include "pipeline.h"

void settle_report(struct stage *sink, struct record *record, enum fms_fate fate, char *reason); /* any thread */
/* A record that comes out of transform number `after` (-1: out of the source). */
void settle_advance(struct pipeline *pipeline, struct record *record, int after);
/* Handles all that was settled, then tells the source. */
void settle_run(struct pipeline *pipeline);
/* Offers to each sink what it may be offered; whether anything was. */
bool settle_offer(struct pipeline *pipeline);
/* Whether nothing but what waits in transforms could make room. */
bool settle_is_stalled(const struct pipeline *pipeline);
/* Calls transforms again whose records waited for room. */
void settle_advance_waiting(struct pipeline *pipeline);
/* The record was rejected by a stage; the reason is taken. */
void settle_reject(struct stage *stage, struct record *record, char *reason);
/* One reference less (a slot, a child, the transforms); completes the record at the last. */
void settle_release(struct pipeline *pipeline, struct record *record);
/* Whether a live stage can still change the fate of a record. */
bool settle_is_pending(const struct pipeline *pipeline);
/* Whether a record that a transform has is inside its call, and not yet among those that it keeps. */
bool settle_is_in_hand(struct stage *transform, struct record *record);
/* A transform drops a record that it does not keep any longer. */
void settle_drop(struct stage *transform, struct record *record);
/* A transform's record is no longer kept. */
void settle_unkeep(struct stage *transform, struct record *record);
/* What a sink that is closed has not settled is another's, in its slot, to be offered again in order; or nobody's any more. */
void settle_hand_over(struct stage *old, struct stage *sink);
void settle_give_up(struct stage *stage);
/* Frees every record, telling nobody. For the end, when the stages are closed. */
void settle_abandon(struct pipeline *pipeline);

#endif
