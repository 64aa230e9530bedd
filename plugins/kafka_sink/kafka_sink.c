/* kafka_sink - produces records to Kafka.
 *
 * Delivered means that the delivery report says so: the brokers that acks = all asks for have the record. The payload
 * is not copied; it stays the host's, who keeps a record until it is settled.
 *
 * Order: the idempotent producer never lets a record overtake another that it sends again itself. A record that it
 * gives up for good makes it fail as a whole (enable.gapless.guarantee), so that nothing behind that record gets
 * through. Then, and whenever a record is to be offered again, everything that is still under way is handed back, and a
 * new producer begins where the host offers again. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "../kafka_common/kafka_common.h"

#define TOPICS_MAX      10000            /* handles; then they are all forgotten */
#define FLIGHT_PATIENCE (5 * FMS_SECOND) /* for the reports of what was sent before a producer is given up */
#define PURGE_INTERVAL  (50 * FMS_MS)
#define RESTART_MIN     (100 * FMS_MS) /* between producers while none of them gets a record through */
#define RESTART_MAX     (5 * FMS_SECOND)

#define WRITES_PER_LOOK 32u          /* whoever writes looks for reports after so many writes */
#define REPORT_INTERVAL FMS_MS       /* profile = throughput: how soon after reports the lane looks for more */
#define REPORT_BACKSTOP (5 * FMS_MS) /* the same while whoever writes looks within the interval */

enum timestamp { TIMESTAMP_NOW, TIMESTAMP_RECORD };

struct kafka_sink {
    struct kafka kafka; /* first: librdkafka's opaque */
    const struct fms_template *topic, *key;
    struct fms_pairs headers;
    int timestamp; /* enum timestamp */

    char *fixed_topic;         /* when the template depends on no record; else NULL */
    bool must_create;          /* whether it is there was not decided yet */
    rd_kafka_topic_t **topics; /* handles, by name */
    size_t topic_count, topic_capacity;
    rd_kafka_topic_t *last_topic;

    size_t unsettled; /* taken, and not yet reported */
    bool is_broken;   /* this producer takes nothing more, and goes when its last record is reported */
    bool is_closing;
    bool has_written; /* since the last poll: that one follows each write */
    unsigned writes;
    int64_t looked_at;  /* after a write */
    int64_t reports_at; /* when the lane looks for reports; 0: when the descriptor says that there are some */
    int64_t broken_at;
    size_t returned;    /* records to be offered again since it broke */
    bool is_accused;    /* one of them shared a batch with a record that a broker refused */
    size_t suspects;    /* so many are sent one by one, to find out which it was */
    unsigned restarts;  /* since a record's fate was last decided */
    int64_t restart_at; /* no new producer before */
};

enum { COUNTER_RESTARTS };

static const struct fms_option kafka_sink_options[] = {
    FMS_OPT_TEMPLATE(struct kafka_sink, topic, FMS_REQUIRED, "topic to produce to"),
    FMS_OPT_TEMPLATE(struct kafka_sink, key, NULL, "key of each message; without it the record's own, if it has one"),
    FMS_OPT_TEMPLATE_PAIRS(struct kafka_sink, headers, "header.",
                           "a header of each message, beside the record's own; of one name, this one"),
    FMS_OPT_CHOICE(struct kafka_sink, timestamp, "now", "now|record",
                   "time of each message: when it is produced, or the record's"),
    KAFKA_OPTIONS(struct kafka_sink),
    FMS_OPT_END,
};

static const struct fms_counter kafka_sink_counters[] = {
    {"producer_restarts", "producers given up after an error, with what was under way offered again"},
    {NULL, NULL},
};

/* ----------------------------------------------------------------------------------------------------------- topics */

static int topic_compare(rd_kafka_topic_t *handle, struct fms_bytes name)
{
    const char *own = rd_kafka_topic_name(handle);
    size_t size = strlen(own);
    int order = memcmp(own, name.data, size < name.size ? size : name.size);

    return order != 0 ? order : (size > name.size) - (size < name.size);
}

