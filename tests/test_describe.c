/* test_describe.c - what is printed of a plugin fits a terminal, escapes what Markdown would take for its own, and
 * contains a section that works. */
#include "describe.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jansson.h>

#include "options.h"

struct sample {
    const char *brokers, *token;
    int64_t count, linger, buffer, big;
    bool wanted;
    int profile;
    struct fms_list filters;
    const struct fms_template *key;
    struct fms_pairs properties, headers;
    const char *only_source, *odd;
};

/* Each type required, as far as it can be, and each with a default in the other table. */
static const struct fms_option required[] = {
    FMS_OPT_STRING(struct sample, brokers, FMS_REQUIRED, "brokers to begin with"),
    FMS_OPT_SECRET(struct sample, token, FMS_REQUIRED, "token"),
    FMS_OPT_INTEGER(struct sample, count, FMS_REQUIRED, 3, 9, "count"),
    FMS_OPT_INTEGER(struct sample, big, FMS_REQUIRED, INT64_MIN, INT64_MAX, "any number"),
    FMS_OPT_DURATION(struct sample, linger, FMS_REQUIRED, FMS_MS, FMS_NEVER, "linger"),
    FMS_OPT_SIZE(struct sample, buffer, FMS_REQUIRED, 4096, INT64_C(1) << 30, "buffer"),
    FMS_OPT_BOOLEAN(struct sample, wanted, FMS_REQUIRED, "whether"),
    FMS_OPT_CHOICE(struct sample, profile, FMS_REQUIRED, "realtime|throughput", "profile"),
    FMS_OPT_LIST(struct sample, filters, FMS_REQUIRED, "filters"),
    FMS_OPT_TEMPLATE(struct sample, key, FMS_REQUIRED, "key"),
    FMS_OPT_END,
};

static const struct fms_option optional[] = {
    FMS_OPT_STRING(
        struct sample, brokers, NULL,
        "a meaning that is long enough to be folded over several lines, since nobody wants to scroll sideways "
        "in a terminal in order to read what an option is good for"),
    FMS_OPT_SECRET(struct sample, token, "hunter2", "token"),
    FMS_OPT_INTEGER(struct sample, count, "-1", -1, 65535, "this | or *that* of <those> `x`"),
    FMS_OPT_DURATION(struct sample, linger, "1500ms", 0, 90 * FMS_SECOND, "linger"),
    FMS_OPT_SIZE(struct sample, buffer, NULL, 0, 10000000, "buffer"),
    FMS_OPT_BOOLEAN(struct sample, wanted, NULL, "whether"),
    FMS_OPT_CHOICE(struct sample, profile, NULL, "realtime|throughput|a_third_choice", "profile"),
    FMS_OPT_LIST(struct sample, filters, "a, b", "filters"),
    FMS_OPT_TEMPLATE(struct sample, key, "${json:a:-b|none of these}", "key"),
    FMS_OPT_PAIRS(struct sample, properties, "kafka.", "properties"),
    FMS_OPT_TEMPLATE_PAIRS(struct sample, headers, "header.", "headers"),
    FMS_OPT_STRING(struct sample, odd, "a ;\"b\"", "a default that must be quoted"),
    {"only_source", FMS_STRING, offsetof(struct sample, only_source), NULL, 0, 0, NULL, "some", NULL, FMS_SOURCE},
    FMS_OPT_END,
};

static int write_none(void *instance, const struct fms_record *const *records, size_t count)
{
    (void)instance, (void)records;
    return (int)count;
}

static int poll_none(void *instance, size_t credit, struct fms_wait *wait)
{
    (void)instance, (void)credit, (void)wait;
    return 0;
}

static const struct fms_metric counters[] = {{"reconnects", "connections made again"}, {NULL, NULL}};
static const struct fms_metric gauges[] = {{"queue_bytes", "what waits"}, {NULL, NULL}};
static const struct fms_metric durations[] = {{"round_trip_seconds", "there and back"}, {NULL, NULL}};

static struct fms_plugin plugin_of(const struct fms_option *options)
{
    return (struct fms_plugin){.name = "kafka_sink",
                               .version = "1.2.3",
                               .summary = "Writes records to Kafka",
                               .options = options,
                               .counters = counters,
                               .gauges = gauges,
                               .durations = durations,
                               .sink_write = write_none,
                               .instance_size = sizeof(struct sample)};
}

