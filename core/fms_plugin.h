/* fms_plugin.h - all that a plugin of fmspipe needs: one header, no library to link.
 *
 * A plugin is a shared object with one static table, made by FMS_PLUGIN(...) at the end of its file. It is a source, a
 * transform, a sink, or several of these; the section of the pipeline file in which it stands decides which.
 *
 *     broker -> source -> transform -> ... -> sink -> broker        records travel forward: emit
 *               source <--------------------- sink                  their fates travel back: settle
 *
 * The promise that a plugin must keep: a sink settles each record it took exactly once, and as FMS_DELIVERED only when
 * the far end has confirmed it. A source acknowledges, commits or forgets its input only when `source_settled` says so.
 *
 * Threads, in brackets at each function:
 *   [control]  a thread that builds or dismantles a pipeline: check, probe, open, close. Never at the same time as
 *              [lane] functions of the same pipeline.
 *   [lane]     the pipeline's one thread of control. Whatever runs there needs no lock and must not block: who holds it
 *              for seconds is warned of.
 *   [any]      any thread, a library's callback too.
 * The host checks this at run time and names the plugin that broke it.
 *
 * Units: times and durations are nanoseconds in int64_t, sizes are bytes. Functions return 0, or a negative errno.
 * Strings are UTF-8. Host-made memory belongs to the host unless a line says otherwise. */
#ifndef FMS_PLUGIN_H
#define FMS_PLUGIN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when an old plugin would misread its host or the reverse. Tables grow at their end without raising it. */
#define FMS_ABI 1

#define FMS_US     INT64_C(1000)
#define FMS_MS     (INT64_C(1000) * FMS_US)
#define FMS_SECOND (INT64_C(1000) * FMS_MS)
#define FMS_NEVER  INT64_MAX /* a deadline that does not come */

#if defined(__GNUC__)
#define FMS_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define FMS_EXPORT              __attribute__((visibility("default")))
#else
#define FMS_PRINTF(text, first)
#define FMS_EXPORT
#endif

/* ---------------------------------------------------------------------------------------------------------- records */

/* `size` bytes. Absent is data == NULL, which differs from empty: a Kafka null key, a tombstone's payload. */
struct fms_bytes {
    const void *data;
    size_t size;
};

struct fms_header {
    const char *name; /* NUL-terminated */
    struct fms_bytes value;
};

/* Who a message is, so that it is known when it comes again: after a crash of the vehicle, of a broker, or of this
 * process. Either its origin has numbered it, for good, with a number that no other message of it ever has; or a broker
 * sends again what it has seen no acknowledgement of. Sources tell it, and a sink that can writes each message once. */
enum fms_identity_kind {
    FMS_NUMBERED = 1, /* `sequence` is the origin's own number; later ones are greater, but may come in any order */
    FMS_RESENT = 2,   /* `sequence` is the broker's identifier of it, which it uses again for others */
};

#define FMS_ORIGIN_MOST 255 /* bytes */
#define FMS_PART_LETTER UINT32_C(0x80000000)

struct fms_identity {
    enum fms_identity_kind kind;
    struct fms_bytes origin; /* whose numbers, or whose identifiers: 1 to FMS_ORIGIN_MOST bytes, unique for good */
    uint64_t sequence;
    uint64_t skipped;  /* FMS_NUMBERED: so many numbers right below are no record's, and never will be; 0..sequence */
    uint64_t print[2]; /* FMS_RESENT: a hash of all that is delivered of it */
    bool may_repeat;   /* FMS_RESENT: an earlier one of this sequence and print may be the same; else it is new */

    /* The host's, which a source leaves at zero. */

    bool is_end; /* nothing is to be written: all that was made of it is settled, if anything was; see fms_identify */
    /* 0: the whole record. 1, 2, ...: the first, the second, ... that transforms made of it, in the order in which they
     * were made; FMS_PART_LETTER - 1: itself, where it goes on beside these. FMS_PART_LETTER and more: a dead letter of
     * it, another for each stage that rejected it or a part of it. Who has the whole record need not have its letters:
     * only is_end says that everything is settled. */
    uint32_t part;
};

/* One message. A source fills one in and hands it to fms_emit, which copies everything once; a record that the host
 * hands out is immutable, and each of its topic, key, payload and header values is followed by a NUL byte that `size`
 * does not count. To change a record, a transform copies this struct, sets fields, and calls fms_emit_child. */
struct fms_record {
    struct fms_bytes topic;
    struct fms_bytes key;
    struct fms_bytes payload;
    const struct fms_header *headers;
    size_t header_count; /* 0..1000 */
    int64_t timestamp;   /* nanoseconds since 1970 UTC; 0 where unknown */
    uint64_t tag[2];     /* the source's own words (an offset, a packet id); only the source may give them a meaning */
    /* NULL: none is known, or no sink asked for it. A child's, or a dead letter's, is that of the source's record but
     * for `part`, whatever a transform says. */
    const struct fms_identity *identity;
};

/* What became of a record. */
enum fms_fate {
    FMS_DELIVERED = 1, /* the far end confirmed it */
    FMS_RETRY = 2,     /* not delivered; offer it again. Sinks only */
    FMS_REJECTED = 3,  /* can never be delivered: goes to dead letters, or where on_reject says */
};

