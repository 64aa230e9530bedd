/* test_options.c - a section becomes the fields of a struct, or errors that say all that is wrong.
 *
 * Linked with --wrap of malloc, calloc, realloc, strdup and strndup: the last test lets each allocation fail in turn.
 */
#include "options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "template.h"
#include "words.h"

/* ----------------------------------------------------------------------------------------------- failing allocation */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *pointer, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);

static long allocations_left = -1; /* -1: no end */

static bool may_allocate(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left != 0;
}

void *__wrap_malloc(size_t size)
{
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return may_allocate() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *pointer, size_t size)
{
    return may_allocate() ? __real_realloc(pointer, size) : NULL;
}

char *__wrap_strdup(const char *text)
{
    return may_allocate() ? __real_strdup(text) : NULL;
}

char *__wrap_strndup(const char *text, size_t size)
{
    return may_allocate() ? __real_strndup(text, size) : NULL;
}

/* --------------------------------------------------------------------------------------------------------- a plugin */

struct sample {
    const char *brokers, *password;
    int64_t count, linger, buffer;
    bool idempotent;
    int profile;
    struct fms_list filters;
    const struct fms_template *key;
    struct fms_pairs properties, headers;
    const char *group, *window, *pin;
};

static const struct fms_option table[] = {
    FMS_OPT_STRING(struct sample, brokers, FMS_REQUIRED, "brokers to begin with"),
    FMS_OPT_SECRET(struct sample, password, NULL, "password for the broker"),
    FMS_OPT_INTEGER(struct sample, count, "7", -5, 1000000, "number"),
    FMS_OPT_DURATION(struct sample, linger, "5ms", 0, 60 * FMS_SECOND, "time to wait for more"),
    FMS_OPT_SIZE(struct sample, buffer, "64KiB", 1, INT64_MAX, "size"),
    FMS_OPT_BOOLEAN(struct sample, idempotent, NULL, "no duplicates"),
    FMS_OPT_CHOICE(struct sample, profile, "realtime", "realtime|throughput", "profile"),
    FMS_OPT_LIST(struct sample, filters, NULL, "topic filters"),
    FMS_OPT_TEMPLATE(struct sample, key, "${json:vehicle_id}", "key"),
    FMS_OPT_PAIRS(struct sample, properties, "kafka.", "properties of the library"),
    FMS_OPT_TEMPLATE_PAIRS(struct sample, headers, "header.", "headers"),
    FMS_OPT_SECRET(struct sample, pin, NULL, "a secret whose name does not say so"),
    {"group", FMS_STRING, offsetof(struct sample, group), "g", 0, 0, NULL, "group", NULL, FMS_SOURCE},
    {"window", FMS_STRING, offsetof(struct sample, window), "w", 0, 0, NULL, "window", NULL, FMS_SINK},
    FMS_OPT_END,
};

static const struct fms_option required[] = {
    FMS_OPT_TEMPLATE(struct sample, key, FMS_REQUIRED, "key"),
    FMS_OPT_LIST(struct sample, filters, FMS_REQUIRED, "topic filters"),
    FMS_OPT_END,
};

static char logged[64 * 1024];
static unsigned lines_logged;

static void keep_line(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    size_t used = strlen(logged);

    (void)user, (void)level, (void)pipeline, (void)stage;
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
    lines_logged++;
}

/* All that a host does here. */
static void tell(const struct fms_host *host, enum fms_level level, const char *format, ...) FMS_PRINTF(3, 4);
static void tell(const struct fms_host *host, enum fms_level level, const char *format, ...)
{
    char text[1024];
    va_list args;

    (void)host;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_line(NULL, level, NULL, NULL, text);
}

static const struct fms_host teller = {.log = tell};

static struct sample instance; /* the last that was filled */

struct filled {
    struct config *config;
    struct json_paths *paths;
    struct options_memory *memory;
    struct sample sample;
    int result;
};

static struct filled fill_from(const struct fms_option *options, enum fms_role role, const char *plugin,
                               const char *text)
{
    struct filled f = {.paths = json_paths_new(), .memory = options_memory_new()};

    logged[0] = '\0';
    lines_logged = 0;
    log_redirect(keep_line, NULL);
    memset(&instance, 0x5a, sizeof instance);
    assert_int_equal(config_parse("bridge.ini", text, strlen(text), &f.config), 0);
    f.result = options_fill(options, role, plugin, f.config, &f.config->sections[0], f.paths, f.memory, &instance);
    f.sample = instance;
    return f;
}

