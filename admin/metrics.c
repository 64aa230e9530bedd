/* metrics.c - see metrics.h.
 *
 * One table has all that fmspipe tells of itself: the text that Prometheus reads, docs/metrics.md and what is in deploy/ are made
 * from it. What plugins count and measure of their own stands in their tables. Each series is there from the start, and no label has
 * a value that comes from data. */
#include "metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <sys/resource.h>
#include <unistd.h>

#include "text.h"

#define SINKS (FMS_SINK | FMS_DEAD_LETTER)
#define ALL   (FMS_SOURCE | FMS_TRANSFORM | SINKS)

enum metric_type { COUNTER, GAUGE, HISTOGRAM, INFO };
enum metric_scope { OF_PROCESS, OF_PIPELINE, OF_STAGE };

/* What is being written, and of what. */
struct page {
    FILE *to;
    bool openmetrics;
    const struct observation *observation;
    const struct observed *pipeline; /* NULL: of the process */
    size_t stage;
    const struct stage_view *view; /* of that stage; NULL: of the pipeline */
    const char *plugin, *name;     /* plugin NULL: the table's own */
    enum metric_type type;
    bool has_labels;
};

struct metric {
    const char *name;
    enum metric_type type;
    enum metric_scope scope;
    unsigned roles;     /* OF_STAGE: of the stages that have it */
    const char *labels; /* beside pipeline and stage, which follow from the scope; NULL: none */
    const char *help;
    void (*write)(struct page *page, const void *field);
    size_t field; /* in struct observation, pipeline_view or stage_view */
};

/* ---------------------------------------------------------------------------------------------------------- samples */

static void write_escaped(FILE *to, const char *text, bool quotes)
{
    for (size_t size; *text != '\0'; text += size > 0 ? size : 1) {
        size = text_character(text);
        if (size == 0)
            fputs("\xEF\xBF\xBD", to); /* U+FFFD */
        else if (*text == '\n')
            fputs("\\n", to);
        else if (*text == '\\' || (*text == '"' && quotes))
            fprintf(to, "\\%c", *text);
        else
            fwrite(text, 1, size, to);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), tail = strlen(end);

    return size >= tail && strcmp(text + size - tail, end) == 0;
}

/* The standard ones of a process have no prefix. A plugin may have named its counter as Prometheus does. */
static void write_name(struct page *page, const char *suffix)
{
    bool is_total = page->type == COUNTER && ends_with(page->name, "_total");
    int size = (int)(strlen(page->name) - (is_total ? strlen("_total") : 0));

    if (page->plugin != NULL)
        fprintf(page->to, "fmspipe_%s_%.*s%s", page->plugin, size, page->name, suffix);
    else
        fprintf(page->to, "%s%s%s", strncmp(page->name, "process_", 8) == 0 ? "" : "fmspipe_", page->name, suffix);
}

/* What a sample's name has behind that of its family. */
static const char *own_suffix(const struct page *page)
{
    return page->type == COUNTER ? "_total" : page->type == INFO ? "_info" : "";
}

static const char *unit_of(const struct page *page)
{
    return ends_with(page->name, "_seconds") ? "seconds" : ends_with(page->name, "_bytes") ? "bytes" : NULL;
}

static void write_head(struct page *page, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "info"};
    const char *suffix = page->openmetrics ? "" : own_suffix(page);
    const char *type = page->type == INFO && !page->openmetrics ? "gauge" : types[page->type];

    fputs("# HELP ", page->to);
    write_name(page, suffix);
    fputc(' ', page->to);
    write_escaped(page->to, help, page->openmetrics);
    fputs("\n# TYPE ", page->to);
    write_name(page, suffix);
    fprintf(page->to, " %s\n", type);
    if (page->openmetrics && unit_of(page) != NULL) {
        fputs("# UNIT ", page->to);
        write_name(page, "");
        fprintf(page->to, " %s\n", unit_of(page));
    }
}

static void write_label(struct page *page, const char *name, const char *value)
{
    fprintf(page->to, "%c%s=\"", page->has_labels ? ',' : '{', name);
    write_escaped(page->to, value, true);
    fputc('"', page->to);
    page->has_labels = true;
}

