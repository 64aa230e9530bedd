/* test_mqtt_sink.c - mqtt_sink through its table: against a broker played by the test, which confirms when and as the
 * test likes, and against a mosquitto. */
#include <stdatomic.h>
#include <time.h>

#include "mqtt_wire.h"

/* A sink before a broker played by the test. */
struct play {
    struct fake *f;
    int listener, port;
    struct wire wire;
};

static void play_start_as(struct play *play, enum fms_role role, const struct wire_out *connack, const char *options)
{
    play->port = 0;
    play->listener = wire_listen(&play->port);
    play->f = fake_open("mqtt_sink", role, section(play->port, "%s", options));
    play->wire = broker_accept(play->listener, NULL, false, connack);
}

static void play_start(struct play *play, const struct wire_out *connack, const char *options)
{
    play_start_as(play, FMS_SINK, connack, options);
}

static void play_end(struct play *play)
{
    fake_close(play->f);
    close(play->wire.fd);
    close(play->listener);
}

static void add_numbered(struct fake *f, int from, int count)
{
    char payload[16];

    for (int i = from; i < from + count; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        fake_add(f, "fms/data", "raspi-001", payload);
    }
    fake_write(f);
}

/* The next publication must have that number as its payload. Its id. */
static unsigned expect_number(const struct wire *wire, int number)
{
    struct packet packet = wire_expect(wire, PUBLISH);
    char payload[16];
    unsigned id = packet.id;

    snprintf(payload, sizeof payload, "%d", number);
    if (!packet_is(&packet, payload))
        fail_msg("%.*s came instead of %d", (int)packet.payload_size, (const char *)packet.payload, number);
    assert_string_equal(packet.topic, "fms/data");
    free(packet.body);
    return id;
}

/* ------------------------------------------------------------------------------------------------------------ check */

static void test_check_names_what_is_wrong(void **state)
{
    static const struct refusal cases[] = {
        {"server = localhost\n", "error: server: \"localhost\" must begin with tcp://"},
        {"server = http://localhost\n", "must begin with tcp://"},
        {"server = tcp://\n", "has no host"},
        {"server = tcp://a:99999\n", "has no port between 1 and 65535"},
        {"server = tcp://a:\n", "has no port"},
        {"server = tcp://a:1x\n", "has no port"},
        {"server = tcp://[::1\n", "lacks the ]"},
        {"server = tcp://me:secret@a\n",
         "error: server: \"...@a\" must not hold a user name: use username and password"},
        {"server = tcp://a, tcp://me:se/cret@a\n", "error: server: \"...@a\" must end after host and port"},
        {"server =\n", "server"},
        {"server = ssl://a, tcp://b\n", "error: server: \"tcp://b\" is of another kind than the first"},
        {"server = ws://a, tcp://b\n", "is of another kind"},
        {"server = tcp://a/path\n", "must end after host and port"},
        {"server = tcp://a\nca_file = ca.pem\n", "error: ca_file: is for TLS"},
        {"server = ssl://a\nkey_file = key.pem\n", "error: key_file: needs cert_file"},
        {"server = tcp://a\nversion = 3.1.1\npassword = x\n", "error: password: needs username"},
        {"server = tcp://a\nusername = \xff\n", "error: username: must be a text"},
        {"server = tcp://a\nreconnect_min = 5s\nreconnect_max = 1s\n", "error: reconnect_min: is greater"},
        {"server = tcp://a\nwill_topic = fms/+\n", "error: will_topic: the topic holds a wildcard"},
        {"server = tcp://a\nonline_payload = on\n", "error: online_payload: needs will_topic"},
        {"server = tcp://a\nversion = 3.1.1\nidentity = yes\n", "error: identity: needs MQTT 5"},
    };

    (void)state;
    expect_refused("mqtt_sink", FMS_SINK, cases, sizeof cases / sizeof cases[0]);
}

/* A comma in a password splits it, so that no part looks like one. */
static void test_check_shows_no_part_of_a_password(void **state)
{
    static const struct refusal cases[] = {
        {"server = tcp://user:hush,hush@h\n", "error: server: \"tcp://user\" has no port"},
        {"server = tcp://user:1,hush@h:1883\n", "error: server: \"...@h\" must begin with"},
        {"server = tcp://user:hush@hush,hush@h\n", "error: server: address 1 must not hold a user name"},
        {"server = tcp://user:1,hush,hush@h\n", "error: server: address 2 must begin with"},
        {"server = tcp://a, tcp://user:hush,hush@h\n", "error: server: \"tcp://user\" has no port"},
        {"server = tcp://a, tcp://user/hush,hush@h\n", "error: server: \"tcp://user\" must end after"},
        {"server = user:hush,hush@h\n", "error: server: \"user\" must begin with"},
    };

    (void)state;
    expect_refused("mqtt_sink", FMS_SINK, cases, sizeof cases / sizeof cases[0]);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake *f = fake_check("mqtt_sink", FMS_SINK, cases[i].ini);

        assert_null(fake_said(f, "hush"));
        fake_close(f);
    }
}

static void test_check_warns_of_traps(void **state)
{
    struct fake *f = fake_check("mqtt_sink", FMS_SINK, "server = ssl://a\nqos = 0\ntls_verify = no\n");

    (void)state;
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: qos: at QoS 0"));
    assert_non_null(fake_said(f, "advice: tls_verify: "));
    fake_close(f);
    f = fake_check("mqtt_sink", FMS_SINK, "server = tcp://a\nqos = 0\nidentity = yes\n");
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: identity: at QoS 0"));
    fake_close(f);
    f = fake_check("mqtt_sink", FMS_SINK, "server = tcp://[::1]\nusername = me\npassword = hush\n");
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: password: goes over the network in the clear"));
    assert_null(fake_said(f, "hush"));
    fake_close(f);
}

static void test_open_needs_readable_files(void **state)
{
    struct fake *f = fake_check("mqtt_sink", FMS_SINK, "server = ssl://127.0.0.1\nca_file = /no/such.pem\n");

    (void)state;
    assert_int_equal(fake_error(f), 0);
    assert_int_not_equal(fake_start(f), 0);
    assert_non_null(fake_said(f, "error: ca_file: /no/such.pem: No such file"));
    fake_close(f);
    f = fake_check("mqtt_sink", FMS_SINK, "server = ssl://127.0.0.1\nca_file = /no/such.pem\n");
    assert_int_equal(fake_probe(f, FMS_SECOND), -EINVAL);
    assert_int_equal(fake_count_said(f, "error: "), 1); /* and does not try */
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------- confirmations */

static void test_delivered_when_confirmed_out_of_order(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct play play;
        char options[64];
        unsigned ids[3];

        (void)state;
        snprintf(options, sizeof options, "version = %s", versions[v]);
        play_start(&play, NULL, options);
        add_numbered(play.f, 0, 3);
        for (int i = 0; i < 3; i++)
            ids[i] = expect_number(&play.wire, i);
        assert_int_equal(fake_unsettled(play.f), 3);
        wire_confirm(&play.wire, PUBACK, ids[2], 0);
        fake_until(play.f, fake_fate(play.f, 2) == FMS_DELIVERED);
        assert_int_equal(fake_unsettled(play.f), 2);
        wire_confirm(&play.wire, PUBACK, ids[0], 0);
        wire_confirm(&play.wire, PUBACK, ids[1], 0);
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 3);
        play_end(&play);
    }
}

static void test_what_is_under_way_shows(void **state)
{
    struct play play = {.port = 0};
    unsigned ids[3];
    int64_t sum;

    (void)state;
    play.listener = wire_listen(&play.port);
    play.f = fake_check("mqtt_sink", FMS_SINK, section(play.port, "window = 3"));
    fake_host(play.f)->watched = true;
    assert_int_equal(fake_start(play.f), 0);
    add_numbered(play.f, 0, 2);
    fake_measure(play.f);
    assert_true(fake_gauge(play.f, "queue_messages") == 2 && fake_gauge(play.f, "in_flight_messages") == 0);
    play.wire = broker_accept(play.listener, NULL, false, NULL);
    for (int i = 0; i < 2; i++)
        ids[i] = expect_number(&play.wire, i);
    fake_measure(play.f);
    assert_true(fake_gauge(play.f, "queue_messages") == 0 && fake_gauge(play.f, "in_flight_messages") == 2);
    assert_true(fake_gauge(play.f, "in_flight_limit_messages") == 3);
    assert_int_equal(fake_observed(play.f, "confirm_seconds", NULL), 0);
    wire_confirm(&play.wire, PUBACK, ids[0], 0); /* the one whose time is taken */
    wire_confirm(&play.wire, PUBACK, ids[1], 0);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
    assert_int_equal(fake_observed(play.f, "confirm_seconds", &sum), 1);
    assert_true(sum > 0);
    add_numbered(play.f, 2, 1);
    ids[2] = expect_number(&play.wire, 2);
    wire_confirm(&play.wire, PUBACK, ids[2], 0);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 3);
    assert_int_equal(fake_observed(play.f, "confirm_seconds", NULL), 2);
    fake_measure(play.f);
    assert_true(fake_gauge(play.f, "in_flight_messages") == 0);
    play_end(&play);
}

