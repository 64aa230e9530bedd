/* test_plan.c - a pipeline's file changes while it runs, with plugins as they are shipped: what is planned, and what becomes of it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "assemble.h"
#include "clock.h"
#include "fleet.h"
#include "lane.h"
#include "loader.h"
#include "log.h"
#include "plan.h"
#include "snapshot.h"

#define PATIENCE 60 /* seconds until a test that hangs is killed */

static struct {
    char log[8192];
    pthread_mutex_t lock; /* guards that */
    struct pipeline *pipeline;
    pthread_t lane;
} rig = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void take_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n;

    (void)user;
    (void)pipeline;
    pthread_mutex_lock(&rig.lock);
    n = strlen(rig.log);
    snprintf(rig.log + n, sizeof rig.log - n, "%d %s: %s\n", (int)level, stage != NULL ? stage : "", text);
    pthread_mutex_unlock(&rig.lock);
}

static bool is_said(const char *text)
{
    bool is_said;

    pthread_mutex_lock(&rig.lock);
    is_said = strstr(rig.log, text) != NULL;
    pthread_mutex_unlock(&rig.lock);
    return is_said;
}

static void assert_said(const char *text)
{
    if (!is_said(text))
        print_error("expected \"%s\" in:\n%s", text, rig.log);
    assert_true(is_said(text));
}

/* By the sink that counts, which has seen all that went by. */
static void assert_promise_kept(void)
{
    char text[256] = "";
    FILE *file = fopen("report", "r");

    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    if (strstr(text, "lost 0, duplicated 0, out of order 0, corrupted 0; promise kept") == NULL)
        print_error("%s", text);
    assert_non_null(strstr(text, "lost 0, duplicated 0, out of order 0, corrupted 0; promise kept"));
}

static void write_file(const char *text)
{
    FILE *file = fopen("rig.ini", "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

#define SOURCE "[source]\nplugin = fms_sim\nvehicles = 5\nrate = 0\nsequence = yes\n"
#define SLOW   "[source]\nplugin = fms_sim\nvehicles = 5\nrate = 100000\nsequence = yes\n"
#define VERIFY "[sink verify]\nplugin = verify_sink\nreport = report\n"
#define CHECK  "[transform check]\nplugin = filter\ncondition = speed >= 0\n"

static void *run(void *user)
{
    lane_run(user);
    pipeline_close(user);
    return NULL;
}

static void start(const char *text)
{
    write_file(text);
    rig.pipeline = pipeline_load("rig.ini");
    assert_non_null(rig.pipeline);
    pipeline_measure(rig.pipeline);
    assert_int_equal(pipeline_open(rig.pipeline), 0);
    assert_int_equal(pthread_create(&rig.lane, NULL, run, rig.pipeline), 0);
}

static struct pipeline_counts counts(void)
{
    struct pipeline_view view = {0};
    struct pipeline_counts counts;

    snapshot_read(rig.pipeline, &view, 20 * FMS_SECOND);
    counts = view.counts;
    view_forget(&view);
    return counts;
}

static void await_more(uint64_t more)
{
    uint64_t from = counts().delivered;

    while (counts().delivered < from + more)
        usleep(1000);
}

static int finish(void)
{
    bool has_failed;

    pipeline_stop(rig.pipeline);
    pthread_join(rig.lane, NULL);
    has_failed = rig.pipeline->has_failed;
    pipeline_free(rig.pipeline);
    return has_failed;
}

static void finish_counted(uint64_t *delivered)
{
    pipeline_stop(rig.pipeline);
    pthread_join(rig.lane, NULL);
    *delivered = rig.pipeline->counts.delivered;
    pipeline_free(rig.pipeline);
}

static int setup(void **state)
{
    char folder[] = "/tmp/fms-plan-XXXXXX";

    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        return -1;
    *state = strdup(folder);
    *rig.log = '\0';
    log_redirect(take_log, NULL);
    alarm(PATIENCE);
    return *state == NULL;
}

static int teardown(void **state)
{
    unlink("rig.ini");
    unlink("report");
    log_redirect(NULL, NULL);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(*state), 0);
    free(*state);
    return 0;
}

/* What is planned for that text, behind the pipeline's name in each line; then it is done. */
static int change_to(const char *text, const char *expected)
{
    struct plan *plan;
    char *printed = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&printed, &size);
    int error;

    write_file(text);
    plan = plan_make(rig.pipeline);
    assert_non_null(plan);
    plan_print(plan, out);
    fclose(out);
    if (expected != NULL)
        assert_string_equal(printed, expected);
    free(printed);
    error = plan_apply(plan);
    plan_free(plan);
    return error;
}

