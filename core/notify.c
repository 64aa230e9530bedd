/* notify.c - see notify.h. The protocol is a few lines of text and will not change (sd_notify(3)), so no library is needed.
 *
 * A lane is asked by its snapshot, which it shows in its next turn: one that hangs in a plugin shows none. The environment stays
 * as it is: the logger's thread may be reading it, and who is started from here is heard only where the unit says so. */
#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "snapshot.h"

#define PAUSE      (5 * FMS_SECOND)
#define ANSWER     (50 * FMS_MS)  /* from the question until what was answered is told */
#define SPAN       (100 * FMS_MS) /* that a rate is of, at least */
#define LAST_WORDS FMS_SECOND     /* of a process that ends without a plugin */

/* What a lane showed. */
struct look {
    int64_t shown_at; /* 0: nothing yet */
    enum pipeline_state state;
    bool has_failed;
    uint64_t received, delivered;
    size_t in_flight;
    int64_t oldest_at; /* when the oldest in flight was emitted; 0: unknown, or none is */
};

struct notified {
    uint64_t number; /* the pipeline's */
    const char *name;
    struct look now, before; /* what was told last, and what before that */
};

struct notify {
    int fd;
    struct sockaddr_un address;
    socklen_t address_size;
    bool has_watchdog;
    int64_t pause;            /* between what is told and the next question */
    int64_t due_at;           /* the next question, or answer */
    int64_t asked_at;         /* the first question since all lanes had answered; 0: none */
    bool is_answer;           /* what is due */
    _Atomic bool is_ready;    /* READY=1 was told */
    _Atomic bool is_stopping; /* STOPPING=1 was */
    bool is_reloading;        /* RELOADING=1 was, by the only reload that there is at a time */
    struct crew *crew;
    struct notified *lanes;
    size_t count;
};

/* ------------------------------------------------------------------------------------------------------ environment */

/* An absolute path, or a name that begins with @ and is no file's. */
static bool read_address(struct notify *notify, const char *text)
{
    size_t n = strlen(text);

    notify->address.sun_family = AF_UNIX;
    if ((text[0] != '/' && text[0] != '@') || n < 2 || n >= sizeof notify->address.sun_path)
        return false;
    memcpy(notify->address.sun_path, text, n);
    if (text[0] == '@')
        notify->address.sun_path[0] = '\0';
    notify->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (text[0] == '/'));
    return true;
}

/* WATCHDOG_USEC, unless it is meant for another process. */
static void read_watchdog(struct notify *notify)
{
    const char *time = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t microseconds = time != NULL ? strtoll(time, NULL, 10) : 0;
    int64_t third = microseconds <= INT64_MAX / 1000 ? microseconds * 1000 / 3 : INT64_MAX;

    if (microseconds <= 0 || (pid != NULL && strtoll(pid, NULL, 10) != getpid()))
        return;
    notify->has_watchdog = true;
    notify->pause = third < PAUSE ? third : PAUSE;
}

struct notify *notify_open(struct crew *crew)
{
    const char *address = getenv("NOTIFY_SOCKET");
    struct notify *notify;

    if (address == NULL || *address == '\0')
        return NULL;
    notify = calloc(1, sizeof *notify);
    if (notify == NULL)
        return NULL;
    notify->fd = -1;
    if (!read_address(notify, address)) {
        log_line(FMS_LOG_WARN, NULL, NULL,
                 "NOTIFY_SOCKET=%s is no absolute path and no name with @: the service manager is told nothing",
                 address);
    } else {
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (notify->fd < 0)
            log_line(FMS_LOG_WARN, NULL, NULL, "no socket for NOTIFY_SOCKET: %s; the service manager is told nothing",
                     strerror(errno));
    }
    if (notify->fd < 0) {
        free(notify);
        return NULL;
    }
    notify->pause = PAUSE;
    read_watchdog(notify);
    notify->crew = crew;
    return notify;
}

/* ----------------------------------------------------------------------------------------------------------- asking */

