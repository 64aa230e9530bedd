/* template.c - text with ${...}, as a list of parts.
 *
 * What depends on no record, ${env:} and ${file:} included, is folded into literals at compile time. A template that is one
 * reference gives the record's own bytes where a NUL byte follows them; everything else is put together in a buffer
 * that the template keeps.
 *
 * Choices: of several headers of one name the last counts. A default stands in for what is missing, not for what is
 * empty; only ${env:NAME:-default} takes an empty variable for a missing one, as shells do, and ${file:PATH:-default} an empty
 * file. A JSON null is missing. What replaces characters is a table of bytes; a character of several bytes is met by its first.
 * ${shard:12:...} is the shard of what stands behind the number, which is a reference of its own, default and all. */
#include "template.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "partition.h"
#include "secret.h"
#include "words.h"

enum part_kind {
    PART_LITERAL,
    PART_TOPIC,
    PART_LEVEL,
    PART_KEY,
    PART_PAYLOAD,
    PART_HEADER,
    PART_JSON,
    PART_SECONDS,
    PART_MILLISECONDS,
    PART_ENV, /* while compiling; a literal afterwards, and so is the next */
    PART_FILE,
    PART_SHARD, /* while compiling; a change of another part afterwards */
};

#define MAP_PAIRS 8  /* of characters and what replaces them, in a reference */
#define MAP_TEXT  15 /* bytes that replace a character */
#define SHARDS    100000

/* What replaces each character that begins with a byte. */
struct map {
    unsigned char place[256]; /* 0: it stays; else one more than a place in `with` */
    struct {
        unsigned char size;
        char text[MAP_TEXT];
    } with[MAP_PAIRS];
};

/* What becomes of a value before it is used: first its characters are replaced, then its shard takes its place. */
struct change {
    struct map *map; /* NULL: all characters stay; not for the fallback */
    uint32_t shards; /* 0: it stays; else it gives way to its shard, of so many */
};

struct part {
    enum part_kind kind;
    char *text; /* the literal; the name of a header; the path */
    size_t size;
    size_t capacity;       /* of a literal */
    unsigned number;       /* the level; the slot in the record's JSON cache */
    char *fallback;        /* NULL: none */
    struct change *change; /* NULL: it stays as it is */
};

struct scratch {
    char *data;
    size_t capacity;
};

struct fms_template {
    struct part *parts;
    size_t count;
    bool is_single; /* one part, which stays as it is: the value's own bytes will do */
    bool uses_json;
    bool uses_files;
    struct json_paths *paths;
    struct scratch *scratch;
};

/* ---------------------------------------------------------------------------------------------------------- compile */

struct reference {
    const char *word;
    enum part_kind kind;
    const char *argument; /* what must follow the word */
    const char *expected;
};

/* clang-format off */
static const struct reference references[] = {
    {"topic", PART_TOPIC, "", "${topic}, or ${topic[1]} for a level, counted from 0"},
    {"key", PART_KEY, "", "${key}"},
    {"payload", PART_PAYLOAD, "", "${payload}"},
    {"header", PART_HEADER, ":NAME", "the name of a header: ${header:NAME}"},
    {"json", PART_JSON, ":PATH", "a path: ${json:vehicle_id}, ${json:position.lat}, ${json:axles.0.load}"},
    {"timestamp", PART_SECONDS, "", "${timestamp}"},
    {"timestamp_ms", PART_MILLISECONDS, "", "${timestamp_ms}"},
    {"env", PART_ENV, ":NAME", "the name of an environment variable: ${env:NAME}"},
    {"shard", PART_SHARD, ":N:REFERENCE", "a number of shards, from 1 to 100000, and what to find the shard of: ${shard:12:json:vehicle_id}"},
    {"file", PART_FILE, ":PATH", "the path of a file: ${file:/run/secrets/NAME}"},
};
/* clang-format on */

#define REFERENCES (sizeof references / sizeof references[0])

