/* test_fake_host.c - the fake host catches what it promises to catch, and lets pass what is right.
 *
 * The plugins here are tables of one bad habit each. */
#include "fms_test.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct stage {
    const struct fms_host *host;
    const struct fms_record *kept;
    size_t polls, settled;
    enum fms_fate fate;
    bool stopped;
    pthread_t thread;
};

static int stage_open(void *instance, const struct fms_host *host)
{
    ((struct stage *)instance)->host = host;
    return 0;
}

static const struct fms_record some = {.topic = {"t", 1}, .key = {"k", 1}, .payload = {"payload", 7}, .tag = {7, 8}};

static char failure[16384]; /* what the test would have failed with */

static void catch_failure(const char *report)
{
    snprintf(failure, sizeof failure, "%s", report);
}

/* Closes a stage that must fail the test, with this text. */
static void close_fails(struct fake *f, const char *text)
{
    failure[0] = '\0';
    fake_on_failure(catch_failure);
    fake_close(f);
    fake_on_failure(NULL);
    if (strstr(failure, text) == NULL)
        print_error("expected \"%s\" in: %s\n", text, failure);
    assert_non_null(strstr(failure, text));
}

static void in_thread(void *(*run)(void *), void *user)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, user), 0);
    pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static int take_all(void *instance, const struct fms_record *const *records, size_t count)
{
    ((struct stage *)instance)->kept = records[0];
    return (int)count;
}

static int settle_twice(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stage *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    fms_delivered(self->host, records[0]);
    return (int)count;
}

static int settle_untaken(void *instance, const struct fms_record *const *records, size_t count)
{
    fms_delivered(((struct stage *)instance)->host, records[count - 1]);
    return 0;
}

static int settle_foreign(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)records;
    (void)count;
    fms_delivered(((struct stage *)instance)->host, &some);
    return 0;
}

