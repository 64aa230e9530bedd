/* observe.c - see observe.h.
 *
 * An observation is made whole, with memory of its own for all that it tells, and never changed afterwards: so whoever reads one
 * needs no lock, however long that takes, and the thread that looks waits for nobody but the lanes, and for those not long. */
#include "observe.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "health.h"
#include "worker.h"

#define PAUSE        1             /* second */
#define PATIENCE     (50 * FMS_MS) /* for each lane */
#define MINUTE_STEPS 12u           /* of HISTORY_STEP */
#define CLOCK_JUMP   (100 * FMS_MS)

/* What is kept of a pipeline from one look to the next, until it has gone; the observer's thread's, but for `history`. */
struct kept {
    struct history history;                /* under the observer's lock */
    struct latencies minute[MINUTE_STEPS]; /* minute[next] is the oldest, once all are taken */
    size_t count, next;
    uint64_t received, delivered; /* at the end of the last step */
    double in_flight, oldest;     /* the most since then */
};

struct observer {
    const struct admin_host *host;
    int news_fd;
    pthread_t thread;
    bool has_thread;
    int64_t stepped_at;   /* who looks, alone */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool must_stop;
    struct observation *latest;

    pthread_mutex_t log_lock; /* taken after any other, the logger's too; guards what follows */
    uint64_t log_counts[4];
    struct logged lines[OBSERVED_LINES]; /* lines[next_line] is the oldest, once all are taken */
    size_t line_count, next_line;
};

/* -------------------------------------------------------------------------------------------------------- the log */

static void copy_text(char *to, size_t size, const char *from)
{
    size_t length = from != NULL ? strnlen(from, size - 1) : 0;

    memcpy(to, from != NULL ? from : "", length);
    to[length] = '\0';
}

/* On the thread that logs, which may be a lane's. */
static void take_line(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    struct observer *self = user;
    struct logged *line;

    pthread_mutex_lock(&self->log_lock);
    self->log_counts[level]++;
    if (level <= FMS_LOG_WARN) {
        line = &self->lines[self->next_line];
        line->at = self->host->realtime();
        line->level = level;
        copy_text(line->pipeline, sizeof line->pipeline, pipeline);
        copy_text(line->stage, sizeof line->stage, stage);
        copy_text(line->text, sizeof line->text, text);
        self->next_line = (self->next_line + 1) % OBSERVED_LINES;
        self->line_count += self->line_count < OBSERVED_LINES;
    }
    pthread_mutex_unlock(&self->log_lock);
}

static void copy_lines(struct observer *self, struct observation *to)
{
    pthread_mutex_lock(&self->log_lock);
    memcpy(to->log_counts, self->log_counts, sizeof to->log_counts);
    to->line_count = self->line_count;
    for (size_t i = 0; i < self->line_count; i++)
        to->lines[i] = self->lines[(self->next_line + OBSERVED_LINES - self->line_count + i) % OBSERVED_LINES];
    pthread_mutex_unlock(&self->log_lock);
}

/* ------------------------------------------------------------------------------------------------------ histograms */

/* 0 or -ENOMEM. */
static int latencies_of(const struct pipeline_view *view, struct latencies *to)
{
    struct stage_latencies *stages = realloc(to->stages, (view->stage_count + 1) * sizeof *stages);

    if (stages == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < view->stage_count; i++) {
        const struct stage_view *stage = &view->stages[i];

        stages[i] = (struct stage_latencies){stage->name, stage->table, stage->queue, stage->far_end};
    }
    *to = (struct latencies){view->transform, view->total, view->age, stages, view->stage_count};
    return 0;
}

static bool is_of(const struct stage_latencies *latencies, const struct stage_view *stage)
{
    return latencies->table == stage->table && strcmp(latencies->name, stage->name) == 0;
}

