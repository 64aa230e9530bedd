/* health.c - see health.h.
 *
 * What is said of a stage is said once, as `why` behind its name; the sentence about the pipeline is made of that. Only sinks and
 * dead letters are asked how old is what they hold: a transform may keep records for minutes, and means it. It counts once it keeps
 * so many that nothing moves any more. */
#include "health.h"

#include <stdio.h>
#include <time.h>

/* A pipeline at a moment. */
struct moment {
    struct observed *now;
    const struct observed *before; /* NULL: there is none */
    int64_t at, realtime;
};

/* ------------------------------------------------------------------------------------------------------------ words */

struct words {
    char text[64];
};

/* Appends to a text of `size` bytes, as far as there is room. */
static void say(char *to, size_t size, const char *format, ...) FMS_PRINTF(3, 4);
static void say(char *to, size_t size, const char *format, ...)
{
    size_t used = strlen(to);
    va_list args;

    va_start(args, format);
    vsnprintf(to + used, size - used, format, args);
    va_end(args);
}

static struct words number(uint64_t n)
{
    struct words words = {""};

    if (n < 1000) {
        snprintf(words.text, sizeof words.text, "%u", (unsigned)n);
        return words;
    }
    words = number(n / 1000);
    say(words.text, sizeof words.text, ",%03u", (unsigned)(n % 1000));
    return words;
}

static struct words rate(double a_second)
{
    struct words words = {""};

    if (a_second >= 10 || a_second < 0.05)
        return number((uint64_t)(a_second + 0.5));
    snprintf(words.text, sizeof words.text, "%.1f", a_second);
    return words;
}

static struct words records(uint64_t n)
{
    struct words words = number(n);

    say(words.text, sizeof words.text, " record%s", n == 1 ? "" : "s");
    return words;
}

static struct words duration(int64_t nanoseconds)
{
    struct words words = {""};
    long long seconds = nanoseconds / FMS_SECOND;

    if (nanoseconds < FMS_SECOND)
        snprintf(words.text, sizeof words.text, "%lld ms", (long long)(nanoseconds > 0 ? nanoseconds / FMS_MS : 0));
    else if (seconds < 10)
        snprintf(words.text, sizeof words.text, "%.1f s", (double)nanoseconds / (double)FMS_SECOND);
    else if (seconds < 120)
        snprintf(words.text, sizeof words.text, "%lld s", seconds);
    else if (seconds < 2 * 3600)
        snprintf(words.text, sizeof words.text, "%lld min", seconds / 60);
    else if (seconds < 2 * 86400)
        snprintf(words.text, sizeof words.text, "%lld h", seconds / 3600);
    else
        snprintf(words.text, sizeof words.text, "%lld days", seconds / 86400);
    return words;
}

/* The time of day, in UTC as logs have it; with the date where that was another day. */
static struct words time_of(const struct moment *of, int64_t then)
{
    time_t seconds = (time_t)((of->realtime - (of->at - then)) / FMS_SECOND), now = (time_t)(of->realtime / FMS_SECOND);
    struct words words = {""};
    struct tm day, today;

    if (gmtime_r(&seconds, &day) == NULL || gmtime_r(&now, &today) == NULL)
        return words;
    strftime(words.text, sizeof words.text,
             day.tm_year == today.tm_year && day.tm_yday == today.tm_yday ? "%H:%M:%S UTC" : "%Y-%m-%d %H:%M:%S UTC",
             &day);
    return words;
}

/* ----------------------------------------------------------------------------------------------------------- stages */

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool holds_by_order(const struct stage_view *stage)
{
    return (stage->role & (FMS_SINK | FMS_DEAD_LETTER)) != 0 && stage->oldest_at != 0;
}

static bool is_late(const struct moment *of, int64_t since)
{
    return of->at - since > of->now->view.stall_after;
}

static int64_t link_since(const struct moment *of, const struct stage_view *stage)
{
    return stage->link.since != 0 ? stage->link.since : of->now->view.started_at;
}

static bool lacks_link(const struct stage_view *stage)
{
    return stage->has_link && !stage->link.is_up;
}

static bool is_unlinked(const struct stage_view *stage)
{
    return lacks_link(stage) && !stage->is_dead;
}

