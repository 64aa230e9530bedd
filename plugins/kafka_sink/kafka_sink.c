/* kafka_sink - produces records to Kafka.
 *
 * Delivered means that the delivery report says so: the brokers that acks = all asks for have the record. The payload
 * is not copied; it stays the host's, who keeps a record until it is settled. With a transactional id it is delivered when
 * its transaction is committed: see transaction.h.
 *
 * Order: the idempotent producer never lets a record overtake another that it sends again itself. A record that it
 * gives up for good makes it fail as a whole (enable.gapless.guarantee), so that nothing behind that record gets
 * through. Then, and whenever a record is to be offered again, everything that is still under way is handed back, and a
 * new producer begins where the host offers again. A topic that was just made gets its first record alone: brokers that
 * know nothing of the producer yet would take the second one though they refused the first.
 *
 * A new producer is dear, so what brokers would refuse is found before it is produced, by what topics.c knows of their
 * topics. A refusal that comes all the same is about a batch: the next producer makes smaller ones, until the record that is
 * meant stands alone in its own.
 *
 * Records wait in three places, in this order: gathered for a larger request (gather.h), for brokers to tell of their topic
 * (`waiting`), and in librdkafka (`unsettled`). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka_sink.h"

#define FLIGHT_PATIENCE (5 * FMS_SECOND) /* for the reports of what was sent before a producer is given up */
#define PURGE_INTERVAL  (50 * FMS_MS)
#define RESTART_MIN     (100 * FMS_MS) /* between producers while none of them gets a record through */
#define RESTART_MAX     (5 * FMS_SECOND)

#define LEARN_PATIENCE (500 * FMS_MS) /* with brokers that answer, but not what the topic takes */
#define LEARN_TICK     (100 * FMS_MS) /* between looks whether they answer */

#define WRITES_PER_LOOK 32u          /* whoever writes looks for reports after so many writes */
#define REPORT_INTERVAL FMS_MS       /* profile = throughput: how soon after reports the lane looks for more */
#define REPORT_BACKSTOP (5 * FMS_MS) /* the same while whoever writes looks within the interval */

#define HOLD       (2 * FMS_MS) /* profile = realtime: how long a report waits for the next record to come ... */
#define HOLD_FEW   4            /* ... while so few are under way */
#define HOLDS_MOST 3            /* in a row, for which none came; then there are none for a while */
#define HOLD_REST  (250 * FMS_MS)
#define CALM_GAP   (250 * FMS_US) /* between records that come slowly */
#define CALM_MOST  8u             /* of those that have come so of late, what is kept in mind */
#define CALM_LEAST 4u

#define TOPIC_NAME_MOST 249  /* characters, in Kafka */
#define LETTER_LEAST    1024 /* bytes that the smallest dead letter may take, LETTER_CUT */

#define TOGETHER_MOST 256         /* records that are handed to librdkafka at once: what the host offers at once */
#define TOGETHER_KEYS (16u << 10) /* bytes of their keys */

#define COUNT_PARTS 16 /* of a refused batch, by records: a few round trips each, and few producers */
#define BYTE_PARTS  4  /* by bytes, when it was too large */

static const struct fms_option kafka_sink_options[] = {
    FMS_OPT_TEMPLATE(struct kafka_sink, topic, FMS_REQUIRED, "topic to produce to"),
    FMS_OPT_TEMPLATE(struct kafka_sink, key, NULL, "key of each message; without it the record's own, if it has one"),
    FMS_OPT_TEMPLATE_PAIRS(struct kafka_sink, headers, "header.",
                           "a header of each message, beside the record's own; of one name, this one"),
    FMS_OPT_TEMPLATE(struct kafka_sink, timestamp, "now",
                     "time of each message: now, when it is produced; record, the record's; or a template such as "
                     "${json:timestamp}"),
    FMS_OPT_INTEGER(struct kafka_sink, topics_max, "5000", 1, 100000,
                    "where the topic depends on the record: topics in use at once, and topics created in one run"),
    {"transactional_id", FMS_STRING, FMS_FIELD(struct kafka_sink, transactional_id, const char *), NULL, 0, 0, NULL,
     "records are written in transactions of this name, which no other process may have: those that are known to be "
     "written are written once",
     "Kafka transactional id", 0},
    {"commit_interval", FMS_DURATION, FMS_FIELD(struct kafka_sink, commit_interval, int64_t), "50ms", FMS_MS,
     10 * FMS_SECOND, NULL,
     "with transactional_id: a transaction is committed so long after its first record, at the latest", NULL, 0},
    {"journal", FMS_STRING, FMS_FIELD(struct kafka_sink, journal, const char *), NULL, 0, 0, NULL,
     "with transactional_id: topic in which it is remembered what was written; by default its name with -journal",
     "Kafka topic of a journal", 0},
    {"journal_entries", FMS_INTEGER, FMS_FIELD(struct kafka_sink, journal_entries, int64_t), "200000", 100, 10000000,
     NULL, "with transactional_id: origins of records that are remembered, and records in parts", NULL, 0},
    KAFKA_OPTIONS(struct kafka_sink),
    FMS_OPT_END,
};

static const struct fms_metric kafka_sink_counters[] = {
    KAFKA_COUNTER_TABLE,
    [COUNTER_RESTARTS] = {"producer_restarts",
                          "producers given up after an error, with what was under way offered again"},
    [COUNTER_REDUCED] = {"letters_reduced",
                         "dead letters sent without payload, or more, for their topic takes no more"},
    [COUNTER_UNTIMELY] = {"untimely", "messages whose time by `timestamp` was none, sent with another"},
    [COUNTER_TRANSACTIONS] = {"transactions", "transactions that were committed"},
    [COUNTER_ABORTED] = {"transactions_aborted",
                         "transactions that ended otherwise, with what was in them offered again"},
    [COUNTER_SUPPRESSED] = {"repetitions", "records that were written before, and not again"},
    [COUNTER_UNSURE] = {"unsure",
                        "records of which it is not known any more whether they were written before; they were "
                        "written"},
    {NULL, NULL},
};

static const struct fms_metric kafka_sink_gauges[] = {
    KAFKA_GAUGE_TABLE(""),
    KAFKA_PRODUCER_GAUGE_TABLE,
    [GAUGE_JOURNAL_ENTRIES] = {"journal_entries", "origins of records that the journal knows, and records in parts"},
    [GAUGE_JOURNAL_BYTES] = {"journal_bytes", "bytes of memory that they take"},
    {NULL, NULL},
};

static const struct fms_metric kafka_sink_durations[] = {
    [DURATION_COMMIT] = {"commit_seconds", "what the commit of a transaction took"},
    {NULL, NULL},
};

/* ------------------------------------------------------------------------------------------------------------ fates */

void kafka_sink_note_progress(struct kafka_sink *self)
{
    self->restarts = 0;
    self->restart_at = 0;
}

void kafka_sink_give_up(struct kafka_sink *self)
{
    if (self->is_broken)
        return;
    self->is_broken = true;
    self->broken_at = fms_now(self->kafka.host);
}

static bool is_size_refusal(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE ||
           error == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE;
}

/* A refusal of a whole batch: which of its records it is about is known only when each is sent alone. */
static bool is_batch_refusal(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
        return true;
    default:
        return is_size_refusal(error);
    }
}

static void settle_retry(struct kafka_sink *self, const struct fms_record *record, const char *topic, const char *why)
{
    self->returned++;
    fms_retry(self->kafka.host, record, "topic %s: %s", topic, why);
    kafka_sink_give_up(self);
}

