/* host.h - the services that a plugin sees. */
#ifndef FMS_HOST_SERVICES_H
#define FMS_HOST_SERVICES_H

#include "stage.h"

/* Makes them, for a stage that has its pipeline and its name. [control] */
void host_fill(struct stage *stage, enum fms_role role);

#endif
