/* spn.h - what stands in a message: a line of the table of signals, and the value that it finds, exactly.
 *
 * A value is an integer and where its point stands. No double comes near it: 1/256 km/h has eight decimals, an odometer in steps of five
 * metres has ten digits, and both are as the bus had them. */
#ifndef CAN_SPN_H
#define CAN_SPN_H

#include <fms_plugin.h>

#define SIGNAL_NAME 32 /* with the NUL byte */
#define SIGNAL_UNIT 16
#define SIGNAL_TEXT 64 /* bytes of a signal that is a text, with the NUL byte; a longer one is out of range */
#define SIGNAL_WHY  160

/* A field of up to 32 bits, lowest byte first. */
struct signal_field {
    uint16_t byte; /* from 0 */
    uint8_t shift, bits;
};

struct signal {
    char name[SIGNAL_NAME];
    char unit[SIGNAL_UNIT]; /* "": none */
    uint32_t spn;           /* 0: none */
    uint32_t pgn;
    bool is_text, is_personal;
    uint8_t part; /* of a text that is divided by asterisks, from 0 */
    struct signal_field field, when;
    bool has_when; /* it is there only if the field `when` has the value when_value */
    uint32_t when_value;
    uint32_t highest;      /* value that is one */
    int64_t factor, added; /* the value is (raw * factor + added) / 10^decimals, */
    uint8_t decimals;
    uint8_t rounded; /* to so many decimals, at most `decimals` */
    int64_t every;   /* nanoseconds between two messages, as they should be */
};

/* Reads a line of a table, whose format the README of can_source tells. 0; 1: it is empty or a comment; -EINVAL, and `why` says what is wrong
 * with it. [any] */
int signal_read(struct signal *signal, struct fms_bytes line, char why[SIGNAL_WHY]);

enum signal_state {
    SIGNAL_VALUE,
    SIGNAL_ABSENT,        /* the message has it not: it is too short, or of another kind */
    SIGNAL_NOT_AVAILABLE, /* as its sender says; */
    SIGNAL_ERROR,         /* this, too */
    SIGNAL_OUT_OF_RANGE,  /* a value that the standard keeps for other uses, or a text with what is no letter */
};

/* What a signal that is a number is in a message. [any] */
enum signal_state signal_number(const struct signal *signal, const uint8_t *data, size_t size, uint32_t *raw);

/* And what one that is a text is: NUL-terminated, printable ASCII without quotes and backslashes, not empty. [any] */
enum signal_state signal_text(const struct signal *signal, const uint8_t *data, size_t size, char text[SIGNAL_TEXT]);

/* Writes the number without zeros that say nothing. Returns how many bytes there are, at most 24; no NUL byte follows. [any] */
size_t signal_write(const struct signal *signal, uint32_t raw, char *to);

/* The raw value that is nearest to a number of so many millionths, for who simulates a bus; at most `highest`, at least 0. [any] */
uint32_t signal_raw(const struct signal *signal, int64_t millionths);

#endif