struct compiler {
    struct fms_template *text;
    const struct environment *environment;
    struct json_paths *paths;
    const char *start; /* of the text */
    const char *at;    /* the ${ being compiled */
    char *error;
    size_t error_size;
};

/* A compile error at the reference in hand. */
static int template_fail(const struct compiler *c, const char *format, ...) FMS_PRINTF(2, 3);
static int template_fail(const struct compiler *c, const char *format, ...)
{
    size_t column = 1;
    size_t used;
    va_list args;

    for (const char *at = c->start; at < c->at; at++)
        column += (*at & 0xc0) != 0x80; /* characters, not bytes */
    used = (size_t)snprintf(c->error, c->error_size, "column %zu: ", column);
    if (used < c->error_size) {
        va_start(args, format);
        vsnprintf(c->error + used, c->error_size - used, format, args);
        va_end(args);
    }
    return -EINVAL;
}

static struct part *template_add(struct fms_template *text, enum part_kind kind)
{
    struct part *part;

    if (text->parts == NULL || (text->count & (text->count - 1)) == 0) { /* 0 or a power of two: full */
        size_t capacity = text->count == 0 ? 1 : 2 * text->count;
        struct part *parts = realloc(text->parts, capacity * sizeof *parts);

        if (parts == NULL)
            return NULL;
        text->parts = parts;
    }
    part = &text->parts[text->count++];
    *part = (struct part){.kind = kind};
    return part;
}

static int template_add_literal(struct fms_template *text, const char *literal, size_t size)
{
    struct part *part = text->count > 0 ? &text->parts[text->count - 1] : NULL;

    if (size == 0)
        return 0;
    if (part == NULL || part->kind != PART_LITERAL)
        part = template_add(text, PART_LITERAL);
    if (part == NULL)
        return -ENOMEM;
    if (part->capacity - part->size <= size) {
        size_t capacity = 2 * part->size + size + 1;
        char *grown = realloc(part->text, capacity);

        if (grown == NULL)
            return -ENOMEM;
        part->text = grown;
        part->capacity = capacity;
    }
    memcpy(part->text + part->size, literal, size);
    part->size += size;
    part->text[part->size] = '\0';
    return 0;
}

static int template_add_env(const struct compiler *c, const char *name, const char *fallback)
{
    const char *value = environment_get(c->environment, name);

    if (fallback != NULL && (value == NULL || *value == '\0'))
        value = fallback;
    if (value == NULL)
        return template_fail(c, "the environment variable %s is not set; set it, or write ${env:%s:-a default}", name,
                             name);
    return template_add_literal(c->text, value, strlen(value));
}

static int template_add_file(const struct compiler *c, const char *path, const char *fallback)
{
    char *text, why[512];
    int error = secret_read(path, &text, why, sizeof why);

    c->text->uses_files = true;
    error = error == -ENODATA ? -ENOENT : error;
    if (error == -ENOENT && fallback != NULL)
        return template_add_literal(c->text, fallback, strlen(fallback));
    if (error == -ENOENT)
        return template_fail(c, "%s; a default would be ${file:%s:-text}", why, path);
    if (error != 0)
        return error == -ENOMEM ? error : template_fail(c, "%s", why);
    error = template_add_literal(c->text, text, strlen(text));
    free(text);
    return error;
}

/* `inside` is cut behind its word. */
static int template_unknown(const struct compiler *c, char *inside)
{
    size_t length = strcspn(inside, ":[");
    const char *more = inside[length] == '\0' ? "" : ":...";
    const char *words[REFERENCES];
    const char *near;

    for (size_t i = 0; i < REFERENCES; i++)
        words[i] = references[i].word;
    inside[length] = '\0';
    near = words_nearest(inside, words, REFERENCES);
    for (size_t i = 0; i < REFERENCES; i++)
        if (near == words[i])
            return template_fail(c, "unknown reference ${%s%s}; did you mean ${%s%s}?", inside, more, near,
                                 *references[i].argument == '\0' ? "" : ":...");
    return template_fail(c,
                         "unknown reference ${%s%s}; known are ${topic}, ${topic[1]}, ${key}, ${payload}, "
                         "${header:NAME}, ${json:PATH}, ${timestamp}, ${timestamp_ms}, ${env:NAME}, ${file:PATH} and "
                         "${shard:N:...}; $${ stands for a literal ${",
                         inside, more);
}

