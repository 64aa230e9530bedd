/* test_compression.c - when kafka_sink compresses, on a clock of the test's own. */
#include "../plugins/kafka_sink/compression.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAMPLE ((size_t)64 << 10)

static char same[1 << 20], random_bytes[1 << 20], digits[1 << 20];
static int64_t now;

static void fill(void)
{
    uint32_t seed = 1;

    memset(same, 'x', sizeof same);
    for (size_t i = 0; i < sizeof random_bytes; i++) {
        seed = seed * 1103515245 + 12345;
        random_bytes[i] = (char)(seed >> 16);
        digits[i] = "0123456789abcdef"[seed >> 20 & 15];
    }
}

/* So many batches of so many bytes are delivered. */
static void deliver(struct compression *c, size_t batches, size_t bytes)
{
    static int32_t partition;

    for (size_t i = 0; i < batches; i++) {
        partition = 1 - partition;
        compression_delivered(c, c, partition, bytes / 2);
        compression_delivered(c, c, partition, bytes - bytes / 2);
    }
}

static size_t batch = 100000; /* bytes */

/* Payloads of `size` bytes come, one each `gap`, until the sink is to change or `most` have come; how many came. A batch is delivered with each. */
static size_t run(struct compression *c, const char *bytes, size_t size, int64_t gap, size_t most)
{
    deliver(c, 10, batch);
    for (size_t i = 0; i < most; i++) {
        size_t at = i * size % ((1 << 20) - size + 1);
        struct fms_record record = {.payload = {&bytes[at], size}};

        now += gap;
        deliver(c, 1, batch);
        for (size_t offers = i % 3;; offers--) { /* what is offered again counts once */
            size_t added = compression_add(c, &(const struct fms_record *){&record}, 1, now);

            if (offers == 0)
                break;
            compression_take_back(c, added);
        }
        if (compression_judge(c, now))
            return i + 1;
    }
    return most;
}

static void test_what_does_not_get_smaller(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } payloads[] = {{random_bytes, 16384}, {digits, 16384}, {random_bytes, 1000}, {digits, 300000}, {digits, 7}};

    (void)state;
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        struct compression c = {0};
        size_t size = payloads[i].size, each = (SAMPLE + size - 1) / size;

        compression_begin(&c);
        assert_true(c.is_on);
        assert_int_equal(run(&c, payloads[i].bytes, size, FMS_US, 1000000), 3 * each); /* three samples at once */
        assert_false(c.is_on);
        compression_free(&c);
    }
}

static void test_what_gets_smaller(void **state)
{
    struct compression c = {0};

    (void)state;
    compression_begin(&c);
    assert_int_equal(run(&c, same, 1000, FMS_MS, 100000), 100000);
    assert_true(c.is_on);
    compression_free(&c);
}

/* What was decided holds for a minute, and is then looked at anew; in a sink that goes on it takes three samples, a second each. */
static void test_what_comes_changes(void **state)
{
    struct compression c = {0};
    int64_t began;

    (void)state;
    compression_begin(&c);
    run(&c, random_bytes, 16384, FMS_US, 1000);
    began = now;
    assert_true(run(&c, same, 16384, FMS_MS, 1000000) < 1000000);
    assert_true(c.is_on);
    assert_in_range(now - began, 60 * FMS_SECOND, 61 * FMS_SECOND);
    assert_int_equal(run(&c, same, 16384, FMS_MS, 200000), 200000);
    began = now;
    assert_true(run(&c, random_bytes, 16384, FMS_MS, 1000000) < 1000000);
    assert_false(c.is_on);
    assert_in_range(now - began, 2 * FMS_SECOND, 4 * FMS_SECOND);
    compression_free(&c);
}

/* One sample in two, or two in a row, are no proof. */
static void test_mixed_payloads_change_nothing(void **state)
{
    struct compression c = {0};

    (void)state;
    compression_begin(&c);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(run(&c, random_bytes, SAMPLE, FMS_SECOND, 2), 2);
        assert_int_equal(run(&c, same, SAMPLE, FMS_SECOND, 1), 1);
    }
    assert_true(c.is_on);
    compression_free(&c);
}

