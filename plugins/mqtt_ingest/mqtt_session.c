/* mqtt_session.c - see mqtt_session.h. */
#include "mqtt_session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../mqtt_common/mqtt_common.h"
#include "mqtt_redelivery.h"

#define ANSWER_PATIENCE  (10 * FMS_SECOND)  /* for CONNACK; for SUBACK, since the last message in front of it */
#define ANSWER_MOST      (600 * FMS_SECOND) /* for SUBACK, whatever comes in front of it */
#define RELEASE_PATIENCE (30 * FMS_SECOND)  /* for PUBREL, behind all that a broker sends ahead; while it is read */
#define OUTPUT_MOST      16384u             /* bytes to be sent beyond which nothing is added, or read */
#define GREETING_SHOWN   20u                /* bytes of what is no MQTT */
#define IDENTIFIERS      MQTT_IDENTIFIERS

enum state {
    STATE_CLOSED,
    STATE_CONNECTING,
    STATE_CONNECTED,
    STATE_PARTING, /* nothing is read any more, but acknowledgements go out */
    STATE_PARTED,
};

/* A message that is to be acknowledged on this connection. */
struct flight {
    uint16_t id;
    uint8_t qos;
    bool is_ready;
};

/* What is known of the last message with a packet identifier at QoS 2 (4.3.3, method B of the receiver).
 *
 * A broker that has more in flight than there are identifiers uses one for another message before the first is released:
 * mosquitto 2.0.11 does when it drains a backlog. To take that message for a repetition would lose it, so a message is known
 * by what it says, too, and the other one's PUBREC waits until the first is released, or the broker would confuse the two. */
enum exchange_state {
    EXCHANGE_NONE,
    EXCHANGE_TAKEN,     /* in the pipeline, PUBREC not yet due */
    EXCHANGE_DELIVERED, /* PUBREC is due */
    EXCHANGE_CONFIRMED, /* PUBREC is sent; PUBREL will end it */
};
struct exchange {
    uint64_t number;      /* of the flight in which it was taken */
    uint32_t last;        /* of its last flight, the lower bits: it may have come again on a later connection */
    uint32_t fingerprint; /* of the message */
    uint32_t unreleased;  /* the connection on which an earlier message of this identifier waits for PUBREL; 0: none */
    uint8_t state;
};

struct alias {
    char *topic;
    uint32_t size, room;
};

struct filter {
    bool is_granted, is_asked, is_refused; /* on this connection; the last: it was, once */
    bool was_granted;                      /* ever */
};

#define SWEEP_TOPIC  1024u
#define SWEEP_PIECE  8u /* filters that are unsubscribed at once: AWS IoT hangs up on more */
#define SWEEP_GROUPS 4u /* of shared subscriptions of ours: the old one may have been in one of them */
#define SWEEP_STRAY  5u /* sweeps in a row that found nothing, after which that is told */
#define SWEEP_DEATHS 2u /* connections in a row that ended instead of an answer: then no sweep is made any more */

/* The search for a subscription of an earlier start, which brings messages that nobody asks for, or brings them twice: all that may
 * have brought one such message are unsubscribed, in pieces, but never one of ours. */
struct sweep {
    char topic[SWEEP_TOPIC]; /* its beginning */
    size_t topic_size;
    char **filters; /* that match it */
    size_t filter_count;
    size_t next;                    /* to be tried: each as it is, and then in our groups */
    const char *asked[SWEEP_PIECE]; /* of the UNSUBSCRIBE that is not answered */
    size_t asked_count;             /* 0: no sweep is on */
    bool is_void;                   /* there was nothing to ask for: to be told by mqtt_session_read */
    bool is_due;                    /* it is to be sent, behind the acknowledgements of all flights before `after` */
    bool is_overdue;                /* its answer, on a connection that goes on all the same */
    uint64_t after;
    size_t found;
    unsigned fruitless; /* sweeps in a row */
    bool has_told;      /* that they find nothing */
    bool has_told_overdue;
    unsigned deaths;    /* connections in a row that ended with an UNSUBSCRIBE open */
    int64_t not_before; /* the next one */
    char text[SWEEP_PIECE * 1024];
    char names[512]; /* of what was found */
};

struct mqtt_session {
    struct mqtt_session_options options;
    enum state state;
    bool was_present;
    bool has_connected; /* ever */
    bool is_foreign, is_heard, was_dismissed, was_taken;
    struct mqtt_session_limits limits;
    char reason[512];
    bool is_leaving;         /* DISCONNECT is to be sent behind the acknowledgements that are ready */
    uint8_t farewell;        /* its reason code */
    int64_t farewell_expiry; /* and session expiry; -1: as CONNECT said */

    struct filter *filters;
    size_t granted;
    bool is_first;       /* connection on which filters are granted */
    bool has_told_late;  /* that SUBSCRIBE has no answer */
    bool is_reading;     /* when mqtt_session_tick was called last */
    int64_t asked_at;    /* CONNECT or SUBSCRIBE; FMS_NEVER: it is answered */
    int64_t message_at;  /* the last message in front of that answer */
    int64_t waits_since; /* for an answer to SUBSCRIBE or UNSUBSCRIBE, seen by mqtt_session_tick; FMS_NEVER: for none */
    const char *late;    /* the filter that was told of */

    int64_t keepalive; /* the broker's word counts (MQTT-3.1.2-21); 0: none */
    int64_t sent_at, heard_at, pinged_at;
    int64_t unsent_at; /* since when nothing of what is to be sent could be; FMS_NEVER: there is nothing */
    int64_t round_trip;
    bool is_pinged;      /* and PINGRESP has not come */
    bool has_round_trip; /* it is to be told */

    size_t wanted;
    size_t skip; /* bytes of a payload that are still to be passed over */

    struct flight *ring;
    size_t ring_size; /* a power of two, or 0 */
    uint64_t head, tail;
    uint64_t first;      /* of this connection */
    uint32_t connection; /* 1, 2, ... */
    uint64_t withheld;   /* the flight at the head, that waits for PUBREL of another of its identifier */
    int64_t withheld_at; /* since when; FMS_NEVER: it does not */
    int64_t ticked_at;
    struct exchange *exchanges;         /* by packet identifier; NULL: no message of QoS 2 has come */
    struct alias *aliases;              /* [0] is alias 1 */
    struct mqtt_packet_publish publish; /* the latest */

    struct sweep *sweep;          /* NULL: there was none yet */
    uint32_t subscription_id;     /* of all our filters, and of no other set of them */
    bool has_ids, refuses_ids;    /* this connection; the broker, ever */
    bool knows_ids;               /* a message has come with ours */
    size_t met;                   /* messages on this connection */
    uint32_t maximum_packet_size; /* the broker's */

    uint8_t *output;
    size_t output_room, output_size, output_sent;
};

/* Whatever their order, another for each set of filters: so it tells subscriptions of ours from those of an earlier start. Three
 * bytes at most. */
static uint32_t subscription_id_of(const struct mqtt_session_options *options)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < options->filter_count; i++) {
        uint32_t hash = 2166136261;

        for (const char *at = options->filters[i]; *at != '\0'; at++)
            hash = (hash ^ (uint8_t)*at) * 16777619;
        sum += hash;
    }
    return 1 + (sum ^ sum >> 16) % 2097151;
}

struct mqtt_session *mqtt_session_new(const struct mqtt_session_options *options)
{
    struct mqtt_session *session = calloc(1, sizeof *session);

    if (session == NULL)
        return NULL;
    session->options = *options;
    session->subscription_id = subscription_id_of(options);
    session->filters = calloc(options->filter_count + 1, sizeof *session->filters);
    session->aliases = calloc((size_t)options->topic_alias_maximum + 1, sizeof *session->aliases);
    if (session->filters != NULL && session->aliases != NULL)
        return session;
    mqtt_session_free(session);
    return NULL;
}

static void aliases_forget(struct mqtt_session *session)
{
    for (size_t i = 0; session->aliases != NULL && i < session->options.topic_alias_maximum; i++) {
        free(session->aliases[i].topic);
        session->aliases[i] = (struct alias){NULL, 0, 0};
    }
}

