/* console_sample.h - a record's JSON, read as the mission's telemetry, and shown as a line of a table. */
#ifndef CONSOLE_SAMPLE_H
#define CONSOLE_SAMPLE_H

#include <fms_plugin.h>

#define SAMPLE_NO_TIME  INT64_MIN
#define SAMPLE_LINE_MAX 512 /* bytes of one line, or of the table's head */

struct sample {
    bool is_telemetry; /* all five fields are there and in their ranges */
    char vehicle[64];  /* "": none */
    size_t vehicle_size;
    int64_t timestamp; /* seconds */
    double speed, rpm, fuel;
    int64_t sent_ns; /* 0: none */
};

/* How a terminal wants it. */
struct sample_style {
    bool colour;
    bool utf8;
};

/* Reads what is there; a payload that is no JSON object leaves *sample empty. */
void sample_read(struct fms_bytes payload, struct sample *sample);

/* The table's head, and one line of it, each with its newline; the length. */
size_t sample_head(const struct sample_style *style, char *to);
size_t sample_line(const struct sample *sample, const struct sample_style *style, char *to);

/* The line of a record without payload: its time in seconds, and its key for the vehicle. */
size_t sample_tombstone(struct fms_bytes key, int64_t timestamp, const struct sample_style *style, char *to);

#endif
