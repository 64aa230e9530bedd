/* test_record.c - records are whole copies, accounted for to the byte, and stay in their graves for a while. */
#include "pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pipeline pipeline;
static struct stage sinks[20];

static int setup(void **state)
{
    (void)state;
    memset(&pipeline, 0, sizeof pipeline);
    pipeline.paths = json_paths_new();
    pipeline.sink_count = 1;
    pipeline.sinks[0] = &sinks[0];
    pipeline.options.max_in_flight_bytes = 1 << 20;
    pipeline_layout(&pipeline);
    return pipeline.paths == NULL;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(pipeline.records.bytes, 0);
    records_free(&pipeline.records);
    json_paths_free(pipeline.paths);
    return 0;
}

static void add_path(const char *path)
{
    assert_true(json_paths_add(pipeline.paths, path) >= 0);
    pipeline_layout(&pipeline);
}

static void set_sinks(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sinks[i].slot = i;
        pipeline.sinks[i] = &sinks[i];
    }
    pipeline.sink_count = count;
    pipeline_layout(&pipeline);
}

static struct fms_record draft_of(const char *payload)
{
    struct fms_record draft = {.topic = fms_text("topic"), .key = fms_text("key"), .payload = fms_text(payload)};

    return draft;
}

static struct fms_record draft_of_size(size_t size)
{
    static char payload[1 << 20];
    struct fms_record draft = {.payload = fms_bytes_of(payload, size)};

    memset(payload, 'x', size);
    return draft;
}

static void assert_bytes(struct fms_bytes bytes, const char *text, size_t size)
{
    assert_non_null(bytes.data);
    assert_int_equal(bytes.size, size);
    assert_memory_equal(bytes.data, text, size);
    assert_int_equal(((const char *)bytes.data)[size], '\0');
}

/* ----------------------------------------------------------------------------------------------------------- copies */

static void everything_is_copied(void **state)
{
    char topic[] = "a/topic", key[] = "\0\1\2", payload[] = "{\"a\":1}", name[] = "name", value[] = "value";
    struct fms_header headers[2] = {{name, {value, 5}}, {"empty", {value, 0}}};
    struct fms_record draft = {{topic, 7}, {key, 3}, {payload, 7}, headers, 2, 12345, {6, 7}, NULL};
    struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);

    (void)state;
    topic[0] = key[1] = payload[0] = name[0] = value[0] = '!';
    headers[0].name = NULL;
    assert_bytes(record->public.topic, "a/topic", 7);
    assert_bytes(record->public.key, "\0\1\2", 3);
    assert_bytes(record->public.payload, "{\"a\":1}", 7);
    assert_int_equal(record->public.header_count, 2);
    assert_string_equal(record->public.headers[0].name, "name");
    assert_bytes(record->public.headers[0].value, "value", 5);
    assert_string_equal(record->public.headers[1].name, "empty");
    assert_bytes(record->public.headers[1].value, "", 0);
    assert_int_equal(record->public.timestamp, 12345);
    assert_int_equal(record->public.tag[0], 6);
    assert_int_equal(record->public.tag[1], 7);
    assert_ptr_equal(record_of(&record->public), record);
    record_free(&pipeline.records, record);
}

static void absent_is_not_empty(void **state)
{
    struct fms_header header = {"h", {NULL, 0}};
    struct fms_record draft = {.topic = {"", 0}, .headers = &header, .header_count = 1};
    struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);

    (void)state;
    assert_bytes(record->public.topic, "", 0);
    assert_null(record->public.key.data);
    assert_null(record->public.payload.data);
    assert_int_equal(record->public.payload.size, 0);
    assert_null(record->public.headers[0].value.data);
    record_free(&pipeline.records, record);
}

static void a_letter_shares_the_bytes(void **state)
{
    struct fms_record draft = draft_of_size(20000);
    struct fms_header own = {"own", {"value", 5}}, headers[2];
    struct fms_record changed;
    struct record *root, *letter;

    (void)state;
    draft.headers = &own;
    draft.header_count = 1;
    root = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
    headers[0] = root->public.headers[0];
    headers[1] = (struct fms_header){"why", {"because", 7}};
    changed = root->public;
    changed.headers = headers;
    changed.header_count = 2;
    letter = record_new(&pipeline.records, &changed, record_charge(&pipeline.records, &changed, root), root);
    assert_ptr_equal(letter->public.payload.data, root->public.payload.data);
    assert_ptr_equal(letter->public.headers[0].name, root->public.headers[0].name);
    assert_ptr_equal(letter->public.headers[0].value.data, root->public.headers[0].value.data);
    assert_string_equal(letter->public.headers[1].value.data, "because");
    assert_ptr_not_equal(letter->public.headers[1].value.data, headers[1].value.data);
    assert_ptr_not_equal(letter->public.headers, headers);
    assert_true(letter->charge < 1000);
    record_free(&pipeline.records, letter);
    record_free(&pipeline.records, root);
}

