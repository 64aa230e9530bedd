/* crew.c - see crew.h. One lock guards the list; nothing that waits is done under it, so that who looks, who is told to stop and who
 * changes the list do not meet for longer than it takes to walk it. */
#include "crew.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "assemble.h"
#include "clock.h"
#include "lane.h"
#include "log.h"
#include "snapshot.h"
#include "tap.h"

struct member {
    struct crew *crew;
    struct pipeline *pipeline;
    const char *name; /* that it began with */
    uint64_t number;  /* 0: it is about to be freed, and for nobody to hold */
    unsigned holders;
    pthread_t thread;
    _Atomic bool has_failed;
    _Atomic int64_t closes_since; /* 0: not yet */
    bool was_started, was_joined, has_ended;
    size_t place; /* of its file, */
    int64_t shard;
};

struct crew {
    pthread_mutex_t lock;   /* taken before any other; guards what follows */
    pthread_cond_t changed; /* one has ended, or is held no more */
    struct member **members;
    size_t count;
    uint64_t numbers; /* that were given */
    bool is_stopping;
    bool is_measured; /* set before anybody else is there */
    int fd;
};

/* ------------------------------------------------------------------------------------------------------ new and free */

struct crew *crew_new(void)
{
    struct crew *crew = calloc(1, sizeof *crew);

    if (crew == NULL)
        return NULL;
    crew->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (crew->fd < 0) {
        free(crew);
        return NULL;
    }
    pthread_mutex_init(&crew->lock, NULL);
    clock_cond_init(&crew->changed);
    return crew;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    for (size_t i = 0; i < crew->count; i++) {
        pipeline_free(crew->members[i]->pipeline);
        free(crew->members[i]);
    }
    free(crew->members);
    close(crew->fd);
    pthread_mutex_destroy(&crew->lock);
    pthread_cond_destroy(&crew->changed);
    free(crew);
}

static struct member *member_new(struct crew *crew, struct pipeline *pipeline)
{
    struct member *member = calloc(1, sizeof *member);

    if (member == NULL)
        return NULL;
    member->crew = crew;
    member->pipeline = pipeline;
    member->name = pipeline->name;
    return member;
}

/* Under the lock; takes it. 0 or -ENOMEM. */
static int put(struct crew *crew, struct member *member)
{
    struct member **members = realloc(crew->members, (crew->count + 1) * sizeof *members);

    if (members == NULL)
        return -ENOMEM;
    crew->members = members;
    member->number = ++crew->numbers;
    members[crew->count++] = member;
    return 0;
}

int crew_add(struct crew *crew, struct pipeline *const *pipelines, size_t count)
{
    size_t before = crew->count;

    for (size_t i = 0; i < count; i++) {
        struct member *member = member_new(crew, pipelines[i]);

        if (member != NULL && put(crew, member) == 0)
            continue;
        free(member);
        while (crew->count > before)
            free(crew->members[--crew->count]);
        return -ENOMEM;
    }
    return 0;
}

void crew_measure(struct crew *crew)
{
    crew->is_measured = true;
    for (size_t i = 0; i < crew->count; i++)
        pipeline_measure(crew->members[i]->pipeline);
}

/* ----------------------------------------------------------------------------------------------------------- looking */

uint64_t *crew_numbers(struct crew *crew, size_t *count)
{
    uint64_t *numbers;

    pthread_mutex_lock(&crew->lock);
    numbers = malloc((crew->count + 1) * sizeof *numbers);
    *count = 0;
    for (size_t i = 0; i < crew->count && numbers != NULL; i++) {
        if (crew->members[i]->number != 0)
            numbers[(*count)++] = crew->members[i]->number;
    }
    pthread_mutex_unlock(&crew->lock);
    return numbers;
}

struct pipeline *crew_hold(struct crew *crew, uint64_t number)
{
    struct pipeline *pipeline = NULL;

    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count && pipeline == NULL; i++) {
        if (crew->members[i]->number != number)
            continue;
        crew->members[i]->holders++;
        pipeline = crew->members[i]->pipeline;
    }
    pthread_mutex_unlock(&crew->lock);
    return pipeline;
}

/* Under the lock; it is there. */
static struct member *member_of(const struct crew *crew, const struct pipeline *pipeline)
{
    size_t i = 0;

    while (crew->members[i]->pipeline != pipeline)
        i++;
    return crew->members[i];
}

