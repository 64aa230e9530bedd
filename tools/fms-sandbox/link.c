/* link.c - the network between the command and a broker: a TCP relay that can be cut, stalled or slowed.
 *
 * It runs on a thread of its own, so that what passes does not depend on what the sandbox is busy with. A cut link
 * resets its connections and each new one; a stalled one passes nothing and tells nobody, as a radio hole does. One in doubt
 * passes the next end of a transaction, and from then on what clients say but no answer (LINK_MUTE); one on hold stalls before it. Each
 * connection has a small buffer a direction, so that a slow reader holds its peer back as the network would. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RELAYS_LIMIT = 256,
    BUFFER_SIZE = 16384,
    SLOW_TICK_MS = 20,
    SLOW_RATE = 32768 /* bytes a second, each way */,
    END_TXN = 26 /* Kafka's request to commit or abort */
};

struct pipe_end {
    int fd;
    bool has_ended; /* it sends nothing more */
    bool is_passed; /* and its peer knows */
    bool is_broken; /* it takes nothing more either */
    size_t length;  /* of what it sent and its peer has not taken */
    char buffer[BUFFER_SIZE];
};

/* How far a client's request to Kafka has come: its length, what it asks for, and the rest. */
struct request {
    unsigned char head[6];
    size_t have; /* of the head */
    size_t left; /* of the rest */
};

struct relay {
    struct pipe_end ends[2]; /* the client's, the broker's */
    struct request request;
};

struct link {
    int listen_fd;
    int target_port;
    int wake_fd;
    pthread_t thread;
    _Atomic int mode;     /* enum link_mode */
    _Atomic bool is_over; /* link_end was called */
    struct relay *relays[RELAYS_LIMIT];
    size_t count;
    size_t allowance[2]; /* bytes that may pass in this tick, each way */
    int64_t tick_at;     /* milliseconds */
};

static void socket_close(int fd)
{
    close(fd);
}

/* What is still on its way is lost. */
static void socket_reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

static void relay_end(struct link *link, size_t i, void (*end)(int fd))
{
    end(link->relays[i]->ends[0].fd);
    end(link->relays[i]->ends[1].fd);
    free(link->relays[i]);
    link->relays[i] = link->relays[--link->count];
}

static void client_accept(struct link *link)
{
    int client = accept4(link->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    int broker = client >= 0 && link->mode != LINK_CUT ? port_connect(link->target_port, 1000) : -1;
    struct relay *relay = broker >= 0 && link->count < RELAYS_LIMIT ? calloc(1, sizeof(*relay)) : NULL;

    if (relay == NULL) {
        if (client >= 0)
            socket_reset(client);
        if (broker >= 0)
            close(broker);
        return;
    }
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(broker, F_SETFL, O_NONBLOCK);
    relay->ends[0].fd = client;
    relay->ends[1].fd = broker;
    link->relays[link->count++] = relay;
}

/* Bytes that may pass now from end FROM. */
static size_t allowed(const struct link *link, int from, size_t wanted)
{
    if (link->mode == LINK_STALL || (link->mode == LINK_MUTE && from == 1))
        return 0;
    if (link->mode != LINK_SLOW || wanted <= link->allowance[from])
        return wanted;
    return link->allowance[from];
}

/* Whether the end of a transaction is asked for in these bytes, which follow those before. */
static bool ends_transaction(struct request *request, const unsigned char *data, size_t size)
{
    bool ends = false;

    for (size_t n; size > 0; data += n, size -= n) {
        unsigned char *head = request->head;

        if (request->left > 0) {
            n = size < request->left ? size : request->left;
            request->left -= n;
            continue;
        }
        n = 1;
        head[request->have++] = *data;
        if (request->have == sizeof(request->head)) {
            uint32_t length = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];

            request->have = 0;
            request->left = length > 2 ? length - 2 : 0;
            ends = ends || (head[4] == 0 && head[5] == END_TXN);
        }
    }
    return ends;
}

static void end_read(struct pipe_end *end)
{
    ssize_t n = recv(end->fd, end->buffer + end->length, BUFFER_SIZE - end->length, 0);

    if (n > 0)
        end->length += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end->has_ended = true;
    if (n < 0 && end->has_ended)
        end->is_broken = true;
}

static void end_write(struct link *link, struct relay *relay, int from)
{
    struct pipe_end *end = &relay->ends[from];
    ssize_t n = send(relay->ends[!from].fd, end->buffer, allowed(link, from, end->length), MSG_NOSIGNAL);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            relay->ends[!from].is_broken = relay->ends[!from].has_ended = true;
        return;
    }
    link->allowance[from] -= (size_t)n < link->allowance[from] ? (size_t)n : link->allowance[from];
    end->length -= (size_t)n;
    memmove(end->buffer, end->buffer + n, end->length);
}