void mqtt_session_free(struct mqtt_session *session)
{
    aliases_forget(session);
    free(session->aliases);
    free(session->filters);
    free(session->ring);
    free(session->exchanges);
    if (session->sweep != NULL)
        free(session->sweep->filters);
    free(session->sweep);
    free(session->output);
    free(session);
}

bool mqtt_session_is_connected(const struct mqtt_session *session)
{
    return session->state == STATE_CONNECTED;
}

bool mqtt_session_is_subscribed(const struct mqtt_session *session)
{
    return session->granted == session->options.filter_count;
}

bool mqtt_session_was_present(const struct mqtt_session *session)
{
    return session->was_present;
}

bool mqtt_session_is_first(const struct mqtt_session *session)
{
    return session->is_first;
}

bool mqtt_session_is_foreign(const struct mqtt_session *session)
{
    return session->is_foreign;
}

bool mqtt_session_was_dismissed(const struct mqtt_session *session)
{
    return session->was_dismissed;
}

bool mqtt_session_was_taken(const struct mqtt_session *session)
{
    return session->was_taken;
}

bool mqtt_session_is_unheard(const struct mqtt_session *session)
{
    return !session->is_heard;
}

const struct mqtt_session_limits *mqtt_session_limits(const struct mqtt_session *session)
{
    return &session->limits;
}

size_t mqtt_session_flights(const struct mqtt_session *session)
{
    return (size_t)(session->tail - session->head);
}

bool mqtt_session_round_trip(struct mqtt_session *session, int64_t *nanoseconds)
{
    bool has = session->has_round_trip;

    session->has_round_trip = false;
    *nanoseconds = session->round_trip;
    return has;
}

const char *mqtt_session_unanswered(const struct mqtt_session *session)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        if (session->filters[i].is_asked)
            return session->options.filters[i];
    }
    return NULL;
}

const char *mqtt_session_unswept(const struct mqtt_session *session)
{
    const struct sweep *sweep = session->sweep;

    return sweep != NULL && sweep->asked_count > 0 && !sweep->is_due && !sweep->is_overdue ? sweep->asked[0] : NULL;
}

const char *mqtt_session_late(const struct mqtt_session *session)
{
    return session->late;
}

bool mqtt_session_may_sweep(const struct mqtt_session *session)
{
    return session->sweep == NULL || session->sweep->deaths < SWEEP_DEATHS;
}

enum mqtt_packet_version mqtt_session_version(const struct mqtt_session *session)
{
    return session->options.version;
}

void mqtt_session_speak(struct mqtt_session *session, enum mqtt_packet_version version)
{
    session->options.version = version;
}

const char *mqtt_session_reason(const struct mqtt_session *session)
{
    return session->reason;
}

size_t mqtt_session_wanted(const struct mqtt_session *session)
{
    return session->wanted;
}

/* ----------------------------------------------------------------------------------------------------------- output */

static size_t output_left(const struct mqtt_session *session)
{
    return session->output_size - session->output_sent;
}

bool mqtt_session_is_full(const struct mqtt_session *session)
{
    return output_left(session) >= OUTPUT_MOST;
}

/* Room for `size` more bytes, or NULL. What was sent makes room first. */
static uint8_t *output_reserve(struct mqtt_session *session, size_t size)
{
    size_t left = output_left(session), room = session->output_room == 0 ? OUTPUT_MOST + 64 : session->output_room;
    uint8_t *output;

    if (session->output_sent > 0 && (left == 0 || room < session->output_size + size)) {
        memmove(session->output, session->output + session->output_sent, left);
        session->output_size = left;
        session->output_sent = 0;
    }
    while (room < session->output_size + size)
        room *= 2;
    if (room > session->output_room) {
        output = realloc(session->output, room);
        if (output == NULL)
            return NULL;
        session->output = output;
        session->output_room = room;
    }
    return session->output + session->output_size;
}

/* Gives the connection up, for a reason that is told once. */
static enum mqtt_session_event session_give_up(struct mqtt_session *session, const char *format, ...) FMS_PRINTF(2, 3);
static enum mqtt_session_event session_give_up(struct mqtt_session *session, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (session->reason[0] == '\0')
        vsnprintf(session->reason, sizeof session->reason, format, args);
    va_end(args);
    session->state = STATE_PARTED;
    return MQTT_SESSION_CLOSED;
}

/* Likewise, but the broker can be told, and what was taken is acknowledged first. */
static enum mqtt_session_event session_leave(struct mqtt_session *session, int reason)
{
    session->farewell = (uint8_t)reason;
    session->state = STATE_PARTING;
    return MQTT_SESSION_CLOSED;
}

/* The broker breaks a rule: MQTT 5 tells it so (MQTT-4.13.1-1, MQTT-4.13.2-1), 3.1.1 just closes (MQTT-4.8.0-1 there). */
static enum mqtt_session_event session_accuse(struct mqtt_session *session, int reason, const char *packet)
{
    bool is_connected = session->state == STATE_CONNECTED;

    session_give_up(session, "the broker breaks the protocol: %s: %s", packet,
                    mqtt_packet_reason_text(MQTT_PACKET_5, reason));
    return is_connected ? session_leave(session, reason) : MQTT_SESSION_CLOSED;
}

/* What is no packet that we could name. */
static enum mqtt_session_event session_accuse_length(struct mqtt_session *session, int reason)
{
    bool is_connected = session->state == STATE_CONNECTED;

    session_give_up(session, "the broker breaks the protocol: it sends a packet %s",
                    reason == REASON_MALFORMED ? "whose length cannot be told" : "that is no message and is too large");
    return is_connected ? session_leave(session, reason) : MQTT_SESSION_CLOSED;
}

static enum mqtt_session_event session_out_of_memory(struct mqtt_session *session)
{
    session_give_up(session, "out of memory");
    return session_leave(session, REASON_SUCCESS);
}

bool mqtt_session_is_parting(const struct mqtt_session *session)
{
    return session->state == STATE_PARTING;
}

bool mqtt_session_is_settled(const struct mqtt_session *session)
{
    return session->head == session->tail;
}

static struct flight *flight_of(const struct mqtt_session *session, uint64_t number)
{
    return &session->ring[number & (session->ring_size - 1)];
}

/* Whether PUBREC waits until an earlier message of its identifier is released. */
static bool is_withheld(const struct mqtt_session *session, const struct flight *flight)
{
    return flight->qos == 2 && session->exchanges[flight->id].unreleased == session->connection;
}

static bool may_acknowledge(const struct mqtt_session *session, const struct flight *flight)
{
    return flight->is_ready && (session->skip == 0 || session->head + 1 != session->tail) &&
           !is_withheld(session, flight);
}

/* PUBREC goes out for the message at the head. */
static void exchange_confirm(struct mqtt_session *session, uint16_t id)
{
    struct exchange *exchange = &session->exchanges[id];

    if (exchange->last != (uint32_t)session->head)
        exchange->unreleased = session->connection; /* it is another message's by now */
    else if (exchange->state == EXCHANGE_DELIVERED)
        exchange->state = EXCHANGE_CONFIRMED;
}

/* Adds the acknowledgements that are ready, in the order of receipt, until there are `most` bytes to be sent. */
static void output_acknowledgements(struct mqtt_session *session, size_t most)
{
    while (session->head != session->tail && output_left(session) < most) {
        struct flight *flight = flight_of(session, session->head);
        uint8_t *to;

        if (!may_acknowledge(session, flight))
            return;
        to = output_reserve(session, MQTT_PACKET_ACK_SIZE);
        if (to == NULL)
            return;
        session->output_size += mqtt_packet_write_ack(to, MQTT_PACKET_ACK_SIZE, session->options.version,
                                                      flight->qos == 1 ? MQTT_PACKET_PUBACK : MQTT_PACKET_PUBREC,
                                                      flight->id, 0);
        if (flight->qos == 2)
            exchange_confirm(session, flight->id);
        session->head++;
    }
}

