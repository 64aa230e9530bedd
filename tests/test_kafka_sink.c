/* test_kafka_sink.c - kafka_sink through its table, against a mock cluster with faults, or a real Kafka: see
 * kafka_cluster.h. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "../plugins/kafka_common/kafka_common.h"
#include "kafka_cluster.h"

/* librdkafka's handle within the plugin; its instance begins with what both plugins have in common. */
static rd_kafka_t *client_of(struct fake *f)
{
    return ((struct kafka *)fake_instance(f))->rk;
}

/* Until a report is there, which nobody has fetched. */
static void await_report(struct fake *f)
{
    struct pollfd fd = {.fd = ((struct kafka *)fake_instance(f))->event_fd, .events = POLLIN};

    assert_int_equal(poll(&fd, 1, (int)(FAKE_PATIENCE / FMS_MS)), 1);
}

/* At a topic that is there. */
static struct fake *open_sink(struct cluster *cluster, const char *topic, const char *more)
{
    return fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE "%s", topic, more));
}

/* Adds records with the payloads from, from + 1, ... */
static void add_numbered(struct fake *f, size_t from, size_t count)
{
    char text[32];

    for (size_t i = from; i < from + count; i++) {
        snprintf(text, sizeof text, "%zu", i);
        fake_add(f, "fms/data", "raspi-001", text);
    }
}

/* Offers again what is to be offered again; whether so many are delivered by now. */
static bool delivers(struct fake *f, size_t count)
{
    if (fake_count_fate(f, FMS_RETRY) > 0 && fake_unsettled(f) == 0)
        fake_write(f);
    return fake_count_fate(f, FMS_DELIVERED) == count;
}

/* Offers what was added until so many are taken: none is before brokers have told what the topic takes, or that they do not. */
static void write_until_taken(struct fake *f, size_t count)
{
    fake_until(f, (fake_write(f), fake_unsettled(f) == count));
}

/* A record of so many bytes of payload; such that compress to nothing, or not at all. */
static void add_large(struct fake *f, size_t size, bool is_random)
{
    static unsigned seed = 1;
    char *payload = malloc(size);
    struct fms_record record = {.topic = fms_text("t"), .key = fms_text("k"), .payload = {payload, size}};

    memset(payload, 'x', size);
    for (size_t i = 0; i < size && is_random; i++) {
        seed = seed * 1103515245 + 12345;
        payload[i] = (char)(seed >> 16);
    }
    fake_add_record(f, &record);
    free(payload);
}

/* Offers what was added, until so many records are delivered. */
static void write_until_delivered(struct fake *f, size_t count)
{
    fake_write(f);
    fake_until(f, delivers(f, count));
}

/* The order in which the payloads 0, 1, 2... arrived first. */
static void check_order(struct cluster *cluster, const char *topic, size_t count)
{
    struct messages messages;
    long next = 0;

    cluster_read(cluster, topic, 0, &messages);
    for (size_t i = 0; i < messages.count; i++) {
        char text[32];
        long number;

        snprintf(text, sizeof text, "%.*s", (int)messages.items[i]->len, (const char *)messages.items[i]->payload);
        number = strtol(text, NULL, 10);
        if (number > next)
            fail_msg("%ld arrived before %ld", number, next);
        next += number == next;
    }
    assert_int_equal(next, count);
    cluster_forget(&messages);
}

/* ------------------------------------------------------------------------------------------------------------ check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct {
        const char *ini, *said;
    } cases[] = {
        {"brokers = a:1\ntopic = fms data\n", "error: topic: \"fms data\" has other characters"},
        {"brokers = a:1\ntopic = .\n", "error: topic: \".\" can't be"},
        {"brokers = ,\ntopic = t\n", "error: brokers: is empty"},
        {"brokers = b:1, user:word@a:1\ntopic = t\n", "error: brokers: must be host:port alone"},
        {"brokers = sasl_ssl://a:1\ntopic = t\n", "a scheme into kafka.security.protocol"},
        {"brokers = a:1\ntopic = __consumer_offsets\n",
         "error: topic: \"__consumer_offsets\" is a topic of Kafka's own"},
        {"brokers = a:1\ntopic = t\nkafka.linger.mss = 5\n", "error: kafka.linger.mss: librdkafka"},
        {"brokers = a:1\ntopic = t\nkafka.linger.ms = soon\n", "error: kafka.linger.ms: "},
        {"brokers = a:1\ntopic = t\nkafka.acks = 0\n", "error: kafka.acks: can't be set: no broker would confirm"},
        {"brokers = a:1\ntopic = t\nkafka.acks = 1\n", "kafka.enable.idempotence = false gives it up"},
        {"brokers = a:1\ntopic = t\nkafka.bootstrap.servers = b:1\n", "use the option brokers"},
        {"brokers = a:1\ntopic = t\nkafka.transactional.id = x\n", "use the option transactional_id"},
        {"brokers = a:1\ntopic = t\nkafka.delivery.report.only.error = true\n", "settled by their delivery reports"},
        {"brokers = a:1\ntopic = t\nkafka.dr_cb = x\n", "error: kafka.dr_cb: "},
        {"brokers = a:1\ntopic = t\ntimestamp = recrod\n", "error: timestamp: is the same for all records"},
        {"brokers = a:1\ntopic = t\ntopics_max = 0\n", "topics_max"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake *f = fake_check("kafka_sink", FMS_SINK, cases[i].ini);

        assert_int_equal(fake_error(f), -EINVAL);
        if (fake_said(f, cases[i].said) == NULL)
            fail_msg("case %zu: not said: %s", i, cases[i].said);
        fake_close(f);
    }
}

static void test_check_warns_of_traps(void **state)
{
    struct fake *f = fake_check("kafka_sink", FMS_SINK,
                                "brokers = a:1\ntopic = ${topic[1]}\nkafka.acks = 1\n"
                                "kafka.enable.idempotence = no\n");

    (void)state;
    assert_int_equal(fake_error(f), -EINVAL); /* librdkafka says true and false */
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK,
                   "brokers = a:1\ntopic = ${topic[1]}\nkafka.acks = 1\n"
                   "kafka.enable.idempotence = false\n");
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: no key: "));
    assert_non_null(fake_said(f, "records can change places"));
    assert_non_null(fake_said(f, "is lost with the broker that confirmed it"));
    fake_close(f);
    f = fake_check("kafka_sink", FMS_DEAD_LETTER, "brokers = a:1\ntopic = t\n");
    assert_null(fake_said(f, "advice"));
    fake_close(f);
}

static void test_secrets_stay_secret(void **state)
{
    struct cluster *cluster = *state;
    const char *ini = cluster_ini(cluster, "topic = t\nkafka.debug = all\nkafka.sasl.password = s3cr3t\n"
                                           "kafka.ssl.key.password = s3cr3t\n");
    struct fake *f = fake_open("kafka_sink", FMS_SINK, ini);

    fake_until(f, fake_said(f, "debug: librdkafka: ") != NULL);
    assert_null(fake_said(f, "s3cr3t"));
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK,
                   "brokers = a:1\ntopic = t\nkafka.ssl.key.pem = s3cr3t\n"
                   "kafka.sasl.password = \n");
    assert_null(fake_said(f, "s3cr3t"));
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK, "brokers = fleet:s3cr3t@a:1\ntopic = t\n");
    assert_int_equal(fake_error(f), -EINVAL);
    assert_null(fake_said(f, "s3cr3t"));
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------- certificates, keys */

#define TLS "brokers = localhost:1\ntopic = t\nkafka.security.protocol = ssl\nkafka.ssl.ca.location = "

