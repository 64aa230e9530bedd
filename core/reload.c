/* reload.c - see reload.h. */
#include "reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assemble.h"
#include "change.h"
#include "clock.h"
#include "config.h"
#include "environment.h"
#include "log.h"
#include "plan.h"
#include "thread.h"

#define REQUESTS 8u           /* at once: one is done, the others wait */
#define UNREAD   (256u << 10) /* bytes that are kept for who reads; what is more is lost to him */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* held by the reload that is under way; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct crew *crew; /* NULL: there is nothing to reload yet, or no more */
static char *const *words;
static size_t word_count;
static void (*teller)(void *user, bool is_over);
static void *teller_user;
static unsigned requests; /* reloads that are to be done on a thread of their own, or are */
static struct request {
    void *(*work)(void *);
    void *user;
} queue[REQUESTS]; /* of these, those that wait for the thread that serves, */
static size_t queued;
static bool is_served; /* if there is one */
static bool is_wanted; /* asked for, by who is not told, before there was anything to reload */
static struct reload_view view = {.is_last_good = true};

void reload_begin(struct crew *all, char *const *named, size_t count, void (*tell)(void *user, bool is_over),
                  void *user)
{
    bool was_wanted;

    pthread_mutex_lock(&lock);
    teller = tell;
    teller_user = user;
    crew = all;
    words = named;
    word_count = count;
    was_wanted = is_wanted;
    is_wanted = false;
    pthread_mutex_unlock(&lock);
    if (was_wanted)
        reload_request(false);
}

void reload_end(void)
{
    pthread_mutex_lock(&lock);
    crew = NULL;
    while (requests > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&turn); /* of who has asked without a thread of its own */
    pthread_mutex_unlock(&turn);
}

/* ---------------------------------------------------------------------------------------------------- what is asked for */

/* A pipeline of the process. */
struct part {
    struct pipeline *pipeline;
    bool stays;        /* a file asks for it */
    struct plan *plan; /* of one that stays */
    size_t changes;    /* that this asks for */
    bool was_tried;    /* it was applied, well or not */
    bool is_behind;    /* it was to go, or to be changed, and is still as it was */
};

struct work {
    struct files files;
    const char *file; /* that is being read */
    struct part *parts;
    size_t count;
    struct pipelines coming;
    enum reload_result result;
};

/* What is wrong with a file, or may pass by itself. */
static void fall(struct work *work, int error)
{
    bool is_good = error == -ENOTSUP || error == -ENOMEM || error == -EMFILE || error == -ENFILE;

    if (work->result != RELOAD_BAD)
        work->result = is_good ? RELOAD_KEPT : RELOAD_BAD;
}

/* As pipelines_run; one that should have gone is none. */
static bool runs(void *user, const char *shard)
{
    struct work *work = user;

    for (size_t i = 0; i < work->count; i++) {
        const struct pipeline *pipeline = work->parts[i].pipeline;
        const char *its = pipeline->config->shard;

        if (pipeline->is_going || strcmp(pipeline->file, work->file) != 0 || (its == NULL) != (shard == NULL) ||
            (its != NULL && strcmp(its, shard) != 0))
            continue;
        work->parts[i].stays = true;
        return true;
    }
    return false;
}

/* What the file that is being read said to those who run; NULL: nobody runs by it. */
static const struct config *what_was(const struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        if (strcmp(work->parts[i].pipeline->file, work->file) == 0)
            return work->parts[i].pipeline->config;
    }
    return NULL;
}

/* Of those that stay, file by file: what one shard finds bad another need not say again. */
static void make_plans(struct work *work)
{
    const char *bad = NULL;

    for (size_t i = 0; i < work->count; i++) {
        struct part *part = &work->parts[i];

        if (!part->stays || (bad != NULL && strcmp(part->pipeline->file, bad) == 0))
            continue;
        part->plan = plan_make(part->pipeline);
        if (part->plan != NULL)
            continue;
        bad = part->pipeline->file;
        fall(work, -errno);
    }
}