/* `earlier` in the order of these stages, with zeros for those that are new; `to` has memory for them. */
static void earlier_of(const struct pipeline_view *view, const struct latencies *earlier, struct latencies *to)
{
    struct stage_latencies *stages = to->stages;

    for (size_t i = 0; i < view->stage_count; i++) {
        size_t was = i;

        if (was >= earlier->count || !is_of(&earlier->stages[was], &view->stages[i])) {
            for (was = 0; was < earlier->count && !is_of(&earlier->stages[was], &view->stages[i]); was++)
                continue;
        }
        if (was < earlier->count)
            stages[i] = earlier->stages[was];
    }
    *to = (struct latencies){earlier->transform, earlier->total, earlier->age, stages, view->stage_count};
}

/* ------------------------------------------------------------------------------------------------- one observation */

static void forget(const struct admin_host *host, struct observed *observed)
{
    host->forget(&observed->view);
    free(observed->rates);
    free(observed->earlier.stages);
    free(observed->health.stages);
}

void observation_unref(struct observation *observation)
{
    if (observation == NULL || atomic_fetch_sub(&observation->references, 1) > 1)
        return;
    for (size_t i = 0; i < observation->count; i++)
        forget(observation->host, &observation->pipelines[i]);
    free(observation->pipelines);
    free(observation);
}

size_t stage_before(const struct pipeline_view *before, const struct stage_view *stage, size_t i)
{
    size_t was = i;

    if (was < before->stage_count && before->stages[was].table == stage->table &&
        strcmp(before->stages[was].name, stage->name) == 0)
        return was;
    for (was = 0; was < before->stage_count; was++) {
        if (before->stages[was].table == stage->table && strcmp(before->stages[was].name, stage->name) == 0)
            break;
    }
    return was;
}

/* What counts less than before has begun anew. */
static double rate_of(uint64_t now, uint64_t before, int64_t time)
{
    return time > 0 && now > before ? (double)(now - before) * (double)FMS_SECOND / (double)time : 0;
}

/* From the lane's own times; a lane that has not answered has moved nothing that we know of. */
static void fill_rates(struct observed *now, const struct observed *before)
{
    const struct pipeline_view *view = &now->view, *old = &before->view;
    int64_t time = view->shown_at - old->shown_at;

    now->received_rate = rate_of(view->counts.emitted, old->counts.emitted, time);
    now->delivered_rate = rate_of(view->counts.delivered, old->counts.delivered, time);
    now->rejected_rate = rate_of(view->counts.rejected, old->counts.rejected, time);
    for (size_t i = 0; i < view->stage_count; i++) {
        const struct stage_view *stage = &view->stages[i], *was = &old->stages[stage_before(old, stage, i)];

        if (was == old->stages + old->stage_count)
            continue;
        now->rates[i] = (struct stage_rates){
            rate_of(stage->records_in, was->records_in, time), rate_of(stage->records_out, was->records_out, time),
            rate_of(stage->bytes_in, was->bytes_in, time), rate_of(stage->bytes_out, was->bytes_out, time)};
    }
}

/* 0 or -ENOMEM. `before`: NULL at first. */
static int judge(struct observer *self, const struct observed *before, struct observed *now,
                 const struct observation *whole)
{
    const struct kept *kept = now->kept;
    const struct latencies *earlier = kept->count == MINUTE_STEPS ? &kept->minute[kept->next] : NULL;

    now->answered_at = now->has_answered ? self->host->now() : before != NULL ? before->answered_at : 0;
    if (now->view.started_at != 0 && now->view.shown_at > now->answered_at)
        now->answered_at = now->view.shown_at; /* late, but it has */
    now->rates = calloc(now->view.stage_count + 1, sizeof *now->rates);
    now->health.stages = calloc(now->view.stage_count + 1, sizeof *now->health.stages);
    now->earlier.stages = calloc(now->view.stage_count + 1, sizeof *now->earlier.stages);
    if (now->rates == NULL || now->health.stages == NULL || now->earlier.stages == NULL)
        return -ENOMEM;
    if (earlier != NULL)
        earlier_of(&now->view, earlier, &now->earlier);
    if (before != NULL)
        fill_rates(now, before);
    health_judge(now, before, whole->at, whole->realtime);
    return 0;
}

