/* test_spool.c - the spool's two faces, one after the other and at once, in one process and in several; crashes, full
 * disks, damage. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail

#include <lmdb.h>

#include "fms_test.h"

static char folder[] = "/tmp/fms-spool-XXXXXX";
static char path[64];

static const char *ini(const char *more)
{
    static char text[256];

    snprintf(text, sizeof text, "path = %s\nsync = off\n%s", path, more);
    return text;
}

static struct fake *open_sink(const char *more)
{
    return fake_open("spool", FMS_SINK, ini(more));
}

static struct fake *open_source(const char *more)
{
    return fake_open("spool", FMS_SOURCE, ini(more));
}

/* Each test has a directory of its own. */
static int fresh(void **state)
{
    static int n;

    (void)state;
    snprintf(path, sizeof path, "%s/%d", folder, n++);
    return 0;
}

static void put_numbers(struct fake *f, int from, int count)
{
    char text[32];

    for (int i = from; i < from + count; i++) {
        snprintf(text, sizeof text, "%d", i);
        fake_add(f, "fms/data", "raspi-001", text);
    }
    assert_true(fake_write(f) >= 0);
}

static int number(struct fake *f, size_t i)
{
    return atoi(fake_record(f, i)->payload.data);
}

static void assert_numbers(struct fake *f, size_t count, int first)
{
    assert_int_equal(fake_emitted(f), count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(number(f, i), first + (int)i);
}

/* Stores numbers, and closes. */
static void store_numbers(int from, int count)
{
    struct fake *f = open_sink("");
    size_t before = fake_count_fate(f, FMS_DELIVERED);

    put_numbers(f, from, count);
    assert_int_equal(fake_count_fate(f, FMS_DELIVERED) - before, count);
    fake_close(f);
}

static void expect_stored(int first, size_t count)
{
    struct fake *f = open_source("");

    fake_until(f, fake_emitted(f) == count);
    fake_poll(f, 10);
    assert_numbers(f, count, first);
    fake_close(f);
}

static void test_a_record_is_complete(void **state)
{
    struct fms_header headers[] = {
        {"trace", fms_text("abc")}, {"absent", {NULL, 0}}, {"empty", {"", 0}}, {"", fms_text("x")}};
    struct fms_record drafts[] = {
        {.topic = fms_text("fms/data"),
         .key = {"k\0y", 3},
         .payload = {"\0\1\2", 3},
         .headers = headers,
         .header_count = 4,
         .timestamp = 1763320419123456789},
        {.payload = {"", 0}, .timestamp = -5},
        {.topic = {"", 0}, .key = {"", 0}},
    };
    struct fake *f = open_sink("");

    (void)state;
    for (size_t i = 0; i < 3; i++)
        fake_add_record(f, &drafts[i]);
    assert_int_equal(fake_write(f), 3);
    fake_close(f);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 3);
    for (size_t i = 0; i < 3; i++) {
        const struct fms_record *is = fake_record(f, i), *was = &drafts[i];
        const struct fms_bytes pairs[][2] = {{is->topic, was->topic}, {is->key, was->key}, {is->payload, was->payload}};

        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(pairs[k][0].data == NULL, pairs[k][1].data == NULL);
            assert_int_equal(pairs[k][0].size, pairs[k][1].size);
            if (pairs[k][1].size > 0)
                assert_memory_equal(pairs[k][0].data, pairs[k][1].data, pairs[k][1].size);
        }
        assert_int_equal(is->timestamp, was->timestamp);
        assert_int_equal(is->header_count, was->header_count);
        for (size_t k = 0; k < was->header_count; k++) {
            assert_string_equal(is->headers[k].name, was->headers[k].name);
            assert_int_equal(is->headers[k].value.data == NULL, was->headers[k].value.data == NULL);
            assert_int_equal(is->headers[k].value.size, was->headers[k].value.size);
        }
    }
    fake_close(f);
}

/* What is not settled is there again after each start, what is settled is not. */
static void test_removed_when_settled(void **state)
{
    struct fake *f;

    (void)state;
    store_numbers(0, 10);
    expect_stored(0, 10);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 10);
    for (size_t i = 0; i < 4; i++)
        fake_settle(f, i, i == 2 ? FMS_REJECTED : FMS_DELIVERED);
    fake_close(f);
    expect_stored(4, 6);
    f = open_source("");
    fake_settle_auto(f, FMS_DELIVERED);
    fake_until(f, fake_emitted(f) == 6);
    fake_close(f);
    store_numbers(100, 2);
    expect_stored(100, 2);
}

static void test_settled_out_of_order(void **state)
{
    struct fake *f;

    (void)state;
    store_numbers(0, 2000);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 2000);
    for (size_t i = 2000; i-- > 1;)
        fake_settle(f, i, FMS_DELIVERED);
    fake_close(f);
    expect_stored(0, 2000);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 2000);
    for (size_t i = 2000; i-- > 0;)
        fake_settle(f, i, FMS_DELIVERED);
    fake_close(f);
    expect_stored(0, 0);
}

