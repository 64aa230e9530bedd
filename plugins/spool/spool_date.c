/* spool_date.c - see spool_date.h. */
#include "spool_date.h"

#include <errno.h>
#include <inttypes.h>

#include "spool_record.h"

#define UNSET_MOST 16         /* marked records in flight: what a link that is down does not take may be mended yet */
#define TICK       FMS_SECOND /* between two looks at a clock that is waited for */

static int64_t distance(int64_t a, int64_t b)
{
    return a < b ? b - a : a - b;
}

void dater_begin(struct dater *dater)
{
    dater->is_read = false;
    dater->is_waiting = false;
}

static const struct era *dater_era(struct dater *dater, uint32_t number)
{
    if (!dater->is_read) {
        eras_read(dater->store, &dater->eras);
        fms_clock(dater->host, &dater->clock);
        eras_recall(&dater->eras, &dater->clock);
        dater->is_read = true;
    }
    return eras_find(&dater->eras, number);
}

/* Whether its offset is known better than it was: by the table, or by the clock of the same start. */
static bool dater_knows(struct dater *dater, const struct era *era, int64_t *offset)
{
    *offset = era->better;
    if (era_learns(era, &dater->clock)) {
        dater->must_learn = true;
        *offset = dater->clock.offset;
        return true;
    }
    return era->better_state > era->state;
}

/* Whether its clock may yet be set, and it is to wait for that. A bounded time; and once that is over, what is handed on goes in small
 * portions, for the clock often comes with the link. */
static bool dater_waits(struct dater *dater, const struct era *era, uint64_t in_flight)
{
    int64_t now = fms_now(dater->host);

    if (era == NULL || dater->patience == 0 || !era_is_of(era, &dater->clock))
        return false;
    if (dater->wait_until == 0) {
        dater->wait_until = now + dater->patience;
        fms_info(dater->host, "the clock is not set: what was stored since the start waits for it, %lld s at most",
                 (long long)(dater->patience / FMS_SECOND));
    }
    dater->is_waiting = now < dater->wait_until || in_flight >= UNSET_MOST;
    if (!dater->is_waiting && in_flight == 0)
        dater->stirred_at = now;
    return dater->is_waiting;
}

static int dater_mark(struct dater *dater, struct fms_record *draft, struct fms_header *headers)
{
    int error = mend_mark(&dater->mend, draft, headers);

    if (!dater->has_told)
        fms_warn(dater->host, "records are handed on whose time is not known, marked with clock = unset: they were "
                              "stored while the clock was not set");
    dater->has_told = true;
    return error != 0 ? error : DATE_UNSET;
}

int dater_date(struct dater *dater, uint32_t number, uint64_t in_flight, struct fms_record *draft,
               struct fms_header *headers)
{
    const struct era *era = dater_era(dater, number);
    int64_t offset, behind;
    int error;

    if (era != NULL && dater_knows(dater, era, &offset)) {
        behind = offset - era->offset;
        if (distance(behind, 0) <= ERA_SLIP)
            return DATE_RIGHT;
        error = mend_record(&dater->mend, draft, era->offset, behind);
        if (error == 0)
            return DATE_MENDED;
        return error == -EBADMSG ? dater_mark(dater, draft, headers) : error;
    }
    if (era != NULL && era->state != FMS_CLOCK_UNKNOWN)
        return DATE_RIGHT;
    if (dater_waits(dater, era, in_flight))
        return -EAGAIN;
    draft->timestamp = 0;
    return dater_mark(dater, draft, headers);
}

/* After a long silence the far end is back, and the clock's servers may be, too: the rest waits once more. */
void dater_settled(struct dater *dater)
{
    int64_t now;

    if (dater->wait_until == 0)
        return;
    now = fms_now(dater->host);
    if (now - dater->stirred_at > dater->patience)
        dater->wait_until = 0;
    dater->stirred_at = now;
}

int64_t dater_end(struct dater *dater)
{
    struct era_news news;

    if (dater->must_learn) {
        dater->must_learn = false;
        dater->wait_until = 0;
        if (eras_learn(dater->store, &dater->eras, &dater->clock, &news) == 0) /* else another time */
            date_tell(dater->host, &news);
    }
    return dater->is_waiting ? fms_now(dater->host) + TICK : FMS_NEVER;
}

/* -------------------------------------------------------------------------------------------------------------- telling */

void date_tell(const struct fms_host *host, const struct era_news *news)
{
    int64_t seconds = distance(news->behind, 0) / FMS_SECOND;
    bool is_days = seconds >= 2 * 86400;

    if (news->records > 0)
        fms_info(host,
                 "the clock is known now: it was %lld %s %s; at most %" PRIu64
                 " records are mended as they are handed on",
                 (long long)(is_days ? seconds / 86400 : seconds), is_days ? "days" : "s",
                 news->behind < 0 ? "ahead" : "behind", news->records);
}

int64_t date_age(const struct fms_host *host, struct store *store, struct fms_bytes entry)
{
    uint32_t number = spool_record_era(entry);
    int64_t time = spool_record_time(entry);
    struct fms_clock clock;
    const struct era *era;
    struct eras eras;

    if (time <= 0)
        return 0;
    if (number == ERA_NONE)
        return fms_realtime(host) - time;
    eras_read(store, &eras);
    era = eras_find(&eras, number);
    fms_clock(host, &clock);
    if (era != NULL && era_is_of(era, &clock))
        return clock.uptime - (time - era->offset);
    if (era != NULL && era->better_state > era->state)
        return fms_realtime(host) - time - (era->better - era->offset);
    return era != NULL && era->state != FMS_CLOCK_UNKNOWN ? fms_realtime(host) - time : 0;
}

uint64_t date_count_unset(struct store *store)
{
    struct fms_bytes entry;
    struct eras eras;
    uint64_t number = 0, first = 0, count = 0;

    if (store_read_begin(store, 0) != 0)
        return 0;
    eras_read(store, &eras);
    store_read_end(store);
    if (!eras_have_unset(&eras, &first) || store_read_begin(store, first) != 0)
        return 0;
    while (store_next(store, &number, &entry) >= 0) {
        uint32_t of = spool_record_era(entry);
        const struct era *era = of != ERA_NONE ? eras_find(&eras, of) : NULL;

        count += of != ERA_NONE &&
                 (era == NULL || (era->state == FMS_CLOCK_UNKNOWN && era->better_state == FMS_CLOCK_UNKNOWN));
    }
    store_read_end(store);
    return count;
}
