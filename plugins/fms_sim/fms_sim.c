/* fms_sim - a simulated fleet: each vehicle drives, and reports speed, rpm and fuel level as the mission's JSON.
 *
 * One counter is the whole schedule: message n is due at start + n * period / per_period and belongs to vehicle
 * n mod vehicles, so the fleet is spread evenly over the interval, nothing drifts, and a vehicle costs no timer.
 *
 * As a truck it has a bus instead: what its controllers would say, each at its own rate, is a list of frames by their times. */
#include <fms_plugin.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "sim_truck.h"

#define SIM_PREFIX_MAX  64
#define SIM_PAYLOAD_MAX 256 /* prefix, id, and nine numbers at their longest */
#define SIM_LOAD_PERIOD FMS_SECOND
#define SIM_ORIGIN_MAX  128 /* behind it stands the vehicle's id */

struct fms_sim {
    int64_t vehicles, interval, rate, count, seed;
    bool sequence;
    const struct fms_template *topic;
    const char *prefix, *counts, *origin;
    int format;
    const char *interface, *vin;

    const struct fms_host *host;
    struct vehicle *fleet;
    size_t next; /* whose turn it is */
    char **topics;
    size_t topic_count;

    int64_t period; /* of the schedule; 0: none, as fast as the pipeline takes it */
    int64_t per_period;
    int64_t start; /* -1: not yet */
    int64_t slot;  /* of the schedule: the next message */
    int64_t made;

    struct fms_record draft; /* topic, key and payload of the message in `payload` */
    bool is_pending;         /* it was refused for want of room */
    size_t head;             /* of the payload: what is the same in each message */
    int64_t second;          /* whose text is in `second_text` */
    char second_text[24];
    size_t second_size;
    char payload[SIM_PAYLOAD_MAX];

    struct fms_identity identity; /* of that message */
    char origin_text[FMS_ORIGIN_MOST + 1];
    size_t origin_head; /* of it: what is the same for each vehicle; 0: nobody asks */

    struct truck *truck; /* NULL: a fleet */
    int64_t epoch;       /* realtime at `start` */
    struct frame frame;  /* that comes next */
};

enum format { FORMAT_JSON, FORMAT_CAN };

static const struct fms_option fms_sim_options[] = {
    FMS_OPT_INTEGER(struct fms_sim, vehicles, "1", 1, 1000000, "size of the fleet"),
    FMS_OPT_DURATION(struct fms_sim, interval, "2s", FMS_MS, 3600 * FMS_SECOND,
                     "each vehicle sends so often; also the simulated time between two samples of a vehicle"),
    FMS_OPT_INTEGER(struct fms_sim, rate, "-1", -1, 100000000,
                    "messages a second of the whole fleet, instead of one per vehicle and interval; "
                    "0: as fast as the pipeline takes them; -1: by the interval"),
    FMS_OPT_INTEGER(struct fms_sim, count, "0", 0, INT64_MAX, "ends after so many messages; 0: never"),
    FMS_OPT_INTEGER(struct fms_sim, seed, "1", INT64_MIN, INT64_MAX,
                    "the same seed gives the same drive, apart from the timestamps"),
    FMS_OPT_BOOLEAN(struct fms_sim, sequence, "no",
                    "adds \"seq\", from 1 for each vehicle, and \"sent_ns\", the Unix time in nanoseconds"),
    FMS_OPT_TEMPLATE(struct fms_sim, topic, "fms/data", "topic; ${key} is the vehicle id"),
    FMS_OPT_STRING(struct fms_sim, prefix, "raspi-", "vehicle ids are this and a number of at least three digits"),
    FMS_OPT_STRING(struct fms_sim, counts, NULL,
                   "file for the last \"seq\" of each vehicle, written at the end; verify_sink reads it"),
    FMS_OPT_STRING(struct fms_sim, origin, NULL,
                   "name under which, with its id, each vehicle numbers its messages from 1, for sinks that deliver "
                   "each once; random: "
                   "another at each start; with a fixed one those of a later start count as the same; absent: none"),
    FMS_OPT_CHOICE(struct fms_sim, format, "json", "json|can",
                   "json: samples; can: the frames of one vehicle's bus, each a line of candump's, at the rates of the "
                   "FMS-Standard"),
    FMS_OPT_STRING(struct fms_sim, interface, "can0",
                   "with format = can: the interface that the lines name; the records' key"),
    FMS_OPT_STRING(struct fms_sim, vin, "FMSSXM00000000001", "with format = can: the vehicle's VIN, 17 letters"),
    FMS_OPT_END,
};

