/* top.h - what a process is doing, as it does it. */
#ifndef FMS_TOP_H
#define FMS_TOP_H

#include "http.h"

/* Until q, or a signal; the exit status. */
int top_run(const struct http *http);

#endif