/* The name of a sample and the labels of where it belongs. */
static void begin(struct page *page, const char *suffix)
{
    page->has_labels = false;
    write_name(page, suffix);
    if (page->pipeline != NULL)
        write_label(page, "pipeline", page->pipeline->view.name);
    if (page->view != NULL)
        write_label(page, "stage", page->view->name);
}

static void write_number(FILE *to, double value)
{
    if (isnan(value))
        fputs("NaN", to);
    else if (isinf(value))
        fputs(value > 0 ? "+Inf" : "-Inf", to);
    else
        fprintf(to, "%.15g", value);
}

static void end(struct page *page, double value)
{
    fputs(page->has_labels ? "} " : " ", page->to);
    write_number(page->to, value);
    fputc('\n', page->to);
}

static void end_count(struct page *page, uint64_t count)
{
    fprintf(page->to, "%s%" PRIu64 "\n", page->has_labels ? "} " : " ", count);
}

static void sample(struct page *page, double value)
{
    begin(page, own_suffix(page));
    end(page, value);
}

/* One of several that a label tells apart. */
static void sample_of(struct page *page, const char *label, const char *word, uint64_t count)
{
    begin(page, own_suffix(page));
    write_label(page, label, word);
    end_count(page, count);
}

static double seconds(int64_t nanoseconds)
{
    return (double)nanoseconds / (double)FMS_SECOND;
}

/* ----------------------------------------------------------------------------------------------------------- fields */

static void write_count(struct page *page, const void *field)
{
    begin(page, own_suffix(page));
    end_count(page, *(const uint64_t *)field);
}

static void write_size(struct page *page, const void *field)
{
    begin(page, own_suffix(page));
    end_count(page, *(const size_t *)field);
}

static void write_bool(struct page *page, const void *field)
{
    sample(page, *(const bool *)field ? 1 : 0);
}

static void write_duration(struct page *page, const void *field)
{
    sample(page, seconds(*(const int64_t *)field));
}

/* From a moment on the host's clock until now; 0: there was none, or it is not over, for a lane shows itself a moment after `at`. */
static void write_age(struct page *page, const void *field)
{
    int64_t then = *(const int64_t *)field;

    sample(page, then != 0 && then < page->observation->at ? seconds(page->observation->at - then) : 0);
}

/* A moment on the host's clock as Unix time, by which it does not change from scrape to scrape; 0: there was none. */
static void write_moment(struct page *page, const void *field)
{
    const struct observation *now = page->observation;
    int64_t then = *(const int64_t *)field;

    begin(page, own_suffix(page));
    fprintf(page->to, "%s%.3f\n", page->has_labels ? "} " : " ",
            then != 0 ? seconds(now->realtime - (now->at - then)) : 0);
}

static void write_buckets(struct page *page, const char *segment, const struct histogram_view *histogram)
{
    uint64_t count = 0;
    char bound[32];

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        double le = i < HISTOGRAM_BUCKETS - 1 ? seconds(histogram_bounds[i]) : 0;

        count += histogram->counts[i];
        begin(page, "_bucket");
        if (segment != NULL)
            write_label(page, "segment", segment);
        snprintf(bound, sizeof bound, le >= 1 && le == floor(le) ? "%.1f" : "%.15g", le); /* "1.0", in both formats */
        write_label(page, "le", i < HISTOGRAM_BUCKETS - 1 ? bound : "+Inf");
        end_count(page, count);
    }
    begin(page, "_sum");
    if (segment != NULL)
        write_label(page, "segment", segment);
    end(page, histogram->sum / (double)FMS_SECOND); /* which may be too many nanoseconds for 64 bits */
    begin(page, "_count");
    if (segment != NULL)
        write_label(page, "segment", segment);
    end_count(page, count);
}

static void write_histogram(struct page *page, const void *field)
{
    write_buckets(page, NULL, field);
}

/* ----------------------------------------------------------------------------------------------------- the process */

static void write_build(struct page *page, const void *field)
{
    (void)field;
    sample_of(page, "version", FMS_VERSION, 1);
}

static void write_log_counts(struct page *page, const void *field)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    const uint64_t *counts = field;

    for (size_t i = 0; i < 4; i++)
        sample_of(page, "level", levels[i], counts[i]);
}

