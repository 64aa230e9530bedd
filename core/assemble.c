/* assemble.c - from a pipeline file to a lane that is ready to run, and back.
 *
 * All errors of a file are reported in one go, so that one edit can mend them; the first stage opened is the last one
 * that data meets, so that nothing arrives where nobody is yet. */
#include "assemble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "call.h"
#include "clock.h"
#include "fleet.h"
#include "host.h"
#include "log.h"
#include "promise.h"
#include "settle.h"
#include "shards.h"
#include "snapshot.h"
#include "test_section.h"
#include "words.h"

/* Of max_in_flight_bytes: what memory can be addressed, within reason. */
#define MOST_BYTES (SIZE_MAX / 2 < UINT64_C(1) << 46 ? (int64_t)(SIZE_MAX / 2) : INT64_C(1) << 46)

static const struct fms_option options_table[] = {
    FMS_OPT_STRING(struct pipeline_options, name, NULL, "name in logs and metrics; the file's name when absent"),
    FMS_OPT_INTEGER(struct pipeline_options, max_in_flight, "10000", 1, 100000000,
                    "records that may be emitted and not yet settled; at the bound the source stops taking input"),
    FMS_OPT_SIZE(struct pipeline_options, max_in_flight_bytes, "64MiB", 4096, MOST_BYTES,
                 "memory that those records may take; a larger record is rejected"),
    FMS_OPT_CHOICE(struct pipeline_options, on_reject, "stop", "stop|drop",
                   "what becomes of a rejected record without a [dead_letter] section, or of a rejected dead letter"),
    FMS_OPT_DURATION(struct pipeline_options, drain_timeout, "10s", 0, 86400 * FMS_SECOND,
                     "how long a stopping pipeline waits for what is in flight"),
    FMS_OPT_DURATION(struct pipeline_options, retry_min, "100ms", FMS_MS, 3600 * FMS_SECOND,
                     "pause before records are offered again to a sink that could not deliver them"),
    FMS_OPT_DURATION(struct pipeline_options, retry_max, "10s", FMS_MS, 3600 * FMS_SECOND,
                     "the pause doubles up to this"),
    FMS_OPT_DURATION(struct pipeline_options, stats_interval, "0", 0, 86400 * FMS_SECOND,
                     "log the counts this often; 0: only at the end"),
    FMS_OPT_DURATION(struct pipeline_options, stall_after, "15s", FMS_SECOND, 86400 * FMS_SECOND,
                     "a stage that holds records and settles none for this long is warned of, and not ready"),
    FMS_OPT_TEMPLATE(
        struct pipeline_options, time, NULL,
        "when a record's data is from, as ${json:timestamp}: a Unix time in seconds, or in milli-, micro- or"
        " nanoseconds, which its size tells; then who watches sees how old data is when it comes"),
    FMS_OPT_TEMPLATE(
        struct pipeline_options, vehicle, NULL,
        "whom a record is from, as ${json:vehicle_id}: then who watches the pipeline sees its vehicles, too"),
    FMS_OPT_LIST(struct pipeline_options, vehicle_fields, NULL,
                 "at most four paths of the payload, such as speed, position.lat, that are shown of a vehicle"),
    FMS_OPT_DURATION(struct pipeline_options, silent_after, "60s", FMS_SECOND, 30 * 86400 * FMS_SECOND,
                     "a vehicle that has sent no record for so long is silent"),
    FMS_OPT_INTEGER(
        struct pipeline_options, max_vehicles, "10000", 1, 100000,
        "vehicles that are kept, of 256 bytes each; where there are more, new ones take the place of silent ones"),
    SHARDS_OPTIONS(struct pipeline_options),
    FMS_OPT_END,
};

const struct fms_option *pipeline_option_table(void)
{
    return options_table;
}

/* The bits of those who ask for what [pipeline] names, by turns with each change; a stage's is that of its index. */
#define OWN_PATHS (UINT64_C(3) << PIPELINE_MAX_STAGES)

static int section_error(struct pipeline *pipeline, const struct config_section *section, const char *format, ...)
    FMS_PRINTF(3, 4);
static int section_error(struct pipeline *pipeline, const struct config_section *section, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vconfig(FMS_LOG_ERROR, pipeline->config->path, section != NULL ? section->line : 0, format, args);
    va_end(args);
    return -EINVAL;
}

/* ----------------------------------------------------------------------------------------------------------- stages */

static enum fms_role section_role(const struct config_section *section)
{
    if (strcmp(section->kind, "source") == 0)
        return FMS_SOURCE;
    if (strcmp(section->kind, "transform") == 0)
        return FMS_TRANSFORM;
    return strcmp(section->kind, "sink") == 0 ? FMS_SINK : FMS_DEAD_LETTER;
}

