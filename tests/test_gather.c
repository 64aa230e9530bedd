/* test_gather.c - how long kafka_sink keeps records, on a clock of the test's own. */
#include "../plugins/kafka_sink/gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS FMS_MS
#define US FMS_US

static struct fms_record stock[20000];
static int64_t now;

/* Records FIRST to FIRST + COUNT - 1 come. */
static void put(struct gather *gather, size_t first, size_t count)
{
    const struct fms_record *records[256];

    assert_true(count <= 256);
    for (size_t i = 0; i < count; i++)
        records[i] = &stock[first + i];
    assert_true(gather_put(gather, records, count, now));
}

/* What is there is handed on when it is due; how many that are. */
static size_t hand_on(struct gather *gather)
{
    size_t count = gather->count;

    if (gather_due_at(gather) > now)
        now = gather_due_at(gather);
    gather_judge(gather, now);
    gather_drop(gather, count);
    return count;
}

/* A source whose broker lets `window` messages be under way: all of them come at once, and more only when these were handed on. How
 * long each round waits at most, and how many of them were gathered. */
static void run_window(struct gather *gather, size_t window, size_t rounds, int64_t *longest, size_t *gathered)
{
    *longest = 0;
    *gathered = 0;
    for (size_t i = 0; i < rounds; i++) {
        int64_t began = now;

        if (!gather_is_on(gather, now)) {
            gather_pass(gather, window);
        } else {
            put(gather, 0, window / 2);
            now += 20 * US;
            put(gather, window / 2, window - window / 2);
            assert_int_equal(hand_on(gather), window);
            ++*gathered;
        }
        *longest = now - began > *longest ? now - began : *longest;
        now += 200 * US; /* Kafka's answer, and the broker's */
    }
}

/* Records of so many microseconds from one to the next, for 10 s: mean number of them that were handed on together. */
static double run_steadily(struct gather *gather, int64_t gap, bool is_random)
{
    int64_t end = now + 10 * FMS_SECOND, next = now;
    size_t handed = 0, times = 0;

    while (now < end) {
        if (gather->count > 0 && gather_due_at(gather) <= next) {
            handed += hand_on(gather);
            times++;
            continue;
        }
        now = next;
        if (gather_is_on(gather, now)) {
            put(gather, 0, 1);
        } else {
            gather_pass(gather, 1);
            handed++;
            times++;
        }
        next = now + (is_random ? 2 * gap * (rand() % 1000) / 1000 : gap); /* NOLINT: it need not be good */
    }
    if (gather->count > 0)
        hand_on(gather);
    return (double)handed / (double)times;
}

static void test_a_steady_source_is_gathered(void **state)
{
    struct gather gather = {0};

    (void)state;
    assert_true(run_steadily(&gather, 1000 * US, false) >= 5);
    assert_true(run_steadily(&gather, 100 * US, false) >= 50);
    assert_true(run_steadily(&gather, 1000 * US, true) >= 4);
    assert_true(run_steadily(&gather, 20 * US, true) >= 200);
    free(gather.records);
}

/* Nothing comes before the wait is over, so there is none: but now and then, to see. */
static void test_a_window_is_not_waited_for(void **state)
{
    struct gather gather = {0};
    int64_t longest;
    size_t gathered;

    (void)state;
    run_steadily(&gather, 1000 * US, false); /* what came before does not matter */
    run_window(&gather, 20, 10, &longest, &gathered);
    for (size_t window = 20; window <= 200; window *= 10) {
        int64_t began = now;

        run_window(&gather, window, 20000, &longest, &gathered);
        assert_true(longest <= 600 * US);
        assert_in_range(gathered, (now - began) / (110 * MS), (now - began) / (100 * MS) + 1);
    }
    assert_true(run_steadily(&gather, 1000 * US, false) >= 4); /* nor for what comes after */
    free(gather.records);
}

/* A single record has nobody to wait for. */
static void test_one_now_and_then_is_not_kept(void **state)
{
    struct gather gather = {0};
    unsigned kept = 0;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        now += FMS_SECOND / 50;
        if (!gather_is_on(&gather, now)) {
            gather_pass(&gather, 1);
            continue;
        }
        put(&gather, i, 1);
        assert_true(gather_due_at(&gather) <= now + 5 * MS);
        assert_int_equal(hand_on(&gather), 1);
        kept++;
    }
    assert_in_range(kept, 3, 3 + 20);
    free(gather.records);
}

static void test_many_are_not_kept(void **state)
{
    struct gather gather = {0};

    (void)state;
    for (size_t i = 0; i < 16; i++) {
        assert_true(gather_due_at(&gather) > now || gather.count == 0);
        put(&gather, 256 * i, 256);
    }
    assert_true(gather_due_at(&gather) <= now);
    hand_on(&gather);
    assert_true(gather_is_on(&gather, now)); /* that was worth it */
    free(gather.records);
}

/* What was not taken stays, in its order, before what comes. */
static void test_their_order(void **state)
{
    struct gather gather = {0};
    size_t expected = 0, came = 0;

    (void)state;
    for (size_t i = 0; i < 60; i++) {
        put(&gather, came, 256);
        came += 256;
        for (size_t n = 0; n < 3 * i && gather.count > 0; n++, expected++) {
            assert_ptr_equal(gather.records[gather.first], &stock[expected]);
            gather_drop(&gather, 1);
        }
    }
    assert_int_equal(gather.count, came - expected);
    for (size_t i = 0; i < gather.count; i++)
        assert_ptr_equal(gather.records[gather.first + i], &stock[expected + i]);
    free(gather.records);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_steady_source_is_gathered),
        cmocka_unit_test(test_a_window_is_not_waited_for),
        cmocka_unit_test(test_one_now_and_then_is_not_kept),
        cmocka_unit_test(test_many_are_not_kept),
        cmocka_unit_test(test_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
