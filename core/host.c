/* host.c - the services that a plugin sees, and the watch over the rules that it must keep.
 *
 * Each broken rule is named under the stage that broke it and fails the pipeline, in release builds too: a plugin that
 * settles twice or emits from a wrong thread would otherwise lose records silently. */
#include "host.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "call.h"
#include "clock.h"
#include "fleet.h"
#include "lane.h"
#include "log.h"
#include "meter.h"
#include "promise.h"
#include "settle.h"
#include "template.h"

static struct stage *stage_of(const struct fms_host *host)
{
    return (struct stage *)(uintptr_t)host;
}

static bool is_role(struct stage *stage, unsigned roles, const char *function)
{
    if (((unsigned)stage->host.role & roles) != 0)
        return true;
    rule_broken(stage, "called %s, which is not for this role", function);
    return false;
}

static bool is_lane(struct stage *stage, const char *function)
{
    if (pipeline_current == stage->pipeline)
        return true;
    rule_broken(stage, "called %s from a thread that is not the lane (%s)", function,
                stage->host.role == FMS_SOURCE ? "see fms_enter" : "leave it to a poll, with fms_wake");
    return false;
}

/* Whether it comes after check, which is the time for it. */
static bool is_late(struct stage *stage, const char *function)
{
    if (!stage->is_checked && !stage->is_open)
        return false;
    rule_broken(stage, "called %s after check", function);
    return true;
}

/* Whether there is no such record, draft or template, which an option that is absent leaves NULL. */
static bool is_null(struct stage *stage, const void *what, const char *function)
{
    if (what == NULL)
        rule_broken(stage, "called %s with NULL", function);
    return what == NULL;
}

/* --------------------------------------------------------------------------------------------------------- messages */

static void host_log(const struct fms_host *host, enum fms_level level, const char *format, ...)
{
    va_list args;

    if (level == FMS_LOG_ERROR)
        stage_of(host)->has_told = true;
    va_start(args, format);
    log_vline(level, stage_of(host)->pipeline->name, host->stage, format, args);
    va_end(args);
}

/* Logs at the line of the option, or of the section where the option is not in the file. */
static void log_at(const struct fms_host *host, enum fms_level level, const char *option, const char *format,
                   va_list args)
{
    struct stage *stage = stage_of(host);
    const struct config_entry *entry = option != NULL ? config_find(stage->section, option) : NULL;
    char *text = NULL;

    if (option == NULL && stage->is_open) {
        log_vline(level, stage->pipeline->name, host->stage, format, args);
        return;
    }
    if (vasprintf(&text, format, args) < 0)
        return;
    log_config(level, stage->config->path, entry != NULL ? entry->line : stage->section->line, "[%s] %s%s%s",
               stage->name, option != NULL ? option : "", option != NULL ? ": " : "", text);
    free(text);
}

static int host_fail(const struct fms_host *host, const char *option, int error, const char *format, ...)
{
    va_list args;

    stage_of(host)->has_told = true;
    va_start(args, format);
    log_at(host, FMS_LOG_ERROR, option, format, args);
    va_end(args);
    if (error >= 0)
        rule_broken(stage_of(host), "called fms_fail with %d, which is no negative errno", error);
    if (stage_of(host)->pipeline->state == PIPELINE_ENDED)
        stage_of(host)->pipeline->has_failed = true; /* in close */
    return error < 0 ? error : -EIO;
}

static void host_advise(const struct fms_host *host, const char *option, const char *format, ...)
{
    va_list args;

    if (stage_of(host)->pipeline->is_copy || stage_of(host)->is_copy)
        return;
    va_start(args, format);
    log_at(host, FMS_LOG_WARN, option, format, args);
    va_end(args);
}

static void host_promise(const struct fms_host *host, const char *option, enum fms_once once, const char *format, ...)
{
    struct stage *stage = stage_of(host);
    char *text = NULL, *whole = NULL;
    va_list args;

    if (is_late(stage, "fms_promise"))
        return;
    if (once < FMS_AT_MOST_ONCE || once > FMS_EXACTLY_ONCE) {
        rule_broken(stage, "called fms_promise with %d, which is no promise", (int)once);
        return;
    }
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    if (text != NULL &&
        asprintf(&whole, "%s%s%s", option != NULL ? option : "", option != NULL ? ": " : "", text) >= 0) {
        log_redact_config(whole);
        promise_add(stage, option, once, whole);
    }
    free(text);
}

static void host_report(const struct fms_host *host, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    if (text == NULL)
        return;
    log_redact(text);
    printf("%s: %s: %s\n", host->pipeline, host->stage, text);
    fflush(stdout);
    free(text);
}

