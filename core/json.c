/* json.c - finds fields in a JSON payload.
 *
 * The paths form a tree; one pass over the payload walks it along and notes where each wanted value stands, so nothing
 * is allocated for a record, whatever its size. The pass is strict (RFC 8259; one object or array and nothing else), for
 * a field found in broken JSON may be a wrong one.
 *
 * It is our own for lack of one that fits. jsmn takes `{"a":1 "b":2}`, `{"a"}`, `nul`, `1.2.3` and `{} {}` for JSON and
 * stops at a NUL byte; checking all that behind it is this same pass again, and a payload of commas costs it 16 times
 * its size in tokens. yajl is strict, but does not check malloc, copies each string that has an escape, and takes
 * three times as long. It is what fuzz_json compares this pass with. */
#include "json.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH 64 /* of containers in containers */

struct json_node {
    char *name;
    size_t length;
    size_t position; /* in an array; SIZE_MAX where the name is no number */
    int slot;        /* -1: no path ends here */
    uint64_t users;  /* of that path */
    struct json_node *child, *next;
};

struct json_paths {
    struct json_node root;
    size_t count;
    int next; /* index; all below are taken */
    uint64_t user;
    struct json_paths *staged; /* NULL: nothing is */
    char why[JSON_WHY];        /* of json_get */
};

struct json_frame {
    const struct json_node *node; /* NULL: nothing in here is wanted */
    size_t count;                 /* of members begun */
    const char *start;
    bool array;
};

struct json_scan {
    const char *text, *end;
    const char *error;
    uint32_t wrong; /* the offset of that error */
    struct json_slot *slots;
    size_t depth;
    struct json_frame frames[JSON_DEPTH];
};

/* ------------------------------------------------------------------------------------------------------------ paths */

struct json_paths *json_paths_new(void)
{
    struct json_paths *paths = calloc(1, sizeof *paths);

    if (paths != NULL)
        paths->root.slot = -1;
    return paths;
}

static void json_node_free_children(struct json_node *node)
{
    while (node->child != NULL) {
        struct json_node *child = node->child;

        node->child = child->next;
        json_node_free_children(child);
        free(child->name);
        free(child);
    }
}

void json_paths_free(struct json_paths *paths)
{
    if (paths == NULL)
        return;
    json_paths_unstage(paths);
    json_node_free_children(&paths->root);
    free(paths);
}

/* "0", "17": the position it names in an array. */
static size_t json_position(const char *name, size_t length)
{
    size_t position = 0;

    if (length == 0 || length > 9 || (name[0] == '0' && length > 1))
        return SIZE_MAX;
    for (size_t i = 0; i < length; i++) {
        if (name[i] < '0' || name[i] > '9')
            return SIZE_MAX;
        position = position * 10 + (size_t)(name[i] - '0');
    }
    return position;
}

static struct json_node *json_node_child(struct json_node *node, const char *name, size_t length)
{
    struct json_node *child;

    for (child = node->child; child != NULL; child = child->next)
        if (child->length == length && memcmp(child->name, name, length) == 0)
            return child;

    child = calloc(1, sizeof *child);
    if (child == NULL)
        return NULL;
    child->name = strndup(name, length);
    if (child->name == NULL) {
        free(child);
        return NULL;
    }
    child->length = length;
    child->position = json_position(name, length);
    child->slot = -1;
    child->next = node->child;
    node->child = child;
    return child;
}

static bool json_path_good(const char *path)
{
    size_t parts = 1;

    for (const char *c = path; *c != '\0'; c++)
        if (*c == '.') {
            if (c == path || c[1] == '.' || c[1] == '\0')
                return false;
            parts++;
        }
    return parts <= JSON_DEPTH;
}

/* Whether a path has that index. */
static bool json_node_has(const struct json_node *node, int slot)
{
    bool found = node->slot == slot;

    for (const struct json_node *child = node->child; child != NULL && !found; child = child->next)
        found = json_node_has(child, slot);
    return found;
}

