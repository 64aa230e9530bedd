/* mqtt_ingest - receives from an MQTT broker at wire speed, and acknowledges a message when it is delivered.
 *
 * Bytes are read in large pieces and parsed where they lie; the payload is copied once, into the record. A message stays
 * unacknowledged at the broker until its record is settled, so nothing is at risk here: what a crash takes, the broker
 * sends again. With MQTT 5 the window of unacknowledged messages is no larger than the pipeline, so that the broker stops
 * by itself when the pipeline is full; otherwise the socket is not read until there is room.
 *
 * packet.[ch] knows the bytes, session.[ch] what MQTT demands, transport.[ch] TCP and TLS; here they meet the pipeline, all
 * on its lane. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mqtt_common/mqtt_identity.h"
#include "mqtt_print.h"
#include "mqtt_redelivery.h"
#include "mqtt_session.h"
#include "mqtt_transport.h"

#define BUFFER_SIZE     (256u * 1024u)    /* what is read at once; larger only for a message that needs it */
#define FLIGHTS_MAX     (1u << 24)        /* not acknowledged: 64 MiB, should a broker go so far */
#define NAMES_KEPT      65536u            /* bytes of headers' names */
#define PART_PATIENCE   FMS_SECOND        /* with a broker that does not hang up */
#define PROVED_AFTER    (30 * FMS_SECOND) /* a connection that has lasted so long, all subscriptions answered, is good */
#define SETTLE_PATIENCE (5 * FMS_SECOND)  /* with sinks, before a connection is given up */
#define PAUSE_PART      8                 /* of the time until a message is settled: a pause between reads */
#define PAUSE_MOST      (500 * FMS_US)
#define PAUSE_LEAST     (50 * FMS_US) /* less would not be worth a timer */
#define PAUSE_BYTES     (16 * 1024)   /* where so many come in a pause, there is none: these are no small pieces */
#define SAMPLES         8             /* over which that time is averaged */

enum link { LINK_DOWN, LINK_CONNECTING, LINK_UP, LINK_SETTLING, LINK_PARTING };

struct mqtt_ingest {
    struct mqtt_options mqtt;
    struct fms_list topic;
    int64_t session_expiry;
    int64_t receive_maximum;
    int64_t max_message_size;
    int64_t topic_alias_maximum;
    const char *alpn;
    int retained; /* enum mqtt_retained */
    bool clean_start;
    bool redelivery;
    struct mqtt_identity identity;

    bool is_stopping;
    bool is_held; /* a message at the buffer's front found no room */
    const struct fms_host *host;
    char client_id[MQTT_CLIENT_ID_SIZE]; /* the generated one */
    struct mqtt_transport *transport;
    struct mqtt_session *session;

    int64_t link_at;    /* the next attempt to connect; since when it is up */
    int64_t part_until; /* LINK_SETTLING, LINK_PARTING */
    int64_t last_pause;
    int64_t down_since;
    enum link link;
    struct mqtt_rival rival;
    unsigned attempt;
    unsigned fleeting;     /* connections in a row that did not prove good */
    bool is_up, is_proved; /* this connection: CONNACK has come; it has proved good */
    bool is_reconnecting;  /* since a loss that was logged, or a first attempt that failed */
    bool has_connected;    /* ever */
    bool has_spoken_5;     /* ever, with a broker that answered */
    bool is_guess;         /* 3.1.1 is spoken because MQTT 5 was met with silence */
    bool has_told_version; /* that another is tried, since the last connection */

    bool knows_session; /* the broker has said that it had our session */
    bool has_doubted;   /* whether it ever says so */
    bool has_session;   /* the broker had granted a subscription */
    bool has_told;      /* that it is subscribed */
    unsigned refusals;  /* in a row */
    int64_t ask_at;     /* to ask again; FMS_NEVER */
    struct mqtt_session_limits told_limits;
    char why[640];  /* room for down_reason */
    char told[640]; /* the reason of the last attempt that failed */

    uint8_t *buffer;
    size_t buffer_size, start, end; /* what was read and not used up */
    int64_t read_at;                /* realtime: when its end came */
    int64_t heard_at, read_from;    /* the last read; the next one, not before */
    uint64_t sampled[2];            /* tag of a message of which it is measured when it is settled */
    int64_t sampled_at;             /* 0: of none */
    int64_t delivery;               /* how long that takes, about */
    size_t unsettled;
    size_t window; /* messages that the broker may send ahead (MQTT 5) */

    struct mqtt_headers headers;

    bool identifies; /* a sink asks who messages are */
    struct mqtt_print *print;
    struct mqtt_redelivery *redelivered; /* NULL: only numbers tell */
};

enum {
    COUNT_CONNECTIONS,
    COUNT_PAUSES,
    COUNT_CUT,
    COUNT_UNUSABLE,
    COUNT_PROPERTIES,
    COUNT_RETAINED,
    COUNT_UNIDENTIFIED
};

static const struct fms_metric mqtt_ingest_counters[] = {
    [COUNT_CONNECTIONS] = {"connections", "connections made"},
    [COUNT_PAUSES] = {"pauses", "times that the broker was not read because the pipeline was full"},
    [COUNT_CUT] = {"cut", "messages larger than the pipeline, whose payload was passed over"},
    [COUNT_UNUSABLE] = {"unusable",
                        "messages of which no record can be made, such as those with a topic that is no UTF-8"},
    [COUNT_PROPERTIES] = {"properties_dropped",
                          "properties with values that MQTT forbids, and user properties beyond the 1000 headers that a"
                          " record can have"},
    [COUNT_RETAINED] = {"retained_dropped",
                        "retained messages that were not wanted, and that MQTT 3.1.1 sends all the same"},
    [COUNT_UNIDENTIFIED] = {"unidentified", "messages whose properties, or whose `origin` and `sequence`, do not tell"
                                            " their number as they should"},
    {NULL, NULL},
};

enum { GAUGE_UNACKNOWLEDGED, GAUGE_WINDOW, GAUGE_BUFFER, GAUGE_SESSION };

static const struct fms_metric mqtt_ingest_gauges[] = {
    [GAUGE_UNACKNOWLEDGED] = {"unacknowledged_messages", "messages of this connection that are not acknowledged yet"},
    [GAUGE_WINDOW] = {"unacknowledged_limit_messages",
                      "as many the broker sends ahead; 0: MQTT 3.1.1 has no such limit"},
    [GAUGE_BUFFER] = {"buffer_bytes", "bytes that were read and wait for room in the pipeline"},
    [GAUGE_SESSION] = {"session_present", "1: the broker still had the session when it was last connected to; 0: it"
                                          " had not, and so has kept nothing"},
    {NULL, NULL},
};

enum { DURATION_ROUND_TRIP };

static const struct fms_metric mqtt_ingest_durations[] = {
    [DURATION_ROUND_TRIP] = {"round_trip_seconds", "from PINGREQ, which is sent when nothing else is, to PINGRESP"},
    {NULL, NULL},
};

