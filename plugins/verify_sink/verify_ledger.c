/* verify_ledger.c - see verify_ledger.h.
 *
 * A stream without faults needs two numbers a vehicle. Only what is missing takes more: ranges, sorted, one for each
 * hole however wide, so that 100 million messages of 100,000 vehicles fit some 20 MB. */
#include "verify_ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "../hash_common/hash.h"

struct gap {
    uint64_t from, to; /* both missing */
};

struct vehicle {
    char *id;
    uint64_t low, high; /* between them all but the gaps has come; 0: nothing yet */
    uint64_t last;      /* that was sent; 0: unknown */
    struct gap *gaps;   /* ascending */
    uint32_t gap_count, gap_capacity;
};

struct ledger {
    struct vehicle *vehicles;
    size_t count, capacity;
    uint32_t *table; /* places in `vehicles` + 1, by hash; 0: free */
    size_t table_size;
    struct hash_seed seed;
    size_t gaps; /* of all vehicles */
    bool has_expected;
    struct ledger_totals totals; /* those that are counted as they happen */
};

struct ledger *ledger_new(void)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);

    if (ledger != NULL)
        hash_seed(&ledger->seed);
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->count; i++) {
        free(ledger->vehicles[i].id);
        free(ledger->vehicles[i].gaps);
    }
    free(ledger->vehicles);
    free(ledger->table);
    free(ledger);
}

/* --------------------------------------------------------------------------------------------------------- vehicles */

/* The place in the table of that id, or the free one where it belongs. */
static size_t ledger_slot(const struct ledger *ledger, const char *id, size_t size)
{
    size_t slot = (size_t)hash_of(&ledger->seed, fms_bytes_of(id, size)) & (ledger->table_size - 1);

    while (ledger->table[slot] != 0) {
        const char *known = ledger->vehicles[ledger->table[slot] - 1].id;

        if (strncmp(known, id, size) == 0 && known[size] == '\0')
            break;
        slot = (slot + 1) & (ledger->table_size - 1);
    }
    return slot;
}

static int ledger_grow(struct ledger *ledger)
{
    size_t capacity = ledger->capacity == 0 ? 512 : 2 * ledger->capacity;
    struct vehicle *vehicles = realloc(ledger->vehicles, capacity * sizeof *vehicles);
    uint32_t *table = calloc(2 * capacity, sizeof *table);

    if (vehicles != NULL)
        ledger->vehicles = vehicles;
    if (vehicles == NULL || table == NULL || capacity > UINT32_MAX) {
        free(table);
        return -ENOMEM;
    }
    free(ledger->table);
    ledger->table = table;
    ledger->table_size = 2 * capacity;
    ledger->capacity = capacity;
    for (size_t i = 0; i < ledger->count; i++)
        table[ledger_slot(ledger, vehicles[i].id, strlen(vehicles[i].id))] = (uint32_t)i + 1;
    return 0;
}

/* Known, or made; NULL: no memory. */
static struct vehicle *ledger_vehicle(struct ledger *ledger, struct fms_bytes id)
{
    struct vehicle *vehicle;
    size_t slot;

    if (ledger->count == ledger->capacity && ledger_grow(ledger) != 0)
        return NULL;
    slot = ledger_slot(ledger, id.data, id.size);
    if (ledger->table[slot] != 0)
        return &ledger->vehicles[ledger->table[slot] - 1];
    vehicle = &ledger->vehicles[ledger->count];
    *vehicle = (struct vehicle){.id = strndup(id.data, id.size)};
    if (vehicle->id == NULL)
        return NULL;
    ledger->table[slot] = (uint32_t)++ledger->count;
    return vehicle;
}

/* ------------------------------------------------------------------------------------------------------------- gaps */