static void test_qos_2_is_delivered_at_pubcomp(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct play play;
        char options[64];
        unsigned id;

        (void)state;
        snprintf(options, sizeof options, "qos = 2\nversion = %s", versions[v]);
        play_start(&play, NULL, options);
        add_numbered(play.f, 0, 1);
        id = expect_number(&play.wire, 0);
        wire_confirm(&play.wire, PUBREC, id, 0);
        free(wire_expect(&play.wire, PUBREL).body);
        assert_int_equal(fake_unsettled(play.f), 1);
        wire_confirm(&play.wire, PUBCOMP, id, 0);
        fake_until(play.f, fake_fate(play.f, 0) == FMS_DELIVERED);
        play_end(&play);
    }
}

static void test_never_confirmed_is_left_unsettled(void **state)
{
    struct play play;

    (void)state;
    play_start(&play, NULL, "");
    add_numbered(play.f, 0, 2);
    expect_number(&play.wire, 0);
    expect_number(&play.wire, 1);
    fake_expect_left(play.f, 2);
    play_end(&play);
}

static void test_connects_again_when_nothing_is_confirmed(void **state)
{
    struct play play;
    struct wire second;

    (void)state;
    play_start(&play, NULL, "ack_timeout = 100ms");
    add_numbered(play.f, 0, 2);
    expect_number(&play.wire, 0);
    expect_number(&play.wire, 1);
    second = broker_accept(play.listener, NULL, false, NULL);
    wire_confirm(&second, PUBACK, expect_number(&second, 0), 0);
    wire_confirm(&second, PUBACK, expect_number(&second, 1), 0);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
    assert_non_null(fake_said(play.f, "confirms nothing any more"));
    close(second.fd);
    play_end(&play);
}

/* What is confirmed is not sent again, the rest is, in order and before what is new. */
static void test_lost_connection_sends_again_in_order(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct play play;
        struct wire second;
        char options[64];
        unsigned id;

        (void)state;
        snprintf(options, sizeof options, "version = %s", versions[v]);
        play_start(&play, NULL, options);
        add_numbered(play.f, 0, 4);
        expect_number(&play.wire, 0);
        id = expect_number(&play.wire, 1);
        wire_confirm(&play.wire, PUBACK, id, 0);
        fake_until(play.f, fake_fate(play.f, 1) == FMS_DELIVERED);
        shutdown(play.wire.fd, SHUT_RDWR);
        add_numbered(play.f, 4, 1);
        second = broker_accept(play.listener, NULL, false, NULL);
        wire_confirm(&second, PUBACK, expect_number(&second, 0), 0);
        for (int i = 2; i < 5; i++)
            wire_confirm(&second, PUBACK, expect_number(&second, i), 0);
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 5);
        assert_int_equal(fake_counter(play.f, "connections"), 2);
        assert_true(fake_counter(play.f, "resent") >= 1);
        assert_int_equal(fake_count_said(play.f, " lost: "), 1);
        assert_int_equal(fake_count_said(play.f, "info: connected to "), 2);
        close(second.fd);
        play_end(&play);
    }
}

/* MQTT 5 brokers do; mosquitto 2.0.11 keeps this one to itself. */
static void test_broker_says_why_it_disconnects(void **state)
{
    struct wire_out reason = {.data = {0x8e}, .size = 1};
    struct play play;
    struct wire second;

    (void)state;
    play_start(&play, NULL, "client_id = car\ntakeover_pause = 20ms");
    fake_until(play.f, fake_said(play.f, "info: connected to ") != NULL);
    wire_send(&play.wire, DISCONNECT << 4, &reason);
    second = broker_accept(play.listener, NULL, false, NULL);
    fake_until(play.f, fake_count_said(play.f, "info: connected to ") == 2);
    assert_non_null(
        fake_said(play.f, "another client has connected with the client id \"car\" and has the session now"));
    close(second.fd);
    play_end(&play);
}

/* ----------------------------------------------------------------------------------------- refusals, limits: MQTT 5 */

static void test_permanent_refusal_rejects(void **state)
{
    static const unsigned codes[] = {0x90, 0x95, 0x99};
    struct play play;

    (void)state;
    play_start(&play, NULL, "");
    add_numbered(play.f, 0, 4);
    for (int i = 0; i < 4; i++)
        wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, i), i < 3 ? codes[i] : 0);
    fake_until(play.f, fake_unsettled(play.f) == 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(fake_fate(play.f, i), FMS_REJECTED);
    assert_int_equal(fake_fate(play.f, 3), FMS_DELIVERED);
    assert_non_null(strstr(fake_reason(play.f, 2), "the broker refuses it: Payload format invalid"));
    play_end(&play);
}

/* After a refusal nothing newer goes out, and all goes back to the host, which offers it again in order. */
static void test_passing_refusal_is_retried_in_order(void **state)
{
    struct wire_out connack = {.size = 0};
    struct play play;
    unsigned ids[2];

    (void)state;
    out_byte(&connack, 33); /* receive maximum */
    out_two(&connack, 2);
    play_start(&play, &connack, "");
    add_numbered(play.f, 0, 4);
    for (int i = 0; i < 2; i++) /* both are out before one is refused: after that none would follow */
        ids[i] = expect_number(&play.wire, i);
    wire_confirm(&play.wire, PUBACK, ids[0], 0x97);
    wire_confirm(&play.wire, PUBACK, ids[1], 0);
    fake_until(play.f, fake_unsettled(play.f) == 0);
    assert_int_equal(fake_fate(play.f, 1), FMS_DELIVERED);
    assert_int_equal(fake_count_fate(play.f, FMS_RETRY), 3);
    assert_non_null(strstr(fake_reason(play.f, 0), "Quota exceeded"));
    fake_write(play.f);
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 0), 0);
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 2), 0);
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 3), 0);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 4);
    play_end(&play);
}

static void test_window_bounds_what_is_under_way(void **state)
{
    static const struct wire_out nothing;
    struct wire_out connack = {.size = 0};

    (void)state;
    out_byte(&connack, 33);
    out_two(&connack, 2);
    for (int broker_bounds = 0; broker_bounds < 2; broker_bounds++) {
        struct play play;
        unsigned first;

        play_start(&play, broker_bounds ? &connack : NULL, broker_bounds ? "" : "window = 2");
        add_numbered(play.f, 0, 3);
        assert_int_equal(fake_unsettled(play.f), broker_bounds ? 3 : 2);
        first = expect_number(&play.wire, 0);
        expect_number(&play.wire, 1);
        /* A third would come before the answer to a ping of the link's own. */
        assert_false(wire_ready(play.wire.fd, 100));
        wire_send(&play.wire, PINGRESP << 4, &nothing);
        wire_confirm(&play.wire, PUBACK, first, 0);
        fake_until(play.f, fake_unsettled(play.f) == 2 && fake_count_fate(play.f, FMS_DELIVERED) == 1);
        expect_number(&play.wire, 2);
        fake_expect_left(play.f, 2);
        play_end(&play);
    }
}

/* To the byte: what just fits is sent. */
static void test_too_large_for_the_broker_is_rejected(void **state)
{
    enum { LARGEST = 300, OVERHEAD = 1 + 2 + 2 + 8 /* fms/data */ + 2 + 1 };
    struct wire_out connack = {.size = 0};
    struct packet packet;
    struct play play;
    char payload[LARGEST];

    (void)state;
    out_byte(&connack, 39); /* maximum packet size */
    out_two(&connack, 0);
    out_two(&connack, LARGEST);
    memset(payload, 'x', sizeof payload);
    play_start(&play, &connack, "");
    payload[LARGEST - OVERHEAD + 1] = '\0';
    fake_add(play.f, "fms/data", NULL, payload);
    payload[LARGEST - OVERHEAD] = '\0';
    fake_add(play.f, "fms/data", NULL, payload);
    fake_write(play.f);
    packet = wire_expect(&play.wire, PUBLISH);
    assert_int_equal(packet.size, LARGEST - 3);
    wire_confirm(&play.wire, PUBACK, packet.id, 0);
    free(packet.body);
    fake_until(play.f, fake_unsettled(play.f) == 0);
    assert_int_equal(fake_fate(play.f, 0), FMS_REJECTED);
    assert_non_null(
        strstr(fake_reason(play.f, 0), "a packet larger than the 300 bytes that the broker takes: \"fms/data\""));
    assert_int_equal(fake_fate(play.f, 1), FMS_DELIVERED);
    assert_int_equal(fake_counter(play.f, "connections"), 1);
    play_end(&play);
}

