/* statistics.c - reads librdkafka's statistics (STATISTICS.md of librdkafka). See statistics.h.
 *
 * Only brokers and what stands before them is read: topics, which come behind, may be thousands. Of several brokers the slowest
 * counts, for it is what records wait for. */
#include "statistics.h"

#include <stdio.h>
#include <stdlib.h>

#include "kafka_common.h"

/* Microseconds in a window of time, of all brokers; -1: nothing happened in it. */
struct windows {
    int64_t rtt_p50, rtt_p99, int_p99, outbuf_p99;
};

#define SILENCE 10 /* seconds that an answer may take, longer than a consumer's broker may wait for messages */

struct statistics {
    const struct fms_host *host;
    int64_t silence; /* microseconds */
    uint64_t counts[KAFKA_COUNTERS];
    int64_t queue_messages, queue_bytes, queue_messages_limit, queue_bytes_limit;
    int64_t brokers, brokers_up, connections, in_flight, throttle_ms;
    int64_t answering, silent; /* of the connections: heard of late; owe an answer for too long */
    struct windows windows;
};

static bool is(struct fms_json json, const char *text)
{
    return json.text.size == strlen(text) && memcmp(json.text.data, text, json.text.size) == 0;
}

/* The text as a whole ends with a NUL byte. */
static int64_t number(struct fms_json json)
{
    return json.type == FMS_JSON_NUMBER ? strtoll(json.text.data, NULL, 10) : 0;
}

static void raise_to(int64_t *most, int64_t value)
{
    if (*most < value)
        *most = value;
}

struct window {
    int64_t count, p50, p99, max;
};

static struct window read_window(const struct statistics *self, struct fms_json of)
{
    struct window window = {0};
    struct fms_json name, value;

    while (fms_json_next(self->host, &of.text, &name, &value)) {
        if (is(name, "cnt"))
            window.count = number(value);
        else if (is(name, "p50"))
            window.p50 = number(value);
        else if (is(name, "p99"))
            window.p99 = number(value);
        else if (is(name, "max"))
            window.max = number(value);
    }
    return window;
}

static void read_windows(struct statistics *self, struct fms_json name, struct fms_json value)
{
    struct window window = read_window(self, value);

    if (window.count == 0)
        return;
    if (is(name, "rtt")) {
        raise_to(&self->windows.rtt_p50, window.p50);
        raise_to(&self->windows.rtt_p99, window.p99);
    } else if (is(name, "int_latency")) {
        raise_to(&self->windows.int_p99, window.p99);
    } else if (is(name, "outbuf_latency")) {
        raise_to(&self->windows.outbuf_p99, window.p99);
    } else if (is(name, "throttle")) {
        raise_to(&self->throttle_ms, window.max);
    }
}

static void read_count(struct statistics *self, struct fms_json name, struct fms_json value)
{
    static const struct {
        const char *name;
        int counter;
    } counts[] = {
        {"txbytes", KAFKA_SENT_BYTES},      {"rxbytes", KAFKA_RECEIVED_BYTES}, {"connects", KAFKA_CONNECTS},
        {"disconnects", KAFKA_DISCONNECTS}, {"txerrs", KAFKA_ERRORS},          {"rxerrs", KAFKA_ERRORS},
        {"txretries", KAFKA_RETRIES},       {"req_timeouts", KAFKA_TIMEOUTS},
    };

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (is(name, counts[i].name))
            self->counts[counts[i].counter] += (uint64_t)number(value);
    }
}

/* A connection rather: a broker has one under the name that the user gave it, until that is known to be its own, and its number
 * then; and one more as a group's coordinator, "logical", with the same number. */
static void read_broker(struct statistics *self, struct fms_bytes rest)
{
    bool has_number = false, is_logical = false, is_up = false;
    int64_t waiting = 0, idle = 0;
    struct fms_json name, value;

    while (fms_json_next(self->host, &rest, &name, &value)) {
        if (is(name, "nodeid"))
            has_number = number(value) >= 0;
        else if (is(name, "source"))
            is_logical = is(value, "logical");
        else if (is(name, "state"))
            is_up = is(value, "UP") || is(value, "UPDATE");
        else if (is(name, "rxidle"))
            idle = number(value);
        else if (is(name, "waitresp_cnt"))
            waiting = number(value);
        else if (value.type == FMS_JSON_NUMBER)
            read_count(self, name, value);
        else if (value.type == FMS_JSON_OBJECT && !is(name, "req") && !is(name, "toppars"))
            read_windows(self, name, value);
    }
    self->brokers += has_number && !is_logical;
    self->brokers_up += has_number && !is_logical && is_up;
    self->connections += is_up;
    self->answering += is_up && idle <= self->silence;
    self->silent += is_up && idle > self->silence && waiting > 0;
    self->in_flight += waiting;
}

