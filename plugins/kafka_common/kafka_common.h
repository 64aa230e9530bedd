/* kafka_common.h - what kafka_sink and kafka_source share: their common options, a client made of them, the creation of
 * topics, and the probe. Compiled into both plugins.
 *
 * The decision that shapes it: librdkafka hands nothing to a plugin on its own threads but log lines. Everything else
 * waits in queues of the client, which write to one eventfd, and is fetched on the lane. */
#ifndef KAFKA_COMMON_H
#define KAFKA_COMMON_H

#include <librdkafka/rdkafka.h>

#include "../copy_common/copy.h"
#include "fms_plugin.h"
#include "statistics.h"

#define KAFKA_FILES 5 /* properties that name files of certificates or keys */

/* The first member of both plugins' instances; it is librdkafka's opaque, too. */
struct kafka {
    const char *brokers;
    int profile; /* enum kafka_profile */
    struct fms_pairs properties;
    bool create_topic;
    int64_t partitions, replication;
    struct fms_pairs topic_config;

    const struct fms_host *host;
    rd_kafka_t *rk;
    int event_fd;
    int64_t down_since;        /* 0: a broker is, or may be, there */
    bool is_fatal;             /* librdkafka reported a fatal error */
    _Atomic bool has_said_why; /* librdkafka has logged what is wrong; its threads set it */
    char why[192];             /* what it said last of a connection that failed; "" since one has not */

    const char *const *topics; /* to be created; NULL: none, or done */
    size_t topic_count;
    int64_t created; /* of them */
    rd_kafka_queue_t *admin;
    bool is_asking;    /* CreateTopics is under way */
    bool is_undecided; /* what needs the topics has to wait */
    bool is_mute;      /* the cluster does not create topics on request, or not for now */
    int64_t ask_at;    /* when to ask again */
    unsigned ask_attempt;
    int64_t answering_at; /* see kafka_answering_at */

    uint64_t seen[KAFKA_COUNTERS]; /* what this client's statistics said last */
    unsigned unconnected;          /* how often in a row they said that no broker answers */

    uint64_t files;   /* a stamp of those of certificates and keys as they were last read; 0: there are none */
    int64_t files_at; /* when to look at them again */
    struct copy copies[KAFKA_FILES]; /* of those that were good: clients are made of these */
    char **
        good; /* of each property that has something from a file (${file:PATH}), the value that was good, likewise; NULL: there is
                    none */
};

enum kafka_profile { KAFKA_REALTIME, KAFKA_THROUGHPUT };

/* clang-format off */
#define KAFKA_OPTIONS(S)                                                                                           \
    {"brokers", FMS_STRING, FMS_FIELD(S, kafka.brokers, const char *), FMS_REQUIRED, 0, 0, NULL,                   \
     "host:port of one or more brokers, separated by commas; the others are found through them", NULL, 0},         \
    {"profile", FMS_CHOICE, FMS_FIELD(S, kafka.profile, int), "realtime", 0, 0, "realtime|throughput",             \
     "defaults for librdkafka: each record at once, or large compressed batches", NULL, 0},                        \
    {"create_topic", FMS_BOOLEAN, FMS_FIELD(S, kafka.create_topic, bool), "yes", 0, 0, NULL,                       \
     "create the topic at the start if it is missing", NULL, 0},                                                   \
    {"partitions", FMS_INTEGER, FMS_FIELD(S, kafka.partitions, int64_t), "0", 0, 10000, NULL,                      \
     "partitions of a topic that is created; 0: as the brokers are configured", NULL, 0},                          \
    {"replication", FMS_INTEGER, FMS_FIELD(S, kafka.replication, int64_t), "0", 0, 100, NULL,                      \
     "replicas of a topic that is created; 0: as the brokers are configured", NULL, 0},                            \
    {"topic.", FMS_PAIRS, FMS_FIELD(S, kafka.topic_config, struct fms_pairs), NULL, 0, 0, NULL,                    \
     "any property of Kafka for a topic that is created, such as topic.retention.ms", NULL, 0},                    \
    {"kafka.", FMS_PAIRS, FMS_FIELD(S, kafka.properties, struct fms_pairs), NULL, 0, 0, NULL,                      \
     "any property of librdkafka, such as kafka.linger.ms or kafka.sasl.password; overrides the profile", NULL, 0}
/* clang-format on */

/* A property that the plugin sets itself. */
struct kafka_setting {
    const char *name, *value;
};