static void test_refused_comes_again(void **state)
{
    struct fake *f;

    (void)state;
    store_numbers(0, 100);
    f = open_source("");
    fake_capacity(f, 7);
    for (size_t round = 1; round <= 10; round++) {
        fake_until(f, fake_emitted(f) == 7 * round);
        assert_int_equal(fake_poll(f, 50), 0);
        assert_int_equal(fake_emitted(f), 7 * round);
        fake_settle_all(f, FMS_DELIVERED);
    }
    assert_numbers(f, 70, 0);
    fake_close(f);
    expect_stored(70, 30);
}

static void test_stopped_with_records_in_flight(void **state)
{
    struct fake *f;

    (void)state;
    store_numbers(0, 10);
    f = open_source("");
    assert_int_equal(fake_poll(f, 4), 0);
    fake_stop(f);
    assert_int_equal(fake_poll(f, 0), FMS_END);
    fake_settle_all(f, FMS_DELIVERED);
    fake_close(f);
    expect_stored(4, 6);
}

/* The source is woken by what the sink stores, without a deadline of its own. */
static void test_both_faces_at_once(void **state)
{
    struct fake *source = open_source(""), *sink;

    (void)state;
    assert_int_equal(fake_poll(source, 100), 0);
    while (fake_wait(source, 0))
        fake_poll(source, 100);
    sink = open_sink("");
    fake_settle_auto(source, FMS_DELIVERED);
    for (int round = 0; round < 50; round++) {
        put_numbers(sink, round * 10, 10);
        fake_until(source, fake_emitted(source) == (size_t)(round + 1) * 10);
    }
    assert_numbers(source, 500, 0);
    fake_close(sink);
    fake_close(source);
    expect_stored(0, 0);
}

static void test_a_second_of_a_face_is_refused(void **state)
{
    struct fake *sink = open_sink(""), *source = open_source(""), *f;

    (void)state;
    f = fake_check("spool", FMS_SINK, ini(""));
    assert_int_equal(fake_start(f), -EBUSY);
    assert_non_null(fake_said(f, "another sink uses this spool"));
    fake_close(f);
    f = fake_check("spool", FMS_SOURCE, ini(""));
    assert_int_equal(fake_start(f), -EBUSY);
    assert_non_null(fake_said(f, "another source uses this spool"));
    fake_close(f);
    fake_close(source);
    fake_close(sink);
    fake_close(open_sink(""));
}

static void test_full_blocks(void **state)
{
    struct fake *sink = open_sink("max_size = 64KiB\n"), *source;
    size_t stored;

    (void)state;
    put_numbers(sink, 0, 5000);
    stored = fake_count_fate(sink, FMS_DELIVERED);
    assert_true(stored > 500 && stored < 3000);
    assert_int_equal(fake_count_said(sink, "full (max_size = 65536)"), 1);
    assert_int_equal(fake_counter(sink, "full"), 1);
    source = open_source("max_size = 64KiB\n");
    fake_settle_auto(source, FMS_DELIVERED);
    while (fake_emitted(source) < 5000) {
        fake_turn(source, fake_realclock() + FAKE_PATIENCE, "a record, or its removal");
        assert_int_equal(fake_poll(sink, 0), 0);
        assert_true(fake_write(sink) >= 0);
    }
    assert_numbers(source, 5000, 0);
    fake_close(source);
    fake_close(sink);
}

static void test_full_drops_the_oldest(void **state)
{
    struct fake *sink = open_sink("max_size = 64KiB\nwhen_full = drop_oldest\n"), *source;
    uint64_t dropped;

    (void)state;
    put_numbers(sink, 0, 5000);
    assert_int_equal(fake_count_fate(sink, FMS_DELIVERED), 5000);
    dropped = fake_counter(sink, "dropped");
    assert_true(dropped > 2000 && dropped < 4500);
    assert_non_null(fake_said(sink, "old records were removed unread"));
    source = open_source("max_size = 64KiB\n");
    fake_until(source, fake_emitted(source) == 5000 - dropped);
    assert_numbers(source, (size_t)(5000 - dropped), (int)dropped);
    put_numbers(sink, 5000, 3000); /* over what is in flight, too */
    fake_settle_all(source, FMS_DELIVERED);
    fake_settle_auto(source, FMS_DELIVERED);
    fake_until(source, fake_emitted(source) > 0 && number(source, fake_emitted(source) - 1) == 7999);
    fake_close(source);
    fake_close(sink);
    expect_stored(0, 0);
}

static void test_too_large_is_rejected(void **state)
{
    static char large[100000];
    struct fms_record draft = {.topic = fms_text("t"), .payload = {large, sizeof large}};
    struct fake *f = open_sink("max_size = 64KiB\n");

    (void)state;
    fake_add(f, "t", "k", "1");
    fake_add_record(f, &draft);
    fake_add_record(f, &draft);
    fake_add(f, "t", "k", "2");
    fake_until(f, fake_write(f) >= 0 && fake_fate(f, 3) == FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 0), FMS_DELIVERED);
    assert_int_equal(fake_fate(f, 1), FMS_REJECTED);
    assert_int_equal(fake_fate(f, 2), FMS_REJECTED);
    assert_string_equal(fake_reason(f, 1), "takes 100024 bytes, more than max_size = 65536");
    fake_close(f);
    expect_stored(1, 2);
}