/* Retries the first, delivers the others. */
static int retry_first(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stage *self = instance;

    fms_retry(self->host, records[0], "busy");
    for (size_t i = 1; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

static int take_one(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)count;
    fms_delivered(((struct stage *)instance)->host, records[0]);
    return 1;
}

static struct fake *open_sink(int (*write)(void *, const struct fms_record *const *, size_t), uint32_t traits)
{
    static struct fms_plugin plugin;

    plugin = (struct fms_plugin){.abi = FMS_ABI,
                                 .size = sizeof plugin,
                                 .name = "bad_sink",
                                 .version = "1",
                                 .summary = "a sink",
                                 .instance_size = sizeof(struct stage),
                                 .open = stage_open,
                                 .sink_write = write,
                                 .traits = traits};
    return fake_open_table(&plugin, FMS_SINK, "");
}

static void test_never_settled(void **state)
{
    struct fake *f = open_sink(take_all, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_add(f, "t", NULL, "b");
    assert_int_equal(fake_write(f), 2);
    assert_int_equal(fake_unsettled(f), 2);
    assert_int_equal(fake_fate(f, 0), 0);
    close_fails(f, "took 2 records that were never settled");
}

static void test_left_as_expected(void **state)
{
    struct fake *f = open_sink(take_all, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    fake_expect_left(f, 1);
    fake_close(f);

    f = open_sink(take_one, 0);
    fake_expect_left(f, 1);
    close_fails(f, "1 are expected");
}

static void test_settled_twice(void **state)
{
    struct fake *f = open_sink(settle_twice, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_add(f, "t", NULL, "b");
    fake_write(f);
    assert_int_equal(fake_settles(f, 0), 2);
    assert_int_equal(fake_settles(f, 1), 1);
    close_fails(f, "bad_sink, sink test: rules were broken\n  broken: record 0 was settled twice");
}

static void test_settled_untaken(void **state)
{
    struct fake *f = open_sink(settle_untaken, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    assert_int_equal(fake_write(f), 0);
    close_fails(f, "record 0 was settled by a sink that did not take it");

    f = open_sink(settle_foreign, 0);
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    close_fails(f, "did not offer");
}

static void test_expected_breach_must_happen(void **state)
{
    struct fake *f = open_sink(settle_twice, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    fake_expect(f, "settled twice");
    fake_close(f);

    f = open_sink(settle_twice, 0);
    fake_expect(f, "settled twice");
    close_fails(f, "expected, but did not happen: settled twice");
}

static void test_retry_keeps_order(void **state)
{
    struct fake *f = open_sink(retry_first, 0);

    (void)state;
    fake_add(f, "t", "k", "first");
    fake_add(f, "t", "other", "second");
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_RETRY);
    assert_string_equal(fake_reason(f, 0), "busy");
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    fake_add(f, "t", "k", "third");
    fake_write(f); /* offers the first again, before the third, which must not overtake it */
    assert_int_equal(fake_settles(f, 0), 2);
    close_fails(f, "record 2 was delivered after the sink had asked to retry record 0");
}

static void test_durable_sink_settles_in_write(void **state)
{
    struct fake *f = open_sink(take_all, FMS_TRAIT_DURABLE_WRITE);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    fake_expect_left(f, 1);
    close_fails(f, "not settled within sink_write");
}

static void test_rest_is_offered_after_settlement(void **state)
{
    struct fake *f = open_sink(take_one, 0);

    (void)state;
    for (int i = 0; i < 300; i++)
        fake_add(f, "t", "k", "x");
    assert_int_equal(fake_write(f), 1);
    fake_until(f, fake_count_fate(f, FMS_DELIVERED) == 300);
    fake_close(f);
}

static void *settle_kept(void *user)
{
    struct stage *self = user;

    fms_delivered(self->host, self->kept);
    return NULL;
}

static void *retry_kept(void *user)
{
    struct stage *self = user;

    fms_retry(self->host, self->kept, "not here");
    return NULL;
}

static void test_retried_by_another_thread(void **state)
{
    struct fake *f = open_sink(take_all, 0);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    in_thread(retry_kept, fake_instance(f));
    assert_int_equal(fake_fate(f, 0), FMS_RETRY);
    close_fails(f, "fms_retry was called by a thread that is not the lane");
}

static void test_settled_by_another_thread(void **state)
{
    struct fake *f = open_sink(take_all, 0);
    struct stage *self = fake_instance(f);

    (void)state;
    fake_add(f, "t", NULL, "a");
    fake_write(f);
    assert_int_equal(pthread_create(&self->thread, NULL, settle_kept, self), 0);
    fake_until(f, fake_fate(f, 0) == FMS_DELIVERED);
    pthread_join(self->thread, NULL);
    fake_close(f);
}

/* ---------------------------------------------------------------------------------------------------------- sources */

static int poll_nothing(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)credit;
    (void)wait;
    ((struct stage *)instance)->polls++;
    return 0;
}

static int poll_end(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

static int poll_one(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)credit;
    (void)wait;
    return fms_emit(((struct stage *)instance)->host, &some) == -EAGAIN ? -EAGAIN : 0;
}

/* One record a second, then the end. */
static int poll_clocked(void *instance, size_t credit, struct fms_wait *wait)
{
    struct stage *self = instance;

    if (fms_now(self->host) >= (int64_t)(self->polls + 1) * FMS_SECOND && credit > 0) {
        fms_emit(self->host, &some);
        self->polls++;
    }
    wait->deadline = (int64_t)(self->polls + 1) * FMS_SECOND;
    return self->polls == 3 ? FMS_END : 0;
}

static int poll_draining(void *instance, size_t credit, struct fms_wait *wait)
{
    struct stage *self = instance;

    (void)credit;
    (void)wait;
    fms_emit(self->host, &some);
    self->polls = 1 + fms_drain(self->host, FMS_SECOND);
    return 0;
}

/* An odd message, then a good one. */
static int poll_odd(void *instance, size_t credit, struct fms_wait *wait)
{
    struct stage *self = instance;

    (void)credit;
    (void)wait;
    if (fms_emit_rejected(self->host, &some, "odd: %d", 42) != 0)
        return 0;
    fms_emit(self->host, &some);
    return FMS_END;
}

static void note_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct stage *self = instance;

    assert_int_equal(record->tag[1], 8);
    self->settled++;
    self->fate = fate;
}

static void note_stop(void *instance)
{
    ((struct stage *)instance)->stopped = true;
}

static struct fake *open_source(int (*poll)(void *, size_t, struct fms_wait *))
{
    static struct fms_plugin plugin;

    plugin = (struct fms_plugin){.abi = FMS_ABI,
                                 .size = sizeof plugin,
                                 .name = "bad_source",
                                 .version = "1",
                                 .summary = "a source",
                                 .instance_size = sizeof(struct stage),
                                 .open = stage_open,
                                 .source_poll = poll,
                                 .source_settled = note_settled,
                                 .source_stop = note_stop};
    return fake_open_table(&plugin, FMS_SOURCE, "");
}

static void *emit_entered(void *user)
{
    fms_enter(user);
    fms_emit(user, &some);
    fms_leave(user);
    return NULL;
}

static void test_emitted_after_end(void **state)
{
    struct fake *f = open_source(poll_end);

    (void)state;
    fake_poll(f, 0);
    in_thread(emit_entered, fake_host(f));
    close_fails(f, "fms_emit was called after source_poll had returned FMS_END");
}

static void *emit_bare(void *user)
{
    assert_int_equal(fms_emit(user, &some), -EPERM);
    return NULL;
}

static void test_emitted_by_wrong_thread(void **state)
{
    struct fake *f = open_source(poll_nothing);

    (void)state;
    in_thread(emit_bare, fake_host(f));
    assert_int_equal(fake_emitted(f), 0);
    close_fails(f, "fms_emit was called by a thread that is not the lane");
}

static void test_rejected_by_the_source(void **state)
{
    struct fake *f = open_source(poll_odd);
    struct stage *self = fake_instance(f);

    (void)state;
    fake_capacity(f, 0);
    fake_poll(f, 2);
    assert_int_equal(fake_emitted(f), 0);
    fake_capacity(f, 2);
    fake_poll(f, 2);
    assert_int_equal(fake_emitted(f), 2);
    assert_string_equal(fake_rejected(f, 0), "odd: 42");
    assert_string_equal(fake_record(f, 0)->payload.data, "payload");
    assert_null(fake_rejected(f, 1));
    fake_settle(f, 0, FMS_REJECTED);
    assert_int_equal(self->settled, 1);
    assert_int_equal(self->fate, FMS_REJECTED);
    fake_close(f);

    f = open_source(poll_odd);
    fake_poll(f, 1);
    close_fails(f, "source_poll emitted more than its credit of 1");
}

static void test_entered_thread_is_the_lane(void **state)
{
    struct fake *f = open_source(poll_nothing);
    struct stage *self = fake_instance(f);

    (void)state;
    fake_settle_auto(f, FMS_DELIVERED);
    in_thread(emit_entered, fake_host(f));
    assert_int_equal(fake_emitted(f), 1);
    assert_int_equal(self->settled, 1); /* before fms_leave returned */
    fake_stop(f);
    in_thread(emit_entered, fake_host(f)); /* was on its way */
    assert_int_equal(fake_emitted(f), 2);
    fake_close(f);

    f = open_source(poll_nothing);
    fms_leave(fake_host(f));
    close_fails(f, "fms_leave was called without fms_enter");
}

/* Emits a record for each that is settled: without an end. */
static void emit_again(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    (void)fate;
    fms_emit(((struct stage *)instance)->host, record);
}

static void test_source_that_emits_when_told(void **state)
{
    static const struct fms_plugin plugin = {.abi = FMS_ABI,
                                             .size = sizeof plugin,
                                             .name = "fake",
                                             .version = "0",
                                             .summary = "for tests",
                                             .instance_size = sizeof(struct stage),
                                             .open = stage_open,
                                             .source_poll = poll_one,
                                             .source_settled = emit_again};
    struct fake *f = fake_open_table(&plugin, FMS_SOURCE, "");

    (void)state;
    fake_poll(f, 1);
    fake_settle_all(f, FMS_DELIVERED);
    assert_int_equal(fake_emitted(f), 2);
    fake_settle_auto(f, FMS_DELIVERED);
    assert_int_equal(fake_emitted(f), 3);
    failure[0] = '\0';
    fake_on_failure(catch_failure);
    fake_turn(f, fake_realclock(), "it falls silent"); /* frees f */
    fake_on_failure(NULL);
    assert_non_null(strstr(failure, "it falls silent"));
}

static jmp_buf caught;
static _Atomic bool has_entered, may_leave;

static void catch_and_return(const char *report)
{
    catch_failure(report);
    longjmp(caught, 1);
}

static void *enter_and_stay(void *host)
{
    fms_enter(host);
    has_entered = true;
    while (!may_leave)
        sched_yield();
    fms_leave(host);
    return NULL;
}

static void test_thread_that_never_leaves(void **state)
{
    struct fake *volatile f = open_source(poll_nothing);
    pthread_t thread;

    (void)state;
    failure[0] = '\0';
    fake_hold(f, FMS_MS);
    assert_int_equal(pthread_create(&thread, NULL, enter_and_stay, fake_host(f)), 0);
    while (!has_entered)
        sched_yield();
    fake_on_failure(catch_and_return);
    if (setjmp(caught) == 0)
        fake_poll(f, 1);
    fake_on_failure(NULL);
    assert_non_null(strstr(failure, "a thread that called fms_enter has not called fms_leave"));
    may_leave = true;
    pthread_join(thread, NULL);
    close_fails(f, "the lane was held for");
}

static void test_more_than_credit(void **state)
{
    struct fake *f = open_source(poll_one);

    (void)state;
    fake_poll(f, 1);
    fake_poll(f, 0);
    close_fails(f, "more than its credit of 0");
}

static void test_emitted_record_is_a_copy(void **state)
{
    struct fake *f = open_source(poll_one);
    const struct fms_record *record;

    (void)state;
    fake_poll(f, 1);
    record = fake_record(f, 0);
    assert_ptr_not_equal(record->payload.data, some.payload.data);
    assert_string_equal(record->payload.data, "payload");
    assert_int_equal(record->tag[0], 7);
    assert_int_equal(fake_in_flight(f), 1);
    fake_settle(f, 0, FMS_REJECTED);
    assert_int_equal(((struct stage *)fake_instance(f))->fate, FMS_REJECTED);
    assert_int_equal(fake_in_flight(f), 0);
    fake_close(f);
}

static void test_capacity(void **state)
{
    struct fake *f = open_source(poll_one);

    (void)state;
    fake_capacity(f, 2);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_int_equal(fake_poll(f, 1), -EAGAIN);
    assert_int_equal(fake_error(f), -EAGAIN);
    fake_settle(f, 1, FMS_DELIVERED);
    assert_int_equal(fake_poll(f, 1), 0);
    fake_close(f);
}

static void test_clock_steps_to_deadlines(void **state)
{
    struct fake *f = open_source(poll_clocked);

    (void)state;
    fake_clock_set(f, 0, 0);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 3);
    assert_int_equal(fms_now(fake_host(f)), 3 * FMS_SECOND);
    assert_int_equal(fms_realtime(fake_host(f)), 3 * FMS_SECOND);
    fake_close(f);
}

static void settle_in_drain(struct fake *f, int64_t deadline, void *user)
{
    assert_int_equal(deadline, FMS_SECOND);
    if (*(bool *)user)
        fake_settle_all(f, FMS_DELIVERED);
}

static void test_drain(void **state)
{
    struct fake *f = open_source(poll_draining);
    struct stage *self = fake_instance(f);
    bool settle = false;

    (void)state;
    fake_on_drain(f, settle_in_drain, &settle);
    fake_poll(f, 1);
    assert_int_equal(self->polls, 1 + 1);
    settle = true;
    fake_poll(f, 1);
    assert_int_equal(self->polls, 1 + 0);
    assert_int_equal(self->settled, 2);
    fake_close(f);

    f = open_source(poll_nothing);
    fms_drain(fake_host(f), 0);
    fake_expect(f, "thread that is not the lane");
    fake_close(f);
}

static void test_until_gives_up(void **state)
{
    struct fake *f = open_source(poll_nothing);
    struct stage *self = fake_instance(f);

    (void)state;
    fake_poll(f, 1);
    fake_wait(f, FMS_MS);
    assert_int_equal(self->polls, 1);
    failure[0] = '\0';
    fake_on_failure(catch_failure);
    fake_turn(f, fake_realclock(), "pigs fly"); /* frees f */
    fake_on_failure(NULL);
    assert_non_null(strstr(failure, "pigs fly"));
}

/* ------------------------------------------------------------------------------------------------------- transforms */

/* By the payload's first letter. */
static enum fms_verdict transform_by_letter(void *instance, const struct fms_record *record)
{
    struct stage *self = instance;
    struct fms_record child = *record;

    switch (*(const char *)record->payload.data) {
    case 'p':
        return FMS_PASS;
    case 'd':
        return FMS_DROP;
    case 'k':
        self->kept = record;
        return FMS_KEPT;
    case 'r':
        return fms_reject(self->host, record, "bad %s", "letter");
    case 'c':
        child.payload = fms_text("child");
        return fms_emit_child(self->host, record, &child) == 0 ? FMS_DROP : FMS_AGAIN;
    default: /* both rejects and passes */
        fms_reject(self->host, record, "bad");
        return FMS_PASS;
    }
}

static void pass_kept(void *instance)
{
    struct stage *self = instance;

    if (self->kept != NULL)
        fms_pass(self->host, self->kept);
}

static struct fake *open_transform(void (*flush)(void *))
{
    static struct fms_plugin plugin;

    plugin = (struct fms_plugin){.abi = FMS_ABI,
                                 .size = sizeof plugin,
                                 .name = "letters",
                                 .version = "1",
                                 .summary = "a transform",
                                 .instance_size = sizeof(struct stage),
                                 .open = stage_open,
                                 .transform = transform_by_letter,
                                 .transform_flush = flush};
    return fake_open_table(&plugin, FMS_TRANSFORM, "");
}

static void test_verdicts(void **state)
{
    struct fake *f = open_transform(pass_kept);

    (void)state;
    fake_add(f, "t", "k", "pass");
    fake_add(f, "t", "k", "drop");
    fake_add(f, "t", "k", "keep");
    fake_add(f, "t", "k", "reject");
    fake_add(f, "t", "k", "child");
    fake_capacity(f, 1);
    assert_int_equal(fake_write(f), 4); /* no room for the child */
    assert_int_equal(fake_emitted(f), 1);
    fake_capacity(f, 10);
    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_fate(f, 0), FAKE_PASSED);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 2), 0);
    assert_int_equal(fake_fate(f, 3), FMS_REJECTED);
    assert_string_equal(fake_reason(f, 3), "bad letter");
    assert_int_equal(fake_parent(f, 1), 4);
    assert_string_equal(fake_record(f, 1)->payload.data, "child");
    fake_stop(f);
    assert_int_equal(fake_fate(f, 2), FAKE_PASSED);
    assert_string_equal(fake_record(f, 2)->payload.data, "keep");
    fake_close(f);
}

