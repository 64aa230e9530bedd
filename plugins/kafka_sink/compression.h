/* compression.h - whether to compress is worth it: profile = throughput, where the user has not said.
 *
 * lz4 takes most of a sink's CPU where payloads hardly get smaller (images, what is encrypted, hexadecimal digits), and brokers store them for as
 * many bytes. And for each batch librdkafka first clears 192 KiB for lz4, which takes longer than to send a small one: behind a broker that lets few
 * messages be unacknowledged that is a third of what a sink can deliver. So samples of what goes through are compressed, what comes back tells how large
 * batches are, and producers do what both say: three looks in a row change it, and no sooner than a minute after the last change (then two, up to an
 * hour), for a change costs a producer. A record that only fits its topic when it is compressed is a reason, too, for good. */
#ifndef KAFKA_SINK_COMPRESSION_H
#define KAFKA_SINK_COMPRESSION_H

#include <fms_plugin.h>

struct compression {
    bool is_free;   /* to change; else all is as it is configured */
    bool is_on;     /* as producers are to be made */
    bool is_needed; /* for what does not fit otherwise */
    char *sample;   /* SAMPLE bytes of payloads in a row, `size` of them filled, and room for them compressed */
    size_t size;
    unsigned samples;  /* since the last change; PROOF at most */
    unsigned contrary; /* the last so many say that is_on is wrong */
    int64_t sample_at; /* no sample before */
    int64_t rest;      /* what follows the next change */
    const void *topic; /* of the last message that was reported, and its partition */
    int32_t partition;
    size_t batches, bytes; /* that were delivered of late; those of one partition in a row count as one batch */
    size_t batch;          /* bytes of one, at the last look */
};

/* It is on, and free to change. compression_free undoes it. */
void compression_begin(struct compression *compression);
void compression_free(struct compression *compression);

/* Adds of these records what the sample lacks, if it is time for one; how many bytes. Takes them back, where the records are to be offered
 * again: the same twice would seem to get smaller. */
size_t compression_add(struct compression *compression, const struct fms_record *const *records, size_t count,
                       int64_t now);
void compression_take_back(struct compression *compression, size_t added);

/* A message of so many bytes was delivered to a partition. */
static inline void compression_delivered(struct compression *compression, const void *topic, int32_t partition,
                                         size_t bytes)
{
    compression->batches += compression->topic != topic || compression->partition != partition;
    compression->topic = topic;
    compression->partition = partition;
    compression->bytes += bytes;
}

/* What is delivered next is of another batch. */
static inline void compression_pause(struct compression *compression)
{
    compression->topic = NULL;
}

/* Looks at the sample once it is full, some 0.2 ms at most. True: from here on is_on is another. */
bool compression_judge(struct compression *compression, int64_t now);

/* Why it was turned off: batches are small, of `batch` bytes; else payloads do not get smaller. */
bool compression_batches_are_small(const struct compression *compression);

/* Whether a payload would be at most `most` bytes. Takes up to some milliseconds a megabyte. */
bool compression_fits(struct fms_bytes payload, size_t most);

/* Something has to be compressed, to fit: it is on from here on. */
void compression_need(struct compression *compression);

#endif
