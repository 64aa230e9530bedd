/* test_identity.c - who records are, from the source to the sinks: of themselves, their children and their dead letters, and what sinks
 * are told at the end of those that they have not got whole.
 *
 * Each sink writes down what it gets: "7" is record 7, "7.2" its second part, "7.dead" a dead letter of it, "7!" its end, and "-" a record
 * without an identity; "7.beside" is record 7 itself, of which something was made, too. */
#include "assemble.h"
#include "change.h"
#include "clock.h"
#include "host.h"
#include "lane.h"
#include "settle.h"
#include "snapshot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "tap.h"

#define PATIENCE 60 /* seconds until a test that hangs is killed */
#define MOST     1000u

/* Begins every instance. */
struct instance {
    const struct fms_host *host;
    char got[8192];
    const struct fms_record *held[MOST];
    size_t held_count;
};

static struct {
    struct pipeline pipeline;
    struct stage *stages[20];
    size_t count;
    pthread_t lane;
    char log[1 << 14];
    uint64_t total, next;     /* of the source; the number of its next */
    bool numbers_nothing;     /* it gives no identities */
    bool is_to_go_on;         /* it ends only when it is told to */
    bool emits_one;           /* in each poll */
    enum fms_fate told[MOST]; /* by number */
    _Atomic uint64_t told_of; /* how many */
    bool knew_ends;           /* of what it was told of */
    const char *acts;         /* what the first transform does with each record */
    bool is_deep;             /* the second makes two of each child of the first */
    bool keeps;               /* the second keeps children until it is flushed */
    bool is_rejecting_ends;   /* the first sink is */
    size_t retries;           /* that it still asks for */
    bool retries_ends_alone;
    uint64_t rejects; /* the number that the first sink rejects, plus 1 */
    char origin[FMS_ORIGIN_MOST];
    size_t origin_size;
} rig;

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n = strlen(rig.log);

    (void)user;
    (void)pipeline;
    snprintf(rig.log + n, sizeof rig.log - n, "%d %s: %s\n", (int)level, stage != NULL ? stage : "", text);
}

/* -------------------------------------------------------------------------------------------------------- the source */

static struct fms_identity identity_of(uint64_t number)
{
    struct fms_identity identity = {.kind = FMS_NUMBERED, .sequence = 1000 + number, .skipped = number % 3};

    identity.origin = fms_bytes_of(rig.origin, rig.origin_size);
    return identity;
}

static char act_of(uint64_t number)
{
    return rig.acts != NULL && number < strlen(rig.acts) ? rig.acts[number] : 'p';
}

static int emit_all(void *user, size_t credit, struct fms_wait *wait)
{
    struct instance *self = user;
    char text[32];
    int error = 0;

    credit = rig.emits_one && credit > 1 ? 1 : credit;
    wait->deadline = rig.emits_one ? 0 : FMS_NEVER;
    for (; credit > 0 && rig.next < rig.total && error == 0; credit--) {
        struct fms_identity identity = identity_of(rig.next);
        struct fms_record draft = {.key = fms_text("k"), .tag = {rig.next}};

        snprintf(text, sizeof text, "%llu", (unsigned long long)rig.next);
        draft.payload = fms_text(text);
        draft.identity = rig.numbers_nothing ? NULL : &identity;
        error = act_of(rig.next) == 's' ? fms_emit_rejected(self->host, &draft, "by its source")
                                        : fms_emit(self->host, &draft);
        memset(&identity, 0xee, sizeof identity); /* it was copied */
        rig.next += error == 0;
    }
    return rig.next == rig.total && !rig.is_to_go_on ? FMS_END : 0;
}

static void settled(void *user, const struct fms_record *record, enum fms_fate fate)
{
    (void)user;
    assert_int_equal(rig.told[record->tag[0]], 0);
    rig.told[record->tag[0]] = fate;
    rig.told_of++;
    rig.knew_ends = rig.knew_ends || (record->identity != NULL && record->identity->is_end);
}

/* ------------------------------------------------------------------------------------------------------- transforms */

static int child(struct instance *self, const struct fms_record *record)
{
    struct fms_identity lie = {.kind = FMS_RESENT, .origin = {"lie", 3}, .sequence = 1, .part = 77, .is_end = true};
    struct fms_record draft = *record;

    draft.identity = &lie;
    return fms_emit_child(self->host, record, &draft);
}

