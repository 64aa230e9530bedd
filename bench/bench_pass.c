/* bench_pass - a transform that passes every record on. */
#include "fms_plugin.h"

static enum fms_verdict bench_pass(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

FMS_PLUGIN(.name = "bench_pass", .version = FMS_VERSION, .summary = "Passes records on", .transform = bench_pass);