static void test_kept_for_ever(void **state)
{
    struct fake *f = open_transform(NULL);

    (void)state;
    fake_add(f, "t", "k", "keep");
    fake_write(f);
    close_fails(f, "kept 1 records that were never settled");
}

static void test_two_verdicts(void **state)
{
    struct fake *f = open_transform(NULL);

    (void)state;
    fake_add(f, "t", "k", "x");
    fake_write(f);
    close_fails(f, "record 0 was settled twice");
}

/* ---------------------------------------------------------------------------------------------------------- opening */

struct optioned {
    int64_t level;
};

static const struct fms_option optioned_options[] = {
    FMS_OPT_INTEGER(struct optioned, level, "3", 0, 9, "how high"),
    FMS_OPT_END,
};

static int optioned_check(void *instance, const struct fms_host *host)
{
    struct optioned *self = instance;

    if (self->level == 5)
        return fms_fail_option(host, "level", -EDOM, "five is right out");
    if (self->level > 5)
        fms_advise(host, "level", "that is high");
    fms_count(host, 0, 2);
    return 0;
}

static const struct fms_metric optioned_counters[] = {{"checks", "how many"}, {NULL, NULL}};

static const struct fms_plugin optioned = {
    .abi = FMS_ABI,
    .size = sizeof optioned,
    .name = "optioned",
    .version = "1",
    .summary = "has an option",
    .options = optioned_options,
    .counters = optioned_counters,
    .instance_size = sizeof(struct optioned),
    .check = optioned_check,
    .sink_write = take_one,
};

