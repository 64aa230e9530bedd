/* server.c - see server.h.
 *
 * One thread answers all. A connection is the library's from the moment that it is let in, and who is let in is decided here: each
 * address is a door with a bound of its own, so that a crowd at one leaves no less room for those who come by another, and all doors
 * together leave most descriptors to the pipelines. Where a door's room is full, who has been let in longest and asks for nothing, or does not read what it has asked for, makes way; where there is none
 * of those, who comes is turned away. */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guard.h"
#include "listen.h"
#include "route.h"
#include "worker.h"

#define PLACES         80u               /* of a door, where descriptors are not scarce */
#define SHARE          3u                /* of the process's descriptors, all doors together take one in so many */
#define CLIENT_SECONDS 10u               /* for one that neither sends nor reads */
#define READ_TIME      (10 * FMS_SECOND) /* for an answer that has an end, where others wait */
#define CLIENT_MEMORY  (16u << 10)       /* for its request, and the head of the answer */
#define TOO_LARGE      413u              /* as HTTP has it, for which libraries have several names */

/* A connection. */
struct client {
    int fd;
    uint64_t number;     /* of those by this door; 0: the place is free */
    int64_t answered_at; /* it has asked then, and has not got all of the answer; 0: it asks for nothing */
    bool is_streaming;   /* whose answer has no end */
    bool is_leaving;     /* it has made way, and the library is to find that out */
};

struct door {
    struct server *server;
    struct listening listening;
    struct MHD_Daemon *daemon;
    int daemon_fd; /* ready when the library has something to do */
    struct client clients[PLACES];
    uint64_t number;
    size_t streams;
    bool is_shut; /* until the next observation: no descriptor was to be had */
};

struct stream {
    struct stream *next;
    struct door *door;
    struct MHD_Connection *connection;
    const struct stream_type *type;
    void *user;
    bool is_suspended;
    int64_t due_at; /* then: when it goes on, on the host's clock; FMS_NEVER: at the next observation */
};

/* Of each door. */
struct room {
    size_t places;  /* for the two that follow */
    size_t clients; /* who stay */
    size_t accepts; /* who come in one turn, before those who are in have theirs */
    size_t streams; /* of the clients, so that others find room */
};

struct server {
    const struct admin_host *host;
    struct observer *observer;
    struct password password;
    struct door doors[ADMIN_ADDRESSES];
    size_t door_count;
    struct room room;
    int news_fd; /* there is a new observation, or the end has come */
    _Atomic bool must_end;
    pthread_t thread;
    bool has_thread;

    /* The thread's own. */
    struct observation *latest;
    struct document *documents[DOCUMENT_KINDS]; /* of `latest` */
    struct stream *streams;
};

/* ------------------------------------------------------------------------------------------------------- documents */

struct document *server_document(struct server *server, enum document_kind kind,
                                 void (*write)(const struct observation *latest, FILE *to))
{
    struct document *document = server->documents[kind];
    FILE *to;

    if (document == NULL) {
        document = calloc(1, sizeof *document);
        to = document != NULL ? open_memstream(&document->text, &document->size) : NULL;
        if (document != NULL)
            document->references = 1;
        if (to != NULL)
            write(server->latest, to);
        if (to == NULL || fclose(to) != 0) {
            document_unref(document);
            return NULL;
        }
        server->documents[kind] = document;
    }
    document->references++;
    return document;
}

static void forget_documents(struct server *server)
{
    for (size_t i = 0; i < DOCUMENT_KINDS; i++) {
        document_unref(server->documents[i]);
        server->documents[i] = NULL;
    }
}

/* --------------------------------------------------------------------------------------------------------- streams */

static struct client *client_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static ssize_t stream_read(void *user, uint64_t position, char *to, size_t room)
{
    struct stream *stream = user;
    struct server *server = stream->door->server;
    ssize_t size = server->must_end ? -1 : stream->type->read(stream->user, server, to, room);

    (void)position;
    if (size < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (size == 0) {
        stream->is_suspended = true;
        stream->due_at = stream->type->pause > 0 ? server->host->now() + stream->type->pause : FMS_NEVER;
        MHD_suspend_connection(stream->connection);
    }
    return size;
}

static void stream_free(void *user)
{
    struct stream *stream = user;
    struct stream **link = &stream->door->server->streams;

    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    stream->door->streams--;
    stream->type->free(stream->user);
    free(stream);
}

bool request_finds_room(const struct request *request)
{
    return request->door->streams < request->server->room.streams;
}

struct MHD_Response *answer_no_room(struct request *request)
{
    return answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                       "as many are watching by this address as it has room for; close another page, or come again");
}

