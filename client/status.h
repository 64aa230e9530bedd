/* status.h - the commands that ask once. All return the exit status. */
#ifndef FMS_STATUS_H
#define FMS_STATUS_H

#include "http.h"

/* 0: healthy. */
int health_run(const struct http *http);
/* 0: ready. */
int status_run(const struct http *http);

#endif
