/* frame.c - see frame.h.
 *
 * A line is read once from left to right, with no copy and no library: a bus at full load has some 4,000 of them a second, a log is read as
 * fast as the disk gives it. What is wrong with a line is told by the place in it at which it went wrong. */
#include "frame.h"

#include <stdio.h>
#include <time.h>

/* What is left of the line. */
struct text {
    const char *at, *end;
    char *why;
};

static bool text_fail(struct text *text, const char *what)
{
    snprintf(text->why, FRAME_WHY, "%s", what);
    return false;
}

static char text_peek(const struct text *text)
{
    return text->at < text->end ? *text->at : '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void text_skip_blanks(struct text *text)
{
    while (text->at < text->end && is_blank(*text->at))
        text->at++;
}

static bool text_take(struct text *text, char c)
{
    if (text_peek(text) != c || text->at == text->end)
        return false;
    text->at++;
    return true;
}

/* -1: it is no hexadecimal digit. */
static int hex_digit(char c)
{
    static const int8_t digits[256] = {
        ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
        ['8'] = 9,  ['9'] = 10, ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
        ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    };

    return digits[(unsigned char)c] - 1;
}

/* ----------------------------------------------------------------------------------------------------------------- time */

/* Up to `most` decimal digits; how many there are. */
static int text_number(struct text *text, int most, int64_t *value)
{
    int count = 0;

    for (*value = 0; count < most && text_peek(text) >= '0' && text_peek(text) <= '9'; count++)
        *value = 10 * *value + (*text->at++ - '0');
    return count;
}

/* What stands behind the point, as nanoseconds. */
static bool text_fraction(struct text *text, int64_t *nanoseconds)
{
    int digits;

    *nanoseconds = 0;
    if (!text_take(text, '.'))
        return true;
    digits = text_number(text, 9, nanoseconds);
    if (digits == 0)
        return false;
    for (; digits < 9; digits++)
        *nanoseconds *= 10;
    return true;
}

/* The rest of 2015-07-10 06:30:52, behind its year. */
static bool text_date(struct text *text, int64_t year, int64_t *seconds)
{
    static const char separators[] = "-- ::";
    int64_t part[6] = {year};
    struct tm tm;

    for (int i = 0; i < 5; i++) {
        if (!text_take(text, separators[i]) || text_number(text, 2, &part[i + 1]) != 2)
            return false;
    }
    if (year < 1970 || year > 2200 || part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > 31 || part[3] > 23 ||
        part[4] > 59 || part[5] > 60)
        return false;
    tm = (struct tm){.tm_year = (int)year - 1900,
                     .tm_mon = (int)part[1] - 1,
                     .tm_mday = (int)part[2],
                     .tm_hour = (int)part[3],
                     .tm_min = (int)part[4],
                     .tm_sec = (int)part[5]};
    *seconds = timegm(&tm);
    return true;
}

/* (seconds.fraction), or a date. */
static bool text_time(struct text *text, int64_t *time)
{
    int64_t seconds, nanoseconds;

    *time = FRAME_NO_TIME;
    if (!text_take(text, '('))
        return true;
    text_skip_blanks(text);
    if (text_number(text, 10, &seconds) == 0 || (text_peek(text) == '-' && !text_date(text, seconds, &seconds)) ||
        !text_fraction(text, &nanoseconds) || !text_take(text, ')') || seconds > INT64_MAX / FMS_SECOND - 1)
        return text_fail(text, "its time is none; expected one such as (1436509052.249713) or (000.005001)");
    *time = seconds * FMS_SECOND + nanoseconds;
    return true;
}

/* ----------------------------------------------------------------------------------------- interface and identifier */

static bool text_interface(struct text *text, char interface[FRAME_INTERFACE])
{
    size_t size = 0;

    text_skip_blanks(text);
    while (text->at + size < text->end && !is_blank(text->at[size]))
        size++;
    if (size == 0 || size >= FRAME_INTERFACE)
        return text_fail(text, size == 0 ? "it ends before the interface" : "its interface has more than 15 letters");
    for (size_t i = 0; i < size; i++) {
        if (text->at[i] < '!' || text->at[i] > '~')
            return text_fail(text, "its interface has a letter that is not one of ASCII");
    }
    memcpy(interface, text->at, size);
    interface[size] = '\0';
    text->at += size;
    text_skip_blanks(text);
    return true;
}

/* Three digits are an 11-bit identifier, eight a 29-bit one or an error's. */
static bool text_id(struct text *text, struct frame *frame)
{
    uint32_t id = 0;
    int digits = 0, digit;

    for (; digits < 9 && (digit = hex_digit(text_peek(text))) >= 0; digits++, text->at++)
        id = id << 4 | (uint32_t)digit;
    if (digits == 3 && id <= 0x7ff) {
        frame->id = id;
        return true;
    }
    if (digits != 8 || (id & 0xc0000000) != 0)
        return text_fail(
            text, "its identifier is none; expected three hexadecimal digits up to 7FF, or eight up to 1FFFFFFF");
    frame->id = id & 0x1fffffff;
    frame->flags |= (id & 0x20000000) != 0 ? FRAME_ERROR : FRAME_EXTENDED;
    return true;
}

/* ----------------------------------------------------------------------------------------------------------------- data */

static bool is_fd_size(size_t size)
{
    return size <= 8 || size == 12 || size == 16 || size == 20 || size == 24 || size == 32 || size == 48 || size == 64;
}

static bool frame_check_size(struct text *text, const struct frame *frame, size_t size)
{
    if ((frame->flags & FRAME_FD) == 0 && size > 8)
        return text_fail(text, "it has more than 8 bytes of data, and is no CAN FD frame");
    if (!is_fd_size(size))
        return text_fail(text, "it has a number of bytes that no CAN FD frame has");
    return true;
}

/* The data of candump -L: two digits a byte, with dots between them or not. */
static bool text_packed(struct text *text, struct frame *frame)
{
    size_t size = 0;
    int high, low;

    while ((high = hex_digit(text_peek(text))) >= 0) {
        low = text->at + 1 < text->end ? hex_digit(text->at[1]) : -1;
        if (low < 0)
            return text_fail(text, "its data ends within a byte");
        if (size == FRAME_DATA)
            return text_fail(text, "it has more than 64 bytes of data");
        frame->data[size++] = (uint8_t)(high << 4 | low);
        text->at += 2;
        text_take(text, '.');
    }
    frame->size = (uint8_t)size;
    return frame_check_size(text, frame, size);
}

/* A length code above 8 means 8 bytes all the same. */
static bool text_length_code(struct text *text)
{
    if (!text_take(text, '_'))
        return true;
    if (hex_digit(text_peek(text)) < 9)
        return text_fail(text, "behind _ expected is a length code from 9 to F");
    text->at++;
    return true;
}

static bool text_remote(struct text *text, struct frame *frame)
{
    char c = text_peek(text);

    frame->flags |= FRAME_REMOTE;
    if (c >= '0' && c <= '8') {
        frame->size = (uint8_t)(c - '0');
        text->at++;
    }
    return text_length_code(text);
}

/* Behind #. */
static bool text_compact(struct text *text, struct frame *frame)
{
    int digit;

    if (text_take(text, '#')) {
        frame->flags |= FRAME_FD;
        digit = hex_digit(text_peek(text));
        if (digit < 0)
            return text_fail(text, "behind ## expected is a hexadecimal digit, the frame's flags");
        frame->fd_flags = (uint8_t)digit;
        text->at++;
        return text_packed(text, frame);
    }
    if (text_take(text, 'R') || text_take(text, 'r'))
        return text_remote(text, frame);
    return text_packed(text, frame) && text_length_code(text);
}

/* [8] of a classic frame, [08] of CAN FD. */
static bool text_size(struct text *text, struct frame *frame, size_t *size)
{
    int64_t value = 0;
    int digits;

    text->at++;
    digits = text_number(text, 2, &value);
    if (digits == 0 || !text_take(text, ']'))
        return text_fail(text, "its number of bytes is none; expected one such as [8]");
    *size = (size_t)value;
    if (digits == 2)
        frame->flags |= FRAME_FD;
    return frame_check_size(text, frame, *size);
}

/* The data as candump shows it, behind its number of bytes. */
static bool text_shown(struct text *text, struct frame *frame)
{
    static const char remote[] = "remote request";
    size_t size;

    if (!text_size(text, frame, &size))
        return false;
    frame->size = (uint8_t)size;
    text_skip_blanks(text);
    if ((size_t)(text->end - text->at) >= sizeof remote - 1 && memcmp(text->at, remote, sizeof remote - 1) == 0) {
        text->at += sizeof remote - 1;
        frame->flags |= FRAME_REMOTE;
        return (frame->flags & FRAME_FD) == 0 || text_fail(text, "it asks for data, which no CAN FD frame does");
    }
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text_peek(text)), low = text->at + 1 < text->end ? hex_digit(text->at[1]) : -1;

        if (high < 0 || low < 0)
            return text_fail(text, "it has fewer bytes of data than it says");
        frame->data[i] = (uint8_t)(high << 4 | low);
        text->at += 2;
        text_skip_blanks(text);
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------------------- line */

static bool text_is(const struct text *text, const char *word)
{
    size_t size = strlen(word);

    return (size_t)(text->end - text->at) == size && memcmp(text->at, word, size) == 0;
}

/* Behind the data: nothing, the direction, the data as letters, or what kind of frame it was. */
static bool text_rest(struct text *text, struct frame *frame)
{
    text_skip_blanks(text);
    while (text->end > text->at && is_blank(text->end[-1]))
        text->end--;
    if (text_is(text, "T"))
        frame->flags |= FRAME_SENT;
    if (text->at == text->end || text_is(text, "T") || text_is(text, "R") || text_peek(text) == '\'' ||
        text_is(text, "ERRORFRAME"))
        return true;
    return text_fail(text, "something follows its data");
}

/* TX or RX and two flags, which candump -x shows before the identifier. */
static void text_direction(struct text *text, struct frame *frame)
{
    size_t left = (size_t)(text->end - text->at);

    if (left < 9 || (memcmp(text->at, "RX ", 3) != 0 && memcmp(text->at, "TX ", 3) != 0))
        return;
    frame->flags |= *text->at == 'T' ? FRAME_SENT : 0;
    text->at += 7;
    text_skip_blanks(text);
}

static bool text_frame(struct text *text, struct frame *frame)
{
    text_skip_blanks(text);
    if (!text_time(text, &frame->time) || !text_interface(text, frame->interface))
        return false;
    text_direction(text, frame);
    if (!text_id(text, frame))
        return false;
    if (text_take(text, '#'))
        return text_compact(text, frame) && text_rest(text, frame);
    text_skip_blanks(text);
    if (text_peek(text) != '[')
        return text_fail(text, "behind its identifier expected is # or a number of bytes such as [8]");
    return text_shown(text, frame) && text_rest(text, frame);
}

int frame_read(struct frame *frame, struct fms_bytes line, char why[FRAME_WHY])
{
    struct text text = {line.data, (const char *)line.data + line.size, why};
    struct frame found = {.flags = 0};

    if (line.size > 0 && *text.at == '\t')
        return FRAME_LINE_NOTHING;
    text_skip_blanks(&text);
    if (text.at == text.end)
        return FRAME_LINE_NOTHING;
    if (!text_frame(&text, &found))
        return FRAME_LINE_BAD;
    *frame = found;
    return FRAME_LINE_FRAME;
}

/* -------------------------------------------------------------------------------------------------------------- writing */

static char *put_hex(char *to, uint32_t value, int digits)
{
    static const char hex[] = "0123456789ABCDEF";

    for (int i = digits - 1; i >= 0; i--)
        *to++ = hex[value >> 4 * i & 15];
    return to;
}

static char *put_time(char *to, int64_t time)
{
    uint64_t microseconds = time > 0 ? (uint64_t)time / FMS_US : 0;

    return to + snprintf(to, 32, "(%010llu.%06llu) ", (unsigned long long)(microseconds / 1000000),
                         (unsigned long long)(microseconds % 1000000));
}

size_t frame_write(const struct frame *frame, char to[FRAME_LINE])
{
    bool is_long = (frame->flags & (FRAME_EXTENDED | FRAME_ERROR)) != 0;
    size_t interface = strnlen(frame->interface, FRAME_INTERFACE - 1);
    char *at = put_time(to, frame->time);

    memcpy(at, frame->interface, interface);
    at += interface;
    *at++ = ' ';
    at = put_hex(at, frame->id | ((frame->flags & FRAME_ERROR) != 0 ? 0x20000000u : 0), is_long ? 8 : 3);
    *at++ = '#';
    if ((frame->flags & FRAME_FD) != 0) {
        *at++ = '#';
        at = put_hex(at, frame->fd_flags, 1);
    }
    if ((frame->flags & FRAME_REMOTE) != 0) {
        *at++ = 'R';
        if (frame->size > 0)
            *at++ = (char)('0' + frame->size);
    }
    for (size_t i = 0; i < frame->size && (frame->flags & FRAME_REMOTE) == 0; i++)
        at = put_hex(at, frame->data[i], 2);
    if ((frame->flags & FRAME_SENT) != 0) {
        *at++ = ' ';
        *at++ = 'T';
    }
    *at = '\0';
    return (size_t)(at - to);
}
