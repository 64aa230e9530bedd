/* events.c - /events: the newest status, once a second, as server-sent events.
 *
 * One text serves all who listen. Who reads slowly keeps the one that he is at; when he is through he gets the newest, and what came
 * in between is skipped: nothing is queued for anybody. */
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "status.h"

struct listener {
    struct document *document; /* the last that was begun; NULL: none */
    size_t at;
};

static void write_event(const struct observation *latest, FILE *to)
{
    json_t *status = status_json(latest);

    fputs("event: status\ndata: ", to);
    if (status != NULL)
        json_dumpf(status, to, JSON_COMPACT | JSON_REAL_PRECISION(STATUS_DIGITS));
    fputs("\n\n", to);
    json_decref(status);
}

/* Whether there is more to read. */
static bool go_on(struct listener *self, struct server *server)
{
    struct document *newest;

    if (self->document != NULL && self->at < self->document->size)
        return true;
    newest = server_document(server, DOCUMENT_EVENT, write_event);
    if (newest == NULL || newest == self->document) {
        document_unref(newest);
        return false;
    }
    document_unref(self->document);
    *self = (struct listener){newest, 0};
    return true;
}

static ssize_t listener_read(void *user, struct server *server, char *to, size_t room)
{
    struct listener *self = user;
    size_t size;

    if (!go_on(self, server))
        return 0;
    size = self->document->size - self->at < room ? self->document->size - self->at : room;
    memcpy(to, self->document->text + self->at, size);
    self->at += size;
    return (ssize_t)size;
}

static void listener_free(void *user)
{
    struct listener *self = user;

    document_unref(self->document);
    free(self);
}

struct MHD_Response *answer_events(struct request *request)
{
    static const struct stream_type type = {"text/event-stream", listener_read, listener_free, 0};
    struct listener *listener = calloc(1, sizeof *listener);

    return listener != NULL ? answer_stream(request, &type, listener) : NULL;
}
