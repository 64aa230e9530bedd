/* mqtt_sink - publishes records to an MQTT broker.
 *
 * Delivered means confirmed: PUBACK at QoS 1, PUBCOMP at QoS 2, written to the socket at QoS 0. The records wait in a
 * window of our own, a ring that the lane fills, the link's thread sends from, and paho's callbacks settle; paho's own
 * buffers scan lists and stall. When the connection breaks, paho's client is thrown away with all that it had under
 * way, and what the ring still holds is published again in emit order: nothing is lost or overtaken, but what the
 * broker had and could not confirm comes twice, at QoS 2 too. A record for which the broker hangs up each time is found
 * by sending one at a time. A dead letter gets through in some form: see letter_text.h. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mqtt_common/mqtt_identity.h"
#include "../mqtt_common/mqtt_link.h"
#include "letter_text.h"

#define ONLINE_PATIENCE   (10 * FMS_SECOND)
#define FAREWELL_PATIENCE (2 * FMS_SECOND)

/* More than a socket takes would wait in paho's queue, which it does not free together with the client. */
#define UNCONFIRMED_BYTES (64 * 1024)

/* When a record is to blame, and not the broker or the network. */
#define FRUITLESS_MAX  2  /* connections in a row that confirmed nothing; then records go out one by one */
#define LOSSES_MAX     3  /* connections that a record has cost alone */
#define REFUSALS_MAX   5  /* times in a row that a record was refused, while the broker took others */
#define REFUSALS_ALONE 20 /* or whatever it did */
#define TOPICS_KNOWN   32 /* of each kind that is remembered */

#define TOPIC_SPARE    1024                           /* bytes that a place may have more than it needs */
#define OWN_PROPERTIES (6 + MQTT_IDENTITY_PROPERTIES) /* that a message can have beside those of its headers */

enum place_state { PLACE_DONE, PLACE_WAITING, PLACE_SENT, PLACE_REFUSED };

/* A place in the ring. */
struct place {
    struct mqtt_sink *sink;
    const struct fms_record *record;
    char *topic; /* buffer that stays with the place */
    size_t topic_room;
    bool is_last_resort; /* a dead letter, and the topic is self->last_topic */
    enum place_state state;
    int code;        /* that the broker refused it with */
    bool is_ours;    /* the refusal: it was not sent */
    unsigned losses; /* connections that it has cost alone */
};

/* The last topics of a kind, by their hashes, with the broker's code: what becomes of one more record shall not take as long to
 * find out. */
struct topics {
    uint64_t hashes[TOPICS_KNOWN];
    unsigned count; /* ever */
};

struct mqtt_sink {
    struct mqtt_options mqtt;
    const struct fms_template *topic;
    bool retain, forward_retained;
    int64_t window;
    int64_t max_message_size;
    int64_t ack_timeout;
    bool identity;
    const char *will_topic, *will_payload, *online_payload;
    int64_t will_qos;
    bool will_retain;

    bool has_fixed_topic; /* the same for all records */
    const struct fms_host *host;
    struct mqtt_link *link;
    MQTTProperty *properties; /* of the record that is being sent; the link's thread only */
    size_t property_room;
    char shown[LETTER_HEADERS][LETTER_VALUE], left_out[96]; /* likewise */
    struct mqtt_identity_text identity_text;                /* likewise */
    char *last_topic; /* of a dead letter whose own one the broker does not take; NULL: it has no other */

    pthread_mutex_t lock; /* guards all that follows */
    struct place *places;
    uint64_t first, next, end; /* oldest that is not done, next to send, next to fill: modulo `window` */
    size_t unconfirmed, unconfirmed_bytes;
    bool has_confirmed; /* the broker, on this connection */
    bool has_found; /* on this connection, a record that the broker does not take, and that will not be sent for ever */
    bool has_taken; /* the broker, something since a record was found at whose sight it hangs up */
    bool is_refused;    /* a record is to be retried: send and take nothing before all have an answer */
    bool has_granted;   /* the broker has taken something since all was given back to the host */
    bool is_alone;      /* what is under way */
    unsigned fruitless; /* connections in a row */
    char refusal[128];
    uint64_t accused; /* the record that was refused last, by what it says; 0: none */
    int accused_code;
    unsigned refusals, contrasts; /* of it, in a row; so often the broker took others meanwhile */
    struct topics refused_topics, costly_topics;
    int64_t progress;          /* when something was last confirmed, or first sent; on the link's clock */
    const struct place *timed; /* of what is under way, the one whose time is taken; NULL: none */
    int64_t timed_at;
};

enum { COUNT_CONNECTIONS, COUNT_RESENT, COUNT_HEADERS, COUNT_REDUCED, COUNT_UNIDENTIFIED };

static const struct fms_metric mqtt_sink_counters[] = {
    [COUNT_CONNECTIONS] = {"connections", "connections made"},
    [COUNT_RESENT] = {"resent", "records published again after a lost connection"},
    [COUNT_HEADERS] = {"headers_dropped", "headers that no property can carry"},
    [COUNT_REDUCED] = {"letters_reduced", "dead letters of which not all fitted"},
    [COUNT_UNIDENTIFIED] = {"unidentified",
                            "records published without an identity although `identity` is set: they have no"
                            " number, are made of others, or the broker speaks MQTT 3.1.1"},
    {NULL, NULL},
};

enum { GAUGE_QUEUE, GAUGE_IN_FLIGHT, GAUGE_IN_FLIGHT_LIMIT };

