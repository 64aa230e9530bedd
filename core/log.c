/* log.c - one line a message, to stderr.
 *
 * A repeated warning is recognised by its stage and the address of its format, since plugins are never unloaded: no
 * caller has to think of it, and texts that differ only in a number count as repetitions. */
#include "log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOG_KNOWN 256 /* repeating messages remembered; a newer one takes the place of an older one */

struct log_known {
    const char *format;
    const char *stage;
    int64_t next; /* not before, monotonic */
    int64_t pause;
    unsigned held_back;
};

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_format log_format = LOG_TEXT;
static enum fms_level log_most = FMS_LOG_INFO;
static log_sink log_user_sink;
static void *log_user;
static struct log_known log_known[LOG_KNOWN];

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

/* The bytes of the UTF-8 character at `c`; 0: none begins there. */
static size_t log_character(const unsigned char *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;
    uint32_t value = size > 1 ? *c & (0x7fu >> size) : *c;

    for (size_t i = 1; i < size; i++) {
        if ((c[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (c[i] & 0x3f);
    }
    return size > 0 && value >= least[size] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff) ? size : 0;
}

/* Text may hold what came from outside: control characters and bytes that are no UTF-8 are written as numbers. */
static void log_escaped(FILE *out, const char *text, bool is_json)
{
    const unsigned char *c = (const unsigned char *)text;

    while (*c != '\0') {
        size_t size = log_character(c);
        bool is_control = (*c < 0x20 && (is_json || *c != '\t')) || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0);

        if (is_json && (*c == '"' || *c == '\\'))
            fprintf(out, "\\%c", *c);
        else if (size == 0 || is_control)
            fprintf(out, is_json ? "\\u%04x" : "\\x%02x", *c == 0xc2 && size == 2 ? c[1] : *c);
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

/* Called with the lock held. The whole line goes out in one write, so that lines of several processes do not mix. */
static void log_out(enum fms_level level, const char *pipeline, const char *stage, const char *text)
{
    char when[40];
    char *line = NULL;
    size_t size = 0;
    FILE *out;

    if (log_user_sink != NULL) {
        log_user_sink(log_user, level, pipeline, stage, text);
        return;
    }
    out = open_memstream(&line, &size);
    if (out == NULL)
        return;
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
        fwrite(line, 1, size, stderr);
    free(line);
}

static void log_format_out(enum fms_level level, const char *pipeline, const char *stage, unsigned held_back,
                           const char *format, va_list args)
{
    char buffer[512];
    char *text = buffer;
    char *longer = NULL;
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(buffer, sizeof buffer, format, args);
    if (n >= (int)sizeof buffer && vasprintf(&longer, format, again) >= 0)
        text = longer;
    va_end(again);
    if (held_back > 0) {
        char *counted = NULL;

        if (asprintf(&counted, "%s (and %u more like it)", text, held_back) >= 0)
            log_out(level, pipeline, stage, counted);
        free(counted);
    } else {
        log_out(level, pipeline, stage, text);
    }
    free(longer);
}

/* Called with the lock held. Whether this message may go out now; *held_back is how many before it did not. `stage` is
 * the name of the stage or, for lack of one, the pipeline's. */
static bool log_may(const char *stage, const char *format, unsigned *held_back)
{
    size_t hash = ((uintptr_t)format / 8 + (uintptr_t)stage / 16 * 31) % LOG_KNOWN;
    struct log_known *known = &log_known[hash];
    struct timespec spec;
    int64_t now;

    clock_gettime(CLOCK_MONOTONIC, &spec);
    now = spec.tv_sec * FMS_SECOND + spec.tv_nsec;
    *held_back = 0;
    if (known->format != format || known->stage != stage)
        *known = (struct log_known){format, stage, now, 0, 0};
    if (now < known->next) {
        known->held_back++;
        return false;
    }
    *held_back = known->held_back;
    known->held_back = 0;
    if (known->pause == 0 || now > known->next + 2 * known->pause)
        known->pause = FMS_SECOND; /* it was quiet */
    else if (known->pause < 64 * FMS_SECOND)
        known->pause *= 2;
    known->next = now + known->pause;
    return true;
}

void log_vline(enum fms_level level, const char *pipeline, const char *stage, const char *format, va_list args)
{
    unsigned held_back = 0;

    pthread_mutex_lock(&log_lock);
    if (level <= log_most && (level > FMS_LOG_WARN || log_may(stage != NULL ? stage : pipeline, format, &held_back)))
        log_format_out(level, pipeline, stage, held_back, format, args);
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
    pthread_mutex_lock(&log_lock);
    if (n >= 0 && level <= log_most)
        log_out(level, NULL, NULL, whole);
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
