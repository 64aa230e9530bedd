/* test_health.c - what is said of a pipeline: made-up views, from each verdict to the next. */
#include "health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define T0   (1000 * FMS_SECOND)                /* the pipeline began */
#define NOON (INT64_C(1795521600) * FMS_SECOND) /* 2026-11-24 12:00:00 UTC, at T0 */

enum { SOURCE, CHECK, KAFKA, FILE_SINK, LETTERS, STAGES };

/* Two looks at one pipeline: the one before, and the one now. */
static struct observed looks[2];
static struct stage_view stages[2][STAGES];
static struct stage_health healths[2][STAGES];
static unsigned turn;
static struct observed *now;
static int64_t at;

static void judge(bool is_first)
{
    now->has_answered = true;
    now->answered_at = at;
    now->view.shown_at = at;
    health_judge(now, is_first ? NULL : &looks[turn ^ 1], at, NOON + (at - T0));
}

/* As it was, a while later; change it, then `judge`. */
static void later(int64_t while_)
{
    unsigned next = turn ^ 1;

    looks[next] = looks[turn];
    memcpy(stages[next], stages[turn], sizeof stages[next]);
    memset(healths[next], 0, sizeof healths[next]);
    looks[next].view.stages = stages[next];
    looks[next].health = (struct health){.stages = healths[next]};
    turn = next;
    now = &looks[turn];
    at += while_;
}

static int one_that_flows(void **state)
{
    static const struct {
        const char *name;
        enum fms_role role;
    } made[STAGES] = {{"source", FMS_SOURCE},
                      {"transform check", FMS_TRANSFORM},
                      {"sink kafka", FMS_SINK},
                      {"sink file", FMS_SINK},
                      {"dead_letter", FMS_DEAD_LETTER}};

    (void)state;
    setenv("TZ", "Asia/Tokyo", 1); /* which says nothing here */
    tzset();
    memset(looks, 0, sizeof looks);
    memset(healths, 0, sizeof healths);
    turn = 0;
    now = &looks[0];
    at = T0 + 100 * FMS_SECOND;
    now->view = (struct pipeline_view){.name = "bridge",
                                       .started_at = T0,
                                       .stall_after = 15 * FMS_SECOND,
                                       .max_in_flight = 10000,
                                       .stages = stages[0],
                                       .stage_count = STAGES};
    now->health.stages = healths[0];
    for (size_t i = 0; i < STAGES; i++) {
        stages[0][i] = (struct stage_view){.name = made[i].name, .role = made[i].role};
        if (i == SOURCE || i == KAFKA || i == LETTERS) {
            stages[0][i].has_link = true;
            stages[0][i].link = (struct link_state){.is_up = true, .was_up = true, .since = T0 + FMS_SECOND, .ups = 1};
        }
        if (i == SOURCE || i == KAFKA || i == FILE_SINK)
            stages[0][i].last_at = at - 3 * FMS_MS;
    }
    now->received_rate = 5012;
    now->delivered_rate = 5009.7;
    now->view.in_flight = 20;
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = at - 4 * FMS_MS;
    now->view.stages[KAFKA].held = 20;
    return 0;
}

/* Records come and are confirmed as before. */
static void flow(void)
{
    now->view.stages[SOURCE].last_at = now->view.stages[KAFKA].last_at = now->view.stages[FILE_SINK].last_at =
        at - 3 * FMS_MS;
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = at - 4 * FMS_MS;
}

static void settle_all(void)
{
    now->view.in_flight = 0;
    now->view.oldest_at = 0;
    now->received_rate = now->delivered_rate = 0;
    for (size_t i = 0; i < STAGES; i++)
        now->view.stages[i].oldest_at = 0, now->view.stages[i].held = 0;
}

static void unlink_stage(size_t i, const char *why)
{
    struct link_state *link = &now->view.stages[i].link;

    link->is_up = false;
    link->since = at;
    link->downs++;
    snprintf(link->why, sizeof link->why, "%s", why);
}

static void never_linked(size_t i, const char *why)
{
    now->view.stages[i].link = (struct link_state){.since = T0};
    snprintf(now->view.stages[i].link.why, sizeof now->view.stages[i].link.why, "%s", why);
}