enum { COUNT_SKIPPED };

static const struct fms_metric fms_sim_counters[] = {
    [COUNT_SKIPPED] =
        {"skipped", "samples that were due while the pipeline had no room, and were never made; frames are only late"},
    {NULL, NULL},
};

/* --------------------------------------------------------------------------------------------------------- messages */

static char *put_text(char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

#define PUT(to, literal) put_text(to, literal, sizeof(literal) - 1)

/* At least `digits` of them, with zeros before. */
static char *put_number(char *to, uint64_t value, int digits)
{
    char text[20];
    int i = (int)sizeof text;

    do {
        text[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0 || (int)sizeof text - i < digits);
    return put_text(to, text + i, sizeof text - (size_t)i);
}

static char *put_hundredths(char *to, int64_t value)
{
    to = put_number(to, (uint64_t)value / 100, 1);
    *to++ = '.';
    return put_number(to, (uint64_t)value % 100, 2);
}

static char *put_second(struct fms_sim *self, char *to, int64_t second)
{
    if (second != self->second) {
        self->second = second;
        self->second_size = (size_t)(put_number(self->second_text, (uint64_t)second, 1) - self->second_text);
    }
    return put_text(to, self->second_text, self->second_size);
}

/* The payload's unchanging head, up to the number of the vehicle; the key lies in it. */
static void fms_sim_make_head(struct fms_sim *self)
{
    char *to = PUT(self->payload, "{\"vehicle_id\":\"");

    self->draft.key.data = to;
    self->head = (size_t)(put_text(to, self->prefix, strlen(self->prefix)) - self->payload);
}

static char *fms_sim_put_id(struct fms_sim *self, size_t vehicle)
{
    char *to = put_number(self->payload + self->head, vehicle + 1, 3);

    self->draft.key.size = (size_t)(to - (const char *)self->draft.key.data);
    return to;
}

static void fms_sim_identify(struct fms_sim *self, uint64_t sequence)
{
    const struct fms_bytes *id = &self->draft.key;

    memcpy(self->origin_text + self->origin_head, id->data, id->size);
    self->identity = (struct fms_identity){
        .kind = FMS_NUMBERED, .origin = {self->origin_text, self->origin_head + id->size}, .sequence = sequence};
    self->draft.identity = &self->identity;
}

/* The next vehicle drives on and reports. */
static void fms_sim_make(struct fms_sim *self)
{
    struct vehicle *v = &self->fleet[self->next];
    int64_t now = fms_realtime(self->host);
    char *to = fms_sim_put_id(self, self->next);

    v->sequence++;
    vehicle_drive(v, self->interval / FMS_US);
    to = PUT(to, "\",\"timestamp\":");
    to = put_second(self, to, now / FMS_SECOND);
    to = PUT(to, ",\"speed\":");
    to = put_hundredths(to, (int64_t)v->speed * 9 / 25000);
    to = PUT(to, ",\"rpm\":");
    to = put_number(to, (uint64_t)vehicle_rpm(v), 1);
    to = PUT(to, ",\"fuel_level\":");
    to = put_hundredths(to, v->fuel / (PERCENT / 100));
    if (self->sequence) {
        to = PUT(to, ",\"seq\":");
        to = put_number(to, v->sequence, 1);
        to = PUT(to, ",\"sent_ns\":");
        to = put_number(to, (uint64_t)now, 1);
    }
    *to++ = '}';
    if (self->origin_head > 0)
        fms_sim_identify(self, v->sequence);
    self->draft.topic = v->topic;
    self->draft.payload = fms_bytes_of(self->payload, (size_t)(to - self->payload));
    self->draft.timestamp = now;
    self->next = self->next + 1 < (size_t)self->vehicles ? self->next + 1 : 0;
}

/* --------------------------------------------------------------------------------------------------------- schedule */

static int64_t fms_sim_due(const struct fms_sim *self)
{
    return self->start + self->slot / self->per_period * self->period +
           self->slot % self->per_period * self->period / self->per_period;
}

/* What a stall has made late by whole periods is left out: the fleet reports what is, not what was. */
static void fms_sim_skip(struct fms_sim *self, int64_t late)
{
    int64_t periods = late / self->period;

    if (periods == 0)
        return;
    self->start += periods * self->period;
    fms_count(self->host, COUNT_SKIPPED, (uint64_t)(periods * self->per_period));
}

/* When the next message is due; it is, if that is not after `now`. */
static int64_t fms_sim_next_due(struct fms_sim *self, int64_t now)
{
    if (self->period == 0)
        return now;
    if (self->start < 0)
        self->start = now;
    if (now > fms_sim_due(self))
        fms_sim_skip(self, now - fms_sim_due(self));
    return fms_sim_due(self);
}

static bool fms_sim_is_complete(const struct fms_sim *self)
{
    return self->count > 0 && self->made == self->count;
}

/* 0, or what fms_emit says. */
static int fms_sim_send(struct fms_sim *self)
{
    int error;

    if (!self->is_pending)
        fms_sim_make(self);
    error = fms_emit(self->host, &self->draft);
    self->is_pending = error != 0;
    if (error != 0)
        return error;
    self->slot++;
    self->made++;
    return 0;
}

static int fms_sim_poll_fleet(struct fms_sim *self, size_t credit, struct fms_wait *wait)
{
    int64_t now = fms_now(self->host);
    int64_t due;
    int error = 0;

    due = fms_sim_next_due(self, now);
    for (; credit > 0 && due <= now && error == 0 && !fms_sim_is_complete(self); credit--) {
        error = fms_sim_send(self);
        due = self->period > 0 ? fms_sim_due(self) : now;
    }
    if (fms_sim_is_complete(self))
        return FMS_END;
    if (error == 0)
        wait->deadline = due;
    return error == -EAGAIN || error == -ESHUTDOWN ? 0 : error;
}

/* ------------------------------------------------------------------------------------------------------------ truck */

/* The frame that comes next, as a record. */
static int fms_sim_make_frame(struct fms_sim *self)
{
    int error;

    truck_next(self->truck, &self->frame);
    self->frame.time += self->epoch;
    self->draft = (struct fms_record){.key = fms_text(self->interface),
                                      .payload = {self->payload, frame_write(&self->frame, self->payload)},
                                      .timestamp = self->frame.time};
    error = fms_expand(self->host, self->topic, &self->draft, &self->draft.topic);
    self->is_pending = error == 0;
    return error;
}

/* A bus that was held up for long goes on from where it was, later. */
static int64_t fms_sim_frame_due(struct fms_sim *self, int64_t now)
{
    int64_t due = self->start + self->frame.time - self->epoch;

    if (self->rate == 0)
        return now;
    if (now - due > SIM_LOAD_PERIOD) {
        self->start += now - due;
        return now;
    }
    return due;
}

static int fms_sim_poll_truck(struct fms_sim *self, size_t credit, struct fms_wait *wait)
{
    int64_t now = fms_now(self->host), due = now;
    int error = 0;

    if (self->start < 0) {
        self->start = now;
        self->epoch = fms_realtime(self->host);
    }
    while (credit > 0 && error == 0 && !fms_sim_is_complete(self)) {
        error = self->is_pending ? 0 : fms_sim_make_frame(self);
        due = fms_sim_frame_due(self, now);
        if (error != 0 || due > now)
            break;
        error = fms_emit(self->host, &self->draft);
        self->is_pending = error != 0;
        self->made += error == 0;
        credit -= error == 0;
    }
    if (fms_sim_is_complete(self))
        return FMS_END;
    if (error == 0)
        wait->deadline = due;
    return error == -EAGAIN || error == -ESHUTDOWN ? 0 : error;
}

static int fms_sim_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct fms_sim *self = instance;

    if (credit == 0)
        return 0;
    return self->truck != NULL ? fms_sim_poll_truck(self, credit, wait) : fms_sim_poll_fleet(self, credit, wait);
}

/* -------------------------------------------------------------------------------------------------------- beginning */

static int fms_sim_expand_topic(struct fms_sim *self, const struct fms_host *host, size_t vehicle,
                                struct fms_bytes *topic)
{
    int error;

    fms_sim_put_id(self, vehicle);
    error = fms_expand(host, self->topic, &self->draft, topic);
    if (error == -ENOENT)
        return fms_fail_option(host, "topic", -EINVAL, "only ${key}, the vehicle id, is known here (%s)",
                               (const char *)topic->data);
    if (error != 0)
        return fms_fail_option(host, "topic", error, "cannot expand the topic: %s", strerror(-error));
    return 0;
}

/* A bus is one vehicle's, and its controllers have rates of their own. */
static int fms_sim_check_truck(struct fms_sim *self, const struct fms_host *host)
{
    if (self->vehicles != 1)
        return fms_fail_option(host, "vehicles", -EINVAL,
                               "does not go with format = can: a bus is that of one vehicle");
    if (self->sequence)
        return fms_fail_option(host, "sequence", -EINVAL, "does not go with format = can: frames have no room for it");
    if (self->origin != NULL)
        return fms_fail_option(host, "origin", -EINVAL, "does not go with format = can: a bus numbers nothing");
    if (self->rate > 0)
        return fms_fail_option(host, "rate", -EINVAL,
                               "does not go with format = can, but for 0: messages have rates of their own");
    if (*self->interface == '\0' || strlen(self->interface) >= FRAME_INTERFACE ||
        strpbrk(self->interface, " \t\n") != NULL)
        return fms_fail_option(host, "interface", -EINVAL, "\"%s\" is none; a name has 1 to 15 letters",
                               self->interface);
    if (strlen(self->vin) != TRUCK_VIN || strspn(self->vin, "ABCDEFGHJKLMNPRSTUVWXYZ0123456789") != TRUCK_VIN)
        return fms_fail_option(host, "vin", -EINVAL, "\"%s\" is none; it has 17 of A-Z and 0-9, without I, O and Q",
                               self->vin);
    return 0;
}

static int fms_sim_check(void *instance, const struct fms_host *host)
{
    struct fms_sim *self = instance;
    struct fms_bytes topic;
    int error = self->format == FORMAT_CAN ? fms_sim_check_truck(self, host) : 0;

    if (error != 0)
        return error;
    if (strlen(self->prefix) > SIM_PREFIX_MAX)
        return fms_fail_option(host, "prefix", -EINVAL, "at most %d characters, please", SIM_PREFIX_MAX);
    for (const char *c = self->prefix; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == '"' || *c == '\\')
            return fms_fail_option(host, "prefix", -EINVAL, "no quotes, backslashes or control characters, please");
    }
    if (self->counts != NULL && !self->sequence)
        return fms_fail_option(host, "counts", -EINVAL, "needs sequence = yes: without it nothing is numbered");
    if (self->origin != NULL && (*self->origin == '\0' || strlen(self->origin) > SIM_ORIGIN_MAX))
        return fms_fail_option(host, "origin", -EINVAL, "has 1 to %d bytes", SIM_ORIGIN_MAX);
    fms_promise(host, NULL, FMS_AT_MOST_ONCE, "what is in flight when the process ends is not made again");
    fms_sim_make_head(self);
    return fms_sim_expand_topic(self, host, 0, &topic);
}

