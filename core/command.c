/* command.c - what fmspipe can be told to do. */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assemble.h"
#include "environment.h"
#include "file_watch.h"
#include "files.h"
#include "loader.h"
#include "new_plugin.h"
#include "promise.h"
#include "reload.h"
#include "runner.h"
#include "test.h"
#include "test_section.h"

int command_misused(const char *what, const char *value)
{
    log_line(FMS_LOG_ERROR, NULL, NULL, "%s%s%s; see fmspipe --help", what, value != NULL ? ": " : "",
             value != NULL ? value : "");
    return EXIT_CONFIGURATION;
}

/* ------------------------------------------------------------------------------------------------ plugins, describe */

static void print_plugin(const struct plugin *plugin, void *user)
{
    static const char *const names[] = {"source", "transform", "sink"};
    static const enum fms_role roles[] = {FMS_SOURCE, FMS_TRANSFORM, FMS_SINK};
    char text[64] = "";
    size_t n = 0;

    (void)user;
    for (size_t i = 0; i < 3; i++) {
        if (loader_has_role(plugin, roles[i]))
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? ", " : "", names[i]);
    }
    printf("%-14s %-9s %-12s %s\n", plugin->table.name, plugin->table.version, text, plugin->table.summary);
}

static int plugins(const struct arguments *arguments)
{
    (void)arguments;
    loader_each(print_plugin, NULL);
    return EXIT_DONE;
}

/* A plugin's table, or what stands for one where the word means a section; NULL after an error. */
static const struct fms_plugin *table_of(const char *word)
{
    static struct fms_plugin sections[] = {
        {.name = "pipeline", .version = FMS_VERSION, .summary = "The options of the [pipeline] section"},
        {.name = "test", .version = FMS_VERSION, .summary = "The options of the [test NAME] sections"},
    };
    const struct plugin *plugin;

    sections[0].options = pipeline_option_table();
    sections[1].options = test_section_options();
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strcmp(word, sections[i].name) == 0)
            return &sections[i];
    }
    plugin = loader_load(word, "describe", 0);
    return plugin != NULL ? &plugin->table : NULL;
}

static int describe(const struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++) {
        const struct fms_plugin *table = table_of(arguments->words[i]);

        if (table == NULL)
            return EXIT_CONFIGURATION;
        describe_plugin(table, arguments->format, stdout);
    }
    return EXIT_DONE;
}

static int make_plugin(const struct arguments *arguments)
{
    const char *directory = arguments->count > 1 ? arguments->words[1] : NULL;
    int error;

    if (arguments->type == NULL)
        return command_misused("new-plugin needs --type=source, transform, sink or sink-thread", NULL);
    if (arguments->count > 2)
        return command_misused("new-plugin takes a name and a folder", arguments->words[2]);
    error = new_plugin(arguments->words[0], arguments->type, directory);
    if (error == 0)
        printf("next: cd %s, and see README.md there\n", directory != NULL ? directory : arguments->words[0]);
    return error == -EINVAL ? EXIT_CONFIGURATION : error != 0 ? EXIT_FAILED : EXIT_DONE;
}

/* ----------------------------------------------------------------------------------------------------- check, probe */

/* A failure that may pass by itself is not told as a mistake of the file, after which nobody would start us again. */
static int load_failure(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO ? EXIT_FAILED : EXIT_CONFIGURATION;
}

/* What --env-file names. 0, or an exit status, logged. */
static int take_environment(void)
{
    struct environment *environment;
    int error = environment_read(&environment);

    if (error == 0)
        environment_use(environment);
    return error != 0 ? load_failure(-error) : 0;
}

/* The files that the command line names: 0 or an exit status. */
static int list_files(const struct arguments *arguments, struct files *files)
{
    int error = files_list(files, arguments->words, arguments->count);

    if (error == 0 && files->count == 0)
        log_config(FMS_LOG_WARN, arguments->words[0], 0, "there is no *.ini file in this folder%s",
                   arguments->count > 1 ? ", nor in the others" : "");
    return error != 0 ? load_failure(-error) : EXIT_DONE;
}