static const struct observed *find_observed(const struct observation *all, uint64_t number)
{
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        if (all->pipelines[i].number == number)
            return &all->pipelines[i];
    }
    return NULL;
}

/* 0; -ENOENT: it has gone; or -ENOMEM. */
static int observe(struct observer *self, uint64_t number, const struct observed *before, struct observed *now,
                   const struct observation *whole)
{
    int answer = self->host->look(self->host->process, number, &now->view, PATIENCE);

    if (answer < 0)
        return answer;
    now->number = number;
    now->has_answered = answer > 0;
    now->kept = before != NULL ? before->kept : calloc(1, sizeof *now->kept);
    return now->kept != NULL ? judge(self, before, now, whole) : -ENOMEM;
}

static void kept_free(struct kept *kept)
{
    for (size_t i = 0; kept != NULL && i < MINUTE_STEPS; i++)
        free(kept->minute[i].stages);
    free(kept);
}

/* What is kept of those that are no more among the others. */
static void forget_gone(const struct observation *all, const struct observation *others)
{
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        if (find_observed(others, all->pipelines[i].number) == NULL)
            kept_free(all->pipelines[i].kept);
    }
}

static struct observation *observation_new(size_t count)
{
    struct observation *now = calloc(1, sizeof *now);

    if (now == NULL)
        return NULL;
    now->pipelines = calloc(count + 1, sizeof *now->pipelines);
    if (now->pipelines != NULL)
        return now;
    free(now);
    return NULL;
}

/* When the process began: as it was seen first; or, where the clock has jumped since, as it would have been seen. */
static int64_t began(const struct observation *now, const struct observation *before)
{
    int64_t jump;

    if (before == NULL)
        return now->realtime;
    jump = (now->realtime - now->at) - (before->realtime - before->at);
    return before->started + (jump > CLOCK_JUMP || jump < -CLOCK_JUMP ? jump : 0);
}

/* NULL: out of memory. */
static struct observation *observe_all(struct observer *self, const struct observation *before)
{
    size_t count = 0;
    uint64_t *numbers = self->host->pipelines(self->host->process, &count);
    struct observation *now = numbers != NULL ? observation_new(count) : NULL;
    int error = 0;

    if (now == NULL) {
        free(numbers);
        return NULL;
    }
    now->host = self->host;
    now->realtime = self->host->realtime();
    now->at = self->host->now();
    now->started = began(now, before);
    now->references = 1;
    for (size_t i = 0; i < count && error != -ENOMEM; i++) {
        error = observe(self, numbers[i], find_observed(before, numbers[i]), &now->pipelines[now->count], now);
        if (error == 0)
            now->count++;
    }
    if (error == -ENOMEM)
        now->count++;
    free(numbers);
    copy_lines(self, now);
    now->reload = self->host->reload_look();
    if (error != -ENOMEM)
        return now;
    forget_gone(now, before);
    observation_unref(now);
    return NULL;
}

/* --------------------------------------------------------------------------------------------------------- history */

static void note_most(struct kept *kept, const struct pipeline_view *view, int64_t at)
{
    bool holds = view->oldest_at > 0 && view->oldest_at < at;

    kept->in_flight = fmax(kept->in_flight, (double)view->in_flight);
    kept->oldest = fmax(kept->oldest, holds ? (double)(at - view->oldest_at) / (double)FMS_SECOND : 0);
}

static void step(struct kept *kept, const struct observed *now, int64_t realtime, int64_t time)
{
    const struct pipeline_view *view = &now->view;
    const struct latencies *last = kept->count > 0 ? &kept->minute[(kept->next + MINUTE_STEPS - 1) % MINUTE_STEPS]
                                                   : NULL;
    struct history *history = &kept->history;

    history->points[history->next] = (struct history_point){
        .time = realtime,
        .received = rate_of(view->counts.emitted, kept->received, time),
        .delivered = rate_of(view->counts.delivered, kept->delivered, time),
        .in_flight = kept->in_flight,
        .oldest = kept->oldest,
        .p99 = histogram_quantile(&view->total, last != NULL ? &last->total : NULL, 0.99),
    };
    history->next = (history->next + 1) % HISTORY_STEPS;
    history->count += history->count < HISTORY_STEPS;
    kept->in_flight = kept->oldest = 0;
    kept->received = view->counts.emitted;
    kept->delivered = view->counts.delivered;
    if (latencies_of(view, &kept->minute[kept->next]) != 0)
        return;
    kept->next = (kept->next + 1) % MINUTE_STEPS;
    kept->count += kept->count < MINUTE_STEPS;
}

