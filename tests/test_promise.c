/* test_promise.c - what a pipeline promises is what none of its stages takes away, and each reason is told with its line.
 *
 * The plugin `promising` of tests/plugins says what its section tells it to; the directory with its object is in FMS_TEST_PLUGIN_DIR. */
#include "assemble.h"
#include "promise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

#define PIPELINE "[pipeline]\nname = p\non_reject = stop\n"
#define SOURCE   PIPELINE "[source]\nplugin = promising\n"
#define SINK     "[sink one]\nplugin = promising\n"
#define KNOWING  SINK "exactly = it has a journal\nask = yes\n"
#define AT       "promise.ini:"

static char said[4096];

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(said);

    (void)user;
    (void)level;
    (void)pipeline;
    snprintf(said + n, sizeof said - n, "%s: %s\n", stage != NULL ? stage : "", text);
}

static int setup(void **state)
{
    (void)state;
    said[0] = '\0';
    log_redirect(note, NULL);
    loader_search(getenv("FMS_TEST_PLUGIN_DIR"));
    return getenv("FMS_TEST_PLUGIN_DIR") == NULL;
}

static int teardown(void **state)
{
    (void)state;
    log_redirect(NULL, NULL);
    return 0;
}

static struct pipeline *load(const char *text)
{
    FILE *file = fopen("promise.ini", "w");
    struct pipeline *pipeline;

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    pipeline = pipeline_load("promise.ini");
    unlink("promise.ini");
    if (pipeline == NULL)
        print_error("%s", said);
    assert_non_null(pipeline);
    return pipeline;
}

static void assert_promises(const char *text, const char *expected)
{
    struct pipeline *pipeline = load(text);
    char *printed = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&printed, &size);

    assert_non_null(out);
    promises_print(pipeline, out);
    fclose(out);
    assert_string_equal(printed, expected);
    free(printed);
    pipeline_free(pipeline);
}

static void who_says_nothing_may_repeat(void **state)
{
    (void)state;
    assert_promises(SOURCE "[transform silent]\nplugin = promising\n" SINK,
                    "p promises: at least once\n" AT
                    "4: [source] nothing is said of what it promises, by plugin promising\n" AT
                    "8: [sink one] nothing is said of what it promises, by plugin promising\n");
}

static void exactly_once_is_what_all_say(void **state)
{
    (void)state;
    assert_promises(SOURCE "exactly = it is numbered\n" KNOWING,
                    "p promises: exactly once\n" AT "6: [source] exactly: it is numbered\n" AT
                    "9: [sink one] exactly: it has a journal\n");
}

static void one_reason_is_enough(void **state)
{
    (void)state;
    assert_promises(SOURCE "exactly = it is numbered\n" KNOWING
                           "[sink two]\nplugin = promising\nask = yes\nleast = why\n",
                    "p promises: at least once\n" AT "11: [sink two] why\n");
    assert_promises(SOURCE "exactly = it is numbered\n[transform odd]\nplugin = promising\nmost = it forgets\n" KNOWING,
                    "p promises: at most once\n" AT "9: [transform odd] most: it forgets\n");
    assert_promises(SOURCE "exactly = it is numbered\n" KNOWING
                           "[dead_letter]\nplugin = promising\nask = yes\nmost = one\n"
                           "least = another\n",
                    "p promises: neither at least once nor at most once\n" AT "14: [dead_letter] most: one\n" AT
                    "11: [dead_letter] another\n");
}

/* Each alone keeps it, but the sink does not look at the numbers. */
static void a_sink_that_does_not_ask_writes_again(void **state)
{
    (void)state;
    assert_promises(SOURCE "exactly = it is numbered\n" SINK "exactly = it writes once\n",
                    "p promises: at least once\n" AT
                    "7: [sink one] what the source hands on again is written again: it does not ask who records are\n");
    assert_promises(SOURCE "exactly = it is numbered\n" SINK "least = why\n",
                    "p promises: at least once\n" AT "7: [sink one] why\n");
}

/* So a sink need not know. */
static void of_what_does_not_come_again_nothing_is_repeated(void **state)
{
    (void)state;
    assert_promises(SOURCE "most = it has no memory\n" SINK "exactly = it writes once\n",
                    "p promises: at most once\n" AT "6: [source] most: it has no memory\n");
}

static void assert_broken(const char *text, const char *rule)
{
    struct pipeline *pipeline = load(text);

    assert_int_equal(pipeline_open(pipeline), 0);
    assert_true(pipeline->must_fail);
    if (strstr(said, rule) == NULL)
        print_error("expected \"%s\" in:\n%s", rule, said);
    assert_non_null(strstr(said, rule));
    pipeline_close(pipeline);
    pipeline_free(pipeline);
}

static void what_is_no_promise_is_named(void **state)
{
    (void)state;
    assert_broken(SOURCE SINK "odd = yes\n", "sink one: plugin promising breaks a rule: it called fms_promise with 4");
    assert_broken(SOURCE SINK "late = yes\n",
                  "sink one: plugin promising breaks a rule: it called fms_promise after check");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(who_says_nothing_may_repeat),
        CASE(exactly_once_is_what_all_say),
        CASE(one_reason_is_enough),
        CASE(a_sink_that_does_not_ask_writes_again),
        CASE(of_what_does_not_come_again_nothing_is_repeated),
        CASE(what_is_no_promise_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
