/* mqtt_wire.h - what the tests of mqtt_source and mqtt_sink have on the other side: a mosquitto with a configuration of
 * the test's, and packets written and read by hand, as a client of that mosquitto or in place of a broker.
 *
 * Everything is on the loopback, on ports that were free a moment before, in a directory of its own under $TMPDIR;
 * every wait has a deadline. */
#ifndef MQTT_WIRE_H
#define MQTT_WIRE_H

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fms_test.h"
#include "refusal.h"

#ifndef SYS_clock_gettime64 /* where there never was one with 32 bits */
#define SYS_clock_gettime64 SYS_clock_gettime
#endif

#define WIRE_PATIENCE 20000 /* ms */

static const char *const versions[] = {"3.1.1", "5"};

enum {
    CONNECT = 1,
    CONNACK,
    PUBLISH,
    PUBACK,
    PUBREC,
    PUBREL,
    PUBCOMP,
    SUBSCRIBE,
    SUBACK,
    UNSUBSCRIBE,
    UNSUBACK,
    PINGREQ,
    PINGRESP,
    DISCONNECT
};

struct packet {
    unsigned type, flags;
    unsigned char *body;
    size_t size;
    /* of PUBLISH, PUBACK...; inside of body */
    unsigned id, qos;
    char topic[256];
    const unsigned char *properties, *payload;
    size_t properties_size, payload_size;
};

struct wire {
    int fd, version; /* 4 or 5 */
};

/* ---------------------------------------------------------------------------------------------------------- sockets */

/* At 127.0.0.NUMBER. */
static inline int wire_listen_at(unsigned number, int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)*port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + number)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int wire_listen(int *port)
{
    return wire_listen_at(1, port);
}

static inline int wire_free_port(void)
{
    int port = 0;

    close(wire_listen(&port));
    return port;
}

