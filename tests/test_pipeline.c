/* test_pipeline.c - bad pipeline files, end to end: each error in one clear line with its place, and nothing half open.
 *
 * The plugin `good` of tests/plugins serves as every stage; the directory with its object is in FMS_TEST_PLUGIN_DIR. */
#include "assemble.h"
#include "lane.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

static char said[16384];
static size_t errors, warnings;

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(said);

    (void)user;
    (void)pipeline;
    snprintf(said + n, sizeof said - n, "%s%s%s\n", stage != NULL ? stage : "", stage != NULL ? ": " : "", text);
    errors += level == FMS_LOG_ERROR;
    warnings += level == FMS_LOG_WARN;
}

static int setup(void **state)
{
    (void)state;
    said[0] = '\0';
    errors = warnings = 0;
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

#define GOOD   "plugin = good\nneeded = x\n"
#define SOURCE "[source]\n" GOOD
#define SINK   "[sink one]\n" GOOD

/* Loads a pipeline from a file of that name. */
static struct pipeline *load_as(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    struct pipeline *pipeline;

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    pipeline = pipeline_load(name);
    unlink(name);
    return pipeline;
}

static struct pipeline *load(const char *text)
{
    return load_as("test_pipeline.ini", text);
}

static void assert_said(const char *text)
{
    if (strstr(said, text) == NULL)
        print_error("expected \"%s\" in:\n%s", text, said);
    assert_non_null(strstr(said, text));
}

/* Refused, with one error, in that line of the file (0: none in particular), with this text. */
static void assert_refused(const char *text, int line, const char *error)
{
    char place[64];

    assert_null(load(text));
    if (line > 0)
        snprintf(place, sizeof place, "test_pipeline.ini:%d: ", line);
    else
        snprintf(place, sizeof place, "test_pipeline.ini: ");
    assert_said(place);
    assert_said(error);
    if (errors != 1)
        print_error("expected one error:\n%s", said);
    assert_int_equal(errors, 1);
}

/* ------------------------------------------------------------------------------------------------------------- good */

static void a_good_file_is_loaded(void **state)
{
    struct pipeline *pipeline = load("[pipeline]\nname = p\nmax_in_flight = 7\n" SOURCE "[transform t]\n" GOOD SINK
                                     "[sink two]\n" GOOD "[dead_letter]\n" GOOD "number = 9\n");

    (void)state;
    assert_non_null(pipeline);
    assert_int_equal(errors + warnings, 0);
    assert_string_equal(pipeline->options.name, "p");
    assert_int_equal(pipeline->options.max_in_flight, 7);
    assert_int_equal(pipeline->options.max_in_flight_bytes, 64 << 20);
    assert_int_equal(pipeline->stage_count, 5);
    assert_int_equal(pipeline->sink_count, 2);
    assert_ptr_equal(pipeline->sinks[2], pipeline->dead_letter);
    assert_int_equal(pipeline->dead_letter->slot, 2);
    assert_string_equal(pipeline->dead_letter->name, "dead_letter");
    assert_string_equal(pipeline->sinks[1]->name, "sink two");
    assert_int_equal(pipeline_open(pipeline), 0);
    pipeline_close(pipeline);
    pipeline_free(pipeline);
}

static void the_file_s_name_is_the_pipeline_s(void **state)
{
    struct pipeline *pipeline = load_as("some.bridge.ini", SOURCE SINK);

    (void)state;
    assert_non_null(pipeline);
    assert_string_equal(pipeline->options.name, "some");
    pipeline_free(pipeline);
}

static void who_is_opened_knows_whether_it_is_watched(void **state)
{
    struct pipeline *pipeline = load(SOURCE SINK);

    (void)state;
    pipeline->is_measured = true;
    assert_int_equal(pipeline_open(pipeline), 0);
    assert_said("sink one: opened, and watched\nsource: opened, and watched\n");
    pipeline_close(pipeline);
    pipeline_free(pipeline);
}

static void a_pipeline_runs_and_closes(void **state)
{
    struct pipeline *pipeline = load(SOURCE SINK);

    (void)state;
    assert_int_equal(pipeline_open(pipeline), 0);
    lane_run(pipeline);
    pipeline_close(pipeline);
    assert_false(pipeline->has_failed);
    assert_int_equal(pipeline->left, 0);
    pipeline_free(pipeline);
    assert_said("sink one: opened\nsource: opened\n"); /* in this order */
    assert_said("source: closed\nsink one: closed\n");
}

/* --------------------------------------------------------------------------------------------------------- sections */

static void an_unknown_section(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "[sorce]\n", 7, "unknown section [sorce]; did you mean [source]?");
}

