/* test_fms_sim.c - what the simulated fleet sends, when, and that its drives are those of vehicles. */
#include "refusal.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define EPOCH (INT64_C(1763320419) * FMS_SECOND)

struct sample {
    char vehicle[80];
    int64_t timestamp;
    double speed, fuel;
    int rpm;
};

/* A fleet on a stepped clock, from second 0. */
static struct fake *open_sim(const char *ini)
{
    struct fake *f = fake_open("fms_sim", FMS_SOURCE, ini);

    fake_clock_set(f, 0, EPOCH);
    return f;
}

static const char *payload(struct fake *f, size_t i)
{
    return fake_record(f, i)->payload.data;
}

/* Reads record i, and checks that its form is exactly the mission's. */
static struct sample sample(struct fake *f, size_t i)
{
    struct sample s;
    char text[256];

    assert_int_equal(sscanf(payload(f, i),
                            "{\"vehicle_id\":\"%79[^\"]\",\"timestamp\":%" SCNd64
                            ",\"speed\":%lf,\"rpm\":%d,\"fuel_level\":%lf}",
                            s.vehicle, &s.timestamp, &s.speed, &s.rpm, &s.fuel),
                     5);
    snprintf(text, sizeof text,
             "{\"vehicle_id\":\"%s\",\"timestamp\":%" PRId64 ",\"speed\":%.2f,\"rpm\":%d,\"fuel_level\":%.2f}",
             s.vehicle, s.timestamp, s.speed, s.rpm, s.fuel);
    assert_string_equal(payload(f, i), text);
    assert_int_equal(fake_record(f, i)->payload.size, strlen(text));
    assert_string_equal(fake_record(f, i)->key.data, s.vehicle);
    return s;
}

static void test_form(void **state)
{
    struct fake *f = open_sim("vehicles = 1000\ncount = 1001\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 1001);
    assert_string_equal(sample(f, 0).vehicle, "raspi-001");
    assert_string_equal(sample(f, 999).vehicle, "raspi-1000");
    assert_string_equal(sample(f, 1000).vehicle, "raspi-001");
    assert_int_equal(sample(f, 0).timestamp, EPOCH / FMS_SECOND);
    assert_int_equal(sample(f, 1000).timestamp, EPOCH / FMS_SECOND + 2);
    assert_string_equal(fake_record(f, 0)->topic.data, "fms/data");
    fake_close(f);
}

static void test_sequence(void **state)
{
    struct fake *f = open_sim("vehicles = 2\nsequence = yes\ncount = 4\nprefix = bus \n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_non_null(strstr(payload(f, 0), "\"vehicle_id\":\"bus001\""));
    assert_non_null(strstr(payload(f, 1), ",\"seq\":1,\"sent_ns\":1763320420000000000}"));
    assert_non_null(strstr(payload(f, 3), ",\"seq\":2,\"sent_ns\":1763320422000000000}"));
    fake_close(f);
}

static struct fake *open_numbered(const char *ini)
{
    struct fake *f = fake_check("fms_sim", FMS_SOURCE, ini);

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* Each vehicle has its own. */
static void test_messages_are_numbered(void **state)
{
    struct fake *f = open_numbered("rate = 0\nvehicles = 2\ncount = 4\norigin = yard\n");

    (void)state;
    fake_capacity(f, 3);
    fake_until(f, fake_emitted(f) == 3);
    assert_int_equal(fake_poll(f, 10), 0); /* refused, and not made again */
    fake_settle_auto(f, FMS_DELIVERED);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_ended(f));
    for (size_t i = 0; i < 4; i++) {
        const struct fms_identity *identity = fake_record(f, i)->identity;

        assert_int_equal(identity->kind, FMS_NUMBERED);
        assert_string_equal(identity->origin.data, i % 2 == 0 ? "yard/raspi-001" : "yard/raspi-002");
        assert_int_equal(identity->sequence, i / 2 + 1);
        assert_int_equal(identity->skipped, 0);
    }
    fake_close(f);
    f = open_numbered("rate = 0\ncount = 1\n");
    fake_until(f, fake_ended(f));
    assert_null(fake_record(f, 0)->identity);
    fake_close(f);
}

