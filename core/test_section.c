/* test_section.c - what a [test NAME] section says. */
#include "test_section.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "options.h"

/* The options of [test NAME]. */
struct test_options {
    struct fms_pairs input, topics, keys, headers;
    struct fms_pairs expect, expect_topics, expect_keys, expect_headers, reject;
    const char *topic, *key, *input_file, *expect_file;
    int64_t every, now;
};

static const struct fms_option test_options[] = {
    FMS_OPT_PAIRS(struct test_options, input, "input.", "payload of a record that goes in, in the order of the file"),
    FMS_OPT_PAIRS(struct test_options, topics, "topic.", "topic of the input of that NAME"),
    FMS_OPT_PAIRS(struct test_options, keys, "key.", "key of the input of that NAME"),
    FMS_OPT_PAIRS(struct test_options, headers, "header.", "header of an input: header.NAME.HEADER = value"),
    FMS_OPT_PAIRS(struct test_options, expect, "expect.",
                  "payload of a record that comes to the sinks, in the order of the file"),
    FMS_OPT_PAIRS(struct test_options, expect_topics, "expect_topic.", "its topic, where that is to be looked at"),
    FMS_OPT_PAIRS(struct test_options, expect_keys, "expect_key.", "its key, where that is to be looked at"),
    FMS_OPT_PAIRS(struct test_options, expect_headers, "expect_header.",
                  "a header of it: expect_header.NAME.HEADER = value"),
    FMS_OPT_PAIRS(struct test_options, reject, "reject.",
                  "reason of a rejection, in the order of the file; * and ? stand for anything"),
    FMS_OPT_STRING(struct test_options, topic, "fms/data", "topic of inputs that have none of their own"),
    FMS_OPT_STRING(struct test_options, key, NULL, "key of inputs that have none of their own; absent: no key"),
    FMS_OPT_STRING(struct test_options, input_file, NULL,
                   "file of more inputs, a payload a line; its place is told from the pipeline file's"),
    FMS_OPT_STRING(struct test_options, expect_file, NULL, "file of more expected payloads, likewise"),
    FMS_OPT_DURATION(struct test_options, every, "0", 0, 86400 * FMS_SECOND, "time between two inputs"),
    FMS_OPT_INTEGER(struct test_options, now, "1763320419", 0, INT64_C(9000000000),
                    "time of the first input: Unix seconds"),
    FMS_OPT_END,
};

const struct fms_option *test_section_options(void)
{
    return test_options;
}

/* ---------------------------------------------------------------------------------------------------------- entries */

static char *copy_of(struct fms_bytes bytes)
{
    return bytes.data != NULL ? strndup(bytes.data, bytes.size) : NULL;
}

/* Room for one more, zeroed; NULL: no memory. */
static struct test_entry *entry_add(struct test_entries *entries)
{
    struct test_entry *items = realloc(entries->items, (entries->count + 1) * sizeof *items);

    if (items == NULL)
        return NULL;
    entries->items = items;
    items[entries->count] = (struct test_entry){0};
    return &items[entries->count++];
}

int test_entries_add(struct test_entries *entries, const char *label, struct fms_bytes topic, struct fms_bytes key,
                     struct fms_bytes payload)
{
    struct test_entry *entry = entry_add(entries);
    char *copy = malloc(payload.size + 1);

    if (entry == NULL || copy == NULL) {
        free(copy);
        return -ENOMEM;
    }
    if (payload.size > 0)
        memcpy(copy, payload.data, payload.size);
    copy[payload.size] = '\0';
    *entry = (struct test_entry){copy_of(fms_text(label)), copy_of(topic), copy_of(key), copy, payload.size, NULL, 0};
    return 0;
}

int test_entry_add_header(struct test_entry *entry, const char *name, struct fms_bytes value)
{
    struct fms_header *headers = realloc(entry->headers, (entry->header_count + 1) * sizeof *headers);
    char *text = copy_of(value), *copied_name = strdup(name);

    if (headers != NULL)
        entry->headers = headers;
    if (headers == NULL || copied_name == NULL || (text == NULL && value.data != NULL)) {
        free(text);
        free(copied_name);
        return -ENOMEM;
    }
    headers[entry->header_count++] = (struct fms_header){copied_name, fms_text(text)};
    return 0;
}

