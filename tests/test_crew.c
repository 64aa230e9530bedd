/* test_crew.c - the pipelines of a process come and go by reloads of a folder, while others look at them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "loader.h"
#include "log.h"
#include "reload.h"
#include "snapshot.h"
#include "tap.h"

#define PATIENCE 120 /* seconds until a test that hangs is killed */

static struct {
    char log[32768];
    pthread_mutex_t lock; /* guards that */
    struct crew *crew;
    char folder[64];
} rig = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char folder_name[] = "conf.d";
static char *const words[] = {folder_name};

static void take_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n;

    (void)user;
    (void)level;
    pthread_mutex_lock(&rig.lock);
    n = strlen(rig.log);
    snprintf(rig.log + n, sizeof rig.log - n, "%s, %s: %s\n", pipeline != NULL ? pipeline : "",
             stage != NULL ? stage : "", text);
    pthread_mutex_unlock(&rig.lock);
}

static bool was_said(const char *text)
{
    bool was;

    pthread_mutex_lock(&rig.lock);
    was = strstr(rig.log, text) != NULL;
    pthread_mutex_unlock(&rig.lock);
    return was;
}

static void assert_said(const char *text)
{
    if (!was_said(text))
        print_error("expected \"%s\" in:\n%s", text, rig.log);
    assert_true(was_said(text));
}

