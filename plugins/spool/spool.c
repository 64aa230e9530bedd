/* spool - a durable queue in a directory: as a sink it stores records, as a source it hands them on in order.
 *
 * A record is delivered to the sink when the transaction that stores it is committed, within sink_write. The source
 * removes a record when it and all before it are settled, so that a crash at any point repeats records at worst. */
#include <fms_plugin.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "spool_date.h"
#include "spool_era.h"
#include "spool_record.h"
#include "spool_store.h"

#define REMOVE_BATCH 1000             /* settled records that are removed at once ... */
#define REMOVE_PAUSE (50 * FMS_MS)    /* ... or after this time: each removal is a transaction */
#define TROUBLE_TICK FMS_SECOND       /* until a disk that was full or failed is tried again */
#define WATCH_TICK   (5 * FMS_SECOND) /* should the kernel have lost a notice */

#define CLOCK_TICK FMS_SECOND /* between two looks at the clock */
#define BATCH      256        /* records that a sink is offered at once, at most */

#define OFF_INTERVAL (30 * FMS_SECOND) /* the kernel's own pace */

enum when_full { FULL_BLOCK, FULL_DROP_OLDEST };
enum { CLOCK_TRUSTED, CLOCK_CHECKED };
enum { IDENTITY_OWN, IDENTITY_KEEP };

struct spool {
    const char *path;
    int sync; /* enum store_sync */
    int64_t sync_interval;
    int64_t max_size;
    int when_full;
    int identity;
    int clock;
    const char *clock_field;
    int clock_unit;
    int64_t clock_wait;

    const struct fms_host *host;
    struct store *store;
    bool is_unflushed; /* something was changed that the disk need not have yet */
    int64_t flush_at;

    /* The sink. */
    struct era_writer *eras; /* NULL: the clock is trusted */
    int64_t look_at;
    enum fms_clock_state clock_state;
    bool is_full; /* it takes nothing until something was removed, or the trouble is over */
    bool is_in_trouble;
    int64_t try_at;

    /* The source. */
    uint64_t next;       /* number of the entry to be emitted next, or of one before it */
    uint64_t *places;    /* a ring of what was emitted, at `place & (ring - 1)`: number * 2, and 1 if settled */
    size_t ring;         /* its size, a power of two, or 0 */
    uint64_t head, tail; /* places: the first that is not settled, and the next to be used */
    uint64_t removed;    /* the entries of places below it are removed */
    int64_t remove_at;   /* FMS_NEVER: nothing is to be removed */
    bool is_stopped;
    struct fms_header *headers;
    struct dater dater;
    struct name name;
    char origins[2][NAME_TEXT]; /* its texts: of `now` and `before` */
    uint64_t fresh;             /* no number from this one on was handed on before this source began */
    uint64_t
        unused; /* no number from this one on is any entry's by the store's name, up to the next that is handed on by it */
    struct fms_identity own, kept;
};

enum { COUNTER_DROPPED, COUNTER_FULL, COUNTER_MENDED, COUNTER_UNSET };

static const struct fms_metric spool_counters[] = {
    [COUNTER_DROPPED] = {"dropped", "records that were removed unread to make room (when_full = drop_oldest)"},
    [COUNTER_FULL] = {"full", "times that the spool, or the disk, was full"},
    [COUNTER_MENDED] = {"mended", "records whose time was mended, for the clock was not set when they were stored"},
    [COUNTER_UNSET] = {"unset", "records that were handed on marked, for their time is not known"},
    {NULL, NULL},
};

enum { GAUGE_RECORDS, GAUGE_BYTES, GAUGE_FREE, GAUGE_DISK, GAUGE_OLDEST, GAUGE_CLOCK };

static const struct fms_metric spool_gauges[] = {
    [GAUGE_RECORDS] = {"records", "records that it holds"},
    [GAUGE_BYTES] = {"bytes", "bytes of these"},
    [GAUGE_FREE] = {"free_bytes", "bytes for which there is still room in max_size"},
    [GAUGE_DISK] = {"disk_free_bytes", "bytes that its disk has left for records; what was removed leaves room, too"},
    [GAUGE_OLDEST] = {"oldest_seconds", "age of the oldest record, by its own time; 0 without one"},
    [GAUGE_CLOCK] =
        {"clock",
         "what the sink knows of the clock: 0 nothing, 1 what a plugin has told, 2 that it is right, or trusted"},
    {NULL, NULL},
};

