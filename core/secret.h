/* secret.h - the text that a file holds, such as a password: what ${file:PATH} stands for. */
#ifndef FMS_SECRET_H
#define FMS_SECRET_H

#include <stddef.h>

#define SECRET_MOST 65535u /* bytes */

/* Reads it whole, without the newline at its end, into *text, which is the caller's to free. Never waits: a pipe is no file. What
 * is written meanwhile is read again. 0; -ENOENT: there is no file; -ENODATA: it is empty; or another negative errno; `why` says what is
 * wrong with the path, and nothing of what it holds. [any] */
int secret_read(const char *path, char **text, char *why, size_t size);

#endif
