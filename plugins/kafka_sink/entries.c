/* entries.c - see entries.h. */
#include "entries.h"

#include <errno.h>
#include <stdlib.h>

#include "telling.h"

#define BUCKETS_LEAST 64
#define PRINT_SIZE    (2 * sizeof(uint64_t))

/* What the C library takes for it. */
static size_t block_size(size_t size)
{
    return size == 0 ? 0 : (size + sizeof(size_t) + 15) / 16 * 16;
}

int entries_init(struct entries *entries)
{
    *entries = (struct entries){.bucket_count = BUCKETS_LEAST};
    hash_seed(&entries->seed);
    list_init(&entries->noted);
    entries->idle = &entries->noted;
    entries->buckets = calloc(BUCKETS_LEAST, sizeof(*entries->buckets));
    entries->bytes = block_size(BUCKETS_LEAST * sizeof(*entries->buckets));
    return entries->buckets == NULL ? -ENOMEM : 0;
}

void entries_free(struct entries *entries)
{
    while (!list_is_empty(&entries->noted)) {
        struct entry *entry = entry_of_noted(entries->noted.next);

        list_remove(&entry->noted);
        entry_free(entry);
    }
    free(entries->buckets);
}

void entry_free(struct entry *entry)
{
    numbers_clear(&entry->numbers);
    free(entry);
}

/* ------------------------------------------------------------------------------------------------------------ names */

static size_t text_size(const struct entry_name *name)
{
    return name->origin.size + (name->kind == ENTRY_ORIGIN ? 0 : sizeof name->sequence);
}

static uint32_t name_hash(const struct entries *entries, const struct entry_name *name)
{
    unsigned char text[FMS_ORIGIN_MOST + sizeof name->sequence];
    struct fms_bytes whole = name->origin;

    if (name->kind != ENTRY_ORIGIN) {
        memcpy(text, name->origin.data, name->origin.size);
        memcpy(text + name->origin.size, &name->sequence, sizeof name->sequence);
        whole = fms_bytes_of(text, text_size(name));
    }
    return (uint32_t)hash_of(&entries->seed, whole);
}

struct entry_name entry_name(const struct entry *entry)
{
    struct entry_name name = {(enum entry_kind)entry->kind, fms_bytes_of(entry->text, entry->origin_size), 0};

    if (name.kind != ENTRY_ORIGIN)
        memcpy(&name.sequence, entry->text + entry->origin_size, sizeof name.sequence);
    return name;
}

static bool entry_is(const struct entry *entry, const struct entry_name *name)
{
    struct entry_name own = entry_name(entry);

    return own.kind == name->kind && own.sequence == name->sequence && own.origin.size == name->origin.size &&
           memcmp(own.origin.data, name->origin.data, own.origin.size) == 0;
}

static unsigned char *print_of(struct entry *entry)
{
    return entry->text + entry->origin_size + sizeof(uint64_t);
}

void entry_print(const struct entry *entry, uint64_t print[2])
{
    memcpy(print, entry->text + entry->origin_size + sizeof(uint64_t), PRINT_SIZE);
}

void entry_set_print(struct entry *entry, const uint64_t print[2])
{
    memcpy(print_of(entry), print, PRINT_SIZE);
}

/* ------------------------------------------------------------------------------------------------------------ table */

static struct entry **entries_bucket(const struct entries *entries, uint32_t hash)
{
    return &entries->buckets[hash & (entries->bucket_count - 1)];
}

struct entry *entries_find(struct entries *entries, const struct entry_name *name)
{
    struct entry *entry = entries->recent;
    uint32_t hash;

    if (entry != NULL && entry_is(entry, name))
        return entry;
    hash = name_hash(entries, name);
    entry = *entries_bucket(entries, hash);
    while (entry != NULL && (entry->hash != hash || !entry_is(entry, name)))
        entry = entry->chain;
    if (entry != NULL)
        entries->recent = entry;
    return entry;
}

static void entries_chain(struct entries *entries, struct entry *entry)
{
    struct entry **bucket = entries_bucket(entries, entry->hash);

    entry->chain = *bucket;
    *bucket = entry;
}

/* Where there is no memory for it, chains grow longer. */
static void entries_grow(struct entries *entries)
{
    size_t old_count = entries->bucket_count, size = old_count * sizeof(*entries->buckets);
    struct entry **old = entries->buckets, **grown = calloc(2 * old_count, sizeof *grown);

    if (grown == NULL)
        return;
    entries->buckets = grown;
    entries->bucket_count = 2 * old_count;
    entries->bytes += block_size(2 * size) - block_size(size);
    for (size_t i = 0; i < old_count; i++) {
        for (struct entry *entry = old[i], *next; entry != NULL; entry = next) {
            next = entry->chain;
            entries_chain(entries, entry);
        }
    }
    free(old);
}

