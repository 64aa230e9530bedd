/* null_sink - takes everything and forgets it: for measuring what stands before it.
 *
 * There is no far end, so a record is delivered as soon as it is offered. */
#include <fms_plugin.h>

struct null_sink {
    const struct fms_host *host;
};

static int null_sink_check(void *instance, const struct fms_host *host)
{
    (void)instance;
    fms_promise(host, NULL, FMS_AT_MOST_ONCE, "nothing is kept of what it takes: another sink keeps it");
    return 0;
}

static int null_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct null_sink *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "null_sink", .version = FMS_VERSION, .summary = "Discards records, for measuring",
           .instance_size = sizeof(struct null_sink), .check = null_sink_check, .sink_write = null_sink_write,
           .host = FMS_HOST(struct null_sink, host));
