/* status.c - see status.h.
 *
 * Members are added and never change their meaning. Times are Unix seconds, durations seconds; null is where there is none. */
#include "status.h"

#include <math.h>
#include <unistd.h>

#include "health.h"
#include "text.h"

/* ----------------------------------------------------------------------------------------------------------- values */

/* An object that lacks a part for want of memory is none. json_object_set_new gives `take` back, whatever it returns. */
static void set(json_t **object, const char *name, json_t *take)
{
    if (json_object_set_new(*object, name, take) != 0) {
        json_decref(*object);
        *object = NULL;
    }
}

static json_t *count(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static json_t *number(double value, double places)
{
    return isfinite(value) ? json_real(round(value * places) / places) : json_null();
}

static json_t *seconds(int64_t nanoseconds)
{
    return number((double)nanoseconds / (double)FMS_SECOND, 1e6);
}

static json_t *unix_time(int64_t realtime)
{
    return number((double)realtime / (double)FMS_SECOND, 1e3);
}

/* Of a moment on the host's clock; 0: there was none. */
static json_t *moment(const struct observation *now, int64_t then)
{
    return then != 0 ? unix_time(now->realtime - (now->at - then)) : json_null();
}

static json_t *age(const struct observation *now, int64_t then)
{
    return then != 0 ? seconds(now->at > then ? now->at - then : 0) : json_null();
}

json_t *status_text(const char *text)
{
    json_t *string = json_string(text);
    char *mended, *to;

    if (string != NULL || (mended = malloc(3 * strlen(text) + 1)) == NULL)
        return string;
    to = mended;
    for (size_t size; *text != '\0'; text += size > 0 ? size : 1) {
        size = text_character(text);
        memcpy(to, size > 0 ? text : "\xEF\xBF\xBD", size > 0 ? size : 3);
        to += size > 0 ? size : 3;
    }
    *to = '\0';
    string = json_string(mended);
    free(mended);
    return string;
}

/* ---------------------------------------------------------------------------------------------------------- latency */

static uint64_t histogram_count(const struct histogram_view *histogram)
{
    uint64_t n = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        n += histogram->counts[i];
    return n;
}

static json_t *latency(const struct histogram_view *now, const struct histogram_view *earlier)
{
    json_t *object = json_object();

    set(&object, "count", count(histogram_count(now)));
    set(&object, "p50", number(histogram_quantile(now, earlier, 0.5), 1e6));
    set(&object, "p90", number(histogram_quantile(now, earlier, 0.9), 1e6));
    set(&object, "p99", number(histogram_quantile(now, earlier, 0.99), 1e6));
    return object;
}

static void add(struct histogram_view *sum, const struct histogram_view *histogram)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->counts[i] += histogram->counts[i];
    sum->sum += histogram->sum;
}

/* Queue and sink are those of all sinks together, without the dead letters'. */
static json_t *latencies(const struct observed *of)
{
    struct histogram_view queue = {.sum = 0}, earlier_queue = queue, sink = queue, earlier_sink = queue;
    json_t *object = json_object();

    for (size_t i = 0; i < of->view.stage_count; i++) {
        const struct stage_latencies *earlier = &of->earlier.stages[i];

        if (of->view.stages[i].role != FMS_SINK)
            continue;
        add(&queue, &of->view.stages[i].queue);
        add(&sink, &of->view.stages[i].far_end);
        add(&earlier_queue, &earlier->queue);
        add(&earlier_sink, &earlier->far_end);
    }
    set(&object, "transform", latency(&of->view.transform, &of->earlier.transform));
    set(&object, "queue", latency(&queue, &earlier_queue));
    set(&object, "sink", latency(&sink, &earlier_sink));
    set(&object, "total", latency(&of->view.total, &of->earlier.total));
    return object;
}

/* ----------------------------------------------------------------------------------------------------------- stages */

static const char *role_name(enum fms_role role)
{
    switch (role) {
    case FMS_SOURCE:
        return "source";
    case FMS_TRANSFORM:
        return "transform";
    case FMS_SINK:
        return "sink";
    default:
        return "dead_letter";
    }
}

/* Of a plugin's histogram: how many, and what they took together. */
static json_t *own_duration(const struct histogram_view *histogram)
{
    json_t *object = json_object();

    set(&object, "count", count(histogram_count(histogram)));
    set(&object, "sum", number(histogram->sum / (double)FMS_SECOND, 1e6));
    return object;
}

