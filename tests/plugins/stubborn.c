/* stubborn - a sink that holds whoever opens it or lets it write as long as one file is there, and takes nothing as long as another
 * is. */
#include <fms_plugin.h>

#include <time.h>
#include <unistd.h>

#define PAUSE (10 * FMS_MS)

struct stubborn {
    const char *hangs, *refuses;
    bool has_refused;

    const struct fms_host *host;
};

static const struct fms_option stubborn_options[] = {
    FMS_OPT_STRING(struct stubborn, hangs, "", "file while which is there open and writes do not return"),
    FMS_OPT_STRING(struct stubborn, refuses, "", "file while which is there nothing is taken"),
    FMS_OPT_END,
};

static bool is_there(const char *path)
{
    return *path != '\0' && access(path, F_OK) == 0;
}

static void hang(const struct stubborn *self)
{
    struct timespec pause = {0, PAUSE};

    while (is_there(self->hangs))
        nanosleep(&pause, NULL);
}

static int stubborn_open(void *instance, const struct fms_host *host)
{
    fms_info(host, "opens");
    hang(instance);
    return 0;
}

static int stubborn_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stubborn *self = instance;

    hang(self);
    self->has_refused = is_there(self->refuses);
    if (self->has_refused)
        return 0;
    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

static int stubborn_poll(void *instance, struct fms_wait *wait)
{
    struct stubborn *self = instance;

    if (self->has_refused && !is_there(self->refuses))
        fms_wake(self->host);
    if (self->has_refused)
        wait->deadline = fms_now(self->host) + PAUSE;
    return 0;
}

FMS_PLUGIN(.name = "stubborn", .version = "1.0.0", .summary = "Holds up what can be held up",
           .options = stubborn_options, .instance_size = sizeof(struct stubborn),
           .host = FMS_HOST(struct stubborn, host), .open = stubborn_open, .sink_write = stubborn_write,
           .sink_poll = stubborn_poll);
