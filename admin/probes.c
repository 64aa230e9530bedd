/* probes.c - /livez and /readyz, asked and answered as Kubernetes does.
 *
 * Whether a process lives is told by its lanes alone: that a broker is away is no reason to start it anew. */
#include <stdlib.h>
#include <string.h>

#include "health.h"
#include "route.h"

#define EXCLUSIONS 64u

/* What ?exclude names. */
struct excluded {
    const char *names[EXCLUSIONS];
    bool is_known[EXCLUSIONS]; /* there is such a stage */
    size_t count;
};

static enum MHD_Result take_exclusion(void *user, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct excluded *excluded = user;

    (void)kind;
    if (strcmp(key, "exclude") == 0 && value != NULL && excluded->count < EXCLUSIONS)
        excluded->names[excluded->count++] = value;
    return MHD_YES;
}

/* "sink kafka", or "bridge/sink kafka" */
static bool is_name_of(const char *text, const char *pipeline, const char *stage)
{
    size_t size = strlen(pipeline);

    if (strcmp(text, stage) == 0)
        return true;
    return strncmp(text, pipeline, size) == 0 && text[size] == '/' && strcmp(text + size + 1, stage) == 0;
}

static bool is_excluded(struct excluded *excluded, const char *pipeline, const char *stage)
{
    bool is_found = false;

    for (size_t i = 0; i < excluded->count; i++) {
        if (is_name_of(excluded->names[i], pipeline, stage))
            is_found = excluded->is_known[i] = true;
    }
    return is_found;
}

/* ---------------------------------------------------------------------------------------------------------- answers */

/* Of an answer: the lines that ?verbose shows, and what they come to. */
struct report {
    bool is_verbose, is_well;
    char *text;
    size_t size;
    FILE *to;
};

static bool report_begin(struct report *report, const struct request *request)
{
    *report = (struct report){.is_well = true};
    report->is_verbose = request->is_trusted && request_query(request, "verbose") != NULL;
    report->to = open_memstream(&report->text, &report->size);
    return report->to != NULL;
}

static struct MHD_Response *report_end(struct report *report, struct request *request, const char *what)
{
    if (report->is_verbose)
        fprintf(report->to, "%s check %s\n", what, report->is_well ? "passed" : "failed");
    else
        fputs(report->is_well ? "ok\n" : "failed\n", report->to);
    request->status = report->is_well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    if (fclose(report->to) == 0)
        return answer_take("text/plain; charset=utf-8", report->text, report->size);
    free(report->text);
    return NULL;
}

static void report_pipeline(struct report *report, const struct observed *pipeline, bool is_well, const char *why)
{
    report->is_well = report->is_well && is_well;
    if (report->is_verbose && is_well)
        fprintf(report->to, "[+]%s ok\n", pipeline->view.name);
    else if (report->is_verbose)
        fprintf(report->to, "[-]%s: %s\n", pipeline->view.name, why);
}

static void report_stage(struct report *report, const struct observed *pipeline, size_t i, bool is_out)
{
    const char *name = pipeline->view.stages[i].name;
    const struct stage_health *health = &pipeline->health.stages[i];

    if (!report->is_verbose)
        return;
    if (is_out)
        fprintf(report->to, "[+]%s/%s excluded: ok\n", pipeline->view.name, name);
    else if (health->is_ready)
        fprintf(report->to, "[+]%s/%s ok\n", pipeline->view.name, name);
    else
        fprintf(report->to, "[-]%s/%s: %s\n", pipeline->view.name, name, health->why);
}

struct MHD_Response *answer_livez(struct request *request)
{
    const struct observation *latest = request->latest;
    struct report report;
    char why[96];

    if (!report_begin(&report, request))
        return NULL;
    for (size_t i = 0; i < latest->count; i++) {
        const struct observed *pipeline = &latest->pipelines[i];

        snprintf(why, sizeof why, "its lane has not answered for %lld s",
                 (long long)((latest->at - pipeline->answered_at) / FMS_SECOND));
        report_pipeline(&report, pipeline, pipeline->health.is_live, why);
    }
    return report_end(&report, request, "livez");
}

/* Where all that is not ready is excluded, the rest is ready as long as the pipeline runs. */
static void report_ready(struct report *report, const struct observed *pipeline, struct excluded *excluded)
{
    bool is_ready = true, is_helped = false;

    for (size_t i = 0; i < pipeline->view.stage_count; i++) {
        bool is_out = is_excluded(excluded, pipeline->view.name, pipeline->view.stages[i].name);

        is_helped = is_helped || (is_out && !pipeline->health.stages[i].is_ready);
        is_ready = is_ready && (is_out || pipeline->health.stages[i].is_ready);
    }
    if (is_helped)
        is_ready = is_ready && pipeline->health.is_live && pipeline->view.state == PIPELINE_RUNNING;
    else
        is_ready = pipeline->health.is_ready;
    report_pipeline(report, pipeline, is_ready, pipeline->health.sentence);
    for (size_t i = 0; i < pipeline->view.stage_count; i++)
        report_stage(report, pipeline, i, is_excluded(excluded, pipeline->view.name, pipeline->view.stages[i].name));
}

struct MHD_Response *answer_readyz(struct request *request)
{
    struct excluded excluded = {.count = 0};
    struct report report;

    if (!report_begin(&report, request))
        return NULL;
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, take_exclusion, &excluded);
    for (size_t i = 0; i < request->latest->count; i++) {
        const struct observed *pipeline = &request->latest->pipelines[i];

        if (!health_is_past(request->latest, i))
            report_ready(&report, pipeline, &excluded);
        else if (report.is_verbose)
            fprintf(report.to, "[+]%s %s: ok\n", pipeline->view.name, pipeline->view.is_going ? "goes" : "has ended");
    }
    for (size_t i = 0; i < excluded.count && report.is_verbose; i++) {
        if (!excluded.is_known[i])
            fprintf(report.to, "warn: no stage is called \"%s\", so it is not excluded\n", excluded.names[i]);
    }
    return report_end(&report, request, "readyz");
}