static void test_impossible_records_are_rejected(void **state)
{
    static const struct {
        struct fms_bytes topic;
        const char *reason;
    } cases[] = {
        {{"fms/#", 5}, "wildcard"},
        {{"fms/+/data", 10}, "wildcard"},
        {{"", 0}, "empty"},
        {{"fms\0data", 8}, "no UTF-8, or holds control"},
        {{"fms\n", 4}, "control"},
        {{"\xc0\xaf", 2}, "no UTF-8"},
        {{"\xed\xa0\x80", 3}, "no UTF-8"},
        {{NULL, 0}, "topic"},
    };
    struct fms_record draft = {.payload = {"0123456789", 10}};
    static char longest[70000];
    size_t count = sizeof cases / sizeof cases[0];
    struct play play;

    (void)state;
    play_start(&play, NULL, "max_message_size = 10");
    for (size_t i = 0; i < count; i++) {
        draft.topic = cases[i].topic;
        fake_add_record(play.f, &draft);
    }
    memset(longest, 'a', sizeof longest);
    draft.topic = fms_bytes_of(longest, sizeof longest);
    fake_add_record(play.f, &draft);
    draft.topic = fms_text("fms/data");
    draft.payload = fms_text("0123456789a");
    fake_add_record(play.f, &draft);
    fake_write(play.f);
    assert_int_equal(fake_count_fate(play.f, FMS_REJECTED), count + 2);
    for (size_t i = 0; i < count; i++) {
        if (strstr(fake_reason(play.f, i), cases[i].reason) == NULL)
            fail_msg("case %zu: %s", i, fake_reason(play.f, i));
    }
    assert_non_null(strstr(fake_reason(play.f, count), "longer than 65535"));
    assert_non_null(strstr(fake_reason(play.f, count + 1), "larger than max_message_size"));
    play_end(&play);
}

/* -------------------------------------------------------------------------------- records that the broker does not take */

/* Offers what is to be retried again, until all is settled for good; how often. */
static int offer_until_settled(struct fake *f)
{
    int offers = 0;

    do {
        assert_true(offers++ < 100);
        fake_write(f);
        fake_until(f, fake_unsettled(f) == 0);
    } while (fake_count_fate(f, FMS_RETRY) > 0);
    return offers;
}

/* Three records on a connection that ends when the first has come, as when the broker hangs up on it. */
static void hang_up_on(struct play *play, int first, bool is_alone, unsigned reason)
{
    struct wire_out out = {.data = {(unsigned char)reason}, .size = 1};

    for (int i = first; i < (is_alone ? first + 1 : 3); i++)
        expect_number(&play->wire, i);
    if (is_alone)
        assert_false(wire_ready(play->wire.fd, 50));
    if (reason != 0)
        wire_send(&play->wire, DISCONNECT << 4, &out);
    close(play->wire.fd);
    play->wire = broker_accept(play->listener, NULL, false, NULL);
}

/* Two connections are lost for what nobody knows, three for the record that is then sent alone. */
static void test_a_record_that_costs_the_connection_is_rejected(void **state)
{
    static const unsigned reasons[] = {0, 0x90};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct play play;

        play_start(&play, NULL, "");
        add_numbered(play.f, 0, 3);
        for (int loss = 0; loss < 5; loss++)
            hang_up_on(&play, 0, loss >= 2, reasons[i]);
        fake_until(play.f, fake_fate(play.f, 0) == FMS_REJECTED);
        assert_non_null(strstr(fake_reason(play.f, 0), "\"fms/data\""));
        assert_non_null(strstr(fake_reason(play.f, 0), i == 0 ? "closed the connection" : "Topic name invalid"));
        wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 1), 0);
        wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 2), 0);
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
        add_numbered(play.f, 0, 2); /* the next to that topic is not given as long */
        hang_up_on(&play, 0, true, reasons[i]);
        fake_until(play.f, fake_fate(play.f, 3) == FMS_REJECTED);
        wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 1), 0);
        fake_until(play.f, fake_fate(play.f, 4) == FMS_DELIVERED);
        play_end(&play);
    }
}

static void test_an_end_for_another_reason_costs_no_record(void **state)
{
    static const struct {
        unsigned reason;
        const char *options;
    } cases[] = {{0x8b, ""} /* shutting down */, {0x87, "topic = fms/data"} /* not authorized */};

    (void)state;
    for (size_t c = 0; c < 2; c++) {
        struct play play;

        play_start(&play, NULL, cases[c].options);
        add_numbered(play.f, 0, 3);
        for (int loss = 0; loss < 6; loss++)
            hang_up_on(&play, 0, loss >= 2, cases[c].reason);
        for (int i = 0; i < 3; i++)
            wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, i), 0);
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 3);
        play_end(&play);
    }
}

/* Where the record chose its topic it is that one's fault; where all go to one topic, the right to it may come back. */
static void test_not_authorized_is_rejected_where_the_record_chose(void **state)
{
    (void)state;
    for (int chosen = 0; chosen < 2; chosen++) {
        struct play play;

        play_start(&play, NULL, chosen ? "window = 1" : "window = 1\ntopic = fms/data");
        add_numbered(play.f, 0, 2);
        for (int i = 0; i < 5; i++) {
            wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 0), 0x87);
            fake_until(play.f, fake_unsettled(play.f) == 0);
            assert_int_equal(fake_fate(play.f, 0), chosen && i == 4 ? FMS_REJECTED : FMS_RETRY);
            fake_write(play.f);
        }
        if (chosen)
            assert_non_null(strstr(fake_reason(play.f, 0), "Not authorized: \"fms/data\""));
        for (int i = chosen; i < 2; i++) {
            wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, i), 0);
            fake_until(play.f, fake_fate(play.f, (size_t)i) == FMS_DELIVERED);
            fake_write(play.f);
        }
        play_end(&play);
    }
}

/* The host's back-off, watched: which attempt was the most, and nobody waits. */
static atomic_uint most_attempts;

static int64_t watched_backoff(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    (void)host;
    (void)min;
    (void)max;
    if (attempt > most_attempts)
        most_attempts = attempt;
    return FMS_MS;
}

static struct fake *sink_watched(int port, const char *options)
{
    struct fake *f = fake_check("mqtt_sink", FMS_SINK, section(port, "%s", options));

    most_attempts = 0;
    fake_host(f)->backoff = watched_backoff;
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* A broker that refuses a record and hangs up has said why: the next attempt comes as soon as the first, the record costs five of
 * them, and nobody else is suspected. Where it is not known whose fault it is the pauses grow. */
static void test_a_loss_that_is_explained_costs_no_longer_pause(void **state)
{
    (void)state;
    for (int is_fixed = 0; is_fixed < 2; is_fixed++) {
        struct play play = {.port = 0};

        play.listener = wire_listen(&play.port);
        play.f = sink_watched(play.port, is_fixed ? "topic = fms/data" : "");
        play.wire = broker_accept(play.listener, NULL, false, NULL);
        fake_add(play.f, "fms/data", NULL, "0");
        for (int i = 0; i < 5; i++) {
            unsigned first, second;

            add_numbered(play.f, i + 1, 1);
            fake_write(play.f);
            first = expect_number(&play.wire, 0);
            second = expect_number(&play.wire, i + 1);
            wire_confirm(&play.wire, PUBACK, second, 0);
            wire_confirm(&play.wire, PUBACK, first, 0x87);
            fake_until(play.f, fake_unsettled(play.f) == 0);
            close(play.wire.fd);
            play.wire = broker_accept(play.listener, NULL, false, NULL);
        }
        assert_int_equal(fake_fate(play.f, 0), is_fixed ? FMS_RETRY : FMS_REJECTED);
        assert_int_equal(fake_count_fate(play.f, FMS_DELIVERED), 5);
        if (is_fixed) {
            assert_true(most_attempts >= 3);
        } else {
            assert_int_equal(most_attempts, 0);
            assert_null(fake_said(play.f, "another client"));
            assert_null(fake_said(play.f, "times in a row"));
        }
        play_end(&play);
    }
}

/* The monotonic clock, which a test sets forward. */
static _Atomic int64_t clock_ahead;

FMS_EXPORT int clock_gettime(clockid_t clock, struct timespec *now) /* by whatever name the header has it called */
{
    int error = (int)syscall(SYS_clock_gettime64, clock, now);

    now->tv_sec += clock == CLOCK_MONOTONIC ? clock_ahead / FMS_SECOND : 0;
    return error;
}

/* Of connections that do not last, none is said to be there again but the one that lasts. */
static void test_a_connection_that_lasts_is_told(void **state)
{
    struct play play = {.port = 0};

    (void)state;
    play.listener = wire_listen(&play.port);
    play.f = sink_watched(play.port, "keepalive = 120s");
    play.wire = broker_accept(play.listener, NULL, false, NULL);
    add_numbered(play.f, 0, 1);
    for (int i = 0; i < 4; i++) {
        expect_number(&play.wire, 0);
        close(play.wire.fd);
        play.wire = broker_accept(play.listener, NULL, false, NULL);
    }
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 0), 0);
    fake_until(play.f, fake_fate(play.f, 0) == FMS_DELIVERED);
    clock_ahead = 31 * FMS_SECOND;
    add_numbered(play.f, 1, 1); /* has it look */
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 1), 0);
    fake_until(play.f, fake_said(play.f, "again, and now it lasts: 4 connections before did not") != NULL);
    fake_until(play.f, fake_fate(play.f, 1) == FMS_DELIVERED);
    assert_int_equal(fake_count_said(play.f, "info: connected to "), 3); /* the first, the first again, and the last */
    clock_ahead = 0;
    play_end(&play);
}

