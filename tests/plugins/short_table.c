/* short_table - built with an older header of the same ABI, whose table ended before TABLE_END. As small_table it lacks
 * source_stop and what follows; as tiny_table also what a plugin must have. */
#include <fms_plugin.h>

static int short_table_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

static int short_table_poison(void *instance, const struct fms_record *const *records, size_t count)
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
        .size = offsetof(struct fms_plugin, TABLE_END),
        .name = TABLE_NAME,
        .version = "1.0.0",
        .summary = "Has a smaller table",
        .source_poll = short_table_poll,
        .sink_write = short_table_poison, /* behind its table: not to be read */
    };

    return &plugin;
}