static void settle_rejected(struct kafka_sink *self, const struct fms_record *record, const char *topic,
                            const char *why)
{
    kafka_sink_note_progress(self);
    fms_reject(self->kafka.host, record, "topic %s: %s", topic, why);
}

static bool is_missing(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

/* A refusal of the topic: final only where the record itself chose it. */
static bool is_topic_refusal(rd_kafka_resp_err_t error)
{
    return is_missing(error) || error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
}

/* Whether the topic may be there all the same, so that its records have to wait. */
static bool must_ask_again(struct kafka_sink *self, struct topic *topic, rd_kafka_resp_err_t error)
{
    return topic != NULL && !topic->is_fixed && is_missing(error) &&
           !topic_missed(&self->topics, topic, rd_kafka_err2str(error));
}

static void settle_refused(struct kafka_sink *self, const struct fms_record *record, rd_kafka_resp_err_t error,
                           struct topic *topic, const char *name)
{
    if (self->fixed != NULL && is_missing(error)) /* it was deleted */
        self->must_create = self->must_learn = self->may_be_new = self->kafka.create_topic;
    if (self->fixed != NULL || !is_topic_refusal(error)) {
        settle_retry(self, record, name, rd_kafka_err2str(error));
        return;
    }
    if (topic != NULL && topic->state != TOPIC_REFUSED)
        topic_refuse_again(&self->topics, topic, rd_kafka_err2str(error));
    settle_rejected(self, record, name, rd_kafka_err2str(error));
}

/* ---------------------------------------------------------------------------------------------------------- refusals */

/* Grows an array to have room for one more. */
static bool make_room(void **items, size_t count, size_t *capacity, size_t size)
{
    size_t more = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown;

    if (count < *capacity)
        return true;
    grown = realloc(*items, more * size);
    if (grown == NULL)
        return false;
    *items = grown;
    *capacity = more;
    return true;
}

static bool wait_for(struct kafka_sink *self, const struct fms_record *record, struct topic *topic, enum letter letter)
{
    if (!make_room((void **)&self->waiting, self->waiting_count, &self->waiting_capacity, sizeof *self->waiting))
        return false;
    self->waiting[self->waiting_count++] = (struct waiting){record, topic, letter, false};
    topic->waiting++;
    return true;
}

/* The same for one that librdkafka had already: it comes before those of its topic that have been waiting only. */
static bool wait_again(struct kafka_sink *self, const struct fms_record *record, struct topic *topic,
                       enum letter letter)
{
    size_t place = 0;

    if (!wait_for(self, record, topic, letter))
        return false;
    while (self->waiting[place].topic != topic || self->waiting[place].is_back)
        place++;
    memmove(&self->waiting[place + 1], &self->waiting[place],
            (self->waiting_count - 1 - place) * sizeof(*self->waiting));
    self->waiting[place] = (struct waiting){record, topic, letter, true};
    return true;
}

/* Keeps a record of a refused batch until all of it is reported. */
static void keep_refused(struct kafka_sink *self, const rd_kafka_message_t *message, const struct fms_record *record,
                         enum letter letter)
{
    const char *name = rd_kafka_topic_name(message->rkt);
    struct topic *topic = self->fixed != NULL ? self->fixed : topics_find(&self->topics, fms_text(name));
    struct message sent = {.key = {message->key, message->key_len}, .payload = {message->payload, message->len}};

    (void)rd_kafka_message_headers(message, &sent.headers);
    kafka_sink_give_up(self);
    if (topic == NULL ||
        !make_room((void **)&self->refused, self->refused_count, &self->refused_capacity, sizeof *self->refused)) {
        settle_retry(self, record, name, rd_kafka_err2str(message->err));
        return;
    }
    self->batch += self->batch_topic != message->rkt || self->batch_partition != message->partition;
    self->batch_topic = message->rkt;
    self->batch_partition = message->partition;
    self->refused[self->refused_count++] = (struct refused){record,       topic,       letter,
                                                            message->err, self->batch, message_size(&sent)};
    topic->waiting++; /* so that it is not forgotten */
}

/* Whether a message that is too large for its topic would fit if it were compressed, as is not done for what hardly gets smaller. From
 * here on it is done. */
static bool may_fit_compressed(struct kafka_sink *self, struct fms_bytes payload, size_t most)
{
    if (!self->compression.is_free || self->producer.is_compressed || !compression_fits(payload, most))
        return false;
    if (!self->compression.is_needed)
        fms_info(self->kafka.host, "records are compressed again: one of %zu bytes fits its topic only so",
                 payload.size);
    compression_need(&self->compression);
    return true;
}

/* It is the one that was meant. */
static void settle_guilty(struct kafka_sink *self, const struct refused *refused)
{
    struct fms_bytes payload = refused->letter == LETTER_WHOLE ? refused->record->payload : fms_bytes_of(NULL, 0);
    struct topic *topic = refused->topic;

    kafka_sink_note_progress(self);
    if (is_size_refusal(refused->error) && may_fit_compressed(self, payload, payload.size - payload.size / 10)) {
        settle_retry(self, refused->record, topic->name, rd_kafka_err2str(refused->error));
        return;
    }
    topic->is_wary = topic->is_wary || (self->producer.is_compressed && is_size_refusal(refused->error));
    if (is_size_refusal(refused->error) && !self->producer.is_compressed)
        topic_teach(&self->topics, topic, (int64_t)refused->bytes - 1);
    if (!is_letter(self) || refused->letter == LETTER_CUT ||
        !wait_for(self, refused->record, topic, refused->letter + 1))
        settle_rejected(self, refused->record, topic->name, rd_kafka_err2str(refused->error));
}

/* So many innocent records, or so it seems, were refused with others: the next producer makes smaller batches. */
static void divide_batch(struct kafka_sink *self, const struct refused *refused, size_t count, size_t bytes)
{
    int64_t parts = (int64_t)count / COUNT_PARTS, part = (int64_t)bytes / BYTE_PARTS;

    kafka_sink_note_progress(self);
    if (is_size_refusal(refused->error))
        topic_teach_batch(refused->topic, part > 1 ? part : 1);
    else if (self->batch_count == 0 || self->batch_count > parts)
        self->batch_count = parts > 1 ? parts : 1;
}

/* Settles the records of what was reported as one batch. Nothing joins one that fills a batch by itself. */
static void judge_batch(struct kafka_sink *self, const struct refused *refused, size_t count)
{
    bool are_single = count == 1 || self->producer.are_single;
    size_t others = 0, bytes = 0;

    topic_doubt(&self->topics, refused->topic);
    for (size_t i = 0; i < count; i++) {
        refused[i].topic->waiting--;
        if (are_single || (int64_t)refused[i].bytes >= self->producer.batch_bytes) {
            settle_guilty(self, &refused[i]);
            continue;
        }
        others++;
        bytes += refused[i].bytes;
        settle_retry(self, refused[i].record, refused->topic->name, rd_kafka_err2str(refused->error));
    }
    if (others > 0)
        divide_batch(self, refused, others, bytes);
}

/* All that was under way is reported: which of the refused batches were of one record? */
static void judge_refused(struct kafka_sink *self)
{
    if (self->refused_count > 0)
        self->batch_count = 0;
    for (size_t i = 0, count; i < self->refused_count; i += count) {
        const struct refused *first = &self->refused[i];

        count = 1;
        while (i + count < self->refused_count && first[count].batch == first->batch)
            count++;
        judge_batch(self, first, count);
    }
    self->refused_count = 0;
    self->batch_topic = NULL;
}

/* -------------------------------------------------------------------------------------------------- delivery reports */

/* What is left out is gone for good: there is no other place for it. */
static void tell_reduced(struct kafka_sink *self, const struct fms_record *record, const char *name, enum letter letter)
{
    static const char *const others[] = {[LETTER_WITHOUT_PAYLOAD] = "",
                                         [LETTER_OF_THE_HOST] = "its key and its other headers",
                                         [LETTER_CUT] = "its key and its other headers, and with its reason cut short"};
    const struct topic *topic = self->fixed != NULL ? self->fixed : topics_find(&self->topics, fms_text(name));
    int64_t most = self->producer.message_bytes;
    char payload[48] = "";

    fms_count(self->kafka.host, COUNTER_REDUCED, 1);
    if (topic != NULL && topic->limits.size < most)
        most = topic->limits.size;
    if (record->payload.size > 0)
        snprintf(payload, sizeof payload, "its payload of %zu bytes%s", record->payload.size,
                 letter == LETTER_WITHOUT_PAYLOAD ? "" : ", ");
    if (record->payload.size > 0 || letter != LETTER_WITHOUT_PAYLOAD)
        fms_warn(self->kafka.host,
                 "topic %s: a dead letter went without %s%s, for a message may have %lld bytes; raise the topic's "
                 "max.message.bytes, or kafka.message.max.bytes",
                 name, payload, others[letter], (long long)most);
}

static void settle_delivered(struct kafka_sink *self, const rd_kafka_message_t *message,
                             const struct fms_record *record, enum letter letter)
{
    struct topic *topic = self->topics.tried > 0 && self->fixed == NULL
                              ? topics_find(&self->topics, fms_text(rd_kafka_topic_name(message->rkt)))
                              : NULL;

    self->may_be_new = false;
    if (topic != NULL)
        topic_proved(&self->topics, topic);
    if (letter != LETTER_WHOLE)
        tell_reduced(self, record, rd_kafka_topic_name(message->rkt), letter);
    kafka_reached(&self->kafka);
    if (self->compression.is_free)
        compression_delivered(&self->compression, message->rkt, message->partition, message->len);
    if (self->transactions != NULL)
        return; /* until the commit */
    kafka_sink_note_progress(self);
    fms_delivered(self->kafka.host, record);
}

/* The next producer is to be another, as soon as nothing is under way. */
static void must_renew(struct kafka_sink *self)
{
    if (!self->must_replace)
        self->replace_until = fms_now(self->kafka.host) + FLIGHT_PATIENCE;
    self->must_replace = true;
}

/* One less of those among which a refused one was sought. After the last, batches may be large again. */
static void clear_suspect(struct kafka_sink *self)
{
    if (--self->suspects > 0)
        return;
    self->batch_count = 0;
    must_renew(self);
}

static void settle_failed(struct kafka_sink *self, const rd_kafka_message_t *message, const struct fms_record *record,
                          enum letter letter)
{
    const char *name = rd_kafka_topic_name(message->rkt);
    struct topic *topic = self->fixed != NULL ? self->fixed : topics_find(&self->topics, fms_text(name));

    if (!must_ask_again(self, topic, message->err))
        settle_refused(self, record, message->err, topic, name);
    else if (self->is_broken || !wait_again(self, record, topic, letter))
        settle_retry(self, record, name, rd_kafka_err2str(message->err));
}

/* The brokers have said where it is. librdkafka takes a record of an idempotent producer for delivered, too, when a later one is: but where
 * they know nothing of the producer yet they take a later batch though the one before it was refused, and is to be sent again
 * (KAFKA-15591). */
static bool is_confirmed(const struct kafka_sink *self, const rd_kafka_message_t *message)
{
    return message->offset >= 0 || !self->producer.is_idempotent;
}

/* A delivery report. [lane], within rd_kafka_poll */
static void reported(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_sink *self = opaque;
    uintptr_t word = (uintptr_t)message->_private;
    const struct fms_record *record = (const void *)(word & ~LETTER_MASK);
    enum letter letter = (enum letter)(word & LETTER_MASK);

    (void)rk;
    self->unsettled--;
    if (self->transactions != NULL && transactions_reported(self, message))
        return;
    if (self->is_closing)
        return;
    if (self->waiting_count > 0)
        self->may_wait_no_longer = true;
    if (self->is_alone)
        self->is_alone = self->unsettled > 0;
    if (self->suspects > 0)
        clear_suspect(self);
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && !is_confirmed(self, message))
        self->is_doubted = true;
    if (self->transactions != NULL && (message->err != RD_KAFKA_RESP_ERR_NO_ERROR || self->is_doubted)) {
        kafka_sink_give_up(self);
        transactions_drop(self, record, message->err);
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && self->is_doubted)
        settle_retry(self, record, rd_kafka_topic_name(message->rkt),
                     "a batch was refused and one behind it taken: all from there on is offered again");
    else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        settle_delivered(self, message, record, letter);
    else if (is_batch_refusal(message->err))
        keep_refused(self, message, record, letter);
    else
        settle_failed(self, message, record, letter);
}