static json_t *own_metrics(const struct stage_view *stage)
{
    json_t *object = json_object();

    if (stage->table == NULL)
        return object;
    for (size_t i = 0; stage->table->counters != NULL && stage->table->counters[i].name != NULL; i++)
        set(&object, stage->table->counters[i].name, count(stage->counters[i]));
    for (size_t i = 0; stage->table->gauges != NULL && stage->table->gauges[i].name != NULL; i++)
        set(&object, stage->table->gauges[i].name, number(stage->gauges[i], 1e6));
    for (size_t i = 0; stage->table->durations != NULL && stage->table->durations[i].name != NULL; i++)
        set(&object, stage->table->durations[i].name, own_duration(&stage->durations[i]));
    return object;
}

static void set_link(const struct observation *now, const struct stage_view *stage, json_t **object)
{
    const struct link_state *link = &stage->link;
    bool is_up = stage->has_link && link->is_up;

    set(object, "connected", stage->has_link ? json_boolean(link->is_up) : json_null());
    set(object, "connected_since", is_up ? moment(now, link->since) : json_null());
    set(object, "disconnected_since", stage->has_link && !is_up ? moment(now, link->since) : json_null());
    set(object, "connects", count(link->ups));
    set(object, "disconnects", count(link->downs));
    set(object, "disconnect_reason", status_text(stage->has_link && !is_up ? link->why : ""));
}

static void set_flow(const struct stage_view *stage, const struct stage_rates *rates, json_t **object)
{
    set(object, "records_in", count(stage->records_in));
    set(object, "records_out", count(stage->records_out));
    set(object, "bytes_in", count(stage->bytes_in));
    set(object, "bytes_out", count(stage->bytes_out));
    set(object, "rate_in", number(rates->records_in, 1e3));
    set(object, "rate_out", number(rates->records_out, 1e3));
    set(object, "rejected", count(stage->rejected));
    set(object, "retried", count(stage->retried));
    set(object, "dropped", count(stage->dropped));
    set(object, "held", count(stage->held));
    set(object, "taken", count(stage->taken));
    set(object, "full", json_boolean(stage->is_full));
    set(object, "retrying", json_boolean(stage->is_retrying));
}

static json_t *stage_latency(const struct stage_view *stage, const struct stage_latencies *earlier)
{
    json_t *object = json_object();

    set(&object, "queue", latency(&stage->queue, &earlier->queue));
    set(&object, "sink", latency(&stage->far_end, &earlier->far_end));
    return object;
}

static json_t *stage_json(const struct observation *now, const struct observed *of, size_t i)
{
    const struct stage_view *stage = &of->view.stages[i];
    json_t *object = json_object();

    set(&object, "name", status_text(stage->name));
    set(&object, "role", json_string(role_name(stage->role)));
    set(&object, "plugin", status_text(stage->table != NULL ? stage->table->name : ""));
    set(&object, "ready", json_boolean(of->health.stages[i].is_ready));
    set(&object, "why", status_text(of->health.stages[i].why));
    set_link(now, stage, &object);
    set_flow(stage, &of->rates[i], &object);
    set(&object, "oldest_seconds", age(now, stage->oldest_at));
    set(&object, "last", moment(now, stage->last_at));
    set(&object, "busy_seconds", seconds(stage->busy));
    set(&object, "latency", stage_latency(stage, &of->earlier.stages[i]));
    set(&object, "dead", json_boolean(stage->is_dead));
    set(&object, "metrics", own_metrics(stage));
    return object;
}

static void append(json_t **array, json_t *take)
{
    if (json_array_append_new(*array, take) != 0) {
        json_decref(*array);
        *array = NULL;
    }
}

static json_t *stages_json(const struct observation *now, const struct observed *of)
{
    json_t *array = json_array();

    for (size_t i = 0; i < of->view.stage_count; i++)
        append(&array, stage_json(now, of, i));
    return array;
}

/* -------------------------------------------------------------------------------------------------------- pipelines */

static const char *state_name(const struct pipeline_view *view)
{
    static const char *const names[] = {[PIPELINE_RUNNING] = "running",
                                        [PIPELINE_STOPPING] = "stopping",
                                        [PIPELINE_DRAINING] = "draining",
                                        [PIPELINE_ENDED] = "ended"};

    return view->has_failed ? "failed" : view->stands_still ? "standing" : names[view->state];
}

static json_t *in_flight_json(const struct pipeline_view *view)
{
    json_t *object = json_object();

    set(&object, "records", count(view->in_flight));
    set(&object, "bytes", count(view->in_flight_bytes));
    set(&object, "max_records", count(view->max_in_flight));
    set(&object, "max_bytes", count(view->max_in_flight_bytes));
    return object;
}

static json_t *counts_json(const struct pipeline_counts *counts)
{
    json_t *object = json_object();

    set(&object, "received", count(counts->emitted));
    set(&object, "delivered", count(counts->delivered));
    set(&object, "rejected", count(counts->rejected));
    set(&object, "dead_letters", count(counts->dead_letters));
    set(&object, "dropped", count(counts->dropped));
    set(&object, "retried", count(counts->retried));
    return object;
}

