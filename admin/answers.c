/* answers.c - what is told of the process, path by path; see route.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"
#include "page.h"
#include "route.h"
#include "status.h"
#include "vehicles.h"

#define JSON_TYPE "application/json"

/* Of what belongs to a pipeline. */
#define SAY_WHICH "say which: ?pipeline=NAME; /status has the names"
#define NO_SUCH   "there is no pipeline of that name; /status has the names"

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
        json_dumpf(status, to, JSON_COMPACT | JSON_REAL_PRECISION(STATUS_DIGITS));
    fputc('\n', to);
    json_decref(status);
}

struct MHD_Response *answer_status(struct request *request)
{
    return answer_document(JSON_TYPE, server_document(request->server, DOCUMENT_STATUS, write_status));
}

/* `take`: NULL after a lack of memory. */
static struct MHD_Response *answer_json(json_t *take)
{
    char *text = take != NULL ? json_dumps(take, JSON_COMPACT | JSON_REAL_PRECISION(STATUS_DIGITS)) : NULL;

    json_decref(take);
    return text != NULL ? answer_take(JSON_TYPE, text, strlen(text)) : NULL;
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

    if (name == NULL)
        return answer_text(request, MHD_HTTP_BAD_REQUEST, SAY_WHICH);
    if (!observer_history(request->observer, name, &history))
        return answer_text(request, MHD_HTTP_NOT_FOUND, NO_SUCH);
    return answer_json(history_json(&history));
}

/* ------------------------------------------------------------------------------------------------------- /vehicles */

#define VEHICLES_SHOWN 100u /* where the request does not say how many */

struct MHD_Response *answer_vehicles(struct request *request)
{
    const struct observation *latest = request->latest;
    const char *name = request_query(request, "pipeline");
    uint64_t limit = VEHICLES_SHOWN;
    size_t i = 0;
    json_t *json;

    if (name == NULL)
        return answer_text(request, MHD_HTTP_BAD_REQUEST, SAY_WHICH);
    while (i < latest->count && strcmp(latest->pipelines[i].view.name, name) != 0)
        i++;
    if (i == latest->count)
        return answer_text(request, MHD_HTTP_NOT_FOUND, NO_SUCH);
    if (!request_number(request, "limit", &limit))
        return answer_text(request, MHD_HTTP_BAD_REQUEST, "limit is a whole number");
    json = vehicles_json(latest->host, latest->pipelines[i].number, request_query(request, "find"),
                         limit < SIZE_MAX ? (size_t)limit : SIZE_MAX);
    if (json == NULL)
        return answer_text(
            request, MHD_HTTP_NOT_FOUND,
            "this pipeline keeps no vehicles: vehicle = ${json:vehicle_id} in its [pipeline] names them");
    return answer_json(json);
}
