/* test_partition.c - a key belongs where Kafka's own producers put it, for ever. */
#include "partition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What Apache Kafka's own tests expect of Utils.murmur2; the partitioner cuts the sign off. */
static void as_kafka_has_it(void **state)
{
    static const struct {
        const char *key;
        int32_t hash;
    } cases[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t positive = (uint32_t)cases[i].hash & INT32_MAX;

        assert_int_equal(partition_of(fms_text(cases[i].key), UINT32_C(1) << 31), positive);
        assert_int_equal(partition_of(fms_text(cases[i].key), 12), positive % 12);
        assert_int_equal(partition_of(fms_text(cases[i].key), 1), 0);
    }
}

/* Whatever its size, and whatever bytes it has. */
static void every_byte_counts(void **state)
{
    unsigned char key[9];

    (void)state;
    for (size_t size = 1; size <= sizeof key; size++) {
        for (size_t i = 0; i < size; i++) {
            uint32_t before;

            memset(key, 0xff, sizeof key);
            before = partition_of(fms_bytes_of(key, size), UINT32_C(1) << 31);
            key[i] = 0x7f;
            assert_int_not_equal(partition_of(fms_bytes_of(key, size), UINT32_C(1) << 31), before);
        }
    }
    assert_int_equal(partition_of(fms_bytes_of("", 0), UINT32_C(1) << 31), 275646681);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_kafka_has_it),
        cmocka_unit_test(every_byte_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
