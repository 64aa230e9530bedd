/* spn.c - see spn.h. */
#include "spn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DECIMALS 15
#define LARGEST  INT64_C(4000000000000000000) /* of `added`; 2^32 * FACTOR and it fit in 63 bits */
#define FACTOR   INT64_C(1000000000)
#define COLUMNS  8
#define WORDS    16
#define PGN_MAX  0x3ffff

enum { COLUMN_NAME, COLUMN_SPN, COLUMN_PGN, COLUMN_BYTES, COLUMN_SCALE, COLUMN_OFFSET, COLUMN_UNIT, COLUMN_EVERY };

static const char *const columns[COLUMNS] = {"name", "SPN", "PGN", "bytes", "scale", "offset", "unit", "every"};

static int fail(char why[SIGNAL_WHY], int column, const char *word, const char *expected)
{
    snprintf(why, SIGNAL_WHY, "%s \"%.40s\" is none; expected %s", columns[column], word, expected);
    return -EINVAL;
}

/* ------------------------------------------------------------------------------------------------------------- numbers */

/* A whole number in that base, nothing behind it but `end`. */
static bool read_number(const char **at, int base, uint64_t most, uint64_t *value)
{
    static const char digits[] = "0123456789abcdef";
    const char *from = *at, *digit;

    *value = 0;
    for (; **at != '\0' && (digit = memchr(digits, **at | (**at >= 'A' ? 0x20 : 0), (size_t)base)) != NULL; ++*at) {
        *value = *value * (uint64_t)base + (uint64_t)(digit - digits);
        if (*value > most)
            return false;
    }
    return *at > from;
}

static bool read_whole(const char *word, int base, uint64_t most, uint64_t *value)
{
    return read_number(&word, base, most, value) && *word == '\0';
}

static int64_t power_of_ten(unsigned power)
{
    int64_t value = 1;

    while (power-- > 0)
        value *= 10;
    return value;
}

/* -125, 0.4, 1/256: digits and where the point stands. False: it is none, it has no end as a decimal, or is too long. */
static bool read_decimal(const char *word, int64_t *digits, uint8_t *decimals)
{
    bool is_negative = *word == '-';
    uint64_t whole, part = 0, divisor = 1;
    const char *point;
    unsigned places = 0;

    word += is_negative;
    if (!read_number(&word, 10, (uint64_t)FACTOR, &whole))
        return false;
    if (*word == '.') {
        point = ++word;
        if (!read_number(&word, 10, (uint64_t)FACTOR, &part))
            return false;
        places = (unsigned)(word - point);
        if (places > 9)
            return false;
        whole = whole * (uint64_t)power_of_ten(places) + part;
    }
    if (*word == '/' && (++word, !read_number(&word, 10, 1000000, &divisor) || divisor == 0))
        return false;
    if (*word != '\0')
        return false;
    for (; whole % divisor != 0; places++) {
        if (places == DECIMALS || whole > UINT64_MAX / 10)
            return false;
        whole *= 10;
    }
    whole /= divisor;
    *decimals = (uint8_t)places;
    *digits = is_negative ? -(int64_t)whole : (int64_t)whole;
    return whole <= (uint64_t)LARGEST;
}

/* Scale and offset with as many decimals as either needs. */
static int read_scale(struct signal *signal, char *const words[], char why[SIGNAL_WHY])
{
    uint8_t decimals;

    if (!read_decimal(words[COLUMN_SCALE], &signal->factor, &signal->decimals) || signal->factor == 0)
        return fail(why, COLUMN_SCALE, words[COLUMN_SCALE], "a number such as 0.125, or 1/256, that ends as a decimal");
    if (!read_decimal(words[COLUMN_OFFSET], &signal->added, &decimals))
        return fail(why, COLUMN_OFFSET, words[COLUMN_OFFSET], "a number such as 0 or -273");
    for (; signal->decimals < decimals && llabs(signal->factor) < FACTOR; signal->decimals++)
        signal->factor *= 10;
    for (; decimals < signal->decimals && llabs(signal->added) < LARGEST / 10; decimals++)
        signal->added *= 10;
    if (decimals != signal->decimals || llabs(signal->factor) > FACTOR)
        return fail(why, COLUMN_SCALE, words[COLUMN_SCALE], "one with fewer digits, its offset considered");
    signal->rounded = signal->decimals;
    return 0;
}

