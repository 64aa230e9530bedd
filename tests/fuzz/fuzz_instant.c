/* fuzz_instant.c - any text as a time: what is one reads the same after it was written, in each form. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/json_common/instant.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static bool is_same(struct instant a, struct instant b)
{
    return a.seconds == b.seconds && a.nanoseconds == b.nanoseconds;
}

static void check_text(struct fms_bytes text)
{
    char why[INSTANT_WHY] = "", written[INSTANT_TEXT];
    struct instant instant, again;

    if (!instant_of_text(&instant, text, why)) {
        expect(why[0] != '\0');
        return;
    }
    expect(instant.nanoseconds < FMS_SECOND);
    if (instant_text(instant, written) > 0) /* an offset may have led out of the four digits */
        expect(instant_of_text(&again, fms_text(written), why) && is_same(instant, again));
}

static void check_number(struct fms_bytes text)
{
    char written[INSTANT_TEXT];
    struct instant instant, again;
    struct decimal number;
    enum instant_unit unit;

    if (!decimal_read(&number, text) || (unit = instant_of_number(&instant, &number)) == INSTANT_NO_UNIT)
        return;
    expect(instant.nanoseconds < FMS_SECOND && llabs(instant.seconds) <= 100000000000);
    instant_number(instant, unit, written);
    if (number.sign < 0)
        return; /* rounded down, it may be of the next unit */
    expect(decimal_read(&number, fms_text(written)));
    expect(instant_of_number(&again, &number) == unit || number.sign == 0);
    expect(again.seconds == instant.seconds && again.nanoseconds <= instant.nanoseconds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_text(fms_bytes_of(data, size));
    check_number(fms_bytes_of(data, size));
    return 0;
}