/* What a transform says of a record. */
enum fms_verdict {
    FMS_PASS = 0,  /* it goes on as it is */
    FMS_DROP = 1,  /* it ends here and counts as delivered; with children: as soon as the last of them is */
    FMS_KEPT = 2,  /* the transform has it: it was rejected with fms_reject, or will be passed or settled later */
    FMS_AGAIN = 3, /* fms_emit_child found no room, and only then: call me with the same record when there is some */
};

static inline struct fms_bytes fms_bytes_of(const void *data, size_t size)
{
    struct fms_bytes bytes = {data, size};
    return bytes;
}

static inline struct fms_bytes fms_text(const char *text)
{
    return fms_bytes_of(text, text == NULL ? 0 : strlen(text));
}

/* What a JSON value is. */
enum fms_json_type {
    FMS_JSON_MISSING = 0, /* there is no such field */
    FMS_JSON_NULL,
    FMS_JSON_BOOLEAN,
    FMS_JSON_NUMBER,
    FMS_JSON_STRING,
    FMS_JSON_ARRAY,
    FMS_JSON_OBJECT,
};

/* A JSON value as it stands in a payload; not followed by a NUL byte. */
struct fms_json {
    enum fms_json_type type;
    bool escaped;          /* a string with backslashes in it: see fms_json_unescape */
    struct fms_bytes text; /* of a string: what stands between the quotes */
};

/* What becomes of a message over crashes, power cuts and lost connections. */
enum fms_once {
    FMS_AT_MOST_ONCE = 1,  /* it may be lost */
    FMS_AT_LEAST_ONCE = 2, /* it may come, or be written, twice */
    FMS_EXACTLY_ONCE = 3,  /* neither; a source: what comes again has the identity that it had */
};

/* How well fms_realtime is known. */
enum fms_clock_state {
    FMS_CLOCK_UNKNOWN = 0, /* it may be wrong by years: the machine started without a clock, and nobody has set it */
    FMS_CLOCK_TOLD = 1,    /* it is what a plugin has told with fms_tell_time */
    FMS_CLOCK_RIGHT = 2,   /* the system's is synchronised, as timedatectl says, or was and has not jumped since */
};

/* Where fms_realtime stands. */
struct fms_clock {
    enum fms_clock_state state;
    int64_t offset; /* of fms_realtime from `uptime`: changes when the clock jumps, by 100 ms or more, and only then */
    int64_t uptime; /* nanoseconds since the machine started, asleep or awake; nobody sets it */
    uint64_t boot[2]; /* names this start of the machine; where the system does not say, that of the process */
};

/* ---------------------------------------------------------------------------------------------------------- options */

/* The type of an option, and of the field of the instance into which the host puts it before `check` and `open`.
 * Everything that a field points to lives until `close` has returned. */
enum fms_option_type {
    FMS_STRING = 1,     /* const char *; NULL when absent */
    FMS_SECRET,         /* const char *; never printed nor logged; see fms_renew */
    FMS_INTEGER,        /* int64_t */
    FMS_BOOLEAN,        /* bool: yes/no, true/false, on/off */
    FMS_DURATION,       /* int64_t nanoseconds: 250us, 250ms, 2s, 5m, 1h, 7d; a bare 0 */
    FMS_SIZE,           /* int64_t bytes: 512, 64KiB, 10MiB, 1GiB; kB, MB, GB are powers of 1000 */
    FMS_CHOICE,         /* int: the position of the value in `choices` */
    FMS_LIST,           /* struct fms_list: separated by commas */
    FMS_TEMPLATE,       /* const struct fms_template *, for fms_expand; NULL when absent */
    FMS_PAIRS,          /* struct fms_pairs: all options that begin with `name`, which ends in a dot */
    FMS_TEMPLATE_PAIRS, /* struct fms_pairs whose values are templates */
};

struct fms_list {
    const char *const *items;
    size_t count;
};

struct fms_template; /* text with ${...}, compiled by the host */

struct fms_pair {
    const char *name;                /* without the prefix */
    const char *value;               /* NULL in FMS_TEMPLATE_PAIRS */
    const struct fms_template *text; /* NULL in FMS_PAIRS */
    const char *option;              /* the whole name as it stands in the file, for fms_fail_option */
};

struct fms_pairs {
    const struct fms_pair *items; /* in the order of the file */
    size_t count;
};

enum fms_role { FMS_SOURCE = 1, FMS_TRANSFORM = 2, FMS_SINK = 4, FMS_DEAD_LETTER = 8 };

struct fms_option {
    const char *name;
    enum fms_option_type type;
    size_t offset;        /* of the field in the instance */
    const char *fallback; /* as it would stand in a file; FMS_REQUIRED; or NULL: absent, 0, no, empty */
    int64_t min, max;     /* FMS_INTEGER, FMS_DURATION, FMS_SIZE: both ends allowed */
    const char *choices;  /* FMS_CHOICE: "realtime|throughput" */
    const char *help;     /* one sentence without a full stop */
    const char *unique;   /* a word such as "MQTT client id": two stages of a process with one value are warned of, and
                           * each shard of a file must have its own; of a FMS_LIST: the shards alone, of each item */
    uint32_t roles;       /* the roles that have this option, as a sum; 0: all */
};

