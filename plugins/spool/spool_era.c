/* spool_era.c - see spool_era.h. */
#include "spool_era.h"

#define SAME (FMS_MS) /* two readings of a clock that has not jumped are nearer to each other */

static bool is_near(int64_t a, int64_t b, int64_t most)
{
    return a < b ? (uint64_t)b - (uint64_t)a <= (uint64_t)most : (uint64_t)a - (uint64_t)b <= (uint64_t)most;
}

static bool is_boot(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && a[1] == b[1];
}

/* ----------------------------------------------------------------------------------------------------------- the table */

static size_t eras_size(const struct eras *eras)
{
    return offsetof(struct eras, items) + eras->count * sizeof *eras->items;
}

static void eras_take(struct eras *eras, const void *note, size_t size)
{
    memset(eras, 0, sizeof *eras);
    if (size < offsetof(struct eras, items) || size > sizeof *eras)
        return;
    memcpy(eras, note, size);
    if (eras->count > ERAS || eras_size(eras) != size)
        memset(eras, 0, sizeof *eras);
}

static size_t eras_give(const struct eras *eras, void *note)
{
    memcpy(note, eras, eras_size(eras));
    return eras_size(eras);
}

void eras_read(struct store *store, struct eras *eras)
{
    char note[STORE_NOTE];

    eras_take(eras, note, store_note_read(store, note));
}

const struct era *eras_find(const struct eras *eras, uint32_t number)
{
    for (size_t i = 0; i < eras->count; i++) {
        if (eras->items[i].number == number)
            return &eras->items[i];
    }
    return NULL;
}

bool eras_have_unset(const struct eras *eras, uint64_t *first)
{
    bool have = false;

    for (size_t i = 0; i < eras->count; i++) {
        const struct era *era = &eras->items[i];

        if (era->state != FMS_CLOCK_UNKNOWN || era->better_state != FMS_CLOCK_UNKNOWN || (have && *first <= era->first))
            continue;
        *first = era->first;
        have = true;
    }
    return have;
}

void eras_recall(const struct eras *eras, struct fms_clock *clock)
{
    if (is_boot(eras->boot, clock->boot) && is_near(eras->offset, clock->offset, ERA_SLIP) &&
        eras->state > (uint32_t)clock->state)
        clock->state = (enum fms_clock_state)eras->state;
}

/* ------------------------------------------------------------------------------------------------------------ learning */

struct lesson {
    struct eras *eras;
    const struct fms_clock *clock;
    struct era_news *news;
};

bool era_is_of(const struct era *era, const struct fms_clock *clock)
{
    return is_boot(era->boot, clock->boot);
}

bool era_learns(const struct era *era, const struct fms_clock *clock)
{
    return era_is_of(era, clock) && (int)clock->state > (int)era->state && (int)clock->state > (int)era->better_state;
}

static bool eras_learn_boot(const struct eras *eras, const struct fms_clock *clock)
{
    return !is_boot(eras->boot, clock->boot) || eras->state < (uint32_t)clock->state ||
           (eras->state == (uint32_t)clock->state && !is_near(eras->offset, clock->offset, ERA_SLIP));
}

/* How many entries there are at most of it. */
static uint64_t era_records(const struct era *era, const struct store_state *state)
{
    uint64_t first = era->first > state->first ? era->first : state->first;
    uint64_t end = era->last < state->next ? era->last + 1 : state->next;

    if (first >= end)
        return 0;
    return end - first < state->count ? end - first : state->count;
}

static size_t learn(void *user, void *note, size_t size, const struct store_state *state)
{
    const struct lesson *lesson = user;
    struct eras *eras = lesson->eras;

    eras_take(eras, note, size);
    for (size_t i = 0; i < eras->count; i++) {
        struct era *era = &eras->items[i];
        int64_t behind = lesson->clock->offset - era->offset;

        if (!era_learns(era, lesson->clock))
            continue;
        era->better = lesson->clock->offset;
        era->better_state = (uint16_t)lesson->clock->state;
        if (is_near(behind, 0, ERA_SLIP))
            continue;
        lesson->news->records += era_records(era, state);
        if (!is_near(behind, 0, lesson->news->behind < 0 ? -lesson->news->behind : lesson->news->behind))
            lesson->news->behind = behind;
    }
    if (eras_learn_boot(eras, lesson->clock)) {
        memcpy(eras->boot, lesson->clock->boot, sizeof eras->boot);
        eras->offset = lesson->clock->offset;
        eras->state = (uint32_t)lesson->clock->state;
    }
    return eras_give(eras, note);
}

int eras_learn(struct store *store, struct eras *eras, const struct fms_clock *clock, struct era_news *news)
{
    struct lesson lesson = {eras, clock, news};
    bool is_news = eras_learn_boot(eras, clock);

    *news = (struct era_news){0, 0};
    for (size_t i = 0; i < eras->count && !is_news; i++)
        is_news = era_learns(&eras->items[i], clock);
    return is_news && clock->state != FMS_CLOCK_UNKNOWN ? store_note_change(store, learn, &lesson) : 0;
}

/* ----------------------------------------------------------------------------------------------------------- the writer */

