/* test_mqtt_ingest.c - mqtt_ingest through its table: against a broker played by the test, and against a mosquitto.
 *
 * The plugin has no thread of its own: where the test waits for a packet, wire_idle has the plugin polled meanwhile. */
#include "mqtt_wire.h"

static void check_record(struct fake *f, size_t i, const char *topic, const char *payload)
{
    const struct fms_record *record = fake_record(f, i);

    assert_string_equal(record->topic.data, topic);
    if (strcmp(record->payload.data, payload) != 0)
        fail_msg("record %zu is %s, not %s", i, (const char *)record->payload.data, payload);
}

static void publish_numbers(const struct wire *writer, int from, int count)
{
    char payload[16];

    for (int i = from; i < from + count; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        client_publish(writer, "fms/data", payload, 1, NULL, NULL);
    }
}

/* What was not acknowledged can come again; the first arrivals must be 0, 1, 2... The next number. */
static size_t check_first_arrivals(struct fake *f)
{
    size_t next = 0;

    for (size_t i = 0; i < fake_emitted(f); i++) {
        size_t number = strtoul(fake_record(f, i)->payload.data, NULL, 10);

        if (number > next)
            fail_msg("record %zu is %zu before %zu", i, number, next);
        next += number == next;
    }
    return next;
}

static struct fake *source_up(int port, const char *options)
{
    struct fake *f = fake_open("mqtt_ingest", FMS_SOURCE, section(port, "%s", options));

    fake_until(f, fake_said(f, "info: receives ") != NULL);
    return f;
}

/* Stops with nothing in flight. `fd`: of a broker played by the test, which hangs up; -1: of a real one. */
static void source_end(struct fake *f, int fd)
{
    wire_idle = NULL;
    fake_settle_auto(f, FMS_DELIVERED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_stop(f);
    shutdown(fd, SHUT_WR);
    fake_until(f, fake_ended(f));
    fake_close(f);
}

/* A source and a broker played by the test, connected and subscribed to "t" with the QoS granted. */
struct pair {
    struct fake *f;
    int listener, port;
    struct wire wire;
};

static void pair_accept(struct pair *pair, bool session_present, unsigned qos)
{
    pair->wire = broker_accept(pair->listener, NULL, session_present, NULL);
    broker_grant(&pair->wire, qos);
}

static struct pair pair_make(const char *options, size_t capacity)
{
    struct pair pair = {.port = 0};

    pair.listener = wire_listen(&pair.port);
    pair.f = fake_check("mqtt_ingest", FMS_SOURCE,
                        section(pair.port, "topic = t\nclient_id = bridge\nclean_start = no\n%s", options));
    fake_capacity(pair.f, capacity);
    assert_int_equal(fake_start(pair.f), 0);
    wire_idle = pair.f;
    return pair;
}

static struct pair pair_up(const char *options, size_t capacity, unsigned qos)
{
    struct pair pair = pair_make(options, capacity);

    pair_accept(&pair, false, qos);
    return pair;
}

static void pair_end(struct pair *pair)
{
    source_end(pair->f, pair->wire.fd);
    close(pair->wire.fd);
    close(pair->listener);
}

/* Turns until a record has come; the broker's side is not looked at. */
static void pair_until_emitted(struct pair *pair, size_t count)
{
    fake_until(pair->f, fake_emitted(pair->f) >= count);
}

static void expect_ack(const struct wire *wire, unsigned type, unsigned id)
{
    struct packet packet = wire_expect(wire, type);

    assert_int_equal(packet.id, id);
    free(packet.body);
}

/* ------------------------------------------------------------------------------------------------------------ check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct refusal cases[] = {
        {"server = ws://a\ntopic = t\n", "no WebSockets here: mqtt_source speaks them"},
        {"server = tcp://a/x\ntopic = t\n", "must end after host and port"},
        {"server = tcp://a\ntopic = a+\n", "\"a+\" has a + or # that does not fill a level"},
        {"server = tcp://a\ntopic = t\nalpn = mqtt\n", "alpn: is for TLS"},
        {"server = tcp://a\ntopic = t\nca_file = x\n", "ca_file: is for TLS"},
        {"server = tcp://a\ntopic = t\nversion = 3.1.1\npassword = x\n", "needs username"},
        {"server = tcp://a\ntopic = t\norigin = a\n", "origin: tells nothing alone: write both origin and sequence"},
        {"server = tcp://a\ntopic = t\nsequence = ${json:a}\n", "sequence: tells nothing alone"},
        {"server = tcp://a\ntopic = t\nskipped = 1\n", "skipped: tells nothing alone"},
        {"server = tcp://a\ntopic = t\norigin = a\nskipped = 1\n", "origin: tells nothing alone"},
        {"server = tcp://a\ntopic = t\nredelivery = yes\nqos = 0\n", "redelivery: needs QoS 1 or 2"},
        {"server = tcp://a\ntopic = t\nredelivery = yes\nclient_id = a\n", "redelivery: needs clean_start = no"},
        {"server = tcp://a\ntopic = t\nredelivery = yes\nclean_start = no\n", "redelivery: needs a client_id"},
    };

    (void)state;
    expect_refused("mqtt_ingest", FMS_SOURCE, cases, sizeof cases / sizeof cases[0]);
}

static void test_check_warns_of_traps(void **state)
{
    struct fake *f = fake_check("mqtt_ingest", FMS_SOURCE, "server = tcp://a\ntopic = t\n");

    (void)state;
    assert_non_null(fake_said(f, "advice: clean_start: what is published while this pipeline is down is lost"));
    fake_close(f);
    f = fake_check("mqtt_ingest", FMS_SOURCE, "server = tcp://a\ntopic = t\nclient_id = a\nclean_start = no\n");
    assert_null(fake_said(f, "advice: "));
    fake_close(f);
    f = fake_check("mqtt_ingest", FMS_SOURCE,
                   "server = tcp://a\ntopic = t\nclient_id = a\nclean_start = no\nredelivery = yes\n");
    assert_non_null(fake_said(f, "advice: redelivery: knows what a broker sends again"));
    fake_close(f);
    f = fake_check("mqtt_ingest", FMS_SOURCE,
                   "server = tcp://a\ntopic = t\nqos = 0\norigin = a\nsequence = ${json:a}\n");
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: origin: does nothing at QoS 0"));
    fake_close(f);
}

static void test_certificates_are_read_at_open(void **state)
{
    struct fake *f = fake_check("mqtt_ingest", FMS_SOURCE, "server = ssl://a\ntopic = t\nca_file = /nonexistent\n");
    char fifo[64], ini[128];

    (void)state;
    assert_int_equal(fake_start(f), -EINVAL);
    assert_non_null(fake_said(f, "ca_file: /nonexistent: No such file"));
    fake_close(f);
    f = fake_check("mqtt_ingest", FMS_SOURCE, "server = ssl://a\ntopic = t\ncert_file = /dev/null\n");
    assert_int_equal(fake_start(f), -EINVAL);
    assert_non_null(fake_said(f, "cert_file: /dev/null: it is no regular file"));
    fake_close(f);
    f = fake_check("mqtt_ingest", FMS_SOURCE, "server = ssl://a\ntopic = t\ncert_file = /tmp\n");
    assert_int_equal(fake_start(f), -EINVAL);
    assert_non_null(fake_said(f, "cert_file: /tmp: Is a directory"));
    fake_close(f);
    snprintf(fifo, sizeof fifo, "/tmp/test_mqtt_ingest.%d", (int)getpid());
    assert_int_equal(mkfifo(fifo, 0600), 0);
    snprintf(ini, sizeof ini, "server = ssl://a\ntopic = t\nca_file = %s\n", fifo);
    f = fake_check("mqtt_ingest", FMS_SOURCE, ini);
    assert_int_equal(fake_start(f), -EINVAL); /* and not in an hour */
    assert_non_null(fake_said(f, "it is no regular file"));
    fake_close(f);
    unlink(fifo);
}

/* --------------------------------------------------------------------------------------------------------- messages */

static void test_every_qos_and_version_arrives(void **state)
{
    struct mosquitto broker;
    struct wire writer;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    writer = client_new(broker.port, "writer", true);
    for (unsigned qos = 0; qos < 3; qos++) {
        for (size_t v = 0; v < 2; v++) {
            char options[128];
            struct fake *f;
            int64_t now;

            snprintf(options, sizeof options, "qos = %u\nversion = %s\ntopic = other, fms/+", qos, versions[v]);
            f = source_up(broker.port, options);
            fake_settle_auto(f, FMS_DELIVERED);
            now = fms_realtime(fake_host(f));
            for (unsigned i = 0; i < 50; i++) {
                char payload[16];

                snprintf(payload, sizeof payload, "%u", i);
                client_publish(&writer, "fms/data", payload, qos, "unit", "km/h");
            }
            client_publish(&writer, "other", "", qos, NULL, NULL);
            fake_until(f, fake_emitted(f) == 51);
            assert_int_equal(check_first_arrivals(f), 50);
            check_record(f, 50, "other", "");
            assert_null(fake_record(f, 7)->key.data);
            assert_true(fake_record(f, 7)->timestamp >= now && fake_record(f, 7)->timestamp < now + 60 * FMS_SECOND);
            assert_int_equal(fake_record(f, 7)->header_count, v);
            if (v == 1) {
                assert_string_equal(fake_record(f, 7)->headers[0].name, "unit");
                assert_string_equal(fake_record(f, 7)->headers[0].value.data, "km/h");
            }
            source_end(f, -1);
        }
    }
    close(writer.fd);
    mosquitto_free(&broker);
}

static void publish_retained(const struct wire *wire, const char *topic, const char *payload)
{
    static const struct wire_out nothing;

    wire_publish_raw(wire, 1 << 1 | 1, fms_text(topic), 9, &nothing, payload);
    free(wire_expect(wire, PUBACK).body);
}