static void test_open_needs_good_files(void **state)
{
    static const struct {
        const char *text, *said;
    } cases[] = {{NULL, "No such file"}, {"no certificate", "ssl.ca.location failed"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = cluster_file(cases[i].text);
        char ini[256], said[256];
        struct fake *f;

        snprintf(ini, sizeof ini, TLS "%s\n", path);
        snprintf(said, sizeof said, "error: kafka.ssl.ca.location: %s: %s", path, cases[i].said);
        f = fake_check("kafka_sink", FMS_SINK, ini);
        assert_int_equal(fake_error(f), 0);
        assert_int_equal(fake_start(f), -EINVAL);
        assert_non_null(fake_said(f, said));
        fake_close(f);
        f = fake_check("kafka_sink", FMS_SINK, ini);
        assert_int_equal(fake_probe(f, FMS_SECOND), -EINVAL);
        assert_non_null(fake_said(f, said));
        fake_close(f);
        snprintf(ini, sizeof ini, "brokers = localhost:1\ntopic = t\nkafka.ssl.ca.location = %s\n", path);
        fake_close(fake_open("kafka_sink", FMS_SINK, ini)); /* without TLS, nobody needs it */
    }
    cluster_file(NULL);
}

/* Whatever has become of the files, a producer that is replaced for another reason has a successor. */
static void test_old_files_stay_while_new_ones_are_no_good(void **state)
{
    static const char *const broken[] = {NULL, "no certificate"};
    const char *path = cluster_file(CLUSTER_AUTHORITY);
    char ini[256];
    struct fake *f;

    (void)state;
    snprintf(ini, sizeof ini, TLS "%s\n" THERE, path);
    f = fake_open("kafka_sink", FMS_SINK, ini);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        uint64_t restarts = fake_counter(f, "producer_restarts");

        cluster_file(broken[i]);
        rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
        fake_until(f, fake_counter(f, "producer_restarts") > restarts);
        assert_int_equal(fake_error(f), 0);
        fake_until(f, fake_count_said(f, "so those that were read before stay: kafka.ssl.ca.location: ") == i + 1);
        fake_until(f, fake_unsettled(f) == 0);
    }
    assert_non_null(fake_said(f, "before stay: kafka.ssl.ca.location: /tmp/"));
    assert_null(fake_said(f, "a new client takes over"));
    cluster_file(CLUSTER_AUTHORITY);
    fake_until(f, fake_said(f, "a new client takes over") != NULL);
    assert_int_equal(fake_error(f), 0);
    fake_close(f);
    cluster_file(NULL);
}

/* What librdkafka takes once a client is looked at while it runs; a value that it does not accept harms no producer to come. */
static void test_secrets_are_read_again(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("secrets");
    struct fake *f = fake_check("kafka_sink", FMS_SINK,
                                cluster_ini(cluster, "topic = %s\n" THERE "kafka.linger.ms = 5\n", topic));

    cluster_topic(cluster, topic, 1);
    fake_secret(f, "kafka.linger.ms", "5");
    assert_int_equal(fake_start(f), 0);
    add_numbered(f, 0, 10);
    write_until_delivered(f, 10);
    fake_secret(f, "kafka.linger.ms", "hush");
    fake_until(f,
               fake_said(f, "so those that were read before stay: kafka.linger.ms: librdkafka does not accept this") !=
                   NULL);
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    fake_until(f, fake_counter(f, "producer_restarts") == 1);
    add_numbered(f, 10, 10);
    write_until_delivered(f, 20);
    fake_secret(f, "kafka.linger.ms", "7");
    fake_until(f, fake_said(f, "a new client takes over") != NULL);
    add_numbered(f, 20, 10);
    write_until_delivered(f, 30);
    assert_null(fake_said(f, "hush"));
    assert_int_equal(fake_error(f), 0);
    fake_close(f);
    check_order(cluster, topic, 30);
}

/* --------------------------------------------------------------------------------------------------------- delivery */

static void check_header(const rd_kafka_message_t *message, const char *name, const char *value)
{
    rd_kafka_headers_t *headers;
    const void *data;
    size_t size;

    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    assert_int_equal(rd_kafka_header_get_last(headers, name, &data, &size), 0);
    if (value == NULL) {
        assert_null(data);
        return;
    }
    assert_int_equal(size, strlen(value));
    assert_memory_equal(data, value, size);
}

static void test_message_is_complete(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("complete");
    static const struct fms_header headers[] = {
        {"trace", {"abc", 3}}, {"absent", {NULL, 0}}, {"empty", {"", 0}}, {"source", {"theirs", 6}}};
    struct fms_record record = {
        .topic = fms_text("fms/data"),
        .payload = fms_text("{\"vehicle_id\":\"raspi-007\"}"),
        .headers = headers,
        .header_count = 4,
        .timestamp = INT64_C(1700000000123) * FMS_MS,
    };
    struct messages messages;
    rd_kafka_headers_t *found;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "key = ${json:vehicle_id}\nheader.source = ${topic}\ntimestamp = record\n");
    fake_add_record(f, &record);
    write_until_delivered(f, 1);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 1);
    assert_int_equal(messages.items[0]->len, record.payload.size);
    assert_memory_equal(messages.items[0]->payload, record.payload.data, record.payload.size);
    assert_int_equal(messages.items[0]->key_len, 9);
    assert_memory_equal(messages.items[0]->key, "raspi-007", 9);
    assert_int_equal(rd_kafka_message_timestamp(messages.items[0], NULL), INT64_C(1700000000123));
    check_header(messages.items[0], "trace", "abc");
    check_header(messages.items[0], "absent", NULL);
    check_header(messages.items[0], "empty", "");
    check_header(messages.items[0], "source", "fms/data");
    rd_kafka_message_headers(messages.items[0], &found);
    assert_int_equal(rd_kafka_header_cnt(found), 4);
    cluster_forget(&messages);
}

static void test_absent_is_not_empty(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("absent");
    struct messages messages;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "");
    fake_add(f, "t", NULL, NULL);
    fake_add(f, "t", "", "");
    write_until_delivered(f, 2);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 2);
    assert_null(messages.items[0]->key);
    assert_null(messages.items[0]->payload);
    assert_non_null(messages.items[1]->key);
    assert_non_null(messages.items[1]->payload);
    assert_int_equal(messages.items[1]->key_len + messages.items[1]->len, 0);
    cluster_forget(&messages);
}

static void test_confirmed_late(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("late");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "");
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_broker_set_rtt(cluster->mock, 1, 500);
    add_numbered(f, 1, 1);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(rd_kafka_flush(client_of(f), 0), RD_KAFKA_RESP_ERR__TIMED_OUT);
    assert_int_equal(fake_fate(f, 1), 0);
    fake_until(f, fake_fate(f, 1) == FMS_DELIVERED);
    fake_close(f);
}

static void test_confirmed_out_of_order(void **state)
{
    struct cluster *cluster = *state;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, "slow", 1);
    cluster_topic(cluster, "fast", 1);
    rd_kafka_mock_partition_set_leader(cluster->mock, "fast", 0, 2);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\n"));
    fake_add(f, "slow", "k", "0");
    fake_add(f, "fast", "k", "1");
    write_until_delivered(f, 2); /* both are connected */
    rd_kafka_mock_broker_set_rtt(cluster->mock, 1, 1000);
    fake_add(f, "slow", "k", "2");
    fake_add(f, "fast", "k", "3");
    fake_write(f);
    fake_until(f, fake_fate(f, 3) == FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 2), 0);
    fake_until(f, fake_fate(f, 2) == FMS_DELIVERED);
    fake_close(f);
}

/* With profile = throughput the descriptor rests after a report, and comes back. */
static void test_reports_are_gathered(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("gathered");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "profile = throughput\n");
    for (size_t i = 0; i < 3; i++) {
        add_numbered(f, i, 1);
        write_until_delivered(f, i + 1);
        assert_int_equal(fake_waits_for(f)->fd, -1);
        assert_int_not_equal(fake_waits_for(f)->deadline, FMS_NEVER);
        fake_until(f, fake_waits_for(f)->fd >= 0);
    }
    fake_close(f);
    f = open_sink(cluster, topic, "");
    add_numbered(f, 3, 1);
    write_until_delivered(f, 1);
    assert_true(fake_waits_for(f)->fd >= 0);
    fake_close(f);
}

/* Fetches reports as they come, on a clock that stands still, until so many records are delivered. */
static void fetch_reports(struct fake *f, size_t count)
{
    while (fake_count_fate(f, FMS_DELIVERED) < count) {
        await_report(f);
        fake_poll(f, 0);
    }
}