static void expect(enum verdict verdict, bool is_ready, int held_by, const char *sentence)
{
    if (strcmp(now->health.sentence, sentence) != 0)
        print_error("it says   \"%s\"\nin place of \"%s\"\n", now->health.sentence, sentence);
    assert_string_equal(now->health.sentence, sentence);
    assert_string_equal(verdict_name(now->health.verdict), verdict_name(verdict));
    assert_true(now->health.is_live);
    assert_true(now->health.is_ready == is_ready);
    assert_int_equal(now->health.held_by, held_by);
}

static void expect_unready(size_t stage, const char *why)
{
    assert_string_equal(now->health.stages[stage].why, why);
    assert_false(now->health.stages[stage].is_ready);
}

/* --------------------------------------------------------------------------------------------------------- it flows */

static void it_flows(void **state)
{
    (void)state;
    judge(true);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms");
    for (size_t i = 0; i < STAGES; i++)
        assert_true(now->health.stages[i].is_ready && *now->health.stages[i].why == '\0');
    assert_int_equal(now->health.since, at);
    later(FMS_SECOND);
    flow();
    now->received_rate = 1234567;
    now->delivered_rate = 0.5;
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 1,234,567/s in, 0.5/s confirmed, oldest unconfirmed 4 ms");
    assert_int_equal(now->health.since, at - FMS_SECOND);
    later(FMS_SECOND);
    flow();
    now->rejected_rate = 12;
    judge(false);
    expect(VERDICT_FLOWING, true, -1,
           "Flowing: 1,234,567/s in, 0.5/s confirmed, 12/s rejected, oldest unconfirmed 4 ms");
}

static void nothing_comes(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    settle_all();
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 0/s in, 0/s confirmed, nothing unconfirmed");
    later(9 * FMS_SECOND);
    judge(false);
    expect(VERDICT_IDLE, true, -1, "Idle: nothing has come for 10 s, nothing is held");
    later(30 * FMS_SECOND);
    judge(false);
    expect(VERDICT_IDLE, true, -1, "Idle: nothing has come for 40 s, nothing is held");
    assert_int_equal(now->health.since, at - 30 * FMS_SECOND);
    later(FMS_SECOND);
    flow();
    now->received_rate = now->delivered_rate = 1;
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 1.0/s in, 1.0/s confirmed, oldest unconfirmed 4 ms");
    assert_int_equal(now->health.since, at);
}

static void nothing_has_ever_come(void **state)
{
    (void)state;
    settle_all();
    now->view.stages[SOURCE].last_at = now->view.stages[KAFKA].last_at = 0;
    judge(true);
    expect(VERDICT_IDLE, true, -1, "Idle: nothing has come yet, nothing is held");
}

static void a_transform_keeps_records_and_means_it(void **state)
{
    (void)state;
    judge(true);
    later(600 * FMS_SECOND);
    settle_all();
    now->view.in_flight = now->view.stages[CHECK].held = 12;
    now->view.oldest_at = now->view.stages[CHECK].oldest_at = at - 300 * FMS_SECOND;
    judge(false);
    expect(VERDICT_IDLE, true, -1, "Idle: nothing has come for 10 min, transform check keeps 12 records");
}

static void it_is_full_and_flows(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    flow();
    now->view.is_blocked = false; /* at this moment */
    now->view.blocked += 700 * FMS_MS;
    now->view.in_flight = 10000;
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = at - 2 * FMS_SECOND;
    now->view.stages[KAFKA].held = 10000;
    now->view.stages[FILE_SINK].held = 3;
    now->view.stages[FILE_SINK].oldest_at = at - FMS_SECOND;
    judge(false);
    expect(VERDICT_FULL, true, KAFKA,
           "Full: the source is held back, sink kafka holds 10,000 records; 5,012/s in, 5,010/s confirmed, oldest"
           " unconfirmed 2.0 s");
    later(FMS_SECOND);
    flow();
    now->view.is_blocked = true; /* for a moment */
    now->view.blocked += 100 * FMS_MS;
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms");
}

/* A deep queue before a slow sink: each record waits for longer than stall_after, and all are confirmed in their turn. */
static void it_is_full_and_late_and_flows(void **state)
{
    (void)state;
    judge(true);
    for (size_t i = 0; i < 60; i++) {
        later(FMS_SECOND);
        flow();
        now->view.blocked += 900 * FMS_MS;
        now->view.oldest_at = now->view.stages[KAFKA].oldest_at = at - 20 * FMS_SECOND;
        now->view.stages[KAFKA].held = 10000;
        judge(false);
    }
    expect(VERDICT_FULL, false, KAFKA,
           "Full: the source is held back, sink kafka holds 10,000 records; 5,012/s in, 5,010/s confirmed, oldest"
           " unconfirmed 20 s; sink kafka confirms what is 20 s old, and stall_after is 15 s");
    expect_unready(KAFKA, "confirms what is 20 s old, and stall_after is 15 s");
}

