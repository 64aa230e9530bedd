#include "fms_plugin.h"

static int no_write(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance, (void)records, (void)count;
    return 0;
}

static const struct fms_metric gauges[] = {
    {"good_one", "it has a name"}, {"wait_count", "it has another's"}, {NULL, NULL}};
static const struct fms_metric durations[] = {{"wait", "its series are wait_bucket, wait_count, wait_sum"},
                                              {NULL, NULL}};

FMS_PLUGIN(.name = "double_metric", .version = "1", .summary = "has a gauge whose series would be one of its durations",
           .gauges = gauges, .durations = durations, .sink_write = no_write);
