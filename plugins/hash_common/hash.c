/* hash.c - see hash.h.
 *
 * Sixteen bytes at a time, each half mixed with a secret, are multiplied with each other, and the halves of the product are
 * folded: a short name costs two multiplications, a tenth of SipHash. */
#include "hash.h"

#include <sys/random.h>
#include <time.h>

void hash_seed(struct hash_seed *seed)
{
    struct timespec now;

    if (getrandom(seed->words, sizeof seed->words, GRND_NONBLOCK) == (ssize_t)sizeof seed->words)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    seed->words[0] = (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15);
    seed->words[1] = (uint64_t)now.tv_sec * UINT64_C(0xbf58476d1ce4e5b9) + seed->words[0];
    seed->words[2] = (uintptr_t)seed * UINT64_C(0x94d049bb133111eb) + seed->words[1];
}

static uint64_t hash_folded(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX), high = (a >> 32) * (b >> 32);
    uint64_t one = (a >> 32) * (b & UINT32_MAX), other = (a & UINT32_MAX) * (b >> 32);
    uint64_t middle = (low >> 32) + (one & UINT32_MAX) + (other & UINT32_MAX);

    low = (low & UINT32_MAX) | middle << 32;
    high += (one >> 32) + (other >> 32) + (middle >> 32);
    return low ^ high;
#endif
}

static uint64_t hash_word(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

static uint64_t hash_half_word(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

uint64_t hash_of(const struct hash_seed *seed, struct fms_bytes name)
{
    const char *at = name.data;
    size_t left = name.size;
    uint64_t state = seed->words[0] ^ name.size, first = 0, last = 0;

    for (; left > 16; left -= 16, at += 16)
        state = hash_folded(hash_word(at) ^ seed->words[1], hash_word(at + 8) ^ state);
    if (left >= 8) { /* the two words may overlap; the size tells what that would hide */
        first = hash_word(at);
        last = hash_word(at + left - 8);
    } else if (left >= 4) {
        first = hash_half_word(at);
        last = hash_half_word(at + left - 4);
    } else if (left > 0) {
        first = (uint64_t)(unsigned char)at[0] << 16 | (uint64_t)(unsigned char)at[left / 2] << 8;
        last = (unsigned char)at[left - 1];
    }
    return hash_folded(hash_folded(first ^ seed->words[1], last ^ state) ^ seed->words[2], name.size ^ seed->words[1]);
}