#define NAMED "[pipeline]\nname = rig\n"

static void nothing_changes(void **state)
{
    (void)state;
    start(NAMED SOURCE VERIFY);
    await_more(100);
    assert_int_equal(change_to("; a comment\n" NAMED "\n\n" SOURCE VERIFY, ""), 0);
    await_more(100);
    assert_int_equal(finish(), 0);
}

static void each_kind_of_change_is_planned_and_done(void **state)
{
    (void)state;
    start(NAMED SOURCE VERIFY);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE CHECK VERIFY, "rig: transform check: comes\n"), 0);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE "[transform check]\nplugin = filter\ncondition = rpm >= 0\n" VERIFY,
                               "rig: transform check: condition speed >= 0 -> rpm >= 0: swapped\n"),
                     0);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE VERIFY, "rig: transform check: goes\n"), 0);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE VERIFY "[sink none]\nplugin = null_sink\n", "rig: sink none: comes\n"), 0);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE VERIFY "[sink none]\nplugin = file\npath = /dev/null\n",
                               "rig: sink none: plugin null_sink -> file, path (not set) -> /dev/null: reopened\n"),
                     0);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE VERIFY, "rig: sink none: goes\n"), 0);
    await_more(100);
    assert_int_equal(change_to(NAMED "max_in_flight = 77\n" SOURCE VERIFY,
                               "rig: pipeline: max_in_flight (not set) -> 77: at once\n"),
                     0);
    assert_int_equal(rig.pipeline->options.max_in_flight, 77);
    await_more(100);
    assert_int_equal(change_to(NAMED SLOW VERIFY, NULL), 0);
    await_more(100);
    finish();
}

#define OTHER "[transform map]\nplugin = json_map\nset.a = 1\n"

static void an_order_of_transforms_is_a_change(void **state)
{
    (void)state;
    start(NAMED SOURCE CHECK OTHER VERIFY);
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE OTHER CHECK VERIFY, "rig: transforms: their order: swapped\n"), 0);
    assert_string_equal(rig.pipeline->transforms[0]->name, "transform map");
    assert_string_equal(rig.pipeline->transforms[1]->name, "transform check");
    await_more(100);
    assert_int_equal(change_to(NAMED SOURCE OTHER CHECK VERIFY, ""), 0);
    assert_int_equal(change_to(NAMED SOURCE OTHER
                               "[transform more]\nplugin = filter\ncondition = rpm >= 0\n" CHECK VERIFY,
                               "rig: transform more: comes\n"),
                     0);
    await_more(100);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

/* Numbers of each vehicle, from those on, without a gap; how many lines. */
static uint64_t read_numbered(const char *path, unsigned long *last)
{
    FILE *file = fopen(path, "r");
    unsigned long n;
    char line[1024];
    uint64_t lines = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        const char *vehicle = strstr(line, "raspi-00"), *number = strstr(line, "\"seq\":");

        if (number == NULL) /* its payload stands in the line as a string */
            number = strstr(line, "\\\"seq\\\":");
        assert_true(vehicle != NULL && number != NULL);
        n = strtoul(strchr(number, ':') + 1, NULL, 10);
        assert_int_equal(n, ++last[vehicle[8] - '0']);
        lines++;
    }
    fclose(file);
    return lines;
}

static void a_sink_that_is_renamed_has_what_waits_for_the_old_one(void **state)
{
    static const char one[] = NAMED SLOW "[sink one]\nplugin = file\npath = out\n",
                      two[] = NAMED SLOW "[sink two]\nplugin = file\npath = out\nrotate_keep = 7\n";
    unsigned long last[10] = {0};
    uint64_t delivered;

    (void)state;
    start(one);
    for (int i = 0; i < 20; i++) {
        await_more(20);
        assert_int_equal(
            change_to(i % 2 == 0 ? two : one,
                      i % 2 == 0 ? "rig: sink two: in the place of sink one, rotate_keep (not set) -> 7: reopened\n"
                                 : "rig: sink one: in the place of sink two, rotate_keep 7 -> (not set): reopened\n"),
            0);
    }
    finish_counted(&delivered);
    assert_int_equal(read_numbered("out", last), delivered);
    assert_int_equal(unlink("out"), 0);
}