static size_t entry_size(const struct entry_name *name)
{
    size_t size = offsetof(struct entry, text) + text_size(name) + (name->kind == ENTRY_RESENT ? PRINT_SIZE : 0);

    return size < sizeof(struct entry) ? sizeof(struct entry) : size;
}

static size_t entry_bytes(const struct entry *entry)
{
    struct entry_name name = entry_name(entry);

    return block_size(entry_size(&name)) + block_size(numbers_bytes(&entry->numbers));
}

/* Takes it out of the sums, before it changes, or into them. */
static void entries_count_out(struct entries *entries, const struct entry *entry)
{
    entries->bytes -= entry_bytes(entry);
    entries->weight -= telling_most(entry);
}

static void entries_count_in(struct entries *entries, const struct entry *entry)
{
    entries->bytes += entry_bytes(entry);
    entries->weight += telling_most(entry);
}

struct entry *entries_add(struct entries *entries, const struct entry_name *name)
{
    struct entry *entry = calloc(1, entry_size(name));

    if (entry == NULL)
        return NULL;
    entry->numbers = numbers_none();
    entry->hash = name_hash(entries, name);
    entry->kind = (uint8_t)(name->kind & 3);
    entry->origin_size = (uint8_t)name->origin.size;
    memcpy(entry->text, name->origin.data, name->origin.size);
    if (name->kind != ENTRY_ORIGIN)
        memcpy(entry->text + name->origin.size, &name->sequence, sizeof name->sequence);
    list_init(&entry->told);
    list_append(&entries->noted, &entry->noted);
    entries_chain(entries, entry);
    entries_count_in(entries, entry);
    entries->parts += name->kind == ENTRY_PARTS;
    if (++entries->count > entries->bucket_count)
        entries_grow(entries);
    return entries->recent = entry;
}

static void entries_unlist(struct entries *entries, struct entry *entry)
{
    if (entries->idle == &entry->noted)
        entries->idle = entry->noted.previous;
    list_remove(&entry->noted);
}

void entries_take(struct entries *entries, struct entry *entry)
{
    struct entry **place = entries_bucket(entries, entry->hash);

    while (*place != entry)
        place = &(*place)->chain;
    *place = entry->chain;
    entries_unlist(entries, entry);
    entries_count_out(entries, entry);
    entries->count--;
    entries->parts -= entry->kind == ENTRY_PARTS;
    if (entries->recent == entry)
        entries->recent = NULL;
}

/* --------------------------------------------------------------------------------------------------- numbers, order */

int entries_see(struct entries *entries, struct entry *entry, struct interval seen)
{
    int error;

    if (numbers_are_next(&entry->numbers, seen)) { /* which changes no sum */
        entry->numbers.newest.last = seen.last;
        return 0;
    }
    entries_count_out(entries, entry);
    error = numbers_add(&entry->numbers, seen);
    entries_count_in(entries, entry);
    return error;
}

int entries_doubt(struct entries *entries, struct entry *entry, uint64_t below)
{
    int error;

    entries_count_out(entries, entry);
    error = numbers_doubt(&entry->numbers, below);
    entries_count_in(entries, entry);
    return error;
}

void entries_bound(struct entries *entries, struct entry *entry)
{
    if (numbers_count(&entry->numbers) <= INTERVALS_MOST)
        return;
    entries_count_out(entries, entry);
    numbers_bound(&entry->numbers);
    entries_count_in(entries, entry);
}

void entries_clear(struct entries *entries, struct entry *entry)
{
    entries_count_out(entries, entry);
    numbers_clear(&entry->numbers);
    entries_count_in(entries, entry);
}

void entries_put_last(struct entries *entries, struct entry *entry)
{
    entries_unlist(entries, entry);
    list_append(&entries->noted, &entry->noted);
}

void entries_put_idle(struct entries *entries, struct entry *entry)
{
    entries_unlist(entries, entry);
    list_insert(entries->idle, &entry->noted);
    entries->idle = &entry->noted;
}

struct entry *entries_oldest(const struct entries *entries)
{
    return list_is_empty(&entries->noted) ? NULL : entry_of_noted(entries->noted.next);
}
