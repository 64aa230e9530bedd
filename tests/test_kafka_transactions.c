/* test_kafka_transactions.c - kafka_sink with a transactional id, through its table, against a real Kafka: the mock cluster knows
 * neither commits nor fences. See kafka_cluster.h. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "../plugins/kafka_common/kafka_common.h"
#include "kafka_cluster.h"

static rd_kafka_t *client_of(struct fake *f)
{
    return ((struct kafka *)fake_instance(f))->rk;
}

/* At a topic that is there. */
static struct fake *open_sink(struct cluster *cluster, const char *topic, const char *id, const char *more)
{
    return fake_open("kafka_sink", FMS_SINK,
                     cluster_ini(cluster, "topic = %s\ntransactional_id = %s\nreplication = 1\n%s", topic, id, more));
}

/* Record number `number` of the origin, whose payload says so. */
static size_t add_identified(struct fake *f, const char *topic, struct fms_identity identity, const char *payload)
{
    struct fms_record record = {
        .topic = fms_text(topic), .key = fms_text("k"), .payload = fms_text(payload), .identity = &identity};

    return fake_add_record(f, &record);
}

static size_t add_one(struct fake *f, const char *origin, uint64_t number)
{
    char text[32];

    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return add_identified(
        f, "t", (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text(origin), .sequence = number}, text);
}

static void add_numbered(struct fake *f, const char *origin, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add_one(f, origin, from + i);
}

/* Offers again what is to be offered again; whether so many are delivered by now. */
static bool delivers(struct fake *f, size_t count)
{
    if (fake_count_fate(f, FMS_RETRY) > 0 && fake_unsettled(f) == 0)
        fake_write(f);
    return fake_count_fate(f, FMS_DELIVERED) == count;
}

static void write_until_delivered(struct fake *f, size_t count)
{
    fake_write(f);
    fake_until(f, delivers(f, count));
}

/* What a reader of committed records finds in the topic: the payloads 0, 1, 2, ... once each, in order. */
static void check_committed(struct cluster *cluster, const char *topic, size_t count)
{
    struct messages messages;

    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, count);
    for (size_t i = 0; i < count; i++) {
        char text[32];

        snprintf(text, sizeof text, "%zu", i);
        assert_int_equal(messages.items[i]->len, strlen(text));
        assert_memory_equal(messages.items[i]->payload, text, strlen(text));
    }
    cluster_forget(&messages);
}

static void await_link(struct fake *f)
{
    fake_until(f, (fake_measure(f), fake_link_is_up(f)));
}

/* Waits until brokers have the message of which only a commit is missing: uncommitted readers see it. */
static void await_written(struct cluster *cluster, const char *topic, int64_t count)
{
    int64_t until = fake_realclock() + FAKE_PATIENCE, low, high = 0;

    while (high < count) {
        assert_true(fake_realclock() < until);
        rd_kafka_get_watermark_offsets(cluster->rk, topic, 0, &low, &high);
        rd_kafka_query_watermark_offsets(cluster->rk, topic, 0, &low, &high, 1000);
    }
}

/* ------------------------------------------------------------------------------------------------------------- check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct {
        const char *ini, *error;
    } tries[] = {
        {"transactional_id =\n", "error: transactional_id: the journal's topic"},
        {"transactional_id = a/b\n", "set journal, the name of a topic"},
        {"transactional_id = a\njournal = a b\n", "error: journal: the journal's topic \"a b\" has other characters"},
        {"transactional_id = a\nkafka.enable.idempotence = false\n",
         "error: transactional_id: needs the idempotent producer"},
        {"transactional_id = a\nkafka.acks = 1\nkafka.enable.idempotence = false\n",
         "error: transactional_id: needs the idempotent producer"},
        {"kafka.transactional.id = a\n", "can't be set: use the option transactional_id"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        char ini[256];
        struct fake *f;

        snprintf(ini, sizeof ini, "brokers = localhost:1\ntopic = t\nkey = k\n%s", tries[i].ini);
        f = fake_check("kafka_sink", FMS_SINK, ini);
        assert_int_equal(fake_error(f), -EINVAL);
        if (fake_said(f, tries[i].error) == NULL)
            fail_msg("try %zu: it did not say %s", i, tries[i].error);
        fake_close(f);
    }
}

/* ----------------------------------------------------------------------------------------------------- once, and again */

static void test_records_come_once(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("once"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "");

    add_numbered(f, "v1", 0, 100);
    write_until_delivered(f, 100);
    add_numbered(f, "v1", 50, 100); /* half of them again */
    write_until_delivered(f, 200);
    assert_int_equal(fake_counter(f, "repetitions"), 50);
    fake_close(f);
    check_committed(cluster, topic, 150);
}