/* A file may grow no more, as on a full disk: the lines that it could not take are the first of the next one. */
static void what_a_full_disk_does_not_take_goes_to_another(void **state)
{
    static const char full[] = NAMED "drain_timeout = 100ms\n" SLOW "[sink out]\nplugin = file\npath = full\n",
                      other[] = NAMED "drain_timeout = 100ms\n" SLOW "[sink out]\nplugin = file\npath = other\n";
    struct rlimit limit, small = {.rlim_cur = 65536};
    unsigned long last[10] = {0};
    uint64_t delivered;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small.rlim_max = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    start(full);
    while (!is_said("File too large"))
        usleep(1000);
    delivered = counts().delivered;
    assert_int_equal(change_to(other, "rig: sink out: path full -> other: reopened\n"), 0);
    while (counts().delivered == delivered)
        usleep(1000);
    finish_counted(&delivered);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(read_numbered("full", last) + read_numbered("other", last), delivered);
    assert_int_equal(unlink("full") + unlink("other"), 0);
}

#define REJECT  "[transform check]\nplugin = fms_check\nfield.speed = number 0 to 10\n"
#define NONE    "[sink none]\nplugin = null_sink\n"
#define LETTERS "[dead_letter]\nplugin = file\npath = letters\n"

/* In whichever way rejected records are put up with, they are in between, too. */
static void dead_letters_come_and_go_while_they_are_written(void **state)
{
    (void)state;
    start(NAMED SOURCE REJECT NONE LETTERS);
    await_more(100);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(change_to(NAMED "on_reject = drop\n" SOURCE REJECT NONE,
                                   "rig: pipeline: on_reject (not set) -> drop: at once\nrig: dead_letter: goes\n"),
                         0);
        await_more(20);
        assert_int_equal(change_to(NAMED SOURCE REJECT NONE LETTERS,
                                   "rig: pipeline: on_reject drop -> (not set): at once\nrig: dead_letter: comes\n"),
                         0);
        await_more(20);
    }
    assert_int_equal(finish(), 0);
    assert_int_equal(unlink("letters"), 0);
}

static void what_is_about_to_end_is_not_changed(void **state)
{
    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    await_more(100);
    pipeline_stop(rig.pipeline);
    assert_int_equal(change_to(NAMED SOURCE VERIFY, "rig: transform check: goes\n"), -ECANCELED);
    assert_said("it has ended, or is about to, and is not changed any more");
    assert_int_equal(rig.pipeline->transform_count, 1);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

/* The sink that counts stays, so what it says at its end is of all that went by. */
static void nothing_is_lost_or_overtaken(void **state)
{
    char text[1024];

    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text,
                 NAMED SOURCE "[transform check]\nplugin = filter\ncondition = speed >= -%d\n%s" VERIFY, i % 7,
                 i % 3 == 0 ? "[transform map]\nplugin = filter\ncondition = fuel_level >= 0\n" : "");
        assert_int_equal(change_to(text, NULL), 0);
        await_more(20);
    }
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

