/* mqtt_source - receives from an MQTT broker, through paho.
 *
 * paho acknowledges a message when its callback returns, and calls back under its one lock, in which nobody else of the
 * process can use MQTT. So the callback hands the record to the pipeline inline and returns. Back-pressure is absence:
 * while a reserve of room is still left, enough for a message of the largest size, the link disconnects, the broker's
 * session keeps what comes, and the link returns when half of the pipeline is free. What arrives between that decision
 * and the disconnect goes into the reserve; then into a parking list of at most PARKED_MAX messages and an eighth of
 * max_in_flight_bytes, for paho is some hundred messages late: as long as they pour in, its receiving thread hardly lets
 * the sending one have the lock. Then a message is held in the callback until there is room, or until the broker must
 * have closed the silent connection (MQTT-3.1.2-24) and so sends it again. Behind sinks whose write is durable nothing
 * is parked: there a message is held until it is settled, and an acknowledged message is a stored one.
 *
 * All state without a lock belongs to the lane, which paho's thread is between fms_enter and fms_leave. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../mqtt_common/mqtt_identity.h"
#include "../mqtt_common/mqtt_link.h"

#define SUBSCRIBE_PATIENCE (10 * FMS_SECOND)
#define HOLD_GRACE         (6 * FMS_SECOND) /* after one and a half keepalives: mosquitto looks every five seconds */
#define RESERVE_MAX        256u             /* records' room at which to disconnect; less in a small pipeline */
#define PARKED_MAX         1000u
#define OWN_IDENTIFIER     1                /* of all our subscriptions */
#define UNSUBSCRIBED       8u               /* filters at once: AWS takes no more */
#define SWEEP_MIN          (2 * FMS_SECOND) /* pause between searches for a subscription, which doubles */
#define SWEEP_MAX          (3600 * FMS_SECOND)
#define BOOKKEEPING        300 /* bytes of a message beyond its own, parked or in the pipeline */

/* A message and its topic, as paho made them; freeing them takes no lock of paho's that is held in callbacks. */
struct parked {
    struct parked *next;
    MQTTAsync_message *message;
    char *topic;
    size_t topic_size;
    int64_t received; /* realtime */
};

struct mqtt_source {
    struct mqtt_options mqtt;
    struct fms_list topic;
    bool clean_start;
    int64_t session_expiry;
    int64_t receive_maximum;
    int64_t max_message_size;
    int retained; /* enum mqtt_retained */
    struct mqtt_identity identity;

    const struct fms_host *host;
    struct mqtt_link *link;

    /* The lane's. */
    size_t capacity, capacity_bytes; /* room of the empty pipeline */
    bool is_paused, is_stopping;
    bool identifies; /* a sink asks who messages are */
    struct parked *parked, **parked_end;
    size_t parked_count, parked_bytes;
    struct mqtt_headers headers; /* scratch */

    atomic_size_t unsettled; /* emitted, and its fate not yet known */
    atomic_bool has_been_down;
    atomic_bool is_watchful; /* what the session kept may bring messages that nobody asked for */
    atomic_bool is_marked;   /* what was asked for has OWN_IDENTIFIER */

    pthread_mutex_t lock; /* guards all that follows; taken after the lane */
    pthread_cond_t moved;
    uint64_t moves;   /* how often there may have come room */
    char *unasked;    /* the topic of such a message; NULL: none */
    int64_t sweep_at; /* when it is looked for, at the earliest */

    /* paho's thread's. */
    unsigned given_up; /* the connection that the broker must have closed while a message was held */

    /* The link's thread's. */
    bool *is_subscribed; /* for each filter */
    bool *was_granted;   /* on an earlier connection, too */
    bool has_told;       /* that it is subscribed; later only what goes wrong is news */
    bool has_session;    /* the broker had granted a subscription */
    unsigned attempt;    /* subscriptions refused in a row */
    int64_t ask_at;      /* for what was refused; 0: at once */
    bool has_been_up;
    bool has_old_session; /* from before this process */
    bool has_kept;        /* the broker has said once that it kept a session */
    bool has_doubted;     /* it has not, and that was told */
    unsigned sweeps;
    size_t asking; /* the filter that the broker has not decided yet on this connection; SIZE_MAX: none */
};

enum {
    COUNT_CONNECTIONS,
    COUNT_PAUSES,
    COUNT_PARKED,
    COUNT_HELD,
    COUNT_DROPPED,
    COUNT_RETAINED,
    COUNT_UNUSABLE,
    COUNT_PROPERTIES,
    COUNT_UNIDENTIFIED
};

