/* loader.c - finds and loads plugins.
 *
 * The entry point's name carries the ABI number, so that a plugin of another ABI is recognised by a lookup, before any
 * of its data is read. */
#include "loader.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"
#include "options.h"
#include "words.h"

#define LOADER_MAX_ABI 64 /* how far to look for the ABI of a plugin that has not ours */
#define STRING_(x)     #x
#define STRING(x)      STRING_(x)

static char *loader_directories; /* separated by colons */
static struct plugin **loader_plugins;
static size_t loader_count;

struct where {
    const char *file;
    int line;
};

static void *loader_error(struct where where, const char *format, ...) FMS_PRINTF(2, 3);
static void *loader_error(struct where where, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vconfig(FMS_LOG_ERROR, where.file, where.line, format, args);
    va_end(args);
    return NULL;
}

char *loader_beside(const char *relative)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash, *text;

    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    if (slash == NULL)
        return NULL;
    *slash = '\0';
    return asprintf(&text, "%s/../%s", exe, relative) >= 0 ? text : NULL;
}

char *loader_missing(const char *part)
{
    char *path = loader_beside(FMS_DATADIR "/fmspipe/parts"), *line = NULL, *advice = NULL;
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    size_t size = strlen(part), room = 0;

    while (file != NULL && advice == NULL && getline(&line, &room, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, part, size) == 0 && line[size] == ' ')
            advice = strdup(line + size + 1);
    }
    if (file != NULL)
        fclose(file);
    free(line);
    free(path);
    return advice;
}

const void *loader_open_own(const char *part, const char *entry, const char *who)
{
    char *folder = loader_beside(FMS_LIBDIR "/fmspipe"), *path = NULL, *advice = NULL;
    const char *const *(*get)(void) = NULL;
    const char *const *table = NULL;
    const char *why;
    void *object = NULL;

    if (folder != NULL && asprintf(&path, "%s/%s.so", folder, part) >= 0)
        object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (object != NULL)
        *(void **)&get = dlsym(object, entry);
    why = get == NULL ? dlerror() : NULL;
    if (get == NULL) {
        advice = loader_missing(part);
        log_line(FMS_LOG_ERROR, NULL, NULL,
                 "%s needs %s.so, a part of fmspipe that can be left out, and it cannot be loaded: %s; %s", who, part,
                 why != NULL ? why : "out of memory", advice != NULL ? advice : "install it");
    } else {
        table = get();
    }
    if (table != NULL && strcmp(*table, FMS_VERSION) != 0) {
        log_line(FMS_LOG_ERROR, NULL, NULL,
                 "%s is of version %s, and this is fmspipe " FMS_VERSION ": install both of one", path, *table);
        table = NULL;
    }
    free(advice);
    free(path);
    free(folder);
    return table;
}

/* In a build tree plugins/ stands beside bin/. */
static char *loader_builtin(void)
{
    char *built = loader_beside("plugins"), *installed = loader_beside(FMS_LIBDIR "/fmspipe/plugins"), *text = NULL;

    if (built != NULL && installed != NULL && asprintf(&text, "%s:%s", built, installed) < 0)
        text = NULL;
    free(built);
    free(installed);
    return text;
}

void loader_search(const char *directories)
{
    char *builtin = loader_builtin();
    char *text;

    if (directories == NULL)
        directories = "";
    if (asprintf(&text, "%s%s%s", directories, *directories != '\0' ? ":" : "", builtin != NULL ? builtin : "") >= 0) {
        free(loader_directories);
        loader_directories = text;
    }
    free(builtin);
}

/* The next directory of the list, or NULL. Advances *rest. */
static char *loader_next_directory(const char **rest)
{
    size_t n;
    char *directory;

    *rest += strspn(*rest, ":");
    n = strcspn(*rest, ":");
    if (n == 0)
        return NULL;
    directory = strndup(*rest, n);
    *rest += n;
    return directory;
}

