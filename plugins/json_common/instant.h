/* instant.h - points in time as payloads have them: Unix times, whose unit their size tells, and ISO 8601.
 *
 * All is done in integers, seconds apart from nanoseconds: a double rounds, and 64 bits of nanoseconds end in 2262. */
#ifndef JSON_INSTANT_H
#define JSON_INSTANT_H

#include <fms_plugin.h>

#include "decimal.h"

struct instant {
    int64_t seconds;      /* since 1970 UTC, rounded down */
    uint32_t nanoseconds; /* that are added: 0 to 999,999,999 */
};

/* 10^11 in one of these is 1973 in the next: seconds below that are times up to the year 5138, from there to 10^14 only
 * milliseconds make sense, and so on. */
enum instant_unit {
    INSTANT_SECONDS,
    INSTANT_MILLISECONDS,
    INSTANT_MICROSECONDS,
    INSTANT_NANOSECONDS,
    INSTANT_NO_UNIT, /* it is beyond all of them */
};

extern const char *const instant_units[]; /* "seconds", ... */

/* The time that a number is, of either sign, as far as its first 19 digits and nanoseconds tell, and the unit that makes it
 * one. */
enum instant_unit instant_of_number(struct instant *instant, const struct decimal *number);

struct instant instant_of_nanoseconds(int64_t nanoseconds);

/* The time that a text is as RFC 3339 profiles ISO 8601: 2025-11-16T19:13:39.25+01:00, with Z for UTC and any number of
 * digits behind the point, of which nine count. A leap second is the second that follows it, as Unix time has it. False:
 * it is none, and `why` says what is wrong. */
#define INSTANT_WHY 96
bool instant_of_text(struct instant *instant, struct fms_bytes text, char *why);

/* The time that a text is in either way: a JSON number, or ISO 8601. False as above. */
bool instant_of_value(struct instant *instant, struct fms_bytes text, char *why);

/* In nanoseconds since 1970. False: that is before 1677 or after 2262, which 64 bits do not hold. */
bool instant_nanoseconds(struct instant instant, int64_t *nanoseconds);

/* later - earlier; below 0 seconds where they stand the other way round. */
struct instant instant_between(struct instant earlier, struct instant later);

/* What the next two write at most, with a NUL byte. */
#define INSTANT_TEXT 40

/* 2025-11-16T19:13:39.250Z, with 0, 3, 6 or 9 digits behind the point, as many as it takes. How many characters; 0: its
 * year has not four digits. */
size_t instant_text(struct instant instant, char *to);

/* The Unix time in that unit as an integer, rounded down. How many characters. */
size_t instant_number(struct instant instant, enum instant_unit unit, char *to);

#endif
