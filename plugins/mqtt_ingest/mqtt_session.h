/* mqtt_session.h - what an MQTT subscriber must remember and say: connection, subscriptions, acknowledgements, keep alive.
 *
 * Pure: bytes and the time go in, bytes and events come out. It knows no socket and no pipeline, and one thread at a time
 * may use it. Its memory is bounded: 4 bytes for each message that is not acknowledged, 1.5 MiB more at QoS 2, topic aliases as
 * far as they were allowed, and what waits to be sent.
 *
 * An acknowledgement is sent when mqtt_session_settled has said so of its message and of all that came before it on this
 * connection (MQTT-4.6.0-2), and never on another connection than that of the message's last receipt.
 *
 * Only a packet whose end or whose fields cannot be told, or that no server may send, costs the connection, and not before what was
 * taken on it can be acknowledged. No message does: one of which no record can be made is given with its fault. */
#ifndef MQTT_INGEST_SESSION_H
#define MQTT_INGEST_SESSION_H

#include "mqtt_packet.h"

struct mqtt_redelivery;

struct mqtt_session_options {
    enum mqtt_packet_version version;
    const char *client_id;
    const char *username, *password; /* NULL: none */
    bool clean_start;
    uint8_t retain_handling; /* MQTT 5 (3.8.3.1): 0, for each filter once in the session's life; 1; 2 */
    uint32_t session_expiry; /* seconds, MQTT 5 */
    int64_t keepalive;
    const char *const *filters; /* at most 65534 */
    size_t filter_count;
    uint8_t qos;
    uint16_t receive_maximum;     /* MQTT 5; 0: not said */
    uint16_t topic_alias_maximum; /* MQTT 5 */
    uint32_t maximum_packet_size; /* MQTT 5: the broker drops what is larger; 0: not said */
    size_t flights_max; /* most messages that are not acknowledged, a power of two of at least 1024: beyond it the
                                     broker breaks the protocol */
    struct mqtt_redelivery *
        redelivery; /* is told of sessions, and of messages that are not given again; outlives this one; NULL: nobody is */
    size_t
        buffer_size; /* of packets that are larger only a message is read, and given without its payload; at least 70,000,
                                     so that it holds a topic */
};

/* What the broker makes of what CONNECT asked for (MQTT 5). */
struct mqtt_session_limits {
    uint32_t session_expiry; /* seconds */
    uint8_t maximum_qos;
    bool can_retain;
};

struct mqtt_session;

/* `options` is copied, and what it points to outlives the session. NULL: no memory. */
struct mqtt_session *mqtt_session_new(const struct mqtt_session_options *options);
void mqtt_session_free(struct mqtt_session *session);

/* --------------------------------------------------------------------------------------------------- the connection */

/* The transport is there: CONNECT is to be sent. */
void mqtt_session_begin(struct mqtt_session *session, int64_t now);

/* Who we are from the next connection on; NULL: nobody. They live until it is said anew, as what the options point to. */
void mqtt_session_login(struct mqtt_session *session, const char *username, const char *password);

/* Which version is spoken. To be changed between two connections only. */
enum mqtt_packet_version mqtt_session_version(const struct mqtt_session *session);
void mqtt_session_speak(struct mqtt_session *session, enum mqtt_packet_version version);

/* The transport is gone. What was received and not acknowledged will come again. */
void mqtt_session_end(struct mqtt_session *session);

/* We part: what is ready to be acknowledged and DISCONNECT are to be sent, and nothing more is read. With `for_good` a session
 * of MQTT 5 that clean_start began ends at once. */
void mqtt_session_part(struct mqtt_session *session, bool for_good);

/* After MQTT_SESSION_CLOSED: whether the broker may still hear acknowledgements, and mqtt_session_part is to follow. */
bool mqtt_session_is_parting(const struct mqtt_session *session);

/* Whether all that was taken on this connection is acknowledged. */
bool mqtt_session_is_settled(const struct mqtt_session *session);

/* Asks again for the subscriptions that were refused. */
void mqtt_session_subscribe(struct mqtt_session *session, int64_t now);

bool mqtt_session_is_connected(const struct mqtt_session *session);  /* CONNACK has come */
bool mqtt_session_is_subscribed(const struct mqtt_session *session); /* all filters are granted */
bool mqtt_session_was_present(const struct mqtt_session *session);   /* the broker knew us (MQTT-3.2.2-2) */
bool mqtt_session_is_first(const struct mqtt_session *session); /* no filter was granted on an earlier connection */
bool mqtt_session_is_foreign(
    const struct mqtt_session *session); /* the broker says that it does not know this version */
bool mqtt_session_was_dismissed(const struct mqtt_session *session); /* the broker has sent DISCONNECT */
bool mqtt_session_was_taken(const struct mqtt_session *session);     /* for another client has connected with our id */
bool mqtt_session_is_unheard(const struct mqtt_session *session); /* the broker has said nothing on this connection */
const struct mqtt_session_limits *mqtt_session_limits(const struct mqtt_session *session); /* once it is connected */
size_t
mqtt_session_flights(const struct mqtt_session *session); /* messages of this connection that are not acknowledged */

