/* test_instant.c - times as payloads have them, there and back, held against the C library's calendar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "../plugins/json_common/instant.h"

/* "seconds.nanoseconds unit" */
static const char *number(const char *text)
{
    static char said[128];
    struct instant instant;
    struct decimal decimal;
    enum instant_unit unit;

    assert_true(decimal_read(&decimal, fms_text(text)));
    unit = instant_of_number(&instant, &decimal);
    if (unit == INSTANT_NO_UNIT)
        return "no unit";
    snprintf(said, sizeof said, "%lld.%09u %s", (long long)instant.seconds, instant.nanoseconds, instant_units[unit]);
    return said;
}

static const char *text_of(const char *text, size_t size)
{
    static char said[INSTANT_WHY + 16];
    char why[INSTANT_WHY] = "";
    struct instant instant;
    char *copy = malloc(size + 1); /* of that size: what is read behind it is seen */

    assert_non_null(copy);
    memcpy(copy, text, size);
    if (instant_of_text(&instant, fms_bytes_of(copy, size), why))
        snprintf(said, sizeof said, "%lld.%09u", (long long)instant.seconds, instant.nanoseconds);
    else
        snprintf(said, sizeof said, "%s", why);
    free(copy);
    return said;
}

#define ASSERT_NUMBER(number_, expected) assert_string_equal(number(number_), expected)
#define ASSERT_TEXT(text, expected)      assert_string_equal(text_of(text, strlen(text)), expected)

static void test_units(void **state)
{
    (void)state;
    ASSERT_NUMBER("0", "0.000000000 seconds");
    ASSERT_NUMBER("-0.0", "0.000000000 seconds");
    ASSERT_NUMBER("1763320419", "1763320419.000000000 seconds");
    ASSERT_NUMBER("1763320419.1", "1763320419.100000000 seconds"); /* as a double .0999999 */
    ASSERT_NUMBER("1763320419.123456789", "1763320419.123456789 seconds");
    ASSERT_NUMBER("1763320419.1234567899", "1763320419.123456789 seconds");
    ASSERT_NUMBER("1.763320419e9", "1763320419.000000000 seconds");
    ASSERT_NUMBER("99999999999", "99999999999.000000000 seconds");
    ASSERT_NUMBER("100000000000", "100000000.000000000 milliseconds");
    ASSERT_NUMBER("1763320419001", "1763320419.001000000 milliseconds");
    ASSERT_NUMBER("1763320419001.5", "1763320419.001500000 milliseconds");
    ASSERT_NUMBER("99999999999999", "99999999999.999000000 milliseconds");
    ASSERT_NUMBER("100000000000000", "100000000.000000000 microseconds");
    ASSERT_NUMBER("1763320419000001", "1763320419.000001000 microseconds");
    ASSERT_NUMBER("1763320419123456789", "1763320419.123456789 nanoseconds");
    ASSERT_NUMBER("1763320419123456789.9", "1763320419.123456789 nanoseconds");
    ASSERT_NUMBER("99999999999999999999", "99999999999.999999990 nanoseconds"); /* 19 digits count */
    ASSERT_NUMBER("100000000000000000000", "no unit");
    ASSERT_NUMBER("1e30", "no unit");
    ASSERT_NUMBER("-1e999999999999999999999", "no unit");
    ASSERT_NUMBER("1e-300", "0.000000000 seconds");
    ASSERT_NUMBER("1e-9", "0.000000001 seconds");
    ASSERT_NUMBER("1e-10", "0.000000000 seconds");
    ASSERT_NUMBER("-9e18", "-9000000000.000000000 nanoseconds");
    ASSERT_NUMBER("-1", "-1.000000000 seconds");
    ASSERT_NUMBER("-0.25", "-1.750000000 seconds");
    ASSERT_NUMBER("-100000000000.001", "-100000001.999999000 milliseconds");
}