struct MHD_Response *answer_stream(struct request *request, const struct stream_type *type, void *take)
{
    struct server *server = request->server;
    struct stream *stream = NULL;
    struct MHD_Response *response = NULL;

    if (request->is_head) {
        type->free(take);
        return answer_take(type->type, calloc(1, 1), 0);
    }
    if (!request_finds_room(request)) {
        type->free(take);
        return answer_no_room(request);
    }
    stream = malloc(sizeof *stream);
    if (stream != NULL)
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, stream, stream_free);
    if (response == NULL) {
        free(stream);
        type->free(take);
        return NULL;
    }
    *stream = (struct stream){server->streams, request->door, request->connection, type, take, false, 0};
    server->streams = stream;
    request->door->streams++;
    client_of(request->connection)->is_streaming = true;
    return answer_with_headers(response, type->type, NULL);
}

static void resume_streams(struct server *server, int64_t at)
{
    for (struct stream *stream = server->streams; stream != NULL; stream = stream->next) {
        if (!stream->is_suspended || stream->due_at > at)
            continue;
        stream->is_suspended = false;
        MHD_resume_connection(stream->connection);
    }
}

/* -------------------------------------------------------------------------------------------------------- requests */

/* Where there is nothing, all there could be is looked at. */
static bool is_allowed(const struct route *route, const char *method)
{
    const char *asked = route != NULL ? route->method : "GET";

    return strcmp(method, asked) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(asked, "GET") == 0);
}

static struct MHD_Response *say_method(struct request *request, const struct route *route)
{
    bool is_post = route != NULL && strcmp(route->method, "POST") == 0;
    struct MHD_Response *response = answer_text(request, MHD_HTTP_METHOD_NOT_ALLOWED,
                                                is_post ? "this changes something, and is asked for by POST"
                                                        : "this can be looked at only: GET or HEAD");

    if (response != NULL)
        MHD_add_response_header(response, "Allow", is_post ? "POST" : "GET, HEAD");
    return response;
}

/* Bytes that come with a request; SIZE_MAX: how many is not told before. */
static size_t content_size(const struct request *request)
{
    const char *length = request_header(request, "Content-Length");

    if (request_header(request, "Transfer-Encoding") != NULL)
        return SIZE_MAX;
    return length != NULL ? strtoul(length, NULL, 10) : 0;
}

static struct MHD_Response *say_size(struct request *request, const struct route *route)
{
    char text[128];

    if (content_size(request) == SIZE_MAX)
        return answer_text(request, MHD_HTTP_LENGTH_REQUIRED, "how much comes is to be told before: Content-Length");
    snprintf(text, sizeof text, "what comes with this has %zu bytes at most, and this %zu", route->most,
             content_size(request));
    return answer_text(request, TOO_LARGE, text);
}

/* What is to be said to who is not let in; NULL: nothing. */
static struct MHD_Response *turn_away(struct request *request, const struct route *route, const char *method)
{
    const struct server *server = request->server;
    bool is_open_to_all = !request->is_private && server->password.size == 0;
    struct MHD_Response *response = NULL;

    if (is_open_to_all && request->door->listening.address.is_loopback &&
        !address_is_own_host(request_header(request, "Host")))
        return answer_text(
            request, MHD_HTTP_FORBIDDEN,
            "this address answers to localhost and to loopback addresses only, so that no page of another name"
            " can read it; ask for http://localhost, or set --admin-password-file");
    if (!is_allowed(route, method))
        return say_method(request, route);
    if (route == NULL)
        return answer_text(request, MHD_HTTP_NOT_FOUND,
                           "there is nothing by that name; / is the page, and fmspipe(1) has the others");
    if (route->audience == FOR_UNIX && !request->is_private)
        return answer_text(request, MHD_HTTP_FORBIDDEN,
                           "this shows what records hold, or changes what runs, and is answered over unix sockets only:"
                           " --admin=unix:PATH");
    if (route->audience == FOR_TRUSTED && !request->is_trusted) {
        response = answer_text(request, MHD_HTTP_UNAUTHORIZED, "the password is needed; any user name will do");
        if (response != NULL)
            MHD_add_response_header(response, "WWW-Authenticate", "Basic realm=\"fmspipe\", charset=\"UTF-8\"");
        return response;
    }
    return route->most > 0 && content_size(request) > route->most ? say_size(request, route) : NULL;
}

