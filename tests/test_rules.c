/* test_rules.c - one table of broken plugins, each run in a pipeline and under the fake host: both must name it.
 *
 * Each row is a plugin with one bad habit. In the pipeline the other stages are good ones, and the source goes on until
 * the habit was told of, or for too long; the fake host is driven as a test of that plugin would drive it. */
#include "host.h"
#include "lane.h"
#include "settle.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "fms_test.h"
#include "log.h"

#undef fail /* cmocka's, which would hide the host's */

#define PATIENCE 120 /* seconds until a test that hangs is killed */
#define RECORDS  10

struct row {
    const char *name;
    enum fms_role role;
    struct fms_plugin table;
    const char *in_pipeline, *in_fake; /* what is said of it */
};

static const struct row *row; /* the one that is run */
static atomic_bool was_told;  /* of it, in the pipeline */
static bool is_fake;          /* which of the two hosts it runs under */
static int64_t begun;         /* when the call that holds the lane began */
static char said[1 << 15];    /* all that was logged, or what the fake host failed the test with */
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

/* An instance of any of the plugins; the host first. */
struct habit {
    const struct fms_host *host;
    const struct fms_record *kept[256];
    size_t count, polls;
    int path;
};

static int habit_open(void *instance, const struct fms_host *host)
{
    struct habit *self = instance;

    self->host = host;
    self->path = fms_json_path(host, "a");
    return 0;
}

static char payload[200];
static const struct fms_record draft = {
    .topic = {"t", 1}, .key = {"k", 1}, .payload = {payload, sizeof payload}, .tag = {1}};

static void on_a_thread(void *(*run)(void *), void *instance)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, instance), 0);
    pthread_join(thread, NULL);
}

