/* kafka_cluster.h - a Kafka for the tests of the Kafka plugins: librdkafka's mock cluster in the test's own process,
 * or, where the environment's FMS_TEST_KAFKA names a real one, that; and a client to see and make what is in it.
 *
 * What needs the mock's faults is skipped with a real one. Topics and groups have names of their own in each run, so
 * that a real one need not be empty. */
#ifndef KAFKA_CLUSTER_H
#define KAFKA_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "fms_test.h"

#define THERE "create_topic = no\n" /* for topics that are there: the mock cluster creates none */

#define API_PRODUCE          0
#define API_FIND_COORDINATOR 10
#define API_OFFSET_COMMIT    8

struct cluster {
    rd_kafka_mock_cluster_t *mock; /* NULL: a real one */
    rd_kafka_t *keeper;            /* of the mock */
    rd_kafka_t *rk;                /* a client of the cluster */
    const char *brokers;
};

static void cluster_silence(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk, (void)level, (void)facility, (void)text;
}

static rd_kafka_t *cluster_client(const char *brokers, rd_kafka_type_t type, const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char error[256];
    rd_kafka_t *rk;

    rd_kafka_conf_set_log_cb(conf, cluster_silence);
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set(conf, "socket.nagle.disable", "true", NULL, 0);
    if (type == RD_KAFKA_CONSUMER) {
        rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
        rd_kafka_conf_set(conf, "enable.auto.commit", "false", NULL, 0);
        rd_kafka_conf_set(conf, "enable.partition.eof", "true", NULL, 0);
        rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", NULL, 0);
    } else {
        rd_kafka_conf_set(conf, "linger.ms", "0", NULL, 0);
    }
    rk = rd_kafka_new(type, conf, error, sizeof error);
    if (rk == NULL)
        fail_msg("rd_kafka_new: %s", error);
    return rk;
}

/* cmocka's setup and teardown of each test: *state is a struct cluster with two brokers. */
static int cluster_setup(void **state)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);

    cluster->brokers = getenv("FMS_TEST_KAFKA");
    if (cluster->brokers == NULL) {
        cluster->keeper = cluster_client("localhost:1", RD_KAFKA_PRODUCER, NULL);
        cluster->mock = rd_kafka_mock_cluster_new(cluster->keeper, 2);
        cluster->brokers = rd_kafka_mock_cluster_bootstraps(cluster->mock);
    }
    cluster->rk = cluster_client(cluster->brokers, RD_KAFKA_PRODUCER, NULL);
    *state = cluster;
    return 0;
}

static int cluster_teardown(void **state)
{
    struct cluster *cluster = *state;

    rd_kafka_destroy(cluster->rk);
    if (cluster->mock != NULL) {
        rd_kafka_mock_cluster_destroy(cluster->mock);
        rd_kafka_destroy(cluster->keeper);
    }
    free(cluster);
    return 0;
}

#define CLUSTER_NEEDS_MOCK(cluster)                                                                                    \
    do {                                                                                                               \
        if ((cluster)->mock == NULL)                                                                                   \
            skip();                                                                                                    \
    } while (0)

#define CLUSTER_NEEDS_REAL(cluster)                                                                                    \
    do {                                                                                                               \
        if ((cluster)->mock != NULL)                                                                                   \
            skip();                                                                                                    \
    } while (0)

