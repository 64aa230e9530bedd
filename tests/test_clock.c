/* test_clock.c - what is known of the clock, on a system whose clocks the test sets. What was known once is known to all tests behind it: they
 * are one process's life, in this order. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/timex.h>

#include <cmocka.h>

#include "clock.h"

#define UTC (INT64_C(1795960800) * FMS_SECOND)

#ifdef __USE_TIME_BITS64 /* on systems of 32 bit, which have these names for them */
#define __wrap_clock_gettime __wrap___clock_gettime64
#define __wrap_adjtimex      __wrap____adjtimex64
#endif

static int64_t uptime = 10 * FMS_SECOND, offset; /* of CLOCK_REALTIME */
static int64_t lost;                             /* nanoseconds between a reading and the next */
static bool is_synchronised, is_denied;

int __wrap_clock_gettime(clockid_t clock, struct timespec *to);
int __wrap_clock_gettime(clockid_t clock, struct timespec *to)
{
    int64_t time = clock == CLOCK_REALTIME ? uptime + offset : uptime;

    uptime += lost;
    lost = 0;
    *to = (struct timespec){time / FMS_SECOND, (long)(time % FMS_SECOND)};
    return 0;
}

int __wrap_adjtimex(struct timex *state);
int __wrap_adjtimex(struct timex *state)
{
    assert_int_equal(state->modes, 0); /* it only looks */
    if (is_denied) {
        errno = EPERM;
        return -1;
    }
    state->maxerror = is_synchronised ? 250000 : 16000000;
    return is_synchronised ? TIME_OK : TIME_ERROR;
}

static void expect(enum fms_clock_state state, int64_t is)
{
    struct fms_clock clock;

    clock_look(&clock);
    assert_int_equal(clock.state, state);
    assert_int_equal(clock.offset, is);
    assert_int_equal(clock.uptime, uptime);
    assert_int_equal(clock_realtime(), uptime + is);
}

static void pass(int64_t time)
{
    uptime += time;
}

static void test_not_known(void **state)
{
    struct fms_clock one, other;

    (void)state;
    expect(FMS_CLOCK_UNKNOWN, 0);
    assert_int_equal(clock_refusal(), 0);
    is_synchronised = is_denied = true;
    pass(FMS_SECOND);
    expect(FMS_CLOCK_UNKNOWN, 0);
    assert_int_equal(clock_refusal(), EPERM);
    is_synchronised = is_denied = false;
    pass(FMS_SECOND);
    expect(FMS_CLOCK_UNKNOWN, 0);
    assert_int_equal(clock_refusal(), 0);
    clock_look(&one);
    clock_look(&other);
    assert_true(one.boot[0] != 0 || one.boot[1] != 0);
    assert_memory_equal(one.boot, other.boot, sizeof one.boot);
}

/* A thread that loses its core for a minute between two readings has not seen a jump. */
static void test_a_jump_is_one(void **state)
{
    struct fms_clock clock;

    (void)state;
    lost = 60 * FMS_SECOND; /* the clock itself goes on */
    clock_look(&clock);
    assert_int_equal(clock.offset, 0);
    offset = 90 * FMS_MS;
    clock_look(&clock);
    assert_int_equal(clock.offset, 0);
    offset = 110 * FMS_MS; /* of several small ones, too */
    clock_look(&clock);
    assert_int_equal(clock.offset, 110 * FMS_MS);
    offset = -50 * 365 * 86400 * FMS_SECOND;
    expect(FMS_CLOCK_UNKNOWN, -50 * 365 * 86400 * FMS_SECOND);
    offset = 0;
    expect(FMS_CLOCK_UNKNOWN, 0);
}

/* Three words that agree, one behind the other. */
static void test_told(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_false(clock_tell(uptime + UTC));
        pass(FMS_SECOND);
        assert_false(clock_tell(uptime + UTC - 3600 * FMS_SECOND)); /* two clocks that do not agree */
        pass(FMS_SECOND);
    }
    expect(FMS_CLOCK_UNKNOWN, 0);
    assert_false(clock_tell(uptime + UTC));
    pass(60 * FMS_SECOND);
    assert_false(clock_tell(uptime + UTC + 250 * FMS_MS));
    expect(FMS_CLOCK_UNKNOWN, 0);
    assert_true(clock_tell(uptime + UTC));
    expect(FMS_CLOCK_TOLD, UTC);
    pass(FMS_SECOND);
    assert_false(clock_tell(uptime + UTC + 750 * FMS_MS)); /* as coarse as a bus's clock */
    expect(FMS_CLOCK_TOLD, UTC);
    offset = 3 * FMS_SECOND; /* the system's jumps, and nobody has said that it is right */
    expect(FMS_CLOCK_TOLD, UTC);
    for (int i = 0; i < 2; i++)
        assert_false(clock_tell(uptime + UTC + 5 * FMS_SECOND));
    assert_true(clock_tell(uptime + UTC + 5 * FMS_SECOND));
    expect(FMS_CLOCK_TOLD, UTC + 5 * FMS_SECOND);
}

/* What the system knows goes before what is told, at once where its clock jumps, else within a second. */
static void test_right(void **state)
{
    (void)state;
    is_synchronised = true;
    offset = UTC;
    expect(FMS_CLOCK_RIGHT, UTC);
    for (int i = 0; i < 5; i++)
        assert_false(clock_tell(uptime + UTC + 7200 * FMS_SECOND));
    expect(FMS_CLOCK_RIGHT, UTC);
}

/* Out of reach of its servers the kernel takes the clock for lost after some hours; it is not. Until it jumps. */
static void test_right_until_it_jumps(void **state)
{
    (void)state;
    is_synchronised = false;
    pass(10 * 3600 * FMS_SECOND);
    expect(FMS_CLOCK_RIGHT, UTC);
    offset = UTC - 86400 * FMS_SECOND;
    expect(FMS_CLOCK_UNKNOWN, UTC - 86400 * FMS_SECOND);
    offset = UTC;
    expect(FMS_CLOCK_RIGHT, UTC);
    offset = 0;
    for (int i = 0; i < 3; i++)
        clock_tell(uptime + UTC);
    expect(FMS_CLOCK_TOLD, UTC);
    is_synchronised = true;
    pass(FMS_SECOND);
    expect(FMS_CLOCK_RIGHT, 0);
}

/* Of a clock that says about the same as what is told only the state changes. */
static void test_told_what_it_is(void **state)
{
    (void)state;
    is_synchronised = false;
    offset = UTC - 500 * FMS_MS;
    for (int i = 0; i < 3; i++)
        assert_false(clock_tell(uptime + UTC));
    expect(FMS_CLOCK_TOLD, UTC - 500 * FMS_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_known),
        cmocka_unit_test(test_a_jump_is_one),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_right_until_it_jumps),
        cmocka_unit_test(test_told_what_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