/* All pipelines of these files: 0, or the exit status after an error in any of them, when there are none. */
static int load_all(const struct files *files, struct pipelines *all)
{
    int status = EXIT_DONE, error, failure;

    *all = (struct pipelines){NULL, 0};
    status = take_environment();
    if (status != EXIT_DONE)
        return status;
    for (size_t i = 0; i < files->count; i++) {
        error = pipelines_load(all, files->paths[i], NULL, NULL, NULL);
        failure = error != 0 ? load_failure(-error) : EXIT_DONE;
        status = failure > status ? failure : status;
    }
    if (status == EXIT_DONE && pipeline_check_together(all->items, all->count) != 0)
        status = EXIT_CONFIGURATION;
    if (status != EXIT_DONE)
        pipelines_free(all);
    return status;
}

/* The same of the command line, with its files done with. */
static int load_named(const struct arguments *arguments, struct pipelines *all)
{
    struct files files;
    int status = list_files(arguments, &files);

    if (status == EXIT_DONE)
        status = load_all(&files, all);
    files_free(&files);
    return status;
}

static int check(const struct arguments *arguments)
{
    struct pipelines all;
    struct files files;
    int status = list_files(arguments, &files);

    if (status == EXIT_DONE)
        status = load_all(&files, &all);
    if (status == EXIT_DONE) {
        for (size_t i = 0; i < files.count; i++)
            printf("%s: ok\n", files.paths[i]);
        for (size_t i = 0; i < all.count; i++) {
            if (i == 0 || all.items[i]->file != all.items[i - 1]->file) /* shards of one file promise the same */
                promises_print(all.items[i], stdout);
        }
        pipelines_free(&all);
    }
    files_free(&files);
    return status;
}

static int probe(const struct arguments *arguments)
{
    struct pipelines all;
    int status = load_named(arguments, &all);
    int failed = 0;

    if (status != EXIT_DONE)
        return status;
    for (size_t i = 0; i < all.count; i++)
        failed += pipeline_probe(all.items[i], arguments->timeout);
    pipelines_free(&all);
    return failed > 0 ? EXIT_FAILED : EXIT_DONE;
}

static int test(const struct arguments *arguments)
{
    size_t passed = 0, failed = 0;
    struct files files;
    int status = take_environment();

    if (status != EXIT_DONE)
        return status;
    status = list_files(arguments, &files);

    for (size_t i = 0; i < files.count && status == EXIT_DONE; i++) {
        if (test_run_file(files.paths[i], &passed, &failed) != 0)
            status = EXIT_CONFIGURATION;
    }
    files_free(&files);
    if (status != EXIT_DONE)
        return status;
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed > 0 ? EXIT_FAILED : EXIT_DONE;
}

static bool has_pipeline(const struct pipelines *all, const char *name)
{
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->items[i]->options.name, name) == 0)
            return true;
    }
    return false;
}

static void reload_files(void)
{
    reload_request(false);
}

/* The files of the pipelines, and then of variables, to be freed. NULL: no memory. */
static char **watched_files(const struct arguments *arguments, size_t *count)
{
    char **paths = calloc(arguments->count + 1, sizeof *paths);

    *count = arguments->count;
    if (paths == NULL)
        return NULL;
    memcpy(paths, arguments->words, *count * sizeof *paths);
    if (environment_path() != NULL)
        paths[(*count)++] = (char *)(uintptr_t)environment_path();
    return paths;
}

static int run_followed(const struct arguments *arguments, struct crew *crew)
{
    struct file_watch *watch = NULL;
    char **paths = NULL;
    size_t count;
    int error = 0;

    if (arguments->is_watching) {
        paths = watched_files(arguments, &count);
        watch = paths != NULL ? file_watch_start(paths, count, reload_files) : NULL;
        error = watch == NULL ? -EIO : 0;
    }
    if (error == 0)
        error = runner_run(crew, arguments->words, arguments->count, arguments->until);
    file_watch_stop(watch);
    free(paths);
    return error;
}

/* The watch begins before anything is opened, so that an address that is taken stops nothing that runs. */
static int run_watched(const struct arguments *arguments, struct crew *crew)
{
    int error = admin_begin(&arguments->admin, crew);

    if (error != 0)
        return error == -EINVAL ? EXIT_CONFIGURATION : EXIT_FAILED;
    error = run_followed(arguments, crew);
    admin_end();
    return error != 0 ? EXIT_FAILED : EXIT_DONE;
}