/* Opens a stage of which somebody watches what it measures. */
static inline struct fake *cluster_open_watched(const char *plugin, enum fms_role role, const char *ini)
{
    struct fake *f = fake_check(plugin, role, ini);

    fake_host(f)->watched = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* A name that no other run has used; the eight last ones stay valid. */
static inline const char *cluster_name(const char *text)
{
    static char names[8][64];
    static unsigned n;
    char *name = names[n++ % 8];

    snprintf(name, sizeof names[0], "%s-%ld-%lld", text, (long)getpid(), (long long)(fake_realclock() / 1000));
    return name;
}

/* An authority's certificate, which nothing is signed by. */
#define CLUSTER_AUTHORITY                                                                                              \
    "-----BEGIN CERTIFICATE-----\n"                                                                                    \
    "MIIBdzCCAR2gAwIBAgIUJdfyI7UI3wZ1B8C6kGolt/ZHL3gwCgYIKoZIzj0EAwIw\n"                                               \
    "EDEOMAwGA1UEAwwFZmxlZXQwIBcNMjYxMTI4MTk0NTMyWhgPMjEyNjExMDQxOTQ1\n"                                               \
    "MzJaMBAxDjAMBgNVBAMMBWZsZWV0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n"                                               \
    "y/zu5RrET9IYHuME7i2949TMXZqNT/6vPzmg7vGsLemVMjzH6ERKff5HbzZ/EQ/C\n"                                               \
    "GGlQNyF4bZiRiZnMfuRDv6NTMFEwHQYDVR0OBBYEFGDW7xxGZ5SZTJTg7OpVIeEX\n"                                               \
    "ukR9MB8GA1UdIwQYMBaAFGDW7xxGZ5SZTJTg7OpVIeEXukR9MA8GA1UdEwEB/wQF\n"                                               \
    "MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgZrTgUXu4kem3sFRI3RGZsyRS2OA/u14j\n"                                               \
    "9yXpq0ZTHpgCIQCxJ1ZjCt5y8PgMJHm+WkAjQbsJqDTyTgmp7KL1Q/yRsg==\n"                                                   \
    "-----END CERTIFICATE-----\n"

/* A file of this process that holds the text, or, with NULL, is not there; valid until the next call. */
static inline const char *cluster_file(const char *text)
{
    static char path[64];
    char made[80];
    FILE *file;

    snprintf(path, sizeof path, "/tmp/fms-kafka-%ld.pem", (long)getpid());
    snprintf(made, sizeof made, "%s.new", path);
    if (text == NULL) {
        unlink(path);
        return path;
    }
    file = fopen(made, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(made, path), 0);
    return path;
}

/* The error in an administrator's answer, the first one's where it is about several topics. */
static inline rd_kafka_resp_err_t cluster_answer(rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 20000);
    const rd_kafka_topic_result_t **topics = NULL;
    const rd_kafka_topic_partition_list_t *list = NULL;
    rd_kafka_resp_err_t error;
    size_t count;

    assert_non_null(event);
    error = rd_kafka_event_error(event);
    if (rd_kafka_event_CreateTopics_result(event) != NULL)
        topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (rd_kafka_event_DeleteTopics_result(event) != NULL)
        topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    if (rd_kafka_event_CreatePartitions_result(event) != NULL)
        topics = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count);
    if (rd_kafka_event_DeleteRecords_result(event) != NULL)
        list = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR && topics != NULL)
        error = rd_kafka_topic_result_error(topics[0]);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR && list != NULL)
        error = list->elems[0].err;
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    return error;
}

/* Makes a topic. The first broker leads all its partitions in a mock cluster. */
static inline void cluster_topic(struct cluster *cluster, const char *topic, int partitions)
{
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;

    if (cluster->mock != NULL) {
        assert_int_equal(rd_kafka_mock_topic_create(cluster->mock, topic, partitions, 1), 0);
        for (int i = 0; i < partitions; i++)
            rd_kafka_mock_partition_set_leader(cluster->mock, topic, i, 1);
        return;
    }
    for (int64_t until = fake_realclock() + FAKE_PATIENCE;
         error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS && fake_realclock() < until;) { /* one of that name goes */
        rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);
        rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);

        rd_kafka_CreateTopics(cluster->rk, &new_topic, 1, NULL, queue);
        error = cluster_answer(queue);
        rd_kafka_NewTopic_destroy(new_topic);
    }
    assert_int_equal(error, 0);
}

