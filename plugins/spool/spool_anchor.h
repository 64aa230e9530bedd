/* spool_anchor.h - the state to which a store that is not written to the disk at each commit goes back after a power cut.
 *
 * LMDB uses pages again that an earlier state needs, and the kernel writes them in any order: after a power cut such a file may be nothing at all.
 * So the newest state that the disk has whole is kept whole: a reader holds its pages, and its root stands in a file of its own, `anchor`. After a
 * restart of the machine the store begins from there; after one of the process all is still in the kernel, and nothing goes back. */
#ifndef SPOOL_ANCHOR_H
#define SPOOL_ANCHOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

struct anchor {
    int fd; /* of the file; -1: none */
    MDB_txn *pin;
    _Atomic uint64_t transaction; /* as it was set */
};

/* Before the store in that directory is opened: sets it back, if the machine was started since. Other processes that open it wait until anchor_set
 * or anchor_close. With is_needed false each commit will be on the disk: the anchor goes, once it was used. 0 or an errno, and then nothing is to be
 * closed. [control] */
int anchor_open(struct anchor *anchor, const char *path, bool is_needed);

/* Writes all to the disk, and makes that the state to go back to; before anything is changed, and from time to time. 0, an errno or LMDB's code,
 * MDB_VERSION_MISMATCH for an LMDB with roots of another form. One call at a time in a process. [any] */
int anchor_set(struct anchor *anchor, MDB_env *env);

/* About how many bytes of the file it holds, which are not used again until it is set anew. [any] */
uint64_t anchor_holds(const struct anchor *anchor, MDB_env *env);

/* A number for this start of the machine; 0: it has no name. [any] */
uint64_t anchor_boot(void);

/* Before the store is closed. [control] */
void anchor_close(struct anchor *anchor);

#endif
