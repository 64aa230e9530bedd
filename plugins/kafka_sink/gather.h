/* gather.h - records that kafka_sink keeps for a few milliseconds, so that a request to Kafka has many of them: profile = throughput.
 *
 * librdkafka's linger.ms waits for its time in any case. But a broker that lets few messages be unacknowledged sends nothing more
 * until some are delivered, and then all that is waited for is the wait's end. So the end is seen from what comes: where nothing has
 * come for much longer than usual, or nothing at all, the wait was for nothing, and for some time there is none. It is tried again and
 * again, and costs a source that waits a part in five hundred of its time. */
#ifndef KAFKA_SINK_GATHER_H
#define KAFKA_SINK_GATHER_H

#include <fms_plugin.h>

struct gather {
    const struct fms_record **records; /* in the order in which they came: `count` from `first` on */
    size_t first, count, capacity;
    int64_t begun_at, last_at; /* when the first of them came, and the last */
    int64_t quiet;             /* without a record for so long, the wait is over */
    unsigned vain;             /* waits in a row that brought nothing, VAIN_MOST at most */
    int64_t rests_until;       /* no wait before */
    int64_t since;             /* `passed` records have come since then */
    size_t passed;
};

/* Whether what comes now is to be gathered, and not handed on at once. */
static inline bool gather_is_on(const struct gather *gather, int64_t now)
{
    return gather->count > 0 || now >= gather->rests_until;
}

/* False: no memory. */
bool gather_put(struct gather *gather, const struct fms_record *const *records, size_t count, int64_t now);
/* So many came and were not gathered. */
static inline void gather_pass(struct gather *gather, size_t count)
{
    gather->passed += count;
}

/* When those that there are are to be handed on; not after now: at once. */
int64_t gather_due_at(const struct gather *gather);
/* They are being handed on, at the time when they were due: was it worth it? */
void gather_judge(struct gather *gather, int64_t now);
/* So many of the first are gone. */
void gather_drop(struct gather *gather, size_t count);

#endif
