/* main.c - the command line. */
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "loader.h"

static const char options_usage[] =
    "\n"
    "  --plugin-dir=DIR[:DIR...]   look here for plugins first (also: FMSPIPE_PLUGIN_PATH)\n"
    "  --log-format=text|json      how log lines on stderr look (text)\n"
    "  --log-level=error|warn|info|debug\n"
    "  --until=NAME                run: stop all pipelines when this one has ended\n"
    "  --timeout=SECONDS           probe: how long to try each stage (10)\n"
    "  --format=table|json|markdown|man   describe: how to print (table)\n"
    "  --type=source|transform|sink|sink-thread   new-plugin: what it is; sink-thread has a thread of its own\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 done; 1 a failure, records left unsettled, or a test that failed; 2 bad configuration\n";

/* -------------------------------------------------------------------------------------------------------- arguments */

/* The place of `word` among those of `choices`, which ends with NULL; -1. */
static int choose(const char *word, const char *const *choices)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(word, choices[i]) == 0)
            return i;
    }
    return -1;
}

static int parse_option(int option, struct arguments *arguments)
{
    static const char *const formats[] = {"text", "json", NULL};
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const types[] = {"source", "transform", "sink", "sink-thread", NULL};
    static const char *const describes[] = {"table", "markdown", "json", "man", NULL};
    int choice = 0;
    long seconds;
    char *end;

    switch (option) {
    case 'p':
        arguments->plugin_dir = optarg;
        break;
    case 'f':
        choice = choose(optarg, formats);
        arguments->log_format = (enum log_format)choice;
        break;
    case 'l':
        choice = choose(optarg, levels);
        arguments->log_level = (enum fms_level)choice;
        break;
    case 'd':
        choice = choose(optarg, describes);
        arguments->format = (enum describe_format)choice;
        break;
    case 'r':
        choice = choose(optarg, types);
        arguments->type = choice < 0 ? NULL : types[choice];
        break;
    case 'u':
        arguments->until = optarg;
        break;
    case 't':
        seconds = strtol(optarg, &end, 10);
        choice = *end != '\0' || seconds <= 0 || seconds > 86400 ? -1 : 0;
        arguments->timeout = choice < 0 ? 0 : seconds * FMS_SECOND;
        break;
    case 'h':
        command_usage(stdout);
        fputs(options_usage, stdout);
        exit(EXIT_DONE);
    case 'v':
        puts("fmspipe " FMS_VERSION);
        exit(EXIT_DONE);
    default:
        return EXIT_CONFIGURATION; /* getopt has said why */
    }
    return choice < 0 ? command_misused("bad value", optarg) : 0;
}

/* 0 and the command; or an exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments, const struct command **command)
{
    static const struct option options[] = {
        {"plugin-dir", required_argument, NULL, 'p'}, {"log-format", required_argument, NULL, 'f'},
        {"log-level", required_argument, NULL, 'l'},  {"until", required_argument, NULL, 'u'},
        {"timeout", required_argument, NULL, 't'},    {"format", required_argument, NULL, 'd'},
        {"type", required_argument, NULL, 'r'},       {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},          {NULL, 0, NULL, 0},
    };
    bool has_level = false;
    int option, error;

    *arguments = (struct arguments){.plugin_dir = getenv("FMSPIPE_PLUGIN_PATH"), .timeout = 10 * FMS_SECOND};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        error = parse_option(option, arguments);
        if (error != 0)
            return error;
        has_level = has_level || option == 'l';
    }
    *command = optind < argc ? command_find(argv[optind]) : NULL;
    optind += *command != NULL;
    if (*command == NULL)
        *command = command_find("run");
    arguments->words = argv + optind;
    arguments->count = (size_t)(argc - optind);
    if (!has_level)
        arguments->log_level = (*command)->level;
    return arguments->count < (*command)->least ? command_misused("nothing to do", NULL) : 0;
}

/* Where standard input, output or error is closed, the next file that is opened would become it, and log lines would land in
 * data. /dev/null takes its place, opened so that a use of it is an error rather than a loss. */
static void fill_descriptors(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};

    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
            exit(EXIT_FAILED); /* without /dev/null, and without anywhere to say so */
    }
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    const struct command *command;
    int error;

    fill_descriptors();
    error = parse_arguments(argc, argv, &arguments, &command);
    if (error != 0)
        return error;
    log_setup(arguments.log_format, arguments.log_level);
    loader_search(arguments.plugin_dir);
    return command->run(&arguments);
}