/* What the mock cluster can't do: deletes a topic, gives it more partitions, deletes the records below an offset. */
static inline void cluster_delete(struct cluster *cluster, const char *topic)
{
    rd_kafka_DeleteTopic_t *deletion = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);

    rd_kafka_DeleteTopics(cluster->rk, &deletion, 1, NULL, queue);
    assert_int_equal(cluster_answer(queue), 0);
    rd_kafka_DeleteTopic_destroy(deletion);
}

static inline void cluster_grow(struct cluster *cluster, const char *topic, size_t partitions)
{
    char error[256];
    rd_kafka_NewPartitions_t *growth = rd_kafka_NewPartitions_new(topic, partitions, error, sizeof error);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);

    rd_kafka_CreatePartitions(cluster->rk, &growth, 1, NULL, queue);
    assert_int_equal(cluster_answer(queue), 0);
    rd_kafka_NewPartitions_destroy(growth);
    rd_kafka_destroy(cluster->rk); /* it would learn of them too late to produce to them */
    cluster->rk = cluster_client(cluster->brokers, RD_KAFKA_PRODUCER, NULL);
}

static inline void cluster_trim(struct cluster *cluster, const char *topic, int partition, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);
    rd_kafka_DeleteRecords_t *deletion;

    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
    deletion = rd_kafka_DeleteRecords_new(list);
    rd_kafka_DeleteRecords(cluster->rk, &deletion, 1, NULL, queue);
    assert_int_equal(cluster_answer(queue), 0);
    rd_kafka_DeleteRecords_destroy(deletion);
    rd_kafka_topic_partition_list_destroy(list);
}

/* Whether a broker has heard that a property of a topic has that value. */
static inline bool cluster_has_property(struct cluster *cluster, const char *topic, const char *name, const char *value)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);
    const rd_kafka_ConfigResource_t **results;
    const rd_kafka_ConfigEntry_t **entries;
    rd_kafka_event_t *event;
    size_t count;
    bool has;

    rd_kafka_ConfigResource_set_config(resource, name, "");
    rd_kafka_DescribeConfigs(cluster->rk, &resource, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 20000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), 0);
    results = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
    entries = rd_kafka_ConfigResource_configs(results[0], &count);
    has = count == 1 && strcmp(rd_kafka_ConfigEntry_value(entries[0]), value) == 0;
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
    return has;
}

/* Sets properties of a topic: name, value, ..., NULL. */
static inline void cluster_configure(struct cluster *cluster, const char *topic, ...)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    const char *name, *last = NULL, *value = NULL;
    rd_kafka_event_t *event;
    va_list properties;

    va_start(properties, topic);
    while ((name = va_arg(properties, const char *)) != NULL) {
        last = name;
        value = va_arg(properties, const char *);
        rd_kafka_ConfigResource_set_config(resource, name, value);
    }
    va_end(properties);
    rd_kafka_AlterConfigs(cluster->rk, &resource, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 20000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), 0);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
    while (!cluster_has_property(cluster, topic, last, value))
        assert_true(fake_realclock() < until);
}

/* A record at the end of a partition. NULL: absent. */
static inline void cluster_produce_record(struct cluster *cluster, const char *topic, int partition, const char *key,
                                          const char *payload, rd_kafka_headers_t *headers, int64_t milliseconds)
{
    rd_kafka_vu_t arguments[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)key, fms_text(key).size}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)payload, fms_text(payload).size}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = milliseconds},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(cluster->rk, arguments, sizeof arguments / sizeof arguments[0]);

    assert_null(error);
    assert_int_equal(rd_kafka_flush(cluster->rk, 20000), 0);
}

static inline void cluster_produce(struct cluster *cluster, const char *topic, int partition, const char *payload)
{
    cluster_produce_record(cluster, topic, partition, "key", payload, NULL, 0);
}

/* Reads one partition from its beginning, until `count` messages came or its end; how many came. They are to be
 * destroyed with cluster_forget. */
struct messages {
    rd_kafka_t *rk;
    rd_kafka_message_t *items[1000];
    size_t count;
};

