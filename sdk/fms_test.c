/* fms_test.c - a host with one stage, which remembers everything and trusts nobody.
 *
 * Each offer of a record to a sink or transform is a fresh copy that is scribbled over (and poisoned under ASan) once
 * its fate is told, and no copy's address is used again before fake_close: a settlement therefore says exactly which
 * offer it means, and a late touch shows.
 *
 * Two locks: `lane` is the pipeline's one thread of control, held across calls of the plugin; `lock` guards the data,
 * is held for moments, never across a call of the plugin, and is taken after `lane`. */
#include "fms_test.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "json.h"
#include "loader.h"
#include "log.h"
#include "options.h"
#include "record.h"
#include "template.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#define FAKE_BLOCK          256 /* records in one allocation */
#define FAKE_HOLD           (5 * FMS_SECOND)
#define FAKE_LOST           (30 * FMS_SECOND) /* the lane will not be given back */
#define FAKE_METRICS        64                /* of each kind */
#define FAKE_MAX_HEADERS    1000
#define FAKE_LETTER_HEADERS 5 /* that a dead letter has of its own */

enum fake_state { FAKE_OUTPUT, FAKE_OFFERED, FAKE_TAKEN, FAKE_SETTLED, FAKE_WITHDRAWN };

struct fake_copy {
    struct fms_record record;
    void *memory; /* headers and bytes */
    size_t size;
    struct json_cache *cache;
    size_t input; /* whose copy it is */
    enum fake_state state;
};

struct fake_block {
    struct fake_block *next;
    size_t used;
    struct fake_copy copies[FAKE_BLOCK];
};

struct fake_input {
    struct fake_copy *original;
    struct fake_copy *offer; /* the latest; NULL: not taken */
    int fate;
    unsigned settles;
    char *reason;
    uint32_t parts; /* that were made of it */
    bool is_lost;   /* fake_disown */
};

struct fake_out {
    struct fake_copy *copy;
    size_t parent;
    int fate;
    char *rejected; /* the reason of fms_emit_rejected, or NULL */
};

struct fake_texts {
    char **items;
    size_t count;
};

/* What an option is to be from the next fms_renew on. */
struct fake_secret {
    struct fake_secret *next;
    char *option, *text;
    char *now, *before; /* what the field holds, and did; NULL: what was filled in */
};

enum fake_phase { FAKE_CHECKED, FAKE_OPENING, FAKE_RUNNING, FAKE_STOPPED, FAKE_CLOSING };

struct fake {
    struct fms_host host; /* first: a host is cast to its fake */
    const struct fms_plugin *plugin;
    void *instance;
    struct config *config;
    struct json_paths *paths;
    struct options_memory *memory;
    struct json_cache *loose_cache; /* for drafts */

    pthread_mutex_t lane;
    pthread_mutex_t lock; /* guards all that follows */
    bool lane_held;
    pthread_t lane_owner;
    bool entered; /* the lane is a library's thread */
    enum fake_phase phase;
    bool opened;
    bool is_checked; /* its check is over */
    bool asks_ends;  /* of records, as a sink */
    int error;
    int event; /* an eventfd that says: look again */

    struct fake_block *blocks;
    struct fake_input *inputs;
    size_t input_count;
    size_t unsettled;
    size_t fates[FAKE_PASSED + 1];
    bool stalled; /* not all was taken; the sink is offered the rest at the next settlement or wake */
    bool offer_rest;
    bool same_again; /* the transform said FMS_AGAIN of the first input that is not taken */

    struct fake_out *outs;
    size_t out_count;
    size_t in_flight;
    size_t auto_from; /* outputs before this one have a fate */
    enum fms_fate auto_fate;
    size_t capacity;
    size_t largest; /* payload of a child */
    size_t turn_credit;
    bool polling;
    size_t poll_credit;
    size_t poll_emitted;
    struct fake_copy *refused; /* what fms_emit said -EAGAIN of in this poll, or NULL */
    bool child_refused;        /* fms_emit_child has said -EAGAIN in this call of transform */
    int64_t patience;          /* how long a call may hold the lane */
    int64_t entered_at;
    bool ended;
    void (*drain_hook)(struct fake *f, int64_t deadline, void *user);
    void *drain_user;

    struct fms_wait wait;
    bool due; /* poll at the next turn */
    bool stepped;
    int64_t now;
    int64_t realtime;
    enum fms_clock_state clock_state;
    uint64_t boot;
    size_t told;
    int64_t told_utc;

    struct fake_secret *secrets;
    struct fake_texts said;
    struct fake_texts breaches;
    struct fake_texts expected;
    size_t expected_left;
    uint64_t counters[FAKE_METRICS];
    double gauges[FAKE_METRICS];
    struct fake_durations {
        size_t count;
        int64_t sum;
    } durations[FAKE_METRICS];
    bool is_up;
    size_t ups;
    char *why; /* the link is down; NULL: it never said */
    size_t woken;
    bool finished;
};

/* ------------------------------------------------------------------------------------------------------ small parts */

static void fake_fail_with_cmocka(const char *report)
{
    print_error("%s\n", report);
    _fail(__FILE__, __LINE__);
}

static void (*fake_handler)(const char *report) = fake_fail_with_cmocka;

void fake_on_failure(void (*handler)(const char *report))
{
    fake_handler = handler != NULL ? handler : fake_fail_with_cmocka;
}

/* Out of memory, or a test that misuses the fake host. */
static void *fake_must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void *fake_grow(void *items, size_t count, size_t size)
{
    bool full = (count & (count - 1)) == 0;

    return full ? fake_must(realloc(items, (count == 0 ? 1 : 2 * count) * size)) : items;
}

static void fake_texts_add(struct fake_texts *texts, char *take)
{
    texts->items = fake_grow(texts->items, texts->count, sizeof *texts->items);
    texts->items[texts->count++] = take;
}

static void fake_texts_clear(struct fake_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        free(texts->items[i]);
    free(texts->items);
    *texts = (struct fake_texts){NULL, 0};
}

static char *fake_vformat(const char *kind, const char *option, const char *format, va_list args)
{
    char *text = NULL, *whole = NULL;

    if (vasprintf(&text, format, args) < 0 ||
        asprintf(&whole, "%s%s%s%s", kind, option != NULL ? option : "", option != NULL ? ": " : "", text) < 0)
        abort();
    free(text);
    return whole;
}

static void fake_notify(struct fake *f)
{
    uint64_t one = 1;

    (void)!write(f->event, &one, sizeof one);
}

static void fake_say(struct fake *f, const char *kind, const char *option, const char *format, va_list args)
{
    char *text = fake_vformat(kind, option, format, args);

    pthread_mutex_lock(&f->lock);
    fake_texts_add(&f->said, text);
    pthread_mutex_unlock(&f->lock);
    fake_notify(f);
}

/* Called with the lock held. */
static void fake_breach(struct fake *f, const char *format, ...) FMS_PRINTF(2, 3);
static void fake_breach(struct fake *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fake_texts_add(&f->breaches, fake_vformat("", NULL, format, args));
    va_end(args);
}

int64_t fake_realclock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * FMS_SECOND + now.tv_nsec;
}

static bool fake_on_lane(const struct fake *f)
{
    return f->lane_held && pthread_equal(f->lane_owner, pthread_self());
}

static void fake_own(struct fake *f, bool held, bool entered)
{
    pthread_mutex_lock(&f->lock);
    f->lane_held = held;
    f->entered = entered;
    f->lane_owner = pthread_self();
    pthread_mutex_unlock(&f->lock);
}

static void fake_report(struct fake *f, const char *what, char *report, size_t size);

/* Fails the test where a thread does not give the lane back: nothing else can be done then, not even close. */
static void fake_lane_lock(struct fake *f)
{
    static char report[16384];
    int64_t patience = f->patience < FAKE_LOST / 400 ? 400 * f->patience : FAKE_LOST, at;
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    at = until.tv_sec * FMS_SECOND + until.tv_nsec + patience;
    until = (struct timespec){.tv_sec = (time_t)(at / FMS_SECOND), .tv_nsec = (long)(at % FMS_SECOND)};
    if (pthread_mutex_timedlock(&f->lane, &until) == 0)
        return;
    fake_report(f, "the lane cannot be had: a thread that called fms_enter has not called fms_leave", report,
                sizeof report);
    fake_handler(report);
    abort();
}

/* Whether this call took the lane: false when the thread has it already (a hook inside fms_drain). */
static bool fake_lane_take(struct fake *f)
{
    bool mine;

    pthread_mutex_lock(&f->lock);
    mine = fake_on_lane(f);
    pthread_mutex_unlock(&f->lock);
    if (mine)
        return false;
    fake_lane_lock(f);
    fake_own(f, true, false);
    return true;
}

static void fake_lane_give(struct fake *f, bool taken)
{
    if (!taken)
        return;
    fake_own(f, false, false);
    pthread_mutex_unlock(&f->lane);
}

/* After a call, or a stay between fms_enter and fms_leave, that began at `since`. */
static void fake_check_held(struct fake *f, const char *function, int64_t since)
{
    int64_t held = fake_realclock() - since;

    if (held < f->patience)
        return;
    pthread_mutex_lock(&f->lock);
    fake_breach(f, "the lane was held for %.1f s in %s", (double)held / (double)FMS_SECOND, function);
    pthread_mutex_unlock(&f->lock);
}

/* Called with the lock held. */
static bool fake_check_role(struct fake *f, unsigned roles, const char *function)
{
    if (((unsigned)f->host.role & roles) != 0)
        return true;
    fake_breach(f, "%s was called by a stage for which it is not", function);
    return false;
}

