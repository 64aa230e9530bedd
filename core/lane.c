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

#include "clock.h"
#include "log.h"

#define LANE_PATIENCE (3 * FMS_SECOND)
#define LANE_STALL    (60 * FMS_SECOND)
#define STALL_LOOKS   4 /* in the time after which a stall is told of */

_Thread_local struct lane *lane_current;

int lane_prepare(struct lane *lane)
{
    pthread_mutex_init(&lane->lock, NULL);
    pthread_mutex_init(&lane->inbox_lock, NULL);
    lane->drain_until = FMS_NEVER;
    lane->patience = LANE_PATIENCE;
    lane->stall_after = LANE_STALL;
    lane->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return lane->wake_fd < 0 ? -errno : 0;
}

void lane_release(struct lane *lane)
{
    settle_abandon(lane);
    record_pool_free(lane);
    free(lane->draft_json);
    close(lane->wake_fd);
    pthread_mutex_destroy(&lane->lock);
    pthread_mutex_destroy(&lane->inbox_lock);
}

/* ---------------------------------------------------------------------------------------------------- other threads */

void lane_wake(struct lane *lane)
{
    uint64_t one = 1;

    if (!atomic_exchange(&lane->is_signalled, true) && write(lane->wake_fd, &one, sizeof one) < 0)
        log_line(FMS_LOG_ERROR, lane->options.name, NULL, "cannot wake the lane: %s", strerror(errno));
}

void lane_stop(struct lane *lane)
{
    lane->must_stop = true;
    lane_wake(lane);
}

void lane_fail(struct lane *lane)
{
    lane->must_fail = true;
    lane_wake(lane);
}

/* ------------------------------------------------------------------------------------------------------------ polls */

static bool stage_is_due(const struct stage *stage, int64_t now)
{
    return !stage->was_polled || stage->is_ready || stage->is_woken || stage->wait.deadline <= now;
}

/* Before a poll; whether it is one that fms_wake asked for. */
static bool stage_will_wait(struct stage *stage)
{
    stage->was_polled = true;
    stage->is_ready = false;
    stage->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    return atomic_exchange(&stage->is_woken, false);
}

/* The plugin has told the cause; this tells what follows. */
void stage_fail(struct stage *stage, const char *operation, int error)
{
    log_line(FMS_LOG_ERROR, stage->host.pipeline, stage->name, "%s of plugin %s failed: %s; the pipeline stops",
             operation, stage->plugin->table.name, strerror(-error));
    stage->is_dead = true;
    lane_fail(stage->lane);
}

void stage_poll(struct stage *stage)
{
    struct lane *lane = stage->lane;
    bool is_sink = stage->host.role != FMS_TRANSFORM;
    int (*poll_it)(void *, struct fms_wait *) = is_sink ? stage->plugin->table.sink_poll
                                                        : stage->plugin->table.transform_poll;
    const char *name = is_sink ? "sink_poll" : "transform_poll";
    struct fms_wait before = stage->wait;
    const struct call *outer;
    int error = 0;

    if (stage_will_wait(stage) && is_sink)
        stage->is_full = false;
    if (poll_it != NULL && !stage->is_dead) {
        outer = call_begin(stage, CALL_POLL);
        error = poll_it(stage->instance, &stage->wait);
        call_end(lane, outer);
    }
    if (error < 0)
        stage_fail(stage, name, error);
    else if (error > 0)
        host_misuse(stage, "returned %d from %s: 0 or a negative errno is expected", error, name);
    if (lane->sleeps_until != 0 && (stage->wait.fd != before.fd || stage->wait.events != before.events))
        lane_wake(lane); /* we are a library's thread: the lane's own sleeps on the old descriptor */
}

/* A sink that takes records and forgets to settle them, or a transform that keeps them and waits for nothing, goes unseen
 * otherwise until the pipeline ends. */
