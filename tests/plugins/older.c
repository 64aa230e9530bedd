/* older - has the entry point of an ABI before ours; what it returns must not be looked at. */
#include <fms_plugin.h>

FMS_EXPORT const void *fms_plugin_abi_0(void);
const void *fms_plugin_abi_0(void)
{
    return (const void *)1;
}