/* clang-format off */
static const struct fms_option spool_options[] = {
    FMS_OPT_STRING(struct spool, path, FMS_REQUIRED, "directory of the spool; made if it is missing"),
    FMS_OPT_CHOICE(struct spool, sync, "always", "always|interval|off",
                   "when what is stored is written to the disk; the same in sink and source"),
    FMS_OPT_DURATION(struct spool, sync_interval, "1s", FMS_MS, 3600 * FMS_SECOND, "with sync = interval: how often"),
    FMS_OPT_SIZE(struct spool, max_size, STORE_USUAL, 65536, STORE_MOST,
                 "most bytes of records; the files may take twice as much; the same in sink and source"),
    {"when_full", FMS_CHOICE, FMS_FIELD(struct spool, when_full, int), "block", 0, 0, "block|drop_oldest",
     "block: the pipeline waits; drop_oldest: the oldest records are removed unread", NULL, FMS_SINK},
    {"identity", FMS_CHOICE, FMS_FIELD(struct spool, identity, int), "own", 0, 0, "own|keep",
     "own: the spool numbers what it stores; keep: what comes numbered by its origin, as a vehicle's spool, keeps that number", NULL, FMS_SINK},
    {"clock", FMS_CHOICE, FMS_FIELD(struct spool, clock, int), "trusted", 0, 0, "trusted|checked",
     "checked: what is stored while the system does not know its clock to be right is mended when it does, or marked", NULL, FMS_SINK},
    {"clock_field", FMS_STRING, FMS_FIELD(struct spool, clock_field, const char *), NULL, 0, 0, NULL,
     "field of a JSON payload whose time is mended, such as timestamp or position.time; absent: the record's own time alone is", NULL, FMS_SOURCE},
    {"clock_unit", FMS_CHOICE, FMS_FIELD(struct spool, clock_unit, int), "s", 0, 0, "s|ms|us|ns", "what that field counts since 1970", NULL,
     FMS_SOURCE},
    {"clock_wait", FMS_DURATION, FMS_FIELD(struct spool, clock_wait, int64_t), "60s", 0, 3600 * FMS_SECOND, NULL,
     "how long records wait for the clock to be set before they are handed on marked", NULL, FMS_SOURCE},
    FMS_OPT_END,
};
/* clang-format on */