static const struct fms_metric mqtt_source_counters[] = {
    [COUNT_CONNECTIONS] = {"connections", "connections made"},
    [COUNT_PAUSES] = {"pauses", "times that it disconnected because the pipeline was full"},
    [COUNT_PARKED] = {"parked", "messages that came after that and were kept beyond max_in_flight"},
    [COUNT_HELD] = {"held", "messages that came when nothing was left but to hold up all MQTT of the process"},
    [COUNT_DROPPED] = {"dropped", "messages that are lost: QoS 0 without room, or the pipeline ended under them"},
    [COUNT_RETAINED] = {"retained_dropped",
                        "retained messages that were not wanted, and that MQTT 3.1.1 sends all the same"},
    [COUNT_UNUSABLE] = {"unusable",
                        "messages of which no record can be made, such as those with a topic that is no UTF-8"},
    [COUNT_PROPERTIES] = {"properties_dropped",
                          "properties with values that MQTT forbids, and user properties beyond the 1000 headers that a"
                          " record can have"},
    [COUNT_UNIDENTIFIED] = {"unidentified", "messages whose properties, or whose `origin` and `sequence`, do not tell"
                                            " their number as they should"},
    {NULL, NULL},
};

enum { GAUGE_PARKED, GAUGE_PARKED_BYTES, GAUGE_PAUSED, GAUGE_SESSION };

static const struct fms_metric mqtt_source_gauges[] = {
    [GAUGE_PARKED] = {"parked_messages", "messages that are kept beyond max_in_flight now"},
    [GAUGE_PARKED_BYTES] = {"parked_bytes", "bytes of these"},
    [GAUGE_PAUSED] = {"paused", "1: it is disconnected because the pipeline is full; 0: it is not"},
    [GAUGE_SESSION] = {"session_present", "1: the broker still had the session when it was last connected to; 0: it"
                                          " had not, and so has kept nothing"},
    {NULL, NULL},
};

/* clang-format off */
static const struct fms_option mqtt_source_options[] = {
    MQTT_OPTIONS(MQTT_SERVER_HELP),
    FMS_OPT_UNIQUE_LIST(struct mqtt_source, topic, FMS_REQUIRED, "MQTT subscription",
                 "topic filters, with + and #; $share/GROUP/FILTER shares the messages with other members of GROUP"),
    FMS_OPT_BOOLEAN(struct mqtt_source, clean_start, "yes",
                    "forget what the broker has kept for this client id; no: it keeps what comes while we are away"),
    FMS_OPT_DURATION(struct mqtt_source, session_expiry, "1d", 0, INT64_C(4294967294) * FMS_SECOND,
                     "how long the broker keeps that (MQTT 5; 3.1.1 leaves it to the broker)"),
    FMS_OPT_INTEGER(struct mqtt_source, receive_maximum, "256", 1, 65535,
                    "most messages that the broker sends ahead of their acknowledgement (MQTT 5)"),
    FMS_OPT_SIZE(struct mqtt_source, max_message_size, "0", 0, 268435455,
                 "largest message, with topic and properties: room for one more is kept, and an MQTT 5 broker drops what"
                 " is larger; 0: an eighth of max_in_flight_bytes, and nothing is dropped"),
    MQTT_RETAINED_OPTION(struct mqtt_source),
    MQTT_IDENTITY_OPTIONS(struct mqtt_source),
    FMS_OPT_END,
};
/* clang-format on */

/* ------------------------------------------------------------------------------------------ records out of messages */

static struct fms_bytes text_of(const MQTTLenString *text)
{
    return fms_bytes_of(text->data != NULL ? text->data : "", (size_t)text->len);
}

static bool is_utf8(struct fms_bytes text)
{
    return mqtt_is_utf8(text.data, text.size);
}

/* Keeps one of MQTT's own. False: a value that MQTT forbids; paho looks at none. */
static bool keep_property(struct mqtt_properties *own, const MQTTProperty *property)
{
    struct fms_bytes text = text_of(&property->value.data); /* where it has one */

    switch (property->identifier) {
    case MQTTPROPERTY_CODE_CONTENT_TYPE:
        if (is_utf8(text))
            own->content_type = text;
        return is_utf8(text);
    case MQTTPROPERTY_CODE_RESPONSE_TOPIC:
        if (mqtt_topic_fault(text) == NULL)
            own->response_topic = text;
        return mqtt_topic_fault(text) == NULL;
    case MQTTPROPERTY_CODE_CORRELATION_DATA:
        own->correlation_data = text;
        return true;
    case MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL:
        own->message_expiry = property->value.integer4;
        return true;
    case MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR:
        if (property->value.byte <= 1)
            own->payload_format = property->value.byte;
        return property->value.byte <= 1;
    default:
        return true;
    }
}

/* The record's headers. NULL, or why no record can be made of the message; *dropped counts properties that are left out. On the
 * lane. */
