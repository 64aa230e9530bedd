/* admin.h - the watch of a process over HTTP: what the shared object that does it is given, and what it gives.
 *
 * It is loaded only where an address is named, and built of the same sources: another version's is refused. */
#ifndef FMS_ADMIN_H
#define FMS_ADMIN_H

#include "log.h"
#include "view.h"

/* What the process gives. All functions: any thread but a lane. */
struct admin_host {
    void *process;
    size_t (*pipelines)(void *process); /* how many there are */
    /* Copies the state of pipeline number `i` into `to`, which is zeros at first and holds memory afterwards (`forget`). False:
     * its lane has not answered within `patience` (nanoseconds), and this is what it showed last. */
    bool (*look)(void *process, size_t i, struct pipeline_view *to, int64_t patience);
    void (*forget)(struct pipeline_view *view);
    int64_t (*now)(void);      /* clock_now */
    int64_t (*realtime)(void); /* since 1970 */
    void (*log)(enum fms_level, const char *pipeline, const char *stage, const char *format, ...) FMS_PRINTF(4, 5);
    /* Each line that is logged from now on goes there, too: on the thread that logs, so `observer` takes no time. NULL: no more */
    void (*observe_log)(log_sink observer, void *user);
};

/* What the shared object gives. */
struct admin;
struct admin_table {
    const char *version; /* FMS_VERSION */
    /* Listens at all addresses, or fails (logged) with a negative errno. `host` lives until `stop`. [control] */
    int (*start)(const struct admin_host *host, const char *const *addresses, size_t count, struct admin **admin);
    void (*stop)(struct admin *admin);
};

#define ADMIN_ENTRY "fmspipe_admin" /* const struct admin_table *fmspipe_admin(void) */

#endif
