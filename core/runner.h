/* runner.h - runs pipelines until they end, or until a signal. */
#ifndef FMS_RUNNER_H
#define FMS_RUNNER_H

#include "pipeline.h"

/* Opens all or none, runs them, each on a thread of its own, and closes them. SIGINT, SIGTERM and SIGHUP stop all, and so does
 * a failure of one, or the end of the one called `until` (NULL: none). 0, or a negative errno, logged, after a failure or when
 * records are left unsettled. To be called once, before there are other threads, with pipelines that are
 * loaded. After a second signal, or when a plugin does not return, it does not come back, but ends the process with EXIT_FAILURE. */
int runner_run(struct pipeline *const *pipelines, size_t count, const char *until);

#endif