static off_t file_size(void)
{
    char name[128];
    struct stat stat_of;

    snprintf(name, sizeof name, "%s/data.mdb", path);
    assert_int_equal(stat(name, &stat_of), 0);
    return stat_of.st_size;
}

/* Forty times what it holds goes through, and the file does not grow with it. */
static void test_space_is_used_again(void **state)
{
    struct fake *sink = open_sink("max_size = 256KiB\n"), *source = open_source("max_size = 256KiB\n");

    (void)state;
    fake_settle_auto(source, FMS_DELIVERED);
    for (int round = 0; round < 100; round++) {
        put_numbers(sink, round * 1000, 1000);
        fake_until(source, fake_emitted(source) == (size_t)(round + 1) * 1000);
    }
    assert_true(file_size() < 1024 * 1024);
    fake_close(sink);
    fake_close(source);
}

static void test_every_sync(void **state)
{
    static const char *const modes[] = {"sync = always\n", "sync = interval\nsync_interval = 1s\n", "sync = off\n"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char text[256];
        struct fake *f;

        fresh(state);
        snprintf(text, sizeof text, "path = %s\n%s", path, modes[i]);
        f = fake_open("spool", FMS_SINK, text);
        put_numbers(f, 0, 300);
        fake_poll(f, 0);
        if (i == 1) {
            int64_t deadline = fake_waits_for(f)->deadline;

            assert_true(deadline < FMS_NEVER);
            fake_until(f, fake_waits_for(f)->deadline == FMS_NEVER); /* flushed */
        }
        fake_close(f);
        f = fake_open("spool", FMS_SOURCE, text);
        fake_settle_auto(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) == 300);
        fake_close(f);
    }
}

/* ---------------------------------------------------------------------------------------------------------- identities */

/* In a pipeline whose sink asks for them. */
static struct fake *open_numbered(const char *more)
{
    struct fake *f = fake_check("spool", FMS_SOURCE, ini(more));

    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    return f;
}

static const char *origin(struct fake *f, size_t i)
{
    return fake_record(f, i)->identity->origin.data;
}

static void check_number(struct fake *f, size_t i, uint64_t sequence, uint64_t skipped)
{
    const struct fms_identity *identity = fake_record(f, i)->identity;

    assert_int_equal(identity->kind, FMS_NUMBERED);
    assert_int_equal(identity->part, 0);
    assert_int_equal(identity->sequence, sequence);
    assert_int_equal(identity->skipped, skipped);
}

/* Numbers go on for ever, also where the spool was emptied meanwhile. */
static void test_entries_are_numbered(void **state)
{
    char was[64] = "";
    struct fake *f;

    (void)state;
    for (int round = 0; round < 3; round++) {
        store_numbers(3 * round, 3);
        f = open_numbered("");
        fake_until(f, fake_emitted(f) == 3);
        for (size_t i = 0; i < 3; i++)
            check_number(f, i, (uint64_t)(3 * round) + i, 0);
        assert_int_equal(strlen(origin(f, 0)), 38);
        assert_memory_equal(origin(f, 0), "spool:", 6);
        if (round > 0)
            assert_string_equal(origin(f, 2), was);
        snprintf(was, sizeof was, "%s", origin(f, 2));
        fake_settle_all(f, FMS_DELIVERED);
        fake_close(f);
    }
    store_numbers(0, 1);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 1);
    assert_null(fake_record(f, 0)->identity);
    fake_close(f);
}

static void damage(const void *bytes, size_t size);

/* What is damaged is rejected under its number. */
static void test_damaged_entries_are_numbered(void **state)
{
    struct fake *f;

    (void)state;
    store_numbers(0, 3);
    damage("", 0);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 3);
    assert_non_null(fake_rejected(f, 1));
    for (size_t i = 0; i < 3; i++)
        check_number(f, i, i, 0);
    fake_close(f);
}

/* A spool of an older fmspipe has no name: it gets one, and its numbers go on. */
static void test_an_old_spool_gets_a_name(void **state)
{
    MDB_val key = {4, "name"};
    struct fake *f;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    (void)state;
    store_numbers(0, 3);
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 2);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &dbi), 0);
    assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    store_numbers(3, 3);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 6);
    for (size_t i = 0; i < 6; i++) {
        check_number(f, i, i, 0);
        assert_string_equal(origin(f, i), origin(f, 0));
    }
    fake_close(f);
}

/* A vehicle's message, as the bridge's spool has it: with that identity, or with none. */
static void put_identified(struct fake *f, const struct fms_identity *identity)
{
    struct fms_header header = {"h", fms_text("v")};
    struct fms_record draft = {.topic = fms_text("t"),
                               .key = fms_text("k"),
                               .payload = fms_text("{}"),
                               .headers = &header,
                               .header_count = 1,
                               .timestamp = 5,
                               .identity = identity};

    fake_add_record(f, &draft);
}

