/* reload.h - `fmspipe reload` and `fmspipe plan`: prints what a process does, or would do, with its files as they are now, or with one that
 * is read here. */
#ifndef FMS_RELOAD_COMMAND_H
#define FMS_RELOAD_COMMAND_H

#include "http.h"

/* The exit status: 0 done, 1 what could not be done goes on as it was, or nobody has answered; 2 a file is bad. */
int reload_run(const struct http *http);
/* The same of what would be done. `words`: how many of the host's name a file, which may be one. */
int plan_run(const struct http *http, size_t words);

#endif