/* "[3]" */
static bool template_level(const char *text, unsigned *level)
{
    size_t digits = strspn(text + 1, "0123456789");

    if (text[0] != '[' || digits == 0 || digits > 5 || strcmp(text + 1 + digits, "]") != 0)
        return false;
    *level = (unsigned)strtoul(text + 1, NULL, 10);
    return true;
}

/* "/", "a-z0-9", or "^a-z" for all others: those of them that no set before has are replaced by number `with`. */
static int template_map_set(const struct compiler *c, struct map *map, const char *set, size_t size, unsigned with)
{
    bool named[256] = {false}, others = size > 0 && *set == '^';

    if (size == others)
        return template_fail(c, "which characters are to be replaced? ${topic|/|.} replaces each / by a dot");
    for (size_t i = others; i < size; i++) {
        unsigned char first = (unsigned char)set[i], last = first;

        if (i + 2 < size && set[i + 1] == '-') {
            last = (unsigned char)set[i + 2];
            i += 2;
        }
        if (first >= 0x80 || last >= 0x80)
            return template_fail(c, "characters to replace are named in ASCII; ^ and those that stay mean all others");
        if (last < first)
            return template_fail(c, "a range in the set is empty; a - stands first or last in it");
        for (unsigned byte = first; byte <= last; byte++)
            named[byte] = true;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (named[byte] != others && map->place[byte] == 0)
            map->place[byte] = (unsigned char)(with + 1);
    }
    return 0;
}

/* NULL: no memory. */
static struct change *template_change(struct part *part)
{
    if (part->change == NULL)
        part->change = calloc(1, sizeof *part->change);
    return part->change;
}

/* "/|.|^a-z|_": sets of characters, and what replaces each of them. */
static int template_add_map(const struct compiler *c, struct part *part, const char *text)
{
    struct change *change = template_change(part);
    struct map *map = change != NULL ? calloc(1, sizeof *map) : NULL;

    if (map == NULL)
        return -ENOMEM;
    change->map = map;
    for (unsigned i = 0; text != NULL; i++) {
        size_t set = strcspn(text, "|"), size;
        const char *with = text + set + 1;
        int error;

        if (text[set] == '\0')
            return template_fail(c, "what replaces the characters? ${topic|/|.} replaces each / by a dot");
        size = strcspn(with, "|");
        if (i == MAP_PAIRS || size > MAP_TEXT)
            return template_fail(c, "a reference replaces at most %d sets of characters, each by at most %d bytes",
                                 MAP_PAIRS, MAP_TEXT);
        error = template_map_set(c, map, text, set, i);
        if (error != 0)
            return error;
        map->with[i].size = (unsigned char)size;
        memcpy(map->with[i].text, with, size);
        text = with[size] == '|' ? with + size + 1 : NULL;
    }
    return 0;
}

static bool template_variable(const char *name)
{
    if (*name == '\0' || isdigit((unsigned char)*name))
        return false;
    while (isalnum((unsigned char)*name) || *name == '_')
        name++;
    return *name == '\0';
}

