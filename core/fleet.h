/* fleet.h - which vehicles a pipeline's records are from, when each was heard last, and some fields of what it said.
 *
 * A table of fixed size. The lane writes into it as records come and waits for nobody; who looks reads the same table, vehicle by
 * vehicle, on a thread of its own. So looking costs the lane nothing, however often it is done. */
#ifndef FMS_FLEET_H
#define FMS_FLEET_H

#include "json.h"
#include "template.h"
#include "view.h"

struct fleet_options {
    const struct fms_template *vehicle; /* whom a record is from */
    struct json_paths *paths;           /* the template's */
    struct fms_list fields;             /* paths of the payload */
    int64_t silent_after;
    size_t most;      /* vehicles */
    const char *told; /* how `vehicle` is written: where that is the same, vehicles are. NULL: never the same */
};

struct fleet;

/* An empty table; the template and its paths live as long as the lane sees records. NULL with errno: ENOMEM, or EINVAL and what is
 * wrong in `error`. */
struct fleet *fleet_new(const struct fleet_options *options, char *error, size_t size);
/* Who holds it frees it, too; it goes with the last. NULL stays NULL. Any thread. */
struct fleet *fleet_hold(struct fleet *fleet);
void fleet_free(struct fleet *fleet);

/* Whether a table has what these options ask for, but for what fleet_keep changes; false of NULL. Any thread. */
bool fleet_fits(const struct fleet *fleet, const struct fleet_options *options);
/* Another template that is written the same, and another time until a vehicle is silent. [lane] */
void fleet_keep(struct fleet *fleet, const struct fms_template *vehicle, int64_t silent_after);
/* An empty table takes the place of another, which is only looked at from now on, and counts on. Where vehicles are named the same it
 * has them, the last heard ones if there is no room for all, with those of their fields that it has, too. [lane] */
void fleet_follow(struct fleet *fleet, const struct fleet *old);

/* Notes whom a record is from; `cache` is the record's. False: it does not say. Beyond 50,000 records a second most are passed over,
 * which is true, and what is counted is an estimate. [lane] */
bool fleet_see(struct fleet *fleet, const struct fms_record *record, struct json_cache *cache, int64_t now);

/* How many vehicles there are of each state at `now`; all zeros of NULL. Any thread. */
void fleet_count(const struct fleet *fleet, int64_t now, struct fleet_counts *to);

/* Those at `now` whose names hold `find` ("": all), at most `most` of them: silent ones first, of these the longest silent, then new
 * ones, then the others; see struct fleet_view. False of NULL, or out of memory. Any thread. */
bool fleet_look(const struct fleet *fleet, int64_t now, const char *find, size_t most, struct fleet_view *to);

#endif
