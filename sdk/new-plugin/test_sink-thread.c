/* test_example.c - the plugin, driven through its table by a host that watches the rules. */
#include <fms_test.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY 1000 /* more than its queue holds */

static char folder[32], inner[64], path[80];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/example.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(inner, sizeof inner, "%s/later", folder);
    snprintf(path, sizeof path, "%s/out", inner);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    rmdir(inner);
    return rmdir(folder);
}

/* The file cannot be written to before its folder is there: all is offered again, and comes in order. */
static void what_could_not_be_delivered_comes_again_in_order(void **state)
{
    char ini[128], line[32];
    struct fake *f;
    FILE *file;

    (void)state;
    snprintf(ini, sizeof ini, "path = %s\n", path);
    f = fake_open("example", FMS_SINK, ini);
    for (int i = 0; i < MANY; i++) {
        snprintf(line, sizeof line, "%d", i);
        fake_add(f, "fms/data", "raspi-001", line);
    }
    fake_write(f);
    fake_until(f, fake_count_fate(f, FMS_RETRY) > 0 && fake_unsettled(f) == 0);
    assert_non_null(strstr(fake_reason(f, 0), "No such file or directory"));
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED), 0);
    assert_int_equal(mkdir(inner, 0700), 0);
    fake_write(f);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == MANY);
    fake_close(f); /* fails if a record was settled twice or never, or from a wrong thread */

    file = fopen(path, "r");
    assert_non_null(file);
    for (int i = 0; i < MANY; i++) {
        assert_non_null(fgets(line, sizeof line, file));
        assert_int_equal(atoi(line), i);
    }
    fclose(file);
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
static void what_was_written_in_part_comes_again(void **state)
{
    char ini[128], payload[10000] = "";
    struct fake *f;

    (void)state;
    memset(payload, 'x', sizeof payload - 1);
    assert_int_equal(mkdir(inner, 0700), 0);
    snprintf(ini, sizeof ini, "path = %s\n", path);
    f = fake_open("example", FMS_SINK, ini);
    signal(SIGXFSZ, make_room);
    limit_file_size(100);
    fake_add(f, "fms/data", NULL, payload);
    fake_write(f);
    fake_until(f, fake_fate(f, 0) != 0);
    assert_int_equal(fake_fate(f, 0), FMS_RETRY);
    fake_write(f);
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    fake_close(f);
    signal(SIGXFSZ, SIG_DFL);
}

static void what_is_queued_at_the_end_is_given_up(void **state)
{
    struct fake *f = fake_open("example", FMS_SINK, "path = /nowhere/at/all\n");

    (void)state;
    fake_add(f, "fms/data", NULL, "1");
    fake_write(f);
    fake_until(f, fake_fate(f, 0) == FMS_RETRY);
    fake_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_could_not_be_delivered_comes_again_in_order, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_was_written_in_part_comes_again, make_folder, remove_folder),
        cmocka_unit_test(what_is_queued_at_the_end_is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
