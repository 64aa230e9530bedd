/* crew.h - the pipelines of a process, each on a thread of its own: some come and others go, while they are looked at.
 *
 * A pipeline has a number here that is no other's, then or later. Who looks at it holds it, and it is freed when nobody does any more. */
#ifndef FMS_CREW_H
#define FMS_CREW_H

#include "files.h"
#include "pipeline.h"

/* All stages of a pipeline, one after the other: how long they may take to close. */
#define CREW_PATIENCE (15 * FMS_SECOND)

struct crew;

struct crew *crew_new(void); /* NULL: out of memory, or of descriptors */
/* With its pipelines, of which none runs. [control] */
void crew_free(struct crew *crew);

/* Takes pipelines that are loaded, which do not run yet; all or, with -ENOMEM, none. [control] */
int crew_add(struct crew *crew, struct pipeline *const *pipelines, size_t count);
/* All of them, and those that come, measure themselves from now on; see pipeline_measure. Before crew_open. [control] */
void crew_measure(struct crew *crew);

/* ------------------------------------------------------------------------------------------ who looks: any thread but a lane */

/* The numbers of those that there are, in the order of their files, to be freed with free(). NULL: out of memory. */
uint64_t *crew_numbers(struct crew *crew, size_t *count);
/* NULL: it has gone. Else it stays until crew_release, which should not be long. */
struct pipeline *crew_hold(struct crew *crew, uint64_t number);
void crew_release(struct crew *crew, const struct pipeline *pipeline);

/* ------------------------------------------------------------------------------------------------------ who runs: [control] */

/* Opens all, or none: -EINVAL, logged. */
int crew_open(struct crew *crew);
/* Each gets its thread. After a failure those that were started, and those that are still to be, stop at once. */
void crew_start(struct crew *crew);

/* How they are, without those that go; once all were told to stop, the end of these is waited for, too, and how they end is of no
 * account all the same. */
struct crew_state {
    size_t count, running;
    bool has_failed; /* one has */
    bool is_until;   /* the one until whose end the others were to run has ended */
};
/* Joins the threads that have ended. `until`: a name, or NULL. */
struct crew_state crew_look(struct crew *crew, const char *until);
/* Becomes readable when one begins to close, or has ended, and at crew_wake. */
int crew_fd(const struct crew *crew);
void crew_wake(struct crew *crew); /* any thread */

/* All are told to stop, and nobody can be started any more. Any thread. */
void crew_stop(struct crew *crew);
/* On clock_now: when none of those that run is waited for any more, which is a while after it began to close, or should have, where
 * all were told to stop at `since` (0: they were not). FMS_NEVER: that is not known yet. */
int64_t crew_last_moment(struct crew *crew, int64_t since);
/* Logs which have not ended. */
void crew_name_unclosed(struct crew *crew);
/* After the run: 0; or -EIO after a failure, or, logged, where records are left that should not be. */
int crew_result(struct crew *crew);

/* ------------------------------------------------------ who changes it: one at a time, any thread but a lane or the main one */

/* Those that there are, which stay until crew_leave; to be freed with free(). NULL: out of memory. */
struct pipeline **crew_pipelines(struct crew *crew, size_t *count);
/* Opens it and runs it: it is the crew's then. Else a negative errno, logged, and it is the caller's, closed. */
int crew_join(struct crew *crew, struct pipeline *pipeline);
/* They stop, settle what they have for drain_timeout, and are closed and freed. A plugin that does not return is named, and its pipeline
 * still there: how many that are, which are the first of `pipelines` then. */
size_t crew_leave(struct crew *crew, struct pipeline **pipelines, size_t count);
/* From now on they are told in the order of these files and their shards to those who look. */
void crew_order(struct crew *crew, const struct files *files);

#endif
