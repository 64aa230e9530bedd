/* lane.c - the loop of a pipeline: one thread that polls the source, offers to the sinks and sleeps in one poll().
 *
 * Everything happens inline on it, without a queue between wire and wire. It gives its lock up only to sleep; a library
 * with threads of its own takes it meanwhile (fms_enter) and does the same work on its own thread. */
#include "lane.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "call.h"
#include "clock.h"
#include "log.h"
#include "measure.h"
#include "meter.h"
#include "settle.h"
#include "snapshot.h"
#include "tap.h"
#include "watch.h"

#define STALL_LOOKS  4 /* in the time after which a stall is told of */
#define RELEASE_TICK (10 * FMS_MS)

/* ------------------------------------------------------------------------------------------------------------ polls */

static bool stage_is_due(const struct stage *stage, int64_t now)
{
    return !stage->was_polled || stage->is_ready || stage->is_woken || stage->wait.deadline <= now;
}

/* A sink that takes records and forgets to settle them, or a transform that keeps them and waits for nothing, goes unseen
 * otherwise until the pipeline ends. */
static bool may_stall(const struct stage *stage)
{
    return stage->queue.taken > 0 && !stage->has_moved && !stage->is_dead &&
           (stage->host.role != FMS_TRANSFORM || (stage->wait.deadline == FMS_NEVER && stage->wait.fd < 0));
}

static void look_for_stalls(struct pipeline *pipeline, int64_t now)
{
    if (now < pipeline->stalls_at || clock_is_set())
        return;
    pipeline->stalls_at = now + pipeline->options.stall_after / STALL_LOOKS;
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        if (!may_stall(stage)) {
            stage->has_moved = false;
            stage->stalled_since = now;
        } else if (now - stage->stalled_since >= pipeline->options.stall_after) {
            log_line(
                FMS_LOG_WARN, pipeline->options.name, stage->name,
                "has %s %zu records and has settled none of them for %.0f s: either it waits for its far end, or plugin"
                " %s has forgotten them",
                stage->host.role == FMS_TRANSFORM ? "kept" : "taken", stage->queue.taken,
                (double)(now - stage->stalled_since) / (double)FMS_SECOND, stage->plugin->table.name);
        }
    }
}

static void poll_stages(struct pipeline *pipeline)
{
    int64_t now = clock_now();

    look_for_stalls(pipeline, now);
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        if (stage != pipeline->source && !stage->is_closing && stage_is_due(stage, now))
            stage_poll(stage);
    }
}

/* Room at the low watermark ends a blockade: an eighth below the bound, so that a full pipeline moves in strides. */
static bool has_low_water(const struct pipeline *pipeline)
{
    size_t most = (size_t)pipeline->options.max_in_flight, bytes = (size_t)pipeline->options.max_in_flight_bytes;
    size_t stride = most / 8 > 0 ? most / 8 : 1;
    size_t needed = pipeline->blocked_for > bytes / 8 ? pipeline->blocked_for : bytes / 8;

    return pipeline->in_flight == 0 || (pipeline->in_flight + stride <= most && pipeline->records.bytes <= bytes &&
                                        bytes - pipeline->records.bytes >= needed);
}

/* Whether a record waits in a transform: what room there is is for its children. */
static bool has_waiting(const struct pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->transform_count; i++) {
        if (pipeline->transforms[i]->family.waiting.head != NULL)
            return true;
    }
    return false;
}

static size_t lane_credit(struct pipeline *pipeline)
{
    size_t most = (size_t)pipeline->options.max_in_flight, room;

    if (pipeline->is_blocked && has_low_water(pipeline) && !has_waiting(pipeline) && !pipeline->is_held) {
        pipeline_block(pipeline, false);
        pipeline->blocked_for = 0;
        pipeline->source->is_woken = true;
    }
    if (pipeline->is_blocked || pipeline->is_held || pipeline->state != PIPELINE_RUNNING)
        return 0;
    room = pipeline->in_flight < most ? most - pipeline->in_flight : 0; /* a bound may have been lowered */
    if (room == 0)
        pipeline_block(pipeline, true);
    return room < PIPELINE_BATCH ? room : PIPELINE_BATCH;
}

/* It returned FMS_END, or it failed. */
static bool source_is_over(const struct pipeline *pipeline)
{
    return pipeline->source->has_ended || pipeline->source->is_dead;
}

