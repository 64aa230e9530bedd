/* decimal.h - JSON numbers compared exactly, as they stand.
 *
 * A double would take 9007199254740993 for its neighbour, 1e400 for infinity, and its text by the locale's rules. Here a
 * number is its first 19 digits and where its point stands: no arithmetic, nothing to round, and as fast. */
#ifndef JSON_DECIMAL_H
#define JSON_DECIMAL_H

#include <fms_plugin.h>

struct decimal {
    int sign;          /* -1, 0 or 1 */
    int64_t magnitude; /* of the first digit that is not 0: 2 for 300, -1 for 0.5 */
    uint64_t digits;   /* the first 19 from there on, with zeros behind: 10^18 to 10^19 - 1 */
    bool has_more;     /* others than zeros follow these */
    bool is_integer;   /* it is written without point and exponent */
};

/* False: the text is no JSON number. */
bool decimal_read(struct decimal *number, struct fms_bytes text);

/* Below, at or above 0 as a is to b; exact if one of them has no more than 19 digits. */
int decimal_compare(const struct decimal *a, const struct decimal *b);

/* The number times 10^power, cut to an integer; INT64_MIN or INT64_MAX where that is beyond them. */
int64_t decimal_scaled(const struct decimal *number, int power);

/* The nine digits behind the point of the number times 10^power, its sign apart. */
uint32_t decimal_fraction(const struct decimal *number, int power);

/* Whether the number, its sign apart, is an integer below 10^19: that one. */
bool decimal_whole(const struct decimal *number, uint64_t *whole);

#endif
