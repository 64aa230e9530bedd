/* test_filter.c - what filter looks up in a record, and what becomes of it. The language: test_condition.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

#define TIME (INT64_C(1763320419) * FMS_SECOND + 123456789)

static struct fake *open_filter(const char *condition, const char *more)
{
    char ini[512];

    snprintf(ini, sizeof ini, "condition = %s\n%s", condition, more);
    return fake_open("filter", FMS_TRANSFORM, ini);
}

/* Whether a condition keeps a record. */
static bool keeps(const char *condition, const struct fms_record *record)
{
    struct fake *f = open_filter(condition, "");
    bool is_kept;

    fake_add_record(f, record);
    fake_write(f);
    is_kept = fake_fate(f, 0) == FAKE_PASSED;
    if (!is_kept)
        assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    fake_close(f);
    return is_kept;
}

static bool keeps_payload(const char *condition, const char *payload)
{
    struct fms_record record = {.payload = fms_text(payload)};

    return keeps(condition, &record);
}

static void test_keeps_what_holds(void **state)
{
    struct fake *f = open_filter("speed > 90 and vehicle_id ~ \"raspi-*\"", "");

    (void)state;
    fake_add(f, "fms/data", "a", "{\"vehicle_id\":\"raspi-001\",\"speed\":96.65}");
    fake_add(f, "fms/data", "a", "{\"vehicle_id\":\"raspi-001\",\"speed\":90}");
    fake_add(f, "fms/data", "a", "{\"vehicle_id\":\"truck-001\",\"speed\":96.65}");
    fake_add(f, "fms/data", "a", "{\"vehicle_id\":\"raspi-002\"}");
    fake_add(f, "fms/data", "a", "{\"vehicle_id\":\"raspi-003\",\"speed\":120}");
    assert_int_equal(fake_write(f), 5);
    assert_int_equal(fake_emitted(f), 2);
    assert_int_equal(fake_parent(f, 0), 0);
    assert_int_equal(fake_parent(f, 1), 4);
    assert_int_equal(fake_fate(f, 0), FAKE_PASSED);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 3);
    assert_int_equal(fake_counter(f, "kept"), 2);
    assert_int_equal(fake_counter(f, "dropped"), 3);
    fake_close(f);
}

static void test_drops_what_holds(void **state)
{
    struct fake *f = open_filter("speed > 90", "action = drop\n");

    (void)state;
    fake_add(f, "fms/data", "a", "{\"speed\":96.65}");
    fake_add(f, "fms/data", "a", "{\"speed\":90}");
    fake_add(f, "fms/data", "a", "{}");
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 1), FAKE_PASSED);
    assert_int_equal(fake_fate(f, 2), FAKE_PASSED);
    assert_int_equal(fake_counter(f, "kept"), 2);
    assert_int_equal(fake_counter(f, "dropped"), 1);
    fake_close(f);
}

static void test_fields(void **state)
{
    const char *payload = "{\"position\":{\"lat\":49.5},\"axles\":[{\"load\":7}],\"big\":12345678901234567890,"
                          "\"on\":true,\"odd name\":1,\"nothing\":null}";

    (void)state;
    assert_true(keeps_payload("position.lat = 49.50", payload));
    assert_true(keeps_payload("axles.0.load = 7 and not exists(axles.1.load)", payload));
    assert_true(keeps_payload("big = 12345678901234567890", payload));
    assert_false(keeps_payload("big = 12345678901234567891", payload));
    assert_true(keeps_payload("on = true and `odd name` = 1", payload));
    assert_true(keeps_payload("nothing = null and exists(position)", payload));
}

static void test_escaped_strings(void **state)
{
    (void)state;
    assert_true(keeps_payload("a = \"caf\xc3\xa9\"", "{\"a\":\"caf\\u00e9\"}"));
    assert_true(keeps_payload("a = \"x\\\\y\"", "{\"a\":\"x\\\\y\"}"));
    assert_true(keeps_payload("a = b and b = a", "{\"a\":\"\\u0061\\u0062\",\"b\":\"a\\u0062\"}"));
    assert_false(keeps_payload("a = b", "{\"a\":\"\\u0061\\u0062\",\"b\":\"a\\u0063\"}"));
    assert_true(keeps_payload("a != b", "{\"a\":\"\\u0061\\u0000\",\"b\":\"a\"}"));
    assert_true(keeps_payload("a ~ \"?\\\"*\"", "{\"a\":\"\\u00e9\\\"more\"}"));
}

/* The memory for a decoded string serves the next records. */
static void test_escaped_strings_of_all_lengths(void **state)
{
    struct fake *f = open_filter("a ~ \"?*!\"", "");
    char payload[256];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(payload, sizeof payload, "{\"a\":\"\\u0021%0*d\\u0021\"}", (i * 37) % 100 + 1, 0);
        fake_add(f, NULL, NULL, payload);
    }
    assert_int_equal(fake_write(f), 100);
    assert_int_equal(fake_count_fate(f, FAKE_PASSED), 100);
    fake_close(f);
}

