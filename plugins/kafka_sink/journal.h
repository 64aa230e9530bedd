/* journal.h - which messages were written: what a transaction of Kafka's remembers of the records in it.
 *
 * Records of the journal are written in the same transaction as the records they speak of, and read again before more
 * is written: so each message is written once, whatever crashed. It says that a message was seen only where it
 * certainly was: to suppress one that never came would be a loss. What it cannot hold it forgets: that is a
 * repetition, at worst.
 *
 * Readers need the last 256 records at most: 1 MiB or four times what they tell, whichever is more, and a
 * transaction's.
 *
 * Memory and bytes, and no client of Kafka. One thread at a time has a journal. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <fms_plugin.h>

struct journal;

enum journal_verdict {
    JOURNAL_NEW,
    JOURNAL_SEEN,   /* it was noted, for certain: it is not to be written again */
    JOURNAL_UNSURE, /* so much of its origin came out of order that nobody knows: it is to be written */
};

/* Whose transaction it is: a producer's life, at random, and the number of the transaction in it, from 0. */
struct journal_name {
    uint64_t life[2];
    uint64_t transaction;
};

#define JOURNAL_KEYS        256          /* of its topic: "0" to "255"; the caller puts a name of its own before them */
#define JOURNAL_RECORD_MOST (512 * 1024) /* bytes of a record's value */

/* An empty one of at most `entries_most` entries, 1 or more: an origin; a record of which parts are written and
 * others not; an identifier of a broker's. An origin with a name of 20 bytes that comes in order takes some 120 bytes
 * of memory, and 26 of a record. Besides, what all say together is at most 48 MiB, as of a million such origins.
 * NULL: no memory. There is no abort: after a transaction that failed, or of which nobody knows, make another one and
 * load it. */
struct journal *journal_new(size_t entries_most);
void journal_free(struct journal *journal); /* NULL: nothing */

/* Whether that record, that part of one, or that end was noted, or is in what was loaded. An end is new or seen. */
enum journal_verdict journal_judge(struct journal *journal, const struct fms_identity *identity);

/* It is part of the transaction under way, and seen from now on. May forget the entry that was noted longest ago. 0, or
 * -ENOMEM and nothing was noted. */
int journal_note(struct journal *journal, const struct fms_identity *identity);

/* Takes one record of the journal: `key` and `value` live for the call; `slot`, 0 to JOURNAL_KEYS - 1, is for
 * journal_stored. 0, or a negative errno, which ends the writing. */
typedef int journal_put(void *opaque, const char *key, struct fms_bytes value, unsigned slot);

/* Makes the records of the transaction under way, at least one and less than JOURNAL_KEYS, and hands them to `put` in
 * the order in which they must be written, all in this transaction. How many; or what `put` returned, after which the
 * journal is of no use any more. */
int journal_write(struct journal *journal, struct journal_name name, journal_put *put, void *opaque);

/* Kafka has that record of the last journal_write, which is committed, at this offset. Where that is not told, later
 * readers have to read more than they need. */
void journal_stored(struct journal *journal, unsigned slot, int64_t offset);

/* Takes in a record of the topic, with its key as `put` had it. In any order, twice, with those that are superseded
 * or without them. 0; -EBADMSG: it is torn, or not a journal's; -EPROTONOSUPPORT: of another version: then nothing of
 * it is taken, and `why`, of `size` bytes, says what is wrong, to follow "a record of the journal is of no use: ";
 * -ENOMEM. */
int journal_load(struct journal *journal, struct fms_bytes key, struct fms_bytes value, int64_t offset, char *why,
                 size_t size);

/* The offset from which on a reader finds all that is needed, as this record says, if it is the topic's last. -1: from
 * the beginning; or it is no record of a journal's. */
int64_t journal_base(struct fms_bytes value);

/* The name of the newest transaction that was loaded. False: none was. */
bool journal_last(const struct journal *journal, struct journal_name *name);

size_t journal_entries(const struct journal *journal);
size_t journal_bytes(const struct journal *journal);       /* of memory */
uint64_t journal_forgotten(const struct journal *journal); /* entries, for want of room */
uint64_t journal_unsure(const struct journal *journal);    /* verdicts */

#endif