/* With profile = realtime the report of one of few waits for the next record, 2 ms at most; not where none comes in that time. */
static void test_a_report_waits_for_the_next_record(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("held");
    struct fake *f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
    size_t i = 1;

    cluster_topic(cluster, topic, 1);
    fake_clock_set(f, FMS_SECOND, 1800000000 * FMS_SECOND);
    assert_int_equal(fake_start(f), 0);
    add_numbered(f, 0, 1);
    fake_write(f);
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_count_fate(f, FMS_DELIVERED) == 1));
    fake_clock_step(f, FMS_SECOND);
    for (; i < 3; i++) { /* the first are told of at once: more may come */
        fake_clock_step(f, FMS_MS / 2);
        add_numbered(f, i, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        assert_true(fake_waits_for(f)->fd >= 0);
        fetch_reports(f, i + 1);
    }
    for (; i <= 20; i++) { /* one after the other, and each tells of the one before, and of itself if Kafka was quick */
        fake_clock_step(f, FMS_MS / 2);
        add_numbered(f, i, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        assert_in_range(fake_count_fate(f, FMS_DELIVERED), i, i + 1);
        if (fake_unsettled(f) == 0)
            continue;
        assert_int_equal(fake_waits_for(f)->fd, -1);
        await_report(f);
        fake_poll(f, 0);
        assert_int_equal(fake_count_fate(f, FMS_DELIVERED), i);
    }
    for (size_t vain = 0; vain < 3;) {
        bool is_held = fake_unsettled(f) == 1;

        fake_clock_step(f, 2 * FMS_MS);
        fake_poll(f, 0);
        assert_int_equal(fake_count_fate(f, FMS_DELIVERED), i);
        assert_true(fake_waits_for(f)->fd >= 0);
        vain += is_held;
        fake_clock_step(f, 10 * FMS_MS);
        add_numbered(f, i++, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        if (fake_unsettled(f) == 0)
            continue;
        assert_int_equal(fake_waits_for(f)->fd >= 0, vain == 3);
        await_report(f);
    }
    fake_until(f, fake_unsettled(f) == 0);
    fake_close(f);
    check_order(cluster, topic, i);
}

/* Where many are under way, or one follows the other at once, reports are told when they come. */
static void test_many_reports_do_not_wait(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("many");
    struct fake *f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));

    cluster_topic(cluster, topic, 1);
    fake_clock_set(f, FMS_SECOND, 1800000000 * FMS_SECOND);
    assert_int_equal(fake_start(f), 0);
    add_numbered(f, 0, 1);
    fake_write(f);
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_count_fate(f, FMS_DELIVERED) == 1));
    for (size_t i = 1; i <= 20; i++) { /* many at a time */
        fake_clock_step(f, FMS_MS);
        add_numbered(f, 1 + 5 * (i - 1), 5);
        assert_int_equal(fake_write(f), 5);
        fake_poll(f, 0);
        assert_true(fake_waits_for(f)->fd >= 0);
        fetch_reports(f, 1 + 5 * i);
    }
    for (size_t i = 0; i < 20; i++) { /* fast */
        fake_clock_step(f, 100 * FMS_US);
        add_numbered(f, 101 + i, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        assert_true(fake_waits_for(f)->fd >= 0);
        fetch_reports(f, 102 + i);
    }
    fake_close(f);
}

/* While each poll follows a write, the lane never looks. */
static void test_reports_are_fetched_by_who_writes(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("writes");
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "profile = throughput\n");
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    for (size_t i = 1; fake_count_fate(f, FMS_DELIVERED) == 1 && fake_realclock() < until; i++) {
        add_numbered(f, i, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        usleep(1000);
    }
    assert_true(fake_count_fate(f, FMS_DELIVERED) > 1);
    fake_until(f, fake_unsettled(f) == 0);
    fake_close(f);
}

/* Opens one with profile = throughput on a clock that stands still, which has delivered the first record. */
static struct fake *open_gathering(struct cluster *cluster, const char *topic)
{
    struct fake *f = fake_check("kafka_sink", FMS_SINK,
                                cluster_ini(cluster, "topic = %s\n" THERE "profile = throughput\n", topic));

    cluster_topic(cluster, topic, 1);
    fake_clock_set(f, FMS_SECOND, 1800000000 * FMS_SECOND);
    assert_int_equal(fake_start(f), 0);
    add_numbered(f, 0, 1);
    fake_write(f);
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_count_fate(f, FMS_DELIVERED) == 1));
    return f;
}

/* Nothing goes to Kafka before its time, and then all in one request. */
static void test_records_are_gathered(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("together");
    struct fake *f = open_gathering(cluster, topic);

    for (size_t i = 0; i < 4; i++) {
        fake_clock_step(f, FMS_MS);
        add_numbered(f, 1 + 10 * i, 10);
        assert_int_equal(fake_write(f), 10);
        fake_poll(f, 0);
        assert_int_equal(rd_kafka_outq_len(client_of(f)), 0);
    }
    fake_clock_step(f, FMS_MS);
    fake_poll(f, 0);
    assert_int_equal(rd_kafka_outq_len(client_of(f)), 0);
    fake_clock_step(f, FMS_MS); /* 5 ms after the first */
    fake_poll(f, 0);
    assert_int_not_equal(rd_kafka_outq_len(client_of(f)), 0);
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_count_fate(f, FMS_DELIVERED) == 41));
    fake_close(f);
    check_order(cluster, topic, 41);
}

/* A new producer gets it, unless something before it comes back. */
static void test_what_was_gathered_stays(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stays");
    struct fake *f = open_gathering(cluster, topic);

    add_numbered(f, 1, 20);
    assert_int_equal(fake_write(f), 20);
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_counter(f, "producer_restarts") == 1));
    fake_until(f, (fake_clock_step(f, FMS_MS), delivers(f, 21)));
    for (size_t i = 1; i < 21; i++)
        assert_int_equal(fake_settles(f, i), 1);
    fake_close(f);
    check_order(cluster, topic, 21);
}

/* Behind what the producer could not deliver it comes back, too, in its order, and nothing overtakes it. */
static void test_what_was_gathered_is_offered_again(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("back");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    f = open_gathering(cluster, topic);
    rd_kafka_mock_broker_set_rtt(cluster->mock, 1, 300);
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    add_numbered(f, 1, 1); /* one request, for the mock takes a second one behind it, as Kafka does not */
    assert_int_equal(fake_write(f), 1);
    fake_clock_step(f, 6 * FMS_MS);
    fake_poll(f, 0);
    add_numbered(f, 2, 29);
    assert_int_equal(fake_write(f), 29);
    while (fake_count_fate(f, FMS_RETRY) < 30) { /* on a clock that stands still, so that they stay gathered */
        await_report(f);
        fake_poll(f, 0);
        usleep(1000);
    }
    rd_kafka_mock_broker_set_rtt(cluster->mock, 1, 0);
    fake_until(f, (fake_clock_step(f, FMS_MS), delivers(f, 31)));
    for (size_t i = 1; i < 31; i++)
        assert_int_equal(fake_settles(f, i), 2);
    fake_close(f);
    check_order(cluster, topic, 31);
}

static void test_never_confirmed(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("never");
    int64_t start;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "");
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    add_numbered(f, 1, 100);
    assert_int_equal(fake_write(f), 100);
    fake_until(f, fake_said(f, "warning: no broker of ") != NULL);
    assert_int_equal(fake_unsettled(f), 100);
    fake_expect_left(f, 100);
    start = fake_realclock();
    fake_close(f);
    assert_in_range(fake_realclock() - start, 0, FAKE_PATIENCE);
}

static void test_outage_loses_nothing(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("outage");
    struct fake *f;
    char why[200];

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n", topic));
    add_numbered(f, 0, 50);
    assert_int_equal(fake_write(f), 0);
    fake_until(f, fake_said(f, "warning: no broker of ") != NULL);
    assert_int_equal(fake_unsettled(f), 0);
    fake_measure(f);
    assert_false(fake_link_is_up(f));
    assert_non_null(strstr(fake_link_why(f, why, sizeof why), "no broker of "));
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    fake_until(f, delivers(f, 50));
    assert_non_null(fake_said(f, "info: brokers are reachable again"));
    assert_true(fake_link_is_up(f));
    check_order(cluster, topic, 50);
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------ what it measures */

#define BRISK "kafka.statistics.interval.ms = 100\n"

static bool property_is(struct fake *f, const char *name, const char *value)
{
    char is[32];
    size_t size = sizeof is;

    assert_int_equal(rd_kafka_conf_get(rd_kafka_conf(client_of(f)), name, is, &size), 0);
    return strcmp(is, value) == 0;
}

/* Whether the sink's client has that interval. */
static bool has_interval(struct fake *f, const char *ms)
{
    return property_is(f, "statistics.interval.ms", ms);
}

static void test_statistics_are_for_who_watches(void **state)
{
    struct cluster *cluster = *state;
    struct fake *f = open_sink(cluster, "t", "");

    assert_true(has_interval(f, "0"));
    fake_close(f);
    f = cluster_open_watched("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = t\n"));
    assert_true(has_interval(f, "1000"));
    assert_true(property_is(f, "topic.metadata.refresh.interval.ms", "5000"));
    fake_close(f);
    f = cluster_open_watched("kafka_sink", FMS_SINK,
                             cluster_ini(cluster, "topic = t\nkafka.statistics.interval.ms = 0\n"));
    assert_true(has_interval(f, "0"));
    fake_close(f);
}

static void test_statistics_are_told(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("statistics");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, BRISK "kafka.queue.buffering.max.kbytes = 2048\n");
    add_numbered(f, 0, 3);
    write_until_delivered(f, 3);
    fake_until(f, fake_gauge(f, "rtt_p99_seconds") > 0 && fake_counter(f, "sent_bytes") > 0);
    assert_true(fake_gauge(f, "rtt_p99_seconds") >= fake_gauge(f, "rtt_p50_seconds"));
    assert_true(fake_gauge(f, "rtt_p99_seconds") < 10);
    assert_true(fake_gauge(f, "brokers") == 2 && fake_gauge(f, "brokers_up") >= 1);
    fake_until(f, fake_gauge(f, "queue_messages") == 0);
    assert_true(fake_gauge(f, "queue_limit_messages") == 20000);
    assert_true(fake_gauge(f, "queue_limit_bytes") == 2048 * 1024);
    assert_true(fake_counter(f, "received_bytes") > 0 && fake_counter(f, "connects") > 0);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    add_numbered(f, 3, 5);
    assert_int_equal(fake_write(f), 5);
    fake_until(f, fake_gauge(f, "queue_messages") == 5 && fake_gauge(f, "brokers_up") == 0);
    assert_true(fake_gauge(f, "queue_bytes") >= 5);
    assert_true(fake_counter(f, "disconnects") > 0);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    fake_until(f, delivers(f, 8));
    fake_until(f, fake_gauge(f, "queue_messages") == 0 && fake_gauge(f, "brokers_up") >= 1);
    assert_true(fake_gauge(f, "queue_bytes") == 0);
    fake_close(f);
}

