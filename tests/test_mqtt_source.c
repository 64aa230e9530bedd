/* test_mqtt_source.c - mqtt_source through its table: against a broker played by the test, and against a mosquitto; and
 * whole pipelines from mqtt_source to mqtt_sink, run by the program that stands in ../bin beside FMS_PLUGIN_DIR. */
#include <netinet/tcp.h>
#include <stdatomic.h>

#include "mqtt_wire.h"

/* Whether record i has that topic and that number as its payload. */
static void check_record(struct fake *f, size_t i, const char *topic, const char *payload)
{
    const struct fms_record *record = fake_record(f, i);

    assert_string_equal(record->topic.data, topic);
    if (strcmp(record->payload.data, payload) != 0)
        fail_msg("record %zu is %s, not %s", i, (const char *)record->payload.data, payload);
}

static void check_numbers(struct fake *f, size_t first, size_t count, size_t number)
{
    char payload[24];

    for (size_t i = 0; i < count; i++) {
        snprintf(payload, sizeof payload, "%zu", number + i);
        check_record(f, first + i, "fms/data", payload);
    }
}

static void publish_numbers(const struct wire *writer, int from, int count)
{
    char payload[16];

    for (int i = from; i < from + count; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        client_publish(writer, "fms/data", payload, 1, NULL, NULL);
    }
}

/* QoS 1 repeats what the broker has not seen confirmed; the first arrivals must be 0, 1, 2... The next number. */
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

static struct fake *source_up(int port, size_t filters, const char *options)
{
    struct fake *f = fake_open("mqtt_source", FMS_SOURCE, section(port, "%s", options));

    fake_until(f, fake_count_said(f, "subscribed to ") == filters);
    return f;
}

/* Stops and runs until the source says that nothing more will come. */
static void source_end(struct fake *f)
{
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------ check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct refusal cases[] = {
        {"server = udp://a\ntopic = t\n", "must begin with tcp://"},
        {"server = tcp://a\ntopic = fms/#/data\n", "error: topic: \"fms/#/data\" has a # that is not the last"},
        {"server = tcp://a\ntopic = fms/a+\n", "does not fill a level"},
        {"server = tcp://a\ntopic = fms/a#\n", "does not fill a level"},
        {"server = tcp://a\ntopic = $share/g\n", "is no shared subscription"},
        {"server = tcp://a\ntopic = $share//a\n", "is no shared subscription"},
        {"server = tcp://a\ntopic = $share/g+/a\n", "is no shared subscription"},
        {"server = tcp://a\ntopic = a, $share/g/\n", "\"$share/g/\" is empty"},
        {"server = tcp://a\n", "topic"},
    };

    (void)state;
    expect_refused("mqtt_source", FMS_SOURCE, cases, sizeof cases / sizeof cases[0]);
}

static void test_check_warns_of_traps(void **state)
{
    static const struct {
        const char *ini, *said;
    } cases[] = {
        {"qos = 0\n", "advice: qos: at QoS 0"},
        {"clean_start = no\n", "advice: client_id: "},
        {"", "advice: clean_start: what is published while this pipeline is down is lost"},
        {"version = 3.1.1\n", "forgets us while we are disconnected because the pipeline is full"},
        {"client_id = a\nclean_start = no\nsession_expiry = 0\n", "advice: session_expiry: "},
        {"qos = 2\nversion = 3.1.1\n", "advice: qos: with MQTT 3.1.1 paho confirms"},
        {"topic = a/#, a/+\n", "advice: topic: \"a/#\" and \"a/+\" overlap"},
        {"topic = x/y, x/y, q/#, z, q/1\n",
         "advice: topic: \"x/y\" and \"x/y\", \"q/#\" and \"q/1\" overlap: what comes"},
        {"topic = fms/data, $share/g/fms/+\n", "advice: topic: \"$share/g/fms/+\" is shared: the broker deals its "
                                               "messages out one by one, so that a vehicle's are"
                                               " out of order"},
        {"client_id = a\nclean_start = no\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char ini[256];
        struct fake *f;

        snprintf(ini, sizeof ini, "server = tcp://a\n%s%s",
                 strstr(cases[i].ini, "topic") == NULL ? "topic = fms/+/data\n" : "", cases[i].ini);
        f = fake_check("mqtt_source", FMS_SOURCE, ini);
        assert_int_equal(fake_error(f), 0);
        assert_int_equal(fake_count_said(f, "info: a message is acknowledged when it is in the pipeline"), i > 0);
        if (cases[i].said == NULL ? fake_said(f, "advice: ") != NULL : fake_said(f, cases[i].said) == NULL)
            fail_msg("case %zu: %s", i, fake_said(f, "advice: "));
        fake_close(f);
    }
}

/* ---------------------------------------------------------------------------------------------------------- records */

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
            f = source_up(broker.port, 2, options);
            fake_settle_auto(f, FMS_DELIVERED);
            now = fms_realtime(fake_host(f));
            for (unsigned i = 0; i < 50; i++) {
                char payload[16];

                snprintf(payload, sizeof payload, "%u", i);
                client_publish(&writer, "fms/data", payload, qos, "unit", "km/h");
            }
            client_publish(&writer, "other", "", qos, NULL, NULL);
            fake_until(f, fake_emitted(f) == 51);
            check_numbers(f, 0, 50, 0);
            check_record(f, 50, "other", "");
            assert_null(fake_record(f, 7)->key.data);
            assert_true(fake_record(f, 7)->timestamp >= now && fake_record(f, 7)->timestamp < now + 60 * FMS_SECOND);
            assert_int_equal(fake_record(f, 7)->header_count, v);
            if (v == 1) {
                assert_string_equal(fake_record(f, 7)->headers[0].name, "unit");
                assert_string_equal(fake_record(f, 7)->headers[0].value.data, "km/h");
            }
            source_end(f);
        }
    }
    close(writer.fd);
    mosquitto_free(&broker);
}

/* MQTT's own properties as headers, over a real broker; what a sender calls like ours does not pass for ours. */
static void test_properties_become_headers(void **state)
{
    static const struct {
        const char *name, *value;
    } wanted[] = {{"mqtt.content_type", "text/plain"}, {"mqtt.response_topic", "answers/a"},
                  {"mqtt.correlation_data", "42"},     {"mqtt.message_expiry", "3600"},
                  {"mqtt.payload_format", "1"},        {"user.fms.reason", "none"}};
    struct wire_out properties = {.size = 0};
    struct mosquitto broker;
    struct wire writer;
    struct fake *f;

    (void)state;
    out_byte(&properties, 1);
    out_byte(&properties, 1);
    out_byte(&properties, 2);
    out_two(&properties, 0);
    out_two(&properties, 3600);
    out_byte(&properties, 3);
    out_text(&properties, "text/plain");
    out_byte(&properties, 8);
    out_text(&properties, "answers/a");
    out_byte(&properties, 9);
    out_text(&properties, "42");
    out_property(&properties, "fms.reason", "none");
    mosquitto_up(&broker, "allow_anonymous true\n");
    writer = client_new(broker.port, "writer", true);
    f = source_up(broker.port, 1, "topic = fms/#");
    wire_publish_raw(&writer, 2, fms_text("fms/data"), 1, &properties, "0");
    free(wire_expect(&writer, PUBACK).body);
    client_publish(&writer, "fms/data", "1", 1, NULL, NULL);
    fake_until(f, fake_emitted(f) == 2);
    assert_int_equal(fake_record(f, 0)->header_count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(fake_record(f, 0)->headers[i].name, wanted[i].name);
        assert_string_equal(fake_record(f, 0)->headers[i].value.data, wanted[i].value);
    }
    assert_int_equal(fake_record(f, 1)->header_count, 0);
    source_end(f);
    close(writer.fd);
    mosquitto_free(&broker);
}

