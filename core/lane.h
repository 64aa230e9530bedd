/* pipeline.h - a pipeline at work: its stages, its records in flight, and its one thread of control. Inside the core only.
 *
 * Whoever holds `lock` is the lane. That is the lane's own thread, which gives it up only to sleep, or a library's
 * thread between fms_enter and fms_leave. All fields belong to the lane unless a comment says otherwise. The lock order
 * is pipeline.lock, then pipeline.inbox_lock; neither is held when a plugin is called but pipeline.lock.
 *
 * A record is in flight from emit until its source was told. A root is a record that the source emitted; children (of
 * transforms) and dead letters have a parent, which is complete only when they are. Each sink has a queue of all
 * records that it has not yet settled, in emit order, and a cursor in it: what stands before the cursor is taken or
 * waits for a retry, what stands behind is still to be offered. */
#ifndef FMS_LANE_H
#define FMS_LANE_H

#include <pthread.h>
#include <stdatomic.h>

#include "config.h"
#include "fms_plugin.h"
#include "json.h"
#include "loader.h"
#include "options.h"

#define PIPELINE_BATCH      256u /* records that a sink is offered at once */
#define PIPELINE_MAX_STAGES 62u  /* so that a record's stages fit a 64-bit mask */

struct pipeline;
struct record;

enum slot_state {
    SLOT_NONE,    /* not in this sink's queue */
    SLOT_QUEUED,  /* to be offered, or offered again */
    SLOT_TAKEN,   /* the sink has it */
    SLOT_SETTLED, /* the sink has settled it; on its way to the lane */
};

/* A record's place in one sink's queue. */
struct slot {
    struct record *previous, *next;
    struct record *inbox_next;
    char *reason;          /* of a retry or rejection, or NULL */
    _Atomic uint8_t state; /* enum slot_state; the sink's threads change TAKEN to SETTLED */
    uint8_t fate;
};

struct record {
    uint32_t magic; /* RECORD_ALIVE, or RECORD_FREED in the quarantine */
    uint32_t size_class;
    size_t charge;           /* bytes of this allocation, as they count for max_in_flight_bytes */
    uint32_t pending;        /* slots and children not settled, and 1 while it is among the transforms */
    uint32_t kept_by;        /* index + 1 of the transform that has it, or 0 */
    uint64_t rejected_by;    /* roots: the stages under whose names it went to dead letters */
    bool dropped;            /* roots: rejected, and dropped as on_reject says */
    bool is_stuck;           /* in pipeline.stuck */
    struct record *parent;   /* NULL: a root */
    struct record *link;     /* in a transform's waiting list, the lane's done list, or the pool's */
    struct json_cache *json; /* NULL when the pipeline's templates name no field */
    struct fms_record public;
    struct slot slots[]; /* one for each sink, the dead letter's last; the first serves the lists of transforms too */
};

#define RECORD_MAX_HEADERS    1000u
#define RECORD_LETTER_HEADERS 5u /* of these, in a dead letter, that are the host's */

#define RECORD_CLASSES    8u  /* of size, up to 32 KiB; what is larger goes to malloc and back */
#define RECORD_QUARANTINE 64u /* freed records of a class that stay dead for a while */

#define RECORD_ALIVE 0x464d5301u
#define RECORD_FREED 0x464d5300u

struct record_list {
    struct record *head, *tail;
};

/* The calls of a plugin that may hold the lane. */
enum call_kind { CALL_POLL, CALL_WORK, CALL_SETTLED, CALL_STOP, CALL_ENTERED, CALL_KINDS };

struct call {
    struct stage *stage;
    const char *function;
};

/* One section of the pipeline file. */
struct stage {
    struct fms_host host; /* first: the plugin's services lead back to the stage */
    struct pipeline *pipeline;
    const struct plugin *plugin;
    const struct config_section *section;
    char *name;
    void *instance;
    _Atomic uint64_t *counters;
    size_t counter_count;
    size_t index; /* in pipeline.stages */
    bool is_open;
    bool is_dead;              /* it failed or finished: not called any more */
    bool has_ended;            /* the source returned FMS_END; the transform was flushed after that */
    _Atomic bool has_finished; /* it called fms_finish; any thread */
    _Atomic bool has_told;     /* it logged an error; any thread */

    struct fms_wait wait;
    bool is_ready; /* its fd was */
    bool was_polled;
    _Atomic bool is_woken; /* by fms_wake, any thread */

    struct call calls[CALL_KINDS]; /* by enum call_kind */
    bool has_moved;                /* something of what it took was settled since `stalled_since` */
    int64_t stalled_since;         /* on clock_now */

    struct record_list waiting; /* transforms: records that wait for room for children */
    bool is_refused;            /* transforms: fms_emit_child has said -EAGAIN or -EMSGSIZE in this call, */
    bool is_hopeless;           /* and the latter, whatever room there may be later */