static const char *mqtt_source_headers(struct mqtt_source *self, const MQTTAsync_message *message, size_t *dropped)
{
    const MQTTProperties *properties = &message->properties;
    struct mqtt_properties own = mqtt_no_properties;
    size_t names = 0, count = 0;

    own.is_retained = message->retained != 0;
    for (int i = 0; i < properties->count; i++) {
        const MQTTProperty *item = &properties->array[i];

        if (item->identifier != MQTTPROPERTY_CODE_USER_PROPERTY) {
            *dropped += !keep_property(&own, item);
            continue;
        }
        if (!is_utf8(text_of(&item->value.data)))
            return "the name of a user property is no UTF-8, or holds NUL";
        names += (size_t)item->value.data.len;
        count++;
    }
    if (!mqtt_headers_begin(&self->headers, &own, count, names))
        return "there is no memory for its headers";
    for (int i = 0; i < properties->count && count > 0; i++) {
        const MQTTProperty *item = &properties->array[i];
        struct fms_bytes name = text_of(&item->value.data), value = text_of(&item->value.value);

        if (item->identifier == MQTTPROPERTY_CODE_USER_PROPERTY &&
            !(self->identifies && mqtt_identity_meet(&self->identity, name, value)))
            mqtt_headers_add(&self->headers, name, value);
    }
    *dropped += self->headers.left_out;
    return NULL;
}

/* A message that cannot become a good record goes to the dead letters. As fms_emit. */
static int mqtt_source_reject(struct mqtt_source *self, const struct fms_record *draft, const char *fault)
{
    char topic[MQTT_SHOWN_SIZE];
    int error = fms_emit_rejected(self->host, draft, "%s (MQTT PUBLISH on \"%s\")", fault,
                                  mqtt_show(draft->topic, topic));

    if (error == 0)
        fms_count(self->host, COUNT_UNUSABLE, 1);
    return error;
}

/* On the lane. As fms_emit. */
static int mqtt_source_emit(struct mqtt_source *self, const struct parked *item)
{
    const MQTTAsync_message *message = item->message;
    struct fms_record draft = {
        .topic = fms_bytes_of(item->topic, item->topic_size),
        .payload = fms_bytes_of(message->payloadlen > 0 ? message->payload : "", (size_t)message->payloadlen),
        .timestamp = item->received,
    };
    const char *fault = mqtt_topic_fault(draft.topic), *why = NULL;
    struct fms_identity identity;
    size_t dropped = 0;
    int error;

    if (self->identifies)
        mqtt_identity_begin(&self->identity);
    if (fault == NULL && (message->properties.count > 0 || message->retained)) {
        fault = mqtt_source_headers(self, message, &dropped);
        draft.headers = fault == NULL ? self->headers.items : NULL;
        draft.header_count = fault == NULL ? self->headers.count : 0;
    }
    if (self->identifies && mqtt_identity_find(&self->identity, self->host, &draft, &self->headers, &identity, &why))
        draft.identity = &identity;
    atomic_fetch_add(&self->unsettled, 1); /* before: its fate may be known when fms_emit returns */
    error = fault != NULL ? mqtt_source_reject(self, &draft, fault) : fms_emit(self->host, &draft);
    if (error != 0)
        atomic_fetch_sub(&self->unsettled, 1);
    else if (dropped > 0)
        fms_count(self->host, COUNT_PROPERTIES, dropped);
    if (error == 0 && draft.header_count > 0 && self->headers.left_out > 0)
        mqtt_tell_left_out(self->host, draft.topic, self->headers.left_out);
    if (error == 0 && why != NULL) {
        fms_count(self->host, COUNT_UNIDENTIFIED, 1);
        mqtt_identity_tell(self->host, draft.topic, why);
    }
    return error;
}

static void message_free(struct parked *item)
{
    MQTTAsync_freeMessage(&item->message);
    MQTTAsync_free(item->topic);
}

/* ------------------------------------------------------------------------------------------------ room: on the lane */

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Disconnects when there is no room for a largest message beyond the reserve, or when it must, and returns when half of
 * the pipeline is free. */
