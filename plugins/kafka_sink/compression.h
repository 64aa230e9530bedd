/* compression.h - whether to compress is worth it: profile = throughput, where the user has not said.
 *
 * lz4 takes most of a sink's CPU where payloads hardly get smaller (images, what is encrypted, hexadecimal digits), and brokers store them for as
 * many bytes. So samples of what goes through are compressed, and producers do what they say: three in a row change it, and no sooner than a
 * minute after the last change, for a change costs a producer. A record that only fits its topic when it is compressed is a reason, too, for
 * good. */
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
};

/* It is on, and free to change. compression_free undoes it. */
void compression_begin(struct compression *compression);
void compression_free(struct compression *compression);

/* Adds of these records what the sample lacks, if it is time for one; how many bytes. Takes them back, where the records are to be offered
 * again: the same twice would seem to get smaller. */
size_t compression_add(struct compression *compression, const struct fms_record *const *records, size_t count,
                       int64_t now);
void compression_take_back(struct compression *compression, size_t added);

/* Looks at the sample once it is full, some 0.2 ms at most. True: from here on is_on is another. */
bool compression_judge(struct compression *compression, int64_t now);

/* Whether a payload would be at most `most` bytes. Takes up to some milliseconds a megabyte. */
bool compression_fits(struct fms_bytes payload, size_t most);

/* Something has to be compressed, to fit: it is on from here on. */
void compression_need(struct compression *compression);

#endif