/* Of a retained message and those behind it: which come, at the first connection and at the next. */
static void test_retained(void **state)
{
    static const struct {
        const char *options;
        size_t first, second;
    } rows[] = {
        {"retained = all\nversion = 5", 1, 0},
        {"retained = new\nversion = 5", 1, 0},
        {"retained = none\nversion = 5", 0, 0},
        {"retained = all\nversion = 3.1.1", 1, 1},
        {"retained = new\nversion = 3.1.1", 1, 0},
        {"retained = none\nversion = 3.1.1", 0, 0},
        {"retained = new\nversion = 3.1.1\nclean_start = yes", 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        unsigned qos = i % 2 == 0 ? 1 : 2;
        struct mosquitto broker;
        struct wire writer;
        char options[256];
        struct fake *f;
        size_t count = rows[i / 2].first;

        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        publish_retained(&writer, "fms/data", "kept");
        snprintf(options, sizeof options, "qos = %u\ntopic = fms/#\nclient_id = bridge\n%s%s", qos,
                 strstr(rows[i / 2].options, "clean") == NULL ? "clean_start = no\n" : "", rows[i / 2].options);
        f = source_up(broker.port, options);
        fake_settle_auto(f, FMS_DELIVERED);
        for (unsigned n = 0; n < 2; n++) { /* two connections */
            client_publish(&writer, "fms/data", "live", qos, NULL, NULL);
            count += n == 1 ? 1 + rows[i / 2].second : 1;
            fake_until(f, fake_emitted(f) == count);
            check_record(f, count - 1, "fms/data", "live");
            assert_int_equal(fake_record(f, count - 1)->header_count, 0);
            if (n == 1)
                break;
            wire_idle = f;
            assert_false(wire_ready(writer.fd, 200)); /* meanwhile the acknowledgements get there */
            wire_idle = NULL;
            mosquitto_stop(&broker, SIGTERM);
            close(writer.fd);
            fake_until(f, fake_said(f, " lost: ") != NULL);
            mosquitto_start(&broker);
            writer = client_new(broker.port, "writer", true);
            fake_until(f, fake_count_said(f, "connected to ") == 2);
        }
        assert_int_equal(fake_emitted(f), count);
        if (rows[i / 2].first == 1) {
            check_record(f, 0, "fms/data", "kept");
            assert_string_equal(fake_record(f, 0)->headers[0].name, "mqtt.retained");
            assert_string_equal(fake_record(f, 0)->headers[0].value.data, "1");
        }
        source_end(f, -1);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

/* What MQTT 5 says of a message becomes headers; and no name of a sender's passes for ours. */
static void test_properties_become_headers(void **state)
{
    static const char *const expected[][2] = {
        {"mqtt.content_type", "json"},
        {"mqtt.response_topic", "a/b"},
        {"mqtt.correlation_data", "id"},
        {"mqtt.message_expiry", "60"},
        {"mqtt.payload_format", "1"},
        {"mqtt.retained", "1"},
        {"unit", "km/h"},
        {"user.fms.reason", "x"},
    };
    static const char body[] = "\0\1t\0\2\66\3\0\4json\10\0\3a/b\11\0\2id\2\0\0\0\74\1\1"
                               "\46\0\4unit\0\4km/h\46\0\12fms.reason\0\1xp";
    struct pair pair = pair_up("", 16, 1);
    const struct fms_record *record;
    struct wire_out out = {.size = 0};

    (void)state;
    out_bytes(&out, body, sizeof body - 1);
    wire_send(&pair.wire, PUBLISH << 4 | 1 << 1 | 1, &out);
    pair_until_emitted(&pair, 1);
    record = fake_record(pair.f, 0);
    assert_string_equal(record->payload.data, "p");
    assert_int_equal(record->header_count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < record->header_count; i++) {
        assert_string_equal(record->headers[i].name, expected[i][0]);
        assert_string_equal(record->headers[i].value.data, expected[i][1]);
    }
    pair_end(&pair);
}

/* -------------------------------------------------------------------------------------------------- who a message is */

/* As pair_up, before a sink that asks who messages are. */
static struct pair pair_asked(const char *options, unsigned qos)
{
    struct pair pair = {.port = 0};

    pair.listener = wire_listen(&pair.port);
    pair.f = fake_check(
        "mqtt_ingest", FMS_SOURCE,
        section(pair.port, "topic = t\nclient_id = bridge\nclean_start = no\nqos = %u\n%s", qos, options));
    fake_host(pair.f)->identities = true;
    assert_int_equal(fake_start(pair.f), 0);
    wire_idle = pair.f;
    pair_accept(&pair, false, qos);
    return pair;
}

/* A message with as many user properties as there are names, emitted as the i-th record. */
static const struct fms_record *come(struct pair *pair, size_t i, const char *topic, const char *const properties[][2],
                                     const char *payload)
{
    struct wire_out out = {.size = 0};

    for (size_t n = 0; properties[n][0] != NULL; n++)
        out_property(&out, properties[n][0], properties[n][1]);
    wire_publish_raw(&pair->wire, 1 << 1, fms_text(topic), 100 + (unsigned)i, &out, payload);
    pair_until_emitted(pair, i + 1);
    return fake_record(pair->f, i);
}

static void check_number(const struct fms_record *record, const char *origin, uint64_t sequence, uint64_t skipped)
{
    const struct fms_identity *identity = record->identity;

    assert_non_null(identity);
    assert_int_equal(identity->kind, FMS_NUMBERED);
    assert_int_equal(identity->origin.size, strlen(origin));
    assert_memory_equal(identity->origin.data, origin, strlen(origin));
    assert_true(identity->sequence == sequence && identity->skipped == skipped);
}

static void test_properties_tell_who_a_message_is(void **state)
{
    static const char *const whole[][2] = {
        {"unit", "km/h"}, {"fms.origin", "spool%25"}, {"fms.skipped", "2"}, {"fms.sequence", "17"}, {NULL, NULL}};
    static const char *const none[][2] = {{"unit", "km/h"}, {NULL, NULL}};
    static const char *const odd[][2] = {
        {"fms.origin", "spool"}, {"fms.sequence", "17a"}, {"unit", "km/h"}, {NULL, NULL}};
    static const char *const twice[][2] = {
        {"fms.origin", "a"}, {"fms.sequence", "1"}, {"fms.origin", "b"}, {"unit", "km/h"}, {NULL, NULL}};
    struct pair pair = pair_asked("", 1);

    (void)state;
    check_number(come(&pair, 0, "t", whole, "x"), "spool%", 17, 2);
    assert_null(come(&pair, 1, "t", none, "x")->identity);
    assert_int_equal(fake_counter(pair.f, "unidentified"), 0);
    assert_null(come(&pair, 2, "t", odd, "x")->identity);
    assert_non_null(fake_said(pair.f, "warning: a message on \"t\" has no identity, so that it may be delivered twice:"
                                      " fms.sequence \"17a\" is no integer of 0 to 18446744073709551615"));
    assert_null(come(&pair, 3, "t", twice, "x")->identity);
    assert_non_null(fake_said(pair.f, "is there twice"));
    assert_int_equal(fake_counter(pair.f, "unidentified"), 2);
    for (size_t i = 0; i < 4; i++) { /* what says who it is does not go on as a header */
        assert_int_equal(fake_record(pair.f, i)->header_count, 1);
        assert_string_equal(fake_record(pair.f, i)->headers[0].name, "unit");
        assert_null(fake_rejected(pair.f, i));
    }
    pair_end(&pair);
}

/* Where nobody asks they are headers as others are; and at QoS 0. */
static void test_properties_that_nobody_asks_for(void **state)
{
    static const char *const whole[][2] = {{"fms.origin", "spool"}, {"fms.sequence", "17"}, {NULL, NULL}};
    struct pair pair = pair_up("origin = a\nsequence = 1", 16, 1);

    (void)state;
    assert_non_null(fake_said(pair.f,
                              "warning: no sink of this pipeline delivers each message once, and asks who they are:"
                              " origin and sequence do nothing"));
    assert_null(come(&pair, 0, "t", whole, "x")->identity);
    assert_int_equal(fake_record(pair.f, 0)->header_count, 2);
    assert_string_equal(fake_record(pair.f, 0)->headers[0].name, "user.fms.origin");
    assert_string_equal(fake_record(pair.f, 0)->headers[1].name, "user.fms.sequence");
    pair_end(&pair);
    pair = pair_asked("", 0);
    wire_publish_raw(&pair.wire, 0, fms_text("t"), 0, &(struct wire_out){.size = 0}, "x");
    pair_until_emitted(&pair, 1);
    assert_null(fake_record(pair.f, 0)->identity);
    pair_end(&pair);
}

static void test_templates_tell_who_a_message_is(void **state)
{
    static const struct {
        const char *payload, *why;
    } rows[] = {
        {"{\"v\": \"truck \\\"9\\\"\", \"seq\": 18446744073709551615}", NULL},
        {"{\"v\": 9, \"seq\": \"7\"}", NULL},
        {"{\"v\": 9}", "sequence: no field \"seq\" in the payload"},
        {"{\"seq\": 7}", "origin: no field \"v\" in the payload"},
        {"{\"v\": 9, \"seq\": null}", "sequence: the field \"seq\" is null"},
        {"{\"v\": 9, \"seq\": 1.5}", "sequence \"1.5\" is no integer"},
        {"{\"v\": 9, \"seq\": -1}", "sequence \"-1\" is no integer"},
        {"{\"v\": 9, \"seq\": 1e3}", "sequence \"1e3\" is no integer"},
        {"{\"v\": 9, \"seq\": 18446744073709551616}", "is no integer"},
        {"no JSON", "origin: the payload is no JSON object"},
        {"", "origin: the payload is no JSON object"},
    };
    static const char *const others[][2] = {{"fms.origin", "spool"}, {"fms.sequence", "17"}, {NULL, NULL}};
    struct pair pair = pair_asked("origin = ${topic[1]}/${json:v}\nsequence = ${json:seq}", 1);
    size_t bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) { /* properties do not count beside them */
        const struct fms_record *record = come(&pair, i, "t/a", others, rows[i].payload);

        assert_string_equal(record->payload.data, rows[i].payload);
        assert_string_equal(record->topic.data, "t/a");
        assert_int_equal(record->header_count, 0);
        assert_null(fake_rejected(pair.f, i));
        assert_int_equal(record->identity == NULL, rows[i].why != NULL);
        if (rows[i].why != NULL && fake_said(pair.f, rows[i].why) == NULL)
            fail_msg("%s: nothing says \"%s\"", rows[i].payload, rows[i].why);
        bad += rows[i].why != NULL;
    }
    check_number(fake_record(pair.f, 0), "a/truck \"9\"", UINT64_MAX, 0);
    check_number(fake_record(pair.f, 1), "a/9", 7, 0);
    assert_int_equal(fake_counter(pair.f, "unidentified"), bad);
    assert_null(come(&pair, fake_emitted(pair.f), "t", others, rows[1].payload)->identity); /* no such level */
    assert_non_null(fake_said(pair.f, "origin: the topic has no level 1"));
    pair_end(&pair);
}

/* Who may write to a topic can tell only of itself. */
static void test_origins_begin_with_what_the_broker_guards(void **state)
{
    static const char *const liar[][2] = {
        {"unit", "km/h"}, {"fms.sequence", "17"}, {"fms.origin", "truck-1"}, {"fms.skipped", "3"}, {NULL, NULL}};
    static const char *const plain[][2] = {{"unit", "km/h"}, {"fms.sequence", "18"}, {"fms.origin", "x"}, {NULL, NULL}};
    static const char *const nobody[][2] = {{"unit", "km/h"}, {NULL, NULL}};
    struct pair pair = pair_asked("origin = ${topic[1]}/${header:user.fms.origin}\n"
                                  "sequence = ${header:user.fms.sequence}\nskipped = ${header:user.fms.skipped:-0}",
                                  1);

    (void)state;
    check_number(come(&pair, 0, "fms/truck-9/data", liar, "x"), "truck-9/truck-1", 17, 3);
    check_number(come(&pair, 1, "fms/truck-9/data", plain, "x"), "truck-9/x", 18, 0);
    assert_null(come(&pair, 2, "fms/truck-9/data", nobody, "x")->identity);
    assert_non_null(fake_said(pair.f, "origin: no header \"user.fms.origin\""));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fake_record(pair.f, i)->header_count, 1);
        assert_string_equal(fake_record(pair.f, i)->headers[0].name, "unit");
        assert_string_equal(fake_record(pair.f, i)->headers[0].value.data, "km/h");
    }
    pair_end(&pair);
}

