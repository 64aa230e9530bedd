/* promise.c - see promise.h. A pipeline may lose what one of its stages may lose, and repeat what one may repeat: so what is left of exactly
 * once is what none of them takes away. */
#include "promise.h"

#include <stdlib.h>
#include <string.h>

void promise_add(struct stage *stage, const char *option, enum fms_once once, char *take)
{
    const struct config_entry *entry = option != NULL ? config_find(stage->section, option) : NULL;
    struct promise *promise = calloc(1, sizeof *promise), **end = &stage->promises;

    if (promise == NULL) {
        free(take);
        return;
    }
    *promise = (struct promise){.once = once, .line = entry != NULL ? entry->line : stage->section->line, .text = take};
    while (*end != NULL)
        end = &(*end)->next;
    *end = promise;
}

void promises_free(struct stage *stage)
{
    while (stage->promises != NULL) {
        struct promise *promise = stage->promises;

        stage->promises = promise->next;
        free(promise->text);
        free(promise);
    }
}

static bool says(const struct stage *stage, enum fms_once once)
{
    bool found = false;

    for (const struct promise *promise = stage->promises; promise != NULL && !found; promise = promise->next)
        found = promise->once == once;
    return found;
}

static bool is_transform(const struct stage *stage)
{
    return stage->host.role == FMS_TRANSFORM;
}

/* Whether it is a sink that writes again what the source hands on again, for it cannot tell that from something new. */
static bool writes_again(const struct stage *stage)
{
    return (stage->host.role == FMS_SINK || stage->host.role == FMS_DEAD_LETTER) && !stage->asks_who &&
           !says(stage->pipeline->source, FMS_AT_MOST_ONCE);
}

static bool may_repeat(const struct stage *stage)
{
    return (stage->promises == NULL && !is_transform(stage)) || says(stage, FMS_AT_LEAST_ONCE) || writes_again(stage);
}

static void print_at(const struct stage *stage, int line, FILE *out, const char *text, const char *name)
{
    fprintf(out, "%s:%d: [%s] %s%s\n", stage->config->path, line, stage->name, text, name);
}

static void print_stage(const struct stage *stage, bool is_whole, FILE *out)
{
    if (stage->promises == NULL && !is_transform(stage))
        print_at(stage, stage->section->line, out, "nothing is said of what it promises, by plugin ",
                 stage->plugin->table.name);
    for (const struct promise *promise = stage->promises; promise != NULL; promise = promise->next) {
        if (is_whole || promise->once != FMS_EXACTLY_ONCE)
            print_at(stage, promise->line, out, promise->text, "");
    }
    if (stage->promises != NULL && writes_again(stage) && !says(stage, FMS_AT_LEAST_ONCE))
        print_at(stage, stage->section->line, out,
                 "what the source hands on again is written again: it does not ask who records are", "");
}

void promises_print(const struct pipeline *pipeline, FILE *out)
{
    static const char *const words[2][2] = {{"exactly once", "at least once"},
                                            {"at most once", "neither at least once nor at most once"}};
    bool loses = false, repeats = false;

    for (size_t i = 0; i < pipeline->stage_count; i++) {
        loses = loses || says(pipeline->stages[i], FMS_AT_MOST_ONCE);
        repeats = repeats || may_repeat(pipeline->stages[i]);
    }
    fprintf(out, "%s promises: %s\n", pipeline->options.name, words[loses][repeats]);
    for (size_t i = 0; i < pipeline->stage_count; i++)
        print_stage(pipeline->stages[i], !loses && !repeats, out);
}
