/* test_verify_sink.c - verify_sink's definitions, one by one, and its verdict. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail

#include <jansson.h>

#include "fms_test.h"

#define SENT  (INT64_C(1763320419) * FMS_SECOND)
#define QUIET "expect = /nowhere/counts\n" /* the file never comes; silences the advice */

static char folder[] = "/tmp/fms-verify-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][64];
    static unsigned n;
    char *path = paths[n++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static struct fake *open_verify(const char *options)
{
    char ini[512];
    struct fake *f;

    snprintf(ini, sizeof ini, "format = json\nreport = %s\n%s", path_of("report"), options);
    unlink(path_of("report"));
    f = fake_open("verify_sink", FMS_SINK, ini);
    fake_clock_set(f, 10 * FMS_SECOND, SENT + 5 * FMS_MS);
    return f;
}

static void come_as(struct fake *f, const char *vehicle, int64_t number)
{
    char payload[256];

    snprintf(payload, sizeof payload,
             "{\"vehicle_id\":\"%s\",\"timestamp\":1763320419,\"speed\":56.65,\"rpm\":1316,\"fuel_level\":99.65,"
             "\"seq\":%lld,\"sent_ns\":%lld}",
             vehicle, (long long)number, (long long)SENT);
    fake_add(f, "fms/data", vehicle, payload);
}

/* Numbers of vehicle a, ending with 0. */
static void come(struct fake *f, const int *numbers)
{
    for (; *numbers != 0; numbers++)
        come_as(f, "a", *numbers);
    fake_write(f);
}

#define COME(f, ...) come((f), (const int[]){__VA_ARGS__, 0})

static void write_counts(const char *text)
{
    FILE *file = fopen(path_of("counts"), "w");

    fputs(text, file);
    fclose(file);
}

/* Ends the run; the report. */
static json_t *finish(struct fake *f)
{
    json_t *report;

    fake_shut(f);
    report = json_load_file(path_of("report"), 0, NULL);
    assert_non_null(report);
    return report;
}

static int64_t number_of(const json_t *report, const char *name)
{
    const json_t *number = json_object_get(report, name);

    assert_true(json_is_integer(number));
    return json_integer_value(number);
}

struct counts {
    int messages, distinct, lost, duplicated, out_of_order;
};

static void check(struct fake *f, struct counts wanted, bool is_kept)
{
    json_t *report = finish(f);

    assert_int_equal(number_of(report, "messages"), wanted.messages);
    assert_int_equal(number_of(report, "distinct"), wanted.distinct);
    assert_int_equal(number_of(report, "lost"), wanted.lost);
    assert_int_equal(number_of(report, "duplicated"), wanted.duplicated);
    assert_int_equal(number_of(report, "out_of_order"), wanted.out_of_order);
    assert_int_equal(json_is_true(json_object_get(report, "kept")), is_kept);
    assert_int_equal(fake_said(f, "error: the promise was broken") != NULL, !is_kept);
    json_decref(report);
    fake_close(f);
}

static void test_all_is_well(void **state)
{
    struct fake *f = open_verify("");

    (void)state;
    COME(f, 1, 2, 3, 4);
    check(f, (struct counts){4, 4, 0, 0, 0}, true);
}

static void test_lost_in_the_middle(void **state)
{
    struct fake *f = open_verify("");

    (void)state;
    COME(f, 1, 2, 5, 6, 9);
    check(f, (struct counts){5, 5, 4, 0, 0}, false);
}

static void test_loss_may_be_allowed(void **state)
{
    struct fake *f = open_verify("allow = loss\n");

    (void)state;
    COME(f, 1, 3);
    check(f, (struct counts){2, 2, 1, 0, 0}, true);
}

static void test_duplicates(void **state)
{
    struct fake *f = open_verify("");

    (void)state;
    COME(f, 1, 1, 2, 3, 4, 2, 4);
    check(f, (struct counts){7, 4, 0, 3, 0}, true);
    f = open_verify("allow =\n");
    COME(f, 1, 1);
    check(f, (struct counts){2, 1, 0, 1, 0}, false);
}

/* A late first arrival is disorder, no loss; the second arrival of it is a duplicate. */
static void test_disorder(void **state)
{
    struct fake *f = open_verify("");

    (void)state;
    COME(f, 1, 2, 6, 4, 4, 3, 5);
    check(f, (struct counts){7, 6, 0, 1, 3}, false);
}

/* What the report would say now. */
static void test_measures(void **state)
{
    struct fake *f = open_verify("");

    (void)state;
    COME(f, 1, 2, 6, 4, 4, 9);
    come_as(f, "b", 1);
    fake_write(f);
    fake_measure(f);
    assert_true(fake_gauge(f, "vehicles") == 2);
    assert_true(fake_gauge(f, "missing_messages") == 4); /* 3, 5, 7, 8 */
    assert_true(fake_gauge(f, "duplicated_messages") == 1);
    assert_true(fake_gauge(f, "disordered_messages") == 1);
    COME(f, 3);
    fake_measure(f);
    assert_true(fake_gauge(f, "missing_messages") == 3 && fake_gauge(f, "disordered_messages") == 2);
    check(f, (struct counts){8, 7, 3, 1, 2}, false);
}

/* Each way to fill a hole: from its front, its back, its middle. */
static void test_gaps_are_filled(void **state)
{
    struct fake *f = open_verify("allow = disorder\n");

    (void)state;
    COME(f, 1, 10, 2, 9, 5, 5, 3, 4, 7, 6);
    check(f, (struct counts){10, 9, 1, 1, 7}, false);
    f = open_verify("allow = disorder\n");
    COME(f, 5, 3, 4, 1, 2);
    check(f, (struct counts){5, 5, 0, 0, 4}, true);
}

/* Against a plain count of each number, with random arrivals. */
static void test_random_arrivals(void **state)
{
    enum { MOST = 300 };

    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        unsigned times[MOST + 1] = {0};
        unsigned random = seed;
        struct counts wanted = {0};
        struct fake *f = open_verify("allow = loss, duplicates, disorder\n");
        int high = 0, low = MOST;

        for (int i = 0; i < 400; i++) {
            int number;

            random = random * 1103515245 + 12345;
            number = (int)(random >> 16) % MOST + 1;
            wanted.messages++;
            wanted.duplicated += times[number] > 0;
            wanted.out_of_order += times[number] == 0 && number < high;
            wanted.distinct += times[number]++ == 0;
            high = number > high ? number : high;
            low = number < low ? number : low;
            COME(f, number);
        }
        for (int number = low; number <= high; number++)
            wanted.lost += times[number] == 0;
        check(f, wanted, true);
    }
}