static const struct fms_metric mqtt_sink_gauges[] = {
    [GAUGE_QUEUE] = {"queue_messages", "messages that wait to be published"},
    [GAUGE_IN_FLIGHT] = {"in_flight_messages", "messages that are published and not confirmed yet"},
    [GAUGE_IN_FLIGHT_LIMIT] = {"in_flight_limit_messages", "as many may be, by `window` and the broker; 64 KiB bound"
                                                           " them too"},
    {NULL, NULL},
};

enum { DURATION_CONFIRM };

static const struct fms_metric mqtt_sink_durations[] = {
    [DURATION_CONFIRM] = {"confirm_seconds", "from PUBLISH until the broker confirms it, of one message at a time"},
    {NULL, NULL},
};

/* clang-format off */
static const struct fms_option mqtt_sink_options[] = {
    MQTT_OPTIONS(MQTT_SERVER_HELP),
    FMS_OPT_TEMPLATE(struct mqtt_sink, topic, "${topic}", "topic to publish to"),
    FMS_OPT_BOOLEAN(struct mqtt_sink, retain, "no", "have the broker keep the last message of each topic"),
    FMS_OPT_BOOLEAN(struct mqtt_sink, forward_retained, "no",
                    "have it keep the messages that were retained where they came from (header mqtt.retained)"),
    FMS_OPT_INTEGER(struct mqtt_sink, window, "100", 1, 10000,
                    "most records under way; a broker may allow less (MQTT 5; with 3.1.1 and QoS 2 at most 20), and 64 KiB bound it too"),
    FMS_OPT_SIZE(struct mqtt_sink, max_message_size, "0", 0, 268435455,
                 "larger payloads are rejected; 0: what the broker says, which it does with MQTT 5 only"),
    FMS_OPT_DURATION(struct mqtt_sink, ack_timeout, "60s", 0, 3600 * FMS_SECOND,
                     "connect again when the broker has confirmed nothing for so long; 0: wait for ever"),
    {"identity", FMS_BOOLEAN, FMS_FIELD(struct mqtt_sink, identity, bool), "no", 0, 0, NULL,
     "send with each record the number that its origin gave it, by which who receives it knows it when it comes again"
     " (MQTT 5)", NULL, FMS_SINK},
    FMS_OPT_STRING(struct mqtt_sink, will_topic, NULL,
                   "topic of the last will, which the broker publishes when we are lost; absent: none"),
    FMS_OPT_STRING(struct mqtt_sink, will_payload, "offline", "its payload; also published when we end in good order"),
    FMS_OPT_INTEGER(struct mqtt_sink, will_qos, "1", 0, 2, "its quality of service"),
    FMS_OPT_BOOLEAN(struct mqtt_sink, will_retain, "yes", "have the broker keep it for those who subscribe later"),
    FMS_OPT_STRING(struct mqtt_sink, online_payload, NULL,
                   "payload that is published to will_topic after each connect; absent: none"),
    FMS_OPT_END,
};
/* clang-format on */

static struct place *mqtt_sink_place(struct mqtt_sink *self, uint64_t number)
{
    return &self->places[number % (uint64_t)self->window];
}

/* FNV-1a */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t hash_of(const char *topic)
{
    return hash_bytes(UINT64_C(14695981039346656037), topic, strlen(topic));
}

/* By what a record is known that was given back and is offered again; never 0. */
static uint64_t hash_of_place(const struct place *place)
{
    struct fms_bytes payload = place->record->payload;

    return hash_bytes(hash_of(place->topic), payload.data, payload.size) | 1;
}

static bool topics_have(const struct topics *topics, const char *topic, int code)
{
    uint64_t hash = topics->count > 0 ? hash_of(topic) + (unsigned)code : 0;

    for (unsigned i = 0; i < topics->count && i < TOPICS_KNOWN; i++) {
        if (topics->hashes[i] == hash)
            return true;
    }
    return false;
}

static void topics_add(struct topics *topics, const char *topic, int code)
{
    if (!topics_have(topics, topic, code))
        topics->hashes[topics->count++ % TOPICS_KNOWN] = hash_of(topic) + (unsigned)code;
}

static bool is_letter(const struct mqtt_sink *self)
{
    return self->host->role == FMS_DEAD_LETTER;
}

/* --------------------------------------------------------------------------------------------- the ring fills: lane */

/* What one long topic needed is not kept for short ones. */
static bool place_reserve(struct place *place, size_t size)
{
    char *room;

    if (size <= place->topic_room && place->topic_room <= size + TOPIC_SPARE)
        return true;
    room = realloc(place->topic, size);
    if (room == NULL)
        return false;
    place->topic = room;
    place->topic_room = size;
    return true;
}

/* Whether it is a dead letter that has another topic when its own does not serve. */
static bool may_be_diverted(const struct mqtt_sink *self, const struct place *place)
{
    return self->last_topic != NULL && !place->is_last_resort;
}

/* Called with the lock held. The letter goes there. */
static void mqtt_sink_divert(struct mqtt_sink *self, struct place *place)
{
    strcpy(place->topic, self->last_topic); /* mqtt_sink_fill_letter has made room */
    place->is_last_resort = true;
    place->losses = 0;
}

/* What a dead letter's topic is made of is never too odd; but the broker may have refused it. 0 or -ENOMEM. */
static int mqtt_sink_fill_letter(struct mqtt_sink *self, struct place *place, struct fms_bytes topic)
{
    size_t last = self->last_topic != NULL ? strlen(self->last_topic) : 0;

    if (!place_reserve(place, (topic.size > last ? topic.size : last) + 2))
        return -ENOMEM;
    letter_topic(topic, place->topic);
    place->is_last_resort = false;
    pthread_mutex_lock(&self->lock);
    if (may_be_diverted(self, place) && (topics_have(&self->costly_topics, place->topic, 0) ||
                                         topics_have(&self->refused_topics, place->topic, MQTTREASONCODE_SUCCESS)))
        mqtt_sink_divert(self, place);
    pthread_mutex_unlock(&self->lock);
    return 0;
}