static void an_unknown_section_like_no_other(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "[xyzzy]\n", 7,
                   "unknown section [xyzzy]; known are [pipeline], [source], [transform NAME], "
                   "[sink NAME], [dead_letter] and [test NAME]");
}

static void no_source(void **state)
{
    (void)state;
    assert_refused(SINK, 0, "there is no [source] section");
}

static void two_sources(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "[source again]\n" GOOD, 7, "a second [source] section; the first is in line 1");
}

static void two_dead_letters(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "[dead_letter a]\n" GOOD "[dead_letter b]\n" GOOD, 10,
                   "a second [dead_letter] section; the first is in line 7");
}

static void no_sink(void **state)
{
    (void)state;
    assert_refused(SOURCE, 0, "there is no [sink NAME] section");
}

static void the_same_section_twice(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK SINK, 7, "[sink one] stands in line 4 already");
}

static void an_empty_file(void **state)
{
    (void)state;
    assert_null(load(""));
    assert_said("there is no [source] section");
    assert_said("there is no [sink NAME] section");
}

static void no_file(void **state)
{
    (void)state;
    assert_null(pipeline_load("no_such_file.ini"));
    assert_int_equal(errors, 1);
    assert_said("no_such_file.ini: ");
}

/* ---------------------------------------------------------------------------------------------------------- plugins */

static void a_missing_plugin_key(void **state)
{
    (void)state;
    assert_refused(SOURCE "[sink one]\nneeded = x\n", 4, "[sink one] has no plugin: ");
}

static void an_unknown_plugin(void **state)
{
    (void)state;
    assert_refused(SOURCE "[sink one]\nplugin = godo\n", 5, "there is no plugin \"godo\"; did you mean \"good\"?");
}

static void a_plugin_in_a_wrong_role(void **state)
{
    (void)state;
    assert_refused(SOURCE "[sink one]\nplugin = small_table\n", 5, "plugin small_table cannot be a sink");
}

static void a_plugin_of_another_abi(void **state)
{
    (void)state;
    assert_refused(SOURCE "[sink one]\nplugin = newer\n", 5, "newer than this fmspipe");
}

/* ---------------------------------------------------------------------------------------------------------- options */

static void an_unknown_key(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "nmber = 3\n", 7, "number");
    assert_said("nmber");
}

static void an_unknown_key_of_the_pipeline(void **state)
{
    (void)state;
    assert_refused("[pipeline]\nmax_inflight = 3\n" SOURCE SINK, 2, "max_in_flight");
}

static void a_missing_required_key(void **state)
{
    (void)state;
    assert_refused(SOURCE "[sink one]\nplugin = good\n", 4, "needed");
}

static void a_wrong_type(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "number = many\n", 7, "many");
    assert_said("number");
}

static void out_of_range(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "number = 11\n", 7, "1 to 10");
    assert_said("11");
}

static void a_wrong_choice_of_the_pipeline(void **state)
{
    (void)state;
    assert_refused("[pipeline]\non_reject = go\n" SOURCE SINK, 2, "stop");
}

/* And the dead letter's sink is there when the rest is refused. */
static void an_error_beside_a_dead_letter(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "number = 0\n[dead_letter]\n" GOOD, 7, "1 to 10");
}

static void a_check_that_fails(void **state)
{
    (void)state;
    assert_refused(SOURCE SINK "refuse = yes\n", 7, "check was told to fail");
}

static void all_errors_come_at_once(void **state)
{
    (void)state;
    assert_null(load("[pipeline]\nmax_in_flight = none\n[sorce]\n[source]\nplugin = godo\n[sink one]\nplugin = good\n"
                     "number = 0\npause = long\n"));
    assert_said("test_pipeline.ini:2: ");
    assert_said("test_pipeline.ini:3: ");
    assert_said("test_pipeline.ini:5: ");
    assert_said("test_pipeline.ini:6: "); /* needed is missing */
    assert_said("test_pipeline.ini:8: ");
    assert_said("test_pipeline.ini:9: ");
    assert_int_equal(errors, 6);
}

