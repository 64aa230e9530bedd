/* fuzz_can_signal.c - any line of a table, and any message that it reads: a value is a number or a text of JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/can_common/spn.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static void check_number(const struct signal *signal, const uint8_t *data, size_t size)
{
    char text[32];
    uint32_t raw;
    size_t digits;

    if (signal_number(signal, data, size, &raw) != SIGNAL_VALUE)
        return;
    expect(raw <= signal->highest);
    digits = signal_write(signal, raw, text);
    expect(digits >= 1 && digits <= 24);
    text[digits] = '\0';
    expect(strspn(text, "-0123456789.") == digits && text[digits - 1] != '.' && strcmp(text, "-0") != 0);
    expect(text[text[0] == '-'] != '0' || digits <= 1u + (text[0] == '-') || text[1 + (text[0] == '-')] == '.');
}

static void check_text(const struct signal *signal, const uint8_t *data, size_t size)
{
    char text[SIGNAL_TEXT];

    if (signal_text(signal, data, size, text) != SIGNAL_VALUE)
        return;
    expect(text[0] != '\0' && strpbrk(text, "\"\\*\n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *feed = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t line = feed != NULL ? (size_t)(feed - data) : size;
    char why[SIGNAL_WHY] = "";
    struct signal signal;
    int error = signal_read(&signal, fms_bytes_of(data, line), why);

    expect((error < 0) == (why[0] != '\0'));
    if (error != 0 || feed == NULL)
        return 0;
    if (signal.is_text)
        check_text(&signal, feed + 1, size - line - 1);
    else
        check_number(&signal, feed + 1, size - line - 1);
    return 0;
}