/* 3.1.1 has no word for what went wrong. */
static void output_disconnect(struct mqtt_session *session)
{
    enum mqtt_packet_version version = session->options.version;
    uint8_t *to = version == MQTT_PACKET_5 || session->farewell == REASON_SUCCESS ? output_reserve(session, 16) : NULL;

    session->is_leaving = false;
    if (to != NULL)
        session->output_size += mqtt_packet_write_disconnect(to, 16, version, session->farewell,
                                                             session->farewell_expiry);
}

/* One SUBSCRIBE for each filter. Its packet identifier tells the filter's place, from the highest down: brokers number their
 * messages from 1 up, and mochi 2.7 refuses an identifier that one of its messages to us has. */
static uint16_t id_of(size_t filter)
{
    return (uint16_t)(IDENTIFIERS - 1 - filter);
}

/* The sweep's next UNSUBSCRIBE. Some brokers hang up on it; so what came before it is acknowledged first, or would come again for
 * ever. */
static void output_unsubscribe(struct mqtt_session *session)
{
    struct sweep *sweep = session->sweep;
    struct mqtt_packet_unsubscribe unsubscribe = {.version = session->options.version,
                                                  .id = id_of(session->options.filter_count),
                                                  .filters = sweep->asked,
                                                  .count = sweep->asked_count};
    size_t size = mqtt_packet_write_unsubscribe(NULL, 0, &unsubscribe);
    uint8_t *to = output_reserve(session, size);

    sweep->is_due = sweep->is_overdue = false;
    if (to != NULL)
        session->output_size += mqtt_packet_write_unsubscribe(to, size, &unsubscribe);
    else
        sweep->asked_count = 0;
}

struct fms_bytes mqtt_session_output(struct mqtt_session *session)
{
    if (session->state == STATE_CONNECTED || session->state == STATE_PARTING || session->is_leaving)
        output_acknowledgements(session, OUTPUT_MOST);
    if (session->state == STATE_CONNECTED && session->sweep != NULL && session->sweep->is_due &&
        session->head >= session->sweep->after && !mqtt_session_is_full(session))
        output_unsubscribe(session);
    if (session->is_leaving && !mqtt_session_is_full(session))
        output_disconnect(session);
    if (session->output == NULL)
        return fms_bytes_of(NULL, 0);
    return fms_bytes_of(session->output + session->output_sent, output_left(session));
}

void mqtt_session_sent(struct mqtt_session *session, size_t size, int64_t now)
{
    session->output_sent += size;
    session->sent_at = now;
    session->unsent_at = FMS_NEVER;
}

/* --------------------------------------------------------------------------------------------------- the connection */

void mqtt_session_begin(struct mqtt_session *session, int64_t now)
{
    const struct mqtt_session_options *options = &session->options;
    int64_t seconds = (options->keepalive + FMS_SECOND - 1) / FMS_SECOND;
    struct mqtt_packet_connect connect = {
        .version = options->version,
        .client_id = options->client_id,
        .username = options->username,
        .password = options->password,
        .clean_start = options->clean_start && (options->version == MQTT_PACKET_3_1_1 || !session->has_connected),
        .keep_alive = (uint16_t)(seconds < 65535 ? seconds : 65535),
        .session_expiry = options->session_expiry,
        .maximum_packet_size = options->maximum_packet_size,
        .receive_maximum = options->receive_maximum,
        .topic_alias_maximum = options->topic_alias_maximum,
    };
    size_t size = mqtt_packet_write_connect(NULL, 0, &connect);
    uint8_t *to;

    mqtt_session_end(session);
    session->connection++;
    session->first = session->tail;
    session->reason[0] = '\0';
    session->is_foreign = session->is_heard = session->was_dismissed = session->was_taken = false;
    session->keepalive = options->keepalive;
    session->sent_at = session->heard_at = session->pinged_at = session->ticked_at = now;
    session->unsent_at = session->withheld_at = session->waits_since = FMS_NEVER;
    session->asked_at = session->message_at = now;
    session->state = STATE_CONNECTING;
    to = output_reserve(session, size);
    if (to != NULL)
        session->output_size += mqtt_packet_write_connect(to, size, &connect);
}

void mqtt_session_login(struct mqtt_session *session, const char *username, const char *password)
{
    session->options.username = username;
    session->options.password = password;
}

/* One that found nothing is not repeated at once: a session keeps messages longer than subscriptions. */
static void sweep_put_off(struct mqtt_session *session)
{
    struct sweep *sweep = session->sweep;

    sweep->not_before = session->heard_at;
    if (sweep->fruitless > 0)
        sweep->not_before += FMS_SECOND << (sweep->fruitless < 7 ? sweep->fruitless - 1 : 6);
}

/* Whoever ends the connection instead of answering UNSUBSCRIBE is not asked again and again; nor is who does not answer, but goes
 * on, as often. */
static void sweep_abort(struct mqtt_session *session)
{
    struct sweep *sweep = session->sweep;

    if (sweep->asked_count > 0 && !sweep->is_due) {
        sweep->deaths += !sweep->is_overdue;
        sweep->fruitless++;
        sweep_put_off(session);
    }
    sweep->asked_count = 0;
    sweep->is_due = sweep->is_overdue = sweep->is_void = false;
}

void mqtt_session_end(struct mqtt_session *session)
{
    session->state = STATE_CLOSED;
    session->head = session->tail;
    if (session->ring_size > IDENTIFIERS) { /* what one connection needed is not kept for the next */
        free(session->ring);
        session->ring = NULL;
        session->ring_size = 0;
    }
    session->output_size = session->output_sent = 0;
    session->is_leaving = false;
    session->farewell = REASON_SUCCESS;
    session->wanted = 0;
    session->skip = 0;
    session->is_pinged = false;
    session->granted = 0;
    session->met = 0;
    if (session->sweep != NULL)
        sweep_abort(session);
    session->is_first = true;
    for (size_t i = 0; i < session->options.filter_count; i++) {
        session->filters[i].is_granted = session->filters[i].is_asked = session->filters[i].is_refused = false;
        session->is_first = session->is_first && !session->filters[i].was_granted;
    }
    aliases_forget(session);
}

void mqtt_session_part(struct mqtt_session *session, bool for_good)
{
    bool ends = for_good && session->options.clean_start && session->options.session_expiry > 0;

    session->is_leaving = session->is_leaving || session->state == STATE_CONNECTED || session->state == STATE_PARTING;
    session->farewell_expiry = ends ? 0 : -1;
    session->state = STATE_PARTED;
}

static struct mqtt_packet_subscribe subscribe_of(const struct mqtt_session *session, size_t filter)
{
    const struct mqtt_session_options *options = &session->options;
    bool is_known = session->filters[filter].was_granted && session->was_present;

    return (struct mqtt_packet_subscribe){
        .version = options->version,
        .id = id_of(filter),
        .filter = options->filters[filter],
        .qos = options->qos,
        .subscription_id = session->has_ids ? session->subscription_id : 0,
        .retain_handling = options->retain_handling == 0 && is_known ? 1 : options->retain_handling,
    };
}

void mqtt_session_subscribe(struct mqtt_session *session, int64_t now)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        struct mqtt_packet_subscribe subscribe = subscribe_of(session, i);
        size_t size = mqtt_packet_write_subscribe(NULL, 0, &subscribe);
        uint8_t *to;

        if (session->filters[i].is_granted || session->filters[i].is_asked)
            continue;
        to = output_reserve(session, size);
        if (to == NULL)
            return; /* asked for at the next call */
        session->output_size += mqtt_packet_write_subscribe(to, size, &subscribe);
        session->filters[i].is_asked = true;
        if (session->asked_at == FMS_NEVER)
            session->asked_at = session->message_at = now;
    }
}

/* ------------------------------------------------------------------------------------------------- packets that come */

