/* signals.h - all signals that are asked for, and what each of them is now: from which address, and not for ever. */
#ifndef CAN_SIGNALS_H
#define CAN_SIGNALS_H

#include "j1939.h"
#include "spn.h"

#define SIGNALS_ANY (-1) /* an address that is to be chosen */

/* A signal and the last value that it had. */
struct reading {
    struct signal signal;
    bool is_asked;
    int wanted;     /* the address that it must come from, or SIGNALS_ANY */
    int source;     /* the one that it comes from, or SIGNALS_ANY: none has had a value */
    int other;      /* another that had one, too, and was told, or SIGNALS_ANY */
    bool has_value; /* the last message of `source` had one */
    uint32_t raw;
    int64_t time;   /* when `source` last had a value */
    int64_t oldest; /* age to which a value counts */
    char text[SIGNAL_TEXT];
};

enum signals_event {
    SIGNALS_CHOSEN,  /* from `address`, the first one that has a value */
    SIGNALS_CHANGED, /* from now on from `address`, for the one before has had no value for long */
    SIGNALS_OTHER,   /* `address` has a value, too, which is not taken; told once */
};

struct signals {
    struct reading *items; /* those asked for first, once signals_index was called, and by PGN */
    size_t count, asked, capacity;
    uint16_t *table; /* of PGNs: place + 1 of the first signal of one */
    unsigned bits;
    uint64_t states[SIGNAL_OUT_OF_RANGE + 1]; /* how often a signal was that */
    uint64_t used;                            /* messages that had any signal that is asked for */
    void (*tell)(void *user, const struct reading *reading, enum signals_event event, int address);
    void *user;
};

/* Adds the signal of a line, or puts it in the place of the one of that name. 0; 1: the line has none; -EINVAL, with `why`; -ENOMEM. Zeroed
 * at first. */
int signals_add(struct signals *signals, struct fms_bytes line, char why[SIGNAL_WHY]);

/* The lines of the table that the plugin is built with. */
int signals_add_fms(struct signals *signals, char why[SIGNAL_WHY]);

/* The signal of that name, until another is added or signals_index is called; NULL: there is none. */
struct reading *signals_find(const struct signals *signals, const char *name);

/* From here on messages can be taken: of the signals that are asked for. 0 or -ENOMEM. */
int signals_index(struct signals *signals);

/* What a message says, at that time of whichever clock. */
void signals_take(struct signals *signals, const struct j1939_message *message, int64_t time);

/* Whether it has a value that is not too old. */
bool reading_is_fresh(const struct reading *reading, int64_t time);

/* The value as JSON, at most SIGNAL_TEXT + 2 bytes without a NUL byte. */
size_t reading_write(const struct reading *reading, char *to);

void signals_free(struct signals *signals);

#endif