/* What will be there, together. */
static int check_together(const struct work *work)
{
    struct pipeline **all = calloc(work->count + work->coming.count + 1, sizeof(struct pipeline *));
    size_t n = 0;
    int error = all != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < work->count && error == 0; i++) {
        if (work->parts[i].plan != NULL)
            all[n++] = plan_next(work->parts[i].plan);
    }
    for (size_t i = 0; i < work->coming.count && error == 0; i++)
        all[n++] = work->coming.items[i];
    if (error == 0)
        error = pipeline_check_together(all, n);
    free(all);
    return error;
}

static int gather_parts(struct work *work, struct crew *all)
{
    struct pipeline **pipelines = crew_pipelines(all, &work->count);

    work->parts = calloc(work->count + 1, sizeof *work->parts);
    for (size_t i = 0; i < work->count && work->parts != NULL; i++)
        work->parts[i].pipeline = pipelines[i];
    free(pipelines);
    return pipelines != NULL && work->parts != NULL ? 0 : -ENOMEM;
}

/* How many names at the ends of two paths are the same. */
static size_t common_names(const char *a, const char *b)
{
    size_t i = strlen(a), k = strlen(b), n = 0;

    while (i > 0 && k > 0 && a[i - 1] == b[k - 1]) {
        i--;
        k--;
        n += a[i] == '/';
    }
    return n + ((i == 0 || a[i - 1] == '/') && (k == 0 || b[k - 1] == '/'));
}

/* The first that has so many names in common with `name`, but for `other`; NULL: there is none. */
static const char *find_file(const char *name, size_t names, const struct files *files, const char *other)
{
    for (size_t i = 0; i < files->count; i++) {
        const char *file = files->paths[i];

        if (common_names(name, file) >= names && (other == NULL || strcmp(file, other) != 0))
            return file;
    }
    return NULL;
}

/* The file in whose place one of that name is put: whose path ends most as it does, or the only one. NULL: there is none such, logged. */
static const char *place_of(const char *name, const struct files *files)
{
    const char *first, *other;
    size_t names = 0;

    for (size_t i = 0; i < files->count; i++) {
        size_t n = common_names(name, files->paths[i]);

        names = n > names ? n : names;
    }
    first = find_file(name, names, files, NULL);
    other = first != NULL ? find_file(name, names, files, first) : NULL;
    if (first == NULL)
        log_config(FMS_LOG_ERROR, name, 0, "the process runs no file that it could stand for");
    if (other == NULL)
        return first;
    log_config(FMS_LOG_ERROR, name, 0,
               names == 0
                   ? "the process runs several files, as %s and %s, and none of this name: name it as the one that it"
                     " is to stand for"
                   : "it may stand for %s, or for %s: give a path that ends as one of these does",
               first, other);
    return NULL;
}

/* All files as they are, or would be with the one that is given. 0, or an error of its own kind, not of a file. */
static int list_files(struct work *work, const struct reload_wish *wish)
{
    const char *place;
    int error = files_list(&work->files, words, word_count);

    if (error != 0 || wish->name == NULL || wish->is_environment)
        return error;
    place = place_of(wish->name, &work->files);
    if (place == NULL)
        return -ENOTSUP;
    config_stand_in(place, wish->name, wish->text, wish->size);
    return 0;
}

static void read_files(struct work *work)
{
    for (size_t i = 0; i < work->files.count; i++) {
        int failure;

        work->file = work->files.paths[i];
        failure = pipelines_load(&work->coming, work->file, what_was(work), runs, work);
        if (failure != 0)
            fall(work, failure);
    }
    make_plans(work);
}

/* Is read, or given, and in use from now on; *was before, to be freed or to be used again. 0 or a negative errno, logged. */
static int take_environment(const struct reload_wish *wish, struct environment **was)
{
    struct environment *is;
    int error = wish->is_environment ? environment_parse(wish->name, wish->text, wish->size, &is)
                                     : environment_read(&is);

    if (error != 0)
        return error;
    *was = environment_in_use();
    environment_use(is);
    return 0;
}

/* An environment that no plan is made for, or that is not to stay, goes. */
static void read_and_check(struct work *work, const struct reload_wish *wish, struct environment *was)
{
    int error;

    read_files(work);
    if (work->result == RELOAD_DONE && (error = check_together(work)) != 0)
        fall(work, error);
    if (work->result != RELOAD_DONE || wish->is_dry)
        environment_use(was);
    else
        environment_free(was);
}