#define FMS_REQUIRED "\001"

/* The offset of a field, checked at compile time to have the type T that the option or the host puts there. */
#ifdef __cplusplus
extern "C++" {
template <typename T, typename Field> struct fms_is_same {
    static const bool value = false;
};
template <typename T> struct fms_is_same<T, T> {
    static const bool value = true;
};
template <typename T, typename Field> constexpr size_t fms_field(size_t offset)
{
    static_assert(fms_is_same<T, Field>::value,
                  "this field must have the type that the host puts there: see enum fms_option_type in fms_plugin.h");
    return offset;
}
}
#define FMS_FIELD(S, field, T) (fms_field<T, decltype(((S *)0)->field)>(offsetof(S, field)))
#else
#define FMS_FIELD(S, field, T)                                                                                         \
    (offsetof(S, field) + 0 * sizeof(struct {                                                                          \
                              _Static_assert(_Generic(((S *)0)->field, T : 1, default : 0),                            \
                                             "the field " #field " must have the type " #T                             \
                                             ", which is what its option fills");                                      \
                              int unused;                                                                              \
                          }))
#endif

/* clang-format off */
#define FMS_OPT_(S, f, T, type, fallback, min, max, choices, help) \
    {#f, type, FMS_FIELD(S, f, T), fallback, min, max, choices, help, NULL, 0}
#define FMS_OPT_STRING(S, f, fallback, help) FMS_OPT_(S, f, const char *, FMS_STRING, fallback, 0, 0, NULL, help)
#define FMS_OPT_SECRET(S, f, fallback, help) FMS_OPT_(S, f, const char *, FMS_SECRET, fallback, 0, 0, NULL, help)
#define FMS_OPT_INTEGER(S, f, fallback, min, max, help) FMS_OPT_(S, f, int64_t, FMS_INTEGER, fallback, min, max, NULL, help)
#define FMS_OPT_BOOLEAN(S, f, fallback, help) FMS_OPT_(S, f, bool, FMS_BOOLEAN, fallback, 0, 0, NULL, help)
#define FMS_OPT_DURATION(S, f, fallback, min, max, help) FMS_OPT_(S, f, int64_t, FMS_DURATION, fallback, min, max, NULL, help)
#define FMS_OPT_SIZE(S, f, fallback, min, max, help) FMS_OPT_(S, f, int64_t, FMS_SIZE, fallback, min, max, NULL, help)
#define FMS_OPT_CHOICE(S, f, fallback, choices, help) FMS_OPT_(S, f, int, FMS_CHOICE, fallback, 0, 0, choices, help)
#define FMS_OPT_LIST(S, f, fallback, help) FMS_OPT_(S, f, struct fms_list, FMS_LIST, fallback, 0, 0, NULL, help)
#define FMS_OPT_TEMPLATE(S, f, fallback, help) FMS_OPT_(S, f, const struct fms_template *, FMS_TEMPLATE, fallback, 0, 0, NULL, help)
#define FMS_OPT_PAIRS(S, f, prefix, help) \
    {prefix, FMS_PAIRS, FMS_FIELD(S, f, struct fms_pairs), NULL, 0, 0, NULL, help, NULL, 0}
#define FMS_OPT_TEMPLATE_PAIRS(S, f, prefix, help) \
    {prefix, FMS_TEMPLATE_PAIRS, FMS_FIELD(S, f, struct fms_pairs), NULL, 0, 0, NULL, help, NULL, 0}
#define FMS_OPT_UNIQUE(S, f, fallback, unique, help) \
    {#f, FMS_STRING, FMS_FIELD(S, f, const char *), fallback, 0, 0, NULL, help, unique, 0}
#define FMS_OPT_UNIQUE_LIST(S, f, fallback, unique, help) \
    {#f, FMS_LIST, FMS_FIELD(S, f, struct fms_list), fallback, 0, 0, NULL, help, unique, 0}
#define FMS_OPT_END {NULL, FMS_STRING, 0, NULL, 0, 0, NULL, NULL, NULL, 0}
/* clang-format on */

/* ------------------------------------------------------------------------------------------------------------- host */

enum fms_level { FMS_LOG_ERROR = 0, FMS_LOG_WARN = 1, FMS_LOG_INFO = 2, FMS_LOG_DEBUG = 3 };

/* What a stage waits for until it is polled again; the host sets {-1, 0, FMS_NEVER} before each poll. */
struct fms_wait {
    int fd;           /* polled when ready for `events`; -1: none */
    short events;     /* POLLIN, POLLOUT of <poll.h> */
    int64_t deadline; /* on fms_now's clock; not after now means at once */
};

/* The host's services to one stage. Valid from before `check` until `close` has returned. Use the short forms below. */
struct fms_host {
    uint32_t size;        /* of this table in the host that made it */
    enum fms_role role;   /* of this stage */
    const char *pipeline; /* its name when this stage was made; a change of the file may give it another */
    const char *stage;    /* "source", "transform check", "sink kafka", "dead_letter" */
    bool durable_sinks;   /* each sink of this pipeline has FMS_TRAIT_DURABLE_WRITE; sources: from `open` on */

    void (*log)(const struct fms_host *, enum fms_level, const char *format, ...) FMS_PRINTF(3, 4);
    int (*failure)(const struct fms_host *, const char *option, int error, const char *format, ...) FMS_PRINTF(4, 5);
    void (*advise)(const struct fms_host *, const char *option, const char *format, ...) FMS_PRINTF(3, 4);
    void (*report)(const struct fms_host *, const char *format, ...) FMS_PRINTF(2, 3);
    void (*count)(const struct fms_host *, size_t counter, uint64_t n);

    int64_t (*now)(const struct fms_host *);
    int64_t (*realtime)(const struct fms_host *);
    int64_t (*backoff)(const struct fms_host *, int64_t min, int64_t max, unsigned attempt);

    int (*emit)(const struct fms_host *, const struct fms_record *draft);
    int (*emit_child)(const struct fms_host *, const struct fms_record *parent, const struct fms_record *draft);
    int (*pass)(const struct fms_host *, const struct fms_record *);
    void (*settle)(const struct fms_host *, const struct fms_record *, enum fms_fate);
    enum fms_verdict (*refuse)(const struct fms_host *, const struct fms_record *, enum fms_fate, const char *reason,
                               ...) FMS_PRINTF(4, 5); /* FMS_KEPT */
    int (*expand)(const struct fms_host *, const struct fms_template *, const struct fms_record *, struct fms_bytes *);

    void (*room)(const struct fms_host *, size_t *records, size_t *bytes);
    size_t (*drain)(const struct fms_host *, int64_t deadline);
    void (*wake)(const struct fms_host *);
    void (*enter)(const struct fms_host *);
    void (*leave)(const struct fms_host *);
    void (*finish)(const struct fms_host *);

    int (*json_path)(const struct fms_host *, const char *path);
    int (*json_get)(const struct fms_host *, const struct fms_record *, int path, struct fms_json *);
    bool (*json_next)(struct fms_bytes *rest, struct fms_json *name, struct fms_json *value);
    size_t (*json_unescape)(const struct fms_json *, char *to);

    int (*emit_rejected)(const struct fms_host *, const struct fms_record *draft, const char *reason, ...)
        FMS_PRINTF(3, 4);
    void (*gauge)(const struct fms_host *, size_t gauge, double value);
    void (*observe)(const struct fms_host *, size_t duration, int64_t nanoseconds);
    void (*link)(const struct fms_host *, bool is_up, const char *why, ...) FMS_PRINTF(3, 4);
    bool watched; /* somebody may look, so that even what costs all the time may be measured; from `open` on */
    int (*renew)(const struct fms_host *, const char *option);
    void (*clock)(const struct fms_host *, struct fms_clock *);
    void (*tell_time)(const struct fms_host *, int64_t utc);

    bool identities; /* a sink of this pipeline has called fms_identify; sources: from `open` on */
    void (*identify)(const struct fms_host *, bool with_ends);
    int (*progress)(const struct fms_host *, const struct fms_record *const *records, size_t count, struct fms_bytes *);
    bool (*owns)(const struct fms_host *, const struct fms_record *);
    void (*promise)(const struct fms_host *, const char *option, enum fms_once, const char *format, ...)
        FMS_PRINTF(4, 5);
};

/* Logs one line, prefixed with pipeline and stage. printf's format. A warning or an error that repeats (the same
 * format, and the same text but for quoted parts and words that hold a digit) is held back, longer each time, and then
 * says how often it came. [any] */
#define fms_error(host, ...) ((host)->log((host), FMS_LOG_ERROR, __VA_ARGS__))
#define fms_warn(host, ...)  ((host)->log((host), FMS_LOG_WARN, __VA_ARGS__))
#define fms_info(host, ...)  ((host)->log((host), FMS_LOG_INFO, __VA_ARGS__))
#define fms_debug(host, ...) ((host)->log((host), FMS_LOG_DEBUG, __VA_ARGS__))

/* fms_fail(host, error, "what, where, what to do", ...): logs an error and returns `error`, a negative errno, for
 * `return fms_fail(...)` in check, probe, open and the operations. fms_fail_option(host, "brokers", error, ...) says
 * first in which line of which file the option stands. [any] */
#define fms_fail(host, error, ...)                ((host)->failure((host), NULL, (error), __VA_ARGS__))
#define fms_fail_option(host, option, error, ...) ((host)->failure((host), (option), (error), __VA_ARGS__))

/* A warning of a trap in the configuration, with file and line of `option` (NULL: of the section); for `check`.
 * [control] */
#define fms_advise(host, option, ...) ((host)->advise((host), (option), __VA_ARGS__))

/* fms_promise(host, "qos", FMS_AT_MOST_ONCE, "why, and what to do about it", ...): what a source or a sink makes of its
 * messages, as it is configured; with file and line of the option (NULL: of the section). `fmspipe check` tells what
 * the pipeline promises, and shows each reason for which that is not exactly once; of FMS_EXACTLY_ONCE, what it rests
 * on. It may be said several times; who says nothing is taken for one that may repeat. In check only. [control] */
#define fms_promise(host, option, once, ...) ((host)->promise((host), (option), (once), __VA_ARGS__))

/* A line of what `probe` found. [control] */
#define fms_report(host, ...) ((host)->report((host), __VA_ARGS__))

/* Adds n to the plugin's counter of that place in its `counters`. [any] */
static inline void fms_count(const struct fms_host *host, size_t counter, uint64_t n)
{
    host->count(host, counter, n);
}

/* Sets the plugin's gauge of that place in its `gauges`: a value as it is now. What is no number, or infinite,
 * changes nothing. [any] */
static inline void fms_gauge(const struct fms_host *host, size_t gauge, double value)
{
    host->gauge(host, gauge, value);
}

/* One more duration, in nanoseconds, in the plugin's histogram of that place in its `durations`; what is negative
 * counts as 0. [any] */
static inline void fms_observe(const struct fms_host *host, size_t duration, int64_t nanoseconds)
{
    host->observe(host, duration, nanoseconds);
}

/* For a plugin with FMS_TRAIT_LINK: its far end is there and answers; fms_link_down(host, "reason", ...): it does not,
 * and why, in a sentence for an operator. It may be said again at any time, and what is new is the reason: a link is
 * down since the first of them. From `open` on it is down until it was up, without a word. Nothing is logged. [any] */
#define fms_link_up(host)        ((host)->link((host), true, "%s", ""))
#define fms_link_down(host, ...) ((host)->link((host), false, __VA_ARGS__))

/* Reads again what a text option, a secret or a pair has from files (${file:PATH}), for who is about to connect:
 * fms_renew(host, "password"), or "kafka.sasl.password", as it stands in the pipeline file. The field, or the pair's
 * value, then points to the text as it is now; that before it lives until it changes once more.
 * 1: it is another. 0: it is the same; or it cannot be read now, so that the last one stays, and the host warns of it,
 * once. -ENOENT: nothing of it comes from a file, so that it never changes. -EINVAL: there is no such option.
 * [any], but while nobody else uses that field */
static inline int fms_renew(const struct fms_host *host, const char *option)
{
    return host->renew(host, option);
}

/* The clock of all deadlines: monotonic, not before 0. [any] */
static inline int64_t fms_now(const struct fms_host *host)
{
    return host->now(host);
}

/* Nanoseconds since 1970 UTC. It may jump, by years and back: see fms_clock. [any] */
static inline int64_t fms_realtime(const struct fms_host *host)
{
    return host->realtime(host);
}

/* What is known of fms_realtime: a few readings of clocks, and each second a system call. [any] */
static inline void fms_clock(const struct fms_host *host, struct fms_clock *clock)
{
    host->clock(host, clock);
}

/* For who hears the time from a bus or a satellite: it is this now, in nanoseconds since 1970 UTC. Say it whenever it
 * is heard. While the system does not know its clock to be right, the third word that agrees to a second with those
 * before it becomes fms_realtime for all of the process, until the system knows; a clock that is right to a second
 * stays as it is. [any] */
static inline void fms_tell_time(const struct fms_host *host, int64_t utc)
{
    host->tell_time(host, utc);
}

/* How long to wait before attempt number `attempt` (0: the first repetition): min doubled as often, at most max, minus
 * a random part of up to a half, so that a fleet does not come back at one instant. [any] */
static inline int64_t fms_backoff(const struct fms_host *host, int64_t min, int64_t max, unsigned attempt)
{
    return host->backoff(host, min, max, attempt);
}

/* A source's record enters the pipeline; all of `draft` is copied, once, before this returns.
 * 0: taken, and source_settled will tell its fate. A record that is larger than max_in_flight_bytes, or has more than
 * 1000 headers, is taken and rejected.
 * -EAGAIN: no room now. Stop taking input and keep this one, to emit it before any other; source_poll is called when
 * there is room for it.
 * -ESHUTDOWN: the pipeline takes nothing more; forget it unacknowledged. -EINVAL: a malformed draft, logged.
 * [lane], or any thread between fms_enter and fms_leave */
static inline int fms_emit(const struct fms_host *host, const struct fms_record *draft)
{
    return host->emit(host, draft);
}

/* fms_emit_rejected(host, draft, "reason", ...): a source's message that cannot become a good record. It enters the
 * pipeline as by fms_emit and is rejected at once under the source's name: so it goes to dead letters, or where
 * on_reject says. Returns as fms_emit; source_settled tells its fate as of any other. What does not fit
 * max_in_flight_bytes is left out, the topic last; headers behind the 995th, too, for a dead letter has 5 of its own.
 * Threads as fms_emit. */
#define fms_emit_rejected(host, ...) ((host)->emit_rejected((host), __VA_ARGS__))

/* A transform makes a record out of another, and may do so several times; the parent is delivered when it was dropped
 * (FMS_DROP, or settled later) and all its children are. It may be rejected instead, and then ends when they are
 * delivered. The child's tag is its parent's.
 * 0: taken. -EAGAIN: no room; return FMS_AGAIN, remembering how many children were emitted, and the next call is for
 * the same record; in transform_poll, try again in the next one. -EMSGSIZE: no room, and there will never be any, for
 * nothing else is in flight, or a child with more than 1000 headers; reject the record, at once or when its other
 * children are emitted, or return FMS_AGAIN, and the host rejects it. -EINVAL: a malformed draft, or a parent that the
 * transform has not, as it has settled it or passed it on; -EPERM: from a thread that is not the lane, or by no
 * transform: these are named, and the pipeline stops. [lane] */
static inline int fms_emit_child(const struct fms_host *host, const struct fms_record *parent,
                                 const struct fms_record *draft)
{
    return host->emit_child(host, parent, draft);
}

/* A transform passes on a record that it had kept. [lane] */
static inline int fms_pass(const struct fms_host *host, const struct fms_record *record)
{
    return host->pass(host, record);
}

/* The record is delivered: by a sink, once the far end confirmed it; by a transform, to drop one that it had kept. The
 * caller must not touch the record afterwards. [any] for sinks, [lane] for transforms */
static inline void fms_delivered(const struct fms_host *host, const struct fms_record *record)
{
    host->settle(host, record, FMS_DELIVERED);
}

/* fms_retry(host, record, "reason", ...): not delivered; the host offers it again, after a pause, in emit order. Sinks
 * only. From here on the host offers nothing until all that the sink took is settled; the sink must not deliver a later
 * record of the same key either, and what it still holds it settles as retry too. So only the lane may say it: a thread
 * of the sink's own leaves it to sink_poll, which it asks for with fms_wake, and rests until then. [lane] */
#define fms_retry(host, record, ...) ((host)->refuse((host), (record), FMS_RETRY, __VA_ARGS__))

/* fms_reject(host, record, "reason", ...): it can never be delivered, and why. Transforms: `return fms_reject(...)`.
 * Threads as fms_delivered. */
#define fms_reject(host, record, ...) ((host)->refuse((host), (record), FMS_REJECTED, __VA_ARGS__))

/* The text of a template for this record. 0: *value is the text, followed by a NUL byte, until the next call with the
 * same template or until the record is settled. -ENOENT: something it names is missing and has no default; *value says
 * what, for fms_reject. Templates of the same pipeline parse a record's JSON together, once; of a draft that the caller
 * made itself (each value NUL-terminated), anew at each call. With record NULL, the text if it is the same for all
 * records, else -ENOENT. [lane], and in check, probe and open */
static inline int fms_expand(const struct fms_host *host, const struct fms_template *text,
                             const struct fms_record *record, struct fms_bytes *value)
{
    return host->expand(host, text, record, value);
}

/* Names a field of the payload for fms_json_get: "speed", "position.lat", "axles.0.load", or "" for the whole of it. A
 * number from 0; -EINVAL for a path with an empty part; -ENOMEM. In check and open only. [control] */
static inline int fms_json_path(const struct fms_host *host, const char *path)
{
    return host->json_path(host, path);
}

/* The field of a record's payload. All fields that a pipeline's stages and templates name are found together, in one
 * pass, the first time that one is asked for. 0, with value->type FMS_JSON_MISSING where there is none; of a key that
 * stands more than once the last counts. -EBADMSG: the payload is no JSON object (RFC 8259), and value->text says why
 * and at which byte, for fms_reject, until the next call. Of a payload that is an array, "" is all of it and "0.speed"
 * a field of its first item; what is not there is -EBADMSG, too ("it is an array: split it first"), and never
 * FMS_JSON_MISSING. A value lives as long as the record; of a draft that the caller made itself, whose fields are
 * found anew at each call, as long as its payload. [lane] */
static inline int fms_json_get(const struct fms_host *host, const struct fms_record *record, int path,
                               struct fms_json *value)
{
    return host->json_get(host, record, path, value);
}

/* The next member of an object, or the next item of an array, whose name is FMS_JSON_MISSING, in the order in which
 * they stand. *rest begins as the text of an FMS_JSON_OBJECT or FMS_JSON_ARRAY that fms_json_get or this function gave,
 * or of one that is known to be well-formed, as a library's; and shrinks. False: there is none. [any] */
static inline bool fms_json_next(const struct fms_host *host, struct fms_bytes *rest, struct fms_json *name,
                                 struct fms_json *value)
{
    return host->json_next(rest, name, value);
}

/* A string's text with its escapes decoded, as UTF-8, into `to`, which has room for string->text.size bytes. Returns
 * how many there are; no NUL byte follows. [any] */
static inline size_t fms_json_unescape(const struct fms_host *host, const struct fms_json *string, char *to)
{
    return host->json_unescape(string, to);
}

/* A sink, or that of dead letters, asks for the identities of records; where none does, there are none that would cost.
 * With `with_ends` it is also offered each record of the source's with an identity that was dropped, rejected, or made
 * into others, when all of these are settled: after them, with is_end. It notes the number as done, writes nothing, and
 * settles it as delivered, or to be offered again; to reject it breaks a rule. It may have had such a record before, as
 * a whole, where another sink rejected it. In check only. [control] */
static inline void fms_identify(const struct fms_host *host, bool with_ends)
{
    host->identify(host, with_ends);
}

/* For a sink that makes the source's own progress durable together with records: how far that has got once these
 * records, which the sink has taken and not settled, are settled. What is not the last to be settled of a record of the
 * source's counts as not settled, for somebody else has a part of it yet. Some of `records` may be NULL. 0: *progress
 * is the source's, in bytes that sinks of its kind know, until the next call. -ENOTSUP: the source tells nothing.
 * -ESTALE: it has lost some of these records to another process; see fms_owns. Another negative errno: it could not.
 * [lane] */
static inline int fms_progress(const struct fms_host *host, const struct fms_record *const *records, size_t count,
                               struct fms_bytes *progress)
{
    return host->progress(host, records, count, progress);
}

/* Whether a record is still for this pipeline to write. What the source has lost to another process, which will write
 * it, a sink with transactions settles as delivered, and writes nothing. [lane] */
static inline bool fms_owns(const struct fms_host *host, const struct fms_record *record)
{
    return host->owns(host, record);
}

/* How much may still be emitted: records, and bytes of them with their bookkeeping, some 300 each. [lane], in probe */
static inline void fms_room(const struct fms_host *host, size_t *records, size_t *bytes)
{
    host->room(host, records, bytes);
}

/* For a source that must settle before it can go on (a Kafka revoke): runs sinks, settlements and retries, and so calls
 * source_settled, until nothing is in flight or the deadline has come. Returns how many records are left. [lane],
 * from source_poll only */
static inline size_t fms_drain(const struct fms_host *host, int64_t deadline)
{
    return host->drain(host, deadline);
}

/* Polls this stage soon; a sink is offered records again. [any] */
static inline void fms_wake(const struct fms_host *host)
{
    host->wake(host);
}

/* A thread of the source's library becomes the lane until fms_leave, which offers what was emitted to the sinks and
 * tells the source what they have settled, before it returns. Blocks while the lane is busy elsewhere, never for long.
 * For sources only. A sink or transform must not hold, in its [lane] functions, a lock that such a thread holds when it
 * enters: one whose library calls back under a lock of its own therefore sends from a thread of its own. [any] but the
 * lane */
static inline void fms_enter(const struct fms_host *host)
{
    host->enter(host);
}
static inline void fms_leave(const struct fms_host *host)
{
    host->leave(host);
}

/* Ends the pipeline without an error: nothing more is emitted, what is in flight is drained as far as other sinks can,
 * and the rest is left unacknowledged (a closed pipe, a sink's own count reached). [any] */
static inline void fms_finish(const struct fms_host *host)
{
    host->finish(host);
}

/* ----------------------------------------------------------------------------------------------------------- plugin */

/* A sink whose sink_write has made each record durable and settled it before it returns. */
#define FMS_TRAIT_DURABLE_WRITE 1u
/* It has a far end that it connects to, and says so with fms_link_up and fms_link_down: a pipeline is ready when it is
 * up. */
#define FMS_TRAIT_LINK 2u
/* A sink of which there can be only one at a time, for it locks a file or has a client id: where a pipeline is changed
 * while it runs, the old one is closed before the new one is opened. Sources are anyway. */
#define FMS_TRAIT_SINGLE 4u

#define FMS_END 1 /* from source_poll: the input has ended, nothing more will come */

/* Something that a plugin counts or measures. A metric's name is the plugin's and this one:
 * fmspipe_lines_reconnects_total of a plugin "lines". So it says what and, unless it is a number of things, in which
 * unit: "reconnects", "queue_bytes", "round_trip_seconds". Durations are told in seconds. */
struct fms_metric {
    const char *name; /* a-z, 0-9 and _; begins with a letter; no other counter, gauge or duration has it */
    const char *help; /* a sentence without a full stop */
};

/* The plugin. Unset members are zero; name, version, summary and one role's operation are required. */
struct fms_plugin {
    uint32_t abi;                      /* set by FMS_PLUGIN */
    uint32_t size;                     /* set by FMS_PLUGIN */
    const char *name;                  /* equal to the file's name without .so */
    const char *version;               /* "1.0.0" */
    const char *summary;               /* one line for `fmspipe plugins` */
    const struct fms_option *options;  /* ends with FMS_OPT_END; NULL: none */
    const struct fms_metric *counters; /* ends with {NULL, NULL}; NULL: none */
    size_t instance_size;              /* of the zeroed memory that holds options and state, aligned as by malloc */
    uint32_t traits;

    /* Checks what the option table cannot, and warns of traps with fms_advise; touches neither network nor disk, and
     * keeps nothing that would have to be released. Called before open and by `fmspipe check`. [control] */
    int (*check)(void *instance, const struct fms_host *host);
    /* Connects once, within the deadline, and tells with fms_report what it found: broker, round trip, whether the
     * topic is there. Releases everything again. Called after check, without open. [control] */
    int (*probe)(void *instance, const struct fms_host *host, int64_t deadline);
    /* Starts; never waits for the network. After a failure close is not called: release what was made. NULL: nothing
     * to do, for the host is kept by `.host`. [control] */
    int (*open)(void *instance, const struct fms_host *host);
    /* Stops. Records that are not settled by now are given up unacknowledged; afterwards no thread of the plugin may
     * call the host. Sources are closed first, one stage after the other. The plugins of a pipeline have 15 s for it
     * together, after which a process in which nothing else runs ends without them; so who waits for a far end takes a
     * few seconds of that. What fms_fail says in here makes the run a failed one, for what can be judged only when
     * nothing more comes. [control] */
    void (*close)(void *instance);

    /* Source: takes input and emits at most `credit` records (0: none, but keep connections alive), then says in
     * `wait` what to wait for; with credit 0 only for what it can serve without emitting. 0, FMS_END, or a negative
     * errno, which fails the pipeline. [lane] */
    int (*source_poll)(void *instance, size_t credit, struct fms_wait *wait);
    /* Source: the record's fate is FMS_DELIVERED, or FMS_REJECTED where it was dropped as on_reject = drop says;
     * acknowledge it. A record in dead letters is delivered. Called once a record, in any order, never from within
     * fms_emit; not at all for what the pipeline gave up. NULL: the source has no memory. [lane] */
    void (*source_settled)(void *instance, const struct fms_record *record, enum fms_fate fate);
    /* Source: take no more input. What is already on its way may still be emitted until source_poll, which goes on
     * being called with credit 0, returns FMS_END; then what is in flight is settled, and the source is closed. Where
     * records are left whose fate nobody decides any more (rejected under on_reject = stop, a sink that failed), it is
     * closed without FMS_END once the others are told and it does not wait to write. NULL: the source needs no notice
     * and is not polled again. [lane] */
    void (*source_stop)(void *instance);

    /* Transform: see enum fms_verdict. [lane] */
    enum fms_verdict (*transform)(void *instance, const struct fms_record *record);
    /* Transform: called at the start and when `wait` says. 0 or a negative errno. [lane] */
    int (*transform_poll)(void *instance, struct fms_wait *wait);
    /* Transform: pass or settle what is kept, for the source was told to stop or has ended. What is kept of records
     * that come after that is flushed by another call. [lane] */
    void (*transform_flush)(void *instance);

    /* Sink: takes the first n of `count` records (1..256) in emit order and returns n; the host offers the rest when
     * one of this sink's records is settled or it calls fms_wake. Each taken record is settled exactly once, now or
     * later, in any order, from any thread, but fms_retry on the lane. `records` is valid for the call, a record until
     * it is settled. A negative errno fails the pipeline; but -ENOTUNIQ (from any stage's functions: what it does is
     * another process's by now, and whoever restarts it would take that back) leaves the process running: the pipeline
     * closes its source and stands still, until a reload brings another stage in its place. [lane] */
    int (*sink_write)(void *instance, const struct fms_record *const *records, size_t count);
    /* Sink: called at the start, after writes, and when `wait` says. 0 or a negative errno. [lane] */
    int (*sink_poll)(void *instance, struct fms_wait *wait);

    uint32_t host_size; /* set by FMS_PLUGIN: of fms_host as the plugin knows it */
    size_t host; /* FMS_HOST(struct lines, host): the field into which the host puts itself before check; 0: none */

    const struct fms_metric *gauges;    /* as counters: what goes up and down */
    const struct fms_metric *durations; /* as counters: histograms */
    /* Sets gauges whose values are not at hand: somebody is about to look. At most some times a second, and not at all
     * where nobody does. NULL: nothing to do. [lane] */
    void (*measure)(void *instance);

    uint32_t record_size; /* set by FMS_PLUGIN: of fms_record as the plugin knows it; 0: without `identity` */

    /* Source: see fms_progress; these records are its own, in flight, and about to be settled for good. The bytes live
     * until the next call. 0, -ESTALE, or another negative errno. NULL: it tells nothing. [lane] */
    int (*source_progress)(void *instance, const struct fms_record *const *records, size_t count,
                           struct fms_bytes *progress);
    /* Source: see fms_owns. NULL: it loses none. [lane] */
    bool (*source_owns)(void *instance, const struct fms_record *record);
};

/* For `.host`: a field of the type const struct fms_host *. */
#define FMS_HOST(S, field) (FMS_FIELD(S, field, const struct fms_host *) + 1)

#define FMS_ENTRY_(abi) fms_plugin_abi_##abi
#define FMS_ENTRY(abi)  FMS_ENTRY_(abi)

#ifdef __cplusplus
#define FMS_EXTERN_C extern "C"
#define FMS_UNSET_IS_ZERO                                                                                              \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wmissing-field-initializers\"")
#define FMS_UNSET_END _Pragma("GCC diagnostic pop")
#else
#define FMS_EXTERN_C
#define FMS_UNSET_IS_ZERO /* C compilers know designated initializers */
#define FMS_UNSET_END
#endif

/* FMS_PLUGIN(.name = "lines", ..., .sink_write = lines_write); once, at the end of the file. */
#define FMS_PLUGIN(...)                                                                                                \
    FMS_EXTERN_C FMS_EXPORT const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void);                                         \
    FMS_UNSET_IS_ZERO                                                                                                  \
    FMS_EXTERN_C const struct fms_plugin *FMS_ENTRY(FMS_ABI)(void)                                                     \
    {                                                                                                                  \
        static struct fms_plugin plugin = {.abi = FMS_ABI, .size = sizeof(struct fms_plugin), __VA_ARGS__};            \
        plugin.host_size = sizeof(struct fms_host);                                                                    \
        plugin.record_size = sizeof(struct fms_record);                                                                \
        return &plugin;                                                                                                \
    }                                                                                                                  \
    FMS_UNSET_END                                                                                                      \
    struct fms_plugin /* swallows the semicolon */

#ifdef __cplusplus
}
#endif

#endif
