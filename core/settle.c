/* settle.c - sinks' queues, and what becomes of records.
 *
 * What a source emits goes through the transforms (settle_advance) into the queue of each sink. `pending` counts what must still
 * happen before a record's fate is known: one for each queue that it is in, one for each child and dead letter of it, and one while
 * it is among the transforms. At zero a root is done, and its source is told; a child or letter is freed, and counts no more for
 * its parent (settle_release).
 *
 * A slot is a record's place in one sink's queue:
 *
 *     NONE -> QUEUED -> TAKEN -> SETTLED -> NONE     delivered or rejected: it leaves the queue
 *                ^                  |
 *                +----- retry ------+
 *
 * QUEUED waits to be offered, TAKEN is what sink_write has taken. TAKEN to SETTLED is one atomic exchange on whichever thread
 * settles, so that a second settlement fails there and can be named; it leaves the record on a list, the lane's own (`settled`), or,
 * from another thread, `inbox`, whose lock is all that such a thread takes. The lane goes over both in settle_run.
 *
 * A retry stops the offers at once. What the sink still holds it settles; then all that it had taken and not delivered is QUEUED
 * again, in its old place, and after a pause the cursor goes back to the head of the queue. So what is offered again comes in emit
 * order, without sorting.
 *
 * A rejection ends in the dead letters: a letter is a child of the root, in the queue of that sink. Without them on_reject decides:
 * `drop` releases the record, `stop` leaves it in flight for good, in `stuck`, which keeps the last of `pending`: so its source is
 * never told, and gets it again next time.
 *
 * A root with an identity of which not every sink has got the whole, for it was dropped, made into others or rejected, is not done
 * yet when `pending` is zero: it is queued once more, as its own end, to the sinks that ask for ends. An end is no record: it is neither
 * counted nor measured nor seen by taps.
 *
 * Nothing here calls back into a stage that is on the stack: a settlement that arrives while a sink is being written to
 * is put on a list and handled when the write has returned, so that plugins need not be reentrant. */
#include "settle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "call.h"
#include "clock.h"
#include "log.h"
#include "meter.h"
#include "tap.h"

static void slot_set(struct record *record, const struct stage *stage, enum slot_state state)
{
    atomic_store_explicit(&slot_of(record, stage)->state, (uint8_t)state, memory_order_relaxed);
}

static void queue_append(struct stage *stage, struct record *record)
{
    struct slot *slot = slot_of(record, stage);

    slot->previous = stage->queue.tail;
    slot->next = NULL;
    if (stage->queue.tail == NULL)
        stage->queue.head = record;
    else
        slot_of(stage->queue.tail, stage)->next = record;
    stage->queue.tail = record;
    if (stage->queue.cursor == NULL)
        stage->queue.cursor = record;
}

static void queue_remove(struct stage *stage, struct record *record)
{
    struct slot *slot = slot_of(record, stage);

    if (slot->previous == NULL) {
        stage->queue.head = slot->next;
        stage->queue.passed++;
    } else {
        slot_of(slot->previous, stage)->next = slot->next;
    }
    if (slot->next == NULL)
        stage->queue.tail = slot->previous;
    else
        slot_of(slot->next, stage)->previous = slot->previous;
    if (stage->queue.cursor == record)
        stage->queue.cursor = slot->next;
}

static void list_append(struct record_list *list, struct record *record)
{
    record->link = NULL;
    if (list->head == NULL)
        list->head = record;
    else
        list->tail->link = record;
    list->tail = record;
}

static void list_prepend(struct record_list *list, struct record *record)
{
    record->link = list->head;
    if (list->head == NULL)
        list->tail = record;
    list->head = record;
}

/* Leaves a record in flight for good: pipeline.stuck holds one reference, others are given back. */
static void stick(struct pipeline *pipeline, struct record *record)
{
    if (record->is_stuck) {
        settle_release(pipeline, record);
        return;
    }
    record->is_stuck = true;
    list_append(&pipeline->stuck, record);
}

static struct record *list_take(struct record_list *list)
{
    struct record *record = list->head;

    if (record != NULL)
        list->head = record->link;
    return record;
}

/* ------------------------------------------------------------------------------------------- references, completion */

/* To the sinks that ask for it, but not to one that has come since, or that will settle nothing more. */
static void queue_end(struct pipeline *pipeline, struct record *root)
{
    size_t slots = pipeline->sink_count + (pipeline->dead_letter != NULL);

    for (size_t i = 0; i < slots; i++) {
        struct stage *sink = pipeline->sinks[i];

        if (!sink->asks_ends || sink->is_dead || !record_has_slot(root, sink->slot_at))
            continue;
        root->pending++;
        slot_set(root, sink, SLOT_QUEUED);
        queue_append(sink, root);
    }
}

/* Of a root of which everything is settled: whether sinks are still to be told so, for some have not got the whole of it. */
static bool end_begins(struct pipeline *pipeline, struct record *root)
{
    struct known *known = record_known(root);

    if (known == NULL || known->identity.is_end ||
        !(known->is_dropped || root->has_children || root->rejected_by != 0 || root->dropped))
        return false;
    known->identity.is_end = true;
    known->identity.part = 0;
    root->queued_at = pipeline->meter.at;
    queue_end(pipeline, root);
    return root->pending > 0;
}

