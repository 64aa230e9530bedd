/* fuzz_json.c - json_find and yajl, a strict parser by others, must agree on what is a JSON object and on what stands
 * at a path. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const wanted[] = {"a", "b", "a.b", "a.0", "a.1.b", "vehicle_id"};

#define WANTED (sizeof wanted / sizeof wanted[0])
#define DEPTH  64
#define NAME   16 /* of a key that can matter */

/* What yajl says: for each wanted path the text of the scalar last found there, or "{" for a container. */
struct oracle {
    char *found[WANTED];
    size_t size[WANTED];
    char names[DEPTH + 1][NAME]; /* the path of the member in hand */
    bool array[DEPTH + 1];
    long position[DEPTH + 1];
    int depth;
    bool deep, root_is_object;
    yajl_handle handle;
    size_t end; /* of the root */
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void oracle_path(const struct oracle *o, char *path)
{
    *path = '\0';
    for (int i = 1; i <= o->depth; i++)
        strcat(strcat(path, i == 1 ? "" : "."), o->names[i]);
}

/* The member in hand begins: an array's gets its number for a name. */
static void oracle_member(struct oracle *o)
{
    if (o->depth > 0 && o->array[o->depth])
        snprintf(o->names[o->depth], NAME, "%ld", ++o->position[o->depth]);
}

static void oracle_forget(struct oracle *o)
{
    char path[(DEPTH + 1) * (NAME + 1)];
    size_t length;

    oracle_path(o, path);
    length = strlen(path);
    for (size_t i = 0; i < WANTED; i++)
        if (strncmp(wanted[i], path, length) == 0 && (wanted[i][length] == '.' || wanted[i][length] == '\0')) {
            free(o->found[i]);
            o->found[i] = NULL;
        }
}

static int oracle_value(struct oracle *o, const void *text, size_t size)
{
    char path[(DEPTH + 1) * (NAME + 1)];

    oracle_path(o, path);
    for (size_t i = 0; i < WANTED && text != NULL; i++)
        if (strcmp(wanted[i], path) == 0) {
            free(o->found[i]);
            o->found[i] = malloc(size + 1);
            memcpy(o->found[i], text, size);
            o->size[i] = size;
        }
    return 1;
}

static int on_scalar(void *user, const char *text, size_t size)
{
    oracle_member(user);
    return oracle_value(user, text, size);
}

static int on_null(void *user)
{
    oracle_member(user);
    return 1;
}

static int on_boolean(void *user, int value)
{
    return on_scalar(user, value ? "true" : "false", value ? 4 : 5);
}

static int on_string(void *user, const unsigned char *text, size_t size)
{
    return on_scalar(user, (const char *)text, size);
}

static int oracle_open(struct oracle *o, bool array)
{
    if (o->depth == 0)
        o->root_is_object = !array;
    oracle_member(o);
    oracle_value(o, "{", 1);
    o->deep = o->deep || o->depth == DEPTH;
    if (o->deep)
        return 0;
    o->depth++;
    o->names[o->depth][0] = '\0';
    o->array[o->depth] = array;
    o->position[o->depth] = -1;
    return 1;
}

static int on_open_object(void *user)
{
    return oracle_open(user, false);
}

static int on_open_array(void *user)
{
    return oracle_open(user, true);
}

static int on_close(void *user)
{
    struct oracle *o = user;

    if (--o->depth == 0)
        o->end = yajl_get_bytes_consumed(o->handle);
    return 1;
}

static int on_key(void *user, const unsigned char *key, size_t size)
{
    struct oracle *o = user;

    /* A key that cannot be written in a path is none of ours. */
    if (size == 0 || size >= NAME || memchr(key, '.', size) != NULL || memchr(key, '\0', size) != NULL) {
        key = (const unsigned char *)"?";
        size = 1;
    }
    memcpy(o->names[o->depth], key, size);
    o->names[o->depth][size] = '\0';
    oracle_forget(o);
    return 1;
}

static bool oracle_run(struct oracle *o, const uint8_t *data, size_t size)
{
    static const yajl_callbacks callbacks = {on_null,        on_boolean, NULL,     NULL,          on_scalar, on_string,
                                             on_open_object, on_key,     on_close, on_open_array, on_close};
    bool good;

    o->handle = yajl_alloc(&callbacks, NULL, o);
    yajl_config(o->handle, yajl_dont_validate_strings, 1);
    good = yajl_parse(o->handle, data, size) == yajl_status_ok && yajl_complete_parse(o->handle) == yajl_status_ok;
    yajl_free(o->handle);
    for (size_t i = o->end; i < size && good; i++) /* it lets the beginning of a string follow */
        good = strchr(" \t\r\n", data[i]) != NULL && data[i] != '\0';
    return good && o->root_is_object;
}

static void require_same(const struct json_slot *slot, const uint8_t *data, const char *expected, size_t size)
{
    const char *text = (const char *)data + slot->offset;
    char *decoded;

    require((slot->type <= FMS_JSON_NULL) == (expected == NULL));
    if (slot->type <= FMS_JSON_NULL)
        return;
    decoded = malloc(slot->size + 1);
    if (slot->type >= FMS_JSON_ARRAY) {
        require((slot->type == FMS_JSON_OBJECT) == (*text == '{'));
        require(text[slot->size - 1] == (*text == '{' ? '}' : ']'));
        require(size == 1 && *expected == '{');
    } else if (slot->escaped) {
        require(json_unescape(text, slot->size, decoded) == size && memcmp(decoded, expected, size) == 0);
    } else {
        require(slot->size == size && memcmp(text, expected, size) == 0);
    }
    free(decoded);
}

/* What yajl takes beyond RFC 8259: \v and \f as blanks. And it decodes half a surrogate pair to a question mark. */
static bool comparable(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] == '\v' || data[i] == '\f' ||
            (data[i] == 'u' && i + 1 < size && (data[i + 1] == 'd' || data[i + 1] == 'D')))
            return false;
    return true;
}