/* A line for each vehicle that sent something: its last number, a blank, its id. */
static void fms_sim_print_counts(struct fms_sim *self, FILE *out)
{
    size_t refused = self->next > 0 ? self->next - 1 : (size_t)self->vehicles - 1;

    for (size_t i = 0; i < (size_t)self->vehicles; i++) {
        uint64_t last = self->fleet[i].sequence - (self->is_pending && i == refused);

        fms_sim_put_id(self, i);
        if (last > 0)
            fprintf(out, "%llu %.*s\n", (unsigned long long)last, (int)self->draft.key.size,
                    (const char *)self->draft.key.data);
    }
}

/* The file is whole or not there at all. */
static void fms_sim_write_counts(struct fms_sim *self)
{
    char path[4096];
    FILE *out = NULL;
    bool is_good = snprintf(path, sizeof path, "%s.new", self->counts) < (int)sizeof path;

    if (is_good) {
        unlink(path); /* of a crash; nothing is written through what somebody else has put there */
        out = fopen(path, "wxe");
    }
    if (out != NULL) {
        fms_sim_print_counts(self, out);
        is_good = ferror(out) == 0;
        is_good = fclose(out) == 0 && is_good && rename(path, self->counts) == 0;
    }
    if (out == NULL || !is_good)
        fms_fail_option(self->host, "counts", -EIO, "%s: cannot be written: %s", self->counts, strerror(errno));
}