/* ----------------------------------------------------------------------------------------------- open, and together */

static void when_one_cannot_open_the_others_are_closed(void **state)
{
    struct pipeline *pipeline = load(SOURCE "fail = yes\n" SINK "[sink two]\n" GOOD "[dead_letter]\n" GOOD);

    (void)state;
    assert_non_null(pipeline);
    assert_int_equal(pipeline_open(pipeline), -EIO);
    assert_int_equal(errors, 1);
    assert_said("test_pipeline.ini:1: [source] open was told to fail");
    assert_said("sink one: opened\nsink two: opened\ndead_letter: opened\n");
    assert_said("sink one: closed\nsink two: closed\ndead_letter: closed\n");
    assert_null(strstr(said, "source: closed"));
    pipeline_free(pipeline);
}

/* The sink of a pipeline that has these options does not open; its pipeline, to be freed. */
static struct pipeline *assert_not_opened(const char *options, int error, const char *text)
{
    char file[256];
    struct pipeline *pipeline;

    snprintf(file, sizeof file, "%s%s%s", SOURCE, SINK, options);
    setup(NULL);
    pipeline = load(file);
    assert_non_null(pipeline);
    assert_int_equal(pipeline_open(pipeline), error);
    assert_said(text);
    return pipeline;
}

static void an_error_without_words_gets_the_host_s(void **state)
{
    struct pipeline *pipeline;

    (void)state;
    assert_refused(SOURCE "refuse = yes\nsilent = yes\n" SINK, 1,
                   "[source] plugin good gave no reason, but its check failed: Numerical argument out of domain");
    pipeline = assert_not_opened(
        "fail = yes\nsilent = yes\n", -ETIME,
        "test_pipeline.ini:4: [sink one] plugin good gave no reason, but its open failed: Timer expired");
    assert_int_equal(pipeline_probe(pipeline, FMS_SECOND), 1);
    assert_said("test_pipeline.ini:4: [sink one] plugin good gave no reason, but its probe failed: Connection refused");
    assert_int_equal(errors, 2);
    pipeline_free(pipeline);
}

static void a_number_that_is_no_error_is_one(void **state)
{
    (void)state;
    assert_refused(SOURCE "refuse = yes\nodd = yes\n" SINK, 1,
                   "[source] plugin good returned 5 from its check: 0 or a negative errno is expected");
    pipeline_free(assert_not_opened(
        "fail = yes\nodd = yes\n", -EINVAL,
        "test_pipeline.ini:4: [sink one] plugin good returned 3 from its open: 0 or a negative errno is expected"));
}

static void a_file_is_not_blamed_for_its_surroundings(void **state)
{
    struct rlimit all, none;
    struct pipeline *pipeline;
    int error;

    (void)state;
    assert_null(load(SOURCE "number = 0\n" SINK));
    assert_int_equal(errno, EINVAL);
    getrlimit(RLIMIT_NOFILE, &all);
    none = all;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    pipeline = pipeline_load("/dev/null"); /* which is there: valgrind opens a file before it looks at the limit */
    error = errno;
    setrlimit(RLIMIT_NOFILE, &all);
    assert_null(pipeline);
    assert_int_equal(error, EMFILE);
    assert_said("/dev/null: cannot be read: Too many open files");
}

static void equal_values_that_should_differ_are_warned_of(void **state)
{
    struct pipeline *pipelines[3] = {load_as("one.ini", SOURCE "id = a\n" SINK),
                                     load_as("two.ini", SOURCE SINK "id = a\n"),
                                     load_as("three.ini", SOURCE "id = b\n" SINK)};

    (void)state;
    assert_int_equal(pipeline_check_together(pipelines, 3), 0);
    assert_int_equal(warnings, 1);
    assert_said("two.ini:7: [sink one] id: test id \"a\" is also that of [source] in one.ini");
    for (size_t i = 0; i < 3; i++)
        pipeline_free(pipelines[i]);
}