/* As source_up, before a sink that asks who messages are. */
static struct fake *source_asked(int port, const char *options)
{
    struct fake *f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = fms/#\n%s", options));

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    fake_until(f, fake_said(f, "info: receives ") != NULL);
    return f;
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

/* By properties, or by templates, which may name these; and they are no headers then. */
static void test_who_a_message_is(void **state)
{
    static const char *const options[] = {
        "", "origin = ${topic[1]}/${header:user.fms.origin}/${json:v}\nsequence = ${json:seq}"};
    static const char payload[] = "{\"v\": \"a\", \"seq\": 7}";
    struct wire_out properties[2] = {{.size = 0}};
    struct mosquitto broker;
    struct wire writer;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        out_property(&properties[i], "fms.origin", "spool%25");
        out_property(&properties[i], "unit", "km/h");
        out_property(&properties[i], "fms.sequence", i == 0 ? "17" : "x");
    }
    out_property(&properties[0], "fms.skipped", "3");
    mosquitto_up(&broker, "allow_anonymous true\n");
    writer = client_new(broker.port, "writer", true);
    for (size_t n = 0; n < 2; n++) {
        struct fake *f = source_asked(broker.port, options[n]);

        for (size_t i = 0; i < 2; i++) {
            wire_publish_raw(&writer, 2, fms_text("fms/data"), 1, &properties[i], i == 0 ? payload : "none");
            free(wire_expect(&writer, PUBACK).body);
        }
        fake_until(f, fake_emitted(f) == 2);
        if (n == 0)
            check_number(fake_record(f, 0), "spool%", 17, 3);
        else
            check_number(fake_record(f, 0), "data/spool%25/a", 7, 0);
        assert_null(fake_record(f, 1)->identity);
        fake_until(f, fake_said(f, "warning: a message on \"fms/data\" has no identity, so that it may be") != NULL);
        assert_int_equal(fake_counter(f, "unidentified"), 1);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(fake_record(f, i)->header_count, 1);
            assert_string_equal(fake_record(f, i)->headers[0].name, "unit");
            assert_string_equal(fake_record(f, i)->headers[0].value.data, "km/h");
            assert_string_equal(fake_record(f, i)->payload.data, i == 0 ? payload : "none");
        }
        source_end(f);
    }
    close(writer.fd);
    mosquitto_free(&broker);
}

/* What brokers pass on although they should not costs that message, or that property, and never the connection. */
static void test_odd_messages_cost_themselves(void **state)
{
    static const struct {
        struct fms_bytes topic;
        const char *properties, *reason; /* reason NULL: it is a record */
        size_t size;
    } cases[] = {
        {{"fms/data", 8}, "\x01\x02", NULL, 2},
        {{"fms/data", 8},
         "\x08\x00\x03"
         "a/+",
         NULL,
         6},
        {{"fms/data", 8}, "\x03\x00\x01\xff", NULL, 4},
        {{"fms/data", 8}, "\x26\x00\x01x\x00\x01\xff", NULL, 7},
        {{"fms/\xff", 5}, "", "no UTF-8", 0},
        {{"fms\0data", 8}, "", "holds NUL", 0},
        {{"fms/+", 5}, "", "wildcard", 0},
        {{"fms/#", 5}, "", "wildcard", 0},
        {{"", 0}, "", "no topic", 0},
        {{"fms/data", 8}, "\x26\x00\x01\xff\x00\x01x", "name of a user property", 7},
        {{"fms/data", 8},
         "\x26\x00\x03"
         "a\0b\x00\x01x",
         "name of a user property",
         9},
        {{"fms/data", 8}, "", NULL, 0},
    };
    size_t count = sizeof cases / sizeof cases[0], bad = 0;
    int port = 0, listener = wire_listen(&port);
    struct wire wire;
    struct fake *f;

    (void)state;
    f = fake_open("mqtt_source", FMS_SOURCE, section(port, "topic = fms/#"));
    fake_poll(f, 64);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 1);
    for (size_t i = 0; i < count; i++) {
        struct wire_out properties = {.size = 0};

        out_bytes(&properties, cases[i].properties, cases[i].size);
        wire_publish_raw(&wire, 2, cases[i].topic, (unsigned)i + 1, &properties, "x");
        free(wire_expect(&wire, PUBACK).body);
        bad += cases[i].reason != NULL;
    }
    fake_until(f, fake_emitted(f) == count);
    for (size_t i = 0; i < count; i++) {
        const char *reason = fake_rejected(f, i);

        if (cases[i].reason == NULL ? reason != NULL : reason == NULL || strstr(reason, cases[i].reason) == NULL)
            fail_msg("case %zu: %s", i, reason);
        assert_true(reason == NULL || strstr(reason, " on \"") != NULL);
        assert_int_equal(fake_record(f, i)->topic.size, cases[i].topic.size);
        assert_memory_equal(fake_record(f, i)->topic.data, cases[i].topic.data, cases[i].topic.size);
    }
    assert_int_equal(fake_record(f, 0)->header_count, 0);
    assert_int_equal(fake_record(f, 3)->header_count, 1);
    assert_int_equal(fake_counter(f, "properties_dropped"), 3);
    assert_int_equal(fake_counter(f, "unusable"), bad);
    assert_int_equal(fake_count_said(f, "warning: "), 0); /* the pipeline logs each by itself */
    publish_many_properties(&wire, 1003);
    fake_until(f, fake_said(f, "3 user properties of a message on \"t\" are left out") != NULL);
    assert_int_equal(fake_record(f, count)->header_count, 1000);
    assert_int_equal(fake_counter(f, "connections"), 1);
    source_end(f);
    close(wire.fd);
    close(listener);
}

/* Starts, receives one live message, and ends; the retained ones that came before it. */
static size_t retained_at_start(const struct mosquitto *broker, const struct wire *writer, const char *options)
{
    struct fake *f = source_up(broker->port, 1, options);
    size_t retained = 0, count;

    client_publish(writer, "fms/live", "live", 1, NULL, NULL);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) > 0 && strcmp(fake_record(f, fake_emitted(f) - 1)->topic.data, "fms/live") == 0);
    count = fake_emitted(f) - 1;
    for (size_t i = 0; i < count; i++) {
        const struct fms_record *record = fake_record(f, i);

        check_record(f, i, "fms/kept", "old");
        assert_int_equal(record->header_count, 1);
        assert_string_equal(record->headers[0].name, "mqtt.retained");
        assert_string_equal(record->headers[0].value.data, "1");
        retained++;
    }
    assert_int_equal(fake_record(f, count)->header_count, 0);
    source_end(f);
    return retained;
}

