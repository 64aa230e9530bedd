/* tap.c - /tap: records as they pass a stage, a line of JSON each, over unix sockets only.
 *
 * The reader's pace is its own: what it does not take in time is dropped where it passes, and {"dropped":n} tells how many were so far.
 * While nothing passes there is an empty line each second, so that a reader who has gone is found out. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"

#define PAUSE   (50 * FMS_MS)
#define SILENCE FMS_SECOND

struct watcher {
    const struct admin_host *host;
    const char *pipeline, *stage; /* which live as long as the host */
    struct tap *tap;
    char *text; /* that is being sent; NULL: none */
    size_t size, at;
    uint64_t shown, told; /* records; of those that were dropped */
    int64_t spoke_at, told_at;
};

/* ------------------------------------------------------------------------------------------------------------- lines */

/* RFC 4648 */
static json_t *base64(struct fms_bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = bytes.data;
    size_t whole = (bytes.size + 2) / 3 * 4, n = 0;
    char *text = malloc(whole + 1);
    json_t *json;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; from != NULL && i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        unsigned bits = (unsigned)from[i] << 16 | (left > 1 ? (unsigned)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);

        text[n++] = digits[bits >> 18];
        text[n++] = digits[bits >> 12 & 63];
        text[n++] = left > 1 ? digits[bits >> 6 & 63] : '=';
        text[n++] = left > 2 ? digits[bits & 63] : '=';
    }
    json = json_stringn_nocheck(text, n);
    free(text);
    return json;
}

/* A string; where it is no UTF-8 another one, called `name`_base64. */
static void set_bytes(json_t *object, const char *name, struct fms_bytes bytes)
{
    json_t *text = bytes.data != NULL ? json_stringn(bytes.data, bytes.size) : json_null();
    char encoded[40];

    if (text != NULL) {
        json_object_set_new(object, name, text);
        return;
    }
    snprintf(encoded, sizeof encoded, "%s_base64", name);
    json_object_set_new(object, encoded, base64(bytes));
}

static json_t *headers_json(const struct fms_record *record)
{
    json_t *headers = json_array();

    for (size_t i = 0; i < record->header_count; i++) {
        json_t *header = json_object();

        set_bytes(header, "name", fms_text(record->headers[i].name));
        set_bytes(header, "value", record->headers[i].value);
        json_array_append_new(headers, header);
    }
    return headers;
}

static json_t *time_json(int64_t nanoseconds)
{
    return nanoseconds != 0 ? json_real((double)nanoseconds / (double)FMS_SECOND) : json_null();
}

/* NULL: out of memory. */
static char *line_of(const struct tapped *tapped)
{
    json_t *line = json_object();
    char *text, *whole = NULL;

    json_object_set_new(line, "time", time_json(tapped->at));
    set_bytes(line, "topic", tapped->record.topic);
    set_bytes(line, "key", tapped->record.key);
    json_object_set_new(line, "headers", headers_json(&tapped->record));
    json_object_set_new(line, "timestamp", time_json(tapped->record.timestamp));
    if (tapped->reason != NULL)
        set_bytes(line, "reason", fms_text(tapped->reason));
    set_bytes(line, "payload", tapped->record.payload);
    json_object_set_new(line, "payload_size", json_integer((json_int_t)tapped->payload_size));
    text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(16));
    if (text == NULL || asprintf(&whole, "%s\n", text) < 0)
        whole = NULL;
    free(text);
    json_decref(line);
    return whole;
}

/* ------------------------------------------------------------------------------------------------------- the stream */

/* The next line: NULL where there is none for now, or, with `is_over`, none any more. */
static char *next_line(struct watcher *self, bool *is_over)
{
    struct tapped tapped;
    uint64_t dropped = self->host->tap_dropped(self->tap);
    int64_t at = self->host->now();
    bool is_behind = dropped != self->told;
    int result = 0; /* what was dropped is told among what is read, since who is slow never finds nothing to read */
    char *line = NULL;

    *is_over = false;
    if (!is_behind || at - self->told_at < PAUSE)
        result = self->host->tap_read(self->tap, &tapped);
    if (result == 1) {
        self->shown++;
        line = line_of(&tapped);
    } else if (is_behind) {
        self->told = dropped;
        self->told_at = at;
        if (asprintf(&line, "{\"dropped\":%llu}\n", (unsigned long long)dropped) < 0)
            line = NULL;
    } else if (result < 0) {
        *is_over = true;
    } else if (at - self->spoke_at >= SILENCE) {
        line = strdup("\n");
    }
    if (line != NULL)
        self->spoke_at = at;
    return line;
}

static ssize_t watcher_read(void *user, struct server *server, char *to, size_t room)
{
    struct watcher *self = user;
    size_t filled = 0;
    bool is_over = false;

    (void)server;
    while (filled < room) {
        size_t n;

        if (self->text == NULL) {
            self->text = next_line(self, &is_over);
            self->size = self->text != NULL ? strlen(self->text) : 0;
            self->at = 0;
        }
        if (self->text == NULL)
            break;
        n = self->size - self->at < room - filled ? self->size - self->at : room - filled;
        memcpy(to + filled, self->text + self->at, n);
        self->at += n;
        filled += n;
        if (self->at < self->size)
            break;
        free(self->text);
        self->text = NULL;
    }
    return filled > 0 || !is_over ? (ssize_t)filled : -1;
}