static void equal_names_are_refused(void **state)
{
    struct pipeline *pipelines[2] = {load_as("one.ini", SOURCE SINK),
                                     load_as("two.ini", "[pipeline]\nname = one\n" SOURCE SINK)};

    (void)state;
    assert_int_equal(pipeline_check_together(pipelines, 2), -EINVAL);
    assert_int_equal(errors, 1);
    assert_said("two.ini: the pipeline's name \"one\" is also that of one.ini");
    for (size_t i = 0; i < 2; i++)
        pipeline_free(pipelines[i]);
}

/* ----------------------------------------------------------------------------------------------------------- shards */

#define SHARDED SOURCE "id = s-${shard}\nsome = fms/${shard}/a, fms/${shard}/b\n" SINK

/* What pipelines_load says, with its pipelines in `all`. */
static int load_shards(const char *text, struct pipelines *all)
{
    FILE *file = fopen("bridge.ini", "w");
    int error;

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    *all = (struct pipelines){NULL, 0};
    error = pipelines_load(all, "bridge.ini", NULL, NULL, NULL);
    unlink("bridge.ini");
    return error;
}

/* Their names, with blanks between them. */
static void assert_names(const char *text, const char *names)
{
    struct pipelines all;
    char found[512] = "";
    size_t n = 0;

    assert_int_equal(load_shards(text, &all), 0);
    for (size_t i = 0; i < all.count; i++)
        n += (size_t)snprintf(found + n, sizeof found - n, "%s%s", i > 0 ? " " : "", all.items[i]->options.name);
    assert_string_equal(found, names);
    pipelines_free(&all);
}

static void a_file_is_a_pipeline_for_each_shard_that_is_ours(void **state)
{
    (void)state;
    assert_names(SOURCE SINK, "bridge");
    assert_names("[pipeline]\nreplica = 7\n" SOURCE SINK, "bridge"); /* nothing without shards */
    assert_names("[pipeline]\nshards = 3\n" SHARDED, "bridge-0 bridge-1 bridge-2");
    assert_names("[pipeline]\nshards = 12\nreplicas = 5\nreplica = 1\n" SHARDED, "bridge-1 bridge-6 bridge-11");
    assert_names("[pipeline]\nname = p\nshards = 4\nreplicas = 3\nreplica = host-1\n" SHARDED, "p-1");
    assert_names("[pipeline]\nname = s${shard}.p\nshards = 2\n" SHARDED, "s0.p s1.p");
    assert_names("[pipeline]\nname = $${shard}\nshards = 1\n" SHARDED, "${shard}-0");
    assert_int_equal(errors + warnings, 0);
    setenv("FMS_TEST_INDEX", "2", 1);
    assert_names("[pipeline]\nshards = 6\nreplicas = 3\nreplica = ${env:FMS_TEST_INDEX}\n" SHARDED,
                 "bridge-2 bridge-5");
    unsetenv("FMS_TEST_INDEX");
}

/* Whatever the numbers, no shard has two owners; without a change under way each has one. */
static void each_shard_is_one_replica_s(void **state)
{
    static const int changes[][2] = {{1, 0}, {4, 0}, {12, 0}, {4, 3}, {3, 5}, {5, 1}};

    (void)state;
    for (size_t c = 0; c < sizeof changes / sizeof changes[0]; c++) {
        unsigned owners[12] = {0};
        char text[512];

        for (int replica = 0; replica < changes[c][0]; replica++) {
            struct pipelines all;

            snprintf(text, sizeof text,
                     "[pipeline]\nshards = 12\nreplicas = %d\nreplicas_next = %d\nreplica = %d\n" SHARDED,
                     changes[c][0], changes[c][1], replica);
            assert_int_equal(load_shards(text, &all), 0);
            for (size_t i = 0; i < all.count; i++) {
                int shard = atoi(strrchr(all.items[i]->options.name, '-') + 1);

                owners[shard]++;
                assert_int_equal(shard % changes[c][0], replica);
                if (changes[c][1] > 0)
                    assert_int_equal(shard % changes[c][1], replica);
            }
            pipelines_free(&all);
        }
        for (int shard = 0; shard < 12; shard++)
            assert_int_equal(owners[shard], changes[c][1] == 0 || shard % changes[c][0] == shard % changes[c][1]);
    }
}