void settle_release(struct pipeline *pipeline, struct record *record)
{
    while (--record->pending == 0) {
        struct record *parent = record->parent;

        if (parent == NULL) {
            list_append(&pipeline->done, record);
            return;
        }
        record_free(&pipeline->records, record);
        record = parent;
    }
}

static void tell_source(struct pipeline *pipeline, struct record *root)
{
    struct stage *source = pipeline->source;

    if (root->dropped)
        pipeline->counts.dropped++;
    else
        pipeline->counts.delivered++;
    if (source->plugin->table.source_settled != NULL && pipeline_has_source_of(pipeline, root))
        source->plugin->table.source_settled(source->instance, &root->public,
                                             root->dropped ? FMS_REJECTED : FMS_DELIVERED);
    pipeline->in_flight--;
    record_free(&pipeline->records, root);
}

/* -------------------------------------------------------------------------------------------------------- rejection */

static bool is_letter_header(const char *name)
{
    static const char *const names[RECORD_LETTER_HEADERS] = {"fms.reason", "fms.pipeline", "fms.stage", "fms.topic",
                                                             "fms.time"};
    bool found = false;

    for (size_t i = 0; i < RECORD_LETTER_HEADERS && !found && strncmp(name, "fms.", 4) == 0; i++)
        found = strcmp(name, names[i]) == 0;
    return found;
}

/* The headers of the record's own that its letter has room for, into `to`; returns how many. */
static size_t letter_headers(const struct fms_record *record, struct fms_header *to, size_t *left_out)
{
    size_t n = 0;

    *left_out = 0;
    for (size_t i = 0; i < record->header_count; i++) {
        if (is_letter_header(record->headers[i].name))
            continue; /* a letter that came back has them of its first time */
        if (n < RECORD_MAX_HEADERS - RECORD_LETTER_HEADERS)
            to[n++] = record->headers[i];
        else
            ++*left_out;
    }
    return n;
}

/* A letter of the root under that stage's name. NULL: out of memory. */
static struct record *letter_new(const struct stage *stage, const struct fms_record *draft, const struct record *root)
{
    struct fms_identity identity;

    if (root->public.identity == NULL)
        return record_new_known(&stage->pipeline->records, draft, root, NULL);
    identity = *root->public.identity;
    identity.part = FMS_PART_LETTER + (uint32_t)stage->index;
    return record_new_known(&stage->pipeline->records, draft, root, &identity);
}

/* The dead letter is the record as the source emitted it, whatever transforms made of it: so it can be replayed. What it has
 * no room for is told in its reason. */
static struct record *dead_letter_new(struct stage *stage, struct record *root, const char *reason)
{
    struct pipeline *pipeline = stage->pipeline;
    struct fms_header *headers = calloc(root->public.header_count + RECORD_LETTER_HEADERS, sizeof *headers);
    struct fms_record draft = root->public;
    struct record *letter;
    time_t now = (time_t)(clock_realtime() / FMS_SECOND);
    struct tm tm;
    char when[40];
    char *longer = NULL;
    size_t n, left_out;

    if (headers == NULL)
        return NULL;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    n = letter_headers(&root->public, headers, &left_out);
    if (left_out > 0 && asprintf(&longer, "%s; its last %zu headers are left out, for a record has %u at most", reason,
                                 left_out, RECORD_MAX_HEADERS) >= 0)
        reason = longer;
    headers[n++] = (struct fms_header){"fms.reason", fms_text(reason)};
    headers[n++] = (struct fms_header){"fms.pipeline", fms_text(pipeline->options.name)};
    headers[n++] = (struct fms_header){"fms.stage", fms_text(stage->name)};
    headers[n++] = (struct fms_header){"fms.topic", root->public.topic};
    headers[n++] = (struct fms_header){"fms.time", fms_text(when)};
    draft.headers = headers;
    draft.header_count = n;
    letter = letter_new(stage, &draft, root);
    free(longer);
    free(headers);
    return letter;
}

/* The root waits for its letter. */
static void dead_letter_queue(struct pipeline *pipeline, struct record *root, struct record *letter)
{
    root->pending++;
    letter->parent = root;
    letter->pending = 1;
    letter->emitted_at = root->emitted_at;
    pipeline->dead_letter->tally.in.records++;
    if (pipeline->is_measured)
        meter_queued(pipeline, &pipeline->dead_letter->tally.in, letter);
    slot_set(letter, pipeline->dead_letter, SLOT_QUEUED);
    queue_append(pipeline->dead_letter, letter);
}

static int dead_letter_send(struct stage *stage, struct record *root, const char *reason)
{
    struct pipeline *pipeline = stage->pipeline;
    uint64_t bit = UINT64_C(1) << stage->index;
    struct record *letter;

    if ((root->rejected_by & bit) != 0)
        return 0;
    letter = dead_letter_new(stage, root, reason);
    if (letter == NULL)
        return -ENOMEM;
    root->rejected_by |= bit;
    dead_letter_queue(pipeline, root, letter);
    pipeline->counts.dead_letters++;
    stage->tally.letters++;
    log_line(FMS_LOG_WARN, pipeline->options.name, stage->name, "record goes to dead letters: %s", reason);
    return 0;
}

