/* telling.c - see telling.h.
 *
 *     record   = "fmj" version (1 byte) flags (1) life (16) number distance transaction place base size telling*
 *     telling  = flags (1 byte) size (1) origin [sequence] [print (16)] [unsure] [count] interval*
 *     interval = gap length
 *
 * Numbers are varints: seven bits a byte, the lowest first; life and print are little-endian. `distance` is how many
 * records before this one the oldest is that is needed, `base` an offset and 1, or 0, `size` that of all tellings. A
 * telling has a sequence, a print, an unsure or a count where its flags say so, else one interval; one that is gone
 * ends with its name. An interval's `gap` is its distance from the least number at which it can begin: of the first
 * one `unsure` or 0, then two more than where the one before it ends; `length` is its last number less its first.
 *
 * An origin that comes in order is its name and some six bytes. All lengths are checked; that bits are as they were
 * written, Kafka sees to. */
#include "telling.h"

#include <errno.h>
#include <stdio.h>

#define MAGIC       "fmj"
#define MAGIC_SIZE  3u
#define VERSION     1
#define VARINT_MOST 10u
#define NUMBER_MOST UINT64_C(1000000000000000000) /* of a record: no journal comes so far */

enum { HEAD_LAST = 1 };
enum { TELL_KIND = 3, TELL_IDLE = 4, TELL_GONE = 8, TELL_UNSURE = 16, TELL_MANY = 32, TELL_ALL = 63 };

/* ------------------------------------------------------------------------------------------------------------ bytes */

static unsigned char *put_varint(unsigned char *to, uint64_t number)
{
    for (; number > 127; number >>= 7)
        *to++ = (unsigned char)(number | 128);
    *to++ = (unsigned char)number;
    return to;
}

static unsigned char *put_pair(unsigned char *to, const uint64_t pair[2])
{
    for (size_t i = 0; i < 16; i++)
        *to++ = (unsigned char)(pair[i / 8] >> 8 * (i % 8));
    return to;
}

/* Cuts so many bytes off. NULL: there are not as many. */
static const unsigned char *get(struct fms_bytes *rest, size_t size)
{
    const unsigned char *at = rest->data;

    if (rest->size < size)
        return NULL;
    *rest = fms_bytes_of(at + size, rest->size - size);
    return at;
}

static bool get_byte(struct fms_bytes *rest, uint8_t *byte)
{
    const unsigned char *at = get(rest, 1);

    if (at != NULL)
        *byte = *at;
    return at != NULL;
}

static bool get_varint(struct fms_bytes *rest, uint64_t *number)
{
    uint8_t byte;

    *number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (!get_byte(rest, &byte) || (shift == 63 && byte > 1))
            return false;
        *number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool get_pair(struct fms_bytes *rest, uint64_t pair[2])
{
    const unsigned char *at = get(rest, 16);

    pair[0] = pair[1] = 0;
    for (size_t i = 0; at != NULL && i < 16; i++)
        pair[i / 8] |= (uint64_t)at[i] << 8 * (i % 8);
    return at != NULL;
}

/* ------------------------------------------------------------------------------------------------------------- head */

size_t head_write(const struct head *head, size_t body, unsigned char *to)
{
    unsigned char *at = to;

    memcpy(at, MAGIC, MAGIC_SIZE);
    at += MAGIC_SIZE;
    *at++ = VERSION;
    *at++ = head->is_last ? HEAD_LAST : 0;
    at = put_pair(at, head->name.life);
    at = put_varint(at, head->number);
    at = put_varint(at, head->number - head->first);
    at = put_varint(at, head->name.transaction);
    at = put_varint(at, head->place);
    at = put_varint(at, (uint64_t)head->base + 1);
    at = put_varint(at, body);
    return (size_t)(at - to);
}

static int bad(char *why, size_t size, const char *text)
{
    snprintf(why, size, "%s", text);
    return -EBADMSG;
}

int head_read(struct fms_bytes value, struct head *head, struct fms_bytes *body, char *why, size_t size)
{
    const unsigned char *magic = get(&value, MAGIC_SIZE);
    uint64_t distance, base, all;
    uint8_t version, flags;

    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_SIZE) != 0 || !get_byte(&value, &version))
        return bad(why, size, "a journal has not written it");
    if (version != VERSION) {
        snprintf(why, size, "it is of version %d, and only %d is known here", version, VERSION);
        return -EPROTONOSUPPORT;
    }
    if (!get_byte(&value, &flags) || !get_pair(&value, head->name.life) || !get_varint(&value, &head->number) ||
        !get_varint(&value, &distance) || !get_varint(&value, &head->name.transaction) ||
        !get_varint(&value, &head->place) || !get_varint(&value, &base) || !get_varint(&value, &all))
        return bad(why, size, "its head is cut off");
    if ((flags & ~HEAD_LAST) != 0 || head->number > NUMBER_MOST || distance >= JOURNAL_KEYS ||
        distance > head->number || head->place > head->number || base > INT64_MAX)
        return bad(why, size, "its head makes no sense");
    if (value.size != all)
        return bad(why, size, value.size < all ? "its end is cut off" : "there are bytes behind its end");
    head->is_last = (flags & HEAD_LAST) != 0;
    head->first = head->number - distance;
    head->base = (int64_t)base - 1;
    *body = value;
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- tellings */