/* What the broker does not know any more we must not know either (MQTT-3.2.2-5). */
static void session_forget(struct mqtt_session *session)
{
    if (session->exchanges != NULL)
        memset(session->exchanges, 0, IDENTIFIERS * sizeof *session->exchanges);
}

/* MQTT-3.2.2-15: all else that we send to it has a handful of bytes. */
static bool may_subscribe(struct mqtt_session *session, uint32_t maximum_packet_size)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        struct mqtt_packet_subscribe subscribe = subscribe_of(session, i);
        size_t size = mqtt_packet_write_subscribe(NULL, 0, &subscribe);

        if (size > maximum_packet_size) {
            session_give_up(session,
                            "the broker takes packets of at most %u bytes, and to subscribe to \"%.100s\" takes %zu",
                            maximum_packet_size, subscribe.filter, size);
            return false;
        }
    }
    return true;
}

/* What the broker says of a code, whose text is `reason` (NULL: it is 0): the address to go to, where it names one, or its own words. */
static enum mqtt_session_event session_refused(struct mqtt_session *session, const char *what, const char *reason,
                                               const struct mqtt_packet_properties *said)
{
    struct fms_bytes more = said->server_reference.size > 0 ? said->server_reference : said->reason_string;
    char text[MQTT_SHOWN_SIZE];

    return session_give_up(session, "%s%s%s%s%s", what, reason != NULL ? ": " : "", reason != NULL ? reason : "",
                           more.size > 0 ? ": " : "", mqtt_show(more, text));
}

/* 3.1.1 has its broker answer CONNECT of a version that it does not know with its own CONNACK, which is shorter, or with its
 * own code, which MQTT 5 does not know (3.1.2.2 there). */
static bool answers_as_3_1_1(const struct mqtt_packet *packet)
{
    const uint8_t *body = packet->body.data;

    return packet->body.size >= 2 && body[1] <= 5 && (body[1] > 0 || packet->body.size == 2);
}

static enum mqtt_session_event session_foreign(struct mqtt_session *session)
{
    bool is_5 = session->options.version == MQTT_PACKET_5;

    session->is_foreign = true;
    return session_give_up(session, "the broker does not speak MQTT %s", is_5 ? "5" : "3.1.1");
}

static enum mqtt_session_event on_accepted(struct mqtt_session *session, const struct mqtt_packet_connack *connack)
{
    const struct mqtt_packet_properties *said = &connack->properties;

    session->has_ids = session->options.version == MQTT_PACKET_5 && !session->options.clean_start &&
                       said->subscription_ids_available && !session->refuses_ids;
    session->maximum_packet_size = said->maximum_packet_size;
    if (!may_subscribe(session, said->maximum_packet_size))
        return MQTT_SESSION_CLOSED;
    session->was_present = connack->session_present;
    if (!connack->session_present)
        session_forget(session);
    if (session->options.redelivery != NULL)
        mqtt_redelivery_begin(session->options.redelivery, connack->session_present);
    session->limits = (struct mqtt_session_limits){
        .session_expiry = mqtt_packet_has(said, PROPERTY_SESSION_EXPIRY) ? said->session_expiry
                                                                         : session->options.session_expiry,
        .maximum_qos = said->maximum_qos,
        .can_retain = said->retain_available,
    };
    if (mqtt_packet_has(said, PROPERTY_SERVER_KEEP_ALIVE))
        session->keepalive = said->server_keep_alive * FMS_SECOND;
    session->has_connected = true;
    session->asked_at = FMS_NEVER;
    session->state = STATE_CONNECTED;
    mqtt_session_subscribe(session, session->heard_at);
    return MQTT_SESSION_CONNECTED;
}

static enum mqtt_session_event on_connack(struct mqtt_session *session, const struct mqtt_packet *packet)
{
    enum mqtt_packet_version version = session->options.version;
    struct mqtt_packet_connack connack;
    int error;

    if (session->state != STATE_CONNECTING) /* MQTT-3.2.0-2 */
        return session_accuse(session, REASON_PROTOCOL_ERROR, "CONNACK");
    if (version == MQTT_PACKET_5 && answers_as_3_1_1(packet))
        return session_foreign(session);
    error = mqtt_packet_read_connack(version, packet, &connack);
    if (error != 0)
        return session_accuse(session, error, "CONNACK");
    if (connack.reason == (version == MQTT_PACKET_5 ? REASON_UNSUPPORTED_VERSION : 1))
        return session_foreign(session);
    if (connack.reason != 0)
        return session_refused(session, "refused", mqtt_packet_reason_text(version, connack.reason),
                               &connack.properties);
    return on_accepted(session, &connack);
}

/* SUBSCRIBE to a filter is decided. While others are not, that is progress, but not each time that one is refused which is asked
 * for again and again. */
static void answer_came(struct mqtt_session *session, struct filter *filter)
{
    bool is_progress = filter->is_granted || !filter->is_refused, is_last = true;

    filter->is_refused = !filter->is_granted;
    for (size_t i = 0; i < session->options.filter_count && is_last; i++)
        is_last = !session->filters[i].is_asked;
    if (is_last)
        session->asked_at = FMS_NEVER;
    else if (is_progress)
        session->asked_at = session->message_at = session->heard_at;
}

/* An answer to what was not asked is nothing to us; one without a code is a refusal. */
static enum mqtt_session_event on_suback(struct mqtt_session *session, const struct mqtt_packet *packet,
                                         struct mqtt_session_message *message)
{
    struct mqtt_packet_suback suback;
    int error = mqtt_packet_read_suback(session->options.version, packet, &suback);
    struct filter *filter;

    if (error != 0)
        return session_accuse(session, error, "SUBACK");
    message->filter = IDENTIFIERS - 1 - suback.id;
    if (message->filter >= session->options.filter_count || !session->filters[message->filter].is_asked)
        return MQTT_SESSION_HUNGRY;
    filter = &session->filters[message->filter];
    filter->is_asked = false;
    session->waits_since = FMS_NEVER;
    if (session->has_ids && suback.reasons.size > 0 &&
        *(const uint8_t *)suback.reasons.data == REASON_NO_SUBSCRIPTION_IDS) {
        session->refuses_ids = true;
        session->has_ids = false;
        mqtt_session_subscribe(session, session->heard_at);
        return MQTT_SESSION_HUNGRY;
    }
    message->reason = suback.reasons.size > 0 ? *(const uint8_t *)suback.reasons.data : REASON_UNSPECIFIED;
    filter->is_granted = message->reason <= REASON_GRANTED_QOS_2;
    filter->was_granted = filter->was_granted || filter->is_granted;
    session->granted += filter->is_granted;
    answer_came(session, filter);
    return filter->is_granted ? MQTT_SESSION_GRANTED : MQTT_SESSION_REFUSED;
}

/* False: no message waits for it. */
static bool exchange_release(const struct mqtt_session *session, struct exchange *exchange)
{
    bool is_earlier = exchange->unreleased == session->connection;
    bool is_known = is_earlier || exchange->state == EXCHANGE_CONFIRMED;

    exchange->unreleased = 0;
    if (is_known && !is_earlier)
        exchange->state = EXCHANGE_NONE;
    return is_known;
}

/* MQTT-4.3.3-12: the exchange ends, whether we remember it or not. No message has the identifier 0. */
static enum mqtt_session_event on_pubrel(struct mqtt_session *session, const struct mqtt_packet *packet)
{
    uint16_t id;
    int error = mqtt_packet_read_id(packet, &id);
    bool is_known;
    uint8_t *to;

    if (error != 0)
        return session_accuse(session, error, "PUBREL");
    if (id == 0)
        return MQTT_SESSION_HUNGRY;
    is_known = session->exchanges != NULL && exchange_release(session, &session->exchanges[id]);
    to = output_reserve(session, MQTT_PACKET_ACK_SIZE);
    if (to == NULL)
        return session_out_of_memory(session);
    session->output_size += mqtt_packet_write_ack(to, MQTT_PACKET_ACK_SIZE, session->options.version,
                                                  MQTT_PACKET_PUBCOMP, id,
                                                  is_known ? REASON_SUCCESS : REASON_ID_NOT_FOUND);
    return MQTT_SESSION_HUNGRY;
}

