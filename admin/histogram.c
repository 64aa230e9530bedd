/* histogram.c - how long most of what was measured took. */
#include <math.h>

#include "observe.h"

double histogram_quantile(const struct histogram_view *now, const struct histogram_view *before, double share)
{
    uint64_t counts[HISTOGRAM_BUCKETS];
    double rank = 0, below = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        bool goes_on = before != NULL && now->counts[i] >= before->counts[i]; /* else it has begun anew */

        counts[i] = now->counts[i] - (goes_on ? before->counts[i] : 0);
        rank += share * (double)counts[i];
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        double from = i > 0 ? (double)histogram_bounds[i - 1] : 0, to = (double)histogram_bounds[i];

        if (counts[i] > 0 && below + (double)counts[i] >= rank)
            return (from + (to - from) * (rank - below) / (double)counts[i]) / (double)FMS_SECOND;
        below += (double)counts[i];
    }
    return rank > 0 ? (double)histogram_bounds[HISTOGRAM_BUCKETS - 2] / (double)FMS_SECOND : NAN;
}