/* Called with the lock held. */
static void step_all(struct observer *self)
{
    const struct observation *now = self->latest;

    for (size_t i = 0; i < now->count; i++)
        note_most(now->pipelines[i].kept, &now->pipelines[i].view, now->at);
    if (now->at - self->stepped_at < HISTORY_STEP)
        return;
    for (size_t i = 0; i < now->count; i++)
        step(now->pipelines[i].kept, &now->pipelines[i], now->realtime, now->at - self->stepped_at);
    self->stepped_at = now->at;
}

bool observer_history(struct observer *self, const char *pipeline, struct history *to)
{
    bool is_found = false;

    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->latest->count && !is_found; i++) {
        is_found = strcmp(self->latest->pipelines[i].view.name, pipeline) == 0;
        if (is_found)
            *to = self->latest->pipelines[i].kept->history;
    }
    pthread_mutex_unlock(&self->lock);
    return is_found;
}

/* ------------------------------------------------------------------------------------------------------ the thread */

struct observation *observer_latest(struct observer *self)
{
    struct observation *latest;

    pthread_mutex_lock(&self->lock);
    latest = self->latest;
    atomic_fetch_add(&latest->references, 1);
    pthread_mutex_unlock(&self->lock);
    return latest;
}

/* Without memory, what was seen last stays. */
void observer_look(struct observer *self)
{
    struct observation *before = self->latest, *now = observe_all(self, before);
    uint64_t one = 1;

    if (now == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    self->latest = now;
    step_all(self);
    forget_gone(before, now);
    pthread_mutex_unlock(&self->lock);
    observation_unref(before);
    if (write(self->news_fd, &one, sizeof one) < 0)
        abort(); /* an eventfd that cannot count to 2^64 */
}

/* Whether to look again, once it is time. */
static bool wait_until(struct observer *self, const struct timespec *time)
{
    bool must_stop;

    pthread_mutex_lock(&self->lock);
    while (!self->must_stop && pthread_cond_timedwait(&self->changed, &self->lock, time) != ETIMEDOUT)
        continue;
    must_stop = self->must_stop;
    pthread_mutex_unlock(&self->lock);
    return !must_stop;
}

static struct timespec next_look(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += PAUSE;
    return time;
}

static void *run(void *user)
{
    struct observer *self = user;
    struct timespec next = next_look();

    worker_give_way();
    while (wait_until(self, &next)) {
        next = next_look();
        observer_look(self);
    }
    return NULL;
}

int observer_start(struct observer *self)
{
    int error = worker_start(&self->thread, run, self);

    self->has_thread = error == 0;
    return -error;
}

static void init(struct observer *self, const struct admin_host *host, int news_fd)
{
    pthread_condattr_t monotonic;

    *self = (struct observer){.host = host, .news_fd = news_fd};
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->log_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    host->observe_log(take_line, self);
}

struct observer *observer_new(const struct admin_host *host, int news_fd)
{
    struct observer *self = malloc(sizeof *self);

    if (self == NULL)
        return NULL;
    init(self, host, news_fd);
    self->latest = observe_all(self, NULL);
    if (self->latest == NULL) {
        observer_free(self);
        return NULL;
    }
    self->stepped_at = self->latest->at;
    return self;
}

static void end_thread(struct observer *self)
{
    pthread_mutex_lock(&self->lock);
    self->must_stop = true;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
}

void observer_free(struct observer *self)
{
    if (self->has_thread)
        end_thread(self);
    self->host->observe_log(NULL, NULL);
    forget_gone(self->latest, NULL);
    observation_unref(self->latest);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->log_lock);
    free(self);
}
