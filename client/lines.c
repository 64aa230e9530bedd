/* lines.c - see lines.h. */
#include "lines.h"

#include <stdlib.h>
#include <string.h>

static bool append(struct lines *lines, const char *text, size_t size)
{
    if (size > lines->most || lines->size > lines->most - size)
        return false;
    if (lines->size + size > lines->capacity) {
        size_t capacity = 2 * (lines->size + size);
        char *grown = realloc(lines->text, capacity);

        if (grown == NULL)
            return false;
        lines->text = grown;
        lines->capacity = capacity;
    }
    if (size > 0)
        memcpy(lines->text + lines->size, text, size);
    lines->size += size;
    return true;
}

bool lines_feed(struct lines *lines, const char *text, size_t size)
{
    const char *end;

    while ((end = memchr(text, '\n', size)) != NULL) {
        size_t n = (size_t)(end - text);

        if (!append(lines, text, n) || !lines->got(lines->user, lines->text, lines->size))
            return false;
        lines->size = 0;
        text = end + 1;
        size -= n + 1;
    }
    return append(lines, text, size);
}

void lines_free(struct lines *lines)
{
    free(lines->text);
    lines->text = NULL;
    lines->size = lines->capacity = 0;
}