void test_entries_free(struct test_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->items[i].label);
        free(entries->items[i].topic);
        free(entries->items[i].key);
        free(entries->items[i].payload);
        for (size_t k = 0; k < entries->items[i].header_count; k++) {
            free((char *)(uintptr_t)entries->items[i].headers[k].name);
            free((char *)(uintptr_t)entries->items[i].headers[k].value.data);
        }
        free(entries->items[i].headers);
    }
    free(entries->items);
    *entries = (struct test_entries){NULL, 0};
}

/* ---------------------------------------------------------------------------------------------------------- reading */

/* The value of the pair of that name, or `otherwise`. */
static const char *pair_value(const struct fms_pairs *pairs, const char *name, const char *otherwise)
{
    for (size_t i = 0; i < pairs->count; i++) {
        if (strcmp(pairs->items[i].name, name) == 0)
            return pairs->items[i].value;
    }
    return otherwise;
}

/* The header that a pair called NAME.HEADER gives to what is called `name`, or NULL. */
static const char *header_name(const struct fms_pair *pair, const char *name)
{
    size_t size = strlen(name);

    return strncmp(pair->name, name, size) == 0 && pair->name[size] == '.' && pair->name[size + 1] != '\0'
               ? pair->name + size + 1
               : NULL;
}

static int add_headers(struct test_entry *entry, const char *name, const struct fms_pairs *headers)
{
    int error = 0;

    for (size_t i = 0; i < headers->count && error == 0; i++) {
        const char *header = header_name(&headers->items[i], name);

        if (header != NULL)
            error = test_entry_add_header(entry, header, fms_text(headers->items[i].value));
    }
    return error;
}

static int add_pairs(struct test_entries *entries, const struct fms_pairs *payloads, const struct fms_pairs *topics,
                     const char *topic, const struct fms_pairs *keys, const char *key, const struct fms_pairs *headers)
{
    int error = 0;

    for (size_t i = 0; i < payloads->count && error == 0; i++) {
        const struct fms_pair *pair = &payloads->items[i];

        error = test_entries_add(entries, pair->option, fms_text(pair_value(topics, pair->name, topic)),
                                 fms_text(pair_value(keys, pair->name, key)), fms_text(pair->value));
        if (error == 0)
            error = add_headers(&entries->items[entries->count - 1], pair->name, headers);
    }
    return error;
}

/* Adds the lines of a file beside the pipeline file. */
static int add_lines(struct test_entries *entries, const struct config *config, const struct config_section *section,
                     const char *name, const char *topic, const char *key)
{
    const char *slash = strrchr(config->path, '/');
    char *path = NULL, *line = NULL;
    FILE *file = NULL;
    size_t room = 0, number = 0;
    ssize_t size;
    int error = 0;

    if (name == NULL)
        return 0;
    if (asprintf(&path, "%.*s%s", slash == NULL || *name == '/' ? 0 : (int)(slash - config->path) + 1, config->path,
                 name) < 0)
        return -ENOMEM;
    file = fopen(path, "r");
    if (file == NULL) {
        error = -errno;
        log_config(FMS_LOG_ERROR, config->path, section->line, "[test %s] %s: %s", section->name, path,
                   strerror(errno));
    }
    while (error == 0 && (size = getline(&line, &room, file)) >= 0) {
        char label[32];

        snprintf(label, sizeof label, "line %zu", ++number);
        size -= size > 0 && line[size - 1] == '\n';
        error = test_entries_add(entries, label, fms_text(topic), fms_text(key), fms_bytes_of(line, (size_t)size));
    }
    if (file != NULL)
        fclose(file);
    free(line);
    free(path);
    return error;
}

/* Whether a pair called NAME, or NAME.HEADER, belongs to one of these. */
static bool belongs(const struct fms_pair *pair, const struct fms_pairs *of, bool is_header)
{
    bool found = false;

    for (size_t i = 0; i < of->count && !found; i++)
        found = is_header ? header_name(pair, of->items[i].name) != NULL : strcmp(pair->name, of->items[i].name) == 0;
    return found;
}

