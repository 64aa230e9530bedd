/* runner.c - one thread for each pipeline, and a main thread that waits for signals and for their ends. */
#include "runner.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "assemble.h"
#include "clock.h"
#include "lane.h"
#include "log.h"
#include "notify.h"
#include "reload.h"
#include "snapshot.h"

#define SAME_SIGNAL     (500 * FMS_MS)
#define CLOSE_PATIENCE  (15 * FMS_SECOND) /* all stages of a pipeline, one after the other */
#define SECOND_PATIENCE (100 * FMS_MS)

struct runner {
    struct pipeline *pipeline;
    pthread_t thread;
    int ended_fd; /* written to at each of these */
    _Atomic bool has_failed;
    _Atomic int64_t closes_since; /* 0: not yet */
    _Atomic bool has_ended;
    bool was_joined;
};

struct stopping {
    int64_t since;        /* when the pipelines were told to stop, for whatever reason; 0: they were not */
    int64_t signalled_at; /* by the first signal; 0: there was none */
};

static void tell(const struct runner *runner)
{
    uint64_t one = 1;

    if (write(runner->ended_fd, &one, sizeof one) < 0)
        abort(); /* an eventfd that cannot count to 2^64 */
}

static bool has_failed(struct pipeline *pipeline)
{
    struct pipeline_view end = {0};

    snapshot_read(pipeline, &end, 0);
    view_forget(&end);
    return end.has_failed;
}

static void *run_thread(void *user)
{
    struct runner *runner = user;

    lane_run(runner->pipeline);
    runner->has_failed = has_failed(runner->pipeline);
    runner->closes_since = clock_now();
    tell(runner);                     /* now: a plugin may not return from its close */
    pipeline_close(runner->pipeline); /* here, so that one that takes its time holds up nobody, nor the second signal */
    runner->has_failed = has_failed(runner->pipeline);
    runner->has_ended = true;
    tell(runner);
    return NULL;
}

static void log_start(const struct pipeline *pipeline)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s", pipeline->source->plugin->table.name);

    for (size_t i = 0; i < pipeline->transform_count && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " -> %s", pipeline->transforms[i]->plugin->table.name);
    for (size_t i = 0; i < pipeline->sink_count && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%s", i == 0 ? " -> " : ", ",
                      pipeline->sinks[i]->plugin->table.name);
    log_line(FMS_LOG_INFO, pipeline->options.name, NULL, "starts: %s", text);
}

/* Opens all or none. */
static int open_all(struct pipeline *const *pipelines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (pipeline_open(pipelines[i]) == 0)
            continue;
        while (i-- > 0)
            pipeline_close(pipelines[i]);
        return -EINVAL;
    }
    return 0;
}

static void stop_all(struct runner *runners, size_t count, struct stopping *stopping)
{
    if (stopping->since == 0)
        stopping->since = clock_now();
    for (size_t i = 0; i < count; i++)
        pipeline_stop(runners[i].pipeline);
}

/* Whether the others are to stop, too. */
static bool is_last(const struct runner *runner, const char *until)
{
    return runner->has_failed ||
           (runner->was_joined && until != NULL && strcmp(until, runner->pipeline->options.name) == 0);
}

/* Joins those that have ended; how many still run. Stops the others when one has failed or was to be the last. */
static size_t join_ended(struct runner *runners, size_t count, const char *until, struct stopping *stopping)
{
    size_t running = 0;

    for (size_t i = 0; i < count; i++) {
        struct runner *runner = &runners[i];

        if (!runner->has_ended) {
            running++;
        } else if (!runner->was_joined) {
            pthread_join(runner->thread, NULL);
            runner->was_joined = true;
        }
        if (stopping->since == 0 && is_last(runner, until))
            stop_all(runners, count, stopping);
    }
    return running;
}

static const char *signal_name(const struct signalfd_siginfo *info)
{
    return info->ssi_signo == SIGINT ? "SIGINT" : info->ssi_signo == SIGHUP ? "SIGHUP" : "SIGTERM";
}

/* A terminal that hangs up ends what was started in it; a service is told to read its files again. */
static bool is_reload(const struct signalfd_siginfo *info, const struct stopping *stopping)
{
    return info->ssi_signo == SIGHUP && stopping->since == 0 && !isatty(STDIN_FILENO) && !isatty(STDERR_FILENO);
}

static _Noreturn void end_at_once(void)
{
    log_flush(SECOND_PATIENCE);
    _exit(EXIT_FAILURE);
}

/* When this one is waited for no more: a while after it began to close, or should have. */
static int64_t last_moment_of(const struct runner *runner, const struct stopping *stopping)
{
    if (runner->closes_since != 0)
        return runner->closes_since + CLOSE_PATIENCE;
    return stopping->since != 0 ? stopping->since + runner->pipeline->ends_within + CLOSE_PATIENCE : FMS_NEVER;
}

/* When the process ends even if a plugin does not return: when none is waited for any more. Those that have ended meanwhile say
 * so by themselves. */
static int64_t last_moment(const struct runner *runners, size_t count, const struct stopping *stopping)
{
    int64_t last = -1;

    for (size_t i = 0; i < count; i++) {
        int64_t moment = runners[i].has_ended ? -1 : last_moment_of(&runners[i], stopping);

        last = moment > last ? moment : last;
    }
    return last >= 0 ? last : FMS_NEVER;
}

/* Names those that have not ended. */
static _Noreturn void end_unclosed(const struct runner *runners, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!runners[i].has_ended)
            log_line(FMS_LOG_ERROR, runners[i].pipeline->options.name, NULL,
                     "a plugin has not returned %lld s after %s; the process ends without it",
                     (long long)(CLOSE_PATIENCE / FMS_SECOND),
                     runners[i].closes_since != 0 ? "its pipeline began to close" : "drain_timeout");
    }
    end_at_once();
}

