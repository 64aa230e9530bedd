/* kafka_progress.h - what kafka_source tells kafka_sink of its group, so that offsets are committed in the transaction of the records
 * that they cover (KIP-447). It goes through the host as bytes: this struct, of two plugins of one version. */
#ifndef KAFKA_PROGRESS_H
#define KAFKA_PROGRESS_H

#include <librdkafka/rdkafka.h>

#include <fms_plugin.h>

#define KAFKA_PROGRESS_MARK "fmspipe kafka_source " FMS_VERSION

struct kafka_progress {
    char mark[sizeof KAFKA_PROGRESS_MARK];
    const char *cluster;    /* its id: only a producer of the same one can take the offsets along */
    struct fms_bytes group; /* the member's generation, as rd_kafka_consumer_group_metadata_write has it */
    const rd_kafka_topic_partition_list_t *offsets;
    bool *is_taken; /* to be set by who takes them along: the source commits none meanwhile */
};

/* NULL: the bytes are something else. */
static inline const struct kafka_progress *kafka_progress_of(struct fms_bytes bytes)
{
    const struct kafka_progress *progress = bytes.data;

    return bytes.size == sizeof *progress && memcmp(progress->mark, KAFKA_PROGRESS_MARK, sizeof progress->mark) == 0
               ? progress
               : NULL;
}

#endif
