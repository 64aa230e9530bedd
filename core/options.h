/* options.h - fills a struct from a section of a pipeline file as an option table says. */
#ifndef FMS_OPTIONS_H
#define FMS_OPTIONS_H

#include "config.h"
#include "fms_plugin.h"
#include "json.h"

/* Everything that the filled fields point to. */
struct options_memory;

struct options_memory *options_memory_new(void);
void options_memory_free(struct options_memory *memory);

/* Fills `instance`. The key "plugin" is passed over when `plugin` is not NULL (its name, for messages). Each error is
 * logged with file, line, key, the value given (never a secret's), what is accepted, and the nearest known key; all
 * errors, not the first alone. Values may hold ${env:...} and ${file:...}; other ${...} only in templates. 0, -EINVAL, or
 * -ENOMEM.
 * [control] */
int options_fill(const struct fms_option *table, enum fms_role role, const char *plugin, const struct config *config,
                 const struct config_section *section, struct json_paths *paths, struct options_memory *memory,
                 void *instance);

/* Whether a file that a value was read from holds something else now, but for what the plugin reads again by itself (options_renew).
 * [control] */
bool options_have_changed(const struct options_memory *memory);
/* What is filled from now on has from files what they held when that was filled. 0 or -ENOMEM. */
int options_as_then(struct options_memory *memory, const struct options_memory *then);

/* Whether the table has an option for this key in that role. */
bool options_has(const struct fms_option *table, enum fms_role role, const char *key);

/* Reads again what a key has from files, as fms_renew says in fms_plugin.h, and tells `host` what there is to be told. 1, 0, or
 * -ENOENT. [any, one thread at a time for a key] */
int options_renew(struct options_memory *memory, const struct fms_host *host, const char *key);

/* Checks a plugin's table itself: names, types, defaults that parse, choices, offsets within instance_size. 0, or
 * -EINVAL with what is wrong in `error`. */
int options_check_table(const struct fms_option *table, size_t instance_size, char *error, size_t size);

/* A value of a file as it may be shown, in `text`: a secret by that word, a long one cut. */
const char *options_shown(const struct fms_option *table, const char *key, const char *value, char *text, size_t size);

/* What the option takes, in words: "1ms to 60m", "yes, no", "at least 1KiB". */
void options_accepts(const struct fms_option *option, char *text, size_t size);

#endif