static void test_retained_messages(void **state)
{
    static const struct {
        const char *retained;
        size_t first, second; /* with a session that is new, and with the one that the broker kept */
    } cases[] = {{"all", 1, 1}, {"new", 1, 0}, {"none", 0, 0}};
    const struct wire_out nothing = {.size = 0};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct mosquitto broker;
        struct wire writer;
        char options[128];

        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        wire_publish_raw(&writer, 3, fms_text("fms/kept"), 1, &nothing, "old");
        free(wire_expect(&writer, PUBACK).body);
        snprintf(options, sizeof options,
                 "version = %s\nretained = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/#", versions[i % 2],
                 cases[i / 2].retained);
        assert_int_equal(retained_at_start(&broker, &writer, options), cases[i / 2].first);
        assert_int_equal(retained_at_start(&broker, &writer, options), cases[i / 2].second);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

/* MQTT 3.1.1 with clean_start = yes: at each connection the broker sends all that it has retained. */
static void test_new_retained_messages_come_once_with_3_1_1(void **state)
{
    int port = 0, listener = wire_listen(&port);
    const struct wire_out nothing = {.size = 0};
    struct fake *f;

    (void)state;
    f = fake_open("mqtt_source", FMS_SOURCE, section(port, "topic = t\nversion = 3.1.1\nretained = new"));
    fake_poll(f, 16);
    for (size_t i = 0; i < 3; i++) {
        struct wire wire = broker_accept(listener, NULL, false, NULL);

        broker_grant(&wire, 1);
        wire_publish_raw(&wire, 3, fms_text("t"), 1, &nothing, "old");
        free(wire_expect(&wire, PUBACK).body);
        wire_publish(&wire, "t", "live", 1, 2, NULL, NULL);
        free(wire_expect(&wire, PUBACK).body);
        fake_until(f, fake_emitted(f) == i + 2);
        close(wire.fd);
    }
    check_record(f, 0, "t", "old");
    assert_int_equal(fake_counter(f, "retained_dropped"), 2);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* What came at the start does not come again at each reconnection of the same process, where the broker kept the session. */
static void test_retained_messages_come_once(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire wire;
    struct fake *f;

    (void)state;
    f = fake_open("mqtt_source", FMS_SOURCE, section(port, "topic = t\nclient_id = bridge\nclean_start = no"));
    fake_poll(f, 16);
    for (unsigned i = 0; i < 3; i++) {
        struct packet packet;
        struct wire_out out = {.data = {0, 0, 0, 1}, .size = 4};

        wire = broker_accept(listener, NULL, i != 2, NULL);
        packet = wire_expect(&wire, SUBSCRIBE);
        assert_int_equal(packet.body[packet.size - 1] >> 4, i == 1 ? 1 : 0); /* retain handling */
        memcpy(out.data, packet.body, 2);
        wire_send(&wire, SUBACK << 4, &out);
        free(packet.body);
        fake_until(f, fake_count_said(f, "subscribed to ") == i + 1);
        close(wire.fd);
    }
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

static void test_secure_websocket(void **state)
{
    struct secure secure;
    struct wire writer;
    char ini[512];
    struct fake *f;

    (void)state;
    secure_start(&secure);
    expect_unknown_authority("mqtt_source", FMS_SOURCE, &secure);
    snprintf(ini, sizeof ini, "%stopic = fms/data\n", secure_section(&secure));
    f = fake_open("mqtt_source", FMS_SOURCE, ini);
    fake_until(f, fake_count_said(f, "subscribed to ") == 1);
    writer = client_new(secure.broker.port, "writer", true);
    publish_numbers(&writer, 0, 30);
    fake_until(f, fake_emitted(f) == 30);
    check_numbers(f, 0, 30, 0);
    source_end(f);
    close(writer.fd);
    secure_end(&secure);
}

/* ---------------------------------------------------------------------------------------------------- back-pressure */

/* Refused, settled late and out of order: the broker keeps what has no room, and all of it comes, in order. */
static void test_full_pipeline_leaves_messages_at_the_broker(void **state)
{
    static const unsigned capacities[] = {1, 4, 64};

    (void)state;
    for (size_t v = 0; v < 2; v++) {
        for (size_t c = 0; c < 3; c++) {
            size_t count = capacities[c] == 1 ? 20 : 200, settled = 0;
            struct mosquitto broker;
            struct wire writer;
            char options[128];
            struct fake *f;

            mosquitto_up(&broker, "allow_anonymous true\n");
            writer = client_new(broker.port, "writer", true);
            snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/#",
                     versions[v]);
            f = fake_check("mqtt_source", FMS_SOURCE, section(broker.port, "%s", options));
            fake_capacity(f, capacities[c]);
            assert_int_equal(fake_start(f), 0);
            fake_until(f, fake_count_said(f, "subscribed to ") == 1);
            publish_numbers(&writer, 0, (int)count);
            fake_until(f, fake_emitted(f) >= capacities[c] - capacities[c] / 4 && fake_counter(f, "pauses") > 0);
            while (check_first_arrivals(f) < count) {
                size_t seen = fake_emitted(f);

                assert_true(fake_in_flight(f) <= capacities[c]);
                for (size_t i = seen; i > settled; i--)
                    fake_settle(f, i - 1, FMS_DELIVERED);
                settled = seen;
                fake_until(f, fake_emitted(f) > seen);
            }
            assert_int_equal(fake_counter(f, "dropped"), 0);
            assert_int_equal(fake_count_said(f, "warning: "), 0);
            fake_settle_all(f, FMS_DELIVERED);
            source_end(f);
            close(writer.fd);
            mosquitto_free(&broker);
        }
    }
}

/* A sink that never settles, room for 10 records, 1000 messages at the broker: no more is taken than has a place, behind
 * a durable sink no more than one; once there is room all of it comes, in order. */
static void test_sink_that_never_settles(void **state)
{
    enum { ROOM = 10, COUNT = 1000, PARKED = 4 /* an eighth of the fake host's 10 KiB holds no more */ };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bool is_durable = i >= 2;
        struct mosquitto broker;
        struct wire writer;
        char options[128];
        struct fake *f;

        mosquitto_up(&broker, "allow_anonymous true\nmax_inflight_messages 0\n");
        snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/#",
                 versions[i % 2]);
        source_end(source_up(broker.port, 1, options)); /* so that the broker keeps what comes */
        writer = client_new(broker.port, "writer", true);
        publish_numbers(&writer, 0, COUNT);
        f = fake_check("mqtt_source", FMS_SOURCE, section(broker.port, "%s", options));
        fake_capacity(f, ROOM);
        fake_host(f)->durable_sinks = is_durable;
        assert_int_equal(fake_start(f), 0);
        fake_until(f, fake_counter(f, "pauses") == 1 && (!is_durable || fake_counter(f, "held") == 1));
        assert_true(fake_emitted(f) <= (is_durable ? 1 : ROOM));
        fake_settle_auto(f, FMS_DELIVERED);
        fake_settle_all(f, FMS_DELIVERED);
        fake_until(f, check_first_arrivals(f) == COUNT);
        assert_true(fake_counter(f, "parked") <= (is_durable ? 0 : PARKED));
        assert_int_equal(fake_counter(f, "dropped"), 0);
        source_end(f);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

static void test_full_pipeline_disconnects(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire first, second;
    struct fake *f;

    (void)state;
    f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = fms/data\nclient_id = bridge\nclean_start = no"));
    fake_capacity(f, 4);
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 4);
    first = broker_accept(listener, NULL, false, NULL);
    broker_grant(&first, 1);
    for (unsigned i = 0; i < 3; i++)
        wire_publish(&first, "fms/data", i == 0 ? "0" : i == 1 ? "1" : "2", 1, i + 1, NULL, NULL);
    for (unsigned i = 0; i < 3; i++)
        free(wire_expect(&first, PUBACK).body);
    free(wire_expect(&first, DISCONNECT).body);
    assert_int_equal(fake_emitted(f), 3);
    assert_false(wire_ready(listener, 100));
    fake_measure(f);
    assert_true(fake_gauge(f, "paused") == 1 && fake_gauge(f, "session_present") == 0);
    fake_settle(f, 1, FMS_DELIVERED);
    fake_settle(f, 0, FMS_REJECTED);
    fake_poll(f, 3);
    second = broker_accept(listener, NULL, true, NULL);
    broker_grant(&second, 1);
    wire_publish(&second, "fms/data", "3", 1, 1, NULL, NULL);
    free(wire_expect(&second, PUBACK).body);
    check_numbers(f, 0, 4, 0);
    fake_measure(f);
    assert_true(fake_gauge(f, "paused") == 0 && fake_gauge(f, "session_present") == 1);
    source_end(f);
    close(first.fd);
    close(second.fd);
    close(listener);
}

/* Of 8 KiB a record takes one, and a message may take four and a bit: with four records that room is gone. */
static void test_room_for_a_largest_message_is_kept(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct asked asked;
    struct wire wire;
    struct fake *f;

    (void)state;
    f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = fms/data\nmax_message_size = 4KiB"));
    fake_capacity(f, 8);
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 8);
    wire = broker_accept(listener, &asked, false, NULL);
    assert_int_equal(asked.packet_size, 4096);
    broker_grant(&wire, 1);
    for (unsigned i = 0; i < 4; i++)
        wire_publish(&wire, "fms/data", "x", 1, i + 1, NULL, NULL);
    free(wire_expect(&wire, DISCONNECT).body);
    assert_int_equal(fake_emitted(f), 4);
    source_end(f);
    close(wire.fd);
    close(listener);
}

/* QoS 0 has no second chance, and holds nobody up. */
static void test_qos_0_without_room_is_dropped(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire wire;
    struct fake *f;

    (void)state;
    f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = fms/data\nqos = 0"));
    fake_capacity(f, 2);
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 2);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 0);
    fake_capacity(f, 0); /* the source is not polled, so it learns of this from the message */
    wire_publish(&wire, "fms/data", "x", 0, 0, NULL, NULL);
    free(wire_expect(&wire, DISCONNECT).body);
    assert_int_equal(fake_counter(f, "dropped"), 1);
    assert_int_equal(fake_counter(f, "held"), 0);
    source_end(f);
    close(wire.fd);
    close(listener);
}