static void a_bad_file_changes_nothing(void **state)
{
    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    await_more(100);
    write_file(NAMED SOURCE "[transform check]\nplugin = filter\ncondition = speed >\n" VERIFY);
    assert_null(plan_make(rig.pipeline));
    assert_int_equal(errno, EINVAL);
    assert_said("condition");
    write_file(NAMED "vehicle = ${key}\nvehicle_fields = speed..most\n" SOURCE CHECK VERIFY);
    assert_null(plan_make(rig.pipeline));
    assert_int_equal(errno, EINVAL);
    assert_said("vehicle_fields: \"speed..most\" is no path of a payload");
    unlink("rig.ini");
    assert_null(plan_make(rig.pipeline));
    assert_int_equal(mkfifo("rig.ini", 0600), 0); /* to which nobody writes */
    assert_null(plan_make(rig.pipeline));
    assert_int_equal(errno, EINVAL);
    assert_said("is no file that can be read again");
    unlink("rig.ini");
    await_more(100);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

static void what_does_not_open_leaves_all_as_it_was(void **state)
{
    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    await_more(100);
    assert_int_not_equal(change_to(NAMED SOURCE VERIFY "[sink file]\nplugin = file\npath = /nowhere/at/all\n", NULL),
                         0);
    await_more(100);
    assert_int_equal(rig.pipeline->transform_count, 1);
    assert_int_equal(rig.pipeline->sink_count, 1);
    assert_int_equal(change_to(NAMED SOURCE VERIFY, "rig: transform check: goes\n"), 0);
    await_more(100);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

/* The sink is as it was, and the next reload tries what the file says once more. */
static void what_did_not_open_is_tried_again(void **state)
{
    static const char good[] = NAMED SOURCE VERIFY "[sink out]\nplugin = file\npath = out\n",
                      other[] = NAMED SOURCE VERIFY "[sink out]\nplugin = file\npath = folder/out\n";

    (void)state;
    start(good);
    await_more(100);
    assert_int_not_equal(change_to(other, "rig: sink out: path out -> folder/out: reopened\n"), 0);
    await_more(100);
    assert_int_not_equal(change_to(other, "rig: sink out: path out -> folder/out: reopened\n"), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(change_to(other, "rig: sink out: path out -> folder/out: reopened\n"), 0);
    await_more(100);
    assert_int_equal(change_to(other, ""), 0);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
    assert_int_equal(unlink("out") + unlink("folder/out") + rmdir("folder"), 0);
}

/* ------------------------------------------------------------------------------------------ what [pipeline] says */

static struct pipeline_view look(void)
{
    struct pipeline_view view = {0};

    assert_true(snapshot_read(rig.pipeline, &view, 20 * FMS_SECOND));
    return view;
}

static void assert_known_as(const char *name)
{
    struct pipeline_view view = look();

    assert_string_equal(view.name, name);
    assert_string_equal(rig.pipeline->name, name);
    view_forget(&view);
}

/* Between two changes of its name all counts go on, and so does who logs, on whatever thread. */
static void its_name_changes(void **state)
{
    uint64_t before;

    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    await_more(100);
    before = counts().delivered;
    assert_int_equal(
        change_to("[pipeline]\nname = other\n" SOURCE CHECK VERIFY, "rig: pipeline: name rig -> other: at once\n"), 0);
    assert_true(counts().delivered >= before);
    assert_known_as("other");
    await_more(100);
    assert_int_equal(change_to("[pipeline]\nname = other\n" SOURCE VERIFY, "other: transform check: goes\n"), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(change_to(i % 2 == 0 ? "[pipeline]\nname = this\n" SOURCE CHECK VERIFY
                                              : "[pipeline]\nname = that\n" SOURCE CHECK VERIFY,
                                   NULL),
                         0);
        assert_known_as(i % 2 == 0 ? "this" : "that");
        assert_string_equal(rig.pipeline->transforms[0]->host.pipeline, "this"); /* as it began */
        await_more(20);
    }
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

static int check_together(struct plan *const *plans)
{
    struct pipeline *next[] = {plan_next(plans[0]), plan_next(plans[1])};

    return pipeline_check_together(next, 2);
}

/* Of pipelines that run beside each other no two have one name, whichever changes. */
static void names_stay_apart(void **state)
{
    struct pipeline *first, *second;
    struct plan *plans[2];

    (void)state;
    write_file(NAMED SOURCE VERIFY);
    assert_int_equal(rename("rig.ini", "first.ini"), 0);
    first = pipeline_load("first.ini");
    write_file("[pipeline]\nname = second\n" SOURCE "[sink none]\nplugin = null_sink\n");
    second = pipeline_load("rig.ini");
    assert_true(first != NULL && second != NULL);
    write_file("[pipeline]\nname = rig\n" SOURCE "[sink none]\nplugin = null_sink\n");
    plans[0] = plan_make(first);
    plans[1] = plan_make(second);
    assert_true(plans[0] != NULL && plans[1] != NULL);
    assert_int_equal(check_together(plans), -EINVAL);
    assert_said("the pipeline's name \"rig\" is also that of");
    plan_free(plans[1]);
    write_file("[pipeline]\nname = third\n" SOURCE "[sink none]\nplugin = null_sink\n");
    plans[1] = plan_make(second);
    assert_non_null(plans[1]);
    assert_int_equal(check_together(plans), 0);
    plan_free(plans[0]);
    plan_free(plans[1]);
    pipeline_free(first);
    pipeline_free(second);
    unlink("first.ini");
}

/* Vehicles that are known, of how many records, and what the fields of the first are called. */
static struct fleet_view look_at_fleet(void)
{
    struct fleet *fleet = pipeline_fleet(rig.pipeline);
    struct fleet_view view;

    assert_true(fleet_look(fleet, clock_now(), "", 100, &view));
    fleet_free(fleet);
    return view;
}

static uint64_t seen(const struct fleet_view *view)
{
    uint64_t records = view->counts.unnamed + view->counts.untracked;

    for (size_t i = 0; i < view->count; i++)
        records += view->vehicles[i].records;
    return records;
}

static void await_fields(const char *first)
{
    struct fleet_view view = look_at_fleet();

    while (view.count < 5 || *view.vehicles[0].fields[0] == '\0') {
        free(view.vehicles);
        usleep(1000);
        view = look_at_fleet();
    }
    assert_string_equal(view.fields[0], first);
    free(view.vehicles);
}

/* Somebody looks all the time, on a thread of his own, at whatever there is. */
static struct {
    pthread_t thread;
    _Atomic bool must_end;
    size_t looks;
} looker;

static void *look_on(void *user)
{
    while (!looker.must_end) {
        struct fleet *fleet = pipeline_fleet(rig.pipeline);
        struct fleet_view view;

        if (fleet_look(fleet, clock_now(), "raspi", 10, &view)) {
            for (size_t i = 0; i < view.field_count; i++)
                assert_int_not_equal(*view.fields[i], '\0');
            free(view.vehicles);
        }
        fleet_free(fleet);
        log_line(FMS_LOG_INFO, rig.pipeline->name, NULL, "looks");
        looker.looks++;
        usleep(1000);
    }
    return user;
}

static void begin_to_look(void)
{
    looker.must_end = false;
    looker.looks = 0;
    assert_int_equal(pthread_create(&looker.thread, NULL, look_on, NULL), 0);
}

static void end_to_look(void)
{
    looker.must_end = true;
    pthread_join(looker.thread, NULL);
    assert_true(looker.looks > 0);
}

#define VEHICLE "vehicle = ${json:vehicle_id}\n"

static void its_vehicles_stay_known(void **state)
{
    struct fleet_view before, after;

    (void)state;
    start(NAMED VEHICLE "vehicle_fields = speed, rpm\n" SOURCE CHECK VERIFY);
    await_more(1000);
    await_fields("speed");
    before = look_at_fleet();
    assert_int_equal(
        change_to(NAMED VEHICLE "vehicle_fields = rpm, fuel_level\nmax_vehicles = 7\n"
                                "silent_after = 5m\n" SOURCE CHECK VERIFY,
                  "rig: pipeline: vehicle_fields speed, rpm -> rpm, fuel_level, max_vehicles (not set) -> 7, "
                  "silent_after (not set) -> 5m: at once\n"),
        0);
    after = look_at_fleet();
    assert_int_equal(after.count, 5);
    assert_true(seen(&after) >= seen(&before));
    assert_true(after.silent_after == 300 * FMS_SECOND && after.counts.limit == 7);
    free(before.vehicles);
    free(after.vehicles);
    await_fields("rpm");
    assert_int_equal(change_to(NAMED VEHICLE "vehicle_fields = rpm, fuel_level\nmax_vehicles = 7\n"
                                             "silent_after = 2m\n" SOURCE CHECK VERIFY,
                               "rig: pipeline: silent_after 5m -> 2m: at once\n"),
                     0);
    after = look_at_fleet();
    assert_true(after.silent_after == 120 * FMS_SECOND && after.count == 5);
    free(after.vehicles);
    assert_int_equal(change_to(NAMED VEHICLE "max_vehicles = 3\n" SOURCE CHECK VERIFY, NULL), 0);
    after = look_at_fleet();
    assert_true(after.count == 3 && after.field_count == 0);
    free(after.vehicles);
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

/* Others are begun with, none are kept, or some where none were; by fields that no stage has asked for so far. */
static void its_vehicles_are_others(void **state)
{
    struct fleet_view view;

    (void)state;
    start(NAMED SOURCE CHECK VERIFY);
    assert_null(pipeline_fleet(rig.pipeline));
    begin_to_look();
    for (int i = 0; i < 8; i++) {
        assert_int_equal(change_to(NAMED VEHICLE SOURCE CHECK VERIFY, NULL), 0);
        await_more(500);
        view = look_at_fleet();
        assert_true(view.count == 5 && view.counts.unnamed == 0);
        free(view.vehicles);
        assert_int_equal(change_to(NAMED "vehicle = ${json:rpm}/${json:vehicle_id}\n" SOURCE CHECK VERIFY, NULL), 0);
        await_more(500);
        view = look_at_fleet();
        assert_non_null(strstr(view.vehicles[0].name, "/raspi-"));
        free(view.vehicles);
        assert_int_equal(change_to(i % 2 == 0 ? NAMED SOURCE VERIFY : NAMED SOURCE CHECK VERIFY, NULL), 0);
        assert_null(pipeline_fleet(rig.pipeline));
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(change_to(i % 2 == 0 ? NAMED VEHICLE "vehicle_fields = speed, rpm\n" SOURCE CHECK VERIFY
                                              : "[pipeline]\nname = other\n" VEHICLE
                                                "vehicle_fields = rpm\nmax_vehicles = 3\n" SOURCE CHECK VERIFY,
                                   NULL),
                         0);
    end_to_look();
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

static uint64_t aged(void)
{
    struct pipeline_view view = look();
    uint64_t n = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        n += view.age.counts[i];
    view_forget(&view);
    return n;
}

/* By a field that cannot be a time nothing ages; by the other all does, and what has is not forgotten. */
static void its_time_changes(void **state)
{
    uint64_t before;

    (void)state;
    start(NAMED "time = ${json:vehicle_id}\n" SOURCE CHECK VERIFY);
    await_more(500);
    assert_int_equal(aged(), 0);
    for (int i = 0; i < 8; i++) {
        before = aged();
        assert_int_equal(change_to(NAMED "time = ${json:timestamp}\n" SOURCE CHECK VERIFY, NULL), 0);
        await_more(500);
        assert_true(aged() > before);
        assert_int_equal(change_to(NAMED "time = ${json:vehicle_id}\n" SOURCE CHECK VERIFY, NULL), 0);
        before = aged();
        await_more(500);
        assert_int_equal(aged(), before);
    }
    assert_int_equal(finish(), 0);
    assert_promise_kept();
}

#define QUEUE  "[source]\nplugin = spool\npath = queue\n"
#define KEPT   "[sink kept]\nplugin = spool\npath = kept\n"
#define BESIDE "[sink other]\nplugin = null_sink\n"

static bool is_told_durable(void)
{
    return rig.pipeline->source->host.durable_sinks;
}

/* The source is opened anew, and only then, whenever what it was told of its sinks is no longer so. */
static void its_source_is_told_whether_sinks_are_durable(void **state)
{
    static const char no[] = "rig: source: its sinks have for good what they take: yes -> no: reopened\n"
                             "rig: sink other: comes\n";
    const struct stage *source;

    (void)state;
    start(NAMED QUEUE KEPT);
    assert_true(is_told_durable());
    for (int i = 0; i < 5; i++) {
        source = rig.pipeline->source;
        assert_int_equal(change_to(NAMED QUEUE KEPT BESIDE, no), 0);
        assert_false(is_told_durable());
        assert_ptr_not_equal(rig.pipeline->source, source);
        source = rig.pipeline->source;
        assert_int_equal(change_to(NAMED QUEUE KEPT "[sink other]\nplugin = file\npath = /dev/null\n", NULL), 0);
        assert_ptr_equal(rig.pipeline->source, source);
        assert_int_equal(change_to(NAMED QUEUE KEPT, NULL), 0);
        assert_true(is_told_durable());
    }
    finish();
    assert_int_equal(system("rm -r queue kept"), 0);
}

/* What does not open leaves the sinks as they were, and so does what the source was told. */
static void a_sink_that_does_not_open_is_not_told(void **state)
{
    (void)state;
    start(NAMED QUEUE KEPT);
    assert_int_not_equal(change_to(NAMED QUEUE "[sink kept]\nplugin = file\npath = /nowhere/at/all\n", NULL), 0);
    assert_true(is_told_durable());
    assert_string_equal(rig.pipeline->sinks[0]->plugin->table.name, "spool");
    assert_int_not_equal(change_to(NAMED "[source]\nplugin = spool\npath = queue\nmax_size = 1MiB\n"
                                         "[sink kept]\nplugin = file\npath = /nowhere/at/all\n",
                                   NULL),
                         0);
    assert_true(is_told_durable());
    assert_int_equal(change_to(NAMED QUEUE BESIDE, NULL), 0);
    assert_false(is_told_durable());
    finish();
    assert_int_equal(system("rm -r queue kept"), 0);
}

#define ASKING "[sink other]\nplugin = asking\n"

static bool is_told_of_identities(void)
{
    return rig.pipeline->source->host.identities;
}

/* So is whether a sink asks who records are; what it is told of both at once it is told once. */
static void its_source_is_told_whether_sinks_ask_who_records_are(void **state)
{
    static const char both[] =
        "rig: source: its sinks have for good what they take: yes -> no: its sinks ask who records"
        " are: no -> yes: reopened\nrig: sink other: comes\n";
    const struct stage *source;

    (void)state;
    start(NAMED QUEUE KEPT BESIDE);
    assert_false(is_told_of_identities());
    for (int i = 0; i < 5; i++) {
        source = rig.pipeline->source;
        assert_int_equal(change_to(NAMED QUEUE KEPT ASKING,
                                   "rig: source: its sinks ask who records are: no -> yes: reopened\n"
                                   "rig: sink other: plugin null_sink -> asking: reopened\n"),
                         0);
        assert_true(is_told_of_identities());
        assert_true(rig.pipeline->tells_ends);
        assert_ptr_not_equal(rig.pipeline->source, source);
        source = rig.pipeline->source;
        assert_int_equal(change_to(NAMED QUEUE KEPT ASKING "ends = no\n", NULL), 0);
        assert_ptr_equal(rig.pipeline->source, source);
        assert_true(rig.pipeline->records.are_known);
        assert_false(rig.pipeline->tells_ends);
        assert_int_equal(change_to(NAMED QUEUE KEPT, NULL), 0);
        assert_false(is_told_of_identities());
        assert_int_equal(change_to(NAMED QUEUE KEPT ASKING, both), 0);
        assert_true(is_told_of_identities());
        assert_int_equal(change_to(NAMED QUEUE KEPT BESIDE, NULL), 0);
        assert_false(is_told_of_identities());
        assert_false(rig.pipeline->records.are_known);
    }
    finish();
    assert_int_equal(system("rm -r queue kept"), 0);
}

/* Whoever is opened knows it: a source that comes with the sink is not opened twice. */
static void a_source_that_comes_is_told_at_once(void **state)
{
    (void)state;
    start(NAMED SOURCE VERIFY);
    assert_int_equal(change_to(NAMED QUEUE "[dead_letter]\nplugin = asking\n" VERIFY, NULL), 0);
    assert_true(is_told_of_identities());
    assert_true(rig.pipeline->dead_letter->asks_ends);
    finish();
    assert_int_equal(system("rm -r queue"), 0);
}

static void use(const char *variables)
{
    struct environment *environment;

    assert_int_equal(environment_parse("rig.env", variables, strlen(variables), &environment), 0);
    environment_use(environment);
}

/* The file stays, and what it refers to changes; what is not asked for changes nothing. */
static void another_environment_is_another_file(void **state)
{
    static const char file[] = NAMED
        "drain_timeout = 100ms\nmax_in_flight = ${env:MOST}\n" SOURCE
        "[transform check]\nplugin = filter\ncondition = speed >= ${env:LEAST}\n" VERIFY
        "[sink far]\nplugin = mqtt_sink\nserver = tcp://127.0.0.1:1\nqos = 1\ntopic = ${env:TOPIC:-x}\n"
        "password = ${env:PASSWORD}\n";

    (void)state;
    use("MOST=1000\nLEAST=0\nPASSWORD=hunter1");
    start(file);
    use("MOST=1000\nLEAST=0\nPASSWORD=hunter1\nOTHER=1");
    assert_int_equal(change_to(file, ""), 0);
    use("MOST=1000\nLEAST=-1\nPASSWORD=hunter1");
    assert_int_equal(
        change_to(file, "rig: transform check: condition speed >= ${env:LEAST} has another value: swapped\n"), 0);
    use("MOST=77\nLEAST=-1\nPASSWORD=hunter2\nTOPIC=y");
    assert_int_equal(change_to(file, "rig: pipeline: max_in_flight ${env:MOST} has another value: at once\n"
                                     "rig: sink far: topic ${env:TOPIC:-x} has another value, password (a secret) has "
                                     "another value: reopened\n"),
                     0);
    assert_int_equal(rig.pipeline->options.max_in_flight, 77);
    assert_int_equal(change_to(file, ""), 0);
    use("MOST=77\nLEAST=x y\nPASSWORD=hunter2\nTOPIC=y");
    write_file(file);
    assert_null(plan_make(rig.pipeline));
    assert_said("condition");
    use("MOST=77\nLEAST=-1\nPASSWORD=hunter2\nTOPIC=y");
    assert_int_equal(change_to(NAMED SOURCE VERIFY, NULL), 0);
    finish();
    environment_use(NULL);
    assert_null(strstr(rig.log, "hunter"));
}

/* A key that is a secret's for the plugin that goes alone, and says so neither to the one that comes nor by its name. */
static void a_secret_of_a_plugin_that_goes_is_none_the_less_one(void **state)
{
    (void)state;
    start(NAMED SOURCE VERIFY "[sink out]\nplugin = secretive\npin = hunter2\n");
    assert_int_equal(change_to(NAMED SOURCE VERIFY "[sink out]\nplugin = null_sink\n",
                               "rig: sink out: plugin secretive -> null_sink, pin (a secret) -> (not set): reopened\n"),
                     0);
    finish();
    assert_null(strstr(rig.log, "hunter"));
}

static void await_let_go(void)
{
    bool is_let_go = false;

    while (!is_let_go) {
        usleep(1000);
        lane_take(rig.pipeline);
        is_let_go = rig.pipeline->stands_still && rig.pipeline->source->is_closing;
        lane_give(rig.pipeline);
    }
}

#define OUSTED(after) "[sink out]\nplugin = superseded\nafter = " after "\n"

/* Until a reload changes the stage that lost its place; whether it changes the source, too, or something else before. */
static void what_stands_still_goes_on_with_another_in_its_place(void **state)
{
    (void)state;
    start(NAMED SLOW OUSTED("1000"));
    await_let_go();
    assert_said("another process has taken its place");
    assert_said("the pipeline stands still, and lets go of its source");
    assert_int_equal(change_to(NAMED SLOW CHECK OUSTED("1000"), "rig: transform check: comes\n"), 0);
    await_let_go();
    assert_int_equal(change_to(NAMED SLOW CHECK OUSTED("9000"), "rig: source: it was let go: reopened\n"
                                                                "rig: sink out: after 1000 -> 9000: reopened\n"),
                     0);
    await_more(100);
    await_let_go();
    assert_int_equal(change_to(NAMED SOURCE CHECK OUSTED("1000000000"), NULL), 0);
    await_more(10000);
    finish();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(what_stands_still_goes_on_with_another_in_its_place),
        CASE(nothing_changes),
        CASE(each_kind_of_change_is_planned_and_done),
        CASE(an_order_of_transforms_is_a_change),
        CASE(a_sink_that_is_renamed_has_what_waits_for_the_old_one),
        CASE(what_a_full_disk_does_not_take_goes_to_another),
        CASE(dead_letters_come_and_go_while_they_are_written),
        CASE(what_is_about_to_end_is_not_changed),
        CASE(nothing_is_lost_or_overtaken),
        CASE(a_bad_file_changes_nothing),
        CASE(what_does_not_open_leaves_all_as_it_was),
        CASE(what_did_not_open_is_tried_again),
        CASE(its_name_changes),
        CASE(names_stay_apart),
        CASE(its_vehicles_stay_known),
        CASE(its_vehicles_are_others),
        CASE(its_time_changes),
        CASE(its_source_is_told_whether_sinks_are_durable),
        CASE(a_sink_that_does_not_open_is_not_told),
        CASE(its_source_is_told_whether_sinks_ask_who_records_are),
        CASE(a_source_that_comes_is_told_at_once),
        CASE(another_environment_is_another_file),
        CASE(a_secret_of_a_plugin_that_goes_is_none_the_less_one),
    };
    const char *path = getenv("FMSPIPE_PLUGIN_PATH");
    char paths[4096];

    snprintf(paths, sizeof paths, "%s:" TEST_PLUGINS, path != NULL ? path : TEST_PLUGINS);
    loader_search(paths);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
