/* log.c - one line a message, to stderr.
 *
 * Whoever logs never waits: lines are queued, and a thread of the logger's own, begun with the first of them, writes them.
 * What reads standard error may stop reading (a full pipe, Ctrl-S), and its description is shared with other processes, so
 * that it cannot be made non-blocking. The queue is bounded; what finds no room in it is dropped and counted, and the count is
 * told when there is room again.
 *
 * A repeated warning is recognised by its stage, the address of its format, since plugins are never unloaded, and its kind: its
 * text without what stands in quotes and without words that hold a digit. So no caller has to think of it, texts that differ
 * only in a number count as repetitions, and a reason that another has given ("record goes to dead letters: %s") is told apart
 * from the next. What a peer may choose of a text has a bound: beyond LOG_KINDS new kinds of a format it is thinned as one. */
#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "thread.h"

#define LOG_KNOWN    256 /* repeating messages remembered; a newer one takes the place of an older one */
#define LOG_KINDS    16  /* new kinds of a stage and format that are told apart within ... */
#define LOG_LEARNS   (64 * FMS_SECOND)
#define LOG_PAUSE    (64 * FMS_SECOND) /* the longest; and so long must a message stay away to be new again */
#define LOG_QUEUE    (256u << 10)      /* bytes of lines that wait to be written */
#define LOG_PATIENCE FMS_SECOND /* a write that lasts longer has nobody who reads: log_flush does not wait for it */
#define LOG_AT_EXIT  (5 * FMS_SECOND)

struct log_queued {
    struct log_queued *next;
    char *line;
    size_t size;
};

struct log_known {
    const char *format;
    const char *stage;
    uint64_t kind; /* 0: any */
    struct log_pause pause;
    unsigned learnt; /* kinds of it, since, if it is of any kind */
    int64_t learns_since;
};

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_format log_format = LOG_TEXT;
static enum fms_level log_most = FMS_LOG_INFO;
static log_sink log_user_sink;
static void *log_user;
static _Thread_local FILE *log_copy; /* NULL: none */
static log_sink log_observer;
static void *log_observer_user;
static struct log_known log_known[LOG_KNOWN], log_kinds[LOG_KNOWN]; /* of any kind; by kind */

/* All under log_lock. The line that is being written is the queue's first until it is. */
static struct log_queued *log_first, *log_last;
static size_t log_bytes;
static unsigned long log_dropped;
static pthread_cond_t log_changed; /* made with the thread */
static bool log_has_thread;
static int64_t log_writes_since; /* monotonic; 0: it does not */

static const char *const log_names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_format format, enum fms_level most)
{
    pthread_mutex_lock(&log_lock);
    log_format = format;
    log_most = most;
    pthread_mutex_unlock(&log_lock);
}

void log_redirect(log_sink sink, void *user)
{
    pthread_mutex_lock(&log_lock);
    log_user_sink = sink;
    log_user = user;
    memset(log_known, 0, sizeof log_known);
    memset(log_kinds, 0, sizeof log_kinds);
    pthread_mutex_unlock(&log_lock);
}

void log_observe(log_sink observer, void *user)
{
    pthread_mutex_lock(&log_lock);
    log_observer = observer;
    log_observer_user = user;
    pthread_mutex_unlock(&log_lock);
}

static void log_timestamp(char *text, size_t size)
{
    struct timespec now;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, size - n, ".%03ldZ", now.tv_nsec / 1000000);
}

/* The bytes of the UTF-8 character at `c`, which is in *value; 0: none begins there. */
static size_t log_character(const unsigned char *c, uint32_t *value)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;

    *value = size > 1 ? *c & (0x7fu >> size) : *c;
    for (size_t i = 1; i < size; i++) {
        if ((c[i] & 0xc0) != 0x80)
            return 0;
        *value = *value << 6 | (c[i] & 0x3f);
    }
    if (*value < least[size] || *value > 0x10ffff || (*value >= 0xd800 && *value <= 0xdfff))
        return 0;
    return size;
}

/* Control characters, those that part lines or turn the direction of what follows, and those that cannot be seen. */
static bool log_is_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

/* JSON has 16 bits in an escape; text has bytes, and characters where they are more than one. */
static void log_number(FILE *out, uint32_t value, bool is_json)
{
    if (is_json && value > 0xffff)
        fprintf(out, "\\u%04x\\u%04x", 0xd800 + ((value - 0x10000) >> 10), 0xdc00 + (value & 0x3ff));
    else if (is_json || value > 0xff)
        fprintf(out, value > 0xffff ? "\\U%08x" : "\\u%04x", value);
    else
        fprintf(out, "\\x%02x", value);
}

