/* can_source - a vehicle's CAN bus: from an interface or from a log of candump's, its frames as they are, or the FMS-Standard's signals as
 * samples in JSON.
 *
 * A bus does not wait. So a sample is what is known when it is due, and where the pipeline has no room the newest replaces the one that waits;
 * only a log is read no faster than it is taken. */
#include "can_source.h"

#include <errno.h>
#include <stdlib.h>

/* clang-format off */
static const struct fms_option can_source_options[] = {
    FMS_OPT_STRING(struct can_source, interface, NULL, "SocketCAN interface, such as can0; what has a slash in it, as ./drive.log, is a path"),
    FMS_OPT_STRING(struct can_source, path, NULL, "log of candump -l, -L or of what it shows; -: standard input; one of interface and path"),
    {"speed", FMS_STRING, FMS_FIELD(struct can_source, speed_text, const char *), "0", 0, 0, NULL,
     "with path: 1: frames follow each other as they once did, by their times; 10, 0.5: so many times as fast; 0: as fast as the "
     "pipeline takes them", NULL, 0},
    FMS_OPT_CHOICE(struct can_source, on_bad_line, "reject", "reject|stop|skip",
                   "with path: what to do with a line that is no frame; reject: it goes to dead letters, or where on_reject says; skip: "
                   "count it, log it, go on"),
    FMS_OPT_CHOICE(struct can_source, decode, "none", "none|fms",
                   "none: a record a frame, its payload candump's line; fms: a record an interval with the vehicle's signals"),
    FMS_OPT_DURATION(struct can_source, interval, "1s", 10 * FMS_MS, 3600 * FMS_SECOND, "with decode = fms: a sample so often"),
    FMS_OPT_LIST(struct can_source, signals, NULL,
                 "with decode = fms: signals besides speed, rpm and fuel_level, as the table names them; all: each that is not personal"),
    FMS_OPT_STRING(struct can_source, vehicle_id, NULL,
                   "with decode = fms: the vehicle's id; absent or empty: the VIN, once the bus has told it"),
    FMS_OPT_STRING(struct can_source, table, NULL,
                   "with decode = fms: file with more signals, or others in the place of those of that name; a DBC, if it ends with .dbc"),
    FMS_OPT_PAIRS(struct can_source, addresses, "address.",
                  "address.fuel_level = 49: the address from which a signal is taken, 0 to 253; absent: the first that has a value"),
    FMS_OPT_BOOLEAN(struct can_source, bus_clock, "no",
                    "with interface and decode = fms: while the system does not know its clock to be right, the time is the bus's (TD)"),
    FMS_OPT_TEMPLATE(struct can_source, topic, "fms/data", "topic; ${key} is the vehicle id, or with decode = none the interface"),
    FMS_OPT_END,
};