static void test_counts_show_head_and_tail(void **state)
{
    char ini[128];
    struct fake *f;

    (void)state;
    snprintf(ini, sizeof ini, "expect = %s\n", path_of("counts"));
    write_counts("7 a\n3 never-came\n");
    f = open_verify(ini);
    fake_poll(f, 0);
    COME(f, 3, 4, 5);
    check(f, (struct counts){3, 3, 2 + 2 + 3, 0, 0}, false);
}

/* The counts come after the messages; some of those are not of them. */
static void test_counts_come_late(void **state)
{
    char ini[128];
    struct fake *f;
    json_t *report;

    (void)state;
    unlink(path_of("counts"));
    snprintf(ini, sizeof ini, "expect = %s\n", path_of("counts"));
    f = open_verify(ini);
    fake_poll(f, 0);
    COME(f, 2, 3, 5, 6, 9);
    come_as(f, "stranger", 5);
    come_as(f, "stranger", 8);
    fake_write(f);
    write_counts("5 a\n");
    fake_clock_step(f, FMS_SECOND);
    fake_poll(f, 0);
    come_as(f, "stranger", 9);
    come_as(f, "a", 7);
    come_as(f, "a", 4);
    fake_write(f);
    assert_false(fake_finished(f));
    report = finish(f);
    assert_int_equal(number_of(report, "expected"), 5);
    assert_int_equal(number_of(report, "distinct"), 4);
    assert_int_equal(number_of(report, "lost"), 1);
    assert_int_equal(number_of(report, "out_of_order"), 1);
    assert_int_equal(number_of(report, "unexpected"), 6);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(report, "missing"), 0), "vehicle")), "a");
    json_decref(report);
    fake_close(f);
}

