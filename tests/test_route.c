/* test_route.c - which records change and how, which go on as they are, and which are rejected. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

#define TIME    (INT64_C(1763320419) * FMS_SECOND)
#define PAYLOAD "{\"vehicle_id\":\"raspi-001\",\"fleet\":\"north\",\"empty\":\"\"}"

static void check_bytes(struct fms_bytes bytes, const char *expected)
{
    if (expected == NULL) {
        assert_null(bytes.data);
        return;
    }
    assert_int_equal(bytes.size, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.size);
}

static void check_headers(const struct fms_record *record, const char *const (*expected)[2], size_t count)
{
    assert_int_equal(record->header_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(record->headers[i].name, expected[i][0]);
        check_bytes(record->headers[i].value, expected[i][1]);
    }
}

static void test_topic(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = fms-${json:vehicle_id}\n");
    const struct fms_header header = {"origin", fms_text("east")};
    const struct fms_record draft = {.topic = fms_text("fms/data"),
                                     .key = fms_text("k"),
                                     .payload = fms_text(PAYLOAD),
                                     .headers = &header,
                                     .header_count = 1,
                                     .timestamp = TIME,
                                     .tag = {7, 8}};
    const struct fms_record *child;

    (void)state;
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_emitted(f), 1);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED); /* with its child */
    assert_int_equal(fake_parent(f, 0), 0);
    child = fake_record(f, 0);
    check_bytes(child->topic, "fms-raspi-001");
    check_bytes(child->key, "k");
    check_bytes(child->payload, PAYLOAD);
    check_headers(child, (const char *const[][2]){{"origin", "east"}}, 1);
    assert_int_equal(child->timestamp, TIME);
    assert_int_equal(child->tag[1], 8);
    assert_int_equal(fake_counter(f, "routed"), 1);
    assert_int_equal(fake_counter(f, "unchanged"), 0);
    fake_close(f);
}

static void test_key(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = ${topic}\nkey = ${json:fleet}/${key:-none}\n");

    (void)state;
    fake_add(f, "t", "old", PAYLOAD);
    fake_add(f, "t", NULL, PAYLOAD);
    fake_add(f, "t", "north/", "{\"fleet\":\"x\"}");
    fake_write(f);
    assert_int_equal(fake_emitted(f), 3);
    check_bytes(fake_record(f, 0)->topic, "t");
    check_bytes(fake_record(f, 0)->key, "north/old");
    check_bytes(fake_record(f, 1)->key, "north/none");
    check_bytes(fake_record(f, 2)->key, "x/north/");
    fake_close(f);
}

/* Of those that are set each stands once, in the place of the first of its name, or at the end. */
static void test_headers(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM,
                               "topic = new\nheader.origin = ${topic}\nheader.fleet = ${json:fleet}\n");
    const struct fms_header headers[] = {
        {"a", fms_text("1")}, {"fleet", fms_text("x")}, {"b", fms_text("2")}, {"fleet", fms_text("y")}};
    const struct fms_record draft = {
        .topic = fms_text("old"), .payload = fms_text(PAYLOAD), .headers = headers, .header_count = 4};

    (void)state;
    fake_add_record(f, &draft);
    fake_add(f, "old", NULL, PAYLOAD);
    fake_write(f);
    assert_int_equal(fake_emitted(f), 2);
    check_headers(fake_record(f, 0),
                  (const char *const[][2]){{"a", "1"}, {"fleet", "north"}, {"b", "2"}, {"origin", "old"}}, 4);
    check_headers(fake_record(f, 1), (const char *const[][2]){{"origin", "old"}, {"fleet", "north"}}, 2);
    check_bytes(fake_record(f, 0)->topic, "new");
    fake_close(f);
}

/* It goes on itself: what is emitted is the record, not a child. */
static void test_unchanged(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM,
                               "topic = fms-${json:fleet}\nkey = ${json:vehicle_id}\nheader.fleet = ${json:fleet}\n");
    const struct fms_header headers[] = {{"fleet", fms_text("north")}, {"b", fms_text("2")}};
    const struct fms_record same = {.topic = fms_text("fms-north"),
                                    .key = fms_text("raspi-001"),
                                    .payload = fms_text(PAYLOAD),
                                    .headers = headers,
                                    .header_count = 2};
    struct fms_record other_key = same, other_topic = same, no_header = same, no_key = same;

    (void)state;
    other_key.key = fms_text("raspi-002");
    other_topic.topic = fms_text("fms-nort_");
    no_header.header_count = 0;
    no_key.key = fms_bytes_of(NULL, 0);
    fake_add_record(f, &same);
    fake_add_record(f, &other_key);
    fake_add_record(f, &other_topic);
    fake_add_record(f, &no_header);
    fake_add_record(f, &no_key);
    assert_int_equal(fake_write(f), 5);
    assert_int_equal(fake_fate(f, 0), FAKE_PASSED);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 4);
    assert_int_equal(fake_counter(f, "unchanged"), 1);
    assert_int_equal(fake_counter(f, "routed"), 4);
    fake_close(f);
}

/* An absent key is not an empty one. */
static void test_an_empty_key_is_one(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = ${topic}\nkey = ${json:empty}\n");

    (void)state;
    fake_add(f, "t", NULL, PAYLOAD);
    fake_add(f, "t", "", PAYLOAD);
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    check_bytes(fake_record(f, 0)->key, "");
    assert_int_equal(fake_fate(f, 1), FAKE_PASSED);
    fake_close(f);
}