static bool is_trusted(const struct request *request)
{
    const struct password *password = &request->server->password;
    char *user, *given = NULL;
    bool is_good;

    if (request->is_private || password->size == 0)
        return true;
    user = MHD_basic_auth_get_username_password(request->connection, &given);
    is_good = password_is(password, given);
    MHD_free(user);
    MHD_free(given);
    return is_good;
}

/* Whether to answer before more is read, and to close the connection then: what comes with a request is hardly ever wanted. */
static bool is_hasty(const struct request *request, const struct route *route, const char *method)
{
    bool is_post = strcmp(method, "POST") == 0;

    if (!is_allowed(route, method) || (!is_post && request_header(request, "Content-Length") != NULL))
        return true;
    return content_size(request) > (is_post && request->is_private ? route->most : 0);
}

/* What has come with a request so far. */
struct content {
    size_t size, room;
    char text[];
};

/* NULL: out of memory. */
static struct content *content_new(size_t room)
{
    struct content *content = malloc(sizeof *content + room);

    if (content != NULL)
        *content = (struct content){.room = room};
    return content;
}

static enum MHD_Result take_content(struct content *content, const char *data, size_t *size)
{
    if (*size > content->room - content->size)
        return MHD_NO; /* more than was told */
    memcpy(content->text + content->size, data, *size);
    content->size += *size;
    *size = 0;
    return MHD_YES;
}

/* The library asks twice, and in between for each part of what comes, and closes the connection of who is answered at first. */
static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *size, void **context)
{
    struct door *door = user;
    struct server *server = door->server;
    const struct route *route = route_find(path);
    struct content *content = *context;
    struct request request = {.connection = connection,
                              .server = server,
                              .door = door,
                              .observer = server->observer,
                              .latest = server->latest,
                              .is_head = strcmp(method, "HEAD") == 0,
                              .is_private = door->listening.address.is_unix,
                              .status = MHD_HTTP_OK};
    struct MHD_Response *response;
    enum MHD_Result result;

    (void)version;
    client_of(connection)->answered_at = server->host->now();
    if (content != NULL && *size > 0)
        return take_content(content, data, size);
    if (content == NULL && !is_hasty(&request, route, method))
        return (*context = content_new(content_size(&request))) != NULL ? MHD_YES : MHD_NO;
    request.content = content != NULL ? content->text : "";
    request.content_size = content != NULL ? content->size : 0;
    request.is_trusted = is_trusted(&request);
    response = turn_away(&request, route, method);
    if (response == NULL && request.status == MHD_HTTP_OK)
        response = route->answer(&request);
    if (response == NULL) /* out of memory: the connection is closed */
        return MHD_NO;
    result = MHD_queue_response(connection, request.status, response);
    MHD_destroy_response(response);
    return result;
}

static void answered(void *user, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode how)
{
    struct client *client = client_of(connection);

    (void)user, (void)how;
    free(*context);
    *context = NULL;
    client->answered_at = 0;
    client->is_streaming = false;
}

/* ---------------------------------------------------------------------------------------------------------- doors */

/* The library has taken a connection, or given it up. */
static void come_or_go(void *user, struct MHD_Connection *connection, void **context,
                       enum MHD_ConnectionNotificationCode what)
{
    struct door *door = user;
    struct client *client = door->clients;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        client = *context;
        *client = (struct client){.number = 0};
        return;
    }
    while (client->number != 0) /* make_room has found one */
        client++;
    *client = (struct client){.fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
                              .number = ++door->number};
    *context = client;
}

static bool may_go(const struct client *client, int64_t at)
{
    return !client->is_leaving && !client->is_streaming &&
           (client->answered_at == 0 || at - client->answered_at > READ_TIME);
}

/* The library finds that out. */
static void see_out(struct client *client)
{
    client->is_leaving = true;
    shutdown(client->fd, SHUT_RDWR);
}