/* MQTT 3.1.1 knows it from clients only; but whoever sends it hangs up. */
static enum mqtt_session_event on_disconnect(struct mqtt_session *session, const struct mqtt_packet *packet)
{
    struct mqtt_packet_disconnect disconnect;

    mqtt_packet_read_disconnect(packet, &disconnect);
    session->was_dismissed = true;
    session->was_taken = disconnect.reason == REASON_SESSION_TAKEN_OVER;
    return session_refused(
        session, "the broker closed the connection",
        disconnect.reason != REASON_SUCCESS ? mqtt_packet_reason_text(MQTT_PACKET_5, disconnect.reason) : NULL,
        &disconnect.properties);
}

/* --------------------------------------------------------------------------------------- subscriptions of earlier starts */

static bool is_ours(const struct mqtt_session *session, const char *filter)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        if (strcmp(session->options.filters[i], filter) == 0)
            return true;
    }
    return false;
}

/* "$share/GROUP/" of the n-th of our groups, as a text of *size bytes; NULL: there are not so many. */
static const char *group_of(const struct mqtt_session *session, size_t n, size_t *size)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        const char *filter = session->options.filters[i], *rest = mqtt_filter_unshared(filter);
        bool is_known = false;

        *size = rest != NULL ? (size_t)(rest - filter) : 0;
        for (size_t k = 0; k < i; k++)
            is_known = is_known || strncmp(session->options.filters[k], filter, *size) == 0;
        if (*size > 0 && !is_known && n-- == 0)
            return filter;
    }
    return NULL;
}

/* The filters of the next UNSUBSCRIBE. */
static void sweep_fill(struct mqtt_session *session)
{
    struct sweep *sweep = session->sweep;
    size_t used = 0, prefix_size = 0;

    sweep->asked_count = 0;
    if (sweep->filter_count == 0)
        return;
    for (; sweep->asked_count < SWEEP_PIECE; sweep->next++) {
        size_t group = sweep->next / sweep->filter_count, size;
        const char *prefix = group > 0 ? group_of(session, group - 1, &prefix_size) : "";
        const char *filter = sweep->filters[sweep->next % sweep->filter_count];

        if (prefix == NULL || group > SWEEP_GROUPS)
            return;
        size = prefix_size + strlen(filter) + 1;
        if (used + size > sizeof sweep->text || 16 + used + size + 2 * SWEEP_PIECE > session->maximum_packet_size) {
            if (used > 0)
                return; /* in the next piece */
            continue;
        }
        memcpy(sweep->text + used, prefix, prefix_size);
        memcpy(sweep->text + used + prefix_size, filter, size - prefix_size);
        if (is_ours(session, sweep->text + used))
            continue;
        sweep->asked[sweep->asked_count++] = sweep->text + used;
        used += size;
    }
}

/* The next UNSUBSCRIBE goes out when all that was taken before `after` is acknowledged. False: there is none. */
static bool sweep_ask(struct mqtt_session *session, uint64_t after)
{
    struct sweep *sweep = session->sweep;

    sweep_fill(session);
    sweep->is_due = sweep->asked_count > 0;
    sweep->after = after;
    return sweep->is_due;
}

/* Of a topic with too many levels for all filters to be tried: # behind each of its levels, and itself, as far as it is not too
 * long. As mqtt_filters_of. */
static size_t long_filters_of(struct fms_bytes topic, char ***filters)
{
    size_t size = topic.size < SWEEP_TOPIC ? topic.size : SWEEP_TOPIC, most = 3, count = 0;
    const char *bytes = topic.data;
    char *to;

    for (size_t i = 0; i < size; i++)
        most += bytes[i] == '/';
    *filters = malloc(most * (sizeof **filters + size + sizeof "/#"));
    if (*filters == NULL)
        return 0;
    to = (char *)(*filters + most);
    for (size_t i = 0; i <= size; i++) {
        bool is_whole = i == topic.size;

        if (i > 0 && !is_whole && (i == size || bytes[i] != '/'))
            continue;
        (*filters)[count] = to;
        to += 1 + snprintf(to, i + sizeof "/#", "%.*s%s#", (int)i, bytes, i > 0 ? "/" : "");
        count += mqtt_filter_matches((*filters)[count], topic);
        if (is_whole) {
            (*filters)[count++] = to;
            memcpy(to, bytes, i);
            to[i] = '\0';
        }
    }
    return count;
}

/* Without memory nothing is asked. */
static void sweep_begin(struct mqtt_session *session, struct fms_bytes topic)
{
    struct fms_list ours = {session->options.filters, session->options.filter_count};
    struct sweep *sweep = session->sweep;

    free(sweep->filters);
    sweep->filter_count = mqtt_filters_of(topic, &ours, &sweep->filters);
    if (sweep->filter_count == 0) {
        free(sweep->filters);
        sweep->filter_count = long_filters_of(topic, &sweep->filters);
    }
    sweep->topic_size = topic.size < SWEEP_TOPIC ? topic.size : SWEEP_TOPIC;
    memcpy(sweep->topic, topic.data, sweep->topic_size);
    sweep->next = sweep->found = 0;
    sweep->names[0] = '\0';
    sweep->is_void = !sweep_ask(session, session->tail);
}

static void sweep_name(struct sweep *sweep, const char *filter)
{
    size_t used = strlen(sweep->names);

    sweep->found++;
    snprintf(sweep->names + used, sizeof sweep->names - used, "%s%s", used > 0 ? ", " : "", filter);
}

/* The sweep is over. */
static enum mqtt_session_event sweep_end(struct mqtt_session *session, struct mqtt_session_message *message)
{
    struct sweep *sweep = session->sweep;
    bool is_known = session->options.version == MQTT_PACKET_5, is_void = sweep->is_void;

    sweep->is_void = false;
    sweep->fruitless = sweep->found > 0 ? 0 : sweep->fruitless + 1;
    sweep->has_told = sweep->has_told && sweep->found == 0;
    sweep_put_off(session);
    message->topic = sweep->found > 0 ? fms_text(sweep->names) : fms_bytes_of(sweep->topic, sweep->topic_size);
    if (sweep->found > 0 || (!is_known && sweep->fruitless == 1 && !is_void))
        return MQTT_SESSION_SWEPT;
    if (sweep->fruitless < SWEEP_STRAY || sweep->has_told)
        return MQTT_SESSION_HUNGRY;
    sweep->has_told = true;
    return MQTT_SESSION_STRAY;
}

static enum mqtt_session_event on_unsuback(struct mqtt_session *session, const struct mqtt_packet *packet,
                                           struct mqtt_session_message *message)
{
    struct sweep *sweep = session->sweep;
    struct mqtt_packet_suback unsuback;
    const uint8_t *reasons;

    if (mqtt_packet_read_suback(session->options.version, packet, &unsuback) != 0 || sweep == NULL ||
        sweep->asked_count == 0 || sweep->is_due || unsuback.id != id_of(session->options.filter_count))
        return MQTT_SESSION_HUNGRY;
    sweep->deaths = 0;
    session->waits_since = FMS_NEVER;
    reasons = unsuback.reasons.data;
    for (size_t i = 0; i < sweep->asked_count && i < unsuback.reasons.size; i++) {
        if (reasons[i] == REASON_SUCCESS)
            sweep_name(sweep, sweep->asked[i]);
    }
    return sweep_ask(session, session->head) ? MQTT_SESSION_HUNGRY : sweep_end(session, message);
}

static bool matches_ours(const struct mqtt_session *session, struct fms_bytes topic)
{
    for (size_t i = 0; i < session->options.filter_count; i++) {
        const char *filter = mqtt_filter_unshared(session->options.filters[i]);

        if (filter != NULL && mqtt_filter_matches(filter, topic))
            return true;
    }
    return false;
}

/* Whether a message came by a subscription that is not ours. With subscription identifiers that is a look at one number; without,
 * each of the first messages is compared with our filters, and then one of 64. All filters must be answered first; what comes by
 * an earlier subscription to one that was refused is asked for all the same. */
