/* main.c - the command line.
 *
 * What is said of it goes through the log, which waits for nobody; what a command prints is done only when it is written. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "environment.h"
#include "loader.h"

#define MEMORY_KEPT (1 << 20) /* bytes of each thread's free memory that are not given back to the system */

static const char options_usage[] =
    "\n"
    "  --plugin-dir=DIR[:DIR...]   look here for plugins first (also: FMSPIPE_PLUGIN_PATH)\n"
    "  --log-format=text|json      how log lines on stderr look (text)\n"
    "  --log-level=error|warn|info|debug\n"
    "  --admin=ADDRESS[,ADDRESS...]   run: show what is going on over HTTP: the page, /metrics, /status, /livez, "
    "/readyz; at\n"
    "                              127.0.0.1:9464, [::1]:9464 or unix:/run/fmspipe/bridge.sock (also: FMSPIPE_ADMIN)\n"
    "  --admin-password-file=FILE  its first line is the password, for other addresses than the machine's own: run "
    "asks for\n"
    "                              it, health, status and top give it (also: FMSPIPE_ADMIN_PASSWORD_FILE)\n"
    "  --env-file=FILE             variables for ${env:NAME}, before those of the environment: NAME=value lines; "
    "-FILE: it "
    "may be\n"
    "                              missing. run reads it again at each reload (also: FMSPIPE_ENV_FILE); reload and "
    "plan "
    "send it to\n"
    "                              the process\n"
    "  --watch                     run: reload when a file has changed\n"
    "  --until=NAME                run: stop all pipelines when this one has ended\n"
    "  --timeout=SECONDS           probe: how long to try each stage (10)\n"
    "  --format=table|json|markdown|man   describe: how to print (table)\n"
    "  --type=source|transform|sink|sink-thread   new-plugin: what it is; sink-thread has a thread of its own\n"
    "  --ready                     health: whether it is ready, too: connected, and records flow\n"
    "  --json                      status: as JSON, in one line; tap: on a terminal, too\n"
    "  --dry-run                   reload: only print what would be done, as plan does\n"
    "  --out, --dead               tap: what comes out of the stage, or was rejected there, instead of what goes in\n"
    "  --where=CONDITION           tap: only records for which it holds; see fmspipe(1)\n"
    "  --limit=N, --rate=N         tap: end after N records; look at N a second at most\n"
    "  --pipeline=NAME             tap: of which pipeline, where there are several\n"
    "  --help, --version\n"
    "\n"
    "FILE may be a folder: its *.ini files, of which pipelines come and go at each reload\n"
    "ADDRESS is that of --admin of the process that is asked, last on the line; where it is left out, the first of "
    "FMSPIPE_ADMIN\n"
    "\n"
    "exit status: 0 done; 1 a failure, records left unsettled, a test that failed, not healthy, or not reloaded; 2 bad "
    "configuration\n";

/* The exit status of what has printed all that it had to. */
static int printed(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    log_line(FMS_LOG_ERROR, NULL, NULL, "standard output cannot be written, and lacks what was to stand there%s%s",
             errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return status == EXIT_DONE ? EXIT_FAILED : status;
}

static _Noreturn void help(void)
{
    command_usage(stdout);
    fputs(options_usage, stdout);
    exit(printed(EXIT_DONE));
}

/* -------------------------------------------------------------------------------------------------------- arguments */

#define LONG 256 /* so that a known option is told apart from an unknown one of one letter */

/* The place of `word` among those of `choices`, which ends with NULL; -1. */
static int choose(const char *word, const char *const *choices)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(word, choices[i]) == 0)
            return i;
    }
    return -1;
}

/* `option`: what getopt returned; `word`: what it has read last. */
static int bad_option(int option, const char *word)
{
    const char letter[] = {'-', (char)optopt, '\0'};

    if (option == ':')
        return command_misused("this option needs a value", word);
    if (optopt > LONG)
        return command_misused("this option takes no value", word);
    return command_misused("unknown option, or the beginning of several", optopt != 0 ? letter : word);
}