/* Adds the reference with what follows its word, checked. */
static int template_add_reference(const struct compiler *c, const struct reference *reference, const char *argument,
                                  const char *map, const char *fallback)
{
    enum part_kind kind = reference->kind;
    unsigned number = 0;
    struct part *part;

    if (kind == PART_TOPIC && *argument == '[') {
        kind = PART_LEVEL;
        if (!template_level(argument, &number))
            return template_fail(c, "expected %s", reference->expected);
    } else if (*reference->argument == '\0' ? *argument != '\0' : argument[0] != ':' || argument[1] == '\0') {
        return template_fail(c, "expected %s", reference->expected);
    }
    if (*argument == ':')
        argument++;
    if ((kind == PART_ENV || kind == PART_FILE) && map != NULL)
        return template_fail(c, "characters are replaced in what a record has, not in ${%s:...}", reference->word);
    if (kind == PART_ENV)
        return template_variable(argument) ? template_add_env(c, argument, fallback)
                                           : template_fail(c, "expected %s", reference->expected);
    if (kind == PART_FILE)
        return template_add_file(c, argument, fallback);
    if (kind == PART_JSON) {
        int slot = json_paths_add(c->paths, argument);

        if (slot < 0)
            return slot == -EINVAL ? template_fail(c, "expected %s", reference->expected) : slot;
        number = (unsigned)slot;
    }
    part = template_add(c->text, kind);
    if (part == NULL)
        return -ENOMEM;
    c->text->uses_json = c->text->uses_json || kind == PART_JSON;
    part->number = number;
    part->text = strdup(argument);
    part->fallback = fallback == NULL ? NULL : strdup(fallback);
    if (part->text == NULL || (fallback != NULL && part->fallback == NULL))
        return -ENOMEM;
    return map != NULL ? template_add_map(c, part, map) : 0;
}

/* "12:json:vehicle_id": what stands in front of the reference, which begins at *rest then. 0: it is not so. */
static uint32_t template_shards(const char *text, char **rest)
{
    unsigned long shards = strtoul(text, rest, 10);

    if (!isdigit((unsigned char)*text) || **rest != ':' || shards > SHARDS)
        return 0;
    ++*rest;
    return (uint32_t)shards;
}

static int template_compile_reference(const struct compiler *c, char *inside);

/* `inside` is what stands behind "shard". */
static int template_compile_shard(const struct compiler *c, char *inside)
{
    uint32_t shards;
    char *rest;
    int error;

    if (*inside == '\0' || strncmp(inside, ":-", 2) == 0)
        return template_fail(c,
                             "there are no shards: set shards = N in [pipeline], or write the shard of what is meant,"
                             " as in ${shard:12:json:vehicle_id}");
    shards = *inside == ':' ? template_shards(inside + 1, &rest) : 0;
    if (shards == 0 || *rest == '\0')
        return template_fail(c,
                             "expected a number of shards, from 1 to %d, and what to find the shard of:"
                             " ${shard:12:json:vehicle_id}, ${shard:12:key}",
                             SHARDS);
    if (strncmp(rest, "env:", 4) == 0 || strncmp(rest, "shard", 5) == 0)
        return template_fail(c, "a shard is found of what a record has, such as ${shard:%u:key}", shards);
    error = template_compile_reference(c, rest);
    if (error == 0 && template_change(&c->text->parts[c->text->count - 1]) == NULL)
        error = -ENOMEM;
    if (error == 0)
        c->text->parts[c->text->count - 1].change->shards = shards;
    return error;
}

/* `inside` is what stands between the braces, ours to cut up. */
static int template_compile_reference(const struct compiler *c, char *inside)
{
    char *fallback, *map;
    size_t length = strcspn(inside, ":[");

    if (length == strlen("shard") && memcmp(inside, "shard", length) == 0)
        return template_compile_shard(c, inside + length);
    fallback = strstr(inside, ":-");
    if (fallback != NULL) {
        *fallback = '\0';
        fallback += 2;
        if (strstr(fallback, "${") != NULL)
            return template_fail(c, "a default is plain text and cannot hold another ${...}");
    }
    map = strchr(inside, '|');
    if (map != NULL)
        *map++ = '\0';
    length = strcspn(inside, ":[");
    for (size_t i = 0; i < REFERENCES; i++)
        if (strlen(references[i].word) == length && memcmp(inside, references[i].word, length) == 0)
            return template_add_reference(c, &references[i], inside + length, map, fallback);
    return template_unknown(c, inside);
}