/* What mqtt_sink sends, through a real broker. */
static void test_numbers_cross_a_broker(void **state)
{
    static const char origin[] = {'s', '%', 0, '\xff', '/', '1'};
    const struct fms_identity number = {
        .kind = FMS_NUMBERED, .origin = {origin, 6}, .sequence = 1u << 31, .skipped = 5};
    const struct fms_record draft = {.topic = fms_text("t"), .payload = fms_text("x"), .identity = &number};
    struct mosquitto broker;
    struct fake *sink, *f;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    f = fake_check("mqtt_ingest", FMS_SOURCE, section(broker.port, "topic = t"));
    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    fake_until(f, fake_said(f, "info: receives ") != NULL);
    sink = fake_open("mqtt_sink", FMS_SINK, section(broker.port, "identity = yes"));
    fake_add_record(sink, &draft);
    fake_add(sink, "t", NULL, "without");
    fake_write(sink);
    fake_until(f, fake_emitted(f) == 2);
    assert_int_equal(fake_record(f, 0)->identity->origin.size, sizeof origin);
    assert_memory_equal(fake_record(f, 0)->identity->origin.data, origin, sizeof origin);
    assert_true(fake_record(f, 0)->identity->sequence == number.sequence && fake_record(f, 0)->identity->skipped == 5);
    assert_int_equal(fake_record(f, 0)->header_count, 0);
    assert_null(fake_record(f, 1)->identity);
    fake_until(sink, fake_count_fate(sink, FMS_DELIVERED) == 2);
    fake_close(sink);
    source_end(f, -1);
    mosquitto_free(&broker);
}

/* A message as a broker sends it, with the properties; its record, which is known by identifier and content. */
static const struct fms_record *resent(struct pair *pair, size_t i, unsigned flags, unsigned id, const char *topic,
                                       const struct wire_out *properties, const char *payload)
{
    const struct fms_record *record;

    wire_publish_raw(&pair->wire, flags, fms_text(topic), id, properties, payload);
    pair_until_emitted(pair, i + 1);
    record = fake_record(pair->f, i);
    assert_non_null(record->identity);
    assert_int_equal(record->identity->kind, FMS_RESENT);
    assert_int_equal(record->identity->origin.size, strlen("bridge"));
    assert_memory_equal(record->identity->origin.data, "bridge", strlen("bridge"));
    assert_int_equal(record->identity->sequence, id);
    return record;
}

static bool says_the_same(const struct pair *pair, size_t a, size_t b)
{
    return memcmp(fake_record(pair->f, a)->identity->print, fake_record(pair->f, b)->identity->print,
                  sizeof fake_record(pair->f, a)->identity->print) == 0;
}

#define MARKED 8u /* DUP */

static void test_what_is_sent_again_may_repeat(void **state)
{
    static const struct wire_out nothing = {.size = 0};

    (void)state;
    for (unsigned qos = 1; qos <= 2; qos++) {
        for (size_t v = 0; v < 2; v++) {
            struct pair pair = pair_asked(
                v == 0 ? "redelivery = yes\nversion = 3.1.1" : "redelivery = yes\nversion = 5", qos);
            unsigned flags = qos << 1;

            assert_false(resent(&pair, 0, flags, 7, "t", &nothing, "a")->identity->may_repeat);
            assert_false(resent(&pair, 1, flags | MARKED, 8, "t", &nothing, "b")->identity->may_repeat);
            assert_false(resent(&pair, 2, flags, 9, "t", &nothing, "a")->identity->may_repeat);
            assert_true(says_the_same(&pair, 0, 2));
            assert_false(says_the_same(&pair, 0, 1));
            close(pair.wire.fd);
            pair_accept(&pair, true, qos);
            if (qos == 1) { /* what is in flight at QoS 2 is kept back in the plugin */
                assert_true(resent(&pair, 3, flags | MARKED, 7, "t", &nothing, "a")->identity->may_repeat);
                assert_true(says_the_same(&pair, 0, 3));
                assert_false(resent(&pair, 4, flags | MARKED, 7, "t", &nothing, "a")->identity->may_repeat);
                assert_false(resent(&pair, 5, flags, 8, "t", &nothing, "b")->identity->may_repeat);
                assert_false(resent(&pair, 6, flags | MARKED, 10, "t", &nothing, "c")->identity->may_repeat);
            }
            close(pair.wire.fd);
            pair_accept(&pair, false, qos); /* the session is lost */
            assert_false(
                resent(&pair, fake_emitted(pair.f), flags | MARKED, 7, "t", &nothing, "a")->identity->may_repeat);
            pair_end(&pair);
        }
    }
}

/* A process that has just started, with the session that an earlier one had. */
static void test_what_an_earlier_process_had_may_repeat(void **state)
{
    static const struct wire_out nothing = {.size = 0};
    struct pair pair = {.port = 0};

    (void)state;
    pair.listener = wire_listen(&pair.port);
    pair.f = fake_check(
        "mqtt_ingest", FMS_SOURCE,
        section(pair.port, "topic = t\nclient_id = bridge\nclean_start = no\nqos = 2\nredelivery = yes"));
    fake_host(pair.f)->identities = true;
    assert_int_equal(fake_start(pair.f), 0);
    wire_idle = pair.f;
    pair_accept(&pair, true, 2);
    assert_true(resent(&pair, 0, 2 << 1 | MARKED, 7, "t", &nothing, "a")->identity->may_repeat);
    assert_true(resent(&pair, 1, 1 << 1 | MARKED, 8, "t", &nothing, "a")->identity->may_repeat);
    assert_false(resent(&pair, 2, 1 << 1, 9, "t", &nothing, "a")->identity->may_repeat);
    wire_publish_raw(&pair.wire, 0, fms_text("t"), 0, &nothing, "at QoS 0");
    pair_until_emitted(&pair, 4);
    assert_null(fake_record(pair.f, 3)->identity);
    pair_end(&pair);
}

/* All that is delivered of a message counts, and not what changes on its way. A number comes before all that. */
static void test_what_a_message_says(void **state)
{
    static const char *const number[][2] = {{"fms.origin", "spool"}, {"fms.sequence", "17"}, {NULL, NULL}};
    static const char expiries[][5] = {{2, 0, 0, 0, 60}, {2, 0, 0, 0, 59}};
    struct pair pair = pair_asked("redelivery = yes", 1);
    struct wire_out out[5] = {{.size = 0}};

    (void)state;
    out_bytes(&out[1], expiries[0], sizeof expiries[0]);
    out_bytes(&out[2], expiries[1], sizeof expiries[1]);
    out_property(&out[3], "a", "b");
    out_property(&out[4], "ab", "");
    for (size_t i = 0; i < 5; i++)
        resent(&pair, i, 1 << 1, 1 + (unsigned)i, "t", &out[i], "x");
    assert_true(says_the_same(&pair, 0, 1));
    assert_true(says_the_same(&pair, 1, 2));
    assert_false(says_the_same(&pair, 0, 3));
    assert_false(says_the_same(&pair, 3, 4));
    resent(&pair, 5, 1 << 1, 6, "tx", &out[0], "");
    assert_false(says_the_same(&pair, 0, 5));
    check_number(come(&pair, 6, "t", number, "x"), "spool", 17, 0);
    pair_end(&pair);
}

/* TLS with a client certificate; an unknown authority and a wrong name are refused. */
static void test_tls(void **state)
{
    struct mosquitto broker;
    struct wire writer;
    char more[512], ini[768];
    int port = wire_free_port();
    struct fake *f;

    (void)state;
    snprintf(more, sizeof more,
             "allow_anonymous true\nlistener %d 127.0.0.1\ncafile %%s/ca.pem\ncertfile %%s/server.pem\n"
             "keyfile %%s/server.key\nrequire_certificate true\n",
             port);
    mosquitto_make(&broker, more);
    make_certificates(broker.directory);
    mosquitto_start(&broker);
    snprintf(ini, sizeof ini,
             "server = ssl://localhost:%d\ntopic = fms/data\nca_file = %s/ca.pem\ncert_file = %s/client.pem\n"
             "key_file = %s/locked.key\nkey_password = hush\nreconnect_min = 20ms\n",
             port, broker.directory, broker.directory, broker.directory);
    f = fake_open("mqtt_ingest", FMS_SOURCE, ini);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "info: receives ") != NULL);
    writer = client_new(broker.port, "writer", true);
    publish_numbers(&writer, 0, 300);
    fake_until(f, check_first_arrivals(f) == 300);
    assert_int_equal(fake_counter(f, "connections"), 1);
    source_end(f, -1);

    f = fake_check("mqtt_ingest", FMS_SOURCE, ini);
    assert_int_equal(fake_probe(f, 5 * FMS_SECOND), 0);
    fake_close(f);

    snprintf(ini, sizeof ini, "server = ssl://localhost:%d\ntopic = t\nca_file = %s/other.pem\n", port,
             broker.directory);
    f = fake_open("mqtt_ingest", FMS_SOURCE, ini);
    fake_until(f, fake_said(f, "TLS: the broker's certificate: ") != NULL);
    source_end(f, -1);
    snprintf(ini, sizeof ini, "server = ssl://127.0.0.1:%d\ntopic = t\nca_file = %s/ca.pem\n", port, broker.directory);
    f = fake_open("mqtt_ingest", FMS_SOURCE, ini); /* the certificate is for localhost */
    fake_until(f, fake_said(f, "TLS: the broker's certificate: IP address mismatch") != NULL);
    source_end(f, -1);
    snprintf(ini, sizeof ini, "server = ssl://localhost:%d\ntopic = t\nca_file = %s/ca.pem\n", broker.port,
             broker.directory);
    f = fake_open("mqtt_ingest", FMS_SOURCE, ini); /* there is no TLS on that port */
    fake_until(f, fake_said(f, "warning: cannot connect to ssl://localhost:") != NULL);
    source_end(f, -1);
    close(writer.fd);
    mosquitto_free(&broker);
}

/* -------------------------------------------------------------------------------------------------- acknowledgements */

/* Nothing is acknowledged before it is settled, and then in the order of receipt. */
static void test_acknowledged_when_settled(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair = pair_up(v == 0 ? "version = 3.1.1" : "version = 5", 16, 1);

        for (unsigned i = 0; i < 4; i++)
            wire_publish(&pair.wire, "t", "x", 1, 11 + i, NULL, NULL);
        pair_until_emitted(&pair, 4);
        fake_settle(pair.f, 2, FMS_DELIVERED);
        fake_settle(pair.f, 1, FMS_REJECTED); /* dropped, as on_reject says: it shall not come again */
        assert_false(wire_ready(pair.wire.fd, 100));
        fake_settle(pair.f, 0, FMS_DELIVERED);
        for (unsigned i = 0; i < 3; i++)
            expect_ack(&pair.wire, PUBACK, 11 + i);
        assert_false(wire_ready(pair.wire.fd, 100));
        pair_end(&pair);
    }
}

