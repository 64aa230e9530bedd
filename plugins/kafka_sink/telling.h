/* telling.h - a record of the journal as bytes: its head, and what it tells of entries. */
#ifndef TELLING_H
#define TELLING_H

#include "entries.h"
#include "journal.h"

#define HEAD_MOST 96 /* bytes */

struct head {
    uint64_t number; /* of the record, from 0 on: its key is the rest of it by JOURNAL_KEYS */
    uint64_t first;  /* number of the oldest record that a reader needs: this one, or one of the 255 before it */
    int64_t base;    /* offset from which on such records are found; -1: not known */
    struct journal_name name;
    uint64_t place; /* among the records of its transaction, from 0 on */
    bool is_last;   /* of them */
};

/* Writes it to `to`, which has room for HEAD_MOST, for `body` bytes that follow. How many bytes it is. */
size_t head_write(const struct head *head, size_t body, unsigned char *to);

/* Reads it. 0 and the body, whose size is right; -EBADMSG or -EPROTONOSUPPORT, and why. */
int head_read(struct fms_bytes value, struct head *head, struct fms_bytes *body, char *why, size_t size);

struct telling {
    struct entry_name name;
    uint64_t print[2];
    bool is_idle; /* it was noted longer ago, and is told anew */
    bool is_gone; /* nothing is to be known of it any more; what follows is absent */
    uint64_t unsure;
    size_t count;           /* of intervals that are left */
    uint64_t floor;         /* the next one begins there or above */
    struct fms_bytes bytes; /* of the intervals */
    size_t size;            /* of all of it */
};

/* The bytes that an entry's telling takes, at most. */
size_t telling_most(const struct entry *entry);

enum telling_mood { TELLING_NOTED, TELLING_IDLE, TELLING_GONE };

/* Writes it to `to`, which has room for telling_most. How many bytes it is. */
size_t telling_write(const struct entry *entry, enum telling_mood mood, unsigned char *to);

/* Reads the first of `rest`, which shrinks. False: the bytes make no sense. */
bool telling_read(struct fms_bytes *rest, struct telling *telling);

/* The next of its intervals, which ascend. False: there is none. */
bool telling_next(struct telling *telling, struct interval *interval);

#endif
