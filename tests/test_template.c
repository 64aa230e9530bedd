/* test_template.c - what a template makes of a record, and what it says of a text that is none. */
#include "template.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct fms_header headers[] = {
    {"trace", {"first", 5}},
    {"trace", {"last", 4}},
    {"empty", {"", 0}},
    {"absent", {NULL, 0}},
};

static const char payload[] = "{\"id\":\"v1\",\"speed\":72.50,\"pos\":{\"lat\":1},\"n\":null,\"e\":\"a\\u00e9\\n\"}";

/* Each value followed by a NUL byte, as the host makes them. */
static const struct fms_record full = {
    .topic = {"fms/raspi-001/data", 18},
    .key = {"raspi-001", 9},
    .payload = {payload, sizeof payload - 1},
    .headers = headers,
    .header_count = 4,
    .timestamp = INT64_C(1732300000987654321),
};

struct expansion {
    struct json_paths *paths;
    struct json_cache *cache;
    struct fms_template *text;
    struct fms_bytes value;
};

static struct expansion compile(const char *text)
{
    struct expansion x = {.paths = json_paths_new()};
    char error[256];

    x.text = template_compile(text, NULL, x.paths, error, sizeof error);
    assert_string_equal(error, "");
    assert_non_null(x.text);
    x.cache = calloc(1, sizeof *x.cache + json_cache_size(x.paths));
    return x;
}

static int expand(struct expansion *x, const struct fms_record *record)
{
    int result = template_expand(x->text, record, x->cache, &x->value);

    assert_int_equal(((const char *)x->value.data)[x->value.size], '\0');
    return result;
}

static void finish(struct expansion *x)
{
    template_free(x->text);
    json_paths_free(x->paths);
    free(x->cache);
}

static void makes(const char *text, const struct fms_record *record, int result, const char *value)
{
    struct expansion x = compile(text);

    assert_int_equal(expand(&x, record), result);
    assert_string_equal(x.value.data, value);
    assert_int_equal(x.value.size, strlen(value));
    finish(&x);
}

static void characters_are_replaced(void **state)
{
    struct fms_record odd = full;

    (void)state;
    makes("${topic|/|.}", &full, 0, "fms.raspi-001.data");
    makes("a ${topic|/|.} b", &full, 0, "a fms.raspi-001.data b");
    makes("${topic|/|}", &full, 0, "fmsraspi-001data");
    makes("${topic|/|::}", &full, 0, "fms::raspi-001::data");
    makes("${topic|/|.|a-c|X|0-9|}", &full, 0, "fms.rXspi-.dXtX");
    makes("${topic|-|_|a-z-|.}", &full, 0, ".../....._001/...."); /* the first set counts; a - stands last, */
    makes("${topic|-a|.}", &full, 0, "fms/r.spi.001/d.t.");       /* or first */
    makes("${topic|^a-z|_}", &full, 0, "fms_raspi_____data");
    makes("${topic|^^/|_}", &full, 0, "___/_________/____"); /* only the first ^ is one */
    makes("${topic[1]|0|o}", &full, 0, "raspi-oo1");
    makes("${topic[7]|0|o:-00}", &full, 0, "00"); /* a default stays as it is */
    makes("${topic[7]|0|o}", &full, -ENOENT, "the topic has no level 7");
    makes("${key|r|R}${header:trace|l|L}", &full, 0, "Raspi-001Last");
    makes("${json:speed|.|,}", &full, 0, "72,50");
    makes("${json:e|^a-z|<line feed>}", &full, 0, "a<line feed><line feed>"); /* as decoded, by characters */
    makes("${timestamp|0-9|0123456789abcde}", &(struct fms_record){.timestamp = FMS_SECOND}, 0, "0123456789abcde");
    makes("${env:FMS_TEST_UNSET:-a|/|b}", &full, 0, "a|/|b");
    odd.topic = fms_text("Z\u00fcrich \u8eca/\U0001f69a");
    makes("${topic|/|.|^a-zA-Z0-9._-|_}", &odd, 0, "Z_rich__._");
    makes("${topic|/|.}", &odd, 0, "Z\u00fcrich \u8eca.\U0001f69a");
    odd.topic = fms_text("\x80\xff\xfe\xc3"); /* no UTF-8: something remains */
    makes("${topic|^a-z|_}", &odd, 0, "____");
    odd.topic = fms_text("");
    makes("${topic|^a-z|_}", &odd, 0, "");
}