/* A message for which there is no room any more is held; here there is none for so long that the broker closes the silent
 * connection and sends it again. */
static void test_held_message_comes_again(void **state)
{
    int port = 0, listener = wire_listen(&port);
    int64_t until = fake_realclock() + FAKE_PATIENCE;
    struct wire first, second;
    struct asked asked;
    struct fake *f;

    (void)state;
    f = fake_check("mqtt_source", FMS_SOURCE,
                   section(port, "topic = fms/data\nkeepalive = 1s\nclient_id = bridge\nclean_start = no"));
    fake_capacity(f, 2); /* 2 KiB: not even an eighth of it holds a message, so nothing is parked */
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 2);
    first = broker_accept(listener, &asked, false, NULL);
    assert_false(asked.clean);
    assert_int_equal(asked.keepalive, 1);
    broker_grant(&first, 1);
    fake_capacity(f, 0); /* the source is not polled, so it learns of this from the message */
    for (unsigned i = 0; i < 8; i++) {
        char payload[2] = {(char)('0' + i), '\0'};

        wire_publish(&first, "fms/data", payload, 1, i + 1, NULL, NULL);
    }
    while (fake_counter(f, "held") == 0 && fake_realclock() < until)
        poll(NULL, 0, 10);
    assert_false(wire_ready(first.fd, 1500)); /* one and a half keepalives, and neither PUBACK nor PINGREQ */
    assert_int_equal(fake_emitted(f), 0);
    close(first.fd);
    fake_until(f, fake_said(f, "a message could not be taken") != NULL);
    fake_settle_auto(f, FMS_DELIVERED);
    fake_capacity(f, 2);
    fake_poll(f, 2);
    second = broker_accept(listener, NULL, true, NULL);
    broker_grant(&second, 1);
    for (unsigned i = 0; i < 8; i++) {
        char payload[2] = {(char)('0' + i), '\0'};

        wire_publish(&second, "fms/data", payload, 1, i + 1, NULL, NULL);
        fake_until(f, fake_emitted(f) == i + 1);
        free(wire_expect(&second, PUBACK).body);
    }
    check_numbers(f, 0, 8, 0);
    assert_int_equal(fake_counter(f, "held"), 1);
    assert_int_equal(fake_counter(f, "dropped"), 0);
    source_end(f);
    close(second.fd);
    close(listener);
}

/* Behind sinks that are durable at once a message is confirmed when it is settled, and not before. */
static void test_durable_sinks_hold_the_confirmation(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire wire;
    struct fake *f;

    (void)state;
    f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = fms/data\nkeepalive = 20s"));
    fake_host(f)->durable_sinks = true;
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 16);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 1);
    wire_publish(&wire, "fms/data", "0", 1, 1, NULL, NULL);
    wire_publish(&wire, "fms/data", "1", 1, 2, NULL, NULL);
    fake_until(f, fake_emitted(f) == 1 && fake_counter(f, "held") == 1);
    assert_false(wire_ready(wire.fd, 100));
    assert_int_equal(fake_emitted(f), 1);
    fake_settle_auto(f, FMS_DELIVERED);
    free(wire_expect(&wire, PUBACK).body);
    source_end(f);
    close(wire.fd);
    close(listener);
}

/* --------------------------------------------------------------------------------------------------------- stopping */

/* Stopped in full flow: what it has confirmed it has emitted, and the next start gets the rest. */
static void test_stopped_with_records_in_flight(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct mosquitto broker;
        struct wire writer;
        char options[128];
        struct fake *f;
        size_t emitted;

        (void)state;
        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = fms/#",
                 versions[v]);
        source_end(source_up(broker.port, 1, options));
        publish_numbers(&writer, 0, 2000);
        f = fake_open("mqtt_source", FMS_SOURCE, section(broker.port, "%s", options));
        fake_until(f, fake_emitted(f) > 100);
        fake_stop(f);
        fake_until(f, fake_ended(f));
        emitted = fake_emitted(f);
        assert_int_equal(fake_in_flight(f), emitted);
        check_numbers(f, 0, emitted, 0);
        fake_close(f);
        f = fake_open("mqtt_source", FMS_SOURCE, section(broker.port, "%s", options));
        fake_settle_auto(f, FMS_DELIVERED);
        if (emitted < 2000)
            fake_until(f, fake_emitted(f) >= 2000 - emitted &&
                              strcmp(fake_record(f, fake_emitted(f) - 1)->payload.data, "1999") == 0);
        else
            fake_until(f, fake_count_said(f, "subscribed to ") == 1);
        /* What was confirmed when the connection went may come twice, but nothing is left out. */
        assert_true(fake_emitted(f) == 0 || strtoul(fake_record(f, 0)->payload.data, NULL, 10) <= emitted);
        for (size_t i = 1; i < fake_emitted(f); i++)
            assert_true(strtoul(fake_record(f, i)->payload.data, NULL, 10) <=
                        strtoul(fake_record(f, i - 1)->payload.data, NULL, 10) + 1);
        source_end(f);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

static void test_stopped_while_nobody_answers(void **state)
{
    int port = 0, listener = wire_listen(&port); /* takes the connection and says nothing */
    struct fake *f = fake_open("mqtt_source", FMS_SOURCE, section(port, "topic = t"));

    (void)state;
    fake_poll(f, 1);
    assert_true(wire_ready(listener, WIRE_PATIENCE));
    source_end(f);
    close(listener);
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
    f = fake_open("mqtt_source", FMS_SOURCE,
                  section(broker.port, "client_id = bridge\nclean_start = no\ntopic = fms/#"));
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_said(f, "cannot connect to tcp://127.0.0.1:") != NULL);
    assert_false(fake_link_is_up(f));
    assert_string_not_equal(fake_link_why(f, why, sizeof why), "");
    mosquitto_start(&broker);
    fake_until(f, fake_count_said(f, "subscribed to ") == 1);
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
    fake_until(f, fake_said(f, "with the session that the broker kept") != NULL); /* the messages may be faster */
    assert_int_equal(fake_count_said(f, "warning: "), 2);
    assert_int_equal(fake_count_said(f, " again after "), 1);
    fake_until(f, fake_link_is_up(f));
    mosquitto_stop(&broker, SIGKILL); /* which does not */
    assert_int_equal(run_quietly("rm -f '%s/mosquitto.db'", broker.directory), 0);
    mosquitto_start(&broker);
    fake_until(f, fake_said(f, "the broker does not have our session any more") != NULL);
    source_end(f);
    close(writer.fd);
    mosquitto_free(&broker);
}

static void test_silence_is_seen(void **state)
{
    (void)state;
    expect_silence_to_be_seen("mqtt_source", FMS_SOURCE, "topic = fms/#");
}