/* One event of the producer's queue: how many reports. */
static int take_event(struct kafka_sink *self, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;
    int count = 0;

    for (; (message = rd_kafka_event_message_next(event)) != NULL; count++)
        reported(self->kafka.rk, message, self);
    rd_kafka_event_destroy(event);
    return count;
}

/* With transactions reports are events, for their thread flushes, which would call back there otherwise. */
int kafka_sink_fetch_reports(struct kafka_sink *self)
{
    rd_kafka_event_t *event;
    int count = 0, more;

    kafka_awake(&self->kafka);
    while (self->reports == NULL && (more = rd_kafka_poll(self->kafka.rk, 0)) > 0)
        count += more;
    while (self->reports != NULL && (event = rd_kafka_queue_poll(self->reports, 0)) != NULL)
        count += take_event(self, event);
    compression_pause(&self->compression);
    return count;
}

/* --------------------------------------------------------------------------------------------------------- producer */

static const struct kafka_setting no_settings[] = {{NULL, NULL}};

bool kafka_sink_is_configured(const struct kafka_sink *self, const char *property)
{
    for (size_t i = 0; i < self->kafka.properties.count; i++) {
        if (strcmp(self->kafka.properties.items[i].name, property) == 0)
            return true;
    }
    return false;
}

static void lower(rd_kafka_conf_t *conf, const char *name, int64_t most)
{
    char text[32];

    snprintf(text, sizeof text, "%lld", (long long)most);
    if (most < kafka_conf_number(conf, name))
        rd_kafka_conf_set(conf, name, text, NULL, 0);
}

/* Batches as small as topics and refusals want them. */
static void configure_batches(struct kafka_sink *self, rd_kafka_conf_t *conf)
{
    lower(conf, "batch.size", topics_batch_bytes(&self->topics));
    if (self->batch_count > 0)
        lower(conf, "batch.num.messages", self->batch_count);
}

static struct producer producer_of(const rd_kafka_conf_t *conf)
{
    struct producer producer = {
        .batch_bytes = kafka_conf_number(conf, "batch.size"),
        .message_bytes = kafka_conf_number(conf, "message.max.bytes"),
        .are_single = kafka_conf_is(conf, "batch.num.messages", "1"),
        .queue_most = kafka_conf_number(conf, "queue.buffering.max.messages"),
        .is_compressed = !kafka_conf_is(conf, "compression.codec", "none"),
        .is_creating = kafka_conf_is(conf, "allow.auto.create.topics", "true"),
        .is_idempotent = kafka_conf_is(conf, "enable.idempotence", "true"),
    };

    return producer;
}

/* Topics are created as the options say; by brokers, as they are configured, only where they can't be asked. */
static bool may_brokers_create(const struct kafka_sink *self)
{
    return self->kafka.create_topic && (self->fixed != NULL ? self->kafka.is_mute : self->topics.is_mute);
}

