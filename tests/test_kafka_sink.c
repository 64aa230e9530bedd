/* test_kafka_sink.c - kafka_sink through its table, against a mock cluster with faults, or a real Kafka: see
 * kafka_cluster.h. */
#include <errno.h>
#include <unistd.h>

#include "../plugins/kafka_common/kafka_common.h"
#include "kafka_cluster.h"

/* librdkafka's handle within the plugin; its instance begins with what both plugins have in common. */
static rd_kafka_t *client_of(struct fake *f)
{
    return ((struct kafka *)fake_instance(f))->rk;
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

/* Lowers a topic's max.message.bytes. */
static void cluster_limit(struct cluster *cluster, const char *topic, const char *bytes)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(cluster->rk);
    rd_kafka_event_t *event;

    rd_kafka_ConfigResource_set_config(resource, "max.message.bytes", bytes);
    rd_kafka_AlterConfigs(cluster->rk, &resource, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 20000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), 0);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
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
        {"brokers = a:1\ntopic = t\nkafka.linger.mss = 5\n", "error: kafka.linger.mss: librdkafka"},
        {"brokers = a:1\ntopic = t\nkafka.linger.ms = soon\n", "error: kafka.linger.ms: "},
        {"brokers = a:1\ntopic = t\nkafka.acks = 0\n", "error: kafka.acks: can't be set: no broker would confirm"},
        {"brokers = a:1\ntopic = t\nkafka.acks = 1\n", "kafka.enable.idempotence = false gives it up"},
        {"brokers = a:1\ntopic = t\nkafka.bootstrap.servers = b:1\n", "use the option brokers"},
        {"brokers = a:1\ntopic = t\nkafka.transactional.id = x\n", "uses no transactions"},
        {"brokers = a:1\ntopic = t\nkafka.delivery.report.only.error = true\n", "settled by their delivery reports"},
        {"brokers = a:1\ntopic = t\nkafka.dr_cb = x\n", "error: kafka.dr_cb: "},
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
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster,
                              "topic = %s\n" THERE "key = ${json:vehicle_id}\nheader.source = ${topic}\n"
                              "timestamp = record\n",
                              topic));
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\nprofile = throughput\n" THERE, topic));
    for (size_t i = 0; i < 3; i++) {
        add_numbered(f, i, 1);
        write_until_delivered(f, i + 1);
        assert_int_equal(fake_waits_for(f)->fd, -1);
        assert_int_not_equal(fake_waits_for(f)->deadline, FMS_NEVER);
        fake_until(f, fake_waits_for(f)->fd >= 0);
    }
    fake_close(f);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
    add_numbered(f, 3, 1);
    write_until_delivered(f, 1);
    assert_true(fake_waits_for(f)->fd >= 0);
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\nprofile = throughput\n" THERE, topic));
    for (size_t i = 0; fake_count_fate(f, FMS_DELIVERED) == 0 && fake_realclock() < until; i++) {
        add_numbered(f, i, 1);
        assert_int_equal(fake_write(f), 1);
        fake_poll(f, 0);
        usleep(1000);
    }
    assert_true(fake_count_fate(f, FMS_DELIVERED) > 0);
    fake_until(f, fake_unsettled(f) == 0);
    fake_close(f);
}

static void test_never_confirmed(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("never");
    int64_t start;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE, topic));
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

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n", topic));
    add_numbered(f, 0, 50);
    assert_int_equal(fake_write(f), 0);
    fake_until(f, fake_said(f, "warning: no broker of ") != NULL);
    assert_int_equal(fake_unsettled(f), 0);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    fake_until(f, delivers(f, 50));
    assert_non_null(fake_said(f, "info: brokers are reachable again"));
    check_order(cluster, topic, 50);
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE ONE_BY_ONE, topic));
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_NO_ERROR,
                                      RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    add_numbered(f, 0, 200);
    assert_int_equal(fake_write(f), 200);
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

static void test_too_large_is_rejected(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("large");
    static char large[3000];
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster, "topic = %s\n" THERE "kafka.message.max.bytes = 2000\n", topic));
    memset(large, 'x', sizeof large - 1);
    fake_add(f, "t", "k", "0");
    fake_add(f, "t", "k", large);
    fake_add(f, "t", "k", "1");
    write_until_delivered(f, 2);
    assert_int_equal(fake_fate(f, 1), FMS_REJECTED);
    assert_non_null(strstr(fake_reason(f, 1), "Message size too large"));
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE "kafka.linger.ms = 100\n", topic));
    add_numbered(f, 0, 1);
    write_until_delivered(f, 1);
    rd_kafka_mock_push_request_errors(cluster->mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                                      RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
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

    if (cluster->mock != NULL)
        skip();
    cluster_topic(cluster, topic, 1);
    cluster_limit(cluster, topic, "4000");
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster, "topic = %s\n" THERE "kafka.batch.num.messages = 10\n", topic));
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

static void test_topic_of_the_pipeline_is_waited_for(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("missing");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    rd_kafka_mock_topic_set_error(cluster->mock, topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster, "topic = %s\n" THERE "kafka.topic.metadata.propagation.max.ms = 100\n", topic));
    add_numbered(f, 0, 5);
    assert_int_equal(fake_write(f), 5);
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
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster, "topic = %s\n" THERE "header.vehicle = ${json:vehicle_id}\n", topic));
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
    f = fake_open("kafka_sink", FMS_SINK,
                  cluster_ini(cluster,
                              "topic = %s\n" THERE "kafka.queue.buffering.max.messages = 10\nkafka.linger.ms = 50\n",
                              topic));
    add_numbered(f, 0, 100);
    assert_int_equal(fake_write(f), 10);
    assert_int_equal(fake_unsettled(f), 10);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 100);
    check_order(cluster, topic, 100);
    fake_close(f);
}

static void test_fatal_error_means_a_new_producer(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("fatal");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE "kafka.linger.ms = 100\n", topic));
    add_numbered(f, 0, 100);
    assert_int_equal(fake_write(f), 100);
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
    f = fake_open("kafka_sink", FMS_SINK, cluster_ini(cluster, "topic = %s\n" THERE ONE_BY_ONE, topic));
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
    fake_close(f);
    f = fake_check("kafka_sink", FMS_SINK, "brokers = localhost:1\ntopic = t\n");
    assert_int_equal(fake_probe(f, 500 * FMS_MS), -EHOSTUNREACH);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_check_warns_of_traps),
        TEST(test_secrets_stay_secret),
        TEST(test_message_is_complete),
        TEST(test_absent_is_not_empty),
        TEST(test_confirmed_late),
        TEST(test_reports_are_gathered),
        TEST(test_reports_are_fetched_by_who_writes),
        TEST(test_confirmed_out_of_order),
        TEST(test_never_confirmed),
        TEST(test_outage_loses_nothing),
        TEST(test_retry_keeps_order),
        TEST(test_too_large_is_rejected),
        TEST(test_batch_refusal_finds_the_guilty),
        TEST(test_refusals_in_mid_stream_keep_order),
        TEST(test_topic_of_the_record),
        TEST(test_topic_of_the_pipeline_is_waited_for),
        TEST(test_missing_header_is_rejected),
        TEST(test_full_queue_pushes_back),
        TEST(test_fatal_error_means_a_new_producer),
        TEST(test_fatal_error_while_frozen),
        TEST(test_probe_reports),
        TEST(test_topic_is_created),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