/* What another life of the sink has written is known by the journal. */
static void test_journal_is_read(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("read"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "");

    add_numbered(f, "v1", 0, 50);
    write_until_delivered(f, 50);
    add_numbered(f, "v1", 50, 50);
    write_until_delivered(f, 100);
    fake_close(f);
    f = open_sink(cluster, topic, id, "");
    add_numbered(f, "v1", 20, 100);
    write_until_delivered(f, 100);
    assert_int_equal(fake_counter(f, "repetitions"), 80);
    fake_close(f);
    check_committed(cluster, topic, 120);
}

/* Numbers that arrive late are new; an end is a number that needs nothing written. */
static void test_gaps_and_ends(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("gaps"), *id = cluster_name("id");
    struct fms_identity end = {.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 3, .is_end = true};
    struct fake *f = open_sink(cluster, topic, id, "");

    add_identified(f, "t", (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 4}, "0");
    add_identified(f, "t", (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 2}, "1");
    add_identified(f, "t", end, "dropped");
    write_until_delivered(f, 3);
    fake_close(f);
    f = open_sink(cluster, topic, id, "");
    for (uint64_t number = 1; number <= 5; number++)
        add_identified(f, "t",
                       (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = number},
                       number == 1 ? "2" : "3");
    write_until_delivered(f, 5);
    assert_int_equal(fake_counter(f, "repetitions"), 3);
    fake_close(f);
    check_committed(cluster, topic, 4);
}

/* Of a sink of dead letters to which none come, and whose topic is new: all that is there is one transaction's. */
static void test_many_ends(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("ends"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "");

    for (uint64_t number = 1; number <= 2000; number++)
        add_identified(
            f, "t",
            (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = number, .is_end = true},
            "dropped");
    write_until_delivered(f, 2000);
    assert_in_range(fake_counter(f, "transactions"), 1, 100);
    fake_close(f);
    check_committed(cluster, topic, 0);
}

/* Vehicles that have one origin lose all but the first one's messages: it is said. */
static void test_most_is_a_repetition(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("most"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "");

    for (uint64_t number = 0; number < 100; number++)
        add_one(f, "all", number);
    write_until_delivered(f, 100);
    assert_null(fake_said(f, "were written before"));
    for (uint64_t i = 0; i < 9900; i++)
        add_one(f, "all", i % 100);
    write_until_delivered(f, 10000);
    assert_non_null(fake_said(f, "warning: of the last 10000 records with a number 9900 were written before"));
    fake_close(f);
}

/* Of a record that became several, those that were written are, and the others are not. */
static void test_parts_come_once(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("parts"), *id = cluster_name("id");
    struct fms_identity part = {.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 7};
    struct fake *f = open_sink(cluster, topic, id, "");

    part.part = 1;
    add_identified(f, "t", part, "0");
    write_until_delivered(f, 1);
    fake_close(f);
    f = open_sink(cluster, topic, id, "");
    add_identified(f, "t", part, "0");
    part.part = 2;
    add_identified(f, "t", part, "1");
    part.part = 0;
    part.is_end = true;
    write_until_delivered(f, 2);
    add_identified(f, "t", part, "all of it");
    write_until_delivered(f, 3);
    assert_int_equal(fake_counter(f, "repetitions"), 1);
    part.is_end = false;
    part.part = 1;
    add_identified(f, "t", part, "0");
    write_until_delivered(f, 4);
    assert_int_equal(fake_counter(f, "repetitions"), 2);
    fake_close(f);
    check_committed(cluster, topic, 2);
}

/* What a broker sends again is known by identifier and content. */
static void test_resent(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("resent"), *id = cluster_name("id");
    struct fms_identity identity = {.kind = FMS_RESENT, .origin = fms_text("c1"), .sequence = 1, .print = {1, 2}};
    struct fake *f = open_sink(cluster, topic, id, "");

    add_identified(f, "t", identity, "0");
    write_until_delivered(f, 1);
    fake_close(f);
    f = open_sink(cluster, topic, id, "");
    identity.may_repeat = true;
    add_identified(f, "t", identity, "0");
    identity.print[0] = 3; /* another message with that identifier */
    add_identified(f, "t", identity, "1");
    identity.may_repeat = false; /* the same text once more, and not sent again */
    add_identified(f, "t", identity, "2");
    write_until_delivered(f, 3);
    assert_int_equal(fake_counter(f, "repetitions"), 1);
    fake_close(f);
    check_committed(cluster, topic, 3);
}

/* A record without an identity is written, whatever was before. */
static void test_without_identity(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("without"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "");

    fake_add(f, "t", "k", "0");
    fake_add(f, "t", "k", "1");
    write_until_delivered(f, 2);
    fake_close(f);
    check_committed(cluster, topic, 2);
}

/* -------------------------------------------------------------------------------------------------------- what goes wrong */

