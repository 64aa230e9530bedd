/* command.h - what fmspipe can be told to do. */
#ifndef FMS_COMMAND_H
#define FMS_COMMAND_H

#include <stdio.h>

#include "admin.h"
#include "client.h"
#include "describe.h"
#include "log.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_CONFIGURATION = 2 };

/* The command line. */
struct arguments {
    const char *plugin_dir, *until, *env_file;
    enum log_format log_format;
    enum fms_level log_level;
    enum describe_format format;
    const char *type; /* NULL: not said */
    int64_t timeout;
    bool is_watching; /* run: reloads when a file changes */
    struct admin_options admin;
    struct client_options client;
    char **words; /* behind the command */
    size_t count;
};

struct command {
    const char *name;
    const char *words; /* as they stand in the usage */
    const char *summary;
    size_t least; /* words that it needs */
    enum fms_level
        level; /* of log lines, where the command line does not say: what a test rejects is compared, not logged */
    int (*run)(const struct arguments *arguments); /* the exit status */
};

/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

/* A line for each. */
void command_usage(FILE *out);

/* Logs what is wrong with the command line: EXIT_CONFIGURATION. `value`: NULL, or what was given. */
int command_misused(const char *what, const char *value);

#endif
