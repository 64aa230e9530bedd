/* test_throttle.c - which record of a key passes, when, and in what order; on a stepped clock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "refusal.h"

#define START (1000 * FMS_SECOND)

static struct fake *open_throttle(const char *options)
{
    char ini[256];
    struct fake *f;

    snprintf(ini, sizeof ini, "interval = 10s\nkey = ${key}\n%s", options);
    f = fake_open("throttle", FMS_TRANSFORM, ini);
    fake_clock_set(f, START, 0);
    fake_poll(f, 0);
    return f;
}

/* Records of these keys, one character each; their payloads are their numbers. */
static void come(struct fake *f, const char *keys)
{
    static unsigned number;
    char key[2] = "", payload[16];

    for (; *keys != '\0'; keys++) {
        key[0] = *keys;
        snprintf(payload, sizeof payload, "%u", number++);
        fake_add(f, "t", key, payload);
    }
    fake_write(f);
}

static void step(struct fake *f, int64_t nanoseconds)
{
    fake_clock_step(f, nanoseconds);
    fake_poll(f, 0);
}

/* What has come out, as the numbers of what went in; ends with -1. */
static void check_out(struct fake *f, const int *numbers)
{
    size_t n = 0;

    for (; numbers[n] >= 0 && n < fake_emitted(f); n++)
        assert_int_equal(fake_parent(f, n), numbers[n]);
    assert_int_equal(numbers[n], -1);
    assert_int_equal(fake_emitted(f), n);
}

#define OUT(f, ...) check_out((f), (const int[]){__VA_ARGS__, -1})

static void check_gauges(struct fake *f, double keys, double kept)
{
    fake_measure(f);
    assert_true(fake_gauge(f, "keys") == keys && fake_gauge(f, "kept_records") == kept);
}

static void check_counts(struct fake *f, uint64_t passed, uint64_t dropped, uint64_t early, uint64_t forgotten)
{
    assert_int_equal(fake_counter(f, "passed"), passed);
    assert_int_equal(fake_counter(f, "dropped"), dropped);
    assert_int_equal(fake_counter(f, "early"), early);
    assert_int_equal(fake_counter(f, "forgotten"), forgotten);
}

static void test_latest(void **state)
{
    struct fake *f = open_throttle("");

    (void)state;
    come(f, "a");
    OUT(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    come(f, "aa");
    OUT(f, 0);
    check_gauges(f, 1, 1);
    assert_true(fake_gauge(f, "keys_limit") == 100000);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 2), 0);
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, START + 10 * FMS_SECOND);
    step(f, 10 * FMS_SECOND - 1);
    OUT(f, 0);
    step(f, 1);
    OUT(f, 0, 2);
    check_gauges(f, 1, 0);
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    step(f, 9 * FMS_SECOND); /* the second interval began when that passed */
    come(f, "a");
    OUT(f, 0, 2);
    step(f, FMS_SECOND);
    OUT(f, 0, 2, 3);
    step(f, 10 * FMS_SECOND);
    come(f, "a"); /* it was quiet for an interval */
    OUT(f, 0, 2, 3, 4);
    check_counts(f, 4, 1, 0, 0);
    fake_close(f);
}

static void test_first(void **state)
{
    struct fake *f = open_throttle("which = first\n");

    (void)state;
    come(f, "aab");
    OUT(f, 0, 2);
    check_gauges(f, 2, 0);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    step(f, 10 * FMS_SECOND - 1);
    come(f, "a");
    assert_int_equal(fake_fate(f, 3), FMS_DELIVERED);
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    fake_clock_step(f, 1);
    come(f, "aba");
    OUT(f, 0, 2, 4, 5);
    assert_int_equal(fake_woken(f), 0);
    check_counts(f, 4, 3, 0, 0);
    fake_close(f);
}

/* It asks to be polled when it begins to keep something, once. */
static void test_wakes_the_host(void **state)
{
    struct fake *f = open_throttle("");

    (void)state;
    come(f, "ab");
    assert_int_equal(fake_woken(f), 0);
    come(f, "aabb");
    assert_int_equal(fake_woken(f), 1);
    fake_until(f, fake_emitted(f) == 4); /* the clock jumps to the deadline */
    OUT(f, 0, 1, 3, 5);
    come(f, "a");
    assert_int_equal(fake_woken(f), 2);
    fake_close(f);
}