#define BARE_REASON 70 /* bytes of a reason that a bare letter keeps */

/* The reason of a bare letter, which must not be larger than the letter that was refused: some of it, and, if what is left
 * out makes room for that, why the rest is missing. */
static struct fms_bytes bare_reason(const struct fms_record *letter, char *text, size_t size)
{
    static const char why[] = "; without payload and headers";
    size_t own = letter->header_count - RECORD_LETTER_HEADERS, left_out = letter->payload.size, n;
    struct fms_bytes reason = letter->headers[own].value;
    const char *c = reason.data;

    for (size_t i = 0; i < own; i++)
        left_out += letter->headers[i].value.size;
    n = reason.size < BARE_REASON ? reason.size : BARE_REASON;
    while (n > 0 && (c[n] & 0xc0) == 0x80) /* a whole character; behind the last one is a NUL */
        n--;
    left_out += reason.size - n;
    snprintf(text, size, "%.*s%s", (int)n, c, left_out >= strlen(why) ? why : "");
    return fms_text(text);
}

/* A dead letter that was refused goes once more with what it is about alone: neither payload nor headers of the record's
 * own, which are what a far end may find too large. */
static int dead_letter_send_bare(struct stage *stage, struct record *letter, const char *refusal)
{
    struct pipeline *pipeline = stage->pipeline;
    struct fms_header headers[RECORD_LETTER_HEADERS];
    struct fms_record draft = letter->public;
    struct record *root = letter->parent, *bare;
    char reason[BARE_REASON + 40];

    if (draft.payload.data == NULL && draft.header_count == RECORD_LETTER_HEADERS)
        return -E2BIG;
    draft.payload = fms_bytes_of(NULL, 0);
    memcpy(headers, draft.headers + draft.header_count - RECORD_LETTER_HEADERS, sizeof headers);
    headers[0].value = bare_reason(&letter->public, reason, sizeof reason);
    draft.headers = headers;
    draft.header_count = RECORD_LETTER_HEADERS;
    bare = record_new_known(&pipeline->records, &draft, root, letter->public.identity);
    if (bare == NULL)
        return -ENOMEM;
    dead_letter_queue(pipeline, root, bare);
    log_line(FMS_LOG_WARN, pipeline->options.name, stage->name,
             "dead letter refused, it goes again without payload and headers: %s", refusal);
    return 0;
}

/* What helps where a rejection stops the pipeline. */
static const char *rejection_remedy(const struct stage *stage)
{
    const struct stage *dead_letter = stage->pipeline->dead_letter;

    return dead_letter == NULL    ? "add a [dead_letter] section or set on_reject = drop"
           : stage == dead_letter ? "let [dead_letter] take every record, or set on_reject = drop"
                                  : "there was no memory for its dead letter";
}

/* A rejection that does not become a dead letter. */
static void reject_by_policy(struct stage *stage, struct record *record, const char *reason)
{
    struct pipeline *pipeline = stage->pipeline;
    const char *what = stage == pipeline->dead_letter ? "dead letter" : "record";

    if (pipeline->options.on_reject == ON_REJECT_DROP) {
        log_line(FMS_LOG_WARN, pipeline->options.name, stage->name, "%s dropped (on_reject = drop): %s", what, reason);
        record_root(record)->dropped = true;
        stage->tally.discarded++;
        settle_release(pipeline, record);
        return;
    }
    log_line(FMS_LOG_ERROR, pipeline->options.name, stage->name,
             "%s rejected: %s; the pipeline stops and the record stays unacknowledged (on_reject = stop): %s", what,
             reason, rejection_remedy(stage));
    stick(pipeline, record);
    pipeline_fail(pipeline);
}

void settle_reject(struct stage *stage, struct record *record, char *reason)
{
    struct pipeline *pipeline = stage->pipeline;
    const char *text = reason != NULL ? reason : "no reason was given";
    bool is_letter = stage == pipeline->dead_letter;
    int error = -ENOENT;

    stage->tally.rejected++;
    if (is_letter)
        error = dead_letter_send_bare(stage, record, text);
    else if (pipeline->dead_letter != NULL)
        error = dead_letter_send(stage, record_root(record), text);
    pipeline->counts.rejected += !is_letter || error != 0;
    if (pipeline->is_tapped)
        tap_pass(stage, TAP_DEAD, is_letter ? &record->public : &record_root(record)->public, text);
    if (error == 0)
        settle_release(pipeline, record);
    else
        reject_by_policy(stage, record, text);
    free(reason);
}

/* ------------------------------------------------------------------------------------------------------ settlements */

static void slot_list_append(struct slot_list *list, struct record *record, const struct stage *sink)
{
    slot_of(record, sink)->inbox_next = NULL;
    if (list->head == NULL)
        list->head = record;
    else
        slot_of(list->tail, sink)->inbox_next = record;
    list->tail = record;
}

