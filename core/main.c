/* main.c - the command line, signals, and one thread for each pipeline. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "describe.h"
#include "log.h"
#include "new_plugin.h"
#include "pipeline.h"
#include "test.h"
#include "test_section.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_CONFIGURATION = 2 };

static const char usage[] =
    "usage: fmspipe [OPTION...] [run] FILE...    run pipelines until they end, or until SIGINT, SIGTERM or SIGHUP\n"
    "       fmspipe [OPTION...] check FILE...    check pipeline files without connecting\n"
    "       fmspipe [OPTION...] probe FILE...    connect every stage once and report\n"
    "       fmspipe [OPTION...] test FILE...     run the [test NAME] sections: transforms only, nothing is connected\n"
    "       fmspipe [OPTION...] plugins          list the plugins that can be found\n"
    "       fmspipe [OPTION...] describe PLUGIN  a plugin's options; `pipeline` and `test`: those of these sections\n"
    "       fmspipe new-plugin NAME --type=TYPE [DIR]   make a folder with a plugin to begin with\n"
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

struct arguments {
    const char *plugin_dir, *until;
    enum log_format log_format;
    enum fms_level log_level;
    enum describe_format format;
    const char *type; /* NULL: not said */
    int64_t timeout;
    const char *command;
    char **words;
    size_t count;
};

struct runner {
    struct lane *lane;
    pthread_t thread;
    int ended_fd; /* written to at each of these */
    _Atomic bool has_failed;
    _Atomic int64_t closes_since; /* 0: not yet */
    _Atomic bool has_ended;
    bool was_joined;
};

#define SAME_SIGNAL     (500 * FMS_MS)
#define CLOSE_PATIENCE  (5 * FMS_SECOND)
#define SECOND_PATIENCE (100 * FMS_MS)

struct stopping {
    int64_t since;        /* when the pipelines were told to stop, for whatever reason; 0: they were not */
    int64_t signalled_at; /* by the first signal; 0: there was none */
};

/* -------------------------------------------------------------------------------------------------------- arguments */

static int bad_usage(const char *what, const char *value)
{
    fprintf(stderr, "fmspipe: %s%s%s; see fmspipe --help\n", what, value != NULL ? ": " : "",
            value != NULL ? value : "");
    return EXIT_CONFIGURATION;
}

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
        fputs(usage, stdout);
        exit(EXIT_DONE);
    case 'v':
        puts("fmspipe " FMS_VERSION);
        exit(EXIT_DONE);
    default:
        return EXIT_CONFIGURATION; /* getopt has said why */
    }
    return choice < 0 ? bad_usage("bad value", optarg) : 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"plugin-dir", required_argument, NULL, 'p'}, {"log-format", required_argument, NULL, 'f'},
        {"log-level", required_argument, NULL, 'l'},  {"until", required_argument, NULL, 'u'},
        {"timeout", required_argument, NULL, 't'},    {"format", required_argument, NULL, 'd'},
        {"type", required_argument, NULL, 'r'},       {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},          {NULL, 0, NULL, 0},
    };
    static const char *const commands[] = {"run", "check", "probe", "test", "plugins", "describe", "new-plugin", NULL};
    bool has_level = false;
    int option, error;

    *arguments = (struct arguments){
        .plugin_dir = getenv("FMSPIPE_PLUGIN_PATH"), .timeout = 10 * FMS_SECOND, .command = "run"};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        error = parse_option(option, arguments);
        if (error != 0)
            return error;
        has_level = has_level || option == 'l';
    }
    if (optind < argc && choose(argv[optind], commands) >= 0)
        arguments->command = argv[optind++];
    arguments->words = argv + optind;
    arguments->count = (size_t)(argc - optind);
    if (!has_level) /* what a test rejects is compared, not logged */
        arguments->log_level = strcmp(arguments->command, "test") == 0 ? FMS_LOG_ERROR : FMS_LOG_INFO;
    if (arguments->count == 0 && strcmp(arguments->command, "plugins") != 0)
        return bad_usage("nothing to do", NULL);
    return 0;
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
    return ferror(stdout) ? EXIT_FAILED : EXIT_DONE;
}

