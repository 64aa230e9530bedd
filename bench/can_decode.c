/* can_decode.c - what a frame costs can_source: its line of a log, and its signals.
 *
 *   can_decode [SECONDS]     prints nanoseconds of a processor a frame of each, on the mix of a truck's bus, all signals asked for */
#include "../plugins/can_common/frame.h"
#include "../plugins/can_common/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUND 10 /* seconds of the bus */
#define MOST  4096

static char lines[MOST][FRAME_LINE];
static size_t sizes[MOST];
static struct frame frames[MOST];
static size_t count;

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time); /* others may be at work, too */
    return (int64_t)time.tv_sec * FMS_SECOND + time.tv_nsec;
}

static void add(int64_t time, uint32_t id, const char *data)
{
    struct frame *frame = &frames[count];

    *frame = (struct frame){.time = time, .id = id, .flags = FRAME_EXTENDED, .size = 8, .interface = "can0"};
    memcpy(frame->data, data, 8);
    sizes[count] = frame_write(frame, lines[count]);
    count++;
}

/* What the FMS-Standard's gateway sends, and a VIN in three packets. */
static void make_bus(void)
{
    static const struct {
        uint32_t pgn;
        int every; /* milliseconds */
    } messages[] = {{0xF004, 20},   {0xF003, 50},   {0xFE6C, 50},   {0xFEF1, 100},  {0xFEF2, 100},
                    {0xFEFC, 1000}, {0xFEE9, 1000}, {0xFD09, 1000}, {0xFEE5, 1000}, {0xFEC1, 1000},
                    {0xFEEE, 1000}, {0xFEF5, 1000}, {0xFDA4, 100}};

    for (int ms = 0; ms < ROUND * 1000; ms += 10) {
        for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
            if (ms % messages[i].every == 0)
                add(ms * FMS_MS, 0x18000000 | messages[i].pgn << 8, "\x10\x20\x30\x40\x50\x60\x70\x41");
        }
        if (ms == 0)
            add(0, 0x1CECFF00, "\x20\x12\x00\x03\xff\xec\xfe\x00");
        if (ms > 0 && ms <= 30)
            add(ms * FMS_MS, 0x1CEBFF00,
                ms == 10   ? "\x01WDB9634"
                : ms == 20 ? "\x02"
                             "031L123"
                           : "\x03"
                             "456*\xff\xff\xff");
    }
}

static double measure_lines(int64_t duration)
{
    int64_t start = now(), end;
    char why[FRAME_WHY];
    struct frame frame;
    uint64_t read = 0;

    do {
        for (size_t i = 0; i < count; i++)
            read += frame_read(&frame, fms_bytes_of(lines[i], sizes[i]), why) == FRAME_LINE_FRAME;
        end = now();
    } while (end - start < duration);
    return (double)(end - start) / (double)read;
}

static double measure_signals(struct signals *signals, int64_t duration)
{
    static struct j1939 j1939;
    int64_t start = now(), end, base = 0;
    uint64_t taken = 0;

    do {
        for (size_t i = 0; i < count; i++) {
            struct j1939_message message;
            int64_t time = base + frames[i].time;

            if (j1939_take(&j1939, j1939_id_of(frames[i].id), frames[i].data, frames[i].size, time, &message))
                signals_take(signals, &message, time);
        }
        taken += count;
        base += ROUND * FMS_SECOND;
        end = now();
    } while (end - start < duration);
    if (j1939.counts[J1939_COMPLETE] != taken / count || !signals_find(signals, "vin")->has_value)
        abort();
    return (double)(end - start) / (double)taken;
}

int main(int argc, char *argv[])
{
    int64_t duration = (argc > 1 ? atoi(argv[1]) : 1) * FMS_SECOND;
    struct signals signals = {.count = 0};
    char why[SIGNAL_WHY];

    make_bus();
    if (signals_add_fms(&signals, why) < 0)
        return 1;
    for (size_t i = 0; i < signals.count; i++)
        signals.items[i].is_asked = true;
    if (signals_index(&signals) != 0)
        return 1;
    printf("a frame's line: %.1f ns\n", measure_lines(duration));
    printf("a frame's signals (%zu asked for): %.1f ns\n", signals.asked, measure_signals(&signals, duration));
    signals_free(&signals);
    return 0;
}
