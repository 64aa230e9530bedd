/* file_record.h - a record as one line of JSON, and back, byte for byte. */
#ifndef FILE_RECORD_H
#define FILE_RECORD_H

#include <fms_plugin.h>
#include <jansson.h>

#define FILE_RECORD_HEADERS_MAX 1000

struct file_text {
    char *data;
    size_t size, capacity;
};

/* Room for so many bytes more. False: no memory. */
bool file_text_reserve(struct file_text *text, size_t more);

/* Appends the record, without a line feed. 0 or -ENOMEM. */
int file_record_write(const struct fms_record *record, struct file_text *to);

/* Keeps what the draft that was read last points to. Zeroed at first. */
struct file_record_reader {
    json_t *root;
    struct file_text decoded; /* what stood as base64 */
    struct fms_header headers[FILE_RECORD_HEADERS_MAX];
    char wrong[256];
};

/* Fills the draft in; `now` is its time if the line has none. NULL, or what is wrong with the line. */
const char *file_record_read(struct file_record_reader *reader, struct fms_bytes line, int64_t now,
                             struct fms_record *draft);

void file_record_reader_free(struct file_record_reader *reader);

#endif
