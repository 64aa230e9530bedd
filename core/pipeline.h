/* pipeline.h - a pipeline: its stages, its records in flight, and its one thread of control. Inside the core only.
 *
 * Whoever holds `lock` is the lane. That is the lane's own thread, which gives it up only to sleep, or a library's
 * thread between fms_enter and fms_leave. All fields belong to the lane unless a comment says otherwise. The lock order
 * is `lock`, then `inbox_lock`; neither is held when a plugin is called but `lock`. */
#ifndef FMS_PIPELINE_H
#define FMS_PIPELINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "config.h"
#include "json.h"
#include "options.h"
#include "record.h"
#include "stage.h"
#include "view.h"

#define PIPELINE_BATCH      256u /* records that a sink is offered at once */
#define PIPELINE_MAX_STAGES 62u  /* so that a record's stages fit a 64-bit mask */

enum on_reject { ON_REJECT_STOP, ON_REJECT_DROP };

/* The options of [pipeline]. */
struct pipeline_options {
    const char *name;
    int64_t max_in_flight, max_in_flight_bytes;
    int on_reject; /* enum on_reject */
    int64_t drain_timeout, retry_min, retry_max, stats_interval, stall_after;
    const struct fms_template *time;    /* NULL: a record's own timestamp */
    const struct fms_template *vehicle; /* see struct fleet_options, and so for the others */
    struct fms_list vehicle_fields;
    int64_t silent_after, max_vehicles;
    int64_t shards, replicas, replicas_next; /* see struct shards, which was read before */
    const char *replica;
};

/* What watch.c knows of a lane. */
struct watched {
    struct pipeline *next;
    uint64_t turns;             /* when it looked last */
    int64_t since;              /* the lane was first seen in this turn, in a call */
    unsigned looks, tell_after; /* how often it was seen there; when that is told of */
};

/* What others see of it; see snapshot.h. */
struct shown {
    _Atomic bool is_wanted;
    pthread_mutex_t
        lock; /* taken after any other but those of struct measures; guards what follows, pipeline.stages and pipeline.fleet */
    pthread_cond_t changed;
    bool is_running; /* a lane, which answers */
    uint64_t number; /* of the latest */
    struct pipeline_view latest;
};

#define METER_EACH 31 /* of so many roots the transforms are timed by clock reads of their own; no divisor of a batch */

/* What the lane measures of itself; see meter.h. */
struct meter {
    int64_t at;       /* the time as it was read last */
    int64_t lap_at;   /* up to here it is known who had the lane */
    int64_t awake_at; /* since then the lane is awake; 0: it sleeps */
    int64_t blocked_at;
    int64_t realtime; /* less clock_now */
    int64_t busy, blocked;
    int64_t aged_at;      /* the last record that was asked when it is from */
    uint64_t emitted;     /* when the source was seen last */
    uint64_t bytes;       /* that it has emitted */
    unsigned until_timed; /* records */
    struct histogram_view transform, total, age;
};

struct pipeline {
    struct pipeline_options options;
    _Atomic(const char *) name; /* options.name, for any thread: a change may set another; see words_keep */
    const char *file;           /* see words_keep */
    struct config *config;
    struct pipeline *running; /* this is to take its place, and has some of its stages; NULL: it is none's */
    bool is_copy;             /* of another shard's: while it is loaded, it warns of nothing that was said of that */
    struct options_memory *memory;
    struct json_paths *paths;
    uint64_t indices;    /* of stages that were made for it, a bit for each */
    uint64_t asks_as;    /* the bit of those who ask for the paths that [pipeline] names: see json_paths_user */
    struct fleet *fleet; /* NULL: none is kept. Changes under shown.lock; for other threads: pipeline_fleet */
    struct json_cache *draft_json; /* what was found in the draft looked at last; of `draft_json_size` bytes */
    size_t draft_json_size;
    struct stage *stages[PIPELINE_MAX_STAGES];
    size_t stage_count;
    struct stage *source;
    struct stage *transforms[PIPELINE_MAX_STAGES];
    size_t transform_count;
    struct stage *sinks[PIPELINE_MAX_STAGES + 1]; /* behind the last the dead letter's, and one that leaves */
    size_t sink_count;                            /* without those */
    struct stage *dead_letter;                    /* NULL: none */
    struct stage *leaving;                        /* nothing more comes to it; NULL: none */

    pthread_mutex_t lock;
    pthread_mutex_t next;        /* held by who is to have `lock` next; taken before it */
    pthread_mutex_t stages_lock; /* held by who opens or closes stages while it runs; taken before both */
    _Atomic unsigned waiting;    /* for that */
    int wake_fd;
    _Atomic bool is_signalled; /* wake_fd was written and not yet read; any thread */
    bool is_entered;           /* by a thread between fms_enter and fms_leave */
    int64_t sleeps_until;      /* until when the lane's own thread sleeps; 0: it is awake */

    pthread_mutex_t inbox_lock;
    struct slot_list {
        struct record *head, *tail;
    } inbox[PIPELINE_MAX_STAGES + 1]; /* by slot: settled by other threads; under inbox_lock */
    _Atomic bool has_inbox;
    struct slot_list settled[PIPELINE_MAX_STAGES + 1]; /* by slot: settled on the lane */
    bool has_settled;

