/* fuzz_can_frame.c - any text as a line of candump: what is a frame is the same after it was written. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/can_common/frame.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[FRAME_WHY] = "", line[FRAME_LINE];
    struct frame frame, again;
    int kind = frame_read(&frame, fms_bytes_of(data, size), why);

    expect((kind == FRAME_LINE_BAD) == (why[0] != '\0'));
    if (kind != FRAME_LINE_FRAME)
        return 0;
    expect(frame.size <= FRAME_DATA && frame.interface[FRAME_INTERFACE - 1] == '\0' && frame.id <= 0x1fffffff);
    expect(frame_write(&frame, line) < FRAME_LINE);
    expect(frame_read(&again, fms_text(line), why) == FRAME_LINE_FRAME);
    expect(frame.time == FRAME_NO_TIME || again.time == frame.time / FMS_US * FMS_US);
    again.time = frame.time;
    expect(memcmp(&again, &frame, sizeof frame) == 0);
    return 0;
}