    size_t slot;                   /* sinks: which of a record's slots; transforms: 0 */
    struct record *head, *tail;    /* sinks: the queue; transforms: what they keep */
    struct record *cursor;         /* sinks: the first to be offered */
    size_t taken;                  /* sinks: taken and not settled; transforms: kept */
    size_t kept_bytes;             /* transforms: the charges of what they keep */
    bool is_full;                  /* sinks: it took less than offered; wait for a settlement or a wake */
    bool is_retrying;              /* sinks: nothing is offered until `taken` is 0 and `retry_at` has come */
    bool is_troubled;              /* sinks: since its first retry, until it delivers again */
    unsigned attempt;              /* sinks: retries in a row */
    int64_t retry_at, retry_since; /* sinks: 0: none */
};

enum pipeline_state {
    PIPELINE_RUNNING,
    PIPELINE_STOPPING, /* the source was told to stop and may still emit what is on its way */
    PIPELINE_DRAINING, /* the source has ended; settle what is in flight */
    PIPELINE_ENDED,
};

enum on_reject { ON_REJECT_STOP, ON_REJECT_DROP };

/* The options of [pipeline]. */
struct pipeline_options {
    const char *name;
    int64_t max_in_flight, max_in_flight_bytes;
    int on_reject; /* enum on_reject */
    int64_t drain_timeout, retry_min, retry_max, stats_interval;
};

/* What watch.c knows of a lane. */
struct watched {
    struct pipeline *next;
    uint64_t turns;             /* when it looked last */
    int64_t since;              /* the lane was first seen in this turn, in a call */
    unsigned looks, tell_after; /* how often it was seen there; when that is told of */
};

struct pipeline_counts {
    uint64_t emitted, delivered, rejected, dead_letters, dropped, retried;
};

struct pipeline {
    struct pipeline_options options;
    char *default_name; /* from the file's name */
    struct config *config;
    struct options_memory *memory;
    struct json_paths *paths;
    struct json_cache *draft_json; /* what was found in the draft looked at last; of `draft_json_size` bytes */
    size_t draft_json_size;
    struct stage *stages[PIPELINE_MAX_STAGES];
    size_t stage_count;
    struct stage *source;
    struct stage *transforms[PIPELINE_MAX_STAGES];
    size_t transform_count;
    struct stage *sinks[PIPELINE_MAX_STAGES + 1]; /* the dead letter's sink stands behind the last */
    size_t sink_count;                            /* without the dead letter's */
    struct stage *dead_letter;                    /* NULL: none */

    pthread_mutex_t lock;
    int wake_fd;
    _Atomic bool is_signalled; /* wake_fd was written and not yet read; any thread */
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
    size_t in_flight_bytes;
    struct record_list stuck; /* rejected records that on_reject = stop left in flight */
    bool is_blocked;          /* emit said -EAGAIN, or the bound was reached; until the low watermark */
    size_t blocked_for;       /* bytes that the refused record needs */
    const struct stage
        *last_try; /* the transform that has a record in hand of which, if a child finds no room now, it will
                                     never find any; NULL: none */

    struct record *pool[RECORD_CLASSES]; /* freed records by size class: the latest, which the cache still has, first */
    size_t pool_bytes;
    size_t record_json; /* where a record's JSON cache begins; it may be none */
    size_t record_head; /* where its headers begin, which is where that ends */
    struct graves {
        struct record *ring[RECORD_QUARANTINE];
        size_t next;
    } graves[RECORD_CLASSES]; /* those freed last, which are not used again yet */

    _Atomic(const struct call *) calling; /* what the lane is in; NULL: nothing of a plugin's. Others only read it */
    _Atomic uint64_t turns;               /* how often it has begun anew; others only read it */
    int64_t patience;                     /* how long a call may hold the lane before it is named */
    int64_t stall_after;                  /* how long nothing may be settled before a stage is named */
    int64_t stalls_at;                    /* when to look at that again */
    struct watched watched;               /* watch.c's, under its lock */
    bool is_watched;

    enum pipeline_state state;
    _Atomic bool must_stop;   /* any thread */
    _Atomic bool must_finish; /* any thread */
    _Atomic bool must_fail;   /* any thread: a broken rule */
    bool has_failed;
    bool is_finished; /* ended by fms_finish: what is left is nobody's error */
    bool in_source;   /* within source_poll */
    bool is_refused;  /* fms_emit has said -EAGAIN in this source_poll */
    uint64_t refused; /* of which draft: see host.c */
    int64_t drain_until;
    int64_t stats_at;
    struct pipeline_counts counts;
    size_t left; /* after the run: records left unsettled */
};

/* The lane that this thread is, or NULL. */
extern _Thread_local struct pipeline *lane_current;

/* record.c: memory of records. A record's public part is what plugins see. */
static inline struct record *record_of(const struct fms_record *public)
{
    return (struct record *)((char *)(uintptr_t) public - offsetof(struct record, public));
}

