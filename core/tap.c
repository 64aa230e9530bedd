/* tap.c - see tap.h.
 *
 * The lane fills one half of a tap's memory while the reader is at the other. They change places under a lock that the lane only
 * tries to take, so all that it meets is that change. Taps are static: a lane that still believes one to be open finds it closed,
 * and never freed. */
#include "tap.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "pipeline.h"

struct half {
    char *data;
    size_t size; /* bytes that are filled */
};

/* What lies in a half; its pointers lead behind it. */
struct entry {
    size_t size; /* with what they lead to */
    struct tapped tapped;
};

struct tap {
    pthread_mutex_t lock;                /* taken after any other; guards what follows */
    struct pipeline *pipeline;           /* NULL: it has gone */
    _Atomic(const struct stage *) stage; /* NULL: nobody has it. The lane reads it without the lock, too, and this: */
    _Atomic(enum tap_point) point;
    uint64_t left;      /* records that it is to take */
    uint64_t rate;      /* 0: all */
    uint64_t in_second; /* taken since then */
    int64_t second;     /* on clock_now */
    struct half filled; /* by the lane */

    struct half reading; /* the reader's alone */
    size_t at;
    _Atomic uint64_t dropped; /* any thread */
};

static struct tap taps[TAPS_MOST] = {
    {.lock = PTHREAD_MUTEX_INITIALIZER},
    {.lock = PTHREAD_MUTEX_INITIALIZER},
    {.lock = PTHREAD_MUTEX_INITIALIZER},
    {.lock = PTHREAD_MUTEX_INITIALIZER},
};

/* -------------------------------------------------------------------------------------------------------- the lane */

static size_t entry_size(const struct fms_record *record, const char *reason)
{
    size_t size = sizeof(struct entry) + record->header_count * sizeof *record->headers;

    size += record->topic.size + record->key.size + 3; /* and NUL bytes */
    size += record->payload.size < TAP_PAYLOAD ? record->payload.size : TAP_PAYLOAD;
    size += reason != NULL ? strlen(reason) + 1 : 0;
    for (size_t i = 0; i < record->header_count; i++)
        size += strlen(record->headers[i].name) + record->headers[i].value.size + 2;
    return (size + _Alignof(struct entry) - 1) / _Alignof(struct entry) * _Alignof(struct entry);
}

/* What is NULL stays NULL. */
static struct fms_bytes put(char **end, struct fms_bytes bytes)
{
    char *to = *end;

    if (bytes.data == NULL)
        return bytes;
    memcpy(to, bytes.data, bytes.size);
    to[bytes.size] = '\0';
    *end = to + bytes.size + 1;
    return fms_bytes_of(to, bytes.size);
}

static void entry_fill(struct entry *entry, size_t size, const struct fms_record *record, const char *reason)
{
    struct fms_header *headers = (struct fms_header *)(void *)(entry + 1);
    char *end = (char *)(headers + record->header_count);
    struct fms_bytes payload = record->payload;

    *entry = (struct entry){size, {*record, payload.size, NULL, clock_realtime()}};
    payload.size = payload.size < TAP_PAYLOAD ? payload.size : TAP_PAYLOAD;
    entry->tapped.record.topic = put(&end, record->topic);
    entry->tapped.record.key = put(&end, record->key);
    entry->tapped.record.payload = put(&end, payload);
    entry->tapped.record.headers = headers;
    for (size_t i = 0; i < record->header_count; i++) {
        headers[i].name = put(&end, fms_text(record->headers[i].name)).data;
        headers[i].value = put(&end, record->headers[i].value);
    }
    entry->tapped.reason = reason != NULL ? put(&end, fms_text(reason)).data : NULL;
}

static bool is_passed_over(struct tap *tap)
{
    int64_t now;

    if (tap->rate == 0)
        return false;
    now = clock_now();
    if (now - tap->second >= FMS_SECOND) {
        tap->second = now;
        tap->in_second = 0;
    }
    return tap->in_second >= tap->rate;
}

/* Under its lock. */
static void take(struct tap *tap, const struct fms_record *record, const char *reason)
{
    struct half *half = &tap->filled;
    size_t size;

    if (tap->left == 0 || is_passed_over(tap))
        return;
    size = entry_size(record, reason);
    if (size > TAP_ROOM - half->size) {
        tap->dropped++;
        return;
    }
    entry_fill((struct entry *)(void *)(half->data + half->size), size, record, reason);
    half->size += size;
    tap->left--;
    tap->in_second++;
}

static bool is_at(const struct tap *tap, const struct stage *stage, enum tap_point point)
{
    return tap->stage == stage && tap->point == point;
}

void tap_pass(const struct stage *stage, enum tap_point point, const struct fms_record *record, const char *reason)
{
    for (size_t i = 0; i < TAPS_MOST; i++) {
        struct tap *tap = &taps[i];

        if (!is_at(tap, stage, point))
            continue;
        if (pthread_mutex_trylock(&tap->lock) != 0) {
            tap->dropped++;
            continue;
        }
        if (is_at(tap, stage, point)) /* still */
            take(tap, record, reason);
        pthread_mutex_unlock(&tap->lock);
    }
}

void tap_end(struct pipeline *pipeline)
{
    pipeline->is_past_taps = true;
}