/* A topic, key or header of something that there is not is a mistake. */
static int check_names(const struct config *config, const struct config_section *section, const struct fms_pairs *names,
                       bool are_headers, const struct fms_pairs *of, const char *what)
{
    int error = 0;

    for (size_t i = 0; i < names->count; i++) {
        const struct fms_pair *pair = &names->items[i];

        if (belongs(pair, of, are_headers))
            continue;
        log_config(FMS_LOG_ERROR, config->path, config_find(section, pair->option)->line,
                   "[test %s] %s: there is no %s.%.*s%s", section->name, pair->option, what,
                   are_headers ? (int)strcspn(pair->name, ".") : (int)strlen(pair->name), pair->name,
                   are_headers ? ", or no header is named: NAME.HEADER" : "");
        error = -EINVAL;
    }
    return error;
}

static int check_options(const struct config *config, const struct config_section *section,
                         const struct test_options *options)
{
    const struct {
        const struct fms_pairs *names;
        bool are_headers;
        const struct fms_pairs *of;
        const char *what;
    } belongings[] = {
        {&options->topics, false, &options->input, "input"},
        {&options->keys, false, &options->input, "input"},
        {&options->headers, true, &options->input, "input"},
        {&options->expect_topics, false, &options->expect, "expect"},
        {&options->expect_keys, false, &options->expect, "expect"},
        {&options->expect_headers, true, &options->expect, "expect"},
    };
    int error = 0;

    for (size_t i = 0; i < sizeof belongings / sizeof belongings[0]; i++) {
        if (check_names(config, section, belongings[i].names, belongings[i].are_headers, belongings[i].of,
                        belongings[i].what) != 0)
            error = -EINVAL;
    }
    if (*section->name == '\0' || (options->input.count == 0 && options->input_file == NULL)) {
        log_config(FMS_LOG_ERROR, config->path, section->line,
                   *section->name == '\0' ? "[test] has no name: [test NAME]"
                                          : "[test %s] has no input: add input.1 = PAYLOAD, or input_file",
                   section->name);
        error = -EINVAL;
    }
    return error;
}

static int fill_options(const struct config *config, const struct config_section *section,
                        struct options_memory *memory, struct test_options *options)
{
    int error = options_fill(test_options, 0, NULL, config, section, NULL, memory, options);

    return error != 0 ? error : check_options(config, section, options);
}

int test_section_check(const struct config *config, const struct config_section *section)
{
    struct options_memory *memory = options_memory_new();
    struct test_options options = {0};
    int error = memory != NULL ? fill_options(config, section, memory, &options) : -ENOMEM;

    options_memory_free(memory);
    return error;
}

static int read_entries(struct test_section *test, const struct config *config, const struct config_section *section,
                        const struct test_options *options)
{
    int error = add_pairs(&test->inputs, &options->input, &options->topics, options->topic, &options->keys,
                          options->key, &options->headers);

    if (error == 0)
        error = add_lines(&test->inputs, config, section, options->input_file, options->topic, options->key);
    if (error == 0)
        error = add_pairs(&test->expected, &options->expect, &options->expect_topics, NULL, &options->expect_keys, NULL,
                          &options->expect_headers);
    if (error == 0)
        error = add_lines(&test->expected, config, section, options->expect_file, NULL, NULL);
    for (size_t i = 0; i < options->reject.count && error == 0; i++)
        error = test_entries_add(&test->rejections, options->reject.items[i].option, fms_text(NULL), fms_text(NULL),
                                 fms_text(options->reject.items[i].value));
    return error;
}

int test_section_read(struct test_section *test, const struct config *config, const struct config_section *section)
{
    struct options_memory *memory = options_memory_new();
    struct test_options options = {0};
    int error = memory != NULL ? fill_options(config, section, memory, &options) : -ENOMEM;

    *test = (struct test_section){.every = options.every, .now = options.now * FMS_SECOND};
    if (error == 0)
        error = read_entries(test, config, section, &options);
    if (error != 0)
        test_section_free(test);
    options_memory_free(memory);
    return error;
}

void test_section_free(struct test_section *test)
{
    test_entries_free(&test->inputs);
    test_entries_free(&test->expected);
    test_entries_free(&test->rejections);
}
