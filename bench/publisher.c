/* publisher.c - a fleet that publishes to an MQTT broker on a fixed beat, over one connection of MQTT 3.1.1.
 *
 *   publisher HOST PORT QOS PAYLOAD-BYTES VEHICLES RATE COUNT COUNTS-FILE
 *
 * Message n is due n / RATE seconds after the first and says so in "sent_ns": what holds the publisher up counts as latency, as
 * it would for a vehicle. RATE 0: as fast as the broker acknowledges a window of them. At the end, when all is acknowledged, the
 * file gets a line "LAST VEHICLE" for each vehicle, as verify_sink expects it. */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"

#define WINDOW 2000u /* unacknowledged, with RATE 0 */
#define ROOM   (256u * 1024u)

struct publisher {
    int fd;
    struct messages messages;
    uint64_t rate, count, sent, acknowledged;
    int64_t began;
    unsigned char *out;
    size_t room;
    unsigned char in[4096];
    size_t in_size;
};

static void die(const char *what)
{
    fprintf(stderr, "publisher: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ------------------------------------------------------------------------------------------------------------- socket */

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int error = getaddrinfo(host, port, &hints, &found), yes = 1, fd;

    if (error != 0) {
        fprintf(stderr, "publisher: %s: %s\n", host, gai_strerror(error));
        exit(1);
    }
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0)
        die("connect");
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

/* PUBACKs are four bytes; at QoS 0 nothing comes. */
static void take_in(struct publisher *self)
{
    size_t at = 0;
    ssize_t n = recv(self->fd, self->in + self->in_size, sizeof self->in - self->in_size, MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN))
        die("the broker has closed the connection");
    self->in_size += n > 0 ? (size_t)n : 0;
    for (; self->in_size - at >= 4; at += 4)
        self->acknowledged += self->in[at] == 0x40;
    memmove(self->in, self->in + at, self->in_size - at);
    self->in_size -= at;
}

/* Reads on meanwhile: a broker that is not read need not read either. */
static void send_all(struct publisher *self, const unsigned char *data, size_t size)
{
    while (size > 0) {
        struct pollfd ready = {self->fd, POLLIN | POLLOUT, 0};
        ssize_t n;

        poll(&ready, 1, -1);
        if ((ready.revents & (POLLIN | POLLHUP)) != 0)
            take_in(self);
        if ((ready.revents & POLLOUT) == 0)
            continue;
        n = send(self->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            die("send");
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
}

static void join(struct publisher *self)
{
    static const unsigned char connect[] = "\x10\x15\0\4MQTT\4\2\0\0\0\11publisher"; /* clean session, no keepalive */
    unsigned char connack[4];

    send_all(self, connect, sizeof connect - 1);
    if (recv(self->fd, connack, sizeof connack, MSG_WAITALL) != sizeof connack || connack[3] != 0)
        die("the broker refuses the connection");
}

/* --------------------------------------------------------------------------------------------------------------- beat */

static int64_t due(const struct publisher *self, uint64_t n)
{
    return self->began + (int64_t)((double)n * 1e9 / (double)self->rate);
}

static bool is_next_due(const struct publisher *self, int64_t now)
{
    if (self->sent == self->count)
        return false;
    if (self->rate > 0)
        return due(self, self->sent) <= now;
    return self->messages.qos == 0 || self->sent - self->acknowledged < WINDOW;
}

static void send_due(struct publisher *self)
{
    int64_t now = messages_now();
    size_t size = 0;

    for (; size + self->messages.packet_size <= self->room && is_next_due(self, now); self->sent++) {
        messages_write(&self->messages, self->sent, (uint16_t)(self->sent % 65535 + 1),
                       self->rate > 0 ? due(self, self->sent) : now, self->out + size);
        size += self->messages.packet_size;
    }
    send_all(self, self->out, size);
}

/* Until the next message is due, or something has come. */
static void pause_until_due(struct publisher *self)
{
    struct pollfd ready = {self->fd, POLLIN, 0};
    int64_t pause = self->sent < self->count && self->rate > 0 ? due(self, self->sent) - messages_now() : 1000000000;
    struct timespec timeout = {pause / 1000000000, (long)(pause % 1000000000)};

    if (pause > 0 && ppoll(&ready, 1, &timeout, NULL) > 0)
        take_in(self);
}

static void publish(struct publisher *self)
{
    self->began = messages_now();
    while (self->sent < self->count || (self->messages.qos > 0 && self->acknowledged < self->count)) {
        send_due(self);
        if (!is_next_due(self, messages_now()))
            pause_until_due(self);
    }
    send_all(self, (const unsigned char *)"\xe0", 2);
}

static void write_counts(const struct publisher *self, const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        die(path);
    for (unsigned i = 0; i < self->messages.vehicles; i++) {
        uint64_t last = messages_of(&self->messages, i, self->count);

        if (last > 0)
            fprintf(file, "%llu v%05u\n", (unsigned long long)last, i);
    }
    if (fclose(file) != 0)
        die(path);
}

int main(int argc, char **argv)
{
    static struct publisher self;
    unsigned qos, vehicles;
    size_t payload;

    if (argc != 9) {
        fprintf(stderr, "usage: publisher HOST PORT QOS PAYLOAD-BYTES VEHICLES RATE COUNT COUNTS-FILE\n");
        return 2;
    }
    qos = (unsigned)messages_number("QOS", argv[3], 0, 1);
    payload = (size_t)messages_number("PAYLOAD-BYTES", argv[4], 128, 1048576);
    vehicles = (unsigned)messages_number("VEHICLES", argv[5], 1, 99999);
    self.rate = messages_number("RATE", argv[6], 0, 10000000);
    self.count = messages_number("COUNT", argv[7], 1, UINT32_MAX);
    messages_make(&self.messages, vehicles, qos, payload, false, false);
    self.room = ROOM + payload + 64;
    self.out = malloc(self.room);
    if (self.out == NULL)
        die("memory");
    self.fd = connect_to(argv[1], argv[2]);
    join(&self);
    publish(&self);
    write_counts(&self, argv[8]);
    free(self.out);
    free(self.messages.packets);
    close(self.fd);
    return 0;
}
