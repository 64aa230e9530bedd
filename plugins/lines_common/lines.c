/* lines.c - see lines.h.
 *
 * `offset` is always the beginning of a line, also while the bytes of a long one are dropped: whoever remembers it can
 * begin there again. */
#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE ((size_t)256 * 1024) /* bytes a read() */

int lines_init(struct lines *lines, size_t max)
{
    *lines = (struct lines){.fd = -1, .max = max, .capacity = max + PIECE + 1};
    lines->buffer = malloc(lines->capacity);
    return lines->buffer != NULL ? 0 : -ENOMEM;
}

void lines_free(struct lines *lines)
{
    if (lines->fd >= 0)
        close(lines->fd);
    free(lines->buffer);
}

void lines_begin(struct lines *lines, int fd, int64_t offset, uint64_t number)
{
    lines->fd = fd;
    lines->start = lines->scanned = lines->end = lines->dropped = 0;
    lines->offset = offset;
    lines->number = number;
    lines->is_complete = false;
}

bool lines_has_rest(const struct lines *lines)
{
    return lines->end > lines->start || lines->dropped > 0;
}

int64_t lines_read_up_to(const struct lines *lines)
{
    return lines->offset + (int64_t)(lines->dropped + lines->end - lines->start);
}

/* One read(), behind what is there. 0: something came. */
static int lines_fill(struct lines *lines)
{
    struct pollfd input = {lines->fd, POLLIN, 0};
    ssize_t n;

    if (lines->budget == 0)
        return LINES_PAUSE;
    if (lines->may_block && poll(&input, 1, 0) != 1)
        return LINES_NOTHING;
    memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
    lines->end -= lines->start;
    lines->scanned -= lines->start;
    lines->start = 0;
    n = read(lines->fd, lines->buffer + lines->end, lines->capacity - 1 - lines->end);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? LINES_NOTHING : -errno;
    lines->end += (size_t)n;
    lines->budget -= (size_t)n < lines->budget ? (size_t)n : lines->budget;
    return n > 0 ? 0 : LINES_AT_END;
}

/* Forgets what is there of a line that is too long; its end is still to come. */
static void lines_drop(struct lines *lines)
{
    lines->dropped += lines->end - lines->start;
    lines->start = lines->scanned = lines->end;
}

void lines_pass(struct lines *lines)
{
    if (lines->span == 0) {
        lines_drop(lines);
        return;
    }
    lines->offset += (int64_t)(lines->dropped + lines->span);
    lines->number += lines->number > 0;
    lines->dropped = 0;
    lines->start = lines->scanned = lines->start + lines->span;
}

/* A line of which `size` bytes are there, and behind them perhaps a line feed; 0: it was dropped, and now has passed. */
static int lines_cut(struct lines *lines, size_t size, bool has_feed, struct fms_bytes *line)
{
    lines->span = size + has_feed;
    if (lines->dropped > 0) {
        lines_pass(lines);
        return 0;
    }
    if (lines->crlf && size > 0 && lines->buffer[lines->start + size - 1] == '\r')
        size--;
    if (size > lines->max)
        return LINES_TOO_LONG;
    lines->buffer[lines->start + size] = '\0';
    *line = fms_bytes_of(lines->buffer + lines->start, size);
    return LINES_LINE;
}

/* What is there has no line feed. 0: read on. */
static int lines_unfinished(struct lines *lines, struct fms_bytes *line)
{
    size_t size = lines->end - lines->start;

    lines->scanned = lines->end;
    if (lines->is_complete && lines->dropped > 0) {
        lines_drop(lines);
        lines->offset += (int64_t)lines->dropped;
        lines->dropped = 0;
        return LINES_AT_END;
    }
    if (lines->is_complete)
        return size > 0 ? lines_cut(lines, size, false, line) : LINES_AT_END;
    if (lines->dropped > 0)
        lines_drop(lines);
    else if (size > lines->max + lines->crlf) {
        lines->span = 0;
        return LINES_TOO_LONG;
    }
    return lines_fill(lines);
}

int lines_next(struct lines *lines, struct fms_bytes *line)
{
    int result = 0;

    while (result == 0) {
        const char *from = lines->buffer + lines->scanned;
        const char *feed = memchr(from, '\n', lines->end - lines->scanned);

        result = feed != NULL ? lines_cut(lines, (size_t)(feed - lines->buffer) - lines->start, true, line)
                              : lines_unfinished(lines, line);
    }
    return result;
}

int64_t lines_last_end(int fd, int64_t size)
{
    char piece[4096];

    while (size > 0) {
        size_t n = size < (int64_t)sizeof piece ? (size_t)size : sizeof piece;
        const char *feed;

        if (pread(fd, piece, n, size - (int64_t)n) != (ssize_t)n)
            return errno != 0 ? -errno : -EIO;
        feed = memrchr(piece, '\n', n);
        if (feed != NULL)
            return size - (int64_t)n + (feed - piece) + 1;
        size -= (int64_t)n;
    }
    return 0;
}

double lines_speed(const char *text)
{
    const char *end = text + strspn(text, "0123456789");
    size_t digits = (size_t)(end - text);
    double speed;

    if (*end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    if (*end != '\0' || digits == 0 || digits > 7)
        return -1;
    speed = strtod(text, NULL);
    return speed <= 1e6 ? speed : -1;
}
