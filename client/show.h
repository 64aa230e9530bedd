/* show.h - `fmspipe tap`: shows records as they pass a stage. */
#ifndef FMS_SHOW_H
#define FMS_SHOW_H

#include "http.h"

/* Until the limit, the pipeline's end, or a signal; the exit status. `words`: how many of the host's name the stage. */
int show_run(const struct http *http, size_t words);

#endif