/* Where the host is late, a record that comes first finds its interval over. */
static void test_order_without_a_poll(void **state)
{
    struct fake *f = open_throttle("");

    (void)state;
    come(f, "aab");
    fake_clock_step(f, 11 * FMS_SECOND);
    come(f, "ab");
    OUT(f, 0, 2, 1, 4); /* a: the kept one, which begins an interval; b: was quiet */
    step(f, 10 * FMS_SECOND);
    OUT(f, 0, 2, 1, 4, 3);
    fake_close(f);
}

static void test_keys_are_apart(void **state)
{
    struct fake *f = open_throttle("");

    (void)state;
    come(f, "a");
    step(f, 4 * FMS_SECOND);
    come(f, "bab");
    step(f, 5 * FMS_SECOND);
    come(f, "a");
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, START + 10 * FMS_SECOND);
    step(f, FMS_SECOND);
    OUT(f, 0, 1, 4);
    assert_int_equal(fake_waits_for(f)->deadline, START + 14 * FMS_SECOND);
    step(f, 4 * FMS_SECOND);
    OUT(f, 0, 1, 4, 3);
    fake_close(f);
}

struct arrivals {
    size_t seen;                      /* outputs looked at */
    size_t last_in[26], last_out[26]; /* by key, counted from 1 */
    int64_t passed_at[26];
};

/* Of each key the records come out in their order and at least an interval apart. */
static void look(struct fake *f, struct arrivals *a)
{
    int64_t now = fms_now(fake_host(f));

    for (; a->seen < fake_emitted(f); a->seen++) {
        int key = *(const char *)fake_record(f, a->seen)->key.data - 'a';
        size_t number = fake_parent(f, a->seen) + 1;

        assert_true(number > a->last_out[key]);
        assert_true(a->last_out[key] == 0 || now - a->passed_at[key] >= 10 * FMS_SECOND);
        a->last_out[key] = number;
        a->passed_at[key] = now;
    }
}

static void test_random_arrivals(void **state)
{
    enum { RECORDS = 3000 };
    struct arrivals a = {.seen = 0};
    struct fake *f = open_throttle("max_keys = 26\n");
    uint32_t random = 1;

    (void)state;
    for (size_t i = 1; i <= RECORDS; i++) {
        char key[] = "a";

        random = random * 1103515245 + 12345;
        key[0] = (char)('a' + (random >> 16) % 26);
        a.last_in[key[0] - 'a'] = i;
        come(f, key);
        look(f, &a);
        if ((random >> 8) % 3 == 0)
            step(f, (random >> 10) % 1000 * FMS_MS);
        look(f, &a);
    }
    step(f, 10 * FMS_SECOND);
    look(f, &a);
    assert_memory_equal(a.last_out, a.last_in, sizeof a.last_in);
    assert_int_equal(fake_counter(f, "passed") + fake_counter(f, "dropped"), RECORDS);
    assert_true(fake_counter(f, "dropped") > RECORDS / 4);
    assert_int_equal(fake_counter(f, "early") + fake_counter(f, "forgotten"), 0);
    fake_close(f);
}

static void test_flush_passes_what_is_kept(void **state)
{
    struct fake *f = open_throttle("");

    (void)state;
    come(f, "abcabb");
    fake_stop(f);
    OUT(f, 0, 1, 2, 3, 5);
    assert_int_equal(fake_unsettled(f), 0);
    check_counts(f, 5, 1, 0, 0);
    fake_close(f);
}