/* Why the record cannot be published, or NULL; a dead letter always can. */
static const char *mqtt_sink_objection(const struct mqtt_sink *self, const struct fms_record *record,
                                       struct fms_bytes topic, char *text, size_t size)
{
    const char *error = mqtt_topic_error(topic.data, topic.size);

    if (error != NULL)
        snprintf(text, size, "%s: \"%.*s\"", error, topic.size < 200 ? (int)topic.size : 200, (const char *)topic.data);
    else if (self->max_message_size > 0 && record->payload.size > (size_t)self->max_message_size)
        snprintf(text, size, "a payload of %zu bytes is larger than max_message_size = %lld", record->payload.size,
                 (long long)self->max_message_size);
    else
        return NULL;
    return text;
}

/* Copies the topic into the place. 0, -EINVAL: the record was rejected, or -ENOMEM. */
static int mqtt_sink_fill(struct mqtt_sink *self, struct place *place, const struct fms_record *record)
{
    struct fms_bytes topic = fms_bytes_of(NULL, 0);
    int error = fms_expand(self->host, self->topic, record, &topic);
    char text[320];

    if (error != 0 && error != -ENOENT)
        return -ENOMEM;
    if (is_letter(self))
        return mqtt_sink_fill_letter(self, place, error == 0 ? topic : fms_bytes_of(NULL, 0));
    if (error != 0) {
        fms_reject(self->host, record, "topic: %.*s", (int)topic.size, (const char *)topic.data);
        return -EINVAL;
    }
    if (mqtt_sink_objection(self, record, topic, text, sizeof text) != NULL) {
        fms_reject(self->host, record, "%s", text);
        return -EINVAL;
    }
    if (!place_reserve(place, topic.size + 1))
        return -ENOMEM;
    memcpy(place->topic, topic.data, topic.size);
    place->topic[topic.size] = '\0';
    return 0;
}

static void mqtt_sink_reject(struct mqtt_sink *self, const struct place *place, int code)
{
    const char *text = MQTTReasonCode_toString((enum MQTTReasonCodes)code);

    if (place->is_ours && code == MQTTREASONCODE_PACKET_TOO_LARGE)
        fms_reject(self->host, place->record,
                   "it makes a packet larger than the %lld bytes that the broker takes: \"%.200s\"",
                   (long long)mqtt_link_limits(self->link)->packet_size, place->topic);
    else
        fms_reject(self->host, place->record, "%s: %s: \"%.200s\"",
                   place->is_ours ? "it cannot be sent" : "the broker refuses it",
                   text != NULL ? text : "unknown reason", place->topic);
}

/* A refusal that says nothing of what is wrong, and may be that record's for ever. */
static bool is_vague(int code)
{
    return code == MQTTREASONCODE_UNSPECIFIED_ERROR || code == MQTTREASONCODE_IMPLEMENTATION_SPECIFIC_ERROR;
}

/* Whether a record that is refused so again and again is rejected in the end. Where a right is missing to a topic that is the same
 * for all, it may have been revoked and would lose the whole stream: that waits. */
static bool mqtt_sink_may_give_up(const struct mqtt_sink *self, int code)
{
    return is_vague(code) || (code == MQTTREASONCODE_NOT_AUTHORIZED && !self->has_fixed_topic);
}

/* Called with the lock held, of the first record that was refused: it alone counts, for that behind it may come out otherwise
 * next time. Whether it was refused often enough. */
static bool mqtt_sink_is_given_up(struct mqtt_sink *self, const struct place *place)
{
    uint64_t accused = hash_of_place(place);

    if (self->accused != accused || self->accused_code != place->code)
        self->refusals = self->contrasts = 0;
    self->accused = accused;
    self->accused_code = place->code;
    self->refusals++;
    self->contrasts += self->has_granted;
    if (!mqtt_sink_may_give_up(self, place->code))
        return false;
    return is_vague(place->code) ? self->contrasts >= REFUSALS_MAX || self->refusals >= REFUSALS_ALONE
                                 : self->refusals >= REFUSALS_MAX;
}

/* Called with the lock held, of a record that the broker refuses however often it is asked. A dead letter that has another topic
 * is offered again, and goes there. */
static void mqtt_sink_refuse(struct mqtt_sink *self, struct place *place)
{
    bool goes_elsewhere = may_be_diverted(self, place);

    self->accused = 0;
    if (!self->has_fixed_topic)
        topics_add(&self->refused_topics, place->topic, goes_elsewhere ? MQTTREASONCODE_SUCCESS : place->code);
    if (goes_elsewhere)
        fms_retry(self->host, place->record, "%s", self->refusal);
    else
        mqtt_sink_reject(self, place, place->code);
}

/* All under way have an answer and one is a refusal: the host gets back what is left, in emit order. On the lane, so
 * that it offers nothing newer in between. */
static void mqtt_sink_give_back(struct mqtt_sink *self)
{
    bool is_first = true;

    pthread_mutex_lock(&self->lock);
    if (self->is_refused && self->unconfirmed == 0) {
        for (; self->first != self->end; self->first++) {
            struct place *place = mqtt_sink_place(self, self->first);

            if (place->state == PLACE_REFUSED && is_first && mqtt_sink_is_given_up(self, place))
                mqtt_sink_refuse(self, place);
            else if (place->state != PLACE_DONE)
                fms_retry(self->host, place->record, "%s", self->refusal);
            is_first = is_first && place->state != PLACE_REFUSED;
            place->state = PLACE_DONE;
        }
        self->next = self->end;
        self->is_refused = self->has_granted = false;
    }
    pthread_mutex_unlock(&self->lock);
}

