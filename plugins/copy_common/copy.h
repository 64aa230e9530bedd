/* copy.h - a file of certificates or keys, copied into memory, for libraries that open it by name whenever they like: what was found
 * to be good stays so, whatever becomes of the file. */
#ifndef COPY_H
#define COPY_H

#include <stdbool.h>

#define COPY_MOST (4 << 20) /* bytes */

/* Begins as zeroes, which is none. */
struct copy {
    char path[32]; /* empty: there is none */
    int fd;        /* in memory */
};

/* Copies a file as it is at one moment. Never waits: a pipe is no file. 0, or a negative errno with no copy made. */
int copy_make(struct copy *copy, const char *path);
void copy_free(struct copy *copy);

/* What an error of copy_make says, in words. */
const char *copy_error(int error);

/* What to open instead of the file; NULL: there is no copy. */
static inline const char *copy_path(const struct copy *copy)
{
    return copy->path[0] != '\0' ? copy->path : (const char *)0;
}

#endif