/* "[sink kafka]", line 1, with the required option in line 2, so that `text` begins in line 3. */
static struct filled fill(const char *text)
{
    char whole[16384];

    snprintf(whole, sizeof whole, "[sink kafka]\nbrokers = b:9092\n%s", text);
    return fill_from(table, FMS_SINK, "kafka_sink", whole);
}

static void finish(struct filled *f)
{
    options_memory_free(f->memory);
    json_paths_free(f->paths);
    config_free(f->config);
}

static void defaults(void **state)
{
    struct filled f = fill("plugin = kafka_sink");

    (void)state;
    assert_int_equal(f.result, 0);
    assert_string_equal(f.sample.brokers, "b:9092");
    assert_null(f.sample.password);
    assert_int_equal(f.sample.count, 7);
    assert_int_equal(f.sample.linger, 5 * FMS_MS);
    assert_int_equal(f.sample.buffer, 65536);
    assert_false(f.sample.idempotent);
    assert_int_equal(f.sample.profile, 0);
    assert_int_equal(f.sample.filters.count, 0);
    assert_null(f.sample.filters.items);
    assert_non_null(f.sample.key);
    assert_int_equal(json_paths_count(f.paths), 1);
    assert_int_equal(f.sample.properties.count, 0);
    assert_int_equal(f.sample.headers.count, 0);
    assert_string_equal(f.sample.window, "w");
    assert_int_equal(*(const char *)&f.sample.group, 0x5a); /* of another role: untouched */
    finish(&f);
}

static void every_type(void **state)
{
    struct filled f = fill("password = \"p ;w\"\ncount = -5\nlinger = 1.5s\nbuffer = 10MiB\nidempotent = On\n"
                           "profile = throughput\nfilters = fms/data, fms/+/data ,\n  x\nkey = a${topic[1]}\n"
                           "kafka.b = ${env:FMS_TEST_WORD}\nheader.x = ${key}\nkafka.a = \nwindow = ");

    (void)state;
    assert_int_equal(f.result, 0);
    assert_int_equal(lines_logged, 0);
    assert_string_equal(f.sample.password, "p ;w");
    assert_int_equal(f.sample.count, -5);
    assert_int_equal(f.sample.linger, 1500 * FMS_MS);
    assert_int_equal(f.sample.buffer, 10 << 20);
    assert_true(f.sample.idempotent);
    assert_int_equal(f.sample.profile, 1);
    assert_int_equal(f.sample.filters.count, 3);
    assert_string_equal(f.sample.filters.items[0], "fms/data");
    assert_string_equal(f.sample.filters.items[1], "fms/+/data");
    assert_string_equal(f.sample.filters.items[2], "x");
    assert_null(template_constant(f.sample.key));
    assert_int_equal(f.sample.properties.count, 2);
    assert_string_equal(f.sample.properties.items[0].name, "b");
    assert_string_equal(f.sample.properties.items[0].value, "${key}");
    assert_string_equal(f.sample.properties.items[0].option, "kafka.b");
    assert_null(f.sample.properties.items[0].text);
    assert_string_equal(f.sample.properties.items[1].name, "a");
    assert_string_equal(f.sample.properties.items[1].value, "");
    assert_int_equal(f.sample.headers.count, 1);
    assert_string_equal(f.sample.headers.items[0].name, "x");
    assert_null(f.sample.headers.items[0].value);
    assert_non_null(f.sample.headers.items[0].text);
    assert_string_equal(f.sample.window, "");
    finish(&f);
}