static int make_plugin(const struct arguments *arguments)
{
    const char *directory = arguments->count > 1 ? arguments->words[1] : NULL;
    int error;

    if (arguments->type == NULL)
        return bad_usage("new-plugin needs --type=source, transform, sink or sink-thread", NULL);
    if (arguments->count > 2)
        return bad_usage("new-plugin takes a name and a folder", arguments->words[2]);
    error = new_plugin(arguments->words[0], arguments->type, directory);
    if (error == 0)
        printf("next: cd %s, and see README.md there\n", directory != NULL ? directory : arguments->words[0]);
    return error == -EINVAL ? EXIT_CONFIGURATION : error != 0 ? EXIT_FAILED : EXIT_DONE;
}

/* ----------------------------------------------------------------------------------------------------- check, probe */

static void free_all(struct lane **lanes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pipeline_free(lanes[i]);
    free(lanes);
}

/* A failure that may pass by itself is not told as a mistake of the file, after which nobody would start us again. */
static int load_failure(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO ? EXIT_FAILED : EXIT_CONFIGURATION;
}

/* All pipelines of the command line: 0, or the exit status after an error in any of them, when there are none. */
static int load_all(const struct arguments *arguments, struct lane ***all)
{
    struct lane **lanes = *all = calloc(arguments->count, sizeof *lanes);
    int status = EXIT_DONE, failure;
    size_t good = 0;

    if (lanes == NULL)
        return EXIT_FAILED;
    for (size_t i = 0; i < arguments->count; i++) {
        lanes[good] = pipeline_load(arguments->words[i]);
        failure = lanes[good] == NULL ? load_failure(errno) : EXIT_DONE;
        status = failure > status ? failure : status;
        good += lanes[good] != NULL;
    }
    if (status == EXIT_DONE && pipeline_check_together(lanes, good) != 0)
        status = EXIT_CONFIGURATION;
    if (status != EXIT_DONE)
        free_all(lanes, good);
    return status;
}

static int check(const struct arguments *arguments)
{
    struct lane **lanes;
    int status = load_all(arguments, &lanes);

    if (status != EXIT_DONE)
        return status;
    for (size_t i = 0; i < arguments->count; i++)
        printf("%s: ok\n", arguments->words[i]);
    free_all(lanes, arguments->count);
    return EXIT_DONE;
}

static int probe(const struct arguments *arguments)
{
    struct lane **lanes;
    int status = load_all(arguments, &lanes);
    int failed = 0;

    if (status != EXIT_DONE)
        return status;
    for (size_t i = 0; i < arguments->count; i++)
        failed += pipeline_probe(lanes[i], arguments->timeout);
    free_all(lanes, arguments->count);
    return failed > 0 ? EXIT_FAILED : EXIT_DONE;
}

static int test(const struct arguments *arguments)
{
    size_t passed = 0, failed = 0;

    for (size_t i = 0; i < arguments->count; i++) {
        if (test_run_file(arguments->words[i], &passed, &failed) != 0)
            return EXIT_CONFIGURATION;
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed > 0 ? EXIT_FAILED : EXIT_DONE;
}

/* -------------------------------------------------------------------------------------------------------------- run */

static void tell(const struct runner *runner)
{
    uint64_t one = 1;

    if (write(runner->ended_fd, &one, sizeof one) < 0)
        abort(); /* an eventfd that cannot count to 2^64 */
}

static void *run_thread(void *user)
{
    struct runner *runner = user;

    lane_run(runner->lane);
    runner->has_failed = runner->lane->has_failed;
    runner->closes_since = lane_now();
    tell(runner);                 /* now: a plugin may not return from its close */
    pipeline_close(runner->lane); /* here, so that one that takes its time holds up nobody, nor the second signal */
    runner->has_failed = runner->lane->has_failed;
    runner->has_ended = true;
    tell(runner);
    return NULL;
}

static void log_start(const struct lane *lane)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s", lane->source->plugin->table.name);

    for (size_t i = 0; i < lane->transform_count && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " -> %s", lane->transforms[i]->plugin->table.name);
    for (size_t i = 0; i < lane->sink_count && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%s", i == 0 ? " -> " : ", ",
                      lane->sinks[i]->plugin->table.name);
    log_line(FMS_LOG_INFO, lane->options.name, NULL, "starts: %s", text);
}

/* Opens all or none. */
static int open_all(struct lane **lanes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (pipeline_open(lanes[i]) == 0)
            continue;
        while (i-- > 0)
            pipeline_close(lanes[i]);
        return -EINVAL;
    }
    return 0;
}

static void stop_all(struct runner *runners, size_t count, struct stopping *stopping)
{
    if (stopping->since == 0)
        stopping->since = clock_now();
    for (size_t i = 0; i < count; i++)
        lane_stop(runners[i].lane);
}

