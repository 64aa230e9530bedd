/* odd.c - see odd.h. */
#include "odd.h"

#include <string.h>

#include "messages.h"

#define USER_PROPERTY 0x26
#define FILLER        65000u /* bytes of a user property that fills up */

/* A piece of text that may hold NUL. */
#define TEXT(literal) literal, sizeof literal - 1

struct odd {
    const char *topic;
    size_t topic_size;
    const char *properties; /* as they stand on the wire; then so many user properties of FILLER bytes */
    size_t properties_size;
    unsigned fill;
    const char *payload;
    size_t payload_size, blanks; /* and so many blanks behind it */
};

#define GOOD TEXT("{\"vehicle_id\":\"odd\",\"speed\":1.5,\"rpm\":800,\"fuel_level\":50.5}")

static const struct odd odds[ODD_KINDS] = {
    {TEXT("fms/\xff\xfe/data"), TEXT(""), 0, GOOD, 0},                              /* a topic that is no UTF-8 */
    {TEXT("fms/\0/data"), TEXT(""), 0, GOOD, 0},                                    /* one with NUL */
    {TEXT("fms/+/data"), TEXT(""), 0, GOOD, 0},                                     /* one with a wildcard */
    {TEXT(""), TEXT(""), 0, GOOD, 0},                                               /* none, and no alias */
    {TEXT("fms/odd/data"), TEXT("\x26\0\3a\0b\0\1c"), 0, GOOD, 0},                  /* a property whose name has NUL */
    {TEXT("fms/odd/data"), TEXT(""), 350, GOOD, 0},                                 /* 22.7 MB of user properties */
    {TEXT("fms/odd/data"), TEXT(""), 257, GOOD, 0},                                 /* 16.7 MB: just below 16 MiB */
    {TEXT("fms/odd/data"), TEXT(""), 0, TEXT("{\"vehicle_id\":\"odd\"}"), 3000000}, /* more than Kafka takes */
    {TEXT("fms/odd/data"), TEXT("\1\2\x8\0\3a/+"), 0, TEXT("no JSON"), 0},          /* odd values, and no JSON */
    {TEXT("fms/odd/data"), TEXT(""), 0, TEXT(""), 0},                               /* no payload */
    {TEXT("fms/odd/data"), TEXT("\1\2"), 0, GOOD, 0},                               /* a payload format that is none */
    {TEXT("fms/odd/data"), TEXT("\x8\0\3a/+"), 0, GOOD, 0}, /* a response topic with a wildcard */
};

static unsigned char *put_bytes(unsigned char *to, const void *bytes, size_t size)
{
    memcpy(to, bytes, size);
    return to + size;
}

static unsigned char *put_two(unsigned char *to, size_t value)
{
    *to++ = (unsigned char)(value >> 8);
    *to++ = (unsigned char)value;
    return to;
}

static unsigned char *put_filler(unsigned char *to)
{
    *to++ = USER_PROPERTY;
    to = put_bytes(put_two(to, 1), "p", 1);
    to = put_two(to, FILLER);
    memset(to, 'x', FILLER);
    return to + FILLER;
}

size_t odd_write(unsigned kind, uint16_t id, unsigned char *to)
{
    const struct odd *odd = &odds[kind];
    size_t properties = odd->properties_size + odd->fill * (size_t)(6 + FILLER);
    unsigned char length[4], *at = to;
    size_t length_size = messages_write_length(length, properties);
    size_t variable = 2 + odd->topic_size + 2 + length_size + properties;

    *at++ = 0x32; /* PUBLISH at QoS 1 */
    at += messages_write_length(at, variable + odd->payload_size + odd->blanks);
    at = put_bytes(put_two(at, odd->topic_size), odd->topic, odd->topic_size);
    at = put_two(at, id);
    at = put_bytes(at, length, length_size);
    at = put_bytes(at, odd->properties, odd->properties_size);
    for (unsigned i = 0; i < odd->fill; i++)
        at = put_filler(at);
    at = put_bytes(at, odd->payload, odd->payload_size);
    memset(at, ' ', odd->blanks);
    return (size_t)(at + odd->blanks - to);
}