static void commas_in_items(void **state)
{
    static const struct {
        const char *ini, *items[3];
    } cases[] = {
        {"filters = a\\,b, c\n", {"a,b", "c"}},
        {"filters = \\,\n", {","}},
        {"filters = a\\b, c\\\\, d\n", {"a\\b", "c\\, d"}},
        {"filters = ^x{1\\,3}$, y\n", {"^x{1,3}$", "y"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct filled f = fill(cases[i].ini);
        size_t count = 0;

        for (; count < 3 && cases[i].items[count] != NULL; count++)
            assert_string_equal(f.sample.filters.items[count], cases[i].items[count]);
        assert_int_equal(f.sample.filters.count, count);
        finish(&f);
    }
}

static void durations_and_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t linger, buffer;
    } cases[] = {
        {"linger = 0", 0, 65536},
        {"linger = 0s", 0, 65536},
        {"linger = 1ns", 1, 65536},
        {"linger = 250us", 250 * FMS_US, 65536},
        {"linger = 1m", 60 * FMS_SECOND, 65536},
        {"linger = 0.016h", 57600 * FMS_MS, 65536},
        {"linger = 0.25ms", 250 * FMS_US, 65536},
        {"linger = 0.000000001s", 1, 65536},
        {"linger = 1.50000s", 1500 * FMS_MS, 65536},
        {"buffer = 512", 5 * FMS_MS, 512},
        {"buffer = 512B", 5 * FMS_MS, 512},
        {"buffer = 1.5KiB", 5 * FMS_MS, 1536},
        {"buffer = 2kB", 5 * FMS_MS, 2000},
        {"buffer = 3MB", 5 * FMS_MS, 3000000},
        {"buffer = 1GiB", 5 * FMS_MS, 1 << 30},
        {"buffer = 1TiB", 5 * FMS_MS, INT64_C(1) << 40},
        {"buffer = 9223372036854775807", 5 * FMS_MS, INT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct filled f = fill(cases[i].text);

        assert_int_equal(f.result, 0);
        assert_int_equal(f.sample.linger, cases[i].linger);
        assert_int_equal(f.sample.buffer, cases[i].buffer);
        finish(&f);
    }
}

/* ----------------------------------------------------------------------------------------------------------- errors */

static void refused(const char *text, const char *message)
{
    struct filled f = fill(text);

    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(logged, message);
    finish(&f);
}

#define AT "bridge.ini:3: [sink kafka] "

static void wrong_values(void **state)
{
    static const char *const durations[] = {"fast",
                                            "",
                                            "5",
                                            "-1s",
                                            "1 s",
                                            "1S",
                                            "s",
                                            ".5s",
                                            "1.s",
                                            "1.5.5s",
                                            "0.0000000001s",
                                            "0x5s",
                                            "60.1s",
                                            "2m",
                                            "9223372037s",
                                            "99999999999999999999s",
                                            "1e3ms",
                                            "106752d"};
    static const char *const sizes[] = {"0", "-1", "1KB", "1K", "9223372036854775808", "8388608TiB", "1.0001KiB", "B"};
    static const char *const integers[] = {"-6",
                                           "1000001",
                                           "1.0",
                                           "1k",
                                           "",
                                           "+5",
                                           "0x10",
                                           "--1",
                                           "-",
                                           "9e3",
                                           "99999999999999999999",
                                           "-99999999999999999999",
                                           "\" 5\""};
    char text[128], message[256];

    (void)state;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        snprintf(text, sizeof text, "linger = %s", durations[i]);
        snprintf(message, sizeof message,
                 AT "linger = \"%s\": expected a duration such as 250ms or 2s, from 0 to 60s\n", durations[i]);
        refused(text, message);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(text, sizeof text, "buffer = %s", sizes[i]);
        snprintf(message, sizeof message,
                 AT "buffer = \"%s\": expected a size such as 512, 64KiB or 10MiB, at least 1\n", sizes[i]);
        refused(text, message);
    }
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        bool quoted = integers[i][0] == '"';

        snprintf(text, sizeof text, "count = %s", integers[i]);
        snprintf(message, sizeof message, AT "count = \"%s\": expected a whole number, from -5 to 1000000\n",
                 quoted ? " 5" : integers[i]);
        refused(text, message);
    }
    refused("idempotent = maybe", AT "idempotent = \"maybe\": expected yes or no\n");
    refused("profile = real", AT "profile = \"real\": expected one of realtime, throughput\n");
    refused("profile = realtime|throughput",
            AT "profile = \"realtime|throughput\": expected one of realtime, throughput\n");
    refused("profile =", AT "profile = \"\": expected one of realtime, throughput\n");
    refused("filters = a,,b", AT "filters = \"a,,b\": expected items separated by commas, none of them empty\n");
    refused("filters = a,", AT "filters = \"a,\": expected items separated by commas, none of them empty\n");
    refused("filters = ,", AT "filters = \",\": expected items separated by commas, none of them empty\n");
}

