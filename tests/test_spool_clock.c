/* test_spool_clock.c - a spool on a machine without a clock: what was stored before it was set is mended, or marked, whatever the clock did and
 * whenever the machine started anew. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail

#include <lmdb.h>

#include "fms_test.h"

#define UTC   (INT64_C(1795960800) * FMS_SECOND + 123456789) /* when the machine started, in truth */
#define YEARS (INT64_C(365) * 86400 * FMS_SECOND)

#define MARK ",\"clock\":\"unset\"}" /* at the end of a payload */

static char folder[] = "/tmp/fms-spool-clock-XXXXXX";
static char path[64];

/* Each test has a directory of its own. */
static int fresh(void **state)
{
    static int n;

    (void)state;
    snprintf(path, sizeof path, "%s/%d", folder, n++);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ driving */

/* A clock, as it stands at an uptime. */
struct stand {
    int64_t uptime, offset;
    enum fms_clock_state state;
    uint64_t boot;
};

static void set_clock(struct fake *f, struct stand stand)
{
    fake_clock_set(f, stand.uptime, stand.uptime + stand.offset);
    fake_clock_know(f, stand.state, stand.boot);
}

static struct fake *open_face(enum fms_role role, const char *more, struct stand stand)
{
    struct fake *f;
    char text[256];

    snprintf(text, sizeof text, "path = %s\nsync = off\n%s", path, more);
    f = fake_check("spool", role, text);
    set_clock(f, stand);
    assert_int_equal(fake_start(f), 0);
    return f;
}

static struct fake *open_sink(struct stand stand)
{
    return open_face(FMS_SINK, "clock = checked\n", stand);
}

static struct fake *open_source(struct stand stand)
{
    return open_face(FMS_SOURCE, "clock_field = timestamp\n", stand);
}

/* The sample that a vehicle makes at that time. */
static const char *sample(int64_t realtime, int n)
{
    static char text[128];

    snprintf(text, sizeof text, "{ \"n\":%d,\"timestamp\": %lld ,\"speed\":56.650}", n,
             (long long)(realtime / FMS_SECOND));
    return text;
}

static size_t add(struct fake *f, int n)
{
    return fake_add(f, "fms/data", "raspi-001", sample(fms_realtime(fake_host(f)), n));
}

static void put(struct fake *f, int n)
{
    size_t i = add(f, n);

    assert_int_equal(fake_write(f), 1);
    assert_int_equal(fake_fate(f, i), FMS_DELIVERED);
}

static bool is_marked(struct fake *f, size_t i)
{
    const struct fms_record *record = fake_record(f, i);
    bool by_header = record->header_count == 1 && strcmp(record->headers[0].name, "clock") == 0 &&
                     record->headers[0].value.size == 5 && memcmp(record->headers[0].value.data, "unset", 5) == 0;
    const char *end = (const char *)record->payload.data + record->payload.size - strlen(MARK);
    bool by_payload = record->payload.size >= strlen(MARK) && strcmp(end, MARK) == 0;

    assert_int_equal(by_header, by_payload);
    return by_header;
}

/* Record i is the one made at that true time, to the nanosecond, and its payload differs in nothing else. */
static void assert_made_at(struct fake *f, size_t i, int n, int64_t time)
{
    assert_string_equal(fake_record(f, i)->payload.data, sample(time, n));
    assert_int_equal(fake_record(f, i)->payload.size, strlen(sample(time, n)));
    assert_int_equal(fake_record(f, i)->timestamp, time);
    assert_int_equal(fake_record(f, i)->header_count, 0);
    assert_null(fake_rejected(f, i));
}

static void assert_is_marked(struct fake *f, size_t i, int n)
{
    char text[16];

    assert_true(is_marked(f, i));
    assert_int_equal(fake_record(f, i)->timestamp, 0);
    snprintf(text, sizeof text, "{ \"n\":%d,", n);
    assert_memory_equal(fake_record(f, i)->payload.data, text, strlen(text));
}

#define AT(seconds) (UTC + (seconds)*FMS_SECOND)

static struct stand unknown(int64_t seconds, int64_t offset, uint64_t boot)
{
    return (struct stand){seconds * FMS_SECOND, offset, FMS_CLOCK_UNKNOWN, boot};
}

static struct stand right(int64_t seconds, uint64_t boot)
{
    return (struct stand){seconds * FMS_SECOND, UTC, FMS_CLOCK_RIGHT, boot};
}

/* ----------------------------------------------------------------------------------------------------------- the clock */

static void test_set_while_it_runs(void **state)
{
    struct fake *sink = open_sink(unknown(10, FMS_SECOND / 2, 1)), *source;

    (void)state;
    put(sink, 0);
    fake_clock_step(sink, 5 * FMS_SECOND);
    put(sink, 1);
    set_clock(sink, right(16, 1));
    put(sink, 2);
    assert_non_null(
        fake_said(sink, "info: the clock is known now: it was 20786 days behind; at most 2 records are mended"));
    source = open_source(right(17, 1));
    fake_until(source, fake_emitted(source) == 3);
    assert_made_at(source, 0, 0, AT(10));
    assert_made_at(source, 1, 1, AT(15));
    assert_made_at(source, 2, 2, AT(16));
    assert_int_equal(fake_counter(source, "mended"), 2);
    assert_int_equal(fake_counter(source, "unset"), 0);
    fake_close(source);
    fake_close(sink);
}

/* The clock of the first start became known in it; the second one has none yet. */
static void test_mended_after_the_next_start(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;

    (void)state;
    put(sink, 0);
    set_clock(sink, right(70, 1));
    assert_int_equal(fake_poll(sink, 0), 0); /* without another record */
    fake_close(sink);
    source = open_source(unknown(3, 0, 2));
    fake_until(source, fake_emitted(source) == 1);
    assert_made_at(source, 0, 0, AT(10));
    fake_close(source);
}

/* What trusts its clock, or was stored by a version that knows no eras, stays as it is between what does not. */
static void test_trusted_entries_stay(void **state)
{
    struct fake *sink = open_face(FMS_SINK, "", unknown(10, 0, 1)), *source;

    (void)state;
    put(sink, 0);
    fake_close(sink);
    sink = open_sink(unknown(20, 0, 1));
    put(sink, 1);
    fake_close(sink);
    sink = open_face(FMS_SINK, "", unknown(30, 0, 1));
    put(sink, 2);
    source = open_source(right(40, 1));
    fake_until(source, fake_emitted(source) == 3);
    assert_made_at(source, 0, 0, 10 * FMS_SECOND);
    assert_made_at(source, 1, 1, AT(20));
    assert_made_at(source, 2, 2, 30 * FMS_SECOND);
    fake_close(source);
    fake_close(sink);
}

/* Nobody knows any more what the time was: nothing is waited for. */
static void test_never_set_is_marked(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;

    (void)state;
    put(sink, 0);
    put(sink, 1);
    fake_close(sink);
    sink = open_sink(right(20, 2));
    put(sink, 2);
    source = open_source(right(20, 2));
    assert_int_equal(fake_poll(source, 10), 0);
    assert_int_equal(fake_emitted(source), 3);
    assert_is_marked(source, 0, 0);
    assert_is_marked(source, 1, 1);
    assert_made_at(source, 2, 2, AT(20));
    assert_int_equal(fake_counter(source, "unset"), 2);
    assert_int_equal(fake_count_said(source, "warning: records are handed on whose time is not known"), 1);
    fake_close(source);
    fake_close(sink);
}

/* While the clock may yet be set, records wait, those behind them too; and the source itself sees it. */
static void test_waits_for_the_clock(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source = open_source(unknown(10, 0, 1));

    (void)state;
    put(sink, 0);
    fake_close(sink);
    for (int i = 0; i < 59; i++) {
        assert_int_equal(fake_poll(source, 10), 0);
        assert_true(fake_waits_for(source)->deadline <= fms_now(fake_host(source)) + FMS_SECOND);
        fake_clock_step(source, FMS_SECOND);
    }
    assert_int_equal(fake_emitted(source), 0);
    set_clock(source, right(69, 1));
    assert_int_equal(fake_poll(source, 10), 0);
    assert_made_at(source, 0, 0, AT(10));
    assert_non_null(fake_said(source, "at most 1 records are mended"));
    fake_close(source);
    source = open_source(unknown(1, 0, 2)); /* it has kept that */
    fake_until(source, fake_emitted(source) == 1);
    assert_made_at(source, 0, 0, AT(10));
    fake_close(source);
}

/* Not for ever; and what a link that is down does not take may be mended yet. */
static void test_waits_no_longer(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source = open_source(unknown(10, 0, 1));

    (void)state;
    for (int i = 0; i < 100; i++)
        put(sink, i);
    assert_int_equal(fake_poll(source, 100), 0);
    fake_clock_step(source, 60 * FMS_SECOND);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fake_poll(source, 100), 0);
    assert_int_equal(fake_emitted(source), 16);
    for (size_t i = 0; i < 16; i++) {
        size_t woken = fake_woken(source);

        fake_settle(source, i, FMS_DELIVERED);
        assert_true(fake_woken(source) > woken);
        assert_int_equal(fake_poll(source, 100), 0);
        assert_int_equal(fake_emitted(source), 17 + i); /* it goes on */
    }
    fake_clock_step(source, 3600 * FMS_SECOND); /* the link is down for an hour */
    fake_settle_all(source, FMS_DELIVERED);
    assert_int_equal(fake_poll(source, 100), 0);
    assert_int_equal(fake_emitted(source), 32); /* it is back, and perhaps the clock will be */
    set_clock(source, right(3680, 1));
    fake_until(source, fake_emitted(source) == 100);
    for (int i = 0; i < 100; i++) {
        if (i < 32)
            assert_is_marked(source, (size_t)i, i);
        else
            assert_made_at(source, (size_t)i, i, AT(10));
    }
    fake_close(source);
    fake_close(sink);
}

