/* mqtt_sink - publishes records to an MQTT broker.
 *
 * Delivered means confirmed: PUBACK at QoS 1, PUBCOMP at QoS 2, written to the socket at QoS 0. The records wait in a
 * window of our own, a ring that the lane fills, the link's thread sends from, and paho's callbacks settle; paho's own
 * buffers scan lists and stall. When the connection breaks, paho's client is thrown away with all that it had under
 * way, and what the ring still holds is published again in emit order: nothing is lost or overtaken, but what the
 * broker had and could not confirm comes twice, at QoS 2 too. A record for which the broker hangs up each time is found
 * by sending one at a time. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mqtt_common/mqtt_link.h"

#define ONLINE_PATIENCE   (10 * FMS_SECOND)
#define FAREWELL_PATIENCE (2 * FMS_SECOND)

/* More than a socket takes would wait in paho's queue, which it does not free together with the client. */
#define UNCONFIRMED_BYTES (64 * 1024)

/* When a record is to blame, and not the broker or the network. */
#define FRUITLESS_MAX 2  /* connections in a row that confirmed nothing; then records go out one by one */
#define LOSSES_MAX    3  /* connections that a record has cost alone */
#define DENIALS_MAX   5  /* times in a row that one topic was not authorized */
#define TOPICS_KNOWN  32 /* of each kind that is remembered */

#define OWN_PROPERTIES 5 /* that a message can have beside user properties */

enum place_state { PLACE_DONE, PLACE_WAITING, PLACE_SENT, PLACE_REFUSED };

/* A place in the ring. */
struct place {
    struct mqtt_sink *sink;
    const struct fms_record *record;
    char *topic; /* buffer that stays with the place */
    size_t topic_room;
    enum place_state state;
    int code;        /* that the broker refused it with */
    unsigned losses; /* connections that it has cost alone */
};

/* The last topics of a kind, by their hashes: what becomes of one more record shall not take as long to find out. */
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
    const char *will_topic, *will_payload, *online_payload;
    int64_t will_qos;
    bool will_retain;

    const struct fms_host *host;
    struct mqtt_link *link;
    MQTTProperty *properties; /* of the record that is being sent; the link's thread only */
    size_t property_room;

    pthread_mutex_t lock; /* guards all that follows */
    struct place *places;
    uint64_t first, next, end; /* oldest that is not done, next to send, next to fill: modulo `window` */
    size_t unconfirmed, unconfirmed_bytes;
    bool has_confirmed; /* the broker, on this connection */
    bool is_refused;    /* a record is to be retried: send and take nothing before all have an answer */
    char refusal[128];
    bool has_fixed_topic; /* the same for all records; set before the link is there */
    bool has_granted;     /* the broker has taken something since all was given back to the host */
    uint64_t denied;      /* the topic that was not authorized last */
    unsigned denials;     /* in a row */
    bool is_alone;        /* what is under way */
    unsigned fruitless;   /* connections in a row */
    struct topics denied_topics, costly_topics;
    int64_t progress; /* when something was last confirmed, or first sent; on the link's clock */
};

enum { COUNT_CONNECTIONS, COUNT_RESENT, COUNT_HEADERS };

static const struct fms_counter mqtt_sink_counters[] = {
    [COUNT_CONNECTIONS] = {"connections", "connections made"},
    [COUNT_RESENT] = {"resent", "records published again after a lost connection"},
    [COUNT_HEADERS] = {"headers_dropped", "headers that no property can carry"},
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
static uint64_t hash_of(const char *topic)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (; *topic != '\0'; topic++)
        hash = (hash ^ (unsigned char)*topic) * UINT64_C(1099511628211);
    return hash;
}

static bool topics_have(const struct topics *topics, const char *topic)
{
    uint64_t hash = topics->count > 0 ? hash_of(topic) : 0;

    for (unsigned i = 0; i < topics->count && i < TOPICS_KNOWN; i++) {
        if (topics->hashes[i] == hash)
            return true;
    }
    return false;
}

