/* shards.c - see shards.h. ${shard} is put into the text of a file before anything else looks at it, so that all values can have
 * it, and nothing behind needs to know of shards. */
#include "shards.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "options.h"

#define REFERENCE "${shard}"

static const struct fms_option table[] = {SHARDS_OPTIONS(struct shards), FMS_OPT_END};

/* ----------------------------------------------------------------------------------------------------- what is said */

static int shards_error(const struct config *config, const struct config_section *section, const char *option,
                        const char *format, ...) FMS_PRINTF(4, 5);
static int shards_error(const struct config *config, const struct config_section *section, const char *option,
                        const char *format, ...)
{
    const struct config_entry *entry = config_find(section, option);
    va_list args;

    va_start(args, format);
    log_vconfig(FMS_LOG_ERROR, config->path, entry != NULL ? entry->line : section->line, format, args);
    va_end(args);
    return -EINVAL;
}

/* "2", or "bridge-2"; "-2" is a mistake. */
static bool read_ordinal(const char *text, int64_t *ordinal)
{
    const char *dash = strrchr(text + (text[0] != '\0'), '-');
    const char *digits = dash != NULL ? dash + 1 : text;
    size_t size = strspn(digits, "0123456789");

    if (size == 0 || size > 9 || digits[size] != '\0')
        return false;
    *ordinal = strtol(digits, NULL, 10);
    return true;
}

static int check(struct shards *shards, const struct config *config, const struct config_section *section, bool may_go)
{
    if (!read_ordinal(shards->replica, &shards->ordinal))
        return shards_error(
            config, section, "replica",
            "replica is \"%s\": expected a number, from 0, or a name that ends in one, such as bridge-2",
            shards->replica);
    if (shards->replicas > 1 && config_find(section, "replica") == NULL)
        return shards_error(config, section, "replicas",
                            "replicas = %" PRId64
                            ", but replica is not set: say which of them this is, from 0 to %" PRId64,
                            shards->replicas, shards->replicas - 1);
    if (shards->ordinal >= shards->replicas && shards->ordinal >= shards->replicas_next && !may_go)
        return shards_error(config, section, "replica",
                            "replica is %" PRId64 ", but replicas = %" PRId64 ", and they are counted from 0: start no"
                            " more than %" PRId64 ", or raise replicas in all of them",
                            shards->ordinal, shards->replicas, shards->replicas);
    return 0;
}

/* Leaves those of its options that are about shards: the rest may name them. */
static void pick(struct config_section *part, struct config_entry *entries, const struct config_section *section)
{
    *part = *section;
    part->entries = entries;
    part->count = 0;
    for (const struct fms_option *option = table; option->name != NULL; option++) {
        const struct config_entry *entry = config_find(section, option->name);

        if (entry != NULL)
            entries[part->count++] = *entry;
    }
}

int shards_read(struct shards *shards, const struct config *config, bool has_run, const struct config *was)
{
    struct config_entry entries[sizeof table / sizeof table[0]];
    struct options_memory *memory = options_memory_new();
    const struct config_section *section = config_section(config, "pipeline");
    struct config_section part = {0};
    int error = memory != NULL ? 0 : -ENOMEM;

    *shards = (struct shards){.replicas = 1};
    if (section != NULL)
        pick(&part, entries, section);
    if (error == 0 && part.kind != NULL) {
        error = options_fill(table, 0, NULL, config, &part, NULL, memory, shards);
        if (error == 0 && shards->shards > 0)
            error = check(shards, config, &part,
                          has_run &&
                              (was == NULL || config_has_same(config_section(was, "pipeline"), section, "replica")));
        shards->replica = NULL;
    }
    options_memory_free(memory);
    return error;
}

bool shards_own(const struct shards *shards, int64_t shard)
{
    return shard % shards->replicas == shards->ordinal &&
           (shards->replicas_next == 0 || shard % shards->replicas_next == shards->ordinal);
}

/* ----------------------------------------------------------------------------------------------------- what is made */

/* The first in the text; NULL: none. $${shard} is none. */
static const char *find(const char *text)
{
    const char *at = text;

    while ((at = strstr(at, REFERENCE)) != NULL && at > text && at[-1] == '$')
        at++;
    return at;
}

bool shards_differ(const char *text)
{
    return find(text) != NULL;
}

/* A copy with the number in the place of each ${shard}. NULL: no memory. */
static char *put_number(const char *text, const char *number)
{
    size_t most = strlen(text) + 1; /* a number is not longer than a reference */
    char *copy = malloc(most), *to = copy;
    const char *at;

    if (copy == NULL)
        return NULL;
    while ((at = find(text)) != NULL) {
        to += snprintf(to, most - (size_t)(to - copy), "%.*s%s", (int)(at - text), text, number);
        text = at + strlen(REFERENCE);
    }
    snprintf(to, most - (size_t)(to - copy), "%s", text);
    return copy;
}

/* The name of a pipeline that does not say of which shard it is gets its number. */
static char *put_number_in_name(const char *text, const char *number)
{
    char *copy;

    if (find(text) != NULL)
        return put_number(text, number);
    return asprintf(&copy, "%s-%s", text, number) >= 0 ? copy : NULL;
}

static bool copy_section(struct config_section *copy, const struct config_section *section, const char *number)
{
    bool is_pipeline = strcmp(section->kind, "pipeline") == 0;

    *copy = (struct config_section){strdup(section->kind),
                                    strdup(section->name),
                                    section->line,
                                    calloc(section->count + 1, sizeof *copy->entries),
                                    0,
                                    section->environment};
    if (copy->kind == NULL || copy->name == NULL || copy->entries == NULL)
        return false;
    for (size_t i = 0; i < section->count; i++) {
        const struct config_entry *entry = &section->entries[i];
        bool is_name = is_pipeline && strcmp(entry->key, "name") == 0;
        struct config_entry *its = &copy->entries[copy->count++];

        its->line = entry->line;
        its->key = strdup(entry->key);
        its->value = is_name ? put_number_in_name(entry->value, number) : put_number(entry->value, number);
        if (its->key == NULL || its->value == NULL)
            return false;
    }
    return true;
}

struct config *shards_config(const struct config *config, int64_t shard)
{
    struct config *copy = calloc(1, sizeof *copy);
    char number[24];
    bool is_whole;

    snprintf(number, sizeof number, "%" PRId64, shard);
    if (copy == NULL)
        return NULL;
    copy->environment = environment_hold(config->environment);
    copy->path = strdup(config->path);
    copy->place = config->place != NULL ? strdup(config->place) : NULL;
    copy->shard = strdup(number);
    copy->sections = calloc(config->count + 1, sizeof *copy->sections);
    is_whole = copy->path != NULL && copy->shard != NULL && copy->sections != NULL &&
               (config->place == NULL || copy->place != NULL);
    while (is_whole && copy->count < config->count) {
        is_whole = copy_section(&copy->sections[copy->count], &config->sections[copy->count], number);
        copy->count++;
    }
    if (!is_whole) {
        config_free(copy);
        return NULL;
    }
    return copy;
}
