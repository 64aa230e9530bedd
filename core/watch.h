/* watch.h - a lane that stands still is told of. */
#ifndef FMS_WATCH_H
#define FMS_WATCH_H

#include "pipeline.h"

/* From the lane's begin to its end. [lane] */
void watch_begin(struct pipeline *pipeline);
void watch_end(struct pipeline *pipeline);

#endif