static void test_jumps(void **state)
{
    static const int64_t offsets[] = {0, 50 * YEARS, -10 * FMS_SECOND, 56 * YEARS, 150 * FMS_MS};
    struct fake *sink = open_sink(unknown(100, 0, 1)), *source;
    int n = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        set_clock(sink, unknown(100 + 10 * i, offsets[i], 1));
        put(sink, n++);
        fake_clock_step(sink, FMS_SECOND);
        put(sink, n++);
    }
    set_clock(sink, right(200, 1));
    put(sink, n);
    source = open_source(right(200, 1));
    fake_until(source, fake_emitted(source) == 11);
    for (int i = 0; i < 10; i++)
        assert_made_at(source, (size_t)i, i, AT(100 + 10 * (i / 2) + i % 2));
    assert_made_at(source, 10, 10, AT(200));
    fake_close(source);
    fake_close(sink);
}

/* The clock was right and is set wrong by hand: what comes then is mended by what it was. */
static void test_set_wrong(void **state)
{
    struct fake *sink = open_sink(right(100, 1)), *source;

    (void)state;
    put(sink, 0);
    set_clock(sink, unknown(101, UTC - 3 * YEARS, 1));
    put(sink, 1);
    source = open_source(unknown(102, UTC - 3 * YEARS, 1));
    fake_until(source, fake_emitted(source) == 2);
    assert_made_at(source, 0, 0, AT(100));
    assert_made_at(source, 1, 1, AT(101));
    fake_close(source);
    fake_close(sink);
}

