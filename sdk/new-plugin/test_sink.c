/* test_example.c - the plugin, driven through its table by a host that watches the rules. */
#include <fms_test.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

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

static void limit_file_size(rlim_t size)
{
    struct rlimit limit;

    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void make_room(int number)
{
    (void)number;
    limit_file_size(RLIM_INFINITY);
}

/* There is no room for all of a line, and some as soon as that has been an error. */
static void what_was_written_in_part_is_not_delivered(void **state)
{
    struct fake *f = fake_open("example", FMS_SINK, "");
    char payload[10000] = "";
    FILE *file = tmpfile();
    int saved;

    (void)state;
    assert_non_null(file);
    memset(payload, 'x', sizeof payload - 1);
    fake_add(f, "fms/data", NULL, payload);
    fflush(stdout);
    saved = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    signal(SIGXFSZ, make_room);
    limit_file_size(100);
    fake_write(f);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    clearerr(stdout);
    fclose(file);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 0);
    fake_close(f);
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
        cmocka_unit_test(what_was_written_in_part_is_not_delivered),
        cmocka_unit_test(an_unknown_option_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
