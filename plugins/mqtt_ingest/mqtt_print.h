/* mqtt_print.h - what a message says, in 128 bits: half of a SHA-256, so that nobody can make a message that passes for another one,
 * which would be lost. */
#ifndef MQTT_INGEST_PRINT_H
#define MQTT_INGEST_PRINT_H

#include "mqtt_session.h"

struct mqtt_print;

/* NULL: no memory, or a library without SHA-256. */
struct mqtt_print *mqtt_print_new(void);
void mqtt_print_free(struct mqtt_print *self); /* NULL: nothing */

/* Of the topic, the payload (of one that is cut, its size) and all properties that become headers but for the expiry, which the broker
 * counts down. False: the library failed. */
bool mqtt_print_make(struct mqtt_print *self, const struct mqtt_session_message *message, uint64_t print[2]);

#endif
