/* test_fms_check.c - what passes, what is rejected and for which reason, and rules that are none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

#define NOW (INT64_C(1763320419) * FMS_SECOND)
#define MISSION                                                                                                        \
    "{\"vehicle_id\":\"raspi-001\",\"timestamp\":1763320419,\"speed\":56.65,\"rpm\":1316,\"fuel_level\":99.65}"

static char said[4096];

static const char *const faults[] = {"rejected_payload", "rejected_keys", "rejected_missing", "rejected_field",
                                     "rejected_time"};
static const char *fault; /* of these, that of the last record; NULL: none */

/* How many records were, whatever for. */
static uint64_t rejected(struct fake *f)
{
    uint64_t sum = 0;

    fault = NULL;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (fake_counter(f, faults[i]) > 0)
            fault = faults[i];
        sum += fake_counter(f, faults[i]);
    }
    return sum;
}

/* "passed", why the record was rejected, or the payload that it was given instead. */
static const char *check_bytes(const char *ini, struct fms_bytes payload)
{
    struct fms_record draft = {.topic = {"fms/data", 8}, .key = {"k", 1}, .payload = payload, .timestamp = 7};
    struct fake *f = fake_open("fms_check", FMS_TRANSFORM, ini);

    fake_clock_set(f, 0, NOW);
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    if (fake_fate(f, 0) == FAKE_PASSED)
        snprintf(said, sizeof said, "passed");
    else if (fake_fate(f, 0) == FMS_REJECTED)
        snprintf(said, sizeof said, "%s", fake_reason(f, 0));
    else
        snprintf(said, sizeof said, "%s", (const char *)fake_record(f, 0)->payload.data);
    assert_int_equal(rejected(f), fake_fate(f, 0) == FMS_REJECTED);
    assert_int_equal(fake_counter(f, "repaired"), fake_fate(f, 0) == FMS_DELIVERED);
    fake_close(f);
    return said;
}

static const char *check(const char *ini, const char *payload)
{
    return check_bytes(ini, fms_text(payload));
}

#define ASSERT_SAID(ini, payload, expected) assert_string_equal(check(ini, payload), expected)
#define ASSERT_PASSED(ini, payload)         ASSERT_SAID(ini, payload, "passed")

/* The mission's message with something else in place of `from`. */
static const char *mission_with(const char *from, const char *to)
{
    static char text[2048];
    const char *at = strstr(MISSION, from);

    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - MISSION), MISSION, to, at + strlen(from));
    return text;
}

/* A rule for one field x, no time. */
static const char *check_rule(const char *rule, const char *value)
{
    char ini[256], payload[1024];

    snprintf(ini, sizeof ini, "timestamp =\nfield.x = %s\n", rule);
    snprintf(payload, sizeof payload, "{\"x\":%s}", value);
    return check(ini, payload);
}

#define ASSERT_RULE(rule, value, expected) assert_string_equal(check_rule(rule, value), expected)

/* ---------------------------------------------------------------------------------------------------------- defaults */

static void test_mission(void **state)
{
    (void)state;
    ASSERT_PASSED("", MISSION);
    ASSERT_PASSED("",
                  " { \"rpm\" : 0 , \"fuel_level\":100,\"speed\":300.0,\"timestamp\":0,\"vehicle_id\":\"\\u00e9\"} \n");
    ASSERT_PASSED("", mission_with("}", ",\"driver\":{\"name\":\"Anna\"}}"));
}

static void test_mission_lacks_a_field(void **state)
{
    static const char *const fields[][2] = {{"\"vehicle_id\":\"raspi-001\",", "no field \"vehicle_id\""},
                                            {"\"timestamp\":1763320419,", "no field \"timestamp\""},
                                            {"\"speed\":56.65,", "no field \"speed\""},
                                            {"\"rpm\":1316,", "no field \"rpm\""},
                                            {",\"fuel_level\":99.65", "no field \"fuel_level\""}};

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        ASSERT_SAID("", mission_with(fields[i][0], ""), fields[i][1]);
}