/* d drops, c makes two of it, C makes one beside it, r rejects, o makes one and rejects. */
static enum fms_verdict act(void *user, const struct fms_record *record)
{
    struct instance *self = user;
    char what = act_of(record->tag[0]);

    if (what == 'c' || what == 'C' || what == 'o')
        assert_int_equal(child(self, record), 0);
    if (what == 'c')
        assert_int_equal(child(self, record), 0);
    if (what == 'r' || what == 'o')
        return fms_reject(self->host, record, "by a transform");
    return what == 'd' || what == 'c' ? FMS_DROP : FMS_PASS;
}

static bool is_child(const struct fms_record *record)
{
    return record_of(record)->parent != NULL;
}

/* Makes more of what was made, or keeps it until nothing more comes; and so of what is to be dropped then. */
static enum fms_verdict act_on_children(void *user, const struct fms_record *record)
{
    struct instance *self = user;

    if (act_of(record->tag[0]) == 'k') {
        self->held[self->held_count++] = record;
        return FMS_KEPT;
    }
    if (!is_child(record) || record_of(record)->parent->parent != NULL || (!rig.is_deep && !rig.keeps))
        return FMS_PASS;
    if (rig.keeps) {
        self->held[self->held_count++] = record;
        return FMS_KEPT;
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(child(self, record), 0);
    return FMS_DROP;
}

static void pass_kept(void *user)
{
    struct instance *self = user;

    for (size_t i = 0; i < self->held_count; i++) {
        if (act_of(self->held[i]->tag[0]) == 'k')
            fms_delivered(self->host, self->held[i]);
        else
            fms_pass(self->host, self->held[i]);
    }
    self->held_count = 0;
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static void write_down(struct instance *self, const struct fms_record *record)
{
    const struct fms_identity *identity = record->identity;
    size_t n = strlen(self->got);
    uint64_t number = record->tag[0];
    struct fms_identity expected = identity_of(number);

    if (identity == NULL) {
        snprintf(self->got + n, sizeof self->got - n, "-");
        return;
    }
    assert_int_equal(identity->kind, FMS_NUMBERED);
    assert_int_equal(identity->origin.size, expected.origin.size);
    assert_memory_equal(identity->origin.data, expected.origin.data, expected.origin.size);
    assert_int_equal(((const char *)identity->origin.data)[identity->origin.size], '\0');
    assert_int_equal(identity->sequence, expected.sequence);
    assert_int_equal(identity->skipped, expected.skipped);
    n += (size_t)snprintf(self->got + n, sizeof self->got - n, "%s%llu", n > 0 ? " " : "", (unsigned long long)number);
    assert_true(identity->part == 0 || !identity->is_end);
    if (identity->is_end)
        snprintf(self->got + n, sizeof self->got - n, "!");
    else if (identity->part >= FMS_PART_LETTER)
        snprintf(self->got + n, sizeof self->got - n, ".dead");
    else if (identity->part == RECORD_BESIDE)
        snprintf(self->got + n, sizeof self->got - n, ".beside");
    else if (identity->part > 0)
        snprintf(self->got + n, sizeof self->got - n, ".%u", (unsigned)identity->part);
}

static bool is_end(const struct fms_record *record)
{
    return record->identity != NULL && record->identity->is_end;
}

static void settle(struct instance *self, const struct fms_record *record)
{
    bool is_first = self == rig.pipeline.sinks[0]->instance;

    if (is_first && rig.retries > 0 && (!rig.retries_ends_alone || is_end(record))) {
        rig.retries--;
        fms_retry(self->host, record, "not now");
        return;
    }
    write_down(self, record);
    if (is_first &&
        ((rig.is_rejecting_ends && is_end(record)) || (!is_end(record) && rig.rejects == record->tag[0] + 1)))
        fms_reject(self->host, record, "by a sink");
    else
        fms_delivered(self->host, record);
}

static int write_at_once(void *user, const struct fms_record *const *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        settle(user, records[i]);
    return (int)count;
}

static int hold(void *user, const struct fms_record *const *records, size_t count)
{
    struct instance *self = user;

    for (size_t i = 0; i < count; i++)
        self->held[self->held_count++] = records[i];
    return (int)count;
}

/* What has a payload it finds too large. */
static int refuse(void *user, const struct fms_record *const *records, size_t count)
{
    struct instance *self = user;

    for (size_t i = 0; i < count; i++) {
        write_down(self, records[i]);
        if (records[i]->payload.data != NULL)
            fms_reject(self->host, records[i], "too large");
        else
            fms_delivered(self->host, records[i]);
    }
    return (int)count;
}

/* What it is offered first, and then it has enough. */
static int finish_it(void *user, const struct fms_record *const *records, size_t count)
{
    fms_finish(((struct instance *)user)->host);
    return write_at_once(user, records, count);
}

/* Nothing, as a far end that is gone. */
static int take_nothing(void *user, const struct fms_record *const *records, size_t count)
{
    (void)user;
    (void)records;
    (void)count;
    return 0;
}

static int ask(void *user, const struct fms_host *host)
{
    (void)user;
    fms_identify(host, false);
    return 0;
}

static int ask_for_ends(void *user, const struct fms_host *host)
{
    (void)user;
    fms_identify(host, true);
    fms_identify(host, false); /* it has asked already */
    return 0;
}

#define TABLE .instance_size = sizeof(struct instance), .record_size = sizeof(struct fms_record), .name = "p"
static const struct plugin source = {.table = {TABLE, .source_poll = emit_all, .source_settled = settled}},
                           acting = {.table = {TABLE, .transform = act}},
                           further = {.table = {TABLE, .transform = act_on_children, .transform_flush = pass_kept}},
                           plain = {.table = {TABLE, .sink_write = write_at_once}},
                           asking = {.table = {TABLE, .check = ask, .sink_write = write_at_once}},
                           ending = {.table = {TABLE, .check = ask_for_ends, .sink_write = write_at_once}},
                           holding = {.table = {TABLE, .check = ask_for_ends, .sink_write = hold}},
                           refusing = {.table = {TABLE, .check = ask, .sink_write = refuse}},
                           finishing = {.table = {TABLE, .check = ask_for_ends, .sink_write = finish_it}},
                           absent = {.table = {TABLE, .check = ask_for_ends, .sink_write = take_nothing}};

/* ---------------------------------------------------------------------------------------------------------- the rig */

static struct config_section section;
static struct config config = {.path = (char *)(uintptr_t) "rig.ini"};

static struct stage *make(enum fms_role role, const char *name, const struct plugin *plugin)
{
    struct stage *stage = calloc(1, sizeof *stage);
    struct instance *instance = calloc(1, sizeof *instance);

    assert_true(stage != NULL && instance != NULL && rig.count < sizeof rig.stages / sizeof *rig.stages);
    *stage = (struct stage){.pipeline = &rig.pipeline,
                            .plugin = plugin,
                            .config = &config,
                            .section = &section,
                            .name = (char *)(uintptr_t)name,
                            .instance = instance,
                            .index = rig.count,
                            .wait = {-1, 0, FMS_NEVER}};
    measures_init(&stage->measures, &plugin->table);
    host_fill(stage, role);
    instance->host = &stage->host;
    if (plugin->table.check != NULL)
        assert_int_equal(plugin->table.check(instance, &stage->host), 0);
    stage->is_checked = true;
    assert_int_equal(stage_open(stage), 0);
    return rig.stages[rig.count++] = stage;
}

static void add(enum fms_role role, const char *name, const struct plugin *plugin)
{
    pipeline_add(&rig.pipeline, make(role, name, plugin), role);
    pipeline_layout(&rig.pipeline);
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.pipeline.options = (struct pipeline_options){.name = "rig",
                                                     .max_in_flight = 500,
                                                     .max_in_flight_bytes = 1 << 20,
                                                     .on_reject = ON_REJECT_STOP,
                                                     .drain_timeout = 60 * FMS_SECOND,
                                                     .retry_min = FMS_MS,
                                                     .retry_max = FMS_MS,
                                                     .stall_after = 60 * FMS_SECOND};
    rig.pipeline.paths = json_paths_new();
    rig.pipeline.config = &config;
    memcpy(rig.origin, "a\0b", 3);
    rig.origin_size = 3;
    log_redirect(note, NULL);
    alarm(PATIENCE);
    return pipeline_init(&rig.pipeline);
}

static int teardown(void **state)
{
    (void)state;
    settle_abandon(&rig.pipeline);
    assert_int_equal(rig.pipeline.in_flight, 0);
    assert_int_equal(rig.pipeline.records.bytes, 0);
    pipeline_destroy(&rig.pipeline);
    json_paths_free(rig.pipeline.paths);
    for (size_t i = 0; i < rig.count; i++) {
        measures_free(&rig.stages[i]->measures);
        free(rig.stages[i]->instance);
        free(rig.stages[i]);
    }
    log_redirect(NULL, NULL);
    return 0;
}

/* A source of so many, two transforms, up to two sinks. */
static void build(const char *acts, const struct plugin *first, const struct plugin *second)
{
    rig.acts = acts;
    rig.total = strlen(acts);
    add(FMS_SOURCE, "source", &source);
    add(FMS_TRANSFORM, "transform act", &acting);
    add(FMS_TRANSFORM, "transform further", &further);
    add(FMS_SINK, "sink first", first);
    if (second != NULL)
        add(FMS_SINK, "sink second", second);
    pipeline_measure(&rig.pipeline);
    assert_int_equal(snapshot_init(&rig.pipeline), 0);
}

static void run_all(void)
{
    lane_run(&rig.pipeline);
    assert_int_equal(rig.pipeline.left, 0);
    assert_int_equal(rig.told_of, rig.total);
}

static struct instance *sink(size_t i)
{
    return rig.pipeline.sinks[i]->instance;
}

static void assert_got(size_t i, const char *what)
{
    assert_string_equal(sink(i)->got, what);
}

static uint64_t sum_of(const struct histogram_view *histogram)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum += histogram->counts[i];
    return sum;
}

/* What each has passed on is what the next has received, and none of it is an end. */
static void assert_counts(size_t i, uint64_t in, uint64_t out)
{
    const struct stage_view *its = &rig.pipeline.shown.latest.stages[3 + i];

    snapshot_take(&rig.pipeline);
    assert_int_equal(its->records_in, in);
    assert_int_equal(its->records_out, out);
    assert_int_equal(its->held, 0);
    assert_int_equal(sum_of(&its->far_end), out);
    assert_int_equal(sum_of(&its->queue), in);
}

/* ------------------------------------------------------------------------------------------------------------ whole */

static void who_does_not_ask_is_told_nothing(void **state)
{
    (void)state;
    build("pdcCp", &plain, NULL);
    run_all();
    assert_got(0, "------");
    assert_false(rig.knew_ends);
}

static void who_asks_is_told_who_each_is(void **state)
{
    (void)state;
    build("pdcp", &asking, NULL);
    run_all();
    assert_got(0, "0 2.1 2.2 3");
    assert_false(rig.knew_ends);
}

static void a_source_that_numbers_nothing_has_no_ends(void **state)
{
    (void)state;
    rig.numbers_nothing = true;
    build("pdcp", &ending, NULL);
    run_all();
    assert_got(0, "----");
}

static void an_origin_may_be_as_long_as_is_allowed(void **state)
{
    (void)state;
    rig.origin_size = sizeof rig.origin;
    build("pdcp", &ending, NULL);
    run_all();
    assert_got(0, "0 2.1 2.2 3 1! 2!");
}

/* ------------------------------------------------------------------------------------------------------- their ends */

static void what_is_dropped_or_divided_ends(void **state)
{
    (void)state;
    build("pdcp", &ending, NULL);
    run_all();
    assert_got(0, "0 2.1 2.2 3 1! 2!");
    assert_counts(0, 4, 4);
    assert_true(rig.knew_ends);
    assert_int_equal(rig.pipeline.counts.delivered, 4);
}

static void what_goes_on_beside_its_child_is_not_the_whole(void **state)
{
    (void)state;
    build("C", &ending, NULL);
    run_all();
    assert_got(0, "0.1 0.beside 0!");
}

static void parts_are_counted_at_any_depth(void **state)
{
    (void)state;
    rig.is_deep = true;
    build("cC", &ending, NULL);
    run_all();
    assert_got(0, "0.2 0.3 0.5 0.6 1.2 1.3 1.beside 0! 1!");
}

static void the_end_comes_behind_what_was_kept(void **state)
{
    (void)state;
    rig.keeps = true;
    build("cdp", &ending, NULL);
    run_all();
    assert_got(0, "2 1! 0.1 0.2 0!");
}

static void only_who_asks_for_ends_gets_them(void **state)
{
    (void)state;
    build("dcp", &ending, &plain);
    run_all();
    assert_got(0, "1.1 1.2 2 0! 1!");
    assert_got(1, "1.1 1.2 2");
    assert_counts(0, 3, 3);
    assert_counts(1, 3, 3);
}

static size_t count_tapped(struct tap *tap)
{
    struct tapped record;
    size_t n = 0;

    while (tap_read(tap, &record) == 1)
        n++;
    tap_close(tap);
    return n;
}

static void no_end_passes_a_tap(void **state)
{
    struct tap *taken, *delivered;

    (void)state;
    build("pdcp", &ending, NULL);
    assert_int_equal(tap_open(&rig.pipeline, &(struct tap_wish){.stage = "first", .point = TAP_IN}, &taken), 0);
    assert_int_equal(tap_open(&rig.pipeline, &(struct tap_wish){.stage = "first", .point = TAP_OUT}, &delivered), 0);
    run_all();
    assert_got(0, "0 2.1 2.2 3 1! 2!");
    assert_int_equal(count_tapped(taken), 4);
    assert_int_equal(count_tapped(delivered), 4);
}

/* -------------------------------------------------------------------------------------------------------- rejections */

static void a_dead_letter_says_whose_it_is(void **state)
{
    (void)state;
    build("prso", &ending, NULL);
    add(FMS_DEAD_LETTER, "dead_letter", &ending);
    run_all();
    assert_got(0, "0 3.1 1! 2! 3!");
    assert_got(1, "1.dead 2.dead 3.dead 1! 2! 3!");
}

/* The sink that did not reject it has the whole of it, and is told the end all the same. */
static void what_a_sink_rejects_ends(void **state)
{
    (void)state;
    rig.rejects = 1;
    build("pp", &ending, &ending);
    add(FMS_DEAD_LETTER, "dead_letter", &plain);
    run_all();
    assert_got(0, "0 1 0!");
    assert_got(1, "0 1 0!");
    assert_got(2, "0.dead");
    assert_int_equal(rig.told[0], FMS_DELIVERED);
}

/* And what goes again bare is the same letter. */
static void a_dead_letter_that_is_refused_stays_who_it_is(void **state)
{
    (void)state;
    build("r", &plain, NULL);
    add(FMS_DEAD_LETTER, "dead_letter", &refusing);
    run_all();
    assert_got(1, "0.dead 0.dead");
}

static void what_is_rejected_and_dropped_ends(void **state)
{
    (void)state;
    rig.pipeline.options.on_reject = ON_REJECT_DROP;
    rig.rejects = 2;
    build("rps", &ending, NULL);
    run_all();
    assert_got(0, "1 0! 2! 1!");
    assert_int_equal(rig.told[0], FMS_REJECTED);
    assert_int_equal(rig.told[1], FMS_REJECTED);
    assert_int_equal(rig.told[2], FMS_REJECTED);
}

/* It comes again, whole: so it has not ended. */
static void what_stops_the_pipeline_does_not_end(void **state)
{
    (void)state;
    build("pr", &ending, NULL);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_got(0, "0");
    assert_int_equal(rig.told_of, 1);
}

/* ------------------------------------------------------------------------------------------- what sinks do with ends */

static void an_end_is_offered_again(void **state)
{
    (void)state;
    rig.retries = 3;
    rig.retries_ends_alone = true;
    build("dp", &ending, NULL);
    run_all();
    assert_got(0, "1 0!");
    assert_counts(0, 1, 1);
    assert_int_equal(rig.pipeline.counts.retried, 0);
    assert_non_null(strstr(rig.log, "will be offered again: not now"));
    assert_non_null(strstr(rig.log, "delivers again"));
    assert_null(strstr(rig.log, "breaks a rule"));
}

/* It has no key that others must not overtake: here it stands before record 1, which is delivered while it is not. */
static void what_is_offered_again_may_be_overtaken_where_it_is_an_end(void **state)
{
    (void)state;
    rig.emits_one = true;
    rig.retries = 3;
    rig.retries_ends_alone = true;
    build("dpp", &ending, NULL);
    run_all();
    assert_got(0, "1 2 0!");
    assert_null(strstr(rig.log, "breaks a rule"));
}

static void records_and_ends_are_offered_again_in_order(void **state)
{
    (void)state;
    rig.retries = 6;
    build("dpdcp", &ending, NULL);
    run_all();
    assert_got(0, "1 3.1 3.2 4 0! 2! 3!");
    assert_counts(0, 4, 4);
}

static void an_end_cannot_be_rejected(void **state)
{
    (void)state;
    rig.is_rejecting_ends = true;
    build("d", &ending, NULL);
    add(FMS_DEAD_LETTER, "dead_letter", &plain);
    lane_run(&rig.pipeline);
    assert_true(rig.pipeline.has_failed);
    assert_non_null(
        strstr(rig.log, "rejected the end of a record, of which there is nothing to be written: by a sink"));
    assert_got(1, "");
    assert_int_equal(rig.told_of, 1);
}

/* It settles nothing more, and would hold the others up. */
static void who_has_finished_is_told_no_end(void **state)
{
    (void)state;
    rig.is_to_go_on = true;
    build("pk", &ending, &finishing);
    run_all();
    assert_got(0, "0 1!");
    assert_got(1, "0");
}

/* ---------------------------------------------------------------------------------------------------- while it runs */

static void *run(void *user)
{
    lane_run(user);
    return NULL;
}

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {ms / 1000, (long)(ms % 1000 * 1000000)};