static const char *role_name(enum fms_role role)
{
    return role == FMS_SOURCE ? "source" : role == FMS_TRANSFORM ? "transform" : "sink";
}

static const struct plugin *stage_plugin(struct pipeline *pipeline, const struct config_section *section,
                                         enum fms_role role)
{
    const struct config_entry *entry = config_find(section, "plugin");
    const struct plugin *plugin;

    if (entry == NULL || *entry->value == '\0') {
        section_error(pipeline, section,
                      "[%s%s%s] has no plugin: add a line plugin = NAME; `fmspipe plugins` lists them", section->kind,
                      *section->name != '\0' ? " " : "", section->name);
        return NULL;
    }
    if (pipeline->config->place != NULL && strchr(entry->value, '/') != NULL && !loader_has_loaded(entry->value)) {
        log_config(FMS_LOG_ERROR, pipeline->config->path, entry->line,
                   "plugin = %s: to load it is to run it, which takes a file of the process's own; a plugin that is"
                   " installed, or runs, can be planned",
                   entry->value);
        return NULL;
    }
    plugin = loader_load(entry->value, pipeline->config->path, entry->line);
    if (plugin != NULL && !loader_has_role(plugin, role)) {
        log_config(FMS_LOG_ERROR, pipeline->config->path, entry->line, "plugin %s cannot be a %s", plugin->table.name,
                   role_name(role));
        return NULL;
    }
    return plugin;
}

static const char *stage_name(const struct config_section *section)
{
    const char *kept = NULL;
    char *name;

    if (asprintf(&name, "%s%s%s", section->kind, *section->name != '\0' ? " " : "", section->name) >= 0) {
        kept = words_keep(name);
        free(name);
    }
    return kept;
}

void stage_free(struct stage *stage)
{
    measures_free(&stage->measures);
    promises_free(stage);
    options_memory_free(stage->memory);
    config_free(stage->config);
    free(stage->instance);
    free(stage);
}

static struct stage *stage_new(struct pipeline *pipeline, struct config *config, const struct config_section *section,
                               const struct plugin *plugin)
{
    struct stage *stage = calloc(1, sizeof *stage);
    const struct fms_plugin *table = &plugin->table;

    if (stage == NULL)
        return NULL;
    stage->pipeline = pipeline->running != NULL ? pipeline->running : pipeline;
    stage->is_new = pipeline->running != NULL;
    stage->plugin = plugin;
    stage->config = config_hold(config);
    stage->section = section;
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    stage->name = stage_name(section);
    stage->instance = calloc(1, table->instance_size > 0 ? table->instance_size : 1);
    stage->memory = options_memory_new();
    if (measures_init(&stage->measures, table) != 0 || stage->name == NULL || stage->instance == NULL ||
        stage->memory == NULL) {
        stage_free(stage);
        return NULL;
    }
    loader_put_host(table, stage->instance, &stage->host);
    return stage;
}

/* The first that no stage made for the pipeline has, nor one of that which it is to replace: fields and letters are told apart by it.
 * SIZE_MAX: there is none. */
static size_t take_index(struct pipeline *pipeline)
{
    uint64_t taken = OWN_PATHS | pipeline->indices;
    size_t index;

    for (size_t i = 0; pipeline->running != NULL && i < pipeline->running->stage_count; i++)
        taken |= UINT64_C(1) << pipeline->running->stages[i]->index;
    if (~taken == 0)
        return SIZE_MAX;
    index = (size_t)__builtin_ctzll(~taken);
    pipeline->indices |= UINT64_C(1) << index;
    return index;
}

static int too_many(struct pipeline *pipeline, const struct config_section *section)
{
    return section_error(pipeline, section, "more stages than can be changed at once: change some first");
}

/* Makes a stage and puts it where it belongs. Its options are still to be filled. */
static int place_stage(struct pipeline *pipeline, const struct config_section *section, enum fms_role role,
                       const struct plugin *plugin)
{
    struct stage *stage;
    size_t index;

    if (pipeline->stage_count == PIPELINE_MAX_STAGES)
        return section_error(pipeline, section, "more than %u stages in one pipeline", PIPELINE_MAX_STAGES);
    index = take_index(pipeline);
    if (index == SIZE_MAX)
        return too_many(pipeline, section);
    stage = stage_new(pipeline, pipeline->config, section, plugin);
    if (stage == NULL)
        return -ENOMEM;
    pipeline_add(pipeline, stage, role);
    stage->index = index;
    host_fill(stage, role);
    stage->host.pipeline = pipeline->options.name;
    return 0;
}

/* The stage of a running pipeline that says the same, of files that hold the same; NULL: there is none. */
static struct stage *same_stage(const struct pipeline *running, const struct config_section *section)
{
    for (size_t i = 0; running != NULL && i < running->stage_count; i++) {
        const struct config_section *its = running->stages[i]->section;

        if (strcmp(its->kind, section->kind) == 0 && strcmp(its->name, section->name) == 0)
            return config_is_same(its, section) && !options_have_changed(running->stages[i]->memory)
                       ? running->stages[i]
                       : NULL;
    }
    return NULL;
}

