/* test_kafka_source.c - kafka_source through its table, against a mock cluster with faults, or a real Kafka: see
 * kafka_cluster.h. */
#include <errno.h>
#include <time.h>

#include "../plugins/kafka_common/kafka_common.h"
#include "../plugins/kafka_common/kafka_progress.h"
#include "../plugins/kafka_common/origin.h"
#include "kafka_cluster.h"

/* The mock cluster makes a group that has had members wait for a session's length. */
#define QUICK  "kafka.fetch.wait.max.ms = 10\nkafka.session.timeout.ms = 6000\nkafka.heartbeat.interval.ms = 200\n"
#define OFTEN  "commit_interval = 10ms\n"
#define RARELY "commit_interval = 1h\n"
#define STICKY "kafka.partition.assignment.strategy = cooperative-sticky\n"
#define LOGIN  "kafka.sasl.username = fleet\nkafka.sasl.password = word\n"

static void produce_numbered(struct cluster *cluster, const char *topic, int partition, int from, int to)
{
    char text[32];

    for (int i = from; i < to; i++) {
        snprintf(text, sizeof text, "%d", i);
        cluster_produce(cluster, topic, partition, text);
    }
}

/* As a vehicle does that was without a network for an hour: the records' own times are older than their arrival. */
static void produce_old(struct cluster *cluster, const char *topic, int partition, int from, int to)
{
    struct timespec time;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &time);
    for (int i = from; i < to; i++) {
        snprintf(text, sizeof text, "%d", i);
        cluster_produce_record(cluster, topic, partition, "key", text, NULL, (time.tv_sec - 3600) * INT64_C(1000));
    }
}

static struct fake *open_source(struct cluster *cluster, const char *topic, const char *group, const char *more)
{
    return fake_open(
        "kafka_source", FMS_SOURCE,
        cluster_ini(cluster, "topic = %s\ngroup = %s\nstart = earliest\n" THERE QUICK "%s", topic, group, more));
}

static bool is_bytes(struct fms_bytes bytes, const char *text)
{
    if (text == NULL || bytes.data == NULL)
        return text == NULL && bytes.data == NULL;
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

static int number_of(struct fake *f, size_t i)
{
    return atoi(fake_record(f, i)->payload.data);
}

/* Whether `group` commits this offset before long, with the source at work. */
static void check_committed(struct fake *f, struct cluster *cluster, const char *group, const char *topic,
                            int64_t offset)
{
    fake_until(f, cluster_committed(cluster, group, topic, 0) == offset);
}

/* ------------------------------------------------------------------------------------------------------------ check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct {
        const char *ini, *said;
    } cases[] = {
        {"brokers = a:1\ngroup = g\ntopic = fms data\n", "error: topic: \"fms data\" has other characters"},
        {"brokers = fleet:word@a:1\ngroup = g\ntopic = t\n", "error: brokers: must be host:port alone"},
        {"brokers = a:1\ngroup = g\ntopic = ^fms(\n", "error: topic: \"^fms(\" is no regular expression"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.group.id = x\n", "use the option group"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.enable.auto.commit = true\n", "only what is settled is committed"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.auto.offset.reset = error\n", "use the option start"},
        {"brokers = a:1\ngroup = g\ntopic = t\ngroup_instance_id =\n", "error: group_instance_id: \"\" is empty"},
        {"brokers = a:1\ngroup = g\ntopic = t\ngroup_instance_id = pod 1\n",
         "error: group_instance_id: \"pod 1\" has other characters"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.fetch.mni.bytes = 1\n",
         "error: kafka.fetch.mni.bytes: librdkafka"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.security.protocol = sasl_ssl\nkafka.sasl.mechanism = "
         "plain\n" LOGIN,
         "error: kafka.sasl.mechanism: \"plain\" is none of PLAIN, SCRAM-SHA-256"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.security.protocol = sasl_ssl\nkafka.sasl.mechanism = PLAIN\n",
         "sasl.username and sasl.password must be set"},
        {"brokers = a:1\ngroup = g\ntopic = t\nkafka.session.timeout.ms = 6000\nkafka.max.poll.interval.ms = 5000\n",
         "error: kafka.max.poll.interval.ms: librdkafka can't be started so: "},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = lates\n",
         "error: start: \"lates\" is none of latest, earliest, error"},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = -1\n", "error: start: \"-1\" is none of"},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = -2w\n", "error: start: \"-2w\" is none of"},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = 2026-11-28 10:00:00\n", "error: start: \"2026-11-28 10:00:00\""},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = 2026-11-28T10:00:00\n", "error: start: \"2026-11-28T10:00:00\""},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = 2026-13-28T10:00:00Z\n", "error: start: \"2026-13-28T10"},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = 2026-02-30T10:00:00Z\n", "error: start: \"2026-02-30T10"},
        {"brokers = a:1\ngroup = g\ntopic = t\nstart = 2026-11-28T10:00:00+1\n", "error: start: \"2026-11-28T10"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake *f = fake_check("kafka_source", FMS_SOURCE, cases[i].ini);

        assert_int_equal(fake_error(f), -EINVAL);
        if (fake_said(f, cases[i].said) == NULL)
            fail_msg("case %zu: not said: %s", i, cases[i].said);
        fake_close(f);
    }
}

static bool has_cooperative(void)
{
    return rd_kafka_version() >= 0x020a0000;
}

static void test_cooperative_needs_a_library_that_can(void **state)
{
    struct fake *f = fake_check("kafka_source", FMS_SOURCE,
                                "brokers = a:1\ngroup = g\ntopic = t\nstart = earliest\n" STICKY);

    (void)state;
    assert_int_equal(fake_error(f), has_cooperative() ? 0 : -EINVAL);
    assert_int_equal(fake_said(f, "\"cooperative-sticky\" needs librdkafka 2.10, and this is ") != NULL,
                     !has_cooperative());
    fake_close(f);
}

static void test_check_warns_of_latest(void **state)
{
    struct fake *f = fake_check("kafka_source", FMS_SOURCE, "brokers = a:1\ngroup = g\ntopic = t, ^fms-.*\n");

    (void)state;
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: start: with latest"));
    fake_close(f);
    f = fake_check("kafka_source", FMS_SOURCE, "brokers = a:1\ngroup = g\ntopic = t\nstart = earliest\n");
    assert_null(fake_said(f, "advice"));
    fake_close(f);
}

/* What is no error, but leaves a door open. */
static void test_check_warns_of_open_doors(void **state)
{
    static const struct {
        const char *ini, *said; /* NULL: nothing */
    } cases[] = {
        {"kafka.security.protocol = ssl\n", NULL},
        {"kafka.security.protocol = ssl\nkafka.enable.ssl.certificate.verification = false\n",
         "advice: kafka.enable.ssl.certificate.verification: whoever sits on the line can pose as a broker"},
        {"kafka.security.protocol = SASL_SSL\nkafka.ssl.endpoint.identification.algorithm = none\n",
         "advice: kafka.ssl.endpoint.identification.algorithm: whoever has a certificate"},
        {"kafka.enable.ssl.certificate.verification = false\n", NULL}, /* without TLS, it says nothing */
        {"kafka.security.protocol = sasl_plaintext\nkafka.sasl.mechanism = PLAIN\n" LOGIN,
         "advice: kafka.security.protocol: with PLAIN the password goes over the network in the clear"},
        {"kafka.security.protocol = sasl_plaintext\nkafka.sasl.mechanisms = SCRAM-SHA-256\n" LOGIN, NULL},
        {"kafka.security.protocol = sasl_ssl\nkafka.sasl.mechanisms = PLAIN\n" LOGIN, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char ini[512];
        struct fake *f;

        snprintf(ini, sizeof ini, "brokers = a:1\ngroup = g\ntopic = t\nstart = earliest\n%s", cases[i].ini);
        f = fake_check("kafka_source", FMS_SOURCE, ini);
        assert_int_equal(fake_error(f), 0);
        if (cases[i].said == NULL)
            assert_null(fake_said(f, "advice"));
        else
            assert_non_null(fake_said(f, cases[i].said));
        fake_close(f);
    }
}

/* ----------------------------------------------------------------------------------------------------------- intake */

static void test_record_is_complete(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("complete");
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    const struct fms_record *record;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    rd_kafka_header_add(headers, "trace", -1, "abc", 3);
    rd_kafka_header_add(headers, "absent", -1, NULL, 0);
    rd_kafka_header_add(headers, "empty", -1, "", 0);
    cluster_produce_record(cluster, topic, 0, "raspi-001", "{}", headers, INT64_C(1700000000123));
    cluster_produce_record(cluster, topic, 0, "gone", NULL, NULL, 0);
    cluster_produce_record(cluster, topic, 0, NULL, "no key", NULL, 0);
    cluster_produce_record(cluster, topic, 0, "", "", NULL, 0);
    f = open_source(cluster, topic, cluster_name("complete"), "");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 4);
    record = fake_record(f, 0);
    assert_true(is_bytes(record->topic, topic) && is_bytes(record->key, "raspi-001") &&
                is_bytes(record->payload, "{}"));
    assert_int_equal(record->timestamp, INT64_C(1700000000123) * FMS_MS);
    assert_int_equal(record->header_count, 3);
    assert_string_equal(record->headers[0].name, "trace");
    assert_true(is_bytes(record->headers[0].value, "abc") && is_bytes(record->headers[1].value, NULL) &&
                is_bytes(record->headers[2].value, ""));
    assert_true(is_bytes(fake_record(f, 1)->payload, NULL));
    assert_true(is_bytes(fake_record(f, 2)->key, NULL));
    assert_true(is_bytes(fake_record(f, 3)->key, "") && is_bytes(fake_record(f, 3)->payload, ""));
    fake_close(f);
    f = open_source(cluster, topic, cluster_name("bare"), "with_headers = no\n");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 4);
    assert_true(is_bytes(fake_record(f, 0)->payload, "{}"));
    assert_int_equal(fake_record(f, 0)->header_count, 0);
    fake_close(f);
}

