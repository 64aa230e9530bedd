/* assemble.h - from a pipeline file to a pipeline that is ready to run, and back. All functions: [control]. */
#ifndef FMS_ASSEMBLE_H
#define FMS_ASSEMBLE_H

#include "pipeline.h"

/* Reads and checks a pipeline file: plugins are loaded, options filled, every stage's `check` called; nothing is
 * connected. Every error is logged with file and line. NULL after an error, with errno: ENOMEM, EMFILE, ENFILE or EIO if not
 * the file but the surroundings are to blame, for now. Of a file with shards it is the first that is ours, or the very first. */
struct pipeline *pipeline_load(const char *path);

/* Those of one process. */
struct pipelines {
    struct pipeline **items;
    size_t count;
};

/* Whether this process has that pipeline of the file already; `shard`: its number; NULL: the file has no shards. */
typedef bool pipelines_run(void *user, const char *shard);

/* Adds what a file says: a pipeline, or one for each of its shards that is ours, perhaps none; but those of which `runs` says that they
 * run. NULL: the process is about to begin, and none does. `was`: what the file said to those; NULL: there are none. 0, or an error (logged) as those of pipeline_load, after which nothing was added. */
int pipelines_load(struct pipelines *all, const char *path, const struct config *was, pipelines_run *runs, void *user);
void pipelines_free(struct pipelines *all);

/* What stands in for the source, and for the sinks and the dead letters' sink, of a pipeline that is tested. */
struct pipeline_stand_ins {
    struct plugin source, sink;
};

/* The same, but with these instead of what the file names; the sinks are one, and there is one for dead letters. */
struct pipeline *pipeline_load_with(const char *path, const struct pipeline_stand_ins *stand_ins);
/* The same of a file that was read, which it takes, in any case. */
struct pipeline *pipeline_load_config(struct config *take, const struct pipeline_stand_ins *stand_ins);

/* The file of a running pipeline as it is now, as a pipeline that is to take its place: a section that says what it said has the
 * stage of the running one, the others have stages that are `is_new` and not open. Fields of payloads are asked for beside those in use
 * (json_paths_stage). It is not to be run; pipeline_free gives back what is its own. NULL as for pipeline_load. */
struct pipeline *pipeline_load_beside(struct pipeline *running);
/* A new one of what the running pipeline's stage was made of, for should its successor not open. NULL: it cannot be, logged. */
struct stage *stage_remake(struct pipeline *next, const struct stage *stage);
void stage_free(struct stage *stage);

/* The options of [pipeline], for `fmspipe describe pipeline`. */
const struct fms_option *pipeline_option_table(void);

/* Checks across the pipelines of one process: names (an error), options that should be unique (a warning). 0 or
 * -EINVAL. */
int pipeline_check_together(struct pipeline *const *pipelines, size_t count);

/* Whether both cannot run at once: they have one name, or stages of theirs what should be unique. */
bool pipeline_shares(const struct pipeline *a, const struct pipeline *b);

/* Of one stage, whatever its role; see stage_close. 0 or a negative errno, logged. */
int stage_open(struct stage *stage);
/* Opens the stages, sinks first. After an error (logged) none is open. */
int pipeline_open(struct pipeline *pipeline);
void pipeline_close(struct pipeline *pipeline);
void pipeline_free(struct pipeline *pipeline);

/* Calls each stage's `probe`; how many failed. A stage without one is reported as such. */
int pipeline_probe(struct pipeline *pipeline, int64_t timeout);

#endif
