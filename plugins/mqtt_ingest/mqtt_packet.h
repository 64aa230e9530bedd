/* mqtt_packet.h - MQTT packets, 3.1.1 and 5, as a subscriber meets them: from bytes to fields and back.
 *
 * Pure: no allocation, no state, no clock. What is read points into the bytes that it was read from and lives as long.
 * Every length is checked before it is used. Names, and clause numbers such as MQTT-3.3.1-4, are the standard's; where
 * the two versions number a rule differently, the number is that of MQTT 5.
 *
 * A packet is malformed only where its fields cannot be told apart, and a message never is. A value that the standard forbids and nobody needs is as if
 * it were absent; a message of which no record can be made has a fault, in words. So what one publisher writes never costs
 * the connection that others share. */
#ifndef MQTT_INGEST_PACKET_H
#define MQTT_INGEST_PACKET_H

#include "fms_plugin.h"

/* The protocol level in CONNECT (3.1.2.2). */
enum mqtt_packet_version { MQTT_PACKET_3_1_1 = 4, MQTT_PACKET_5 = 5 };

/* 2.1.2 */
enum mqtt_packet_type {
    MQTT_PACKET_CONNECT = 1,
    MQTT_PACKET_CONNACK = 2,
    MQTT_PACKET_PUBLISH = 3,
    MQTT_PACKET_PUBACK = 4,
    MQTT_PACKET_PUBREC = 5,
    MQTT_PACKET_PUBREL = 6,
    MQTT_PACKET_PUBCOMP = 7,
    MQTT_PACKET_SUBSCRIBE = 8,
    MQTT_PACKET_SUBACK = 9,
    MQTT_PACKET_UNSUBSCRIBE = 10,
    MQTT_PACKET_UNSUBACK = 11,
    MQTT_PACKET_PINGREQ = 12,
    MQTT_PACKET_PINGRESP = 13,
    MQTT_PACKET_DISCONNECT = 14,
    MQTT_PACKET_AUTH = 15,
};

/* 2.4; those that the code itself uses. mqtt_packet_reason_text knows them all. */
enum mqtt_packet_reason {
    REASON_SUCCESS = 0x00,
    REASON_GRANTED_QOS_2 = 0x02,
    REASON_NO_SUBSCRIPTION = 0x11,
    REASON_UNSPECIFIED = 0x80,
    REASON_MALFORMED = 0x81,
    REASON_PROTOCOL_ERROR = 0x82,
    REASON_UNSUPPORTED_VERSION = 0x84,
    REASON_CLIENT_ID_NOT_VALID = 0x85,
    REASON_BAD_CREDENTIALS = 0x86,
    REASON_NOT_AUTHORIZED = 0x87,
    REASON_SESSION_TAKEN_OVER = 0x8e,
    REASON_ID_NOT_FOUND = 0x92,
    REASON_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    REASON_TOPIC_ALIAS_INVALID = 0x94,
    REASON_PACKET_TOO_LARGE = 0x95,
    REASON_USE_ANOTHER_SERVER = 0x9c,
    REASON_SERVER_MOVED = 0x9d,
    REASON_NO_SUBSCRIPTION_IDS = 0xa1,
};

#define MQTT_PACKET_SIZE_MAX 268435460u /* the largest there can be: 2.1.4 */
#define MQTT_PACKET_ACK_SIZE 5u         /* the most that mqtt_packet_write_ack writes */

/* ---------------------------------------------------------------------------------------------------------- reading */

struct mqtt_packet {
    uint8_t type, flags; /* enum mqtt_packet_type; the lower four bits */
    size_t size;         /* of all of it */
    struct fms_bytes body;
};

/* Looks at the first bytes of a packet. 1: *packet is filled in, and its body is there if packet->size <= size; 0: too
 * few bytes to know how long it is; REASON_MALFORMED: a length of more than four bytes. */
int mqtt_packet_peek(const uint8_t *data, size_t size, struct mqtt_packet *packet);

/* Properties (2.2.2.2). What is absent, or forbidden, has the value that the standard gives it when it is absent; of what
 * occurs twice and may not, the first counts. */
struct mqtt_packet_properties {
    uint64_t present;     /* bit n: identifier n occurred */
    struct fms_bytes all; /* as they stand in the packet, for mqtt_packet_next_user */
    size_t user_count;    /* user properties */
    size_t user_size;     /* bytes of their names */
    size_t ignored;       /* properties with a value that the standard forbids, or that this packet cannot have */
    bool is_unreadable;   /* behind some place they cannot be told apart; none of those behind it counts */
    bool has_bad_name;    /* a user property's name is no UTF-8, or holds NUL */
    uint32_t session_expiry, message_expiry, maximum_packet_size;
    uint16_t receive_maximum, topic_alias_maximum, topic_alias, server_keep_alive;
    uint32_t subscription_id; /* the first */
    bool has_other_ids;       /* others than that, too */
    uint8_t payload_format, maximum_qos;
    bool retain_available, wildcards_available, subscription_ids_available, shared_available;
    struct fms_bytes assigned_client_id, reason_string, server_reference, content_type, response_topic,
        correlation_data;
};

