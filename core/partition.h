/* partition.h - which of several places a key belongs to, the same in every version and on every machine.
 *
 * It is what Kafka's own producers do with a key (murmur2), so that a shard is a partition where there are as many. */
#ifndef FMS_PARTITION_H
#define FMS_PARTITION_H

#include "fms_plugin.h"

/* 0 to count - 1; `count` is at least 1. */
uint32_t partition_of(struct fms_bytes key, uint32_t count);

#endif