/* The acknowledgement belongs to the connection; what was in flight comes again on the next. */
static void test_connection_lost_in_flight(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    wire_publish(&pair.wire, "t", "0", 1, 7, NULL, NULL);
    pair_until_emitted(&pair, 1);
    close(pair.wire.fd);
    pair_accept(&pair, true, 1);
    fake_settle(pair.f, 0, FMS_DELIVERED);
    assert_false(wire_ready(pair.wire.fd, 100));
    wire_publish(&pair.wire, "t", "0", 1, 7, NULL, NULL);
    pair_until_emitted(&pair, 2);
    assert_false(wire_ready(pair.wire.fd, 100));
    fake_settle(pair.f, 1, FMS_DELIVERED);
    expect_ack(&pair.wire, PUBACK, 7);
    pair_end(&pair);
}

/* QoS 2: a message still in flight from the lost connection is not emitted again, and PUBREC goes out on the new one. */
static void test_qos_2_across_connections(void **state)
{
    struct pair pair = pair_up("qos = 2", 16, 2);

    (void)state;
    wire_publish(&pair.wire, "t", "0", 2, 7, NULL, NULL);
    pair_until_emitted(&pair, 1);
    close(pair.wire.fd);
    pair_accept(&pair, true, 2);
    wire_publish(&pair.wire, "t", "0", 2, 7, NULL, NULL);
    assert_false(wire_ready(pair.wire.fd, 100));
    assert_int_equal(fake_emitted(pair.f), 1);
    fake_settle(pair.f, 0, FMS_DELIVERED);
    expect_ack(&pair.wire, PUBREC, 7);
    wire_confirm(&pair.wire, PUBREL, 7, 0);
    expect_ack(&pair.wire, PUBCOMP, 7);
    wire_publish(&pair.wire, "t", "1", 2, 7, NULL, NULL);
    pair_until_emitted(&pair, 2);
    check_record(pair.f, 1, "t", "1");
    pair_end(&pair);
}

/* ------------------------------------------------------------------------------------------------- what it measures */

static void test_what_is_not_acknowledged_shows(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair = pair_up(v == 0 ? "version = 3.1.1" : "version = 5", 3, 1);

        fake_measure(pair.f);
        assert_true(fake_gauge(pair.f, "unacknowledged_messages") == 0);
        for (unsigned i = 0; i < 3; i++)
            wire_publish(&pair.wire, "t", "x", 1, 11 + i, NULL, NULL);
        pair_until_emitted(&pair, 3);
        assert_true(fake_gauge(pair.f, "unacknowledged_limit_messages") == (v == 0 ? 0 : 3));
        assert_true(fake_gauge(pair.f, "session_present") == 0);
        wire_publish(&pair.wire, "t", "y", 0, 0, NULL, NULL); /* for which there is no room */
        fake_until(pair.f, (fake_measure(pair.f), fake_gauge(pair.f, "buffer_bytes") > 0));
        assert_true(fake_gauge(pair.f, "unacknowledged_messages") == 3);
        fake_settle(pair.f, 0, FMS_DELIVERED);
        expect_ack(&pair.wire, PUBACK, 11);
        pair_until_emitted(&pair, 4);
        fake_measure(pair.f);
        assert_true(fake_gauge(pair.f, "unacknowledged_messages") == 2);
        assert_true(fake_gauge(pair.f, "buffer_bytes") == 0);
        close(pair.wire.fd);
        pair_accept(&pair, true, 1);
        fake_until(pair.f, fake_gauge(pair.f, "session_present") == 1);
        fake_measure(pair.f);
        assert_true(fake_gauge(pair.f, "unacknowledged_messages") == 0);
        pair_end(&pair);
    }
}

static void test_round_trips_are_timed(void **state)
{
    static const struct wire_out nothing;
    struct pair pair = pair_up("keepalive = 1s", 16, 1);
    int64_t before, sum;

    (void)state;
    for (size_t i = 1; i <= 2; i++) {
        before = fms_now(fake_host(pair.f));
        free(wire_expect(&pair.wire, PINGREQ).body);
        assert_int_equal(fake_observed(pair.f, "round_trip_seconds", NULL), i - 1);
        wire_send(&pair.wire, PINGRESP << 4, &nothing);
        fake_until(pair.f, fake_observed(pair.f, "round_trip_seconds", &sum) == i);
        assert_true(sum > 0 && (i > 1 || sum <= fms_now(fake_host(pair.f)) - before));
    }
    wire_send(&pair.wire, PINGRESP << 4, &nothing); /* which answers nothing */
    wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL);
    pair_until_emitted(&pair, 1);
    assert_int_equal(fake_observed(pair.f, "round_trip_seconds", NULL), 2);
    pair_end(&pair);
}

/* ---------------------------------------------------------------------------------------------------- back-pressure */

/* The sink settles late and out of order, and the pipeline is small: all comes, in order, over one connection. */
static void test_full_pipeline(void **state)
{
    static const unsigned capacities[] = {1, 4, 64};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        size_t capacity = capacities[i / 2], count = capacity == 1 ? 20 : 300, settled = 0;
        struct mosquitto broker;
        struct wire writer;
        char options[128];
        struct fake *f;

        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/#",
                 versions[i % 2]);
        f = fake_check("mqtt_ingest", FMS_SOURCE, section(broker.port, "%s", options));
        fake_capacity(f, capacity);
        assert_int_equal(fake_start(f), 0);
        fake_until(f, fake_said(f, "info: receives ") != NULL);
        publish_numbers(&writer, 0, (int)count);
        while (check_first_arrivals(f) < count) {
            size_t seen = fake_emitted(f);

            assert_true(fake_in_flight(f) <= capacity);
            for (size_t n = seen; n > settled; n--)
                fake_settle(f, n - 1, FMS_DELIVERED);
            settled = seen;
            fake_until(f, fake_emitted(f) > seen);
        }
        assert_int_equal(fake_emitted(f), count);
        assert_int_equal(fake_counter(f, "connections"), 1);
        assert_int_equal(fake_count_said(f, "warning: "), 0);
        source_end(f, -1);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

/* A sink that settles nothing for longer than the broker's patience: no more is taken than has a place, the broker hears of us all
 * the same, and then all of it comes. */
static void test_sink_that_stands_still(void **state)
{
    enum { ROOM = 10, COUNT = 100 };

    (void)state;
    for (size_t v = 0; v < 2; v++) {
        char options[64], payload[16];
        struct packet packet;
        struct pair pair;

        snprintf(options, sizeof options, "version = %s\nkeepalive = 1s", versions[v]);
        pair = pair_up(options, ROOM, 1);
        fake_clock_set(pair.f, fms_now(fake_host(pair.f)), fms_realtime(fake_host(pair.f)));
        for (unsigned i = 0; i < COUNT; i++) {
            snprintf(payload, sizeof payload, "%u", i);
            wire_publish(&pair.wire, "t", payload, 1, i + 1, NULL, NULL);
        }
        pair_until_emitted(&pair, ROOM);
        for (int second = 0; second < 60; second++) {
            fake_clock_step(pair.f, FMS_SECOND);
            assert_true(wire_receive(&pair.wire, &packet)); /* the plugin is polled meanwhile */
            assert_int_equal(packet.type, PINGREQ);
            free(packet.body);
        }
        assert_int_equal(fake_emitted(pair.f), ROOM);
        fake_settle_auto(pair.f, FMS_DELIVERED);
        fake_settle_all(pair.f, FMS_DELIVERED);
        fake_until(pair.f, check_first_arrivals(pair.f) == COUNT);
        assert_int_equal(fake_counter(pair.f, "connections"), 1);
        pair_end(&pair);
    }
}

/* A message that is there when this returns: a stepped clock would not wait for it. `fd` is the plugin's end. */
static void pair_publish(struct pair *pair, int fd, size_t id)
{
    struct pollfd its = {fd, POLLIN, 0};

    wire_publish(&pair->wire, "t", "x", 1, (unsigned)id, NULL, NULL);
    assert_int_equal(poll(&its, 1, FAKE_PATIENCE / FMS_MS), 1);
}

/* The next message comes, in a piece of its own; it is settled after so long. */
static void pair_pass(struct pair *pair, int fd, int64_t delivery)
{
    size_t id = fake_emitted(pair->f) + 1;

    pair_publish(pair, fd, id);
    pair_until_emitted(pair, id);
    fake_clock_step(pair->f, delivery);
    fake_settle(pair->f, id - 1, FMS_DELIVERED);
    fake_poll(pair->f, 100);
    expect_ack(&pair->wire, PUBACK, (unsigned)id);
}

static bool waits_to_read(const struct pair *pair)
{
    return fake_waits_for(pair->f)->fd >= 0 && (fake_waits_for(pair->f)->events & POLLIN) != 0;
}

/* Where messages come in small pieces, faster than they are delivered, some are read at once; acknowledgements wait for nothing. */
static void test_small_pieces_are_read_together(void **state)
{
    struct pair pair = pair_up("", 1000, 1);
    int64_t now;
    size_t count;
    int fd;

    (void)state;
    fake_clock_set(pair.f, fms_now(fake_host(pair.f)), fms_realtime(fake_host(pair.f)));
    fake_poll(pair.f, 100);
    fd = fake_waits_for(pair.f)->fd;
    for (int i = 0; i < 50; i++) {
        pair_pass(&pair, fd, 8 * FMS_MS);
        assert_true(waits_to_read(&pair)); /* they come one at a time */
    }
    count = fake_emitted(pair.f);
    pair_publish(&pair, fd, count + 1);
    pair_until_emitted(&pair, count + 1);
    assert_true(waits_to_read(&pair));
    fake_clock_step(pair.f, 100 * FMS_US);
    pair_publish(&pair, fd, count + 2);
    pair_until_emitted(&pair, count + 2);
    now = fms_now(fake_host(pair.f));
    assert_false(waits_to_read(&pair));
    assert_true(fake_waits_for(pair.f)->deadline == now + 500 * FMS_US);
    pair_publish(&pair, fd, count + 3);
    fake_settle(pair.f, count, FMS_DELIVERED);
    fake_poll(pair.f, 100);
    expect_ack(&pair.wire, PUBACK, (unsigned)count + 1);
    assert_int_equal(fake_emitted(pair.f), count + 2);
    assert_true(fake_waits_for(pair.f)->deadline == now + 500 * FMS_US);
    pair_until_emitted(&pair, count + 3);
    assert_true(fms_now(fake_host(pair.f)) == now + 500 * FMS_US);
    fake_clock_step(pair.f, FMS_SECOND);
    fake_settle_all(pair.f, FMS_DELIVERED);
    fake_poll(pair.f, 100);
    expect_ack(&pair.wire, PUBACK, (unsigned)count + 2);
    expect_ack(&pair.wire, PUBACK, (unsigned)count + 3);
    for (int i = 0; i < 100; i++)
        pair_pass(&pair, fd, 10 * FMS_US); /* where they are delivered at once, there is nothing to wait for */
    assert_true(waits_to_read(&pair));
    pair_end(&pair);
}

/* ------------------------------------------------------------------------------------------------- another `topic` */