static int add_stage(struct pipeline *pipeline, const struct config_section *section)
{
    enum fms_role role = section_role(section);
    const struct plugin *plugin = stage_plugin(pipeline, section, role);
    struct stage *stage = plugin != NULL ? same_stage(pipeline->running, section) : NULL;
    int error;

    if (stage != NULL) {
        pipeline_list(pipeline, stage, role);
        return 0;
    }
    error = plugin != NULL ? place_stage(pipeline, section, role, plugin) : -EINVAL;
    if (error != 0)
        return error;
    stage = pipeline->stages[pipeline->stage_count - 1];
    json_paths_user(pipeline->paths, UINT64_C(1) << stage->index);
    return options_fill(plugin->table.options, role, plugin->table.name, pipeline->config, section, pipeline->paths,
                        stage->memory, stage->instance);
}

/* --------------------------------------------------------------------------------------------------------- sections */

static const char *const section_kinds[] = {"pipeline", "source", "transform", "sink", "dead_letter", "test"};
#define SECTION_KINDS (sizeof section_kinds / sizeof *section_kinds)

static size_t section_kind(const struct config_section *section)
{
    size_t kind = 0;

    while (kind < SECTION_KINDS && strcmp(section_kinds[kind], section->kind) != 0)
        kind++;
    return kind;
}

static int unknown_section(struct pipeline *pipeline, const struct config_section *section)
{
    const char *near = words_nearest(section->kind, section_kinds, SECTION_KINDS);

    if (near != NULL)
        return section_error(pipeline, section, "unknown section [%s]; did you mean [%s]?", section->kind, near);
    return section_error(pipeline, section,
                         "unknown section [%s]; known are [pipeline], [source], [transform NAME],"
                         " [sink NAME], [dead_letter] and [test NAME]",
                         section->kind);
}

static int check_section(struct pipeline *pipeline, const struct config_section *section,
                         const struct config_section **sole)
{
    size_t kind = section_kind(section);

    if (kind == SECTION_KINDS)
        return unknown_section(pipeline, section);
    if (strcmp(section->kind, "test") == 0)
        return test_section_check(pipeline->config, section);
    if (strcmp(section->kind, "transform") == 0 || strcmp(section->kind, "sink") == 0)
        return 0;
    if (sole[kind] != NULL)
        return section_error(pipeline, section, "a second [%s] section; the first is in line %d", section->kind,
                             sole[kind]->line);
    sole[kind] = section;
    return 0;
}

static int fill_pipeline_options(struct pipeline *pipeline, const struct config_section *section)
{
    static const struct config_section empty = {.kind = (char *)(uintptr_t) "pipeline", .name = (char *)(uintptr_t) ""};
    const char *file = config_file(pipeline->config), *base = strrchr(file, '/'), *shard = pipeline->config->shard;
    char *name = NULL;
    int error = options_fill(options_table, 0, NULL, pipeline->config, section != NULL ? section : &empty,
                             pipeline->paths, pipeline->memory, &pipeline->options);

    if (error != 0)
        return error;
    base = base != NULL ? base + 1 : file;
    if (pipeline->options.name != NULL)
        name = strdup(pipeline->options.name);
    else if (asprintf(&name, "%.*s%s%s", (int)strcspn(base, "."), base, shard != NULL ? "-" : "",
                      shard != NULL ? shard : "") < 0)
        name = NULL;
    pipeline->options.name = name != NULL ? words_keep(name) : NULL;
    pipeline->name = pipeline->options.name;
    pipeline->file = words_keep(file);
    free(name);
    pipeline->ends_within = pipeline->options.drain_timeout;
    return pipeline->options.name != NULL && pipeline->file != NULL ? 0 : -ENOMEM;
}

static bool is_stage(const struct config_section *section)
{
    size_t kind = section_kind(section);

    return kind > 0 && kind < SECTION_KINDS && strcmp(section->kind, "test") != 0;
}

static int add_stages(struct pipeline *pipeline)
{
    int error = 0;

    for (size_t i = 0; i < pipeline->config->count; i++) {
        const struct config_section *section = &pipeline->config->sections[i];

        if (is_stage(section) && add_stage(pipeline, section) != 0)
            error = -EINVAL;
    }
    return error;
}

