/* sandbox.h - what the files of fms-sandbox share.
 *
 * One thread runs everything but the links, and whoever waits for a broker serves signals meanwhile (sandbox_pump): a Ctrl-C, the
 * command's end and a broker's death are noticed in the middle of a control request too.
 *
 * Functions return 0 or -errno. Whoever detects a failure describes it with fail(); main prints that text, or a
 * control request's reply carries it to the client, which prints it. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sandbox;
struct broker;
struct link;

/* --- failures, time and files (support.c) --- */

/* Remembers what failed, for failure(), and returns ERROR. */
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *failure(void);
/* Prints a line to stderr, under the program's name. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

int64_t now_ms(void);
/* Appends the last lines of the file at PATH to the failure that fail() remembered last. */
void fail_add_log(const char *path);
int file_write(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
int directory_make(const char *path);
void tree_remove(const char *path);
/* Fills PATH with the place of PROGRAM in $PATH or in the sbin folders, which an ordinary user's $PATH lacks. */
int program_find(const char *program, char path[static PATH_MAX]);

/* --- processes and ports (process.c) --- */

/* Blocks the signals that the sandbox serves and remembers what was inherited, so that process_start can give it to
 * the command. Call it before anything else is opened. Returns a signalfd or -errno. */
int process_init(void);

struct process {
    char *const *argv;
    const char *directory; /* working directory; NULL: as it is */
    const char *log;       /* appended to; stdin is then /dev/null. NULL: the three standard files as they are */
    int death_signal;      /* sent by the kernel when the sandbox dies */
    bool broker;           /* a session of its own, and no inherited descriptors */
};

/* Returns a pid, or -errno when the program could not be started, with ENOENT for 'not found'. */
pid_t process_start(const struct process *process);
const char *process_end_text(int status, char text[static 48]);

/* Where all listen: 127.0.0.1, or what --listen says. */
extern const char *listen_address;

/* Reserves PORT, or a free port when it is 0, at listen_address for as long as *FD stays open; a process that sets
 * SO_REUSEADDR, as servers do, can listen on it. Returns the port or -errno. */
int port_reserve(int port, int *fd);
/* Connects to listen_address, PORT. Returns a descriptor whose reads and writes give up after TIMEOUT_MS, or -errno. */
int port_connect(int port, int timeout_ms);

/* --- links (link.c) --- */

enum link_mode { LINK_OPEN, LINK_CUT, LINK_STALL, LINK_SLOW, LINK_DOUBT, LINK_MUTE, LINK_HOLD };

/* Relays what connects to LISTEN_FD, a bound socket, to TARGET_PORT at listen_address until link_end. */
int link_start(struct link **made, int listen_fd, int target_port);
void link_set(struct link *link, enum link_mode mode);
bool link_is(const struct link *link, enum link_mode mode); /* DOUBT becomes MUTE by itself, and HOLD STALL */
void link_end(struct link *link);

/* --- brokers (broker.c; what differs between them in mosquitto.c, artemis.c, kafka_real.c, kafka_mock.c) --- */

enum broker_state { BROKER_STOPPED, BROKER_RUNNING, BROKER_FROZEN };

struct broker_kind {
    const char *title;                     /* for messages */
    bool process;                          /* false: it lives in the sandbox itself and knows only stop and start */
    int start_limit_ms;                    /* until it answers */
    int stop_limit_ms;                     /* until it is gone */
    int (*prepare)(struct broker *broker); /* once: port, configuration, address */
    int (*start)(struct broker *broker);   /* does not wait until it answers */
    int (*stop)(struct broker *broker);    /* only without a process; a process gets signals */
    bool (*answers)(const struct broker *broker);
};

struct broker {
    const char *name;               /* as in 'fms-sandbox ctl NAME' */
    const char *variable;           /* the environment variable that carries the address */
    const struct broker_kind *kind; /* NULL: not the sandbox's */
    struct sandbox *sandbox;
    int wanted_port;   /* 0: any */
    int node_count;    /* mock Kafka only */
    const char *topic; /* that a mock Kafka has from the start; NULL: none */

    enum broker_state state;
    bool end_expected; /* the sandbox itself is ending it */
    pid_t pid;
    int end_status; /* of the last process, as waitpid gave it */
    int port;
    int port_fd; /* the reservation, or -1 */
    int controller_port;
    int controller_fd;
    bool has_link;     /* clients reach it through a link */
    struct link *link; /* NULL: none, or not yet */
    int link_port;
    int link_fd;     /* its reservation, or -1 */
    bool is_secured; /* it has a second listener, which demands TLS; Kafka's also a user and rights */
    int secure_port;
    int secure_fd;
    char address[512]; /* for clients */
    char directory[PATH_MAX];
    char log[PATH_MAX];
    void *mock; /* kafka_mock.c */
};

extern const struct broker_kind mosquitto_kind;
extern const struct broker_kind artemis_kind;
extern const struct broker_kind kafka_real_kind;
extern const struct broker_kind kafka_mock_kind;

/* A broker is made with everything zero but name, variable, sandbox, and descriptors -1. */
int broker_prepare(struct broker *broker, const char *parent_directory);
int broker_launch(struct broker *broker);      /* does not wait */
int broker_wait_answer(struct broker *broker); /* with the kind's deadline */
int broker_start(struct broker *broker);       /* both; nothing to do when it runs */
int broker_stop(struct broker *broker, int signal);
int broker_freeze(struct broker *broker);
int broker_thaw(struct broker *broker);
void broker_reap(struct broker *broker); /* takes in what waitpid knows of its process */
void broker_release_ports(struct broker *broker);
/* The port for clients: the broker's own, or that of its link, which this makes. Returns the port or -errno. */
int broker_client_port(struct broker *broker);

/* Blocks for about a second at most. */
bool kafka_answers(const struct broker *broker);
/* A client with no configuration but its servers, for SERVERS == NULL not even those. Returns NULL on failure; the
 * caller destroys it. */
struct rd_kafka_s *kafka_client_new(const char *servers);

/* Ports and address, the second listener's included. */
int mqtt_prepare(struct broker *broker);
/* Blocks for about a second at most. */
bool mqtt_answers(const struct broker *broker);

/* Reserves the port of a second listener, makes certificates for it in the broker's folder (secure.c says which files), and
 * tells the environment: in the variable's name and _SECURE its address behind SCHEME, and in _CA the authority's file. */
int secure_prepare(struct broker *broker, const char *scheme);
/* That, and a user; fills PROPERTIES with lines for Kafka's configuration. */
enum { KAFKA_SECURE_SIZE = PATH_MAX + 1024 };
int kafka_secure_prepare(struct broker *broker, char properties[static KAFKA_SECURE_SIZE]);

/* --- brokers that java runs (java.c) --- */

/* A folder of jars, as scripts/fetch-jars fills it. */
struct jars {
    const char *product;  /* for messages */
    const char *name;     /* for scripts/fetch-jars */
    const char *variable; /* the environment variable that names another folder */
    const char *folder;   /* in the user's cache */
    const char *pattern;  /* of a jar that tells that it is filled */
    const char *instead;  /* what else the user may set or use */
};

int jars_find(const struct jars *jars, char folder[static PATH_MAX]);
/* Starts java in the broker's folder; ARGUMENTS, up to a NULL, follow the class path. */
int java_start(struct broker *broker, const struct jars *jars, const char *const *arguments);

/* --- control requests (control.c) --- */

int control_listen(const char *path);                                /* returns a descriptor or -errno */
void control_serve(int listen_fd, struct broker *brokers[static 2]); /* one request */
int control_client(int argc, char **argv); /* 'fms-sandbox ctl ...'; returns the exit status */

/* --- the sandbox itself (fms-sandbox.c) --- */

/* Waits up to LIMIT_MS for signals and serves them. */
void sandbox_pump(struct sandbox *sandbox, int limit_ms);
/* True when waiting has become pointless: the command has ended, or the sandbox was told to stop before it began. */
bool sandbox_is_over(const struct sandbox *sandbox);
void sandbox_note(const struct sandbox *sandbox, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
