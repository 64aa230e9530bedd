/* topics.h - what kafka_sink knows of the topics that it produces to: whether they are there, and what they take.
 *
 * The decision that shapes it: librdkafka holds on to a record for a topic that it does not find, and goes over all such topics
 * every second. So it is given only topics that are there. Brokers are asked for them, for many at once, by the requests of the
 * admin API; until they have answered, records for a topic wait in the plugin, at no other topic's cost. Where brokers may not
 * or cannot answer, librdkafka finds out, for a limited number of topics at a time. All functions are [lane]. */
#ifndef KAFKA_SINK_TOPICS_H
#define KAFKA_SINK_TOPICS_H

#include "../kafka_common/kafka_common.h"

#define NO_LIMIT INT64_MAX

enum topic_state {
    TOPIC_ASKED,   /* brokers are asked for it: records wait */
    TOPIC_TRIED,   /* they do not say: librdkafka finds out with the records that it is given */
    TOPIC_THERE,   /* they have said so, or taken a record */
    TOPIC_REFUSED, /* what goes there is rejected, until refused_until */
};

enum topic_want { WANT_NOTHING, WANT_LIMITS, WANT_CREATION, WANT_TRIAL };

/* What a topic takes, as far as it is known: its Kafka configuration. */
struct topic_limits {
    int64_t size;          /* bytes of a batch as the brokers count them, and so of a record in it */
    int64_t before, after; /* milliseconds by which a message's time may be off the broker's clock */
    bool needs_key;        /* it is compacted */
};

struct topic {
    enum topic_state state;
    enum topic_want want;
    bool is_asked;  /* in the request that is under way */
    bool is_fixed;  /* the same for all records: never refused, never forgotten */
    bool was_there; /* brokers have said so: it is made again where others say that it is not, and is none more */
    rd_kafka_topic_t *handle;
    size_t waiting;    /* records of it that wait */
    uint64_t pass;     /* of the waiting ones, in which one had to go on waiting */
    unsigned used;     /* the round in which it was used last */
    unsigned failures; /* so often it was not there all the same, since it last was for a round */
    int64_t ask_at;    /* not before */
    int64_t asked_at;  /* since when it is asked for */
    int64_t refused_until;
    unsigned relapses; /* so often it refused what librdkafka had been given, since it last was good for a round */
    char *refusal;
    struct topic_limits limits;
    int64_t taught_at;   /* when a refusal has lowered them */
    bool is_wary;        /* it refused what is compressed, not long ago */
    int64_t batch_bytes; /* no batch may be larger: as the limit says, or less, as refusals have taught */
    size_t name_size;
    char name[];
};

struct topics {
    struct kafka *kafka;
    int64_t max; /* that are not refused, and that are created in one run */

    struct topic **items; /* by name */
    size_t count, capacity;
    struct topic *last;             /* that topics_get gave */
    size_t tried, refused, wanting; /* of them */
    size_t next_victim;             /* where the search for a refused one to be forgotten goes on */
    int64_t created;

    rd_kafka_queue_t *answers;
    bool is_asking; /* a request is under way */
    int64_t asking_since;
    bool has_answered;                   /* the cluster, to such a request */
    bool is_mute;                        /* it can't */
    bool cannot_describe, cannot_create; /* this cluster, as it seems; they are tried again each round */
    unsigned failures;                   /* of requests, in a row */
    int64_t look_at;                     /* when something may be asked */
    int64_t round_at;
    unsigned round;
};

int topics_open(struct topics *topics, struct kafka *kafka, int64_t max); /* 0 or -ENOMEM */
void topics_close(struct topics *topics);

/* A new client; the client goes. Topics and what is known of them stay, their handles go. */
void topics_start(struct topics *topics);
void topics_stop(struct topics *topics);

/* The topic of all records, which is there or will be. NULL: no memory. */
struct topic *topics_fix(struct topics *topics, const char *name);

/* The topic of that name, which may be a Kafka topic's. NULL: there is no room for another one; *must_wait says whether there
 * will be, when brokers have answered. */
struct topic *topics_get(struct topics *topics, struct fms_bytes name, bool *must_wait);
struct topic *topics_find(const struct topics *topics, struct fms_bytes name); /* NULL: it is not known */

/* Its handle. NULL: rd_kafka_last_error says why. */
static inline rd_kafka_topic_t *topic_handle(struct topics *topics, struct topic *topic)
{
    if (topic->handle == NULL)
        topic->handle = rd_kafka_topic_new(topics->kafka->rk, topic->name, NULL);
    return topic->handle;
}

/* It has taken a record. */
void topic_proved(struct topics *topics, struct topic *topic);
/* librdkafka says that it is not there. True: that is believed, and it is refused; else brokers are asked again, and its records
 * wait. */
bool topic_missed(struct topics *topics, struct topic *topic, const char *why);
void topic_refuse(struct topics *topics, struct topic *topic, const char *why);
/* The same of what was produced, which costs a producer: each time for twice as long as before. */
void topic_refuse_again(struct topics *topics, struct topic *topic, const char *why);
/* A broker refused what should have fitted: its limits are asked for anew. */
void topic_doubt(struct topics *topics, struct topic *topic);

/* Refusals have taught that a record of more bytes, or a batch, is too large. */
void topic_teach(struct topics *topics, struct topic *topic, int64_t size);
void topic_teach_batch(struct topic *topic, int64_t size);

/* The largest batch that all topics take. */
int64_t topics_batch_bytes(const struct topics *topics);

/* Whether topics_poll has something to do before round_at. */
static inline bool topics_is_busy(const struct topics *topics)
{
    return topics->is_asking || topics->wanting > 0;
}

/* Asks, and takes answers. True: something was decided. Moves wait->deadline. */
bool topics_poll(struct topics *topics, struct fms_wait *wait);

/* Asks for one topic's limits, and waits for the answer. RD_KAFKA_RESP_ERR_NO_ERROR, or why there are none. [control] */
rd_kafka_resp_err_t topics_probe(struct kafka *kafka, const char *name, struct topic_limits *limits, int64_t deadline);

#endif