static bool must_let_brokers_create(const struct kafka_sink *self)
{
    return may_brokers_create(self) && !self->producer.is_creating &&
           !kafka_sink_is_configured(self, "allow.auto.create.topics");
}

static rd_kafka_conf_t *producer_conf(struct kafka_sink *self)
{
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, self->kafka.host, RD_KAFKA_PRODUCER, no_settings);

    if (self->transactions != NULL)
        transactions_configure(self, conf); /* where one message fails, its transaction does */
    else if (kafka_conf_is(conf, "enable.idempotence", "true"))
        rd_kafka_conf_set(conf, "enable.gapless.guarantee", "true", NULL, 0);
    if (!kafka_sink_is_configured(self, "allow.auto.create.topics"))
        rd_kafka_conf_set(conf, "allow.auto.create.topics", may_brokers_create(self) ? "true" : "false", NULL, 0);
    if (self->fixed_topic == NULL && !kafka_sink_is_configured(self, "topic.metadata.propagation.max.ms"))
        rd_kafka_conf_set(conf, "topic.metadata.propagation.max.ms", "1000", NULL,
                          0); /* it is asked when all else is known */
    configure_batches(self, conf);
    if (self->compression.is_free && !self->compression.is_on)
        rd_kafka_conf_set(conf, "compression.codec", "none", NULL, 0);
    if (self->may_gather)
        rd_kafka_conf_set(conf, "linger.ms", "0", NULL, 0); /* they are gathered here */
    if (self->transactions == NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, reported);
    return conf;
}

static int producer_start(struct kafka_sink *self)
{
    rd_kafka_conf_t *conf = producer_conf(self);
    rd_kafka_queue_t *queue;
    int error;

    self->producer = producer_of(conf);
    error = kafka_start(&self->kafka, RD_KAFKA_PRODUCER, conf);
    if (error != 0)
        return error;
    queue = rd_kafka_queue_get_main(self->kafka.rk);
    kafka_watch(&self->kafka, queue);
    if (self->transactions != NULL)
        self->reports = queue;
    else
        rd_kafka_queue_destroy(queue);
    topics_start(&self->topics);
    self->is_alone = false;
    self->is_doubted = false;
    self->may_wait_no_longer = self->waiting_count > 0;
    if (self->must_create)
        kafka_create(&self->kafka, (const char *const *)&self->fixed_topic, 1);
    return self->transactions != NULL ? transactions_start(self) : 0;
}

static void producer_stop(struct kafka_sink *self)
{
    rd_kafka_purge(self->kafka.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    topics_stop(&self->topics);
    if (self->reports != NULL)
        rd_kafka_queue_destroy(self->reports);
    self->reports = NULL;
    kafka_stop(&self->kafka, 0);
}

static int producer_replace(struct kafka_sink *self)
{
    char reason[512] = "records have to be offered again";

    if (self->kafka.is_fatal)
        rd_kafka_fatal_error(self->kafka.rk, reason, sizeof reason);
    fms_info(self->kafka.host, "starting a new producer: %s", reason);
    fms_count(self->kafka.host, COUNTER_RESTARTS, 1);
    self->restart_at = fms_now(self->kafka.host) +
                       fms_backoff(self->kafka.host, RESTART_MIN, RESTART_MAX, self->restarts++);
    producer_stop(self);
    self->suspects = self->batch_count > 0 ? self->returned : 0;
    self->returned = 0;
    self->is_broken = false;
    self->must_replace = false;
    return producer_start(self);
}

/* Waits until nothing is under way; but not for ever, for others wait as well. */
static int producer_renew(struct kafka_sink *self, struct fms_wait *wait)
{
    if (self->unsettled > 0 || (self->transactions != NULL && !transactions_let_go(self))) {
        if (fms_now(self->kafka.host) >= self->replace_until)
            kafka_sink_give_up(self);
        if (wait->deadline > self->replace_until)
            wait->deadline = self->replace_until;
        return 0;
    }
    fms_debug(self->kafka.host, "starting a new producer: batches are to be others");
    producer_stop(self);
    self->must_replace = false;
    fms_wake(self->kafka.host);
    return producer_start(self);
}

/* What waits is offered again with what was under way, but dead letters of which less is to be sent. */
static void return_waiting(struct kafka_sink *self)
{
    size_t kept = 0;

    for (size_t i = 0; i < self->waiting_count; i++) {
        struct waiting waiting = self->waiting[i];

        if (waiting.letter != LETTER_WHOLE) {
            self->waiting[kept++] = waiting;
            continue;
        }
        waiting.topic->waiting--;
        settle_retry(self, waiting.record, waiting.topic->name, "records before it have to be offered again");
    }
    self->waiting_count = kept;
}

/* So is what was gathered behind something that is to be offered again; else it stays, for a new producer. */
static void return_gathered(struct kafka_sink *self)
{
    struct gather *gather = &self->gather;

    if (self->returned == 0)
        return;
    self->returned += gather->count;
    for (size_t i = 0; i < gather->count; i++)
        fms_retry(self->kafka.host, gather->records[gather->first + i], "records before it have to be offered again");
    gather_drop(gather, gather->count);
    self->is_stuck = false;
}

/* Fetches the reports of a broken producer. What it holds in its queue comes back at once; what was sent has some time,
 * for its report may be good. */
static int producer_wind_up(struct kafka_sink *self, struct fms_wait *wait)
{
    int flags = RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING;
    int64_t now = fms_now(self->kafka.host);

    return_waiting(self);
    if (self->unsettled > 0) {
        if (now - self->broken_at > FLIGHT_PATIENCE)
            flags |= RD_KAFKA_PURGE_F_INFLIGHT;
        rd_kafka_purge(self->kafka.rk, flags);
        kafka_sink_fetch_reports(self);
    }
    if (self->unsettled > 0) {
        wait->deadline = now + PURGE_INTERVAL;
        return 0;
    }
    judge_refused(self);
    if (self->transactions != NULL && !transactions_return(self)) {
        wait->deadline = now + PURGE_INTERVAL;
        return 0;
    }
    return_gathered(self);
    if (now < self->restart_at) {
        if (wait->deadline > self->restart_at)
            wait->deadline = self->restart_at;
        return 0;
    }
    if (self->transactions != NULL)
        transactions_let_go(self);
    fms_wake(self->kafka.host);
    return producer_replace(self);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

static void *opaque_of(const struct message *message)
{
    return (void *)((uintptr_t)message->record | (uintptr_t)message->letter);
}

/* False: rd_kafka_last_error says why. */
static bool produce_plain(rd_kafka_topic_t *handle, struct fms_bytes key, struct fms_bytes payload, void *opaque)
{
    return rd_kafka_produce(handle, RD_KAFKA_PARTITION_UA, 0, (void *)(uintptr_t)payload.data, payload.size, key.data,
                            key.size, opaque) == 0;
}

static rd_kafka_resp_err_t produce_full(struct kafka_sink *self, rd_kafka_topic_t *handle, struct message *message)
{
    rd_kafka_vu_t arguments[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = handle},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)message->payload.data, message->payload.size}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)message->key.data, message->key.size}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque_of(message)},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = message->headers},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->time},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(self->kafka.rk, arguments, sizeof arguments / sizeof arguments[0]);
    rd_kafka_resp_err_t code;

    if (error == NULL) {
        message->headers = NULL;
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    return code;
}