/* "foobar" is that of which Kafka's murmur2 makes 1357151166. */
static void shards(void **state)
{
    struct fms_record keyed = full;

    (void)state;
    keyed.key = fms_text("foobar");
    keyed.topic = fms_text("fms/foo.bar/data");
    makes("${shard:100000:key}", &keyed, 0, "51166");
    makes("${shard:12:key}", &keyed, 0, "6");
    makes("${shard:1:key}", &keyed, 0, "0");
    makes("fms/${shard:12:key}/${key}/data", &keyed, 0, "fms/6/foobar/data");
    makes("${shard:100000:topic[1]|.|}", &keyed, 0, "51166"); /* characters are replaced before */
    makes("${shard:100000:topic[9]:-foobar}", &keyed, 0, "51166");
    makes("${shard:100000:topic[9]|a-z|:-foobar}", &keyed, 0, "51166");
    makes("${shard:12:topic[9]}", &keyed, -ENOENT, "the topic has no level 9");
    makes("${shard:12:json:pos.lat}", &full, 0, "3"); /* of the number as it stands: Kafka's for "1" */
    makes("${shard:100000:header:empty}", &full, 0, "46681");
    keyed.key = fms_text("");
    makes("${shard:100000:key}", &keyed, 0, "46681");
    keyed.key = fms_bytes_of(NULL, 0);
    makes("${shard:12:key}", &keyed, -ENOENT, "the record has no key");
    keyed.payload = fms_text("{\"id\":\"foo\\u0062ar\"}"); /* as decoded */
    makes("${shard:100000:json:id}", &keyed, 0, "51166");
}

static void references(void **state)
{
    (void)state;
    makes("${topic}", &full, 0, "fms/raspi-001/data");
    makes("${topic[0]}", &full, 0, "fms");
    makes("${topic[1]}", &full, 0, "raspi-001");
    makes("${topic[2]}", &full, 0, "data");
    makes("${key}", &full, 0, "raspi-001");
    makes("${payload}", &full, 0, payload);
    makes("${header:trace}", &full, 0, "last");
    makes("${header:empty}", &full, 0, "");
    makes("${json:id}", &full, 0, "v1");
    makes("${json:speed}", &full, 0, "72.50");
    makes("${json:pos}", &full, 0, "{\"lat\":1}");
    makes("${json:pos.lat}", &full, 0, "1");
    makes("${json:e}", &full, 0, "a\xc3\xa9\n");
    makes("${timestamp}", &full, 0, "1732300000");
    makes("${timestamp_ms}", &full, 0, "1732300000987");
}

static void mixtures(void **state)
{
    (void)state;
    makes("", &full, 0, "");
    makes("fms/${key}/data", &full, 0, "fms/raspi-001/data");
    makes("${key}${key}", &full, 0, "raspi-001raspi-001");
    makes("<${json:e}|${json:id}|${timestamp}>", &full, 0, "<a\xc3\xa9\n|v1|1732300000>");
    makes("$${topic} $ $$ 5$ ${key}$", &full, 0, "${topic} $ $$ 5$ raspi-001$");
    makes("$$${topic}", &full, 0, "$${topic}");
    makes("${key}$${key}", &full, 0, "raspi-001${key}");
    makes("}{", &full, 0, "}{");
}

static void topic_levels(void **state)
{
    struct fms_record record = full;

    (void)state;
    record.topic = fms_text("/a//b/");
    makes("${topic[0]}", &record, 0, "");
    makes("${topic[1]}", &record, 0, "a");
    makes("${topic[2]}", &record, 0, "");
    makes("${topic[3]}", &record, 0, "b");
    makes("${topic[4]}", &record, 0, "");
    makes("${topic[5]}", &record, -ENOENT, "the topic has no level 5");
    makes("${topic[99999]:-x}", &record, 0, "x");
}

static void missing(void **state)
{
    const struct fms_record empty = {.payload = {"{\"id\":", 6}};
    const struct fms_record bare = {.timestamp = 0};

    (void)state;
    makes("${topic}", &empty, -ENOENT, "the record has no topic");
    makes("${topic[0]}", &empty, -ENOENT, "the topic has no level 0");
    makes("${key}", &empty, -ENOENT, "the record has no key");
    makes("a${key}b", &empty, -ENOENT, "the record has no key");
    makes("${payload}", &bare, -ENOENT, "the record has no payload");
    makes("${timestamp}", &empty, -ENOENT, "the record has no timestamp");
    makes("${timestamp_ms}", &empty, -ENOENT, "the record has no timestamp");
    makes("${header:nope}", &full, -ENOENT, "no header \"nope\"");
    makes("${header:absent}", &full, -ENOENT, "no header \"absent\"");
    makes("${json:vehicle_id}", &full, -ENOENT, "no field \"vehicle_id\" in the payload");
    makes("${json:n}", &full, -ENOENT, "the field \"n\" is null in the payload");
    makes("${json:id}", &empty, -ENOENT, "the payload is no JSON object: unexpected end at byte 6");
    makes("${json:id}", &bare, -ENOENT, "the payload is no JSON object: it is absent (a tombstone)");
}