    nanosleep(&pause, NULL);
}

/* Until all is emitted and waits for the sinks. */
static void start(void)
{
    bool is_idle = false;

    rig.is_to_go_on = true;
    assert_int_equal(pthread_create(&rig.lane, NULL, run, &rig.pipeline), 0);
    while (!is_idle) {
        sleep_ms(1);
        lane_take(&rig.pipeline);
        is_idle = rig.next == rig.total && !rig.pipeline.has_settled && rig.pipeline.done.head == NULL;
        lane_give(&rig.pipeline);
    }
}

static void finish(void)
{
    while (rig.told_of < rig.total)
        sleep_ms(1);
    pipeline_stop(&rig.pipeline);
    pthread_join(rig.lane, NULL);
    assert_false(rig.pipeline.must_fail);
    assert_int_equal(rig.pipeline.left, 0);
}

static void change_first(const struct plugin *plugin)
{
    struct stage *old = rig.pipeline.sinks[0];

    assert_int_equal(change_sink(&rig.pipeline, old, make(FMS_SINK, old->name, plugin), NULL, clock_now()), 0);
}

static void another_sink_has_the_ends_that_wait(void **state)
{
    (void)state;
    build("ddpcd", &absent, NULL);
    start();
    change_first(&ending);
    finish();
    assert_got(0, "2 3.1 3.2 0! 1! 4! 3!");
    assert_counts(0, 3, 3);
}

