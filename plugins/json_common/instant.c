/* instant.c - see instant.h. Days are counted from March on, so that a leap day is the last of its year. */
#include "instant.h"

#include <stdio.h>

#define DAY       86400
#define DAYS_400  146097 /* in 400 years */
#define DAYS_1970 719468 /* from March of the year 0 to January 1970 */

const char *const instant_units[] = {"seconds", "milliseconds", "microseconds", "nanoseconds"};

static const int64_t instant_powers[] = {1, 1000, 1000000, 1000000000};

static const char *const instant_months[] = {"January", "February", "March",     "April",   "May",      "June",
                                             "July",    "August",   "September", "October", "November", "December"};

/* ----------------------------------------------------------------------------------------------------------- numbers */

enum instant_unit instant_of_number(struct instant *instant, const struct decimal *number)
{
    enum instant_unit unit = INSTANT_SECONDS;

    while (number->sign != 0 && unit < INSTANT_NO_UNIT && number->magnitude >= 11 + 3 * (int)unit)
        unit++;
    if (unit == INSTANT_NO_UNIT)
        return unit;
    instant->seconds = decimal_scaled(number, -3 * (int)unit);
    instant->nanoseconds = decimal_fraction(number, -3 * (int)unit);
    if (number->sign < 0 && instant->nanoseconds > 0) {
        instant->seconds--;
        instant->nanoseconds = (uint32_t)FMS_SECOND - instant->nanoseconds;
    }
    return unit;
}

struct instant instant_of_nanoseconds(int64_t nanoseconds)
{
    struct instant instant = {nanoseconds / FMS_SECOND, 0};
    int64_t rest = nanoseconds % FMS_SECOND;

    instant.seconds -= rest < 0;
    instant.nanoseconds = (uint32_t)(rest < 0 ? rest + FMS_SECOND : rest);
    return instant;
}

bool instant_nanoseconds(struct instant instant, int64_t *nanoseconds)
{
    bool is_negative = instant.seconds < 0; /* counted from the next second, so that the least fits too */
    int64_t seconds = instant.seconds + is_negative;
    int64_t rest = (int64_t)instant.nanoseconds - (is_negative ? FMS_SECOND : 0);

    return !__builtin_mul_overflow(seconds, FMS_SECOND, nanoseconds) &&
           !__builtin_add_overflow(*nanoseconds, rest, nanoseconds);
}

struct instant instant_between(struct instant earlier, struct instant later)
{
    bool borrows = later.nanoseconds < earlier.nanoseconds;
    struct instant between = {later.seconds - earlier.seconds - borrows,
                              later.nanoseconds + (borrows ? (uint32_t)FMS_SECOND : 0) - earlier.nanoseconds};

    return between;
}

size_t instant_number(struct instant instant, enum instant_unit unit, char *to)
{
    int64_t power = instant_powers[unit], whole = instant.seconds;
    int64_t rest = instant.nanoseconds / (FMS_SECOND / power);
    bool is_negative = whole < 0;
    int width = 3 * (int)unit, size;

    if (is_negative && rest > 0) {
        whole++;
        rest = power - rest;
    }
    whole = is_negative ? -whole : whole;
    if (whole == 0)
        size = snprintf(to, INSTANT_TEXT, "%s%lld", is_negative && rest > 0 ? "-" : "", (long long)rest);
    else if (width == 0)
        size = snprintf(to, INSTANT_TEXT, "%s%lld", is_negative ? "-" : "", (long long)whole);
    else
        size = snprintf(to, INSTANT_TEXT, "%s%lld%0*lld", is_negative ? "-" : "", (long long)whole, width,
                        (long long)rest);
    return (size_t)size;
}

/* ------------------------------------------------------------------------------------------------------------ the days */

static bool instant_is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int instant_month_days(int year, int month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && instant_is_leap(year));
}

/* Since 1970. The years are made positive by 400 of them. */
static int64_t instant_days(int year, int month, int day)
{
    int64_t y = year + 400 - (month <= 2), m = month > 2 ? month - 3 : month + 9;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - DAYS_1970 - DAYS_400;
}

/* The other way round, from the year 0 on. */
static void instant_date(int64_t days, int *year, int *month, int *day)
{
    int64_t d = days + DAYS_1970 + DAYS_400, in_400 = d % DAYS_400;
    int64_t y = (in_400 - in_400 / 1460 + in_400 / 36524 - in_400 / (DAYS_400 - 1)) / 365;
    int64_t in_year = in_400 - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;

    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + d / DAYS_400 * 400 - 400 + (*month <= 2));
}

/* ---------------------------------------------------------------------------------------------------------- ISO 8601 */

struct instant_reader {
    const char *start, *at, *end;
    char *why;
};

static bool instant_fail(const struct instant_reader *reader, const char *expected)
{
    snprintf(reader->why, INSTANT_WHY, "%s expected at byte %zu", expected, (size_t)(reader->at - reader->start));
    return false;
}

static bool instant_digits(struct instant_reader *reader, int count, int *value)
{
    for (*value = 0; count > 0; count--, reader->at++) {
        if (reader->at == reader->end || *reader->at < '0' || *reader->at > '9')
            return instant_fail(reader, "a digit");
        *value = *value * 10 + (*reader->at - '0');
    }
    return true;
}

/* One of these characters. */
static bool instant_take(struct instant_reader *reader, const char *characters)
{
    bool is = reader->at < reader->end && *reader->at != '\0' && strchr(characters, *reader->at) != NULL;

    reader->at += is;
    return is;
}