static int mqtt_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct mqtt_sink *self = instance;
    size_t room, taken = 0;
    int error = 0;

    pthread_mutex_lock(&self->lock);
    room = self->is_refused ? 0 : (size_t)self->window - (size_t)(self->end - self->first);
    pthread_mutex_unlock(&self->lock);
    for (; taken < count && room > 0; taken++) {
        struct place *place = mqtt_sink_place(self, self->end); /* only the lane moves `end` */

        error = mqtt_sink_fill(self, place, records[taken]);
        if (error == -ENOMEM)
            break;
        if (error != 0)
            continue;
        pthread_mutex_lock(&self->lock);
        place->record = records[taken];
        place->state = PLACE_WAITING;
        place->losses = 0;
        place->is_ours = false;
        self->end++;
        pthread_mutex_unlock(&self->lock);
        room--;
    }
    if (error == -ENOMEM && taken == 0)
        return fms_fail(self->host, error, "out of memory");
    mqtt_link_kick(self->link);
    return (int)taken;
}

static int mqtt_sink_poll(void *instance, struct fms_wait *wait)
{
    (void)wait;
    mqtt_sink_give_back(instance);
    return 0;
}

static void mqtt_sink_measure(void *instance)
{
    struct mqtt_sink *self = instance;
    size_t queue, in_flight;

    pthread_mutex_lock(&self->lock);
    queue = (size_t)(self->end - self->next);
    in_flight = self->unconfirmed;
    pthread_mutex_unlock(&self->lock);
    fms_gauge(self->host, GAUGE_QUEUE, (double)queue);
    fms_gauge(self->host, GAUGE_IN_FLIGHT, (double)in_flight);
}

/* ----------------------------------------------------------------------- answers: on paho's threads, under its lock */

/* Called with the lock held. The place is free as soon as those before it are. */
static void mqtt_sink_free_place(struct mqtt_sink *self, struct place *place)
{
    place->state = PLACE_DONE;
    while (self->first != self->end && mqtt_sink_place(self, self->first)->state == PLACE_DONE)
        self->first++;
    if (self->next < self->first)
        self->next = self->first;
}

/* Called with the lock held. A refusal that is not is that too where it was often so, and the broker takes other topics. */
static bool mqtt_sink_is_permanent(const struct mqtt_sink *self, const struct place *place, int code)
{
    return code == MQTTREASONCODE_PAYLOAD_FORMAT_INVALID || code == MQTTREASONCODE_TOPIC_NAME_INVALID ||
           code == MQTTREASONCODE_PACKET_TOO_LARGE ||
           (self->has_granted && topics_have(&self->refused_topics, place->topic, code));
}

/* Called with the lock held. The record is to be offered again. */
static void mqtt_sink_note_refusal(struct mqtt_sink *self, struct place *place, int code)
{
    const char *text = MQTTReasonCode_toString((enum MQTTReasonCodes)code);

    if (!self->is_refused)
        snprintf(self->refusal, sizeof self->refusal, "the broker refuses a message to %.60s: %s", place->topic,
                 text != NULL ? text : "unknown reason");
    self->is_refused = true;
    self->has_found = self->has_found || mqtt_sink_may_give_up(self, code);
    place->state = PLACE_REFUSED;
    place->code = code;
}

/* Called with the lock held. What becomes of a record that the broker confirmed (code 0) or refused. */
static void mqtt_sink_settle(struct mqtt_sink *self, struct place *place, int code)
{
    bool goes_elsewhere = code == MQTTREASONCODE_TOPIC_NAME_INVALID && may_be_diverted(self, place);

    if (goes_elsewhere)
        topics_add(&self->refused_topics, place->topic, MQTTREASONCODE_SUCCESS);
    if (code != 0 && (goes_elsewhere || !mqtt_sink_is_permanent(self, place, code))) {
        self->has_found = self->has_found || goes_elsewhere;
        mqtt_sink_note_refusal(self, place, code);
        return;
    }
    if (self->accused != 0 && self->accused == hash_of_place(place))
        self->accused = 0;
    if (code == 0) {
        self->has_granted = self->has_taken = true;
        self->fruitless = 0;
        fms_delivered(self->host, place->record);
    } else {
        self->has_found = true;
        mqtt_sink_reject(self, place, code);
    }
    mqtt_sink_free_place(self, place);
}

static void mqtt_sink_answered(struct place *place, int code)
{
    struct mqtt_sink *self = place->sink;
    bool is_last, may_send;

    pthread_mutex_lock(&self->lock);
    self->unconfirmed--;
    self->unconfirmed_bytes -= place->record->payload.size;
    self->progress = mqtt_clock();
    if (self->timed == place && !place->is_ours)
        fms_observe(self->host, DURATION_CONFIRM, self->progress - self->timed_at);
    if (self->timed == place)
        self->timed = NULL;
    self->has_confirmed = true;
    mqtt_sink_settle(self, place, code);
    is_last = self->is_refused && self->unconfirmed == 0;
    may_send = !self->is_refused && self->next != self->end;
    pthread_mutex_unlock(&self->lock);
    if (is_last)
        fms_wake(self->host);
    if (may_send)
        mqtt_link_kick(self->link);
}

static void on_sent(void *context, MQTTAsync_successData *data)
{
    (void)data;
    mqtt_sink_answered(context, 0);
}

static void on_sent_5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    mqtt_sink_answered(context, 0);
}

/* A failure with a code of paho's own is one of the connection: mqtt_sink_down follows. */
static void on_refused_5(void *context, MQTTAsync_failureData5 *data)
{
    if (data->code == 0 && data->reasonCode >= MQTTREASONCODE_UNSPECIFIED_ERROR)
        mqtt_sink_answered(context, (int)data->reasonCode);
}

