/* runner.h - runs pipelines until they end, or until a signal. */
#ifndef FMS_RUNNER_H
#define FMS_RUNNER_H

#include "crew.h"

/* Opens all or none, runs them, each on a thread of its own, and closes them; and those that a reload adds, of the files that `words` name.
 * SIGINT, SIGTERM and SIGHUP stop all, and so does a failure of one, or the end of the one called `until` (NULL: none). It returns when
 * there are pipelines and all of them have ended, and where there are none waits. 0, or a negative errno, logged, after a failure or when
 * records are left unsettled. To be called once, before there are other threads, with pipelines that are
 * loaded. After a second signal, or when a plugin does not return, it does not come back, but ends the process with EXIT_FAILURE. */
int runner_run(struct crew *crew, char *const *words, size_t word_count, const char *until);

#endif
