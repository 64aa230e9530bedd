/* can_source.h - the plugin's options, and what its parts call each other by. */
#ifndef CAN_SOURCE_H
#define CAN_SOURCE_H

#include <fms_plugin.h>

#include "../can_common/frame.h"
#include "../can_common/signals.h"

#define REST                                                                                                           \
    (10 * FMS_MS) /* in which frames gather, where they are decoded: to wake up for each costs more than to decode it */

enum decode { DECODE_NONE, DECODE_FMS };
enum on_bad_line { BAD_LINE_REJECT, BAD_LINE_STOP, BAD_LINE_SKIP };

enum {
    COUNT_FRAMES,
    COUNT_BAD_LINES,
    COUNT_DROPS,
    COUNT_ERROR_FRAMES,
    COUNT_BUS_OFFS,
    COUNT_OVERTAKEN,
    COUNT_EMPTY,
    COUNT_NAMELESS,
    COUNT_ADDRESSES,
    COUNT_VALUES,
    COUNT_TRANSPORT = COUNT_VALUES + SIGNAL_OUT_OF_RANGE + 1,
    COUNTS = COUNT_TRANSPORT + J1939_COUNTS,
};

enum { GAUGE_SIGNALS, GAUGE_VALUES };

struct can_source {
    const char *interface, *path, *speed_text, *vehicle_id, *table;
    int decode, on_bad_line;
    int64_t interval;
    struct fms_list signals;
    struct fms_pairs addresses;
    bool bus_clock;
    const struct fms_template *topic;

    const char *path_option; /* which of them named `path` */
    const struct fms_host *host;
    struct decoder *decoder; /* NULL: raw frames */
    struct bus *bus;         /* or */
    struct log *log;
    struct fms_record draft;
    bool is_ready; /* the draft waits to be emitted */
    bool is_stopped;
    char line[FRAME_LINE];
};

/* ---- decoder.c: from frames to samples, at most one a time that is at hand */

int decoder_open(struct can_source *source);
void decoder_close(struct can_source *source);

/* Checks signals, table and addresses. 0 or a negative errno, told. */
int decoder_check(const struct can_source *source, const struct fms_host *host);

/* Takes a frame in, at that time of the clock that `decoder_sample` goes by. */
void decoder_take(struct can_source *source, const struct frame *frame, int64_t time);

/* Makes a draft of what is known at that time, or none where there is nothing to tell. One that is still there is overtaken. 0 or a negative
 * errno, told. */
int decoder_sample(struct can_source *source, int64_t time, int64_t timestamp);

/* Adds to the plugin's counters what was counted since the last time. */
void decoder_count(struct can_source *source);
void decoder_measure(struct can_source *source);

/* The PGNs that are needed, each once; how many. */
size_t decoder_pgns(const struct can_source *source, uint32_t *pgns, size_t most);

/* ---- log.c: lines of candump, in their own time or at once */

int log_check(const struct can_source *source, const struct fms_host *host);
int log_open(struct can_source *source);
void log_close(struct can_source *source);
int log_poll(struct can_source *source, size_t credit, struct fms_wait *wait);

/* ---- bus.c: an interface */

int bus_open(struct can_source *source);
void bus_close(struct can_source *source);
int bus_poll(struct can_source *source, size_t credit, struct fms_wait *wait);
int bus_probe(const struct can_source *source, const struct fms_host *host);

/* ---- can_source.c */

/* Makes a draft of a frame as it is. 0 or a negative errno, told. */
int source_make_raw(struct can_source *source, const struct frame *frame, int64_t timestamp);

/* Emits the draft. 0; -EAGAIN: it waits, still ready; another negative errno. */
int source_emit(struct can_source *source);

/* Gives the draft its topic. 0 or a negative errno, told. */
int source_address(struct can_source *source);

#endif