/* The transforms, and what stands in for the rest under the name of a section that there is. */
static int add_stages_with(struct pipeline *pipeline, const struct pipeline_stand_ins *stand_ins,
                           const struct config_section *section)
{
    int error = place_stage(pipeline, section, FMS_SOURCE, &stand_ins->source);

    for (size_t i = 0; i < pipeline->config->count && error == 0; i++) {
        if (strcmp(pipeline->config->sections[i].kind, "transform") == 0)
            error = add_stage(pipeline, &pipeline->config->sections[i]);
    }
    if (error == 0)
        error = place_stage(pipeline, section, FMS_SINK, &stand_ins->sink);
    return error != 0 ? error : place_stage(pipeline, section, FMS_DEAD_LETTER, &stand_ins->sink);
}

static int add_sections(struct pipeline *pipeline, const struct pipeline_stand_ins *stand_ins)
{
    const struct config_section *sole[SECTION_KINDS] = {NULL};
    bool has_sink = false;
    int error = 0;

    for (size_t i = 0; i < pipeline->config->count; i++) {
        if (check_section(pipeline, &pipeline->config->sections[i], sole) != 0)
            error = -EINVAL;
        has_sink = has_sink || strcmp(pipeline->config->sections[i].kind, "sink") == 0;
    }
    if (sole[1] == NULL)
        error = section_error(pipeline, NULL, "there is no [source] section");
    if (!has_sink)
        error = section_error(pipeline, NULL, "there is no [sink NAME] section");
    if (fill_pipeline_options(pipeline, sole[0]) != 0)
        error = -EINVAL;
    if (stand_ins != NULL && error == 0)
        return add_stages_with(pipeline, stand_ins, sole[1]);
    if (stand_ins == NULL && add_stages(pipeline) != 0)
        error = -EINVAL;
    return error;
}

/* At the line of the option. Of one that is to take another's place only where that one's would not do. */
static int make_fleet(struct pipeline *pipeline)
{
    const struct config_section *section = config_section(pipeline->config, "pipeline");
    const struct config_entry *entry = section != NULL ? config_find(section, "vehicle_fields") : NULL;
    const struct config_entry *vehicle = section != NULL ? config_find(section, "vehicle") : NULL;
    struct fleet_options options = {pipeline->options.vehicle,
                                    pipeline->paths,
                                    pipeline->options.vehicle_fields,
                                    pipeline->options.silent_after,
                                    (size_t)pipeline->options.max_vehicles,
                                    vehicle != NULL ? vehicle->value : NULL};
    char error[256] = "";

    if (options.vehicle == NULL) {
        if (entry != NULL && !pipeline->is_copy)
            log_config(
                FMS_LOG_WARN, pipeline->config->path, entry->line,
                "vehicle_fields without vehicle: nothing is kept; add vehicle = ${json:vehicle_id}, or what names it");
        return 0;
    }
    if (pipeline->running != NULL && fleet_fits(pipeline->running->fleet, &options))
        return 0;
    pipeline->fleet = fleet_new(&options, error, sizeof error);
    if (pipeline->fleet != NULL)
        return 0;
    if (errno == EINVAL)
        log_config(FMS_LOG_ERROR, pipeline->config->path, entry != NULL ? entry->line : 0, "vehicle_fields: %s", error);
    return -errno;
}

/* What depends on all stages being known. */
static void finish_stages(struct pipeline *pipeline)
{
    bool durable = pipeline_is_durable(pipeline);

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i]->is_new || pipeline->running == NULL)
            pipeline->stages[i]->host.durable_sinks = durable;
    }
}

/* What check, open or probe returned: 0 or an error, which gets the host's words if it came without any. */
static int stage_result(struct stage *stage, const char *operation, int result)
{
    bool has_told = atomic_exchange(&stage->has_told, false);

    if (result < 0 && !has_told)
        log_config(FMS_LOG_ERROR, stage->config->path, stage->section->line,
                   "[%s] plugin %s gave no reason, but its %s failed: %s", stage->name, stage->plugin->table.name,
                   operation, strerror(-result));
    if (result > 0)
        log_config(FMS_LOG_ERROR, stage->config->path, stage->section->line,
                   "[%s] plugin %s returned %d from its %s: 0 or a negative errno is expected", stage->name,
                   stage->plugin->table.name, result, operation);
    return result <= 0 ? result : -EINVAL;
}

static int stage_check(struct stage *stage)
{
    int error = 0;

    if (stage->plugin->table.check != NULL)
        error = stage_result(stage, "check", stage->plugin->table.check(stage->instance, &stage->host));
    stage->is_checked = true;
    return error;
}

static int check_stages(struct pipeline *pipeline)
{
    int error = 0;

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        if ((stage->is_new || pipeline->running == NULL) && stage_check(stage) != 0)
            error = -EINVAL;
    }
    return error;
}

/* Whether somebody asks who records are is known once all are checked. */
static void tell_whether_asked(struct pipeline *pipeline)
{
    bool is_asked = pipeline_asks_who(pipeline);

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i]->is_new || pipeline->running == NULL)
            pipeline->stages[i]->host.identities = is_asked;
    }
    if (pipeline->running == NULL)
        pipeline_layout(pipeline);
}

