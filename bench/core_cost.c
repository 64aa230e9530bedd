/* core_cost - what a record costs in the core alone: nanoseconds of CPU from emit to settlement.
 *
 *   core_cost FILE.ini...     sources that end: bench/instructions/core.ini, ... with BENCH_COUNT=2000000
 *   core_cost --watched ...   as if somebody watched them
 *   core_cost --once ...      runs each once, for scripts/instructions
 *
 * The files take turns, ROUNDS times, so that a change of the machine's speed meets them all; the median is printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "assemble.h"
#include "lane.h"
#include "log.h"

#define ROUNDS 7
#define FILES  8

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Nanoseconds a record, or below 0 after an error. */
static double run_once(const char *path, bool is_watched)
{
    struct pipeline *pipeline = pipeline_load(path);
    double before, nanoseconds = -1;

    if (pipeline == NULL)
        return -1;
    if (is_watched)
        pipeline_measure(pipeline);
    if (pipeline_open(pipeline) == 0) {
        before = cpu_seconds();
        lane_run(pipeline);
        nanoseconds = (cpu_seconds() - before) * 1e9 / (double)pipeline->counts.delivered;
        if (pipeline->has_failed || pipeline->left > 0 || pipeline->counts.delivered == 0)
            nanoseconds = -1;
        pipeline_close(pipeline);
    }
    pipeline_free(pipeline);
    return nanoseconds;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Whether the first argument is this one, which is taken away. */
static bool has_flag(int *argc, char ***argv, const char *flag)
{
    if (*argc < 2 || strcmp((*argv)[1], flag) != 0)
        return false;
    ++*argv;
    --*argc;
    return true;
}

int main(int argc, char **argv)
{
    double results[FILES][ROUNDS];
    bool is_watched = has_flag(&argc, &argv, "--watched");
    int rounds = has_flag(&argc, &argv, "--once") ? 1 : ROUNDS, files = argc - 1;

    if (files < 1 || files > FILES) {
        fprintf(stderr, "usage: core_cost [--watched] [--once] FILE.ini... (at most %d)\n", FILES);
        return 2;
    }
    log_setup(LOG_TEXT, FMS_LOG_WARN);
    loader_search(getenv("FMSPIPE_PLUGIN_PATH"));
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < files; i++) {
            results[i][round] = run_once(argv[i + 1], is_watched);
            if (results[i][round] < 0)
                return 1;
        }
    }
    for (int i = 0; i < files; i++) {
        qsort(results[i], (size_t)rounds, sizeof **results, by_value);
        printf("%-24s %6.1f ns CPU a record (median of %d; %.1f to %.1f)\n", argv[i + 1], results[i][rounds / 2],
               rounds, results[i][0], results[i][rounds - 1]);
    }
    return 0;
}