static bool has_begun(const struct moment *of)
{
    return of->now->answered_at != 0 || of->now->view.started_at != 0;
}

/* When its lane answered last, or began. */
static int64_t answered_at(const struct moment *of)
{
    return latest(of->now->answered_at, of->now->view.started_at);
}

/* Of a view for which there was no memory: one that does nothing. */
static const struct stage_view *source_of(const struct pipeline_view *view)
{
    static const struct stage_view none;

    return view->stage_count > 0 ? &view->stages[0] : &none;
}

/* Since when the oldest of what it holds is the same: a sink that confirms others, and never that one, moves nothing. */
static void note_oldest(const struct moment *of, size_t i)
{
    const struct observed *before = of->before;
    const struct stage_view *stage = &of->now->view.stages[i];
    size_t was = before != NULL ? stage_before(&before->view, stage, i) : 0;
    bool is_same = before != NULL && was < before->view.stage_count &&
                   before->view.stages[was].oldest_at == stage->oldest_at &&
                   before->view.stages[was].oldest_number == stage->oldest_number;

    of->now->health.stages[i].moved_at = is_same ? before->health.stages[was].moved_at : of->at;
}

static bool confirms_nothing(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    return holds_by_order(stage) && is_late(of, stage->oldest_at) && is_late(of, stage->last_at);
}

static bool skips_its_oldest(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    return holds_by_order(stage) && is_late(of, stage->oldest_at) && is_late(of, of->now->health.stages[i].moved_at);
}

/* The source is held back, no sink has anything to confirm, and here is what fills the pipeline. */
static bool keeps_too_many(const struct moment *of, size_t i)
{
    const struct pipeline_view *view = &of->now->view;
    const struct stage_view *stage = &view->stages[i];

    if (stage->role != FMS_TRANSFORM || stage->oldest_at == 0 || !view->is_blocked || !is_late(of, stage->oldest_at))
        return false;
    for (size_t k = 0; k < view->stage_count; k++) {
        if (holds_by_order(&view->stages[k]) ||
            !is_late(of, view->stages[k].role == FMS_SINK ? view->stages[k].last_at : 0))
            return false;
    }
    return is_late(of, of->now->health.stages[i].moved_at);
}

/* Dead letters may be away while nothing is rejected. */
static bool is_long_unlinked(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    return is_unlinked(stage) && stage->role != FMS_DEAD_LETTER && is_late(of, link_since(of, stage));
}

static bool is_stalled(const struct moment *of, size_t i)
{
    return of->now->view.stages[i].is_dead || confirms_nothing(of, i) || skips_its_oldest(of, i) ||
           keeps_too_many(of, i) || is_long_unlinked(of, i);
}

static int64_t stalled_since(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    if (confirms_nothing(of, i) || keeps_too_many(of, i))
        return latest(stage->oldest_at, stage->last_at);
    if (skips_its_oldest(of, i))
        return stage->oldest_at;
    return lacks_link(stage) ? link_since(of, stage) : of->at;
}

/* Dead stages first, then those without their far end, then sinks by the age of what they hold, then transforms. */
static unsigned gravity(const struct stage_view *stage)
{
    if (stage->is_dead)
        return 4;
    if (is_unlinked(stage))
        return 3;
    return stage->oldest_at == 0 ? 0 : holds_by_order(stage) ? 2 : 1;
}

static bool is_graver(const struct stage_view *a, const struct stage_view *b)
{
    if (gravity(a) != gravity(b))
        return gravity(a) > gravity(b);
    return a->oldest_at != 0 && (b->oldest_at == 0 || a->oldest_at < b->oldest_at);
}

/* The gravest of those for which `is_one` holds, or -1. */
static int gravest(const struct moment *of, bool (*is_one)(const struct moment *, size_t))
{
    const struct stage_view *stages = of->now->view.stages;
    int found = -1;

    for (size_t i = 0; i < of->now->view.stage_count; i++) {
        if (is_one(of, i) && (found < 0 || is_graver(&stages[i], &stages[found])))
            found = (int)i;
    }
    return found;
}

static bool is_starting(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    return is_unlinked(stage) && !stage->link.was_up && stage->role != FMS_DEAD_LETTER;
}