static void defaults(void **state)
{
    const struct fms_record empty = {.payload = {"x", 1}, .key = {"", 0}};

    (void)state;
    makes("${topic:-none}", &empty, 0, "none");
    makes("${topic[0]:-}", &empty, 0, "");
    makes("${json:id:-a:-b $x}", &empty, 0, "a:-b $x");
    makes("${json:n:-null}", &full, 0, "null");
    makes("${header:nope:--}|${timestamp:-0}", &empty, 0, "-|0");
    makes("${key:-none}", &empty, 0, ""); /* empty is not missing */
    makes("${key:-none}", &full, 0, "raspi-001");
}

static void the_records_own_bytes(void **state)
{
    struct expansion x = compile("${key}");

    (void)state;
    assert_int_equal(expand(&x, &full), 0);
    assert_ptr_equal(x.value.data, full.key.data);
    finish(&x);
    x = compile("${topic[2]}");
    assert_int_equal(expand(&x, &full), 0);
    assert_ptr_equal(x.value.data, (const char *)full.topic.data + 14);
    finish(&x);
    x = compile("${header:trace}");
    assert_int_equal(expand(&x, &full), 0);
    assert_ptr_equal(x.value.data, headers[1].value.data);
    finish(&x);
}

static void values_with_nul_bytes(void **state)
{
    const struct fms_record record = {.key = {"a\0b", 3}, .payload = {"{\"a\":\"\\u0000\"}", 14}};
    struct expansion x = compile("${key}-${json:a}");

    (void)state;
    assert_int_equal(expand(&x, &record), 0);
    assert_int_equal(x.value.size, 5);
    assert_memory_equal(x.value.data, "a\0b-\0", 6);
    finish(&x);
}

static void the_buffer_grows_and_stays(void **state)
{
    static char large[100001];
    struct fms_record record = {.key = {large, 100000}};
    struct expansion x = compile("${key}${key}.");
    const void *buffer;

    (void)state;
    memset(large, 'x', 100000);
    assert_int_equal(expand(&x, &record), 0);
    assert_int_equal(x.value.size, 200001);
    buffer = x.value.data;
    record.key.size = 0;
    assert_int_equal(expand(&x, &record), 0);
    assert_string_equal(x.value.data, ".");
    assert_ptr_equal(x.value.data, buffer);
    finish(&x);
}

static void json_once_for_all(void **state)
{
    struct expansion x = compile("${json:id}");
    struct fms_template *other = template_compile("${json:speed}", NULL, x.paths, (char[64]){0}, 64);

    (void)state;
    assert_int_equal(json_paths_count(x.paths), 2);
    free(x.cache);
    x.cache = calloc(1, json_cache_size(x.paths));
    assert_int_equal(x.cache->state, 0);
    assert_int_equal(expand(&x, &full), 0);
    assert_int_equal(x.cache->state, 1);
    assert_int_equal(x.cache->slots[1].size, 5);
    assert_int_equal(template_expand(other, &full, x.cache, &x.value), 0);
    assert_string_equal(x.value.data, "72.50");
    template_free(other);
    finish(&x);
}

static void a_record_without_cache(void **state)
{
    struct expansion x = compile("${json:id}");
    struct expansion y = compile("${json:id:-none}");
    struct fms_bytes value;

    (void)state;
    assert_int_equal(template_expand(x.text, &full, NULL, &value), -ENOENT);
    assert_string_equal(value.data, "there is no payload yet to take \"id\" from");
    assert_int_equal(template_expand(y.text, &full, NULL, &value), 0);
    assert_string_equal(value.data, "none");
    finish(&x);
    finish(&y);
}

static void constant_is(const char *text, const char *value)
{
    struct expansion x = compile(text);

    if (value == NULL)
        assert_null(template_constant(x.text));
    else
        assert_string_equal(template_constant(x.text), value);
    finish(&x);
}