/* Takes the pipelines. */
static int run_crew(const struct arguments *arguments, struct pipelines *take)
{
    struct crew *crew = crew_new();
    int status = EXIT_FAILED;

    if (crew == NULL || crew_add(crew, take->items, take->count) != 0) {
        log_line(FMS_LOG_ERROR, NULL, NULL, "not enough memory, or no more descriptors");
    } else {
        take->count = 0;
        status = run_watched(arguments, crew);
    }
    pipelines_free(take);
    crew_free(crew);
    return status;
}

static int run(const struct arguments *arguments)
{
    struct pipelines all;
    int status = load_named(arguments, &all);

    if (status != EXIT_DONE)
        return status;
    if (arguments->until == NULL || has_pipeline(&all, arguments->until))
        return run_crew(arguments, &all);
    pipelines_free(&all);
    return command_misused("--until names no pipeline of this command", arguments->until);
}

/* ---------------------------------------------------------------------------- health, status, top, tap, reload, plan */

static int health(const struct arguments *arguments)
{
    return client_run("health", arguments->words, arguments->count, &arguments->client);
}

static int status(const struct arguments *arguments)
{
    return client_run("status", arguments->words, arguments->count, &arguments->client);
}

static int top(const struct arguments *arguments)
{
    return client_run("top", arguments->words, arguments->count, &arguments->client);
}

static int tap(const struct arguments *arguments)
{
    return client_run("tap", arguments->words, arguments->count, &arguments->client);
}

static int reload(const struct arguments *arguments)
{
    return client_run("reload", arguments->words, arguments->count, &arguments->client);
}

static int plan(const struct arguments *arguments)
{
    return client_run("plan", arguments->words, arguments->count, &arguments->client);
}

/* -------------------------------------------------------------------------------------------------------- the table */

static const struct command commands[] = {
    {"run", "FILE...", "run pipelines until they end, or until SIGINT or SIGTERM", 1, FMS_LOG_INFO, run},
    {"check", "FILE...", "check pipeline files without connecting", 1, FMS_LOG_INFO, check},
    {"probe", "FILE...", "connect every stage once and report", 1, FMS_LOG_INFO, probe},
    {"test", "FILE...", "run the [test NAME] sections: transforms only, nothing is connected", 1, FMS_LOG_ERROR, test},
    {"plugins", "", "list the plugins that can be found", 0, FMS_LOG_INFO, plugins},
    {"describe", "PLUGIN...", "options of plugins; `pipeline` and `test`: those of these sections", 1, FMS_LOG_INFO,
     describe},
    {"new-plugin", "NAME [DIR]", "make a folder with a plugin to begin with; needs --type", 1, FMS_LOG_INFO,
     make_plugin},
    {"health", "[ADDRESS]", "whether a process that runs is alive, or --ready", 0, FMS_LOG_INFO, health},
    {"status", "[ADDRESS]", "what a process that runs is doing; exit status 1: not ready", 0, FMS_LOG_INFO, status},
    {"top", "[ADDRESS]", "the same, as it goes on; q quits", 0, FMS_LOG_INFO, top},
    {"tap", "STAGE [ADDRESS]", "records as they pass a stage; over a unix socket only", 1, FMS_LOG_INFO, tap},
    {"reload", "[ADDRESS]", "does what the files of a process that runs ask for now; over a unix socket only", 0,
     FMS_LOG_INFO, reload},
    {"plan", "[FILE] [ADDRESS]", "what reload would do, or would if FILE stood in its file's place; nothing is done", 0,
     FMS_LOG_INFO, plan},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

const struct command *command_find(const char *name)
{
    const struct command *found = NULL;

    for (size_t i = 0; i < COMMANDS && found == NULL; i++)
        found = strcmp(commands[i].name, name) == 0 ? &commands[i] : NULL;
    return found;
}

void command_usage(FILE *out)
{
    fputs("usage: fmspipe [OPTION...] [COMMAND] FILE...\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %-16s  %s%s\n", commands[i].name, commands[i].words, commands[i].summary,
                i == 0 ? "; this is done where no COMMAND is given" : "");
}
