/* events.c - see events.h. */
#include "events.h"

#include <stdlib.h>
#include <string.h>

static bool append(struct events_text *to, size_t most, const char *text, size_t size)
{
    if (size > most || to->size > most - size)
        return false;
    if (to->size + size > to->capacity) {
        size_t capacity = 2 * (to->size + size);
        char *grown = realloc(to->text, capacity);

        if (grown == NULL)
            return false;
        to->text = grown;
        to->capacity = capacity;
    }
    if (size > 0)
        memcpy(to->text + to->size, text, size);
    to->size += size;
    return true;
}

/* A line without its end: an empty one ends an event; others than data are passed over. */
static bool take_line(struct events *events, const char *line, size_t size)
{
    static const char name[] = "data:";
    size_t n = strlen(name);

    if (size > 0 && line[size - 1] == '\r')
        size--;
    if (size == 0) {
        if (events->data.size > 0)
            events->got(events->user, events->data.text, events->data.size);
        events->data.size = 0;
        return true;
    }
    if (size < n || memcmp(line, name, n) != 0)
        return true;
    n += size > n && line[n] == ' ';
    return (events->data.size == 0 || append(&events->data, events->most, "\n", 1)) &&
           append(&events->data, events->most, line + n, size - n);
}

bool events_feed(struct events *events, const char *text, size_t size)
{
    const char *end;

    while ((end = memchr(text, '\n', size)) != NULL) {
        size_t n = (size_t)(end - text);

        if (!append(&events->line, events->most, text, n) || !take_line(events, events->line.text, events->line.size))
            return false;
        events->line.size = 0;
        text = end + 1;
        size -= n + 1;
    }
    return append(&events->line, events->most, text, size);
}

void events_reset(struct events *events)
{
    events->line.size = events->data.size = 0;
}

void events_free(struct events *events)
{
    free(events->line.text);
    free(events->data.text);
}
