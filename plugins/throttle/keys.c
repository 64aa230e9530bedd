/* keys.c - see keys.h.
 *
 * All intervals are of one length, so the keys stand in the order in which their intervals end when each goes to the end
 * of its list as it begins: no heap, and whatever is due or may be forgotten is at the front. A known key costs no
 * allocation. */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>

int keys_init(struct keys *keys, size_t most)
{
    *keys = (struct keys){.most = most, .bucket_count = 1};
    hash_seed(&keys->seed);
    while (keys->bucket_count < most)
        keys->bucket_count *= 2;
    keys->all = calloc(most, sizeof *keys->all);
    keys->buckets = calloc(keys->bucket_count, sizeof *keys->buckets);
    if (keys->all != NULL && keys->buckets != NULL)
        return 0;
    free(keys->all);
    free(keys->buckets);
    return -ENOMEM;
}

void keys_free(struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        free(keys->all[i].name);
    free(keys->all);
    free(keys->buckets);
    *keys = (struct keys){.most = 0};
}

void key_list_append(struct key_list *list, struct key *key)
{
    key->next = NULL;
    key->previous = list->tail;
    if (list->tail == NULL)
        list->head = key;
    else
        list->tail->next = key;
    list->tail = key;
}

void key_list_remove(struct key_list *list, struct key *key)
{
    if (key->previous == NULL)
        list->head = key->next;
    else
        key->previous->next = key->next;
    if (key->next == NULL)
        list->tail = key->previous;
    else
        key->next->previous = key->previous;
}

static struct key **key_bucket(const struct keys *keys, uint64_t hash)
{
    return &keys->buckets[hash & (keys->bucket_count - 1)];
}

struct key *keys_find(const struct keys *keys, struct fms_bytes name)
{
    uint64_t hash = hash_of(&keys->seed, name);
    struct key *key = *key_bucket(keys, hash);

    while (key != NULL && (key->hash != hash || key->size != name.size || memcmp(key->name, name.data, name.size) != 0))
        key = key->chain;
    return key;
}

static void key_unchain(struct keys *keys, struct key *key)
{
    struct key **place = key_bucket(keys, key->hash);

    while (*place != key)
        place = &(*place)->chain;
    *place = key->chain;
}

static bool key_reserve(struct key *key, size_t size)
{
    char *grown;

    if (key->name != NULL && key->capacity >= size)
        return true;
    grown = realloc(key->name, size + 1);
    if (grown == NULL)
        return false;
    key->name = grown;
    key->capacity = size;
    return true;
}

struct key *keys_add(struct keys *keys, struct fms_bytes name, struct key *victim)
{
    struct key *key = victim != NULL ? victim : &keys->all[keys->count];
    struct key **bucket;

    if (!key_reserve(key, name.size))
        return NULL;
    if (victim != NULL)
        key_unchain(keys, victim);
    else
        keys->count++;
    memcpy(key->name, name.data, name.size);
    key->size = name.size;
    key->hash = hash_of(&keys->seed, name);
    bucket = key_bucket(keys, key->hash);
    key->chain = *bucket;
    *bucket = key;
    return key;
}