/* From now on the sink is offered nothing until all that it took is settled. */
static void retry_begin(struct stage *sink, const char *reason)
{
    if (sink->retry.is_due)
        return;
    log_line(FMS_LOG_WARN, sink->pipeline->options.name, sink->name, "not delivered, will be offered again: %s",
             reason != NULL ? reason : "no reason was given");
    if (sink->retry.attempt == 0)
        sink->retry.since = clock_now();
    sink->retry.is_due = true;
    sink->retry.is_troubled = true;
    sink->retry.at = 0;
}

void settle_report(struct stage *sink, struct record *record, enum fms_fate fate, char *reason)
{
    struct pipeline *pipeline = sink->pipeline;
    struct slot *slot = slot_of(record, sink);
    uint8_t expected = SLOT_TAKEN;

    if (!atomic_compare_exchange_strong(&slot->state, &expected, SLOT_SETTLED)) {
        rule_broken(sink, expected == SLOT_SETTLED ? "settled a record twice"
                                                   : "settled a record that it has not, or settled it twice");
        free(reason);
        return;
    }
    slot->fate = (uint8_t)fate;
    slot->reason = reason;
    if (pipeline_current == pipeline) {
        if (fate == FMS_RETRY)
            retry_begin(sink, reason);
        slot_list_append(&pipeline->settled[sink->slot], record, sink);
        pipeline->has_settled = true;
        return;
    }
    pthread_mutex_lock(&pipeline->inbox_lock);
    slot_list_append(&pipeline->inbox[sink->slot], record, sink);
    pipeline->has_inbox = true;
    pthread_mutex_unlock(&pipeline->inbox_lock);
    pipeline_wake(pipeline);
}

static bool has_key_of(const struct record *record, const struct record *other)
{
    struct fms_bytes a = record->public.key, b = other->public.key;

    return !record_is_end(record) && a.data != NULL && b.data != NULL && a.size == b.size &&
           memcmp(a.data, b.data, a.size) == 0;
}

/* What is delivered while earlier records wait to be offered again must not overtake one of the same key; but then it is
 * delivered, and to stop would help nobody. Only the nearest are looked at, so that a long queue costs no more than a short one. */
static void check_order(struct stage *sink, const struct record *record)
{
    const struct record *earlier = record->slots[sink->slot].previous;

    for (size_t i = 0; i < PIPELINE_BATCH && earlier != NULL; i++, earlier = earlier->slots[sink->slot].previous) {
        if (earlier->slots[sink->slot].state == SLOT_QUEUED && has_key_of(earlier, record)) {
            log_line(
                FMS_LOG_WARN, sink->pipeline->options.name, sink->name,
                "plugin %s breaks a rule: it delivered a record after it had asked to retry an earlier one of the same"
                " key, which comes behind it now",
                sink->plugin->table.name);
            return;
        }
    }
}

/* The first deliveries since it had to retry. */
static void settle_troubled(struct stage *sink, const struct record *record)
{
    if (sink->retry.is_due) {
        check_order(sink, record);
        return;
    }
    log_line(FMS_LOG_INFO, sink->pipeline->options.name, sink->name, "delivers again, after %.1f s",
             (double)(clock_now() - sink->retry.since) / (double)FMS_SECOND);
    sink->retry.attempt = 0;
    sink->retry.is_troubled = false;
}

static void settle_delivered(struct stage *sink, struct record *record)
{
    if (sink->retry.is_troubled)
        settle_troubled(sink, record);
    sink->tally.delivered.records++;
    queue_remove(sink, record);
    settle_release(sink->pipeline, record);
}

static void settle_retry(struct stage *sink, struct record *record, char *reason)
{
    sink->pipeline->counts.retried++;
    sink->tally.retried++;
    slot_set(record, sink, SLOT_QUEUED);
    retry_begin(sink, reason);
    free(reason);
}

static void settle_undelivered(struct stage *sink, struct record *record)
{
    struct slot *slot = slot_of(record, sink);
    char *reason = slot->reason;

    slot->reason = NULL;
    if (slot->fate == FMS_RETRY) {
        settle_retry(sink, record, reason);
    } else {
        queue_remove(sink, record);
        settle_reject(sink, record, reason);
    }
}

static inline void take_back(struct stage *sink, struct record *record)
{
    slot_set(record, sink, SLOT_NONE);
    sink->queue.taken--;
    sink->queue.is_full = false;
    sink->has_moved = true;
}

static inline void retry_later(struct stage *sink)
{
    if (sink->retry.is_due && sink->queue.taken == 0 && sink->retry.at == 0)
        sink->retry.at = clock_now() + fms_backoff(&sink->host, sink->pipeline->options.retry_min,
                                                   sink->pipeline->options.retry_max, sink->retry.attempt++);
}

static void settle_one(struct stage *sink, struct record *record)
{
    take_back(sink, record);
    if (slot_of(record, sink)->fate == FMS_DELIVERED)
        settle_delivered(sink, record);
    else
        settle_undelivered(sink, record);
    retry_later(sink);
}

