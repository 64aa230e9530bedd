/* test_json_map.c - what becomes of the fields, to the byte, and options that contradict each other. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

static char said[4096];

/* The payload that a record with this one and this topic leaves with; "passed" where it passes as it is; or why it was
 * rejected. */
static const char *map_topic(const char *ini, const char *topic, const char *payload)
{
    struct fake *f = fake_open("json_map", FMS_TRANSFORM, ini);

    fake_add(f, topic, "k", payload);
    assert_int_equal(fake_write(f), 1);
    if (fake_fate(f, 0) == FAKE_PASSED)
        snprintf(said, sizeof said, "passed");
    else if (fake_fate(f, 0) == FMS_REJECTED)
        snprintf(said, sizeof said, "%s", fake_reason(f, 0));
    else
        snprintf(said, sizeof said, "%s", (const char *)fake_record(f, 0)->payload.data);
    assert_int_equal(fake_counter(f, "rejected_payload"), strncmp(said, "the payload is no JSON object: ", 31) == 0);
    assert_int_equal(fake_counter(f, "rejected_payload") + fake_counter(f, "rejected_field"),
                     fake_fate(f, 0) == FMS_REJECTED);
    fake_close(f);
    return said;
}

#define ASSERT_MAPPED(ini, payload, expected) assert_string_equal(map_topic(ini, "fms/raspi-001", payload), expected)

/* ------------------------------------------------------------------------------------------------------ keep and drop */

static void test_drop(void **state)
{
    const char *ini = "drop = a, b\n";

    (void)state;
    ASSERT_MAPPED(ini, "{\"a\":1,\"c\":2}", "{\"c\":2}");
    ASSERT_MAPPED(ini, "{\"c\":2,\"a\":1}", "{\"c\":2}");
    ASSERT_MAPPED(ini, "{\"c\":2,\"a\":1,\"d\":3}", "{\"c\":2,\"d\":3}");
    ASSERT_MAPPED(ini, "{\"a\":1,\"b\":1,\"c\":2,\"a\":3,\"b\":3,\"d\":4,\"a\":5}", "{\"c\":2,\"d\":4}");
    ASSERT_MAPPED(ini, "{\"a\":{\"x\":[1,\"}\"]},\"b\":\"\\\"\"}", "{}");
    ASSERT_MAPPED(ini, "{\"\\u0061\":1,\"c\":2}", "{\"c\":2}");
}

static void test_keep(void **state)
{
    const char *ini = "keep = a, b\n";

    (void)state;
    ASSERT_MAPPED(ini, "{\"x\":0,\"b\":1,\"y\":0,\"z\":0,\"a\":2,\"x\":0}", "{\"b\":1,\"a\":2}");
    ASSERT_MAPPED(ini, "{\"x\":0}", "{}");
    ASSERT_MAPPED(ini, "{\"a\":1,\"a\":2}", "{\"a\":2}");
    ASSERT_MAPPED(ini, "{\"aa\":1,\"\":2,\"\\u0062\":3}", "{\"\\u0062\":3}");
}

/* Untouched is untouched: to the byte, and the record itself. */
static void test_untouched(void **state)
{
    static const char *const payloads[] = {"{}", " { } ",
                                           "{\"x\" : 1.50,\r\n\t\"x\":1e400, \"\\u0061b\":\"\\u00e9\"}\n"};

    (void)state;
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        ASSERT_MAPPED("drop = a\nrename.b = c\nconvert.d = number\n", payloads[i], "passed");
        ASSERT_MAPPED("drop = a\n", payloads[i], "passed");
    }
    ASSERT_MAPPED("keep = a\n", "{\"a\":1}", "passed");
    ASSERT_MAPPED("set.a = v\n", "{\"a\":\"v\"}", "passed");
    ASSERT_MAPPED("rename.a = a\n", "{\"a\":1}", "passed");
    ASSERT_MAPPED("convert.a = number\nconvert.b = string\nconvert.c = boolean\nconvert.d = integer\n",
                  "{\"a\":1.50,\"b\":\"\\n\",\"c\":false,\"d\":-12345678901234567890123}", "passed");
}