static bool is_same(const struct fms_json *value, const struct json_slot *slot, const uint8_t *data)
{
    return value->type == (enum fms_json_type)slot->type && value->escaped == slot->escaped &&
           (const uint8_t *)value->text.data == data + slot->offset && value->text.size == slot->size;
}

/* The members one by one: the last "a" must be what json_find found there, and likewise within it. */
static void require_members(const struct fms_json *object, const struct json_cache *cache, const uint8_t *data,
                            const char *wanted_name, size_t slot)
{
    struct fms_bytes rest = object->text;
    struct fms_json name, value, last = {FMS_JSON_MISSING, false, {data, 0}};

    while (json_next(&rest, &name, &value)) {
        char *decoded = malloc(name.text.size + 1);
        size_t size = json_decode(&name, decoded);

        require(name.type == FMS_JSON_STRING && value.type != FMS_JSON_MISSING);
        if (size == strlen(wanted_name) && memcmp(decoded, wanted_name, size) == 0)
            last = value;
        free(decoded);
    }
    require(last.type == (enum fms_json_type)cache->slots[slot].type);
    require(last.type == FMS_JSON_MISSING || is_same(&last, &cache->slots[slot], data));
    if (slot == 0 && last.type == FMS_JSON_OBJECT)
        require_members(&last, cache, data, "b", 2);
}

/* The items one by one, and those of what is within them: each is a value, behind the one before it. */
static void require_items(const struct fms_json *container)
{
    struct fms_bytes rest = container->text;
    const char *behind = rest.data, *end = behind + rest.size;
    struct fms_json name, value;

    while (json_next(&rest, &name, &value)) {
        const char *text = value.text.data;

        require((name.type == FMS_JSON_STRING) == (container->type == FMS_JSON_OBJECT));
        require(value.type != FMS_JSON_MISSING);
        require(text >= behind && text + value.text.size <= end);
        behind = text + value.text.size;
        if (value.type == FMS_JSON_OBJECT || value.type == FMS_JSON_ARRAY)
            require_items(&value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_paths *paths = json_paths_new();
    struct oracle oracle = {0};
    struct json_cache *cache;
    bool good;

    for (size_t i = 0; i < WANTED; i++)
        require(json_paths_add(paths, wanted[i]) == (int)i);
    require(json_paths_add(paths, "") == (int)WANTED);
    cache = calloc(1, json_cache_size(paths));
    good = json_find(paths, cache, (struct fms_bytes){data, size}) == 0;
    require(good == (cache->error == NULL));
    require(good || cache->offset <= size || cache->offset == JSON_NOWHERE);
    if (good) {
        const struct json_slot *root = &cache->slots[WANTED];
        struct fms_json object = {FMS_JSON_OBJECT, false, {data + root->offset, root->size}};

        require(root->type == FMS_JSON_OBJECT);
        require_members(&object, cache, data, "a", 0);
    }
    if (cache->state != CACHE_BROKEN) {
        const struct json_slot *root = &cache->slots[WANTED];
        struct fms_json whole = {(enum fms_json_type)root->type, false, {data + root->offset, root->size}};

        require(whole.type == (good ? FMS_JSON_OBJECT : FMS_JSON_ARRAY));
        require_items(&whole);
    }
    if (comparable(data, size)) {
        require(good == oracle_run(&oracle, data, size));
        for (size_t i = 0; i < WANTED && good; i++)
            require_same(&cache->slots[i], data, oracle.found[i], oracle.size[i]);
    }
    for (size_t i = 0; i < WANTED; i++)
        free(oracle.found[i]);
    free(cache);
    json_paths_free(paths);
    return 0;
}
