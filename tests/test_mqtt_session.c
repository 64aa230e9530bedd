/* test_mqtt_session.c - the subscriber's side of MQTT, without a socket: the test is the broker and the clock.
 *
 * What the broker says and what it must hear stand here as hexadecimal text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../plugins/mqtt_ingest/mqtt_redelivery.h"
#include "../plugins/mqtt_ingest/mqtt_session.h"

#define FLIGHTS_MAX 8192u
#define SECOND      FMS_SECOND

static const char *const filters[] = {"#", "b"};

struct talk {
    struct mqtt_session *session;
    enum mqtt_packet_version version;
    int64_t now;
    uint8_t input[8192]; /* said and not yet used up */
    size_t size;
    struct mqtt_session_message message;
};

static struct mqtt_session_options options_of(enum mqtt_packet_version version)
{
    return (struct mqtt_session_options){
        .version = version,
        .client_id = "c",
        .session_expiry = 60,
        .keepalive = 10 * SECOND,
        .filters = filters,
        .filter_count = 1,
        .retain_handling = 1,
        .qos = 2,
        .topic_alias_maximum = 2,
        .flights_max = FLIGHTS_MAX,
        .buffer_size = 1024,
    };
}

static struct talk *talk_new(const struct mqtt_session_options *options)
{
    struct talk *talk = calloc(1, sizeof *talk);

    talk->session = mqtt_session_new(options);
    assert_non_null(talk->session);
    talk->version = options->version;
    talk->now = 1000 * SECOND;
    return talk;
}

static void talk_free(struct talk *talk)
{
    mqtt_session_free(talk->session);
    free(talk);
}

static size_t hex(uint8_t *to, const char *text)
{
    size_t size = 0;
    unsigned value;
    int used;

    for (;; text += used) {
        while (*text == ' ')
            text++;
        if (*text == '\0')
            return size;
        if (*text == '\'') {
            to[size++] = (uint8_t)text[1];
            used = 3;
        } else {
            assert_int_equal(sscanf(text, "%2x%n", &value, &used), 1);
            to[size++] = (uint8_t)value;
        }
    }
}

/* The broker says something. */
static void say(struct talk *talk, const char *text)
{
    assert_true(talk->size + strlen(text) / 2 < sizeof talk->input);
    talk->size += hex(talk->input + talk->size, text);
    mqtt_session_heard(talk->session, talk->now);
}

static enum mqtt_session_event next(struct talk *talk)
{
    struct fms_bytes input = fms_bytes_of(talk->input, talk->size);
    enum mqtt_session_event event = mqtt_session_read(talk->session, &input, &talk->message);

    /* A message points into the input, which stays where it is until it is taken. */
    if (event != MQTT_SESSION_MESSAGE) {
        memmove(talk->input, input.data, input.size);
        talk->size = input.size;
    }
    return event;
}

static void take(struct talk *talk)
{
    struct fms_bytes input = fms_bytes_of(talk->input, talk->size), before = input;

    assert_int_equal(mqtt_session_read(talk->session, &input, &talk->message), MQTT_SESSION_MESSAGE);
    before = input;
    mqtt_session_take(talk->session, &input, &talk->message);
    assert_true(input.size < before.size);
    memmove(talk->input, input.data, input.size);
    talk->size = input.size;
}

/* The broker hears exactly this. */
static void hears(struct talk *talk, const char *text)
{
    uint8_t expected[8192];
    size_t size = hex(expected, text);
    struct fms_bytes output = mqtt_session_output(talk->session);

    if (output.size != size || memcmp(output.data, expected, size) != 0) {
        for (size_t i = 0; i < output.size; i++)
            fprintf(stderr, "%02x ", ((const uint8_t *)output.data)[i]);
        fail_msg("instead of %s", text);
    }
    if (output.size > 0)
        mqtt_session_sent(talk->session, output.size, talk->now);
}

#define CONNACK_3 "20 02 00 00"
#define CONNACK_5 "20 03 00 00 00"
#define PRESENT_3 "20 02 01 00"
#define PRESENT_5 "20 03 01 00 00"

/* Connects, and throws away what was said for it. */
static void up(struct talk *talk, const char *connack)
{
    mqtt_session_end(talk->session);
    talk->size = 0;
    mqtt_session_begin(talk->session, talk->now);
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    say(talk, connack);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    say(talk, talk->version == MQTT_PACKET_5 ? "90 04 ff ff 00 02" : "90 03 ff ff 02");
    assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
    assert_true(mqtt_session_is_subscribed(talk->session));
}

static struct talk *talk_up(enum mqtt_packet_version version)
{
    struct mqtt_session_options options = options_of(version);
    struct talk *talk = talk_new(&options);

    up(talk, version == MQTT_PACKET_5 ? CONNACK_5 : CONNACK_3);
    return talk;
}

/* A PUBLISH of one byte, said, met and taken; its tag. */
static void message(struct talk *talk, unsigned qos, unsigned id, uint64_t tag[2])
{
    char text[64];

    if (talk->version == MQTT_PACKET_5)
        snprintf(text, sizeof text, "3%x 07 00 01 't' %02x %02x 00 'p'", qos << 1, id >> 8, id & 0xff);
    else
        snprintf(text, sizeof text, "3%x 06 00 01 't' %02x %02x 'p'", qos << 1, id >> 8, id & 0xff);
    say(talk, text);
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_int_equal(talk->message.qos, qos);
    memcpy(tag, talk->message.tag, sizeof talk->message.tag);
    take(talk);
}

static const enum mqtt_packet_version versions[] = {MQTT_PACKET_3_1_1, MQTT_PACKET_5};
#define EACH_VERSION(version)                                                                                          \
    for (enum mqtt_packet_version each = 0, version = versions[0]; each < 2 && (version = versions[each], true); each++)

/* ------------------------------------------------------------------------------------------------- connect, subscribe */

static void test_connect_and_subscribe(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;

    (void)state;
    options.filter_count = 2;
    options.clean_start = true;
    options.receive_maximum = 10;
    talk = talk_new(&options);
    mqtt_session_begin(talk->session, talk->now);
    hears(talk, "10 19 00 04 'M' 'Q' 'T' 'T' 05 02 00 0a 0b 11 00 00 00 3c 21 00 0a 22 00 02 00 01 'c'");
    assert_false(mqtt_session_is_connected(talk->session));
    say(talk, CONNACK_5);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    assert_true(mqtt_session_is_connected(talk->session));
    assert_false(mqtt_session_was_present(talk->session) || mqtt_session_is_subscribed(talk->session));
    hears(talk, "82 07 ff ff 00 00 01 '#' 12  82 07 ff fe 00 00 01 'b' 12");
    say(talk, "90 04 ff fe 00 01  90 04 ff ff 00 87");
    assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
    assert_int_equal(talk->message.filter, 1);
    assert_int_equal(talk->message.reason, 1);
    assert_int_equal(next(talk), MQTT_SESSION_REFUSED);
    assert_int_equal(talk->message.filter, 0);
    assert_int_equal(talk->message.reason, 0x87);
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    assert_false(mqtt_session_is_subscribed(talk->session));
    mqtt_session_subscribe(talk->session, talk->now); /* only what was refused */
    hears(talk, "82 07 ff ff 00 00 01 '#' 12");
    mqtt_session_subscribe(talk->session, talk->now); /* and not twice */
    hears(talk, "");
    say(talk, "90 04 ff ff 00 02");
    assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
    assert_true(mqtt_session_is_subscribed(talk->session));

    mqtt_session_end(talk->session); /* again: the session of this process is kept, so the start is not clean */
    mqtt_session_begin(talk->session, talk->now);
    hears(talk, "10 19 00 04 'M' 'Q' 'T' 'T' 05 00 00 0a 0b 11 00 00 00 3c 21 00 0a 22 00 02 00 01 'c'");
    say(talk, PRESENT_5);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    assert_true(mqtt_session_was_present(talk->session));
    talk_free(talk);
}

#define ID "0b cf f0 32" /* the subscription identifier of "#", in this process and in each other */

/* 3.8.3.1: 0 for each filter once, and again where the broker has lost the session; 1 and 2 always. */
static void test_retain_handling(void **state)
{
    static const struct {
        uint8_t handling;
        const char *first, *again, *lost;
    } rows[] = {
        {0, "82 0b ff ff 04 " ID " 00 01 '#' 02", "82 0b ff ff 04 " ID " 00 01 '#' 12",
         "82 0b ff ff 04 " ID " 00 01 '#' 02"},
        {2, "82 0b ff ff 04 " ID " 00 01 '#' 22", "82 0b ff ff 04 " ID " 00 01 '#' 22",
         "82 0b ff ff 04 " ID " 00 01 '#' 22"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *heard[] = {rows[i].first, rows[i].again, rows[i].lost};
        struct mqtt_session_options options = options_of(MQTT_PACKET_5);
        struct talk *talk;

        options.retain_handling = rows[i].handling;
        talk = talk_new(&options);
        for (int n = 0; n < 3; n++) {
            mqtt_session_begin(talk->session, talk->now);
            mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
            say(talk, n == 2 ? CONNACK_5 : PRESENT_5);
            assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
            assert_int_equal(mqtt_session_is_first(talk->session), n == 0);
            hears(talk, heard[n]);
            say(talk, "90 04 ff ff 00 02");
            assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
        }
        talk_free(talk);
    }
}

/* MQTT 3.1.1 knows no properties, and its clean session is each time's. */
static void test_connect_3_1_1(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_3_1_1);
    struct talk *talk;

    (void)state;
    options.clean_start = true;
    options.username = "u";
    options.password = "p";
    talk = talk_new(&options);
    for (int i = 0; i < 2; i++) {
        mqtt_session_begin(talk->session, talk->now);
        hears(talk, "10 13 00 04 'M' 'Q' 'T' 'T' 04 c2 00 0a 00 01 'c' 00 01 'u' 00 01 'p'");
        say(talk, CONNACK_3);
        assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
        hears(talk, "82 06 ff ff 00 01 '#' 02");
    }
    talk_free(talk);
}

