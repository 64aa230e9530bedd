/* console_summary.c - how many records from how many vehicles, and how old they were.
 *
 * Ages go to a histogram with 32 steps an octave, vehicles to a table of hashes: 100 million records take as much
 * memory as ten. A percentile is exact to 3 %, the number of vehicles up to SUMMARY_VEHICLES. */
#include "console_summary.h"

#include <stdio.h>
#include <stdlib.h>

#define SUMMARY_STEPS    32
#define SUMMARY_SLOTS    16384
#define SUMMARY_VEHICLES (SUMMARY_SLOTS / 2)

struct summary {
    uint64_t records, by_sent_ns, by_timestamp;
    uint64_t ages[60 * SUMMARY_STEPS];
    size_t vehicles;
    uint64_t hashes[SUMMARY_SLOTS]; /* 0: free */
};

struct summary *summary_new(void)
{
    return calloc(1, sizeof(struct summary));
}

void summary_free(struct summary *summary)
{
    free(summary);
}

static size_t summary_step(int64_t age)
{
    unsigned octave;

    if (age < SUMMARY_STEPS)
        return age > 0 ? (size_t)age : 0;
    octave = 63u - (unsigned)__builtin_clzll((unsigned long long)age);
    return (size_t)(octave - 4) * SUMMARY_STEPS + ((size_t)(age >> (octave - 5)) & (SUMMARY_STEPS - 1));
}

/* The middle of a step. */
static double summary_age(size_t step)
{
    size_t octave = step / SUMMARY_STEPS;

    if (octave == 0)
        return (double)step;
    return ((double)(step % SUMMARY_STEPS + SUMMARY_STEPS) + 0.5) * (double)(UINT64_C(1) << (octave - 1));
}

/* FNV-1a */
static uint64_t summary_hash(struct fms_bytes text)
{
    const unsigned char *bytes = text.data;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash != 0 ? hash : 1;
}

void summary_vehicle(struct summary *summary, struct fms_bytes vehicle)
{
    uint64_t hash = summary_hash(vehicle);
    size_t slot = (hash ^ hash >> 32) % SUMMARY_SLOTS;

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
    summary->ages[summary_step(age)]++;
    if (by_sent_ns)
        summary->by_sent_ns++;
    else
        summary->by_timestamp++;
}

/* In milliseconds. */
static double summary_percentile(const struct summary *summary, uint64_t percent)
{
    uint64_t rank = ((summary->by_sent_ns + summary->by_timestamp) * percent + 99) / 100;
    size_t step = 0;

    for (uint64_t seen = summary->ages[0]; seen < rank; seen += summary->ages[step])
        step++;
    return summary_age(step) / 1e6;
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
             summary_percentile(summary, 50), summary_percentile(summary, 99), since);
}
