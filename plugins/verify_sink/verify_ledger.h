/* verify_ledger.h - which numbers of which vehicle have come, and which have not. */
#ifndef VERIFY_LEDGER_H
#define VERIFY_LEDGER_H

#include <fms_plugin.h>

#define LEDGER_GAPS_MAX 2000000 /* ranges of missing numbers that are remembered, of all vehicles: 32 MB */

struct ledger;

/* Of a vehicle that sends 1, 2, 3, ...: a number is new when it has not come before, and late when it is new and a
 * higher one has. Missing is what has not come between the first number and the last; both are what came, until they are
 * known from elsewhere (ledger_expect). */
struct ledger_totals {
    uint64_t vehicles;
    uint64_t expected; /* numbers that were sent, as far as ledger_expect told */
    uint64_t distinct, duplicates, late, missing;
    uint64_t unexpected; /* numbers above a vehicle's last one, and of vehicles that are not expected at all */
    uint64_t forgotten;  /* of the missing: in ranges beyond LEDGER_GAPS_MAX, so that a late one counts as duplicate */
};

/* NULL: no memory. */
struct ledger *ledger_new(void);
void ledger_free(struct ledger *ledger);

/* A number, from 1 on, of a vehicle has come. 0 or -ENOMEM. */
int ledger_come(struct ledger *ledger, struct fms_bytes vehicle, uint64_t number);

/* The vehicle has sent 1..last. When all are told, ledger_expect_end: nobody else has sent anything. Both may be told
 * after numbers have come. 0, -ENOMEM, or -EEXIST for a vehicle that was told before. */
int ledger_expect(struct ledger *ledger, struct fms_bytes vehicle, uint64_t last);
void ledger_expect_end(struct ledger *ledger);

/* Whether all that is expected has come. */
bool ledger_is_complete(const struct ledger *ledger);

void ledger_total(const struct ledger *ledger, struct ledger_totals *totals);

/* Calls `visit` for each range of missing numbers, at most `most` of them. */
void ledger_each_missing(const struct ledger *ledger, size_t most,
                         void (*visit)(void *user, const char *vehicle, uint64_t from, uint64_t to), void *user);

#endif