/* Whether one that runs was as prone to be stopped, and that was said. */
static bool was_advised(const struct pipeline *pipeline, const struct config_section *section)
{
    const struct pipeline *running = pipeline->running;

    return running != NULL && !pipeline->source->is_new && running->dead_letter == NULL &&
           config_is_same(section, config_section(running->config, "pipeline"));
}

/* A source with a memory gets a record that was left unacknowledged again, first. Who writes on_reject = stop means it. */
static void advise_of_rejection(const struct pipeline *pipeline)
{
    const struct config_section *section = config_section(pipeline->config, "pipeline");

    if (pipeline->is_copy || was_advised(pipeline, section) || pipeline->dead_letter != NULL ||
        pipeline->options.on_reject != ON_REJECT_STOP || pipeline->source->plugin->table.source_settled == NULL)
        return;
    if (section == NULL || config_find(section, "on_reject") == NULL)
        log_config(FMS_LOG_WARN, pipeline->config->path, section != NULL ? section->line : 0,
                   "one record that is rejected stops this pipeline at each start: add a [dead_letter] section, or set"
                   " on_reject = drop in [pipeline], or on_reject = stop if that is meant");
}

static uint64_t indices_of(const struct pipeline *pipeline)
{
    uint64_t indices = pipeline->asks_as;

    for (size_t i = 0; i < pipeline->stage_count; i++)
        indices |= UINT64_C(1) << pipeline->stages[i]->index;
    return indices;
}

/* The paths of one that is to take another's place stand beside that one's. */
static int make_paths(struct pipeline *pipeline)
{
    struct pipeline *running = pipeline->running;

    pipeline->asks_as = running != NULL ? running->asks_as ^ OWN_PATHS : UINT64_C(1) << PIPELINE_MAX_STAGES;
    pipeline->paths = running != NULL ? running->paths : json_paths_new();
    if (running != NULL)
        return json_paths_stage(running->paths, indices_of(running));
    return pipeline->paths != NULL ? 0 : -ENOMEM;
}

/* 0, -EINVAL, or what is wrong with the surroundings rather than with the file. */
static int load_into(struct pipeline *pipeline, const struct pipeline_stand_ins *stand_ins)
{
    int error;

    pipeline->memory = options_memory_new();
    error = make_paths(pipeline);
    if (pipeline->memory == NULL || error != 0)
        return -ENOMEM;
    json_paths_user(pipeline->paths, pipeline->asks_as);
    if (add_sections(pipeline, stand_ins) != 0)
        return -EINVAL;
    error = make_fleet(pipeline);
    if (error != 0)
        return error;
    finish_stages(pipeline);
    if (pipeline->running == NULL)
        pipeline_layout(pipeline);
    error = pipeline->running == NULL ? snapshot_init(pipeline) : 0;
    if (error == 0)
        error = check_stages(pipeline);
    if (error == 0) {
        tell_whether_asked(pipeline);
        advise_of_rejection(pipeline);
    }
    return error;
}

/* NULL after an error, with errno. */
static struct pipeline *load(struct config *take, const struct pipeline_stand_ins *stand_ins, bool is_copy,
                             struct pipeline *running)
{
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    int error = pipeline != NULL ? pipeline_init(pipeline) : -ENOMEM;