/* The key that passed longest ago goes, and what it keeps goes first. */
static void test_more_keys_than_max_keys(void **state)
{
    struct fake *f = open_throttle("max_keys = 2\n");

    (void)state;
    come(f, "a");
    step(f, FMS_SECOND);
    come(f, "ba");
    OUT(f, 0, 1);
    come(f, "c");
    OUT(f, 0, 1, 2, 3); /* a's kept one, c */
    assert_non_null(fake_said(f, "warning: more than max_keys = 2 keys came within an interval"));
    come(f, "c");
    come(f, "a"); /* b goes, which keeps nothing; a is as new */
    OUT(f, 0, 1, 2, 3, 5);
    assert_int_equal(fake_count_said(f, "max_keys"), 1);
    check_counts(f, 5, 0, 1, 2);
    step(f, 10 * FMS_SECOND);
    OUT(f, 0, 1, 2, 3, 5, 4);
    fake_close(f);
}

/* A key whose interval is over is forgotten first, and nobody need know. */
static void test_idle_keys_make_room(void **state)
{
    struct fake *f = open_throttle("max_keys = 2\n");

    (void)state;
    come(f, "ab");
    step(f, 10 * FMS_SECOND);
    come(f, "bcbc"); /* a goes */
    OUT(f, 0, 1, 2, 3);
    step(f, 10 * FMS_SECOND);
    OUT(f, 0, 1, 2, 3, 4, 5);
    check_counts(f, 6, 0, 0, 0);
    assert_null(fake_said(f, "max_keys"));
    fake_close(f);
}

/* What fms_room answers; the fake host's own has few bytes to its records. */
static size_t room_records, room_bytes;

static void room(const struct fms_host *host, size_t *records, size_t *bytes)
{
    (void)host;
    *records = room_records;
    *bytes = room_bytes;
}

static struct fake *open_with_room(size_t records, size_t bytes)
{
    struct fake *f = fake_check("throttle", FMS_TRANSFORM, "interval = 10s\nkey = ${key}\n");

    room_records = records;
    room_bytes = bytes;
    fake_host(f)->room = room;
    assert_int_equal(fake_start(f), 0);
    fake_clock_set(f, START, 0);
    fake_poll(f, 0);
    return f;
}

/* Half of what the pipeline may have in flight. */
static void test_keeps_half_of_the_records(void **state)
{
    struct fake *f = open_with_room(7, SIZE_MAX);

    (void)state;
    room_records = 0; /* what there is room for now does not matter */
    come(f, "abcdeabcde");
    OUT(f, 0, 1, 2, 3, 4, 8, 9);
    assert_int_equal(fake_unsettled(f), 3);
    assert_int_equal(fake_counter(f, "early"), 2);
    assert_int_equal(fake_count_said(f, "warning: 3 records are kept"), 1);
    come(f, "a"); /* takes the place of its earlier one */
    assert_int_equal(fake_fate(f, 5), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 10), 0);
    step(f, 10 * FMS_SECOND);
    OUT(f, 0, 1, 2, 3, 4, 8, 9, 10, 6, 7);
    come(f, "abc"); /* there is room again */
    assert_int_equal(fake_unsettled(f), 3);
    check_counts(f, 10, 1, 2, 0);
    fake_close(f);
}

/* The pipeline counts what is kept with its bookkeeping; here it is taken for not more than half of this. */
static void test_keeps_half_of_the_bytes(void **state)
{
    struct fake *f = open_with_room(1000, 100000);

    (void)state;
    come(f, "abcdefghijklmnopqrstuvwxyz");
    come(f, "abcdefghijklmnopqrstuvwxyz");
    assert_true(fake_unsettled(f) > 1);
    assert_true(fake_unsettled(f) * 4096 <= 50000);
    assert_int_equal(fake_counter(f, "early"), 26 - fake_unsettled(f));
    fake_close(f);
}

/* A record that is too large to keep passes, behind those of its key that came before. */
static void test_too_large_to_keep(void **state)
{
    static char large[50001];
    struct fake *f = open_with_room(1000, 100000);
    struct fms_header header = {"large", {large, sizeof large - 1}};
    struct fms_record record = {.key = fms_text("a"), .headers = &header, .header_count = 1};

    (void)state;
    memset(large, 'x', sizeof large - 1);
    come(f, "aa");
    fake_add(f, "t", "a", large);
    fake_write(f);
    OUT(f, 0, 2);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    fake_add_record(f, &record);
    come(f, "a");
    OUT(f, 0, 2, 3);
    step(f, 10 * FMS_SECOND);
    OUT(f, 0, 2, 3, 4);
    check_counts(f, 4, 1, 2, 0);
    fake_close(f);
}

