/* test_can_j1939.c - identifiers, and what becomes of messages of several packets: whole, or counted under what went wrong. */
#include "../plugins/can_common/j1939.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define VIN 0xFEEC /* what the messages here are about */

static struct j1939 j1939;
static struct j1939_message message;
static int64_t now;

static int set_up(void **state)
{
    (void)state;
    memset(&j1939, 0, sizeof j1939);
    now = 1000 * FMS_SECOND;
    return 0;
}

static bool take(uint32_t pgn, int source, int destination, const uint8_t data[8])
{
    struct j1939_id id = {pgn, 7, (uint8_t)source, (uint8_t)destination};

    now += 10 * FMS_MS;
    return j1939_take(&j1939, id, data, 8, now, &message);
}

static bool control(int kind, int source, int destination, unsigned b1, unsigned b2, unsigned b3)
{
    const uint8_t data[8] = {(uint8_t)kind, (uint8_t)b1, (uint8_t)b2, (uint8_t)b3, 0xff, VIN & 0xff, VIN >> 8, 0};

    return take(J1939_PGN_CONTROL, source, destination, data);
}

static bool bam(int source, unsigned size)
{
    return control(32, source, J1939_GLOBAL, size & 0xff, size >> 8, (size + 6) / 7);
}

static bool rts(int source, int destination, unsigned size)
{
    return control(16, source, destination, size & 0xff, size >> 8, (size + 6) / 7);
}

/* The byte of a message at that place. */
static uint8_t byte_at(size_t place)
{
    return (uint8_t)(place * 31 + place / 251);
}

static bool packet(int source, int destination, unsigned number)
{
    uint8_t data[8] = {(uint8_t)number};

    for (size_t i = 0; i < 7; i++)
        data[1 + i] = byte_at((number - 1) * 7 + i);
    return take(J1939_PGN_DATA, source, destination, data);
}

static void assert_whole(int source, int destination, size_t size)
{
    assert_int_equal(message.id.pgn, VIN);
    assert_int_equal(message.id.source, source);
    assert_int_equal(message.id.destination, destination);
    assert_int_equal(message.size, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(message.data[i], byte_at(i));
}

/* What was counted: pairs of a kind and a number, ended by J1939_COUNTS; all others are 0. */
static void assert_counts(const int *pairs)
{
    uint64_t expected[J1939_COUNTS] = {0};

    for (; *pairs != J1939_COUNTS; pairs += 2)
        expected[pairs[0]] = (uint64_t)pairs[1];
    for (int i = 0; i < J1939_COUNTS; i++) {
        if (j1939.counts[i] != expected[i])
            fail_msg("count %d is %d, not %d", i, (int)j1939.counts[i], (int)expected[i]);
    }
}

#define ASSERT_COUNTS(...) assert_counts((const int[]){__VA_ARGS__, J1939_COUNTS})

/* -------------------------------------------------------------------------------------------------------- identifiers */

static void identifiers(void **state)
{
    struct j1939_id id = j1939_id_of(0x18FEF131);

    (void)state;
    assert_int_equal(id.pgn, 0xFEF1);
    assert_int_equal(id.priority, 6);
    assert_int_equal(id.source, 0x31);
    assert_int_equal(id.destination, J1939_GLOBAL);
    assert_int_equal(j1939_id_make(id), 0x18FEF131);

    id = j1939_id_of(0x1CEC27F9); /* to one: its address is no part of the PGN */
    assert_int_equal(id.pgn, 0xEC00);
    assert_int_equal(id.destination, 0x27);
    assert_int_equal(id.source, 0xF9);
    assert_int_equal(j1939_id_make(id), 0x1CEC27F9);

    id = j1939_id_of(0x0FF00421 | 0x03000000); /* both page bits belong to it */
    assert_int_equal(id.pgn, 0x3F004);
    for (uint32_t i = 0; i < 0x20000000; i += 7919)
        assert_int_equal(j1939_id_make(j1939_id_of(i)), i);
}

static void a_single_frame_is_a_message(void **state)
{
    const uint8_t data[8] = {1, 2, 3};

    (void)state;
    assert_true(take(0xFEF1, 0, J1939_GLOBAL, data));
    assert_ptr_equal(message.data, data);
    assert_int_equal(message.size, 8);
    ASSERT_COUNTS(J1939_COMPLETE, 0);
}

/* ------------------------------------------------------------------------------------------------------------- whole */

static void of_every_size(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= J1939_SIZE; size++) {
        unsigned packets = (size + 6) / 7;

        assert_false(bam(3, size));
        for (unsigned i = 1; i < packets; i++)
            assert_false(packet(3, J1939_GLOBAL, i));
        assert_true(packet(3, J1939_GLOBAL, packets));
        assert_whole(3, J1939_GLOBAL, size);
    }
    ASSERT_COUNTS(J1939_COMPLETE, J1939_SIZE);
}