static bool is_away(const struct moment *of, size_t i)
{
    return is_unlinked(&of->now->view.stages[i]) && of->now->view.stages[i].role != FMS_DEAD_LETTER;
}

/* A source that has ended is no hindrance to what drains. */
static bool hinders(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];

    return gravity(stage) > 0 && (stage->role != FMS_SOURCE || of->now->view.state == PIPELINE_RUNNING);
}

static bool has_failed(const struct moment *of, size_t i)
{
    return of->now->view.stages[i].is_dead;
}

static bool is_unready(const struct moment *of, size_t i)
{
    return !of->now->health.stages[i].is_ready;
}

/* -------------------------------------------------------------------------------------------------------------- why */

static void tell_held(const struct moment *of, const struct stage_view *stage, size_t i, char *why, size_t size)
{
    if (skips_its_oldest(of, i) && !confirms_nothing(of, i))
        say(why, size, "has not confirmed its oldest record since %s, though later ones, and holds %s",
            time_of(of, stage->oldest_at).text, records(stage->held).text);
    else if (stage->last_at != 0)
        say(why, size, "has confirmed nothing since %s and holds %s", time_of(of, stage->last_at).text,
            records(stage->held).text);
    else
        say(why, size, "has confirmed nothing yet and holds %s", records(stage->held).text);
    if (is_unlinked(stage))
        say(why, size, ": not connected: %s", stage->link.why);
    else if (stage->is_retrying)
        say(why, size, ": it could not deliver, and is offered them again");
    else if (stage->is_full && stage->taken == 0)
        say(why, size, ": it takes none of them; the log says why");
}

static void tell_link(const struct moment *of, const struct stage_view *stage, char *why, size_t size)
{
    if (stage->link.was_up)
        say(why, size, "is not connected since %s", time_of(of, link_since(of, stage)).text);
    else
        say(why, size, "has not connected yet");
    if (*stage->link.why != '\0')
        say(why, size, ": %s", stage->link.why);
}

/* Its link may know why. */
static void tell_dead(const struct moment *of, const struct stage_view *stage, char *why, size_t size)
{
    if (lacks_link(stage) && *stage->link.why != '\0')
        tell_link(of, stage, why, size);
    else
        say(why, size, "has failed, or has finished");
}

static void judge_stage(const struct moment *of, size_t i)
{
    const struct stage_view *stage = &of->now->view.stages[i];
    struct stage_health *health = &of->now->health.stages[i];
    char *why = health->why;
    size_t size = sizeof health->why;

    *why = '\0';
    if (!of->now->health.is_live)
        say(why, size, "stands still: the lane of its pipeline has not answered since %s",
            time_of(of, answered_at(of)).text);
    else if (stage->is_dead)
        tell_dead(of, stage, why, size);
    else if (confirms_nothing(of, i) || skips_its_oldest(of, i))
        tell_held(of, stage, i, why, size);
    else if (keeps_too_many(of, i))
        say(why, size, "keeps %s, the oldest for %s, and nothing else moves", records(stage->held).text,
            duration(of->at - stage->oldest_at).text);
    else if (is_unlinked(stage))
        tell_link(of, stage, why, size);
    else if (holds_by_order(stage) && is_late(of, stage->oldest_at))
        say(why, size, "confirms what is %s old, and stall_after is %s", duration(of->at - stage->oldest_at).text,
            duration(of->now->view.stall_after).text);
    health->is_ready = *why == '\0';
}

/* --------------------------------------------------------------------------------------------------------- verdicts */

/* Before its first turn and after its last one nobody need answer. */
static bool is_live(const struct moment *of)
{
    if (of->now->has_answered || of->now->view.state == PIPELINE_ENDED || !has_begun(of))
        return true;
    return of->at - answered_at(of) <= HEALTH_PATIENCE;
}

/* For half of the time since the last look: a moment says little, for a full pipeline moves in strides. */
static bool is_full(const struct moment *of)
{
    const struct pipeline_view *view = &of->now->view;
    int64_t passed = of->before != NULL ? view->shown_at - of->before->view.shown_at : 0;

    return passed > 0 ? (view->blocked - of->before->view.blocked) * 2 >= passed : view->is_blocked;
}

static int64_t came_at(const struct moment *of)
{
    const struct pipeline_view *view = &of->now->view;
    int64_t last_at = source_of(view)->last_at;

    return last_at != 0 ? last_at : view->started_at;
}

