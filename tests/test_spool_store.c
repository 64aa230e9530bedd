/* test_spool_store.c - the spool's store against a model of it: what is appended, removed and read, in any order and of any size. */
#include "../plugins/spool/spool_store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../plugins/spool/spool_record.h"

#define NUMBERS   200000 /* records of a run, at most */
#define TOGETHER  256
#define LARGEST   20000 /* bytes of a payload: more than fits into a page of LMDB's */
#define TEST_SIZE (INT64_C(2) << 20)

static char folder[] = "/tmp/fms-store-XXXXXX";
static char path[64];
static char payload[LARGEST];

static size_t model[NUMBERS]; /* of each number, how large its payload is; those from `first` to `next` are there */
static uint64_t first, next, records, bytes;

static size_t entry_size(size_t size)
{
    const struct fms_record record = {.payload = {payload, size}};

    return spool_record_size(&record, 0, NULL) + STORE_ENTRY_EXTRA;
}

/* The number itself begins the payload. */
static struct fms_bytes payload_of(uint64_t number, size_t size, char *to)
{
    memset(to, (int)(number % 251), size);
    memcpy(to, &number, size < sizeof number ? size : sizeof number);
    return fms_bytes_of(to, size);
}

static void append(struct store *store, size_t count, size_t largest, bool drop_oldest)
{
    static char payloads[TOGETHER][LARGEST];
    static struct fms_record drafts[TOGETHER];
    const struct fms_record *offered[TOGETHER];
    size_t taken, dropped_here = 0;
    uint64_t dropped;

    for (size_t i = 0; i < count; i++) {
        size_t size = (size_t)rand() % (largest + 1); /* NOLINT: it need not be good */

        drafts[i] = (struct fms_record){.payload = payload_of(next + i, size, payloads[i])};
        offered[i] = &drafts[i];
    }
    assert_int_equal(store_append(store, offered, NULL, count, drop_oldest, &taken, &dropped), 0);
    for (size_t i = 0; i < taken; i++) {
        size_t size = drafts[i].payload.size;

        while (drop_oldest && bytes + entry_size(size) > (uint64_t)TEST_SIZE) {
            bytes -= entry_size(model[first++]);
            records--;
            dropped_here++;
        }
        model[next++] = size;
        bytes += entry_size(size);
        records++;
    }
    assert_int_equal(dropped, dropped_here);
    assert_true(bytes <= (uint64_t)TEST_SIZE);
    assert_true(taken == count || bytes + entry_size(drafts[taken].payload.size) > (uint64_t)TEST_SIZE);
}

static void drop_below(struct store *store, uint64_t below)
{
    assert_int_equal(store_remove(store, below), 0);
    for (; first < below; first++) {
        bytes -= entry_size(model[first]);
        records--;
    }
}

/* All that is there from a number on, up to so many. */
static void read_from(struct store *store, uint64_t from, size_t most)
{
    char expected[LARGEST];
    uint64_t at = from > first ? from : first, number;
    struct fms_bytes entry;
    int error;

    assert_int_equal(store_read_begin(store, from), 0);
    for (; most > 0 && (error = store_next(store, &number, &entry)) == 0; most--, at++) {
        struct fms_record draft;

        assert_int_equal(number, at);
        assert_null(spool_record_read(entry, NULL, NULL, &draft));
        assert_int_equal(draft.payload.size, model[at]);
        payload_of(at, draft.payload.size, expected);
        assert_memory_equal(draft.payload.data, expected, draft.payload.size);
    }
    if (most > 0) {
        assert_int_equal(error, -ENOENT);
        assert_int_equal(at, next > at ? next : at);
    }
    store_read_end(store);
}

static void check_state(struct store *store)
{
    struct store_state state;

    assert_int_equal(store_state(store, &state), 0);
    assert_int_equal(state.next, next);
    assert_int_equal(state.count, records);
    assert_int_equal(state.bytes, bytes);
}

static void run(unsigned seed, size_t together, size_t largest, bool drop_oldest)
{
    struct store *writer, *reader;

    srand(seed);
    snprintf(path, sizeof path, "%s/%u", folder, seed);
    first = next = records = bytes = 0;
    for (unsigned life = 0; life < 3; life++) {
        assert_int_equal(store_open(&writer, path, STORE_WRITER, STORE_INTERVAL, TEST_SIZE), 0);
        assert_int_equal(store_open(&reader, path, STORE_READER, STORE_INTERVAL, TEST_SIZE), 0);
        check_state(reader);
        for (unsigned turn = 0; turn < 60; turn++) {
            append(writer, 1 + (size_t)rand() % together, largest, drop_oldest); /* NOLINT: as above */
            if (store_holds_much(writer))
                assert_int_equal(store_flush(writer), 0);
            check_state(reader);
            read_from(reader, first + (uint64_t)rand() % (next - first + 2), 1 + (size_t)rand() % 600); /* NOLINT */
            if (rand() % 3 == 0)                                                                        /* NOLINT */
                drop_below(reader, first + (uint64_t)rand() % (records + 1));                           /* NOLINT */
            check_state(reader);
        }
        read_from(reader, 0, SIZE_MAX);
        store_close(writer);
        store_close(reader);
    }
    assert_true(next < NUMBERS);
}

static void test_any_order(void **state)
{
    unsigned seed = 0;

    (void)state;
    for (size_t together = 1; together <= TOGETHER; together *= 4) {
        run(++seed, together, 300, false);
        run(++seed, together, 300, true);
        run(++seed, together, 9000, false);
        run(++seed, together, LARGEST, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order)};
    char command[96];
    int failed;

    if (mkdtemp(folder) == NULL)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? failed : 1; /* NOLINT: what it runs is ours */
}