static void test_refused(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *connack, *reason;
    } rows[] = {
        {MQTT_PACKET_3_1_1, "20 02 00 05", "refused: not authorized"},
        {MQTT_PACKET_3_1_1, "20 02 00 06", "refused: unknown reason"},
        {MQTT_PACKET_5, "20 03 00 86 00", "refused: wrong user name or password"},
        {MQTT_PACKET_5, "20 02 00 86", "refused: wrong user name or password"},
        {MQTT_PACKET_5, "20 09 00 97 06 1f 00 03 'f' 'e' 'e'", "refused: quota exceeded: fee"},
        {MQTT_PACKET_5, "20 08 00 00 05 27 00 00 00 08",
         "the broker takes packets of at most 8 bytes, and to subscribe to \"#\" takes 13"},
        {MQTT_PACKET_5, "20 07 00 9c 04 1c 00 01 'b'", "refused: use another server: b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_session_options options = options_of(rows[i].version);
        struct talk *talk = talk_new(&options);

        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        say(talk, rows[i].connack);
        assert_int_equal(next(talk), MQTT_SESSION_CLOSED);
        assert_string_equal(mqtt_session_reason(talk->session), rows[i].reason);
        hears(talk, "");
        talk_free(talk);
    }
}

/* A broker that does not know the version says so in its own way; and then it is asked in the other. */
static void test_another_version(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *connack, *reason;
    } rows[] = {
        {MQTT_PACKET_5, "20 02 00 01", "the broker does not speak MQTT 5"},    /* 3.1.1 there, 3.1.2.2 */
        {MQTT_PACKET_5, "20 03 00 01 00", "the broker does not speak MQTT 5"}, /* Moquette */
        {MQTT_PACKET_5, "20 02 00 00", "the broker does not speak MQTT 5"},
        {MQTT_PACKET_5, "20 03 00 84 00", "the broker does not speak MQTT 5"},
        {MQTT_PACKET_3_1_1, "20 02 00 01", "the broker does not speak MQTT 3.1.1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_session_options options = options_of(rows[i].version);
        struct talk *talk = talk_new(&options);

        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        assert_true(mqtt_session_is_unheard(talk->session));
        say(talk, rows[i].connack);
        assert_int_equal(next(talk), MQTT_SESSION_CLOSED);
        assert_true(mqtt_session_is_foreign(talk->session));
        assert_false(mqtt_session_is_unheard(talk->session));
        assert_string_equal(mqtt_session_reason(talk->session), rows[i].reason);
        talk->version = rows[i].version == MQTT_PACKET_5 ? MQTT_PACKET_3_1_1 : MQTT_PACKET_5;
        mqtt_session_speak(talk->session, talk->version);
        up(talk, talk->version == MQTT_PACKET_5 ? CONNACK_5 : CONNACK_3);
        assert_false(mqtt_session_is_foreign(talk->session));
        talk_free(talk);
    }
}

/* What the broker makes of what it was asked for; a Maximum QoS that it cannot have is none. */
static void test_limits(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_new(&options);

    (void)state;
    up(talk, "20 0c 00 00 09 11 00 00 00 1e 24 01 25 00");
    assert_int_equal(mqtt_session_limits(talk->session)->session_expiry, 30);
    assert_int_equal(mqtt_session_limits(talk->session)->maximum_qos, 1);
    assert_false(mqtt_session_limits(talk->session)->can_retain);
    up(talk, "20 05 00 00 02 24 02");
    assert_int_equal(mqtt_session_limits(talk->session)->session_expiry, 60);
    assert_int_equal(mqtt_session_limits(talk->session)->maximum_qos, 2);
    assert_true(mqtt_session_limits(talk->session)->can_retain);
    talk_free(talk);
}

/* ------------------------------------------------------------------------------------------------------ broken rules */

/* Parts as the plugin does when MQTT_SESSION_CLOSED has come. */
static void part(struct talk *talk)
{
    if (mqtt_session_is_parting(talk->session))
        mqtt_session_part(talk->session, false);
}

/* What cannot be told apart, and what no server sends: MQTT 5 tells the broker (4.13), 3.1.1 closes. */
static void test_violations(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *said, *heard, *reason;
    } rows[] = {
        {MQTT_PACKET_5, CONNACK_5, "e0 01 82", "CONNACK: protocol error"}, /* MQTT-3.2.0-2 */
        {MQTT_PACKET_3_1_1, CONNACK_3, "", "CONNACK: protocol error"},
        {MQTT_PACKET_5, "00 00", "e0 01 81", "a packet of type 0: malformed"}, /* 2.1.2 */
        {MQTT_PACKET_5, "10 00", "e0 01 82", "CONNECT: protocol error"},
        {MQTT_PACKET_5, "82 02 00 01", "e0 01 82", "SUBSCRIBE: protocol error"},
        {MQTT_PACKET_5, "a2 02 00 01", "e0 01 82", "UNSUBSCRIBE: protocol error"},
        {MQTT_PACKET_5, "62 01 00", "e0 01 81", "PUBREL: malformed packet"},
        {MQTT_PACKET_5, "90 01 00", "e0 01 81", "SUBACK: malformed packet"},
        {MQTT_PACKET_5, "30 ff ff ff ff", "e0 01 81", "it sends a packet whose length cannot be told"},
        {MQTT_PACKET_5, "90 ff ff 03", "e0 01 95", "it sends a packet that is no message and is too large"},
        {MQTT_PACKET_5, "e0 01 8b", "", "the broker closed the connection: the broker is shutting down"},
        {MQTT_PACKET_5, "e0 06 9d 04 1c 00 01 'b'", "", "the broker closed the connection: server moved: b"},
        {MQTT_PACKET_3_1_1, "e0 00", "", "the broker closed the connection"},
        {MQTT_PACKET_5, "e0 07 00 05 1f 00 02 'b' 'y'", "", "the broker closed the connection: by"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct talk *talk = talk_up(rows[i].version);

        say(talk, rows[i].said);
        if (next(talk) != MQTT_SESSION_CLOSED)
            fail_msg("row %zu: %s was taken", i, rows[i].said);
        if (strstr(mqtt_session_reason(talk->session), rows[i].reason) == NULL ||
            strstr(mqtt_session_reason(talk->session), "success") != NULL)
            fail_msg("row %zu: %s", i, mqtt_session_reason(talk->session));
        part(talk);
        hears(talk, rows[i].heard);
        say(talk, "d0 00");
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY); /* nothing more is read */
        talk_free(talk);
    }
}

/* Liberties that brokers take, and answers to what was never said, cost nothing: the next message comes. */
static void test_liberties(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *said, *heard;
    } rows[] = {
        {MQTT_PACKET_5, "40 02 00 01  50 02 00 01  70 02 00 01  b0 02 00 01  40 00", ""},
        {MQTT_PACKET_5, "50 04 00 01 80 00", ""},
        {MQTT_PACKET_5, "c0 00  d0 00  d0 01 00  d5 00  f0 00  f0 02 18 00", ""},
        {MQTT_PACKET_3_1_1, "f0 00", ""},
        {MQTT_PACKET_5, "90 04 ff ff 00 02  90 04 00 09 00 02  90 04 00 00 00 02  90 03 ff ff 00",
         ""},                                             /* not asked for */
        {MQTT_PACKET_5, "60 02 00 01", "70 03 00 01 92"}, /* MQTT-3.6.1-1 */
        {MQTT_PACKET_5, "62 04 00 01 80 00", "70 03 00 01 92"},
        {MQTT_PACKET_5, "62 05 00 01 92 05 00", "70 03 00 01 92"},
        {MQTT_PACKET_5, "62 02 00 00", ""},
        {MQTT_PACKET_3_1_1, "62 04 00 01 00 00", "70 02 00 01"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct talk *talk = talk_up(rows[i].version);
        uint64_t tag[2];

        say(talk, rows[i].said);
        if (next(talk) != MQTT_SESSION_HUNGRY)
            fail_msg("row %zu: %s costs the connection: %s", i, rows[i].said, mqtt_session_reason(talk->session));
        hears(talk, rows[i].heard);
        message(talk, 1, 5, tag);
        talk_free(talk);
    }
}