static void mqtt_source_regulate(struct mqtt_source *self, bool must_pause)
{
    size_t records, bytes, reserve, largest;
    bool is_low, is_high;

    fms_room(self->host, &records, &bytes);
    if (records > self->capacity)
        self->capacity = records;
    if (bytes > self->capacity_bytes)
        self->capacity_bytes = bytes;
    reserve = least_of(self->capacity / 4, RESERVE_MAX);
    largest = self->max_message_size > 0 ? (size_t)self->max_message_size + BOOKKEEPING : self->capacity_bytes / 8;
    largest = least_of(largest, self->capacity_bytes);
    is_low = must_pause || self->parked != NULL || records <= reserve || bytes < largest;
    is_high = self->parked == NULL && records >= self->capacity - self->capacity / 2 &&
              bytes >= least_of(2 * largest, self->capacity_bytes) &&
              (!self->host->durable_sinks || atomic_load(&self->unsettled) == 0);
    if (self->is_paused ? !is_high : !is_low)
        return;
    self->is_paused = !self->is_paused;
    if (self->is_paused)
        fms_count(self->host, COUNT_PAUSES, 1);
    fms_debug(self->host,
              self->is_paused ? "the pipeline is full: the broker keeps the messages" : "the pipeline has room again");
    mqtt_link_pause(self->link, self->is_paused);
}

static size_t parked_size(const struct parked *item)
{
    return BOOKKEEPING + item->topic_size + (size_t)item->message->payloadlen +
           (size_t)item->message->properties.length;
}

static void mqtt_source_unpark(struct mqtt_source *self)
{
    struct parked *item = self->parked;

    self->parked = item->next;
    if (self->parked == NULL)
        self->parked_end = &self->parked;
    self->parked_count--;
    self->parked_bytes -= parked_size(item);
    message_free(item);
    free(item);
}

/* False: no room there either. */
static bool mqtt_source_park(struct mqtt_source *self, const struct parked *item)
{
    struct parked *copy;

    if (self->host->durable_sinks || self->parked_count == PARKED_MAX ||
        self->parked_bytes + parked_size(item) > self->capacity_bytes / 8 || (copy = malloc(sizeof *copy)) == NULL)
        return false;
    *copy = *item;
    copy->next = NULL;
    *self->parked_end = copy;
    self->parked_end = &copy->next;
    self->parked_count++;
    self->parked_bytes += parked_size(item);
    fms_count(self->host, COUNT_PARKED, 1);
    return true;
}

/* --------------------------------------------------------------------------------------- messages: on paho's thread */

enum taking { TAKEN, PARKED, NO_ROOM, ENDED, COMES_AGAIN };

/* Enters the lane with a message. */
static enum taking mqtt_source_take(struct mqtt_source *self, const struct parked *item)
{
    enum taking result = TAKEN;
    int error;

    fms_enter(self->host);
    error = self->parked == NULL ? mqtt_source_emit(self, item) : -EAGAIN;
    if (error == -EAGAIN)
        result = mqtt_source_park(self, item) ? PARKED : NO_ROOM;
    else if (error == -ESHUTDOWN)
        result = ENDED;
    mqtt_source_regulate(self, result == NO_ROOM);
    fms_leave(self->host);
    return result;
}

/* Waits until there may be room. False: the deadline has come. */
static bool mqtt_source_wait(struct mqtt_source *self, uint64_t moves, int64_t deadline)
{
    struct timespec until = {(time_t)(deadline / FMS_SECOND), (long)(deadline % FMS_SECOND)};
    int error = 0;

    pthread_mutex_lock(&self->lock);
    while (self->moves == moves && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&self->moved, &self->lock, &until);
    pthread_mutex_unlock(&self->lock);
    return error != ETIMEDOUT;
}

static uint64_t mqtt_source_moves(struct mqtt_source *self)
{
    uint64_t moves;

    pthread_mutex_lock(&self->lock);
    moves = self->moves;
    pthread_mutex_unlock(&self->lock);
    return moves;
}

/* Whether paho may acknowledge. Behind durable sinks: not before the record is settled. QoS 0 is not worth a wait. */
static bool mqtt_source_is_safe(struct mqtt_source *self, int qos, enum taking taking)
{
    if (qos == 0 || taking == COMES_AGAIN)
        return true;
    return self->host->durable_sinks ? taking == TAKEN && atomic_load(&self->unsettled) == 0 : taking != NO_ROOM;
}

/* Waits, with all of paho, until the message is safe. On a connection that the broker must have closed meanwhile an
 * acknowledgement does no harm. */
static enum taking mqtt_source_hold(struct mqtt_source *self, const struct parked *item, int qos, enum taking taking)
{
    int64_t deadline = mqtt_clock() + self->mqtt.keepalive * 3 / 2 + HOLD_GRACE; /* we said nothing since before now */
    uint64_t moves;

    fms_count(self->host, COUNT_HELD, 1);
    fms_enter(self->host);
    mqtt_source_regulate(self, true);
    fms_leave(self->host);
    for (;;) {
        moves = mqtt_source_moves(self);
        if (taking == NO_ROOM)
            taking = mqtt_source_take(self, item);
        if (mqtt_source_is_safe(self, qos, taking))
            return taking;
        if (!mqtt_source_wait(self, moves, deadline))
            break;
    }
    fms_warn(self->host,
             "a message could not be taken for %.1f s: the broker, which has closed the connection by now, sends"
             " it again",
             (1.5 * (double)self->mqtt.keepalive + (double)HOLD_GRACE) / (double)FMS_SECOND);
    return COMES_AGAIN;
}

