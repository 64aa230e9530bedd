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

/* Names live as long as the pipeline. */
struct stage_view {
    const char *name; /* "source", "transform check", "sink kafka", "dead_letter" */
    enum fms_role role;
    const struct fms_plugin *table; /* its plugin: its name, and what counters, gauges and durations are called */
    bool is_dead;                   /* it failed or finished */
    bool has_link;                  /* it tells of its far end: FMS_TRAIT_LINK */
    struct link_state link;

    uint64_t records_in, records_out; /* a sink's: put into its queue, delivered */
    uint64_t bytes_in, bytes_out;     /* of their payloads */
    uint64_t rejected;                /* under its name, and of these: */
    uint64_t letters;                 /* became dead letters */
    uint64_t discarded;               /* were dropped, as on_reject says */
    uint64_t retried;                 /* sinks */
    uint64_t dropped;                 /* transforms: by FMS_DROP, without children */
    size_t held;                      /* sinks: not settled; transforms: kept, or waiting for room */
    size_t taken;                     /* sinks: of these, those that the plugin has */
    bool is_full;                     /* sinks: it took less than it was offered */
    bool is_retrying;                 /* sinks: it could not deliver, and is to be offered again */
    int64_t oldest_at;             /* when the oldest of what is held was emitted, on clock_now; 0: nothing is held */
    int64_t last_at;               /* source: its last record; sinks: the last delivery; on clock_now; 0: none yet */
    int64_t busy;                  /* nanoseconds that its functions have held the lane */
    struct histogram_view queue;   /* sinks: from its queue's end until it is taken */
    struct histogram_view far_end; /* sinks: from there until it is delivered */

    uint64_t *counters; /* the plugin's own, as many as its table has */
    double *gauges;
    struct histogram_view *durations;
};

struct pipeline_view {
    const char *name, *file;
    int64_t shown_at; /* on clock_now */
    enum pipeline_state state;
    bool has_failed;  /* for good, once the pipeline is closed: close may say so, too */
    bool is_finished; /* ended by fms_finish: what is left is nobody's error */
    bool is_blocked;  /* the source is held back by a bound */
    struct pipeline_counts counts;
    size_t in_flight, in_flight_bytes, max_in_flight, max_in_flight_bytes;
    size_t left;                     /* after the run: records left unsettled */
    int64_t stall_after;             /* the option */
    int64_t started_at;              /* on clock_now */
    int64_t blocked;                 /* nanoseconds that a bound has held the source back */
    int64_t busy;                    /* nanoseconds that the lane was awake */
    int64_t oldest_at;               /* when the oldest record in flight was emitted; 0: none is */
    struct histogram_view transform; /* from emission to the sinks' queues, of one root in some */
    struct histogram_view total;     /* from emission until the source is told: delivered */
    struct histogram_view age;       /* of the data (its timestamp) on arrival */
    struct stage_view *stages;       /* source, transforms, sinks, dead letters */
    size_t stage_count;
    struct fleet_counts {
        bool is_kept; /* [pipeline] vehicle is set */
        size_t active, silent, new, limit;
    } fleet;
};

/* Memory for `count` stages like these, and for what their plugins' tables name; what it had is given back. Each value but
 * these pointers is as there. 0 or -ENOMEM, and then it has no stages. */
int view_reserve(struct pipeline_view *view, const struct stage_view *like, size_t count);
/* Copies all; `to` begins as zeros, keeps its memory for the next time, and is given to view_forget in the end. Without memory
 * it has no stages. */
void view_copy(struct pipeline_view *to, const struct pipeline_view *from);
void view_forget(struct pipeline_view *view);

#endif
