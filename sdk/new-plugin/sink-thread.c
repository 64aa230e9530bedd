/* example - appends each payload as a line to a file, from a thread of its own.
 *
 * For a far end whose library blocks. The lane fills a queue and never waits; the thread delivers in order, one record at a
 * time, and settles it when that is done. When one cannot be delivered the thread rests, and the lane gives back all that is
 * queued: only fms_retry on the lane keeps a later record from being offered before an earlier one. Change example_deliver to
 * say where your sink delivers, and when a record counts as delivered. */
#include <fms_plugin.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define QUEUE_SIZE 256u /* records that are taken and not yet settled */

struct example {
    const char *path;

    const struct fms_host *host;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t changed;
    const struct fms_record *queue[QUEUE_SIZE]; /* a ring, in the order of emission */
    size_t first, count;
    int error; /* why the first could not be delivered; 0: nothing is to be given back */
    bool is_ending;
};

static const struct fms_option example_options[] = {
    FMS_OPT_STRING(struct example, path, FMS_REQUIRED, "file to append to"),
    FMS_OPT_END,
};

/* ---------------------------------------------------------------------------------------------- the thread: it may block */

/* 0, or a negative errno: it can be tried again. */
static int example_deliver(const struct example *self, const struct fms_record *record)
{
    FILE *file = fopen(self->path, "a");
    int has_failed;

    if (file == NULL)
        return -errno;
    fwrite(record->payload.data, 1, record->payload.size, file);
    putc('\n', file);
    has_failed = ferror(file);
    return fclose(file) != 0 ? -errno : has_failed ? -EIO : 0;
}

static void *example_run(void *instance)
{
    struct example *self = instance;
    int error;

    pthread_mutex_lock(&self->lock);
    while (!self->is_ending) {
        const struct fms_record *record = self->queue[self->first];

        if (self->count == 0 || self->error != 0) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        pthread_mutex_unlock(&self->lock);
        error = example_deliver(self, record);
        pthread_mutex_lock(&self->lock);
        self->error = error;
        if (error == 0) {
            self->first = (self->first + 1) % QUEUE_SIZE;
            self->count--;
            fms_delivered(self->host, record);
        } else {
            fms_wake(self->host); /* example_poll */
        }
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------- the lane: it never waits */

static int example_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct example *self = instance;
    size_t taken = 0;

    pthread_mutex_lock(&self->lock);
    while (taken < count && self->error == 0 && self->count < QUEUE_SIZE)
        self->queue[(self->first + self->count++) % QUEUE_SIZE] = records[taken++];
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return (int)taken;
}

static int example_poll(void *instance, struct fms_wait *wait)
{
    struct example *self = instance;

    (void)wait; /* the thread calls fms_wake */
    pthread_mutex_lock(&self->lock);
    for (; self->error != 0 && self->count > 0; self->count--) {
        fms_retry(self->host, self->queue[self->first], "%s: %s", self->path, strerror(-self->error));
        self->first = (self->first + 1) % QUEUE_SIZE;
    }
    self->error = 0;
    pthread_mutex_unlock(&self->lock);
    return 0;
}

static int example_open(void *instance, const struct fms_host *host)
{
    struct example *self = instance;
    int error;

    self->host = host;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    error = pthread_create(&self->thread, NULL, example_run, self);
    if (error == 0)
        return 0;
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    return fms_fail(host, -error, "cannot start a thread: %s", strerror(error));
}

static void example_close(void *instance)
{
    struct example *self = instance;

    pthread_mutex_lock(&self->lock);
    self->is_ending = true; /* what is still queued is given up unacknowledged */
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
}

FMS_PLUGIN(.name = "example", .version = "0.1.0", .summary = "Appends payloads as lines to a file, from a thread",
           .options = example_options, .instance_size = sizeof(struct example), .open = example_open,
           .close = example_close, .sink_write = example_write, .sink_poll = example_poll);