static bool may_stall(const struct stage *stage)
{
    return stage->taken > 0 && !stage->has_moved && !stage->is_dead &&
           (stage->host.role != FMS_TRANSFORM || (stage->wait.deadline == FMS_NEVER && stage->wait.fd < 0));
}

static void look_for_stalls(struct lane *lane, int64_t now)
{
    if (now < lane->stalls_at || clock_is_set())
        return;
    lane->stalls_at = now + lane->stall_after / STALL_LOOKS;
    for (size_t i = 0; i < lane->stage_count; i++) {
        struct stage *stage = lane->stages[i];

        if (!may_stall(stage)) {
            stage->has_moved = false;
            stage->stalled_since = now;
        } else if (now - stage->stalled_since >= lane->stall_after) {
            log_line(
                FMS_LOG_WARN, stage->host.pipeline, stage->name,
                "has %s %zu records and has settled none of them for %.0f s: either it waits for its far end, or plugin"
                " %s has forgotten them",
                stage->host.role == FMS_TRANSFORM ? "kept" : "taken", stage->taken,
                (double)(now - stage->stalled_since) / (double)FMS_SECOND, stage->plugin->table.name);
        }
    }
}

static void poll_stages(struct lane *lane)
{
    int64_t now = clock_now();

    look_for_stalls(lane, now);
    for (size_t i = 0; i < lane->stage_count; i++) {
        struct stage *stage = lane->stages[i];

        if (stage != lane->source && stage_is_due(stage, now))
            stage_poll(stage);
    }
}

/* Room at the low watermark ends a blockade: an eighth below the bound, so that a full pipeline moves in strides. */
static bool has_low_water(const struct lane *lane)
{
    size_t most = (size_t)lane->options.max_in_flight, bytes = (size_t)lane->options.max_in_flight_bytes;
    size_t stride = most / 8 > 0 ? most / 8 : 1;
    size_t needed = lane->blocked_for > bytes / 8 ? lane->blocked_for : bytes / 8;

    return lane->in_flight == 0 || (lane->in_flight + stride <= most && lane->in_flight_bytes <= bytes &&
                                    bytes - lane->in_flight_bytes >= needed);
}

/* Whether a record waits in a transform: what room there is is for its children. */
static bool has_waiting(const struct lane *lane)
{
    for (size_t i = 0; i < lane->transform_count; i++) {
        if (lane->transforms[i]->waiting.head != NULL)
            return true;
    }
    return false;
}

static size_t lane_credit(struct lane *lane)
{
    size_t room;

    if (lane->is_blocked && has_low_water(lane) && !has_waiting(lane)) {
        lane->is_blocked = false;
        lane->blocked_for = 0;
        lane->source->is_woken = true;
    }
    if (lane->is_blocked || lane->state != LANE_RUNNING)
        return 0;
    room = (size_t)lane->options.max_in_flight - lane->in_flight;
    if (room == 0)
        lane->is_blocked = true;
    return room < LANE_BATCH ? room : LANE_BATCH;
}

/* It returned FMS_END, or it failed. */
static bool source_is_over(const struct lane *lane)
{
    return lane->source->has_ended || lane->source->is_dead;
}

/* An exhausted credit is not an end of input: the source is due again, without a wait, if it has used all of it. */
static void poll_source(struct lane *lane)
{
    struct stage *source = lane->source;
    size_t credit = lane_credit(lane);
    uint64_t emitted = lane->counts.emitted;
    int result;

    if (source_is_over(lane) || lane->state > LANE_STOPPING || !stage_is_due(source, clock_now()))
        return;
    stage_will_wait(source);
    lane->in_source = true;
    lane->is_refused = false;
    call_begin(source, CALL_POLL);
    result = source->plugin->table.source_poll(source->instance, credit, &source->wait);
    call_end(lane, NULL);
    lane->in_source = false;
    emitted = lane->counts.emitted - emitted;
    if (emitted > credit && lane->state == LANE_RUNNING)
        host_misuse(source, "emitted %llu records in a source_poll with a credit of %zu", (unsigned long long)emitted,
                    credit);
    if (result < 0)
        stage_fail(source, "source_poll", result);
    else if (result == FMS_END)
        source->has_ended = true;
    else if (result > 0)
        host_misuse(source, "returned %d from source_poll: 0, FMS_END or a negative errno is expected", result);
    else if (credit > 0 && emitted >= credit)
        source->wait.deadline = 0;
}

