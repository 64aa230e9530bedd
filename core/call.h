/* call.h - calls of plugins, and what follows where one goes wrong. */
#ifndef FMS_CALL_H
#define FMS_CALL_H

#include "pipeline.h"

/* Around each call of a plugin: what the lane is in; the end is given what the beginning returned. */
static inline const struct call *call_begin(struct stage *stage, enum call_kind kind)
{
    const struct call *before = atomic_load_explicit(&stage->pipeline->calling, memory_order_relaxed);

    atomic_store_explicit(&stage->pipeline->calling, &stage->calls[kind], memory_order_release);
    return before;
}

static inline void call_end(struct pipeline *pipeline, const struct call *before)
{
    atomic_store_explicit(&pipeline->calling, before, memory_order_relaxed);
}

/* Before a poll; whether it is one that fms_wake asked for. [lane] */
static inline bool stage_will_wait(struct stage *stage)
{
    stage->was_polled = true;
    stage->is_ready = false;
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    return atomic_exchange(&stage->is_woken, false);
}

/* Calls transform_poll or sink_poll. [lane] */
void stage_poll(struct stage *stage);
/* An operation returned a negative errno: the stage is dead, and the pipeline fails, or stands still (-ENOTUNIQ). [lane] */
void stage_fail(struct stage *stage, const char *operation, int error);
/* Of one that is open; others are left alone. Logs what it has counted. Not with the lane held. [control] */
void stage_close(struct stage *stage);
/* A broken rule: logs it under the stage's name and fails the pipeline. Any thread. */
void rule_broken(struct stage *stage, const char *format, ...) FMS_PRINTF(2, 3);

#endif
