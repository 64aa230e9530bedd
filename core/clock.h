/* clock.h - the time, in nanoseconds. All functions: any thread, unless said otherwise. */
#ifndef FMS_CLOCK_H
#define FMS_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "fms_plugin.h"

/* Never goes back, and has no meaning of its own. */
int64_t clock_now(void);
/* Since 1970: the system's, or what a plugin has told for as long as the system does not know. */
int64_t clock_realtime(void);

/* What is known of clock_realtime, as fms_clock says. */
void clock_look(struct fms_clock *clock);
/* With which errno the system refused, at the last look, to say whether its clock is right; 0: it did not. */
int clock_refusal(void);
/* Somebody says what UTC is, as fms_tell_time has it. Whether clock_realtime is another for it. */
bool clock_tell(int64_t utc);

/* From here on both clocks stand at these times until they are moved: for `fmspipe test`, whose one lane does that instead of
 * sleeping. */
void clock_set(int64_t now, int64_t realtime);
bool clock_is_set(void);
void clock_move(int64_t now); /* never back */

/* As clock_now where nobody has set it: for who waits with the system's own time. */
int64_t clock_monotonic(void);
int64_t clock_monotonic_in(int64_t pause); /* FMS_NEVER at most */
struct timespec clock_timespec(int64_t time);
/* A condition that is waited for until a time of clock_monotonic. */
void clock_cond_init(pthread_cond_t *condition);

#endif
