/* health.h - whether a pipeline lives, is ready and flows, since when not, and which stage holds the rest back. */
#ifndef FMS_HEALTH_H
#define FMS_HEALTH_H

#include "observe.h"

/* A lane that has not answered for longer is not alive. It looks at nothing else: a far end that is away is no reason to
 * restart what waits for it. */
#define HEALTH_PATIENCE (10 * FMS_SECOND)

/* Nothing has come for as long: idle. */
#define HEALTH_IDLE (10 * FMS_SECOND)

/* Fills now->health, whose `stages` the caller has made, of zeros. `before` is what was seen of the same pipeline at the last look;
 * NULL: this is the first. `at` is on the host's clock, `realtime` the same moment since 1970: times of day are told in
 * UTC. A pipeline is ready while it runs, its lane answers and each of its stages is ready. [any] */
void health_judge(struct observed *now, const struct observed *before, int64_t at, int64_t realtime);

/* A pipeline that has ended well while others run has done all that it was for, and one that goes by a reload is no more asked of this
 * process: whether the process is ready is up to the others. [any] */
bool health_is_past(const struct observation *all, size_t i);

/* "starting", "flowing", ... */
const char *verdict_name(enum verdict verdict);

#endif