/* There is nothing to be rejected. */
static void settle_end(struct stage *sink, struct record *root)
{
    struct slot *slot = slot_of(root, sink);
    char *reason = slot->reason;
    bool is_over = slot->fate != FMS_RETRY;

    slot->reason = NULL;
    take_back(sink, root);
    if (!is_over) {
        slot_set(root, sink, SLOT_QUEUED);
        retry_begin(sink, reason);
    } else if (slot->fate == FMS_REJECTED) {
        rule_broken(sink, "rejected the end of a record, of which there is nothing to be written: %s",
                    reason != NULL ? reason : "no reason was given");
    } else if (sink->retry.is_troubled && !sink->retry.is_due) {
        settle_troubled(sink, root);
    }
    free(reason);
    if (is_over) {
        queue_remove(sink, root);
        settle_release(sink->pipeline, root);
    }
    retry_later(sink);
}

/* Of what a sink has settled: settles the ends, which nobody counts, and returns the rest, in its order. */
static struct record *settle_ends(struct stage *sink, struct record *record)
{
    struct slot_list rest = {NULL, NULL};
    struct record *next;

    for (; record != NULL; record = next) {
        next = slot_of(record, sink)->inbox_next;
        if (record_is_end(record))
            settle_end(sink, record);
        else
            slot_list_append(&rest, record, sink);
    }
    return rest.head;
}

/* Of what a sink has settled, what is delivered. */
static void tap_delivered(const struct stage *sink, struct record *record)
{
    for (const struct slot *slot; record != NULL; record = slot->inbox_next) {
        slot = slot_of(record, sink);
        if (slot->fate == FMS_DELIVERED)
            tap_pass(sink, TAP_OUT, &record->public, NULL);
    }
}

/* All that a sink has settled, in that order. */
static void settle_all(struct stage *sink, struct record *record)
{
    struct meter_run run = {.to = &sink->tally.far_end, .at = sink->pipeline->meter.at};
    bool is_measured = sink->pipeline->is_measured;

    if (sink->pipeline->is_tapped)
        tap_delivered(sink, record);
    while (record != NULL) {
        const struct slot *slot = slot_of(record, sink);
        struct record *next = slot->inbox_next;

        if (is_measured && slot->fate == FMS_DELIVERED) {
            sink->tally.delivered.bytes += record->public.payload.size;
            sink->tally.last_at = run.at;
            meter_run_add(&run, slot->taken_at);
        }
        settle_one(sink, record);
        record = next;
    }
    meter_run_end(&run);
}

static void settle_list(struct pipeline *pipeline, struct slot_list *lists)
{
    size_t slots = pipeline_slots(pipeline);

    for (size_t i = 0; i < slots; i++) {
        struct stage *sink = pipeline->sinks[i];
        struct record *record = lists[sink->slot].head;

        lists[sink->slot].head = NULL;
        if (sink->asks_ends)
            record = settle_ends(sink, record);
        settle_all(sink, record);
    }
}

static void settle_inbox(struct pipeline *pipeline)
{
    struct slot_list lists[PIPELINE_MAX_STAGES + 1];
    size_t slots = pipeline->records.slots;

    pthread_mutex_lock(&pipeline->inbox_lock);
    memcpy(lists, pipeline->inbox, slots * sizeof *lists);
    memset(pipeline->inbox, 0, slots * sizeof *lists);
    pipeline->has_inbox = false;
    pthread_mutex_unlock(&pipeline->inbox_lock);
    settle_list(pipeline, lists);
}

/* Of all that is done so far; a source may emit meanwhile what transforms drop at once. */
static void tell_done(struct pipeline *pipeline)
{
    const struct call *outer = call_begin(pipeline->source, CALL_SETTLED);
    const struct record *last = pipeline->done.tail;
    struct meter_run run = {.to = &pipeline->meter.total};
    bool is_last;

    meter_lap(pipeline, NULL);
    run.at = pipeline->meter.at;
    do {
        struct record *root = list_take(&pipeline->done);

        is_last = root == last;
        if (pipeline->is_measured && !root->dropped)
            meter_run_add(&run, root->emitted_at);
        tell_source(pipeline, root);
    } while (!is_last);
    meter_run_end(&run);
    call_end(pipeline, outer);
    meter_lap(pipeline, pipeline->source);
}

/* Whether there is a root whose source is to be told: of some their end is told to sinks first. */
static bool is_to_be_told(struct pipeline *pipeline)
{
    struct record_list all = pipeline->done;
    struct record *root;

    if (!pipeline->tells_ends)
        return all.head != NULL;
    pipeline->done.head = NULL;
    while ((root = list_take(&all)) != NULL) {
        if (!end_begins(pipeline, root))
            list_append(&pipeline->done, root);
    }
    return pipeline->done.head != NULL;
}

void settle_run(struct pipeline *pipeline)
{
    do {
        if (pipeline->has_inbox)
            settle_inbox(pipeline);
        if (pipeline->has_settled) {
            pipeline->has_settled = false;
            settle_list(pipeline, pipeline->settled);
        }
        while (is_to_be_told(pipeline))
            tell_done(pipeline);
    } while (pipeline->has_settled);
}

bool settle_is_pending(const struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);

    for (size_t i = 0; i < slots; i++) {
        if (!pipeline->sinks[i]->is_dead && pipeline->sinks[i]->queue.head != NULL)
            return true;
    }
    for (size_t i = 0; i < pipeline->transform_count; i++) {
        if (!pipeline->transforms[i]->is_dead && pipeline->transforms[i]->queue.taken > 0)
            return true;
    }
    return pipeline->has_inbox || pipeline->has_settled || pipeline->done.head != NULL;
}

