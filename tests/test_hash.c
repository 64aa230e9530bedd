/* test_hash.c - names that senders choose find places that they cannot foretell. */
#include "../plugins/hash_common/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NAMES  16384
#define PLACES 16384

static void each_table_has_a_seed_of_its_own(void **state)
{
    struct hash_seed one, other;
    struct fms_bytes name = fms_text("raspi-001");

    (void)state;
    hash_seed(&one);
    hash_seed(&other);
    assert_memory_not_equal(&one, &other, sizeof one);
    assert_true(hash_of(&one, name) == hash_of(&one, name));
    assert_false(hash_of(&one, name) == hash_of(&other, name));
}

static void each_bit_of_a_name_counts_and_its_size(void **state)
{
    struct hash_seed seed;
    char name[64] = {0};

    (void)state;
    hash_seed(&seed);
    for (size_t size = 0; size <= sizeof name; size++) {
        uint64_t hash = hash_of(&seed, fms_bytes_of(name, size));

        assert_true(size == 0 || hash != hash_of(&seed, fms_bytes_of(name, size - 1)));
        for (size_t bit = 0; bit < 8 * size; bit++) {
            name[bit / 8] = (char)(name[bit / 8] ^ (1 << bit % 8));
            assert_true(hash_of(&seed, fms_bytes_of(name, size)) != hash);
            name[bit / 8] = 0;
        }
    }
}

/* The most names that share one of the places, which the bits from `shift` on choose. */
static unsigned most_in_a_place(const struct hash_seed *seed, const char *format, unsigned shift)
{
    static unsigned counts[PLACES];
    unsigned most = 0;
    char name[64];

    memset(counts, 0, sizeof counts);
    for (unsigned i = 0; i < NAMES; i++) {
        unsigned *count;

        snprintf(name, sizeof name, format, i);
        count = &counts[(hash_of(seed, fms_text(name)) >> shift) % PLACES];
        most = ++*count > most ? *count : most;
    }
    return most;
}

/* 16384 balls in as many urns: more than 14 in one comes once in some ten million times. */
static void names_spread(void **state)
{
    static const char *const formats[] = {"%u", "raspi-%05u", "%08x", "WDB9634031L%06u",
                                          "a-vehicle-with-a-long-name-%u-of-a-fleet"};

    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct hash_seed seed;

        hash_seed(&seed);
        assert_in_range(most_in_a_place(&seed, formats[i], 0), 1, 14);
        assert_in_range(most_in_a_place(&seed, formats[i], 32), 1, 14);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_table_has_a_seed_of_its_own),
        cmocka_unit_test(each_bit_of_a_name_counts_and_its_size),
        cmocka_unit_test(names_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