/* ------------------------------------------------------------------------------------------------------ it is stuck */

static void kafka_confirms_nothing(void **state)
{
    int64_t stopped = at - 3 * FMS_MS;

    (void)state;
    judge(true);
    now->view.stages[KAFKA].held = 10000;
    for (size_t i = 0; i < 15; i++) {
        later(FMS_SECOND);
        judge(false);
        assert_true(now->health.verdict == VERDICT_FLOWING || i == 14);
    }
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 15 s: sink kafka has confirmed nothing since 12:01:39 UTC and holds 10,000 records");
    assert_int_equal(now->health.since, stopped);
    assert_true(now->health.stages[FILE_SINK].is_ready && now->health.stages[SOURCE].is_ready);

    later(FMS_SECOND);
    unlink_stage(KAFKA, "broker 1: connection timed out");
    later(180 * FMS_SECOND);
    judge(false);
    expect(
        VERDICT_STUCK, false, KAFKA,
        "STUCK for 3 min: sink kafka has confirmed nothing since 12:01:39 UTC and holds 10,000 records: not connected:"
        " broker 1: connection timed out");
    expect_unready(KAFKA, "has confirmed nothing since 12:01:39 UTC and holds 10,000 records: not connected: broker 1:"
                          " connection timed out");

    later(FMS_SECOND);
    now->view.stages[KAFKA].link = (struct link_state){.is_up = true, .was_up = true, .since = at};
    flow();
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms");
    assert_int_equal(now->health.since, at);
}

/* What was confirmed long ago says nothing of a record that has just come. */
static void a_record_after_a_long_silence_is_not_stuck(void **state)
{
    (void)state;
    settle_all();
    judge(true);
    later(3600 * FMS_SECOND);
    now->view.in_flight = now->view.stages[KAFKA].held = 1;
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = now->view.stages[SOURCE].last_at = at - 10 * FMS_SECOND;
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 0/s in, 0/s confirmed, oldest unconfirmed 10 s");
    later(6 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 16 s: sink kafka has confirmed nothing since 12:01:39 UTC and holds 1 record");
}

static void yesterday_has_a_date(void **state)
{
    (void)state;
    judge(true);
    later(86400 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 24 h: sink kafka has confirmed nothing since 2026-11-24 12:01:39 UTC and holds 20 records");
}

static void one_of_two_sinks_is_stuck(void **state)
{
    (void)state;
    judge(true);
    for (size_t i = 0; i < 40; i++) {
        later(FMS_SECOND);
        now->view.stages[SOURCE].last_at = now->view.stages[FILE_SINK].last_at = at;
        now->view.stages[FILE_SINK].oldest_at = at - FMS_SECOND;
        now->view.stages[FILE_SINK].held = 30;
        now->view.stages[KAFKA].is_retrying = true;
        judge(false);
    }
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 40 s: sink kafka has confirmed nothing since 12:01:39 UTC and holds 20 records: it could not "
           "deliver,"
           " and is offered them again");
    assert_true(now->health.stages[FILE_SINK].is_ready);
}

static void a_sink_takes_none(void **state)
{
    (void)state;
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = now->view.stages[KAFKA].last_at = at - 20 * FMS_SECOND;
    now->view.stages[KAFKA].is_full = true;
    judge(true);
    expect_unready(
        KAFKA,
        "has confirmed nothing since 12:01:20 UTC and holds 20 records: it takes none of them; the log says why");
}

static void one_that_has_ended_well_is_asked_no_more(void **state)
{
    struct observed pipelines[2];
    struct observation all = {.pipelines = pipelines, .count = 2};

    (void)state;
    pipelines[0] = pipelines[1] = *now;
    assert_false(health_is_past(&all, 0));
    pipelines[0].view.state = PIPELINE_ENDED;
    assert_true(health_is_past(&all, 0));
    assert_false(health_is_past(&all, 1));
    pipelines[0].view.left = 1;
    assert_false(health_is_past(&all, 0));
    pipelines[0].view.is_finished = true;
    assert_true(health_is_past(&all, 0));
    pipelines[0].view.has_failed = true;
    assert_false(health_is_past(&all, 0));
    pipelines[0].view.has_failed = false;
    pipelines[1].view.state = PIPELINE_ENDED; /* and with it the process */
    assert_false(health_is_past(&all, 0));
}

static void one_that_goes_is_asked_no_more(void **state)
{
    struct observed pipelines[2];
    struct observation all = {.pipelines = pipelines, .count = 2};

    (void)state;
    pipelines[0] = pipelines[1] = *now;
    pipelines[0].view.is_going = true;
    for (int i = PIPELINE_RUNNING; i <= PIPELINE_ENDED; i++) {
        pipelines[0].view.state = (enum pipeline_state)i;
        pipelines[0].view.left = 1;
        assert_true(health_is_past(&all, 0));
        assert_false(health_is_past(&all, 1));
    }
}

static void one_record_is_never_confirmed(void **state)
{
    int64_t oldest = at - 4 * FMS_MS;

    (void)state;
    judge(true);
    for (size_t i = 0; i < 17; i++) {
        later(FMS_SECOND);
        flow();
        now->view.oldest_at = now->view.stages[KAFKA].oldest_at = oldest;
        judge(false);
    }
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 17 s: sink kafka has not confirmed its oldest record since 12:01:39 UTC, though later ones, and "
           "holds 20"
           " records");
    assert_int_equal(now->health.since, oldest);

    later(FMS_SECOND); /* the next one, of the same batch */
    flow();
    now->view.oldest_at = now->view.stages[KAFKA].oldest_at = oldest;
    now->view.stages[KAFKA].oldest_number++;
    judge(false);
    assert_string_equal(verdict_name(now->health.verdict), "flowing");
    expect_unready(KAFKA, "confirms what is 18 s old, and stall_after is 15 s");
}