static bool read_duration(const char *word, int64_t *duration)
{
    uint64_t value;

    if (!read_number(&word, 10, 86400, &value) || value == 0)
        return false;
    *duration = (int64_t)value * (strcmp(word, "ms") == 0 ? FMS_MS : FMS_SECOND);
    return strcmp(word, "ms") == 0 || strcmp(word, "s") == 0;
}

/* --------------------------------------------------------------------------------------------------------------- places */

/* 2-3, 4, 4.5-6, 4.5: bytes, or bits of one byte, from 1; the standard's way. What follows stays. */
static bool read_field(const char **at, struct signal_field *field)
{
    uint64_t first, last, bit;

    if (!read_number(at, 10, 1785, &first) || first == 0)
        return false;
    last = first;
    *field = (struct signal_field){.byte = (uint16_t)(first - 1), .shift = 0, .bits = 8};
    if (**at == '.') {
        ++*at;
        if (!read_number(at, 10, 8, &bit) || bit == 0)
            return false;
        last = bit;
        if (**at == '-' && (++*at, !read_number(at, 10, 8, &last)))
            return false;
        field->shift = (uint8_t)(bit - 1);
        field->bits = (uint8_t)(last - bit + 1);
        return last >= bit;
    }
    if (**at == '-' && (++*at, !read_number(at, 10, 1785, &last)))
        return false;
    field->bits = (uint8_t)(8 * (last - first + 1));
    return last >= first && last - first < 4;
}

static int read_place(struct signal *signal, const char *word, char why[SIGNAL_WHY])
{
    const char *at = word;
    uint64_t part = 1;

    if (strncmp(word, "text", 4) == 0) {
        signal->is_text = true;
        if (word[4] != '\0' && (word[4] != '.' || !read_whole(word + 5, 10, 9, &part) || part == 0))
            return fail(why, COLUMN_BYTES, word, "text, or text.2 for what stands behind its first asterisk");
        signal->part = (uint8_t)(part - 1);
        return 0;
    }
    if (!read_field(&at, &signal->field) || *at != '\0')
        return fail(why, COLUMN_BYTES, word, "up to four bytes as in 2-3, bits of one as in 4.5-6, or text");
    return 0;
}

/* SAE J1939-71: what is no value is told by the highest byte, or by the highest values of some bits. */
static void find_highest(struct signal *signal)
{
    unsigned bits = signal->field.bits;

    if (bits < 8)
        signal->highest = bits == 1 ? 1 : (1u << bits) - 3;
    else
        signal->highest = (uint32_t)((UINT64_C(0xfb) << (bits - 8)) - 1);
}

/* ---------------------------------------------------------------------------------------------------------------- lines */

static int read_name(struct signal *signal, const char *word, char why[SIGNAL_WHY])
{
    size_t size = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_");

    if (size == 0 || word[size] != '\0' || size >= SIGNAL_NAME || strcmp(word, "vehicle_id") == 0 ||
        strcmp(word, "timestamp") == 0 || strcmp(word, "all") == 0)
        return fail(why, COLUMN_NAME, word,
                    "up to 31 of a-z, 0-9 and _, but for vehicle_id, timestamp and all, which are taken");
    memcpy(signal->name, word, size + 1);
    return 0;
}