/* The totals of the next producer begin at 0, and what is told goes on. */
static void test_counters_outlive_a_producer(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("outlive");
    uint64_t connects, sent;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, BRISK);
    add_large(f, 100000, false);
    write_until_delivered(f, 1);
    fake_until(f, fake_counter(f, "sent_bytes") > 100000);
    connects = fake_counter(f, "connects");
    sent = fake_counter(f, "sent_bytes");
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    add_large(f, 50000, false);
    write_until_delivered(f, 2);
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    fake_until(f, fake_counter(f, "sent_bytes") >= sent + 50000);
    assert_true(fake_counter(f, "sent_bytes") < sent + 100000);
    assert_true(fake_counter(f, "connects") > connects);
    fake_close(f);
}

/* Its broker goes, and comes back, while nothing is to be sent. */
static void test_link_of_an_idle_sink(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("idle");
    struct fake *f;
    char why[200];

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, BRISK);
    fake_until(f, fake_link_is_up(f));
    rd_kafka_mock_broker_set_down(cluster->mock, 1);
    rd_kafka_mock_broker_set_down(cluster->mock, 2);
    fake_until(f, !fake_link_is_up(f));
    assert_non_null(strstr(fake_link_why(f, why, sizeof why), "no broker of 127.0.0.1:"));
    fake_until(f, strstr(fake_link_why(f, why, sizeof why), "Connection refused") != NULL);
    rd_kafka_mock_broker_set_up(cluster->mock, 2);
    fake_until(f, fake_link_is_up(f));
    assert_int_equal(fake_link_ups(f), 2);
    assert_string_equal(fake_link_why(f, why, sizeof why), "");
    fake_close(f);
}

/* --------------------------------------------------------------------------------------------------------- refusals */

/* One record a batch and one batch at a time: the mock cluster, unlike Kafka, would take what follows a failed batch.
 */
#define ONE_BY_ONE "kafka.batch.num.messages = 1\nkafka.max.in.flight = 1\n"

static void test_retry_keeps_order(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("order");
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    char reason[256];
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, ONE_BY_ONE);
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_broker_set_down(cluster->mock, -1); /* or librdkafka would see the refusal before all are written */
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_NO_ERROR,
                                      RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    add_numbered(f, 1, 199);
    assert_int_equal(fake_write(f), 199);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    /* However late the lane comes to see the refusal, nothing gets past it. */
    while (!rd_kafka_fatal_error(client_of(f), reason, sizeof reason) && cluster_count(cluster, topic, 0) < 199)
        assert_true(fake_realclock() < until);
    fake_until(f, delivers(f, 200));
    assert_non_null(fake_said(f, "starting a new producer: "));
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    assert_int_equal(fake_count_fate(f, FMS_REJECTED), 0);
    check_order(cluster, topic, 200);
    fake_close(f);
}

/* A broker that does not lead a new partition yet, and does before the next batch comes. */
static void push_late_leader(struct cluster *cluster)
{
    rd_kafka_mock_broker_set_down(cluster->mock, -1); /* or librdkafka would see the refusal before both are written */
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
}

static void test_first_record_is_not_overtaken(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("first");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\nkafka.batch.num.messages = 1\n", topic));
    push_late_leader(cluster);
    add_numbered(f, 0, 20);
    fake_write(f);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    write_until_delivered(f, 20);
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    check_order(cluster, topic, 20);
    fake_close(f);
}

/* Where topics are many no producer begins with one record alone; but what is not confirmed is offered again. */
static void test_first_record_is_not_lost(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("lost");
    struct messages messages;
    bool is_there[20] = {false};
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster, "topic = ${topic}\n" THERE "kafka.batch.num.messages = 1\n"));
    push_late_leader(cluster);
    for (size_t i = 0; i < 20; i++) {
        char number[32];

        snprintf(number, sizeof number, "%zu", i);
        fake_add(f, topic, "k", number);
    }
    fake_write(f);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    write_until_delivered(f, 20);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    for (size_t i = 0; i < messages.count; i++) {
        char text[32];

        snprintf(text, sizeof text, "%.*s", (int)messages.items[i]->len, (const char *)messages.items[i]->payload);
        is_there[strtoul(text, NULL, 10) % 20] = true;
    }
    for (size_t i = 0; i < 20; i++)
        assert_true(is_there[i]);
    cluster_forget(&messages);
}

static void test_too_large_is_rejected(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("large");
    static char large[3000];
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.message.max.bytes = 2000\n");
    memset(large, 'x', sizeof large - 1);
    fake_add(f, "t", "k", "0");
    fake_add(f, "t", "k", large);
    fake_add(f, "t", "k", "1");
    write_until_delivered(f, 2);
    assert_int_equal(fake_fate(f, 1), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 1), "topic large-"));
    assert_non_null(strstr(fake_reason(f, 1), ": too large: it is larger than kafka.message.max.bytes"));
    assert_null(strstr(fake_reason(f, 1), "Broker"));
    check_order(cluster, topic, 2);
    fake_close(f);
}

/* The broker's refusal is about the batch. Sent alone, the innocent ones get through. */
static void test_batch_refusal_finds_the_guilty(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("batch");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.linger.ms = 100\n");
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_INVALID_RECORD,
                                      RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    for (int i = 0; i < 4; i++)
        fake_add(f, "t", "k", i == 0 ? "1" : i == 1 ? "guilty" : i == 2 ? "2" : "3");
    assert_int_equal(fake_write(f), 4);
    fake_until(f, fake_count_fate(f, FMS_RETRY) == 4);
    write_until_delivered(f, 4);
    assert_int_equal(fake_fate(f, 2), FMS_REJECTED);
    assert_int_equal(fake_unsettled(f), 0);
    fake_close(f);
}

/* The same in full stream, as only Kafka can prove: several batches are on their way when one is refused. */
static void test_refusals_in_mid_stream_keep_order(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stream");
    static char large[5000];
    size_t good = 0;
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "4000", NULL);
    f = open_sink(cluster, topic, "kafka.batch.num.messages = 10\n");
    memset(large, 'x', sizeof large - 1);
    for (size_t i = 0; i < 600; i++) {
        if (i % 200 == 100)
            fake_add(f, "t", "k", large);
        else
            add_numbered(f, good++, 1);
    }
    write_until_delivered(f, good);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 3);
    check_order(cluster, topic, good);
    fake_close(f);
}

/* What brokers would refuse is rejected before it costs a producer; the limit is theirs to the byte. */
static void test_limit_is_learned(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("limit");
    size_t good = 0;
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "4000", NULL);
    f = open_sink(cluster, topic, "");
    for (size_t i = 0; i < 10000; i++) {
        if (i % 1000 == 500)
            add_large(f, 5000, false);
        else
            add_numbered(f, good++, 1);
    }
    write_until_delivered(f, good);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 10);
    assert_int_equal(cluster_count(cluster, topic, 0), good);
    add_large(f, 3929, false); /* and 71 bytes of Kafka's */
    add_large(f, 3930, false);
    write_until_delivered(f, good + 1);
    assert_int_equal(fake_fate(f, 10001), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 10001), "too large: 4001 bytes; the topic's max.message.bytes is 4000"));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    fake_close(f);
}

/* What is compressed may fit though it seems too large; what does not costs itself. */
static void test_limit_of_what_is_compressed(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("compressed");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "20000", NULL);
    f = open_sink(cluster, topic, "profile = throughput\nkafka.linger.ms = 50\n");
    for (size_t i = 0; i < 2000; i++)
        add_large(f, 200, true);
    add_large(f, 100000, false);
    add_large(f, 30000, true);
    add_large(f, 10, true);
    write_until_delivered(f, 2002);
    assert_int_equal(fake_fate(f, 2001), FMS_REJECTED);
    assert_in_range(fake_counter(f, "producer_restarts"), 1, 3);
    assert_int_equal(cluster_count(cluster, topic, 0), 2002);
    fake_close(f);
}

