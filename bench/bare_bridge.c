/* bare_bridge.c - the least that a bridge from MQTT to Kafka can be when it loses nothing: one loop without a framework. What a broker's
 * window costs fmspipe is measured against it; see windows.py.
 *
 *   bare_bridge HOST PORT FILTER KAFKA-BROKERS TOPIC realtime|throughput
 *
 * It reads 64 KiB from its socket, finds each message (MQTT 3.1.1, QoS 1) where it lies, takes the key from the payload's
 * "vehicle_id", produces, and acknowledges in order once Kafka has reported. No reconnection, no queue but librdkafka's, nothing
 * is checked that need not be. librdkafka is set as kafka_sink's profiles set it. It ends with its connection. */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#define ROOM   (64u << 10)
#define WINDOW 65536u /* identifiers of packets */

struct bridge {
    int fd, event_fd;
    rd_kafka_t *kafka;
    rd_kafka_topic_t *topic;
    unsigned char in[ROOM], out[4 * WINDOW];
    size_t in_size, out_size;
    struct flight {
        uint16_t id;
        bool is_stored;
    } flights[WINDOW]; /* a ring */
    unsigned first, last;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bare_bridge: %s: %s\n", what, why);
    exit(1);
}

/* -------------------------------------------------------------------------------------------------------------- Kafka */

static void on_report(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque)
{
    struct flight *flight = message->_private;

    (void)kafka;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("delivery", rd_kafka_err2str(message->err));
    flight->is_stored = true;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[256];

    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        die(name, error);
}

static void kafka_open(struct bridge *bridge, const char *brokers, const char *topic, bool is_realtime)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char error[256];

    set(conf, "log_level", "3"); /* else it says what it thinks of gapless.guarantee */
    set(conf, "bootstrap.servers", brokers);
    set(conf, "socket.nagle.disable", "true");
    set(conf, "acks", "all");
    set(conf, "enable.idempotence", "true");
    set(conf, "enable.gapless.guarantee", "true");
    set(conf, "message.timeout.ms", "0");
    set(conf, "partitioner", "murmur2_random");
    set(conf, "linger.ms", is_realtime ? "0" : "5");
    set(conf, "queue.buffering.max.messages", is_realtime ? "20000" : "200000");
    if (!is_realtime) {
        set(conf, "batch.num.messages", "10000");
        set(conf, "compression.codec", "lz4");
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    bridge->kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (bridge->kafka == NULL)
        die("librdkafka", error);
    bridge->topic = rd_kafka_topic_new(bridge->kafka, topic, NULL);
    bridge->event_fd = eventfd(0, EFD_NONBLOCK);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(bridge->kafka);
    static const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(queue, bridge->event_fd, &one, sizeof one);
    rd_kafka_queue_destroy(queue);
}

/* --------------------------------------------------------------------------------------------------------------- MQTT */

static void send_all(struct bridge *bridge, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(bridge->fd, (const char *)data + sent, size - sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            die("send", strerror(errno));
        sent += n > 0 ? (size_t)n : 0;
    }
}