/* Those that there are now; what is known of those that were there before stays. Without memory all stay. */
static void gather(struct notify *notify)
{
    size_t count, was = notify->count;
    uint64_t *numbers = crew_numbers(notify->crew, &count);
    struct notified *lanes = numbers != NULL ? calloc(count + 1, sizeof *lanes) : NULL;

    for (size_t i = 0; i < count && lanes != NULL; i++) {
        lanes[i].number = numbers[i];
        for (size_t k = 0; k < was; k++) {
            if (notify->lanes[k].number == numbers[i])
                lanes[i] = notify->lanes[k];
        }
    }
    free(numbers);
    if (lanes == NULL)
        return;
    free(notify->lanes);
    notify->lanes = lanes;
    notify->count = count;
}

/* What the lane showed last; and asks it to show itself anew. One that has gone meanwhile has ended. */
static struct look look(const struct notify *notify, struct notified *lane)
{
    struct pipeline *pipeline = crew_hold(notify->crew, lane->number);
    struct pipeline_view shown = {0};

    if (pipeline == NULL)
        return (struct look){.state = PIPELINE_ENDED};
    lane->name = pipeline->name;
    snapshot_read(pipeline, &shown, 0);
    crew_release(notify->crew, pipeline);
    view_forget(&shown);
    return (struct look){
        .shown_at = shown.shown_at,
        .state = shown.state,
        .has_failed = shown.has_failed,
        .received = shown.counts.emitted,
        .delivered = shown.counts.delivered,
        .in_flight = shown.in_flight,
        .oldest_at = shown.oldest_at,
    };
}

static bool has_answered(const struct notify *notify, const struct look *look)
{
    return look->state == PIPELINE_ENDED || (notify->asked_at != 0 && look->shown_at >= notify->asked_at);
}

static void ask(struct notify *notify, int64_t now)
{
    gather(notify);
    if (notify->asked_at == 0)
        notify->asked_at = now;
    for (size_t i = 0; i < notify->count; i++)
        look(notify, &notify->lanes[i]);
}

/* Whether all have answered. */
static bool hear(struct notify *notify)
{
    bool all = true;

    gather(notify);
    for (size_t i = 0; i < notify->count; i++) {
        struct notified *lane = &notify->lanes[i];
        struct look shown = look(notify, lane);

        if (shown.shown_at - lane->now.shown_at >= SPAN)
            lane->before = lane->now;
        lane->now = shown;
        all = all && has_answered(notify, &shown);
    }
    return all;
}

/* ---------------------------------------------------------------------------------------------------------- telling */

/* Without what would begin another line. */
static void write_name(FILE *to, const char *name)
{
    for (; *name != '\0'; name++)
        fputc((unsigned char)*name < ' ' ? '?' : *name, to);
}

static void write_rate(FILE *to, uint64_t now, uint64_t before, int64_t time)
{
    double rate = time > 0 ? (double)(now - before) * (double)FMS_SECOND / (double)time : 0;

    fprintf(to, "%.*f/s", rate > 0 && rate < 10 ? 1 : 0, rate);
}

static void write_age(FILE *to, int64_t age)
{
    if (age < FMS_SECOND)
        fprintf(to, "%" PRId64 " ms", age / FMS_MS);
    else
        fprintf(to, "%" PRId64 " s", age / FMS_SECOND);
}

static void write_flow(FILE *to, const struct notified *lane, int64_t now)
{
    static const char *const states[] = {"", "stopping, ", "draining, "};
    const struct look *this = &lane->now, *before = &lane->before;
    int64_t time = this->shown_at - before->shown_at;

    fputs(states[this->state], to);
    if (before->shown_at != 0) {
        write_rate(to, this->received, before->received, time);
        fputs(" in, ", to);
        write_rate(to, this->delivered, before->delivered, time);
        fputs(" confirmed, ", to);
    }
    fprintf(to, "%zu in flight", this->in_flight);
    if (this->oldest_at != 0) {
        fputs(", oldest ", to);
        write_age(to, now - this->oldest_at);
    }
}

