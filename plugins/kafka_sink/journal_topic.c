/* journal_topic.c - see journal_topic.h.
 *
 * The newest record says from where on a reader finds all that is alive. So the tail is read for that one, from further back each
 * time until there is one, and then all from there on: what brokers have not compacted yet costs nothing. */
#include "journal_topic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARTITION     0
#define TICK_MS       500 /* between looks whether it must stop */
#define ASK_MS        3000
#define MAKE_PATIENCE (5 * FMS_SECOND)  /* with brokers that have not heard of the topic yet */
#define READ_PATIENCE (30 * FMS_SECOND) /* with a partition of which nothing comes */
#define TAIL          64                /* offsets that are read first; then eight times as many, and so on */
#define TAIL_MORE     8
#define READ_BATCH    256

/* A partition of compacted records, of which old ones go soon: that a reader has little to pass over. */
static const struct {
    const char *name, *value;
} journal_config[] = {
    {"cleanup.policy", "compact"},
    {"segment.bytes", "16777216"},
    {"min.cleanable.dirty.ratio", "0.1"},
    {"max.message.bytes", "1048588"},
};

static bool must_stop(const struct journal_topic *topic)
{
    return atomic_load(topic->must_stop);
}

static int fail(char why[JOURNAL_WHY], int error, const char *what, rd_kafka_resp_err_t code)
{
    snprintf(why, JOURNAL_WHY, "%s: %s", what, rd_kafka_err2str(code));
    return error;
}

/* ------------------------------------------------------------------------------------------------------------- making */

static rd_kafka_NewTopic_t *new_topic(const struct journal_topic *topic)
{
    rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic->name, 1, topic->replication, NULL, 0);

    for (size_t i = 0; i < sizeof journal_config / sizeof journal_config[0]; i++)
        rd_kafka_NewTopic_set_config(new, journal_config[i].name, journal_config[i].value);
    return new;
}