static void test_identities_are_kept(void **state)
{
    static const struct fms_identity identities[] = {
        {.kind = FMS_NUMBERED, .origin = {"spool:ab", 8}, .sequence = 700, .skipped = 3},
        {.kind = FMS_RESENT, .origin = {"broker", 6}, .sequence = 7, .print = {1, 2}},
        {.kind = FMS_NUMBERED, .origin = {"x", 1}, .sequence = UINT64_MAX, .skipped = UINT64_MAX},
        {.kind = FMS_NUMBERED, .origin = {"spool:ab", 8}, .sequence = 701, .part = 1},
    };
    struct fake *f = open_sink("identity = keep\n");

    (void)state;
    put_identified(f, &identities[0]);
    put_identified(f, &identities[1]);
    put_identified(f, &identities[2]);
    put_identified(f, &identities[0]);
    put_identified(f, NULL);
    put_identified(f, &identities[3]);
    assert_int_equal(fake_write(f), 6);
    fake_close(f);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 6);
    check_number(f, 0, 700, 3);
    assert_string_equal(origin(f, 0), "spool:ab");
    check_number(f, 1, 1, 1); /* the first has no number of the spool's */
    check_number(f, 2, UINT64_MAX, UINT64_MAX);
    assert_string_equal(origin(f, 2), "x");
    check_number(f, 3, 700, 3);
    check_number(f, 4, 4, 2);
    check_number(f, 5, 5, 0);
    assert_string_equal(origin(f, 4), origin(f, 1));
    assert_string_equal(origin(f, 5), origin(f, 1));
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(fake_record(f, i)->payload.data, "{}");
        assert_string_equal(fake_record(f, i)->headers[0].name, "h");
        assert_int_equal(fake_record(f, i)->timestamp, 5);
    }
    fake_close(f);
}

/* Not where nobody has asked the spool to, though another sink may have asked for identities. */
static void test_identities_are_not_kept(void **state)
{
    struct fms_identity identity = {.kind = FMS_NUMBERED, .origin = {"spool:ab", 8}, .sequence = 700};
    struct fake *f = fake_check("spool", FMS_SINK, ini(""));

    (void)state;
    assert_false(fake_host(f)->identities);
    fake_host(f)->identities = true;
    assert_int_equal(fake_start(f), 0);
    put_identified(f, &identity);
    assert_int_equal(fake_write(f), 1);
    fake_close(f);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 1);
    check_number(f, 0, 0, 0);
    fake_close(f);
}

/* An entry's bytes may say anything of who it is. */
static void test_malformed_identities_are_damage(void **state)
{
    static const struct fms_bytes bad[] = {
        {"\3\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0"
         "\0\0\0\0\0\0\0\0"
         "\0\0\0\0\0\0\0\0"
         "\1\0\0\0"
         "\0\0\0\0\0\0\0\0\0\0\0\0",
         47},
        {"\3\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "\2\0\0\0\0\0\0\0"
         "\2\0\0\0o"
         "\0\0\0\0\0\0\0\0\0\0\0\0",
         48},
        {"\3\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0"
         "\1\0\0",
         18},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fake *f;

        fresh(state);
        store_numbers(0, 3);
        damage(bad[i].data, bad[i].size);
        f = open_numbered("");
        fake_until(f, fake_emitted(f) == 3);
        assert_non_null(fake_rejected(f, 1));
        check_number(f, 1, 1, 0);
        fake_close(f);
    }
}

/* What was dropped and never handed on is no gap; what may have been is one. */
static void test_what_is_dropped_is_skipped(void **state)
{
    const char *small = "max_size = 64KiB\nwhen_full = drop_oldest\n";
    struct fake *sink, *f = open_numbered("max_size = 64KiB\n");
    uint64_t dropped, first;

    (void)state;
    sink = open_sink(small);
    put_numbers(sink, 0, 5000);
    dropped = fake_counter(sink, "dropped");
    assert_true(dropped > 0);
    assert_int_equal(fake_poll(f, 1), 0);
    check_number(f, 0, dropped, dropped);
    put_numbers(sink, 5000, 5000);
    first = fake_counter(sink, "dropped");
    assert_int_equal(fake_poll(f, 1), 0);
    check_number(f, 1, first, first - dropped - 1);
    fake_close(f);
    f = open_numbered("max_size = 64KiB\n");
    put_numbers(sink, 10000, 5000);
    assert_int_equal(fake_poll(f, 1), 0);
    assert_true(number(f, 0) >=
                10000); /* what had been there may have been handed on before, and be on its way still */
    check_number(f, 0, (uint64_t)number(f, 0), (uint64_t)number(f, 0) - 10000);
    fake_close(sink);
    fake_close(f);
}