static const struct fms_metric can_source_counters[] = {
    [COUNT_FRAMES] = {"frames", "frames that came"},
    [COUNT_BAD_LINES] = {"bad_lines", "lines of a log that were no frame"},
    [COUNT_DROPS] = {"drops", "frames that the kernel threw away, for they were not fetched in time"},
    [COUNT_ERROR_FRAMES] = {"error_frames", "error frames: what the controller or the log says of faults of the bus"},
    [COUNT_BUS_OFFS] = {"bus_offs", "times that the controller went off the bus"},
    [COUNT_OVERTAKEN] = {"overtaken", "samples that a newer one replaced while the pipeline had no room"},
    [COUNT_EMPTY] = {"empty", "intervals in which no signal that is asked for had a value"},
    [COUNT_NAMELESS] = {"nameless", "samples that were not made, for the VIN was not known yet"},
    [COUNT_ADDRESSES] = {"addresses", "times that a signal was taken from another address than before"},
    [COUNT_VALUES + SIGNAL_VALUE] = {"values", "times that a message had a value for a signal"},
    [COUNT_VALUES + SIGNAL_ABSENT] = {"values_absent", "times that a message was too short for a signal"},
    [COUNT_VALUES + SIGNAL_NOT_AVAILABLE] = {"values_not_available", "times that a signal was not available, as its sender said"},
    [COUNT_VALUES + SIGNAL_ERROR] = {"values_error", "times that a signal was an error, as its sender said"},
    [COUNT_VALUES + SIGNAL_OUT_OF_RANGE] = {"values_out_of_range", "times that a signal had a value that the standard does not allow"},
    [COUNT_TRANSPORT + J1939_COMPLETE] = {"transport_complete", "messages put together of several packets"},
    [COUNT_TRANSPORT + J1939_LOST] = {"transport_lost", "such messages given up, for packets were missing"},
    [COUNT_TRANSPORT + J1939_TIMED_OUT] = {"transport_timed_out", "such messages given up, for nothing more came"},
    [COUNT_TRANSPORT + J1939_OVERLAPPED] = {"transport_overlapped", "such messages given up, for their sender began another"},
    [COUNT_TRANSPORT + J1939_ABORTED] = {"transport_aborted", "such messages given up by their sender or receiver"},
    [COUNT_TRANSPORT + J1939_CONFLICTS] = {"transport_conflicts", "such messages given up, for a packet came twice and differed"},
    [COUNT_TRANSPORT + J1939_DOUBLED] = {"transport_doubled", "packets that came twice"},
    [COUNT_TRANSPORT + J1939_REORDERED] = {"transport_reordered", "packets that came behind a later one"},
    [COUNT_TRANSPORT + J1939_ORPHANS] = {"transport_orphans", "packets of no message that was announced"},
    [COUNT_TRANSPORT + J1939_BAD_SIZES] = {"transport_bad_sizes", "announcements and packets whose sizes or numbers cannot be"},
    [COUNT_TRANSPORT + J1939_NO_ROOM] = {"transport_no_room", "such messages left out, for 16 others were under way"},
    [COUNTS] = {NULL, NULL},
};

static const struct fms_metric can_source_gauges[] = {
    [GAUGE_SIGNALS] = {"signals", "signals that are asked for"},
    [GAUGE_VALUES] = {"fresh_signals", "of these, how many have a value that is not too old"},
    {NULL, NULL},
};
/* clang-format on */

/* ------------------------------------------------------------------------------------------------------------ drafts */

int source_address(struct can_source *self)
{
    int error = fms_expand(self->host, self->topic, &self->draft, &self->draft.topic);

    if (error == 0)
        return 0;
    return fms_fail_option(self->host, "topic", error == -ENOENT ? -EINVAL : error, "cannot be expanded: %s",
                           error == -ENOENT ? (const char *)self->draft.topic.data : strerror(-error));
}

int source_make_raw(struct can_source *self, const struct frame *frame, int64_t timestamp)
{
    size_t size = frame_write(frame, self->line);

    self->draft = (struct fms_record){
        .key = fms_text(frame->interface), .payload = fms_bytes_of(self->line, size), .timestamp = timestamp};
    self->is_ready = true;
    return source_address(self);
}

int source_emit(struct can_source *self)
{
    int error = fms_emit(self->host, &self->draft);

    self->is_ready = error == -EAGAIN;
    return error;
}

/* -------------------------------------------------------------------------------------------------------------- check */

/* One pipeline file leaves these to the environment: no interface has a slash in its name, so that is a log's; and an empty id is none. */
static void can_source_take_options(struct can_source *self)
{
    if (self->vehicle_id != NULL && *self->vehicle_id == '\0')
        self->vehicle_id = NULL;
    self->path_option = "path";
    if (self->path != NULL || self->interface == NULL || strchr(self->interface, '/') == NULL)
        return;
    self->path = self->interface;
    self->interface = NULL;
    self->path_option = "interface";
}

static int can_source_check_input(const struct can_source *self, const struct fms_host *host)
{
    if (self->interface == NULL && self->path == NULL)
        return fms_fail_option(host, "interface", -EINVAL,
                               "is missing, and so is path: one of them says where frames come from");
    if (self->interface != NULL && self->path != NULL)
        return fms_fail_option(host, "path", -EINVAL, "does not go with interface: frames come from one of them");
    if (self->interface != NULL && (*self->interface == '\0' || strlen(self->interface) >= FRAME_INTERFACE))
        return fms_fail_option(host, "interface", -EINVAL, "\"%s\" is none; a name has 1 to 15 letters",
                               self->interface);
    return self->path != NULL ? log_check(self, host) : 0;
}