/* Over when both ends have sent all and it is passed on, or when one is broken and what it sent is. */
static bool relay_serve(struct link *link, struct relay *relay)
{
    for (int from = 0; from < 2; from++) {
        struct pipe_end *end = &relay->ends[from];
        size_t before = end->length;
        int doubt = LINK_DOUBT, hold = LINK_HOLD;

        if (!end->has_ended && end->length < BUFFER_SIZE)
            end_read(end);
        if (from == 0 &&
            ends_transaction(&relay->request, (unsigned char *)end->buffer + before, end->length - before)) {
            atomic_compare_exchange_strong(&link->mode, &doubt, LINK_MUTE);
            atomic_compare_exchange_strong(&link->mode, &hold, LINK_STALL);
        }
        if (end->length > 0 && allowed(link, from, end->length) > 0)
            end_write(link, relay, from);
        if (end->has_ended && end->length == 0 && !end->is_passed) {
            shutdown(relay->ends[!from].fd, SHUT_WR);
            end->is_passed = true;
        }
    }
    return (relay->ends[0].is_passed && (relay->ends[1].is_passed || relay->ends[0].is_broken)) ||
           (relay->ends[1].is_passed && relay->ends[1].is_broken) ||
           (relay->ends[0].is_broken && relay->ends[1].is_broken);
}

static void tick(struct link *link)
{
    int64_t now = now_ms();

    if (now < link->tick_at)
        return;
    link->tick_at = now + SLOW_TICK_MS;
    link->allowance[0] = link->allowance[1] = SLOW_RATE * SLOW_TICK_MS / 1000;
}

/* What to wait for; how many. A stalled link waits for nothing but orders. */
static nfds_t fill_waiting(const struct link *link, struct pollfd waiting[static 2 + 2 * RELAYS_LIMIT])
{
    nfds_t n = 0;

    waiting[n++] = (struct pollfd){.fd = link->wake_fd, .events = POLLIN};
    if (link->mode == LINK_STALL)
        return n;
    waiting[n++] = (struct pollfd){.fd = link->listen_fd, .events = POLLIN};
    for (size_t i = 0; i < link->count; i++) {
        for (int from = 0; from < 2; from++) {
            const struct pipe_end *end = &link->relays[i]->ends[from];
            const struct pipe_end *peer = &link->relays[i]->ends[!from];
            short events = 0;

            if (!end->has_ended && end->length < BUFFER_SIZE)
                events |= POLLIN;
            if (peer->length > 0 && allowed(link, !from, peer->length) > 0)
                events |= POLLOUT;
            waiting[n++] = (struct pollfd){.fd = events != 0 ? end->fd : -1, .events = events};
        }
    }
    return n;
}

static void serve(struct link *link, bool has_client)
{
    if (link->mode == LINK_STALL)
        return;
    if (link->mode == LINK_CUT) {
        while (link->count > 0)
            relay_end(link, link->count - 1, socket_reset);
    }
    for (size_t i = link->count; i-- > 0;) {
        if (relay_serve(link, link->relays[i]))
            relay_end(link, i, socket_close);
    }
    if (has_client)
        client_accept(link);
}

static void *link_run(void *user)
{
    static const int64_t forever = -1;
    struct link *link = user;
    struct pollfd waiting[2 + 2 * RELAYS_LIMIT];
    eventfd_t orders;

    while (!link->is_over) {
        nfds_t n;

        tick(link);
        n = fill_waiting(link, waiting);
        poll(waiting, n, (int)(link->mode == LINK_SLOW ? SLOW_TICK_MS : forever));
        if (waiting[0].revents != 0)
            (void)eventfd_read(link->wake_fd, &orders);
        serve(link, n > 1 && waiting[1].revents != 0);
    }
    while (link->count > 0)
        relay_end(link, link->count - 1, socket_close);
    return NULL;
}

int link_start(struct link **made, int listen_fd, int target_port)
{
    struct link *link = calloc(1, sizeof(*link));
    sigset_t all, before;
    int error;

    if (link == NULL)
        return fail(-ENOMEM, "no memory for a link");
    link->listen_fd = listen_fd;
    link->target_port = target_port;
    link->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->wake_fd < 0 || listen(listen_fd, SOMAXCONN) != 0 || fcntl(listen_fd, F_SETFL, O_NONBLOCK) != 0) {
        error = fail(-errno, "a link cannot listen: %s", strerror(errno));
        if (link->wake_fd >= 0)
            close(link->wake_fd);
        free(link);
        return error;
    }
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&link->thread, NULL, link_run, link);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        close(link->wake_fd);
        free(link);
        return fail(-error, "a link's thread: %s", strerror(error));
    }
    *made = link;
    return 0;
}

void link_set(struct link *link, enum link_mode mode)
{
    link->mode = (int)mode;
    (void)eventfd_write(link->wake_fd, 1);
}

bool link_is(const struct link *link, enum link_mode mode)
{
    return link->mode == (int)mode;
}

void link_end(struct link *link)
{
    link->is_over = true;
    (void)eventfd_write(link->wake_fd, 1);
    pthread_join(link->thread, NULL);
    close(link->wake_fd);
    free(link);
}