static void watcher_free(void *user)
{
    struct watcher *self = user;

    self->host->log(FMS_LOG_INFO, self->pipeline, self->stage,
                    "a tap was closed; records shown: %llu, dropped, since they were read too slowly: %llu",
                    (unsigned long long)self->shown, (unsigned long long)self->host->tap_dropped(self->tap));
    self->host->tap_close(self->tap);
    free(self->text);
    free(self);
}

/* ------------------------------------------------------------------------------------------------------ the request */

/* Names, separated by commas, of all pipelines, or of one's stages. */
static struct MHD_Response *say_what_there_is(struct request *request, unsigned status, const char *what,
                                              const struct pipeline_view *view)
{
    const struct observation *latest = request->latest;
    size_t count = view != NULL ? view->stage_count : latest->count, size;
    struct MHD_Response *response;
    char *text = NULL;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        return NULL;
    fprintf(to, "%s; there %s: ", what, count == 1 ? "is" : "are");
    for (size_t i = 0; i < count; i++)
        fprintf(to, "%s%s", i > 0 ? ", " : "", view != NULL ? view->stages[i].name : latest->pipelines[i].view.name);
    response = fclose(to) == 0 ? answer_text(request, status, text) : NULL;
    free(text);
    return response;
}

/* False: none of that name. */
static bool read_point(const char *text, enum tap_point *point)
{
    static const char *const names[] = {[TAP_IN] = "in", [TAP_OUT] = "out", [TAP_DEAD] = "dead"};
    size_t i = 0;

    while (text != NULL && i < sizeof names / sizeof *names && strcmp(names[i], text) != 0)
        i++;
    *point = (enum tap_point)i;
    return i < sizeof names / sizeof *names;
}

static struct MHD_Response *refuse(struct request *request, const struct pipeline_view *view, int error)
{
    switch (error) {
    case -ENOENT:
        return say_what_there_is(request, MHD_HTTP_NOT_FOUND, "this pipeline has no stage of that name", view);
    case -ENOTUNIQ:
        return say_what_there_is(request, MHD_HTTP_NOT_FOUND,
                                 "there are several stages of that name: say which, by its whole name", view);
    case -EBUSY:
        return answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                           "as many taps are open as there may be: close another one");
    default:
        return NULL;
    }
}

/* "sink kafka" for "kafka"; it is there, for its tap is open. */
static const char *full_name(const struct pipeline_view *view, const char *name)
{
    const char *found = "";

    for (size_t i = 0; i < view->stage_count; i++) {
        const char *full = view->stages[i].name, *blank = strchr(full, ' ');

        if (strcmp(full, name) == 0)
            return full;
        if (blank != NULL && strcmp(blank + 1, name) == 0)
            found = full;
    }
    return found;
}

/* A HEAD request ends before anything passes. */
static struct MHD_Response *open_watcher(struct request *request, size_t i, const struct tap_wish *wish,
                                         const char *point)
{
    static const struct stream_type type = {"application/x-ndjson", watcher_read, watcher_free, PAUSE};
    const struct admin_host *host = request->latest->host;
    const struct pipeline_view *view = &request->latest->pipelines[i].view;
    struct watcher *watcher = calloc(1, sizeof *watcher);
    char peer[PEER_TEXT];
    int error = watcher != NULL
                    ? host->tap_open(host->process, request->latest->pipelines[i].number, wish, &watcher->tap)
                    : -ENOMEM;

    if (error != 0) {
        free(watcher);
        return refuse(request, view, error);
    }
    watcher->host = host;
    watcher->pipeline = view->name;
    watcher->spoke_at = host->now();
    watcher->stage = full_name(view, wish->stage);
    host->log(FMS_LOG_INFO, watcher->pipeline, watcher->stage, "a tap was opened (%s): %s sees its records", point,
              request_peer(request, peer));
    return answer_stream(request, &type, watcher);
}

struct MHD_Response *answer_tap(struct request *request)
{
    const struct observation *latest = request->latest;
    const char *name = request_query(request, "pipeline"), *point = request_query(request, "point");
    struct tap_wish wish = {.stage = request_query(request, "stage")};
    size_t i = 0;

    if (name == NULL && latest->count > 1)
        return say_what_there_is(request, MHD_HTTP_BAD_REQUEST,
                                 "say which pipeline, by --pipeline=NAME or ?pipeline=NAME", NULL);
    while (name != NULL && i < latest->count && strcmp(latest->pipelines[i].view.name, name) != 0)
        i++;
    if (i == latest->count)
        return say_what_there_is(request, MHD_HTTP_NOT_FOUND, "there is no pipeline of that name", NULL);
    if (wish.stage == NULL)
        return say_what_there_is(request, MHD_HTTP_BAD_REQUEST, "say which stage, by ?stage=NAME",
                                 &latest->pipelines[i].view);
    if (!read_point(point, &wish.point) || !request_number(request, "limit", &wish.limit) ||
        !request_number(request, "rate", &wish.rate))
        return answer_text(request, MHD_HTTP_BAD_REQUEST, "point is in, out or dead; limit and rate are whole numbers");
    return open_watcher(request, i, &wish, point != NULL ? point : "in");
}
