/* can_sink - puts frames, which come as candump's lines, on a CAN bus.
 *
 * Delivered means that the kernel has the frame in the interface's queue: a bus confirms nothing to who sends. A frame for which the queue has no
 * room waits, and all behind it, so that frames go out in their order. */
#include <fms_plugin.h>

#include <errno.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../can_common/frame.h"
#include "../can_common/interface.h"

#define RETRY_MIN  (500 * FMS_MS)
#define RETRY_MAX  (5 * FMS_SECOND)
#define FULL_PAUSE FMS_MS /* two frames at 250 kbit/s; poll() says nothing of an interface's queue */

struct can_sink {
    const char *interface;

    const struct fms_host *host;
    int fd; /* -1: none */
    unsigned attempt;
    int64_t retry_at; /* nothing is sent before; 0: at once */
};

static const struct fms_option can_sink_options[] = {
    FMS_OPT_STRING(struct can_sink, interface, FMS_REQUIRED, "SocketCAN interface, such as can0 or vcan0"),
    FMS_OPT_END,
};

enum { COUNT_FULL };

static const struct fms_metric can_sink_counters[] = {
    [COUNT_FULL] = {"full", "times that the interface's queue had no room"},
    {NULL, NULL},
};

/* ----------------------------------------------------------------------------------------------------------- the socket */

/* A socket that receives nothing, or a negative errno. */
static int can_sink_socket(const struct can_sink *self)
{
    int fd = socket(PF_CAN, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, CAN_RAW), on = 1;
    int error = fd < 0 || setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FILTER, NULL, 0) != 0 ? -errno : 0;

    if (error == 0) {
        setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FD_FRAMES, &on, sizeof on); /* classic frames go without */
        error = interface_bind(fd, self->interface);
    }
    if (error == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return error;
}

static void can_sink_lose(struct can_sink *self, int error)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
    self->retry_at = fms_now(self->host) + fms_backoff(self->host, RETRY_MIN, RETRY_MAX, self->attempt++);
    fms_link_down(self->host, "%s: %s", self->interface, interface_advice(error));
    fms_warn(self->host, "%s: takes no frames: %s; it is tried again and again", self->interface,
             interface_advice(error));
}

static void can_sink_try(struct can_sink *self)
{
    int fd = can_sink_socket(self);

    if (fd < 0) {
        can_sink_lose(self, fd);
        return;
    }
    if (self->attempt > 0)
        fms_info(self->host, "%s: takes frames", self->interface);
    self->fd = fd;
    self->attempt = 0;
    fms_link_up(self->host);
}

/* -------------------------------------------------------------------------------------------------------------- frames */

/* 0, or a negative errno. */
static int can_sink_send(const struct can_sink *self, const struct frame *frame)
{
    bool is_fd = (frame->flags & FRAME_FD) != 0;
    struct canfd_frame raw = {
        .can_id = frame->id, .len = frame->size, .flags = frame->fd_flags & (CANFD_BRS | CANFD_ESI)};

    raw.can_id |= (frame->flags & FRAME_EXTENDED) != 0 ? CAN_EFF_FLAG : 0;
    raw.can_id |= (frame->flags & FRAME_REMOTE) != 0 ? CAN_RTR_FLAG : 0;
    memcpy(raw.data, frame->data, sizeof raw.data);
    return send(self->fd, &raw, is_fd ? CANFD_MTU : CAN_MTU, MSG_DONTWAIT) >= 0 ? 0 : -errno;
}

/* Settles the record, or keeps it where it is. False: nothing more can be sent now. */
static bool can_sink_put(struct can_sink *self, const struct fms_record *record)
{
    char why[FRAME_WHY];
    struct frame frame;
    int kind = frame_read(&frame, record->payload, why), error;

    if (kind != FRAME_LINE_FRAME || (frame.flags & FRAME_ERROR) != 0) {
        fms_reject(self->host, record, "it is no frame for a bus: %s",
                   kind == FRAME_LINE_BAD       ? why
                   : kind == FRAME_LINE_NOTHING ? "the line is empty"
                                                : "it tells of an error");
        return true;
    }
    error = can_sink_send(self, &frame);
    if (error == -ENOBUFS || error == -EAGAIN || error == -EINTR) {
        fms_count(self->host, COUNT_FULL, 1);
        self->retry_at = fms_now(self->host) + FULL_PAUSE;
        return false;
    }
    if (error == -EINVAL || error == -EMSGSIZE) {
        fms_reject(self->host, record, "%s does not take such a frame: %s", self->interface,
                   (frame.flags & FRAME_FD) != 0 ? "it is none for CAN FD" : interface_advice(error));
        return true;
    }
    if (error != 0) {
        can_sink_lose(self, error);
        return false;
    }
    fms_delivered(self->host, record);
    return true;
}

static int can_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct can_sink *self = instance;
    size_t taken = 0;

    while (taken < count && self->fd >= 0 && self->retry_at == 0 && can_sink_put(self, records[taken]))
        taken++;
    return (int)taken;
}

static int can_sink_poll(void *instance, struct fms_wait *wait)
{
    struct can_sink *self = instance;

    if ((self->retry_at != 0 || self->fd < 0) && fms_now(self->host) >= self->retry_at) {
        self->retry_at = 0;
        if (self->fd < 0)
            can_sink_try(self);
        if (self->fd >= 0)
            fms_wake(self->host);
    }
    if (self->retry_at != 0)
        wait->deadline = self->retry_at;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- opening */

static int can_sink_check(void *instance, const struct fms_host *host)
{
    const struct can_sink *self = instance;
    size_t size = strlen(self->interface);

    if (size == 0 || size >= FRAME_INTERFACE)
        return fms_fail_option(host, "interface", -EINVAL, "\"%s\" is none; a name has 1 to 15 letters",
                               self->interface);
    fms_promise(host, NULL, FMS_AT_MOST_ONCE,
                "a bus confirms nothing to who sends: whether a frame was heard is not known");
    return 0;
}

static int can_sink_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    const struct can_sink *self = instance;
    int fd = can_sink_socket(self);

    (void)deadline;
    if (fd < 0)
        return fms_fail_option(host, "interface", fd, "%s: takes no frames: %s", self->interface, interface_advice(fd));
    close(fd);
    fms_report(host, "%s is a CAN interface, and up", self->interface);
    return 0;
}

static int can_sink_open(void *instance, const struct fms_host *host)
{
    struct can_sink *self = instance;

    self->host = host;
    self->fd = -1;
    return 0;
}

static void can_sink_close(void *instance)
{
    const struct can_sink *self = instance;

    if (self->fd >= 0)
        close(self->fd);
}

FMS_PLUGIN(.name = "can_sink", .version = FMS_VERSION, .summary = "Puts frames on a CAN bus",
           .options = can_sink_options, .counters = can_sink_counters, .instance_size = sizeof(struct can_sink),
           .traits = FMS_TRAIT_LINK, .check = can_sink_check, .probe = can_sink_probe, .open = can_sink_open,
           .close = can_sink_close, .sink_write = can_sink_write, .sink_poll = can_sink_poll);