static void test_mission_out_of_range(void **state)
{
    (void)state;
    ASSERT_SAID("", mission_with("56.65", "312.5"), "speed: 312.5 is above 300");
    ASSERT_SAID("", mission_with("56.65", "-0.01"), "speed: -0.01 is below 0");
    ASSERT_SAID("", mission_with("1316", "20000.000001"), "rpm: 20000.000001 is above 20000");
    ASSERT_SAID("", mission_with("1316", "\"1316\""), "rpm: a number expected, found a string");
    ASSERT_SAID("", mission_with("99.65", "null"), "fuel_level: a number expected, found null");
    ASSERT_SAID("", mission_with("1763320419", "1763320419.5"), "timestamp: an integer expected, found 1763320419.5");
    ASSERT_SAID("", mission_with("raspi-001", ""), "vehicle_id: a string of 1 to 255 bytes expected, found one of 0");
}

/* Escapes count as what they stand for. */
static void test_length_of_strings(void **state)
{
    char id[1600];

    (void)state;
    for (size_t i = 0; i < 255; i++)
        memcpy(id + 6 * i, "\\u0041", 7);
    ASSERT_PASSED("", mission_with("raspi-001", id));
    memcpy(id + 6 * 255, "\\u0041", 7);
    ASSERT_SAID("", mission_with("raspi-001", id), "vehicle_id: a string of 1 to 255 bytes expected, found one of 256");
}

static void test_no_json(void **state)
{
    static const char *const payloads[] = {"",
                                           "[1]",
                                           "{\"vehicle_id\":\"a\"",
                                           "{\"speed\":NaN}",
                                           "{\"speed\":-Infinity}",
                                           "{\"speed\":01}",
                                           "{\"speed\":1.}",
                                           "{\"a\":1} x"};
    static char nested[1000];

    (void)state;
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
        assert_ptr_equal(strstr(check("", payloads[i]), "the payload is no JSON object: "), said);
    memset(nested, '[', sizeof nested - 1);
    memcpy(nested, "{\"a\":", 5);
    ASSERT_SAID("", nested, "the payload is no JSON object: nested more than 64 deep at byte 68");
    assert_string_equal(check_bytes("", fms_bytes_of(NULL, 0)),
                        "the payload is no JSON object: it is absent (a tombstone)");
    assert_ptr_equal(strstr(check_bytes("", fms_bytes_of("{\"a\0b\":1}", 9)), "the payload is no JSON object: "), said);
}

/* ------------------------------------------------------------------------------------------------------------- rules */

static void test_types(void **state)
{
    static const char *const types[] = {"number", "string", "boolean", "object", "array"};
    static const char *const values[] = {"-1.5e-3", "\"a\"", "true", "{\"a\":[1]}", "[{}]"};
    static const char *const names[] = {"a number", "a string", "a boolean", "an object", "an array"};
    char expected[128];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            snprintf(expected, sizeof expected, "x: %s expected, found %s", names[i], names[j]);
            ASSERT_RULE(types[i], values[j], i == j ? "passed" : expected);
        }
        ASSERT_RULE("any", values[i], "passed");
        snprintf(expected, sizeof expected, "x: %s expected, found null", names[i]);
        ASSERT_RULE(types[i], "null", expected);
    }
    ASSERT_RULE("any", "null", "passed");
    ASSERT_RULE("integer", "\"1\"", "x: an integer expected, found a string");
    ASSERT_SAID("timestamp =\nfield.x = any\n", "{}", "no field \"x\"");
}

static void test_optional(void **state)
{
    const char *ini = "timestamp =\nfield.x = number optional 0 to 5\nfield.y = string   optional\n";

    (void)state;
    ASSERT_PASSED(ini, "{}");
    ASSERT_PASSED(ini, "{\"x\":null,\"y\":null}");
    ASSERT_PASSED(ini, "{\"x\":5,\"y\":\"\"}");
    ASSERT_SAID(ini, "{\"x\":6}", "x: 6 is above 5");
    ASSERT_SAID(ini, "{\"y\":6}", "y: a string expected, found a number");
}

/* What is written with a point or an exponent is no integer, whatever its value. */
static void test_integers(void **state)
{
    (void)state;
    ASSERT_RULE("integer", "0", "passed");
    ASSERT_RULE("integer", "-0", "passed");
    ASSERT_RULE("integer", "123456789012345678901234567890", "passed");
    ASSERT_RULE("integer", "1.0", "x: an integer expected, found 1.0");
    ASSERT_RULE("integer", "1e3", "x: an integer expected, found 1e3");
    ASSERT_RULE("integer -5 to 7", "-5", "passed");
    ASSERT_RULE("integer -5 to 7", "7", "passed");
    ASSERT_RULE("integer -5 to 7", "8", "x: 8 is above 7");
    ASSERT_RULE("integer -5 to 7", "-6", "x: -6 is below -5");
}