/* ----------------------------------------------------------------------------------------------------------- ending */

static void log_counts(const struct lane *lane, enum fms_level level, const char *what)
{
    const struct lane_counts *counts = &lane->counts;

    log_line(level, lane->options.name, NULL,
             "%s: %llu received, %llu delivered, %llu rejected (%llu to dead letters, %llu dropped), %llu retries, "
             "%zu in flight",
             what, (unsigned long long)counts->emitted, (unsigned long long)counts->delivered,
             (unsigned long long)counts->rejected, (unsigned long long)counts->dead_letters,
             (unsigned long long)counts->dropped, (unsigned long long)counts->retried, lane->in_flight);
}

/* Once for all when the source has ended. Before, while it was told to stop, each time that something is kept: it may end only
 * when it knows the fates of its records. */
static bool must_flush(const struct stage *transform)
{
    if (transform->lane->state == LANE_DRAINING)
        return !transform->has_ended;
    return transform->taken > 0 && !transform->is_dead && transform->plugin->table.transform_flush != NULL;
}

/* None of those at which, or before which, records wait: these are still to come. */
static void flush_transforms(struct lane *lane)
{
    for (size_t i = 0; i < lane->transform_count && lane->transforms[i]->waiting.head == NULL; i++) {
        struct stage *transform = lane->transforms[i];

        if (!must_flush(transform))
            continue;
        transform->has_ended = lane->state == LANE_DRAINING;
        if (transform->plugin->table.transform_flush != NULL) {
            call_begin(transform, CALL_STOP);
            transform->plugin->table.transform_flush(transform->instance);
            call_end(lane, NULL);
        }
        if (transform->taken > 0) {
            host_misuse(transform, "still keeps %zu records after transform_flush", transform->taken);
            transform->is_dead = true;
        }
    }
}

static void bound_drain(struct lane *lane)
{
    if (lane->drain_until == FMS_NEVER)
        lane->drain_until = clock_now() + lane->options.drain_timeout;
}

static bool is_late(const struct lane *lane)
{
    return lane->drain_until != FMS_NEVER && clock_now() >= lane->drain_until;
}

static void begin_stop(struct lane *lane)
{
    struct stage *source = lane->source;

    bound_drain(lane);
    if (lane->state != LANE_RUNNING)
        return;
    if (source_is_over(lane) || source->plugin->table.source_stop == NULL) {
        lane->state = LANE_DRAINING;
        return;
    }
    lane->state = LANE_STOPPING;
    call_begin(source, CALL_STOP);
    source->plugin->table.source_stop(source->instance);
    call_end(lane, NULL);
    source->is_woken = true;
}

static void check_requests(struct lane *lane)
{
    lane->is_finished = lane->must_finish;
    for (size_t i = 0; lane->is_finished && i < lane->stage_count; i++) {
        struct stage *stage = lane->stages[i];

        stage->is_dead = stage->is_dead || (stage->has_finished && stage != lane->source);
    }
    lane->has_failed = lane->must_fail;
    if (lane->is_finished || lane->has_failed || lane->must_stop)
        begin_stop(lane);
}

