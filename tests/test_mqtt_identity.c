/* test_mqtt_identity.c - who a message is, as user properties and back; what is malformed is no identity. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../plugins/mqtt_common/mqtt_identity.h"

/* What a source makes of these properties; NULL: it is not there. */
static bool read_back(struct mqtt_identity *self, const char *origin, const char *sequence, const char *skipped,
                      struct fms_identity *identity, const char **why)
{
    const char *const values[] = {origin, sequence, skipped};
    const char *const names[] = {"fms.origin", "fms.sequence", "fms.skipped"};
    struct mqtt_headers headers = {0};
    struct fms_record draft = {.topic = {"t", 1}};

    mqtt_identity_begin(self);
    for (size_t i = 0; i < 3; i++) {
        if (values[i] != NULL)
            assert_true(mqtt_identity_meet(self, fms_text(names[i]), fms_text(values[i])));
    }
    return mqtt_identity_find(self, NULL, &draft, &headers, identity, why);
}

static void check_there_and_back(struct fms_bytes origin, uint64_t sequence, uint64_t skipped, const char *expected)
{
    const struct fms_identity identity = {
        .kind = FMS_NUMBERED, .origin = origin, .sequence = sequence, .skipped = skipped};
    struct mqtt_identity self = {0};
    struct mqtt_identity_text text;
    struct fms_identity back;
    const char *why;

    mqtt_identity_write(&identity, &text);
    if (expected != NULL)
        assert_string_equal(text.origin, expected);
    assert_true(mqtt_is_text(text.origin, strlen(text.origin)));
    assert_int_equal(skipped > 0, text.skipped[0] != '\0');
    assert_true(
        read_back(&self, text.origin, text.sequence, text.skipped[0] != '\0' ? text.skipped : NULL, &back, &why));
    assert_null(why);
    assert_int_equal(back.kind, FMS_NUMBERED);
    assert_int_equal(back.origin.size, origin.size);
    assert_memory_equal(back.origin.data, origin.data, origin.size);
    assert_true(back.sequence == sequence && back.skipped == skipped);
    assert_true(!back.is_end && !back.may_repeat && back.part == 0);
}

static void test_there_and_back(void **state)
{
    char bytes[FMS_ORIGIN_MOST];

    (void)state;
    check_there_and_back(fms_text("truck-17/1b6f"), 0, 0, "truck-17/1b6f");
    check_there_and_back(fms_text("\xc3\xa9 100% \xf0\x9f\x9a\x9a"), UINT64_MAX, 0, "\xc3\xa9 100%25 \xf0\x9f\x9a\x9a");
    check_there_and_back(fms_bytes_of("a\0\n\x7f\xff\xc3", 6), 18, 18, "a%00%0A%7F%FF%C3");
    check_there_and_back(fms_bytes_of("\xef\xbf\xbf%", 4), 18, 1, "%EF%BF%BF%25");
    memset(bytes, '%', sizeof bytes);
    check_there_and_back(fms_bytes_of(bytes, sizeof bytes), 1, 0, NULL);
    memset(bytes, 'x', sizeof bytes);
    check_there_and_back(fms_bytes_of(bytes, sizeof bytes), 1, 0, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        for (size_t n = 0; n < sizeof bytes; n++)
            bytes[n] = (char)(rand() >> 8);
        check_there_and_back(fms_bytes_of(bytes, 1 + i % sizeof bytes), i, 0, NULL);
    }
}