/* An exhausted credit is not an end of input: the source is due again, without a wait, if it has used all of it. */
static void poll_source(struct pipeline *pipeline)
{
    struct stage *source = pipeline->source;
    size_t credit = lane_credit(pipeline);
    uint64_t emitted = pipeline->counts.emitted;
    int result;

    if (source_is_over(pipeline) || pipeline->state > PIPELINE_STOPPING || !stage_is_due(source, clock_now()))
        return;
    stage_will_wait(source);
    pipeline->in_source = true;
    pipeline->is_refused = false;
    call_begin(source, CALL_POLL);
    result = source->plugin->table.source_poll(source->instance, credit, &source->wait);
    call_end(pipeline, NULL);
    pipeline->in_source = false;
    meter_lap(pipeline, source);
    emitted = pipeline->counts.emitted - emitted;
    if (emitted > credit && pipeline->state == PIPELINE_RUNNING)
        rule_broken(source, "emitted %llu records in a source_poll with a credit of %zu", (unsigned long long)emitted,
                    credit);
    if (result < 0)
        stage_fail(source, "source_poll", result);
    else if (result == FMS_END)
        source->has_ended = true;
    else if (result > 0)
        rule_broken(source, "returned %d from source_poll: 0, FMS_END or a negative errno is expected", result);
    else if (credit > 0 && emitted >= credit)
        source->wait.deadline = 0;
}

/* ----------------------------------------------------------------------------------------------------------- ending */

static void log_counts(const struct pipeline *pipeline, enum fms_level level, const char *what)
{
    const struct pipeline_counts *counts = &pipeline->counts;

    log_line(level, pipeline->options.name, NULL,
             "%s: %llu received, %llu delivered, %llu rejected (%llu to dead letters, %llu dropped), %llu retries, "
             "%zu in flight",
             what, (unsigned long long)counts->emitted, (unsigned long long)counts->delivered,
             (unsigned long long)counts->rejected, (unsigned long long)counts->dead_letters,
             (unsigned long long)counts->dropped, (unsigned long long)counts->retried, pipeline->in_flight);
}

/* Once for all when the source has ended. Before, while it was told to stop, each time that something is kept: it may end only
 * when it knows the fates of its records. */
static bool must_flush(const struct stage *transform)
{
    if (transform->pipeline->state == PIPELINE_DRAINING)
        return !transform->has_ended;
    return transform->queue.taken > 0 && !transform->is_dead && transform->plugin->table.transform_flush != NULL;
}

/* None of those at which, or before which, records wait: these are still to come. */
static void flush_transforms(struct pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->transform_count && pipeline->transforms[i]->family.waiting.head == NULL; i++) {
        struct stage *transform = pipeline->transforms[i];

        if (!must_flush(transform))
            continue;
        transform->has_ended = pipeline->state == PIPELINE_DRAINING;
        if (transform->plugin->table.transform_flush != NULL) {
            call_begin(transform, CALL_STOP);
            transform->plugin->table.transform_flush(transform->instance);
            call_end(pipeline, NULL);
            meter_lap(pipeline, transform);
        }
        if (transform->queue.taken > 0) {
            rule_broken(transform, "still keeps %zu records after transform_flush", transform->queue.taken);
            transform->is_dead = true;
        }
    }
}

static void bound_drain(struct pipeline *pipeline)
{
    if (pipeline->drain_until == FMS_NEVER)
        pipeline->drain_until = clock_now() + pipeline->options.drain_timeout;
}

static bool is_late(const struct pipeline *pipeline)
{
    return pipeline->drain_until != FMS_NEVER && clock_now() >= pipeline->drain_until;
}

static void begin_drain(struct pipeline *pipeline)
{
    pipeline_block(pipeline, false);
    pipeline->state = PIPELINE_DRAINING;
}

static void begin_stop(struct pipeline *pipeline)
{
    struct stage *source = pipeline->source;

    bound_drain(pipeline);
    if (pipeline->state != PIPELINE_RUNNING)
        return;
    if (source_is_over(pipeline) || source->plugin->table.source_stop == NULL) {
        begin_drain(pipeline);
        return;
    }
    pipeline->state = PIPELINE_STOPPING;
    call_begin(source, CALL_STOP);
    source->plugin->table.source_stop(source->instance);
    call_end(pipeline, NULL);
    meter_lap(pipeline, source);
    source->is_woken = true;
}

static void check_requests(struct pipeline *pipeline)
{
    pipeline->is_finished = pipeline->must_finish;
    for (size_t i = 0; pipeline->is_finished && i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        stage->is_dead = stage->is_dead || (stage->has_finished && stage != pipeline->source);
    }
    pipeline->has_failed = pipeline->must_fail;
    if (pipeline->is_finished || pipeline->has_failed || pipeline->must_stop ||
        ((pipeline->is_pausing || pipeline->stands_still) && !pipeline->is_paused))
        begin_stop(pipeline);
}

