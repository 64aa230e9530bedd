/* journal_topic.h - the topic of kafka_sink's journal: made if it is missing, and read to its end.
 *
 * All of it waits for brokers, and so runs on the thread of transaction.c; `must_stop` ends it within a second or two. */
#ifndef KAFKA_SINK_JOURNAL_TOPIC_H
#define KAFKA_SINK_JOURNAL_TOPIC_H

#include <librdkafka/rdkafka.h>
#include <stdatomic.h>

#include "journal.h"

#define JOURNAL_WHY 256 /* bytes of a reason, with its NUL byte */

struct journal_topic {
    const struct fms_host *host;
    const char *name;   /* of the topic */
    const char *prefix; /* of the keys that are ours */
    int replication;    /* replicas of one that is made; -1: as the brokers are configured */
    const _Atomic bool *must_stop;
};

/* The topic is there, with one partition. 0 or -errno, and why: -EINTR if it must stop, -EINVAL if it can't be used. */
int journal_topic_make(const struct journal_topic *topic, rd_kafka_t *producer, char why[JOURNAL_WHY]);

/* Reads what is committed in it, as far as it reached when this is called: all that is alive into *journal, a new one of at most
 * `entries_most`. `consumer` reads committed records only, and tells of the partition's end.
 * 0 or -errno, and why. */
int journal_topic_read(const struct journal_topic *topic, rd_kafka_t *producer, rd_kafka_t *consumer,
                       size_t entries_most, struct journal **journal, char why[JOURNAL_WHY]);

#endif
