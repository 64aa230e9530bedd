/* spool_name.h - by which name a store is known, for good: whose the numbers of its entries are.
 *
 * Of two stores that number by one name, what the second has would be taken for a repetition of what the first had, and be lost. So a copy takes
 * a name of its own for all that is stored in it from then on: a copy is another file, or the same file on another disk or machine. */
#ifndef SPOOL_NAME_H
#define SPOOL_NAME_H

#include <stdint.h>

#define NAME_TEXT 39 /* "spool:", 32 digits, and a NUL byte */

struct name_span {
    uint64_t id[2]; /* random; 0: there is none */
    uint64_t since; /* number of the first entry that goes by it */
};

/* As the store keeps it. */
struct name {
    struct name_span now, before; /* before: of the store of which this is a copy */
    uint64_t lease;               /* numbers below it may have been given to what a power cut took back since ... */
    uint64_t boot;                /* ... this start of the machine; 0: it had no name */
    uint64_t place;               /* where the store lay when it was named */
};

/* Where the store in that directory lies: which file it is, since when, on which disk of which machine. */
uint64_t name_place(const char *path);

/* Gives a new name to all entries from that number on. 0 or an errno. */
int name_give(struct name *name, uint64_t since, uint64_t place);

/* Its text; "" where there is none. */
void name_text(const struct name_span *span, char text[NAME_TEXT]);

#endif