static int template_compile_parts(struct compiler *c)
{
    const char *text = c->start;
    int error = 0;

    while (error == 0 && (c->at = strstr(text, "${")) != NULL) {
        bool literal = c->at > text && c->at[-1] == '$'; /* $${ */
        const char *end = c->at + 2;

        error = template_add_literal(c->text, text, (size_t)(c->at - text) - literal);
        if (error == 0 && literal) {
            error = template_add_literal(c->text, "${", 2);
        } else if (error == 0) {
            char *inside;

            end = strchr(c->at, '}');
            if (end == NULL)
                return template_fail(c, "${ without a closing }; $${ stands for a literal ${");
            inside = strndup(c->at + 2, (size_t)(end - c->at) - 2);
            error = inside == NULL ? -ENOMEM : template_compile_reference(c, inside);
            free(inside);
            end++;
        }
        text = end;
    }
    return error != 0 ? error : template_add_literal(c->text, text, strlen(text));
}

struct fms_template *template_compile(const char *text, const struct environment *environment, struct json_paths *paths,
                                      char *error, size_t size)
{
    struct compiler c = {.environment = environment, .paths = paths, .start = text, .error = error, .error_size = size};

    if (size > 0)
        *error = '\0';
    c.text = calloc(1, sizeof *c.text);
    if (c.text == NULL)
        return NULL;
    c.text->paths = paths;
    c.text->parts = calloc(1, sizeof *c.text->parts);
    c.text->scratch = calloc(1, sizeof *c.text->scratch);
    if (c.text->parts == NULL || c.text->scratch == NULL || template_compile_parts(&c) != 0) {
        template_free(c.text);
        return NULL;
    }
    c.text->is_single = c.text->count == 1 && c.text->parts[0].change == NULL;
    return c.text;
}

void template_free(struct fms_template *text)
{
    if (text == NULL)
        return;
    for (size_t i = 0; i < text->count; i++) {
        free(text->parts[i].text);
        free(text->parts[i].fallback);
        if (text->parts[i].change != NULL)
            free(text->parts[i].change->map);
        free(text->parts[i].change);
    }
    if (text->scratch != NULL)
        free(text->scratch->data);
    free(text->scratch);
    free(text->parts);
    free(text);
}

const char *template_constant(const struct fms_template *text)
{
    if (text->count == 0)
        return "";
    return text->count == 1 && text->parts[0].kind == PART_LITERAL ? text->parts[0].text : NULL;
}

bool template_uses_files(const struct fms_template *text)
{
    return text->uses_files;
}

/* ----------------------------------------------------------------------------------------------------------- expand */

/* What a part stands for. */
struct value {
    struct fms_bytes bytes; /* data == NULL: missing */
    bool terminated;        /* a NUL byte follows */
    bool escaped;           /* a JSON string with backslashes */
    char digits[24];
};

static bool template_reserve(struct scratch *scratch, size_t size)
{
    size_t capacity = scratch->capacity == 0 ? 64 : scratch->capacity;
    char *data;

    if (size < scratch->capacity)
        return true;
    while (capacity <= size)
        capacity *= 2;
    data = realloc(scratch->data, capacity);
    if (data == NULL)
        return false;
    scratch->data = data;
    scratch->capacity = capacity;
    return true;
}

static struct fms_bytes template_topic_level(struct fms_bytes topic, unsigned level)
{
    const char *start = topic.data == NULL ? "" : topic.data;
    const char *end = start + topic.size;
    const char *slash;

    while ((slash = memchr(start, '/', (size_t)(end - start))) != NULL && level > 0) {
        start = slash + 1;
        level--;
    }
    if (level > 0 || topic.data == NULL)
        return fms_bytes_of(NULL, 0);
    return fms_bytes_of(start, (size_t)((slash == NULL ? end : slash) - start));
}