/* Each is given, with a fault or without, is acknowledged as any other, and costs nothing more. */
static void test_odd_messages(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *said, *fault;
    } rows[] = {
        {MQTT_PACKET_5, "32 09 00 01 't' 00 05 02 01 02 'p'", NULL},                /* payload format indicator 2 */
        {MQTT_PACKET_5, "32 0d 00 01 't' 00 05 06 08 00 03 'a' '/' '+' 'p'", NULL}, /* response topic */
        {MQTT_PACKET_5, "32 0b 00 01 't' 00 05 04 21 00 0a 24 'p'", "its properties cannot be told apart"},
        {MQTT_PACKET_5, "32 09 00 01 't' 00 05 02 7e 00 'p'", "its properties cannot be told apart"},
        {MQTT_PACKET_5, "32 0a 00 01 't' 00 05 03 23 00 03 'p'", NULL}, /* an alias that was not allowed */
        {MQTT_PACKET_5, "32 09 00 00 00 05 03 23 00 03 'p'", "its topic alias stands for nothing"},
        {MQTT_PACKET_5, "32 09 00 00 00 05 03 23 00 01 'p'", "its topic alias stands for nothing"},
        {MQTT_PACKET_5, "32 06 00 00 00 05 00 'p'", "it has no topic"},
        {MQTT_PACKET_3_1_1, "32 05 00 00 00 05 'p'", "it has no topic"},
        {MQTT_PACKET_3_1_1, "32 06 00 01 ff 00 05 'p'", "its topic is no UTF-8, or holds NUL"},
        {MQTT_PACKET_5, "32 07 00 01 '#' 00 05 00 'p'", "its topic holds a wildcard (+ or #)"},
        {MQTT_PACKET_5, "32 0e 00 01 't' 00 05 07 26 00 01 00 00 01 'v' 'p'",
         "the name of a user property is no UTF-8, or holds NUL"},
        {MQTT_PACKET_5, "32 07 00 01 't' 00 05 09 'p'", "its properties cannot be told apart"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct talk *talk = talk_up(rows[i].version);
        uint64_t tag[2];

        say(talk, rows[i].said);
        if (next(talk) != MQTT_SESSION_MESSAGE)
            fail_msg("row %zu: %s: %s", i, rows[i].said, mqtt_session_reason(talk->session));
        if (rows[i].fault == NULL)
            assert_null(talk->message.fault);
        else
            assert_string_equal(talk->message.fault, rows[i].fault);
        assert_int_equal(talk->message.payload.size, 1);
        take(talk);
        memcpy(tag, talk->message.tag, sizeof tag);
        assert_true(mqtt_session_settled(talk->session, tag));
        hears(talk, "40 02 00 05");
        message(talk, 1, 6, tag);
        talk_free(talk);
    }
}

/* DUP at QoS 0, QoS without an identifier, QoS 3, and a topic that is longer than its packet: messages that nobody waits to hear
 * of, or whose acknowledgement nobody knows. */
static void test_never_acknowledged(void **state)
{
    static const char *const said[] = {"38 05 00 01 't' 00 'p'",       "32 07 00 01 't' 00 00 00 'p'",
                                       "34 07 00 01 't' 00 00 00 'p'", "36 07 00 01 't' 00 05 00 'p'",
                                       "32 07 00 09 't' 00 05 00 'p'", "32 04 00 01 't' 00"};

    (void)state;
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct talk *talk = talk_up(MQTT_PACKET_5);
        uint64_t tag[2];

        say(talk, said[i]);
        assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
        assert_int_equal(talk->message.fault == NULL, i < 3);
        assert_memory_equal(talk->message.topic.data, "t", 1);
        take(talk);
        assert_false(mqtt_session_settled(talk->session, talk->message.tag));
        hears(talk, "");
        message(talk, 1, 5, tag);
        talk_free(talk);
    }
}

/* What is delivered before the connection is given up, and while it is, is acknowledged before DISCONNECT. */
static void test_acknowledged_before_parting(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct talk *talk = talk_up(version);
        uint64_t tags[3][2];

        for (unsigned i = 0; i < 3; i++)
            message(talk, 1, 11 + i, tags[i]);
        mqtt_session_settled(talk->session, tags[0]);
        say(talk, "30 ff ff ff ff");
        assert_int_equal(next(talk), MQTT_SESSION_CLOSED);
        assert_true(mqtt_session_is_parting(talk->session));
        assert_false(mqtt_session_is_settled(talk->session));
        hears(talk, "40 02 00 0b");
        assert_true(mqtt_session_settled(talk->session, tags[1]));
        hears(talk, "40 02 00 0c");
        assert_true(mqtt_session_settled(talk->session, tags[2]));
        mqtt_session_part(talk->session, false);
        assert_false(mqtt_session_is_parting(talk->session));
        hears(talk, version == MQTT_PACKET_5 ? "40 02 00 0d e0 01 81" : "40 02 00 0d");
        assert_true(mqtt_session_is_settled(talk->session));
        talk_free(talk);
    }
}

/* MQTT-3.2.0-1: CONNACK comes first. Before it there is nobody to send DISCONNECT to. */
static void test_before_connack(void **state)
{
    static const struct {
        const char *said, *reason;
    } rows[] = {
        {"30 04 00 01 't' 00", "what answers there is no MQTT broker (it says \"0\x04\\x00\x01t\\x00\")"},
        {"d0 00", "no MQTT broker"},
        {"90 04 00 01 00 00", "no MQTT broker"},
        {"2b 'O' 'K'", "no MQTT broker (it says \"+OK\")"},
        {"'H' 'T' 'T' 'P' '/' '1' '.' '1' ' ' '4' '0' '0' ' ' 'B' 'a' 'd' ' ' 'R' 'e' 'q' 'u'",
         "no MQTT broker (it says \"HTTP/1.1 400 Bad Req...\")"},
        {"15 03 01 00 02 02 0a", "that port speaks TLS: use ssl://"},
        {"e0 00", "the broker closed the connection"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_session_options options = options_of(MQTT_PACKET_5);
        struct talk *talk = talk_new(&options);

        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        say(talk, rows[i].said);
        assert_int_equal(next(talk), MQTT_SESSION_CLOSED);
        if (strstr(mqtt_session_reason(talk->session), rows[i].reason) == NULL)
            fail_msg("row %zu: %s", i, mqtt_session_reason(talk->session));
        assert_false(mqtt_session_is_unheard(talk->session)); /* so that it is not asked in another version */
        hears(talk, "");
        talk_free(talk);
    }
}

/* --------------------------------------------------------------------------------------------------------- messages */

/* A message that is not taken is met again, and leaves no trace. */
static void test_met_again(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct talk *talk = talk_up(version);

        say(talk, version == MQTT_PACKET_5 ? "32 07 00 01 't' 00 05 00 'p'" : "32 06 00 01 't' 00 05 'p'");
        for (int i = 0; i < 3; i++) {
            assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
            assert_int_equal(talk->message.topic.size, 1);
            assert_memory_equal(talk->message.payload.data, "p", 1);
        }
        hears(talk, "");
        take(talk);
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        talk_free(talk);
    }
}

static void test_qos_0(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_3_1_1);

    (void)state;
    say(talk, "31 04 00 01 't' 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    assert_false(mqtt_session_settled(talk->session, talk->message.tag));
    hears(talk, "");
    talk_free(talk);
}

/* MQTT-4.6.0-2: in the order of receipt, whatever the order of delivery. */
static void test_acknowledged_in_order(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct talk *talk = talk_up(version);
        uint64_t tags[4][2];

        for (unsigned i = 0; i < 4; i++)
            message(talk, 1, 11 + i, tags[i]);
        assert_false(mqtt_session_settled(talk->session, tags[2]));
        assert_false(mqtt_session_settled(talk->session, tags[1]));
        hears(talk, "");
        assert_true(mqtt_session_settled(talk->session, tags[0]));
        hears(talk, "40 02 00 0b 40 02 00 0c 40 02 00 0d");
        assert_true(mqtt_session_settled(talk->session, tags[3]));
        hears(talk, "40 02 00 0e");
        talk_free(talk);
    }
}

static void test_many_in_flight(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    enum { COUNT = 5000 };
    uint64_t(*tags)[2] = calloc(COUNT, sizeof *tags);
    size_t heard = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        message(talk, 1, i + 1, tags[i]);
    for (unsigned i = COUNT; i-- > 0;)
        mqtt_session_settled(talk->session, tags[i]);
    for (;;) {
        struct fms_bytes output = mqtt_session_output(talk->session);
        const uint8_t *byte = output.data;

        if (output.size == 0)
            break;
        for (size_t i = 0; i + 4 <= output.size; i += 4) {
            heard++;
            assert_int_equal(byte[i], 0x40);
            assert_int_equal(byte[i + 2] << 8 | byte[i + 3], heard);
        }
        mqtt_session_sent(talk->session, output.size, talk->now);
    }
    assert_int_equal(heard, COUNT);
    free(tags);
    talk_free(talk);
}