/* To start lz4 for a small batch is not worth it, whatever it saves. */
static void test_small_batches(void **state)
{
    struct compression c = {0};

    (void)state;
    compression_begin(&c);
    batch = 2000;
    assert_int_equal(run(&c, same, SAMPLE, FMS_US, 100), 3);
    assert_false(c.is_on);
    assert_true(compression_batches_are_small(&c));
    assert_in_range(c.batch, 2000, 2300);
    batch = 10000; /* as good as those that it would not have been turned off for */
    assert_int_equal(run(&c, same, SAMPLE, FMS_SECOND, 1000), 1000);
    batch = 20000;
    assert_true(run(&c, same, SAMPLE, FMS_SECOND, 1000) < 1000);
    assert_true(c.is_on);
    batch = 10000;
    assert_int_equal(run(&c, same, SAMPLE, FMS_SECOND, 1000), 1000);
    batch = 100000;
    compression_free(&c);
}

/* How large batches are must be known; what comes of one partition in a row is one, unless time has passed. */
static void test_batches_are_counted(void **state)
{
    const struct fms_record record = {.payload = {same, SAMPLE}};
    struct compression c = {0};

    (void)state;
    compression_begin(&c);
    deliver(&c, 3, 3000);
    assert_int_equal(compression_add(&c, &(const struct fms_record *){&record}, 1, now), 0);
    for (size_t i = 0; i < 100; i++)
        compression_delivered(&c, &c, 7, 10);
    assert_int_equal(compression_add(&c, &(const struct fms_record *){&record}, 1, now), SAMPLE);
    assert_false(compression_judge(&c, now));
    assert_int_equal(c.batch, 10000 / 4);
    for (size_t i = 0; i < 100; i++) {
        compression_delivered(&c, &c, 7, 10);
        compression_pause(&c);
    }
    assert_int_equal(compression_add(&c, &(const struct fms_record *){&record}, 1, now), SAMPLE);
    assert_false(compression_judge(&c, now));
    assert_in_range(c.batch, 10, 200);
    compression_free(&c);
}

/* Each change is followed by a longer rest. */
static void test_changes_become_rare(void **state)
{
    struct compression c = {0};
    unsigned changes = 0;
    int64_t began = now;

    (void)state;
    compression_begin(&c);
    while (now - began < 24 * 3600 * FMS_SECOND)
        changes += run(&c, c.is_on ? random_bytes : same, SAMPLE, FMS_SECOND, 100) < 100;
    assert_in_range(changes, 24, 24 + 8);
    compression_free(&c);
}

static void test_what_fits(void **state)
{
    struct fms_bytes small = {same, 1 << 20}, large = {random_bytes, 100000}, empty = {NULL, 0};

    (void)state;
    assert_true(compression_fits(small, 10000));
    assert_false(compression_fits(small, 100));
    assert_false(compression_fits(small, 0));
    assert_false(compression_fits(large, 99999));
    assert_false(compression_fits(empty, 0));
}

/* Where something would not fit otherwise, it stays on. */
static void test_it_is_needed(void **state)
{
    struct compression c = {0};

    (void)state;
    compression_begin(&c);
    run(&c, random_bytes, 16384, FMS_US, 1000);
    assert_false(c.is_on);
    compression_need(&c);
    assert_true(c.is_on);
    assert_int_equal(run(&c, random_bytes, 16384, FMS_MS, 1000000), 1000000);
    assert_true(c.is_on);
    compression_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_does_not_get_smaller),
        cmocka_unit_test(test_what_gets_smaller),
        cmocka_unit_test(test_what_comes_changes),
        cmocka_unit_test(test_mixed_payloads_change_nothing),
        cmocka_unit_test(test_small_batches),
        cmocka_unit_test(test_batches_are_counted),
        cmocka_unit_test(test_changes_become_rare),
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_it_is_needed),
    };

    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
