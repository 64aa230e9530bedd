/* origin.h - the origin of a record that was read from Kafka, as a text, and taken apart again. Compiled into the plugins that read from Kafka
 * or write to it.
 *
 * Offsets are the numbers of one log, and a topic that is deleted and made again has a new log of the same name, whose offsets begin anew; so
 * does who is told to read a log once more. So the group has a word of its own for what it reads, which stands beside its committed offsets,
 * and is gone with them: kafka:CLUSTER/WORD/PARTITION/TOPIC. */
#ifndef KAFKA_ORIGIN_H
#define KAFKA_ORIGIN_H

#include "fms_plugin.h"

struct kafka_origin {
    struct fms_bytes cluster; /* its id; empty: the brokers do not tell */
    uint64_t word;
    int32_t partition;
    struct fms_bytes topic;
};

#define KAFKA_ORIGIN_TEXT (FMS_ORIGIN_MOST + 1)

/* Writes it, with a NUL byte behind it. How many bytes it has without that; 0: more than an origin may have. [any] */
size_t kafka_origin_write(const struct kafka_origin *origin, char text[KAFKA_ORIGIN_TEXT]);

/* Reads one; the fields of *origin point into it. False: it is none. [any] */
bool kafka_origin_read(struct fms_bytes text, struct kafka_origin *origin);

#endif