/* The place of the first handle whose name is not before `name`. */
static size_t topic_place(const struct kafka_sink *self, struct fms_bytes name)
{
    size_t low = 0, high = self->topic_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (topic_compare(self->topics[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void topics_forget(struct kafka_sink *self)
{
    for (size_t i = 0; i < self->topic_count; i++)
        rd_kafka_topic_destroy(self->topics[i]);
    self->topic_count = 0;
    self->last_topic = NULL;
}

static rd_kafka_topic_t *topic_add(struct kafka_sink *self, struct fms_bytes name)
{
    rd_kafka_topic_t *handle;
    size_t place;

    if (self->topic_count == self->topic_capacity) {
        size_t capacity = self->topic_capacity == 0 ? 16 : 2 * self->topic_capacity;
        rd_kafka_topic_t **topics = realloc(self->topics, capacity * sizeof(*topics));

        if (topics == NULL)
            return NULL;
        self->topics = topics;
        self->topic_capacity = capacity;
    }
    if (self->topic_count == TOPICS_MAX)
        topics_forget(self);
    handle = rd_kafka_topic_new(self->kafka.rk, name.data, NULL);
    if (handle == NULL)
        return NULL;
    place = topic_place(self, name);
    memmove(&self->topics[place + 1], &self->topics[place], (self->topic_count++ - place) * sizeof(*self->topics));
    return self->topics[place] = handle;
}

/* One handle a topic is kept: producing by name can hold back the first message for up to a second. */
static rd_kafka_topic_t *topic_find(struct kafka_sink *self, struct fms_bytes name)
{
    size_t place;

    if (self->last_topic != NULL && topic_compare(self->last_topic, name) == 0)
        return self->last_topic;
    place = topic_place(self, name);
    if (place < self->topic_count && topic_compare(self->topics[place], name) == 0)
        self->last_topic = self->topics[place];
    else
        self->last_topic = topic_add(self, name);
    return self->last_topic;
}

/* ------------------------------------------------------------------------------------------------------------ fates */

/* A record's fate is decided: the next new producer, if one is needed, need not wait. */
static void note_progress(struct kafka_sink *self)
{
    self->restarts = 0;
    self->restart_at = 0;
}

/* What is under way comes back, is offered again in order, and meets a new producer. */
static void give_up_producer(struct kafka_sink *self)
{
    if (self->is_broken)
        return;
    self->is_broken = true;
    self->broken_at = fms_now(self->kafka.host);
}

/* A refusal of a whole batch: which of its records it is about is known only when each is sent alone. */
static bool is_batch_refusal(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
        return true;
    default:
        return false;
    }
}

/* A refusal of the topic: final only where the record itself chose it. */
static bool is_topic_refusal(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return true;
    default:
        return false;
    }
}

static void settle_refused(struct kafka_sink *self, const struct fms_record *record, rd_kafka_resp_err_t error,
                           const char *topic, bool was_alone)
{
    const struct fms_host *host = self->kafka.host;
    const char *text = rd_kafka_err2str(error);

    if ((is_batch_refusal(error) && was_alone) || (is_topic_refusal(error) && self->fixed_topic == NULL)) {
        note_progress(self);
        fms_reject(host, record, "topic %s: %s", topic, text);
        return;
    }
    self->returned++;
    self->is_accused = self->is_accused || is_batch_refusal(error);
    fms_retry(host, record, "topic %s: %s", topic, text);
    give_up_producer(self);
}

/* A delivery report. [lane], within rd_kafka_poll */
static void reported(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_sink *self = opaque;
    const struct fms_record *record = message->_private;
    bool was_alone = self->suspects > 0;

    (void)rk;
    self->unsettled--;
    if (self->is_closing)
        return;
    if (was_alone)
        self->suspects--;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_reached(&self->kafka);
        note_progress(self);
        fms_delivered(self->kafka.host, record);
        return;
    }
    settle_refused(self, record, message->err, rd_kafka_topic_name(message->rkt), was_alone);
}

/* --------------------------------------------------------------------------------------------------------- producer */

static const struct kafka_setting no_settings[] = {{NULL, NULL}};

static rd_kafka_conf_t *producer_conf(struct kafka_sink *self)
{
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, self->kafka.host, RD_KAFKA_PRODUCER, no_settings);

    if (kafka_conf_is(conf, "enable.idempotence", "true"))
        rd_kafka_conf_set(conf, "enable.gapless.guarantee", "true", NULL, 0);
    rd_kafka_conf_set_dr_msg_cb(conf, reported);
    return conf;
}