static void hold_the_lane(void)
{
    int64_t until = fake_realclock() + (is_fake ? 20 * FMS_MS : FAKE_PATIENCE);

    while (!was_told && fake_realclock() < until)
        usleep(1000);
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static int deliver_all(struct habit *self, const struct fms_record *const *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

static int good_write(void *instance, const struct fms_record *const *records, size_t count)
{
    return deliver_all(instance, records, count);
}

static int write_and_forget(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance;
    (void)records;
    return (int)count;
}

static int write_and_settle_twice(void *instance, const struct fms_record *const *records, size_t count)
{
    struct habit *self = instance;

    deliver_all(self, records, count);
    fms_delivered(self->host, records[0]);
    return (int)count;
}

static int write_and_settle_untaken(void *instance, const struct fms_record *const *records, size_t count)
{
    deliver_all(instance, records, count);
    return (int)count - 1;
}

static int write_and_settle_a_draft(void *instance, const struct fms_record *const *records, size_t count)
{
    struct habit *self = instance;
    struct fms_record copy = *records[0];

    fms_delivered(self->host, &copy);
    return deliver_all(self, records, count);
}

static void *retry_kept(void *instance)
{
    struct habit *self = instance;

    fms_retry(self->host, self->kept[0], "elsewhere");
    return NULL;
}

static int write_and_retry_elsewhere(void *instance, const struct fms_record *const *records, size_t count)
{
    struct habit *self = instance;

    if (self->count++ > 0)
        return deliver_all(self, records, count);
    self->kept[0] = records[0];
    on_a_thread(retry_kept, self);
    return 1;
}

static int write_and_overtake(void *instance, const struct fms_record *const *records, size_t count)
{
    struct habit *self = instance;

    if (self->count++ > 0 || count < 2)
        return deliver_all(self, records, count);
    fms_retry(self->host, records[0], "not yet");
    fms_delivered(self->host, records[1]);
    return 2;
}

static int write_and_emit(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_emit(((struct habit *)instance)->host, &draft);
    return deliver_all(instance, records, count);
}

static int write_and_emit_rejected(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_emit_rejected(((struct habit *)instance)->host, &draft, "odd");
    return deliver_all(instance, records, count);
}

static int write_and_pass(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_pass(((struct habit *)instance)->host, records[0]);
    return deliver_all(instance, records, count);
}

static int write_and_make_a_child(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_emit_child(((struct habit *)instance)->host, records[0], &draft);
    return deliver_all(instance, records, count);
}

static int write_and_drain(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_drain(((struct habit *)instance)->host, 0);
    return deliver_all(instance, records, count);
}

static int write_and_count(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_count(((struct habit *)instance)->host, 3, 1);
    return deliver_all(instance, records, count);
}

static int write_and_set_a_gauge(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_gauge(((struct habit *)instance)->host, 1, 1.0);
    return deliver_all(instance, records, count);
}

static int write_and_observe(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_observe(((struct habit *)instance)->host, 2, FMS_MS);
    return deliver_all(instance, records, count);
}

static int write_and_tell_of_a_link(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_link_up(((struct habit *)instance)->host);
    return deliver_all(instance, records, count);
}

static int write_and_renew(void *instance, const struct fms_record *const *records, size_t count)
{
    assert_int_equal(fms_renew(((struct habit *)instance)->host, "pasword"), -EINVAL);
    return deliver_all(instance, records, count);
}

static int write_and_name_a_path(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_json_path(((struct habit *)instance)->host, "late");
    return deliver_all(instance, records, count);
}

static int write_and_identify(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_identify(((struct habit *)instance)->host, false);
    return deliver_all(instance, records, count);
}

static int write_and_guess_a_path(void *instance, const struct fms_record *const *records, size_t count)
{
    struct fms_json value;

    fms_json_get(((struct habit *)instance)->host, records[0], 7, &value);
    return deliver_all(instance, records, count);
}

static int write_and_look_later(void *instance, const struct fms_record *const *records, size_t count)
{
    struct habit *self = instance;

    self->kept[0] = records[0];
    return deliver_all(self, records, count);
}

static int poll_and_look(void *instance, struct fms_wait *wait)
{
    struct habit *self = instance;
    struct fms_json value;

    wait->deadline = fms_now(self->host) + FMS_MS;
    if (self->kept[0] != NULL && ++self->polls > 1)
        fms_json_get(self->host, self->kept[0], self->path, &value);
    return 0;
}

static int write_too_much(void *instance, const struct fms_record *const *records, size_t count)
{
    return deliver_all(instance, records, count) + 1;
}

static int write_and_hold(void *instance, const struct fms_record *const *records, size_t count)
{
    hold_the_lane();
    return deliver_all(instance, records, count);
}

static int write_and_fail_oddly(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)fms_fail(((struct habit *)instance)->host, EIO, "a positive errno");
    return deliver_all(instance, records, count);
}

static int poll_oddly(void *instance, struct fms_wait *wait)
{
    (void)instance;
    (void)wait;
    return 7;
}

static int write_and_settle_null(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_delivered(((struct habit *)instance)->host, NULL);
    return deliver_all(instance, records, count);
}

static int write_and_expand_null(void *instance, const struct fms_record *const *records, size_t count)
{
    struct fms_bytes value;

    fms_expand(((struct habit *)instance)->host, NULL, records[0], &value);
    return deliver_all(instance, records, count);
}

static int write_and_look_at_null(void *instance, const struct fms_record *const *records, size_t count)
{
    struct fms_json value;

    fms_json_get(((struct habit *)instance)->host, NULL, 0, &value);
    return deliver_all(instance, records, count);
}

static int write_and_enter(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_enter(((struct habit *)instance)->host);
    fms_leave(((struct habit *)instance)->host);
    return deliver_all(instance, records, count);
}

/* ------------------------------------------------------------------------------------------------------- transforms */

static enum fms_verdict promise_and_pass(void *instance, const struct fms_record *record)
{
    (void)record;
    fms_promise(((struct habit *)instance)->host, NULL, FMS_AT_LEAST_ONCE, "too late");
    return FMS_PASS;
}

static enum fms_verdict identify_as_a_transform(void *instance, const struct fms_record *record)
{
    (void)record;
    fms_identify(((struct habit *)instance)->host, true);
    return FMS_PASS;
}

static enum fms_verdict child_of_null(void *instance, const struct fms_record *record)
{
    fms_emit_child(((struct habit *)instance)->host, NULL, record);
    return FMS_PASS;
}

static enum fms_verdict null_child(void *instance, const struct fms_record *record)
{
    fms_emit_child(((struct habit *)instance)->host, record, NULL);
    return FMS_PASS;
}

/* There is room for each child, so it is called for ever. */
static enum fms_verdict always_again(void *instance, const struct fms_record *record)
{
    fms_emit_child(((struct habit *)instance)->host, record, &draft);
    return FMS_AGAIN;
}

static enum fms_verdict keep_for_ever(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_KEPT;
}

static enum fms_verdict again_for_nothing(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return FMS_AGAIN;
}

static enum fms_verdict drop_a_child(void *instance, const struct fms_record *record)
{
    while (fms_emit_child(((struct habit *)instance)->host, record, &draft) == 0)
        continue;
    return FMS_DROP;
}

static enum fms_verdict no_verdict(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    return (enum fms_verdict)17;
}

static enum fms_verdict settle_and_pass(void *instance, const struct fms_record *record)
{
    fms_delivered(((struct habit *)instance)->host, record);
    return FMS_PASS;
}

static enum fms_verdict pass_twice(void *instance, const struct fms_record *record)
{
    struct habit *self = instance;

    fms_pass(self->host, record);
    fms_pass(self->host, record);
    return FMS_KEPT;
}

static enum fms_verdict retry_it(void *instance, const struct fms_record *record)
{
    return fms_retry(((struct habit *)instance)->host, record, "not for transforms");
}

static enum fms_verdict hold_it(void *instance, const struct fms_record *record)
{
    (void)instance;
    (void)record;
    hold_the_lane();
    return FMS_PASS;
}

/* ---------------------------------------------------------------------------------------------------------- sources */

static int emit_too_many(void *instance, size_t credit, struct fms_wait *wait)
{
    struct habit *self = instance;

    (void)wait;
    for (size_t i = 0; i <= credit && self->polls == 0; i++)
        fms_emit(self->host, &draft);
    return self->polls++ > 0 ? FMS_END : 0;
}

static int emit_past_a_refusal(void *instance, size_t credit, struct fms_wait *wait)
{
    struct habit *self = instance;
    struct fms_record next = draft;

    (void)wait;
    for (size_t i = 0; i < credit; i++) {
        next.tag[0] = self->count++;
        fms_emit(self->host, &next);
    }
    return self->polls++ > 0 ? FMS_END : 0;
}

static int emit_one(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)wait;
    if (credit > 0)
        fms_emit(((struct habit *)instance)->host, &draft);
    return FMS_END;
}

