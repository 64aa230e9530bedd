/* test_measure.c - what stages count and measure, and the state of a link. */
#include "measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"

static void a_duration_is_in_the_first_bucket_that_holds_it(void **state)
{
    static struct histogram histogram;
    int64_t sum = 0;

    (void)state;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        histogram_add(&histogram, histogram_bounds[i]);
        histogram_add(&histogram, histogram_bounds[i] + 1); /* in the next one */
        sum += 2 * histogram_bounds[i] + 1;
        assert_true(i == 0 || histogram_bounds[i] > histogram_bounds[i - 1]);
    }
    assert_int_equal(histogram.counts[0], 1);
    for (size_t i = 1; i < HISTOGRAM_BUCKETS - 1; i++)
        assert_int_equal(histogram.counts[i], 2);
    assert_int_equal(histogram.counts[HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(histogram.sum, sum);
    histogram_add(&histogram, INT64_MIN);
    assert_int_equal(histogram.counts[0], 2);
    assert_int_equal(histogram.sum, sum);
}

static void many_durations_are_added_as_one(void **state)
{
    static struct histogram each;
    struct histogram_view all = {.sum = 0};
    static const int64_t durations[] = {INT64_MIN, -1, 0, 1, 99999, 65536, 131072, FMS_SECOND, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        for (size_t n = 0; n < i; n++)
            histogram_add(&each, durations[i]);
        histogram_view_add(&all, durations[i], i);
        assert_memory_equal(all.counts, histogram_read(&each).counts, sizeof all.counts);
    }
    assert_true(all.sum > 8e18 * 8); /* more than 64 bits */
}

static void tables_are_as_long_as_the_plugin_s(void **state)
{
    static const struct fms_metric one[] = {{"a", "b"}, {NULL, NULL}}, two[] = {{"a", "b"}, {"c", "d"}, {NULL, NULL}};
    static const struct fms_plugin table = {.gauges = two, .durations = one};
    struct measures measures;

    (void)state;
    assert_int_equal(measures_init(&measures, &table), 0);
    assert_int_equal(measures.counter_count, 0);
    assert_int_equal(measures.gauge_count, 2);
    assert_int_equal(measures.duration_count, 1);
    assert_true(measures.gauges[1] == 0);
    assert_int_equal(measures.durations[0].sum, 0);
    measures_free(&measures);
}

static void a_link_is_up_or_down_since_it_changed(void **state)
{
    static const struct fms_plugin table = {.name = "a"};
    struct measures measures;
    struct link_state link;

    (void)state;
    clock_set(5, 0);
    assert_int_equal(measures_init(&measures, &table), 0);
    measures_link(&measures, false, "not connected yet");
    clock_set(6, 0);
    measures_link(&measures, false, "refused");
    link = measures_link_state(&measures);
    assert_false(link.is_up);
    assert_false(link.was_up);
    assert_int_equal(link.since, 5);
    assert_string_equal(link.why, "refused");
    assert_int_equal(link.ups + link.downs, 0);

    clock_set(7, 0);
    measures_link(&measures, true, "");
    clock_set(8, 0);
    measures_link(&measures, true, "");
    link = measures_link_state(&measures);
    assert_true(link.is_up && link.was_up);
    assert_int_equal(link.since, 7);
    assert_string_equal(link.why, "");
    assert_int_equal(link.ups, 1);
    assert_int_equal(link.downs, 0);

    clock_set(9, 0);
    measures_link(&measures, false, "gone");
    link = measures_link_state(&measures);
    assert_true(!link.is_up && link.was_up);
    assert_int_equal(link.since, 9);
    assert_int_equal(link.downs, 1);
    measures_free(&measures);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_is_in_the_first_bucket_that_holds_it),
        cmocka_unit_test(many_durations_are_added_as_one),
        cmocka_unit_test(tables_are_as_long_as_the_plugin_s),
        cmocka_unit_test(a_link_is_up_or_down_since_it_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