/* ActiveMQ never says that it has kept a session: a doubt is told once, and no loss. */
static void test_broker_that_never_says_that_it_kept_a_session(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = fake_open("mqtt_source", FMS_SOURCE,
                               section(port, "topic = t\nclient_id = bridge\nclean_start = no"));

    (void)state;
    fake_poll(f, 16);
    for (unsigned i = 0; i < 3; i++) {
        struct wire wire = broker_accept(listener, NULL, false, NULL);

        broker_grant(&wire, 1);
        fake_until(f, fake_count_said(f, "subscribed to ") == i + 1);
        close(wire.fd);
    }
    assert_int_equal(fake_count_said(f, "info: the broker does not say that it has kept our session"), 1);
    assert_null(fake_said(f, "does not have our session any more"));
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* QoS 2: a message whose exchange the loss of the connection cut is not emitted twice. */
static void test_qos_2_is_exactly_once_across_connections(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire first, second;
    struct fake *f;

    (void)state;
    f = fake_open("mqtt_source", FMS_SOURCE, section(port, "topic = t\nqos = 2\nclient_id = bridge\nclean_start = no"));
    fake_poll(f, 16);
    first = broker_accept(listener, NULL, false, NULL);
    broker_grant(&first, 2);
    wire_publish(&first, "t", "0", 2, 7, NULL, NULL);
    free(wire_expect(&first, PUBREC).body);
    fake_until(f, fake_emitted(f) == 1);
    close(first.fd);
    second = broker_accept(listener, NULL, true, NULL);
    broker_grant(&second, 2);
    wire_publish(&second, "t", "0", 2, 7, NULL, NULL); /* as if PUBREC had been lost */
    free(wire_expect(&second, PUBREC).body);
    wire_confirm(&second, PUBREL, 7, 0);
    free(wire_expect(&second, PUBCOMP).body);
    wire_publish(&second, "t", "1", 2, 7, NULL, NULL);
    fake_until(f, fake_emitted(f) == 2);
    check_record(f, 1, "t", "1");
    source_end(f);
    close(second.fd);
    close(listener);
}

/* The monotonic clock, which a test sets forward, or back, so that it need not wait for as long as the link does: until the next
 * pause, whose end is told by the true one. */
static _Atomic int64_t clock_ahead;

FMS_EXPORT int clock_gettime(clockid_t clock, struct timespec *now) /* by whatever name the header has it called */
{
    int error = (int)syscall(SYS_clock_gettime64, clock, now);
    int64_t time = now->tv_sec * FMS_SECOND + now->tv_nsec + (clock == CLOCK_MONOTONIC ? clock_ahead : 0);

    now->tv_sec = time / FMS_SECOND;
    now->tv_nsec = (long)(time % FMS_SECOND);
    return error;
}

/* The host's back-off, watched: which attempt was the last, and nobody waits. */
static atomic_uint last_attempt, most_attempts;

static int64_t watched_backoff(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    (void)host;
    (void)min;
    (void)max;
    clock_ahead = 0;
    last_attempt = attempt;
    if (attempt > most_attempts)
        most_attempts = attempt;
    return FMS_MS;
}

static struct fake *source_watched(int port, const char *options)
{
    struct fake *f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = t\n%s", options));

    last_attempt = most_attempts = 0;
    fake_host(f)->backoff = watched_backoff;
    assert_int_equal(fake_start(f), 0);
    fake_poll(f, 16);
    return f;
}

/* A broker that hangs up on SUBSCRIBE is come back to ever more slowly, however long its connections last, and the log says
 * what it did not answer, not each time. */
static void test_connections_that_come_to_nothing_slow_down(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = source_watched(port, "");

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct wire wire = broker_accept(listener, NULL, false, NULL);

        free(wire_expect(&wire, SUBSCRIBE).body);
        poll(NULL, 0, 20); /* longer than the pause before */
        close(wire.fd);
    }
    fake_until(f, fake_said(f, "lost, 8 times in a row now: ") != NULL);
    assert_non_null(fake_said(f, ", before it had answered SUBSCRIBE to \"t\"; connecting again"));
    assert_int_equal(fake_count_said(f, "warning: connection to "), 4); /* 1, 2, 4, 8 */
    assert_true(most_attempts >= 7);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* A broker that sends messages and never answers SUBSCRIBE is not waited for without end. */
static void test_messages_instead_of_an_answer(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f;
    struct wire wire;

    (void)state;
    clock_ahead = -9500 * FMS_MS; /* so the patience of 10 s ends soon */
    f = source_watched(port, "");
    wire = broker_accept(listener, NULL, false, NULL);
    free(wire_expect(&wire, SUBSCRIBE).body);
    for (int i = 0; i < 4000 && fake_said(f, "lost: no answer to a subscription") == NULL; i++) {
        wire_publish(&wire, "t", "0", 0, 0, NULL, NULL);
        fake_poll(f, 64);
        fake_settle_all(f, FMS_DELIVERED);
        poll(NULL, 0, 5);
        if (i == 200) /* by now it waits */
            clock_ahead = 700 * FMS_SECOND;
    }
    assert_non_null(fake_said(f, "lost: no answer to a subscription"));
    close(wire.fd);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* One that answers all and hangs up all the same: perhaps two clients push each other out. */
static void test_takeovers_are_guessed(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = source_watched(port, "client_id = bridge");
    char why[256];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct wire wire = broker_accept(listener, NULL, false, NULL);

        broker_grant(&wire, 1);
        fake_until(f, fake_count_said(f, "subscribed to ") == i + 1);
        assert_int_equal(fake_count_said(f, "does another client"), i >= 3 ? i - 2 : 0);
        close(wire.fd);
    }
    assert_non_null(fake_said(f, "does another client have the client id \"bridge\"? Each needs its own"));
    fake_until(f, strstr(fake_link_why(f, why, sizeof why), "client id \"bridge\", and has taken") != NULL);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* A broker that restarts is away for an attempt, and one that lets us be for a while favours nobody. */
static void test_restarts_are_no_takeovers(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = source_watched(port, "client_id = bridge");

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct wire wire;

        if (i < 4 && i > 0)
            broker_refuse(listener, 0x88);
        wire = broker_accept(listener, NULL, false, NULL);
        broker_grant(&wire, 1);
        fake_until(f, fake_count_said(f, "subscribed to ") == i + 1);
        if (i >= 4)
            clock_ahead = 11 * FMS_SECOND;
        close(wire.fd);
    }
    fake_until(f, fake_count_said(f, "times in a row now") == 3); /* 2, 4, 8 */
    assert_null(fake_said(f, "another client"));
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* A connection that lasted, and on which all was answered, begins anew with the back-off, and with the first server; one that
 * is lost after some seconds does not. */
static void test_good_connection_resets_the_back_off(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = source_watched(port, "keepalive = 120s");
    int64_t until;
    struct wire wire;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        broker_refuse(listener, 0x88);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 1);
    assert_true(last_attempt >= 2);
    fake_until(f, fake_count_said(f, "info: connected to ") == 1);
    clock_ahead = 29 * FMS_SECOND;
    close(wire.fd);
    wire = broker_accept(listener, NULL, false, NULL);
    broker_grant(&wire, 1);
    assert_true(last_attempt >= 3);
    fake_until(f, fake_count_said(f, "info: connected to ") == 2);
    clock_ahead = 30500 * FMS_MS; /* the link wants to see it last for 30 s */
    close(wire.fd);
    fake_until(f, fake_count_said(f, "warning: connection to ") == 2);
    until = fake_realclock() + FAKE_PATIENCE;
    while (last_attempt != 0 && fake_realclock() < until)
        poll(NULL, 0, 1);
    assert_int_equal(last_attempt, 0);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

/* ------------------------------------------------------------------------------------------ what the broker says of itself */

/* The connections of this process to that port on which small packets wait for others. */
static unsigned count_slow_sockets(int port, unsigned *all)
{
    unsigned slow = 0;

    *all = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in peer = {.sin_family = AF_UNSPEC};
        socklen_t size = sizeof peer, value_size = sizeof(int);
        int value = 0;

        if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0 || peer.sin_family != AF_INET ||
            ntohs(peer.sin_port) != port)
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &value_size), 0);
        slow += value == 0;
        ++*all;
    }
    return slow;
}

static void test_broker_says_what_it_does_otherwise(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct wire_out connack = {.size = 0};
    unsigned sockets;
    struct asked asked;
    struct wire wire;
    struct fake *f;

    (void)state;
    out_byte(&connack, 19); /* server keep alive */
    out_two(&connack, 3);
    out_byte(&connack, 17); /* session expiry */
    out_two(&connack, 0);
    out_two(&connack, 60);
    out_byte(&connack, 36); /* maximum QoS */
    out_byte(&connack, 0);
    out_byte(&connack, 37); /* retain available */
    out_byte(&connack, 0);
    f = source_watched(port, "client_id = bridge\nclean_start = no");
    wire = broker_accept(listener, &asked, false, &connack);
    assert_int_equal(asked.keepalive, 5); /* the half: silence is told within 15 s */
    free(wire_expect(&wire, DISCONNECT).body);
    close(wire.fd);
    wire = broker_accept(listener, &asked, true, &connack);
    assert_int_equal(asked.keepalive, 3);
    broker_grant(&wire, 0);
    fake_until(f, fake_count_said(f, "subscribed to ") == 1);
    assert_non_null(fake_said(f, "MQTT 5, with a new session"));
    assert_non_null(
        fake_said(f, "the broker keeps our session for 60 s only, and not for the 86400 s of session_expiry"));
    assert_non_null(fake_said(f, "the broker knows no more than QoS 0, and qos = 1"));
    assert_non_null(fake_said(f, "the broker retains no messages"));
    assert_int_equal(count_slow_sockets(port, &sockets), 0);
    assert_int_equal(sockets, 1);
    wire_publish(&wire, "t", "0", 0, 0, NULL, NULL);
    fake_until(f, fake_emitted(f) == 1);
    assert_int_equal(fake_count_said(f, "warning: connection to "), 0);
    source_end(f);
    close(wire.fd);
    close(listener);
}

