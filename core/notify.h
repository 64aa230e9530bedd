/* notify.h - tells the service manager how the process does, by systemd's protocol: datagrams to $NOTIFY_SOCKET.
 *
 * Where that is not set nothing is told, no lane is asked, and nobody is woken for it. */
#ifndef FMS_NOTIFY_H
#define FMS_NOTIFY_H

#include "crew.h"

struct notify;

/* Of a process with these pipelines, as they come and go; with WATCHDOG_USEC of the environment, too. NULL: nobody listens, or it
 * failed, logged; the functions below take that. [control] */
struct notify *notify_open(struct crew *crew);

/* Asks the lanes how they are or, a moment later, tells what they answered; when to come back, on clock_now. Waits for nobody.
 * `ends_at`: when a process that stops ends at the latest; FMS_NEVER: it does not stop. [control]
 *
 * READY=1 is told once each lane has answered, or has ended; whether brokers are there has no part in it. WATCHDOG=1 is told when
 * each lane that has not ended has answered since it was told last, at a third of the time-out at the latest. */
int64_t notify_turn(struct notify *notify, int64_t ends_at);

/* For reload_begin, with a struct notify, or NULL: RELOADING=1 and READY=1 around a reload. Any thread. */
void notify_reload(void *notify, bool is_over);

/* After the run: READY=1 of a good one, and STOPPING=1, where it was too short for them. [control] */
void notify_close(struct notify *notify, bool was_good);

#endif
