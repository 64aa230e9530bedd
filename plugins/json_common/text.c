/* text.c - see text.h. */
#include "text.h"

#include <stdlib.h>

bool text_reserve(struct text_buffer *buffer, size_t size)
{
    size_t capacity = buffer->capacity == 0 ? 256 : buffer->capacity;
    char *data;

    if (size <= buffer->capacity)
        return true;
    while (capacity < size)
        capacity = capacity <= SIZE_MAX / 2 ? 2 * capacity : size;
    data = realloc(buffer->data, capacity);
    if (data == NULL)
        return false;
    *buffer = (struct text_buffer){data, capacity};
    return true;
}

/* The lowest and highest second byte that may follow this first one: overlong forms, surrogates, beyond U+10FFFF. */
static bool text_second_fits(unsigned char first, unsigned char second)
{
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

    return second >= low && second <= high;
}

size_t text_character(const char *at, const char *end)
{
    const unsigned char *c = (const unsigned char *)at;
    size_t size = at == end ? 0 : *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;

    if (size <= 1)
        return size;
    if (size > (size_t)(end - at) || !text_second_fits(c[0], c[1]))
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

struct text_shown text_show(struct fms_bytes value)
{
    const char *at = value.data, *end = at + value.size;
    struct text_shown shown;
    size_t used = 0;

    while (at < end && used < TEXT_SHOWN - 8) {
        size_t size = text_character(at, end);
        bool is_printable = size > 1 || (size == 1 && *at >= 0x20 && *at != 0x7f);

        if (is_printable)
            memcpy(shown.text + used, at, size);
        else
            shown.text[used] = '?';
        used += is_printable ? size : 1;
        at += size > 0 ? size : 1;
    }
    strcpy(shown.text + used, at < end ? "..." : "");
    return shown;
}
