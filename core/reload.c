/* reload.c - see reload.h. */
#include "reload.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "plan.h"
#include "thread.h"

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* held by the reload that is under way; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct pipeline *const *pipelines;
static size_t pipeline_count; /* 0: there is nothing to reload, or no more */
static unsigned requests;     /* threads that are to reload, or do */
static struct reload_view view = {.is_last_good = true};

void reload_begin(struct pipeline *const *all, size_t count)
{
    pthread_mutex_lock(&lock);
    pipelines = all;
    pipeline_count = count;
    pthread_mutex_unlock(&lock);
}

void reload_end(void)
{
    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
    pipeline_count = 0;
    while (requests > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&turn);
}

/* -------------------------------------------------------------------------------------------------------------- doing */

/* One for each pipeline, or none: then a file is bad. */
static struct plan **make_plans(size_t count)
{
    struct plan **plans = calloc(count, sizeof *plans);
    bool is_good = plans != NULL;

    for (size_t i = 0; i < count && plans != NULL; i++) {
        plans[i] = plan_make(pipelines[i]);
        is_good = is_good && plans[i] != NULL;
    }
    for (size_t i = 0; i < count && !is_good && plans != NULL; i++)
        plan_free(plans[i]);
    if (is_good)
        return plans;
    free(plans);
    return NULL;
}

static enum reload_result apply(struct plan *const *plans, size_t count)
{
    enum reload_result result = RELOAD_DONE;

    for (size_t i = 0; i < count; i++) {
        if (plan_apply(plans[i]) != 0)
            result = RELOAD_KEPT;
    }
    return result;
}

/* A line each. */
static void log_lines(char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        log_line(FMS_LOG_INFO, NULL, NULL, "reload: %s", line);
}

/* What is planned, to `out`, or to the log; how many changes. */
static size_t print_plans(struct plan *const *plans, size_t count, FILE *out)
{
    char *text = NULL;
    size_t size = 0, n = 0;
    FILE *to = out != NULL ? out : open_memstream(&text, &size);

    for (size_t i = 0; i < count && to != NULL; i++)
        n += plan_print(plans[i], to);
    if (n == 0 && to != NULL)
        fputs("nothing has changed\n", to);
    if (out != NULL) {
        fflush(out); /* before it is done, which may take a while */
    } else if (to != NULL && fclose(to) == 0) {
        log_lines(text);
        free(text);
    }
    return n;
}

static enum reload_result run(bool is_dry, size_t count, FILE *out)
{
    struct plan **plans = make_plans(count);
    enum reload_result result = plans != NULL ? RELOAD_DONE : RELOAD_BAD;

    if (plans != NULL && print_plans(plans, count, out) > 0 && !is_dry)
        result = apply(plans, count);
    for (size_t i = 0; i < count && plans != NULL; i++)
        plan_free(plans[i]);
    free(plans);
    return result;
}

static void note(enum reload_result result)
{
    pthread_mutex_lock(&lock);
    view.results[result]++;
    view.is_last_good = result == RELOAD_DONE;
    view.last_at = clock_realtime();
    pthread_mutex_unlock(&lock);
    if (result == RELOAD_DONE)
        log_line(FMS_LOG_INFO, NULL, NULL, "reloaded");
    else /* as of a file, for that is not held back where it comes again */
        log_config(FMS_LOG_ERROR, "reload", 0, "not done: %s; see above",
                   result == RELOAD_BAD ? "a file is bad, and all goes on as it was" : "what failed goes on as it was");
}

enum reload_result reload_run(bool is_dry, FILE *out)
{
    enum reload_result result = RELOAD_KEPT;
    size_t count;

    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
    count = pipeline_count;
    pthread_mutex_unlock(&lock);
    log_capture(out);
    if (count == 0) {
        log_config(FMS_LOG_ERROR, "reload", 0, "not done: the process is about to end");
    } else {
        result = run(is_dry, count, out);
        if (!is_dry)
            note(result);
    }
    log_capture(NULL);
    pthread_mutex_unlock(&turn);
    return result;
}

/* ------------------------------------------------------------------------------------------------------------ requests */

static void *run_request(void *user)
{
    (void)user;
    reload_run(false, NULL);
    pthread_mutex_lock(&lock);
    requests--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

void reload_request(void)
{
    pthread_t thread;

    pthread_mutex_lock(&lock);
    requests++;
    if (thread_start(&thread, run_request, NULL) == 0) {
        pthread_detach(thread);
    } else {
        requests--;
        log_config(FMS_LOG_ERROR, "reload", 0, "not done: cannot start a thread");
    }
    pthread_mutex_unlock(&lock);
}

struct reload_view reload_look(void)
{
    struct reload_view now;

    pthread_mutex_lock(&lock);
    now = view;
    pthread_mutex_unlock(&lock);
    return now;
}