static void a_sink_that_asks_for_none_writes_no_end(void **state)
{
    (void)state;
    build("ddpcd", &absent, NULL);
    start();
    change_first(&plain);
    finish();
    assert_got(0, "2 3.1 3.2");
    assert_counts(0, 3, 3);
    assert_false(rig.pipeline.tells_ends);
}

/* Who comes to ask later is told who those are that come then. */
static void a_sink_that_asks_comes_later(void **state)
{
    (void)state;
    build("pc", &holding, NULL);
    rig.pipeline.sinks[0]->asks_who = rig.pipeline.sinks[0]->asks_ends = false;
    start();
    change_first(&ending);
    lane_take(&rig.pipeline);
    rig.total = 4;
    rig.acts = "pcdp";
    pipeline_wake(&rig.pipeline);
    rig.pipeline.source->is_woken = true;
    lane_give(&rig.pipeline);
    finish();
    assert_got(0, "--- 3 2!");
}

/* It was made before the sink came, and has no place for it. */
static void who_joins_is_told_no_end_of_what_it_missed(void **state)
{
    struct stage *joining;

    (void)state;
    build("dcp", &absent, NULL);
    start();
    joining = make(FMS_SINK, "sink second", &ending);
    assert_int_equal(change_layout(&rig.pipeline, &joining, 1, clock_now() + FMS_SECOND), 0);
    change_first(&ending);
    finish();
    assert_got(0, "1.1 1.2 2 0! 1!");
    assert_got(1, "");
}

