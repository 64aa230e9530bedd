/* newer - has the entry point of an ABI after ours; what it returns must not be looked at. */
#include <fms_plugin.h>

FMS_EXPORT const void *fms_plugin_abi_2(void);
const void *fms_plugin_abi_2(void)
{
    return (const void *)1;
}
