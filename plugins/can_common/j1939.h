/* j1939.h - whose frame it is and what it is about (SAE J1939-21), and messages of more than 8 bytes put together by who only listens. */
#ifndef CAN_J1939_H
#define CAN_J1939_H

#include <fms_plugin.h>

#define J1939_GLOBAL   255  /* destination: all */
#define J1939_SIZE     1785 /* bytes of a message at most: 255 packets of 7 */
#define J1939_SESSIONS 16   /* that are put together at once */

#define J1939_PGN_CONTROL 0xEC00 /* TP.CM */
#define J1939_PGN_DATA    0xEB00 /* TP.DT */

#define J1939_BAM_PAUSE (750 * FMS_MS)  /* the longest between two packets to all */
#define J1939_RTS_PAUSE (1250 * FMS_MS) /* and to one, who asks for them by CTS */

struct j1939_id {
    uint32_t pgn; /* 18 bits */
    uint8_t priority, source, destination;
};

/* What a 29-bit identifier says. [any] */
static inline struct j1939_id j1939_id_of(uint32_t id)
{
    uint32_t pgn = id >> 8 & 0x3ffff;
    bool is_addressed = (pgn & 0xff00) < 0xf000;
    struct j1939_id found = {is_addressed ? pgn & 0x3ff00 : pgn, (uint8_t)(id >> 26 & 7), (uint8_t)id,
                             is_addressed ? (uint8_t)pgn : J1939_GLOBAL};

    return found;
}

/* The identifier; the destination counts only for a PGN that has one. [any] */
uint32_t j1939_id_make(struct j1939_id id);

struct j1939_message {
    struct j1939_id id;
    const uint8_t *data; /* until the next call */
    size_t size;
};

/* What becomes of messages of several packets. */
enum j1939_count {
    J1939_COMPLETE,   /* put together */
    J1939_LOST,       /* given up: packets are missing, though later ones came */
    J1939_TIMED_OUT,  /* given up: nothing more came */
    J1939_OVERLAPPED, /* given up: its sender began another one */
    J1939_ABORTED,    /* given up by its sender or receiver */
    J1939_CONFLICTS,  /* given up: a packet came twice, and was another one */
    J1939_DOUBLED,    /* packets that came again, and were left out */
    J1939_REORDERED,  /* packets that came behind a later one, and were put in their place */
    J1939_ORPHANS,    /* packets of no message that was announced, as those of one that began before we listened */
    J1939_BAD_SIZES,  /* announcements and packets whose sizes or numbers cannot be */
    J1939_NO_ROOM,    /* messages that were begun while J1939_SESSIONS others were under way */
    J1939_COUNTS,
};

struct j1939_session {
    bool is_open, has_cts;
    uint8_t source, destination; /* J1939_GLOBAL: BAM */
    uint8_t packets, came, newest;
    uint8_t priority;
    uint16_t size;
    uint32_t pgn;
    int64_t last; /* when something of it came */
    uint64_t got[4];
    uint8_t data[J1939_SIZE];
};

/* The transport protocol as a listener sees it. Zeroed at first; needs no release. Not for two threads. */
struct j1939 {
    uint64_t counts[J1939_COUNTS];
    struct j1939_session sessions[J1939_SESSIONS];
};

/* Takes a frame with up to 8 bytes, at a time in nanoseconds on whichever clock, which may jump. True: `message` is whole, be it this frame
 * itself, which has to be none of the transport protocol, or one whose last packet it is. */
bool j1939_take(struct j1939 *j1939, struct j1939_id id, const uint8_t *data, size_t size, int64_t time,
                struct j1939_message *message);

/* Gives up what waited too long. j1939_take does so where it needs room. */
void j1939_expire(struct j1939 *j1939, int64_t time);

#endif
