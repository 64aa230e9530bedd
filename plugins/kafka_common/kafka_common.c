/* kafka_common.c - what kafka_sink and kafka_source share.
 *
 * Settings come in layers, and the later wins: librdkafka's defaults, ours for both profiles, the profile's, the user's
 * kafka.* properties; what the promise rests on comes last, and a property that would break it is refused. */
#include "kafka_common.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* --------------------------------------------------------------------------------------------------------- settings */

#define FOR_PRODUCER  1u
#define FOR_CONSUMER  2u
#define FOR_BOTH      (FOR_PRODUCER | FOR_CONSUMER)
#define IN_REALTIME   (1u << KAFKA_REALTIME)
#define IN_THROUGHPUT (1u << KAFKA_THROUGHPUT)
#define IN_BOTH       (IN_REALTIME | IN_THROUGHPUT)

static const struct {
    const char *name, *value;
    unsigned types, profiles;
} kafka_defaults[] = {
    {"socket.nagle.disable", "true", FOR_BOTH, IN_BOTH},
    {"socket.keepalive.enable", "true", FOR_BOTH, IN_BOTH},
    {"reconnect.backoff.ms", "50", FOR_BOTH, IN_BOTH},
    {"reconnect.backoff.max.ms", "500", FOR_BOTH, IN_BOTH},
    {"log.connection.close", "false", FOR_BOTH, IN_BOTH},
    {"acks", "all", FOR_PRODUCER, IN_BOTH},
    {"enable.idempotence", "true", FOR_PRODUCER, IN_BOTH},
    {"message.timeout.ms", "0", FOR_PRODUCER, IN_BOTH},
    {"linger.ms", "0", FOR_PRODUCER, IN_REALTIME},
    {"queue.buffering.max.messages", "20000", FOR_PRODUCER, IN_REALTIME},
    {"linger.ms", "5", FOR_PRODUCER, IN_THROUGHPUT},
    {"batch.num.messages", "10000", FOR_PRODUCER, IN_THROUGHPUT},
    {"compression.codec", "lz4", FOR_PRODUCER, IN_THROUGHPUT},
    {"queue.buffering.max.messages", "200000", FOR_PRODUCER, IN_THROUGHPUT},
    /* A topic that is made later is found by a refresh. */
    {"topic.metadata.refresh.interval.ms", "5000", FOR_CONSUMER, IN_BOTH},
    /* 2.0.2 stops fetching for up to 1 s at either prefetch limit: let the bytes be the only one. */
    {"queued.min.messages", "1000000", FOR_CONSUMER, IN_BOTH},
    {"queued.max.messages.kbytes", "16384", FOR_CONSUMER, IN_REALTIME},
    {"fetch.wait.max.ms", "100", FOR_CONSUMER, IN_REALTIME},
    {"fetch.error.backoff.ms", "50", FOR_CONSUMER, IN_REALTIME},
    {"queued.max.messages.kbytes", "65536", FOR_CONSUMER, IN_THROUGHPUT},
    {"fetch.min.bytes", "65536", FOR_CONSUMER, IN_THROUGHPUT},
    {"fetch.wait.max.ms", "500", FOR_CONSUMER, IN_THROUGHPUT},
};

static const struct {
    const char *name, *value; /* value NULL: any */
    unsigned types;
    const char *reason;
} kafka_refused[] = {
    {"bootstrap.servers", NULL, FOR_BOTH, "use the option brokers"},
    {"metadata.broker.list", NULL, FOR_BOTH, "use the option brokers"},
    {"enabled_events", NULL, FOR_BOTH, "the plugin would not hear of what it waits for"},
    {"log.queue", NULL, FOR_BOTH, "the log goes to fmspipe's"},
    {"acks", "0", FOR_PRODUCER, "no broker would confirm a record: use all, or 1"},
    {"request.required.acks", "0", FOR_PRODUCER, "no broker would confirm a record: use all, or 1"},
    {"delivery.report.only.error", NULL, FOR_PRODUCER, "records are settled by their delivery reports"},
    {"enable.gapless.guarantee", NULL, FOR_PRODUCER, "goes with kafka.enable.idempotence, which decides it"},
    {"transactional.id", NULL, FOR_PRODUCER, "use the option transactional_id"},
    {"group.id", NULL, FOR_CONSUMER, "use the option group"},
    {"auto.offset.reset", NULL, FOR_CONSUMER, "use the option start"},
    {"enable.auto.commit", NULL, FOR_CONSUMER, "only what is settled is committed: see commit_interval"},
    {"auto.commit.enable", NULL, FOR_CONSUMER, "only what is settled is committed: see commit_interval"},
    {"auto.commit.interval.ms", NULL, FOR_CONSUMER, "use the option commit_interval"},
    {"enable.auto.offset.store", NULL, FOR_CONSUMER, "only what is settled is committed: see commit_interval"},
};

static unsigned kafka_types(rd_kafka_type_t type)
{
    return type == RD_KAFKA_PRODUCER ? FOR_PRODUCER : FOR_CONSUMER;
}

static bool kafka_is_secret(const char *name)
{
    size_t size = strlen(name);

    return strstr(name, "password") != NULL || strstr(name, "secret") != NULL ||
           strncmp(name, "sasl.oauthbearer.", 17) == 0 || (size > 4 && strcmp(name + size - 4, ".pem") == 0);
}

static const char *kafka_refusal(const struct fms_pair *pair, unsigned types)
{
    for (size_t i = 0; i < COUNT(kafka_refused); i++) {
        if ((kafka_refused[i].types & types) != 0 && strcmp(kafka_refused[i].name, pair->name) == 0 &&
            (kafka_refused[i].value == NULL || strstr(pair->value, kafka_refused[i].value) == pair->value))
            return kafka_refused[i].reason;
    }
    return NULL;
}

/* The value stays out of the log where it is a secret, and so does librdkafka's text, which repeats it. */
static int kafka_fail_property(const struct fms_host *host, const struct fms_pair *pair, const char *error)
{
    if (kafka_is_secret(pair->name) || fms_renew(host, pair->option) != -ENOENT)
        return fms_fail_option(host, pair->option, -EINVAL, "librdkafka does not accept this value (not shown)");
    return fms_fail_option(host, pair->option, -EINVAL, "%s", error);
}

