/* file_watch.c - see file_watch.h.
 *
 * Folders are watched, not files: an editor puts a new file in the old one's place, and Kubernetes a new folder behind a symbolic link.
 * What happens there only says when to look. What counts is what the files hold, so that others in the folder, and a file that was
 * written as it was, make no difference. */
#include "file_watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "files.h"
#include "log.h"
#include "thread.h"

#define QUIET FMS_SECOND
#define EVENTS                                                                                                         \
    (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR | IN_EXCL_UNLINK)

struct file_watch {
    int events_fd, end_fd;
    char *const *words;
    size_t count;
    void (*changed)(void);
    pthread_t thread;
    uint64_t known; /* what the files held when that was told last */
};

/* -------------------------------------------------------------------------------------------------------------- files */

#define SUM_OF_NOTHING UINT64_C(14695981039346656037)

/* FNV-1a */
static uint64_t sum_with(uint64_t sum, const void *bytes, size_t size)
{
    for (const unsigned char *at = bytes, *end = at + size; at < end; at++)
        sum = (sum ^ *at) * UINT64_C(1099511628211);
    return sum;
}

/* 0 is that of a file that cannot be read, and of hardly another. */
static uint64_t sum_of_file(const char *path)
{
    int fd = config_open_file(path);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    uint64_t sum = SUM_OF_NOTHING;
    char text[4096];
    size_t n;

    if (file == NULL && fd >= 0)
        close(fd);
    if (file == NULL)
        return 0;
    while ((n = fread(text, 1, sizeof text, file)) > 0)
        sum = sum_with(sum, text, n);
    sum = ferror(file) ? 0 : sum;
    fclose(file);
    return sum;
}

/* Which files there are, and what they hold; a folder that cannot be read is one of none, until it is read for a reload. */
static uint64_t sum_of_all(const struct file_watch *watch)
{
    struct files files;
    uint64_t sum = SUM_OF_NOTHING;

    (void)files_list(&files, watch->words, watch->count);
    for (size_t i = 0; i < files.count; i++) {
        uint64_t held = sum_of_file(files.paths[i]);

        sum = sum_with(sum, files.paths[i], strlen(files.paths[i]) + 1);
        sum = sum_with(sum, &held, sizeof held);
    }
    files_free(&files);
    return sum;
}

/* 0 or a negative errno. */
static int watch_folder(const struct file_watch *watch, const char *folder)
{
    return inotify_add_watch(watch->events_fd, folder, EVENTS) < 0 ? -errno : 0;
}

static int watch_folder_of(const struct file_watch *watch, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash > path ? (size_t)(slash - path) : 1);
    int error = folder == NULL ? -ENOMEM : watch_folder(watch, folder);

    free(folder);
    return error;
}

/* Where it stands, and where it really does, which may be elsewhere each time. 0 or a negative errno, logged. */
static int watch_place_of(const struct file_watch *watch, const char *path)
{
    char *real = realpath(path, NULL);
    int error = watch_folder_of(watch, path);

    if (error == 0 && real != NULL)
        error = watch_folder_of(watch, real);
    if (error != 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "--watch: the folder of %s cannot be watched: %s", path, strerror(-error));
    free(real);
    return error;
}

/* A folder itself, which may have no file yet; and, where that may be watched, in what it stands, should another take its place. */
static int watch_word(const struct file_watch *watch, const char *word)
{
    size_t size = strlen(word);
    int error = watch_folder(watch, word);
    char *path;

    if (error == -ENOTDIR || error == -ENOENT)
        return watch_place_of(watch, word);
    while (size > 1 && word[size - 1] == '/')
        size--;
    path = strndup(word, size);
    if (path != NULL)
        (void)watch_folder_of(watch, path);
    free(path);
    if (error != 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "--watch: the folder %s cannot be watched: %s", word, strerror(-error));
    return error;
}

/* The words' places, and those of the files in folders. */
static int watch_folders(const struct file_watch *watch)
{
    struct files files;
    int error = files_list(&files, watch->words, watch->count);

    for (size_t i = 0; i < watch->count && error == 0; i++)
        error = watch_word(watch, watch->words[i]);
    for (size_t i = 0; i < files.count && error == 0; i++)
        error = watch_place_of(watch, files.paths[i]);
    files_free(&files);
    return error;
}

/* ------------------------------------------------------------------------------------------------------------- thread */

/* Whether something happened, whatever it was. */
static bool drain(const struct file_watch *watch)
{
    char events[4096];
    bool was_any = false;

    while (read(watch->events_fd, events, sizeof events) > 0)
        was_any = true;
    return was_any;
}

/* In milliseconds, for poll(); -1: for ever. */
static int time_left(int64_t due_at)
{
    int64_t left = due_at - clock_now();

    return due_at == FMS_NEVER ? -1 : left > 0 ? (int)(left / FMS_MS) + 1 : 0;
}

static void *run(void *user)
{
    struct file_watch *watch = user;
    struct pollfd fds[2] = {{watch->events_fd, POLLIN, 0}, {watch->end_fd, POLLIN, 0}};
    uint64_t seen = watch->known;
    int64_t due_at = FMS_NEVER;

    while (fds[1].revents == 0) {
        if (poll(fds, 2, time_left(due_at)) < 0)
            fds[1].revents = 0;
        if (drain(watch)) {
            uint64_t sum;

            (void)watch_folders(watch); /* first: what comes after the look is told */
            sum = sum_of_all(watch);
            due_at = sum != seen ? clock_now() + QUIET : due_at;
            seen = sum;
        }
        if (clock_now() < due_at)
            continue;
        if (seen != watch->known)
            watch->changed();
        watch->known = seen;
        due_at = FMS_NEVER;
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------------------------- begin and end */

static void release(struct file_watch *watch)
{
    if (watch->events_fd >= 0)
        close(watch->events_fd);
    if (watch->end_fd >= 0)
        close(watch->end_fd);
    free(watch);
}

static int open_all(struct file_watch *watch)
{
    int error;

    watch->events_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    error = watch->events_fd < 0 ? -errno : 0;
    watch->end_fd = eventfd(0, EFD_CLOEXEC);
    if (error == 0 && watch->end_fd < 0)
        error = -errno;
    if (error != 0) {
        log_line(FMS_LOG_ERROR, NULL, NULL, "--watch: %s", strerror(-error));
        return error;
    }
    error = watch_folders(watch);
    watch->known = sum_of_all(watch);
    if (error == 0 && (error = -thread_start(&watch->thread, run, watch)) != 0)
        log_line(FMS_LOG_ERROR, NULL, NULL, "--watch: cannot start a thread");
    return error;
}

struct file_watch *file_watch_start(char *const *words, size_t count, void (*changed)(void))
{
    struct file_watch *watch = malloc(sizeof *watch);

    if (watch == NULL)
        return NULL;
    *watch = (struct file_watch){.events_fd = -1, .end_fd = -1, .words = words, .count = count, .changed = changed};
    if (open_all(watch) == 0)
        return watch;
    release(watch);
    return NULL;
}

void file_watch_stop(struct file_watch *watch)
{
    uint64_t one = 1;

    if (watch == NULL)
        return;
    if (write(watch->end_fd, &one, sizeof one) < 0)
        abort(); /* an eventfd that cannot count to 2^64 */
    pthread_join(watch->thread, NULL);
    release(watch);
}