static void to_one_receiver(void **state)
{
    (void)state;
    rts(0, 0x27, 17);
    control(17, 0x27, 0, 3, 1, 0xff);
    packet(0, 0x27, 1);
    packet(0, 0x27, 2);
    assert_true(packet(0, 0x27, 3));
    assert_whole(0, 0x27, 17);
    control(19, 0x27, 0, 17, 0, 3);
    ASSERT_COUNTS(J1939_COMPLETE, 1);
}

/* The receiver had not got the second, and asks for it and the third: that is no fault of the bus. */
static void what_the_receiver_asks_for_again(void **state)
{
    (void)state;
    rts(0, 0x27, 24);
    control(17, 0x27, 0, 3, 1, 0xff);
    packet(0, 0x27, 1);
    packet(0, 0x27, 3);
    control(17, 0x27, 0, 0, 0xff, 0xff); /* wait */
    control(17, 0x27, 0, 2, 2, 0xff);
    packet(0, 0x27, 2);
    packet(0, 0x27, 3);
    assert_true(packet(0, 0x27, 4));
    assert_whole(0, 0x27, 24);
    ASSERT_COUNTS(J1939_COMPLETE, 1);
}

static void sixteen_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < J1939_SESSIONS; i++)
        i % 2 == 0 ? bam(i, 20) : rts(i, 0x27, 20);
    bam(100, 20);
    for (unsigned number = 1; number <= 3; number++) {
        for (int i = 0; i < J1939_SESSIONS; i++) {
            int to = i % 2 == 0 ? J1939_GLOBAL : 0x27;

            assert_int_equal(packet(i, to, number), number == 3);
            if (number == 3)
                assert_whole(i, to, 20);
        }
    }
    ASSERT_COUNTS(J1939_COMPLETE, 16, J1939_NO_ROOM, 1);
    bam(100, 20); /* there is room again */
    ASSERT_COUNTS(J1939_COMPLETE, 16, J1939_NO_ROOM, 1);
}

/* ------------------------------------------------------------------------------------------------------- what goes wrong */

static void a_lost_packet(void **state)
{
    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    assert_false(packet(0, J1939_GLOBAL, 3));
    bam(0, 20); /* the next one: nothing more can come of the first */
    ASSERT_COUNTS(J1939_LOST, 1);
    packet(0, J1939_GLOBAL, 1);
    packet(0, J1939_GLOBAL, 2);
    assert_true(packet(0, J1939_GLOBAL, 3));
    ASSERT_COUNTS(J1939_LOST, 1, J1939_COMPLETE, 1);
}

static void a_lost_packet_that_the_receiver_had(void **state)
{
    (void)state;
    rts(0, 0x27, 20);
    packet(0, 0x27, 1);
    packet(0, 0x27, 3);
    control(19, 0x27, 0, 20, 0, 3);
    ASSERT_COUNTS(J1939_LOST, 1);
}

static void a_doubled_packet(void **state)
{
    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    packet(0, J1939_GLOBAL, 1);
    packet(0, J1939_GLOBAL, 2);
    assert_true(packet(0, J1939_GLOBAL, 3));
    assert_whole(0, J1939_GLOBAL, 20);
    ASSERT_COUNTS(J1939_DOUBLED, 1, J1939_COMPLETE, 1);
}

