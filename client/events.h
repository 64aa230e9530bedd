/* events.h - server-sent events, as the HTML standard has them, of which the data alone is looked at. */
#ifndef FMS_EVENTS_H
#define FMS_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

struct events {
    void (*got)(void *user, const char *data, size_t size); /* each event's */
    void *user;
    size_t most; /* bytes of a line, and of an event's data */
    struct events_text {
        char *text;
        size_t size, capacity;
    } line, data;
};

/* More of the stream; false: more than `most`, or no memory. */
bool events_feed(struct events *events, const char *text, size_t size);
/* The stream begins anew. */
void events_reset(struct events *events);
void events_free(struct events *events);

#endif
