/* test_mqtt_common.c - what the plugins that speak MQTT share: properties as headers and back. */
#include <malloc.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../plugins/mqtt_common/mqtt_common.h"

/* Header i is called that and has that value. */
static void expect_header(const struct mqtt_headers *headers, size_t i, const char *name, const char *value)
{
    assert_true(i < headers->count);
    assert_string_equal(headers->items[i].name, name);
    assert_int_equal(headers->items[i].value.size, strlen(value));
    assert_memory_equal(headers->items[i].value.data, value, strlen(value));
}

static void test_nothing_costs_nothing(void **state)
{
    struct mqtt_headers headers = {0};

    (void)state;
    assert_true(mqtt_headers_begin(&headers, &mqtt_no_properties, 0, 0));
    assert_int_equal(headers.count, 0);
    assert_null(headers.items);
    assert_null(headers.names);
}

static void test_properties_become_headers(void **state)
{
    const struct mqtt_properties own = {
        .content_type = {"application/json", 16},
        .response_topic = {"answers/here", 12},
        .correlation_data = {"\0\xff", 2},
        .message_expiry = UINT32_MAX,
        .payload_format = 0,
        .is_retained = true,
    };
    const struct mqtt_properties few = {.message_expiry = 0, .payload_format = -1, .content_type = {"", 0}};
    struct mqtt_headers headers = {0};

    (void)state;
    assert_true(mqtt_headers_begin(&headers, &own, 1, 4));
    mqtt_headers_add(&headers, fms_bytes_of("unitX", 4), fms_bytes_of("km/hX", 4));
    assert_int_equal(headers.count, 7);
    expect_header(&headers, 0, "mqtt.content_type", "application/json");
    expect_header(&headers, 1, "mqtt.response_topic", "answers/here");
    assert_memory_equal(headers.items[2].value.data, "\0\xff", 2);
    expect_header(&headers, 3, "mqtt.message_expiry", "4294967295");
    expect_header(&headers, 4, "mqtt.payload_format", "0");
    expect_header(&headers, 5, "mqtt.retained", "1");
    expect_header(&headers, 6, "unit", "km/h");
    assert_true(mqtt_headers_begin(&headers, &few, 0, 0));
    assert_int_equal(headers.count, 2);
    expect_header(&headers, 0, "mqtt.content_type", "");
    expect_header(&headers, 1, "mqtt.message_expiry", "0");
    mqtt_headers_free(&headers);
}

static void test_too_many_user_properties_are_counted(void **state)
{
    const struct mqtt_properties own = {.message_expiry = 1, .payload_format = 1};
    struct mqtt_headers headers = {0};

    (void)state;
    assert_true(mqtt_headers_begin(&headers, &own, 1005, 2010));
    for (int i = 0; i < 1005; i++)
        mqtt_headers_add(&headers, fms_text("ab"), fms_bytes_of(NULL, 0));
    assert_int_equal(headers.count, 1000);
    assert_int_equal(headers.left_out, 7);
    expect_header(&headers, 0, "mqtt.message_expiry", "1");
    expect_header(&headers, 999, "ab", "");
    mqtt_headers_free(&headers);
}

/* A name that a sender chose never passes for ours, and comes out as it went in. */
static void test_user_properties_come_out_as_they_went_in(void **state)
{
    static const struct {
        const char *name, *header;
    } cases[] = {
        {"unit", "unit"},
        {"", ""},
        {"fms.reason", "user.fms.reason"},
        {"mqtt.retained", "user.mqtt.retained"},
        {"mqtt.", "user.mqtt."},
        {"user.id", "user.user.id"},
        {"user.user.fms.x", "user.user.user.fms.x"},
        {"users", "users"},
        {"FMS.reason", "FMS.reason"},
        {"fms", "fms"},
    };
    size_t count = sizeof cases / sizeof cases[0], size = 0;
    struct mqtt_headers headers = {0};

    (void)state;
    for (size_t i = 0; i < count; i++)
        size += strlen(cases[i].name);
    assert_true(mqtt_headers_begin(&headers, &mqtt_no_properties, count, size));
    for (size_t i = 0; i < count; i++)
        mqtt_headers_add(&headers, fms_text(cases[i].name), fms_text("v"));
    for (size_t i = 0; i < count; i++) {
        struct mqtt_properties own = mqtt_no_properties;
        const char *name = NULL;

        expect_header(&headers, i, cases[i].header, "v");
        assert_int_equal(mqtt_place_header(&headers.items[i], &own, &name), MQTT_AS_USER);
        assert_string_equal(name, cases[i].name);
        assert_memory_equal(&own, &mqtt_no_properties, sizeof own);
    }
    mqtt_headers_free(&headers);
}