/* A broker that goes on sending what is not acknowledged has lost its way, at some point. */
static void test_too_many_in_flight(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t tag[2];

    (void)state;
    for (unsigned i = 0; i < FLIGHTS_MAX; i++)
        message(talk, 1, i % 65535 + 1, tag);
    say(talk, "32 07 00 01 't' 00 05 00 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_CLOSED);
    part(talk);
    hears(talk, "e0 01 93");
    talk_free(talk);
}

/* Never on another connection than that of the last receipt. */
static void test_not_on_another_connection(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t old[2], again[2];

    (void)state;
    message(talk, 1, 7, old);
    up(talk, PRESENT_5);
    assert_false(mqtt_session_settled(talk->session, old));
    hears(talk, "");
    message(talk, 1, 7, again);
    assert_true(old[0] != again[0]);
    assert_true(mqtt_session_settled(talk->session, again));
    hears(talk, "40 02 00 07");
    talk_free(talk);
}

/* ------------------------------------------------------------------------------------------------------------ QoS 2 */

static void test_qos_2(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct talk *talk = talk_up(version);
        uint64_t tag[2];

        message(talk, 2, 9, tag);
        hears(talk, "");
        assert_true(mqtt_session_settled(talk->session, tag));
        hears(talk, "50 02 00 09");
        say(talk, "62 02 00 09");
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, "70 02 00 09");
        say(talk, "62 02 00 09"); /* again, as after a lost PUBCOMP */
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, version == MQTT_PACKET_5 ? "70 03 00 09 92" : "70 02 00 09");
        message(talk, 2, 9, tag); /* the identifier is free again */
        talk_free(talk);
    }
}

/* MQTT-4.3.3-10: what comes again before PUBREL is not given again. */
static void test_qos_2_repeated(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        const char *first = version == MQTT_PACKET_5 ? "34 07 00 01 't' 00 09 00 'p'" : "34 06 00 01 't' 00 09 'p'";
        const char *again = version == MQTT_PACKET_5 ? "3c 07 00 01 't' 00 09 00 'p'" : "3c 06 00 01 't' 00 09 'p'";
        const char *present = version == MQTT_PACKET_5 ? PRESENT_5 : PRESENT_3;
        struct talk *talk = talk_up(version);
        uint64_t tag[2];

        message(talk, 2, 9, tag);
        say(talk, again); /* on the same connection: one PUBREC will do */
        say(talk, first); /* without DUP, which is no matter (MQTT-4.3.3-10) */
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        up(talk, present); /* on another, still in flight: PUBREC goes out there when it is settled */
        say(talk, again);
        say(talk, again);
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, "");
        assert_true(mqtt_session_settled(talk->session, tag));
        hears(talk, "50 02 00 09");
        say(talk, again); /* in time: some brokers do */
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, "50 02 00 09");
        up(talk, present); /* PUBREC was lost */
        say(talk, again);
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, "50 02 00 09");
        up(talk, present); /* PUBREC was not */
        say(talk, "62 02 00 09");
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        hears(talk, "70 02 00 09");
        talk_free(talk);
    }
}

/* A PUBLISH of one byte at QoS 2 with identifier 9, flags and byte as given; true: it is a new one, and is taken. */
static bool is_new(struct talk *talk, const char *flags, char byte, uint64_t tag[2])
{
    char text[64];

    snprintf(text, sizeof text, "%s 07 00 01 't' 00 09 00 '%c'", flags, byte);
    say(talk, text);
    if (next(talk) != MQTT_SESSION_MESSAGE)
        return false;
    memcpy(tag, talk->message.tag, sizeof talk->message.tag);
    take(talk);
    return true;
}

/* So many other messages come and are acknowledged that a broker that counts comes round. */
static void pass_identifiers(struct talk *talk)
{
    uint64_t tag[2];

    for (unsigned i = 0; i < 65535; i++) {
        message(talk, 1, 1000 + i % 60000, tag);
        mqtt_session_settled(talk->session, tag);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    }
}

#define FIRST "34"
#define AGAIN "3c"

/* A broker with more in flight than there are identifiers: what it calls by one that is in use is no repetition, and is
 * confirmed when the first is released. */
static void test_qos_2_identifier_in_use(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t a[2], b[2], c[2], d[2];

    (void)state;
    assert_true(is_new(talk, FIRST, 'a', a));
    assert_true(is_new(talk, FIRST, 'b', b)); /* while the first is in the pipeline */
    assert_true(mqtt_session_settled(talk->session, a));
    assert_false(mqtt_session_settled(talk->session, b));
    hears(talk, "50 02 00 09");
    hears(talk, "");
    say(talk, "62 02 00 09");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    hears(talk, "70 02 00 09 50 02 00 09");
    assert_false(is_new(talk, FIRST, 'b', c)); /* sent again without DUP, before PUBREL (MQTT-4.3.3-10): as it says */
    hears(talk, "50 02 00 09");
    pass_identifiers(talk);
    assert_true(
        is_new(talk, FIRST, 'b', c)); /* all identifiers are used up: it is another message that says the same */
    assert_true(mqtt_session_settled(talk->session, c));
    hears(talk, "");
    say(talk, "62 02 00 09");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    hears(talk, "70 02 00 09 50 02 00 09");

    up(talk, PRESENT_5);
    assert_false(is_new(talk, AGAIN, 'b', d));
    hears(talk, "50 02 00 09");
    assert_true(is_new(talk, AGAIN, 'd', d)); /* it was sent, and not read before the connection broke */
    assert_true(mqtt_session_settled(talk->session, d));
    hears(talk, "");
    say(talk, "62 02 00 09");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    hears(talk, "70 02 00 09 50 02 00 09");
    say(talk, "62 02 00 09");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    hears(talk, "70 02 00 09");
    talk_free(talk);
}

/* The wait for a release ends with the connection. */
static void test_qos_2_released_by_a_lost_connection(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t a[2], b[2];

    (void)state;
    assert_true(is_new(talk, FIRST, 'a', a));
    mqtt_session_settled(talk->session, a);
    hears(talk, "50 02 00 09");
    assert_true(is_new(talk, FIRST, 'b', b));
    mqtt_session_settled(talk->session, b);
    hears(talk, "");
    up(talk, PRESENT_5);
    assert_false(is_new(talk, AGAIN, 'b', b));
    hears(talk, "50 02 00 09");
    talk_free(talk);
}

/* Settled between two connections: the message that comes again is confirmed at once. */
static void test_qos_2_settled_while_away(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t tag[2];

    (void)state;
    message(talk, 2, 9, tag);
    mqtt_session_end(talk->session);
    assert_false(mqtt_session_settled(talk->session, tag));
    up(talk, PRESENT_5);
    say(talk, "3c 07 00 01 't' 00 09 00 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    hears(talk, "50 02 00 09");
    talk_free(talk);
}

/* MQTT-3.2.2-5: a broker that forgot the session means another message by the same identifier. */
static void test_qos_2_session_lost(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t old[2], other[2];

    (void)state;
    message(talk, 2, 9, old);
    up(talk, CONNACK_5);
    message(talk, 2, 9, other);
    assert_false(mqtt_session_settled(talk->session, old));
    hears(talk, "");
    assert_true(mqtt_session_settled(talk->session, other));
    hears(talk, "50 02 00 09");
    talk_free(talk);
}

/* A broker that asks and does not read is not heard until it does, and gets no more memory than any other; it loses nothing. */
static void test_broker_that_does_not_read(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_3_1_1);
    const uint8_t *start = NULL, *end = NULL;
    size_t asked = 0, heard = 0;

    (void)state;
    for (int i = 0; i < 100000 || heard < 4 * asked; i++) {
        struct fms_bytes output;

        if (i < 100000 && talk->size + 4 <= 1024) {
            say(talk, "62 02 00 09");
            asked++;
        }
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        assert_true(talk->size == 0 || mqtt_session_is_full(talk->session));
        output = mqtt_session_output(talk->session);
        assert_true(output.size < 16384 + 64);
        if (start == NULL || (const uint8_t *)output.data < start)
            start = output.data;
        if ((const uint8_t *)output.data + output.size > end)
            end = (const uint8_t *)output.data + output.size;
        if (i % 3 == 0 && output.size > 3) { /* slowly, and never all */
            mqtt_session_sent(talk->session, i < 100000 ? 3 : output.size, talk->now);
            heard += i < 100000 ? 3 : output.size;
        }
    }
    assert_true(end - start < 65536);
    assert_int_equal(heard, 4 * asked);
    talk_free(talk);
}

/* ---------------------------------------------------------------------------------------------------------- aliases */

static void test_topic_alias(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    say(talk, "30 08 00 02 'a' 'b' 03 23 00 02  30 06 00 00 03 23 00 02  30 07 00 01 'c' 03 23 00 02  30 06 00 00 03 "
              "23 00 02");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
        assert_int_equal(talk->message.topic.size, i < 2 ? 2 : 1);
        assert_memory_equal(talk->message.topic.data, i < 2 ? "ab" : "c", i < 2 ? 2 : 1);
        take(talk);
    }
    up(talk, PRESENT_5); /* 3.3.2.3.4: it lasts as long as the connection */
    say(talk, "30 06 00 00 03 23 00 02");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_string_equal(talk->message.fault, "its topic alias stands for nothing");
    talk_free(talk);
}

/* An alias counts from the moment at which its message is taken. */
static void test_topic_alias_of_a_message_not_taken(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    say(talk, "30 08 00 02 'a' 'b' 03 23 00 01");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    say(talk, "30 06 00 00 03 23 00 01");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_memory_equal(talk->message.topic.data, "ab", 2);
    talk_free(talk);
}

/* A topic that is none is none by its alias, too. */
static void test_topic_alias_of_an_odd_topic(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    say(talk, "30 07 00 01 '+' 03 23 00 01  30 06 00 00 03 23 00 01");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
        assert_string_equal(talk->message.fault, "its topic holds a wildcard (+ or #)");
        assert_int_equal(talk->message.topic.size, 1);
        take(talk);
    }
    talk_free(talk);
}