    struct record_list done; /* complete roots whose source is to be told */
    size_t in_flight;        /* roots */
    struct records records;
    struct record_list stuck; /* rejected records that on_reject = stop left in flight */
    bool tells_ends;          /* a sink asks for the ends of roots */
    bool is_held;             /* while it is changed: the source may emit nothing */
    bool is_pausing;          /* the source is to end, and the lane to go on; */
    bool is_paused;           /* it has, and what was in flight is settled, or late */
    bool stands_still;        /* a stage is superseded: as is_pausing, until that is another one */
    uint16_t source_number;   /* how many there were before it: who emitted what is in flight may be gone */
    bool is_blocked;          /* emit said -EAGAIN, or the bound was reached; until the low watermark */
    size_t blocked_for;       /* bytes that the refused record needs */
    const struct stage
        *last_try; /* the transform that has a record in hand of which, if a child finds no room now, it will
                                     never find any; NULL: none */

    _Atomic(const struct call *) calling; /* what the lane is in; NULL: nothing of a plugin's. Others only read it */
    _Atomic uint64_t turns;               /* how often it has begun anew; others only read it */
    int64_t patience;                     /* how long a call may hold the lane before it is named */
    int64_t stalls_at;                    /* when to look at that again */
    int64_t started_at;                   /* on clock_now; 0: not yet */
    struct watched watched;               /* watch.c's, under its lock */
    bool is_watched;

    struct shown shown; /* snapshot.c's */
    bool is_measured;   /* somebody may look; set before it is opened */
    struct meter meter;
    struct volume passed;      /* into the sinks' queues */
    _Atomic unsigned taps;     /* tap.c's: which are open here, a bit for each; any thread */
    _Atomic bool is_past_taps; /* nothing will pass them any more; any thread */
    bool is_tapped;            /* one was open when this turn began. Only what is measured is tapped */

    enum pipeline_state state;
    _Atomic bool is_going;    /* by a reload, from this process, which goes on; any thread */
    _Atomic bool must_stop;   /* any thread */
    _Atomic bool must_finish; /* any thread */
    _Atomic bool must_fail;   /* any thread: a broken rule */
    bool has_failed;
    bool is_finished;            /* ended by fms_finish: what is left is nobody's error */
    bool in_source;              /* within source_poll */
    bool is_refused;             /* fms_emit has said -EAGAIN in this source_poll */
    uint64_t refused;            /* of which draft: see host.c */
    uint64_t changes;            /* of its stages, since it runs */
    _Atomic int64_t ends_within; /* options.drain_timeout, for any thread: a change may set another */
    int64_t drain_until;
    int64_t stats_at;
    struct pipeline_counts counts;
    size_t left; /* after the run: records left unsettled */
};

/* The pipeline whose lane this thread is, or NULL. */
extern _Thread_local struct pipeline *pipeline_current;

int pipeline_init(struct pipeline *pipeline); /* of zeros: locks, wake-up; 0 or -errno */
void pipeline_destroy(struct pipeline *pipeline);
/* Puts a stage where it belongs, behind those of its role; there is room. */
void pipeline_add(struct pipeline *pipeline, struct stage *stage, enum fms_role role);
/* The same for one that stays where it is in another pipeline. */
void pipeline_list(struct pipeline *pipeline, struct stage *stage, enum fms_role role);
/* Another in the place of a sink, or of the dead letters', with its slot. */
void pipeline_put_sink(struct pipeline *pipeline, const struct stage *old, struct stage *stage);
/* A sink, or that of dead letters, joins those that there are, in a slot that is free; or leaves, and is gone later. */
void pipeline_join(struct pipeline *pipeline, struct stage *sink);
void pipeline_leave(struct pipeline *pipeline, struct stage *sink);
void pipeline_left(struct pipeline *pipeline);
/* A source behind another; what that has emitted and is in flight is told to nobody. */
void pipeline_put_source(struct pipeline *pipeline, struct stage *source);
/* Others in the place of all transforms. */
void pipeline_put_transforms(struct pipeline *pipeline, struct stage *const *transforms, size_t count);
/* After each change of sinks, paths or bounds; see records_layout for what comes once there are records. */
void pipeline_layout(struct pipeline *pipeline);
/* Sinks, the dead letter's, and one that leaves. */
static inline size_t pipeline_slots(const struct pipeline *pipeline)
{
    return pipeline->sink_count + (pipeline->dead_letter != NULL) + (pipeline->leaving != NULL);
}

/* Whether the source that emitted this root is there to be told of it. */
static inline bool pipeline_has_source_of(const struct pipeline *pipeline, const struct record *root)
{
    return root->source == pipeline->source_number && !pipeline->source->is_closing;
}

/* What is kept of vehicles, held; NULL: nothing is. Any thread. */
struct fleet *pipeline_fleet(struct pipeline *pipeline);

/* Whether each sink has what it took for good once sink_write returns. */
bool pipeline_is_durable(const struct pipeline *pipeline);
/* Whether a sink, or that of dead letters, asks who records are. */
bool pipeline_asks_who(const struct pipeline *pipeline);

/* The lane measures times and bytes, for somebody is going to look. Before it runs. [control] */
void pipeline_measure(struct pipeline *pipeline);
/* Whether a bound holds the source back. [lane] */
void pipeline_block(struct pipeline *pipeline, bool is_blocked);

static inline bool stage_is_among(const struct stage *stage, struct stage *const *stages, size_t count)
{
    bool found = false;

    for (size_t i = 0; i < count && !found; i++)
        found = stages[i] == stage;
    return found;
}

static inline struct slot *slot_of(struct record *record, const struct stage *stage)
{
    return (struct slot *)(void *)((char *)record + stage->slot_at);
}

/* What any thread may ask; the lane does it in its next turn. */
void pipeline_wake(struct pipeline *pipeline);
void pipeline_stop(struct pipeline *pipeline);
void pipeline_fail(struct pipeline *pipeline); /* logged by the caller */
/* Whether a stage is superseded. Any thread that may look at its stages. */
bool pipeline_has_superseded(const struct pipeline *pipeline);

#endif
