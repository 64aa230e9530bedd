/* statistics.h - what librdkafka's statistics say, as counters and gauges of both plugins.
 *
 * librdkafka measures each message for them, so they are made only where somebody watches, or the user asks for them. */
#ifndef KAFKA_STATISTICS_H
#define KAFKA_STATISTICS_H

#include <librdkafka/rdkafka.h>

#include "fms_plugin.h"

/* The first counters and gauges of both plugins; their own stand behind them. */
enum {
    KAFKA_SENT_BYTES,
    KAFKA_RECEIVED_BYTES,
    KAFKA_CONNECTS,
    KAFKA_DISCONNECTS,
    KAFKA_ERRORS,
    KAFKA_RETRIES,
    KAFKA_TIMEOUTS,
    KAFKA_COUNTERS,
};

enum {
    KAFKA_BROKERS,
    KAFKA_BROKERS_UP,
    KAFKA_IN_FLIGHT,
    KAFKA_RTT_P50,
    KAFKA_RTT_P99,
    KAFKA_THROTTLE,
    KAFKA_GAUGES,
};

/* A producer's gauges, behind those. */
enum {
    KAFKA_QUEUE_MESSAGES = KAFKA_GAUGES,
    KAFKA_QUEUE_BYTES,
    KAFKA_QUEUE_MESSAGES_LIMIT,
    KAFKA_QUEUE_BYTES_LIMIT,
    KAFKA_INT_LATENCY,
    KAFKA_OUTBUF_LATENCY,
    KAFKA_PRODUCER_GAUGES,
};

/* clang-format off */
#define KAFKA_COUNTER_TABLE                                                                                        \
    [KAFKA_SENT_BYTES] = {"sent_bytes", "bytes sent to brokers"},                                                  \
    [KAFKA_RECEIVED_BYTES] = {"received_bytes", "bytes received from brokers"},                                    \
    [KAFKA_CONNECTS] = {"connects", "connections to brokers that were tried"},                                     \
    [KAFKA_DISCONNECTS] = {"disconnects", "connections to brokers that ended or failed"},                          \
    [KAFKA_ERRORS] = {"request_errors", "requests to brokers that failed, and answers that did"},                  \
    [KAFKA_RETRIES] = {"request_retries", "requests to brokers that were sent again"},                             \
    [KAFKA_TIMEOUTS] = {"request_timeouts", "requests to brokers that were not answered in time"}

/* `waits`: what more a round trip takes. */
#define KAFKA_GAUGE_TABLE(waits)                                                                                   \
    [KAFKA_BROKERS] = {"brokers", "brokers of the cluster that are known"},                                        \
    [KAFKA_BROKERS_UP] = {"brokers_up", "brokers that are connected; one that is not needed is not"},              \
    [KAFKA_IN_FLIGHT] = {"in_flight_requests", "requests to brokers that are not answered yet"},                   \
    [KAFKA_RTT_P50] = {"rtt_p50_seconds", "median round trip to the slowest broker, of late" waits},               \
    [KAFKA_RTT_P99] = {"rtt_p99_seconds", "round trip that 99 % of the requests to the slowest broker kept within" \
                       waits},                                                                                     \
    [KAFKA_THROTTLE] = {"throttle_seconds", "the longest that brokers' quotas held this client back, of late"}

#define KAFKA_PRODUCER_GAUGE_TABLE                                                                                 \
    [KAFKA_QUEUE_MESSAGES] = {"queue_messages", "messages that librdkafka holds, those in flight included"},       \
    [KAFKA_QUEUE_BYTES] = {"queue_bytes", "bytes of them"},                                                        \
    [KAFKA_QUEUE_MESSAGES_LIMIT] = {"queue_limit_messages", "how many it may hold"},                               \
    [KAFKA_QUEUE_BYTES_LIMIT] = {"queue_limit_bytes", "bytes that it may hold"},                                   \
    [KAFKA_INT_LATENCY] = {"int_latency_p99_seconds", "what 99 % of the messages waited to become part of a "      \
                           "request, for the slowest broker: linger.ms, or a full queue"},                         \
    [KAFKA_OUTBUF_LATENCY] = {"outbuf_latency_p99_seconds", "what 99 % of the requests waited to be sent, to the " \
                              "slowest broker: a slow network"}
/* clang-format on */

/* Takes in one set of them: librdkafka's stats_cb. [lane], within rd_kafka_poll */
int kafka_statistics(rd_kafka_t *rk, char *json, size_t size, void *opaque);

#endif
