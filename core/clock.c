/* clock.c - the time: the system's, one that a plugin has told, or one that stands until it is moved.
 *
 * A machine may start without knowing the time. How far its clock is from the time since it started changes only when it is set, for
 * what makes a clock go faster or slower does that to both: so this offset tells jumps from all else. */
#include "clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/timex.h>

#define SLIP       (100 * FMS_MS) /* no jump yet */
#define AGREED     FMS_SECOND     /* so near to each other two words are the same one */
#define WORDS      3              /* that agree, one after the other, until they are believed */
#define LOOK       FMS_SECOND     /* after which the system is asked again whether its clock is right */
#define MOST_WRONG 16000000       /* microseconds from which on the kernel calls its clock not synchronised */
#define NOT_TOLD   INT64_MIN

static _Atomic int64_t set_now = -1, set_realtime; /* -1: the system's clocks */
static _Atomic int64_t told = NOT_TOLD;            /* what clock_realtime is ahead of the uptime */

/* All of it under its lock. Offsets are from the uptime. */
static struct {
    pthread_mutex_t lock;
    bool is_begun;
    uint64_t boot[2];
    int64_t offset;    /* of the system's clock */
    int64_t looked_at; /* of clock_monotonic */
    bool is_right, was_right;
    int64_t right; /* the offset with which it was, last */
    int refusal;   /* of the system, to say whether it is; 0: it says */
    int64_t word;  /* the last, as an offset */
    unsigned words;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

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
    int64_t offset = atomic_load_explicit(&told, memory_order_relaxed);

    if (offset != NOT_TOLD)
        return clock_read(CLOCK_BOOTTIME) + offset;
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
    return (struct timespec){time / FMS_SECOND, (long)(time % FMS_SECOND)};
}

void clock_cond_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* ------------------------------------------------------------------------------------------------- what is known of it */

static int64_t distance(int64_t a, int64_t b)
{
    return a < b ? b - a : a - b;
}

/* The quickest of some readings: between two clocks a thread may lose its core. */
static int64_t system_offset(void)
{
    int64_t best = FMS_NEVER, offset = 0;

    for (int i = 0; i < 5 && best > FMS_US * 100; i++) {
        int64_t before = clock_read(CLOCK_BOOTTIME), realtime = clock_read(CLOCK_REALTIME);
        int64_t took = clock_read(CLOCK_BOOTTIME) - before;

        if (took >= best)
            continue;
        best = took;
        offset = realtime - before - took / 2;
    }
    return offset;
}

/* What `timedatectl` goes by; the lock is held. STA_UNSYNC is also set by who only wants the kernel to leave the battery's clock alone. */
static bool system_is_right(void)
{
    struct timex state = {.modes = 0};

    known.refusal = adjtimex(&state) < 0 ? errno : 0;
    return known.refusal == 0 && state.maxerror < MOST_WRONG;
}

/* Which start of the machine this is. Where nobody says, that of the process. */
static void read_boot(uint64_t boot[2])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    unsigned long long parts[5];

    if (file != NULL &&
        fscanf(file, "%8llx-%4llx-%4llx-%4llx-%12llx", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4]) == 5) {
        boot[0] = parts[0] << 32 | parts[1] << 16 | parts[2];
        boot[1] = parts[3] << 48 | parts[4];
    } else if (getrandom(boot, 2 * sizeof *boot, GRND_NONBLOCK) != 2 * (ssize_t)sizeof *boot) {
        boot[0] = (uint64_t)clock_monotonic();
    }
    if (file != NULL)
        fclose(file);
}

/* Once right the clock stays so until it jumps: out of reach of its servers it goes on well, though the kernel takes it for lost after some
 * hours. Called with the lock held. */
static void look_at_system(void)
{
    int64_t now = clock_monotonic(), offset = system_offset();
    bool has_jumped = !known.is_begun || distance(offset, known.offset) > SLIP;

    if (!known.is_begun)
        read_boot(known.boot);
    known.is_begun = true;
    if (has_jumped)
        known.offset = offset;
    else if (now - known.looked_at < LOOK)
        return;
    known.looked_at = now;
    if (system_is_right()) {
        known.was_right = true;
        known.right = known.offset;
    }
    known.is_right = known.was_right && distance(known.offset, known.right) <= SLIP;
    if (known.is_right)
        atomic_store_explicit(&told, NOT_TOLD, memory_order_relaxed);
}

void clock_look(struct fms_clock *clock)
{
    int64_t offset;

    if (clock_is_set()) {
        *clock = (struct fms_clock){FMS_CLOCK_RIGHT, set_realtime - set_now, set_now, {0, 0}};
        return;
    }
    pthread_mutex_lock(&known.lock);
    look_at_system();
    offset = atomic_load_explicit(&told, memory_order_relaxed);
    *clock = (struct fms_clock){known.is_right       ? FMS_CLOCK_RIGHT
                                : offset != NOT_TOLD ? FMS_CLOCK_TOLD
                                                     : FMS_CLOCK_UNKNOWN,
                                offset != NOT_TOLD ? offset : known.offset,
                                clock_read(CLOCK_BOOTTIME),
                                {known.boot[0], known.boot[1]}};
    pthread_mutex_unlock(&known.lock);
}

int clock_refusal(void)
{
    int error;

    pthread_mutex_lock(&known.lock);
    error = known.refusal;
    pthread_mutex_unlock(&known.lock);
    return error;
}

/* What is told is as coarse as a tachograph's clock: a clock that says about the same stays as it is. Called with the lock held. */
static bool believe(int64_t word)
{
    int64_t was = atomic_load_explicit(&told, memory_order_relaxed);
    int64_t offset = was != NOT_TOLD ? was : known.offset;
    bool is_other = distance(word, offset) > AGREED;

    atomic_store_explicit(&told, is_other ? word : offset, memory_order_relaxed);
    return is_other;
}

bool clock_tell(int64_t utc)
{
    bool is_other = false;
    int64_t word;

    if (clock_is_set() || utc <= 0)
        return false;
    pthread_mutex_lock(&known.lock);
    look_at_system();
    word = utc - clock_read(CLOCK_BOOTTIME);
    known.words = known.words > 0 && distance(word, known.word) <= AGREED ? known.words + 1 : 1;
    known.word = word;
    if (!known.is_right && known.words >= WORDS)
        is_other = believe(word);
    pthread_mutex_unlock(&known.lock);
    return is_other;
}