/* What a record cannot be costs itself. */
static void test_more_headers_than_a_record_has_are_rejected(void **state)
{
    static const size_t counts[] = {1000, 1001, 5000, 0};
    struct cluster *cluster = *state;
    const char *topic = cluster_name("headers"), *group = cluster_name("headers");
    size_t count = sizeof counts / sizeof counts[0];
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_headers_t *headers = rd_kafka_headers_new(counts[i]);

        for (size_t k = 0; k < counts[i]; k++)
            rd_kafka_header_add(headers, "h", -1, "v", 1);
        cluster_produce_record(cluster, topic, 0, "key", "payload", headers, 0);
    }
    f = open_source(cluster, topic, group, OFTEN);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == count);
    for (size_t i = 0; i < count; i++) {
        bool is_rejected = counts[i] > 1000;

        assert_int_equal(fake_record(f, i)->header_count, is_rejected ? 0 : counts[i]);
        assert_true(is_bytes(fake_record(f, i)->key, "key") && is_bytes(fake_record(f, i)->payload, "payload"));
        assert_true((fake_rejected(f, i) != NULL) == is_rejected);
    }
    assert_non_null(strstr(fake_rejected(f, 1), "[0] at 1 has 1001 headers, and a record has 1000 at most"));
    check_committed(f, cluster, group, topic, (int64_t)count);
    fake_close(f);
    f = open_source(cluster, topic, cluster_name("bare"), "with_headers = no\n");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == count);
    assert_null(fake_rejected(f, 2));
    fake_close(f);
}

/* Producers may say any. */
static void test_time_beyond_nanoseconds_is_unknown(void **state)
{
    static const struct {
        int64_t said, is;
    } cases[] = {
        {INT64_MAX / FMS_MS, INT64_MAX / FMS_MS * FMS_MS}, {INT64_MAX / FMS_MS + 1, 0}, {INT64_MAX, 0}, {-5, 0}};
    struct cluster *cluster = *state;
    const char *topic = cluster_name("time");
    size_t count = sizeof cases / sizeof cases[0];
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster); /* a real one refuses them by default, and deletes what is that old */
    cluster_topic(cluster, topic, 1);
    for (size_t i = 0; i < count; i++)
        cluster_produce_record(cluster, topic, 0, "k", "{}", NULL, cases[i].said);
    f = open_source(cluster, topic, cluster_name("time"), "");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(fake_record(f, i)->timestamp, cases[i].is);
    fake_close(f);
}

static void test_latest_skips_and_earliest_does_not(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("start");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    f = fake_open("kafka_source", FMS_SOURCE,
                  cluster_ini(cluster, "topic = %s\ngroup = %s\n" THERE QUICK, topic, cluster_name("latest")));
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    produce_numbered(cluster, topic, 0, 3, 4);
    fake_until(f, fake_emitted(f) == 1);
    assert_int_equal(number_of(f, 0), 3);
    fake_close(f);
    f = open_source(cluster, topic, cluster_name("earliest"), "");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) >= 4);
    assert_int_equal(number_of(f, 0), 0);
    fake_close(f);
}

static void test_refused_is_kept(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("refused");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    f = open_source(cluster, topic, cluster_name("refused"), OFTEN);
    fake_capacity(f, 3);
    for (size_t n = 0; n < 20; n++) {
        fake_until(f, fake_emitted(f) > n);
        assert_true(fake_in_flight(f) <= 3);
        assert_int_equal(number_of(f, n), n);
        fake_settle(f, n, FMS_DELIVERED);
    }
    assert_int_equal(fake_emitted(f), 20);
    fake_close(f);
}

/* Blocked for longer, the source pauses its partitions and serves the group, and nothing is lost or doubled by that. */
static void test_long_blocked_is_paused(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("paused");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 50);
    f = open_source(cluster, topic, cluster_name("paused"), "kafka.debug = topic\n");
    fake_clock_set(f, FMS_SECOND, FMS_SECOND);
    fake_capacity(f, 8);
    fake_until(f, fake_emitted(f) == 8);
    for (size_t round = 0; round < 3; round++) {
        size_t n = fake_emitted(f);

        fake_poll(f, 0);
        assert_null(fake_said(f, "Application pausing"));
        fake_clock_step(f, 2 * FMS_SECOND);
        fake_poll(f, 0);
        assert_non_null(fake_said(f, "Application pausing"));
        fake_settle(f, n - 1, FMS_DELIVERED); /* room for one is too little to resume */
        fake_poll(f, 1);
        assert_null(fake_said(f, "Application resuming"));
        fake_settle_all(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) == n + 8);
        assert_non_null(fake_said(f, "Application resuming"));
        fake_forget(f);
    }
    fake_settle_auto(f, FMS_DELIVERED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 50);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(number_of(f, i), i);
    fake_close(f);
}

/* One record that is never settled holds the offset, and in the end the partition, but not memory without bound. */
static void test_stuck_record_stops_its_partition(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stuck"), *group = cluster_name("stuck");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 40);
    f = open_source(cluster, topic, group, OFTEN);
    fake_capacity(f, 4);
    for (size_t i = 1; i < 16; i++) {
        fake_until(f, fake_emitted(f) > i);
        fake_settle(f, i, FMS_DELIVERED);
    }
    assert_int_equal(fake_in_flight(f), 1);
    for (int i = 0; i < 10; i++)
        fake_poll(f, 3);
    assert_int_equal(fake_emitted(f), 16);
    fake_settle(f, 0, FMS_DELIVERED);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 40);
    check_committed(f, cluster, group, topic, 40);
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------- commits */

static void test_settled_out_of_order(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("disorder"), *group = cluster_name("disorder");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 6);
    f = open_source(cluster, topic, group, OFTEN);
    fake_until(f, fake_emitted(f) == 6);
    fake_settle(f, 0, FMS_DELIVERED);
    fake_settle(f, 2, FMS_DELIVERED);
    fake_settle(f, 4, FMS_REJECTED);
    check_committed(f, cluster, group, topic, 1);
    fake_settle(f, 1, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 3);
    fake_settle(f, 3, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 5);
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 5);
    f = open_source(cluster, topic, group, OFTEN);
    fake_until(f, fake_emitted(f) == 1);
    assert_int_equal(number_of(f, 0), 5);
    fake_close(f);
}

static void test_stopped_with_records_in_flight(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stopped"), *group = cluster_name("stopped");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 10);
    f = open_source(cluster, topic, group, RARELY);
    fake_capacity(f, 5);
    fake_until(f, fake_emitted(f) == 5);
    fake_settle(f, 0, FMS_DELIVERED);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_settle(f, 2, FMS_DELIVERED);
    fake_settle(f, 1, FMS_DELIVERED);
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 3);
}

