/* fms-sandbox - runs a command beside brokers of its own: an MQTT broker and a Kafka.
 *
 * The brokers live exactly as long as the command. They stand in sessions of their own, so that a Ctrl-C at the
 * terminal ends the command first; they get the kernel's word when the sandbox is killed; and what they wrote is
 * removed with them. Tests restart them in mid-stream with 'fms-sandbox ctl' (control.c). */
#include "sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2,
    EXIT_SANDBOX_FAILED = 125,
    EXIT_CANNOT_RUN = 126,
    EXIT_NOT_FOUND = 127,
    END_LIMIT_MS = 10000, /* of brokers that were killed */
    BROKERS = 2,
    NODES_LIMIT = 16,
};

struct sandbox {
    bool verbose;
    struct broker mqtt;
    struct broker kafka;
    struct broker *brokers[BROKERS]; /* the two above */
    char directory[PATH_MAX];
    int signal_fd;
    int control_fd;
    pid_t command; /* 0: not running */
    bool command_ended;
    int command_status; /* as waitpid gave it */
    int told_to_stop;   /* a signal that came while no command ran */
};

static const char help[] =
    "usage: fms-sandbox [OPTION...] -- COMMAND [ARGUMENT...]\n"
    "       fms-sandbox ctl mqtt|kafka stop|kill|start|restart|freeze|thaw|pid|cut|stall|slow|doubt|hold|heal\n"
    "\n"
    "Runs COMMAND with an MQTT broker and a Kafka that live as long as it does. COMMAND finds them in\n"
    "FMS_MQTT (tcp://127.0.0.1:PORT) and FMS_KAFKA (127.0.0.1:PORT).\n"
    "\n"
    "  --kafka=mock         librdkafka's mock cluster: starts at once, keeps 5 MiB a partition (default)\n"
    "  --kafka=real         Apache Kafka, from the jars that 'scripts/fetch-jars kafka' brought\n"
    "  --kafka=none         no Kafka\n"
    "  --kafka-port=PORT    for the real Kafka; default: a free one\n"
    "  --kafka-secure       a second listener of the real Kafka, which demands TLS, a user and rights\n"
    "  --kafka-brokers=N    for the mock cluster, 1 to 16; default: 1\n"
    "  --kafka-topic=NAME   that the mock cluster has from the start; it makes others when asked for them\n"
    "  --mqtt=mosquitto     mosquitto (default)\n"
    "  --mqtt=artemis       Apache ActiveMQ Artemis, from the jars that 'scripts/fetch-jars artemis' brought\n"
    "  --mqtt=none          no MQTT broker\n"
    "  --mqtt-port=PORT     default: a free one\n"
    "  --mqtt-secure        a second listener of the MQTT broker, which demands TLS\n"
    "  --listen=ADDRESS     where they listen, an address of this machine; default: 127.0.0.1\n"
    "  --links              put a link before the MQTT broker and a real Kafka, to be cut, stalled and slowed\n"
    "  --verbose            say what happens, on stderr\n"
    "  --help\n"
    "\n"
    "ctl, used in COMMAND, changes a broker under it and returns when that is done. start and restart keep\n"
    "port and data; freeze is SIGSTOP, thaw SIGCONT, kill SIGKILL; pid prints the process id. With --links,\n"
    "cut resets all connections, stall passes nothing and tells nobody, slow passes 32 KiB a second each way,\n"
    "doubt lets the next end of a transaction reach Kafka and no answer come back from then on, hold\n"
    "stalls before it, and heal ends that; FMS_MQTT_DIRECT is the MQTT broker without its link.\n"
    "\n"
    "Environment: FMS_TEST_MQTT, FMS_TEST_KAFKA     addresses of brokers of your own, used instead\n"
    "             FMS_KAFKA_JARS, FMS_ARTEMIS_JARS  folders of their jars\n"
    "             FMS_JAVA_OPTIONS                  in place of those by which Java starts quickly\n"
    "             TMPDIR                            where the brokers' data lives for the time being\n"
    "\n"
    "Exit status: COMMAND's, 128 and the signal when it died of one; 125 when the sandbox cannot start,\n"
    "126 when COMMAND cannot be run, 127 when it is not found, 2 for a bad option.\n";

void sandbox_note(const struct sandbox *sandbox, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    if (!sandbox->verbose)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    say("%s", text);
}

bool sandbox_is_over(const struct sandbox *sandbox)
{
    return sandbox->command_ended || sandbox->told_to_stop != 0;
}

