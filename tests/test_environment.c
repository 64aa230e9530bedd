/* test_environment.c - a file of variables: what is taken of it, what is refused, and when two of them say the same of a text. */
#include "environment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

static char said[8192];

static void take_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(said);

    (void)user, (void)level, (void)pipeline, (void)stage;
    snprintf(said + n, sizeof said - n, "%s\n", text);
}

static int parse(const char *text, struct environment **environment)
{
    *said = '\0';
    return environment_parse("t.env", text, strlen(text), environment);
}

static struct environment *parsed(const char *text)
{
    struct environment *environment;

    if (parse(text, &environment) != 0)
        fail_msg("%s", said);
    assert_string_equal(said, "");
    return environment;
}

static void values_are_what_systemd_makes_of_them(void **state)
{
    static const char *const cases[][2] = {
        {"A=b", "b"},
        {"A=", ""},
        {"A=\"\"", ""},
        {"  A = b c  \t", "b c"},
        {"A=b\r", "b"},
        {"A=b=c", "b=c"},
        {"A=a#b # c", "a#b # c"}, /* no comment: neither systemd nor Docker takes it for one */
        {"A=it's", "it's"},
        {"A=a\"b\"", "a\"b\""},
        {"A='b c '", "b c "},
        {"A='\\n\"'", "\\n\""},
        {"A=\"b'c\"", "b'c"},
        {"A=\"a\\\"b\\\\c\\$d\\`e\\nf\"", "a\"b\\c$d`e\\nf"},
        {"A=${B}", "${B}"},
        {"A=1\nA=2", "2"},
        {"# A=c\n;A=d\n\n \nA=b\n#", "b"},
        {"_=x\nA=\xc3\xa9", "\xc3\xa9"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct environment *environment = parsed(cases[i][0]);

        assert_string_equal(environment_get(environment, "A"), cases[i][1]);
        environment_free(environment);
    }
}

static void what_is_bad_is_named_by_its_line_and_never_shown(void **state)
{
    static const char *const cases[][2] = {
        {"hunter2", "1: NAME=value expected, or a comment"},
        {"A=1\n=hunter2", "2: NAME=value expected, where the name has letters"},
        {"1A=hunter2", "1: NAME=value expected, where the name has"},
        {"export A=hunter2", "1: NAME=value expected, where the name has"},
        {"A-B=hunter2", "1: NAME=value expected, where the name has"},
        {"A=hunter2\\", "1: a backslash outside of quotes"},
        {"A=hunter2\\x", "1: a backslash outside of quotes"},
        {"A=\"hunter2", "1: a value that begins with a quote ends with the same one"},
        {"A='hunter2\"\n'", "1: a value that begins with a quote"},
        {"A=\"hunter2\\\"", "1: a value that begins with a quote"},
        {"A=\"hunter2\" # c", "1: something stands behind the closing quote"},
        {"A=hunter2\x01", "1: a control character"},
    };
    char many[512] = "", *to = many;
    struct environment *environment;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[256];

        assert_int_equal(parse(cases[i][0], &environment), -EINVAL);
        assert_null(environment);
        snprintf(expected, sizeof expected, "t.env:%s", cases[i][1]);
        if (strstr(said, expected) == NULL || strstr(said, "hunter2") != NULL)
            fail_msg("%s: %s", cases[i][0], said);
    }
    *said = '\0';
    assert_int_equal(environment_parse("t.env", "A=1\0B=2", 7, &environment), -EINVAL);
    assert_non_null(strstr(said, "a NUL byte"));
    for (int i = 0; i < 25; i++)
        to += snprintf(to, sizeof many - (size_t)(to - many), "bad\nA=%d\n", i);
    assert_int_equal(parse(many, &environment), -EINVAL);
    assert_non_null(strstr(said, "t.env:39: "));
    assert_null(strstr(said, "t.env:41: "));
    assert_non_null(strstr(said, "and 5 more errors"));
}