static bool instant_expect(struct instant_reader *reader, const char *characters, const char *name)
{
    return instant_take(reader, characters) || instant_fail(reader, name);
}

/* "2025-11-16", as days since 1970. */
static bool instant_read_date(struct instant_reader *reader, int64_t *days)
{
    int year, month, day;

    if (!instant_digits(reader, 4, &year) || !instant_expect(reader, "-", "-") || !instant_digits(reader, 2, &month) ||
        !instant_expect(reader, "-", "-") || !instant_digits(reader, 2, &day))
        return false;
    if (month < 1 || month > 12) {
        snprintf(reader->why, INSTANT_WHY, "there is no month %02d", month);
        return false;
    }
    if (day < 1 || day > instant_month_days(year, month)) {
        snprintf(reader->why, INSTANT_WHY, "%s %04d has no day %02d", instant_months[month - 1], year, day);
        return false;
    }
    *days = instant_days(year, month, day);
    return true;
}

/* Two digits up to `most`. */
static bool instant_read_part(struct instant_reader *reader, int most, const char *name, int *value)
{
    if (!instant_digits(reader, 2, value))
        return false;
    if (*value <= most)
        return true;
    snprintf(reader->why, INSTANT_WHY, "there is no %s %02d", name, *value);
    return false;
}

/* "19:13", in seconds. */
static bool instant_read_minutes(struct instant_reader *reader, const char *hour_name, int *seconds)
{
    int hour, minute;

    if (!instant_read_part(reader, 23, hour_name, &hour) || !instant_expect(reader, ":", "a colon") ||
        !instant_read_part(reader, 59, "minute", &minute))
        return false;
    *seconds = hour * 3600 + minute * 60;
    return true;
}

/* The digits behind the point, at least one. */
static bool instant_read_fraction(struct instant_reader *reader, uint32_t *nanoseconds)
{
    uint32_t unit = (uint32_t)FMS_SECOND / 10;
    int digit;

    do {
        if (!instant_digits(reader, 1, &digit))
            return false;
        *nanoseconds += (uint32_t)digit * unit;
        unit /= 10;
    } while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9');
    return true;
}

/* "Z", "+01:00", in seconds east of Greenwich. */
static bool instant_read_offset(struct instant_reader *reader, int *offset)
{
    bool is_west = reader->at < reader->end && *reader->at == '-';

    *offset = 0;
    if (instant_take(reader, "Zz"))
        return true;
    if (!instant_expect(reader, "+-", "Z or an offset such as +01:00") ||
        !instant_read_minutes(reader, "offset of hour", offset))
        return false;
    *offset = is_west ? -*offset : *offset;
    return true;
}

/* Whether these seconds since 1970 begin a month: a second 60 is theirs. */
static bool instant_begins_month(int64_t seconds)
{
    int year, month, day = 0;

    if (seconds % DAY == 0)
        instant_date(seconds / DAY, &year, &month, &day);
    return day == 1;
}

bool instant_of_text(struct instant *instant, struct fms_bytes text, char *why)
{
    struct instant_reader reader = {text.data, text.data, (const char *)text.data + text.size, why};
    int64_t days;
    int minutes, second, offset;

    instant->nanoseconds = 0;
    if (!instant_read_date(&reader, &days) || !instant_expect(&reader, "Tt ", "T") ||
        !instant_read_minutes(&reader, "hour", &minutes) || !instant_expect(&reader, ":", "a colon") ||
        !instant_read_part(&reader, 60, "second", &second) ||
        (instant_take(&reader, ".") && !instant_read_fraction(&reader, &instant->nanoseconds)) ||
        !instant_read_offset(&reader, &offset))
        return false;
    if (reader.at < reader.end)
        return instant_fail(&reader, "nothing more");
    instant->seconds = days * DAY + minutes + second - offset;
    if (second < 60 || instant_begins_month(instant->seconds))
        return true;
    snprintf(why, INSTANT_WHY, "second 60 is there only at the end of a month, 23:59:60 UTC");
    return false;
}

bool instant_of_value(struct instant *instant, struct fms_bytes text, char *why)
{
    struct decimal number;

    if (!decimal_read(&number, text))
        return instant_of_text(instant, text, why);
    if (instant_of_number(instant, &number) != INSTANT_NO_UNIT)
        return true;
    snprintf(why, INSTANT_WHY, "it is no Unix time, in whatever unit");
    return false;
}

size_t instant_text(struct instant instant, char *to)
{
    int64_t days = instant.seconds / DAY - (instant.seconds % DAY < 0);
    int in_day = (int)(instant.seconds - days * DAY), year, month, day, digits;
    uint32_t fraction = instant.nanoseconds;
    size_t size;

    if (days < instant_days(0, 1, 1) || days > instant_days(9999, 12, 31))
        return 0;
    instant_date(days, &year, &month, &day);
    size = (size_t)snprintf(to, INSTANT_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day, in_day / 3600,
                            in_day / 60 % 60, in_day % 60);
    for (digits = fraction == 0 ? 0 : 9; digits > 0 && fraction % 1000 == 0; digits -= 3)
        fraction /= 1000;
    if (digits > 0)
        size += (size_t)snprintf(to + size, INSTANT_TEXT - size, ".%0*u", digits, (unsigned)fraction);
    to[size++] = 'Z';
    to[size] = '\0';
    return size;
}