/* The blanks of what stays stay too. */
static void test_form(void **state)
{
    (void)state;
    ASSERT_MAPPED("drop = b\n", "\n{\n  \"a\" : 1 ,\n  \"b\" : 2 ,\n  \"c\" : [ 3 ]\n}\n",
                  "\n{\n  \"a\" : 1 ,\n  \"c\" : [ 3 ]\n}\n");
    ASSERT_MAPPED("drop = a\n", "{\n  \"a\" : 1 ,\n  \"b\" : 2.50\n}", "{\n  \"b\" : 2.50\n}");
    ASSERT_MAPPED("drop = b\n", "{\n  \"a\" : 1 ,\n  \"b\" : 2\n}", "{\n  \"a\" : 1\n}");
    ASSERT_MAPPED("rename.a = z\n", "{ \"a\" : 1e400 , \"b\" : 2 }", "{ \"z\" : 1e400 , \"b\" : 2 }");
    ASSERT_MAPPED("set.z = v\n", "{ \"a\" : 1 }", "{ \"a\" : 1,\"z\":\"v\" }");
}

/* ------------------------------------------------------------------------------------------------------------- rename */

static void test_rename(void **state)
{
    (void)state;
    ASSERT_MAPPED("rename.a = b\n", "{\"a\":\"\\u0041\",\"c\":2}", "{\"b\":\"\\u0041\",\"c\":2}");
    ASSERT_MAPPED("rename.a = b\n", "{\"\\u0061\":1}", "{\"b\":1}");
    ASSERT_MAPPED("rename.a = \"say \\\"hi\\\" \\\\\"\n", "{\"a\":1}", "{\"say \\\"hi\\\" \\\\\":1}");
    ASSERT_MAPPED("rename.a = b\nrename.b = a\n", "{\"a\":1,\"b\":2}", "{\"b\":1,\"a\":2}");
    ASSERT_MAPPED("rename.a = b\nrename.b = c\n", "{\"a\":1,\"b\":2}", "{\"b\":1,\"c\":2}");
    ASSERT_MAPPED("rename.a.b = c\n", "{\"a.b\":1,\"a\":{\"b\":2}}", "{\"c\":1,\"a\":{\"b\":2}}");
    ASSERT_MAPPED("keep = a\nrename.a = b\n", "{\"b\":1,\"a\":2}", "{\"b\":2}");
    ASSERT_MAPPED("drop = b\nrename.a = b\n", "{\"b\":1}", "{}");
}

static void test_rename_replaces(void **state)
{
    const char *ini = "rename.a = b\n";

    (void)state;
    ASSERT_MAPPED(ini, "{\"a\":1,\"x\":0,\"b\":2}", "{\"b\":1,\"x\":0}");
    ASSERT_MAPPED(ini, "{\"b\":2,\"x\":0,\"a\":1}", "{\"x\":0,\"b\":1}");
    ASSERT_MAPPED(ini, "{\"b\":2,\"a\":0,\"b\":3,\"a\":1,\"b\":4}", "{\"b\":1}");
    ASSERT_MAPPED(ini, "{\"b\":2,\"b\":3}", "{\"b\":3}");
}

/* ---------------------------------------------------------------------------------------------------------------- set */

static void test_set(void **state)
{
    (void)state;
    ASSERT_MAPPED("set.v = ${topic[1]}\n", "{}", "{\"v\":\"raspi-001\"}");
    ASSERT_MAPPED("set.v = ${topic[1]}\nset.k = ${key}\n", "{\"a\":1}", "{\"a\":1,\"v\":\"raspi-001\",\"k\":\"k\"}");
    ASSERT_MAPPED("set.a = x\n", "{\"a\":{\"b\":1},\"c\":2}", "{\"a\":\"x\",\"c\":2}");
    ASSERT_MAPPED("set.a = x\n", "{\"a\":1,\"c\":2,\"a\":3}", "{\"c\":2,\"a\":\"x\"}");
    ASSERT_MAPPED("drop = a\nset.a = x\n", "{\"a\":1,\"c\":2}", "{\"c\":2,\"a\":\"x\"}");
    ASSERT_MAPPED("keep = c\nset.a = x\n", "{\"a\":1,\"d\":2}", "{\"a\":\"x\"}");
    ASSERT_MAPPED("rename.a = b\nset.b = x\nset.a = y\n", "{\"a\":1}", "{\"b\":\"x\",\"a\":\"y\"}");
    ASSERT_MAPPED("drop = a\nset.b = ${json:a}/${json:c.d}\n", "{\"a\":1.50,\"c\":{\"d\":true}}",
                  "{\"c\":{\"d\":true},\"b\":\"1.50/true\"}");
    ASSERT_MAPPED("set.b = ${json:a}\n", "{\"c\":1}", "set.b: no field \"a\" in the payload");
    ASSERT_MAPPED("set.b = ${json:a:-none}\n", "{\"c\":1}", "{\"c\":1,\"b\":\"none\"}");
    ASSERT_MAPPED("set.b =\n", "{}", "{\"b\":\"\"}");
}