/* Reads and checks all, and changes nothing; `result`: whether there is something to do. */
static void prepare(struct work *work, const struct reload_wish *wish, struct crew *all)
{
    struct environment *was;
    int error = gather_parts(work, all);

    if (error == 0)
        error = list_files(work, wish);
    if (error == 0)
        error = take_environment(wish, &was);
    if (error == 0)
        read_and_check(work, wish, was);
    else
        fall(work, error);
    config_stand_in(NULL, NULL, NULL, 0);
}

static void forget(struct work *work)
{
    for (size_t i = 0; i < work->count && work->parts != NULL; i++)
        plan_free(work->parts[i].plan);
    pipelines_free(&work->coming);
    files_free(&work->files);
    free(work->parts);
}

/* ------------------------------------------------------------------------------------------------------- what changes */

/* What one has that is not yet what it is to be, or could not be made so; NULL: there is none that has what `pipeline` needs. Two that are to
 * have it both are to. */
static const struct part *rival_of(const struct work *work, const struct pipeline *pipeline)
{
    for (size_t i = 0; i < work->count; i++) {
        const struct part *other = &work->parts[i];

        if (other->is_behind && (other->plan == NULL || plan_next(other->plan) != pipeline) &&
            pipeline_shares(pipeline, other->pipeline) &&
            (other->plan == NULL || !pipeline_shares(pipeline, plan_next(other->plan))))
            return other;
    }
    return NULL;
}

static void tell_rival(const char *name, const char *what, const struct part *rival)
{
    log_line(FMS_LOG_ERROR, name, NULL,
             "it does not %s: pipeline %s, which was to %s, still has its name, or its client id or the like", what,
             rival->pipeline->name, rival->stays ? "change" : "go");
}

/* What goes is freed, and not looked at any more. 0 or -ENOMEM. */
static int go(struct work *work, struct crew *all)
{
    struct pipeline **going = calloc(work->count + 1, sizeof(struct pipeline *));
    size_t n = 0, left;

    if (going == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < work->count; i++) {
        work->parts[i].is_behind = work->parts[i].changes > 0;
        if (!work->parts[i].stays)
            going[n++] = work->parts[i].pipeline;
    }
    left = crew_leave(all, going, n);
    for (size_t i = 0; i < work->count; i++) {
        for (size_t k = 0; k < left; k++)
            work->parts[i].is_behind = work->parts[i].is_behind || work->parts[i].pipeline == going[k];
    }
    if (left > 0)
        work->result = RELOAD_KEPT;
    free(going);
    return 0;
}

static void change_one(struct work *work, struct part *part)
{
    int error = plan_apply(part->plan);

    part->was_tried = true;
    part->is_behind = error != 0;
    if (error != 0)
        work->result = RELOAD_KEPT;
}

/* One that needs what another is to give up comes after it; who need each other's cannot. */
static void change(struct work *work)
{
    bool was_any = true;

    while (was_any) {
        was_any = false;
        for (size_t i = 0; i < work->count; i++) {
            struct part *part = &work->parts[i];

            if (part->changes == 0 || part->was_tried || rival_of(work, plan_next(part->plan)) != NULL)
                continue;
            change_one(work, part);
            was_any = true;
        }
    }
    for (size_t i = 0; i < work->count; i++) {
        const struct part *part = &work->parts[i];

        if (part->changes == 0 || part->was_tried)
            continue;
        tell_rival(part->pipeline->name, "change", rival_of(work, plan_next(part->plan)));
        work->result = RELOAD_KEPT;
    }
}

static void come(struct work *work, struct crew *all)
{
    struct pipelines *coming = &work->coming;
    size_t kept = 0;

    for (size_t i = 0; i < coming->count; i++) {
        const struct part *rival = rival_of(work, coming->items[i]);

        if (rival != NULL)
            tell_rival(coming->items[i]->name, "come", rival);
        if (rival != NULL || crew_join(all, coming->items[i]) != 0)
            coming->items[kept++] = coming->items[i];
    }
    coming->count = kept;
    if (kept > 0)
        work->result = RELOAD_KEPT;
}