static size_t count_payload(struct fake *f, const char *payload)
{
    size_t count = 0;

    for (size_t i = 0; i < fake_emitted(f); i++)
        count += strcmp(fake_record(f, i)->payload.data, payload) == 0;
    return count;
}

/* What the session has kept from a start with another `topic` is found by what it brings, and ended: then what is not asked for
 * does not come, and what is comes once. What had come is delivered. */
static void test_topic_changed(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct mosquitto broker;
        struct wire writer, earlier;
        char options[128];
        struct fake *f;

        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        earlier = client_new(broker.port, "bridge", false);
        client_subscribe(&earlier, "fms/#", 1);
        client_subscribe(&earlier, "old/+/data", 1);
        close(earlier.fd);
        snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/+/data",
                 versions[v]);
        f = source_up(broker.port, options);
        fake_settle_auto(f, FMS_DELIVERED);
        client_publish(&writer, "old/a/data", "unasked", 1, NULL, NULL);
        fake_until(f, fake_said(f, v == 1 ? "unsubscribed now: old/+/data" : "they are such as those on old/a/data") !=
                          NULL);
        client_publish(&writer, "fms/a/data", "twice", 1, NULL, NULL); /* with MQTT 5 it shows the other one */
        client_publish(&writer, "fms/a/other", "unasked", 1, NULL, NULL);
        fake_until(f, fake_counter(f, "connections") == 1 && count_payload(f, "unasked") >= 2 - v);
        if (v == 1)
            fake_until(f, fake_said(f, "unsubscribed now: fms/#") != NULL);
        wire_idle = f;
        assert_false(wire_ready(writer.fd, 1200)); /* a sweep without a finding is not followed at once by another */
        client_publish(&writer, "fms/a/other", "unasked", 1, NULL, NULL);
        assert_false(wire_ready(writer.fd, 200));
        wire_idle = NULL;
        client_publish(&writer, "old/a/data", "no", 1, NULL, NULL);
        client_publish(&writer, "fms/b/other", "no", 1, NULL, NULL);
        client_publish(&writer, "fms/b/data", "once", 1, NULL, NULL);
        fake_until(f, count_payload(f, "once") == 1);
        client_publish(&writer, "fms/b/data", "end", 1, NULL, NULL);
        fake_until(f, count_payload(f, "end") >= 1);
        assert_int_equal(count_payload(f, "once"), 1);
        assert_int_equal(count_payload(f, "no"), 0);
        source_end(f, -1);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

static void send_raw(const struct wire *wire, const void *data, size_t size)
{
    assert_int_equal(send(wire->fd, data, size, MSG_NOSIGNAL), size);
}

/* A broker that hangs up on UNSUBSCRIBE has what came before it acknowledged, is named, and is asked twice and no more. */
static void test_broker_hangs_up_on_unsubscribe(void **state)
{
    static const char unasked[] = "\x32\x09\x00\x01t\x00\x05\x02\x0b\x05x";
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    fake_settle_auto(pair.f, FMS_DELIVERED);
    for (int i = 0; i < 4; i++) {
        send_raw(&pair.wire, unasked, sizeof unasked - 1);
        expect_ack(&pair.wire, PUBACK, 5);
        if (i < 2)
            free(wire_expect(&pair.wire, UNSUBSCRIBE).body);
        else
            assert_false(wire_ready(pair.wire.fd, 100));
        close(pair.wire.fd);
        pair_accept(&pair, true, 1);
        assert_non_null(fake_said(pair.f, "and UNSUBSCRIBE from \"#\" had no answer"));
        assert_int_equal(fake_count_said(pair.f, "the broker is not asked again to end subscriptions"), i > 0);
        assert_false(wire_ready(pair.wire.fd, 1100)); /* the next sweep is put off */
    }
    assert_null(fake_said(pair.f, "another client"));
    pair_end(&pair);
}

/* ------------------------------------------------------------------------------------------- brokers that misbehave */

static void test_broker_closes_in_mid_packet(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    wire_publish(&pair.wire, "t", "0", 1, 1, NULL, NULL);
    send_raw(&pair.wire, "\x32\x20\x00\x01t\x00", 6);
    pair_until_emitted(&pair, 1);
    close(pair.wire.fd);
    pair_accept(&pair, true, 1);
    assert_non_null(fake_said(pair.f, "lost: the broker closed the connection; connecting again"));
    wire_publish(&pair.wire, "t", "1", 1, 2, NULL, NULL);
    pair_until_emitted(&pair, 2);
    check_record(pair.f, 1, "t", "1");
    pair_end(&pair);
}

static void test_broker_sends_byte_by_byte(void **state)
{
    static const char bytes[] = "\x32\x07\x00\x01t\x00\x01\x00x\x32\x08\x00\x01t\x00\x02\x00xy";
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    for (size_t i = 0; i < sizeof bytes - 1; i++) {
        send_raw(&pair.wire, bytes + i, 1);
        fake_poll(pair.f, 16);
    }
    pair_until_emitted(&pair, 2);
    check_record(pair.f, 1, "t", "xy");
    pair_end(&pair);
}

/* Its silence, at whatever step, ends in another attempt. */
static void test_broker_never_answers(void **state)
{
    struct pair pair = pair_make("keepalive = 1s", 16);
    struct wire silent;
    char why[100];

    (void)state;
    assert_true(wire_ready(pair.listener, WIRE_PATIENCE));
    silent.fd = accept4(pair.listener, NULL, NULL, SOCK_CLOEXEC);
    fake_until(pair.f, fake_said(pair.f, "no answer to CONNECT within 10 s") != NULL);
    close(silent.fd);
    pair_accept(&pair, false, 1);
    fake_until(pair.f, fake_link_is_up(pair.f));
    fake_until(pair.f, fake_said(pair.f, "lost: the broker went silent") != NULL); /* PINGREQ */
    assert_false(fake_link_is_up(pair.f));
    assert_non_null(strstr(fake_link_why(pair.f, why, sizeof why), "tcp://127.0.0.1:"));
    assert_non_null(strstr(why, ": the broker went silent"));
    close(pair.wire.fd);
    pair_accept(&pair, true, 1);
    pair_end(&pair);
}

/* Packets that cannot be told apart cost the connection, but what was delivered before is acknowledged: also what is settled
 * only then. */
static void test_broker_breaks_the_protocol(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        unsigned reason;
        const char *said;
    } cases[] = {
        {"\x82\x00", 2, 0x82, "the broker breaks the protocol: SUBSCRIBE"},
        {"\x30\xff\xff\xff\xff\x7f", 6, 0x81, "whose length cannot be told"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair = pair_up("", 16, 1);
        struct packet packet;

        for (unsigned n = 0; n < 3; n++)
            wire_publish(&pair.wire, "t", "x", 1, 11 + n, NULL, NULL);
        send_raw(&pair.wire, cases[i].bytes, cases[i].size);
        pair_until_emitted(&pair, 3);
        fake_settle(pair.f, 0, FMS_DELIVERED);
        expect_ack(&pair.wire, PUBACK, 11);
        assert_false(wire_ready(pair.wire.fd, 100));
        fake_settle(pair.f, 2, FMS_DELIVERED);
        fake_settle(pair.f, 1, FMS_DELIVERED);
        fake_poll(pair.f, 16);
        wire_idle = NULL; /* one turn is enough */
        expect_ack(&pair.wire, PUBACK, 12);
        assert_true(wire_receive(&pair.wire, &packet)); /* and DISCONNECT behind them */
        assert_int_equal(packet.id, 13);
        free(packet.body);
        assert_true(wire_receive(&pair.wire, &packet));
        assert_int_equal(packet.type, DISCONNECT);
        assert_int_equal(packet.size, 1);
        assert_int_equal(packet.body[0], cases[i].reason);
        free(packet.body);
        close(pair.wire.fd);
        wire_idle = pair.f;
        fake_until(pair.f, fake_said(pair.f, cases[i].said) != NULL);
        pair_accept(&pair, true, 1); /* and it tries again */
        pair_end(&pair);
    }
}

/* A sink that settles nothing does not keep it from parting; nor does a broker that does not hang up. */
static void test_parts_although_nothing_settles(void **state)
{
    struct pair pair = pair_up("", 16, 1);
    struct wire old;

    (void)state;
    wire_publish(&pair.wire, "t", "x", 1, 7, NULL, NULL);
    send_raw(&pair.wire, "\x82\x00", 2);
    free(wire_expect(&pair.wire, DISCONNECT).body);
    old = pair.wire;
    pair_accept(&pair, true, 1);
    assert_false(wire_ready(pair.wire.fd, 100)); /* nothing of the old connection is acknowledged on the new one */
    close(old.fd);
    pair_end(&pair);
}

/* One message of each kind that is odd, in the midst of good ones, sent by a broker that checks nothing: each costs itself at
 * most, whatever the QoS, and is acknowledged in its turn. */
static void test_odd_messages_cost_only_themselves(void **state)
{
#define ODD(bytes) bytes, sizeof bytes - 1
    static const struct {
        const char *body; /* behind the topic "t" and the identifier, or NULL: `whole` */
        size_t size;
        const char *fault; /* NULL: a record */
    } cases[] = {
        {ODD("\0\1t\0\2\2\1\2x"), NULL},             /* payload format indicator 2 */
        {ODD("\0\1t\0\2\6\10\0\3a/+x"), NULL},       /* response topic with a wildcard */
        {ODD("\0\1t\0\2\10\3\0\1a\3\0\1bx"), NULL},  /* two content types */
        {ODD("\0\1t\0\2\3\41\0\1x"), NULL},          /* what only CONNACK has */
        {ODD("\0\1t\0\2\7\46\0\1k\0\1\377x"), NULL}, /* a user property whose value is no text */
        {ODD("\0\1t\0\2\7\46\0\1\377\0\1vx"), "the name of a user property"},
        {ODD("\0\1t\0\2\7\46\0\1\0\0\1vx"), "the name of a user property"},
        {ODD("\0\1t\0\2\2\176\0x"), "its properties cannot be told apart"},
        {ODD("\0\1\377\0\2\0x"), "its topic is no UTF-8, or holds NUL"},
        {ODD("\0\3a\0b\0\2\0x"), "its topic is no UTF-8, or holds NUL"},
        {ODD("\0\3a/#\0\2\0x"), "its topic holds a wildcard"},
        {ODD("\0\0\0\2\0x"), "it has no topic"},
        {ODD("\0\0\0\2\3\43\0\1x"), "its topic alias stands for nothing"},
        {ODD("\0\1t\0\2\11x"), "its properties cannot be told apart"}, /* longer than the packet */
    };
#undef ODD

    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        unsigned qos = 1 + i % 2, ack = qos == 1 ? PUBACK : PUBREC;
        struct pair pair = pair_up(qos == 1 ? "qos = 1" : "qos = 2", 16, qos);
        size_t row = i / 2;
        struct wire_out out = {.size = 0};

        out_bytes(&out, cases[row].body, cases[row].size);
        wire_publish(&pair.wire, "t", "0", qos, 1, NULL, NULL);
        wire_send(&pair.wire, PUBLISH << 4 | qos << 1, &out);
        wire_publish(&pair.wire, "t", "1", qos, 3, NULL, NULL);
        pair_until_emitted(&pair, 3);
        check_record(pair.f, 0, "t", "0");
        check_record(pair.f, 2, "t", "1");
        assert_string_equal(fake_record(pair.f, 1)->payload.data, "x");
        if (cases[row].fault == NULL) {
            assert_null(fake_rejected(pair.f, 1));
        } else {
            assert_non_null(strstr(fake_rejected(pair.f, 1), cases[row].fault));
            assert_non_null(strstr(fake_rejected(pair.f, 1), " on \""));
            assert_int_equal(fake_counter(pair.f, "unusable"), 1);
        }
        fake_settle_all(pair.f, FMS_DELIVERED);
        for (unsigned id = 1; id <= 3; id++)
            expect_ack(&pair.wire, ack, id);
        assert_int_equal(fake_counter(pair.f, "connections"), 1);
        pair_end(&pair);
    }
}