static int setup(void **state)
{
    const char *own = getenv("FMS_TEST_PLUGIN_DIR"), *shipped = getenv("FMS_PLUGIN_DIR");
    char places[1024];

    (void)state;
    snprintf(places, sizeof places, "%s:%s", own != NULL ? own : "", shipped != NULL ? shipped : "");
    loader_search(places);
    strcpy(rig.folder, "/tmp/fms-crew-XXXXXX");
    if (mkdtemp(rig.folder) == NULL || chdir(rig.folder) != 0 || mkdir("conf.d", 0700) != 0)
        return -1;
    *rig.log = '\0';
    log_redirect(take_log, NULL);
    alarm(PATIENCE);
    rig.crew = crew_new();
    if (rig.crew == NULL || crew_open(rig.crew) != 0)
        return -1;
    crew_measure(rig.crew);
    crew_start(rig.crew);
    reload_begin(rig.crew, words, 1, NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    crew_stop(rig.crew);
    reload_end();
    while (crew_look(rig.crew, NULL).running > 0)
        usleep(1000);
    crew_free(rig.crew);
    log_redirect(NULL, NULL);
    snprintf(command, sizeof command, "rm -r %s", rig.folder);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

#define SIM  "[source]\nplugin = fms_sim\nvehicles = 5\nrate = 2000\n"
#define NONE "[sink none]\nplugin = null_sink\n"
#define LONE "[sink lone]\nplugin = lone\nhangs = hangs\nid = "

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static enum reload_result reload(void)
{
    return reload_run(false, NULL);
}

/* With blanks between them. */
static void assert_names(const char *expected)
{
    char found[512] = "";
    size_t count, n = 0;
    uint64_t *numbers = crew_numbers(rig.crew, &count);

    for (size_t i = 0; i < count; i++) {
        struct pipeline *pipeline = crew_hold(rig.crew, numbers[i]);

        assert_non_null(pipeline);
        n += (size_t)snprintf(found + n, sizeof found - n, "%s%s", i > 0 ? " " : "", pipeline->options.name);
        crew_release(rig.crew, pipeline);
    }
    free(numbers);
    assert_string_equal(found, expected);
}

/* Of the only one. */
static uint64_t number(void)
{
    size_t count;
    uint64_t *numbers = crew_numbers(rig.crew, &count), its = count == 1 ? numbers[0] : 0;

    free(numbers);
    assert_int_equal(count, 1);
    return its;
}

/* ------------------------------------------------------------------------------------------------------------ the set */

static void they_are_what_the_files_ask_for(void **state)
{
    (void)state;
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("");
    write_file("conf.d/b.ini", SIM NONE);
    write_file("conf.d/d.ini", "[pipeline]\nname = first\n" SIM NONE);
    assert_int_equal(reload_run(true, NULL), RELOAD_DONE); /* a dry one */
    assert_names("");
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("b first");
    write_file("conf.d/c.ini", "[pipeline]\nshards = 3\n" SIM NONE);
    write_file("conf.d/a.ini", SIM NONE);
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("a b c-0 c-1 c-2 first");
    write_file("conf.d/c.ini", "[pipeline]\nshards = 12\nreplicas = 6\nreplica = 0\n" SIM NONE);
    unlink("conf.d/b.ini");
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("a c-0 c-6 first");
    write_file("conf.d/c.ini", SIM NONE);
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("a c first");
    write_file("conf.d/b.ini", SIM "[sink none]\nplugin = nowhere\n");
    unlink("conf.d/a.ini");
    assert_int_equal(reload(), RELOAD_BAD);
    assert_names("a c first");
}

/* A replica that is one too many is a mistake at a start, and where it has another number, but not where it has run; what its shards share is one in each case. */
static void shards_are_given_up_and_refused(void **state)
{
    (void)state;
    write_file("conf.d/s.ini", "[pipeline]\nshards = 4\nreplicas = 2\nreplica = 1\n" SIM LONE "s-${shard}\n");
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("s-1 s-3");
    write_file("conf.d/s.ini", "[pipeline]\nshards = 4\nreplicas = 2\nreplica = 1\n" SIM LONE "s\n");
    assert_int_equal(reload(), RELOAD_BAD);
    assert_said("[sink lone] id = \"s\": each shard needs its own lone id");
    write_file("conf.d/s.ini", "[pipeline]\nshards = 4\nreplicas = 2\nreplica = 7\n" SIM LONE "s-${shard}\n");
    assert_int_equal(reload(), RELOAD_BAD);
    assert_said("replica is 7, but replicas = 2");
    assert_names("s-1 s-3");
    write_file("conf.d/s.ini", "[pipeline]\nshards = 4\nreplicas = 1\nreplica = 1\n" SIM LONE "s-${shard}\n");
    assert_int_equal(reload(), RELOAD_DONE);
    assert_said("replica 1 has none of the 4 shards");
    assert_names("");
}

/* As of --watch, while the first pipelines open. */
static void what_changes_before_the_begin_is_done_then(void **state)
{
    uint64_t before = reload_look().results[RELOAD_DONE];

    (void)state;
    reload_end();
    write_file("conf.d/a.ini", SIM NONE);
    reload_request(false);
    reload_begin(rig.crew, words, 1, NULL, NULL);
    while (reload_look().results[RELOAD_DONE] == before)
        usleep(1000);
    assert_names("a");
}

/* ---------------------------------------------------------------------------------------------------- two of one thing */

static void who_goes_is_gone_before_who_comes_with_its_id(void **state)
{
    (void)state;
    write_file("conf.d/a.ini", SIM LONE "x\n");
    assert_int_equal(reload(), RELOAD_DONE);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(
            rename(i % 2 == 0 ? "conf.d/a.ini" : "conf.d/b.ini", i % 2 == 0 ? "conf.d/b.ini" : "conf.d/a.ini"), 0);
        assert_int_equal(reload(), RELOAD_DONE);
        assert_names(i % 2 == 0 ? "b" : "a");
    }
    write_file("conf.d/b.ini", SIM LONE "x\n"); /* beside the other one: it is warned of, and does not open */
    assert_int_equal(reload(), RELOAD_KEPT);
    assert_said("lone id \"x\" is also that of [sink lone]");
    assert_names("a");
    write_file("conf.d/a.ini", SIM LONE "y\n"); /* which gives it up */
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("a b");
}

/* Whatever the order of their files; and what they would have to exchange takes two reloads. */
static void who_needs_what_another_gives_up_comes_after_it(void **state)
{
    (void)state;
    write_file("conf.d/a.ini", SIM LONE "x\n");
    write_file("conf.d/b.ini", SIM LONE "y\n");
    write_file("conf.d/c.ini", SIM LONE "z\n");
    assert_int_equal(reload(), RELOAD_DONE);
    for (int i = 0; i < 4; i++) {
        write_file(i % 2 == 0 ? "conf.d/a.ini" : "conf.d/c.ini", SIM LONE "y\n");
        write_file("conf.d/b.ini", i % 2 == 0 ? SIM LONE "z\n" : SIM LONE "x\n");
        write_file(i % 2 == 0 ? "conf.d/c.ini" : "conf.d/a.ini", i % 2 == 0 ? SIM LONE "u\n" : SIM LONE "v\n");
        assert_int_equal(reload(), RELOAD_DONE);
        write_file("conf.d/a.ini", SIM LONE "x2\n");
        write_file("conf.d/b.ini", SIM LONE "y2\n");
        write_file("conf.d/c.ini", SIM LONE "z2\n");
        assert_int_equal(reload(), RELOAD_DONE);
    }
    write_file("conf.d/a.ini", SIM LONE "y2\n");
    write_file("conf.d/b.ini", SIM LONE "x2\n");
    assert_int_equal(reload(), RELOAD_KEPT);
    assert_said(
        "a, : it does not change: pipeline b, which was to change, still has its name, or its client id or the like");
    write_file("conf.d/b.ini", SIM LONE "w\n");
    assert_int_equal(reload(), RELOAD_DONE);
    write_file("conf.d/b.ini", SIM LONE "x2\n");
    assert_int_equal(reload(), RELOAD_DONE);
    assert_names("a b c");
}

/* One that does not give up what it has holds up those that need it, and nobody else, until it has. */
static void who_does_not_go_is_named_and_holds_up_his_like_alone(void **state)
{
    (void)state;
    write_file("conf.d/a.ini", "[pipeline]\ndrain_timeout = 1s\n" SIM LONE "x\n");
    assert_int_equal(reload(), RELOAD_DONE);
    write_file("hangs", "");
    assert_int_equal(rename("conf.d/a.ini", "conf.d/b.ini"), 0);
    write_file("conf.d/c.ini", SIM NONE);
    assert_int_equal(reload(), RELOAD_KEPT);
    assert_said("a plugin has not returned 15 s after its pipeline began to close; the pipeline is there until it has");
    assert_said("b, : it does not come: pipeline a, which was to go, still has its name, or its client id or the like");
    assert_names("c a");
    assert_int_equal(crew_look(rig.crew, NULL).running, 1);
    assert_int_equal(crew_last_moment(rig.crew, 0), FMS_NEVER);
    unlink("hangs");
    while (reload() != RELOAD_DONE)
        usleep(1000);
    assert_names("b c");
}

static void nobody_comes_while_all_stop(void **state)
{
    (void)state;
    write_file("conf.d/a.ini", SIM LONE "x\n");
    crew_stop(rig.crew);
    assert_int_equal(reload(), RELOAD_KEPT);
    assert_said("pipeline a does not come: the process is about to end");
    assert_names("");
    assert_int_equal(access("x", F_OK), -1); /* it was closed */
}

/* ------------------------------------------------------------------------------------------------------------- looking */

static void *change_over_and_over(void *user)
{
    _Atomic bool *is_over = user;

    for (int i = 0; i < 60; i++) {
        if (i % 2 == 0)
            write_file("conf.d/b.ini", SIM NONE);
        else
            unlink("conf.d/b.ini");
        assert_int_equal(reload(), RELOAD_DONE);
    }
    *is_over = true;
    return NULL;
}

/* Numbers that were seen may be of nobody any more, and never are another's. */
static void who_looks_meets_nobody_who_has_gone(void **state)
{
    _Atomic bool is_over = false;
    uint64_t highest = 0;
    pthread_t changer;

    (void)state;
    write_file("conf.d/a.ini", SIM NONE);
    assert_int_equal(pthread_create(&changer, NULL, change_over_and_over, (void *)&is_over), 0);
    while (!is_over) {
        size_t count;
        uint64_t *numbers = crew_numbers(rig.crew, &count);

        for (size_t i = 0; i < count; i++) {
            struct pipeline *pipeline = crew_hold(rig.crew, numbers[i]);
            struct pipeline_view view = {0};

            if (pipeline == NULL)
                continue;
            snapshot_read(pipeline, &view, 5 * FMS_MS);
            assert_string_equal(view.name, numbers[i] == 1 ? "a" : "b");
            crew_release(rig.crew, pipeline);
            view_forget(&view);
            highest = numbers[i] > highest ? numbers[i] : highest;
        }
        free(numbers);
    }
    pthread_join(changer, NULL);
    assert_in_range(highest, 2, 31);
    assert_names("a");
}

/* What has passed is read, and then there is no more. */
static void a_tap_loses_its_pipeline(void **state)
{
    struct tap_wish wish = {.stage = "source", .point = TAP_OUT};
    struct pipeline *pipeline;
    struct tapped tapped;
    struct tap *tap;
    size_t records = 0;
    int result;

    (void)state;
    write_file("conf.d/a.ini", SIM NONE);
    assert_int_equal(reload(), RELOAD_DONE);
    pipeline = crew_hold(rig.crew, number());
    assert_int_equal(tap_open(pipeline, &wish, &tap), 0);
    crew_release(rig.crew, pipeline);
    while ((result = tap_read(tap, &tapped)) == 0)
        usleep(1000);
    assert_int_equal(result, 1);
    unlink("conf.d/a.ini");
    assert_int_equal(reload(), RELOAD_DONE);
    write_file("conf.d/a.ini", SIM NONE); /* another one of that name, which it has no part in */
    assert_int_equal(reload(), RELOAD_DONE);
    while ((result = tap_read(tap, &tapped)) == 1)
        records++;
    assert_int_equal(result, -ESHUTDOWN);
    assert_in_range(records, 0, 100000);
    tap_close(tap);
    pipeline = crew_hold(rig.crew, number());
    assert_int_equal(tap_open(pipeline, &wish, &tap), 0); /* its place is free */
    crew_release(rig.crew, pipeline);
    while ((result = tap_read(tap, &tapped)) == 0)
        usleep(1000);
    assert_int_equal(result, 1);
    tap_close(tap);
}

#define IN_A_PROCESS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PROCESS(they_are_what_the_files_ask_for),
        IN_A_PROCESS(shards_are_given_up_and_refused),
        IN_A_PROCESS(what_changes_before_the_begin_is_done_then),
        IN_A_PROCESS(who_goes_is_gone_before_who_comes_with_its_id),
        IN_A_PROCESS(who_needs_what_another_gives_up_comes_after_it),
        IN_A_PROCESS(who_does_not_go_is_named_and_holds_up_his_like_alone),
        IN_A_PROCESS(nobody_comes_while_all_stop),
        IN_A_PROCESS(who_looks_meets_nobody_who_has_gone),
        IN_A_PROCESS(a_tap_loses_its_pipeline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
