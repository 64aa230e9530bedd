/* letter_text.h - what a dead letter becomes that MQTT cannot say as it is.
 *
 * A letter has no other place to go, so nothing that its record holds may keep it from the broker: what cannot stand in a topic is
 * replaced, and what is larger than the broker takes is left out, piece by piece, until it is as small as a letter can be. */
#ifndef MQTT_SINK_LETTER_TEXT_H
#define MQTT_SINK_LETTER_TEXT_H

#include "../letter_common/letter.h"
#include "../mqtt_common/mqtt_common.h"

#define LETTER_VALUE 512 /* bytes that are shown of what is no text */

/* Whether the header is one of an earlier letter, which has come back as a message: what it says stands beside it anew. */
bool letter_replaces(const char *name, enum letter letter);

/* What comes nearest to a topic that can't be one: what no topic may hold becomes _, and so does a $ at its beginning; an empty one
 * is _. `to` has room for topic.size + 2 bytes; how many it gets, without the NUL. */
size_t letter_topic(struct fms_bytes topic, char *to);

/* So many bytes of a text that no character is cut. */
size_t letter_cut(const char *text, size_t size, size_t most);

/* A text as it is, at most `most` bytes of it; what is none with its odd bytes written as \x00. `to` has LETTER_VALUE bytes. */
struct fms_bytes letter_text(struct fms_bytes value, size_t most, char *to);

#endif
