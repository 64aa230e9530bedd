/* keys.c - a hash table of fixed size, open addressing.
 *
 * Known names stand in it for good. The other keys stand in it for one object: a slot whose round is over is as good as
 * an empty one, so nothing is cleared between objects. The known names come first, so no search for one of them ever
 * passes over a slot that falls empty. */
#include "keys.h"

#include <stdlib.h>

struct key_slot {
    const char *text;
    size_t size;
    uint32_t round; /* of the object in which it was met; 0: none */
    bool is_known;
};

bool keys_init(struct keys *keys, size_t known, size_t most)
{
    *keys = (struct keys){.slot_count = 16, .most = most};
    hash_seed(&keys->seed);
    while (keys->slot_count < 2 * (known + most))
        keys->slot_count *= 2;
    keys->slots = calloc(keys->slot_count, sizeof *keys->slots);
    return keys->slots != NULL;
}

void keys_release(struct keys *keys)
{
    free(keys->slots);
}

/* The slot that has the key, or the one for it. */
static struct key_slot *keys_find(struct keys *keys, struct fms_bytes key)
{
    for (size_t i = (size_t)hash_of(&keys->seed, key);; i++) {
        struct key_slot *slot = &keys->slots[i & (keys->slot_count - 1)];

        if (!slot->is_known && (slot->round != keys->round || slot->round == 0))
            return slot;
        if (slot->size == key.size && memcmp(slot->text, key.data, key.size) == 0)
            return slot;
    }
}

void keys_know(struct keys *keys, struct fms_bytes name)
{
    *keys_find(keys, name) = (struct key_slot){name.data, name.size, 0, true};
}

void keys_begin(struct keys *keys)
{
    keys->count = 0;
    if (++keys->round > 0)
        return;
    for (size_t i = 0; i < keys->slot_count; i++) /* the rounds have come round */
        keys->slots[i].round = 0;
    keys->round = 1;
}

enum key_verdict keys_meet(struct keys *keys, struct fms_bytes key)
{
    struct key_slot *slot = keys_find(keys, key);

    if (slot->round == keys->round)
        return KEY_TWICE;
    if (keys->count++ == keys->most)
        return KEY_TOO_MANY;
    if (slot->is_known)
        slot->round = keys->round;
    else
        *slot = (struct key_slot){key.data, key.size, keys->round, false};
    return slot->is_known ? KEY_KNOWN : KEY_UNKNOWN;
}
