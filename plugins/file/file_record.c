/* file_record.c - see file_record.h.
 *
 *     {"topic":BYTES,"key":BYTES,"timestamp_ns":0,"headers":[[BYTES,BYTES],...],"payload":BYTES}
 *
 * BYTES is a string where they are valid UTF-8, else {"base64":"..."}. What is absent is left out; as the value of a
 * header it is null, which stands for absent everywhere when read. */
#include "file_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool file_text_reserve(struct file_text *text, size_t more)
{
    size_t capacity = text->capacity == 0 ? 4096 : text->capacity;
    char *grown;

    if (text->capacity - text->size >= more)
        return true;
    while (capacity - text->size < more)
        capacity *= 2;
    grown = realloc(text->data, capacity);
    if (grown == NULL)
        return false;
    text->data = grown;
    text->capacity = capacity;
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- base64 */

/* RFC 4648, section 4: with padding, and nothing but its alphabet. */
static void base64_encode(struct fms_bytes from, char *to)
{
    const unsigned char *bytes = from.data;

    for (size_t i = 0; i < from.size; i += 3) {
        size_t n = from.size - i < 3 ? from.size - i : 3;
        uint32_t three = (uint32_t)bytes[i] << 16 | (n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (n > 2 ? bytes[i + 2] : 0);

        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = n > 1 ? digits[three >> 6 & 63] : '=';
        *to++ = n > 2 ? digits[three & 63] : '=';
    }
}

/* How many bytes were written to `to`; -1: it is no base64. */
static long base64_decode(const char *from, size_t size, char *to)
{
    const char *start = to;

    if (size % 4 != 0)
        return -1;
    for (size_t i = 0; i < size; i += 4) {
        bool is_last = i + 4 == size;
        size_t n = is_last && from[i + 3] == '=' ? (from[i + 2] == '=' ? 2 : 3) : 4;
        uint32_t three = 0;

        for (size_t k = 0; k < 4; k++) {
            const char *digit = k < n ? memchr(digits, from[i + k], 64) : digits;

            if (digit == NULL)
                return -1;
            three = three << 6 | (uint32_t)(digit - digits);
        }
        if ((three & (n == 2 ? 0xffff : n == 3 ? 0xff : 0)) != 0)
            return -1; /* bits that stand for nothing: a second spelling of the same bytes */
        for (size_t k = 0; k + 1 < n; k++)
            *to++ = (char)(three >> (16 - 8 * k));
    }
    return (long)(to - start);
}

/* ------------------------------------------------------------------------------------------------------------ write */

static json_t *json_of_base64(struct fms_bytes bytes)
{
    size_t size = (bytes.size + 2) / 3 * 4;
    char *text = malloc(size + 1);
    json_t *json = NULL;

    if (text == NULL)
        return NULL;
    base64_encode(bytes, text);
    json = json_pack("{s:o}", "base64", json_stringn_nocheck(text, size));
    free(text);
    return json;
}

static json_t *json_of(struct fms_bytes bytes)
{
    json_t *json;

    if (bytes.data == NULL)
        return json_null();
    json = json_stringn(bytes.data, bytes.size);
    return json != NULL ? json : json_of_base64(bytes);
}

static json_t *json_of_headers(const struct fms_record *record)
{
    json_t *headers = json_array();

    for (size_t i = 0; i < record->header_count; i++) {
        const struct fms_header *header = &record->headers[i];
        json_t *pair = json_pack("[o,o]", json_of(fms_text(header->name)), json_of(header->value));

        if (json_array_append_new(headers, pair) != 0) {
            json_decref(headers);
            return NULL;
        }
    }
    return headers;
}

/* Sets a member, unless it is absent. False: no memory. */
static bool json_add(json_t *root, const char *name, struct fms_bytes bytes)
{
    return bytes.data == NULL || json_object_set_new_nocheck(root, name, json_of(bytes)) == 0;
}

static json_t *json_of_record(const struct fms_record *record)
{
    json_t *root = json_object();

    if (root != NULL && json_add(root, "topic", record->topic) && json_add(root, "key", record->key) &&
        json_object_set_new_nocheck(root, "timestamp_ns", json_integer(record->timestamp)) == 0 &&
        (record->header_count == 0 || json_object_set_new_nocheck(root, "headers", json_of_headers(record)) == 0) &&
        json_add(root, "payload", record->payload))
        return root;
    json_decref(root);
    return NULL;
}

int file_record_write(const struct fms_record *record, struct file_text *to)
{
    json_t *root = json_of_record(record);
    size_t size = 1, room = 0;

    while (root != NULL && size > room && file_text_reserve(to, size)) {
        room = to->capacity - to->size;
        size = json_dumpb(root, to->data + to->size, room, JSON_COMPACT);
    }
    json_decref(root);
    if (size == 0 || size > room)
        return -ENOMEM;
    to->size += size;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- read */

static bool record_read_base64(struct file_record_reader *reader, const json_t *json, struct fms_bytes *bytes)
{
    const json_t *text = json_object_get(json, "base64");
    char *to = reader->decoded.data + reader->decoded.size;
    long size;

    if (json_object_size(json) != 1 || !json_is_string(text))
        return false;
    size = base64_decode(json_string_value(text), json_string_length(text), to);
    if (size < 0)
        return false;
    to[size] = '\0';
    *bytes = fms_bytes_of(to, (size_t)size);
    reader->decoded.size += (size_t)size + 1;
    return true;
}

/* Missing and null are absent. False: it is neither these nor text nor base64. */
static bool record_read_bytes(struct file_record_reader *reader, const json_t *json, struct fms_bytes *bytes)
{
    *bytes = fms_bytes_of(NULL, 0);
    if (json == NULL || json_is_null(json))
        return true;
    if (json_is_object(json))
        return record_read_base64(reader, json, bytes);
    if (!json_is_string(json))
        return false;
    *bytes = fms_bytes_of(json_string_value(json), json_string_length(json));
    return true;
}

static const char *record_read_headers(struct file_record_reader *reader, const json_t *headers,
                                       struct fms_record *draft)
{
    if (headers == NULL || json_is_null(headers))
        return NULL;
    if (!json_is_array(headers))
        return "\"headers\" is no array";
    if (json_array_size(headers) > FILE_RECORD_HEADERS_MAX)
        return "it has more than 1000 headers";
    draft->headers = reader->headers;
    draft->header_count = json_array_size(headers);
    for (size_t i = 0; i < draft->header_count; i++) {
        const json_t *pair = json_array_get(headers, i);
        struct fms_bytes name;

        if (!json_is_array(pair) || json_array_size(pair) != 2 ||
            !record_read_bytes(reader, json_array_get(pair, 0), &name) ||
            !record_read_bytes(reader, json_array_get(pair, 1), &reader->headers[i].value))
            return "a header is not [name, value]";
        if (name.data == NULL || memchr(name.data, '\0', name.size) != NULL)
            return "the name of a header is absent or has a NUL in it";
        reader->headers[i].name = name.data;
    }
    return NULL;
}

static const char *record_read_members(struct file_record_reader *reader, struct fms_record *draft)
{
    const json_t *topic = NULL, *key = NULL, *payload = NULL, *headers = NULL, *time = NULL;
    json_error_t error;

    if (json_unpack_ex(reader->root, &error, JSON_STRICT, "{s?o s?o s?o s?o s?o}", "topic", &topic, "key", &key,
                       "timestamp_ns", &time, "headers", &headers, "payload", &payload) != 0) {
        snprintf(reader->wrong, sizeof reader->wrong,
                 "%s; a record has topic, key, timestamp_ns, headers and payload, each of which may be left out",
                 error.text);
        return reader->wrong;
    }
    if (!record_read_bytes(reader, topic, &draft->topic))
        return "\"topic\" is neither text nor {\"base64\":\"...\"}";
    if (!record_read_bytes(reader, key, &draft->key))
        return "\"key\" is neither text nor {\"base64\":\"...\"}";
    if (!record_read_bytes(reader, payload, &draft->payload))
        return "\"payload\" is neither text nor {\"base64\":\"...\"}";
    if (time != NULL && !json_is_integer(time))
        return "\"timestamp_ns\" is no integer";
    if (time != NULL)
        draft->timestamp = json_integer_value(time);
    return record_read_headers(reader, headers, draft);
}

const char *file_record_read(struct file_record_reader *reader, struct fms_bytes line, int64_t now,
                             struct fms_record *draft)
{
    json_error_t error;

    *draft = (struct fms_record){.timestamp = now};
    json_decref(reader->root);
    reader->root = json_loadb(line.data, line.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (reader->root == NULL) {
        snprintf(reader->wrong, sizeof reader->wrong, "no JSON: %s (at byte %d of the line)", error.text,
                 error.position);
        return reader->wrong;
    }
    reader->decoded.size = 0;
    if (!file_text_reserve(&reader->decoded, line.size + 1)) /* what is decoded is shorter, its NUL bytes included */
        return "there is no memory for it";
    return record_read_members(reader, draft);
}

void file_record_reader_free(struct file_record_reader *reader)
{
    json_decref(reader->root);
    free(reader->decoded.data);
}
