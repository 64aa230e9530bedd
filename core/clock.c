/* clock.c - the time: the system's, or one that stands until it is moved. */
#include "clock.h"

#include <stdatomic.h>

#include "fms_plugin.h"

static _Atomic int64_t set_now = -1, set_realtime; /* -1: the system's clocks */

static int64_t clock_read(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * FMS_SECOND + now.tv_nsec;
}

void clock_set(int64_t now, int64_t realtime)
{
    set_realtime = realtime;
    set_now = now;
}

bool clock_is_set(void)
{
    return set_now >= 0;
}

void clock_move(int64_t now)
{
    if (now <= set_now)
        return;
    set_realtime += now - set_now;
    set_now = now;
}

int64_t clock_now(void)
{
    int64_t now = atomic_load_explicit(&set_now, memory_order_relaxed);

    return now >= 0 ? now : clock_read(CLOCK_MONOTONIC);
}

int64_t clock_realtime(void)
{
    return clock_is_set() ? set_realtime : clock_read(CLOCK_REALTIME);
}

int64_t clock_monotonic(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_in(int64_t pause)
{
    int64_t now = clock_monotonic();

    return pause < FMS_NEVER - now ? now + pause : FMS_NEVER;
}

struct timespec clock_timespec(int64_t time)
{
    return (struct timespec){time / FMS_SECOND, time % FMS_SECOND};
}

void clock_cond_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}