static int json_free_slot(struct json_paths *paths)
{
    while (json_node_has(&paths->root, paths->next))
        paths->next++;
    if ((size_t)paths->next >= paths->count)
        paths->count = (size_t)paths->next + 1;
    return paths->next++;
}

int json_paths_add(struct json_paths *paths, const char *path)
{
    uint64_t user = paths->user;
    struct json_node *node;

    if (paths->staged != NULL)
        paths = paths->staged;
    node = &paths->root;
    if (!json_path_good(path))
        return -EINVAL;
    while (*path != '\0') {
        size_t length = strcspn(path, ".");

        node = json_node_child(node, path, length);
        if (node == NULL)
            return -ENOMEM;
        path += length + (path[length] == '.');
    }
    if (node->slot < 0)
        node->slot = json_free_slot(paths);
    node->users |= user;
    return node->slot;
}

void json_paths_user(struct json_paths *paths, uint64_t users)
{
    paths->user = users;
}

static bool json_node_serves(const struct json_node *node, uint64_t users)
{
    bool serves = (node->users & users) != 0;

    for (const struct json_node *child = node->child; child != NULL && !serves; child = child->next)
        serves = json_node_serves(child, users);
    return serves;
}

/* With its children, and theirs, as far as one of `users` asks for them. 0 or -ENOMEM. */
static int json_node_copy(struct json_paths *to, struct json_node *node, const struct json_node *from, uint64_t users)
{
    int error = 0;

    node->users = from->users & users;
    if (node->users != 0) {
        node->slot = from->slot;
        to->count = (size_t)from->slot >= to->count ? (size_t)from->slot + 1 : to->count;
    }
    for (const struct json_node *child = from->child; child != NULL && error == 0; child = child->next) {
        struct json_node *copy;

        if (!json_node_serves(child, users))
            continue;
        copy = json_node_child(node, child->name, child->length);
        error = copy != NULL ? json_node_copy(to, copy, child, users) : -ENOMEM;
    }
    return error;
}

int json_paths_stage(struct json_paths *paths, uint64_t users)
{
    int error;

    json_paths_unstage(paths);
    paths->staged = json_paths_new();
    if (paths->staged == NULL)
        return -ENOMEM;
    error = json_node_copy(paths->staged, &paths->staged->root, &paths->root, users);
    if (error != 0)
        json_paths_unstage(paths);
    return error;
}

/* Whether a path of `node`, or of its children, has another index in `other` (NULL: none). */
static bool json_node_exceeds(const struct json_node *node, const struct json_node *other)
{
    bool exceeds = node->slot >= 0 && (other == NULL || other->slot != node->slot);

    for (const struct json_node *child = node->child; child != NULL && !exceeds; child = child->next) {
        const struct json_node *like = other != NULL ? other->child : NULL;

        while (like != NULL && (like->length != child->length || memcmp(like->name, child->name, child->length) != 0))
            like = like->next;
        exceeds = json_node_exceeds(child, like);
    }
    return exceeds;
}

bool json_paths_has_more(const struct json_paths *paths)
{
    return paths->staged != NULL && json_node_exceeds(&paths->staged->root, &paths->root);
}

void json_paths_commit(struct json_paths *paths)
{
    struct json_paths *staged = paths->staged;
    struct json_node root = paths->root;

    if (staged == NULL)
        return;
    paths->root = staged->root;
    paths->count = staged->count;
    paths->next = staged->next;
    staged->root = root;
    json_paths_unstage(paths);
}

void json_paths_unstage(struct json_paths *paths)
{
    struct json_paths *staged = paths->staged;

    paths->staged = NULL;
    json_paths_free(staged);
}

size_t json_paths_count(const struct json_paths *paths)
{
    return paths->count;
}

size_t json_cache_size(const struct json_paths *paths)
{
    if (paths->count == 0)
        return 0;
    return sizeof(struct json_cache) + paths->count * sizeof(struct json_slot);
}

/* ---------------------------------------------------------------------------------------------------------- escapes */

static int json_hex(const char *text)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value * 16 + c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            value = value * 16 + (c | 0x20) - 'a' + 10;
        else
            return -1;
    }
    return value;
}