/* Whether the others are to stop, too. */
static bool is_last(const struct runner *runner, const char *until)
{
    return runner->has_failed ||
           (runner->was_joined && until != NULL && strcmp(until, runner->lane->options.name) == 0);
}

/* Joins those that have ended; how many still run. Stops the others when one has failed or was to be the last. */
static size_t join_ended(struct runner *runners, size_t count, const char *until, struct stopping *stopping)
{
    size_t running = 0;

    for (size_t i = 0; i < count; i++) {
        struct runner *runner = &runners[i];

        if (!runner->has_ended) {
            running++;
        } else if (!runner->was_joined) {
            pthread_join(runner->thread, NULL);
            runner->was_joined = true;
        }
        if (stopping->since == 0 && is_last(runner, until))
            stop_all(runners, count, stopping);
    }
    return running;
}

static const char *signal_name(const struct signalfd_siginfo *info)
{
    return info->ssi_signo == SIGINT ? "SIGINT" : info->ssi_signo == SIGHUP ? "SIGHUP" : "SIGTERM";
}

static _Noreturn void end_at_once(void)
{
    log_flush(SECOND_PATIENCE);
    _exit(EXIT_FAILED);
}

/* When this one is waited for no more: a while after it began to close, or should have. */
static int64_t last_moment_of(const struct runner *runner, const struct stopping *stopping)
{
    if (runner->closes_since != 0)
        return runner->closes_since + CLOSE_PATIENCE;
    return stopping->since != 0 ? stopping->since + runner->lane->options.drain_timeout + CLOSE_PATIENCE : FMS_NEVER;
}

/* When the process ends even if a plugin does not return: when none is waited for any more. Those that have ended meanwhile say
 * so by themselves. */
static int64_t last_moment(const struct runner *runners, size_t count, const struct stopping *stopping)
{
    int64_t last = -1;

    for (size_t i = 0; i < count; i++) {
        int64_t moment = runners[i].has_ended ? -1 : last_moment_of(&runners[i], stopping);

        last = moment > last ? moment : last;
    }
    return last >= 0 ? last : FMS_NEVER;
}

/* Names those that have not ended. */
static _Noreturn void end_unclosed(const struct runner *runners, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!runners[i].has_ended)
            log_line(FMS_LOG_ERROR, runners[i].lane->options.name, NULL,
                     "a plugin has not returned %lld s after %s; the process ends without it",
                     (long long)(CLOSE_PATIENCE / FMS_SECOND),
                     runners[i].closes_since != 0 ? "its pipeline began to close" : "drain_timeout");
    }
    end_at_once();
}

/* The first signal stops the pipelines, a second one ends the process. Signals within half a second are one: `timeout` sends
 * its own twice, systemd's SendSIGHUP two kinds. What is asked is done before it is logged. */
static void take_signal(struct runner *runners, size_t count, const struct signalfd_siginfo *info,
                        struct stopping *stopping)
{
    if (stopping->signalled_at == 0) {
        stopping->signalled_at = clock_now();
        stop_all(runners, count, stopping);
        log_line(FMS_LOG_INFO, NULL, NULL, "%s: stopping; a second signal ends at once", signal_name(info));
    } else if (clock_now() - stopping->signalled_at > SAME_SIGNAL) {
        log_line(FMS_LOG_WARN, NULL, NULL, "second signal: ending at once, without settling what is in flight");
        end_at_once();
    }
}

/* In milliseconds, for poll(). */
static int time_left(const struct runner *runners, size_t count, const struct stopping *stopping)
{
    int64_t left = last_moment(runners, count, stopping) - clock_now();

    if (left / FMS_MS >= INT_MAX)
        return -1;
    return left > 0 ? (int)(left / FMS_MS) + 1 : 0;
}

static void wait_for_all(struct runner *runners, size_t count, int signal_fd, int ended_fd, const char *until,
                         struct stopping *stopping)
{
    struct pollfd fds[2] = {{signal_fd, POLLIN, 0}, {ended_fd, POLLIN, 0}};
    struct signalfd_siginfo info;
    uint64_t drained;

    while (join_ended(runners, count, until, stopping) > 0) {
        int ready = poll(fds, 2, time_left(runners, count, stopping));

        if (ready == 0 && time_left(runners, count, stopping) == 0)
            end_unclosed(runners, count);
        if (ready <= 0)
            continue;
        if (read(ended_fd, &drained, sizeof drained) < 0 && errno != EAGAIN)
            return;
        if (read(signal_fd, &info, sizeof info) == sizeof info)
            take_signal(runners, count, &info, stopping);
    }
}