/* Ends eras that the writer does not use any more, and forgets those whose entries are gone. */
static void eras_tidy(struct eras *eras, const struct span *spans, size_t count, const struct store_state *state)
{
    size_t kept = 0;

    for (size_t i = 0; i < eras->count; i++) {
        struct era *era = &eras->items[i];
        bool is_used = false;

        for (size_t k = 0; k < count; k++)
            is_used = is_used || spans[k].number == era->number;
        if (!is_used && era->last == ERA_LAST_YET)
            era->last = state->next - 1; /* where there was none yet, it is as if there were more */
        if (is_used || era->last == ERA_LAST_YET || era->last >= state->first)
            eras->items[kept++] = *era;
    }
    eras->count = (uint32_t)kept;
}

struct entrance {
    struct era_writer *writer;
    const struct fms_clock *clock; /* NULL: the writer only begins */
    uint32_t number;
};

static struct era *eras_same(struct eras *eras, const struct fms_clock *clock)
{
    for (size_t i = 0; i < eras->count; i++) {
        struct era *era = &eras->items[i];

        if (era_is_of(era, clock) && era->state == (uint16_t)clock->state && is_near(era->offset, clock->offset, SAME))
            return era;
    }
    return NULL;
}

/* Its number is by the entry with which it begins: so none comes again, not even where the table was lost. */
static uint32_t eras_number(const struct eras *eras, uint64_t first)
{
    uint32_t number = (uint32_t)(first % (UINT32_MAX - 2 * ERAS)) + 1;

    while (eras_find(eras, number) != NULL)
        number++;
    return number;
}

/* The clock may have been better known already. */
static void eras_add(struct eras *eras, const struct fms_clock *clock, uint64_t first)
{
    uint32_t number = eras_number(eras, first);
    struct era *era = &eras->items[eras->count++];

    *era = (struct era){.boot = {clock->boot[0], clock->boot[1]},
                        .offset = clock->offset,
                        .first = first,
                        .last = ERA_LAST_YET,
                        .number = number,
                        .state = (uint16_t)clock->state};
    if (is_boot(eras->boot, clock->boot) && eras->state > (uint32_t)clock->state) {
        era->better = eras->offset;
        era->better_state = (uint16_t)eras->state;
    }
}

static size_t enter(void *user, void *note, size_t size, const struct store_state *state)
{
    struct entrance *entrance = user;
    struct era_writer *writer = entrance->writer;
    struct era *era;

    eras_take(&writer->eras, note, size);
    eras_tidy(&writer->eras, writer->spans, writer->count, state);
    if (entrance->clock == NULL)
        return eras_give(&writer->eras, note);
    era = eras_same(&writer->eras, entrance->clock);
    if (era == NULL && writer->eras.count == ERAS) {
        entrance->number = entrance->clock->state == FMS_CLOCK_UNKNOWN ? ERA_NO_ROOM : ERA_NONE;
        return eras_give(&writer->eras, note);
    }
    if (era == NULL) {
        eras_add(&writer->eras, entrance->clock, state->next);
        era = &writer->eras.items[writer->eras.count - 1];
    }
    era->last = ERA_LAST_YET;
    entrance->number = era->number;
    return eras_give(&writer->eras, note);
}

int era_writer_begin(struct era_writer *writer, struct store *store)
{
    struct entrance entrance = {writer, NULL, ERA_NONE};

    writer->count = 0;
    return store_note_change(store, enter, &entrance);
}

/* The clock has jumped, or is better or worse known. What was made since the last look may be of either span. */
static int era_writer_turn(struct era_writer *writer, struct store *store, const struct fms_clock *clock)
{
    struct entrance entrance = {writer, clock, ERA_NONE};
    int64_t from = writer->count > 0 ? writer->spans[writer->count - 1].to : 0;
    int error;

    if (writer->count == SPANS)
        memmove(writer->spans, writer->spans + 1, --writer->count * sizeof *writer->spans);
    error = clock->state != FMS_CLOCK_RIGHT ? store_note_change(store, enter, &entrance) : 0;
    if (error != 0)
        return error;
    if (writer->count > 0)
        writer->spans[writer->count - 1].to = clock->uptime;
    writer->spans[writer->count++] = (struct span){clock->offset, from, clock->uptime, entrance.number, clock->state};
    return 0;
}

int era_writer_look(struct era_writer *writer, struct store *store, const struct fms_clock *clock)
{
    struct span *last = writer->count > 0 ? &writer->spans[writer->count - 1] : NULL;

    if (last == NULL || last->state != clock->state || !is_near(last->offset, clock->offset, ERA_SLIP))
        return era_writer_turn(writer, store, clock);
    last->to = clock->uptime;
    return 0;
}

/* A time that this machine's clock never had since it started is its sender's, and not the clock's: there is nothing to mend. */
uint32_t era_writer_number(const struct era_writer *writer, int64_t timestamp)
{
    if (timestamp == 0)
        return writer->spans[writer->count - 1].number;
    for (size_t i = writer->count; i-- > 0;) {
        const struct span *span = &writer->spans[i];
        int64_t made;

        if (!__builtin_sub_overflow(timestamp, span->offset, &made) && made >= span->from - ERA_SLIP &&
            made <= span->to + ERA_SLIP)
            return span->number;
    }
    return ERA_NONE;
}