static void test_numbers_are_compared_exactly(void **state)
{
    (void)state;
    ASSERT_RULE("number 0 to 300", "1e400", "x: 1e400 is above 300");
    ASSERT_RULE("number 0 to 300", "-1E+400", "x: -1E+400 is below 0");
    ASSERT_RULE("number 0 to 300", "1e-400", "passed");
    ASSERT_RULE("number 0 to 300", "-1e-400", "x: -1e-400 is below 0");
    ASSERT_RULE("number 0 to 300", "0e99999999999999999999", "passed");
    ASSERT_RULE("number 0 to 300", "1e99999999999999999999", "x: 1e99999999999999999999 is above 300");
    ASSERT_RULE("number 0 to 300", "1e-99999999999999999999", "passed");
    ASSERT_RULE("number 0 to 300", "-0.0", "passed");
    ASSERT_RULE("number 0 to 300", "3e2", "passed");
    ASSERT_RULE("number 0 to 300", "30000e-2", "passed");
    ASSERT_RULE("number 0 to 300", "0.0000000003e12", "passed");
    ASSERT_RULE("number 0 to 300", "300.00000000000000000000000001", "x: 300.00000000000000000000000001 is above 300");
    ASSERT_RULE("number 0.1 to 0.3", "0.1", "passed");
    ASSERT_RULE("number 0.1 to 0.3", "0.0999999999999999999999", "x: 0.0999999999999999999999 is below 0.1");
    ASSERT_RULE("number -1e3 to -10", "-9.99", "x: -9.99 is above -10");
    ASSERT_RULE("number -1e3 to -10", "-1000.5", "x: -1000.5 is below -1e3");
    ASSERT_RULE("integer 0 to 9007199254740992", "9007199254740993", "x: 9007199254740993 is above 9007199254740992");
    ASSERT_RULE("integer 0 to 9999999999999999999", "9999999999999999999", "passed");
    ASSERT_RULE("integer 0 to 9999999999999999999", "10000000000000000000",
                "x: 10000000000000000000 is above 9999999999999999999");
}

static void test_strings(void **state)
{
    (void)state;
    ASSERT_RULE("string 2 to 3", "\"ab\"", "passed");
    ASSERT_RULE("string 2 to 3", "\"\xc3\xa9\"", "passed");
    ASSERT_RULE("string 2 to 3", "\"a\"", "x: a string of 2 to 3 bytes expected, found one of 1");
    ASSERT_RULE("string 2 to 3", "\"\xc3\xa9\xc3\xa9\"", "x: a string of 2 to 3 bytes expected, found one of 4");
    ASSERT_RULE("string one of idle, in motion ,x", "\"idle\"", "passed");
    ASSERT_RULE("string one of idle, in motion ,x", "\"in motion\"", "passed");
    ASSERT_RULE("string one of idle, in motion ,x", "\"\\u0078\"", "passed");
    ASSERT_RULE("string optional one of idle, x", "null", "passed");
    ASSERT_RULE("string one of idle, x", "\"idl\"", "x: \"idl\" is none of idle, x");
    ASSERT_RULE("string one of idle, x", "\"\"", "x: \"\" is none of idle, x");
    ASSERT_RULE("string", "\"a\xc3\"", "x: \"a?\" is no UTF-8");
    ASSERT_RULE("string", "\"\xed\xa0\x80\"", "x: \"???\" is no UTF-8"); /* half a surrogate pair */
    ASSERT_RULE("any", "\"\xff\"", "passed");
}

static void test_nested_fields(void **state)
{
    const char *ini =
        "timestamp =\nunknown = reject\nfield.position.lat = number -90 to 90\nfield.axles.1.load = number\n";

    (void)state;
    ASSERT_PASSED(ini, "{\"axles\":[{},{\"load\":4}],\"position\":{\"lat\":48.1,\"lon\":16}}");
    ASSERT_SAID(ini, "{\"axles\":[{},{\"load\":4}],\"position\":{\"lat\":98.1}}", "position.lat: 98.1 is above 90");
    ASSERT_SAID(ini, "{\"axles\":[{\"load\":4}],\"position\":{\"lat\":8}}", "no field \"axles.1.load\"");
    ASSERT_SAID(ini, "{\"axles\":3,\"position\":7}", "no field \"position.lat\"");
}