/* Accepts a connection that asks for MQTT 5 and answers with those bytes, as brokers do that speak 3.1.1 only. */
static struct wire answer_version_5(int listener, const char *answer, size_t size)
{
    struct wire wire = {-1, 5};
    struct packet packet;

    assert_true(wire_ready(listener, WIRE_PATIENCE));
    wire.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    packet = wire_expect(&wire, CONNECT);
    assert_int_equal(packet.body[6], 5);
    free(packet.body);
    assert_int_equal(write(wire.fd, answer, size), size);
    return wire;
}

/* One that wants to hear from us more often each time is obeyed once, and not connected to without end. */
static void test_keepalive_that_shrinks_costs_one_connection(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct fake *f = source_watched(port, "keepalive = 120s");
    struct wire wire = {-1, 5};
    struct asked asked;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct wire_out connack = {.size = 0};
        struct wire before = wire;

        out_byte(&connack, 19); /* server keep alive */
        out_two(&connack, 50 - i);
        wire = broker_accept(listener, &asked, false, &connack);
        close(before.fd);
        assert_int_equal(asked.keepalive, i == 0 ? 60 : 50);
    }
    broker_grant(&wire, 1);
    fake_until(f, fake_said(f, "subscribed to ") != NULL);
    assert_int_equal(fake_counter(f, "connections"), 1);
    close(wire.fd);
    wire = broker_accept(listener, &asked, false, NULL);
    assert_int_equal(asked.keepalive, 49);
    close(wire.fd);
    fake_stop(f);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