/* Says who has not done what drain_timeout was for. */
static void name_the_late(struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);
    double timeout = (double)pipeline->options.drain_timeout / (double)FMS_SECOND;

    if (!source_is_over(pipeline) && pipeline->source->plugin->table.source_stop != NULL)
        log_line(FMS_LOG_WARN, pipeline->options.name, pipeline->source->name,
                 "it did not end within drain_timeout = %.1f s; it is closed as it is", timeout);
    for (size_t i = 0; i < slots; i++) {
        const struct stage *sink = pipeline->sinks[i];

        if (sink->queue.head == NULL || sink->is_dead)
            continue;
        if (sink->queue.taken > 0)
            log_line(
                FMS_LOG_WARN, pipeline->options.name, sink->name,
                "records are left undelivered after drain_timeout = %.1f s; of these it took and did not settle: %zu",
                timeout, sink->queue.taken);
        else
            log_line(FMS_LOG_WARN, pipeline->options.name, sink->name,
                     "records are left undelivered after drain_timeout = %.1f s; it took none of these", timeout);
    }
}

/* --------------------------------------------------------------------------------------------------------- the loop */

static void log_stats(struct pipeline *pipeline)
{
    int64_t now;

    if (pipeline->options.stats_interval == 0 || (now = clock_now()) < pipeline->stats_at)
        return;
    if (pipeline->stats_at != 0)
        log_counts(pipeline, FMS_LOG_INFO, "so far");
    pipeline->stats_at = now + pipeline->options.stats_interval;
}

/* Somebody looks. */
static void show(struct pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];
        const struct call *outer;

        if (stage->is_dead || stage->is_closing || stage->plugin->table.measure == NULL)
            continue;
        outer = call_begin(stage, CALL_MEASURE);
        stage->plugin->table.measure(stage->instance);
        call_end(pipeline, outer);
        meter_lap(pipeline, stage);
    }
    snapshot_take(pipeline);
}

/* Until nothing moves. */
static void deliver(struct pipeline *pipeline)
{
    do {
        settle_run(pipeline);
        settle_advance_waiting(pipeline);
        if (pipeline->state >= PIPELINE_STOPPING)
            flush_transforms(pipeline);
    } while (settle_offer(pipeline) || pipeline->has_settled || pipeline->done.head != NULL);
    if (snapshot_is_wanted(pipeline))
        show(pipeline);
}

/* Whether the source, which was told to stop, can only be waiting for fates that nobody decides any more: of records that
 * on_reject = stop left in flight, or that stand before a sink that has failed or finished. It has been polled since it was
 * told the last of the others, and has nothing left to send. */
static bool waits_in_vain(const struct pipeline *pipeline)
{
    const struct stage *source = pipeline->source;

    return pipeline->state == PIPELINE_STOPPING && pipeline->in_flight > 0 && !settle_is_pending(pipeline) &&
           !stage_is_due(source, clock_now()) && (source->wait.fd < 0 || (source->wait.events & POLLOUT) == 0);
}

static void lane_turn(struct pipeline *pipeline)
{
    check_requests(pipeline);
    poll_stages(pipeline);
    settle_run(pipeline); /* so that the source, polled once, both acknowledges and reads */
    poll_source(pipeline);
    if (source_is_over(pipeline) || (pipeline->state == PIPELINE_STOPPING && is_late(pipeline)))
        begin_drain(pipeline);
    deliver(pipeline);
    if (waits_in_vain(pipeline)) {
        begin_drain(pipeline);
        deliver(pipeline);
    }
    log_stats(pipeline);
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Within its own poll, that is in fms_drain, or after its end the source is not polled. */
static bool source_may_wait(const struct pipeline *pipeline)
{
    return !pipeline->in_source && !source_is_over(pipeline) && pipeline->state <= PIPELINE_STOPPING;
}

/* When the loop must go on even if no descriptor is ready. */
static int64_t next_deadline(struct pipeline *pipeline)
{
    int64_t next = pipeline->state >= PIPELINE_STOPPING ? pipeline->drain_until : FMS_NEVER;

    lane_credit(pipeline); /* a blockade may just have ended */
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        const struct stage *stage = pipeline->stages[i];

        if (stage == pipeline->source && !source_may_wait(pipeline))
            continue;
        if (stage->is_closing)
            continue;
        next = earliest(next, stage->is_woken ? 0 : stage->wait.deadline);
        if (stage->retry.is_due && stage->retry.at != 0 && !stage->is_dead && !stage->is_held)
            next = earliest(next, stage->retry.at);
    }
    if (pipeline->options.stats_interval != 0)
        next = earliest(next, pipeline->stats_at);
    if (!clock_is_set())
        next = earliest(next,
                        pipeline->stalls_at); /* always, so that a library's thread need not wake the lane for it */
    return next;
}