/* Two vehicles may be made of one image of a memory card. */
static void test_a_copy_has_another_name(void **state)
{
    char command[512], was[64], copy[80];
    struct fake *f;

    (void)state;
    store_numbers(0, 2);
    snprintf(copy, sizeof copy, "%s-copy", path);
    snprintf(command, sizeof command, "cp -a %s %s && mv %s %s-moved", path, copy, path, path);
    assert_int_equal(system(command), 0);
    snprintf(path + strlen(path), sizeof path - strlen(path), "-moved");
    store_numbers(2, 2);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 4);
    for (size_t i = 0; i < 4; i++) {
        check_number(f, i, i, 0);
        assert_string_equal(origin(f, i), origin(f, 0));
    }
    snprintf(was, sizeof was, "%s", origin(f, 0));
    fake_close(f);
    snprintf(path, sizeof path, "%.63s", copy);
    store_numbers(2, 2);
    f = open_numbered("");
    fake_until(f, fake_emitted(f) == 4);
    for (size_t i = 0; i < 4; i++) {
        check_number(f, i, i, 0);
        assert_int_equal(strcmp(origin(f, i), was) == 0, i < 2); /* these are the same records in both */
    }
    assert_string_equal(origin(f, 2), origin(f, 3));
    fake_close(f);
}

/* ------------------------------------------------------------------------------------------------------------- crashes */

/* A child that stores numbers and says each that was acknowledged, until it is killed. */
static pid_t writing_child(int from, int *said)
{
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        struct fake *f;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        f = open_sink("");
        for (int i = from;; i += 3) {
            int last = i + 2;

            put_numbers(f, i, 3);
            if (write(ends[1], &last, sizeof last) < 0)
                _exit(1);
        }
    }
    close(ends[1]);
    *said = ends[0];
    return pid;
}

static void kill_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Everything that the killed one had acknowledged is there, in order, and no more than it had begun. */
static void test_writer_is_killed(void **state)
{
    unsigned random = 7;
    int next = 0;

    (void)state;
    for (int round = 0; round < 30; round++) {
        int acknowledged = next - 1, said;
        pid_t pid = writing_child(next, &said);
        struct fake *f;

        random = random * 1103515245 + 12345;
        for (unsigned i = 0; i <= (random >> 16) % 300; i++)
            assert_int_equal(read(said, &acknowledged, sizeof acknowledged), sizeof acknowledged);
        kill_child(pid);
        while (read(said, &acknowledged, sizeof acknowledged) == sizeof acknowledged)
            continue;
        close(said);
        f = open_source("");
        fake_settle_auto(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) > 0 && number(f, fake_emitted(f) - 1) >= acknowledged);
        while (fake_wait(f, 0)) /* what was stored and not acknowledged */
            fake_poll(f, 100);
        assert_numbers(f, fake_emitted(f), next);
        assert_true(fake_emitted(f) <= (size_t)(acknowledged - next + 1) + 3);
        next += (int)fake_emitted(f);
        fake_close(f);
    }
}

/* The reader dies at random moments; what it had not settled comes again. */
static void test_reader_is_killed(void **state)
{
    unsigned random = 3;
    int settled = 0;

    (void)state;
    store_numbers(0, 50000); /* more than they can say through their pipes */
    for (int round = 0; round < 20; round++) {
        int ends[2], last = settled - 1, first = -1;
        pid_t pid;

        assert_int_equal(pipe(ends), 0);
        assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) > 0);
        pid = fork();
        if (pid == 0) {
            struct fake *f;

            prctl(PR_SET_PDEATHSIG, SIGKILL);
            f = open_source("");
            for (size_t sent = 0;; fake_turn(f, fake_realclock() + FMS_SECOND, "more")) {
                for (; sent < fake_emitted(f); sent++) {
                    int is = number(f, sent);

                    if (write(ends[1], &is, sizeof is) < 0)
                        _exit(1);
                    fake_settle(f, sent, FMS_DELIVERED);
                }
            }
        }
        close(ends[1]);
        random = random * 1103515245 + 12345;
        for (unsigned i = 0; i <= (random >> 16) % 800 && read(ends[0], &last, sizeof last) == sizeof last; i++)
            first = first < 0 ? last : first;
        kill_child(pid);
        while (read(ends[0], &last, sizeof last) == sizeof last)
            continue;
        close(ends[0]);
        assert_true(first >= 0 && first <= settled); /* nothing was skipped */
        settled = last + 1;
    }
    store_numbers(50000, 1);
    {
        struct fake *f = open_source("");

        fake_settle_auto(f, FMS_DELIVERED);
        fake_until(f, fake_emitted(f) > 0 && number(f, fake_emitted(f) - 1) == 50000);
        assert_true(number(f, 0) <= settled);
        assert_numbers(f, fake_emitted(f), number(f, 0));
        fake_close(f);
    }
}