/* What the broker of MQTT 3.1.1 was not asked for, because it cannot be asked. Where it has kept the session, and after the first
 * connection, nothing tells a subscription that is new to it from one that it has had. */
static bool mqtt_source_is_wanted(const struct mqtt_source *self, const MQTTAsync_message *message)
{
    if (!message->retained || self->retained == MQTT_RETAINED_ALL)
        return true;
    return self->retained == MQTT_RETAINED_NEW &&
           (mqtt_link_is_5(self->link) ||
            (!atomic_load(&self->has_been_down) && !mqtt_link_limits(self->link)->session_present));
}

static bool mqtt_source_matches(const struct mqtt_source *self, struct fms_bytes topic)
{
    for (size_t i = 0; i < self->topic.count; i++) {
        if (mqtt_filter_matches(mqtt_filter_unshared(self->topic.items[i]), topic))
            return true;
    }
    return false;
}

/* Whether a message came by a subscription of ours, as far as can be told. */
static bool mqtt_source_is_asked_for(const struct mqtt_source *self, const struct parked *item)
{
    if (atomic_load(&self->is_marked))
        return MQTTProperties_hasProperty(&item->message->properties, MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER) != 0;
    return mqtt_source_matches(self, fms_bytes_of(item->topic, item->topic_size));
}

/* Leaves the link's thread a note to look for the subscription by which it came. What is no topic is in no filter: paho would not
 * send it, and the connection would be given up. */
static void mqtt_source_suspect(struct mqtt_source *self, const struct parked *item)
{
    bool is_news = false;

    if (mqtt_topic_fault(fms_bytes_of(item->topic, item->topic_size)) != NULL)
        return;
    pthread_mutex_lock(&self->lock);
    if (self->unasked == NULL && mqtt_clock() >= self->sweep_at)
        is_news = (self->unasked = strndup(item->topic, item->topic_size)) != NULL;
    pthread_mutex_unlock(&self->lock);
    if (is_news)
        mqtt_link_kick(self->link);
}

static void mqtt_source_arrived(void *user, unsigned connection, char *topic, size_t topic_size,
                                MQTTAsync_message *message)
{
    struct mqtt_source *self = user;
    struct parked item = {NULL, message, topic, topic_size, fms_realtime(self->host)};
    int qos = message->qos; /* once parked, the message is the lane's, which may have freed it */
    enum taking taking = COMES_AGAIN;

    if (atomic_load(&self->is_watchful) && !mqtt_source_is_asked_for(self, &item))
        mqtt_source_suspect(self, &item);
    if (!mqtt_source_is_wanted(self, message)) {
        fms_count(self->host, COUNT_RETAINED, 1);
        message_free(&item);
        return;
    }
    if (connection != self->given_up)
        taking = mqtt_source_take(self, &item);
    if (!mqtt_source_is_safe(self, qos, taking))
        taking = mqtt_source_hold(self, &item, qos, taking);
    if (taking == COMES_AGAIN)
        self->given_up = connection;
    if (taking == ENDED || (qos == 0 && taking != TAKEN && taking != PARKED))
        fms_count(self->host, COUNT_DROPPED, 1);
    if (taking != PARKED)
        message_free(&item);
}

/* ----------------------------------------------------------------------------------- subscribing: the link's thread */

static bool mqtt_source_subscribe(struct mqtt_source *self, size_t i)
{
    const char *filter = self->topic.items[i];
    bool is_known = self->was_granted[i] && mqtt_link_limits(self->link)->session_present; /* nothing comes twice */
    enum mqtt_retained retained = is_known && self->retained == MQTT_RETAINED_ALL ? MQTT_RETAINED_NEW
                                                                                  : (enum mqtt_retained)self->retained;
    char reason[128];
    int granted = mqtt_link_subscribe(self->link, filter, (int)self->mqtt.qos, retained,
                                      atomic_load(&self->is_marked) ? OWN_IDENTIFIER : 0, SUBSCRIBE_PATIENCE, reason,
                                      sizeof reason);

    self->asking = granted >= 0 || granted == -EACCES ? SIZE_MAX : i;
    if (granted == -EACCES) {
        fms_error(self->host,
                  "the broker refuses the subscription to \"%s\": %s; asking again until it is granted (may"
                  " this user read that?)",
                  filter, reason);
        fms_link_down(self->host, "the broker refuses the subscription to \"%.100s\": %s", filter, reason);
    } else if (granted >= 0 && granted < self->mqtt.qos)
        fms_warn(self->host, "the broker grants \"%s\" only QoS %d, not %lld", filter, granted,
                 (long long)self->mqtt.qos);
    if (granted >= 0)
        fms_debug(self->host, "subscribed to \"%s\"", filter);
    self->is_subscribed[i] = granted >= 0;
    self->was_granted[i] = self->was_granted[i] || granted >= 0;
    self->has_session = self->has_session || granted >= 0;
    return granted >= 0;
}

