/* metrics.h - what is known of the process, as Prometheus reads it. */
#ifndef FMS_METRICS_H
#define FMS_METRICS_H

#include <stdio.h>

#include "observe.h"

/* In the text format 0.0.4, or as OpenMetrics 1.0.0. */
void metrics_write(const struct observation *observation, bool openmetrics, FILE *to);

#endif
