/* no_plugin - some shared object. */
#include <fms_plugin.h>

FMS_EXPORT int no_plugin_answer(void);
int no_plugin_answer(void)
{
    return 42;
}