static void fms_sim_free(struct fms_sim *self)
{
    for (size_t i = 0; i < self->topic_count; i++)
        free(self->topics[i]);
    free(self->topics);
    free(self->fleet);
    truck_free(self->truck);
}

static void fms_sim_close(void *instance)
{
    struct fms_sim *self = instance;

    if (self->counts != NULL)
        fms_sim_write_counts(self);
    fms_sim_free(self);
}

/* Gives a vehicle its topic: that of the one before where it is the same, as it is without ${key}. */
static int fms_sim_set_topic(struct fms_sim *self, size_t vehicle)
{
    struct vehicle *v = &self->fleet[vehicle];
    struct fms_bytes topic;
    char *copy;
    int error = fms_sim_expand_topic(self, self->host, vehicle, &topic);

    if (error != 0)
        return error;
    if (vehicle > 0 && v[-1].topic.size == topic.size && memcmp(v[-1].topic.data, topic.data, topic.size) == 0) {
        v->topic = v[-1].topic;
        return 0;
    }
    copy = strdup(topic.data);
    if (copy == NULL)
        return fms_fail(self->host, -ENOMEM, "no memory for the topics of %lld vehicles", (long long)self->vehicles);
    self->topics[self->topic_count++] = copy;
    v->topic = fms_bytes_of(copy, topic.size);
    return 0;
}

