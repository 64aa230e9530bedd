/* reload.h - what the files of a process's pipelines ask for now is done while they run.
 *
 * One reload at a time, on whichever thread asks; who asks while one is under way waits for it, and gets one of its own. */
#ifndef FMS_RELOAD_H
#define FMS_RELOAD_H

#include <stdio.h>

#include "pipeline.h"

enum reload_result {
    RELOAD_DONE, /* or there was nothing to do */
    RELOAD_KEPT, /* what failed leaves its pipeline as it was, and it runs */
    RELOAD_BAD,  /* a file is bad, and nothing has changed */
};

/* For pipelines that run, or are about to, and live until reload_end, which waits for what is under way. [control] */
void reload_begin(struct pipeline *const *pipelines, size_t count);
void reload_end(void);

/* Reads all files, and only if all are good does what they ask for, pipeline by pipeline; `is_dry`: only says what that would be. The plan,
 * a line for each change, and what went wrong go to `out`, which may be NULL. Any thread but a lane or the main one. */
enum reload_result reload_run(bool is_dry, FILE *out);

/* The same on a thread of its own, of which the log tells. Any thread. */
void reload_request(void);

/* What became of them so far. Any thread. */
struct reload_view {
    uint64_t results[RELOAD_BAD + 1]; /* by enum reload_result, without dry ones */
    bool is_last_good;                /* true as long as there was none */
    int64_t last_at;                  /* since 1970; 0: there was none */
};
struct reload_view reload_look(void);

#endif