/* The first signal stops the pipelines, a second one ends the process. Signals within half a second are one: `timeout` sends
 * its own twice, systemd's SendSIGHUP two kinds. What is asked is done before it is logged. */
static void take_signal(struct runner *runners, size_t count, const struct signalfd_siginfo *info,
                        struct stopping *stopping)
{
    if (is_reload(info, stopping)) {
        log_line(FMS_LOG_INFO, NULL, NULL, "SIGHUP: reloading");
        reload_request(true);
    } else if (stopping->signalled_at == 0) {
        stopping->signalled_at = clock_now();
        stop_all(runners, count, stopping);
        log_line(FMS_LOG_INFO, NULL, NULL, "%s: stopping; a second signal ends at once", signal_name(info));
    } else if (clock_now() - stopping->signalled_at > SAME_SIGNAL) {
        log_line(FMS_LOG_WARN, NULL, NULL, "second signal: ending at once, without settling what is in flight");
        end_at_once();
    }
}

/* In milliseconds, for poll(). */
static int time_left(int64_t until)
{
    int64_t left = until - clock_now();

    if (left / FMS_MS >= INT_MAX)
        return -1;
    return left > 0 ? (int)(left / FMS_MS) + 1 : 0;
}

/* A process whose files have no shard for it waits to be told to stop: it may have some after the next change. */
static bool is_idle(size_t count, const struct stopping *stopping)
{
    return count == 0 && stopping->since == 0;
}

static void wait_for_all(struct runner *runners, size_t count, int signal_fd, int ended_fd, const char *until,
                         struct stopping *stopping, struct notify *notify)
{
    struct pollfd fds[2] = {{signal_fd, POLLIN, 0}, {ended_fd, POLLIN, 0}};
    struct signalfd_siginfo info;
    uint64_t drained;

    while (join_ended(runners, count, until, stopping) > 0 || is_idle(count, stopping)) {
        int64_t last = last_moment(runners, count, stopping), told = notify_turn(notify, last);
        int ready = poll(fds, 2, time_left(told < last ? told : last));

        if (ready == 0 && clock_now() >= last)
            end_unclosed(runners, count);
        if (ready <= 0)
            continue;
        if (read(ended_fd, &drained, sizeof drained) < 0 && errno != EAGAIN)
            return;
        if (read(signal_fd, &info, sizeof info) == sizeof info)
            take_signal(runners, count, &info, stopping);
    }
}

/* After a failure those that were started, and those that are still to be, stop at once. */
static void start_all(struct runner *runners, struct pipeline *const *pipelines, size_t count, int ended_fd,
                      struct stopping *stopping)
{
    if (count == 0)
        log_line(FMS_LOG_INFO, NULL, NULL, "there is nothing to run: waiting to be told to stop");
    for (size_t i = 0; i < count; i++) {
        runners[i].pipeline = pipelines[i];
        runners[i].ended_fd = ended_fd;
    }
    for (size_t i = 0; i < count; i++) {
        log_start(pipelines[i]);
        if (pthread_create(&runners[i].thread, NULL, run_thread, &runners[i]) == 0)
            continue;
        log_line(FMS_LOG_ERROR, pipelines[i]->options.name, NULL, "cannot start a thread");
        runners[i].has_ended = runners[i].was_joined = true;
        runners[i].has_failed = true;
        stop_all(runners, count, stopping);
    }
}

/* 0, or -EIO after a failure, or where records are left that should not be. */
static int result_of(const struct runner *runners, size_t count)
{
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        struct pipeline_view end = {0};

        snapshot_read(runners[i].pipeline, &end, 0);
        if (end.left > 0)
            log_line(end.is_finished ? FMS_LOG_INFO : FMS_LOG_WARN, runners[i].pipeline->options.name, NULL,
                     "records left unsettled: %zu; a source with a durable input gets them again", end.left);
        if (runners[i].has_failed || (end.left > 0 && !end.is_finished))
            result = -EIO;
        view_forget(&end);
    }
    return result;
}

static int run_open(struct pipeline *const *pipelines, size_t count, int signal_fd, const char *until)
{
    struct runner *runners = calloc(count + 1, sizeof *runners);
    int ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct notify *notify = notify_open(pipelines, count);
    struct stopping stopping = {0, 0};
    int result = -ENOMEM;

    if (runners != NULL && ended_fd >= 0) {
        start_all(runners, pipelines, count, ended_fd, &stopping);
        reload_begin(pipelines, count, notify_reload, notify);
        wait_for_all(runners, count, signal_fd, ended_fd, until, &stopping, notify);
        reload_end();
        result = result_of(runners, count);
    }
    notify_close(notify, result == 0);
    for (size_t i = 0; i < count; i++)
        pipeline_close(pipelines[i]); /* one that was never started */
    if (ended_fd >= 0)
        close(ended_fd);
    free(runners);
    return result;
}

/* SIGINT, SIGTERM, and SIGHUP where it is not ignored, as by nohup, will come to a descriptor. Before any thread of a pipeline
 * is made. */
static int catch_signals(void)
{
    struct sigaction hangup;
    sigset_t stops;
    int fd;

    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&stops, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stops, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of whoever writes it */
    fd = signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "cannot wait for signals: %s", strerror(errno));
    return fd;
}

int runner_run(struct pipeline *const *pipelines, size_t count, const char *until)
{
    int signal_fd = catch_signals();
    int result = -EIO;

    if (signal_fd < 0)
        return result;
    if (open_all(pipelines, count) == 0)
        result = run_open(pipelines, count, signal_fd, until);
    close(signal_fd);
    return result;
}