static char *loader_find(const char *name)
{
    const char *rest;
    char *directory;

    if (strchr(name, '/') != NULL)
        return access(name, F_OK) == 0 ? realpath(name, NULL) : NULL;
    if (loader_directories == NULL)
        loader_search(NULL);
    rest = loader_directories != NULL ? loader_directories : "";
    while ((directory = loader_next_directory(&rest)) != NULL) {
        char *path = NULL, *real = NULL;

        if (asprintf(&path, "%s/%s.so", directory, name) >= 0 && access(path, F_OK) == 0)
            real = realpath(path, NULL);
        free(path);
        free(directory);
        if (real != NULL)
            return real;
    }
    return NULL;
}

/* A plugin without our entry point: says whether it is older, newer, or none. */
static void *loader_refuse_abi(void *object, const char *path, struct where where)
{
    char entry[64];

    for (int abi = 0; abi <= LOADER_MAX_ABI; abi++) {
        snprintf(entry, sizeof entry, "fms_plugin_abi_%d", abi);
        if (abi == FMS_ABI || dlsym(object, entry) == NULL)
            continue;
        if (abi < FMS_ABI)
            return loader_error(where,
                                "%s is older than this fmspipe: it was built for plugin ABI %d, and %d is needed;"
                                " build it again with this version's fms_plugin.h",
                                path, abi, FMS_ABI);
        return loader_error(where,
                            "%s is newer than this fmspipe: it needs plugin ABI %d, and this is %d;"
                            " use a newer fmspipe",
                            path, abi, FMS_ABI);
    }
    return loader_error(where,
                        "%s is no fmspipe plugin: it has no function fms_plugin_abi_%d;"
                        " does its file end with FMS_PLUGIN(...)?",
                        path, FMS_ABI);
}

/* The first metric of a table that has no good name, or no help; NULL: none. */
static const char *loader_bad_metric(const struct fms_metric *metrics)
{
    for (; metrics != NULL && metrics->name != NULL; metrics++) {
        const char *name = metrics->name;

        if (*name < 'a' || *name > 'z' || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0' ||
            metrics->help == NULL)
            return name;
    }
    return NULL;
}

/* Whether `name` is what a series of the metric `other` would be called. */
static bool loader_is_series_of(const char *name, const char *other, bool is_duration)
{
    static const char *const ends[] = {"", "_total", "_bucket", "_count", "_sum"};
    size_t size = strlen(other), count = is_duration ? sizeof ends / sizeof ends[0] : 2;

    if (size > strlen(ends[1]) && strcmp(other + size - strlen(ends[1]), ends[1]) == 0)
        size -= strlen(ends[1]); /* as a counter may be named */
    for (size_t i = 0; i < count && strncmp(name, other, size) == 0; i++) {
        if (strcmp(name + size, ends[i]) == 0)
            return true;
    }
    return false;
}

/* The first metric whose series would be mistaken for another's; NULL: none. */
static const char *loader_double_metric(const struct fms_plugin *table)
{
    const struct fms_metric *const tables[] = {table->counters, table->gauges, table->durations};

    for (const struct fms_metric *const *to = tables; to < tables + 3; to++) {
        for (const struct fms_metric *other = *to; other != NULL && other->name != NULL; other++) {
            for (const struct fms_metric *const *of = tables; of < tables + 3; of++) {
                for (const struct fms_metric *metric = *of; metric != NULL && metric->name != NULL; metric++) {
                    if (metric != other && loader_is_series_of(metric->name, other->name, *to == table->durations))
                        return metric->name;
                }
            }
        }
    }
    return NULL;
}

