/* runner.c - the main thread: it waits for signals, and for the ends of pipelines. */
#include "runner.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notify.h"
#include "reload.h"

#define SAME_SIGNAL     (500 * FMS_MS)
#define SECOND_PATIENCE (100 * FMS_MS)

struct run {
    struct crew *crew;
    struct notify *notify;
    const char *until;
    int signal_fd;
    int64_t stops_since;  /* the pipelines were told to stop, for whatever reason; 0: they were not */
    int64_t signalled_at; /* by the first signal; 0: there was none */
    _Atomic bool is_reloading;
};

static void stop_all(struct run *run)
{
    if (run->stops_since == 0)
        run->stops_since = clock_now();
    crew_stop(run->crew);
}

static const char *signal_name(const struct signalfd_siginfo *info)
{
    return info->ssi_signo == SIGINT ? "SIGINT" : info->ssi_signo == SIGHUP ? "SIGHUP" : "SIGTERM";
}

/* A terminal that hangs up ends what was started in it; a service is told to read its files again. */
static bool is_reload(const struct signalfd_siginfo *info)
{
    return info->ssi_signo == SIGHUP && !isatty(STDIN_FILENO) && !isatty(STDERR_FILENO);
}

static _Noreturn void end_at_once(void)
{
    log_flush(SECOND_PATIENCE);
    _exit(EXIT_FAILURE);
}

/* The first signal stops the pipelines, a second one ends the process. Signals within half a second are one: `timeout` sends
 * its own twice, systemd's SendSIGHUP two kinds. What is asked is done before it is logged. */
static void take_signal(struct run *run, const struct signalfd_siginfo *info)
{
    if (is_reload(info) && run->stops_since != 0) {
        log_line(FMS_LOG_INFO, NULL, NULL, "SIGHUP: not reloaded: the process is about to end");
    } else if (is_reload(info)) {
        log_line(FMS_LOG_INFO, NULL, NULL, "SIGHUP: reloading");
        reload_request(true);
    } else if (run->signalled_at == 0) {
        run->signalled_at = clock_now();
        stop_all(run);
        log_line(FMS_LOG_INFO, NULL, NULL, "%s: stopping; a second signal ends at once", signal_name(info));
    } else if (clock_now() - run->signalled_at > SAME_SIGNAL) {
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

/* Whoever reloads. */
static void tell_reload(void *user, bool is_over)
{
    struct run *run = user;

    notify_reload(run->notify, is_over);
    run->is_reloading = !is_over;
    crew_wake(run->crew);
}

/* A process without pipelines waits to be told to stop: it may have some after the next reload. Nor does it end while one that has
 * gone may be followed by another. Those that run are stopped when one has failed, or was to be the last. */
static bool goes_on(struct run *run)
{
    bool is_reloading = run->is_reloading; /* before the look: what it has started by its end is seen */
    struct crew_state state = crew_look(run->crew, run->until);

    if (run->stops_since == 0 && (state.has_failed || state.is_until))
        stop_all(run);
    return state.running > 0 || is_reloading || (state.count == 0 && run->stops_since == 0);
}

/* When the process ends even if a plugin does not return: when none is waited for any more, nor a reload that opens one. */
static int64_t last_moment(const struct run *run)
{
    int64_t last = crew_last_moment(run->crew, run->stops_since);

    if (last == FMS_NEVER && run->is_reloading && run->stops_since != 0)
        return run->stops_since + CREW_PATIENCE;
    return last;
}

static _Noreturn void end_unclosed(const struct run *run)
{
    if (run->is_reloading)
        log_line(FMS_LOG_ERROR, NULL, NULL, "a reload has not come to its end; the process ends without it");
    crew_name_unclosed(run->crew);
    end_at_once();
}

static void wait_for_all(struct run *run)
{
    struct pollfd fds[2] = {{run->signal_fd, POLLIN, 0}, {crew_fd(run->crew), POLLIN, 0}};
    struct signalfd_siginfo info;
    uint64_t drained;

    while (goes_on(run)) {
        int64_t last = last_moment(run), told = notify_turn(run->notify, last);
        int ready = poll(fds, 2, time_left(told < last ? told : last));

        if (ready == 0 && clock_now() >= last)
            end_unclosed(run);
        if (ready <= 0)
            continue;
        if (read(fds[1].fd, &drained, sizeof drained) < 0 && errno != EAGAIN)
            return;
        if (read(run->signal_fd, &info, sizeof info) == sizeof info)
            take_signal(run, &info);
    }
}

static int run_open(struct run *run, char *const *words, size_t word_count)
{
    int result;

    if (crew_look(run->crew, NULL).count == 0)
        log_line(FMS_LOG_INFO, NULL, NULL, "there is nothing to run: waiting for a reload, or to be told to stop");
    run->notify = notify_open(run->crew);
    crew_start(run->crew);
    reload_begin(run->crew, words, word_count, tell_reload, run);
    wait_for_all(run);
    stop_all(run); /* what a reload has started in the last moment, too */
    reload_end();
    wait_for_all(run);
    result = crew_result(run->crew);
    notify_close(run->notify, result == 0);
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

int runner_run(struct crew *crew, char *const *words, size_t word_count, const char *until)
{
    struct run run = {.crew = crew, .until = until, .signal_fd = catch_signals()};
    int result = -EIO;

    if (run.signal_fd < 0)
        return result;
    if (crew_open(crew) == 0)
        result = run_open(&run, words, word_count);
    close(run.signal_fd);
    return result;
}