/* Both at once, in two processes: the reader is woken by the other's writes, and goes on when the other is killed. */
static void test_two_processes(void **state)
{
    struct fake *f;
    int said, last;
    pid_t pid;
    void *robust;
    size_t size;

    (void)state;
    if (syscall(SYS_get_robust_list, 0, &robust, &size) != 0)
        skip();                /* qemu-user gives nobody the locks of who was killed */
    fake_close(open_sink("")); /* makes it */
    pid = writing_child(0, &said);
    f = open_source("");
    fake_settle_auto(f, FMS_DELIVERED);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(read(said, &last, sizeof last), sizeof last);
        fake_until(f, fake_emitted(f) > (size_t)last);
    }
    kill_child(pid);
    close(said);
    assert_numbers(f, fake_emitted(f), 0);
    fake_close(f);
}

/* -------------------------------------------------------------------------------------------------------------- trouble */

static void test_full_disk(void **state)
{
    struct fake *sink, *source;
    int stored = 0;

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("none", path, "tmpfs", 0, "size=2M") != 0) {
        print_message("left out: a small file system can't be mounted here\n");
        skip();
    }
    sink = open_sink("max_size = 64MiB\n");
    source = open_source("max_size = 64MiB\n");
    for (; fake_said(sink, "error: ") == NULL; stored += 1000)
        put_numbers(sink, stored, 1000);
    assert_non_null(fake_said(sink, "cannot store: the disk is full"));
    assert_true(fake_count_fate(sink, 0) > 0);
    fake_settle_auto(source, FMS_DELIVERED);
    fake_until(source, fake_emitted(source) == fake_count_fate(sink, FMS_DELIVERED));
    for (int i = 0; i < 200; i++)
        fake_turn(source, fake_realclock() + FMS_MS, "removal");
    fake_until(sink, fake_count_fate(sink, FMS_DELIVERED) == (size_t)stored);
    assert_non_null(fake_said(sink, "stores again"));
    fake_until(source, fake_emitted(source) == (size_t)stored);
    assert_numbers(source, (size_t)stored, 0);
    fake_close(source);
    fake_close(sink);
    assert_int_equal(umount(path), 0);
}

/* Replaces the value of key 0, which is at most some KiB, by what `change` makes of it. */
static void change_value(size_t (*change)(const unsigned char *was, size_t size, unsigned char *to,
                                          struct fms_bytes by),
                         struct fms_bytes by)
{
    MDB_val key = {8, "\0\0\0\0\0\0\0\0"}, value;
    unsigned char to[20000];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 2);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "entries", 0, &dbi), 0);
    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    value = (MDB_val){change(value.mv_data, value.mv_size, to, by), to};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* A pack of three with its second entry replaced. */
static size_t spoil_second(const unsigned char *was, size_t size, unsigned char *to, struct fms_bytes by)
{
    size_t first = 3 + 4 + was[3], second = first + 4 + was[first];

    assert_int_equal(was[0], 4);
    assert_int_equal(was[1], 3);
    memcpy(to, was, first);
    for (size_t i = 0; i < 4; i++)
        to[first + i] = (unsigned char)(by.size >> 8 * i);
    if (by.size > 0)
        memcpy(&to[first + 4], by.data, by.size);
    memcpy(&to[first + 4 + by.size], &was[second], size - second);
    return first + 4 + by.size + size - second;
}

/* Spoils entry 1 of three that were stored together. */
static void damage(const void *bytes, size_t size)
{
    change_value(spoil_second, fms_bytes_of(bytes, size));
}