/* Some brokers never say that they have kept a session, and have. */
static void mqtt_source_tell_session(struct mqtt_source *self, bool is_present)
{
    bool has_memory = !self->clean_start || mqtt_link_is_5(self->link);

    if (is_present)
        self->has_kept = true;
    if (is_present || !has_memory || !self->has_session)
        return;
    if (self->has_kept)
        fms_warn(self->host, "the broker does not have our session any more: what was published while we were away is"
                             " lost");
    else if (!self->has_doubted)
        fms_info(self->host,
                 "the broker does not say that it has kept our session: if it has not, what was published while"
                 " we were away is lost");
    self->has_doubted = true;
}

static void mqtt_source_up(void *user)
{
    struct mqtt_source *self = user;
    const struct mqtt_limits *limits = mqtt_link_limits(self->link);

    self->has_old_session = limits->session_present && (self->has_old_session || !self->has_been_up);
    self->has_been_up = true;
    atomic_store(&self->is_watchful, false); /* until all is asked for */
    atomic_store(&self->is_marked, self->has_old_session && limits->has_identifiers);
    mqtt_source_tell_session(self, limits->session_present);
    memset(self->is_subscribed, 0, self->topic.count * sizeof *self->is_subscribed);
    self->asking = 0;
    self->ask_at = 0;
    fms_count(self->host, COUNT_CONNECTIONS, 1);
    fms_gauge(self->host, GAUGE_SESSION, limits->session_present);
}

static enum mqtt_end mqtt_source_down(void *user, const char *why, char *owed, size_t size)
{
    struct mqtt_source *self = user;

    (void)why;
    atomic_store(&self->has_been_down, true);
    if (self->asking == SIZE_MAX)
        return MQTT_END_GOOD;
    snprintf(owed, size, "SUBSCRIBE to \"%.80s\"", self->topic.items[self->asking]);
    return MQTT_END_FRUITLESS;
}

/* False: one was refused, or the connection was lost. */
static bool mqtt_source_subscribe_all(struct mqtt_source *self)
{
    bool all = true;

    for (size_t i = 0; i < self->topic.count; i++) {
        if (!self->is_subscribed[i] && !mqtt_source_subscribe(self, i))
            all = false;
        if (self->asking != SIZE_MAX)
            return false;
    }
    return all;
}

/* Unsubscribes from all by which a message with that topic can have come, and says from what; unless that is none, for it may
 * have been under way when its subscription ended, or before it had our identifier. */
static void mqtt_source_unsubscribe(struct mqtt_source *self, const char *topic)
{
    bool was_there[UNSUBSCRIBED], is_named = false;
    char **filters, reason[128];
    size_t count = mqtt_filters_of(fms_text(topic), &self->topic, &filters), n;
    int error = 0;

    for (size_t i = 0; i < count && error == 0; i += n) {
        n = least_of(UNSUBSCRIBED, count - i);
        error = mqtt_link_unsubscribe(self->link, filters + i, n, was_there, SUBSCRIBE_PATIENCE, reason, sizeof reason);
        for (size_t j = 0; j < n && error == 0; j++) {
            if (was_there[j])
                fms_warn(self->host,
                         "the session that the broker kept had a subscription to %s, which is not asked for and has"
                         " ended now: \"%.200s\" came by it",
                         filters[i + j], topic);
            is_named = is_named || was_there[j];
        }
    }
    free(filters);
    if (error != 0 && error != -ENOTCONN)
        fms_warn(self->host, "the broker does not end a subscription that is not asked for: %s", reason);
    else if (count == 0 && !mqtt_source_matches(self, fms_text(topic)))
        fms_warn(
            self->host,
            "\"%.200s\" came by a subscription of the session that the broker kept, which is not asked for; which one"
            " cannot be told: clean_start = yes ends it, once",
            topic);
    else if (!mqtt_link_is_5(self->link))
        fms_warn(
            self->host,
            "the session that the broker kept has a subscription that is not asked for: \"%.200s\" came, and all that"
            " it can have come by has ended now",
            topic);
    else if (!is_named)
        fms_debug(self->host, "\"%.200s\" came by a subscription that is not there any more", topic);
}

