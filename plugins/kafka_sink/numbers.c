/* numbers.c - see numbers.h. */
#include "numbers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void numbers_clear(struct numbers *numbers)
{
    free(numbers->older);
    *numbers = numbers_none();
}

size_t numbers_bytes(const struct numbers *numbers)
{
    const struct older *older = numbers->older;

    return older == NULL ? 0 : sizeof *older + older->capacity * sizeof *older->items;
}

/* The place of the first of the older intervals that ends at `number` or later. */
static uint32_t older_place(const struct older *older, uint64_t number)
{
    uint32_t low = 0, high = older->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (older->items[middle].last < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum numbers_verdict numbers_judge(const struct numbers *numbers, uint64_t number)
{
    const struct older *older = numbers->older;
    uint32_t place;

    if (number >= numbers->newest.first)
        return number <= numbers->newest.last ? NUMBERS_SEEN : NUMBERS_NEW;
    if (older == NULL)
        return NUMBERS_NEW;
    if (number < older->unsure)
        return NUMBERS_UNSURE;
    place = older_place(older, number);
    return place < older->count && older->items[place].first <= number ? NUMBERS_SEEN : NUMBERS_NEW;
}

/* Room for one more interval. */
static int older_reserve(struct numbers *numbers)
{
    struct older *older = numbers->older;
    uint32_t count = older == NULL ? 0 : older->count, capacity = count == 0 ? 1 : 2 * count;

    if (older != NULL && older->count < older->capacity)
        return 0;
    older = realloc(older, sizeof *older + capacity * sizeof *older->items);
    if (older == NULL)
        return -ENOMEM;
    if (numbers->older == NULL)
        *older = (struct older){.unsure = 0};
    older->capacity = capacity;
    numbers->older = older;
    return 0;
}

/* In order for ever, from here on, it may be. */
static void older_release(struct numbers *numbers)
{
    if (numbers->older == NULL || numbers->older->count > 0 || numbers->older->unsure > 0)
        return;
    free(numbers->older);
    numbers->older = NULL;
}

static bool is_right_before(uint64_t number, uint64_t next)
{
    return number < next && next - number == 1;
}

/* The two have a number in common, or nothing between them. */
static bool touches(struct interval low, struct interval high)
{
    return low.last >= high.first || is_right_before(low.last, high.first);
}

/* It is below the newest, and does not touch it. */
static int older_add(struct numbers *numbers, struct interval added)
{
    uint32_t from, to;
    struct older *older;
    int error = older_reserve(numbers);

    if (error != 0)
        return error;
    older = numbers->older;
    from = older_place(older, added.first == 0 ? 0 : added.first - 1);
    for (to = from; to < older->count && touches(added, older->items[to]); to++)
        if (older->items[to].last > added.last)
            added.last = older->items[to].last;
    if (to > from && older->items[from].first < added.first)
        added.first = older->items[from].first;
    memmove(&older->items[from + 1], &older->items[to], (older->count - to) * sizeof *older->items);
    older->items[from] = added;
    older->count = older->count + 1 - (to - from);
    return 0;
}

/* The newest has grown downwards. */
static void newest_join(struct numbers *numbers)
{
    struct older *older = numbers->older;

    while (older != NULL && older->count > 0 && touches(older->items[older->count - 1], numbers->newest)) {
        older->count--;
        if (older->items[older->count].first < numbers->newest.first)
            numbers->newest.first = older->items[older->count].first;
    }
    older_release(numbers);
}

int numbers_add(struct numbers *numbers, struct interval added)
{
    struct interval *newest = &numbers->newest;
    int error = 0;

    if (added.last < numbers_unsure(numbers))
        return 0;
    if (added.first < numbers_unsure(numbers))
        added.first = numbers_unsure(numbers);
    if (numbers_are_none(numbers)) {
        *newest = added;
    } else if (!touches(added, *newest)) {
        return older_add(numbers, added);
    } else if (touches(*newest, added)) {
        newest->last = added.last > newest->last ? added.last : newest->last;
        if (added.first < newest->first) {
            newest->first = added.first;
            newest_join(numbers);
        }
    } else {
        error = older_reserve(numbers);
        if (error == 0) {
            numbers->older->items[numbers->older->count++] = *newest;
            *newest = added;
        }
    }
    return error;
}

static void older_drop(struct older *older, uint32_t count)
{
    older->count -= count;
    memmove(older->items, &older->items[count], older->count * sizeof *older->items);
}

int numbers_doubt(struct numbers *numbers, uint64_t below)
{
    struct older *older;

    if (below <= numbers_unsure(numbers))
        return 0;
    if (numbers->older == NULL && older_reserve(numbers) != 0)
        return -ENOMEM;
    older = numbers->older;
    older->unsure = below;
    older_drop(older, older_place(older, below));
    if (older->count > 0 && older->items[0].first < below)
        older->items[0].first = below;
    if (numbers->newest.first < below)
        numbers->newest.first = below;
    return 0;
}

void numbers_bound(struct numbers *numbers)
{
    struct older *older = numbers->older;
    uint32_t more;

    if (numbers_count(numbers) <= INTERVALS_MOST)
        return;
    more = (uint32_t)(numbers_count(numbers) - INTERVALS_MOST);
    older->unsure = older->items[more - 1].last + 1;
    older_drop(older, more);
}
