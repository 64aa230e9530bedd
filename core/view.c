/* view.c - see view.h. A view's stages and their arrays are one piece of memory. */
#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t arrays_size(const struct fms_plugin *table)
{
    return measures_count(table->counters) * sizeof(uint64_t) + measures_count(table->gauges) * sizeof(double) +
           measures_count(table->durations) * sizeof(struct histogram_view);
}

/* The arrays begin at `at`, whose values all take 8 bytes; returns where they end. */
static char *place_arrays(struct stage_view *stage, char *at)
{
    stage->counters = (uint64_t *)(void *)at;
    at += measures_count(stage->table->counters) * sizeof *stage->counters;
    stage->gauges = (double *)(void *)at;
    at += measures_count(stage->table->gauges) * sizeof *stage->gauges;
    stage->durations = (struct histogram_view *)(void *)at;
    return at + measures_count(stage->table->durations) * sizeof *stage->durations;
}

int view_reserve(struct pipeline_view *view, const struct stage_view *like, size_t count)
{
    size_t size = count * sizeof *like;
    char *at;

    view_forget(view);
    for (size_t i = 0; i < count; i++)
        size += arrays_size(like[i].table);
    view->stages = calloc(1, size > 0 ? size : 1);
    if (view->stages == NULL)
        return -ENOMEM;
    view->stage_count = count;
    at = (char *)(view->stages + count);
    for (size_t i = 0; i < count; i++) {
        view->stages[i] = like[i];
        at = place_arrays(&view->stages[i], at);
    }
    return 0;
}

static bool is_like(const struct pipeline_view *view, const struct pipeline_view *other)
{
    bool is_same = view->stages != NULL && view->stage_count == other->stage_count;

    for (size_t i = 0; i < other->stage_count && is_same; i++)
        is_same = view->stages[i].table == other->stages[i].table;
    return is_same;
}

static void copy_stage(struct stage_view *to, const struct stage_view *from)
{
    struct stage_view mine = *to;

    *to = *from;
    to->counters = mine.counters;
    to->gauges = mine.gauges;
    to->durations = mine.durations;
    memcpy(to->counters, from->counters, arrays_size(from->table)); /* and the others, which stand behind them */
}

void view_copy(struct pipeline_view *to, const struct pipeline_view *from)
{
    struct stage_view *stages;
    size_t count;

    if (!is_like(to, from))
        (void)view_reserve(to, from->stages, from->stage_count);
    stages = to->stages;
    count = to->stage_count;
    *to = *from;
    to->stages = stages;
    to->stage_count = count;
    for (size_t i = 0; i < count; i++)
        copy_stage(&to->stages[i], &from->stages[i]);
}

void view_forget(struct pipeline_view *view)
{
    free(view->stages);
    view->stages = NULL;
    view->stage_count = 0;
}