static void the_file_comes_before_the_process(void **state)
{
    struct environment *environment = parsed("FMS_TEST_A=file\nFMS_TEST_EMPTY=");

    (void)state;
    setenv("FMS_TEST_A", "process", 1);
    setenv("FMS_TEST_EMPTY", "process", 1);
    setenv("FMS_TEST_B", "process", 1);
    assert_string_equal(environment_get(environment, "FMS_TEST_A"), "file");
    assert_string_equal(environment_get(environment, "FMS_TEST_EMPTY"), "");
    assert_string_equal(environment_get(environment, "FMS_TEST_B"), "process");
    assert_string_equal(environment_get(NULL, "FMS_TEST_A"), "process");
    assert_null(environment_get(environment, "FMS_TEST_NONE"));
    environment_free(environment);
}

static void two_are_the_same_for_a_text_that_names_what_they_share(void **state)
{
    struct environment *a = parsed("X=1\nY=1\nZ=1"), *b = parsed("Y=2\nX=1");

    (void)state;
    assert_true(environment_is_same("", a, b));
    assert_true(environment_is_same("Y ${json:Y}", a, b));
    assert_true(environment_is_same("${env:X}", a, b));
    assert_true(environment_is_same("${env:FMS_TEST_NONE:-Y}", a, b));
    assert_false(environment_is_same("${env:Y}", a, b));
    assert_false(environment_is_same("${env:X}-${env:Y:-0}", a, b));
    assert_false(environment_is_same("${env:Z}", a, b));
    assert_false(environment_is_same("${env:Z:-1}", NULL, a));
    assert_false(environment_is_same("${shard:12:env:Y}", a, b));
    assert_true(environment_is_same("${env:Y}", a, a));
    environment_free(a);
    environment_free(b);
}

/* A file, as environment_read has it: 0 or its error. */
static int read_named(const char *name, const char *text)
{
    struct environment *environment;
    FILE *file = text != NULL ? fopen("t.env", "w") : NULL;
    int error;

    if (file != NULL) {
        fputs(text, file);
        fclose(file);
    }
    *said = '\0';
    environment_name(name);
    error = environment_read(&environment);
    environment_free(environment);
    return error;
}

static void a_file_may_be_missing_where_that_is_said(void **state)
{
    char folder[] = "/tmp/test_environment.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(read_named("t.env", NULL), -ENOENT);
    assert_non_null(strstr(said, "--env-file: the file t.env is not there"));
    assert_int_equal(read_named("-t.env", NULL), 0);
    assert_string_equal(environment_path(), "t.env");
    assert_int_equal(read_named("t.env", ""), 0);
    assert_int_equal(read_named("-t.env", "A=1\n"), 0);
    assert_string_equal(said, "");
    assert_int_equal(read_named("-t.env", "A"), -EINVAL);
    assert_non_null(strstr(said, "t.env:1: "));
    assert_int_equal(read_named("-.", NULL), -EISDIR);
    unlink("t.env");
    assert_int_equal(chdir("/"), 0);
    rmdir(folder);
    environment_name(NULL);
    assert_null(environment_path());
}

/* The text may be anything, and all of it is looked at. */
static void what_is_in_use_is_read_where_no_file_is_named(void **state)
{
    struct environment *environment = parsed("X=1"), *again;

    (void)state;
    environment_use(environment);
    assert_int_equal(environment_read(&again), 0);
    assert_ptr_equal(again, environment);
    environment_free(again);
    environment_use(NULL);
    assert_int_equal(environment_read(&again), 0);
    assert_null(again);
}

static int set_up(void **state)
{
    (void)state;
    log_redirect(take_log, NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_what_systemd_makes_of_them),
        cmocka_unit_test(what_is_bad_is_named_by_its_line_and_never_shown),
        cmocka_unit_test(the_file_comes_before_the_process),
        cmocka_unit_test(two_are_the_same_for_a_text_that_names_what_they_share),
        cmocka_unit_test(a_file_may_be_missing_where_that_is_said),
        cmocka_unit_test(what_is_in_use_is_read_where_no_file_is_named),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
