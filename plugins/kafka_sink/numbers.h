/* numbers.h - the numbers of one origin that were seen.
 *
 * In order they are one interval, however many; what is missing splits them. Of too many intervals the lowest is given
 * up: whether a number up to its end was seen is not known any more. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTERVALS_MOST 64

/* Both ends were seen, and all between them. */
struct interval {
    uint64_t first, last;
};

/* What only those need that do not come in order. */
struct older {
    uint64_t unsure; /* it is not known which numbers below it were seen; those of intervals are not below it */
    uint32_t count, capacity;
    struct interval items[]; /* ascending, with numbers between them that were not seen */
};

struct numbers {
    struct interval newest; /* the greatest; first > last: nothing was seen */
    struct older *older;    /* NULL: there is no other interval, and all is sure */
};

enum numbers_verdict { NUMBERS_NEW, NUMBERS_SEEN, NUMBERS_UNSURE };

static inline struct numbers numbers_none(void)
{
    return (struct numbers){.newest = {1, 0}};
}

static inline bool numbers_are_none(const struct numbers *numbers)
{
    return numbers->newest.first > numbers->newest.last;
}

static inline uint64_t numbers_unsure(const struct numbers *numbers)
{
    return numbers->older == NULL ? 0 : numbers->older->unsure;
}

/* Of intervals. */
static inline size_t numbers_count(const struct numbers *numbers)
{
    return (numbers->older == NULL ? 0 : numbers->older->count) + !numbers_are_none(numbers);
}

/* The one at `place`, 0 being the lowest. */
static inline struct interval numbers_at(const struct numbers *numbers, size_t place)
{
    return numbers->older != NULL && place < numbers->older->count ? numbers->older->items[place] : numbers->newest;
}

/* They continue the newest interval, as almost always. */
static inline bool numbers_are_next(const struct numbers *numbers, struct interval added)
{
    return numbers->newest.last < added.first && added.first - numbers->newest.last == 1 && !numbers_are_none(numbers);
}

void numbers_clear(struct numbers *numbers);         /* none, and no memory */
size_t numbers_bytes(const struct numbers *numbers); /* of memory that it has taken */

enum numbers_verdict numbers_judge(const struct numbers *numbers, uint64_t number);

/* From `added.first` to `added.last` all were seen. There may be more than INTERVALS_MOST then, until numbers_bound.
 * 0, or -ENOMEM and nothing has changed. */
int numbers_add(struct numbers *numbers, struct interval added);

/* It is not known which numbers below this one were seen, which is at most the greatest that was. 0 or -ENOMEM. */
int numbers_doubt(struct numbers *numbers, uint64_t below);

/* Gives up the lowest of too many intervals. */
void numbers_bound(struct numbers *numbers);

#endif