static void mqtt_open(struct bridge *bridge, const char *host, const char *port, const char *filter)
{
    static const unsigned char connect_packet[] = {0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 4,
                                                   2,    0,  0, 0, 4,   'b', 'a', 'r', 'e'};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    size_t length = strlen(filter);
    unsigned char subscribe[512] = {0x82, (unsigned char)(5 + length), 0, 1, 0, (unsigned char)length};
    int yes = 1;

    if (length > 120)
        die("FILTER", "has more than 120 bytes");
    if (getaddrinfo(host, port, &hints, &found) != 0)
        die("HOST and PORT", "no address");
    bridge->fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (bridge->fd < 0 || connect(bridge->fd, found->ai_addr, found->ai_addrlen) != 0)
        die("connect", strerror(errno));
    freeaddrinfo(found);
    setsockopt(bridge->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    send_all(bridge, connect_packet, sizeof connect_packet);
    memcpy(subscribe + 6, filter, length);
    subscribe[6 + length] = 1;
    send_all(bridge, subscribe, 7 + length);
}

/* ------------------------------------------------------------------------------------------------------------- bridging */

static const unsigned char *key_of(const unsigned char *payload, size_t size, size_t *length)
{
    static const char name[] = "\"vehicle_id\":\"";
    const unsigned char *key = memmem(payload, size, name, sizeof name - 1), *end;

    if (key == NULL)
        die("payload", "it has no vehicle_id");
    key += sizeof name - 1;
    end = memchr(key, '"', size - (size_t)(key - payload));
    if (end == NULL)
        die("payload", "its vehicle_id does not end");
    *length = (size_t)(end - key);
    return key;
}

static void take_publish(struct bridge *bridge, const unsigned char *body, size_t size)
{
    size_t topic = (size_t)body[0] << 8 | body[1], key_size;
    const unsigned char *payload = body + 4 + topic, *key = key_of(payload, size - 4 - topic, &key_size);
    struct flight *flight = &bridge->flights[bridge->last++ % WINDOW];

    *flight = (struct flight){(uint16_t)(body[2 + topic] << 8 | body[3 + topic]), false};
    while (rd_kafka_produce(bridge->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)payload,
                            size - 4 - topic, key, key_size, flight) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(bridge->kafka, 10);
    }
}

/* Each whole packet; what is left is moved to the front. */
static void take_packets(struct bridge *bridge)
{
    size_t at = 0;

    for (;;) {
        size_t length = 0, head = 1;
        unsigned shift = 0;

        do {
            if (at + head >= bridge->in_size)
                goto rest;
            length |= (size_t)(bridge->in[at + head] & 0x7f) << shift;
            shift += 7;
        } while ((bridge->in[at + head++] & 0x80) != 0);
        if (at + head + length > bridge->in_size)
            goto rest;
        if (bridge->in[at] >> 4 == 3)
            take_publish(bridge, bridge->in + at + head, length);
        at += head + length;
    }
rest:
    memmove(bridge->in, bridge->in + at, bridge->in_size - at);
    bridge->in_size -= at;
}

static void acknowledge(struct bridge *bridge)
{
    for (; bridge->first != bridge->last && bridge->flights[bridge->first % WINDOW].is_stored; bridge->first++) {
        uint16_t id = bridge->flights[bridge->first % WINDOW].id;
        const unsigned char packet[] = {0x40, 2, (unsigned char)(id >> 8), (unsigned char)id};

        memcpy(bridge->out + bridge->out_size, packet, sizeof packet);
        bridge->out_size += sizeof packet;
    }
    send_all(bridge, bridge->out, bridge->out_size);
    bridge->out_size = 0;
}

static void run(struct bridge *bridge)
{
    struct pollfd fds[] = {{bridge->fd, POLLIN, 0}, {bridge->event_fd, POLLIN, 0}};
    uint64_t events;

    for (;;) {
        ssize_t n;

        poll(fds, 2, -1);
        if (fds[1].revents != 0 && read(bridge->event_fd, &events, sizeof events) > 0) {
            while (rd_kafka_poll(bridge->kafka, 0) > 0)
                continue;
            acknowledge(bridge);
        }
        if (fds[0].revents == 0)
            continue;
        n = recv(bridge->fd, bridge->in + bridge->in_size, ROOM - bridge->in_size, 0);
        if (n <= 0)
            return;
        bridge->in_size += (size_t)n;
        take_packets(bridge);
    }
}

int main(int argc, char **argv)
{
    static struct bridge bridge;

    if (argc != 7 || (strcmp(argv[6], "realtime") != 0 && strcmp(argv[6], "throughput") != 0)) {
        fprintf(stderr, "usage: bare_bridge HOST PORT FILTER KAFKA-BROKERS TOPIC realtime|throughput\n");
        return 2;
    }
    kafka_open(&bridge, argv[4], argv[5], strcmp(argv[6], "realtime") == 0);
    mqtt_open(&bridge, argv[1], argv[2], argv[3]);
    run(&bridge);
    return 0;
}