static int kafka_check_property(const struct fms_host *host, const struct fms_pair *pair, unsigned types,
                                rd_kafka_conf_t *conf)
{
    const char *reason = kafka_refusal(pair, types);
    char error[512];

    if (reason != NULL)
        return fms_fail_option(host, pair->option, -EINVAL, "can't be set: %s", reason);
    switch (rd_kafka_conf_set(conf, pair->name, pair->value, error, sizeof error)) {
    case RD_KAFKA_CONF_OK:
        return 0;
    case RD_KAFKA_CONF_UNKNOWN:
        return fms_fail_option(host, pair->option, -EINVAL,
                               "librdkafka %s has no property %s: CONFIGURATION.md of librdkafka lists them",
                               rd_kafka_version_str(), pair->name);
    default:
        return kafka_fail_property(host, pair, error);
    }
}

bool kafka_conf_is(const rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char is[512];
    size_t size = sizeof is;

    return rd_kafka_conf_get(conf, name, is, &size) == RD_KAFKA_CONF_OK && strcmp(is, value) == 0;
}

int64_t kafka_conf_number(const rd_kafka_conf_t *conf, const char *name)
{
    char is[32];
    size_t size = sizeof is;

    return rd_kafka_conf_get(conf, name, is, &size) == RD_KAFKA_CONF_OK ? strtoll(is, NULL, 10) : 0;
}

static void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    (void)rd_kafka_conf_set(conf, name, value, NULL, 0);
}

static void kafka_set_defaults(const struct kafka *kafka, const struct fms_host *host, unsigned types,
                               rd_kafka_conf_t *conf)
{
    char client_id[128];

    snprintf(client_id, sizeof client_id, "fmspipe-%s", host->pipeline);
    kafka_set(conf, "client.id", client_id);
    kafka_set(conf, "bootstrap.servers", kafka->brokers);
    if (host->watched) {
        kafka_set(conf, "statistics.interval.ms", "1000");
        kafka_set(conf, "topic.metadata.refresh.interval.ms", "5000"); /* so that brokers that fall silent are seen */
    }
    if (kafka->create_topic && types == FOR_CONSUMER)
        kafka_set(conf, "allow.auto.create.topics", "true"); /* for brokers without an admin API */
    for (size_t i = 0; i < COUNT(kafka_defaults); i++) {
        if ((kafka_defaults[i].types & types) != 0 && (kafka_defaults[i].profiles & (1u << kafka->profile)) != 0)
            kafka_set(conf, kafka_defaults[i].name, kafka_defaults[i].value);
    }
}

static int kafka_check_producer(const struct kafka *kafka, const struct fms_host *host, const rd_kafka_conf_t *conf)
{
    bool is_ordered = kafka_conf_is(conf, "enable.idempotence", "true");
    bool is_replicated = kafka_conf_is(conf, "acks", "-1");

    for (size_t i = 0; i < kafka->properties.count; i++) {
        const struct fms_pair *pair = &kafka->properties.items[i];

        if (!is_replicated && is_ordered &&
            (strcmp(pair->name, "acks") == 0 || strcmp(pair->name, "request.required.acks") == 0))
            return fms_fail_option(host, pair->option, -EINVAL,
                                   "%s: the idempotent producer needs all; kafka.enable.idempotence = false gives it "
                                   "up, and with it the order of records when one has to be sent again",
                                   pair->value);
        if (!is_ordered && strcmp(pair->name, "enable.idempotence") == 0)
            fms_advise(host, pair->option, "without it, records can change places, or double, when one is sent again");
    }
    if (!is_replicated) {
        fms_advise(host, NULL, "without kafka.acks = all, a record is lost with the broker that confirmed it");
        fms_promise(host, NULL, FMS_AT_MOST_ONCE,
                    "a record is lost with the broker that confirmed it: leave kafka.acks out");
    }
    return 0;
}

/* The property as it stands in the file; NULL: it does not. */
static const struct fms_pair *kafka_property(const struct kafka *kafka, const char *name)
{
    const struct fms_pair *pair = NULL;

    for (size_t i = 0; i < kafka->properties.count; i++) {
        if (strcmp(kafka->properties.items[i].name, name) == 0)
            pair = &kafka->properties.items[i];
    }
    return pair;
}

static const char *kafka_option(const struct kafka *kafka, const char *name)
{
    const struct fms_pair *pair = kafka_property(kafka, name);

    return pair != NULL ? pair->option : NULL;
}

static bool kafka_has_tls(const rd_kafka_conf_t *conf)
{
    return kafka_conf_is(conf, "security.protocol", "ssl") || kafka_conf_is(conf, "security.protocol", "sasl_ssl");
}

static bool kafka_has_sasl(const rd_kafka_conf_t *conf)
{
    return kafka_conf_is(conf, "security.protocol", "sasl_plaintext") ||
           kafka_conf_is(conf, "security.protocol", "sasl_ssl");
}

static void kafka_advise_security(const struct kafka *kafka, const struct fms_host *host, const rd_kafka_conf_t *conf)
{
    bool is_tls = kafka_has_tls(conf);

    if (is_tls && kafka_conf_is(conf, "enable.ssl.certificate.verification", "false"))
        fms_advise(host, kafka_option(kafka, "enable.ssl.certificate.verification"),
                   "whoever sits on the line can pose as a broker");
    else if (is_tls && kafka_conf_is(conf, "ssl.endpoint.identification.algorithm", "none"))
        fms_advise(host, kafka_option(kafka, "ssl.endpoint.identification.algorithm"),
                   "whoever has a certificate of the same authority can pose as a broker; https checks the name in it");
    if (kafka_conf_is(conf, "security.protocol", "sasl_plaintext") && kafka_conf_is(conf, "sasl.mechanisms", "PLAIN"))
        fms_advise(
            host, kafka_option(kafka, "security.protocol"),
            "with PLAIN the password goes over the network in the clear; use sasl_ssl where the line is not your own");
}

static int kafka_check_brokers(const struct kafka *kafka, const struct fms_host *host)
{
    if (kafka->brokers[strspn(kafka->brokers, ", ")] == '\0')
        return fms_fail_option(host, "brokers", -EINVAL, "is empty: name at least one broker as host:port");
    if (strpbrk(kafka->brokers, "@/") !=
        NULL) /* not shown: a password may stand there, and librdkafka logs addresses */
        return fms_fail_option(host, "brokers", -EINVAL,
                               "must be host:port alone, separated by commas: a user name and a password go into "
                               "kafka.sasl.username and kafka.sasl.password, a scheme into kafka.security.protocol");
    return 0;
}