static size_t json_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Decodes the escape at `text`, a backslash, into at most 4 bytes of `out`; *used is what it took of the text. Half of
 * a surrogate pair becomes U+FFFD. */
static size_t json_escape(const char *text, size_t size, char *out, size_t *used)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *found;
    int code;

    if (size >= 6 && text[1] == 'u' && (code = json_hex(text + 2)) >= 0) {
        *used = 6;
        if (code < 0xd800 || code > 0xdfff)
            return json_utf8((uint32_t)code, out);
        if (code < 0xdc00 && size >= 12 && text[6] == '\\' && text[7] == 'u') {
            int low = json_hex(text + 8);

            if (low >= 0xdc00 && low <= 0xdfff) {
                *used = 12;
                return json_utf8(0x10000 + ((uint32_t)(code - 0xd800) << 10) + (uint32_t)(low - 0xdc00), out);
            }
        }
        return json_utf8(0xfffd, out);
    }
    *used = size >= 2 ? 2 : 1;
    found = size >= 2 && text[1] != '\0' ? strchr(plain, text[1]) : NULL;
    out[0] = found != NULL ? meant[found - plain] : text[*used - 1];
    return 1;
}

size_t json_unescape(const char *text, size_t size, char *out)
{
    size_t length = 0;

    for (size_t at = 0; at < size;) {
        const char *slash = memchr(text + at, '\\', size - at);
        size_t run = slash == NULL ? size - at : (size_t)(slash - text) - at;
        size_t used = 0;

        memcpy(out + length, text + at, run);
        length += run;
        at += run;
        if (at < size) {
            length += json_escape(text + at, size - at, out + length, &used);
            at += used;
        }
    }
    return length;
}

size_t json_decode(const struct fms_json *string, char *to)
{
    return json_unescape(string->text.data, string->text.size, to);
}

/* ---------------------------------------------------------------------------------------------------------- strings */

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* The top bit of each byte that is less than `n`, 128 at most; the lowest bit set is right, those above it may not be. */
static uint64_t json_less(uint64_t bytes, unsigned n)
{
    return (bytes - EACH_BYTE(n)) & ~bytes & EACH_BYTE(0x80);
}

#if defined __SSE2__ || defined __aarch64__
/* Sixteen at a time: the first of them that is meant, or 16. */
static inline size_t json_count_plain(const char *at)
{
    typedef uint8_t block __attribute__((vector_size(16)));
    block bytes, found;
    uint64_t half[2];

    memcpy(&bytes, at, sizeof bytes);
    found = (block)((bytes == '"') | (bytes == '\\') | (bytes < 0x20));
    memcpy(half, &found, sizeof half);
    if (half[0] != 0)
        return (size_t)__builtin_ctzll(le64toh(half[0])) / 8;
    return half[1] != 0 ? 8 + (size_t)__builtin_ctzll(le64toh(half[1])) / 8 : 16;
}
#define JSON_BLOCKS
#endif