static void host_count(const struct fms_host *host, size_t counter, uint64_t n)
{
    struct stage *stage = stage_of(host);

    if (counter < stage->measures.counter_count)
        atomic_fetch_add_explicit(&stage->measures.counters[counter], n, memory_order_relaxed);
    else
        rule_broken(stage, "counted counter %zu, which is not in its table", counter);
}

static void host_gauge(const struct fms_host *host, size_t gauge, double value)
{
    struct stage *stage = stage_of(host);

    if (!isfinite(value))
        return; /* it stays as it was; the host of fms_test.h names that */
    if (gauge < stage->measures.gauge_count)
        atomic_store_explicit(&stage->measures.gauges[gauge], value, memory_order_relaxed);
    else
        rule_broken(stage, "set gauge %zu, which is not in its table", gauge);
}

static void host_observe(const struct fms_host *host, size_t duration, int64_t nanoseconds)
{
    struct stage *stage = stage_of(host);

    if (duration < stage->measures.duration_count)
        histogram_add(&stage->measures.durations[duration], nanoseconds);
    else
        rule_broken(stage, "observed duration %zu, which is not in its table", duration);
}

static void host_link(const struct fms_host *host, bool is_up, const char *why, ...)
{
    struct stage *stage = stage_of(host);
    char text[sizeof stage->measures.link.why];
    va_list args;

    if ((stage->plugin->table.traits & FMS_TRAIT_LINK) == 0) {
        rule_broken(stage, "told of a link, and has not FMS_TRAIT_LINK");
        return;
    }
    va_start(args, why);
    vsnprintf(text, sizeof text, why, args);
    va_end(args);
    log_redact(text);
    measures_link(&stage->measures, is_up, text);
}

static int host_renew(const struct fms_host *host, const char *option)
{
    struct stage *stage = stage_of(host);

    if (option != NULL && options_has(stage->plugin->table.options, host->role, option))
        return options_renew(stage->memory, host, option);
    rule_broken(stage, "called fms_renew for %s, which is not in its option table", option != NULL ? option : "NULL");
    return -EINVAL;
}

/* ------------------------------------------------------------------------------------------------------------- time */

static int64_t host_now(const struct fms_host *host)
{
    (void)host;
    return clock_now();
}

static int64_t host_realtime(const struct fms_host *host)
{
    (void)host;
    return clock_realtime();
}

static void host_clock(const struct fms_host *host, struct fms_clock *clock)
{
    static atomic_flag was_told = ATOMIC_FLAG_INIT;
    int error;

    clock_look(clock);
    error = clock_refusal();
    if (error != 0 && !atomic_flag_test_and_set(&was_told))
        host_log(host, FMS_LOG_WARN,
                 "the system does not say whether its clock is right: %s; so its time counts as not known",
                 strerror(error));
}

static void host_tell_time(const struct fms_host *host, int64_t utc)
{
    time_t seconds = (time_t)(utc / FMS_SECOND);
    char text[40];
    struct tm tm;

    if (clock_tell(utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &tm)) > 0)
        host_log(host, FMS_LOG_INFO, "it is %s, by what is heard here; the system does not know its clock to be right",
                 text);
}

/* Jitter need not be good, only different in each process and thread: splitmix64 over the clock. */
static uint64_t host_random(void)
{
    static _Atomic uint64_t state;
    uint64_t x = atomic_fetch_add(&state, UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)clock_now();

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int64_t host_backoff(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    int64_t pause = min > 0 ? min : 1;

    (void)host;
    while (attempt-- > 0 && pause < max)
        pause = pause > max / 2 ? max : pause * 2;
    if (pause > max)
        pause = max;
    return pause - (int64_t)(host_random() % ((uint64_t)pause / 2 + 1));
}

/* ---------------------------------------------------------------------------------------------------------- records */

/* Whether records wait behind transform number `after` (-1: the source): what room there is is for them. */
static bool is_waited_for(const struct pipeline *pipeline, int after)
{
    for (size_t i = (size_t)(after + 1); i < pipeline->transform_count; i++) {
        if (pipeline->transforms[i]->family.waiting.head != NULL)
            return true;
    }
    return false;
}

/* Whether a record that comes out of that transform finds room. */
static bool has_room(const struct pipeline *pipeline, int after, size_t charge)
{
    size_t most = (size_t)pipeline->options.max_in_flight_bytes;

    return !is_waited_for(pipeline, after) && charge <= most && pipeline->records.bytes <= most - charge;
}

static bool may_emit(const struct pipeline *pipeline, size_t charge)
{
    return pipeline->in_flight < (size_t)pipeline->options.max_in_flight && !pipeline->is_held &&
           has_room(pipeline, -1, charge);
}

/* What tells a draft from another: FNV over what a source would not change in one that it has kept. */
static uint64_t draft_print(const struct fms_record *draft)
{
    const struct fms_bytes parts[] = {draft->topic, draft->key, draft->payload, {draft->tag, sizeof draft->tag}};
    uint64_t print = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        for (size_t k = 0; k < parts[i].size && k < 256; k++)
            print = (print ^ ((const unsigned char *)parts[i].data)[k]) * UINT64_C(1099511628211);
        print = (print ^ parts[i].size) * UINT64_C(1099511628211);
    }
    return print;
}

