/* file.h - the plugin's options, and what its parts call each other by. */
#ifndef FILE_H
#define FILE_H

#include <fms_plugin.h>

enum format { FORMAT_AUTO, FORMAT_PAYLOAD, FORMAT_RECORD };
enum start { START_BEGINNING, START_END };
enum on_bad_line { BAD_LINE_REJECT, BAD_LINE_STOP, BAD_LINE_SKIP };
enum sync { SYNC_CLOSE, SYNC_ALWAYS };

enum { COUNTER_BAD_LINES, COUNTER_ROTATIONS, COUNTER_WRITE_ERRORS };

struct file {
    const char *path; /* "-": standard input or output */
    int format;       /* from check on one of the latter two */

    /* The source's. */
    bool follow;
    int start;
    const char *position;
    int64_t position_interval;
    const char *speed_text;
    int64_t max_gap;
    int64_t max_line;
    bool crlf;
    int on_bad_line;
    const char *topic, *key, *time;

    /* The sink's. */
    bool append;
    int sync;
    int64_t rotate_size, rotate_keep;

    const struct fms_host *host;
    struct source *source;
    struct sink *sink;
};

/* "10", "0.5": a number without sign or exponent, at most a million; -1: it is none. */
double file_speed(const char *text);

int source_open(struct file *file);
void source_close(void *instance);
int source_poll(void *instance, size_t credit, struct fms_wait *wait);
void source_settled(void *instance, const struct fms_record *record, enum fms_fate fate);
void source_stop(void *instance);

int sink_open(struct file *file);
void sink_close(void *instance);
int sink_write(void *instance, const struct fms_record *const *records, size_t count);
int sink_poll(void *instance, struct fms_wait *wait);

#endif