#define COOPERATIVE_SINCE 0x020a0000 /* librdkafka 2.10.0 */

/* Below 2.3 a consumer that is closed between joining and its first assignment aborts the process: it destroys the state of an
 * assignor that has none yet. Below 2.4 one that is closed in an assignment may never end, below 2.6.1 the assignor may loop for ever,
 * and below 2.10 a commit during a rebalance may lose all partitions, records in flight included; and we commit then. */
static int kafka_check_strategy(const struct kafka *kafka, const struct fms_host *host)
{
    const struct fms_pair *pair = kafka_property(kafka, "partition.assignment.strategy");

    if (pair == NULL || strstr(pair->value, "cooperative") == NULL || rd_kafka_version() >= COOPERATIVE_SINCE)
        return 0;
    return fms_fail_option(
        host, pair->option, -EINVAL,
        "\"%s\" needs librdkafka 2.10, and this is %s, which with it can abort the process, or lose its "
        "partitions when it commits in a rebalance: use range or roundrobin",
        pair->value, rd_kafka_version_str());
}

/* librdkafka compares it only when a client is made, and to the letter. */
static int kafka_check_mechanism(const struct kafka *kafka, const struct fms_host *host, const rd_kafka_conf_t *conf)
{
    static const char *const mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"};
    const char *option = kafka_option(kafka, "sasl.mechanisms");
    char is[128] = "";
    size_t size = sizeof is;

    if (option == NULL)
        option = kafka_option(kafka, "sasl.mechanism");
    if (option == NULL || !kafka_has_sasl(conf))
        return 0;
    (void)rd_kafka_conf_get(conf, "sasl.mechanisms", is, &size);
    for (size_t i = 0; i < COUNT(mechanisms); i++) {
        if (strcmp(is, mechanisms[i]) == 0)
            return 0;
    }
    return fms_fail_option(host, option, -EINVAL,
                           "\"%s\" is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI and OAUTHBEARER, which are "
                           "written just so",
                           is);
}

/* What goes together is known when a client is made. This one has no brokers, reads no certificates, and fetches no tickets or
 * tokens, so it touches neither network nor disk. */
static int kafka_check_client(const struct kafka *kafka, const struct fms_host *host, rd_kafka_type_t type,
                              const rd_kafka_conf_t *checked)
{
    bool is_login = kafka_has_sasl(checked) && !kafka_conf_is(checked, "sasl.mechanisms", "GSSAPI") &&
                    !kafka_conf_is(checked, "sasl.mechanisms", "OAUTHBEARER");
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(checked);
    const char *option = NULL;
    char error[256];
    rd_kafka_t *rk;

    kafka_set(conf, "bootstrap.servers", "");
    kafka_set(conf, "security.protocol", is_login ? "sasl_plaintext" : "plaintext");
    rd_kafka_conf_set_log_cb(conf, NULL);
    rk = rd_kafka_new(type, conf, error, sizeof error);
    if (rk != NULL) {
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        return 0;
    }
    rd_kafka_conf_destroy(conf);
    for (size_t i = 0; i < kafka->properties.count; i++) {
        if (strstr(error, kafka->properties.items[i].name) != NULL)
            option = kafka->properties.items[i].option;
    }
    return fms_fail_option(host, option, -EINVAL, "librdkafka can't be started so: %s", error);
}

int kafka_check(const struct kafka *kafka, const struct fms_host *host, rd_kafka_type_t type)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    unsigned types = kafka_types(type);
    int error = kafka_check_brokers(kafka, host);

    kafka_set_defaults(kafka, host, types, conf);
    for (size_t i = 0; i < kafka->properties.count; i++) {
        if (kafka_check_property(host, &kafka->properties.items[i], types, conf) != 0)
            error = -EINVAL;
    }
    if (error == 0)
        kafka_advise_security(kafka, host, conf);
    if (type == RD_KAFKA_PRODUCER && error == 0)
        error = kafka_check_producer(kafka, host, conf);
    if (type == RD_KAFKA_CONSUMER && error == 0)
        error = kafka_check_strategy(kafka, host);
    if (error == 0)
        error = kafka_check_mechanism(kafka, host, conf);
    if (error == 0)
        error = kafka_check_client(kafka, host, type, conf);
    rd_kafka_conf_destroy(conf);
    return error;
}

const char *kafka_topic_error(const char *name, size_t size)
{
    if (size == 0)
        return "is empty";
    if (size > 249)
        return "has more than Kafka's 249 characters";
    if ((size == 1 && name[0] == '.') || (size == 2 && name[0] == '.' && name[1] == '.'))
        return "can't be . or ..";
    for (size_t i = 0; i < size; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == '-'))
            return "has other characters than Kafka's a-z, A-Z, 0-9, '.', '_' and '-'";
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------------------- certificates, keys */

#define LOOK_INTERVAL (5 * FMS_SECOND)

/* What librdkafka reads whenever a client is made. It reads copies, which were found to be good: so that there is something to go
 * back to, whatever has become of the files. */
static const char *const kafka_files[KAFKA_FILES] = {
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location",
};

/* What is wrong with them. */
struct fault {
    const char *option; /* to blame; NULL: none in particular */
    char reason[512];
};

/* NULL: that property names no file. */
static const struct fms_pair *kafka_file(const struct kafka *kafka, size_t i)
{
    const struct fms_pair *pair = kafka_property(kafka, kafka_files[i]);

    if (pair == NULL || pair->value[0] == '\0' || strcmp(pair->value, "probe") == 0) /* librdkafka searches itself */
        return NULL;
    return pair;
}

/* FNV-1a over what changes when a file is written, replaced, or made readable. */
static uint64_t kafka_stamp_file(uint64_t stamp, const char *path)
{
    struct stat is = {0};
    uint64_t words[] = {0, 0, 0, 0, 0};

    if (stat(path, &is) == 0) {
        words[0] = is.st_dev;
        words[1] = is.st_ino;
        words[2] = (uint64_t)is.st_size;
        words[3] = (uint64_t)is.st_ctim.tv_sec;
        words[4] = (uint64_t)is.st_ctim.tv_nsec;
    }
    for (size_t i = 0; i < COUNT(words); i++)
        stamp = (stamp ^ words[i]) * UINT64_C(0x100000001b3);
    return stamp;
}