/* A record that was made before the jump, and is stored after it. */
static void test_made_before_a_jump_stored_after_it(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;

    (void)state;
    add(sink, 0);
    set_clock(sink, right(11, 1));
    add(sink, 1);
    fake_until(sink, fake_write(sink) >= 0 && fake_count_fate(sink, FMS_DELIVERED) == 2);
    source = open_source(right(12, 1));
    fake_until(source, fake_emitted(source) == 2);
    assert_made_at(source, 0, 0, AT(10));
    assert_made_at(source, 1, 1, AT(11));
    fake_close(source);
    fake_close(sink);
}

/* A time that this machine's clock never had is not its to mend: that of a log, of a sender. */
static void test_times_of_others_stay(void **state)
{
    struct fms_record draft = {.payload = fms_text("{\"timestamp\":1436509052}"),
                               .timestamp = INT64_C(1436509052) * FMS_SECOND};
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;

    (void)state;
    fake_add_record(sink, &draft);
    assert_int_equal(fake_write(sink), 1);
    set_clock(sink, right(20, 1));
    fake_add_record(sink, &draft);
    assert_int_equal(fake_write(sink), 1);
    source = open_source(unknown(10, 0, 1));
    assert_int_equal(fake_poll(source, 10), 0);
    assert_int_equal(fake_emitted(source), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(fake_record(source, i)->payload.data, "{\"timestamp\":1436509052}");
        assert_int_equal(fake_record(source, i)->timestamp, draft.timestamp);
        assert_int_equal(fake_record(source, i)->header_count, 0);
    }
    fake_close(source);
    fake_close(sink);
}

