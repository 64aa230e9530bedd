/* measure.c - see measure.h. */
#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

#define US INT64_C(1000)

const int64_t histogram_bounds[HISTOGRAM_BUCKETS - 1] = {
    100 * US,       250 * US,        500 * US,        FMS_MS,          2500 * US,        5 * FMS_MS, 10 * FMS_MS,
    25 * FMS_MS,    50 * FMS_MS,     100 * FMS_MS,    250 * FMS_MS,    500 * FMS_MS,     FMS_SECOND, 2500 * FMS_MS,
    5 * FMS_SECOND, 10 * FMS_SECOND, 25 * FMS_SECOND, 50 * FMS_SECOND, 100 * FMS_SECOND,
};

/* How many bounds are below 2^n: between that and the next power of two there is one at most. */
static const uint8_t bounds_below[] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0,  0,  0,  1,  2,
    3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18,
};

static size_t bucket_of(int64_t nanoseconds)
{
    size_t power = nanoseconds > 0 ? 63 - (size_t)__builtin_clzll((unsigned long long)nanoseconds) : 0;
    size_t bucket = power < sizeof bounds_below ? bounds_below[power] : HISTOGRAM_BUCKETS - 1;

    return bucket + (bucket < HISTOGRAM_BUCKETS - 1 && nanoseconds > histogram_bounds[bucket]);
}

void histogram_add(struct histogram *histogram, int64_t nanoseconds)
{
    size_t bucket = bucket_of(nanoseconds);

    if (nanoseconds < 0)
        nanoseconds = 0;
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, (uint64_t)nanoseconds, memory_order_relaxed);
}

struct histogram_view histogram_read(const struct histogram *histogram)
{
    struct histogram_view view;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        view.counts[i] = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    view.sum = (double)atomic_load_explicit(&histogram->sum, memory_order_relaxed);
    return view;
}

void histogram_view_add(struct histogram_view *histogram, int64_t nanoseconds, uint64_t n)
{
    histogram->counts[bucket_of(nanoseconds)] += n;
    if (nanoseconds > 0)
        histogram->sum += (double)nanoseconds * (double)n;
}

size_t measures_count(const struct fms_metric *metrics)
{
    size_t n = 0;

    while (metrics != NULL && metrics[n].name != NULL)
        n++;
    return n;
}

int measures_init(struct measures *measures, const struct fms_plugin *table)
{
    *measures = (struct measures){.counter_count = measures_count(table->counters),
                                  .gauge_count = measures_count(table->gauges),
                                  .duration_count = measures_count(table->durations)};
    measures->counters = calloc(measures->counter_count + 1, sizeof *measures->counters);
    measures->gauges = calloc(measures->gauge_count + 1, sizeof *measures->gauges);
    measures->durations = calloc(measures->duration_count + 1, sizeof *measures->durations);
    pthread_mutex_init(&measures->lock, NULL);
    return measures->counters != NULL && measures->gauges != NULL && measures->durations != NULL ? 0 : -ENOMEM;
}

void measures_free(struct measures *measures)
{
    free(measures->counters);
    free(measures->gauges);
    free(measures->durations);
    pthread_mutex_destroy(&measures->lock);
}

void measures_add(struct measures *measures, const struct measures *other)
{
    for (size_t i = 0; i < measures->counter_count; i++)
        atomic_fetch_add(&measures->counters[i], other->counters[i]);
    for (size_t i = 0; i < measures->duration_count; i++) {
        for (size_t k = 0; k < HISTOGRAM_BUCKETS; k++)
            atomic_fetch_add(&measures->durations[i].counts[k], other->durations[i].counts[k]);
        atomic_fetch_add(&measures->durations[i].sum, other->durations[i].sum);
    }
}

void measures_link(struct measures *measures, bool is_up, const char *why)
{
    struct link_state *link = &measures->link;

    pthread_mutex_lock(&measures->lock);
    if (link->since == 0 || link->is_up != is_up)
        link->since = clock_now();
    link->ups += is_up && !link->is_up;
    link->downs += !is_up && link->is_up;
    link->is_up = is_up;
    link->was_up = link->was_up || is_up;
    snprintf(link->why, sizeof link->why, "%s", why);
    pthread_mutex_unlock(&measures->lock);
}

struct link_state measures_link_state(struct measures *measures)
{
    struct link_state link;

    pthread_mutex_lock(&measures->lock);
    link = measures->link;
    pthread_mutex_unlock(&measures->lock);
    return link;
}