/* --------------------------------------------------------------------------------------- sending: the link's thread */

static MQTTLenString string_of(struct fms_bytes bytes)
{
    return (MQTTLenString){(int)bytes.size, (char *)(uintptr_t)bytes.data};
}

static void add_text(MQTTProperties *list, enum MQTTPropertyCodes code, struct fms_bytes text)
{
    MQTTProperty *item = &list->array[list->count];

    if (text.data == NULL)
        return;
    item->identifier = code;
    item->value.data = string_of(text);
    list->count++;
    list->length += 3 + (int)text.size;
}

static void add_user(MQTTProperties *list, const char *name, struct fms_bytes value)
{
    MQTTProperty *item = &list->array[list->count++];

    item->identifier = MQTTPROPERTY_CODE_USER_PROPERTY;
    item->value.data = string_of(fms_text(name));
    item->value.value = string_of(value);
    list->length += 5 + item->value.data.len + item->value.value.len;
}

static void add_own(MQTTProperties *list, const struct mqtt_properties *own)
{
    add_text(list, MQTTPROPERTY_CODE_CONTENT_TYPE, own->content_type);
    add_text(list, MQTTPROPERTY_CODE_RESPONSE_TOPIC, own->response_topic);
    add_text(list, MQTTPROPERTY_CODE_CORRELATION_DATA, own->correlation_data);
    if (own->message_expiry >= 0) {
        list->array[list->count++] = (MQTTProperty){.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
                                                    .value.integer4 = (unsigned)own->message_expiry};
        list->length += 5;
    }
    if (own->payload_format >= 0) {
        list->array[list->count++] = (MQTTProperty){.identifier = MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR,
                                                    .value.byte = (unsigned char)own->payload_format};
        list->length += 2;
    }
}

static bool mqtt_sink_reserve(struct mqtt_sink *self, size_t count)
{
    MQTTProperty *room;

    if (count <= self->property_room)
        return true;
    room = realloc(self->properties, count * sizeof *room);
    if (room == NULL)
        return false;
    self->properties = room;
    self->property_room = count;
    return true;
}

/* A header of a dead letter that is sent otherwise than one of a record: what the host says of it gets through in any case, once, and
 * what MQTT is not to do with the letter, as it would have with the message, stands there to be read. */
static bool add_letter_header(struct mqtt_sink *self, MQTTProperties *list, const struct fms_header *header,
                              enum letter letter)
{
    size_t place = letter_header(header->name), most = letter == LETTER_CUT ? LETTER_SHORT : 65535;
    bool is_inert = strcmp(header->name, "mqtt.message_expiry") == 0 ||
                    strcmp(header->name, "mqtt.payload_format") == 0;

    if (letter_replaces(header->name, letter))
        return true;
    if (place < LETTER_HEADERS)
        add_user(list, header->name, letter_text(header->value, most, self->shown[place]));
    else if (letter <= LETTER_WITHOUT_PAYLOAD && is_inert && mqtt_is_text(header->value.data, header->value.size))
        add_user(list, header->name, header->value);
    else
        return letter > LETTER_WITHOUT_PAYLOAD;
    return true;
}

/* The number of a record that goes on as its origin has made it. Neither what was made of it nor a dead letter has one of its own. */
static const struct fms_identity *mqtt_sink_number(const struct mqtt_sink *self, const struct fms_record *record)
{
    const struct fms_identity *identity = self->identity ? record->identity : NULL;

    return identity != NULL && identity->kind == FMS_NUMBERED && identity->part == 0 ? identity : NULL;
}

static void add_identity(struct mqtt_sink *self, MQTTProperties *list, const struct fms_identity *identity)
{
    mqtt_identity_write(identity, &self->identity_text);
    add_user(list, "fms.origin", fms_text(self->identity_text.origin));
    add_user(list, "fms.sequence", fms_text(self->identity_text.sequence));
    if (self->identity_text.skipped[0] != '\0')
        add_user(list, "fms.skipped", fms_text(self->identity_text.skipped));
}

/* Headers become properties, those that MQTT can say; `own` is what they say that is not the sender's. */
static MQTTProperties mqtt_sink_properties(struct mqtt_sink *self, const struct fms_record *record, enum letter letter,
                                           struct mqtt_properties *own)
{
    const struct fms_identity *number = mqtt_sink_number(self, record);
    MQTTProperties result = MQTTProperties_initializer;
    uint64_t dropped = 0;

    if (record->header_count == 0 && letter == LETTER_WHOLE && number == NULL)
        return result;
    if (!mqtt_sink_reserve(self, record->header_count + OWN_PROPERTIES)) {
        fms_count(self->host, COUNT_HEADERS, record->header_count);
        return result;
    }
    result.array = self->properties;
    for (size_t i = 0; i < record->header_count; i++) {
        enum mqtt_place place;
        const char *name;

        if (mqtt_identity_is_header(record->headers[i].name))
            continue;
        if (is_letter(self) && add_letter_header(self, &result, &record->headers[i], letter))
            continue;
        place = mqtt_place_header(&record->headers[i], own, &name);
        if (place == MQTT_AS_USER)
            add_user(&result, name, record->headers[i].value);
        dropped += place == MQTT_NOWHERE;
    }
    add_own(&result, own);
    if (number != NULL)
        add_identity(self, &result, number);
    if (letter != LETTER_WHOLE) {
        snprintf(self->left_out, sizeof self->left_out,
                 "dropped, %zu bytes%s: the letter was larger than the broker takes", record->payload.size,
                 letter == LETTER_WITHOUT_PAYLOAD ? "" : ", with other headers");
        add_user(&result, "fms.payload", fms_text(self->left_out));
    }
    if (dropped > 0 && letter == LETTER_WHOLE)
        fms_count(self->host, COUNT_HEADERS, dropped);
    return result;
}

