/* no_role - is neither source nor transform nor sink. */
#include <fms_plugin.h>

FMS_PLUGIN(.name = "no_role", .version = "1.0.0", .summary = "Does nothing at all");