/* Nothing of a value may break the line or the encoding of the reason. */
static void test_values_are_shortened(void **state)
{
    char value[1000] = "1";

    (void)state;
    memset(value + 1, '0', 900);
    ASSERT_RULE("number 0 to 1", value, "x: 1000000000000000000000000000000000000000... is above 1");
    ASSERT_RULE("string one of a", "\"\\n\\u0000\\u001b[2J\xff\xc3\"", "x: \"???[2J??\" is no UTF-8");
    ASSERT_RULE("string one of a", "\"123456789012345678901234567890123456789\xe2\x82\xac\xe2\x82\xac\"",
                "x: \"123456789012345678901234567890123456789\xe2\x82\xac...\" is none of a");
    ASSERT_SAID("unknown = reject\n", mission_with("{", "{\"\xed\xa0\x80\":1,"), "unknown field \"???\"");
}

/* -------------------------------------------------------------------------------------------------------------- keys */

static void test_unknown_fields(void **state)
{
    (void)state;
    ASSERT_PASSED("unknown = reject\n", MISSION);
    ASSERT_PASSED("unknown = allow\n", mission_with("}", ",\"x\":1}"));
    ASSERT_SAID("unknown = reject\n", mission_with("}", ",\"x\":1}"), "unknown field \"x\"");
    ASSERT_SAID("unknown = reject\n", mission_with("}", ",\"\":1}"), "unknown field \"\"");
    ASSERT_PASSED("unknown = reject\n", mission_with("\"speed\"", "\"sp\\u0065ed\""));
    ASSERT_PASSED("unknown = reject\nfield.a = any\n", "{\"a\":1,\"timestamp\":3}");
}

static void test_a_key_that_stands_twice(void **state)
{
    (void)state;
    ASSERT_SAID("", mission_with("}", ",\"speed\":1}"), "the field \"speed\" stands twice");
    ASSERT_SAID("", mission_with("}", ",\"s\\u0070eed\":1}"), "the field \"speed\" stands twice");
    ASSERT_SAID("", mission_with("}", ",\"x\":1,\"y\":1,\"x\":2}"), "the field \"x\" stands twice");
    ASSERT_SAID("", mission_with("}", ",\"\\u0078\":1,\"\\u0079\":1,\"\\u0078\":2}"), "the field \"x\" stands twice");
    ASSERT_SAID("", mission_with("}", ",\"\":1,\"\":2}"), "the field \"\" stands twice");
    ASSERT_PASSED("", mission_with("}", ",\"x\":{\"speed\":1,\"a\":1,\"a\":2}}")); /* further down is not looked at */
}

/* Many keys of one object, alike in all but their middles, half with an escape, and the same again in the next. */
static void test_many_fields(void **state)
{
    static char payload[200000];
    struct fake *f = fake_open("fms_check", FMS_TRANSFORM, "timestamp =\nfield.a = any\nmax_fields = 3001\n");
    size_t used = (size_t)sprintf(payload, "{\"a\":1");

    (void)state;
    for (int i = 0; i < 3000; i++)
        used += (size_t)sprintf(payload + used, ",\"measurement_%04d_temperatur%s\":%d", i,
                                i % 2 == 0 ? "e" : "\\u0065", i);
    strcpy(payload + used, "}");
    fake_add(f, "t", "k", payload);
    fake_add(f, "t", "k", payload);
    strcpy(payload + used, ",\"measurement_0000_temperature\":1}");
    fake_add(f, "t", "k", payload);
    strcpy(payload + used, ",\"one more\":1}");
    fake_add(f, "t", "k", payload);
    fake_add(f, "t", "k", "{\"a\":1}");
    assert_int_equal(fake_write(f), 5);
    assert_int_equal(fake_fate(f, 0), FAKE_PASSED);
    assert_int_equal(fake_fate(f, 1), FAKE_PASSED);
    assert_string_equal(fake_reason(f, 2), "the field \"measurement_0000_temperature\" stands twice");
    assert_string_equal(fake_reason(f, 3), "more than 3001 fields");
    assert_int_equal(fake_fate(f, 4), FAKE_PASSED);
    fake_close(f);
}

/* -------------------------------------------------------------------------------------------------------------- time */