/* More room than at the start shows as soon as it is needed. */
static void test_learns_of_more_room(void **state)
{
    struct fake *f = open_with_room(0, 0);

    (void)state;
    room_records = 2;
    room_bytes = 100000;
    come(f, "aa");
    assert_int_equal(fake_unsettled(f), 1);
    check_counts(f, 1, 0, 0, 0);
    fake_close(f);
}

static void test_many_keys(void **state)
{
    enum { KEYS = 5000 };
    struct fake *f = open_throttle("max_keys = 5000\n");
    char key[32];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < KEYS; i++) {
            snprintf(key, sizeof key, "vehicle-%d", i);
            fake_add(f, "t", key, "{}");
        }
        fake_write(f);
    }
    assert_int_equal(fake_unsettled(f), KEYS);
    step(f, 10 * FMS_SECOND);
    assert_int_equal(fake_emitted(f), 2 * KEYS);
    check_counts(f, 2 * KEYS, KEYS, 0, 0);
    fake_close(f);
}

static void test_the_default_key(void **state)
{
    struct fake *f = fake_open("throttle", FMS_TRANSFORM, "interval = 10s\nwhich = first\n");

    (void)state;
    fake_clock_set(f, START, 0);
    fake_add(f, "t", "a", "{\"vehicle_id\":\"raspi-001\"}");
    fake_add(f, "t", "b", "{\"vehicle_id\":\"raspi-001\"}");
    fake_add(f, "t", "a", "{\"vehicle_id\":\"raspi-002\"}");
    fake_add(f, "t", "a", "{}");
    fake_add(f, "t", "a", "no JSON");
    assert_int_equal(fake_write(f), 5);
    OUT(f, 0, 2);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    assert_string_equal(fake_reason(f, 3), "key: no field \"vehicle_id\" in the payload");
    assert_string_equal(fake_reason(f, 4), "key: the payload is no JSON object: { or [ expected at byte 0");
    fake_close(f);
}

static void test_long_keys(void **state)
{
    struct fake *f = open_throttle("which = first\nmax_keys = 1\n");
    char key[1026];

    (void)state;
    memset(key, 'k', sizeof key);
    for (size_t size = 1025; size > 1022; size--) {
        key[size] = '\0';
        fake_add(f, "t", key, "");
    }
    fake_add(f, "t", "", "");
    fake_add(f, "t", "", "");
    fake_write(f);
    OUT(f, 1, 2, 3);
    assert_string_equal(fake_reason(f, 0), "key: it has 1025 bytes, more than 1024");
    fake_close(f);
}

static void test_bad_configuration(void **state)
{
    static const struct refusal cases[] = {
        {"", "interval is missing"},
        {"interval = 0\n", "interval"},
        {"interval = 8d\n", "interval"},
        {"interval = 1s\nwhich = last\n", "which"},
        {"interval = 1s\nmax_keys = 0\n", "max_keys"},
        {"interval = 1s\nkey = ${json:a..b}\n", "column 1: expected a path"},
    };

    (void)state;
    expect_refused("throttle", FMS_TRANSFORM, cases, sizeof cases / sizeof *cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_latest),
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_wakes_the_host),
        cmocka_unit_test(test_order_without_a_poll),
        cmocka_unit_test(test_keys_are_apart),
        cmocka_unit_test(test_random_arrivals),
        cmocka_unit_test(test_flush_passes_what_is_kept),
        cmocka_unit_test(test_more_keys_than_max_keys),
        cmocka_unit_test(test_idle_keys_make_room),
        cmocka_unit_test(test_keeps_half_of_the_records),
        cmocka_unit_test(test_keeps_half_of_the_bytes),
        cmocka_unit_test(test_too_large_to_keep),
        cmocka_unit_test(test_learns_of_more_room),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_the_default_key),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_bad_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
