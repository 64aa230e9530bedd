/* config.h - a pipeline file as sections and entries, each with its line. */
#ifndef FMS_CONFIG_H
#define FMS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "environment.h"

struct config_entry {
    char *key;
    char *value; /* unquoted, without comment, blanks trimmed; ${...} as it stands */
    int line;
};

struct config_section {
    char *kind; /* "pipeline", "source", "transform", "sink", "dead_letter", or whatever stands first in the brackets */
    char *name; /* "check" of [transform check]; "" without one */
    int line;
    struct config_entry *entries;
    size_t count;
    struct environment *environment; /* the file's */
};

struct config {
    char *path;  /* for messages */
    char *place; /* the file in whose place it is a text that somebody gave; NULL: it is that of `path` */
    struct environment *environment; /* what its ${env:...} are of */
    char *shard; /* the number that ${shard} stood for; NULL: the file has no shards. See shards.h */
    struct config_section *sections;
    size_t count;
    unsigned holders; /* but the first */
};

/* Reads a file, with the environment in use. Each error is logged with file and line; all of them, not the first alone. 0, -EINVAL for a bad file,
 * or what open and read say. *config is to be freed, and is NULL after an error. */
int config_read(const char *path, struct config **config);

/* The same while pipelines run, without waiting for anybody: -EINVAL where it is a FIFO, for example, whose writer may never come. */
int config_read_again(const char *path, struct config **config);
/* A descriptor to read such a file; or a negative errno, -ESPIPE where it is none. */
int config_open_file(const char *path);

/* The same from memory; `name` stands for the path in messages. */
int config_parse(const char *name, const char *text, size_t size, struct config **config);

/* From now on config_read_again takes that text for what the file at `place` holds, and messages name it `name`; all of it lives until the next
 * call. NULL: each file holds its own again. [control] */
void config_stand_in(const char *place, const char *name, const char *text, size_t size);
/* The file that it is, or in whose place it is. */
const char *config_file(const struct config *config);

/* Who holds it frees it, too; it goes with the last. [control] */
struct config *config_hold(struct config *config);
void config_free(struct config *config);

/* Whether they say the same, in the same order, on whatever lines, and their environments what they have of these. NULL says nothing. */
bool config_is_same(const struct config_section *a, const struct config_section *b);
/* The same of one key. */
bool config_has_same(const struct config_section *a, const struct config_section *b, const char *key);

/* The first section of that kind, or NULL. */
const struct config_section *config_section(const struct config *config, const char *kind);
/* The entry of that key, or NULL. */
const struct config_entry *config_find(const struct config_section *section, const char *key);

#endif