/* 30 records that lz4 hardly makes smaller, one after the other: more than it takes to see that. */
static void send_stubborn(struct fake *f)
{
    for (size_t i = 0; i < 30; i++) {
        add_large(f, 20000, true);
        write_until_delivered(f, i + 1);
    }
}

/* lz4 would be for nothing, so payloads are sent as they are, without a record offered twice; one that fits only compressed is. */
static void test_what_hardly_gets_smaller_is_not_compressed(void **state)
{
    static const char off[] = "records are not compressed any more", on[] = "records are compressed again";
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stubborn");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "40000", NULL);
    f = open_sink(cluster, topic, "profile = throughput\n");
    send_stubborn(f);
    assert_non_null(fake_said(f, off));
    add_large(f, 50000, true); /* nor would this one get smaller: no producer is made for it */
    fake_write(f);
    fake_until(f, fake_fate(f, 30) == FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 30), "the topic's max.message.bytes is 40000"));
    assert_null(fake_said(f, on));
    add_large(f, 100000, false);
    add_large(f, 20000, true);
    fake_write(f);
    fake_until(f, (fake_write(f), fake_count_fate(f, FMS_DELIVERED) == 32));
    assert_non_null(fake_said(f, on));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    for (size_t i = 0; i < 33; i++)
        assert_int_equal(fake_settles(f, i), 1);
    assert_int_equal(cluster_count(cluster, topic, 0), 32);
    fake_close(f);
}

/* Where nobody tells what a topic takes, a refusal does: what does not get smaller is rejected, what does is compressed. */
static void test_what_is_refused_uncompressed(void **state)
{
    static const char on[] = "records are compressed again: one of 200000 bytes fits its topic only so";
    struct cluster *cluster = *state;
    const char *topic = cluster_name("unknown");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    for (int is_small = 0; is_small <= 1; is_small++) {
        f = open_sink(cluster, topic, "profile = throughput\n");
        send_stubborn(f);
        rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        add_large(f, 200000, is_small == 0);
        fake_write(f);
        fake_until(f, fake_fate(f, 30) == FMS_REJECTED || delivers(f, 31));
        assert_int_equal(fake_fate(f, 30), is_small ? FMS_DELIVERED : FMS_REJECTED);
        assert_int_equal(fake_said(f, on) != NULL, is_small);
        assert_int_equal(fake_counter(f, "producer_restarts"), 1);
        fake_close(f);
    }
}

/* What the user says holds. */
static void test_compression_that_is_configured_stays(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("configured");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "profile = throughput\nkafka.compression.type = lz4\n");
    send_stubborn(f);
    assert_null(fake_said(f, "records are not compressed any more"));
    fake_close(f);
}

/* A refusal brings back what was under way with it: the next that seem too large go alone. */
static void test_compressed_suspects_go_alone(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("suspects");
    unsigned settles = 0;
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "20000", NULL);
    f = open_sink(cluster, topic, "profile = throughput\n");
    add_numbered(f, 0, 2000);
    add_large(f, 30000, true);
    write_until_delivered(f, 2000);
    fake_until(f, fake_fate(f, 2000) == FMS_REJECTED);
    for (size_t i = 0; i < 9; i++) {
        add_large(f, 30000, true);
        add_numbered(f, 2000 + 500 * i, 500);
    }
    write_until_delivered(f, 6500);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 10);
    for (size_t i = 2001; i < 6510; i++)
        settles += fake_settles(f, i);
    assert_in_range(settles, 4509,
                    2 * 4509); /* all once, unless the minute is over; else each refusal brings some back */
    fake_close(f);
}

/* Where the limit can't be read, refusals teach it. */
static void test_refusals_teach_the_limit(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("taught");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.linger.ms = 50\n");
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (size_t i = 0; i < 10; i++)
        add_large(f, 1000, false);
    write_until_delivered(f, 10); /* in smaller batches */
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    add_large(f, 5000, false);
    fake_write(f);
    fake_until(f, fake_fate(f, 10) == FMS_REJECTED); /* it was alone */
    add_large(f, 5000, false);
    add_large(f, 4999, false);
    write_until_delivered(f, 11);
    assert_int_equal(fake_fate(f, 11), FMS_REJECTED);
    assert_int_equal(fake_counter(f, "producer_restarts"), 2);
    fake_close(f);
}

/* Of what is not about size, the guilty one of many is found in a few steps, and batches are large again afterwards. */
static void test_guilty_one_of_many_is_found(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("many");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.linger.ms = 100\n");
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_INVALID_RECORD,
                                      RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    fake_add(f, "t", "k", "guilty");
    add_numbered(f, 0, 255);
    write_until_taken(f, 256); /* in one batch, then in 16, then one by one */
    fake_until(f, delivers(f, 255));
    assert_int_equal(fake_fate(f, 0), FMS_REJECTED);
    assert_int_equal(fake_counter(f, "producer_restarts"), 3);
    check_order(cluster, topic, 255);
    fake_close(f);
}

/* The same where none is found: a refusal that does not come again. */
static void test_no_guilty_one(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("none");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.linger.ms = 100\n");
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    add_numbered(f, 0, 100);
    write_until_delivered(f, 100);
    add_numbered(f, 100, 100);
    write_until_delivered(f, 200); /* by one that was made without need */
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    check_order(cluster, topic, 200);
    fake_close(f);
}

/* A time that the topic does not take, and a missing key that it needs, are found before they cost a batch. */
static void test_what_a_topic_demands_is_learned(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("demands");
    struct fms_record record = {.topic = fms_text("t"), .payload = fms_text("{}")};
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "message.timestamp.after.max.ms", "3600000", "cleanup.policy", "compact", NULL);
    f = open_sink(cluster, topic, "timestamp = ${json:t:-0}\n");
    for (size_t i = 0; i < 400; i++) {
        if (i % 100 == 50)
            fake_add(f, "t", "k", "{\"t\":4102444800}");
        else if (i % 100 == 60)
            fake_add_record(f, &record);
        else
            fake_add(f, "t", "k", "{}");
    }
    write_until_delivered(f, 392);
    assert_int_equal(fake_count_fate(f, FMS_REJECTED), 8);
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    fake_close(f);
}

/* ----------------------------------------------------------------------------------------------------- dead letters */

static void add_letter(struct fake *f, const char *key, size_t size, bool is_random)
{
    static char payload[200000];
    struct fms_header headers[] = {{"trace", {payload, 1500}},
                                   {"fms.payload", fms_text("theirs")},
                                   {"fms.reason", fms_text("as the test wants it")},
                                   {"fms.topic", {payload, 3000}}};
    struct fms_record letter = {.topic = fms_text("fms/data"),
                                .key = fms_text(key),
                                .payload = {payload, size},
                                .headers = headers,
                                .header_count = 3};
    unsigned seed = 7;

    memset(payload, 'x', sizeof payload);
    for (size_t i = 0; i < size && is_random; i++) {
        seed = seed * 1103515245 + 12345;
        payload[i] = (char)(seed >> 16);
    }
    letter.header_count = strcmp(key, "all") == 0 ? 4 : 3;
    fake_add_record(f, &letter);
}

/* A letter that its topic does not take goes again without payload; then without what the host has not added; then that is
 * cut. The client's own limit counts as the topic's does. */
static void check_letters(struct cluster *cluster, const char *topic, const char *options)
{
    struct fake *f = fake_open("kafka_sink", FMS_DEAD_LETTER,
                               cluster_ini(cluster, "topic = %s\n" THERE "%s", topic, options));
    struct messages messages;
    rd_kafka_headers_t *headers;
    static char key[2001];
    const void *value;
    size_t size;

    memset(key, 'k', sizeof key - 1);
    add_letter(f, "small", 100, true);
    add_letter(f, "payload", 5000, true);
    add_letter(f, key, 10, true);
    add_letter(f, "all", 5000, true);
    add_letter(f, key, 0, true);
    write_until_delivered(f, 5);
    assert_int_equal(fake_counter(f, "letters_reduced"), 4);
    assert_non_null(fake_said(f, "warning: topic "));
    assert_non_null(
        fake_said(f, "a dead letter went without its payload of 5000 bytes, for a message may have 2500 b"));
    assert_non_null(fake_said(f, "went without its payload of 10 bytes, its key and its other headers, for"));
    assert_non_null(fake_said(f, "went without its key and its other headers, for a message"));
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 5);
    assert_int_equal(messages.items[0]->len, 100);
    for (size_t i = 1; i < 4; i++) {
        assert_null(messages.items[i]->payload);
        check_header(messages.items[i], "fms.reason", "as the test wants it");
    }
    check_header(messages.items[1], "fms.payload", "dropped, 5000 bytes: the letter was larger than its topic takes");
    assert_int_equal(messages.items[1]->key_len, strlen("payload"));
    check_header(messages.items[2], "fms.payload",
                 "dropped, 10 bytes, with the key and other headers: the letter was larger than its topic takes");
    assert_null(messages.items[2]->key);
    assert_int_equal(messages.items[3]->key_len, 0);
    assert_int_equal(rd_kafka_message_headers(messages.items[4], &headers), 0);
    assert_int_equal(rd_kafka_header_get_last(headers, "fms.payload", &value, &size), RD_KAFKA_RESP_ERR__NOENT);
    cluster_forget(&messages);
}

