/* passing.h - a record as /tap tells of it. */
#ifndef FMS_PASSING_H
#define FMS_PASSING_H

#include <jansson.h>

#include "fms_plugin.h"

#define PASSING_HEADERS 1000u

struct passing {
    struct fms_record record;
    double at;           /* since 1970: when it passed */
    size_t payload_size; /* before it was cut */
    const char *reason;  /* or NULL */
    struct fms_header headers[PASSING_HEADERS];
    void *decoded[PASSING_HEADERS + 3]; /* what was base64 */
    size_t decoded_count;
};

/* What the line says, as long as `line` lives; false: it is no record. To be cleared in both cases. */
bool passing_read(struct passing *passing, const json_t *line);
void passing_clear(struct passing *passing);

/* In one line for a terminal, cut to so many columns, clean; to be freed. NULL: out of memory. */
char *passing_text(const struct passing *passing, size_t columns);

#endif
