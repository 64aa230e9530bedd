/* spool_record.h - a record as the bytes of an entry. */
#ifndef SPOOL_RECORD_H
#define SPOOL_RECORD_H

#include <fms_plugin.h>

#define SPOOL_IDENTITY_MOST (8 + 8 + 4 + FMS_ORIGIN_MOST) /* bytes that one takes */
#define SPOOL_HEADERS_MAX   1005                          /* of a record 1000; but dead letters once had 5 more */

/* The identity with which a record is kept: the number that its own origin has given it as a whole; NULL: it has none. */
const struct fms_identity *spool_record_identity(const struct fms_record *record);

/* The bytes that a record takes, of that era (spool_era.h), with that identity or without one (NULL). */
size_t spool_record_size(const struct fms_record *record, uint32_t era, const struct fms_identity *identity);

/* Writes them to `to`, which has room for spool_record_size. */
void spool_record_write(const struct fms_record *record, uint32_t era, const struct fms_identity *identity, void *to);

/* Whether they are of a version that is known here, as far as they are there. */
bool spool_record_is_known(struct fms_bytes from);

/* The record's time, as in struct fms_record; 0 where that cannot be read. */
int64_t spool_record_time(struct fms_bytes from);

/* The era that they name; 0: none. */
uint32_t spool_record_era(struct fms_bytes from);

/* Reads them into *draft, which points into `from`, with its headers in `headers`, SPOOL_HEADERS_MAX of them, and the identity that was
 * kept, if any, in *identity. NULL, or what is wrong with the bytes: every length is checked. */
const char *spool_record_read(struct fms_bytes from, struct fms_header *headers, struct fms_identity *identity,
                              struct fms_record *draft);

#endif
