/* json.h - finds fields of a JSON payload by path, in one pass and without building a document. Numbers stay as they
 * stood. */
#ifndef FMS_JSON_H
#define FMS_JSON_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fms_plugin.h"

/* The paths that a pipeline asks for: "vehicle_id", "position.lat", "axles.0.load". Grows at load, fixed afterwards, but for
 * what json_paths_stage says. */
struct json_paths;

struct json_paths *json_paths_new(void);
void json_paths_free(struct json_paths *paths);

/* The index of a path, added if new; "" is the whole object or array. -EINVAL for a path with an empty part; -ENOMEM. */
int json_paths_add(struct json_paths *paths, const char *path);
size_t json_paths_count(const struct json_paths *paths);

/* Who asks for what is added from now on: one bit or more; at first, nobody. */
void json_paths_user(struct json_paths *paths, uint64_t users);
/* From now on paths are added to others, which stand beside those that are in use: at first these, as far as one of `users` asks for
 * them, under the same indices. Then these take the place of those, or go again. 0 or -ENOMEM. The indices of what nobody asked for
 * are given out again, so no cache that was filled before the change may be read after it. [control; commit: lane] */
int json_paths_stage(struct json_paths *paths, uint64_t users);
void json_paths_commit(struct json_paths *paths);
/* Whether what is staged asks for more than what is in use, so that caches that are filled would not have it. [control] */
bool json_paths_has_more(const struct json_paths *paths);
void json_paths_unstage(struct json_paths *paths);

/* What was found at a path. */
struct json_slot {
    uint32_t offset; /* into the payload, of the value; of a string: behind the quote */
    uint32_t size;   /* in bytes as they stand */
    uint8_t type;    /* enum fms_json_type */
    bool escaped;
};

enum cache_state { CACHE_UNSEEN, CACHE_OBJECT, CACHE_BROKEN, CACHE_ARRAY };

/* Lives in the record behind its other data, json_cache_size bytes, zeroed. */
struct json_cache {
    uint8_t state;   /* enum cache_state */
    uint32_t offset; /* of the byte that `error` is about; JSON_NOWHERE: of none */
    const char *error;
    struct json_slot slots[];
};

size_t json_cache_size(const struct json_paths *paths); /* 0 when there are no paths */

#define JSON_NOWHERE UINT32_MAX

void json_fill(struct json_paths *paths, struct json_cache *cache, struct fms_bytes payload); /* for json_find */

/* Fills the cache if that has not been done. 0, or -EBADMSG for what is no JSON object. One thread at a time per `paths`. */
static inline int json_find(struct json_paths *paths, struct json_cache *cache, struct fms_bytes payload)
{
    if (cache->state == CACHE_UNSEEN)
        json_fill(paths, cache, payload);
    return cache->state == CACHE_OBJECT ? 0 : -EBADMSG;
}

/* Why the payload is no JSON object, and at which byte: at most JSON_WHY with the NUL byte. */
#define JSON_WHY 96
void json_why(const struct json_cache *cache, char *to, size_t size);

/* The value at a path, found by json_find; see fms_json_get. What is wrong is told in `paths`, until the next call. */
int json_get(struct json_paths *paths, struct json_cache *cache, struct fms_bytes payload, int path,
             struct fms_json *value);

/* Decodes the escapes of a string into `out` (at least `size` bytes) as UTF-8; the length. */
size_t json_unescape(const char *text, size_t size, char *out);

/* See fms_json_unescape. */
size_t json_decode(const struct fms_json *string, char *to);

/* The next member of an object, or item of an array, that json_find has passed; see fms_json_next. */
bool json_next(struct fms_bytes *rest, struct fms_json *name, struct fms_json *value);

#endif