static int spool_fail(const struct spool *self, int error, const char *what)
{
    return fms_fail(self->host, error < -30000 ? -EIO : error, "%s: %s: %s", self->path, what, store_error(error));
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Something was stored or removed. */
static void spool_changed(struct spool *self)
{
    if (self->sync == STORE_ALWAYS || self->is_unflushed)
        return;
    self->is_unflushed = true;
    self->flush_at = fms_now(self->host) + (self->sync == STORE_OFF ? OFF_INTERVAL : self->sync_interval);
}

/* Writes it to the disk when that is due. */
static int spool_flush(struct spool *self, struct fms_wait *wait)
{
    int error = 0;

    if (self->is_unflushed && (fms_now(self->host) >= self->flush_at || store_holds_much(self->store))) {
        error = store_flush(self->store);
        self->is_unflushed = false;
    }
    if (self->is_unflushed)
        wait->deadline = earlier(wait->deadline, self->flush_at);
    return error == 0 ? 0 : spool_fail(self, error, "cannot write to the disk");
}

/* ------------------------------------------------------------------------------------------------------------ the sink */

/* A disk that is full or fails: nothing was stored, and it is tried again. */
static int spool_trouble(struct spool *self, int error)
{
    if (!self->is_in_trouble) {
        fms_count(self->host, COUNTER_FULL, 1);
        fms_error(self->host, "%s: cannot store: %s; the pipeline waits, and tries again", self->path,
                  error == -ENOSPC ? "the disk is full: make room" : store_error(error));
    }
    self->is_in_trouble = true;
    self->is_full = true;
    self->try_at = fms_now(self->host) + TROUBLE_TICK;
    self->flush_at = 0; /* what is held for a power cut is room */
    return 0;
}

/* Looks at the clock, and keeps what is known of it. 0, or the store's error. */
static int spool_look(struct spool *self)
{
    struct fms_clock clock;
    struct era_news news;
    int error;

    fms_clock(self->host, &clock);
    eras_recall(&self->eras->eras, &clock);
    self->clock_state = clock.state;
    self->look_at = fms_now(self->host) + CLOCK_TICK;
    error = era_writer_look(self->eras, self->store, &clock);
    if (error == 0)
        error = eras_learn(self->store, &self->eras->eras, &clock, &news);
    if (error == 0)
        date_tell(self->host, &news);
    return error;
}

/* The era that a record takes at most as much room with as with any. */
static uint32_t spool_any_era(const struct spool *self)
{
    return self->eras != NULL ? ERA_NO_ROOM : ERA_NONE;
}

/* The bytes that it takes at most. */
static size_t spool_size(const struct spool *self, const struct fms_record *record)
{
    const struct fms_identity *identity = self->identity == IDENTITY_KEEP ? spool_record_identity(record) : NULL;

    return spool_record_size(record, spool_any_era(self), identity);
}

/* Settles, before anything is stored, what can never be. How many of the first records that were. */
static size_t spool_reject_oversized(struct spool *self, const struct fms_record *const *records, size_t count)
{
    size_t n = 0;

    while (n < count && spool_size(self, records[n]) + STORE_ENTRY_EXTRA > (size_t)self->max_size) {
        fms_reject(self->host, records[n], "takes %zu bytes, more than max_size = %lld", spool_size(self, records[n]),
                   (long long)self->max_size);
        n++;
    }
    return n;
}

/* How many of the first records are not oversized. */
static size_t spool_fitting(const struct spool *self, const struct fms_record *const *records, size_t count)
{
    size_t n = 0;

    while (n < count && spool_size(self, records[n]) + STORE_ENTRY_EXTRA <= (size_t)self->max_size)
        n++;
    return n;
}

/* Says, once each time, that it is full or drops. */
static void spool_tell(struct spool *self, bool is_full, uint64_t dropped)
{
    if (self->is_in_trouble)
        fms_info(self->host, "%s: stores again", self->path);
    self->is_in_trouble = false;
    if (dropped > 0) {
        fms_count(self->host, COUNTER_DROPPED, dropped);
        fms_warn(self->host, "%s: full: %" PRIu64 " old records were removed unread (when_full = drop_oldest)",
                 self->path, dropped);
    }
    if (is_full && !self->is_full) {
        fms_count(self->host, COUNTER_FULL, 1);
        fms_warn(self->host, "%s: full (max_size = %lld): the pipeline waits until records were handed on", self->path,
                 (long long)self->max_size);
    }
    self->is_full = is_full;
    self->try_at = fms_now(self->host) + WATCH_TICK;
}

/* As many as fit, each under the clock that it was made by. */
static int spool_append(struct spool *self, const struct fms_record *const *records, size_t count, size_t *taken,
                        uint64_t *dropped)
{
    bool drops = self->when_full == FULL_DROP_OLDEST;
    uint32_t eras[BATCH];
    int error;

    if (self->eras == NULL)
        return store_append(self->store, records, NULL, count, drops, taken, dropped);
    error = spool_look(self);
    if (error != 0)
        return error;
    count = count < BATCH ? count : BATCH;
    for (size_t i = 0; i < count; i++)
        eras[i] = era_writer_number(self->eras, records[i]->timestamp);
    return store_append(self->store, records, eras, count, drops, taken, dropped);
}

static int spool_sink_write(void *instance, const struct fms_record *const *records, size_t count)
{
    struct spool *self = instance;
    size_t fitting = spool_fitting(self, records, count), taken;
    uint64_t dropped;
    int error;

    if (fitting == 0)
        return (int)spool_reject_oversized(self, records, count); /* the others are offered again at once */
    if (self->is_in_trouble && fms_now(self->host) < self->try_at)
        return 0;
    error = spool_append(self, records, fitting, &taken, &dropped);
    if (error != 0)
        return spool_trouble(self, error);
    spool_tell(self, taken < fitting, dropped);
    if (taken > 0)
        spool_changed(self);
    for (size_t i = 0; i < taken; i++)
        fms_delivered(self->host, records[i]);
    return (int)taken;
}

static int spool_sink_poll(void *instance, struct fms_wait *wait)
{
    struct spool *self = instance;
    int64_t now = fms_now(self->host);
    bool has_changed;
    int error = spool_flush(self, wait);

    if (error != 0)
        return error;
    if (self->eras != NULL && now >= self->look_at)
        spool_look(self); /* where that fails, the next write does, too, and says so */
    has_changed = store_unwatch(self->store);
    if (self->is_full) {
        wait->fd = store_watch(self->store);
        wait->events = POLLIN;
        wait->deadline = earlier(wait->deadline, self->try_at);
        if (now >= self->try_at || (has_changed && !self->is_in_trouble))
            fms_wake(self->host); /* to be offered again */
    }
    if (self->eras != NULL)
        wait->deadline = earlier(wait->deadline, self->look_at);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- the source */

static uint64_t *spool_place(const struct spool *self, uint64_t place)
{
    return &self->places[place & (self->ring - 1)];
}

/* Room in the ring for one more. */
static bool spool_reserve(struct spool *self)
{
    size_t size = self->ring == 0 ? 1024 : 2 * self->ring;
    uint64_t *grown;

    if (self->tail - self->head < self->ring)
        return true;
    grown = malloc(size * sizeof *grown);
    if (grown == NULL)
        return false;
    for (uint64_t i = self->head; i != self->tail; i++)
        grown[i & (size - 1)] = *spool_place(self, i);
    free(self->places);
    self->places = grown;
    self->ring = size;
    return true;
}

static void spool_advance(struct spool *self)
{
    while (self->head != self->tail && (*spool_place(self, self->head) & 1) != 0)
        self->head++;
    if (self->head > self->removed && self->remove_at == FMS_NEVER)
        self->remove_at = fms_now(self->host) + REMOVE_PAUSE;
}

/* 0: emitted, with a time that is known or says that it is not; -EAGAIN: no room, or it waits for the clock. */
static int spool_emit_dated(struct spool *self, uint32_t era, struct fms_record *draft)
{
    int dated = era == ERA_NONE ? DATE_RIGHT
                                : dater_date(&self->dater, era, self->tail - self->head, draft, self->headers);
    int error = dated >= 0 ? fms_emit(self->host, draft) : dated;

    if (dated == -ENOMEM)
        return fms_fail(self->host, dated, "no memory for a payload of %zu bytes", draft->payload.size);
    if (error == 0 && dated != DATE_RIGHT)
        fms_count(self->host, dated == DATE_MENDED ? COUNTER_MENDED : COUNTER_UNSET, 1);
    return error;
}

/* Where a sink asks for it, what has kept no identity has the store's name, and its own number. */
static void spool_identify(struct spool *self, uint64_t number, struct fms_record *draft)
{
    struct fms_bytes origin = fms_text(self->origins[number >= self->name.now.since ? 0 : 1]);

    if (draft->identity != NULL || origin.size == 0)
        return;
    self->own = (struct fms_identity){
        .kind = FMS_NUMBERED, .origin = origin, .sequence = number, .skipped = number - self->unused};
    draft->identity = &self->own;
}

/* What is damaged is rejected as it stands, with what of its topic and key can be read. */
static int spool_emit_entry(struct spool *self, uint64_t number, struct fms_bytes entry, bool is_damaged)
{
    struct fms_record draft;
    const char *wrong = spool_record_read(entry, self->headers, &self->kept, &draft);
    int error;

    if (!is_damaged && !spool_record_is_known(entry))
        return fms_fail(self->host, -EBADMSG,
                        "%s: entry %" PRIu64 " is of a version that this fmspipe does not know: use the one that wrote"
                        " it, or move the directory away to go on",
                        self->path, number);
    draft.tag[0] = self->tail;
    if (self->host->identities)
        spool_identify(self, number, &draft);
    if (wrong == NULL) {
        error = spool_emit_dated(self, spool_record_era(entry), &draft);
    } else {
        draft.payload = entry;
        draft.headers = NULL;
        draft.header_count = 0;
        error = fms_emit_rejected(self->host, &draft, "%s: entry %" PRIu64 " is damaged: %s", self->path, number,
                                  wrong);
    }
    if (error == 0 && draft.identity == &self->own)
        self->unused = number + 1;
    return error;
}

/* 0: emitted; -EAGAIN: no room. */
static int spool_emit(struct spool *self, uint64_t number, struct fms_bytes entry, bool is_damaged)
{
    int error;

    if (number != self->next && self->next < self->fresh) /* what is gone may have been handed on before */
        self->unused = number < self->fresh ? number : self->fresh;
    self->next = number;
    if (!spool_reserve(self))
        return fms_fail(self->host, -ENOMEM, "no memory for what is in flight");
    error = spool_emit_entry(self, number, entry, is_damaged);
    if (error != 0)
        return error;
    *spool_place(self, self->tail++) = number * 2;
    self->next = number + 1;
    return 0;
}

/* Emits until the credit is used up (*credit is 0 then) or nothing more is there. */
static int spool_read(struct spool *self, size_t *credit)
{
    int error = store_read_begin(self->store, self->next);
    struct fms_bytes entry;
    uint64_t number;

    if (error != 0)
        return spool_fail(self, error, "cannot read");
    dater_begin(&self->dater);
    for (; *credit > 0; --*credit) {
        error = store_next(self->store, &number, &entry);
        if (error < 0)
            break;
        error = spool_emit(self, number, entry, error == STORE_DAMAGED);
        if (error != 0)
            break;
    }
    store_read_end(self->store);
    if (error == -ENOENT || error == -EAGAIN || error == -ESHUTDOWN)
        return 0;
    return error == 0 || error == -EBADMSG || error == -ENOMEM || error == -EINVAL
               ? error
               : spool_fail(self, error, "cannot read");
}

/* What is removed is forgotten; what can't be is tried again, and at worst read again. */
static void spool_remove(struct spool *self)
{
    uint64_t below = self->head != self->tail ? *spool_place(self, self->head) / 2 : self->next;
    int error = store_remove(self->store, below);

    self->remove_at = FMS_NEVER;
    if (error == 0) {
        self->removed = self->head;
        spool_changed(self);
        return;
    }
    fms_warn(self->host, "%s: cannot remove what was delivered, will be tried again: %s", self->path,
             store_error(error));
    self->remove_at = fms_now(self->host) + TROUBLE_TICK;
    self->flush_at = 0; /* what is held for a power cut is room */
}

static int spool_source_poll(void *instance, size_t credit, struct fms_wait *wait)
{
    struct spool *self = instance;
    bool had_credit = credit > 0;
    int64_t look_at;
    int error;

    if (self->is_stopped)
        return FMS_END;
    store_unwatch(self->store);
    error = credit > 0 ? spool_read(self, &credit) : 0;
    look_at = dater_end(&self->dater);
    spool_advance(self);
    if (self->head - self->removed >= REMOVE_BATCH || fms_now(self->host) >= self->remove_at)
        spool_remove(self);
    wait->fd = store_watch(self->store);
    wait->events = POLLIN;
    wait->deadline = earlier(earlier(self->remove_at, look_at), fms_now(self->host) + WATCH_TICK);
    if (error == 0)
        error = spool_flush(self, wait);
    if (had_credit && credit == 0)
        wait->deadline = 0; /* there may be more */
    return error;
}

static void spool_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate)
{
    struct spool *self = instance;
    bool was_idle = self->remove_at == FMS_NEVER;

    (void)fate;
    dater_settled(&self->dater);
    if (self->dater.is_waiting)
        fms_wake(self->host);
    *spool_place(self, record->tag[0]) |= 1;
    if (record->tag[0] == self->head)
        spool_advance(self);
    if (self->remove_at != FMS_NEVER && (was_idle || self->head - self->removed >= REMOVE_BATCH))
        fms_wake(self->host);
}

static void spool_source_stop(void *instance)
{
    struct spool *self = instance;

    self->is_stopped = true;
}

/* ---------------------------------------------------------------------------------------------- check, open and close */

static int spool_check_field(const char *field, const struct fms_host *host)
{
    size_t size = strlen(field);

    if (size > 0 && size < 256 && field[0] != '.' && field[size - 1] != '.' && strstr(field, "..") == NULL)
        return 0;
    return fms_fail_option(
        host, "clock_field", -EINVAL,
        "\"%s\" is no field; accepted are names with dots between, such as timestamp or position.time", field);
}

static void spool_promise(const struct spool *self, const struct fms_host *host)
{
    if (host->role == FMS_SOURCE) {
        fms_promise(host, NULL, FMS_EXACTLY_ONCE,
                    "what was delivered and not yet removed comes again after a crash, and has its number");
        return;
    }
    if (self->sync != STORE_ALWAYS)
        fms_promise(host, "sync", FMS_AT_MOST_ONCE,
                    "a power cut takes what the disk has not got yet: set sync = always");
    if (self->when_full == FULL_DROP_OLDEST)
        fms_promise(host, "when_full", FMS_AT_MOST_ONCE,
                    "a full spool removes its oldest unread: set when_full = block");
    if (self->identity == IDENTITY_KEEP)
        fms_promise(host, "identity", FMS_AT_LEAST_ONCE,
                    "what comes twice is stored twice, with its number, by which a sink behind this spool can know it");
    else
        fms_promise(host, NULL, FMS_EXACTLY_ONCE, "what comes is stored once, whole or not at all");
}

static int spool_check(void *instance, const struct fms_host *host)
{
    struct spool *self = instance;

    spool_promise(self, host);
    if (self->sync == STORE_OFF)
        fms_advise(host, "sync", "a power cut can take what came in the last 30 s; a crash of the process can not");
    if (host->role != FMS_SOURCE && self->identity == IDENTITY_KEEP)
        fms_identify(host, false);
    return self->clock_field != NULL ? spool_check_field(self->clock_field, host) : 0;
}

static int spool_open_failed(const struct spool *self, const struct fms_host *host, int error)
{
    const char *face = host->role == FMS_SOURCE ? "source" : "sink";

    if (error == -EWOULDBLOCK)
        return fms_fail_option(host, "path", -EBUSY, "%s: another %s uses this spool, and one is all that it can have",
                               self->path, face);
    if (error == -EADDRINUSE)
        return fms_fail_option(
            host, "path", error,
            "%s: a process with the id of this one uses this spool, from another container; both halves "
            "need to be in one, or in one PID namespace",
            self->path);
    if (error == -ENOMEM)
        return fms_fail_option(
            host, "max_size", error,
            "%s: twice this size is mapped into memory in one piece, for which this process has no addresses "
            "(32 bits give 4 GiB) or no leave (ulimit -v): make it smaller, in both halves",
            self->path);
    return fms_fail_option(host, "path", error < -30000 ? -EIO : error, "%s: cannot be opened as a spool: %s",
                           self->path, store_error(error));
}

/* The source's part of opening. */
static int spool_open_source(struct spool *self)
{
    static const int64_t units[] = {FMS_SECOND, FMS_MS, FMS_US, 1};
    int path = self->clock_field != NULL ? fms_json_path(self->host, "") : 0;

    self->headers = calloc(SPOOL_HEADERS_MAX + 1, sizeof *self->headers);
    self->dater = (struct dater){
        .host = self->host,
        .store = self->store,
        .mend = {.host = self->host, .field = self->clock_field, .path = path, .unit = units[self->clock_unit]},
        .patience = self->clock_wait};
    self->name = *store_name(self->store);
    name_text(&self->name.now, self->origins[0]);
    name_text(&self->name.before, self->origins[1]);
    self->fresh = store_fresh(self->store);
    return self->headers != NULL && path >= 0 ? 0 : -ENOMEM;
}

/* The sink's part of opening. */
static int spool_open_sink(struct spool *self)
{
    int error;

    if (self->identity == IDENTITY_KEEP)
        store_keep_identities(self->store);
    if (self->clock == CLOCK_TRUSTED)
        return 0;
    self->eras = calloc(1, sizeof *self->eras);
    error = self->eras != NULL ? era_writer_begin(self->eras, self->store) : -ENOMEM;
    return error == 0 ? spool_look(self) : error;
}

static void spool_free(struct spool *self)
{
    store_close(self->store);
    free(self->eras);
    free(self->places);
    free(self->headers);
    free(self->dater.mend.payload.data);
}

static int spool_open(void *instance, const struct fms_host *host)
{
    struct spool *self = instance;
    bool is_source = host->role == FMS_SOURCE;
    struct store_state state;
    int error;

    self->host = host;
    self->remove_at = FMS_NEVER;
    error = store_open(&self->store, self->path, is_source ? STORE_READER : STORE_WRITER, (enum store_sync)self->sync,
                       self->max_size);
    if (error != 0)
        return spool_open_failed(self, host, error);
    error = store_state(self->store, &state);
    if (error == 0)
        error = is_source ? spool_open_source(self) : spool_open_sink(self);
    if (error != 0) {
        spool_free(self);
        return spool_open_failed(self, host, error);
    }
    self->next = self->unused = state.first;
    if (state.count > 0)
        fms_info(host, "%s holds %" PRIu64 " records, %" PRIu64 " bytes", self->path, state.count, state.bytes);
    return 0;
}

static void spool_close(void *instance)
{
    struct spool *self = instance;

    if (self->host->role == FMS_SOURCE) {
        spool_advance(self);
        if (self->head > self->removed)
            spool_remove(self);
    }
    spool_free(self);
}

/* How old the oldest record is, in seconds; 0 where there is none, or none that says so. */
static double spool_oldest(struct spool *self, const struct fms_host *host)
{
    struct fms_bytes entry;
    int64_t age = 0;
    uint64_t number;

    if (store_read_begin(self->store, 0) != 0)
        return 0;
    if (store_next(self->store, &number, &entry) == 0)
        age = date_age(host, self->store, entry);
    store_read_end(self->store);
    return age > 0 ? (double)age / (double)FMS_SECOND : 0; /* a clock may be ahead of ours */
}

static void spool_measure(void *instance)
{
    struct spool *self = instance;
    uint64_t room = store_disk_room(self->store);
    struct store_state state;

    if (store_state(self->store, &state) != 0)
        return;
    if (room != UINT64_MAX)
        fms_gauge(self->host, GAUGE_DISK, (double)room);
    fms_gauge(self->host, GAUGE_RECORDS, (double)state.count);
    fms_gauge(self->host, GAUGE_BYTES, (double)state.bytes);
    fms_gauge(self->host, GAUGE_FREE,
              (double)(state.bytes < (uint64_t)self->max_size ? (uint64_t)self->max_size - state.bytes : 0));
    fms_gauge(self->host, GAUGE_OLDEST, spool_oldest(self, self->host));
    if (self->host->role == FMS_SINK)
        fms_gauge(self->host, GAUGE_CLOCK, (double)(self->eras != NULL ? self->clock_state : FMS_CLOCK_RIGHT));
}

static int spool_probe(void *instance, const struct fms_host *host, int64_t deadline)
{
    struct spool *self = instance;
    struct store_state state;
    int error = store_open(&self->store, self->path, STORE_VISITOR, (enum store_sync)self->sync, self->max_size);
    uint64_t unset;
    double oldest;

    (void)deadline;
    if (error == -ENOENT) {
        fms_report(host, "%s is not there yet; it is made at the start", self->path);
        error = 0;
    } else if (error != 0) {
        error = spool_open_failed(self, host, error);
    } else {
        error = store_state(self->store, &state);
        if (error == 0)
            fms_report(host, "%s holds %" PRIu64 " records, %" PRIu64 " of %lld bytes", self->path, state.count,
                       state.bytes, (long long)self->max_size);
        else
            error = spool_open_failed(self, host, error);
        oldest = spool_oldest(self, host);
        if (oldest > 0)
            fms_report(host, "the oldest record is %.1f s old", oldest);
        unset = date_count_unset(self->store);
        if (unset > 0)
            fms_report(host, "%" PRIu64 " records were stored while the clock was not set", unset);
        store_close(self->store);
    }
    return error;
}

FMS_PLUGIN(.name = "spool", .version = FMS_VERSION, .summary = "A durable queue in a directory, over LMDB",
           .options = spool_options, .counters = spool_counters, .traits = FMS_TRAIT_DURABLE_WRITE | FMS_TRAIT_SINGLE,
           .instance_size = sizeof(struct spool), .check = spool_check, .probe = spool_probe, .open = spool_open,
           .close = spool_close, .source_poll = spool_source_poll, .source_settled = spool_source_settled,
           .source_stop = spool_source_stop, .sink_write = spool_sink_write, .sink_poll = spool_sink_poll,
           .gauges = spool_gauges, .measure = spool_measure);