static void a_doubled_packet_that_differs(void **state)
{
    const uint8_t other[8] = {1, 'x'};

    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    take(J1939_PGN_DATA, 0, J1939_GLOBAL, other);
    packet(0, J1939_GLOBAL, 2);
    assert_false(packet(0, J1939_GLOBAL, 3));
    ASSERT_COUNTS(J1939_CONFLICTS, 1, J1939_ORPHANS, 2);
}

static void reordered_packets(void **state)
{
    (void)state;
    bam(0, 26);
    packet(0, J1939_GLOBAL, 2);
    packet(0, J1939_GLOBAL, 1);
    packet(0, J1939_GLOBAL, 4);
    assert_true(packet(0, J1939_GLOBAL, 3));
    assert_whole(0, J1939_GLOBAL, 26);
    ASSERT_COUNTS(J1939_REORDERED, 2, J1939_COMPLETE, 1);
}

static void one_begun_before_another_has_ended(void **state)
{
    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    rts(0, 0x27, 9); /* to another: both go on */
    bam(1, 9);       /* and this is another sender's */
    ASSERT_COUNTS(J1939_OVERLAPPED, 0);
    bam(0, 9);
    ASSERT_COUNTS(J1939_OVERLAPPED, 1);
    packet(0, J1939_GLOBAL, 1);
    assert_true(packet(0, J1939_GLOBAL, 2));
    assert_whole(0, J1939_GLOBAL, 9);
    packet(0, 0x27, 1);
    assert_true(packet(0, 0x27, 2));
    ASSERT_COUNTS(J1939_OVERLAPPED, 1, J1939_COMPLETE, 2);
}

static void aborted_by_either_side(void **state)
{
    const uint8_t other[8] = {255, 1, 0xff, 0xff, 0xff, 0, 0xfe, 0};

    (void)state;
    rts(0, 0x27, 20);
    take(J1939_PGN_CONTROL, 0x27, 0, other); /* about something else */
    ASSERT_COUNTS(J1939_ABORTED, 0);
    control(255, 0x27, 0, 1, 0xff, 0xff);
    ASSERT_COUNTS(J1939_ABORTED, 1);
    packet(0, 0x27, 1);
    rts(0, 0x27, 20);
    control(255, 0, 0x27, 3, 0xff, 0xff);
    ASSERT_COUNTS(J1939_ABORTED, 2, J1939_ORPHANS, 1);
}

static void pauses(void **state)
{
    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    now += J1939_BAM_PAUSE - 10 * FMS_MS; /* the longest that there may be */
    packet(0, J1939_GLOBAL, 2);
    now += J1939_BAM_PAUSE;
    assert_false(packet(0, J1939_GLOBAL, 3));
    ASSERT_COUNTS(J1939_TIMED_OUT, 1, J1939_ORPHANS, 1);

    rts(0, 0x27, 20);
    now += J1939_RTS_PAUSE - 10 * FMS_MS;
    packet(0, 0x27, 1);
    packet(0, 0x27, 3);
    j1939_expire(&j1939, now + J1939_RTS_PAUSE);
    ASSERT_COUNTS(J1939_TIMED_OUT, 1, J1939_ORPHANS, 1);
    j1939_expire(&j1939, now + J1939_RTS_PAUSE + 1);
    ASSERT_COUNTS(J1939_TIMED_OUT, 1, J1939_ORPHANS, 1, J1939_LOST, 1);
}

/* Sixteen that never end make no room for ever only as long as the pause lasts. */
static void what_waits_too_long_makes_room(void **state)
{
    (void)state;
    for (int i = 0; i < J1939_SESSIONS; i++)
        bam(i, 20);
    now += J1939_BAM_PAUSE;
    bam(100, 9);
    packet(100, J1939_GLOBAL, 1);
    assert_true(packet(100, J1939_GLOBAL, 2));
    ASSERT_COUNTS(J1939_TIMED_OUT, 16, J1939_COMPLETE, 1);
}