/* Called with the lock held. */
static bool fake_check_lane(struct fake *f, const char *function)
{
    if (fake_on_lane(f))
        return true;
    fake_breach(f, "%s was called by a thread that is not the lane", function);
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- records */

static char *fake_place(struct fms_bytes *bytes, char *to)
{
    if (bytes->data == NULL)
        return to;
    memcpy(to, bytes->data, bytes->size);
    to[bytes->size] = '\0';
    bytes->data = to;
    return to + bytes->size + 1;
}

/* `identity`: the draft's, or NULL. */
static void fake_copy_fill(struct fake_copy *copy, const struct fms_record *draft, const struct fms_identity *identity)
{
    size_t size = draft->header_count * sizeof(struct fms_header) + draft->topic.size + draft->key.size +
                  draft->payload.size + 3 + (identity != NULL ? sizeof *identity + identity->origin.size + 1 : 0);
    struct fms_identity *own = NULL;
    struct fms_header *headers;
    char *to;

    for (size_t i = 0; i < draft->header_count; i++)
        size += strlen(draft->headers[i].name) + draft->headers[i].value.size + 2;
    copy->record = *draft;
    copy->memory = fake_must(malloc(size));
    copy->size = size;
    headers = copy->memory;
    to = (char *)(headers + draft->header_count);
    if (identity != NULL) {
        own = (struct fms_identity *)(void *)to;
        *own = *identity;
        to = fake_place(&own->origin, to + sizeof *own);
    }
    copy->record.identity = own;
    for (size_t i = 0; i < draft->header_count; i++) {
        headers[i].name = strcpy(to, draft->headers[i].name);
        headers[i].value = draft->headers[i].value;
        to = fake_place(&headers[i].value, to + strlen(to) + 1);
    }
    copy->record.headers = draft->header_count > 0 ? headers : NULL;
    to = fake_place(&copy->record.topic, to);
    to = fake_place(&copy->record.key, to);
    fake_place(&copy->record.payload, to);
}

/* Called with the lock held. */
static struct fake_copy *fake_copy_new(struct fake *f, const struct fms_record *draft, enum fake_state state)
{
    struct fake_copy *copy;
    size_t cache;

    if (f->blocks == NULL || f->blocks->used == FAKE_BLOCK) {
        struct fake_block *block = fake_must(calloc(1, sizeof *block));

        block->next = f->blocks;
        f->blocks = block;
    }
    copy = &f->blocks->copies[f->blocks->used++];
    fake_copy_fill(copy, draft, f->host.identities ? draft->identity : NULL);
    copy->state = state;
    cache = json_cache_size(f->paths);
    copy->cache = cache > 0 ? fake_must(calloc(1, cache)) : NULL;
    return copy;
}

/* Called with the lock held. The copy at that address, or NULL: no record of ours. */
static struct fake_copy *fake_copy_of(struct fake *f, const struct fms_record *record)
{
    uintptr_t address = (uintptr_t)record;

    for (struct fake_block *block = f->blocks; block != NULL; block = block->next) {
        uintptr_t first = (uintptr_t)&block->copies[0].record;
        size_t i = (address - first) / sizeof block->copies[0];

        if (address >= first && i < block->used && address == (uintptr_t)&block->copies[i].record)
            return &block->copies[i];
    }
    return NULL;
}

/* The plugin must not look at it any more. */
static void fake_copy_spoil(struct fake_copy *copy)
{
    memset(copy->memory, 0xdd, copy->size);
    memset(&copy->record, 0xdd, sizeof copy->record);
    ASAN_POISON_MEMORY_REGION(copy->memory, copy->size);
    ASAN_POISON_MEMORY_REGION(&copy->record, sizeof copy->record);
}

static void fake_blocks_free(struct fake_block *block)
{
    while (block != NULL) {
        struct fake_block *next = block->next;

        for (size_t i = 0; i < block->used; i++) {
            free(block->copies[i].memory);
            free(block->copies[i].cache);
        }
        free(block);
        block = next;
    }
}

static bool fake_malformed(const struct fms_record *draft)
{
    bool bad = (draft->header_count > 0 && draft->headers == NULL) ||
               (draft->topic.data == NULL && draft->topic.size > 0) ||
               (draft->key.data == NULL && draft->key.size > 0) ||
               (draft->payload.data == NULL && draft->payload.size > 0);

    for (size_t i = 0; !bad && i < draft->header_count; i++)
        bad = draft->headers[i].name == NULL ||
              (draft->headers[i].value.data == NULL && draft->headers[i].value.size > 0);
    return bad;
}

/* Called with the lock held. `parent`: the number of the input, or SIZE_MAX. */
static void fake_out_add(struct fake *f, const struct fms_record *record, size_t parent, char *rejected)
{
    struct fake_copy *copy = fake_copy_new(f, record, FAKE_OUTPUT);

    f->outs = fake_grow(f->outs, f->out_count, sizeof *f->outs);
    f->outs[f->out_count++] = (struct fake_out){copy, parent, 0, rejected};
    f->in_flight++;
}

/* Called with the lock held. What comes of an input: a child, or the input itself, who they are as a pipeline has it. */
static void fake_out_of(struct fake *f, struct fake_input *input, const struct fms_record *child)
{
    struct fms_record record = child != NULL ? *child : input->original->record;
    struct fms_identity identity;

    record.identity = input->original->record.identity;
    if (record.identity != NULL && (child != NULL || input->parts > 0)) {
        identity = *record.identity;
        identity.part = child != NULL ? ++input->parts : RECORD_BESIDE;
        record.identity = &identity;
    }
    fake_out_add(f, &record, (size_t)(input - f->inputs), NULL);
}

/* ---------------------------------------------------------------------------------------------- the host's services */

static struct fake *fake_of(const struct fms_host *host)
{
    return (struct fake *)(uintptr_t)host;
}

static void fake_host_log(const struct fms_host *host, enum fms_level level, const char *format, ...)
{
    static const char *const kinds[] = {"error: ", "warning: ", "info: ", "debug: "};
    va_list args;

    va_start(args, format);
    fake_say(fake_of(host), kinds[level], NULL, format, args);
    va_end(args);
}

static int fake_host_fail(const struct fms_host *host, const char *option, int error, const char *format, ...)
{
    struct fake *f = fake_of(host);
    va_list args;

    va_start(args, format);
    fake_say(f, "error: ", option, format, args);
    va_end(args);
    if (error >= 0) {
        pthread_mutex_lock(&f->lock);
        fake_breach(f, "fms_fail was called with %d, which is no negative errno", error);
        pthread_mutex_unlock(&f->lock);
    }
    return error;
}

static void fake_host_advise(const struct fms_host *host, const char *option, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fake_say(fake_of(host), "advice: ", option, format, args);
    va_end(args);
}

static void fake_host_promise(const struct fms_host *host, const char *option, enum fms_once once, const char *format,
                              ...)
{
    static const char *const kinds[] = {
        "promise: at most once: ", "promise: at least once: ", "promise: exactly once: "};
    struct fake *f = fake_of(host);
    bool is_known = once >= FMS_AT_MOST_ONCE && once <= FMS_EXACTLY_ONCE;
    va_list args;

    pthread_mutex_lock(&f->lock);
    if (f->is_checked)
        fake_breach(f, "fms_promise was called after check");
    if (!is_known)
        fake_breach(f, "fms_promise was called with %d", (int)once);
    pthread_mutex_unlock(&f->lock);
    if (!is_known)
        return;
    va_start(args, format);
    fake_say(f, kinds[once - FMS_AT_MOST_ONCE], option, format, args);
    va_end(args);
}

static void fake_host_report(const struct fms_host *host, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fake_say(fake_of(host), "report: ", NULL, format, args);
    va_end(args);
}

static size_t fake_metrics(const struct fms_metric *metrics)
{
    size_t n = 0;

    while (metrics != NULL && metrics[n].name != NULL)
        n++;
    return n;
}

/* Called with the lock held. Whether there is one of that number in the plugin's table. */
static bool fake_has_metric(struct fake *f, const char *what, const struct fms_metric *metrics, size_t number)
{
    if (number < fake_metrics(metrics) && number < FAKE_METRICS)
        return true;
    fake_breach(f, "%s %zu is not in the plugin's table", what, number);
    return false;
}

/* Called with the lock held, which it gives up. Whoever waits for what was told sees it come, from a thread of the plugin's own,
 * too. */
static void fake_told(struct fake *f)
{
    bool is_elsewhere = !fake_on_lane(f);

    pthread_mutex_unlock(&f->lock);
    if (is_elsewhere)
        fake_notify(f);
}

static void fake_host_count(const struct fms_host *host, size_t counter, uint64_t n)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (fake_has_metric(f, "counter", f->plugin->counters, counter))
        f->counters[counter] += n;
    fake_told(f);
}

static void fake_host_gauge(const struct fms_host *host, size_t gauge, double value)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (!isfinite(value))
        fake_breach(f, "gauge %zu was set to %f, which is no number", gauge, value);
    else if (fake_has_metric(f, "gauge", f->plugin->gauges, gauge))
        f->gauges[gauge] = value;
    fake_told(f);
}

static void fake_host_observe(const struct fms_host *host, size_t duration, int64_t nanoseconds)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (fake_has_metric(f, "duration", f->plugin->durations, duration)) {
        f->durations[duration].count++;
        f->durations[duration].sum += nanoseconds > 0 ? nanoseconds : 0;
    }
    fake_told(f);
}