void crew_release(struct crew *crew, const struct pipeline *pipeline)
{
    pthread_mutex_lock(&crew->lock);
    member_of(crew, pipeline)->holders--;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

/* ----------------------------------------------------------------------------------------------------------- running */

void crew_wake(struct crew *crew)
{
    uint64_t one = 1;

    if (write(crew->fd, &one, sizeof one) < 0)
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
    struct member *member = user;
    struct crew *crew = member->crew;

    lane_run(member->pipeline);
    member->has_failed = has_failed(member->pipeline);
    member->closes_since = clock_now();
    crew_wake(crew);                  /* now: a plugin may not return from its close */
    pipeline_close(member->pipeline); /* here, so that one that takes its time holds up nobody, nor the second signal */
    member->has_failed = has_failed(member->pipeline);
    pthread_mutex_lock(&crew->lock);
    member->has_ended = true; /* whoever sees that waits for nothing but the return */
    pthread_cond_broadcast(&crew->changed);
    crew_wake(crew);
    pthread_mutex_unlock(&crew->lock);
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
    log_line(FMS_LOG_INFO, pipeline->name, NULL, "starts: %s", text);
}

int crew_open(struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (pipeline_open(crew->members[i]->pipeline) == 0)
            continue;
        while (i-- > 0)
            pipeline_close(crew->members[i]->pipeline);
        return -EINVAL;
    }
    return 0;
}

/* Under the lock. 0 or a negative errno, logged. */
static int start(struct member *member)
{
    int error;

    log_start(member->pipeline);
    error = -pthread_create(&member->thread, NULL, run_thread, member);
    member->was_started = error == 0;
    if (error != 0)
        log_line(FMS_LOG_ERROR, member->pipeline->name, NULL, "cannot start a thread: %s", strerror(-error));
    return error;
}

/* Under the lock. */
static void stop_all(struct crew *crew)
{
    crew->is_stopping = true;
    for (size_t i = 0; i < crew->count; i++)
        pipeline_stop(crew->members[i]->pipeline);
}

void crew_stop(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    stop_all(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_start(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        if (start(crew->members[i]) == 0)
            continue;
        pipeline_close(crew->members[i]->pipeline);
        crew->members[i]->has_failed = true;
        crew->members[i]->has_ended = true;
        stop_all(crew);
    }
    pthread_mutex_unlock(&crew->lock);
}

/* Under the lock. */
static void join(struct member *member)
{
    if (member->was_started && !member->was_joined)
        pthread_join(member->thread, NULL);
    member->was_joined = true;
}

struct crew_state crew_look(struct crew *crew, const char *until)
{
    struct crew_state state = {0};

    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        struct member *member = crew->members[i];
        bool is_going = member->pipeline->is_going;

        state.count += !is_going;
        state.running += !member->has_ended && (!is_going || crew->is_stopping);
        state.has_failed = state.has_failed || (member->has_failed && !is_going);
        if (!member->has_ended)
            continue;
        join(member);
        state.is_until = state.is_until || (!is_going && until != NULL && strcmp(until, member->name) == 0);
    }
    pthread_mutex_unlock(&crew->lock);
    return state;
}

int crew_fd(const struct crew *crew)
{
    return crew->fd;
}

/* ------------------------------------------------------------------------------------------------------------ ending */

/* `since`: it was told to stop; 0: it was not. */
static int64_t last_moment_of(const struct member *member, int64_t since)
{
    if (member->closes_since != 0)
        return member->closes_since + CREW_PATIENCE;
    return since != 0 ? since + member->pipeline->ends_within + CREW_PATIENCE : FMS_NEVER;
}

/* Those that have ended meanwhile say so by themselves. */
int64_t crew_last_moment(struct crew *crew, int64_t since)
{
    int64_t last = -1;

    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        const struct member *member = crew->members[i];
        bool is_awaited = !member->has_ended && (!member->pipeline->is_going || crew->is_stopping);
        int64_t moment = is_awaited ? last_moment_of(member, since) : -1;

        last = moment > last ? moment : last;
    }
    pthread_mutex_unlock(&crew->lock);
    return last >= 0 ? last : FMS_NEVER;
}

/* By its end, or by a reload that it was to go by. */
static void name_unclosed(const struct member *member, bool is_end)
{
    log_line(FMS_LOG_ERROR, member->pipeline->name, NULL,
             is_end
                 ? "a plugin has not returned %lld s after %s; the process ends without it"
                 : "a plugin has not returned %lld s after %s; the pipeline is there until it has, and until the next"
                   " reload",
             (long long)(CREW_PATIENCE / FMS_SECOND),
             member->closes_since != 0 ? "its pipeline began to close" : "drain_timeout");
}

void crew_name_unclosed(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        if (!crew->members[i]->has_ended)
            name_unclosed(crew->members[i], true);
    }
    pthread_mutex_unlock(&crew->lock);
}

/* Whether records are left that should not be; it has ended. */
static bool tell_left(const struct member *member)
{
    struct pipeline_view end = {0};
    bool is_bad;

    snapshot_read(member->pipeline, &end, 0);
    is_bad = end.left > 0 && !end.is_finished;
    if (end.left > 0)
        log_line(is_bad ? FMS_LOG_WARN : FMS_LOG_INFO, member->pipeline->name, NULL,
                 "records left unsettled: %zu; a source with a durable input gets them again", end.left);
    view_forget(&end);
    return is_bad;
}