static rd_kafka_resp_err_t hand_over(struct kafka_sink *self, struct message *message)
{
    rd_kafka_topic_t *handle = topic_handle(&self->topics, message->topic);

    if (message->headers != NULL && handle != NULL)
        return produce_full(self, handle, message);
    if (handle != NULL && produce_plain(handle, message->key, message->payload, opaque_of(message)))
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    return rd_kafka_last_error();
}

static rd_kafka_resp_err_t hand_over_with_care(struct kafka_sink *self, struct message *message, char *why, size_t size)
{
    rd_kafka_resp_err_t error = message_foresee(self, message, why, size);
    bool is_alone = message_must_go_alone(self, message);

    if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
        may_fit_compressed(self, message->payload, (size_t)message->topic->limits.size)) {
        must_renew(self);
        error = RD_KAFKA_RESP_ERR__QUEUE_FULL;
    }
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
        error = is_alone && self->unsettled > 0 ? RD_KAFKA_RESP_ERR__QUEUE_FULL : hand_over(self, message);
    self->is_alone = is_alone && error == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (message->headers != NULL)
        rd_kafka_headers_destroy(message->headers);
    return error;
}

/* Of an error that no broker has said, though librdkafka's text begins so. */
static const char *own_words(rd_kafka_resp_err_t error)
{
    static const char prefix[] = "Broker: ";
    const char *text = rd_kafka_err2str(error);

    if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        return "too large: it is larger than kafka.message.max.bytes";
    return strncmp(text, prefix, sizeof prefix - 1) == 0 ? text + sizeof prefix - 1 : text;
}

/* What librdkafka did not take. False: it stays where it is. */
static bool settle_unproduced(struct kafka_sink *self, const struct message *message, rd_kafka_resp_err_t error,
                              const char *why)
{
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL || must_ask_again(self, message->topic, error))
        return false;
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        kafka_sink_give_up(self);
        return false;
    }
    if (is_batch_refusal(error))
        settle_rejected(self, message->record, message->topic->name, why[0] != '\0' ? why : own_words(error));
    else
        settle_refused(self, message->record, error, message->topic, message->topic->name);
    return true;
}

/* What an empty queue does not take, it never will. */
static rd_kafka_resp_err_t judge_full(const struct kafka_sink *self, rd_kafka_resp_err_t error, char *why, size_t size)
{
    if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL || self->unsettled > 0 || self->must_replace)
        return error;
    snprintf(why, size, "it is larger than kafka.queue.buffering.max.kbytes");
    return RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
}

/* librdkafka has the record. */
static inline void note_taken(struct kafka_sink *self, const struct fms_record *record)
{
    self->unsettled++;
    if (self->transactions != NULL)
        transactions_took(self, record);
}

/* Whether the record was taken. Of a dead letter that is too large, less is sent. */
static bool produce(struct kafka_sink *self, const struct fms_record *record, struct topic *topic, enum letter letter)
{
    for (;; letter++) {
        rd_kafka_resp_err_t error;
        struct message message;
        char why[160];

        why[0] = '\0';
        if (!message_make(self, record, topic, letter, &message))
            return true;
        error = message.headers == NULL && message_is_fine(topic, message.key, message.payload)
                    ? hand_over(self, &message)
                    : hand_over_with_care(self, &message, why, sizeof why);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            note_taken(self, record);
            return true;
        }
        error = judge_full(self, error, why, sizeof why);
        if (!is_letter(self) || error != RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || letter == LETTER_CUT)
            return settle_unproduced(self, &message, error, why);
    }
}

/* The way of most records: as they are, but for the key, to a topic that takes them. Whether the record was taken; if not, it
 * is for `produce`. */
static bool produce_at_once(struct kafka_sink *self, const struct fms_record *record, struct topic *topic)
{
    struct fms_bytes key = record->key;

    if (record->header_count > 0 || !self->adds_nothing || topic->handle == NULL)
        return false;
    if (self->key != NULL && !message_expand(self, "key", self->key, record, &key))
        return true;
    if (!message_is_fine(topic, key, record->payload) ||
        !produce_plain(topic->handle, key, record->payload, (void *)(uintptr_t)record))
        return false;
    note_taken(self, record);
    return true;
}

/* The same for those at the front, if they all go to one topic: handed over together they take one look at the clock and one lock of the
 * topic, and reach librdkafka's thread as fewer, larger batches. How many were taken. What is wrong with one would be wrong with all behind
 * it, too: the queue is full, or the topic is not there. So none is taken behind one that is not. */
static size_t produce_together(struct kafka_sink *self, const struct fms_record *const *records, size_t count)
{
    struct topic *topic = self->fixed;
    rd_kafka_message_t messages[TOGETHER_MOST];
    char keys[TOGETHER_KEYS];
    size_t n = 0, taken = 0, used = 0;

    if (topic == NULL || topic->handle == NULL || topic->state == TOPIC_ASKED || topic->waiting > 0 ||
        !self->adds_nothing || self->may_be_new || self->transactions != NULL)
        return 0;
    for (; n < count && n < TOGETHER_MOST; n++) {
        struct fms_bytes key = records[n]->key, payload = records[n]->payload;

        if (records[n]->header_count > 0 ||
            (self->key != NULL && fms_expand(self->kafka.host, self->key, records[n], &key) != 0) ||
            !message_is_fine(topic, key, payload) || key.size + payload.size > (size_t)self->producer.message_bytes ||
            key.size > sizeof keys - used)
            break;
        if (self->key != NULL)
            key.data = memcpy(&keys[used], key.data, key.size); /* it would be gone with the next one */
        used += key.size;
        messages[n] = (rd_kafka_message_t){.payload = (void *)(uintptr_t)payload.data,
                                           .len = payload.size,
                                           .key = (void *)(uintptr_t)key.data,
                                           .key_len = key.size,
                                           ._private = (void *)(uintptr_t)records[n]};
    }
    if (n > 0)
        rd_kafka_produce_batch(topic->handle, RD_KAFKA_PARTITION_UA, 0, messages, (int)n);
    while (taken < n && messages[taken].err == RD_KAFKA_RESP_ERR_NO_ERROR)
        taken++;
    self->unsettled += taken;
    return taken;
}

/* Why no record can go to a topic of that name, or NULL. What brokers keep for themselves they would refuse at the price of a
 * producer, or make as nobody wants it. */
static const char *topic_error(struct fms_bytes name)
{
    static const char *const internal[] = {"__consumer_offsets", "__transaction_state", "__share_group_state",
                                           "__cluster_metadata"};

    for (size_t i = 0; i < sizeof internal / sizeof internal[0]; i++) {
        if (name.size == strlen(internal[i]) && memcmp(name.data, internal[i], name.size) == 0)
            return "is a topic of Kafka's own";
    }
    return kafka_topic_error(name.data, name.size);
}

/* What comes nearest to a name that can't be one. */
static struct fms_bytes letter_topic(struct fms_bytes name, char text[TOPIC_NAME_MOST + 1])
{
    const char *named = name.data;
    size_t size = 0;

    for (; size < name.size && size < TOPIC_NAME_MOST; size++)
        text[size] = named[size] == '.' || kafka_topic_error(&named[size], 1) == NULL ? named[size] : '_';
    text[size] = '\0';
    if (topic_error((struct fms_bytes){text, size}) != NULL) /* "", ".", "..", and Kafka's own: all of them short */
        text[size++] = '_';
    text[size] = '\0';
    return (struct fms_bytes){text, size};
}

/* The topic that a record chooses. NULL: it has none; *is_taken says whether the record was settled. */
static struct topic *choose_topic(struct kafka_sink *self, const struct fms_record *record, bool *is_taken)
{
    char near[TOPIC_NAME_MOST + 1];
    bool must_wait = false;
    struct topic *topic;
    struct fms_bytes name;
    const char *error;