static int emit_malformed(void *instance, size_t credit, struct fms_wait *wait)
{
    static const struct fms_header header = {NULL, {NULL, 0}};
    struct fms_record bad = draft;

    (void)credit;
    (void)wait;
    bad.headers = &header;
    bad.header_count = 1;
    fms_emit(((struct habit *)instance)->host, &bad);
    return FMS_END;
}

/* The part is the host's. */
static const struct fms_identity misnamed = {.kind = FMS_NUMBERED, .origin = {"o", 1}, .sequence = 1, .part = 1};

static int emit_misnamed(void *instance, size_t credit, struct fms_wait *wait)
{
    struct fms_record bad = draft;

    (void)credit;
    (void)wait;
    bad.identity = &misnamed;
    fms_emit(((struct habit *)instance)->host, &bad);
    return FMS_END;
}

static int emit_rejected_and_misnamed(void *instance, size_t credit, struct fms_wait *wait)
{
    struct fms_record bad = draft;

    (void)credit;
    (void)wait;
    bad.identity = &misnamed;
    fms_emit_rejected(((struct habit *)instance)->host, &bad, "odd");
    return FMS_END;
}

static void *emit_bare(void *instance)
{
    fms_emit(((struct habit *)instance)->host, &draft);
    return NULL;
}

static int emit_elsewhere(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)credit;
    (void)wait;
    on_a_thread(emit_bare, instance);
    return FMS_END;
}

static void settled_and_emit(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)record;
    (void)fate;
    fms_emit(((struct habit *)instance)->host, &draft);
}

static void settled_and_drain(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)record;
    (void)fate;
    fms_drain(((struct habit *)instance)->host, 0);
}

static void settled_and_settle(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)fate;
    fms_delivered(((struct habit *)instance)->host, record);
}

static int end_oddly(void *instance, size_t credit, struct fms_wait *wait)
{
    struct habit *self = instance;

    (void)credit;
    (void)wait;
    return self->polls++ > 0 ? FMS_END : 9;
}

