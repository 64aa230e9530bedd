/* test_json.c - fields are found where they are, and nothing is found in what is no JSON object. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "json.h"

static struct json_paths *paths;
static struct json_cache *cache;

static int find(const char *payload, size_t size)
{
    /* A copy without a byte behind it, so that the sanitizer sees a step too far. */
    char *exact = malloc(size == 0 ? 1 : size);
    int result;

    memcpy(exact, payload, size);
    free(cache);
    cache = calloc(1, json_cache_size(paths));
    result = json_find(paths, cache, fms_bytes_of(exact, size));
    free(exact);
    assert_int_equal(cache->state == CACHE_OBJECT, result == 0);
    return result;
}

/* What stands at the path, decoded; NULL where there is nothing. */
static const char *at(const char *payload, const char *path)
{
    static char text[512];
    const struct json_slot *slot;

    json_paths_free(paths);
    paths = json_paths_new();
    assert_int_equal(json_paths_add(paths, path), 0);
    assert_int_equal(find(payload, strlen(payload)), 0);
    slot = &cache->slots[0];
    if (slot->type <= FMS_JSON_NULL)
        return NULL;
    assert_true(slot->offset + slot->size <= strlen(payload) && slot->size < sizeof text);
    if (slot->escaped)
        text[json_unescape(payload + slot->offset, slot->size, text)] = '\0';
    else
        snprintf(text, sizeof text, "%.*s", (int)slot->size, payload + slot->offset);
    return text;
}

static int some_paths(void **state)
{
    (void)state;
    json_paths_free(paths);
    paths = json_paths_new();
    return json_paths_add(paths, "a") == 0 && json_paths_add(paths, "a.b.c") == 1 ? 0 : -1;
}

static int forget(void **state)
{
    (void)state;
    json_paths_free(paths);
    free(cache);
    paths = NULL;
    cache = NULL;
    return 0;
}

static const char mission[] =
    "{\"vehicle_id\": \"raspi-001\", \"timestamp\": 1732300000, \"speed\": 72.50, \"rpm\": 2150,"
    " \"fuel_level\": 99.60, \"position\": {\"lat\": -48.1, \"lon\": 1e400},"
    " \"axles\": [{\"load\": 1}, {\"load\": 2, \"ok\": true}], \"note\": null}";

static void values_as_they_stand(void **state)
{
    (void)state;
    assert_string_equal(at(mission, "vehicle_id"), "raspi-001");
    assert_string_equal(at(mission, "speed"), "72.50");
    assert_string_equal(at(mission, "position.lat"), "-48.1");
    assert_string_equal(at(mission, "position.lon"), "1e400");
    assert_string_equal(at(mission, "position"), "{\"lat\": -48.1, \"lon\": 1e400}");
    assert_string_equal(at(mission, "axles.1"), "{\"load\": 2, \"ok\": true}");
    assert_string_equal(at(mission, "axles.1.ok"), "true");
    assert_string_equal(at("{\"a\":98765432109876543210.000}", "a"), "98765432109876543210.000");
    assert_string_equal(at(" \t\r\n{ \"a\" : [ ] } \n", "a"), "[ ]");
    assert_string_equal(at("{\"a\":\"\"}", "a"), "");
    assert_string_equal(at("{\"a\":\"\xff\xfe\xc3\"}", "a"), "\xff\xfe\xc3");
    assert_string_equal(at("{\"Größe\":{\"車\":1}}", "Größe.車"), "1");
}

static void what_is_missing(void **state)
{
    (void)state;
    assert_null(at(mission, "note"));
    assert_null(at(mission, "vehicle"));
    assert_null(at(mission, "vehicle_id2"));
    assert_null(at(mission, "lat"));
    assert_null(at(mission, "position.lat.x"));
    assert_null(at(mission, "vehicle_id.x"));
    assert_null(at(mission, "axles.2"));
    assert_null(at(mission, "axles.01"));
    assert_null(at("{}", "a"));
    assert_null(at("{\"a.b\":1}", "a.b"));
}