/* 0: no property names a file. */
static uint64_t kafka_stamp(const struct kafka *kafka)
{
    uint64_t stamp = 0;

    for (size_t i = 0; i < KAFKA_FILES; i++) {
        const struct fms_pair *file = kafka_file(kafka, i);

        if (file != NULL)
            stamp = kafka_stamp_file(stamp == 0 ? UINT64_C(0xcbf29ce484222325) : stamp, file->value);
    }
    return stamp;
}

static void copies_close(struct copy copies[KAFKA_FILES])
{
    for (size_t i = 0; i < KAFKA_FILES; i++)
        copy_free(&copies[i]);
}

/* A directory of authorities is not copied: OpenSSL looks into it at each connection. 0 or -errno. */
static int file_copy(struct copy *copy, const char *path)
{
    struct stat is;

    return stat(path, &is) == 0 && S_ISDIR(is.st_mode) ? 0 : copy_make(copy, path);
}

/* Copies the files as they are now. False: one can't be read. copies_close closes what there is. */
static bool copies_make(const struct kafka *kafka, struct copy copies[KAFKA_FILES], struct fault *fault)
{
    for (size_t i = 0; i < KAFKA_FILES; i++) {
        const struct fms_pair *file = kafka_file(kafka, i);
        int error = file != NULL ? file_copy(&copies[i], file->value) : 0;

        if (error == 0)
            continue;
        fault->option = file->option;
        snprintf(fault->reason, sizeof fault->reason, "%s: %s", file->value, copy_error(error));
        return false;
    }
    return true;
}

/* Whoever is to blame for what librdkafka says. */
static void fault_find(const struct kafka *kafka, struct fault *fault, const char *error)
{
    *fault = (struct fault){.option = NULL};
    snprintf(fault->reason, sizeof fault->reason, "%s", error);
    for (size_t i = 0; i < KAFKA_FILES; i++) {
        const struct fms_pair *file = kafka_file(kafka, i);

        if (file == NULL || strstr(error, kafka_files[i]) == NULL)
            continue;
        fault->option = file->option;
        snprintf(fault->reason, sizeof fault->reason, "%s: %s", file->value, error);
    }
}

/* A client that reads the copies. NULL: it can't be made of them. Takes `conf`. */
static rd_kafka_t *client_make(const struct kafka *kafka, const struct copy copies[KAFKA_FILES], rd_kafka_type_t type,
                               rd_kafka_conf_t *conf, struct fault *fault)
{
    char error[256];
    rd_kafka_t *rk;

    for (size_t i = 0; i < KAFKA_FILES; i++) {
        if (copy_path(&copies[i]) != NULL)
            kafka_set(conf, kafka_files[i], copy_path(&copies[i]));
    }
    rk = rd_kafka_new(type, conf, error, sizeof error);
    if (rk != NULL)
        return rk;
    rd_kafka_conf_destroy(conf);
    fault_find(kafka, fault, error);
    return NULL;
}

/* Whether a property has another text in its file. */
static bool secrets_have_changed(const struct kafka *kafka)
{
    bool has_changed = false;

    for (size_t i = 0; kafka->good != NULL && i < kafka->properties.count; i++) {
        if (kafka->good[i] != NULL)
            has_changed = fms_renew(kafka->host, kafka->properties.items[i].option) == 1 || has_changed;
    }
    return has_changed;
}

bool kafka_has_new_files(struct kafka *kafka, struct fms_wait *wait)
{
    int64_t now;

    if (kafka->files == 0 && kafka->good == NULL)
        return false;
    now = fms_now(kafka->host);
    if (now >= kafka->files_at) {
        kafka->files_at = now + LOOK_INTERVAL;
        if (secrets_have_changed(kafka) || (kafka->files != 0 && kafka_stamp(kafka) != kafka->files))
            return true;
    }
    if (wait->deadline > kafka->files_at)
        wait->deadline = kafka->files_at;
    return false;
}

static bool is_login(const char *name)
{
    return strcmp(name, "sasl.username") == 0 || strcmp(name, "sasl.password") == 0;
}

static bool is_new(const struct kafka *kafka, size_t i)
{
    return kafka->good != NULL && kafka->good[i] != NULL &&
           strcmp(kafka->good[i], kafka->properties.items[i].value) != 0;
}

/* The properties as they are now, into `conf`. False: one can't be what it is. */
static bool secrets_set(const struct kafka *kafka, rd_kafka_conf_t *conf, struct fault *fault)
{
    for (size_t i = 0; i < kafka->properties.count; i++) {
        const struct fms_pair *pair = &kafka->properties.items[i];

        if (!is_new(kafka, i) || rd_kafka_conf_set(conf, pair->name, pair->value, NULL, 0) == RD_KAFKA_CONF_OK)
            continue;
        fault->option = pair->option;
        snprintf(fault->reason, sizeof fault->reason, "librdkafka does not accept this value (not shown)");
        return false;
    }
    return true;
}

/* From now on these are the good ones. */
static void secrets_keep(struct kafka *kafka)
{
    for (size_t i = 0; i < kafka->properties.count; i++) {
        char *value = is_new(kafka, i) ? strdup(kafka->properties.items[i].value) : NULL;

        if (value == NULL)
            continue;
        free(kafka->good[i]);
        kafka->good[i] = value;
    }
}

static void secrets_free(struct kafka *kafka)
{
    for (size_t i = 0; kafka->good != NULL && i < kafka->properties.count; i++)
        free(kafka->good[i]);
    free(kafka->good);
    kafka->good = NULL;
}

/* 0 or -ENOMEM. */
static int secrets_find(struct kafka *kafka)
{
    for (size_t i = 0; i < kafka->properties.count; i++) {
        const struct fms_pair *pair = &kafka->properties.items[i];

        if (fms_renew(kafka->host, pair->option) == -ENOENT)
            continue;
        if (kafka->good == NULL)
            kafka->good = calloc(kafka->properties.count, sizeof *kafka->good);
        if (kafka->good == NULL || (kafka->good[i] = strdup(pair->value)) == NULL) {
            secrets_free(kafka);
            return -ENOMEM;
        }
    }
    return 0;
}

/* Whether nothing but the login has changed, and the client has taken it: connections that there are stay, the next one logs in so.
 * librdkafka does that for these mechanisms only. */