static void wrong_templates(void **state)
{
    (void)state;
    refused("key = ${jsn:a}",
            AT "key = \"${jsn:a}\": column 1: unknown reference ${jsn:...}; did you mean ${json:...}?\n");
    refused("header.x = a${key", AT "header.x = \"a${key\": column 2: ${ without a closing }; $${ stands for a literal "
                                    "${\n");
    refused("count = ${json:a}", AT "count = \"${json:a}\": only template options may hold a ${...} other than "
                                    "${env:NAME} and ${file:PATH}, and this is none\n");
    refused("kafka.x = ${topic}", AT "kafka.x = \"${topic}\": only template options may hold a ${...} other than "
                                     "${env:NAME} and ${file:PATH}, and this is none\n");
    refused("count = ${env:FMS_TEST_UNSET}", AT
            "count = \"${env:FMS_TEST_UNSET}\": column 1: the environment variable FMS_TEST_UNSET is not set; set it, "
            "or write ${env:FMS_TEST_UNSET:-a default}\n");
    refused("count = ${env:FMS_TEST_WORD}", AT
            "count = \"${env:FMS_TEST_WORD}\": expected a whole number, from -5 to 1000000; with the environment it is "
            "\"${key}\"\n");
}

static void long_values_are_cut(void **state)
{
    (void)state;
    refused("count = 00000000000000000000000000000000000000000000000000000000000車車", AT
            "count = \"00000000000000000000000000000000000000000000000000000000000...\": expected a whole number, from "
            "-5 to 1000000\n");
}

static void unknown_options(void **state)
{
    (void)state;
    refused("broker = b", AT "unknown option \"broker\" of kafka_sink; did you mean \"brokers\"?\n");
    refused("lniger = 5ms", AT "unknown option \"lniger\" of kafka_sink; did you mean \"linger\"?\n");
    refused("COUNT = 5", AT "unknown option \"COUNT\" of kafka_sink; did you mean \"count\"?\n");
    refused("kafak.linger.ms = 5", AT "unknown option \"kafak.linger.ms\" of kafka_sink; did you mean "
                                      "\"kafka.linger.ms\"?\n");
    refused("kafka. = 5", AT "unknown option \"kafka.\" of kafka_sink; did you mean \"kafka.NAME\"?\n");
    refused("colour = red", AT "unknown option \"colour\" of kafka_sink; known are brokers, password, count, linger, "
                               "buffer, idempotent, profile, filters, key, kafka.NAME, header.NAME, pin, window\n");
    refused("group = x", AT "\"group\" is an option of kafka_sink as a source, not as a sink\n");
}

static void without_a_table(void **state)
{
    struct filled f = fill_from(NULL, FMS_SINK, "null_sink", "[sink x]\nplugin = null_sink\ncolour = red\n");

    (void)state;
    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(logged, "bridge.ini:3: [sink x] unknown option \"colour\" of null_sink; it has none\n");
    finish(&f);
}

static void a_section_without_plugin(void **state)
{
    struct filled f = fill_from(table, 0, NULL, "[pipeline]\nbrokers = b\nplugin = x\nbrokerss = y\n");

    (void)state;
    assert_int_equal(f.result, -EINVAL);
    assert_int_equal(lines_logged, 2);
    assert_non_null(strstr(logged, "bridge.ini:3: [pipeline] unknown option \"plugin\"; known are brokers, "));
    assert_non_null(
        strstr(logged, "bridge.ini:4: [pipeline] unknown option \"brokerss\"; did you mean \"brokers\"?\n"));
    finish(&f);
}

static void required_options(void **state)
{
    struct filled f = fill_from(table, FMS_SINK, "kafka_sink", "\n[sink kafka]\n");

    (void)state;
    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(logged, "bridge.ini:2: [sink kafka] brokers is missing: brokers to begin with\n");
    finish(&f);
    f = fill_from(table, FMS_SINK, "kafka_sink", "[sink kafka]\nbrokers =\n");
    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(logged, "bridge.ini:2: [sink kafka] brokers = \"\": expected a text that is not empty\n");
    finish(&f);
    f = fill_from(required, FMS_SINK, "kafka_sink", "[sink kafka]\nkey = ${env:FMS_TEST_UNSET:-}\nfilters = \"\"\n");
    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(logged,
                        "bridge.ini:2: [sink kafka] key = \"${env:FMS_TEST_UNSET:-}\": expected a text that is "
                        "not empty; with the environment it is \"\"\n"
                        "bridge.ini:3: [sink kafka] filters = \"\": expected items separated by commas, none of "
                        "them empty\n");
    finish(&f);
}