static int producer_start(struct kafka_sink *self)
{
    rd_kafka_queue_t *queue;
    int error = kafka_start(&self->kafka, RD_KAFKA_PRODUCER, producer_conf(self));

    if (error != 0)
        return error;
    queue = rd_kafka_queue_get_main(self->kafka.rk);
    kafka_watch(&self->kafka, queue);
    rd_kafka_queue_destroy(queue);
    if (self->must_create)
        kafka_create(&self->kafka, (const char *const *)&self->fixed_topic, 1);
    return 0;
}

static void producer_stop(struct kafka_sink *self)
{
    rd_kafka_purge(self->kafka.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    topics_forget(self);
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
    self->suspects = self->is_accused ? self->returned : self->suspects;
    self->is_accused = false;
    self->returned = 0;
    self->is_broken = false;
    return producer_start(self);
}

/* Fetches the reports of a broken producer. What it holds in its queue comes back at once; what was sent has some time,
 * for its report may be good. */
static int producer_wind_up(struct kafka_sink *self, struct fms_wait *wait)
{
    int flags = RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING;
    int64_t now = fms_now(self->kafka.host);

    if (self->unsettled > 0) {
        if (now - self->broken_at > FLIGHT_PATIENCE)
            flags |= RD_KAFKA_PURGE_F_INFLIGHT;
        rd_kafka_purge(self->kafka.rk, flags);
        rd_kafka_poll(self->kafka.rk, 0);
    }
    if (self->unsettled > 0) {
        wait->deadline = now + PURGE_INTERVAL;
        return 0;
    }
    if (now < self->restart_at) {
        if (wait->deadline > self->restart_at)
            wait->deadline = self->restart_at;
        return 0;
    }
    fms_wake(self->kafka.host);
    return producer_replace(self);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

/* A message on its way to librdkafka. */
struct message {
    const struct fms_record *record;
    rd_kafka_topic_t *topic;
    struct fms_bytes key;
    rd_kafka_headers_t *headers; /* NULL: to be sent plain */
};

/* Without headers and time a message costs half as much. */
static bool is_plain(const struct kafka_sink *self, const struct fms_record *record)
{
    return record->header_count == 0 && self->headers.count == 0 && self->timestamp == TIMESTAMP_NOW;
}

static bool is_overridden(const struct kafka_sink *self, const char *header)
{
    for (size_t i = 0; i < self->headers.count; i++) {
        if (strcmp(self->headers.items[i].name, header) == 0)
            return true;
    }
    return false;
}

/* False: the record was settled. */
static bool expand(struct kafka_sink *self, const char *option, const struct fms_template *text,
                   const struct fms_record *record, struct fms_bytes *value)
{
    switch (fms_expand(self->kafka.host, text, record, value)) {
    case 0:
        return true;
    case -ENOENT:
        fms_reject(self->kafka.host, record, "%s: %s", option, (const char *)value->data);
        return false;
    default:
        self->returned++;
        fms_retry(self->kafka.host, record, "%s: no memory", option);
        give_up_producer(self);
        return false;
    }
}

/* False: the record was settled. */
static bool make_headers(struct kafka_sink *self, const struct fms_record *record, rd_kafka_headers_t **headers)
{
    *headers = rd_kafka_headers_new(record->header_count + self->headers.count);
    for (size_t i = 0; i < record->header_count; i++) {
        const struct fms_header *header = &record->headers[i];

        if (!is_overridden(self, header->name))
            rd_kafka_header_add(*headers, header->name, -1, header->value.data, (ssize_t)header->value.size);
    }
    for (size_t i = 0; i < self->headers.count; i++) {
        const struct fms_pair *pair = &self->headers.items[i];
        struct fms_bytes value;

        if (!expand(self, pair->option, pair->text, record, &value)) {
            rd_kafka_headers_destroy(*headers);
            return false;
        }
        rd_kafka_header_add(*headers, pair->name, -1, value.data, (ssize_t)value.size);
    }
    return true;
}

/* False: the record was settled. */
static bool choose_topic(struct kafka_sink *self, const struct fms_record *record, rd_kafka_topic_t **topic)
{
    struct fms_bytes name = fms_text(self->fixed_topic);
    const char *error = NULL;

    if (self->fixed_topic == NULL) {
        if (!expand(self, "topic", self->topic, record, &name))
            return false;
        error = kafka_topic_error(name.data, name.size);
    }
    if (error != NULL) {
        fms_reject(self->kafka.host, record, "topic: \"%.*s\" %s", (int)(name.size < 80 ? name.size : 80),
                   (const char *)name.data, error);
        return false;
    }
    *topic = topic_find(self, name);
    if (*topic == NULL) {
        settle_refused(self, record, rd_kafka_last_error(), name.data, true);
        return false;
    }
    return true;
}

/* False: the record was settled. */
static bool make_message(struct kafka_sink *self, const struct fms_record *record, struct message *message)
{
    message->record = record;
    message->key = record->key;
    message->headers = NULL;
    return (self->key == NULL || expand(self, "key", self->key, record, &message->key)) &&
           choose_topic(self, record, &message->topic) &&
           (is_plain(self, record) || make_headers(self, record, &message->headers));
}

static rd_kafka_resp_err_t produce_plain(const struct message *message)
{
    const struct fms_record *record = message->record;

    if (rd_kafka_produce(message->topic, RD_KAFKA_PARTITION_UA, 0, (void *)(uintptr_t)record->payload.data,
                         record->payload.size, message->key.data, message->key.size, (void *)(uintptr_t)record) == 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    return rd_kafka_last_error();
}

static rd_kafka_resp_err_t produce_full(struct kafka_sink *self, const struct message *message)
{
    const struct fms_record *record = message->record;
    rd_kafka_vu_t arguments[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = message->topic},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)record->payload.data, record->payload.size}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)message->key.data, message->key.size}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)(uintptr_t)record},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = message->headers},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP,
         .u.i64 = self->timestamp == TIMESTAMP_RECORD ? record->timestamp / FMS_MS : 0 /* now */},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(self->kafka.rk, arguments, sizeof arguments / sizeof arguments[0]);
    rd_kafka_resp_err_t code;

    if (error == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(message->headers);
    return code;
}