static void a_replica_without_shards_is_none(void **state)
{
    struct pipelines all;

    (void)state;
    assert_int_equal(load_shards("[pipeline]\nshards = 2\nreplicas = 3\nreplica = 2\n" SHARDED, &all), 0);
    assert_int_equal(all.count, 0);
    assert_said("bridge.ini: replica 2 has none of the 2 shards");
    pipelines_free(&all);
}

/* A first step without a second would be noticed when the broker forgets the sessions. */
static void shards_that_are_given_up_are_told(void **state)
{
    struct pipelines all;

    (void)state;
    assert_names("[pipeline]\nshards = 12\nreplicas = 4\nreplicas_next = 4\nreplica = 1\n" SHARDED,
                 "bridge-1 bridge-5 bridge-9");
    assert_int_equal(warnings, 0);
    assert_int_equal(
        load_shards("[pipeline]\nshards = 12\nreplicas = 4\nreplicas_next = 3\nreplica = 1\n" SHARDED, &all), 0);
    assert_said("bridge.ini: replicas_next = 3: until replicas is 3, too, 2 of the shards of replica 1 are nobody's");
    assert_int_equal(warnings, 1);
    pipelines_free(&all);
}

/* The number stands for ${shard} in all values, and nowhere else; each pipeline has its own. */
static void the_shard_stands_in_all_options(void **state)
{
    struct pipelines all;

    (void)state;
    assert_int_equal(load_shards("[pipeline]\nshards = 10\nreplicas = 5\nreplica = 4\n" SOURCE
                                 "id = ${shard}-$${shard}-${shard}\nsome = ${shard}\nnumber = ${shard}\n" SINK,
                                 &all),
                     0);
    assert_int_equal(all.count, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct config *config = all.items[i]->config;

        assert_string_equal(config_find(&config->sections[1], "id")->value, i == 0 ? "4-$${shard}-4" : "9-$${shard}-9");
        assert_string_equal(config_find(&config->sections[1], "number")->value, i == 0 ? "4" : "9");
    }
    assert_int_equal(pipeline_check_together(all.items, all.count), 0);
    assert_int_equal(errors + warnings, 0);
    pipelines_free(&all);
}

/* Refused, with one error, in that line. */
static void assert_shards_refused(const char *text, int line, const char *error)
{
    struct pipelines all;
    char place[64];

    said[0] = '\0';
    errors = 0;
    assert_int_equal(load_shards(text, &all), -EINVAL);
    assert_int_equal(all.count, 0);
    pipelines_free(&all);
    snprintf(place, sizeof place, "bridge.ini:%d: ", line);
    assert_said(place);
    assert_said(error);
    assert_int_equal(errors, 1);
}

static void shards_that_would_meet_are_refused(void **state)
{
    (void)state;
    assert_shards_refused("[pipeline]\nshards = 2\n" SOURCE "id = a\n" SINK, 6,
                          "[source] id = \"a\": each shard needs its own test id: put ${shard} into it, as in"
                          " NAME-${shard}");
    assert_shards_refused("[pipeline]\nshards = 2\n" SOURCE "id = $${shard}\n" SINK, 6, "each shard needs its own");
    assert_shards_refused(
        "[pipeline]\nshards = 2\nreplica = 0\n" SOURCE "some = ${shard}, all\n" SINK, 7,
        "[source] some = \"${shard}, all\": each shard needs its own test topic: put ${shard} into each"
        " item, as in fms/${shard}/+/data");
    assert_shards_refused("[pipeline]\nshards = 2\nreplicas = 2\nreplica = 2\n" SHARDED, 4,
                          "replica is 2, but replicas = 2, and they are counted from 0");
    assert_shards_refused("[pipeline]\nshards = 2\nreplica = bridge\n" SHARDED, 3,
                          "replica is \"bridge\": expected a number, from 0, or a name that ends in one");
    assert_shards_refused("[pipeline]\nshards = 2\nreplica = bridge-x2\n" SHARDED, 3, "replica is \"bridge-x2\"");
    assert_shards_refused("[pipeline]\nshards = 2\nreplicas = 2\nreplica = -1\n" SHARDED, 4, "replica is \"-1\"");
    assert_shards_refused("[pipeline]\nshards = 2\nreplica =\n" SHARDED, 3, "replica is \"\"");
    assert_shards_refused("[pipeline]\nshards = 2\nreplicas = 2\n" SHARDED, 3,
                          "replicas = 2, but replica is not set: say which of them this is, from 0 to 1");
    assert_shards_refused("[pipeline]\nshards = two\n" SHARDED, 2, "shards = \"two\": expected a whole number");
    assert_shards_refused("[pipeline]\nshards = 3\nmax_in_flight = 0\n" SHARDED, 3, "max_in_flight = \"0\"");
}

