/* spool_mend.h - sets right the time of a record whose clock was wrong, or marks it as not known.
 *
 * The payload is JSON, whose time is a number in a field; but for that number all of it stays as it stands. */
#ifndef SPOOL_MEND_H
#define SPOOL_MEND_H

#include <fms_plugin.h>

#include "../json_common/text.h"

#define MEND_MARK  "clock" /* name of the header, and of the member of a payload with such a field, ... */
#define MEND_VALUE "unset" /* ... that say that a record's time is not known */

struct mend {
    const struct fms_host *host;
    const char *field;          /* its path; NULL: none */
    int path;                   /* of the payload as a whole, as fms_json_path numbers it */
    int64_t unit;               /* of the field: nanoseconds */
    struct text_buffer payload; /* of the draft that was made last */
};

/* Moves the draft's time by `delta`, by which a clock with that offset from the machine's uptime was behind; and that of its payload, which
 * lives in `mend` then, until the next call. 0. -EBADMSG: the payload has no time in the field, or one that this clock has not told; it
 * stays as it is. -ENOMEM. [lane] */
int mend_record(struct mend *mend, struct fms_record *draft, int64_t offset, int64_t delta);

/* Has the draft say that a time of it is not known: in its headers, where there is room for one more, and in its payload. 0 or -ENOMEM.
 * [lane] */
int mend_mark(struct mend *mend, struct fms_record *draft, struct fms_header *headers);

#endif