/* ------------------------------------------------------------------------------------------------------- identities */

/* Of a part the origin is that of its root; of a letter the topic, too. */
static void an_identity_is_a_copy(void **state)
{
    char origin[] = "a\0spool";
    struct fms_record draft = draft_of("payload");
    struct fms_identity identity = {.kind = FMS_NUMBERED, .origin = {origin, 7}, .sequence = 7, .skipped = 3};
    struct record *root, *part, *letter;

    (void)state;
    draft.identity = &identity;
    root = record_new_known(&pipeline.records, &draft, NULL, &identity);
    origin[0] = '!';
    assert_bytes(root->public.identity->origin, "a\0spool", 7);
    assert_int_equal(root->public.identity->sequence, 7);
    assert_int_equal(root->public.identity->skipped, 3);
    assert_bytes(root->public.payload, "payload", 7);
    assert_ptr_equal(&record_known(root)->identity, root->public.identity);
    identity = *root->public.identity;
    identity.part = 2;
    part = record_new_known(&pipeline.records, &draft, NULL, &identity);
    letter = record_new_known(&pipeline.records, &root->public, root, &identity);
    assert_ptr_equal(part->public.identity->origin.data, root->public.identity->origin.data);
    assert_ptr_equal(letter->public.identity->origin.data, root->public.identity->origin.data);
    assert_ptr_not_equal(letter->public.identity, root->public.identity);
    assert_int_equal(letter->public.identity->part, 2);
    assert_bytes(part->public.payload, "payload", 7);
    record_free(&pipeline.records, letter);
    record_free(&pipeline.records, part);
    record_free(&pipeline.records, root);
}

/* Whatever a draft says. */
static void who_is_given_no_identity_has_none(void **state)
{
    struct fms_record draft = draft_of("payload");
    struct record *record;

    (void)state;
    draft.identity = (const struct fms_identity *)1;
    record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
    assert_null(record->public.identity);
    assert_null(record_known(record));
    record_free(&pipeline.records, record);
}

/* At each size, around those of the classes, and beyond them; what lies before it is not touched. */
static void an_identity_is_charged_and_aligned(void **state)
{
    char origin[FMS_ORIGIN_MOST];
    struct fms_identity identity = {.kind = FMS_RESENT, .origin = {origin, sizeof origin}};

    (void)state;
    memset(origin, 'o', sizeof origin);
    for (size_t size = 1; size < 100000; size += size % 7 == 0 ? 1 + size / 9 : 1) {
        struct fms_record draft = draft_of_size(size);
        size_t charge = record_charge_known(&pipeline.records, &draft, NULL, &identity);
        struct record *record = record_new_known(&pipeline.records, &draft, NULL, &identity);
        const char *payload = record->public.payload.data;

        assert_int_equal(record->charge, charge);
        assert_true(charge >= record_charge(&pipeline.records, &draft, NULL));
        assert_int_equal((uintptr_t)record->public.identity % _Alignof(struct known), 0);
        assert_true(payload + size + 1 <= (const char *)record->public.identity);
        assert_bytes(record->public.identity->origin, origin, sizeof origin);
        assert_true((const char *)record->public.identity->origin.data + sizeof origin < (const char *)record + charge);
        assert_true(payload[size] == '\0' && payload[0] == 'x' && payload[size - 1] == 'x');
        record_free(&pipeline.records, record);
    }
}