static void fake_host_link(const struct fms_host *host, bool is_up, const char *why, ...)
{
    struct fake *f = fake_of(host);
    va_list args;
    char *text;

    va_start(args, why);
    text = fake_vformat("", NULL, why, args);
    va_end(args);
    pthread_mutex_lock(&f->lock);
    if ((f->plugin->traits & FMS_TRAIT_LINK) == 0)
        fake_breach(f, "it told of a link, and has not FMS_TRAIT_LINK");
    free(f->why);
    f->why = text;
    f->ups += is_up && !f->is_up;
    f->is_up = is_up;
    fake_told(f);
}

/* Where an option has its text, or NULL. */
static const char **fake_field(struct fake *f, const char *name)
{
    for (const struct fms_option *option = f->plugin->options; option != NULL && option->name != NULL; option++) {
        void *field = (char *)f->instance + option->offset;
        const struct fms_pairs *pairs = field;

        if ((option->type == FMS_STRING || option->type == FMS_SECRET) && strcmp(option->name, name) == 0)
            return field;
        for (size_t i = 0; option->type == FMS_PAIRS && i < pairs->count; i++) {
            if (strcmp(pairs->items[i].option, name) == 0)
                return (const char **)(uintptr_t)&pairs->items[i].value;
        }
    }
    return NULL;
}

static struct fake_secret *fake_secret_of(const struct fake *f, const char *option)
{
    struct fake_secret *secret = f->secrets;

    while (secret != NULL && strcmp(secret->option, option) != 0)
        secret = secret->next;
    return secret;
}

/* Called with the lock held. */
static int fake_secret_renew(struct fake *f, struct fake_secret *secret)
{
    const char **field = fake_field(f, secret->option);

    if (*field != NULL && strcmp(*field, secret->text) == 0)
        return 0;
    free(secret->before);
    secret->before = secret->now;
    *field = secret->now = fake_must(strdup(secret->text));
    return 1;
}

static int fake_host_renew(const struct fms_host *host, const char *option)
{
    struct fake *f = fake_of(host);
    struct fake_secret *secret;
    bool is_known = option != NULL && options_has(f->plugin->options, f->host.role, option);
    int result = -EINVAL;

    pthread_mutex_lock(&f->lock);
    secret = is_known ? fake_secret_of(f, option) : NULL;
    if (!is_known)
        fake_breach(f, "fms_renew was called for %s, which is not in the option table",
                    option != NULL ? option : "NULL");
    if (secret != NULL)
        result = fake_secret_renew(f, secret);
    pthread_mutex_unlock(&f->lock);
    return is_known && secret == NULL ? options_renew(f->memory, host, option) : result;
}

static int64_t fake_host_now(const struct fms_host *host)
{
    struct fake *f = fake_of(host);
    int64_t now;

    pthread_mutex_lock(&f->lock);
    now = f->stepped ? f->now : fake_realclock();
    pthread_mutex_unlock(&f->lock);
    return now;
}

static int64_t fake_host_realtime(const struct fms_host *host)
{
    struct fake *f = fake_of(host);
    struct timespec real;
    int64_t now;

    clock_gettime(CLOCK_REALTIME, &real);
    pthread_mutex_lock(&f->lock);
    now = f->stepped ? f->realtime : real.tv_sec * FMS_SECOND + real.tv_nsec;
    pthread_mutex_unlock(&f->lock);
    return now;
}

static void fake_host_clock(const struct fms_host *host, struct fms_clock *clock)
{
    struct fake *f = fake_of(host);
    int64_t realtime = fms_realtime(host), now = fms_now(host);

    pthread_mutex_lock(&f->lock);
    *clock = (struct fms_clock){f->clock_state, realtime - now, now, {f->boot, 0}};
    pthread_mutex_unlock(&f->lock);
}

static void fake_host_tell_time(const struct fms_host *host, int64_t utc)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    f->told++;
    f->told_utc = utc;
    pthread_mutex_unlock(&f->lock);
}

/* Without the random part. */
static int64_t fake_host_backoff(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    (void)host;
    while (attempt-- > 0 && min <= max / 2)
        min *= 2;
    return min < max ? min : max;
}

/* Called with the lock held. */
static bool fake_null(struct fake *f, const void *what, const char *function)
{
    if (what == NULL)
        fake_breach(f, "%s was called with NULL", function);
    return what == NULL;
}

/* Called with the lock held. Whether a source tells of an identity that is none. */
static bool fake_misnamed(struct fake *f, const struct fms_record *draft)
{
    const char *fault = NULL;

    if (f->host.role == FMS_SOURCE && f->host.identities && draft->identity != NULL)
        fault = record_identity_fault(draft->identity);
    if (fault != NULL)
        fake_breach(f, "the identity of an emitted record %s", fault);
    return fault != NULL;
}

/* Called with the lock held. What every emission has to pass. */
static int fake_may_emit(struct fake *f, const char *function, const struct fms_record *draft)
{
    if (!fake_check_lane(f, function))
        return -EPERM;
    if (fake_null(f, draft, function))
        return -EINVAL;
    if (f->phase < FAKE_RUNNING) {
        fake_breach(f, "%s was called before open had returned", function);
        return -EPERM;
    }
    if (f->phase == FAKE_CLOSING && !f->entered)
        fake_breach(f, "%s was called in close", function);
    if (fake_malformed(draft)) {
        fake_breach(f, "%s was called with a malformed draft", function);
        return -EINVAL;
    }
    return fake_misnamed(f, draft) ? -EINVAL : 0;
}