static void write_reloads(struct page *page, const void *field)
{
    static const char *const results[] = {[RELOAD_DONE] = "done", [RELOAD_KEPT] = "kept", [RELOAD_BAD] = "bad"};
    const uint64_t *counts = field;

    for (size_t i = 0; i < RELOAD_RESULTS; i++)
        sample_of(page, "result", results[i], counts[i]);
}

/* The fields of /proc/self/stat behind the name, which may hold anything but is in brackets; see proc(5). */
struct process {
    double user, system, threads, size, resident;
};

static bool process_read(struct process *process)
{
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "re");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    const char *rest;

    if (file != NULL)
        fclose(file);
    text[size] = '\0';
    rest = strrchr(text, ')');
    return rest != NULL &&
           sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lf %lf %*d %*d %*d %*d %lf %*d %*u %lf %lf",
                  &process->user, &process->system, &process->threads, &process->size, &process->resident) == 5;
}

static void write_cpu(struct page *page, const void *field)
{
    struct process process;

    (void)field;
    if (process_read(&process))
        sample(page, (process.user + process.system) / (double)sysconf(_SC_CLK_TCK));
}

static void write_resident(struct page *page, const void *field)
{
    struct process process;

    (void)field;
    if (process_read(&process))
        sample(page, process.resident * (double)sysconf(_SC_PAGESIZE));
}

static void write_virtual(struct page *page, const void *field)
{
    struct process process;

    (void)field;
    if (process_read(&process))
        sample(page, process.size);
}

static void write_threads(struct page *page, const void *field)
{
    struct process process;

    (void)field;
    if (process_read(&process))
        sample(page, process.threads);
}