/* clang-format off */
static const struct fms_option mqtt_ingest_options[] = {
    MQTT_OPTIONS("addresses of the broker, tried in turn: tcp:// or mqtt:// (port 1883), ssl:// or mqtts:// (8883), as in"
                 " tcp://localhost:1883"),
    FMS_OPT_UNIQUE_LIST(struct mqtt_ingest, topic, FMS_REQUIRED, "MQTT subscription",
                 "topic filters, with + and #; $share/GROUP/FILTER shares the messages with other members of GROUP"),
    MQTT_RETAINED_OPTION(struct mqtt_ingest),
    FMS_OPT_BOOLEAN(struct mqtt_ingest, clean_start, "yes",
                    "forget what the broker has kept for this client id; no: it keeps what comes while we are away"),
    FMS_OPT_DURATION(struct mqtt_ingest, session_expiry, "1d", 0, INT64_C(4294967294) * FMS_SECOND,
                     "how long the broker keeps that (MQTT 5; 3.1.1 leaves it to the broker)"),
    FMS_OPT_INTEGER(struct mqtt_ingest, receive_maximum, "65535", 1, 65535,
                    "most messages that the broker sends ahead of their acknowledgement (MQTT 5); never more than"
                    " max_in_flight"),
    FMS_OPT_SIZE(struct mqtt_ingest, max_message_size, "0", 0, 268435455,
                 "largest message, with topic and properties: an MQTT 5 broker drops what is larger; 0: nothing is"
                 " dropped"),
    FMS_OPT_INTEGER(struct mqtt_ingest, topic_alias_maximum, "0", 0, 65535,
                    "most topic aliases that the broker may use (MQTT 5)"),
    FMS_OPT_STRING(struct mqtt_ingest, alpn, NULL,
                   "protocol to ask for in TLS (ALPN), as brokers behind a shared port want it: mqtt, x-amzn-mqtt-ca"),
    MQTT_IDENTITY_OPTIONS(struct mqtt_ingest),
    FMS_OPT_BOOLEAN(struct mqtt_ingest, redelivery, "no",
                    "know messages without a number by packet identifier and content when the broker sends them again, for"
                    " sinks that deliver each message once; only where no two messages say the same, byte for byte"),
    FMS_OPT_END,
};
/* clang-format on */

/* ------------------------------------------------------------------------------------------ records out of messages */

/* What one message with many names needed is not kept for those to come. */
static void ingest_tidy(struct mqtt_ingest *self)
{
    if (self->headers.names_room <= NAMES_KEPT)
        return;
    free(self->headers.names);
    self->headers.names = NULL;
    self->headers.names_room = 0;
}

static struct mqtt_properties own_properties(const struct mqtt_session_message *message)
{
    const struct mqtt_packet_properties *said = message->said;
    struct mqtt_properties own = mqtt_no_properties;

    if (mqtt_packet_has(said, PROPERTY_CONTENT_TYPE))
        own.content_type = said->content_type;
    if (mqtt_packet_has(said, PROPERTY_RESPONSE_TOPIC))
        own.response_topic = said->response_topic;
    if (mqtt_packet_has(said, PROPERTY_CORRELATION_DATA))
        own.correlation_data = said->correlation_data;
    if (mqtt_packet_has(said, PROPERTY_MESSAGE_EXPIRY))
        own.message_expiry = said->message_expiry;
    if (mqtt_packet_has(said, PROPERTY_PAYLOAD_FORMAT))
        own.payload_format = said->payload_format;
    own.is_retained = message->is_retained;
    return own;
}

/* Properties become headers. False: no memory. */
static bool ingest_headers(struct mqtt_ingest *self, const struct mqtt_session_message *message,
                           struct fms_record *draft)
{
    const struct mqtt_packet_properties *said = message->said;
    struct mqtt_properties own = own_properties(message);
    struct fms_bytes rest = said->all, name, value;
    bool has_users = said->user_count > 0 && !said->is_unreadable && !said->has_bad_name;

    if (!mqtt_headers_begin(&self->headers, &own, has_users ? said->user_count : 0, said->user_size))
        return false;
    while (has_users && mqtt_packet_next_user(&rest, &name, &value)) {
        if (!self->identifies || !mqtt_identity_meet(&self->identity, name, value))
            mqtt_headers_add(&self->headers, name, value);
    }
    draft->headers = self->headers.items;
    draft->header_count = self->headers.count;
    return true;
}

/* A message that is not all there, or that no record can be made of: it goes to dead letters. As fms_emit, which logs it. */
static int ingest_reject(struct mqtt_ingest *self, const struct mqtt_session_message *message, struct fms_record *draft)
{
    char topic[MQTT_SHOWN_SIZE];
    int error;

    mqtt_show(message->topic, topic);
    if (message->fault == NULL)
        return fms_emit_rejected(
            self->host, draft,
            "its packet of %zu bytes, with a payload of %zu, is larger than max_in_flight_bytes; its"
            " payload is not kept (MQTT PUBLISH on \"%s\")",
            message->size, message->payload.size, topic);
    error = fms_emit_rejected(self->host, draft, "%s (MQTT PUBLISH %u on \"%s\", of %zu bytes%s)", message->fault,
                              (unsigned)(uint16_t)message->tag[1], topic, message->size,
                              message->is_cut ? "; its payload is not kept" : "");
    if (error == 0)
        fms_count(self->host, COUNT_UNUSABLE, 1);
    return error;
}

/* The properties that become headers. */
#define HEADERS                                                                                                        \
    (UINT64_C(1) << PROPERTY_CONTENT_TYPE | UINT64_C(1) << PROPERTY_RESPONSE_TOPIC |                                   \
     UINT64_C(1) << PROPERTY_CORRELATION_DATA | UINT64_C(1) << PROPERTY_MESSAGE_EXPIRY |                               \
     UINT64_C(1) << PROPERTY_PAYLOAD_FORMAT | UINT64_C(1) << PROPERTY_USER)

/* Whether the draft's message is known when it comes again, and how: by its number, or else by what the broker calls it and what it
 * says. *why: what is wrong with its number, or NULL. */
static bool ingest_identify(struct mqtt_ingest *self, const struct mqtt_session_message *message,
                            struct fms_record *draft, struct fms_identity *identity, const char **why)
{
    uint16_t id = (uint16_t)message->tag[1];

    if (mqtt_identity_find(&self->identity, self->host, draft, &self->headers, identity, why))
        return true;
    if (self->redelivered == NULL || message->qos == 0)
        return false;
    *identity = (struct fms_identity){
        .kind = FMS_RESENT,
        .origin = fms_text(self->mqtt.client_id),
        .sequence = id,
        .may_repeat = mqtt_redelivery_may_repeat(self->redelivered, id, mqtt_session_is_marked(self->session)),
    };
    return mqtt_print_make(self->print, message, identity->print);
}