static void a_transform_keeps_all_that_there_is_room_for(void **state)
{
    (void)state;
    settle_all();
    judge(true);
    for (size_t i = 0; i < 20; i++) {
        later(FMS_SECOND);
        now->view.is_blocked = true;
        now->view.blocked += FMS_SECOND;
        now->view.in_flight = now->view.stages[CHECK].held = 10000;
        now->view.oldest_at = now->view.stages[CHECK].oldest_at = T0 + 100 * FMS_SECOND;
        judge(false);
    }
    expect(VERDICT_STUCK, false, CHECK,
           "STUCK for 20 s: transform check keeps 10,000 records, the oldest for 20 s, and nothing else moves");
}

static void its_lane_does_not_answer(void **state)
{
    int64_t answered = at;

    (void)state;
    judge(true);
    for (size_t i = 1; i <= 12; i++) {
        later(FMS_SECOND);
        now->has_answered = false;
        health_judge(now, &looks[turn ^ 1], at, NOON + (at - T0));
        assert_true(now->health.is_live == (i <= 10));
        assert_true(now->health.is_ready == (i <= 10));
    }
    assert_int_equal(now->health.verdict, VERDICT_STUCK);
    assert_int_equal(now->health.held_by, -1);
    assert_int_equal(now->health.since, answered);
    assert_string_equal(now->health.sentence,
                        "STUCK for 12 s: the lane has not answered since 12:01:40 UTC; the log names the"
                        " call that holds it");
    expect_unready(FILE_SINK, "stands still: the lane of its pipeline has not answered since 12:01:40 UTC");
    later(FMS_SECOND);
    flow();
    judge(false);
    expect(VERDICT_FLOWING, true, -1, "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms");
}

/* ------------------------------------------------------------------------------------------------------------ links */

static void the_source_is_not_connected(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    settle_all();
    unlink_stage(SOURCE, "connection refused");
    judge(false);
    expect(VERDICT_IDLE, false, SOURCE,
           "Idle: nothing has come for 1.0 s, nothing is held; source is not connected since 12:01:41 UTC: connection"
           " refused");
    expect_unready(SOURCE, "is not connected since 12:01:41 UTC: connection refused");
    later(16 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, SOURCE,
           "STUCK for 16 s: source is not connected since 12:01:41 UTC: connection refused");
}

static void kafka_has_never_been_connected(void **state)
{
    (void)state;
    at = T0 + 5 * FMS_SECOND;
    settle_all();
    for (size_t i = 0; i < STAGES; i++)
        now->view.stages[i].last_at = 0;
    never_linked(KAFKA, "no broker answers");
    judge(true);
    expect(VERDICT_STARTING, false, KAFKA, "Starting: sink kafka has not connected yet: no broker answers");
    later(11 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, KAFKA, "STUCK for 16 s: sink kafka has not connected yet: no broker answers");
}