static bool is_unasked(struct mqtt_session *session, const struct mqtt_packet_publish *publish)
{
    const struct mqtt_packet_properties *said = &publish->properties;
    bool has_id = said->subscription_id != 0;
    size_t met = session->met++;

    if (has_id && said->subscription_id == session->subscription_id && !said->has_other_ids) {
        session->knows_ids = true;
        return false;
    }
    if (session->options.clean_start || session->asked_at != FMS_NEVER || publish->fault != NULL)
        return false;
    if (session->has_ids && (has_id || session->knows_ids))
        return mqtt_session_is_subscribed(session) || !matches_ours(session, publish->topic);
    return (met < 1024 || met % 64 == 0) && !matches_ours(session, publish->topic);
}

/* A message that came by a subscription that is not ours is in the pipeline. Without memory there is no sweep. */
static void on_unasked(struct mqtt_session *session, struct fms_bytes topic)
{
    if (session->sweep == NULL)
        session->sweep = calloc(1, sizeof *session->sweep);
    if (session->sweep != NULL && session->sweep->asked_count == 0 && mqtt_session_may_sweep(session) &&
        session->heard_at >= session->sweep->not_before)
        sweep_begin(session, topic);
}

/* --------------------------------------------------------------------------------------------------------- messages */

/* Room in the ring for one more. False: no memory, or more than is allowed. */
static bool ring_reserve(struct mqtt_session *session)
{
    size_t used = (size_t)(session->tail - session->head), size;
    struct flight *ring;

    if (used < session->ring_size)
        return true;
    size = session->ring_size == 0 ? 1024 : 2 * session->ring_size;
    ring = size <= session->options.flights_max ? malloc(size * sizeof *ring) : NULL;
    if (ring == NULL)
        return false;
    for (uint64_t number = session->head; number != session->tail; number++)
        ring[number & (size - 1)] = *flight_of(session, number);
    free(session->ring);
    session->ring = ring;
    session->ring_size = size;
    return true;
}

static void ring_add(struct mqtt_session *session, uint16_t id, uint8_t qos, bool is_ready)
{
    *flight_of(session, session->tail++) = (struct flight){id, qos, is_ready};
}

/* The topic of an alias, or the one that it is to stand for (3.3.2.3.4), for which there is room then. False: no memory. An
 * alias that we did not allow (MQTT-3.3.2-9) costs nothing as long as the topic stands beside it. */
static bool resolve_alias(struct mqtt_session *session, struct mqtt_packet_publish *publish)
{
    uint16_t number = publish->properties.topic_alias;
    struct alias *alias = number > 0 && number <= session->options.topic_alias_maximum ? &session->aliases[number - 1]
                                                                                       : NULL;
    char *topic;

    if (alias == NULL)
        publish->properties.topic_alias = 0;
    if (publish->topic.size == 0 && alias != NULL) {
        publish->topic = fms_bytes_of(alias->topic, alias->size);
        if (publish->fault == NULL && alias->size > 0)
            publish->fault = mqtt_topic_fault(publish->topic);
    } else if (alias != NULL && publish->topic.size > alias->room) {
        topic = realloc(alias->topic, publish->topic.size);
        if (topic == NULL)
            return false;
        alias->topic = topic;
        alias->room = (uint32_t)publish->topic.size;
    }
    if (publish->topic.size == 0 && publish->fault == NULL)
        publish->fault = "its topic alias stands for nothing";
    return true;
}

static void keep_alias(struct mqtt_session *session, const struct mqtt_session_message *message)
{
    struct alias *alias = &session->aliases[message->alias - 1];

    memcpy(alias->topic, message->topic.data, message->topic.size);
    alias->size = (uint32_t)message->topic.size;
}

/* FNV-1a of the topic and the payload, or of its size where it is not all there. */
static uint32_t fingerprint_of(struct fms_bytes topic, struct fms_bytes payload, bool is_cut)
{
    const struct fms_bytes parts[] = {topic, is_cut ? fms_bytes_of(&payload.size, sizeof payload.size) : payload};
    uint32_t hash = 2166136261;

    for (size_t i = 0; i < 2; i++) {
        const uint8_t *byte = parts[i].data;

        for (size_t n = 0; n < parts[i].size; n++)
            hash = (hash ^ byte[n]) * 16777619;
    }
    return hash;
}

/* The number of a message's last flight. */
static uint64_t last_flight(const struct mqtt_session *session, const struct exchange *exchange)
{
    return session->tail - (uint32_t)((uint32_t)session->tail - exchange->last);
}

static bool is_of_this_connection(const struct mqtt_session *session, const struct exchange *exchange)
{
    return last_flight(session, exchange) >= session->first;
}

/* Whether a message of QoS 2 came before and is not released (MQTT-4.3.3-10): it is confirmed, not given again. Sent again
 * on its own connection, as some brokers do in time, one PUBREC will do. Only a broker that has used up all identifiers
 * since, unasked for DUP, means another message, though it says the same. */
static bool is_repeated(struct mqtt_session *session, const struct mqtt_packet_publish *publish, uint32_t fingerprint)
{
    struct exchange *exchange = &session->exchanges[publish->id];

    if (exchange->state == EXCHANGE_NONE || exchange->fingerprint != fingerprint ||
        (!publish->dup && is_of_this_connection(session, exchange) &&
         session->tail - last_flight(session, exchange) >= IDENTIFIERS / 2))
        return false;
    if (last_flight(session, exchange) < session->head) { /* acknowledged, or of an earlier connection */
        exchange->last = (uint32_t)session->tail;
        ring_add(session, publish->id, 2, exchange->state != EXCHANGE_TAKEN);
        if (exchange->state == EXCHANGE_CONFIRMED)
            exchange->state = EXCHANGE_DELIVERED;
    }
    return true;
}

/* Room for what mqtt_session_take will keep of a message. False: the connection is over. */
static bool publish_reserve(struct mqtt_session *session, struct mqtt_packet_publish *publish)
{
    if (publish->qos > 0 && !ring_reserve(session)) {
        if (2 * session->ring_size > session->options.flights_max)
            session_accuse(session, REASON_RECEIVE_MAXIMUM_EXCEEDED, "PUBLISH");
        else
            session_out_of_memory(session);
        return false;
    }
    if (publish->qos == 2 && session->exchanges == NULL)
        session->exchanges = calloc(IDENTIFIERS, sizeof *session->exchanges);
    if ((publish->qos == 2 && session->exchanges == NULL) || !resolve_alias(session, publish)) {
        session_out_of_memory(session);
        return false;
    }
    return true;
}

/* What is kept of it is kept by mqtt_session_take, so that it can be met again. */
static enum mqtt_session_event on_publish(struct mqtt_session *session, const struct mqtt_packet *packet, size_t there,
                                          struct mqtt_session_message *message)
{
    struct mqtt_packet_publish *publish = &session->publish;
    uint32_t fingerprint;
    bool is_cut, names_topic;

    if (mqtt_packet_read_publish(session->options.version, packet, there, publish) !=
        0) /* the buffer holds as much as it takes */
        return session_accuse(session, REASON_PACKET_TOO_LARGE, "PUBLISH");
    names_topic = publish->topic.size > 0;
    if (!publish_reserve(session, publish))
        return MQTT_SESSION_CLOSED;
    session->message_at = session->heard_at;
    is_cut = there < packet->body.size;
    fingerprint = publish->qos == 2 ? fingerprint_of(publish->topic, publish->payload, is_cut) : 0;
    if (publish->qos == 2 && is_repeated(session, publish, fingerprint)) {
        if (session->options.redelivery != NULL)
            mqtt_redelivery_take(session->options.redelivery, publish->id);
        return MQTT_SESSION_HUNGRY;
    }
    *message = (struct mqtt_session_message){
        .topic = publish->topic,
        .payload = publish->payload,
        .fault = publish->fault,
        .is_unasked = is_unasked(session, publish),
        .is_cut = is_cut,
        .qos = publish->qos,
        .is_retained = publish->retain,
        .said = &publish->properties,
        .tag = {session->tail, (uint64_t)publish->qos << 16 | publish->id},
        .size = packet->size,
        .alias = names_topic ? publish->properties.topic_alias : 0,
        .fingerprint = fingerprint,
    };
    return MQTT_SESSION_MESSAGE;
}

