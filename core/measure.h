/* measure.h - what a stage counts and measures, and the state of its link: written and read by any thread. */
#ifndef FMS_MEASURE_H
#define FMS_MEASURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fms_plugin.h"

#define HISTOGRAM_BUCKETS 20u /* the last one is of what lies above all bounds */

/* The upper bounds of the others, nanoseconds: 100 us to 100 s. */
extern const int64_t histogram_bounds[HISTOGRAM_BUCKETS - 1];

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum; /* nanoseconds */
};

void histogram_add(struct histogram *histogram, int64_t nanoseconds);

/* A histogram as it was, or one that a single thread writes: not cumulative. */
struct histogram_view {
    uint64_t counts[HISTOGRAM_BUCKETS];
    double sum; /* nanoseconds, which may be too many for 64 bits: the age of a million records of last year */
};

struct histogram_view histogram_read(const struct histogram *histogram);
/* `n` times the same. */
void histogram_view_add(struct histogram_view *histogram, int64_t nanoseconds, uint64_t n);

/* A far end that a stage connects to. */
struct link_state {
    bool is_up, was_up;
    int64_t since; /* on clock_now: up or down, since then */
    uint64_t ups, downs;
    char why[256]; /* it is down; or "" */
};

struct measures {
    _Atomic uint64_t *counters;
    _Atomic double *gauges;
    struct histogram *durations;
    size_t counter_count, gauge_count, duration_count;
    pthread_mutex_t lock; /* taken after any other; guards `link` */
    struct link_state link;
};

/* How many there are in a plugin's table. */
size_t measures_count(const struct fms_metric *metrics);

/* As the plugin's tables say, all 0. 0 or -ENOMEM; free in both cases. */
int measures_init(struct measures *measures, const struct fms_plugin *table);
void measures_free(struct measures *measures);
/* What another of the same table has counted and timed, too. */
void measures_add(struct measures *measures, const struct measures *other);

/* It is up now, or down and why. */
void measures_link(struct measures *measures, bool is_up, const char *why);
struct link_state measures_link_state(struct measures *measures);

#endif