static char *describe(const struct fms_plugin *plugin, enum describe_format format)
{
    char *text = NULL, *copy;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_int_equal(describe_plugin(plugin, format, out), 0);
    fclose(out);
    copy = strdup(text); /* what open_memstream gave, gcc 12 at -O3 takes for a part of `text` */
    free(text);
    return copy;
}

static void contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no\n%s\nin\n%s", part, text);
}

static void for_people(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    char *text = describe(&plugin, DESCRIBE_TABLE);

    (void)state;
    assert_int_equal(strncmp(text, "kafka_sink 1.2.3 - sink\nWrites records to Kafka\n\n", 49), 0);
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        size_t width = strcspn(line, "\n");

        if (width > 100 || (width > 0 && line[width - 1] == ' '))
            fail_msg("too wide, or a blank at the end: %s", line);
    }
    contains(text, "option       type       default             range or choices    meaning\n");
    contains(text, "\ncount        integer    -1                  -1 to 65535 ");
    contains(text, "\nlinger       duration   1500ms              0 to 90s ");
    contains(text, "\nbuffer       size       0                   0 to 10MB ");
    contains(text, "\nwanted       boolean    no                  yes, no ");
    contains(text, "\nprofile      choice     realtime            realtime,           profile\n"
                   "                                            throughput,\n"
                   "                                            a_third_choice\n");
    contains(text, "\nkey          template   ${json:a:-b|none            ");
    contains(text, "\nkafka.NAME   strings  ");
    contains(text, "\nheader.NAME  templates");
    contains(text, "some (only as source)\n");
    contains(text, "\ncounter     meaning\nreconnects  connections made again\n");
    contains(text, "\ngauge        meaning\nqueue_bytes  what waits\n");
    contains(text, "\nduration            meaning\nround_trip_seconds  there and back\n");
    contains(text, "\n[sink NAME]\nplugin = kafka_sink\n;brokers =\n");
    contains(text, "\n;linger = 1500ms\n");
    contains(text, "\n;kafka.NAME =\n");
    contains(text, "\n;odd = \"a ;\\\"b\\\"\"\n");
    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(text, ";only_source"));
    free(text);
}

static void several_roles(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    char *text;

    (void)state;
    plugin.source_poll = poll_none;
    text = describe(&plugin, DESCRIBE_TABLE);
    contains(text, "kafka_sink 1.2.3 - source, sink\n");
    contains(text, "\n[source]\nplugin = kafka_sink\n");
    contains(text, "\n;only_source =\n\n[sink NAME]\n");
    free(text);
}

static void without_role_or_options(void **state)
{
    struct fms_plugin plugin = {.name = "pipeline", .version = "1", .summary = "Options of [pipeline]"};
    char *text = describe(&plugin, DESCRIBE_TABLE);

    (void)state;
    assert_string_equal(text, "pipeline 1\nOptions of [pipeline]\n\nIt has no options.\n\n[pipeline]\n");
    free(text);
    text = describe(&plugin, DESCRIBE_MARKDOWN);
    assert_string_equal(text, "It has no options.\n");
    free(text);
}

static void for_a_readme(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    char *text = describe(&plugin, DESCRIBE_MARKDOWN);

    (void)state;
    assert_int_equal(strncmp(text,
                             "| option | type | default | range or choices | meaning |\n"
                             "|---|---|---|---|---|\n| `brokers` | string |  |  | a meaning",
                             108),
                     0);
    contains(text, "\n| `count` | integer | `-1` | -1 to 65535 | this \\| or \\*that\\* of \\<those> \\`x\\` |\n");
    contains(text, "\n| `key` | template | `${json:a:-b\\|none of these}` |  | key |\n");
    contains(text, "\n| `profile` | choice | `realtime` | realtime, throughput, a_third_choice | profile |\n");
    contains(text, "\n| `kafka.NAME` | strings |  |  | properties |\n");
    contains(text, "|\n\n## Metrics\n\n| metric | type | meaning |\n|---|---|---|\n"
                   "| `fmspipe_kafka_sink_reconnects_total` | counter | connections made again |\n"
                   "| `fmspipe_kafka_sink_queue_bytes` | gauge | what waits |\n"
                   "| `fmspipe_kafka_sink_round_trip_seconds` | histogram | there and back |\n");
    assert_null(strstr(text, "hunter2"));
    free(text);
    plugin.options = required;
    text = describe(&plugin, DESCRIBE_MARKDOWN);
    contains(text, "\n| `linger` | duration | required | at least 1ms | linger |\n");
    contains(text, "\n| `buffer` | size | required | 4KiB to 1GiB | buffer |\n");
    contains(text, "\n| `big` | integer | required |  | any number |\n");
    free(text);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "(none)";
}