static inline void cluster_read(struct cluster *cluster, const char *topic, int partition, struct messages *messages)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    bool is_at_end = false;

    messages->rk = cluster_client(cluster->brokers, RD_KAFKA_CONSUMER, "reader");
    messages->count = 0;
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(messages->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    while (!is_at_end && fake_realclock() < until && messages->count < 1000) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(messages->rk, 100);

        if (message != NULL && message->err == 0) {
            messages->items[messages->count++] = message;
        } else if (message != NULL) {
            is_at_end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
            rd_kafka_message_destroy(message);
        }
    }
    assert_true(is_at_end);
}

static inline void cluster_forget(struct messages *messages)
{
    for (size_t i = 0; i < messages->count; i++)
        rd_kafka_message_destroy(messages->items[i]);
    rd_kafka_consumer_close(messages->rk);
    rd_kafka_destroy(messages->rk);
}

/* How many messages a partition holds. */
static inline int64_t cluster_count(struct cluster *cluster, const char *topic, int partition)
{
    int64_t low, high;

    assert_int_equal(rd_kafka_query_watermark_offsets(cluster->rk, topic, partition, &low, &high, 20000), 0);
    return high - low;
}

/* The offset that a group has committed, or RD_KAFKA_OFFSET_INVALID. */
static inline int64_t cluster_committed(struct cluster *cluster, const char *group, const char *topic, int partition)
{
    rd_kafka_t *rk = cluster_client(cluster->brokers, RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    int64_t offset;

    rd_kafka_topic_partition_list_add(list, topic, partition);
    assert_int_equal(rd_kafka_committed(rk, list, 20000), 0);
    offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return offset;
}

/* Commits an offset for a group that has no members now. Metadata NULL: none. */
static inline void cluster_commit(struct cluster *cluster, const char *group, const char *topic, int partition,
                                  int64_t offset, const char *metadata)
{
    rd_kafka_t *rk = cluster_client(cluster->brokers, RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *element = rd_kafka_topic_partition_list_add(list, topic, partition);

    element->offset = offset;
    if (metadata != NULL) {
        element->metadata = strdup(metadata);
        element->metadata_size = strlen(metadata);
    }
    assert_int_equal(rd_kafka_commit(rk, list, 0), 0);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

/* INI text of a stage at this cluster: brokers, then printf's. Valid until the fourth next call. */
FMS_PRINTF(2, 3) static inline const char *cluster_ini(struct cluster *cluster, const char *format, ...)
{
    static char texts[4][2048];
    static unsigned n;
    char *text = texts[n++ % 4];
    int size = snprintf(text, sizeof texts[0], "brokers = %s\n", cluster->brokers);
    va_list args;

    va_start(args, format);
    vsnprintf(text + size, sizeof texts[0] - (size_t)size, format, args);
    va_end(args);
    return text;
}

#define CLUSTER_LANES 4

/* Runs those tests whose turn it is. */
static inline int cluster_run_lane(const struct CMUnitTest *tests, size_t count, size_t lane, size_t lanes)
{
    struct CMUnitTest *mine = calloc(count, sizeof *mine);
    size_t n = 0;
    int failed;

    for (size_t i = lane; i < count; i += lanes)
        mine[n++] = tests[i];
    failed = _cmocka_run_group_tests("tests", mine, n, NULL, NULL);
    free(mine);
    return failed;
}

/* Runs all tests, or those that the first argument names. With the mock, whose groups take 3 s to be joined, and of which each
 * test has its own, several processes share them; a real cluster is the same for all. */
static inline int cluster_run(const struct CMUnitTest *tests, size_t count, int argc, char **argv)
{
    int status, failed = 0;

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (argc > 1 || getenv("FMS_TEST_KAFKA") != NULL)
        return cluster_run_lane(tests, count, 0, 1);
    for (size_t lane = 0; lane < CLUSTER_LANES; lane++) {
        pid_t child = fork();

        if (child == 0)
            exit(cluster_run_lane(tests, count, lane, CLUSTER_LANES));
        failed += child < 0;
    }
    while (wait(&status) > 0)
        failed += status != 0;
    return failed;
}

#endif
