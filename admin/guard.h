/* guard.h - who may ask. */
#ifndef FMS_GUARD_H
#define FMS_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#define PASSWORD_MOST 255u /* bytes */

struct password {
    char text[PASSWORD_MOST + 1]; /* and zeros */
    size_t size;                  /* 0: none is asked for */
};

/* The first line of the file. NULL, or what is wrong with it; *is_bad: for good, and not only now. */
const char *password_read(const char *path, struct password *password, bool *is_bad);

/* Takes as long for whatever is `given`, NULL too. */
bool password_is(const struct password *password, const char *given);

#endif