/* A message that its topic does not take ends the transaction; the others come all the same, once and in order. */
static void test_refusal_in_a_transaction(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("refusal"), *id = cluster_name("id");
    static char large[5000];
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, id, "kafka.batch.num.messages = 10\n");
    add_numbered(f, "v1", 0, 1);
    write_until_delivered(f, 1);
    cluster_configure(cluster, topic, "max.message.bytes", "4000", NULL); /* which the sink does not know yet */
    memset(large, 'x', sizeof large - 1);
    add_numbered(f, "v1", 1, 30);
    add_identified(f, "t", (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 1000},
                   large);
    add_numbered(f, "v1", 31, 30);
    write_until_delivered(f, 61);
    fake_until(f, fake_count_fate(f, FMS_REJECTED) == 1);
    assert_true(fake_counter(f, "transactions_aborted") > 0);
    fake_close(f);
    check_committed(cluster, topic, 61);
}

/* A producer that fails for good: all of its transaction is offered again. */
static void test_fatal_error_in_a_transaction(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("fatal"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "kafka.linger.ms = 200\ncommit_interval = 5s\n");

    add_numbered(f, "v1", 0, 1);
    write_until_delivered(f, 1);
    add_numbered(f, "v1", 1, 99);
    fake_until(f, (fake_write(f), fake_unsettled(f) == 99));
    rd_kafka_test_fatal_error(client_of(f), RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "as the test wants it");
    write_until_delivered(f, 100);
    assert_int_equal(fake_counter(f, "producer_restarts"), 1);
    assert_int_equal(fake_counter(f, "transactions_aborted"), 1);
    fake_close(f);
    check_committed(cluster, topic, 100);
}

/* The last one to start has the id; the first one says so, writes nothing more, and does not fight. */
static void test_started_twice(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("twice"), *id = cluster_name("id");
    struct fake *first = open_sink(cluster, topic, id, ""), *second;
    char why[256];

    add_numbered(first, "v1", 0, 5);
    write_until_delivered(first, 5);
    second = open_sink(cluster, topic, id, "");
    add_numbered(second, "v1", 5, 5);
    write_until_delivered(second, 5);
    add_numbered(first, "v1", 5, 5); /* it does not know of these */
    fake_until(first,
               (fake_write(first), fake_said(first, "error: another process has taken over the transactional id")));
    assert_int_equal(fake_count_fate(first, FMS_DELIVERED), 5);
    assert_false(fake_link_is_up(first));
    assert_non_null(strstr(fake_link_why(first, why, sizeof why), "another process"));
    add_numbered(first, "v1", 10, 5);
    assert_int_equal(fake_write(first), 0);
    add_numbered(second, "v1", 10, 5);
    write_until_delivered(second, 10);
    assert_int_equal(fake_counter(second, "producer_restarts"), 0);
    fake_expect_left(first, fake_unsettled(first));
    fake_close(first);
    fake_close(second);
    check_committed(cluster, topic, 15);
}

/* A transaction that is left open is aborted, so that readers need not wait for it. */
static void test_close_in_a_transaction(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("close"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id, "commit_interval = 10s\n");
    struct messages messages;

    add_numbered(f, "v1", 0, 1);
    write_until_delivered(f, 1);
    add_numbered(f, "v1", 1, 1);
    fake_until(f, (fake_write(f), fake_unsettled(f) == 1));
    fake_expect_left(f, 1);
    fake_close(f);
    cluster_produce(cluster, topic, 0, "behind it");
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 2);
    cluster_forget(&messages);
}

/* ------------------------------------------------------------------------------------------------------------ journal */

static void test_journal_of_another(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("other"), *id = cluster_name("id"), *journal = cluster_name("journal");
    char more[128];
    struct fake *f;

    cluster_topic(cluster, journal, 1);
    cluster_produce_record(cluster, journal, 0, "somebody/0", "?", NULL, 0);
    snprintf(more, sizeof more, "journal = %s\n", journal);
    f = open_sink(cluster, topic, id, more);
    fake_until(f, fake_said(f, "each transactional_id needs a journal of its own"));
    add_numbered(f, "v1", 0, 1);
    assert_int_equal(fake_write(f), 0);
    fake_close(f);
}

/* A damaged record costs what it said, and nobody the rest. */
static void test_journal_with_a_damaged_record(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("damaged"), *id = cluster_name("id"), *journal = cluster_name("journal");
    char more[128], key[96];
    struct fake *f;

    snprintf(more, sizeof more, "journal = %s\n", journal);
    f = open_sink(cluster, topic, id, more);
    add_numbered(f, "v1", 0, 10);
    write_until_delivered(f, 10);
    fake_close(f);
    snprintf(key, sizeof key, "%s/77", id);
    cluster_produce_record(cluster, journal, 0, key, "what is no record of a journal", NULL, 0);
    f = open_sink(cluster, topic, id, more);
    fake_until(f, fake_said(f, "is left out, and what it says may come twice"));
    add_numbered(f, "v1", 0, 11);
    write_until_delivered(f, 11);
    assert_int_equal(fake_counter(f, "repetitions"), 10);
    fake_close(f);
    check_committed(cluster, topic, 11);
}