static int emit_later(struct pipeline *pipeline, const struct fms_record *draft, size_t charge)
{
    pipeline_block(pipeline, true);
    pipeline->blocked_for = charge;
    pipeline->is_refused = pipeline->in_source;
    if (pipeline->is_refused)
        pipeline->refused = draft_print(draft);
    return -EAGAIN;
}

/* Within one poll whoever goes on with another draft behind -EAGAIN has dropped the refused one. In a later poll it may have
 * had to: a partition was revoked, a broker sends again. */
static void check_refused(struct stage *source, const struct fms_record *draft)
{
    if (draft_print(draft) != source->pipeline->refused)
        rule_broken(source,
                    "emitted another record after fms_emit had said -EAGAIN: keep that one, and stop taking input");
    source->pipeline->is_refused = false;
}

/* Whether a source may emit now, as 0, or an error. */
static int emit_check(struct stage *stage, const struct fms_record *draft, const char *function)
{
    if (!is_role(stage, FMS_SOURCE, function) || !is_lane(stage, function))
        return -EPERM;
    if (is_null(stage, draft, function))
        return -EINVAL;
    if (stage->pipeline->state < PIPELINE_DRAINING && !stage->has_ended)
        return 0;
    if (stage->has_ended)
        rule_broken(stage, "emitted a record after source_poll had returned FMS_END");
    return -ESHUTDOWN;
}

static int emit_malformed(struct stage *stage)
{
    rule_broken(stage, "emitted a malformed record: a header without a name, or a size without data");
    return -EINVAL;
}

static int emit_misnamed(struct stage *stage, const char *fault)
{
    rule_broken(stage, "emitted a malformed record: its identity %s", fault);
    return -EINVAL;
}

/* What a draft takes, with that identity or without one. */
static inline size_t charge_of(const struct pipeline *pipeline, const struct fms_record *draft,
                               const struct fms_identity *identity)
{
    return identity == NULL ? record_charge(&pipeline->records, draft, NULL)
                            : record_charge_known(&pipeline->records, draft, NULL, identity);
}

/* The draft's record enters the pipeline; NULL: out of memory. */
static inline struct record *emit_new(struct pipeline *pipeline, const struct fms_record *draft, size_t charge,
                                      const struct fms_identity *identity)
{
    struct record *record = record_new(&pipeline->records, draft, charge, NULL);

    if (record == NULL) {
        log_line(FMS_LOG_ERROR, pipeline->options.name, pipeline->source->name,
                 "out of memory for a record of %zu bytes: lower max_in_flight_bytes", charge);
        return NULL;
    }
    if (identity != NULL)
        record_know(record, identity);
    record->pending = 1;
    record->source = pipeline->source_number;
    pipeline->in_flight++;
    pipeline->counts.emitted++;
    if (pipeline->is_measured)
        meter_emitted(pipeline, record);
    return record;
}

/* Whom a record is from, if somebody wants to know: it says so itself, or the one that it was made of did. */
static inline void note_vehicle(struct pipeline *pipeline, struct record *record)
{
    if (!pipeline->is_measured || pipeline->fleet == NULL)
        return;
    record->is_seen = (record->parent != NULL && record->parent->is_seen) ||
                      fleet_see(pipeline->fleet, &record->public, record->json, pipeline->meter.at);
}

#define LETTER_OWN_HEADERS (RECORD_MAX_HEADERS - RECORD_LETTER_HEADERS)

struct stub {
    struct fms_record draft;
    const struct fms_identity *identity; /* NULL: it has none */
    size_t charge;
    char lost[128]; /* what it has not of the record that it stands for; or "" */
};

static void stub_loses(struct stub *stub, const char *what)
{
    size_t n = strlen(stub->lost);

    snprintf(stub->lost + n, sizeof stub->lost - n, "%s%s", n == 0 ? "; left out for its size: " : ", ", what);
}

/* Takes the wider draft if it fits, or costs no more. */
static bool stub_widen(struct stub *stub, const struct pipeline *pipeline, struct fms_record wider)
{
    size_t charge = charge_of(pipeline, &wider, stub->identity);

    if (charge > (size_t)pipeline->options.max_in_flight_bytes && charge > stub->charge)
        return false;
    stub->draft = wider;
    stub->charge = charge;
    return true;
}

