/* status.h - what is known of the process, as one document. */
#ifndef FMS_STATUS_H
#define FMS_STATUS_H

#include <jansson.h>

#include "observe.h"

/* NULL: out of memory. */
json_t *status_json(const struct observation *observation);

#endif
