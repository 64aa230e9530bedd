/* console_text.h - payloads made fit for a terminal. */
#ifndef CONSOLE_TEXT_H
#define CONSOLE_TEXT_H

#include <fms_plugin.h>

#define TEXT_ESCAPE_MAX 10 /* bytes of the longest escape, \U0001f600 */

/* Whether the text is valid UTF-8 without anything that would steer a terminal; with `ascii`, plain ASCII. */
bool text_is_clean(struct fms_bytes text, bool ascii);

/* Escapes what text_is_clean objects to, and backslashes: \n, \x1b, \u202e. Reads from text + *offset, which it moves
 * on, and writes as much as fits into `size` bytes, at least TEXT_ESCAPE_MAX. Returns how much. */
size_t text_escape(struct fms_bytes text, size_t *offset, bool ascii, char *to, size_t size);

/* The same, cut to so many columns and filled up with blanks: `to` holds at least columns * TEXT_ESCAPE_MAX bytes. */
size_t text_column(struct fms_bytes text, size_t columns, bool ascii, char *to);

#endif