static const char *loader_bad_table(const struct fms_plugin *table, const char *path, char *text, size_t size)
{
    const char *base = strrchr(path, '/') + 1;
    size_t n = strlen(base) - strlen(".so");
    const char *bad;

    if (table->name == NULL || table->summary == NULL || table->version == NULL)
        return "its table lacks name, version or summary";
    if (strlen(base) <= strlen(".so") || strcmp(base + n, ".so") != 0)
        return "a plugin's file must end in .so";
    if (strlen(table->name) != n || strncmp(table->name, base, n) != 0) {
        snprintf(text, size, "its table says the name is \"%s\": rename the one or the other", table->name);
        return text;
    }
    if (table->source_poll == NULL && table->transform == NULL && table->sink_write == NULL)
        return "it is neither source nor transform nor sink: set source_poll, transform or sink_write";
    if (table->host > 0 && table->host - 1 + sizeof(struct fms_host *) > table->instance_size)
        return "its .host lies outside of the instance: make it with FMS_HOST(struct ..., field)";
    if ((bad = loader_bad_metric(table->counters)) != NULL || (bad = loader_bad_metric(table->gauges)) != NULL ||
        (bad = loader_bad_metric(table->durations)) != NULL) {
        snprintf(text, size, "its metric \"%s\" has no good name, or no help: a-z, 0-9 and _, a letter first", bad);
        return text;
    }
    if ((bad = loader_double_metric(table)) != NULL) {
        snprintf(text, size,
                 "it has more than one metric \"%s\": of counters, gauges and durations together each has its own name",
                 bad);
        return text;
    }
    if (table->options != NULL && options_check_table(table->options, table->instance_size, text, size) != 0)
        return text;
    return NULL;
}

/* Our copy of the plugin's table: as much as it has, the rest zero. */
static struct plugin *loader_copy(const struct fms_plugin *theirs, const char *path, struct where where)
{
    struct plugin *plugin;
    char text[256];
    const char *bad;

    if (theirs == NULL || theirs->abi != FMS_ABI || theirs->size < offsetof(struct fms_plugin, options))
        return loader_error(where, "%s: its table is malformed; make it with FMS_PLUGIN(...)", path);
    if (theirs->size > sizeof plugin->table ||
        (theirs->size >= offsetof(struct fms_plugin, host) && theirs->host_size > sizeof(struct fms_host)) ||
        (theirs->size > offsetof(struct fms_plugin, record_size) && theirs->record_size > sizeof(struct fms_record)))
        return loader_error(where,
                            "%s is newer than this fmspipe: it may call for what there is not here; use a newer"
                            " fmspipe, or build it again with this version's fms_plugin.h",
                            path);
    plugin = calloc(1, sizeof *plugin);
    if (plugin == NULL || (plugin->path = strdup(path)) == NULL) {
        free(plugin);
        return loader_error(where, "%s: out of memory", path);
    }
    memcpy(&plugin->table, theirs, theirs->size < sizeof plugin->table ? theirs->size : sizeof plugin->table);
    bad = loader_bad_table(&plugin->table, path, text, sizeof text);
    if (bad == NULL)
        return plugin;
    free(plugin->path);
    free(plugin);
    return loader_error(where, "%s: %s", path, bad);
}

static struct plugin *loader_open(const char *path, struct where where)
{
    const struct fms_plugin *(*entry)(void);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    struct plugin *plugin;
    void *symbol;

    if (object == NULL)
        return loader_error(where, "cannot load plugin: %s", dlerror());
    symbol = dlsym(object, STRING(FMS_ENTRY(FMS_ABI)));
    if (symbol == NULL) {
        loader_refuse_abi(object, path, where);
        dlclose(object);
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof entry);
    plugin = loader_copy(entry(), path, where);
    if (plugin == NULL)
        dlclose(object);
    return plugin;
}

static struct plugin *loader_known(const char *path)
{
    for (size_t i = 0; i < loader_count; i++) {
        if (strcmp(loader_plugins[i]->path, path) == 0)
            return loader_plugins[i];
    }
    return NULL;
}

static int loader_by_name(const void *a, const void *b)
{
    const struct plugin *const *left = a, *const *right = b;

    return strcmp((*left)->table.name, (*right)->table.name);
}

/* Loads what is at `path`, which must be absolute and without links, and keeps it. */
static struct plugin *loader_keep(const char *path, struct where where)
{
    struct plugin *plugin = loader_known(path);
    struct plugin **grown;

