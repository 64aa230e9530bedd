/* test_example.c - the plugin, driven through its table by a host that watches the rules. */
#include <fms_test.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_record_at_each_interval(void **state)
{
    struct fake *f = fake_check("example", FMS_SOURCE, "interval = 10s\ntopic = numbers\n");

    (void)state;
    fake_clock_set(f, 0, 0); /* it stands still; fake_until moves it on to what the source waits for */
    assert_int_equal(fake_start(f), 0);
    fake_until(f, fake_emitted(f) == 3);
    assert_string_equal(fake_record(f, 2)->topic.data, "numbers");
    assert_string_equal(fake_record(f, 2)->payload.data, "{\"number\":2}");
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
}

static void a_full_pipeline_loses_nothing(void **state)
{
    struct fake *f = fake_check("example", FMS_SOURCE, "interval = 1s\n");

    (void)state;
    fake_clock_set(f, 0, 0);
    fake_capacity(f, 1);
    assert_int_equal(fake_start(f), 0);
    fake_until(f, fake_emitted(f) == 1);
    fake_clock_step(f, 5 * FMS_SECOND);
    fake_poll(f, 1);
    assert_int_equal(fake_emitted(f), 1);
    fake_settle_all(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 2);
    assert_string_equal(fake_record(f, 1)->payload.data, "{\"number\":1}");
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_at_each_interval),
        cmocka_unit_test(a_full_pipeline_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
