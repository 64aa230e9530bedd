/* wild_host - would have the host put behind its instance. */
#include <fms_plugin.h>

static enum fms_verdict wild_host_transform(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

FMS_PLUGIN(.name = "wild_host", .version = "1.0.0", .summary = "Has no room", .instance_size = 8,
           .transform = wild_host_transform, .host = 8 + 1);
