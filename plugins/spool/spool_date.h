/* spool_date.h - what becomes of an entry whose clock was not known to be right: the source's part.
 *
 * It is handed on mended; or, while the clock may yet be set, kept for a while; or marked. Never as if nothing were. */
#ifndef SPOOL_DATE_H
#define SPOOL_DATE_H

#include "spool_era.h"
#include "spool_mend.h"

struct dater {
    const struct fms_host *host;
    struct store *store;
    struct mend mend;
    int64_t patience; /* how long it waits for the clock */
    struct eras eras; /* as they are in this read, ... */
    struct fms_clock clock;
    bool is_read;    /* ... if any entry needed them */
    bool must_learn; /* the clock says more than they do */
    bool is_waiting;
    bool has_told;
    int64_t wait_until; /* 0: it has not begun to wait */
    int64_t stirred_at; /* when something was handed on, or settled, last */
};

enum dated { DATE_RIGHT, DATE_MENDED, DATE_UNSET };

/* A read of the store begins. */
void dater_begin(struct dater *dater);

/* What the draft's time is, of an entry of that era, with so many before it in flight; `headers` are the draft's, and have room for one more.
 * enum dated, or -EAGAIN: it is to wait; -ENOMEM. */
int dater_date(struct dater *dater, uint32_t era, uint64_t in_flight, struct fms_record *draft,
               struct fms_header *headers);

/* One that was handed on is settled. */
void dater_settled(struct dater *dater);

/* The read is over: puts down what was learned. When it is to be looked again, FMS_NEVER: for nothing. */
int64_t dater_end(struct dater *dater);

/* Says, where there is something, what is known of the clock now. */
void date_tell(const struct fms_host *host, const struct era_news *news);

/* How old an entry is, between store_read_begin and store_read_end; 0: nobody knows. */
int64_t date_age(const struct fms_host *host, struct store *store, struct fms_bytes entry);

/* How many entries there are whose time is not known. */
uint64_t date_count_unset(struct store *store);

#endif