/* What of a draft fits max_in_flight_bytes. The topic always does, cut if need be: dead letters are found by it. */
static void stub_make(struct stub *stub, const struct pipeline *pipeline, const struct fms_record *draft)
{
    struct fms_record with = {
        .topic = draft->topic, .timestamp = draft->timestamp, .tag = {draft->tag[0], draft->tag[1]}};

    *stub = (struct stub){.identity = pipeline->records.are_known ? draft->identity : NULL};
    while (!stub_widen(stub, pipeline, with) && with.topic.size > 0)
        with.topic.size /= 2;
    if (with.topic.size < draft->topic.size)
        stub_loses(stub, "the end of its topic");
    stub->draft = with;
    stub->charge = charge_of(pipeline, &with, stub->identity);
    with.key = draft->key;
    if (!stub_widen(stub, pipeline, with))
        stub_loses(stub, "its key");
    with = stub->draft;
    with.headers = draft->headers;
    with.header_count = draft->header_count < LETTER_OWN_HEADERS ? draft->header_count : LETTER_OWN_HEADERS;
    if (!stub_widen(stub, pipeline, with))
        stub_loses(stub, "its headers");
    else if (with.header_count < draft->header_count)
        stub_loses(stub, "its headers behind the 995th");
    with = stub->draft;
    with.payload = draft->payload;
    if (!stub_widen(stub, pipeline, with))
        stub_loses(stub, "its payload");
}

/* So many headers that there cannot be such a record are no mistake of the plugin's, but its message's. */
static bool has_too_many_headers(const struct fms_record *draft)
{
    return draft->header_count > RECORD_MAX_HEADERS;
}

static bool is_malformed(const struct pipeline *pipeline, struct fms_record draft)
{
    if (has_too_many_headers(&draft))
        draft.header_count = 0;
    return record_charge(&pipeline->records, &draft, NULL) == SIZE_MAX;
}

static int emit_rejected(const struct fms_host *host, const struct fms_record *draft, const char *reason, va_list args)
{
    struct stage *stage = stage_of(host);
    struct pipeline *pipeline = stage->pipeline;
    struct record *record;
    struct stub stub;
    const char *fault = NULL;
    char *text = NULL, *whole = NULL;
    int error = emit_check(stage, draft, "fms_emit_rejected");

    if (error != 0)
        return error;
    if (is_malformed(pipeline, *draft))
        return emit_malformed(stage);
    if (pipeline->records.are_known && draft->identity != NULL)
        fault = record_identity_fault(draft->identity);
    if (fault != NULL)
        return emit_misnamed(stage, fault);
    if (pipeline->is_refused)
        check_refused(stage, draft);
    stub_make(&stub, pipeline, draft);
    if ((pipeline->in_flight > 0 || pipeline->is_held) && !may_emit(pipeline, stub.charge))
        return emit_later(pipeline, draft, stub.charge);
    record = emit_new(pipeline, &stub.draft, stub.charge, stub.identity);
    if (record == NULL)
        return emit_later(pipeline, draft, stub.charge);
    if (vasprintf(&text, reason, args) < 0)
        text = NULL;
    if (text != NULL && asprintf(&whole, "%s%s", text, stub.lost) < 0)
        whole = NULL;
    free(text);
    settle_reject(stage, record, whole);
    return 0;
}

static int host_emit_rejected(const struct fms_host *host, const struct fms_record *draft, const char *reason, ...)
{
    va_list args;
    int error;

    va_start(args, reason);
    error = emit_rejected(host, draft, reason, args);
    va_end(args);
    return error;
}

/* What may be emitted, with that identity or without one. */
__attribute__((always_inline)) static inline int emit_draft(const struct fms_host *host, const struct fms_record *draft,
                                                            const struct fms_identity *identity)
{
    struct stage *stage = stage_of(host);
    struct pipeline *pipeline = stage->pipeline;
    size_t charge = charge_of(pipeline, draft, identity);
    struct record *record;

    if (charge == SIZE_MAX) /* malformed, as that finds, or */
        return host_emit_rejected(host, draft, "with %zu headers it has more than the %u that a record may have",
                                  draft->header_count, RECORD_MAX_HEADERS);
    if (pipeline->is_refused)
        check_refused(stage, draft);
    if (charge > (size_t)pipeline->options.max_in_flight_bytes)
        return host_emit_rejected(host, draft,
                                  "with a payload of %zu bytes it takes %zu, more than max_in_flight_bytes = %lld",
                                  draft->payload.size, charge, (long long)pipeline->options.max_in_flight_bytes);
    if (!may_emit(pipeline, charge))
        return emit_later(pipeline, draft, charge);
    record = emit_new(pipeline, draft, charge, identity);
    if (record == NULL)
        return emit_later(pipeline, draft, charge);
    note_vehicle(pipeline, record);
    settle_advance(pipeline, record, -1);
    return 0;
}