static void topics_add(struct topics *topics, const char *topic)
{
    if (!topics_have(topics, topic))
        topics->hashes[topics->count++ % TOPICS_KNOWN] = hash_of(topic);
}

/* --------------------------------------------------------------------------------------------- the ring fills: lane */

/* Copies the topic into the place. 0, or what the record was rejected for. */
static int mqtt_sink_fill(struct mqtt_sink *self, struct place *place, const struct fms_record *record)
{
    struct fms_bytes topic;
    const char *error;

    if (fms_expand(self->host, self->topic, record, &topic) != 0) {
        fms_reject(self->host, record, "topic: %.*s", (int)topic.size, (const char *)topic.data);
        return -EINVAL;
    }
    error = mqtt_topic_error(topic.data, topic.size);
    if (error != NULL) {
        fms_reject(self->host, record, "%s: \"%.*s\"", error, topic.size < 200 ? (int)topic.size : 200,
                   (const char *)topic.data);
        return -EINVAL;
    }
    if (self->max_message_size > 0 && record->payload.size > (size_t)self->max_message_size) {
        fms_reject(self->host, record, "a payload of %zu bytes is larger than max_message_size = %lld",
                   record->payload.size, (long long)self->max_message_size);
        return -EINVAL;
    }
    if (topic.size >= place->topic_room) {
        char *room = realloc(place->topic, topic.size + 1);

        if (room == NULL)
            return -ENOMEM;
        place->topic = room;
        place->topic_room = topic.size + 1;
    }
    memcpy(place->topic, topic.data, topic.size);
    place->topic[topic.size] = '\0';
    return 0;
}

static void mqtt_sink_reject(struct mqtt_sink *self, const struct place *place, int code)
{
    const char *text = MQTTReasonCode_toString((enum MQTTReasonCodes)code);

    fms_reject(self->host, place->record, "the broker refuses it: %s: \"%.200s\"",
               text != NULL ? text : "unknown reason", place->topic);
}

/* Called with the lock held, of the first record that was refused: it alone counts, for that behind it may come out otherwise
 * next time. Whether it is to be rejected, for the broker does not grant the topic that the record chose. Where the topic is the
 * same for all, a right that was revoked would lose the whole stream: that waits. */
