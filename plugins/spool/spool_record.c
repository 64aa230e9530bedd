/* spool_record.c - see spool_record.h.
 *
 *     entry    = version (1 byte) header-count (2) timestamp (8) [era (4)] [identity] topic key payload header*
 *     identity = sequence (8) skipped (8) origin
 *     header   = name value
 *     origin, topic, key, payload, name, value = size + 1 (4 bytes; 0: absent) bytes... and a NUL byte for a name
 *
 * Numbers are little-endian. A value of version 4 is a pack of such entries: see spool_pack.h. Version 2 has an era, 3 an era, which may be 0, and an identity, and 1 neither: so a fmspipe that knows no eras, or
 * no identities, refuses only what it would hand on with a wrong time, or as another one's. */
#include "spool_record.h"

#define VERSION               1
#define VERSION_WITH_ERA      2
#define VERSION_WITH_IDENTITY 3
#define HEAD_SIZE             (1 + 2 + 8)
#define ERA_SIZE              4u
#define NUMBERS_SIZE          (8u + 8u)

static unsigned char *put(unsigned char *to, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *to++ = (unsigned char)(number >> 8 * i);
    return to;
}

static unsigned char *put_bytes(unsigned char *to, struct fms_bytes bytes)
{
    to = put(to, bytes.data != NULL ? bytes.size + 1 : 0, 4);
    if (bytes.data != NULL && bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return to + bytes.size;
}

/* With its NUL byte, so that it can be used where it stands. */
static struct fms_bytes name_of(const struct fms_header *header)
{
    return fms_bytes_of(header->name, strlen(header->name) + 1);
}

const struct fms_identity *spool_record_identity(const struct fms_record *record)
{
    const struct fms_identity *identity = record->identity;

    return identity != NULL && identity->kind == FMS_NUMBERED && identity->part == 0 ? identity : NULL;
}

size_t spool_record_size(const struct fms_record *record, uint32_t era, const struct fms_identity *identity)
{
    size_t size = HEAD_SIZE + 3 * 4 + record->topic.size + record->key.size + record->payload.size;

    if (era != 0 || identity != NULL)
        size += ERA_SIZE + (identity != NULL ? NUMBERS_SIZE + 4 + identity->origin.size : 0);
    for (size_t i = 0; i < record->header_count; i++)
        size += 2 * 4 + name_of(&record->headers[i]).size + record->headers[i].value.size;
    return size;
}

/* What few records have, and none of the others is to pay for. */
__attribute__((noinline)) static unsigned char *put_more(unsigned char *at, uint32_t era,
                                                         const struct fms_identity *identity)
{
    at = put(at, era, ERA_SIZE);
    if (identity == NULL)
        return at;
    at = put(at, identity->sequence, 8);
    at = put(at, identity->skipped, 8);
    return put_bytes(at, identity->origin);
}

void spool_record_write(const struct fms_record *record, uint32_t era, const struct fms_identity *identity, void *to)
{
    bool has_more = era != 0 || identity != NULL;
    unsigned char *at = put(to, !has_more ? VERSION : identity == NULL ? VERSION_WITH_ERA : VERSION_WITH_IDENTITY, 1);

    at = put(at, record->header_count, 2);
    at = put(at, (uint64_t)record->timestamp, 8);
    if (has_more)
        at = put_more(at, era, identity);
    at = put_bytes(at, record->topic);
    at = put_bytes(at, record->key);
    at = put_bytes(at, record->payload);
    for (size_t i = 0; i < record->header_count; i++) {
        at = put_bytes(at, name_of(&record->headers[i]));
        at = put_bytes(at, record->headers[i].value);
    }
}

struct reader {
    const unsigned char *at;
    size_t left;
    bool is_short;
};

static uint64_t get(struct reader *reader, size_t size)
{
    uint64_t number = 0;

    if (reader->left < size) {
        reader->is_short = true;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        number |= (uint64_t)reader->at[i] << 8 * i;
    reader->at += size;
    reader->left -= size;
    return number;
}

static struct fms_bytes get_bytes(struct reader *reader)
{
    uint64_t size = get(reader, 4);
    struct fms_bytes bytes = {NULL, 0};

    if (size == 0)
        return bytes;
    if (reader->left < size - 1) {
        reader->is_short = true;
        return bytes;
    }
    bytes = fms_bytes_of(reader->at, (size_t)size - 1);
    reader->at += bytes.size;
    reader->left -= bytes.size;
    return bytes;
}

static bool is_version(uint64_t version)
{
    return version >= VERSION && version <= VERSION_WITH_IDENTITY;
}

bool spool_record_is_known(struct fms_bytes from)
{
    return from.size == 0 || is_version(*(const unsigned char *)from.data);
}

int64_t spool_record_time(struct fms_bytes from)
{
    struct reader reader = {from.data, from.size, false};
    bool is_known = is_version(get(&reader, 1));
    int64_t time;

    get(&reader, 2);
    time = (int64_t)get(&reader, 8);
    return is_known && !reader.is_short ? time : 0;
}

uint32_t spool_record_era(struct fms_bytes from)
{
    struct reader reader = {from.data, from.size, false};
    uint64_t version = get(&reader, 1);

    if (version == VERSION || !is_version(version))
        return 0;
    get(&reader, HEAD_SIZE - 1 - 8);
    get(&reader, 8);
    return (uint32_t)get(&reader, ERA_SIZE);
}

/* NULL, or what is wrong with it. */
static const char *read_identity(struct reader *reader, struct fms_identity *identity)
{
    identity->sequence = get(reader, 8);
    identity->skipped = get(reader, 8);
    identity->origin = get_bytes(reader);
    return identity->origin.size == 0 || identity->origin.size > FMS_ORIGIN_MOST ||
                   identity->skipped > identity->sequence
               ? "its identity is malformed"
               : NULL;
}

const char *spool_record_read(struct fms_bytes from, struct fms_header *headers, struct fms_identity *identity,
                              struct fms_record *draft)
{
    struct reader reader = {from.data, from.size, false};
    uint64_t version = get(&reader, 1);
    const char *wrong = NULL;

    *draft = (struct fms_record){.headers = headers};
    if (!is_version(version))
        return "it has no version";
    draft->header_count = (size_t)get(&reader, 2);
    draft->timestamp = (int64_t)get(&reader, 8);
    if (version != VERSION)
        get(&reader, ERA_SIZE);
    if (version == VERSION_WITH_IDENTITY) {
        *identity = (struct fms_identity){.kind = FMS_NUMBERED};
        wrong = read_identity(&reader, identity);
        draft->identity = wrong == NULL ? identity : NULL;
    }
    draft->topic = get_bytes(&reader);
    draft->key = get_bytes(&reader);
    draft->payload = get_bytes(&reader);
    if (draft->header_count > SPOOL_HEADERS_MAX)
        return "it has too many headers";
    for (size_t i = 0; i < draft->header_count; i++) {
        struct fms_bytes name = get_bytes(&reader);

        headers[i].value = get_bytes(&reader);
        headers[i].name = name.data;
        if (name.size == 0 || memchr(name.data, '\0', name.size) != (const char *)name.data + name.size - 1)
            return "a header's name is malformed";
    }
    return reader.is_short || reader.left > 0 ? "its lengths do not add up" : wrong;
}
