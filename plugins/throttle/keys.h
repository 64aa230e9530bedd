/* keys.h - the keys that a throttle knows, by name and by age. */
#ifndef KEYS_H
#define KEYS_H

#include <fms_plugin.h>

#include "../hash_common/hash.h"

#define KEY_LENGTH 1024 /* bytes that a key may have */

/* A key is in its interval, or idle: since its last record passed, an interval has gone by. */
struct key {
    int64_t ends;                  /* the interval, on the host's clock */
    const struct fms_record *kept; /* the newest record of the interval; NULL: none */
    size_t weight;                 /* its, in bytes */

    struct key *next, *previous; /* within the list of its kind, the oldest first */
    struct key *chain;           /* the next one of its bucket */
    char *name;
    size_t size, capacity;
    uint64_t hash;
};

struct key_list {
    struct key *head, *tail;
};

struct keys {
    struct key_list in_interval; /* in the order in which their intervals end */
    struct key_list idle;        /* in the order in which they became so */
    struct key *all;             /* `most`, of which `count` are in use */
    size_t count, most;
    struct key **buckets;
    size_t bucket_count; /* a power of two */
    struct hash_seed seed;
};

/* Memory is taken from the system as keys come. 0 or -ENOMEM. */
int keys_init(struct keys *keys, size_t most);
void keys_free(struct keys *keys);

/* NULL: it is not known. */
struct key *keys_find(const struct keys *keys, struct fms_bytes name);

/* Makes a key, in no list yet, of a free place or of `victim`, which is in no list any more; one of the two there must be.
 * NULL: no memory, and all is as before. */
struct key *keys_add(struct keys *keys, struct fms_bytes name, struct key *victim);

void key_list_append(struct key_list *list, struct key *key);
void key_list_remove(struct key_list *list, struct key *key);

#endif