static void test_letter_larger_than_the_client_takes(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("letters");

    cluster_topic(cluster, topic, 1);
    check_letters(cluster, topic, "kafka.message.max.bytes = 2500\n");
}

/* Whether what is compressed fits, only its broker can say. */
static void check_compressed_letter(struct cluster *cluster, const char *topic)
{
    struct fake *f = fake_open("kafka_sink", FMS_DEAD_LETTER,
                               cluster_ini(cluster, "topic = %s\n" THERE "kafka.compression.codec = lz4\n", topic));
    struct messages messages;

    add_letter(f, "compresses", 100000, false);
    add_letter(f, "does not", 5000, true);
    add_letter(f, "after", 10, true);
    write_until_delivered(f, 3);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 3);
    assert_int_equal(messages.items[0]->len, 100000);
    assert_null(messages.items[1]->payload);
    check_header(messages.items[1], "fms.reason", "as the test wants it");
    assert_int_equal(messages.items[2]->len, 10);
    cluster_forget(&messages);
}

static void test_letter_larger_than_its_topic_takes(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("letters"), *compressed = cluster_name("compressed");

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "2500", NULL);
    check_letters(cluster, topic, "");
    cluster_topic(cluster, compressed, 1);
    cluster_configure(cluster, compressed, "max.message.bytes", "1900", NULL); /* "xxx..." compresses */
    check_compressed_letter(cluster, compressed);
}

/* There is no other place for it. */
static void test_letter_without_key_and_header(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("keyless");
    struct messages messages;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = fake_open(
        "kafka_sink", FMS_DEAD_LETTER,
        cluster_ini(cluster, "topic = %s\n" THERE "key = ${json:vehicle_id}\nheader.id = ${json:id}\n", topic));
    fake_add(f, "t", NULL, "no JSON");
    write_until_delivered(f, 1);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 1);
    assert_null(messages.items[0]->key);
    check_header(messages.items[0], "id", NULL);
    cluster_forget(&messages);
}

/* A topic that a dead letter may be without is no place for it. */
static void test_letter_needs_a_topic(void **state)
{
    static const struct {
        const char *topic, *lacks; /* NULL: nothing */
    } cases[] = {
        {"dead-${json:vehicle_id}", "vehicle_id"},
        {"dead-${key}", "key"},
        {"dead-${topic[1]}", "level 1"},
        {"dead-${header:site}", "site"},
        {"dead-${json:vehicle_id:-unknown}", NULL},
        {"dead-${header:fms.stage}", NULL},
        {"${topic}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char ini[128];
        struct fake *f;

        snprintf(ini, sizeof ini, "brokers = a:1\nkey = k\ntopic = %s\n", cases[i].topic);
        f = fake_check("kafka_sink", FMS_DEAD_LETTER, ini);
        assert_int_equal(fake_error(f), cases[i].lacks == NULL ? 0 : -EINVAL);
        if (cases[i].lacks != NULL)
            assert_non_null(strstr(fake_said(f, "error: topic: lacks a default"), cases[i].lacks));
        fake_close(f);
        f = fake_check("kafka_sink", FMS_SINK, ini); /* there it is rejected, and so goes to the dead letters */
        assert_int_equal(fake_error(f), 0);
        fake_close(f);
    }
}

/* Whatever a letter names, there is a topic for it. */
static void test_letter_with_an_odd_topic(void **state)
{
    static char large[60000];
    static const struct {
        struct fms_bytes named;
        const char *topic;
    } cases[] = {
        {{"", 0}, "_"},
        {{"..", 2}, ".._"},
        {{"a/+", 3}, "a__"},
        {{"n\0l", 3}, "n_l"},
        {{"M\xc3\xbcnchen\xff", 9}, "M__nchen_"},
        {{"__consumer_offsets", 18}, "__consumer_offsets_"},
        {{large, sizeof large}, NULL},
    };
    struct cluster *cluster = *state;
    size_t count = sizeof cases / sizeof cases[0];
    char cut[250] = "";
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    memset(large, 'x', sizeof large);
    memset(cut, 'x', 249);
    f = fake_open("kafka_sink", FMS_DEAD_LETTER, cluster_ini(cluster, "topic = ${topic}\n" THERE));
    for (size_t i = 0; i < count; i++) {
        cluster_topic(cluster, cases[i].topic == NULL ? cut : cases[i].topic, 1);
        fake_add_record(f, &(struct fms_record){.topic = cases[i].named, .payload = fms_text("x")});
    }
    write_until_delivered(f, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(cluster_count(cluster, cases[i].topic == NULL ? cut : cases[i].topic, 0), 1);
    fake_close(f);
}

/* ----------------------------------------------------------------------------------------------------------- topics */

/* How many partitions a topic has; 0: it is not there. */
static int cluster_partitions(struct cluster *cluster, const char *topic)
{
    const struct rd_kafka_metadata *metadata;
    int count = 0;

    assert_int_equal(rd_kafka_metadata(cluster->rk, 1, NULL, &metadata, 20000), 0);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, topic) == 0)
            count = metadata->topics[i].partition_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    return count;
}

/* Many topics that are not there, and brokers that would make them: none is made, and the one that is there goes on. */
static void test_unknown_topics_harm_nobody(void **state)
{
    struct cluster *cluster = *state;
    const char *good = cluster_name("good"), *unknown = cluster_name("unknown");
    char text[96];
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, good, 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\n" THERE "topics_max = 100\n"));
    for (size_t round = 0; round < 2; round++) { /* more than are remembered */
        for (size_t i = 0; i < 4500; i++) {
            snprintf(text, sizeof text, "%s-%zu", unknown, i);
            fake_add(f, text, "k", "x");
            if (i % 225 == 50)
                fake_add(f, good, "k", "good");
        }
    }
    write_until_delivered(f, 40);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 9000);
    assert_non_null(strstr(fake_reason(f, 0), "Unknown topic or partition"));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    assert_int_equal(cluster_count(cluster, good, 0), 40);
    snprintf(text, sizeof text, "%s-%d", unknown, 0);
    assert_int_equal(cluster_partitions(cluster, text), 0);
    fake_close(f);
}

/* New topics are made, as `partitions` says, and nothing is rejected meanwhile; but no more than topics_max. */
static void test_new_topics_are_created(void **state)
{
    struct cluster *cluster = *state;
    const char *name = cluster_name("new");
    char text[96];
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\npartitions = 1\ntopics_max = 120\n"));
    for (size_t i = 0; i < 360; i++) {
        char number[8];

        snprintf(text, sizeof text, "%s-%zu", name, i % 120);
        snprintf(number, sizeof number, "%zu", i / 120);
        fake_add(f, text, "k", number);
    }
    fake_write(f);
    for (size_t i = 30; i <= 360; i += 30) /* a busy broker makes some four topics a second */
        fake_until(f, delivers(f, 360) || fake_count_fate(f, FMS_DELIVERED) >= i);
    assert_int_equal(fake_count_fate(f, FMS_REJECTED), 0);
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    for (size_t i = 0; i < 120; i += 40) {
        snprintf(text, sizeof text, "%s-%zu", name, i);
        check_order(cluster, text, 3);
    }
    snprintf(text, sizeof text, "%s-more", name);
    fake_add(f, text, "k", "x");
    fake_write(f);
    fake_until(f, fake_fate(f, 360) == FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 360), "topics_max"));
    assert_int_equal(cluster_partitions(cluster, text), 0);
    fake_close(f);
}

/* A topic that is deleted costs no record, and is made anew as the options say: it is not one more. */
static void test_deleted_topic_comes_back(void **state)
{
    struct cluster *cluster = *state;
    const char *name = cluster_name("deleted");
    const char *const topics[] = {"${topic}", name};

    CLUSTER_NEEDS_REAL(cluster);
    for (size_t i = 0; i < 2; i++) {
        struct fake *f = fake_open(
            "kafka_sink", FMS_SINK,
            cluster_ini(cluster,
                        "topic = %s\npartitions = 3\ntopics_max = 1\nkafka.topic.metadata.refresh.interval.ms = 100\n",
                        topics[i]));

        fake_add(f, name, "k", "0");
        write_until_delivered(f, 1);
        cluster_delete(cluster, name);
        fake_until(f, fake_said(f, "partition count changed from 3 to 0") != NULL); /* librdkafka knows */
        fake_add(f, name, "k", "0");
        write_until_delivered(f, 2);
        assert_int_equal(fake_count_fate(f, FMS_REJECTED), 0);
        assert_int_equal(cluster_partitions(cluster, name), 3);
        fake_close(f);
        cluster_delete(cluster, name);
    }
}