/* A draft that has an identity, whether or not somebody asks for that. */
__attribute__((noinline)) static int emit_known(const struct fms_host *host, const struct fms_record *draft)
{
    struct stage *stage = stage_of(host);
    const char *fault;

    if (!stage->pipeline->records.are_known)
        return emit_draft(host, draft, NULL);
    fault = record_identity_fault(draft->identity);
    return fault != NULL ? emit_misnamed(stage, fault) : emit_draft(host, draft, draft->identity);
}

static int host_emit(const struct fms_host *host, const struct fms_record *draft)
{
    int error = emit_check(stage_of(host), draft, "fms_emit");

    if (error != 0)
        return error;
    return draft->identity != NULL ? emit_known(host, draft) : emit_draft(host, draft, NULL);
}

__attribute__((noinline)) static void name_dead_record(struct stage *stage, const struct fms_record *public,
                                                       const char *function)
{
    if (is_null(stage, public, function))
        return;
    rule_broken(stage,
                record_made(&stage->pipeline->records, public) != NULL
                    ? "called %s with a record that was settled before"
                    : "called %s with a record that the host did not make",
                function);
}

/* The record of a plugin's pointer; NULL, and named, for one that was settled before or was never the host's. */
static inline struct record *record_alive(struct stage *stage, const struct fms_record *public, const char *function)
{
    struct record *record = public != NULL ? record_made(&stage->pipeline->records, public) : NULL;

    if (record != NULL && record->magic == RECORD_ALIVE)
        return record;
    name_dead_record(stage, public, function);
    return NULL;
}

static int transform_position(const struct stage *stage)
{
    for (size_t i = 0; i < stage->pipeline->transform_count; i++) {
        if (stage->pipeline->transforms[i] == stage)
            return (int)i;
    }
    return -1;
}

/* Of a child for which there is no room: whether there may be some later. */
static int emit_child_later(struct stage *stage, struct record *parent, int position)
{
    struct pipeline *pipeline = stage->pipeline;
    bool is_hopeless = pipeline->last_try == stage && !is_waited_for(pipeline, position) && settle_is_stalled(pipeline);

    pipeline_block(pipeline, true);
    stage->family.is_refused = settle_is_in_hand(stage, parent); /* of a kept one it may be any time later */
    return is_hopeless ? -EMSGSIZE : -EAGAIN;
}

/* Of a child with more headers than a record may have. */
static int emit_child_never(struct stage *stage, struct record *parent)
{
    stage->family.is_refused = stage->family.is_hopeless = settle_is_in_hand(stage, parent);
    return -EMSGSIZE;
}

/* Into `to`: who a child of it would be, as the next part of its root. NULL: that is not known. */
static const struct fms_identity *part_of(struct record *parent, struct fms_identity *to)
{
    const struct known *root = record_known(record_root(parent));

    if (root == NULL)
        return NULL;
    *to = root->identity;
    to->part = root->parts + 1;
    return to;
}

/* The child has become that part, and the root, should it go on, is one beside it. */
static void part_begins(struct record *child, const struct fms_identity *part)
{
    struct known *root = record_known(record_root(child));

    root->parts = part->part;
    root->identity.part = RECORD_BESIDE;
    record_know(child, part);
}

static int host_emit_child(const struct fms_host *host, const struct fms_record *parent, const struct fms_record *draft)
{
    struct stage *stage = stage_of(host);
    struct pipeline *pipeline = stage->pipeline;
    int position = transform_position(stage);
    struct record *from, *child;
    const struct fms_identity *part = NULL;
    struct fms_identity identity;
    size_t charge;

    if (!is_role(stage, FMS_TRANSFORM, "fms_emit_child") || !is_lane(stage, "fms_emit_child"))
        return -EPERM;
    if (is_null(stage, draft, "fms_emit_child"))
        return -EINVAL;
    from = record_alive(stage, parent, "fms_emit_child");
    if (pipeline->records.are_known && from != NULL)
        part = part_of(from, &identity);
    charge = charge_of(pipeline, draft, part);
    if (from == NULL || (charge == SIZE_MAX && is_malformed(pipeline, *draft)) || from->kept_by != stage->index + 1) {
        rule_broken(stage, "called fms_emit_child with a malformed record, or for a parent that it has not");
        return -EINVAL;
    }
    if (charge == SIZE_MAX)
        return emit_child_never(stage, from);
    child = has_room(pipeline, position, charge) ? record_new(&pipeline->records, draft, charge, NULL) : NULL;
    if (child == NULL)
        return emit_child_later(stage, from, position);
    memcpy(child->public.tag, from->public.tag, sizeof child->public.tag);
    child->parent = from;
    if (part != NULL)
        part_begins(child, part);
    child->pending = 1;
    child->emitted_at = from->emitted_at;
    child->is_timed = from->is_timed;
    from->has_children = true;
    from->pending++;
    note_vehicle(pipeline, child);
    settle_advance(pipeline, child, position);
    return 0;
}

