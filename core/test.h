/* test.h - the [test NAME] sections of a pipeline file: records go in, and what comes out is compared. */
#ifndef FMS_TEST_RUN_H
#define FMS_TEST_RUN_H

#include <stddef.h>

/* Runs all tests of the file, with its transforms and nothing else of it, on a clock of their own; prints a line for each,
 * and what differs. How many passed and failed is added to the counts. 0, or -EINVAL for a file that is not right
 * (logged). [control] */
int test_run_file(const char *path, size_t *passed, size_t *failed);

#endif