static void test_broker_that_speaks_3_1_1_only(void **state)
{
    static const struct {
        const char *answer;
        size_t size;
        bool hangs_up; /* else it is silent */
        bool is_said;
    } cases[] = {{"\x20\x02\x00\x01", 4, true, true},
                 {"\x20\x03\x00\x01\x00", 5, true, true},
                 {"", 0, true, false},
                 {"", 0, false, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int port = 0, listener = wire_listen(&port);
        struct wire first, wire;
        struct fake *f;

        clock_ahead = cases[i].hangs_up ? 0 : -9500 * FMS_MS; /* so the link's patience of 10 s ends soon */
        f = source_watched(port, "");
        first = answer_version_5(listener, cases[i].answer, cases[i].size);
        if (cases[i].hangs_up)
            close(first.fd);
        wire = broker_accept(listener, NULL, false, NULL);
        assert_int_equal(wire.version, 4);
        broker_grant(&wire, 1);
        wire_publish(&wire, "t", "0", 1, 1, NULL, NULL);
        fake_until(f, fake_emitted(f) == 1);
        assert_non_null(fake_said(f, "MQTT 3.1.1, with a new session"));
        assert_int_equal(fake_count_said(f, "warning: cannot connect"), 0);
        close(wire.fd);
        if (!cases[i].hangs_up)
            close(first.fd);
        if (cases[i].is_said) {
            wire = broker_accept(listener, NULL, false, NULL);
            assert_int_equal(wire.version, 4);
            close(wire.fd);
        } else { /* it may have had another reason: 5 is tried again */
            close(answer_version_5(listener, "", 0).fd);
        }
        fake_stop(f);
        fake_until(f, fake_ended(f));
        fake_close(f);
        close(listener);
    }
}

/* Where 5 is demanded it is tried again; and a broker that has spoken it is not taken for one that cannot because it hangs up. */
static void test_version_is_not_given_up_lightly(void **state)
{
    for (int demanded = 0; demanded < 2; demanded++) {
        int port = 0, listener = wire_listen(&port);
        struct fake *f = source_watched(port, demanded ? "version = 5" : "");
        struct wire wire;

        (void)state;
        if (!demanded) {
            wire = broker_accept(listener, NULL, false, NULL);
            assert_int_equal(wire.version, 5);
            broker_grant(&wire, 1);
            close(wire.fd);
        }
        close(answer_version_5(listener, "", 0).fd);
        close(answer_version_5(listener, "", 0).fd);
        fake_until(f, fake_said(f, demanded ? ", or does not speak MQTT 5 (version = auto)" : "still not connected") !=
                          NULL);
        fake_stop(f);
        fake_until(f, fake_ended(f));
        fake_close(f);
        close(listener);
    }
}

static void test_broker_redirects(void **state)
{
    static const struct {
        struct wire_out out;
        const char *said;
    } rows[] = {
        {{.data = {0x9c, 9, 28, 0, 6, 'o', 't', 'h', 'e', 'r', '1'}, .size = 11}, "Use another server: other1"},
        {{.data = {0x97, 6, 31, 0, 3, 'f', 'e', 'e'}, .size = 8}, "Quota exceeded: fee"},
        {{.data = {0, 0}, .size = 2}, "it says nothing of why; "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int port = 0, listener = wire_listen(&port);
        struct fake *f = source_watched(port, "");
        struct wire wire = broker_accept(listener, NULL, false, NULL);
        char said[128];

        broker_grant(&wire, 1);
        fake_until(f, fake_said(f, "info: receives ") != NULL);
        wire_send(&wire, DISCONNECT << 4, &rows[i].out);
        snprintf(said, sizeof said, "lost: the broker closed the connection: %s", rows[i].said);
        fake_until(f, fake_said(f, said) != NULL);
        close(wire.fd);
        fake_stop(f);
        fake_until(f, fake_ended(f));
        fake_close(f);
        close(listener);
    }
}

/* ---------------------------------------------------------------------------------------------------- subscriptions */

static void test_refused_subscription_is_asked_for_again(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        int port = 0, listener = wire_listen(&port);
        struct wire wire;
        struct fake *f;
        char why[256];

        (void)state;
        f = fake_open("mqtt_source", FMS_SOURCE, section(port, "version = %s\ntopic = a, b", versions[v]));
        fake_poll(f, 16);
        wire = broker_accept(listener, NULL, false, NULL);
        broker_grant(&wire, v == 1 ? 0x87 : 0x80);
        broker_grant(&wire, 0);
        fake_until(f, strstr(fake_link_why(f, why, sizeof why), "refuses the subscription to \"a\"") != NULL);
        assert_false(fake_link_is_up(f));
        broker_grant(&wire, 1); /* "a" once more */
        fake_until(f, fake_count_said(f, "subscribed to ") == 2);
        assert_non_null(fake_said(f, "error: the broker refuses the subscription to \"a\""));
        assert_non_null(fake_said(f, "the broker grants \"b\" only QoS 0"));
        fake_until(f, fake_link_is_up(f));
        source_end(f);
        close(wire.fd);
        close(listener);
    }
}

/* After `topic` changed, what the session still has is found by the first message that comes by it, and ended. */
static void test_subscription_of_yesterday_is_ended(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct mosquitto broker;
        struct wire writer;
        char options[128];
        struct fake *f;

        mosquitto_up(&broker, "allow_anonymous true\n");
        writer = client_new(broker.port, "writer", true);
        snprintf(options, sizeof options,
                 "version = %s\nclient_id = bridge\nclean_start = no\ntopic = old/+/data, kept/#", versions[v]);
        source_end(source_up(broker.port, 2, options));
        snprintf(options, sizeof options, "version = %s\nclient_id = bridge\nclean_start = no\ntopic = new/#, kept/#",
                 versions[v]);
        f = source_up(broker.port, 2, options);
        client_publish(&writer, "kept/a", "0", 1, NULL, NULL);
        client_publish(&writer, "old/a/data", "1", 1, NULL, NULL);
        fake_until(f, fake_said(f, v == 1 ? "had a subscription to old/+/data, which is not asked for"
                                          : "\"old/a/data\" came, and all that it can have come by has ended") != NULL);
        client_publish(&writer, "old/a/data", "2", 1, NULL, NULL);
        client_publish(&writer, "new/a", "3", 1, NULL, NULL);
        client_publish(&writer, "kept/a", "4", 1, NULL, NULL);
        fake_until(f, fake_emitted(f) == 4);
        check_record(f, 0, "kept/a", "0");
        check_record(f, 1, "old/a/data", "1");
        check_record(f, 2, "new/a", "3");
        check_record(f, 3, "kept/a", "4");
        assert_int_equal(fake_count_said(f, "warning: "), 1);
        source_end(f);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

/* What no filter can hold is not looked for: the request could not be sent, and the connection would be given up. */
static void test_odd_topic_by_a_subscription_of_yesterday(void **state)
{
    static const char *const topics[] = {"\xff", "a/+"};
    int port = 0, listener = wire_listen(&port);
    struct fake *f = fake_open("mqtt_source", FMS_SOURCE,
                               section(port, "topic = fms/data\nclient_id = bridge\nclean_start = no"));
    struct wire_out nothing = {.size = 0};
    struct packet packet;
    struct wire wire;

    (void)state;
    fake_poll(f, 16);
    wire = broker_accept(listener, NULL, true, NULL);
    broker_grant(&wire, 1);
    fake_until(f, fake_said(f, "receives ") != NULL);
    for (size_t i = 0; i < 2; i++) {
        wire_publish_raw(&wire, 0, fms_text(topics[i]), 0, &nothing, "0");
        fake_until(f, fake_emitted(f) == i + 1);
    }
    wire_publish(&wire, "old", "0", 0, 0, NULL, NULL);
    packet = wire_expect(&wire, UNSUBSCRIBE);
    assert_non_null(memmem(packet.body, packet.size, "old", 3));
    free(packet.body);
    assert_int_equal(fake_counter(f, "connections"), 1);
    close(wire.fd);
    source_end(f);
    close(listener);
}

/* One that overlaps with what is asked for is known by lacking our identifier; but a new session keeps nothing, and is asked for
 * no identifiers. */
static void test_overlapping_subscription_of_yesterday_is_ended(void **state)
{
    for (int has_session = 0; has_session < 2; has_session++) {
        int port = 0, listener = wire_listen(&port);
        struct wire_out properties = {.data = {11, 1}, .size = has_session ? 2 : 0},
                        out = {.data = {0, 0, 0, 1}, .size = 4};
        struct fake *f = fake_open("mqtt_source", FMS_SOURCE,
                                   section(port, "topic = fms/+/data\nclient_id = bridge\nclean_start = no"));
        struct packet packet;
        struct wire wire;

        (void)state;
        fake_poll(f, 16);
        wire = broker_accept(listener, NULL, has_session, NULL);
        packet = wire_expect(&wire, SUBSCRIBE);
        assert_int_equal(packet.body[2], has_session ? 2 : 0);
        memcpy(out.data, packet.body, 2);
        wire_send(&wire, SUBACK << 4, &out);
        free(packet.body);
        fake_until(f, fake_count_said(f, "subscribed to ") == 1);
        wire_publish_raw(&wire, 2, fms_text("fms/a/data"), 1, &properties, "0");
        free(wire_expect(&wire, PUBACK).body);
        wire_publish(&wire, "fms/a/data", "0", 1, 2, NULL, NULL); /* once more, by another */
        for (unsigned filters = 0; has_session && filters < 22;) {
            struct wire_out answer = {.size = 0};

            packet = wire_expect(&wire, UNSUBSCRIBE);
            out_two(&answer, packet.id);
            out_byte(&answer, 0);
            for (const unsigned char *at = packet.body + 3; at < packet.body + packet.size; at += 2 + packet_two(at)) {
                bool is_it = packet_two(at) == 5 && memcmp(at + 2, "fms/#", 5) == 0;

                if (packet_two(at) == 10 && memcmp(at + 2, "fms/+/data", 10) == 0)
                    fail_msg("what is asked for is unsubscribed from");
                out_byte(&answer, is_it ? 0 : 0x11);
                filters++;
            }
            wire_send(&wire, UNSUBACK << 4, &answer);
            free(packet.body);
        }
        fake_until(f, fake_emitted(f) == 2);
        if (has_session)
            fake_until(f, fake_said(f, "had a subscription to fms/#, which is not asked for") != NULL);
        source_end(f);
        close(wire.fd);
        close(listener);
    }
}

/* A subscription that is refused today, and asked for again and again, does not hide one of yesterday. */
static void test_refused_subscription_hides_none_of_yesterday(void **state)
{
    int port = 0, listener = wire_listen(&port);
    struct packet packet;
    struct wire wire;
    char ini[256];
    struct fake *f;

    (void)state;
    snprintf(ini, sizeof ini,
             "server = tcp://127.0.0.1:%d\ntopic = fms/#, secret/#\nclient_id = bridge\nclean_start = no\n"
             "reconnect_min = 60s\nreconnect_max = 60s\n",
             port);
    f = fake_open("mqtt_source", FMS_SOURCE, ini);
    fake_poll(f, 16);
    wire = broker_accept(listener, NULL, true, NULL);
    broker_grant(&wire, 1);
    broker_grant(&wire, 0x87);
    fake_until(f, fake_said(f, "refuses the subscription to \"secret/#\"") != NULL);
    poll(NULL, 0, 100); /* that is said before it watches out */
    wire_publish(&wire, "old/a", "0", 1, 7, NULL, NULL);
    fake_until(f, fake_emitted(f) == 1);
    packet = wire_expect(&wire, UNSUBSCRIBE);
    free(packet.body);
    fake_stop(f);
    close(wire.fd);
    fake_until(f, fake_ended(f));
    fake_close(f);
    close(listener);
}

static void test_shared_subscription_divides(void **state)
{
    struct mosquitto broker;
    struct wire writer;
    struct fake *members[2];
    int64_t until;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    writer = client_new(broker.port, "writer", true);
    for (int i = 0; i < 2; i++)
        members[i] = source_up(broker.port, 1, "topic = $share/bridges/fms/#");
    publish_numbers(&writer, 0, 100);
    until = fake_realclock() + FAKE_PATIENCE;
    while (fake_emitted(members[0]) + fake_emitted(members[1]) < 100 && fake_realclock() < until) {
        for (int i = 0; i < 2; i++)
            fake_poll(members[i], 64);
        poll(NULL, 0, 1);
    }
    assert_int_equal(fake_emitted(members[0]) + fake_emitted(members[1]), 100);
    assert_true(fake_emitted(members[0]) > 0 && fake_emitted(members[1]) > 0);
    for (int i = 0; i < 2; i++)
        source_end(members[i]);
    close(writer.fd);
    mosquitto_free(&broker);
}

static void test_probe(void **state)
{
    struct mosquitto broker;
    struct fake *f;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    f = fake_check("mqtt_source", FMS_SOURCE, section(broker.port, "topic = fms/data, $share/g/fms/+"));
    assert_int_equal(fake_probe(f, 5 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: topic \"fms/data\" is granted, with QoS 1"));
    assert_non_null(fake_said(f, "report: topic \"$share/g/fms/+\" is granted"));
    fake_close(f);
    mosquitto_free(&broker);
}

static void test_probe_says_what_is_refused(void **state)
{
    int port = 0, listener = wire_listen(&port), status;
    struct fake *f;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct wire wire = broker_accept(listener, NULL, false, NULL);

        broker_grant(&wire, 0x87);
        _exit(0);
    }
    f = fake_check("mqtt_source", FMS_SOURCE, section(port, "topic = secret/data"));
    assert_int_equal(fake_probe(f, 5 * FMS_SECOND), -EACCES);
    assert_non_null(fake_said(f, "topic \"secret/data\": Not authorized"));
    fake_close(f);
    waitpid(pid, &status, 0);
    close(listener);
}

/* -------------------------------------------------------------------------------------------------- whole pipelines */

static pid_t run_pipelines(const char *directory, const char *const *files)
{
    const char *plugins = getenv("FMS_PLUGIN_DIR");
    const char *arguments[8] = {"fmspipe"};
    char program[512];
    pid_t pid;

    snprintf(program, sizeof program, "%s/../bin/fmspipe", plugins);
    for (int i = 0; files[i] != NULL; i++)
        arguments[i + 1] = files[i];
    pid = fork();
    if (pid == 0) {
        char log[256];

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("FMSPIPE_PLUGIN_PATH", plugins, 1);
        snprintf(log, sizeof log, "%s/log", directory);
        if (chdir(directory) != 0)
            _exit(126);
        dup2(open(log, O_WRONLY | O_CREAT | O_APPEND, 0644), STDERR_FILENO);
        execv(program, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    return pid;
}

static void write_file(const char *directory, const char *name, const char *format, ...) FMS_PRINTF(3, 4);
static void write_file(const char *directory, const char *name, const char *format, ...)
{
    char path[256];
    va_list args;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "w");
    assert_non_null(file);
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fclose(file);
}

/* One pipeline, and two of one process: fewer records in flight than messages at the broker, a window of two, a broker
 * that has all of them ready at once, and confirmations that come one by one. Nothing stalls; nothing is lost. */
static void test_source_to_sink_with_full_windows(void **state)
{
    static const char *const one[] = {"a.ini", NULL}, *const two[] = {"a.ini", "b.ini", NULL};
    enum { COUNT = 1000 };

    (void)state;
    for (int pipelines = 1; pipelines <= 2; pipelines++) {
        char name[] = "fms/data\0mid/data\0out/data";
        struct mosquitto broker;
        struct wire writer, reader;
        bool seen[COUNT] = {false};
        int missing = COUNT, status;
        pid_t pid;

        mosquitto_up(&broker, "allow_anonymous true\nmax_inflight_messages 0\n");
        for (int i = 0; i < pipelines; i++) {
            char file[8];

            snprintf(file, sizeof file, "%c.ini", 'a' + i);
            write_file(broker.directory, file,
                       "[pipeline]\nname = %c\nmax_in_flight = 4\non_reject = stop\n"
                       "[source]\nplugin = mqtt_source\nserver = tcp://127.0.0.1:%d\ntopic = %s\nclient_id = in-%c\n"
                       "clean_start = no\nkeepalive = 5s\n"
                       "[sink mqtt]\nplugin = mqtt_sink\nserver = tcp://127.0.0.1:%d\ntopic = %s\nclient_id = out-%c\n"
                       "window = 2\nkeepalive = 5s\n",
                       'a' + i, broker.port, name + 9 * i, 'a' + i, broker.port, name + (i + 1 < pipelines ? 9 : 18),
                       'a' + i);
            writer = client_new(broker.port, i == 0 ? "in-a" : "in-b", false); /* so that the broker keeps them */
            client_subscribe(&writer, name + 9 * i, 1);
            close(writer.fd);
        }
        writer = client_new(broker.port, "writer", true);
        publish_numbers(&writer, 0, COUNT);
        reader = client_new(broker.port, "reader", true);
        client_subscribe(&reader, "out/data", 1);
        pid = run_pipelines(broker.directory, pipelines == 1 ? one : two);
        while (missing > 0) {
            struct packet packet = client_receive(&reader);
            unsigned long number = strtoul((const char *)packet.payload, NULL, 10);

            assert_true(number < COUNT);
            missing -= !seen[number];
            seen[number] = true;
            free(packet.body);
        }
        kill(pid, SIGTERM);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(run_quietly("! grep -E 'error|warn|lost' '%s/log'", broker.directory), 0);
        close(reader.fd);
        close(writer.fd);
        mosquitto_free(&broker);
    }
}

static void test_passwords_are_renewed(void **state)
{
    (void)state;
    expect_renewed_password("mqtt_source", FMS_SOURCE);
}

static void test_keys_are_renewed(void **state)
{
    (void)state;
    expect_renewed_key("mqtt_source", FMS_SOURCE);
}

static void test_certificates_are_renewed(void **state)
{
    (void)state;
    expect_renewed_certificates("mqtt_source", FMS_SOURCE);
}

static void test_other_version_at_the_same_server(void **state)
{
    (void)state;
    expect_other_version("mqtt_source");
}

/* A broker of 3.1.1 that does not want us: what was found of it is not held against the next server. */
static void test_the_next_server_is_asked_in_5(void **state)
{
    int port = 0, listeners[2];
    struct wire wire;
    char ini[256];
    struct fake *f;

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        listeners[i] = wire_listen_at(i + 1, &port);
    snprintf(ini, sizeof ini, "server = tcp://127.0.0.1:%d, tcp://127.0.0.2:%d\nreconnect_min = 20ms\ntopic = t\n",
             port, port);
    f = fake_open("mqtt_source", FMS_SOURCE, ini);
    wire_idle = f;
    broker_refuse(listeners[0], 0x84);
    broker_refuse(listeners[0], 5);
    wire = broker_accept(listeners[1], NULL, false, NULL);
    assert_int_equal(wire.version, 5);
    broker_grant(&wire, 1);
    fake_until(f, fake_said(f, "receives t") != NULL);
    assert_null(fake_said(f, "3.1.1 is spoken"));
    wire_idle = NULL;
    close(wire.fd);
    fake_stop(f);
    fake_close(f);
    for (int i = 0; i < 2; i++)
        close(listeners[i]);
}

static void test_whatever_is_wrong_with_one_address_the_next_is_tried(void **state)
{
    (void)state;
    expect_all_turns("mqtt_source", FMS_SOURCE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_check_warns_of_traps),
        cmocka_unit_test(test_every_qos_and_version_arrives),
        cmocka_unit_test(test_properties_become_headers),
        cmocka_unit_test(test_who_a_message_is),
        cmocka_unit_test(test_odd_messages_cost_themselves),
        cmocka_unit_test(test_retained_messages),
        cmocka_unit_test(test_retained_messages_come_once),
        cmocka_unit_test(test_new_retained_messages_come_once_with_3_1_1),
        cmocka_unit_test(test_secure_websocket),
        cmocka_unit_test(test_full_pipeline_leaves_messages_at_the_broker),
        cmocka_unit_test(test_sink_that_never_settles),
        cmocka_unit_test(test_full_pipeline_disconnects),
        cmocka_unit_test(test_room_for_a_largest_message_is_kept),
        cmocka_unit_test(test_qos_0_without_room_is_dropped),
        cmocka_unit_test(test_held_message_comes_again),
        cmocka_unit_test(test_durable_sinks_hold_the_confirmation),
        cmocka_unit_test(test_stopped_with_records_in_flight),
        cmocka_unit_test(test_stopped_while_nobody_answers),
        cmocka_unit_test(test_broker_down_at_start_and_restarted),
        cmocka_unit_test(test_silence_is_seen),
        cmocka_unit_test(test_broker_that_never_says_that_it_kept_a_session),
        cmocka_unit_test(test_qos_2_is_exactly_once_across_connections),
        cmocka_unit_test(test_connections_that_come_to_nothing_slow_down),
        cmocka_unit_test(test_messages_instead_of_an_answer),
        cmocka_unit_test(test_takeovers_are_guessed),
        cmocka_unit_test(test_restarts_are_no_takeovers),
        cmocka_unit_test(test_good_connection_resets_the_back_off),
        cmocka_unit_test(test_broker_says_what_it_does_otherwise),
        cmocka_unit_test(test_keepalive_that_shrinks_costs_one_connection),
        cmocka_unit_test(test_broker_that_speaks_3_1_1_only),
        cmocka_unit_test(test_version_is_not_given_up_lightly),
        cmocka_unit_test(test_broker_redirects),
        cmocka_unit_test(test_refused_subscription_is_asked_for_again),
        cmocka_unit_test(test_subscription_of_yesterday_is_ended),
        cmocka_unit_test(test_odd_topic_by_a_subscription_of_yesterday),
        cmocka_unit_test(test_overlapping_subscription_of_yesterday_is_ended),
        cmocka_unit_test(test_refused_subscription_hides_none_of_yesterday),
        cmocka_unit_test(test_shared_subscription_divides),
        cmocka_unit_test(test_certificates_are_renewed),
        cmocka_unit_test(test_passwords_are_renewed),
        cmocka_unit_test(test_keys_are_renewed),
        cmocka_unit_test(test_other_version_at_the_same_server),
        cmocka_unit_test(test_the_next_server_is_asked_in_5),
        cmocka_unit_test(test_whatever_is_wrong_with_one_address_the_next_is_tried),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_probe_says_what_is_refused),
        cmocka_unit_test(test_source_to_sink_with_full_windows),
    };

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
