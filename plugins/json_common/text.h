/* text.h - what the transforms of JSON payloads share besides numbers: a buffer, and text that may be anything. */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H

#include <fms_plugin.h>

/* Kept from record to record; grows to what the largest needed. Begins zeroed; free(buffer.data). */
struct text_buffer {
    char *data;
    size_t capacity;
};

/* Makes room for so many bytes and keeps what is in there. False: no memory. */
bool text_reserve(struct text_buffer *buffer, size_t size);

/* The bytes of the UTF-8 character at `at` (RFC 3629); 0: there is no well-formed one. */
size_t text_character(const char *at, const char *end);

/* A value for a message: at most some 40 bytes of it, and ? for what cannot be printed. Not for keeping. */
#define TEXT_SHOWN 48
struct text_shown {
    char text[TEXT_SHOWN];
};
struct text_shown text_show(struct fms_bytes value);

#endif