    *is_taken = true;
    if (!message_expand(self, "topic", self->topic, record, &name))
        return NULL;
    error = topic_error(name);
    if (error != NULL && is_letter(self)) {
        name = letter_topic(name, near);
    } else if (error != NULL) {
        fms_reject(self->kafka.host, record, "topic: \"%.*s\" %s", (int)(name.size < 80 ? name.size : 80),
                   (const char *)name.data, error);
        return NULL;
    }
    topic = topics_get(&self->topics, name, &must_wait);
    if (topic != NULL)
        return topic;
    *is_taken = !must_wait || self->unsettled + self->waiting_count == 0;
    if (*is_taken)
        fms_reject(self->kafka.host, record, "topic %s: there is no room for it, with %zu in use; see topics_max",
                   (const char *)name.data, self->topics.count - self->topics.refused);
    return NULL;
}

/* Whether the record was taken. */
static bool write_one(struct kafka_sink *self, const struct fms_record *record)
{
    struct topic *topic = self->fixed;
    bool is_taken;

    if (topic == NULL) {
        topic = choose_topic(self, record, &is_taken);
        if (topic == NULL)
            return is_taken;
    }
    if (topic->state == TOPIC_ASKED || topic->waiting > 0)
        return wait_for(self, record, topic, LETTER_WHOLE);
    if (topic->state == TOPIC_REFUSED) {
        settle_rejected(self, record, topic->name, topic->refusal);
        return true;
    }
    return produce_at_once(self, record, topic) || produce(self, record, topic, LETTER_WHOLE) ||
           (topic->state == TOPIC_ASKED && wait_for(self, record, topic, LETTER_WHOLE));
}

static bool may_take(struct kafka_sink *self)
{
    return !self->is_broken && !self->must_create && !self->must_learn && !self->must_replace &&
           (self->transactions == NULL || transactions_may_write(self));
}

static bool may_write(struct kafka_sink *self)
{
    return !self->is_alone && (!self->may_be_new || self->unsettled == 0) && may_take(self);
}

/* Nothing is written of it, so it need not wait for what a new topic's first record waits for. */
static bool is_end(const struct fms_record *record)
{
    return record->identity != NULL && record->identity->is_end;
}

/* There is nothing to be written of it, for it was before; it is settled with the others. */
static inline bool is_known(struct kafka_sink *self, const struct fms_record *record)
{
    return self->transactions != NULL && transactions_knows(self, record);
}

/* Whether one of those that wait can do so no longer. */
static bool write_waiting_one(struct kafka_sink *self, const struct waiting *waiting)
{
    struct topic *topic = waiting->topic;

    if (topic->state == TOPIC_REFUSED) {
        settle_rejected(self, waiting->record, topic->name, topic->refusal);
        return true;
    }
    if (topic->state == TOPIC_ASKED || topic->pass == self->pass || !may_write(self))
        return false;
    return is_known(self, waiting->record) || produce(self, waiting->record, topic, waiting->letter);
}

/* Writes those whose topics have been decided, each after those before it of its topic. */
static void write_waiting(struct kafka_sink *self)
{
    size_t kept = 0;

    self->may_wait_no_longer = false;
    self->pass++;
    for (size_t i = 0; i < self->waiting_count; i++) {
        struct waiting waiting = self->waiting[i];

        if (write_waiting_one(self, &waiting)) {
            waiting.topic->waiting--;
            continue;
        }
        waiting.topic->pass = self->pass;
        self->waiting[kept++] = waiting;
    }
    self->waiting_count = kept;
}

/* As many of the first as can be; how many. */
static size_t write_some(struct kafka_sink *self, const struct fms_record *const *records, size_t count)
{
    size_t n = 0;

    while (n < count && (is_end(records[n]) ? may_take(self) : may_write(self))) {
        size_t together = produce_together(self, &records[n], count - n);

        n += together;
        if (together > 0)
            continue;
        if (!is_known(self, records[n]) && !write_one(self, records[n]))
            break;
        n++;
    }
    return n;
}

/* What compresses no more says why, and how it does all the same. */
static void change_compression(struct kafka_sink *self)
{
    static const char advice[] = "kafka.compression.codec = lz4 compresses all the same";

    if (self->compression.is_on)
        fms_info(self->kafka.host, "records are compressed again: lz4 makes them smaller by a fifth and more");
    else if (compression_batches_are_small(&self->compression))
        fms_info(
            self->kafka.host,
            "records are not compressed any more: batches have %zu bytes, fewer than it is worth to start lz4 for; %s",
            self->compression.batch, advice);
    else
        fms_info(self->kafka.host,
                 "records are not compressed any more: lz4 makes them smaller by less than a tenth; %s", advice);
    must_renew(self);
}

/* Gathers them, or hands them on; how many. */
static size_t gather_or_write(struct kafka_sink *self, const struct fms_record *const *records, size_t count,
                              int64_t now)
{
    size_t n;

    self->is_gathering = gather_is_on(&self->gather, now);
    if (self->is_gathering)
        return !self->is_stuck && may_write(self) && gather_put(&self->gather, records, count, now) ? count : 0;
    n = write_some(self, records, count);
    gather_pass(&self->gather, n);
    return n;
}

static int kafka_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct kafka_sink *self = instance;
    struct compression *compression = &self->compression;
    size_t sampled = 0, n;
    int64_t now;

    self->has_written = true;
    if (!self->may_gather && !compression->is_free)
        return (int)write_some(self, records, count);
    now = fms_now(self->kafka.host);
    if (compression->is_free) /* of what is not settled yet */
        sampled = compression_add(compression, records, count, now);
    n = self->may_gather ? gather_or_write(self, records, count, now) : write_some(self, records, count);
    if (n < count)
        compression_take_back(compression, sampled);
    else if (sampled > 0 && compression_judge(compression, now))
        change_compression(self);
    return (int)n;
}

/* Hands on what was gathered, when it is time. */
static void look_for_gathered(struct kafka_sink *self, struct fms_wait *wait)
{
    struct gather *gather = &self->gather;
    bool was_stuck = self->is_stuck;
    int64_t now, due_at;

    if (gather->count == 0)
        return;
    now = fms_now(self->kafka.host);
    due_at = gather_due_at(gather);
    if (!was_stuck && now < due_at) {
        wait->deadline = wait->deadline < due_at ? wait->deadline : due_at;
        return;
    }
    if (!was_stuck)
        gather_judge(gather, now);
    gather_drop(gather, write_some(self, &gather->records[gather->first], gather->count));
    self->is_stuck = gather->count > 0;
    if (was_stuck && !self->is_stuck)
        fms_wake(self->kafka.host); /* more may be taken again */
}

/* The lane was woken for it, and holds up whoever emits meanwhile: not too often. */
static void look_for_reports(struct kafka_sink *self)
{
    int64_t now = self->reports_at != 0 ? fms_now(self->kafka.host) : 0;
    bool was_held = self->reports_at != 0 && self->may_hold;
    int count;

    if (now < self->reports_at)
        return;
    count = kafka_sink_fetch_reports(self);
    if (was_held && count > 0 && ++self->holds_in_vain >= HOLDS_MOST) /* one that waits for them does so in vain */
        self->hold_rests_until = now + HOLD_REST;
    self->reports_at = count > 0 && self->is_gathering ? fms_now(self->kafka.host) + REPORT_INTERVAL : 0;
}

/* A record came. Where they have been coming slowly and few are under way, no broker waits for one to be acknowledged: so its report may
 * wait for the next record, which wakes the lane anyway. */