/* Who goes does so first, for who comes may have its client id. */
static void apply(struct work *work, struct crew *all)
{
    if (go(work, all) != 0) {
        work->result = RELOAD_KEPT;
        return;
    }
    change(work);
    come(work, all);
    crew_order(all, &work->files);
}

/* A line each. */
static void log_lines(char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        log_line(FMS_LOG_INFO, NULL, NULL, "reload: %s", line);
}

/* How many changes there are. One that has ended by itself is not begun anew because its file says something else: what it has done would
 * be done twice. */
static size_t print_plan(struct part *part, FILE *to)
{
    size_t n = plan_print(part->plan, to);
    bool is_over = n > 0 && change_is_over(part->pipeline);

    if (is_over)
        fprintf(to, "pipeline %s: has ended, so this is not done; give its file another name to have it begin anew\n",
                part->pipeline->name);
    part->changes = is_over ? 0 : n;
    return n;
}

static size_t print_work(struct work *work, FILE *to)
{
    size_t n = work->coming.count;

    for (size_t i = 0; i < work->count; i++) {
        struct part *part = &work->parts[i];

        if (part->stays) {
            n += print_plan(part, to);
            continue;
        }
        fprintf(to, "pipeline %s: goes\n", part->pipeline->name);
        n++;
    }
    for (size_t i = 0; i < work->coming.count; i++)
        fprintf(to, "pipeline %s: comes\n", work->coming.items[i]->name);
    return n;
}