static bool kafka_has_logged_in(struct kafka *kafka, const rd_kafka_conf_t *conf)
{
    const struct fms_pair *user = kafka_property(kafka, "sasl.username"),
                          *password = kafka_property(kafka, "sasl.password");
    rd_kafka_error_t *error;

    for (size_t i = 0; i < kafka->properties.count; i++) {
        if (is_new(kafka, i) && !is_login(kafka->properties.items[i].name))
            return false;
    }
    if ((kafka->files != 0 && kafka_stamp(kafka) != kafka->files) || user == NULL || password == NULL ||
        (!kafka_conf_is(conf, "sasl.mechanisms", "PLAIN") && !kafka_conf_is(conf, "sasl.mechanisms", "SCRAM-SHA-256") &&
         !kafka_conf_is(conf, "sasl.mechanisms", "SCRAM-SHA-512")))
        return false;
    error = rd_kafka_sasl_set_credentials(kafka->rk, user->value, password->value);
    if (error != NULL)
        rd_kafka_error_destroy(error);
    return error == NULL;
}

/* Whether a client can be made of the copies. That one has no brokers, and so is ended at once. Takes `conf`. */
static bool copies_are_good(const struct kafka *kafka, const struct copy copies[KAFKA_FILES], rd_kafka_type_t type,
                            rd_kafka_conf_t *conf, struct fault *fault)
{
    rd_kafka_t *rk;

    kafka_set(conf, "bootstrap.servers", "");
    rd_kafka_conf_set_log_cb(conf, NULL);
    rk = client_make(kafka, copies, type, conf, fault);
    if (rk != NULL)
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return rk != NULL;
}

bool kafka_renew(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    struct copy copies[KAFKA_FILES] = {{.path = ""}};
    struct fault fault;
    bool are_good;

    if (kafka_has_logged_in(kafka, conf)) {
        rd_kafka_conf_destroy(conf);
        secrets_keep(kafka);
        fms_info(kafka->host, "the user name or the password has changed: the next connection logs in so");
        return false;
    }
    if (kafka->files != 0)
        kafka->files = kafka_stamp(kafka);
    are_good = secrets_set(kafka, conf, &fault) && (kafka->files == 0 || copies_make(kafka, copies, &fault));
    if (are_good)
        are_good = copies_are_good(kafka, copies, type, conf, &fault);
    else
        rd_kafka_conf_destroy(conf);
    if (are_good) {
        copies_close(kafka->copies);
        memcpy(kafka->copies, copies, sizeof copies);
        secrets_keep(kafka);
        fms_info(kafka->host, "certificates, keys or secrets have changed: a new client takes over");
        return true;
    }
    copies_close(copies);
    fms_warn(
        kafka->host,
        "certificates, keys or secrets have changed, but can't be used, so those that were read before stay: %s%s%s",
        fault.option != NULL ? fault.option : "", fault.option != NULL ? ": " : "", fault.reason);
    return false;
}

/* ----------------------------------------------------------------------------------------------------------- client */

/* A source, a sink and a [dead_letter] are closed one after the other, and fmspipe waits 15 s for all of them. An ordinary end takes
 * a few milliseconds, on a busy machine a second. */
#define STOP_PATIENCE (3 * FMS_SECOND)

/* A client that is being destroyed, by a thread of its own: librdkafka 2.0 waits for ever for what it has lost count of, such as a
 * broker of partitions that are no more. */
struct ending {
    const struct kafka *of;
    rd_kafka_t *rk;
    int flags;
    bool has_ended, is_left_alone;
    struct ending *next; /* those that are left alone */
};

static struct ending *endings_left_alone;
static pthread_mutex_t ending_lock =
    PTHREAD_MUTEX_INITIALIZER; /* guards the above, and the log of a client left alone */
static pthread_cond_t ending_ended = PTHREAD_COND_INITIALIZER;

/* Under ending_lock. */
static bool kafka_is_left_alone(const rd_kafka_t *rk)
{
    const struct ending *ending = endings_left_alone;

    while (ending != NULL && ending->rk != rk)
        ending = ending->next;
    return ending != NULL;
}

/* Lines read "[thrd:...]: text". Errors are warnings here, for the client goes on trying by itself. [any] */
static void kafka_log_line(struct kafka *kafka, int level, const char *facility, const char *text)
{
    const char *end = text[0] == '[' ? strstr(text, "]: ") : NULL;

    if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "enable.gapless.guarantee is experimental") != NULL)
        return; /* kafka_sink sets it */
    if (level <= LOG_WARNING)
        kafka->has_said_why = true;
    kafka->host->log(kafka->host,
                     level <= LOG_WARNING ? FMS_LOG_WARN
                     : level <= LOG_INFO  ? FMS_LOG_INFO
                                          : FMS_LOG_DEBUG,
                     "librdkafka: %s: %s", facility, end != NULL ? end + 3 : text);
}

static void kafka_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    pthread_mutex_lock(&ending_lock);
    if (!kafka_is_left_alone(rk))
        kafka_log_line(rd_kafka_opaque(rk), level, facility, text);
    pthread_mutex_unlock(&ending_lock);
}

/* A broker that expects TLS just hangs up on whoever comes without, and librdkafka knows no more. Not one that has answered before. */
static const char *kafka_hint(struct kafka *kafka)
{
    if (kafka->has_said_why || (kafka->rk != NULL && kafka_answering_at(kafka) != 0))
        return "";
    if (kafka_property(kafka, "security.protocol") != NULL)
        return "; does it expect another kafka.security.protocol?";
    return "; does it expect TLS or a login? See kafka.security.protocol";
}

static void kafka_link_down(struct kafka *kafka)
{
    if (kafka->why[0] == '\0' && kafka->down_since != 0)
        fms_link_down(kafka->host, "no broker of %s answers%s", kafka->brokers, kafka_hint(kafka));
    else
        fms_link_down(kafka->host, "no broker of %s answers%s%s", kafka->brokers, kafka->why[0] != '\0' ? ": " : "",
                      kafka->why);
}

/* librdkafka guesses that who does not answer is years old. */
static void kafka_set_why(struct kafka *kafka, const char *reason)
{
    const char *guess = strstr(reason, ": probably due to broker version");

    snprintf(kafka->why, sizeof kafka->why, "%.*s", (int)(guess != NULL ? (size_t)(guess - reason) : strlen(reason)),
             reason);
}

