/* demanding - built with a newer header of the same ABI, whose host offers more than ours, or whose records hold more. */
#include <fms_plugin.h>

static enum fms_verdict demanding_transform(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_PASS;
}

FMS_EXPORT const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void);
const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void)
{
    static const struct fms_plugin plugin = {
        .abi = FMS_ABI,
        .size = sizeof plugin + TABLE_MORE,
        .name = TABLE_NAME,
        .version = "1.0.0",
        .summary = "Wants more",
        .transform = demanding_transform,
        .host_size = sizeof(struct fms_host) + HOST_MORE,
        .record_size = sizeof(struct fms_record) + RECORD_MORE,
    };

    return &plugin;
}
