/* template.h - text with ${...}: compiled once, expanded for each record.
 *
 *   ${topic} ${topic[1]} ${key} ${payload} ${header:name} ${json:a.b.0} ${timestamp} ${env:NAME}
 *   ${file:PATH}
 *   ${topic|/|.} with characters replaced: sets of them (ranges, ^ for all others) and what replaces each; several pairs
 *   ${shard:12:json:vehicle_id} the shard, of 12, of what such a reference gives; see partition.h
 *   ${...:-default} where a value may be missing; $${ for a literal ${
 *
 * A record's JSON is tokenized at most once, for all paths that the pipeline's templates name: `struct json_paths` is
 * their list, and each record carries a `struct json_cache` with a slot for each path. */
#ifndef FMS_TEMPLATE_H
#define FMS_TEMPLATE_H

#include "environment.h"
#include "fms_plugin.h"
#include "json.h"

/* Compiles; paths are added to `paths`, which must outlive the template. NULL with *error = a text like "column 9:
 * unknown reference ${jsn:...}; did you mean ${json:...}?" in `error` (any size, always terminated), or "" for ENOMEM.
 * ${env:NAME} is looked up in `environment` here; without variable and default it is an error. So is ${file:PATH}, of a
 * file that is missing or empty. `paths` may be NULL where the text is known to have no ${json:...}. [any] */
struct fms_template *template_compile(const char *text, const struct environment *environment, struct json_paths *paths,
                                      char *error, size_t size);
void template_free(struct fms_template *text);

/* The text when it depends on no record (only literals, ${env} and ${file}), else NULL. */
const char *template_constant(const struct fms_template *text);

/* The index of its path if it is one ${json:...} alone, which a caller in a hurry may look up in the cache; else -1. */
int template_path(const struct fms_template *text);

/* Whether ${json:...} occurs, so that an expansion needs the record's cache. */
bool template_uses_json(const struct fms_template *text);

/* Whether ${file:...} occurs, so that it may be another when it is compiled again. */
bool template_uses_files(const struct fms_template *text);

/* See fms_expand in fms_plugin.h. `cache` belongs to the record; NULL: a record without payload. `text` has a scratch
 * buffer inside, so one thread at a time. */
int template_expand(const struct fms_template *text, const struct fms_record *record, struct json_cache *cache,
                    struct fms_bytes *value);

#endif