/* A broker that refuses everything: each record has its tries, whatever was found of the one before. */
static void test_not_authorized_waits_while_nothing_is_taken(void **state)
{
    struct play play;

    (void)state;
    play_start(&play, NULL, "window = 1");
    add_numbered(play.f, 0, 2);
    for (int i = 0; i < 10; i++) {
        wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, i / 5), 0x87);
        fake_until(play.f, fake_unsettled(play.f) == 0);
        assert_int_equal(fake_fate(play.f, (size_t)i / 5), i % 5 == 4 ? FMS_REJECTED : FMS_RETRY);
        fake_write(play.f);
    }
    play_end(&play);
}

/* A refusal without a reason may pass; but one that does not must not stand before all others for ever. */
static void test_a_record_that_is_refused_for_ever_is_rejected(void **state)
{
    static const unsigned codes[] = {0x80, 0x83};

    (void)state;
    for (int alone = 0; alone < 2; alone++) { /* with others that are taken meanwhile, or before any other */
        struct play play;
        int turns = alone ? 20 : 5;
        unsigned id, other;

        play_start(&play, NULL, alone ? "window = 1\ntopic = fms/data" : "topic = fms/data");
        fake_add(play.f, "fms/data", NULL, "0");
        for (int i = 0; i < turns; i++) {
            if (!alone)
                add_numbered(play.f, i + 1, 1);
            fake_write(play.f);
            id = expect_number(&play.wire, 0);
            other = alone ? 0 : expect_number(&play.wire, i + 1); /* nothing follows a refusal */
            wire_confirm(&play.wire, PUBACK, id, codes[alone]);
            if (!alone)
                wire_confirm(&play.wire, PUBACK, other, 0);
            fake_until(play.f, fake_unsettled(play.f) == 0);
            assert_int_equal(fake_fate(play.f, 0), i == turns - 1 ? FMS_REJECTED : FMS_RETRY);
        }
        assert_non_null(strstr(fake_reason(play.f, 0), alone ? "Implementation specific error" : "Unspecified error"));
        play_end(&play);
    }
}

/* What was refused and then taken is not held against the next that says the same; nor is one reason against another. */
static void test_a_refusal_that_passes_is_forgotten(void **state)
{
    struct play play;

    (void)state;
    play_start(&play, NULL, "window = 1");
    for (int round = 0; round < 2; round++) {
        add_numbered(play.f, 0, 1);
        for (int i = 0; i < 20; i++) {
            unsigned code = round == 0 && i == 10 ? 0x97 : i == 19 ? 0 : 0x80;

            wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 0), code);
            fake_until(play.f, fake_unsettled(play.f) == 0);
            assert_int_equal(fake_fate(play.f, (size_t)round), i == 19 ? FMS_DELIVERED : FMS_RETRY);
            fake_write(play.f);
        }
    }
    play_end(&play);
}

/* mosquitto hangs up on a topic of more than 200 levels, and does not authorize one that begins with $SYS or $share. */
static void test_what_mosquitto_does_not_take_costs_that_record(void **state)
{
    static char deep[512] = "x";
    const char *const topics[] = {"g/1", deep, "$SYS/x", "g/2", "$share/g/x", deep, "g/3", "$SYS/x", "g/4"};
    size_t count = sizeof topics / sizeof topics[0];
    struct mosquitto broker;
    struct fake *f;

    (void)state;
    for (int i = 0; i < 250; i++)
        strcat(deep, "/x");
    mosquitto_up(&broker, "allow_anonymous true\n");
    f = sink_watched(broker.port, "version = 5");
    for (size_t i = 0; i < count; i++)
        fake_add(f, topics[i], NULL, "1");
    offer_until_settled(f);
    assert_true(most_attempts < 6); /* until it is known whose fault it is */
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(fake_fate(f, i), topics[i][0] == 'g' ? FMS_DELIVERED : FMS_REJECTED);
        if (topics[i][0] == '$')
            assert_non_null(strstr(fake_reason(f, i), "Not authorized"));
        if (topics[i][0] != 'g')
            assert_non_null(strstr(fake_reason(f, i), topics[i][0] == 'x' ? "\"x/x/x" : topics[i]));
    }
    fake_close(f);
    mosquitto_free(&broker);
}

/* ------------------------------------------------------------------------------------------------------ dead letters */

/* A letter as the host makes it. */
static void add_letter(struct fake *f, struct fms_bytes topic, struct fms_bytes payload, const struct fms_header *own)
{
    struct fms_header headers[6] = {{"fms.reason", fms_text("why\n")},
                                    {"fms.pipeline", fms_text("p")},
                                    {"fms.stage", fms_text("source")},
                                    {"fms.topic", topic},
                                    {"fms.time", fms_text("2026-11-28T10:00:00Z")}};
    struct fms_record letter = {.topic = topic, .payload = payload, .headers = headers, .header_count = 5};

    if (own != NULL) {
        memmove(headers + 1, headers, 5 * sizeof *headers);
        headers[0] = *own;
        letter.header_count++;
    }
    fake_add_record(f, &letter);
}

/* Whether a packet's properties have a user property of that name that begins with that value. */
static bool has_property(const struct packet *packet, const char *name, const char *value)
{
    struct wire_out wanted = {.size = 0};
    size_t size;

    out_byte(&wanted, 38);
    out_text(&wanted, name);
    size = wanted.size;
    for (const unsigned char *at = packet->properties; at + size + 2 <= packet->properties + packet->properties_size;
         at++) {
        if (memcmp(at, wanted.data, size) == 0)
            return strncmp((const char *)at + size + 2, value, strlen(value)) == 0;
    }
    return false;
}

/* The next publication, confirmed with that code; to be freed. */
static struct packet expect_letter(const struct wire *wire, const char *topic, unsigned code)
{
    struct packet packet = wire_expect(wire, PUBLISH);

    assert_string_equal(packet.topic, topic);
    wire_confirm(wire, PUBACK, packet.id, code);
    return packet;
}

static void test_odd_topics_of_dead_letters_are_mended(void **state)
{
    static const struct {
        struct fms_bytes topic;
        const char *sent, *shown;
    } cases[] = {
        {{"fms/#", 5}, "dead/fms/_", "fms/#"},
        {{"fms/+/data", 10}, "dead/fms/_/data", "fms/+/data"},
        {{"", 0}, "dead/", ""},
        {{"fms\0data", 8}, "dead/fms_data", "fms\\x00data"},
        {{"\xc0\xaf/\xc3\xa4", 5}, "dead/__/\xc3\xa4", "\\xc0\\xaf/\xc3\xa4"},
        {{"$SYS/x", 6}, "dead/$SYS/x", "$SYS/x"},
    };

    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct packet packet;
        struct play play;
        char options[64];

        snprintf(options, sizeof options, "topic = dead/${topic:-}\nversion = %s", versions[v]);
        play_start_as(&play, FMS_DEAD_LETTER, NULL, options);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            add_letter(play.f, cases[i].topic, fms_text("\xff"), NULL);
            fake_write(play.f);
            packet = expect_letter(&play.wire, cases[i].sent, 0);
            assert_true(packet_is(&packet, "\xff"));
            assert_true(v == 0 || has_property(&packet, "fms.topic", cases[i].shown));
            assert_true(v == 0 || has_property(&packet, "fms.reason", "why\\x0a"));
            free(packet.body);
        }
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == sizeof cases / sizeof cases[0]);
        play_end(&play);
    }
}

/* With the default topic: what begins with $ is the broker's own, and what is empty or too long is no topic at all. */
static void test_a_dead_letter_has_always_a_topic(void **state)
{
    static char longest[70000];
    struct packet packet;
    struct play play;

    (void)state;
    memset(longest, 'a', sizeof longest);
    play_start_as(&play, FMS_DEAD_LETTER, NULL, "");
    add_letter(play.f, fms_text("$SYS/x"), fms_text("0"), NULL);
    add_letter(play.f, fms_bytes_of("", 0), fms_text("0"), NULL);
    add_letter(play.f, fms_bytes_of(NULL, 0), fms_text("0"), NULL);
    add_letter(play.f, fms_bytes_of(longest, sizeof longest), fms_text("0"), NULL);
    fake_write(play.f);
    free(expect_letter(&play.wire, "_SYS/x", 0).body);
    free(expect_letter(&play.wire, "_", 0).body);
    free(expect_letter(&play.wire, "_", 0).body);
    packet = wire_expect(&play.wire, PUBLISH);
    assert_int_equal(packet_two(packet.body), 65535);
    assert_true(has_property(&packet, "fms.topic", "aaaa"));
    wire_confirm(&play.wire, PUBACK, packet.id, 0);
    free(packet.body);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 4);
    play_end(&play);
}