static void test_a_random_origin_is_another_each_time(void **state)
{
    char origins[2][FMS_ORIGIN_MOST + 1];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fake *f = open_numbered("rate = 0\ncount = 1\norigin = random\n");

        fake_until(f, fake_ended(f));
        snprintf(origins[i], sizeof origins[i], "%s", (const char *)fake_record(f, 0)->identity->origin.data);
        assert_int_equal(strlen(origins[i]), strlen("fms_sim:/raspi-001") + 32);
        fake_close(f);
    }
    assert_string_not_equal(origins[0], origins[1]);
}

static void test_fleet_is_spread_over_the_interval(void **state)
{
    struct fake *f = open_sim("vehicles = 3\ninterval = 1s\n");

    (void)state;
    fake_until(f, fake_emitted(f) == 300);
    for (int64_t i = 0; i < 300; i++)
        assert_int_equal(fake_record(f, (size_t)i)->timestamp, EPOCH + i / 3 * FMS_SECOND + i % 3 * FMS_SECOND / 3);
    assert_int_equal(fake_counter(f, "skipped"), 0);
    fake_close(f);
}

static void test_late_polls_do_not_add_up(void **state)
{
    struct fake *f = open_sim("vehicles = 10\ninterval = 1s\n");

    (void)state;
    for (int i = 0; i < 100; i++) {
        fake_poll(f, 100);
        fake_clock_step(f, 130 * FMS_MS);
    }
    assert_int_equal(fake_emitted(f), 1 + 99 * 130 / 100);
    assert_int_equal(fake_counter(f, "skipped"), 0);
    fake_close(f);
}

static void test_stall_is_left_out(void **state)
{
    struct fake *f = open_sim("vehicles = 4\ninterval = 1s\n");

    (void)state;
    fake_poll(f, 100);
    assert_int_equal(fake_emitted(f), 1);
    fake_clock_step(f, 10 * FMS_SECOND);
    fake_poll(f, 0);
    assert_int_equal(fake_waits_for(f)->deadline, FMS_NEVER);
    fake_poll(f, 100); /* the second sample was due at 0.25 s: 9 whole intervals were lost */
    assert_int_equal(fake_counter(f, "skipped"), 36);
    assert_int_equal(fake_emitted(f), 1 + 4);
    assert_int_equal(fake_waits_for(f)->deadline, 10250 * FMS_MS); /* the same beat as before */
    assert_string_equal(sample(f, 1).vehicle, "raspi-002");
    fake_close(f);
}

static void test_credit_ends_a_burst(void **state)
{
    struct fake *f = open_sim("rate = 0\n");

    (void)state;
    fake_poll(f, 7);
    assert_int_equal(fake_emitted(f), 7);
    fake_poll(f, 0);
    assert_int_equal(fake_emitted(f), 7);
    fake_close(f);
}

static void test_refused_record_comes_first(void **state)
{
    struct fake *f = open_sim("rate = 0\nvehicles = 5\nsequence = yes\n");
    struct fake *free_run = open_sim("rate = 0\nvehicles = 5\nsequence = yes\n");

    (void)state;
    fake_poll(free_run, 40);
    fake_capacity(f, 8);
    for (size_t round = 1; round <= 5; round++) {
        assert_int_equal(fake_poll(f, 40), 0);
        assert_int_equal(fake_emitted(f), 8 * round);
        for (size_t i = fake_emitted(f); i-- > 8 * (round - 1);)
            fake_settle(f, i, i % 2 ? FMS_DELIVERED : FMS_REJECTED); /* out of order */
    }
    for (size_t i = 0; i < 40; i++)
        assert_string_equal(payload(f, i), payload(free_run, i));
    fake_close(free_run);
    fake_close(f);
}

/* What was refused was not sent; what an earlier run left is gone at once. */
static void test_counts(void **state)
{
    char path[] = "/tmp/fms-sim-XXXXXX", ini[128], text[128] = "";
    int fd = mkstemp(path);
    struct fake *f;
    FILE *file;

    (void)state;
    assert_int_equal(close(fd), 0);
    snprintf(ini, sizeof ini, "rate = 0\nvehicles = 3\nsequence = yes\ncounts = %s\n", path);
    f = open_sim(ini);
    assert_int_not_equal(access(path, F_OK), 0);
    fake_capacity(f, 5);
    fake_poll(f, 10);
    fake_close(f);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, "2 raspi-001\n2 raspi-002\n1 raspi-003\n");
    unlink(path);
}

