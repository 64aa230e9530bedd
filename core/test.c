/* test.c - see test.h.
 *
 * A test is a pipeline of its own: the file's transforms between a source that emits the inputs and sinks that keep what
 * comes. It runs on a clock that stands still and jumps, so that it takes no time and always says the same. */
#include "test.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "lane.h"
#include "log.h"
#include "options.h"
#include "pipeline.h"

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

const struct fms_option *test_option_table(void)
{
    return test_options;
}

/* An input, an expectation, or what came. */
struct entry {
    char *label; /* "expect.1"; NULL */
    char *topic, *key, *payload;
    size_t payload_size;
    struct fms_header *headers; /* values are texts */
    size_t header_count;
};

struct entries {
    struct entry *items;
    size_t count;
};

struct run {
    struct test_options options;
    struct entries inputs, expected, expected_rejections;
    size_t next; /* input */
    struct entries outputs, rejections;
    bool out_of_memory;
    FILE *details; /* of what differs */
};

static struct run *current; /* one test runs at a time */

/* ---------------------------------------------------------------------------------------------------------- entries */

static char *copy_of(struct fms_bytes bytes)
{
    return bytes.data != NULL ? strndup(bytes.data, bytes.size) : NULL;
}

/* Room for one more, zeroed; NULL: no memory. */
static struct entry *entry_add(struct entries *entries)
{
    struct entry *items = realloc(entries->items, (entries->count + 1) * sizeof *items);

    if (items == NULL)
        return NULL;
    entries->items = items;
    items[entries->count] = (struct entry){0};
    return &items[entries->count++];
}

static int entry_fill(struct entries *entries, const char *label, struct fms_bytes topic, struct fms_bytes key,
                      struct fms_bytes payload)
{
    struct entry *entry = entry_add(entries);
    char *copy = malloc(payload.size + 1);

    if (entry == NULL || copy == NULL) {
        free(copy);
        return -ENOMEM;
    }
    if (payload.size > 0)
        memcpy(copy, payload.data, payload.size);
    copy[payload.size] = '\0';
    *entry = (struct entry){copy_of(fms_text(label)), copy_of(topic), copy_of(key), copy, payload.size, NULL, 0};
    return 0;
}

static int entry_add_header(struct entry *entry, const char *name, struct fms_bytes value)
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

static void entries_free(struct entries *entries)
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
}