static void roles(void **state)
{
    struct filled f = fill_from(table, FMS_DEAD_LETTER, "kafka_sink", "[dead_letter]\nbrokers = b\nwindow = x\n");

    (void)state;
    assert_int_equal(f.result, 0); /* a dead letter is a sink */
    assert_string_equal(f.sample.window, "x");
    finish(&f);
    f = fill_from(table, FMS_SOURCE, "kafka_source", "[source]\nbrokers = b\ngroup = x\nwindow = y\n");
    assert_int_equal(f.result, -EINVAL);
    assert_string_equal(f.sample.group, "x");
    assert_string_equal(logged,
                        "bridge.ini:4: [source] \"window\" is an option of kafka_source as a sink, not as a source\n");
    finish(&f);
}

static void all_errors_in_one_run(void **state)
{
    char text[16384] = "";
    struct filled f = fill("count = x\nbroker = b\nprofile = y\nkafka.a = ${\n");

    (void)state;
    assert_int_equal(f.result, -EINVAL);
    assert_int_equal(lines_logged, 4);
    finish(&f);

    for (int i = 0; i < 1000; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "zz%d = 1\n", i);
    f = fill(text);
    assert_int_equal(f.result, -EINVAL);
    assert_int_equal(lines_logged, 21);
    assert_non_null(strstr(logged, "bridge.ini:1: and 980 more errors in this section"));
    finish(&f);
}

static void secrets_are_never_shown(void **state)
{
    static const char *const lines[] = {
        "password = hunter2 ${hunter2}",
        "password = hunter2${hunter2:x}",
        "password = ${json:hunter2}",
        "password = ${env:hunter2}${",
        "kafka.sasl.password = a${hunter2}",
        "kafka.ssl.key.pem = ${topic}hunter2",
        "kafka.Client.Secret = ${json:hunter2}",
        "kafka.sasl.jaas.config = ${hunter2}",
        "header.token = hunter2${x}",
        "pin = ${json:hunter2}",
        "pasword = hunter2",
        "kafka.proxy = kafka://user:hunter2${hunter2}@host",
        "count = kafka://user:hunter2andaverylongwordbehinditsothattheendisnotshown@host",
        "count = kafka://user:${env:hunter2}andaverylongwordbehinditsothattheendisnotshown@host",
        "count = ${env:FMS_TEST_URL}",
        "count = user:hunter2@host",
    };

    (void)state;
    setenv("hunter2", "hunter2", 1);
    setenv("FMS_TEST_URL", "kafka://user:hunter2@host", 1);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct filled f = fill(lines[i]);

        assert_int_equal(f.result, -EINVAL);
        assert_int_equal(lines_logged, 1);
        assert_null(strstr(logged, "hunter2"));
        finish(&f);
    }
    unsetenv("hunter2");
    refused("password = ${hunter2}", AT "password: a ${...} in it is not known; $${ stands for a literal ${\n");
    refused("password = ${env:FMS_TEST_UNSET}",
            AT "password: column 1: the environment variable FMS_TEST_UNSET is not set; set it, or write "
               "${env:FMS_TEST_UNSET:-a default}\n");
}

/* ----------------------------------------------------------------------------------------------------------- tables */

static void table_is(const struct fms_option *option, const char *expected)
{
    const struct fms_option options[] = {*option, FMS_OPT_END};
    char error[256];

    assert_int_equal(options_check_table(options, sizeof(struct sample), error, sizeof error),
                     expected == NULL ? 0 : -EINVAL);
    if (strstr(error, expected == NULL ? "" : expected) == NULL || (expected == NULL && *error != '\0'))
        fail_msg("expected %s, got %s", expected, error);
}