static void look_after_a_record(struct kafka_sink *self)
{
    int64_t now = fms_now(self->kafka.host);

    if (now - self->wrote_at < CALM_GAP)
        self->calm /= 2;
    else if (self->unsettled > 0 && self->calm < CALM_MOST) /* else it was not taken */
        self->calm++;
    self->wrote_at = now;
    if (self->reports_at != 0 && kafka_sink_fetch_reports(self) > 0)
        self->holds_in_vain = 0;
    self->reports_at = self->calm >= CALM_LEAST && self->unsettled > 0 && now >= self->hold_rests_until ? now + HOLD
                                                                                                        : 0;
}

/* While a library's thread pours records in, reports are best fetched by it: the memory that they free is what it needs next,
 * and no other thread must be woken. */
static void look_after_writes(struct kafka_sink *self)
{
    int64_t now;

    self->writes++;
    if (self->unsettled <= HOLD_FEW && self->may_hold) {
        look_after_a_record(self);
        return;
    }
    self->calm = 0;
    if (self->may_hold)
        self->reports_at = 0;
    if (self->writes % WRITES_PER_LOOK != 0)
        return;
    now = fms_now(self->kafka.host);
    kafka_sink_fetch_reports(self);
    if (now - self->looked_at < REPORT_INTERVAL && self->is_gathering)
        self->reports_at = now + REPORT_BACKSTOP;
    self->looked_at = now;
}

/* Asks for topics and their limits, and lets go what waited for that. */
static void look_for_topics(struct kafka_sink *self, struct fms_wait *wait)
{
    if (self->has_written && !topics_is_busy(&self->topics) && self->writes % WRITES_PER_LOOK != 0) {
        if (wait->deadline > self->topics.round_at)
            wait->deadline = self->topics.round_at;
    } else if (topics_poll(&self->topics, wait)) {
        if (topics_batch_bytes(&self->topics) < self->producer.batch_bytes || must_let_brokers_create(self))
            must_renew(self);
        self->may_wait_no_longer = true;
        fms_wake(self->kafka.host);
    }
    if (self->may_wait_no_longer && may_write(self))
        write_waiting(self);
}

static void look_for_creation(struct kafka_sink *self, struct fms_wait *wait)
{
    bool is_asked = self->kafka.topics != NULL; /* else the next producer is to ask */

    if ((self->is_broken && !is_asked) || !kafka_created(&self->kafka, wait) || !self->must_create)
        return;
    self->must_create = false;
    self->must_learn = !self->is_broken && !self->kafka.is_mute; /* or it tells as little as it creates */
    if (!self->is_broken && must_let_brokers_create(self))       /* the next producer will, anyway */
        must_renew(self);
    topic_doubt(&self->topics, self->fixed);
    fms_wake(self->kafka.host);
}

/* Until when brokers may tell what the topic of all records takes: until they have told it, or have not though they answer. */
static int64_t learns_until(struct kafka_sink *self, int64_t now)
{
    int64_t since = kafka_answering_at(&self->kafka);

    if (self->fixed->want == WANT_NOTHING)
        return now;
    if (since == 0)
        return now + LEARN_TICK;
    return (since > self->fixed->asked_at ? since : self->fixed->asked_at) + LEARN_PATIENCE;
}

static void look_for_limits(struct kafka_sink *self, struct fms_wait *wait)
{
    int64_t now, until;

    if (!self->must_learn || self->must_create)
        return;
    now = fms_now(self->kafka.host);
    until = learns_until(self, now);
    self->must_learn = now < until;
    if (!self->must_learn)
        fms_wake(self->kafka.host);
    else if (wait->deadline > until)
        wait->deadline = until;
}

/* It is another process's to write, so nothing may be taken from the source any more either. */
static int be_fenced(struct kafka_sink *self)
{
    producer_stop(self);
    fms_link_down(self->kafka.host, "another process has taken over the transactional id %s", self->transactional_id);
    return fms_fail(
        self->kafka.host, -ENOTUNIQ,
        "another process has taken over the transactional id %s: nothing more is written from here, and what is not "
        "committed stays unacknowledged; stop one of the two, or give each a transactional_id of its own",
        self->transactional_id);
}

static int kafka_sink_poll(void *instance, struct fms_wait *wait)
{
    struct kafka_sink *self = instance;

    if (self->has_written)
        look_after_writes(self);
    else
        look_for_reports(self);
    if (self->reports_at == 0) {
        wait->fd = self->kafka.event_fd;
        wait->events = POLLIN;
    } else {
        wait->deadline = self->reports_at;
    }
    look_for_creation(self, wait);
    look_for_topics(self, wait);
    look_for_limits(self, wait);
    self->has_written = false;
    if (kafka_has_new_files(&self->kafka, wait) && kafka_renew(&self->kafka, RD_KAFKA_PRODUCER, producer_conf(self)))
        must_renew(self);
    if (self->kafka.is_fatal) {
        self->must_learn = false; /* a producer that may do nothing learns nothing: records show why */
        kafka_sink_give_up(self);
    }
    if (self->transactions != NULL)
        transactions_poll(self, wait);
    look_for_gathered(self, wait);
    if (self->is_broken)
        return producer_wind_up(self, wait);
    if (self->transactions != NULL && transactions_is_fenced(self))
        return be_fenced(self);
    return self->must_replace ? producer_renew(self, wait) : 0;
}

/* -------------------------------------------------------------------------------------------- check, open and close */

/* The topic when it depends on no record. */
static const char *find_fixed_topic(const struct kafka_sink *self, const struct fms_host *host)
{
    struct fms_bytes text;

    return fms_expand(host, self->topic, NULL, &text) == 0 ? text.data : NULL;
}

/* Where each message's time comes from; -1: from a word that is none of these. */
static int find_time(const struct kafka_sink *self, const struct fms_host *host)
{
    struct fms_bytes text;

    if (fms_expand(host, self->timestamp, NULL, &text) != 0)
        return TIMESTAMP_FIELD;
    if (strcmp(text.data, "now") == 0)
        return TIMESTAMP_NOW;
    return strcmp(text.data, "record") == 0 ? TIMESTAMP_RECORD : -1;
}

/* Whether a dead letter that has only what each has finds its topic. */
static int check_letter_topic(const struct kafka_sink *self, const struct fms_host *host)
{
    struct fms_bytes text;

    if (host->role != FMS_DEAD_LETTER || letter_finds(host, self->topic, &text))
        return 0;
    return fms_fail_option(
        host, "topic", -EINVAL,
        "lacks a default for what a dead letter may be without, so that some would have no topic: %s; write "
        "one, as in ${json:vehicle_id:-unknown}",
        (const char *)text.data);
}

static bool is_idempotent(struct kafka_sink *self, const struct fms_host *host)
{
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, host, RD_KAFKA_PRODUCER, no_settings);
    bool is = kafka_conf_is(conf, "enable.idempotence", "true") && kafka_conf_is(conf, "acks", "-1");

    rd_kafka_conf_destroy(conf);
    return is;
}

/* What transactions need. */
static int check_transactions(struct kafka_sink *self, const struct fms_host *host)
{
    const char *option = self->journal != NULL ? "journal" : "transactional_id", *reason;
    char topic[TOPIC_NAME_MOST + 2];

    if (self->transactional_id == NULL)
        return 0;
    fms_identify(host, true);
    snprintf(topic, sizeof topic, self->journal != NULL ? "%s" : "%s-journal",
             self->journal != NULL ? self->journal : self->transactional_id);
    reason = self->transactional_id[0] == '\0' ? "is empty" : topic_error(fms_text(topic));
    if (reason != NULL)
        return fms_fail_option(host, option, -EINVAL, "the journal's topic \"%s\" %s%s", topic, reason,
                               self->journal == NULL ? "; set journal, the name of a topic" : "");
    if (!is_idempotent(self, host))
        return fms_fail_option(host, "transactional_id", -EINVAL,
                               "needs the idempotent producer: leave out kafka.enable.idempotence and kafka.acks");
    return 0;
}

