/* console_text.c - payloads made fit for a terminal.
 *
 * What stays as it is: printable characters in valid UTF-8. Control characters of both ranges, characters that reorder
 * or hide text, and broken sequences are escaped. */
#include "console_text.h"

#include <stdio.h>

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* Of a character that begins with this byte; 0: none does. */
static size_t text_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first >= 0xf5)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The character at text[0]; its length is in *size. -1 and 1: no valid UTF-8. */
static int32_t text_decode(const unsigned char *text, size_t left, size_t *size)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = text_length(text[0]);
    int32_t character = n < 2 ? text[0] : text[0] & (0x7f >> n);

    *size = 1;
    if (n == 0 || n > left)
        return -1;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return -1;
        character = character << 6 | (text[i] & 0x3f);
    }
    if (character < least[n] || character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
        return -1;
    *size = n;
    return character;
}

static bool text_is_printable(int32_t c, bool ascii)
{
    if (c < 0x80)
        return c >= 0x20 && c != 0x7f;
    return !ascii && c >= 0xa0 && !(c >= 0x200b && c <= 0x200f) && !(c >= 0x2028 && c <= 0x202e) &&
           !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff && c != 0x61c && c != 0x180e && !(c >= 0xfff9 && c <= 0xfffb) &&
           !(c >= 0xe0000 && c <= 0xe007f);
}

static bool text_are_printable_ascii(const unsigned char eight[8])
{
    uint64_t bytes;

    memcpy(&bytes, eight, sizeof bytes);
    return (((bytes - EACH_BYTE(0x20)) | (bytes + EACH_BYTE(1)) | bytes) & EACH_BYTE(0x80)) == 0;
}

/* How many of the first bytes are printable ASCII for certain, eight at a time. */
static size_t text_skip_ascii(const unsigned char *text, size_t size)
{
    size_t i = 0;

    while (i + 8 <= size && text_are_printable_ascii(text + i))
        i += 8;
    return i + 8 > size && size >= 8 && text_are_printable_ascii(text + size - 8) ? size : i;
}

bool text_is_clean(struct fms_bytes text, bool ascii)
{
    const unsigned char *bytes = text.data;
    size_t i = text_skip_ascii(bytes, text.size);
    size_t n;

    for (; i < text.size; i += n) {
        if (!text_is_printable(text_decode(bytes + i, text.size - i, &n), ascii))
            return false;
    }
    return true;
}

static size_t text_escape_byte(unsigned char byte, char *to)
{
    static const char plain[] = "\n\r\t\\", letters[] = "nrt\\";
    const char *found = byte != '\0' ? strchr(plain, byte) : NULL;

    if (found == NULL)
        return (size_t)snprintf(to, TEXT_ESCAPE_MAX + 1, "\\x%02x", byte);
    to[0] = '\\';
    to[1] = letters[found - plain];
    return 2;
}

/* One character from `text`, of *size bytes, as it is or escaped; the length of what was written. */
static size_t text_escape_one(const unsigned char *text, size_t left, bool ascii, char *to, size_t *size)
{
    int32_t character = text_decode(text, left, size);

    if (character < 0 || (character < 0x80 && (!text_is_printable(character, ascii) || character == '\\')))
        return text_escape_byte(text[0], to);
    if (!text_is_printable(character, ascii))
        return (size_t)snprintf(to, TEXT_ESCAPE_MAX + 1, character < 0x10000 ? "\\u%04x" : "\\U%08x",
                                (unsigned)character);
    memcpy(to, text, *size);
    return *size;
}

size_t text_escape(struct fms_bytes text, size_t *offset, bool ascii, char *to, size_t size)
{
    const unsigned char *bytes = text.data;
    char one[TEXT_ESCAPE_MAX + 1];
    size_t used = 0, read;

    for (; *offset < text.size && used + TEXT_ESCAPE_MAX <= size; *offset += read) {
        size_t n = text_escape_one(bytes + *offset, text.size - *offset, ascii, one, &read);

        memcpy(to + used, one, n);
        used += n;
    }
    return used;
}

size_t text_column(struct fms_bytes text, size_t columns, bool ascii, char *to)
{
    const unsigned char *bytes = text.data;
    char one[TEXT_ESCAPE_MAX + 1];
    size_t used = 0, column = 0, read;

    for (size_t i = 0; i < text.size; i += read) {
        size_t n = text_escape_one(bytes + i, text.size - i, ascii, one, &read);
        size_t wide = one[0] == '\\' ? n : 1;

        if (column + wide > columns)
            break;
        memcpy(to + used, one, n);
        used += n;
        column += wide;
    }
    memset(to + used, ' ', columns - column);
    return used + columns - column;
}
