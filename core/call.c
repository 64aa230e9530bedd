/* call.c - calls of plugins, and what follows where one goes wrong. */
#include "call.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "meter.h"

void rule_broken(struct stage *stage, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_line(FMS_LOG_ERROR, stage->pipeline->name, stage->name, "plugin %s breaks a rule: it %s; %s",
             stage->plugin->table.name, text, stage->is_new ? "it is not taken" : "the pipeline stops");
    if (stage->is_new)
        stage->is_dead = true;
    else
        pipeline_fail(stage->pipeline);
}

/* The plugin has told the cause; this tells what follows, and the errno's words only where it has not. */
void stage_fail(struct stage *stage, const char *operation, int error)
{
    const char *name = stage->plugin->table.name, *colon = stage->has_told ? "" : ": ";
    const char *cause = stage->has_told ? "" : strerror(-error);

    stage->is_dead = true;
    if (error != -ENOTUNIQ) {
        log_line(FMS_LOG_ERROR, stage->pipeline->name, stage->name, "%s of plugin %s failed%s%s; the pipeline stops",
                 operation, name, colon, cause);
        pipeline_fail(stage->pipeline);
        return;
    }
    log_line(FMS_LOG_ERROR, stage->pipeline->name, stage->name,
             "%s of plugin %s failed%s%s; the pipeline stands still, and lets go of its source, until a reload changes"
             " this stage, or the process is started again",
             operation, name, colon, cause);
    stage->is_superseded = stage->pipeline->stands_still = true;
}

void stage_poll(struct stage *stage)
{
    struct pipeline *pipeline = stage->pipeline;
    bool is_sink = stage->host.role != FMS_TRANSFORM;
    int (*poll_it)(void *, struct fms_wait *) = is_sink ? stage->plugin->table.sink_poll
                                                        : stage->plugin->table.transform_poll;
    const char *name = is_sink ? "sink_poll" : "transform_poll";
    struct fms_wait before = stage->wait;
    const struct call *outer;
    int error = 0;

    if (stage_will_wait(stage) && is_sink)
        stage->queue.is_full = false;
    if (poll_it != NULL && !stage->is_dead) {
        outer = call_begin(stage, CALL_POLL);
        error = poll_it(stage->instance, &stage->wait);
        call_end(pipeline, outer);
        meter_lap(pipeline, stage);
    }
    if (error < 0)
        stage_fail(stage, name, error);
    else if (error > 0)
        rule_broken(stage, "returned %d from %s: 0 or a negative errno is expected", error, name);
    if (pipeline->sleeps_until != 0 && (stage->wait.fd != before.fd || stage->wait.events != before.events))
        pipeline_wake(pipeline); /* we are a library's thread: the lane's own sleeps on the old descriptor */
}

static void log_counters(const struct stage *stage)
{
    const struct measures *measures = &stage->measures;

    for (size_t i = 0; i < measures->counter_count; i++) {
        if (measures->counters[i] > 0)
            log_line(FMS_LOG_INFO, stage->pipeline->name, stage->name, "%s: %llu",
                     stage->plugin->table.counters[i].name, (unsigned long long)measures->counters[i]);
    }
}

void stage_close(struct stage *stage)
{
    if (!stage->is_open)
        return;
    if (stage->plugin->table.close != NULL)
        stage->plugin->table.close(stage->instance);
    stage->is_open = false;
    log_counters(stage);
}