static void run_free(struct run *run)
{
    entries_free(&run->inputs);
    entries_free(&run->expected);
    entries_free(&run->expected_rejections);
    entries_free(&run->outputs);
    entries_free(&run->rejections);
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

static int add_headers(struct entry *entry, const char *name, const struct fms_pairs *headers)
{
    int error = 0;

    for (size_t i = 0; i < headers->count && error == 0; i++) {
        const char *header = header_name(&headers->items[i], name);

        if (header != NULL)
            error = entry_add_header(entry, header, fms_text(headers->items[i].value));
    }
    return error;
}

static int add_pairs(struct entries *entries, const struct fms_pairs *payloads, const struct fms_pairs *topics,
                     const char *topic, const struct fms_pairs *keys, const char *key, const struct fms_pairs *headers)
{
    int error = 0;

    for (size_t i = 0; i < payloads->count && error == 0; i++) {
        const struct fms_pair *pair = &payloads->items[i];

        error = entry_fill(entries, pair->option, fms_text(pair_value(topics, pair->name, topic)),
                           fms_text(pair_value(keys, pair->name, key)), fms_text(pair->value));
        if (error == 0)
            error = add_headers(&entries->items[entries->count - 1], pair->name, headers);
    }
    return error;
}

/* Adds the lines of a file beside the pipeline file. */
static int add_lines(struct entries *entries, const struct config *config, const struct config_section *section,
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
        error = entry_fill(entries, label, fms_text(topic), fms_text(key), fms_bytes_of(line, (size_t)size));
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

int test_check(const struct config *config, const struct config_section *section)
{
    struct options_memory *memory = options_memory_new();
    struct test_options options = {0};
    int error = memory != NULL ? fill_options(config, section, memory, &options) : -ENOMEM;

    options_memory_free(memory);
    return error;
}

static int run_read(struct run *run, const struct config *config, const struct config_section *section)
{
    const struct test_options *options = &run->options;
    int error = add_pairs(&run->inputs, &options->input, &options->topics, options->topic, &options->keys, options->key,
                          &options->headers);

    if (error == 0)
        error = add_lines(&run->inputs, config, section, options->input_file, options->topic, options->key);
    if (error == 0)
        error = add_pairs(&run->expected, &options->expect, &options->expect_topics, NULL, &options->expect_keys, NULL,
                          &options->expect_headers);
    if (error == 0)
        error = add_lines(&run->expected, config, section, options->expect_file, NULL, NULL);
    for (size_t i = 0; i < options->reject.count && error == 0; i++)
        error = entry_fill(&run->expected_rejections, options->reject.items[i].option, fms_text(NULL), fms_text(NULL),
                           fms_text(options->reject.items[i].value));
    return error;
}

/* -------------------------------------------------------------------------------------------- what stands in for others */

struct stand_in {
    const struct fms_host *host;
};

static int source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    const struct fms_host *host = ((struct stand_in *)instance)->host;
    struct run *run = current;

    while (credit-- > 0 && run->next < run->inputs.count) {
        const struct entry *input = &run->inputs.items[run->next];
        struct fms_record draft = {.topic = fms_text(input->topic),
                                   .key = fms_text(input->key),
                                   .payload = fms_bytes_of(input->payload, input->payload_size),
                                   .headers = input->headers,
                                   .header_count = input->header_count,
                                   .timestamp = fms_realtime(host)};
        int64_t due = FMS_SECOND + (int64_t)run->next * run->options.every;

        wait->deadline = due;
        if (fms_now(host) < due || fms_emit(host, &draft) != 0)
            return 0;
        run->next++;
    }
    return run->next == run->inputs.count ? FMS_END : 0;
}

static struct fms_bytes reason_of(const struct fms_record *letter)
{
    for (size_t i = letter->header_count; i-- > 0;) {
        if (strcmp(letter->headers[i].name, "fms.reason") == 0)
            return letter->headers[i].value;
    }
    return fms_text("");
}

static int capture(const struct fms_record *record, bool is_letter)
{
    struct entries *entries = is_letter ? &current->rejections : &current->outputs;
    int error = entry_fill(entries, NULL, record->topic, record->key, is_letter ? reason_of(record) : record->payload);

    for (size_t i = 0; i < record->header_count && error == 0; i++)
        error = entry_add_header(&entries->items[entries->count - 1], record->headers[i].name,
                                 record->headers[i].value);
    return error;
}

static int sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    const struct fms_host *host = ((struct stand_in *)instance)->host;

    for (size_t i = 0; i < count; i++) {
        if (capture(records[i], host->role == FMS_DEAD_LETTER) != 0)
            current->out_of_memory = true;
        fms_delivered(host, records[i]);
    }
    return (int)count;
}

static const struct pipeline_stand_ins stand_ins = {
    .source = {.table = {.name = "test",
                         .instance_size = sizeof(struct stand_in),
                         .source_poll = source_poll,
                         .host = FMS_HOST(struct stand_in, host)}},
    .sink = {.table = {.name = "test",
                       .instance_size = sizeof(struct stand_in),
                       .sink_write = sink_write,
                       .host = FMS_HOST(struct stand_in, host)}},
};

/* -------------------------------------------------------------------------------------------------------- comparing */

static void print_text(const char *sign, const char *text)
{
    fprintf(current->details, "    %s %s\n", sign, text != NULL ? text : "(none)");
}

/* Both texts, and a mark below the first byte in which they differ, if it is on a screen's first line. */
static void print_difference(const char *label, const char *what, const char *expected, const char *found)
{
    size_t same = 0;

    fprintf(current->details, "  %s%s:\n", label, what);
    print_text("-", expected);
    print_text("+", found);
    if (expected == NULL || found == NULL)
        return;
    while (expected[same] != '\0' && expected[same] == found[same])
        same++;
    if (same < 100)
        fprintf(current->details, "      %*s^\n", (int)same, "");
}

static bool is_same_text(const char *label, const char *what, const char *expected, const char *found)
{
    if (expected == NULL || (found != NULL && strcmp(expected, found) == 0))
        return true;
    print_difference(label, what, expected, found);
    return false;
}

/* The last of that name; NULL: none. */
static const char *header_of(const struct entry *entry, const char *name)
{
    for (size_t i = entry->header_count; i-- > 0;) {
        if (strcmp(entry->headers[i].name, name) == 0)
            return entry->headers[i].value.data;
    }
    return NULL;
}