/* MQTT-1.5.5 */
static size_t length_size(size_t length)
{
    return length < 128 ? 1 : length < 16384 ? 2 : length < 2097152 ? 3 : 4;
}

/* Of the PUBLISH packet. */
static size_t mqtt_sink_packet_size(struct mqtt_sink *self, const char *topic, const MQTTAsync_message *message)
{
    size_t listed = (size_t)message->properties.length;
    size_t size = 2 + strlen(topic) + (self->mqtt.qos > 0 ? 2 : 0) + (size_t)message->payloadlen;

    if (mqtt_link_is_5(self->link))
        size += length_size(listed) + listed;
    return 1 + length_size(size) + size;
}

/* Called with the lock held. Whether a record is to be sent alone, so that what the broker does is its answer to that one. */
static bool mqtt_sink_goes_alone(const struct mqtt_sink *self, const struct place *place)
{
    return self->fruitless >= FRUITLESS_MAX || topics_have(&self->costly_topics, place->topic, 0);
}

/* The next record to publish, marked as sent; NULL: none, or no more now. */
static struct place *mqtt_sink_next(struct mqtt_sink *self)
{
    size_t most = (size_t)mqtt_link_limits(self->link)->receive_maximum;
    struct place *place = NULL;
    bool is_alone = false;

    pthread_mutex_lock(&self->lock);
    while (self->next != self->end && mqtt_sink_place(self, self->next)->state != PLACE_WAITING)
        self->next++;
    if (self->next != self->end && !self->is_refused && (self->unconfirmed < most || self->mqtt.qos == 0))
        place = mqtt_sink_place(self, self->next);
    if (place != NULL && self->unconfirmed > 0 &&
        self->unconfirmed_bytes + place->record->payload.size > UNCONFIRMED_BYTES)
        place = NULL;
    if (place != NULL)
        is_alone = mqtt_sink_goes_alone(self, place);
    if (self->unconfirmed > 0 && (is_alone || self->is_alone))
        place = NULL;
    if (place != NULL) {
        if (self->unconfirmed == 0)
            self->progress = mqtt_clock();
        self->is_alone = is_alone;
        place->state = PLACE_SENT;
        if (self->timed == NULL && self->host->watched) {
            self->timed = place;
            self->timed_at = mqtt_clock();
        }
        self->unconfirmed++;
        self->unconfirmed_bytes += place->record->payload.size;
        self->next++;
    }
    pthread_mutex_unlock(&self->lock);
    return place;
}

static void mqtt_sink_make(struct mqtt_sink *self, struct place *place, enum letter letter, MQTTAsync_message *message)
{
    struct fms_bytes payload = place->record->payload;
    struct mqtt_properties own = mqtt_no_properties;
    MQTTProperties properties = MQTTProperties_initializer;

    if (mqtt_link_is_5(self->link) || self->forward_retained)
        properties = mqtt_sink_properties(self, place->record, letter, &own);
    if (mqtt_link_is_5(self->link))
        message->properties = properties;
    if (payload.data == NULL || letter != LETTER_WHOLE)
        payload = fms_bytes_of(place->topic, 0); /* paho wants some pointer */
    message->payload = (void *)(uintptr_t)payload.data;
    message->payloadlen = (int)payload.size;
    message->qos = (int)self->mqtt.qos;
    message->retained = self->retain || (self->forward_retained && own.is_retained);
    if (letter == LETTER_CUT)
        place->topic[letter_cut(place->topic, strlen(place->topic), LETTER_SHORT)] = '\0';
}

static bool mqtt_sink_fits(struct mqtt_sink *self, const struct place *place, const MQTTAsync_message *message)
{
    return (int64_t)mqtt_sink_packet_size(self, place->topic, message) <= mqtt_link_limits(self->link)->packet_size &&
           (self->max_message_size == 0 || message->payloadlen <= self->max_message_size);
}

static int mqtt_sink_publish(struct mqtt_sink *self, struct place *place)
{
    MQTTAsync_message message = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    enum letter letter = LETTER_WHOLE;

    response.context = place;
    if (mqtt_link_is_5(self->link)) {
        response.onSuccess5 = on_sent_5;
        response.onFailure5 = on_refused_5;
    } else {
        response.onSuccess = on_sent;
    }
    mqtt_sink_make(self, place, letter, &message);
    while (!mqtt_sink_fits(self, place, &message)) {
        if (!is_letter(self) || letter == LETTER_CUT)
            return MQTTREASONCODE_PACKET_TOO_LARGE;
        mqtt_sink_make(self, place, ++letter, &message);
    }
    if (letter != LETTER_WHOLE)
        fms_count(self->host, COUNT_REDUCED, 1);
    if (self->identity && (!mqtt_link_is_5(self->link) || mqtt_sink_number(self, place->record) == NULL))
        fms_count(self->host, COUNT_UNIDENTIFIED, 1);
    return MQTTAsync_sendMessage(mqtt_link_handle(self->link), place->topic, &message, &response);
}