static void last_of_equal_keys(void **state)
{
    (void)state;
    assert_string_equal(at("{\"a\":1,\"b\":2,\"a\":3}", "a"), "3");
    assert_null(at("{\"a\":1,\"a\":null}", "a"));
    assert_null(at("{\"a\":{\"b\":1},\"a\":{}}", "a.b"));
    assert_null(at("{\"a\":{\"b\":{\"c\":1}},\"a\":5}", "a.b.c"));
    assert_string_equal(at("{\"a\":{\"b\":1},\"\\u0061\":{\"b\":2}}", "a.b"), "2");
}

static void escapes(void **state)
{
    (void)state;
    assert_string_equal(at("{\"vehicle\\u005fid\":1}", "vehicle_id"), "1");
    assert_string_equal(at("{\"\\u8eca\\ud83d\\ude97\":1}", "車\xf0\x9f\x9a\x97"), "1");
    assert_null(at("{\"vehicle\\u005fid2\":1}", "vehicle_id"));
    assert_null(at("{\"vehicle\\u005f\":1}", "vehicle_id"));
    assert_string_equal(at("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "a"), "\"\\/\b\f\n\r\t");
    assert_string_equal(at("{\"a\":\"x\\u00e9\\u20AC\\ud83d\\ude97y\"}", "a"),
                        "x\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x97y");
    assert_string_equal(at("{\"a\":\"\\ud83dx\\ude97\\ud83d\\u0041\"}", "a"), "\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd"
                                                                              "A");
    assert_string_equal(at("{\"a\":\"\\ud83d\"}", "a"), "\xef\xbf\xbd");
}

static void several_paths_at_once(void **state)
{
    const char payload[] = "{\"a\":{\"b\":{\"c\":7}},\"d\":8}";

    (void)state;
    some_paths(NULL);
    assert_int_equal(json_paths_add(paths, "d"), 2);
    assert_int_equal(json_paths_add(paths, "a"), 0);
    assert_int_equal(json_paths_count(paths), 3);
    assert_int_equal(find(payload, sizeof payload - 1), 0);
    assert_int_equal(cache->slots[0].size, 13);
    assert_int_equal(payload[cache->slots[1].offset], '7');
    assert_int_equal(payload[cache->slots[2].offset], '8');
    /* The second time nothing is looked at. */
    assert_int_equal(json_find(paths, cache, fms_text("no JSON")), 0);
    assert_int_equal(payload[cache->slots[2].offset], '8');
}

/* Users 1 and 2 ask for "a", 2 for "b.c", 4 for "b.d": then 2 goes, and what comes asks for "e" and "f". */
static void paths_are_changed_beside_those_in_use(void **state)
{
    const char payload[] = "{\"a\":1,\"b\":{\"c\":2,\"d\":3},\"e\":4,\"f\":5}";

    (void)state;
    paths = json_paths_new();
    json_paths_user(paths, 1);
    assert_int_equal(json_paths_add(paths, "a"), 0);
    json_paths_user(paths, 2);
    assert_int_equal(json_paths_add(paths, "a"), 0);
    assert_int_equal(json_paths_add(paths, "b.c"), 1);
    json_paths_user(paths, 4);
    assert_int_equal(json_paths_add(paths, "b.d"), 2);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(json_paths_stage(paths, 1 | 4), 0);
        json_paths_user(paths, 8);
        assert_int_equal(json_paths_add(paths, "b.d"), 2);
        assert_false(json_paths_has_more(paths)); /* but less */
        assert_int_equal(json_paths_add(paths, "e"), 1);
        assert_true(json_paths_has_more(paths));
        assert_int_equal(json_paths_add(paths, "f"), 3);
        assert_int_equal(json_paths_count(paths), 3);
        assert_int_equal(find(payload, sizeof payload - 1), 0);
        assert_int_equal(payload[cache->slots[1].offset], '2');
        if (round == 0)
            json_paths_unstage(paths);
    }
    json_paths_commit(paths);
    assert_int_equal(json_paths_count(paths), 4);
    free(cache);
    cache = NULL;
    assert_int_equal(find(payload, sizeof payload - 1), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(payload[cache->slots[i].offset], "1435"[i]);
}

/* Whatever names come and go, there are no more indices than paths. */
static void indices_are_given_out_again(void **state)
{
    char name[16];

    (void)state;
    some_paths(NULL);
    json_paths_user(paths, 1);
    json_paths_add(paths, "kept");
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "x%d.y", i);
        assert_int_equal(json_paths_stage(paths, 1), 0);
        json_paths_user(paths, 2);
        assert_int_equal(json_paths_add(paths, name), 0);
        json_paths_commit(paths);
        assert_int_equal(json_paths_count(paths), 3);
    }
}