/* A letter is a message about a message: the broker is not to drop it when that would have expired, nor to look whether its
 * payload is the text that it should have been. */
/* A letter that comes back as a message, with its headers as those of a sender, and becomes a letter again does not grow. */
static void test_dead_letters_that_come_back_do_not_grow(void **state)
{
    const struct fms_header headers[] = {{"user.fms.reason", {"old", 3}},
                                         {"user.fms.time", {"old", 3}},
                                         {"user.fms.other", {"kept", 4}},
                                         {"fms.reason", {"new", 3}},
                                         {"fms.time", {"now", 3}}};
    struct fms_record letter = {
        .topic = fms_text("t"), .payload = fms_text("{}"), .headers = headers, .header_count = 5};
    struct wire_out wanted = {.size = 0};

    (void)state;
    for (int is_letter = 0; is_letter < 2; is_letter++) { /* a record's headers stay as they are */
        struct packet packet;
        struct play play;

        wanted.size = 0;
        if (!is_letter) {
            out_property(&wanted, "fms.reason", "old");
            out_property(&wanted, "fms.time", "old");
        }
        out_property(&wanted, "fms.other", "kept");
        out_property(&wanted, "fms.reason", "new");
        out_property(&wanted, "fms.time", "now");
        play_start_as(&play, is_letter ? FMS_DEAD_LETTER : FMS_SINK, NULL, "topic = t");
        fake_add_record(play.f, &letter);
        fake_write(play.f);
        packet = expect_letter(&play.wire, "t", 0);
        assert_int_equal(packet.properties_size, wanted.size);
        assert_memory_equal(packet.properties, wanted.data, wanted.size);
        free(packet.body);
        fake_until(play.f, fake_fate(play.f, 0) == FMS_DELIVERED);
        play_end(&play);
    }
}

static void test_dead_letters_do_not_expire(void **state)
{
    const struct fms_header expiry = {"mqtt.message_expiry", {"1", 1}}, format = {"mqtt.payload_format", {"1", 1}};
    struct packet packet;
    struct play play;

    (void)state;
    play_start_as(&play, FMS_DEAD_LETTER, NULL, "topic = dead");
    add_letter(play.f, fms_text("a"), fms_text("0"), &expiry);
    add_letter(play.f, fms_text("a"), fms_text("\xff"), &format);
    fake_write(play.f);
    packet = expect_letter(&play.wire, "dead", 0);
    assert_int_equal(packet.properties[0], 38);
    assert_true(has_property(&packet, "mqtt.message_expiry", "1"));
    free(packet.body);
    packet = expect_letter(&play.wire, "dead", 0);
    assert_int_equal(packet.properties[0], 38);
    assert_true(has_property(&packet, "mqtt.payload_format", "1"));
    free(packet.body);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
    play_end(&play);
}

/* What the broker has no room for is left out, piece by piece. */
static void test_large_dead_letters_are_reduced(void **state)
{
    static char large[2000];
    const struct fms_header own = {"note", {large, sizeof large}}, small = {"note", {"x", 1}};
    struct wire_out connack = {.size = 0};
    struct packet packet;
    struct play play;

    (void)state;
    memset(large, 'x', sizeof large);
    out_byte(&connack, 39); /* maximum packet size */
    out_two(&connack, 0);
    out_two(&connack, 1000);
    play_start_as(&play, FMS_DEAD_LETTER, &connack, "max_message_size = 50");
    add_letter(play.f, fms_text("a"), fms_text("0"), &small);
    add_letter(play.f, fms_text("b"), fms_bytes_of(large, 51), &small);
    add_letter(play.f, fms_text("c"), fms_text("0"), &own);
    add_letter(play.f, fms_bytes_of(large, sizeof large), fms_text("0"), &own);
    fake_write(play.f);
    packet = expect_letter(&play.wire, "a", 0);
    assert_true(packet_is(&packet, "0") && has_property(&packet, "note", "x"));
    assert_false(has_property(&packet, "fms.payload", ""));
    free(packet.body);
    packet = expect_letter(&play.wire, "b", 0);
    assert_true(packet_is(&packet, "") && has_property(&packet, "note", "x"));
    assert_true(has_property(&packet, "fms.payload", "dropped, 51 bytes: "));
    free(packet.body);
    packet = expect_letter(&play.wire, "c", 0);
    assert_true(packet_is(&packet, "") && !has_property(&packet, "note", ""));
    assert_true(has_property(&packet, "fms.topic", "c"));
    free(packet.body);
    packet = wire_expect(&play.wire, PUBLISH);
    assert_int_equal(packet_two(packet.body), 100);
    assert_true(packet.size + 3 <= 1000 && has_property(&packet, "fms.topic", "xxxx"));
    wire_confirm(&play.wire, PUBACK, packet.id, 0);
    free(packet.body);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 4);
    assert_int_equal(fake_counter(play.f, "letters_reduced"), 3);
    play_end(&play);
}

/* A letter whose topic the broker does not take, in one word or in none, goes to where the others of its kind go, whole; what
 * is found of one is known of the next. */
static void test_a_dead_letter_goes_elsewhere(void **state)
{
    struct packet packet;
    struct play play;

    (void)state;
    play_start_as(&play, FMS_DEAD_LETTER, NULL, "topic = dead/${topic}");
    for (int i = 0; i < 2; i++) {
        add_letter(play.f, fms_text("invalid"), fms_text("0"), NULL);
        fake_write(play.f);
        if (i == 0) {
            free(expect_letter(&play.wire, "dead/invalid", 0x90).body);
            fake_until(play.f, fake_fate(play.f, 0) == FMS_RETRY);
            fake_write(play.f);
        }
        packet = expect_letter(&play.wire, "dead/_", 0);
        assert_true(packet_is(&packet, "0") && has_property(&packet, "fms.topic", "invalid"));
        free(packet.body);
    }
    add_letter(play.f, fms_text("forbidden"), fms_text("0"), NULL);
    for (int i = 0; i < 5; i++) {
        fake_write(play.f);
        free(expect_letter(&play.wire, "dead/forbidden", 0x87).body);
        fake_until(play.f, fake_fate(play.f, 2) == FMS_RETRY);
    }
    fake_write(play.f);
    free(expect_letter(&play.wire, "dead/_", 0).body);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 3);
    add_letter(play.f, fms_text("deadly"), fms_text("0"), NULL);
    fake_write(play.f);
    for (int loss = 0; loss < 6; loss++) { /* the first connection was a good one */
        packet = wire_expect(&play.wire, PUBLISH);
        assert_string_equal(packet.topic, "dead/deadly");
        free(packet.body);
        close(play.wire.fd);
        play.wire = broker_accept(play.listener, NULL, false, NULL);
    }
    packet = expect_letter(&play.wire, "dead/_", 0);
    assert_true(packet_is(&packet, "0"));
    free(packet.body);
    fake_until(play.f, fake_fate(play.f, 3) == FMS_DELIVERED);
    assert_non_null(fake_said(play.f, "warning: the broker does not take dead letters to \"dead/deadly\""));
    play_end(&play);
}

/* One letter of each odd kind, and a good one behind them, through to who reads all. */
static void test_mosquitto_takes_every_dead_letter(void **state)
{
    static char deep[512] = "x", large[70000];
    const struct fms_header binary = {"binary", {"\xff\0", 2}}, huge = {"huge", {large, sizeof large}};
    struct mosquitto broker;
    struct wire reader;

    (void)state;
    memset(large, 'x', sizeof large);
    for (int i = 0; i < 250; i++)
        strcat(deep, "/x");
    mosquitto_up(&broker, "allow_anonymous true\nmax_packet_size 5000\n");
    for (size_t v = 0; v < 2; v++) {
        struct fake *f = fake_open("mqtt_sink", FMS_DEAD_LETTER,
                                   section(broker.port, "version = %s\nmax_message_size = 4000", versions[v]));
        size_t count = 0;

        reader = client_new(broker.port, "reader", true);
        client_subscribe(&reader, "#", 1);
        add_letter(f, fms_text("a/+/#"), fms_text("0"), NULL);
        add_letter(f, fms_bytes_of("a\0b\xff", 4), fms_text("0"), &binary);
        add_letter(f, fms_text("$SYS/x"), fms_text("0"), &huge);
        add_letter(f, fms_text("$share/g/x"), fms_bytes_of(large, sizeof large), NULL);
        add_letter(f, fms_bytes_of(NULL, 0), fms_bytes_of(NULL, 0), NULL);
        if (v == 1) /* 3.1.1 cannot say that a packet is too large */
            add_letter(f, fms_bytes_of(large, sizeof large), fms_text("0"), &huge);
        add_letter(f, fms_text(deep), fms_text("0"), NULL);
        add_letter(f, fms_text("good"), fms_text("0"), NULL);
        count = v == 1 ? 8 : 7;
        offer_until_settled(f);
        assert_int_equal(fake_count_fate(f, FMS_DELIVERED), count);
        for (size_t i = 0; i < count; i++)
            free(client_receive(&reader).body);
        close(reader.fd);
        fake_close(f);
    }
    mosquitto_free(&broker);
}

