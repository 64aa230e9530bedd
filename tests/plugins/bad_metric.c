#include "fms_plugin.h"

static int no_write(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance, (void)records, (void)count;
    return 0;
}

static const struct fms_metric gauges[] = {{"good_one", "it has a name"}, {"queue-bytes", "it has none"}, {NULL, NULL}};

FMS_PLUGIN(.name = "bad_metric", .version = "1", .summary = "has a metric that cannot be called so", .gauges = gauges,
           .sink_write = no_write);
