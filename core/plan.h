/* plan.h - what would become of a running pipeline if its file were read now, and to do it. All functions: [control], one at a time. */
#ifndef FMS_PLAN_H
#define FMS_PLAN_H

#include <stdio.h>

#include "pipeline.h"

struct plan;

/* Reads the file of a running pipeline and checks it, as pipeline_load does; nothing changes. NULL after an error, which is logged,
 * with errno as there. */
struct plan *plan_make(struct pipeline *running);
void plan_free(struct plan *plan);

/* What it will be, as long as the plan lives: to be looked at. */
struct pipeline *plan_next(const struct plan *plan);

/* A line for each stage that changes, comes or goes, and for [pipeline]; how many. */
size_t plan_print(const struct plan *plan, FILE *out);

/* Does it. What fails leaves the pipeline as it was, running: a negative errno, logged. */
int plan_apply(struct plan *plan);

#endif