/* Where brokers can't be asked, librdkafka finds out. */
static void test_topics_of_brokers_without_answers(void **state)
{
    struct cluster *cluster = *state;
    const char *good = cluster_name("good");
    char text[96];
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, good, 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\n" THERE));
    for (size_t i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "unknown-%zu", i);
        cluster_topic(cluster, text, 0);
        rd_kafka_mock_topic_set_error(cluster->mock, text, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        fake_add(f, i % 10 == 5 ? good : text, "k", "x");
    }
    write_until_delivered(f, 5);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 45);
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    fake_close(f);
}

/* While there is no broker to ask, the lane sleeps. */
static void test_no_broker_wakes_nobody(void **state)
{
    struct fake *f = fake_open("kafka_sink", FMS_SINK, "brokers = localhost:1\ntopic = ${topic}\n");

    (void)state;
    fake_clock_set(f, FMS_SECOND, 1800000000 * FMS_SECOND);
    fake_add(f, "t", "k", "x");
    assert_int_equal(fake_write(f), 1);
    for (int64_t now = FMS_SECOND; now < 8 * FMS_SECOND; now += FMS_SECOND) {
        fake_poll(f, 0);
        assert_true(fake_waits_for(f)->deadline > now);
        fake_clock_step(f, FMS_SECOND);
    }
    fake_expect_left(f, 1);
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------- time */

static void test_time_of_a_field(void **state)
{
    static const struct {
        const char *payload;
        int64_t milliseconds;
    } cases[] = {
        {"{\"t\":1763320419}", 1763320419000},
        {"{\"t\":1763320419.25}", 1763320419250},
        {"{\"t\":1763320419250}", 1763320419250},
        {"{\"t\":1763320419250999}", 1763320419250},
        {"{\"t\":\"1763320419250999999\"}", 1763320419250},
        {"{\"t\":\"2025-11-16T19:13:39.25Z\"}", 1763320419250},
        {"{\"t\":\"noon\"}", 1700000000123},
        {"{\"t\":-5}", 1700000000123},
        {"{\"t\":1e300}", 1700000000123},
        {"{}", 1700000000123},
        {"no JSON", 1700000000123},
    };
    size_t count = sizeof cases / sizeof cases[0];
    struct cluster *cluster = *state;
    const char *topic = cluster_name("time");
    struct messages messages;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    if (cluster->mock == NULL)
        cluster_configure(cluster, topic, "retention.ms", "-1", NULL); /* these times are past */
    f = open_sink(cluster, topic, "timestamp = ${json:t}\n");
    for (size_t i = 0; i < count; i++) {
        struct fms_record record = {.topic = fms_text("t"),
                                    .key = fms_text("k"),
                                    .payload = fms_text(cases[i].payload),
                                    .timestamp = INT64_C(1700000000123) * FMS_MS};

        fake_add_record(f, &record);
    }
    write_until_delivered(f, count);
    assert_int_equal(fake_counter(f, "untimely"), 5);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, count);
    for (size_t i = 0; i < count; i++) {
        if (rd_kafka_message_timestamp(messages.items[i], NULL) != cases[i].milliseconds)
            fail_msg("case %zu: %lld", i, (long long)rd_kafka_message_timestamp(messages.items[i], NULL));
    }
    cluster_forget(&messages);
}

/* Kafka has no times before 1970. */
static void test_time_before_1970_is_now(void **state)
{
    struct fms_record record = {
        .topic = fms_text("t"), .key = fms_text("k"), .payload = fms_text("{}"), .timestamp = -5 * FMS_SECOND};
    static const char *const froms[] = {"record", "${json:t}"};
    struct cluster *cluster = *state;
    const char *topic = cluster_name("past");
    int64_t now = (int64_t)time(NULL) * 1000;
    struct messages messages;

    cluster_topic(cluster, topic, 1);
    for (size_t i = 0; i < 2; i++) {
        struct fake *f = fake_open("kafka_sink", FMS_SINK,
                                   cluster_ini(cluster, "topic = %s\n" THERE "timestamp = %s\n", topic, froms[i]));

        fake_add_record(f, &record);
        write_until_delivered(f, 1);
        assert_int_equal(fake_counter(f, "untimely"), 1);
        fake_close(f);
    }
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 2);
    for (size_t i = 0; i < messages.count; i++)
        assert_true(rd_kafka_message_timestamp(messages.items[i], NULL) >= now);
    cluster_forget(&messages);
}

static void test_topic_of_the_record(void **state)
{
    struct cluster *cluster = *state;
    const char *good = cluster_name("good");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, good, 1);
    cluster_topic(cluster, "denied", 0);
    rd_kafka_mock_topic_set_error(cluster->mock, "denied", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic[1]}\nkey = ${header:id:-none}\n"));
    fake_add(f, "fms", "k", "no such level");
    fake_add(f, "fms/a b", "k", "no such name");
    fake_add(f, "fms/denied", "k", "no such right");
    fake_add(f, "fms/", "k", "empty");
    for (int i = 0; i < 3; i++) {
        char text[96];

        snprintf(text, sizeof text, "fms/%s", good);
        fake_add(f, text, "k", i == 0 ? "0" : i == 1 ? "1" : "2");
    }
    write_until_delivered(f, 3);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 4);
    assert_non_null(strstr(fake_reason(f, 0), "topic: the topic has no level 1"));
    assert_non_null(strstr(fake_reason(f, 1), "\"a b\" has other characters"));
    assert_non_null(strstr(fake_reason(f, 2), "topic denied: Broker: Topic authorization failed"));
    assert_non_null(strstr(fake_reason(f, 3), "is empty"));
    fake_close(f);
}

/* What Kafka keeps for itself is neither produced to nor made, whoever names it. */
static void test_internal_topics_are_refused(void **state)
{
    static const char *const internal[] = {"__consumer_offsets", "__transaction_state", "__share_group_state",
                                           "__cluster_metadata"};
    struct cluster *cluster = *state;
    struct fake *f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\n"));
    size_t count = sizeof internal / sizeof internal[0];

    for (size_t i = 0; i < count; i++)
        fake_add(f, internal[i], "k", "x");
    assert_int_equal(fake_write(f), count);
    assert_int_equal(fake_count_fate(f, FMS_REJECTED), count);
    assert_non_null(strstr(fake_reason(f, 0), "\"__consumer_offsets\" is a topic of Kafka's own"));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    fake_close(f);
}

/* Whether the next record to that topic is rejected without that its brokers are asked. */
static bool is_refused_at_once(struct fake *f, const char *topic)
{
    size_t rejected = fake_count_fate(f, FMS_REJECTED);

    fake_add(f, topic, "k", "x");
    fake_write(f);
    return fake_count_fate(f, FMS_REJECTED) == rejected + 1;
}

/* Lets the broker refuse the next record, and waits until a new producer has taken over, in which time hardly moves. */
static void refuse_next(struct fake *f, struct cluster *cluster, unsigned restarts)
{
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_false(is_refused_at_once(f, "denied"));
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_unsettled(f) == 0));
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_counter(f, "producer_restarts") == restarts));
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 0);
}

/* Whoever names a topic that refuses what it is sent costs the others a producer less and less often. */
static void test_topic_refused_again_is_refused_for_longer(void **state)
{
    static const int64_t seconds[] = {10, 20, 40, 80, 160, 320, 320};
    struct cluster *cluster = *state;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, "denied", 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic}\n" THERE));
    fake_clock_set(f, FMS_SECOND, 1800000000 * FMS_SECOND);
    for (unsigned i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        refuse_next(f, cluster, i + 1);
        fake_clock_step(f, (seconds[i] - 5) * FMS_SECOND);
        assert_true(is_refused_at_once(f, "denied"));
        fake_clock_step(f, 5 * FMS_SECOND);
        for (int turn = 0; turn < 3; turn++) /* a new round may begin, in which it is not forgotten */
            fake_turn(f, fake_realclock() + FAKE_PATIENCE, "a turn");
    }
    assert_false(is_refused_at_once(f, "denied"));
    fake_until(f, (fake_clock_step(f, FMS_MS), fake_count_fate(f, FMS_DELIVERED) == 1));
    fake_close(f);
}