static void test_check_finds_a_topic_for_each_dead_letter(void **state)
{
    static const struct refusal cases[] = {
        {"server = tcp://a\ntopic = dead/${json:vehicle_id}\n",
         "error: topic: lacks a default for what a dead letter may be without"},
        {"server = tcp://a\ntopic = dead/${key}\n", "the record has no key"},
        {"server = tcp://a\ntopic = ${topic[1]}\n", "the topic has no level 1"},
        {"server = tcp://a\ntopic = dead/+\n", "error: topic: the topic holds a wildcard"},
    };
    static const char *const good[] = {"server = tcp://a\ntopic = dead/${json:vehicle_id:-unknown}\n",
                                       "server = tcp://a\ntopic = dead/${header:fms.stage}/${topic}\n",
                                       "server = tcp://a\ntopic = dead\n"};
    struct fake *f;

    (void)state;
    expect_refused("mqtt_sink", FMS_DEAD_LETTER, cases, sizeof cases / sizeof cases[0]);
    expect_refused("mqtt_sink", FMS_SINK, cases + 3, 1);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        f = fake_check("mqtt_sink", FMS_DEAD_LETTER, good[i]);
        assert_int_equal(fake_error(f), 0);
        assert_null(fake_said(f, "topic:"));
        fake_close(f);
    }
    f = fake_check("mqtt_sink", FMS_DEAD_LETTER, "server = tcp://a\n");
    assert_int_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "advice: topic: is the record's own"));
    fake_close(f);
    f = fake_check("mqtt_sink", FMS_SINK, "server = tcp://a\ntopic = ${key}\n");
    assert_int_equal(fake_error(f), 0);
    fake_close(f);
}

/* -------------------------------------------------------------------------------------------------------- mosquitto */

static void test_every_qos_and_version_arrives(void **state)
{
    struct mosquitto broker;
    struct wire reader;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    reader = client_new(broker.port, "reader", true);
    client_subscribe(&reader, "fms/#", 2);
    for (unsigned qos = 0; qos < 3; qos++) {
        for (size_t v = 0; v < 2; v++) {
            struct fake *f = fake_open("mqtt_sink", FMS_SINK,
                                       section(broker.port, "qos = %u\nversion = %s\ntopic = fms/${key}/%u\nwindow = 7",
                                               qos, versions[v], qos));
            char topic[64], payload[32];

            for (int i = 0; i < 100; i++) {
                snprintf(payload, sizeof payload, "%u %zu %d", qos, v, i);
                fake_add(f, "ignored", "raspi-001", i == 50 ? "" : payload);
            }
            fake_write(f);
            fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 100);
            snprintf(topic, sizeof topic, "fms/raspi-001/%u", qos);
            for (int i = 0; i < 100; i++) {
                struct packet packet = client_receive(&reader);

                snprintf(payload, sizeof payload, "%u %zu %d", qos, v, i);
                assert_true(packet_is(&packet, i == 50 ? "" : payload));
                assert_string_equal(packet.topic, topic);
                assert_int_equal(packet.qos, qos);
                free(packet.body);
            }
            fake_close(f);
        }
    }
    close(reader.fd);
    mosquitto_free(&broker);
}

/* mosquitto takes 20 messages of QoS 2 at once and, from a client of 3.1.1, which cannot be told so, hangs up on one more. */
static void test_qos_2_with_3_1_1_does_not_ask_too_much(void **state)
{
    struct mosquitto broker;
    struct fake *f;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    f = fake_open("mqtt_sink", FMS_SINK, section(broker.port, "qos = 2\nversion = 3.1.1\ntopic = t"));
    for (int i = 0; i < 500; i++)
        fake_add(f, "ignored", NULL, "{}");
    fake_write(f);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 500);
    assert_int_equal(fake_counter(f, "connections"), 1);
    fake_close(f);
    mosquitto_free(&broker);
}

static void test_headers_become_user_properties(void **state)
{
    const struct fms_header headers[] = {
        {"trace", {"abc", 3}}, {"binary", {"\xff\x00\x01", 3}}, {"empty", {"", 0}}, {"unit", {"km/h", 4}}};
    struct fms_record draft = {
        .topic = fms_text("fms/data"), .payload = fms_text("{}"), .headers = headers, .header_count = 4};
    struct wire_out wanted = {.size = 0};
    struct mosquitto broker;
    struct packet packet;
    struct wire reader;
    struct fake *f;

    (void)state;
    out_property(&wanted, "trace", "abc");
    out_property(&wanted, "empty", "");
    out_property(&wanted, "unit", "km/h");
    mosquitto_up(&broker, "allow_anonymous true\n");
    reader = client_new(broker.port, "reader", true);
    client_subscribe(&reader, "fms/data", 1);
    f = fake_open("mqtt_sink", FMS_SINK, section(broker.port, "retain = yes"));
    fake_add_record(f, &draft);
    fake_write(f);
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    packet = client_receive(&reader);
    assert_int_equal(packet.properties_size, wanted.size);
    assert_memory_equal(packet.properties, wanted.data, wanted.size);
    assert_int_equal(fake_counter(f, "headers_dropped"), 1);
    free(packet.body);
    client_subscribe(&reader, "fms/+", 1); /* retained: comes at once to who subscribes now */
    packet = client_receive(&reader);
    assert_int_equal(packet.flags & 1, 1);
    free(packet.body);
    fake_close(f);
    close(reader.fd);
    mosquitto_free(&broker);
}

/* The next publication has these user properties, and no others. */
static void expect_properties(const struct wire *wire, const struct wire_out *wanted)
{
    struct packet packet = wire_expect(wire, PUBLISH);

    assert_int_equal(packet.properties_size, wanted->size);
    assert_memory_equal(packet.properties, wanted->data, wanted->size);
    wire_confirm(wire, PUBACK, packet.id, 0);
    free(packet.body);
}

/* A whole record goes out with its number, and no other has one, whatever its headers say. */
static void test_identity_is_sent_with_whole_records(void **state)
{
    static const char origin[] = {'s', 'p', 0, '%', 'o'};
    const struct fms_header headers[] = {
        {"unit", {"km/h", 4}}, {"user.fms.origin", {"x", 1}}, {"fms.sequence", {"1", 1}}};
    const struct fms_identity identities[] = {
        {.kind = FMS_NUMBERED, .origin = {origin, 5}, .sequence = UINT64_MAX, .skipped = 2},
        {.kind = FMS_NUMBERED, .origin = {"b", 1}, .sequence = 0},
        {.kind = FMS_NUMBERED, .origin = {"b", 1}, .sequence = 1, .part = 1},
        {.kind = FMS_NUMBERED, .origin = {"b", 1}, .sequence = 1, .part = FMS_PART_LETTER},
        {.kind = FMS_RESENT, .origin = {"b", 1}, .sequence = 1},
    };
    struct wire_out wanted[7] = {{.size = 0}};
    struct play play;

    (void)state;
    play_start(&play, NULL, "identity = yes\nversion = 5");
    for (size_t i = 0; i < 7; i++) {
        struct fms_record draft = {.topic = fms_text("t"),
                                   .payload = fms_text("{}"),
                                   .headers = headers,
                                   .header_count = i == 1 ? 0 : 3,
                                   .identity = i < 5 ? &identities[i] : NULL};

        if (i != 1)
            out_property(&wanted[i], "unit", "km/h");
        fake_add_record(play.f, &draft);
    }
    out_property(&wanted[0], "fms.origin", "sp%00%25o");
    out_property(&wanted[0], "fms.sequence", "18446744073709551615");
    out_property(&wanted[0], "fms.skipped", "2");
    out_property(&wanted[1], "fms.origin", "b");
    out_property(&wanted[1], "fms.sequence", "0");
    fake_write(play.f);
    for (size_t i = 0; i < 7; i++)
        expect_properties(&play.wire, &wanted[i]);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 7);
    assert_int_equal(fake_counter(play.f, "unidentified"), 5);
    assert_int_equal(fake_counter(play.f, "headers_dropped"), 0);
    play_end(&play);
}

/* Who does not ask for identities sends none, even where others have asked. */
static void test_identity_is_sent_only_where_it_is_wanted(void **state)
{
    const struct fms_header header = {"user.fms.origin", {"x", 1}};
    const struct fms_identity identity = {.kind = FMS_NUMBERED, .origin = {"b", 1}, .sequence = 7};
    const struct fms_record draft = {
        .topic = fms_text("t"), .headers = &header, .header_count = 1, .identity = &identity};
    const struct wire_out nothing = {.size = 0};
    struct play play = {.port = 0};

    (void)state;
    play.listener = wire_listen(&play.port);
    play.f = fake_check("mqtt_sink", FMS_SINK, section(play.port, "version = 5"));
    assert_false(fake_host(play.f)->identities);
    fake_host(play.f)->identities = true;
    assert_int_equal(fake_start(play.f), 0);
    play.wire = broker_accept(play.listener, NULL, false, NULL);
    fake_add_record(play.f, &draft);
    fake_write(play.f);
    expect_properties(&play.wire, &nothing);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 1);
    assert_int_equal(fake_counter(play.f, "unidentified"), 0);
    play_end(&play);
}

