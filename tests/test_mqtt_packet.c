/* test_mqtt_packet.c - the bytes of MQTT, clause by clause, from the tables of the OASIS standards 3.1.1 and 5.0.
 *
 * Packets stand here as hexadecimal text, as the standards print them. Each is read from memory that ends where it ends, so
 * that a sanitizer or valgrind sees a step beyond. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../plugins/mqtt_ingest/mqtt_packet.h"

#define V3 MQTT_PACKET_3_1_1
#define V5 MQTT_PACKET_5

/* ------------------------------------------------------------------------------------------------------------- bytes */

struct bytes {
    uint8_t *data;
    size_t size;
};

/* From "30 05 00 01 'a' ..."; 'a' is the letter, and 5*61 five times the byte 61. */
static struct bytes from_hex(const char *text)
{
    uint8_t scratch[4096];
    struct bytes bytes = {NULL, 0};

    while (*text != '\0') {
        unsigned times = 1, value;
        int used = 0;

        if (*text == ' ') {
            text++;
            continue;
        }
        if (sscanf(text, "%u*%n", &times, &used) == 1 && used > 0 && text[used - 1] == '*')
            text += used;
        else
            times = 1;
        if (*text == '\'') {
            value = (uint8_t)text[1];
            used = 3;
        } else {
            assert_int_equal(sscanf(text, "%2x%n", &value, &used), 1);
        }
        text += used;
        while (times-- > 0) {
            assert_true(bytes.size < sizeof scratch);
            scratch[bytes.size++] = (uint8_t)value;
        }
    }
    bytes.data = malloc(bytes.size > 0 ? bytes.size : 1);
    assert_non_null(bytes.data);
    memcpy(bytes.data, scratch, bytes.size);
    return bytes;
}

/* A packet with a right remaining length around a body. */
static struct bytes packet_of(uint8_t first, const char *body)
{
    struct bytes inner = from_hex(body), whole = {malloc(inner.size + 5), 0};
    size_t left = inner.size;

    whole.data[whole.size++] = first;
    do {
        whole.data[whole.size++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
        left >>= 7;
    } while (left > 0);
    memcpy(whole.data + whole.size, inner.data, inner.size);
    whole.size += inner.size;
    free(inner.data);
    whole.data = realloc(whole.data, whole.size);
    return whole;
}

union any {
    struct mqtt_packet_connack connack;
    struct mqtt_packet_publish publish;
    uint16_t id;
    struct mqtt_packet_suback suback;
    struct mqtt_packet_disconnect disconnect;
};

/* Reads whatever it is. The reason code, 0, or 1000: it is not all there. */
static int read_any(enum mqtt_packet_version version, const uint8_t *data, size_t size, union any *any)
{
    struct mqtt_packet packet;
    int error = mqtt_packet_peek(data, size, &packet);

    if (error != 1)
        return error == 0 ? 1000 : error;
    if (packet.size > size)
        return 1000;
    switch (packet.type) {
    case MQTT_PACKET_CONNACK:
        return mqtt_packet_read_connack(version, &packet, &any->connack);
    case MQTT_PACKET_PUBLISH:
        return mqtt_packet_read_publish(version, &packet, packet.body.size, &any->publish);
    case MQTT_PACKET_PUBREL:
        return mqtt_packet_read_id(&packet, &any->id);
    case MQTT_PACKET_SUBACK:
        return mqtt_packet_read_suback(version, &packet, &any->suback);
    case MQTT_PACKET_DISCONNECT:
        mqtt_packet_read_disconnect(&packet, &any->disconnect);
        return 0;
    default:
        fail_msg("no subscriber reads a packet of type %d", packet.type);
        return -1;
    }
}

struct row {
    const char *clause;
    enum mqtt_packet_version version;
    uint8_t first;
    const char *body;
    int expected;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct bytes packet = packet_of(rows[i].first, rows[i].body);
        union any any;
        int result = read_any(rows[i].version, packet.data, packet.size, &any);

        if (result != rows[i].expected)
            fail_msg("row %zu, %s, version %d: %02x %s: 0x%02x, not 0x%02x", i, rows[i].clause, rows[i].version,
                     rows[i].first, rows[i].body, (unsigned)result, (unsigned)rows[i].expected);
        free(packet.data);
    }
}
#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof(rows)[0])

/* Whatever is cut off a good packet's body, and its length corrected, is no packet, but for the lengths given. */
static void check_cuts(enum mqtt_packet_version version, uint8_t first, const char *body, size_t shortest_good)
{
    struct bytes inner = from_hex(body);

    for (size_t size = 0; size < inner.size; size++) {
        uint8_t *cut = malloc(2 + size);
        union any any;
        int result;

        cut[0] = first;
        cut[1] = (uint8_t)size;
        memcpy(cut + 2, inner.data, size);
        result = read_any(version, cut, 2 + size, &any);
        if (size < shortest_good && result == 0 && (first >> 4 != MQTT_PACKET_PUBLISH || any.publish.fault == NULL))
            fail_msg("%02x %s, cut to %zu bytes, was taken", first, body, size);
        free(cut);
    }
    free(inner.data);
}