size_t telling_most(const struct entry *entry)
{
    size_t name = 2 + (size_t)entry->origin_size + (entry->kind == ENTRY_ORIGIN ? 0 : VARINT_MOST) +
                  (entry->kind == ENTRY_RESENT ? 16 : 0);

    return name + VARINT_MOST + 1 + 2 * VARINT_MOST * numbers_count(&entry->numbers);
}

static unsigned char *numbers_write(const struct numbers *numbers, unsigned char *at)
{
    uint64_t floor = numbers_unsure(numbers);
    size_t count = numbers_count(numbers);

    if (floor > 0)
        at = put_varint(at, floor);
    if (count > 1)
        *at++ = (unsigned char)count;
    for (size_t i = 0; i < count; i++) {
        struct interval interval = numbers_at(numbers, i);

        at = put_varint(at, interval.first - floor);
        at = put_varint(at, interval.last - interval.first);
        floor = interval.last + 2; /* of the last one it is not used */
    }
    return at;
}

size_t telling_write(const struct entry *entry, enum telling_mood mood, unsigned char *to)
{
    unsigned char *at = to;
    uint64_t print[2];

    *at = (unsigned char)(entry->kind | (mood == TELLING_IDLE ? TELL_IDLE : 0));
    if (mood == TELLING_GONE)
        *at |= TELL_GONE;
    else
        *at |= (numbers_unsure(&entry->numbers) > 0 ? TELL_UNSURE : 0) |
               (numbers_count(&entry->numbers) > 1 ? TELL_MANY : 0);
    *++at = entry->origin_size;
    memcpy(++at, entry->text, entry->origin_size);
    at += entry->origin_size;
    if (entry->kind != ENTRY_ORIGIN)
        at = put_varint(at, entry_name(entry).sequence);
    if (mood == TELLING_GONE)
        return (size_t)(at - to);
    if (entry->kind == ENTRY_RESENT) {
        entry_print(entry, print);
        at = put_pair(at, print);
    }
    return (size_t)(numbers_write(&entry->numbers, at) - to);
}

static bool name_read(struct fms_bytes *rest, struct entry_name *name)
{
    const unsigned char *origin;
    uint8_t size;

    if (!get_byte(rest, &size) || size == 0)
        return false;
    origin = get(rest, size);
    name->origin = fms_bytes_of(origin, size);
    name->sequence = 0;
    return origin != NULL && (name->kind == ENTRY_ORIGIN || get_varint(rest, &name->sequence));
}

bool telling_next(struct telling *telling, struct interval *interval)
{
    uint64_t gap, length;

    if (telling->count == 0 || !get_varint(&telling->bytes, &gap) || !get_varint(&telling->bytes, &length) ||
        gap > UINT64_MAX - telling->floor || length > UINT64_MAX - telling->floor - gap)
        return false;
    interval->first = telling->floor + gap;
    interval->last = interval->first + length;
    if (--telling->count > 0 && interval->last > UINT64_MAX - 2)
        return false;
    telling->floor = interval->last + 2;
    return true;
}

/* Finds where the intervals end. */
static bool intervals_read(struct fms_bytes *rest, struct telling *telling)
{
    struct telling all = *telling;
    struct interval interval;

    all.bytes = *rest;
    while (all.count > 0)
        if (!telling_next(&all, &interval))
            return false;
    telling->bytes = fms_bytes_of(rest->data, rest->size - all.bytes.size);
    *rest = all.bytes;
    return true;
}

bool telling_read(struct fms_bytes *rest, struct telling *telling)
{
    size_t before = rest->size;
    uint8_t flags, count = 1;

    *telling = (struct telling){.unsure = 0};
    if (!get_byte(rest, &flags) || (flags & ~TELL_ALL) != 0 || (flags & TELL_KIND) == 0)
        return false;
    telling->name.kind = (enum entry_kind)(flags & TELL_KIND);
    telling->is_idle = (flags & TELL_IDLE) != 0;
    telling->is_gone = (flags & TELL_GONE) != 0;
    if (!name_read(rest, &telling->name))
        return false;
    if (telling->is_gone)
        return flags == (TELL_GONE | telling->name.kind);
    if ((telling->name.kind == ENTRY_RESENT && !get_pair(rest, telling->print)) ||
        ((flags & TELL_UNSURE) != 0 && (!get_varint(rest, &telling->unsure) || telling->unsure == 0)) ||
        ((flags & TELL_MANY) != 0 && (!get_byte(rest, &count) || count < 2 || count > INTERVALS_MOST)))
        return false;
    telling->count = count;
    telling->floor = telling->unsure;
    if (!intervals_read(rest, telling))
        return false;
    telling->size = before - rest->size;
    return true;
}