static void test_topic_of_the_pipeline_is_waited_for(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("missing");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    rd_kafka_mock_topic_set_error(cluster->mock, topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    f = open_sink(cluster, topic, "kafka.topic.metadata.propagation.max.ms = 100\n");
    add_numbered(f, 0, 5);
    write_until_taken(f, 5);
    fake_until(f, fake_count_fate(f, FMS_RETRY) == 5);
    assert_non_null(strstr(fake_reason(f, 0), "Unknown topic"));
    rd_kafka_mock_topic_set_error(cluster->mock, topic, RD_KAFKA_RESP_ERR_NO_ERROR);
    fake_until(f, delivers(f, 5));
    check_order(cluster, topic, 5);
    fake_close(f);
}

static void test_missing_header_is_rejected(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("header");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "header.vehicle = ${json:vehicle_id}\n");
    fake_add(f, "t", "k", "{}");
    fake_add(f, "t", "k", "{\"vehicle_id\":\"a\"}");
    write_until_delivered(f, 1);
    assert_int_equal(fake_fate(f, 0), FMS_REJECTED);
    assert_string_equal(fake_reason(f, 0), "header.vehicle: no field \"vehicle_id\" in the payload");
    fake_close(f);
}

/* --------------------------------------------------------------------------------------------------- bounds, errors */

static void test_full_queue_pushes_back(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("full");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.queue.buffering.max.messages = 10\nkafka.linger.ms = 50\n");
    add_numbered(f, 0, 100);
    write_until_taken(f, 10);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 100);
    check_order(cluster, topic, 100);
    fake_close(f);
}

/* What is larger than the queue would wait for room for ever. */
static void test_larger_than_the_queue_is_rejected(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("queue");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.queue.buffering.max.kbytes = 10\n");
    add_large(f, 20000, false);
    for (size_t i = 0; i < 5; i++)
        add_large(f, 6000, false); /* one at a time */
    write_until_delivered(f, 5);
    assert_int_equal(fake_fate(f, 0), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 0), "it is larger than kafka.queue.buffering.max.kbytes"));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    fake_close(f);
}

static void test_fatal_error_means_a_new_producer(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("fatal");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, "kafka.linger.ms = 100\n");
    add_numbered(f, 0, 100);
    write_until_taken(f, 100);
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "as the test wants it");
    write_until_delivered(f, 100);
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    assert_non_null(fake_said(f, "as the test wants it"));
    check_order(cluster, topic, 100);
    fake_close(f);
}

/* A producer that fails while its broker is silent does not wait for ever for what it sent. */
static void test_fatal_error_while_frozen(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("frozen");
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, ONE_BY_ONE);
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_broker_push_request_error_rtts(cluster->mock, 1, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_NO_ERROR, 30000);
    add_numbered(f, 1, 9);
    assert_int_equal(fake_write(f), 9);
    while (cluster_count(cluster, topic, 0) < 2) /* one is with the broker, which does not say so */
        assert_true(fake_realclock() < until);
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "as the test wants it");
    fake_until(f, fake_count_fate(f, FMS_RETRY) == 9);
    fake_until(f, delivers(f, 10));
    check_order(cluster, topic, 10);
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------ probe */

static void check_probe_of_limit(struct cluster *cluster, const char *topic)
{
    struct fake *f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));

    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    assert_non_null(fake_said(f,
                              "takes all that is sent: its max.message.bytes is 1048588, and kafka.message.max.bytes "
                              "allows 1000000; larger ones are rejected"));
    fake_close(f);
    f = fake_check("kafka_sink", FMS_DEAD_LETTER,
                   cluster_ini(cluster, "topic = %s\n" THERE "kafka.message.max.bytes = 2000000\n", topic));
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, "takes messages of at most 1048588 bytes, and up to 2000000 may come"));
    assert_non_null(fake_said(f, "larger dead letters lose their payload; raise the topic's max.message.bytes"));
    fake_close(f);
    cluster_configure(cluster, topic, "max.message.bytes", "1000", NULL);
    f = fake_check("kafka_sink", FMS_DEAD_LETTER, cluster_ini(cluster, "topic = %s\n" THERE, topic));
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    assert_non_null(
        fake_said(f, "takes messages of at most 1000 bytes, and what is left of a dead letter may have 1024"));
    fake_close(f);
}

static void test_probe_reports(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("probe"), *other = cluster_name("other");
    struct fake *f;
    char text[128];

    cluster_topic(cluster, topic, 3);
    f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: broker "));
    snprintf(text, sizeof text, "report: topic %s is there, with 3 partitions", topic);
    assert_non_null(fake_said(f, text));
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, other));
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    snprintf(text, sizeof text, "report: topic %s is not there", other);
    assert_non_null(fake_said(f, text));
    assert_non_null(fake_said(f, "or this user may not see it; somebody has to create it (create_topic = no)"));
    assert_true(cluster->mock != NULL ||
                fake_said(f, "can't be read") == NULL); /* the mock tells of no limits at all */
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n", other));
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, "or this user may not see it; it is created at the start (create_topic = yes)"));
    fake_close(f);
    if (cluster->mock == NULL)
        check_probe_of_limit(cluster, topic);
    f = fake_check("kafka_sink", FMS_SINK, "brokers = localhost:1\ntopic = t\n");
    assert_int_equal(fake_probe(f, 500 * FMS_MS), -EHOSTUNREACH);
    fake_close(f);
}

static void test_many_created_topics_are_few_lines(void **state)
{
    struct cluster *cluster = *state;
    const char *prefix = cluster_name("many");
    char text[96];
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = ${topic[1]}\npartitions = 1\n"));
    for (int i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "fms/%s-%d", prefix, i);
        fake_add(f, text, "k", "{}");
    }
    write_until_delivered(f, 12);
    assert_non_null(fake_said(f, "; of those to come, only each hundredth is told"));
    assert_non_null(fake_said(f, "debug: created topic "));
    fake_close(f);
}

static void test_topic_is_created(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("created");
    struct fake *f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\npartitions = 1\n", topic));

    add_numbered(f, 0, 3);
    write_until_delivered(f, 3);
    if (cluster->mock == NULL) /* the mock has no admin API, and makes four partitions by itself */
        check_order(cluster, topic, 3);
    fake_close(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cluster_setup, cluster_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_check_warns_of_traps),
        TEST(test_secrets_stay_secret),
        cmocka_unit_test(test_open_needs_good_files),
        cmocka_unit_test(test_old_files_stay_while_new_ones_are_no_good),
        TEST(test_secrets_are_read_again),
        TEST(test_message_is_complete),
        TEST(test_absent_is_not_empty),
        TEST(test_confirmed_late),
        TEST(test_reports_are_gathered),
        TEST(test_a_report_waits_for_the_next_record),
        TEST(test_many_reports_do_not_wait),
        TEST(test_reports_are_fetched_by_who_writes),
        TEST(test_records_are_gathered),
        TEST(test_what_was_gathered_stays),
        TEST(test_what_was_gathered_is_offered_again),
        TEST(test_confirmed_out_of_order),
        TEST(test_never_confirmed),
        TEST(test_outage_loses_nothing),
        TEST(test_statistics_are_for_who_watches),
        TEST(test_statistics_are_told),
        TEST(test_counters_outlive_a_producer),
        TEST(test_link_of_an_idle_sink),
        TEST(test_retry_keeps_order),
        TEST(test_first_record_is_not_overtaken),
        TEST(test_first_record_is_not_lost),
        TEST(test_too_large_is_rejected),
        TEST(test_batch_refusal_finds_the_guilty),
        TEST(test_refusals_in_mid_stream_keep_order),
        TEST(test_limit_is_learned),
        TEST(test_limit_of_what_is_compressed),
        TEST(test_what_hardly_gets_smaller_is_not_compressed),
        TEST(test_what_is_refused_uncompressed),
        TEST(test_compression_that_is_configured_stays),
        TEST(test_compressed_suspects_go_alone),
        TEST(test_refusals_teach_the_limit),
        TEST(test_guilty_one_of_many_is_found),
        TEST(test_no_guilty_one),
        TEST(test_what_a_topic_demands_is_learned),
        TEST(test_letter_larger_than_the_client_takes),
        TEST(test_letter_larger_than_its_topic_takes),
        TEST(test_letter_without_key_and_header),
        cmocka_unit_test(test_letter_needs_a_topic),
        TEST(test_letter_with_an_odd_topic),
        TEST(test_unknown_topics_harm_nobody),
        TEST(test_new_topics_are_created),
        TEST(test_deleted_topic_comes_back),
        TEST(test_topics_of_brokers_without_answers),
        cmocka_unit_test(test_no_broker_wakes_nobody),
        TEST(test_time_of_a_field),
        TEST(test_time_before_1970_is_now),
        TEST(test_topic_of_the_record),
        TEST(test_internal_topics_are_refused),
        TEST(test_topic_refused_again_is_refused_for_longer),
        TEST(test_topic_of_the_pipeline_is_waited_for),
        TEST(test_missing_header_is_rejected),
        TEST(test_full_queue_pushes_back),
        TEST(test_larger_than_the_queue_is_rejected),
        TEST(test_fatal_error_means_a_new_producer),
        TEST(test_fatal_error_while_frozen),
        TEST(test_probe_reports),
        TEST(test_many_created_topics_are_few_lines),
        TEST(test_topic_is_created),
    };

    return cluster_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