static void read_brokers(struct statistics *self, struct fms_bytes rest)
{
    struct fms_json name, value;

    while (fms_json_next(self->host, &rest, &name, &value))
        read_broker(self, value.text);
}

static void read_all(struct statistics *self, struct fms_bytes rest)
{
    struct fms_json name, value;

    while (fms_json_next(self->host, &rest, &name, &value)) {
        if (is(name, "msg_cnt"))
            self->queue_messages = number(value);
        else if (is(name, "msg_size"))
            self->queue_bytes = number(value);
        else if (is(name, "msg_max"))
            self->queue_messages_limit = number(value);
        else if (is(name, "msg_size_max"))
            self->queue_bytes_limit = number(value);
        else if (is(name, "brokers")) {
            read_brokers(self, value.text);
            return;
        }
    }
}

/* They begin anew with each client, and may do with a connection: what is told never goes back. */
static void tell_counts(const struct statistics *self, uint64_t seen[KAFKA_COUNTERS])
{
    for (size_t i = 0; i < KAFKA_COUNTERS; i++) {
        if (self->counts[i] > seen[i])
            fms_count(self->host, i, self->counts[i] - seen[i]);
        seen[i] = self->counts[i];
    }
}

/* What was not measured is as it was. */
static void tell_window(const struct statistics *self, size_t gauge, int64_t microseconds)
{
    if (microseconds >= 0)
        fms_gauge(self->host, gauge, (double)microseconds / 1e6);
}

static void tell_queue(const struct statistics *self)
{
    fms_gauge(self->host, KAFKA_QUEUE_MESSAGES, (double)self->queue_messages);
    fms_gauge(self->host, KAFKA_QUEUE_BYTES, (double)self->queue_bytes);
    fms_gauge(self->host, KAFKA_QUEUE_MESSAGES_LIMIT, (double)self->queue_messages_limit);
    fms_gauge(self->host, KAFKA_QUEUE_BYTES_LIMIT, (double)self->queue_bytes_limit);
    tell_window(self, KAFKA_INT_LATENCY, self->windows.int_p99);
    tell_window(self, KAFKA_OUTBUF_LATENCY, self->windows.outbuf_p99);
}

/* A consumer always asks for more, and is always answered. A producer's messages may wait for a broker's replicas, and tell by their
 * age; without any it asks about its topics alone. */
static bool is_silent(const struct statistics *self, const rd_kafka_t *rk)
{
    return (rd_kafka_type(rk) == RD_KAFKA_CONSUMER || self->queue_messages == 0) && self->silent > 0 &&
           self->answering == 0;
}

int kafka_statistics(rd_kafka_t *rk, char *json, size_t size, void *opaque)
{
    struct kafka *kafka = opaque;
    struct statistics self = {.host = kafka->host, .windows = {-1, -1, -1, -1}};

    self.silence = SILENCE * INT64_C(1000000) + kafka_conf_number(rd_kafka_conf(rk), "fetch.wait.max.ms") * 1000;
    read_all(&self, fms_bytes_of(json, size));
    if (self.brokers_up == 0 && self.connections > 0) /* which of them it is connected to it will learn */
        self.brokers_up = 1;
    if (is_silent(&self, rk))
        snprintf(kafka->why, sizeof kafka->why, "it has been silent for more than %d s", SILENCE);
    kafka_is_connected(kafka, self.connections > 0 && !is_silent(&self, rk));
    tell_counts(&self, kafka->seen);
    fms_gauge(self.host, KAFKA_BROKERS, (double)self.brokers);
    fms_gauge(self.host, KAFKA_BROKERS_UP, (double)self.brokers_up);
    fms_gauge(self.host, KAFKA_IN_FLIGHT, (double)self.in_flight);
    tell_window(&self, KAFKA_RTT_P50, self.windows.rtt_p50);
    tell_window(&self, KAFKA_RTT_P99, self.windows.rtt_p99);
    fms_gauge(self.host, KAFKA_THROTTLE, (double)self.throttle_ms / 1e3);
    if (rd_kafka_type(rk) == RD_KAFKA_PRODUCER)
        tell_queue(&self);
    return 0;
}