    if (pipeline != NULL)
        pipeline->running = running;
    if (error != 0) {
        log_config(FMS_LOG_ERROR, take->path, 0, "cannot be loaded: %s", strerror(-error));
        config_free(take);
        free(pipeline);
    } else {
        pipeline->config = take;
        pipeline->is_copy = is_copy;
        error = load_into(pipeline, stand_ins);
        pipeline->is_copy = false;
        if (error == 0)
            return pipeline;
        pipeline_free(pipeline);
    }
    errno = -error;
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- shards */

/* Whether each item of a list, as it stands in a file, has a ${shard}. */
static bool items_differ(const char *text)
{
    while (*text != '\0') {
        const char *comma = strchr(text, ',');
        char *item = strndup(text, comma != NULL ? (size_t)(comma - text) : strlen(text));
        bool differs = item == NULL || shards_differ(item);

        free(item);
        if (!differs)
            return false;
        text = comma != NULL ? comma + 1 : "";
    }
    return true;
}

/* `as_told`: the section as it stands in the file. */
static int check_option_of_shards(struct pipeline *pipeline, const struct config_section *as_told,
                                  const struct fms_option *option)
{
    const struct config_entry *entry = config_find(as_told, option->name);

    if (option->unique == NULL || (entry == NULL && option->fallback == NULL) ||
        (entry != NULL && (option->type == FMS_LIST ? items_differ(entry->value) : shards_differ(entry->value))))
        return 0;
    log_config(FMS_LOG_ERROR, pipeline->config->path, entry != NULL ? entry->line : as_told->line,
               "[%s%s%s] %s = \"%s\": each shard needs its own %s: put ${shard} into %s, as in %s", as_told->kind,
               *as_told->name != '\0' ? " " : "", as_told->name, option->name,
               entry != NULL ? entry->value : option->fallback, option->unique,
               option->type == FMS_LIST ? "each item" : "it",
               option->type == FMS_LIST ? "fms/${shard}/+/data" : "NAME-${shard}");
    return -EINVAL;
}

/* The section of the file, of which this stage's is a copy with the shard in it. */
static const struct config_section *as_it_stands(const struct config *as_told, const struct config_section *section)
{
    size_t i = 0;

    while (strcmp(as_told->sections[i].kind, section->kind) != 0 ||
           strcmp(as_told->sections[i].name, section->name) != 0)
        i++;
    return &as_told->sections[i];
}

/* What must differ from shard to shard does so where it names the shard; to compare would not do, for others are elsewhere. */
static int check_shards(struct pipeline *pipeline, const struct config *as_told)
{
    int error = 0;

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        const struct stage *stage = pipeline->stages[i];
        const struct fms_option *option = stage->plugin->table.options;

        for (; option != NULL && option->name != NULL; option++) {
            if (check_option_of_shards(pipeline, as_it_stands(as_told, stage->section), option) != 0)
                error = -EINVAL;
        }
    }
    return error;
}

/* ------------------------------------------------------------------------------------------ beside one that runs */

/* Its shard of a file that has been read: who asks has seen that it is still its, but that may be some time ago. */
static int shard_of(struct config *as_told, const char *shard, struct config **its)
{
    struct shards shards;
    int error = shards_read(&shards, as_told, true, NULL);

    if (error == 0 &&
        ((shards.shards > 0) != (shard != NULL) || (shard != NULL && !shards_own(&shards, strtoll(shard, NULL, 10))))) {
        log_config(FMS_LOG_ERROR, as_told->path, 0, "its shards have changed while it was read: reload it once more");
        return -ENOTSUP;
    }
    if (error == 0)
        *its = shard != NULL ? shards_config(as_told, strtoll(shard, NULL, 10)) : config_hold(as_told);
    return error == 0 && *its == NULL ? -ENOMEM : error;
}

struct pipeline *pipeline_load_beside(struct pipeline *running)
{
    const char *shard = running->config->shard;
    struct config *as_told = NULL, *its = NULL;
    struct pipeline *pipeline = NULL;
    int error = config_read_again(running->file, &as_told);

    if (error == 0)
        error = shard_of(as_told, shard, &its);
    if (error == 0) {
        pipeline = load(its, NULL, false, running);
        error = pipeline == NULL ? -errno : shard != NULL ? check_shards(pipeline, as_told) : 0;
    }
    config_free(as_told);
    if (error == 0)
        return pipeline;
    pipeline_free(pipeline);
    errno = -error;
    return NULL;
}

struct stage *stage_remake(struct pipeline *next, const struct stage *stage)
{
    const struct fms_plugin *table = &stage->plugin->table;
    size_t index = take_index(next);
    struct stage *again = index != SIZE_MAX ? stage_new(next, stage->config, stage->section, stage->plugin) : NULL;

    if (index == SIZE_MAX)
        too_many(next, stage->section);
    if (again == NULL)
        return NULL;
    again->index = index;
    host_fill(again, stage->host.role);
    again->host.pipeline = next->options.name;
    again->host.durable_sinks = stage->host.durable_sinks;
    again->host.identities = stage->host.identities;
    json_paths_user(next->paths, UINT64_C(1) << index);
    again->is_copy = true;
    if (options_as_then(again->memory, stage->memory) == 0 &&
        options_fill(table->options, stage->host.role, table->name, stage->config, stage->section, next->paths,
                     again->memory, again->instance) == 0 &&
        stage_check(again) == 0) {
        again->is_copy = false;
        return again;
    }
    stage_free(again);
    return NULL;
}

struct pipeline *pipeline_load_config(struct config *take, const struct pipeline_stand_ins *stand_ins)
{
    return load(take, stand_ins, false, NULL);
}

struct pipeline *pipeline_load_with(const char *path, const struct pipeline_stand_ins *stand_ins)
{
    struct config *config, *its;
    struct shards shards;
    int64_t shard = 0;
    int error = config_read(path, &config);

    if (error == 0)
        error = shards_read(&shards, config, false, NULL);
    if (error == 0 && shards.shards > 0) {
        while (shard < shards.shards && !shards_own(&shards, shard))
            shard++;
        its = shards_config(config, shard < shards.shards ? shard : 0);
        config_free(config);
        config = its;
        error = config != NULL ? 0 : -ENOMEM;
    }
    if (error == 0)
        return load(config, stand_ins, false, NULL);
    config_free(config);
    errno = -error;
    return NULL;
}