static void test_what_is_no_field(void **state)
{
    const struct fms_header headers[] = {{"trace", fms_text("t1")},
                                         {"origin", fms_text("west")},
                                         {"seq", fms_text("17")},
                                         {"origin", fms_text("east")},
                                         {"none", fms_bytes_of(NULL, 0)}};
    struct fms_record record = {.topic = fms_text("fms/raspi-001/data"),
                                .key = fms_text("raspi-001"),
                                .payload = fms_text("no JSON"),
                                .headers = headers,
                                .header_count = 5,
                                .timestamp = TIME};
    const struct fms_record empty = {.timestamp = 0};

    (void)state;
    assert_true(keeps("$topic ~ \"fms/*/data\" and $key = \"raspi-001\"", &record));
    assert_true(keeps("$payload = \"no JSON\"", &record));
    assert_true(keeps("$header.origin = \"east\" and $header.seq = \"17\" and $header.trace = \"t1\"", &record));
    assert_true(keeps("not exists($header.none) and not exists($header.gone)", &record));
    assert_true(keeps("$timestamp = 1763320419", &record));
    assert_false(keeps("$timestamp > 1763320419", &record));
    assert_false(keeps("exists($topic) or exists($key) or exists($payload)", &empty));
    assert_false(keeps("exists($timestamp) or $timestamp >= 0", &empty));
    record.timestamp = -5 * FMS_SECOND;
    assert_true(keeps("$timestamp = -5", &record));
}

static const char *const bad_json[] = {"", "no JSON", "{\"speed\":96.65", "[96.65]", "{\"speed\":NaN}", NULL};
#define BAD_JSON (sizeof bad_json / sizeof *bad_json)

static struct fake *write_bad_json(const char *options)
{
    struct fake *f = open_filter("$topic = \"t\" or speed > 90", options);

    for (size_t i = 0; i < BAD_JSON; i++)
        fake_add(f, "t", NULL, bad_json[i]);
    fake_add(f, "t", NULL, "{}");
    assert_int_equal(fake_write(f), BAD_JSON + 1);
    return f;
}

static void test_bad_json_is_rejected(void **state)
{
    struct fake *f = write_bad_json("");

    (void)state;
    assert_int_equal(fake_count_fate(f, FMS_REJECTED), BAD_JSON);
    assert_int_equal(fake_counter(f, "bad_json"), BAD_JSON);
    assert_string_equal(fake_reason(f, 1), "the payload is no JSON object: { or [ expected at byte 0");
    assert_string_equal(fake_reason(f, 2), "the payload is no JSON object: unexpected end at byte 14");
    assert_int_equal(fake_fate(f, BAD_JSON), FAKE_PASSED);
    fake_close(f);
}

static void test_bad_json_is_dropped(void **state)
{
    struct fake *f = write_bad_json("on_bad_json = drop\naction = drop\n");

    (void)state;
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), BAD_JSON + 1);
    assert_int_equal(fake_counter(f, "dropped"), BAD_JSON + 1);
    assert_int_equal(fake_counter(f, "bad_json"), BAD_JSON); /* the other was dropped by the condition */
    fake_close(f);
}

static void test_bad_json_is_kept(void **state)
{
    struct fake *f = write_bad_json("on_bad_json = keep\naction = drop\n");

    (void)state;
    assert_int_equal(fake_count_fate(f, FAKE_PASSED), BAD_JSON);
    assert_int_equal(fake_fate(f, BAD_JSON), FMS_DELIVERED);
    assert_int_equal(fake_counter(f, "kept"), BAD_JSON);
    fake_close(f);
}

static void test_bad_configuration(void **state)
{
    char deep[512] = "condition = a";

    (void)state;
    for (int i = 0; i < 70; i++)
        strcat(deep, ".a");
    strcat(deep, " = 1\n");
    expect_refusal("filter", FMS_TRANSFORM, "", "condition is missing");
    expect_refusal("filter", FMS_TRANSFORM, "condition = speed == 90\n",
                   "error: condition: column 7: expected a comparison");
    expect_refusal("filter", FMS_TRANSFORM, "condition =\n", "expected a text that is not empty");
    expect_refusal("filter", FMS_TRANSFORM, deep, "is no path such as position.lat");
    expect_refusal("filter", FMS_TRANSFORM, "condition = a = 1\naction = pass\n", "action");
    expect_refusal("filter", FMS_TRANSFORM, "condition = a = 1\non_bad_json = ignore\n", "on_bad_json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_what_holds),
        cmocka_unit_test(test_drops_what_holds),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_escaped_strings),
        cmocka_unit_test(test_escaped_strings_of_all_lengths),
        cmocka_unit_test(test_what_is_no_field),
        cmocka_unit_test(test_bad_json_is_rejected),
        cmocka_unit_test(test_bad_json_is_dropped),
        cmocka_unit_test(test_bad_json_is_kept),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