/* As fms_emit. */
static int ingest_emit(struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    struct fms_record draft = {
        .topic = message->topic,
        .payload = message->is_cut ? fms_bytes_of(NULL, 0) : message->payload,
        .timestamp = self->read_at,
        .tag = {message->tag[0], message->tag[1]},
    };
    struct fms_identity identity;
    const char *why = NULL;
    bool has_headers = (message->said->present & HEADERS) != 0 || message->is_retained;
    size_t dropped = message->said->ignored, left_out;
    int error;

    if (self->identifies)
        mqtt_identity_begin(&self->identity);
    if (has_headers && !ingest_headers(self, message, &draft))
        return fms_fail(self->host, -ENOMEM, "no memory for %zu headers", message->said->user_count);
    if (self->identifies && ingest_identify(self, message, &draft, &identity, &why))
        draft.identity = &identity;
    error = message->fault != NULL || message->is_cut ? ingest_reject(self, message, &draft)
                                                      : fms_emit(self->host, &draft);
    left_out = has_headers ? self->headers.left_out : 0;
    dropped += left_out;
    if (error != 0) {
        ingest_tidy(self);
        return error;
    }
    if (left_out > 0)
        mqtt_tell_left_out(self->host, message->topic, left_out);
    ingest_tidy(self);
    self->unsettled++;
    if (message->is_cut)
        fms_count(self->host, COUNT_CUT, 1);
    if (dropped > 0)
        fms_count(self->host, COUNT_PROPERTIES, dropped);
    if (why != NULL) {
        fms_count(self->host, COUNT_UNIDENTIFIED, 1);
        mqtt_identity_tell(self->host, message->topic, why);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ buffer */

/* Room to read more. False: no memory. */
static bool buffer_reserve(struct mqtt_ingest *self)
{
    size_t used = self->end - self->start;
    size_t wanted = mqtt_session_wanted(self->session);
    size_t size = wanted > BUFFER_SIZE ? wanted : BUFFER_SIZE;
    uint8_t *buffer;

    if (self->start > 0) {
        memmove(self->buffer, self->buffer + self->start, used);
        self->start = 0;
        self->end = used;
    }
    if (size == self->buffer_size || (size < self->buffer_size && used > size))
        return true;
    buffer = realloc(self->buffer, size);
    if (buffer == NULL)
        return size < self->buffer_size;
    self->buffer = buffer;
    self->buffer_size = size;
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- the link */

static const char *server_of(const struct mqtt_ingest *self)
{
    return mqtt_transport_server(self->transport)->text;
}

/* A loss, or a first attempt that failed, is told once; further attempts say something only when there is news, and of
 * connections that do not last the log makes fewer and fewer lines. */
static void tell_down(struct mqtt_ingest *self, const char *reason)
{
    fms_link_down(self->host, "%s: %s", server_of(self), reason);
    if (self->is_up && self->fleeting > 0)
        fms_warn(self->host, "the connection to %s does not last: %s; connecting again", server_of(self), reason);
    else if (self->is_up)
        fms_warn(self->host, "connection to %s lost: %s; connecting again", server_of(self), reason);
    else if (!self->is_reconnecting)
        fms_warn(self->host, "cannot connect to %s: %s; trying until it works", server_of(self), reason);
    else if (strcmp(reason, self->told) != 0)
        fms_warn(self->host, "still not connected to %s: %s", server_of(self), reason);
    snprintf(self->told, sizeof self->told, "%s", reason);
    if (!self->is_reconnecting)
        self->down_since = fms_now(self->host);
    self->is_reconnecting = true;
}

/* As mqtt_rival_met. */
static int64_t meet_rival(struct mqtt_ingest *self, int64_t lasted)
{
    bool is_wordless = self->is_up && mqtt_session_unanswered(self->session) == NULL &&
                       mqtt_session_unswept(self->session) == NULL && mqtt_session_reason(self->session)[0] == '\0' &&
                       mqtt_transport_was_closed(self->transport);

    return mqtt_rival_met(&self->rival, &self->mqtt,
                          self->mqtt.client_id != NULL ? self->mqtt.client_id : self->client_id,
                          self->is_up && mqtt_session_was_taken(self->session), is_wordless, lasted, self->host);
}

/* The other version of MQTT is tried where the broker says that it does not know this one; and where it says nothing at all,
 * unless it has spoken MQTT 5 before, for then it is something else that keeps it silent. */
static bool may_speak_another(const struct mqtt_ingest *self)
{
    bool is_ignored = self->link >= LINK_UP && mqtt_session_is_unheard(self->session) &&
                      (mqtt_transport_was_closed(self->transport) || mqtt_session_reason(self->session)[0] != '\0');

    return self->mqtt.version == MQTT_AUTO &&
           (mqtt_session_is_foreign(self->session) || (is_ignored && !self->has_spoken_5));
}

static void speak_another(struct mqtt_ingest *self)
{
    bool is_5 = mqtt_session_version(self->session) == MQTT_PACKET_5;

    self->is_guess = is_5 && !mqtt_session_is_foreign(self->session);
    if (is_5)
        mqtt_transport_stay(self->transport);
    mqtt_session_speak(self->session, is_5 ? MQTT_PACKET_3_1_1 : MQTT_PACKET_5);
    if (!self->has_told_version)
        fms_info(self->host, "tries MQTT %s with %s", is_5 ? "3.1.1" : "5", server_of(self));
    self->has_told_version = true;
}

/* A broker that will not have UNSUBSCRIBE is not worth the connection. */
static void session_over(struct mqtt_ingest *self)
{
    bool was_sweeping = mqtt_session_unswept(self->session) != NULL;

    mqtt_session_end(self->session);
    if (was_sweeping && !mqtt_session_may_sweep(self->session) && !self->is_stopping)
        fms_warn(self->host,
                 "connections have ended instead of an answer to UNSUBSCRIBE, so the broker is not asked again"
                 " to end subscriptions from an earlier start: what they bring goes on coming until"
                 " clean_start = yes, once, ends them");
}

/* Hangs up, and comes back after a pause. `reason` NULL: for good. */
static void link_down(struct mqtt_ingest *self, const char *reason)
{
    int64_t now = fms_now(self->host), lasted = now - self->link_at, rival_pause = 0;

    if (reason != NULL) {
        tell_down(self, reason);
        rival_pause = meet_rival(self, lasted);
        if (may_speak_another(self) || self->is_guess) /* it may have been silent for another reason */
            speak_another(self);
    }
    if (self->is_up && self->is_proved && lasted > self->last_pause) {
        self->attempt = 0;
        mqtt_transport_prove(self->transport);
    }
    if (self->is_up)
        self->fleeting = self->is_proved ? 0 : self->fleeting + 1;
    mqtt_transport_close(self->transport);
    session_over(self);
    self->start = self->end = 0;
    self->is_held = self->is_up = self->is_proved = false;
    self->link = LINK_DOWN;
    self->last_pause = fms_backoff(self->host, self->mqtt.reconnect_min, self->mqtt.reconnect_max, self->attempt++);
    self->link_at = now + (rival_pause > 0 ? rival_pause : self->last_pause);
}

/* Whether this connection has lasted, and told only where others before it have not. */
static void link_prove(struct mqtt_ingest *self, int64_t now)
{
    if (!self->is_up || self->is_proved || now - self->link_at < PROVED_AFTER ||
        mqtt_session_unanswered(self->session) != NULL)
        return;
    self->is_proved = true;
    if (self->fleeting > 1)
        fms_info(self->host, "connected to %s again, and now it lasts: %u connections before did not", server_of(self),
                 self->fleeting);
    self->fleeting = 0;
    self->is_reconnecting = false;
}

/* Sends what is to be sent, as far as the socket takes it. False: the connection is over. */
static bool link_flush(struct mqtt_ingest *self)
{
    for (;;) {
        struct fms_bytes output = mqtt_session_output(self->session);
        ssize_t n = output.size > 0 ? mqtt_transport_write(self->transport, output.data, output.size) : -EAGAIN;

        if (n == -EAGAIN)
            return true;
        if (n < 0)
            return false;
        mqtt_session_sent(self->session, (size_t)n, fms_now(self->host));
    }
}

static void tell_up(struct mqtt_ingest *self)
{
    const char *session = mqtt_session_was_present(self->session) ? "with the session that the broker kept"
                                                                  : "with a new session";
    const char *version = mqtt_session_version(self->session) == MQTT_PACKET_5 ? "5" : "3.1.1";

    if (self->fleeting > 1)
        return; /* link_prove tells it */
    if (self->is_reconnecting && self->has_connected)
        fms_info(self->host, "connected to %s again after %.1f s, MQTT %s, %s", server_of(self),
                 (double)(fms_now(self->host) - self->down_since) / (double)FMS_SECOND, version, session);
    else
        fms_info(self->host, "connected to %s, MQTT %s, %s", server_of(self), version, session);
    self->is_reconnecting = false;
}

/* Some brokers never say that they have a session, so only who has said so before is believed when it says the contrary. */
static void tell_session(struct mqtt_ingest *self)
{
    bool has_memory = !self->clean_start || mqtt_session_version(self->session) == MQTT_PACKET_5;

    if (mqtt_session_was_present(self->session)) {
        self->knows_session = true;
    } else if (has_memory && self->has_session && self->knows_session) {
        fms_warn(self->host, "the broker does not have our session any more: what was published while we were away is"
                             " lost");
    } else if (has_memory && self->has_session && !self->has_doubted) {
        fms_info(self->host,
                 "the broker does not say that it still has our session: unless it never says so, as ActiveMQ does not,"
                 " what was published while we were away is lost");
        self->has_doubted = true;
    }
}

/* Each once, until it changes. */
static void tell_limits(struct mqtt_ingest *self)
{
    const struct mqtt_session_limits *limits = mqtt_session_limits(self->session), *told = &self->told_limits;

    if (limits->session_expiry < self->session_expiry / FMS_SECOND && limits->session_expiry != told->session_expiry)
        fms_warn(self->host,
                 "the broker keeps our session for %u s, not for session_expiry = %lld s: what is published"
                 " while we are away for longer is lost",
                 limits->session_expiry, (long long)(self->session_expiry / FMS_SECOND));
    if (limits->maximum_qos < self->mqtt.qos && limits->maximum_qos != told->maximum_qos)
        fms_warn(self->host, "the broker's Maximum QoS is %u: it may grant no more than that", limits->maximum_qos);
    if (!limits->can_retain && told->can_retain && self->retained != MQTT_RETAINED_NONE)
        fms_info(self->host, "the broker retains no messages");
    self->told_limits = *limits;
}

static void on_connected(struct mqtt_ingest *self)
{
    tell_up(self);
    tell_session(self);
    if (mqtt_session_version(self->session) == MQTT_PACKET_5)
        tell_limits(self);
    fms_count(self->host, COUNT_CONNECTIONS, 1);
    fms_gauge(self->host, GAUGE_SESSION, mqtt_session_was_present(self->session));
    fms_gauge(self->host, GAUGE_WINDOW,
              mqtt_session_version(self->session) == MQTT_PACKET_5 ? (double)self->window : 0);
    self->is_up = true;
    self->has_connected = true;
    self->has_told_version = false;
    self->has_spoken_5 = self->has_spoken_5 || mqtt_session_version(self->session) == MQTT_PACKET_5;
    self->told[0] = '\0';
    self->ask_at = FMS_NEVER;
    self->refusals = 0;
}

static void on_granted(struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    const char *filter = self->topic.items[message->filter];

    if (message->reason < self->mqtt.qos)
        fms_warn(self->host, "the broker grants \"%s\" only QoS %d, not %lld", filter, message->reason,
                 (long long)self->mqtt.qos);
    self->has_session = true;
    if (!mqtt_session_is_subscribed(self->session))
        return;
    if (!self->has_told)
        fms_info(self->host, "receives %s%s", self->topic.items[0], self->topic.count > 1 ? " and others" : "");
    self->has_told = true; /* later only what goes wrong is news */
    self->refusals = 0;
    fms_link_up(self->host);
}

static void on_refused(struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    enum mqtt_packet_version version = mqtt_session_version(self->session);
    const char *filter = self->topic.items[message->filter];
    const char *reason = version == MQTT_PACKET_5 ? mqtt_packet_reason_text(version, message->reason) : "refused";

    fms_error(self->host,
              "the broker refuses the subscription to \"%s\": %s; asking again until it is granted (may this user read"
              " that?)",
              filter, reason);
    fms_link_down(self->host, "the broker refuses the subscription to \"%.100s\": %s", filter, reason);
    if (self->ask_at == FMS_NEVER)
        self->ask_at = fms_now(self->host) +
                       fms_backoff(self->host, self->mqtt.reconnect_min, self->mqtt.reconnect_max, self->refusals++);
}

/* MQTT 3.1.1 does not say which of them there were. */
static void on_swept(struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    char text[MQTT_SHOWN_SIZE];

    if (mqtt_session_version(self->session) == MQTT_PACKET_5)
        fms_warn(self->host,
                 "the broker's session still had subscriptions from an earlier start, which topic does not ask for, and"
                 " which are unsubscribed now: %s",
                 mqtt_show(message->topic, text));
    else
        fms_warn(self->host,
                 "messages come by a subscription from an earlier start, which topic does not ask for, and what may "
                 "bring them"
                 " is unsubscribed: they are such as those on %s",
                 mqtt_show(message->topic, text));
}

static void on_stray(struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    char text[MQTT_SHOWN_SIZE];

    fms_warn(self->host,
             "messages such as those on \"%s\" seem to come by a subscription from an earlier start that cannot be"
             " found, such as one in a group ($share): if they go on, unsubscribe it, or take another client id",
             mqtt_show(message->topic, text));
}

/* What the broker has not answered, though it is there. */
static void tell_late(struct mqtt_ingest *self, enum mqtt_session_event event)
{
    const char *filter = mqtt_session_late(self->session);

    if (event == MQTT_SESSION_UNANSWERED)
        fms_warn(self->host,
                 "the broker has not yet answered SUBSCRIBE to \"%.100s\", though it sends messages: perhaps what it "
                 "has kept"
                 " for us comes first",
                 filter);
    else if (event == MQTT_SESSION_UNSWEPT)
        fms_warn(
            self->host,
            "the broker does not answer UNSUBSCRIBE from \"%.100s\": what a subscription from an earlier start brings"
            " may go on coming until clean_start = yes, once, ends it",
            filter);
}

/* ---------------------------------------------------------------------------------------------------------- messages */

/* What the broker of MQTT 3.1.1 was not asked for, because it cannot be asked. Where it has kept the session, nothing tells a
 * subscription that is new to it from one that it has had. */
static bool is_wanted(const struct mqtt_ingest *self, const struct mqtt_session_message *message)
{
    if (!message->is_retained || self->retained == MQTT_RETAINED_ALL)
        return true;
    return self->retained == MQTT_RETAINED_NEW &&
           (mqtt_session_version(self->session) == MQTT_PACKET_5 ||
            (mqtt_session_is_first(self->session) && !mqtt_session_was_present(self->session)));
}

/* A broker may send its messages in small pieces, and to be woken for each costs more than all else. So where they come faster than
 * that, the next one waits for an eighth of the time that a message takes to be delivered. */
static void pace(struct mqtt_ingest *self, size_t size, int64_t now)
{
    int64_t pause = self->delivery / PAUSE_PART < PAUSE_MOST ? self->delivery / PAUSE_PART : PAUSE_MOST;
    int64_t gap = now - self->heard_at;
    bool is_little = (int64_t)size * pause < PAUSE_BYTES * gap; /* what will have come by then */

    self->read_from = pause >= PAUSE_LEAST && gap < 2 * pause && is_little ? now + pause : 0;
    self->heard_at = now;
}

/* Of one message at a time. */
static void sample(struct mqtt_ingest *self, const uint64_t tag[2])
{
    if (self->sampled_at != 0)
        return;
    memcpy(self->sampled, tag, sizeof self->sampled);
    self->sampled_at = self->heard_at;
}

static void sample_settled(struct mqtt_ingest *self, const uint64_t tag[2])
{
    if (self->sampled_at == 0 || memcmp(self->sampled, tag, sizeof self->sampled) != 0)
        return;
    self->delivery += (fms_now(self->host) - self->sampled_at - self->delivery) / SAMPLES;
    self->sampled_at = 0;
}

/* As fms_emit; of what is not wanted, the broker hears as of what is delivered. */
static int link_take(struct mqtt_ingest *self, struct fms_bytes *input, const struct mqtt_session_message *message)
{
    bool is_emitted = is_wanted(self, message);
    int error = is_emitted ? ingest_emit(self, message) : 0;

    if (error != 0)
        return error;
    mqtt_session_take(self->session, input, message);
    if (is_emitted)
        sample(self, message->tag);
    if (self->redelivered != NULL && message->qos > 0)
        mqtt_redelivery_take(self->redelivered, (uint16_t)message->tag[1]);
    if (!is_emitted) {
        mqtt_session_settled(self->session, message->tag);
        fms_count(self->host, COUNT_RETAINED, 1);
    }
    return 0;
}

/* Hands on what was read, at most *credit messages, which counts down. 0, -EPIPE: the connection is over, or what fails the
 * pipeline. */
static int link_parse(struct mqtt_ingest *self, size_t *credit)
{
    struct fms_bytes input = fms_bytes_of(self->buffer + self->start, self->end - self->start);
    struct mqtt_session_message message;
    enum mqtt_session_event event = MQTT_SESSION_HUNGRY;
    int error = 0;

    self->is_held = false;
    while (error == 0 && (event = mqtt_session_read(self->session, &input, &message)) != MQTT_SESSION_HUNGRY) {
        if (event == MQTT_SESSION_CONNECTED)
            on_connected(self);
        else if (event == MQTT_SESSION_GRANTED)
            on_granted(self, &message);
        else if (event == MQTT_SESSION_REFUSED)
            on_refused(self, &message);
        else if (event == MQTT_SESSION_SWEPT)
            on_swept(self, &message);
        else if (event == MQTT_SESSION_STRAY)
            on_stray(self, &message);
        else if (event == MQTT_SESSION_CLOSED)
            error = -EPIPE;
        else if (*credit == 0)
            error = -EAGAIN;
        else if ((error = link_take(self, &input, &message)) == 0)
            --*credit;
    }
    self->start = self->end - input.size;
    self->is_held = error == -EAGAIN || error == -ESHUTDOWN;
    return self->is_held ? 0 : error;
}

/* Reads once, a piece of many messages. 0 or -EPIPE. */
static int link_read(struct mqtt_ingest *self)
{
    int64_t now;
    ssize_t n;

    if (!buffer_reserve(self))
        return fms_fail(self->host, -ENOMEM, "no memory for a message of %zu bytes: lower max_in_flight_bytes",
                        mqtt_session_wanted(self->session));
    n = mqtt_transport_read(self->transport, self->buffer + self->end, self->buffer_size - self->end);
    if (n == -EAGAIN)
        return 0;
    if (n < 0)
        return -EPIPE;
    self->end += (size_t)n;
    self->read_at = fms_realtime(self->host);
    now = fms_now(self->host);
    mqtt_session_heard(self->session, now);
    pace(self, (size_t)n, now);
    return 0;
}

/* What may be wrong where the broker hangs up on CONNECT. */
static const char *connect_hint(const struct mqtt_ingest *self)
{
    bool is_tls = mqtt_transport_server(self->transport)->is_tls;

    if (self->mqtt.version == MQTT_AUTO)
        return is_tls ? "" : " (does that port want TLS? Then use ssl://)";
    return is_tls ? " (does it speak this version of MQTT? Else leave version out)"
                  : " (does it speak this version of MQTT? Else leave version out. Does that port want TLS? Then use"
                    " ssl://)";
}

/* Why the connection is over: what the session says comes before what the socket says, and with what had no answer. */
static const char *down_reason(struct mqtt_ingest *self)
{
    const char *reason = mqtt_session_reason(self->session), *filter = mqtt_session_unanswered(self->session);
    const char *old_filter = mqtt_session_unswept(self->session);

    if (reason[0] != '\0' && !mqtt_session_was_dismissed(self->session))
        return reason;
    if (reason[0] == '\0')
        reason = mqtt_transport_reason(self->transport);
    if (self->is_up && filter != NULL)
        snprintf(self->why, sizeof self->why, "%s, and SUBSCRIBE to \"%.100s\" had no answer", reason, filter);
    else if (old_filter != NULL)
        snprintf(self->why, sizeof self->why, "%s, and UNSUBSCRIBE from \"%.100s\" had no answer", reason, old_filter);
    else if (!self->is_up && mqtt_transport_was_closed(self->transport))
        snprintf(self->why, sizeof self->why, "%s, and CONNECT had no answer%s", reason, connect_hint(self));
    else
        return reason;
    return self->why;
}

static bool link_may_read(const struct mqtt_ingest *self)
{
    return !self->is_held && !self->is_stopping && !mqtt_session_is_full(self->session);
}

static void link_wait(struct mqtt_ingest *self, int64_t now, bool is_at_once, struct fms_wait *wait)
{
    bool may_read = link_may_read(self), is_pausing = may_read && self->read_from > now;
    bool is_more = mqtt_transport_wait(self->transport, may_read && !is_pausing,
                                       mqtt_session_output(self->session).size > 0, wait);

    wait->deadline = mqtt_session_deadline(self->session);
    if (is_pausing && self->read_from < wait->deadline)
        wait->deadline = self->read_from;
    if (self->ask_at < wait->deadline)
        wait->deadline = self->ask_at;
    if (self->is_up && self->fleeting > 1 && mqtt_session_unanswered(self->session) == NULL &&
        self->link_at + PROVED_AFTER < wait->deadline)
        wait->deadline = self->link_at + PROVED_AFTER; /* to tell that it lasts */
    if (is_more || is_at_once)
        wait->deadline = 0;
}

/* Hands on what was read before, and what can be read now. 0, -EPIPE, or what fails the pipeline. */
static int link_receive(struct mqtt_ingest *self, int64_t now, size_t *credit)
{
    int error = 0;

    if (mqtt_session_is_full(self->session) && !link_flush(self))
        return -EPIPE;
    if (!self->is_stopping)
        error = link_parse(self, credit);
    if (error == 0 && now >= self->read_from && link_may_read(self)) {
        error = link_read(self);
        if (error == 0)
            error = link_parse(self, credit);
    }
    return error;
}

/* One turn of a connection that is up. 0, -EPIPE, or what fails the pipeline. */
static int link_serve(struct mqtt_ingest *self, size_t credit, struct fms_wait *wait)
{
    bool was_held = self->is_held, was_full, had_credit = credit > 0;
    int64_t now = fms_now(self->host), round_trip;
    int error = link_receive(self, now, &credit);

    if (mqtt_session_round_trip(self->session, &round_trip))
        fms_observe(self->host, DURATION_ROUND_TRIP, round_trip);
    if (self->is_held && !was_held && !had_credit)
        fms_count(self->host, COUNT_PAUSES, 1);
    if (error == 0) {
        enum mqtt_session_event event = mqtt_session_tick(self->session, now, link_may_read(self));

        tell_late(self, event);
        error = event == MQTT_SESSION_CLOSED ? -EPIPE : 0;
    }
    if (error == 0 && now >= self->ask_at) {
        self->ask_at = FMS_NEVER;
        mqtt_session_subscribe(self->session, now);
    }
    link_prove(self, now);
    was_full = mqtt_session_is_full(self->session); /* and so what was read may not all be handed on */
    if (!link_flush(self) && error == 0)
        error = -EPIPE;
    if (error == 0)
        link_wait(self, now, (had_credit && credit == 0) || (was_full && !mqtt_session_is_full(self->session)), wait);
    return error;
}

/* The connection is to be given up, but the broker can still be told what is delivered: what is acknowledged does not come
 * again. So sinks are given some time, and then the broker is let hang up, or what it has not read yet would be lost. */
static void link_settle(struct mqtt_ingest *self)
{
    self->start = self->end = 0;
    self->is_held = false;
    self->link = LINK_SETTLING;
    self->part_until = fms_now(self->host) + SETTLE_PATIENCE;
}

/* Reads, and forgets. False: the broker has hung up. */
static bool link_discard(struct mqtt_ingest *self)
{
    ssize_t n = mqtt_transport_read(self->transport, self->buffer, self->buffer_size);

    return n > 0 || n == -EAGAIN;
}

static void link_parting(struct mqtt_ingest *self, struct fms_wait *wait)
{
    int64_t now = fms_now(self->host);
    bool is_open = link_flush(self);

    if (self->link == LINK_SETTLING && (mqtt_session_is_settled(self->session) || now >= self->part_until)) {
        mqtt_session_part(self->session, false);
        self->link = LINK_PARTING;
        self->part_until = now + PART_PATIENCE;
        is_open = is_open && link_flush(self);
    }
    if (self->link == LINK_PARTING)
        is_open = is_open && link_discard(self) && now < self->part_until;
    if (!is_open) {
        link_down(self, down_reason(self));
        return;
    }
    wait->deadline = self->part_until;
    if (mqtt_transport_wait(self->transport, self->link == LINK_PARTING, mqtt_session_output(self->session).size > 0,
                            wait))
        wait->deadline = 0;
}

/* ---------------------------------------------------------------------------------------------------------- the lane */

static int ingest_start(struct mqtt_ingest *self)
{
    size_t records, bytes, window;
    struct mqtt_session_options options = {
        .version = self->mqtt.version == MQTT_3_1_1 ? MQTT_PACKET_3_1_1 : MQTT_PACKET_5,
        .client_id = self->mqtt.client_id != NULL ? self->mqtt.client_id : self->client_id,
        .username = self->mqtt.username,
        .password = self->mqtt.password,
        .clean_start = self->clean_start,
        .retain_handling = (uint8_t)self->retained,
        .session_expiry = (uint32_t)(self->session_expiry / FMS_SECOND),
        .keepalive = self->mqtt.keepalive,
        .filters = self->topic.items,
        .filter_count = self->topic.count,
        .qos = (uint8_t)self->mqtt.qos,
        .topic_alias_maximum = (uint16_t)self->topic_alias_maximum,
        .maximum_packet_size = (uint32_t)self->max_message_size,
    };

    fms_room(self->host, &records, &bytes); /* of the empty pipeline */
    window = (size_t)self->receive_maximum < records ? (size_t)self->receive_maximum : records;
    options.receive_maximum = (uint16_t)window;
    self->window = window;
    options.flights_max = FLIGHTS_MAX;
    options.redelivery = self->redelivered;
    options.buffer_size = bytes > BUFFER_SIZE ? bytes : BUFFER_SIZE;
    self->session = mqtt_session_new(&options);
    return self->session != NULL && buffer_reserve(self) ? 0 : fms_fail(self->host, -ENOMEM, "out of memory");
}

/* Goes on with a connection that is being made. 0 or -EPIPE. */
static int link_connect(struct mqtt_ingest *self, struct fms_wait *wait)
{
    int64_t now = fms_now(self->host);
    int error = mqtt_transport_connect(self->transport, now, wait);

    if (error == -EAGAIN)
        return 0;
    if (error != 0) {
        link_down(self, mqtt_transport_reason(self->transport));
        return -EPIPE;
    }
    self->link = LINK_UP;
    self->link_at = now;
    mqtt_session_begin(self->session, now);
    return 0;
}

static int link_turn(struct mqtt_ingest *self, size_t credit, struct fms_wait *wait)
{
    int64_t now = fms_now(self->host);
    int error = 0;

    if (self->link == LINK_DOWN && now >= self->link_at && !self->is_stopping) {
        mqtt_renew(self->host);
        mqtt_session_login(self->session, self->mqtt.username, self->mqtt.password);
        mqtt_transport_open(self->transport, now);
        self->link = LINK_CONNECTING;
    }
    if (self->link == LINK_CONNECTING)
        link_connect(self, wait);
    if (self->link == LINK_UP)
        error = link_serve(self, credit, wait);
    if (error == -EPIPE) {
        if (mqtt_session_is_parting(self->session))
            link_settle(self);
        else
            link_down(self, down_reason(self));
        error = 0;
    }
    if (self->link >= LINK_SETTLING)
        link_parting(self, wait);
    if (self->link == LINK_DOWN)
        *wait = (struct fms_wait){-1, 0, self->is_stopping ? FMS_NEVER : self->link_at};
    return error;
}

static int mqtt_ingest_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct mqtt_ingest *self = instance;
    int error = self->session == NULL ? ingest_start(self) : 0;

    if (error != 0)
        return error;
    if (self->is_stopping && self->unsettled == 0)
        return FMS_END;
    return link_turn(self, self->is_stopping ? 0 : credit, wait);
}

static void mqtt_ingest_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct mqtt_ingest *self = instance;

    (void)fate;
    self->unsettled--;
    sample_settled(self, record->tag);
    if (mqtt_session_settled(self->session, record->tag) || self->link == LINK_SETTLING ||
        (self->is_stopping && self->unsettled == 0))
        fms_wake(self->host);
}

static void mqtt_ingest_stop(void *instance)
{
    struct mqtt_ingest *self = instance;

    self->is_stopping = true;
}

static void mqtt_ingest_measure(void *instance)
{
    struct mqtt_ingest *self = instance;

    if (self->session == NULL)
        return;
    fms_gauge(self->host, GAUGE_UNACKNOWLEDGED, (double)mqtt_session_flights(self->session));
    fms_gauge(self->host, GAUGE_BUFFER, (double)(self->end - self->start));
}

/* ---------------------------------------------------------------------------------------------- check, open, close */

/* 0 or -EINVAL. */
static int mqtt_ingest_check_redelivery(const struct mqtt_ingest *self, const struct fms_host *host)
{
    const char *id = self->mqtt.client_id;

    if (!self->redelivery)
        return 0;
    if (self->mqtt.qos == 0)
        return fms_fail_option(host, "redelivery", -EINVAL, "needs QoS 1 or 2: at QoS 0 nothing is sent again");
    if (self->clean_start)
        return fms_fail_option(host, "redelivery", -EINVAL,
                               "needs clean_start = no: a broker sends again only what is of a session that it keeps");
    if (id == NULL || strlen(id) > FMS_ORIGIN_MOST)
        return fms_fail_option(host, "redelivery", -EINVAL,
                               "needs a client_id, of at most %d bytes, by which the session is known after a restart",
                               FMS_ORIGIN_MOST);
    fms_advise(
        host, "redelivery",
        "knows what a broker sends again by the same packet identifier and marked (DUP), as mosquitto, HiveMQ,"
        " Moquette and mochi do, and Artemis before 2.56, ActiveMQ, aedes and rumqttd do not; and of two messages"
        " that say the same, byte for byte, the second can be taken for the first, and lost: each must hold a"
        " time or a number");
    return 0;
}

static int mqtt_ingest_check(void *instance, const struct fms_host *host)
{
    struct mqtt_ingest *self = instance;
    struct mqtt_url url;

    if (mqtt_check(&self->mqtt, host) != 0 || mqtt_check_filters(&self->topic, host) != 0)
        return -EINVAL;
    mqtt_url_parse(self->mqtt.server.items[0], &url);
    if (url.is_websocket)
        return fms_fail_option(host, "server", -EINVAL, "\"%s\": no WebSockets here: mqtt_source speaks them",
                               self->mqtt.server.items[0]);
    if (self->topic.count > 65534)
        return fms_fail_option(host, "topic", -EINVAL, "has more than 65534 filters");
    if (self->alpn != NULL && (self->alpn[0] == '\0' || strlen(self->alpn) > 255))
        return fms_fail_option(host, "alpn", -EINVAL, "must have 1 to 255 bytes");
    if (self->alpn != NULL && !url.is_tls)
        return fms_fail_option(host, "alpn", -EINVAL,
                               "is for TLS: the server's address begins with neither ssl:// nor"
                               " mqtts://");
    if (mqtt_identity_check(&self->identity, &self->mqtt, host) != 0 || mqtt_ingest_check_redelivery(self, host) != 0)
        return -EINVAL;
    mqtt_advise_session(&self->mqtt, self->clean_start, self->session_expiry, host);
    mqtt_identity_promise(&self->identity, &self->mqtt,
                          mqtt_keeps_session(&self->mqtt, self->clean_start, self->session_expiry), host);
    if (self->redelivery)
        fms_promise(host, "redelivery", FMS_AT_LEAST_ONCE,
                    "a message without a number is known by its packet identifier and what it says, which is not"
                    " certain: let its publisher number it");
    return 0;
}

static void ingest_free_identity(struct mqtt_ingest *self)
{
    mqtt_identity_free(&self->identity);
    mqtt_print_free(self->print);
    free(self->redelivered);
}

/* 0 or -ENOMEM. */
static int ingest_make_identity(struct mqtt_ingest *self)
{
    self->identifies = mqtt_identity_is_wanted(&self->identity, &self->mqtt, self->redelivery, self->host);
    if (!self->identifies || !self->redelivery)
        return 0;
    self->print = mqtt_print_new();
    self->redelivered = calloc(1, sizeof *self->redelivered);
    if (self->print != NULL && self->redelivered != NULL)
        return 0;
    ingest_free_identity(self);
    return fms_fail(self->host, -ENOMEM, "no memory, or no SHA-256, for redelivery");
}

static int mqtt_ingest_open(void *instance, const struct fms_host *host)
{
    struct mqtt_ingest *self = instance;
    int error;

    self->host = host;
    self->ask_at = FMS_NEVER;
    self->told_limits = (struct mqtt_session_limits){UINT32_MAX, 3, true};
    mqtt_make_client_id(host, self->client_id);
    if (ingest_make_identity(self) != 0)
        return -ENOMEM;
    error = mqtt_transport_new(&self->transport, &self->mqtt, self->alpn, host);
    if (error != 0)
        ingest_free_identity(self);
    return error;
}

/* Waits as the lane would. False: the deadline has come. */
static bool wait_for_it(struct mqtt_ingest *self, const struct fms_wait *wait, int64_t deadline)
{
    struct pollfd ready = {wait->fd, wait->events, 0};
    int64_t left = deadline - fms_now(self->host);

    if (left <= 0)
        return false;
    poll(&ready, 1, (int)(left / FMS_MS < 100 ? left / FMS_MS + 1 : 100));
    return true;
}

/* Acknowledges what is settled, takes its leave, and lets the broker hang up: a socket that is closed with bytes unread is
 * reset, and the acknowledgements that the broker has not read yet would be lost with it. Artemis forgets them as soon as it
 * sees that our side is shut down, so that is only for a broker that does not hang up. */
static void link_part(struct mqtt_ingest *self)
{
    int64_t deadline = fms_now(self->host) + PART_PATIENCE;
    int64_t finish_at = deadline - PART_PATIENCE / 2;
    bool is_finished = false, is_more;
    struct fms_wait wait;
    ssize_t n;

    if (self->link < LINK_UP)
        return;
    mqtt_session_part(self->session, true);
    do {
        bool is_open = link_flush(self), has_more = mqtt_session_output(self->session).size > 0;

        if (!has_more && !is_finished && fms_now(self->host) >= finish_at) {
            mqtt_transport_finish(self->transport);
            is_finished = true;
        }
        n = mqtt_transport_read(self->transport, self->buffer, self->buffer_size);
        if (!is_open || n == -EPIPE)
            break;
        is_more = mqtt_transport_wait(self->transport, true, has_more, &wait);
    } while (is_more ? fms_now(self->host) < deadline : wait_for_it(self, &wait, deadline));
    link_down(self, NULL);
}

static void mqtt_ingest_close(void *instance)
{
    struct mqtt_ingest *self = instance;

    if (self->session != NULL) {
        link_part(self);
        mqtt_session_free(self->session);
    }
    mqtt_transport_free(self->transport);
    free(self->buffer);
    mqtt_headers_free(&self->headers);
    ingest_free_identity(self);
}

/* ------------------------------------------------------------------------------------------------------------- probe */

/* Ends one attempt as the pipeline would: -EAGAIN: another version is to be tried, or the next server. */
static int probe_fail(struct mqtt_ingest *self, int error, const char *reason)
{
    if (may_speak_another(self) && mqtt_session_version(self->session) == MQTT_PACKET_5) {
        speak_another(self);
        return -EAGAIN;
    }
    if (mqtt_transport_is_last(self->transport))
        return fms_fail(self->host, error, "cannot connect to %s: %s", server_of(self), reason);
    fms_report(self->host, "%s: %s; the next address is tried", server_of(self), reason);
    if (self->mqtt.version == MQTT_AUTO)
        mqtt_session_speak(self->session, MQTT_PACKET_5);
    return -EAGAIN;
}

/* Until there is a connection, or there is none. 0, or as probe_fail. */
static int probe_connect(struct mqtt_ingest *self, int64_t deadline)
{
    struct fms_wait wait;
    int error;

    do {
        wait = (struct fms_wait){-1, 0, FMS_NEVER};
        error = mqtt_transport_connect(self->transport, fms_now(self->host), &wait);
    } while (error == -EAGAIN && wait_for_it(self, &wait, deadline));
    if (error == -EAGAIN)
        return probe_fail(self, -ETIMEDOUT, "no answer in time");
    if (error != 0)
        return probe_fail(self, error, mqtt_transport_reason(self->transport));
    mqtt_session_begin(self->session, fms_now(self->host));
    self->link = LINK_UP;
    return 0;
}

/* Tells of one event. How many subscriptions it has decided; negative: one is refused, or the connection is over. */
static int probe_tell(struct mqtt_ingest *self, enum mqtt_session_event event,
                      const struct mqtt_session_message *message, int64_t since)
{
    const char *filter =
        self->topic.items[event == MQTT_SESSION_GRANTED || event == MQTT_SESSION_REFUSED ? message->filter : 0];

    switch (event) {
    case MQTT_SESSION_CONNECTED:
        fms_report(self->host, "%s answers in %.1f ms, MQTT %s", server_of(self),
                   (double)(fms_now(self->host) - since) / (double)FMS_MS,
                   mqtt_session_version(self->session) == MQTT_PACKET_5 ? "5" : "3.1.1");
        return 0;
    case MQTT_SESSION_GRANTED:
        fms_report(self->host, "topic \"%s\" is granted, with QoS %d", filter, message->reason);
        return 1;
    case MQTT_SESSION_REFUSED:
        return fms_fail(self->host, -EACCES, "topic \"%s\": %s", filter,
                        mqtt_session_version(self->session) == MQTT_PACKET_5
                            ? mqtt_packet_reason_text(MQTT_PACKET_5, message->reason)
                            : "refused");
    case MQTT_SESSION_CLOSED:
        return probe_fail(self, -EPIPE, down_reason(self));
    default:
        return 0;
    }
}

/* Until each subscription is decided. 0, -EACCES, or as probe_fail. */
static int probe_talk(struct mqtt_ingest *self, int64_t since, int64_t deadline)
{
    size_t decided = 0;
    struct fms_wait wait = {-1, 0, FMS_NEVER};

    do {
        struct mqtt_session_message message = {0};
        enum mqtt_session_event event;
        struct fms_bytes input;

        if (!link_flush(self) || link_read(self) != 0)
            return probe_fail(self, -EPIPE, down_reason(self));
        input = fms_bytes_of(self->buffer + self->start, self->end - self->start);
        while ((event = mqtt_session_read(self->session, &input, &message)) != MQTT_SESSION_HUNGRY) {
            int result = probe_tell(self, event, &message, since);

            if (result < 0)
                return result;
            decided += (size_t)result;
            if (event == MQTT_SESSION_MESSAGE)
                mqtt_session_take(self->session, &input, &message); /* not acknowledged: its session ends here */
        }
        self->start = self->end - input.size;
        link_flush(self);
        mqtt_transport_wait(self->transport, true, mqtt_session_output(self->session).size > 0, &wait);
    } while (decided < self->topic.count && wait_for_it(self, &wait, deadline));
    if (decided == self->topic.count)
        return 0;
    return probe_fail(self, -ETIMEDOUT,
                      mqtt_session_is_connected(self->session) ? "no answer to SUBSCRIBE in time"
                                                               : "no answer to CONNECT in time");
}

/* Server by server, until one will do. Each but the last has half of the time that is left. */
static int probe_run(struct mqtt_ingest *self, int64_t deadline)
{
    int error;

    do {
        int64_t since = fms_now(self->host), until = deadline;

        mqtt_transport_open(self->transport, since);
        mqtt_session_end(self->session);
        self->start = self->end = 0;
        self->link = LINK_CONNECTING;
        if (!mqtt_transport_is_last(self->transport))
            until = since + (deadline - since) / 2;
        error = probe_connect(self, until);
        if (error == 0)
            error = probe_talk(self, since, until);
    } while (error == -EAGAIN);
    return error;
}

/* Not to a shared subscription, which would take messages from those who share; and under a name of its own, not to push
 * out the pipeline that runs. */
static int mqtt_ingest_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct mqtt_ingest *self = instance;
    const char **filters = calloc(self->topic.count + 1, sizeof *filters);
    struct mqtt_session_options options = {
        .version = self->mqtt.version == MQTT_3_1_1 ? MQTT_PACKET_3_1_1 : MQTT_PACKET_5,
        .client_id = self->client_id,
        .username = self->mqtt.username,
        .password = self->mqtt.password,
        .clean_start = true,
        .retain_handling = MQTT_RETAINED_NONE,
        .keepalive = self->mqtt.keepalive,
        .filters = filters,
        .filter_count = self->topic.count,
        .qos = (uint8_t)self->mqtt.qos,
        .flights_max = 1024,
        .buffer_size = BUFFER_SIZE,
    };
    int error;

    self->host = host;
    mqtt_make_client_id(host, self->client_id);
    for (size_t i = 0; filters != NULL && i < self->topic.count; i++)
        filters[i] = mqtt_filter_unshared(self->topic.items[i]);
    self->session = filters != NULL ? mqtt_session_new(&options) : NULL;
    error = self->session != NULL && buffer_reserve(self)
                ? mqtt_transport_new(&self->transport, &self->mqtt, self->alpn, host)
                : fms_fail(host, -ENOMEM, "out of memory");
    if (error == 0) {
        error = probe_run(self, deadline);
        mqtt_session_part(self->session, true);
        link_flush(self);
        mqtt_transport_free(self->transport);
    }
    if (self->session != NULL)
        mqtt_session_free(self->session);
    free(filters);
    free(self->buffer);
    return error;
}

FMS_PLUGIN(.name = "mqtt_ingest", .version = FMS_VERSION,
           .summary =
               "Receives records from an MQTT broker and acknowledges them when they are delivered (mqtt_source, on"
               " the paho library, when they are received; it also speaks WebSockets)",
           .options = mqtt_ingest_options, .counters = mqtt_ingest_counters, .traits = FMS_TRAIT_LINK,
           .instance_size = sizeof(struct mqtt_ingest), .check = mqtt_ingest_check, .probe = mqtt_ingest_probe,
           .open = mqtt_ingest_open, .close = mqtt_ingest_close, .source_poll = mqtt_ingest_poll,
           .source_settled = mqtt_ingest_settled, .source_stop = mqtt_ingest_stop, .gauges = mqtt_ingest_gauges,
           .durations = mqtt_ingest_durations, .measure = mqtt_ingest_measure);