/* A bus tells a time, ten seconds off; the system knows better later. */
static void test_told_and_then_known(void **state)
{
    struct stand told = {10 * FMS_SECOND, UTC + 10 * FMS_SECOND, FMS_CLOCK_TOLD, 1};
    struct fake *sink = open_sink(unknown(5, 0, 1)), *source;

    (void)state;
    put(sink, 0);
    set_clock(sink, told);
    put(sink, 1);
    fake_measure(sink);
    assert_true(fake_gauge(sink, "clock") == 1);
    source = open_source(unknown(10, 0, 1));
    assert_int_equal(fake_poll(source, 10), 0);
    assert_int_equal(fake_emitted(source), 2);
    assert_made_at(source, 0, 0, AT(15));
    assert_made_at(source, 1, 1, AT(20));
    fake_close(source);
    set_clock(sink, right(20, 1));
    put(sink, 2);
    fake_measure(sink);
    assert_true(fake_gauge(sink, "clock") == 2);
    source = open_source(right(21, 1));
    fake_until(source, fake_emitted(source) == 3);
    assert_made_at(source, 1, 1, AT(10));
    assert_made_at(source, 2, 2, AT(20));
    fake_close(source);
    fake_close(sink);
}

/* What was wrong by less than 100 ms stays as it is; and so does a clock that was right, for a process that begins out of reach of its
 * servers. */
static void test_nothing_to_mend(void **state)
{
    struct stand near = {10 * FMS_SECOND, UTC + 50 * FMS_MS, FMS_CLOCK_UNKNOWN, 1};
    struct fake *sink = open_sink(near), *source;

    (void)state;
    put(sink, 0);
    set_clock(sink, right(20, 1));
    assert_int_equal(fake_poll(sink, 0), 0);
    assert_null(fake_said(sink, "the clock is known now"));
    fake_close(sink);
    sink = open_sink(unknown(40000, UTC, 1));
    put(sink, 1);
    fake_measure(sink);
    assert_true(fake_gauge(sink, "clock") == 2);
    source = open_source(unknown(1, 0, 2));
    assert_int_equal(fake_poll(source, 10), 0);
    assert_int_equal(fake_emitted(source), 2);
    assert_made_at(source, 0, 0, UTC + 10 * FMS_SECOND + 50 * FMS_MS);
    assert_made_at(source, 1, 1, AT(40000));
    assert_int_equal(fake_counter(source, "mended"), 0);
    fake_close(source);
    fake_close(sink);
}

/* ----------------------------------------------------------------------------------------------------------- its bounds */

/* A clock that jumps a thousand times costs bounded room: what has none is marked, in order, and all is as before once that is gone. */
static void test_a_thousand_jumps(void **state)
{
    struct stand told = {2000 * FMS_SECOND, UTC, FMS_CLOCK_TOLD, 1};
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;
    size_t mended = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        set_clock(sink, unknown(10 + i, i * FMS_SECOND, 1));
        put(sink, i);
    }
    set_clock(sink, told); /* what is known needs no room */
    put(sink, 1000);
    set_clock(sink, right(2000, 1));
    source = open_source(right(2000, 1));
    fake_until(source, fake_emitted(source) == 1001);
    for (int i = 0; i < 1000; i++) {
        if (is_marked(source, (size_t)i)) {
            assert_is_marked(source, (size_t)i, i);
        } else {
            assert_made_at(source, (size_t)i, i, AT(10 + i));
            mended++;
        }
    }
    assert_int_equal(mended, 256);
    assert_made_at(source, 1000, 1000, AT(2000));
    fake_settle_all(source, FMS_DELIVERED);
    fake_close(source);
    set_clock(sink, unknown(2001, 5000 * FMS_SECOND, 1));
    put(sink, 1001);
    source = open_source(right(2002, 1));
    fake_until(source, fake_emitted(source) == 1);
    assert_made_at(source, 0, 1001, AT(2001));
    fake_close(source);
    fake_close(sink);
}

/* One that jumps to and fro costs no more than two. */
static void test_to_and_fro(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        set_clock(sink, unknown(10 + i, i % 2 * YEARS, 1));
        put(sink, i);
    }
    set_clock(sink, right(2000, 1));
    put(sink, 1000);
    source = open_source(right(2000, 1));
    fake_until(source, fake_emitted(source) == 1001);
    for (int i = 0; i < 1000; i++)
        assert_made_at(source, (size_t)i, i, AT(10 + i));
    fake_close(source);
    fake_close(sink);
}