/* What became of the request. */
static int judge_creation(const struct journal_topic *topic, rd_kafka_event_t *event, char why[JOURNAL_WHY])
{
    const rd_kafka_topic_result_t **results;
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    size_t count;

    if (error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE)
        return 0; /* it has to be there */
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(why, -EAGAIN, "it can't be created", error);
    results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    error = count > 0 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
        fms_info(topic->host, "created topic %s for the journal", topic->name);
    else if (error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return fail(why, -EAGAIN, "it can't be created", error);
    return 0;
}

static int create(const struct journal_topic *topic, rd_kafka_t *producer, char why[JOURNAL_WHY])
{
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(producer, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_queue_t *answers = rd_kafka_queue_new(producer);
    rd_kafka_NewTopic_t *new = new_topic(topic);
    rd_kafka_event_t *event = NULL;
    int error = -EINTR;

    rd_kafka_AdminOptions_set_request_timeout(options, ASK_MS, NULL, 0);
    rd_kafka_AdminOptions_set_operation_timeout(options, ASK_MS, NULL, 0);
    rd_kafka_CreateTopics(producer, &new, 1, options, answers);
    while (event == NULL && !must_stop(topic))
        event = rd_kafka_queue_poll(answers, TICK_MS);
    if (event != NULL) {
        error = judge_creation(topic, event, why);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_NewTopic_destroy(new);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(answers);
    return error;
}

/* How many partitions it has; 0: it is not there; -errno. */
static int count_partitions(const struct journal_topic *topic, rd_kafka_t *producer, char why[JOURNAL_WHY])
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic->name, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t error;
    int count = 0;

    error = handle != NULL ? rd_kafka_metadata(producer, 0, handle, &metadata, ASK_MS) : rd_kafka_last_error();
    if (handle != NULL)
        rd_kafka_topic_destroy(handle);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR || metadata == NULL)
        return fail(why, -EAGAIN, "brokers do not say whether it is there", error);
    error = metadata->topic_cnt > 0 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
        count = metadata->topics[0].partition_cnt;
    else if (error != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        count = fail(why, -EAGAIN, "it can't be used", error);
    rd_kafka_metadata_destroy(metadata);
    return count;
}

/* The same once it was made: brokers hear of it one by one. */
static int await_partitions(const struct journal_topic *topic, rd_kafka_t *producer, char why[JOURNAL_WHY])
{
    static const struct timespec tick = {.tv_nsec = 50 * FMS_MS};
    int64_t until = fms_now(topic->host) + MAKE_PATIENCE;
    int count;

    while ((count = count_partitions(topic, producer, why)) == 0 && fms_now(topic->host) < until && !must_stop(topic))
        nanosleep(&tick, NULL);
    return count;
}

int journal_topic_make(const struct journal_topic *topic, rd_kafka_t *producer, char why[JOURNAL_WHY])
{
    int count = count_partitions(topic, producer, why), error = 0;

    if (count == 0 && !must_stop(topic)) {
        error = create(topic, producer, why);
        if (error == 0)
            count = await_partitions(topic, producer, why);
    }
    if (error != 0 || count < 0)
        return error != 0 ? error : count;
    if (count > 1)
        fms_warn(topic->host, "topic %s has %d partitions; the journal uses the first of them", topic->name, count);
    if (count == 0)
        snprintf(why, JOURNAL_WHY, "it is not there yet");
    return count == 0 ? -EAGAIN : 0;
}

/* ------------------------------------------------------------------------------------------------------------ reading */

struct reading {
    const struct journal_topic *topic;
    rd_kafka_topic_t *handle;
    int64_t end;             /* it is read up to there */
    int64_t base;            /* where all that is alive begins, as the newest record says; -1: from the beginning */
    bool found;              /* a record of ours */
    int64_t newest;          /* the offset of the last of them */
    struct journal *journal; /* NULL: only `base` is sought */
};

/* What stands behind our prefix in the message's key. */
static bool is_ours(const struct reading *reading, const rd_kafka_message_t *message, struct fms_bytes *key)
{
    size_t size = strlen(reading->topic->prefix);

    if (message->key == NULL || message->key_len <= size || memcmp(message->key, reading->topic->prefix, size) != 0)
        return false;
    *key = fms_bytes_of((const char *)message->key + size, message->key_len - size);
    return true;
}

static int take(struct reading *reading, const rd_kafka_message_t *message, char why[JOURNAL_WHY])
{
    struct fms_bytes key, value = fms_bytes_of(message->payload, message->len);
    char reason[JOURNAL_WHY / 2];
    int error;

    if (!is_ours(reading, message, &key)) {
        snprintf(
            why, JOURNAL_WHY,
            "it holds what is no record of this journal, at offset %lld: each transactional_id needs a journal of its "
            "own",
            (long long)message->offset);
        return -EINVAL;
    }
    if (message->payload == NULL)
        return 0;
    reading->found = true;
    reading->newest = message->offset;
    reading->base = journal_base(value);
    if (reading->journal == NULL)
        return 0;
    error = journal_load(reading->journal, key, value, message->offset, reason, sizeof reason);
    if (error == -EBADMSG) { /* better some repetitions than no record at all */
        fms_warn(reading->topic->host,
                 "topic %s: the journal's record at offset %lld is left out, and what it says may come twice: %s",
                 reading->topic->name, (long long)message->offset, reason);
        error = 0;
    } else if (error != 0) {
        snprintf(why, JOURNAL_WHY, "its record at offset %lld can't be read: %s", (long long)message->offset, reason);
    }
    return error;
}

/* Whether that was the last one. */
static bool is_last(const struct reading *reading, const rd_kafka_message_t *message)
{
    return message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF ? message->offset >= reading->end
                                                            : message->offset + 1 >= reading->end;
}

/* One batch of messages. 1: that was the last one. */
static int read_batch(struct reading *reading, rd_kafka_message_t **messages, ssize_t count, char why[JOURNAL_WHY])
{
    int result = 0;

    for (ssize_t i = 0; i < count; i++) {
        if (result == 0 && messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            result = take(reading, messages[i], why);
        else if (result == 0 && messages[i]->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            result = fail(why, -EAGAIN, "it can't be read", messages[i]->err);
        if (result == 0 && is_last(reading, messages[i]))
            result = 1;
        rd_kafka_message_destroy(messages[i]);
    }
    return result;
}

static int read_from(struct reading *reading, int64_t offset, char why[JOURNAL_WHY])
{
    rd_kafka_message_t *messages[READ_BATCH];
    int64_t until = fms_now(reading->topic->host) + READ_PATIENCE;
    int result = 0;

    reading->found = false;
    if (offset >= reading->end)
        return 0;
    if (rd_kafka_consume_start(reading->handle, PARTITION, offset) != 0)
        return fail(why, -EAGAIN, "it can't be read", rd_kafka_last_error());
    while (result == 0) {
        ssize_t count = rd_kafka_consume_batch(reading->handle, PARTITION, TICK_MS, messages, READ_BATCH);

        if (count > 0)
            until = fms_now(reading->topic->host) + READ_PATIENCE;
        result = count < 0 ? fail(why, -EAGAIN, "it can't be read", rd_kafka_last_error())
                           : read_batch(reading, messages, count, why);
        if (result == 0 && must_stop(reading->topic))
            result = -EINTR;
        if (result == 0 && fms_now(reading->topic->host) > until)
            result = fail(why, -EAGAIN, "it can't be read", RD_KAFKA_RESP_ERR__TIMED_OUT);
    }
    rd_kafka_consume_stop(reading->handle, PARTITION);
    return result < 0 ? result : 0;
}

/* Where all that is alive begins, by the newest record's word. It is no word of this log where offsets have changed, for the topic was
 * copied, or its oldest records are gone. */
static int64_t base_of(const struct reading *reading, int64_t low)
{
    const struct journal_topic *topic = reading->topic;

    if (reading->base < 0)
        return low;
    if (reading->base >= low && reading->base <= reading->newest)
        return reading->base;
    if (reading->base < low)
        fms_warn(
            topic->host,
            "topic %s: records of the journal are gone, and what they said may come twice: its cleanup.policy must "
            "be compact",
            topic->name);
    return low;
}

static int find_base(struct reading *reading, int64_t low, int64_t *base, char why[JOURNAL_WHY])
{
    int error = 0;

    *base = low;
    for (int64_t tail = TAIL; error == 0; tail *= TAIL_MORE) {
        int64_t from = reading->end - low > tail ? reading->end - tail : low;

        error = read_from(reading, from, why);
        if (error == 0 && reading->found)
            *base = base_of(reading, low);
        if (reading->found || from == low)
            break;
    }
    return error;
}

int journal_topic_read(const struct journal_topic *topic, rd_kafka_t *producer, rd_kafka_t *consumer,
                       size_t entries_most, struct journal **journal, char why[JOURNAL_WHY])
{
    struct reading reading = {.topic = topic, .base = -1};
    int64_t low, base;
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(producer, topic->name, PARTITION, &low, &reading.end,
                                                                ASK_MS);
    int error;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(why, -EAGAIN, "brokers do not say where it ends", code);
    reading.handle = rd_kafka_topic_new(consumer, topic->name, NULL);
    error = reading.handle != NULL ? find_base(&reading, low, &base, why) : -ENOMEM;
    if (error == 0)
        reading.journal = journal_new(entries_most);
    if (error == 0 && reading.journal == NULL)
        error = fail(why, -ENOMEM, "no memory", RD_KAFKA_RESP_ERR__FAIL);
    if (error == 0)
        error = read_from(&reading, base, why);
    if (reading.handle != NULL)
        rd_kafka_topic_destroy(reading.handle);
    if (error != 0)
        journal_free(reading.journal);
    else
        *journal = reading.journal;
    return error;
}