/* The pipeline logs each, with the fault and the topic; there is no line of ours beside that. */
static void test_each_fault_names_the_topic(void **state)
{
    static const char *const bodies[] = {"\1\377x", "\1#x", "\1#x", "\1+x", "\1\377x"};
    struct pair pair = pair_up("version = 3.1.1\nqos = 0", 16, 0);

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct wire_out out = {.size = 0};

        out_byte(&out, 0);
        out_bytes(&out, bodies[i], 3);
        wire_send(&pair.wire, PUBLISH << 4, &out);
        pair_until_emitted(&pair, i + 1);
    }
    assert_non_null(
        strstr(fake_rejected(pair.f, 3), "its topic holds a wildcard (+ or #) (MQTT PUBLISH 0 on \"+\", of 6 bytes)"));
    assert_int_equal(fake_count_said(pair.f, "a message on "), 0);
    assert_int_equal(fake_count_said(pair.f, "warning: "), 0);
    pair_end(&pair);
}

/* Of more user properties than a record has room for, the log says how many are left out, and of which message. */
static void test_too_many_user_properties_are_told(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    publish_many_properties(&pair.wire, 1003);
    pair_until_emitted(&pair, 1);
    assert_int_equal(fake_record(pair.f, 0)->header_count, 1000);
    assert_non_null(fake_said(pair.f, "3 user properties of a message on \"t\" are left out"));
    assert_int_equal(fake_counter(pair.f, "properties_dropped"), 3);
    pair_end(&pair);
}

/* A broker that asks without end and does not read is not read either: it finds its socket full, and then all its answers. */
static void test_broker_that_does_not_read(void **state)
{
    struct pair pair = pair_up("version = 3.1.1\nqos = 2", 16, 2);
    static char pubrels[65536];
    size_t asked = 0, heard = 0;

    (void)state;
    wire_idle = NULL;
    for (size_t i = 0; i < sizeof pubrels; i += 4)
        memcpy(pubrels + i, "\x62\x02\0\x09", 4);
    for (int refused = 0; refused < 100 && asked < (size_t)1 << 30;) {
        ssize_t n = send(pair.wire.fd, pubrels + asked % 4, sizeof pubrels - 4, MSG_DONTWAIT | MSG_NOSIGNAL);

        refused = n < 0 ? refused + 1 : 0;
        asked += n > 0 ? (size_t)n : 0;
        fake_poll(pair.f, 16);
    }
    assert_true(asked < (size_t)1 << 28); /* what two sockets hold, and a buffer */
    while (heard < asked / 4 * 4) {
        ssize_t n = recv(pair.wire.fd, pubrels, sizeof pubrels, MSG_DONTWAIT);

        heard += n > 0 ? (size_t)n : 0;
        fake_poll(pair.f, 16);
        assert_true(n > 0 || errno == EAGAIN);
    }
    assert_int_equal(fake_counter(pair.f, "connections"), 1);
    pair_end(&pair);
}

/* A broker that knows MQTT 3.1.1 only, and says so, says nothing, or hangs up: it is asked in 3.1.1 by itself, unless MQTT 5 was
 * demanded. */
static void test_broker_of_3_1_1_only(void **state)
{
    static const struct {
        const char *answer;
        size_t size;
    } rows[] = {{"\x20\x02\x00\x01", 4}, {"\x20\x03\x00\x01\x00", 5}, {"", 0}};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        bool is_demanded = i % 2 == 1;
        struct pair pair = pair_make(is_demanded ? "version = 5" : "", 16);
        struct wire wire = {.version = 4};

        assert_true(wire_ready(pair.listener, WIRE_PATIENCE));
        wire.fd = accept4(pair.listener, NULL, NULL, SOCK_CLOEXEC);
        free(wire_expect(&wire, CONNECT).body);
        send_raw(&wire, rows[i / 2].answer, rows[i / 2].size);
        close(wire.fd);
        pair_accept(&pair, false, 1);
        assert_int_equal(pair.wire.version, is_demanded ? 5 : 4);
        assert_non_null(
            fake_said(pair.f, i < 4 ? "the broker does not speak MQTT 5" : "and CONNECT had no answer (does "));
        assert_int_equal(fake_said(pair.f, "tries MQTT 3.1.1") == NULL, is_demanded);
        if (!is_demanded) { /* who was only silent may have been so for another reason, and is asked again */
            fake_until(pair.f, fake_said(pair.f, "info: receives ") != NULL);
            close(pair.wire.fd);
            pair_accept(&pair, false, 1);
            assert_int_equal(pair.wire.version, rows[i / 2].size == 0 ? 5 : 4);
        }
        pair_end(&pair);
    }
}

/* Who has spoken MQTT 5 is not taken for another because it hangs up. */
static void test_broker_of_5_that_hangs_up(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    for (int i = 0; i < 3; i++) {
        close(pair.wire.fd);
        assert_true(wire_ready(pair.listener, WIRE_PATIENCE));
        pair.wire.fd = accept4(pair.listener, NULL, NULL, SOCK_CLOEXEC);
    }
    close(pair.wire.fd);
    pair_accept(&pair, true, 1);
    assert_int_equal(pair.wire.version, 5);
    pair_end(&pair);
}

/* A broker that hangs up on SUBSCRIBE is asked more and more seldom, the log says what it had not answered, and that a
 * connection lasts once it does. */
static void test_back_off_until_a_connection_lasts(void **state)
{
    struct pair pair = pair_make("", 16);
    int64_t paused = 0; /* pauses of at least 10, 20, 40, 80, and then 100 ms */

    (void)state;
    pair.wire = broker_accept(pair.listener, NULL, false, NULL);
    for (int i = 0; i < 8; i++) {
        free(wire_expect(&pair.wire, SUBSCRIBE).body);
        assert_false(wire_ready(pair.wire.fd, 250)); /* longer than any pause */
        paused -= fake_realclock();
        close(pair.wire.fd);
        pair.wire = broker_accept(pair.listener, NULL, false, NULL);
        paused += fake_realclock();
    }
    broker_grant(&pair.wire, 1);
    assert_true(paused >= 550 * FMS_MS);
    assert_non_null(fake_said(pair.f, "lost: the broker closed the connection, and SUBSCRIBE to \"t\" had no answer"));
    assert_non_null(fake_said(pair.f, "does not last: the broker closed the connection, and SUBSCRIBE to "));
    assert_int_equal(fake_count_said(pair.f, "info: connected to "), 2); /* the first, and the first again */
    fake_clock_set(pair.f, fms_now(fake_host(pair.f)) + 31 * FMS_SECOND, fms_realtime(fake_host(pair.f)));
    fake_until(pair.f, fake_said(pair.f, "and now it lasts: 8 connections before did not") != NULL);
    pair_end(&pair);
}

/* So is one that grants everything and hangs up soon: the pauses grow, and the log does not. */
static void test_back_off_although_all_is_granted(void **state)
{
    struct pair pair = pair_make("", 16);
    int64_t now = fms_now(fake_host(pair.f)), paused = 0; /* pauses of 20, 40, 80, and then 160 ms */

    (void)state;
    fake_clock_set(pair.f, now, fms_realtime(fake_host(pair.f)));
    for (int i = 0; i < 8; i++) {
        pair_accept(&pair, i > 0, 1);
        wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL); /* behind SUBACK */
        pair_until_emitted(&pair, (size_t)i + 1);
        fake_clock_step(pair.f, 5 * FMS_SECOND);
        fake_poll(pair.f, 16);
        close(pair.wire.fd);
        for (int n = 0; n < WIRE_PATIENCE && fake_count_said(pair.f, "connecting again") == (size_t)i; n++)
            assert_false(wire_ready(pair.listener, 1));
        for (paused = 0; paused < FMS_SECOND && !wire_ready(pair.listener, 2); paused += 10 * FMS_MS)
            fake_clock_step(pair.f, 10 * FMS_MS);
    }
    assert_true(paused >= 140 * FMS_MS);
    assert_int_equal(fake_count_said(pair.f, "info: connected to "), 2);
    pair_accept(&pair, true, 1);
    pair_end(&pair);
}

/* What is guessed of one server is not held against the next. */
static void test_guess_is_for_one_server(void **state)
{
    int port = 0, listeners[2] = {wire_listen_at(1, &port), wire_listen_at(2, &port)};
    char ini[256];
    struct fake *f;
    struct wire wire;

    (void)state;
    snprintf(ini, sizeof ini, "server = tcp://127.0.0.1:%d, tcp://127.0.0.2:%d\nreconnect_min = 20ms\ntopic = t\n",
             port, port);
    f = fake_open("mqtt_ingest", FMS_SOURCE, ini);
    wire_idle = f;
    broker_refuse(listeners[0], 0);
    close(listeners[0]); /* before it is asked in 3.1.1 */
    wire = broker_accept(listeners[1], NULL, false, NULL);
    assert_int_equal(wire.version, 5);
    broker_grant(&wire, 1);
    source_end(f, wire.fd);
    close(wire.fd);
    close(listeners[1]);
}

/* A broker that says nothing in either version: the log says once that another is tried, until there is a connection. */
static void test_versions_tried_are_told_once(void **state)
{
    struct pair pair = pair_make("", 16);

    (void)state;
    for (int i = 0; i < 5; i++)
        broker_refuse(pair.listener, 0);
    pair_accept(&pair, false, 1);
    assert_int_equal(fake_count_said(pair.f, "tries MQTT "), 1);
    pair_end(&pair);
}

/* Three in a row that are closed without a word when all was well: a guess. */
static void test_takeovers_are_guessed(void **state)
{
    struct pair pair = pair_up("version = 3.1.1\ntakeover_pause = 60m", 16, 1);
    char why[256];

    (void)state;
    for (int i = 0; i < 3; i++) {
        wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL);
        pair_until_emitted(&pair, (size_t)i + 1);
        assert_null(fake_said(pair.f, "another client"));
        close(pair.wire.fd);
        if (i < 2)
            pair_accept(&pair, true, 1);
    }
    fake_until(pair.f, fake_said(pair.f, "does another client have the client id \"bridge\"?") != NULL);
    assert_false(fake_link_is_up(pair.f));
    assert_string_equal(
        fake_link_why(pair.f, why, sizeof why),
        "another client seems to have the client id \"bridge\", and has taken the session over: it is left"
        " to that one for 3600 s");
    fake_poll(pair.f, 16);
    assert_false(wire_ready(pair.listener, 300)); /* it is left alone */
    pair_end(&pair);
}