static bool holds(const struct moment *of, size_t i)
{
    return holds_by_order(&of->now->view.stages[i]);
}

/* At once where the source is not connected: nothing can come. */
static bool is_idle(const struct moment *of)
{
    bool is_quiet = is_unlinked(source_of(&of->now->view)) || of->at - came_at(of) >= HEALTH_IDLE;

    return is_quiet && gravest(of, holds) < 0;
}

static enum verdict decide(const struct moment *of, int *held_by)
{
    const struct pipeline_view *view = &of->now->view;

    *held_by = -1;
    if (view->has_failed)
        return *held_by = gravest(of, has_failed), VERDICT_FAILED;
    if (view->state == PIPELINE_ENDED)
        return VERDICT_STOPPED;
    if (!of->now->health.is_live)
        return VERDICT_STUCK;
    if (!has_begun(of))
        return VERDICT_STARTING;
    if (view->stands_still && (*held_by = gravest(of, has_failed)) >= 0)
        return VERDICT_STUCK;
    if (view->state != PIPELINE_RUNNING)
        return *held_by = gravest(of, hinders), VERDICT_DRAINING;
    if ((*held_by = gravest(of, is_stalled)) >= 0)
        return VERDICT_STUCK;
    if ((*held_by = gravest(of, is_starting)) >= 0)
        return VERDICT_STARTING;
    if (is_full(of))
        return *held_by = gravest(of, hinders), VERDICT_FULL;
    *held_by = gravest(of, is_away);
    return is_idle(of) ? VERDICT_IDLE : VERDICT_FLOWING;
}

static int64_t verdict_since(const struct moment *of)
{
    const struct health *health = &of->now->health;

    if (health->verdict == VERDICT_STUCK)
        return health->held_by < 0 ? answered_at(of) : stalled_since(of, (size_t)health->held_by);
    return of->before != NULL && of->before->health.verdict == health->verdict ? of->before->health.since : of->at;
}

/* -------------------------------------------------------------------------------------------------------- sentences */

static void say_flow(const struct moment *of, char *to, size_t size)
{
    const struct observed *now = of->now;

    say(to, size, "%s/s in, %s/s confirmed, ", rate(now->received_rate).text, rate(now->delivered_rate).text);
    if (now->rejected_rate > 0)
        say(to, size, "%s/s rejected, ", rate(now->rejected_rate).text);
    if (now->view.oldest_at != 0)
        say(to, size, "oldest unconfirmed %s", duration(of->at - now->view.oldest_at).text);
    else
        say(to, size, "nothing unconfirmed");
}

static void say_full(const struct moment *of, char *to, size_t size)
{
    const struct pipeline_view *view = &of->now->view;
    int by = of->now->health.held_by;

    say(to, size, "Full: the source is held back");
    if (by >= 0)
        say(to, size, ", %s holds %s", view->stages[by].name, records(view->stages[by].held).text);
    say(to, size, "; ");
    say_flow(of, to, size);
}

static void say_idle(const struct moment *of, char *to, size_t size)
{
    const struct pipeline_view *view = &of->now->view;
    bool is_held = false;

    if (source_of(view)->last_at != 0)
        say(to, size, "Idle: nothing has come for %s", duration(of->at - came_at(of)).text);
    else
        say(to, size, "Idle: nothing has come yet");
    for (size_t i = 0; i < view->stage_count; i++) {
        if (view->stages[i].held > 0)
            say(to, size, ", %s keeps %s", view->stages[i].name, records(view->stages[i].held).text);
        is_held = is_held || view->stages[i].held > 0;
    }
    if (!is_held)
        say(to, size, ", nothing is held");
}

static void say_draining(const struct moment *of, char *to, size_t size)
{
    const struct pipeline_view *view = &of->now->view;
    int by = of->now->health.held_by;

    if (view->in_flight == 0) {
        say(to, size, "Draining: everything is confirmed");
        return;
    }
    say(to, size, "Draining: %s still unconfirmed", records(view->in_flight).text);
    if (view->oldest_at != 0)
        say(to, size, ", the oldest for %s", duration(of->at - view->oldest_at).text);
    if (by >= 0)
        say(to, size, "; %s holds %s", view->stages[by].name, records(view->stages[by].held).text);
}