static void test_ends_when_all_is_there(void **state)
{
    char ini[128];
    struct fake *f;

    (void)state;
    snprintf(ini, sizeof ini, "expect = %s\n", path_of("counts"));
    write_counts("3 a\n");
    f = open_verify(ini);
    fake_poll(f, 0);
    COME(f, 1, 2);
    fake_clock_step(f, 3600 * FMS_SECOND);
    fake_poll(f, 0);
    assert_false(fake_finished(f));
    COME(f, 3);
    fake_poll(f, 0);
    assert_false(fake_finished(f)); /* repetitions may follow */
    fake_clock_step(f, FMS_SECOND);
    fake_poll(f, 0);
    assert_true(fake_finished(f));
    check(f, (struct counts){3, 3, 0, 0, 0}, true);
}

static void test_ends_when_idle(void **state)
{
    struct fake *f = open_verify("idle_timeout = 30s\n");

    (void)state;
    fake_poll(f, 0);
    COME(f, 1, 2);
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, 40 * FMS_SECOND);
    fake_clock_step(f, 30 * FMS_SECOND);
    fake_poll(f, 0);
    assert_true(fake_finished(f));
    check(f, (struct counts){2, 2, 0, 0, 0}, true);
}

/* No verdict without the counts that it was to go by. */
static void test_counts_never_come(void **state)
{
    struct fake *f = open_verify(QUIET);

    (void)state;
    COME(f, 1);
    check(f, (struct counts){1, 1, 0, 0, 0}, false);
}