/* Text may hold what came from outside: what could forge or hide other text, and bytes that are no UTF-8, are written as
 * numbers. */
static void log_escaped(FILE *out, const char *text, bool is_json)
{
    const unsigned char *c = (const unsigned char *)text;

    while (*c != '\0') {
        uint32_t value;
        size_t size = log_character(c, &value);

        if (is_json && (*c == '"' || *c == '\\'))
            fprintf(out, "\\%c", *c);
        else if (size == 0)
            log_number(out, *c, is_json);
        else if (log_is_hidden(value) && (is_json || value != '\t'))
            log_number(out, value, is_json);
        else
            fwrite(c, 1, size, out);
        c += size > 0 ? size : 1;
    }
}

void log_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    log_escaped(out, text, true);
    fputc('"', out);
}

static void log_json_member(FILE *out, const char *name, const char *text)
{
    fprintf(out, ",\"%s\":", name);
    log_json_string(out, text);
}

/* Three asterisks at most in the place of what stands from `from` to `to`; what follows moves up to the returned end. */
static char *log_hide(char *from, char *to)
{
    size_t stars = to - from < 3 ? (size_t)(to - from) : 3;

    memset(from, '*', stars);
    memmove(from + stars, to, strlen(to) + 1);
    return from + stars;
}

/* "1883", and no more of it */
static bool log_is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits > 0 && !isalnum((unsigned char)text[digits]);
}

/* `url` is what follows ://. Where a password holds a slash or a blank, as it must not, too much is hidden rather than too
 * little. Returns what is still to be looked at. */
static char *log_redact_url(char *url)
{
    char *end = url + strcspn(url, " \t\n"), *at = memrchr(url, '@', (size_t)(end - url));
    char *bracket = *url == '[' ? memchr(url, ']', (size_t)(end - url)) : NULL;
    char *colon = memchr(bracket != NULL ? bracket : url, ':', (size_t)(end - (bracket != NULL ? bracket : url)));

    if (at == NULL && colon != NULL && !log_is_port(colon + 1))
        at = strchr(end, '@');
    if (at != NULL && colon != NULL && colon < at)
        url = log_hide(colon + 1, at);
    end = url + strcspn(url, " \t\n\"");
    url = memchr(url, '?', (size_t)(end - url));
    return url != NULL ? log_hide(url + 1, end) : end;
}

void log_redact(char *text)
{
    while ((text = strstr(text, "://")) != NULL)
        text = log_redact_url(text + 3);
}

void log_redact_config(char *text)
{
    static const char between[] = " \t\n\",";

    log_redact(text);
    for (text += strspn(text, between); *text != '\0'; text += strspn(text, between)) {
        size_t size = strcspn(text, between);
        char *colon = memchr(text, ':', size), *at = memrchr(text, '@', size);

        if (colon != NULL && at != NULL && colon < at && strncmp(colon, "://", 3) != 0)
            log_hide(colon + 1, at);
        text += strcspn(text, between);
    }
}

