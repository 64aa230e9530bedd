/* firehose.c - an MQTT broker that does nothing but send: messages to one subscriber, as fast as it takes them.
 *
 *   firehose [--numbered] [--window N] SECONDS [QOS [PAYLOAD-BYTES [VEHICLES]]]     QoS 1, 128 bytes, 100 vehicles
 *   firehose --odd COUNT                                               so many messages with some odd ones (odd.c) among them
 *
 * It prints "port N", takes one connection at a time, of MQTT 3.1.1 or 5, honours receive maximum, counts what is acknowledged,
 * and prints "acknowledged N in S s, over N connections" when the time, which begins with the first subscription, is over, or the
 * count is reached, and all is acknowledged. A client that leaves and comes back gets again what it has not acknowledged. --numbered: each message
 * of MQTT 5 says its origin and its number in user properties. --window: so many unacknowledged at once, however many the client would
 * take, as real brokers do it. */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"
#include "odd.h"

#define ROOM (256u * 1024u) /* at least; a packet fits */

struct firehose {
    int listener, fd;
    unsigned qos;
    bool is_5;
    unsigned window,
        most_window;       /* unacknowledged messages; as the client or the command line has it, whichever is less */
    double seconds, began; /* 0: nobody has subscribed yet */
    bool is_subscribed, has_left;
    uint64_t sent, acknowledged;
    uint64_t most, odd; /* how many in all; each how manieth is odd until every kind has come, 0: none */
    unsigned connections;
    unsigned vehicles;
    size_t payload;
    bool is_numbered;
    struct messages messages;
    unsigned char *out, in[ROOM];
    size_t room, out_size, out_sent, in_size;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "firehose: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---------------------------------------------------------------------------------------------------------- messages */

/* Which odd message number `n` is; ODD_KINDS: none. */
static unsigned odd_kind(const struct firehose *hose, uint64_t n)
{
    return hose->odd > 0 && n % hose->odd == hose->odd - 1 && n / hose->odd < ODD_KINDS ? (unsigned)(n / hose->odd)
                                                                                        : ODD_KINDS;
}

static void fill(struct firehose *hose)
{
    int64_t time = messages_now();

    hose->out_sent = hose->out_size = 0;
    while (hose->out_size + hose->messages.packet_size <= ROOM + hose->payload && hose->sent < hose->most &&
           (hose->qos == 0 || hose->sent - hose->acknowledged < hose->window)) {
        unsigned char *to = hose->out + hose->out_size;
        unsigned kind = odd_kind(hose, hose->sent);
        uint16_t id = (uint16_t)(hose->sent % 65535 + 1);

        if (kind < ODD_KINDS) {
            hose->out_size += odd_write(kind, id, to);
        } else {
            messages_write(&hose->messages, hose->sent, id, time, to);
            hose->out_size += hose->messages.packet_size;
        }
        hose->sent++;
    }
}

/* ----------------------------------------------------------------------------------------------- what the client says */

static void answer(struct firehose *hose, const void *data, size_t size)
{
    memcpy(hose->out + hose->out_size, data, size); /* few, before the stream begins and at pings */
    hose->out_size += size;
}

/* The bytes of a property of CONNECT with its identifier; 0: one that has no fixed size. */
static size_t property_size(unsigned char identifier)
{
    switch (identifier) {
    case 0x17: /* request problem information */
    case 0x19: /* request response information */
        return 2;
    case 0x21: /* receive maximum */
    case 0x22: /* topic alias maximum */
        return 3;
    case 0x11: /* session expiry interval */
    case 0x27: /* maximum packet size */
        return 5;
    default:
        return 0;
    }
}

static void read_connect(struct firehose *hose, const unsigned char *body)
{
    const unsigned char *at = body + 11, *end;

    hose->is_5 = body[6] == 5;
    hose->window = 65535;
    end = at + (hose->is_5 ? body[10] : 0);
    for (size_t size; hose->is_5 && at < end && (size = property_size(at[0])) > 0; at += size) {
        if (at[0] == 0x21)
            hose->window = (unsigned)at[1] << 8 | at[2];
    }
    hose->window = hose->window < hose->most_window ? hose->window : hose->most_window;
    unsigned char connack[] = {0x20, hose->is_5 ? 3 : 2, hose->began > 0, 0, 0}; /* from then on there is a session */

    answer(hose, connack, connack[1] + 2u);
    messages_make(&hose->messages, hose->vehicles, hose->qos, hose->payload, hose->is_5,
                  hose->is_5 && hose->is_numbered);
}

static void read_packet(struct firehose *hose, const unsigned char *packet, size_t head)
{
    const unsigned char *body = packet + head;
    unsigned char granted[] = {0x90, 4, body[0], body[1], 0, (unsigned char)hose->qos};

    switch (packet[0] >> 4) {
    case 1:
        read_connect(hose, body);
        break;
    case 4:
        hose->acknowledged++;
        break;
    case 8:
        if (!hose->is_5) {
            granted[1] = 3;
            granted[4] = granted[5];
        }
        answer(hose, granted, granted[1] + 2u);
        hose->began = hose->began > 0 ? hose->began : now();
        hose->is_subscribed = true;
        break;
    case 12:
        answer(hose, "\xd0\0", 2);
        break;
    case 14:
        hose->has_left = true;
        break;
    default:
        break;
    }
}

static void take_in(struct firehose *hose)
{
    size_t at = 0;

    for (;;) {
        size_t length = 0, head = 1;
        unsigned shift = 0;

        do {
            if (at + head >= hose->in_size)
                goto rest;
            length |= (size_t)(hose->in[at + head] & 0x7f) << shift;
            shift += 7;
        } while ((hose->in[at + head++] & 0x80) != 0);
        if (at + head + length > hose->in_size)
            goto rest;
        read_packet(hose, hose->in + at, head);
        at += head + length;
    }
rest:
    memmove(hose->in, hose->in + at, hose->in_size - at);
    hose->in_size -= at;
}

static void take_client(struct firehose *hose)
{
    int yes = 1;

    hose->fd = accept4(hose->listener, NULL, NULL, SOCK_NONBLOCK);
    if (hose->fd < 0)
        die("accept");
    setsockopt(hose->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    hose->connections++;
    hose->sent = hose->acknowledged;
    hose->in_size = hose->out_size = hose->out_sent = 0;
    hose->is_subscribed = hose->has_left = false;
}

/* False: the connection is over. */
static bool turn(struct firehose *hose, bool may_send)
{
    struct pollfd ready = {hose->fd, POLLIN, 0};
    ssize_t n;

    if (may_send && hose->is_subscribed && hose->out_sent == hose->out_size)
        fill(hose);
    if (hose->out_sent < hose->out_size)
        ready.events |= POLLOUT;
    poll(&ready, 1, 100);
    if ((ready.revents & POLLOUT) != 0) {
        n = send(hose->fd, hose->out + hose->out_sent, hose->out_size - hose->out_sent, MSG_NOSIGNAL);
        hose->out_sent += n > 0 ? (size_t)n : 0;
    }
    if (hose->out_sent == hose->out_size)
        hose->out_sent = hose->out_size = 0;
    if ((ready.revents & (POLLIN | POLLHUP)) == 0)
        return true;
    n = recv(hose->fd, hose->in + hose->in_size, ROOM - hose->in_size, 0);
    hose->in_size += n > 0 ? (size_t)n : 0;
    take_in(hose);
    return !hose->has_left && (n > 0 || (n < 0 && errno == EAGAIN));
}

/* Until the time is over, and then until all is acknowledged. */
static void stream(struct firehose *hose)
{
    for (;;) {
        bool is_over = hose->sent == hose->most || (hose->began > 0 && now() - hose->began >= hose->seconds);

        if (is_over && (hose->qos == 0 || hose->acknowledged == hose->sent))
            return;
        if (!turn(hose, !is_over)) {
            close(hose->fd);
            take_client(hose);
        }
    }
}

static void parse(struct firehose *hose, int argc, char **argv)
{
    bool is_odd = argc == 3 && strcmp(argv[1], "--odd") == 0;

    hose->is_numbered = argc > 1 && strcmp(argv[1], "--numbered") == 0;
    argv += hose->is_numbered;
    argc -= hose->is_numbered;
    hose->most_window = 65535;
    if (argc > 2 && strcmp(argv[1], "--window") == 0) {
        hose->most_window = (unsigned)messages_number("--window", argv[2], 1, 65535);
        argv += 2;
        argc -= 2;
    }
    if (argc < 2 || (!is_odd && argv[1][0] == '-')) {
        fprintf(stderr, "usage: firehose [--numbered] [--window N] SECONDS [QOS [PAYLOAD-BYTES [VEHICLES]]] | firehose "
                        "--odd COUNT\n");
        exit(2);
    }
    hose->qos = 1;
    hose->payload = 128;
    hose->vehicles = 100;
    if (is_odd) {
        hose->most = messages_number("COUNT", argv[2], 100, 1000000000);
        hose->odd = hose->most / (ODD_KINDS + 1);
        hose->seconds = INFINITY;
        return;
    }
    hose->most = UINT64_MAX;
    hose->seconds = (double)messages_number("SECONDS", argv[1], 1, 86400);
    hose->qos = argc > 2 ? (unsigned)messages_number("QOS", argv[2], 0, 1) : hose->qos;
    hose->payload = argc > 3 ? (size_t)messages_number("PAYLOAD-BYTES", argv[3], 128, 1048576) : hose->payload;
    hose->vehicles = argc > 4 ? (unsigned)messages_number("VEHICLES", argv[4], 1, 99999) : hose->vehicles;
}

int main(int argc, char **argv)
{
    static struct firehose hose;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    parse(&hose, argc, argv);
    hose.room = ROOM + hose.payload + (hose.odd > 0 ? ODD_ROOM : 0);
    hose.out = malloc(hose.room);
    if (hose.out == NULL)
        die("memory");
    hose.listener = listener;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0)
        die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    take_client(&hose);
    stream(&hose);
    printf("acknowledged %llu in %.3f s, over %u connection%s\n",
           (unsigned long long)(hose.qos > 0 ? hose.acknowledged : hose.sent), now() - hose.began, hose.connections,
           hose.connections == 1 ? "" : "s");
    fflush(stdout);
    close(listener);
    while (turn(&hose, false)) /* until the client leaves, which would look for a broker that is gone */
        continue;
    return 0;
}