/* Whether one more may come in, for which another may have to go. */
static bool make_room(struct door *door)
{
    const struct room *room = &door->server->room;
    int64_t at = door->server->host->now();
    struct client *oldest = NULL;
    size_t staying = 0, taken = 0;

    for (size_t i = 0; i < PLACES; i++) {
        struct client *client = &door->clients[i];

        if (client->number == 0)
            continue;
        taken++;
        staying += !client->is_leaving;
        if (may_go(client, at) && (oldest == NULL || client->number < oldest->number))
            oldest = client;
    }
    if (taken == room->places || (staying >= room->clients && oldest == NULL))
        return false;
    if (staying >= room->clients)
        see_out(oldest);
    return true;
}

static void let_in(struct door *door)
{
    struct sockaddr_storage peer;

    for (size_t i = 0; i < door->server->room.accepts; i++) {
        socklen_t size = sizeof peer;
        int fd = accept4(door->listening.fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            door->is_shut = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            return;
        }
        if (make_room(door))
            MHD_add_connection(door->daemon, fd, (struct sockaddr *)&peer, size); /* which closes it if it cannot */
        else
            close(fd);
    }
}

/* 0 or -ENOMEM. */
static int door_open(struct door *door)
{
    const union MHD_DaemonInfo *info;

    door->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, door,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)door->server->room.places, MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY, MHD_OPTION_NOTIFY_CONNECTION, come_or_go, door,
        MHD_OPTION_NOTIFY_COMPLETED, answered, door, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    info = door->daemon != NULL ? MHD_get_daemon_info(door->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL)
        return -ENOMEM;
    door->daemon_fd = info->epoll_fd;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ the thread */

/* In milliseconds, for poll(). */
static int time_left(const struct server *server)
{
    int64_t now = server->host->now(), left = FMS_SECOND;

    for (const struct stream *stream = server->streams; stream != NULL; stream = stream->next) {
        if (stream->is_suspended && stream->due_at - now < left)
            left = stream->due_at - now;
    }
    left = left > 0 ? left / FMS_MS + 1 : 0;
    for (size_t i = 0; i < server->door_count; i++) {
        MHD_UNSIGNED_LONG_LONG timeout;

        if (MHD_get_timeout(server->doors[i].daemon, &timeout) == MHD_YES && timeout < (MHD_UNSIGNED_LONG_LONG)left)
            left = (int64_t)timeout;
    }
    return (int)left;
}

static void take_news(struct server *server)
{
    uint64_t drained;

    if (read(server->news_fd, &drained, sizeof drained) < 0)
        return;
    observation_unref(server->latest);
    server->latest = observer_latest(server->observer);
    forget_documents(server);
    for (size_t i = 0; i < server->door_count; i++)
        server->doors[i].is_shut = false;
    resume_streams(server, FMS_NEVER);
}

static void wait_for_work(const struct server *server, struct pollfd *fds)
{
    fds[0] = (struct pollfd){server->news_fd, POLLIN, 0};
    for (size_t i = 0; i < server->door_count; i++) {
        const struct door *door = &server->doors[i];

        fds[1 + 2 * i] = (struct pollfd){door->is_shut ? -1 : door->listening.fd, POLLIN, 0};
        fds[2 + 2 * i] = (struct pollfd){door->daemon_fd, POLLIN, 0};
    }
    if (poll(fds, 1 + 2 * server->door_count, time_left(server)) < 0)
        fds[0].revents = 0;
}

