/* record.h - records and their memory. A record's public part is what plugins see.
 *
 * A record is in flight from emit until its source was told. A root is a record that the source emitted; children (of
 * transforms) and dead letters have a parent, which is complete only when they are. */
#ifndef FMS_RECORD_H
#define FMS_RECORD_H

#include <stdatomic.h>

#include "fms_plugin.h"
#include "json.h"

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
    int64_t taken_at;      /* for the first time; on clock_now; 0: not yet, or not measured */
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
    bool has_children;       /* or had some */
    bool is_timed;           /* the transforms are, with it: see meter.h */
    bool is_seen;            /* the fleet knows whom it is from, or whom its parent is from */
    uint8_t layout;          /* of struct records: its own */
    uint16_t source;         /* roots: which source has emitted it; see struct pipeline */
    struct record *parent;   /* NULL: a root */
    struct record *link;     /* in a transform's waiting list, the lane's done list, or the pool's */
    struct json_cache *json; /* NULL when the pipeline's templates name no field */
    int64_t emitted_at;      /* its root, on clock_now; 0 where it is not measured */
    int64_t queued_at;       /* into the sinks' queues */
    struct fms_record public;
    struct slot slots[]; /* one for each sink, and the dead letter's; the first serves the lists of transforms too */
};

/* What a record's public.identity points to, at the end of its memory. */
struct known {
    struct fms_identity identity;
    uint32_t parts;  /* roots: how many were made of it so far */
    bool is_dropped; /* roots: by a transform */
};

#define RECORD_BESIDE (FMS_PART_LETTER - 1) /* the part of a root that goes on beside what was made of it */

#define RECORD_MAX_HEADERS    1000u
#define RECORD_LETTER_HEADERS 5u /* of these, in a dead letter, that are the host's */

#define RECORD_CLASSES    8u  /* of size, up to 32 KiB; what is larger goes to malloc and back */
#define RECORD_QUARANTINE 64u /* freed records of a class that stay dead for a while */

#define RECORD_ALIVE 0x464d5301u
#define RECORD_FREED 0x464d5300u

#define RECORD_LAYOUTS 2u /* that there may be records of at once */

/* The memory of a pipeline's records. [lane] */
struct records {
    size_t slots;        /* of a record: one for each sink */
    size_t json;         /* where a record's JSON cache begins; it may be none */
    _Atomic size_t head; /* where its headers begin, which is where that ends; others than the lane only read it */
    size_t most;         /* bytes that they may take */
    size_t bytes;        /* that those in flight take */
    bool are_known;      /* they are to have the identities that drafts have; else none has any */

    uint8_t layout; /* the number of this one; records of the other are from before the pipeline was changed */
    _Atomic size_t other_head;    /* of these */
    size_t alive[RECORD_LAYOUTS]; /* how many are in flight */

    struct record *pool[RECORD_CLASSES]; /* freed records by size class: the latest, which the cache still has, first */
    size_t pool_bytes;
    struct graves {
        struct record *ring[RECORD_QUARANTINE];
        size_t next;
    } graves[RECORD_CLASSES]; /* those freed last, which are not used again yet */
};

static inline struct record *record_of(const struct fms_record *public)
{
    return (struct record *)((char *)(uintptr_t) public - offsetof(struct record, public));
}

static inline size_t records_head(const struct records *records)
{
    return atomic_load_explicit(&records->head, memory_order_relaxed);
}

/* The same of any pointer: NULL where the host did not make it, but a plugin. A record's headers, be there none, begin at a
 * known distance behind it; a draft's are elsewhere, and so is what a copy of a record leads to. */
static inline struct record *record_made(const struct records *records, const struct fms_record *public)
{
    struct record *record = record_of(public);
    uintptr_t head = (uintptr_t) public->headers - (uintptr_t)record;
    bool is_made = (head == records_head(records) ||
                    head == atomic_load_explicit(&records->other_head, memory_order_relaxed)) &&
                   (record->magic == RECORD_ALIVE || record->magic == RECORD_FREED);

    return is_made ? record : NULL;
}

/* The one that the source emitted, of which it was made. */
static inline struct record *record_root(struct record *record)
{
    while (record->parent != NULL)
        record = record->parent;
    return record;
}

/* NULL: it has no identity. */
static inline struct known *record_known(const struct record *record)
{
    return (struct known *)(uintptr_t)record->public.identity;
}

/* Whether sinks are told that everything of this root is settled: then it is no record to whoever counts or looks. */
static inline bool record_is_end(const struct record *record)
{
    return record->public.identity != NULL && record->public.identity->is_end;
}

/* Whether it has such a slot, `at` so far behind its beginning: sinks may have come since it was made. */
static inline bool record_has_slot(const struct record *record, size_t at)
{
    const void *end = record->json != NULL ? (const void *)record->json : record->public.headers;

    return at + sizeof(struct slot) <= (size_t)((const char *)end - (const char *)record);
}

/* What of an identity is malformed, as words behind "its identity"; NULL: nothing. */
const char *record_identity_fault(const struct fms_identity *identity);

/* Where the parts of records lie from now on, for so many sinks and a JSON cache of that size; those in flight stay as they are,
 * which no more than one layout before this may be. `most`: bytes that records in flight may take. */
bool records_may_change(const struct records *records);
void records_layout(struct records *records, size_t slots, size_t json, size_t most);
/* The bytes that a record would take, more than can be had if memory cannot hold it; SIZE_MAX for a malformed
 * draft. With `share`, for a dead letter, without what it has from that record: topic, key, payload, and the headers that
 * lie in its memory. */
size_t record_charge(const struct records *records, const struct fms_record *draft, const struct record *share);
/* The same of one that is to have an identity. */
size_t record_charge_known(const struct records *records, const struct fms_record *draft, const struct record *share,
                           const struct fms_identity *identity);
/* A copy of the draft, given what record_charge said of it, and without an identity; `share` must outlive it. NULL: out of
 * memory. */
struct record *record_new(struct records *records, const struct fms_record *draft, size_t charge,
                          const struct record *share);
/* Gives it one, a copy, for which it was charged. Of a part the origin is not copied: it is that of its root, which must
 * outlive it. */
void record_know(struct record *record, const struct fms_identity *identity);
/* All three at once, whatever there is room for. `identity`: NULL: none. */
struct record *record_new_known(struct records *records, const struct fms_record *draft, const struct record *share,
                                const struct fms_identity *identity);
void record_free(struct records *records, struct record *record);
void records_free(struct records *records);

#endif