static void environment(void **state)
{
    (void)state;
    setenv("FMS_TEST_SET", "a ${key} b", 1);
    setenv("FMS_TEST_EMPTY", "", 1);
    unsetenv("FMS_TEST_UNSET");
    constant_is("", "");
    constant_is("plain $${x}", "plain ${x}");
    constant_is("<${env:FMS_TEST_SET}>", "<a ${key} b>");
    constant_is("${env:FMS_TEST_SET:-other}", "a ${key} b");
    constant_is("${env:FMS_TEST_EMPTY}", "");
    constant_is("${env:FMS_TEST_EMPTY:-tcp://localhost:1883}", "tcp://localhost:1883");
    constant_is("${env:FMS_TEST_UNSET:-}", "");
    constant_is("${env:FMS_TEST_SET}${key}", NULL);
    makes("${env:FMS_TEST_UNSET:-x}${env:FMS_TEST_SET}${key}", &full, 0, "xa ${key} braspi-001");
}

static void files(void **state)
{
    char name[] = "/tmp/test_template.XXXXXX", text[128];
    int fd = mkstemp(name);
    struct expansion x;

    (void)state;
    assert_int_equal(write(fd, "a ${key} b\n", 11), 11);
    close(fd);
    snprintf(text, sizeof text, "<${file:%s}>", name);
    constant_is(text, "<a ${key} b>");
    x = compile(text);
    assert_true(template_uses_files(x.text));
    finish(&x);
    snprintf(text, sizeof text, "${file:%s:-other}${key}", name);
    makes(text, &full, 0, "a ${key} braspi-001");
    assert_int_equal(truncate(name, 0), 0);
    makes(text, &full, 0, "otherraspi-001");
    unlink(name);
    makes(text, &full, 0, "otherraspi-001");
    x = compile("${env:FMS_TEST_UNSET:-file:/x}");
    assert_false(template_uses_files(x.text));
    finish(&x);
}

