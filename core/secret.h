/* secret.h - the text that a file holds, such as a password: what ${file:PATH} stands for. */
#ifndef FMS_SECRET_H
#define FMS_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#define SECRET_MOST 65535u /* bytes */

/* Reads it whole, without the newline at its end, into *text, which is the caller's to free. Never waits: a pipe is no file. What
 * is written meanwhile is read again. 0; -ENOENT: there is no file; -ENODATA: it is empty; or another negative errno; `why` says what is
 * wrong with the path, and nothing of what it holds. [any] */
int secret_read(const char *path, char **text, char *why, size_t size);

/* What a file held when it was read. */
struct secret_note {
    struct secret_note *next;
    char *path, *text; /* NULL: it could not be read, or was empty */
};

/* From now on this thread's secret_read notes what it reads in *notes, which the caller frees; with `is_then` it looks there first, and reads what
 * the file held. NULL: neither. [any] */
void secret_note(struct secret_note **notes, bool is_then);
/* Whether the file holds something else now. [any] */
bool secret_has_changed(const struct secret_note *note);
/* A copy of all; NULL: there are none, or there is no memory. */
struct secret_note *secret_notes_copy(const struct secret_note *notes);
void secret_notes_free(struct secret_note *notes);

#endif