static void signal_pass_on(struct sandbox *sandbox, const struct signalfd_siginfo *info)
{
    int signal = (int)info->ssi_signo;

    if (sandbox->command <= 0) {
        if (!sandbox->command_ended)
            sandbox->told_to_stop = signal;
        return;
    }
    /* The terminal has sent it to the whole foreground group already, and a second one may mean 'at once'. */
    if (info->ssi_code == SI_KERNEL && getpgid(sandbox->command) == getpgrp())
        return;
    kill(sandbox->command, signal);
}

static void children_reap(struct sandbox *sandbox)
{
    int status;

    for (int i = 0; i < BROKERS; i++)
        broker_reap(sandbox->brokers[i]);
    if (sandbox->command > 0 && waitpid(sandbox->command, &status, WNOHANG) == sandbox->command) {
        sandbox->command = 0;
        sandbox->command_ended = true;
        sandbox->command_status = status;
    }
}

static void signals_serve(struct sandbox *sandbox)
{
    struct signalfd_siginfo info;

    while (read(sandbox->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            children_reap(sandbox);
        else
            signal_pass_on(sandbox, &info);
    }
}

void sandbox_pump(struct sandbox *sandbox, int limit_ms)
{
    struct pollfd waiting = {.fd = sandbox->signal_fd, .events = POLLIN};

    if (poll(&waiting, 1, limit_ms) > 0)
        signals_serve(sandbox);
}

static int directory_create(struct sandbox *sandbox)
{
    const char *variable = getenv("TMPDIR");
    const char *parent = variable != NULL && *variable != '\0' ? variable : "/tmp";
    char absolute[PATH_MAX];

    /* COMMAND may change its working directory and still has to find the socket. */
    if (realpath(parent, absolute) == NULL)
        return fail(-errno, "%s: cannot be used for temporary files: %s: set TMPDIR", parent, strerror(errno));
    if (snprintf(sandbox->directory, PATH_MAX, "%s/fms-sandbox.XXXXXX", absolute) >= PATH_MAX) {
        sandbox->directory[0] = '\0';
        return fail(-ENAMETOOLONG, "%s: the path is too long: set TMPDIR to a shorter one", parent);
    }
    if (mkdtemp(sandbox->directory) == NULL) {
        sandbox->directory[0] = '\0';
        return fail(-errno, "%s: cannot make a folder there: %s: set TMPDIR", parent, strerror(errno));
    }
    return 0;
}

static int control_open(struct sandbox *sandbox)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/control", sandbox->directory);
    sandbox->control_fd = control_listen(path);
    if (sandbox->control_fd < 0)
        return sandbox->control_fd;
    setenv("FMS_SANDBOX", path, 1);
    return 0;
}

/* Uses the broker that the user names in the environment, if any, in place of one of our own. */
static bool broker_is_users(struct broker *broker, const char *variable)
{
    const char *address = getenv(variable);

    if (broker->kind == NULL || address == NULL || *address == '\0')
        return false;
    sandbox_note(broker->sandbox, "%s is %s, as %s says", broker->variable, address, variable);
    setenv(broker->variable, address, 1);
    broker->kind = NULL;
    return true;
}

static void variables_set(const struct broker *broker)
{
    char direct[64];

    setenv(broker->variable, broker->address, 1);
    snprintf(direct, sizeof(direct), "tcp://%s:%d", listen_address, broker->port);
    if (broker == &broker->sandbox->mqtt)
        setenv("FMS_MQTT_DIRECT", direct, 1);
}

/* All are launched before the first is waited for. */
static int brokers_start(struct sandbox *sandbox)
{
    static const char *const users[BROKERS] = {"FMS_TEST_MQTT", "FMS_TEST_KAFKA"};
    static const char *const ours[] = {"FMS_MQTT", "FMS_MQTT_DIRECT", "FMS_MQTT_SECURE", "FMS_KAFKA",
                                       "FMS_KAFKA_SECURE"};
    int rc = 0;

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        unsetenv(ours[i]); /* never somebody else's broker by accident */
    for (int i = 0; i < BROKERS && rc == 0; i++) {
        struct broker *broker = sandbox->brokers[i];

        if (broker_is_users(broker, users[i]) || broker->kind == NULL)
            continue;
        rc = broker_prepare(broker, sandbox->directory);
        if (rc == 0)
            rc = broker_launch(broker);
        if (rc == 0)
            variables_set(broker);
    }
    for (int i = 0; i < BROKERS && rc == 0; i++)
        if (sandbox->brokers[i]->kind != NULL)
            rc = broker_wait_answer(sandbox->brokers[i]);
    return rc;
}