/* Publishes what it may. When to look again whether the broker still confirms. */
static int64_t mqtt_sink_work(void *user)
{
    struct mqtt_sink *self = user;
    struct place *place;
    int64_t overdue = FMS_NEVER;
    int error = MQTTASYNC_SUCCESS;

    while (error == MQTTASYNC_SUCCESS && (place = mqtt_sink_next(self)) != NULL) {
        error = mqtt_sink_publish(self, place);
        if (error == MQTTASYNC_BAD_UTF8_STRING) /* should paho be stricter than we are */
            error = MQTTREASONCODE_TOPIC_NAME_INVALID;
        if (error > 0) { /* that record's fault, not the connection's */
            place->is_ours = true;
            mqtt_sink_answered(place, error);
            error = MQTTASYNC_SUCCESS;
        }
    }
    if (error != MQTTASYNC_SUCCESS)
        mqtt_link_break(self->link, MQTTAsync_strerror(error));
    pthread_mutex_lock(&self->lock);
    if (self->unconfirmed > 0 && self->ack_timeout > 0)
        overdue = self->progress + self->ack_timeout;
    pthread_mutex_unlock(&self->lock);
    if (overdue <= mqtt_clock())
        mqtt_link_break(self->link, "the broker confirms nothing any more (ack_timeout)");
    return overdue;
}

static void mqtt_sink_say(struct mqtt_sink *self, const char *payload, int64_t patience)
{
    char reason[128];
    int error = mqtt_link_publish(self->link, self->will_topic, payload, (int)self->will_qos, self->will_retain,
                                  patience, reason, sizeof reason);

    if (error < 0)
        fms_warn(self->host, "cannot publish \"%s\" to %s: %s", payload, self->will_topic, reason);
}

static void mqtt_sink_up(void *user)
{
    struct mqtt_sink *self = user;
    int64_t most = mqtt_link_limits(self->link)->receive_maximum;

    fms_count(self->host, COUNT_CONNECTIONS, 1);
    fms_gauge(self->host, GAUGE_IN_FLIGHT_LIMIT, (double)(self->window < most ? self->window : most));
    fms_link_up(self->host);
    if (self->identity && !mqtt_link_is_5(self->link))
        fms_warn(self->host,
                 "the broker speaks MQTT 3.1.1, which has no place for identities: records go without, so that"
                 " what comes again is not known; version = 5 waits for a broker that has one");
    if (self->online_payload != NULL)
        mqtt_sink_say(self, self->online_payload, ONLINE_PATIENCE);
}

static void mqtt_sink_farewell(void *user)
{
    struct mqtt_sink *self = user;

    if (self->will_topic != NULL)
        mqtt_sink_say(self, self->will_payload, FAREWELL_PATIENCE);
}

/* Called with the lock held. The broker hung up on a record that was sent alone: after some more of that it is rejected, or,
 * a dead letter, goes to another topic. One that comes much later is the network's, or the broker's own end. */
static void mqtt_sink_blame(struct mqtt_sink *self, struct place *place, const char *why)
{
    bool is_known = topics_have(&self->costly_topics, place->topic, 0);

    if (mqtt_clock() - self->progress > self->mqtt.keepalive)
        return;
    self->has_found = self->has_found || self->has_taken;
    if (++place->losses < LOSSES_MAX && !is_known)
        return;
    self->has_taken = false;
    topics_add(&self->costly_topics, place->topic, 0);
    if (may_be_diverted(self, place)) {
        fms_warn(self->host, "the broker does not take dead letters to \"%.200s\": they go to \"%.200s\"; %s",
                 place->topic, self->last_topic, why);
        mqtt_sink_divert(self, place);
        return;
    }
    fms_reject(self->host, place->record,
               "the broker does not take it, and the connection ends when it is sent: %s: \"%.200s\"", why,
               place->topic);
    mqtt_sink_free_place(self, place);
}

/* What was under way is to be published again. A connection that confirmed none of it was no good one. */
static enum mqtt_end mqtt_sink_down(void *user, const char *why, char *owed, size_t size)
{
    struct mqtt_sink *self = user;
    enum mqtt_end end = MQTT_END_GOOD;
    uint64_t resent = 0;

    pthread_mutex_lock(&self->lock);
    if (self->unconfirmed > 0)
        snprintf(owed, size, self->unconfirmed == 1 ? "%zu publication" : "%zu publications", self->unconfirmed);
    if (self->unconfirmed > 0 && !self->has_confirmed) {
        end = MQTT_END_FRUITLESS;
        self->fruitless++;
    }
    for (uint64_t i = self->first; i != self->next; i++) {
        struct place *place = mqtt_sink_place(self, i);

        if (place->state != PLACE_SENT)
            continue;
        place->state = PLACE_WAITING;
        resent++;
        if (self->is_alone && why != NULL)
            mqtt_sink_blame(self, place, why);
    }
    self->next = self->first;
    self->timed = NULL;
    self->unconfirmed = 0;
    self->unconfirmed_bytes = 0;
    if (self->has_found && why != NULL)
        end = MQTT_END_EXPLAINED;
    self->has_confirmed = self->has_found = self->is_alone = false;
    pthread_mutex_unlock(&self->lock);
    fms_count(self->host, COUNT_RESENT, resent);
    fms_wake(self->host);
    return end;
}

/* ----------------------------------------------------------------------------------------------- check, open, close */

/* A topic that is the same for all must be one; that of dead letters must be found for each. */
static int mqtt_sink_check_topic(const struct mqtt_sink *self, const struct fms_host *host)
{
    struct fms_bytes topic;
    const char *error = NULL;

    if (fms_expand(host, self->topic, NULL, &topic) == 0) {
        error = mqtt_topic_error(topic.data, topic.size);
        return error == NULL ? 0 : fms_fail_option(host, "topic", -EINVAL, "%s", error);
    }
    if (host->role != FMS_DEAD_LETTER)
        return 0;
    if (!letter_finds(host, self->topic, &topic))
        return fms_fail_option(
            host, "topic", -EINVAL,
            "lacks a default for what a dead letter may be without, so that some would have no topic: %.*s; write one, "
            "as in dead/${json:vehicle_id:-unknown}",
            (int)topic.size, (const char *)topic.data);
    if (topic.size == 1 && *(const char *)topic.data == '_')
        fms_advise(host, "topic",
                   "is the record's own, so that dead letters stand among good messages, and a source that reads them "
                   "takes them for such; write another one, as in dead/${topic}");
    return 0;
}