static void test_failed_commit_is_made_up_for(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("commit"), *group = cluster_name("commit");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    f = open_source(cluster, topic, group, OFTEN);
    fake_until(f, fake_emitted(f) == 3);
    rd_kafka_mock_push_request_errors(cluster->mock, API_OFFSET_COMMIT, 2, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_counter(f, "commit_errors") == 2);
    assert_non_null(fake_said(f, "not committed, goes along with the next commit"));
    check_committed(f, cluster, group, topic, 3);
    fake_close(f);
}

/* -------------------------------------------------------------------------------------------------------- rebalance */

static size_t drains;

/* Settles every second record of what is in flight, as a pipeline with a slow sink would. */
static void settle_some(struct fake *f, int64_t deadline, void *user)
{
    (void)deadline;
    (void)user;
    if (drains++ > 0)
        return; /* the cluster may rebalance once more */
    for (size_t i = 0; i < 2; i++)
        fake_settle(f, i, FMS_DELIVERED);
}

static void turn_both(struct fake *one, struct fake *other)
{
    fake_poll(one, 256);
    if (other != NULL)
        fake_poll(other, 256);
    fake_wait(one, 20 * FMS_MS);
}

#define UNTIL_BOTH(one, other, condition)                                                                              \
    do {                                                                                                               \
        int64_t until_ = fake_realclock() + FAKE_PATIENCE;                                                             \
        while (!(condition) && fake_realclock() < until_)                                                              \
            turn_both(one, other);                                                                                     \
        assert_true(condition);                                                                                        \
    } while (0)

static void test_rebalance_settles_and_commits_first(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("rebalance"), *group = cluster_name("rebalance");
    struct fake *one, *other;
    bool is_back; /* the first member has the partition again */
    size_t first; /* the offset at which it is read again */

    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 0, 4);
    one = open_source(cluster, topic, group, RARELY);
    drains = 0;
    fake_on_drain(one, settle_some, NULL);
    fake_until(one, fake_emitted(one) == 4);
    other = open_source(cluster, topic, group, OFTEN);
    fake_settle_auto(other, FMS_DELIVERED);
    UNTIL_BOTH(one, other, fake_said(other, "1 partition assigned") != NULL);
    assert_true(drains >= 1);
    assert_non_null(fake_said(one, "in flight when their partitions were revoked, which others may read again: 2;"));
    first = cluster->mock == NULL ? 2 : 0; /* the mock cluster, unlike Kafka, takes no commit in a rebalance */
    /* On a busy machine the cluster may rebalance again, and one member may have it several times. */
    UNTIL_BOTH(one, other, fake_emitted(one) >= 8 - first || fake_emitted(other) >= 4 - first);
    is_back = fake_emitted(other) == 0;
    assert_int_equal(number_of(is_back ? one : other, is_back ? 4 : 0), first);
    /* What was in flight then belongs to nobody here: the offset is the new owner's. */
    fake_settle(one, 3, FMS_DELIVERED);
    fake_settle(one, 2, FMS_DELIVERED);
    fake_close(is_back ? other : one);
    if (!is_back) /* alone it settles all */
        check_committed(other, cluster, group, topic, 4);
    fake_close(is_back ? one : other);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), is_back ? first : 4);
}

/* What stays with a member is neither read again nor forgotten when something goes. */
static void test_cooperative_keeps_what_stays(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stays"), *group = cluster_name("stays");
    struct fake *one, *other;

    if (!has_cooperative())
        skip();
    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 0, 4);
    produce_numbered(cluster, topic, 1, 0, 4);
    one = open_source(cluster, topic, group, STICKY OFTEN "revoke_timeout = 100ms\n");
    fake_until(one, fake_emitted(one) == 8);
    other = open_source(cluster, topic, group, STICKY OFTEN);
    fake_settle_auto(other, FMS_DELIVERED);
    UNTIL_BOTH(one, other, fake_emitted(other) == 4);
    assert_non_null(fake_said(one, "in flight when their partitions were revoked, which others may read again: 4;"));
    fake_settle_all(one, FMS_DELIVERED); /* of these, four are the other's */
    produce_numbered(cluster, topic, 0, 4, 5);
    produce_numbered(cluster, topic, 1, 4, 5);
    fake_settle_auto(one, FMS_DELIVERED);
    UNTIL_BOTH(one, other, fake_emitted(one) == 9 && fake_emitted(other) == 5);
    assert_int_equal(number_of(one, 8), 4);
    UNTIL_BOTH(one, other,
               cluster_committed(cluster, group, topic, 0) == 5 && cluster_committed(cluster, group, topic, 1) == 5);
    fake_close(other);
    fake_close(one);
}

static double lag_of(struct fake *f)
{
    fake_measure(f);
    return fake_gauge(f, "lag_records");
}

static void test_lag_is_exact(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("lag"), *group = cluster_name("lag");
    struct fake *one, *other;

    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 0, 10);
    produce_numbered(cluster, topic, 1, 10, 13);
    one = open_source(cluster, topic, group, OFTEN);
    fake_until(one, fake_emitted(one) == 13);
    assert_true(lag_of(one) == 13 && fake_gauge(one, "lag_records_max") == 10);
    assert_true(fake_gauge(one, "assigned_partitions") == 2);
    for (size_t i = 0; i < 13; i++) {
        if (number_of(one, i) < 4 || number_of(one, i) > 10)
            fake_settle(one, i, FMS_DELIVERED);
    }
    assert_true(lag_of(one) == 6 + 3); /* of the other partition, the first is not settled */
    fake_settle_all(one, FMS_DELIVERED);
    assert_true(lag_of(one) == 0);
    produce_numbered(cluster, topic, 0, 13, 15);
    fake_until(one, lag_of(one) == 2);
    check_committed(one, cluster, group, topic, 10);
    other = open_source(cluster, topic, group, OFTEN);
    fake_settle_auto(other, FMS_DELIVERED);
    UNTIL_BOTH(one, other, fake_said(other, "1 partition assigned") != NULL);
    UNTIL_BOTH(one, other, lag_of(one) >= 0 && fake_gauge(one, "assigned_partitions") == 1);
    fake_settle_auto(one, FMS_DELIVERED);
    fake_settle_all(one, FMS_DELIVERED);
    UNTIL_BOTH(one, other, lag_of(one) == 0 && lag_of(other) == 0);
    fake_close(other);
    fake_close(one);
}

/* The group's coordinator has a connection of its own, and is no further broker. */
static void test_brokers_are_counted_once(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("counted");
    uint64_t received;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    f = cluster_open_watched("kafka_source", FMS_SOURCE,
                             cluster_ini(cluster, "topic = %s\ngroup = %s\nkafka.statistics.interval.ms = 100\n", topic,
                                         cluster_name("counted")));
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    received = fake_counter(f, "received_bytes");
    fake_until(f, fake_counter(f, "received_bytes") > received);
    assert_true(fake_gauge(f, "brokers") == 2 && fake_gauge(f, "brokers_up") <= 2);
    assert_true(fake_link_is_up(f));
    fake_close(f);
}

/* Nothing is fetched then, so the ends of the logs are asked for. */
static void test_lag_grows_while_paused(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("behind");
    struct fake *f;

    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 0, 10);
    f = cluster_open_watched("kafka_source", FMS_SOURCE,
                             cluster_ini(cluster,
                                         "topic = %s\ngroup = %s\nstart = earliest\nkafka.debug = topic\n" THERE QUICK,
                                         topic, topic));
    fake_capacity(f, 4);
    fake_until(f, fake_emitted(f) == 4);
    fake_until(f, fake_said(f, "Application pausing") != NULL);
    produce_numbered(cluster, topic, 0, 10, 30);
    produce_numbered(cluster, topic, 1, 30, 35);
    fake_until(f, lag_of(f) == 35);
    assert_true(fake_gauge(f, "lag_records_max") == 30);
    assert_int_equal(fake_emitted(f), 4);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 35 && lag_of(f) == 0);
    fake_close(f);
}

