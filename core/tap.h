/* tap.h - records as they pass a place of a pipeline, copied for somebody who looks.
 *
 * The lane waits for nobody: what finds no room, or finds the reader at it, is dropped and counted. */
#ifndef FMS_TAP_H
#define FMS_TAP_H

#include "fms_plugin.h"

struct pipeline;
struct stage;

#define TAPS_MOST   4u           /* open at once in a process */
#define TAP_ROOM    (512u << 10) /* bytes that are copied and not yet read; as many again are being read */
#define TAP_PAYLOAD (64u << 10)  /* bytes of a payload that are copied */

enum tap_point {
    TAP_IN, /* what the stage is given; sinks: what they have taken. Of a source there is only TAP_OUT, which is meant */
    TAP_OUT, /* what comes out of it; sinks: what they have delivered */
    TAP_DEAD /* what was rejected under its name, as the source emitted it */
};

struct tap_wish {
    const char *stage; /* "sink kafka", or "kafka" where no other stage is called so */
    enum tap_point point;
    uint64_t limit; /* records in all; 0: no limit */
    uint64_t rate;  /* records a second, beyond which they are passed over; 0: all */
};

struct tapped {
    struct fms_record record; /* of its payload the beginning; tags are the source's */
    size_t payload_size;      /* of all of it */
    const char *reason;       /* TAP_DEAD; or NULL */
    int64_t at;               /* since 1970: when it passed */
};

struct tap;

/* It has what passes from the lane's next turn on. 0; -ENOENT: there is no such stage; -ENOTUNIQ: there are several; -EBUSY:
 * TAPS_MOST are open; -ENOMEM. The pipeline stays meanwhile. Any thread but a lane. */
int tap_open(struct pipeline *pipeline, const struct tap_wish *wish, struct tap **tap);
/* 1: a record, good until the next call; 0: there is none for now; -ESHUTDOWN: nor will there be, by the limit, or since the lane has
 * ended. One thread at a time, not a lane. */
int tap_read(struct tap *tap, struct tapped *record);
/* How many were dropped so far. Any thread. */
uint64_t tap_dropped(const struct tap *tap);
void tap_close(struct tap *tap);

/* A record passes there: for pipelines that are tapped, see pipeline.is_tapped. `reason`: NULL but for TAP_DEAD. [lane] */
void tap_pass(const struct stage *stage, enum tap_point point, const struct fms_record *record, const char *reason);
/* What looked at a stage looks at the one in its place; NULL: there is none, and no more will pass. [lane] */
void tap_follow(const struct stage *old, const struct stage *stage);
/* No more will pass. [lane] */
void tap_end(struct pipeline *pipeline);
/* It is about to be freed, whoever still looks: what has passed is read, and then there is no more. After its run, when nobody can
 * open another. Any thread. */
void tap_leave(const struct pipeline *pipeline);

#endif
