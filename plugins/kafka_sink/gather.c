/* gather.c - see gather.h. */
#include "gather.h"

#include <stdlib.h>
#include <string.h>

#define LINGER     (5 * FMS_MS)
#define MOST       4096u          /* records: these fill a request to each of several partitions */
#define QUIET_MIN  (500 * FMS_US) /* a source that waits no longer has sent more by then */
#define QUIET_GAPS 8              /* times the usual pause between two records */
#define VAIN_MOST  3              /* waits in a row: one may be an accident */
#define REST       (100 * FMS_MS)

static bool make_room(struct gather *gather, size_t count)
{
    size_t needed = gather->first + gather->count + count;
    const struct fms_record **grown;

    if (needed <= gather->capacity)
        return true;
    needed += needed / 2;
    grown = realloc(gather->records, needed * sizeof(*grown));
    if (grown == NULL)
        return false;
    gather->records = grown;
    gather->capacity = needed;
    return true;
}

static void begin(struct gather *gather, int64_t now)
{
    int64_t gap = gather->passed > 0 ? (now - gather->since) / (int64_t)gather->passed : LINGER;

    gather->begun_at = now;
    gather->quiet = QUIET_GAPS * gap < QUIET_MIN ? QUIET_MIN : QUIET_GAPS * gap;
    gather->since = now;
    gather->passed = 0;
}

bool gather_put(struct gather *gather, const struct fms_record *const *records, size_t count, int64_t now)
{
    if (!make_room(gather, count))
        return false;
    if (gather->count == 0)
        begin(gather, now);
    memcpy(&gather->records[gather->first + gather->count], records, count * sizeof(*records));
    gather->count += count;
    gather->passed += count;
    gather->last_at = now;
    return true;
}

int64_t gather_due_at(const struct gather *gather)
{
    int64_t end = gather->begun_at + LINGER, quiet = gather->last_at + gather->quiet;

    if (gather->count >= MOST)
        return 0;
    return quiet < end ? quiet : end;
}

void gather_judge(struct gather *gather, int64_t now)
{
    bool was_cut = gather->count < MOST && gather->last_at + gather->quiet < gather->begun_at + LINGER;

    if (!was_cut && gather->count > 1)
        gather->vain = 0;
    else if (gather->vain < VAIN_MOST)
        gather->vain++;
    if (gather->vain == VAIN_MOST)
        gather->rests_until = now + REST;
}

void gather_drop(struct gather *gather, size_t count)
{
    gather->first += count;
    gather->count -= count;
    if (gather->count == 0)
        gather->first = 0;
}
