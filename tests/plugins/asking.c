/* asking - a sink that asks who records are, and delivers them. */
#include <fms_plugin.h>

struct asking {
    bool ends;

    const struct fms_host *host;
};

static const struct fms_option asking_options[] = {
    FMS_OPT_BOOLEAN(struct asking, ends, "yes", "ask for their ends, too"),
    FMS_OPT_END,
};

static int asking_check(void *instance, const struct fms_host *host)
{
    struct asking *self = instance;

    fms_identify(host, self->ends);
    return 0;
}

static int asking_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct asking *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

FMS_PLUGIN(.name = "asking", .version = "1.0.0", .summary = "Asks who records are", .options = asking_options,
           .instance_size = sizeof(struct asking), .host = FMS_HOST(struct asking, host), .check = asking_check,
           .sink_write = asking_write);
