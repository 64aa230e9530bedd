/* lines.h - a file, read in large pieces and cut into lines where they stand. Compiled into the plugins that read files of lines. */
#ifndef LINES_H
#define LINES_H

#include <fms_plugin.h>

struct lines {
    int fd;     /* -1: none */
    size_t max; /* bytes of a line, without its end */
    bool crlf;  /* a carriage return before the line feed is of the end */
    char *buffer;
    size_t capacity;
    size_t start, scanned, end; /* the line in hand, up to where no line feed was found, what was read */
    size_t span;                /* bytes of the line that lines_next gave, with its line feed */
    int64_t offset;             /* in the file, of the line in hand */
    uint64_t number;            /* of that line, from 1; 0: nobody has counted */
    size_t dropped;             /* bytes of it that were too many to keep */
    bool may_block;             /* a pipe or a terminal */
    bool is_complete;           /* nothing follows: what stands after the last line feed is a line */
    size_t budget;              /* bytes that may be read before LINES_PAUSE */
};

enum {
    LINES_LINE = 1,
    LINES_TOO_LONG, /* as a line, but without its bytes */
    LINES_NOTHING,  /* nothing now: poll() says when */
    LINES_PAUSE,    /* the budget is used up */
    LINES_AT_END,   /* of the file as it is now */
};

/* 0 or -ENOMEM. */
int lines_init(struct lines *lines, size_t max);
void lines_free(struct lines *lines);

/* From here on it reads this file from this place. */
void lines_begin(struct lines *lines, int fd, int64_t offset, uint64_t number);

/* The next line, without its end and followed by a NUL byte; or another of the above; or a negative errno. A line must be passed before the
 * next call. */
int lines_next(struct lines *lines, struct fms_bytes *line);
void lines_pass(struct lines *lines);

/* Whether part of a line is there. */
bool lines_has_rest(const struct lines *lines);

/* Where in the file it has read up to. */
int64_t lines_read_up_to(const struct lines *lines);

/* Where the last line that ends with a line feed ends, before `size`; or a negative errno. */
int64_t lines_last_end(int fd, int64_t size);

/* "10", "0.5": how many times as fast as once; a number without sign or exponent, at most a million; -1: it is none. [any] */
double lines_speed(const char *text);

#endif