static void check_rejection(const char *ini, const char *payload, const char *reason)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, ini);

    fake_add(f, "t", NULL, payload);
    fake_write(f);
    assert_int_equal(fake_emitted(f), 0);
    assert_int_equal(fake_fate(f, 0), FMS_REJECTED);
    assert_string_equal(fake_reason(f, 0), reason);
    fake_close(f);
}

static void test_rejections(void **state)
{
    (void)state;
    check_rejection("topic = fms-${json:vehicle_id}\n", "{}", "topic: no field \"vehicle_id\" in the payload");
    check_rejection("topic = fms-${json:vehicle_id}\n", NULL,
                    "topic: the payload is no JSON object: it is absent (a tombstone)");
    check_rejection("topic = fms-${json:vehicle_id}\n", "no JSON",
                    "topic: the payload is no JSON object: { or [ expected at byte 0");
    check_rejection("topic = ${json:empty}\n", PAYLOAD, "topic: it is empty");
    check_rejection("topic = ${topic[1]:-}\n", PAYLOAD, "topic: it is empty");
    check_rejection("topic = a\nkey = ${key}\n", PAYLOAD, "key: the record has no key");
    check_rejection("topic = a\nheader.x = ${header:y}\n", PAYLOAD, "header.x: no header \"y\"");
}

static void test_a_default_saves_it(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = fms-${json:vehicle_id:-unknown}\n");

    (void)state;
    fake_add(f, "t", NULL, "no JSON");
    fake_write(f);
    assert_int_equal(fake_emitted(f), 1);
    check_bytes(fake_record(f, 0)->topic, "fms-unknown");
    fake_close(f);
}

static void test_a_thousand_headers_are_full(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = ${topic}\nheader.x = 1\n");
    struct fms_record draft = {.topic = fms_text("t")};
    struct fms_header headers[1000];

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        headers[i] = (struct fms_header){i == 500 ? "x" : "y", fms_text("0")};
    draft.headers = headers;
    draft.header_count = 1000;
    fake_add_record(f, &draft);
    headers[500].name = "y";
    fake_add_record(f, &draft);
    draft.header_count = 999;
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_emitted(f), 2);
    check_bytes(fake_record(f, 0)->headers[500].value, "1");
    assert_int_equal(fake_record(f, 1)->header_count, 1000);
    assert_string_equal(fake_reason(f, 1), "header.x: the record has 1000 headers already");
    fake_close(f);
}

/* Each record comes out once, however often there was no room for it. */
static void test_waits_for_room(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM, "topic = new\n");

    (void)state;
    for (int i = 0; i < 3; i++)
        fake_add(f, "old", NULL, i == 0 ? "0" : i == 1 ? "1" : "2");
    fake_capacity(f, 1);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_write(f), 0);
    assert_int_equal(fake_fate(f, 1), 0);
    fake_capacity(f, 3);
    assert_int_equal(fake_write(f), 2);
    assert_int_equal(fake_emitted(f), 3);
    check_bytes(fake_record(f, 1)->payload, "1");
    check_bytes(fake_record(f, 2)->payload, "2");
    assert_int_equal(fake_counter(f, "routed"), 3);
    fake_close(f);
}

static void test_bad_configuration(void **state)
{
    static const struct refusal cases[] = {
        {"", "topic is missing"},
        {"topic = ${env:FMS_NOT_SET:-}\n", "expected a text that is not empty"},
        {"topic = ${vehicle_id}\n", "unknown reference ${vehicle_id}"},
        {"topic = a\nkey = ${json:}\n", "column 1: expected a path"},
        {"topic = a\nheader. = x\n", "header."},
        {"topic = a\nheader.x = ${headr:y}\n", "did you mean ${header:...}"},
    };

    (void)state;
    expect_refused("route", FMS_TRANSFORM, cases, sizeof cases / sizeof *cases);
}

static void test_drop_headers(void **state)
{
    struct fake *f = fake_open("route", FMS_TRANSFORM,
                               "topic = ${header:fms.topic}\ndrop_headers = fms.*, exact\nheader.fms.new = 1\n");
    const struct fms_header headers[] = {{"fms.topic", fms_text("a/b")},
                                         {"exactly", fms_text("1")},
                                         {"exact", fms_text("2")},
                                         {"fms", fms_text("3")},
                                         {"fms.", fms_text("4")}};
    const struct fms_record draft = {
        .topic = fms_text("letters"), .payload = fms_text("{}"), .headers = headers, .header_count = 5};

    (void)state;
    fake_add_record(f, &draft);
    fake_write(f);
    assert_int_equal(fake_emitted(f), 1);
    check_bytes(fake_record(f, 0)->topic, "a/b"); /* templates see what goes */
    check_headers(fake_record(f, 0), (const char *const[][2]){{"exactly", "1"}, {"fms", "3"}, {"fms.new", "1"}}, 3);
    fake_close(f);
    f = fake_check("route", FMS_TRANSFORM, "topic = t\ndrop_headers = a*b\n");
    assert_non_null(fake_said(f, "error: drop_headers: \"a*b\": a * may stand at the end only"));
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_drop_headers),
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_an_empty_key_is_one),
        cmocka_unit_test(test_rejections),
        cmocka_unit_test(test_a_default_saves_it),
        cmocka_unit_test(test_a_thousand_headers_are_full),
        cmocka_unit_test(test_waits_for_room),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