/* What librdkafka did not take. False: it stays with the host. */
static bool settle_unproduced(struct kafka_sink *self, const struct message *message, rd_kafka_resp_err_t error)
{
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL && self->unsettled > 0)
        return false;
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        give_up_producer(self);
        return false;
    }
    settle_refused(self, message->record, error, rd_kafka_topic_name(message->topic), true);
    return true;
}

/* Whether the record was taken. */
static bool write_one(struct kafka_sink *self, const struct fms_record *record)
{
    rd_kafka_resp_err_t error;
    struct message message;

    if (!make_message(self, record, &message))
        return true;
    error = message.headers == NULL ? produce_plain(&message) : produce_full(self, &message);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return settle_unproduced(self, &message, error);
    self->unsettled++;
    return true;
}

static bool may_write(const struct kafka_sink *self)
{
    return !self->is_broken && !self->must_create && (self->suspects == 0 || self->unsettled == 0);
}

static int kafka_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct kafka_sink *self = instance;
    size_t n = 0;

    self->has_written = true;
    while (n < count && may_write(self) && write_one(self, records[n]))
        n++;
    return (int)n;
}

/* How many. */
static int fetch_reports(struct kafka_sink *self)
{
    int count = 0, more;

    kafka_awake(&self->kafka);
    while ((more = rd_kafka_poll(self->kafka.rk, 0)) > 0)
        count += more;
    return count;
}

/* The lane was woken for it, and holds up whoever emits meanwhile: not too often. */
static void look_for_reports(struct kafka_sink *self)
{
    if (self->reports_at != 0 && fms_now(self->kafka.host) < self->reports_at)
        return;
    self->reports_at = fetch_reports(self) > 0 && self->kafka.profile == KAFKA_THROUGHPUT
                           ? fms_now(self->kafka.host) + REPORT_INTERVAL
                           : 0;
}

/* While a library's thread pours records in, reports are best fetched by it: the memory that they free is what it needs next,
 * and no other thread must be woken. */