/* --------------------------------------------------------------------------------------------------------- offering */

/* Takes back what the sink did not take; false: it has settled it all the same. */
static bool untake(struct stage *sink, struct record *record)
{
    uint8_t expected = SLOT_TAKEN;

    if (!atomic_compare_exchange_strong(&slot_of(record, sink)->state, &expected, SLOT_QUEUED))
        return false;
    sink->queue.taken--;
    return true;
}

/* The next records to be offered, at least one: the cursor stands at a record. */
static size_t gather(struct stage *sink, struct record **batch, const struct fms_record **records)
{
    struct record *record = sink->queue.cursor;
    size_t n = 0;

    do {
        slot_set(record, sink, SLOT_TAKEN);
        batch[n] = record;
        records[n++] = &record->public;
        record = slot_of(record, sink)->next;
    } while (record != NULL && n < PIPELINE_BATCH);
    sink->queue.taken += n;
    return n;
}

/* A source may have acknowledged by now what such a sink has not even settled. */
static void check_durable(struct stage *sink, struct record **batch, size_t took)
{
    size_t unsettled = 0;

    for (size_t i = 0; i < took; i++)
        unsettled += atomic_load_explicit(&slot_of(batch[i], sink)->state, memory_order_relaxed) == SLOT_TAKEN;
    if (unsettled > 0)
        rule_broken(sink, "has the trait of durable writes and did not settle %zu records within sink_write",
                    unsettled);
}

static void tap_taken(const struct stage *sink, struct record **batch, size_t took)
{
    for (size_t i = 0; i < took; i++) {
        if (!record_is_end(batch[i]))
            tap_pass(sink, TAP_IN, &batch[i]->public, NULL);
    }
}

static void offer_batch(struct stage *sink)
{
    struct record *batch[PIPELINE_BATCH];
    const struct fms_record *records[PIPELINE_BATCH];
    size_t n = gather(sink, batch, records);
    int64_t at = sink->pipeline->meter.at;
    const struct call *outer = call_begin(sink, CALL_WORK);
    int took = sink->plugin->table.sink_write(sink->instance, records, n);
    bool has_failed = took < 0 || (size_t)took > n;

    call_end(sink->pipeline, outer);
    if (has_failed) {
        if (took > 0)
            rule_broken(sink, "took %d of %zu records in sink_write", took, n);
        stage_fail(sink, "sink_write", took < 0 ? took : -EINVAL);
        took = 0;
    }
    for (size_t i = (size_t)took; i < n; i++) {
        if (!untake(sink, batch[i]) && !has_failed)
            rule_broken(sink, "settled a record in sink_write and then said that it had not taken it");
    }
    if (sink->pipeline->is_measured)
        meter_taken(sink, batch, (size_t)took, at);
    meter_lap(sink->pipeline, sink);
    if (sink->pipeline->is_tapped)
        tap_taken(sink, batch, (size_t)took);
    if ((sink->plugin->table.traits & FMS_TRAIT_DURABLE_WRITE) != 0)
        check_durable(sink, batch, (size_t)took);
    sink->queue.is_full = (size_t)took < n;
    sink->queue.cursor = sink->queue.is_full ? batch[took] : slot_of(batch[n - 1], sink)->next;
}

/* Whether it took any. */
static bool offer_sink(struct stage *sink)
{
    struct record *first;

    if (sink->is_dead || sink->is_held)
        return false;
    if (sink->retry.is_due) {
        if (sink->retry.at == 0 || clock_now() < sink->retry.at)
            return false;
        sink->retry.is_due = false;
        sink->queue.is_full = false;
        sink->queue.cursor = sink->queue.head;
    }
    if (sink->queue.cursor == NULL || sink->queue.is_full)
        return false;
    first = sink->queue.cursor;
    while (sink->queue.cursor != NULL && !sink->queue.is_full && !sink->retry.is_due && !sink->is_dead)
        offer_batch(sink);
    stage_poll(sink);
    if (sink->queue.cursor != first)
        return true;
    if (!sink->queue.is_full)
        sink->is_woken = true; /* it woke itself and took nothing: again, but in the lane's next turn */
    return false;
}

bool settle_offer(struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);
    bool offered = false;

    for (size_t i = 0; i < slots; i++)
        offered = offer_sink(pipeline->sinks[i]) || offered;
    return offered;
}

/* ------------------------------------------------------------------------------------------------------- transforms */

static void keep(struct stage *transform, struct record *record)
{
    const struct pipeline_options *options = &transform->pipeline->options;

    queue_append(transform, record);
    transform->queue.taken++;
    transform->kept_bytes += record->charge;
    if (transform->queue.taken > (size_t)options->max_in_flight / 2)
        rule_broken(transform, "keeps %zu records, more than half of max_in_flight = %lld: raise it, or keep less",
                    transform->queue.taken, (long long)options->max_in_flight);
    else if (transform->kept_bytes > (size_t)options->max_in_flight_bytes / 2)
        rule_broken(transform, "keeps %zu bytes, more than half of max_in_flight_bytes = %lld: raise it, or keep less",
                    transform->kept_bytes, (long long)options->max_in_flight_bytes);
}

