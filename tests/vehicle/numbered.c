/* numbered - a source of numbered messages that writes each number that was settled where it outlives the machine, such as a virtual serial port.
 *
 * A number is written when the sink has confirmed it, by one write that returns when it has left the machine. So what was written
 * was acknowledged, and must not be lost. */
#include <fms_plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct numbered {
    const char *vehicle, *settled;
    int64_t interval, burst;

    const struct fms_host *host;
    int fd;
    uint64_t number; /* of the last one */
    int64_t left;    /* of the burst that is under way */
    int64_t next;    /* burst */
};

static const struct fms_option numbered_options[] = {
    FMS_OPT_STRING(struct numbered, vehicle, FMS_REQUIRED, "the messages' vehicle_id, and their key"),
    FMS_OPT_STRING(struct numbered, settled, FMS_REQUIRED, "file that gets a line with each number that was settled"),
    FMS_OPT_DURATION(struct numbered, interval, "1s", FMS_MS, 3600 * FMS_SECOND, "from burst to burst"),
    FMS_OPT_INTEGER(struct numbered, burst, "1", 1, 100000, "messages at once"),
    FMS_OPT_END,
};

static int numbered_open(void *instance, const struct fms_host *host)
{
    struct numbered *self = instance;

    self->fd = open(self->settled, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (self->fd < 0)
        return fms_fail_option(host, "settled", -errno, "%s: %s", self->settled, strerror(errno));
    self->next = fms_now(host);
    return 0;
}

static void numbered_close(void *instance)
{
    struct numbered *self = instance;

    close(self->fd);
}

/* In the mission's form, and as long. */
static int numbered_emit(struct numbered *self)
{
    char payload[256];
    int64_t now = fms_realtime(self->host);
    struct fms_record draft = {.topic = fms_text("fms/data"), .key = fms_text(self->vehicle), .timestamp = now};
    int size = snprintf(payload, sizeof payload,
                        "{\"vehicle_id\":\"%s\",\"timestamp\":%" PRId64
                        ",\"speed\":56.65,\"rpm\":1316,\"fuel_level\":99.65,\"seq\":%" PRIu64 ",\"sent_ns\":%" PRId64
                        "}",
                        self->vehicle, now / FMS_SECOND, self->number + 1, now);

    if (size >= (int)sizeof payload)
        return fms_fail(self->host, -ENAMETOOLONG, "the vehicle's name is too long");
    draft.payload = fms_bytes_of(payload, (size_t)size);
    draft.tag[0] = self->number + 1;
    return fms_emit(self->host, &draft);
}

static int numbered_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct numbered *self = instance;
    int64_t now = fms_now(self->host);
    int error = 0;

    if (self->left == 0 && now >= self->next) {
        self->left = self->burst;
        self->next += ((now - self->next) / self->interval + 1) * self->interval;
    }
    for (; self->left > 0 && credit > 0; credit--) {
        error = numbered_emit(self);
        if (error != 0)
            return error == -EAGAIN ? 0 : error;
        self->number++;
        self->left--;
    }
    if (self->left == 0)
        wait->deadline = self->next;
    return 0;
}

static void numbered_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct numbered *self = instance;
    char line[24];
    int size = snprintf(line, sizeof line, "%" PRIu64 "\n", record->tag[0]);

    if (fate == FMS_DELIVERED && write(self->fd, line, (size_t)size) != size)
        fms_error(self->host, "%s: a number cannot be written: %s", self->settled, strerror(errno));
}

FMS_PLUGIN(.name = "numbered", .version = "1", .summary = "Numbered messages, and which of them were settled",
           .options = numbered_options, .instance_size = sizeof(struct numbered),
           .host = FMS_HOST(struct numbered, host), .open = numbered_open, .close = numbered_close,
           .source_poll = numbered_poll, .source_settled = numbered_settled);
