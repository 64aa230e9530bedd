/* spool_pack.h - several entries in one value of the store.
 *
 *     pack = version (1 byte: 4) count (2) entry*
 *     entry = size (4) bytes...
 *
 * Numbers are little-endian. The key is the number of the first; the others follow it without a gap. A key of its own for each entry costs
 * as much again as all else that a spool does for a record; what comes alone has one. */
#ifndef SPOOL_PACK_H
#define SPOOL_PACK_H

#include <fms_plugin.h>

#define PACK_VERSION 4 /* of the numbers by which spool_record.h tells its own */
#define PACK_HEAD    3u
#define PACK_EACH    4u       /* bytes that an entry takes beside its own */
#define PACK_MOST    (65520u) /* bytes of a pack: sixteen pages of LMDB's, with their head */
#define PACK_COUNT   256u     /* entries of it, at most: what a sink is offered at once */

/* Entries of a value, from `number` on; what is no pack is an entry itself. */
struct pack {
    uint64_t number;
    size_t left; /* so many */
    struct fms_bytes rest;
    bool is_single;
    bool is_damaged; /* its lengths do not add up: what is read of it may be no entry */
};

/* The entries of the value whose key is `number`. */
void pack_open(struct pack *pack, uint64_t number, struct fms_bytes value);

/* The next one, into what it points; of a damaged pack the last one is all that is left. False: there is none. */
bool pack_next(struct pack *pack, uint64_t *number, struct fms_bytes *entry);

/* Leaves out those below a number. Returns the bytes of them, and how many. */
size_t pack_skip(struct pack *pack, uint64_t below, size_t *count);

/* Writes the head for so many entries, and of each the size; what stands behind. */
unsigned char *pack_begin(void *to, size_t count);
unsigned char *pack_add(unsigned char *to, size_t size);

#endif