/* The whole line, in memory of its own; NULL: out of memory. */
static char *log_render(enum fms_level level, const char *pipeline, const char *stage, const char *text, size_t *size)
{
    char when[40];
    char *line = NULL;
    FILE *out = open_memstream(&line, size);

    if (out == NULL)
        return NULL;
    log_timestamp(when, sizeof when);
    if (log_format == LOG_JSON) {
        fprintf(out, "{\"time\":\"%s\",\"level\":\"%s\"", when, log_names[level]);
        if (pipeline != NULL)
            log_json_member(out, "pipeline", pipeline);
        if (stage != NULL)
            log_json_member(out, "stage", stage);
        log_json_member(out, "message", text);
        fputs("}\n", out);
    } else {
        fprintf(out, "%s %-5s ", when, log_names[level]);
        if (pipeline != NULL)
            fprintf(out, "%s%s%s: ", pipeline, stage != NULL ? ", " : "", stage != NULL ? stage : "");
        log_escaped(out, text, false);
        fputc('\n', out);
    }
    if (fclose(out) == 0)
        return line;
    free(line);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- the writer */

/* A line in one write, so that lines of several processes do not mix. What cannot be written is lost: there is nobody left
 * to tell. */
static void log_write(const char *line, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, line, size);
        struct pollfd output = {STDERR_FILENO, POLLOUT, 0};

        if (n > 0) {
            line += n;
            size -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) { /* who shares the description has made it non-blocking */
            poll(&output, 1, -1);
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

/* Called with the lock held. Whether there was room for the line, which is then taken. */
static bool log_append(char *line, size_t size)
{
    bool has_room = line != NULL && (log_first == NULL || log_bytes + size <= LOG_QUEUE);
    struct log_queued *queued = has_room ? malloc(sizeof *queued) : NULL;

    if (queued == NULL)
        return false;
    *queued = (struct log_queued){NULL, line, size};
    if (log_first == NULL)
        log_first = queued;
    else
        log_last->next = queued;
    log_last = queued;
    log_bytes += size;
    pthread_cond_broadcast(&log_changed);
    return true;
}

/* Called with the lock held. Says, where they would have stood, how many lines were dropped; whether there was room. */
static bool log_tell_dropped(void)
{
    char text[128];
    char *line;
    size_t size = 0;

    snprintf(text, sizeof text, "%lu log lines were dropped: what reads standard error did not keep up", log_dropped);
    line = log_render(FMS_LOG_WARN, NULL, NULL, text, &size);
    if (!log_append(line, size)) {
        free(line);
        return false;
    }
    log_dropped = 0;
    return true;
}

static void log_write_first(void)
{
    struct log_queued *first = log_first;

    log_writes_since = clock_monotonic();
    pthread_mutex_unlock(&log_lock);
    log_write(first->line, first->size);
    pthread_mutex_lock(&log_lock);
    log_writes_since = 0;
    log_first = first->next;
    log_bytes -= first->size;
    free(first->line);
    free(first);
    pthread_cond_broadcast(&log_changed);
}

static void *log_run(void *unused)
{
    pthread_mutex_lock(&log_lock);
    for (;;) {
        if (log_first != NULL)
            log_write_first();
        else if (log_dropped == 0 || !log_tell_dropped())
            pthread_cond_wait(&log_changed, &log_lock);
    }
    return unused;
}

static void log_at_exit(void)
{
    log_flush(LOG_AT_EXIT);
}

/* Called with the lock held. */
static bool log_start(void)
{
    pthread_t thread;

    if (log_has_thread)
        return true;
    clock_cond_init(&log_changed);
    log_has_thread = thread_start(&thread, log_run, NULL) == 0;
    if (log_has_thread) {
        pthread_detach(thread);
        atexit(log_at_exit);
    }
    return log_has_thread;
}

void log_flush(int64_t timeout)
{
    int64_t now = clock_monotonic(), deadline = clock_monotonic_in(timeout);

    pthread_mutex_lock(&log_lock);
    for (; log_has_thread && (log_first != NULL || log_dropped > 0); now = clock_monotonic()) {
        int64_t until = (log_writes_since > 0 ? log_writes_since : now) + LOG_PATIENCE; /* or it is about to begin */
        struct timespec at;

        if (until > deadline)
            until = deadline;
        if (now >= until)
            break;
        at = clock_timespec(until);
        pthread_cond_timedwait(&log_changed, &log_lock, &at);
    }
    pthread_mutex_unlock(&log_lock);
}

/* ------------------------------------------------------------------------------------------------------------ lines */

void log_capture(FILE *to)
{
    log_copy = to;
}

static void log_copy_line(enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    if (log_copy == NULL || level > FMS_LOG_WARN)
        return;
    fprintf(log_copy, "%s: %s%s%s%s%s\n", level == FMS_LOG_ERROR ? "error" : "warning",
            pipeline != NULL ? pipeline : "", pipeline != NULL ? ": " : "", stage != NULL ? stage : "",
            stage != NULL ? ": " : "", text);
}

/* Called with the lock held. */
static void log_out(enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    char *line;
    size_t size = 0;

    if (log_observer != NULL)
        log_observer(log_observer_user, level, pipeline, stage, text);
    if (log_user_sink != NULL) {
        log_user_sink(log_user, level, pipeline, stage, text);
        return;
    }
    line = log_render(level, pipeline, stage, text, &size);
    if (!log_start()) { /* no thread is to be had */
        log_write(line, line != NULL ? size : 0);
        free(line);
        return;
    }
    if (log_dropped > 0 && log_bytes <= LOG_QUEUE / 2)
        log_tell_dropped();
    if (log_dropped > 0 || !log_append(line, size)) { /* in one gap rather than here and there */
        log_dropped++;
        free(line);
    }
}

/* The bytes of what a text begins with: a word, what stands in quotes, or another character; and whether that makes its kind. */
static size_t log_piece(const char *text, bool *makes_kind)
{
    size_t size = 0;

    *makes_kind = *text != '"';
    if (*text == '"') {
        size = 1 + strcspn(text + 1, "\"");
        return size + (text[size] == '"');
    }
    for (; isalnum((unsigned char)text[size]); size++)
        *makes_kind = *makes_kind && !isdigit((unsigned char)text[size]);
    return size > 0 ? size : 1;
}

static uint64_t log_kind(const char *text)
{
    uint64_t kind = UINT64_C(14695981039346656037); /* FNV */

    while (*text != '\0') {
        bool makes_kind;
        size_t size = log_piece(text, &makes_kind);

        for (size_t i = 0; i < size && makes_kind; i++)
            kind = (kind ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
        text += size;
    }
    return kind | 1;
}

static struct log_known *log_place(struct log_known *table, const char *stage, const char *format, uint64_t kind)
{
    return &table[((uintptr_t)format / 8 + (uintptr_t)stage / 16 * 31 + (kind >> 32)) % LOG_KNOWN];
}

static bool log_knows(const struct log_known *known, const char *stage, const char *format, uint64_t kind)
{
    return known->format == format && known->stage == stage && known->kind == kind;
}

/* What this message repeats. */
static struct log_known *log_find(const char *stage, const char *format, const char *text, int64_t now)
{
    struct log_known *any = log_place(log_known, stage, format, 0), *known;
    uint64_t kind = log_kind(text);

    if (!log_knows(any, stage, format, 0))
        *any = (struct log_known){.format = format, .stage = stage, .pause.next = now, .learns_since = now};
    if (now - any->learns_since >= LOG_LEARNS) {
        any->learns_since = now;
        any->learnt = 0;
    }
    known = log_place(log_kinds, stage, format, kind);
    if (log_knows(known, stage, format, kind))
        return known;
    if (any->learnt == LOG_KINDS)
        return any;
    any->learnt++;
    *known = (struct log_known){.format = format, .stage = stage, .kind = kind, .pause.next = now};
    return known;
}

bool log_pause_over(struct log_pause *pause, int64_t now, unsigned *held_back)
{
    if (now < pause->next) {
        pause->held_back++;
        return false;
    }
    *held_back = pause->held_back;
    pause->held_back = 0;
    if (pause->length == 0 || now > pause->next + LOG_PAUSE)
        pause->length = FMS_SECOND; /* it was quiet */
    else if (pause->length < LOG_PAUSE)
        pause->length *= 2;
    pause->next = now + pause->length;
    return true;
}

/* Called with the lock held. Whether this message may go out now; *held_back is how many before it did not. `stage` is
 * the name of the stage or, for lack of one, the pipeline's. */
static bool log_may(const char *stage, const char *format, const char *text, unsigned *held_back)
{
    int64_t now = clock_monotonic();

    return log_pause_over(&log_find(stage, format, text, now)->pause, now, held_back);
}

/* Called with the lock held. */
static void log_text(enum fms_level level, const char *pipeline, const char *stage, const char *format, char *text)
{
    unsigned held_back = 0;
    char *counted = NULL;

    log_redact(text);
    log_copy_line(level, pipeline, stage, text);
    if (level <= FMS_LOG_WARN && !log_may(stage != NULL ? stage : pipeline, format, text, &held_back))
        return;
    if (held_back == 0)
        log_out(level, pipeline, stage, text);
    else if (asprintf(&counted, "%s (and %u more like it)", text, held_back) >= 0)
        log_out(level, pipeline, stage, counted);
    free(counted);
}

void log_vline(enum fms_level level, const char *pipeline, const char *stage, const char *format, va_list args)
{
    char buffer[512];
    char *longer = NULL;
    va_list again;
    int n;

    pthread_mutex_lock(&log_lock);
    if (level <= log_most) {
        va_copy(again, args);
        n = vsnprintf(buffer, sizeof buffer, format, args);
        if (n < (int)sizeof buffer || vasprintf(&longer, format, again) < 0)
            longer = NULL;
        va_end(again);
        log_text(level, pipeline, stage, format, longer != NULL ? longer : buffer);
        free(longer);
    }
    pthread_mutex_unlock(&log_lock);
}

void log_line(enum fms_level level, const char *pipeline, const char *stage, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vline(level, pipeline, stage, format, args);
    va_end(args);
}

void log_vconfig(enum fms_level level, const char *file, int line, const char *format, va_list args)
{
    char *text = NULL;
    char *whole = NULL;
    int n;

    if (vasprintf(&text, format, args) < 0)
        return;
    n = line > 0 ? asprintf(&whole, "%s:%d: %s", file, line, text) : asprintf(&whole, "%s: %s", file, text);
    if (n >= 0)
        log_redact_config(whole);
    pthread_mutex_lock(&log_lock);
    if (n >= 0 && level <= log_most) {
        log_copy_line(level, NULL, NULL, whole);
        log_out(level, NULL, NULL, whole);
    }
    pthread_mutex_unlock(&log_lock);
    free(whole);
    free(text);
}

void log_config(enum fms_level level, const char *file, int line, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vconfig(level, file, line, format, args);
    va_end(args);
}
