/* metrics.h - what is known of the process, as Prometheus reads it, and the table of all that there is to read. */
#ifndef FMS_METRICS_H
#define FMS_METRICS_H

#include <stdio.h>

#include "observe.h"

/* In the text format 0.0.4, or as OpenMetrics 1.0.0; the series are the same. Whatever data passes, their number stays what the
 * pipelines' files make it. [any] */
void metrics_write(const struct observation *observation, bool openmetrics, FILE *to);

/* The table as JSON: an array of objects with name, type, labels and help. */
void metrics_describe(FILE *to);

#endif
