/* view.h - what a pipeline shows of itself: plain values, of which whoever looks has a copy of its own. See snapshot.h. */
#ifndef FMS_VIEW_H
#define FMS_VIEW_H

#include "fms_plugin.h"
#include "measure.h"

enum pipeline_state {
    PIPELINE_RUNNING,
    PIPELINE_STOPPING, /* the source was told to stop and may still emit what is on its way */
    PIPELINE_DRAINING, /* the source has ended; settle what is in flight */
    PIPELINE_ENDED,
};

struct pipeline_counts {
    uint64_t emitted, delivered, rejected, dead_letters, dropped, retried;
};

/* Times are on clock_now. Bytes, times and durations are 0 where nobody watches: see pipeline_measure.
 *
 * How exact they are: the lane reads the clock when it wakes, after each call of a plugin but those of transforms, and before its
 * source is told; what happens meanwhile has the time read last. What a sink settles on a thread of its own is seen when the
 * lane sees it. */

/* Names live as long as the process. */
struct stage_view {
    const char *name; /* "source", "transform check", "sink kafka", "dead_letter" */
    enum fms_role role;
    const struct fms_plugin *table; /* its plugin: its name, and what counters, gauges and durations are called */
    bool is_dead;                   /* it failed or finished */
    bool has_link;                  /* it tells of its far end: FMS_TRAIT_LINK */
    struct link_state link;

    /* The source's are what it emitted. A transform's go in once, however often it is called for them; children go out, too.
     * A sink's go in with its queue, a retry is no further one, and out when they are delivered. */
    uint64_t records_in, records_out;
    uint64_t bytes_in, bytes_out; /* of their payloads */
    uint64_t rejected;            /* under its name; [dead_letter]: letters that it refused. Of these: */
    uint64_t letters;             /* became dead letters */
    uint64_t discarded;           /* were dropped, as on_reject says; the rest shares another's letter, or is stuck */
    uint64_t retried;             /* sinks: how often one was to be offered again */
    uint64_t dropped;             /* transforms: ended there, as was meant, and had no children */
    size_t held;                  /* sinks: not settled; transforms: kept, or waiting for room */
    size_t taken;                 /* sinks: of these, those that the plugin has; transforms: kept */
    bool is_full;                 /* sinks: it took less than it was offered */
    bool is_retrying;             /* sinks: it could not deliver, and is to be offered again */
    int64_t oldest_at; /* the first that is held: sinks: came to the queue; transforms: its root's emission; 0: none */
    uint64_t oldest_number; /* another one whenever another record has become the first */
    int64_t last_at;        /* source: its last record; sinks: the last delivery; 0: none yet */
    /* Nanoseconds that its functions have held the lane, with the core's own work for it. Transforms: those of one root in
     * METER_EACH, times that; and what led to them, mostly the source's poll, has so much less. */
    int64_t busy;
    /* Sinks, for each record once: from its queue's end until it is taken for the first time; of those delivered, from there
     * until they are, with all retries in between. */
    struct histogram_view queue, far_end;

    uint64_t *counters; /* the plugin's own, as many as its table has */
    double *gauges;
    struct histogram_view *durations;
};

struct pipeline_view {
    const char *name, *file;
    int64_t shown_at;
    enum pipeline_state state;
    bool has_failed;   /* for good, once the pipeline is closed: close may say so, too */
    bool is_finished;  /* ended by fms_finish: what is left is nobody's error */
    bool is_blocked;   /* the source is held back by a bound */
    bool is_going;     /* by a reload, from this process, which goes on */
    bool stands_still; /* a stage is superseded; its source is let go, and the lane goes on */
    struct pipeline_counts counts;
    size_t in_flight, in_flight_bytes, max_in_flight, max_in_flight_bytes;
    size_t left;         /* after the run: records left unsettled */
    int64_t stall_after; /* the option */
    int64_t started_at;  /* its lane; 0: not yet */
    int64_t blocked;     /* nanoseconds that a bound has held the source back: exact */
    int64_t busy;        /* nanoseconds that the lane was awake: exact */
    int64_t
        oldest_at; /* when the first was emitted (its root) of what stages hold, or on_reject = stop left; 0: none */
    /* From emission to the sinks' queues, of one root in METER_EACH and its children, by clock reads of their own: empty where
     * there are no transforms. From emission until the source is told that it is delivered. Of what says when it is from ([pipeline]
     * time, or its timestamp): how old that is when it is emitted. */
    struct histogram_view transform, total, age;
    struct stage_view *stages; /* source, transforms, sinks, dead letters, in that order */
    size_t stage_count;
    struct fleet_counts {
        bool is_kept; /* [pipeline] vehicle is set */
        size_t active, silent, new, limit;
        uint64_t unnamed;   /* records that do not say whom they are from */
        uint64_t untracked; /* records of vehicles for which there was no room */
    } fleet;
};

/* Memory for `count` stages like these, and for what their plugins' tables name; what it had is given back. Each value but
 * these pointers is as there. 0 or -ENOMEM, and then it has no stages. */
int view_reserve(struct pipeline_view *view, const struct stage_view *like, size_t count);
/* Copies all; `to` begins as zeros, keeps its memory for the next time, and is given to view_forget in the end. Without memory
 * it has no stages. */
void view_copy(struct pipeline_view *to, const struct pipeline_view *from);
void view_forget(struct pipeline_view *view);

/* What became of a reload, and of those of a process so far: see reload.h. */
enum reload_result {
    RELOAD_DONE, /* or there was nothing to do */
    RELOAD_KEPT, /* what failed goes on as it was */
    RELOAD_BAD,  /* a file is bad, and nothing has changed */
};
#define RELOAD_RESULTS (RELOAD_BAD + 1u)

/* What is asked for, perhaps with a file that is given: one of a pipeline, which stands in the place of the process's own of that name, in a
 * dry reload only, or one of variables, in the place of those in use. */
struct reload_wish {
    bool is_dry; /* only to say what would be done */
    bool is_environment;
    const char *name, *text; /* of the file; NULL: none */
    size_t size;
};
#define RELOAD_TEXT (256u << 10) /* bytes of that, at most */

struct reload_view {
    uint64_t results[RELOAD_RESULTS]; /* by enum reload_result, without dry ones */
    bool is_last_good;                /* true as long as there was none */
    int64_t last_at;                  /* 0: there was none */
};

#define FLEET_FIELDS 4u  /* of a vehicle */
#define FLEET_NAME   64u /* bytes of its name that are kept */
#define FLEET_VALUE  32u /* bytes of a field, with the NUL byte */

/* In the order in which they are of interest. */
enum vehicle_state {
    VEHICLE_SILENT, /* heard last silent_after ago, or before */
    VEHICLE_NEW,    /* heard first less than silent_after ago */
    VEHICLE_ACTIVE,
    VEHICLE_STATES,
};

/* Texts hold no control characters; they need not be UTF-8. */
struct vehicle_view {
    char name[FLEET_NAME + 1];
    char fields[FLEET_FIELDS][FLEET_VALUE]; /* "": it is missing, or no single value */
    enum vehicle_state state;
    int64_t seen_at; /* on clock_now */
    uint64_t records;
};

struct fleet_view {
    struct fleet_counts counts;
    int64_t shown_at;                 /* on clock_now */
    int64_t silent_after;             /* the option */
    const char *fields[FLEET_FIELDS]; /* their names, which live as long as the process */
    size_t field_count;
    size_t total;                  /* vehicles that were found, */
    size_t count;                  /* and those of them that are here: */
    struct vehicle_view *vehicles; /* whoever asked frees it with free() */
};

#endif