/* ---------------------------------------------------------------------------------------- what a plugin says of itself */

struct measured {
    const struct fms_host *host;
};

static int measured_write(void *instance, const struct fms_record *const *records, size_t count)
{
    const struct fms_host *host = ((struct measured *)instance)->host;

    for (size_t i = 0; i < count; i++) {
        fms_gauge(host, 1, 0.5 * (double)records[i]->payload.size);
        fms_observe(host, 0, (int64_t)i * FMS_SECOND - FMS_SECOND);
        if (i % 2 == 0)
            fms_link_down(host, "the far end is %s", "away");
        else
            fms_link_up(host);
        fms_delivered(host, records[i]);
    }
    return (int)count;
}

static const struct fms_metric measured_gauges[] = {{"none", "never set"}, {"half_bytes", "half"}, {NULL, NULL}};
static const struct fms_metric measured_durations[] = {{"wait_seconds", "how long"}, {NULL, NULL}};

static const struct fms_plugin measured = {
    .abi = FMS_ABI,
    .size = sizeof measured,
    .name = "measured",
    .version = "1",
    .summary = "says how it is",
    .instance_size = sizeof(struct measured),
    .traits = FMS_TRAIT_LINK,
    .sink_write = measured_write,
    .host = FMS_HOST(struct measured, host),
    .gauges = measured_gauges,
    .durations = measured_durations,
};