static bool fake_same(struct fms_bytes a, struct fms_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Called with the lock held. Within one poll whoever goes on with another draft behind -EAGAIN has dropped the refused one. */
static void fake_check_refused(struct fake *f, const struct fms_record *draft)
{
    const struct fms_record *refused;

    if (f->refused == NULL)
        return;
    refused = &f->refused->record;
    if (!fake_same(refused->topic, draft->topic) || !fake_same(refused->key, draft->key) ||
        !fake_same(refused->payload, draft->payload) || memcmp(refused->tag, draft->tag, sizeof draft->tag) != 0)
        fake_breach(f, "another record was emitted after fms_emit had said -EAGAIN");
    f->refused = NULL;
}

/* Called with the lock held. `take` is why the source rejects it, or NULL. */
static int fake_emit_locked(struct fake *f, const char *function, const struct fms_record *draft, char **take)
{
    int error = fake_may_emit(f, function, draft);

    if (error != 0)
        return error;
    if (f->host.role != FMS_SOURCE)
        fake_breach(f, "%s was called by a stage that is no source", function);
    if (f->ended)
        fake_breach(f, "%s was called after source_poll had returned FMS_END", function);
    if (f->phase > FAKE_STOPPED || f->ended || f->finished ||
        (f->phase == FAKE_STOPPED && f->plugin->source_stop == NULL))
        return -ESHUTDOWN;
    fake_check_refused(f, draft);
    if (f->in_flight >= f->capacity) {
        f->refused = f->polling ? fake_copy_new(f, draft, FAKE_OUTPUT) : NULL;
        return -EAGAIN;
    }
    if (f->polling && ++f->poll_emitted > f->poll_credit && f->phase == FAKE_RUNNING)
        fake_breach(f, "source_poll emitted more than its credit of %zu", f->poll_credit);
    fake_out_add(f, draft, SIZE_MAX, *take);
    *take = NULL;
    return 0;
}

static int fake_emit(struct fake *f, const char *function, const struct fms_record *draft, char *take)
{
    int error;

    pthread_mutex_lock(&f->lock);
    error = fake_emit_locked(f, function, draft, &take);
    pthread_mutex_unlock(&f->lock);
    free(take);
    fake_notify(f);
    return error;
}

/* The draft of a plugin that knows no identities ends before it would have one. */
static const struct fms_record *fake_whole(struct fake *f, const struct fms_record *draft, struct fms_record *whole)
{
    if (draft == NULL || f->plugin->record_size >= sizeof *draft)
        return draft;
    *whole = (struct fms_record){.identity = NULL};
    memcpy(whole, draft, offsetof(struct fms_record, identity));
    return whole;
}

/* Of more headers than a record may have, as many as its dead letter has room for. */
static void fake_cut_headers(struct fms_record *draft)
{
    if (draft->header_count > FAKE_MAX_HEADERS)
        draft->header_count = FAKE_MAX_HEADERS - FAKE_LETTER_HEADERS;
}

static int fake_host_emit_rejected(const struct fms_host *host, const struct fms_record *draft, const char *reason, ...)
{
    struct fms_record kept, whole;
    va_list args;
    char *text;

    if (draft == NULL)
        return fake_emit(fake_of(host), "fms_emit_rejected", NULL, NULL);
    kept = *fake_whole(fake_of(host), draft, &whole);
    fake_cut_headers(&kept);
    va_start(args, reason);
    text = fake_vformat("", NULL, reason, args);
    va_end(args);
    return fake_emit(fake_of(host), "fms_emit_rejected", &kept, text);
}

static int fake_host_emit(const struct fms_host *host, const struct fms_record *draft)
{
    struct fms_record whole;

    if (draft != NULL && draft->header_count > FAKE_MAX_HEADERS && draft->headers != NULL)
        return fake_host_emit_rejected(host, draft, "with %zu headers it has more than the %d that a record may have",
                                       draft->header_count, FAKE_MAX_HEADERS);
    return fake_emit(fake_of(host), "fms_emit", fake_whole(fake_of(host), draft, &whole), NULL);
}

/* Called with the lock held. The input of which this is the live copy, or NULL after saying what is wrong. */
static struct fake_input *fake_live(struct fake *f, const struct fms_record *record, const char *function)
{
    struct fake_copy *copy = fake_copy_of(f, record);

    if (fake_null(f, record, function))
        return NULL;
    if (copy == NULL || copy->state == FAKE_OUTPUT)
        fake_breach(f, "%s was called with a record that the host did not offer", function);
    else if (copy->state == FAKE_WITHDRAWN)
        fake_breach(f, "%s was called with record %zu, which the stage had not taken", function, copy->input);
    else if (copy->state == FAKE_SETTLED)
        fake_breach(f, "record %zu was settled twice (%s)", copy->input, function);
    else
        return &f->inputs[copy->input];
    if (copy != NULL && copy->state == FAKE_SETTLED)
        f->inputs[copy->input].settles++;
    return NULL;
}

static int fake_host_emit_child(const struct fms_host *host, const struct fms_record *parent,
                                const struct fms_record *draft)
{
    struct fake *f = fake_of(host);
    struct fake_input *input;
    struct fms_record whole;
    bool is_hopeless;
    int error;

    draft = fake_whole(f, draft, &whole);
    pthread_mutex_lock(&f->lock);
    error = fake_check_role(f, FMS_TRANSFORM, "fms_emit_child") ? fake_may_emit(f, "fms_emit_child", draft) : -EPERM;
    is_hopeless = error == 0 && (draft->payload.size > f->largest || draft->header_count > FAKE_MAX_HEADERS);
    input = error == 0 ? fake_live(f, parent, "fms_emit_child") : NULL;
    if (error == 0 && input == NULL)
        error = -EINVAL;
    else if (error == 0 && (is_hopeless || f->out_count >= f->capacity)) {
        f->child_refused = input->offer->state == FAKE_OFFERED;
        error = is_hopeless ? -EMSGSIZE : -EAGAIN;
    } else if (error == 0) {
        struct fms_record child = *draft;

        memcpy(child.tag, input->original->record.tag, sizeof child.tag);
        fake_out_of(f, input, &child);
    }
    pthread_mutex_unlock(&f->lock);
    return error;
}

static bool fake_is_end(const struct fake_input *input)
{
    const struct fms_identity *identity = input->original->record.identity;

    return identity != NULL && identity->is_end;
}

/* Called with the lock held. */
static void fake_check_key_order(struct fake *f, const struct fake_input *delivered)
{
    struct fms_bytes key = delivered->original->record.key;

    for (const struct fake_input *earlier = f->inputs; earlier < delivered && f->fates[FMS_RETRY] > 0; earlier++) {
        struct fms_bytes other = earlier->original->record.key;

        if (earlier->fate == FMS_RETRY && !fake_is_end(earlier) && key.data != NULL && other.data != NULL &&
            key.size == other.size && memcmp(key.data, other.data, key.size) == 0)
            fake_breach(f, "record %zu was delivered after the sink had asked to retry record %zu of the same key",
                        (size_t)(delivered - f->inputs), (size_t)(earlier - f->inputs));
    }
}

/* Called with the lock held. `take` is the reason, or NULL. */
static void fake_decide(struct fake *f, struct fake_input *input, int fate, char *take)
{
    if (fate == FMS_DELIVERED && f->host.role != FMS_TRANSFORM && !fake_is_end(input))
        fake_check_key_order(f, input);
    if (fate == FMS_REJECTED && fake_is_end(input))
        fake_breach(f, "record %zu was rejected, and is the end of one, of which there is nothing to be written",
                    (size_t)(input - f->inputs));
    input->fate = fate;
    input->settles++;
    free(input->reason);
    input->reason = take;
    f->fates[0]--;
    f->fates[fate]++;
    if (input->offer->state == FAKE_TAKEN)
        f->unsettled--;
    input->offer->state = FAKE_SETTLED;
    fake_copy_spoil(input->offer);
    f->offer_rest = true;
}

/* `take` is the reason, or NULL. */
static void fake_settle_input(struct fake *f, const struct fms_record *record, enum fms_fate fate, char *take,
                              const char *function)
{
    bool transform = f->host.role == FMS_TRANSFORM;
    struct fake_input *input = NULL;

    pthread_mutex_lock(&f->lock);
    if (fate == FMS_RETRY)
        fake_check_lane(f, function);
    if (f->host.role == FMS_SOURCE)
        fake_breach(f, "%s was called by a source", function);
    else if (fate < FMS_DELIVERED || fate > FMS_REJECTED || (transform && fate == FMS_RETRY))
        fake_breach(f, "%s was called with fate %d", function, (int)fate);
    else if (!transform || fake_check_lane(f, function))
        input = fake_live(f, record, function);
    if (input != NULL)
        fake_decide(f, input, (int)fate, take);
    else
        free(take);
    pthread_mutex_unlock(&f->lock);
    fake_notify(f);
}

static void fake_host_settle(const struct fms_host *host, const struct fms_record *record, enum fms_fate fate)
{
    fake_settle_input(fake_of(host), record, fate, NULL, "fms_delivered");
}

static enum fms_verdict fake_host_refuse(const struct fms_host *host, const struct fms_record *record,
                                         enum fms_fate fate, const char *reason, ...)
{
    va_list args;
    char *text;

    va_start(args, reason);
    text = fake_vformat("", NULL, reason, args);
    va_end(args);
    fake_settle_input(fake_of(host), record, fate, text, fate == FMS_RETRY ? "fms_retry" : "fms_reject");
    return FMS_KEPT;
}

static int fake_host_pass(const struct fms_host *host, const struct fms_record *record)
{
    struct fake *f = fake_of(host);
    struct fake_input *input = NULL;

    pthread_mutex_lock(&f->lock);
    if (fake_check_role(f, FMS_TRANSFORM, "fms_pass") && fake_check_lane(f, "fms_pass"))
        input = fake_live(f, record, "fms_pass");
    if (input != NULL) {
        fake_out_of(f, input, NULL);
        fake_decide(f, input, FAKE_PASSED, NULL);
    }
    pthread_mutex_unlock(&f->lock);
    return input != NULL ? 0 : -EINVAL;
}

/* The fields of a record, or of a draft, which are found anew. NULL: of one that was settled before. */
static struct json_cache *fake_fields(struct fake *f, const struct fms_record *record, const char *function)
{
    struct fake_copy *copy;
    bool is_settled;

    pthread_mutex_lock(&f->lock);
    copy = fake_copy_of(f, record);
    is_settled = copy != NULL && copy->state > FAKE_TAKEN;
    if (is_settled)
        fake_breach(f, "%s was called with record %zu after it was settled", function, copy->input);
    pthread_mutex_unlock(&f->lock);
    if (copy != NULL)
        return is_settled ? NULL : copy->cache;
    if (f->loose_cache != NULL)
        memset(f->loose_cache, 0, json_cache_size(f->paths));
    return f->loose_cache;
}

static int fake_host_expand(const struct fms_host *host, const struct fms_template *text,
                            const struct fms_record *record, struct fms_bytes *value)
{
    struct fake *f = fake_of(host);
    struct json_cache *cache = NULL;
    bool is_null;

    *value = fms_text("");
    pthread_mutex_lock(&f->lock);
    is_null = fake_null(f, text, "fms_expand");
    pthread_mutex_unlock(&f->lock);
    if (is_null)
        return -EINVAL;
    if (record == NULL) {
        *value = fms_text(template_constant(text));
        return value->data != NULL ? 0 : -ENOENT;
    }
    pthread_mutex_lock(&f->lock);
    if (f->phase >= FAKE_RUNNING)
        fake_check_lane(f, "fms_expand");
    pthread_mutex_unlock(&f->lock);
    if (template_uses_json(text) && (cache = fake_fields(f, record, "fms_expand")) == NULL)
        return -EINVAL;
    return template_expand(text, record, cache, value);
}

static void fake_make_loose_cache(struct fake *f)
{
    free(f->loose_cache);
    f->loose_cache = json_cache_size(f->paths) > 0 ? fake_must(calloc(1, json_cache_size(f->paths))) : NULL;
}

static int fake_host_json_path(const struct fms_host *host, const char *path)
{
    struct fake *f = fake_of(host);
    int number;

    pthread_mutex_lock(&f->lock);
    if (f->phase >= FAKE_RUNNING)
        fake_breach(f, "fms_json_path was called after open");
    pthread_mutex_unlock(&f->lock);
    number = json_paths_add(f->paths, path);
    fake_make_loose_cache(f);
    return number;
}

static int fake_host_json_get(const struct fms_host *host, const struct fms_record *record, int path,
                              struct fms_json *value)
{
    struct fake *f = fake_of(host);
    bool is_known = path >= 0 && (size_t)path < json_paths_count(f->paths);
    struct json_cache *cache = is_known && record != NULL ? fake_fields(f, record, "fms_json_get") : NULL;

    *value = (struct fms_json){FMS_JSON_MISSING, false, {"", 0}};
    pthread_mutex_lock(&f->lock);
    fake_check_lane(f, "fms_json_get");
    fake_null(f, record, "fms_json_get");
    if (!is_known)
        fake_breach(f, "fms_json_get was called with a path that fms_json_path has not given");
    pthread_mutex_unlock(&f->lock);
    return cache != NULL ? json_get(f->paths, cache, record->payload, path, value) : -EINVAL;
}

static void fake_host_room(const struct fms_host *host, size_t *records, size_t *bytes)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (f->phase != FAKE_CHECKED)
        fake_check_lane(f, "fms_room");
    *records = f->capacity > f->in_flight ? f->capacity - f->in_flight : 0;
    *bytes = *records < SIZE_MAX / 1024 ? *records * 1024 : SIZE_MAX;
    pthread_mutex_unlock(&f->lock);
}