/* The first gap that does not end before the number. */
static uint32_t gap_place(const struct vehicle *vehicle, uint64_t number)
{
    uint32_t low = 0, high = vehicle->gap_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (vehicle->gaps[middle].to < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int gap_insert(struct ledger *ledger, struct vehicle *vehicle, uint32_t place, uint64_t from, uint64_t to)
{
    if (from > to)
        return 0;
    if (ledger->gaps == LEDGER_GAPS_MAX) {
        ledger->totals.forgotten += to - from + 1;
        return 0;
    }
    if (vehicle->gap_count == vehicle->gap_capacity) {
        uint32_t capacity = vehicle->gap_capacity == 0 ? 4 : 2 * vehicle->gap_capacity;
        struct gap *gaps = realloc(vehicle->gaps, capacity * sizeof *gaps);

        if (gaps == NULL)
            return -ENOMEM;
        vehicle->gaps = gaps;
        vehicle->gap_capacity = capacity;
    }
    memmove(&vehicle->gaps[place + 1], &vehicle->gaps[place], (vehicle->gap_count - place) * sizeof *vehicle->gaps);
    vehicle->gaps[place] = (struct gap){from, to};
    vehicle->gap_count++;
    ledger->gaps++;
    ledger->totals.missing += to - from + 1;
    return 0;
}

static void gap_remove(struct ledger *ledger, struct vehicle *vehicle, uint32_t place)
{
    vehicle->gap_count--;
    ledger->gaps--;
    memmove(&vehicle->gaps[place], &vehicle->gaps[place + 1], (vehicle->gap_count - place) * sizeof *vehicle->gaps);
}

/* A missing number has come. */
static int gap_fill(struct ledger *ledger, struct vehicle *vehicle, uint32_t place, uint64_t number)
{
    struct gap *gap = &vehicle->gaps[place];
    uint64_t to = gap->to;

    ledger->totals.missing--;
    if (gap->from == gap->to) {
        gap_remove(ledger, vehicle, place);
    } else if (number == gap->from) {
        gap->from++;
    } else if (number == gap->to) {
        gap->to--;
    } else {
        gap->to = number - 1;
        ledger->totals.missing -= to - number;
        return gap_insert(ledger, vehicle, place + 1, number + 1, to);
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

/* The number is beyond all that came, at the one end or the other. */
static int vehicle_extend(struct ledger *ledger, struct vehicle *vehicle, uint64_t number)
{
    int error;

    if (vehicle->high == 0) {
        error = vehicle->last > 0 ? gap_insert(ledger, vehicle, 0, 1, number - 1) : 0;
        vehicle->low = vehicle->last > 0 ? 1 : number;
        vehicle->high = number;
        return error;
    }
    if (number > vehicle->high) {
        error = gap_insert(ledger, vehicle, vehicle->gap_count, vehicle->high + 1, number - 1);
        vehicle->high = number;
        return error;
    }
    ledger->totals.late++;
    error = gap_insert(ledger, vehicle, 0, number + 1, vehicle->low - 1);
    vehicle->low = number;
    return error;
}

static bool is_unexpected(const struct ledger *ledger, const struct vehicle *vehicle, uint64_t number)
{
    return ledger->has_expected && number > vehicle->last;
}

int ledger_come(struct ledger *ledger, struct fms_bytes id, uint64_t number)
{
    struct vehicle *vehicle = ledger_vehicle(ledger, id);
    uint32_t place;

    if (vehicle == NULL)
        return -ENOMEM;
    if (is_unexpected(ledger, vehicle, number)) {
        ledger->totals.unexpected++;
        return 0;
    }
    if (number > vehicle->high || number < vehicle->low) {
        ledger->totals.distinct++;
        return vehicle_extend(ledger, vehicle, number);
    }
    place = gap_place(vehicle, number);
    if (place == vehicle->gap_count || vehicle->gaps[place].from > number) {
        ledger->totals.duplicates++;
        return 0;
    }
    ledger->totals.distinct++;
    ledger->totals.late++;
    return gap_fill(ledger, vehicle, place, number);
}

int ledger_expect(struct ledger *ledger, struct fms_bytes id, uint64_t last)
{
    struct vehicle *vehicle = ledger_vehicle(ledger, id);
    int error = 0;

    if (vehicle == NULL)
        return -ENOMEM;
    if (vehicle->last > 0)
        return -EEXIST;
    ledger->has_expected = true;
    ledger->totals.expected += last;
    vehicle->last = last;
    if (vehicle->low > 1) {
        error = gap_insert(ledger, vehicle, 0, 1, vehicle->low - 1);
        vehicle->low = 1;
    }
    return error;
}

/* What has come of this vehicle above its last number was not sent by those who are expected. */
static void vehicle_trim(struct ledger *ledger, struct vehicle *vehicle)
{
    uint64_t beyond = vehicle->high - (vehicle->low > vehicle->last ? vehicle->low - 1 : vehicle->last);

    while (vehicle->gap_count > 0 && vehicle->gaps[vehicle->gap_count - 1].to > vehicle->last) {
        struct gap *gap = &vehicle->gaps[vehicle->gap_count - 1];
        uint64_t cut = gap->to - (gap->from > vehicle->last ? gap->from - 1 : vehicle->last);

        ledger->totals.missing -= cut;
        beyond -= cut;
        if (gap->from <= vehicle->last)
            gap->to = vehicle->last;
        else
            gap_remove(ledger, vehicle, vehicle->gap_count - 1);
    }
    ledger->totals.distinct -= beyond;
    ledger->totals.unexpected += beyond;
    vehicle->high = vehicle->low > vehicle->last ? 0 : vehicle->last;
}

void ledger_expect_end(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->count; i++) {
        if (ledger->vehicles[i].high > ledger->vehicles[i].last)
            vehicle_trim(ledger, &ledger->vehicles[i]);
    }
}

/* The tail of an expected vehicle that has not come. */
static uint64_t vehicle_tail(const struct vehicle *vehicle)
{
    return vehicle->last > vehicle->high ? vehicle->last - vehicle->high : 0;
}

bool ledger_is_complete(const struct ledger *ledger)
{
    return ledger->has_expected && ledger->totals.distinct == ledger->totals.expected;
}

void ledger_total(const struct ledger *ledger, struct ledger_totals *totals)
{
    *totals = ledger->totals;
    totals->missing += totals->forgotten;
    totals->vehicles = 0;
    for (size_t i = 0; i < ledger->count; i++) {
        totals->vehicles += ledger->vehicles[i].high > 0;
        totals->missing += vehicle_tail(&ledger->vehicles[i]);
    }
}

void ledger_each_missing(const struct ledger *ledger, size_t most,
                         void (*visit)(void *user, const char *vehicle, uint64_t from, uint64_t to), void *user)
{
    for (size_t i = 0; i < ledger->count && most > 0; i++) {
        const struct vehicle *vehicle = &ledger->vehicles[i];

        for (uint32_t k = 0; k < vehicle->gap_count && most > 0; k++, most--)
            visit(user, vehicle->id, vehicle->gaps[k].from, vehicle->gaps[k].to);
        if (vehicle_tail(vehicle) > 0 && most > 0) {
            visit(user, vehicle->id, vehicle->high + 1, vehicle->last);
            most--;
        }
    }
}