static void test_measures(void **state)
{
    struct fake *f = fake_open_table(&measured, FMS_SINK, "");
    int64_t sum = 7;
    char why[40];

    (void)state;
    assert_false(fake_link_is_up(f));
    assert_string_equal(fake_link_why(f, why, sizeof why), "");
    assert_int_equal(fake_observed(f, "wait_seconds", &sum), 0);
    assert_int_equal(sum, 0);
    fake_add(f, "t", NULL, "abc");
    fake_write(f);
    assert_false(fake_link_is_up(f));
    assert_string_equal(fake_link_why(f, why, sizeof why), "the far end is away");
    for (size_t i = 0; i < 4; i++)
        fake_add(f, "t", NULL, "abcde");
    fake_write(f);
    assert_true(fake_link_is_up(f));
    assert_int_equal(fake_link_ups(f), 2);
    assert_string_equal(fake_link_why(f, why, sizeof why), "");
    assert_true(fake_gauge(f, "half_bytes") == 2.5);
    assert_true(fake_gauge(f, "none") == 0);
    assert_int_equal(fake_observed(f, "wait_seconds", &sum), 5);
    assert_int_equal(sum, 3 * FMS_SECOND); /* nothing is shorter than 0 */
    fake_close(f);
}

static int write_without_a_number(void *instance, const struct fms_record *const *records, size_t count)
{
    const struct fms_host *host = ((struct measured *)instance)->host;

    fms_gauge(host, 1, 3);
    fms_gauge(host, 1, (double)NAN);
    fms_gauge(host, 1, (double)INFINITY);
    for (size_t i = 0; i < count; i++)
        fms_delivered(host, records[i]);
    return (int)count;
}