static void test_partitions_that_are_gone_have_no_lag(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("gone"), *group = cluster_name("gone");
    struct fake *one, *other;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 5);
    one = open_source(cluster, topic, group, "revoke_timeout = 0\n" OFTEN);
    fake_until(one, fake_emitted(one) == 5);
    assert_true(lag_of(one) == 5);
    other = open_source(cluster, topic, group, OFTEN);
    /* Whichever of the two has it, the other has nothing of it. */
    UNTIL_BOTH(one, other,
               fake_said(one, " 0 partitions assigned") != NULL || fake_said(other, " 0 partitions assigned") != NULL);
    UNTIL_BOTH(one, other,
               lag_of(one) + lag_of(other) == 5 &&
                   fake_gauge(one, "assigned_partitions") + fake_gauge(other, "assigned_partitions") == 1);
    assert_true(lag_of(one) == 0 || lag_of(other) == 0);
    fake_close(other);
    fake_close(one);
}

/* -------------------------------------------------------------------------------------------------- where it begins */

#define REFRESH "kafka.topic.metadata.refresh.interval.ms = 2000\n" /* see test_late_topic_is_found */

static struct fake *open_start(struct cluster *cluster, const char *topic, const char *group, const char *start)
{
    struct fake *f = fake_open(
        "kafka_source", FMS_SOURCE,
        cluster_ini(cluster, "topic = %s\ngroup = %s\nstart = %s\n" THERE QUICK OFTEN REFRESH, topic, group, start));

    fake_settle_auto(f, FMS_DELIVERED);
    return f;
}

/* Whether these numbers came, each once and in order, from that topic; others are passed over. */
static bool has_come(struct fake *f, const char *topic, int from, int to)
{
    int next = from;

    for (size_t i = 0; i < fake_emitted(f); i++) {
        int number = number_of(f, i);

        if (is_bytes(fake_record(f, i)->topic, topic) && number >= from && number < to && number != next++)
            return false;
    }
    return next == to;
}

/* Turns a while longer: nothing more comes than that. */
static void check_no_more(struct fake *f, size_t emitted)
{
    for (int i = 0; i < 20; i++) {
        fake_poll(f, 256);
        fake_wait(f, 20 * FMS_MS);
    }
    assert_int_equal(fake_emitted(f), emitted);
}

static void test_added_partition_begins_at_its_beginning(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("grows"), *group = cluster_name("grows");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 5);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    produce_numbered(cluster, topic, 0, 5, 25);
    cluster_grow(cluster, topic, 2);
    produce_numbered(cluster, topic, 1, 25, 45);
    fake_until(f, fake_emitted(f) >= 40);
    assert_true(has_come(f, topic, 5, 25) && has_come(f, topic, 25, 45));
    assert_non_null(fake_said(f, "[1] was not there when the group began: begins at the beginning; offsets in it: "));
    assert_int_equal(fake_emitted(f), 40);
    fake_close(f);
    /* And while nobody looks. */
    cluster_grow(cluster, topic, 3);
    produce_old(cluster, topic, 2, 45, 55);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_emitted(f) >= 10);
    assert_true(has_come(f, topic, 45, 55));
    check_no_more(f, 10);
    fake_close(f);
}

static void test_topic_found_later_begins_at_its_beginning(void **state)
{
    struct cluster *cluster = *state;
    const char *prefix = cluster_name("found"), *group = cluster_name("found");
    char pattern[80], topics[3][80];
    struct fake *f;

    snprintf(pattern, sizeof pattern, "^%s-.*", prefix);
    for (int i = 0; i < 3; i++)
        snprintf(topics[i], sizeof topics[i], "%s-%d", prefix, i);
    cluster_topic(cluster, topics[0], 1);
    produce_numbered(cluster, topics[0], 0, 0, 5);
    f = open_start(cluster, pattern, group, "latest");
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    cluster_topic(cluster, topics[1], 1);
    produce_old(cluster, topics[1], 0, 5, 25);
    fake_until(f, fake_emitted(f) >= 20);
    assert_true(has_come(f, topics[1], 5, 25));
    fake_close(f);
    cluster_topic(cluster, topics[2], 1);
    produce_old(cluster, topics[2], 0, 25, 30);
    f = open_start(cluster, pattern, group, "latest");
    fake_until(f, fake_emitted(f) >= 5);
    assert_true(has_come(f, topics[2], 25, 30));
    check_no_more(f, 5);
    fake_close(f);
}

/* A topic that was named but not there, and one that was there but not named. */
static void test_listed_topic_begins_at_its_beginning(void **state)
{
    struct cluster *cluster = *state;
    const char *first = cluster_name("first"), *made = cluster_name("made"), *named = cluster_name("named");
    const char *group = cluster_name("listed");
    char list[256];
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster); /* the mock cluster makes each topic that is asked for */
    cluster_topic(cluster, first, 1);
    cluster_topic(cluster, named, 1);
    produce_old(cluster, named, 0, 10, 15);
    snprintf(list, sizeof list, "%s, %s", first, made);
    f = open_start(cluster, list, group, "latest");
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    fake_close(f);
    cluster_topic(cluster, made, 1);
    produce_old(cluster, made, 0, 0, 5);
    f = open_start(cluster, list, group, "latest");
    fake_until(f, fake_emitted(f) >= 5);
    assert_true(has_come(f, made, 0, 5));
    fake_close(f);
    snprintf(list, sizeof list, "%s, %s, %s", first, made, named);
    f = open_start(cluster, list, group, "latest");
    fake_until(f, fake_emitted(f) >= 5);
    assert_true(has_come(f, named, 10, 15));
    check_no_more(f, 5);
    fake_close(f);
}

/* How many of the numbers from 0 on have come to one of two members, or to both. */
static size_t count_come(struct fake *const members[2], size_t most)
{
    bool has[64] = {false};
    size_t count = 0;

    for (size_t m = 0; m < 2; m++) {
        for (size_t i = 0; i < fake_emitted(members[m]); i++) {
            int number = number_of(members[m], i);

            assert_true(number >= 0 && (size_t)number < most);
            count += !has[number];
            has[number] = true;
        }
    }
    return count;
}

/* A member that comes a moment after a topic has seen it from the first: it was not there for the group all the same. */
static void test_second_member_finds_a_later_topic(void **state)
{
    struct cluster *cluster = *state;
    const char *prefix = cluster_name("second"), *group = cluster_name("second");
    char pattern[80], topics[2][80];
    struct fake *members[2];

    snprintf(pattern, sizeof pattern, "^%s-.*", prefix);
    for (int i = 0; i < 2; i++)
        snprintf(topics[i], sizeof topics[i], "%s-%d", prefix, i);
    cluster_topic(cluster, topics[0], 1);
    members[0] = open_start(cluster, pattern, group, "latest");
    fake_until(members[0], fake_said(members[0], "1 partition assigned") != NULL);
    cluster_topic(cluster, topics[1], 2);
    for (int i = 0; i < 2; i++)
        produce_old(cluster, topics[1], i, i * 10, i * 10 + 10);
    members[1] = open_start(cluster, pattern, group, "latest");
    UNTIL_BOTH(members[0], members[1], count_come(members, 20) == 20);
    fake_close(members[0]);
    fake_close(members[1]);
}

