/* log.h - one line a message, to stderr, as text or as JSON. All functions: any thread. */
#ifndef FMS_LOG_H
#define FMS_LOG_H

#include <stdio.h>

#include "fms_plugin.h"

enum log_format { LOG_TEXT, LOG_JSON };

/* Where lines go instead of stderr, for tests; `text` has no newline. */
typedef void (*log_sink)(void *user, enum fms_level level, const char *pipeline, const char *stage, const char *text);

void log_setup(enum log_format format, enum fms_level most);
void log_redirect(log_sink sink, void *user);

/* Each line from now on goes there as well, under the logger's lock: `observer` takes no time, and does not log. NULL: no more,
 * and it is not called any more once this returns. */
void log_observe(log_sink observer, void *user);

/* Errors and warnings of this thread from now on go there as well, a line each, even those that are held back. NULL: no more. */
void log_capture(FILE *to);

/* Nothing that logs waits for who reads stderr: a thread of the logger's own writes. This waits, for at most `timeout`, until
 * that has written all; not for a reader that has stopped reading. The end of the process does it by itself, _exit and abort do
 * not. */
void log_flush(int64_t timeout);

/* pipeline and stage may be NULL. Warnings and errors that repeat (same stage, same format, same text but for quoted parts and
 * words that hold a digit) are held back for 1 s, 2 s, ... 64 s, and the next one says how many were. */
void log_line(enum fms_level level, const char *pipeline, const char *stage, const char *format, ...) FMS_PRINTF(4, 5);
void log_vline(enum fms_level level, const char *pipeline, const char *stage, const char *format, va_list args);

/* When what repeats is said: after 1 s, 2 s, ... 64 s, and at once where it has not come for 64 s. Begins with `next` alone. */
struct log_pause {
    int64_t next; /* not before, monotonic */
    int64_t length;
    unsigned held_back;
};

/* Whether it is said `now`, and how many were not said before it. */
bool log_pause_over(struct log_pause *pause, int64_t now, unsigned *held_back);

/* As above but never held back: for configuration errors, which differ by their arguments only. `line` 0: none. */
void log_config(enum fms_level level, const char *file, int line, const char *format, ...) FMS_PRINTF(4, 5);
void log_vconfig(enum fms_level level, const char *file, int line, const char *format, va_list args);

/* Hides the passwords and the queries of URLs, in place. Log lines have gone through it; for what is cut off or printed. */
void log_redact(char *text);

/* And those of addresses whose scheme was forgotten, user:password@host, for what shows values of a pipeline file. */
void log_redact_config(char *text);

/* Writes a JSON string, quotes included; what is no UTF-8 is written as code points of its bytes. One thread at a time per
 * `out`. */
void log_json_string(FILE *out, const char *text);

#endif
