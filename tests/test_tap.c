/* test_tap.c - what is copied where, what is dropped, and that the lane waits for nobody.
 *
 * The lane is entered by the test's own thread, record by record. tap.c is a part of this file, so that a test can hold its lock. */
#include "tap.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "call.h"
#include "host.h"
#include "lane.h"
#include "log.h"
#include "settle.h"

#define PATIENCE 60 /* seconds until a test that hangs is killed */

static struct {
    struct pipeline pipeline;
    struct stage stages[6];
    struct plugin plugins[6];
    struct {
        const struct fms_host *host;
    } instances[6];
    size_t offered; /* to sinks */
} rig;

static int no_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance;
    (void)credit;
    (void)wait;
    return FMS_END;
}

/* "drop" and "bad" are what the topic says, whatever else passes. */
static enum fms_verdict judge(void *instance, const struct fms_record *record)
{
    const struct fms_host *host = *(const struct fms_host **)instance;

    if (strcmp(record->topic.data, "drop") == 0)
        return FMS_DROP;
    if (strcmp(record->topic.data, "bad") == 0)
        return fms_reject(host, record, "it is no good");
    return FMS_PASS;
}

static int deliver_all(void *instance, const struct fms_record *const *records, size_t count)
{
    const struct fms_host *host = *(const struct fms_host **)instance;

    for (size_t i = 0; i < count; i++) {
        rig.offered++;
        if (strcmp(records[i]->topic.data, "refused") == 0 && instance == &rig.instances[4]) /* "sink kafka" */
            fms_reject(host, records[i], "refused");
        else
            fms_delivered(host, records[i]);
    }
    return (int)count;
}

static const struct fms_plugin source_table = {.name = "s", .source_poll = no_poll};
static const struct fms_plugin transform_table = {.name = "t", .transform = judge};
static const struct fms_plugin sink_table = {.name = "k", .sink_write = deliver_all};

static void add(enum fms_role role, const char *name, const struct fms_plugin *table)
{
    size_t i = rig.pipeline.stage_count;
    struct stage *stage = &rig.stages[i];

    rig.plugins[i].table = *table;
    *stage = (struct stage){.pipeline = &rig.pipeline,
                            .plugin = &rig.plugins[i],
                            .name = (char *)(uintptr_t)name,
                            .instance = &rig.instances[i],
                            .wait = {-1, 0, FMS_NEVER},
                            .is_open = true};
    pipeline_add(&rig.pipeline, stage, role);
    host_fill(stage, role);
    rig.instances[i].host = &stage->host;
}

static void no_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)user;
    (void)level;
    (void)pipeline;
    (void)stage;
    (void)text;
}

static int setup(void **state)
{
    int error;

    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.pipeline.options.name = "rig";
    rig.pipeline.options.max_in_flight = 1000;
    rig.pipeline.options.max_in_flight_bytes = 1 << 20;
    rig.pipeline.options.retry_min = rig.pipeline.options.retry_max = FMS_MS;
    rig.pipeline.options.drain_timeout = FMS_SECOND;
    rig.pipeline.paths = json_paths_new();
    rig.pipeline.is_measured = true;
    log_redirect(no_log, NULL);
    alarm(PATIENCE);
    error = pipeline_init(&rig.pipeline);
    add(FMS_SOURCE, "source", &source_table);
    add(FMS_TRANSFORM, "transform check", &transform_table);
    add(FMS_TRANSFORM, "transform twice", &transform_table);
    add(FMS_SINK, "sink twice", &sink_table);
    add(FMS_SINK, "sink kafka", &sink_table);
    add(FMS_DEAD_LETTER, "dead_letter", &sink_table);
    pipeline_layout(&rig.pipeline);
    return error;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(rig.pipeline.in_flight, 0);
    settle_abandon(&rig.pipeline);
    pipeline_destroy(&rig.pipeline);
    json_paths_free(rig.pipeline.paths);
    log_redirect(NULL, NULL);
    return 0;
}