static void who_leaves_holds_no_end_up(void **state)
{
    struct stage *leaving;

    (void)state;
    build("dcp", &absent, &ending);
    start();
    leaving = rig.pipeline.sinks[0];
    assert_int_equal(change_remove_sink(&rig.pipeline, leaving, clock_now()), 3);
    finish();
    assert_got(0, "1.1 1.2 2 0! 1!");
}

/* What waits is freed, whatever it is. */
static void ends_that_nobody_takes_are_left(void **state)
{
    (void)state;
    rig.pipeline.options.drain_timeout = FMS_MS;
    build("dcpdr", &absent, &holding);
    add(FMS_DEAD_LETTER, "dead_letter", &absent);
    start();
    pipeline_stop(&rig.pipeline);
    pthread_join(rig.lane, NULL);
    assert_int_equal(rig.pipeline.left, 5);
    assert_int_equal(rig.told_of, 0);
}

/* ------------------------------------------------------------------------------------------------------ old plugins */

/* Behind their drafts is something else. */
static const struct fms_identity *const no_identity = (const struct fms_identity *)1;

static int emit_old(void *user, size_t credit, struct fms_wait *wait)
{
    struct instance *self = user;
    struct fms_record draft = {.key = fms_text("k"), .payload = fms_text("x"), .identity = no_identity};

    (void)wait;
    for (; credit > 0 && rig.next < rig.total; credit--) {
        draft.tag[0] = rig.next;
        assert_int_equal(rig.next++ == 0 ? fms_emit(self->host, &draft)
                                         : fms_emit_rejected(self->host, &draft, "by its source, of %d", 1),
                         0);
    }
    return rig.next == rig.total ? FMS_END : 0;
}