/* -------------------------------------------------------------------------------------- subscriptions of earlier starts */

static const char *const asked_filters[] = {"new/+", "$share/g/shared"};

static struct talk *talk_with_past(enum mqtt_packet_version version)
{
    struct mqtt_session_options options = options_of(version);
    struct talk *talk;

    options.filters = asked_filters;
    talk = talk_new(&options);
    up(talk, version == MQTT_PACKET_5 ? PRESENT_5 : PRESENT_3);
    return talk;
}

/* A message of QoS 0 by the subscription with that identifier, as text; taken. */
static void comes_by(struct talk *talk, const char *topic, const char *id)
{
    char text[128] = "";
    size_t size = strlen(topic), id_size = (strlen(id) + 1) / 3, used;

    used = (size_t)snprintf(text, sizeof text, "30 %02zx 00 %02zx", 3 + size + id_size, size);
    for (size_t i = 0; i < size; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " '%c'", topic[i]);
    snprintf(text + used, sizeof text - used, " %02zx %s", id_size, id);
    say(talk, text);
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
}

/* Likewise, in MQTT 3.1.1. */
static void comes_at_qos_0(struct talk *talk, const char *topic)
{
    char text[128];
    size_t size = strlen(topic), used;

    used = (size_t)snprintf(text, sizeof text, "30 %02zx 00 %02zx", 2 + size, size);
    for (size_t i = 0; i < size; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " '%c'", topic[i]);
    say(talk, text);
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
}

/* The filters of the UNSUBSCRIBE that goes out, as "a, b"; "": none does. */
static const char *unsubscribed(struct talk *talk)
{
    static char text[65536];
    struct fms_bytes output = mqtt_session_output(talk->session);
    const uint8_t *at = output.data, *end = at + output.size;
    struct mqtt_packet packet;
    size_t used = 0;

    text[0] = '\0';
    if (output.size == 0)
        return text;
    assert_int_equal(mqtt_packet_peek(at, output.size, &packet), 1);
    assert_int_equal(at[0], 0xa2);
    assert_int_equal(packet.size, output.size);
    at = (const uint8_t *)packet.body.data + (talk->version == MQTT_PACKET_5 ? 3 : 2);
    while (at < end) {
        size_t size = (size_t)at[0] << 8 | at[1];

        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.*s", used > 0 ? ", " : "", (int)size,
                                 (const char *)at + 2);
        at += 2 + size;
    }
    mqtt_session_sent(talk->session, output.size, talk->now);
    return text;
}

#define NEW_ID "0b b8 c4 50" /* of new/+ */

/* What comes by a subscription that is not ours shows it: all that may have brought the message are unsubscribed, and those that
 * there were are named. Ours are not among them, nor does what comes by ours lead to anything. */
static void test_sweep(void **state)
{
    struct talk *talk = talk_with_past(MQTT_PACKET_5);

    (void)state;
    comes_by(talk, "new/a", NEW_ID);
    assert_string_equal(unsubscribed(talk), "");
    comes_by(talk, "new/a", "0b 05"); /* twice: by ours, and by another */
    assert_string_equal(unsubscribed(talk), "#, new/#, +/#, new/a/#, +/a/#, new/+/#, +/+/#, new/a");
    comes_by(talk, "x", "0b 05"); /* one after the other */
    assert_string_equal(unsubscribed(talk), "");
    say(talk, "b0 0b ff fe 00 11 00 11 11 11 11 11 11");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    assert_string_equal(unsubscribed(talk), "+/a, +/+");
    say(talk, "b0 05 ff fe 00 11 00");
    assert_int_equal(next(talk), MQTT_SESSION_SWEPT);
    assert_int_equal(talk->message.topic.size, strlen("new/#, +/+"));
    assert_memory_equal(talk->message.topic.data, "new/#, +/+", talk->message.topic.size);
    comes_by(talk, "x", ""); /* the broker gives identifiers, so this one has none of ours */
    assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
    talk_free(talk);
}

/* 3.1.1 has no identifiers and no answer: what matches none of our filters shows it. */
static void test_sweep_3_1_1(void **state)
{
    struct talk *talk = talk_with_past(MQTT_PACKET_3_1_1);

    (void)state;
    say(talk, "30 08 00 05 'n' 'e' 'w' '/' 'a' 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    assert_string_equal(unsubscribed(talk), "");
    say(talk, "30 04 00 01 'x' 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
    say(talk, "b0 02 ff fe");
    assert_int_equal(next(talk), MQTT_SESSION_SWEPT);
    assert_memory_equal(talk->message.topic.data, "x", 1);
    talk_free(talk);
}

/* Sweeps that find nothing are made more and more seldom, and after some of them it is told. */
static void test_sweep_that_finds_nothing(void **state)
{
    struct talk *talk = talk_with_past(MQTT_PACKET_5);

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        comes_by(talk, "x", "0b 05");
        assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
        say(talk, "b0 08 ff fe 00 11 11 11 11 11");
        assert_int_equal(next(talk), i == 4 ? MQTT_SESSION_STRAY : MQTT_SESSION_HUNGRY);
        talk->now += (SECOND << i) - 1;
        comes_by(talk, "x", "0b 05");
        assert_string_equal(unsubscribed(talk), "");
        talk->now += 1;
    }
    talk_free(talk);
}

/* Of a topic with many levels not all filters can be tried: those with # are, and what is not found so is told. */
static void test_sweep_of_many_levels(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct talk *talk = talk_with_past(version);

        for (unsigned i = 0; i < 5; i++) {
            if (version == MQTT_PACKET_5)
                comes_by(talk, "1/2/3/4/5/6/7/8", "0b 05");
            else
                comes_at_qos_0(talk, "1/2/3/4/5/6/7/8");
            assert_string_equal(unsubscribed(talk), "#, 1/#, 1/2/#, 1/2/3/#, 1/2/3/4/#, 1/2/3/4/5/#, 1/2/3/4/5/6/#, "
                                                    "1/2/3/4/5/6/7/#");
            say(talk, version == MQTT_PACKET_5 ? "b0 0b ff fe 00 11 11 11 11 11 11 11 11" : "b0 02 ff fe");
            assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
            assert_string_equal(unsubscribed(talk), "1/2/3/4/5/6/7/8/#, 1/2/3/4/5/6/7/8");
            say(talk, version == MQTT_PACKET_5 ? "b0 05 ff fe 00 11 11" : "b0 02 ff fe");
            assert_int_equal(next(talk), i == 4                                   ? MQTT_SESSION_STRAY
                                         : i == 0 && version == MQTT_PACKET_3_1_1 ? MQTT_SESSION_SWEPT
                                                                                  : MQTT_SESSION_HUNGRY);
            talk->now += SECOND << i;
        }
        talk_free(talk);
    }
}

/* Of a topic that is too long its beginning is. */
static void test_sweep_of_a_long_topic(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;

    (void)state;
    options.filters = asked_filters;
    options.buffer_size = 8192;
    talk = talk_new(&options);
    up(talk, PRESENT_5);
    say(talk, "30 bd 17 0b b8 'a' '/'"); /* 3,000 bytes */
    memset(talk->input + talk->size, 'b', 2998);
    talk->size += 2998;
    say(talk, "02 0b 05");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    assert_string_equal(unsubscribed(talk), "#, a/#");
    talk_free(talk);
}

/* All that may bring the message is ours, so there is nothing to ask for: that is a sweep that finds nothing, too. */
static void test_sweep_of_nothing(void **state)
{
    static const char *const ours[] = {"#", "x/#", "+/#", "x", "+"};
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;
    unsigned told = 0;

    (void)state;
    options.filters = ours;
    options.filter_count = 5;
    talk = talk_new(&options);
    mqtt_session_begin(talk->session, talk->now);
    say(talk, PRESENT_5);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    say(talk, "90 04 ff ff 00 02  90 04 ff fe 00 02  90 04 ff fd 00 02  90 04 ff fc 00 02  90 04 ff fb 00 02");
    while (next(talk) == MQTT_SESSION_GRANTED)
        ;
    assert_true(mqtt_session_is_subscribed(talk->session));
    for (unsigned i = 0; i < 8; i++) {
        comes_by(talk, "x", "0b 05");
        assert_string_equal(unsubscribed(talk), "");
        if (next(talk) == MQTT_SESSION_STRAY) {
            assert_memory_equal(talk->message.topic.data, "x", 1);
            told += i == 4 ? 1 : 100;
        }
        talk->now += 64 * SECOND;
    }
    assert_int_equal(told, 1);
    talk_free(talk);
}

/* A filter that is refused ends no search; but only when all are answered does it begin. */
static void test_sweep_beside_a_refused_filter(void **state)
{
    static const char *const two[] = {"new/+", "b"};
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;

    (void)state;
    options.filters = two;
    options.filter_count = 2;
    talk = talk_new(&options);
    mqtt_session_begin(talk->session, talk->now);
    say(talk, PRESENT_5);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    say(talk, "90 04 ff ff 00 02");
    assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
    comes_by(talk, "x", "0b 05");
    assert_string_equal(unsubscribed(talk), "");
    say(talk, "90 04 ff fe 00 87");
    assert_int_equal(next(talk), MQTT_SESSION_REFUSED);
    comes_by(talk, "b", "0b 05"); /* by one of an earlier start that is refused now */
    assert_string_equal(unsubscribed(talk), "");
    comes_by(talk, "x", "0b 05");
    assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
    talk_free(talk);
}