static bool mqtt_sink_is_denied(struct mqtt_sink *self, const struct place *place)
{
    uint64_t topic = hash_of(place->topic);

    if (place->code != MQTTREASONCODE_NOT_AUTHORIZED || self->has_fixed_topic) {
        self->denials = 0;
        return false;
    }
    self->denials = topic == self->denied ? self->denials + 1 : 1;
    self->denied = topic;
    if (self->denials < DENIALS_MAX)
        return false;
    self->denials = 0;
    topics_add(&self->denied_topics, place->topic);
    return true;
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

            if (place->state == PLACE_REFUSED && is_first && mqtt_sink_is_denied(self, place))
                mqtt_sink_reject(self, place, place->code);
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

/* Called with the lock held. Not authorized is that too where it was often so, and the broker takes other topics. */
static bool mqtt_sink_is_permanent(const struct mqtt_sink *self, const struct place *place, int code)
{
    return code == MQTTREASONCODE_PAYLOAD_FORMAT_INVALID || code == MQTTREASONCODE_TOPIC_NAME_INVALID ||
           code == MQTTREASONCODE_PACKET_TOO_LARGE ||
           (code == MQTTREASONCODE_NOT_AUTHORIZED && self->has_granted &&
            topics_have(&self->denied_topics, place->topic));
}

/* Called with the lock held. What becomes of a record that the broker confirmed (code 0) or refused. */
static void mqtt_sink_settle(struct mqtt_sink *self, struct place *place, int code)
{
    if (code != 0 && !mqtt_sink_is_permanent(self, place, code)) {
        const char *text = MQTTReasonCode_toString((enum MQTTReasonCodes)code);

        if (!self->is_refused)
            snprintf(self->refusal, sizeof self->refusal, "the broker refuses a message to %.60s: %s", place->topic,
                     text != NULL ? text : "unknown reason");
        self->is_refused = true;
        place->state = PLACE_REFUSED;
        place->code = code;
        return;
    }
    if (code == 0) {
        self->has_granted = true;
        self->fruitless = 0;
        fms_delivered(self->host, place->record);
    } else {
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

/* Headers become properties, those that MQTT can say; `own` is what they say that is not the sender's. */
static MQTTProperties mqtt_sink_properties(struct mqtt_sink *self, const struct fms_record *record,
                                           struct mqtt_properties *own)
{
    MQTTProperties result = MQTTProperties_initializer;
    uint64_t dropped = 0;

    if (record->header_count == 0)
        return result;
    if (!mqtt_sink_reserve(self, record->header_count + OWN_PROPERTIES)) {
        fms_count(self->host, COUNT_HEADERS, record->header_count);
        return result;
    }
    result.array = self->properties;
    for (size_t i = 0; i < record->header_count; i++) {
        const char *name;
        enum mqtt_place place = mqtt_place_header(&record->headers[i], own, &name);

        if (place == MQTT_AS_USER)
            add_user(&result, name, record->headers[i].value);
        dropped += place == MQTT_NOWHERE;
    }
    add_own(&result, own);
    if (dropped > 0)
        fms_count(self->host, COUNT_HEADERS, dropped);
    return result;
}

/* MQTT-1.5.5 */
static size_t length_size(size_t length)
{
    return length < 128 ? 1 : length < 16384 ? 2 : length < 2097152 ? 3 : 4;
}

/* Of the PUBLISH packet. */
static size_t mqtt_sink_packet_size(struct mqtt_sink *self, const struct place *place, const MQTTProperties *properties)
{
    size_t listed = (size_t)properties->length;
    size_t size = 2 + strlen(place->topic) + (self->mqtt.qos > 0 ? 2 : 0) + place->record->payload.size;

    if (mqtt_link_is_5(self->link))
        size += length_size(listed) + listed;
    return 1 + length_size(size) + size;
}

/* Called with the lock held. Whether a record is to be sent alone, so that what the broker does is its answer to that one. */
static bool mqtt_sink_goes_alone(const struct mqtt_sink *self, const struct place *place)
{
    return self->fruitless >= FRUITLESS_MAX || topics_have(&self->costly_topics, place->topic);
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
        self->unconfirmed++;
        self->unconfirmed_bytes += place->record->payload.size;
        self->next++;
    }
    pthread_mutex_unlock(&self->lock);
    return place;
}

static int mqtt_sink_publish(struct mqtt_sink *self, struct place *place)
{
    MQTTAsync_message message = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    struct fms_bytes payload = place->record->payload;
    struct mqtt_properties own = mqtt_no_properties;
    MQTTProperties properties = MQTTProperties_initializer;

    response.context = place;
    if (mqtt_link_is_5(self->link) || self->forward_retained)
        properties = mqtt_sink_properties(self, place->record, &own);
    if (mqtt_link_is_5(self->link)) {
        message.properties = properties;
        response.onSuccess5 = on_sent_5;
        response.onFailure5 = on_refused_5;
    } else {
        response.onSuccess = on_sent;
    }
    if ((int64_t)mqtt_sink_packet_size(self, place, &message.properties) > mqtt_link_limits(self->link)->packet_size)
        return MQTTREASONCODE_PACKET_TOO_LARGE;
    message.payload = payload.data != NULL ? (void *)(uintptr_t)payload.data : place->topic;
    message.payloadlen = (int)payload.size;
    message.qos = (int)self->mqtt.qos;
    message.retained = self->retain || (self->forward_retained && own.is_retained);
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

    fms_count(self->host, COUNT_CONNECTIONS, 1);
    if (self->online_payload != NULL)
        mqtt_sink_say(self, self->online_payload, ONLINE_PATIENCE);
}

static void mqtt_sink_farewell(void *user)
{
    struct mqtt_sink *self = user;

    if (self->will_topic != NULL)
        mqtt_sink_say(self, self->will_payload, FAREWELL_PATIENCE);
}

/* Called with the lock held. The broker hung up on a record that was sent alone: after some more of that it is rejected. One that
 * comes much later is the network's, or the broker's own end. */
static void mqtt_sink_blame(struct mqtt_sink *self, struct place *place, const char *why)
{
    bool is_known = topics_have(&self->costly_topics, place->topic);

    if (mqtt_clock() - self->progress > self->mqtt.keepalive || (++place->losses < LOSSES_MAX && !is_known))
        return;
    fms_reject(self->host, place->record,
               "the broker does not take it, and the connection ends when it is sent: %s: \"%.200s\"", why,
               place->topic);
    topics_add(&self->costly_topics, place->topic);
    mqtt_sink_free_place(self, place);
}

/* What was under way is to be published again. A connection that confirmed none of it was no good one. */
static bool mqtt_sink_down(void *user, const char *why, char *owed, size_t size)
{
    struct mqtt_sink *self = user;
    uint64_t resent = 0;
    bool is_good;

    pthread_mutex_lock(&self->lock);
    is_good = self->unconfirmed == 0 || self->has_confirmed;
    if (self->unconfirmed > 0)
        snprintf(owed, size, "%zu publications", self->unconfirmed);
    if (!is_good)
        self->fruitless++;
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
    self->unconfirmed = 0;
    self->unconfirmed_bytes = 0;
    self->has_confirmed = self->is_alone = false;
    pthread_mutex_unlock(&self->lock);
    fms_count(self->host, COUNT_RESENT, resent);
    fms_wake(self->host);
    return is_good;
}

/* ----------------------------------------------------------------------------------------------- check, open, close */

static int mqtt_sink_check(void *instance, const struct fms_host *host)
{
    struct mqtt_sink *self = instance;
    const char *error = self->will_topic != NULL ? mqtt_topic_error(self->will_topic, strlen(self->will_topic)) : NULL;

    if (mqtt_check(&self->mqtt, host) != 0)
        return -EINVAL;
    if (error != NULL)
        return fms_fail_option(host, "will_topic", -EINVAL, "%s", error);
    if (self->online_payload != NULL && self->will_topic == NULL)
        return fms_fail_option(host, "online_payload", -EINVAL, "needs will_topic, to which it is published");
    if (self->mqtt.qos == 0)
        fms_advise(host, "qos",
                   "at QoS 0 a record counts as delivered when it is written to the socket; what is under way"
                   " when the connection breaks is lost");
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
    free(self->properties);
    pthread_mutex_destroy(&self->lock);
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
    struct fms_bytes fixed;
    int error;

    self->host = host;
    self->has_fixed_topic = role.has_one_topic = fms_expand(host, self->topic, NULL, &fixed) == 0;
    pthread_mutex_init(&self->lock, NULL);
    self->places = calloc((size_t)self->window, sizeof *self->places);
    for (int64_t i = 0; i < self->window && self->places != NULL; i++)
        self->places[i].sink = self;
    error = self->places != NULL ? mqtt_link_open(&self->link, &self->mqtt, host, &role, false)
                                 : fms_fail(host, -ENOMEM, "out of memory");
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
           .options = mqtt_sink_options, .counters = mqtt_sink_counters, .instance_size = sizeof(struct mqtt_sink),
           .check = mqtt_sink_check, .probe = mqtt_sink_probe, .open = mqtt_sink_open, .close = mqtt_sink_close,
           .sink_write = mqtt_sink_write, .sink_poll = mqtt_sink_poll);