static void test_age(void **state)
{
    const char *ini = "max_age = 1h\nmax_ahead = 1.5s\n";

    (void)state;
    ASSERT_PASSED(ini, MISSION);
    ASSERT_PASSED(ini, mission_with("1763320419", "1763316819"));
    ASSERT_SAID(ini, mission_with("1763320419", "1763316818"),
                "timestamp: 1763316818 is 3601.000 s ago; max_age is 3600.000 s");
    ASSERT_PASSED(ini, mission_with("1763320419", "1763320420"));
    ASSERT_SAID(ini, mission_with("1763320419", "1763320421"),
                "timestamp: 1763320421 is 2.000 s ahead; max_ahead is 1.500 s");
    ASSERT_SAID(ini, mission_with("1763320419", "-99999999999"),
                "timestamp: -99999999999 is 101763320418.000 s ago; max_age is 3600.000 s");
    ASSERT_SAID(ini, mission_with("1763320419", "99999999999"),
                "timestamp: 99999999999 is 98236679580.000 s ahead; max_ahead is 1.500 s");
    ASSERT_SAID("max_age = 1h\nfield.timestamp = number\n", "{\"timestamp\":1e-13}",
                "timestamp: 1e-13 is 1763320419.000 s ago; max_age is 3600.000 s");
    ASSERT_PASSED("max_age = 1h\n", mission_with("1763320419", "9999999999"));
    ASSERT_PASSED("max_ahead = 1h\n", mission_with("1763320419", "0"));
}

/* Of a field of one's own; with an age to be judged it has to be there. */
static void test_time_by_path(void **state)
{
    const char *ini = "field.a = any\ntimestamp = at.time\nmax_age = 1s\n";

    (void)state;
    ASSERT_PASSED(ini, "{\"a\":1,\"at\":{\"time\":1763320418.25}}");
    ASSERT_SAID(ini, "{\"a\":1,\"at\":{\"time\":1763320417.25}}",
                "at.time: 1763320417.25 is 1.750 s ago; max_age is 1.000 s");
    ASSERT_SAID(ini, "{\"a\":1}", "no field \"at.time\"");
    ASSERT_SAID(ini, "{\"a\":1,\"at\":{\"time\":\"x\"}}", "at.time: a number expected, found a string");
    ASSERT_PASSED("field.timestamp = integer optional\nmax_age = 1s\n", "{}");
    ASSERT_PASSED("field.a = any\n", "{\"a\":1}");
    ASSERT_PASSED("field.a = any\n", "{\"a\":1,\"timestamp\":\"2025-11-16T19:13:39Z\"}");
}

/* Each unit where it begins and ends; a difference is told as it is, however large. */
static void test_other_units(void **state)
{
    const char *payload = mission_with("1763320419", "1763320419999");
    const char *ini = "other_units = allow\nmax_age = 1s\nmax_ahead = 1s\nfield.timestamp = number\n";

    (void)state;
    ASSERT_SAID("", payload, "timestamp: 1763320419999 must be milliseconds; seconds expected");
    ASSERT_SAID("other_units = repair\n", payload, MISSION);
    ASSERT_PASSED("other_units = allow\n", payload);
    ASSERT_PASSED("timestamp =\n", payload);
    ASSERT_PASSED("", mission_with("1763320419", "99999999999"));
    ASSERT_SAID("", mission_with("1763320419", "100000000000"),
                "timestamp: 100000000000 must be milliseconds; seconds expected");
    ASSERT_SAID("", mission_with("1763320419", "99999999999999"),
                "timestamp: 99999999999999 must be milliseconds; seconds expected");
    ASSERT_SAID("", mission_with("1763320419", "100000000000000"),
                "timestamp: 100000000000000 must be microseconds; seconds expected");
    ASSERT_SAID("", mission_with("1763320419", "1763320419123456789"),
                "timestamp: 1763320419123456789 must be nanoseconds; seconds expected");
    ASSERT_SAID("", mission_with("1763320419", "-1763320419000"),
                "timestamp: -1763320419000 must be milliseconds; seconds expected");
    ASSERT_SAID("other_units = allow\n", mission_with("1763320419", "100000000000000000000"),
                "timestamp: 100000000000000000000 is no Unix time, in whatever unit");
    ASSERT_SAID("field.timestamp = number\n", "{\"timestamp\":-1e30}",
                "timestamp: -1e30 is no Unix time, in whatever unit");
    ASSERT_PASSED(ini, "{\"timestamp\":1763320419}");
    ASSERT_PASSED(ini, "{\"timestamp\":1763320418000}");
    ASSERT_PASSED(ini, "{\"timestamp\":1763320420000000}");
    ASSERT_PASSED(ini, "{\"timestamp\":1763320419000000000}");
    ASSERT_SAID(ini, "{\"timestamp\":1763320417999}", "timestamp: 1763320417999 is 1.001 s ago; max_age is 1.000 s");
    ASSERT_SAID(ini, "{\"timestamp\":1763320420000001}",
                "timestamp: 1763320420000001 is 1.000 s ahead; max_ahead is 1.000 s");
    ASSERT_SAID(ini, "{\"timestamp\":-9e18}", "timestamp: -9e18 is 10763320419.000 s ago; max_age is 1.000 s");
    ASSERT_SAID(ini, "{\"timestamp\":99999999999999999999}",
                "timestamp: 99999999999999999999 is 98236679580.999 s ahead; max_ahead is 1.000 s");
    ASSERT_SAID("other_units = repair\n", mission_with("1763320419", "1763320419999999"), MISSION);
    ASSERT_SAID("other_units = repair\n", mission_with("1763320419", "1763320419123456789"), MISSION);
}

