/* reload.c - /reload: what the files ask for now is done, and told as it goes on, a line of JSON each; over unix sockets only.
 * With ?file=NAME what would be done is told, if what comes with the request stood in that file; with ?env=NAME that is the environment.
 *
 * {"line":"..."} is for people, {"result":"done"}, kept or bad, is the last. While there is nothing to tell there are five empty lines a
 * second. It goes on where its reader has gone: half a reload is nothing that anybody wants. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "status.h"

#define PAUSE   (5 * FMS_MS)
#define SILENCE (200 * FMS_MS)

struct listener {
    const struct admin_host *host;
    struct reloading *reloading;
    char *text; /* that is being sent; NULL: none */
    size_t size, at;
    bool is_over; /* its last line was that of the result */
    int64_t spoke_at;
};

/* NULL: out of memory. `name` and a text, as one line. */
static char *line_of(const char *name, const char *text)
{
    json_t *line = json_object();
    char *json, *whole = NULL;

    json_object_set_new(line, name, status_text(text));
    json = json_dumps(line, JSON_COMPACT);
    if (json == NULL || asprintf(&whole, "%s\n", json) < 0)
        whole = NULL;
    free(json);
    json_decref(line);
    return whole;
}

/* NULL: there is none for now, or, with `is_over`, none any more. */
static char *next_line(struct listener *self)
{
    static const char *const results[] = {[RELOAD_DONE] = "done", [RELOAD_KEPT] = "kept", [RELOAD_BAD] = "bad"};
    int64_t at = self->host->now();
    enum reload_result result;
    char *text = NULL, *line = NULL;
    int read = self->is_over ? 0 : self->host->reload_read(self->reloading, &text, &result);

    if (read == 1)
        line = line_of("line", text);
    else if (read < 0)
        line = line_of("result", results[result]);
    else if (!self->is_over && at - self->spoke_at >= SILENCE)
        line = strdup("\n");
    free(text);
    self->is_over = self->is_over || read < 0;
    if (line != NULL)
        self->spoke_at = at;
    return line;
}

static ssize_t listener_read(void *user, struct server *server, char *to, size_t room)
{
    struct listener *self = user;
    size_t n;

    (void)server;
    if (self->text == NULL) {
        self->text = next_line(self);
        self->size = self->text != NULL ? strlen(self->text) : 0;
        self->at = 0;
    }
    if (self->text == NULL)
        return self->is_over ? -1 : 0;
    n = self->size - self->at < room ? self->size - self->at : room;
    memcpy(to, self->text + self->at, n);
    self->at += n;
    if (self->at == self->size) {
        free(self->text);
        self->text = NULL;
    }
    return (ssize_t)n;
}

static void listener_free(void *user)
{
    struct listener *self = user;

    self->host->reload_close(self->reloading);
    free(self->text);
    free(self);
}

static struct MHD_Response *refuse(struct request *request, int error)
{
    switch (error) {
    case -EBUSY:
        return answer_text(request, MHD_HTTP_CONFLICT, "as many reloads wait for another one's end as may: come again");
    case -ESHUTDOWN:
        return answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                           "not reloaded: the process is about to begin, or to end");
    default:
        return answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, strerror(-error));
    }
}

/* NULL: good. */
static const char *read_wish(const struct request *request, struct reload_wish *wish)
{
    const char *dry = request_query(request, "dry"), *file = request_query(request, "file"),
               *environment = request_query(request, "env");

    *wish = (struct reload_wish){.is_dry = dry != NULL && strcmp(dry, "0") != 0,
                                 .is_environment = environment != NULL,
                                 .name = file != NULL ? file : environment,
                                 .text = request->content,
                                 .size = request->content_size};
    if (file != NULL && environment != NULL)
        return "one file can be given: file=NAME, or env=NAME";
    if (file != NULL && !wish->is_dry)
        return "a pipeline's file that is given can be planned only: dry=1";
    if (wish->name != NULL && *wish->name == '\0')
        return "the name of what comes with it is missing: file=NAME, or env=NAME";
    if (wish->name == NULL && wish->size > 0)
        return "what comes with it has no name: file=NAME, or env=NAME";
    return NULL;
}

static void log_wish(const struct request *request, const struct reload_wish *wish)
{
    const struct admin_host *host = request->latest->host;
    char peer[PEER_TEXT];

    request_peer(request, peer);
    host->log(FMS_LOG_INFO, NULL, NULL, "%s asks %s%s%s", peer,
              wish->is_dry ? "what a reload would do" : "for a reload", wish->name != NULL ? " with its " : "",
              wish->name != NULL ? wish->name : "");
}

struct MHD_Response *answer_reload(struct request *request)
{
    static const struct stream_type type = {"application/x-ndjson", listener_read, listener_free, PAUSE};
    const struct admin_host *host = request->latest->host;
    struct reload_wish wish;
    const char *fault = read_wish(request, &wish);
    struct listener *listener;
    int error;

    if (fault != NULL)
        return answer_text(request, MHD_HTTP_BAD_REQUEST, fault);
    if (!request_finds_room(request)) /* before anything changes */
        return answer_no_room(request);
    log_wish(request, &wish);
    listener = calloc(1, sizeof *listener);
    error = listener != NULL ? host->reload_start(&wish, &listener->reloading) : -ENOMEM;
    if (error != 0) {
        free(listener);
        return refuse(request, error);
    }
    listener->host = host;
    listener->spoke_at = host->now();
    return answer_stream(request, &type, listener);
}
