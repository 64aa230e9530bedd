/* plan.c - see plan.h. What can be prepared is prepared beside what runs: stages are loaded, checked and opened, and only what is good
 * takes its place. */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assemble.h"
#include "call.h"
#include "change.h"
#include "clock.h"
#include "config.h"
#include "json.h"
#include "lane.h"
#include "log.h"
#include "options.h"

struct plan {
    struct pipeline *running;
    struct pipeline *next; /* its stages that are new are to come, the others are the running one's, and stay */
    struct stage
        *again[PIPELINE_MAX_STAGES]; /* by place in `next`: as the running one's, should it not open; NULL: no need */
    struct stage *told[2]; /* the source once more, to be told what its sinks are and ask, and for should that not open;
                              NULL: that stays as it is */
    struct stage *goes, *comes; /* the only sink that goes, and the only one that comes, in its place; NULL: others */
};

/* ---------------------------------------------------------------------------------------------------------- comparing */

/* Of the same role and name; NULL: there is none. */
static struct stage *counterpart(const struct pipeline *pipeline, const struct stage *stage)
{
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i]->host.role == stage->host.role && strcmp(pipeline->stages[i]->name, stage->name) == 0)
            return pipeline->stages[i];
    }
    return NULL;
}

/* The one sink that the other has not; NULL: there is none, or several. */
static struct stage *only_sink(const struct pipeline *pipeline, const struct pipeline *other)
{
    struct stage *only = NULL;
    size_t n = 0;

    for (size_t i = 0; i < pipeline->sink_count; i++) {
        if (counterpart(other, pipeline->sinks[i]) != NULL)
            continue;
        only = pipeline->sinks[i];
        n++;
    }
    return n == 1 ? only : NULL;
}

/* What runs in whose place it comes, and the other way round; NULL: there is none. A sink that is renamed is to have what waits for the
 * old one, in order. */
static struct stage *old_of(const struct plan *plan, const struct stage *stage)
{
    return stage == plan->comes ? plan->goes : counterpart(plan->running, stage);
}

static struct stage *new_of(const struct plan *plan, const struct stage *stage)
{
    return stage == plan->goes ? plan->comes : counterpart(plan->next, stage);
}

/* Whether those for which it stands still, if there are any, are all to be others. */
static bool may_go_on(const struct plan *plan)
{
    return pipeline_has_superseded(plan->running) && !pipeline_has_superseded(plan->next);
}

static const char *value_of(const struct config_section *section, const char *key)
{
    const struct config_entry *entry = section != NULL ? config_find(section, key) : NULL;

    return entry != NULL ? entry->value : NULL;
}

/* ----------------------------------------------------------------------------------------------------------- printing */

static void print_value(const struct stage *stage, const char *key, const char *value, FILE *out)
{
    char text[64];

    if (value == NULL)
        fputs("(not set)", out);
    else
        fputs(options_shown(stage != NULL ? stage->plugin->table.options : NULL, key, value, text, sizeof text), out);
}

/* Each value is shown as its own stage's plugin has it: what one calls a secret the other may not know. */
static void print_key(const struct stage *old, const struct stage *stage, const char *key, const char *was,
                      const char *is, FILE *out, size_t *n)
{
    fprintf(out, "%s%s ", (*n)++ > 0 ? ", " : "", key);
    print_value(old, key, was, out);
    if (was != NULL && is != NULL && strcmp(was, is) == 0) {
        fputs(" has another value", out);
        return;
    }
    fputs(" -> ", out);
    print_value(stage, key, is, out);
}

/* What the sections say differently, and what the same words stand for in another environment; a property that stands twice by its first
 * place alone. */