static void test_iso8601(void **state)
{
    const char *iso = mission_with("1763320419", "\"2025-11-16T20:13:39.75+01:00\"");
    const char *repair = "iso8601 = repair\nmax_age = 1s\nfield.timestamp = integer\nfield.a = any\n";
    const char *allow = "iso8601 = allow\nmax_age = 1s\nmax_ahead = 1s\nfield.timestamp = any\n";

    (void)state;
    ASSERT_SAID("", iso, "timestamp: an integer expected, found a string");
    ASSERT_SAID("iso8601 = repair\n", iso, MISSION);
    ASSERT_SAID(repair, "{ \"timestamp\" : \"2025-11-16T19:13:39\\u005a\" , \"a\":1}",
                "{ \"timestamp\" : 1763320419 , \"a\":1}");
    ASSERT_PASSED(repair, "{\"timestamp\":1763320419,\"a\":1}");
    ASSERT_SAID(repair, "{\"timestamp\":\"2025-11-16T19:13:37.5Z\",\"a\":1}",
                "timestamp: 2025-11-16T19:13:37.5Z is 1.500 s ago; max_age is 1.000 s");
    ASSERT_SAID(repair, "{\"timestamp\":\"2025-02-29T00:00:00Z\",\"a\":1}",
                "timestamp: \"2025-02-29T00:00:00Z\" is no time: February 2025 has no day 29");
    ASSERT_SAID(repair, "{\"timestamp\":\"1763320419\",\"a\":1}",
                "timestamp: \"1763320419\" is no time: - expected at byte 4");
    ASSERT_SAID("iso8601 = repair\nfield.timestamp = integer 0 to 5\n", "{\"timestamp\":\"1970-01-01T00:00:06Z\"}",
                "timestamp: 6 is above 5");
    ASSERT_PASSED(allow, "{\"timestamp\":\"2025-11-16T19:13:39Z\"}");
    ASSERT_PASSED(allow, "{\"timestamp\":1763320419}");
    ASSERT_SAID(allow, "{\"timestamp\":null}", "timestamp: a time expected, found null");
    ASSERT_PASSED("iso8601 = allow\nmax_age = 1s\nfield.timestamp = any optional\n", "{\"timestamp\":null}");
    ASSERT_PASSED("iso8601 = allow\nfield.timestamp = any\n", "{\"timestamp\":null}");
    ASSERT_SAID(allow, "{\"timestamp\":\"0000-01-01T00:00:00Z\"}",
                "timestamp: 0000-01-01T00:00:00Z is 63930539619.000 s ago; max_age is 1.000 s");
    ASSERT_SAID(allow, "{\"timestamp\":\"now\"}", "timestamp: \"now\" is no time: a digit expected at byte 0");
    ASSERT_SAID(allow, "{\"timestamp\":[]}", "timestamp: a time expected, found an array");
    ASSERT_SAID("iso8601 = allow\nmax_age = 1s\nfield.a = any\n", "{\"a\":1}", "no field \"timestamp\"");
}

