/* mqtt_transport.c - see mqtt_transport.h. */
#include "mqtt_transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../mqtt_common/mqtt_tls.h"

#define CONNECT_PATIENCE (10 * FMS_SECOND) /* for all of it */
#define ADDRESS_PATIENCE (3 * FMS_SECOND)  /* for one address of several */

/* A look-up, which outlives whoever gave it up. The last of the two frees it. */
struct lookup {
    char host[256], port[8];
    struct addrinfo *found;
    int error; /* of getaddrinfo */
    int done_fd;
    atomic_int state;
};
enum { LOOKUP_RUNS, LOOKUP_IS_DONE, LOOKUP_IS_GIVEN_UP };

enum step { STEP_NONE, STEP_LOOKUP, STEP_ADDRESS, STEP_CONNECT, STEP_HANDSHAKE, STEP_UP };

struct mqtt_transport {
    const struct mqtt_options *options;
    const char *alpn;
    const struct fms_host *host;
    SSL_CTX *tls;                    /* NULL: no TLS */
    char told[MQTT_TLS_REASON_SIZE]; /* why new files cannot be used */
    char reason[256];
    bool was_closed, stays;

    enum step step;
    int64_t deadline, address_deadline;
    size_t server; /* the one that is tried, in options->server */
    struct mqtt_url url;
    struct lookup *lookup;          /* of its name; it serves until all addresses were tried */
    const struct addrinfo *address; /* the one that is tried; NULL: all were */
    int fd;
    SSL *ssl;
    short read_events, write_events; /* what to wait for to read and to write: TLS may need the other direction */
};

const char *mqtt_transport_reason(const struct mqtt_transport *transport)
{
    return transport->reason;
}

const struct mqtt_url *mqtt_transport_server(const struct mqtt_transport *transport)
{
    return &transport->url;
}

static void say(struct mqtt_transport *transport, const char *format, ...) FMS_PRINTF(2, 3);
static void say(struct mqtt_transport *transport, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(transport->reason, sizeof transport->reason, format, args);
    va_end(args);
}

/* The connection is over, by errno's word, or (0) because the broker closed it. */
static void say_closed(struct mqtt_transport *transport, int error)
{
    if (transport->reason[0] != '\0')
        return;
    transport->was_closed = error == 0 || error == ECONNRESET || error == EPIPE;
    if (error == 0)
        say(transport, "the broker closed the connection");
    else if (transport->was_closed)
        say(transport, "the broker closed the connection (%s)", strerror(error));
    else
        say(transport, "the connection broke: %s", strerror(error));
}

bool mqtt_transport_was_closed(const struct mqtt_transport *transport)
{
    return transport->was_closed;
}

/* ---------------------------------------------------------------------------------------------------------- look-up */

static void lookup_free(struct lookup *lookup)
{
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    close(lookup->done_fd);
    free(lookup);
}

static int lookup_ask(struct lookup *lookup, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

    return getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
}

static void *lookup_run(void *argument)
{
    struct lookup *lookup = argument;

    lookup->error = lookup_ask(lookup, AI_ADDRCONFIG);
    eventfd_write(lookup->done_fd, 1);
    if (atomic_exchange(&lookup->state, LOOKUP_IS_DONE) == LOOKUP_IS_GIVEN_UP)
        lookup_free(lookup);
    return NULL;
}

static void lookup_give_up(struct lookup *lookup)
{
    if (lookup != NULL && atomic_exchange(&lookup->state, LOOKUP_IS_GIVEN_UP) == LOOKUP_IS_DONE)
        lookup_free(lookup);
}

static int lookup_start(struct lookup *lookup)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, lookup_run, lookup);
    pthread_attr_destroy(&attributes);
    return error;
}

/* A numeric address needs no thread. */
static struct lookup *lookup_new(const struct mqtt_url *url)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);

    if (lookup == NULL)
        return NULL;
    snprintf(lookup->host, sizeof lookup->host, "%s", url->host);
    snprintf(lookup->port, sizeof lookup->port, "%d", url->port);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lookup->done_fd < 0) {
        free(lookup);
        return NULL;
    }
    if (lookup_ask(lookup, AI_NUMERICHOST) == 0) {
        atomic_store(&lookup->state, LOOKUP_IS_DONE);
    } else if (lookup_start(lookup) != 0) {
        lookup_free(lookup);
        return NULL;
    }
    return lookup;
}

