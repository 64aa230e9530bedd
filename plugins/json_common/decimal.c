/* decimal.c - see decimal.h. */
#include "decimal.h"

#define DECIMAL_DIGITS   19
#define DECIMAL_EXPONENT INT64_C(1000000000000000) /* beyond what any payload's zeros could make up for */

static const uint64_t decimal_tens[] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

struct decimal_reader {
    const char *at, *end;
    int count; /* of digits taken */
};

static bool decimal_take(struct decimal_reader *reader, char c)
{
    bool is = reader->at < reader->end && *reader->at == c;

    reader->at += is;
    return is;
}

/* The zeros before the first digit that counts: they say how small a number below 1 is. */
static void decimal_zeros(struct decimal_reader *reader, struct decimal *number)
{
    while (decimal_take(reader, '0'))
        number->magnitude--;
}

/* Digits, of which the first 19 count. How many there are. */
static size_t decimal_digits(struct decimal_reader *reader, struct decimal *number)
{
    const char *start = reader->at, *at = start;
    uint64_t digits = number->digits;
    int count = reader->count;

    for (unsigned digit; at < reader->end && (digit = (unsigned)*at - '0') < 10; at++) {
        if (count < DECIMAL_DIGITS) {
            digits = digits * 10 + digit;
            count++;
        } else if (digit > 0) {
            number->has_more = true;
        }
    }
    number->digits = digits;
    reader->count = count;
    reader->at = at;
    return (size_t)(at - start);
}

static bool decimal_before_point(struct decimal_reader *reader, struct decimal *number)
{
    size_t count;

    number->magnitude = -1;
    if (decimal_take(reader, '0'))
        return true;
    count = decimal_digits(reader, number);
    number->magnitude += (int64_t)count;
    return count > 0;
}

static bool decimal_behind_point(struct decimal_reader *reader, struct decimal *number)
{
    const char *start = reader->at;

    if (number->digits == 0)
        decimal_zeros(reader, number);
    decimal_digits(reader, number);
    return reader->at > start;
}

static bool decimal_exponent(struct decimal_reader *reader, struct decimal *number)
{
    bool is_negative = decimal_take(reader, '-');
    int64_t exponent = 0;
    const char *start;

    if (!is_negative)
        decimal_take(reader, '+');
    start = reader->at;
    for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++)
        exponent = exponent < DECIMAL_EXPONENT ? exponent * 10 + (*reader->at - '0') : exponent;
    number->magnitude += is_negative ? -exponent : exponent;
    return reader->at > start;
}

bool decimal_read(struct decimal *number, struct fms_bytes text)
{
    struct decimal_reader reader = {text.data, (const char *)text.data + text.size, 0};
    bool is_negative = decimal_take(&reader, '-');

    *number = (struct decimal){0};
    if (!decimal_before_point(&reader, number))
        return false;
    number->is_integer = reader.at == reader.end;
    if (decimal_take(&reader, '.') && !decimal_behind_point(&reader, number))
        return false;
    if ((decimal_take(&reader, 'e') || decimal_take(&reader, 'E')) && !decimal_exponent(&reader, number))
        return false;
    if (number->digits > 0) {
        number->sign = is_negative ? -1 : 1;
        number->digits *= decimal_tens[DECIMAL_DIGITS - reader.count];
    }
    return reader.at == reader.end;
}

int decimal_compare(const struct decimal *a, const struct decimal *b)
{
    int order;

    if (a->sign != b->sign || a->sign == 0)
        return a->sign - b->sign;
    if (a->magnitude != b->magnitude)
        order = a->magnitude < b->magnitude ? -1 : 1;
    else if (a->digits != b->digits)
        order = a->digits < b->digits ? -1 : 1;
    else
        order = (int)a->has_more - (int)b->has_more;
    return a->sign * order;
}

int64_t decimal_scaled(const struct decimal *number, int power)
{
    int64_t place = DECIMAL_DIGITS - 1 - number->magnitude - power; /* digits that are cut off */
    uint64_t value;

    if (number->sign == 0 || place >= DECIMAL_DIGITS)
        return 0;
    value = place < 0 ? UINT64_MAX : number->digits / decimal_tens[place];
    if (value > INT64_MAX)
        return number->sign < 0 ? INT64_MIN : INT64_MAX;
    return number->sign * (int64_t)value;
}

uint32_t decimal_fraction(const struct decimal *number, int power)
{
    int64_t place = DECIMAL_DIGITS - 1 - number->magnitude - power; /* digits behind the point */
    uint64_t rest;

    if (number->sign == 0 || place <= 0 || place > DECIMAL_DIGITS + 9)
        return 0;
    rest = place > DECIMAL_DIGITS ? number->digits : number->digits % decimal_tens[place];
    return (uint32_t)(place < 9 ? rest * decimal_tens[9 - place] : rest / decimal_tens[place - 9]);
}

bool decimal_whole(const struct decimal *number, uint64_t *whole)
{
    uint64_t unit;

    *whole = 0;
    if (number->sign == 0)
        return true;
    if (number->has_more || number->magnitude < 0 || number->magnitude >= DECIMAL_DIGITS)
        return false;
    unit = decimal_tens[DECIMAL_DIGITS - 1 - number->magnitude];
    *whole = number->digits / unit;
    return number->digits % unit == 0;
}
