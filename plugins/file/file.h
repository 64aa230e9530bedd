/* file.h - the plugin's options, and what its parts call each other by. */
#ifndef FILE_H
#define FILE_H

#include <fms_plugin.h>

enum file_format { FILE_FORMAT_AUTO, FILE_FORMAT_PAYLOAD, FILE_FORMAT_RECORD };
enum file_start { FILE_START_BEGINNING, FILE_START_END };
enum file_on_bad_line { FILE_BAD_LINE_REJECT, FILE_BAD_LINE_STOP, FILE_BAD_LINE_SKIP };
enum file_sync { FILE_SYNC_CLOSE, FILE_SYNC_ALWAYS };

enum { FILE_COUNTER_BAD_LINES, FILE_COUNTER_ROTATIONS, FILE_COUNTER_WRITE_ERRORS };
enum { FILE_GAUGE_POSITION, FILE_GAUGE_UNREAD, FILE_GAUGE_SIZE };

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

int file_source_open(struct file *file);
void file_source_close(void *instance);
int file_source_poll(void *instance, size_t credit, struct fms_wait *wait);
void file_source_settled(void *instance, const struct fms_record *record, enum fms_fate fate);
void file_source_stop(void *instance);
void file_source_measure(void *instance);

int file_sink_open(struct file *file);
void file_sink_close(void *instance);
int file_sink_write(void *instance, const struct fms_record *const *records, size_t count);
int file_sink_poll(void *instance, struct fms_wait *wait);
void file_sink_measure(void *instance);

#endif
