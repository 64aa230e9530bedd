/* signals.c - see signals.h.
 *
 * The first address that has a value for a signal is its source as long as it has one now and then: on one truck address 0 sends a fuel level
 * that is never available, and address 49 the real one; on another two odometers differ by 100,000 km, and a sample must not jump between
 * them. */
#include "signals.h"

#include <errno.h>
#include <stdlib.h>

#define MISSED     5          /* messages that may stay away before a value is too old */
#define OLDEST_MIN FMS_SECOND /* a value is never too old before */
#define SIGNALS    4096

static const char *const fms_lines[] = {
#include <fms_signals.inc>
};

/* ------------------------------------------------------------------------------------------------------------ the table */

struct reading *signals_find(const struct signals *signals, const char *name)
{
    for (size_t i = 0; i < signals->count; i++) {
        if (strcmp(signals->items[i].signal.name, name) == 0)
            return &signals->items[i];
    }
    return NULL;
}

static struct reading *signals_append(struct signals *signals)
{
    size_t capacity = signals->capacity == 0 ? 64 : 2 * signals->capacity;
    struct reading *grown;

    if (signals->count == signals->capacity) {
        grown = capacity <= SIGNALS ? realloc(signals->items, capacity * sizeof *grown) : NULL;
        if (grown == NULL)
            return NULL;
        signals->items = grown;
        signals->capacity = capacity;
    }
    return &signals->items[signals->count++];
}

int signals_add(struct signals *signals, struct fms_bytes line, char why[SIGNAL_WHY])
{
    struct signal signal;
    struct reading *reading;
    int error = signal_read(&signal, line, why);

    if (error != 0)
        return error;
    reading = signals_find(signals, signal.name);
    if (reading == NULL)
        reading = signals_append(signals);
    if (reading == NULL)
        return -ENOMEM;
    *reading = (struct reading){.signal = signal,
                                .wanted = SIGNALS_ANY,
                                .source = SIGNALS_ANY,
                                .other = SIGNALS_ANY,
                                .oldest = MISSED * signal.every > OLDEST_MIN ? MISSED * signal.every : OLDEST_MIN};
    return 0;
}

int signals_add_fms(struct signals *signals, char why[SIGNAL_WHY])
{
    for (size_t i = 0; i < sizeof fms_lines / sizeof *fms_lines; i++) {
        int error = signals_add(signals, fms_text(fms_lines[i]), why);

        if (error < 0)
            return error;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- the index */

static int by_pgn(const void *a, const void *b)
{
    const struct reading *one = a, *other = b;

    if (one->is_asked != other->is_asked)
        return one->is_asked ? -1 : 1;
    return one->signal.pgn < other->signal.pgn ? -1 : one->signal.pgn > other->signal.pgn;
}

static uint16_t *signals_place(const struct signals *signals, uint32_t pgn)
{
    size_t mask = ((size_t)1 << signals->bits) - 1, i = pgn * 2654435769u >> (32 - signals->bits);

    while (signals->table[i] != 0 && signals->items[signals->table[i] - 1].signal.pgn != pgn)
        i = (i + 1) & mask;
    return &signals->table[i];
}

int signals_index(struct signals *signals)
{
    for (size_t i = 0; i < signals->count; i++)
        signals->asked += signals->items[i].is_asked;
    if (signals->count > 0)
        qsort(signals->items, signals->count, sizeof *signals->items, by_pgn);
    for (signals->bits = 4; (size_t)1 << signals->bits < 4 * signals->asked; signals->bits++)
        continue;
    signals->table = calloc((size_t)1 << signals->bits, sizeof *signals->table);
    if (signals->table == NULL)
        return -ENOMEM;
    for (size_t i = signals->asked; i-- > 0;)
        *signals_place(signals, signals->items[i].signal.pgn) = (uint16_t)(i + 1);
    return 0;
}

void signals_free(struct signals *signals)
{
    free(signals->items);
    free(signals->table);
}

/* ---------------------------------------------------------------------------------------------------------------- values */

bool reading_is_fresh(const struct reading *reading, int64_t time)
{
    int64_t age = (int64_t)((uint64_t)time - (uint64_t)reading->time); /* a clock may jump by anything */

    return reading->has_value && age <= reading->oldest && age >= -reading->oldest;
}

static bool reading_is_kept(const struct reading *reading, int64_t time)
{
    int64_t age = (int64_t)((uint64_t)time - (uint64_t)reading->time);

    return age <= reading->oldest && age >= -reading->oldest;
}

static void signals_tell(const struct signals *signals, const struct reading *reading, enum signals_event event,
                         int address)
{
    if (signals->tell != NULL)
        signals->tell(signals->user, reading, event, address);
}

/* Whether what this address says counts, now that it has a value or has none. */
static bool signals_choose(const struct signals *signals, struct reading *reading, int address, bool has_value,
                           int64_t time)
{
    enum signals_event event = reading->source == SIGNALS_ANY ? SIGNALS_CHOSEN : SIGNALS_CHANGED;

    if (address == reading->source)
        return true;
    if (!has_value || (reading->wanted != SIGNALS_ANY && reading->wanted != address))
        return false;
    if (event == SIGNALS_CHANGED && reading_is_kept(reading, time)) {
        if (reading->other == SIGNALS_ANY) {
            reading->other = address;
            signals_tell(signals, reading, SIGNALS_OTHER, address);
        }
        return false;
    }
    reading->source = address;
    signals_tell(signals, reading, event, address);
    return true;
}

static void signals_read(struct signals *signals, struct reading *reading, const struct j1939_message *message,
                         int64_t time)
{
    char text[SIGNAL_TEXT];
    uint32_t raw = 0;
    enum signal_state state = reading->signal.is_text
                                  ? signal_text(&reading->signal, message->data, message->size, text)
                                  : signal_number(&reading->signal, message->data, message->size, &raw);

    if (state == SIGNAL_ABSENT && reading->signal.has_when)
        return;
    signals->states[state]++;
    if (!signals_choose(signals, reading, message->id.source, state == SIGNAL_VALUE, time))
        return;
    reading->has_value = state == SIGNAL_VALUE;
    if (!reading->has_value)
        return;
    reading->raw = raw;
    reading->time = time;
    if (reading->signal.is_text)
        memcpy(reading->text, text, sizeof text);
}

void signals_take(struct signals *signals, const struct j1939_message *message, int64_t time)
{
    size_t place = *signals_place(signals, message->id.pgn);

    signals->used += place > 0;
    for (; place > 0 && place <= signals->asked && signals->items[place - 1].signal.pgn == message->id.pgn; place++)
        signals_read(signals, &signals->items[place - 1], message, time);
}

size_t reading_write(const struct reading *reading, char *to)
{
    size_t size = strlen(reading->text);

    if (!reading->signal.is_text)
        return signal_write(&reading->signal, reading->raw, to);
    to[0] = '"';
    memcpy(to + 1, reading->text, size);
    to[size + 1] = '"';
    return size + 2;
}