/* Looks for a subscription that is not asked for, if a message came by one. */
static void mqtt_source_sweep(struct mqtt_source *self)
{
    char *topic;

    pthread_mutex_lock(&self->lock);
    topic = self->unasked;
    pthread_mutex_unlock(&self->lock);
    if (topic == NULL)
        return;
    mqtt_source_unsubscribe(self, topic);
    pthread_mutex_lock(&self->lock);
    self->unasked = NULL;
    self->sweep_at = mqtt_clock() + (self->sweeps < 11 ? SWEEP_MIN << self->sweeps : SWEEP_MAX);
    pthread_mutex_unlock(&self->lock);
    self->sweeps++;
    free(topic);
}

static int64_t mqtt_source_work(void *user)
{
    struct mqtt_source *self = user;
    bool is_due = mqtt_clock() >= self->ask_at, all = is_due && mqtt_source_subscribe_all(self);

    if (self->asking == SIZE_MAX) { /* all have an answer, if only a refusal */
        atomic_store(&self->is_watchful, self->has_old_session);
        mqtt_source_sweep(self);
    }
    if (!is_due)
        return self->ask_at;
    if (all && !self->has_told)
        fms_info(self->host, "receives %s%s", self->topic.items[0], self->topic.count > 1 ? " and others" : "");
    self->has_told = self->has_told || all;
    if (all)
        fms_link_up(self->host);
    self->attempt = all ? 0 : self->attempt + 1;
    self->ask_at = all ? 0
                       : mqtt_clock() + fms_backoff(self->host, self->mqtt.reconnect_min, self->mqtt.reconnect_max,
                                                    self->attempt - 1);
    return all ? FMS_NEVER : self->ask_at;
}

/* --------------------------------------------------------------------------------------------------------- the lane */

static void mqtt_source_signal(struct mqtt_source *self)
{
    pthread_mutex_lock(&self->lock);
    self->moves++;
    pthread_cond_broadcast(&self->moved);
    pthread_mutex_unlock(&self->lock);
}

static int mqtt_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct mqtt_source *self = instance;
    int error;

    (void)wait; /* paho's threads wait */
    while (self->parked != NULL && (credit > 0 || self->is_stopping)) {
        error = mqtt_source_emit(self, self->parked);
        if (error == -EAGAIN)
            break;
        if (error != 0)
            fms_count(self->host, COUNT_DROPPED, 1);
        mqtt_source_unpark(self);
        credit -= credit > 0;
    }
    mqtt_source_regulate(self, false);
    mqtt_source_signal(self);
    return self->is_stopping && self->parked == NULL && mqtt_link_has_ended(self->link) ? FMS_END : 0;
}

static void mqtt_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct mqtt_source *self = instance;

    (void)record;
    (void)fate; /* paho has acknowledged it, or waits for it in mqtt_source_hold */
    atomic_fetch_sub(&self->unsettled, 1);
    if (self->host->durable_sinks)
        mqtt_source_signal(self);
    if (self->is_paused || self->parked != NULL)
        fms_wake(self->host);
}

static void mqtt_source_stop(void *instance)
{
    struct mqtt_source *self = instance;

    self->is_stopping = true;
    mqtt_link_stop(self->link);
}

static void mqtt_source_measure(void *instance)
{
    struct mqtt_source *self = instance;

    fms_gauge(self->host, GAUGE_PARKED, (double)self->parked_count);
    fms_gauge(self->host, GAUGE_PARKED_BYTES, (double)self->parked_bytes);
    fms_gauge(self->host, GAUGE_PAUSED, self->is_paused);
}

/* ----------------------------------------------------------------------------------------------- check, open, close */

static void mqtt_source_advise(struct mqtt_source *self, const struct fms_host *host)
{
    const struct mqtt_options *mqtt = &self->mqtt;

    mqtt_advise_session(mqtt, self->clean_start, self->session_expiry, host);
    if (self->clean_start && mqtt->qos > 0 && mqtt->version == MQTT_3_1_1)
        fms_advise(host, "clean_start",
                   "with MQTT 3.1.1 the broker also forgets us while we are disconnected because the pipeline is full");
    if (mqtt->qos == 2 && mqtt->version == MQTT_3_1_1)
        fms_advise(host, "qos",
                   "with MQTT 3.1.1 paho confirms a QoS 2 message before we see it, so a stop can lose one: use"
                   " qos = 1 or version = 5");
}

