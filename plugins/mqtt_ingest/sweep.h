/* sweep.h - which subscriptions may have brought a message: for a session that a broker has kept may hold some that nobody asks
 * for any more, and the client is not told which.
 *
 * Pure. Each filter that matches a topic has at each level what the topic has or a +, up to its end or to a #. */
#ifndef MQTT_INGEST_SWEEP_H
#define MQTT_INGEST_SWEEP_H

#include "fms_plugin.h"

#define SWEEP_TOPIC_MAX  1024u                   /* longer topics are not swept */
#define SWEEP_FILTER_MAX (SWEEP_TOPIC_MAX + 10u) /* a + for an empty level is longer, and so is a # behind the last */

/* 4.7: whether a filter without $share/GROUP/ matches. */
bool sweep_matches(const char *filter, struct fms_bytes topic);

/* How many filters match, as far as sweep_filter knows them: + in the first 8 levels, and # behind at most 16. */
size_t sweep_count(struct fms_bytes topic);

/* The n-th of them, followed by a NUL byte. `topic` has at most SWEEP_TOPIC_MAX bytes. */
void sweep_filter(struct fms_bytes topic, size_t n, char to[SWEEP_FILTER_MAX + 1]);

#endif