int crew_result(struct crew *crew)
{
    int result = 0;

    for (size_t i = 0; i < crew->count; i++) {
        bool is_bad = tell_left(crew->members[i]);

        if (!crew->members[i]->pipeline->is_going && (is_bad || crew->members[i]->has_failed))
            result = -EIO;
    }
    return result;
}

/* --------------------------------------------------------------------------------------------------- coming and going */

struct pipeline **crew_pipelines(struct crew *crew, size_t *count)
{
    struct pipeline **pipelines;

    pthread_mutex_lock(&crew->lock);
    pipelines = malloc((crew->count + 1) * sizeof *pipelines);
    *count = pipelines != NULL ? crew->count : 0;
    for (size_t i = 0; i < *count; i++)
        pipelines[i] = crew->members[i]->pipeline;
    pthread_mutex_unlock(&crew->lock);
    return pipelines;
}

/* Of an open one. */
static int run(struct crew *crew, struct member *member)
{
    int error;

    pthread_mutex_lock(&crew->lock);
    error = crew->is_stopping ? -ECANCELED : put(crew, member);
    if (error != 0)
        log_config(FMS_LOG_ERROR, member->pipeline->file, 0, "pipeline %s does not come: %s", member->pipeline->name,
                   error == -ECANCELED ? "the process is about to end" : strerror(-error));
    else if ((error = start(member)) != 0)
        crew->count--;
    pthread_mutex_unlock(&crew->lock);
    return error;
}

int crew_join(struct crew *crew, struct pipeline *pipeline)
{
    struct member *member = member_new(crew, pipeline);
    int error = -ENOMEM;

    if (crew->is_measured)
        pipeline_measure(pipeline);
    if (member == NULL)
        log_config(FMS_LOG_ERROR, pipeline->file, 0, "pipeline %s does not come: %s", pipeline->name, strerror(ENOMEM));
    else if ((error = pipeline_open(pipeline)) == 0 && (error = run(crew, member)) != 0)
        pipeline_close(pipeline);
    if (error != 0)
        free(member);
    return error;
}

/* Nobody looks at it, then or later. Called with the lock held, which is given up while it is freed. */
static void forget(struct crew *crew, struct member *member)
{
    size_t at = 0;

    member->number = 0;
    while (member->holders > 0)
        pthread_cond_wait(&crew->changed, &crew->lock);
    while (crew->members[at] != member)
        at++;
    memmove(&crew->members[at], &crew->members[at + 1], (--crew->count - at) * sizeof(struct member *));
    pthread_mutex_unlock(&crew->lock);
    tap_leave(member->pipeline);
    pipeline_free(member->pipeline);
    free(member);
    pthread_mutex_lock(&crew->lock);
}

/* Waits for its end, which is told by then. Called with the lock held. */
static bool wait_for(struct crew *crew, struct member *member, int64_t since)
{
    while (!member->has_ended) {
        int64_t until = last_moment_of(member, since);
        struct timespec time = clock_timespec(until);

        if (clock_now() >= until)
            return false;
        pthread_cond_timedwait(&crew->changed, &crew->lock, &time);
    }
    join(member);
    return true;
}

size_t crew_leave(struct crew *crew, struct pipeline **pipelines, size_t count)
{
    int64_t since = clock_now();
    size_t left = 0;

    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < count; i++) {
        pipelines[i]->is_going = true;
        pipeline_stop(pipelines[i]);
    }
    for (size_t i = 0; i < count; i++) {
        struct member *member = member_of(crew, pipelines[i]);

        if (wait_for(crew, member, since)) {
            tell_left(member);
            forget(crew, member);
        } else {
            name_unclosed(member, false);
            pipelines[left++] = pipelines[i];
        }
    }
    pthread_mutex_unlock(&crew->lock);
    return left;
}

static int compare(const void *first, const void *second)
{
    const struct member *a = *(struct member *const *)first, *b = *(struct member *const *)second;

    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return (a->shard > b->shard) - (a->shard < b->shard);
}

void crew_order(struct crew *crew, const struct files *files)
{
    pthread_mutex_lock(&crew->lock);
    for (size_t i = 0; i < crew->count; i++) {
        struct member *member = crew->members[i];
        const char *shard = member->pipeline->config->shard;

        member->shard = shard != NULL ? strtoll(shard, NULL, 10) : 0;
        for (member->place = 0; member->place < files->count; member->place++) {
            if (strcmp(files->paths[member->place], member->pipeline->file) == 0)
                break;
        }
    }
    if (crew->count > 0)
        qsort(crew->members, crew->count, sizeof(struct member *), compare);
    pthread_mutex_unlock(&crew->lock);
}
