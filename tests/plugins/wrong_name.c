/* wrong_name - says that it is another. */
#include <fms_plugin.h>

static int wrong_name_write(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    return (int)count;
}

FMS_PLUGIN(.name = "another", .version = "1.0.0", .summary = "Is not what its file is", .sink_write = wrong_name_write);