static void compile_errors(void **state)
{
    static const char *const cases[][2] = {
        {"${jsn:a}", "column 1: unknown reference ${jsn:...}; did you mean ${json:...}?"},
        {"Größe: ${Topic}", "column 8: unknown reference ${Topic}; did you mean ${topic}?"},
        {"${keys:-x}", "column 1: unknown reference ${keys}; did you mean ${key}?"},
        {"${heder}", "column 1: unknown reference ${heder}; did you mean ${header:...}?"},
        {"$${a}${vehicle_id}",
         "column 6: unknown reference ${vehicle_id}; known are ${topic}, ${topic[1]}, ${key}, ${payload}, "
         "${header:NAME}, ${json:PATH}, ${timestamp}, ${timestamp_ms}, ${env:NAME}, ${file:PATH} and ${shard:N:...}; "
         "$${ "
         "stands for a "
         "literal ${"},
        {"${}", "column 1: unknown reference ${}; known are "},
        {"ab${key", "column 3: ${ without a closing }; $${ stands for a literal ${"},
        {"${key}${", "column 7: ${ without a closing }"},
        {"${key:x}", "column 1: expected ${key}"},
        {"${key[0]}", "column 1: expected ${key}"},
        {"${topic[a]}", "column 1: expected ${topic}, or ${topic[1]} for a level, counted from 0"},
        {"${topic[-1]}", "column 1: expected ${topic}, or "},
        {"${topic[]}", "column 1: expected ${topic}, or "},
        {"${topic[1}", "column 1: expected ${topic}, or "},
        {"${topic[1]x}", "column 1: expected ${topic}, or "},
        {"${topic[4294967297]}", "column 1: expected ${topic}, or "},
        {"${topic:1}", "column 1: expected ${topic}, or "},
        {"${header}", "column 1: expected the name of a header: ${header:NAME}"},
        {"${header:-x}", "column 1: expected the name of a header: ${header:NAME}"},
        {"${json}", "column 1: expected a path: ${json:vehicle_id}"},
        {"${json[a]}", "column 1: expected a path"},
        {"${json:a..b}", "column 1: expected a path"},
        {"${env}", "column 1: expected the name of an environment variable: ${env:NAME}"},
        {"${env:A B}", "column 1: expected the name of an environment variable"},
        {"${topic|/}", "column 1: what replaces the characters? ${topic|/|.} replaces each / by a dot"},
        {"${topic|}", "column 1: what replaces the characters?"},
        {"${topic|/|.|}", "column 1: what replaces the characters?"},
        {"${topic||.}", "column 1: which characters are to be replaced?"},
        {"${topic|^|.}", "column 1: which characters are to be replaced?"},
        {"${topic|\u00fc|u}", "column 1: characters to replace are named in ASCII"},
        {"${topic|a-\u00fc|u}", "column 1: characters to replace are named in ASCII"},
        {"a${topic|z-a|.}", "column 2: a range in the set is empty"},
        {"${topic|/|0123456789abcdef}",
         "column 1: a reference replaces at most 8 sets of characters, each by at most 15"},
        {"${topic|a||b||c||d||e||f||g||h||i|}", "column 1: a reference replaces at most 8 sets"},
        {"${topik|/|.}", "column 1: unknown reference ${topik}; did you mean ${topic}?"},
        {"${env:HOME|/|.}", "column 1: characters are replaced in what a record has, not in ${env:...}"},
        {"${env:1A}", "column 1: expected the name of an environment variable"},
        {"x${env:FMS_TEST_UNSET}", "column 2: the environment variable FMS_TEST_UNSET is not set; set it, or write "
                                   "${env:FMS_TEST_UNSET:-a default}"},
        {"${shard}", "column 1: there are no shards: set shards = N in [pipeline]"},
        {"a${shard:-0}", "column 2: there are no shards"},
        {"${shard:12}", "column 1: expected a number of shards, from 1 to 100000, and what to find the shard of"},
        {"${shard:12:}", "column 1: expected a number of shards"},
        {"${shard:0:key}", "column 1: expected a number of shards"},
        {"${shard:-1:key}", "column 1: there are no shards"},
        {"${shard: 1:key}", "column 1: expected a number of shards"},
        {"${shard:100001:key}", "column 1: expected a number of shards"},
        {"${shard:99999999999999999999:key}", "column 1: expected a number of shards"},
        {"${shard:key}", "column 1: expected a number of shards"},
        {"${shard[1]}", "column 1: expected a number of shards"},
        {"x${shard:12:kye}", "column 2: unknown reference ${kye}; did you mean ${key}?"},
        {"${shard:12:json}", "column 1: expected a path: ${json:vehicle_id}"},
        {"${shard:12:env:HOME}", "column 1: a shard is found of what a record has, such as ${shard:12:key}"},
        {"${shard:12:shard:3:key}", "column 1: a shard is found of what a record has"},
        {"${shart:12:key}", "column 1: unknown reference ${shart:...}; did you mean ${shard:...}?"},
        {"${file}", "column 1: expected the path of a file: ${file:/run/secrets/NAME}"},
        {"${fiel:/x}", "column 1: unknown reference ${fiel:...}; did you mean ${file:...}?"},
        {"a${file:/none|a|b}", "column 2: characters are replaced in what a record has, not in ${file:...}"},
        {"a${file:/none}", "column 2: the file /none is not there; a default would be ${file:/none:-text}"},
        {"${file:/:-x}", "column 1: the file / is a directory"},
        {"${json:a:-${topic}}", "column 1: a default is plain text and cannot hold another ${...}"},
    };
    struct json_paths *paths = json_paths_new();
    char error[512], small[10];

    (void)state;
    unsetenv("FMS_TEST_UNSET");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_null(template_compile(cases[i][0], NULL, paths, error, sizeof error));
        error[strlen(cases[i][1])] = '\0';
        assert_string_equal(error, cases[i][1]);
        assert_null(template_compile(cases[i][0], NULL, paths, small, sizeof small));
        assert_int_equal(strlen(small), 9);
        assert_memory_equal(small, error, 9);
    }
    json_paths_free(paths);
}

static void large_templates(void **state)
{
    const size_t size = 60000;
    char *text = malloc(size + 1);
    struct expansion x;

    (void)state;
    for (size_t i = 0; i < size; i++)
        text[i] = "$${"[i % 3];
    text[size] = '\0';
    x = compile(text);
    assert_int_equal(strlen(template_constant(x.text)), size / 3 * 2);
    finish(&x);
    for (size_t i = 0; i < size; i++)
        text[i] = "${key}"[i % 6];
    x = compile(text);
    assert_int_equal(expand(&x, &full), 0);
    assert_int_equal(x.value.size, size / 6 * 9);
    finish(&x);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references),
        cmocka_unit_test(characters_are_replaced),
        cmocka_unit_test(shards),
        cmocka_unit_test(mixtures),
        cmocka_unit_test(topic_levels),
        cmocka_unit_test(missing),
        cmocka_unit_test(defaults),
        cmocka_unit_test(the_records_own_bytes),
        cmocka_unit_test(values_with_nul_bytes),
        cmocka_unit_test(the_buffer_grows_and_stays),
        cmocka_unit_test(json_once_for_all),
        cmocka_unit_test(a_record_without_cache),
        cmocka_unit_test(environment),
        cmocka_unit_test(files),
        cmocka_unit_test(compile_errors),
        cmocka_unit_test(large_templates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
