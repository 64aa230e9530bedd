/* sieve.c - see sieve.h. A small pipeline, made in memory, with stand-ins for source and sinks; whoever asks is its lane meanwhile. */
#include "sieve.h"

#include <errno.h>
#include <stdlib.h>

#include "assemble.h"
#include "lane.h"
#include "log.h"

struct sieve {
    struct pipeline *pipeline;
    const size_t *passed;
};

struct stand_in {
    const struct fms_host *host;
    size_t count; /* sinks: of records that came */
};

static int sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stand_in *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    self->count += count;
    return (int)count;
}

static const struct pipeline_stand_ins stand_ins = {
    .source = {.table = {.name = "sieve",
                         .instance_size = sizeof(struct stand_in),
                         .host = FMS_HOST(struct stand_in, host)}},
    .sink = {.table = {.name = "sieve",
                       .instance_size = sizeof(struct stand_in),
                       .sink_write = sink_write,
                       .host = FMS_HOST(struct stand_in, host)}},
};

static bool add_entry(struct config_section *section, const char *key, const char *value)
{
    struct config_entry *entry = &section->entries[section->count++];

    *entry = (struct config_entry){.key = strdup(key), .value = strdup(value)};
    return entry->key != NULL && entry->value != NULL;
}

/* What a file would say. Values stand as they are, whatever characters they are of. NULL: out of memory. */
static struct config *make_config(const char *origin, const char *plugin, const char *const *options)
{
    static const char text[] = "[source]\n[transform]\n[sink out]\n";
    struct config *config;
    struct config_section *section;
    bool is_good;

    if (config_parse(origin, text, strlen(text), &config) != 0)
        return NULL;
    section = &config->sections[1];
    section->entries = calloc(SIEVE_OPTIONS + 1, sizeof *section->entries);
    free(section->name);
    section->name = strdup(plugin);
    is_good = section->entries != NULL && section->name != NULL && add_entry(section, "plugin", plugin);
    for (; is_good && *options != NULL && section->count <= SIEVE_OPTIONS; options += 2)
        is_good = add_entry(section, options[0], options[1]);
    if (is_good)
        return config;
    config_free(config);
    return NULL;
}

struct sieve *sieve_new(const char *origin, const char *plugin, const char *const *options)
{
    struct config *config = make_config(origin, plugin, options);
    struct sieve *sieve = calloc(1, sizeof *sieve);

    if (config == NULL || sieve == NULL) {
        log_line(FMS_LOG_ERROR, NULL, NULL, "%s: out of memory", origin);
        config_free(config);
        free(sieve);
        return NULL;
    }
    sieve->pipeline = pipeline_load_config(config, &stand_ins);
    if (sieve->pipeline == NULL || pipeline_open(sieve->pipeline) != 0) {
        pipeline_free(sieve->pipeline);
        free(sieve);
        return NULL;
    }
    pipeline_layout(sieve->pipeline); /* as its lane would, had it one: now all say which fields they ask for */
    sieve->passed = &((const struct stand_in *)sieve->pipeline->sinks[0]->instance)->count;
    return sieve;
}

bool sieve_passes(struct sieve *sieve, const struct fms_record *draft)
{
    size_t before = *sieve->passed;

    lane_enter(sieve->pipeline);
    fms_emit(&sieve->pipeline->source->host, draft);
    lane_leave(sieve->pipeline);
    return *sieve->passed > before;
}

void sieve_free(struct sieve *sieve)
{
    if (sieve == NULL)
        return;
    sieve->pipeline->transforms[0]->measures.counter_count = 0; /* which would be logged, and nobody asked for */
    pipeline_close(sieve->pipeline);
    pipeline_free(sieve->pipeline);
    free(sieve);
}