/* The rest of a packet that is larger than what is there is passed over as it comes. */
static void use_up(struct mqtt_session *session, struct fms_bytes *input, size_t size)
{
    size_t there = size < input->size ? size : input->size;

    session->skip = size - there;
    if (there == 0)
        return;
    *input = fms_bytes_of((const uint8_t *)input->data + there, input->size - there);
}

static void exchange_begin(struct mqtt_session *session, struct exchange *exchange,
                           const struct mqtt_session_message *message)
{
    if (exchange->state == EXCHANGE_CONFIRMED && is_of_this_connection(session, exchange))
        exchange->unreleased = session->connection;
    exchange->number = message->tag[0];
    exchange->last = (uint32_t)message->tag[0];
    exchange->fingerprint = message->fingerprint;
    exchange->state = EXCHANGE_TAKEN;
}

bool mqtt_session_is_marked(const struct mqtt_session *session)
{
    return session->publish.dup;
}

void mqtt_session_take(struct mqtt_session *session, struct fms_bytes *input,
                       const struct mqtt_session_message *message)
{
    uint16_t id = (uint16_t)message->tag[1];

    if (message->alias != 0)
        keep_alias(session, message);
    if (message->qos == 2)
        exchange_begin(session, &session->exchanges[id], message);
    if (message->qos > 0)
        ring_add(session, id, message->qos, false);
    if (message->is_unasked)
        on_unasked(session, message->topic);
    use_up(session, input, message->size);
}

/* The flight that a delivered message is to be acknowledged with: at QoS 2 that of its last receipt. */
static uint64_t settled_flight(struct mqtt_session *session, const uint64_t tag[2])
{
    bool is_exchanged = (unsigned)(tag[1] >> 16) == 2;
    struct exchange *exchange = is_exchanged ? &session->exchanges[(uint16_t)tag[1]] : NULL;

    if (!is_exchanged || exchange->state != EXCHANGE_TAKEN || exchange->number != tag[0])
        return tag[0];
    exchange->state = EXCHANGE_DELIVERED;
    return last_flight(session, exchange);
}

