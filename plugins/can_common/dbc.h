/* dbc.h - a DBC file's signals as lines of our table, as far as both have them.
 *
 * Of a DBC counts what J1939 needs: messages with 29-bit identifiers, their signals that are unsigned, lowest byte first, and are whole bytes or
 * bits of one, and the time between two messages. */
#ifndef CAN_DBC_H
#define CAN_DBC_H

#include <fms_plugin.h>

#include "spn.h"

#define DBC_LINE 256

struct dbc_cycle {
    uint32_t id;
    unsigned milliseconds;
};

/* Zeroed at first. */
struct dbc {
    struct dbc_cycle *cycles;
    size_t count, capacity;
    uint32_t id; /* of the message whose signals come */
};

/* First for all lines, for what is told of a message stands behind it: 0 or -ENOMEM. */
int dbc_note(struct dbc *dbc, const char *line);

/* Then for all lines again. 0: `to` is the line of a table; 1: the line has no signal; -ENOTSUP: it has one that is left out, and `why`, which
 * begins with its name, says why. */
int dbc_translate(struct dbc *dbc, const char *line, char to[DBC_LINE], char why[SIGNAL_WHY]);

void dbc_free(struct dbc *dbc);

#endif
