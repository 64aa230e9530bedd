/* spool_pack.c - see spool_pack.h. */
#include "spool_pack.h"

static unsigned char *put(unsigned char *to, size_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *to++ = (unsigned char)(number >> 8 * i);
    return to;
}

static size_t get(const unsigned char *from, size_t size)
{
    size_t number = 0;

    for (size_t i = 0; i < size; i++)
        number |= (size_t)from[i] << 8 * i;
    return number;
}

unsigned char *pack_begin(void *to, size_t count)
{
    return put(put(to, PACK_VERSION, 1), count, 2);
}

unsigned char *pack_add(unsigned char *to, size_t size)
{
    return put(to, size, PACK_EACH);
}

static void advance(struct fms_bytes *bytes, size_t size)
{
    *bytes = fms_bytes_of((const char *)bytes->data + size, bytes->size - size);
}

/* The next entry's bytes; false: there are not so many. */
static bool take(struct fms_bytes *rest, struct fms_bytes *entry)
{
    size_t size = rest->size >= PACK_EACH ? get(rest->data, PACK_EACH) : SIZE_MAX;

    if (rest->size < PACK_EACH || size > rest->size - PACK_EACH)
        return false;
    advance(rest, PACK_EACH);
    *entry = fms_bytes_of(rest->data, size);
    advance(rest, size);
    return true;
}

static bool adds_up(struct fms_bytes rest, size_t count)
{
    struct fms_bytes entry;

    while (count > 0 && take(&rest, &entry))
        count--;
    return count == 0 && rest.size == 0;
}

void pack_open(struct pack *pack, uint64_t number, struct fms_bytes value)
{
    const unsigned char *head = value.data;

    *pack = (struct pack){.number = number, .left = 1, .rest = value, .is_single = true};
    if (value.size < PACK_HEAD || head[0] != PACK_VERSION)
        return;
    pack->is_single = false;
    pack->left = get(&head[1], PACK_HEAD - 1);
    advance(&pack->rest, PACK_HEAD);
    pack->is_damaged = !adds_up(pack->rest, pack->left);
}

bool pack_next(struct pack *pack, uint64_t *number, struct fms_bytes *entry)
{
    if (pack->is_damaged && pack->rest.size == 0) /* it says that there were more */
        pack->left = 0;
    if (pack->left == 0)
        return false;
    pack->left--;
    *number = pack->number++;
    *entry = pack->rest;
    if (pack->is_single || (!(pack->left == 0 && pack->is_damaged) && take(&pack->rest, entry)))
        return true;
    pack->left = 0;
    return true;
}

size_t pack_skip(struct pack *pack, uint64_t below, size_t *count)
{
    struct fms_bytes entry;
    uint64_t number;
    size_t bytes = 0;

    for (*count = 0; pack->number < below && pack_next(pack, &number, &entry); ++*count)
        bytes += entry.size;
    return bytes;
}
