/* admin.h - the watch of a process over HTTP: what the shared object that does it is given, and what it gives.
 *
 * It is loaded only where an address is named, and built of the same sources: another version's is refused. */
#ifndef FMS_ADMIN_H
#define FMS_ADMIN_H

#include "log.h"
#include "tap.h"
#include "view.h"

struct reloading;

/* What the process gives. Its pipelines come and go: each has a number that is no other's, then or later, and what is asked of one that has
 * gone is answered so. All functions: any thread but a lane. */
struct admin_host {
    void *process;
    /* The numbers of those that there are, in the order of their files, to be freed with free(). NULL: out of memory. */
    uint64_t *(*pipelines)(void *process, size_t *count);
    /* Copies the state of that pipeline into `to`, which is zeros at first and holds memory afterwards (`forget`). 1; or 0: its lane has
     * not answered within `patience` (nanoseconds), and this is what it showed last; or -ENOENT: it has gone. */
    int (*look)(void *process, uint64_t number, struct pipeline_view *to, int64_t patience);
    void (*forget)(struct pipeline_view *view);
    int64_t (*now)(void);      /* clock_now */
    int64_t (*realtime)(void); /* since 1970 */
    void (*log)(enum fms_level, const char *pipeline, const char *stage, const char *format, ...) FMS_PRINTF(4, 5);
    /* Each line that is logged from now on goes there, too: on the thread that logs, so `observer` takes no time. NULL: no more */
    void (*observe_log)(log_sink observer, void *user);
    /* The vehicles of that pipeline whose names hold `find` ("": all), at most `most`; see fleet_look, which it is. */
    bool (*vehicles)(void *process, uint64_t number, const char *find, size_t most, struct fleet_view *to);
    /* Records as they pass a stage of that pipeline; see tap.h. */
    int (*tap_open)(void *process, uint64_t number, const struct tap_wish *wish, struct tap **tap);
    int (*tap_read)(struct tap *tap, struct tapped *record);
    uint64_t (*tap_dropped)(const struct tap *tap);
    void (*tap_close)(struct tap *tap);
    /* A reload of all files, and what became of those so far; see reload.h, which it is. */
    int (*reload_start)(const struct reload_wish *wish, struct reloading **reloading);
    int (*reload_read)(struct reloading *reloading, char **line, enum reload_result *result);
    void (*reload_close)(struct reloading *reloading);
    struct reload_view (*reload_look)(void);
};

#define ADMIN_ADDRESSES 8u

/* What the command line says. */
struct admin_options {
    const char *addresses[ADMIN_ADDRESSES];
    size_t count;
    const char *password_file; /* NULL: none */
};

/* What the shared object gives. */
struct admin;
struct admin_table {
    const char *version; /* FMS_VERSION */
    /* Listens at all addresses, or fails (logged): -EINVAL where one is none, another negative errno where that may pass. `host`
     * lives until `stop`. [control] */
    int (*start)(const struct admin_host *host, const struct admin_options *options, struct admin **admin);
    void (*stop)(struct admin *admin);
};

#define ADMIN_ENTRY "fmspipe_admin" /* const struct admin_table *fmspipe_admin(void) */

/* In the process: loads the shared object and starts it, for pipelines that are loaded, and a crew that lives until admin_end; nothing
 * where no address is named. 0 or a negative errno as `start` has, logged. Once a process. [control] */
struct crew;
int admin_begin(const struct admin_options *options, struct crew *crew);
void admin_end(void);

#endif
