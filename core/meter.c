/* meter.c - see meter.h. */
#include "meter.h"

#include "clock.h"
#include "template.h"

/* ------------------------------------------------------------------------------------------------------- who has it */

static void read_clock(struct pipeline *pipeline)
{
    pipeline->meter.at = clock_now();
}

void meter_wake(struct pipeline *pipeline)
{
    struct meter *meter = &pipeline->meter;

    if (!pipeline->is_measured)
        return;
    read_clock(pipeline);
    meter->awake_at = meter->lap_at = meter->at;
}

void meter_sleep(struct pipeline *pipeline, int64_t now)
{
    struct meter *meter = &pipeline->meter;

    if (!pipeline->is_measured)
        return;
    meter->at = now;
    meter->busy += now - meter->awake_at;
    meter->awake_at = 0;
}

void meter_lap(struct pipeline *pipeline, struct stage *stage)
{
    struct meter *meter = &pipeline->meter;

    if (!pipeline->is_measured)
        return;
    read_clock(pipeline);
    if (stage != NULL)
        stage->tally.busy += meter->at - meter->lap_at;
    meter->lap_at = meter->at;
    if (pipeline->counts.emitted != meter->emitted)
        pipeline->source->tally.last_at = meter->at;
    meter->emitted = pipeline->counts.emitted;
}

/* ------------------------------------------------------------------------------------------------------- transforms */

/* The clock stands where there are no transforms to be timed. */
void meter_time(struct pipeline *pipeline, struct record *root)
{
    pipeline->meter.until_timed = METER_EACH;
    if (pipeline->transform_count == 0)
        return;
    read_clock(pipeline);
    root->is_timed = true;
    root->emitted_at = pipeline->meter.at;
}

void meter_transformed(struct pipeline *pipeline, struct record *record)
{
    read_clock(pipeline);
    record->queued_at = pipeline->meter.at;
    histogram_view_add(&pipeline->meter.transform, record->queued_at - record->emitted_at, 1);
}

void meter_call(struct stage *transform, int64_t since, const struct call *outer)
{
    int64_t spent = (clock_now() - since) * METER_EACH;

    transform->tally.busy += spent;
    if (outer != NULL)
        outer->stage->tally.lent += spent;
}

/* -------------------------------------------------------------------------------------------------------- durations */

static const char *digits(const char *text, const char *end, int64_t *number)
{
    for (*number = 0; text < end && *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(*number, 10, number) || __builtin_add_overflow(*number, *text - '0', number))
            return NULL;
    }
    return text;
}

/* Nanoseconds since 1970; false: it is no Unix time. Until the year 5138 seconds have 11 digits, and since 1973 milliseconds 12. */
static bool read_time(struct fms_bytes text, int64_t *time)
{
    const char *start = text.data, *end = start + text.size, *at;
    int64_t whole, fraction = 0, unit = FMS_SECOND;

    if (text.size == 0 || (at = digits(start, end, &whole)) == NULL || at == start)
        return false;
    for (int64_t bound = INT64_C(100000000000); unit > 1 && whole >= bound; bound *= unit > 1 ? 1000 : 1)
        unit /= 1000;
    if (at < end && *at == '.') {
        const char *point = ++at;

        end = end - at > 9 ? at + 9 : end; /* what is finer than that is no matter */
        if ((at = digits(at, end, &fraction)) == NULL)
            return false;
        fraction *= unit;
        for (; point < at; point++)
            fraction /= 10;
    }
    return at == end && !__builtin_mul_overflow(whole, unit, time) && !__builtin_add_overflow(*time, fraction, time);
}

/* By [pipeline] time, or else by the record's own. */
static bool time_of(struct pipeline *pipeline, struct record *root, int64_t *time)
{
    struct fms_bytes text;

    *time = root->public.timestamp;
    if (pipeline->options.time == NULL)
        return *time != 0;
    return template_expand(pipeline->options.time, &root->public, root->json, &text) == 0 && read_time(text, time);
}

void meter_age(struct pipeline *pipeline, struct record *root)
{
    struct meter *meter = &pipeline->meter;
    int64_t time, age;

    meter->aged_at = meter->at;
    if (time_of(pipeline, root, &time) && !__builtin_sub_overflow(meter->realtime + meter->at, time, &age))
        histogram_view_add(&meter->age, age, 1);
}

void meter_taken(struct stage *sink, struct record *const *batch, size_t n, int64_t at)
{
    struct meter_run run = {.to = &sink->tally.queue, .at = at};

    for (size_t i = 0; i < n; i++) {
        struct slot *slot = slot_of(batch[i], sink);

        if (slot->taken_at != 0 || record_is_end(batch[i]))
            continue; /* it was offered before */
        slot->taken_at = at;
        meter_run_add(&run, batch[i]->queued_at);
    }
    meter_run_end(&run);
}
