/* tiny_table - has a table that ends before all that a plugin must have. */
#include <fms_plugin.h>

static int tiny_table_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

static int tiny_table_poison(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    (void)count;
    return -1;
}

FMS_EXPORT const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void);
const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void)
{
    static const struct fms_plugin plugin = {
        .abi = FMS_ABI,
        .size = offsetof(struct fms_plugin, version),
        .name = "tiny_table",
        .version = "1.0.0",
        .summary = "Has next to no table",
        .source_poll = tiny_table_poll,
        .sink_write = tiny_table_poison,
    };

    return &plugin;
}
