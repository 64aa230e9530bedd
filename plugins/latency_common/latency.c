/* latency.c - see latency.h. Steps are of equal width within an octave, so their relative error is the same everywhere. */
#include "latency.h"

static size_t latency_step(int64_t duration)
{
    unsigned octave;

    if (duration < LATENCY_STEPS)
        return (size_t)duration;
    octave = 63u - (unsigned)__builtin_clzll((unsigned long long)duration);
    return (size_t)(octave - 4) * LATENCY_STEPS + ((size_t)(duration >> (octave - 5)) & (LATENCY_STEPS - 1));
}

/* The middle of a step. */
static double latency_middle(size_t step)
{
    size_t octave = step / LATENCY_STEPS;

    if (octave == 0)
        return (double)step;
    return ((double)(step % LATENCY_STEPS + LATENCY_STEPS) + 0.5) * (double)(UINT64_C(1) << (octave - 1));
}

void latency_add(struct latency *latency, int64_t duration)
{
    if (duration < 0)
        duration = 0;
    latency->count++;
    latency->steps[latency_step(duration)]++;
    if (duration > latency->max)
        latency->max = duration;
}

double latency_percentile(const struct latency *latency, unsigned permille)
{
    uint64_t rank = (latency->count * permille + 999) / 1000;
    size_t step = 0;

    for (uint64_t seen = latency->steps[0]; seen < rank; seen += latency->steps[step])
        step++;
    return latency->count > 0 ? latency_middle(step) : 0;
}