/* A broker that hangs up on UNSUBSCRIBE has been acknowledged what came before, and is asked twice at most. */
static void test_sweep_that_costs_the_connection(void **state)
{
    struct talk *talk = talk_with_past(MQTT_PACKET_5);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        say(talk, "32 09 00 01 'x' 00 05 02 0b 05 'p'");
        assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
        take(talk);
        hears(talk, "");
        assert_true(mqtt_session_settled(talk->session, talk->message.tag));
        hears(talk,
              i % 2 == 1
                  ? "40 02 00 05"
                  : "40 02 00 05 a2 16 ff fe 00 00 01 '#' 00 03 'x' '/' '#' 00 03 '+' '/' '#' 00 01 'x' 00 01 '+'");
        assert_int_equal(mqtt_session_unswept(talk->session) != NULL, i % 2 == 0);
        assert_true(mqtt_session_may_sweep(talk->session) || i == 3);
        if (i == 1)
            talk->now += SECOND; /* the second comes later */
        up(talk, PRESENT_5);
        assert_null(mqtt_session_unswept(talk->session));
    }
    assert_false(mqtt_session_may_sweep(talk->session));
    talk->now += 1000 * SECOND;
    comes_by(talk, "x", "0b 05");
    hears(talk, "");
    talk_free(talk);
}

/* In pieces, one after the other, and in our groups, too; a broker that does not answer gets no more. */
static void test_sweep_in_pieces(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;
    size_t pieces = 0;
    bool has_group = false, has_ours = false;

    (void)state;
    options.filters = asked_filters + 1;
    talk = talk_new(&options);
    up(talk, PRESENT_5);
    comes_by(talk, "a/b/c/d/e/f", "0b 05");
    for (const char *text; *(text = unsubscribed(talk)) != '\0'; pieces++) {
        has_group = has_group || strstr(text, "$share/g/a/b/+/#") != NULL;
        has_ours = has_ours || strstr(text, "$share/g/shared") != NULL;
        assert_string_equal(unsubscribed(talk), "");
        say(talk, "b0 03 ff fe 00"); /* without codes, which is no news */
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    }
    assert_int_equal(pieces, 2 * (64 + 127) / 8 + 1);
    assert_true(has_group && !has_ours);
    talk_free(talk);
}

/* Without identifiers where the broker has none, or refuses them. */
static void test_no_subscription_identifiers(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_new(&options);

    (void)state;
    for (int i = 0; i < 2; i++) {
        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        say(talk, i == 0 ? "20 05 00 00 02 29 00" : CONNACK_5);
        assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
        if (i == 1) {
            hears(talk, "82 0b ff ff 04 " ID " 00 01 '#' 12");
            say(talk, "90 04 ff ff 00 a1");
            assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        }
        hears(talk, "82 07 ff ff 00 00 01 '#' 12");
    }
    talk_free(talk);
}

/* ------------------------------------------------------------------------------------------------------------- sizes */

static void test_byte_by_byte(void **state)
{
    static const char said[] = "30 04 00 01 't' 00 32 07 00 01 't' 00 01 00 'p' d0 00 34 08 00 01 't' 00 02 00 'p' 'q'";
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint8_t bytes[64];
    size_t size = hex(bytes, said), messages = 0;

    (void)state;
    for (size_t i = 0; i < size; i++) {
        talk->input[talk->size++] = bytes[i];
        while (next(talk) == MQTT_SESSION_MESSAGE) {
            messages++;
            take(talk);
        }
        assert_true(mqtt_session_wanted(talk->session) > talk->size);
    }
    assert_int_equal(messages, 3);
    assert_int_equal(talk->size, 0);
    talk_free(talk);
}

/* Larger than the buffer: given without its payload, which is passed over; acknowledged when all of it has come. */
static void test_larger_than_the_buffer(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    size_t left;

    (void)state;
    say(talk, "32 88 27 00 01 't' 00 05 00"); /* 5000 bytes of body */
    memset(talk->input + talk->size, 'x', 1024 - talk->size - 1);
    talk->size = 1023;
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    assert_int_equal(mqtt_session_wanted(talk->session), 1024);
    talk->input[talk->size++] = 'x';
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_true(talk->message.is_cut);
    assert_int_equal(talk->message.payload.size, 5000 - 6);
    take(talk);
    assert_int_equal(talk->size, 0);
    assert_true(mqtt_session_settled(talk->session, talk->message.tag));
    hears(talk, "");
    for (left = 5003 - 1024; left > 0;) { /* of the packet's 5003 bytes */
        talk->size = left < 1000 ? left : 1000;
        memset(talk->input, 'y', talk->size);
        left -= talk->size;
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        assert_int_equal(talk->size, 0);
    }
    hears(talk, "40 02 00 05");
    say(talk, "30 04 00 01 't' 00");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_false(talk->message.is_cut);
    talk_free(talk);
}

/* Properties larger than the buffer: a message with a fault, whose topic and alias are known; the rest is passed over. */
static void test_properties_larger_than_the_buffer(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    struct fms_bytes input;

    (void)state;
    /* 5,000 bytes of body: an alias, a user property of 4,900, a payload */
    say(talk, "32 88 27 00 01 't' 00 05 ac 26 23 00 01 26 00 01 'k' 13 1f");
    memset(talk->input + talk->size, 'v', 1024 - talk->size);
    talk->size = 1024;
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_string_equal(talk->message.fault, "its properties are larger than what can be held");
    assert_memory_equal(talk->message.topic.data, "t", 1);
    assert_true(talk->message.is_cut);
    assert_int_equal(talk->message.said->user_count, 0);
    assert_int_equal(talk->message.payload.size, 5000 - 7 - 4908);
    take(talk);
    assert_true(mqtt_session_settled(talk->session, talk->message.tag));
    input = fms_bytes_of(talk->input, 5003 - 1024);
    assert_int_equal(mqtt_session_read(talk->session, &input, &talk->message), MQTT_SESSION_HUNGRY);
    assert_int_equal(input.size, 0);
    hears(talk, "40 02 00 05");
    say(talk, "30 06 00 00 03 23 00 01");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_memory_equal(talk->message.topic.data, "t", 1);
    talk_free(talk);
}

/* MQTT-3.1.2-24: what is larger than we said we take, and comes all the same, would come for ever if it were not taken. */
static void test_larger_than_allowed(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk;

    (void)state;
    options.maximum_packet_size = 10;
    talk = talk_new(&options);
    up(talk, CONNACK_5);
    say(talk, "30 09 00 01 't' 00 'p' 'p' 'p' 'p' 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    assert_null(talk->message.fault);
    talk_free(talk);
}

/* -------------------------------------------------------------------------------------------------------------- time */

static enum mqtt_session_event tick(struct talk *talk, double seconds, bool is_reading)
{
    talk->now += (int64_t)(seconds * (double)SECOND);
    return mqtt_session_tick(talk->session, talk->now, is_reading);
}

static void test_keepalive(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    assert_int_equal(mqtt_session_deadline(talk->session), talk->now + 10 * SECOND);
    assert_int_equal(tick(talk, 9.9, true), MQTT_SESSION_HUNGRY);
    hears(talk, "");
    assert_int_equal(tick(talk, 0.1, true), MQTT_SESSION_HUNGRY);
    hears(talk, "c0 00");
    assert_int_equal(mqtt_session_deadline(talk->session), talk->now + 5 * SECOND);
    say(talk, "d0 00");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 10, true), MQTT_SESSION_HUNGRY);
    hears(talk, "c0 00");
    assert_int_equal(tick(talk, 4, true), MQTT_SESSION_HUNGRY);
    say(talk, "30 04 00 01 't' 00"); /* any sign of life will do: the answer may stand behind much else */
    assert_int_equal(tick(talk, 4.9, true), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 0.1, true), MQTT_SESSION_CLOSED);
    assert_string_equal(mqtt_session_reason(talk->session), "the broker went silent");
    talk_free(talk);
}

/* While we do not read, the broker cannot be heard; but it hears us. */
static void test_keepalive_without_reading(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(tick(talk, 1, false), MQTT_SESSION_HUNGRY);
        hears(talk, i % 10 == 0 ? "c0 00" : "");
    }
    assert_int_equal(tick(talk, 4.9, true), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 0.2, true), MQTT_SESSION_CLOSED);
    talk_free(talk);
}

/* Whoever takes nothing from us for long is as good as away, though it sends. */
static void test_output_that_is_not_taken(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);

    (void)state;
    while (!mqtt_session_is_full(talk->session)) {
        say(talk, "62 02 00 09");
        next(talk);
    }
    assert_true(mqtt_session_is_full(talk->session));
    assert_int_equal(tick(talk, 1, false), MQTT_SESSION_HUNGRY);
    mqtt_session_sent(talk->session, 1, talk->now); /* as long as something moves */
    assert_int_equal(tick(talk, 0.1, false), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 19.8, false), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 0.2, false), MQTT_SESSION_CLOSED);
    assert_string_equal(mqtt_session_reason(talk->session), "the broker does not read what we send");
    talk_free(talk);
}