static void test_bad_counts_are_named(void **state)
{
    static const char *const bad[] = {
        "", "\n", "a 7\n", "7\n", "-7 a\n", "0 a\n", "7 \n", "99999999999999999999 a\n", "7 a\n7 a\n"};
    char ini[128];

    (void)state;
    snprintf(ini, sizeof ini, "expect = %s\n", path_of("counts"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fake *f = open_verify(ini);

        write_counts(bad[i]);
        assert_int_equal(fake_poll(f, 0), -EINVAL);
        assert_non_null(fake_said(f, "error: expect: "));
        fake_close(f);
        assert_int_not_equal(access(path_of("report"), F_OK), 0);
    }
}

static void test_corrupted(void **state)
{
    static const char *const bad[] = {
        "",
        "no JSON",
        "{}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1}",
        "{\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":0,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":-1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1.5,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":12345678901234567890,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":9223372036854775808}",
        "{\"vehicle_id\":\"\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\\u0000b\",\"speed\":1,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":120.01,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":-1,\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":\"fast\",\"rpm\":1,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":3001,\"fuel_level\":1,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":100.5,\"seq\":1,\"sent_ns\":5}",
        "{\"vehicle_id\":\"a\",\"speed\":1,\"rpm\":1,\"fuel_level\":null,\"seq\":1,\"sent_ns\":5}",
    };
    const size_t count = sizeof bad / sizeof bad[0];
    struct fake *f = open_verify("");
    json_t *report;

    (void)state;
    for (size_t i = 0; i < count; i++)
        fake_add(f, "fms/data", "a", bad[i]);
    COME(f, 1);
    report = finish(f);
    assert_int_equal(number_of(report, "corrupted"), count);
    assert_int_equal(number_of(report, "messages"), count + 1);
    assert_int_equal(number_of(report, "distinct"), 1);
    assert_int_equal(fake_counter(f, "corrupted"), count);
    assert_false(json_is_true(json_object_get(report, "kept")));
    assert_non_null(fake_said(f, "error: the promise was broken"));
    json_decref(report);
    fake_close(f);
}

static void test_latency(void **state)
{
    struct fake *f = open_verify("");
    const json_t *latency;
    json_t *report;

    (void)state;
    for (int i = 1; i <= 1000; i++) {
        fake_clock_set(f, 10 * FMS_SECOND, SENT + i * FMS_MS);
        COME(f, i);
    }
    fake_clock_set(f, 10 * FMS_SECOND, SENT - FMS_SECOND);
    COME(f, 1001);
    report = finish(f);
    latency = json_object_get(report, "latency_ms");
    assert_true(json_real_value(json_object_get(latency, "p50")) > 480);
    assert_true(json_real_value(json_object_get(latency, "p50")) < 520);
    assert_true(json_real_value(json_object_get(latency, "p99")) > 960);
    assert_true(json_real_value(json_object_get(latency, "max")) == 1000);
    assert_int_equal(number_of(report, "early"), 1);
    json_decref(report);
    fake_close(f);
}

static void test_many_vehicles(void **state)
{
    struct fake *f = open_verify("");
    char id[32];

    (void)state;
    for (int number = 1; number <= 3; number++) {
        for (int i = 0; i < 5000; i++) {
            snprintf(id, sizeof id, "vehicle-%d", i);
            come_as(f, id, number);
        }
        fake_write(f);
    }
    check(f, (struct counts){15000, 15000, 0, 0, 0}, true);
}

static void test_other_payloads(void **state)
{
    struct fake *f = open_verify("vehicle = ${topic[1]}\nsequence = ${header:number}\nsent = ${timestamp_ms}\n"
                                 "speed = 0\nrpm = 0\nfuel_level = 0\n");
    struct fms_header number = {"number", fms_text("1")};
    struct fms_record draft = {
        .topic = fms_text("fms/a/data"), .headers = &number, .header_count = 1, .timestamp = SENT};

    (void)state;
    fake_add_record(f, &draft);
    number.value = fms_text("2");
    fake_add_record(f, &draft);
    fake_write(f);
    check(f, (struct counts){2, 2, 0, 0, 0}, true);
}

static void test_reports_on_the_way(void **state)
{
    struct fake *f = open_verify("report_interval = 10s\n");
    json_t *report;

    (void)state;
    fake_poll(f, 0);
    COME(f, 1, 2);
    fake_poll(f, 0);
    assert_int_not_equal(access(path_of("report"), F_OK), 0);
    assert_int_equal(fake_waits_for(f)->deadline, 20 * FMS_SECOND);
    fake_clock_step(f, 10 * FMS_SECOND);
    fake_poll(f, 0);
    report = json_load_file(path_of("report"), 0, NULL);
    assert_int_equal(number_of(report, "messages"), 2);
    json_decref(report);
    COME(f, 3);
    check(f, (struct counts){3, 3, 0, 0, 0}, true);
}

static void test_report_that_can_t_be_written(void **state)
{
    struct fake *f = fake_open("verify_sink", FMS_SINK, "report = /nowhere/report\n");

    (void)state;
    fake_shut(f);
    assert_non_null(fake_said(f, "error: report: /nowhere/report.new: No such file"));
    fake_close(f);
}

static void test_check_names_what_is_wrong(void **state)
{
    struct fake *f = fake_check("verify_sink", FMS_SINK, "allow = losses\n");

    (void)state;
    assert_int_equal(fake_error(f), -EINVAL);
    assert_non_null(fake_said(f, "error: allow: \"losses\" is none of loss, duplicates, disorder, corruption"));
    fake_close(f);
    f = fake_check("verify_sink", FMS_SINK, "");
    assert_non_null(fake_said(f, "advice: expect: "));
    fake_close(f);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path_of("report"));
    unlink(path_of("counts"));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_lost_in_the_middle),
        cmocka_unit_test(test_loss_may_be_allowed),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_disorder),
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_gaps_are_filled),
        cmocka_unit_test(test_random_arrivals),
        cmocka_unit_test(test_counts_show_head_and_tail),
        cmocka_unit_test(test_counts_come_late),
        cmocka_unit_test(test_ends_when_all_is_there),
        cmocka_unit_test(test_ends_when_idle),
        cmocka_unit_test(test_counts_never_come),
        cmocka_unit_test(test_bad_counts_are_named),
        cmocka_unit_test(test_corrupted),
        cmocka_unit_test(test_latency),
        cmocka_unit_test(test_many_vehicles),
        cmocka_unit_test(test_other_payloads),
        cmocka_unit_test(test_reports_on_the_way),
        cmocka_unit_test(test_report_that_can_t_be_written),
        cmocka_unit_test(test_check_names_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
