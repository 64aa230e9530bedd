/* lone - a sink of which only one can be open under each id, as a client of a broker: a second one does not open. Its close does not return
 * as long as a file is there. */
#include <fms_plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAUSE (10 * FMS_MS)

struct lone {
    const char *id, *hangs;

    const struct fms_host *host;
};

static const struct fms_option lone_options[] = {
    FMS_OPT_UNIQUE(struct lone, id, FMS_REQUIRED, "lone id", "a file that is there while it is open"),
    FMS_OPT_STRING(struct lone, hangs, "", "file while which is there close does not return"),
    FMS_OPT_END,
};

static int lone_open(void *instance, const struct fms_host *host)
{
    struct lone *self = instance;
    int fd = open(self->id, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0)
        return fms_fail(host, -errno, "%s: %s", self->id, strerror(errno));
    close(fd);
    return 0;
}

static int lone_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct lone *self = instance;

    for (size_t i = 0; i < count; i++)
        fms_delivered(self->host, records[i]);
    return (int)count;
}

static void lone_close(void *instance)
{
    struct lone *self = instance;
    struct timespec pause = {0, PAUSE};

    while (*self->hangs != '\0' && access(self->hangs, F_OK) == 0)
        nanosleep(&pause, NULL);
    unlink(self->id);
}

FMS_PLUGIN(.name = "lone", .version = "1.0.0", .summary = "Is there once under each id", .options = lone_options,
           .instance_size = sizeof(struct lone), .host = FMS_HOST(struct lone, host), .open = lone_open,
           .sink_write = lone_write, .close = lone_close);