/* A start of the machine with two records, which ends by a crash. */
static void start_and_crash(int start)
{
    int stored[2], status;
    pid_t pid;
    char word;

    assert_int_equal(pipe(stored), 0);
    pid = fork();
    if (pid == 0) {
        struct fake *sink = open_sink(unknown(10, 0, (uint64_t)start));

        put(sink, 2 * start);
        set_clock(sink, start % 4 == 0 ? right(11, (uint64_t)start) : unknown(11, 0, (uint64_t)start));
        put(sink, 2 * start + 1);
        while (write(stored[1], "", 1) == 1)
            pause();
    }
    assert_int_equal(read(stored[0], &word, 1), 1);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(stored[0]);
    close(stored[1]);
}

/* 100 of these, of 25 of which the clock became known. */
static void test_killed_again_and_again(void **state)
{
    struct fake *source;

    (void)state;
    for (int i = 0; i < 100; i++)
        start_and_crash(i);
    source = open_source(right(10, 1000));
    fake_until(source, fake_emitted(source) == 200);
    for (int i = 0; i < 200; i++) {
        bool had_clock = i / 2 % 4 == 0;

        if (had_clock)
            assert_made_at(source, (size_t)i, i, AT(10 + i % 2));
        else
            assert_is_marked(source, (size_t)i, i);
    }
    fake_close(source);
}