/* Checks the common options; logs each error. 0 or -EINVAL. [control] */
int kafka_check(const struct kafka *kafka, const struct fms_host *host, rd_kafka_type_t type);

/* The client's configuration: the library's defaults, ours, the profile's, the user's, then `settings` (ends with a
 * NULL name). The caller adds callbacks and hands it to kafka_start. NULL: no memory. [control], [lane] */
rd_kafka_conf_t *kafka_conf(struct kafka *kafka, const struct fms_host *host, rd_kafka_type_t type,
                            const struct kafka_setting *settings);

/* The value that a property has in `conf`. */
bool kafka_conf_is(const rd_kafka_conf_t *conf, const char *name, const char *value);
int64_t kafka_conf_number(const rd_kafka_conf_t *conf, const char *name);

/* Makes event_fd, and finds the properties that come from files. 0 or -errno, logged. kafka_release undoes it. [control] */
int kafka_prepare(struct kafka *kafka, const struct fms_host *host);
void kafka_release(struct kafka *kafka);

/* Makes the client; the first one reads the files of certificates and keys. Takes `conf`. 0 or -errno, logged. [control], [lane] */
int kafka_start(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf);

/* Makes another client beside it, with the same files, which the caller destroys. Takes `conf`. NULL, logged. [lane] */
rd_kafka_t *kafka_make(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf);

/* Destroys it; flags as for rd_kafka_destroy_flags. No message, topic or queue of it may be left. Where librdkafka does not come to
 * an end within 3 s, its threads are left behind, with a warning. [control], [lane] */
void kafka_stop(struct kafka *kafka, int flags);

/* Destroys it as kafka_stop, but on a thread that nobody waits for. [lane] */
void kafka_leave(struct kafka *kafka, int flags);

/* Whether files of certificates, keys, passwords or other properties have changed since they were last read. Looks at them every few
 * seconds, and when a broker has refused us. Moves wait->deadline. [lane] */
bool kafka_has_new_files(struct kafka *kafka, struct fms_wait *wait);

/* Reads the new files, of which the next clients are made. False: this client has taken what is new, as it can a user name and a
 * password; or they can't be used, which is logged, and those that were read before stay. Takes `conf`. [lane] */
bool kafka_renew(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf);

/* Lets the queue write to event_fd when something comes into it while it is empty. */
void kafka_watch(struct kafka *kafka, rd_kafka_queue_t *queue);

/* Empties event_fd. To be called before the queues are emptied. */
void kafka_awake(struct kafka *kafka);

/* Asks a broker to create these topics, which must live until kafka_stop; without create_topic, nothing. */
void kafka_create(struct kafka *kafka, const char *const *topics, size_t count);

/* Carries that on. True: it is decided; the topics are there, or are not ours to make. Moves wait->deadline. [lane] */
bool kafka_created(struct kafka *kafka, struct fms_wait *wait);

/* Since when the cluster is known to answer at all; 0: it is not. For who waits for its controller, which it may lack. [lane] */
int64_t kafka_answering_at(struct kafka *kafka);

/* Tells of a topic that was created; `count`: so many were, with it. A thousand are not worth a thousand lines. */
void kafka_tell_created(const struct fms_host *host, const char *name, int64_t count);

/* The topic as create_topic's options want it. */
rd_kafka_NewTopic_t *kafka_new_topic(const struct kafka *kafka, const char *name);

void kafka_recovered(struct kafka *kafka); /* for kafka_reached */

/* Something came from a broker: reports the recovery if none was reachable before. [lane] */
static inline void kafka_reached(struct kafka *kafka)
{
    if (kafka->down_since != 0)
        kafka_recovered(kafka);
}

/* For `measure`: the link is up once the cluster is known to answer, until no broker is reachable. [lane] */
void kafka_measure(struct kafka *kafka);

/* The same by statistics, which know of brokers that went, came back, or fell silent, while nothing was delivered. [lane] */
void kafka_is_connected(struct kafka *kafka, bool is_connected);

/* Why a topic can't have that name, or NULL. */
const char *kafka_topic_error(const char *name, size_t size);

/* Makes a client, connects it, and reports the broker, the round trip, and each topic that is no regular expression. On
 * success the client is left for the caller to ask more, and to stop. Takes `conf`. 0 or -errno, logged. [control] */
int kafka_probe(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *const *topics,
                size_t count, int64_t deadline);

/* Milliseconds until the deadline, for librdkafka: 0..INT_MAX. */
int kafka_ms_until(const struct fms_host *host, int64_t deadline);

#endif