static void say_ended(const struct moment *of, const char *verdict, size_t left, char *to, size_t size)
{
    int by = of->now->health.held_by;

    say(to, size, "%s: ", verdict);
    if (by >= 0)
        say(to, size, "%s has failed, ", of->now->view.stages[by].name);
    if (left > 0)
        say(to, size, "%s left unconfirmed", records(left).text);
    else
        say(to, size, "nothing is left unconfirmed");
}

static void say_stuck(const struct moment *of, char *to, size_t size)
{
    const struct health *health = &of->now->health;

    say(to, size, "STUCK for %s: ", duration(of->at - health->since).text);
    if (health->held_by < 0)
        say(to, size, "the lane has not answered since %s; the log names the call that holds it",
            time_of(of, health->since).text);
    else
        say(to, size, "%s %s", of->now->view.stages[health->held_by].name, health->stages[health->held_by].why);
}

/* Another stage that is not ready is named, too. */
static void say_more(const struct moment *of, char *to, size_t size)
{
    int other = gravest(of, is_unready);

    if (other >= 0)
        say(to, size, "; %s %s", of->now->view.stages[other].name, of->now->health.stages[other].why);
}

static void phrase(const struct moment *of)
{
    struct health *health = &of->now->health;
    const struct pipeline_view *view = &of->now->view;
    char *to = health->sentence;
    size_t size = sizeof health->sentence;

    *to = '\0';
    switch (health->verdict) {
    case VERDICT_STARTING:
        if (health->held_by < 0)
            say(to, size, "Starting: its stages are being opened");
        else
            say(to, size, "Starting: %s %s", view->stages[health->held_by].name, health->stages[health->held_by].why);
        break;
    case VERDICT_FLOWING:
        say(to, size, "Flowing: ");
        say_flow(of, to, size);
        say_more(of, to, size);
        break;
    case VERDICT_IDLE:
        say_idle(of, to, size);
        say_more(of, to, size);
        break;
    case VERDICT_FULL:
        say_full(of, to, size);
        say_more(of, to, size);
        break;
    case VERDICT_STUCK:
        say_stuck(of, to, size);
        break;
    case VERDICT_DRAINING:
        say_draining(of, to, size);
        break;
    case VERDICT_STOPPED:
        say_ended(of, "Stopped", view->left, to, size);
        break;
    case VERDICT_FAILED:
        say_ended(of, "FAILED", view->state == PIPELINE_ENDED ? view->left : view->in_flight, to, size);
        break;
    }
}

void health_judge(struct observed *now, const struct observed *before, int64_t at, int64_t realtime)
{
    const struct moment of = {now, before, at, realtime};
    struct health *health = &now->health;

    health->is_live = is_live(&of);
    for (size_t i = 0; i < now->view.stage_count; i++)
        note_oldest(&of, i);
    for (size_t i = 0; i < now->view.stage_count; i++)
        judge_stage(&of, i);
    health->is_ready = health->is_live && now->view.state == PIPELINE_RUNNING && !now->view.has_failed &&
                       has_begun(&of) && gravest(&of, is_unready) < 0;
    health->verdict = decide(&of, &health->held_by);
    health->since = verdict_since(&of);
    phrase(&of);
}

/* With the process all of them end, and then it is ready for nothing. */
bool health_is_past(const struct observation *all, size_t i)
{
    const struct pipeline_view *view = &all->pipelines[i].view;
    bool others_run = false;

    for (size_t k = 0; k < all->count; k++)
        others_run = others_run || all->pipelines[k].view.state != PIPELINE_ENDED;
    if (view->is_going)
        return true;
    return others_run && view->state == PIPELINE_ENDED && !view->has_failed && (view->left == 0 || view->is_finished);
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {
        [VERDICT_STARTING] = "starting", [VERDICT_FLOWING] = "flowing", [VERDICT_IDLE] = "idle",
        [VERDICT_FULL] = "full",         [VERDICT_STUCK] = "stuck",     [VERDICT_DRAINING] = "draining",
        [VERDICT_STOPPED] = "stopped",   [VERDICT_FAILED] = "failed",
    };

    return names[verdict];
}