/* What is damaged costs itself: the bytes go where rejected records go, and what stands behind them is handed on. */
static void test_damage_costs_itself(void **state)
{
    static const struct fms_bytes bad[] = {
        {"", 0},
        {"\1\0\0\0\0\0\0\0\0\0\0\377\0\0\0t", 16},
        {"\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0x", 24},
        {"\1\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0n\0\0\0\0", 32},
        {"\1\377\377\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 23},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fake *f;

        fresh(state);
        store_numbers(0, 3);
        damage(bad[i].data, bad[i].size);
        f = open_source("");
        fake_until(f, fake_emitted(f) == 3);
        assert_null(fake_rejected(f, 0));
        assert_non_null(strstr(fake_rejected(f, 1), ": entry 1 is damaged: "));
        assert_int_equal(fake_record(f, 1)->payload.size, bad[i].size);
        assert_null(fake_rejected(f, 2));
        fake_close(f);
    }
}

/* The value as it is, but for what stands at the offset of the first byte of `by`. */
static size_t spoil_at(const unsigned char *was, size_t size, unsigned char *to, struct fms_bytes by)
{
    const unsigned char *bytes = by.data;

    memcpy(to, was, size);
    memcpy(&to[bytes[0]], &bytes[1], by.size - 1);
    return size;
}

/* Of what was stored together, and has lengths that do not add up, what can be read is handed on, the rest is one damaged record; and what is
 * stored behind it is handed on. */
static void test_damaged_lengths(void **state)
{
    static const struct {
        struct fms_bytes by;
        const char *fates; /* of the numbers from 0 on: + handed on, - rejected */
    } cases[] = {
        {{"\3\377\377\377\377", 5}, "-"}, /* the first is endless */
        {{"\60\52\0\0\0", 5}, "+--"},     /* the second takes a byte of the third's length */
        {{"\60\377\377\0\0", 5}, "+-"},   /* it goes beyond the end */
        {{"\1\2\0", 3}, "+-"},            /* it has the third */
        {{"\1\377\377", 3}, "+++"},       /* there are fewer than it says */
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t emitted = strlen(cases[i].fates);
        struct fake *f;

        fresh(state);
        store_numbers(0, 3);
        store_numbers(3, 2);
        change_value(spoil_at, cases[i].by);
        f = open_source("");
        fake_until(f, fake_emitted(f) == emitted + 2);
        for (size_t k = 0; k < emitted; k++)
            assert_int_equal(fake_rejected(f, k) != NULL, cases[i].fates[k] == '-');
        for (size_t k = 0; k < emitted; k++)
            assert_true(fake_rejected(f, k) != NULL || number(f, k) == (int)k);
        assert_int_equal(number(f, emitted), 3);
        assert_int_equal(number(f, emitted + 1), 4);
        fake_settle_all(f, FMS_DELIVERED);
        for (int k = 0; k < 100; k++)
            fake_turn(f, fake_realclock() + FMS_MS, "removal");
        fake_close(f);
        store_numbers(5, 1);
        expect_stored(5, 1);
    }
}

/* Records of a version to come are not thrown away. */
static void test_another_version_is_named(void **state)
{
    struct fake *f;

    fresh(state);
    store_numbers(0, 3);
    damage("\5", 1);
    f = open_source("");
    assert_int_equal(fake_poll(f, 10), -EBADMSG);
    assert_non_null(
        fake_said(f, ": entry 1 is of a version that this fmspipe does not know: use the one that wrote it"));
    assert_numbers(f, 1, 0);
    fake_close(f);
}

/* Dead letters once had five headers more than a record may have; one that a spool still holds must not stop it. */
static void test_headers_of_old_letters(void **state)
{
    static unsigned char entry[23 + 1005 * 10] = {1, 1005 & 0xff, 1005 >> 8};
    struct fake *f;

    for (size_t i = 0; i < 1005; i++)
        memcpy(entry + 23 + i * 10, "\3\0\0\0h\0\0\0\0\0", 10);
    fresh(state);
    store_numbers(0, 3);
    damage(entry, sizeof entry);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 3);
    assert_null(fake_rejected(f, 0));
    assert_non_null(strstr(fake_rejected(f, 1), "with 1005 headers it has more than the 1000"));
    assert_null(fake_rejected(f, 2));
    fake_close(f);
}

/* As many as a record may have, there and back. */
static void test_a_thousand_headers(void **state)
{
    static struct fms_header headers[1000];
    const struct fms_record draft = {.payload = fms_text("p"), .headers = headers, .header_count = 1000};
    struct fake *f;

    fresh(state);
    for (size_t i = 0; i < 1000; i++)
        headers[i] = (struct fms_header){"h", fms_text("v")};
    f = open_sink("");
    fake_add_record(f, &draft);
    assert_int_equal(fake_write(f), 1);
    fake_close(f);
    f = open_source("");
    fake_until(f, fake_emitted(f) == 1);
    assert_null(fake_rejected(f, 0));
    assert_int_equal(fake_record(f, 0)->header_count, 1000);
    fake_close(f);
}

static void test_foreign_files_are_named(void **state)
{
    char name[128];
    struct fake *f;
    FILE *file;

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(name, sizeof name, "%s/data.mdb", path);
    file = fopen(name, "w");
    for (int i = 0; i < 10000; i++)
        fputs("this is no spool", file);
    fclose(file);
    f = fake_check("spool", FMS_SINK, ini(""));
    assert_true(fake_start(f) < 0);
    assert_non_null(
        fake_said(f, "cannot be opened as a spool: its data.mdb is none, or a system of another word size"));
    fake_close(f);
    f = fake_check("spool", FMS_SINK, "path = /proc/nowhere\n");
    assert_true(fake_start(f) < 0);
    assert_non_null(fake_said(f, "error: path: /proc/nowhere: cannot be opened as a spool: No such file"));
    fake_close(f);
}

/* The machine's pages, as LMDB asks for them. */
static long page_size = 4096;

#ifndef __SANITIZE_THREAD__ /* which asks before it can bear to be asked */
FMS_EXPORT long sysconf(int name)
{
    long (*real)(int) = (long (*)(int))(uintptr_t)dlsym(RTLD_NEXT, "sysconf");

    return name == _SC_PAGESIZE ? page_size : real(name);
}
#endif

/* What is stored where pages have one size is read, removed and added to where they have another. */
static void test_pages_of_another_size(void **state)
{
    static const long sizes[][2] = {{4096, 16384}, {16384, 4096}};
    struct fake *f;

    page_size = sizes[0][1];
    if (sysconf(_SC_PAGESIZE) != page_size)
        skip();
    for (size_t i = 0; i < 2; i++) {
        page_size = sizes[i][0];
        store_numbers(0, 1000);
        page_size = sizes[i][1];
        store_numbers(1000, 1000);
        f = open_source("");
        fake_until(f, fake_emitted(f) == 2000);
        assert_numbers(f, 2000, 0);
        fake_settle_all(f, FMS_DELIVERED);
        fake_close(f);
        store_numbers(2000, 1000);
        expect_stored(2000, 1000);
        fresh(state);
    }
    page_size = 4096;
}

