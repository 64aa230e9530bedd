/* server.h - HTTP: who is let in, how much at once, and streams that last. */
#ifndef FMS_SERVER_H
#define FMS_SERVER_H

#include <microhttpd.h>
#include <stddef.h>
#include <stdio.h>

#include "observe.h"

struct server;
struct door;

/* A request that is let in. All of it, and what is called with it, is for the server's thread while it answers. */
struct request {
    struct MHD_Connection *connection;
    struct server *server;
    struct door *door; /* by which it came */
    struct observer *observer;
    const struct observation *latest;
    bool is_head;        /* only the head of the answer is wanted */
    bool is_private;     /* it came over a unix socket */
    bool is_trusted;     /* it may see all: it gave the password, or none is needed */
    const char *content; /* what came with it */
    size_t content_size;
    unsigned status; /* of the answer; 200 at first */
};

/* The value of ?name=value, decoded, or "" of ?name; NULL: there is none. */
const char *request_query(const struct request *request, const char *name);
/* False: it is no whole number. `number` stays as it is where there is none. */
bool request_number(const struct request *request, const char *name, uint64_t *number);
const char *request_header(const struct request *request, const char *name);
/* "process 123 of user 1000", as the kernel says of who has connected over a unix socket, or "somebody". */
#define PEER_TEXT 64u
const char *request_peer(const struct request *request, char text[PEER_TEXT]);

/* Answers, all with the headers that keep browsers from doing with them what they are not for. NULL: out of memory. `type`: as in
 * Content-Type. */

/* Of any other response; NULL stays NULL. `policy`: what a browser may do with it; NULL: nothing. */
struct MHD_Response *answer_with_headers(struct MHD_Response *response, const char *type, const char *policy);

/* `take`: from malloc, or NULL. */
struct MHD_Response *answer_take(const char *type, char *take, size_t size);
struct MHD_Response *answer_text(struct request *request, unsigned status, const char *text);

/* A text that is the same for all who ask before the next observation is made, and is written once. */
struct document {
    unsigned references;
    size_t size;
    char *text;
};
enum document_kind { DOCUMENT_METRICS, DOCUMENT_OPENMETRICS, DOCUMENT_STATUS, DOCUMENT_EVENT, DOCUMENT_KINDS };

/* The newest, to be handed back; NULL: out of memory. `write` writes it where there is none yet. */
struct document *server_document(struct server *server, enum document_kind kind,
                                 void (*write)(const struct observation *latest, FILE *to));
void document_unref(struct document *document);
struct MHD_Response *answer_document(const char *type, struct document *take);

/* An answer that has no end of its own. */
struct stream_type {
    const char *type; /* as in Content-Type */
    /* Up to `room` bytes, or 0: nothing now; or -1: it has ended. */
    ssize_t (*read)(void *user, struct server *server, char *to, size_t room);
    void (*free)(void *user);
    int64_t pause; /* after it had nothing; 0: until the next observation */
};
/* Whether a stream would not be refused, and the refusal: for what is not to be begun then. */
bool request_finds_room(const struct request *request);
struct MHD_Response *answer_no_room(struct request *request);
/* `take`: what `free` is for, in any case. */
struct MHD_Response *answer_stream(struct request *request, const struct stream_type *type, void *take);

/* As `start` and `stop` of struct admin_table. */
int server_start(const struct admin_host *host, const struct admin_options *options, struct server **server);
void server_stop(struct server *server);

#endif
