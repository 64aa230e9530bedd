/* test_example.c - the plugin, driven through its table by a host that watches the rules. */
#include <fms_test.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void each_record_is_delivered(void **state)
{
    struct fake *f = fake_open("example", FMS_SINK, "prefix = \"> \"\n");

    (void)state;
    fake_add(f, "fms/data", "raspi-001", "{\"speed\":56.65}");
    fake_add(f, "fms/data", "raspi-002", "");
    assert_int_equal(fake_write(f), 2);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 2);
    fake_close(f); /* fails if a record was settled twice or never */
}

static void an_unknown_option_is_named(void **state)
{
    struct fake *f = fake_check("example", FMS_SINK, "prefx = a\n");

    (void)state;
    assert_int_not_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "did you mean \"prefix\"?"));
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_record_is_delivered),
        cmocka_unit_test(an_unknown_option_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