static void test_set_escapes(void **state)
{
    (void)state;
    ASSERT_MAPPED("set.b = ${json:a}\ndrop = a\n", "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\\u20ac\"}",
                  "{\"b\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xe2\x82\xac\"}");
    assert_string_equal(map_topic("set.t = ${topic}\n", "a\xff\xc3z\xed\xa0\x80\xf0\x9f\x98\x80\xe2\x82", "{}"),
                        "{\"t\":\"a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80"
                        "\xef\xbf\xbd\xef\xbf\xbd\"}");
}

/* ------------------------------------------------------------------------------------------------------------ convert */

struct conversion {
    const char *type, *value, *expected;
};

static void test_convert(void **state)
{
    static const struct conversion conversions[] = {
        {"string", "1.50", "\"1.50\""},
        {"string", "-1e400", "\"-1e400\""},
        {"string", "true", "\"true\""},
        {"string", "null", NULL},
        {"number", "\"-1.50E+3\"", "-1.50E+3"},
        {"number", "\"12345678901234567890123\"", "12345678901234567890123"},
        {"number", "\"\\u0031\"", "1"},
        {"number", "null", NULL},
        {"integer", "\"17\"", "17"},
        {"integer", "1316.0", "1316"},
        {"integer", "-1.5e3", "-1500"},
        {"integer", "\"-2e0\"", "-2"},
        {"integer", "1e18", "1000000000000000000"},
        {"integer", "9999999999999999999.0", "9999999999999999999"},
        {"integer", "0e400", "0"},
        {"integer", "-0.0", "0"},
        {"integer", "null", NULL},
        {"boolean", "\"true\"", "true"},
        {"boolean", "\"f\\u0061lse\"", "false"},
        {"boolean", "1", "true"},
        {"boolean", "0", "false"},
        {"boolean", "null", NULL},
        {"iso8601", "1763320419", "\"2025-11-16T19:13:39Z\""},
        {"iso8601", "1763320419.1", "\"2025-11-16T19:13:39.100Z\""},
        {"iso8601", "1763320419123", "\"2025-11-16T19:13:39.123Z\""},
        {"iso8601", "1763320419123456", "\"2025-11-16T19:13:39.123456Z\""},
        {"iso8601", "1763320419123456789", "\"2025-11-16T19:13:39.123456789Z\""},
        {"iso8601", "\"1763320419\"", "\"2025-11-16T19:13:39Z\""},
        {"iso8601", "\"2025-11-16T20:13:39.5+01:00\"", "\"2025-11-16T19:13:39.500Z\""},
        {"iso8601", "-0.5", "\"1969-12-31T23:59:59.500Z\""},
        {"iso8601", "\"2025-11-16T19:13:39Z\"", NULL},
        {"iso8601", "null", NULL},
        {"unix", "\"2025-11-16T19:13:39.999\\u005a\"", "1763320419"},
        {"unix", "\"2016-12-31T23:59:60Z\"", "1483228800"},
        {"unix", "1763320419.999", "1763320419"},
        {"unix", "1763320419", NULL},
        {"unix_ms", "\"2025-11-16T19:13:39.1Z\"", "1763320419100"},
        {"unix_ms", "1763320419.007", "1763320419007"},
        {"unix_us", "1763320419007", "1763320419007000"},
        {"unix_ns", "1763320419.123456789", "1763320419123456789"},
        {"unix_ns", "\"9999-12-31T23:59:59.999999999Z\"", "253402300799999999999"},
        {"unix_ms", "-0.5", "-500"},
    };
    char ini[64], payload[128], expected[128];

    (void)state;
    for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++) {
        const struct conversion *c = &conversions[i];

        snprintf(ini, sizeof ini, "convert.x = %s\n", c->type);
        snprintf(payload, sizeof payload, "{\"a\": 1, \"x\": %s , \"b\": 2}", c->value);
        snprintf(expected, sizeof expected, "{\"a\": 1, \"x\": %s , \"b\": 2}", c->expected);
        ASSERT_MAPPED(ini, payload, c->expected != NULL ? expected : "passed");
    }
    ASSERT_MAPPED("convert.x = number\n", "{\"x\":{},\"x\":\"7\"}", "{\"x\":7}");
    ASSERT_MAPPED("rename.a = x\nconvert.x = string\n", "{\"a\":7}", "{\"x\":\"7\"}");
}