/* What is planned, to `out`, or to the log; how many changes. */
static size_t tell_work(struct work *work, bool is_told, FILE *out)
{
    char *text = NULL;
    size_t size = 0, n = 0;
    FILE *to = out != NULL ? out : open_memstream(&text, &size);

    if (to != NULL)
        n = print_work(work, to);
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

static enum reload_result run(const struct reload_wish *wish, struct crew *all, bool *is_told, FILE *out)
{
    struct work work = {.result = RELOAD_DONE};
    size_t changes;

    prepare(&work, wish, all);
    changes = work.result == RELOAD_DONE ? tell_work(&work, *is_told, out) : 0;
    *is_told = *is_told || changes > 0;
    if (changes > 0 && !wish->is_dry)
        apply(&work, all);
    forget(&work);
    return work.result;
}

/* -------------------------------------------------------------------------------------------------------------- turns */

static void note(enum reload_result result, bool is_told)
{
    pthread_mutex_lock(&lock);
    view.results[result]++;
    view.is_last_good = result == RELOAD_DONE;
    view.last_at = clock_now();
    pthread_mutex_unlock(&lock);
    if (result == RELOAD_DONE)
        log_line(is_told ? FMS_LOG_INFO : FMS_LOG_DEBUG, NULL, NULL, "reloaded");
    else /* as of a file, for that is not held back where it comes again */
        log_config(FMS_LOG_ERROR, "reload", 0, "not reloaded: %s; see above",
                   result == RELOAD_BAD ? "a file is bad, and all goes on as it was" : "what failed goes on as it was");
}

static enum reload_result take_turn(const struct reload_wish *wish, bool is_told, FILE *out)
{
    enum reload_result result = RELOAD_KEPT;
    struct crew *all;

    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
    all = crew;
    pthread_mutex_unlock(&lock);
    log_capture(out);
    if (all == NULL) {
        log_config(FMS_LOG_ERROR, "reload", 0, "not reloaded: the process is about to end");
    } else {
        if (!wish->is_dry && teller != NULL)
            teller(teller_user, false);
        result = run(wish, all, &is_told, out);
        if (!wish->is_dry)
            note(result, is_told);
        if (!wish->is_dry && teller != NULL)
            teller(teller_user, true);
    }
    log_capture(NULL);
    pthread_mutex_unlock(&turn);
    return result;
}

enum reload_result reload_run(bool is_dry, FILE *out)
{
    const struct reload_wish wish = {.is_dry = is_dry};

    return take_turn(&wish, true, out);
}

/* ------------------------------------------------------------------------------------------------------------ requests */

/* One that somebody reads, until both he and the thread have done with it. */
struct reloading {
    struct reload_wish wish;
    char *name, *given; /* what that points to */
    FILE *out;          /* the thread's own; it ends in what follows, which `lock` guards */
    char *text;
    size_t size, capacity;
    bool is_over, is_left; /* by its thread; by who read */
    enum reload_result result;
};

static void reloading_free(struct reloading *reloading)
{
    free(reloading->name);
    free(reloading->given);
    free(reloading->text);
    free(reloading);
}

/* Under `lock`. */
static void release(struct reloading *reloading)
{
    if (reloading->is_over && reloading->is_left)
        reloading_free(reloading);
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
    const struct reload_wish wish = {.is_dry = false};

    take_turn(&wish, user != NULL, NULL);
    pthread_mutex_lock(&lock);
    end_request();
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *run_read(void *user)
{
    struct reloading *reloading = user;
    enum reload_result result = take_turn(&reloading->wish, true, reloading->out);

    fclose(reloading->out);
    pthread_mutex_lock(&lock);
    reloading->result = result;
    reloading->is_over = true;
    release(reloading);
    end_request();
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *serve(void *unused)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        struct request first;

        while (queued == 0)
            pthread_cond_wait(&changed, &lock);
        first = queue[0];
        memmove(queue, queue + 1, --queued * sizeof *queue);
        pthread_mutex_unlock(&lock);
        first.work(first.user);
        pthread_mutex_lock(&lock);
    }
    return unused;
}

/* 0 or a negative errno. */
static int detach(void *(*work)(void *), void *user)
{
    pthread_t thread;
    int error = thread_start(&thread, work, user);

    if (error == 0)
        pthread_detach(thread);
    return -error;
}

int reload_serve(void)
{
    int error = detach(serve, NULL);

    pthread_mutex_lock(&lock);
    is_served = error == 0;
    pthread_mutex_unlock(&lock);
    return error;
}

/* 0 or a negative errno, as reload_start. */
static int request(void *(*work)(void *), void *user)
{
    int error;

    pthread_mutex_lock(&lock);
    error = crew == NULL ? -ESHUTDOWN : requests == REQUESTS ? -EBUSY : 0;
    if (error == 0 && is_served)
        queue[queued++] = (struct request){work, user};
    else if (error == 0)
        error = detach(work, user);
    requests += error == 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return error;
}

/* Whether it is to be done later: there is nothing to reload yet, or, which does not matter, no more. */
static bool want(void)
{
    bool is_late;

    pthread_mutex_lock(&lock);
    is_late = is_wanted = crew == NULL;
    pthread_mutex_unlock(&lock);
    return is_late;
}

void reload_request(bool is_told)
{
    int error = !is_told && want() ? 0 : request(run_alone, is_told ? &view : NULL);

    if (error != 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "not reloaded: %s",
                 error == -EBUSY       ? "as many wait for theirs as may"
                 : error == -ESHUTDOWN ? "the process is about to begin, or to end"
                                       : strerror(-error));
}

/* Copies what it has from who asks. False: no memory. */
static bool keep_wish(struct reloading *reloading, const struct reload_wish *wish)
{
    reloading->wish = *wish;
    if (wish->name == NULL)
        return true;
    reloading->wish.name = reloading->name = strdup(wish->name);
    reloading->wish.text = reloading->given = malloc(wish->size + 1);
    if (reloading->given != NULL)
        memcpy(reloading->given, wish->text, wish->size);
    return reloading->name != NULL && reloading->given != NULL;
}

int reload_start(const struct reload_wish *wish, struct reloading **result)
{
    const cookie_io_functions_t functions = {.write = take_text};
    struct reloading *reloading = calloc(1, sizeof *reloading);
    int error;

    if (reloading == NULL)
        return -ENOMEM;
    reloading->out = keep_wish(reloading, wish) ? fopencookie(reloading, "w", functions) : NULL;
    error = reloading->out != NULL ? 0 : -ENOMEM;
    if (error == 0) {
        setvbuf(reloading->out, NULL, _IOLBF, BUFSIZ);
        error = request(run_read, reloading);
        if (error != 0)
            fclose(reloading->out);
    }
    if (error != 0)
        reloading_free(reloading);
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