static void tables(void **state)
{
    const struct fms_option twice[] = {table[0], table[2], table[0], FMS_OPT_END};
    static const struct fms_option good = FMS_OPT_INTEGER(struct sample, count, "7", 0, 9, "help");
    struct fms_option bad = good;
    char error[256];

    (void)state;
    assert_int_equal(options_check_table(table, sizeof(struct sample), error, sizeof error), 0);
    assert_int_equal(options_check_table(NULL, 0, error, sizeof error), 0);
    assert_int_equal(options_check_table(twice, sizeof(struct sample), error, sizeof error), -EINVAL);
    assert_string_equal(error, "option \"brokers\" shares its name or its field with another option");

    table_is(&good, NULL);
    bad.fallback = "10";
    table_is(&bad, "option \"count\" has a default that it does not take itself: expected a whole number, from 0 to 9");
    bad.fallback = "${json:a}";
    table_is(&bad, "has a default that it does not take itself: only template options");
    bad.fallback = FMS_REQUIRED;
    table_is(&bad, NULL);
    bad = good;
    bad.name = "a b";
    table_is(&bad, "has a name of other characters");
    bad.name = "plugin";
    table_is(&bad, "has the name that says which plugin");
    bad.name = "a.";
    table_is(&bad, "ends in a dot");
    bad = good;
    bad.type = 0;
    table_is(&bad, "has no known type");
    bad = good;
    bad.offset = sizeof(struct sample);
    table_is(&bad, "has a field that is not in the instance");
    bad.offset = offsetof(struct sample, count) + 4;
    table_is(&bad, "has a field that is not in the instance");
    bad.offset = SIZE_MAX - 7;
    table_is(&bad, "has a field that is not in the instance");
    bad = good;
    bad.help = "";
    table_is(&bad, "has no help");
    bad = good;
    bad.min = bad.max;
    table_is(&bad, "has no range");
    bad = good;
    bad.choices = "a|b";
    table_is(&bad, "has no choices, or is no choice");
    bad = (struct fms_option)FMS_OPT_CHOICE(struct sample, profile, "a", "a||b", "help");
    table_is(&bad, "has an empty choice");
    bad.choices = "a|b";
    table_is(&bad, NULL);
    bad.fallback = "c";
    table_is(&bad, "expected one of a, b");
    bad = (struct fms_option)FMS_OPT_PAIRS(struct sample, properties, "kafka.", "help");
    table_is(&bad, NULL);
    bad.fallback = "x";
    table_is(&bad, "has a default, which pairs cannot");
}

static void nearest(void **state)
{
    static const char *const words[] = {"topic", "qos", "client_id", "kafka.", "clean_start"};
    static const char *const cases[][2] = {
        {"topik", "topic"},
        {"tpoic", "topic"},
        {"topics", "topic"},
        {"Topic", "topic"},
        {"qs", "qos"},
        {"client-id", "client_id"},
        {"clientid", "client_id"},
        {"cleanstart", "clean_start"},
        {"tapis", NULL},
        {"x", NULL},
        {"", NULL},
        {"key", NULL},
    };
    char longer[200];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *found = words_nearest(cases[i][0], words, sizeof words / sizeof words[0]);

        if (cases[i][1] == NULL)
            assert_null(found);
        else
            assert_string_equal(found, cases[i][1]);
    }
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_null(words_nearest(longer, words, 5));
    assert_null(words_nearest("topic", words, 0));
}

/* ------------------------------------------------------------------------------------------------------------ files */

static char secret[64]; /* the path of a file */

