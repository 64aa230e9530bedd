/* passing.c - see passing.h. */
#include "passing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "text.h"

/* ---------------------------------------------------------------------------------------------------------- reading */

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *digit = c != '\0' ? strchr(digits, c) : NULL;

    return digit != NULL ? (int)(digit - digits) : -1;
}

/* RFC 4648; what stands behind its end, or is none, is passed over. */
static struct fms_bytes decode(struct passing *passing, const char *text)
{
    size_t n = strlen(text), size = 0;
    unsigned char *to = malloc(n / 4 * 3 + 4);
    unsigned bits = 0, held = 0;
    int digit;

    if (to == NULL || passing->decoded_count == sizeof passing->decoded / sizeof *passing->decoded) {
        free(to);
        return fms_bytes_of(NULL, 0);
    }
    for (; (digit = digit_of(*text)) >= 0; text++) {
        bits = bits << 6 | (unsigned)digit;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        to[size++] = (unsigned char)(bits >> held);
    }
    to[size] = '\0';
    passing->decoded[passing->decoded_count++] = to;
    return fms_bytes_of(to, size);
}

/* The text of that name, or what `name`_base64 says; NULL where there is neither. */
static struct fms_bytes bytes_of(struct passing *passing, const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);
    char encoded[40];

    if (json_is_string(text))
        return fms_bytes_of(json_string_value(text), json_string_length(text));
    snprintf(encoded, sizeof encoded, "%s_base64", name);
    text = json_object_get(object, encoded);
    return json_is_string(text) ? decode(passing, json_string_value(text)) : fms_bytes_of(NULL, 0);
}

static void read_headers(struct passing *passing, const json_t *headers)
{
    const json_t *header;
    size_t i, n = 0;

    json_array_foreach(headers, i, header)
    {
        const char *name = json_string_value(json_object_get(header, "name"));

        if (name == NULL || n == PASSING_HEADERS)
            continue;
        passing->headers[n++] = (struct fms_header){name, bytes_of(passing, header, "value")};
    }
    passing->record.headers = passing->headers;
    passing->record.header_count = n;
}

bool passing_read(struct passing *passing, const json_t *line)
{
    double timestamp = json_number_value(json_object_get(line, "timestamp"));
    json_int_t size = json_integer_value(json_object_get(line, "payload_size"));

    passing->record = (struct fms_record){0};
    passing->decoded_count = 0;
    passing->record.topic = bytes_of(passing, line, "topic");
    passing->record.key = bytes_of(passing, line, "key");
    passing->record.payload = bytes_of(passing, line, "payload");
    passing->record.timestamp = timestamp > 0 && timestamp < 9e9 ? (int64_t)(timestamp * 1e9) : 0;
    passing->at = json_number_value(json_object_get(line, "time"));
    passing->payload_size = size > 0 ? (size_t)size : 0;
    passing->reason = json_string_value(json_object_get(line, "reason"));
    read_headers(passing, json_object_get(line, "headers"));
    return passing->record.topic.data != NULL;
}

void passing_clear(struct passing *passing)
{
    while (passing->decoded_count > 0)
        free(passing->decoded[--passing->decoded_count]);
}

/* ---------------------------------------------------------------------------------------------------------- showing */

/* At most as many bytes as the line could have columns are looked at, and some: a character takes four. */
static void put(FILE *to, const char *before, struct fms_bytes bytes, size_t columns)
{
    char clean[512];
    size_t most = bytes.size < 4 * columns ? bytes.size : 4 * columns, n;
    const char *at = bytes.data;

    if (at == NULL)
        return;
    fputs(before, to);
    while (most > 0 && (n = text_clean(at, most, clean, sizeof clean)) > 0) {
        fputs(clean, to);
        at += n;
        most -= n;
    }
}

static char *cut(char *text, size_t columns)
{
    size_t fits = columns, n = text_fit(text, &fits);

    if (text[n] != '\0' && columns >= 3) {
        fits = columns - 3;
        n = text_fit(text, &fits);
        memcpy(text + n, "...", strlen("...")); /* there are as many bytes at least */
        n += strlen("...");
    }
    text[n] = '\0';
    return text;
}

char *passing_text(const struct passing *passing, size_t columns)
{
    const struct fms_record *record = &passing->record;
    char *text = NULL, when[16];
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        return NULL;
    draw_time(passing->at, when, sizeof when);
    fprintf(to, "%s ", when);
    put(to, "", record->topic, columns);
    put(to, " key ", record->key, columns);
    if (record->header_count > 0)
        fprintf(to, " %zu header%s", record->header_count, record->header_count == 1 ? "" : "s");
    if (passing->reason != NULL)
        put(to, " REJECTED: ", fms_text(passing->reason), columns);
    if (passing->payload_size > record->payload.size)
        fprintf(to, " the first of %zu bytes:", passing->payload_size);
    put(to, "  ", record->payload, columns);
    return fclose(to) == 0 ? cut(text, columns) : text;
}