/* All but the first two are in the log already. [lane] */
static void kafka_error(rd_kafka_t *rk, int error, const char *reason, void *opaque)
{
    struct kafka *kafka = opaque;

    (void)rk;
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        kafka->is_fatal = true;
    } else if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        kafka_set_why(kafka, reason);
        if (error == RD_KAFKA_RESP_ERR__AUTHENTICATION || error == RD_KAFKA_RESP_ERR__SSL)
            kafka->files_at = 0; /* perhaps they are there already */
        if (kafka->down_since != 0)
            kafka_link_down(kafka);
    } else if (kafka->down_since == 0) {
        kafka->down_since = fms_now(kafka->host);
        kafka_link_down(kafka);
        fms_warn(kafka->host, "no broker of %s is reachable, trying again: %s%s", kafka->brokers, reason,
                 kafka_hint(kafka));
    }
}

void kafka_recovered(struct kafka *kafka)
{
    fms_info(kafka->host, "brokers are reachable again, after %.1f s",
             (double)(fms_now(kafka->host) - kafka->down_since) / (double)FMS_SECOND);
    kafka->down_since = 0;
    kafka->why[0] = '\0';
    fms_link_up(kafka->host);
}

#define UNCONNECTED_MOST                                                                                               \
    2u /* statistics in a row without a connection that answers; one may fall into the moment in which it is made anew */

void kafka_measure(struct kafka *kafka)
{
    if (kafka->rk != NULL && kafka->down_since == 0 && kafka->unconnected < UNCONNECTED_MOST &&
        kafka_answering_at(kafka) != 0)
        fms_link_up(kafka->host);
}

void kafka_is_connected(struct kafka *kafka, bool is_connected)
{
    kafka->unconnected = is_connected ? 0 : kafka->unconnected + 1;
    if (is_connected) {
        kafka_reached(kafka);
        kafka->why[0] = '\0';
        fms_link_up(kafka->host);
    } else if (kafka->unconnected >= UNCONNECTED_MOST && kafka->down_since == 0) {
        kafka_link_down(kafka);
    }
}

rd_kafka_conf_t *kafka_conf(struct kafka *kafka, const struct fms_host *host, rd_kafka_type_t type,
                            const struct kafka_setting *settings)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    kafka->host = host;
    kafka_set_defaults(kafka, host, kafka_types(type), conf);
    for (size_t i = 0; i < kafka->properties.count; i++)
        kafka_set(conf, kafka->properties.items[i].name,
                  kafka->good != NULL && kafka->good[i] != NULL ? kafka->good[i] : kafka->properties.items[i].value);
    for (; settings->name != NULL; settings++)
        kafka_set(conf, settings->name, settings->value);
    rd_kafka_conf_set_opaque(conf, kafka);
    rd_kafka_conf_set_log_cb(conf, kafka_log);
    rd_kafka_conf_set_error_cb(conf, kafka_error);
    rd_kafka_conf_set_stats_cb(conf, kafka_statistics);
    return conf;
}

int kafka_prepare(struct kafka *kafka, const struct fms_host *host)
{
    kafka->host = host;
    kafka->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (kafka->event_fd < 0)
        return fms_fail(host, -errno, "eventfd: %s", strerror(errno));
    if (secrets_find(kafka) == 0)
        return 0;
    close(kafka->event_fd);
    return fms_fail(host, -ENOMEM, "out of memory");
}

/* Whether threads of a client of it are left behind. */
static bool kafka_has_left(const struct kafka *kafka)
{
    const struct ending *ending;

    pthread_mutex_lock(&ending_lock);
    for (ending = endings_left_alone; ending != NULL && ending->of != kafka;)
        ending = ending->next;
    pthread_mutex_unlock(&ending_lock);
    return ending != NULL;
}

void kafka_release(struct kafka *kafka)
{
    copies_close(kafka->copies);
    secrets_free(kafka);
    if (!kafka_has_left(kafka)) /* which may still write to it, and so to whatever gets its number next */
        close(kafka->event_fd);
}

static void kafka_tell_fault(const struct kafka *kafka, const struct fault *fault)
{
    if (fault->option != NULL)
        fms_fail_option(kafka->host, fault->option, -EINVAL, "%s", fault->reason);
    else
        fms_fail(kafka->host, -EINVAL, "librdkafka can't be started: %s; see brokers and kafka.*", fault->reason);
}

rd_kafka_t *kafka_make(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    struct fault fault;
    rd_kafka_t *rk = client_make(kafka, kafka->copies, type, conf, &fault);

    if (rk == NULL)
        kafka_tell_fault(kafka, &fault);
    return rk;
}

int kafka_start(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    bool is_first = kafka->files == 0 && kafka_has_tls(conf);
    struct fault fault;

    kafka->is_fatal = false;
    kafka->answering_at = 0;
    memset(kafka->seen, 0, sizeof kafka->seen);
    kafka->unconnected = 0;
    if (is_first)
        kafka->files = kafka_stamp(kafka);
    if (is_first && !copies_make(kafka, kafka->copies, &fault)) {
        rd_kafka_conf_destroy(conf);
        return fms_fail_option(kafka->host, fault.option, -EINVAL, "%s", fault.reason);
    }
    kafka->rk = kafka_make(kafka, type, conf);
    return kafka->rk != NULL ? 0 : -EINVAL;
}

static void ending_forget(const struct ending *ending)
{
    for (struct ending **at = &endings_left_alone; *at != NULL; at = &(*at)->next) {
        if (*at == ending) {
            *at = ending->next;
            return;
        }
    }
}

static void *ending_run(void *opaque)
{
    struct ending *ending = opaque;
    bool is_mine;

    rd_kafka_destroy_flags(ending->rk, ending->flags);
    pthread_mutex_lock(&ending_lock);
    is_mine = ending->is_left_alone;
    ending->has_ended = true;
    if (is_mine)
        ending_forget(ending);
    else
        pthread_cond_broadcast(&ending_ended);
    pthread_mutex_unlock(&ending_lock);
    if (is_mine)
        free(ending);
    return NULL;
}