static int hold_in_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    hold_the_lane();
    return FMS_END;
}

static int leave_without_entering(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)credit;
    (void)wait;
    fms_leave(((struct habit *)instance)->host);
    return FMS_END;
}

static int emit_null(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)credit;
    (void)wait;
    fms_emit(((struct habit *)instance)->host, NULL);
    return FMS_END;
}

static pthread_t holder;
static atomic_bool has_left;

static void *enter_and_hold(void *instance)
{
    struct habit *self = instance;

    fms_enter(self->host);
    hold_the_lane();
    fms_leave(self->host);
    has_left = true;
    fms_wake(self->host);
    return NULL;
}

static int hold_between(void *instance, size_t credit, struct fms_wait *wait)
{
    struct habit *self = instance;

    (void)credit;
    (void)wait;
    if (self->polls++ == 0)
        assert_int_equal(pthread_create(&holder, NULL, enter_and_hold, self), 0);
    else
        pthread_join(holder, NULL);
    return self->polls > 1 ? FMS_END : 0;
}

/* -------------------------------------------------------------------------------------------------------- the table */

#define SINK(write)                                                                                                    \
    FMS_SINK,                                                                                                          \
    {                                                                                                                  \
        .sink_write = write                                                                                            \
    }
#define TRANSFORM(does)                                                                                                \
    FMS_TRANSFORM,                                                                                                     \
    {                                                                                                                  \
        .transform = does                                                                                              \
    }
#define SOURCE(poll)                                                                                                   \
    FMS_SOURCE,                                                                                                        \
    {                                                                                                                  \
        .source_poll = poll                                                                                            \
    }
#define SETTLED(settled)                                                                                               \
    FMS_SOURCE,                                                                                                        \
    {                                                                                                                  \
        .source_poll = emit_one, .source_settled = settled                                                             \
    }