static void bad_paths(void **state)
{
    static const char *const bad[] = {".", "a.", ".a", "a..b"};
    char deep[2 * 65];

    (void)state;
    some_paths(NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(json_paths_add(paths, bad[i]), -EINVAL);
    for (size_t i = 0; i < sizeof deep; i++)
        deep[i] = i % 2 == 0 ? 'a' : '.';
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(json_paths_add(paths, deep), -EINVAL);
    deep[sizeof deep - 3] = '\0';
    assert_int_equal(json_paths_add(paths, deep), 2);
    assert_int_equal(json_paths_count(paths), 3);

    json_paths_free(paths);
    paths = json_paths_new();
    assert_int_equal(json_cache_size(paths), 0);
}

static const char *why(void)
{
    static char text[JSON_WHY];

    json_why(cache, text, sizeof text);
    return text;
}

static void no_json_object(void **state)
{
    static const struct {
        const char *payload, *error;
    } cases[] = {
        {"  ", "unexpected end at byte 2"},
        {"5", "{ or [ expected at byte 0"},
        {" x", "{ or [ expected at byte 1"},
        {"{}{}", "something stands behind the object at byte 2"},
        {"{} x", "something stands behind the object at byte 3"},
        {"{\"a\":1 \"b\":2}", "a comma or } expected at byte 7"},
        {"{\"a\":[1 2]}", "a comma or ] expected at byte 8"},
        {"{\"a\":[1}}", "a comma or ] expected at byte 7"},
        {"{\"a\":1]", "a comma or } expected at byte 6"},
        {"{\"a\":1,}", "a key in double quotes expected at byte 7"},
        {"{,\"a\":1}", "a key in double quotes expected at byte 1"},
        {"{a:1}", "a key in double quotes expected at byte 1"},
        {"{'a':1}", "a key in double quotes expected at byte 1"},
        {"{\"a\"}", "a colon expected behind a key at byte 4"},
        {"{\"a\" \"b\"}", "a colon expected behind a key at byte 5"},
        {"{\"a\"::1}", "a value expected at byte 5"},
        {"{\"a\":}", "a value expected at byte 5"},
        {"{\"a\":[1,]}", "a value expected at byte 8"},
        {"{\"a\":nul}", "a value expected at byte 8"},
        {"{\"a\":NaN}", "a value expected at byte 5"},
        {"{\"a\":+1}", "a value expected at byte 5"},
        {"{\"a\":.5}", "a value expected at byte 5"},
        {"{\"a\":nullx}", "a comma or } expected at byte 9"},
        {"{\"a\":01}", "a comma or } expected at byte 6"},
        {"{\"a\":1.2.3}", "a comma or } expected at byte 8"},
        {"{\"a\":0x1}", "a comma or } expected at byte 6"},
        {"{\"a\":1.}", "a malformed number at byte 7"},
        {"{\"a\":1e}", "a malformed number at byte 7"},
        {"{\"a\":-}", "a malformed number at byte 6"},
        {"{\"a\":\"x\ny\"}", "a control character in a string at byte 7"},
        {"{\"a\":\"\\x\"}", "an unknown escape in a string at byte 6"},
        {"{\"a\":\"\\u12g4\"}", "\\u without four hexadecimal digits at byte 6"},
        {"{\"a\":1 /* b */}", "a comma or } expected at byte 7"},
    };

    (void)state;
    some_paths(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(find(cases[i].payload, strlen(cases[i].payload)), -EBADMSG);
        assert_string_equal(why(), cases[i].error);
        assert_int_equal(json_find(paths, cache, fms_text("{}")), -EBADMSG);
    }
    assert_int_equal(find("{\"a\":1}\0", 8), -EBADMSG);
    assert_int_equal(find("{\"a\":\0}", 7), -EBADMSG);
    assert_int_equal(find("{\"a\":\"\\\0\"}", 10), -EBADMSG);
    memset(cache, 0, json_cache_size(paths));
    assert_int_equal(json_find(paths, cache, fms_bytes_of(NULL, 0)), -EBADMSG);
    assert_string_equal(why(), "it is absent (a tombstone)");
}

/* What stands where an object should is named. */
static void other_payloads(void **state)
{
    static const struct {
        const char *payload, *error;
    } cases[] = {
        {"", "it is empty"},
        {"[1]", "it is an array: split it first"},
        {" \n[{}]", "it is an array: split it first"},
        {"\xef\xbb\xbf{}", "it begins with a byte order mark (ef bb bf), which JSON has not"},
        {"\xef\xbb", "{ or [ expected at byte 0"},
        {"\xff\xfe{", "it is UTF-16 (ff fe), and JSON is UTF-8"},
        {"\xfe\xff{", "it is UTF-16 (fe ff), and JSON is UTF-8"},
        {"\x1f\x8b\x08", "it is gzip data (1f 8b): decompress it first"},
        {"\x1f", "{ or [ expected at byte 0"},
        {"\x28\xb5\x2f\xfd ", "it is zstd data (28 b5 2f fd): decompress it first"},
        {"\x78\x9c ", "it is zlib data (78 9c): decompress it first"},
        {"\x78 ", "{ or [ expected at byte 0"},
    };

    (void)state;
    some_paths(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(find(cases[i].payload, strlen(cases[i].payload)), -EBADMSG);
        assert_string_equal(why(), cases[i].error);
    }
}

static void every_truncation(void **state)
{
    const char payload[] =
        "{\"k\":[-1.5e+3,true,false,null,{\"\\u00e9\":\"\\n\\ud83d\\ude97\"}],\"a\":{\"b\":{\"c\":0}}}";
    char expected[64];

    (void)state;
    some_paths(NULL);
    for (size_t size = 0; size < sizeof payload - 1; size++) {
        assert_int_equal(find(payload, size), -EBADMSG);
        snprintf(expected, sizeof expected, "unexpected end at byte %zu", size);
        assert_string_equal(why(), size > 0 ? expected : "it is empty");
    }
    assert_int_equal(find(payload, sizeof payload - 1), 0);
}

/* {"a":[[...]]} with that many containers. */
static int find_nested(size_t depth)
{
    char text[512] = "{\"a\":";

    memset(text + 5, '[', depth - 1);
    memset(text + 5 + depth - 1, ']', depth - 1);
    text[5 + 2 * (depth - 1)] = '}';
    return find(text, 6 + 2 * (depth - 1));
}

static void nesting(void **state)
{
    const size_t size = 1 << 20;
    char *text = malloc(size);

    (void)state;
    some_paths(NULL);
    assert_int_equal(find_nested(64), 0);
    assert_int_equal(cache->slots[0].size, 126);
    assert_int_equal(find_nested(65), -EBADMSG);
    assert_string_equal(why(), "nested more than 64 deep at byte 68");

    memset(text, '[', size);
    memcpy(text, "{\"a\":", 5);
    assert_int_equal(find(text, size), -EBADMSG);
    for (size_t i = 0; i < size; i++)
        text[i] = "{\"a\":"[i % 5];
    assert_int_equal(find(text, size), -EBADMSG);
    free(text);
}

static void large(void **state)
{
    const size_t count = 100000;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    some_paths(NULL);
    fputs("{\"x\":[0", out);
    for (size_t i = 0; i < count; i++)
        fputs(",0", out);
    fputc(']', out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, ",\"k%zu\":%zu", i, i);
    fputs(",\"a\":\"", out);
    for (size_t i = 0; i < count; i++)
        fputs("\\u0041", out);
    fputs("\"}", out);
    fclose(out);
    assert_int_equal(find(text, size), 0);
    assert_true(cache->slots[0].type == FMS_JSON_STRING && cache->slots[0].escaped);
    assert_int_equal(cache->slots[0].size, 6 * count);
    assert_int_equal(json_unescape(text + cache->slots[0].offset, cache->slots[0].size, text), count);
    free(text);
}

static void check_value(const struct fms_json *value, enum fms_json_type type, const char *text)
{
    assert_int_equal(value->type, type);
    assert_int_equal(value->text.size, strlen(text));
    assert_memory_equal(value->text.data, text, strlen(text));
}

static void members_in_order(void **state)
{
    static const struct {
        const char *name;
        enum fms_json_type type;
        const char *text;
    } expected[] = {
        {"s", FMS_JSON_STRING, "x, \\\"}y"},
        {"n", FMS_JSON_NUMBER, "-1.50e+3"},
        {"t", FMS_JSON_BOOLEAN, "true"},
        {"n", FMS_JSON_NULL, "null"},
        {"", FMS_JSON_ARRAY, "[1, [2], \"]\"]"},
        {"o", FMS_JSON_OBJECT, "{\"a\":{}, \"b\" : \"}\"}"},
        {"last", FMS_JSON_NUMBER, "20000000000000000001"},
    };
    static const char payload[] =
        " { \"s\":\"x, \\\"}y\" ,\"n\" : -1.50e+3,\"t\":true,\n\"n\":null, \"\":[1, [2], \"]\"],"
        "\"o\":{\"a\":{}, \"b\" : \"}\"}, \"last\":20000000000000000001 } ";
    struct fms_json name, value;
    struct fms_bytes rest;

    (void)state;
    some_paths(NULL);
    assert_int_equal(json_paths_add(paths, ""), 2);
    assert_int_equal(find(payload, sizeof payload - 1), 0);
    assert_int_equal(json_get(paths, cache, fms_text(payload), 2, &value), 0);
    assert_int_equal(value.type, FMS_JSON_OBJECT);
    rest = value.text;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_true(json_next(&rest, &name, &value));
        check_value(&name, FMS_JSON_STRING, expected[i].name);
        check_value(&value, expected[i].type, expected[i].text);
        assert_int_equal(value.escaped, i == 0);
    }
    assert_false(json_next(&rest, &name, &value));
    assert_false(json_next(&rest, &name, &value));
    rest = fms_text("{}");
    assert_false(json_next(&rest, &name, &value));
}

