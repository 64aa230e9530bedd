/* text.c - see text.h. */
#include "text.h"

#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

static bool is_wide; /* the locale's characters are Unicode's, in UTF-8 */

void text_setup(void)
{
    setlocale(LC_CTYPE, "");
    is_wide = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool text_is_wide(void)
{
    return is_wide;
}

#define NONE UINT32_MAX

/* The character that begins there and its bytes; NONE: one byte that begins none, by RFC 3629. */
static uint32_t decode(const char *text, size_t n, size_t *bytes)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)text;
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc0 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf8 ? 4 : 0;
    uint32_t character = length < 2 ? at[0] : at[0] & (0x7fu >> length);

    *bytes = 1;
    if (length == 0 || length > n)
        return NONE;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return NONE;
        character = character << 6 | (at[i] & 0x3f);
    }
    if (length > 1 &&
        (character < least[length] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000)))
        return NONE;
    *bytes = length;
    return character;
}

/* Those that are printable and yet change what stands around them: directions, and what cannot be seen at all. */
static bool is_trick(uint32_t character)
{
    return (character >= 0x200b && character <= 0x200f) || (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2060 && character <= 0x206f) || character == 0x061c || character == 0xfeff ||
           character == 0x00ad || character >= 0xe0000;
}

/* The columns of a character; -1: it is not to be printed. */
static int columns_of(uint32_t character)
{
    if (character < 0x80)
        return character >= 0x20 && character != 0x7f ? 1 : -1;
    if (!is_wide || character == NONE || is_trick(character))
        return -1;
    return wcwidth((wchar_t)character);
}

/* How it is written instead. */
static size_t escape(uint32_t character, unsigned char byte, char *to, size_t size)
{
    static const char controls[] = "\a\b\t\n\v\f\r", letters[] = "abtnvfr";
    const char *control = character > 0 && character < 0x20 ? strchr(controls, (int)character) : NULL;

    if (control != NULL)
        return (size_t)snprintf(to, size, "\\%c", letters[control - controls]);
    if (character == NONE || character < 0x80)
        return (size_t)snprintf(to, size, "\\x%02x", byte);
    return (size_t)snprintf(to, size, character < 0x10000 ? "\\u%04x" : "\\U%06x", (unsigned)character);
}

size_t text_clean(const char *text, size_t n, char *to, size_t size)
{
    size_t i = 0, k = 0, bytes;

    while (i < n) {
        uint32_t character = decode(text + i, n - i, &bytes);
        char escaped[16];
        size_t length = bytes;
        const char *from = text + i;

        if (columns_of(character) < 0) {
            length = escape(character, (unsigned char)text[i], escaped, sizeof escaped);
            from = escaped;
        }
        if (k + length + 1 > size)
            break;
        memcpy(to + k, from, length);
        k += length;
        i += bytes;
    }
    to[k] = '\0';
    return i;
}

size_t text_columns(const char *text)
{
    size_t columns = SIZE_MAX;

    text_fit(text, &columns);
    return columns;
}

size_t text_fit(const char *text, size_t *columns)
{
    size_t n = strlen(text), i = 0, taken = 0, bytes;

    while (i < n) {
        int more = columns_of(decode(text + i, n - i, &bytes));

        more = more < 0 ? 0 : more; /* there is none in clean text */
        if (taken + (size_t)more > *columns)
            break;
        taken += (size_t)more;
        i += bytes;
    }
    *columns = taken;
    return i;
}