/* The metadata of an offset; the caller frees it. */
static char *note_in(struct cluster *cluster, const char *group, const char *topic)
{
    rd_kafka_t *rk = cluster_client(cluster->brokers, RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    char *note;

    rd_kafka_topic_partition_list_add(list, topic, 0);
    assert_int_equal(rd_kafka_committed(rk, list, 20000), 0);
    assert_non_null(list->elems[0].metadata);
    note = strndup(list->elems[0].metadata, list->elems[0].metadata_size);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return note;
}

/* A member has committed where it began, another died before it had: its topic was there from the first, as long as the topics
 * are those that the first one has noted. */
static void test_note_vouches_for_other_topics(void **state)
{
    struct cluster *cluster = *state;
    const char *prefix = cluster_name("vouch"), *whole = cluster_name("whole");
    char pattern[80], topics[3][80], *note;
    struct fake *f;

    snprintf(pattern, sizeof pattern, "^%s-.*", prefix);
    for (int i = 0; i < 3; i++)
        snprintf(topics[i], sizeof topics[i], "%s-%d", prefix, i);
    cluster_topic(cluster, topics[0], 1);
    cluster_topic(cluster, topics[1], 1);
    produce_old(cluster, topics[1], 0, 0, 5);
    f = open_start(cluster, pattern, whole, "latest");
    fake_until(f, fake_said(f, "2 partitions assigned") != NULL);
    fake_close(f);
    note = note_in(cluster, whole, topics[0]);
    for (int i = 0; i < 2; i++) {
        const char *group = cluster_name("half");

        cluster_commit(cluster, group, topics[0], 0, 0, note);
        if (i == 1)
            cluster_topic(cluster, topics[2], 1);
        f = open_start(cluster, pattern, group, "latest");
        fake_until(f, fake_said(f, i == 0 ? "2 partitions assigned" : "3 partitions assigned") != NULL);
        fake_until(f, fake_emitted(f) >= (i == 0 ? 0 : 5));
        check_no_more(f, i == 0 ? 0 : 5);
        fake_close(f);
    }
    free(note);
}

/* The group begins before the first topic is there. */
static void test_first_topic_begins_at_its_beginning(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("first");
    char pattern[80];
    struct fake *f;

    snprintf(pattern, sizeof pattern, "^%s.*", topic);
    f = open_start(cluster, pattern, cluster_name("first"), "latest");
    fake_until(f, fake_said(f, "waiting for a topic: ") != NULL);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    fake_until(f, fake_emitted(f) >= 20);
    assert_true(has_come(f, topic, 0, 20));
    fake_close(f);
}

/* Nobody knows of its first run: what latest skips then is told aloud, and earliest skips nothing. */
static void test_first_topic_made_while_stopped(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("unseen"), *latest = cluster_name("latest"), *earliest = cluster_name("earliest");
    char pattern[80];
    struct fake *f;

    snprintf(pattern, sizeof pattern, "^%s.*", topic);
    f = open_start(cluster, pattern, latest, "latest");
    fake_until(f, fake_said(f, "waiting for a topic: ") != NULL);
    fake_close(f);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    f = open_start(cluster, pattern, latest, "latest");
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    assert_non_null(fake_said(f, "warning: group "));
    assert_non_null(fake_said(f, "as start = latest says: offsets skipped before that: 20"));
    fake_close(f);
    f = open_start(cluster, pattern, earliest, "earliest");
    fake_until(f, fake_emitted(f) >= 20);
    assert_true(has_come(f, topic, 0, 20));
    assert_null(fake_said(f, "warning: group "));
    fake_close(f);
}

/* Kafka forgets a group's offsets with their topic; the recipe for what must lose nothing is earliest. */
static void test_topic_is_made_anew_while_stopped(void **state)
{
    static const char *const starts[] = {"latest", "earliest"};
    struct cluster *cluster = *state;

    CLUSTER_NEEDS_REAL(cluster);
    for (size_t i = 0; i < 2; i++) {
        const char *topic = cluster_name(starts[i]), *group = cluster_name("again");
        int64_t until = fake_realclock() + FAKE_PATIENCE;
        struct fake *f;

        cluster_topic(cluster, topic, 1);
        f = open_start(cluster, topic, group, starts[i]);
        fake_until(f, fake_said(f, "1 partition assigned") != NULL);
        fake_close(f);
        cluster_delete(cluster, topic);
        cluster_topic(cluster, topic, 1);
        while (cluster_committed(cluster, group, topic, 0) >= 0)
            assert_true(fake_realclock() < until);
        produce_numbered(cluster, topic, 0, 0, 20);
        f = open_start(cluster, topic, group, starts[i]);
        fake_until(f, fake_said(f, "1 partition assigned") != NULL);
        if (i == 0)
            assert_non_null(fake_said(f, "as start = latest says: offsets skipped before that: 20"));
        else
            fake_until(f, fake_emitted(f) >= 20);
        assert_true(has_come(f, topic, 0, i == 0 ? 0 : 20));
        fake_close(f);
    }
}

static void test_group_without_a_message_knows_where_it_was(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("none"), *group = cluster_name("none");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    assert_non_null(fake_said(f, "is new, and begins in "));
    assert_non_null(fake_said(f, "as start = latest says: offsets skipped before that: 3"));
    assert_non_null(fake_said(f, "warning: group "));
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 3);
    produce_numbered(cluster, topic, 0, 3, 5);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_emitted(f) >= 2);
    assert_true(has_come(f, topic, 3, 5));
    fake_close(f);
}

/* Nothing is consumed before it is committed where the group has begun. */
static void test_beginning_is_committed_first(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("begin"), *group = cluster_name("begin");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    rd_kafka_mock_push_request_errors(cluster->mock, API_OFFSET_COMMIT, 2, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    f = open_start(cluster, topic, group, "earliest");
    fake_until(f, fake_said(f, "where to begin is not known yet, trying again: the commit of where it begins") != NULL);
    assert_int_equal(fake_emitted(f), 0);
    fake_until(f, fake_emitted(f) == 3);
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 3);
}

/* What stands in the commits of those that started first decides for those that start with them, and later. */
static void test_members_agree_where_the_group_began(void **state)
{
    static const struct {
        int64_t age; /* of the group, in ms */
        bool is_noted;
        int skipped; /* of the three partitions, beginning with the second: the first has an offset */
        const char *start;
    } cases[] = {{1000, true, 1, "latest"},
                 {INT64_C(86400000), true, 0, "latest"},
                 {0, false, 0, "latest"},
                 {0, false, 0, "error"}};
    struct cluster *cluster = *state;
    struct timespec time;
    int64_t now;

    clock_gettime(CLOCK_REALTIME, &time);
    now = time.tv_sec * INT64_C(1000);
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        const char *topic = cluster_name("agree"), *group = cluster_name("agree");
        char note[80], number[16];
        struct fake *f;

        cluster_topic(cluster, topic, 3);
        for (int i = 0; i < 12; i++) {
            snprintf(number, sizeof number, "%d", i);
            cluster_produce_record(cluster, topic, i / 4, "key", number, NULL, now - 3600000);
        }
        snprintf(note, sizeof note, "fmspipe first=%lld partitions=2", (long long)(now - cases[n].age));
        cluster_commit(cluster, group, topic, 0, 3, cases[n].is_noted ? note : NULL);
        f = open_start(cluster, topic, group, cases[n].start);
        fake_until(f, fake_emitted(f) >= (cases[n].skipped == 1 ? 5 : 9));
        assert_true(has_come(f, topic, 3, 4) && has_come(f, topic, 8, 12));
        assert_true(has_come(f, topic, 4, 8) == (cases[n].skipped == 0));
        check_no_more(f, cases[n].skipped == 1 ? 5 : 9);
        fake_close(f);
    }
}

static void test_members_start_together(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("together"), *group = cluster_name("together");
    struct fake *members[2];

    cluster_topic(cluster, topic, 4);
    for (int i = 0; i < 4; i++)
        produce_numbered(cluster, topic, i, 1000, 1005);
    members[0] = open_start(cluster, topic, group, "latest");
    members[1] = open_start(cluster, topic, group, "latest");
    UNTIL_BOTH(members[0], members[1],
               fake_said(members[0], "2 partitions assigned") && fake_said(members[1], "2 partitions assigned"));
    for (int i = 0; i < 4; i++)
        produce_numbered(cluster, topic, i, i * 10, i * 10 + 10);
    UNTIL_BOTH(members[0], members[1], count_come(members, 40) == 40); /* and no more: the past is skipped */
    fake_close(members[0]);
    fake_close(members[1]);
}

static void test_offset_below_the_log_goes_on_at_its_start(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("trimmed"), *group = cluster_name("trimmed");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    cluster_commit(cluster, group, topic, 0, 5, NULL);
    cluster_trim(cluster, topic, 0, 12);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_emitted(f) >= 8);
    assert_true(has_come(f, topic, 12, 20));
    assert_non_null(fake_said(f, "before they were read: 7; the log"));
    assert_non_null(fake_said(f, "the log was at 5, and begins at 12 now"));
    assert_int_equal(fake_counter(f, "gone_offsets"), 7);
    check_committed(f, cluster, group, topic, 20);
    fake_close(f);
}

/* Retention passes a slow consumer; of its other partition nothing is lost or doubled by that. */
static void test_log_is_trimmed_under_a_slow_consumer(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("slow"), *group = cluster_name("slow");
    size_t low = 0;
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 0, 40);
    produce_numbered(cluster, topic, 1, 40, 80);
    f = open_source(cluster, topic, group,
                    OFTEN
                    "kafka.queued.min.messages = 8\nkafka.fetch.message.max.bytes = 100\nkafka.fetch.max.bytes = 1000\n"
                    "kafka.message.max.bytes = 1000\n");
    fake_capacity(f, 8);
    fake_until(f, fake_emitted(f) == 8);
    cluster_trim(cluster, topic, 0, 35);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f,
               fake_said(f, "offsets gone from ") != NULL && has_come(f, topic, 35, 40) && has_come(f, topic, 40, 80));
    for (size_t i = 0; i < fake_emitted(f); i++)
        low += number_of(f, i) < 35;
    assert_int_equal(low + fake_counter(f, "gone_offsets"), 35);
    check_committed(f, cluster, group, topic, 40);
    fake_close(f);
}