static const struct row rows[] = {
    {"forgets to settle", SINK(write_and_forget), "has taken 10 records and has settled none of them for",
     "took 10 records that were never settled"},
    {"settles twice", SINK(write_and_settle_twice), "settled a record twice", "record 0 was settled twice"},
    {"settles what it does not take", SINK(write_and_settle_untaken),
     "settled a record in sink_write and then said that it had not taken it", "settled by a sink that did not take it"},
    {"settles a draft", SINK(write_and_settle_a_draft), "with a record that the host did not make",
     "with a record that the host did not offer"},
    {"retries from a thread", SINK(write_and_retry_elsewhere), "called fms_retry from a thread that is not the lane",
     "fms_retry was called by a thread that is not the lane"},
    {"overtakes a retry", SINK(write_and_overtake), "after it had asked to retry an earlier one of the same key",
     "was delivered after the sink had asked to retry record 0 of the same key"},
    {"emits as a sink", SINK(write_and_emit), "called fms_emit, which is not for this role",
     "fms_emit was called by a stage that is no source"},
    {"rejects as a sink what would come in", SINK(write_and_emit_rejected),
     "called fms_emit_rejected, which is not for this role",
     "fms_emit_rejected was called by a stage that is no source"},
    {"passes as a sink", SINK(write_and_pass), "called fms_pass, which is not for this role",
     "fms_pass was called by a stage for which it is not"},
    {"makes children as a sink", SINK(write_and_make_a_child), "called fms_emit_child, which is not for this role",
     "fms_emit_child was called by a stage for which it is not"},
    {"drains as a sink", SINK(write_and_drain), "called fms_drain, which is not for this role",
     "fms_drain was called by a stage for which it is not"},
    {"counts what it has not", SINK(write_and_count), "counted counter 3, which is not in its table",
     "counter 3 is not in the plugin's table"},
    {"settles nothing", SINK(write_and_settle_null), "called a function that settles with NULL",
     "fms_delivered was called with NULL"},
    {"expands an option that is absent", SINK(write_and_expand_null), "called fms_expand with NULL",
     "fms_expand was called with NULL"},
    {"looks into nothing", SINK(write_and_look_at_null), "called fms_json_get with",
     "fms_json_get was called with NULL"},
    {"enters as a sink", SINK(write_and_enter), "called fms_enter, which is not for this role",
     "fms_enter was called by"},
    {"sets a gauge that it has not", SINK(write_and_set_a_gauge), "set gauge 1, which is not in its table",
     "gauge 1 is not in the plugin's table"},
    {"observes what it has not", SINK(write_and_observe), "observed duration 2, which is not in its table",
     "duration 2 is not in the plugin's table"},
    {"tells of a link that it has not", SINK(write_and_tell_of_a_link), "told of a link, and has not FMS_TRAIT_LINK",
     "it told of a link, and has not FMS_TRAIT_LINK"},
    {"renews what it has not", SINK(write_and_renew), "called fms_renew for pasword, which is not in its option table",
     "fms_renew was called for pasword, which is not in the option table"},
    {"names a path late", SINK(write_and_name_a_path), "called fms_json_path after open",
     "fms_json_path was called after open"},
    {"asks late who records are", SINK(write_and_identify), "called fms_identify after check",
     "fms_identify was called after check"},
    {"promises late", TRANSFORM(promise_and_pass), "called fms_promise after check",
     "fms_promise was called after check"},
    {"asks who records are as a transform", TRANSFORM(identify_as_a_transform),
     "called fms_identify, which is not for this role", "fms_identify was called by a stage for which it is not"},
    {"guesses a path", SINK(write_and_guess_a_path), "called fms_json_get with 7, which fms_json_path has not given",
     "with a path that fms_json_path has not given"},
    {"looks at what it has settled",
     FMS_SINK,
     {.sink_write = write_and_look_later, .sink_poll = poll_and_look},
     "called fms_json_get with a record that was settled before",
     "fms_json_get was called with record 0 after it was settled"},
    {"takes more than it was offered", SINK(write_too_much), "took 11 of 10 records in sink_write",
     "sink_write took 11 records of 10"},
    {"holds the lane in sink_write", SINK(write_and_hold), "s, now in sink_write", "s in sink_write"},
    {"fails with a positive errno", SINK(write_and_fail_oddly), "called fms_fail with 5, which is no negative errno",
     "fms_fail was called with 5, which is no negative errno"},
    {"returns a number from sink_poll",
     FMS_SINK,
     {.sink_write = good_write, .sink_poll = poll_oddly},
     "returned 7 from sink_poll",
     "the stage's poll returned 7"},
    {"has durable writes and does not settle in them",
     FMS_SINK,
     {.sink_write = write_and_forget, .traits = FMS_TRAIT_DURABLE_WRITE},
     "did not settle 10 records within sink_write",
     "was not settled within sink_write by a sink with durable writes"},
    {"keeps for ever", TRANSFORM(keep_for_ever), "has kept 10 records and has settled none of them for",
     "kept 10 records that were never settled"},
    {"says FMS_AGAIN for nothing", TRANSFORM(again_for_nothing),
     "returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN",
     "returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN"},
    {"drops a child that was refused", TRANSFORM(drop_a_child), "returned FMS_DROP though fms_emit_child said -EAGAIN",
     "returned FMS_DROP though fms_emit_child said -EAGAIN"},
    {"says FMS_AGAIN though it found room", TRANSFORM(always_again),
     "returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN",
     "returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN"},
    {"makes a child of nothing", TRANSFORM(child_of_null), "called fms_emit_child with NULL",
     "fms_emit_child was called with NULL"},
    {"makes nothing a child", TRANSFORM(null_child), "called fms_emit_child with NULL",
     "fms_emit_child was called with NULL"},
    {"gives no verdict", TRANSFORM(no_verdict), "returned 17 from transform, which is no verdict",
     "the transform's verdict on record 0 is 17"},
    {"settles and passes", TRANSFORM(settle_and_pass), "settled a record and returned 0 for it",
     "record 0 was settled twice"},
    {"passes twice", TRANSFORM(pass_twice), "called fms_pass with a record that it does not keep, or twice",
     "record 0 was settled twice (fms_pass)"},
    {"retries as a transform", TRANSFORM(retry_it), "asked to retry a record, which is for sinks",
     "fms_retry was called with fate 2"},
    {"holds the lane in transform", TRANSFORM(hold_it), "s, now in transform", "s in transform"},
    {"emits beyond its credit", SOURCE(emit_too_many), "in a source_poll with a credit of",
     "source_poll emitted more than its credit of"},
    {"drops what was refused", SOURCE(emit_past_a_refusal), "emitted another record after fms_emit had said -EAGAIN",
     "another record was emitted after fms_emit had said -EAGAIN"},
    {"emits what is malformed", SOURCE(emit_malformed), "emitted a malformed record",
     "fms_emit was called with a malformed draft"},
    {"emits what has a malformed identity", SOURCE(emit_misnamed),
     "emitted a malformed record: its identity has is_end or part set, which are the host's",
     "the identity of an emitted record has is_end or part set"},
    {"rejects what has a malformed identity", SOURCE(emit_rejected_and_misnamed),
     "emitted a malformed record: its identity has is_end or part set, which are the host's",
     "the identity of an emitted record has is_end or part set"},
    {"emits from a thread", SOURCE(emit_elsewhere), "called fms_emit from a thread that is not the lane",
     "fms_emit was called by a thread that is not the lane"},
    {"emits after its end", SETTLED(settled_and_emit), "emitted a record after source_poll had returned FMS_END",
     "fms_emit was called after source_poll had returned FMS_END"},
    {"leaves where it never entered", SOURCE(leave_without_entering), "called fms_leave without fms_enter",
     "fms_leave was called without fms_enter"},
    {"emits nothing", SOURCE(emit_null), "called fms_emit with NULL", "fms_emit was called with NULL"},
    {"drains outside its poll", SETTLED(settled_and_drain), "called fms_drain outside of source_poll",
     "fms_drain was called outside source_poll"},
    {"settles as a source", SETTLED(settled_and_settle), "called a function that settles, which is not for this role",
     "fms_delivered was called by a source"},
    {"returns a number from source_poll", SOURCE(end_oddly), "returned 9 from source_poll",
     "the stage's poll returned 9"},
    {"holds the lane in source_poll", SOURCE(hold_in_poll), "s, now in source_poll", "s in source_poll"},
    {"holds the lane as a library's thread", SOURCE(hold_between), "s, now in a thread between fms_enter and fms_leave",
     "s in a thread between fms_enter and fms_leave"},
};

