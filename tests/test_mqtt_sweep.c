/* test_mqtt_sweep.c - which filters may have brought a message: by MQTT's own examples, and by comparison with all there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../plugins/mqtt_ingest/sweep.h"

static void test_matches(void **state)
{
    static const struct {
        const char *filter, *topic;
        bool matches;
    } rows[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true}, /* 4.7.1.2 */
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/#", "sport", true},
        {"sport/#", "sports", false},
        {"#", "a/b", true},
        {"sport/tennis/+", "sport/tennis/player1", true}, /* 4.7.1.3 */
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"#", "$SYS/x", false}, /* 4.7.2 */
        {"+/x", "$SYS/x", false},
        {"$SYS/#", "$SYS/x", true},
        {"a/b", "a/b", true},
        {"a/b", "a/bc", false},
        {"a/bc", "a/b", false},
        {"+/b/#", "a/b", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sweep_matches(rows[i].filter, fms_text(rows[i].topic)) != rows[i].matches)
            fail_msg("%s and %s", rows[i].filter, rows[i].topic);
    }
}

/* Each of the filters but those with a wildcard for $ matches, none comes twice, and there are as many as there can be. */
static void test_filters(void **state)
{
    static const char *const topics[] = {"a", "a/b", "/", "a//b", "fms/truck/17/data", "a/b/c/d/e/f/g/h", ""};

    (void)state;
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        struct fms_bytes topic = fms_text(topics[i]);
        size_t count = sweep_count(topic), levels = 1;
        char(*filters)[SWEEP_FILTER_MAX + 1] = calloc(count, sizeof *filters);

        for (const char *at = topics[i]; *at != '\0'; at++)
            levels += *at == '/';
        assert_int_equal(count, ((size_t)1 << levels) + ((size_t)2 << levels) - 1);
        for (size_t n = 0; n < count; n++) {
            sweep_filter(topic, n, filters[n]);
            if (!sweep_matches(filters[n], topic))
                fail_msg("%s does not match %s", filters[n], topics[i]);
            for (size_t k = 0; k < n; k++)
                assert_string_not_equal(filters[k], filters[n]);
        }
        free(filters);
    }
}

/* However deep or long a topic is, the filters are not many, and fit. */
static void test_bounds(void **state)
{
    char topic[SWEEP_TOPIC_MAX], filter[SWEEP_FILTER_MAX + 1];
    struct fms_bytes bytes = fms_bytes_of(topic, sizeof topic);

    (void)state;
    for (int i = 0; i < 2; i++) {
        memset(topic, i == 0 ? '/' : 'x', sizeof topic);
        assert_true(sweep_count(bytes) < 4096);
        for (size_t n = 0; n < sweep_count(bytes); n++) {
            sweep_filter(bytes, n, filter);
            assert_true(strlen(filter) <= SWEEP_FILTER_MAX);
            assert_true(sweep_matches(filter, bytes));
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
