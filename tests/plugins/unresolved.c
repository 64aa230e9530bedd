/* unresolved - needs a function that nobody has. */
#include <fms_plugin.h>

int a_function_that_nobody_has(void);

static int unresolved_write(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    (void)count;
    return a_function_that_nobody_has();
}

FMS_PLUGIN(.name = "unresolved", .version = "1.0.0", .summary = "Misses a function", .sink_write = unresolved_write);
