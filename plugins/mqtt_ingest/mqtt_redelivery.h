/* mqtt_redelivery.h - which messages may be one that an earlier connection has brought, and that the broker sends again because it has
 * seen no acknowledgement (MQTT-4.4.0-1).
 *
 * It sends them when a session is taken up again, by the same identifiers and marked (DUP, MQTT-3.3.1-1), each once. So what comes in a
 * new session, unmarked, or by an identifier that this connection has brought already is a new message: only the last counts where a
 * broker has read our acknowledgement and uses the identifier again, and who takes that for a repetition loses a message. The mark alone
 * proves nothing: brokers set it for messages that they send for the first time, too.
 *
 * Of a session that began before this process it is not known which identifiers it has used: any may be a repetition.
 *
 * Pure: 16 KiB, no clock. One thread at a time. */
#ifndef MQTT_INGEST_REDELIVERY_H
#define MQTT_INGEST_REDELIVERY_H

#include <stdbool.h>
#include <stdint.h>

#define MQTT_IDENTIFIERS 65536u /* of packets: two bytes */

/* Begins as zeroes. */
struct mqtt_redelivery {
    bool has_begun;                     /* the session, while we looked */
    uint8_t here[MQTT_IDENTIFIERS / 8]; /* the identifiers that this connection has brought */
    uint8_t ever[MQTT_IDENTIFIERS / 8]; /* and those that earlier ones of this session have */
};

/* CONNACK has come. */
void mqtt_redelivery_begin(struct mqtt_redelivery *self, bool session_present);

/* A message is in the pipeline. */
void mqtt_redelivery_take(struct mqtt_redelivery *self, uint16_t id);

/* Of one that is not yet. */
bool mqtt_redelivery_may_repeat(const struct mqtt_redelivery *self, uint16_t id, bool dup);

#endif
