/* lines.h - a stream of bytes, line by line. */
#ifndef FMS_LINES_H
#define FMS_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
    bool (*got)(void *user, const char *line, size_t size); /* without its end; false: no more */
    void *user;
    size_t most; /* bytes of a line */
    char *text;  /* of the line that is not whole yet */
    size_t size, capacity;
};

/* More of the stream; false: a line of more than `most`, no memory, or `got` said so. */
bool lines_feed(struct lines *lines, const char *text, size_t size);
void lines_free(struct lines *lines);

#endif