/* ---------------------------------------------------------------------------------------------- 2.1.4, fixed header */

static void test_remaining_length(void **state)
{
    static const struct {
        const char *bytes;
        int result;
        size_t size;
    } rows[] = {
        {"", 0, 0},
        {"30", 0, 0},
        {"30 80", 0, 0},
        {"30 ff ff ff", 0, 0},
        {"30 00", 1, 2},
        {"30 7f", 1, 2 + 127},
        {"30 80 01", 1, 3 + 128},
        {"30 ff 7f", 1, 3 + 16383},
        {"30 80 80 01", 1, 4 + 16384},
        {"30 ff ff 7f", 1, 4 + 2097151},
        {"30 80 80 80 01", 1, 5 + 2097152},
        {"30 ff ff ff 7f", 1, 5 + 268435455},
        {"30 ff ff ff ff", REASON_MALFORMED, 0},    /* a fifth byte */
        {"30 80 80 80 80 01", REASON_MALFORMED, 0}, /* likewise */
        {"30 80 00", 1, 3},                         /* MQTT-1.5.5-1: not the fewest bytes, but plain enough */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes bytes = from_hex(rows[i].bytes);
        struct mqtt_packet packet = {0};

        assert_int_equal(mqtt_packet_peek(bytes.data, bytes.size, &packet), rows[i].result);
        if (rows[i].result == 1)
            assert_int_equal(packet.size, rows[i].size);
        free(bytes.data);
    }
}

