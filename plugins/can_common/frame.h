/* frame.h - a frame of a CAN bus, and the lines in which candump writes one. */
#ifndef CAN_FRAME_H
#define CAN_FRAME_H

#include <fms_plugin.h>

#define FRAME_DATA      64  /* bytes of a CAN FD frame; a classic one has 8 */
#define FRAME_INTERFACE 16  /* with the NUL byte, as the kernel has it */
#define FRAME_LINE      256 /* no line that frame_write makes is longer, with its NUL byte */
#define FRAME_WHY       96

#define FRAME_NO_TIME INT64_MIN

enum {
    FRAME_EXTENDED = 1, /* 29-bit identifier, else 11 */
    FRAME_REMOTE = 2,   /* asks for data, and has none */
    FRAME_ERROR = 4,    /* no frame of the bus, but what the controller says of it; the identifier is its kind */
    FRAME_FD = 8,
    FRAME_SENT = 16, /* by this machine, which the line says with a T */
};

struct frame {
    int64_t time; /* nanoseconds since 1970, or since the log began; FRAME_NO_TIME: the line has none */
    uint32_t id;  /* without flags */
    uint8_t flags;
    uint8_t fd_flags; /* the digit behind ##: 1 is a faster rate for the data, 2 a sender that is error passive */
    uint8_t size;     /* of the data; of a remote frame that which it asks for */
    char interface[FRAME_INTERFACE];
    uint8_t data[FRAME_DATA];
};

enum {
    FRAME_LINE_FRAME,
    FRAME_LINE_NOTHING, /* it is empty, or tells more of the error frame before it */
    FRAME_LINE_BAD,     /* and `why` says what is wrong with it */
};

/* Reads a line as candump -l and -L write it, `(1436509052.249713) can0 18FEF100#FFFF`, with ` R` or ` T` behind it or not, or as
 * candump shows it, ` (000.005001)  can0  18FEDF00   [8]  8A A0`. The time may be `2015-07-10 06:30:52.249713`, which counts as UTC.
 * The frame is whole, or not touched. [any] */
int frame_read(struct frame *frame, struct fms_bytes line, char why[FRAME_WHY]);

/* Writes it as candump -L does, with a NUL byte but without a line feed; a frame without a time gets that of 0. Returns how many bytes there
 * are. [any] */
size_t frame_write(const struct frame *frame, char to[FRAME_LINE]);

#endif