static int read_option(struct signal *signal, const char *word, char why[SIGNAL_WHY])
{
    const char *at = word + 5;
    uint64_t value;

    if (strcmp(word, "personal") == 0) {
        signal->is_personal = true;
        return 0;
    }
    if (strncmp(word, "round=", 6) == 0 && read_whole(word + 6, 10, DECIMALS, &value)) {
        if (value < signal->rounded)
            signal->rounded = (uint8_t)value;
        return 0;
    }
    if (strncmp(word, "when=", 5) == 0 && read_field(&at, &signal->when) && *at == ':' &&
        read_whole(at + 1, 10, UINT32_MAX, &value)) {
        signal->has_when = true;
        signal->when_value = (uint32_t)value;
        return 0;
    }
    snprintf(why, SIGNAL_WHY, "\"%.40s\" is unknown; behind the columns expected are round=2, when=1:17 and personal",
             word);
    return -EINVAL;
}

/* Cuts the line at its blanks, up to a comment; -1: it has too many words. */
static int split_words(char *line, char *words[WORDS])
{
    char *rest = NULL;
    int count = 0;

    for (char *word = strtok_r(line, " \t\r\n", &rest); word != NULL && *word != '#';
         word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (count == WORDS)
            return -1;
        words[count++] = word;
    }
    return count;
}

static int read_columns(struct signal *signal, char *const words[], char why[SIGNAL_WHY])
{
    uint64_t spn = 0, pgn;
    int error = read_name(signal, words[COLUMN_NAME], why);

    if (error != 0)
        return error;
    if (strcmp(words[COLUMN_SPN], "-") != 0 && !read_whole(words[COLUMN_SPN], 10, 524287, &spn))
        return fail(why, COLUMN_SPN, words[COLUMN_SPN], "a number up to 524287, or -");
    if (!read_whole(words[COLUMN_PGN], 16, PGN_MAX, &pgn) || ((pgn & 0xff00) < 0xf000 && (pgn & 0xff) != 0))
        return fail(why, COLUMN_PGN, words[COLUMN_PGN],
                    "hexadecimal digits up to 3FFFF, the last two 00 where those before them are below F0");
    if (!read_duration(words[COLUMN_EVERY], &signal->every))
        return fail(why, COLUMN_EVERY, words[COLUMN_EVERY], "a time such as 100ms or 10s");
    if (strlen(words[COLUMN_UNIT]) >= SIGNAL_UNIT)
        return fail(why, COLUMN_UNIT, words[COLUMN_UNIT], "at most 15 letters, or -");
    signal->spn = (uint32_t)spn;
    signal->pgn = (uint32_t)pgn;
    if (strcmp(words[COLUMN_UNIT], "-") != 0)
        memcpy(signal->unit, words[COLUMN_UNIT], strlen(words[COLUMN_UNIT]) + 1);
    error = read_place(signal, words[COLUMN_BYTES], why);
    if (error != 0 || signal->is_text)
        return error;
    find_highest(signal);
    return read_scale(signal, words, why);
}

int signal_read(struct signal *signal, struct fms_bytes line, char why[SIGNAL_WHY])
{
    char copy[256], *words[WORDS];
    int count, error = 0;

    if (line.size >= sizeof copy || memchr(line.data, '\0', line.size) != NULL) {
        snprintf(why, SIGNAL_WHY, "it has more than 255 bytes, or one that is 0");
        return -EINVAL;
    }
    memcpy(copy, line.data, line.size);
    copy[line.size] = '\0';
    count = split_words(copy, words);
    if (count == 0)
        return 1;
    if (count < COLUMNS) {
        snprintf(why, SIGNAL_WHY, "expected are name, SPN, PGN, bytes, scale, offset, unit and time between two");
        return -EINVAL;
    }
    *signal = (struct signal){.spn = 0};
    error = read_columns(signal, words, why);
    for (int i = COLUMNS; i < count && error == 0; i++)
        error = read_option(signal, words[i], why);
    return error;
}

/* --------------------------------------------------------------------------------------------------------------- values */

static bool field_read(struct signal_field field, const uint8_t *data, size_t size, uint32_t *raw)
{
    size_t bytes = field.bits <= 8 ? 1 : field.bits / 8;
    uint32_t value = 0;

    if (size < field.byte + bytes)
        return false;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | data[field.byte + i];
    *raw = field.bits < 8 ? value >> field.shift & ((1u << field.bits) - 1) : value;
    return true;
}