static void a_malformed_identity_is_named(void **state)
{
    char origin[FMS_ORIGIN_MOST + 1];
    const struct {
        struct fms_identity identity;
        const char *fault;
    } cases[] = {
        {{.kind = FMS_NUMBERED, .origin = {"\0", 1}, .sequence = 5, .skipped = 5}, NULL},
        {{.kind = FMS_RESENT, .origin = {origin, FMS_ORIGIN_MOST}, .may_repeat = true}, NULL},
        {{.origin = {"o", 1}}, "neither FMS_NUMBERED nor FMS_RESENT"},
        {{.kind = 3, .origin = {"o", 1}}, "neither FMS_NUMBERED nor FMS_RESENT"},
        {{.kind = FMS_NUMBERED}, "no origin of 1 to 255 bytes"},
        {{.kind = FMS_NUMBERED, .origin = {NULL, 1}}, "no origin of 1 to 255 bytes"},
        {{.kind = FMS_NUMBERED, .origin = {"", 0}}, "no origin of 1 to 255 bytes"},
        {{.kind = FMS_NUMBERED, .origin = {origin, sizeof origin}}, "no origin of 1 to 255 bytes"},
        {{.kind = FMS_NUMBERED, .origin = {"o", 1}, .sequence = 5, .skipped = 6}, "skips more numbers"},
        {{.kind = FMS_NUMBERED, .origin = {"o", 1}, .is_end = true}, "is_end or part"},
        {{.kind = FMS_NUMBERED, .origin = {"o", 1}, .part = FMS_PART_LETTER}, "is_end or part"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *fault = record_identity_fault(&cases[i].identity);

        if (cases[i].fault == NULL)
            assert_null(fault);
        else
            assert_true(fault != NULL && strstr(fault, cases[i].fault) != NULL);
    }
}

/* In a layout with a cache and without one. */
static void a_slot_that_came_later_is_not_there(void **state)
{
    struct fms_record draft = draft_of("payload");

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct record *record;

        set_sinks(3);
        record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
        set_sinks(20);
        for (size_t slot = 0; slot < 20; slot++)
            assert_int_equal(record_has_slot(record, offsetof(struct record, slots) + slot * sizeof(struct slot)),
                             slot < 3);
        record_free(&pipeline.records, record);
        add_path("a.b");
    }
}

/* As the host calls it: knowing nothing of what it is given. */
static __attribute__((noinline)) struct record *made(const struct fms_record *public)
{
    return record_made(&pipeline.records, public);
}

/* Whatever a plugin passes for a record: only what the host made is one, and nothing else is looked at beyond its fields. */
static void a_draft_is_told_from_a_record(void **state)
{
    struct fms_header header = {"h", {"v", 1}};
    struct fms_record bare = {.tag = {1}}, draft = draft_of("{}"), *exact = malloc(sizeof *exact), copy;
    struct record *records[3];

    (void)state;
    add_path("a");
    draft.headers = &header;
    draft.header_count = 1;
    *exact = draft;
    records[0] = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
    records[1] = record_new(&pipeline.records, &bare, record_charge(&pipeline.records, &bare, NULL), NULL);
    copy = records[0]->public;
    records[2] = record_new(&pipeline.records, &copy, record_charge(&pipeline.records, &copy, records[0]), records[0]);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(made(&records[i]->public), records[i]);
    assert_null(made(exact));
    assert_null(made(&bare));
    assert_null(made(&copy));
    copy = records[1]->public;
    assert_null(made(&copy));
    record_free(&pipeline.records, records[2]);
    record_free(&pipeline.records, records[1]);
    record_free(&pipeline.records, records[0]);
    assert_ptr_equal(made(&records[0]->public), records[0]);
    free(exact);
}

/* A draft's headers may by chance stand where a record's would. */
static void a_draft_that_looks_like_a_record(void **state)
{
    struct fms_record some = draft_of("1");
    struct record *record = record_new(&pipeline.records, &some, record_charge(&pipeline.records, &some, NULL), NULL);
    char *memory = calloc(1, 1024);
    struct fms_record *draft = &((struct record *)(void *)memory)->public;

    (void)state;
    draft->headers = (struct fms_header *)(void *)(memory + pipeline.records.head);
    assert_null(made(draft));
    record_free(&pipeline.records, record);
    free(memory);
}

/* Headers are structs, behind whatever stands before them. */
static void everything_is_aligned(void **state)
{
    static const char *const paths[] = {"a", "b.c", "d.0", "e", "f"};
    struct fms_header header = {"h", {"v", 1}};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct fms_record draft = draft_of("12345");
        struct record *record;

        add_path(paths[i]);
        draft.headers = &header;
        draft.header_count = 1;
        set_sinks(1 + i % 3);
        record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
        assert_int_equal((uintptr_t)record->public.headers % _Alignof(struct fms_header), 0);
        assert_non_null(record->json);
        assert_int_equal((uintptr_t)record->json % _Alignof(struct json_cache), 0);
        assert_true((char *)record->json >= (char *)&record->slots[pipeline.sink_count]);
        assert_true((const char *)record->public.headers >= (char *)record->json + json_cache_size(pipeline.paths));
        record_free(&pipeline.records, record);
    }
}

