/* test_sieve.c - which records pass the plugin `filter`, as `fmspipe tap --where` asks it. */
#include "sieve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "loader.h"
#include "log.h"

static char said[4096];

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(said);

    (void)user;
    (void)level;
    (void)pipeline;
    (void)stage;
    snprintf(said + n, sizeof said - n, "%s\n", text);
}

static int setup(void **state)
{
    (void)state;
    said[0] = '\0';
    log_redirect(note, NULL);
    loader_search(getenv("FMS_PLUGIN_DIR"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_redirect(NULL, NULL);
    return 0;
}

static struct sieve *where(const char *condition)
{
    const char *const options[] = {"condition", condition, "on_bad_json", "drop", NULL};

    return sieve_new("--where", "filter", options);
}

static bool passes(struct sieve *sieve, const char *topic, const char *payload)
{
    struct fms_header header = {"site", fms_text("north")};
    struct fms_record draft = {
        .topic = fms_text(topic), .payload = fms_text(payload), .headers = &header, .header_count = 1};

    return sieve_passes(sieve, &draft);
}

static void records_pass_by_what_they_are(void **state)
{
    struct sieve *sieve = where("speed > 100 and $topic ~ \"fms/*\" and $header.site = \"north\"");

    (void)state;
    if (sieve == NULL)
        print_error("%s", said);
    assert_non_null(sieve);
    for (size_t i = 0; i < 20000; i++) { /* more than may be in flight */
        assert_true(passes(sieve, "fms/1", "{\"speed\":100.5}"));
        assert_false(passes(sieve, "fms/1", "{\"speed\":100}"));
        assert_false(passes(sieve, "other", "{\"speed\":200}"));
        assert_false(passes(sieve, "fms/1", "no JSON"));
    }
    sieve_free(sieve);
}

/* In a file these would begin a comment, or end a value. */
static void any_character_may_stand_in_an_option(void **state)
{
    struct sieve *sieve = where("id = \"a ; b # c\"");

    (void)state;
    assert_non_null(sieve);
    assert_true(passes(sieve, "t", "{\"id\":\"a ; b # c\"}"));
    assert_false(passes(sieve, "t", "{\"id\":\"a\"}"));
    sieve_free(sieve);
}

static void what_is_wrong_is_said_of_where_it_comes_from(void **state)
{
    static const char *const none[] = {NULL};

    (void)state;
    assert_null(where("speed >"));
    assert_non_null(strstr(said, "--where: "));
    assert_non_null(strstr(said, "condition"));
    assert_null(sieve_new("--where", "no_such_plugin", none));
    assert_non_null(strstr(said, "there is no plugin \"no_such_plugin\""));
    assert_null(sieve_new("--where", "null_sink", none));
    assert_non_null(strstr(said, "cannot be a transform"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_pass_by_what_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(any_character_may_stand_in_an_option, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_said_of_where_it_comes_from, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