/* On the lane. */
static void fake_tell_source(struct fake *f, size_t i, enum fms_fate fate)
{
    const struct fms_record *record;
    int64_t since = fake_realclock();

    pthread_mutex_lock(&f->lock);
    if (i >= f->out_count || f->outs[i].fate != 0)
        abort();
    f->outs[i].fate = (int)fate;
    f->in_flight--;
    f->due = true;
    record = &f->outs[i].copy->record;
    pthread_mutex_unlock(&f->lock);
    if (f->plugin->source_settled != NULL)
        f->plugin->source_settled(f->instance, record, fate);
    fake_check_held(f, "source_settled", since);
}

/* On the lane. All outputs from `from` to `to` that have no fate yet. */
static void fake_tell_all(struct fake *f, size_t from, size_t to, enum fms_fate fate)
{
    for (size_t i = from; i < to; i++) {
        bool open;

        pthread_mutex_lock(&f->lock);
        open = f->outs[i].fate == 0;
        pthread_mutex_unlock(&f->lock);
        if (open)
            fake_tell_source(f, i, fate);
    }
}

/* On the lane. What the source emits when it is told comes in the next turn. */
static void fake_tell_auto(struct fake *f)
{
    size_t emitted = fake_emitted(f);

    if (f->host.role != FMS_SOURCE || f->auto_fate == 0)
        return;
    fake_tell_all(f, f->auto_from, emitted, f->auto_fate);
    f->auto_from = emitted;
}

static size_t fake_host_drain(const struct fms_host *host, int64_t deadline)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (fake_check_role(f, FMS_SOURCE, "fms_drain") && fake_check_lane(f, "fms_drain") && !f->polling)
        fake_breach(f, "fms_drain was called outside source_poll");
    pthread_mutex_unlock(&f->lock);
    fake_tell_auto(f);
    if (f->drain_hook != NULL)
        f->drain_hook(f, deadline, f->drain_user);
    return fake_in_flight(f);
}

static void fake_host_wake(const struct fms_host *host)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    f->woken++;
    f->due = true;
    f->offer_rest = true;
    pthread_mutex_unlock(&f->lock);
    fake_notify(f);
}

static void fake_host_enter(const struct fms_host *host)
{
    struct fake *f = fake_of(host);
    bool mine;

    pthread_mutex_lock(&f->lock);
    mine = fake_on_lane(f);
    if (mine)
        fake_breach(f, "fms_enter was called on the lane");
    if (f->host.role != FMS_SOURCE)
        fake_breach(f, "fms_enter was called by a stage that is no source");
    pthread_mutex_unlock(&f->lock);
    if (mine)
        return;
    pthread_mutex_lock(&f->lane);
    fake_own(f, true, true);
    f->entered_at = fake_realclock();
}

static void fake_host_leave(const struct fms_host *host)
{
    struct fake *f = fake_of(host);
    bool mine;

    pthread_mutex_lock(&f->lock);
    mine = fake_on_lane(f) && f->entered;
    if (!mine)
        fake_breach(f, "fms_leave was called without fms_enter");
    pthread_mutex_unlock(&f->lock);
    if (!mine)
        return;
    fake_check_held(f, "a thread between fms_enter and fms_leave", f->entered_at);
    fake_tell_auto(f);
    fake_lane_give(f, true);
    fake_notify(f);
}

static void fake_host_finish(const struct fms_host *host)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    f->finished = true;
    pthread_mutex_unlock(&f->lock);
    fake_notify(f);
}

static void fake_host_identify(const struct fms_host *host, bool with_ends)
{
    struct fake *f = fake_of(host);

    pthread_mutex_lock(&f->lock);
    if (fake_check_role(f, FMS_SINK | FMS_DEAD_LETTER, "fms_identify")) {
        if (f->is_checked)
            fake_breach(f, "fms_identify was called after check");
        f->host.identities = true;
        f->asks_ends = f->asks_ends || with_ends;
    }
    pthread_mutex_unlock(&f->lock);
}

static bool fake_host_owns(const struct fms_host *host, const struct fms_record *record)
{
    struct fake *f = fake_of(host);
    struct fake_input *input;
    bool owns = true;

    pthread_mutex_lock(&f->lock);
    if (fake_check_role(f, FMS_SINK | FMS_DEAD_LETTER, "fms_owns") && fake_check_lane(f, "fms_owns") &&
        (input = fake_live(f, record, "fms_owns")) != NULL)
        owns = !input->is_lost;
    pthread_mutex_unlock(&f->lock);
    return owns;
}

/* Of no source that would tell more than whose records are. */
static int fake_host_progress(const struct fms_host *host, const struct fms_record *const *records, size_t count,
                              struct fms_bytes *progress)
{
    int error = -ENOTSUP;

    *progress = fms_bytes_of(NULL, 0);
    for (size_t i = 0; i < count; i++) {
        if (records[i] != NULL && !fake_host_owns(host, records[i]))
            error = -ESTALE;
    }
    return error;
}

static const struct fms_host fake_services = {
    .size = sizeof(struct fms_host),
    .pipeline = "test",
    .log = fake_host_log,
    .failure = fake_host_fail,
    .advise = fake_host_advise,
    .report = fake_host_report,
    .count = fake_host_count,
    .now = fake_host_now,
    .realtime = fake_host_realtime,
    .backoff = fake_host_backoff,
    .emit = fake_host_emit,
    .emit_child = fake_host_emit_child,
    .pass = fake_host_pass,
    .settle = fake_host_settle,
    .refuse = fake_host_refuse,
    .expand = fake_host_expand,
    .room = fake_host_room,
    .drain = fake_host_drain,
    .wake = fake_host_wake,
    .enter = fake_host_enter,
    .leave = fake_host_leave,
    .finish = fake_host_finish,
    .json_path = fake_host_json_path,
    .json_get = fake_host_json_get,
    .json_next = json_next,
    .json_unescape = json_decode,
    .emit_rejected = fake_host_emit_rejected,
    .gauge = fake_host_gauge,
    .observe = fake_host_observe,
    .link = fake_host_link,
    .renew = fake_host_renew,
    .clock = fake_host_clock,
    .tell_time = fake_host_tell_time,
    .identify = fake_host_identify,
    .progress = fake_host_progress,
    .owns = fake_host_owns,
    .promise = fake_host_promise,
};

/* ------------------------------------------------------------------------------------------------- opening, closing */

static void fake_catch_log(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    (void)pipeline;
    (void)stage;
    fake_host_log(user, level, "%s", text);
}

static const char *fake_section(enum fms_role role)
{
    switch (role) {
    case FMS_SOURCE:
        return "source";
    case FMS_TRANSFORM:
        return "transform test";
    case FMS_SINK:
        return "sink test";
    default:
        return "dead_letter";
    }
}

static struct fake *fake_new(enum fms_role role)
{
    struct fake *f = fake_must(calloc(1, sizeof *f));

    f->host = fake_services;
    f->host.role = role;
    f->host.stage = fake_section(role);
    f->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&f->lane, NULL);
    pthread_mutex_init(&f->lock, NULL);
    f->paths = fake_must(json_paths_new());
    f->clock_state = FMS_CLOCK_RIGHT;
    f->boot = 1;
    f->memory = fake_must(options_memory_new());
    f->capacity = f->largest = SIZE_MAX;
    f->patience = FAKE_HOLD;
    f->turn_credit = 256;
    f->wait = (struct fms_wait){-1, 0, FMS_NEVER};
    f->due = true;
    return f;
}

static int fake_fill(struct fake *f, const char *ini)
{
    char *text = NULL, bad[256];
    int error;

    error = options_check_table(f->plugin->options, f->plugin->instance_size, bad, sizeof bad);
    if (error != 0)
        return fms_fail(&f->host, error, "the plugin's option table: %s", bad);
    f->instance = fake_must(calloc(1, f->plugin->instance_size + 1));
    loader_put_host(f->plugin, f->instance, &f->host);
    if (asprintf(&text, "[%s]\n%s", f->host.stage, ini) < 0)
        abort();
    error = config_parse("test", text, strlen(text), &f->config);
    free(text);
    if (error == 0)
        error = options_fill(f->plugin->options, f->host.role, f->plugin->name, f->config, &f->config->sections[0],
                             f->paths, f->memory, f->instance);
    if (error == 0)
        fake_make_loose_cache(f);
    return error;
}

static void fake_prepare(struct fake *f, const struct fms_plugin *plugin, const char *ini)
{
    bool taken;

    f->plugin = plugin;
    f->error = fake_fill(f, ini);
    if (f->error == 0 && plugin->check != NULL) {
        taken = fake_lane_take(f);
        f->error = plugin->check(f->instance, &f->host);
        fake_lane_give(f, taken);
    }
    f->is_checked = true;
}

struct fake *fake_check_table(const struct fms_plugin *plugin, enum fms_role role, const char *ini)
{
    struct fake *f = fake_new(role);

    log_redirect(fake_catch_log, f);
    fake_prepare(f, plugin, ini);
    log_redirect(NULL, NULL);
    return f;
}

struct fake *fake_check(const char *name, enum fms_role role, const char *ini)
{
    struct fake *f = fake_new(role);
    const struct plugin *plugin;

