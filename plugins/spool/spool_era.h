/* spool_era.h - by which clock entries were written, and what is known of that clock since.
 *
 * A machine may start without knowing the time. An era is a stretch of one start of it in which its clock was not known to be right, and did
 * not jump. Entries that were written then name their era; the store keeps a small table of eras, whose times can be mended as soon as the
 * clock of that start is known, and after the next one, too. Entries of a clock that is right name none. */
#ifndef SPOOL_ERA_H
#define SPOOL_ERA_H

#include "spool_store.h"

#define ERAS         256 /* in the table: weeks of starts without a link, each with a stretch or two without a clock */
#define ERA_SLIP     (100 * FMS_MS) /* less is not mended */
#define ERA_NONE     0              /* the clock is right, or the record's time is none of its own */
#define ERA_NO_ROOM  UINT32_MAX     /* its time is not known, and never will be */
#define ERA_LAST_YET UINT64_MAX

struct era {
    uint64_t boot[2];
    int64_t offset;       /* of the clock from the machine's uptime */
    int64_t better;       /* the offset as it was known later in the same start */
    uint64_t first, last; /* numbers: of entries, between which all of the era are; ERA_LAST_YET: more may come */
    uint32_t number;
    uint16_t state, better_state; /* enum fms_clock_state */
};

struct eras {
    uint64_t boot[2]; /* the last start whose clock became known ... */
    int64_t offset;   /* ... its offset ... */
    uint32_t state;   /* ... and how well; 0: none did */
    uint32_t count;
    struct era items[ERAS];
};

_Static_assert(sizeof(struct eras) <= STORE_NOTE, "the table must fit the store's note");

/* The table, as the store has it between store_read_begin and store_read_end. What is no table is an empty one. */
void eras_read(struct store *store, struct eras *eras);

/* That era; NULL: it is not there. */
const struct era *eras_find(const struct eras *eras, uint32_t number);

/* Whether there is an era whose time is not known, and since which entry. */
bool eras_have_unset(const struct eras *eras, uint64_t *first);

/* Whether the era is of that clock's start of the machine; and whether that clock is better known than the table has it. */
bool era_is_of(const struct era *era, const struct fms_clock *clock);
bool era_learns(const struct era *era, const struct fms_clock *clock);

/* What is better known by this clock than the table has it. */
struct era_news {
    uint64_t records; /* at most so many have a time that can be mended now */
    int64_t behind;   /* by how much, the most; below 0: ahead */
};

/* Puts down what the clock says, if that is news; *news says what it changes for entries. 0, or the store's error. */
int eras_learn(struct store *store, struct eras *eras, const struct fms_clock *clock, struct era_news *news);

/* What is known of the clock, by what it knew earlier in this start, too: a process that begins late may not see that. */
void eras_recall(const struct eras *eras, struct fms_clock *clock);

/* ---- the writer's: which era a record is of. By the clock's jumps as far as it has seen them, since a record may have been made before one,
 * and be stored after it. */

#define SPANS 8

struct span {
    int64_t offset, from, to; /* of the uptime; `to` of the last one is now */
    uint32_t number;          /* its era's, or ERA_NONE */
    enum fms_clock_state state;
};

struct era_writer {
    struct eras eras;
    struct span spans[SPANS];
    size_t count;
};

/* Begins: eras of those who wrote before are over. */
int era_writer_begin(struct era_writer *writer, struct store *store);

/* To be called before entries are written, and each second. */
int era_writer_look(struct era_writer *writer, struct store *store, const struct fms_clock *clock);

/* The number for a record with that time. */
uint32_t era_writer_number(const struct era_writer *writer, int64_t timestamp);

#endif