bool settle_is_in_hand(struct stage *transform, struct record *record)
{
    return slot_of(record, transform)->previous == NULL && transform->queue.head != record;
}

void settle_unkeep(struct stage *transform, struct record *record)
{
    record->kept_by = 0;
    if (settle_is_in_hand(transform, record))
        return; /* not in the list yet */
    queue_remove(transform, record);
    slot_of(record, transform)->previous = NULL;
    transform->queue.taken--;
    transform->has_moved = true;
    transform->kept_bytes -= record->charge;
}

void settle_drop(struct stage *transform, struct record *record)
{
    struct known *known = record_known(record);

    if (known != NULL)
        known->is_dropped = true;
    transform->tally.dropped += !record->has_children;
    settle_release(transform->pipeline, record);
}

/* FMS_AGAIN and -EAGAIN belong together: without the one nothing makes room, without the other a child is lost. */
static void lose_child(struct stage *transform, enum fms_verdict verdict)
{
    if (verdict == FMS_PASS || verdict == FMS_DROP)
        rule_broken(transform,
                    "returned %s though fms_emit_child said -EAGAIN, and the child is lost: return FMS_AGAIN",
                    verdict == FMS_PASS ? "FMS_PASS" : "FMS_DROP");
    transform->family.is_refused = false;
}

/* What FMS_AGAIN asks for; true: to wait. */
static bool again_waits(struct stage *transform, struct record *record)
{
    char *reason = NULL;

    if (!transform->family.is_hopeless)
        return true;
    transform->family.is_hopeless = false;
    if (asprintf(&reason, "what %s makes of it has more than the %u headers that a record may have", transform->name,
                 RECORD_MAX_HEADERS) < 0)
        reason = NULL;
    settle_reject(transform, record, reason);
    return false;
}

/* What becomes of a record that is neither passed nor kept; true: it waits, to be given to the transform again. */
static bool does_not_go_on(struct stage *transform, struct record *record, enum fms_verdict verdict)
{
    if (verdict == FMS_DROP) {
        settle_drop(transform, record);
        return false;
    }
    if (verdict == FMS_AGAIN && transform->family.is_refused) {
        transform->family.is_refused = false;
        return again_waits(transform, record);
    }
    if (verdict == FMS_AGAIN)
        rule_broken(transform, "returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN");
    else
        rule_broken(transform, "returned %d from transform, which is no verdict", (int)verdict);
    stick(transform->pipeline, record);
    return false;
}

/* Calls the transform; true: the record goes on. */
static inline bool transform_one(struct stage *transform, struct record *record, bool *again)
{
    struct pipeline *pipeline = transform->pipeline;
    const struct call *outer = call_begin(transform, CALL_WORK);
    bool goes_on = false, is_settled;
    enum fms_verdict verdict;
    int64_t since = record->is_timed ? clock_now() : 0;

    record->pending++; /* the record outlives the call even if it is settled in it */
    record->kept_by = (uint32_t)transform->index + 1;
    verdict = transform->plugin->table.transform(transform->instance, &record->public);
    call_end(pipeline, outer);
    if (record->is_timed)
        meter_call(transform, since, outer);
    is_settled = record->kept_by != transform->index + 1;
    *again = false;
    if (transform->family.is_refused && verdict != FMS_AGAIN)
        lose_child(transform, verdict);
    if (verdict == FMS_KEPT) {
        if (!is_settled)
            keep(transform, record);
    } else if (is_settled) {
        rule_broken(transform, "settled a record and returned %d for it: return FMS_KEPT", (int)verdict);
    } else {
        record->kept_by = 0;
        goes_on = verdict == FMS_PASS;
        if (!goes_on)
            *again = does_not_go_on(transform, record, verdict);
    }
    settle_release(pipeline, record);
    return goes_on;
}

/* It comes out of what stands before transform number `i`, and goes into that, or to the sinks. */
static void tap_between(struct pipeline *pipeline, const struct record *record, size_t i)
{
    tap_pass(i == 0 ? pipeline->source : pipeline->transforms[i - 1], TAP_OUT, &record->public, NULL);
    if (i < pipeline->transform_count)
        tap_pass(pipeline->transforms[i], TAP_IN, &record->public, NULL);
}

static void to_sinks(struct pipeline *pipeline, struct record *record)
{
    pipeline->passed.records++;
    if (pipeline->is_measured) {
        meter_queued(pipeline, &pipeline->passed, record);
        if (pipeline->is_tapped)
            tap_between(pipeline, record, pipeline->transform_count);
    }
    record->pending += (uint32_t)pipeline->sink_count - 1;
    for (size_t i = 0; i < pipeline->sink_count; i++) {
        slot_set(record, pipeline->sinks[i], SLOT_QUEUED);
        queue_append(pipeline->sinks[i], record);
    }
}