/* A broker that has no place for it gets the records all the same. */
static void test_identity_without_mqtt_5(void **state)
{
    const struct fms_identity identity = {.kind = FMS_NUMBERED, .origin = {"b", 1}, .sequence = 7};
    const struct fms_record draft = {.topic = fms_text("fms/data"), .payload = fms_text("0"), .identity = &identity};
    struct play play = {.port = 0};

    (void)state;
    play.listener = wire_listen(&play.port);
    play.f = fake_open("mqtt_sink", FMS_SINK, section(play.port, "identity = yes"));
    broker_refuse(play.listener, 0x84);
    play.wire = broker_accept(play.listener, NULL, false, NULL);
    assert_int_equal(play.wire.version, 4);
    fake_add_record(play.f, &draft);
    fake_write(play.f);
    wire_confirm(&play.wire, PUBACK, expect_number(&play.wire, 0), 0);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 1);
    assert_non_null(fake_said(play.f, "warning: the broker speaks MQTT 3.1.1, which has no place for identities"));
    assert_int_equal(fake_counter(play.f, "unidentified"), 1);
    play_end(&play);
}

/* MQTT's own properties, as sources name them; what cannot be said is left out and costs neither record nor connection. */
static void test_headers_become_properties(void **state)
{
    const struct fms_header headers[] = {{"mqtt.content_type", {"text/plain", 10}},
                                         {"mqtt.response_topic", {"a/b", 3}},
                                         {"mqtt.correlation_data", {"\x00\xff", 2}},
                                         {"mqtt.message_expiry", {"258", 3}},
                                         {"mqtt.payload_format", {"1", 1}},
                                         {"mqtt.retained", {"1", 1}},
                                         {"user.fms.reason", {"x", 1}},
                                         {"fms.reason", {"y", 1}}};
    const struct fms_header odd[] = {{"mqtt.content_type", {"\xff", 1}},   {"mqtt.response_topic", {"a/+", 3}},
                                     {"mqtt.message_expiry", {"soon", 4}}, {"mqtt.payload_format", {"7", 1}},
                                     {"mqtt.retained", {"maybe", 5}},      {"unit\n", {"km/h", 4}}};
    struct fms_record draft = {.topic = fms_text("fms/data"), .payload = fms_text("0")};
    struct wire_out wanted = {.size = 0};
    struct packet packet;
    struct play play;

    (void)state;
    out_property(&wanted, "fms.reason", "x");
    out_property(&wanted, "fms.reason", "y");
    out_bytes(&wanted, "\x03\x00\x0atext/plain", 13);
    out_bytes(&wanted,
              "\x08\x00\x03"
              "a/b",
              6);
    out_bytes(&wanted, "\x09\x00\x02\x00\xff", 5);
    out_bytes(&wanted, "\x02\x00\x00\x01\x02", 5);
    out_bytes(&wanted, "\x01\x01", 2);
    play_start(&play, NULL, "");
    draft.headers = headers;
    draft.header_count = 8;
    fake_add_record(play.f, &draft);
    draft.headers = odd;
    draft.header_count = 6;
    fake_add_record(play.f, &draft);
    fake_write(play.f);
    packet = wire_expect(&play.wire, PUBLISH);
    assert_int_equal(packet.flags & 1, 0);
    assert_int_equal(packet.properties_size, wanted.size);
    assert_memory_equal(packet.properties, wanted.data, wanted.size);
    wire_confirm(&play.wire, PUBACK, packet.id, 0);
    free(packet.body);
    packet = wire_expect(&play.wire, PUBLISH);
    assert_int_equal(packet.properties_size, 0);
    wire_confirm(&play.wire, PUBACK, packet.id, 0);
    free(packet.body);
    fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
    assert_int_equal(fake_counter(play.f, "headers_dropped"), 6);
    play_end(&play);
}

static void test_retained_is_sent_on_where_asked_for(void **state)
{
    const struct fms_header retained = {"mqtt.retained", {"1", 1}};
    struct fms_record draft = {
        .topic = fms_text("fms/data"), .payload = fms_text("0"), .headers = &retained, .header_count = 1};

    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct play play;
        char options[64];

        snprintf(options, sizeof options, "version = %s\nforward_retained = yes", versions[v]);
        play_start(&play, NULL, options);
        fake_add_record(play.f, &draft);
        add_numbered(play.f, 1, 1);
        for (int i = 0; i < 2; i++) {
            struct packet packet = wire_expect(&play.wire, PUBLISH);

            assert_int_equal(packet.flags & 1, i == 0);
            assert_int_equal(packet.properties_size, 0);
            wire_confirm(&play.wire, PUBACK, packet.id, 0);
            free(packet.body);
        }
        fake_until(play.f, fake_count_fate(play.f, FMS_DELIVERED) == 2);
        play_end(&play);
    }
}

static void expect_status(const struct wire *reader, const char *payload)
{
    struct packet packet = client_receive(reader);

    assert_string_equal(packet.topic, "fms/status");
    if (!packet_is(&packet, payload))
        fail_msg("%.*s came instead of %s", (int)packet.payload_size, (const char *)packet.payload, payload);
    free(packet.body);
}

/* Online at each connect; offline by the broker when the client is lost (here: pushed out), and at a good end. */
static void test_last_will(void **state)
{
    struct mosquitto broker;
    struct wire reader, thief;
    struct fake *f;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    reader = client_new(broker.port, "reader", true);
    client_subscribe(&reader, "fms/status", 1);
    f = fake_open("mqtt_sink", FMS_SINK,
                  section(broker.port, "client_id = car\nwill_topic = fms/status\n"
                                       "online_payload = online\nwill_payload = gone"));
    expect_status(&reader, "online");
    thief = client_new(broker.port, "car", true);
    expect_status(&reader, "gone");
    expect_status(&reader, "online");
    fake_close(f);
    expect_status(&reader, "gone");
    close(thief.fd);
    close(reader.fd);
    mosquitto_free(&broker);
}

static void test_broker_down_at_start_and_killed_later(void **state)
{
    struct mosquitto broker;
    struct fake *f;
    char why[200];

    (void)state;
    mosquitto_make(&broker, "allow_anonymous true\n");
    f = fake_open("mqtt_sink", FMS_SINK, section(broker.port, "window = 3"));
    add_numbered(f, 0, 5);
    fake_until(f, fake_said(f, "cannot connect to tcp://127.0.0.1:") != NULL);
    assert_non_null(fake_said(f, ": nobody answers there, or whoever does hangs up at once; "));
    assert_int_equal(fake_unsettled(f), 3);
    assert_false(fake_link_is_up(f));
    assert_non_null(strstr(fake_link_why(f, why, sizeof why), "tcp://127.0.0.1:"));
    assert_non_null(strstr(why, ": nobody answers there"));
    mosquitto_start(&broker);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 5);
    assert_true(fake_link_is_up(f));
    mosquitto_stop(&broker, SIGKILL);
    fake_until(f, fake_said(f, " lost: the broker closed the connection") != NULL);
    assert_false(fake_link_is_up(f));
    add_numbered(f, 5, 5);
    mosquitto_start(&broker);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 10);
    assert_int_equal(fake_count_said(f, "warning: "), 2);
    assert_int_equal(fake_count_said(f, "info: connected to "), 2);
    fake_close(f);
    mosquitto_free(&broker);
}

static void test_silence_is_seen(void **state)
{
    (void)state;
    expect_silence_to_be_seen("mqtt_sink", FMS_SINK, "");
}

static void test_wrong_password_is_named(void **state)
{
    struct mosquitto broker;

    (void)state;
    mosquitto_make(&broker, "allow_anonymous false\npassword_file %s/passwords\n");
    assert_int_equal(run_quietly("mosquitto_passwd -b -c '%s/passwords' me right", broker.directory), 0);
    mosquitto_start(&broker);
    for (size_t v = 0; v < 2; v++) {
        struct fake *f = fake_open("mqtt_sink", FMS_SINK,
                                   section(broker.port, "version = %s\nusername = me\npassword = wrong", versions[v]));

        fake_until(f, fake_said(f, "cannot connect to ") != NULL);
        assert_non_null(fake_said(f, "refused: not authorized: check username and password"));
        assert_null(fake_said(f, "wrong"));
        fake_close(f);
        f = fake_open("mqtt_sink", FMS_SINK,
                      section(broker.port, "version = %s\nusername = me\npassword = right", versions[v]));
        add_numbered(f, 0, 1);
        fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
        fake_close(f);
    }
    mosquitto_free(&broker);
}

