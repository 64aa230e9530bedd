/* stage.h - one section of a pipeline file at work. All fields belong to the lane unless a comment says otherwise. */
#ifndef FMS_STAGE_H
#define FMS_STAGE_H

#include <stdatomic.h>

#include "config.h"
#include "fms_plugin.h"
#include "loader.h"
#include "measure.h"
#include "options.h"

struct pipeline;
struct promise;
struct record;

/* The calls of a plugin that may hold the lane. */
enum call_kind { CALL_POLL, CALL_WORK, CALL_SETTLED, CALL_STOP, CALL_ENTERED, CALL_MEASURE, CALL_KINDS };

struct call {
    struct stage *stage;
    const char *function;
};

/* Records that are linked one way, each in one such list at most. */
struct record_list {
    struct record *head, *tail;
};

/* Records of a stage in emit order, linked both ways by the slots that they have for it. A sink's are all that it has not
 * settled, and what stands before the cursor it was offered; a transform's are those that it keeps. */
struct record_queue {
    struct record *head, *tail;
    struct record *cursor; /* sinks: the first to be offered */
    uint64_t passed;       /* how many have left from its head */
    size_t taken;          /* of them: sinks: taken and not settled; transforms: all */
    bool is_full;          /* sinks: it took less than offered; wait for a settlement or a wake */
};

/* A sink that could not deliver is offered nothing until it has settled all that it took, and until `at` has come. */
struct retry {
    bool is_due;      /* from the first such record on, until the next offer */
    bool is_troubled; /* since its first retry, until it delivers again */
    unsigned attempt; /* in a row */
    int64_t at;       /* 0: it still holds some */
    int64_t since;    /* the first of them */
};

/* What a transform makes more of. */
struct family {
    struct record_list waiting; /* records that wait for room for children */
    size_t waiting_count;
    bool is_refused;  /* fms_emit_child has said -EAGAIN or -EMSGSIZE in this call, */
    bool is_hopeless; /* and the latter, whatever room there may be later */
};

struct volume {
    uint64_t records, bytes; /* of their payloads; bytes only where it is measured */
};

/* What a stage has done; what it takes time to find out only where its pipeline is measured, see meter.h. */
struct tally {
    struct volume in;        /* transforms and dead letters: what has come; of the sinks it is pipeline.passed */
    struct volume before;    /* to be added to what is counted elsewhere: transforms: what came out; sinks: what came */
    struct volume delivered; /* sinks */
    uint64_t rejected;       /* under its name */
    uint64_t letters, discarded; /* of these: became dead letters; were dropped, as on_reject says */
    uint64_t retried;            /* sinks */
    uint64_t dropped;            /* transforms: without children */
    int64_t last_at;
    int64_t busy;
    int64_t lent;                         /* of that, to transforms that its calls led to */
    struct histogram_view queue, far_end; /* sinks */
};

struct stage {
    struct fms_host host; /* first: the plugin's services lead back to the stage */
    struct pipeline *pipeline;
    const struct plugin *plugin;
    struct config *config; /* held, for what it was made of: */
    const struct config_section *section;
    const char *name; /* see words_keep */
    void *instance;
    struct options_memory *memory; /* what the instance's options point to */
    struct measures measures;
    struct promise *promises; /* what it has said in its check */
    size_t index;             /* in pipeline.stages */
    bool is_open;
    bool is_dead;               /* it failed or finished: not called any more */
    _Atomic bool is_superseded; /* it said -ENOTUNIQ, for which its pipeline stands still; changes on the lane */
    bool is_new;                /* it is not in its pipeline yet: what it breaks is its own */
    bool is_held;               /* sinks that go: offered nothing more */
    bool asks_who;              /* sinks: it called fms_identify, */
    bool asks_ends;             /* with ends */
    bool is_checked;            /* its check is over, and with it the time for that */
    bool is_copy;               /* of one that has said of its options what there is to say */
    bool is_closing;            /* and not called any more; what they settle still counts */
    bool has_ended;             /* the source returned FMS_END; the transform was flushed after that */
    _Atomic bool has_finished;  /* it called fms_finish; any thread */
    _Atomic bool has_told;      /* it logged an error; any thread */

    struct fms_wait wait;
    bool is_ready; /* its fd was */
    bool was_polled;
    _Atomic bool is_woken; /* by fms_wake, any thread */

    struct call calls[CALL_KINDS]; /* by enum call_kind */
    bool has_moved;                /* something of what it took was settled since `stalled_since` */
    int64_t stalled_since;         /* on clock_now */

    size_t slot;    /* sinks: which of a record's slots; transforms: 0 */
    size_t slot_at; /* where that begins in a record: see slot_of */
    struct record_queue queue;
    size_t kept_bytes;    /* transforms: the charges of what they keep */
    struct retry retry;   /* sinks */
    struct family family; /* transforms */
    struct tally tally;
};

#endif