/* ----------------------------------------------------------------------------------------------------- the pipeline */

static void note(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t n;

    (void)user;
    (void)level;
    (void)pipeline;
    pthread_mutex_lock(&said_lock);
    n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s: %s\n", stage != NULL ? stage : "", text);
    pthread_mutex_unlock(&said_lock);
    if (strstr(text, row->in_pipeline) != NULL && stage != NULL && strcmp(stage, "broken") == 0)
        was_told = true;
}

static struct pipeline pipeline;
static struct stage stages[3];
static struct plugin plugins[3];
static struct habit habits[3];

/* RECORDS of them, then nothing until the broken one is told of. */
static int good_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct habit *self = instance;

    while (credit-- > 0 && self->count < RECORDS) {
        struct fms_record next = draft;

        next.tag[0] = self->count;
        if (fms_emit(self->host, &next) != 0)
            return 0;
        self->count++;
    }
    wait->deadline = fms_now(self->host) + FMS_MS;
    if (!was_told && fake_realclock() - begun < FAKE_PATIENCE)
        return 0;
    pipeline_stop(&pipeline); /* so that drain_timeout bounds what is never settled */
    return FMS_END;
}

static void add_stage(enum fms_role role, const char *name, struct fms_plugin table)
{
    size_t i = pipeline.stage_count;
    struct stage *stage = &stages[i];

    plugins[i] = (struct plugin){.table = table};
    plugins[i].table.name = name;
    plugins[i].table.record_size = sizeof(struct fms_record);
    *stage = (struct stage){
        .pipeline = &pipeline, .plugin = &plugins[i], .name = (char *)(uintptr_t)name, .instance = &habits[i]};
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    stage->asks_who = role == FMS_SINK;
    pipeline_add(&pipeline, stage, role);
    pipeline_layout(&pipeline);
    host_fill(stage, role);
    habit_open(stage->instance, &stage->host);
    stage->is_open = true;
}