/* All but the number stays as it stood; the rule is for what stands there in the end. */
static void test_repair(void **state)
{
    const char *ini = "other_units = repair\nmax_age = 1s\nfield.timestamp = integer 1e9 to 2e9\nfield.a = any\n";

    (void)state;
    ASSERT_SAID(ini, "\t{ \"a\" : [1, 2] ,\"timestamp\" :\r\n 1763320419001 , \"z\":\"\\u00e9\" } ",
                "\t{ \"a\" : [1, 2] ,\"timestamp\" :\r\n 1763320419 , \"z\":\"\\u00e9\" } ");
    ASSERT_SAID(ini, "{\"a\":1,\"timestamp\":1.763320419e12}", "{\"a\":1,\"timestamp\":1763320419}");
    ASSERT_SAID(ini, "{\"timestamp\":1763320419000}", "no field \"a\"");
    ASSERT_SAID(ini, "{\"a\":1,\"timestamp\":100000000000}",
                "timestamp: 100000000000 is 1663320419.000 s ago; max_age is 1.000 s");
    ASSERT_SAID("other_units = repair\nfield.timestamp = integer 1e9 to 2e9\n", "{\"timestamp\":100000000000}",
                "timestamp: 100000000 is below 1e9");
    ASSERT_SAID("other_units = repair\ntimestamp = at.0\nfield.a = any\n", "{\"at\":[1763320419000],\"a\":1}",
                "{\"at\":[1763320419],\"a\":1}");
}

static void test_repaired_record_keeps_the_rest(void **state)
{
    struct fms_header header = {"h", {"v", 1}};
    struct fms_record draft = {.topic = {"fms/data", 8},
                               .key = {"k", 1},
                               .payload = fms_text("{\"timestamp\":1763320419000}"),
                               .headers = &header,
                               .header_count = 1,
                               .timestamp = 7,
                               .tag = {1, 2}};
    struct fake *f = fake_open("fms_check", FMS_TRANSFORM, "other_units = repair\nfield.timestamp = integer\n");
    const struct fms_record *child;

    (void)state;
    fake_add_record(f, &draft);
    fake_add_record(f, &draft);
    fake_capacity(f, 1);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_counter(f, "repaired"), 1);
    fake_capacity(f, 2); /* there is room again */
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_counter(f, "repaired"), 2);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 2);
    for (size_t i = 0; i < 2; i++) {
        child = fake_record(f, i);
        assert_int_equal(fake_parent(f, i), i);
        assert_string_equal(child->topic.data, "fms/data");
        assert_string_equal(child->key.data, "k");
        assert_string_equal(child->payload.data, "{\"timestamp\":1763320419}");
        assert_int_equal(child->header_count, 1);
        assert_string_equal(child->headers[0].name, "h");
        assert_string_equal(child->headers[0].value.data, "v");
        assert_int_equal(child->timestamp, 7);
        assert_int_equal(child->tag[1], 2);
    }
    fake_close(f);
}

/* ----------------------------------------------------------------------------------------------------- configuration */

static void test_bad_rules(void **state)
{
    static const char *const rules[][2] = {
        {"nmber", "column 1: expected number, integer, string, boolean, object, array or any, found \"nmber\""},
        {"Number", "column 1: expected number,"},
        {"", "column 1: expected number, integer, string, boolean, object, array or any, found the end"},
        {"number 0..300", "column 8: expected a number of at most 19 digits, as in 0 to 300, found \"0..300\""},
        {"number up to 5", "column 8: expected \"optional\" or a range such as 0 to 300, found \"up\""},
        {"number optional up", "column 17: expected a range such as 0 to 300, found \"up\""},
        {"number 0", "column 9: expected \"to\", as in 0 to 300, found the end"},
        {"number 0 300", "column 10: expected \"to\", as in 0 to 300, found \"300\""},
        {"number 0 to", "column 12: expected a number of at most 19 digits, as in 0 to 300, found the end"},
        {"number 0 to many", "column 13: expected a number of at most 19 digits, as in 0 to 300, found \"many\""},
        {"number 0 to 1,5", "column 13: expected a number of at most 19 digits, as in 0 to 300, found \"1,5\""},
        {"number 0 to 01", "column 13: expected a number of at most 19 digits, as in 0 to 300, found \"01\""},
        {"number 0 to 12345678901234567891", "column 13: expected a number of at most 19 digits, as in 0 to 300"},
        {"number 5 to 4.9", "column 8: expected the smaller number before the larger, found \"5\""},
        {"number 0 to 5 optional", "column 15: expected nothing more, found \"optional\""},
        {"number one of 1, 2", "column 8: expected \"optional\" or a range such as 0 to 300, found \"one\""},
        {"string -1 to 5", "column 8: expected a length in bytes, from 0, found \"-1\""},
        {"string 0 to 5.5", "column 13: expected a length in bytes, from 0, found \"5.5\""},
        {"string long",
         "column 8: expected \"optional\", a range of bytes such as 1 to 255, or \"one of\" and choices"},
        {"string one of", "column 14: expected a choice, as in one of idle, driving, found the end"},
        {"string one of a,,b", "column 17: expected a choice, as in one of idle, driving, found \",b\""},
        {"string one of a, ", "expected a choice, as in one of idle, driving, found the end"},
        {"string one of \xc3\xa9, , b", "column 18: expected a choice"},
        {"boolean 0 to 1", "column 9: expected \"optional\" or nothing more, found \"0\""},
        {"any optional x", "column 14: expected nothing more, found \"x\""},
    };
    char ini[256];

    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        snprintf(ini, sizeof ini, "field.a = any\nfield.x = %s\n", rules[i][0]);
        expect_refusal("fms_check", FMS_TRANSFORM, ini, rules[i][1]);
        expect_refusal("fms_check", FMS_TRANSFORM, ini, "error: field.x: ");
    }
}