/* MQTT-3.1.2-21 */
static void test_server_keep_alive(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_new(&options);

    (void)state;
    up(talk, "20 06 00 00 03 13 00 03");
    assert_int_equal(mqtt_session_deadline(talk->session), talk->now + 3 * SECOND);
    up(talk, "20 06 00 00 03 13 00 00");
    assert_true(mqtt_session_deadline(talk->session) == FMS_NEVER);
    up(talk, CONNACK_5);
    assert_int_equal(mqtt_session_deadline(talk->session), talk->now + 10 * SECOND);
    talk_free(talk);
}

/* An identifier that is used anew and never released withholds all acknowledgements: not for ever, as long as we read. */
static void test_never_released(void **state)
{
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t a[2], b[2], c[2];

    (void)state;
    assert_true(is_new(talk, FIRST, 'a', a));
    mqtt_session_settled(talk->session, a);
    hears(talk, "50 02 00 09");
    assert_true(is_new(talk, FIRST, 'b', b));
    message(talk, 1, 7, c);
    assert_int_equal(tick(talk, 0, true), MQTT_SESSION_HUNGRY);
    assert_true(mqtt_session_deadline(talk->session) > talk->now);
    mqtt_session_settled(talk->session, b);
    mqtt_session_settled(talk->session, c);
    for (int i = 0; i < 130; i++) { /* of which 100 s pass without reading */
        if (tick(talk, i == 0 ? 0 : 1, i < 29 || i > 128) != MQTT_SESSION_HUNGRY)
            fail_msg("after %d s: %s", i, mqtt_session_reason(talk->session));
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now); /* PINGREQ */
        say(talk, "d0 00");
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        if (i == 0)
            assert_int_equal(mqtt_session_deadline(talk->session), talk->now + 10 * SECOND);
    }
    assert_true(mqtt_session_deadline(talk->session) <= talk->now + SECOND);
    assert_int_equal(tick(talk, 1, true), MQTT_SESSION_CLOSED);
    assert_non_null(
        strstr(mqtt_session_reason(talk->session), "another message by identifier 9, which it has not released"));
    part(talk);
    hears(talk, "e0 01 82");
    up(talk, PRESENT_5);
    assert_false(is_new(talk, AGAIN, 'b', b));
    hears(talk, "50 02 00 09");
    talk_free(talk);
}

static void test_no_answer(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_new(&options);

    (void)state;
    mqtt_session_begin(talk->session, talk->now);
    assert_int_equal(tick(talk, 9.9, true), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 0.1, true), MQTT_SESSION_CLOSED);
    assert_string_equal(mqtt_session_reason(talk->session), "no answer to CONNECT within 10 s");
    mqtt_session_end(talk->session);
    mqtt_session_begin(talk->session, talk->now);
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    say(talk, CONNACK_5);
    assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
    assert_int_equal(tick(talk, 9, true), MQTT_SESSION_HUNGRY);
    say(talk, "30 04 00 01 't' 00"); /* the answer may stand behind what the session has kept */
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    take(talk);
    assert_int_equal(tick(talk, 9, true), MQTT_SESSION_HUNGRY);
    assert_int_equal(tick(talk, 1, true), MQTT_SESSION_CLOSED);
    assert_string_equal(mqtt_session_reason(talk->session),
                        "no answer to SUBSCRIBE to \"#\", behind all the messages that have come instead");
    talk_free(talk);
}

/* What else comes is no reason to wait: PINGRESP, or an answer to what was not asked. Nor is a filter that is refused and asked for
 * again and again, and messages are one not for ever. What is not read does not count. */
static void test_no_answer_but_others(void **state)
{
    static const struct {
        const char *others;
        int seconds;
    } rows[] = {{"d0 00", 10}, {"90 04 12 34 00 01", 10}, {"90 04 ff fe 00 87", 10}, {"30 04 00 01 't' 00", 600}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_session_options options = options_of(MQTT_PACKET_5);
        enum mqtt_session_event event = MQTT_SESSION_HUNGRY;
        struct talk *talk;
        int seconds = 0;

        options.filter_count = 2;
        options.keepalive = 4 * SECOND;
        talk = talk_new(&options);
        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        say(talk, CONNACK_5);
        assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
        for (int n = 0; n < 20; n++) { /* the pipeline is full */
            mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
            assert_int_equal(tick(talk, 2, false), MQTT_SESSION_HUNGRY);
        }
        for (; event != MQTT_SESSION_CLOSED && seconds < 1000; seconds += 2) {
            mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
            say(talk, rows[i].others);
            while ((event = next(talk)) == MQTT_SESSION_MESSAGE)
                take(talk);
            mqtt_session_subscribe(talk->session, talk->now);
            event = tick(talk, 2, true);
        }
        assert_int_equal(seconds, rows[i].seconds);
        assert_non_null(strstr(mqtt_session_reason(talk->session), "no answer to SUBSCRIBE to \"#\""));
        talk_free(talk);
    }
}

/* An answer that does not come, on a connection that goes on: it is told once, and costs nothing. */
static void test_late_answer_to_subscribe(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_new(&options);

    (void)state;
    for (int connection = 0; connection < 2; connection++) {
        mqtt_session_begin(talk->session, talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        say(talk, CONNACK_5);
        assert_int_equal(next(talk), MQTT_SESSION_CONNECTED);
        assert_int_equal(tick(talk, 0, true), MQTT_SESSION_HUNGRY);
        for (int i = 0; i < 20; i++) {
            say(talk, "30 04 00 01 't' 00");
            assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
            take(talk);
            assert_int_equal(tick(talk, 5, i != 0),
                             i == 2 && connection == 0 ? MQTT_SESSION_UNANSWERED : MQTT_SESSION_HUNGRY);
            mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
            say(talk, "d0 00");
            assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        }
        assert_string_equal(mqtt_session_late(talk->session), "#");
        say(talk, "90 04 ff ff 00 01");
        assert_int_equal(next(talk), MQTT_SESSION_GRANTED);
        mqtt_session_end(talk->session);
    }
    talk_free(talk);
}

static void test_late_answer_to_unsubscribe(void **state)
{
    struct talk *talk = talk_with_past(MQTT_PACKET_5);

    (void)state;
    for (int connection = 0; connection < 4; connection++) {
        comes_by(talk, "x", "0b 05");
        assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
        assert_int_equal(tick(talk, 0, true), MQTT_SESSION_HUNGRY);
        assert_int_equal(tick(talk, 9.5, true), MQTT_SESSION_HUNGRY);
        assert_non_null(mqtt_session_unswept(talk->session));
        assert_true(mqtt_session_deadline(talk->session) <= talk->now + SECOND / 2);
        assert_int_equal(tick(talk, 0.5, true), connection == 0 ? MQTT_SESSION_UNSWEPT : MQTT_SESSION_HUNGRY);
        assert_string_equal(mqtt_session_late(talk->session), "#");
        assert_null(
            mqtt_session_unswept(talk->session)); /* so that an end that comes now is not taken for the answer */
        assert_true(mqtt_session_deadline(talk->session) >= talk->now);
        mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
        comes_by(talk, "x", "0b 05");
        assert_string_equal(unsubscribed(talk), "");
        up(talk, PRESENT_5);
        talk->now += 1000 * SECOND;
        say(talk, "d0 00");
        assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
        mqtt_session_heard(talk->session, talk->now);
    }
    assert_true(mqtt_session_may_sweep(talk->session));
    comes_by(talk, "x", "0b 05");
    assert_string_equal(unsubscribed(talk), "#, x/#, +/#, x, +");
    assert_int_equal(tick(talk, 0, true), MQTT_SESSION_HUNGRY);
    tick(talk, 10, true);
    say(talk, "b0 08 ff fe 00 00 11 11 11 11"); /* late is better than never */
    assert_int_equal(next(talk), MQTT_SESSION_SWEPT);
    talk_free(talk);
}

/* ----------------------------------------------------------------------------------------------------------- parting */

static void test_part(void **state)
{
    struct mqtt_session_options options = options_of(MQTT_PACKET_5);
    struct talk *talk = talk_up(MQTT_PACKET_5);
    uint64_t tag[2];

    (void)state;
    message(talk, 1, 3, tag);
    mqtt_session_settled(talk->session, tag);
    mqtt_session_part(talk->session, true);
    hears(talk, "40 02 00 03 e0 00"); /* what is ready goes first */
    talk_free(talk);

    talk = talk_up(MQTT_PACKET_5);
    for (unsigned i = 0; i < 5000; i++) {
        message(talk, 1, i + 1, tag);
        mqtt_session_settled(talk->session, tag);
    }
    mqtt_session_part(talk->session, true); /* however many they are, and however often it is asked */
    mqtt_session_sent(talk->session, mqtt_session_output(talk->session).size, talk->now);
    mqtt_session_part(talk->session, true);
    for (size_t heard = 0, size; heard < 5000 * 4 + 2 - 16384; heard += size) {
        size = mqtt_session_output(talk->session).size;
        assert_true(size > 0);
        mqtt_session_sent(talk->session, size, talk->now);
    }
    hears(talk, "");
    talk_free(talk);

    options.clean_start = true; /* the session was to last only as long as the process */
    talk = talk_new(&options);
    up(talk, CONNACK_5);
    mqtt_session_part(talk->session, true);
    hears(talk, "e0 07 00 05 11 00 00 00 00");
    up(talk, PRESENT_5);
    mqtt_session_part(talk->session, false);
    hears(talk, "e0 00");
    talk_free(talk);

    talk = talk_up(MQTT_PACKET_3_1_1);
    mqtt_session_part(talk->session, true);
    hears(talk, "e0 00");
    talk_free(talk);
}

/* ----------------------------------------------------------------------------------------------------- redelivery */

static bool judge(const struct talk *talk, const struct mqtt_redelivery *redelivery)
{
    return mqtt_redelivery_may_repeat(redelivery, (uint16_t)talk->message.tag[1],
                                      mqtt_session_is_marked(talk->session));
}

/* A PUBLISH of that identifier; whether it may be one that came before. */
static bool may_repeat(struct talk *talk, struct mqtt_redelivery *redelivery, unsigned qos, unsigned id, bool dup)
{
    const char *format = talk->version == MQTT_PACKET_5 ? "3%x 07 00 01 't' %02x %02x 00 'p'"
                                                        : "3%x 06 00 01 't' %02x %02x 'p'";
    char text[64];
    bool result;

    snprintf(text, sizeof text, format, qos << 1 | (dup ? 8u : 0), id >> 8, id & 0xff);
    say(talk, text);
    assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
    result = judge(talk, redelivery);
    take(talk);
    mqtt_redelivery_take(redelivery, (uint16_t)id);
    return result;
}

static struct talk *talk_with(enum mqtt_packet_version version, struct mqtt_redelivery *redelivery)
{
    struct mqtt_session_options options = options_of(version);

    options.redelivery = redelivery;
    return talk_new(&options);
}

static const char *connack_of(enum mqtt_packet_version version, bool session_present)
{
    if (version == MQTT_PACKET_5)
        return session_present ? PRESENT_5 : CONNACK_5;
    return session_present ? PRESENT_3 : CONNACK_3;
}

/* A process that has just started, with a session from before: any identifier may come again, once. */
static void test_what_an_earlier_process_had_may_come_again(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct mqtt_redelivery redelivery = {0};
        struct talk *talk = talk_with(version, &redelivery);

        up(talk, connack_of(version, true));
        assert_true(may_repeat(talk, &redelivery, 1, 7, true));
        assert_true(may_repeat(talk, &redelivery, 1, 65535, true));
        assert_false(may_repeat(talk, &redelivery, 1, 7, true)); /* the identifier is another's by now */
        assert_false(may_repeat(talk, &redelivery, 1, 7, false));
        assert_false(may_repeat(talk, &redelivery, 1, 8, false)); /* a broker marks what it sends again */
        assert_false(may_repeat(talk, &redelivery, 1, 8, true));  /* so 8 is used up, too */
        assert_true(may_repeat(talk, &redelivery, 2, 9, true));   /* both QoS have the same identifiers */
        assert_false(may_repeat(talk, &redelivery, 1, 9, true));
        talk_free(talk);
    }
}

