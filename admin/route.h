/* route.h - which path is answered by what. */
#ifndef FMS_ROUTE_H
#define FMS_ROUTE_H

#include "server.h"

/* Who is answered. */
enum audience {
    FOR_TRUSTED, /* those who give the password, where there is one */
    FOR_ALL,     /* the others, too: probes cannot give one */
    FOR_UNIX,    /* those who come over a unix socket */
};

struct route {
    const char *path;
    const char *method; /* "GET", and HEAD, which is the same without its answer's body; or "POST" */
    struct MHD_Response *(*answer)(struct request *request); /* NULL: out of memory */
    enum audience audience;
    size_t most; /* bytes of content that it takes with it */
};

/* NULL: there is none. */
const struct route *route_find(const char *path);

/* The answers; see route.c. */
struct MHD_Response *answer_events(struct request *request);
struct MHD_Response *answer_history(struct request *request);
struct MHD_Response *answer_livez(struct request *request);
struct MHD_Response *answer_metrics(struct request *request);
struct MHD_Response *answer_page(struct request *request);
struct MHD_Response *answer_readyz(struct request *request);
struct MHD_Response *answer_reload(struct request *request);
struct MHD_Response *answer_status(struct request *request);
struct MHD_Response *answer_tap(struct request *request);
struct MHD_Response *answer_vehicles(struct request *request);

#endif