    log_redirect(fake_catch_log, f);
    loader_search(getenv("FMS_PLUGIN_DIR"));
    plugin = loader_load(name, "test", 0);
    if (plugin == NULL)
        f->error = -ENOENT;
    else if (!loader_has_role(plugin, role))
        f->error = fms_fail(&f->host, -EINVAL, "plugin %s cannot stand as %s", name, f->host.stage);
    else
        fake_prepare(f, &plugin->table, ini);
    log_redirect(NULL, NULL);
    return f;
}

int fake_start(struct fake *f)
{
    if (f->error != 0)
        return f->error;
    f->phase = FAKE_OPENING;
    if (f->plugin->open != NULL)
        f->error = f->plugin->open(f->instance, &f->host);
    f->opened = f->error == 0;
    f->phase = f->opened ? FAKE_RUNNING : FAKE_CHECKED;
    return f->error;
}

int fake_probe(struct fake *f, int64_t timeout)
{
    if (f->error == 0 && f->plugin->probe != NULL)
        f->error = f->plugin->probe(f->instance, &f->host, fms_now(&f->host) + timeout);
    return f->error;
}

/* Gathers what went wrong, prints it with all that was said, and frees the fake. */
static void fake_fail(struct fake *f, const char *what);

static struct fake *fake_start_or_fail(struct fake *f)
{
    if (fake_start(f) == 0)
        return f;
    fake_fail(f, "the stage does not open");
    return NULL;
}

struct fake *fake_open(const char *name, enum fms_role role, const char *ini)
{
    return fake_start_or_fail(fake_check(name, role, ini));
}

struct fake *fake_open_table(const struct fms_plugin *plugin, enum fms_role role, const char *ini)
{
    return fake_start_or_fail(fake_check_table(plugin, role, ini));
}

static void fake_secrets_free(struct fake_secret *secret)
{
    while (secret != NULL) {
        struct fake_secret *next = secret->next;

        free(secret->option);
        free(secret->text);
        free(secret->now);
        free(secret->before);
        free(secret);
        secret = next;
    }
}

