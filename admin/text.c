/* text.c - see text.h. */
#include "text.h"

#include <stdbool.h>
#include <stdint.h>

/* Neither longer than it need be, nor half of a surrogate pair, nor beyond U+10FFFF (RFC 3629, 4). */
static bool is_allowed(uint32_t code, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    return code >= least[size] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
}

size_t text_character(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t size = at[0] < 0x80 ? 1 : at[0] < 0xC0 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF8 ? 4 : 0;
    uint32_t code;

    if (size <= 1)
        return at[0] == 0 ? 0 : size;
    code = at[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3Fu);
    }
    return is_allowed(code, size) ? size : 0;
}
