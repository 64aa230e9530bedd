/* test_loader.c - what is loaded, and with which one message anything else is refused.
 *
 * The plugins are those of tests/plugins; the directory with their objects is in FMS_TEST_PLUGIN_DIR. */
#include "loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

static char said[8192];
static size_t lines, errors;

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(said);

    (void)user;
    (void)pipeline;
    (void)stage;
    snprintf(said + n, sizeof said - n, "%s\n", text);
    lines++;
    errors += level == FMS_LOG_ERROR;
}

static const char *directory(void)
{
    const char *path = getenv("FMS_TEST_PLUGIN_DIR");

    assert_non_null(path);
    return path;
}

static int setup(void **state)
{
    (void)state;
    said[0] = '\0';
    lines = errors = 0;
    log_redirect(note, NULL);
    loader_search(directory());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_redirect(NULL, NULL);
    return 0;
}

/* Refused, with one line that begins with the place and holds both texts. */
static void assert_refused(const char *name, const char *text, const char *also)
{
    assert_null(loader_load(name, "a.ini", 7));
    if (errors != 1 || lines != 1 || strstr(said, text) == NULL || strstr(said, also) == NULL)
        print_error("expected \"%s\" and \"%s\", once, in:\n%s", text, also, said);
    assert_int_equal(errors, 1);
    assert_int_equal(lines, 1);
    assert_int_equal(strncmp(said, "a.ini:7: ", 9), 0);
    assert_non_null(strstr(said, text));
    assert_non_null(strstr(said, also));
}

/* ----------------------------------------------------------------------------------------------------------- loaded */

static void a_good_one_is_loaded_once(void **state)
{
    const struct plugin *plugin = loader_load("good", "a.ini", 7);

    (void)state;
    assert_non_null(plugin);
    assert_int_equal(lines, 0);
    assert_string_equal(plugin->table.name, "good");
    assert_string_equal(plugin->table.version, "1.2.3");
    assert_true(loader_has_role(plugin, FMS_SOURCE));
    assert_true(loader_has_role(plugin, FMS_TRANSFORM));
    assert_true(loader_has_role(plugin, FMS_SINK));
    assert_true(loader_has_role(plugin, FMS_DEAD_LETTER));
    assert_ptr_equal(loader_load("good", "b.ini", 1), plugin);
}

static void a_path_will_do(void **state)
{
    char path[4096];

    (void)state;
    snprintf(path, sizeof path, "%s/good.so", directory());
    loader_search("");
    assert_ptr_equal(loader_load(path, "a.ini", 7), loader_load(path, "a.ini", 7));
    assert_non_null(loader_load(path, "a.ini", 7));
    loader_search(directory());
    assert_ptr_equal(loader_load(path, "a.ini", 7), loader_load("good", "a.ini", 7));
}

static void a_smaller_table_has_zeros_behind_its_end(void **state)
{
    const struct plugin *plugin = loader_load("small_table", "a.ini", 7);

    (void)state;
    assert_non_null(plugin);
    assert_int_equal(lines, 0);
    assert_non_null(plugin->table.source_poll);
    assert_null(plugin->table.sink_write);
    assert_false(loader_has_role(plugin, FMS_SINK));
    assert_int_equal(plugin->table.record_size, 0); /* its drafts have no identities */
}

/* ---------------------------------------------------------------------------------------------------------- refused */

static void an_older_abi(void **state)
{
    (void)state;
    assert_refused("older", "older.so is older than this fmspipe: it was built for plugin ABI 0, and 1 is needed",
                   "build it again");
}

static void a_newer_abi(void **state)
{
    (void)state;
    assert_refused("newer", "newer.so is newer than this fmspipe: it needs plugin ABI 2, and this is 1",
                   "use a newer fmspipe");
}

static void no_plugin_at_all(void **state)
{
    (void)state;
    assert_refused("no_plugin", "no_plugin.so is no fmspipe plugin", "fms_plugin_abi_1");
}

static void a_name_that_is_not_the_file_s(void **state)
{
    (void)state;
    assert_refused("wrong_name", "wrong_name.so", "the name is \"another\"");
}