static void *serve(void *user)
{
    struct server *server = user;
    struct pollfd fds[1 + 2 * ADMIN_ADDRESSES];

    worker_give_way();
    while (!server->must_end) {
        wait_for_work(server, fds);
        if (fds[0].revents != 0)
            take_news(server);
        resume_streams(server, server->host->now());
        for (size_t i = 0; i < server->door_count; i++) {
            if (fds[1 + 2 * i].revents != 0)
                let_in(&server->doors[i]);
            MHD_run(server->doors[i].daemon);
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------- begin and end */

/* 0, or a negative errno, logged. */
static int read_options(struct server *server, const struct admin_options *options)
{
    const struct admin_host *host = server->host;
    const char *fault;
    bool is_bad;

    for (size_t i = 0; i < options->count; i++) {
        fault = address_parse(options->addresses[i], &server->doors[i].listening.address);
        if (fault != NULL) {
            host->log(FMS_LOG_ERROR, NULL, NULL, "--admin=%s: %s", options->addresses[i], fault);
            return -EINVAL;
        }
    }
    fault = options->password_file != NULL ? password_read(options->password_file, &server->password, &is_bad) : NULL;
    if (fault == NULL)
        return 0;
    host->log(FMS_LOG_ERROR, NULL, NULL, "--admin-password-file=%s: %s", options->password_file, fault);
    return is_bad ? -EINVAL : -EIO;
}

/* 0, or a negative errno, logged. */
static int listen_all(struct server *server, const struct admin_options *options)
{
    for (size_t i = 0; i < options->count; i++) {
        struct door *door = &server->doors[i];
        struct address address = door->listening.address;
        int error = listen_open(server->host, options->addresses[i], &address, &door->listening);

        if (error != 0)
            return error;
        door->server = server;
        server->door_count++;
        if (!address.is_unix && !address.is_loopback && server->password.size == 0)
            server->host->log(FMS_LOG_WARN, NULL, NULL,
                              "whoever reaches %s can watch this process: set --admin-password-file, or listen at a"
                              " loopback address or a unix socket",
                              options->addresses[i]);
    }
    return 0;
}

static size_t at_least(size_t least, size_t n)
{
    return n > least ? n : least;
}

static void make_rooms(struct server *server)
{
    struct room *room = &server->room;
    struct rlimit limit;
    size_t parts = SHARE * at_least(1, server->door_count);
    rlim_t share = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / parts : PLACES;

    room->places = share < PLACES ? at_least(2, (size_t)share) : PLACES;
    room->accepts = at_least(1, room->places / 5);
    room->clients = room->places - room->accepts;
    room->streams = at_least(1, room->clients * 3 / 8);
}

static int open_all(struct server *server)
{
    int error = 0;

    server->news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (server->news_fd < 0)
        return -errno;
    server->observer = observer_new(server->host, server->news_fd);
    if (server->observer == NULL)
        return -ENOMEM;
    server->latest = observer_latest(server->observer);
    make_rooms(server);
    for (size_t i = 0; i < server->door_count && error == 0; i++)
        error = door_open(&server->doors[i]);
    if (error == 0)
        error = observer_start(server->observer);
    if (error == 0)
        error = -worker_start(&server->thread, serve, server);
    server->has_thread = error == 0;
    return error;
}

int server_start(const struct admin_host *host, const struct admin_options *options, struct server **result)
{
    struct server *server = calloc(1, sizeof *server);
    char text[ADDRESS_TEXT];
    int error;

    if (server == NULL)
        return -ENOMEM;
    server->host = host;
    server->news_fd = -1;
    error = read_options(server, options);
    if (error == 0)
        error = listen_all(server, options);
    if (error == 0) {
        error = open_all(server);
        if (error != 0)
            host->log(FMS_LOG_ERROR, NULL, NULL, "cannot serve --admin: %s", strerror(-error));
    }
    for (size_t i = 0; i < server->door_count && error == 0; i++) {
        address_print(&server->doors[i].listening.address, text);
        host->log(FMS_LOG_INFO, NULL, NULL, "watch it at %s", text);
    }
    if (error != 0)
        server_stop(server);
    else
        *result = server;
    return error;
}

/* Streams end first, for the library cannot end a connection that is suspended. */
static void door_close(struct door *door)
{
    if (door->daemon != NULL) {
        MHD_run(door->daemon);
        MHD_stop_daemon(door->daemon);
    }
    listen_close(&door->listening);
}

void server_stop(struct server *server)
{
    uint64_t one = 1;

    server->must_end = true;
    if (server->has_thread) {
        if (write(server->news_fd, &one, sizeof one) < 0)
            abort(); /* an eventfd that cannot count to 2^64 */
        pthread_join(server->thread, NULL);
    }
    resume_streams(server, FMS_NEVER);
    for (size_t i = 0; i < server->door_count; i++)
        door_close(&server->doors[i]);
    if (server->observer != NULL)
        observer_free(server->observer);
    observation_unref(server->latest);
    forget_documents(server);
    if (server->news_fd >= 0)
        close(server->news_fd);
    explicit_bzero(&server->password, sizeof server->password);
    free(server);
}