/* The same of any pointer: NULL where the lane did not make it, but a plugin. A record's headers, be there none, begin at a
 * known distance behind it; a draft's are elsewhere, and so is what a copy of a record leads to. */
static inline struct record *record_made(const struct pipeline *pipeline, const struct fms_record *public)
{
    struct record *record = record_of(public);
    bool is_made = (uintptr_t) public->headers == (uintptr_t)record + pipeline->record_head &&
                   (record->magic == RECORD_ALIVE || record->magic == RECORD_FREED);

    return is_made ? record : NULL;
}

/* Where the parts of a record lie: after each change of sinks or paths, none of which comes once there are records. */
void record_layout(struct pipeline *pipeline);
/* The bytes that a record would take, more than max_in_flight_bytes if memory cannot hold it; SIZE_MAX for a malformed
 * draft. With `share`, for a dead letter, without what it has from that record: topic, key, payload, and the headers that
 * lie in its memory. */
size_t record_charge(const struct pipeline *pipeline, const struct fms_record *draft, const struct record *share);
/* A copy of the draft, given what record_charge said of it; `share` must outlive it. NULL: out of memory. */
struct record *record_new(struct pipeline *pipeline, const struct fms_record *draft, size_t charge,
                          const struct record *share);
void record_free(struct pipeline *pipeline, struct record *record);
void record_pool_free(struct pipeline *pipeline);

/* settle.c: sinks' queues, and what becomes of records. */
void settle_report(struct stage *sink, struct record *record, enum fms_fate fate, char *reason); /* any thread */
/* A record that comes out of transform number `after` (-1: out of the source). */
void settle_advance(struct pipeline *pipeline, struct record *record, int after);
/* Handles all that was settled, then tells the source. */
void settle_run(struct pipeline *pipeline);
/* Offers to each sink what it may be offered; whether anything was. */
bool settle_offer(struct pipeline *pipeline);
/* Whether nothing but what waits in transforms could make room. */
bool settle_is_stalled(const struct pipeline *pipeline);
/* Calls transforms again whose records waited for room. */
void settle_advance_waiting(struct pipeline *pipeline);
/* The record was rejected by a stage; the reason is taken. */
void settle_reject(struct stage *stage, struct record *record, char *reason);
/* One reference less (a slot, a child, the transforms); completes the record at the last. */
void settle_release(struct pipeline *pipeline, struct record *record);
/* Whether a live stage can still change the fate of a record. */
bool settle_is_pending(const struct pipeline *pipeline);
/* Whether a record that a transform has is inside its call, and not yet among those that it keeps. */
bool settle_is_in_hand(struct stage *transform, struct record *record);
/* A transform's record is no longer kept. */
void settle_unkeep(struct stage *transform, struct record *record);
/* Frees every record, telling nobody. For the end, when the stages are closed. */
void settle_abandon(struct pipeline *pipeline);

/* watch.c: a lane that stands still is told of, from lane_run's begin to its end. */
void watch_begin(struct pipeline *pipeline);
void watch_end(struct pipeline *pipeline);

/* Around each call of a plugin: what the lane is in; the end is given what the beginning returned. */
static inline const struct call *call_begin(struct stage *stage, enum call_kind kind)
{
    const struct call *before = atomic_load_explicit(&stage->pipeline->calling, memory_order_relaxed);

    atomic_store_explicit(&stage->pipeline->calling, &stage->calls[kind], memory_order_release);
    return before;
}

static inline void call_end(struct pipeline *pipeline, const struct call *before)
{
    atomic_store_explicit(&pipeline->calling, before, memory_order_relaxed);
}

/* host.c */
void host_fill(struct stage *stage, enum fms_role role);
/* A broken rule: logs it under the stage's name and fails the pipeline. Any thread. */
void host_misuse(struct stage *stage, const char *format, ...) FMS_PRINTF(2, 3);

/* pipeline.c */
int lane_prepare(struct pipeline *pipeline); /* lock, wake-up; 0 or -errno */
void lane_release(struct pipeline *pipeline);
/* Runs until the pipeline has ended; on a thread of its own. Stages are open. */
void lane_run(struct pipeline *pipeline);
void lane_stop(struct pipeline *pipeline);  /* any thread */
void lane_fail(struct pipeline *pipeline);  /* any thread; logged by the caller */
void lane_wake(struct pipeline *pipeline);  /* any thread */
void lane_enter(struct pipeline *pipeline); /* any thread but the lane */
void lane_leave(struct pipeline *pipeline);
size_t lane_drain(struct pipeline *pipeline, int64_t deadline); /* lane, in source_poll */
/* Calls transform_poll or sink_poll. */
void stage_poll(struct stage *stage);
/* An operation returned a negative errno: the stage is dead, and the pipeline fails. */
void stage_fail(struct stage *stage, const char *operation, int error);

#endif
