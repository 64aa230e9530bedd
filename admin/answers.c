/* answers.c - what is told of the process, path by path; see route.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"
#include "page.h"
#include "route.h"
#include "status.h"

#define JSON_TYPE "application/json"

struct MHD_Response *answer_page(struct request *request)
{
    const struct page *page = page_find("/");

    (void)request;
    return answer_with_headers(
        MHD_create_response_from_buffer(page->size, (void *)(uintptr_t)page->content, MHD_RESPMEM_PERSISTENT),
        page->type, page->policy);
}

/* ------------------------------------------------------------------------------------------------ /metrics, /status */

static void write_metrics(const struct observation *latest, FILE *to)
{
    metrics_write(latest, false, to);
}

static void write_openmetrics(const struct observation *latest, FILE *to)
{
    metrics_write(latest, true, to);
}

struct MHD_Response *answer_metrics(struct request *request)
{
    const char *accept = request_header(request, "Accept");

    if (accept != NULL && strstr(accept, "application/openmetrics-text") != NULL)
        return answer_document("application/openmetrics-text; version=1.0.0; charset=utf-8",
                               server_document(request->server, DOCUMENT_OPENMETRICS, write_openmetrics));
    return answer_document("text/plain; version=0.0.4; charset=utf-8",
                           server_document(request->server, DOCUMENT_METRICS, write_metrics));
}

static void write_status(const struct observation *latest, FILE *to)
{
    json_t *status = status_json(latest);

    if (status != NULL)
        json_dumpf(status, to, JSON_COMPACT);
    fputc('\n', to);
    json_decref(status);
}

struct MHD_Response *answer_status(struct request *request)
{
    return answer_document(JSON_TYPE, server_document(request->server, DOCUMENT_STATUS, write_status));
}

/* -------------------------------------------------------------------------------------------------------- /history */

static const struct history_point *point_of(const struct history *history, size_t i)
{
    return &history->points[(history->next + HISTORY_STEPS - history->count + i) % HISTORY_STEPS];
}

/* One array of what stands at `offset` in each point. */
static json_t *column(const struct history *history, size_t offset)
{
    json_t *array = json_array();

    for (size_t i = 0; i < history->count; i++) {
        double value;

        memcpy(&value, (const char *)point_of(history, i) + offset, sizeof value);
        json_array_append_new(array, isfinite(value) ? json_real(value) : json_null());
    }
    return array;
}

static json_t *history_json(const struct history *history)
{
    json_t *times = json_array();

    for (size_t i = 0; i < history->count; i++)
        json_array_append_new(times, json_real((double)point_of(history, i)->time / (double)FMS_SECOND));
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "step", (int)(HISTORY_STEP / FMS_SECOND), "time", times,
                     "received", column(history, offsetof(struct history_point, received)), "delivered",
                     column(history, offsetof(struct history_point, delivered)), "in_flight",
                     column(history, offsetof(struct history_point, in_flight)), "oldest",
                     column(history, offsetof(struct history_point, oldest)), "p99",
                     column(history, offsetof(struct history_point, p99)));
}

struct MHD_Response *answer_history(struct request *request)
{
    const char *name = request_query(request, "pipeline");
    struct history history;
    json_t *json;
    char *text;

    if (name == NULL)
        return answer_text(request, MHD_HTTP_BAD_REQUEST, "say which: /history?pipeline=NAME; /status has the names");
    if (!observer_history(request->observer, name, &history))
        return answer_text(request, MHD_HTTP_NOT_FOUND, "there is no pipeline of that name; /status has the names");
    json = history_json(&history);
    text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(json);
    return text != NULL ? answer_take(JSON_TYPE, text, strlen(text)) : NULL;
}