static json_t *rates_json(const struct observed *of)
{
    json_t *object = json_object();

    set(&object, "received", number(of->received_rate, 1e3));
    set(&object, "delivered", number(of->delivered_rate, 1e3));
    return object;
}

static json_t *vehicles_json(const struct fleet_counts *fleet)
{
    json_t *object = fleet->is_kept ? json_object() : NULL;

    if (!fleet->is_kept)
        return json_null();
    set(&object, "active", count(fleet->active));
    set(&object, "silent", count(fleet->silent));
    set(&object, "new", count(fleet->new));
    set(&object, "limit", count(fleet->limit));
    return object;
}

static void set_health(const struct observation *now, const struct observed *of, json_t **object)
{
    const struct health *health = &of->health;

    set(object, "live", json_boolean(health->is_live));
    set(object, "ready", json_boolean(health->is_ready));
    set(object, "verdict", json_string(verdict_name(health->verdict)));
    set(object, "since", moment(now, health->since));
    set(object, "sentence", status_text(health->sentence));
    set(object, "held_by", health->held_by >= 0 ? status_text(of->view.stages[health->held_by].name) : json_null());
}

static json_t *pipeline_json(const struct observation *now, const struct observed *of)
{
    const struct pipeline_view *view = &of->view;
    json_t *object = json_object();

    set(&object, "name", status_text(view->name));
    set(&object, "file", status_text(view->file));
    set(&object, "started", moment(now, view->started_at));
    set(&object, "state", json_string(state_name(view)));
    set_health(now, of, &object);
    set(&object, "in_flight", in_flight_json(view));
    set(&object, "left", count(view->left));
    set(&object, "oldest_seconds", age(now, view->oldest_at));
    set(&object, "blocked", json_boolean(view->is_blocked));
    set(&object, "blocked_seconds", seconds(view->blocked));
    set(&object, "busy_seconds", seconds(view->busy));
    set(&object, "stall_after", seconds(view->stall_after));
    set(&object, "counts", counts_json(&view->counts));
    set(&object, "rates", rates_json(of));
    set(&object, "latency", latencies(of));
    set(&object, "age", latency(&view->age, &of->earlier.age));
    set(&object, "stages", stages_json(now, of));
    set(&object, "vehicles", vehicles_json(&view->fleet));
    return object;
}

/* ------------------------------------------------------------------------------------------------------ the process */

static const char *const levels[] = {"error", "warn", "info", "debug"};

static json_t *log_json(const struct observation *now)
{
    json_t *object = json_object();

    for (size_t i = 0; i < 4; i++)
        set(&object, levels[i], count(now->log_counts[i]));
    return object;
}

static json_t *reload_json(const struct observation *now)
{
    const struct reload_view *reload = &now->reload;
    json_t *object = json_object();

    set(&object, "done", count(reload->results[RELOAD_DONE]));
    set(&object, "kept", count(reload->results[RELOAD_KEPT]));
    set(&object, "bad", count(reload->results[RELOAD_BAD]));
    set(&object, "last", moment(now, reload->last_at));
    set(&object, "good", json_boolean(reload->is_last_good));
    return object;
}

static json_t *line_json(const struct logged *line)
{
    json_t *object = json_object();

    set(&object, "time", unix_time(line->at));
    set(&object, "level", json_string(levels[line->level]));
    set(&object, "pipeline", *line->pipeline != '\0' ? status_text(line->pipeline) : json_null());
    set(&object, "stage", *line->stage != '\0' ? status_text(line->stage) : json_null());
    set(&object, "text", status_text(line->text));
    return object;
}

json_t *status_json(const struct observation *now)
{
    json_t *object = json_object(), *pipelines = json_array(), *warnings = json_array();
    bool is_live = true, is_ready = true;

    for (size_t i = 0; i < now->count; i++) {
        is_live = is_live && now->pipelines[i].health.is_live;
        is_ready = is_ready && (now->pipelines[i].health.is_ready || health_is_past(now, i));
        append(&pipelines, pipeline_json(now, &now->pipelines[i]));
    }
    for (size_t i = 0; i < now->line_count; i++)
        append(&warnings, line_json(&now->lines[i]));
    set(&object, "fmspipe", json_string(FMS_VERSION));
    set(&object, "time", unix_time(now->realtime));
    set(&object, "started", unix_time(now->started));
    set(&object, "pid", json_integer(getpid()));
    set(&object, "live", json_boolean(is_live));
    set(&object, "ready", json_boolean(is_ready));
    set(&object, "reload", reload_json(now));
    set(&object, "pipelines", pipelines);
    set(&object, "log", log_json(now));
    set(&object, "warnings", warnings);
    return object;
}