static struct record *new_record(const char *payload)
{
    struct fms_record draft = draft_of(payload);

    return record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
}

/* As long as records of one layout alone are in flight, there may be another; both are known as the host's, and told apart. */
static void a_layout_changes_under_records_in_flight(void **state)
{
    struct record *before, *after;

    (void)state;
    before = new_record("before");
    assert_true(records_may_change(&pipeline.records));
    add_path("a");
    set_sinks(3);
    after = new_record("after");
    assert_false(records_may_change(&pipeline.records));
    assert_int_not_equal(before->layout, after->layout);
    assert_int_equal(after->layout, pipeline.records.layout);
    assert_ptr_equal(record_made(&pipeline.records, &before->public), before);
    assert_ptr_equal(record_made(&pipeline.records, &after->public), after);
    assert_null(before->json);
    assert_non_null(after->json);
    record_free(&pipeline.records, before);
    assert_true(records_may_change(&pipeline.records));
    set_sinks(1);
    before = after;
    after = new_record("last");
    assert_int_not_equal(before->layout, after->layout);
    assert_ptr_equal(record_made(&pipeline.records, &before->public), before);
    assert_ptr_equal(record_made(&pipeline.records, &after->public), after);
    record_free(&pipeline.records, before);
    record_free(&pipeline.records, after);
}

/* What an earlier record in the same place had found is not found in this one. */
static void the_json_cache_is_empty(void **state)
{
    struct fms_record draft = draft_of("{}");

    (void)state;
    add_path("a");
    add_path("b");
    for (size_t i = 0; i < 200; i++) {
        struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL),
                                           NULL);

        assert_int_equal(record->json->state, 0);
        assert_int_equal(record->json->slots[0].type, FMS_JSON_MISSING);
        assert_int_equal(record->json->slots[1].type, FMS_JSON_MISSING);
        memset(record->json, 0xff, json_cache_size(pipeline.paths));
        record_free(&pipeline.records, record);
    }
}

/* ---------------------------------------------------------------------------------------------------------- charges */

static void a_charge_covers_slots_cache_headers_and_values(void **state)
{
    struct fms_header headers[30];
    struct fms_record draft = draft_of_size(100);
    size_t least = sizeof(struct record) + sizeof(struct slot) + 100 + 3;
    size_t plain = record_charge(&pipeline.records, &draft, NULL);

    (void)state;
    assert_true(plain >= least && plain < 2 * least + 256);
    set_sinks(20);
    assert_true(record_charge(&pipeline.records, &draft, NULL) >= least + 19 * sizeof(struct slot));
    for (size_t i = 0; i < 30; i++)
        headers[i] = (struct fms_header){"a name of some length", {"and a value", 11}};
    draft.headers = headers;
    draft.header_count = 30;
    assert_true(record_charge(&pipeline.records, &draft, NULL) >=
                least + 19 * sizeof(struct slot) + 30 * (sizeof *headers + 34));
    add_path("x");
    draft = draft_of_size(32 * 1024);
    assert_true(record_charge(&pipeline.records, &draft, NULL) >= 32 * 1024 + json_cache_size(pipeline.paths));
}

static void charges_return_to_nothing(void **state)
{
    struct record *records[200];
    size_t sum = 0;

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        struct fms_record draft = draft_of_size(i * i * 3);

        records[i] = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
        assert_int_equal(records[i]->charge, record_charge(&pipeline.records, &draft, NULL));
        sum += records[i]->charge;
        assert_int_equal(pipeline.records.bytes, sum);
    }
    for (size_t i = 0; i < 200; i++) {
        sum -= records[i * 7 % 200]->charge;
        record_free(&pipeline.records, records[i * 7 % 200]);
        assert_int_equal(pipeline.records.bytes, sum);
    }
}

/* Each byte of a record of any size can be written: a wrong class is found by the sanitizers. */
static void every_size_fits_its_class(void **state)
{
    (void)state;
    for (size_t size = 0; size < 70000; size += size < 600 ? 1 : 509) {
        struct fms_record draft = draft_of_size(size);
        struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL),
                                           NULL);

        assert_bytes(record->public.payload, draft.payload.data, size);
        assert_true(size < 600 || record->charge <= 2 * (size + 600));
        record_free(&pipeline.records, record);
    }
}