static void a_clock_that_jumps(void **state)
{
    (void)state;
    bam(0, 20);
    packet(0, J1939_GLOBAL, 1);
    now -= 400 * FMS_MS;
    packet(0, J1939_GLOBAL, 2);
    assert_true(packet(0, J1939_GLOBAL, 3));
    bam(0, 20);
    now = INT64_MIN;
    j1939_expire(&j1939, now);
    bam(0, 20);
    j1939_expire(&j1939, INT64_MAX);
    ASSERT_COUNTS(J1939_COMPLETE, 1, J1939_TIMED_OUT, 2);
}

static void hostile_sizes(void **state)
{
    static const unsigned cases[][3] = {{0, 0, 0},  {0, 0, 1},  {0xfa, 0x06, 255}, {0xff, 0xff, 255}, {20, 0, 2},
                                        {20, 0, 4}, {20, 0, 0}, {0xf9, 0x06, 254}, {1, 0, 255}};
    const uint8_t data[8] = {32, 9, 0, 2, 0xff, 0xec, 0xfe, 0};
    size_t count = sizeof cases / sizeof *cases;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        control(32, 0, J1939_GLOBAL, cases[i][0], cases[i][1], cases[i][2]);
        assert_false(packet(0, J1939_GLOBAL, 1));
    }
    ASSERT_COUNTS(J1939_BAD_SIZES, (int)count, J1939_ORPHANS, (int)count);

    bam(0, 20);
    assert_false(packet(0, J1939_GLOBAL, 0));
    assert_false(packet(0, J1939_GLOBAL, 4));
    assert_false(packet(0, J1939_GLOBAL, 255));
    ASSERT_COUNTS(J1939_BAD_SIZES, (int)count + 3, J1939_ORPHANS, (int)count);

    control(16, 0, J1939_GLOBAL, 9, 0, 2); /* asks all; or announces to all, to one */
    control(32, 0, 0x27, 9, 0, 2);
    for (size_t size = 0; size < 8; size++)
        assert_false(j1939_take(&j1939, (struct j1939_id){J1939_PGN_CONTROL, 7, 5, 255}, data, size, now, &message));
    ASSERT_COUNTS(J1939_BAD_SIZES, (int)count + 13, J1939_ORPHANS, (int)count, J1939_OVERLAPPED, 1);
}

static void answers_to_nothing(void **state)
{
    (void)state;
    control(17, 0x27, 0, 3, 1, 0xff);
    control(19, 0x27, 0, 20, 0, 3);
    control(255, 0x27, 0, 1, 0xff, 0xff);
    control(18, 0x27, 0, 1, 0xff, 0xff);
    packet(0, 0x27, 1);
    ASSERT_COUNTS(J1939_ORPHANS, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(identifiers, set_up),
        cmocka_unit_test_setup(a_single_frame_is_a_message, set_up),
        cmocka_unit_test_setup(of_every_size, set_up),
        cmocka_unit_test_setup(to_one_receiver, set_up),
        cmocka_unit_test_setup(what_the_receiver_asks_for_again, set_up),
        cmocka_unit_test_setup(sixteen_at_once, set_up),
        cmocka_unit_test_setup(a_lost_packet, set_up),
        cmocka_unit_test_setup(a_lost_packet_that_the_receiver_had, set_up),
        cmocka_unit_test_setup(a_doubled_packet, set_up),
        cmocka_unit_test_setup(a_doubled_packet_that_differs, set_up),
        cmocka_unit_test_setup(reordered_packets, set_up),
        cmocka_unit_test_setup(one_begun_before_another_has_ended, set_up),
        cmocka_unit_test_setup(aborted_by_either_side, set_up),
        cmocka_unit_test_setup(pauses, set_up),
        cmocka_unit_test_setup(what_waits_too_long_makes_room, set_up),
        cmocka_unit_test_setup(a_clock_that_jumps, set_up),
        cmocka_unit_test_setup(hostile_sizes, set_up),
        cmocka_unit_test_setup(answers_to_nothing, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
