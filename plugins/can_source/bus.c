/* bus.c - a CAN interface, by a raw socket of the kernel's: what others say to each other, which its J1939 sockets do not give a listener.
 *
 * The socket is opened again and again while the interface is not there, or not up. Ages and pauses go by the monotonic clock, for the clock
 * of a vehicle may be set at any time; the kernel's time stamps are those of raw frames. */
#include "can_source.h"

#include <errno.h>
#include <linux/can.h>
#include <linux/can/error.h>
#include <linux/can/raw.h>
#include <linux/net_tstamp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../can_common/interface.h"

#define BATCH      64                /* frames a system call */
#define BATCHES    16                /* that are taken in before others have their turn */
#define BUFFER     (4 * 1024 * 1024) /* bytes that the kernel may keep for us, if it lets us have them */
#define RETRY_MIN  (500 * FMS_MS)
#define RETRY_MAX  (5 * FMS_SECOND)
#define CLOCK_SLIP (50 * FMS_MS) /* by which the controller's clock may drift before it is set by ours */
#define ANCILLARY  256

/* What the kernel tells of a frame's time: its own, one that is no longer used, the controller's. */
struct stamps {
    struct timespec ts[3];
};

struct bus {
    int fd; /* -1: none */
    unsigned attempt;
    int64_t retry_at;
    int64_t next;      /* sample; 0: the first poll says */
    bool is_off;       /* the controller has left the bus, and is not back */
    uint32_t drops;    /* as the kernel counts them */
    int64_t hardware;  /* what is to be added to the controller's clock; 0: not known */
    struct frame held; /* raw: the frame that comes next, of those that were fetched */
    unsigned at, count;
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct canfd_frame frames[BATCH];
    _Alignas(struct cmsghdr) char ancillary[BATCH][ANCILLARY];
};

/* ----------------------------------------------------------------------------------------------------------- the socket */

/* Of the PGNs that are needed, and of what carries longer messages; a raw listener takes all. The interface's errors come in any case. */
static int bus_filter(const struct can_source *self, int fd)
{
    struct can_filter filters[CAN_RAW_FILTER_MAX];
    uint32_t pgns[CAN_RAW_FILTER_MAX - 2];
    can_err_mask_t errors = CAN_ERR_MASK;
    size_t count;

    if (setsockopt(fd, SOL_CAN_RAW, CAN_RAW_ERR_FILTER, &errors, sizeof errors) != 0)
        return -errno;
    if (self->decoder == NULL)
        return 0;
    count = decoder_pgns(self, pgns, CAN_RAW_FILTER_MAX - 2);
    if (count == CAN_RAW_FILTER_MAX - 2)
        return 0; /* perhaps there are more than fit: then all come */
    pgns[count++] = J1939_PGN_CONTROL;
    pgns[count++] = J1939_PGN_DATA;
    for (size_t i = 0; i < count; i++) {
        bool is_addressed = (pgns[i] & 0xff00) < 0xf000;

        filters[i].can_id = pgns[i] << 8 | CAN_EFF_FLAG;
        filters[i].can_mask = (is_addressed ? 0x03ff0000 : 0x03ffff00) | CAN_EFF_FLAG | CAN_RTR_FLAG;
    }
    return setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FILTER, filters, (socklen_t)(count * sizeof *filters)) == 0 ? 0 : -errno;
}