/* A link of which its plugin has not yet said a word. */
static void a_link_without_a_word_is_down_since_the_start(void **state)
{
    (void)state;
    at = T0 + 5 * FMS_SECOND;
    settle_all();
    now->view.stages[SOURCE].last_at = 0;
    now->view.stages[SOURCE].link = (struct link_state){.is_up = false};
    judge(true);
    expect(VERDICT_STARTING, false, SOURCE, "Starting: source has not connected yet");
    later(11 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, SOURCE, "STUCK for 16 s: source has not connected yet");
}

static void dead_letters_are_away_while_all_flows(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    flow();
    unlink_stage(LETTERS, "no broker answers");
    later(60 * FMS_SECOND);
    flow();
    judge(false);
    expect(VERDICT_FLOWING, false, -1,
           "Flowing: 5,012/s in, 5,010/s confirmed, oldest unconfirmed 4 ms; dead_letter is not connected since "
           "12:01:41 UTC: no"
           " broker answers");
    later(FMS_SECOND);
    flow();
    now->view.stages[LETTERS].held = 7;
    now->view.stages[LETTERS].oldest_at = at - 16 * FMS_SECOND;
    judge(false);
    expect(
        VERDICT_STUCK, false, LETTERS,
        "STUCK for 16 s: dead_letter has confirmed nothing yet and holds 7 records: not connected: no broker answers");
}

/* Of several that do not move, the one whose far end is away is named. */
static void the_gravest_is_named(void **state)
{
    (void)state;
    now->view.stages[FILE_SINK].oldest_at = at - 5 * FMS_SECOND;
    now->view.stages[FILE_SINK].held = 500;
    judge(true);
    later(60 * FMS_SECOND);
    judge(false);
    assert_int_equal(now->health.held_by, FILE_SINK); /* it holds the oldest */
    later(FMS_SECOND);
    unlink_stage(KAFKA, "gone");
    judge(false);
    assert_int_equal(now->health.held_by, KAFKA);
    later(FMS_SECOND);
    now->view.stages[FILE_SINK].is_dead = true;
    judge(false);
    assert_int_equal(now->health.held_by, FILE_SINK);
    expect_unready(FILE_SINK, "has failed, or has finished");
}

/* ---------------------------------------------------------------------------------------------------- begin and end */

static void before_it_begins(void **state)
{
    (void)state;
    settle_all();
    now->view.started_at = 0;
    now->view.stage_count = 0;
    health_judge(now, NULL, at, NOON);
    expect(VERDICT_STARTING, false, -1, "Starting: its stages are being opened");
}

/* A look for which there was no memory shows no stages. */
static void without_stages(void **state)
{
    (void)state;
    settle_all();
    now->view.stage_count = 0;
    now->view.stages = NULL;
    judge(true);
    expect(VERDICT_IDLE, true, -1, "Idle: nothing has come yet, nothing is held");
    now->has_answered = false;
    now->answered_at = 0;
    health_judge(now, NULL, T0 + 11 * FMS_SECOND, NOON + 11 * FMS_SECOND);
    assert_string_equal(now->health.sentence,
                        "STUCK for 11 s: the lane has not answered since 12:00:00 UTC; the log names the"
                        " call that holds it");
}

static void it_drains(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    now->view.state = PIPELINE_STOPPING;
    unlink_stage(SOURCE, "closed");
    judge(false);
    expect(VERDICT_DRAINING, false, KAFKA,
           "Draining: 20 records still unconfirmed, the oldest for 1.0 s; sink kafka holds 20 records");
    later(FMS_SECOND);
    now->view.state = PIPELINE_DRAINING;
    settle_all();
    judge(false);
    expect(VERDICT_DRAINING, false, -1, "Draining: everything is confirmed");
    assert_int_equal(now->health.since, at - FMS_SECOND);
}

/* One that has ended does not answer, and need not. */
static void it_has_ended(void **state)
{
    (void)state;
    settle_all();
    judge(true);
    later(60 * FMS_SECOND);
    now->has_answered = false;
    now->view.state = PIPELINE_ENDED;
    health_judge(now, &looks[turn ^ 1], at, NOON);
    expect(VERDICT_STOPPED, false, -1, "Stopped: nothing is left unconfirmed");
    now->view.left = 1;
    health_judge(now, &looks[turn ^ 1], at, NOON);
    expect(VERDICT_STOPPED, false, -1, "Stopped: 1 record left unconfirmed");
}