static void emit_record(const struct fms_record *draft)
{
    lane_enter(&rig.pipeline);
    assert_int_equal(fms_emit(rig.instances[0].host, draft), 0);
    lane_leave(&rig.pipeline);
}

static void emit(const char *topic)
{
    struct fms_record draft = {.topic = fms_text(topic), .payload = fms_text("payload")};

    emit_record(&draft);
}

static struct tap *opened(const char *stage, enum tap_point point, uint64_t limit, uint64_t rate)
{
    struct tap_wish wish = {stage, point, limit, rate};
    struct tap *tap = NULL;

    assert_int_equal(tap_open(&rig.pipeline, &wish, &tap), 0);
    return tap;
}

/* The topics that it has, each with a blank behind it. */
static const char *topics(struct tap *tap)
{
    static char text[256];
    struct tapped record;
    size_t n = 0;

    text[0] = '\0';
    while (tap_read(tap, &record) == 1)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", (const char *)record.record.topic.data);
    return text;
}

/* ----------------------------------------------------------------------------------------------------------- places */

static void each_place_has_what_passes_it(void **state)
{
    static const struct {
        const char *stage;
        enum tap_point point;
        const char *passes;
    } places[] = {
        {"source", TAP_OUT, "a drop bad refused b "},
        {"source", TAP_IN, "a drop bad refused b "}, /* where it has none it is the other */
        {"transform check", TAP_IN, "a drop bad refused b "},
        {"check", TAP_OUT, "a refused b "},
        {"transform twice", TAP_IN, "a refused b "},
        {"check", TAP_DEAD, "bad "},
        {"kafka", TAP_IN, "a refused b "},
        {"sink kafka", TAP_OUT, "a b "},
        {"sink kafka", TAP_DEAD, "refused "},
        {"dead_letter", TAP_IN, "bad refused "},
        {"dead_letter", TAP_OUT, "bad refused "},
        {"dead_letter", TAP_DEAD, ""},
        {"source", TAP_DEAD, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct tap *tap = opened(places[i].stage, places[i].point, 0, 0);

        emit("a");
        emit("drop");
        emit("bad");
        emit("refused");
        emit("b");
        assert_string_equal(topics(tap), places[i].passes);
        assert_int_equal(tap_dropped(tap), 0);
        tap_close(tap);
    }
}

static void a_stage_is_named_in_full_or_in_short(void **state)
{
    struct tap_wish wish = {"twice", TAP_IN, 0, 0};
    struct tap *tap;

    (void)state;
    assert_int_equal(tap_open(&rig.pipeline, &wish, &tap), -ENOTUNIQ);
    wish.stage = "kafak";
    assert_int_equal(tap_open(&rig.pipeline, &wish, &tap), -ENOENT);
    wish.stage = "";
    assert_int_equal(tap_open(&rig.pipeline, &wish, &tap), -ENOENT);
    tap_close(opened("kafka", TAP_IN, 0, 0));
    tap_close(opened("sink twice", TAP_IN, 0, 0));
}

static void a_copy_has_all_but_the_end_of_a_large_payload(void **state)
{
    static char large[TAP_PAYLOAD + 1000];
    struct fms_header headers[] = {{"one", fms_text("first")}, {"none", fms_bytes_of(NULL, 0)}, {"one", fms_text("")}};
    struct fms_record draft = {.topic = fms_text("a/b"),
                               .payload = fms_bytes_of(large, sizeof large),
                               .headers = headers,
                               .header_count = 3,
                               .timestamp = 1234567890123456789};
    struct tap *tap = opened("source", TAP_OUT, 0, 0), *dead = opened("check", TAP_DEAD, 0, 0);
    struct tapped record;

    (void)state;
    memset(large, 'x', sizeof large);
    emit_record(&draft);
    draft.key = fms_text("");
    draft.payload = fms_bytes_of("\0\xff", 2);
    emit_record(&draft);
    emit("bad");

    assert_int_equal(tap_read(tap, &record), 1);
    assert_string_equal(record.record.topic.data, "a/b");
    assert_null(record.record.key.data);
    assert_int_equal(record.record.payload.size, TAP_PAYLOAD);
    assert_memory_equal(record.record.payload.data, large, TAP_PAYLOAD);
    assert_int_equal(record.payload_size, sizeof large);
    assert_int_equal(record.record.timestamp, 1234567890123456789);
    assert_int_equal(record.record.header_count, 3);
    assert_string_equal(record.record.headers[0].name, "one");
    assert_string_equal(record.record.headers[0].value.data, "first");
    assert_null(record.record.headers[1].value.data);
    assert_string_equal(record.record.headers[2].value.data, "");
    assert_null(record.reason);

    assert_int_equal(tap_read(tap, &record), 1);
    assert_non_null(record.record.key.data);
    assert_int_equal(record.record.key.size, 0);
    assert_int_equal(record.record.payload.size, 2);
    assert_memory_equal(record.record.payload.data, "\0\xff", 2);
    assert_int_equal(record.payload_size, 2);

    assert_int_equal(tap_read(dead, &record), 1);
    assert_string_equal(record.reason, "it is no good");
    tap_close(tap);
    tap_close(dead);
}

/* ----------------------------------------------------------------------------------------------------------- bounds */

static void what_finds_no_room_is_dropped_and_counted(void **state)
{
    static char payload[10000];
    struct fms_record draft = {.topic = fms_text("t"), .payload = fms_bytes_of(payload, sizeof payload)};
    struct tap *tap = opened("kafka", TAP_OUT, 0, 0);
    struct tapped record;
    size_t passed = 0, read = 0;

    (void)state;
    while (tap_dropped(tap) < 3) {
        emit_record(&draft);
        passed++;
        assert_true(passed * sizeof payload < TAP_ROOM + 10 * sizeof payload);
    }
    while (tap_read(tap, &record) == 1)
        read++;
    assert_int_equal(read, passed - 3);
    emit_record(&draft);
    assert_int_equal(tap_read(tap, &record), 1); /* there is room again */
    assert_int_equal(tap_dropped(tap), 3);
    tap_close(tap);
}

static void a_reader_at_its_lock_holds_nobody_up(void **state)
{
    struct tap *tap = opened("kafka", TAP_IN, 0, 0), *other = opened("kafka", TAP_OUT, 0, 0);
    size_t offered = rig.offered;

    (void)state;
    pthread_mutex_lock(&tap->lock); /* the lane would hang here, and so would the test */
    emit("a");
    emit("b");
    pthread_mutex_unlock(&tap->lock);
    assert_int_equal(rig.offered, offered + 4); /* to two sinks */
    assert_int_equal(tap_dropped(tap), 2);
    assert_string_equal(topics(other), "a b ");
    emit("c");
    assert_string_equal(topics(tap), "c ");
    tap_close(tap);
    tap_close(other);
}

static void a_limit_ends_it(void **state)
{
    struct tap *tap = opened("source", TAP_OUT, 2, 0);
    struct tapped record;

    (void)state;
    assert_int_equal(tap_read(tap, &record), 0);
    emit("a");
    emit("b");
    emit("c");
    assert_string_equal(topics(tap), "a b ");
    assert_int_equal(tap_read(tap, &record), -ESHUTDOWN);
    assert_int_equal(tap_dropped(tap), 0);
    tap_close(tap);
}

static void a_rate_passes_records_over(void **state)
{
    struct tap *tap;

    (void)state;
    clock_set(FMS_SECOND, 0);
    tap = opened("source", TAP_OUT, 0, 2);
    for (int second = 1; second < 4; second++) {
        clock_move(second * FMS_SECOND);
        emit("a");
        emit("b");
        emit("c");
        clock_move(second * FMS_SECOND + FMS_SECOND - 1);
        emit("d");
        assert_string_equal(topics(tap), "a b ");
    }
    assert_int_equal(tap_dropped(tap), 0);
    tap_close(tap);
    clock_set(-1, 0);
}

static void there_are_four_at_most(void **state)
{
    struct tap *open[TAPS_MOST];
    struct tap_wish wish = {"source", TAP_OUT, 0, 0};
    struct tap *tap;

    (void)state;
    for (size_t i = 0; i < TAPS_MOST; i++)
        open[i] = opened("source", TAP_OUT, 0, 0);
    assert_int_equal(tap_open(&rig.pipeline, &wish, &tap), -EBUSY);
    emit("a");
    for (size_t i = 0; i < TAPS_MOST; i++)
        assert_string_equal(topics(open[i]), "a ");
    tap_close(open[1]);
    assert_int_equal(tap_open(&rig.pipeline, &wish, &open[1]), 0);
    assert_string_equal(topics(open[1]), ""); /* what the one before it has seen is gone */
    emit("b");
    for (size_t i = 0; i < TAPS_MOST; i++) {
        assert_string_equal(topics(open[i]), "b ");
        tap_close(open[i]);
    }
    assert_int_equal(rig.pipeline.taps, 0);
}

static void the_end_of_the_pipeline_is_told_behind_its_last_record(void **state)
{
    struct tap *tap = opened("source", TAP_OUT, 0, 0);
    struct tapped record;

    (void)state;
    emit("a");
    lane_run(&rig.pipeline); /* its source ends at once */
    assert_int_equal(tap_read(tap, &record), 1);
    assert_int_equal(tap_read(tap, &record), -ESHUTDOWN);
    assert_int_equal(tap_read(tap, &record), -ESHUTDOWN);
    tap_close(tap);
    tap = opened("source", TAP_OUT, 0, 0); /* it is late */
    assert_int_equal(tap_read(tap, &record), -ESHUTDOWN);
    tap_close(tap);
}

/* ---------------------------------------------------------------------------------------------------------- threads */

#define MANY 20000u

static _Atomic bool is_through;

/* Taps come and go, at the place where records pass and beside it. */
static void *come_and_go(void *user)
{
    struct tap_wish wish = {"sink kafka", TAP_IN, 0, 0};
    struct tapped record;
    struct tap *tap;

    while (!is_through) {
        if (tap_open(&rig.pipeline, &wish, &tap) != 0)
            continue;
        tap_read(tap, &record);
        tap_close(tap);
        wish.point = wish.point == TAP_IN ? TAP_OUT : TAP_IN;
    }
    return user;
}

static void *read_all(void *user)
{
    static uint64_t read;
    struct tapped record;
    bool is_last;

    read = 0;
    do {
        is_last = is_through; /* before the look */
        while (tap_read(user, &record) == 1)
            read++;
    } while (!is_last);
    return &read;
}

/* Each record is read or counted as dropped, whoever else is at it. */
static void readers_and_the_lane_get_along(void **state)
{
    struct tap *tap = opened("sink kafka", TAP_OUT, 0, 0);
    pthread_t reader, guest;
    void *read;

    (void)state;
    is_through = false;
    assert_int_equal(pthread_create(&reader, NULL, read_all, tap), 0);
    assert_int_equal(pthread_create(&guest, NULL, come_and_go, NULL), 0);
    for (size_t i = 0; i < MANY; i++)
        emit("a");
    is_through = true;
    pthread_join(reader, &read);
    pthread_join(guest, NULL);
    assert_int_equal(*(uint64_t *)read + tap_dropped(tap), MANY);
    assert_true(*(uint64_t *)read > 0);
    assert_int_equal(rig.offered, 2 * MANY);
    tap_close(tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_place_has_what_passes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stage_is_named_in_full_or_in_short, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_has_all_but_the_end_of_a_large_payload, setup, teardown),
        cmocka_unit_test_setup_teardown(what_finds_no_room_is_dropped_and_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_at_its_lock_holds_nobody_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rate_passes_records_over, setup, teardown),
        cmocka_unit_test_setup_teardown(there_are_four_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_the_pipeline_is_told_behind_its_last_record, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_and_the_lane_get_along, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