static void test_headers_become_properties(void **state)
{
    static const struct {
        struct fms_header header;
        enum mqtt_place place;
    } cases[] = {
        {{"mqtt.content_type", {"text/plain", 10}}, MQTT_AS_OWN},
        {{"mqtt.response_topic", {"a/b", 3}}, MQTT_AS_OWN},
        {{"mqtt.correlation_data", {"\0", 1}}, MQTT_AS_OWN},
        {{"mqtt.message_expiry", {"60", 2}}, MQTT_AS_OWN},
        {{"mqtt.payload_format", {"1", 1}}, MQTT_AS_OWN},
        {{"mqtt.retained", {"1", 1}}, MQTT_AS_OWN},
        {{"fms.reason", {"no reason", 9}}, MQTT_AS_USER},
        {{"mqtt.other", {"x", 1}}, MQTT_AS_USER},
        {{"user.id", {"x", 1}}, MQTT_AS_USER}, /* not of ours: it keeps its name */
        {{"empty", {NULL, 0}}, MQTT_AS_USER},
        {{"binary", {"\xff", 1}}, MQTT_NOWHERE},
        {{"na\nme", {"x", 1}}, MQTT_NOWHERE},
        {{"mqtt.content_type", {"\xff", 1}}, MQTT_NOWHERE},
        {{"mqtt.response_topic", {"a/+", 3}}, MQTT_NOWHERE},
        {{"mqtt.response_topic", {NULL, 0}}, MQTT_NOWHERE},
        {{"mqtt.message_expiry", {"4294967296", 10}}, MQTT_NOWHERE},
        {{"mqtt.message_expiry", {"42949672950", 11}}, MQTT_NOWHERE},
        {{"mqtt.message_expiry", {"-1", 2}}, MQTT_NOWHERE},
        {{"mqtt.message_expiry", {NULL, 0}}, MQTT_NOWHERE},
        {{"mqtt.payload_format", {"7", 1}}, MQTT_NOWHERE},
        {{"mqtt.retained", {"yes", 3}}, MQTT_NOWHERE},
    };
    static char large[65536];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mqtt_properties own = mqtt_no_properties;
        const char *name = NULL;

        if (mqtt_place_header(&cases[i].header, &own, &name) != cases[i].place)
            fail_msg("case %zu: %s", i, cases[i].header.name);
        assert_int_equal(memcmp(&own, &mqtt_no_properties, sizeof own) != 0, cases[i].place == MQTT_AS_OWN);
        if (cases[i].place == MQTT_AS_USER)
            assert_string_equal(name, cases[i].header.name);
    }
    memset(large, 'x', sizeof large);
    for (size_t i = 0; i < 3; i++) {
        const char *const names[] = {"mqtt.correlation_data", "mqtt.response_topic", "name"};
        struct fms_header header = {names[i], {large, sizeof large}};
        struct mqtt_properties own = mqtt_no_properties;
        const char *name = NULL;

        assert_int_equal(mqtt_place_header(&header, &own, &name), MQTT_NOWHERE);
    }
}