static void what_is_no_json_says_why(void **state)
{
    struct fms_json value;

    (void)state;
    some_paths(NULL);
    find("{\"a\":}", 6);
    assert_int_equal(json_get(paths, cache, fms_text("{\"a\":}"), 0, &value), -EBADMSG);
    check_value(&value, FMS_JSON_MISSING, "a value expected at byte 5");
}

/* An array is no object, but all of it is there, and its items by their numbers. */
static void an_array(void **state)
{
    const char payload[] = " [{\"a\":1},{\"a\":\"x,]\"} , [2,[]],\"s:\\\"\", null,-0.5]\n";
    static const struct {
        const char *text;
        enum fms_json_type type;
    } items[] = {{"{\"a\":1}", FMS_JSON_OBJECT}, {"{\"a\":\"x,]\"}", FMS_JSON_OBJECT},
                 {"[2,[]]", FMS_JSON_ARRAY},     {"s:\\\"", FMS_JSON_STRING},
                 {"null", FMS_JSON_NULL},        {"-0.5", FMS_JSON_NUMBER}};
    struct fms_json whole, name, value;
    struct fms_bytes rest;

    (void)state;
    json_paths_free(paths);
    paths = json_paths_new();
    assert_int_equal(json_paths_add(paths, ""), 0);
    assert_int_equal(json_paths_add(paths, "1.a"), 1);
    assert_int_equal(json_paths_add(paths, "a"), 2);
    assert_int_equal(json_paths_add(paths, "1.b"), 3);
    free(cache);
    cache = calloc(1, json_cache_size(paths));
    assert_int_equal(json_get(paths, cache, fms_text(payload), 0, &whole), 0);
    assert_int_equal(whole.type, FMS_JSON_ARRAY);
    assert_int_equal(whole.text.size, strlen(payload) - 2);
    assert_int_equal(json_get(paths, cache, fms_text(payload), 1, &value), 0);
    assert_memory_equal(value.text.data, "x,]", value.text.size);
    for (int missing = 2; missing < 4; missing++) {
        assert_int_equal(json_get(paths, cache, fms_text(payload), missing, &value), -EBADMSG);
        assert_string_equal(value.text.data, "it is an array: split it first");
    }
    rest = whole.text;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        assert_true(json_next(&rest, &name, &value));
        assert_int_equal(name.type, FMS_JSON_MISSING);
        assert_int_equal(value.type, items[i].type);
        assert_int_equal(value.text.size, strlen(items[i].text));
        assert_memory_equal(value.text.data, items[i].text, value.text.size);
    }
    assert_false(json_next(&rest, &name, &value));
    rest = fms_text("[]");
    assert_false(json_next(&rest, &name, &value));
    rest = fms_text("[[],{}]");
    assert_true(json_next(&rest, &name, &value) && value.type == FMS_JSON_ARRAY);
    assert_true(json_next(&rest, &name, &value) && value.type == FMS_JSON_OBJECT);
    assert_false(json_next(&rest, &name, &value));
}