static inline int wire_try(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* What else the test's one thread has to do while it waits: a plugin without threads of its own lives by being polled. */
static struct fake *wire_idle;

static inline bool wire_ready(int fd, int patience)
{
    struct pollfd polled = {fd, POLLIN, 0};
    int64_t until = fake_realclock() + patience * FMS_MS;

    if (wire_idle == NULL)
        return poll(&polled, 1, patience) == 1;
    do {
        if (poll(&polled, 1, 1) == 1)
            return true;
        fake_poll(wire_idle, 64);
    } while (fake_realclock() < until);
    return false;
}

static inline bool wire_get(int fd, void *to, size_t size)
{
    for (size_t n = 0; n < size;) {
        ssize_t got = wire_ready(fd, WIRE_PATIENCE) ? read(fd, (char *)to + n, size - n) : -1;

        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------------- paho's patience
 *
 * paho notices that TCP has connected when the second is over for which it waits for something to read, and sleeps between looks. Each
 * connection would cost a test more than that second, so its waits are shortened; POLLNVAL, which nobody else asks for, tells them. */

FMS_EXPORT int quick_poll(struct pollfd *fds, nfds_t count, int patience) __asm__("poll");
FMS_EXPORT int quick_poll(struct pollfd *fds, nfds_t count, int patience)
{
    static _Atomic uintptr_t known;
    uintptr_t found = known;
    int (*real)(struct pollfd *, nfds_t, int);

    if (found == 0)
        known = found = (uintptr_t)dlsym(RTLD_NEXT, "poll");
    real = (int (*)(struct pollfd *, nfds_t, int))found;
    return real(fds, count, count > 0 && (fds[0].events & POLLNVAL) != 0 && patience > 10 ? 10 : patience);
}

FMS_EXPORT int quick_usleep(useconds_t pause) __asm__("usleep");
FMS_EXPORT int quick_usleep(useconds_t pause)
{
    struct timespec time = {0, pause < 5000 ? (long)pause * 1000 : 5000000};

    return nanosleep(&time, NULL);
}

/* ---------------------------------------------------------------------------------------------------------- packets */

struct wire_out {
    unsigned char data[65536];
    size_t size;
};

static inline void out_byte(struct wire_out *out, unsigned value)
{
    out->data[out->size++] = (unsigned char)value;
}

static inline void out_two(struct wire_out *out, unsigned value)
{
    out_byte(out, value >> 8);
    out_byte(out, value & 255);
}

static inline void out_bytes(struct wire_out *out, const void *data, size_t size)
{
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

static inline void out_text(struct wire_out *out, const char *text)
{
    out_two(out, (unsigned)strlen(text));
    out_bytes(out, text, strlen(text));
}

static inline void out_property(struct wire_out *out, const char *name, const char *value)
{
    out_byte(out, 38);
    out_text(out, name);
    out_text(out, value);
}

static inline void wire_send(const struct wire *wire, unsigned first, const struct wire_out *out)
{
    unsigned char head[5] = {(unsigned char)first};
    size_t n = 1, rest = out->size;

    do {
        head[n++] = (unsigned char)((rest & 127) | (rest > 127 ? 128 : 0));
        rest >>= 7;
    } while (rest > 0);
    assert_int_equal(send(wire->fd, head, n, MSG_NOSIGNAL | MSG_MORE), n);
    assert_int_equal(send(wire->fd, out->data, out->size, MSG_NOSIGNAL), out->size);
}

static inline unsigned packet_two(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static inline size_t packet_length(const unsigned char **at)
{
    size_t value = 0;
    unsigned shift = 0;

    do {
        value |= (size_t)(**at & 127) << shift;
        shift += 7;
    } while ((*(*at)++ & 128) != 0);
    return value;
}

static inline void packet_open(struct packet *packet, int version)
{
    const unsigned char *at = packet->body;

    if (packet->type >= PUBACK && packet->type <= UNSUBACK)
        packet->id = packet_two(at);
    if (packet->type != PUBLISH)
        return;
    snprintf(packet->topic, sizeof packet->topic, "%.*s", (int)packet_two(at), (const char *)at + 2);
    at += 2 + packet_two(at);
    packet->qos = packet->flags >> 1 & 3;
    if (packet->qos > 0) {
        packet->id = packet_two(at);
        at += 2;
    }
    if (version == 5) {
        packet->properties_size = packet_length(&at);
        packet->properties = at;
        at += packet->properties_size;
    }
    packet->payload = at;
    packet->payload_size = packet->size - (size_t)(at - packet->body);
}

/* False: the connection is closed, or the deadline has come. The body is to be freed. */
static inline bool wire_receive(const struct wire *wire, struct packet *packet)
{
    unsigned char byte;
    unsigned shift = 0;

    memset(packet, 0, sizeof *packet);
    if (!wire_get(wire->fd, &byte, 1))
        return false;
    packet->type = byte >> 4;
    packet->flags = byte & 15;
    do {
        if (!wire_get(wire->fd, &byte, 1))
            return false;
        packet->size |= (size_t)(byte & 127) << shift;
        shift += 7;
    } while ((byte & 128) != 0);
    packet->body = malloc(packet->size + 1);
    packet->body[packet->size] = '\0';
    if (!wire_get(wire->fd, packet->body, packet->size))
        return free(packet->body), false;
    packet_open(packet, wire->version);
    return true;
}

/* PUBACK and the like; `code` is MQTT 5's. */
static inline void wire_confirm(const struct wire *wire, unsigned type, unsigned id, unsigned code)
{
    struct wire_out out = {.size = 0};

    out_two(&out, id);
    if (wire->version == 5 && code != 0)
        out_byte(&out, code);
    wire_send(wire, type << 4 | (type == PUBREL ? 2u : 0u), &out);
}

/* The next packet of that type; answers PINGREQ and PUBREL on the way and passes over the rest. */
static inline struct packet wire_expect(const struct wire *wire, unsigned type)
{
    static const struct wire_out nothing;
    int64_t until = fake_realclock() + WIRE_PATIENCE * FMS_MS; /* pings alone would go on for ever */
    struct packet packet;

    while (fake_realclock() < until && wire_receive(wire, &packet)) {
        if (packet.type == type)
            return packet;
        if (packet.type == PINGREQ)
            wire_send(wire, PINGRESP << 4, &nothing);
        if (packet.type == PUBREL)
            wire_confirm(wire, PUBCOMP, packet.id, 0);
        free(packet.body);
    }
    fail_msg("no packet of type %u came", type);
    return packet;
}

/* `flags` are QoS (times two) and retain; `properties` are at most 127 bytes. */
static inline void wire_publish_raw(const struct wire *wire, unsigned flags, struct fms_bytes topic, unsigned id,
                                    const struct wire_out *properties, const char *payload)
{
    struct wire_out out = {.size = 0};

    out_two(&out, (unsigned)topic.size);
    out_bytes(&out, topic.data, topic.size);
    if ((flags & 6) != 0)
        out_two(&out, id);
    if (wire->version == 5) {
        out_byte(&out, (unsigned)properties->size);
        out_bytes(&out, properties->data, properties->size);
    }
    out_bytes(&out, payload, strlen(payload));
    wire_send(wire, PUBLISH << 4 | flags, &out);
}

/* To "t", at QoS 1, with so many user properties without name and value, 206 to 3,276 of them. */
static inline void publish_many_properties(const struct wire *wire, size_t count)
{
    static const unsigned char property[] = {38, 0, 0, 0, 0};
    struct wire_out out = {.size = 0};
    size_t size = count * sizeof property;

    out_text(&out, "t");
    out_two(&out, 999);
    out_byte(&out, (size & 127) | 128);
    out_byte(&out, (unsigned)(size >> 7));
    for (size_t i = 0; i < count; i++)
        out_bytes(&out, property, sizeof property);
    wire_send(wire, PUBLISH << 4 | 1 << 1, &out);
}

static inline void wire_publish(const struct wire *wire, const char *topic, const char *payload, unsigned qos,
                                unsigned id, const char *property, const char *value)
{
    struct wire_out properties = {.size = 0};

    if (property != NULL)
        out_property(&properties, property, value);
    wire_publish_raw(wire, qos << 1, fms_text(topic), id, &properties, payload);
}

/* Whether the payload is that text. */
static inline bool packet_is(const struct packet *packet, const char *payload)
{
    return packet->payload_size == strlen(payload) && memcmp(packet->payload, payload, packet->payload_size) == 0;
}

/* ---------------------------------------------------------------------------------------- a client of a real broker */

static inline struct wire client_new(int port, const char *id, bool clean)
{
    struct wire wire = {wire_try(port), 5};
    struct wire_out out = {.size = 0};
    struct packet connack;

    assert_true(wire.fd >= 0);
    out_text(&out, "MQTT");
    out_byte(&out, 5);
    out_byte(&out, clean ? 2 : 0);
    out_two(&out, 0);
    out_byte(&out, 5);
    out_byte(&out, 17); /* session expiry */
    out_two(&out, 0);
    out_two(&out, clean ? 0 : 600);
    out_text(&out, id);
    wire_send(&wire, CONNECT << 4, &out);
    connack = wire_expect(&wire, CONNACK);
    assert_int_equal(connack.body[1], 0);
    free(connack.body);
    return wire;
}

static inline void client_subscribe(const struct wire *wire, const char *filter, unsigned qos)
{
    struct wire_out out = {.size = 0};

    out_two(&out, 1);
    out_byte(&out, 0);
    out_text(&out, filter);
    out_byte(&out, qos);
    wire_send(wire, SUBSCRIBE << 4 | 2, &out);
    free(wire_expect(wire, SUBACK).body);
}

/* Publishes and waits for the confirmation. */
static inline void client_publish(const struct wire *wire, const char *topic, const char *payload, unsigned qos,
                                  const char *property, const char *value)
{
    static unsigned id;

    id = id % 65535 + 1;
    wire_publish(wire, topic, payload, qos, id, property, value);
    if (qos > 0)
        free(wire_expect(wire, qos == 1 ? PUBACK : PUBREC).body);
    if (qos == 2) {
        wire_confirm(wire, PUBREL, id, 0);
        free(wire_expect(wire, PUBCOMP).body);
    }
}

/* The next message, which is confirmed. */
static inline struct packet client_receive(const struct wire *wire)
{
    struct packet packet = wire_expect(wire, PUBLISH);

    if (packet.qos > 0)
        wire_confirm(wire, packet.qos == 1 ? PUBACK : PUBREC, packet.id, 0);
    return packet;
}

/* --------------------------------------------------------------------------------------------- in place of a broker */

/* What a CONNECT asks for. */
struct asked {
    bool clean, has_will;
    unsigned keepalive;
    size_t packet_size; /* MQTT 5: the largest; 0: not said */
    char id[64];
};

/* The largest packet of a CONNECT's properties; mqtt_source sends no others than these. */
static inline size_t asked_packet_size(const unsigned char *at, const unsigned char *end)
{
    for (; at < end; at += *at == 33 ? 3 : 5) {
        if (*at == 39)
            return (size_t)packet_two(at + 1) << 16 | packet_two(at + 3);
    }
    return 0;
}

/* Accepts a connection and its CONNECT, and answers: `properties` are CONNACK's. */
static inline struct wire broker_accept(int listener, struct asked *asked, bool session_present,
                                        const struct wire_out *properties)
{
    struct wire wire = {-1, 4};
    struct wire_out out = {.size = 0};
    struct packet packet;
    const unsigned char *at;
    size_t size, packet_size = 0;

    assert_true(wire_ready(listener, WIRE_PATIENCE));
    wire.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(wire.fd >= 0);
    packet = wire_expect(&wire, CONNECT);
    wire.version = packet.body[6];
    at = packet.body + 10;
    if (wire.version == 5) {
        size = packet_length(&at);
        packet_size = asked_packet_size(at, at + size);
        at += size;
    }
    if (asked != NULL) {
        asked->clean = (packet.body[7] & 2) != 0;
        asked->has_will = (packet.body[7] & 4) != 0;
        asked->packet_size = packet_size;
        asked->keepalive = packet_two(packet.body + 8);
        snprintf(asked->id, sizeof asked->id, "%.*s", (int)packet_two(at), (const char *)at + 2);
    }
    free(packet.body);
    out_byte(&out, session_present);
    out_byte(&out, 0);
    if (wire.version == 5) {
        out_byte(&out, properties != NULL ? (unsigned)properties->size : 0);
        out_bytes(&out, properties != NULL ? properties->data : out.data, properties != NULL ? properties->size : 0);
    }
    wire_send(&wire, CONNACK << 4, &out);
    return wire;
}

/* Accepts a connection and its CONNECT, refuses it with that code, or says nothing where that is 0, and hangs up. */
static inline void broker_refuse(int listener, unsigned code)
{
    struct wire_out out = {.data = {0, (unsigned char)code, 0}, .size = 3};
    struct wire wire = {-1, 5};

    assert_true(wire_ready(listener, WIRE_PATIENCE));
    wire.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    free(wire_expect(&wire, CONNECT).body);
    if (code != 0)
        wire_send(&wire, CONNACK << 4, &out);
    close(wire.fd);
}

/* Grants one subscription. */
static inline void broker_grant(const struct wire *wire, unsigned code)
{
    struct packet packet = wire_expect(wire, SUBSCRIBE);
    struct wire_out out = {.size = 0};

    out_two(&out, packet.id);
    if (wire->version == 5)
        out_byte(&out, 0);
    out_byte(&out, code);
    wire_send(wire, SUBACK << 4, &out);
    free(packet.body);
}

/* -------------------------------------------------------------------------------------------------------- mosquitto */

struct mosquitto {
    char directory[128];
    int port;
    pid_t pid;
};

static inline void mosquitto_start(struct mosquitto *broker)
{
    char path[160];
    int fd = -1, status;

    snprintf(path, sizeof path, "%s/conf", broker->directory);
    broker->pid = fork();
    if (broker->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", 1);
        execlp("mosquitto", "mosquitto", "-c", path, (char *)NULL);
        _exit(127);
    }
    for (int64_t until = fake_realclock() + FAKE_PATIENCE; fd < 0 && fake_realclock() < until; poll(NULL, 0, 10)) {
        if (waitpid(broker->pid, &status, WNOHANG) != 0)
            fail_msg("mosquitto does not start: is it installed?");
        fd = wire_try(broker->port);
    }
    assert_true(fd >= 0);
    close(fd);
}

/* `more` is appended to the configuration; %s in it is the directory. */
static inline void mosquitto_make(struct mosquitto *broker, const char *more)
{
    const char *parent = getenv("TMPDIR");
    char path[160];
    FILE *conf;

    snprintf(broker->directory, sizeof broker->directory, "%s/fms-mqtt-XXXXXX", parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(broker->directory));
    chmod(broker->directory, 0755);
    broker->port = wire_free_port();
    broker->pid = 0;
    snprintf(path, sizeof path, "%s/conf", broker->directory);
    conf = fopen(path, "w");
    assert_non_null(conf);
    fprintf(conf, "listener %d 127.0.0.1\nmax_queued_messages 0\npersistence true\npersistence_location %s/\n%s",
            broker->port, broker->directory, geteuid() == 0 ? "user root\n" : "");
    for (const char *at = more; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 's')
            fputs(broker->directory, conf), at++;
        else
            fputc(*at, conf);
    }
    fclose(conf);
}

/* Made and started. */
static inline void mosquitto_up(struct mosquitto *broker, const char *more)
{
    mosquitto_make(broker, more);
    mosquitto_start(broker);
}

static inline void mosquitto_stop(struct mosquitto *broker, int signal_number)
{
    if (broker->pid == 0)
        return;
    kill(broker->pid, signal_number);
    waitpid(broker->pid, NULL, 0);
    broker->pid = 0;
}

static inline int run_quietly(const char *format, ...) FMS_PRINTF(1, 2);
static inline int run_quietly(const char *format, ...)
{
    char command[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command);
}

static inline void mosquitto_free(struct mosquitto *broker)
{
    mosquitto_stop(broker, SIGTERM);
    assert_int_equal(run_quietly("rm -rf '%s'", broker->directory), 0);
}

/* ----------------------------------------------------------------------------------------------- TLS and WebSockets */

static inline void make_certificates(const char *directory)
{
    assert_int_equal(run_quietly("cd '%s' && exec 2>/dev/null && for ca in ca other; do"
                                 " openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
                                 "/CN=$ca -keyout $ca.key"
                                 " -out $ca.pem || exit 1; done &&"
                                 " for name in server client; do openssl req -newkey ec -pkeyopt "
                                 "ec_paramgen_curve:P-256 -nodes -subj /CN=$name"
                                 " -keyout $name.key -out $name.csr &&"
                                 " printf 'subjectAltName=DNS:localhost' >$name.ext &&"
                                 " openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
                                 " -extfile $name.ext -out $name.pem || exit 1; done &&"
                                 " openssl ec -aes128 -passout pass:hush -in client.key -out locked.key",
                                 directory),
                     0);
}

/* Passes one WebSocket connection on to an MQTT port (RFC 6455); Debian's mosquitto has no WebSockets of its own. */
static inline void websocket_answer(int fd)
{
    char head[4096], command[4400], accept_key[64] = "", *key;
    size_t n = 0;
    FILE *digest;

    while (n < sizeof head - 1 && (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0))
        assert_true(wire_get(fd, head + n++, 1));
    head[n] = '\0';
    assert_non_null(strstr(head, "GET /mqtt HTTP/1.1"));
    assert_non_null(key = strcasestr(head, "Sec-WebSocket-Key: "));
    snprintf(command, sizeof command,
             "printf %%s '%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11' | openssl sha1 -binary | base64",
             (int)strcspn(key + 19, "\r"), key + 19);
    digest = popen(command, "r");
    assert_non_null(fgets(accept_key, sizeof accept_key, digest));
    pclose(digest);
    accept_key[strcspn(accept_key, "\n")] = '\0';
    dprintf(fd,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: %s\r\n\r\n",
            accept_key);
}

/* One frame of the client's to the broker. */
static inline bool websocket_forward(int from, int to)
{
    unsigned char head[2], mask[4], data[65536];
    unsigned char more[2] = {0, 0};
    size_t size;

    if (!wire_get(from, head, 2))
        return false;
    size = head[1] & 127;
    if (size == 126 && wire_get(from, more, 2))
        size = packet_two(more);
    if ((head[1] & 128) == 0 || size > 65535 || !wire_get(from, mask, 4) || !wire_get(from, data, size))
        return false;
    for (size_t i = 0; i < size; i++)
        data[i] ^= mask[i % 4];
    return (head[0] & 15) == 8 ? false : (head[0] & 15) != 2 || write(to, data, size) == (ssize_t)size;
}

/* One short packet of the broker's, in a frame of its own. */
static inline bool websocket_back(int from, int to)
{
    unsigned char frame[2 + 125] = {0x82};

    if (!wire_get(from, frame + 2, 2) || frame[3] > 123 || !wire_get(from, frame + 4, frame[3]))
        return false;
    frame[1] = (unsigned char)(2 + frame[3]);
    return write(to, frame, frame[1] + 2u) == frame[1] + 2;
}

static inline pid_t websocket_start(int listener, int port)
{
    pid_t pid = fork();

    if (pid == 0) {
        int client = accept(listener, NULL, NULL), broker = wire_try(port);
        struct pollfd fds[2] = {{client, POLLIN, 0}, {broker, POLLIN, 0}};
        bool goes_on = true;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        websocket_answer(client);
        while (goes_on && poll(fds, 2, WIRE_PATIENCE) > 0)
            goes_on = (fds[0].revents == 0 || websocket_forward(client, broker)) &&
                      (fds[1].revents == 0 || websocket_back(broker, client));
        _exit(0);
    }
    return pid;
}

/* Passes TLS connections on to a port, one at a time, until it is killed. */
static inline void tls_pass(SSL *tls, int port)
{
    int client = SSL_get_fd(tls), server = wire_try(port);
    struct pollfd fds[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    char data[4096];
    int n = 1;

    while (n > 0 && (SSL_pending(tls) > 0 || poll(fds, 2, WIRE_PATIENCE) > 0)) {
        if (SSL_pending(tls) > 0 || fds[0].revents != 0)
            n = (n = SSL_read(tls, data, sizeof data)) > 0 ? (int)write(server, data, (size_t)n) : n;
        else
            n = (n = (int)read(server, data, sizeof data)) > 0 ? SSL_write(tls, data, n) : n;
    }
    close(server);
}

static inline pid_t tls_start(int listener, int port, const char *directory)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char certificate[160], key[160];
    pid_t pid;

    snprintf(certificate, sizeof certificate, "%s/server.pem", directory);
    snprintf(key, sizeof key, "%s/server.key", directory);
    assert_int_equal(SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM), 1);
    pid = fork();
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (pid == 0) {
        int client = accept(listener, NULL, NULL);
        SSL *tls = SSL_new(context);

        SSL_set_fd(tls, client);
        if (SSL_accept(tls) == 1)
            tls_pass(tls, port);
        SSL_free(tls);
        close(client);
    }
    SSL_CTX_free(context);
    return pid;
}

/* A mosquitto that is reached by wss:// at `port`, with certificates in its directory. */
struct secure {
    struct mosquitto broker;
    int port, websocket;
    pid_t pids[2];
};

static inline void secure_start(struct secure *secure)
{
    int port = 0, listener;

    secure->port = 0;
    listener = wire_listen(&secure->port);
    secure->websocket = wire_listen(&port);
    mosquitto_make(&secure->broker, "allow_anonymous true\n");
    make_certificates(secure->broker.directory);
    mosquitto_start(&secure->broker);
    secure->pids[0] = tls_start(listener, port, secure->broker.directory);
    secure->pids[1] = websocket_start(secure->websocket, secure->broker.port);
    close(listener);
}

static inline void secure_end(struct secure *secure)
{
    for (int i = 0; i < 2; i++) {
        kill(secure->pids[i], SIGKILL);
        waitpid(secure->pids[i], NULL, 0);
    }
    close(secure->websocket);
    mosquitto_free(&secure->broker);
}

static inline const char *secure_section(const struct secure *secure)
{
    static char text[256];

    snprintf(text, sizeof text, "server = wss://localhost:%d/mqtt\nca_file = %s/ca.pem\n", secure->port,
             secure->broker.directory);
    return text;
}

/* A section with wss:// that does not know the authority says so; fails the test otherwise. */
static inline void expect_unknown_authority(const char *plugin, enum fms_role role, const struct secure *secure)
{
    char ini[256];
    struct fake *f;

    snprintf(ini, sizeof ini, "server = wss://localhost:%d/mqtt\n%s", secure->port,
             role == FMS_SOURCE ? "topic = fms/data\n" : "");
    f = fake_open(plugin, role, ini);
    fake_until(f, fake_said(f, "cannot connect to wss://localhost:") != NULL);
    if (fake_said(f, "TLS: certificate verify failed") == NULL)
        fail_msg("said instead: %s", fake_said(f, "cannot connect"));
    fake_stop(f);
    fake_close(f);
}

/* --------------------------------------------------------------------------------------------------------- sections */

/* The lines of a stage's section; `format` ends without a newline. Valid until the next call. */
static inline const char *section(int port, const char *format, ...) FMS_PRINTF(2, 3);
static inline const char *section(int port, const char *format, ...)
{
    static char text[2048];
    int n = snprintf(text, sizeof text, "server = tcp://127.0.0.1:%d\nreconnect_min = 20ms\nreconnect_max = 200ms\n",
                     port);
    va_list args;

    va_start(args, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    strcat(text, "\n");
    return text;
}

/* ----------------------------------------------------------------------------------------- many addresses, many servers */

/* The name many.test has four addresses, 127.0.0.1 to 127.0.0.4, in that order; all else is as it is. */
FMS_EXPORT int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    int error = 0;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (host == NULL || strcmp(host, "many.test") != 0)
        return real(host, service, hints, found);
    if (hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0)
        return EAI_NONAME;
    for (char address[] = "127.0.0.1"; error == 0 && address[8] <= '4'; address[8]++) {
        error = real(address, service, hints, found);
        found = &(*found)->ai_next;
    }
    return error;
}

/* Behind 127.0.0.1 nobody listens, 127.0.0.2 refuses, 127.0.0.3 hangs up; each next attempt goes to the next, and comes
 * round, for the connection to 127.0.0.4 is lost before it has proved good. `server` has a %d for each port. */
static inline void expect_turns(const char *plugin, enum fms_role role, const char *server)
{
    int port = 0, listeners[3];
    struct wire wire;
    char ini[512];
    struct fake *f;

    for (unsigned i = 0; i < 3; i++)
        listeners[i] = wire_listen_at(i + 2, &port);
    snprintf(ini, sizeof ini, server, port, port, port, port);
    snprintf(ini + strlen(ini), sizeof ini - strlen(ini),
             "\nversion = 5\nreconnect_min = 20ms\nreconnect_max = 200ms\n%s", role == FMS_SOURCE ? "topic = t\n" : "");
    f = fake_open(plugin, role, ini);
    wire_idle = role == FMS_SOURCE ? f : NULL;
    for (int round = 0; round < 2; round++) {
        broker_refuse(listeners[0], 0x88);
        assert_false(wire_ready(listeners[2], 0));
        broker_refuse(listeners[1], 0);
        wire = broker_accept(listeners[2], NULL, false, NULL);
        if (role == FMS_SOURCE)
            broker_grant(&wire, 1);
        close(wire.fd);
    }
    wire_idle = NULL;
    fake_stop(f);
    fake_close(f);
    for (int i = 0; i < 3; i++)
        close(listeners[i]);
}

/* For addresses of a name and for servers of a list. */
static inline void expect_all_turns(const char *plugin, enum fms_role role)
{
    expect_turns(plugin, role, "server = tcp://many.test:%d");
    expect_turns(plugin, role,
                 "server = tcp://127.0.0.1:%d, tcp://127.0.0.2:%d, mqtt://127.0.0.3:%d, tcp://127.0.0.4:%d");
    expect_turns(plugin, role, "server = tcp://127.0.0.1:%d, tcp://many.test:%d");
}

/* A server that does not know MQTT 5 is asked in 3.1.1 before the next server is. */
static inline void expect_other_version(const char *plugin)
{
    int port = 0, listeners[2];
    struct wire wire;
    char ini[256];
    struct fake *f;

    for (unsigned i = 0; i < 2; i++)
        listeners[i] = wire_listen_at(i + 1, &port);
    snprintf(ini, sizeof ini, "server = tcp://127.0.0.1:%d, tcp://127.0.0.2:%d\nreconnect_min = 20ms\ntopic = t\n",
             port, port);
    f = fake_open(plugin, FMS_SOURCE, ini);
    wire_idle = f;
    broker_refuse(listeners[0], 0x84);
    wire = broker_accept(listeners[0], NULL, false, NULL);
    assert_int_equal(wire.version, 4);
    broker_grant(&wire, 1);
    assert_false(wire_ready(listeners[1], 0));
    wire_idle = NULL;
    close(wire.fd);
    fake_stop(f);
    fake_close(f);
    for (int i = 0; i < 2; i++)
        close(listeners[i]);
}

/* ---------------------------------------------------------------------------------------- certificates that are replaced */

/* Takes those of an authority, `ca` or `other`, into use on both sides. */
static inline void use_certificates(const struct mosquitto *broker, const char *ca)
{
    assert_int_equal(
        run_quietly("cd '%s' && mkdir -p theirs ours && cp %s.pem theirs/ca.pem && cp %s.pem ours/ca.pem &&"
                    " for name in server client; do"
                    " openssl x509 -req -in $name.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days 2"
                    " -extfile $name.ext -out $name.pem 2>/dev/null || exit 1; done &&"
                    " cp server.pem server.key theirs && cp client.pem client.key ours",
                    broker->directory, ca, ca, ca, ca),
        0);
}

/* A connection lost and made again, through a restart of the broker. */
static inline void expect_reconnection(struct mosquitto *broker, struct fake *f)
{
    uint64_t connections = fake_counter(f, "connections");

    mosquitto_stop(broker, SIGTERM);
    mosquitto_start(broker);
    fake_until(f, fake_counter(f, "connections") == connections + 1);
}

/* Files that are replaced are used from the next connection on; as long as they are broken, the old ones stay. The first server
 * of the list speaks no TLS, so that its handshakes fail and the next is taken. */
static inline void expect_renewed_certificates(const char *plugin, enum fms_role role)
{
    int port = wire_free_port();
    struct mosquitto broker;
    char text[1024];
    struct fake *f;

    snprintf(text, sizeof text,
             "allow_anonymous true\nlistener %d 127.0.0.1\ncafile %%s/theirs/ca.pem\ncertfile %%s/theirs/server.pem\n"
             "keyfile %%s/theirs/server.key\nrequire_certificate true\n",
             port);
    mosquitto_make(&broker, text);
    make_certificates(broker.directory);
    use_certificates(&broker, "ca");
    mosquitto_start(&broker);
    snprintf(text, sizeof text,
             "server = mqtts://localhost:%d, mqtts://localhost:%d\nca_file = %s/ours/ca.pem\n"
             "cert_file = %s/ours/client.pem\nkey_file = %s/ours/client.key\n"
             "reconnect_min = 20ms\nreconnect_max = 200ms\n%s",
             broker.port, port, broker.directory, broker.directory, broker.directory,
             role == FMS_SOURCE ? "topic = t\n" : "");
    f = fake_open(plugin, role, text);
    fake_until(f, fake_count_said(f, "info: connected to ") == 1);
    assert_int_equal(run_quietly("echo broken > '%s/ours/client.pem'", broker.directory), 0);
    expect_reconnection(&broker, f);
    expect_reconnection(&broker, f);
    assert_int_equal(fake_count_said(f, "warning: cert_file cannot be used, so the certificates that were read before"),
                     1);
    assert_int_equal(run_quietly("rm '%s/ours/ca.pem'", broker.directory), 0);
    expect_reconnection(&broker, f);
    assert_int_equal(fake_count_said(f, "warning: ca_file cannot be used"), 1);
    use_certificates(&broker, "other");
    expect_reconnection(&broker, f);
    assert_non_null(fake_said(f, "info: the new certificates can be used and are"));
    fake_stop(f);
    fake_close(f);
    mosquitto_free(&broker);
}

/* ------------------------------------------------------------------------------------------- passwords that are replaced */

/* Puts a text into the file `secret`, as Kubernetes does: a symbolic link to a folder is replaced by one to another. */
static inline void put_secret(const char *directory, const char *text)
{
    assert_int_equal(run_quietly("mkdir -p '%s/secrets' && cd '%s/secrets' && new=$(mktemp -d XXXXXX) &&"
                                 " printf '%%s' '%s' >$new/secret && ln -s $new fresh && mv -T fresh data &&"
                                 " { [ -L ../secret ] || ln -s secrets/data/secret ../secret; }",
                                 directory, directory, text),
                     0);
}

/* Knows from its next start on a user `fleet` with that password. */
static inline void put_user(const struct mosquitto *broker, const char *password)
{
    assert_int_equal(run_quietly("mosquitto_passwd -b -c '%s/users' fleet %s", broker->directory, password), 0);
}

/* A password that is replaced in its file is used from the next connection on, whether broker or file has it first; where the file
 * is not good, the last one stays. None is ever said. */
static inline void expect_renewed_password(const char *plugin, enum fms_role role)
{
    struct mosquitto broker;
    uint64_t connections;
    char text[1024];
    struct fake *f;

    mosquitto_make(&broker, "allow_anonymous false\npassword_file %s/users\n");
    put_user(&broker, "hush-1");
    put_secret(broker.directory, "hush-1\n");
    mosquitto_start(&broker);
    snprintf(text, sizeof text,
             "server = tcp://127.0.0.1:%d\nusername = fleet\npassword = ${file:%s/secret}\nreconnect_min = 20ms\n"
             "reconnect_max = 200ms\n%s",
             broker.port, broker.directory, role == FMS_SOURCE ? "topic = t\n" : "");
    f = fake_open(plugin, role, text);
    fake_until(f, fake_count_said(f, "info: connected to ") == 1);
    put_user(&broker, "hush-2");
    put_secret(broker.directory, "hush-2");
    expect_reconnection(&broker, f);
    assert_int_equal(fake_count_said(f, "info: password has changed in its file"), 1);
    put_user(&broker, "hush-3");
    mosquitto_stop(&broker, SIGTERM);
    fake_forget(f);
    connections = fake_counter(f, "connections");
    mosquitto_start(&broker);
    fake_until(f, fake_said(f, "authorized") != NULL || fake_said(f, "user name or password") != NULL);
    put_secret(broker.directory, "hush-3");
    fake_until(f, fake_counter(f, "connections") > connections);
    put_secret(broker.directory, "");
    expect_reconnection(&broker, f);
    expect_reconnection(&broker, f);
    assert_int_equal(fake_count_said(f, "warning: password cannot be read again, so it stays as it was: "), 1);
    put_secret(broker.directory, "hush-3");
    expect_reconnection(&broker, f);
    assert_int_equal(fake_count_said(f, "info: password can be read again"), 1);
    assert_null(fake_said(f, "hush-"));
    fake_stop(f);
    fake_close(f);
    mosquitto_free(&broker);
}

/* The password of a private key changes before the key does; then a certificate that has expired is replaced. */
static inline void expect_renewed_key(const char *plugin, enum fms_role role)
{
    int port = wire_free_port();
    struct mosquitto broker;
    uint64_t connections;
    char text[1024];
    struct fake *f;

    snprintf(text, sizeof text,
             "allow_anonymous true\nlistener %d 127.0.0.1\ncafile %%s/ca.pem\ncertfile %%s/server.pem\n"
             "keyfile %%s/server.key\nrequire_certificate true\n",
             port);
    mosquitto_make(&broker, text);
    make_certificates(broker.directory);
    put_secret(broker.directory, "hush");
    mosquitto_start(&broker);
    snprintf(text, sizeof text,
             "server = mqtts://localhost:%d\nca_file = %s/ca.pem\ncert_file = %s/client.pem\nkey_file = %s/locked.key\n"
             "key_password = ${file:%s/secret}\nreconnect_min = 20ms\nreconnect_max = 200ms\n%s",
             port, broker.directory, broker.directory, broker.directory, broker.directory,
             role == FMS_SOURCE ? "topic = t\n" : "");
    f = fake_open(plugin, role, text);
    fake_until(f, fake_count_said(f, "info: connected to ") == 1);
    put_secret(broker.directory, "psst");
    expect_reconnection(&broker, f); /* with the old key, and its password */
    assert_int_equal(fake_count_said(f, "warning: key_file cannot be used, so the certificates that were read before"),
                     1);
    assert_int_equal(
        run_quietly("cd '%s' && openssl ec -aes128 -passout pass:psst -in client.key -out locked.key 2>/dev/null",
                    broker.directory),
        0);
    expect_reconnection(&broker, f);
    assert_non_null(fake_said(f, "info: the new certificates can be used and are"));
    assert_int_equal(
        run_quietly("cd '%s' && cp client.pem good.pem && openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key"
                    " -CAcreateserial -days 0 -out client.pem 2>/dev/null",
                    broker.directory),
        0);
    mosquitto_stop(&broker, SIGTERM);
    fake_forget(f);
    connections = fake_counter(f, "connections");
    mosquitto_start(&broker);
    fake_until(f, fake_said(f, "still not connected") != NULL || fake_count_said(f, "lost") > 0);
    assert_int_equal(run_quietly("cd '%s' && mv good.pem client.pem", broker.directory), 0);
    fake_until(f, fake_counter(f, "connections") > connections);
    assert_null(fake_said(f, "psst"));
    fake_stop(f);
    fake_close(f);
    mosquitto_free(&broker);
}

/* A broker hangs, and the connection to it is not cut: the link is down after the keepalive, and comes back with the broker. */
static inline void expect_silence_to_be_seen(const char *plugin, enum fms_role role, const char *options)
{
    struct mosquitto broker;
    struct fake *f;
    char why[256];

    mosquitto_up(&broker, "allow_anonymous true\n");
    f = fake_open(plugin, role, section(broker.port, "keepalive = 1s\n%s", options));
    fake_until(f, fake_link_is_up(f));
    assert_int_equal(kill(broker.pid, SIGSTOP), 0);
    fake_until(f, !fake_link_is_up(f));
    assert_string_not_equal(fake_link_why(f, why, sizeof why), "");
    assert_int_equal(kill(broker.pid, SIGCONT), 0);
    fake_until(f, fake_link_is_up(f));
    assert_int_equal(fake_link_ups(f), 2);
    fake_close(f);
    mosquitto_free(&broker);
}

static inline pid_t tls_server_start(const char *directory, int port, const char *version)
{
    char address[32];
    int fd = -1;
    pid_t pid;

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
        dup2(STDIN_FILENO, STDOUT_FILENO);
        dup2(STDIN_FILENO, STDERR_FILENO);
        if (chdir(directory) == 0)
            execlp("openssl", "openssl", "s_server", "-accept", address, version, "-cert", "server.pem", "-key",
                   "server.key", "-CAfile", "other.pem", "-Verify", "1", "-verify_return_error", "-quiet",
                   (char *)NULL);
        _exit(127);
    }
    for (int64_t until = fake_realclock() + FAKE_PATIENCE; fd < 0 && fake_realclock() < until; poll(NULL, 0, 10))
        fd = wire_try(port);
    assert_true(fd >= 0);
    close(fd);
    return pid;
}

/* What speaks that version of TLS, wants a certificate and gets none, or one of an authority that it does not know, says so
 * in an alert. */
static inline void expect_alert(const char *plugin, enum fms_role role, const char *version, bool has_certificate,
                                const char *said)
{
    struct mosquitto place;
    char text[1024];
    struct fake *f;
    pid_t pid;
    int n;

    mosquitto_make(&place, ""); /* only for the directory and the port */
    make_certificates(place.directory);
    pid = tls_server_start(place.directory, place.port, version);
    n = snprintf(text, sizeof text, "server = mqtts://localhost:%d\nca_file = %s/ca.pem\n%s", place.port,
                 place.directory, role == FMS_SOURCE ? "topic = t\n" : "");
    if (has_certificate)
        snprintf(text + n, sizeof text - (size_t)n, "cert_file = %s/client.pem\nkey_file = %s/client.key\n",
                 place.directory, place.directory);
    f = fake_open(plugin, role, text);
    fake_until(f, fake_said(f, "warning: cannot connect to ") != NULL);
    if (fake_said(f, said) == NULL)
        fail_msg("%s: said instead: %s", version, fake_said(f, "cannot connect to "));
    fake_stop(f);
    fake_close(f);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    mosquitto_free(&place);
}

#endif