static int fms_sim_make_fleet(struct fms_sim *self)
{
    size_t vehicles = (size_t)self->vehicles;
    int error = 0;

    self->fleet = calloc(vehicles, sizeof *self->fleet);
    self->topics = calloc(vehicles, sizeof *self->topics);
    if (self->fleet == NULL || self->topics == NULL)
        return fms_fail(self->host, -ENOMEM, "no memory for %zu vehicles", vehicles);
    for (size_t i = 0; i < vehicles && error == 0; i++) {
        vehicle_init(&self->fleet[i], (uint64_t)self->seed, i);
        error = fms_sim_set_topic(self, i);
    }
    return error;
}

static int fms_sim_make_truck(struct fms_sim *self)
{
    char why[SIGNAL_WHY] = "no memory";

    self->truck = truck_new(&self->fleet[0], self->interface, self->vin, why);
    return self->truck != NULL ? 0 : fms_fail(self->host, -ENOMEM, "the truck: %s", why);
}

/* The part of the origin that all vehicles have. */
static int fms_sim_make_origin(struct fms_sim *self)
{
    uint64_t id[2];

    if (self->origin == NULL || !self->host->identities)
        return 0;
    if (strcmp(self->origin, "random") != 0) {
        self->origin_head = (size_t)snprintf(self->origin_text, sizeof self->origin_text, "%s/", self->origin);
        return 0;
    }
    if (getrandom(id, sizeof id, 0) != sizeof id)
        return fms_fail(self->host, -errno, "no random numbers: %s", strerror(errno));
    self->origin_head = (size_t)snprintf(self->origin_text, sizeof self->origin_text,
                                         "fms_sim:%016" PRIx64 "%016" PRIx64 "/", id[0], id[1]);
    return 0;
}

static int fms_sim_open(void *instance, const struct fms_host *host)
{
    struct fms_sim *self = instance;
    int error;

    self->host = host;
    self->start = -1;
    self->second = -1;
    self->period = self->rate < 0 ? self->interval : self->rate > 0 ? SIM_LOAD_PERIOD : 0;
    self->per_period = self->rate < 0 ? self->vehicles : self->rate;
    error = fms_sim_make_fleet(self);
    if (error == 0)
        error = fms_sim_make_origin(self);
    if (error == 0 && self->format == FORMAT_CAN)
        error = fms_sim_make_truck(self);
    if (error == 0 && self->counts != NULL && unlink(self->counts) != 0 && errno != ENOENT) /* of an earlier run */
        error = fms_fail_option(host, "counts", -errno, "%s: %s", self->counts, strerror(errno));
    if (error != 0)
        fms_sim_free(self);
    return error;
}

FMS_PLUGIN(.name = "fms_sim", .version = FMS_VERSION, .summary = "A simulated fleet of vehicles that send telemetry",
           .options = fms_sim_options, .counters = fms_sim_counters, .instance_size = sizeof(struct fms_sim),
           .check = fms_sim_check, .open = fms_sim_open, .close = fms_sim_close, .source_poll = fms_sim_poll);