static int can_source_check_raw(const struct can_source *self, const struct fms_host *host)
{
    const char *option = self->signals.count > 0     ? "signals"
                         : self->vehicle_id != NULL  ? "vehicle_id"
                         : self->table != NULL       ? "table"
                         : self->addresses.count > 0 ? self->addresses.items[0].option
                         : self->bus_clock           ? "bus_clock"
                                                     : NULL;

    return option == NULL ? 0
                          : fms_fail_option(host, option, -EINVAL, "is for decode = fms; raw frames are as they are");
}

/* What can be seen of the topic before a frame has come: that it needs nothing but the key. */
static int can_source_check_topic(struct can_source *self, const struct fms_host *host)
{
    struct fms_record draft = {.key = fms_text("x"), .payload = fms_text("{}")};
    struct fms_bytes topic;
    int error = fms_expand(host, self->topic, &draft, &topic);

    if (error != -ENOENT)
        return error;
    return fms_fail_option(host, "topic", -EINVAL, "only ${key} is known here (%s)", (const char *)topic.data);
}

static int can_source_check(void *instance, const struct fms_host *host)
{
    struct can_source *self = instance;
    int error, other;

    can_source_take_options(self);
    if (self->path != NULL && strcmp(self->path, "-") == 0)
        fms_promise(host, "path", FMS_AT_MOST_ONCE,
                    "standard input comes once: what is in flight when the process ends is lost");
    else if (self->path != NULL)
        fms_promise(host, "path", FMS_AT_LEAST_ONCE, "a log is read from its beginning after each start");
    else
        fms_promise(
            host, "interface", FMS_AT_MOST_ONCE,
            "a bus says nothing again: what is in flight when the process ends, and what it says meanwhile, is lost");
    error = can_source_check_input(self, host);
    other = self->decode == DECODE_FMS ? decoder_check(self, host) : can_source_check_raw(self, host);
    error = error != 0 ? error : other;
    other = can_source_check_topic(self, host);
    return error != 0 ? error : other;
}

static int can_source_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    const struct can_source *self = instance;

    (void)deadline;
    return self->interface != NULL ? bus_probe(self, host) : 0;
}

/* ----------------------------------------------------------------------------------------------------------------- run */

static int can_source_open(void *instance, const struct fms_host *host)
{
    struct can_source *self = instance;
    int error;

    self->host = host;
    error = self->decode == DECODE_FMS ? decoder_open(self) : 0;
    if (error != 0)
        return error;
    error = self->interface != NULL ? bus_open(self) : log_open(self);
    if (error != 0)
        decoder_close(self);
    return error;
}

static void can_source_close(void *instance)
{
    struct can_source *self = instance;

    if (self->bus != NULL)
        bus_close(self);
    if (self->log != NULL)
        log_close(self);
    decoder_close(self);
}

static int can_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct can_source *self = instance;
    int result;

    if (self->is_stopped)
        return FMS_END;
    result = self->bus != NULL ? bus_poll(self, credit, wait) : log_poll(self, credit, wait);
    decoder_count(self);
    return result == -EAGAIN || result == -ESHUTDOWN ? 0 : result;
}

static void can_source_stop(void *instance)
{
    ((struct can_source *)instance)->is_stopped = true;
}

static void can_source_measure(void *instance)
{
    decoder_measure(instance);
}

FMS_PLUGIN(.name = "can_source", .version = FMS_VERSION,
           .summary = "Reads a vehicle's CAN bus, or a log of it, and the FMS-Standard's signals",
           .options = can_source_options, .counters = can_source_counters, .instance_size = sizeof(struct can_source),
           .traits = FMS_TRAIT_LINK, .check = can_source_check, .probe = can_source_probe, .open = can_source_open,
           .close = can_source_close, .source_poll = can_source_poll, .source_stop = can_source_stop,
           .gauges = can_source_gauges, .measure = can_source_measure);
