/* record.c - the memory of records: one allocation each, in a few size classes.
 *
 * A freed record goes into quarantine, until so many others were freed after it, and then to the pool: so a plugin that
 * settles a record a second time finds its grave, not another record, and can be named. */
#include <errno.h>
#include <stdlib.h>

#include "record.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, size)   ((void)(data), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#endif

#define POOL_SMALLEST    256u /* bytes of class 0; each next class is twice as large */
#define POOL_SHARE       4u   /* what is kept beyond the quarantine: this part of max_in_flight_bytes */
#define CACHE_LINE       64u  /* bytes */
#define RECORD_TOO_LARGE (SIZE_MAX - 1)

static size_t record_class(size_t size)
{
    size_t class = size <= POOL_SMALLEST ? 0 : 64 - (size_t)__builtin_clzll((size - 1) / POOL_SMALLEST);

    return class < RECORD_CLASSES ? class : RECORD_CLASSES;
}

static size_t align8(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

bool records_may_change(const struct records *records)
{
    return records->alive[0] == 0 || records->alive[1] == 0;
}

void records_layout(struct records *records, size_t slots, size_t json, size_t most)
{
    if (records->alive[records->layout] > 0) {
        atomic_store(&records->other_head, records_head(records)); /* first, so that each is known at any time */
        records->layout ^= 1;
    }
    records->slots = slots;
    records->json = align8(sizeof(struct record) + slots * sizeof(struct slot));
    atomic_store(&records->head, records->json + align8(json));
    records->most = most;
}

/* Whether data and size belong together. No value is a TiB, so the sum of all values of a record is a number of 64 bits. */
static bool is_sound(struct fms_bytes bytes)
{
    return bytes.data != NULL ? (uint64_t)bytes.size >> 40 == 0 : bytes.size == 0;
}

/* Whether a dead letter need not copy what stands there. */
static bool is_shared(const struct record *share, const void *data)
{
    return share != NULL && (uintptr_t)data - (uintptr_t)share < share->charge;
}

/* The bytes of all values, each with its NUL byte, which may be more than a size can say; UINT64_MAX for a malformed draft. */
__attribute__((always_inline)) static inline uint64_t record_data_size(const struct fms_record *draft,
                                                                       const struct record *share)
{
    bool shared = share != NULL;
    uint64_t sum = shared ? 0 : (uint64_t)draft->topic.size + draft->key.size + draft->payload.size + 3;

    if (!shared && !(is_sound(draft->topic) && is_sound(draft->key) && is_sound(draft->payload)))
        return UINT64_MAX;
    if (draft->header_count > RECORD_MAX_HEADERS || (draft->header_count > 0 && draft->headers == NULL))
        return UINT64_MAX;
    for (size_t i = 0; i < draft->header_count; i++) {
        const struct fms_header *header = &draft->headers[i];

        if (header->name == NULL || !is_sound(header->value))
            return UINT64_MAX;
        sum += is_shared(share, header->name) ? 0 : strlen(header->name) + 1;
        sum += is_shared(share, header->value.data) ? 0 : header->value.size + 1;
    }
    return sum;
}

const char *record_identity_fault(const struct fms_identity *identity)
{
    if (identity->kind != FMS_NUMBERED && identity->kind != FMS_RESENT)
        return "is neither FMS_NUMBERED nor FMS_RESENT";
    if (identity->origin.data == NULL || identity->origin.size == 0 || identity->origin.size > FMS_ORIGIN_MOST)
        return "has no origin of 1 to 255 bytes";
    if (identity->skipped > identity->sequence)
        return "skips more numbers than there are below its sequence";
    return identity->is_end || identity->part != 0 ? "has is_end or part set, which are the host's" : NULL;
}

/* SIZE_MAX for a malformed draft; RECORD_TOO_LARGE for what memory cannot hold, where that is less than 64 bits tell. */
__attribute__((always_inline)) static inline size_t
record_size(const struct records *records, const struct fms_record *draft, const struct record *share)
{
    uint64_t data = record_data_size(draft, share);

    if (data == UINT64_MAX)
        return SIZE_MAX;
    if (sizeof(size_t) < sizeof data && data > RECORD_TOO_LARGE / 2)
        return RECORD_TOO_LARGE;
    return records_head(records) + draft->header_count * sizeof(struct fms_header) + (size_t)data;
}

static size_t class_charge(size_t class, size_t size)
{
    return class < RECORD_CLASSES ? (size_t)POOL_SMALLEST << class : size;
}

size_t record_charge(const struct records *records, const struct fms_record *draft, const struct record *share)
{
    size_t size = record_size(records, draft, share);

    return size == SIZE_MAX ? SIZE_MAX : class_charge(record_class(size), size);
}

/* So many bytes at the end of its memory. */
static size_t known_size(const struct fms_identity *identity)
{
    return align8(sizeof(struct known) + (identity->part == 0 ? identity->origin.size + 1 : 0));
}

size_t record_charge_known(const struct records *records, const struct fms_record *draft, const struct record *share,
                           const struct fms_identity *identity)
{
    size_t size = record_size(records, draft, share);

    if (size >= RECORD_TOO_LARGE)
        return size;
    size = align8(size) + known_size(identity);
    return class_charge(record_class(size), size);
}

/* What of a record is used by all; it has the size of class 0, or is larger. */
static inline void record_prefetch(const char *record, bool is_larger)
{
    __builtin_prefetch(record, 1);
    __builtin_prefetch(record + CACHE_LINE, 1);
    __builtin_prefetch(record + 2 * CACHE_LINE, 1);
    __builtin_prefetch(record + 3 * CACHE_LINE, 1);
    if (!is_larger)
        return;
    __builtin_prefetch(record + 4 * CACHE_LINE, 1);
    __builtin_prefetch(record + 5 * CACHE_LINE, 1);
}

/* Records come back from whichever thread has settled them, out of another core's cache: so the next one is fetched now. */
static struct record *pool_take(struct records *records, size_t class)
{
    struct record *record = class < RECORD_CLASSES ? records->pool[class] : NULL;

    if (record == NULL)
        return NULL;
    records->pool[class] = record->link;
    records->pool_bytes -= record->charge;
    record_prefetch((const char *)record->link, record->charge > POOL_SMALLEST);
    return record;
}

static void pool_put(struct records *records, size_t class, struct record *record)
{
    if (records->pool_bytes + record->charge > records->most / POOL_SHARE) {
        free(record);
        return;
    }
    record->link = records->pool[class];
    records->pool[class] = record;
    records->pool_bytes += record->charge;
}

/* Takes the record that has been there longest; NULL while there is room. */
static struct record *bury(struct graves *graves, struct record *record)
{
    struct record *oldest = graves->ring[graves->next];

    graves->ring[graves->next] = record;
    graves->next = (graves->next + 1) % RECORD_QUARANTINE;
    return oldest;
}

static struct fms_bytes copy_bytes(char **end, struct fms_bytes from)
{
    char *to = *end;

    if (from.data == NULL)
        return from;
    memcpy(to, from.data, from.size);
    to[from.size] = '\0';
    *end = to + from.size + 1;
    return fms_bytes_of(to, from.size);
}

static struct fms_bytes copy_unshared(char **end, struct fms_bytes from, const struct record *share)
{
    return is_shared(share, from.data) ? from : copy_bytes(end, from);
}

static void copy_draft(struct record *record, const struct fms_record *draft, const struct record *share, char *end)
{
    struct fms_record *public = &record->public;
    struct fms_header *headers = (struct fms_header *)(void *)end;

    *public = *draft;
    public->identity = NULL;
    public->headers = headers;
    end += draft->header_count * sizeof *headers;
    for (size_t i = 0; i < draft->header_count; i++) {
        struct fms_bytes name = copy_unshared(&end, fms_text(draft->headers[i].name), share);

        headers[i].name = name.data;
        headers[i].value = copy_unshared(&end, draft->headers[i].value, share);
    }
    if (share != NULL)
        return;
    public->topic = copy_bytes(&end, draft->topic);
    public->key = copy_bytes(&end, draft->key);
    public->payload = copy_bytes(&end, draft->payload);
}

/* What is read before it is written. */
static inline void slot_init(struct slot *slot)
{
    slot->previous = NULL;
    slot->reason = NULL;
    slot->taken_at = 0;
    atomic_init(&slot->state, SLOT_NONE);
}

struct record *record_new(struct records *records, const struct fms_record *draft, size_t charge,
                          const struct record *share)
{
    size_t slots = records->slots, cache = records_head(records) - records->json, class = record_class(charge);
    struct record *record = pool_take(records, class);

    if (record == NULL)
        record = charge % CACHE_LINE == 0 ? aligned_alloc(CACHE_LINE, charge) : malloc(charge);
    if (record == NULL)
        return NULL;
    ASAN_UNPOISON_MEMORY_REGION(record, charge);
    memset(record, 0, offsetof(struct record, public));
    for (size_t i = 0; i < slots; i++)
        slot_init(&record->slots[i]);
    record->magic = RECORD_ALIVE;
    record->layout = records->layout;
    records->alive[record->layout]++;
    record->size_class = (uint32_t) class;
    record->charge = charge;
    if (cache > 0) {
        record->json = (struct json_cache *)(void *)((char *)record + records->json);
        memset(record->json, 0, cache);
    }
    copy_draft(record, draft, share, (char *)record + records_head(records));
    records->bytes += record->charge;
    return record;
}

void record_know(struct record *record, const struct fms_identity *identity)
{
    char *end = (char *)record + record->charge - known_size(identity);
    struct known *known = (struct known *)(void *)end;

    *known = (struct known){.identity = *identity};
    end += sizeof *known;
    if (identity->part == 0)
        known->identity.origin = copy_bytes(&end, identity->origin);
    record->public.identity = &known->identity;
}

struct record *record_new_known(struct records *records, const struct fms_record *draft, const struct record *share,
                                const struct fms_identity *identity)
{
    size_t charge = identity != NULL ? record_charge_known(records, draft, share, identity)
                                     : record_charge(records, draft, share);
    struct record *record = record_new(records, draft, charge, share);

    if (record != NULL && identity != NULL)
        record_know(record, identity);
    return record;
}

/* Nobody is to look at what is freed; but of what record_made looks at. */
static void record_poison(struct record *record)
{
    const struct fms_header **headers = &record->public.headers;

    ASAN_POISON_MEMORY_REGION(&record->public, offsetof(struct fms_record, headers));
    ASAN_POISON_MEMORY_REGION(headers + 1, record->charge - offsetof(struct record, public.headers) - sizeof *headers);
}

void record_free(struct records *records, struct record *record)
{
    size_t class = record->size_class;

    records->bytes -= record->charge;
    records->alive[record->layout]--;
    record->magic = RECORD_FREED;
    if (class >= RECORD_CLASSES) {
        free(record);
        return;
    }
    record_poison(record);
    record = bury(&records->graves[class], record);
    if (record != NULL)
        pool_put(records, class, record);
}

void records_free(struct records *records)
{
    struct record *record;

    for (size_t class = 0; class < RECORD_CLASSES; class ++) {
        for (size_t i = 0; i < RECORD_QUARANTINE; i++)
            free(bury(&records->graves[class], NULL));
        while ((record = pool_take(records, class)) != NULL)
            free(record);
    }
}
