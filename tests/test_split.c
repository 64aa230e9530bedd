/* test_split.c - which records items become, in which order, what is said of those that are no good, and waits for room. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

static char said[8192];

/* What comes of a record with this payload: "key payload" of each that is made, one a line; then why it was rejected, or
 * "passed". */
static const char *split_bytes(const char *ini, struct fms_bytes payload)
{
    struct fms_record draft = {.topic = {"fms/a", 5}, .key = {"own", 3}, .payload = payload, .timestamp = 7};
    struct fake *f = fake_open("split", FMS_TRANSFORM, ini);
    int used = 0;

    said[0] = '\0';
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    for (size_t i = 0; i < fake_emitted(f) && fake_fate(f, 0) != FAKE_PASSED; i++)
        used += snprintf(said + used, sizeof said - (size_t)used, "%s %s\n", (const char *)fake_record(f, i)->key.data,
                         (const char *)fake_record(f, i)->payload.data);
    if (fake_fate(f, 0) != FMS_DELIVERED)
        snprintf(said + used, sizeof said - (size_t)used, "%s",
                 fake_fate(f, 0) == FAKE_PASSED ? "passed" : fake_reason(f, 0));
    assert_int_equal(fake_counter(f, "items"), fake_fate(f, 0) == FAKE_PASSED ? 0 : fake_emitted(f));
    fake_close(f);
    return said;
}

#define ASSERT_SPLIT(ini, payload, expected) assert_string_equal(split_bytes(ini, fms_text(payload)), expected)

#define KEY   "key = ${json:id}\n"
#define LINES "format = lines\n"

/* -------------------------------------------------------------------------------------------------------------- arrays */

static void test_array(void **state)
{
    (void)state;
    ASSERT_SPLIT("", "[{\"a\":1.50},{\"b\":[1,{}]}]", "own {\"a\":1.50}\nown {\"b\":[1,{}]}\n");
    ASSERT_SPLIT("", " [ { \"a\" : \"],[{\" } ,\r\n\t{}\n ] ", "own { \"a\" : \"],[{\" }\nown {}\n");
    ASSERT_SPLIT("", "[[{\"a\":1}],[]]", "own [{\"a\":1}]\nown []\n");
    ASSERT_SPLIT("", "[]", "");
    ASSERT_SPLIT("", " [ ] ", "");
    ASSERT_SPLIT(KEY, "[{\"id\":\"a\"},{\"id\":\"b\",\"x\":1},{\"id\":\"a\"}]",
                 "a {\"id\":\"a\"}\nb {\"id\":\"b\",\"x\":1}\na {\"id\":\"a\"}\n");
    ASSERT_SPLIT("key = ${topic[1]}-${json:0.id}-${key}\n", "[[{\"id\":5}]]", "a-5-own [{\"id\":5}]\n");
}

static void test_path(void **state)
{
    const char *ini = "path = data.readings\n" KEY;

    (void)state;
    ASSERT_SPLIT(ini, "{\"id\":\"x\",\"data\":{\"readings\":[{\"id\":\"a\"},{\"id\":\"b\"}]}}",
                 "a {\"id\":\"a\"}\nb {\"id\":\"b\"}\n");
    ASSERT_SPLIT(ini, "{\"data\":{\"readings\":[]}}", "");
    ASSERT_SPLIT("path = 1\n", "[[{}],[{\"a\":1}]]", "own {\"a\":1}\n");
}

/* --------------------------------------------------------------------------------------------------------------- lines */

