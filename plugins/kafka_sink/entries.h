/* entries.h - what a journal knows, by name and by age.
 *
 * Names are chosen by senders, so the table has a seed of its own. Each entry stands in two lists: by the time at
 * which it was noted, for the oldest is forgotten where there is no room; and among those that one record of the
 * journal tells, for they are told anew before that record goes. */
#ifndef ENTRIES_H
#define ENTRIES_H

#include <fms_plugin.h>

#include "../hash_common/hash.h"
#include "numbers.h"

enum entry_kind {
    ENTRY_ORIGIN = 1, /* its numbers that were seen */
    ENTRY_PARTS = 2,  /* of a number of an origin's that was not seen: those of its parts that were */
    ENTRY_RESENT = 3, /* of an identifier of an origin's, and the print it had last: 0 where all was seen, or parts */
};

/* Who it is. */
struct entry_name {
    enum entry_kind kind;
    struct fms_bytes origin;
    uint64_t sequence; /* ENTRY_ORIGIN: 0 */
};

struct link {
    struct link *previous, *next;
};

struct entry {
    struct entry *chain; /* the next one of its bucket */
    struct link noted;   /* the oldest first */
    struct link told;    /* of those that the same record tells, that are to be told, or that are gone */
    struct numbers numbers;
    uint32_t hash;
    uint16_t told_size;   /* bytes that it took in that record; 0: none tells it */
    uint8_t slot;         /* of that record */
    uint8_t kind : 2;     /* enum entry_kind */
    uint8_t is_dirty : 1; /* it is to be told */
    uint8_t origin_size;
    unsigned char text[]; /* the origin; but for ENTRY_ORIGIN the sequence, and for ENTRY_RESENT the print behind it */
};

struct entries {
    struct entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t count, parts; /* of all, and of ENTRY_PARTS among them */
    size_t bytes;        /* of memory */
    size_t weight;       /* the bytes that telling all would take, at most */
    struct link noted;
    struct link *idle; /* the last one that came by entries_put_idle, or &noted */
    struct entry *recent;
    struct hash_seed seed;
};

int entries_init(struct entries *entries); /* 0 or -ENOMEM */
void entries_free(struct entries *entries);

struct entry *entries_find(struct entries *entries, const struct entry_name *name); /* NULL: there is none */

/* A new one, of which nothing was seen: the last to be forgotten, and not to be told yet. NULL: no memory. */
struct entry *entries_add(struct entries *entries, const struct entry_name *name);

/* It is not found any more; its memory and its place among those that are told stay. */
void entries_take(struct entries *entries, struct entry *entry);
void entry_free(struct entry *entry);

/* Adds what was seen of it. There may be more than INTERVALS_MOST then, until entries_bound. 0, or -ENOMEM and
 * nothing has changed. */
int entries_see(struct entries *entries, struct entry *entry, struct interval seen);
int entries_doubt(struct entries *entries, struct entry *entry, uint64_t below);
void entries_bound(struct entries *entries, struct entry *entry);
void entries_clear(struct entries *entries, struct entry *entry); /* nothing was seen of it */

void entries_put_last(struct entries *entries, struct entry *entry); /* to be forgotten: it was noted */
void entries_put_idle(struct entries *entries, struct entry *entry); /* before all that were noted */

/* The one that was noted longest ago. NULL: there is none. */
struct entry *entries_oldest(const struct entries *entries);

struct entry_name entry_name(const struct entry *entry);        /* which lives as long as the entry */
void entry_print(const struct entry *entry, uint64_t print[2]); /* of ENTRY_RESENT */
void entry_set_print(struct entry *entry, const uint64_t print[2]);

/* ------------------------------------------------------------------------------------------------------------ lists */

static inline void list_init(struct link *list)
{
    list->previous = list->next = list;
}

static inline bool list_is_empty(const struct link *list)
{
    return list->next == list;
}

static inline void list_remove(struct link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

/* Behind `place`; which may be a list: to its front. */
static inline void list_insert(struct link *place, struct link *link)
{
    link->previous = place;
    link->next = place->next;
    place->next->previous = link;
    place->next = link;
}

static inline void list_append(struct link *list, struct link *link)
{
    list_insert(list->previous, link);
}

/* All of `from` go to the end of `to`. */
static inline void list_splice(struct link *to, struct link *from)
{
    if (list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

static inline struct entry *entry_of_told(const struct link *link)
{
    return (struct entry *)((uintptr_t)link - offsetof(struct entry, told));
}

static inline struct entry *entry_of_noted(const struct link *link)
{
    return (struct entry *)((uintptr_t)link - offsetof(struct entry, noted));
}

#endif