static void wild_host(void **state)
{
    (void)state;
    assert_refused("wild_host", "wild_host.so", "its .host lies outside of the instance");
}

static void no_role(void **state)
{
    (void)state;
    assert_refused("no_role", "no_role.so", "neither source nor transform nor sink");
}

static void bad_metric(void **state)
{
    (void)state;
    assert_refused("bad_metric", "bad_metric.so", "its metric \"queue-bytes\" has no good name");
}

static void double_metric(void **state)
{
    (void)state;
    assert_refused("double_metric", "double_metric.so", "it has more than one metric \"wait_count\"");
}

static void no_summary(void **state)
{
    (void)state;
    assert_refused("no_summary", "no_summary.so", "lacks name, version or summary");
}

static void a_bad_option_table(void **state)
{
    (void)state;
    assert_refused("bad_options", "bad_options.so", "number");
}

static void a_missing_function(void **state)
{
    (void)state;
    assert_refused("unresolved", "cannot load plugin", "a_function_that_nobody_has");
}

static void a_table_too_small_for_a_name(void **state)
{
    (void)state;
    assert_refused("tiny_table", "tiny_table.so", "its table is malformed");
}

static void a_newer_header_of_the_same_abi(void **state)
{
    (void)state;
    assert_refused("large_table", "large_table.so is newer than this fmspipe", "use a newer fmspipe");
    setup(state);
    assert_refused("large_host", "large_host.so is newer than this fmspipe", "use a newer fmspipe");
    setup(state);
    assert_refused("large_record", "large_record.so is newer than this fmspipe", "use a newer fmspipe");
}

static void an_unknown_name(void **state)
{
    (void)state;
    assert_refused("goood", "there is no plugin \"goood\"", "did you mean \"good\"?");
}

static void a_name_like_no_other(void **state)
{
    (void)state;
    assert_refused("xyzzyxyzzy", "there is no plugin \"xyzzyxyzzy\" in ", directory());
}

static void an_unknown_path(void **state)
{
    (void)state;
    assert_refused("/no/such.so", "there is no plugin file /no/such.so", "");
}

/* A file that is no shared object, and one that does not end in .so. */
static char scratch[] = "test_loader.XXXXXX";

static void no_shared_object(void **state)
{
    char path[64];
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(scratch));
    snprintf(path, sizeof path, "%s/text.so", scratch);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("some text\n", file);
    fclose(file);
    loader_search(scratch);
    assert_refused("text", "cannot load plugin: ", "text.so");
    unlink(path);
    rmdir(scratch);
}

/* ------------------------------------------------------------------------------------------------------------- list */

static char listed[512];
static const char *before = "";

static void list(const struct plugin *plugin, void *user)
{
    size_t n = strlen(listed);

    (void)user;
    assert_true(strcmp(before, plugin->table.name) < 0); /* in order, and each once */
    before = plugin->table.name;
    snprintf(listed + n, sizeof listed - n, " %s ", before);
}

static void the_good_ones_are_listed(void **state)
{
    (void)state;
    loader_each(list, NULL);
    assert_non_null(strstr(listed, " good "));
    assert_non_null(strstr(listed, " small_table "));
    assert_null(strstr(listed, " older "));
    assert_int_equal(lines, 15); /* one for each of the others */
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_good_one_is_loaded_once),
        CASE(a_path_will_do),
        CASE(a_smaller_table_has_zeros_behind_its_end),
        CASE(an_older_abi),
        CASE(a_newer_abi),
        CASE(no_plugin_at_all),
        CASE(a_name_that_is_not_the_file_s),
        CASE(no_role),
        CASE(wild_host),
        CASE(bad_metric),
        CASE(double_metric),
        CASE(no_summary),
        CASE(a_bad_option_table),
        CASE(a_missing_function),
        CASE(a_table_too_small_for_a_name),
        CASE(a_newer_header_of_the_same_abi),
        CASE(an_unknown_name),
        CASE(a_name_like_no_other),
        CASE(an_unknown_path),
        CASE(no_shared_object),
        CASE(the_good_ones_are_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