/* A table that is none: what names an era of it is marked. */
static void test_the_table_is_damaged(void **state)
{
    static const unsigned char garbage[] = "not at all what it should be, but long enough to be taken for it";
    struct fake *sink = open_sink(unknown(10, 0, 1)), *source;
    MDB_val key = {4, "eras"}, value = {sizeof garbage, (void *)(uintptr_t)garbage};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;

    (void)state;
    put(sink, 0);
    fake_close(sink);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 2), 0);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    assert_int_equal(mdb_put(txn, meta, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    sink = open_sink(unknown(20, 0, 1));
    put(sink, 1);
    set_clock(sink, right(30, 1));
    put(sink, 2);
    source = open_source(right(30, 1));
    fake_until(source, fake_emitted(source) == 3);
    assert_is_marked(source, 0, 0);
    assert_made_at(source, 1, 1, AT(20));
    assert_made_at(source, 2, 2, AT(30));
    fake_close(source);
    fake_close(sink);
}

/* A clock that is right, or trusted, costs no byte. */
static void test_costs_nothing_where_it_is_right(void **state)
{
    double bytes[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fake *sink = open_face(FMS_SINK, i == 0 ? "" : "clock = checked\n",
                                      i == 2 ? unknown(10, 0, 1) : right(10, 1));

        put(sink, 0);
        fake_measure(sink);
        bytes[i] = fake_gauge(sink, "bytes");
        assert_true(fake_gauge(sink, "clock") == (i == 2 ? 0 : 2));
        fake_close(sink);
        fresh(NULL);
    }
    assert_true(bytes[0] > 0 && bytes[0] == bytes[1]);
    assert_true(bytes[2] < bytes[0] + 5); /* and its timestamp is shorter */
}

/* ------------------------------------------------------------------------------------------------------------- payloads */

/* Stores a payload at 1970-01-01 00:00:10.5, has the source hand it on when the clock is known, and compares. */
static void assert_mended(const char *options, const char *payload, const char *expected, bool is_mended)
{
    struct fms_record draft = {.payload = fms_text(payload), .timestamp = 10 * FMS_SECOND + FMS_SECOND / 2};
    struct stand stand = {11 * FMS_SECOND, 0, FMS_CLOCK_UNKNOWN, 1};
    struct fake *f;

    fresh(NULL);
    f = open_sink(stand);
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    set_clock(f, right(20, 1));
    assert_int_equal(fake_poll(f, 0), 0);
    fake_close(f);
    f = open_face(FMS_SOURCE, options, right(20, 1));
    assert_int_equal(fake_poll(f, 10), 0);
    assert_int_equal(fake_emitted(f), 1);
    assert_null(fake_rejected(f, 0));
    assert_string_equal(fake_record(f, 0)->payload.data, expected);
    assert_int_equal(fake_record(f, 0)->payload.size, strlen(expected));
    assert_int_equal(fake_record(f, 0)->timestamp,
                     draft.timestamp + UTC); /* the record's own time is known in any case */
    assert_int_equal(fake_record(f, 0)->header_count, is_mended ? 0 : 1);
    assert_int_equal(fake_counter(f, is_mended ? "mended" : "unset"), 1);
    fake_close(f);
}

/* 10.5 s behind the start are 1795960810.623456789. */
static void test_numbers_keep_their_form(void **state)
{
    static const struct {
        const char *unit, *before, *after;
    } cases[] = {
        {"s", "10", "1795960810"},
        {"s", "9", "1795960809"}, /* another time than the record's: moved, and cut */
        {"s", "10.5", "1795960810.6"},
        {"s", "10.500", "1795960810.623"},
        {"s", "10.4999", "1795960810.6233"},
        {"s", "10.500000000", "1795960810.623456789"},
        {"ms", "10500", "1795960810623"},
        {"ms", "10500.25", "1795960810623.70"},
        {"us", "10500000", "1795960810623456"},
        {"ns", "10500000000", "1795960810623456789"},
        {"ns", "10500000001", "1795960810623456790"},
        {"s", "-0.5", "1795960799.6"}, /* the clock may have begun a little before 1970 */
    };
    char options[64], before[64], after[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(options, sizeof options, "clock_field = timestamp\nclock_unit = %s\n", cases[i].unit);
        snprintf(before, sizeof before, "{\"timestamp\":%s}", cases[i].before);
        snprintf(after, sizeof after, "{\"timestamp\":%s}", cases[i].after);
        assert_mended(options, before, after, true);
    }
    assert_mended("clock_field = a.t\n", " {\"t\":3,\"a\":{\"x\":{\"t\":1},\"\\u0074\" : 10 ,\"t2\":1}} \n",
                  " {\"t\":3,\"a\":{\"x\":{\"t\":1},\"\\u0074\" : 1795960810 ,\"t2\":1}} \n", true);
    assert_mended("", "{\"timestamp\":10}", "{\"timestamp\":10}", true);
}

/* Nothing of this can be mended, and none of it is rejected, nor handed on as if nothing were. */
static void test_hostile_payloads(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "{\"clock\":\"unset\"}"},
        {" { } ", " { \"clock\":\"unset\"} "},
        {"{\"speed\":1}", "{\"speed\":1,\"clock\":\"unset\"}"},
        {"{\"timestamp\":\"10\"}", "{\"timestamp\":\"10\",\"clock\":\"unset\"}"},
        {"{\"timestamp\":null}", "{\"timestamp\":null,\"clock\":\"unset\"}"},
        {"{\"timestamp\":1e1}", "{\"timestamp\":1e1,\"clock\":\"unset\"}"},
        {"{\"timestamp\":10,\"timestamp\":10}", "{\"timestamp\":10,\"timestamp\":10,\"clock\":\"unset\"}"},
        {"{\"timestamp\":10,\"time\\u0073tamp\":3}", "{\"timestamp\":10,\"time\\u0073tamp\":3,\"clock\":\"unset\"}"},
        {"{\"timestamp\":1795960800}", "{\"timestamp\":1795960800,\"clock\":\"unset\"}"},
        {"{\"timestamp\":-1795960800}", "{\"timestamp\":-1795960800,\"clock\":\"unset\"}"},
        {"{\"timestamp\":9223372036854775807}", "{\"timestamp\":9223372036854775807,\"clock\":\"unset\"}"},
        {"{\"timestamp\":99999999999999999999999}", "{\"timestamp\":99999999999999999999999,\"clock\":\"unset\"}"},
        {"{\"timestamp\":10.0000000001}", "{\"timestamp\":10.0000000001,\"clock\":\"unset\"}"},
        {"{\"timestamp\":{\"timestamp\":10}}", "{\"timestamp\":{\"timestamp\":10},\"clock\":\"unset\"}"},
        {"{\"a\":{\"timestamp\":10}}", "{\"a\":{\"timestamp\":10},\"clock\":\"unset\"}"},
        {"{\"clock\":\"unset\"}", "{\"clock\":\"unset\"}"},
        {"{\"clock\":\"right\"}", "{\"clock\":\"right\",\"clock\":\"unset\"}"},
        {"{\"clock\":\"unset\",\"clock\":1}", "{\"clock\":\"unset\",\"clock\":1,\"clock\":\"unset\"}"},
        {"[{\"timestamp\":10}]", "[{\"timestamp\":10}]"},
        {"{\"timestamp\":10", "{\"timestamp\":10"},
        {"{\"timestamp\":10}}", "{\"timestamp\":10}}"},
        {"10", "10"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_mended("clock_field = timestamp\n", cases[i][0], cases[i][1], false);
}

/* Any bytes at all: a record comes out for each, and it says that its time is not known unless it is. */
static void test_random_payloads(void **state)
{
    static const char *const parts[] = {
        "{",  "}",    "\"timestamp\"", ":", ",", "10",  "\"clock\"", "\"unset\"",         "[", "]", "\\",
        "\"", "\xff", "1e9",           " ", "-", "10.", "null",      "{\"timestamp\":10}"};
    struct fake *sink = open_sink(unknown(11, 0, 1)), *source;
    char payload[256];

    (void)state;
    srand(1);
    for (int i = 0; i < 3000; i++) {
        struct fms_record draft = {.timestamp = 10 * FMS_SECOND};

        *payload = '\0';
        for (int k = rand() % 12; k > 0; k--)
            strcat(payload, parts[(size_t)rand() % (sizeof parts / sizeof *parts)]);
        draft.payload = fms_text(payload);
        fake_add_record(sink, &draft);
    }
    fake_until(sink, fake_write(sink) >= 0 && fake_count_fate(sink, FMS_DELIVERED) == 3000);
    set_clock(sink, right(20, 1));
    source = open_source(right(20, 1));
    fake_until(source, fake_emitted(source) == 3000);
    for (size_t i = 0; i < 3000; i++) {
        const struct fms_record *record = fake_record(source, i);

        assert_null(fake_rejected(source, i));
        assert_true(record->header_count == 1 || strstr(record->payload.data, "1795960810") != NULL);
    }
    assert_int_equal(fake_counter(source, "mended") + fake_counter(source, "unset"), 3000);
    assert_true(fake_counter(source, "mended") > 0);
    fake_close(source);
    fake_close(sink);
}

/* --------------------------------------------------------------------------------------------------------------- telling */

static void test_probe_and_age(void **state)
{
    struct fake *sink = open_sink(unknown(10, 0, 1)), *f;
    char text[256];

    (void)state;
    put(sink, 0);
    put(sink, 1);
    fake_clock_step(sink, 7 * FMS_SECOND);
    fake_measure(sink);
    assert_true(fake_gauge(sink, "oldest_seconds") == 7); /* the start's own clock knows that */
    snprintf(text, sizeof text, "path = %s\nclock_field = timestamp\n", path);
    f = fake_check("spool", FMS_SOURCE, text);
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "report: 2 records were stored while the clock was not set"));
    fake_close(f);
    set_clock(sink, right(20, 1));
    assert_int_equal(fake_poll(sink, 0), 0);
    fake_measure(sink);
    assert_true(fake_gauge(sink, "oldest_seconds") == 10);
    f = fake_check("spool", FMS_SOURCE, text);
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_null(fake_said(f, "while the clock was not set"));
    fake_close(f);
    fake_close(sink);
}

