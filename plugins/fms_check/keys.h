/* keys.h - the keys of one object: which of them a rule knows, and which stand twice. */
#ifndef CHECK_KEYS_H
#define CHECK_KEYS_H

#include <fms_plugin.h>

#include "../hash_common/hash.h"

struct key_slot;

struct keys {
    struct key_slot *slots;
    size_t slot_count; /* a power of two */
    size_t most;       /* keys of an object */
    size_t count;      /* of those, so far */
    uint32_t round;
    struct hash_seed seed;
};

enum key_verdict { KEY_KNOWN, KEY_UNKNOWN, KEY_TWICE, KEY_TOO_MANY };

/* Makes a table for `known` names and objects of up to `most` keys. False: no memory. */
bool keys_init(struct keys *keys, size_t known, size_t most);
void keys_release(struct keys *keys);

/* A name that the rules know. All of them come before the first object; once more does no harm. */
void keys_know(struct keys *keys, struct fms_bytes name);

/* A new object; its next key, which stays where it is until the next object. */
void keys_begin(struct keys *keys);
enum key_verdict keys_meet(struct keys *keys, struct fms_bytes key);

#endif
