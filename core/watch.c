/* watch.c - a thread that looks at the process's lanes now and then, and names the call that holds one for seconds.
 *
 * A plugin that waits on the lane stops its whole pipeline, for ever perhaps, so nobody on the lane could tell; and a clock
 * read around each call would cost each record. Each call therefore only leaves its name in pipeline.calling. */
#include "watch.h"

#include "clock.h"
#include "log.h"
#include "thread.h"

#define LOOKS 3u /* in the time that a call may take: more than one, for the whole process may have stood still */

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER; /* of who begins and ends; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* guards what follows, and pipeline.watched */
static pthread_cond_t changed;                              /* made with the thread */
static struct pipeline *pipelines;
static pthread_t thread;

static void look(struct pipeline *pipeline, int64_t at)
{
    struct watched *watched = &pipeline->watched;
    const struct call *call = atomic_load_explicit(&pipeline->calling, memory_order_acquire);
    uint64_t turns = atomic_load_explicit(&pipeline->turns, memory_order_relaxed);

    if (call == NULL || turns != watched->turns) {
        *watched = (struct watched){watched->next, turns, at, 0, LOOKS};
    } else if (++watched->looks >= watched->tell_after) {
        log_line(
            FMS_LOG_WARN, pipeline->name, call->stage->name,
            "plugin %s has held the lane for %.1f s, now in %s, and the pipeline stands still: what waits belongs on a"
            " thread of the plugin's own",
            call->stage->plugin->table.name, (double)(at - watched->since) / (double)FMS_SECOND, call->function);
        watched->tell_after *= 2;
    }
}

static void *watch(void *user)
{
    pthread_mutex_lock(&lock);
    while (pipelines != NULL) {
        int64_t pause = FMS_SECOND, at = clock_monotonic(), until;
        struct timespec time;

        for (struct pipeline *pipeline = pipelines; pipeline != NULL; pipeline = pipeline->watched.next) {
            look(pipeline, at);
            pause = pipeline->patience / LOOKS < pause ? pipeline->patience / LOOKS : pause;
        }
        until = at + pause;
        time = clock_timespec(until);
        pthread_cond_timedwait(&changed, &lock, &time);
    }
    pthread_mutex_unlock(&lock);
    return user;
}

static int start(void)
{
    int error;

    clock_cond_init(&changed);
    error = thread_start(&thread, watch, NULL);
    if (error != 0)
        pthread_cond_destroy(&changed);
    return error;
}

void watch_begin(struct pipeline *pipeline)
{
    pthread_mutex_lock(&control);
    pthread_mutex_lock(&lock);
    pipeline->watched = (struct watched){.next = pipelines};
    pipelines = pipeline;
    if (pipeline->watched.next == NULL && start() != 0) /* then nobody watches, and all else goes on */
        pipelines = NULL;
    pipeline->is_watched = pipelines != NULL;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&control);
}

void watch_end(struct pipeline *pipeline)
{
    struct pipeline **link = &pipelines;
    bool is_last;

    if (!pipeline->is_watched)
        return;
    pthread_mutex_lock(&control);
    pthread_mutex_lock(&lock);
    while (*link != pipeline)
        link = &(*link)->watched.next;
    *link = pipeline->watched.next;
    is_last = pipelines == NULL;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (is_last) {
        pthread_join(thread, NULL);
        pthread_cond_destroy(&changed);
    }
    pthread_mutex_unlock(&control);
}