static int mqtt_source_check(void *instance, const struct fms_host *host)
{
    struct mqtt_source *self = instance;

    if (mqtt_check(&self->mqtt, host) != 0 || mqtt_check_filters(&self->topic, host) != 0)
        return -EINVAL;
    if (mqtt_identity_check(&self->identity, &self->mqtt, host) != 0)
        return -EINVAL;
    mqtt_source_advise(self, host);
    mqtt_identity_promise(&self->identity, &self->mqtt,
                          mqtt_keeps_session(&self->mqtt, self->clean_start, self->session_expiry), host);
    if (!host->durable_sinks && self->mqtt.qos > 0)
        fms_promise(host, NULL, FMS_AT_MOST_ONCE,
                    "a message is acknowledged before it is delivered, so that a crash loses what is in flight: use"
                    " mqtt_ingest");
    if (!host->durable_sinks && self->mqtt.qos > 0)
        fms_info(
            host,
            "a message is acknowledged when it is in the pipeline, before it is delivered: a crash loses what is in"
            " flight, at most max_in_flight records and %u that came when it was full",
            PARKED_MAX);
    return 0;
}

/* Subscribes too. Not to a shared subscription, which would take messages from those who share. */
static int mqtt_source_probe_topics(void *user, struct mqtt_link *link)
{
    struct mqtt_source *self = user;
    char reason[128];
    int error = 0;

    for (size_t i = 0; i < self->topic.count; i++) {
        const char *filter = self->topic.items[i];
        int granted = mqtt_link_subscribe(link, mqtt_filter_unshared(filter), (int)self->mqtt.qos, MQTT_RETAINED_NONE,
                                          0, SUBSCRIBE_PATIENCE, reason, sizeof reason);

        if (granted >= 0)
            fms_report(self->host, "topic \"%s\" is granted, with QoS %d", filter, granted);
        else
            error = fms_fail(self->host, granted, "topic \"%s\": %s", filter, reason);
    }
    return error;
}

static int mqtt_source_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct mqtt_source *self = instance;

    self->host = host;
    return mqtt_probe(&self->mqtt, host, deadline, mqtt_source_probe_topics, self);
}

static void mqtt_source_free(struct mqtt_source *self)
{
    while (self->parked != NULL)
        mqtt_source_unpark(self);
    free(self->unasked);
    free(self->is_subscribed);
    free(self->was_granted);
    mqtt_headers_free(&self->headers);
    mqtt_identity_free(&self->identity);
    pthread_cond_destroy(&self->moved);
    pthread_mutex_destroy(&self->lock);
}

static int mqtt_source_open(void *instance, const struct fms_host *host)
{
    struct mqtt_source *self = instance;
    struct mqtt_role role = {
        .clean_start = self->clean_start,
        .session_expiry = (uint32_t)(self->session_expiry / FMS_SECOND),
        .receive_maximum = (int)self->receive_maximum,
        .packet_maximum = (uint32_t)self->max_message_size,
        .keep_handle = self->mqtt.qos == 2,
        .user = self,
        .up = mqtt_source_up,
        .work = mqtt_source_work,
        .down = mqtt_source_down,
        .arrived = mqtt_source_arrived,
    };
    pthread_condattr_t attributes;
    int error;

    self->host = host;
    self->parked_end = &self->parked;
    self->is_paused = true; /* until the lane runs and knows its room */
    self->identifies = mqtt_identity_is_wanted(&self->identity, &self->mqtt, false, host);
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    self->is_subscribed = calloc(self->topic.count, sizeof *self->is_subscribed);
    self->was_granted = calloc(self->topic.count, sizeof *self->was_granted);
    error = self->is_subscribed != NULL && self->was_granted != NULL
                ? mqtt_link_open(&self->link, &self->mqtt, host, &role, true)
                : fms_fail(host, -ENOMEM, "out of memory");
    if (error != 0)
        mqtt_source_free(self);
    return error;
}

static void mqtt_source_close(void *instance)
{
    struct mqtt_source *self = instance;
    size_t lost = 0;

    mqtt_link_close(self->link);
    for (const struct parked *item = self->parked; item != NULL; item = item->next)
        lost++;
    if (lost > 0)
        fms_warn(self->host,
                 "%zu messages are lost: they were acknowledged, and the pipeline ended before it had room for"
                 " them",
                 lost);
    mqtt_source_free(self);
}

FMS_PLUGIN(.name = "mqtt_source", .version = FMS_VERSION, .summary = "Receives records from an MQTT broker",
           .options = mqtt_source_options, .counters = mqtt_source_counters, .gauges = mqtt_source_gauges,
           .traits = FMS_TRAIT_LINK, .instance_size = sizeof(struct mqtt_source), .check = mqtt_source_check,
           .probe = mqtt_source_probe, .open = mqtt_source_open, .close = mqtt_source_close,
           .source_poll = mqtt_source_poll, .source_settled = mqtt_source_settled, .source_stop = mqtt_source_stop,
           .measure = mqtt_source_measure);
