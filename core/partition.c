/* partition.c - see partition.h: MurmurHash2 in 32 bits with the seed of Kafka's DefaultPartitioner, of which the sign is cut off. */
#include "partition.h"

#define SEED  UINT32_C(0x9747b28c)
#define MIX   UINT32_C(0x5bd1e995)
#define SHIFT 24

static uint32_t murmur2(const unsigned char *at, size_t size)
{
    uint32_t hash = SEED ^ (uint32_t)size;

    for (; size >= 4; at += 4, size -= 4) {
        uint32_t word = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;

        word *= MIX;
        word = (word ^ word >> SHIFT) * MIX;
        hash = hash * MIX ^ word;
    }
    if (size > 0) {
        for (size_t i = 0; i < size; i++)
            hash ^= (uint32_t)at[i] << 8 * i;
        hash *= MIX;
    }
    hash = (hash ^ hash >> 13) * MIX;
    return hash ^ hash >> 15;
}

uint32_t partition_of(struct fms_bytes key, uint32_t count)
{
    return (murmur2(key.data, key.size) & UINT32_C(0x7fffffff)) % count;
}
