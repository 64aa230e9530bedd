/* hash.h - a hash of names that senders choose, such as vehicles' ids. Compiled into the plugins that have tables of them.
 *
 * Each table draws its own seed, so that nobody can find, at home, names that all fall into one place and make each record
 * search through all the others. */
#ifndef HASH_H
#define HASH_H

#include <fms_plugin.h>

struct hash_seed {
    uint64_t words[3];
};

/* Never waits: before the system has gathered randomness, clock and addresses will have to do. */
void hash_seed(struct hash_seed *seed);

/* All bits are good. */
uint64_t hash_of(const struct hash_seed *seed, struct fms_bytes name);

#endif