static bool signal_is_there(const struct signal *signal, const uint8_t *data, size_t size)
{
    uint32_t when;

    return !signal->has_when || (field_read(signal->when, data, size, &when) && when == signal->when_value);
}

/* What a raw value above the highest one says. */
static enum signal_state signal_special(const struct signal *signal, uint32_t raw)
{
    unsigned bits = signal->field.bits;
    uint32_t top = bits < 8 ? raw - signal->highest + 0xfd : raw >> (bits - 8);

    return top == 0xff ? SIGNAL_NOT_AVAILABLE : top == 0xfe ? SIGNAL_ERROR : SIGNAL_OUT_OF_RANGE;
}

enum signal_state signal_number(const struct signal *signal, const uint8_t *data, size_t size, uint32_t *raw)
{
    if (!signal_is_there(signal, data, size) || !field_read(signal->field, data, size, raw))
        return SIGNAL_ABSENT;
    return *raw <= signal->highest ? SIGNAL_VALUE : signal_special(signal, *raw);
}

static bool is_filler(uint8_t c)
{
    return c == ' ' || c == '\0' || c == 0xff;
}

enum signal_state signal_text(const struct signal *signal, const uint8_t *data, size_t size, char text[SIGNAL_TEXT])
{
    const uint8_t *end = data + size, *asterisk;

    if (!signal_is_there(signal, data, size))
        return SIGNAL_ABSENT;
    for (unsigned part = 0; (asterisk = memchr(data, '*', (size_t)(end - data))) != NULL && part < signal->part; part++)
        data = asterisk + 1;
    if (asterisk == NULL && signal->part > 0)
        return SIGNAL_ABSENT;
    end = asterisk != NULL ? asterisk : end;
    while (end > data && is_filler(end[-1]))
        end--;
    if (end == data)
        return SIGNAL_NOT_AVAILABLE;
    if (end - data >= SIGNAL_TEXT)
        return SIGNAL_OUT_OF_RANGE;
    for (const uint8_t *c = data; c < end; c++) {
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
            return SIGNAL_OUT_OF_RANGE;
    }
    memcpy(text, data, (size_t)(end - data));
    text[end - data] = '\0';
    return SIGNAL_VALUE;
}

/* Half and more goes away from zero. */
static int64_t divide_rounded(int64_t value, int64_t divisor)
{
    int64_t half = divisor / 2;

    return (value < 0 ? value - half : value + half) / divisor;
}

size_t signal_write(const struct signal *signal, uint32_t raw, char *to)
{
    int64_t value = divide_rounded((int64_t)raw * signal->factor + signal->added,
                                   power_of_ten((unsigned)(signal->decimals - signal->rounded)));
    uint64_t digits = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    unsigned decimals = signal->rounded;
    char text[24], *at = text + sizeof text;
    size_t size;

    for (; decimals > 0 && digits % 10 == 0; decimals--)
        digits /= 10;
    for (unsigned place = 0; digits > 0 || place <= decimals; place++, digits /= 10) {
        if (place == decimals && place > 0)
            *--at = '.';
        *--at = (char)('0' + digits % 10);
    }
    if (value < 0)
        *--at = '-';
    size = (size_t)(text + sizeof text - at);
    memcpy(to, at, size);
    return size;
}

uint32_t signal_raw(const struct signal *signal, int64_t millionths)
{
    int64_t unit = power_of_ten(signal->decimals > 6 ? 0u : 6u - signal->decimals);
    int64_t scaled = signal->decimals > 6 ? millionths * power_of_ten(signal->decimals - 6u)
                                          : divide_rounded(millionths, unit);
    int64_t raw = divide_rounded(scaled - signal->added, signal->factor);

    return raw < 0 ? 0 : raw > signal->highest ? signal->highest : (uint32_t)raw;
}
