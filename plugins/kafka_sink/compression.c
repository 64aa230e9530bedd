/* compression.c - see compression.h. */
#include "compression.h"

#include <limits.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE   (64u << 10) /* as far as lz4 looks back */
#define PROOF    3u          /* samples in a row: one may be an accident */
#define INTERVAL FMS_SECOND  /* between samples, when there have been so many */
#define REST     (60 * FMS_SECOND)
#define REST_MAX (3600 * FMS_SECOND)
#define KNOWN    4u /* batches from which on it is known how large they are */

#define SAVED_LEAST 10u                /* percent of a sample: to save less is not worth it */
#define SAVED_AGAIN 20u                /* to save so much is, when it was not */
#define BATCH_LEAST ((size_t)6 << 10)  /* bytes of a batch: to begin costs lz4 as much as so many */
#define BATCH_AGAIN ((size_t)12 << 10) /* when they were smaller */

void compression_begin(struct compression *compression)
{
    compression->is_free = true;
    compression->is_on = true;
    compression->rest = REST;
}

void compression_free(struct compression *compression)
{
    free(compression->sample);
    compression->sample = NULL;
}

static bool fits(const char *data, size_t size, char *to, size_t most)
{
    return LZ4_compress_default(data, to, (int)size, (int)most) > 0;
}

size_t compression_add(struct compression *compression, const struct fms_record *const *records, size_t count,
                       int64_t now)
{
    size_t before = compression->size;

    if (now < compression->sample_at || compression->is_needed || compression->batches < KNOWN)
        return 0;
    if (compression->sample == NULL && (compression->sample = malloc((size_t)2 * SAMPLE)) == NULL)
        return 0;
    for (size_t i = 0; i < count && compression->size < SAMPLE; i++) {
        struct fms_bytes payload = records[i]->payload;
        size_t size = payload.size < SAMPLE - compression->size ? payload.size : SAMPLE - compression->size;

        if (size > 0)
            memcpy(&compression->sample[compression->size], payload.data, size);
        compression->size += size;
    }
    return compression->size - before;
}

void compression_take_back(struct compression *compression, size_t added)
{
    compression->size -= added;
}

/* What the sample and the last batches say. */
static bool pays(struct compression *compression)
{
    size_t saved = compression->is_on ? SAVED_LEAST : SAVED_AGAIN;
    size_t least = compression->is_on ? BATCH_LEAST : BATCH_AGAIN;

    compression->batch = compression->bytes / compression->batches;
    compression->bytes /= 2; /* older ones count half */
    compression->batches /= 2;
    return compression->batch >= least &&
           fits(compression->sample, SAMPLE, &compression->sample[SAMPLE], SAMPLE - SAMPLE / 100 * saved);
}

bool compression_judge(struct compression *compression, int64_t now)
{
    bool is_worth_it;

    if (compression->size < SAMPLE)
        return false;
    compression->size = 0;
    is_worth_it = pays(compression);
    compression->contrary = is_worth_it == compression->is_on ? 0 : compression->contrary + 1;
    if (compression->contrary == PROOF) {
        compression->is_on = is_worth_it;
        compression->samples = compression->contrary = 0;
        compression->sample_at = now + compression->rest;
        compression->rest = 2 * compression->rest < REST_MAX ? 2 * compression->rest : REST_MAX;
        return true;
    }
    if (compression->samples < PROOF)
        compression->samples++;
    if (compression->samples == PROOF)
        compression->sample_at = now + INTERVAL;
    return false;
}

bool compression_batches_are_small(const struct compression *compression)
{
    return compression->batch < (compression->is_on ? BATCH_AGAIN : BATCH_LEAST);
}

bool compression_fits(struct fms_bytes payload, size_t most)
{
    char *to;
    bool is;

    if (payload.size > LZ4_MAX_INPUT_SIZE || most > INT_MAX || (to = malloc(most)) == NULL)
        return false;
    is = fits(payload.data, payload.size, to, most);
    free(to);
    return is;
}

void compression_need(struct compression *compression)
{
    compression->is_on = compression->is_needed = true;
}
