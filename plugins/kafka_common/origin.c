/* origin.c - see origin.h. */
#include "origin.h"

#include <inttypes.h>
#include <stdio.h>

#define PREFIX "kafka:"

size_t kafka_origin_write(const struct kafka_origin *origin, char text[KAFKA_ORIGIN_TEXT])
{
    bool is_plain = origin->cluster.size > 0 && memchr(origin->cluster.data, '/', origin->cluster.size) == NULL;
    int size = snprintf(text, KAFKA_ORIGIN_TEXT, PREFIX "%.*s/%016" PRIx64 "/%" PRId32 "/%.*s",
                        is_plain ? (int)origin->cluster.size : 0, is_plain ? (const char *)origin->cluster.data : "",
                        origin->word, origin->partition, (int)origin->topic.size, (const char *)origin->topic.data);

    return size < KAFKA_ORIGIN_TEXT ? (size_t)size : 0;
}

/* What stands before the next slash, behind which *rest begins then. False: there is none. */
static bool take_part(struct fms_bytes *rest, struct fms_bytes *part)
{
    const char *slash = rest->size > 0 ? memchr(rest->data, '/', rest->size) : NULL;

    if (slash == NULL)
        return false;
    *part = fms_bytes_of(rest->data, (size_t)(slash - (const char *)rest->data));
    *rest = fms_bytes_of(slash + 1, rest->size - part->size - 1);
    return true;
}

/* Without sign or blanks, of as many digits as there are. */
static bool read_number(struct fms_bytes text, unsigned base, uint64_t most, uint64_t *number)
{
    static const char digits[] = "0123456789abcdef";

    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        const char *digit = memchr(digits, ((const char *)text.data)[i], base);

        if (digit == NULL || *number > (most - (uint64_t)(digit - digits)) / base)
            return false;
        *number = *number * base + (uint64_t)(digit - digits);
    }
    return text.size > 0;
}

bool kafka_origin_read(struct fms_bytes text, struct kafka_origin *origin)
{
    size_t prefix = strlen(PREFIX);
    struct fms_bytes rest, word, partition;
    uint64_t number;

    if (text.size < prefix || memcmp(text.data, PREFIX, prefix) != 0)
        return false;
    rest = fms_bytes_of((const char *)text.data + prefix, text.size - prefix);
    if (!take_part(&rest, &origin->cluster) || !take_part(&rest, &word) || !take_part(&rest, &partition) ||
        rest.size == 0 || !read_number(word, 16, UINT64_MAX, &origin->word) ||
        !read_number(partition, 10, INT32_MAX, &number))
        return false;
    origin->partition = (int32_t)number;
    origin->topic = rest;
    return true;
}
