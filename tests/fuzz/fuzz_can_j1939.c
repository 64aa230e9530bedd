/* fuzz_can_j1939.c - any frames at any times: what is whole is what was announced, and each packet of it came.
 *
 * Twelve bytes are a frame: kind and addresses, the time since the one before, eight bytes of data; so that packets find their sessions. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/can_common/j1939.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static struct j1939_id frame_id(const uint8_t *bytes)
{
    static const uint32_t pgns[] = {J1939_PGN_CONTROL, J1939_PGN_DATA, J1939_PGN_DATA, 0xFEF1};

    return (struct j1939_id){pgns[bytes[0] & 3], 7, bytes[0] >> 2 & 31, bytes[1] < 128 ? J1939_GLOBAL : bytes[1] & 3};
}

/* Whether a packet of that number came from there, with that in it, in the frames up to `end`. */
static bool came(const uint8_t *frames, const uint8_t *end, struct j1939_id id, unsigned number, const uint8_t *part,
                 size_t size)
{
    for (; frames <= end; frames += 12) {
        struct j1939_id other = frame_id(frames);

        if (frames[3] != 0 && other.pgn == J1939_PGN_DATA && other.source == id.source &&
            other.destination == id.destination && frames[4] == number && memcmp(frames + 5, part, size) == 0)
            return true;
    }
    return false;
}

static void check_message(const uint8_t *frames, const uint8_t *end, const struct j1939_message *message)
{
    expect(message->size >= 1 && message->size <= J1939_SIZE);
    for (size_t at = 0; at < message->size; at += 7) {
        size_t part = message->size - at < 7 ? message->size - at : 7;

        expect(came(frames, end, message->id, (unsigned)(at / 7 + 1), message->data + at, part));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct j1939 j1939;
    const uint8_t *frames = data;
    struct j1939_message message;
    int64_t now = 0;

    memset(&j1939, 0, sizeof j1939);
    for (; size >= 12; data += 12, size -= 12) {
        struct j1939_id id = frame_id(data);

        now += (data[2] < 250 ? data[2] : (int64_t)(data[2] - 253) * 1000) * FMS_MS;
        if (!j1939_take(&j1939, id, data + 4, data[3] == 0 ? 7 : 8, now, &message))
            continue;
        expect(id.pgn == J1939_PGN_DATA || id.pgn == 0xFEF1);
        if (id.pgn == J1939_PGN_DATA)
            check_message(frames, data, &message);
    }
    return 0;
}
