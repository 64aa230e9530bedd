/* status.h - what is known of the process as one document: see docs/status.md. */
#ifndef FMS_STATUS_H
#define FMS_STATUS_H

#include <jansson.h>

#include "observe.h"

/* Numbers are rounded to the millisecond or the microsecond: to be written with JSON_REAL_PRECISION(STATUS_DIGITS). NULL: out of
 * memory. [any] */
json_t *status_json(const struct observation *observation);

#define STATUS_DIGITS 15

/* As a JSON string; bytes that are no UTF-8 become U+FFFD. */
json_t *status_text(const char *text);

#endif