struct pipeline *pipeline_load(const char *path)
{
    return pipeline_load_with(path, NULL);
}

void pipeline_free(struct pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    if (pipeline->running == NULL)
        settle_abandon(pipeline);
    pipeline_destroy(pipeline);
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i]->is_new || pipeline->running == NULL)
            stage_free(pipeline->stages[i]);
    }
    fleet_free(pipeline->fleet);
    options_memory_free(pipeline->memory);
    if (pipeline->running == NULL)
        json_paths_free(pipeline->paths);
    else if (pipeline->paths != NULL)
        json_paths_unstage(pipeline->paths);
    config_free(pipeline->config);
    free(pipeline);
}

/* ------------------------------------------------------------------------------------------- several in one process */

/* Takes it; NULL: errno says what was wrong. 0 or that. */
static int add_pipeline(struct pipelines *all, struct pipeline *take)
{
    struct pipeline **items = take != NULL ? realloc(all->items, (all->count + 1) * sizeof(struct pipeline *)) : NULL;

    if (take == NULL)
        return -errno;
    if (items == NULL) {
        pipeline_free(take);
        return -ENOMEM;
    }
    all->items = items;
    items[all->count++] = take;
    return 0;
}

/* The first tells what there is to tell of all. */
static int add_shard(struct pipelines *all, const struct config *config, int64_t shard, bool is_first)
{
    struct config *its = shards_config(config, shard);
    int error = its != NULL ? add_pipeline(all, load(its, NULL, !is_first, NULL)) : -ENOMEM;

    return error == 0 && is_first ? check_shards(all->items[all->count - 1], config) : error;
}

static bool shard_runs(int64_t shard, pipelines_run *runs, void *user)
{
    char number[24];

    snprintf(number, sizeof number, "%lld", (long long)shard);
    return runs != NULL && runs(user, number);
}

static int add_shards(struct pipelines *all, const struct config *config, const struct shards *shards,
                      pipelines_run *runs, void *user)
{
    size_t before = all->count;
    bool has_any = false;
    long long given_up = 0;
    int error = 0;

    for (int64_t shard = 0; shard < shards->shards && error == 0; shard++) {
        if (!shards_own(shards, shard)) {
            given_up += shard % shards->replicas == shards->ordinal;
            continue;
        }
        has_any = true;
        if (!shard_runs(shard, runs, user))
            error = add_shard(all, config, shard, all->count == before);
    }
    if (error == 0 && !has_any)
        log_config(FMS_LOG_WARN, config->path, 0, "replica %lld has none of the %lld shards",
                   (long long)shards->ordinal, (long long)shards->shards);
    if (error == 0 && given_up > 0) /* should the second step be forgotten, the broker forgets them in the end */
        log_config(FMS_LOG_WARN, config->path, 0,
                   "replicas_next = %lld: until replicas is %lld, too, %lld of the shards of replica %lld are nobody's",
                   (long long)shards->replicas_next, (long long)shards->replicas_next, given_up,
                   (long long)shards->ordinal);
    while (error != 0 && all->count > before)
        pipeline_free(all->items[--all->count]);
    return error;
}

int pipelines_load(struct pipelines *all, const char *path, const struct config *was, pipelines_run *runs, void *user)
{
    struct config *config;
    struct shards shards;
    int error = runs != NULL ? config_read_again(path, &config) : config_read(path, &config);

    if (error == 0)
        error = shards_read(&shards, config, runs != NULL, was);
    if (error == 0 && shards.shards == 0 && (runs == NULL || !runs(user, NULL)))
        return add_pipeline(all, load(config, NULL, false, NULL));
    if (error == 0 && shards.shards > 0)
        error = add_shards(all, config, &shards, runs, user);
    config_free(config);
    return error;
}

void pipelines_free(struct pipelines *all)
{
    while (all->count > 0)
        pipeline_free(all->items[--all->count]);
    free(all->items);
    all->items = NULL;
}

static const char *unique_value(const struct stage *stage, const struct fms_option *option)
{
    const char *value;

    memcpy(&value, (const char *)stage->instance + option->offset, sizeof value);
    return value;
}

/* Warns if a stage before this one has the same value for an option of the same `unique` word; of stages that run already, and stay,
 * that was said: these are not of the pipelines that are to take the place of theirs. */