static void test_filters_match(void **state)
{
    static const struct {
        const char *filter, *topic;
        bool matches;
    } cases[] = {
        {"a/b", "a/b", true},     {"a/b", "a/bc", false},     {"a/b", "a", false},      {"a", "a/b", false},
        {"+/b", "a/b", true},     {"a/+", "a/", true},        {"a/+", "a", false},      {"a/+", "a/b/c", false},
        {"#", "a/b", true},       {"a/#", "a", true},         {"a/#", "a/b/c", true},   {"a/#", "ab", false},
        {"+/+", "/a", true},      {"/+", "/a", true},         {"+", "/a", false},       {"#", "$SYS/a", false},
        {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true}, {"a/+/c", "a/b/c", true}, {"a/+/#", "a", false},
        {"a/+/#", "a/b", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (mqtt_filter_matches(cases[i].filter, fms_text(cases[i].topic)) != cases[i].matches)
            fail_msg("%s and %s", cases[i].filter, cases[i].topic);
    }
}

static void test_filters_overlap(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlap;
    } cases[] = {
        {"a", "a", true},          {"a", "b", false},       {"a/+", "+/b", true},   {"a/+", "b/+", false},
        {"a/#", "a", true},        {"a/#", "+", true},      {"a/#", "b/#", false},  {"#", "a/b", true},
        {"#", "$SYS/#", false},    {"a/+/c", "a/b", false}, {"a/+/c", "a/#", true}, {"a/b/#", "a/+", true},
        {"a/b/c/#", "a/+", false}, {"+/+", "a", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (mqtt_filters_overlap(cases[i].a, cases[i].b) != cases[i].overlap ||
            mqtt_filters_overlap(cases[i].b, cases[i].a) != cases[i].overlap)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
}

/* By each of these, and by no other, "a/b" can have come. */
static void test_filters_of_a_topic(void **state)
{
    static const char *const asked[] = {"a/+", "c"}, *const wanted[] = {"#",     "a/#",   "+/#", "a/b/#", "+/b/#",
                                                                        "a/+/#", "+/+/#", "a/b", "+/b",   "+/+"};
    const struct fms_list list = {asked, 2};
    size_t count, wanted_count = sizeof wanted / sizeof wanted[0];
    char **filters;

    (void)state;
    count = mqtt_filters_of(fms_text("a/b"), &list, &filters);
    assert_int_equal(count, wanted_count);
    for (size_t i = 0; i < wanted_count; i++) {
        bool is_there = false;

        for (size_t j = 0; j < count; j++)
            is_there = is_there || strcmp(filters[j], wanted[i]) == 0;
        if (!is_there)
            fail_msg("%s is missing", wanted[i]);
    }
    free(filters);
    assert_int_equal(mqtt_filters_of(fms_text("1/2/3/4/5/6/7"), &list, &filters), 128 + 255);
    free(filters);
    assert_int_equal(mqtt_filters_of(fms_text("1/2/3/4/5/6/7/8"), &list, &filters), 0);
    free(filters);
}

/* An empty level becomes longer as +. */
static void test_filters_of_empty_levels(void **state)
{
    const struct fms_list none = {NULL, 0};
    size_t levels = 0;

    (void)state;
    for (const char *topic = "//////"; levels < 7; topic++, levels++) {
        char **filters;
        size_t count = mqtt_filters_of(fms_text(topic), &none, &filters);
        const char *last = count > 0 ? filters[count - 1] : NULL;

        assert_true(count > 0 || topic[0] == '\0');
        if (last != NULL)
            assert_true((size_t)(last + strlen(last) + 1 - (char *)filters) <= malloc_usable_size(filters));
        for (size_t i = 0; i < count; i++)
            assert_true(mqtt_filter_matches(filters[i], fms_text(topic)));
        free(filters);
    }
}

/* ---------------------------------------------------------------------------------------------------- another client */

static size_t told;

static void note_line(const struct fms_host *host, enum fms_level level, const char *format, ...)
{
    (void)host;
    (void)format;
    told += level == FMS_LOG_WARN;
}

static int64_t double_it(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    (void)host;
    while (attempt-- > 0 && min < max)
        min *= 2;
    return min < max ? min : max;
}

static void note_link(const struct fms_host *host, bool is_up, const char *format, ...)
{
    (void)host;
    (void)format;
    assert_false(is_up);
}

static const struct fms_host quiet = {.log = note_line, .backoff = double_it, .link = note_link};

/* Ever longer, whatever comes of it meanwhile, until a connection has lasted an hour. */
static void test_a_rival_is_left_alone(void **state)
{
    const struct mqtt_options options = {.takeover_pause = 15 * FMS_SECOND};
    struct mqtt_rival rival = {0};
    int64_t expected = options.takeover_pause;

    (void)state;
    told = 0;
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(mqtt_rival_met(&rival, &options, "a", true, false, expected, &quiet), expected);
        assert_int_equal(mqtt_rival_met(&rival, &options, "a", false, false, FMS_SECOND, &quiet), 0);
        assert_int_equal(told, i + 1);
        expected = 2 * expected < 600 * FMS_SECOND ? 2 * expected : 600 * FMS_SECOND;
    }
    assert_int_equal(mqtt_rival_met(&rival, &options, "a", true, false, 3601 * FMS_SECOND, &quiet),
                     options.takeover_pause);
}

/* A broker without words for it: the third time, and as long as it goes on, also while the other one pauses. */
static void test_a_rival_is_guessed(void **state)
{
    const struct mqtt_options options = {.takeover_pause = 15 * FMS_SECOND};
    struct mqtt_rival rival = {0};
    int64_t pause = 0;

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(mqtt_rival_met(&rival, &options, "a", false, true, FMS_SECOND, &quiet), 0);
    assert_int_equal(mqtt_rival_met(&rival, &options, "a", false, true, 11 * FMS_SECOND, &quiet), 0); /* it lasted */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(mqtt_rival_met(&rival, &options, "a", false, true, FMS_SECOND, &quiet), 0);
    for (unsigned i = 0; i < 10; i++) {
        int64_t before = pause;

        pause = mqtt_rival_met(&rival, &options, "a", false, true, before > 0 ? 2 * before : FMS_SECOND, &quiet);
        assert_true(pause >= before && pause > 0);
    }
    assert_int_equal(pause, 600 * FMS_SECOND);
    assert_int_equal(mqtt_rival_met(&rival, &options, "a", false, true, 3600 * FMS_SECOND, &quiet), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_costs_nothing),
        cmocka_unit_test(test_properties_become_headers),
        cmocka_unit_test(test_too_many_user_properties_are_counted),
        cmocka_unit_test(test_user_properties_come_out_as_they_went_in),
        cmocka_unit_test(test_headers_become_properties),
        cmocka_unit_test(test_filters_match),
        cmocka_unit_test(test_filters_overlap),
        cmocka_unit_test(test_filters_of_a_topic),
        cmocka_unit_test(test_filters_of_empty_levels),
        cmocka_unit_test(test_a_rival_is_left_alone),
        cmocka_unit_test(test_a_rival_is_guessed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