static void run_in_pipeline(void)
{
    struct fms_plugin source = {.source_poll = good_poll}, sink = {.sink_write = good_write};

    is_fake = false;
    pipeline = (struct pipeline){.options = {.name = "rules",
                                             .max_in_flight = 1000,
                                             .max_in_flight_bytes = 32 * 1024,
                                             .on_reject = ON_REJECT_DROP,
                                             .drain_timeout = 20 * FMS_MS,
                                             .retry_min = FMS_MS,
                                             .retry_max = FMS_MS,
                                             .stall_after = 20 * FMS_MS},
                                 .paths = json_paths_new()};
    if (row->table.source_poll == emit_too_many)
        pipeline.options.max_in_flight_bytes = 1 << 20; /* so that only its credit bounds it */
    memset(habits, 0, sizeof habits);
    assert_int_equal(pipeline_init(&pipeline), 0);
    pipeline.patience = 20 * FMS_MS;
    add_stage(FMS_SOURCE, row->role == FMS_SOURCE ? "broken" : "source", row->role == FMS_SOURCE ? row->table : source);
    if (row->role == FMS_TRANSFORM)
        add_stage(FMS_TRANSFORM, "broken", row->table);
    add_stage(FMS_SINK, row->role == FMS_SINK ? "broken" : "sink", row->role == FMS_SINK ? row->table : sink);
    lane_run(&pipeline);
    settle_abandon(&pipeline);
    pipeline_destroy(&pipeline);
    json_paths_free(pipeline.paths);
}

static void is_named_in_a_pipeline(void **state)
{
    row = *state;
    was_told = false;
    begun = fake_realclock();
    said[0] = '\0';
    alarm(PATIENCE);
    log_redirect(note, NULL);
    run_in_pipeline();
    log_redirect(NULL, NULL);
    if (!was_told)
        print_error("nobody said \"%s\", but:\n%s", row->in_pipeline, said);
    assert_true(was_told);
}

/* ---------------------------------------------------------------------------------------------------- the fake host */

static void catch_report(const char *report)
{
    snprintf(said, sizeof said, "%s", report);
}

static void drive(struct fake *f)
{
    if (row->role == FMS_SOURCE) {
        fake_capacity(f, 4);
        for (size_t i = 0; i < 2 && !fake_ended(f); i++) {
            fake_poll(f, 3 + i * 3);
            while (row->table.source_poll == hold_between && !has_left) /* it is joined in the next poll, on the lane */
                usleep(1000);
        }
        fake_settle_all(f, FMS_DELIVERED);
        return;
    }
    if (row->table.transform == drop_a_child)
        fake_capacity(f, 1);
    for (size_t i = 0; i < RECORDS; i++)
        fake_add_record(f, &draft);
    fake_write(f);
    fake_poll(f, 0);
    fake_poll(f, 0);
}

static void is_named_by_the_fake_host(void **state)
{
    struct fms_plugin table;
    struct fake *f;

    row = *state;
    was_told = false;
    has_left = false;
    is_fake = true;
    said[0] = '\0';
    alarm(PATIENCE);
    table = row->table;
    table.abi = FMS_ABI;
    table.size = sizeof table;
    table.record_size = sizeof(struct fms_record);
    table.name = table.version = table.summary = "broken";
    table.instance_size = sizeof(struct habit);
    table.open = habit_open;
    f = fake_open_table(&table, row->role, "");
    fake_host(f)->identities = true;
    fake_hold(f, 10 * FMS_MS);
    drive(f);
    fake_on_failure(catch_report);
    fake_close(f);
    fake_on_failure(NULL);
    if (strstr(said, row->in_fake) == NULL)
        print_error("expected \"%s\" in: %s\n", row->in_fake, said);
    assert_non_null(strstr(said, row->in_fake));
}

int main(void)
{
    enum { ROWS = sizeof rows / sizeof *rows };
    static struct CMUnitTest tests[2 * ROWS];
    static char names[2 * ROWS][100];

    for (size_t i = 0; i < ROWS; i++) {
        for (size_t host = 0; host < 2; host++) {
            size_t n = 2 * i + host;

            snprintf(names[n], sizeof names[n], "%s: %s", host == 0 ? "pipeline" : "fake host", rows[i].name);
            tests[n] = (struct CMUnitTest){.name = names[n],
                                           .test_func = host == 0 ? is_named_in_a_pipeline : is_named_by_the_fake_host,
                                           .initial_state = (void *)(uintptr_t)&rows[i]};
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