static void check_unique(struct pipeline *const *pipelines, size_t count, const struct pipeline *pipeline,
                         const struct stage *stage, const struct fms_option *option)
{
    const char *value = unique_value(stage, option);

    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < pipelines[i]->stage_count; k++) {
            const struct stage *other = pipelines[i]->stages[k];
            const struct fms_option *its = other->plugin->table.options;

            if (other == stage)
                return;
            for (; its != NULL && its->name != NULL; its++) {
                if (its->unique == NULL || strcmp(its->unique, option->unique) != 0 ||
                    (stage->pipeline != pipeline && other->pipeline != pipelines[i]) ||
                    unique_value(other, its) == NULL || strcmp(unique_value(other, its), value) != 0)
                    continue;
                fms_advise(&stage->host, option->name,
                           "%s \"%s\" is also that of [%s] in %s; each stage needs one"
                           " of its own",
                           option->unique, value, other->name, other->pipeline->config->path);
            }
        }
    }
}

static bool stages_share(const struct stage *a, const struct stage *b)
{
    const struct fms_option *first = a->plugin->table.options;

    for (; first != NULL && first->name != NULL; first++) {
        const struct fms_option *second = b->plugin->table.options;

        if (first->unique == NULL || first->type != FMS_STRING || unique_value(a, first) == NULL)
            continue;
        for (; second != NULL && second->name != NULL; second++) {
            if (second->unique != NULL && second->type == FMS_STRING && strcmp(first->unique, second->unique) == 0 &&
                unique_value(b, second) != NULL && strcmp(unique_value(a, first), unique_value(b, second)) == 0)
                return true;
        }
    }
    return false;
}

bool pipeline_shares(const struct pipeline *a, const struct pipeline *b)
{
    bool shares = strcmp(a->options.name, b->options.name) == 0;

    for (size_t i = 0; i < a->stage_count; i++) {
        for (size_t k = 0; k < b->stage_count && !shares; k++)
            shares = stages_share(a->stages[i], b->stages[k]);
    }
    return shares;
}

int pipeline_check_together(struct pipeline *const *pipelines, size_t count)
{
    int error = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(pipelines[i]->options.name, pipelines[k]->options.name) == 0)
                error = section_error(pipelines[i], NULL,
                                      "the pipeline's name \"%s\" is also that of %s: set name in"
                                      " [pipeline]",
                                      pipelines[i]->options.name, pipelines[k]->config->path);
        }
        for (size_t k = 0; k < pipelines[i]->stage_count; k++) {
            const struct stage *stage = pipelines[i]->stages[k];
            const struct fms_option *option = stage->plugin->table.options;

            for (; option != NULL && option->name != NULL; option++) {
                if (option->unique != NULL && option->type == FMS_STRING && unique_value(stage, option) != NULL)
                    check_unique(pipelines, count, pipelines[i], stage, option);
            }
        }
    }
    return error;
}

/* --------------------------------------------------------------------------------------------------- open and close */

int stage_open(struct stage *stage)
{
    int error = 0;

    stage->host.watched = stage->pipeline->is_measured;
    stage->stalled_since = clock_now();
    if ((stage->plugin->table.traits & FMS_TRAIT_LINK) != 0)
        measures_link(&stage->measures, false, "not connected yet");
    if (stage->plugin->table.open != NULL)
        error = stage_result(stage, "open", stage->plugin->table.open(stage->instance, &stage->host));
    if (error == 0 && stage->is_dead) { /* it has broken a rule */
        if (stage->plugin->table.close != NULL)
            stage->plugin->table.close(stage->instance);
        error = -EINVAL;
    }
    stage->is_open = error == 0;
    return error;
}

int pipeline_open(struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);
    int error = 0;

    for (size_t i = 0; i < slots && error == 0; i++)
        error = stage_open(pipeline->sinks[i]);
    for (size_t i = 0; i < pipeline->transform_count && error == 0; i++)
        error = stage_open(pipeline->transforms[i]);
    if (error == 0)
        error = stage_open(pipeline->source);
    if (error != 0)
        pipeline_close(pipeline);
    return error;
}

void pipeline_close(struct pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->stages_lock);
    stage_close(pipeline->source);
    for (size_t i = 0; i < pipeline->transform_count; i++)
        stage_close(pipeline->transforms[i]);
    for (size_t i = 0; i < pipeline_slots(pipeline); i++)
        stage_close(pipeline->sinks[i]);
    pthread_mutex_unlock(&pipeline->stages_lock);
    pthread_mutex_lock(&pipeline->lock); /* somebody may look whether it has ended (lane_take) */
    snapshot_take(pipeline);
    pthread_mutex_unlock(&pipeline->lock);
}

int pipeline_probe(struct pipeline *pipeline, int64_t timeout)
{
    int failed = 0;

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        if (stage->plugin->table.probe == NULL)
            fms_report(&stage->host, "nothing to connect");
        else if (stage_result(stage, "probe",
                              stage->plugin->table.probe(stage->instance, &stage->host, clock_now() + timeout)) != 0)
            failed++;
    }
    return failed;
}