/* Addresses, separated by commas, behind those that are there. The list is cut into them. */
static int add_addresses(char *list, struct admin_options *admin)
{
    char *rest = NULL;

    if (list[strspn(list, ",")] == '\0')
        return command_misused("--admin needs an address", NULL);
    for (char *address = strtok_r(list, ",", &rest); address != NULL; address = strtok_r(NULL, ",", &rest)) {
        if (admin->count == ADMIN_ADDRESSES)
            return command_misused("--admin takes 8 addresses at most, and this is one more", address);
        admin->addresses[admin->count++] = address;
    }
    return 0;
}

/* NULL where it is empty, too. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* What the environment says where the command line does not. */
static int take_environment(struct arguments *arguments)
{
    const char *addresses = variable("FMSPIPE_ADMIN");
    static char *list; /* until the process ends */

    if (arguments->admin.password_file == NULL)
        arguments->admin.password_file = getenv("FMSPIPE_ADMIN_PASSWORD_FILE");
    arguments->client.password_file = arguments->admin.password_file;
    arguments->client.env_file = arguments->env_file; /* what is set for a process is not meant for who asks it */
    if (arguments->env_file == NULL)
        arguments->env_file = variable("FMSPIPE_ENV_FILE");
    if (arguments->admin.count > 0 || addresses == NULL)
        return 0;
    list = strdup(addresses);
    return list != NULL ? add_addresses(list, &arguments->admin) : EXIT_FAILED;
}

/* What a value that is refused should have been. */
static const char *values_of(int option)
{
    switch (option) {
    case LONG | 'f':
        return "takes text or json";
    case LONG | 'l':
        return "takes error, warn, info or debug";
    case LONG | 'd':
        return "takes table, json, markdown or man";
    case LONG | 'r':
        return "takes source, transform, sink or sink-thread";
    case LONG | 't':
        return "takes 1 to 86400 seconds";
    default:
        return "takes a whole number from 1 to 1000000000";
    }
}

/* `name`: the option's. */
static int bad_value(int option, const char *name, const char *value)
{
    char text[128];

    snprintf(text, sizeof text, "--%s %s, not", name, values_of(option));
    return command_misused(text, value);
}

