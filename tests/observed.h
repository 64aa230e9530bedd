/* observed.h - a made-up observation of a process with two pipelines, for what tells of one. */
#ifndef FMS_TEST_OBSERVED_H
#define FMS_TEST_OBSERVED_H

#include <string.h>

#include "health.h"
#include "observe.h"

#define OBSERVED_STAGES 4u

static const struct fms_metric observed_counters[] = {
    {"restarts", "producers given up"}, {"sent_total", "as \"others\" write it"}, {NULL, NULL}};
static const struct fms_metric observed_gauges[] = {{"queue_bytes", "bytes that wait"}, {NULL, NULL}};
static const struct fms_metric observed_durations[] = {{"round_trip_seconds", "from question to answer"}, {NULL, NULL}};
static const struct fms_plugin observed_source = {.name = "ingest"}, observed_check = {.name = "check"},
                               observed_sink = {.name = "kafka",
                                                .counters = observed_counters,
                                                .gauges = observed_gauges,
                                                .durations = observed_durations};

/* All that there is to point to. */
struct observed_memory {
    struct observed pipelines[2];
    struct stage_view stages[2][OBSERVED_STAGES];
    struct stage_health healths[2][OBSERVED_STAGES];
    struct stage_rates rates[2][OBSERVED_STAGES];
    struct stage_latencies earlier[2][OBSERVED_STAGES];
    uint64_t counters[2][OBSERVED_STAGES][2];
    double gauges[2][OBSERVED_STAGES][1];
    struct histogram_view durations[2][OBSERVED_STAGES][1];
};

/* Judges them once more, after a change. */
static inline void observed_judge(struct observation *of)
{
    for (size_t i = 0; i < of->count; i++)
        health_judge(&of->pipelines[i], NULL, of->at, of->realtime);
}

/* Two pipelines that have just begun: source, transform, sink and dead letters, these two of one plugin. */
static inline void observed_make(struct observation *of, struct observed_memory *memory)
{
    static const char *const names[OBSERVED_STAGES] = {"source", "transform check", "sink kafka", "dead_letter"};
    static const enum fms_role roles[OBSERVED_STAGES] = {FMS_SOURCE, FMS_TRANSFORM, FMS_SINK, FMS_DEAD_LETTER};
    static const struct fms_plugin *const plugins[OBSERVED_STAGES] = {&observed_source, &observed_check, &observed_sink,
                                                                      &observed_sink};

    memset(memory, 0, sizeof *memory);
    *of = (struct observation){.at = 1000 * FMS_SECOND,
                               .realtime = INT64_C(1795521600) * FMS_SECOND,
                               .started = INT64_C(1795521500) * FMS_SECOND,
                               .pipelines = memory->pipelines,
                               .count = 2};
    for (size_t k = 0; k < 2; k++) {
        struct observed *pipeline = &memory->pipelines[k];

        *pipeline = (struct observed){.has_answered = true, .answered_at = of->at, .rates = memory->rates[k]};
        pipeline->view = (struct pipeline_view){.name = k == 0 ? "bridge" : "vehicle",
                                                .file = k == 0 ? "bridge.ini" : "vehicle.ini",
                                                .shown_at = of->at,
                                                .started_at = of->at,
                                                .stall_after = 15 * FMS_SECOND,
                                                .max_in_flight = 10000,
                                                .max_in_flight_bytes = 64 << 20,
                                                .stages = memory->stages[k],
                                                .stage_count = OBSERVED_STAGES};
        pipeline->earlier.stages = memory->earlier[k];
        pipeline->health.stages = memory->healths[k];
        for (size_t i = 0; i < OBSERVED_STAGES; i++)
            memory->stages[k][i] = (struct stage_view){.name = names[i],
                                                       .role = roles[i],
                                                       .table = plugins[i],
                                                       .has_link = i == 0 || i == 2,
                                                       .counters = memory->counters[k][i],
                                                       .gauges = memory->gauges[k][i],
                                                       .durations = memory->durations[k][i]};
    }
    observed_judge(of);
}

#endif