static size_t fill_polled(struct pipeline *pipeline, struct pollfd *fds, struct stage **polled)
{
    size_t n = 0;

    fds[n++] = (struct pollfd){pipeline->wake_fd, POLLIN, 0};
    for (size_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = pipeline->stages[i];

        if (stage->wait.fd < 0 || stage->is_dead || stage->is_closing ||
            (stage == pipeline->source && !source_may_wait(pipeline)))
            continue;
        polled[n] = stage;
        fds[n++] = (struct pollfd){stage->wait.fd, stage->wait.events, 0};
    }
    return n;
}

/* A new turn, in that call or in none. */
static void lane_begin(struct pipeline *pipeline, const struct call *calling)
{
    atomic_store_explicit(&pipeline->turns, atomic_load_explicit(&pipeline->turns, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    pipeline->is_tapped = atomic_load_explicit(&pipeline->taps, memory_order_relaxed) != 0;
    call_end(pipeline, calling);
    meter_wake(pipeline);
}

/* Behind who waits for it (lane_take), for a lane that hardly sleeps would be there first each time. */
static void lane_lock(struct pipeline *pipeline)
{
    if (atomic_load_explicit(&pipeline->waiting, memory_order_relaxed) > 0) {
        pthread_mutex_lock(&pipeline->next);
        pthread_mutex_unlock(&pipeline->next);
    }
    pthread_mutex_lock(&pipeline->lock);
}

static void lane_sleep(struct pipeline *pipeline, int64_t at_most)
{
    struct pollfd fds[PIPELINE_MAX_STAGES + 1];
    struct stage *polled[PIPELINE_MAX_STAGES + 1];
    size_t n = fill_polled(pipeline, fds, polled);
    int64_t until = earliest(next_deadline(pipeline), at_most), now = clock_now();
    bool is_skipped = clock_is_set() && until != FMS_NEVER;
    int64_t pause = until <= now || is_skipped ? 0 : until - now;
    struct timespec timeout = clock_timespec(pause);
    const struct call *calling = atomic_load_explicit(&pipeline->calling, memory_order_relaxed); /* in fms_drain */
    uint64_t changes = pipeline->changes, drained;

    call_end(pipeline, NULL);
    meter_sleep(pipeline, now);
    pipeline->sleeps_until = until > 0 ? until : 1;
    pipeline_current = NULL;
    pthread_mutex_unlock(&pipeline->lock);
    if (ppoll(fds, n, until == FMS_NEVER ? NULL : &timeout, NULL) == 0 && is_skipped)
        clock_move(until);
    lane_lock(pipeline);
    pipeline_current = pipeline;
    pipeline->sleeps_until = 0; /* awake: nobody needs to wake it */
    lane_begin(pipeline, calling);
    if (fds[0].revents != 0 && read(pipeline->wake_fd, &drained, sizeof drained) > 0)
        pipeline->is_signalled = false;
    for (size_t i = 1; i < n && changes == pipeline->changes; i++)
        polled[i]->is_ready = polled[i]->is_ready || fds[i].revents != 0;
}

/* Where it would end: whether it waits for another source. */
static bool pause_here(struct pipeline *pipeline)
{
    if ((!pipeline->is_pausing && !pipeline->stands_still) || pipeline->must_stop || pipeline->must_finish ||
        pipeline->must_fail)
        return false;
    pipeline->is_paused = true;
    pipeline->drain_until = FMS_NEVER;
    return true;
}

/* Of one that stands still: where it reads others may be at work by now. Who changes the pipeline meanwhile does with its source what is to
 * be done. Until when the lane may sleep. */
static int64_t let_go_of_source(struct pipeline *pipeline)
{
    struct stage *source = pipeline->source;

    if (!pipeline->stands_still || !pipeline->is_paused || source->is_closing)
        return FMS_NEVER;
    if (pthread_mutex_trylock(&pipeline->stages_lock) != 0)
        return clock_now() + RELEASE_TICK;
    source->is_closing = true;
    lane_give(pipeline);
    stage_close(source);
    lane_take(pipeline);
    if ((source->plugin->table.traits & FMS_TRAIT_LINK) != 0)
        measures_link(&source->measures, false, "it was let go, for its pipeline stands still");
    pthread_mutex_unlock(&pipeline->stages_lock);
    return FMS_NEVER;
}

void lane_run(struct pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->lock);
    pipeline_current = pipeline;
    pipeline_layout(pipeline);
    lane_begin(pipeline, NULL);
    watch_begin(pipeline);
    snapshot_begin(pipeline);
    for (;;) {
        lane_turn(pipeline);
        if (pipeline->state == PIPELINE_DRAINING && (is_late(pipeline) || !settle_is_pending(pipeline)) &&
            !pause_here(pipeline))
            break;
        lane_sleep(pipeline, let_go_of_source(pipeline));
    }
    pipeline->state = PIPELINE_ENDED;
    pipeline->is_finished = pipeline->must_finish;
    pipeline->has_failed = pipeline->must_fail || pipeline->stands_still;
    if (is_late(pipeline))
        name_the_late(pipeline);
    pipeline->left = pipeline->in_flight;
    log_counts(pipeline, FMS_LOG_INFO, pipeline->has_failed ? "failed" : "ended");
    meter_lap(pipeline, NULL);
    meter_sleep(pipeline, pipeline->meter.at);
    snapshot_end(pipeline);
    tap_end(pipeline);
    watch_end(pipeline);
    pipeline_current = NULL;
    pthread_mutex_unlock(&pipeline->lock);
}

size_t lane_drain(struct pipeline *pipeline, int64_t deadline)
{
    if (!pipeline->in_source) {
        rule_broken(pipeline->source, "called fms_drain outside of source_poll");
        return pipeline->in_flight;
    }
    meter_lap(pipeline, pipeline->source);
    deliver(pipeline);
    while (pipeline->in_flight > 0 && settle_is_pending(pipeline) && clock_now() < deadline && !is_late(pipeline) &&
           !pipeline->must_fail) {
        if (pipeline->must_stop || pipeline->must_finish)
            bound_drain(pipeline);
        lane_sleep(pipeline, earliest(deadline, pipeline->drain_until));
        poll_stages(pipeline);
        deliver(pipeline);
    }
    meter_lap(pipeline, NULL);
    pipeline_wake(pipeline); /* what was asked of the lane meanwhile is still to be done */
    return pipeline->in_flight;
}

void lane_enter(struct pipeline *pipeline)
{
    lane_lock(pipeline);
    pipeline_current = pipeline;
    pipeline->is_entered = true;
    lane_begin(pipeline, &pipeline->source->calls[CALL_ENTERED]);
}

void lane_leave(struct pipeline *pipeline)
{
    call_end(pipeline, NULL);
    meter_lap(pipeline, pipeline->source);
    if (pipeline->state != PIPELINE_ENDED) {
        deliver(pipeline);
        if (pipeline->state >= PIPELINE_STOPPING || next_deadline(pipeline) < pipeline->sleeps_until)
            pipeline_wake(pipeline);
    }
    meter_lap(pipeline, NULL);
    meter_sleep(pipeline, pipeline->meter.at);
    pipeline->is_entered = false;
    pipeline_current = NULL;
    pthread_mutex_unlock(&pipeline->lock);
}

void lane_resume(struct pipeline *pipeline)
{
    pipeline->is_pausing = pipeline->is_paused = false;
    pipeline->stands_still = pipeline_has_superseded(pipeline);
    if (pipeline->state == PIPELINE_ENDED)
        return; /* it was told to stop meanwhile */
    pipeline->drain_until = FMS_NEVER;
    pipeline->state = PIPELINE_RUNNING;
    for (size_t i = 0; i < pipeline->transform_count; i++)
        pipeline->transforms[i]->has_ended = false;
}

void lane_take(struct pipeline *pipeline)
{
    atomic_fetch_add(&pipeline->waiting, 1);
    pthread_mutex_lock(&pipeline->next);
    pthread_mutex_lock(&pipeline->lock);
    pthread_mutex_unlock(&pipeline->next);
    atomic_fetch_sub(&pipeline->waiting, 1);
    pipeline_current = pipeline;
    lane_begin(pipeline, NULL);
}

void lane_give(struct pipeline *pipeline)
{
    if (pipeline->state != PIPELINE_ENDED)
        deliver(pipeline);
    meter_lap(pipeline, NULL);
    meter_sleep(pipeline, pipeline->meter.at);
    pipeline_wake(pipeline); /* it looks at all anew */
    pipeline_current = NULL;
    pthread_mutex_unlock(&pipeline->lock);
}
