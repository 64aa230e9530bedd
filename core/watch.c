/* watch.c - a thread that looks at the process's lanes now and then, and names the call that holds one for seconds.
 *
 * A plugin that waits on the lane stops its whole pipeline, for ever perhaps, so nobody on the lane could tell; and a clock
 * read around each call would cost each record. Each call therefore only leaves its name in lane.calling. */
#include "clock.h"
#include "lane.h"
#include "log.h"
#include "thread.h"

#define LOOKS 3u /* in the time that a call may take: more than one, for the whole process may have stood still */

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER; /* of who begins and ends; taken before `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* guards what follows, and lane.watched */
static pthread_cond_t changed;                              /* made with the thread */
static struct lane *lanes;
static pthread_t thread;

static void look(struct lane *lane, int64_t at)
{
    struct watched *watched = &lane->watched;
    const struct call *call = atomic_load_explicit(&lane->calling, memory_order_acquire);
    uint64_t turns = atomic_load_explicit(&lane->turns, memory_order_relaxed);

    if (call == NULL || turns != watched->turns) {
        *watched = (struct watched){watched->next, turns, at, 0, LOOKS};
    } else if (++watched->looks >= watched->tell_after) {
        log_line(
            FMS_LOG_WARN, lane->options.name, call->stage->name,
            "plugin %s has held the lane for %.1f s, now in %s, and the pipeline stands still: what waits belongs on a"
            " thread of the plugin's own",
            call->stage->plugin->table.name, (double)(at - watched->since) / (double)FMS_SECOND, call->function);
        watched->tell_after *= 2;
    }
}

static void *watch(void *user)
{
    pthread_mutex_lock(&lock);
    while (lanes != NULL) {
        int64_t pause = FMS_SECOND, at = clock_monotonic(), until;
        struct timespec time;

        for (struct lane *lane = lanes; lane != NULL; lane = lane->watched.next) {
            look(lane, at);
            pause = lane->patience / LOOKS < pause ? lane->patience / LOOKS : pause;
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

void watch_begin(struct lane *lane)
{
    pthread_mutex_lock(&control);
    pthread_mutex_lock(&lock);
    lane->watched = (struct watched){.next = lanes};
    lanes = lane;
    if (lane->watched.next == NULL && start() != 0) /* then nobody watches, and all else goes on */
        lanes = NULL;
    lane->is_watched = lanes != NULL;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&control);
}

void watch_end(struct lane *lane)
{
    struct lane **link = &lanes;
    bool is_last;

    if (!lane->is_watched)
        return;
    pthread_mutex_lock(&control);
    pthread_mutex_lock(&lock);
    while (*link != lane)
        link = &(*link)->watched.next;
    *link = lane->watched.next;
    is_last = lanes == NULL;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (is_last) {
        pthread_join(thread, NULL);
        pthread_cond_destroy(&changed);
    }
    pthread_mutex_unlock(&control);
}
