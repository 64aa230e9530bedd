/* test_journal.c - what was noted is seen, whatever came between, and nothing else is; against models that remember
 * all.
 *
 *     test_journal [TIMES]    so many times the steps of a short run */
#include "../plugins/kafka_sink/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define LIFE_LOW  UINT64_C(0x0123456789abcdef)
#define LIFE_HIGH UINT64_C(0xfedcba9876543210)
#define MANY      100000u

static unsigned times = 1;

/* ----------------------------------------------------------------------------------------------- no memory at times */

static long allocations_left = -1; /* until one fails; negative: none does */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool fails(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

/* ----------------------------------------------------------------------------------------------------------- chance */

static uint64_t chance_state = 20;

static uint64_t chance(void)
{
    uint64_t x = chance_state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t chance_below(uint64_t end)
{
    return chance() % end;
}

/* ------------------------------------------------------------------------------------------------------- identities */

static struct fms_identity numbered(const char *origin, uint64_t sequence)
{
    return (struct fms_identity){.kind = FMS_NUMBERED, .origin = fms_text(origin), .sequence = sequence};
}

static struct fms_identity part_of(const char *origin, uint64_t sequence, uint32_t part)
{
    struct fms_identity identity = numbered(origin, sequence);

    identity.part = part;
    return identity;
}

static struct fms_identity end_of(const char *origin, uint64_t sequence)
{
    struct fms_identity identity = numbered(origin, sequence);

    identity.is_end = true;
    return identity;
}

static struct fms_identity resent(const char *origin, uint64_t sequence, uint64_t print, bool may_repeat)
{
    return (struct fms_identity){.kind = FMS_RESENT,
                                 .origin = fms_text(origin),
                                 .sequence = sequence,
                                 .print = {print, ~print},
                                 .may_repeat = may_repeat};
}

static struct fms_identity resent_part(uint64_t print, uint32_t part, bool may_repeat)
{
    struct fms_identity identity = resent("broker", 5, print, may_repeat);

    identity.part = part;
    return identity;
}

static void note(struct journal *journal, struct fms_identity identity)
{
    assert_int_equal(journal_note(journal, &identity), 0);
}

static void check(struct journal *journal, struct fms_identity identity, enum journal_verdict verdict)
{
    assert_int_equal(journal_judge(journal, &identity), verdict);
}

static struct journal *new_journal(size_t most)
{
    struct journal *journal = journal_new(most);

    assert_non_null(journal);
    return journal;
}

/* ------------------------------------------------------------------------------------------------------------ topic */

struct stored {
    char key[4];
    unsigned slot;
    int64_t offset;
    unsigned char *value; /* a block of just its size, so that whoever reads beyond it is noticed */
    size_t size;
};

/* All that was ever written to it. */
struct topic {
    struct stored *records;
    size_t count, capacity;
    int64_t offset;
    uint64_t transaction;
};

static int topic_put(void *opaque, const char *key, struct fms_bytes value, unsigned slot)
{
    struct topic *topic = opaque;
    struct stored *stored;

    if (topic->count == topic->capacity) {
        topic->capacity = topic->capacity == 0 ? 64 : 2 * topic->capacity;
        topic->records = realloc(topic->records, topic->capacity * sizeof *topic->records);
    }
    stored = &topic->records[topic->count++];
    *stored = (struct stored){.slot = slot, .offset = topic->offset++, .value = malloc(value.size), .size = value.size};
    memcpy(stored->value, value.data, value.size);
    snprintf(stored->key, sizeof stored->key, "%s", key);
    assert_in_range(value.size, 1, JOURNAL_RECORD_MOST);
    return 0;
}

/* One transaction. How many records it has. */
static size_t commit(struct journal *journal, struct topic *topic)
{
    struct journal_name name = {{LIFE_LOW, LIFE_HIGH}, topic->transaction++};
    int count = journal_write(journal, name, topic_put, topic);

    assert_in_range(count, 1, JOURNAL_KEYS - 1);
    for (size_t i = topic->count - (size_t)count; i < topic->count; i++)
        journal_stored(journal, topic->records[i].slot, topic->records[i].offset);
    topic->offset += 1 + (int64_t)chance_below(3); /* the commit's own record, and others' */
    return (size_t)count;
}

static void topic_free(struct topic *topic)
{
    for (size_t i = 0; i < topic->count; i++)
        free(topic->records[i].value);
    free(topic->records);
    *topic = (struct topic){.count = 0};
}

static struct fms_bytes value_of(const struct stored *stored)
{
    return fms_bytes_of(stored->value, stored->size);
}

static int load(struct journal *journal, const struct stored *stored)
{
    char why[128] = "";
    int error = journal_load(journal, fms_text(stored->key), value_of(stored), stored->offset, why, sizeof why);

    assert_true((error == 0) == (why[0] == '\0'));
    return error;
}

static int64_t topic_base(const struct topic *topic)
{
    return journal_base(value_of(&topic->records[topic->count - 1]));
}

/* What a reader finds that begins where the newest record says. */
static struct journal *read_again(const struct topic *topic, size_t most)
{
    struct journal *journal = new_journal(most);

    for (size_t i = 0; i < topic->count; i++)
        if (topic->records[i].offset >= topic_base(topic))
            assert_int_equal(load(journal, &topic->records[i]), 0);
    return journal;
}

static bool is_superseded(const struct topic *topic, size_t record)
{
    for (size_t i = record + 1; i < topic->count; i++)
        if (topic->records[i].slot == topic->records[record].slot)
            return true;
    return false;
}

/* All that is not superseded, some of what is, in any order, some of it twice. */
static struct journal *read_shuffled(const struct topic *topic, size_t most)
{
    struct journal *journal = new_journal(most);
    const struct stored **all = malloc(2 * topic->count * sizeof(*all));
    size_t count = 0;

    for (size_t i = topic->count > 2000 ? topic->count - 2000 : 0; i < topic->count; i++) {
        if (!is_superseded(topic, i) || chance_below(2) == 0)
            all[count++] = &topic->records[i];
        if (chance_below(8) == 0)
            all[count++] = &topic->records[i];
    }
    for (; count > 0; count--) {
        size_t place = (size_t)chance_below(count);

        assert_int_equal(load(journal, all[place]), 0);
        all[place] = all[count - 1];
    }
    free(all);
    return journal;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

static void what_was_noted_is_seen(void **state)
{
    struct journal *journal = new_journal(10);

    (void)state;
    check(journal, numbered("truck", 7), JOURNAL_NEW);
    note(journal, numbered("truck", 7));
    check(journal, numbered("truck", 7), JOURNAL_SEEN);
    check(journal, end_of("truck", 7), JOURNAL_SEEN);
    check(journal, part_of("truck", 7, 3), JOURNAL_SEEN);
    check(journal, numbered("truck", 6), JOURNAL_NEW);
    check(journal, numbered("truck", 8), JOURNAL_NEW);
    check(journal, numbered("truc", 7), JOURNAL_NEW);
    check(journal, numbered("trucks", 7), JOURNAL_NEW);
    check(journal, resent("truck", 7, 0, true), JOURNAL_NEW);
    assert_int_equal(journal_entries(journal), 1);
    journal_free(journal);
}

/* A new origin may begin anywhere, and what is below may still come. */
static void below_the_first_nothing_was_seen(void **state)
{
    struct journal *journal = new_journal(10);

    (void)state;
    note(journal, numbered("truck", 1000000));
    check(journal, numbered("truck", 0), JOURNAL_NEW);
    check(journal, numbered("truck", 999999), JOURNAL_NEW);
    check(journal, numbered("truck", 1000000), JOURNAL_SEEN);
    note(journal, numbered("truck", 0));
    check(journal, numbered("truck", 0), JOURNAL_SEEN);
    check(journal, numbered("truck", 1), JOURNAL_NEW);
    journal_free(journal);
}

static void skipped_numbers_are_no_gap(void **state)
{
    struct journal *journal = new_journal(10);
    struct fms_identity identity = numbered("truck", 20);

    (void)state;
    note(journal, numbered("truck", 10));
    identity.skipped = 9;
    note(journal, identity);
    check(journal, numbered("truck", 11), JOURNAL_SEEN);
    check(journal, numbered("truck", 9), JOURNAL_NEW);
    identity = numbered("truck", UINT64_MAX);
    identity.skipped = 1;
    note(journal, identity);
    check(journal, numbered("truck", UINT64_MAX), JOURNAL_SEEN);
    check(journal, numbered("truck", UINT64_MAX - 1), JOURNAL_SEEN);
    check(journal, numbered("truck", UINT64_MAX - 2), JOURNAL_NEW);
    identity.skipped = UINT64_MAX;
    note(journal, identity);
    check(journal, numbered("truck", 0), JOURNAL_SEEN);
    check(journal, numbered("truck", 1u << 31), JOURNAL_SEEN);
    identity = numbered("van", 5);
    identity.skipped = 6; /* which cannot be */
    note(journal, identity);
    check(journal, numbered("van", 4), JOURNAL_NEW);
    check(journal, numbered("van", 5), JOURNAL_SEEN);
    journal_free(journal);
}

/* Each second number of more than are kept: the oldest are not known any more, and what did not come is not seen. */
static void of_too_many_gaps_the_oldest_are_unsure(void **state)
{
    struct journal *journal = new_journal(10);
    uint64_t unsure = 0;

    (void)state;
    for (uint64_t number = 1; number < 400; number += 2)
        note(journal, numbered("truck", number));
    for (uint64_t number = 0; number < 400; number++) {
        struct fms_identity identity = numbered("truck", number);
        enum journal_verdict verdict = journal_judge(journal, &identity);

        assert_true(verdict != JOURNAL_SEEN || number % 2 == 1);
        assert_true(verdict != JOURNAL_NEW || number % 2 == 0);
        assert_true(verdict != JOURNAL_UNSURE || number == unsure);
        unsure += verdict == JOURNAL_UNSURE;
    }
    assert_int_equal(unsure, 400 - 2 * 64);
    assert_int_equal(journal_unsure(journal), unsure);
    note(journal, numbered("truck", 0));
    check(journal, numbered("truck", 0), JOURNAL_UNSURE);
    check(journal, part_of("truck", 1, 1), JOURNAL_UNSURE);
    check(journal, end_of("truck", 1), JOURNAL_NEW);
    journal_free(journal);
}

/* ----------------------------------------------------------------------------------------------- numbers, by chance */

#define WINDOW 40000u

/* The numbers from `start` on that were noted; and all up to `below`, but for that one. */
struct naive {
    uint64_t start, below;
    bool noted[WINDOW];
    uint64_t next;
};

static bool naive_has(const struct naive *naive, uint64_t number)
{
    return number < naive->below ||
           (number >= naive->start && number - naive->start < WINDOW && naive->noted[number - naive->start]);
}

static void naive_note(struct naive *naive, struct fms_identity identity)
{
    if (identity.skipped == identity.sequence)
        naive->below = identity.sequence > naive->below ? identity.sequence : naive->below;
    for (uint64_t number = identity.sequence - identity.skipped;; number++) {
        if (number >= naive->start && number - naive->start < WINDOW)
            naive->noted[number - naive->start] = true;
        if (number == identity.sequence)
            return;
        if (number < naive->start)
            number = naive->start - 1;
    }
}

/* How numbers come: in order; by one or by 10,000 from their place; anywhere; with gaps; and with ranges that were
 * skipped. */
static struct fms_identity naive_draw(struct naive *naive, unsigned manner)
{
    struct fms_identity identity = numbered("truck", naive->next);
    uint64_t at = naive->next, back = manner == 1 ? 1 : 10000;

    naive->next += at < WINDOW - 1;
    if ((manner == 1 || manner == 2) && chance_below(8) == 0 && at > back)
        at -= back;
    else if (manner == 3 || at == WINDOW - 1)
        at = chance_below(WINDOW);
    else if (manner == 4 && chance_below(50) == 0 && at < WINDOW - 10)
        naive->next += chance_below(5);
    else if (manner == 5 && chance_below(20) == 0)
        identity.skipped = chance_below(at < 200 ? at + 1 : 200);
    identity.sequence = naive->start + at;
    if (identity.skipped > identity.sequence || (manner == 5 && at > WINDOW / 2 && chance_below(20000) == 0))
        identity.skipped = identity.sequence;
    return identity;
}

/* The same again, from what it has written of late. */
static struct journal *write_and_read(struct journal *journal, struct topic *topic)
{
    struct journal *again;

    commit(journal, topic);
    again = read_shuffled(topic, 10);
    for (unsigned i = 0; i < 200; i++) {
        struct fms_identity identity = numbered("truck", chance() >> chance_below(64));

        check(again, identity, journal_judge(journal, &identity));
    }
    journal_free(journal);
    return again;
}

static void numbers_that_come_in_a_manner(uint64_t start, unsigned manner, unsigned steps)
{
    struct journal *journal = new_journal(10);
    struct naive *naive = calloc(1, sizeof *naive);
    struct topic topic = {.count = 0};

    naive->start = start;
    for (unsigned step = 0; step < steps; step++) {
        struct fms_identity identity = naive_draw(naive, manner), other;
        enum journal_verdict verdict;

        if (chance_below(4) > 0) {
            assert_int_equal(journal_note(journal, &identity), 0);
            naive_note(naive, identity);
        }
        for (unsigned i = 0; i < 4; i++) {
            uint64_t near = naive->next - (naive->next < 50 ? naive->next : 50) + chance_below(60);

            other = numbered("truck", start + (i < 2 ? chance_below(WINDOW) : near < WINDOW ? near : WINDOW - 1));
            verdict = journal_judge(journal, &other);
            assert_true(verdict != JOURNAL_SEEN || naive_has(naive, other.sequence));
            assert_true(verdict != JOURNAL_NEW || !naive_has(naive, other.sequence));
        }
        if (chance_below(300) == 0)
            journal = write_and_read(journal, &topic);
    }
    free(naive);
    journal_free(journal);
    topic_free(&topic);
}

static void numbers_come_as_they_like(void **state)
{
    static const uint64_t starts[] = {0, UINT64_C(1) << 40, UINT64_MAX - (WINDOW - 1)};

    (void)state;
    for (unsigned manner = 0; manner <= 5; manner++)
        for (unsigned i = 0; i < sizeof starts / sizeof *starts; i++)
            numbers_that_come_in_a_manner(starts[i], manner, 5000 * times);
}

static void note_odd_numbers(struct journal *journal)
{
    for (uint64_t number = 1; number < 400; number += 2)
        note(journal, numbered("truck", number));
    check(journal, numbered("truck", 200), JOURNAL_UNSURE);
    check(journal, numbered("truck", 300), JOURNAL_NEW);
}

/* Numbers on both sides of that below which all is unsure, skipped, or told before they were forgotten. */
static void check_unsure_without(uint64_t missing)
{
    struct journal *journal = new_journal(1), *again;
    struct fms_identity identity = numbered("truck", 300);
    struct topic topic = {.count = 0}, other = {.count = 0};

    for (uint64_t number = 0; number < 500; number++)
        if (number != missing)
            note(journal, numbered("truck", number));
    commit(journal, &topic);
    note(journal, numbered("van", 0));
    note_odd_numbers(journal);
    commit(journal, &topic);
    again = new_journal(10);
    assert_int_equal(load(again, &topic.records[0]), 0);
    assert_int_equal(load(again, &topic.records[1]), 0);
    identity.skipped = 200;
    note(journal, identity);
    note(again, identity);
    journal = write_and_read(journal, &other);
    again = write_and_read(again, &topic);
    check(journal, numbered("truck", 200), JOURNAL_UNSURE);
    check(again, numbered("truck", 200), JOURNAL_UNSURE);
    check(journal, numbered("truck", 298), JOURNAL_SEEN);
    check(journal, numbered("truck", 302), JOURNAL_NEW);
    check(again, numbered("truck", 302), JOURNAL_SEEN);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
    topic_free(&other);
}

static void what_is_unsure_stays_so(void **state)
{
    (void)state;
    check_unsure_without(350);
    check_unsure_without(500);
}

/* An origin that comes in order again takes no more memory than one that always did. */
static void gaps_that_are_filled_leave_nothing(void **state)
{
    struct journal *journal = new_journal(10);
    size_t bytes;

    (void)state;
    note(journal, numbered("truck", 0));
    bytes = journal_bytes(journal);
    for (uint64_t number = 2; number < 20; number += 2)
        note(journal, numbered("truck", number));
    assert_true(journal_bytes(journal) > bytes);
    for (uint64_t number = 1; number < 20; number += 2)
        note(journal, numbered("truck", number));
    assert_int_equal(journal_bytes(journal), bytes);
    journal_free(journal);
}

/* It was forgotten, and came anew: what was told of it before and since makes more intervals than are kept. */
static void an_origin_that_was_forgotten_comes_again(void **state)
{
    struct journal *journal = new_journal(1), *again;
    struct topic topic = {.count = 0};

    (void)state;
    for (uint64_t number = 0; number < 120; number += 2)
        note(journal, numbered("truck", number));
    commit(journal, &topic);
    note(journal, numbered("van", 0));
    check(journal, numbered("truck", 2), JOURNAL_NEW);
    for (uint64_t number = 120; number < 240; number += 2)
        note(journal, numbered("truck", number));
    commit(journal, &topic);
    again = new_journal(10);
    assert_int_equal(load(again, &topic.records[0]), 0);
    assert_int_equal(load(again, &topic.records[1]), 0);
    check(again, numbered("truck", 110), JOURNAL_UNSURE);
    check(again, numbered("truck", 118), JOURNAL_SEEN);
    check(again, numbered("truck", 119), JOURNAL_NEW);
    note(again, numbered("truck", 1000));
    again = write_and_read(again, &topic);
    check(again, numbered("truck", 1000), JOURNAL_SEEN);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* Late by one or by 10,000, with nothing missing: no verdict is unsure. */
static void late_ones_are_known(void **state)
{
    (void)state;
    for (unsigned late = 1; late <= 10000; late *= 100) {
        struct journal *journal = new_journal(10);

        for (uint64_t number = 0; number < 30000; number++) {
            if (number % 1000 != 999)
                note(journal, numbered("truck", number));
            if (number >= late && (number - late) % 1000 == 999) {
                check(journal, numbered("truck", number - late), JOURNAL_NEW);
                note(journal, numbered("truck", number - late));
                check(journal, numbered("truck", number - late), JOURNAL_SEEN);
            }
        }
        assert_int_equal(journal_unsure(journal), 0);
        journal_free(journal);
    }
}

/* ------------------------------------------------------------------------------------------------------------ parts */

static void parts_are_told_apart_until_their_end(void **state)
{
    struct journal *journal = new_journal(10), *again;
    struct topic topic = {.count = 0};

    (void)state;
    note(journal, part_of("truck", 7, 1));
    note(journal, part_of("truck", 7, FMS_PART_LETTER + 2));
    check(journal, part_of("truck", 7, 1), JOURNAL_SEEN);
    check(journal, part_of("truck", 7, 2), JOURNAL_NEW);
    check(journal, part_of("truck", 7, FMS_PART_LETTER + 2), JOURNAL_SEEN);
    check(journal, part_of("truck", 7, FMS_PART_LETTER + 1), JOURNAL_NEW);
    check(journal, part_of("truck", 8, 1), JOURNAL_NEW);
    check(journal, numbered("truck", 7), JOURNAL_NEW);
    check(journal, end_of("truck", 7), JOURNAL_NEW);
    commit(journal, &topic);
    note(journal, end_of("truck", 7));
    assert_int_equal(journal_entries(journal), 1);
    check(journal, part_of("truck", 7, 2), JOURNAL_SEEN);
    check(journal, end_of("truck", 7), JOURNAL_SEEN);
    commit(journal, &topic);
    again = read_again(&topic, 10);
    assert_int_equal(journal_entries(again), 1);
    check(again, part_of("truck", 7, 2), JOURNAL_SEEN);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* Their end was loaded before them: they are forgotten when they would be told anew. */
static void parts_that_are_loaded_after_their_end(void **state)
{
    struct journal *journal = new_journal(10);
    struct topic topic = {.count = 0};

    (void)state;
    note(journal, part_of("truck", 7, 1));
    note(journal, numbered("idle", 1));
    commit(journal, &topic);
    note(journal, end_of("truck", 7));
    commit(journal, &topic);
    journal_free(journal);
    journal = new_journal(10);
    assert_int_equal(load(journal, &topic.records[1]), 0);
    assert_int_equal(load(journal, &topic.records[0]), 0);
    check(journal, part_of("truck", 7, 2), JOURNAL_SEEN);
    for (unsigned i = 0; i < JOURNAL_KEYS; i++)
        commit(journal, &topic);
    assert_int_equal(journal_entries(journal), 2);
    journal_free(journal);
    topic_free(&topic);
}

/* Parts that came and ended within one transaction take no byte. */
static void parts_of_one_transaction_are_not_told(void **state)
{
    struct topic with = {.count = 0}, without = {.count = 0};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct journal *journal = new_journal(10);

        for (uint32_t part = 1; i == 0 && part < 9; part++)
            note(journal, part_of("truck", 7, part));
        note(journal, end_of("truck", 7));
        commit(journal, i == 0 ? &with : &without);
        journal_free(journal);
    }
    assert_int_equal(with.records[0].size, without.records[0].size);
    topic_free(&with);
    topic_free(&without);
}

/* ----------------------------------------------------------------------------------------------------------- resent */

static void of_an_identifier_the_last_print_counts(void **state)
{
    struct journal *journal = new_journal(10), *again;
    struct topic topic = {.count = 0};

    (void)state;
    check(journal, resent("broker", 5, 1, true), JOURNAL_NEW);
    note(journal, resent("broker", 5, 1, false));
    check(journal, resent("broker", 5, 1, true), JOURNAL_SEEN);
    check(journal, resent("broker", 5, 1, false), JOURNAL_NEW); /* the identifier is in use again */
    check(journal, resent("broker", 5, 2, true), JOURNAL_NEW);
    check(journal, resent("broker", 6, 1, true), JOURNAL_NEW);
    commit(journal, &topic);
    note(journal, resent("broker", 5, 2, true));
    check(journal, resent("broker", 5, 1, true), JOURNAL_NEW);
    check(journal, resent("broker", 5, 2, true), JOURNAL_SEEN);
    commit(journal, &topic);
    for (unsigned i = 0; i < 20; i++) {
        again = i == 0 ? read_again(&topic, 10) : read_shuffled(&topic, 10);
        check(again, resent("broker", 5, 1, true), JOURNAL_NEW);
        check(again, resent("broker", 5, 2, true), JOURNAL_SEEN);
        journal_free(again);
    }
    journal_free(journal);
    topic_free(&topic);
}

/* A message that is like one before it, and has its identifier: what was written of that one is nothing of its. */
static void parts_of_a_message_that_is_like_another(void **state)
{
    struct journal *journal = new_journal(10);
    struct fms_identity end = resent("broker", 5, 1, false);

    (void)state;
    end.is_end = true;
    note(journal, resent_part(1, 1, false));
    note(journal, resent_part(1, 2, false));
    check(journal, resent_part(1, 2, true), JOURNAL_SEEN);
    check(journal, resent_part(1, 2, false), JOURNAL_NEW);
    check(journal, resent_part(1, 3, true), JOURNAL_NEW);
    check(journal, resent_part(2, 2, true), JOURNAL_NEW);
    note(journal, resent_part(1, 1, false)); /* another, though its first part is the same */
    check(journal, resent_part(1, 1, true), JOURNAL_SEEN);
    check(journal, resent_part(1, 2, true), JOURNAL_NEW);
    check(journal, end, JOURNAL_NEW);
    note(journal, end);
    end.may_repeat = true;
    check(journal, end, JOURNAL_SEEN);
    check(journal, resent_part(1, 2, true), JOURNAL_SEEN);
    note(journal, resent_part(1, 1, false)); /* and another one */
    check(journal, resent_part(1, 2, true), JOURNAL_NEW);
    check(journal, resent("broker", 5, 1, true), JOURNAL_NEW);
    assert_int_equal(journal_entries(journal), 1);
    journal_free(journal);
}

/* ----------------------------------------------------------------------------------------------------------- bounds */

static void what_was_noted_longest_ago_is_forgotten(void **state)
{
    struct journal *journal = new_journal(3), *again;
    struct topic topic = {.count = 0};

    (void)state;
    note(journal, numbered("a", 1));
    note(journal, numbered("b", 1));
    note(journal, numbered("c", 1));
    commit(journal, &topic);
    note(journal, numbered("a", 2));
    note(journal, numbered("d", 1));
    assert_int_equal(journal_entries(journal), 3);
    assert_int_equal(journal_forgotten(journal), 1);
    check(journal, numbered("b", 1), JOURNAL_NEW);
    check(journal, numbered("a", 1), JOURNAL_SEEN);
    check(journal, numbered("c", 1), JOURNAL_SEEN);
    commit(journal, &topic);
    again = read_again(&topic, 2);
    assert_int_equal(journal_entries(again), 2);
    check(again, numbered("a", 2), JOURNAL_SEEN);
    check(again, numbered("d", 1), JOURNAL_SEEN);
    check(again, numbered("c", 1), JOURNAL_NEW);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* Those that were told anew are older than those that were noted of late, however late that was. */
static void idle_ones_are_forgotten_first_after_a_load(void **state)
{
    struct journal *journal = new_journal(10), *again;
    struct topic topic = {.count = 0};

    (void)state;
    note(journal, numbered("idle", 1));
    commit(journal, &topic);
    note(journal, numbered("idler", 1));
    for (unsigned i = 0; i < 600; i++) {
        if (i == 500)
            note(journal, numbered("late", 1));
        note(journal, numbered("busy", i));
        commit(journal, &topic);
    }
    for (size_t most = 1; most < 4; most++) {
        again = read_again(&topic, most);
        check(again, numbered("busy", 599), JOURNAL_SEEN);
        check(again, numbered("late", 1), most > 1 ? JOURNAL_SEEN : JOURNAL_NEW);
        journal_free(again);
    }
    again = read_again(&topic, 4);
    check(again, numbered("idle", 1), JOURNAL_SEEN);
    check(again, numbered("idler", 1), JOURNAL_SEEN);
    note(again, numbered("new", 1));
    check(again, numbered("idle", 1), JOURNAL_NEW);
    check(again, numbered("idler", 1), JOURNAL_SEEN);
    check(again, numbered("late", 1), JOURNAL_SEEN);
    check(again, numbered("busy", 599), JOURNAL_SEEN);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* However many there may be, what all tell is bounded, too, and fits into less than JOURNAL_KEYS records. */
static void what_all_say_is_bounded(void **state)
{
    struct journal *journal = new_journal(SIZE_MAX), *again;
    struct topic topic = {.count = 0};
    char name[FMS_ORIGIN_MOST + 1];
    size_t entries;

    (void)state;
    memset(name, 'x', sizeof name);
    for (unsigned i = 0; i < 200000; i++) {
        snprintf(name + FMS_ORIGIN_MOST - 8, 9, "%08x", i);
        note(journal, numbered(name, UINT64_MAX));
    }
    entries = journal_entries(journal);
    assert_in_range(entries, 100000, 190000);
    assert_int_equal(journal_forgotten(journal), 200000 - entries);
    assert_in_range(commit(journal, &topic), 64, 96);
    again = read_again(&topic, SIZE_MAX);
    assert_int_equal(journal_entries(again), entries);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* ------------------------------------------------------------------------------------------------------------- many */

static double milliseconds_since(const struct timespec *start)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)(now.tv_sec - start->tv_sec) * 1e3 + (double)(now.tv_nsec - start->tv_nsec) / 1e6;
}

static const char *vehicle(unsigned i)
{
    static char name[24];

    snprintf(name, sizeof name, "vehicle-%06u-spool", i); /* of 20 bytes */
    return name;
}

static struct journal *fill(unsigned rounds)
{
    struct journal *journal = new_journal(MANY);
    struct timespec start;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    for (unsigned i = 0; i < rounds * MANY; i++) {
        struct fms_identity identity = numbered(vehicle(i % MANY), 100000 + i / MANY);

        if (journal_judge(journal, &identity) == JOURNAL_NEW)
            assert_int_equal(journal_note(journal, &identity), 0);
    }
    printf("%u origins: judge and note take %.0f ns, with making their names\n", MANY,
           milliseconds_since(&start) * 1e6 / (rounds * MANY));
    return journal;
}

static void one_origin_in_order(void)
{
    struct journal *journal = new_journal(MANY);
    struct fms_identity identity = numbered("vehicle-000001-spool", 0);
    struct timespec start;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    for (; identity.sequence < 1000000; identity.sequence++)
        if (journal_judge(journal, &identity) == JOURNAL_NEW)
            assert_int_equal(journal_note(journal, &identity), 0);
    printf("an origin in order: judge and note take %.0f ns\n", milliseconds_since(&start));
    assert_int_equal(journal_entries(journal), 1);
    journal_free(journal);
}

static void a_hundred_thousand_origins(void **state)
{
    struct journal *journal = fill(2), *again;
    struct topic topic = {.count = 0};
    struct timespec start;
    size_t size = 0, count;

    (void)state;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    count = commit(journal, &topic);
    printf("%u origins: written in %.1f ms", MANY, milliseconds_since(&start));
    assert_in_range(count, 2, 10);
    for (size_t i = 0; i < topic.count; i++)
        size += topic.records[i].size;
    assert_in_range(size, MANY * 25, MANY * 27 + 10 * 100);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    again = read_again(&topic, MANY);
    printf(", loaded in %.1f ms; %zu bytes of memory and %.1f of a record each\n", milliseconds_since(&start),
           (journal_bytes(again) - JOURNAL_RECORD_MOST) / MANY, (double)size / MANY);
    assert_in_range((journal_bytes(again) - JOURNAL_RECORD_MOST) / MANY, 64, 125);
    assert_int_equal(journal_entries(again), MANY);
    assert_int_equal(journal_bytes(again), journal_bytes(journal));
    for (unsigned i = 0; i < MANY; i++) {
        check(again, numbered(vehicle(i), 100001), JOURNAL_SEEN);
        check(again, numbered(vehicle(i), 100002), JOURNAL_NEW);
    }
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
    one_origin_in_order();
}

/* ------------------------------------------------------------------------------------------------------------- ring */

#define ORIGINS     60u
#define IDLE        2000u
#define SEQUENCES   16384u
#define IDENTIFIERS 20u
#define OPEN        30u

/* All that there was, and what of an identifier was last. */
struct model {
    bool noted[ORIGINS][SEQUENCES];
    uint64_t next[ORIGINS];
    struct {
        unsigned origin;
        uint64_t sequence;
        uint32_t parts; /* a bit each */
    } open[OPEN];       /* records of which parts were written, but not their end */
    struct {
        uint64_t print;
        bool is_used;
    } identifiers[IDENTIFIERS];
};

static const char *name_of(unsigned origin)
{
    static char name[16];

    snprintf(name, sizeof name, "origin-%u", origin);
    return name;
}

static void model_note_number(struct model *model, struct journal *journal)
{
    unsigned origin = (unsigned)(chance_below(ORIGINS) * chance_below(ORIGINS) / ORIGINS);
    uint64_t sequence = model->next[origin];
    struct fms_identity identity;

    if (chance_below(20) == 0)
        sequence -= chance_below(sequence < 100 ? sequence + 1 : 100);
    else if (chance_below(40) == 0)
        sequence += chance_below(5);
    if (sequence >= SEQUENCES)
        return;
    identity = numbered(name_of(origin), sequence);
    if (chance_below(50) == 0)
        identity.skipped = chance_below(sequence < 5 ? sequence + 1 : 5);
    note(journal, identity);
    for (uint64_t i = 0; i <= identity.skipped; i++)
        model->noted[origin][sequence - i] = true;
    model->next[origin] = sequence >= model->next[origin] ? sequence + 1 : model->next[origin];
}

static void model_note_part(struct model *model, struct journal *journal)
{
    unsigned place = (unsigned)chance_below(OPEN), origin = model->open[place].origin;
    uint32_t part = (uint32_t)chance_below(8);
    uint64_t sequence = model->open[place].sequence;

    if (model->open[place].parts == 0) {
        model->open[place].origin = origin = (unsigned)chance_below(ORIGINS);
        model->open[place].sequence = sequence = model->next[origin];
        if (sequence >= SEQUENCES)
            return;
        model->next[origin]++;
    } else if (chance_below(20) == 0) {
        model->open[place].parts = 0;
        model->noted[origin][sequence] = true;
        note(journal, end_of(name_of(origin), sequence));
        return;
    }
    model->open[place].parts |= 1u << part;
    note(journal, part_of(name_of(origin), sequence, part < 6 ? part + 1 : FMS_PART_LETTER + part));
}

static void model_note_resent(struct model *model, struct journal *journal)
{
    unsigned identifier = (unsigned)chance_below(IDENTIFIERS);

    model->identifiers[identifier].is_used = true;
    model->identifiers[identifier].print = chance();
    note(journal, resent("broker", identifier, model->identifiers[identifier].print, chance_below(2) == 0));
}

/* The two say the same, and what the model does. */
static void check_number(const struct model *model, struct journal *journal, struct journal *again, unsigned origin,
                         uint64_t sequence)
{
    struct fms_identity identity = numbered(name_of(origin), sequence);
    enum journal_verdict verdict = journal_judge(again, &identity);

    assert_int_equal(journal_judge(journal, &identity), verdict);
    assert_true(verdict != JOURNAL_SEEN || model->noted[origin][sequence]);
    assert_true(verdict != JOURNAL_NEW || !model->noted[origin][sequence]);
}

static void check_model(const struct model *model, struct journal *journal, struct journal *again)
{
    for (unsigned origin = 0; origin < ORIGINS; origin++)
        for (uint64_t sequence = 0; sequence < model->next[origin] + 3 && sequence < SEQUENCES; sequence++)
            check_number(model, journal, again, origin, sequence);
    for (unsigned i = 0; i < IDLE; i++) {
        check(again, numbered(vehicle(i), i), JOURNAL_SEEN);
        check(again, numbered(vehicle(i), i + 1), JOURNAL_NEW);
    }
    for (unsigned i = 0; i < OPEN; i++) {
        for (uint32_t part = 0; model->open[i].parts != 0 && part < 8; part++) {
            struct fms_identity identity = part_of(name_of(model->open[i].origin), model->open[i].sequence,
                                                   part < 6 ? part + 1 : FMS_PART_LETTER + part);
            enum journal_verdict verdict = journal_judge(again, &identity);
            bool was_whole = model->noted[model->open[i].origin][model->open[i].sequence];
            bool was_noted = (model->open[i].parts >> part & 1) != 0;

            assert_int_equal(journal_judge(journal, &identity), verdict);
            assert_true(verdict != JOURNAL_SEEN || was_noted || was_whole);
            assert_true(verdict == JOURNAL_SEEN || !was_noted || was_whole);
            assert_true(verdict != JOURNAL_NEW || !was_whole);
        }
    }
    for (unsigned i = 0; i < IDENTIFIERS; i++) {
        check(again, resent("broker", i, model->identifiers[i].print, true),
              model->identifiers[i].is_used ? JOURNAL_SEEN : JOURNAL_NEW);
        check(again, resent("broker", i, model->identifiers[i].print + 1, true), JOURNAL_NEW);
    }
}

/* Nobody needs more than the last records, one of each key, from the newest one's base on. */
static void check_base(const struct topic *topic)
{
    size_t count = 0;

    for (size_t i = 0; i < topic->count; i++)
        count += topic->records[i].offset >= topic_base(topic);
    assert_in_range(count, 1, JOURNAL_KEYS);
    assert_true(topic_base(topic) >= 0 || topic->count < JOURNAL_KEYS);
}

static void check_loads(const struct model *model, struct journal *journal, const struct topic *topic, bool is_exact)
{
    struct journal *again = read_again(topic, SIZE_MAX);
    struct journal_name name;

    check_base(topic);
    check_model(model, journal, again);
    assert_true(journal_entries(again) <= journal_entries(journal));
    assert_true(!is_exact || journal_entries(again) == journal_entries(journal));
    assert_true(journal_last(again, &name));
    assert_true(name.life[0] == LIFE_LOW && name.life[1] == LIFE_HIGH && name.transaction == topic->transaction - 1);
    journal_free(again);
    again = read_shuffled(topic, SIZE_MAX);
    check_model(model, journal, again);
    assert_true(journal_last(again, &name) && name.transaction == topic->transaction - 1);
    journal_free(again);
}

/* A journal that was loaded goes on like the one that it was loaded from. In another order than they were written, it
 * may have entries more of which the end was told. */
static struct journal *continue_with_another(struct journal *journal, const struct topic *topic, bool *is_exact)
{
    *is_exact = chance_below(2) == 0;
    journal_free(journal);
    return *is_exact ? read_again(topic, SIZE_MAX) : read_shuffled(topic, SIZE_MAX);
}

static void everything_is_in_the_last_records(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    struct journal *journal = new_journal(SIZE_MAX);
    struct topic topic = {.count = 0};
    bool is_exact = true;

    (void)state;
    for (unsigned i = 0; i < IDLE; i++)
        note(journal, numbered(vehicle(i), i));
    for (unsigned transaction = 1; transaction <= 1000 * (times > 10 ? 10 : times); transaction++) {
        for (uint64_t i = chance_below(40); i > 0; i--) {
            if (chance_below(4) > 0)
                model_note_number(model, journal);
            else if (chance_below(2) == 0)
                model_note_part(model, journal);
            else
                model_note_resent(model, journal);
        }
        commit(journal, &topic);
        if (transaction % 500 == 0)
            check_loads(model, journal, &topic, is_exact);
        if (transaction % 700 == 0)
            journal = continue_with_another(journal, &topic, &is_exact);
    }
    journal_free(journal);
    topic_free(&topic);
    free(model);
}

/* The bytes from the newest base on, of transactions in which `touched` of `all` origins come. */
static size_t ring_of(unsigned all, unsigned touched, unsigned transactions)
{
    struct journal *journal = new_journal(SIZE_MAX), *again;
    struct topic topic = {.count = 0};
    size_t size = 0;

    for (unsigned i = 0; i < all; i++)
        note(journal, numbered(vehicle(i), 0));
    for (unsigned transaction = 1; transaction <= transactions; transaction++) {
        for (unsigned i = 0; i < touched; i++)
            note(journal, numbered(vehicle(i), transaction));
        commit(journal, &topic);
    }
    for (size_t i = 0; i < topic.count; i++)
        if (topic.records[i].offset >= topic_base(&topic))
            size += topic.records[i].size;
    again = read_again(&topic, SIZE_MAX);
    assert_int_equal(journal_entries(again), all);
    for (unsigned i = 0; i < all; i++)
        check(again, numbered(vehicle(i), i < touched ? transactions : 0), JOURNAL_SEEN);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
    return size;
}

static void the_last_records_are_not_too_large(void **state)
{
    (void)state;
    assert_in_range(ring_of(500, 500, 300), 10000, 15000);       /* the last one tells all */
    assert_in_range(ring_of(500, 250, 300), 500000, 1060000);    /* 1 MiB: half of them are idle */
    assert_in_range(ring_of(20000, 10000, 40), 500000, 2400000); /* 4 times 26 bytes each */
    assert_in_range(ring_of(20000, 1, 600), 400000, 600000);
}

/* What idle ones said in one record is told anew in some. */
static void check_spread(unsigned idle, unsigned busy, unsigned transactions)
{
    struct journal *journal = new_journal(SIZE_MAX);
    struct topic topic = {.count = 0};
    unsigned told = 0;

    for (unsigned i = 0; i < idle; i++)
        note(journal, numbered(vehicle(i), 0));
    commit(journal, &topic);
    for (unsigned transaction = 1; transaction <= transactions; transaction++) {
        size_t size = 0;

        for (unsigned i = 0; i < busy; i++)
            note(journal, numbered(vehicle(i), transaction));
        for (size_t i = commit(journal, &topic); i > 0; i--)
            size += topic.records[topic.count - i].size;
        assert_in_range(size, busy * 24, 2 * busy * 24 + 16 * 1024 + idle * 27 / 32 + 1000);
        told += size > busy * 26 + 1000;
    }
    assert_in_range(told, 2, 40);
    journal_free(journal);
    topic_free(&topic);
}

static void telling_anew_is_spread(void **state)
{
    (void)state;
    check_spread(60000, 10000, 30); /* as the records are too large */
    check_spread(60000, 1, 300);    /* as keys come round */
}

/* A key's record is overwritten by a transaction that is itself of several records. */
static void keys_come_round_in_large_transactions(void **state)
{
    struct journal *journal = new_journal(SIZE_MAX), *again;
    struct topic topic = {.count = 0};
    unsigned end = 60000;

    (void)state;
    for (unsigned i = 0; i < end; i++)
        note(journal, numbered(vehicle(i), 0));
    assert_in_range(commit(journal, &topic), 3, 4);
    for (unsigned transaction = 0; transaction < 252; transaction++) {
        note(journal, numbered("busy", transaction));
        assert_int_equal(commit(journal, &topic), 1);
    }
    for (unsigned i = 0; i < 30000; i++)
        note(journal, numbered(vehicle(end++), 0));
    assert_in_range(commit(journal, &topic), 2, 6);
    again = read_again(&topic, SIZE_MAX);
    assert_int_equal(journal_entries(again), end + 1);
    for (unsigned i = 0; i < end; i++)
        check(again, numbered(vehicle(i), 0), JOURNAL_SEEN);
    check_base(&topic);
    journal_free(again);
    journal_free(journal);
    topic_free(&topic);
}

/* Where Kafka has them was not told: readers begin at the beginning, and later ones where they may. */
static void offsets_that_nobody_told(void **state)
{
    struct journal_name name = {{1, 2}, 3};
    struct journal *journal = new_journal(10);
    struct topic topic = {.count = 0};

    (void)state;
    note(journal, numbered("truck", 1));
    assert_int_equal(journal_write(journal, name, topic_put, &topic), 1);
    assert_int_equal(topic_base(&topic), -1);
    note(journal, numbered("van", 1));
    assert_int_equal(journal_write(journal, name, topic_put, &topic), 1);
    assert_int_equal(topic_base(&topic), -1);
    journal_stored(journal, 1, 77);
    note(journal, numbered("truck", 2));
    assert_int_equal(journal_write(journal, name, topic_put, &topic), 1);
    assert_int_equal(topic_base(&topic), 77);
    note(journal, numbered("van", 2));
    note(journal, numbered("truck", 3));
    assert_int_equal(journal_write(journal, name, topic_put, &topic), 1);
    assert_int_equal(topic_base(&topic), 78);
    assert_int_equal(journal_base(fms_text("")), -1);
    journal_free(journal);
    topic_free(&topic);
}

static int no_put(void *opaque, const char *key, struct fms_bytes value, unsigned slot)
{
    (void)opaque;
    (void)key;
    (void)value;
    (void)slot;
    return -EIO;
}

static void a_record_that_is_not_taken_ends_the_writing(void **state)
{
    struct journal *journal = new_journal(SIZE_MAX);

    (void)state;
    for (unsigned i = 0; i < 60000; i++)
        note(journal, part_of(vehicle(i), 0, 1));
    assert_int_equal(journal_write(journal, (struct journal_name){{1, 2}, 3}, no_put, NULL), -EIO);
    for (unsigned i = 0; i < 60000; i++)
        note(journal, end_of(vehicle(i), 0));
    journal_free(journal);
}

/* ------------------------------------------------------------------------------------------------------ bad records */

/* One of each kind, with all that can be in it. */
static void write_rich_record(struct topic *topic)
{
    struct journal *journal = new_journal(20);

    note(journal, part_of("gone", 1, 1));
    commit(journal, topic);
    note(journal, end_of("gone", 1));
    for (uint64_t number = 1; number < 400; number += 2)
        note(journal, numbered("truck", number * number));
    note(journal, part_of("truck", 20, 7));
    note(journal, part_of("truck", 20, FMS_PART_LETTER));
    note(journal, resent("broker", 9, 1, false));
    note(journal, numbered("end", UINT64_MAX));
    commit(journal, topic);
    journal_free(journal);
}

static int load_bytes(struct journal *journal, const char *key, const void *bytes, size_t size, const char *expected)
{
    unsigned char *copy = malloc(size + 1); /* whose end is that of the block */
    char why[128] = "";
    int error;

    memcpy(copy + 1, bytes, size);
    error = journal_load(journal, fms_text(key), fms_bytes_of(copy + 1, size), 5, why, sizeof why);
    if (expected != NULL)
        assert_non_null(strstr(why, expected));
    if (error != 0)
        assert_int_equal(journal_entries(journal), 0);
    free(copy);
    return error;
}

static void torn_records_are_refused_whole(void **state)
{
    struct topic topic = {.count = 0};
    struct journal *journal = new_journal(20);
    struct journal_name name;
    const struct stored *rich;

    (void)state;
    write_rich_record(&topic);
    rich = &topic.records[1];
    for (size_t size = 0; size < rich->size; size++)
        assert_int_equal(load_bytes(journal, rich->key, rich->value, size, NULL), -EBADMSG);
    assert_false(journal_last(journal, &name));
    assert_int_equal(load_bytes(journal, rich->key, rich->value, rich->size, NULL), 0);
    check(journal, numbered("truck", UINT64_C(399) * 399), JOURNAL_SEEN);
    check(journal, part_of("truck", 20, 7), JOURNAL_SEEN);
    check(journal, numbered("end", UINT64_MAX), JOURNAL_SEEN);
    assert_int_equal(journal_base(value_of(rich)), topic.records[1].offset == 0 ? -1 : topic_base(&topic));
    journal_free(journal);
    topic_free(&topic);
}

static void what_is_wrong_with_a_record_is_said(void **state)
{
    struct topic topic = {.count = 0};
    struct journal *journal = new_journal(20);
    unsigned char *bytes;
    size_t size;

    (void)state;
    write_rich_record(&topic);
    size = topic.records[1].size;
    bytes = calloc(1, size + 1);
    memcpy(bytes, topic.records[1].value, size);
    assert_int_equal(load_bytes(journal, "1", bytes, size + 1, "behind its end"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "1", bytes, size - 1, "cut off"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "1", bytes, 10, "cut off"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "2", bytes, size, "key"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "", bytes, size, "key"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "1", "", 0, "a journal has not written it"), -EBADMSG);
    assert_int_equal(load_bytes(journal, "1", "{\"speed\": 80}", 13, "a journal has not written it"), -EBADMSG);
    bytes[3] = 7;
    assert_int_equal(load_bytes(journal, "1", bytes, size, "of version 7, and only 1"), -EPROTONOSUPPORT);
    assert_int_equal(journal_base(fms_bytes_of(bytes, size)), -1);
    bytes[3] = 1;
    bytes[4] = 0xff;
    assert_int_equal(load_bytes(journal, "1", bytes, size, "its head makes no sense"), -EBADMSG);
    free(bytes);
    journal_free(journal);
    topic_free(&topic);
}

/* Intervals that no journal writes, for they do not ascend or do not end. */
static void numbers_do_not_overflow(void **state)
{
    static const char head[] = "fmj\1\1................\0\0\0\0\0"; /* then the size of the rest */
    static const char *const bodies[] = {
        "\x01\x01t\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01",             /* its length */
        "\x21\x01t\x02\x01\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", /* the second one's gap */
        "\x21\x01t\x02\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01", /* where the second one could begin */
        "\x01\x01t\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",             /* of 65 bits */
        "\x21\x01t\x01\x01\x01",                                             /* a count of one */
        "\x01\xfft\x01\x01",                                                 /* a name that is longer than all */
        "\x01\x01t\x01\x01\x01\x01",                                         /* and one that is not all there */
        "\x81\x01t\x01\x01",                                                 /* a flag that there is not */
    };
    struct journal *journal = new_journal(20);

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        size_t size = strlen(bodies[i]);
        char bytes[64];

        memcpy(bytes, head, sizeof head - 1);
        bytes[sizeof head - 1] = (char)size;
        memcpy(bytes + sizeof head, bodies[i], size);
        assert_int_equal(load_bytes(journal, "0", bytes, sizeof head + size, "what it tells makes no sense"), -EBADMSG);
    }
    assert_int_equal(load_bytes(journal, "0", "fmj\1\1................\0\0\0\0\0\377\377\377\377\17", 31, "cut off"),
                     -EBADMSG);
    assert_int_equal(load_bytes(journal, "0", "fmj\1\1................\0\0\0\0\0\5\1\1t\1\1", 32, NULL), 0);
    check(journal, numbered("t", 1), JOURNAL_SEEN);
    check(journal, numbered("t", 2), JOURNAL_SEEN);
    journal_free(journal);
}

/* Bytes that are others than they were may tell what never was, for Kafka sees to that; but they do no harm else. */
static void foreign_bytes_do_no_harm(void **state)
{
    struct topic topic = {.count = 0};
    unsigned char *bytes;

    (void)state;
    write_rich_record(&topic);
    bytes = malloc(topic.records[1].size);
    for (unsigned step = 0; step < 2000 * times; step++) {
        struct journal *journal = new_journal(20);
        size_t size = topic.records[1].size;
        char why[16];

        memcpy(bytes, topic.records[1].value, size);
        for (uint64_t i = chance_below(4); i < 5; i++)
            bytes[4 + chance_below(size - 4)] = (unsigned char)chance();
        journal_load(journal, fms_text("1"), fms_bytes_of(bytes, size), 1, why, sizeof why);
        assert_int_equal(load(journal, &topic.records[0]), 0);
        commit(journal, &topic);
        free(topic.records[--topic.count].value);
        journal_free(journal);
    }
    free(bytes);
    topic_free(&topic);
}

/* -------------------------------------------------------------------------------------------------------- no memory */

/* Some of all, until memory ends. How much of it was done. */
static unsigned try_all(struct journal *journal, const struct topic *topic, const struct fms_identity *all,
                        unsigned count)
{
    char why[64];

    for (size_t i = 0; i < topic->count; i++)
        journal_load(journal, fms_text(topic->records[i].key), value_of(&topic->records[i]), 1, why, sizeof why);
    for (unsigned i = 0; i < count; i++)
        if (journal_note(journal, &all[i]) != 0)
            return i;
    return count;
}

/* Each allocation fails in turn: what was not noted is not seen. */
static void without_memory_nothing_is_seen_that_was_not_noted(void **state)
{
    struct topic topic = {.count = 0}, none = {.count = 0};
    struct fms_identity all[150];
    unsigned done = 0;

    (void)state;
    write_rich_record(&topic);
    for (unsigned i = 0; i < 150; i++)
        all[i] = i % 3 == 0 ? numbered("van", 3 * i) : i % 3 == 1 ? part_of("lorry", i, i) : resent("hub", i, i, true);
    for (long n = 0; done < 150; n++) {
        struct journal *journal;

        allocations_left = n;
        journal = journal_new(1000);
        done = journal == NULL ? 0 : try_all(journal, n % 2 == 0 ? &topic : &none, all, 150);
        allocations_left = -1;
        for (unsigned i = done; journal != NULL && i < 150; i++)
            check(journal, all[i], JOURNAL_NEW);
        for (unsigned i = 0; i < done; i++)
            check(journal, all[i], JOURNAL_SEEN);
        journal_free(journal);
    }
    topic_free(&topic);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_noted_is_seen),
        cmocka_unit_test(below_the_first_nothing_was_seen),
        cmocka_unit_test(skipped_numbers_are_no_gap),
        cmocka_unit_test(of_too_many_gaps_the_oldest_are_unsure),
        cmocka_unit_test(numbers_come_as_they_like),
        cmocka_unit_test(late_ones_are_known),
        cmocka_unit_test(what_is_unsure_stays_so),
        cmocka_unit_test(gaps_that_are_filled_leave_nothing),
        cmocka_unit_test(an_origin_that_was_forgotten_comes_again),
        cmocka_unit_test(parts_are_told_apart_until_their_end),
        cmocka_unit_test(parts_that_are_loaded_after_their_end),
        cmocka_unit_test(parts_of_one_transaction_are_not_told),
        cmocka_unit_test(of_an_identifier_the_last_print_counts),
        cmocka_unit_test(parts_of_a_message_that_is_like_another),
        cmocka_unit_test(what_was_noted_longest_ago_is_forgotten),
        cmocka_unit_test(idle_ones_are_forgotten_first_after_a_load),
        cmocka_unit_test(a_hundred_thousand_origins),
        cmocka_unit_test(everything_is_in_the_last_records),
        cmocka_unit_test(the_last_records_are_not_too_large),
        cmocka_unit_test(telling_anew_is_spread),
        cmocka_unit_test(keys_come_round_in_large_transactions),
        cmocka_unit_test(offsets_that_nobody_told),
        cmocka_unit_test(a_record_that_is_not_taken_ends_the_writing),
        cmocka_unit_test(torn_records_are_refused_whole),
        cmocka_unit_test(what_is_wrong_with_a_record_is_said),
        cmocka_unit_test(numbers_do_not_overflow),
        cmocka_unit_test(foreign_bytes_do_no_harm),
        cmocka_unit_test(without_memory_nothing_is_seen_that_was_not_noted),
    };
    static const struct CMUnitTest tests_at_length[] = {
        cmocka_unit_test(what_all_say_is_bounded),
    };

    times = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    return cmocka_run_group_tests(tests, NULL, NULL) +
           (times > 1 ? cmocka_run_group_tests(tests_at_length, NULL, NULL) : 0);
}