/* Serves signals and control requests until the command has ended. Returns the exit status. */
static int command_wait(struct sandbox *sandbox)
{
    while (!sandbox->command_ended) {
        struct pollfd waiting[] = {{.fd = sandbox->signal_fd, .events = POLLIN},
                                   {.fd = sandbox->control_fd, .events = POLLIN}};

        if (poll(waiting, 2, -1) <= 0)
            continue;
        if (waiting[0].revents != 0)
            signals_serve(sandbox);
        else
            control_serve(sandbox->control_fd, sandbox->brokers);
    }
    if (WIFSIGNALED(sandbox->command_status))
        return 128 + WTERMSIG(sandbox->command_status);
    return WEXITSTATUS(sandbox->command_status);
}

static int command_run(struct sandbox *sandbox, char **argv)
{
    struct process process = {.argv = argv, .death_signal = SIGTERM};
    pid_t pid = process_start(&process);

    if (pid < 0) {
        say("%s: %s", argv[0], pid == -ENOENT ? "command not found" : strerror(-pid));
        return pid == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    }
    sandbox->command = pid;
    return command_wait(sandbox);
}

/* What they hold goes with their folders, so they have nothing to tidy up. */
static void brokers_end(struct sandbox *sandbox)
{
    int64_t deadline = now_ms() + END_LIMIT_MS;

    for (int i = 0; i < BROKERS; i++) {
        struct broker *broker = sandbox->brokers[i];

        broker->end_expected = true;
        if (broker->pid > 0)
            kill(broker->pid, SIGKILL);
    }
    while ((sandbox->mqtt.pid > 0 || sandbox->kafka.pid > 0) && now_ms() < deadline)
        sandbox_pump(sandbox, 50);
}

static void sandbox_end(struct sandbox *sandbox)
{
    brokers_end(sandbox);
    for (int i = 0; i < BROKERS; i++)
        broker_release_ports(sandbox->brokers[i]);
    if (sandbox->control_fd >= 0)
        close(sandbox->control_fd);
    if (sandbox->signal_fd >= 0)
        close(sandbox->signal_fd);
    if (sandbox->directory[0] != '\0')
        tree_remove(sandbox->directory);
}

/* Returns the exit status. */
static int sandbox_run(struct sandbox *sandbox, char **argv)
{
    int rc = process_init();

    if (rc >= 0) {
        sandbox->signal_fd = rc;
        rc = directory_create(sandbox);
    }
    if (rc == 0)
        rc = control_open(sandbox);
    if (rc == 0)
        rc = brokers_start(sandbox);
    if (sandbox->told_to_stop != 0)
        return 128 + sandbox->told_to_stop;
    if (rc != 0) {
        say("%s", failure());
        return EXIT_SANDBOX_FAILED;
    }
    return command_run(sandbox, argv);
}

/* --- options --- */

static _Noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void usage_error(const char *format, ...)
{
    va_list arguments;

    fputs("fms-sandbox: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\nTry 'fms-sandbox --help'.\n", stderr);
    exit(EXIT_USAGE);
}

static int number_parse(const char *option, const char *text, int low, int high)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < low || number > high)
        usage_error("--%s=%s: not a number from %d to %d", option, text, low, high);
    return (int)number;
}

static const char *address_parse(const char *text)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1)
        usage_error("--listen=%s: no IPv4 address such as 10.0.0.1", text);
    return text;
}

static const struct broker_kind *kafka_kind_parse(const char *text)
{
    if (strcmp(text, "mock") == 0)
        return &kafka_mock_kind;
    if (strcmp(text, "real") == 0)
        return &kafka_real_kind;
    if (strcmp(text, "none") != 0)
        usage_error("--kafka=%s: accepted are mock, real and none", text);
    return NULL;
}

static const struct broker_kind *mqtt_kind_parse(const char *text)
{
    if (strcmp(text, "mosquitto") == 0)
        return &mosquitto_kind;
    if (strcmp(text, "artemis") == 0)
        return &artemis_kind;
    if (strcmp(text, "none") != 0)
        usage_error("--mqtt=%s: accepted are mosquitto, artemis and none", text);
    return NULL;
}

static void options_check(const struct sandbox *sandbox)
{
    if (sandbox->kafka.wanted_port != 0 && sandbox->kafka.kind != &kafka_real_kind)
        usage_error("--kafka-port goes with --kafka=real: the mock cluster chooses its own");
    if (sandbox->kafka.is_secured && sandbox->kafka.kind != &kafka_real_kind)
        usage_error("--kafka-secure goes with --kafka=real");
    if (sandbox->kafka.node_count != 1 && sandbox->kafka.kind != &kafka_mock_kind)
        usage_error("--kafka-brokers goes with --kafka=mock");
    if (sandbox->kafka.topic != NULL && sandbox->kafka.kind != &kafka_mock_kind)
        usage_error("--kafka-topic goes with --kafka=mock");
    if (sandbox->kafka.has_link && sandbox->kafka.kind == &kafka_mock_kind)
        usage_error("--links goes with --kafka=real or none: the mock cluster tells clients its own address");
    if (strcmp(listen_address, "127.0.0.1") != 0 &&
        (sandbox->kafka.kind == &kafka_mock_kind || sandbox->kafka.is_secured || sandbox->mqtt.is_secured))
        usage_error(
            "--listen goes with --kafka=real or none, and not with --kafka-secure or --mqtt-secure: the mock cluster,"
            " and what the certificates are for, is 127.0.0.1");
    if (sandbox->mqtt.wanted_port != 0 && sandbox->mqtt.kind == NULL)
        usage_error("--mqtt-port does not go with --mqtt=none");
    if (sandbox->mqtt.is_secured && sandbox->mqtt.kind == NULL)
        usage_error("--mqtt-secure does not go with --mqtt=none");
}