static int kafka_sink_check(void *instance, const struct fms_host *host)
{
    struct kafka_sink *self = instance;
    const char *topic = find_fixed_topic(self, host);
    const char *reason = topic != NULL ? topic_error(fms_text(topic)) : NULL;
    int error = kafka_check(&self->kafka, host, RD_KAFKA_PRODUCER);

    if (reason != NULL)
        error = fms_fail_option(host, "topic", -EINVAL, "\"%s\" %s", topic, reason);
    if (check_letter_topic(self, host) != 0 || check_transactions(self, host) != 0)
        error = -EINVAL;
    if (find_time(self, host) < 0)
        error = fms_fail_option(host, "timestamp", -EINVAL,
                                "is the same for all records, and neither now nor record; a field of the payload is "
                                "${json:NAME}");
    if (self->key == NULL && host->role == FMS_SINK)
        fms_advise(host, NULL,
                   "no key: unless the records carry one, those of a vehicle are spread over the partitions "
                   "and change places; set key, for example to ${json:vehicle_id}");
    if (self->transactional_id == NULL)
        fms_promise(host, NULL, FMS_AT_LEAST_ONCE,
                    "what was written when the process crashed is written again: set transactional_id");
    else
        fms_promise(host, "transactional_id", FMS_EXACTLY_ONCE,
                    "for records that have an identity, and readers of what is committed (isolation.level)");
    return error;
}

/* Whether what may be sent fits the topic; what may come and is not sent is told, too. */
static void probe_limits(struct kafka_sink *self, const struct fms_host *host, const char *topic, int64_t deadline)
{
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, host, RD_KAFKA_PRODUCER, no_settings);
    int64_t most = kafka_conf_number(conf, "message.max.bytes");
    const char *larger = host->role == FMS_DEAD_LETTER ? "larger dead letters lose their payload"
                                                       : "larger ones are rejected";
    bool is_client_s; /* the lower bound of what is sent */
    struct topic_limits limits;
    rd_kafka_resp_err_t error;
    size_t records, room;

    rd_kafka_conf_destroy(conf);
    fms_room(host, &records, &room);
    is_client_s = (size_t)most < room;
    most = is_client_s ? most : (int64_t)room;
    error = topics_probe(&self->kafka, topic, &limits, deadline);
    if (is_missing(error)) /* kafka_probe has said so */
        return;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        fms_report(host, "topic %s: its max.message.bytes can't be read: %s", topic, rd_kafka_err2str(error));
    else if (limits.size < LETTER_LEAST && host->role == FMS_DEAD_LETTER)
        fms_report(
            host,
            "topic %s takes messages of at most %lld bytes, and what is left of a dead letter may have %d: one that "
            "does not fit is lost or stops the pipeline (on_reject); raise the topic's max.message.bytes",
            topic, (long long)limits.size, LETTER_LEAST);
    else if (limits.size >= most)
        fms_report(host, "topic %s takes all that is sent: its max.message.bytes is %lld, and %s allows %lld%s%s",
                   topic, (long long)limits.size, is_client_s ? "kafka.message.max.bytes" : "max_in_flight_bytes",
                   (long long)most, is_client_s ? "; " : "", is_client_s ? larger : "");
    else
        fms_report(host,
                   "topic %s takes messages of at most %lld bytes, and up to %lld may come (max_in_flight_bytes, "
                   "kafka.message.max.bytes): %s; raise the topic's max.message.bytes",
                   topic, (long long)limits.size, (long long)most, larger);
}

static int kafka_sink_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct kafka_sink *self = instance;
    const char *topic = find_fixed_topic(self, host);
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, host, RD_KAFKA_PRODUCER, no_settings);
    int error = kafka_probe(&self->kafka, RD_KAFKA_PRODUCER, conf, &topic, topic != NULL, deadline);

    if (error != 0)
        return error;
    if (topic != NULL)
        probe_limits(self, host, topic, deadline);
    kafka_stop(&self->kafka, 0);
    return 0;
}

static int open_topics(struct kafka_sink *self, const struct fms_host *host)
{
    const char *topic = find_fixed_topic(self, host);
    int error = topics_open(&self->topics, &self->kafka, self->topics_max);

    if (error != 0 || topic == NULL)
        return error;
    self->fixed_topic = strdup(topic);
    self->fixed = topics_fix(&self->topics, topic);
    if (self->fixed_topic == NULL || self->fixed == NULL)
        return -ENOMEM;
    self->must_create = self->kafka.create_topic;
    self->may_be_new = self->must_create;
    self->must_learn = true;
    if (!self->must_create)
        topic_doubt(&self->topics, self->fixed);
    return 0;
}

static void release(struct kafka_sink *self)
{
    transactions_close(self);
    topics_close(&self->topics);
    kafka_release(&self->kafka);
    compression_free(&self->compression);
    free(self->gather.records);
    free(self->waiting);
    free(self->refused);
    free(self->fixed_topic);
}

static int kafka_sink_open(void *instance, const struct fms_host *host)
{
    struct kafka_sink *self = instance;
    int error = kafka_prepare(&self->kafka, host);

    if (error != 0)
        return error;
    self->time_from = (enum timestamp)find_time(self, host);
    self->adds_nothing = self->headers.count == 0 && self->time_from == TIMESTAMP_NOW;
    self->is_gathering = self->kafka.profile == KAFKA_THROUGHPUT;
    self->may_gather = self->is_gathering && self->transactional_id == NULL &&
                       !kafka_sink_is_configured(self, "linger.ms") &&
                       !kafka_sink_is_configured(self, "queue.buffering.max.ms");
    if (self->is_gathering && !kafka_sink_is_configured(self, "compression.codec") &&
        !kafka_sink_is_configured(self, "compression.type"))
        compression_begin(&self->compression);
    self->may_hold = !self->may_gather && self->transactional_id == NULL;
    error = open_topics(self, host);
    if (error == 0 && self->transactional_id != NULL)
        error = transactions_open(self);
    if (error == 0)
        error = producer_start(self);
    if (error == 0)
        return 0;
    if (self->transactions != NULL)
        transactions_stop(self);
    release(self);
    return error;
}

static void kafka_sink_close(void *instance)
{
    struct kafka_sink *self = instance;

    self->is_closing = true;
    if (self->transactions != NULL)
        transactions_stop(self);
    if (self->kafka.rk != NULL)
        producer_stop(self);
    release(self);
}

static void kafka_sink_measure(void *instance)
{
    struct kafka_sink *self = instance;

    kafka_measure(&self->kafka);
    if (self->transactions != NULL)
        transactions_measure(self);
}

FMS_PLUGIN(.name = "kafka_sink", .version = FMS_VERSION, .summary = "Produces records to Kafka",
           .options = kafka_sink_options, .counters = kafka_sink_counters, .gauges = kafka_sink_gauges,
           .durations = kafka_sink_durations, .instance_size = sizeof(struct kafka_sink), .check = kafka_sink_check,
           .probe = kafka_sink_probe, .open = kafka_sink_open, .close = kafka_sink_close,
           .sink_write = kafka_sink_write, .sink_poll = kafka_sink_poll, .traits = FMS_TRAIT_LINK,
           .measure = kafka_sink_measure);