static enum fms_verdict divide_old(void *user, const struct fms_record *record)
{
    struct instance *self = user;
    struct fms_record draft = *record;

    draft.identity = no_identity;
    assert_int_equal(fms_emit_child(self->host, record, &draft), 0);
    return FMS_DROP;
}

#define OLD .instance_size = sizeof(struct instance), .name = "old"
static const struct plugin old_source = {.table = {OLD, .source_poll = emit_old, .source_settled = settled}},
                           old_transform = {.table = {OLD, .transform = divide_old}};

static void an_old_source_has_none(void **state)
{
    (void)state;
    rig.total = 2;
    add(FMS_SOURCE, "source", &old_source);
    add(FMS_SINK, "sink first", &ending);
    add(FMS_DEAD_LETTER, "dead_letter", &ending);
    run_all();
    assert_got(0, "-");
    assert_got(1, "-");
    assert_null(strstr(rig.log, "breaks a rule"));
    assert_non_null(strstr(rig.log, "record goes to dead letters: by its source, of 1"));
}

static void an_old_transform_s_children_are_known(void **state)
{
    (void)state;
    rig.total = 1;
    add(FMS_SOURCE, "source", &source);
    add(FMS_TRANSFORM, "transform old", &old_transform);
    add(FMS_SINK, "sink first", &ending);
    run_all();
    assert_got(0, "0.1 0!");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(who_does_not_ask_is_told_nothing),
        CASE(who_asks_is_told_who_each_is),
        CASE(a_source_that_numbers_nothing_has_no_ends),
        CASE(an_origin_may_be_as_long_as_is_allowed),
        CASE(what_is_dropped_or_divided_ends),
        CASE(what_goes_on_beside_its_child_is_not_the_whole),
        CASE(parts_are_counted_at_any_depth),
        CASE(the_end_comes_behind_what_was_kept),
        CASE(only_who_asks_for_ends_gets_them),
        CASE(no_end_passes_a_tap),
        CASE(a_dead_letter_says_whose_it_is),
        CASE(what_a_sink_rejects_ends),
        CASE(a_dead_letter_that_is_refused_stays_who_it_is),
        CASE(what_is_rejected_and_dropped_ends),
        CASE(what_stops_the_pipeline_does_not_end),
        CASE(an_end_is_offered_again),
        CASE(what_is_offered_again_may_be_overtaken_where_it_is_an_end),
        CASE(records_and_ends_are_offered_again_in_order),
        CASE(an_end_cannot_be_rejected),
        CASE(who_has_finished_is_told_no_end),
        CASE(another_sink_has_the_ends_that_wait),
        CASE(a_sink_that_asks_for_none_writes_no_end),
        CASE(a_sink_that_asks_comes_later),
        CASE(who_joins_is_told_no_end_of_what_it_missed),
        CASE(who_leaves_holds_no_end_up),
        CASE(ends_that_nobody_takes_are_left),
        CASE(an_old_source_has_none),
        CASE(an_old_transform_s_children_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