/* Waits for the end of it, but not for ever. False: it is left alone, frees itself, and logs nothing more. */
static bool ending_wait(struct ending *ending, int64_t patience)
{
    struct timespec until;
    bool has_ended;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += patience / FMS_SECOND;
    pthread_mutex_lock(&ending_lock);
    while (!ending->has_ended && pthread_cond_clockwait(&ending_ended, &ending_lock, CLOCK_MONOTONIC, &until) == 0)
        ;
    has_ended = ending->has_ended;
    if (!has_ended) {
        ending->is_left_alone = true;
        ending->next = endings_left_alone;
        endings_left_alone = ending;
    }
    pthread_mutex_unlock(&ending_lock);
    return has_ended;
}

/* NULL: there is no thread for it, so it was destroyed here. */
static struct ending *ending_start(struct kafka *kafka, int flags, pthread_t *thread)
{
    struct ending *ending = malloc(sizeof *ending);
    rd_kafka_t *rk = kafka->rk;

    if (ending != NULL)
        *ending = (struct ending){.of = kafka, .rk = rk, .flags = flags};
    if (ending != NULL && pthread_create(thread, NULL, ending_run, ending) == 0)
        return ending;
    free(ending);
    rd_kafka_destroy_flags(rk, flags);
    return NULL;
}

static void kafka_destroy(struct kafka *kafka, int flags, int64_t patience)
{
    pthread_t thread;
    struct ending *ending = ending_start(kafka, flags, &thread);

    kafka->rk = NULL;
    if (ending == NULL)
        return;
    if (ending_wait(ending, patience)) {
        pthread_join(thread, NULL);
        free(ending);
        return;
    }
    pthread_detach(thread);
    if (patience > 0)
        fms_warn(
            kafka->host,
            "librdkafka %s does not end its client within %d s: its threads are left behind, and end with the process; "
            "nothing is lost by that",
            rd_kafka_version_str(), (int)(patience / FMS_SECOND));
}

static void kafka_forget_topics(struct kafka *kafka)
{
    if (kafka->admin != NULL)
        rd_kafka_queue_destroy(kafka->admin);
    kafka->admin = NULL;
    kafka->topics = NULL;
}

void kafka_stop(struct kafka *kafka, int flags)
{
    kafka_forget_topics(kafka);
    kafka_destroy(kafka, flags, STOP_PATIENCE);
}

void kafka_leave(struct kafka *kafka, int flags)
{
    kafka_forget_topics(kafka);
    kafka_destroy(kafka, flags, 0);
}

void kafka_watch(struct kafka *kafka, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(queue, kafka->event_fd, &one, sizeof one);
}

void kafka_awake(struct kafka *kafka)
{
    eventfd_t count;

    (void)eventfd_read(kafka->event_fd, &count);
}

int kafka_ms_until(const struct fms_host *host, int64_t deadline)
{
    int64_t now = fms_now(host);

    if (deadline <= now)
        return 0;
    return deadline - now > INT_MAX * FMS_MS ? INT_MAX : (int)((deadline - now + FMS_MS - 1) / FMS_MS);
}

/* ----------------------------------------------------------------------------------------------- creation of topics */

#define ASK_PATIENCE    (10 * FMS_SECOND) /* for an answer to one CreateTopics, with the wait for a broker */
#define ANSWER_PATIENCE FMS_SECOND /* of a cluster that answers otherwise: then nobody waits for its controller */
#define ASK_TICK        (100 * FMS_MS)
#define TOLD_MOST       10 /* topics created in one run that are told one by one; then each hundredth */
#define TOLD_EACH       100

static int kafka_or_default(int64_t count)
{
    return count == 0 ? -1 : (int)count;
}

rd_kafka_NewTopic_t *kafka_new_topic(const struct kafka *kafka, const char *name)
{
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, kafka_or_default(kafka->partitions),
                                                       kafka_or_default(kafka->replication), NULL, 0);

    for (size_t i = 0; i < kafka->topic_config.count; i++)
        rd_kafka_NewTopic_set_config(topic, kafka->topic_config.items[i].name, kafka->topic_config.items[i].value);
    return topic;
}

static void kafka_ask(struct kafka *kafka)
{
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_NewTopic_t **topics = calloc(kafka->topic_count, sizeof *topics);

    kafka->is_asking = topics != NULL;
    kafka->ask_at = fms_now(kafka->host) + ASK_PATIENCE;
    if (topics != NULL) {
        for (size_t i = 0; i < kafka->topic_count; i++)
            topics[i] = kafka_new_topic(kafka, kafka->topics[i]);
        rd_kafka_AdminOptions_set_request_timeout(options, (int)(ASK_PATIENCE / FMS_MS), NULL, 0);
        rd_kafka_AdminOptions_set_operation_timeout(options, (int)(ASK_PATIENCE / FMS_MS), NULL, 0);
        rd_kafka_CreateTopics(kafka->rk, topics, kafka->topic_count, options, kafka->admin);
        rd_kafka_NewTopic_destroy_array(topics, kafka->topic_count);
    }
    free(topics);
    rd_kafka_AdminOptions_destroy(options);
}

void kafka_create(struct kafka *kafka, const char *const *topics, size_t count)
{
    kafka->is_undecided = kafka->create_topic && count > 0;
    if (!kafka->is_undecided)
        return;
    kafka->topics = topics;
    kafka->topic_count = count;
    kafka->ask_attempt = 0;
    kafka->admin = rd_kafka_queue_new(kafka->rk);
    kafka_watch(kafka, kafka->admin);
    kafka_ask(kafka);
}

void kafka_tell_created(const struct fms_host *host, const char *name, int64_t count)
{
    if (count <= TOLD_MOST)
        fms_info(host, "created topic %s%s", name,
                 count == TOLD_MOST ? "; of those to come, only each hundredth is told" : "");
    else if (count % TOLD_EACH == 0)
        fms_info(host, "created %lld topics so far, the last one %s", (long long)count, name);
    else
        fms_debug(host, "created topic %s", name);
}

/* Whether the answer about one topic needs no other. */
static bool kafka_is_topic_done(struct kafka *kafka, const rd_kafka_topic_result_t *result)
{
    const char *name = rd_kafka_topic_result_name(result), *text = rd_kafka_topic_result_error_string(result);

    switch (rd_kafka_topic_result_error(result)) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        kafka_tell_created(kafka->host, name, ++kafka->created);
        return true;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        return true;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        fms_info(kafka->host, "topic %s: no right to create it, so it has to be there: %s", name, text);
        return true;
    default:
        fms_warn(kafka->host,
                 "topic %s can't be created, will be tried again: %s; see partitions, replication, "
                 "topic.*, create_topic",
                 name, text != NULL ? text : "no reason given");
        return false;
    }
}