static void test_texts(void **state)
{
    (void)state;
    ASSERT_TEXT("1970-01-01T00:00:00Z", "0.000000000");
    ASSERT_TEXT("2025-11-16T19:13:39Z", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16t19:13:39z", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16 19:13:39Z", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16T20:13:39+01:00", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16T13:43:39-05:30", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16T19:13:39-00:00", "1763320419.000000000");
    ASSERT_TEXT("2025-11-16T19:13:39.1Z", "1763320419.100000000");
    ASSERT_TEXT("2025-11-16T19:13:39.123456789987654321+00:00", "1763320419.123456789");
    ASSERT_TEXT("1969-12-31T23:59:59.75Z", "-1.750000000");
    ASSERT_TEXT("0000-01-01T00:00:00Z", "-62167219200.000000000");
    ASSERT_TEXT("0000-02-29T00:00:00Z", "-62162121600.000000000");
    ASSERT_TEXT("9999-12-31T23:59:59Z", "253402300799.000000000");
    ASSERT_TEXT("2024-02-29T00:00:00Z", "1709164800.000000000");
    ASSERT_TEXT("2000-02-29T23:59:59+23:59", "951782459.000000000");
}

/* A leap second is the second behind it; it is one by UTC, whatever the offset. */
static void test_leap_seconds(void **state)
{
    const char *where = "second 60 is there only at the end of a month, 23:59:60 UTC";

    (void)state;
    ASSERT_TEXT("2016-12-31T23:59:60Z", "1483228800.000000000");
    ASSERT_TEXT("2016-12-31T23:59:60.5Z", "1483228800.500000000");
    ASSERT_TEXT("2017-01-01T00:59:60+01:00", "1483228800.000000000");
    ASSERT_TEXT("1972-06-30T15:59:60-08:00", "78796800.000000000");
    ASSERT_TEXT("2016-12-31T23:59:60+01:00", where);
    ASSERT_TEXT("2016-12-30T23:59:60Z", where);
    ASSERT_TEXT("2016-12-31T12:00:60Z", where);
    ASSERT_TEXT("2016-12-31T23:59:61Z", "there is no second 61");
}

static void test_what_is_no_time(void **state)
{
    static const char *const wrong[][2] = {
        {"", "a digit expected at byte 0"},
        {"now", "a digit expected at byte 0"},
        {"1763320419", "- expected at byte 4"},
        {"25-11-16T19:13:39Z", "a digit expected at byte 2"},
        {"2025/11/16T19:13:39Z", "- expected at byte 4"},
        {"2025-11-16", "T expected at byte 10"},
        {"2025-11-16T", "a digit expected at byte 11"},
        {"2025-11-16X19:13:39Z", "T expected at byte 10"},
        {"2025-11-16T19:13Z", "a colon expected at byte 16"},
        {"2025-11-16T19:13:39", "Z or an offset such as +01:00 expected at byte 19"},
        {"2025-11-16T19:13:39,5Z", "Z or an offset such as +01:00 expected at byte 19"},
        {"2025-11-16T19:13:39.Z", "a digit expected at byte 20"},
        {"2025-11-16T19:13:39+1:00", "a digit expected at byte 21"},
        {"2025-11-16T19:13:39+0100", "a colon expected at byte 22"},
        {"2025-11-16T19:13:39+01", "a colon expected at byte 22"},
        {"2025-11-16T19:13:39+24:00", "there is no offset of hour 24"},
        {"2025-11-16T19:13:39+01:60", "there is no minute 60"},
        {"2025-11-16T19:13:39Z ", "nothing more expected at byte 20"},
        {"2025-00-16T19:13:39Z", "there is no month 00"},
        {"2025-13-16T19:13:39Z", "there is no month 13"},
        {"2025-11-00T19:13:39Z", "November 2025 has no day 00"},
        {"2025-11-31T19:13:39Z", "November 2025 has no day 31"},
        {"2025-02-29T19:13:39Z", "February 2025 has no day 29"},
        {"1900-02-29T19:13:39Z", "February 1900 has no day 29"},
        {"2025-11-16T24:00:00Z", "there is no hour 24"},
        {"2025-11-16T19:60:39Z", "there is no minute 60"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ASSERT_TEXT(wrong[i][0], wrong[i][1]);
    assert_string_equal(text_of("2025-11-16\0 19:13:39Z", 20), "T expected at byte 10");
}

#if defined NDEBUG && !defined EMULATED
#define DAYS 1
#else
#define DAYS 37 /* sanitizers, valgrind and emulators, which are slow, see no more in each than in some */
#endif

/* Every day of 10,000 years, at another second of it. */
static void test_there_and_back(void **state)
{
    char text[INSTANT_TEXT], expected[INSTANT_TEXT], why[INSTANT_WHY];

    (void)state;
    for (int64_t seconds = -62167219200; seconds <= 253402300799; seconds += DAYS * 86413) {
        time_t time = (time_t)seconds;
        struct instant instant = {seconds, 0}, back;
        struct tm tm;

        assert_non_null(gmtime_r(&time, &tm));
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        assert_int_equal(instant_text(instant, text), strlen(expected));
        assert_string_equal(text, expected);
        assert_true(instant_of_text(&back, fms_text(text), why));
        assert_int_equal(back.seconds, seconds);
        assert_int_equal(back.nanoseconds, 0);
    }
    assert_int_equal(instant_text((struct instant){-62167219201, 999999999}, text), 0);
    assert_int_equal(instant_text((struct instant){253402300800, 0}, text), 0);
}

static void test_digits_behind_the_point(void **state)
{
    static const struct {
        uint32_t nanoseconds;
        const char *text;
    } cases[] = {{0, "Z"}, {250000000, ".250Z"}, {1000, ".000001Z"}, {123456789, ".123456789Z"}, {10, ".000000010Z"}};
    char text[INSTANT_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        instant_text((struct instant){-1, cases[i].nanoseconds}, text);
        assert_string_equal(text + strlen("1969-12-31T23:59:59"), cases[i].text);
    }
}

static const char *unix_of(int64_t seconds, uint32_t nanoseconds, enum instant_unit unit)
{
    static char text[INSTANT_TEXT];
    size_t size = instant_number((struct instant){seconds, nanoseconds}, unit, text);

    assert_int_equal(size, strlen(text));
    return text;
}

static void test_unix_times(void **state)
{
    (void)state;
    assert_string_equal(unix_of(1763320419, 987654321, INSTANT_SECONDS), "1763320419");
    assert_string_equal(unix_of(1763320419, 7654321, INSTANT_MILLISECONDS), "1763320419007");
    assert_string_equal(unix_of(1763320419, 7654321, INSTANT_MICROSECONDS), "1763320419007654");
    assert_string_equal(unix_of(1763320419, 7654321, INSTANT_NANOSECONDS), "1763320419007654321");
    assert_string_equal(unix_of(0, 5000000, INSTANT_MILLISECONDS), "5");
    assert_string_equal(unix_of(0, 999999, INSTANT_MILLISECONDS), "0");
    assert_string_equal(unix_of(-1, 750000000, INSTANT_MILLISECONDS), "-250");
    assert_string_equal(unix_of(-1, 750000000, INSTANT_SECONDS), "-1");
    assert_string_equal(unix_of(-2, 1000000, INSTANT_MILLISECONDS), "-1999");
    assert_string_equal(unix_of(-2, 0, INSTANT_MILLISECONDS), "-2000");
    assert_string_equal(unix_of(-1, 999999999, INSTANT_NANOSECONDS), "-1");
    assert_string_equal(unix_of(99999999999, 999999999, INSTANT_NANOSECONDS), "99999999999999999999");
}

static void test_nanoseconds(void **state)
{
    static const int64_t all[] = {INT64_MIN, -FMS_SECOND - 1, -FMS_SECOND, -1, 0, 1, FMS_SECOND, INT64_MAX};
    struct instant instant;
    int64_t back;

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(instant_nanoseconds(instant_of_nanoseconds(all[i]), &back));
        assert_int_equal(back, all[i]);
    }
    instant = instant_of_nanoseconds(INT64_MAX);
    instant.nanoseconds++;
    assert_false(instant_nanoseconds(instant, &back));
    instant = instant_of_nanoseconds(INT64_MIN);
    instant.nanoseconds--;
    assert_false(instant_nanoseconds(instant, &back));
    assert_false(instant_nanoseconds((struct instant){99999999999, 0}, &back));
}

static void test_either_way(void **state)
{
    char why[INSTANT_WHY];
    struct instant instant;

    (void)state;
    assert_true(instant_of_value(&instant, fms_text("1763320419500"), why));
    assert_int_equal(instant.seconds, 1763320419);
    assert_true(instant_of_value(&instant, fms_text("2025-11-16T19:13:40Z"), why));
    assert_int_equal(instant.seconds, 1763320420);
    assert_false(instant_of_value(&instant, fms_text("1e30"), why));
    assert_string_equal(why, "it is no Unix time, in whatever unit");
    assert_false(instant_of_value(&instant, fms_text("x"), why));
    assert_string_equal(why, "a digit expected at byte 0");
}

static void test_differences(void **state)
{
    struct instant a = {-100000000000, 1}, b = {99999999999, 0}, between = instant_between(a, b);

    (void)state;
    assert_int_equal(between.seconds, 199999999998);
    assert_int_equal(between.nanoseconds, 999999999);
    between = instant_between(b, a);
    assert_int_equal(between.seconds, -199999999999);
    assert_int_equal(between.nanoseconds, 1);
    a = instant_of_nanoseconds(INT64_MIN);
    assert_int_equal(a.seconds, -9223372037);
    assert_int_equal(a.nanoseconds, 145224192);
    a = instant_of_nanoseconds(INT64_MAX);
    assert_int_equal(a.seconds, 9223372036);
    assert_int_equal(a.nanoseconds, 854775807);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),          cmocka_unit_test(test_texts),
        cmocka_unit_test(test_leap_seconds),   cmocka_unit_test(test_what_is_no_time),
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_digits_behind_the_point),
        cmocka_unit_test(test_unix_times),     cmocka_unit_test(test_differences),
        cmocka_unit_test(test_nanoseconds),    cmocka_unit_test(test_either_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