static bool has_headers(const struct entry *expected, const struct entry *found)
{
    bool is_same = true;

    for (size_t i = 0; i < expected->header_count; i++) {
        const struct fms_header *header = &expected->headers[i];
        char what[128];

        snprintf(what, sizeof what, ", its header %s", header->name);
        is_same = is_same_text(expected->label, what, header->value.data, header_of(found, header->name)) && is_same;
    }
    return is_same;
}

static bool is_as_expected(const struct entry *expected, const struct entry *found)
{
    bool is_same = is_same_text(expected->label, ", its topic", expected->topic, found->topic);

    is_same = is_same_text(expected->label, ", its key", expected->key, found->key) && is_same;
    is_same = has_headers(expected, found) && is_same;
    if (expected->payload_size == found->payload_size &&
        memcmp(expected->payload, found->payload, found->payload_size) == 0)
        return is_same;
    print_difference(expected->label, "", expected->payload, found->payload);
    return false;
}

static bool is_reason_as_expected(const struct entry *expected, const struct entry *found)
{
    if (fnmatch(expected->payload, found->payload, FNM_NOESCAPE) == 0)
        return true;
    print_difference(expected->label, "", expected->payload, found->payload);
    return false;
}

static bool compare(const struct entries *expected, const struct entries *found, const char *what,
                    bool (*is_match)(const struct entry *expected, const struct entry *found))
{
    bool is_good = expected->count == found->count;
    size_t both = expected->count < found->count ? expected->count : found->count;

    for (size_t i = 0; i < both; i++)
        is_good = is_match(&expected->items[i], &found->items[i]) && is_good;
    for (size_t i = both; i < expected->count; i++) {
        fprintf(current->details, "  %s: there is none\n", expected->items[i].label);
        print_text("-", expected->items[i].payload);
    }
    for (size_t i = both; i < found->count; i++) {
        fprintf(current->details, "  %s that is not expected:\n", what);
        print_text("+", found->items[i].payload);
    }
    return is_good;
}

/* ---------------------------------------------------------------------------------------------------------- running */

/* Whether it came as expected. */
static bool run_test(struct run *run, const char *path)
{
    struct lane *lane;
    bool has_run;

    clock_set(FMS_SECOND, run->options.now * FMS_SECOND);
    lane = pipeline_load_with(path, &stand_ins);
    has_run = lane != NULL && pipeline_open(lane) == 0;
    if (has_run) {
        lane_run(lane);
        has_run = !lane->has_failed && lane->left == 0 && !run->out_of_memory;
        pipeline_close(lane);
    }
    pipeline_free(lane);
    if (!has_run)
        fprintf(current->details, "  the pipeline failed: see the log\n");
    has_run = compare(&run->expected, &run->outputs, "a record", is_as_expected) && has_run;
    return compare(&run->expected_rejections, &run->rejections, "a rejection", is_reason_as_expected) && has_run;
}

static int test_run(const struct config *config, const struct config_section *section, size_t *passed, size_t *failed)
{
    struct options_memory *memory = options_memory_new();
    struct run run = {0};
    int error = memory != NULL ? fill_options(config, section, memory, &run.options) : -ENOMEM;
    char *details = NULL;
    size_t size;

    if (error == 0)
        error = run_read(&run, config, section);
    if (error == 0) {
        run.details = open_memstream(&details, &size);
        error = run.details != NULL ? 0 : -ENOMEM;
    }
    if (error == 0) {
        bool is_good;

        current = &run;
        is_good = run_test(&run, config->path);
        fclose(run.details);
        printf("%s:%d: %s: %s\n%s", config->path, section->line, section->name, is_good ? "passed" : "FAILED", details);
        *passed += is_good;
        *failed += !is_good;
    }
    free(details);
    run_free(&run);
    options_memory_free(memory);
    return error;
}

int test_run_file(const char *path, size_t *passed, size_t *failed)
{
    struct lane *lane = pipeline_load_with(path, &stand_ins); /* for its errors, before any test runs */
    int error = lane != NULL ? 0 : -EINVAL;

    for (size_t i = 0; error == 0 && i < lane->config->count; i++) {
        if (strcmp(lane->config->sections[i].kind, "test") == 0)
            error = test_run(lane->config, &lane->config->sections[i], passed, failed);
    }
    pipeline_free(lane);
    return error;
}