static void test_tls(void **state)
{
    static const struct {
        const char *host, *options, *said; /* said NULL: it works */
    } cases[] = {
        {"localhost", "ca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/client.key\n", NULL},
        {"localhost", "ca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/locked.key\nkey_password = hush\n",
         NULL},
        {"127.0.0.1", "tls_verify = no\nca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/client.key\n",
         NULL},
        {"localhost", "ca_file = %s/other.pem\ncert_file = %s/client.pem\nkey_file = %s/client.key\n",
         "TLS: certificate verify failed"},
        {"127.0.0.1", "ca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/client.key\n",
         "the certificate is not for this host"},
        {"localhost", "ca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/locked.key\nkey_password = no\n",
         "error: key_file: "},
    };
    struct mosquitto broker;

    (void)state;
    mosquitto_make(&broker, "allow_anonymous true\ncafile %s/ca.pem\ncertfile %s/server.pem\nkeyfile %s/server.key\n"
                            "require_certificate true\n");
    make_certificates(broker.directory);
    mosquitto_start(&broker);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = broker.directory;
        char options[1024], ini[1200];
        struct fake *f;
        size_t n = 0;

        for (const char *at = cases[i].options; *at != '\0'; at++) {
            if (at[0] == '%')
                n += (size_t)snprintf(options + n, sizeof options - n, "%s", dir), at++;
            else
                options[n++] = *at;
        }
        options[n] = '\0';
        snprintf(ini, sizeof ini, "server = %s://%s:%d\n%s", i % 2 == 0 ? "ssl" : "mqtts", cases[i].host, broker.port,
                 options);
        f = fake_check("mqtt_sink", FMS_SINK, ini);
        if (fake_start(f) == 0 && cases[i].said == NULL) {
            add_numbered(f, 0, 1);
            fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
        } else {
            fake_until(f, fake_said(f, "cannot connect") != NULL || fake_said(f, "error: ") != NULL);
            if (fake_said(f, cases[i].said) == NULL)
                fail_msg("case %zu: %s", i, fake_said(f, ": "));
        }
        assert_null(fake_said(f, "hush"));
        fake_close(f);
    }
    mosquitto_free(&broker);
}

static void test_websocket(void **state)
{
    int port = 0, listener = wire_listen(&port), status;
    struct mosquitto broker;
    char ini[128];
    struct fake *f;
    pid_t pid;

    (void)state;
    mosquitto_up(&broker, "allow_anonymous true\n");
    pid = websocket_start(listener, broker.port);
    snprintf(ini, sizeof ini, "server = ws://localhost:%d/mqtt\n", port);
    f = fake_open("mqtt_sink", FMS_SINK, ini);
    add_numbered(f, 0, 30);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 30);
    fake_close(f);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    close(listener);
    mosquitto_free(&broker);
}

static void test_secure_websocket(void **state)
{
    struct secure secure;
    struct fake *f;

    (void)state;
    secure_start(&secure);
    expect_unknown_authority("mqtt_sink", FMS_SINK, &secure);
    f = fake_open("mqtt_sink", FMS_SINK, secure_section(&secure));
    add_numbered(f, 0, 30);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 30);
    fake_close(f);
    secure_end(&secure);
}

static void test_probe(void **state)
{
    struct mosquitto broker;
    struct fake *f;

    (void)state;
    mosquitto_make(&broker, "allow_anonymous true\n");
    f = fake_check("mqtt_sink", FMS_SINK, section(broker.port, "client_id = car"));
    assert_true(fake_probe(f, 5 * FMS_SECOND) < 0);
    assert_non_null(fake_said(f, "error: cannot connect to tcp://127.0.0.1:"));
    fake_close(f);
    mosquitto_start(&broker);
    f = fake_check("mqtt_sink", FMS_SINK, section(broker.port, "client_id = car"));
    assert_int_equal(fake_probe(f, 5 * FMS_SECOND), 0);
    assert_non_null(fake_said(f, "MQTT 5"));
    assert_non_null(fake_said(f, "report: limits: QoS 2, 20 messages"));
    fake_close(f);
    mosquitto_free(&broker);
}

static void test_passwords_are_renewed(void **state)
{
    (void)state;
    expect_renewed_password("mqtt_sink", FMS_SINK);
}

static void test_keys_are_renewed(void **state)
{
    (void)state;
    expect_renewed_key("mqtt_sink", FMS_SINK);
}

static void test_certificates_are_renewed(void **state)
{
    (void)state;
    expect_renewed_certificates("mqtt_sink", FMS_SINK);
}

static void test_alerts_of_tls_are_told(void **state)
{
    (void)state;
    expect_alert("mqtt_sink", FMS_SINK, "-tls1_2", false, "TLS: the broker says: handshake failure");
    expect_alert("mqtt_sink", FMS_SINK, "-tls1_2", true, "TLS: the broker says: unknown ca");
    expect_alert("mqtt_sink", FMS_SINK, "-tls1_3", false, "wants a certificate of ours, or refuses it");
}

static void test_whatever_is_wrong_with_one_address_the_next_is_tried(void **state)
{
    (void)state;
    expect_all_turns("mqtt_sink", FMS_SINK);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_what_is_wrong),
        cmocka_unit_test(test_check_shows_no_part_of_a_password),
        cmocka_unit_test(test_check_warns_of_traps),
        cmocka_unit_test(test_open_needs_readable_files),
        cmocka_unit_test(test_delivered_when_confirmed_out_of_order),
        cmocka_unit_test(test_what_is_under_way_shows),
        cmocka_unit_test(test_qos_2_is_delivered_at_pubcomp),
        cmocka_unit_test(test_never_confirmed_is_left_unsettled),
        cmocka_unit_test(test_connects_again_when_nothing_is_confirmed),
        cmocka_unit_test(test_lost_connection_sends_again_in_order),
        cmocka_unit_test(test_broker_says_why_it_disconnects),
        cmocka_unit_test(test_permanent_refusal_rejects),
        cmocka_unit_test(test_passing_refusal_is_retried_in_order),
        cmocka_unit_test(test_window_bounds_what_is_under_way),
        cmocka_unit_test(test_too_large_for_the_broker_is_rejected),
        cmocka_unit_test(test_impossible_records_are_rejected),
        cmocka_unit_test(test_a_record_that_costs_the_connection_is_rejected),
        cmocka_unit_test(test_an_end_for_another_reason_costs_no_record),
        cmocka_unit_test(test_not_authorized_is_rejected_where_the_record_chose),
        cmocka_unit_test(test_a_loss_that_is_explained_costs_no_longer_pause),
        cmocka_unit_test(
            test_silence_is_seen), /* before the clock is put back, after which paho looks no more for a while */
        cmocka_unit_test(test_a_connection_that_lasts_is_told),
        cmocka_unit_test(test_not_authorized_waits_while_nothing_is_taken),
        cmocka_unit_test(test_a_record_that_is_refused_for_ever_is_rejected),
        cmocka_unit_test(test_a_refusal_that_passes_is_forgotten),
        cmocka_unit_test(test_what_mosquitto_does_not_take_costs_that_record),
        cmocka_unit_test(test_odd_topics_of_dead_letters_are_mended),
        cmocka_unit_test(test_a_dead_letter_has_always_a_topic),
        cmocka_unit_test(test_dead_letters_that_come_back_do_not_grow),
        cmocka_unit_test(test_dead_letters_do_not_expire),
        cmocka_unit_test(test_large_dead_letters_are_reduced),
        cmocka_unit_test(test_a_dead_letter_goes_elsewhere),
        cmocka_unit_test(test_mosquitto_takes_every_dead_letter),
        cmocka_unit_test(test_check_finds_a_topic_for_each_dead_letter),
        cmocka_unit_test(test_every_qos_and_version_arrives),
        cmocka_unit_test(test_qos_2_with_3_1_1_does_not_ask_too_much),
        cmocka_unit_test(test_headers_become_user_properties),
        cmocka_unit_test(test_identity_is_sent_with_whole_records),
        cmocka_unit_test(test_identity_is_sent_only_where_it_is_wanted),
        cmocka_unit_test(test_identity_without_mqtt_5),
        cmocka_unit_test(test_headers_become_properties),
        cmocka_unit_test(test_retained_is_sent_on_where_asked_for),
        cmocka_unit_test(test_last_will),
        cmocka_unit_test(test_broker_down_at_start_and_killed_later),
        cmocka_unit_test(test_wrong_password_is_named),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_secure_websocket),
        cmocka_unit_test(test_certificates_are_renewed),
        cmocka_unit_test(test_passwords_are_renewed),
        cmocka_unit_test(test_keys_are_renewed),
        cmocka_unit_test(test_alerts_of_tls_are_told),
        cmocka_unit_test(test_whatever_is_wrong_with_one_address_the_next_is_tried),
        cmocka_unit_test(test_probe),
    };

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