static void test_gauge_that_is_no_number(void **state)
{
    struct fms_plugin table = measured;
    struct fake *f;

    (void)state;
    table.sink_write = write_without_a_number;
    f = fake_open_table(&table, FMS_SINK, "");
    fake_expect(f, "gauge 1 was set to nan, which is no number");
    fake_expect(f, "gauge 1 was set to inf, which is no number");
    fake_add(f, "t", NULL, "abc");
    fake_write(f);
    assert_true(fake_gauge(f, "half_bytes") == 3);
    fake_close(f);
}

static void test_options_and_errors(void **state)
{
    struct fake *f = fake_open_table(&optioned, FMS_SINK, "level = 7\n");

    (void)state;
    assert_int_equal(((struct optioned *)fake_instance(f))->level, 7);
    assert_non_null(fake_said(f, "advice: level: that is high"));
    assert_int_equal(fake_counter(f, "checks"), 2);
    fake_close(f);

    f = fake_check_table(&optioned, FMS_SINK, "level = 5\n");
    assert_int_equal(fake_error(f), -EDOM);
    assert_int_equal(fake_start(f), -EDOM);
    assert_non_null(fake_said(f, "error: level: five is right out"));
    fake_close(f);

    f = fake_check_table(&optioned, FMS_SINK, "level = 77\n");
    assert_int_equal(fake_error(f), -EINVAL);
    assert_non_null(fake_said(f, "level"));
    fake_close(f);

    f = fake_check("no_such_plugin", FMS_SINK, "");
    assert_int_equal(fake_error(f), -ENOENT);
    fake_close(f);
}

/* ----------------------------------------------------------------------------------------------------------- drafts */

struct looking {
    const struct fms_template *speed;
    const struct fms_host *host;
    int path;
};

static const struct fms_option looking_options[] = {
    FMS_OPT_TEMPLATE(struct looking, speed, "${json:speed}", "what is looked for"),
    FMS_OPT_END,
};

static int looking_open(void *instance, const struct fms_host *host)
{
    struct looking *self = instance;

    self->host = host;
    self->path = fms_json_path(host, "speed");
    return 0;
}

static int looking_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct looking *self = instance;
    struct fms_record draft = *records[0];
    struct fms_bytes text;
    struct fms_json value;

    draft.payload = fms_text("{\"speed\":1}");
    assert_int_equal(fms_expand(self->host, self->speed, &draft, &text), 0);
    assert_string_equal(text.data, "1");
    draft.payload = fms_text("[{\"speed\":1}]");
    assert_int_equal(fms_json_get(self->host, &draft, self->path, &value), -EBADMSG);
    assert_string_equal(value.text.data, "it is an array: split it first");
    assert_int_equal(fms_json_get(self->host, records[0], self->path, &value), 0);
    assert_memory_equal(value.text.data, "2", value.text.size);
    fms_delivered(self->host, records[0]);
    return (int)count;
}

static void test_fields_of_drafts(void **state)
{
    static const struct fms_plugin plugin = {.abi = FMS_ABI,
                                             .size = sizeof plugin,
                                             .name = "looking",
                                             .version = "1",
                                             .summary = "a sink",
                                             .options = looking_options,
                                             .instance_size = sizeof(struct looking),
                                             .open = looking_open,
                                             .sink_write = looking_write};
    struct fake *f = fake_open_table(&plugin, FMS_SINK, "");

    (void)state;
    fake_add(f, "t", "k", "{\"speed\":2}");
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    fake_close(f);
}

/* -------------------------------------------------------------------------------------------------------- secrets */

struct connecting {
    const struct fms_host *host;
    const char *password, *user;
    struct fms_pairs properties;
    int answers[3];
};

static const struct fms_option connecting_options[] = {
    FMS_OPT_SECRET(struct connecting, password, NULL, "password"),
    FMS_OPT_STRING(struct connecting, user, NULL, "user"),
    FMS_OPT_PAIRS(struct connecting, properties, "kafka.", "properties"),
    FMS_OPT_END,
};

static void *connect_anew(void *user)
{
    struct connecting *self = user;

    self->answers[0] = fms_renew(self->host, "password");
    self->answers[1] = fms_renew(self->host, "user");
    self->answers[2] = fms_renew(self->host, "kafka.secret");
    return NULL;
}

