/* console_summary.c - how many records from how many vehicles, and how old they were.
 *
 * Ages go to a histogram, vehicles to a table of hashes: 100 million records take as much memory as ten. The number of
 * vehicles is exact up to SUMMARY_VEHICLES. */
#include "console_summary.h"

#include <stdio.h>
#include <stdlib.h>

#include "../hash_common/hash.h"
#include "../latency_common/latency.h"

#define SUMMARY_SLOTS    16384
#define SUMMARY_VEHICLES (SUMMARY_SLOTS / 2)

struct summary {
    uint64_t records, by_sent_ns, by_timestamp;
    struct latency ages;
    size_t vehicles;
    struct hash_seed seed;
    uint64_t hashes[SUMMARY_SLOTS]; /* 0: free */
};

struct summary *summary_new(void)
{
    struct summary *summary = calloc(1, sizeof *summary);

    if (summary != NULL)
        hash_seed(&summary->seed);
    return summary;
}

void summary_free(struct summary *summary)
{
    free(summary);
}

void summary_vehicle(struct summary *summary, struct fms_bytes vehicle)
{
    uint64_t hash = hash_of(&summary->seed, vehicle) | 1; /* so that it is not 0 */
    size_t slot = (hash >> 32) % SUMMARY_SLOTS;

    while (summary->hashes[slot] != 0 && summary->hashes[slot] != hash)
        slot = (slot + 1) % SUMMARY_SLOTS;
    if (summary->hashes[slot] == hash || summary->vehicles > SUMMARY_VEHICLES)
        return;
    summary->hashes[slot] = hash;
    summary->vehicles++;
}

void summary_record(struct summary *summary, int64_t age, bool by_sent_ns)
{
    summary->records++;
    if (age == FMS_NEVER)
        return;
    latency_add(&summary->ages, age);
    if (by_sent_ns)
        summary->by_sent_ns++;
    else
        summary->by_timestamp++;
}

static double summary_milliseconds(const struct summary *summary, unsigned permille)
{
    return latency_percentile(&summary->ages, permille) / (double)FMS_MS;
}

void summary_print(const struct summary *summary, char *text, size_t size)
{
    bool over = summary->vehicles > SUMMARY_VEHICLES;
    int n = snprintf(text, size, "%llu record%s from %s%zu vehicle%s", (unsigned long long)summary->records,
                     summary->records == 1 ? "" : "s", over ? "more than " : "", summary->vehicles - over,
                     summary->vehicles == 1 ? "" : "s");
    const char *since = summary->by_timestamp == 0 ? "the payload's sent_ns"
                        : summary->by_sent_ns == 0 ? "the record's timestamp"
                                                   : "the payload's sent_ns or the record's timestamp";

    if (n < 0 || (size_t)n >= size || summary->by_sent_ns + summary->by_timestamp == 0)
        return;
    snprintf(text + n, size - (size_t)n, ", latency median %.2f ms, p99 %.2f ms (from %s to written here)",
             summary_milliseconds(summary, 500), summary_milliseconds(summary, 990), since);
}
