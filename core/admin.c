/* admin.c - see admin.h. The HTTP library and all that serves it stand in a shared object, which a process that is not watched
 * does not load. */
#include "admin.h"

#include <errno.h>

#include "clock.h"
#include "fleet.h"
#include "loader.h"
#include "reload.h"
#include "snapshot.h"

static struct process {
    struct pipeline *const *pipelines;
    size_t count;
} process;

static const struct admin_table *table;
static struct admin *running; /* NULL: not */

static size_t count_pipelines(void *user)
{
    const struct process *self = user;

    return self->count;
}

static bool look(void *user, size_t i, struct pipeline_view *to, int64_t patience)
{
    const struct process *self = user;

    bool has_answered = snapshot_read(self->pipelines[i], to, patience);

    fleet_count(self->pipelines[i]->fleet, clock_now(), &to->fleet);
    return has_answered;
}

static bool vehicles(void *user, size_t i, const char *find, size_t most, struct fleet_view *to)
{
    const struct process *self = user;

    return fleet_look(self->pipelines[i]->fleet, clock_now(), find, most, to);
}

static int open_tap(void *user, size_t i, const struct tap_wish *wish, struct tap **tap)
{
    const struct process *self = user;

    return tap_open(self->pipelines[i], wish, tap);
}

static const struct admin_host host = {
    .process = &process,
    .pipelines = count_pipelines,
    .look = look,
    .forget = view_forget,
    .now = clock_now,
    .realtime = clock_realtime,
    .log = log_line,
    .observe_log = log_observe,
    .vehicles = vehicles,
    .tap_open = open_tap,
    .tap_read = tap_read,
    .tap_dropped = tap_dropped,
    .tap_close = tap_close,
    .reload_start = reload_start,
    .reload_read = reload_read,
    .reload_close = reload_close,
    .reload_look = reload_look,
};

int admin_begin(const struct admin_options *options, struct pipeline *const *pipelines, size_t count)
{
    if (options->count == 0)
        return 0;
    table = loader_open_own("fmspipe-admin.so", ADMIN_ENTRY, "--admin");
    if (table == NULL)
        return -ENOENT;
    process = (struct process){pipelines, count};
    for (size_t i = 0; i < count; i++)
        pipeline_measure(pipelines[i]);
    return table->start(&host, options, &running);
}

void admin_end(void)
{
    if (running != NULL)
        table->stop(running);
    running = NULL;
}