/* MQTT-2.1.3-1: reserved flags mean nothing. */
static void test_flags(void **state)
{
    static const struct {
        uint8_t type;
        const char *body;
    } rows[] = {
        {0x20, "00 00 00"},
        {0x60, "00 01"},
        {0x90, "00 01 00 00"},
        {0xe0, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (uint8_t flags = 0; flags < 16; flags++) {
            struct row row = {"MQTT-2.1.3-1", V5, rows[i].type | flags, rows[i].body, 0};

            check_rows(&row, 1);
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- 3.2 CONNACK */

/* Malformed is what cannot be told apart; what nobody uses may say what it likes. */
static void test_connack(void **state)
{
    static const struct row rows[] = {
        {"3.2", V3, 0x20, "00 00", 0},
        {"3.2.2.2", V3, 0x20, "01 00", 0},
        {"table 3.1", V3, 0x20, "00 05", 0},
        {"table 3.1: no such code", V3, 0x20, "00 06", 0},
        {"3.2.2.1", V3, 0x20, "02 00", 0},
        {"MQTT-3.2.2-4", V3, 0x20, "01 05", 0},
        {"3.2.1", V3, 0x20, "00", REASON_MALFORMED},
        {"3.2.1", V3, 0x20, "00 00 00", 0},
        {"3.2", V5, 0x20, "00 00 00", 0},
        {"3.2.2.1.1", V5, 0x20, "01 00 00", 0},
        {"MQTT-3.2.2-1", V5, 0x20, "80 00 00", 0},
        {"MQTT-3.2.2-6", V5, 0x20, "01 87 00", 0},
        {"MQTT-3.2.2-8", V5, 0x20, "00 01 00", 0},
        {"3.2.2.3", V5, 0x20, "00 00", REASON_MALFORMED},
        {"3.2.2.3: refused, in short", V5, 0x20, "00 86", 0},
        {"2.2.2.1: longer than the packet", V5, 0x20, "00 00 04 21 00 0a", REASON_MALFORMED},
        {"2.2.2.1: shorter than its properties", V5, 0x20, "00 00 02 21 00 0a", 0},
        {"behind the properties", V5, 0x20, "00 00 00 00", 0},
    };

    (void)state;
    CHECK(rows);
    check_cuts(V3, 0x20, "00 00", 2);
    check_cuts(V5, 0x20, "00 00 0a 11 00 00 0e 10 1f 00 02 'h' 'i'", 13);
}

/* A value that is forbidden is as if it were absent, and of two the first counts. */
static void test_connack_forbidden_values(void **state)
{
    struct bytes packet = packet_of(0x20,
                                    "00 00 25 21 00 00 24 02 25 02 27 00 00 00 00 28 02 29 02 2a 02 11 00 00 00 07 11"
                                    " 00 00 00 08 1f 00 03 ed a0 80 23 00 01");
    union any any;
    const struct mqtt_packet_properties *said = &any.connack.properties;

    (void)state;
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    assert_int_equal(said->receive_maximum, 65535);
    assert_int_equal(said->maximum_qos, 2);
    assert_int_equal(said->maximum_packet_size, MQTT_PACKET_SIZE_MAX);
    assert_true(said->retain_available && said->wildcards_available && said->subscription_ids_available &&
                said->shared_available);
    assert_int_equal(said->session_expiry, 7);
    assert_false(said->is_unreadable || mqtt_packet_has(said, PROPERTY_TOPIC_ALIAS));
    assert_int_equal(said->ignored, 9);
    free(packet.data);
}

static void test_connack_values(void **state)
{
    struct bytes packet = packet_of(0x20,
                                    "01 00 37 11 00 00 0e 10 21 00 14 24 01 25 00 27 00 01 00 00 12 00 02 'i' 'd'"
                                    " 22 00 0a 1f 00 02 'o' 'k' 28 00 29 00 2a 00 13 00 1e 1c 00 01 's' 15 00 01 'm'"
                                    " 16 00 01 ff 1a 00 01 'r'");
    union any any;
    const struct mqtt_packet_properties *said = &any.connack.properties;

    (void)state;
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    assert_true(any.connack.session_present);
    assert_int_equal(said->session_expiry, 3600);
    assert_int_equal(said->receive_maximum, 20);
    assert_int_equal(said->maximum_qos, 1);
    assert_false(said->retain_available || said->wildcards_available || said->subscription_ids_available ||
                 said->shared_available);
    assert_int_equal(said->maximum_packet_size, 65536);
    assert_memory_equal(said->assigned_client_id.data, "id", 2);
    assert_int_equal(said->topic_alias_maximum, 10);
    assert_memory_equal(said->reason_string.data, "ok", 2);
    assert_true(mqtt_packet_has(said, PROPERTY_SERVER_KEEP_ALIVE));
    assert_int_equal(said->server_keep_alive, 30);
    assert_int_equal(said->server_reference.size, 1);
    free(packet.data);

    packet = packet_of(0x20, "00 00 00"); /* 3.2.2.3: what is absent */
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    assert_int_equal(said->receive_maximum, 65535);
    assert_int_equal(said->maximum_qos, 2);
    assert_true(said->retain_available && said->wildcards_available && said->subscription_ids_available &&
                said->shared_available);
    assert_int_equal(said->maximum_packet_size, MQTT_PACKET_SIZE_MAX);
    assert_false(mqtt_packet_has(said, PROPERTY_SERVER_KEEP_ALIVE) ||
                 mqtt_packet_has(said, PROPERTY_ASSIGNED_CLIENT_ID));
    free(packet.data);
}

/* ----------------------------------------------------------------------------------------------- 2.2.2.2, properties */

/* Table 2-4: each identifier's type and the packets of a server that may have it. */
static const struct {
    uint8_t identifier;
    const char *value;
    const char *in; /* C: CONNACK, P: PUBLISH, S: SUBACK, D: DISCONNECT */
} table_2_4[] = {
    {0x01, "01", "P"},
    {0x02, "00 00 00 01", "P"},
    {0x03, "00 01 'x'", "P"},
    {0x08, "00 01 'x'", "P"},
    {0x09, "00 01 ff", "P"},
    {0x0b, "81 01", "P"},
    {0x11, "00 00 00 01", "C"}, /* DISCONNECT: of a client only (MQTT-3.14.2-2) */
    {0x12, "00 01 'x'", "C"},
    {0x13, "00 01", "C"},
    {0x15, "00 01 'x'", "C"},
    {0x16, "00 01 ff", "C"},
    {0x1a, "00 01 'x'", "C"},
    {0x1c, "00 01 'x'", "CD"},
    {0x1f, "00 01 'x'", "CSD"},
    {0x21, "00 01", "C"},
    {0x22, "00 01", "C"},
    {0x23, "00 01", "P"},
    {0x24, "01", "C"},
    {0x25, "01", "C"},
    {0x26, "00 01 'x' 00 01 'y'", "CPSD"},
    {0x27, "00 00 00 01", "C"},
    {0x28, "01", "C"},
    {0x29, "01", "C"},
    {0x2a, "01", "C"},
};

static const struct {
    char letter;
    uint8_t first;
    const char *head, *tail;
} carriers[] = {
    {'C', 0x20, "00 00", ""},
    {'P', 0x32, "00 01 't' 00 01", "'p'"},
    {'S', 0x90, "00 01", "00"},
    {'D', 0xe0, "00", ""},
};

/* What read_any has read. */
static const struct mqtt_packet_properties *properties_of(char letter, const union any *any)
{
    return letter == 'C'   ? &any->connack.properties
           : letter == 'P' ? &any->publish.properties
           : letter == 'S' ? &any->suback.properties
                           : &any->disconnect.properties;
}

static const char *value_of(unsigned identifier, const char **in)
{
    for (size_t i = 0; i < sizeof table_2_4 / sizeof table_2_4[0]; i++) {
        if (table_2_4[i].identifier == identifier) {
            *in = table_2_4[i].in;
            return table_2_4[i].value;
        }
    }
    *in = "";
    return "00";
}

/* What is known costs nothing wherever it stands; what is not known hides what stands behind it, and no more. */
static void check_property(unsigned identifier, size_t carrier, unsigned times)
{
    const char *in, *value = value_of(identifier, &in);
    bool may_have = strchr(in, carriers[carrier].letter) != NULL, is_known = strcmp(value, "00") != 0;
    bool may_repeat = identifier == 0x26 || identifier == 0x0b;
    struct bytes one = from_hex(value), packet;
    const struct mqtt_packet_properties *said;
    char body[256];
    size_t used = (size_t)snprintf(body, sizeof body, "%s %02zx ", carriers[carrier].head, times * (1 + one.size));
    union any any;

    for (unsigned i = 0; i < times; i++)
        used += (size_t)snprintf(body + used, sizeof body - used, "%02x %s ", identifier, value);
    snprintf(body + used, sizeof body - used, "%s", carriers[carrier].tail);
    packet = packet_of(carriers[carrier].first, body);
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    said = properties_of(carriers[carrier].letter, &any);
    if ((said->present != 0) != may_have || said->is_unreadable == is_known)
        fail_msg("property %02x in %c: present %d, unreadable %d", identifier, carriers[carrier].letter,
                 said->present != 0, said->is_unreadable);
    if (is_known)
        assert_int_equal(said->ignored, !may_have ? times : may_repeat ? 0 : times - 1);
    free(packet.data);
    free(one.data);
}

static void test_properties(void **state)
{
    (void)state;
    for (unsigned identifier = 0; identifier < 0x80; identifier++) {
        for (size_t i = 0; i < sizeof carriers / sizeof carriers[0]; i++) {
            check_property(identifier, i, 1);
            check_property(identifier, i, 2);
        }
    }
}

static void test_user_properties(void **state)
{
    struct bytes packet = packet_of(0x30,
                                    "00 01 't' 16 26 00 01 'a' 00 02 'b' 'c' 01 00 26 00 00 00 00 26 00 01 'a' 00 01"
                                    " 'd' 'p'");
    union any any;
    struct fms_bytes rest, name, value;

    (void)state;
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    assert_int_equal(any.publish.properties.user_count, 3);
    assert_int_equal(any.publish.properties.user_size, 2);
    rest = any.publish.properties.all;
    assert_true(mqtt_packet_next_user(&rest, &name, &value));
    assert_memory_equal(name.data, "a", 1);
    assert_int_equal(value.size, 2);
    assert_true(mqtt_packet_next_user(&rest, &name, &value));
    assert_int_equal(name.size + value.size, 0);
    assert_true(mqtt_packet_next_user(&rest, &name, &value));
    assert_memory_equal(value.data, "d", 1);
    assert_false(mqtt_packet_next_user(&rest, &name, &value));
    free(packet.data);
}

/* -------------------------------------------------------------------------------------------------------- 3.3 PUBLISH */

static void test_publish(void **state)
{
    static const struct row rows[] = {
        {"3.3", V3, 0x30, "00 03 'a' '/' 'b'", 0},        {"3.3.3: empty payload", V5, 0x30, "00 03 'a' '/' 'b' 00", 0},
        {"3.3", V3, 0x32, "00 01 'a' 00 0a 'p'", 0},      {"3.3", V5, 0x3d, "00 01 'a' 00 0a 00 'p'", 0},
        {"MQTT-3.3.1-2", V3, 0x38, "00 01 'a'", 0},       {"MQTT-3.3.1-2", V5, 0x38, "00 01 'a' 00", 0},
        {"4.7.3: longest", V3, 0x30, "0f a0 4000*61", 0},
    };

    (void)state;
    CHECK(rows);
    check_cuts(V3, 0x32, "00 03 'a' '/' 'b' 00 0a 'p' 'q'", 7);
    check_cuts(V5, 0x34, "00 03 'a' '/' 'b' 00 0a 09 26 00 01 'k' 00 03 'v' 'v' 'v' 'p'", 17);
}

/* What can be told apart costs the message at most, never the connection; and only where no record can be made of it. */
static void test_publish_faults(void **state)
{
    static const struct {
        const char *clause;
        enum mqtt_packet_version version;
        const char *body, *fault;
    } rows[] = {
        {"MQTT-4.7.3-1", V3, "00 00", "it has no topic"},
        {"3.3.2.1: no topic, no alias", V5, "00 00 00", "it has no topic"},
        {"MQTT-3.3.2-8: alias 0", V5, "00 00 03 23 00 00", "it has no topic"},
        {"3.3.2.3.4: alias", V5, "00 00 03 23 00 01", NULL},
        {"MQTT-3.3.2-8: alias 0 beside a topic", V5, "00 01 'a' 03 23 00 00", NULL},
        {"MQTT-3.3.2-2: +", V3, "00 03 'a' '/' '+'", "its topic holds a wildcard"},
        {"MQTT-3.3.2-2: #", V5, "00 01 '#' 00", "its topic holds a wildcard"},
        {"MQTT-3.3.2-1: UTF-8", V3, "00 01 ff", "its topic is no UTF-8"},
        {"MQTT-3.3.2-1: surrogate", V5, "00 03 ed a0 80 00", "its topic is no UTF-8"},
        {"MQTT-3.3.2-1: overlong", V5, "00 02 c0 af 00", "its topic is no UTF-8"},
        {"1.5.4-3: BOM", V5, "00 03 ef bb bf 00", NULL},
        {"MQTT-4.7.3-2: NUL", V3, "00 02 'a' 00", "its topic is no UTF-8, or holds NUL"},
        {"MQTT-4.7.3-2: NUL, the eighth", V3, "00 0a 7*61 00 61 61", "its topic is no UTF-8, or holds NUL"},
        {"MQTT-4.7.3-2: NUL, the ninth", V3, "00 0a 8*61 00 61", "its topic is no UTF-8, or holds NUL"},
        {"MQTT-3.3.2-1: across eight", V3, "00 0a 7*61 c3 a9 61", NULL},
        {"MQTT-3.3.2-1: UTF-8, the eighth", V3, "00 0a 7*61 ff 61 61", "its topic is no UTF-8"},
        {"3.3.2.3.2", V5, "00 01 'a' 02 01 02", NULL},
        {"3.3.2.3.8", V5, "00 01 'a' 02 0b 00", NULL},
        {"3.3.2.3.8: varint", V5, "00 01 'a' 06 0b ff ff ff ff 7f", "its properties cannot be told apart"},
        {"2.2.2.2: unknown", V5, "00 01 'a' 02 7e 00", "its properties cannot be told apart"},
        {"2.2.2.2: longer than all", V5, "00 01 'a' 04 03 00 02 'x'", "its properties cannot be told apart"},
        {"MQTT-3.3.2-14", V5, "00 01 'a' 04 08 00 01 '#'", NULL},
        {"3.3.2.3.9: content type", V5, "00 01 'a' 04 03 00 01 ff", NULL},
        {"3.3.2.3.7: a value is any bytes", V5, "00 01 'a' 07 26 00 01 'k' 00 01 ff", NULL},
        {"3.3.2.3.7: a name is not", V5, "00 01 'a' 07 26 00 01 ff 00 01 'v'", "the name of a user property"},
        {"3.3.2.3.7: NUL", V5, "00 01 'a' 07 26 00 01 00 00 01 'v'", "the name of a user property"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes packet = packet_of(0x30, rows[i].body);
        const char *fault;
        union any any;

        assert_int_equal(read_any(rows[i].version, packet.data, packet.size, &any), 0);
        fault = any.publish.fault;
        if ((fault == NULL) != (rows[i].fault == NULL) || (fault != NULL && strstr(fault, rows[i].fault) != fault))
            fail_msg("%s: %s", rows[i].clause, fault != NULL ? fault : "no fault");
        free(packet.data);
    }
}

/* Nor where the packet's own parts cannot be told apart: what is known of it is given. */
static void test_publish_parts(void **state)
{
    static const struct {
        const char *clause;
        enum mqtt_packet_version version;
        uint8_t first;
        const char *body, *fault, *topic;
        unsigned qos, id;
        size_t payload;
    } rows[] = {
        {"MQTT-3.3.1-4", V3, 0x36, "00 01 'a' 00 0a 'p'", "its QoS is 3", "a", 0, 0, 3},
        {"MQTT-3.3.1-4", V5, 0x3e, "00 01 'a' 00 0a 00", "its QoS is 3", "a", 0, 0, 3},
        {"3.3.2.1: too short", V3, 0x32, "00 02 'a'", "its topic is longer than its packet", "a", 0, 0, 0},
        {"3.3.2.1: too short", V5, 0x30, "ff ff 'a' 'b'", "its topic is longer than its packet", "ab", 0, 0, 0},
        {"3.3.2.1: too short", V5, 0x34, "00", "its topic is longer than its packet", "", 0, 0, 0},
        {"3.3.2.1: none", V3, 0x30, "", "its topic is longer than its packet", "", 0, 0, 0},
        {"3.3.2.2: no identifier", V3, 0x32, "00 01 'a' 00", "its packet ends before", "a", 0, 0, 0},
        {"3.3.2.3: no properties", V5, 0x30, "00 01 'a'", "its properties cannot", "a", 0, 0, 0},
        {"3.3.2.3: no properties", V5, 0x32, "00 01 'a' 00 07 80", "its properties cannot", "a", 1, 7, 0},
        {"3.3.2.3: longer than the packet", V5, 0x34, "00 01 'a' 00 07 04 01 01", "its properties", "a", 2, 7, 2},
        {"3.3.2.3: a length of five bytes", V5, 0x32, "00 01 'a' 00 07 ff ff ff ff 7f", "its properties", "a", 1, 7, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes packet = packet_of(rows[i].first, rows[i].body);
        const struct mqtt_packet_publish *publish;
        union any any;

        publish = &any.publish;
        assert_int_equal(read_any(rows[i].version, packet.data, packet.size, &any), 0);
        if (publish->fault == NULL || strstr(publish->fault, rows[i].fault) != publish->fault)
            fail_msg("%s: %s", rows[i].clause, publish->fault != NULL ? publish->fault : "no fault");
        assert_int_equal(publish->topic.size, strlen(rows[i].topic));
        assert_memory_equal(publish->topic.data, rows[i].topic, publish->topic.size);
        assert_int_equal(publish->qos, rows[i].qos);
        assert_int_equal(publish->id, rows[i].id);
        assert_int_equal(publish->payload.size, rows[i].payload);
        free(packet.data);
    }
}

/* MQTT-2.2.1-4: what cannot be acknowledged is a message all the same. */
static void test_publish_without_identifier(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bytes packet = packet_of(0x32, i == 0 ? "00 01 'a' 00 00 'p'" : "00 01 'a' 00 00 00 'p'");
        union any any;

        assert_int_equal(read_any(i == 0 ? V3 : V5, packet.data, packet.size, &any), 0);
        assert_null(any.publish.fault);
        assert_int_equal(any.publish.qos, 0);
        assert_int_equal(any.publish.payload.size, 1);
        free(packet.data);
    }
}

static void test_publish_values(void **state)
{
    struct bytes packet = packet_of(0x3d,
                                    "00 03 'a' '/' 'b' 12 34 13 01 01 02 00 00 00 3c 23 00 07 03 00 01 'j' 09 00 02 00"
                                    " ff 'p' 'q'");
    struct mqtt_packet_publish *publish;
    union any any;

    (void)state;
    publish = &any.publish;
    assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
    assert_true(publish->dup && publish->retain);
    assert_int_equal(publish->qos, 2);
    assert_int_equal(publish->id, 0x1234);
    assert_int_equal(publish->topic.size, 3);
    assert_memory_equal(publish->topic.data, "a/b", 3);
    assert_int_equal(publish->payload.size, 2);
    assert_memory_equal(publish->payload.data, "pq", 2);
    assert_ptr_equal((const uint8_t *)publish->payload.data + 2, packet.data + packet.size); /* in place */
    assert_int_equal(publish->properties.payload_format, 1);
    assert_int_equal(publish->properties.message_expiry, 60);
    assert_int_equal(publish->properties.topic_alias, 7);
    assert_int_equal(publish->properties.content_type.size, 1);
    assert_int_equal(publish->properties.correlation_data.size, 2);
    free(packet.data);
}

static void test_subscription_ids(void **state)
{
    static const struct {
        const char *properties;
        uint32_t id;
        bool has_others, is_unreadable;
    } rows[] = {
        {"02 0b 01", 1, false, false},
        {"03 0b ac 02", 300, false, false},
        {"05 0b ff ff ff 7f", 268435455, false, false},
        {"04 0b 0b 0b 0b", 11, false, false}, /* twice */
        {"04 0b 05 0b 06", 5, true, false},
        {"07 0b 05 01 01 0b ac 02", 5, true, false},
        {"02 0b 00", 0, false, false}, /* 3.3.2.3.8: forbidden */
        {"04 0b 80 80 00", 0, false, false},
        {"01 0b", 0, false, true},
        {"03 0b 80 80", 0, false, true},
        {"05 0b 80 80 80 80", 0, false, true},
        {"06 0b 80 80 80 80 01", 0, false, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[64];
        struct bytes packet;
        const struct mqtt_packet_properties *said;
        union any any;

        snprintf(body, sizeof body, "00 01 't' %s 'p'", rows[i].properties);
        packet = packet_of(0x30, body);
        said = &any.publish.properties;
        assert_int_equal(read_any(V5, packet.data, packet.size, &any), 0);
        if (said->subscription_id != rows[i].id || said->has_other_ids != rows[i].has_others ||
            said->is_unreadable != rows[i].is_unreadable)
            fail_msg("%s: %u", rows[i].properties, said->subscription_id);
        assert_int_equal(mqtt_packet_has(said, PROPERTY_SUBSCRIPTION_ID), rows[i].id != 0);
        free(packet.data);
    }
}

/* Topic, identifier and the length of the properties are enough, and any less is said to be too little rather than wrong. */
static void test_publish_head(void **state)
{
    static const struct {
        enum mqtt_packet_version version;
        const char *head;
        size_t least;
    } rows[] = {{V3, "00 03 'a' '/' 'b' 00 0a", 7},
                {V5, "00 03 'a' '/' 'b' 00 0a 09 26 00 01 'k' 00 03 'v' 'v' 'v'", 8}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes head = from_hex(rows[i].head);
        struct mqtt_packet packet = {MQTT_PACKET_PUBLISH, 2, 0, {NULL, 1000000}};

        for (size_t size = 0; size <= head.size; size++) {
            uint8_t *there = malloc(size > 0 ? size : 1);
            struct mqtt_packet_publish publish;

            memcpy(there, head.data, size);
            packet.body.data = there;
            assert_int_equal(mqtt_packet_read_publish(rows[i].version, &packet, size, &publish),
                             size < rows[i].least ? -1 : 0);
            if (size >= rows[i].least) {
                assert_int_equal(publish.payload.size, 1000000 - head.size);
                assert_int_equal(publish.id, 10);
                assert_int_equal(publish.fault == NULL, size == head.size);
            }
            free(there);
        }
        free(head.data);
    }
}

/* -------------------------------------------------------------------------- 3.6 PUBREL, 3.9 SUBACK, 3.13, 3.14 and so on */

static void test_pubrel(void **state)
{
    static const struct row rows[] = {
        {"3.6", V3, 0x62, "00 01", 0},
        {"3.6", V3, 0x62, "00 01 00", 0},
        {"3.6", V3, 0x62, "00", REASON_MALFORMED},
        {"3.6.2.1: short form", V5, 0x62, "00 01", 0},
        {"3.6.2.2", V5, 0x62, "00 01 00 00", 0},
        {"table 3-6", V5, 0x62, "00 01 80 00", 0},
        {"3.6.2.2", V5, 0x62, "00 01 00 01", 0},
    };

    (void)state;
    CHECK(rows);
}

static void test_suback(void **state)
{
    static const struct row rows[] = {
        {"3.9", V3, 0x90, "00 0a 00", 0},
        {"3.9", V3, 0x90, "00 0a 02 80", 0},
        {"MQTT-3.9.3-2", V3, 0x90, "00 0a 03", 0},
        {"3.9.3: none", V3, 0x90, "00 0a", 0},
        {"3.9.2", V3, 0x90, "00", REASON_MALFORMED},
        {"3.9", V5, 0x90, "00 0a 00 01", 0},
        {"3.9.3: none", V5, 0x90, "00 0a 00", 0},
        {"3.9.2.1: no properties", V5, 0x90, "00 0a", REASON_MALFORMED},
        {"3.9.2.1: longer than the packet", V5, 0x90, "00 0a 02 01", REASON_MALFORMED},
    };

    (void)state;
    CHECK(rows);
}

static void test_disconnect(void **state)
{
    static const struct row rows[] = {
        {"3.14", V3, 0xe0, "", 0},
        {"3.14.2.1: short form", V5, 0xe0, "", 0},
        {"3.14.2.1: without properties", V5, 0xe0, "8b", 0},
        {"3.14.2.2", V5, 0xe0, "9d 04 1c 00 01 'b'", 0},
        {"MQTT-3.14.2-2", V5, 0xe0, "00 05 11 00 00 00 00", 0},
        {"3.14.2.2", V5, 0xe0, "00 05 00", 0},
    };

    (void)state;
    CHECK(rows);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

static void check_written(const uint8_t *data, size_t size, const char *expected)
{
    struct bytes bytes = from_hex(expected);

    assert_int_equal(size, bytes.size);
    assert_memory_equal(data, bytes.data, size);
    free(bytes.data);
}

static void test_write_connect(void **state)
{
    struct mqtt_packet_connect connect = {.version = V3, .client_id = "c", .clean_start = true, .keep_alive = 15};
    uint8_t to[256];
    size_t size;

    (void)state;
    size = mqtt_packet_write_connect(to, sizeof to, &connect);
    check_written(to, size, "10 0d 00 04 'M' 'Q' 'T' 'T' 04 02 00 0f 00 01 'c'");
    connect.username = "u";
    connect.password = "pw";
    connect.clean_start = false;
    size = mqtt_packet_write_connect(to, sizeof to, &connect);
    check_written(to, size, "10 14 00 04 'M' 'Q' 'T' 'T' 04 c0 00 0f 00 01 'c' 00 01 'u' 00 02 'p' 'w'");
    connect = (struct mqtt_packet_connect){.version = V5, .client_id = "", .clean_start = true};
    size = mqtt_packet_write_connect(to, sizeof to, &connect);
    check_written(to, size, "10 0d 00 04 'M' 'Q' 'T' 'T' 05 02 00 00 00 00 00");
    connect.session_expiry = 3600;
    connect.receive_maximum = 100;
    connect.maximum_packet_size = 65536;
    connect.topic_alias_maximum = 16;
    connect.password = "p"; /* MQTT 5 allows it without a user name */
    size = mqtt_packet_write_connect(to, sizeof to, &connect);
    check_written(to, size,
                  "10 20 00 04 'M' 'Q' 'T' 'T' 05 42 00 00 10 11 00 00 0e 10 21 00 64 27 00 01 00 00 22 00 10 00 00"
                  " 00 01 'p'");
}

static void test_write_others(void **state)
{
    static const char *const filters[] = {"a", "b/"};
    struct mqtt_packet_unsubscribe unsubscribe = {V3, 0xfffe, filters, 2};
    struct mqtt_packet_subscribe subscribe = {V3, 10, "a/#", 1, 1, 0};
    uint8_t to[256];

    (void)state;
    check_written(to, mqtt_packet_write_subscribe(to, sizeof to, &subscribe), "82 08 00 0a 00 03 'a' '/' '#' 01");
    subscribe.version = V5;
    check_written(to, mqtt_packet_write_subscribe(to, sizeof to, &subscribe), "82 09 00 0a 00 00 03 'a' '/' '#' 11");
    subscribe.subscription_id = 300;
    check_written(to, mqtt_packet_write_subscribe(to, sizeof to, &subscribe),
                  "82 0c 00 0a 03 0b ac 02 00 03 'a' '/' '#' 11");
    check_written(to, mqtt_packet_write_unsubscribe(to, sizeof to, &unsubscribe),
                  "a2 09 ff fe 00 01 'a' 00 02 'b' '/'");
    unsubscribe.version = V5;
    check_written(to, mqtt_packet_write_unsubscribe(to, sizeof to, &unsubscribe),
                  "a2 0a ff fe 00 00 01 'a' 00 02 'b' '/'");
    check_written(to, mqtt_packet_write_ack(to, sizeof to, V3, MQTT_PACKET_PUBACK, 0x1234, 0), "40 02 12 34");
    check_written(to, mqtt_packet_write_ack(to, sizeof to, V3, MQTT_PACKET_PUBCOMP, 1, REASON_ID_NOT_FOUND),
                  "70 02 00 01");
    check_written(to, mqtt_packet_write_ack(to, sizeof to, V5, MQTT_PACKET_PUBREC, 1, 0), "50 02 00 01");
    check_written(to, mqtt_packet_write_ack(to, sizeof to, V5, MQTT_PACKET_PUBCOMP, 1, REASON_ID_NOT_FOUND),
                  "70 03 00 01 92");
    check_written(to, mqtt_packet_write_pingreq(to, sizeof to), "c0 00");
    check_written(to, mqtt_packet_write_disconnect(to, sizeof to, V3, REASON_PROTOCOL_ERROR, 0), "e0 00");
    check_written(to, mqtt_packet_write_disconnect(to, sizeof to, V5, 0, -1), "e0 00");
    check_written(to, mqtt_packet_write_disconnect(to, sizeof to, V5, REASON_MALFORMED, -1), "e0 01 81");
    check_written(to, mqtt_packet_write_disconnect(to, sizeof to, V5, 0, 0), "e0 07 00 05 11 00 00 00 00");
}

/* What does not fit is counted and not written. */
static void test_write_without_room(void **state)
{
    struct mqtt_packet_connect connect = {.version = V5, .client_id = "client", .username = "u", .password = "p"};
    size_t size = mqtt_packet_write_connect(NULL, 0, &connect);

    (void)state;
    for (size_t room = 0; room <= size; room++) {
        uint8_t *to = malloc(room > 0 ? room : 1);

        assert_int_equal(mqtt_packet_write_connect(to, room, &connect), size);
        free(to);
    }
}

static void test_reason_texts(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        assert_non_null(mqtt_packet_reason_text(V5, code));
        assert_non_null(mqtt_packet_reason_text(V3, code));
    }
    assert_string_equal(mqtt_packet_reason_text(V3, 5), "not authorized");
    assert_string_equal(mqtt_packet_reason_text(V3, 4), mqtt_packet_reason_text(V5, REASON_BAD_CREDENTIALS));
    assert_string_equal(mqtt_packet_reason_text(V5, 0x93), "receive maximum exceeded");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remaining_length),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_connack),
        cmocka_unit_test(test_connack_values),
        cmocka_unit_test(test_connack_forbidden_values),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_user_properties),
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_publish_faults),
        cmocka_unit_test(test_publish_parts),
        cmocka_unit_test(test_publish_without_identifier),
        cmocka_unit_test(test_publish_values),
        cmocka_unit_test(test_subscription_ids),
        cmocka_unit_test(test_publish_head),
        cmocka_unit_test(test_pubrel),
        cmocka_unit_test(test_suback),
        cmocka_unit_test(test_disconnect),
        cmocka_unit_test(test_write_connect),
        cmocka_unit_test(test_write_others),
        cmocka_unit_test(test_write_without_room),
        cmocka_unit_test(test_reason_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