static const json_t *option_of(const json_t *root, const char *name)
{
    const json_t *option;
    size_t i;

    json_array_foreach(json_object_get(root, "options"), i, option)
    {
        if (strcmp(text_of(option, "name"), name) == 0)
            return option;
    }
    fail_msg("there is no option %s", name);
    return NULL;
}

static void for_programs(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    char *text = describe(&plugin, DESCRIBE_JSON);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    (void)state;
    assert_non_null(root);
    assert_string_equal(text_of(root, "name"), "kafka_sink");
    assert_true(json_is_true(json_object_get(root, "sink")) && json_is_false(json_object_get(root, "source")));
    assert_int_equal(json_array_size(json_object_get(root, "options")), 13);
    assert_string_equal(text_of(option_of(root, "count"), "help"), "this | or *that* of <those> `x`");
    assert_string_equal(text_of(option_of(root, "count"), "accepts"), "-1 to 65535");
    assert_string_equal(text_of(option_of(root, "odd"), "default"), "a ;\"b\"");
    assert_string_equal(text_of(option_of(root, "brokers"), "default"), "(none)");
    assert_string_equal(text_of(json_array_get(json_object_get(root, "counters"), 0), "name"), "reconnects");
    assert_string_equal(text_of(json_array_get(json_object_get(root, "gauges"), 0), "help"), "what waits");
    assert_string_equal(text_of(json_array_get(json_object_get(root, "durations"), 0), "name"), "round_trip_seconds");
    assert_null(strstr(text, "hunter2"));
    json_decref(root);
    free(text);
    plugin.options = NULL;
    plugin.counters = NULL;
    text = describe(&plugin, DESCRIBE_JSON);
    root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(json_object_get(root, "options")), 0);
    json_decref(root);
    free(text);
}

static void for_a_man_page(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    char *text = describe(&plugin, DESCRIBE_MAN);

    (void)state;
    contains(text, ".TP\n\\fBcount\\fR (integer, default \\-1; \\-1 to 65535)\n\\&this | or *that* of <those> `x`\n");
    contains(text, ".TP\n\\fBkafka.NAME\\fR (strings)\n\\&properties\n");
    assert_null(strstr(text, "hunter2"));
    free(text);
}

/* The sample section of a plugin, with its comments turned into keys, fills an instance. */
static void sample_works(const struct fms_option *options)
{
    struct fms_plugin plugin = plugin_of(options);
    char *text = describe(&plugin, DESCRIBE_TABLE);
    char *section = strstr(text, "\n[sink NAME]\n");
    struct json_paths *paths = json_paths_new();
    struct options_memory *memory = options_memory_new();
    struct sample sample;
    struct config *config;

    assert_non_null(section);
    for (char *c = section; (c = strstr(c, "\n;")) != NULL;)
        memmove(c + 1, c + 2, strlen(c + 2) + 1);
    assert_int_equal(config_parse("sample", section, strlen(section), &config), 0);
    assert_int_equal(options_fill(options, FMS_SINK, plugin.name, config, &config->sections[0], paths, memory, &sample),
                     0);
    if (options == optional)
        assert_string_equal(sample.odd, "a ;\"b\"");
    config_free(config);
    options_memory_free(memory);
    json_paths_free(paths);
    free(text);
}

static void samples_work(void **state)
{
    (void)state;
    sample_works(required);
    sample_works(optional);
}

static void a_full_disk(void **state)
{
    struct fms_plugin plugin = plugin_of(optional);
    FILE *out = fopen("/dev/full", "w");

    (void)state;
    assert_int_equal(describe_plugin(&plugin, DESCRIBE_TABLE, out), -ENOSPC);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(for_people),   cmocka_unit_test(several_roles),  cmocka_unit_test(without_role_or_options),
        cmocka_unit_test(for_a_readme), cmocka_unit_test(samples_work),   cmocka_unit_test(a_full_disk),
        cmocka_unit_test(for_programs), cmocka_unit_test(for_a_man_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
