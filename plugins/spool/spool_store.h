/* spool_store.h - a durable first-in-first-out queue of entries in a directory, over LMDB.
 *
 * Entries have numbers that count up for ever, and none is given twice, not even where a power cut takes some back. One writer and one reader, on threads or in processes of their own; the
 * store says no to a second of either. Functions return 0, -errno or one of LMDB's own codes; store_error is its text. */
#ifndef SPOOL_STORE_H
#define SPOOL_STORE_H

#include <fms_plugin.h>

#include "spool_name.h"

enum store_face { STORE_WRITER, STORE_READER, STORE_VISITOR };
enum store_sync { STORE_ALWAYS, STORE_INTERVAL, STORE_OFF };

#define STORE_ENTRY_EXTRA 16 /* bytes that an entry takes besides its own: key and node */

/* Of max_size, twice of which is mapped: 32 bits have addresses for the usual twice or thrice, and for the most with luck. */
#if SIZE_MAX > UINT32_MAX
#define STORE_USUAL "1GiB"
#define STORE_MOST  (INT64_C(1) << 40)
#else
#define STORE_USUAL "256MiB"
#define STORE_MOST  (INT64_C(1) << 30)
#endif

struct store;

struct store_state {
    uint64_t first, next; /* numbers: of the oldest entry, and of the next one; some between may be no entry's */
    uint64_t bytes;       /* of all entries */
    uint64_t count;       /* of them */
};

/* Opens or makes the store. -EWOULDBLOCK: the face is taken. This, and whatever reads: -EADDRINUSE, if a process in
 * another container, which has our id, uses the store. */
int store_open(struct store **made, const char *path, enum store_face face, enum store_sync sync, int64_t max_size);
void store_close(struct store *store);
const char *store_error(int error);

/* What the store is called, and from which number on none was given when it was opened. Not of a visitor's. */
const struct name *store_name(const struct store *store);
uint64_t store_fresh(const struct store *store);

/* Appends records in one transaction, as many as fit max_size, of `count`, each with its era (NULL: none has one); with drop_oldest it removes old entries to
 * make them fit. *taken and *dropped say how many it were. 0 with *taken == 0: it is full. -ENOSPC: the disk is. Nothing
 * is appended on an error. */
int store_append(struct store *store, const struct fms_record *const *records, const uint32_t *eras, size_t count,
                 bool drop_oldest, size_t *taken, uint64_t *dropped);

/* From now on what is appended keeps the identities that it has. */
void store_keep_identities(struct store *store);

#define STORE_DAMAGED 1

/* Begins to read at that number, or behind it where it is gone. store_next: 0; STORE_DAMAGED, where lengths did not add up and the bytes may be
 * no entry, or several; or -ENOENT at the end. The bytes are valid until store_read_end. */
int store_read_begin(struct store *store, uint64_t from);
int store_next(struct store *store, uint64_t *number, struct fms_bytes *entry);
void store_read_end(struct store *store);

/* Removes the entries below that number. */
int store_remove(struct store *store, uint64_t below);

int store_state(struct store *store, struct store_state *state);

/* A note beside the entries, of at most so many bytes. Reads it as it was at store_read_begin; its size, 0: there is none. */
#define STORE_NOTE 16384
size_t store_note_read(struct store *store, void *note);

/* Changes it in a transaction of its own, which is on the disk then, whatever `sync` says: `change` has what stands there, in room for STORE_NOTE bytes, and returns the new size. */
int store_note_change(struct store *store,
                      size_t (*change)(void *user, void *note, size_t size, const struct store_state *state),
                      void *user);

/* Bytes for which the disk has room yet, apart from what is spared of it; UINT64_MAX: it does not say. Entries that were removed
 * leave more, in the file. */
uint64_t store_disk_room(const struct store *store);

/* Writes to the disk what is not yet there: to that state it goes back after a power cut. store_holds_much: it should be now, for what that state
 * needs is not used again before. Not for STORE_ALWAYS, of which each commit is there. */
int store_flush(struct store *store);
bool store_holds_much(const struct store *store);

/* A descriptor that becomes readable when anything was written, by whatever process; store_unwatch empties it, and says
 * whether it was. */
int store_watch(const struct store *store);
bool store_unwatch(const struct store *store);

#endif