/* A topic made anew: the group's offset is of the old one. */
static void test_offset_above_the_log_begins_anew(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("anew"), *group = cluster_name("anew");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    cluster_commit(cluster, group, topic, 0, 500, NULL);
    f = open_start(cluster, topic, group, "latest");
    fake_until(f, fake_emitted(f) >= 20);
    assert_true(has_come(f, topic, 0, 20));
    assert_non_null(fake_said(f, "it ends at 20, below the group's offset 500; going on at its beginning"));
    assert_int_equal(fake_counter(f, "rewinds"), 1);
    check_committed(f, cluster, group, topic, 20);
    fake_close(f);
}

/* What is in flight from the old topic is settled when the group is at work on the new one. */
static void test_topic_is_made_anew_under_a_consumer(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("renewed"), *group = cluster_name("renewed");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 20);
    f = open_source(cluster, topic, group, OFTEN REFRESH);
    fake_until(f, fake_emitted(f) == 20);
    cluster_delete(cluster, topic);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 20, 25);
    fake_until(f, fake_emitted(f) == 25);
    assert_true(has_come(f, topic, 20, 25));
    for (size_t i = 0; i < 19; i++)
        fake_settle(f, i, FMS_DELIVERED);
    check_no_more(f, 25);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 0);
    for (size_t i = 19; i < 25; i++)
        fake_settle(f, i, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 5);
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

/* In a pipeline whose sink asks for them. */
static struct fake *open_numbered(struct cluster *cluster, const char *topic, const char *group)
{
    struct fake *f = fake_check(
        "kafka_source", FMS_SOURCE,
        cluster_ini(cluster, "topic = %s\ngroup = %s\nstart = earliest\n" THERE QUICK OFTEN REFRESH, topic, group));

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

static const char *origin_of(struct fake *f, size_t i)
{
    return fake_record(f, i)->identity->origin.data;
}

/* Whether record i has that offset as its number, so many behind the one before it. */
static void check_number(struct fake *f, size_t i, uint64_t sequence, uint64_t skipped)
{
    const struct fms_identity *identity = fake_record(f, i)->identity;

    assert_int_equal(identity->kind, FMS_NUMBERED);
    assert_int_equal(identity->sequence, sequence);
    assert_int_equal(identity->skipped, skipped);
}

/* How far it would be, for a sink that commits it with records; and what was in flight when its partition went is another's. */
static void test_progress_is_told(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("progress"), *group = cluster_name("progress");
    const struct kafka_progress *progress;
    struct fms_bytes bytes;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 6);
    f = open_numbered(cluster, topic, group);
    fake_until(f, fake_emitted(f) == 6);
    fake_settle(f, 0, FMS_DELIVERED);
    assert_int_equal(fake_progress(f, 1, 2, &bytes), 0);
    progress = kafka_progress_of(bytes);
    assert_non_null(progress);
    assert_int_equal(progress->offsets->cnt, 1);
    assert_string_equal(progress->offsets->elems[0].topic, topic);
    assert_int_equal(progress->offsets->elems[0].offset, 3);
    assert_true(progress->group.size > 0);
    check_committed(f, cluster, group, topic, 1);
    assert_int_equal(fake_progress(f, 4, 1, &bytes), 0); /* 1 to 3 are in nobody's transaction yet */
    assert_int_equal(kafka_progress_of(bytes)->offsets->cnt, 0);
    assert_int_equal(fake_progress(f, 1, 5, &bytes), 0);
    assert_int_equal(kafka_progress_of(bytes)->offsets->elems[0].offset, 6);
    assert_true(fake_owns(f, 3));
    fake_settle(f, 1, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 2); /* nobody has taken it along */
    assert_int_equal(fake_progress(f, 2, 2, &bytes), 0);
    *kafka_progress_of(bytes)->is_taken = true;
    fake_settle(f, 2, FMS_DELIVERED);
    for (int64_t until = fake_realclock() + FMS_SECOND; fake_realclock() < until; fake_wait(f, 50 * FMS_MS))
        fake_poll(f, 0);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 2); /* that sink commits, with what is in flight */
    for (size_t i = 3; i < 6; i++)
        fake_settle(f, i, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 6); /* with nothing in flight nobody else does */
    fake_close(f);
}

static void test_offsets_are_numbers(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("numbers"), *group = cluster_name("numbers");
    struct kafka_origin origin;
    char was[KAFKA_ORIGIN_TEXT];
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 5);
    f = open_numbered(cluster, topic, group);
    fake_until(f, fake_emitted(f) == 5);
    for (size_t i = 0; i < 5; i++)
        check_number(f, i, i, 0);
    assert_true(kafka_origin_read(fake_record(f, 4)->identity->origin, &origin));
    assert_true(is_bytes(origin.topic, topic) && origin.partition == 0 && origin.word != 0 && origin.cluster.size > 0);
    snprintf(was, sizeof was, "%s", origin_of(f, 4));
    for (size_t i = 0; i < 3; i++)
        fake_settle(f, i, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 3);
    fake_close(f);
    f = open_numbered(cluster, topic, group);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 2);
    check_number(f, 0, 3, 0);
    assert_string_equal(origin_of(f, 0), was);
    fake_close(f);
}

/* Who wants to have records once more gets them: by another group, or where the group's offset was set, as tools do it. But by
 * one word, though nothing of them was settled. */
static void test_what_is_read_anew_has_another_origin(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("twice"), *groups[] = {cluster_name("one"), cluster_name("two")};
    char origins[3][KAFKA_ORIGIN_TEXT];

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 2);
    cluster_commit(cluster, groups[1], topic, 0, 0, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct fake *f = open_numbered(cluster, topic, groups[i > 0]);

        fake_until(f, fake_emitted(f) == 2);
        check_number(f, 1, 1, 0);
        snprintf(origins[i], sizeof origins[i], "%s", origin_of(f, 1));
        fake_close(f);
    }
    assert_string_not_equal(origins[1], origins[0]);
    assert_string_equal(origins[2], origins[1]);
}

/* The group's word for a log is a part of its origin, until the log begins anew, with the same offsets for other records. */
static void test_log_that_begins_anew_has_another_origin(void **state)
{
    static const int64_t offsets[] = {1, 500};
    struct cluster *cluster = *state;
    const char *topic = cluster_name("other");

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    for (size_t i = 0; i < 2; i++) {
        const char *group = cluster_name("other");
        struct kafka_origin origin;
        struct fake *f;

        cluster_commit(cluster, group, topic, 0, offsets[i],
                       "fmspipe first=1700000000000 partitions=1 topics=0000000000000001 word=00000000000000ab");
        f = open_numbered(cluster, topic, group);
        fake_settle_auto(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) == (i == 0 ? 2 : 3));
        check_number(f, 0, i == 0 ? 1 : 0, 0);
        assert_true(kafka_origin_read(fake_record(f, 0)->identity->origin, &origin));
        assert_int_equal(origin.word == 0xab, i == 0);
        assert_int_not_equal(origin.word, 0);
        check_committed(f, cluster, group, topic, 3);
        fake_close(f);
    }
}

/* Kafka deletes the word with the topic; tools commit offsets without one. */
static void test_word_goes_with_the_offset(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("word"), *group = cluster_name("word");
    char origins[3][KAFKA_ORIGIN_TEXT];

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    for (size_t i = 0; i < 3; i++) {
        int64_t until = fake_realclock() + FAKE_PATIENCE;
        struct fake *f;

        if (i == 1) {
            cluster_delete(cluster, topic);
            cluster_topic(cluster, topic, 1);
            while (cluster_committed(cluster, group, topic, 0) >= 0)
                assert_true(fake_realclock() < until);
        }
        if (i < 2)
            produce_numbered(cluster, topic, 0, 0, 3);
        else
            cluster_commit(cluster, group, topic, 0, 0, NULL);
        f = open_numbered(cluster, topic, group);
        fake_settle_auto(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) == 3);
        check_number(f, 2, 2, 0);
        snprintf(origins[i], sizeof origins[i], "%s", origin_of(f, 2));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(origins[i], origins[k]);
        check_committed(f, cluster, group, topic, 3);
        fake_close(f);
    }
}

