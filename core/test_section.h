/* test_section.h - what a [test NAME] section says: records that go in, and what is expected to come out. All functions:
 * [control]. */
#ifndef FMS_TEST_SECTION_H
#define FMS_TEST_SECTION_H

#include "config.h"
#include "fms_plugin.h"

/* An input, an expectation, or what came. All of it is its own memory. */
struct test_entry {
    char *label; /* "expect.1"; NULL */
    char *topic, *key, *payload;
    size_t payload_size;
    struct fms_header *headers; /* values are texts */
    size_t header_count;
};

struct test_entries {
    struct test_entry *items;
    size_t count;
};

/* 0 or -ENOMEM. */
int test_entries_add(struct test_entries *entries, const char *label, struct fms_bytes topic, struct fms_bytes key,
                     struct fms_bytes payload);
int test_entry_add_header(struct test_entry *entry, const char *name, struct fms_bytes value);
void test_entries_free(struct test_entries *entries);

struct test_section {
    struct test_entries inputs, expected, rejections;
    int64_t every; /* between two inputs */
    int64_t now;   /* of the first: since 1970 */
};

/* The options of [test NAME], for `fmspipe describe test`. */
const struct fms_option *test_section_options(void);

/* Whether the section is right: 0, or a negative errno, logged; the files that it names are not read. */
int test_section_check(const struct config *config, const struct config_section *section);

/* The same, and all of it is read. After an error there is nothing to free. */
int test_section_read(struct test_section *test, const struct config *config, const struct config_section *section);
void test_section_free(struct test_section *test);

#endif