static void test_secrets(void **state)
{
    static const struct fms_plugin plugin = {.abi = FMS_ABI,
                                             .size = sizeof(struct fms_plugin),
                                             .name = "connecting",
                                             .version = "1",
                                             .summary = "a sink",
                                             .options = connecting_options,
                                             .instance_size = sizeof(struct connecting),
                                             .host = FMS_HOST(struct connecting, host),
                                             .sink_write = looking_write};
    char name[] = "/tmp/test_fake_host.XXXXXX", ini[128];
    struct connecting *self;
    int fd = mkstemp(name);
    struct fake *f;

    (void)state;
    assert_int_equal(write(fd, "one\n", 4), 4);
    snprintf(ini, sizeof ini, "password = first\nuser = ${file:%s}\nkafka.secret = a\n", name);
    f = fake_open_table(&plugin, FMS_SINK, ini);
    self = fake_instance(f);
    assert_string_equal(self->user, "one");
    in_thread(connect_anew, self);
    assert_int_equal(self->answers[0], -ENOENT); /* it is no file's */
    assert_int_equal(self->answers[1], 0);
    fake_secret(f, "password", "second");
    fake_secret(f, "kafka.secret", "b");
    assert_int_equal(pwrite(fd, "two\n", 4, 0), 4);
    in_thread(connect_anew, self);
    assert_memory_equal(self->answers, ((const int[]){1, 1, 1}), sizeof self->answers);
    assert_string_equal(self->password, "second");
    assert_string_equal(self->user, "two");
    assert_string_equal(self->properties.items[0].value, "b");
    assert_non_null(fake_said(f, "info: user has changed in its file"));
    in_thread(connect_anew, self);
    assert_memory_equal(self->answers, ((const int[]){0, 0, 0}), sizeof self->answers);
    fake_secret(f, "password", "third");
    unlink(name);
    in_thread(connect_anew, self);
    assert_string_equal(self->password, "third");
    assert_string_equal(self->user, "two");
    assert_non_null(fake_said(f, "warning: user cannot be read again, so it stays as it was"));
    fake_close(f);
    close(fd);
}

/* ------------------------------------------------------------------------------------------------------- identities */

#define KNOWN .record_size = sizeof(struct fms_record), .instance_size = sizeof(struct stage), .open = stage_open

static struct fms_record numbered(struct fms_identity *identity, uint64_t sequence)
{
    static char origin[] = "a\0spool";
    struct fms_record draft = some;

    *identity = (struct fms_identity){.kind = FMS_NUMBERED, .origin = {origin, 7}, .sequence = sequence, .skipped = 1};
    draft.identity = identity;
    return draft;
}

static int poll_numbered(void *instance, size_t credit, struct fms_wait *wait)
{
    struct stage *self = instance;
    struct fms_identity identity;
    struct fms_record draft = numbered(&identity, 5 + self->polls++);

    (void)credit;
    wait->deadline = 0;
    if (self->polls == 1)
        return fms_emit(self->host, &draft);
    fms_emit_rejected(self->host, &draft, "odd");
    memset(&identity, 0xee, sizeof identity);
    return FMS_END;
}

static int poll_misnumbered(void *instance, size_t credit, struct fms_wait *wait)
{
    struct fms_identity identity;
    struct fms_record draft = numbered(&identity, 0);

    (void)credit;
    (void)wait;
    return fms_emit(((struct stage *)instance)->host, &draft) == -EINVAL ? FMS_END : 0;
}

static int poll_of_old(void *instance, size_t credit, struct fms_wait *wait)
{
    struct fms_record draft = some;

    (void)credit;
    (void)wait;
    draft.identity = (const struct fms_identity *)1; /* what is there behind an old draft */
    fms_emit(((struct stage *)instance)->host, &draft);
    fms_emit_rejected(((struct stage *)instance)->host, &draft, "odd");
    return FMS_END;
}

static struct fake *open_known(const struct fms_plugin *plugin, enum fms_role role)
{
    struct fake *f = fake_check_table(plugin, role, "");

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

/* As long as nobody asks, it is as if the source had said nothing. */
static void test_what_a_source_says_of_identity(void **state)
{
    static const struct fms_plugin good = {.name = "good", KNOWN, .source_poll = poll_numbered},
                                   bad = {.name = "bad", KNOWN, .source_poll = poll_misnumbered},
                                   old = {.name = "old",
                                          .instance_size = sizeof(struct stage),
                                          .open = stage_open,
                                          .source_poll = poll_of_old};
    struct fake *f = fake_open_table(&good, FMS_SOURCE, "");

    (void)state;
    fake_until(f, fake_ended(f));
    assert_null(fake_record(f, 0)->identity);
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);

    f = open_known(&good, FMS_SOURCE);
    fake_until(f, fake_ended(f));
    for (size_t i = 0; i < 2; i++) {
        const struct fms_identity *identity = fake_record(f, i)->identity;

        assert_int_equal(identity->kind, FMS_NUMBERED);
        assert_int_equal(identity->sequence, 5 + i);
        assert_int_equal(identity->skipped, 1);
        assert_int_equal(identity->origin.size, 7);
        assert_memory_equal(identity->origin.data, "a\0spool", 8);
    }
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);

    f = open_known(&bad, FMS_SOURCE);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 0);
    close_fails(f, "the identity of an emitted record skips more numbers than there are below its sequence");

    f = open_known(&old, FMS_SOURCE);
    fake_until(f, fake_ended(f));
    assert_int_equal(fake_emitted(f), 2);
    assert_null(fake_record(f, 0)->identity);
    assert_null(fake_record(f, 1)->identity);
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
}