    if (plugin != NULL)
        return plugin;
    plugin = loader_open(path, where);
    if (plugin == NULL)
        return NULL;
    grown = realloc(loader_plugins, (loader_count + 1) * sizeof *grown);
    if (grown == NULL) {
        free(plugin->path);
        free(plugin);
        return loader_error(where, "%s: out of memory", path);
    }
    loader_plugins = grown;
    loader_plugins[loader_count++] = plugin;
    return plugin;
}

static void loader_names(char **names, size_t most, size_t *count);

static const struct plugin *loader_not_found(const char *name, struct where where)
{
    char *names[128], *advice;
    size_t count = 0;
    const char *near;

    if (strchr(name, '/') != NULL)
        return loader_error(where, "there is no plugin file %s", name);
    advice = loader_missing(name);
    if (advice != NULL) {
        loader_error(where, "the plugin \"%s\" is not here: %s", name, advice);
        free(advice);
        return NULL;
    }
    loader_names(names, sizeof names / sizeof *names, &count);
    near = words_nearest(name, (const char *const *)names, count);
    if (near != NULL)
        loader_error(where, "there is no plugin \"%s\"; did you mean \"%s\"?", name, near);
    else
        loader_error(where, "there is no plugin \"%s\" in %s; `fmspipe plugins` lists them", name, loader_directories);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    return NULL;
}

const struct plugin *loader_load(const char *name, const char *file, int line)
{
    struct where where = {file, line};
    char *path = loader_find(name);
    const struct plugin *plugin;

    if (path == NULL)
        return loader_not_found(name, where);
    plugin = loader_keep(path, where);
    free(path);
    return plugin;
}

bool loader_has_loaded(const char *name)
{
    char *path = loader_find(name);
    bool is_known = path != NULL && loader_known(path) != NULL;

    free(path);
    return is_known;
}

static int loader_is_object(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return n > 3 && strcmp(entry->d_name + n - 3, ".so") == 0;
}

/* Names of all plugin files, without loading them; the caller frees them. */
static void loader_names(char **names, size_t most, size_t *count)
{
    const char *rest = loader_directories != NULL ? loader_directories : "";
    char *directory;

    while ((directory = loader_next_directory(&rest)) != NULL) {
        struct dirent **entries;
        int n = scandir(directory, &entries, loader_is_object, alphasort);

        for (int i = 0; i < n; i++) {
            if (*count < most && (names[*count] = strndup(entries[i]->d_name, strlen(entries[i]->d_name) - 3)) != NULL)
                ++*count;
            free(entries[i]);
        }
        if (n >= 0)
            free(entries);
        free(directory);
    }
}

void loader_each(void (*visit)(const struct plugin *plugin, void *user), void *user)
{
    char *names[128];
    const struct plugin *found[128];
    size_t count = 0, kept = 0;

    if (loader_directories == NULL)
        loader_search(NULL);
    loader_names(names, sizeof names / sizeof *names, &count);
    for (size_t i = 0; i < count; i++) {
        const struct plugin *plugin = loader_load(names[i], "plugins", 0);
        bool again = plugin == NULL;

        for (size_t k = 0; k < kept && !again; k++)
            again = found[k] == plugin;
        if (!again)
            found[kept++] = plugin;
        free(names[i]);
    }
    qsort(found, kept, sizeof *found, loader_by_name);
    for (size_t i = 0; i < kept; i++)
        visit(found[i], user);
}

void loader_put_host(const struct fms_plugin *table, void *instance, const struct fms_host *host)
{
    if (table->host > 0)
        memcpy((char *)instance + table->host - 1, &host, sizeof host);
}

bool loader_has_role(const struct plugin *plugin, enum fms_role role)
{
    switch (role) {
    case FMS_SOURCE:
        return plugin->table.source_poll != NULL;
    case FMS_TRANSFORM:
        return plugin->table.transform != NULL;
    default:
        return plugin->table.sink_write != NULL;
    }
}