static void test_lines(void **state)
{
    (void)state;
    ASSERT_SPLIT(LINES KEY, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", "a {\"id\":\"a\"}\nb {\"id\":\"b\"}\n");
    ASSERT_SPLIT(LINES, "{\"a\":1}\r\n{\"b\":2}\r\n", "own {\"a\":1}\nown {\"b\":2}\n");
    ASSERT_SPLIT(LINES, "{\"a\":1}\n{\"b\":2}", "own {\"a\":1}\nown {\"b\":2}\n");
    ASSERT_SPLIT(LINES, "\n \t \r\n  {\"a\":1}  \t\r\n\n\n{\"b\":2}\n\n \n", "own {\"a\":1}\nown {\"b\":2}\n");
    ASSERT_SPLIT(LINES, "\xef\xbb\xbf{\"a\":1}\n{\"b\":2}", "own {\"a\":1}\nown {\"b\":2}\n");
    ASSERT_SPLIT(LINES, "\xef\xbb\xbf", "");
    ASSERT_SPLIT(LINES, "[{\"a\":1}]\n{}", "own [{\"a\":1}]\nown {}\n");
    ASSERT_SPLIT(LINES, "{\"a\":1}", "own {\"a\":1}\n");
    ASSERT_SPLIT(LINES, "", "");
    ASSERT_SPLIT(LINES, "\n\r\n \n", "");
}

/* ----------------------------------------------------------------------------------------------------------- bad items */

/* The good ones go, the first bad one is told, and where it stands. */
static void test_bad_items(void **state)
{
    (void)state;
    ASSERT_SPLIT("", "[{\"a\":1}, 5,{\"b\":2}]",
                 "own {\"a\":1}\nown {\"b\":2}\nitem 1 at byte 10: it is no JSON object");
    ASSERT_SPLIT("", "[\"{\",null]", "item 0 at byte 1: it is no JSON object; 1 more are no good");
    ASSERT_SPLIT(KEY, "[{\"id\":\"a\"},{\"x\":1},{\"id\":\"b\"},{},7]",
                 "a {\"id\":\"a\"}\nb {\"id\":\"b\"}\n"
                 "item 1 at byte 12: key: no field \"id\" in the payload; 2 more are no good");
    ASSERT_SPLIT("path = r\n", "{\"x\":\"[\",\"r\":[{},true]}", "own {}\nitem 1 at byte 17: it is no JSON object");
    ASSERT_SPLIT(LINES, "{\"a\":1}\n\n{\"b\":\n{\"c\":3}\r\n5\n",
                 "own {\"a\":1}\nown {\"c\":3}\n"
                 "line 3 at byte 9: no JSON object: unexpected end at byte 5; 1 more are no good");
    ASSERT_SPLIT(LINES KEY, "\xef\xbb\xbf{\"id\":\"a\"}\n {}",
                 "a {\"id\":\"a\"}\nline 2 at byte 15: key: no field \"id\" in the payload");
}

/* There is an end to it: what stands behind 1000 of them is not looked at, and the next record is. */
static void test_nothing_but_bad_items(void **state)
{
    struct fake *f = fake_open("split", FMS_TRANSFORM, LINES);
    char lines[2 * 1000 + 16];

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        memcpy(lines + 2 * i, "x\n", 2);
    strcpy(lines + 2 * 1000, "{}");
    fake_add(f, "t", NULL, lines);
    fake_add(f, "t", NULL, lines + 2);
    assert_int_equal(fake_write(f), 2);
    assert_string_equal(fake_reason(f, 0),
                        "line 1 at byte 0: no JSON object: { or [ expected at byte 0; 999 more are no good, and "
                        "what stands behind them was not looked at");
    assert_string_equal(fake_reason(f, 1),
                        "line 1 at byte 0: no JSON object: { or [ expected at byte 0; 998 more are no good");
    assert_int_equal(fake_emitted(f), 1);
    assert_int_equal(fake_parent(f, 0), 1);
    fake_close(f);
}

static void test_all_of_it_is_broken(void **state)
{
    (void)state;
    ASSERT_SPLIT("", "[{\"a\":1},{\"b\":2}", "the payload is no JSON array: unexpected end at byte 16");
    ASSERT_SPLIT("otherwise = pass\n", "[{\"a\":1},]", "the payload is no JSON array: a value expected at byte 9");
    ASSERT_SPLIT("otherwise = pass\n", " {\"a\":1,}",
                 "the payload is no JSON array: a key in double quotes expected at byte 8");
    ASSERT_SPLIT("", "[] x", "the payload is no JSON array: something stands behind the array at byte 3");
    ASSERT_SPLIT("path = a\n", "{\"a\":[}", "the payload is no JSON object: a value expected at byte 6");
    ASSERT_SPLIT("", "\xef\xbb\xbf[]",
                 "the payload is no JSON array: it begins with a byte order mark (ef bb bf), which JSON has not");
}

/* ----------------------------------------------------------------------------------------------------------- otherwise */

static void test_no_array(void **state)
{
    (void)state;
    ASSERT_SPLIT("", "{\"a\":1}", "the payload: an array expected, found an object");
    ASSERT_SPLIT("", "5", "the payload is no JSON array: { or [ expected at byte 0");
    ASSERT_SPLIT("", "", "the payload is no JSON array: it is empty");
    ASSERT_SPLIT("path = a.b\n", "{\"a\":{\"b\":5}}", "a.b: an array expected, found a number");
    ASSERT_SPLIT("path = a.b\n", "{\"a\":{\"b\":null}}", "a.b: an array expected, found null");
    ASSERT_SPLIT("path = a.b\n", "{\"a\":{}}", "a.b: there is no such field");
    ASSERT_SPLIT("path = a\n", "[{\"a\":[]}]", "the payload is no JSON object: it is an array: split it first");
    ASSERT_SPLIT("otherwise = pass\n", "{\"a\":1}", "passed");
    ASSERT_SPLIT("otherwise = pass\n", "hello", "passed");
    ASSERT_SPLIT("otherwise = pass\npath = a\n", "{\"b\":[]}", "passed");
    assert_string_equal(split_bytes("", fms_bytes_of(NULL, 0)),
                        "the payload is no JSON array: it is absent (a tombstone)");
    assert_string_equal(split_bytes("otherwise = pass\n", fms_bytes_of(NULL, 0)), "passed");
    assert_string_equal(split_bytes(LINES, fms_bytes_of(NULL, 0)),
                        "the payload is no lines: it is absent (a tombstone)");
    assert_string_equal(split_bytes(LINES "otherwise = pass\n", fms_bytes_of(NULL, 0)), "passed");
}

/* ------------------------------------------------------------------------------------------------------------- records */

static void test_the_rest_of_the_record_stays(void **state)
{
    struct fms_header header = {"h", {"v", 1}};
    struct fms_record draft = {.topic = {"t", 1},
                               .payload = fms_text("[{},{}]"),
                               .headers = &header,
                               .header_count = 1,
                               .timestamp = 7,
                               .tag = {1, 2}};
    struct fake *f = fake_open("split", FMS_TRANSFORM, "");

    (void)state;
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_emitted(f), 2);
    for (size_t i = 0; i < 2; i++) {
        const struct fms_record *child = fake_record(f, i);

        assert_int_equal(fake_parent(f, i), 0);
        assert_string_equal(child->topic.data, "t");
        assert_null(child->key.data);
        assert_int_equal(child->header_count, 1);
        assert_string_equal(child->headers[0].value.data, "v");
        assert_int_equal(child->timestamp, 7);
        assert_int_equal(child->tag[1], 2);
    }
    fake_close(f);
}