static void write_open_files(struct page *page, const void *field)
{
    DIR *folder = opendir("/proc/self/fd");
    uint64_t count = 0;

    (void)field;
    if (folder == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    begin(page, "");
    end_count(page, count - 1); /* without the folder's own */
}

static void write_most_files(struct page *page, const void *field)
{
    struct rlimit limit;

    (void)field;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        sample(page, limit.rlim_cur == RLIM_INFINITY ? INFINITY : (double)limit.rlim_cur);
}

static void write_start(struct page *page, const void *field)
{
    begin(page, "");
    fprintf(page->to, " %.3f\n", seconds(*(const int64_t *)field));
}

/* ---------------------------------------------------------------------------------------------------- the pipelines */

static const char *state_of(const struct observed *pipeline)
{
    switch (pipeline->health.verdict) {
    case VERDICT_STARTING:
        return "starting";
    case VERDICT_DRAINING:
        return "draining";
    case VERDICT_STOPPED:
        return "stopped";
    case VERDICT_FAILED:
        return "failed";
    case VERDICT_FULL:
        return "full";
    case VERDICT_STUCK:
        return pipeline->view.is_blocked ? "full" : "running";
    default:
        return "running";
    }
}

static void write_state(struct page *page, const void *field)
{
    static const char *const states[] = {"starting", "running", "full", "draining", "stopped", "failed"};

    (void)field;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        sample_of(page, "state", states[i], strcmp(state_of(page->pipeline), states[i]) == 0);
}

static void write_live(struct page *page, const void *field)
{
    (void)field;
    sample(page, page->pipeline->health.is_live);
}

static void write_ready(struct page *page, const void *field)
{
    (void)field;
    sample(page, page->pipeline->health.is_ready);
}

static void write_drop(struct page *page, const char *reason, const char *intentional, uint64_t count)
{
    begin(page, own_suffix(page));
    write_label(page, "reason", reason);
    write_label(page, "intentional", intentional);
    end_count(page, count);
}

/* By transforms, whose purpose it is, and what was rejected and found no dead letters. */
static void write_dropped(struct page *page, const void *field)
{
    const struct pipeline_view *view = &page->pipeline->view;
    uint64_t by_transforms = 0;

    (void)field;
    for (size_t i = 0; i < view->stage_count; i++)
        by_transforms += view->stages[i].role == FMS_TRANSFORM ? view->stages[i].dropped : 0;
    write_drop(page, "transform", "true", by_transforms);
    write_drop(page, "rejected", "false", view->counts.dropped);
}

static void write_latency(struct page *page, const void *field)
{
    const struct pipeline_view *view = &page->pipeline->view;

    (void)field;
    write_buckets(page, "transform", &view->transform);
    for (size_t i = 0; i < view->stage_count; i++) {
        if ((view->stages[i].role & SINKS) == 0)
            continue;
        page->view = &view->stages[i];
        write_buckets(page, "queue", &view->stages[i].queue);
        write_buckets(page, "sink", &view->stages[i].far_end);
    }
    page->view = NULL;
    write_buckets(page, "total", &view->total);
}

static void write_vehicles(struct page *page, const void *field)
{
    const struct fleet_counts *fleet = &page->pipeline->view.fleet;

    (void)field;
    if (!fleet->is_kept)
        return;
    sample_of(page, "state", "active", fleet->active);
    sample_of(page, "state", "silent", fleet->silent);
    sample_of(page, "state", "new", fleet->new);
}

static void write_vehicles_limit(struct page *page, const void *field)
{
    (void)field;
    if (page->pipeline->view.fleet.is_kept)
        sample(page, (double)page->pipeline->view.fleet.limit);
}

/* ------------------------------------------------------------------------------------------------------- the stages */

static void write_stage_ready(struct page *page, const void *field)
{
    (void)field;
    sample(page, page->pipeline->health.stages[page->stage].is_ready);
}

static void write_settled(struct page *page, const void *field)
{
    (void)field;
    sample_of(page, "fate", "delivered", page->view->records_out);
    sample_of(page, "fate", "retried", page->view->retried);
    sample_of(page, "fate", "rejected", page->view->rejected);
}

static void write_connected(struct page *page, const void *field)
{
    if (page->view->has_link)
        write_bool(page, field);
}

static void write_connected_since(struct page *page, const void *field)
{
    if (page->view->has_link)
        write_moment(page, field);
}

static void write_connects(struct page *page, const void *field)
{
    if (page->view->has_link)
        write_count(page, field);
}

/* -------------------------------------------------------------------------------------------------------- the table */

#define PIPELINE(field) offsetof(struct pipeline_view, field)
#define STAGE(field)    offsetof(struct stage_view, field)

/* clang-format off */
static const struct metric table[] = {
    {"build", INFO, OF_PROCESS, 0, "version", "the version of fmspipe", write_build, 0},
    {"log_messages", COUNTER, OF_PROCESS, 0, "level", "lines of the log", write_log_counts, offsetof(struct observation, log_counts)},
    {"reloads", COUNTER, OF_PROCESS, 0, "result", "reloads of the files: done, kept (what failed goes on as it was) or bad (a file is)", write_reloads, offsetof(struct observation, reload.results)},
    {"config_last_reload_successful", GAUGE, OF_PROCESS, 0, NULL, "1 while the last reload was done, or there was none; 0: what runs is not what the files say", write_bool, offsetof(struct observation, reload.is_last_good)},
    {"config_last_reload_seconds", GAUGE, OF_PROCESS, 0, NULL, "when the files were reloaded last, or should have been, in Unix time; 0: never", write_moment, offsetof(struct observation, reload.last_at)},

    {"pipeline_state", GAUGE, OF_PIPELINE, 0, "state", "1 for the state that the pipeline is in (starting, running, full, draining, stopped or failed), 0 for the others", write_state, 0},
    {"pipeline_live", GAUGE, OF_PIPELINE, 0, NULL, "1 while the lane of the pipeline answers, as /livez says", write_live, 0},
    {"pipeline_ready", GAUGE, OF_PIPELINE, 0, NULL, "1 while the pipeline is connected and flows, as /readyz says", write_ready, 0},
    {"pipeline_start_time_seconds", GAUGE, OF_PIPELINE, 0, NULL, "when the pipeline began, in Unix time", write_moment, PIPELINE(started_at)},
    {"stall_after_seconds", GAUGE, OF_PIPELINE, 0, NULL, "the option stall_after: when the oldest unsettled record of a sink is older, the pipeline is not ready", write_duration, PIPELINE(stall_after)},
    {"records_received", COUNTER, OF_PIPELINE, 0, NULL, "records that the source has emitted", write_count, PIPELINE(counts.emitted)},
    {"records_delivered", COUNTER, OF_PIPELINE, 0, NULL, "of these, those of which each sink has confirmed all that was made of them, or a dead letter", write_count, PIPELINE(counts.delivered)},
    {"dead_letters", COUNTER, OF_PIPELINE, 0, NULL, "dead letters that were confirmed", write_count, PIPELINE(counts.dead_letters)},
    {"dropped", COUNTER, OF_PIPELINE, 0, "reason, intentional", "records that went nowhere: by a transform, which means it, or rejected where nothing takes dead letters (on_reject = drop)", write_dropped, 0},
    {"in_flight_records", GAUGE, OF_PIPELINE, 0, NULL, "records that were emitted and are not settled", write_size, PIPELINE(in_flight)},
    {"in_flight_records_limit", GAUGE, OF_PIPELINE, 0, NULL, "the option max_in_flight", write_size, PIPELINE(max_in_flight)},
    {"in_flight_bytes", GAUGE, OF_PIPELINE, 0, NULL, "memory that records in flight take", write_size, PIPELINE(in_flight_bytes)},
    {"in_flight_limit_bytes", GAUGE, OF_PIPELINE, 0, NULL, "the option max_in_flight_bytes", write_size, PIPELINE(max_in_flight_bytes)},
    {"oldest_unsettled_seconds", GAUGE, OF_PIPELINE, 0, NULL, "age of the oldest record in flight; 0 without one", write_age, PIPELINE(oldest_at)},
    {"blocked", GAUGE, OF_PIPELINE, 0, NULL, "1 while a bound holds the source back", write_bool, PIPELINE(is_blocked)},
    {"blocked_seconds", COUNTER, OF_PIPELINE, 0, NULL, "time that a bound has held the source back", write_duration, PIPELINE(blocked)},
    {"lane_busy_seconds", COUNTER, OF_PIPELINE, 0, NULL, "time that the lane of the pipeline was at work and did not wait", write_duration, PIPELINE(busy)},
    {"latency_seconds", HISTOGRAM, OF_PIPELINE, 0, "segment, stage", "time that records took: from emission to the queues of sinks (transform, of one record in 31), from a queue's end until a sink takes them (queue), from there until it confirms them (sink), from emission until the source is told (total); queue and sink are told of each sink", write_latency, 0},
    {"source_age_seconds", HISTOGRAM, OF_PIPELINE, 0, NULL, "age of data when the source emits it, of records that come at once that of the first: by what [pipeline] time names, or else by the record's own time, which for a message of MQTT is that of its arrival", write_histogram, PIPELINE(age)},
    {"vehicles", GAUGE, OF_PIPELINE, 0, "state", "vehicles that send, are silent, or are new; where [pipeline] names the field", write_vehicles, 0},
    {"vehicles_limit", GAUGE, OF_PIPELINE, 0, NULL, "how many vehicles are told apart at most", write_vehicles_limit, 0},

    {"stage_ready", GAUGE, OF_STAGE, ALL, NULL, "1 while the stage is connected, if it connects, and confirms within stall_after", write_stage_ready, 0},
    {"stage_ended", GAUGE, OF_STAGE, ALL, NULL, "1 once the stage has failed or finished", write_bool, STAGE(is_dead)},
    {"stage_records_in", COUNTER, OF_STAGE, FMS_TRANSFORM | SINKS, NULL, "records that the stage was given; of a sink: put into its queue", write_count, STAGE(records_in)},
    {"stage_records_out", COUNTER, OF_STAGE, ALL, NULL, "records that the stage has passed on, or confirmed as delivered", write_count, STAGE(records_out)},
    {"stage_bytes_in", COUNTER, OF_STAGE, FMS_TRANSFORM | SINKS, NULL, "bytes of the payloads of records that the stage was given", write_count, STAGE(bytes_in)},
    {"stage_bytes_out", COUNTER, OF_STAGE, ALL, NULL, "bytes of the payloads of records that the stage has passed on or delivered", write_count, STAGE(bytes_out)},
    {"stage_rejected", COUNTER, OF_STAGE, ALL, NULL, "records that the stage has rejected", write_count, STAGE(rejected)},
    {"stage_dropped", COUNTER, OF_STAGE, FMS_TRANSFORM, NULL, "records that the transform has dropped", write_count, STAGE(dropped)},
    {"stage_held_records", GAUGE, OF_STAGE, FMS_TRANSFORM | SINKS, NULL, "records that the stage has not settled, or keeps", write_size, STAGE(held)},
    {"stage_busy_seconds", COUNTER, OF_STAGE, ALL, NULL, "time that the functions of the stage have held the lane", write_duration, STAGE(busy)},
    {"source_last_record_timestamp_seconds", GAUGE, OF_STAGE, FMS_SOURCE, NULL, "when the last record came, in Unix time; 0: none yet", write_moment, STAGE(last_at)},
    {"transform_oldest_kept_seconds", GAUGE, OF_STAGE, FMS_TRANSFORM, NULL, "age of the oldest record that the transform keeps; 0 without one", write_age, STAGE(oldest_at)},
    {"sink_settled", COUNTER, OF_STAGE, SINKS, "fate", "records by what the sink says of them; delivered: the far end has confirmed them", write_settled, 0},
    {"sink_taken_records", GAUGE, OF_STAGE, SINKS, NULL, "records that the sink was handed and has not settled", write_size, STAGE(taken)},
    {"sink_full", GAUGE, OF_STAGE, SINKS, NULL, "1 while the sink takes less than it is offered", write_bool, STAGE(is_full)},
    {"sink_retrying", GAUGE, OF_STAGE, SINKS, NULL, "1 while the sink could not deliver, and is to be offered records again", write_bool, STAGE(is_retrying)},
    {"sink_oldest_unsettled_seconds", GAUGE, OF_STAGE, SINKS, NULL, "age of the oldest record that the sink has not settled; 0 without one", write_age, STAGE(oldest_at)},
    {"sink_last_delivery_timestamp_seconds", GAUGE, OF_STAGE, SINKS, NULL, "when the sink last delivered a record, in Unix time; 0: not yet", write_moment, STAGE(last_at)},
    {"connected", GAUGE, OF_STAGE, ALL, NULL, "1 while the far end of the stage is there and answers; of stages that connect", write_connected, STAGE(link.is_up)},
    {"connection_changed_timestamp_seconds", GAUGE, OF_STAGE, ALL, NULL, "since when it is, or is not; in Unix time, 0: there was no connection yet", write_connected_since, STAGE(link.since)},
    {"connects", COUNTER, OF_STAGE, ALL, NULL, "connections of the stage that came about", write_connects, STAGE(link.ups)},
    {"disconnects", COUNTER, OF_STAGE, ALL, NULL, "connections of the stage that were lost", write_connects, STAGE(link.downs)},

    {"process_cpu_seconds", COUNTER, OF_PROCESS, 0, NULL, "processor time of the process, user and system", write_cpu, 0},
    {"process_resident_memory_bytes", GAUGE, OF_PROCESS, 0, NULL, "memory of the process that is in RAM", write_resident, 0},
    {"process_virtual_memory_bytes", GAUGE, OF_PROCESS, 0, NULL, "address space of the process", write_virtual, 0},
    {"process_threads", GAUGE, OF_PROCESS, 0, NULL, "threads of the process", write_threads, 0},
    {"process_open_fds", GAUGE, OF_PROCESS, 0, NULL, "file descriptors that are open", write_open_files, 0},
    {"process_max_fds", GAUGE, OF_PROCESS, 0, NULL, "how many may be open at most", write_most_files, 0},
    {"process_start_time_seconds", GAUGE, OF_PROCESS, 0, NULL, "when the process began, in Unix time", write_start, offsetof(struct observation, started)},
};
/* clang-format on */

#define METRICS (sizeof table / sizeof *table)

static void write_stages(struct page *page, const struct metric *metric)
{
    const struct pipeline_view *view = &page->pipeline->view;

    for (page->stage = 0; page->stage < view->stage_count; page->stage++) {
        page->view = &view->stages[page->stage];
        if ((page->view->role & metric->roles) != 0)
            metric->write(page, (const char *)page->view + metric->field);
    }
    page->view = NULL;
}

static void write_metric(struct page *page, const struct metric *metric)
{
    const struct observation *observation = page->observation;

    page->name = metric->name;
    page->type = metric->type;
    write_head(page, metric->help);
    if (metric->scope == OF_PROCESS) {
        metric->write(page, (const char *)observation + metric->field);
        return;
    }
    for (size_t i = 0; i < observation->count; i++) {
        page->pipeline = &observation->pipelines[i];
        if (metric->scope == OF_PIPELINE)
            metric->write(page, (const char *)&page->pipeline->view + metric->field);
        else
            write_stages(page, metric);
    }
    page->pipeline = NULL;
}

/* ------------------------------------------------------------------------------------------------ plugins' own */

static const struct fms_metric *metrics_of(const struct fms_plugin *plugin, enum metric_type type)
{
    return type == COUNTER ? plugin->counters : type == GAUGE ? plugin->gauges : plugin->durations;
}

static bool is_of(const struct stage_view *view, const char *plugin)
{
    return view->table != NULL && strcmp(view->table->name, plugin) == 0;
}

static void write_own(struct page *page, size_t i)
{
    const struct stage_view *view = page->view;

    if (page->type == COUNTER)
        write_count(page, &view->counters[i]);
    else if (page->type == GAUGE)
        sample(page, view->gauges[i]);
    else
        write_histogram(page, &view->durations[i]);
}

/* One family, of all stages of that plugin. */
static void write_family(struct page *page, const struct fms_metric *metric, size_t i)
{
    const struct observation *observation = page->observation;

    page->name = metric->name;
    write_head(page, metric->help);
    for (size_t k = 0; k < observation->count; k++) {
        page->pipeline = &observation->pipelines[k];
        for (page->stage = 0; page->stage < page->pipeline->view.stage_count; page->stage++) {
            page->view = &page->pipeline->view.stages[page->stage];
            if (is_of(page->view, page->plugin))
                write_own(page, i);
        }
    }
    page->pipeline = NULL;
    page->view = NULL;
}

static void write_plugin(struct page *page, const struct fms_plugin *plugin)
{
    page->plugin = plugin->name;
    for (page->type = COUNTER; page->type <= HISTOGRAM; page->type++) {
        const struct fms_metric *metrics = metrics_of(plugin, page->type);

        for (size_t i = 0; metrics != NULL && metrics[i].name != NULL; i++)
            write_family(page, &metrics[i], i);
    }
    page->plugin = NULL;
}

/* Whether no stage before this one is the same plugin's. */
static bool is_first(const struct observation *observation, size_t pipeline, size_t stage)
{
    const struct fms_plugin *plugin = observation->pipelines[pipeline].view.stages[stage].table;

    for (size_t k = 0; k <= pipeline; k++) {
        const struct pipeline_view *view = &observation->pipelines[k].view;

        for (size_t i = 0; i < (k == pipeline ? stage : view->stage_count); i++) {
            if (is_of(&view->stages[i], plugin->name))
                return false;
        }
    }
    return true;
}

static void write_plugins(struct page *page)
{
    const struct observation *observation = page->observation;

    for (size_t k = 0; k < observation->count; k++) {
        for (size_t i = 0; i < observation->pipelines[k].view.stage_count; i++) {
            const struct fms_plugin *plugin = observation->pipelines[k].view.stages[i].table;

            if (plugin != NULL && is_first(observation, k, i))
                write_plugin(page, plugin);
        }
    }
}

void metrics_write(const struct observation *observation, bool openmetrics, FILE *to)
{
    struct page page = {.to = to, .openmetrics = openmetrics, .observation = observation};

    for (size_t i = 0; i < METRICS; i++)
        write_metric(&page, &table[i]);
    write_plugins(&page);
    if (openmetrics)
        fputs("# EOF\n", to);
}

/* Names, labels and helps hold nothing that JSON would escape. */
void metrics_describe(FILE *to)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "gauge"};
    static const char *const scopes[] = {"", "pipeline", "pipeline, stage"};

    for (size_t i = 0; i < METRICS; i++) {
        struct page page = {.to = to, .name = table[i].name, .type = table[i].type};

        fputs(i == 0 ? "[\n {\"name\": \"" : ",\n {\"name\": \"", to);
        write_name(&page, own_suffix(&page));
        fprintf(to, "\", \"type\": \"%s\", \"labels\": \"%s%s%s\", \"help\": \"%s\"}", types[table[i].type],
                scopes[table[i].scope], table[i].scope != OF_PROCESS && table[i].labels != NULL ? ", " : "",
                table[i].labels != NULL ? table[i].labels : "", table[i].help);
    }
    fputs("\n]\n", to);
}