static void test_cannot_convert(void **state)
{
    static const struct conversion conversions[] = {
        {"string", "{\"a\":1}", "x: cannot make a string of {\"a\":1}"},
        {"string", "[]", "x: cannot make a string of []"},
        {"number", "\"fast\"", "x: cannot make a number of \"fast\""},
        {"number", "\"\"", "x: cannot make a number of \"\""},
        {"number", "\" 1\"", "x: cannot make a number of \" 1\""},
        {"number", "\"1,5\"", "x: cannot make a number of \"1,5\""},
        {"number", "\"0x10\"", "x: cannot make a number of \"0x10\""},
        {"number", "\"+1\"", "x: cannot make a number of \"+1\""},
        {"number", "\"01\"", "x: cannot make a number of \"01\""},
        {"number", "\"1.\"", "x: cannot make a number of \"1.\""},
        {"number", "\".5\"", "x: cannot make a number of \".5\""},
        {"number", "\"1e\"", "x: cannot make a number of \"1e\""},
        {"number", "\"-\"", "x: cannot make a number of \"-\""},
        {"number", "\"NaN\"", "x: cannot make a number of \"NaN\""},
        {"number", "\"1\\u0000\"", "x: cannot make a number of \"1?\""},
        {"number", "true", "x: cannot make a number of true"},
        {"integer", "1.5", "x: cannot make an integer of 1.5"},
        {"integer", "1e400", "x: cannot make an integer of 1e400"},
        {"integer", "1e-400", "x: cannot make an integer of 1e-400"},
        {"integer", "\"x\"", "x: cannot make an integer of \"x\""},
        {"boolean", "\"yes\"", "x: cannot make a boolean of \"yes\""},
        {"boolean", "2", "x: cannot make a boolean of 2"},
        {"boolean", "[]", "x: cannot make a boolean of []"},
        {"unix", "\"2025-02-29T00:00:00Z\"",
         "x: cannot make a time of \"2025-02-29T00:00:00Z\": February 2025 has no day 29"},
        {"unix", "\"2025-11-16T19:13:39\"",
         "x: cannot make a time of \"2025-11-16T19:13:39\": Z or an offset such as +01:00 expected at byte 19"},
        {"unix", "1e30", "x: cannot make a time of 1e30: it is no Unix time, in whatever unit"},
        {"unix_ns", "true", "x: cannot make a time of true"},
        {"iso8601", "\"9999-12-31T23:59:59-00:01\"", "x: cannot make a time of \"9999-12-31T23:59:59-00:01\""},
        {"iso8601", "-62167219201", "x: cannot make a time of -62167219201"},
    };
    char ini[64], payload[128];

    (void)state;
    for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++) {
        snprintf(ini, sizeof ini, "convert.x = %s\n", conversions[i].type);
        snprintf(payload, sizeof payload, "{\"x\":%s}", conversions[i].value);
        ASSERT_MAPPED(ini, payload, conversions[i].expected);
    }
}

static void test_convert_what_was_set(void **state)
{
    (void)state;
    ASSERT_MAPPED("set.n = ${topic[1]}\nconvert.n = number\n", "{}", "n: cannot make a number of \"raspi-001\"");
    ASSERT_MAPPED("set.n = 1${json:a}\nconvert.n = number\n", "{\"a\":2.5}", "{\"a\":2.5,\"n\":12.5}");
    ASSERT_MAPPED("set.n = ${json:a}\nconvert.n = integer\n", "{\"a\":2.0}", "{\"a\":2.0,\"n\":2}");
    ASSERT_MAPPED("set.n = ${json:a}\nconvert.n = iso8601\n", "{\"a\":1763320419250}",
                  "{\"a\":1763320419250,\"n\":\"2025-11-16T19:13:39.250Z\"}");
    ASSERT_MAPPED("set.n = true\nconvert.n = boolean\n", "{\"n\":0}", "{\"n\":true}");
    ASSERT_MAPPED("set.n = 5\nconvert.n = string\n", "{\"n\":0}", "{\"n\":\"5\"}");
}

/* ------------------------------------------------------------------------------------------------------------ records */

static void test_no_json(void **state)
{
    (void)state;
    ASSERT_MAPPED("drop = a\n", "[1]", "the payload is no JSON object: it is an array: split it first");
    ASSERT_MAPPED("drop = a\n", "{\"a\":1", "the payload is no JSON object: unexpected end at byte 6");
    ASSERT_MAPPED("drop = a\n", NULL, "the payload is no JSON object: it is absent (a tombstone)");
    ASSERT_MAPPED("drop = a\n", "{\"a\":NaN}", "the payload is no JSON object: a value expected at byte 5");
}

