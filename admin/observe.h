/* observe.h - what is known of the process: a thread looks at each pipeline once a second, and who asks gets what it saw last.
 *
 * So nothing that a client does reaches a lane. */
#ifndef FMS_OBSERVE_H
#define FMS_OBSERVE_H

#include "admin.h"

/* Records and bytes a second, between the last two looks. */
struct stage_rates {
    double records_in, records_out, bytes_in, bytes_out;
};

enum verdict {
    VERDICT_STARTING, /* a stage has not been connected yet, for no longer than stall_after */
    VERDICT_FLOWING,
    VERDICT_IDLE, /* nothing comes, and nothing is held */
    VERDICT_FULL, /* a bound holds the source back, and records are confirmed all the same */
    VERDICT_STUCK,
    VERDICT_DRAINING,
    VERDICT_STOPPED,
    VERDICT_FAILED,
};

/* What is to be said of a pipeline, made by health.c. */
struct health {
    bool is_live;  /* its lane answers */
    bool is_ready; /* it is connected, and it flows */
    enum verdict verdict;
    int64_t since;      /* the verdict is this one, or nothing moves (VERDICT_STUCK); on the host's clock */
    int held_by;        /* the stage that holds the rest back; -1: none */
    char sentence[512]; /* "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms" */
    struct stage_health {
        bool is_ready;
        char why[384];    /* it is not, behind its name: "is not connected since ..."; "" where it is */
        int64_t moved_at; /* what it holds has had the same oldest record since then */
    } * stages;           /* as many as the view has */
};

/* Histograms of a pipeline as they were at one time. */
struct latencies {
    struct histogram_view transform, total, age;
    struct stage_latencies {
        const char *name;
        const struct fms_plugin *table;
        struct histogram_view queue, far_end;
    } * stages;
    size_t count; /* as many as the view has */
};

struct kept;

struct observed {
    uint64_t number; /* the host's */
    struct pipeline_view view;
    bool has_answered;   /* at the last look */
    int64_t answered_at; /* when its lane did last; on the host's clock; 0: it has not begun */
    double received_rate, delivered_rate, rejected_rate; /* a dead letter that is confirmed counts as delivered, too */
    struct stage_rates *rates;                           /* as many as the view has stages */
    struct latencies earlier; /* a minute ago, or zeros: what lies between that and the view is the last minute's */
    struct health health;
    struct kept *kept; /* the observer's */
};

/* A line of the log. */
struct logged {
    int64_t at; /* host's realtime */
    enum fms_level level;
    char pipeline[256], stage[64], text[512]; /* cut to that */
};

#define OBSERVED_LINES 50u

/* All that is known, as one thing that does not change while it is looked at. */
struct observation {
    const struct admin_host *host;
    int64_t at, realtime; /* when it was made */
    int64_t started;      /* the process; realtime */
    struct observed *pipelines;
    size_t count;
    uint64_t log_counts[4]; /* by enum fms_level */
    struct reload_view reload;
    struct logged lines[OBSERVED_LINES]; /* warnings and errors, the latest last */
    size_t line_count;
    _Atomic unsigned references;
};

#define HISTORY_STEPS 180u
#define HISTORY_STEP  (5 * FMS_SECOND)

/* What a pipeline did in the steps of the last 15 minutes. */
struct history {
    struct history_point {
        int64_t time;               /* its end; the host's realtime */
        double received, delivered; /* a second */
        double in_flight, oldest;   /* the most that was seen in it; seconds, 0: nothing is in flight */
        double p99;                 /* seconds from emission to delivery; NAN: nothing was delivered */
    } points[HISTORY_STEPS];
    size_t count, next; /* points[next] is the oldest, once all are taken */
};

/* Stages come and go while they are looked at. The place in `before` of the one that goes on in this one, of the same name and plugin;
 * stage_count of `before`: none, it is new. `i`: where it stands now. */
size_t stage_before(const struct pipeline_view *before, const struct stage_view *stage, size_t i);

/* The value below which a share of what came after `before` (NULL: of all) lies, seconds: interpolated within its bucket, and at
 * most the highest bound. NAN: nothing came. */
double histogram_quantile(const struct histogram_view *now, const struct histogram_view *before, double share);

struct observer;

/* Looks once. NULL: out of memory. Each new observation is told by a write to `news_fd`, an eventfd. [control] */
struct observer *observer_new(const struct admin_host *host, int news_fd);
void observer_free(struct observer *observer);

/* From now on a thread looks once a second; until observer_free. 0 or a negative errno. [control] */
int observer_start(struct observer *observer);

/* Looks. [that thread, or control where there is none] */
void observer_look(struct observer *observer);

/* The newest; never NULL. To be handed back. [any thread] */
struct observation *observer_latest(struct observer *observer);
void observation_unref(struct observation *observation);

/* A copy of what is known of the pipeline of that name, or false: there is none. [any thread] */
bool observer_history(struct observer *observer, const char *pipeline, struct history *to);

#endif