static void test_fields_are_checked(void **state)
{
    static const char *const wrong[] = {"a..b", ".a", "a."};
    char text[128];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fake *f;

        snprintf(text, sizeof text, "path = %s\nclock_field = %s\n", path, wrong[i]);
        f = fake_check("spool", FMS_SOURCE, text);
        assert_int_equal(fake_error(f), -EINVAL);
        assert_non_null(fake_said(f, "is no field; accepted are names with dots between"));
        fake_close(f);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_set_while_it_runs),
        TEST(test_mended_after_the_next_start),
        TEST(test_trusted_entries_stay),
        TEST(test_never_set_is_marked),
        TEST(test_waits_for_the_clock),
        TEST(test_waits_no_longer),
        TEST(test_jumps),
        TEST(test_set_wrong),
        TEST(test_made_before_a_jump_stored_after_it),
        TEST(test_times_of_others_stay),
        TEST(test_told_and_then_known),
        TEST(test_nothing_to_mend),
        TEST(test_a_thousand_jumps),
        TEST(test_to_and_fro),
        TEST(test_killed_again_and_again),
        TEST(test_the_table_is_damaged),
        TEST(test_costs_nothing_where_it_is_right),
        TEST(test_numbers_keep_their_form),
        TEST(test_hostile_payloads),
        TEST(test_random_payloads),
        TEST(test_probe_and_age),
        TEST(test_fields_are_checked),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