static void print_difference(const struct stage *old, const struct stage *stage, const struct config_section *was,
                             const struct config_section *is, FILE *out)
{
    size_t n = 0;

    for (size_t i = 0; is != NULL && i < is->count; i++) {
        const char *key = is->entries[i].key;

        if (!config_has_same(was, is, key))
            print_key(old, stage, key, value_of(was, key), value_of(is, key), out, &n);
    }
    for (size_t i = 0; was != NULL && i < was->count; i++) {
        if (value_of(is, was->entries[i].key) == NULL)
            print_key(old, stage, was->entries[i].key, was->entries[i].value, NULL, out, &n);
    }
    if (n == 0)
        fputs(config_is_same(was, is) ? "what its files hold" : "the order of its lines", out);
}

static void print_change(const struct stage *old, const struct stage *stage, FILE *out)
{
    bool is_same = config_is_same(old->section, stage->section), is_renamed = strcmp(old->name, stage->name) != 0;

    if (is_renamed)
        fprintf(out, "in the place of %s%s", old->name, is_same ? "" : ", ");
    if (!is_renamed || !is_same)
        print_difference(old, stage, old->section, stage->section, out);
}

/* What the source is to be told of its sinks, where it was told something else. */
static void print_told(const struct plan *plan, FILE *out)
{
    const struct fms_host *was = &plan->running->source->host;
    bool is_durable = pipeline_is_durable(plan->next), asks_who = pipeline_asks_who(plan->next);

    if (is_durable != was->durable_sinks)
        fprintf(out, "its sinks have for good what they take: %s: ", is_durable ? "no -> yes" : "yes -> no");
    if (asks_who != was->identities)
        fprintf(out, "its sinks ask who records are: %s: ", asks_who ? "no -> yes" : "yes -> no");
    if (may_go_on(plan))
        fputs("it was let go: ", out);
}

static size_t place_of(const struct pipeline *pipeline, const struct stage *transform)
{
    size_t place = 0;

    while (place < pipeline->transform_count && pipeline->transforms[place] != transform)
        place++;
    return place;
}

/* Whether transforms that there are, and are to be, stand in another order. */
static bool is_reordered(const struct plan *plan)
{
    const struct pipeline *running = plan->running, *next = plan->next;
    size_t last = 0;
    bool is_other = false;

    for (size_t i = 0; i < next->transform_count; i++) {
        size_t place = place_of(running, counterpart(running, next->transforms[i]));

        if (place == running->transform_count)
            continue;
        is_other = is_other || place < last;
        last = place;
    }
    return is_other;
}

size_t plan_print(const struct plan *plan, FILE *out)
{
    const struct pipeline *running = plan->running, *next = plan->next;
    const struct config_section *was = config_section(running->config, "pipeline"),
                                *is = config_section(next->config, "pipeline");
    size_t n = 0;

    if (!config_is_same(was, is)) {
        fprintf(out, "%s: pipeline: ", running->options.name);
        print_difference(NULL, NULL, was, is, out);
        fputs(": at once\n", out);
        n++;
    }
    for (size_t i = 0; i < next->stage_count; i++) {
        const struct stage *stage = next->stages[i], *old = old_of(plan, stage);

        if (!stage->is_new && stage == next->source && plan->told[0] != NULL) {
            fprintf(out, "%s: %s: ", running->options.name, stage->name);
            print_told(plan, out);
            fputs("reopened\n", out);
            n++;
        }
        if (!stage->is_new)
            continue;
        fprintf(out, "%s: %s: ", running->options.name, stage->name);
        if (old != NULL)
            print_change(old, stage, out);
        fprintf(out, "%s\n", old == NULL ? "comes" : stage->host.role == FMS_TRANSFORM ? ": swapped" : ": reopened");
        n++;
    }
    if (is_reordered(plan)) {
        fprintf(out, "%s: transforms: their order: swapped\n", running->options.name);
        n++;
    }
    for (size_t i = 0; i < running->stage_count; i++) {
        if (new_of(plan, running->stages[i]) != NULL)
            continue;
        fprintf(out, "%s: %s: goes\n", running->options.name, running->stages[i]->name);
        n++;
    }
    return n;
}

/* ------------------------------------------------------------------------------------------------------------- making */