/* The first byte from `at` on that is a quote, a backslash or a control character; several at a time. */
static inline const char *json_skip_plain(const char *at, const char *end)
{
#ifdef JSON_BLOCKS
    while (end - at >= 16) {
        size_t plain = json_count_plain(at);

        at += plain;
        if (plain < 16)
            return at;
    }
#endif
    for (; end - at >= 8; at += 8) {
        uint64_t bytes, found;

        memcpy(&bytes, at, sizeof bytes);
        bytes = le64toh(bytes);
        found = json_less(bytes ^ EACH_BYTE('"'), 1) | json_less(bytes ^ EACH_BYTE('\\'), 1) | json_less(bytes, 0x20);
        if (found != 0)
            return at + __builtin_ctzll(found) / 8;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

/* ---------------------------------------------------------------------------------------------------------- members */

#define BIT(c) (UINT64_C(1) << (c))

/* Whether it stands between names and values. */
static bool json_is_between(char c)
{
    return (unsigned char)c < 64 &&
           ((BIT(' ') | BIT('\n') | BIT('\r') | BIT('\t') | BIT(',') | BIT(':')) >> c & 1) != 0;
}

static const char *json_skip_text(const char *at, const char *end)
{
    while (at < end && json_is_between(*at))
        at++;
    return at;
}

/* Behind the number, true, false or null that begins at `at`. */
static const char *json_skip_literal(const char *at, const char *end)
{
    while (at < end && (unsigned char)*at > ' ' && *at != ',' && (*at | 0x20) != '}') /* ] is } without that bit */
        at++;
    return at;
}

/* The string at the quote, which was checked; *at moves behind it. */
static struct fms_json json_take_string(const char **at, const char *end)
{
    struct fms_json value = {FMS_JSON_STRING, false, {*at + 1, 0}};

    for (*at = json_skip_plain(*at + 1, end); *at < end && **at == '\\'; *at = json_skip_plain(*at + 2, end))
        value.escaped = true;
    value.text.size = (size_t)(*at - (const char *)value.text.data);
    *at += *at < end;
    return value;
}

/* Behind the container that begins at `at`. */
static const char *json_skip_container(const char *at, const char *end)
{
    size_t depth = 0;

    while (at < end) {
        if (*at == '"') {
            json_take_string(&at, end);
            continue;
        }
        if (*at == '{' || *at == '[')
            depth++;
        if ((*at == '}' || *at == ']') && --depth == 0)
            return at + 1;
        at++;
    }
    return end;
}

static inline struct fms_json json_take_value(const char **at, const char *end)
{
    struct fms_json value = {FMS_JSON_NUMBER, false, {*at, 0}};

    switch (**at) {
    case '"':
        return json_take_string(at, end);
    case '{':
    case '[':
        value.type = **at == '{' ? FMS_JSON_OBJECT : FMS_JSON_ARRAY;
        *at = json_skip_container(*at, end);
        break;
    default:
        if (**at == 't' || **at == 'f')
            value.type = FMS_JSON_BOOLEAN;
        else if (**at == 'n')
            value.type = FMS_JSON_NULL;
        *at = json_skip_literal(*at, end);
    }
    value.text.size = (size_t)(*at - (const char *)value.text.data);
    return value;
}

/* Passes over the colon and the blanks around it. False: there is none, for only behind a name stands one. */
static bool json_skip_colon(const char **at, const char *end)
{
    const char *to = *at;

    while (to < end && (*to == ' ' || *to == '\n' || *to == '\r' || *to == '\t'))
        to++;
    if (to == end || *to != ':')
        return false;
    *at = json_skip_text(to, end);
    return *at < end;
}

bool json_next(struct fms_bytes *rest, struct fms_json *name, struct fms_json *value)
{
    static const struct fms_json none = {FMS_JSON_MISSING, false, {"", 0}};
    const char *at = rest->data, *end = at + rest->size;

    if (at < end && (*at == '{' || *at == '['))
        at++;
    at = json_skip_text(at, end);
    if (at == end || *at == '}' || *at == ']')
        return false;
    if (*at != '"') {
        *name = none;
        *value = json_take_value(&at, end);
    } else {
        *name = json_take_string(&at, end);
        if (json_skip_colon(&at, end)) {
            *value = json_take_value(&at, end);
        } else {
            *value = *name;
            *name = none;
        }
    }
    *rest = fms_bytes_of(at, (size_t)(end - at));
    return true;
}

/* ------------------------------------------------------------------------------------------------------------- scan */

/* The functions that pass over something are given where it begins and tell where it ends; NULL: it is no such thing, and
 * json_fail was called. */

static const char *json_fail(struct json_scan *scan, const char *at, const char *error)
{
    scan->error = at == scan->end ? "unexpected end" : error;
    scan->wrong = (uint32_t)(at - scan->text);
    return NULL;
}

/* What is wrong with all of it, at no byte. */
static const char *json_fail_whole(struct json_scan *scan, const char *error)
{
    scan->error = error;
    scan->wrong = JSON_NOWHERE;
    return NULL;
}

static bool json_is_blank(char c)
{
    return (unsigned char)c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
}

static inline const char *json_skip_blanks(const char *at, const char *end)
{
    while (at < end && json_is_blank(*at))
        at++;
    return at;
}

static const char *json_skip_escape(struct json_scan *scan, const char *at)
{
    size_t left = (size_t)(scan->end - at);

    if (left < 2 || (at[1] == 'u' && left < 6))
        return json_fail(scan, scan->end, "");
    if (at[1] == 'u' && json_hex(at + 2) < 0)
        return json_fail(scan, at, "\\u without four hexadecimal digits");
    if (at[1] == '\0' || strchr("\"\\/bfnrtu", at[1]) == NULL)
        return json_fail(scan, at, "an unknown escape in a string");
    return at + (at[1] == 'u' ? 6 : 2);
}

/* The string at the quote; *inside is what stands between the quotes. */
static inline const char *json_string(struct json_scan *scan, const char *at, struct fms_bytes *inside, bool *escaped)
{
    const char *start = ++at;

    *escaped = false;
    for (;;) {
        at = json_skip_plain(at, scan->end);
        if (at == scan->end)
            return json_fail(scan, at, "");
        if (*at == '"')
            break;
        if (*at != '\\')
            return json_fail(scan, at, "a control character in a string");
        *escaped = true;
        at = json_skip_escape(scan, at);
        if (at == NULL)
            return NULL;
    }
    *inside = fms_bytes_of(start, (size_t)(at - start));
    return at + 1;
}

/* The first byte from `at` on that is no digit; eight at a time. */
static inline const char *json_skip_digits(const char *at, const char *end)
{
    for (; end - at >= 8; at += 8) {
        uint64_t bytes, others;

        memcpy(&bytes, at, sizeof bytes);
        bytes = le64toh(bytes) ^ EACH_BYTE('0');
        others = ((bytes + EACH_BYTE(0x80 - 10)) | bytes) & EACH_BYTE(0x80); /* the lowest is right, as in json_less */
        if (others != 0)
            return at + __builtin_ctzll(others) / 8;
    }
    while (at < end && (unsigned char)(*at - '0') < 10)
        at++;
    return at;
}

static inline const char *json_digits(struct json_scan *scan, const char *at)
{
    const char *behind = json_skip_digits(at, scan->end);

    return behind > at ? behind : json_fail(scan, at, "a malformed number");
}

static inline const char *json_number(struct json_scan *scan, const char *at)
{
    const char *end = scan->end;

    if (*at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else if ((at = json_digits(scan, at)) == NULL)
        return NULL;
    if (at < end && *at == '.' && (at = json_digits(scan, at + 1)) == NULL)
        return NULL;
    if (at == end || (*at | 0x20) != 'e')
        return at;
    at++;
    if (at < end && (*at == '+' || *at == '-'))
        at++;
    return json_digits(scan, at);
}

static const char *json_word(struct json_scan *scan, const char *at, const char *word)
{
    for (; *word != '\0'; word++, at++)
        if (at == scan->end || *at != *word)
            return json_fail(scan, at, "a value expected");
    return at;
}

static void json_note(struct json_scan *scan, const struct json_node *node, enum fms_json_type type, bool escaped,
                      const char *start, const char *end)
{
    if (node == NULL || node->slot < 0)
        return;
    scan->slots[node->slot] = (struct json_slot){.offset = (uint32_t)(start - scan->text),
                                                 .size = (uint32_t)(end - start),
                                                 .type = (uint8_t)type,
                                                 .escaped = escaped};
}

static const char *json_open(struct json_scan *scan, const char *at, const struct json_node *node)
{
    if (scan->depth == JSON_DEPTH)
        return json_fail(scan, at, "nested more than 64 deep");
    scan->frames[scan->depth++] = (struct json_frame){.node = node, .start = at, .array = *at == '['};
    return at + 1;
}

static inline const char *json_value(struct json_scan *scan, const char *at, const struct json_node *node)
{
    const char *start = at;
    enum fms_json_type type = FMS_JSON_NUMBER;
    struct fms_bytes inside = {NULL, 0};
    bool escaped = false;

    if (at == scan->end)
        return json_fail(scan, at, "");
    switch (*start) {
    case '{':
    case '[':
        return json_open(scan, at, node); /* json_close notes it */
    case '"':
        at = json_string(scan, at, &inside, &escaped);
        if (at != NULL)
            json_note(scan, node, FMS_JSON_STRING, escaped, start + 1, at - 1);
        return at;
    case 't':
    case 'f':
        at = json_word(scan, at, *start == 't' ? "true" : "false");
        type = FMS_JSON_BOOLEAN;
        break;
    case 'n':
        at = json_word(scan, at, "null");
        type = FMS_JSON_NULL;
        break;
    default:
        if (*start != '-' && (*start < '0' || *start > '9'))
            return json_fail(scan, at, "a value expected");
        at = json_number(scan, at);
    }
    if (at != NULL)
        json_note(scan, node, type, false, start, at);
    return at;
}

static bool json_key_is(struct fms_bytes key, bool escaped, const struct json_node *node)
{
    const char *text = key.data;
    size_t matched = 0;

    if (!escaped)
        return key.size == node->length && (key.size == 0 || memcmp(text, node->name, key.size) == 0);
    for (size_t at = 0; at < key.size;) {
        char decoded[4] = {text[at]};
        size_t used = 1;
        size_t size = text[at] == '\\' ? json_escape(text + at, key.size - at, decoded, &used) : 1;

        if (size > node->length - matched || memcmp(decoded, node->name + matched, size) != 0)
            return false;
        matched += size;
        at += used;
    }
    return matched == node->length;
}

/* Forgets what was found below a node: its key stands in the object once more, and the last one counts. */
static void json_forget(struct json_scan *scan, const struct json_node *node)
{
    for (const struct json_node *child = node->child; child != NULL; child = child->next) {
        json_note(scan, child, FMS_JSON_MISSING, false, scan->text, scan->text);
        json_forget(scan, child);
    }
}

/* A key, its colon, and the blanks behind it; *node is what is wanted of the value. */
static inline const char *json_key(struct json_scan *scan, const char *at, const struct json_node *parent,
                                   const struct json_node **node)
{
    struct fms_bytes key = {NULL, 0};
    bool escaped = false;

    if (at == scan->end || *at != '"')
        return json_fail(scan, at, "a key in double quotes expected");
    at = json_string(scan, at, &key, &escaped);
    if (at == NULL)
        return NULL;
    *node = parent == NULL ? NULL : parent->child;
    while (*node != NULL && !json_key_is(key, escaped, *node))
        *node = (*node)->next;
    if (*node != NULL)
        json_forget(scan, *node);

    at = json_skip_blanks(at, scan->end);
    if (at == scan->end || *at != ':')
        return json_fail(scan, at, "a colon expected behind a key");
    return json_skip_blanks(at + 1, scan->end);
}

static const char *json_close(struct json_scan *scan, const char *at)
{
    const struct json_frame *frame = &scan->frames[--scan->depth];

    at++;
    json_note(scan, frame->node, frame->array ? FMS_JSON_ARRAY : FMS_JSON_OBJECT, false, frame->start, at);
    return at;
}

/* One member of the innermost container, or its end. */
static inline const char *json_member(struct json_scan *scan, const char *at)
{
    struct json_frame *frame = &scan->frames[scan->depth - 1];
    const struct json_node *node = NULL;

    at = json_skip_blanks(at, scan->end);
    if (at < scan->end && *at == (frame->array ? ']' : '}'))
        return json_close(scan, at);
    if (frame->count++ > 0) {
        if (at == scan->end || *at != ',')
            return json_fail(scan, at, frame->array ? "a comma or ] expected" : "a comma or } expected");
        at = json_skip_blanks(at + 1, scan->end);
    }
    if (!frame->array) {
        at = json_key(scan, at, frame->node, &node);
        if (at == NULL)
            return NULL;
    } else if (frame->node != NULL) {
        node = frame->node->child;
        while (node != NULL && node->position != frame->count - 1)
            node = node->next;
    }
    return json_value(scan, at, node);
}

/* What is met in place of objects and arrays, by its first bytes. */
static const struct json_other {
    const char *bytes, *name;
} json_others[] = {
    {"\xef\xbb\xbf", "it begins with a byte order mark (ef bb bf), which JSON has not"},
    {"\xff\xfe", "it is UTF-16 (ff fe), and JSON is UTF-8"},
    {"\xfe\xff", "it is UTF-16 (fe ff), and JSON is UTF-8"},
    {"\x1f\x8b", "it is gzip data (1f 8b): decompress it first"},
    {"\x28\xb5\x2f\xfd", "it is zstd data (28 b5 2f fd): decompress it first"},
    {"\x78\x01", "it is zlib data (78 01): decompress it first"},
    {"\x78\x5e", "it is zlib data (78 5e): decompress it first"},
    {"\x78\x9c", "it is zlib data (78 9c): decompress it first"},
    {"\x78\xda", "it is zlib data (78 da): decompress it first"},
};

/* Says what it is that begins with neither { nor [. */
static const char *json_no_object(struct json_scan *scan, const char *at)
{
    size_t left = (size_t)(scan->end - at);

    for (size_t i = 0; i < sizeof json_others / sizeof *json_others; i++) {
        size_t size = strlen(json_others[i].bytes);

        if (left >= size && memcmp(at, json_others[i].bytes, size) == 0)
            return json_fail_whole(scan, json_others[i].name);
    }
    return json_fail(scan, at, "{ or [ expected");
}

static const char *json_document(struct json_scan *scan, const struct json_node *root)
{
    const char *at = json_skip_blanks(scan->text, scan->end);

    if ((size_t)(scan->end - scan->text) > UINT32_MAX)
        return json_fail_whole(scan, "it is larger than 4 GiB");
    if (scan->text == scan->end)
        return json_fail_whole(scan, "it is empty");
    if (at == scan->end || (*at != '{' && *at != '['))
        return json_no_object(scan, at);
    at = json_open(scan, at, root);
    while (at != NULL && scan->depth > 0)
        at = json_member(scan, at);
    if (at == NULL)
        return NULL;
    at = json_skip_blanks(at, scan->end);
    if (at < scan->end)
        return json_fail(scan, at,
                         scan->frames[0].array ? "something stands behind the array"
                                               : "something stands behind the object");
    return at;
}

/* An array is no object, but what paths find in it is there: all of it, and items by their number. */
void json_fill(struct json_paths *paths, struct json_cache *cache, struct fms_bytes payload)
{
    struct json_scan scan;

    scan.text = payload.data != NULL ? payload.data : "";
    scan.end = scan.text + payload.size;
    scan.slots = cache->slots;
    scan.depth = 0;
    if (json_document(&scan, &paths->root) == NULL) {
        cache->state = CACHE_BROKEN;
        cache->error = payload.data != NULL ? scan.error : "it is absent (a tombstone)";
        cache->offset = scan.wrong;
    } else if (scan.frames[0].array) {
        cache->state = CACHE_ARRAY;
        cache->error = "it is an array: split it first";
        cache->offset = JSON_NOWHERE;
    } else {
        cache->state = CACHE_OBJECT;
    }
}

void json_why(const struct json_cache *cache, char *to, size_t size)
{
    if (cache->offset == JSON_NOWHERE)
        snprintf(to, size, "%s", cache->error);
    else
        snprintf(to, size, "%s at byte %u", cache->error, (unsigned)cache->offset);
}

int json_get(struct json_paths *paths, struct json_cache *cache, struct fms_bytes payload, int path,
             struct fms_json *value)
{
    const struct json_slot *slot = &cache->slots[path];
    int error = json_find(paths, cache, payload);

    if (error == 0 || (cache->state == CACHE_ARRAY && slot->type != FMS_JSON_MISSING)) {
        *value = (struct fms_json){(enum fms_json_type)slot->type, slot->escaped,
                                   fms_bytes_of((const char *)payload.data + slot->offset, slot->size)};
        return 0;
    }
    json_why(cache, paths->why, sizeof paths->why);
    *value = (struct fms_json){FMS_JSON_MISSING, false, fms_text(paths->why)};
    return error;
}