static struct fms_bytes template_header(const struct fms_record *record, const char *name)
{
    for (size_t i = record->header_count; i-- > 0;)
        if (strcmp(record->headers[i].name, name) == 0)
            return record->headers[i].value;
    return fms_bytes_of(NULL, 0);
}

static void template_number(struct value *value, int64_t number)
{
    value->bytes = fms_bytes_of(value->digits,
                                (size_t)snprintf(value->digits, sizeof value->digits, "%" PRId64, number));
}

static void template_json(const struct fms_template *text, const struct part *part, const struct fms_record *record,
                          struct json_cache *cache, struct value *value)
{
    const struct json_slot *slot;

    if (cache == NULL || (json_find(text->paths, cache, record->payload) != 0 && cache->state != CACHE_ARRAY))
        return;
    slot = &cache->slots[part->number];
    if (slot->type <= FMS_JSON_NULL)
        return;
    value->bytes = fms_bytes_of((const char *)record->payload.data + slot->offset, slot->size);
    value->escaped = slot->escaped;
}

static void template_value(const struct fms_template *text, const struct part *part, const struct fms_record *record,
                           struct json_cache *cache, struct value *value)
{
    value->bytes = fms_bytes_of(NULL, 0);
    value->terminated = true;
    value->escaped = false;
    switch (part->kind) {
    case PART_LITERAL:
    case PART_ENV:
    case PART_SHARD:
    case PART_FILE:
        value->bytes = fms_bytes_of(part->text, part->size);
        break;
    case PART_TOPIC:
        value->bytes = record->topic;
        break;
    case PART_LEVEL:
        value->bytes = template_topic_level(record->topic, part->number);
        value->terminated = value->bytes.data != NULL && *((const char *)value->bytes.data + value->bytes.size) == '\0';
        break;
    case PART_KEY:
        value->bytes = record->key;
        break;
    case PART_PAYLOAD:
        value->bytes = record->payload;
        break;
    case PART_HEADER:
        value->bytes = template_header(record, part->text);
        break;
    case PART_JSON:
        value->terminated = false;
        template_json(text, part, record, cache, value);
        break;
    case PART_SECONDS:
    case PART_MILLISECONDS:
        value->terminated = false;
        if (record->timestamp != 0)
            template_number(value, record->timestamp / (part->kind == PART_SECONDS ? FMS_SECOND : FMS_MS));
        break;
    }
    if (value->bytes.data == NULL && part->fallback != NULL) {
        value->bytes = fms_text(part->fallback);
        value->terminated = true;
    }
}

/* Says what is missing, in the scratch buffer. */
static int template_missing(const struct fms_template *text, const struct part *part, const struct json_cache *cache,
                            struct fms_bytes *value)
{
    size_t size = strlen(part->text) + 160;
    char *out, why[JSON_WHY];

    if (!template_reserve(text->scratch, size))
        return -ENOMEM;
    out = text->scratch->data;
    if (part->kind == PART_LEVEL)
        snprintf(out, size, "the topic has no level %u", part->number);
    else if (part->kind == PART_HEADER)
        snprintf(out, size, "no header \"%s\"", part->text);
    else if (part->kind == PART_JSON && cache == NULL)
        snprintf(out, size, "there is no payload yet to take \"%s\" from", part->text);
    else if (part->kind == PART_JSON && cache->state != CACHE_OBJECT)
        snprintf(out, size, "the payload is no JSON object: %s", (json_why(cache, why, sizeof why), why));
    else if (part->kind == PART_JSON && cache->slots[part->number].type == FMS_JSON_NULL)
        snprintf(out, size, "the field \"%s\" is null in the payload", part->text);
    else if (part->kind == PART_JSON)
        snprintf(out, size, "no field \"%s\" in the payload", part->text);
    else
        snprintf(out, size, "the record has no %s",
                 part->kind == PART_TOPIC     ? "topic"
                 : part->kind == PART_KEY     ? "key"
                 : part->kind == PART_PAYLOAD ? "payload"
                                              : "timestamp");
    *value = fms_text(out);
    return -ENOENT;
}

