/* reload.c - see reload.h. */
#include "reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "plan.h"
#include "thread.h"

#define REQUESTS 8u           /* at once: one is done, the others wait */
#define UNREAD   (256u << 10) /* bytes that are kept for who reads; what is more is lost to him */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* held by the reload that is under way; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct pipeline *const *pipelines;
static size_t pipeline_count; /* 0: there is nothing to reload, or no more */
static void (*teller)(void *user, bool is_over);
static void *teller_user;
static unsigned requests; /* threads that are to reload, or do */
static struct reload_view view = {.is_last_good = true};

void reload_begin(struct pipeline *const *all, size_t count, void (*tell)(void *user, bool is_over), void *user)
{
    pthread_mutex_lock(&lock);
    teller = tell;
    teller_user = user;
    pipelines = all;
    pipeline_count = count;
    pthread_mutex_unlock(&lock);
}

void reload_end(void)
{
    pthread_mutex_lock(&lock);
    pipeline_count = 0;
    while (requests > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&turn); /* of who has asked without a thread of its own */
    pthread_mutex_unlock(&turn);
}

/* -------------------------------------------------------------------------------------------------------------- doing */

/* Where no plan could be made: whether that takes a new start, or may pass by itself. */
static bool is_file_good(int error)
{
    return error == ENOTSUP || error == ENOMEM || error == EMFILE || error == ENFILE;
}

/* One for each pipeline, or none: then nothing changes, for a file is bad, or takes a new start. */
static struct plan **make_plans(size_t count, enum reload_result *result)
{
    struct plan **plans = calloc(count, sizeof *plans);
    bool is_good = plans != NULL;

