/* kafka_sink.h - what the files of kafka_sink share: the sink, and messages on their way to librdkafka. */
#ifndef KAFKA_SINK_H
#define KAFKA_SINK_H

#include "../letter_common/letter.h"
#include "compression.h"
#include "gather.h"
#include "topics.h"
#include "transaction.h"

enum timestamp { TIMESTAMP_NOW, TIMESTAMP_RECORD, TIMESTAMP_FIELD };

#define LETTER_MASK ((uintptr_t)3) /* in librdkafka's opaque of a message, beside the record's address */

/* A record that waits in the plugin. */
struct waiting {
    const struct fms_record *record;
    struct topic *topic;
    enum letter letter;
    bool is_back; /* librdkafka had it already */
};

/* A record of a refused batch. */
struct refused {
    const struct fms_record *record;
    struct topic *topic;
    enum letter letter;
    rd_kafka_resp_err_t error;
    unsigned batch; /* those of a batch are reported together; two batches that were, count as one */
    size_t bytes;
};

/* What a producer was made to be. */
struct producer {
    int64_t batch_bytes;   /* its largest batch; a record that is larger is one by itself */
    int64_t message_bytes; /* the largest message that it takes */
    bool are_single;       /* all batches are of one record */
    int64_t queue_most;    /* messages that wait in it at most */
    bool is_compressed;
    bool is_creating; /* brokers may create topics for it */
    bool is_idempotent;
};

struct kafka_sink {
    struct kafka kafka; /* first: librdkafka's opaque */
    const struct fms_template *topic, *key;
    struct fms_pairs headers;
    const struct fms_template *timestamp;
    int64_t topics_max;
    const char *transactional_id, *journal; /* NULL: none; named after it */
    int64_t commit_interval, journal_entries;

    enum timestamp time_from;
    bool adds_nothing;   /* to a record: neither headers nor a time */
    char *fixed_topic;   /* when the template depends on no record; else NULL */
    struct topic *fixed; /* that one */
    bool must_create;    /* whether it is there was not decided yet */
    bool must_learn;     /* nor what it takes: what it does not would cost a producer */
    bool may_be_new;     /* it was asked for, and has taken no record yet: the first one goes alone */
    struct topics topics;
    struct transactions *transactions; /* NULL: without a transactional id */

    struct producer producer;
    rd_kafka_queue_t *reports; /* the producer's main queue, where reports are events; NULL: they are callbacks */
    int64_t batch_count;       /* records in its largest batch, when a refused one is sought; 0: as configured */
    size_t suspects;           /* that many are sent in such batches */
    bool is_alone;             /* what is under way is one record that may be too large */
    bool
        is_doubted; /* one that it has told as delivered was not confirmed: it and what is behind it are offered again */
    bool must_replace; /* as soon as nothing is under way, or at replace_until */
    int64_t replace_until;

    struct waiting *waiting;
    size_t waiting_count, waiting_capacity;
    uint64_t pass;           /* over them */
    bool may_wait_no_longer; /* some of them */
    struct refused *refused;
    size_t refused_count, refused_capacity;
    unsigned batch;
    const rd_kafka_topic_t *batch_topic; /* of the last refused record */
    int32_t batch_partition;

    bool may_gather;             /* profile = throughput, and nobody has set linger.ms */
    bool is_gathering, is_stuck; /* at the last look; not all that was gathered was taken */
    struct gather gather;
    struct compression compression;

    size_t unsettled; /* taken by librdkafka, and not yet reported */
    bool is_broken;   /* this producer takes nothing more, and goes when its last record is reported */
    bool is_closing;
    bool has_written; /* since the last poll: that one follows each write */
    unsigned writes;
    int64_t looked_at;  /* after a write */
    int64_t reports_at; /* when the lane looks for reports; 0: when the descriptor says that there are some */
    bool may_hold;      /* a report, until the next record comes */
    unsigned calm;      /* how many have come slowly of late, while few were under way */
    unsigned holds_in_vain;
    int64_t wrote_at;
    int64_t hold_rests_until;
    int64_t broken_at;
    size_t returned;    /* records to be offered again since it broke */
    unsigned restarts;  /* since a record's fate was last decided */
    int64_t restart_at; /* no new producer before */
};

enum {
    COUNTER_RESTARTS = KAFKA_COUNTERS,
    COUNTER_REDUCED,
    COUNTER_UNTIMELY,
    COUNTER_TRANSACTIONS,
    COUNTER_ABORTED,
    COUNTER_SUPPRESSED,
    COUNTER_UNSURE,
};

enum { GAUGE_JOURNAL_ENTRIES = KAFKA_PRODUCER_GAUGES, GAUGE_JOURNAL_BYTES };

enum { DURATION_COMMIT };

/* A message on its way to librdkafka. */
struct message {
    const struct fms_record *record;
    struct topic *topic;
    enum letter letter;
    struct fms_bytes key, payload;
    rd_kafka_headers_t *headers; /* NULL: to be sent plain */
    int64_t time;                /* milliseconds since 1970; 0: now */
};

static inline bool is_letter(const struct kafka_sink *self)
{
    return self->kafka.host->role == FMS_DEAD_LETTER;
}

/* What is under way comes back, is offered again in order, and meets a new producer. [lane] */
void kafka_sink_give_up(struct kafka_sink *self);

/* A record's fate is decided: the next new producer, if one is needed, need not wait. */
void kafka_sink_note_progress(struct kafka_sink *self);

/* Whether the property stands in the pipeline file. */
bool kafka_sink_is_configured(const struct kafka_sink *self, const char *property);

/* Takes the delivery reports that have come; how many. [lane], and in close */
int kafka_sink_fetch_reports(struct kafka_sink *self);

bool message_lacks(struct kafka_sink *self, const char *option, const struct fms_record *record, int error,
                   struct fms_bytes *value); /* for message_expand */

/* A template's text for a record. False: the record was settled. [lane] */
static inline bool message_expand(struct kafka_sink *self, const char *option, const struct fms_template *text,
                                  const struct fms_record *record, struct fms_bytes *value)
{
    int error = fms_expand(self->kafka.host, text, record, value);

    return error == 0 || message_lacks(self, option, record, error, value);
}

/* Likewise its message. */
bool message_make(struct kafka_sink *self, const struct fms_record *record, struct topic *topic, enum letter letter,
                  struct message *message);

#define BATCH_OVERHEAD  61u /* Kafka's RecordBatch: bytes before its first record */
#define RECORD_OVERHEAD 39u /* of a record without headers, at most */

/* At a glance: the topic takes a message without headers. */
static inline bool message_is_fine(const struct topic *topic, struct fms_bytes key, struct fms_bytes payload)
{
    return (!topic->limits.needs_key || key.data != NULL) &&
           key.size + payload.size + BATCH_OVERHEAD + RECORD_OVERHEAD <= (size_t)topic->limits.size;
}

/* Bytes of a batch of this one message, uncompressed, as brokers count them. */
size_t message_size(const struct message *message);

/* It seems too large for its topic, which has refused such a one already: as long as only brokers know how small it is when
 * it is compressed, it is sent while nothing else is under way that would come back with it. */
bool message_must_go_alone(const struct kafka_sink *self, const struct message *message);

/* Whether its broker would certainly refuse the batch that it is in, so that it is better in none: RD_KAFKA_RESP_ERR_NO_ERROR,
 * or the error, and why. */
rd_kafka_resp_err_t message_foresee(const struct kafka_sink *self, const struct message *message, char *why,
                                    size_t size);

#endif