/* MQTT 5 says so. Who came back at once would take the session from the other, and so on. */
static void test_who_was_taken_over_stays_away(void **state)
{
    static const char taken[] = "\xe0\x02\x8e\x00";
    struct pair pair = pair_up("takeover_pause = 60m", 16, 1);
    char why[256];

    (void)state;
    wire_publish(&pair.wire, "t", "x", 1, 7, NULL, NULL);
    pair_until_emitted(&pair, 1);
    send_raw(&pair.wire, taken, sizeof taken - 1);
    fake_until(pair.f,
               fake_said(pair.f, "has the session now: is this pipeline, or its shard, started twice?") != NULL);
    assert_false(fake_link_is_up(pair.f));
    assert_string_equal(
        fake_link_why(pair.f, why, sizeof why),
        "another client has the client id \"bridge\", and has taken the session over: it is left to that one for"
        " 3600 s");
    fake_poll(pair.f, 16);
    assert_false(wire_ready(pair.listener, 300));
    pair_end(&pair); /* at once, all the same */
}

/* The pause over, it asks again: the other one may be gone. */
static void test_who_was_taken_over_comes_back(void **state)
{
    static const char taken[] = "\xe0\x02\x8e\x00";
    struct pair pair = pair_up("takeover_pause = 20ms", 16, 1);

    (void)state;
    for (int i = 0; i < 3; i++) {
        send_raw(&pair.wire, taken, sizeof taken - 1);
        close(pair.wire.fd);
        pair_accept(&pair, true, 1);
    }
    fake_until(pair.f, fake_link_is_up(pair.f));
    pair_end(&pair);
}

/* A broker that restarts closes without a word, too, but is away then. */
static void test_restarts_are_no_takeovers(void **state)
{
    struct pair pair = pair_up("version = 3.1.1", 16, 1);

    (void)state;
    for (int i = 0; i < 4; i++) {
        wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL);
        pair_until_emitted(&pair, (size_t)i + 1);
        close(pair.listener);
        close(pair.wire.fd);
        fake_until(pair.f, fake_count_said(pair.f, "still not connected to ") == (size_t)i + 1);
        pair.listener = wire_listen(&pair.port);
        pair_accept(&pair, true, 1);
    }
    assert_null(fake_said(pair.f, "another client"));
    pair_end(&pair);
}

/* Whoever never says that it has a session is not blamed for having lost it; whoever has said so, is. */
static void test_session_that_is_not_present(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    for (int i = 0; i < 3; i++) { /* never, never, yes, no more */
        wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL);
        pair_until_emitted(&pair, (size_t)i + 1);
        close(pair.wire.fd);
        pair_accept(&pair, i == 1, 1);
        assert_int_equal(fake_count_said(pair.f, "info: the broker does not say that it still has our session"), 1);
        assert_int_equal(fake_count_said(pair.f, "does not have our session any more"), i == 2);
    }
    pair_end(&pair);
}

/* What the broker does not grant is said, once. */
static void test_limits_are_told_once(void **state)
{
    struct pair pair = pair_make("qos = 2\nsession_expiry = 60s", 16);
    struct wire_out limits = {.size = 0};

    (void)state;
    out_bytes(&limits, "\x11\0\0\0\x1e\x24\1\x25\0", 9);
    for (int i = 0; i < 2; i++) {
        pair.wire = broker_accept(pair.listener, NULL, i == 1, &limits);
        broker_grant(&pair.wire, 1);
        wire_publish(&pair.wire, "t", "x", 0, 0, NULL, NULL);
        pair_until_emitted(&pair, (size_t)i + 1);
        assert_int_equal(fake_count_said(pair.f, "keeps our session for 30 s, not for session_expiry = 60 s"), 1);
        assert_int_equal(fake_count_said(pair.f, "Maximum QoS is 1"), 1);
        assert_int_equal(fake_count_said(pair.f, "retains no messages"), 1);
        if (i == 0)
            close(pair.wire.fd);
    }
    pair_end(&pair);
}

/* It is sent elsewhere: said, with the address, for the address stands in the pipeline file. */
/* A reason to hang up, and what had no answer then. */
static void test_broker_hangs_up_on_subscribe(void **state)
{
    struct wire_out out = {.data = {0x97, 0}, .size = 2};
    struct pair pair = pair_make("", 16);

    (void)state;
    pair.wire = broker_accept(pair.listener, NULL, false, NULL);
    free(wire_expect(&pair.wire, SUBSCRIBE).body);
    wire_send(&pair.wire, DISCONNECT << 4, &out);
    fake_until(pair.f, fake_said(pair.f, "quota exceeded, and SUBSCRIBE to \"t\" had no answer") != NULL);
    close(pair.wire.fd);
    pair_accept(&pair, false, 1);
    pair_end(&pair);
}

/* What is no MQTT broker is told by what it says, and not asked in another version. */
static void test_no_broker_is_there(void **state)
{
    struct pair pair = pair_make("", 16);
    struct wire wire = {.version = 5};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(wire_ready(pair.listener, WIRE_PATIENCE));
        wire.fd = accept4(pair.listener, NULL, NULL, SOCK_CLOEXEC);
        free(wire_expect(&wire, CONNECT).body);
        send_raw(&wire, i == 0 ? "HTTP/1.1 400 Bad Request\r\n" : "\x15\x03\x01\x00\x02\x02\x0a", i == 0 ? 26 : 7);
        close(wire.fd);
    }
    pair_accept(&pair, false, 1);
    assert_int_equal(pair.wire.version, 5);
    assert_non_null(fake_said(pair.f, "no MQTT broker (it says \"HTTP/1.1 400 Bad Req...\")"));
    assert_non_null(fake_said(pair.f, "that port speaks TLS: use ssl://"));
    pair_end(&pair);
}

static void test_broker_redirects(void **state)
{
    struct pair pair = pair_up("", 16, 1);

    (void)state;
    send_raw(&pair.wire, "\xe0\x0d\x9d\x0b\x1c\x00\x08other:18", 15);
    fake_until(pair.f, fake_said(pair.f, "server moved: other:18") != NULL);
    close(pair.wire.fd);
    pair_accept(&pair, true, 1);
    pair_end(&pair);
}

static void test_refused_subscription_is_asked_for_again(void **state)
{
    char why[100];

    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair = pair_make(v == 1 ? "version = 5" : "version = 3.1.1", 16);

        pair_accept(&pair, false, v == 1 ? 0x87 : 0x80);
        fake_until(pair.f, fake_said(pair.f, "error: ") != NULL);
        assert_false(fake_link_is_up(pair.f));
        assert_string_equal(fake_link_why(pair.f, why, sizeof why),
                            v == 1 ? "the broker refuses the subscription to \"t\": not authorized"
                                   : "the broker refuses the subscription to \"t\": refused");
        broker_grant(&pair.wire, 0); /* once more */
        fake_until(pair.f, fake_said(pair.f, "info: receives ") != NULL);
        assert_non_null(fake_said(pair.f, "error: the broker refuses the subscription to \"t\""));
        assert_non_null(fake_said(pair.f, "the broker grants \"t\" only QoS 0"));
        assert_true(fake_link_is_up(pair.f));
        pair_end(&pair);
    }
}

/* --------------------------------------------------------------------------------------------------------- stopping */

/* The broker's side of a parting: what the plugin said, and whether it hung up (0) or broke off (ECONNRESET). */
struct parting {
    pthread_t thread;
    int fd;
    uint8_t said[64];
    size_t size;
    int error;
};

static void *part(void *user)
{
    struct parting *parting = user;
    ssize_t n;

    do {
        n = recv(parting->fd, parting->said + parting->size, sizeof parting->said - parting->size, 0);
        parting->size += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    parting->error = n < 0 ? errno : 0;
    close(parting->fd);
    return NULL;
}

/* Hangs up after DISCONNECT, and wants to be the first. */
static void *part_first(void *user)
{
    struct parting *parting = user;

    parting->size = (size_t)recv(parting->fd, parting->said, 2, MSG_WAITALL);
    parting->error = wire_ready(parting->fd, 100) ? EPIPE : 0;
    close(parting->fd);
    return NULL;
}

static void parting_begin(struct parting *parting, int fd, void *(*run)(void *))
{
    memset(parting, 0, sizeof *parting);
    parting->fd = fd;
    assert_int_equal(pthread_create(&parting->thread, NULL, run, parting), 0);
}

static void parting_end(struct parting *parting, const char *said, size_t size)
{
    pthread_join(parting->thread, NULL);
    assert_int_equal(parting->error, 0);
    assert_int_equal(parting->size, size);
    assert_memory_equal(parting->said, said, size);
}

/* What is in flight at the stop is acknowledged when it is settled, and only then it parts: without a reset, although it
 * has not read all. */
static void test_stopped_with_records_in_flight(void **state)
{
    struct pair pair = pair_up("", 16, 1);
    struct parting parting;

    (void)state;
    wire_publish(&pair.wire, "t", "0", 1, 1, NULL, NULL);
    wire_publish(&pair.wire, "t", "1", 1, 2, NULL, NULL);
    pair_until_emitted(&pair, 2);
    fake_stop(pair.f);
    wire_publish(&pair.wire, "t", "2", 1, 3, NULL, NULL); /* too late: it stays at the broker */
    fake_poll(pair.f, 0);
    assert_false(wire_ready(pair.wire.fd, 100));
    assert_false(fake_ended(pair.f));
    fake_settle(pair.f, 1, FMS_DELIVERED);
    fake_settle(pair.f, 0, FMS_DELIVERED);
    fake_until(pair.f, fake_ended(pair.f));
    wire_idle = NULL;
    assert_int_equal(fake_emitted(pair.f), 2);
    parting_begin(&parting, pair.wire.fd, part);
    fake_close(pair.f);
    parting_end(&parting, "\x40\2\0\1\x40\2\0\2\xe0\0", 10);
    close(pair.listener);
}

/* And with a sink that never settles it is closed without an acknowledgement. */
static void test_closed_with_records_in_flight(void **state)
{
    struct pair pair = pair_up("", 16, 1);
    struct parting parting;

    (void)state;
    wire_publish(&pair.wire, "t", "0", 1, 1, NULL, NULL);
    pair_until_emitted(&pair, 1);
    wire_idle = NULL;
    parting_begin(&parting, pair.wire.fd, part);
    fake_close(pair.f);
    parting_end(&parting, "\xe0\0", 2);
    close(pair.listener);
}

/* A broker that works off what it has read, and forgets that when it sees our end, is left the time. */
static void test_broker_hangs_up(void **state)
{
    struct pair pair = pair_up("", 16, 1);
    struct parting parting;

    (void)state;
    wire_idle = NULL;
    parting_begin(&parting, pair.wire.fd, part_first);
    fake_close(pair.f);
    parting_end(&parting, "\xe0\0", 2);
    close(pair.listener);
}

/* ----------------------------------------------------------------------------------------------------- reconnection */

static void test_broker_down_at_start_and_restarted(void **state)
{
    struct mosquitto broker;
    struct wire writer;
    struct fake *f;
    char why[200];

    (void)state;
    mosquitto_make(&broker, "allow_anonymous true\n");
    f = fake_open("mqtt_ingest", FMS_SOURCE,
                  section(broker.port, "client_id = bridge\nclean_start = no\ntopic = fms/#"));
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "cannot connect to tcp://127.0.0.1:") != NULL);
    assert_false(fake_link_is_up(f));
    assert_string_not_equal(fake_link_why(f, why, sizeof why), "");
    mosquitto_start(&broker);
    fake_until(f, fake_said(f, "info: receives ") != NULL);
    fake_until(f, fake_link_is_up(f));
    writer = client_new(broker.port, "writer", true);
    publish_numbers(&writer, 0, 3);
    fake_until(f, check_first_arrivals(f) == 3);
    close(writer.fd);
    mosquitto_stop(&broker, SIGTERM); /* which saves the session */
    fake_until(f, fake_said(f, " lost: ") != NULL);
    assert_false(fake_link_is_up(f));
    mosquitto_start(&broker);
    writer = client_new(broker.port, "writer", true);
    publish_numbers(&writer, 3, 3);
    fake_until(f, check_first_arrivals(f) == 6);
    assert_non_null(fake_said(f, "with the session that the broker kept"));
    assert_int_equal(fake_count_said(f, " again after "), 1);
    fake_until(f, fake_link_is_up(f));
    mosquitto_stop(&broker, SIGKILL); /* which does not */
    assert_int_equal(run_quietly("rm -f '%s/mosquitto.db'", broker.directory), 0);
    mosquitto_start(&broker);
    fake_until(f, fake_said(f, "the broker does not have our session any more") != NULL);
    source_end(f, -1);
    close(writer.fd);
    mosquitto_free(&broker);
}