/* Says who has not done what drain_timeout was for. */
static void name_the_late(struct lane *lane)
{
    size_t slots = lane->sink_count + (lane->dead_letter != NULL);
    double timeout = (double)lane->options.drain_timeout / (double)FMS_SECOND;

    if (!source_is_over(lane) && lane->source->plugin->table.source_stop != NULL)
        log_line(FMS_LOG_WARN, lane->options.name, lane->source->name,
                 "it did not end within drain_timeout = %.1f s; it is closed as it is", timeout);
    for (size_t i = 0; i < slots; i++) {
        const struct stage *sink = lane->sinks[i];

        if (sink->head != NULL && !sink->is_dead)
            log_line(
                FMS_LOG_WARN, lane->options.name, sink->name,
                "records are left undelivered after drain_timeout = %.1f s; %zu of them it took and did not settle",
                timeout, sink->taken);
    }
}

/* --------------------------------------------------------------------------------------------------------- the loop */

static void log_stats(struct lane *lane)
{
    int64_t now;

    if (lane->options.stats_interval == 0 || (now = clock_now()) < lane->stats_at)
        return;
    if (lane->stats_at != 0)
        log_counts(lane, FMS_LOG_INFO, "so far");
    lane->stats_at = now + lane->options.stats_interval;
}

/* Until nothing moves. */
static void deliver(struct lane *lane)
{
    do {
        settle_run(lane);
        settle_advance_waiting(lane);
        if (lane->state >= LANE_STOPPING)
            flush_transforms(lane);
    } while (settle_offer(lane) || lane->has_settled || lane->done.head != NULL);
}

/* Whether the source, which was told to stop, can only be waiting for fates that nobody decides any more: of records that
 * on_reject = stop left in flight, or that stand before a sink that has failed or finished. It has been polled since it was
 * told the last of the others, and has nothing left to send. */
static bool waits_in_vain(const struct lane *lane)
{
    const struct stage *source = lane->source;

    return lane->state == LANE_STOPPING && lane->in_flight > 0 && !settle_is_pending(lane) &&
           !stage_is_due(source, clock_now()) && (source->wait.fd < 0 || (source->wait.events & POLLOUT) == 0);
}