/* A child of each but the first, and the last goes on beside two. */
static enum fms_verdict make_parts(void *instance, const struct fms_record *record)
{
    struct stage *self = instance;
    struct fms_record draft = *record;
    size_t n = self->polls++;

    draft.identity = NULL; /* what it says of it does not matter */
    for (size_t i = 0; i < n; i++)
        fms_emit_child(self->host, record, &draft);
    return n == 1 ? FMS_DROP : FMS_PASS;
}

static void test_parts_of_an_identity(void **state)
{
    static const struct fms_plugin plugin = {.name = "parts", KNOWN, .transform = make_parts};
    static const struct {
        uint64_t sequence;
        uint32_t part;
    } expected[] = {{7, 0}, {8, 1}, {9, 1}, {9, 2}, {9, FMS_PART_LETTER - 1}};
    struct fake *f = open_known(&plugin, FMS_TRANSFORM);

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        struct fms_identity identity;
        struct fms_record draft = numbered(&identity, 7 + i);

        fake_add_record(f, &draft);
    }
    assert_int_equal(fake_write(f), 3);
    assert_int_equal(fake_emitted(f), 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(fake_record(f, i)->identity->sequence, expected[i].sequence);
        assert_int_equal(fake_record(f, i)->identity->part, expected[i].part);
    }
    fake_close(f);
}

static int ask_for_ends(void *instance, const struct fms_host *host)
{
    (void)instance;
    fms_identify(host, true);
    return 0;
}

static int retry_the_first_end(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stage *self = instance;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(records[i]->identity->sequence, 7 + (records[i]->identity->is_end ? 0 : 1));
        if (records[i]->identity->is_end && self->polls++ == 0)
            fms_retry(self->host, records[i], "not now");
        else
            fms_delivered(self->host, records[i]);
    }
    return (int)count;
}

static int reject_all(void *instance, const struct fms_record *const *records, size_t count)
{
    struct stage *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_reject(self->host, records[i], "no");
    return (int)count;
}

/* An end has no key that others must not overtake. */
static void test_ends_for_a_sink(void **state)
{
    static const struct fms_plugin good = {.name = "good",
                                           KNOWN,
                                           .check = ask_for_ends,
                                           .sink_write = retry_the_first_end},
                                   bad = {.name = "bad", KNOWN, .check = ask_for_ends, .sink_write = reject_all};
    struct fms_identity identity;
    struct fms_record draft = numbered(&identity, 7);
    struct fake *f = fake_open_table(&good, FMS_SINK, "");

    (void)state;
    assert_true(fake_host(f)->identities);
    identity.is_end = true;
    fake_add_record(f, &draft);
    draft = numbered(&identity, 8);
    fake_add_record(f, &draft);
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_RETRY);
    assert_int_equal(fake_fate(f, 1), FMS_DELIVERED);
    fake_write(f);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    fake_close(f);

    f = fake_open_table(&bad, FMS_SINK, "");
    fake_add_record(f, &draft);
    identity.is_end = true;
    fake_add_record(f, &draft);
    fake_write(f);
    close_fails(f, "record 1 was rejected, and is the end of one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_source_says_of_identity),
        cmocka_unit_test(test_parts_of_an_identity),
        cmocka_unit_test(test_ends_for_a_sink),
        cmocka_unit_test(test_never_settled),
        cmocka_unit_test(test_left_as_expected),
        cmocka_unit_test(test_settled_twice),
        cmocka_unit_test(test_settled_untaken),
        cmocka_unit_test(test_expected_breach_must_happen),
        cmocka_unit_test(test_retry_keeps_order),
        cmocka_unit_test(test_durable_sink_settles_in_write),
        cmocka_unit_test(test_rest_is_offered_after_settlement),
        cmocka_unit_test(test_settled_by_another_thread),
        cmocka_unit_test(test_retried_by_another_thread),
        cmocka_unit_test(test_emitted_after_end),
        cmocka_unit_test(test_emitted_by_wrong_thread),
        cmocka_unit_test(test_rejected_by_the_source),
        cmocka_unit_test(test_entered_thread_is_the_lane),
        cmocka_unit_test(test_source_that_emits_when_told),
        cmocka_unit_test(test_thread_that_never_leaves),
        cmocka_unit_test(test_more_than_credit),
        cmocka_unit_test(test_emitted_record_is_a_copy),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_clock_steps_to_deadlines),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_until_gives_up),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_kept_for_ever),
        cmocka_unit_test(test_two_verdicts),
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_gauge_that_is_no_number),
        cmocka_unit_test(test_options_and_errors),
        cmocka_unit_test(test_fields_of_drafts),
        cmocka_unit_test(test_secrets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
