/* dbc.c - see dbc.h. */
#include "dbc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define EXTENDED 0x80000000u
#define EVERY    1000 /* milliseconds, where a DBC says nothing */

struct place {
    char name[64], scale[24], offset[24];
    unsigned start, bits, order;
    char sign;
};

int dbc_note(struct dbc *dbc, const char *line)
{
    size_t capacity = dbc->capacity == 0 ? 64 : 2 * dbc->capacity;
    struct dbc_cycle cycle, *grown;

    if (sscanf(line, " BA_ \"GenMsgCycleTime\" BO_ %10u %7u", &cycle.id, &cycle.milliseconds) != 2 ||
        cycle.milliseconds == 0)
        return 0;
    if (dbc->count == dbc->capacity) {
        grown = realloc(dbc->cycles, capacity * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        dbc->cycles = grown;
        dbc->capacity = capacity;
    }
    dbc->cycles[dbc->count++] = cycle;
    return 0;
}

void dbc_free(struct dbc *dbc)
{
    free(dbc->cycles);
}

static unsigned dbc_every(const struct dbc *dbc)
{
    for (size_t i = 0; i < dbc->count; i++) {
        if (dbc->cycles[i].id == dbc->id)
            return dbc->cycles[i].milliseconds;
    }
    return EVERY;
}

static int leave_out(char why[SIGNAL_WHY], const char *name, const char *reason)
{
    snprintf(why, SIGNAL_WHY, "%s: %s", name, reason);
    return -ENOTSUP;
}

/* 2-3, or 4.5-6. False: neither. */
static bool put_bytes(const struct place *place, char to[32])
{
    unsigned byte = place->start / 8 + 1, bit = place->start % 8 + 1, bytes = place->bits / 8;

    if (place->bits == 0 || place->bits > 32 || place->start > 1784 * 8)
        return false;
    if (place->bits < 8)
        snprintf(to, 32, "%u.%u-%u", byte, bit, bit + place->bits - 1);
    else
        snprintf(to, 32, "%u-%u", byte, byte + bytes - 1);
    return place->bits < 8 ? bit + place->bits <= 9 : bit == 1 && place->bits % 8 == 0;
}

/* The unit without blanks, or -. */
static void put_unit(const char *line, char to[SIGNAL_UNIT])
{
    const char *at = strchr(line, '"');
    size_t size = 0;

    for (at = at != NULL ? at + 1 : ""; *at != '"' && *at != '\0' && size < SIGNAL_UNIT - 1; at++) {
        if (*at > ' ' && *at <= '~' && (*at != '#' || size > 0))
            to[size++] = *at;
    }
    memcpy(to + size, size > 0 ? "" : "-", size > 0 ? 1 : 2);
}

static int dbc_put(const struct dbc *dbc, const char *line, struct place *place, char to[DBC_LINE],
                   char why[SIGNAL_WHY])
{
    uint32_t pgn = dbc->id >> 8 & 0x3ffff;
    char bytes[32], unit[SIGNAL_UNIT];

    if ((dbc->id & EXTENDED) == 0)
        return leave_out(why, place->name, "its message has an 11-bit identifier, and thus no PGN");
    if (place->order != 1)
        return leave_out(why, place->name, "it stands highest byte first");
    if (place->sign != '+')
        return leave_out(why, place->name, "it is signed");
    if (!put_bytes(place, bytes))
        return leave_out(why, place->name, "it is neither one to four whole bytes nor bits of one");
    put_unit(line, unit);
    for (char *c = place->name; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    snprintf(to, DBC_LINE, "%s - %X %s %s %s %s %ums", place->name, (pgn & 0xff00) < 0xf000 ? pgn & 0x3ff00 : pgn,
             bytes, place->scale, place->offset, unit, dbc_every(dbc));
    return 0;
}

int dbc_translate(struct dbc *dbc, const char *line, char to[DBC_LINE], char why[SIGNAL_WHY])
{
    struct place place = {.start = 0};

    if (sscanf(line, " BO_ %10u", &dbc->id) == 1 || sscanf(line, " SG_ %63s", place.name) != 1)
        return 1;
    if (sscanf(line, " SG_ %*s : %5u|%5u@%1u%c (%23[^,],%23[^)])", &place.start, &place.bits, &place.order, &place.sign,
               place.scale, place.offset) != 6)
        return leave_out(why, place.name, "it is multiplexed, or written in a way that is not known here");
    return dbc_put(dbc, line, &place, to, why);
}
