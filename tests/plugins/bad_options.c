/* bad_options - has a default that is out of the option's own range. */
#include <fms_plugin.h>

struct bad_options {
    int64_t number;
};

static const struct fms_option bad_options_options[] = {
    FMS_OPT_INTEGER(struct bad_options, number, "50", 1, 10, "from one to ten"),
    FMS_OPT_END,
};

static int bad_options_write(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    return (int)count;
}

FMS_PLUGIN(.name = "bad_options", .version = "1.0.0", .summary = "Has a bad default", .options = bad_options_options,
           .instance_size = sizeof(struct bad_options), .sink_write = bad_options_write);