/* In a session that began here only what it has used can come again, and only on a later connection. */
static void test_what_this_process_had_may_come_again(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct mqtt_redelivery redelivery = {0};
        struct talk *talk = talk_with(version, &redelivery);

        up(talk, connack_of(version, false));
        assert_false(may_repeat(talk, &redelivery, 1, 1, false));
        assert_false(may_repeat(talk, &redelivery, 1, 2, true)); /* marked, although for the first time */
        assert_false(may_repeat(talk, &redelivery, 1, 1, true)); /* the same again on the same connection */
        assert_false(may_repeat(talk, &redelivery, 1, 5, false));
        up(talk, connack_of(version, true));
        assert_true(may_repeat(talk, &redelivery, 1, 1, true));
        assert_false(may_repeat(talk, &redelivery, 1, 3, true)); /* marked, although for the first time */
        assert_false(may_repeat(talk, &redelivery, 1, 2, false));
        up(talk, connack_of(version, true));
        assert_true(may_repeat(talk, &redelivery, 1, 2, true)); /* whichever earlier connection brought it */
        assert_true(may_repeat(talk, &redelivery, 1, 3, true));
        assert_true(may_repeat(talk, &redelivery, 1, 5, true));
        assert_false(may_repeat(talk, &redelivery, 1, 4, true));
        talk_free(talk);
    }
}

/* Nothing of a lost session is taken for anything of the next, on whichever connection of that. */
static void test_a_lost_session_repeats_nothing(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct mqtt_redelivery redelivery = {0};
        struct talk *talk = talk_with(version, &redelivery);

        up(talk, connack_of(version, true));
        for (unsigned id = 1; id <= 5; id++)
            may_repeat(talk, &redelivery, 1, id, false);
        up(talk, connack_of(version, false)); /* the broker has lost it */
        assert_false(may_repeat(talk, &redelivery, 1, 1, true));
        up(talk, connack_of(version, true)); /* but keeps the new one */
        assert_true(may_repeat(talk, &redelivery, 1, 1, true));
        assert_false(may_repeat(talk, &redelivery, 1, 5, true)); /* was the old one's */
        talk_free(talk);
    }
}

/* What found no room is met again, and is still the first of its identifier. */
static void test_what_found_no_room_may_still_repeat(void **state)
{
    struct mqtt_redelivery redelivery = {0};
    struct talk *talk = talk_with(MQTT_PACKET_5, &redelivery);

    (void)state;
    up(talk, PRESENT_5);
    say(talk, "3a 07 00 01 't' 00 07 00 'p'");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next(talk), MQTT_SESSION_MESSAGE);
        assert_true(judge(talk, &redelivery));
    }
    take(talk);
    mqtt_redelivery_take(&redelivery, 7);
    assert_false(may_repeat(talk, &redelivery, 1, 7, true));
    talk_free(talk);
}

/* A repetition of QoS 2 that is confirmed here and not handed on has used its identifier up, too. */
static void test_what_qos_2_keeps_back_is_seen(void **state)
{
    struct mqtt_redelivery redelivery = {0};
    struct talk *talk = talk_with(MQTT_PACKET_5, &redelivery);
    uint64_t tag[2];

    (void)state;
    up(talk, CONNACK_5);
    message(talk, 2, 7, tag);
    up(talk, PRESENT_5);
    say(talk, "3c 07 00 01 't' 00 07 00 'p'");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    mqtt_session_settled(talk->session, tag);
    hears(talk, "50 02 00 07");
    say(talk, "62 02 00 07");
    assert_int_equal(next(talk), MQTT_SESSION_HUNGRY);
    assert_false(may_repeat(talk, &redelivery, 2, 7, true));
    talk_free(talk);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect_and_subscribe),
        cmocka_unit_test(test_retain_handling),
        cmocka_unit_test(test_connect_3_1_1),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_another_version),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_liberties),
        cmocka_unit_test(test_odd_messages),
        cmocka_unit_test(test_never_acknowledged),
        cmocka_unit_test(test_acknowledged_before_parting),
        cmocka_unit_test(test_before_connack),
        cmocka_unit_test(test_met_again),
        cmocka_unit_test(test_qos_0),
        cmocka_unit_test(test_acknowledged_in_order),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_too_many_in_flight),
        cmocka_unit_test(test_not_on_another_connection),
        cmocka_unit_test(test_qos_2),
        cmocka_unit_test(test_qos_2_repeated),
        cmocka_unit_test(test_qos_2_identifier_in_use),
        cmocka_unit_test(test_qos_2_released_by_a_lost_connection),
        cmocka_unit_test(test_qos_2_settled_while_away),
        cmocka_unit_test(test_qos_2_session_lost),
        cmocka_unit_test(test_broker_that_does_not_read),
        cmocka_unit_test(test_topic_alias),
        cmocka_unit_test(test_topic_alias_of_a_message_not_taken),
        cmocka_unit_test(test_topic_alias_of_an_odd_topic),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_sweep_3_1_1),
        cmocka_unit_test(test_sweep_that_finds_nothing),
        cmocka_unit_test(test_sweep_of_many_levels),
        cmocka_unit_test(test_sweep_of_a_long_topic),
        cmocka_unit_test(test_sweep_of_nothing),
        cmocka_unit_test(test_sweep_beside_a_refused_filter),
        cmocka_unit_test(test_sweep_that_costs_the_connection),
        cmocka_unit_test(test_sweep_in_pieces),
        cmocka_unit_test(test_no_subscription_identifiers),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_larger_than_the_buffer),
        cmocka_unit_test(test_properties_larger_than_the_buffer),
        cmocka_unit_test(test_larger_than_allowed),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_keepalive_without_reading),
        cmocka_unit_test(test_output_that_is_not_taken),
        cmocka_unit_test(test_server_keep_alive),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_no_answer_but_others),
        cmocka_unit_test(test_late_answer_to_subscribe),
        cmocka_unit_test(test_late_answer_to_unsubscribe),
        cmocka_unit_test(test_never_released),
        cmocka_unit_test(test_part),
        cmocka_unit_test(test_what_an_earlier_process_had_may_come_again),
        cmocka_unit_test(test_what_this_process_had_may_come_again),
        cmocka_unit_test(test_a_lost_session_repeats_nothing),
        cmocka_unit_test(test_what_found_no_room_may_still_repeat),
        cmocka_unit_test(test_what_qos_2_keeps_back_is_seen),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
