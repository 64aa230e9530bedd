/* secretive - a sink with a secret whose name does not say so. */
#include <fms_plugin.h>

struct secretive {
    const char *pin;
    const struct fms_host *host;
};

static const struct fms_option secretive_options[] = {
    FMS_OPT_SECRET(struct secretive, pin, NULL, "not to be shown"),
    FMS_OPT_END,
};

static int secretive_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct secretive *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "secretive", .version = "1", .summary = "Has a secret", .options = secretive_options,
           .instance_size = sizeof(struct secretive), .sink_write = secretive_write,
           .host = FMS_HOST(struct secretive, host));
