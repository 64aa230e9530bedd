/* message.c - makes messages of records, and knows which of them their topics would refuse. */
#include <errno.h>
#include <stdio.h>

#include "../json_common/instant.h"
#include "kafka_sink.h"

#define CLOCK_MARGIN 60000 /* milliseconds by which brokers' clocks may differ from ours */

/* ---------------------------------------------------------------------------------------------- size of a message */

/* Of a length, as a zigzag varint. */
static size_t length_size(size_t length)
{
    size_t size = 1;

    for (uint64_t rest = (uint64_t)length << 1; rest > 127; rest >>= 7)
        size++;
    return size;
}

static size_t bytes_size(const void *data, size_t size)
{
    return data == NULL ? 1 : length_size(size) + size;
}

size_t message_size(const struct message *message)
{
    size_t count = message->headers == NULL ? 0 : rd_kafka_header_cnt(message->headers), size, value_size;
    const void *value;
    const char *name;

    size = 3 /* attributes, and differences of time and offset to the batch's */ +
           bytes_size(message->key.data, message->key.size) + bytes_size(message->payload.data, message->payload.size) +
           length_size(count);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_header_get_all(message->headers, i, &name, &value, &value_size);
        size += bytes_size(name, strlen(name)) + bytes_size(value, value_size);
    }
    return BATCH_OVERHEAD + length_size(size) + size;
}

/* ---------------------------------------------------------------------------------------------------------- messages */

/* Without headers and time a message costs half as much. */
static bool is_plain(const struct kafka_sink *self, const struct message *message)
{
    return message->record->header_count == 0 && self->adds_nothing && message->letter == LETTER_WHOLE;
}

static bool is_overridden(const struct kafka_sink *self, const char *header)
{
    for (size_t i = 0; i < self->headers.count; i++) {
        if (strcmp(self->headers.items[i].name, header) == 0)
            return true;
    }
    return false;
}

/* A dead letter goes without what is missing, for there is no other place for it. */
bool message_lacks(struct kafka_sink *self, const char *option, const struct fms_record *record, int error,
                   struct fms_bytes *value)
{
    if (error != -ENOENT) {
        self->returned++;
        fms_retry(self->kafka.host, record, "%s: no memory", option);
        kafka_sink_give_up(self);
        return false;
    }
    if (is_letter(self)) {
        *value = fms_bytes_of(NULL, 0);
        return true;
    }
    fms_reject(self->kafka.host, record, "%s: %s", option, (const char *)value->data);
    return false;
}

static void add_header(rd_kafka_headers_t *headers, const char *name, struct fms_bytes value)
{
    rd_kafka_header_add(headers, name, -1, value.data, (ssize_t)value.size);
}

/* False: the record was settled. */
static bool add_own_headers(struct kafka_sink *self, struct message *message)
{
    for (size_t i = 0; i < self->headers.count; i++) {
        const struct fms_pair *pair = &self->headers.items[i];
        struct fms_bytes value;

        if (!message_expand(self, pair->option, pair->text, message->record, &value)) {
            rd_kafka_headers_destroy(message->headers);
            return false;
        }
        add_header(message->headers, pair->name, value);
    }
    return true;
}

/* Whether a header of the record is sent with what is left of a dead letter. */
static bool is_left(const struct kafka_sink *self, const char *name, enum letter letter)
{
    if (letter == LETTER_WITHOUT_PAYLOAD)
        return !is_overridden(self, name) && strcmp(name, "fms.payload") != 0;
    return letter_header(name) < LETTER_HEADERS;
}

static void add_headers_left(struct kafka_sink *self, struct message *message)
{
    const struct fms_record *record = message->record;
    char text[128];

    for (size_t i = 0; i < record->header_count; i++) {
        struct fms_bytes value = record->headers[i].value;

        if (!is_left(self, record->headers[i].name, message->letter))
            continue;
        if (message->letter == LETTER_CUT && value.size > LETTER_SHORT)
            value.size = LETTER_SHORT;
        add_header(message->headers, record->headers[i].name, value);
    }
    if (record->payload.size == 0) /* the host has not kept it, or there was none */
        return;
    snprintf(text, sizeof text, "dropped, %zu bytes%s: the letter was larger than its topic takes",
             record->payload.size, message->letter == LETTER_WITHOUT_PAYLOAD ? "" : ", with the key and other headers");
    add_header(message->headers, "fms.payload", fms_text(text));
}

/* False: the record was settled. */
static bool make_headers(struct kafka_sink *self, struct message *message)
{
    const struct fms_record *record = message->record;

    message->headers = rd_kafka_headers_new(record->header_count + self->headers.count + 1);
    if (message->letter != LETTER_WHOLE) {
        add_headers_left(self, message);
        return message->letter != LETTER_WITHOUT_PAYLOAD || add_own_headers(self, message);
    }
    for (size_t i = 0; i < record->header_count; i++) {
        if (!is_overridden(self, record->headers[i].name))
            add_header(message->headers, record->headers[i].name, record->headers[i].value);
    }
    return add_own_headers(self, message);
}