/* The record that a transform keeps, which it keeps no longer; NULL, and named, for one that it has not. */
static struct record *unkeep(struct stage *stage, const struct fms_record *public, const char *function)
{
    struct record *record;

    if (!is_lane(stage, function) || (record = record_alive(stage, public, function)) == NULL)
        return NULL;
    if (record->kept_by != stage->index + 1) {
        rule_broken(stage, "called %s with a record that it does not keep, or twice", function);
        return NULL;
    }
    settle_unkeep(stage, record);
    return record;
}

static int host_pass(const struct fms_host *host, const struct fms_record *public)
{
    struct stage *stage = stage_of(host);
    struct record *record;

    if (!is_role(stage, FMS_TRANSFORM, "fms_pass") || (record = unkeep(stage, public, "fms_pass")) == NULL)
        return -EPERM;
    settle_advance(stage->pipeline, record, transform_position(stage));
    return 0;
}

static void settle_transform(struct stage *stage, const struct fms_record *public, enum fms_fate fate, char *reason)
{
    struct record *record = NULL;

    if (fate == FMS_RETRY)
        rule_broken(stage, "asked to retry a record, which is for sinks");
    else
        record = unkeep(stage, public, "fms_delivered or fms_reject");
    if (record == NULL) {
        free(reason);
    } else if (fate == FMS_REJECTED) {
        settle_reject(stage, record, reason);
    } else {
        settle_drop(stage, record);
    }
}

static void settle_any(struct stage *stage, const struct fms_record *public, enum fms_fate fate, char *reason)
{
    static const char function[] = "a function that settles";
    struct record *record;

    if ((stage->host.role & (FMS_SINK | FMS_DEAD_LETTER)) == 0) {
        if (is_role(stage, FMS_TRANSFORM, function))
            settle_transform(stage, public, fate, reason);
        else
            free(reason);
    } else if ((record = record_alive(stage, public, function)) != NULL) {
        settle_report(stage, record, fate, reason);
    } else {
        free(reason);
    }
}

static void host_settle(const struct fms_host *host, const struct fms_record *public, enum fms_fate fate)
{
    settle_any(stage_of(host), public, fate, NULL);
}

static enum fms_verdict host_refuse(const struct fms_host *host, const struct fms_record *public, enum fms_fate fate,
                                    const char *reason, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, reason);
    if (reason == NULL || vasprintf(&text, reason, args) < 0)
        text = NULL;
    va_end(args);
    if (fate == FMS_RETRY)
        is_lane(stage_of(host), "fms_retry"); /* what was offered meanwhile may have overtaken it */
    settle_any(stage_of(host), public, fate, text);
    return FMS_KEPT;
}

/* The fields of what has no place for them, as drafts and records from before the paths were changed: they are found anew.
 * NULL: out of memory, or it was settled before. */
static struct json_cache *other_fields(struct stage *stage, const struct fms_record *public, const char *function)
{
    struct pipeline *pipeline = stage->pipeline;
    size_t size = json_cache_size(pipeline->paths);

    if (record_made(&pipeline->records, public) != NULL && record_alive(stage, public, function) == NULL)
        return NULL;
    if (size > pipeline->draft_json_size) {
        free(pipeline->draft_json);
        pipeline->draft_json = malloc(size);
        pipeline->draft_json_size = pipeline->draft_json != NULL ? size : 0;
    }
    if (pipeline->draft_json != NULL)
        memset(pipeline->draft_json, 0, size);
    return pipeline->draft_json;
}

static inline struct json_cache *fields_of(struct stage *stage, const struct fms_record *public, const char *function)
{
    struct record *record = record_made(&stage->pipeline->records, public);

    if (record != NULL && record->magic == RECORD_ALIVE && record->layout == stage->pipeline->records.layout)
        return record->json;
    return other_fields(stage, public, function);
}

static int host_expand(const struct fms_host *host, const struct fms_template *text, const struct fms_record *public,
                       struct fms_bytes *value)
{
    struct stage *stage = stage_of(host);
    struct json_cache *cache = NULL;

    *value = fms_text("");
    if (stage->is_open && !is_lane(stage, "fms_expand"))
        return -EPERM;
    if (is_null(stage, text, "fms_expand"))
        return -EINVAL;
    if (public == NULL) {
        *value = fms_text(template_constant(text));
        return value->data != NULL ? 0 : -ENOENT;
    }
    if (template_uses_json(text) && (cache = fields_of(stage, public, "fms_expand")) == NULL)
        return -ENOMEM;
    return template_expand(text, public, cache, value);
}