static void test_malformed_is_none(void **state)
{
    static char long_origin[257];
    static const struct {
        const char *origin, *sequence, *skipped, *why;
    } rows[] = {
        {NULL, NULL, NULL, NULL},
        {NULL, NULL, "1", NULL},
        {"a", NULL, NULL, "it has one of the properties fms.origin and fms.sequence without the other"},
        {NULL, "1", NULL, "it has one of the properties"},
        {"", "1", NULL, "fms.origin \"\" has not 1 to 255 bytes"},
        {long_origin, "1", NULL, "has not 1 to 255 bytes"},
        {"a", "", NULL, "fms.sequence \"\" is no integer of 0 to 18446744073709551615"},
        {"a", "-1", NULL, "fms.sequence \"-1\" is no integer"},
        {"a", " 1", NULL, "is no integer"},
        {"a", "1.0", NULL, "is no integer"},
        {"a", "0x1", NULL, "is no integer"},
        {"a", "18446744073709551616", NULL, "is no integer"},
        {"a", "99999999999999999999", NULL, "is no integer"},
        {"a", "5", "6", "fms.skipped \"6\" is no integer of 0 to the sequence"},
        {"a", "5", "x", "fms.skipped \"x\" is no integer"},
        {"a", "5", "", "fms.skipped \"\" is no integer"},
        {"%", "1", NULL, "fms.origin \"%\" has a % without two hexadecimal digits"},
        {"%4", "1", NULL, "has a % without"},
        {"%4g", "1", NULL, "has a % without"},
        {"%g4", "1", NULL, "has a % without"},
    };

    (void)state;
    memset(long_origin, 'x', 256);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_identity self = {0};
        struct fms_identity identity;
        const char *why;

        assert_false(read_back(&self, rows[i].origin, rows[i].sequence, rows[i].skipped, &identity, &why));
        assert_int_equal(why == NULL, rows[i].why == NULL);
        if (why != NULL && strstr(why, rows[i].why) == NULL)
            fail_msg("%zu: %s", i, why);
    }
}

/* Small letters are understood, and what the message before said is forgotten. */
static void test_each_message_speaks_for_itself(void **state)
{
    struct mqtt_identity self = {0};
    struct fms_identity identity;
    const char *why;

    (void)state;
    assert_true(read_back(&self, "%fF", "007", "2", &identity, &why));
    assert_int_equal(identity.origin.size, 1);
    assert_memory_equal(identity.origin.data, "\xff", 1);
    assert_true(identity.sequence == 7 && identity.skipped == 2);
    assert_true(read_back(&self, "b", "8", NULL, &identity, &why));
    assert_true(identity.sequence == 8 && identity.skipped == 0);
    assert_false(read_back(&self, NULL, NULL, NULL, &identity, &why));
    assert_null(why);
}

static void test_what_is_there_twice_is_none(void **state)
{
    struct mqtt_identity self = {0};
    struct mqtt_headers headers = {0};
    struct fms_record draft = {.topic = {"t", 1}};
    struct fms_identity identity;
    const char *why;

    (void)state;
    mqtt_identity_begin(&self);
    assert_true(mqtt_identity_meet(&self, fms_text("fms.origin"), fms_text("a")));
    assert_true(mqtt_identity_meet(&self, fms_text("fms.sequence"), fms_text("1")));
    assert_true(mqtt_identity_meet(&self, fms_text("fms.sequence"), fms_text("1")));
    assert_false(mqtt_identity_meet(&self, fms_text("fms.sequenc"), fms_text("1")));
    assert_false(mqtt_identity_meet(&self, fms_text("fms.sequences"), fms_text("1")));
    assert_false(mqtt_identity_meet(&self, fms_text("fms.reason"), fms_text("1")));
    assert_false(mqtt_identity_find(&self, NULL, &draft, &headers, &identity, &why));
    assert_non_null(strstr(why, "is there twice"));
}

static void test_no_header_passes_for_one(void **state)
{
    (void)state;
    assert_true(mqtt_identity_is_header("fms.origin"));
    assert_true(mqtt_identity_is_header("user.fms.sequence"));
    assert_true(mqtt_identity_is_header("user.fms.skipped"));
    assert_false(mqtt_identity_is_header("fms.reason"));
    assert_false(mqtt_identity_is_header("origin"));
    assert_false(mqtt_identity_is_header("user.origin"));
    assert_false(mqtt_identity_is_header("user.user.fms.origin"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_malformed_is_none),
        cmocka_unit_test(test_each_message_speaks_for_itself),
        cmocka_unit_test(test_what_is_there_twice_is_none),
        cmocka_unit_test(test_no_header_passes_for_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