static bool kafka_is_done(struct kafka *kafka, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const rd_kafka_topic_result_t **topics;
    bool is_done = true;
    size_t count;

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fms_debug(kafka->host, "no topic created: %s", rd_kafka_event_error_string(event));
        kafka->is_mute = kafka->is_mute || error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
        return error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE || !kafka->is_undecided;
    }
    kafka->is_mute = false;
    topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    for (size_t i = 0; i < count; i++)
        is_done = kafka_is_topic_done(kafka, topics[i]) && is_done;
    return is_done;
}

static void kafka_answered(struct kafka *kafka, rd_kafka_event_t *event)
{
    kafka->is_asking = false;
    kafka->ask_at = fms_now(kafka->host) + fms_backoff(kafka->host, FMS_SECOND, 30 * FMS_SECOND, kafka->ask_attempt++);
    if (kafka_is_done(kafka, event)) {
        kafka->topics = NULL;
        kafka->is_undecided = false;
    }
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        kafka->ask_at = 0; /* it has waited long enough for a broker */
}

int64_t kafka_answering_at(struct kafka *kafka)
{
    char *cluster = kafka->answering_at == 0 ? rd_kafka_clusterid(kafka->rk, 0) : NULL;

    if (cluster != NULL) {
        rd_kafka_mem_free(kafka->rk, cluster);
        kafka->answering_at = fms_now(kafka->host);
    }
    return kafka->answering_at;
}

/* A cluster that answers, but not to this, has no controller for now, or is none of Kafka's: the topic may be there. */
static void kafka_stop_waiting(struct kafka *kafka)
{
    int64_t since = kafka_answering_at(kafka);

    if (kafka->is_asking && kafka->topics != NULL && since != 0 && fms_now(kafka->host) - since > ANSWER_PATIENCE) {
        fms_info(kafka->host, "the cluster does not create topics for now: going on as if %s were there",
                 kafka->topics[0]);
        kafka->is_undecided = false;
        kafka->is_mute = true;
    }
}

bool kafka_created(struct kafka *kafka, struct fms_wait *wait)
{
    rd_kafka_event_t *event;
    int64_t now;

    if (kafka->topics == NULL)
        return true;
    event = rd_kafka_queue_poll(kafka->admin, 0);
    if (event != NULL) {
        kafka_answered(kafka, event);
        rd_kafka_event_destroy(event);
    }
    now = fms_now(kafka->host);
    if (kafka->topics != NULL && !kafka->is_asking && now >= kafka->ask_at)
        kafka_ask(kafka);
    if (kafka->is_undecided)
        kafka_stop_waiting(kafka);
    if (kafka->topics != NULL && wait->deadline > now + ASK_TICK)
        wait->deadline = now + ASK_TICK;
    return !kafka->is_undecided;
}

/* ------------------------------------------------------------------------------------------------------------ probe */

static void kafka_report_missing(const struct kafka *kafka, const char *topic)
{
    fms_report(kafka->host, "topic %s is not there, or this user may not see it; %s", topic,
               kafka->create_topic ? "it is created at the start (create_topic = yes)"
                                   : "somebody has to create it (create_topic = no)");
}

static void kafka_report_topic(const struct kafka *kafka, const struct rd_kafka_metadata *metadata, const char *topic)
{
    const struct fms_host *host = kafka->host;

    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *is = &metadata->topics[i];

        if (strcmp(is->topic, topic) != 0)
            continue;
        if (is->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            kafka_report_missing(kafka, topic);
        else if (is->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            fms_report(host, "topic %s: %s", topic, rd_kafka_err2str(is->err));
        else
            fms_report(host, "topic %s is there, with %d partition%s", topic, is->partition_cnt,
                       is->partition_cnt == 1 ? "" : "s");
        return;
    }
    kafka_report_missing(kafka, topic);
}

static void kafka_report_broker(const struct fms_host *host, const struct rd_kafka_metadata *metadata,
                                int64_t round_trip)
{
    for (int i = 0; i < metadata->broker_cnt; i++) {
        if (metadata->brokers[i].id == metadata->orig_broker_id) {
            fms_report(host, "broker %d at %s:%d answers in %.1f ms; the cluster has %d", metadata->brokers[i].id,
                       metadata->brokers[i].host, metadata->brokers[i].port, (double)round_trip / (double)FMS_MS,
                       metadata->broker_cnt);
            return;
        }
    }
    fms_report(host, "broker %s answers in %.1f ms; the cluster has %d", metadata->orig_broker_name,
               (double)round_trip / (double)FMS_MS, metadata->broker_cnt);
}

/* Asks twice: the first answer may include making the connection, the second is the round trip. */
static rd_kafka_resp_err_t kafka_ask_metadata(struct kafka *kafka, const struct rd_kafka_metadata **metadata,
                                              int64_t deadline, int64_t *round_trip)
{
    rd_kafka_resp_err_t error;
    int64_t start;

    error = rd_kafka_metadata(kafka->rk, 1, NULL, metadata, kafka_ms_until(kafka->host, deadline));
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error;
    rd_kafka_metadata_destroy(*metadata);
    start = fms_now(kafka->host);
    error = rd_kafka_metadata(kafka->rk, 1, NULL, metadata, kafka_ms_until(kafka->host, deadline));
    *round_trip = fms_now(kafka->host) - start;
    return error;
}

int kafka_probe(struct kafka *kafka, rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *const *topics,
                size_t count, int64_t deadline)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error;
    int64_t round_trip = 0;
    int failed = kafka_start(kafka, type, conf);

    copies_close(kafka->copies); /* this client has read them, and is the only one */
    if (failed != 0)
        return failed;
    error = kafka_ask_metadata(kafka, &metadata, deadline, &round_trip);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_stop(kafka, 0);
        return fms_fail_option(kafka->host, "brokers", -EHOSTUNREACH, "%s: no broker answered: %s%s", kafka->brokers,
                               rd_kafka_err2str(error), kafka_hint(kafka));
    }
    kafka_report_broker(kafka->host, metadata, round_trip);
    for (size_t i = 0; i < count; i++) {
        if (topics[i][0] != '^')
            kafka_report_topic(kafka, metadata, topics[i]);
    }
    rd_kafka_metadata_destroy(metadata);
    return 0;
}