/* Returns where COMMAND stands in argv. */
static int options_parse(struct sandbox *sandbox, int argc, char **argv)
{
    enum {
        KAFKA,
        KAFKA_PORT,
        KAFKA_BROKERS,
        KAFKA_TOPIC,
        KAFKA_SECURE,
        MQTT,
        MQTT_PORT,
        MQTT_SECURE,
        LISTEN,
        LINKS,
        VERBOSE,
        HELP
    };
    static const struct option options[] = {
        {"kafka", required_argument, NULL, KAFKA},
        {"kafka-port", required_argument, NULL, KAFKA_PORT},
        {"kafka-brokers", required_argument, NULL, KAFKA_BROKERS},
        {"kafka-topic", required_argument, NULL, KAFKA_TOPIC},
        {"kafka-secure", no_argument, NULL, KAFKA_SECURE},
        {"mqtt", required_argument, NULL, MQTT},
        {"mqtt-port", required_argument, NULL, MQTT_PORT},
        {"mqtt-secure", no_argument, NULL, MQTT_SECURE},
        {"listen", required_argument, NULL, LISTEN},
        {"links", no_argument, NULL, LINKS},
        {"verbose", no_argument, NULL, VERBOSE},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case KAFKA:
            sandbox->kafka.kind = kafka_kind_parse(optarg);
            break;
        case KAFKA_PORT:
            sandbox->kafka.wanted_port = number_parse("kafka-port", optarg, 0, 65535);
            break;
        case KAFKA_BROKERS:
            sandbox->kafka.node_count = number_parse("kafka-brokers", optarg, 1, NODES_LIMIT);
            break;
        case KAFKA_TOPIC:
            sandbox->kafka.topic = optarg;
            break;
        case KAFKA_SECURE:
            sandbox->kafka.is_secured = true;
            break;
        case MQTT:
            sandbox->mqtt.kind = mqtt_kind_parse(optarg);
            break;
        case MQTT_PORT:
            sandbox->mqtt.wanted_port = number_parse("mqtt-port", optarg, 0, 65535);
            break;
        case MQTT_SECURE:
            sandbox->mqtt.is_secured = true;
            break;
        case LISTEN:
            listen_address = address_parse(optarg);
            break;
        case LINKS:
            sandbox->mqtt.has_link = sandbox->kafka.has_link = true;
            break;
        case VERBOSE:
            sandbox->verbose = true;
            break;
        case HELP:
            fputs(help, stdout);
            exit(0);
        default:
            fputs("Try 'fms-sandbox --help'.\n", stderr);
            exit(EXIT_USAGE);
        }
    }
    options_check(sandbox);
    if (optind == argc)
        usage_error("no command is given: fms-sandbox [OPTION...] -- COMMAND [ARGUMENT...]");
    return optind;
}

int main(int argc, char **argv)
{
    static struct sandbox sandbox = {
        .mqtt = {.name = "mqtt", .variable = "FMS_MQTT", .kind = &mosquitto_kind},
        .kafka = {.name = "kafka", .variable = "FMS_KAFKA", .kind = &kafka_mock_kind, .node_count = 1},
        .brokers = {&sandbox.mqtt, &sandbox.kafka},
        .signal_fd = -1,
        .control_fd = -1,
    };
    int command;
    int status;

    if (argc > 1 && strcmp(argv[1], "ctl") == 0)
        return control_client(argc - 2, argv + 2);
    for (int i = 0; i < BROKERS; i++) {
        sandbox.brokers[i]->sandbox = &sandbox;
        sandbox.brokers[i]->port_fd = -1;
        sandbox.brokers[i]->link_fd = -1;
        sandbox.brokers[i]->secure_fd = -1;
        sandbox.brokers[i]->controller_fd = -1;
    }
    command = options_parse(&sandbox, argc, argv);
    status = sandbox_run(&sandbox, argv + command);
    sandbox_end(&sandbox);
    return status;
}