static void a_shard_where_there_are_none_is_refused(void **state)
{
    (void)state;
    assert_refused(SOURCE "id = ${shard}\n" SINK, 4,
                   "id = \"${shard}\": column 1: there are no shards: set shards = N in [pipeline]");
}

/* One that could be loaded alone stands for all, for those who look at transforms only. */
static void a_single_one_is_the_first_of_ours(void **state)
{
    struct pipeline *pipeline = load("[pipeline]\nname = p\nshards = 9\nreplicas = 4\nreplica = 3\n" SHARDED);

    (void)state;
    assert_non_null(pipeline);
    assert_string_equal(pipeline->options.name, "p-3");
    pipeline_free(pipeline);
    pipeline = load("[pipeline]\nname = p\nshards = 2\nreplicas = 4\nreplica = 3\n" SHARDED);
    assert_string_equal(pipeline->options.name, "p-0");
    pipeline_free(pipeline);
}

static void what_is_wrong_with_all_is_told_once(void **state)
{
    struct pipelines all;

    (void)state;
    assert_int_equal(load_shards("[pipeline]\nshards = 3\nvehicle_fields = a\n" SHARDED, &all), 0);
    assert_int_equal(all.count, 3);
    assert_int_equal(warnings, 1);
    pipelines_free(&all);
}

static void too_many_stages(void **state)
{
    static char text[16384];
    size_t n = 0;

    (void)state;
    n += (size_t)snprintf(text + n, sizeof text - n, SOURCE);
    for (size_t i = 0; i < PIPELINE_MAX_STAGES; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "[sink %zu]\n" GOOD, i);
    assert_refused(text, 3 * 62 + 1, "more than 62 stages");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_good_file_is_loaded),
        CASE(the_file_s_name_is_the_pipeline_s),
        CASE(who_is_opened_knows_whether_it_is_watched),
        CASE(a_pipeline_runs_and_closes),
        CASE(an_unknown_section),
        CASE(an_unknown_section_like_no_other),
        CASE(no_source),
        CASE(two_sources),
        CASE(two_dead_letters),
        CASE(no_sink),
        CASE(the_same_section_twice),
        CASE(an_empty_file),
        CASE(no_file),
        CASE(a_missing_plugin_key),
        CASE(an_unknown_plugin),
        CASE(a_plugin_in_a_wrong_role),
        CASE(a_plugin_of_another_abi),
        CASE(an_unknown_key),
        CASE(an_unknown_key_of_the_pipeline),
        CASE(a_missing_required_key),
        CASE(a_wrong_type),
        CASE(out_of_range),
        CASE(a_wrong_choice_of_the_pipeline),
        CASE(an_error_beside_a_dead_letter),
        CASE(a_check_that_fails),
        CASE(all_errors_come_at_once),
        CASE(when_one_cannot_open_the_others_are_closed),
        CASE(an_error_without_words_gets_the_host_s),
        CASE(a_number_that_is_no_error_is_one),
        CASE(a_file_is_not_blamed_for_its_surroundings),
        CASE(equal_values_that_should_differ_are_warned_of),
        CASE(equal_names_are_refused),
        CASE(a_file_is_a_pipeline_for_each_shard_that_is_ours),
        CASE(each_shard_is_one_replica_s),
        CASE(a_replica_without_shards_is_none),
        CASE(shards_that_are_given_up_are_told),
        CASE(the_shard_stands_in_all_options),
        CASE(shards_that_would_meet_are_refused),
        CASE(a_shard_where_there_are_none_is_refused),
        CASE(a_single_one_is_the_first_of_ours),
        CASE(what_is_wrong_with_all_is_told_once),
        CASE(too_many_stages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