/* Records choose their topics, some of which are made meanwhile. */
static void test_topics_of_the_records(void **state)
{
    struct cluster *cluster = *state;
    const char *a = cluster_name("a"), *b = cluster_name("b"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, "${topic}", id, "");

    for (uint64_t number = 0; number < 20; number++) {
        char text[32];

        snprintf(text, sizeof text, "%llu", (unsigned long long)number / 2);
        add_identified(f, number % 2 == 0 ? a : b,
                       (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = number}, text);
    }
    write_until_delivered(f, 20);
    fake_close(f);
    check_committed(cluster, a, 10);
    check_committed(cluster, b, 10);
}

/* Letters of a pipeline have transactions of their own. */
static void test_dead_letters(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("letters"), *id = cluster_name("id");
    struct fms_identity letter = {
        .kind = FMS_NUMBERED, .origin = fms_text("v1"), .sequence = 7, .part = FMS_PART_LETTER + 2};
    const char *ini = cluster_ini(cluster, "topic = %s\ntransactional_id = %s\nreplication = 1\n", topic, id);

    for (int life = 0; life < 2; life++) {
        struct fake *f = fake_open("kafka_sink", FMS_DEAD_LETTER, ini);

        add_identified(f, "t", letter, "0");
        write_until_delivered(f, 1);
        assert_int_equal(fake_counter(f, "repetitions"), life);
        fake_close(f);
    }
    check_committed(cluster, topic, 1);
}

/* Many records, more than librdkafka holds at once, and the link as an operator sees it. */
static void test_many_records(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("many"), *id = cluster_name("id");
    struct fake *f = open_sink(cluster, topic, id,
                               "kafka.queue.buffering.max.messages = 1000\ncommit_interval = 100ms\n");

    await_link(f);
    add_numbered(f, "v1", 0, 5000);
    write_until_delivered(f, 5000);
    assert_true(fake_observed(f, "commit_seconds", NULL) > 0);
    fake_measure(f);
    assert_true(fake_gauge(f, "journal_entries") == 1);
    fake_close(f);
    await_written(cluster, topic, 5000);
}

/* The producer that follows, which does not compress, writes what the one before it left open, and nothing twice. */
static void test_what_hardly_gets_smaller_is_not_compressed(void **state)
{
    struct cluster *cluster = *state;
    const char *topic = cluster_name("stubborn");
    struct messages messages;
    char payload[20001];
    unsigned seed = 1;
    struct fake *f;

    cluster_topic(cluster, topic, 1);
    f = open_sink(cluster, topic, cluster_name("id"), "profile = throughput\n");
    for (size_t i = 0; i < 200; i++) {
        for (size_t at = 0; at < sizeof payload - 1; at++) {
            seed = seed * 1103515245 + 12345;
            payload[at] = (char)(' ' + (seed >> 16) % 90);
        }
        payload[sizeof payload - 1] = '\0';
        add_identified(f, "t", (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text("a"), .sequence = i + 1},
                       payload);
        if (i % 10 == 9)
            fake_until(f, (fake_write(f), fake_count_fate(f, FMS_DELIVERED) == i + 1));
    }
    assert_non_null(fake_said(f, "records are not compressed any more"));
    assert_int_equal(fake_counter(f, "producer_restarts"), 0);
    assert_int_equal(fake_counter(f, "transactions_aborted"), 0);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(fake_settles(f, i), 1);
    fake_close(f);
    cluster_read(cluster, topic, 0, &messages);
    assert_int_equal(messages.count, 200);
    cluster_forget(&messages);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cluster_setup, cluster_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        TEST(test_records_come_once),
        TEST(test_journal_is_read),
        TEST(test_gaps_and_ends),
        TEST(test_many_ends),
        TEST(test_most_is_a_repetition),
        TEST(test_parts_come_once),
        TEST(test_resent),
        TEST(test_without_identity),
        TEST(test_refusal_in_a_transaction),
        TEST(test_fatal_error_in_a_transaction),
        TEST(test_started_twice),
        TEST(test_close_in_a_transaction),
        TEST(test_journal_of_another),
        TEST(test_journal_with_a_damaged_record),
        TEST(test_topics_of_the_records),
        TEST(test_dead_letters),
        TEST(test_many_records),
        TEST(test_what_hardly_gets_smaller_is_not_compressed),
    };

    return cluster_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