static void it_has_failed(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    now->view.has_failed = true;
    now->view.state = PIPELINE_DRAINING;
    now->view.stages[KAFKA].is_dead = true;
    judge(false);
    expect(VERDICT_FAILED, false, KAFKA, "FAILED: sink kafka has failed, 20 records left unconfirmed");
    later(FMS_SECOND);
    now->view.state = PIPELINE_ENDED;
    now->view.left = 3;
    judge(false);
    expect(VERDICT_FAILED, false, KAFKA, "FAILED: sink kafka has failed, 3 records left unconfirmed");
}

/* Another process does what it did: the source is let go, and this is what has to be seen. */
static void it_stands_still(void **state)
{
    (void)state;
    judge(true);
    later(FMS_SECOND);
    now->view.stands_still = true;
    now->view.state = PIPELINE_DRAINING;
    unlink_stage(KAFKA, "another process has taken over its id");
    now->view.stages[KAFKA].is_dead = true;
    judge(false);
    later(3 * FMS_SECOND);
    judge(false);
    expect(VERDICT_STUCK, false, KAFKA,
           "STUCK for 3.0 s: sink kafka is not connected since 12:01:41 UTC: another process has taken over its id");
}

/* Far more is told than there is room for. */
static void what_is_long_is_cut(void **state)
{
    (void)state;
    later(FMS_SECOND);
    unlink_stage(LETTERS, "");
    memset(now->view.stages[LETTERS].link.why, 'y', sizeof now->view.stages[LETTERS].link.why - 1);
    now->view.stages[KAFKA].held = SIZE_MAX;
    now->received_rate = 1e18;
    judge(true);
    assert_true(strlen(now->health.sentence) < sizeof now->health.sentence);
    assert_memory_equal(now->health.sentence, "Flowing: 1,000,000,000,000,000,000/s in", 39);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_flows, one_that_flows),
        cmocka_unit_test_setup(nothing_comes, one_that_flows),
        cmocka_unit_test_setup(nothing_has_ever_come, one_that_flows),
        cmocka_unit_test_setup(a_transform_keeps_records_and_means_it, one_that_flows),
        cmocka_unit_test_setup(it_is_full_and_flows, one_that_flows),
        cmocka_unit_test_setup(it_is_full_and_late_and_flows, one_that_flows),
        cmocka_unit_test_setup(kafka_confirms_nothing, one_that_flows),
        cmocka_unit_test_setup(a_record_after_a_long_silence_is_not_stuck, one_that_flows),
        cmocka_unit_test_setup(yesterday_has_a_date, one_that_flows),
        cmocka_unit_test_setup(one_of_two_sinks_is_stuck, one_that_flows),
        cmocka_unit_test_setup(a_sink_takes_none, one_that_flows),
        cmocka_unit_test_setup(one_that_has_ended_well_is_asked_no_more, one_that_flows),
        cmocka_unit_test_setup(one_that_goes_is_asked_no_more, one_that_flows),
        cmocka_unit_test_setup(one_record_is_never_confirmed, one_that_flows),
        cmocka_unit_test_setup(a_transform_keeps_all_that_there_is_room_for, one_that_flows),
        cmocka_unit_test_setup(its_lane_does_not_answer, one_that_flows),
        cmocka_unit_test_setup(the_source_is_not_connected, one_that_flows),
        cmocka_unit_test_setup(kafka_has_never_been_connected, one_that_flows),
        cmocka_unit_test_setup(a_link_without_a_word_is_down_since_the_start, one_that_flows),
        cmocka_unit_test_setup(dead_letters_are_away_while_all_flows, one_that_flows),
        cmocka_unit_test_setup(the_gravest_is_named, one_that_flows),
        cmocka_unit_test_setup(before_it_begins, one_that_flows),
        cmocka_unit_test_setup(without_stages, one_that_flows),
        cmocka_unit_test_setup(it_drains, one_that_flows),
        cmocka_unit_test_setup(it_has_ended, one_that_flows),
        cmocka_unit_test_setup(it_has_failed, one_that_flows),
        cmocka_unit_test_setup(it_stands_still, one_that_flows),
        cmocka_unit_test_setup(what_is_long_is_cut, one_that_flows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
