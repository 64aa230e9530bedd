/* test_example.c - the plugin, driven through its table by a host that watches the rules. */
#include <fms_test.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void what_is_small_is_passed_on(void **state)
{
    struct fake *f = fake_open("example", FMS_TRANSFORM, "max_size = 5\n");

    (void)state;
    fake_add(f, "fms/data", NULL, "12345");
    fake_add(f, "fms/data", NULL, "123456");
    assert_int_equal(fake_write(f), 2);
    assert_int_equal(fake_fate(f, 0), FAKE_PASSED);
    assert_int_equal(fake_fate(f, 1), FMS_REJECTED);
    assert_string_equal(fake_reason(f, 1), "the payload has 6 bytes, and max_size is 5");
    fake_close(f);
}

static void a_bad_option_is_named(void **state)
{
    struct fake *f = fake_check("example", FMS_TRANSFORM, "max_size = many\n");

    (void)state;
    assert_int_not_equal(fake_error(f), 0);
    assert_non_null(fake_said(f, "max_size = \"many\""));
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_small_is_passed_on),
        cmocka_unit_test(a_bad_option_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