/* After a failure those that were started, and those that are still to be, stop at once. */
static void start_all(struct runner *runners, struct lane **lanes, size_t count, int ended_fd,
                      struct stopping *stopping)
{
    for (size_t i = 0; i < count; i++) {
        runners[i].lane = lanes[i];
        runners[i].ended_fd = ended_fd;
    }
    for (size_t i = 0; i < count; i++) {
        log_start(lanes[i]);
        if (pthread_create(&runners[i].thread, NULL, run_thread, &runners[i]) == 0)
            continue;
        log_line(FMS_LOG_ERROR, lanes[i]->options.name, NULL, "cannot start a thread");
        runners[i].has_ended = runners[i].was_joined = true;
        lanes[i]->has_failed = true;
        stop_all(runners, count, stopping);
    }
}

static int result_of(struct lane **lanes, size_t count)
{
    int result = EXIT_DONE;

    for (size_t i = 0; i < count; i++) {
        const struct lane *lane = lanes[i];

        if (lane->left > 0)
            log_line(lane->is_finished ? FMS_LOG_INFO : FMS_LOG_WARN, lane->options.name, NULL,
                     "%zu records are left unsettled; a source with a durable input gets them again", lane->left);
        if (lane->has_failed || (lane->left > 0 && !lane->is_finished))
            result = EXIT_FAILED;
    }
    return result;
}

static int run_open(struct lane **lanes, size_t count, int signal_fd, const char *until)
{
    struct runner *runners = calloc(count, sizeof *runners);
    int ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct stopping stopping = {0, 0};
    int result = EXIT_FAILED;

    if (runners != NULL && ended_fd >= 0) {
        start_all(runners, lanes, count, ended_fd, &stopping);
        wait_for_all(runners, count, signal_fd, ended_fd, until, &stopping);
        result = result_of(lanes, count);
    }
    for (size_t i = 0; i < count; i++)
        pipeline_close(lanes[i]); /* one that was never started */
    if (ended_fd >= 0)
        close(ended_fd);
    free(runners);
    return result;
}

static bool has_pipeline(struct lane **lanes, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(lanes[i]->options.name, name) == 0)
            return true;
    }
    return false;
}

/* SIGINT, SIGTERM, and SIGHUP where it is not ignored, as by nohup, will come to a descriptor. Before any thread of a pipeline
 * is made. */
static int catch_signals(void)
{
    struct sigaction hangup;
    sigset_t stops;
    int fd;

    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&stops, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stops, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of whoever writes it */
    fd = signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "cannot wait for signals: %s", strerror(errno));
    return fd;
}

static int run(const struct arguments *arguments)
{
    struct lane **lanes;
    int result = load_all(arguments, &lanes);
    int signal_fd;

    if (result != EXIT_DONE)
        return result;
    if (arguments->until != NULL && !has_pipeline(lanes, arguments->count, arguments->until)) {
        free_all(lanes, arguments->count);
        return bad_usage("--until names no pipeline of this command", arguments->until);
    }
    signal_fd = catch_signals();
    result = EXIT_FAILED;
    if (signal_fd >= 0 && open_all(lanes, arguments->count) == 0)
        result = run_open(lanes, arguments->count, signal_fd, arguments->until);
    if (signal_fd >= 0)
        close(signal_fd);
    free_all(lanes, arguments->count);
    return result;
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
    int error;

    fill_descriptors();
    error = parse_arguments(argc, argv, &arguments);
    if (error != 0)
        return error;
    log_setup(arguments.log_format, arguments.log_level);
    loader_search(arguments.plugin_dir);
    if (strcmp(arguments.command, "check") == 0)
        return check(&arguments);
    if (strcmp(arguments.command, "probe") == 0)
        return probe(&arguments);
    if (strcmp(arguments.command, "test") == 0)
        return test(&arguments);
    if (strcmp(arguments.command, "describe") == 0)
        return describe(&arguments);
    if (strcmp(arguments.command, "new-plugin") == 0)
        return make_plugin(&arguments);
    if (strcmp(arguments.command, "plugins") == 0) {
        loader_each(print_plugin, NULL);
        return EXIT_DONE;
    }
    return run(&arguments);
}
