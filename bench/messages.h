/* messages.h - the telemetry that the benchmarks send, as PUBLISH packets that are ready but for what changes from one to the
 * next. Shared by firehose and publisher. */
#ifndef BENCH_MESSAGES_H
#define BENCH_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct messages {
    unsigned vehicles, qos;
    size_t payload;                                /* bytes */
    size_t packet_size;                            /* all packets have the same */
    size_t id_at, number_at, sequence_at, sent_at; /* number_at 0: there is none */
    unsigned char *packets;                        /* one a vehicle */
};

/* Vehicle n of `vehicles` (1 to 99999) publishes to fms/vNNNNN/data at QoS `qos` (0 or 1) JSON of `payload` bytes (128 to
 * 1048576), whose rest is random hexadecimal digits: they hardly compress. `is_numbered`, for MQTT 5 only: each says whose it is and
 * its number in user properties too, as mqtt_sink does with `identity = yes`. Exits if that can't be had. */
void messages_make(struct messages *messages, unsigned vehicles, unsigned qos, size_t payload, bool is_5,
                   bool is_numbered);

/* Writes the packet of message number `n`, from 0, to `to`: the vehicles take turns, and "seq" counts from 1 for each.
 * `sent` is Unix time in nanoseconds; `id`, of 1 to 65535, is for QoS 1. */
void messages_write(const struct messages *messages, uint64_t n, uint16_t id, int64_t sent, unsigned char *to);

/* A variable byte integer (MQTT 5, 1.5.5); returns its size, 1 to 4. */
size_t messages_write_length(unsigned char *to, size_t length);

/* How many of the first `count` messages are of vehicle `vehicle`. */
uint64_t messages_of(const struct messages *messages, unsigned vehicle, uint64_t count);

/* Nanoseconds of CLOCK_REALTIME. */
int64_t messages_now(void);

/* A number of the command line from `least` to `most`; exits with 2, naming it, if it is none. */
uint64_t messages_number(const char *name, const char *text, uint64_t least, uint64_t most);

#endif
