/* environment.h - what ${env:NAME} stands for: a variable of the file that --env-file names, or else one of the process.
 *
 * Those of the process are what it was started with; the file is read again with the pipeline files. [control], but where it is said. */
#ifndef FMS_ENVIRONMENT_H
#define FMS_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* As it was read once; never changed, and counted. NULL: the process's variables alone. */
struct environment;

/* The file of --env-file, which may be missing where a - stands before its path; NULL: there is none. It lives as long as the process. */
void environment_name(const char *file);
/* Its path; NULL: there is none. */
const char *environment_path(void);

/* Reads it; what is in use where there is none. 0, or a negative errno, logged with file and line, and nothing that stands there. */
int environment_read(struct environment **environment);
/* The same of a text; `name` stands for the path in messages. */
int environment_parse(const char *name, const char *text, size_t size, struct environment **environment);

/* That which pipeline files are read with from now on, and which they are. */
void environment_use(struct environment *take);
struct environment *environment_in_use(void);

/* [any] */
struct environment *environment_hold(struct environment *environment);
void environment_free(struct environment *environment);

/* A variable's value, for as long as the environment; NULL: there is none of that name. [any] */
const char *environment_get(const struct environment *environment, const char *name);

/* Whether all that a text has of ${env:NAME} is the same in both. */
bool environment_is_same(const char *text, const struct environment *a, const struct environment *b);

#endif
