/* test.h - the [test NAME] sections of a pipeline file: records go in, and what comes out is compared. */
#ifndef FMS_TEST_SECTIONS_H
#define FMS_TEST_SECTIONS_H

#include "config.h"
#include "fms_plugin.h"

/* Runs all tests of the file, with its transforms and nothing else of it, on a clock of their own; prints a line for each,
 * and what differs. How many passed and failed is added to the counts. 0, or -EINVAL for a file that is not right
 * (logged). [control] */
int test_run_file(const char *path, size_t *passed, size_t *failed);

/* Checks a section. 0, or a negative errno, logged. [control] */
int test_check(const struct config *config, const struct config_section *section);

/* The options of [test NAME], for `fmspipe describe test`. */
const struct fms_option *test_option_table(void);

#endif