/* Room comes for one item at a time; each is made once, in order, and the bad one in between is told once. */
static void check_waiting(const char *ini, const char *payload, const char *reason)
{
    struct fake *f = fake_open("split", FMS_TRANSFORM, ini);

    fake_add(f, "t", NULL, payload);
    fake_add(f, "t", NULL, payload);
    for (size_t room = 0; room < 8; room++) {
        fake_capacity(f, room);
        fake_write(f);
        fake_write(f);
        assert_int_equal(fake_emitted(f), room);
    }
    fake_capacity(f, 9); /* behind the last good item comes a bad one, for which there need be no room */
    fake_write(f);
    assert_int_equal(fake_emitted(f), 8);
    for (size_t i = 0; i < 8; i++) {
        char expected[32];

        snprintf(expected, sizeof expected, "{\"id\":%zu}", i % 4);
        assert_string_equal(fake_record(f, i)->payload.data, expected);
        assert_int_equal(fake_parent(f, i), i / 4);
    }
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(fake_reason(f, i), reason);
    assert_int_equal(fake_counter(f, "items"), 8);
    assert_int_equal(fake_counter(f, "bad_items"), 4);
    fake_close(f);
}

static void test_no_room(void **state)
{
    (void)state;
    check_waiting(KEY, "[{\"id\":0},{\"id\":1},{\"x\":1},{\"id\":2},{\"id\":3},{}]",
                  "item 2 at byte 19: key: no field \"id\" in the payload; 1 more are no good");
    check_waiting(LINES KEY, "{\"id\":0}\n\n{\"id\":1}\n{\"x\":1}\n\n{\"id\":2}\n{\"id\":3}\n{}",
                  "line 4 at byte 19: key: no field \"id\" in the payload; 1 more are no good");
}