void settle_advance(struct pipeline *pipeline, struct record *record, int after)
{
    for (size_t i = (size_t)(after + 1); i < pipeline->transform_count; i++) {
        struct stage *transform = pipeline->transforms[i];
        bool again = transform->family.waiting.head != NULL; /* order: not past those that wait */

        transform->tally.in.records++;
        if (pipeline->is_measured) {
            transform->tally.in.bytes += record->public.payload.size;
            if (pipeline->is_tapped)
                tap_between(pipeline, record, i);
        }
        if (!again && transform_one(transform, record, &again))
            continue;
        if (again) {
            list_append(&transform->family.waiting, record);
            transform->family.waiting_count++;
        }
        return;
    }
    to_sinks(pipeline, record);
}

/* Whether nothing can make room for what waits: no sink has a record, no transform keeps one that it may still pass on
 * by itself. Not in a pipeline that fails, where what is stuck takes the room. */
bool settle_is_stalled(const struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);

    for (size_t i = 0; i < slots; i++) {
        if (pipeline->sinks[i]->queue.head != NULL)
            return false;
    }
    for (size_t i = 0; i < pipeline->transform_count; i++) {
        if (pipeline->transforms[i]->queue.taken > 0 && pipeline->state < PIPELINE_DRAINING)
            return false;
    }
    return pipeline->done.head == NULL && !pipeline->has_settled && !pipeline->must_fail;
}

static void reject_waiting(struct stage *transform, struct record *record)
{
    char *reason = NULL;

    if (asprintf(&reason, "what %s makes of it does not fit max_in_flight_bytes = %lld", transform->name,
                 (long long)transform->pipeline->options.max_in_flight_bytes) < 0)
        reason = NULL;
    settle_reject(transform, record, reason);
}

/* The place of the transform that is furthest along of those at which records wait; -1. */
static int last_waiting(const struct pipeline *pipeline)
{
    for (size_t i = pipeline->transform_count; i-- > 0;) {
        if (pipeline->transforms[i]->family.waiting.head != NULL)
            return (int)i;
    }
    return -1;
}

/* False: it waits on. */
static bool advance_first_waiting(struct pipeline *pipeline, int position)
{
    struct stage *transform = pipeline->transforms[position];
    struct record *record = list_take(&transform->family.waiting);
    bool is_last_try = settle_is_stalled(pipeline), again;

    pipeline->last_try = is_last_try ? transform : NULL;
    if (transform_one(transform, record, &again))
        settle_advance(pipeline, record, position);
    pipeline->last_try = NULL;
    if (!again) {
        transform->family.waiting_count--;
        return true;
    }
    list_prepend(&transform->family.waiting, record);
    if (last_waiting(pipeline) != position)
        return true; /* its children wait now */
    if (!settle_is_stalled(pipeline))
        return false;
    if (is_last_try) { /* else it is told so first */
        transform->family.waiting_count--;
        reject_waiting(transform, list_take(&transform->family.waiting));
    }
    return true;
}

/* Only the transform that is furthest along, until nothing waits there any more: what room there is is for it. */
void settle_advance_waiting(struct pipeline *pipeline)
{
    int position;

    do
        position = last_waiting(pipeline);
    while (position >= 0 && advance_first_waiting(pipeline, position));
}

/* -------------------------------------------------------------------------------------------------------------- end */

void settle_give_up(struct stage *stage)
{
    while (stage->queue.head != NULL) {
        struct record *record = stage->queue.head;
        struct slot *slot = slot_of(record, stage);

        queue_remove(stage, record);
        free(slot->reason);
        slot->reason = NULL;
        slot_set(record, stage, SLOT_NONE);
        settle_release(stage->pipeline, record);
    }
    stage->queue.taken = 0;
}

/* It does not know what an end is, and would write it. */
static void drop_ends(struct stage *sink)
{
    struct record *next;

    for (struct record *record = sink->queue.head; record != NULL; record = next) {
        next = slot_of(record, sink)->next;
        if (!record_is_end(record))
            continue;
        queue_remove(sink, record);
        slot_set(record, sink, SLOT_NONE);
        settle_release(sink->pipeline, record);
    }
}

void settle_hand_over(struct stage *old, struct stage *sink)
{
    sink->queue = old->queue;
    sink->queue.cursor = old->queue.head;
    sink->queue.taken = 0;
    sink->queue.is_full = false;
    for (struct record *record = sink->queue.head; record != NULL; record = slot_of(record, sink)->next)
        slot_set(record, sink, SLOT_QUEUED);
    old->queue = (struct record_queue){.head = NULL};
    if (!sink->asks_ends)
        drop_ends(sink);
}

void settle_abandon(struct pipeline *pipeline)
{
    size_t slots = pipeline_slots(pipeline);
    struct record *record;

    for (size_t i = 0; i < slots; i++)
        settle_give_up(pipeline->sinks[i]);
    for (size_t i = 0; i < pipeline->transform_count; i++) {
        settle_give_up(pipeline->transforms[i]);
        while ((record = list_take(&pipeline->transforms[i]->family.waiting)) != NULL)
            settle_release(pipeline, record);
    }
    while ((record = list_take(&pipeline->stuck)) != NULL)
        settle_release(pipeline, record);
    while ((record = list_take(&pipeline->done)) != NULL) {
        pipeline->in_flight--;
        record_free(&pipeline->records, record);
    }
}
