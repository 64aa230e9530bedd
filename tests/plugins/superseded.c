/* superseded - a sink whose place another process has taken, from some record on. */
#include <fms_plugin.h>

#include <errno.h>

struct superseded {
    int64_t after;

    const struct fms_host *host;
};

static const struct fms_option superseded_options[] = {
    FMS_OPT_INTEGER(struct superseded, after, FMS_REQUIRED, 0, INT64_MAX, "records that it takes before"),
    FMS_OPT_END,
};

static int superseded_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct superseded *self = instance;

    if (self->after < (int64_t)count)
        return fms_fail(self->host, -ENOTUNIQ, "another process has taken its place");
    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    self->after -= (int64_t)count;
    return (int)count;
}

FMS_PLUGIN(.name = "superseded", .version = "1.0.0", .summary = "Loses its place", .options = superseded_options,
           .instance_size = sizeof(struct superseded), .host = FMS_HOST(struct superseded, host),
           .sink_write = superseded_write);