/* An item for which there will never be room is left out, and the next record begins at its beginning. */
static void test_never_any_room(void **state)
{
    struct fake *f = fake_open("split", FMS_TRANSFORM, "");

    (void)state;
    fake_largest(f, 10);
    fake_add(f, "t", NULL, "[{\"a\":1},{\"a\":1234567},{\"a\":2}]");
    fake_add(f, "t", NULL, "[{\"a\":3},{\"a\":4}]");
    assert_int_equal(fake_write(f), 2);
    assert_string_equal(fake_reason(f, 0), "item 1 at byte 9: it does not fit max_in_flight_bytes");
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    assert_int_equal(fake_emitted(f), 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(((const char *)fake_record(f, i)->payload.data)[5], '1' + (int)i);
    fake_close(f);
}

/* Nothing is kept: what waits when the pipeline ends was never taken. */
static void test_stopped_while_it_waits(void **state)
{
    struct fake *f = fake_open("split", FMS_TRANSFORM, KEY);

    (void)state;
    fake_add(f, "t", NULL, "[{},{\"id\":1},{\"id\":2}]");
    fake_capacity(f, 1);
    assert_int_equal(fake_write(f), 0);
    assert_int_equal(fake_emitted(f), 1);
    fake_stop(f);
    assert_int_equal(fake_unsettled(f), 0);
    fake_close(f);
}

static void test_many_items(void **state)
{
    enum { MANY = 20000 };
    char *payload = malloc(MANY * 16);
    struct fake *f = fake_open("split", FMS_TRANSFORM, "key = ${json:i}\n");
    size_t used = 0;

    (void)state;
    assert_non_null(payload);
    for (int i = 0; i < MANY; i++)
        used += (size_t)sprintf(payload + used, "%c{\"i\":%d}", i == 0 ? '[' : ',', i);
    strcpy(payload + used, "]");
    fake_add(f, "t", NULL, payload);
    free(payload);
    for (size_t room = 1000; fake_fate(f, 0) == 0; room += 1000) {
        fake_capacity(f, room);
        assert_true(fake_write(f) >= 0);
    }
    assert_int_equal(fake_emitted(f), MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(atoi(fake_record(f, i)->key.data), i);
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------- configuration */

static void test_bad_configuration(void **state)
{
    static const struct refusal bad[] = {
        {LINES "path = a\n", "error: path: is for format = array; lines have none"},
        {"path = a..b\n", "error: path: \"a..b\" is no path"},
    };

    (void)state;
    expect_refused("split", FMS_TRANSFORM, bad, sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_bad_items),
        cmocka_unit_test(test_nothing_but_bad_items),
        cmocka_unit_test(test_all_of_it_is_broken),
        cmocka_unit_test(test_no_array),
        cmocka_unit_test(test_the_rest_of_the_record_stays),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_never_any_room),
        cmocka_unit_test(test_stopped_while_it_waits),
        cmocka_unit_test(test_many_items),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