/* What would be nice to have, and goes without. */
static void bus_wish(int fd)
{
    int on = 1, size = BUFFER;
    int stamps = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_HARDWARE |
                 SOF_TIMESTAMPING_RAW_HARDWARE;

    setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FD_FRAMES, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* A socket, or a negative errno. */
static int bus_socket(const struct can_source *self)
{
    int fd = socket(PF_CAN, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, CAN_RAW);
    int error = fd < 0 ? -errno : bus_filter(self, fd);

    if (error == 0) {
        bus_wish(fd);
        error = interface_bind(fd, self->interface);
    }
    if (error == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return error;
}

static void bus_lose(struct can_source *self, struct bus *bus, int error)
{
    if (bus->fd >= 0)
        close(bus->fd);
    bus->fd = -1;
    bus->at = bus->count = 0;
    bus->retry_at = fms_now(self->host) + fms_backoff(self->host, RETRY_MIN, RETRY_MAX, bus->attempt++);
    fms_link_down(self->host, "%s: %s", self->interface, interface_advice(error));
    fms_warn(self->host, "%s: cannot be read: %s; it is tried again and again", self->interface,
             interface_advice(error));
}

static void bus_try(struct can_source *self, struct bus *bus)
{
    int fd = bus_socket(self);

    if (fd < 0) {
        bus_lose(self, bus, fd);
        return;
    }
    if (bus->attempt > 0)
        fms_info(self->host, "%s: is read", self->interface);
    bus->fd = fd;
    bus->attempt = 0;
    bus->drops = 0;
    bus->hardware = 0;
    bus->is_off = false;
    fms_link_up(self->host);
}

/* -------------------------------------------------------------------------------------------------------------- frames */

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * FMS_SECOND + time.tv_nsec;
}

/* The controller's clock tells better how far apart frames were, and ours when: so that is set by this one. */
static int64_t bus_time(struct bus *bus, const struct stamps *stamps, int64_t now)
{
    int64_t software = nanoseconds(stamps->ts[0]), hardware = nanoseconds(stamps->ts[2]), slip;

    software = software != 0 ? software : now;
    if (hardware == 0)
        return software;
    slip = software - (hardware + bus->hardware);
    if (bus->hardware == 0 || slip > CLOCK_SLIP || slip < -CLOCK_SLIP)
        bus->hardware = software - hardware;
    return hardware + bus->hardware;
}

/* When the frame came; and what the kernel says that it threw away before it. */
static int64_t bus_read_ancillary(struct can_source *self, struct bus *bus, struct msghdr *message)
{
    struct stamps stamps = {{{0, 0}, {0, 0}, {0, 0}}};
    uint32_t drops = bus->drops;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_TIMESTAMPING &&
            part->cmsg_len >= CMSG_LEN(sizeof stamps))
            memcpy(&stamps, CMSG_DATA(part), sizeof stamps);
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_RXQ_OVFL &&
            part->cmsg_len >= CMSG_LEN(sizeof drops))
            memcpy(&drops, CMSG_DATA(part), sizeof drops);
    }
    if (drops != bus->drops)
        fms_count(self->host, COUNT_DROPS, drops - bus->drops);
    bus->drops = drops;
    return bus_time(bus, &stamps, fms_realtime(self->host));
}

/* What the controller says of itself. */
static void bus_note_error(struct can_source *self, struct bus *bus, uint32_t id)
{
    fms_count(self->host, COUNT_ERROR_FRAMES, 1);
    if ((id & CAN_ERR_BUSOFF) != 0) {
        bus->is_off = true;
        fms_count(self->host, COUNT_BUS_OFFS, 1);
        fms_link_down(self->host,
                      "%s: the controller is off the bus, as after many errors: wires, bit rate, terminator",
                      self->interface);
        fms_warn(self->host,
                 "%s: the controller is off the bus; it comes back by itself only with restart-ms (ip link set %s type "
                 "can restart-ms 100)",
                 self->interface, self->interface);
    }
}

/* Whatever comes of the bus shows that the controller is on it. */
static void bus_note_back(struct can_source *self, struct bus *bus)
{
    bus->is_off = false;
    fms_link_up(self->host);
    fms_info(self->host, "%s: the controller is on the bus again", self->interface);
}

/* False: it is no whole frame. */
static bool bus_convert(struct can_source *self, struct bus *bus, unsigned i, struct frame *frame)
{
    const struct canfd_frame *raw = &bus->frames[i];
    bool is_fd = bus->messages[i].msg_len == CANFD_MTU;
    size_t size = raw->len <= (is_fd ? CANFD_MAX_DLEN : CAN_MAX_DLEN) ? raw->len : 0;

    if (!is_fd && bus->messages[i].msg_len != CAN_MTU)
        return false;
    frame->time = bus_read_ancillary(self, bus, &bus->messages[i].msg_hdr);
    frame->id = raw->can_id & ((raw->can_id & (CAN_EFF_FLAG | CAN_ERR_FLAG)) != 0 ? CAN_EFF_MASK : CAN_SFF_MASK);
    frame->flags = (uint8_t)(((raw->can_id & CAN_ERR_FLAG) != 0   ? FRAME_ERROR
                              : (raw->can_id & CAN_EFF_FLAG) != 0 ? FRAME_EXTENDED
                                                                  : 0) |
                             ((raw->can_id & CAN_RTR_FLAG) != 0 ? FRAME_REMOTE : 0) | (is_fd ? FRAME_FD : 0) |
                             ((bus->messages[i].msg_hdr.msg_flags & MSG_DONTROUTE) != 0 ? FRAME_SENT : 0));
    frame->fd_flags = is_fd ? raw->flags & (CANFD_BRS | CANFD_ESI) : 0;
    frame->size = (uint8_t)size;
    memcpy(frame->data, raw->data, size);
    if ((raw->can_id & CAN_ERR_FLAG) != 0)
        bus_note_error(self, bus, raw->can_id);
    if (bus->is_off && ((raw->can_id & CAN_ERR_FLAG) == 0 || (raw->can_id & CAN_ERR_RESTARTED) != 0))
        bus_note_back(self, bus);
    return true;
}

/* Fetches frames; how many, 0 where there are none, or a negative errno. */
static int bus_fetch(struct bus *bus, unsigned most)
{
    int count;

    for (unsigned i = 0; i < most; i++) {
        bus->parts[i] = (struct iovec){&bus->frames[i], sizeof bus->frames[i]};
        bus->messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &bus->parts[i], .msg_iovlen = 1, .msg_control = bus->ancillary[i], .msg_controllen = ANCILLARY};
    }
    count = recvmmsg(bus->fd, bus->messages, most, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    bus->at = 0;
    bus->count = (unsigned)count;
    return count;
}

