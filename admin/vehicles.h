/* vehicles.h - a pipeline's vehicles as JSON, for /vehicles. */
#ifndef FMS_VEHICLES_H
#define FMS_VEHICLES_H

#include <jansson.h>

#include "admin.h"

#define VEHICLES_MOST 1000u /* in one answer */

/* Those of that pipeline whose names hold `find` (NULL: all), at most `limit` and VEHICLES_MOST of them, silent ones first; see
 * docs/ for the form. NULL: it keeps no fleet, or there is no memory. Any thread but a lane. */
json_t *vehicles_json(const struct admin_host *host, uint64_t number, const char *find, size_t limit);

#endif