/* ------------------------------------------------------------------------------------------------------------- JSON */

static int host_json_path(const struct fms_host *host, const char *path)
{
    struct stage *stage = stage_of(host);
    int index;

    if (stage->is_open) {
        rule_broken(stage, "called fms_json_path after open");
        return -EPERM;
    }
    json_paths_user(stage->pipeline->paths, UINT64_C(1) << stage->index);
    index = json_paths_add(stage->pipeline->paths, path);
    if (!stage->is_new) /* else it is another layout, later */
        pipeline_layout(stage->pipeline);
    return index;
}

static int host_json_get(const struct fms_host *host, const struct fms_record *public, int path, struct fms_json *value)
{
    struct stage *stage = stage_of(host);
    struct json_cache *cache;

    *value = (struct fms_json){FMS_JSON_MISSING, false, {"", 0}};
    if (!is_lane(stage, "fms_json_get"))
        return -EPERM;
    if (is_null(stage, public, "fms_json_get"))
        return -EINVAL;
    if (path < 0 || (size_t)path >= json_paths_count(stage->pipeline->paths)) {
        rule_broken(stage, "called fms_json_get with %d, which fms_json_path has not given", path);
        return -EINVAL;
    }
    cache = fields_of(stage, public, "fms_json_get");
    return cache != NULL ? json_get(stage->pipeline->paths, cache, public->payload, path, value) : -ENOMEM;
}

/* ------------------------------------------------------------------------------------------------------------- lane */

static void host_room(const struct fms_host *host, size_t *records, size_t *bytes)
{
    const struct pipeline *pipeline = stage_of(host)->pipeline;
    size_t most = (size_t)pipeline->options.max_in_flight, most_bytes = (size_t)pipeline->options.max_in_flight_bytes;

    *records = pipeline->in_flight < most ? most - pipeline->in_flight : 0;
    *bytes = pipeline->records.bytes < most_bytes ? most_bytes - pipeline->records.bytes : 0;
}

static size_t host_drain(const struct fms_host *host, int64_t deadline)
{
    struct stage *stage = stage_of(host);

    if (!is_role(stage, FMS_SOURCE, "fms_drain") || !is_lane(stage, "fms_drain"))
        return stage->pipeline->in_flight;
    return lane_drain(stage->pipeline, deadline);
}

static void host_wake(const struct fms_host *host)
{
    struct stage *stage = stage_of(host);

    stage->is_woken = true;
    if (pipeline_current != stage->pipeline) /* else it looks before it sleeps, or lane_leave does */
        pipeline_wake(stage->pipeline);
}

static void host_enter(const struct fms_host *host)
{
    struct stage *stage = stage_of(host);

    if (!is_role(stage, FMS_SOURCE, "fms_enter"))
        return;
    if (pipeline_current != NULL) {
        log_line(FMS_LOG_ERROR, stage->pipeline->name, host->stage,
                 "plugin %s breaks a rule: it called fms_enter on the"
                 " lane, which would wait for itself for ever",
                 stage->plugin->table.name);
        log_flush(FMS_SECOND);
        abort(); /* going on would deadlock */
    }
    lane_enter(stage->pipeline);
}

static void host_leave(const struct fms_host *host)
{
    struct stage *stage = stage_of(host);

    if (!is_role(stage, FMS_SOURCE, "fms_leave") || !is_lane(stage, "fms_leave"))
        return;
    if (stage->pipeline->is_entered)
        lane_leave(stage->pipeline);
    else
        rule_broken(stage, "called fms_leave without fms_enter");
}

static void host_finish(const struct fms_host *host)
{
    struct stage *stage = stage_of(host);

    stage->has_finished = true;
    stage->pipeline->must_finish = true;
    pipeline_wake(stage->pipeline);
}

/* ------------------------------------------------------------------------------------------------------- identities */

static void host_identify(const struct fms_host *host, bool with_ends)
{
    struct stage *stage = stage_of(host);

    if (!is_role(stage, FMS_SINK | FMS_DEAD_LETTER, "fms_identify"))
        return;
    if (is_late(stage, "fms_identify"))
        return;
    stage->asks_who = true;
    stage->asks_ends = stage->asks_ends || with_ends;
}

/* The source's record of which that one is, or was made; NULL: of a source that is gone, or about to go. */
static struct record *own_root(const struct pipeline *pipeline, const struct fms_record *public)
{
    struct record *root = record_root(record_of(public));

    return pipeline_has_source_of(pipeline, root) ? root : NULL;
}

static bool host_owns(const struct fms_host *host, const struct fms_record *public)
{
    struct stage *stage = stage_of(host), *source = stage->pipeline->source;
    struct record *root;

    if (source->plugin->table.source_owns == NULL || !is_lane(stage, "fms_owns") ||
        record_alive(stage, public, "fms_owns") == NULL)
        return true;
    root = own_root(stage->pipeline, public);
    return root == NULL || source->plugin->table.source_owns(source->instance, &root->public);
}