/* The text with its characters replaced, into `to` unless that is NULL; its size. */
static size_t template_map(const struct map *map, const unsigned char *from, size_t size, char *to)
{
    size_t mapped = 0;

    for (size_t i = 0; i < size; i++) {
        unsigned place = map->place[from[i]];
        bool follows = i > 0 && (from[i] & 0xc0) == 0x80 &&
                       from[i - 1] >= 0x80; /* and was replaced with its first byte */
        const char *with = place == 0 ? (const char *)from + i : map->with[place - 1].text;
        size_t n = place == 0 ? 1 : follows ? 0 : map->with[place - 1].size;

        if (to != NULL)
            memcpy(to + mapped, with, n);
        mapped += n;
    }
    return mapped;
}

/* Replaces characters in what the buffer has from `start` to *end. False: out of memory. */
static bool template_replace(struct scratch *scratch, size_t start, size_t *end, const struct map *map)
{
    size_t mapped = template_map(map, (const unsigned char *)scratch->data + start, *end - start, NULL);

    if (!template_reserve(scratch, *end + mapped))
        return false;
    template_map(map, (const unsigned char *)scratch->data + start, *end - start, scratch->data + *end);
    memmove(scratch->data + start, scratch->data + *end, mapped);
    *end = start + mapped;
    return true;
}

/* Puts the shard of what the buffer has from `start` to *end in its place. False: out of memory. */
static bool template_put_shard(struct scratch *scratch, size_t start, size_t *end, uint32_t shards)
{
    char digits[12];
    int size = snprintf(digits, sizeof digits, "%" PRIu32,
                        partition_of(fms_bytes_of(scratch->data + start, *end - start), shards));

    *end = start + (size_t)size;
    if (!template_reserve(scratch, *end))
        return false;
    memcpy(scratch->data + start, digits, (size_t)size);
    return true;
}

/* Changes what the buffer has from `start` to *end. False: out of memory. Inlined, it would take registers from those who change
 * nothing. */
__attribute__((noinline)) static bool template_apply(struct scratch *scratch, size_t start, size_t *end,
                                                     const struct part *part, bool is_fallback)
{
    const struct change *change = part->change;

    return (change->map == NULL || is_fallback || template_replace(scratch, start, end, change->map)) &&
           (change->shards == 0 || template_put_shard(scratch, start, end, change->shards));
}

int template_expand(const struct fms_template *text, const struct fms_record *record, struct json_cache *cache,
                    struct fms_bytes *value)
{
    const struct part *end = text->parts + text->count;
    struct scratch *scratch = text->scratch;
    size_t size = 0;

    for (const struct part *part = text->parts; part < end; part++) {
        struct value is;
        size_t start = size;

        template_value(text, part, record, cache, &is);
        if (is.bytes.data == NULL)
            return template_missing(text, part, cache, value);
        if (text->is_single && is.terminated) {
            *value = is.bytes;
            return 0;
        }
        if (!template_reserve(scratch, size + is.bytes.size))
            return -ENOMEM;
        if (is.escaped) {
            size += json_unescape(is.bytes.data, is.bytes.size, scratch->data + size);
        } else {
            memcpy(scratch->data + size, is.bytes.data, is.bytes.size);
            size += is.bytes.size;
        }
        if (part->change != NULL && !template_apply(scratch, start, &size, part, is.bytes.data == part->fallback))
            return -ENOMEM;
    }
    if (!template_reserve(scratch, size))
        return -ENOMEM;
    scratch->data[size] = '\0';
    *value = fms_bytes_of(scratch->data, size);
    return 0;
}

int template_path(const struct fms_template *text)
{
    return text->is_single && text->parts->kind == PART_JSON ? (int)text->parts->number : -1;
}

bool template_uses_json(const struct fms_template *text)
{
    return text->uses_json;
}