bool mqtt_session_settled(struct mqtt_session *session, const uint64_t tag[2])
{
    uint64_t number;

    if (tag[1] >> 16 == 0)
        return false;
    number = settled_flight(session, tag);
    if (number < session->head || number >= session->tail)
        return false; /* of an earlier connection */
    flight_of(session, number)->is_ready = true;
    return number == session->head;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

/* What answers something that we never said, or asks for nothing, costs nothing. */
static enum mqtt_session_event session_dispatch(struct mqtt_session *session, const struct mqtt_packet *packet,
                                                size_t there, struct mqtt_session_message *message)
{
    static const char *const names[] = {
        "a packet of type 0", "CONNECT", "CONNACK",     "PUBLISH",  "PUBACK",  "PUBREC",   "PUBREL",     "PUBCOMP",
        "SUBSCRIBE",          "SUBACK",  "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"};

    session->is_heard = true;
    switch (packet->type) {
    case MQTT_PACKET_CONNACK:
        return on_connack(session, packet);
    case MQTT_PACKET_PUBLISH:
        return on_publish(session, packet, there, message);
    case MQTT_PACKET_PUBREL:
        return on_pubrel(session, packet);
    case MQTT_PACKET_SUBACK:
        return on_suback(session, packet, message);
    case MQTT_PACKET_UNSUBACK:
        return on_unsuback(session, packet, message);
    case MQTT_PACKET_DISCONNECT:
        return on_disconnect(session, packet);
    case MQTT_PACKET_PINGRESP:
        session->round_trip = session->heard_at - session->pinged_at;
        session->has_round_trip = session->is_pinged;
        session->is_pinged = false;
        return MQTT_SESSION_HUNGRY;
    case MQTT_PACKET_PUBACK:
    case MQTT_PACKET_PUBREC:
    case MQTT_PACKET_PUBCOMP:
    case MQTT_PACKET_PINGREQ:
    case MQTT_PACKET_AUTH:
        return MQTT_SESSION_HUNGRY;
    default: /* what only a client sends, and the reserved type (MQTT-2.1.2): no broker is there */
        return session_accuse(session, packet->type == 0 ? REASON_MALFORMED : REASON_PROTOCOL_ERROR,
                              names[packet->type]);
    }
}

void mqtt_session_heard(struct mqtt_session *session, int64_t now)
{
    session->heard_at = now;
}

/* Whether enough of a packet is there. Of one that is larger than the buffer can be, as much as that holds. */
static bool is_there(struct mqtt_session *session, const struct mqtt_packet *packet, size_t size)
{
    session->wanted = packet->size < session->options.buffer_size ? packet->size : session->options.buffer_size;
    return size >= session->wanted;
}

/* There is no reason for anything but a message to be larger than the buffer. A message may be, and may also be larger than
 * we said we take (MQTT-3.1.2-24): a broker that sends it all the same will send it again. */
static bool is_too_large(const struct mqtt_session *session, const struct mqtt_packet *packet)
{
    return packet->size > session->options.buffer_size && packet->type != MQTT_PACKET_PUBLISH;
}

/* Whether what comes first is nothing that a broker may say before or instead of CONNACK. */
static bool is_no_broker(const struct mqtt_session *session, struct fms_bytes input)
{
    const uint8_t *bytes = input.data;

    return session->state == STATE_CONNECTING && input.size > 0 && bytes[0] != MQTT_PACKET_CONNACK << 4 &&
           bytes[0] != MQTT_PACKET_DISCONNECT << 4;
}

/* There is something else at that port, which does not speak the other version of MQTT either. */
static enum mqtt_session_event session_mistaken(struct mqtt_session *session, struct fms_bytes input)
{
    static const uint8_t tls_alert[] = {0x15, 0x03};
    char text[MQTT_SHOWN_SIZE];
    bool is_more = input.size > GREETING_SHOWN;

    session->is_heard = true;
    if (input.size >= sizeof tls_alert && memcmp(input.data, tls_alert, sizeof tls_alert) == 0)
        return session_give_up(session, "that port speaks TLS: use ssl://");
    mqtt_show(fms_bytes_of(input.data, is_more ? GREETING_SHOWN : input.size), text);
    return session_give_up(session, "what answers there is no MQTT broker (it says \"%s%s\")", text,
                           is_more ? "..." : "");
}

enum mqtt_session_event mqtt_session_read(struct mqtt_session *session, struct fms_bytes *input,
                                          struct mqtt_session_message *message)
{
    if (session->sweep != NULL && session->sweep->is_void && sweep_end(session, message) == MQTT_SESSION_STRAY)
        return MQTT_SESSION_STRAY;
    while ((session->state == STATE_CONNECTING || session->state == STATE_CONNECTED) &&
           !mqtt_session_is_full(session)) {
        enum mqtt_session_event event;
        struct mqtt_packet packet;
        size_t head;
        int error;

        if (is_no_broker(session, *input))
            return session_mistaken(session, *input);
        use_up(session, input, session->skip);
        session->wanted = 2;
        error = session->skip > 0 ? 0 : mqtt_packet_peek(input->data, input->size, &packet);
        if (error == 0) {
            session->wanted = session->skip > 0 || input->size == 0 ? 1 : input->size + 1;
            return MQTT_SESSION_HUNGRY;
        }
        if (error != 1)
            return session_accuse_length(session, error);
        if (is_too_large(session, &packet))
            return session_accuse_length(session, REASON_PACKET_TOO_LARGE);
        if (!is_there(session, &packet, input->size))
            return MQTT_SESSION_HUNGRY;
        head = packet.size - packet.body.size;
        event = session_dispatch(session, &packet, input->size < packet.size ? input->size - head : packet.body.size,
                                 message);
        if (event == MQTT_SESSION_MESSAGE)
            return event;
        use_up(session, input, packet.size);
        if (event != MQTT_SESSION_HUNGRY)
            return event;
    }
    session->wanted = 0;
    return MQTT_SESSION_HUNGRY;
}

/* ------------------------------------------------------------------------------------------------------------- time */

/* When the broker's silence, after a PINGREQ, has lasted too long. */
static int64_t silence_ends(const struct mqtt_session *session)
{
    int64_t since = session->pinged_at > session->heard_at ? session->pinged_at : session->heard_at;

    return since + session->keepalive / 2;
}

/* When an answer is overdue. SUBACK may stand behind all the messages that the broker has kept for us; nothing else that comes,
 * such as PINGRESP, is a reason to wait for it. */
static int64_t answer_ends(const struct mqtt_session *session)
{
    int64_t end, most;

    if (session->asked_at == FMS_NEVER)
        return FMS_NEVER;
    if (session->state != STATE_CONNECTED)
        return session->asked_at + ANSWER_PATIENCE;
    end = session->message_at + ANSWER_PATIENCE;
    most = session->asked_at + ANSWER_MOST;
    return end < most ? end : most;
}

/* When PINGREQ is due: also while an answer is not read, for the broker counts (MQTT-3.1.2-20). */
static int64_t ping_due(const struct mqtt_session *session)
{
    int64_t since = session->pinged_at > session->sent_at ? session->pinged_at : session->sent_at;

    return since + session->keepalive;
}

/* When a broker that takes nothing more from us is given up. */
static int64_t unsent_ends(const struct mqtt_session *session)
{
    int64_t patience = session->keepalive > 0 ? session->keepalive : session->options.keepalive;

    return session->unsent_at == FMS_NEVER ? FMS_NEVER : session->unsent_at + 2 * patience;
}

/* Whether all acknowledgements wait for a PUBREL. */
static bool awaits_release(const struct mqtt_session *session)
{
    return session->state == STATE_CONNECTED && session->head != session->tail &&
           flight_of(session, session->head)->is_ready && is_withheld(session, flight_of(session, session->head));
}

static void watch_release(struct mqtt_session *session, int64_t now, bool is_reading)
{
    if (!awaits_release(session)) {
        session->withheld_at = FMS_NEVER;
    } else if (session->withheld_at == FMS_NEVER || session->withheld != session->head) {
        session->withheld = session->head;
        session->withheld_at = now;
    } else if (!is_reading) {
        session->withheld_at += now - session->ticked_at;
    }
    session->ticked_at = now;
}

static int64_t release_ends(const struct mqtt_session *session)
{
    if (!awaits_release(session))
        return FMS_NEVER;
    return session->withheld_at == FMS_NEVER ? 0 : session->withheld_at + RELEASE_PATIENCE; /* 0: to be noted */
}

/* Answers that may be late, or never come, and cost nothing: to UNSUBSCRIBE, and to SUBSCRIBE as long as messages come. */
static bool awaits_answer(const struct mqtt_session *session)
{
    return session->state == STATE_CONNECTED &&
           ((session->asked_at != FMS_NEVER && !session->has_told_late) || mqtt_session_unswept(session) != NULL);
}

static void watch_answer(struct mqtt_session *session, int64_t now, bool is_reading)
{
    if (!awaits_answer(session))
        session->waits_since = FMS_NEVER;
    else if (session->waits_since == FMS_NEVER)
        session->waits_since = now;
    else if (!is_reading)
        session->waits_since += now - session->ticked_at;
    session->is_reading = is_reading;
}

/* When such an answer is overdue. */
static int64_t wait_ends(const struct mqtt_session *session)
{
    return session->is_reading && session->waits_since != FMS_NEVER && awaits_answer(session)
               ? session->waits_since + ANSWER_PATIENCE
               : FMS_NEVER;
}

int64_t mqtt_session_deadline(const struct mqtt_session *session)
{
    int64_t deadline = unsent_ends(session);

    if (wait_ends(session) < deadline)
        deadline = wait_ends(session);

    if (session->state == STATE_CONNECTED && session->keepalive > 0 && ping_due(session) < deadline)
        deadline = ping_due(session);
    if (release_ends(session) < deadline)
        deadline = release_ends(session);
    if (session->is_pinged && silence_ends(session) < deadline)
        deadline = silence_ends(session);
    if ((session->state == STATE_CONNECTED || session->state == STATE_CONNECTING) && answer_ends(session) < deadline)
        deadline = answer_ends(session);
    return deadline;
}

static enum mqtt_session_event session_impatient(struct mqtt_session *session)
{
    const char *filter = mqtt_session_unanswered(session);
    double patience = (double)ANSWER_PATIENCE / (double)FMS_SECOND;

    if (session->state != STATE_CONNECTED)
        return session_give_up(session, "no answer to CONNECT within %.0f s", patience);
    if (session->message_at > session->asked_at)
        session_give_up(session, "no answer to SUBSCRIBE to \"%.100s\", behind all the messages that have come instead",
                        filter != NULL ? filter : "");
    else
        session_give_up(session, "no answer to SUBSCRIBE to \"%.100s\" within %.0f s", filter != NULL ? filter : "",
                        patience);
    return session_leave(session, REASON_SUCCESS);
}

/* It will not go on: what it has not heard it sends again on another connection, where no release is awaited. */
static enum mqtt_session_event session_unreleased(struct mqtt_session *session)
{
    session_give_up(
        session,
        "the broker breaks the protocol: it calls another message by identifier %u, which it has not released"
        " (PUBREL) for %.0f s",
        flight_of(session, session->head)->id, (double)RELEASE_PATIENCE / (double)FMS_SECOND);
    return session_leave(session, REASON_PROTOCOL_ERROR);
}

/* Each is told once, and nothing else follows from it. */
static enum mqtt_session_event session_overdue(struct mqtt_session *session)
{
    struct sweep *sweep = session->sweep;
    bool is_news = true;

    if (mqtt_session_unswept(session) == NULL) {
        session->late = mqtt_session_unanswered(session);
        session->has_told_late = true;
        return MQTT_SESSION_UNANSWERED;
    }
    session->late = mqtt_session_unswept(session);
    sweep->is_overdue = true;
    is_news = !sweep->has_told_overdue;
    sweep->has_told_overdue = true;
    return is_news ? MQTT_SESSION_UNSWEPT : MQTT_SESSION_HUNGRY;
}

enum mqtt_session_event mqtt_session_tick(struct mqtt_session *session, int64_t now, bool is_reading)
{
    uint8_t *to;

    if (!is_reading) {
        session->heard_at = session->message_at = now;
        if (session->state == STATE_CONNECTED && session->asked_at != FMS_NEVER)
            session->asked_at += now - session->ticked_at;
    }
    if (output_left(session) > 0 && session->unsent_at == FMS_NEVER)
        session->unsent_at = now;
    watch_answer(session, now, is_reading);
    watch_release(session, now, is_reading);
    if (now < mqtt_session_deadline(session))
        return MQTT_SESSION_HUNGRY;
    if (now >= answer_ends(session))
        return session_impatient(session);
    if (now >= release_ends(session))
        return session_unreleased(session);
    if (session->is_pinged && now >= silence_ends(session))
        return session_give_up(session, "the broker went silent");
    if (now >= unsent_ends(session))
        return session_give_up(session, "the broker does not read what we send");
    if (now >= wait_ends(session))
        return session_overdue(session);
    if (session->keepalive == 0 || now < ping_due(session))
        return MQTT_SESSION_HUNGRY;
    to = output_reserve(session, 2);
    if (to == NULL)
        return session_out_of_memory(session);
    session->output_size += mqtt_packet_write_pingreq(to, 2);
    session->is_pinged = true;
    session->pinged_at = now;
    return MQTT_SESSION_HUNGRY;
}
