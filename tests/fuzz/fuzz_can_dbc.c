/* fuzz_can_dbc.c - any lines as a DBC: what is translated is a line of a table, or named by it as wrong, and no longer than its room. */
#include <stdio.h>
#include <stdlib.h>

#include "../../plugins/can_common/dbc.h"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static void check_line(struct dbc *dbc, const char *line, bool is_first)
{
    char translated[DBC_LINE] = "", why[SIGNAL_WHY] = "";
    struct signal signal;
    int result;

    if (is_first) {
        expect(dbc_note(dbc, line) == 0);
        return;
    }
    result = dbc_translate(dbc, line, translated, why);
    expect((result == 0) == (translated[0] != '\0') && (result < 0) == (why[0] != '\0'));
    if (result == 0 && signal_read(&signal, fms_text(translated), why) == 0)
        expect(signal.field.bits >= 1 && signal.field.bits <= 32 && signal.pgn <= 0x3ffff && !signal.is_text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbc dbc = {.count = 0};

    for (int pass = 0; pass < 2; pass++) {
        char *text = malloc(size + 1), *rest = NULL;

        expect(text != NULL);
        memcpy(text, data, size);
        text[size] = '\0';
        for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
            check_line(&dbc, line, pass == 0);
        free(text);
    }
    dbc_free(&dbc);
    return 0;
}