static const struct stage nowhere; /* that of a tap that somebody has, and past which nothing comes any more */

void tap_follow(const struct stage *old, const struct stage *stage)
{

    for (size_t i = 0; i < TAPS_MOST; i++) {
        pthread_mutex_lock(&taps[i].lock);
        if (taps[i].stage == old) {
            taps[i].stage = stage != NULL ? stage : &nowhere;
            taps[i].left = stage != NULL ? taps[i].left : 0;
        }
        pthread_mutex_unlock(&taps[i].lock);
    }
}

void tap_leave(const struct pipeline *pipeline)
{
    for (size_t i = 0; i < TAPS_MOST; i++) {
        pthread_mutex_lock(&taps[i].lock);
        if (taps[i].stage != NULL && taps[i].pipeline == pipeline) {
            taps[i].pipeline = NULL;
            taps[i].stage = &nowhere;
        }
        pthread_mutex_unlock(&taps[i].lock);
    }
}

/* -------------------------------------------------------------------------------------------------------- the reader */

/* "kafka" of "sink kafka". */
static bool is_short_name(const struct stage *stage, const char *name)
{
    const char *blank = strchr(stage->name, ' ');

    return blank != NULL && strcmp(blank + 1, name) == 0;
}

static int find_stage(const struct pipeline *pipeline, const char *name, const struct stage **found)
{
    size_t count = 0;

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        const struct stage *stage = pipeline->stages[i];

        if (strcmp(stage->name, name) == 0) {
            *found = stage;
            return 0;
        }
        if (is_short_name(stage, name)) {
            *found = stage;
            count++;
        }
    }
    return count == 1 ? 0 : count == 0 ? -ENOENT : -ENOTUNIQ;
}

/* Makes it this one's, or leaves it to whose it is. */
static int occupy(struct tap *tap, struct pipeline *pipeline, const struct stage *stage, const struct tap_wish *wish)
{
    char *halves[2] = {malloc(TAP_ROOM), malloc(TAP_ROOM)};
    int error = halves[0] != NULL && halves[1] != NULL ? -EBUSY : -ENOMEM;

    pthread_mutex_lock(&tap->lock);
    if (error == -EBUSY && tap->stage == NULL) {
        tap->pipeline = pipeline;
        tap->stage = stage;
        tap->point = wish->point == TAP_IN && stage == pipeline->source ? TAP_OUT : wish->point;
        tap->left = wish->limit > 0 ? wish->limit : UINT64_MAX;
        tap->rate = wish->rate;
        tap->in_second = 0;
        tap->second = clock_now();
        tap->filled = (struct half){halves[0], 0};
        tap->reading = (struct half){halves[1], 0};
        tap->at = 0;
        tap->dropped = 0;
        error = 0;
    }
    pthread_mutex_unlock(&tap->lock);
    if (error != 0) {
        free(halves[0]);
        free(halves[1]);
    }
    return error;
}

int tap_open(struct pipeline *pipeline, const struct tap_wish *wish, struct tap **tap)
{
    const struct stage *stage = NULL;
    int error;

    pthread_mutex_lock(&pipeline->shown.lock); /* in which stages come and go */
    error = find_stage(pipeline, wish->stage, &stage);
    pthread_mutex_unlock(&pipeline->shown.lock);
    if (error != 0)
        return error;
    error = -EBUSY;
    for (size_t i = 0; i < TAPS_MOST && error == -EBUSY; i++) {
        error = occupy(&taps[i], pipeline, stage, wish);
        if (error != 0)
            continue;
        *tap = &taps[i];
        atomic_fetch_or(&pipeline->taps, 1u << i);
        pipeline_wake(pipeline);
    }
    return error;
}

/* The reader gets what the lane has filled, and the lane what was read; false: there is nothing, and `is_over` whether for good. */
static bool change_places(struct tap *tap, bool *is_over)
{
    struct half filled;

    tap->reading.size = tap->at = 0;
    pthread_mutex_lock(&tap->lock);
    *is_over = tap->pipeline == NULL || tap->pipeline->is_past_taps || tap->left == 0;
    filled = tap->filled;
    if (filled.size > 0) {
        tap->filled = tap->reading;
        tap->reading = filled;
    }
    pthread_mutex_unlock(&tap->lock);
    return filled.size > 0;
}

int tap_read(struct tap *tap, struct tapped *record)
{
    const struct entry *entry;
    bool is_over;

    if (tap->at == tap->reading.size && !change_places(tap, &is_over))
        return is_over ? -ESHUTDOWN : 0;
    entry = (const struct entry *)(const void *)(tap->reading.data + tap->at);
    *record = entry->tapped;
    tap->at += entry->size;
    return 1;
}

uint64_t tap_dropped(const struct tap *tap)
{
    return tap->dropped;
}

void tap_close(struct tap *tap)
{
    pthread_mutex_lock(&tap->lock);
    if (tap->pipeline != NULL)
        atomic_fetch_and(&tap->pipeline->taps, ~(1u << (tap - taps)));
    free(tap->filled.data);
    free(tap->reading.data);
    tap->filled = tap->reading = (struct half){NULL, 0};
    tap->stage = NULL;
    tap->pipeline = NULL;
    pthread_mutex_unlock(&tap->lock);
}