/* Identifiers for `present`. */
enum mqtt_packet_property {
    PROPERTY_PAYLOAD_FORMAT = 0x01,
    PROPERTY_MESSAGE_EXPIRY = 0x02,
    PROPERTY_CONTENT_TYPE = 0x03,
    PROPERTY_RESPONSE_TOPIC = 0x08,
    PROPERTY_CORRELATION_DATA = 0x09,
    PROPERTY_SUBSCRIPTION_ID = 0x0b,
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_ASSIGNED_CLIENT_ID = 0x12,
    PROPERTY_SERVER_KEEP_ALIVE = 0x13,
    PROPERTY_TOPIC_ALIAS = 0x23,
    PROPERTY_MAXIMUM_QOS = 0x24,
    PROPERTY_USER = 0x26,
};

static inline bool mqtt_packet_has(const struct mqtt_packet_properties *properties,
                                   enum mqtt_packet_property identifier)
{
    return (properties->present >> identifier & 1) != 0;
}

/* The next user property of `rest`, which begins as properties->all and shrinks. False: there is none. */
bool mqtt_packet_next_user(struct fms_bytes *rest, struct fms_bytes *name, struct fms_bytes *value);

struct mqtt_packet_connack {
    bool session_present;
    uint8_t reason; /* 3.1.1: its return code */
    struct mqtt_packet_properties properties;
};

struct mqtt_packet_publish {
    struct fms_bytes topic; /* size 0: only an alias */
    struct fms_bytes payload;
    const char *fault; /* why no record can be made of it; NULL: one can */
    uint16_t id;       /* 0 at QoS 0 */
    uint8_t qos;
    bool dup, retain;
    struct mqtt_packet_properties properties;
};

struct mqtt_packet_disconnect {
    uint8_t reason;
    struct mqtt_packet_properties properties;
};

struct mqtt_packet_suback {
    uint16_t id;
    struct fms_bytes
        reasons; /* one byte a filter: 0 to 2 the granted QoS, all else a refusal. Of UNSUBACK: REASON_SUCCESS
                                 or REASON_NO_SUBSCRIPTION; of 3.1.1 none */
    struct mqtt_packet_properties properties;
};

/* Each reads the packet whose type its name says and whose whole body is there. 0, or REASON_MALFORMED, with which the
 * standard has the connection closed. */
int mqtt_packet_read_connack(enum mqtt_packet_version version, const struct mqtt_packet *packet,
                             struct mqtt_packet_connack *connack);
int mqtt_packet_read_id(const struct mqtt_packet *packet, uint16_t *id); /* of PUBREL, and of any answer */
int mqtt_packet_read_suback(enum mqtt_packet_version version, const struct mqtt_packet *packet,
                            struct mqtt_packet_suback *suback); /* UNSUBACK */
void mqtt_packet_read_disconnect(const struct mqtt_packet *packet, struct mqtt_packet_disconnect *disconnect);

/* Of a message only `there` bytes of the body need be there, as far as the packet identifier: payload.size is the whole payload's
 * all the same. 0, whatever is wrong with it; or -1: more bytes are needed. */
int mqtt_packet_read_publish(enum mqtt_packet_version version, const struct mqtt_packet *packet, size_t there,
                             struct mqtt_packet_publish *publish);

/* What a reason code says, in words. Never NULL. */
const char *mqtt_packet_reason_text(enum mqtt_packet_version version, int reason);

/* ---------------------------------------------------------------------------------------------------------- writing */

struct mqtt_packet_connect {
    enum mqtt_packet_version version;
    const char *client_id;
    const char *username, *password; /* NULL: none */
    bool clean_start;
    uint16_t keep_alive; /* seconds */
    /* MQTT 5; 0: not said. */
    uint32_t session_expiry; /* seconds */
    uint32_t maximum_packet_size;
    uint16_t receive_maximum, topic_alias_maximum;
};

struct mqtt_packet_subscribe {
    enum mqtt_packet_version version;
    uint16_t id;
    const char *filter;
    uint8_t qos;
    uint8_t retain_handling;  /* MQTT 5: 0 to 2 (3.8.3.1) */
    uint32_t subscription_id; /* MQTT 5; 0: none */
};

struct mqtt_packet_unsubscribe {
    enum mqtt_packet_version version;
    uint16_t id;
    const char *const *filters;
    size_t count;
};

/* Each returns the packet's size, and has written it if that is at most `room`. No text may exceed 65535 bytes. */
size_t mqtt_packet_write_connect(uint8_t *to, size_t room, const struct mqtt_packet_connect *connect);
size_t mqtt_packet_write_subscribe(uint8_t *to, size_t room, const struct mqtt_packet_subscribe *subscribe);
size_t mqtt_packet_write_unsubscribe(uint8_t *to, size_t room, const struct mqtt_packet_unsubscribe *unsubscribe);
size_t mqtt_packet_write_ack(uint8_t *to, size_t room, enum mqtt_packet_version version, enum mqtt_packet_type type,
                             uint16_t id, uint8_t reason);
size_t mqtt_packet_write_pingreq(uint8_t *to, size_t room);
/* session_expiry: MQTT 5, in seconds, or -1: as CONNECT said. 3.1.1 has neither it nor a reason. */
size_t mqtt_packet_write_disconnect(uint8_t *to, size_t room, enum mqtt_packet_version version, uint8_t reason,
                                    int64_t session_expiry);

#endif
