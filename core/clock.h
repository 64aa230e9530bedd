/* clock.h - the time, in nanoseconds. All functions: any thread, unless said otherwise. */
#ifndef FMS_CLOCK_H
#define FMS_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Never goes back, and has no meaning of its own. */
int64_t clock_now(void);
/* Since 1970. */
int64_t clock_realtime(void);

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