/* Transactions end with a record of Kafka's own. */
static void test_what_is_no_record_is_skipped(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("ends"), *group = cluster_name("ends");
    rd_kafka_topic_t *handle;
    rd_kafka_conf_t *conf;
    char error[256];
    rd_kafka_t *rk;
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", cluster->brokers, error, sizeof error);
    rd_kafka_conf_set(conf, "transactional.id", topic, error, sizeof error);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    assert_non_null(rk);
    assert_null(rd_kafka_init_transactions(rk, 20000));
    handle = rd_kafka_topic_new(rk, topic, NULL);
    for (int i = 0; i < 4; i++) { /* the second one never counts */
        assert_null(rd_kafka_begin_transaction(rk));
        assert_int_equal(rd_kafka_produce(handle, 0, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t) "x", 1, NULL, 0, NULL),
                         0);
        assert_int_equal(rd_kafka_flush(rk, 20000), RD_KAFKA_RESP_ERR_NO_ERROR);
        assert_null(i == 1 ? rd_kafka_abort_transaction(rk, 20000) : rd_kafka_commit_transaction(rk, 20000));
    }
    rd_kafka_topic_destroy(handle);
    rd_kafka_destroy(rk);
    f = open_numbered(cluster, topic, group);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 3);
    check_number(f, 0, 0, 0);
    check_number(f, 1, 4, 3);
    check_number(f, 2, 6, 1);
    fake_close(f);
}

static void test_origins_are_taken_apart(void **state)
{
    static const char *const none[] = {"",
                                       "kafka:",
                                       "kafka:c/0/0",
                                       "kafka:c/0/0/",
                                       "kafka:c//0/t",
                                       "kafka:c/0/-1/t",
                                       "kafka:c/0/2147483648/t",
                                       "kafka:c/10000000000000000/0/t",
                                       "kafka:c/g/0/t",
                                       "spool:c/0/0/t"};
    struct kafka_origin origin = {fms_text("a/b"), UINT64_MAX, INT32_MAX, fms_text("t")}, is;
    char text[KAFKA_ORIGIN_TEXT], topic[250];

    (void)state;
    assert_int_equal(kafka_origin_write(&origin, text), strlen("kafka:/ffffffffffffffff/2147483647/t"));
    assert_true(kafka_origin_read(fms_text(text), &is)); /* of a cluster whose id would not be told from the rest */
    assert_true(is.cluster.size == 0 && is.word == UINT64_MAX && is.partition == INT32_MAX && is_bytes(is.topic, "t"));
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(kafka_origin_read(fms_text(none[i]), &is));
    memset(topic, 't', sizeof topic - 1);
    topic[sizeof topic - 1] = '\0';
    origin.topic = fms_text(topic);
    assert_int_equal(kafka_origin_write(&origin, text), 0);
}

static void test_start_at_a_time(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("time");
    struct timespec time;
    char number[32];
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    clock_gettime(CLOCK_REALTIME, &time);
    for (int i = 0; i < 10; i++) { /* 10, 9, ... 1 hours ago */
        snprintf(number, sizeof number, "%d", i);
        cluster_produce_record(cluster, topic, 0, "key", number, NULL, (time.tv_sec - (10 - i) * 3600) * INT64_C(1000));
    }
    f = open_start(cluster, topic, cluster_name("time"), "-150m");
    fake_until(f, fake_emitted(f) >= 2);
    assert_true(has_come(f, topic, 8, 10));
    check_no_more(f, 2);
    fake_close(f);
    strftime(number, sizeof number, "%FT%TZ", gmtime(&(time_t){time.tv_sec - 330 * 60}));
    f = open_start(cluster, topic, cluster_name("time"), number);
    fake_until(f, fake_emitted(f) >= 5);
    assert_true(has_come(f, topic, 5, 10));
    check_no_more(f, 5);
    fake_close(f);
    f = open_start(cluster, topic, cluster_name("time"), "2100-01-01T00:00:00+01:00"); /* none is as late as that */
    fake_until(f, fake_said(f, "1 partition assigned") != NULL);
    produce_numbered(cluster, topic, 0, 10, 11);
    fake_until(f, fake_emitted(f) >= 1);
    assert_int_equal(number_of(f, 0), 10);
    fake_close(f);
}

static void check_fails(struct fake *f, int error)
{
    for (int64_t until = fake_realclock() + FAKE_PATIENCE; fake_error(f) == 0 && fake_realclock() < until;)
        turn_both(f, NULL);
    assert_int_equal(fake_error(f), error);
    assert_int_equal(fake_emitted(f), 0);
}

static void test_start_error_stops(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("error"), *above = cluster_name("above"), *within = cluster_name("within");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 5);
    f = open_start(cluster, topic, cluster_name("error"), "error");
    check_fails(f, -ENOENT);
    assert_non_null(fake_said(f, "has no committed offset in "));
    fake_close(f);
    cluster_commit(cluster, above, topic, 0, 500, NULL);
    f = open_start(cluster, topic, above, "error");
    check_fails(f, -ERANGE);
    assert_non_null(fake_said(f, "its offset 500 in "));
    assert_non_null(fake_said(f, "the log goes from 0 to 5"));
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, above, topic, 0), 500);
    cluster_commit(cluster, within, topic, 0, 2, NULL);
    f = open_start(cluster, topic, within, "error");
    fake_until(f, fake_emitted(f) >= 3);
    assert_true(has_come(f, topic, 2, 5));
    fake_close(f);
}

/* librdkafka 2.0 loses count of its references to the broker of partitions that are no more, and never ends. */
static void test_ends_though_its_topic_came_back_smaller(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("smaller");
    struct fake *f;

    CLUSTER_NEEDS_REAL(cluster);
#ifdef __SANITIZE_THREAD__
    skip(); /* threads left behind are what it reports */
#endif
    cluster_topic(cluster, topic, 4);
    for (int i = 0; i < 4; i++)
        produce_numbered(cluster, topic, i, i * 5, i * 5 + 5);
    f = open_start(cluster, topic, cluster_name("smaller"), "latest");
    fake_until(f, fake_said(f, "4 partitions assigned") != NULL);
    cluster_delete(cluster, topic);
    fake_until(f, fake_said(f, "changed from 4 to 0") != NULL);
    cluster_topic(cluster, topic, 2);
    produce_numbered(cluster, topic, 0, 20,
                     24); /* fewer than were there: the group's offset is above them whenever it asks */
    produce_numbered(cluster, topic, 1, 24, 28);
    fake_until(f, fake_emitted(f) >= 8);
    assert_true(has_come(f, topic, 20, 24) && has_come(f, topic, 24, 28));
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------- outages */

static void test_outage_is_survived(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("outage"), *group = cluster_name("outage");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 5);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    f = fake_open("kafka_source", FMS_SOURCE,
                  cluster_ini(cluster, "topic = %s\ngroup = %s\nstart = earliest\n" QUICK OFTEN, topic, group));
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "warning: no broker of ") != NULL);
    assert_false(fake_link_is_up(f));
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    fake_until(f, fake_emitted(f) == 5);
    assert_non_null(fake_said(f, "info: brokers are reachable again"));
    assert_true(fake_link_is_up(f));
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    fake_forget(f);
    fake_until(f, fake_said(f, "Connection refused") != NULL);
    rd_kafka_mock_broker_set_up(cluster->mock, -1);
    produce_numbered(cluster, topic, 0, 5, 10);
    fake_until(f, fake_emitted(f) >= 10);
    check_committed(f, cluster, group, topic, 10);
    fake_close(f);
}

/* librdkafka waits for a coordinator that is gone, for a session's length, before it gives up a commit. */
static void test_close_does_not_wait_long_for_a_dead_broker(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("dead");
    int64_t start;
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 500);
    f = open_source(cluster, topic, cluster_name("dead"), "");
    fake_capacity(f, 10);
    fake_until(f, fake_emitted(f) == 10);
    rd_kafka_mock_broker_set_down(cluster->mock, -1);
    fake_settle_all(f, FMS_DELIVERED);
    start = fake_realclock();
    fake_close(f);
    assert_in_range(fake_realclock() - start, 0, 3 * FAKE_PATIENCE);
}