static void test_bad_configuration(void **state)
{
    (void)state;
    expect_refusal("fms_check", FMS_TRANSFORM, "field.a..b = any\n", "error: field.a..b: \"a..b\" is no path");
    expect_refusal("fms_check", FMS_TRANSFORM, "timestamp = a.\n", "error: timestamp: \"a.\" is no path");
    expect_refusal("fms_check", FMS_TRANSFORM, "timestamp =\nmax_age = 1s\n", "error: timestamp: is empty");
    expect_refusal("fms_check", FMS_TRANSFORM, "timestamp =\nmax_ahead = 1s\n", "error: timestamp: is empty");
    expect_refusal("fms_check", FMS_TRANSFORM, "timestamp =\nother_units = repair\n", "error: timestamp: is empty");
    expect_refusal("fms_check", FMS_TRANSFORM, "timestamp =\niso8601 = allow\n", "error: timestamp: is empty");
    expect_refusal("fms_check", FMS_TRANSFORM, "field.timestamp = string\nmax_age = 1s\n",
                   "error: field.timestamp: the rule of the time (timestamp = timestamp) must be number or integer");
    expect_refusal("fms_check", FMS_TRANSFORM, "field.timestamp = any\niso8601 = repair\n",
                   "error: field.timestamp: the rule of the time (timestamp = timestamp) must be number or integer");
    expect_refusal("fms_check", FMS_TRANSFORM, "iso8601 = allow\n",
                   "the rule of the time (timestamp = timestamp) must be any or string");
}

static void test_rejections_are_counted_by_fault(void **state)
{
    static const struct {
        const char *ini, *payload, *fault;
    } cases[] = {
        {"", MISSION, NULL},
        {"", "[]", "rejected_payload"},
        {"", "{\"speed\":", "rejected_payload"},
        {"unknown = reject\nfield.speed = number\n", "{\"speed\":1,\"timestamp\":1763320419,\"x\":1}", "rejected_keys"},
        {"", "{\"speed\":1,\"speed\":1}", "rejected_keys"},
        {"max_fields = 1\n", "{\"speed\":1,\"rpm\":1}", "rejected_keys"},
        {"", "{\"speed\":1}", "rejected_missing"},
        {"field.speed = number 0 to 300\n", "{\"speed\":301}", "rejected_field"},
        {"field.speed = number 0 to 300\n", "{\"speed\":\"1\"}", "rejected_field"},
        {"field.speed = number\n", "{\"speed\":1,\"timestamp\":1763320419000}", "rejected_time"},
        {"field.speed = number\nmax_age = 1s\n", "{\"speed\":1,\"timestamp\":7}", "rejected_time"},
        {"field.speed = number\nmax_age = 1s\n", "{\"speed\":1}", "rejected_missing"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check(cases[i].ini, cases[i].payload);
        if (cases[i].fault == NULL ? fault != NULL : fault == NULL || strcmp(fault, cases[i].fault) != 0)
            fail_msg("case %zu: %s, not %s (%s)", i, fault, cases[i].fault, said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rejections_are_counted_by_fault),
        cmocka_unit_test(test_mission),
        cmocka_unit_test(test_mission_lacks_a_field),
        cmocka_unit_test(test_mission_out_of_range),
        cmocka_unit_test(test_length_of_strings),
        cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_optional),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_numbers_are_compared_exactly),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_nested_fields),
        cmocka_unit_test(test_values_are_shortened),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_a_key_that_stands_twice),
        cmocka_unit_test(test_many_fields),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_time_by_path),
        cmocka_unit_test(test_other_units),
        cmocka_unit_test(test_iso8601),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_repaired_record_keeps_the_rest),
        cmocka_unit_test(test_bad_rules),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