/* 0, or -1 for what is no whole number of at least 1. */
static int parse_number(const char *text, int64_t *number)
{
    char *end;

    *number = strtoll(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *number > 0 && *number <= 1000000000 ? 0 : -1;
}

/* Of the commands that look at a process: 0, -1 for a bad value, 1 for another option. */
static int parse_client_option(int option, struct client_options *client)
{
    switch (option) {
    case LONG | 'J':
        client->is_json = true;
        return 0;
    case LONG | 'Y':
        client->is_ready = true;
        return 0;
    case LONG | 'n':
        client->is_dry = true;
        return 0;
    case LONG | 'O':
        client->is_out = true;
        return 0;
    case LONG | 'D':
        client->is_dead = true;
        return 0;
    case LONG | 'W':
        client->where = optarg;
        return 0;
    case LONG | 'N':
        client->pipeline = optarg;
        return 0;
    case LONG | 'L':
        return parse_number(optarg, &client->limit);
    case LONG | 'R':
        return parse_number(optarg, &client->rate);
    default:
        return 1;
    }
}

/* `name`: the long option's. */
static int parse_option(int option, const char *name, char **argv, struct arguments *arguments)
{
    static const char *const formats[] = {"text", "json", NULL};
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const types[] = {"source", "transform", "sink", "sink-thread", NULL};
    static const char *const describes[] = {"table", "markdown", "json", "man", NULL};
    int choice = 0;
    long seconds;
    char *end;

    switch (option) {
    case LONG | 'p':
        arguments->plugin_dir = optarg;
        break;
    case LONG | 'f':
        choice = choose(optarg, formats);
        arguments->log_format = (enum log_format)choice;
        break;
    case LONG | 'l':
        choice = choose(optarg, levels);
        arguments->log_level = (enum fms_level)choice;
        break;
    case LONG | 'd':
        choice = choose(optarg, describes);
        arguments->format = (enum describe_format)choice;
        break;
    case LONG | 'r':
        choice = choose(optarg, types);
        arguments->type = choice < 0 ? NULL : types[choice];
        break;
    case LONG | 'a':
        return add_addresses(optarg, &arguments->admin);
    case LONG | 'w':
        arguments->admin.password_file = optarg;
        break;
    case LONG | 'u':
        arguments->until = optarg;
        break;
    case LONG | 'i':
        arguments->is_watching = true;
        break;
    case LONG | 'e':
        if (optarg[strspn(optarg, "-")] == '\0')
            return command_misused("--env-file needs a file", NULL);
        if (arguments->env_file != NULL)
            return command_misused("--env-file names one file, and this is one more", optarg);
        arguments->env_file = optarg;
        break;
    case LONG | 't':
        seconds = strtol(optarg, &end, 10);
        choice = *end != '\0' || seconds <= 0 || seconds > 86400 ? -1 : 0;
        arguments->timeout = choice < 0 ? 0 : seconds * FMS_SECOND;
        break;
    case LONG | 'h':
        help();
    case LONG | 'v':
        puts("fmspipe " FMS_VERSION);
        exit(printed(EXIT_DONE));
    default:
        choice = parse_client_option(option, &arguments->client);
        if (choice > 0)
            return bad_option(option, argv[optind - 1]);
    }
    return choice < 0 ? bad_value(option, name, optarg) : 0;
}

/* What was meant as a command rather than as a pipeline file. */
static bool is_word(const char *text)
{
    return strpbrk(text, "/.") == NULL && access(text, F_OK) != 0;
}

/* 0 and the command; or an exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments, const struct command **command)
{
    static const struct option options[] = {
        {"plugin-dir", required_argument, NULL, LONG | 'p'},
        {"log-format", required_argument, NULL, LONG | 'f'},
        {"log-level", required_argument, NULL, LONG | 'l'},
        {"env-file", required_argument, NULL, LONG | 'e'},
        {"watch", no_argument, NULL, LONG | 'i'},
        {"until", required_argument, NULL, LONG | 'u'},
        {"timeout", required_argument, NULL, LONG | 't'},
        {"format", required_argument, NULL, LONG | 'd'},
        {"admin", required_argument, NULL, LONG | 'a'},
        {"admin-password-file", required_argument, NULL, LONG | 'w'},
        {"type", required_argument, NULL, LONG | 'r'},
        {"help", no_argument, NULL, LONG | 'h'},
        {"version", no_argument, NULL, LONG | 'v'},
        {"json", no_argument, NULL, LONG | 'J'},
        {"ready", no_argument, NULL, LONG | 'Y'},
        {"dry-run", no_argument, NULL, LONG | 'n'},
        {"out", no_argument, NULL, LONG | 'O'},
        {"dead", no_argument, NULL, LONG | 'D'},
        {"where", required_argument, NULL, LONG | 'W'},
        {"limit", required_argument, NULL, LONG | 'L'},
        {"rate", required_argument, NULL, LONG | 'R'},
        {"pipeline", required_argument, NULL, LONG | 'N'},
        {NULL, 0, NULL, 0},
    };
    bool has_level = false;
    int option, error, i = 0;

    *arguments = (struct arguments){.plugin_dir = getenv("FMSPIPE_PLUGIN_PATH"), .timeout = 10 * FMS_SECOND};
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, &i)) != -1) {
        error = parse_option(option, options[i].name, argv, arguments);
        if (error != 0)
            return error;
        has_level = has_level || option == (LONG | 'l');
    }
    error = take_environment(arguments);
    if (error != 0)
        return error;
    arguments->client.address = arguments->admin.addresses[0];
    *command = optind < argc ? command_find(argv[optind]) : NULL;
    if (*command == NULL && optind < argc && strcmp(argv[optind], "help") == 0)
        help();
    if (*command == NULL && optind < argc && is_word(argv[optind]))
        return command_misused("there is no such command, and no such file", argv[optind]);
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

/* glibc gives memory of more than 128 KiB back to the system each time that it is freed. Libraries that compress take some 200 KiB for each batch,
 * and these page faults were half of what a small one cost. */
static void keep_memory(void)
{
    mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT);
    mallopt(M_MMAP_THRESHOLD, MEMORY_KEPT);
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    const struct command *command;
    int error;

    fill_descriptors();
    keep_memory();
    error = parse_arguments(argc, argv, &arguments, &command);
    if (error != 0)
        return error;
    log_setup(arguments.log_format, arguments.log_level);
    loader_search(arguments.plugin_dir);
    environment_name(arguments.env_file);
    return printed(command->run(&arguments));
}