/* Identities cost whoever carries them, so they are asked for only where they are sent. 0 or -EINVAL. */
static int mqtt_sink_check_identity(const struct mqtt_sink *self, const struct fms_host *host)
{
    if (!self->identity)
        return 0;
    if (self->mqtt.version == MQTT_3_1_1)
        return fms_fail_option(host, "identity", -EINVAL,
                               "needs MQTT 5, for 3.1.1 has no place for it: set version = 5, or leave version out");
    if (self->mqtt.qos == 0)
        fms_advise(host, "identity", "at QoS 0 nothing is sent again, and what is lost has no identity: set qos = 1");
    fms_identify(host, false);
    return 0;
}

static void mqtt_sink_promise(const struct mqtt_sink *self, const struct fms_host *host)
{
    if (self->mqtt.qos == 0)
        fms_promise(host, "qos", FMS_AT_MOST_ONCE, "at QoS 0 nothing is sent again: set qos = 1");
    else if (!self->identity)
        fms_promise(host, "identity", FMS_AT_LEAST_ONCE,
                    "what is sent again after a lost connection looks like another message: set identity = yes");
    else
        fms_promise(host, "identity", FMS_AT_LEAST_ONCE,
                    "what is sent again after a lost connection has its number, by which a receiver can know it");
}

static int mqtt_sink_check(void *instance, const struct fms_host *host)
{
    struct mqtt_sink *self = instance;
    const char *error = self->will_topic != NULL ? mqtt_topic_error(self->will_topic, strlen(self->will_topic)) : NULL;

    if (mqtt_check(&self->mqtt, host) != 0 || mqtt_sink_check_topic(self, host) != 0)
        return -EINVAL;
    if (error != NULL)
        return fms_fail_option(host, "will_topic", -EINVAL, "%s", error);
    if (self->online_payload != NULL && self->will_topic == NULL)
        return fms_fail_option(host, "online_payload", -EINVAL, "needs will_topic, to which it is published");
    if (mqtt_sink_check_identity(self, host) != 0)
        return -EINVAL;
    if (self->mqtt.qos == 0)
        fms_advise(host, "qos",
                   "at QoS 0 a record counts as delivered when it is written to the socket; what is under way"
                   " when the connection breaks is lost");
    mqtt_sink_promise(self, host);
    return 0;
}

static int mqtt_sink_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct mqtt_sink *self = instance;

    return mqtt_probe(&self->mqtt, host, deadline, NULL, NULL);
}

static void mqtt_sink_free(struct mqtt_sink *self)
{
    for (int64_t i = 0; i < self->window && self->places != NULL; i++)
        free(self->places[i].topic);
    free(self->places);
    free(self->last_topic);
    free(self->properties);
    pthread_mutex_destroy(&self->lock);
}

/* False: no memory. */
static bool mqtt_sink_find_topics(struct mqtt_sink *self)
{
    struct fms_bytes topic;

    self->has_fixed_topic = fms_expand(self->host, self->topic, NULL, &topic) == 0;
    if (!is_letter(self) || self->has_fixed_topic || !letter_finds(self->host, self->topic, &topic))
        return true;
    self->last_topic = malloc(topic.size + 2);
    if (self->last_topic != NULL)
        letter_topic(topic, self->last_topic);
    return self->last_topic != NULL;
}

static int mqtt_sink_open(void *instance, const struct fms_host *host)
{
    struct mqtt_sink *self = instance;
    struct mqtt_role role = {
        .clean_start = true,
        .publishes = true,
        .needs_retain = self->retain || self->forward_retained || (self->will_topic != NULL && self->will_retain),
        .will = {self->will_topic, self->will_payload, (int)self->will_qos, self->will_retain},
        .user = self,
        .up = mqtt_sink_up,
        .work = mqtt_sink_work,
        .farewell = mqtt_sink_farewell,
        .down = mqtt_sink_down,
    };
    int error = 0;

    self->host = host;
    pthread_mutex_init(&self->lock, NULL);
    self->places = calloc((size_t)self->window, sizeof *self->places);
    for (int64_t i = 0; i < self->window && self->places != NULL; i++)
        self->places[i].sink = self;
    if (self->places == NULL || !mqtt_sink_find_topics(self))
        error = fms_fail(host, -ENOMEM, "out of memory");
    role.has_one_topic = self->has_fixed_topic;
    if (error == 0)
        error = mqtt_link_open(&self->link, &self->mqtt, host, &role, false);
    if (error != 0)
        mqtt_sink_free(self);
    return error;
}

static void mqtt_sink_close(void *instance)
{
    struct mqtt_sink *self = instance;

    mqtt_link_close(self->link);
    mqtt_sink_free(self);
}

FMS_PLUGIN(.name = "mqtt_sink", .version = FMS_VERSION, .summary = "Publishes records to an MQTT broker",
           .options = mqtt_sink_options, .counters = mqtt_sink_counters, .gauges = mqtt_sink_gauges,
           .durations = mqtt_sink_durations, .instance_size = sizeof(struct mqtt_sink),
           .traits = FMS_TRAIT_LINK | FMS_TRAIT_SINGLE, .check = mqtt_sink_check, .probe = mqtt_sink_probe,
           .open = mqtt_sink_open, .close = mqtt_sink_close, .sink_write = mqtt_sink_write, .sink_poll = mqtt_sink_poll,
           .measure = mqtt_sink_measure);
