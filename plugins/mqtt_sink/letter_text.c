/* letter_text.c - see letter_text.h. */
#include "letter_text.h"

#include <stdio.h>

bool letter_replaces(const char *name, enum letter letter)
{
    if (strncmp(name, "user.", 5) != 0)
        return false;
    return letter_header(name + 5) < LETTER_HEADERS || (letter != LETTER_WHOLE && strcmp(name + 5, "fms.payload") == 0);
}

/* The bytes of the character that stands there, 0: none that MQTT takes. */
static size_t character(const char *text, size_t size)
{
    for (size_t n = 1; n <= 4 && n <= size; n++) {
        if (mqtt_is_text(text, n))
            return n;
    }
    return 0;
}

size_t letter_topic(struct fms_bytes topic, char *to)
{
    const char *from = topic.data;
    size_t size = 0;

    while (size < topic.size) {
        size_t n = character(from + size, topic.size - size);
        bool is_good = n > 0 && from[size] != '+' && from[size] != '#' && (size > 0 || from[size] != '$');

        if (size + n > 65535 || size == 65535)
            break;
        memcpy(to + size, is_good ? from + size : "_", is_good ? n : 1);
        size += is_good ? n : 1;
    }
    if (size == 0)
        to[size++] = '_';
    to[size] = '\0';
    return size;
}

size_t letter_cut(const char *text, size_t size, size_t most)
{
    if (size <= most)
        return size;
    while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80)
        most--;
    return most;
}

struct fms_bytes letter_text(struct fms_bytes value, size_t most, char *to)
{
    const char *from = value.data;
    size_t size = 0, n;

    if (value.size <= most && mqtt_is_text(from, value.size))
        return value;
    most = most < LETTER_VALUE - 8 ? most : LETTER_VALUE - 8;
    for (size_t i = 0; i < value.size && size<most; i += n> 0 ? n : 1) {
        n = character(from + i, value.size - i);
        if (n > 0)
            memcpy(to + size, from + i, n);
        size += n > 0 ? n : (size_t)snprintf(to + size, 5, "\\x%02x", (unsigned char)from[i]);
    }
    return fms_bytes_of(to, size);
}