static void test_unknown_host(void **state)
{
    struct fake *f = fake_open("mqtt_ingest", FMS_SOURCE, "server = tcp://no-such-host.invalid\ntopic = t\n");

    (void)state;
    fake_until(f, fake_said(f, "cannot connect to tcp://no-such-host.invalid:1883: no-such-host.invalid: ") != NULL);
    source_end(f, -1);
}

/* ------------------------------------------------------------------------------------------------------------ probe */

static void test_probe(void **state)
{
    struct mosquitto broker;
    struct fake *f;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    f = fake_check("mqtt_ingest", FMS_SOURCE, section(broker.port, "topic = fms/data, $share/g/fms/+"));
    assert_int_equal(fake_probe(f, 5 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, " answers in "));
    assert_non_null(fake_said(f, "report: topic \"fms/data\" is granted, with QoS 1"));
    assert_non_null(fake_said(f, "report: topic \"$share/g/fms/+\" is granted"));
    fake_close(f);
    mosquitto_free(&broker);
    f = fake_check("mqtt_ingest", FMS_SOURCE, section(broker.port, "topic = t"));
    assert_true(fake_probe(f, 5 * FMS_SECOND) < 0);
    assert_non_null(fake_said(f, "nobody answers there"));
    fake_close(f);
}

static void test_passwords_are_renewed(void **state)
{
    (void)state;
    expect_renewed_password("mqtt_ingest", FMS_SOURCE);
}

static void test_keys_are_renewed(void **state)
{
    (void)state;
    expect_renewed_key("mqtt_ingest", FMS_SOURCE);
}

static void test_certificates_are_renewed(void **state)
{
    (void)state;
    expect_renewed_certificates("mqtt_ingest", FMS_SOURCE);
}

static void test_alerts_of_tls_are_told(void **state)
{
    (void)state;
    expect_alert("mqtt_ingest", FMS_SOURCE, "-tls1_2", false, "TLS: the broker says: handshake failure");
    expect_alert("mqtt_ingest", FMS_SOURCE, "-tls1_2", true, "TLS: the broker says: unknown ca");
    expect_alert("mqtt_ingest", FMS_SOURCE, "-tls1_3", false, "TLS: the broker says: certificate required");
    expect_alert("mqtt_ingest", FMS_SOURCE, "-tls1_3", true, "TLS: the broker says: unknown ca");
}

static void test_other_version_at_the_same_server(void **state)
{
    (void)state;
    expect_other_version("mqtt_ingest");
}

static void test_whatever_is_wrong_with_one_address_the_next_is_tried(void **state)
{
    (void)state;
    expect_all_turns("mqtt_ingest", FMS_SOURCE);
}

/* A broker that knows 3.1.1 only, twice asked. */
static void *old_broker(void *user)
{
    int listener = *(int *)user;
    struct wire wire = {.version = 4};

    wire.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    free(wire_expect(&wire, CONNECT).body);
    send_raw(&wire, "\x20\x02\x00\x01", 4);
    close(wire.fd);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 1);
    free(wire_expect(&wire, DISCONNECT).body);
    close(wire.fd);
    return NULL;
}

static void test_probe_of_3_1_1_only(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = fake_check("mqtt_ingest", FMS_SOURCE, section(port, "topic = t"));
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, old_broker, &listener), 0);
    assert_int_equal(fake_probe(f, 10 * FMS_SECOND), 0);
    pthread_join(thread, NULL);
    assert_non_null(fake_said(f, " ms, MQTT 3.1.1"));
    assert_non_null(fake_said(f, "report: topic \"t\" is granted, with QoS 1"));
    assert_int_equal(fake_count_said(f, "error: "), 0);
    fake_close(f);
    close(listener);
}

/* Hangs up, in either version, and then another that refuses. */
static void *bad_brokers(void *user)
{
    const int *listeners = user;

    broker_refuse(listeners[0], 0);
    broker_refuse(listeners[0], 0);
    broker_refuse(listeners[1], 0x88);
    return NULL;
}

/* Whatever is wrong with the first servers: where the pipeline runs, the probe succeeds; and where all are bad, it fails. */
static void test_probe_of_several_servers(void **state)
{
    struct mosquitto broker;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    for (int is_good = 0; is_good < 2; is_good++) {
        int port = 0, listeners[2] = {wire_listen_at(2, &port), wire_listen_at(3, &port)};
        char ini[512];
        pthread_t thread;
        struct fake *f;

        snprintf(ini, sizeof ini,
                 "server = tcp://127.0.0.1:%d, tcp://127.0.0.2:%d, tcp://127.0.0.3:%d, tcp://127.0.0.1:%d\ntopic = t\n",
                 port, port, port, is_good ? broker.port : port);
        f = fake_check("mqtt_ingest", FMS_SOURCE, ini);
        assert_int_equal(pthread_create(&thread, NULL, bad_brokers, listeners), 0);
        assert_int_equal(fake_probe(f, 30 * FMS_SECOND) == 0, is_good);
        pthread_join(thread, NULL);
        assert_non_null(fake_said(f, "127.0.0.2:"));
        assert_non_null(fake_said(f, "refused: the broker is not available; the next address is tried"));
        assert_int_equal(fake_count_said(f, "granted, with QoS 1"), is_good);
        assert_int_equal(fake_count_said(f, "error: "), !is_good);
        fake_close(f);
        close(listeners[0]);
        close(listeners[1]);
    }
    mosquitto_free(&broker);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_check_warns_of_traps),
        cmocka_unit_test(test_certificates_are_read_at_open),
        cmocka_unit_test(test_every_qos_and_version_arrives),
        cmocka_unit_test(test_retained),
        cmocka_unit_test(test_properties_become_headers),
        cmocka_unit_test(test_properties_tell_who_a_message_is),
        cmocka_unit_test(test_properties_that_nobody_asks_for),
        cmocka_unit_test(test_templates_tell_who_a_message_is),
        cmocka_unit_test(test_origins_begin_with_what_the_broker_guards),
        cmocka_unit_test(test_numbers_cross_a_broker),
        cmocka_unit_test(test_what_is_sent_again_may_repeat),
        cmocka_unit_test(test_what_an_earlier_process_had_may_repeat),
        cmocka_unit_test(test_what_a_message_says),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_acknowledged_when_settled),
        cmocka_unit_test(test_connection_lost_in_flight),
        cmocka_unit_test(test_qos_2_across_connections),
        cmocka_unit_test(test_what_is_not_acknowledged_shows),
        cmocka_unit_test(test_round_trips_are_timed),
        cmocka_unit_test(test_full_pipeline),
        cmocka_unit_test(test_sink_that_stands_still),
        cmocka_unit_test(test_small_pieces_are_read_together),
        cmocka_unit_test(test_topic_changed),
        cmocka_unit_test(test_broker_hangs_up_on_unsubscribe),
        cmocka_unit_test(test_broker_closes_in_mid_packet),
        cmocka_unit_test(test_broker_sends_byte_by_byte),
        cmocka_unit_test(test_broker_never_answers),
        cmocka_unit_test(test_broker_breaks_the_protocol),
        cmocka_unit_test(test_parts_although_nothing_settles),
        cmocka_unit_test(test_odd_messages_cost_only_themselves),
        cmocka_unit_test(test_each_fault_names_the_topic),
        cmocka_unit_test(test_too_many_user_properties_are_told),
        cmocka_unit_test(test_broker_that_does_not_read),
        cmocka_unit_test(test_broker_of_3_1_1_only),
        cmocka_unit_test(test_broker_of_5_that_hangs_up),
        cmocka_unit_test(test_back_off_until_a_connection_lasts),
        cmocka_unit_test(test_back_off_although_all_is_granted),
        cmocka_unit_test(test_guess_is_for_one_server),
        cmocka_unit_test(test_versions_tried_are_told_once),
        cmocka_unit_test(test_takeovers_are_guessed),
        cmocka_unit_test(test_who_was_taken_over_stays_away),
        cmocka_unit_test(test_who_was_taken_over_comes_back),
        cmocka_unit_test(test_restarts_are_no_takeovers),
        cmocka_unit_test(test_session_that_is_not_present),
        cmocka_unit_test(test_limits_are_told_once),
        cmocka_unit_test(test_broker_hangs_up_on_subscribe),
        cmocka_unit_test(test_no_broker_is_there),
        cmocka_unit_test(test_broker_redirects),
        cmocka_unit_test(test_refused_subscription_is_asked_for_again),
        cmocka_unit_test(test_stopped_with_records_in_flight),
        cmocka_unit_test(test_closed_with_records_in_flight),
        cmocka_unit_test(test_broker_hangs_up),
        cmocka_unit_test(test_broker_down_at_start_and_restarted),
        cmocka_unit_test(test_unknown_host),
        cmocka_unit_test(test_certificates_are_renewed),
        cmocka_unit_test(test_passwords_are_renewed),
        cmocka_unit_test(test_keys_are_renewed),
        cmocka_unit_test(test_alerts_of_tls_are_told),
        cmocka_unit_test(test_other_version_at_the_same_server),
        cmocka_unit_test(test_whatever_is_wrong_with_one_address_the_next_is_tried),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_probe_of_3_1_1_only),
        cmocka_unit_test(test_probe_of_several_servers),
    };

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