/* Of what a sink has, the roots of which nobody else has anything. */
static size_t gather_last(const struct pipeline *pipeline, const struct fms_record *const *records, size_t count,
                          const struct fms_record **last)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        const struct record *root = records[i] == NULL ? NULL : own_root(pipeline, records[i]);

        if (root != NULL && &root->public == records[i] && root->pending == 1)
            last[n++] = records[i];
    }
    return n;
}

static int host_progress(const struct fms_host *host, const struct fms_record *const *records, size_t count,
                         struct fms_bytes *progress)
{
    struct stage *stage = stage_of(host), *source = stage->pipeline->source;
    const struct fms_record **last;
    int error = -EPERM;

    if (source->plugin->table.source_progress == NULL)
        return -ENOTSUP;
    if (!is_role(stage, FMS_SINK | FMS_DEAD_LETTER, "fms_progress") || !is_lane(stage, "fms_progress"))
        return -EPERM;
    for (size_t i = 0; i < count; i++) {
        if (records[i] != NULL && !host_owns(host, records[i]))
            return -ESTALE;
    }
    last = malloc((count + 1) * sizeof(*last));
    if (last == NULL)
        return -ENOMEM;
    error = source->plugin->table.source_progress(source->instance, last,
                                                  gather_last(stage->pipeline, records, count, last), progress);
    free(last);
    return error;
}

/* Of a plugin that knows no identities, whose drafts end before they would have one. */
static const struct fms_record *draft_of_old(struct fms_record *whole, const struct fms_record *old)
{
    *whole = (struct fms_record){.identity = NULL};
    if (old != NULL)
        memcpy(whole, old, offsetof(struct fms_record, identity));
    return old != NULL ? whole : NULL;
}

static int old_emit(const struct fms_host *host, const struct fms_record *draft)
{
    struct fms_record whole;

    return host_emit(host, draft_of_old(&whole, draft));
}

static int old_emit_child(const struct fms_host *host, const struct fms_record *parent, const struct fms_record *draft)
{
    struct fms_record whole;

    return host_emit_child(host, parent, draft_of_old(&whole, draft));
}

static int old_emit_rejected(const struct fms_host *host, const struct fms_record *draft, const char *reason, ...)
{
    struct fms_record whole;
    va_list args;
    int error;

    va_start(args, reason);
    error = emit_rejected(host, draft_of_old(&whole, draft), reason, args);
    va_end(args);
    return error;
}

/* By role (source, transform, sink) and enum call_kind. */
static const char *const call_names[][CALL_KINDS] = {
    {"source_poll", "source_poll", "source_settled", "source_stop", "a thread between fms_enter and fms_leave",
     "measure"},
    {"transform_poll", "transform", "transform", "transform_flush", "transform", "measure"},
    {"sink_poll", "sink_write", "sink_write", "sink_write", "sink_write", "measure"},
};

void host_fill(struct stage *stage, enum fms_role role)
{
    for (size_t i = 0; i < CALL_KINDS; i++)
        stage->calls[i] = (struct call){stage, call_names[role == FMS_SOURCE ? 0 : role == FMS_TRANSFORM ? 1 : 2][i]};
    stage->host = (struct fms_host){
        .size = sizeof stage->host,
        .role = role,
        .pipeline = stage->pipeline->options.name,
        .stage = stage->name,
        .log = host_log,
        .failure = host_fail,
        .advise = host_advise,
        .report = host_report,
        .count = host_count,
        .now = host_now,
        .realtime = host_realtime,
        .backoff = host_backoff,
        .emit = host_emit,
        .emit_child = host_emit_child,
        .pass = host_pass,
        .settle = host_settle,
        .refuse = host_refuse,
        .expand = host_expand,
        .room = host_room,
        .drain = host_drain,
        .wake = host_wake,
        .enter = host_enter,
        .leave = host_leave,
        .finish = host_finish,
        .json_path = host_json_path,
        .json_get = host_json_get,
        .json_next = json_next,
        .json_unescape = json_decode,
        .emit_rejected = host_emit_rejected,
        .gauge = host_gauge,
        .observe = host_observe,
        .link = host_link,
        .renew = host_renew,
        .clock = host_clock,
        .tell_time = host_tell_time,
        .identify = host_identify,
        .progress = host_progress,
        .owns = host_owns,
        .promise = host_promise,
    };
    if (stage->plugin->table.record_size >= sizeof(struct fms_record))
        return;
    stage->host.emit = old_emit;
    stage->host.emit_child = old_emit_child;
    stage->host.emit_rejected = old_emit_rejected;
}