/* Large and small in turns: nothing of one is left in the next. */
static void test_large_payloads(void **state)
{
    static char payload[300000], expected[300000];
    struct fake *f = fake_open("json_map", FMS_TRANSFORM, "drop = f00001\nset.z = end\n");
    size_t used = 0, wanted = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        used += (size_t)sprintf(payload + used, "%c\"f%05d\":%d", i == 0 ? '{' : ',', i, i);
        if (i != 1)
            wanted += (size_t)sprintf(expected + wanted, "%c\"f%05d\":%d", i == 0 ? '{' : ',', i, i);
    }
    strcpy(payload + used, "}");
    strcpy(expected + wanted, ",\"z\":\"end\"}");
    for (size_t i = 0; i < 4; i++)
        fake_add(f, "t", "k", i % 2 == 0 ? payload : "{\"a\":1}");
    assert_int_equal(fake_write(f), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(fake_record(f, i)->payload.data, i % 2 == 0 ? expected : "{\"a\":1,\"z\":\"end\"}");
    fake_close(f);
}

/* What was learnt of one record is forgotten at the next. */
static void test_records_in_turn(void **state)
{
    struct fake *f = fake_open("json_map", FMS_TRANSFORM, "rename.a = b\nset.c = x\n");

    (void)state;
    fake_add(f, "t", "k", "{\"a\":1,\"b\":2,\"c\":3}");
    fake_add(f, "t", "k", "{\"b\":2}");
    assert_int_equal(fake_write(f), 2);
    assert_string_equal(fake_record(f, 0)->payload.data, "{\"b\":1,\"c\":\"x\"}");
    assert_string_equal(fake_record(f, 1)->payload.data, "{\"b\":2,\"c\":\"x\"}");
    fake_close(f);
}

static void test_the_rest_of_the_record_stays(void **state)
{
    struct fms_header header = {"h", {"v", 1}};
    struct fms_record draft = {.topic = {"t", 1},
                               .key = {NULL, 0},
                               .payload = fms_text("{\"a\":1}"),
                               .headers = &header,
                               .header_count = 1,
                               .timestamp = 7,
                               .tag = {1, 2}};
    struct fake *f = fake_open("json_map", FMS_TRANSFORM, "drop = a\n");

    (void)state;
    for (size_t i = 0; i < 3; i++)
        fake_add_record(f, &draft);
    fake_capacity(f, 1); /* then there is no room, */
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_write(f), 0);
    fake_capacity(f, 3); /* and then there is */
    assert_int_equal(fake_write(f), 2);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 3);
    assert_int_equal(fake_emitted(f), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct fms_record *child = fake_record(f, i);

        assert_int_equal(fake_parent(f, i), i);
        assert_string_equal(child->payload.data, "{}");
        assert_string_equal(child->topic.data, "t");
        assert_null(child->key.data);
        assert_int_equal(child->header_count, 1);
        assert_string_equal(child->headers[0].value.data, "v");
        assert_int_equal(child->timestamp, 7);
        assert_int_equal(child->tag[0], 1);
    }
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------ configuration */

static void test_bad_configuration(void **state)
{
    static const struct refusal bad[] = {
        {"", "error: there is nothing to do: expected keep, drop, rename.OLD, set.NAME or convert.NAME"},
        {"keep =\n", "error: there is nothing to do"},
        {"keep = a\ndrop = b\n", "error: drop: keep says already what stays"},
        {"rename.a =\n", "error: rename.a: is empty; expected the new name"},
        {"drop = a\nrename.a = b\n", "error: rename.a: renames what drop takes away"},
        {"keep = b\nrename.a = b\n", "error: rename.a: renames what keep does not name"},
        {"rename.a = c\nrename.b = c\n", "error: rename.b: \"c\" is the new name of \"a\" already"},
        {"convert.a = float\n",
         "error: convert.a: \"float\" is no type; expected string, number, integer, boolean, iso8601,"},
        {"convert.a =\n", "error: convert.a: \"\" is no type"},
        {"rename.a = b\nconvert.a = number\n", "error: convert.a: the field is called \"b\" by then; write convert.b"},
        {"drop = a\nconvert.a = number\n", "error: convert.a: converts what drop takes away"},
        {"keep = b\nconvert.a = number\n", "error: convert.a: converts what keep does not name"},
    };

    (void)state;
    expect_refused("json_map", FMS_TRANSFORM, bad, sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_rename_replaces),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_set_escapes),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_cannot_convert),
        cmocka_unit_test(test_convert_what_was_set),
        cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_large_payloads),
        cmocka_unit_test(test_records_in_turn),
        cmocka_unit_test(test_the_rest_of_the_record_stays),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
