/* test.c - see test.h.
 *
 * A test is a pipeline of its own: the file's transforms between a source that emits the inputs and sinks that keep what
 * comes. It runs on a clock that stands still and jumps, so that it takes no time and always says the same. */
#include "test.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "assemble.h"
#include "clock.h"
#include "lane.h"
#include "snapshot.h"
#include "test_section.h"

struct run {
    struct test_section test;
    size_t next; /* input */
    struct test_entries outputs, rejections;
    bool out_of_memory;
    FILE *details; /* of what differs */
};

static struct run *current; /* one test runs at a time */

/* -------------------------------------------------------------------------------------------- what stands in for others */

struct stand_in {
    const struct fms_host *host;
};

static int source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    const struct fms_host *host = ((struct stand_in *)instance)->host;
    struct run *run = current;

    while (credit-- > 0 && run->next < run->test.inputs.count) {
        const struct test_entry *input = &run->test.inputs.items[run->next];
        struct fms_record draft = {.topic = fms_text(input->topic),
                                   .key = fms_text(input->key),
                                   .payload = fms_bytes_of(input->payload, input->payload_size),
                                   .headers = input->headers,
                                   .header_count = input->header_count,
                                   .timestamp = fms_realtime(host)};
        int64_t due = FMS_SECOND + (int64_t)run->next * run->test.every;

        wait->deadline = due;
        if (fms_now(host) < due || fms_emit(host, &draft) != 0)
            return 0;
        run->next++;
    }
    return run->next == run->test.inputs.count ? FMS_END : 0;
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
    struct test_entries *entries = is_letter ? &current->rejections : &current->outputs;
    int error = test_entries_add(entries, NULL, record->topic, record->key,
                                 is_letter ? reason_of(record) : record->payload);

    for (size_t i = 0; i < record->header_count && error == 0; i++)
        error = test_entry_add_header(&entries->items[entries->count - 1], record->headers[i].name,
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
static const char *header_of(const struct test_entry *entry, const char *name)
{
    for (size_t i = entry->header_count; i-- > 0;) {
        if (strcmp(entry->headers[i].name, name) == 0)
            return entry->headers[i].value.data;
    }
    return NULL;
}

static bool has_headers(const struct test_entry *expected, const struct test_entry *found)
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

static bool is_as_expected(const struct test_entry *expected, const struct test_entry *found)
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

static bool is_reason_as_expected(const struct test_entry *expected, const struct test_entry *found)
{
    if (fnmatch(expected->payload, found->payload, FNM_NOESCAPE) == 0)
        return true;
    print_difference(expected->label, "", expected->payload, found->payload);
    return false;
}

static bool compare(const struct test_entries *expected, const struct test_entries *found, const char *what,
                    bool (*is_match)(const struct test_entry *expected, const struct test_entry *found))
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
    struct pipeline *pipeline;
    struct pipeline_view end = {0};
    bool has_run;

    clock_set(FMS_SECOND, run->test.now);
    pipeline = pipeline_load_with(path, &stand_ins);
    has_run = pipeline != NULL && pipeline_open(pipeline) == 0;
    if (has_run) {
        lane_run(pipeline);
        pipeline_close(pipeline);
        snapshot_read(pipeline, &end, 0);
        has_run = !end.has_failed && end.left == 0 && !run->out_of_memory;
    }
    view_forget(&end);
    pipeline_free(pipeline);
    if (!has_run)
        fprintf(current->details, "  the pipeline failed: see the log\n");
    has_run = compare(&run->test.expected, &run->outputs, "a record", is_as_expected) && has_run;
    return compare(&run->test.rejections, &run->rejections, "a rejection", is_reason_as_expected) && has_run;
}

static int test_run(const struct config *config, const struct config_section *section, size_t *passed, size_t *failed)
{
    struct run run = {0};
    char *details = NULL;
    size_t size;
    bool is_good;
    int error = test_section_read(&run.test, config, section);

    if (error != 0)
        return error;
    run.details = open_memstream(&details, &size);
    if (run.details != NULL) {
        current = &run;
        is_good = run_test(&run, config->path);
        fclose(run.details);
        printf("%s:%d: %s: %s\n%s", config->path, section->line, section->name, is_good ? "passed" : "FAILED", details);
        *passed += is_good;
        *failed += !is_good;
    }
    free(details);
    test_entries_free(&run.outputs);
    test_entries_free(&run.rejections);
    test_section_free(&run.test);
    return run.details != NULL ? 0 : -ENOMEM;
}

int test_run_file(const char *path, size_t *passed, size_t *failed)
{
    struct pipeline *pipeline = pipeline_load_with(path, &stand_ins); /* for its errors, before any test runs */
    int error = pipeline != NULL ? 0 : -EINVAL;

    for (size_t i = 0; error == 0 && i < pipeline->config->count; i++) {
        if (strcmp(pipeline->config->sections[i].kind, "test") == 0)
            error = test_run(pipeline->config, &pipeline->config->sections[i], passed, failed);
    }
    pipeline_free(pipeline);
    return error;
}
