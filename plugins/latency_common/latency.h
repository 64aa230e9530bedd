/* latency.h - a histogram of durations, in a fixed few kilobytes. Compiled into the plugins that measure latency. */
#ifndef LATENCY_H
#define LATENCY_H

#include <fms_plugin.h>

#define LATENCY_STEPS 32 /* an octave: a percentile is exact to 3 % */

struct latency {
    uint64_t count;
    int64_t max; /* nanoseconds */
    uint64_t steps[60 * LATENCY_STEPS];
};

/* Adds a duration in nanoseconds; a negative one counts as 0. */
void latency_add(struct latency *latency, int64_t duration);

/* The duration that `permille` of 1000 do not exceed, in nanoseconds; 0 without any. */
double latency_percentile(const struct latency *latency, unsigned permille);

#endif