static void fake_free(struct fake *f)
{
    for (size_t i = 0; i < f->input_count; i++)
        free(f->inputs[i].reason);
    free(f->inputs);
    for (size_t i = 0; i < f->out_count; i++)
        free(f->outs[i].rejected);
    free(f->outs);
    fake_blocks_free(f->blocks);
    fake_secrets_free(f->secrets);
    fake_texts_clear(&f->said);
    fake_texts_clear(&f->breaches);
    fake_texts_clear(&f->expected);
    free(f->why);
    free(f->instance);
    options_memory_free(f->memory);
    config_free(f->config);
    json_paths_free(f->paths);
    free(f->loose_cache);
    close(f->event);
    pthread_mutex_destroy(&f->lane);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static void fake_report(struct fake *f, const char *what, char *report, size_t size)
{
    FILE *out = fmemopen(report, size, "w");

    if (out == NULL)
        abort();
    fprintf(out, "%s, %s: %s", f->plugin != NULL ? f->plugin->name : "no plugin", f->host.stage, what);
    if (f->error != 0)
        fprintf(out, "\n  failed with: %s", strerror(-f->error));
    for (size_t i = 0; i < f->breaches.count; i++)
        fprintf(out, "\n  broken: %s", f->breaches.items[i]);
    for (size_t i = 0; i < f->expected.count; i++)
        fprintf(out, "\n  expected, but did not happen: %s", f->expected.items[i]);
    for (size_t i = f->said.count > 40 ? f->said.count - 40 : 0; i < f->said.count; i++)
        fprintf(out, "\n  said: %s", f->said.items[i]);
    fclose(out);
    report[size - 1] = '\0';
}

/* Crosses out breaches that were expected, and expectations that came true. */
static void fake_match(struct fake *f)
{
    for (size_t e = f->expected.count; e-- > 0;) {
        bool found = false;

        for (size_t b = f->breaches.count; b-- > 0;) {
            if (strstr(f->breaches.items[b], f->expected.items[e]) == NULL)
                continue;
            found = true;
            free(f->breaches.items[b]);
            f->breaches.items[b] = f->breaches.items[--f->breaches.count];
        }
        if (!found)
            continue;
        free(f->expected.items[e]);
        f->expected.items[e] = f->expected.items[--f->expected.count];
    }
}

static void fake_check_left(struct fake *f)
{
    const char *verb = f->host.role == FMS_TRANSFORM ? "kept" : "took";

    pthread_mutex_lock(&f->lock);
    if (f->unsettled != f->expected_left)
        fake_breach(f, "the stage %s %zu records that were never settled; %zu are expected to be left", verb,
                    f->unsettled, f->expected_left);
    pthread_mutex_unlock(&f->lock);
}

/* The lane is not held in the plugin's close: a library's thread that it has to wait for may stand in fms_enter. */
void fake_shut(struct fake *f)
{
    if (!f->opened)
        return;
    if (f->phase == FAKE_RUNNING)
        fake_stop(f);
    fake_check_left(f);
    pthread_mutex_lock(&f->lock);
    f->phase = FAKE_CLOSING;
    pthread_mutex_unlock(&f->lock);
    if (f->plugin->close != NULL)
        f->plugin->close(f->instance);
    f->opened = false;
}

static void fake_fail(struct fake *f, const char *what)
{
    static char report[16384];

    fake_report(f, what, report, sizeof report);
    fake_shut(f);
    fake_free(f);
    fake_handler(report);
}

void fake_close(struct fake *f)
{
    fake_shut(f);
    fake_match(f);
    if (f->breaches.count > 0 || f->expected.count > 0)
        fake_fail(f, "rules were broken");
    else
        fake_free(f);
}

void fake_expect(struct fake *f, const char *breach)
{
    fake_texts_add(&f->expected, fake_must(strdup(breach)));
}

void fake_expect_left(struct fake *f, size_t records)
{
    f->expected_left = records;
}

int fake_error(struct fake *f)
{
    return f->error;
}

/* ------------------------------------------------------------------------------------------------ driving the stage */

static const char *fake_poll_name(const struct fake *f)
{
    return f->host.role == FMS_SOURCE ? "source_poll" : f->host.role == FMS_TRANSFORM ? "transform_poll" : "sink_poll";
}

static int fake_poll_stage(struct fake *f, size_t credit, struct fms_wait *wait)
{
    const struct fms_plugin *plugin = f->plugin;

    switch (f->host.role) {
    case FMS_SOURCE:
        return plugin->source_poll(f->instance, credit, wait);
    case FMS_TRANSFORM:
        return plugin->transform_poll != NULL ? plugin->transform_poll(f->instance, wait) : 0;
    default:
        return plugin->sink_poll != NULL ? plugin->sink_poll(f->instance, wait) : 0;
    }
}

int fake_poll(struct fake *f, size_t credit)
{
    struct fms_wait wait = {-1, 0, FMS_NEVER};
    bool taken = fake_lane_take(f);
    int64_t since = fake_realclock();
    int result;

    pthread_mutex_lock(&f->lock);
    f->due = false;
    f->polling = true;
    f->poll_credit = credit;
    f->poll_emitted = 0;
    f->refused = NULL;
    pthread_mutex_unlock(&f->lock);
    result = fake_poll_stage(f, credit, &wait);
    fake_check_held(f, fake_poll_name(f), since);
    pthread_mutex_lock(&f->lock);
    f->polling = false;
    f->wait = wait;
    f->ended = f->ended || result > 0;
    if (result < 0)
        f->error = result;
    if (result > 0 && (result != FMS_END || f->host.role != FMS_SOURCE))
        fake_breach(f, "the stage's poll returned %d", result);
    pthread_mutex_unlock(&f->lock);
    fake_tell_auto(f);
    fake_lane_give(f, taken);
    return result;
}

const struct fms_wait *fake_waits_for(struct fake *f)
{
    return &f->wait;
}

/* How long to sleep for the stage's deadline, in milliseconds of poll(2), at most `timeout`. */
static int fake_sleep(const struct fake *f, int64_t deadline, int64_t timeout)
{
    int64_t now = fms_now(&f->host);
    int64_t left = deadline > now ? deadline - now : 0;

    if (left > 0 && f->stepped)
        left = deadline == FMS_NEVER ? timeout : 0;
    if (left > timeout)
        left = timeout;
    if (left > FAKE_PATIENCE)
        left = FAKE_PATIENCE; /* whoever waits longer asks again */
    return (int)((left + FMS_MS - 1) / FMS_MS);
}

/* Nothing was ready: has the stage's deadline come, or is it to be made to come? */
static bool fake_deadline_comes(struct fake *f, int64_t deadline)
{
    bool comes = deadline <= fms_now(&f->host);

    if (!comes && f->stepped && deadline != FMS_NEVER) {
        fake_clock_step(f, deadline - f->now);
        comes = true;
    }
    return comes;
}

bool fake_wait(struct fake *f, int64_t timeout)
{
    struct pollfd fds[2] = {{f->event, POLLIN, 0}, {f->wait.fd, f->wait.events, 0}};
    int64_t deadline = f->ended ? FMS_NEVER : f->wait.deadline;
    uint64_t events;
    bool due;
    int n;

    n = poll(fds, f->wait.fd >= 0 && !f->ended ? 2 : 1, fake_sleep(f, deadline, timeout > 0 ? timeout : 0));
    if (n > 0 && fds[0].revents != 0)
        (void)!read(f->event, &events, sizeof events);
    due = fds[1].revents != 0 || (n == 0 ? fake_deadline_comes(f, deadline) : deadline <= fms_now(&f->host));
    pthread_mutex_lock(&f->lock);
    f->due = f->due || due;
    pthread_mutex_unlock(&f->lock);
    return n > 0 || due;
}

/* What an operation asks for, read and reset at once. */
static bool fake_asked(struct fake *f, bool *flag)
{
    bool asked;

    pthread_mutex_lock(&f->lock);
    asked = *flag;
    *flag = false;
    pthread_mutex_unlock(&f->lock);
    return asked;
}

static int fake_offer(struct fake *f);

void fake_turn(struct fake *f, int64_t until, const char *condition)
{
    bool acted = false;
    int64_t now = fake_realclock();

    if (f->error < 0) {
        fake_fail(f, condition);
        return;
    }
    if (now >= until) { /* however much moves */
        fake_fail(f, condition);
        return;
    }
    if (fake_asked(f, &f->offer_rest) && f->stalled && fake_count_fate(f, FMS_RETRY) == 0)
        acted = fake_offer(f) > 0;
    if (fake_asked(f, &f->due) && !f->ended) {
        fake_poll(f, f->turn_credit);
        acted = true;
    }
    if (!acted)
        fake_wait(f, until - now);
}

void fake_stop(struct fake *f)
{
    bool taken = fake_lane_take(f);
    int64_t since = fake_realclock();

    pthread_mutex_lock(&f->lock);
    f->phase = FAKE_STOPPED;
    pthread_mutex_unlock(&f->lock);
    if (f->host.role == FMS_SOURCE && f->plugin->source_stop != NULL)
        f->plugin->source_stop(f->instance);
    if (f->host.role == FMS_TRANSFORM && f->plugin->transform_flush != NULL)
        f->plugin->transform_flush(f->instance);
    fake_check_held(f, f->host.role == FMS_SOURCE ? "source_stop" : "transform_flush", since);
    fake_lane_give(f, taken);
}

void fake_hold(struct fake *f, int64_t most)
{
    f->patience = most;
}

void fake_credit(struct fake *f, size_t records)
{
    f->turn_credit = records;
}

void fake_capacity(struct fake *f, size_t records)
{
    pthread_mutex_lock(&f->lock);
    f->capacity = records;
    f->due = true;
    pthread_mutex_unlock(&f->lock);
}

void fake_largest(struct fake *f, size_t payload)
{
    pthread_mutex_lock(&f->lock);
    f->largest = payload;
    pthread_mutex_unlock(&f->lock);
}

bool fake_ended(struct fake *f)
{
    return f->ended;
}

/* ------------------------------------------------------------------------------- what goes into a sink, a transform */

size_t fake_add_record(struct fake *f, const struct fms_record *draft)
{
    size_t i;

    if (draft->identity != NULL && draft->identity->is_end && !f->asks_ends) {
        fprintf(stderr, "the test adds an end, and the stage has not asked for ends\n");
        abort();
    }
    pthread_mutex_lock(&f->lock);
    i = f->input_count;
    f->inputs = fake_grow(f->inputs, i, sizeof *f->inputs);
    f->inputs[i] = (struct fake_input){.original = fake_copy_new(f, draft, FAKE_OUTPUT)};
    f->input_count++;
    f->fates[0]++;
    pthread_mutex_unlock(&f->lock);
    return i;
}

void fake_disown(struct fake *f, size_t i)
{
    pthread_mutex_lock(&f->lock);
    f->inputs[i].is_lost = true;
    pthread_mutex_unlock(&f->lock);
}

size_t fake_add(struct fake *f, const char *topic, const char *key, const char *payload)
{
    struct fms_record draft = {.topic = fms_text(topic), .key = fms_text(key), .payload = fms_text(payload)};

    draft.timestamp = fms_realtime(&f->host);
    return fake_add_record(f, &draft);
}

/* Called with the lock held. The copy with which input i is offered. */
static struct fake_copy *fake_offer_of(struct fake *f, size_t i)
{
    struct fake_input *input = &f->inputs[i];

    if (f->same_again) {
        f->same_again = false;
        return input->offer;
    }
    input->offer = fake_copy_new(f, &input->original->record, FAKE_OFFERED);
    input->offer->input = i;
    return input->offer;
}

/* Called with the lock held. The next input that is to be offered, from i on. */
static size_t fake_next(const struct fake *f, size_t i)
{
    while (i < f->input_count &&
           (f->inputs[i].fate != 0 || (f->inputs[i].offer != NULL && f->inputs[i].offer->state == FAKE_TAKEN)))
        i++;
    return i;
}

/* Called with the lock held. */
static void fake_take_offer(struct fake *f, struct fake_copy *copy, bool taken)
{
    if (taken && copy->state == FAKE_OFFERED) {
        copy->state = FAKE_TAKEN;
        f->unsettled++;
    } else if (!taken && copy->state == FAKE_SETTLED) {
        fake_breach(f, "record %zu was settled by a sink that did not take it", copy->input);
    } else if (!taken) {
        copy->state = FAKE_WITHDRAWN;
        fake_copy_spoil(copy);
    }
    if (taken && (f->plugin->traits & FMS_TRAIT_DURABLE_WRITE) != 0 && copy->state == FAKE_TAKEN)
        fake_breach(f, "record %zu was not settled within sink_write by a sink with durable writes", copy->input);
}

/* On the lane. One call of sink_write; *offered is how many records there were for it. */
static int fake_write_sink(struct fake *f, size_t *offered)
{
    struct fake_copy *copies[256];
    const struct fms_record *records[256];
    int64_t since = fake_realclock();
    size_t count = 0;
    int taken;

    pthread_mutex_lock(&f->lock);
    for (size_t i = fake_next(f, 0); i < f->input_count && count < 256; i = fake_next(f, i + 1)) {
        copies[count] = fake_offer_of(f, i);
        records[count] = &copies[count]->record;
        count++;
    }
    pthread_mutex_unlock(&f->lock);
    *offered = count;
    if (count == 0)
        return 0;
    taken = f->plugin->sink_write(f->instance, records, count);
    fake_check_held(f, "sink_write", since);
    pthread_mutex_lock(&f->lock);
    if (taken > (int)count)
        fake_breach(f, "sink_write took %d records of %zu", taken, count);
    for (size_t i = 0; i < count; i++)
        fake_take_offer(f, copies[i], (int)i < taken);
    pthread_mutex_unlock(&f->lock);
    return taken;
}

/* Called with the lock held. */
static void fake_apply_verdict(struct fake *f, struct fake_input *input, enum fms_verdict verdict)
{
    struct fake_copy *copy = input->offer;
    size_t i = (size_t)(input - f->inputs);

    if (copy->state == FAKE_SETTLED) {
        if (verdict != FMS_KEPT)
            fake_breach(f, "record %zu was settled twice (the verdict %d after its fate)", i, (int)verdict);
        return;
    }
    if (verdict == FMS_PASS) {
        fake_out_of(f, input, NULL);
        fake_decide(f, input, FAKE_PASSED, NULL);
    } else if (verdict == FMS_DROP) {
        fake_decide(f, input, FMS_DELIVERED, NULL);
    } else if (verdict == FMS_AGAIN) {
        f->same_again = true;
    } else {
        if (verdict != FMS_KEPT)
            fake_breach(f, "the transform's verdict on record %zu is %d", i, (int)verdict);
        copy->state = FAKE_TAKEN;
        f->unsettled++;
    }
}

/* Called with the lock held. FMS_AGAIN and -EAGAIN belong together. */
static void fake_check_again(struct fake *f, enum fms_verdict verdict)
{
    if (verdict == FMS_AGAIN && !f->child_refused)
        fake_breach(f, "the transform returned FMS_AGAIN, but fms_emit_child did not say -EAGAIN");
    if (f->child_refused && (verdict == FMS_PASS || verdict == FMS_DROP))
        fake_breach(f, "the transform returned %s though fms_emit_child said -EAGAIN, and the child is lost",
                    verdict == FMS_PASS ? "FMS_PASS" : "FMS_DROP");
    f->child_refused = false;
}

/* On the lane. */
static int fake_write_transform(struct fake *f, size_t *offered)
{
    struct fake_copy *copy = NULL;
    int64_t since = fake_realclock();
    enum fms_verdict verdict;
    size_t i;

    pthread_mutex_lock(&f->lock);
    i = fake_next(f, 0);
    if (i < f->input_count)
        copy = fake_offer_of(f, i);
    pthread_mutex_unlock(&f->lock);
    *offered = copy != NULL;
    if (copy == NULL)
        return 0;
    verdict = f->plugin->transform(f->instance, &copy->record);
    fake_check_held(f, "transform", since);
    pthread_mutex_lock(&f->lock);
    fake_check_again(f, verdict);
    fake_apply_verdict(f, &f->inputs[i], verdict);
    pthread_mutex_unlock(&f->lock);
    return verdict == FMS_AGAIN ? 0 : 1;
}

/* Offers until nothing is left or the stage takes no more. */
static int fake_offer(struct fake *f)
{
    bool taken = fake_lane_take(f);
    size_t offered;
    int total = 0, n;

    do {
        n = f->host.role == FMS_TRANSFORM ? fake_write_transform(f, &offered) : fake_write_sink(f, &offered);
        total += n > 0 ? n : 0;
    } while (n > 0 && (size_t)n == offered && fake_count_fate(f, FMS_RETRY) == 0);
    pthread_mutex_lock(&f->lock);
    f->stalled = fake_next(f, 0) < f->input_count;
    f->due = true;
    if (n < 0)
        f->error = n;
    pthread_mutex_unlock(&f->lock);
    fake_lane_give(f, taken);
    return n < 0 ? n : total;
}

int fake_write(struct fake *f)
{
    bool wait;

    pthread_mutex_lock(&f->lock);
    wait = f->fates[FMS_RETRY] > 0 && f->unsettled > 0;
    for (size_t i = 0; i < f->input_count && !wait && f->fates[FMS_RETRY] > 0; i++) {
        if (f->inputs[i].fate != FMS_RETRY)
            continue;
        f->inputs[i].fate = 0;
        f->fates[FMS_RETRY]--;
        f->fates[0]++;
    }
    f->offer_rest = false;
    pthread_mutex_unlock(&f->lock);
    return wait ? 0 : fake_offer(f);
}

unsigned fake_settles(struct fake *f, size_t i)
{
    unsigned settles;

    pthread_mutex_lock(&f->lock);
    settles = f->inputs[i].settles;
    pthread_mutex_unlock(&f->lock);
    return settles;
}

int fake_fate(struct fake *f, size_t i)
{
    int fate;

    pthread_mutex_lock(&f->lock);
    fate = f->inputs[i].fate;
    pthread_mutex_unlock(&f->lock);
    return fate;
}

const char *fake_reason(struct fake *f, size_t i)
{
    const char *reason;

    pthread_mutex_lock(&f->lock);
    reason = f->inputs[i].reason;
    pthread_mutex_unlock(&f->lock);
    return reason != NULL ? reason : "";
}

static size_t fake_look(struct fake *f, const size_t *number)
{
    size_t value;

    pthread_mutex_lock(&f->lock);
    value = *number;
    pthread_mutex_unlock(&f->lock);
    return value;
}

size_t fake_count_fate(struct fake *f, int fate)
{
    return fake_look(f, &f->fates[fate]);
}

size_t fake_unsettled(struct fake *f)
{
    return fake_look(f, &f->unsettled);
}

/* ---------------------------------------------------------------------------- what comes from a source, a transform */

size_t fake_emitted(struct fake *f)
{
    return fake_look(f, &f->out_count);
}

static struct fake_out fake_out(struct fake *f, size_t i)
{
    struct fake_out out;

    pthread_mutex_lock(&f->lock);
    if (i >= f->out_count) {
        fprintf(stderr, "the test asks for record %zu of %zu\n", i, f->out_count);
        abort();
    }
    out = f->outs[i];
    pthread_mutex_unlock(&f->lock);
    return out;
}

const struct fms_record *fake_record(struct fake *f, size_t i)
{
    return &fake_out(f, i).copy->record;
}

size_t fake_parent(struct fake *f, size_t i)
{
    return fake_out(f, i).parent;
}

const char *fake_rejected(struct fake *f, size_t i)
{
    return fake_out(f, i).rejected;
}

bool fake_owns(struct fake *f, size_t i)
{
    bool taken = fake_lane_take(f);
    bool owns = f->plugin->source_owns == NULL || f->plugin->source_owns(f->instance, fake_record(f, i));

    fake_lane_give(f, taken);
    return owns;
}

int fake_progress(struct fake *f, size_t from, size_t count, struct fms_bytes *progress)
{
    bool taken = fake_lane_take(f);
    const struct fms_record **records = calloc(count + 1, sizeof(*records));
    int error;

    for (size_t i = 0; i < count; i++)
        records[i] = fake_record(f, from + i);
    error = f->plugin->source_progress(f->instance, records, count, progress);
    free(records);
    fake_lane_give(f, taken);
    return error;
}

void fake_settle(struct fake *f, size_t i, enum fms_fate fate)
{
    bool taken = fake_lane_take(f);

    fake_tell_source(f, i, fate);
    fake_lane_give(f, taken);
}

void fake_settle_all(struct fake *f, enum fms_fate fate)
{
    bool taken = fake_lane_take(f);

    fake_tell_all(f, 0, fake_emitted(f), fate);
    fake_lane_give(f, taken);
}

void fake_settle_auto(struct fake *f, enum fms_fate fate)
{
    bool taken = fake_lane_take(f);

    f->auto_fate = fate;
    f->auto_from = 0;
    fake_tell_auto(f);
    fake_lane_give(f, taken);
}

size_t fake_in_flight(struct fake *f)
{
    return fake_look(f, &f->in_flight);
}

void fake_on_drain(struct fake *f, void (*hook)(struct fake *f, int64_t deadline, void *user), void *user)
{
    f->drain_hook = hook;
    f->drain_user = user;
}

/* --------------------------------------------------------------------------------------------------------- secrets */

void fake_secret(struct fake *f, const char *option, const char *text)
{
    struct fake_secret *secret;

    pthread_mutex_lock(&f->lock);
    secret = fake_secret_of(f, option);
    if (secret == NULL) {
        fake_must((void *)(uintptr_t)fake_field(f, option));
        secret = fake_must(calloc(1, sizeof *secret));
        secret->option = fake_must(strdup(option));
        secret->next = f->secrets;
        f->secrets = secret;
    }
    free(secret->text);
    secret->text = fake_must(strdup(text));
    pthread_mutex_unlock(&f->lock);
}

/* ---------------------------------------------------------------------------------------------- clock, what it said */

void fake_clock_set(struct fake *f, int64_t now, int64_t realtime)
{
    pthread_mutex_lock(&f->lock);
    f->stepped = true;
    f->now = now;
    f->realtime = realtime;
    pthread_mutex_unlock(&f->lock);
}

void fake_clock_step(struct fake *f, int64_t nanoseconds)
{
    pthread_mutex_lock(&f->lock);
    f->now += nanoseconds;
    f->realtime += nanoseconds;
    pthread_mutex_unlock(&f->lock);
    fake_notify(f);
}

void fake_clock_know(struct fake *f, enum fms_clock_state state, uint64_t boot)
{
    pthread_mutex_lock(&f->lock);
    f->clock_state = state;
    f->boot = boot;
    pthread_mutex_unlock(&f->lock);
}

size_t fake_told_time(struct fake *f, int64_t *utc)
{
    size_t told;

    pthread_mutex_lock(&f->lock);
    told = f->told;
    *utc = f->told_utc;
    pthread_mutex_unlock(&f->lock);
    return told;
}

/* The last of the lines with that text, and how many there are. */
static const char *fake_search(struct fake *f, const char *text, size_t *count)
{
    const char *found = NULL;

    *count = 0;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->said.count; i++) {
        if (strstr(f->said.items[i], text) == NULL)
            continue;
        found = f->said.items[i];
        ++*count;
    }
    pthread_mutex_unlock(&f->lock);
    return found;
}