static void test_stopped_in_flight(void **state)
{
    struct fake *f = open_sim("rate = 0\n");

    (void)state;
    fake_poll(f, 10);
    fms_finish(fake_host(f));
    assert_int_equal(fake_poll(f, 10), 0); /* -ESHUTDOWN is no failure */
    fake_stop(f);
    fake_poll(f, 0);
    fake_settle_all(f, FMS_DELIVERED);
    assert_int_equal(fake_emitted(f), 10);
    fake_close(f);
}

static void test_rate(void **state)
{
    struct fake *f = open_sim("rate = 1000\nvehicles = 7\n");

    (void)state;
    fake_until(f, fake_emitted(f) == 5001);
    assert_int_equal(fms_now(fake_host(f)), 5 * FMS_SECOND);
    fake_clock_step(f, 900 * FMS_MS); /* a hiccup is made up for */
    fake_poll(f, 10000);
    assert_int_equal(fake_emitted(f), 5901);
    fake_clock_step(f, 60 * FMS_SECOND); /* a stall is not */
    fake_poll(f, 10000);
    assert_in_range(fake_emitted(f), 5901, 6901);
    assert_int_equal(fake_emitted(f) + fake_counter(f, "skipped"), 65901);
    fake_close(f);
}

static void test_seed_repeats(void **state)
{
    const char *ini[] = {"vehicles = 3\nseed = 42\ncount = 1000\n", "vehicles = 3\nseed = 42\ncount = 1000\n",
                         "vehicles = 3\nseed = 43\ncount = 1000\n"};
    struct fake *f[3];
    size_t same = 0;

    (void)state;
    for (size_t run = 0; run < 3; run++) {
        f[run] = open_sim(ini[run]);
        fake_until(f[run], fake_ended(f[run]));
    }
    for (size_t i = 0; i < 1000; i++) {
        assert_string_equal(payload(f[0], i), payload(f[1], i));
        same += strcmp(payload(f[0], i), payload(f[2], i)) == 0;
    }
    assert_in_range(same, 0, 10);
    for (size_t run = 0; run < 3; run++)
        fake_close(f[run]);
}

/* A day and a half of one vehicle, sampled every 2 s: what a fleet engineer would look at. */
static void test_drive_is_plausible(void **state)
{
    const size_t count = 60000;
    struct fake *f = open_sim("rate = 0\ncount = 60000\nseed = 7\n");
    size_t standing = 0, fast = 0, refuelled = 0;
    double fuel_low = 100;

    (void)state;
    fake_until(f, fake_ended(f));
    for (size_t i = 1; i < count; i++) {
        struct sample before = sample(f, i - 1), s = sample(f, i);

        assert_true(s.speed >= 0 && s.speed <= 120);
        assert_in_range(s.rpm, 600, 3000);
        assert_true(s.fuel > 0 && s.fuel <= 100);
        assert_true(s.speed - before.speed <= 1.5 * 2 * 3.6 + 0.02);
        assert_true(before.speed - s.speed <= 3.0 * 2 * 3.6 + 0.02);
        assert_true(s.fuel <= before.fuel || (s.speed < 12 && before.speed == 0));
        assert_true(before.fuel - s.fuel < 0.1 && s.fuel - before.fuel < 2);
        assert_true(s.speed > 0 || s.rpm < 800);
        standing += s.speed == 0;
        fast += s.speed > 80;
        refuelled += s.fuel > before.fuel;
        fuel_low = s.fuel < fuel_low ? s.fuel : fuel_low;
    }
    assert_in_range(standing, count / 20, count / 2);
    assert_in_range(fast, count / 50, count / 2);
    assert_in_range(refuelled, 50, count / 50);
    assert_true(fuel_low > 5 && fuel_low < 15);
    fake_close(f);
}

static void test_long_intervals(void **state)
{
    struct fake *f = open_sim("interval = 1h\ncount = 500\nvehicles = 2\n");

    (void)state;
    fake_until(f, fake_ended(f));
    for (size_t i = 0; i < 500; i++)
        assert_true(sample(f, i).speed <= 120 && sample(f, i).fuel > 0);
    fake_close(f);
}

