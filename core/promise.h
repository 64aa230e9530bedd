/* promise.h - what becomes of a message over crashes and lost connections, as the stages of its pipeline say: for `fmspipe check`.
 * All functions: [control]. */
#ifndef FMS_PROMISE_H
#define FMS_PROMISE_H

#include <stdio.h>

#include "pipeline.h"

/* What a stage has said, once: see fms_promise. */
struct promise {
    struct promise *next;
    enum fms_once once;
    int line; /* of its file, which it is about */
    char *text;
};

/* A stage says so of an option, or of all of it where that is NULL; takes the text. */
void promise_add(struct stage *stage, const char *option, enum fms_once once, char *take);
void promises_free(struct stage *stage);
/* What the pipeline as a whole promises, and each reason for which it is not more. */
void promises_print(const struct pipeline *pipeline, FILE *out);

#endif