/* The time that a text says, in milliseconds. False: it says none that Kafka can keep. */
static bool read_time(struct fms_bytes text, int64_t *time)
{
    char why[INSTANT_WHY];
    struct decimal number;
    struct instant instant;

    if (decimal_read(&number, text)) {
        if (instant_of_number(&instant, &number) == INSTANT_NO_UNIT)
            return false;
    } else if (!instant_of_text(&instant, text, why)) {
        return false;
    }
    *time = instant.seconds * 1000 + instant.nanoseconds / (int64_t)FMS_MS;
    return *time > 0;
}

static int64_t time_of(struct kafka_sink *self, const struct fms_record *record)
{
    int64_t time = record->timestamp > 0 ? record->timestamp / FMS_MS : 0, said;
    struct fms_bytes text;

    if (self->time_from == TIMESTAMP_NOW)
        return 0;
    if (self->time_from == TIMESTAMP_RECORD && record->timestamp >= 0)
        return time;
    if (self->time_from == TIMESTAMP_FIELD && fms_expand(self->kafka.host, self->timestamp, record, &text) == 0 &&
        read_time(text, &said))
        return said;
    fms_count(self->kafka.host, COUNTER_UNTIMELY, 1);
    return time;
}

/* By how many milliseconds a message's time lies beyond what its topic takes, for certain; below 0: before it. */
static int64_t time_beyond(const struct kafka_sink *self, const struct message *message)
{
    const struct topic_limits *limits = &message->topic->limits;
    int64_t ahead;

    if (message->time == 0 || (limits->before == NO_LIMIT && limits->after == NO_LIMIT))
        return 0;
    ahead = message->time - fms_realtime(self->kafka.host) / FMS_MS;
    if (limits->after < NO_LIMIT - CLOCK_MARGIN && ahead > limits->after + CLOCK_MARGIN)
        return ahead - limits->after;
    if (limits->before < NO_LIMIT - CLOCK_MARGIN && -ahead > limits->before + CLOCK_MARGIN)
        return ahead + limits->before;
    return 0;
}

bool message_make(struct kafka_sink *self, const struct fms_record *record, struct topic *topic, enum letter letter,
                  struct message *message)
{
    *message = (struct message){record, topic, letter, record->key, record->payload, NULL, 0};
    if (letter != LETTER_WHOLE)
        message->payload = fms_bytes_of(NULL, 0);
    if (letter >= LETTER_OF_THE_HOST)
        message->key = fms_bytes_of(NULL, 0);
    else if (self->key != NULL && !message_expand(self, "key", self->key, record, &message->key))
        return false;
    if (is_letter(self) && message->key.data == NULL && (topic->limits.needs_key || letter == LETTER_CUT))
        message->key = fms_text("");
    if (is_plain(self, message))
        return true;
    message->time = letter == LETTER_CUT ? 0 : time_of(self, record);
    if (is_letter(self) && time_beyond(self, message) != 0)
        message->time = 0;
    return make_headers(self, message);
}

/* ---------------------------------------------------------------------------------- what a topic certainly refuses */

bool message_must_go_alone(const struct kafka_sink *self, const struct message *message)
{
    return message->topic->is_wary && self->producer.is_compressed &&
           message_size(message) > (size_t)message->topic->limits.size;
}

/* What compresses may be smaller than it seems. */
static bool is_too_large(const struct kafka_sink *self, const struct message *message)
{
    return message->topic->limits.size != NO_LIMIT && !self->producer.is_compressed &&
           message_size(message) > (size_t)message->topic->limits.size;
}

rd_kafka_resp_err_t message_foresee(const struct kafka_sink *self, const struct message *message, char *why,
                                    size_t size)
{
    const struct topic_limits *limits = &message->topic->limits;
    int64_t beyond;

    if (is_too_large(self, message)) {
        snprintf(why, size, "too large: %zu bytes; the topic's max.message.bytes is %lld", message_size(message),
                 (long long)limits->size);
        return RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    }
    if (limits->needs_key && message->key.data == NULL && !is_letter(self)) {
        snprintf(why, size, "no key; the topic is compacted, and so needs one");
        return RD_KAFKA_RESP_ERR_INVALID_RECORD;
    }
    beyond = time_beyond(self, message);
    if (beyond != 0) {
        snprintf(why, size, "its time is %lld ms %s what the topic's message.timestamp.%s.max.ms allows",
                 (long long)(beyond < 0 ? -beyond : beyond), beyond < 0 ? "before" : "after",
                 beyond < 0 ? "before" : "after");
        return RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}