/* Leaves the process half a GiB of addresses, and says whether that is so: an emulator does not care. */
static bool leave_few_addresses(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages;
    struct rlimit limit;
    void *more;

    getrlimit(RLIMIT_AS, &limit);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    limit.rlim_cur = (rlim_t)pages * 4096 + (1u << 29);
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    more = mmap(NULL, 1u << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (more != MAP_FAILED)
        munmap(more, 1u << 30);
    return more == MAP_FAILED;
}

static void test_too_large_to_be_mapped(void **state)
{
    bool are_few;
    struct rlimit were;
    struct fake *f = fake_check("spool", FMS_SINK, ini("max_size = 1GiB\n"));
    int error;

    (void)state;
    getrlimit(RLIMIT_AS, &were);
    are_few = leave_few_addresses();
    error = are_few ? fake_start(f) : 0;
    setrlimit(RLIMIT_AS, &were);
    if (!are_few)
        skip();
    assert_int_equal(error, -ENOMEM);
    assert_non_null(fake_said(f, "error: max_size: "));
    assert_non_null(fake_said(f, "twice this size is mapped into memory"));
    fake_close(f);
}

static void test_check_and_probe(void **state)
{
    struct fake *f = fake_check("spool", FMS_SOURCE, ini(""));

    (void)state;
    assert_non_null(fake_said(f, "advice: sync: "));
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "is not there yet"));
    fake_close(f);
    store_numbers(0, 3);
    f = fake_check("spool", FMS_SOURCE, ini(""));
    assert_int_equal(fake_probe(f, FMS_SECOND), 0);
    assert_non_null(fake_said(f, "holds 3 records"));
    assert_non_null(fake_said(f, "the oldest record is 0."));
    fake_close(f);
}

/* Both halves say how full it is, to whoever looks. */
static void test_measures(void **state)
{
    struct fake *f = fake_open("spool", FMS_SINK, ini("max_size = 1MiB\n"));
    struct statvfs disk;

    (void)state;
    fake_measure(f);
    assert_true(fake_gauge(f, "records") == 0);
    assert_true(fake_gauge(f, "free_bytes") == 1 << 20);
    assert_true(fake_gauge(f, "oldest_seconds") == 0);
    fake_close(f);
    store_numbers(0, 3);
    for (int is_sink = 0; is_sink < 2; is_sink++) {
        double bytes;

        f = fake_open("spool", is_sink ? FMS_SINK : FMS_SOURCE, ini("max_size = 1MiB\n"));
        fake_measure(f);
        bytes = fake_gauge(f, "bytes");
        assert_true(fake_gauge(f, "records") == 3);
        assert_true(bytes > 0 && bytes + fake_gauge(f, "free_bytes") == 1 << 20);
        assert_int_equal(statvfs(folder, &disk), 0);
        assert_true(fake_gauge(f, "disk_free_bytes") > 0);
        assert_true(fake_gauge(f, "disk_free_bytes") < (double)disk.f_blocks * (double)disk.f_frsize);
        assert_true(fake_gauge(f, "oldest_seconds") > 0 && fake_gauge(f, "oldest_seconds") < 600);
        fake_clock_set(f, FMS_SECOND, FMS_SECOND); /* far behind the records' */
        fake_measure(f);
        assert_true(fake_gauge(f, "oldest_seconds") == 0);
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
        TEST(test_a_record_is_complete),
        TEST(test_removed_when_settled),
        TEST(test_settled_out_of_order),
        TEST(test_refused_comes_again),
        TEST(test_stopped_with_records_in_flight),
        TEST(test_both_faces_at_once),
        TEST(test_a_second_of_a_face_is_refused),
        TEST(test_full_blocks),
        TEST(test_full_drops_the_oldest),
        TEST(test_too_large_is_rejected),
        TEST(test_space_is_used_again),
        TEST(test_every_sync),
        TEST(test_entries_are_numbered),
        TEST(test_damaged_entries_are_numbered),
        TEST(test_damaged_lengths),
        TEST(test_an_old_spool_gets_a_name),
        TEST(test_identities_are_kept),
        TEST(test_identities_are_not_kept),
        TEST(test_malformed_identities_are_damage),
        TEST(test_what_is_dropped_is_skipped),
        TEST(test_a_copy_has_another_name),
        TEST(test_writer_is_killed),
        TEST(test_reader_is_killed),
        TEST(test_two_processes),
        TEST(test_full_disk),
        TEST(test_damage_costs_itself),
        TEST(test_another_version_is_named),
        TEST(test_headers_of_old_letters),
        TEST(test_a_thousand_headers),
        TEST(test_foreign_files_are_named),
        TEST(test_pages_of_another_size),
        TEST(test_too_large_to_be_mapped),
        TEST(test_check_and_probe),
        TEST(test_measures),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
