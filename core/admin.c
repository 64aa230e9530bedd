/* admin.c - see admin.h. The HTTP library and all that serves it stand in a shared object, which a process that is not watched
 * does not load. */
#include "admin.h"

#include <errno.h>

#include "clock.h"
#include "crew.h"
#include "fleet.h"
#include "loader.h"
#include "reload.h"
#include "snapshot.h"

static const struct admin_table *table;
static struct admin *running; /* NULL: not */

static uint64_t *list(void *user, size_t *count)
{
    return crew_numbers(user, count);
}

static int look(void *user, uint64_t number, struct pipeline_view *to, int64_t patience)
{
    struct pipeline *pipeline = crew_hold(user, number);
    bool has_answered;
    struct fleet *fleet;

    if (pipeline == NULL)
        return -ENOENT;
    has_answered = snapshot_read(pipeline, to, patience);
    fleet = pipeline_fleet(pipeline);
    fleet_count(fleet, clock_now(), &to->fleet);
    fleet_free(fleet);
    crew_release(user, pipeline);
    return has_answered;
}

static bool vehicles(void *user, uint64_t number, const char *find, size_t most, struct fleet_view *to)
{
    struct pipeline *pipeline = crew_hold(user, number);
    bool is_kept;
    struct fleet *fleet;

    if (pipeline == NULL)
        return false;
    fleet = pipeline_fleet(pipeline);
    is_kept = fleet_look(fleet, clock_now(), find, most, to);
    fleet_free(fleet);
    crew_release(user, pipeline);
    return is_kept;
}

static int open_tap(void *user, uint64_t number, const struct tap_wish *wish, struct tap **tap)
{
    struct pipeline *pipeline = crew_hold(user, number);
    int error;

    if (pipeline == NULL)
        return -ENOENT;
    error = tap_open(pipeline, wish, tap);
    crew_release(user, pipeline);
    return error;
}

static struct admin_host host = {
    .pipelines = list,
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

int admin_begin(const struct admin_options *options, struct crew *crew)
{
    if (options->count == 0)
        return 0;
    table = loader_open_own("fmspipe-admin", ADMIN_ENTRY, "--admin");
    if (table == NULL)
        return -ENOENT;
    (void)reload_serve(); /* without it reloads are done at the priority of the thread that serves HTTP */
    host.process = crew;
    crew_measure(crew);
    return table->start(&host, options, &running);
}

void admin_end(void)
{
    if (running != NULL)
        table->stop(running);
    running = NULL;
}