/* ----------------------------------------------------------------------------------------------------------- the decoder */

/* All that has come is taken in, whether the pipeline has room or not. How many frames; or a negative errno. */
static int bus_decode(struct can_source *self, struct bus *bus)
{
    int count = BATCH, taken = 0;

    for (int i = 0; i < BATCHES && count == BATCH; i++) {
        int64_t now = fms_now(self->host);

        count = bus_fetch(bus, BATCH);
        for (; bus->at < bus->count; bus->at++) {
            if (bus_convert(self, bus, bus->at, &bus->held))
                decoder_take(self, &bus->held, now);
        }
        taken += count > 0 ? count : 0;
    }
    return count < 0 ? count : taken;
}

/* The sample that is due. Those of intervals that have passed without a look would all be the same one. */
static int bus_sample(struct can_source *self, struct bus *bus)
{
    int64_t now = fms_now(self->host);

    if (bus->next == 0)
        bus->next = now + self->interval;
    if (now < bus->next)
        return 0;
    bus->next += ((now - bus->next) / self->interval + 1) * self->interval;
    return decoder_sample(self, now, fms_realtime(self->host));
}

/* -------------------------------------------------------------------------------------------------------------- raw frames */

/* As many as there is room for; what is not fetched, the kernel keeps, and counts what it has to drop. */
static int bus_pass_on(struct can_source *self, struct bus *bus, size_t credit)
{
    int error = 0;

    while (credit > 0 && error == 0) {
        if (self->is_ready) {
            error = source_emit(self);
            credit -= error == 0;
            continue;
        }
        if (bus->fd < 0)
            return 0;
        if (bus->at == bus->count) {
            int count = bus_fetch(bus, credit < BATCH ? (unsigned)credit : BATCH);

            if (count < 0)
                bus_lose(self, bus, count);
            if (count <= 0)
                return 0;
        }
        if (bus_convert(self, bus, bus->at++, &bus->held)) {
            fms_count(self->host, COUNT_FRAMES, 1);
            error = source_make_raw(self, &bus->held, bus->held.time);
        }
    }
    return error;
}

/* ----------------------------------------------------------------------------------------------------------------- poll */

static void bus_await(const struct bus *bus, struct fms_wait *wait)
{
    wait->fd = bus->fd;
    wait->events = POLLIN;
}

/* Where frames have come more will, and are left to gather; the next one is waited for after silence. */
static int bus_poll_decoded(struct can_source *self, struct bus *bus, size_t credit, struct fms_wait *wait)
{
    int taken = bus->fd >= 0 ? bus_decode(self, bus) : 0, error;
    int64_t again = taken == BATCH * BATCHES ? 0 : fms_now(self->host) + REST;

    if (taken < 0)
        bus_lose(self, bus, taken);
    error = bus_sample(self, bus);
    if (error == 0 && self->is_ready && credit > 0)
        error = source_emit(self);
    wait->deadline = taken > 0 && again < bus->next ? again : bus->next;
    if (taken == 0 && bus->fd >= 0)
        bus_await(bus, wait);
    return error;
}

int bus_poll(struct can_source *self, size_t credit, struct fms_wait *wait)
{
    struct bus *bus = self->bus;
    int error;

    if (bus->fd < 0 && fms_now(self->host) >= bus->retry_at)
        bus_try(self, bus);
    error = self->decoder != NULL ? bus_poll_decoded(self, bus, credit, wait) : bus_pass_on(self, bus, credit);
    if (bus->fd < 0 && bus->retry_at < wait->deadline)
        wait->deadline = bus->retry_at;
    if (bus->fd >= 0 && self->decoder == NULL && credit > 0)
        bus_await(bus, wait);
    return error;
}

/* ------------------------------------------------------------------------------------------------------------ opening */

int bus_open(struct can_source *self)
{
    struct bus *bus = calloc(1, sizeof *bus);

    if (bus == NULL)
        return fms_fail(self->host, -ENOMEM, "no memory for an interface");
    bus->fd = -1;
    memcpy(bus->held.interface, self->interface, strlen(self->interface) + 1);
    self->bus = bus;
    return 0;
}

void bus_close(struct can_source *self)
{
    if (self->bus->fd >= 0)
        close(self->bus->fd);
    free(self->bus);
    self->bus = NULL;
}

int bus_probe(const struct can_source *self, const struct fms_host *host)
{
    int fd = bus_socket(self);

    if (fd < 0)
        return fms_fail_option(host, "interface", fd, "%s: cannot be read: %s", self->interface, interface_advice(fd));
    close(fd);
    fms_report(host, "%s is a CAN interface, and up", self->interface);
    return 0;
}