/* How long the broker took to answer PINGREQ; each answer is told once. False: no further one has come. */
bool mqtt_session_round_trip(struct mqtt_session *session, int64_t *nanoseconds);

/* A filter that was asked for and neither granted nor refused; NULL: there is none. */
const char *mqtt_session_unanswered(const struct mqtt_session *session);

/* A filter of an earlier start that is unsubscribed without an answer yet; NULL: there is none, or it is not waited for any
 * more. */
const char *mqtt_session_unswept(const struct mqtt_session *session);

/* The filter that MQTT_SESSION_UNANSWERED or MQTT_SESSION_UNSWEPT was about. */
const char *mqtt_session_late(const struct mqtt_session *session);

/* False: connections have ended instead of such an answer, one after the other, and none is asked for any more. */
bool mqtt_session_may_sweep(const struct mqtt_session *session);

/* Why MQTT_SESSION_CLOSED was returned, in words; lives until mqtt_session_begin. */
const char *mqtt_session_reason(const struct mqtt_session *session);

/* ------------------------------------------------------------------------------------------------------------ input */

enum mqtt_session_event {
    MQTT_SESSION_HUNGRY,    /* nothing more can be made of what is there; see mqtt_session_wanted */
    MQTT_SESSION_CONNECTED, /* CONNACK */
    MQTT_SESSION_GRANTED,   /* SUBACK: for message->filter, of QoS message->reason */
    MQTT_SESSION_REFUSED,   /* SUBACK: for message->filter, because of message->reason */
    MQTT_SESSION_MESSAGE, /* PUBLISH; to be taken with mqtt_session_take, or met again by the next mqtt_session_read */
    MQTT_SESSION_SWEPT, /* subscriptions that nobody asks for are ended: message->topic names them (MQTT 5), or what came by them */
    MQTT_SESSION_STRAY,      /* messages keep coming by a subscription that cannot be found, such as message->topic */
    MQTT_SESSION_UNANSWERED, /* SUBSCRIBE, for some time, though the broker sends messages; told once */
    MQTT_SESSION_UNSWEPT,    /* likewise UNSUBSCRIBE */
    MQTT_SESSION_CLOSED,     /* to be closed, see mqtt_session_is_parting; mqtt_session_reason says why */
};

struct mqtt_session_message {
    size_t filter;
    int reason;
    struct fms_bytes topic, payload; /* as long as the input, and until mqtt_session_take */
    const char *fault;               /* why no record can be made of it; NULL: one can */
    bool is_unasked;                 /* it came by a subscription that is not ours */
    bool is_cut;                     /* payload.data does not hold the payload, only its size is true */
    bool is_retained;
    uint8_t qos;
    const struct mqtt_packet_properties *said;
    uint64_t tag[2];      /* for mqtt_session_settled */
    size_t size;          /* of the packet */
    uint16_t alias;       /* 0: none is to be kept */
    uint32_t fingerprint; /* at QoS 2: of topic and payload */
};

/* Bytes have come from the broker. */
void mqtt_session_heard(struct mqtt_session *session, int64_t now);

/* Reads from the front of *input, which shrinks by what was used up. Of `message` the fields that the event names. */
enum mqtt_session_event mqtt_session_read(struct mqtt_session *session, struct fms_bytes *input,
                                          struct mqtt_session_message *message);

/* Whether the message that mqtt_session_read has just given is marked as one that is sent again (DUP). */
bool mqtt_session_is_marked(const struct mqtt_session *session);

/* The message that mqtt_session_read has just given is in the pipeline. */
void mqtt_session_take(struct mqtt_session *session, struct fms_bytes *input,
                       const struct mqtt_session_message *message);

/* Whether so much waits to be sent that nothing more is read before it is: a broker that does not read what it asks for gets no
 * memory of ours. */
bool mqtt_session_is_full(const struct mqtt_session *session);

/* After MQTT_SESSION_HUNGRY: how many bytes the input must have for something to come of it; at most buffer_size. */
size_t mqtt_session_wanted(const struct mqtt_session *session);

/* A message that was taken is delivered. True: an acknowledgement has become ready. */
bool mqtt_session_settled(struct mqtt_session *session, const uint64_t tag[2]);

/* ----------------------------------------------------------------------------------------------------------- output */

/* What is to be sent, with as many acknowledgements as are ready, up to some KiB. */
struct fms_bytes mqtt_session_output(struct mqtt_session *session);
void mqtt_session_sent(struct mqtt_session *session, size_t size, int64_t now);

/* ------------------------------------------------------------------------------------------------------------- time */

/* When mqtt_session_tick is to be called, at the latest. */
int64_t mqtt_session_deadline(const struct mqtt_session *session);

/* What is due: PINGREQ, MQTT_SESSION_UNANSWERED, MQTT_SESSION_UNSWEPT, or MQTT_SESSION_CLOSED where the broker does not answer; else
 * MQTT_SESSION_HUNGRY. is_reading: what the broker sends is read; if it is not, its silence is ours. */
enum mqtt_session_event mqtt_session_tick(struct mqtt_session *session, int64_t now, bool is_reading);

#endif