static void test_fatal_error_fails_the_pipeline(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("fatal");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 1);
    f = open_source(cluster, topic, cluster_name("fatal"), "");
    fake_until(f, fake_emitted(f) == 1);
    rd_kafka_test_fatal_error(((struct kafka *)fake_instance(f))->rk, RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, "a test");
    for (int64_t until = fake_realclock() + FAKE_PATIENCE; fake_error(f) == 0 && fake_realclock() < until;)
        turn_both(f, NULL);
    assert_int_equal(fake_error(f), -EIO);
    assert_non_null(fake_said(f, "the consumer can't go on: "));
    fake_close(f);
}

static bool is_without_client(struct fake *f)
{
    char why[256];

    return strstr(fake_link_why(f, why, sizeof why), "FENCED_INSTANCE_ID") != NULL;
}

/* It consumes no more and says why; nothing else is harmed by that. */
static void check_fenced(struct fake *f)
{
    fake_until(f, is_without_client(f));
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "FENCED_INSTANCE_ID: another member has joined as \"same\""));
    fake_measure(f);
    assert_true(fake_gauge(f, "assigned_partitions") == 0);
    assert_false(fake_link_is_up(f));
}

static void test_fenced_member_stops_alone(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("fenced"), *group = cluster_name("fenced");
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    f = open_source(cluster, topic, group, "group_instance_id = same\n" OFTEN);
    fake_until(f, fake_emitted(f) == 3);
    fake_settle(f, 0, FMS_DELIVERED);
    check_committed(f, cluster, group, topic, 1);
    rd_kafka_test_fatal_error(((struct kafka *)fake_instance(f))->rk, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, "a test");
    fake_until(f, fake_said(f, "FENCED_INSTANCE_ID") != NULL);
    fake_settle(f, 1, FMS_DELIVERED); /* belongs to the other member */
    fake_poll(f, 256);
    check_fenced(f);
    fake_close(f);
    assert_int_equal(cluster_committed(cluster, group, topic, 0), 1);
}

static void test_one_of_two_with_one_instance_id_is_fenced(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("same"), *group = cluster_name("same");
    struct fake *one, *other;

    CLUSTER_NEEDS_REAL(cluster);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 3);
    one = open_source(cluster, topic, group, "group_instance_id = same\n" OFTEN);
    fake_until(one, fake_emitted(one) == 3);
    fake_settle(one, 0, FMS_DELIVERED);
    check_committed(one, cluster, group, topic, 1);
    other = open_source(cluster, topic, group, "group_instance_id = same\n" OFTEN);
    UNTIL_BOTH(one, other, fake_emitted(other) == 2 && fake_said(one, "FENCED_INSTANCE_ID") != NULL);
    fake_settle(one, 1, FMS_DELIVERED);
    check_fenced(one);
    assert_int_equal(number_of(other, 0), 1);
    fake_settle_all(other, FMS_DELIVERED);
    produce_numbered(cluster, topic, 0, 3, 4);
    UNTIL_BOTH(one, other, fake_emitted(other) == 3); /* it flows on, with the first one still there */
    fake_settle_all(other, FMS_DELIVERED);
    fake_close(one);
    check_committed(other, cluster, group, topic, 4);
    fake_close(other);
}

/* A topic that is made after the source has started. */
static void test_late_topic_is_found(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("later");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    /* An answer about all topics that comes while librdkafka 2.0.2 has just joined makes it join anew. The mock takes 3 s for that, then
     * 5 s each time: of these no divisor, or it would never end. */
    f = fake_open("kafka_source", FMS_SOURCE,
                  cluster_ini(cluster,
                              "topic = ^%s.*\ngroup = g\nstart = earliest\n" THERE QUICK
                              "kafka.topic.metadata.refresh.interval.ms = 2000\n",
                              topic));
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "waiting for a topic: ") != NULL);
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 1);
    fake_until(f, fake_emitted(f) == 1);
    fake_close(f);
}

/* What is wrong from the start, so that no broker was ever reached, is put right while it runs. */
static void test_first_client_is_replaced(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("replaced");
    struct fake *f;

    CLUSTER_NEEDS_MOCK(cluster);
    f = fake_check(
        "kafka_source", FMS_SOURCE,
        cluster_ini(cluster, "topic = %s\ngroup = g\nstart = earliest\n" THERE QUICK "kafka.security.protocol = ssl\n",
                    topic));
    cluster_topic(cluster, topic, 1);
    produce_numbered(cluster, topic, 0, 0, 1);
    fake_secret(f, "kafka.security.protocol", "ssl");
    assert_int_equal(fake_start(f), 0);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "is reachable, trying again") != NULL);
    fake_secret(f, "kafka.security.protocol", "plaintext");
    fake_until(f, fake_said(f, "a new client takes over") != NULL);
    fake_until(f, fake_emitted(f) == 1);
    assert_int_equal(fake_error(f), 0);
    fake_close(f);
}

static void test_probe_reports(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("probe");
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    bool is_there = false;

    cluster_topic(cluster, topic, 3);
    while (!is_there) { /* a broker of a real cluster may hear of it later than its controller */
        struct fake *f = fake_check("kafka_source", FMS_SOURCE,
                                    cluster_ini(cluster, "topic = %s\ngroup = probe\n", topic));

        assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
        assert_non_null(fake_said(f, "report: broker "));
        assert_non_null(fake_said(f, "report: group probe: its coordinator answers"));
        is_there = fake_said(f, "is there, with 3 partitions") != NULL;
        fake_close(f);
        assert_true(is_there || fake_realclock() < until);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cluster_setup, cluster_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_cooperative_needs_a_library_that_can),
        cmocka_unit_test(test_check_warns_of_latest),
        cmocka_unit_test(test_check_warns_of_open_doors),
        TEST(test_record_is_complete),
        TEST(test_more_headers_than_a_record_has_are_rejected),
        TEST(test_time_beyond_nanoseconds_is_unknown),
        TEST(test_latest_skips_and_earliest_does_not),
        TEST(test_refused_is_kept),
        TEST(test_long_blocked_is_paused),
        TEST(test_stuck_record_stops_its_partition),
        TEST(test_settled_out_of_order),
        TEST(test_stopped_with_records_in_flight),
        TEST(test_failed_commit_is_made_up_for),
        TEST(test_rebalance_settles_and_commits_first),
        TEST(test_cooperative_keeps_what_stays),
        TEST(test_lag_is_exact),
        TEST(test_brokers_are_counted_once),
        TEST(test_lag_grows_while_paused),
        TEST(test_partitions_that_are_gone_have_no_lag),
        TEST(test_added_partition_begins_at_its_beginning),
        TEST(test_topic_found_later_begins_at_its_beginning),
        TEST(test_listed_topic_begins_at_its_beginning),
        TEST(test_second_member_finds_a_later_topic),
        TEST(test_note_vouches_for_other_topics),
        TEST(test_first_topic_begins_at_its_beginning),
        TEST(test_first_topic_made_while_stopped),
        TEST(test_topic_is_made_anew_while_stopped),
        TEST(test_group_without_a_message_knows_where_it_was),
        TEST(test_beginning_is_committed_first),
        TEST(test_members_agree_where_the_group_began),
        TEST(test_members_start_together),
        TEST(test_offset_below_the_log_goes_on_at_its_start),
        TEST(test_log_is_trimmed_under_a_slow_consumer),
        TEST(test_offset_above_the_log_begins_anew),
        TEST(test_topic_is_made_anew_under_a_consumer),
        TEST(test_progress_is_told),
        TEST(test_offsets_are_numbers),
        TEST(test_what_is_read_anew_has_another_origin),
        TEST(test_log_that_begins_anew_has_another_origin),
        TEST(test_word_goes_with_the_offset),
        TEST(test_what_is_no_record_is_skipped),
        TEST(test_origins_are_taken_apart),
        TEST(test_start_at_a_time),
        TEST(test_start_error_stops),
        TEST(test_ends_though_its_topic_came_back_smaller),
        TEST(test_outage_is_survived),
        TEST(test_close_does_not_wait_long_for_a_dead_broker),
        TEST(test_fatal_error_fails_the_pipeline),
        TEST(test_fenced_member_stops_alone),
        TEST(test_one_of_two_with_one_instance_id_is_fenced),
        TEST(test_late_topic_is_found),
        TEST(test_first_client_is_replaced),
        TEST(test_probe_reports),
    };

    return cluster_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
