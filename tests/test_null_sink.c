/* test_null_sink.c - whatever is offered is taken and delivered at once. */
#include "fms_test.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_delivers_at_once(void **state)
{
    struct fake *f = fake_open("null_sink", FMS_SINK, "");

    (void)state;
    for (int i = 0; i < 1000; i++)
        fake_add(f, "t", NULL, i % 2 == 0 ? "x" : NULL);
    assert_int_equal(fake_write(f), 1000);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 1000);
    assert_int_equal(fake_unsettled(f), 0);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_delivers_at_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