const char *fake_said(struct fake *f, const char *text)
{
    size_t count;

    return fake_search(f, text, &count);
}

size_t fake_count_said(struct fake *f, const char *text)
{
    size_t count;

    fake_search(f, text, &count);
    return count;
}

void fake_forget(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    fake_texts_clear(&f->said);
    pthread_mutex_unlock(&f->lock);
}

/* The place of the metric of that name; a test that asks for one that there is not ends. */
static size_t fake_metric(const char *what, const struct fms_metric *metrics, const char *name)
{
    size_t count = fake_metrics(metrics), i = 0;

    while (i < count && strcmp(metrics[i].name, name) != 0)
        i++;
    if (i == count) {
        fprintf(stderr, "the plugin has no %s %s\n", what, name);
        abort();
    }
    return i;
}

uint64_t fake_counter(struct fake *f, const char *name)
{
    size_t i = fake_metric("counter", f->plugin->counters, name);
    uint64_t value;

    pthread_mutex_lock(&f->lock);
    value = f->counters[i];
    pthread_mutex_unlock(&f->lock);
    return value;
}

void fake_measure(struct fake *f)
{
    bool taken = fake_lane_take(f);
    int64_t since = fake_realclock();

    if (f->plugin->measure != NULL)
        f->plugin->measure(f->instance);
    fake_check_held(f, "measure", since);
    fake_lane_give(f, taken);
}

double fake_gauge(struct fake *f, const char *name)
{
    size_t i = fake_metric("gauge", f->plugin->gauges, name);
    double value;

    pthread_mutex_lock(&f->lock);
    value = f->gauges[i];
    pthread_mutex_unlock(&f->lock);
    return value;
}

size_t fake_observed(struct fake *f, const char *name, int64_t *sum)
{
    size_t i = fake_metric("duration", f->plugin->durations, name), count;

    pthread_mutex_lock(&f->lock);
    count = f->durations[i].count;
    if (sum != NULL)
        *sum = f->durations[i].sum;
    pthread_mutex_unlock(&f->lock);
    return count;
}

bool fake_link_is_up(struct fake *f)
{
    bool is_up;

    pthread_mutex_lock(&f->lock);
    is_up = f->is_up;
    pthread_mutex_unlock(&f->lock);
    return is_up;
}

size_t fake_link_ups(struct fake *f)
{
    return fake_look(f, &f->ups);
}

const char *fake_link_why(struct fake *f, char *to, size_t size)
{
    pthread_mutex_lock(&f->lock);
    snprintf(to, size, "%s", f->why != NULL ? f->why : "");
    pthread_mutex_unlock(&f->lock);
    return to;
}

size_t fake_woken(struct fake *f)
{
    return fake_look(f, &f->woken);
}

bool fake_finished(struct fake *f)
{
    bool finished;

    pthread_mutex_lock(&f->lock);
    finished = f->finished;
    pthread_mutex_unlock(&f->lock);
    return finished;
}

void *fake_instance(struct fake *f)
{
    return f->instance;
}

struct fms_host *fake_host(struct fake *f)
{
    return &f->host;
}