/* -------------------------------------------------------------------------------------------------------------- TLS */

/* The context holds all that it needs of the files. */
static SSL_CTX *tls_load(const struct mqtt_transport *transport, const char **option, char reason[MQTT_TLS_REASON_SIZE])
{
    struct copy copies[MQTT_TLS_FILES];
    SSL_CTX *tls = mqtt_tls_load(transport->options, copies, option, reason);

    if (tls != NULL)
        mqtt_tls_free_copies(copies);
    return tls;
}

static int tls_new(struct mqtt_transport *transport)
{
    char reason[MQTT_TLS_REASON_SIZE];
    const char *option;

    transport->tls = tls_load(transport, &option, reason);
    return transport->tls != NULL ? 0 : fms_fail_option(transport->host, option, -EINVAL, "%s", reason);
}

/* Reads the files again, for whoever replaces them does not start us anew. */
static void tls_renew(struct mqtt_transport *transport)
{
    char reason[MQTT_TLS_REASON_SIZE];
    const char *option;
    SSL_CTX *tls = tls_load(transport, &option, reason);

    mqtt_tls_tell(transport->host, option, reason, transport->told);
    if (tls == NULL)
        return;
    SSL_CTX_free(transport->tls);
    transport->tls = tls;
}

static void say_tls_error(struct mqtt_transport *transport)
{
    mqtt_tls_explain(ERR_peek_last_error(), transport->reason, sizeof transport->reason);
    ERR_clear_error();
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* The certificate must be for this host, which is also asked for by name (SNI). */
static bool tls_name(SSL *ssl, const char *host)
{
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

static bool tls_protocol(SSL *ssl, const char *alpn)
{
    unsigned char list[256];
    size_t size = alpn != NULL ? strlen(alpn) : 0;

    if (size == 0)
        return true;
    list[0] = (unsigned char)size;
    memcpy(list + 1, alpn, size);
    return SSL_set_alpn_protos(ssl, list, (unsigned)size + 1) == 0;
}

static int handshake_begin(struct mqtt_transport *transport)
{
    tls_renew(transport);
    transport->ssl = SSL_new(transport->tls);
    if (transport->ssl == NULL || !tls_name(transport->ssl, transport->url.host) ||
        !tls_protocol(transport->ssl, transport->alpn) || SSL_set_fd(transport->ssl, transport->fd) != 1) {
        say_tls_error(transport);
        return -EPROTO;
    }
    SSL_set_connect_state(transport->ssl);
    return 0;
}

/* What a call of OpenSSL that moved nothing means: -EAGAIN and what it waits for, or -EPIPE and the reason. */
static ssize_t tls_outcome(struct mqtt_transport *transport, int result, short *events)
{
    long verdict;

    switch (SSL_get_error(transport->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *events = POLLIN;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        *events = POLLOUT;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        say_closed(transport, 0);
        return -EPIPE;
    case SSL_ERROR_SYSCALL:
        say_closed(transport, errno);
        ERR_clear_error();
        return -EPIPE;
    default:
        verdict = transport->options->tls_verify ? SSL_get_verify_result(transport->ssl) : X509_V_OK;
        if (verdict != X509_V_OK)
            say(transport, "TLS: the broker's certificate: %s", X509_verify_cert_error_string(verdict));
        else if (transport->reason[0] == '\0')
            say_tls_error(transport);
        ERR_clear_error();
        return -EPIPE;
    }
}

/* ---------------------------------------------------------------------------------------------------------- connect */

int mqtt_transport_new(struct mqtt_transport **result, const struct mqtt_options *options, const char *alpn,
                       const struct fms_host *host)
{
    struct mqtt_transport *transport = calloc(1, sizeof *transport);
    int error = 0;

    if (transport == NULL)
        return fms_fail(host, -ENOMEM, "out of memory");
    transport->options = options;
    transport->alpn = alpn;
    transport->host = host;
    transport->fd = -1;
    mqtt_next_server(options, &transport->server, &transport->url);
    transport->server = options->server.count - 1;
    if (transport->url.is_tls)
        error = tls_new(transport);
    if (error != 0)
        free(transport);
    else
        *result = transport;
    return error;
}

void mqtt_transport_close(struct mqtt_transport *transport)
{
    if (transport->step == STEP_UP && transport->ssl != NULL)
        SSL_shutdown(transport->ssl);
    SSL_free(transport->ssl);
    ERR_clear_error();
    if (transport->fd >= 0)
        close(transport->fd);
    transport->ssl = NULL;
    transport->fd = -1;
    transport->step = STEP_NONE;
}

void mqtt_transport_finish(struct mqtt_transport *transport)
{
    if (transport->ssl != NULL)
        SSL_shutdown(transport->ssl);
    ERR_clear_error();
    shutdown(transport->fd, SHUT_WR);
}

void mqtt_transport_free(struct mqtt_transport *transport)
{
    mqtt_transport_close(transport);
    lookup_give_up(transport->lookup);
    SSL_CTX_free(transport->tls);
    free(transport);
}

void mqtt_transport_prove(struct mqtt_transport *transport)
{
    transport->server = transport->options->server.count - 1;
    transport->address = NULL;
}

void mqtt_transport_stay(struct mqtt_transport *transport)
{
    transport->stays = true;
}

bool mqtt_transport_is_last(const struct mqtt_transport *transport)
{
    return transport->server + 1 == transport->options->server.count &&
           (transport->address == NULL || transport->address->ai_next == NULL);
}

void mqtt_transport_open(struct mqtt_transport *transport, int64_t now)
{
    bool stays = transport->stays;

    mqtt_transport_close(transport);
    transport->reason[0] = '\0';
    transport->was_closed = transport->stays = false;
    transport->read_events = POLLIN;
    transport->write_events = POLLOUT;
    transport->deadline = now + CONNECT_PATIENCE;
    if (transport->address != NULL && !stays)
        transport->address = transport->address->ai_next;
    transport->step = STEP_ADDRESS;
    if (transport->address != NULL)
        return;
    lookup_give_up(transport->lookup);
    if (!stays)
        mqtt_next_server(transport->options, &transport->server, &transport->url);
    transport->lookup = lookup_new(&transport->url);
    transport->step = STEP_LOOKUP;
}

static int step_lookup(struct mqtt_transport *transport, struct fms_wait *wait)
{
    struct lookup *lookup = transport->lookup;

    if (lookup == NULL) {
        say(transport, "no memory, or no thread, to look up %s", transport->url.host);
        return -ENOMEM;
    }
    if (atomic_load(&lookup->state) != LOOKUP_IS_DONE) {
        wait->fd = lookup->done_fd;
        wait->events = POLLIN;
        return -EAGAIN;
    }
    if (lookup->error != 0) {
        say(transport, "%s: %s", transport->url.host, gai_strerror(lookup->error));
        return -EHOSTUNREACH;
    }
    transport->address = lookup->found;
    transport->step = STEP_ADDRESS;
    return 0;
}

/* A broker that wants no PINGREQ (Server Keep Alive 0) and has gone without a word is noticed within two minutes all the same. */
static void set_keepalive(int fd)
{
    const int yes = 1, idle = 60, interval = 10, count = 6;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

/* Begins with the address, or the next that can be begun with. */
static int step_address(struct mqtt_transport *transport, int64_t now)
{
    for (; transport->address != NULL; transport->address = transport->address->ai_next) {
        const struct addrinfo *address = transport->address;
        int yes = 1;

        transport->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (transport->fd < 0) {
            say(transport, "%s", strerror(errno));
            continue;
        }
        setsockopt(transport->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        set_keepalive(transport->fd);
        if (connect(transport->fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS) {
            transport->address_deadline = address->ai_next != NULL ? now + ADDRESS_PATIENCE : FMS_NEVER;
            transport->step = STEP_CONNECT;
            return 0;
        }
        say(transport, "%s", strerror(errno));
        close(transport->fd);
        transport->fd = -1;
    }
    return -EHOSTUNREACH;
}

/* 0: connected, or the next address is tried; -EAGAIN: not yet. */
static int step_connect(struct mqtt_transport *transport, int64_t now, struct fms_wait *wait)
{
    struct pollfd ready = {transport->fd, POLLOUT, 0};
    socklen_t size = sizeof(int);
    int error = 0;

    if (poll(&ready, 1, 0) == 0 && now < transport->address_deadline) {
        wait->fd = transport->fd;
        wait->events = POLLOUT;
        if (wait->deadline > transport->address_deadline)
            wait->deadline = transport->address_deadline;
        return -EAGAIN;
    }
    if (ready.revents == 0)
        error = ETIMEDOUT;
    else
        getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0) {
        transport->reason[0] = '\0'; /* of addresses before this one; from here on the first reason counts */
        transport->step = transport->tls != NULL ? STEP_HANDSHAKE : STEP_UP;
        return transport->tls != NULL ? handshake_begin(transport) : 0;
    }
    say(transport, "%s", error == ECONNREFUSED ? "nobody answers there" : strerror(error));
    close(transport->fd);
    transport->fd = -1;
    transport->address = transport->address->ai_next;
    transport->step = STEP_ADDRESS;
    return 0;
}

static int step_handshake(struct mqtt_transport *transport, struct fms_wait *wait)
{
    int result = SSL_do_handshake(transport->ssl);

    if (result == 1) {
        transport->step = STEP_UP;
        return 0;
    }
    if (tls_outcome(transport, result, &wait->events) != -EAGAIN)
        return -EPROTO;
    wait->fd = transport->fd;
    return -EAGAIN;
}

int mqtt_transport_connect(struct mqtt_transport *transport, int64_t now, struct fms_wait *wait)
{
    int error = 0;

    if (now >= transport->deadline) {
        say(transport, "no answer within %.0f s", (double)CONNECT_PATIENCE / (double)FMS_SECOND);
        return -ETIMEDOUT;
    }
    wait->deadline = transport->deadline;
    while (transport->step != STEP_UP && error == 0) {
        if (transport->step == STEP_LOOKUP)
            error = step_lookup(transport, wait);
        else if (transport->step == STEP_ADDRESS)
            error = step_address(transport, now);
        else if (transport->step == STEP_CONNECT)
            error = step_connect(transport, now, wait);
        else
            error = step_handshake(transport, wait);
    }
    return error;
}

/* -------------------------------------------------------------------------------------------------------- read, write */

ssize_t mqtt_transport_read(struct mqtt_transport *transport, void *to, size_t size)
{
    ssize_t n;

    if (transport->ssl != NULL) {
        errno = 0;
        n = SSL_read(transport->ssl, to, size < INT32_MAX ? (int)size : INT32_MAX);
        return n > 0 ? n : tls_outcome(transport, (int)n, &transport->read_events);
    }
    n = recv(transport->fd, to, size, 0);
    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    say_closed(transport, n == 0 ? 0 : errno);
    return -EPIPE;
}

/* Writing failed. A broker that refuses our certificate with TLS 1.3 says so after the handshake, and hangs up: what it said
 * may still be there to be read. */
static void hear_alert(struct mqtt_transport *transport)
{
    char byte;
    int n = SSL_read(transport->ssl, &byte, 1);

    if (n <= 0 && SSL_get_error(transport->ssl, n) == SSL_ERROR_SSL) {
        transport->was_closed = false;
        say_tls_error(transport);
    }
    ERR_clear_error();
}

ssize_t mqtt_transport_write(struct mqtt_transport *transport, const void *from, size_t size)
{
    bool is_news;
    ssize_t n;

    if (transport->ssl != NULL) {
        errno = 0;
        n = SSL_write(transport->ssl, from, size < INT32_MAX ? (int)size : INT32_MAX);
        if (n > 0)
            return n;
        is_news = transport->reason[0] == '\0';
        n = tls_outcome(transport, (int)n, &transport->write_events);
        if (n == -EPIPE && is_news)
            hear_alert(transport);
        return n;
    }
    n = send(transport->fd, from, size, MSG_NOSIGNAL);
    if (n > 0)
        return n;
    if (n == 0 || errno == EAGAIN || errno == EINTR)
        return -EAGAIN;
    say_closed(transport, errno);
    return -EPIPE;
}

bool mqtt_transport_wait(const struct mqtt_transport *transport, bool for_reading, bool for_writing,
                         struct fms_wait *wait)
{
    wait->events = (short)((for_reading ? transport->read_events : 0) | (for_writing ? transport->write_events : 0));
    wait->fd = wait->events != 0 ? transport->fd : -1; /* or a hang-up would be ready for ever */
    return for_reading && transport->ssl != NULL && SSL_pending(transport->ssl) > 0;
}