static void look_after_writes(struct kafka_sink *self)
{
    int64_t now;

    if (++self->writes % WRITES_PER_LOOK != 0)
        return;
    now = fms_now(self->kafka.host);
    fetch_reports(self);
    if (now - self->looked_at < REPORT_INTERVAL && self->kafka.profile == KAFKA_THROUGHPUT)
        self->reports_at = now + REPORT_BACKSTOP;
    self->looked_at = now;
}

static int kafka_sink_poll(void *instance, struct fms_wait *wait)
{
    struct kafka_sink *self = instance;

    if (self->has_written)
        look_after_writes(self);
    else
        look_for_reports(self);
    self->has_written = false;
    if (self->reports_at == 0) {
        wait->fd = self->kafka.event_fd;
        wait->events = POLLIN;
    } else {
        wait->deadline = self->reports_at;
    }
    if (kafka_created(&self->kafka, wait) && self->must_create) {
        self->must_create = false;
        fms_wake(self->kafka.host);
    }
    if (self->kafka.is_fatal || (!self->is_broken && kafka_has_new_files(&self->kafka, wait) &&
                                 kafka_renew(&self->kafka, RD_KAFKA_PRODUCER, producer_conf(self))))
        give_up_producer(self);
    return self->is_broken ? producer_wind_up(self, wait) : 0;
}

/* -------------------------------------------------------------------------------------------- check, open and close */

/* The topic when it depends on no record. */
static const char *find_fixed_topic(const struct kafka_sink *self, const struct fms_host *host)
{
    struct fms_bytes text;

    return fms_expand(host, self->topic, NULL, &text) == 0 ? text.data : NULL;
}

static int kafka_sink_check(void *instance, const struct fms_host *host)
{
    struct kafka_sink *self = instance;
    const char *topic = find_fixed_topic(self, host);
    const char *reason = topic != NULL ? kafka_topic_error(topic, strlen(topic)) : NULL;
    int error = kafka_check(&self->kafka, host, RD_KAFKA_PRODUCER);

    if (reason != NULL)
        error = fms_fail_option(host, "topic", -EINVAL, "\"%s\" %s", topic, reason);
    if (self->key == NULL && host->role == FMS_SINK)
        fms_advise(host, NULL,
                   "no key: unless the records carry one, those of a vehicle are spread over the partitions "
                   "and change places; set key, for example to ${json:vehicle_id}");
    return error;
}

static int kafka_sink_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct kafka_sink *self = instance;
    const char *topic = find_fixed_topic(self, host);
    rd_kafka_conf_t *conf = kafka_conf(&self->kafka, host, RD_KAFKA_PRODUCER, no_settings);
    int error = kafka_probe(&self->kafka, RD_KAFKA_PRODUCER, conf, &topic, topic != NULL, deadline);

    if (error == 0)
        kafka_stop(&self->kafka, 0);
    return error;
}

static int kafka_sink_open(void *instance, const struct fms_host *host)
{
    struct kafka_sink *self = instance;
    int error = kafka_prepare(&self->kafka, host);
    const char *topic;

    if (error != 0)
        return error;
    topic = find_fixed_topic(self, host);
    self->fixed_topic = topic != NULL ? strdup(topic) : NULL;
    self->must_create = self->fixed_topic != NULL && self->kafka.create_topic;
    error = producer_start(self);
    if (error != 0) {
        kafka_release(&self->kafka);
        free(self->fixed_topic);
    }
    return error;
}

static void kafka_sink_close(void *instance)
{
    struct kafka_sink *self = instance;

    self->is_closing = true;
    if (self->kafka.rk != NULL)
        producer_stop(self);
    kafka_release(&self->kafka);
    free(self->topics);
    free(self->fixed_topic);
}

FMS_PLUGIN(.name = "kafka_sink", .version = FMS_VERSION, .summary = "Produces records to Kafka",
           .options = kafka_sink_options, .counters = kafka_sink_counters, .instance_size = sizeof(struct kafka_sink),
           .check = kafka_sink_check, .probe = kafka_sink_probe, .open = kafka_sink_open, .close = kafka_sink_close,
           .sink_write = kafka_sink_write, .sink_poll = kafka_sink_poll);