static void a_huge_record_is_like_any_other(void **state)
{
    struct fms_record draft = draft_of_size(1 << 20);
    struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);

    (void)state;
    assert_bytes(record->public.payload, draft.payload.data, 1 << 20);
    assert_in_range(record->charge, 1 << 20, (1 << 20) + 1000);
    record_free(&pipeline.records, record);
}

/* -------------------------------------------------------------------------------------------------------- malformed */

static void malformed_drafts_have_no_charge(void **state)
{
    static struct fms_header headers[1006];
    struct fms_header nameless = {NULL, {"v", 1}}, sizeless = {"h", {NULL, 1}};
    struct fms_record good = draft_of("x"), draft;

    (void)state;
    for (size_t i = 0; i < 1006; i++)
        headers[i] = (struct fms_header){"h", {"v", 1}};
    draft = good, draft.header_count = 1;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
    draft = good, draft.headers = &nameless, draft.header_count = 1;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
    draft = good, draft.headers = &sizeless, draft.header_count = 1;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
    draft = good, draft.headers = headers, draft.header_count = 1001;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
    draft = good, draft.headers = headers, draft.header_count = 1000;
    assert_true(record_charge(&pipeline.records, &draft, NULL) < 1 << 20);
    draft = good, draft.payload.size = (size_t)1 << 30; /* a size that memory may hold, whatever the machine's words */
    assert_true(record_charge(&pipeline.records, &draft, NULL) > (size_t)1 << 30 &&
                record_charge(&pipeline.records, &draft, NULL) < SIZE_MAX);
#if SIZE_MAX > UINT32_MAX
    draft = good, draft.payload.size = (size_t)1 << 40;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
    draft = good, draft.payload.size = SIZE_MAX - 5;
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
#endif
    draft = good, draft.key = fms_bytes_of(NULL, 5);
    assert_true(record_charge(&pipeline.records, &draft, NULL) == SIZE_MAX);
}

/* ------------------------------------------------------------------------------------------------------- quarantine */

/* Frees `count` records one after another, then looks how soon each place is used again: the oldest first, and none
 * before `least` others were freed after it. */
static void assert_quarantine(size_t count, size_t least)
{
    struct record **graves = calloc(count, sizeof *graves);
    struct fms_record draft = draft_of("x");

    for (size_t i = 0; i < count; i++)
        graves[i] = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL), NULL);
    for (size_t i = 0; i < count; i++)
        record_free(&pipeline.records, graves[i]);
    for (size_t i = count - least; i < count; i++)
        assert_int_equal(graves[i]->magic, RECORD_FREED);
    for (size_t i = 0; i < 4; i++) {
        struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL),
                                           NULL);

        for (size_t k = count - least; k < count; k++)
            assert_ptr_not_equal(record, graves[k]);
        record_free(&pipeline.records, record); /* behind the others: the next one is another again */
    }
    free(graves);
}

static void the_newest_graves_are_not_opened(void **state)
{
    (void)state;
    assert_quarantine(100, 60);
}

static void nor_are_they_when_the_pool_is_full(void **state)
{
    (void)state;
    assert_quarantine(5000, 60);
}

static void memory_is_used_again(void **state)
{
    struct fms_record draft = draft_of("x");
    void *first = NULL;
    bool seen = false;

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        struct record *record = record_new(&pipeline.records, &draft, record_charge(&pipeline.records, &draft, NULL),
                                           NULL);

        if (i == 0)
            first = record;
        else
            seen = seen || record == first;
        record_free(&pipeline.records, record);
    }
    assert_true(seen);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(everything_is_copied),
        CASE(absent_is_not_empty),
        CASE(a_letter_shares_the_bytes),
        CASE(an_identity_is_a_copy),
        CASE(who_is_given_no_identity_has_none),
        CASE(an_identity_is_charged_and_aligned),
        CASE(a_malformed_identity_is_named),
        CASE(a_slot_that_came_later_is_not_there),
        CASE(a_draft_is_told_from_a_record),
        CASE(a_draft_that_looks_like_a_record),
        CASE(everything_is_aligned),
        CASE(a_layout_changes_under_records_in_flight),
        CASE(the_json_cache_is_empty),
        CASE(a_charge_covers_slots_cache_headers_and_values),
        CASE(charges_return_to_nothing),
        CASE(every_size_fits_its_class),
        CASE(a_huge_record_is_like_any_other),
        CASE(malformed_drafts_have_no_charge),
        CASE(the_newest_graves_are_not_opened),
        CASE(nor_are_they_when_the_pool_is_full),
        CASE(memory_is_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