static void write_lane(FILE *to, const struct notify *notify, const struct notified *lane, int64_t now)
{
    const struct look *shown = &lane->now;

    write_name(to, lane->name != NULL ? lane->name : "?");
    fputs(": ", to);
    if (shown->state == PIPELINE_ENDED)
        fputs(shown->has_failed ? "failed" : "ended", to);
    else if (!has_answered(notify, shown) && notify->asked_at != 0 && now - notify->asked_at >= FMS_SECOND)
        fprintf(to, "its lane has not answered for %" PRId64 " s", (now - notify->asked_at) / FMS_SECOND);
    else if (shown->shown_at == 0)
        fputs("starting", to);
    else
        write_flow(to, lane, now);
}

/* False: it was not told, and is to be told again. */
static bool tell(const struct notify *notify, const char *text, size_t size)
{
    if (sendto(notify->fd, text, size, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address, notify->address_size) >=
        0)
        return true;
    log_line(FMS_LOG_WARN, NULL, NULL, "the service manager cannot be told how it goes (NOTIFY_SOCKET): %s",
             strerror(errno));
    return false;
}

static void tell_all(struct notify *notify, int64_t now, int64_t ends_at)
{
    bool all = hear(notify), is_stopping = ends_at != FMS_NEVER, tells_ready = all && !notify->is_ready;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        return;
    fputs("STATUS=", to);
    for (size_t i = 0; i < notify->count; i++) {
        fputs(i > 0 ? "; " : "", to);
        write_lane(to, notify, &notify->lanes[i], now);
    }
    fputc('\n', to);
    if (tells_ready)
        fputs("READY=1\n", to);
    if (all && notify->has_watchdog)
        fputs("WATCHDOG=1\n", to);
    if (is_stopping)
        fprintf(to, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64 "\n", (ends_at - now + LAST_WORDS) / 1000);
    if (fclose(to) == 0 && tell(notify, text, size)) {
        if (tells_ready)
            notify->is_ready = true;
        notify->is_stopping = is_stopping;
        notify->asked_at = all ? 0 : notify->asked_at;
    }
    free(text);
}

int64_t notify_turn(struct notify *notify, int64_t ends_at)
{
    int64_t now = clock_now();
    bool stops_now;

    if (notify == NULL)
        return FMS_NEVER;
    stops_now = ends_at != FMS_NEVER && !notify->is_stopping;
    if (now < notify->due_at && !stops_now)
        return notify->due_at;
    if (notify->is_answer || stops_now) {
        tell_all(notify, now, ends_at);
        notify->is_answer = false;
        return notify->due_at = now + (notify->is_ready ? notify->pause : ANSWER);
    }
    ask(notify, now);
    notify->is_answer = true;
    return notify->due_at = now + ANSWER;
}

/* sd_notify(3): MONOTONIC_USEC tells an answer to this reload from one to another. */
void notify_reload(void *user, bool is_over)
{
    struct notify *notify = user;
    char text[64] = "READY=1\n";
    bool was_told;

    if (notify == NULL || (is_over ? !notify->is_reloading : !notify->is_ready || notify->is_stopping))
        return;
    if (!is_over)
        snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\n", clock_now() / 1000);
    was_told = tell(notify, text, strlen(text));
    notify->is_reloading = was_told && !is_over;
    if (is_over && !was_told)
        notify->is_ready = false; /* or it would be reloading for ever: it is told with what is told next */
}

void notify_close(struct notify *notify, bool was_good)
{
    static const char ready[] = "READY=1\n", stopping[] = "STOPPING=1\n";

    if (notify == NULL)
        return;
    if (was_good && !notify->is_ready)
        tell(notify, ready, sizeof ready - 1);
    if (!notify->is_stopping)
        tell(notify, stopping, sizeof stopping - 1);
    close(notify->fd);
    free(notify->lanes);
    free(notify);
}