    *result = is_good ? RELOAD_DONE : RELOAD_KEPT;
    for (size_t i = 0; i < count && plans != NULL; i++) {
        plans[i] = plan_make(pipelines[i]);
        if (plans[i] == NULL && *result != RELOAD_BAD)
            *result = is_file_good(errno) ? RELOAD_KEPT : RELOAD_BAD;
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
static size_t print_plans(struct plan *const *plans, size_t count, bool is_told, FILE *out)
{
    char *text = NULL;
    size_t size = 0, n = 0;
    FILE *to = out != NULL ? out : open_memstream(&text, &size);

    for (size_t i = 0; i < count && to != NULL; i++)
        n += plan_print(plans[i], to);
    if (n == 0 && to != NULL && is_told)
        fputs("nothing has changed\n", to);
    if (out != NULL) {
        fflush(out); /* before it is done, which may take a while */
    } else if (to != NULL && fclose(to) == 0) {
        log_lines(text);
        free(text);
    }
    return n;
}

static enum reload_result run(bool is_dry, size_t count, bool *is_told, FILE *out)
{
    enum reload_result result;
    struct plan **plans = make_plans(count, &result);

    size_t changes = plans != NULL ? print_plans(plans, count, *is_told, out) : 0;

    *is_told = *is_told || changes > 0;
    if (changes > 0 && !is_dry)
        result = apply(plans, count);
    for (size_t i = 0; i < count && plans != NULL; i++)
        plan_free(plans[i]);
    free(plans);
    return result;
}

static void note(enum reload_result result, bool is_told)
{
    pthread_mutex_lock(&lock);
    view.results[result]++;
    view.is_last_good = result == RELOAD_DONE;
    view.last_at = clock_realtime();
    pthread_mutex_unlock(&lock);
    if (result == RELOAD_DONE)
        log_line(is_told ? FMS_LOG_INFO : FMS_LOG_DEBUG, NULL, NULL, "reloaded");
    else /* as of a file, for that is not held back where it comes again */
        log_config(FMS_LOG_ERROR, "reload", 0, "not reloaded: %s; see above",
                   result == RELOAD_BAD ? "a file is bad, and all goes on as it was" : "what failed goes on as it was");
}

static enum reload_result take_turn(bool is_dry, bool is_told, FILE *out)
{
    enum reload_result result = RELOAD_KEPT;
    size_t count;

    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
    count = pipeline_count;
    pthread_mutex_unlock(&lock);
    log_capture(out);
    if (count == 0) {
        log_config(FMS_LOG_ERROR, "reload", 0, "not reloaded: the process is about to end");
    } else {
        if (!is_dry && teller != NULL)
            teller(teller_user, false);
        result = run(is_dry, count, &is_told, out);
        if (!is_dry)
            note(result, is_told);
        if (!is_dry && teller != NULL)
            teller(teller_user, true);
    }
    log_capture(NULL);
    pthread_mutex_unlock(&turn);
    return result;
}

enum reload_result reload_run(bool is_dry, FILE *out)
{
    return take_turn(is_dry, true, out);
}

/* ------------------------------------------------------------------------------------------------------------ requests */

/* One that somebody reads, until both he and the thread have done with it. */
struct reloading {
    bool is_dry;
    FILE *out; /* the thread's own; it ends in what follows, which `lock` guards */
    char *text;
    size_t size, capacity;
    bool is_over, is_left; /* by its thread; by who read */
    enum reload_result result;
};

/* Under `lock`. */
static void release(struct reloading *reloading)
{
    if (!reloading->is_over || !reloading->is_left)
        return;
    free(reloading->text);
    free(reloading);
}

/* Whether there is room for so many bytes more. */
static bool make_room(struct reloading *reloading, size_t n)
{
    size_t needed = reloading->size + n, capacity = needed > 2 * reloading->capacity ? needed : 2 * reloading->capacity;
    char *grown;

    if (reloading->is_left || needed > UNREAD)
        return false;
    if (needed <= reloading->capacity)
        return true;
    grown = realloc(reloading->text, capacity);
    if (grown == NULL)
        return false;
    reloading->text = grown;
    reloading->capacity = capacity;
    return true;
}

/* As fopencookie(3) has it. */
static ssize_t take_text(void *user, const char *text, size_t n)
{
    struct reloading *reloading = user;

    pthread_mutex_lock(&lock);
    if (make_room(reloading, n)) {
        memcpy(reloading->text + reloading->size, text, n);
        reloading->size += n;
    }
    pthread_mutex_unlock(&lock);
    return (ssize_t)n;
}

static void end_request(void)
{
    requests--;
    pthread_cond_broadcast(&changed);
}

/* Nobody reads, and the log tells. `user`: whether also that there was nothing to do. */
static void *run_alone(void *user)
{
    take_turn(false, user != NULL, NULL);
    pthread_mutex_lock(&lock);
    end_request();
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *run_read(void *user)
{
    struct reloading *reloading = user;
    enum reload_result result = take_turn(reloading->is_dry, true, reloading->out);

    fclose(reloading->out);
    pthread_mutex_lock(&lock);
    reloading->result = result;
    reloading->is_over = true;
    release(reloading);
    end_request();
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* 0 or a negative errno, as reload_start. */
static int request(void *(*work)(void *), void *user)
{
    pthread_t thread;
    int error;

    pthread_mutex_lock(&lock);
    error = pipeline_count == 0 ? -ESHUTDOWN : requests == REQUESTS ? -EBUSY : 0;
    if (error == 0)
        error = -thread_start(&thread, work, user);
    if (error == 0) {
        pthread_detach(thread);
        requests++;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

void reload_request(bool is_told)
{
    int error = request(run_alone, is_told ? &view : NULL);

    if (error != 0 && (is_told || error != -ESHUTDOWN))
        log_line(FMS_LOG_ERROR, NULL, NULL, "not reloaded: %s",
                 error == -EBUSY       ? "as many wait for theirs as may"
                 : error == -ESHUTDOWN ? "the process is about to begin, or to end"
                                       : strerror(-error));
}

int reload_start(bool is_dry, struct reloading **result)
{
    const cookie_io_functions_t functions = {.write = take_text};
    struct reloading *reloading = calloc(1, sizeof *reloading);
    int error;

    if (reloading == NULL)
        return -ENOMEM;
    reloading->is_dry = is_dry;
    reloading->out = fopencookie(reloading, "w", functions);
    error = reloading->out != NULL ? 0 : -ENOMEM;
    if (error == 0) {
        setvbuf(reloading->out, NULL, _IOLBF, BUFSIZ);
        error = request(run_read, reloading);
        if (error != 0)
            fclose(reloading->out);
    }
    if (error != 0)
        free(reloading);
    else
        *result = reloading;
    return error;
}

/* Under `lock`. The first line, or what there is at the end; NULL: none. */
static char *cut_line(struct reloading *reloading)
{
    char *end = reloading->size > 0 ? memchr(reloading->text, '\n', reloading->size) : NULL, *line;
    size_t n = end != NULL ? (size_t)(end - reloading->text) : reloading->size, cut = end != NULL ? n + 1 : n;

    if (end == NULL && (!reloading->is_over || reloading->size == 0))
        return NULL;
    line = strndup(reloading->text, n);
    reloading->size -= cut;
    memmove(reloading->text, reloading->text + cut, reloading->size);
    return line;
}

int reload_read(struct reloading *reloading, char **line, enum reload_result *result)
{
    bool is_over;

    pthread_mutex_lock(&lock);
    *line = cut_line(reloading);
    *result = reloading->result;
    is_over = reloading->is_over;
    pthread_mutex_unlock(&lock);
    return *line != NULL ? 1 : is_over ? -ENODATA : 0;
}

void reload_close(struct reloading *reloading)
{
    pthread_mutex_lock(&lock);
    reloading->is_left = true;
    release(reloading);
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