static void a_broken_array(void **state)
{
    static const struct {
        const char *payload, *error;
    } cases[] = {
        {"[", "unexpected end at byte 1"},
        {"[1", "unexpected end at byte 2"},
        {"[1 2]", "a comma or ] expected at byte 3"},
        {"[1,]", "a value expected at byte 3"},
        {"[1}", "a comma or ] expected at byte 2"},
        {"[1]]", "something stands behind the array at byte 3"},
        {"[\"a\":1]", "a comma or ] expected at byte 4"},
    };
    struct fms_json value;

    (void)state;
    json_paths_free(paths);
    paths = json_paths_new();
    json_paths_add(paths, "");
    json_paths_add(paths, "0");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        find(cases[i].payload, strlen(cases[i].payload));
        assert_string_equal(why(), cases[i].error);
        for (int path = 0; path < 2; path++) {
            assert_int_equal(json_get(paths, cache, fms_text(cases[i].payload), path, &value), -EBADMSG);
            assert_string_equal(value.text.data, cases[i].error);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(values_as_they_stand, forget),
        cmocka_unit_test_teardown(what_is_missing, forget),
        cmocka_unit_test_teardown(last_of_equal_keys, forget),
        cmocka_unit_test_teardown(escapes, forget),
        cmocka_unit_test_teardown(several_paths_at_once, forget),
        cmocka_unit_test_teardown(paths_are_changed_beside_those_in_use, forget),
        cmocka_unit_test_teardown(indices_are_given_out_again, forget),
        cmocka_unit_test_teardown(bad_paths, forget),
        cmocka_unit_test_teardown(no_json_object, forget),
        cmocka_unit_test_teardown(other_payloads, forget),
        cmocka_unit_test_teardown(every_truncation, forget),
        cmocka_unit_test_teardown(nesting, forget),
        cmocka_unit_test_teardown(large, forget),
        cmocka_unit_test_teardown(members_in_order, forget),
        cmocka_unit_test_teardown(what_is_no_json_says_why, forget),
        cmocka_unit_test_teardown(an_array, forget),
        cmocka_unit_test_teardown(a_broken_array, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