static void put(const char *text)
{
    char fresh[80];
    FILE *file;

    snprintf(fresh, sizeof fresh, "%s.new", secret);
    file = fopen(fresh, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
    assert_int_equal(rename(fresh, secret), 0);
}

/* What was logged of it begins anew. */
static int renew(struct filled *f, const char *key)
{
    logged[0] = '\0';
    return options_renew(f->memory, &teller, key);
}

static void files_are_read_at_the_start(void **state)
{
    char text[1024];
    struct filled f;

    (void)state;
    put("17\n");
    snprintf(text, sizeof text,
             "password = ${file:%s}\ncount = ${file:%s}\nfilters = a${file:%s}, b\nkey = ${file:%s}${key}\n"
             "kafka.sasl = user:${file:%s}@host\nwindow = file:%s\npin = ${file:/nonexistent:-none}\n",
             secret, secret, secret, secret, secret, secret);
    f = fill(text);
    assert_int_equal(f.result, 0);
    assert_string_equal(f.sample.password, "17");
    assert_int_equal(f.sample.count, 17);
    assert_string_equal(f.sample.filters.items[0], "a17");
    assert_string_equal(f.sample.properties.items[0].value, "user:17@host");
    assert_string_equal(f.sample.pin, "none");
    assert_memory_equal(f.sample.window, "file:/", 6); /* by chance: it keeps its meaning */
    assert_string_equal(logged, "");
    finish(&f);
    f = fill("password = file:/run/secrets/mqtt\n");
    assert_string_equal(f.sample.password, "file:/run/secrets/mqtt");
    assert_string_equal(logged, AT "password: it begins with file:/ and is taken as it stands; ${file:PATH} is what a "
                                   "file holds\n");
    finish(&f);
    put("${env:FMS_TEST_WORD}${");
    f = fill(text);
    assert_string_equal(f.sample.password, "${env:FMS_TEST_WORD}${"); /* taken literally */
    finish(&f);
}

static void bad_files_are_errors_at_the_start(void **state)
{
    char text[512], expected[1024];

    (void)state;
    refused("password = ${file:/nonexistent/a}",
            AT "password: column 1: the file /nonexistent/a is not there; a default would be "
               "${file:/nonexistent/a:-text}\n");
    refused("password = x${file:/}", AT "password: column 2: the file / is a directory\n");
    refused("kafka.x = ${file}", AT "kafka.x = \"${file}\": column 1: expected the path of a file: "
                                    "${file:/run/secrets/NAME}\n");
    put("hunter2\n");
    snprintf(text, sizeof text, "count = ${file:%s}", secret);
    snprintf(expected, sizeof expected, AT "count = \"${file:%s}\": expected a whole number, from -5 to 1000000\n",
             secret);
    refused(text, expected);
    put("\n");
    snprintf(text, sizeof text, "password = ${file:%s}", secret);
    snprintf(expected, sizeof expected,
             AT "password: column 1: the file %s is empty; a default would be ${file:%s:-text}\n", secret, secret);
    refused(text, expected);
}

static void files_are_read_again(void **state)
{
    char text[512];
    struct filled f;
    const char *before;

    (void)state;
    put("old");
    snprintf(text, sizeof text, "password = ${file:%s}\nkafka.url = u:${file:%s}@h\npin = 1\nkey = ${file:%s}\n",
             secret, secret, secret);
    f = fill(text);
    assert_int_equal(renew(&f, "password"), 0);
    assert_int_equal(renew(&f, "pin"), -ENOENT);
    assert_int_equal(renew(&f, "brokers"), -ENOENT);
    assert_int_equal(renew(&f, "key"), -ENOENT); /* a template is what it was at the start */
    assert_string_equal(logged, "");
    put("new\n");
    before = instance.password;
    assert_int_equal(renew(&f, "password"), 1);
    assert_string_equal(logged, "password has changed in its file\n");
    assert_string_equal(instance.password, "new");
    assert_string_equal(before, "old"); /* it lives until the next change */
    assert_string_equal(instance.properties.items[0].value, "u:old@h");
    assert_int_equal(renew(&f, "kafka.url"), 1);
    assert_string_equal(instance.properties.items[0].value, "u:new@h");
    before = instance.password;
    assert_int_equal(renew(&f, "password"), 0);
    assert_ptr_equal(instance.password, before);
    put("newer");
    assert_int_equal(renew(&f, "password"), 1);
    assert_string_equal(instance.password, "newer");
    assert_string_equal(before, "new");
    finish(&f);
}

static void the_last_good_text_stays(void **state)
{
    char text[512], expected[1024];
    struct filled f;

    (void)state;
    put("hunter2");
    snprintf(text, sizeof text, "password = ${file:%s}\n", secret);
    f = fill(text);
    put("");
    assert_int_equal(renew(&f, "password"), 0);
    snprintf(expected, sizeof expected,
             "password cannot be read again, so it stays as it was: column 1: the file %s is empty; a default would be "
             "${file:%s:-text}\n",
             secret, secret);
    assert_string_equal(logged, expected);
    assert_string_equal(instance.password, "hunter2");
    assert_int_equal(renew(&f, "password"), 0);
    assert_string_equal(logged, ""); /* once for each reason */
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(renew(&f, "password"), 0);
    assert_non_null(strstr(logged, "is not there"));
    put("hunter2");
    assert_int_equal(renew(&f, "password"), 0);
    assert_string_equal(logged, "password can be read again\n");
    assert_int_equal(renew(&f, "password"), 0);
    assert_string_equal(logged, "");
    finish(&f);
}

/* But for those that whoever connects reads again by himself. */
static void files_that_have_changed_are_noticed(void **state)
{
    char text[512];
    struct filled f, again;

    (void)state;
    put("17");
    snprintf(text, sizeof text, "count = ${file:%s}\npin = ${file:/nonexistent:-none}\n", secret);
    f = fill(text);
    assert_false(options_have_changed(f.memory));
    put("18\n");
    assert_true(options_have_changed(f.memory));
    again = (struct filled){.paths = json_paths_new(), .memory = options_memory_new(), .config = config_hold(f.config)};
    assert_int_equal(options_as_then(again.memory, f.memory), 0);
    assert_int_equal(unlink(secret), 0);
    assert_true(options_have_changed(f.memory));
    assert_int_equal(options_fill(table, FMS_SINK, "kafka_sink", again.config, &again.config->sections[0], again.paths,
                                  again.memory, &instance),
                     0);
    assert_int_equal(instance.count, 17); /* as it was */
    assert_string_equal(instance.pin, "none");
    assert_true(options_have_changed(again.memory));
    put("17\n");
    assert_false(options_have_changed(again.memory));
    finish(&again);
    finish(&f);
    snprintf(text, sizeof text, "password = ${file:%s}\n", secret);
    f = fill(text);
    put("18");
    assert_true(options_have_changed(f.memory));
    assert_int_equal(renew(&f, "password"), 1);
    put("19");
    assert_false(options_have_changed(f.memory));
    finish(&f);
}

/* ---------------------------------------------------------------------------------------------------- out of memory */

static char whole_file[512];
static const char whole_form[] =
    "[sink kafka]\nbrokers = ${env:FMS_TEST_WORD}\nfilters = a, b\nkey = ${json:a.b:-x}$${\n"
    " ${key}\npassword = ${file:%s}\nkafka.a = 1${file:%s}\nkafka.b = 2\nheader.x = ${topic}\n[sink b]\n";

/* The whole way from a file to an expanded template. */
static int from_file_to_key(void)
{
    const struct fms_record record = {.key = {"k", 1}, .payload = {"{\"a\":{\"b\":\"\\n\"}}", 16}};
    struct filled f = {.result = config_parse("t.ini", whole_file, strlen(whole_file), &f.config)};
    struct json_cache *cache;
    struct fms_bytes value;

    if (f.result != 0)
        return f.result;
    f.paths = json_paths_new();
    f.memory = options_memory_new();
    f.result = f.paths == NULL || f.memory == NULL ? -ENOMEM
                                                   : options_fill(table, FMS_SINK, NULL, f.config,
                                                                  &f.config->sections[0], f.paths, f.memory, &instance);
    if (f.result == 0) {
        cache = __real_calloc(1, json_cache_size(f.paths));
        f.result = template_expand(instance.key, &record, cache, &value);
        if (f.result == 0)
            assert_string_equal(value.data, "\n${ k");
        free(cache);
    }
    if (f.result == 0) {
        put("other");
        f.result = options_renew(f.memory, &teller, "password") == 1 ? 0 : -ENOMEM;
        assert_string_equal(instance.password, f.result == 0 ? "other" : "hush");
        lines_logged -= f.result == 0; /* that it has changed */
        put("hush");
    }
    finish(&f);
    return f.result;
}

static int check_the_table(void)
{
    char error[256];

    return options_check_table(table, sizeof(struct sample), error, sizeof error);
}

static void out_of_memory(void **state)
{
    int (*const runs[])(void) = {from_file_to_key, check_the_table};

    (void)state;
    put("hush");
    snprintf(whole_file, sizeof whole_file, whole_form, secret, secret);
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        long enough = 1;
        int result;

        lines_logged = 0;
        do {
            allocations_left = enough;
            result = runs[i]();
            allocations_left = -1;
            if (result != 0)
                assert_int_equal(result, -ENOMEM);
        } while (result != 0 && enough++ < 1000);
        assert_int_equal(result, 0);
        assert_int_equal(lines_logged, 0);
        assert_true(enough > 20);
    }
}

static int remove_secret(void **state)
{
    (void)state;
    return unlink(secret);
}

static int set_environment(void **state)
{
    (void)state;
    snprintf(secret, sizeof secret, "/tmp/test_options.%d", (int)getpid());
    put("hush");
    setenv("FMS_TEST_WORD", "${key}", 1);
    unsetenv("FMS_TEST_UNSET");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_type),
        cmocka_unit_test(commas_in_items),
        cmocka_unit_test(durations_and_sizes),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(wrong_templates),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(unknown_options),
        cmocka_unit_test(without_a_table),
        cmocka_unit_test(a_section_without_plugin),
        cmocka_unit_test(required_options),
        cmocka_unit_test(roles),
        cmocka_unit_test(all_errors_in_one_run),
        cmocka_unit_test(secrets_are_never_shown),
        cmocka_unit_test(tables),
        cmocka_unit_test(nearest),
        cmocka_unit_test(files_are_read_at_the_start),
        cmocka_unit_test(bad_files_are_errors_at_the_start),
        cmocka_unit_test(files_are_read_again),
        cmocka_unit_test(the_last_good_text_stays),
        cmocka_unit_test(files_that_have_changed_are_noticed),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, set_environment, remove_secret);
}