static void lane_turn(struct lane *lane)
{
    check_requests(lane);
    poll_stages(lane);
    poll_source(lane);
    if (source_is_over(lane) || (lane->state == LANE_STOPPING && is_late(lane)))
        lane->state = LANE_DRAINING;
    deliver(lane);
    if (waits_in_vain(lane)) {
        lane->state = LANE_DRAINING;
        deliver(lane);
    }
    log_stats(lane);
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Within its own poll, that is in fms_drain, or after its end the source is not polled. */
static bool source_may_wait(const struct lane *lane)
{
    return !lane->in_source && !source_is_over(lane) && lane->state <= LANE_STOPPING;
}

/* When the loop must go on even if no descriptor is ready. */
static int64_t next_deadline(struct lane *lane)
{
    int64_t next = lane->state >= LANE_STOPPING ? lane->drain_until : FMS_NEVER;

    lane_credit(lane); /* a blockade may just have ended */
    for (size_t i = 0; i < lane->stage_count; i++) {
        const struct stage *stage = lane->stages[i];

        if (stage == lane->source && !source_may_wait(lane))
            continue;
        next = earliest(next, stage->is_woken ? 0 : stage->wait.deadline);
        if (stage->is_retrying && stage->retry_at != 0 && !stage->is_dead)
            next = earliest(next, stage->retry_at);
    }
    if (lane->options.stats_interval != 0)
        next = earliest(next, lane->stats_at);
    if (!clock_is_set())
        next = earliest(next, lane->stalls_at); /* always, so that a library's thread need not wake the lane for it */
    return next;
}

static size_t fill_polled(struct lane *lane, struct pollfd *fds, struct stage **polled)
{
    size_t n = 0;

    fds[n++] = (struct pollfd){lane->wake_fd, POLLIN, 0};
    for (size_t i = 0; i < lane->stage_count; i++) {
        struct stage *stage = lane->stages[i];

        if (stage->wait.fd < 0 || stage->is_dead || (stage == lane->source && !source_may_wait(lane)))
            continue;
        polled[n] = stage;
        fds[n++] = (struct pollfd){stage->wait.fd, stage->wait.events, 0};
    }
    return n;
}

/* A new turn, in that call or in none. */
static void lane_begin(struct lane *lane, const struct call *calling)
{
    atomic_store_explicit(&lane->turns, atomic_load_explicit(&lane->turns, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    call_end(lane, calling);
}

static void lane_sleep(struct lane *lane, int64_t at_most)
{
    struct pollfd fds[LANE_MAX_STAGES + 1];
    struct stage *polled[LANE_MAX_STAGES + 1];
    size_t n = fill_polled(lane, fds, polled);
    int64_t until = earliest(next_deadline(lane), at_most), now = clock_now();
    bool is_skipped = clock_is_set() && until != FMS_NEVER;
    int64_t pause = until <= now || is_skipped ? 0 : until - now;
    struct timespec timeout = {pause / FMS_SECOND, pause % FMS_SECOND};
    const struct call *calling = atomic_load_explicit(&lane->calling, memory_order_relaxed); /* in fms_drain */
    uint64_t drained;

    call_end(lane, NULL);
    lane->sleeps_until = until > 0 ? until : 1;
    lane_current = NULL;
    pthread_mutex_unlock(&lane->lock);
    if (ppoll(fds, n, until == FMS_NEVER ? NULL : &timeout, NULL) == 0 && is_skipped)
        clock_move(until);
    pthread_mutex_lock(&lane->lock);
    lane_current = lane;
    lane->sleeps_until = 0; /* awake: nobody needs to wake it */
    lane_begin(lane, calling);
    if (fds[0].revents != 0) {
        while (read(lane->wake_fd, &drained, sizeof drained) > 0)
            continue;
        lane->is_signalled = false;
    }
    for (size_t i = 1; i < n; i++)
        polled[i]->is_ready = polled[i]->is_ready || fds[i].revents != 0;
}

void lane_run(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane_current = lane;
    lane_begin(lane, NULL);
    watch_begin(lane);
    for (;;) {
        lane_turn(lane);
        if (lane->state == LANE_DRAINING && (is_late(lane) || !settle_is_pending(lane)))
            break;
        lane_sleep(lane, FMS_NEVER);
    }
    lane->state = LANE_ENDED;
    lane->is_finished = lane->must_finish;
    lane->has_failed = lane->must_fail;
    if (is_late(lane))
        name_the_late(lane);
    lane->left = lane->in_flight;
    log_counts(lane, FMS_LOG_INFO, lane->has_failed ? "failed" : "ended");
    watch_end(lane);
    lane_current = NULL;
    pthread_mutex_unlock(&lane->lock);
}

size_t lane_drain(struct lane *lane, int64_t deadline)
{
    if (!lane->in_source) {
        host_misuse(lane->source, "called fms_drain outside of source_poll");
        return lane->in_flight;
    }
    deliver(lane);
    while (lane->in_flight > 0 && settle_is_pending(lane) && clock_now() < deadline && !is_late(lane) &&
           !lane->must_fail) {
        if (lane->must_stop || lane->must_finish)
            bound_drain(lane);
        lane_sleep(lane, earliest(deadline, lane->drain_until));
        poll_stages(lane);
        deliver(lane);
    }
    lane_wake(lane); /* what was asked of the lane meanwhile is still to be done */
    return lane->in_flight;
}

void lane_enter(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane_current = lane;
    lane_begin(lane, &lane->source->calls[CALL_ENTERED]);
}

void lane_leave(struct lane *lane)
{
    call_end(lane, NULL);
    if (lane->state != LANE_ENDED) {
        deliver(lane);
        if (lane->state >= LANE_STOPPING || next_deadline(lane) < lane->sleeps_until)
            lane_wake(lane);
    }
    lane_current = NULL;
    pthread_mutex_unlock(&lane->lock);
}