static void test_topics(void **state)
{
    struct fake *f = open_sim("vehicles = 3\nrate = 0\ncount = 6\ntopic = fms/${key}/data\n");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_string_equal(fake_record(f, 0)->topic.data, "fms/raspi-001/data");
    assert_string_equal(fake_record(f, 2)->topic.data, "fms/raspi-003/data");
    assert_string_equal(fake_record(f, 4)->topic.data, "fms/raspi-002/data");
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------------- trucks */

/* How many of the first records are frames with this identifier. */
static size_t count_frames(struct fake *f, size_t records, const char *id)
{
    size_t count = 0;

    for (size_t i = 0; i < records; i++) {
        const char *at = strchr(payload(f, i), ' ');

        count += strncmp(at, " can0 ", 6) == 0 && strncmp(at + 6, id, 8) == 0 && at[14] == '#';
    }
    return count;
}

static void test_truck_sends_each_message_at_its_rate(void **state)
{
    static const struct {
        const char *id;
        size_t in_ten_seconds;
    } cases[] = {{"0CF00400", 500}, {"0CF00300", 200}, {"0CFE6CEE", 200}, {"18FEF100", 100}, {"18FEF200", 100},
                 {"18FDA400", 100}, {"18FEFC00", 10},  {"18FEFC31", 10},  {"18FEE900", 10},  {"18FD0900", 10},
                 {"18FEE500", 10},  {"18FEC1EE", 10},  {"18FEEE00", 10},  {"18FEF531", 10},  {"18F0000F", 100},
                 {"18FEAE0B", 10},  {"18FE5600", 10},  {"1CFE700B", 1},   {"1CECFF00", 1},   {"1CEBFF00", 3}};
    size_t total = 0;
    struct fake *f;
    char ini[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        total += cases[i].in_ten_seconds;
    snprintf(ini, sizeof ini, "format = can\nrate = 0\ncount = %zu\n", total);
    f = open_sim(ini);
    fake_until(f, fake_ended(f));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(count_frames(f, total, cases[i].id), cases[i].in_ten_seconds);
    for (size_t i = 1; i < total; i++)
        assert_true(fake_record(f, i)->timestamp > fake_record(f, i - 1)->timestamp);
    assert_true(fake_record(f, 0)->timestamp == EPOCH);
    assert_true(fake_record(f, total - 1)->timestamp < EPOCH + 10 * FMS_SECOND);
    assert_string_equal(fake_record(f, 0)->key.data, "can0");
    fake_close(f);
}

static void test_truck_tells_its_vin(void **state)
{
    struct fake *f = open_sim(
        "format = can\nrate = 0\ncount = 40\nvin = WDB9634031L123456\ninterface = vcan1\ntopic = can/${key}\n");
    static const char *const expected[] = {"1CECFF00#20120003FFECFE00", "1CEBFF00#0157444239363334",
                                           "1CEBFF00#023033314C313233", "1CEBFF00#033435362AFFFFFF"};
    size_t found = 0;

    (void)state;
    fake_until(f, fake_ended(f));
    for (size_t i = 0; i < 40 && found < 4; i++)
        found += strstr(payload(f, i), expected[found]) != NULL;
    assert_int_equal(found, 4);
    assert_string_equal(fake_record(f, 0)->topic.data, "can/vcan1");
    assert_non_null(strstr(payload(f, 0), " vcan1 "));
    fake_close(f);
}

static void test_truck_keeps_time(void **state)
{
    struct fake *f = open_sim("format = can\n");
    size_t before;

    (void)state;
    assert_int_equal(fake_poll(f, 256), 0);
    assert_int_equal(fake_emitted(f), 1); /* the next is 0.6 ms later */
    assert_true(fake_waits_for(f)->deadline == 600 * FMS_US);
    while (fms_now(fake_host(f)) < FMS_SECOND) {
        fake_clock_step(f, 10 * FMS_MS);
        assert_int_equal(fake_poll(f, 256), 0);
    }
    before = fake_emitted(f);
    assert_in_range(before, 130, 150);
    fake_clock_step(f, 60 * FMS_SECOND); /* what a stall has made late by much goes on, later */
    assert_int_equal(fake_poll(f, 256), 0);
    assert_in_range(fake_emitted(f) - before, 1, 150);
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
}

static void test_truck_drives_the_same_again(void **state)
{
    struct fake *f = open_sim("format = can\nrate = 0\ncount = 5000\nseed = 7\n"),
                *same = open_sim("format = can\nrate = 0\ncount = 5000\nseed = 7\n");

    (void)state;
    fake_until(f, fake_ended(f));
    fake_until(same, fake_ended(same));
    for (size_t i = 0; i < 5000; i++)
        assert_string_equal(payload(f, i), payload(same, i));
    fake_close(same);
    fake_close(f);
}

/* What is refused for want of room comes first, and nothing is left out. */
static void test_truck_that_is_refused(void **state)
{
    struct fake *f = open_sim("format = can\nrate = 0\ncount = 20\n"),
                *other = open_sim("format = can\nrate = 0\ncount = 20\n");

    (void)state;
    fake_until(f, fake_ended(f));
    fake_capacity(other, 7);
    assert_int_equal(fake_poll(other, 256), 0);
    assert_int_equal(fake_emitted(other), 7);
    fake_settle(other, 3, FMS_DELIVERED);
    fake_settle_all(other, FMS_DELIVERED);
    fake_capacity(other, 100);
    fake_until(other, fake_ended(other));
    for (size_t i = 0; i < 20; i++)
        assert_string_equal(payload(f, i), payload(other, i));
    fake_close(other);
    fake_close(f);
}

static void test_bad_trucks(void **state)
{
    static const struct refusal cases[] = {
        {"format = can\nvehicles = 2\n", "error: vehicles: does not go with format = can"},
        {"format = can\nsequence = yes\n", "error: sequence: does not go"},
        {"format = can\norigin = random\n", "error: origin: does not go"},
        {"origin =\n", "error: origin: has 1 to 128 bytes"},
        {"format = can\nrate = 5\n", "error: rate: does not go with format = can, but for 0"},
        {"format = can\ninterface = can4567890123456\n", "a name has 1 to 15 letters"},
        {"format = can\nvin = WDB9634031L12345\n", "error: vin: \"WDB9634031L12345\" is none"},
        {"format = can\nvin = WDB9634031O123456\n", "without I, O and Q"},
    };

    (void)state;
    expect_refused("fms_sim", FMS_SOURCE, cases, sizeof cases / sizeof *cases);
}

static void test_bad_options(void **state)
{
    static const struct refusal cases[] = {
        {"topic = fms/${json:plant}\n", "error: topic: only ${key}"},
        {"prefix = bus\"\n", "error: prefix: no quotes"},
        {"prefix = 0123456789012345678901234567890123456789012345678901234567890123456789\n", "prefix: at most"},
        {"vehicles = 0\n", "vehicles"},
        {"rate = -2\n", "rate"},
        {"interval = 0\n", "interval"},
        {"counts = somewhere\n", "error: counts: needs sequence = yes"},
    };

    (void)state;
    expect_refused("fms_sim", FMS_SOURCE, cases, sizeof cases / sizeof *cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_messages_are_numbered),
        cmocka_unit_test(test_a_random_origin_is_another_each_time),
        cmocka_unit_test(test_fleet_is_spread_over_the_interval),
        cmocka_unit_test(test_late_polls_do_not_add_up),
        cmocka_unit_test(test_stall_is_left_out),
        cmocka_unit_test(test_credit_ends_a_burst),
        cmocka_unit_test(test_refused_record_comes_first),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_stopped_in_flight),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_seed_repeats),
        cmocka_unit_test(test_drive_is_plausible),
        cmocka_unit_test(test_long_intervals),
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_truck_sends_each_message_at_its_rate),
        cmocka_unit_test(test_truck_tells_its_vin),
        cmocka_unit_test(test_truck_keeps_time),
        cmocka_unit_test(test_truck_drives_the_same_again),
        cmocka_unit_test(test_truck_that_is_refused),
        cmocka_unit_test(test_bad_trucks),
        cmocka_unit_test(test_bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