void plan_free(struct plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < PIPELINE_MAX_STAGES; i++) {
        if (plan->again[i] != NULL)
            stage_free(plan->again[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        if (plan->told[i] != NULL)
            stage_free(plan->told[i]);
    }
    pipeline_free(plan->next);
    free(plan);
}

/* Whether it is opened when the one in whose place it comes is closed. Who notes what is done must be the only one that does. */
static bool is_single(const struct stage *stage)
{
    return stage->is_new && (stage->host.role == FMS_SOURCE || stage->asks_ends ||
                             (stage->plugin->table.traits & FMS_TRAIT_SINGLE) != 0);
}

static int make_again(struct plan *plan)
{
    for (size_t i = 0; i < plan->next->stage_count; i++) {
        const struct stage *stage = plan->next->stages[i], *old = old_of(plan, stage);

        if (!is_single(stage) || old == NULL)
            continue;
        plan->again[i] = stage_remake(plan->next, old);
        if (plan->again[i] == NULL)
            return -EINVAL;
    }
    return 0;
}

/* Whether a source was told of sinks like these: what it does may rest on whether they are durable, and who records are. */
static bool was_told(const struct stage *source, const struct pipeline *pipeline)
{
    return source->host.durable_sinks == pipeline_is_durable(pipeline) &&
           source->host.identities == pipeline_asks_who(pipeline);
}

/* It is told when it is opened; and opened again where it was let go. */
static int make_told(struct plan *plan)
{
    bool is_other = may_go_on(plan) || !was_told(plan->running->source, plan->next);

    for (size_t i = 0; i < 2 && is_other; i++) {
        plan->told[i] = stage_remake(plan->next, plan->next->source);
        if (plan->told[i] == NULL)
            return -EINVAL;
    }
    return make_again(plan);
}

/* 0 or a negative errno, logged. */
static int prepare_stages(struct plan *plan)
{
    plan->goes = only_sink(plan->running, plan->next);
    plan->comes = plan->goes != NULL ? only_sink(plan->next, plan->running) : NULL;
    plan->goes = plan->comes != NULL ? plan->goes : NULL;
    return make_told(plan);
}

struct plan *plan_make(struct pipeline *running)
{
    struct plan *plan = calloc(1, sizeof *plan);
    int error = -ENOMEM;

    if (plan == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    plan->running = running;
    plan->next = pipeline_load_beside(running);
    if (plan->next != NULL)
        error = prepare_stages(plan);
    else if (errno > 0)
        error = -errno;
    if (error == 0)
        return plan;
    plan_free(plan);
    errno = -error;
    return NULL;
}

struct pipeline *plan_next(const struct plan *plan)
{
    return plan->next;
}

/* -------------------------------------------------------------------------------------------------------------- doing */

struct doing {
    struct plan *plan;
    struct pipeline *running, *next;
    struct stage *were[PIPELINE_MAX_STAGES + 1]; /* stages of `running`, and a source that was there in between, */
    size_t were_count;
    struct stage *transforms[PIPELINE_MAX_STAGES]; /* and of these the transforms */
    size_t transform_count;
    struct stage *joining[PIPELINE_MAX_STAGES]; /* sinks that have no counterpart */
    size_t join_count;
    bool is_paused, has_joined, is_swapped; /* the lane; these sinks; the transforms */
    int64_t until;
};

static void close_new(const struct pipeline *next)
{
    for (size_t i = 0; i < next->stage_count; i++) {
        if (next->stages[i]->is_new)
            stage_close(next->stages[i]);
    }
}

/* The new ones but those that are opened in another's place; after an error none is open. */
static int open_new(const struct doing *doing)
{
    int error = 0;

    for (size_t i = 0; i < doing->next->stage_count && error == 0; i++) {
        if (doing->next->stages[i]->is_new && doing->plan->again[i] == NULL)
            error = stage_open(doing->next->stages[i]);
    }
    if (error != 0)
        close_new(doing->next);
    return error;
}

static int swap_transforms(struct doing *doing)
{
    const struct pipeline *next = doing->next;
    bool is_same = next->transform_count == doing->transform_count &&
                   memcmp(next->transforms, doing->transforms, doing->transform_count * sizeof *doing->transforms) == 0;
    int error = is_same ? 0 : change_transforms(doing->running, next->transforms, next->transform_count, doing->until);

    doing->is_swapped = !is_same && error == 0;
    return error;
}

static struct stage *again_for(const struct doing *doing, const struct stage *stage)
{
    for (size_t i = 0; i < doing->next->stage_count; i++) {
        if (doing->next->stages[i] == stage)
            return doing->plan->again[i];
    }
    return NULL;
}

/* Back to what it was, but for what could not be opened again as it was. */
static void undo(struct doing *doing)
{
    if (doing->is_swapped)
        change_transforms(doing->running, doing->transforms, doing->transform_count, clock_now() + FMS_SECOND);
    for (size_t i = 0; i < doing->join_count && doing->has_joined; i++)
        change_remove_sink(doing->running, doing->joining[i], 0);
}

/* What waits for others, before what cannot fail but for want of its far end. */
static int prepare(struct doing *doing)
{
    struct pipeline *running = doing->running;
    int error;

    doing->is_paused = doing->next->source->is_new;
    if (doing->is_paused && !change_pause(running))
        return -ECANCELED;
    error = change_layout(running, doing->joining, doing->join_count, doing->until);
    doing->has_joined = error == 0;
    if (error == 0)
        error = swap_transforms(doing);
    if (error == -ETIMEDOUT)
        log_line(FMS_LOG_ERROR, running->options.name, NULL,
                 "it goes on as it was: within drain_timeout = %.1f s transforms have not passed on what they kept, or"
                 " records are in flight from before it was changed last",
                 (double)running->options.drain_timeout / (double)FMS_SECOND);
    return error;
}

/* A lane that has paused goes on, with this source or with the one that it had, opened anew. */
static int change_or_reopen(struct doing *doing, int error)
{
    struct stage *again = again_for(doing, doing->next->source);
    int failure;

    if (!doing->is_paused || error == -ECANCELED)
        return error;
    failure = error == 0 ? change_source(doing->running, doing->next->source, again)
                         : change_source(doing->running, again, doing->next->source);
    return error != 0 ? error : failure;
}

static int change_sinks(struct doing *doing)
{
    int error = 0;

    for (size_t i = 0; i < pipeline_slots(doing->next); i++) {
        struct stage *sink = doing->next->sinks[i], *old = old_of(doing->plan, sink);

        if (!sink->is_new) /* it stays, or has joined */
            continue;
        if (change_sink(doing->running, old, sink, again_for(doing, sink),
                        clock_now() + doing->running->options.drain_timeout) != 0)
            error = -EIO;
    }
    return error;
}

static bool stands_still(struct pipeline *running)
{
    bool stands;

    lane_take(running);
    stands = running->stands_still;
    lane_give(running);
    return stands;
}

/* When sinks have changed, or have not opened and are as they were: until then the source waits for what it need not wait for, or
 * need not wait for what it waits for. */
static int tell_source(struct doing *doing)
{
    struct pipeline *running = doing->running;
    struct stage *old = running->source, **told = doing->plan->told;
    int error;

    if (told[0] == NULL || (!stands_still(running) && was_told(old, running)))
        return 0;
    if (!change_pause(running))
        return -ECANCELED;
    told[0]->host.durable_sinks = told[1]->host.durable_sinks = pipeline_is_durable(running);
    told[0]->host.identities = told[1]->host.identities = pipeline_asks_who(running);
    error = change_source(running, told[0], told[1]);
    told[running->source == told[0] ? 0 : 1] = NULL;
    if (!stage_is_among(old, doing->were, doing->were_count))
        doing->were[doing->were_count++] = old;
    for (size_t i = 0; i < doing->next->stage_count; i++) {
        if (doing->next->stages[i] == old)
            doing->next->stages[i] = running->source;
    }
    return error;
}

static void remove_sinks(struct doing *doing)
{
    for (size_t i = 0; i < doing->were_count; i++) {
        struct stage *sink = doing->were[i];
        size_t left;

        if ((sink->host.role != FMS_SINK && sink->host.role != FMS_DEAD_LETTER) || new_of(doing->plan, sink) != NULL)
            continue;
        left = change_remove_sink(doing->running, sink, clock_now() + doing->running->options.drain_timeout);
        if (left > 0)
            log_line(FMS_LOG_WARN, doing->running->options.name, sink->name,
                     "it has gone, and with it %zu records that it had not delivered within drain_timeout", left);
    }
}

/* From now on the stage's section is that of a file which says the same of it. */
static void take_section(struct stage *stage, struct config *config)
{
    for (size_t i = 0; i < config->count; i++) {
        const struct config_section *section = &config->sections[i];

        if (strcmp(section->kind, stage->section->kind) != 0 || strcmp(section->name, stage->section->name) != 0 ||
            !config_is_same(section, stage->section))
            continue;
        config_free(stage->config);
        stage->config = config_hold(config);
        stage->section = section;
        return;
    }
}

/* The running pipeline is what the file says, but for what did not open and is as it was: it keeps what it was made of. */
static void adopt(struct doing *doing)
{
    struct pipeline *running = doing->running;
    struct config *config = running->config;

    for (size_t i = 0; i < running->stage_count; i++)
        take_section(running->stages[i], doing->next->config);
    running->config = doing->next->config;
    doing->next->config = config;
}

static void forget_gone(struct doing *doing)
{
    for (size_t i = 0; i < PIPELINE_MAX_STAGES; i++) {
        if (doing->plan->again[i] != NULL &&
            stage_is_among(doing->plan->again[i], doing->running->stages, doing->running->stage_count))
            doing->plan->again[i] = NULL;
    }
    for (size_t i = 0; i < doing->were_count; i++) {
        if (stage_is_among(doing->were[i], doing->running->stages, doing->running->stage_count))
            continue;
        stage_close(doing->were[i]);
        stage_free(doing->were[i]);
    }
}

static int apply(struct doing *doing)
{
    int error = open_new(doing), told;

    if (error != 0)
        return error;
    error = change_or_reopen(doing, prepare(doing));
    if (error != 0) {
        undo(doing);
        close_new(doing->next);
        return error;
    }
    change_options(doing->running, doing->next); /* on_reject, too, before there are no dead letters */
    error = change_sinks(doing);
    remove_sinks(doing);
    told = tell_source(doing);
    adopt(doing);
    return error != 0 ? error : told;
}

int plan_apply(struct plan *plan)
{
    struct doing doing = {.plan = plan, .running = plan->running, .next = plan->next};
    struct pipeline *running = plan->running;
    int error = -ECANCELED;

    pthread_mutex_lock(&running->stages_lock);
    doing.were_count = running->stage_count;
    memcpy(doing.were, running->stages, sizeof doing.were);
    doing.transform_count = running->transform_count;
    memcpy(doing.transforms, running->transforms, sizeof doing.transforms);
    for (size_t i = 0; i < pipeline_slots(plan->next); i++) {
        if (old_of(plan, plan->next->sinks[i]) == NULL)
            doing.joining[doing.join_count++] = plan->next->sinks[i];
    }
    doing.until = clock_now() + running->options.drain_timeout;
    if (!change_is_late(running))
        error = apply(&doing);
    if (error == -ECANCELED)
        log_line(FMS_LOG_ERROR, running->options.name, NULL,
                 "it has ended, or is about to, and is not changed any more");
    forget_gone(&doing);
    pthread_mutex_unlock(&running->stages_lock);
    return error;
}
